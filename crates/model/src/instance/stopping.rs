//! Stopping an instance: hook, signal, grace period, kill of the tree; also of one that is hung.

use crate::manifest::{LivenessCheck, StopSignal};
use crate::time::Instant;

use super::process::{Main, Process};
use super::{Action, Hardness, HookKind, Instance, KILL_AGAIN, Next, NotHung, State, StopDenied, hooks};

#[derive(Debug, Clone)]
pub(super) enum StopStep {
    /// There is no process to signal yet.
    BeforeSpawn(Hardness),
    /// Its `before_stop` hook runs.
    Hook {
        until: Instant,
    },
    Asked {
        signal: StopSignal,
        at: Instant,
        kill_at: Instant,
    },
    Killed {
        again_at: Instant,
    },
}

impl StopStep {
    pub(super) fn due(&self) -> Option<Instant> {
        match self {
            Self::BeforeSpawn(_) => None,
            Self::Hook { until } => Some(*until),
            Self::Asked { kill_at, .. } => Some(*kill_at),
            Self::Killed { again_at } => Some(*again_at),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum AfterStop {
    Gone,
    /// Someone asked for the kill: nothing more runs.
    Killed,
    /// Why.
    Restart(String),
}

impl Instance {
    /// Stop it. What is in flight finishes first, as far as `hardness` lets it.
    ///
    /// # Errors
    /// When that changes nothing.
    pub fn try_stop(&mut self, hardness: Hardness, now: Instant) -> Result<(), StopDenied> {
        let after = if hardness == Hardness::Kill { AfterStop::Killed } else { AfterStop::Gone };
        match &mut self.state {
            State::Preparing { .. } => {
                self.actions.push_back(Action::Cancel(HookKind::BeforeStart));
                self.state = State::Stopped;
            }
            State::Starting { process, .. } => {
                let process = process.take();
                self.ask_to_stop(process, hardness, after, now);
            }
            State::Ready { process, .. }
            | State::Unready { process, .. }
            | State::Doubtful { process, .. } => {
                let process = process.clone();
                if hardness == Hardness::Drain {
                    let until = now + self.settings.stop.drain_timeout;
                    self.state = State::Draining { process, until };
                } else {
                    self.ask_to_stop(Some(process), hardness, after, now);
                }
            }
            State::Draining { .. } if hardness == Hardness::Drain => return Err(StopDenied::Stopping),
            State::Draining { process, .. } => {
                let process = process.clone();
                self.ask_to_stop(Some(process), hardness, after, now);
            }
            State::Stopping { .. } => return self.stop_harder(hardness, now),
            State::Cleaning { next, .. } => {
                let was = std::mem::replace(next, Next::Gone);
                if hardness == Hardness::Kill {
                    self.actions.push_back(Action::Cancel(HookKind::AfterExit));
                    self.actions.push_back(Action::Forget);
                    self.state = State::Stopped;
                } else if was == Next::Gone {
                    return Err(StopDenied::Stopping);
                }
            }
            State::Backoff { .. } | State::Ended { .. } => self.state = State::Stopped,
            State::Stopped => return Err(StopDenied::Stopped),
        }
        Ok(())
    }

    fn stop_harder(&mut self, hardness: Hardness, now: Instant) -> Result<(), StopDenied> {
        let State::Stopping { step, after, process } = &mut self.state else {
            return Err(StopDenied::Stopped);
        };
        let is_kill = hardness == Hardness::Kill;
        let asked = if is_kill { AfterStop::Killed } else { AfterStop::Gone };
        let was_restart = matches!(after, AfterStop::Restart(_));
        if is_kill || was_restart {
            *after = asked;
        }
        match step {
            StopStep::BeforeSpawn(known) if *known < hardness => *known = hardness,
            StopStep::Hook { .. } | StopStep::Asked { .. } if is_kill => {
                let (process, step) = (process.take(), step.clone());
                self.cancel_before_stop(&step);
                self.ask_to_stop(process, Hardness::Kill, AfterStop::Killed, now);
            }
            StopStep::BeforeSpawn(_)
            | StopStep::Hook { .. }
            | StopStep::Asked { .. }
            | StopStep::Killed { .. } => {
                if !was_restart {
                    return Err(StopDenied::Stopping);
                }
            }
        }
        Ok(())
    }

    pub(super) fn ask_to_stop(
        &mut self,
        process: Option<Process>,
        hardness: Hardness,
        after: AfterStop,
        now: Instant,
    ) {
        let ended = process.as_ref().and_then(|process| match process.main {
            Main::Ended { ended, .. } => Some(ended),
            Main::Known | Main::Asked { .. } => None,
        });
        let runs = process.is_some() && ended.is_none();
        self.state = State::Stopping { process, step: StopStep::BeforeSpawn(hardness), after };
        if let Some(ended) = ended {
            // Nothing is left to be asked; who might have been the next main process goes with the tree.
            self.finish_exit(ended, now);
        } else if runs && hardness == Hardness::Kill {
            self.kill(now);
        } else if let Some(hook) = self.settings.hooks.before_stop.as_ref().filter(|_| runs) {
            let until = hooks::deadline(hook, now);
            self.step(StopStep::Hook { until });
            self.actions.push_back(Action::Run(HookKind::BeforeStop, None));
        } else if runs {
            self.signal_to_stop(now);
        }
    }

    fn step(&mut self, next: StopStep) {
        if let State::Stopping { step, .. } = &mut self.state {
            *step = next;
        }
    }

    fn kill(&mut self, now: Instant) {
        self.actions.push_back(Action::KillTree);
        self.step(StopStep::Killed { again_at: now + KILL_AGAIN });
    }

    pub(super) fn signal_to_stop(&mut self, now: Instant) {
        match self.settings.stop.signal {
            StopSignal::Kill => self.kill(now),
            signal @ (StopSignal::Graceful
            | StopSignal::Interrupt
            | StopSignal::Quit
            | StopSignal::HangUp
            | StopSignal::User1
            | StopSignal::User2
            | StopSignal::Abort) => self.signal(signal, now),
        }
    }

    fn signal(&mut self, signal: StopSignal, now: Instant) {
        self.actions.push_back(Action::Signal(signal));
        let kill_at = now + self.settings.stop.grace_period;
        self.step(StopStep::Asked { signal, at: now, kill_at });
    }

    /// Restarts one that is taken for hung. One that was to show signs of life is aborted, so that what it did
    /// can be seen in its core; another is asked to stop.
    ///
    /// # Errors
    /// When it is not hung.
    pub fn try_kill_hung(&mut self, now: Instant) -> Result<(), NotHung> {
        let (State::Ready { process, .. } | State::Unready { process, .. }) = &self.state else {
            return Err(NotHung);
        };
        let Some(why) = process.hung.clone() else { return Err(NotHung) };
        let mut process = process.clone();
        process.steady = super::ready_for(&self.state, now);
        self.recovers = true;
        let after = AfterStop::Restart(format!("was hung: {why}"));
        let pings =
            self.settings.liveness.as_ref().is_some_and(|known| known.check == LivenessCheck::Watchdog);
        if pings && process.end_due().is_none() {
            self.state = State::Stopping {
                process: Some(process),
                step: StopStep::BeforeSpawn(Hardness::SkipDrain),
                after,
            };
            self.signal(StopSignal::Abort, now);
        } else {
            self.ask_to_stop(Some(process), Hardness::SkipDrain, after, now);
        }
        Ok(())
    }
}
