//! The seam between decisions and the world: what the agent asks for, and what it hears.
//!
//! Requests return at once; their outcome comes back as an `Event`. Only `Store::write` is synchronous: when
//! it returns, the record is on disk.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use model::id::{InstanceId, ReleaseId, ServiceName, Version};
use model::time::{Instant, WallTime};
use wire::link::{ExitStatus, StopLevel};
use wire::record::Record;
use wire::routes::RouteTable;
use wire::traffic::{CertificateNews, Counters};
use wire::vault::ListenerUse;

/// Reads the clocks.
pub trait Clock {
    /// Monotonic.
    fn now(&self) -> Instant;
    /// For people and records only.
    fn wall(&self) -> WallTime;
}

/// Processes, sockets and ports, by way of the holder.
pub trait Fleet {
    /// Ask; the outcome is an event.
    fn request(&mut self, request: FleetRequest);
}

/// The proxies.
pub trait Traffic {
    /// Writes `run/routes`, then gives the table to every living proxy. Each answers `TableApplied`.
    fn publish(&mut self, table: &RouteTable);
    /// Every proxy stops accepting, finishes what is in flight within `deadline`, and exits.
    fn drain(&mut self, deadline: Duration);
    /// Every proxy sends its counters now.
    fn report_now(&mut self, token: u64);
}

/// Files.
pub trait Store {
    /// Makes the record durable.
    ///
    /// # Errors
    /// When it is not durable; the former one still is.
    fn write(&mut self, record: &Record) -> Result<(), StoreError>;
    /// Adds to history and events; a failure is reported by the implementation, nothing depends on it.
    fn append(&mut self, entry: &HistoryEntry);
    /// Copies a release into `releases/`; answers `ReleasePrepared` or `ReleaseRefused`.
    fn prepare(&mut self, request: PrepareRelease);
    /// Deletes a release's directory.
    fn remove_release(&mut self, service: &ServiceName, directory: &str);
}

/// Names of endpoints.
pub trait Names {
    /// Looks these up, again whenever an answer is over, and no others any more; each lookup that says something else
    /// than the one before answers `LookedUp`.
    fn look_up(&mut self, names: &BTreeSet<String>);
}

/// People: the terminal of `up`, Handover's own log.
pub trait Notify {
    /// One line for people.
    fn announce(&mut self, notice: &Notice);
}

/// The record could not be written.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the record could not be written to {path}: {why}")]
pub struct StoreError {
    /// Which file.
    pub path: String,
    /// The cause.
    pub why: String,
}

/// What the agent asks of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetRequest {
    /// Bind and listen; answers `Bound` or `BindFailed`. A listener that is bound as asked answers `Bound`.
    Bind {
        /// Name in the manifest, `admin` or `admin.sock`.
        name: String,
        /// Who accepts.
        used_by: ListenerUse,
        /// `IP:PORT` or a path.
        address: String,
        /// Accept queue.
        backlog: u32,
        /// Where the address is a default and taken: use port 0 instead.
        fall_back_to_any_port: bool,
    },
    /// Start a process; answers `Spawned`, `SpawnFailed` or `PortTaken`.
    Spawn(Box<SpawnRequest>),
    /// Close the listener: nothing routes to it any more. A proxy accepts what is queued there before it lets go.
    Unbind {
        /// Name in the manifest.
        name: String,
    },
    /// Signal its main process.
    Signal {
        /// Which.
        instance: InstanceId,
        /// Which signal.
        signal: model::manifest::StopSignal,
    },
    /// It said MAINPID: that process of its tree is the main one from now on; answers `MainPid`, or nothing
    /// where the process is not in its tree.
    MainPid {
        /// Which.
        instance: InstanceId,
        /// The process.
        pid: u32,
    },
    /// Look once whether an instance is well; answers `Checked` within `timeout`.
    Check(Box<CheckRequest>),
    /// Run a command beside an instance: a hook or a reload; answers `TaskEnded` within `timeout`. Its output is
    /// kept with the instance's.
    Run(Box<TaskRequest>),
    /// Nobody waits for that task any more: kill its tree. No answer.
    Cancel {
        /// Which.
        task: TaskId,
    },
    /// Kill its whole tree; answers `Exited` if the main process still ran.
    KillTree {
        /// Which.
        instance: InstanceId,
    },
    /// Its end is noted: the slot is free again.
    Forget {
        /// Which.
        instance: InstanceId,
    },
    /// Everything has ended; the holder may exit.
    Stopped,
}

/// One command run beside an instance. Ids grow within one life of an agent; what a former agent has left running
/// is killed by the fleet before its first inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(pub u64);

/// A command to run beside an instance.
#[derive(Clone, PartialEq, Eq)]
pub struct TaskRequest {
    /// Its id.
    pub task: TaskId,
    /// For people and the output's prefix: `before-start`, `after-ready`, `before-stop`, `after-exit`, `reload`,
    /// `readiness`, `liveness`.
    pub purpose: &'static str,
    /// What it is run beside: its release, its account, its environment, and a command of its own. It gets no
    /// notify socket, no port check, no limit of its own.
    pub spawn: SpawnRequest,
    /// For its whole run; its tree is killed then.
    pub timeout: Duration,
}

impl std::fmt::Debug for TaskRequest {
    /// Its command and environment may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("TaskRequest");
        shown.field("task", &self.task).field("purpose", &self.purpose);
        shown.field("instance", &self.spawn.instance).finish_non_exhaustive()
    }
}

/// One look at an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckRequest {
    /// Which.
    pub instance: InstanceId,
    /// What for.
    pub purpose: CheckPurpose,
    /// How.
    pub by: CheckBy,
    /// For the whole check.
    pub timeout: Duration,
}

/// What a check is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckPurpose {
    /// May it take traffic.
    Readiness,
    /// Is it hung.
    Liveness,
}

/// How an instance is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckBy {
    /// GET answers 200 to 399.
    Http {
        /// Where.
        address: SocketAddr,
        /// Path and query.
        path: String,
    },
    /// A connection is accepted.
    Tcp {
        /// Where.
        address: SocketAddr,
    },
    /// A command exits with 0; its own `timeout` is that of the check.
    Command(Box<TaskRequest>),
}

/// What one datagram to NOTIFY_SOCKET said (sd_notify's lines; those that are not here are ignored).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notified {
    /// READY=1.
    pub ready: bool,
    /// RELOADING=1.
    pub reloading: bool,
    /// STOPPING=1.
    pub stopping: bool,
    /// WATCHDOG=1.
    pub watchdog: bool,
    /// EXTEND_TIMEOUT_USEC.
    pub extend_timeout: Option<Duration>,
    /// MAINPID.
    pub main_pid: Option<u32>,
    /// STATUS, cut to one short line.
    pub status: Option<String>,
}

/// An instance to start.
#[derive(Clone, PartialEq, Eq)]
pub struct SpawnRequest {
    /// Its slot.
    pub instance: InstanceId,
    /// Directory of its release: the working directory, and where `./program` is looked up.
    pub release_directory: PathBuf,
    /// Program and arguments, variables expanded.
    pub command: Vec<String>,
    /// Declared variables and PORT, HANDOVER_*; the driver adds PATH, LANG, … of DECISIONS 7.
    pub environment: Vec<(String, String)>,
    /// `${PORT}`: the driver checks by bind that it is free. `None`: it has none.
    pub port: Option<u16>,
    /// The port is the service's own: where it is taken there is no other; `SpawnFailed` names who has it.
    pub port_is_fixed: bool,
    /// Make NOTIFY_SOCKET and report what is said there as `Notified`.
    pub notify: bool,
    /// Sets WATCHDOG_USEC.
    pub watchdog: Option<Duration>,
    /// A line of its output that matches is reported as `LogMatched`, once.
    pub ready_log: Option<String>,
    /// See `model::manifest::Service`; read by the driver at each start.
    pub environment_file: Option<PathBuf>,
    /// Absolute, or relative to the release.
    pub working_directory: Option<PathBuf>,
    /// As whom.
    pub account: Option<model::manifest::Account>,
    /// File mode creation mask.
    pub umask: Option<u32>,
    /// What it may use.
    pub limits: model::manifest::Limits,
    /// How its output is kept.
    pub output: model::manifest::Output,
    /// How the holder stops it when it has to do so alone.
    pub stop: model::manifest::Stop,
}

impl std::fmt::Debug for SpawnRequest {
    /// Arguments and values of variables may be secrets, and what is printed gets into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.environment.iter().map(|(name, _)| name.as_str()).collect();
        let mut shown = f.debug_struct("SpawnRequest");
        shown.field("instance", &self.instance).field("program", &self.command.first());
        shown.field("environment", &names).field("port", &self.port).finish_non_exhaustive()
    }
}

/// A release to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareRelease {
    /// Service.
    pub service: ServiceName,
    /// Its id.
    pub release: ReleaseId,
    /// Absolute path of a directory, an archive or a single executable.
    pub source: PathBuf,
    /// First word of the command, to check that `./program` is in the release.
    pub program: String,
    /// The other words: where the program is not of the release (`node server.js`), they name what is.
    pub arguments: Vec<String>,
    /// A release of that version with that tree hash is on disk: the source must have the same.
    pub expected_hash: Option<String>,
}

/// Which line of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// What the agent hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The link to a holder is up (again) and this is all that runs.
    Inventory(Inventory),
    /// The link to the holder is down; a rescue is under way.
    HolderLost,
    /// A listener is bound to that address.
    Bound {
        /// Which.
        name: String,
        /// What it has.
        address: String,
    },
    /// It is not.
    BindFailed {
        /// Which.
        name: String,
        /// For people.
        error: String,
    },
    /// The process runs.
    Spawned {
        /// Which.
        instance: InstanceId,
        /// Its process.
        pid: u32,
    },
    /// Nothing of it runs.
    SpawnFailed {
        /// Which.
        instance: InstanceId,
        /// For people.
        error: String,
    },
    /// The chosen port is in use; choose another.
    PortTaken {
        /// Which.
        instance: InstanceId,
        /// The port.
        port: u16,
    },
    /// Its main process ended.
    Exited {
        /// Which.
        instance: InstanceId,
        /// How.
        status: ExitStatus,
    },
    /// It sent a datagram to its notify socket. What of all it said holds on (READY, RELOADING, STOPPING, STATUS, a
    /// MAINPID that was not carried out) is said again, in one, to a next agent after its first inventory.
    Notified {
        /// Which.
        instance: InstanceId,
        /// What it said.
        said: Notified,
    },
    /// `FleetRequest::MainPid` was carried out: if its end had been told before, it runs again.
    MainPid {
        /// Which.
        instance: InstanceId,
        /// Its main process.
        pid: u32,
    },
    /// A line of its output matched `ready_log`; said again to a next agent after its first inventory.
    LogMatched {
        /// Which.
        instance: InstanceId,
    },
    /// A check's outcome.
    Checked {
        /// Which.
        instance: InstanceId,
        /// What for.
        purpose: CheckPurpose,
        /// Why not, one sentence.
        result: Result<(), String>,
    },
    /// A task has ended, could not be started, or was killed at its time limit.
    TaskEnded {
        /// Which.
        task: TaskId,
        /// Why it did not end with exit code 0, one sentence.
        result: Result<(), String>,
    },
    /// The instance listens on another port than PORT, seen while it does not get ready.
    ListensElsewhere {
        /// Which.
        instance: InstanceId,
        /// Where it listens.
        ports: Vec<u16>,
    },
    /// A proxy's link is up; it has no table from us yet.
    ProxyUp {
        /// Which.
        generation: u64,
        /// Its process.
        pid: u32,
    },
    /// A proxy is gone.
    ProxyGone {
        /// Which.
        generation: u64,
    },
    /// All threads of a proxy use a table.
    TableApplied {
        /// Which proxy.
        proxy: u64,
        /// Which table.
        generation: u64,
    },
    /// In one proxy nothing is in flight on an endpoint that a table lists as draining.
    Drained {
        /// Which proxy.
        proxy: u64,
        /// Which endpoint.
        instance: InstanceId,
        /// Which table.
        generation: u64,
    },
    /// A probe's outcome from the newest proxy.
    Probe {
        /// Which endpoint.
        instance: InstanceId,
        /// `None`: a candidate still failing.
        healthy: Option<bool>,
        /// About the last probe.
        detail: String,
    },
    /// Counters of a proxy.
    Counters {
        /// Which proxy.
        proxy: u64,
        /// What it counted.
        counters: Box<Counters>,
    },
    /// Something is to be told of a certificate.
    Certificate(CertificateNews),
    /// A release is under `releases/`.
    ReleasePrepared {
        /// Service.
        service: ServiceName,
        /// Its id.
        release: ReleaseId,
        /// Absolute path.
        directory: PathBuf,
        /// sha256 over the tree.
        hash: String,
    },
    /// A release could not be taken.
    ReleaseRefused {
        /// Service.
        service: ServiceName,
        /// Its id.
        release: ReleaseId,
        /// What, why, what to do.
        error: String,
    },
    /// A name was looked up.
    LookedUp {
        /// Which.
        name: String,
        /// Its addresses, or why there are none, one sentence.
        result: Result<Vec<IpAddr>, String>,
    },
    /// The last output lines of an instance, sent with or before its `Exited`, and while it does not get ready.
    Output {
        /// Which.
        instance: InstanceId,
        /// Newest last; at most 20.
        lines: Vec<String>,
    },
    /// The holder was asked to stop.
    StopAsked {
        /// How hard.
        level: StopLevel,
    },
    /// `poll_timeout` has come.
    Timeout,
}

/// What runs, as the holder knows it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Inventory {
    /// Listeners: name and address.
    pub listeners: Vec<(String, String)>,
    /// Instances that run: id and process.
    pub running: Vec<(InstanceId, u32)>,
    /// Instances that have ended and were not forgotten.
    pub ended: Vec<(InstanceId, ExitStatus)>,
    /// Living proxies: generation and process.
    pub proxies: Vec<(u64, u32)>,
    /// The last table written to `run/routes`, where there is one.
    pub table: Option<RouteTable>,
    /// Process of the holder.
    pub holder: u32,
}

/// What an operator asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeployRequest {
    /// Service.
    pub service: ServiceName,
    /// Absolute path of a directory, an archive or a single executable.
    pub source: PathBuf,
    /// `None`: the source's name, cut at an archive's ending.
    pub version: Option<Version>,
    /// End a running rollout first.
    pub replace: bool,
    /// Although its verdict is failed.
    pub force: bool,
    /// Who asks, for history.
    pub actor: String,
    /// The client's key of this request: when it asks again with it, it gets the same answer.
    pub operation: Option<String>,
}

/// One entry for history and events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// When.
    pub at: WallTime,
    /// Service, where it is about one.
    pub service: Option<ServiceName>,
    /// `rollout`, `instance`, `listener`, `proxy`, …
    pub subject: &'static str,
    /// One sentence.
    pub text: String,
    /// Who or what caused it.
    pub actor: String,
    /// JSON of the final rollout record, where this is one.
    pub rollout: Option<Box<wire::record::RolloutRecord>>,
}

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Went as wanted.
    Info,
    /// Someone should look.
    Warning,
    /// Something does not work.
    Error,
}

/// One line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// How much it matters.
    pub severity: Severity,
    /// Service, where it is about one.
    pub service: Option<ServiceName>,
    /// Rollout or operation, where it is about one.
    pub rollout: Option<u64>,
    /// The release that rollout leads to.
    pub release: Option<String>,
    /// One sentence.
    pub text: String,
}

/// An instance's address as `status` shows it.
pub type Address = SocketAddr;

/// A manifest to make true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyRequest {
    /// The checked manifest.
    pub manifest: wire::manifest::Manifest,
    /// Its source text, for the record.
    pub source: String,
    /// Absolute path of its file.
    pub path: String,
    /// What services may inherit of the caller's environment.
    pub environment: Vec<(String, String)>,
    /// Who asks, for history.
    pub actor: String,
    /// The client's key of this request: when it asks again with it, it gets the same answer.
    pub operation: Option<String>,
}

/// One key that differs between the manifest last applied and a given one. Values are never in it: some are secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// As the file names it.
    pub key: String,
    /// The service it is about.
    pub service: Option<String>,
    /// What making it true does.
    pub effect: Effect,
}

/// What a change does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// It holds at once, and no process is touched.
    Live,
    /// A rollout to that release.
    Rollout {
        /// The release it leads to, as shown.
        release: String,
        /// Why requests wait or are refused meanwhile, where they do.
        gap: Option<String>,
    },
    /// A service, listener or route that was not there.
    Added,
    /// One that is not there any more.
    Removed,
    /// A listener gets another address.
    Rebound,
    /// It holds from the next start of that on, and what to type for it.
    NextStart(String),
    /// It cannot be changed in what runs, and why.
    Refused(String),
}

/// A manifest that is being made true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// What differed.
    pub changes: Vec<Change>,
    /// Rollouts that follow from it: service and id.
    pub rollouts: Vec<(ServiceName, u64)>,
    /// Operations that follow from it: service and id.
    pub operations: Vec<(ServiceName, u64)>,
}
