//! What all threads together have done: a table is applied, an instance drained, a listener accepted on only
//! when every thread has said so.
//!
//! ```text
//!  instance: in traffic ──every thread quiet, as of the newest table──► drained (told once per table)
//! ```
//! Pure: events in, notices out. It does not know the threads, only how many they are.

use std::collections::BTreeMap;

use wire::traffic::{CertificateNews, Counters};

use crate::engine::book::Book;
use crate::engine::series::Changes;
use crate::engine::stats;

/// What a thread says.
#[derive(Debug)]
pub(crate) enum Event {
    /// It uses that table.
    Applied {
        /// Who says it.
        thread: usize,
        /// Which table.
        generation: u64,
    },
    /// The instance takes no requests there and has none in flight, as of that table.
    Quiet {
        /// Who says it.
        thread: usize,
        /// Which instance.
        instance: String,
        /// As of which table.
        generation: u64,
    },
    /// It accepts on that listener, or cannot.
    Listening {
        /// Who says it.
        thread: usize,
        /// Which listener.
        name: String,
        /// Why not.
        error: Option<String>,
    },
    /// Its counters.
    Report {
        /// Who says it.
        thread: usize,
        /// Which report.
        number: u64,
        /// The numbers.
        counters: Box<Counters>,
        /// What grew by series since its last report.
        changes: Changes,
    },
    /// It drains and has no connection left.
    Empty {
        /// Who says it.
        thread: usize,
    },
    /// Something is to be told of a certificate; no thread that serves says it.
    Certificate(Box<CertificateNews>),
}

/// What all threads together have done.
#[derive(Debug, PartialEq, Eq)]
pub enum Notice {
    /// Every thread uses that table.
    Applied {
        /// Which.
        generation: u64,
    },
    /// The instance takes no requests, has none in flight and no pooled connection, as of that table.
    Drained {
        /// Which instance.
        instance: String,
        /// As of which table.
        generation: u64,
    },
    /// Every thread accepts on that listener.
    Listening {
        /// Which.
        name: String,
    },
    /// A thread cannot accept on that listener.
    ListenFailed {
        /// Which.
        name: String,
        /// Why not.
        error: String,
    },
    /// The counters that were asked for.
    Report {
        /// Which report.
        number: u64,
        /// Summed over the threads.
        counters: Box<Counters>,
    },
    /// The drain is over.
    Empty,
    /// Something is to be told of a certificate.
    Certificate(Box<CertificateNews>),
}

/// Which threads have said a thing.
#[derive(Debug, Default, Clone)]
struct Votes(Vec<bool>);

impl Votes {
    /// Counts one; true when it was the last one missing.
    fn add(&mut self, thread: usize, threads: usize) -> bool {
        self.0.resize(threads, false);
        let Some(vote) = self.0.get_mut(thread) else { return false };
        !std::mem::replace(vote, true) && self.0.iter().all(|vote| *vote)
    }
}

/// Reports that may be under way; of more, the oldest is given up.
const REPORTS_MAX: usize = 8;

/// What was said so far.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// What the threads counted by series; each report adds to it, whether or not the others come.
    pub(crate) book: Book,
    threads: usize,
    generation: u64,
    applied: Votes,
    quiet: BTreeMap<String, Votes>,
    listening: BTreeMap<String, Votes>,
    reports: BTreeMap<u64, (Votes, Counters)>,
    empty: Votes,
}

impl Ledger {
    /// A ledger for that many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            book: Book::default(),
            threads,
            generation: 0,
            applied: Votes::default(),
            quiet: BTreeMap::new(),
            listening: BTreeMap::new(),
            reports: BTreeMap::new(),
            empty: Votes::default(),
        }
    }

    /// A table was sent to every thread: what was said about older ones no longer counts.
    pub(crate) fn handle_swap(&mut self, generation: u64) {
        self.generation = generation;
        self.applied = Votes::default();
        self.quiet.clear();
    }

    /// A listener was sent to every thread.
    pub(crate) fn handle_listen(&mut self, name: &str) {
        self.listening.insert(name.to_owned(), Votes::default());
    }

    /// What a thread says; what all of them have done by that.
    pub(crate) fn handle_event(&mut self, event: Event) -> Option<Notice> {
        let threads = self.threads;
        match event {
            Event::Applied { thread, generation } => (generation == self.generation
                && self.applied.add(thread, threads))
            .then_some(Notice::Applied { generation }),
            Event::Quiet { thread, instance, generation } => {
                if generation != self.generation {
                    return None;
                }
                let all = self.quiet.entry(instance.clone()).or_default().add(thread, threads);
                all.then_some(Notice::Drained { instance, generation })
            }
            Event::Listening { name, error: Some(error), .. } => {
                self.listening.remove(&name);
                Some(Notice::ListenFailed { name, error })
            }
            Event::Listening { thread, name, error: None } => {
                let all = self.listening.get_mut(&name)?.add(thread, threads);
                all.then_some(Notice::Listening { name })
            }
            Event::Report { thread, number, counters, changes } => {
                self.book.add(changes);
                self.report(thread, number, &counters)
            }
            Event::Certificate(news) => Some(Notice::Certificate(news)),
            Event::Empty { thread } => self.empty.add(thread, threads).then_some(Notice::Empty),
        }
    }

    fn report(&mut self, thread: usize, number: u64, counters: &Counters) -> Option<Notice> {
        let (votes, sum) = self.reports.entry(number).or_default();
        stats::add(sum, counters);
        if votes.add(thread, self.threads) {
            let (_, sum) = self.reports.remove(&number)?;
            return Some(Notice::Report { number, counters: Box::new(sum) });
        }
        if self.reports.len() > REPORTS_MAX {
            self.reports.pop_first();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(thread: usize, generation: u64) -> Event {
        Event::Quiet { thread, instance: "web@1/0".into(), generation }
    }

    #[test]
    fn an_instance_is_drained_when_the_last_thread_says_so_and_that_is_told_once() {
        let mut ledger = Ledger::new(2);
        ledger.handle_swap(3);
        assert_eq!(ledger.handle_event(quiet(0, 3)), None);
        assert_eq!(ledger.handle_event(quiet(0, 3)), None);
        let drained = Notice::Drained { instance: "web@1/0".into(), generation: 3 };
        assert_eq!(ledger.handle_event(quiet(1, 3)), Some(drained));
        assert_eq!(ledger.handle_event(quiet(1, 3)), None);
    }

    #[test]
    fn what_was_said_about_an_older_table_does_not_count() {
        let mut ledger = Ledger::new(2);
        ledger.handle_swap(3);
        ledger.handle_event(quiet(0, 3));
        ledger.handle_event(Event::Applied { thread: 0, generation: 3 });
        ledger.handle_swap(4);
        assert_eq!(ledger.handle_event(quiet(1, 3)), None);
        assert_eq!(ledger.handle_event(quiet(1, 4)), None);
        assert_eq!(ledger.handle_event(Event::Applied { thread: 1, generation: 4 }), None);
        let applied = ledger.handle_event(Event::Applied { thread: 0, generation: 4 });
        assert_eq!(applied, Some(Notice::Applied { generation: 4 }));
    }

    #[test]
    fn reports_are_summed_over_all_threads() {
        let mut ledger = Ledger::new(2);
        let report = |thread| Event::Report {
            thread,
            number: 9,
            counters: Box::new(Counters { accepted: 2, ..Counters::default() }),
            changes: Changes::new(),
        };
        assert_eq!(ledger.handle_event(report(0)), None);
        let Some(Notice::Report { number: 9, counters }) = ledger.handle_event(report(1)) else { panic!() };
        assert_eq!(counters.accepted, 4);
    }

    #[test]
    fn a_thread_that_cannot_listen_is_told_at_once() {
        let mut ledger = Ledger::new(2);
        ledger.handle_listen("web");
        let event = |thread, error: Option<&str>| Event::Listening {
            thread,
            name: "web".into(),
            error: error.map(str::to_owned),
        };
        assert_eq!(ledger.handle_event(event(0, None)), None);
        let failed = ledger.handle_event(event(1, Some("no")));
        assert_eq!(failed, Some(Notice::ListenFailed { name: "web".into(), error: "no".into() }));
        assert_eq!(ledger.handle_event(event(0, None)), None);
    }
}
