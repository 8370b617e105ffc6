//! What can be seen of an instance.

use std::time::Duration;

use crate::time::Instant;

use super::stopping::{AfterStop, StopStep};
use super::{HookKind, Instance, Next, Routing, Settings, State, Status, WaitingOn};

impl Instance {
    /// What it is run by now.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What the table may say of it now.
    pub fn routing(&self) -> Routing {
        match &self.state {
            State::Starting { .. } | State::Doubtful { .. } => Routing::Candidate,
            State::Ready { .. } => Routing::Ready,
            State::Unready { since, .. } => Routing::Unready(*since),
            State::Draining { .. } | State::Stopping { .. } => Routing::Draining,
            State::Preparing { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Ended { .. }
            | State::Stopped => Routing::Absent,
        }
    }

    /// It is wanted and takes requests, or could as the last of its group.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// It was asked to stop, or is: it does not count towards what is wanted.
    pub fn is_leaving(&self) -> bool {
        match &self.state {
            State::Draining { .. } | State::Stopped => true,
            State::Stopping { after, .. } => !matches!(after, AfterStop::Restart(_)),
            State::Cleaning { next, .. } => *next == Next::Gone,
            State::Preparing { .. }
            | State::Starting { .. }
            | State::Doubtful { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Backoff { .. }
            | State::Ended { .. } => false,
        }
    }

    /// Nothing of it is left, and it wants nothing done any more: the slot may be dropped.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, State::Stopped) && self.actions.is_empty()
    }

    /// It waits for its requests to end.
    pub fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining { .. })
    }

    /// Why it is taken for hung, until it is restarted or shows that it is not.
    pub fn hung(&self) -> Option<&str> {
        match &self.state {
            State::Ready { process, .. } | State::Unready { process, .. } => process.hung.as_deref(),
            State::Preparing { .. }
            | State::Starting { .. }
            | State::Doubtful { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Ended { .. }
            | State::Stopped => None,
        }
    }

    /// It was restarted because it hung, and has neither become ready since nor failed to.
    pub fn is_recovering(&self) -> bool {
        self.recovers && !self.is_leaving()
    }

    /// Its process, while one runs.
    pub fn pid(&self) -> Option<u32> {
        self.process().map(|process| process.pid)
    }

    /// How long its process runs, as far as it was seen.
    pub fn run_time(&self, now: Instant) -> Option<Duration> {
        self.process().map(|process| now.since(process.since))
    }

    /// Starts after the first.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Ends, failed starts included, without a process between them that was ready for long.
    pub fn ends_in_a_row(&self) -> u32 {
        self.backoff.ends_in_a_row()
    }

    /// When it starts again, where it waits for that.
    pub fn next_start(&self) -> Option<Instant> {
        match &self.state {
            State::Backoff { until, .. } | State::Cleaning { next: Next::Start { at: until, .. }, .. } => {
                Some(*until)
            }
            State::Preparing { .. }
            | State::Starting { .. }
            | State::Doubtful { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Cleaning { .. }
            | State::Ended { .. }
            | State::Stopped => None,
        }
    }

    /// What `status` shows.
    pub fn status(&self, now: Instant) -> Status {
        let left = |until: Instant| now.until(until);
        let (state, waiting_on) = match &self.state {
            State::Preparing { until } => {
                ("starting", Some(WaitingOn::Hook(HookKind::BeforeStart, left(*until))))
            }
            State::Starting { process: None, .. } => ("starting", Some(WaitingOn::Spawn)),
            State::Starting { since, extended, .. } | State::Doubtful { since, extended, .. } => {
                let left = left(self.startup_deadline(*since, *extended));
                ("starting", Some(WaitingOn::Readiness(left, self.detail.clone())))
            }
            State::Ready { .. } => ("ready", None),
            State::Unready { .. } => ("unready", Some(WaitingOn::ReadinessAgain(self.detail.clone()))),
            State::Draining { until, .. } => ("draining", Some(WaitingOn::Drain(left(*until)))),
            State::Stopping { step, .. } => {
                let waits = match step {
                    StopStep::BeforeSpawn(_) => WaitingOn::Spawn,
                    StopStep::Hook { until } => WaitingOn::Hook(HookKind::BeforeStop, left(*until)),
                    StopStep::Asked { kill_at, .. } => WaitingOn::Exit(left(*kill_at)),
                    StopStep::Killed { .. } => WaitingOn::Kill,
                };
                ("stopping", Some(waits))
            }
            State::Cleaning { until, next } => {
                let state = if matches!(next, Next::Start { .. }) { "backoff" } else { "stopping" };
                (state, Some(WaitingOn::Hook(HookKind::AfterExit, left(*until))))
            }
            State::Backoff { until, why } => {
                let ends = self.backoff.ends_in_a_row();
                ("backoff", Some(WaitingOn::Restart { left: left(*until), why: why.clone(), ends }))
            }
            State::Ended { .. } | State::Stopped => ("stopped", None),
        };
        Status { state, pid: self.pid(), restarts: self.restarts, waiting_on }
    }

    /// Why it is down or not well, where that is known.
    pub fn detail(&self) -> Option<&str> {
        match &self.state {
            State::Backoff { why, .. } | State::Ended { why } => Some(why),
            State::Cleaning { next: Next::Start { why, .. } | Next::Down { why }, .. } => Some(why),
            State::Ready { .. } => self.hung(),
            State::Starting { .. } | State::Doubtful { .. } | State::Unready { .. }
                if !self.detail.is_empty() =>
            {
                Some(&self.detail)
            }
            State::Preparing { .. }
            | State::Starting { .. }
            | State::Doubtful { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Cleaning { .. }
            | State::Stopped => None,
        }
    }
}
