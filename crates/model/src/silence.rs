//! When a silent peer counts as hung, and when the silence is our own.
//!
//! ```text
//!  heard ── limit of silence ──► silent
//!    ▲ anything received          a gap in our own running starts the count anew: what the peer
//!    └────────────────────        said meanwhile may still be on its way to us
//! ```
//! The watcher reads all that is queued before it asks. What to do about silence is the watcher's.

use std::time::Duration;

use crate::time::Instant;

/// A watcher that did not run for longer than this judges nobody by that time.
pub const OWN_GAP_MAX: Duration = Duration::from_secs(1);

/// Silence of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    limit: Duration,
    since: Instant,
}

impl Silence {
    /// A peer that has just been heard and may be silent for `limit`.
    pub fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, since: now }
    }

    /// Something came from it, or the watcher itself did not run: the count starts anew.
    pub fn handle_heard(&mut self, now: Instant) {
        self.since = now;
    }

    /// When its silence gets too long.
    pub fn poll_timeout(&self) -> Instant {
        self.since + self.limit
    }

    /// Whether its silence is too long.
    pub fn is_too_long(&self, now: Instant) -> bool {
        now >= self.poll_timeout()
    }
}

/// The watcher's own running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnGap {
    last: Instant,
}

impl OwnGap {
    /// A watcher that runs now, and wakes at least twice in `OWN_GAP_MAX` from now on.
    pub fn new(now: Instant) -> Self {
        Self { last: now }
    }

    /// The watcher runs. `true` after a gap: every count of silence has to start anew.
    pub fn handle_awake(&mut self, now: Instant) -> bool {
        let gap = now.since(self.last);
        self.last = now;
        gap > OWN_GAP_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn a_peer_is_silent_after_the_limit_and_not_before() {
        let mut silence = Silence::new(Duration::from_secs(10), at(0));
        silence.handle_heard(at(4_000));
        assert!(!silence.is_too_long(at(13_999)));
        assert!(silence.is_too_long(at(14_000)));
        assert_eq!(silence.poll_timeout(), at(14_000));
    }

    #[test]
    fn a_watcher_that_slept_through_the_limit_notices_its_own_gap() {
        let mut gap = OwnGap::new(at(0));
        assert!(!gap.handle_awake(at(500)));
        assert!(!gap.handle_awake(at(1_500)));
        assert!(gap.handle_awake(at(60_000)));
        assert!(!gap.handle_awake(at(60_500)));
    }
}
