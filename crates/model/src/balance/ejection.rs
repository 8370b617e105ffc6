//! Passive ejection of one endpoint on one thread, after failures to connect.
//!
//! ```text
//!  admitted ──no connection──► out for 1 s, doubling up to 30 s ──time──► admitted, and remembered ──a connection──► admitted
//! ```
//! It has no cap: with all endpoints out, the caller lets none of it count.

use std::time::Duration;

use crate::time::Instant;

/// First ejection after a failure to connect; doubles with each further one.
pub const EJECTION_FIRST: Duration = Duration::from_secs(1);
/// Longest ejection.
pub const EJECTION_MAX: Duration = Duration::from_secs(30);

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

    /// Until when it is out, if it was ever.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Whether it gets no request while there is another endpoint.
    pub fn is_out(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
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
}
