//! The bodies of the admin API, as JSON both ways: what the agent answers and what the command line sends.
//!
//! Field names are a promise to scripts: they are added to, never renamed. Readers ignore what they do not
//! know, so the neighbouring version of the command line can talk to this agent. Nothing here holds values of
//! environment variables or manifest text.

mod look;
mod operate;
mod traffic;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use look::{
    ENTRIES_DEFAULT, ENTRIES_MAX, EventPage, EventReport, EventsQuery, HistoryPage, HistoryQuery,
    HistoryReport, LINES_DEFAULT, LINES_MAX, LogLine, LogPage, LogsQuery,
};
pub use operate::{
    ApplyPlan, ApplyReport, Begun, ChangeReport, DeployPlan, Effect, ManifestBody, ManifestReport, Operate,
    OperateBody, OperationAccepted, OperationKind, OperationProgress, OperationReport, ScaleBody,
};

pub use traffic::{
    CertificateInUse, GroupTraffic, InstanceTraffic, ListenerTraffic, RouteTraffic, SeriesReport,
    ServiceTraffic, SketchReport, TrafficReport,
};

/// Version of the status JSON.
pub const SCHEMA: u32 = 1;
/// Longest that one progress request may wait for news.
pub const PROGRESS_WAIT_MS_MAX: u64 = 10_000;

/// `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Handover's own processes.
    pub processes: Processes,
    /// Bound addresses by name; `admin` is the admin API on TCP.
    pub listeners: BTreeMap<String, ListenerReport>,
    /// By name.
    pub services: BTreeMap<String, ServiceReport>,
    /// Everything is being stopped.
    #[serde(default)]
    pub stopping: bool,
    /// What people should know.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Default for StatusReport {
    fn default() -> Self {
        Self {
            schema: SCHEMA,
            processes: Processes::default(),
            listeners: BTreeMap::new(),
            services: BTreeMap::new(),
            stopping: false,
            warnings: Vec::new(),
        }
    }
}

impl StatusReport {
    /// What may be read without a token: nothing that a service printed, nothing from the manifest's text.
    #[must_use]
    pub fn without_private_parts(mut self) -> Self {
        self.warnings.clear();
        for service in self.services.values_mut() {
            service.waiting_on = None;
            if let Some(operation) = &mut service.operation {
                operation.waiting_on = None;
            }
            for rollout in service.rollout.iter_mut().chain(&mut service.last_rollout) {
                rollout.output.clear();
                rollout.reason = None;
            }
            for instance in &mut service.instances {
                instance.detail = None;
            }
        }
        self
    }
}

/// Handover's own processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// `null` while the agent has no link to one.
    pub holder: Option<HolderProcess>,
    /// The newest; `null` while none runs.
    pub proxy: Option<ProxyProcess>,
    /// The one that answers.
    pub agent: AgentProcess,
}

/// The holder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderProcess {
    /// Its process id.
    pub pid: u32,
}

/// The newest proxy, and those that only finish what they have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyProcess {
    /// Its process id.
    pub pid: u32,
    /// Grows with every proxy that is started.
    pub generation: u64,
    /// Older ones that still run.
    #[serde(default)]
    pub draining: Vec<DrainingProxy>,
}

/// A proxy that no longer accepts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainingProxy {
    /// Its process id.
    pub pid: u32,
    /// Its generation.
    pub generation: u64,
    /// Client connections it still has.
    pub connections: u64,
}

/// The agent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentProcess {
    /// Its process id.
    pub pid: u32,
}

/// One listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerReport {
    /// The address it has; `null` while it is not bound.
    pub address: Option<String>,
    /// Why it is not bound.
    #[serde(default)]
    pub error: Option<String>,
}

/// One service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// The promoted release; `null` before the first promotion.
    pub stable: Option<String>,
    /// A former stable release kept running for an instant way back.
    #[serde(default)]
    pub warm: Option<WarmReport>,
    /// The rollout that runs or bakes; `null` once it is final.
    pub rollout: Option<RolloutReport>,
    /// The last one that is final.
    #[serde(default)]
    pub last_rollout: Option<RolloutReport>,
    /// In order of their ids.
    pub instances: Vec<InstanceReport>,
    /// Requests answered; `null` where Handover does not see them.
    pub requests_total: Option<u64>,
    /// Of these answered 5xx.
    pub errors_total: Option<u64>,
    /// Requests that are being answered now.
    #[serde(default)]
    pub in_flight: Option<u64>,
    /// How many instances of the stable release there should be.
    #[serde(default)]
    pub instances_wanted: Option<u32>,
    /// A person has stopped it.
    #[serde(default)]
    pub stopped: bool,
    /// It is not in the manifest any more, and gone once nothing of it runs.
    #[serde(default)]
    pub removed: bool,
    /// `blue-green`, `rolling` or `recreate`.
    #[serde(default)]
    pub strategy: Option<String>,
    /// `proxied`, `worker`, or `endpoints`: its processes are not ours.
    #[serde(default)]
    pub mode: Option<String>,
    /// The operation that runs.
    #[serde(default)]
    pub operation: Option<OperationReport>,
    /// Why nothing of it is started yet, one sentence.
    #[serde(default)]
    pub waiting_on: Option<String>,
}

/// A warm release.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarmReport {
    /// Which.
    pub version: String,
    /// How long it stays.
    pub left_ms: u64,
}

/// One rollout.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutReport {
    /// Grows with every rollout.
    pub id: u64,
    /// What it is.
    #[serde(default)]
    pub kind: RolloutKind,
    /// Release it leads to.
    pub version: String,
    /// Release it comes from.
    #[serde(default)]
    pub from: Option<String>,
    /// Where it stands.
    pub phase: Phase,
    /// Which step, for people.
    pub step: Option<String>,
    /// Share of the new release.
    pub weight_percent: u32,
    /// `pass`, `fail` or `not enough evidence`; `null` where nothing judges.
    pub verdict: Option<String>,
    /// What it waits for, one sentence.
    pub waiting_on: Option<String>,
    /// Who asked.
    #[serde(default)]
    pub actor: String,
    /// Why it ended as it did.
    #[serde(default)]
    pub reason: Option<String>,
    /// Last output lines of the instance that failed.
    #[serde(default)]
    pub output: Vec<String>,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub started_at_ms: u64,
    /// Of the promotion, or of the end where there was none; milliseconds since 1970.
    #[serde(default)]
    pub decided_at_ms: Option<u64>,
    /// What it cost so far.
    #[serde(default)]
    pub receipt: Receipt,
}

/// What a rollout is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutKind {
    /// A service's first release.
    First,
    /// `deploy`.
    #[default]
    Deploy,
    /// `rollback`.
    Rollback,
    /// Of a newer Handover.
    #[serde(other)]
    Other,
}

/// Phases of a rollout.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The release is copied and checked.
    #[default]
    Preparing,
    /// Its instances start and get ready.
    Starting,
    /// Its weight grows.
    Shifting,
    /// Held by an operator or a rule.
    Paused,
    /// It becomes stable.
    Promoting,
    /// The old release's requests finish.
    Draining,
    /// Promoted, and the old release is warm.
    Baking,
    /// Final: promoted.
    Done,
    /// The way back is being taken.
    RollingBack,
    /// Final: the old release serves as before.
    RolledBack,
    /// Final: it never began to serve, or could not be undone.
    Failed,
    /// Of a newer Handover.
    #[serde(other)]
    Other,
}

impl Phase {
    /// The word that the JSON has.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Shifting => "shifting",
            Self::Paused => "paused",
            Self::Promoting => "promoting",
            Self::Draining => "draining",
            Self::Baking => "baking",
            Self::Done => "done",
            Self::RollingBack => "rolling-back",
            Self::RolledBack => "rolled-back",
            Self::Failed => "failed",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a rollout cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Receipt {
    /// Requests answered while it ran.
    pub requests: u64,
    /// Of these answered 5xx.
    pub errors: u64,
    /// Tried again on another instance.
    pub retried: u64,
    /// Got no answer, or half of one.
    pub failed: u64,
    /// Held back while nothing could take them.
    pub held: u64,
    /// Longest of these waits, in µs.
    pub longest_hold_us: u64,
    /// Longest wait inside Handover for a connection to an instance, in µs.
    pub longest_wait_us: u64,
    /// From the command to the last request on the old release.
    pub switched_after_ms: Option<u64>,
    /// From the decision to go back until no request went to the bad release.
    pub rolled_back_after_ms: Option<u64>,
}

/// One instance.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceReport {
    /// `service@version/number`: a slot that stays through restarts.
    pub id: String,
    /// `null` while none runs.
    pub pid: Option<u32>,
    /// Its release.
    pub version: String,
    /// `starting, ready, unready, warm, draining, stopping, backoff` or `stopped`.
    pub state: String,
    /// `127.0.0.1:PORT`.
    pub address: Option<String>,
    /// Starts after its first, whatever the cause.
    pub restarts: u32,
    /// Why it is in that state, where there is more to say.
    #[serde(default)]
    pub detail: Option<String>,
    /// In `backoff`: until its next start.
    #[serde(default)]
    pub next_start_in_ms: Option<u64>,
    /// How often in a row it ended by itself without having been ready for long.
    #[serde(default)]
    pub ends_in_a_row: u32,
    /// Of one processor, since it was asked before; `null` where it was not, or the system does not say.
    #[serde(default)]
    pub cpu_percent: Option<f64>,
    /// Of its whole tree; `null` where the system does not say.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
}

/// `POST /v1/services/{name}/deploy`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeployBody {
    /// Absolute path of a directory, an archive or an executable on the agent's machine.
    pub source: String,
    /// Absent: the source's name and the beginning of a hash of its content.
    #[serde(default)]
    pub version: Option<String>,
    /// End a running rollout first.
    #[serde(default)]
    pub replace: bool,
    /// Although its verdict is failed.
    #[serde(default)]
    pub force: bool,
    /// Who asks, for the history.
    #[serde(default)]
    pub actor: Option<String>,
    /// Made by the client: a second request with it gets the first one's answer and starts nothing.
    #[serde(default)]
    pub operation: Option<String>,
}

/// `POST /v1/services/{name}/rollback`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackBody {
    /// Who asks, for the history.
    #[serde(default)]
    pub actor: Option<String>,
    /// As in [`DeployBody`].
    #[serde(default)]
    pub operation: Option<String>,
}

/// Answer to a deploy or rollback.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The rollout to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<u64>,
    /// That release is stable already: there is nothing to do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already_stable: bool,
    /// Release it leads to, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Accepted, but someone should know this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// `GET /v1/services/{name}/rollouts/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The rollout.
    pub rollout: RolloutReport,
    /// What happened after the sequence that was asked for.
    pub lines: Vec<ProgressLine>,
    /// Promoted with the old release unrouted, or final.
    pub decided: bool,
    /// Nothing will change any more.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Process of the agent that answers, filled in by the server: another one counts its lines anew.
    #[serde(default)]
    pub agent: u32,
}

impl Progress {
    /// What a follower passes back as `state`, to hear of a change that it has not seen even if no line
    /// tells it. Opaque to others.
    pub fn state(&self) -> String {
        let letter = match (self.is_final, self.decided) {
            (true, _) => 'f',
            (false, true) => 'd',
            (false, false) => 'r',
        };
        format!("{}-{}-{letter}", self.rollout.phase, self.rollout.weight_percent)
    }
}

/// One line of a rollout's story.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressLine {
    /// Grows within a rollout and one life of the agent; a new agent begins again.
    pub sequence: u64,
    /// Since the rollout began.
    pub at_ms: u64,
    /// One sentence.
    pub text: String,
}

/// `POST /v1/down`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DownBody {
    /// How hard.
    #[serde(default)]
    pub level: DownLevel,
    /// Who asks, for the history.
    #[serde(default)]
    pub actor: Option<String>,
}

/// How hard to stop everything.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DownLevel {
    /// Requests in flight finish first.
    #[default]
    Drain,
    /// Instances are asked to stop at once.
    SkipDrain,
    /// Everything is killed.
    Kill,
}

/// Answer to a stop that was accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownAccepted {
    /// Process of the holder, which ends last.
    #[serde(default)]
    pub holder: Option<u32>,
    /// The longest it may take by the manifest: drain and grace.
    #[serde(default)]
    pub longest_ms: Option<u64>,
}

/// Body of every answer that is not a success.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed and why.
    pub error: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
