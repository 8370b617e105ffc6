//! How many requests may be tried again: a share of the requests, saved up to a limit, and a few a second always.
//!
//! One per service and thread. It does not know whether a retry is allowed otherwise.

use std::time::Duration;

use crate::time::Instant;

/// What one retry costs, in the hundredths of it that each request brings.
const RETRY_COST: u32 = 100;
/// Retries that are allowed in any second, however few requests there were.
const RETRIES_MIN: u32 = 3;
/// Most retries that quiet times can save up.
const RETRIES_SAVED_MAX: u32 = 1_000;
/// How often the minimum is restored.
const BUDGET_FLOOR_INTERVAL: Duration = Duration::from_secs(1);

/// What is left for retries.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    saved: u32,
    /// Retries in a hundred requests; 0: none at all.
    percent: u32,
    floor_restored: Instant,
}

impl RetryBudget {
    /// A budget that begins at its minimum.
    pub fn new(percent: u32, now: Instant) -> Self {
        Self { saved: RETRIES_MIN * RETRY_COST, percent: percent.min(RETRY_COST), floor_restored: now }
    }

    /// The same, with another share from now on.
    #[must_use]
    pub fn with_percent(self, percent: u32) -> Self {
        Self { percent: percent.min(RETRY_COST), ..self }
    }

    /// A request came: a part of a retry.
    pub fn handle_request(&mut self) {
        self.saved = (self.saved + self.percent).min(RETRIES_SAVED_MAX * RETRY_COST);
    }

    /// Takes one retry out, if there is one.
    pub fn try_take(&mut self, now: Instant) -> bool {
        if self.percent == 0 {
            return false;
        }
        if now.since(self.floor_restored) >= BUDGET_FLOOR_INTERVAL {
            self.floor_restored = now;
            self.saved = self.saved.max(RETRIES_MIN * RETRY_COST);
        }
        let Some(left) = self.saved.checked_sub(RETRY_COST) else { return false };
        self.saved = left;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn retries_stay_within_a_fifth_of_the_requests_but_a_few_a_second_always_go() {
        let mut budget = RetryBudget::new(20, at(0));
        assert_eq!((0..10).filter(|_| budget.try_take(at(0))).count(), 3);
        (0..100).for_each(|_| budget.handle_request());
        assert_eq!((0..100).filter(|_| budget.try_take(at(1))).count(), 20);
        assert_eq!((0..100).filter(|_| budget.try_take(at(1_000))).count(), 3);
    }

    #[test]
    fn another_share_counts_from_now_on_and_without_one_nothing_is_tried_again() {
        let mut budget = RetryBudget::new(20, at(0));
        (0..50).for_each(|_| budget.handle_request());
        budget = budget.with_percent(100);
        (0..50).for_each(|_| budget.handle_request());
        assert_eq!((0..100).filter(|_| budget.try_take(at(1))).count(), 3 + 10 + 50);
        budget = budget.with_percent(0);
        budget.handle_request();
        assert!(!budget.try_take(at(5_000)));
    }

    #[test]
    fn what_is_saved_up_has_a_limit() {
        let mut budget = RetryBudget::new(100, at(0));
        (0..5_000).for_each(|_| budget.handle_request());
        assert_eq!((0..5_000).filter(|_| budget.try_take(at(1))).count(), 1_000);
    }
}
