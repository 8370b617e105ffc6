//! `[service.NAME]` in its checked form: a program, how it is run, watched, stopped and replaced.

use std::path::PathBuf;
use std::time::Duration;

use super::{Rollout, Traffic};
use crate::id::{ServiceName, Version};

/// `[service.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// First release: an absolute path to a directory, an archive or a single executable.
    pub release: PathBuf,
    /// Version of that first release.
    pub version: Version,
    /// Nobody wrote that version: it was made from the release's name and content when the file was read.
    pub version_is_derived: bool,
    /// Program and arguments; `${PORT}` and the other variables are still in it.
    pub command: Vec<String>,
    /// How many instances of the stable release, at least 1.
    pub instances: u32,
    /// How traffic reaches it.
    pub mode: Mode,
    /// The program listens there and nowhere else; `None`: on a `${PORT}` that is chosen for each instance.
    pub port: Option<u16>,
    /// Declared variables, in the file's order.
    pub environment: Vec<(String, String)>,
    /// Names taken over from the environment `up` was started with.
    pub environment_inherit: Vec<String>,
    /// Absolute path of a file of `NAME=value` lines, read anew at each start; declared variables win over it.
    /// Its values are never recorded, shown or logged.
    pub environment_file: Option<PathBuf>,
    /// Absolute, or relative to the release; `None`: the release.
    pub working_directory: Option<PathBuf>,
    /// As whom its processes run; `None`: as whoever runs Handover.
    pub account: Option<Account>,
    /// File mode creation mask; `None`: as `up` was started with.
    pub umask: Option<u32>,
    /// What one instance may use.
    pub limits: Limits,
    /// When an instance may take traffic.
    pub readiness: Readiness,
    /// When a running instance is taken for hung and restarted; `None`: only by `restart.unready_after`.
    pub liveness: Option<Liveness>,
    /// How an instance is stopped.
    pub stop: Stop,
    /// What happens when one ends by itself.
    pub restart: Restart,
    /// How it is told to read its configuration again; `None`: it cannot.
    pub reload: Option<Reload>,
    /// Commands around the life of an instance.
    pub hooks: Hooks,
    /// What has to be there before its instances start; in the file's order, no cycles.
    pub depends_on: Vec<Dependency>,
    /// How its output is kept.
    pub output: Output,
    /// How requests reach its instances.
    pub traffic: Traffic,
    /// How a new release takes over.
    pub rollout: Rollout,
}

/// `[service.NAME.readiness]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// By what.
    pub check: ReadinessCheck,
    /// Between two checks of an instance that is already ready, and of one slow to start.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Successes in a row that make it ready.
    pub rise: u32,
    /// Failures in a row that make it unready.
    pub fall: u32,
    /// From spawn to ready; later is a failure.
    pub startup_timeout: Duration,
}

/// What makes an instance ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadinessCheck {
    /// GET of that path answers 200 to 399.
    Http(String),
    /// Its port accepts a connection.
    Tcp,
    /// It sends READY=1 to `NOTIFY_SOCKET`.
    Notify,
    /// A line of its output matches that regular expression.
    Log(String),
    /// That command, run inside the release as the service's account, exits with 0.
    Command(Vec<String>),
    /// It has run for that long.
    AliveFor(Duration),
}

/// `[service.NAME.stop]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Sent to the main process.
    pub signal: StopSignal,
    /// For requests in flight, before the signal.
    pub drain_timeout: Duration,
    /// From the signal to the kill of the whole tree.
    pub grace_period: Duration,
}

/// How a process is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM; on Windows the stop chain.
    Graceful,
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    HangUp,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
    /// SIGABRT: with a core dump, where the system keeps one.
    Abort,
    /// SIGKILL: no grace.
    Kill,
}

/// `[service.NAME.restart]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// When.
    pub policy: RestartPolicy,
    /// Before the first restart; doubles with each one.
    pub delay: Duration,
    /// The longest it becomes.
    pub max_delay: Duration,
    /// Ready for this long: the delay starts over.
    pub reset_after: Duration,
    /// Exit codes that count as success, beside 0.
    pub success_codes: Vec<i32>,
    /// Exit codes that lead to a restart whatever the policy says.
    pub restart_codes: Vec<i32>,
    /// Exit codes after which it stays down whatever the policy says; they win over `restart_codes`.
    pub stop_codes: Vec<i32>,
    /// Unready for this long without a liveness check: restarted. Zero: never.
    pub unready_after: Duration,
}

/// Which ends lead to a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Every end.
    Always,
    /// Any end but exit code 0.
    OnFailure,
    /// None.
    Never,
}

/// How traffic reaches a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Through the proxy, to a port of each instance.
    Proxied,
    /// Not at all: it has no port, and no proxy knows it.
    Worker,
}

/// Whose rights a process has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Name or number of the user.
    pub user: String,
    /// Name or number of the group; `None`: the user's own. Supplementary groups are the user's.
    pub group: Option<String>,
}

/// `[service.NAME.limits]`: what one instance may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Descriptors (RLIMIT_NOFILE); `None`: what `up` was started with.
    pub open_files: Option<u64>,
    /// Bytes of memory of the whole tree, by its cgroup; `None`: no limit.
    pub memory: Option<u64>,
}

/// `[service.NAME.liveness]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    /// By what.
    pub check: LivenessCheck,
    /// Between two checks; for the watchdog, the longest silence.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Failures in a row that make it hung; 1 for the watchdog.
    pub fall: u32,
}

/// What shows that an instance is not hung.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LivenessCheck {
    /// GET of that path answers 200 to 399.
    Http(String),
    /// Its port accepts a connection.
    Tcp,
    /// That command, run inside the release as the service's account, exits with 0.
    Command(Vec<String>),
    /// It sends WATCHDOG=1 to `NOTIFY_SOCKET`.
    Watchdog,
}

/// `[service.NAME.reload]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reload {
    /// By what.
    pub by: ReloadBy,
    /// For the command, and for READY=1 after RELOADING=1.
    pub timeout: Duration,
}

/// What tells an instance to read its configuration again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadBy {
    /// A signal to its main process.
    Signal(StopSignal),
    /// A command inside the release, with the pid in `HANDOVER_PID`.
    Command(Vec<String>),
}

/// `[service.NAME.hooks]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Hooks {
    /// Before each start of an instance; if it fails, that start failed.
    pub before_start: Option<Hook>,
    /// After an instance got ready.
    pub after_ready: Option<Hook>,
    /// Before the stop signal, after its requests have finished.
    pub before_stop: Option<Hook>,
    /// After each end of an instance, before the next start in its slot.
    pub after_exit: Option<Hook>,
}

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Program and arguments, expanded like the service's command.
    pub command: Vec<String>,
    /// For its run; its whole tree is killed then.
    pub timeout: Duration,
}

/// One entry of `depends_on`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// On which service.
    pub service: ServiceName,
    /// How far that has to be.
    pub until: DependsUntil,
}

impl Default for Output {
    /// 80 MiB a service: a day of a chatty one, and never a full disk.
    fn default() -> Self {
        Self { max_size: 10 << 20, max_age: None, files: 8 }
    }
}

/// How far a dependency has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependsUntil {
    /// One of its processes runs.
    Started,
    /// One of its instances is ready.
    Ready,
}

/// `[service.NAME.output]`: its log files, `logs/NAME.log` and older ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// A file of this size is set aside.
    pub max_size: u64,
    /// A file whose first line is this old is set aside; `None`: whatever its age.
    pub max_age: Option<Duration>,
    /// Files kept, the current one included; at least 1.
    pub files: u32,
}
