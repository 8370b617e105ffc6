//! When a silent holder is taken for hung.
//!
//! ```text
//!  heard ──10 s──► wake (SIGCONT) ──2 s──► kill (SIGKILL) ──► heard or a fresh link: start over
//!    ▲ our own pause of over 1 s: the count starts anew, for what was sent meanwhile is unread
//! ```
//! Pure; the caller has read all that is queued before it asks.

use std::time::Duration;

use wire::link::SILENCE_MS_MAX;

/// From waking a silent holder to killing it.
const WAKE_PATIENCE: Duration = Duration::from_secs(2);
/// A longer gap between two looks means that we did not run ourselves.
const OWN_GAP_MAX: Duration = Duration::from_secs(1);

/// What to do about a silent holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// It may be stopped: SIGCONT.
    Wake,
    /// SIGKILL.
    Kill,
}

#[derive(Debug)]
pub(crate) struct Silence {
    heard: Duration,
    looked: Duration,
    woken: bool,
}

impl Silence {
    pub(crate) fn new(now: Duration) -> Self {
        Self { heard: now, looked: now, woken: false }
    }

    pub(crate) fn heard(&mut self, now: Duration) {
        self.heard = now;
        self.woken = false;
    }

    /// To be asked several times a second.
    pub(crate) fn look(&mut self, now: Duration) -> Option<Remedy> {
        if now.saturating_sub(self.looked) > OWN_GAP_MAX {
            self.heard(now);
        }
        self.looked = now;
        let silent = now.saturating_sub(self.heard);
        let limit = Duration::from_millis(SILENCE_MS_MAX);
        if silent >= limit + WAKE_PATIENCE && self.woken {
            self.heard(now); // once: the link closes, or it was not the one we meant
            Some(Remedy::Kill)
        } else if silent >= limit && !self.woken {
            self.woken = true;
            Some(Remedy::Wake)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(silence: &mut Silence, from_ms: u64, to_ms: u64) -> Vec<(u64, Remedy)> {
        (from_ms..=to_ms)
            .step_by(500)
            .filter_map(|ms| Some((ms, silence.look(Duration::from_millis(ms))?)))
            .collect()
    }

    #[test]
    fn a_silent_holder_is_woken_and_then_killed_once() {
        let mut silence = Silence::new(Duration::ZERO);
        assert_eq!(run(&mut silence, 500, 15_000), [(10_000, Remedy::Wake), (12_000, Remedy::Kill)]);
    }

    #[test]
    fn one_that_speaks_after_it_was_woken_lives() {
        let mut silence = Silence::new(Duration::ZERO);
        assert_eq!(run(&mut silence, 500, 11_000).len(), 1);
        silence.heard(Duration::from_secs(11));
        assert_eq!(run(&mut silence, 11_000, 20_500), []);
    }

    #[test]
    fn time_in_which_we_did_not_run_ourselves_does_not_count() {
        let mut silence = Silence::new(Duration::ZERO);
        assert_eq!(run(&mut silence, 500, 9_000), []);
        assert_eq!(silence.look(Duration::from_secs(60)), None);
        assert_eq!(run(&mut silence, 60_500, 69_500), []);
        assert_eq!(run(&mut silence, 70_000, 70_000).len(), 1);
    }
}
