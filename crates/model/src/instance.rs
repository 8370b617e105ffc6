//! One instance: a slot of a release that runs one process at a time, from its spawn to its last trace.
//!
//! ```text
//!            spawn asked       READY / probe verdict
//!  new ──► starting ─────────────────────────► ready ◄──► unready
//!             │  │ startup_timeout               │            │
//!             │  └──────────────┐                └─ try_stop ─┤
//!             │ try_stop        ▼                             ▼
//!             └───────────► stopping ◄── all proxies let go ─ draining
//!                             │          or drain_timeout
//!                  exit, after signal, grace, kill of the tree
//!                             ▼
//!                          stopped          an end nobody asked for: ──► backoff ──► starting
//!                                                                   └──► stopped (the policy says stay)
//! ```
//! Every process that ends has its tree killed and is then forgotten by the holder.
//!
//! It deliberately does not know ports, tables or proxies: whoever owns it says when nothing routes to it any
//! more, and publishes what `routing` says before it acts on what `poll_action` says.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::manifest::{ReadinessCheck, Restart, Stop, StopSignal};
use crate::restart::{Backoff, End};
use crate::time::Instant;

/// A tree that does not die is killed again after this time.
pub const KILL_AGAIN: Duration = Duration::from_secs(5);
/// A signal sent this shortly before the holder was lost may not have arrived and is sent again.
pub const SIGNAL_UNSURE: Duration = Duration::from_secs(2);

/// What an instance is run by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What makes it ready.
    pub check: ReadinessCheck,
    /// From the spawn to ready.
    pub startup_timeout: Duration,
    /// How it is stopped.
    pub stop: Stop,
    /// What happens when it ends by itself.
    pub restart: Restart,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With that exit code.
    Code(i32),
    /// By that signal.
    Signal(i32),
    /// By the kernel, because memory ran out.
    OutOfMemory,
    /// Nobody could tell.
    Unknown,
}

impl Ended {
    fn end(self) -> End {
        match self {
            Self::Code(0) => End::Succeeded,
            Self::Code(_) | Self::Signal(_) | Self::OutOfMemory | Self::Unknown => End::Failed,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(number) => match signal_name(*number) {
                Some(name) => write!(f, "was ended by signal {number} ({name})"),
                None => write!(f, "was ended by signal {number}"),
            },
            Self::OutOfMemory => f.write_str("was killed by the kernel because memory ran out"),
            Self::Unknown => f.write_str("ended, and nobody could tell how"),
        }
    }
}

fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// How hard an instance is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hardness {
    /// Requests in flight finish first.
    Drain,
    /// The signal comes at once.
    SkipDrain,
    /// The tree is killed at once.
    Kill,
}

/// A stop that changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StopDenied {
    /// At least as hard a stop is under way.
    #[error("it is being stopped already")]
    Stopping,
    /// Nothing of it is left.
    #[error("it is stopped already")]
    Stopped,
}

/// What the table may say of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Routing {
    /// It has no process that could answer.
    Absent,
    /// It is probed and gets no request.
    Candidate,
    /// It takes requests.
    Ready,
    /// It lost its readiness at that time.
    Unready(Instant),
    /// It takes no new request; those in flight finish.
    Draining,
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
    /// Something that others should know.
    Report(Report),
}

/// What happened to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It may take requests, that long after its spawn.
    Ready(Duration),
    /// It lost its readiness.
    Unready(String),
    /// It has it again.
    ReadyAgain,
    /// It ended by itself; the time until its restart.
    Exited(Ended, Option<Duration>),
    /// It could not be started; the time until the next try.
    SpawnFailed(String, Option<Duration>),
    /// It was not ready within that time and is being stopped; what the last check said.
    StartupTimeout(Duration, String),
    /// It ended because it was asked to.
    Gone(Ended),
}

/// Why an instance is not where it is wanted to be. Each is one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingOn {
    /// The holder's answer.
    Spawn,
    /// Its readiness, for at most that long; what the last check said.
    Readiness(Duration, String),
    /// The readiness it lost; what the last check said.
    ReadinessAgain(String),
    /// Its next start.
    Restart(Duration, String),
    /// Requests in flight, for at most that long.
    Drain(Duration),
    /// Its end, for at most that long.
    Exit(Duration),
    /// The end of a killed tree.
    Kill,
}

impl fmt::Display for WaitingOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |d: &Duration| format!("{:.0} s", d.as_secs_f64().ceil());
        match self {
            Self::Spawn => f.write_str("waits for its process to start"),
            Self::Readiness(left, detail) if detail.is_empty() => {
                write!(f, "waits to become ready, for at most {}", seconds(left))
            }
            Self::Readiness(left, detail) => {
                write!(f, "waits to become ready, for at most {}: {detail}", seconds(left))
            }
            Self::ReadinessAgain(detail) => write!(f, "waits to become ready again: {detail}"),
            Self::Restart(left, why) => write!(f, "starts again in {}: it {why}", seconds(left)),
            Self::Drain(left) => write!(f, "finishes its requests, for at most {}", seconds(left)),
            Self::Exit(left) => write!(f, "was asked to end, and is killed in {}", seconds(left)),
            Self::Kill => f.write_str("was killed, and waits for its last process to end"),
        }
    }
}

/// What `status` shows of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The state's name.
    pub state: &'static str,
    /// Its process, while one runs.
    pub pid: Option<u32>,
    /// Starts after the first.
    pub restarts: u32,
    /// Why it is not further.
    pub waiting_on: Option<WaitingOn>,
}

/// As what a running process is taken over from a former life of the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adopted {
    /// It had not been ready.
    Candidate,
    /// It took requests.
    Serving,
    /// It was, or has to be, stopped; requests may be in flight.
    Retiring,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// `pid` is there once the spawn is answered; a verdict may come before that.
    Starting {
        since: Instant,
        pid: Option<u32>,
        answers: bool,
    },
    /// As `starting`, but a former life of the agent may have let requests go to it.
    Doubtful {
        since: Instant,
        pid: u32,
    },
    Ready {
        pid: u32,
        since: Instant,
    },
    Unready {
        pid: u32,
        since: Instant,
    },
    Draining {
        pid: u32,
        until: Instant,
    },
    Stopping {
        pid: Option<u32>,
        step: StopStep,
        after: AfterStop,
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

#[derive(Debug, Clone, PartialEq, Eq)]
enum StopStep {
    /// There is no process to signal yet.
    BeforeSpawn(Hardness),
    Asked {
        at: Instant,
        kill_at: Instant,
    },
    Killed {
        again_at: Instant,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AfterStop {
    Gone,
    Restart,
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Instance {
    settings: Settings,
    state: State,
    backoff: Backoff,
    restarts: u32,
    detail: String,
    actions: VecDeque<Action>,
}

impl Instance {
    /// A fresh slot: its first action is the spawn.
    pub fn new(settings: Settings, now: Instant) -> Self {
        let mut instance = Self {
            backoff: Backoff::new(settings.restart.clone()),
            settings,
            state: State::Stopped,
            restarts: 0,
            detail: String::new(),
            actions: VecDeque::new(),
        };
        instance.start(now);
        instance
    }

    /// A slot whose process runs already.
    pub fn adopt(settings: Settings, pid: u32, adopted: Adopted, now: Instant) -> Self {
        let state = match adopted {
            Adopted::Candidate => State::Doubtful { since: now, pid },
            Adopted::Serving => State::Ready { pid, since: now },
            Adopted::Retiring => State::Draining { pid, until: now + settings.stop.drain_timeout },
        };
        Self {
            backoff: Backoff::new(settings.restart.clone()),
            settings,
            state,
            restarts: 0,
            detail: String::new(),
            actions: VecDeque::new(),
        }
    }

    fn start(&mut self, now: Instant) {
        self.detail.clear();
        self.state = State::Starting { since: now, pid: None, answers: false };
        self.actions.push_back(Action::Spawn);
    }

    /// Stop it. What is in flight finishes first, as far as `hardness` lets it.
    ///
    /// # Errors
    /// When that changes nothing.
    pub fn try_stop(&mut self, hardness: Hardness, now: Instant) -> Result<(), StopDenied> {
        match self.state {
            State::Starting { pid, .. } => self.ask_to_stop(pid, hardness, AfterStop::Gone, now),
            State::Ready { pid, .. } | State::Unready { pid, .. } | State::Doubtful { pid, .. } => {
                if hardness == Hardness::Drain {
                    self.state = State::Draining { pid, until: now + self.settings.stop.drain_timeout };
                } else {
                    self.ask_to_stop(Some(pid), hardness, AfterStop::Gone, now);
                }
            }
            State::Draining { .. } if hardness == Hardness::Drain => return Err(StopDenied::Stopping),
            State::Draining { pid, .. } => self.ask_to_stop(Some(pid), hardness, AfterStop::Gone, now),
            State::Stopping { .. } => return self.stop_harder(hardness, now),
            State::Backoff { .. } | State::Ended { .. } => self.state = State::Stopped,
            State::Stopped => return Err(StopDenied::Stopped),
        }
        Ok(())
    }

    fn stop_harder(&mut self, hardness: Hardness, now: Instant) -> Result<(), StopDenied> {
        let State::Stopping { step, after, pid } = &mut self.state else { return Err(StopDenied::Stopped) };
        let was = std::mem::replace(after, AfterStop::Gone);
        match step {
            StopStep::BeforeSpawn(asked) if *asked < hardness => *asked = hardness,
            StopStep::Asked { .. } if hardness == Hardness::Kill => {
                let pid = *pid;
                self.ask_to_stop(pid, Hardness::Kill, AfterStop::Gone, now);
            }
            _ if was == AfterStop::Restart => {}
            StopStep::BeforeSpawn(_) | StopStep::Asked { .. } | StopStep::Killed { .. } => {
                return Err(StopDenied::Stopping);
            }
        }
        Ok(())
    }

    fn ask_to_stop(&mut self, pid: Option<u32>, hardness: Hardness, after: AfterStop, now: Instant) {
        let signal = self.settings.stop.signal;
        let step = if pid.is_none() {
            StopStep::BeforeSpawn(hardness)
        } else if hardness == Hardness::Kill || signal == StopSignal::Kill {
            self.actions.push_back(Action::KillTree);
            StopStep::Killed { again_at: now + KILL_AGAIN }
        } else {
            self.actions.push_back(Action::Signal(signal));
            StopStep::Asked { at: now, kill_at: now + self.settings.stop.grace_period }
        };
        self.state = State::Stopping { pid, step, after };
    }

    /// The process runs.
    pub fn handle_spawned(&mut self, process: u32, now: Instant) {
        match &mut self.state {
            State::Starting { since, pid: pid @ None, answers } => {
                *pid = Some(process);
                if *answers {
                    let after = now.since(*since);
                    self.become_ready(process, after, now);
                }
            }
            State::Stopping { pid: None, step: StopStep::BeforeSpawn(hardness), after } => {
                let (hardness, after) = (*hardness, *after);
                self.ask_to_stop(Some(process), hardness, after, now);
            }
            State::Starting { .. }
            | State::Doubtful { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Ended { .. }
            | State::Stopped => {}
        }
    }

    fn become_ready(&mut self, pid: u32, after: Duration, now: Instant) {
        self.detail.clear();
        self.state = State::Ready { pid, since: now };
        self.actions.push_back(Action::Report(Report::Ready(after)));
    }

    /// Nothing of it runs: the start failed.
    pub fn handle_spawn_failed(&mut self, error: String, now: Instant) {
        match &self.state {
            State::Starting { pid: None, .. } => {
                let delay = self.backoff.handle_end(End::Failed, Duration::ZERO);
                self.rest(delay, format!("could not be started: {error}"), now);
                self.actions.push_back(Action::Report(Report::SpawnFailed(error, delay)));
            }
            State::Stopping { pid: None, after, .. } => match after {
                AfterStop::Gone => self.state = State::Stopped,
                AfterStop::Restart => self.start(now),
            },
            State::Starting { .. }
            | State::Doubtful { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Ended { .. }
            | State::Stopped => {}
        }
    }

    fn rest(&mut self, delay: Option<Duration>, why: String, now: Instant) {
        self.state = match delay {
            Some(delay) => State::Backoff { until: now + delay, why },
            None => State::Ended { why },
        };
    }

    /// It sent READY=1.
    pub fn handle_notified_ready(&mut self, now: Instant) {
        if self.settings.check == ReadinessCheck::Notify {
            self.answer(now);
        }
    }

    /// A probe's verdict: `None` is a candidate that still fails.
    pub fn handle_probe(&mut self, healthy: Option<bool>, detail: &str, now: Instant) {
        if self.settings.check == ReadinessCheck::Notify {
            return;
        }
        if healthy == Some(true) {
            self.answer(now);
            return;
        }
        detail.clone_into(&mut self.detail);
        match &mut self.state {
            State::Ready { pid, .. } if healthy == Some(false) => {
                self.state = State::Unready { pid: *pid, since: now };
                self.actions.push_back(Action::Report(Report::Unready(detail.to_owned())));
            }
            State::Starting { answers, .. } => *answers = false,
            State::Ready { .. }
            | State::Doubtful { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Ended { .. }
            | State::Stopped => {}
        }
    }

    fn answer(&mut self, now: Instant) {
        match &mut self.state {
            State::Starting { pid: None, answers, .. } => *answers = true,
            State::Starting { pid: Some(pid), since, .. } | State::Doubtful { pid, since } => {
                let (pid, after) = (*pid, now.since(*since));
                self.become_ready(pid, after, now);
            }
            State::Unready { pid, .. } => {
                self.state = State::Ready { pid: *pid, since: now };
                self.detail.clear();
                self.actions.push_back(Action::Report(Report::ReadyAgain));
            }
            State::Ready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Ended { .. }
            | State::Stopped => {}
        }
    }

    /// Something more is known about why it is not ready.
    pub fn handle_detail(&mut self, detail: String) {
        if matches!(self.state, State::Starting { .. } | State::Doubtful { .. } | State::Unready { .. }) {
            self.detail = detail;
        }
    }

    /// No proxy routes to it, and nothing is in flight on it.
    pub fn handle_drained(&mut self, now: Instant) {
        if let State::Draining { pid, .. } = self.state {
            self.ask_to_stop(Some(pid), Hardness::SkipDrain, AfterStop::Gone, now);
        }
    }

    /// Its main process ended.
    pub fn handle_exited(&mut self, ended: Ended, now: Instant) {
        let mut report = Report::Gone(ended);
        match &self.state {
            // The slot was free: this is the repetition of an end that was noted.
            State::Backoff { .. } | State::Ended { .. } | State::Stopped => {
                self.actions.push_back(Action::Forget);
                return;
            }
            State::Starting { .. } | State::Doubtful { .. } | State::Ready { .. } | State::Unready { .. } => {
                let mut ready_for = Duration::ZERO;
                if let State::Ready { since, .. } = self.state {
                    ready_for = now.since(since);
                }
                let delay = self.backoff.handle_end(ended.end(), ready_for);
                self.rest(delay, ended.to_string(), now);
                report = Report::Exited(ended, delay);
            }
            State::Stopping { after: AfterStop::Restart, .. } => {
                let delay = self.backoff.handle_end(End::Failed, Duration::ZERO);
                self.rest(delay, "did not become ready in time".to_owned(), now);
                report = Report::Exited(ended, delay);
            }
            State::Draining { .. } | State::Stopping { after: AfterStop::Gone, .. } => {
                self.state = State::Stopped
            }
        }
        // Before the slot is free, or a child that outlived its parent would keep the port.
        self.actions.push_back(Action::KillTree);
        self.actions.push_back(Action::Forget);
        self.actions.push_back(Action::Report(report));
    }

    /// The holder says anew what runs, and this runs. `lost` is since when it could not be asked.
    pub fn handle_found(&mut self, process: u32, lost: Instant, now: Instant) {
        self.handle_spawned(process, now);
        let State::Stopping { step, .. } = &mut self.state else { return };
        match step {
            StopStep::Asked { at, .. } if *at + SIGNAL_UNSURE >= lost => {
                *at = now;
                self.actions.push_back(Action::Signal(self.settings.stop.signal));
            }
            StopStep::Killed { again_at } => {
                *again_at = now + KILL_AGAIN;
                self.actions.push_back(Action::KillTree);
            }
            StopStep::Asked { .. } | StopStep::BeforeSpawn(_) => {}
        }
    }

    /// The holder says anew what runs, and this does not, nor is its end known.
    pub fn handle_missing(&mut self, now: Instant) {
        match &self.state {
            State::Starting { pid: None, .. } => self.actions.push_back(Action::Spawn),
            State::Stopping { pid: None, .. } => self.handle_spawn_failed(String::new(), now),
            State::Starting { .. }
            | State::Doubtful { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. } => self.handle_exited(Ended::Unknown, now),
            State::Backoff { .. } | State::Ended { .. } | State::Stopped => {}
        }
    }

    /// `poll_timeout` has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|at| now < at) {
            return;
        }
        match &mut self.state {
            State::Starting { .. } | State::Doubtful { .. } => {
                let pid = self.pid();
                let detail = std::mem::take(&mut self.detail);
                let report = Report::StartupTimeout(self.settings.startup_timeout, detail);
                self.actions.push_back(Action::Report(report));
                self.ask_to_stop(pid, Hardness::SkipDrain, AfterStop::Restart, now);
            }
            State::Draining { .. } => self.handle_drained(now),
            State::Stopping { pid, after, .. } => {
                let (pid, after) = (*pid, *after);
                self.ask_to_stop(pid, Hardness::Kill, after, now);
            }
            State::Backoff { .. } => {
                self.restarts += 1;
                self.start(now);
            }
            State::Ready { .. } | State::Unready { .. } | State::Ended { .. } | State::Stopped => {}
        }
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Starting { since, .. } | State::Doubtful { since, .. } => {
                Some(*since + self.settings.startup_timeout)
            }
            State::Draining { until, .. } | State::Backoff { until, .. } => Some(*until),
            State::Stopping { step: StopStep::Asked { kill_at, .. }, .. } => Some(*kill_at),
            State::Stopping { step: StopStep::Killed { again_at }, .. } => Some(*again_at),
            State::Stopping { step: StopStep::BeforeSpawn(_), .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Ended { .. }
            | State::Stopped => None,
        }
    }

    /// What it wants done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What the table may say of it now.
    pub fn routing(&self) -> Routing {
        match &self.state {
            State::Starting { .. } | State::Doubtful { .. } => Routing::Candidate,
            State::Ready { .. } => Routing::Ready,
            State::Unready { since, .. } => Routing::Unready(*since),
            State::Draining { .. } | State::Stopping { .. } => Routing::Draining,
            State::Backoff { .. } | State::Ended { .. } | State::Stopped => Routing::Absent,
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
            State::Stopping { after, .. } => *after == AfterStop::Gone,
            State::Starting { .. }
            | State::Doubtful { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Backoff { .. }
            | State::Ended { .. } => false,
        }
    }

    /// Nothing of it is left: the slot may be dropped.
    pub fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// It waits for its requests to end.
    pub fn is_draining(&self) -> bool {
        matches!(self.state, State::Draining { .. })
    }

    /// Its process, while one runs.
    pub fn pid(&self) -> Option<u32> {
        match &self.state {
            State::Starting { pid, .. } | State::Stopping { pid, .. } => *pid,
            State::Doubtful { pid, .. }
            | State::Ready { pid, .. }
            | State::Unready { pid, .. }
            | State::Draining { pid, .. } => Some(*pid),
            State::Backoff { .. } | State::Ended { .. } | State::Stopped => None,
        }
    }

    /// What `status` shows.
    pub fn status(&self, now: Instant) -> Status {
        let left = |until: Instant| now.until(until);
        let (state, pid, waiting_on) = match &self.state {
            State::Starting { pid: None, .. } => ("starting", None, Some(WaitingOn::Spawn)),
            State::Starting { since, .. } | State::Doubtful { since, .. } => {
                let left = left(*since + self.settings.startup_timeout);
                ("starting", self.pid(), Some(WaitingOn::Readiness(left, self.detail.clone())))
            }
            State::Ready { pid, .. } => ("ready", Some(*pid), None),
            State::Unready { pid, .. } => {
                ("unready", Some(*pid), Some(WaitingOn::ReadinessAgain(self.detail.clone())))
            }
            State::Draining { pid, until } => ("draining", Some(*pid), Some(WaitingOn::Drain(left(*until)))),
            State::Stopping { pid, step, .. } => {
                let waits = match step {
                    StopStep::BeforeSpawn(_) => WaitingOn::Spawn,
                    StopStep::Asked { kill_at, .. } => WaitingOn::Exit(left(*kill_at)),
                    StopStep::Killed { .. } => WaitingOn::Kill,
                };
                ("stopping", *pid, Some(waits))
            }
            State::Backoff { until, why } => {
                ("backoff", None, Some(WaitingOn::Restart(left(*until), why.clone())))
            }
            State::Ended { .. } | State::Stopped => ("stopped", None, None),
        };
        Status { state, pid, restarts: self.restarts, waiting_on }
    }

    /// Why it is down or not ready, where that is known.
    pub fn detail(&self) -> Option<&str> {
        match &self.state {
            State::Backoff { why, .. } | State::Ended { why } => Some(why),
            State::Starting { .. } | State::Doubtful { .. } | State::Unready { .. }
                if !self.detail.is_empty() =>
            {
                Some(&self.detail)
            }
            State::Starting { .. }
            | State::Doubtful { .. }
            | State::Unready { .. }
            | State::Ready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Stopped => None,
        }
    }
}

#[cfg(test)]
mod tests;
