//! Hooks of an instance: commands around the life of its process.
//!
//! Whoever runs them ends them at their timeout and says so. Where that is not said they are given up a little
//! later: no hook can keep an instance from starting or stopping for ever.

use std::fmt;
use std::time::Duration;

use super::{Action, Ended, Instance, Report, State, StopStep};
use crate::manifest::{Hook, Hooks};
use crate::time::Instant;

/// How much later than its timeout a hook is given up that nobody has said the end of.
pub(super) const HOOK_MARGIN: Duration = Duration::from_secs(5);

/// Which hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HookKind {
    /// Before each start; if it fails, that start failed.
    BeforeStart,
    /// After a process got ready.
    AfterReady,
    /// Before the stop signal.
    BeforeStop,
    /// After each end of a process.
    AfterExit,
}

impl HookKind {
    /// As the manifest names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeStart => "before_start",
            Self::AfterReady => "after_ready",
            Self::BeforeStop => "before_stop",
            Self::AfterExit => "after_exit",
        }
    }

    /// What `hooks` say of it.
    pub fn of(self, hooks: &Hooks) -> Option<&Hook> {
        match self {
            Self::BeforeStart => hooks.before_start.as_ref(),
            Self::AfterReady => hooks.after_ready.as_ref(),
            Self::BeforeStop => hooks.before_stop.as_ref(),
            Self::AfterExit => hooks.after_exit.as_ref(),
        }
    }
}

impl fmt::Display for HookKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a hook after the end of a process may know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitFacts {
    /// How it ended.
    pub ended: Ended,
    /// How long it ran, as far as it was seen.
    pub ran: Duration,
}

pub(super) fn deadline(hook: &Hook, now: Instant) -> Instant {
    now + hook.timeout + HOOK_MARGIN
}

impl Instance {
    pub(super) fn start(&mut self, now: Instant) {
        self.detail.clear();
        match &self.settings.hooks.before_start {
            Some(hook) => {
                self.state = State::Preparing { until: deadline(hook, now) };
                self.actions.push_back(Action::Run(HookKind::BeforeStart, None));
            }
            None => self.spawn(now),
        }
    }

    /// A hook has ended: with exit code 0, or why not.
    pub fn handle_hook_ended(&mut self, hook: HookKind, result: Result<(), String>, now: Instant) {
        match hook {
            HookKind::BeforeStart => {
                if matches!(self.state, State::Preparing { .. }) {
                    match result {
                        Ok(()) => self.spawn(now),
                        Err(why) => self.fail_start(format!("its before_start hook failed: {why}"), now),
                    }
                }
            }
            HookKind::AfterReady => {
                if let Some(process) = self.state.process_mut()
                    && std::mem::take(&mut process.greets)
                {
                    self.tell_failed(hook, result);
                }
            }
            HookKind::BeforeStop => {
                if matches!(self.state, State::Stopping { step: StopStep::Hook { .. }, .. }) {
                    self.tell_failed(hook, result);
                    self.signal_to_stop(now);
                }
            }
            HookKind::AfterExit => {
                if let State::Cleaning { next, .. } = &self.state {
                    let next = next.clone();
                    self.tell_failed(hook, result);
                    self.actions.push_back(Action::Forget);
                    self.enter(next);
                }
            }
        }
    }

    fn tell_failed(&mut self, hook: HookKind, result: Result<(), String>) {
        if let Err(why) = result {
            self.actions.push_back(Action::Report(Report::HookFailed(hook, why)));
        }
    }

    /// Nobody said that it ended.
    pub(super) fn give_up_hook(&mut self, hook: HookKind, now: Instant) {
        self.actions.push_back(Action::Cancel(hook));
        self.handle_hook_ended(hook, Err("it did not end in time".to_owned()), now);
    }

    pub(super) fn cancel_before_stop(&mut self, step: &StopStep) {
        if matches!(step, StopStep::Hook { .. }) {
            self.actions.push_back(Action::Cancel(HookKind::BeforeStop));
        }
    }
}
