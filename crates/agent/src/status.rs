//! What `status` shows, and what a follower of a rollout sees: plain values made by the controller.
//!
//! The admin API has wire types of its own; these are not serialised.

use std::collections::BTreeMap;

use wire::record::{Receipt, RolloutRecord};

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
    /// Instances in order of their ids.
    pub instances: Vec<InstanceStatus>,
    /// Requests answered since the state directory was made.
    pub requests_total: u64,
    /// Answered 5xx.
    pub errors_total: u64,
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
