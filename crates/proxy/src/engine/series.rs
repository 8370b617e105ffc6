//! What one thread counts by route, endpoint group and instance, as plain memory of that thread.
//!
//! ```text
//!  swap: names resolved ──► request over: a few numbers grow ──► report: what grew is taken out and sent
//! ```
//! A series holds only what came since the last report, so one that nobody uses takes 200 bytes, and a busy one a few
//! KiB of sketches. Adding up over threads and time is done where reports arrive.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use model::series::{CLASSES, SeriesName, SeriesTotals, class};
use model::sketch::{Bucket, Sketch};

use crate::engine::stats::count;

/// Most series of one thread. A name beyond that is counted under the broader one it folds into.
pub(crate) const SERIES_MAX: usize = 8_192;

/// How a request ended, as it is counted in each of its series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// What was answered; 0 for nothing.
    pub(crate) status: u16,
    /// Bytes of the request's body.
    pub(crate) bytes_in: u64,
    /// Bytes of the answer's body.
    pub(crate) bytes_out: u64,
    /// From its head to the end of the answer; `None` where that says nothing about the service.
    pub(crate) micros: Option<u64>,
}

/// One series on one thread.
#[derive(Debug, Default)]
pub(crate) struct Series {
    answers: [Cell<u64>; CLASSES],
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    retries: Cell<u64>,
    failures: Cell<u64>,
    latency: RefCell<Sketch>,
    first_byte: RefCell<Sketch>,
}

impl Series {
    /// One request is over.
    #[inline]
    pub(crate) fn observe(&self, outcome: &Outcome) {
        count(&self.answers[class(outcome.status)]);
        self.bytes_in.set(self.bytes_in.get() + outcome.bytes_in);
        self.bytes_out.set(self.bytes_out.get() + outcome.bytes_out);
        if let Some(micros) = outcome.micros {
            let mut latency = self.latency.borrow_mut();
            latency.add(Bucket::of_micros(micros), 1);
            latency.add_sum(micros);
        }
    }

    /// The head of an answer came that long after the attempt began.
    #[inline]
    pub(crate) fn observe_first_byte(&self, micros: u64) {
        let mut first_byte = self.first_byte.borrow_mut();
        first_byte.add(Bucket::of_micros(micros), 1);
        first_byte.add_sum(micros);
    }

    /// Another attempt was made after one here.
    pub(crate) fn retried(&self, attempts: u32) {
        self.retries.set(self.retries.get() + u64::from(attempts));
    }

    /// An answer broke off, or a request was lost.
    pub(crate) fn failed(&self) {
        count(&self.failures);
    }

    /// Takes out what was counted.
    fn take(&self) -> SeriesTotals {
        SeriesTotals {
            answers: std::array::from_fn(|at| self.answers[at].take()),
            bytes_in: self.bytes_in.take(),
            bytes_out: self.bytes_out.take(),
            retries: self.retries.take(),
            failures: self.failures.take(),
            latency: self.latency.take(),
            first_byte: self.first_byte.take(),
        }
    }

    fn is_untouched(&self) -> bool {
        self.answers.iter().chain([&self.retries, &self.failures]).all(|cell| cell.get() == 0)
    }
}

/// What was counted since the last report, by name.
pub(crate) type Changes = Vec<(Arc<SeriesName>, SeriesTotals)>;

/// All series of one thread.
#[derive(Debug, Default)]
pub(crate) struct AllSeries(RefCell<BTreeMap<Arc<SeriesName>, Rc<Series>>>);

impl AllSeries {
    /// The series of that name.
    pub(crate) fn of(&self, mut name: SeriesName) -> Rc<Series> {
        let mut all = self.0.borrow_mut();
        loop {
            if let Some(known) = all.get(&name) {
                return known.clone();
            }
            match name.folded().filter(|_| all.len() >= SERIES_MAX) {
                Some(broader) => name = broader,
                None => {
                    let series = Rc::new(Series::default());
                    all.insert(Arc::new(name), series.clone());
                    return series;
                }
            }
        }
    }

    /// Takes out what was counted since the last time, and forgets series that nobody refers to.
    pub(crate) fn take_changes(&self) -> Changes {
        let mut changes = Changes::new();
        self.0.borrow_mut().retain(|name, series| {
            if !series.is_untouched() {
                changes.push((name.clone(), series.take()));
            }
            Rc::strong_count(series) > 1
        });
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(group: &str) -> SeriesName {
        SeriesName::Group { service: "web".into(), group: group.into() }
    }

    #[test]
    fn what_was_counted_is_taken_once() {
        let all = AllSeries::default();
        let series = all.of(name("/a"));
        let outcome = Outcome { status: 502, bytes_in: 1, bytes_out: 2, micros: Some(900) };
        series.observe(&outcome);
        series.observe(&Outcome { status: 0, micros: None, ..outcome });
        series.retried(2);
        let changes = all.take_changes();
        let (_, totals) = &changes[0];
        assert_eq!((changes.len(), totals.answers, totals.retries), (1, [1, 0, 0, 0, 0, 1], 2));
        assert_eq!((totals.bytes_in, totals.bytes_out, totals.latency.count()), (2, 4, 1));
        assert!(all.take_changes().is_empty());
        assert!(Rc::ptr_eq(&series, &all.of(name("/a"))));
    }

    #[test]
    fn a_series_that_nobody_uses_any_more_is_reported_and_forgotten() {
        let all = AllSeries::default();
        all.of(name("/a")).failed();
        assert_eq!(all.take_changes().len(), 1);
        assert_eq!(all.0.borrow().len(), 0);
    }

    #[test]
    fn names_over_the_limit_are_counted_together() {
        let all = AllSeries::default();
        let kept: Vec<_> = (0..SERIES_MAX).map(|number| all.of(name(&format!("/{number}")))).collect();
        let (one, two) = (all.of(name("/one")), all.of(name("/two")));
        assert!(Rc::ptr_eq(&one, &two));
        assert!(Rc::ptr_eq(&one, &all.of(name(model::series::OTHER))));
        assert_eq!(kept.len(), SERIES_MAX);
    }

    /// Not a limit, for the machine may be busy: run it with `--release --nocapture` to see what counting costs.
    #[test]
    fn counting_a_request_takes_some_nanoseconds() {
        let all = AllSeries::default();
        let three = [all.of(name("/a")), all.of(name("/b")), all.of(name("/c"))];
        let rounds = 200_000_u64;
        let start = std::time::Instant::now();
        for round in 0..rounds {
            let micros = 200 + (round.wrapping_mul(2_654_435_761) >> 7) % 900;
            let outcome = Outcome { status: 200, bytes_in: 0, bytes_out: 512, micros: Some(micros) };
            for series in std::hint::black_box(&three) {
                series.observe(&outcome);
            }
            three[2].observe_first_byte(micros);
        }
        let each = start.elapsed().as_nanos() / u128::from(rounds);
        println!("counting a request: {each} ns");
        let counted: u64 = all.take_changes().iter().map(|(_, totals)| totals.requests()).sum();
        assert_eq!(counted, 3 * rounds);
    }
}
