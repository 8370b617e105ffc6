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
/// So many ends in a row are a crash loop: it goes on trying, and says so.
pub const CRASH_LOOP_ENDS: u32 = 3;

/// How a process ended, as far as the policy cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With that exit code; by a signal, 128 and its number, as shells count them.
    Code(i32),
    /// It never ran, did not do what it should, or nobody could tell.
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

    /// So many had ended before this was made.
    pub fn remember(&mut self, in_a_row: u32) {
        self.in_a_row = in_a_row;
    }

    /// From the next end on.
    pub fn set_settings(&mut self, settings: Restart) {
        self.settings = settings;
    }

    /// A process ended that had been ready for `ready_for`: the delay before the next, or `None` if it stays down.
    pub fn handle_end(&mut self, end: End, ready_for: Duration) -> Option<Duration> {
        if !ready_for.is_zero() && ready_for >= self.settings.reset_after {
            self.in_a_row = 0;
        }
        let factor = 1_u32.checked_shl(self.in_a_row).unwrap_or(u32::MAX);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let delay = self.settings.delay.saturating_mul(factor).min(self.settings.max_delay).max(DELAY_MIN);
        self.restarts_after(end).then_some(delay)
    }

    fn restarts_after(&self, end: End) -> bool {
        let Restart { policy, success_codes, restart_codes, stop_codes, .. } = &self.settings;
        let succeeded = match end {
            End::Code(code) if stop_codes.contains(&code) => return false,
            End::Code(code) if restart_codes.contains(&code) => return true,
            End::Code(code) => code == 0 || success_codes.contains(&code),
            End::Failed => false,
        };
        match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !succeeded,
            RestartPolicy::Never => false,
        }
    }

    /// Ends without a process between them that was ready for `reset_after`.
    pub fn ends_in_a_row(&self) -> u32 {
        self.in_a_row
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
        assert_eq!(backoff.ends_in_a_row(), 40);
        assert_eq!(backoff.handle_end(End::Failed, Duration::from_secs(59)), Some(Duration::from_secs(60)));
        assert_eq!(backoff.handle_end(End::Failed, Duration::from_secs(60)), Some(Duration::from_secs(1)));
        assert_eq!(backoff.ends_in_a_row(), 1);
    }

    #[test]
    fn the_policy_decides_which_ends_count() {
        let restarts = |policy, end| Backoff::new(settings(policy)).handle_end(end, Duration::ZERO).is_some();
        assert!(restarts(RestartPolicy::Always, End::Code(0)));
        assert!(restarts(RestartPolicy::OnFailure, End::Code(1)));
        assert!(restarts(RestartPolicy::OnFailure, End::Failed));
        assert!(!restarts(RestartPolicy::OnFailure, End::Code(0)));
        assert!(!restarts(RestartPolicy::Never, End::Failed));
    }

    #[test]
    fn code_lists_overrule_the_policy_and_a_code_that_stops_overrules_one_that_restarts() {
        let restarts = |policy, code| {
            let settings = Restart {
                success_codes: vec![3, 143],
                restart_codes: vec![75, 64],
                stop_codes: vec![64, 139],
                ..settings(policy)
            };
            Backoff::new(settings).handle_end(End::Code(code), Duration::ZERO).is_some()
        };
        assert!(!restarts(RestartPolicy::OnFailure, 3) && restarts(RestartPolicy::Always, 3));
        assert!(!restarts(RestartPolicy::OnFailure, 128 + 15));
        assert!(restarts(RestartPolicy::Never, 75));
        assert!(!restarts(RestartPolicy::Always, 64));
        assert!(!restarts(RestartPolicy::Always, 128 + 11));
    }
}
