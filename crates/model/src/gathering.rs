//! How long a new holder waits for what the roles know.
//!
//! ```text
//!  waiting for the first ── one has told all ──► waiting for the others ── 2 s, or all have told ──► over
//!            └── 10 s, or nobody is left to wait for ──────────────────────────────────────────────► over
//! ```
//! One vault that is whole is nearly always enough: the others hold the same.

use std::time::Duration;

use crate::time::Instant;

/// For the first vault: a role that does not answer for longer is killed by the watchdog.
pub const FIRST_MAX: Duration = Duration::from_secs(10);
/// For the others, once one is whole.
pub const OTHERS_MAX: Duration = Duration::from_secs(2);

/// The wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gathering {
    until: Instant,
    one_is_whole: bool,
}

impl Gathering {
    /// Begins to wait.
    pub fn new(now: Instant) -> Self {
        Self { until: now + FIRST_MAX, one_is_whole: false }
    }

    /// So many have told all, and so many have not yet. Says whether the wait is over.
    pub fn is_over(&mut self, whole: usize, waiting: usize, now: Instant) -> bool {
        if whole > 0 && !self.one_is_whole {
            (self.one_is_whole, self.until) = (true, now + OTHERS_MAX);
        }
        waiting == 0 || now >= self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn nobody_to_wait_for_is_no_wait() {
        assert!(Gathering::new(at(0)).is_over(0, 0, at(0)));
        assert!(Gathering::new(at(0)).is_over(2, 0, at(0)));
    }

    #[test]
    fn the_first_gets_ten_seconds_and_the_others_two_more() {
        let mut gathering = Gathering::new(at(0));
        assert!(!gathering.is_over(0, 2, at(9_999)));
        assert!(!gathering.is_over(1, 1, at(9_999)));
        assert!(!gathering.is_over(1, 1, at(11_998)));
        assert!(gathering.is_over(1, 1, at(11_999)));
        assert!(Gathering::new(at(0)).is_over(0, 1, at(10_000)));
    }
}
