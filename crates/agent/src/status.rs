//! What `status` shows, and what a follower of a rollout sees: plain values made by the controller.
//!
//! The admin API has wire types of its own; these are not serialised.

use std::collections::BTreeMap;

use model::manifest::{Mode, Strategy};
use wire::record::{OperationKind, Receipt, RolloutRecord};

/// Everything `status` shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Process of the holder.
    pub holder: Option<u32>,
    /// Newest proxy: process and generation.
    pub proxy: Option<(u32, u64)>,
    /// Draining proxies: process, generation, open connections.
    pub draining_proxies: Vec<(u32, u64, u64)>,
    /// Listener addresses by name (with `admin`).
    pub listeners: BTreeMap<String, ListenerStatus>,
    /// By service.
    pub services: BTreeMap<String, ServiceStatus>,
    /// What people should know: an unwritable record, a key of the file that differs, …
    pub warnings: Vec<String>,
    /// Everything is being stopped.
    pub stopping: bool,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenerStatus {
    /// The address it has; `None` while it is not bound.
    pub address: Option<String>,
    /// Why it is not bound.
    pub error: Option<String>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceStatus {
    /// The promoted release.
    pub stable: Option<String>,
    /// The warm release and how long it stays.
    pub warm: Option<(String, u64)>,
    /// The rollout that runs or bakes.
    pub rollout: Option<RolloutStatus>,
    /// The last final one.
    pub last_rollout: Option<RolloutStatus>,
    /// The operation that runs: a restart, a reload, a stop, a start, a change of its number.
    pub operation: Option<OperationStatus>,
    /// How many instances of the stable release there should be.
    pub desired_instances: u32,
    /// A person has stopped it; `start` undoes that.
    pub stopped: bool,
    /// Its processes are not ours: only its endpoints are known.
    pub fronted: bool,
    /// It was taken out of the manifest, and is gone once nothing of it runs.
    pub removed: bool,
    /// How a new release takes over.
    pub strategy: Option<Strategy>,
    /// How traffic reaches it.
    pub mode: Option<Mode>,
    /// Why nothing of it is started yet, one sentence.
    pub waiting_on: Option<String>,
    /// Instances in order of their ids.
    pub instances: Vec<InstanceStatus>,
    /// Requests answered since the state directory was made.
    pub requests_total: u64,
    /// Answered 5xx.
    pub errors_total: u64,
}

/// An operation that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationStatus {
    /// Its id.
    pub id: u64,
    /// Which.
    pub kind: OperationKind,
    /// Who asked.
    pub actor: String,
    /// What it waits for, one sentence.
    pub waiting_on: Option<String>,
}

/// An operation that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationAccepted {
    /// By which it is followed.
    pub id: u64,
    /// What was asked for was true already, one sentence: the operation has ended.
    pub already: Option<String>,
    /// It is done all the same, but someone should know this.
    pub warning: Option<String>,
}

/// What a follower of an operation gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationProgress {
    /// Its id.
    pub id: u64,
    /// Whose.
    pub service: String,
    /// Which.
    pub kind: OperationKind,
    /// Lines after the sequence that was asked for.
    pub lines: Vec<ProgressLine>,
    /// What it waits for, one sentence.
    pub waiting_on: Option<String>,
    /// `None` while it runs; then whether what was asked is true, or why not.
    pub outcome: Option<Result<(), String>>,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutStatus {
    /// The recorded facts.
    pub record: RolloutRecord,
    /// Which step, for people.
    pub step: Option<String>,
    /// Share of the new release in percent.
    pub weight_percent: u32,
    /// What it waits for, one sentence.
    pub waiting_on: Option<String>,
    /// What it cost so far.
    pub receipt: Receipt,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceStatus {
    /// Its id.
    pub id: String,
    /// Its process, while one runs.
    pub pid: Option<u32>,
    /// Its release.
    pub version: String,
    /// `starting, ready, unready, warm, draining, stopping, backoff, stopped`.
    pub state: &'static str,
    /// `127.0.0.1:PORT`.
    pub address: Option<String>,
    /// Starts after the first.
    pub restarts: u32,
    /// Why it is in that state, where there is more to say.
    pub detail: Option<String>,
    /// Backoff: until its next start.
    pub next_start_in_ms: Option<u64>,
    /// How often in a row it ended by itself without having been ready for long.
    pub ends_in_a_row: u32,
}

/// One line of a rollout's story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgressLine {
    /// Grows by one within a rollout and one life of the agent.
    pub sequence: u64,
    /// Milliseconds since the rollout began.
    pub at_ms: u64,
    /// One sentence.
    pub text: String,
}

/// What a follower of a rollout gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The rollout.
    pub rollout: RolloutStatus,
    /// Lines after the sequence that was asked for.
    pub lines: Vec<ProgressLine>,
    /// `deploy` may return: promoted with the old release unrouted, or final.
    pub decided: bool,
    /// Nothing will change any more.
    pub is_final: bool,
}
