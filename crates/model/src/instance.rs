//! One instance: a slot of a release that runs one process at a time, from its spawn to its last trace.
//!
//! ```text
//!  new ─► preparing ─► starting ─► ready ◄──► unready
//!           │  ▲  ▲        │          │          │
//!           │  │  │        │ too late │ hung     │ hung, or unready for too long
//!           │  │  │        ▼          ▼          ▼
//!           │  │  │     stopping ◄────┴──────────┘        try_stop: ready, unready ─► draining ─► stopping
//!           │  │  │        │                                                 all let go, or drain_timeout
//!           │  │  │        ▼
//!           │  │  └──── cleaning ◄─ an end nobody asked for
//!           │  │           │
//!           │  └─ backoff ◄┼─► ended (the policy says stay) ─ try_start_now ─► preparing
//!           ▼              ▼
//!         stopped ◄────────┘ it was asked to stop
//! ```
//! *preparing* is the run of the `before_start` hook, *cleaning* that of `after_exit`; without these hooks they
//! take no time. *stopping* is the `before_stop` hook, the signal, the grace period, the kill of the tree.
//! Every process that ends has its tree killed, and is forgotten by the holder after its last hook.
//!
//! It deliberately does not know ports, tables or proxies: whoever owns it says when nothing routes to it any
//! more, publishes what `routing` says before it acts on what `poll_action` says, and decides when one that is
//! hung may be restarted.

use std::collections::VecDeque;
use std::time::Duration;

use crate::manifest::{Hooks, Liveness, Readiness, Restart, Service, Stop, StopSignal};
use crate::restart::{Backoff, End};
use crate::time::Instant;

mod checks;
mod hooks;
mod past;
mod process;
mod stopping;
mod view;
mod words;

pub use checks::CheckPurpose;
pub use hooks::{ExitFacts, HookKind};
pub use past::{Past, Rest};
pub use words::{
    Adopted, Ended, Hardness, NotHung, Report, Routing, Said, StartDenied, Status, StopDenied, WaitingOn,
};

use process::{Main, Process};
use stopping::{AfterStop, StopStep};

/// A tree that does not die is killed again after this time.
pub const KILL_AGAIN: Duration = Duration::from_secs(5);
/// A signal sent this shortly before the holder was lost may not have arrived and is sent again.
pub const SIGNAL_UNSURE: Duration = Duration::from_secs(2);
/// A process may buy itself so many times the time it has, for its start and for its end.
pub const EXTEND_MAX: u32 = 10;
/// Deadlines answered in one call: each may make the next one due, and more than these is a bug.
const DUE_MAX: usize = 8;

/// What an instance is run by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What makes it ready.
    pub readiness: Readiness,
    /// What shows that it is not hung.
    pub liveness: Option<Liveness>,
    /// How it is stopped.
    pub stop: Stop,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// What runs around its life.
    pub hooks: Hooks,
}

impl Settings {
    /// Those of a service's instances.
    pub fn of(service: &Service) -> Self {
        Self {
            readiness: service.readiness.clone(),
            liveness: service.liveness.clone(),
            stop: service.stop.clone(),
            restart: service.restart.clone(),
            hooks: service.hooks.clone(),
        }
    }
}

/// What an instance wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a process, on a port of its own.
    Spawn,
    /// Send it to the main process.
    Signal(StopSignal),
    /// Kill the whole tree.
    KillTree,
    /// Its end is noted.
    Forget,
    /// Run that hook, then call `handle_hook_ended`. With the facts of the end, where it is about one.
    Run(HookKind, Option<ExitFacts>),
    /// Nobody waits for that hook any more: kill its tree.
    Cancel(HookKind),
    /// Look once whether it is well, then call `handle_checked`.
    Check(CheckPurpose),
    /// That process of its tree says that it is the main one; if so, call `handle_main_pid`.
    AdoptMain(u32),
    /// Something that others should know.
    Report(Report),
}

#[derive(Debug, Clone)]
enum State {
    /// Its `before_start` hook runs.
    Preparing {
        until: Instant,
    },
    /// `process` is there once the spawn is answered; a verdict may come before that.
    Starting {
        since: Instant,
        extended: Option<Instant>,
        process: Option<Process>,
        answers: bool,
        main_pid: Option<u32>,
    },
    /// As `starting`, but a former life of the agent may have let requests go to it.
    Doubtful {
        since: Instant,
        extended: Option<Instant>,
        process: Process,
    },
    Ready {
        process: Process,
        since: Instant,
    },
    Unready {
        process: Process,
        since: Instant,
    },
    Draining {
        process: Process,
        until: Instant,
    },
    Stopping {
        process: Option<Process>,
        step: StopStep,
        after: AfterStop,
    },
    /// Its `after_exit` hook runs.
    Cleaning {
        until: Instant,
        next: Next,
    },
    Backoff {
        until: Instant,
        why: String,
    },
    /// Down by policy, not because anyone asked.
    Ended {
        why: String,
    },
    Stopped,
}

/// What comes after the end of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    Gone,
    Start { at: Instant, why: String },
    Down { why: String },
}

impl Next {
    fn after(delay: Option<Duration>, why: String, now: Instant) -> Self {
        match delay {
            Some(delay) => Self::Start { at: now + delay, why },
            None => Self::Down { why },
        }
    }
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Instance {
    settings: Settings,
    state: State,
    backoff: Backoff,
    restarts: u32,
    detail: String,
    /// It was restarted because it hung, and was not ready since: others that hang wait for it.
    recovers: bool,
    actions: VecDeque<Action>,
}

impl Instance {
    /// A fresh slot: its first action is the spawn, or the hook before it.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let mut instance = Self::with_state(settings, State::Stopped);
        instance.start(now);
        instance
    }

    /// A slot whose process runs already. Its health is looked at anew.
    pub fn adopt(settings: Settings, pid: u32, adopted: Adopted, now: Instant) -> Self {
        let process = Process::new(pid, &settings, now);
        let state = match adopted {
            Adopted::Candidate => State::Doubtful { since: now, extended: None, process },
            Adopted::Serving => State::Ready { process: process.watched(&settings, now), since: now },
            Adopted::Retiring => State::Draining { process, until: now + settings.stop.drain_timeout },
        };
        Self::with_state(settings, state)
    }

    fn with_state(settings: Settings, state: State) -> Self {
        Self {
            backoff: Backoff::new(settings.restart.clone()),
            settings,
            state,
            restarts: 0,
            detail: String::new(),
            recovers: false,
            actions: VecDeque::new(),
        }
    }

    /// What holds from now on. Nothing that runs is touched; a wait for the next start becomes no longer than
    /// the new longest one.
    pub fn set_settings(&mut self, settings: Settings, now: Instant) {
        if settings == self.settings {
            return;
        }
        self.backoff.set_settings(settings.restart.clone());
        let latest = now + settings.restart.max_delay;
        if let State::Backoff { until, .. } | State::Cleaning { next: Next::Start { at: until, .. }, .. } =
            &mut self.state
        {
            *until = latest.min(*until);
        }
        let former = std::mem::replace(&mut self.settings, settings);
        self.renew_checks(&former, now);
        self.change_readiness(&former, now);
    }

    /// Starts now what waits for its next start, or is down by policy.
    ///
    /// # Errors
    /// When it runs, or is to stop.
    pub fn try_start_now(&mut self, now: Instant) -> Result<(), StartDenied> {
        match &mut self.state {
            State::Backoff { .. } | State::Ended { .. } => {
                self.restarts += 1;
                self.start(now);
            }
            State::Cleaning { next: Next::Start { at, .. }, .. } => *at = now,
            State::Cleaning { next: next @ Next::Down { .. }, .. } => {
                *next = Next::Start { at: now, why: String::from("was asked to start") };
            }
            State::Draining { .. }
            | State::Stopping { .. }
            | State::Cleaning { next: Next::Gone, .. }
            | State::Stopped => return Err(StartDenied::Stopping),
            State::Preparing { .. }
            | State::Starting { .. }
            | State::Doubtful { .. }
            | State::Ready { .. }
            | State::Unready { .. } => return Err(StartDenied::Running),
        }
        Ok(())
    }

    fn spawn(&mut self, now: Instant) {
        self.state =
            State::Starting { since: now, extended: None, process: None, answers: false, main_pid: None };
        self.actions.push_back(Action::Spawn);
    }

    /// The process runs.
    pub fn handle_spawned(&mut self, pid: u32, now: Instant) {
        match &mut self.state {
            State::Starting { since, process: process @ None, answers, main_pid, .. } => {
                let (after, answers, main_pid) = (now.since(*since), *answers, main_pid.take());
                *process = Some(Process::new(pid, &self.settings, now));
                if let Some(main_pid) = main_pid {
                    self.adopt_main(main_pid, now);
                }
                if answers {
                    self.become_ready(after, now);
                }
            }
            State::Stopping { process: None, step: StopStep::BeforeSpawn(hardness), after } => {
                let (hardness, after) = (*hardness, after.clone());
                let process = Process::new(pid, &self.settings, now);
                self.ask_to_stop(Some(process), hardness, after, now);
            }
            State::Preparing { .. }
            | State::Starting { .. }
            | State::Doubtful { .. }
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

    /// Nothing of it runs: the start failed.
    pub fn handle_spawn_failed(&mut self, error: String, now: Instant) {
        if let State::Starting { process: None, .. } = self.state {
            self.fail_start(error, now);
        } else if let State::Stopping { process: None, after, .. } = &self.state {
            match after {
                AfterStop::Gone | AfterStop::Killed => self.state = State::Stopped,
                AfterStop::Restart(_) => self.start(now),
            }
        }
    }

    fn fail_start(&mut self, error: String, now: Instant) {
        let delay = self.backoff.handle_end(End::Failed, Duration::ZERO);
        self.recovers = false;
        self.enter(Next::after(delay, format!("could not be started: {error}"), now));
        self.actions.push_back(Action::Report(Report::SpawnFailed(error, delay)));
    }

    fn enter(&mut self, next: Next) {
        self.state = match next {
            Next::Gone => State::Stopped,
            Next::Start { at, why } => State::Backoff { until: at, why },
            Next::Down { why } => State::Ended { why },
        };
    }

    /// Something more is known about why it is not ready.
    pub fn handle_detail(&mut self, detail: String) {
        if matches!(self.state, State::Starting { .. } | State::Doubtful { .. } | State::Unready { .. }) {
            self.detail = detail;
        }
    }

    /// No proxy routes to it, and nothing is in flight on it.
    pub fn handle_drained(&mut self, now: Instant) {
        if let State::Draining { process, .. } = &self.state {
            let process = process.clone();
            self.ask_to_stop(Some(process), Hardness::SkipDrain, AfterStop::Gone, now);
        }
    }

    /// Its main process ended.
    pub fn handle_exited(&mut self, ended: Ended, now: Instant) {
        match &mut self.state {
            // The slot was free: this is the repetition of an end that was noted.
            State::Preparing { .. } | State::Backoff { .. } | State::Ended { .. } | State::Stopped => {
                self.actions.push_back(Action::Forget);
            }
            // It is forgotten after its hook.
            State::Cleaning { .. } => {}
            State::Starting { process: Some(process), .. }
            | State::Doubtful { process, .. }
            | State::Ready { process, .. }
            | State::Unready { process, .. }
            | State::Draining { process, .. } => match process.main {
                // Its parent ended as it should, and the answer about its child is on its way.
                Main::Asked { until } if now < until => process.main = Main::Ended { ended, until },
                Main::Ended { .. } => {}
                Main::Known | Main::Asked { .. } => self.finish_exit(ended, now),
            },
            State::Starting { process: None, .. } | State::Stopping { .. } => self.finish_exit(ended, now),
        }
    }

    fn finish_exit(&mut self, ended: Ended, now: Instant) {
        let state = std::mem::replace(&mut self.state, State::Stopped);
        let ready_for = ready_for(&state, now);
        let mut is_killed = false;
        let (process, next, report) = match state {
            State::Stopping { process, after: AfterStop::Restart(why), step } => {
                self.cancel_before_stop(&step);
                let delay = self.backoff.handle_end(End::Failed, ready_for);
                self.recovers &= delay.is_some();
                (process, Next::after(delay, why, now), Report::Exited(ended, delay))
            }
            State::Stopping { process, after, step } => {
                self.cancel_before_stop(&step);
                is_killed = after == AfterStop::Killed;
                (process, Next::Gone, Report::Gone(ended))
            }
            State::Draining { process, .. } => (Some(process), Next::Gone, Report::Gone(ended)),
            running @ (State::Preparing { .. }
            | State::Starting { .. }
            | State::Doubtful { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Ended { .. }
            | State::Stopped) => {
                let delay = self.backoff.handle_end(ended.end(), ready_for);
                self.recovers = false;
                let next = Next::after(delay, ended.to_string(), now);
                (running.into_process(), next, Report::Exited(ended, delay))
            }
        };
        if process.as_ref().is_some_and(|process| process.greets) {
            self.actions.push_back(Action::Cancel(HookKind::AfterReady));
        }
        // Before the slot is free, or a child that outlived its parent would keep the port.
        self.actions.push_back(Action::KillTree);
        let ran = process.map_or(Duration::ZERO, |process| now.since(process.since));
        let facts = ExitFacts { ended, ran };
        match (&self.settings.hooks.after_exit, is_killed) {
            (Some(hook), false) => {
                let until = hooks::deadline(hook, now);
                self.state = State::Cleaning { until, next };
                self.actions.push_back(Action::Run(HookKind::AfterExit, Some(facts)));
            }
            (None, _) | (Some(_), true) => {
                self.actions.push_back(Action::Forget);
                self.enter(next);
            }
        }
        self.actions.push_back(Action::Report(report));
    }

    /// The holder says anew what runs, and this runs. `lost` is since when it could not be asked.
    pub fn handle_found(&mut self, pid: u32, lost: Instant, now: Instant) {
        self.handle_spawned(pid, now);
        if self.pid() != Some(pid) {
            self.handle_main_pid(pid);
        }
        let State::Stopping { step, .. } = &mut self.state else { return };
        match step {
            StopStep::Asked { at, signal, .. } if *at + SIGNAL_UNSURE >= lost => {
                *at = now;
                self.actions.push_back(Action::Signal(*signal));
            }
            StopStep::Killed { again_at } => {
                *again_at = now + KILL_AGAIN;
                self.actions.push_back(Action::KillTree);
            }
            StopStep::Asked { .. } | StopStep::BeforeSpawn(_) | StopStep::Hook { .. } => {}
        }
    }

    /// The holder says anew what runs, and this does not, nor is its end known.
    pub fn handle_missing(&mut self, now: Instant) {
        match &self.state {
            State::Starting { process: None, .. } => self.actions.push_back(Action::Spawn),
            State::Stopping { process: None, .. } => self.handle_spawn_failed(String::new(), now),
            State::Starting { .. }
            | State::Doubtful { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. } => self.finish_exit(Ended::Unknown, now),
            State::Preparing { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Ended { .. }
            | State::Stopped => {}
        }
    }

    /// `poll_timeout` has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        for _ in 0..DUE_MAX {
            if self.poll_timeout().is_none_or(|at| now < at) {
                return;
            }
            self.handle_due(now);
        }
    }

    fn handle_due(&mut self, now: Instant) {
        if let Some(ended) = self.process().and_then(|process| process.overdue_end(now)) {
            self.finish_exit(ended, now);
            return;
        }
        self.handle_health_due(now);
        if self.state_due().is_none_or(|at| now < at) {
            return;
        }
        match &self.state {
            State::Preparing { .. } => self.give_up_hook(HookKind::BeforeStart, now),
            State::Cleaning { .. } => self.give_up_hook(HookKind::AfterExit, now),
            State::Stopping { step: StopStep::Hook { .. }, .. } => {
                self.give_up_hook(HookKind::BeforeStop, now);
            }
            State::Starting { since, extended, .. } | State::Doubtful { since, extended, .. } => {
                let time = self.startup_deadline(*since, *extended).since(*since);
                self.handle_startup_timeout(time, now);
            }
            State::Draining { .. } => self.handle_drained(now),
            State::Stopping { process, after, .. } => {
                let (process, after) = (process.clone(), after.clone());
                self.ask_to_stop(process, Hardness::Kill, after, now);
            }
            State::Backoff { .. } => {
                self.restarts += 1;
                self.start(now);
            }
            State::Ready { .. } | State::Unready { .. } | State::Ended { .. } | State::Stopped => {}
        }
    }

    fn handle_startup_timeout(&mut self, time: Duration, now: Instant) {
        let process = self.process().cloned();
        let detail = std::mem::take(&mut self.detail);
        self.actions.push_back(Action::Report(Report::StartupTimeout(time, detail)));
        self.recovers = false;
        let after = AfterStop::Restart("did not become ready in time".to_owned());
        self.ask_to_stop(process, Hardness::SkipDrain, after, now);
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ended = self.process().and_then(Process::end_due);
        [self.state_due(), self.health_due(), ended].into_iter().flatten().min()
    }

    fn state_due(&self) -> Option<Instant> {
        match &self.state {
            State::Starting { since, extended, .. } | State::Doubtful { since, extended, .. } => {
                Some(self.startup_deadline(*since, *extended))
            }
            State::Preparing { until, .. }
            | State::Draining { until, .. }
            | State::Backoff { until, .. }
            | State::Cleaning { until, .. } => Some(*until),
            State::Stopping { step, .. } => step.due(),
            State::Ready { .. } | State::Unready { .. } | State::Ended { .. } | State::Stopped => None,
        }
    }

    /// Later than configured where it asked for more time.
    fn startup_deadline(&self, since: Instant, extended: Option<Instant>) -> Instant {
        let timeout = self.settings.readiness.startup_timeout;
        let latest = since + timeout.saturating_mul(EXTEND_MAX);
        let plain = since + timeout;
        extended.map_or(plain, |extended| plain.max(extended.min(latest)))
    }

    /// What it wants done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }
}

/// The longest time without a gap that it was ready.
fn ready_for(state: &State, now: Instant) -> Duration {
    let steady = state.process().map_or(Duration::ZERO, |process| process.steady);
    match state {
        State::Ready { since, .. } => steady.max(now.since(*since)),
        State::Preparing { .. }
        | State::Starting { .. }
        | State::Doubtful { .. }
        | State::Unready { .. }
        | State::Draining { .. }
        | State::Stopping { .. }
        | State::Cleaning { .. }
        | State::Backoff { .. }
        | State::Ended { .. }
        | State::Stopped => steady,
    }
}

#[cfg(test)]
mod tests;
