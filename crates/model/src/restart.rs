//! Restart policy: whether a process that ended by itself starts again, and after how long.
//!
//! The delay doubles with every end in a row, up to its maximum, and starts over once a process was ready for
//! `reset_after`. There is no jitter: what is restarted here runs on one machine, and equal histories shall
//! have equal futures.

use std::time::Duration;

use crate::manifest::{Restart, RestartPolicy};

/// The shortest delay, whatever is configured: a verdict about the former process that is still on its way
/// must have arrived before the same slot runs another one.
pub const DELAY_MIN: Duration = Duration::from_millis(100);

/// How a process ended, as far as the policy cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Exit code 0.
    Succeeded,
    /// Anything else, also when nobody could tell.
    Failed,
}

/// Counts the ends of one slot.
#[derive(Debug, Clone)]
pub struct Backoff {
    settings: Restart,
    in_a_row: u32,
}

impl Backoff {
    /// Nothing has ended yet.
    pub fn new(settings: Restart) -> Self {
        Self { settings, in_a_row: 0 }
    }

    /// A process ended that had been ready for `ready_for`: the delay before the next, or `None` if it stays down.
    pub fn handle_end(&mut self, end: End, ready_for: Duration) -> Option<Duration> {
        let restarts = match (self.settings.policy, end) {
            (RestartPolicy::Always, _) | (RestartPolicy::OnFailure, End::Failed) => true,
            (RestartPolicy::OnFailure, End::Succeeded) | (RestartPolicy::Never, _) => false,
        };
        if !restarts {
            return None;
        }
        if !ready_for.is_zero() && ready_for >= self.settings.reset_after {
            self.in_a_row = 0;
        }
        let factor = 1_u32.checked_shl(self.in_a_row).unwrap_or(u32::MAX);
        self.in_a_row = self.in_a_row.saturating_add(1);
        Some(self.settings.delay.saturating_mul(factor).min(self.settings.max_delay).max(DELAY_MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(policy: RestartPolicy) -> Restart {
        Restart {
            policy,
            delay: Duration::from_secs(1),
            max_delay: Duration::from_secs(60),
            reset_after: Duration::from_secs(60),
            success_codes: Vec::new(),
            restart_codes: Vec::new(),
            stop_codes: Vec::new(),
            unready_after: Duration::ZERO,
        }
    }

    #[test]
    fn the_delay_doubles_up_to_its_maximum_and_starts_over_after_being_ready() {
        let mut backoff = Backoff::new(settings(RestartPolicy::Always));
        let delays: Vec<u64> = (0..40)
            .filter_map(|_| backoff.handle_end(End::Failed, Duration::ZERO))
            .map(|d| d.as_secs())
            .collect();
        assert_eq!(delays[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(delays.last(), Some(&60));
        assert_eq!(backoff.handle_end(End::Failed, Duration::from_secs(59)), Some(Duration::from_secs(60)));
        assert_eq!(backoff.handle_end(End::Failed, Duration::from_secs(60)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn the_policy_decides_which_ends_count() {
        let restarts = |policy, end| Backoff::new(settings(policy)).handle_end(end, Duration::ZERO).is_some();
        assert!(restarts(RestartPolicy::Always, End::Succeeded));
        assert!(restarts(RestartPolicy::OnFailure, End::Failed));
        assert!(!restarts(RestartPolicy::OnFailure, End::Succeeded));
        assert!(!restarts(RestartPolicy::Never, End::Failed));
    }
}
