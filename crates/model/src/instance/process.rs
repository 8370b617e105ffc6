//! The process of an instance: which one it is, and what is known of its health.

use std::time::Duration;

use super::checks::{Check, Watch};
use super::stopping::StopStep;
use super::{Action, Ended, Instance, Said, Settings, State};
use crate::manifest::ReadinessCheck;
use crate::time::Instant;

/// After MAINPID the end of the former main process counts only when it is not answered for so long: a parent
/// that forks ends at once, and its child must not be killed for that.
pub(super) const MAIN_PID_WAIT: Duration = Duration::from_secs(2);

#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Since then it runs, or is ours.
    pub(super) since: Instant,
    pub(super) main: Main,
    /// Its `after_ready` hook runs.
    pub(super) greets: bool,
    pub(super) readiness: Check,
    pub(super) liveness: Watch,
    /// Why it is taken for hung.
    pub(super) hung: Option<String>,
    /// Its longest time ready that is over.
    pub(super) steady: Duration,
    /// It was told to send WATCHDOG=1.
    pub(super) is_told_to_ping: bool,
}

/// Whether the main process is the one we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Main {
    Known,
    /// Another said that it is, and the holder looks whether it may be.
    Asked {
        until: Instant,
    },
    /// As `Asked`, and the one we know has ended.
    Ended {
        ended: Ended,
        until: Instant,
    },
}

impl Process {
    pub(super) fn new(pid: u32, settings: &Settings, now: Instant) -> Self {
        Self {
            pid,
            since: now,
            main: Main::Known,
            greets: false,
            readiness: Check::of_readiness(&settings.readiness, None, now),
            liveness: Watch::Off,
            hung: None,
            steady: Duration::ZERO,
            is_told_to_ping: Watch::is_by_pings(settings),
        }
    }

    /// It is ready, and its liveness counts from now on.
    pub(super) fn watched(self, settings: &Settings, now: Instant) -> Self {
        Self {
            readiness: Check::of_readiness(&settings.readiness, Some(true), now),
            liveness: Watch::of_liveness(settings, self.is_told_to_ping, now),
            ..self
        }
    }

    pub(super) fn end_due(&self) -> Option<Instant> {
        match self.main {
            Main::Ended { until, .. } => Some(until),
            Main::Known | Main::Asked { .. } => None,
        }
    }

    pub(super) fn overdue_end(&self, now: Instant) -> Option<Ended> {
        match self.main {
            Main::Ended { until, ended } if until <= now => Some(ended),
            Main::Ended { .. } | Main::Known | Main::Asked { .. } => None,
        }
    }
}

impl State {
    pub(super) fn process(&self) -> Option<&Process> {
        match self {
            Self::Starting { process, .. } | Self::Stopping { process, .. } => process.as_ref(),
            Self::Doubtful { process, .. }
            | Self::Ready { process, .. }
            | Self::Unready { process, .. }
            | Self::Draining { process, .. } => Some(process),
            Self::Preparing { .. }
            | Self::Cleaning { .. }
            | Self::Backoff { .. }
            | Self::Ended { .. }
            | Self::Stopped => None,
        }
    }

    pub(super) fn process_mut(&mut self) -> Option<&mut Process> {
        match self {
            Self::Starting { process, .. } | Self::Stopping { process, .. } => process.as_mut(),
            Self::Doubtful { process, .. }
            | Self::Ready { process, .. }
            | Self::Unready { process, .. }
            | Self::Draining { process, .. } => Some(process),
            Self::Preparing { .. }
            | Self::Cleaning { .. }
            | Self::Backoff { .. }
            | Self::Ended { .. }
            | Self::Stopped => None,
        }
    }

    pub(super) fn into_process(self) -> Option<Process> {
        match self {
            Self::Starting { process, .. } | Self::Stopping { process, .. } => process,
            Self::Doubtful { process, .. }
            | Self::Ready { process, .. }
            | Self::Unready { process, .. }
            | Self::Draining { process, .. } => Some(process),
            Self::Preparing { .. }
            | Self::Cleaning { .. }
            | Self::Backoff { .. }
            | Self::Ended { .. }
            | Self::Stopped => None,
        }
    }
}

impl Instance {
    pub(super) fn process(&self) -> Option<&Process> {
        self.state.process()
    }

    /// It sent something to its notify socket.
    pub fn handle_notified(&mut self, said: &Said, now: Instant) {
        if let Some(pid) = said.main_pid {
            self.adopt_main(pid, now);
        }
        if let Some(time) = said.extend_timeout {
            self.extend(time, now);
        }
        if said.watchdog {
            self.handle_ping(now);
        }
        if said.ready && self.settings.readiness.check == ReadinessCheck::Notify {
            self.answer(now);
        }
        if said.stopping {
            self.lose_readiness("it said that it stops", now);
        }
    }

    pub(super) fn adopt_main(&mut self, pid: u32, now: Instant) {
        if let State::Starting { process: None, main_pid, .. } = &mut self.state {
            *main_pid = Some(pid);
            return;
        }
        let Some(process) = self.state.process_mut().filter(|process| process.pid != pid) else { return };
        let until = now + MAIN_PID_WAIT;
        process.main = match process.main {
            Main::Ended { ended, .. } => Main::Ended { ended, until },
            Main::Known | Main::Asked { .. } => Main::Asked { until },
        };
        self.actions.push_back(Action::AdoptMain(pid));
    }

    /// That is its main process from now on.
    pub fn handle_main_pid(&mut self, pid: u32) {
        let Some(process) = self.state.process_mut() else { return };
        process.main = Main::Known;
        if process.pid == pid {
            return;
        }
        process.pid = pid;
        // The one that was asked to stop was another.
        if let State::Stopping { step: StopStep::Asked { signal, .. }, .. } = &self.state {
            self.actions.push_back(Action::Signal(*signal));
        }
    }

    /// It asks for more time: for its start while it starts, for its end while it stops.
    fn extend(&mut self, time: Duration, now: Instant) {
        let until = now + time;
        let grace = self.settings.stop.grace_period;
        match &mut self.state {
            State::Starting { extended, .. } | State::Doubtful { extended, .. } => {
                *extended = (*extended).max(Some(until));
            }
            State::Stopping { step: StopStep::Asked { at, kill_at, .. }, .. } => {
                let latest = *at + grace.saturating_mul(super::EXTEND_MAX);
                *kill_at = (*kill_at).max(until.min(latest));
            }
            State::Preparing { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Ended { .. }
            | State::Stopped => {}
        }
    }
}
