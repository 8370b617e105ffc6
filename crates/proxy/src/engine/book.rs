//! All that was counted by series since this process started, over all threads.
//!
//! ```text
//!  threads: changes ──add()──► totals by name ──changed()──► what the agent has not been told
//! ```
//! Names that no table has any more are kept for a while, then folded into broader ones, so the book is bounded
//! however many releases come and go. After that everything is told anew, so that the names are gone there too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::series::{SeriesName, SeriesTotals};
use wire::routes::RouteTable;
use wire::traffic::SeriesCounters;

use crate::engine::labels::names_of;
use crate::engine::series::Changes;

/// Names that are in no table and still have counts of their own.
const GONE_NAMES_MAX: usize = 256;

#[derive(Debug, Default)]
struct Entry {
    totals: SeriesTotals,
    is_told: bool,
}

/// The totals.
#[derive(Debug, Default)]
pub(crate) struct Book {
    entries: BTreeMap<Arc<SeriesName>, Entry>,
    is_anew: bool,
}

impl Book {
    /// A thread counted that.
    pub(crate) fn add(&mut self, changes: Changes) {
        for (name, more) in changes {
            let entry = self.entries.entry(name).or_default();
            entry.totals.add(&more);
            entry.is_told = false;
        }
    }

    /// Names that `table` has not may be folded.
    pub(crate) fn follow(&mut self, table: &RouteTable) {
        let current: BTreeSet<SeriesName> = names_of(table).collect();
        let gone = |book: &Self| -> Vec<Arc<SeriesName>> {
            let names = book
                .entries
                .keys()
                .filter(|name| !current.contains(name.as_ref()) && name.folded().is_some());
            names.cloned().collect()
        };
        let mut names = gone(self);
        // An instance folds into its release first, and that only where there are still too many.
        while names.len() > GONE_NAMES_MAX {
            for name in names {
                let Some(broader) = name.folded() else { continue };
                if let Some(entry) = self.entries.remove(&name) {
                    self.entries.entry(Arc::new(broader)).or_default().totals.add(&entry.totals);
                }
            }
            self.is_anew = true;
            names = gone(self);
        }
    }

    /// The next time everything is told.
    pub(crate) fn begin_anew(&mut self) {
        self.is_anew = true;
    }

    /// What was not told yet, and whether that is everything there is.
    pub(crate) fn changed(&mut self) -> (Vec<SeriesCounters>, bool) {
        let is_anew = std::mem::take(&mut self.is_anew);
        let mut told = Vec::new();
        for (name, entry) in &mut self.entries {
            if !std::mem::replace(&mut entry.is_told, true) || is_anew {
                told.push(SeriesCounters::new(name, &entry.totals));
            }
        }
        (told, is_anew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(release: &str) -> Arc<SeriesName> {
        let instance = format!("web@{release}/0");
        Arc::new(SeriesName::Instance { service: "web".into(), release: release.into(), instance })
    }

    fn one() -> SeriesTotals {
        SeriesTotals { answers: [0, 0, 1, 0, 0, 0], ..SeriesTotals::default() }
    }

    #[test]
    fn only_what_changed_is_told_but_for_the_first_time() {
        let mut book = Book::default();
        book.add(vec![(instance("1"), one()), (instance("2"), one())]);
        book.begin_anew();
        let (told, is_anew) = book.changed();
        assert_eq!((told.len(), is_anew), (2, true));
        book.add(vec![(instance("2"), one())]);
        let (told, is_anew) = book.changed();
        assert_eq!((told.len(), is_anew, told[0].answers[2]), (1, false, 2));
        assert!(book.changed().0.is_empty());
        book.begin_anew();
        assert_eq!(book.changed().0.len(), 2);
    }

    #[test]
    fn a_thousand_releases_later_the_sums_are_right_and_the_names_few() {
        let mut book = Book::default();
        for release in 0..1_000 {
            book.add(vec![(instance(&release.to_string()), one())]);
            book.follow(&RouteTable::default());
        }
        let (told, is_anew) = book.changed();
        assert!(is_anew && told.len() <= GONE_NAMES_MAX + 2, "{}", told.len());
        assert_eq!(told.iter().map(|series| series.answers[2]).sum::<u64>(), 1_000);
    }
}
