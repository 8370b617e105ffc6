//! What is said of an instance: how it ended, what it waits for, what others should know.

use std::fmt;
use std::time::Duration;

use super::hooks::HookKind;
use crate::restart::{CRASH_LOOP_ENDS, End};
use crate::time::Instant;

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

/// A process ended by signal N counts as exit code 128 + N, as shells say it.
const SIGNAL_CODE: i32 = 128;
/// By which the kernel ends what uses too much memory.
const SIGKILL: i32 = 9;

impl Ended {
    pub(super) fn end(self) -> End {
        match self {
            Self::Code(code) => End::Code(code),
            Self::Signal(number) => End::Code(SIGNAL_CODE.saturating_add(number)),
            Self::OutOfMemory => End::Code(SIGNAL_CODE + SIGKILL),
            Self::Unknown => End::Failed,
        }
    }

    /// Its exit code, where it had one.
    pub fn code(self) -> Option<i32> {
        match self {
            Self::Code(code) => Some(code),
            Self::Signal(_) | Self::OutOfMemory | Self::Unknown => None,
        }
    }

    /// The signal that ended it, where one did.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Signal(number) => Some(number),
            Self::OutOfMemory => Some(SIGKILL),
            Self::Code(_) | Self::Unknown => None,
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
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}

/// What one message to its notify socket said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said {
    /// READY=1.
    pub ready: bool,
    /// STOPPING=1.
    pub stopping: bool,
    /// WATCHDOG=1.
    pub watchdog: bool,
    /// EXTEND_TIMEOUT_USEC.
    pub extend_timeout: Option<Duration>,
    /// MAINPID.
    pub main_pid: Option<u32>,
}

/// How hard an instance is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hardness {
    /// Requests in flight finish first.
    Drain,
    /// The signal comes at once, or after the `before_stop` hook.
    SkipDrain,
    /// The tree is killed at once; no hook runs any more.
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

/// A start that cannot be had sooner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartDenied {
    /// Its process runs, or starts.
    #[error("it runs already")]
    Running,
    /// It is asked to stop, or stopped.
    #[error("it is being stopped")]
    Stopping,
}

/// A restart that nothing calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not hung")]
pub struct NotHung;

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

/// What happened to an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// It may take requests, that long after its spawn.
    Ready(Duration),
    /// It lost its readiness.
    Unready(String),
    /// It has it again.
    ReadyAgain,
    /// It is taken for hung, and why; it is restarted when `try_kill_hung` is called.
    Hung(String),
    /// A hook did not end with exit code 0, and why; nothing else comes of it.
    HookFailed(HookKind, String),
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
    /// The end of that hook, for at most that long.
    Hook(HookKind, Duration),
    /// Its readiness, for at most that long; what the last check said.
    Readiness(Duration, String),
    /// The readiness it lost; what the last check said.
    ReadinessAgain(String),
    /// Its next start.
    Restart {
        /// So long.
        left: Duration,
        /// Why it is down.
        why: String,
        /// Ends in a row.
        ends: u32,
    },
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
            Self::Hook(hook, left) => {
                write!(f, "waits for its {hook} hook to end, for at most {}", seconds(left))
            }
            Self::Readiness(left, detail) if detail.is_empty() => {
                write!(f, "waits to become ready, for at most {}", seconds(left))
            }
            Self::Readiness(left, detail) => {
                write!(f, "waits to become ready, for at most {}: {detail}", seconds(left))
            }
            Self::ReadinessAgain(detail) => write!(f, "waits to become ready again: {detail}"),
            Self::Restart { left, why, ends } => {
                if *ends >= CRASH_LOOP_ENDS {
                    write!(f, "crash loop: {ends} ends in a row; ")?;
                }
                write!(f, "starts again in {}: it {why}", seconds(left))
            }
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
