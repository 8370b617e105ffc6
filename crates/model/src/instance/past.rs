//! What of a slot's past the next life of the agent has to know: how often it was started and has ended, and
//! whether it waits for its next start, or for none.

use super::{Instance, Settings, State};
use crate::time::Instant;

/// What a slot went through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// Starts after the first.
    pub restarts: u32,
    /// Ends without a process between them that was ready for long.
    pub ends_in_a_row: u32,
    /// Why nothing of it runs.
    pub rest: Option<Rest>,
}

/// Nothing of a slot runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// Its next start; `None`: the policy says that it stays down.
    pub until: Option<Instant>,
    /// How it ended.
    pub why: String,
}

impl Instance {
    /// What has to be remembered of it. An end whose `after_exit` hook still runs is not in it: that one is
    /// said again.
    pub fn past(&self) -> Past {
        let rest = match &self.state {
            State::Backoff { until, why } => Some(Rest { until: Some(*until), why: why.clone() }),
            State::Ended { why } => Some(Rest { until: None, why: why.clone() }),
            State::Preparing { .. }
            | State::Starting { .. }
            | State::Doubtful { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Cleaning { .. }
            | State::Stopped => None,
        };
        let said_again = u32::from(matches!(self.state, State::Cleaning { .. }));
        let ends_in_a_row = self.backoff.ends_in_a_row().saturating_sub(said_again);
        Past { restarts: self.restarts, ends_in_a_row, rest }
    }

    /// A slot of which nothing runs, as a former life of the agent left it.
    pub fn resting(settings: Settings, past: &Past, rest: Rest, now: Instant) -> Self {
        let state = match rest.until {
            Some(until) => {
                State::Backoff { until: until.min(now + settings.restart.max_delay), why: rest.why }
            }
            None => State::Ended { why: rest.why },
        };
        let mut instance = Self::with_state(settings, state);
        instance.remember(past);
        instance
    }

    /// It goes on counting from there.
    pub fn remember(&mut self, past: &Past) {
        self.restarts = past.restarts;
        self.backoff.remember(past.ends_in_a_row);
    }
}
