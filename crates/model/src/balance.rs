//! Where the next request goes: turns between weighted releases, two random choices between endpoints,
//! passive ejection after failures to connect, and a budget for retries.
//!
//! Each proxy thread has its own of all of these; nothing is shared, so nothing is locked. Loads are counts
//! of requests in flight on that thread. What it does not do: hold endpoints, or know their addresses.

use std::time::Duration;

use crate::random::Random;
use crate::time::Instant;

/// First ejection after a failure to connect; doubles with each further one.
pub const EJECTION_FIRST: Duration = Duration::from_secs(1);
/// Longest ejection.
pub const EJECTION_MAX: Duration = Duration::from_secs(30);

/// Retries per this many requests: one in five is 20 %.
const REQUESTS_PER_RETRY: u32 = 5;
/// Retries that are allowed in any second, however few requests there were.
const RETRIES_MIN: u32 = 3;
/// Most retries that quiet times can save up.
const RETRIES_SAVED_MAX: u32 = 1_000;
/// How often the minimum is restored.
const BUDGET_FLOOR_INTERVAL: Duration = Duration::from_secs(1);

/// Smooth weighted round-robin: over any run of `sum` turns each gets its weight, evenly spread.
#[derive(Debug, Clone, Default)]
pub struct WeightedTurns {
    weights: Vec<i64>,
    current: Vec<i64>,
}

impl WeightedTurns {
    /// Turns over `weights`; those of weight 0 never have one.
    pub fn new(weights: impl IntoIterator<Item = u16>) -> Self {
        let weights: Vec<i64> = weights.into_iter().map(i64::from).collect();
        Self { current: vec![0; weights.len()], weights }
    }

    /// Whose turn it is; `None` when all weights are 0.
    pub fn take(&mut self) -> Option<usize> {
        let mut best: Option<usize> = None;
        for at in 0..self.weights.len() {
            if self.weights[at] == 0 {
                continue;
            }
            self.current[at] += self.weights[at];
            if best.is_none_or(|best| self.current[at] > self.current[best]) {
                best = Some(at);
            }
        }
        let best = best?;
        self.current[best] -= self.weights.iter().sum::<i64>();
        Some(best)
    }
}

/// One of `count` endpoints: the less loaded of two random eligible ones; `None` when none is eligible.
pub fn choose_of_two(
    random: &mut Random,
    count: usize,
    eligible: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> u32,
) -> Option<usize> {
    let among = (0..count).filter(|at| eligible(*at)).count();
    let nth = |n: usize| (0..count).filter(|at| eligible(*at)).nth(n);
    if among <= 1 {
        return nth(0);
    }
    let first = random.below(among);
    // The second is another one: drawn from the others and shifted past the first.
    let second = random.below(among - 1);
    let second = if second >= first { second + 1 } else { second };
    let (first, second) = (nth(first)?, nth(second)?);
    Some(if load(second) < load(first) { second } else { first })
}

/// Passive ejection of one endpoint on one thread: out for a while after a failure to connect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ejection {
    failures: u32,
    until: Option<Instant>,
}

impl Ejection {
    /// A connection could not be made. Failures while it is out already are of the same moment.
    pub fn handle_failure(&mut self, now: Instant) {
        if self.is_out(now) {
            return;
        }
        let length = EJECTION_FIRST.saturating_mul(1 << self.failures.min(16)).min(EJECTION_MAX);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + length);
    }

    /// A connection was made.
    pub fn handle_success(&mut self) {
        *self = Self::default();
    }

    /// Whether it gets no request while there is another endpoint.
    pub fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// How many requests may be tried again: one in five, saved up to a limit, never fewer than a few a second.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    shares: u32,
    floor_restored: Instant,
}

impl RetryBudget {
    /// A budget that begins at its minimum.
    pub fn new(now: Instant) -> Self {
        Self { shares: RETRIES_MIN * REQUESTS_PER_RETRY, floor_restored: now }
    }

    /// A request came: a fifth of a retry.
    pub fn handle_request(&mut self) {
        self.shares = (self.shares + 1).min(RETRIES_SAVED_MAX * REQUESTS_PER_RETRY);
    }

    /// Takes one retry out, if there is one.
    pub fn try_take(&mut self, now: Instant) -> bool {
        if now.since(self.floor_restored) >= BUDGET_FLOOR_INTERVAL {
            self.floor_restored = now;
            self.shares = self.shares.max(RETRIES_MIN * REQUESTS_PER_RETRY);
        }
        let Some(left) = self.shares.checked_sub(REQUESTS_PER_RETRY) else { return false };
        self.shares = left;
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
    fn every_release_gets_its_share_in_any_window() {
        let mut turns = WeightedTurns::new([500, 9_500]);
        let taken: Vec<usize> = (0..10_000).map(|_| turns.take().unwrap()).collect();
        for window in taken.windows(1_000) {
            let new = window.iter().filter(|at| **at == 0).count();
            assert!((49..=51).contains(&new), "{new} of 1,000");
        }
    }

    #[test]
    fn weight_zero_never_has_a_turn() {
        let mut turns = WeightedTurns::new([0, 10_000]);
        assert!((0..100).all(|_| turns.take() == Some(1)));
        assert_eq!(WeightedTurns::new([0, 0]).take(), None);
        assert_eq!(WeightedTurns::default().take(), None);
    }

    #[test]
    fn the_less_loaded_of_two_is_chosen() {
        let mut random = Random::new(7);
        let loads = [5, 1, 9];
        for _ in 0..100 {
            assert_eq!(choose_of_two(&mut random, 2, |_| true, |at| loads[at]), Some(1));
            assert_ne!(choose_of_two(&mut random, 3, |_| true, |at| loads[at]), Some(2));
        }
        assert_eq!(choose_of_two(&mut random, 3, |at| at == 2, |at| loads[at]), Some(2));
        assert_eq!(choose_of_two(&mut random, 3, |_| false, |at| loads[at]), None);
        assert_eq!(choose_of_two(&mut random, 0, |_| true, |_| 0), None);
    }

    #[test]
    fn equal_loads_are_spread_over_all() {
        let mut random = Random::new(1);
        let mut hits = [0_u32; 4];
        for _ in 0..4_000 {
            hits[choose_of_two(&mut random, 4, |_| true, |_| 0).unwrap()] += 1;
        }
        assert!(hits.iter().all(|hits| (800..1_200).contains(hits)), "{hits:?}");
    }

    #[test]
    fn ejections_double_up_to_their_limit_and_end_with_a_success() {
        let mut ejection = Ejection::default();
        let mut now = 0;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            assert!(!ejection.is_out(at(now)));
            ejection.handle_failure(at(now));
            ejection.handle_failure(at(now + 1));
            assert!(ejection.is_out(at(now + seconds * 1_000 - 1)));
            now += seconds * 1_000;
        }
        ejection.handle_success();
        ejection.handle_failure(at(now));
        assert!(!ejection.is_out(at(now + 1_000)));
    }

    #[test]
    fn retries_stay_within_a_fifth_of_the_requests_but_a_few_a_second_always_go() {
        let mut budget = RetryBudget::new(at(0));
        assert_eq!((0..10).filter(|_| budget.try_take(at(0))).count(), 3);
        (0..100).for_each(|_| budget.handle_request());
        assert_eq!((0..100).filter(|_| budget.try_take(at(1))).count(), 20);
        assert_eq!((0..100).filter(|_| budget.try_take(at(1_000))).count(), 3);
    }
}
