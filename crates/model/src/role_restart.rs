//! When a role that died is started again: the holder's only policy, and a fixed one.
//!
//! ```text
//!  running ── ended ──► waiting ── due ──► running
//!            first end, or after 10 s of running: at once
//!            else: 100 ms, doubling to 5 s
//! ```
//! It never gives up: without its roles Handover is nothing. It does not know why the role ended.

use std::time::Duration;

use crate::time::Instant;

/// Running for this long, a role has proved itself: the next restart is at once.
pub const PROVEN_AFTER: Duration = Duration::from_secs(10);
/// Before the second restart in a row.
pub const DELAY_MIN: Duration = Duration::from_millis(100);
/// The longest the delay becomes.
pub const DELAY_MAX: Duration = Duration::from_secs(5);

/// Restarts of one role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleRestart {
    started_at: Option<Instant>,
    due_at: Option<Instant>,
    /// Before the next restart in a row.
    delay: Duration,
}

impl RoleRestart {
    /// A role that was never started: it is due at once.
    pub fn new(now: Instant) -> Self {
        Self { started_at: None, due_at: Some(now), delay: Duration::ZERO }
    }

    /// It runs.
    pub fn handle_started(&mut self, now: Instant) {
        self.started_at = Some(now);
        self.due_at = None;
    }

    /// It ended, or could not be started.
    pub fn handle_ended(&mut self, now: Instant) {
        if self.started_at.take().is_some_and(|at| now.since(at) >= PROVEN_AFTER) {
            self.delay = Duration::ZERO;
        }
        self.due_at = Some(now + self.delay);
        self.delay = (self.delay * 2).clamp(DELAY_MIN, DELAY_MAX);
    }

    /// When it is to be started; `None` while it runs.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due_at
    }

    /// Whether it is to be started now.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due_at.is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn a_role_that_keeps_dying_is_restarted_at_once_and_then_ever_slower_up_to_five_seconds() {
        let mut restart = RoleRestart::new(at(0));
        assert!(restart.is_due(at(0)));
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..9 {
            restart.handle_started(at(now));
            assert_eq!(restart.poll_timeout(), None);
            now += 20;
            restart.handle_ended(at(now));
            let due = restart.poll_timeout().unwrap();
            waits.push(due.since(at(now)).as_millis());
            now = u64::try_from(due.since_start().as_millis()).unwrap();
        }
        assert_eq!(waits, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    }

    #[test]
    fn ten_seconds_of_running_forgive_what_was_before() {
        let mut restart = RoleRestart::new(at(0));
        for _ in 0..3 {
            restart.handle_started(at(0));
            restart.handle_ended(at(1));
        }
        assert_eq!(restart.poll_timeout(), Some(at(201)));
        restart.handle_started(at(201));
        restart.handle_ended(at(10_201));
        assert!(restart.is_due(at(10_201)));
        restart.handle_started(at(10_201));
        restart.handle_ended(at(20_200));
        assert_eq!(restart.poll_timeout(), Some(at(20_300)));
    }

    #[test]
    fn one_that_cannot_even_be_started_waits_too() {
        let mut restart = RoleRestart::new(at(0));
        restart.handle_ended(at(0));
        restart.handle_ended(at(0));
        assert_eq!(restart.poll_timeout(), Some(at(100)));
    }
}
