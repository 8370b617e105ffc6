//! Outlier ejection: an endpoint that fails much more than the others of its release gets no requests for a while.
//!
//! ```text
//!            errors in a row, or a success rate far below the others', and the cap has room
//!  admitted ────────────────────────────────────────────────────────────────────────────────► out
//!      ▲                       base × how often it was out lately, at most the longest         │
//!      └───────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! How often it was out counts down by one with each whole interval in which it was admitted. The record is of one
//! endpoint on one thread, so several threads each need their own evidence and may come to different ends. The last
//! admitted endpoint of a release is never ejected. It knows nothing of failures to connect as such: these are errors
//! like others here, and have their own ejection beside this.

use std::fmt;
use std::time::Duration;

use crate::time::Instant;

/// When an endpoint is ejected, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutlierRules {
    /// Errors in a row; 0: these do not count.
    pub consecutive_errors: u32,
    /// Between two looks at success rates.
    pub interval: Duration,
    /// First ejection.
    pub base_ejection: Duration,
    /// Longest ejection.
    pub max_ejection: Duration,
    /// Most endpoints of a release that are out at once, in percent, but always one of several.
    pub max_ejected_percent: u32,
    /// Thousandths of a standard deviation below the mean; 0: success rates do not count.
    pub stdev_milli: u32,
    /// Requests in an interval without which a rate says nothing.
    pub requests_min: u32,
    /// Endpoints with that many without which there is no mean.
    pub endpoints_min: u32,
}

/// Why an endpoint is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// So many errors in a row.
    InARow(u32),
    /// So many of so many requests succeeded, while the others of its release do better.
    SuccessRate(Tally),
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InARow(errors) => write!(f, "{errors} errors in a row"),
            Self::SuccessRate(tally) => {
                write!(
                    f,
                    "{} of {} requests failed, more than elsewhere",
                    tally.requests - tally.successes,
                    tally.requests
                )
            }
        }
    }
}

/// Requests of one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// All that came to an end that says something.
    pub requests: u32,
    /// Those that went well.
    pub successes: u32,
}

/// What is known of one endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    in_a_row: u32,
    tally: Tally,
    ejections: u32,
    until: Option<Instant>,
}

impl Record {
    /// A request went well.
    pub fn handle_success(&mut self) {
        self.in_a_row = 0;
        self.tally.requests = self.tally.requests.saturating_add(1);
        self.tally.successes = self.tally.successes.saturating_add(1);
    }

    /// A request failed. Says whether the endpoint should be out; what still comes of requests from before an
    /// ejection says nothing new.
    pub fn handle_failure(&mut self, rules: &OutlierRules, now: Instant) -> Option<Failing> {
        self.tally.requests = self.tally.requests.saturating_add(1);
        if self.is_out(now) {
            return None;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        let is_failing = rules.consecutive_errors > 0 && self.in_a_row >= rules.consecutive_errors;
        is_failing.then_some(Failing::InARow(self.in_a_row))
    }

    /// It is out from now on; until when.
    pub fn eject(&mut self, rules: &OutlierRules, now: Instant) -> Instant {
        self.in_a_row = 0;
        self.ejections = self.ejections.saturating_add(1);
        let until = now + rules.base_ejection.saturating_mul(self.ejections).min(rules.max_ejection);
        self.until = Some(until);
        until
    }

    /// An interval is over: its requests, and a fresh count.
    pub fn end_interval(&mut self, rules: &OutlierRules, now: Instant) -> Tally {
        let was_admitted = self.until.is_none_or(|until| now.since(until) >= rules.interval && now >= until);
        if was_admitted {
            self.ejections = self.ejections.saturating_sub(1);
        }
        std::mem::take(&mut self.tally)
    }

    /// Whether it is out.
    pub fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Until when it is, or was, out.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }
}

/// Whether one more of `endpoints` may be ejected while `out` of them are not admitted, for whatever reason.
pub fn may_eject(endpoints: usize, out: usize, rules: &OutlierRules) -> bool {
    let percent = usize::try_from(rules.max_ejected_percent.min(100)).unwrap_or(100);
    let cap = (endpoints.saturating_mul(percent) / 100).max(1);
    out < cap && out + 1 < endpoints
}

/// Whose success rate in the last interval is too far below the mean.
pub fn low_success_rates(tallies: &[Tally], rules: &OutlierRules) -> Vec<(usize, Failing)> {
    if rules.stdev_milli == 0 {
        return Vec::new();
    }
    let has_enough = |tally: &Tally| tally.requests >= rules.requests_min.max(1);
    let rate = |tally: &Tally| f64::from(tally.successes) / f64::from(tally.requests);
    let known: Vec<f64> = tallies.iter().filter(|tally| has_enough(tally)).map(rate).collect();
    let Ok(count) = u32::try_from(known.len()) else { return Vec::new() };
    if count < rules.endpoints_min.max(2) {
        return Vec::new();
    }
    let count = f64::from(count);
    let mean = known.iter().sum::<f64>() / count;
    let deviation = (known.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count).sqrt();
    let least = mean - deviation * f64::from(rules.stdev_milli) / 1_000.0;
    let is_low = |(_, tally): &(usize, &Tally)| has_enough(tally) && rate(tally) < least;
    let low = tallies.iter().enumerate().filter(is_low);
    low.map(|(at, tally)| (at, Failing::SuccessRate(*tally))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: OutlierRules = OutlierRules {
        consecutive_errors: 5,
        interval: Duration::from_secs(10),
        base_ejection: Duration::from_secs(30),
        max_ejection: Duration::from_secs(300),
        max_ejected_percent: 10,
        stdev_milli: 1_900,
        requests_min: 100,
        endpoints_min: 5,
    };

    fn at(seconds: u64) -> Instant {
        Instant::from_start(Duration::from_secs(seconds))
    }

    fn fail(record: &mut Record, times: u32, now: u64) -> Option<Failing> {
        (0..times).fold(None, |_, _| record.handle_failure(&RULES, at(now)))
    }

    #[test]
    fn five_errors_in_a_row_are_too_many_and_a_success_between_them_starts_anew() {
        let mut record = Record::default();
        assert_eq!(fail(&mut record, 4, 0), None);
        record.handle_success();
        assert_eq!(fail(&mut record, 4, 0), None);
        assert_eq!(fail(&mut record, 1, 0), Some(Failing::InARow(5)));
        // Where the cap had no room, the next failure asks again.
        assert_eq!(fail(&mut record, 1, 0), Some(Failing::InARow(6)));
        assert!(!record.is_out(at(0)));
    }

    #[test]
    fn each_ejection_is_longer_up_to_the_limit_and_healthy_intervals_shorten_the_next() {
        let mut record = Record::default();
        let mut now = 0;
        for seconds in [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300] {
            assert_eq!(record.eject(&RULES, at(now)), at(now + seconds));
            assert!(record.is_out(at(now + seconds - 1)) && !record.is_out(at(now + seconds)));
            now += seconds;
        }
        // An interval in which it was out for a part does not count.
        record.end_interval(&RULES, at(now + 9));
        for interval in 1..=9 {
            record.end_interval(&RULES, at(now + 10 * interval));
        }
        now += 90;
        assert_eq!(record.eject(&RULES, at(now)), at(now + 90), "eleven ejections, nine healthy intervals");
    }

    #[test]
    fn what_comes_back_late_from_an_ejected_endpoint_does_not_count_against_it() {
        let mut record = Record::default();
        fail(&mut record, 5, 0);
        record.eject(&RULES, at(0));
        assert_eq!(fail(&mut record, 20, 1), None);
        assert_eq!(fail(&mut record, 4, 30), None);
        assert_eq!(fail(&mut record, 1, 30), Some(Failing::InARow(5)));
    }

    #[test]
    fn without_a_number_errors_in_a_row_do_not_count() {
        let rules = OutlierRules { consecutive_errors: 0, ..RULES };
        let mut record = Record::default();
        assert!((0..100).all(|_| record.handle_failure(&rules, at(0)).is_none()));
    }

    #[test]
    fn a_tenth_may_be_out_but_always_one_of_several_and_never_the_last() {
        let room = |endpoints| (0..=endpoints).take_while(|out| may_eject(endpoints, *out, &RULES)).count();
        assert_eq!([0, 1, 2, 3, 10, 19, 20, 35].map(room), [0, 0, 1, 1, 1, 1, 2, 3]);
        let all = OutlierRules { max_ejected_percent: 100, ..RULES };
        let room = |endpoints| (0..=endpoints).take_while(|out| may_eject(endpoints, *out, &all)).count();
        assert_eq!([0, 1, 2, 10].map(room), [0, 0, 1, 9]);
    }

    fn tallies(successes: &[u32]) -> Vec<Tally> {
        successes.iter().map(|successes| Tally { requests: 100, successes: *successes }).collect()
    }

    #[test]
    fn one_of_five_that_does_much_worse_is_found() {
        let low = low_success_rates(&tallies(&[99, 100, 70, 98, 99]), &RULES);
        assert_eq!(low, [(2, Failing::SuccessRate(Tally { requests: 100, successes: 70 }))]);
        assert_eq!(low[0].1.to_string(), "30 of 100 requests failed, more than elsewhere");
    }

    #[test]
    fn all_alike_or_too_few_endpoints_or_too_few_requests_say_nothing() {
        assert!(low_success_rates(&tallies(&[50; 8]), &RULES).is_empty());
        assert!(low_success_rates(&tallies(&[100, 100, 10, 100]), &RULES).is_empty());
        let mut few = tallies(&[100, 100, 10, 100, 100]);
        few[0] = Tally { requests: 99, successes: 99 };
        assert!(low_success_rates(&few, &RULES).is_empty());
        assert!(low_success_rates(&[], &RULES).is_empty());
        let never = OutlierRules { stdev_milli: 0, ..RULES };
        assert!(low_success_rates(&tallies(&[100, 100, 10, 100, 100]), &never).is_empty());
    }

    #[test]
    fn an_interval_counts_only_its_own_requests() {
        let mut record = Record::default();
        record.handle_success();
        fail(&mut record, 2, 0);
        assert_eq!(record.end_interval(&RULES, at(10)), Tally { requests: 3, successes: 1 });
        assert_eq!(record.end_interval(&RULES, at(20)), Tally::default());
    }
}
