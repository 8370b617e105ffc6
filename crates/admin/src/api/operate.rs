//! Bodies of what operators do beside rollouts: operations on a service, plans, and manifests to make true.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::ProgressLine;

/// `POST /v1/services/{name}/restart`, `…/reload`, `…/stop` and `…/start`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperateBody {
    /// Who asks, for the history.
    #[serde(default)]
    pub actor: Option<String>,
    /// As in [`DeployBody`](super::DeployBody).
    #[serde(default)]
    pub operation: Option<String>,
}

/// `POST /v1/services/{name}/scale`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleBody {
    /// How many there shall be.
    pub instances: u32,
    /// Who asks, for the history.
    #[serde(default)]
    pub actor: Option<String>,
    /// As in [`DeployBody`](super::DeployBody).
    #[serde(default)]
    pub operation: Option<String>,
}

/// What is asked of a service that is no rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operate {
    /// Fresh instances in place of all.
    Restart,
    /// Each reads its configuration again.
    Reload,
    /// Nothing of it runs.
    Stop,
    /// It runs again.
    Start,
    /// That many instances.
    Scale(u32),
}

/// Answer to an operation that was accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationAccepted {
    /// By which it is followed.
    pub operation: u64,
    /// What was asked for was true already: it has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub already: Option<String>,
    /// Accepted, but someone should know this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

/// What an operation is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// Fresh instances in place of all.
    #[default]
    Restart,
    /// Each reads its configuration again.
    Reload,
    /// Nothing of it runs.
    Stop,
    /// It runs again.
    Start,
    /// Another number of instances.
    Scale,
    /// Of a newer Handover.
    #[serde(other)]
    Other,
}

impl OperationKind {
    /// The word that the JSON has.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Scale => "scale",
            Self::Other => "operation",
        }
    }
}

impl fmt::Display for OperationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// An operation that runs, in a status.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationReport {
    /// By which it is followed.
    pub id: u64,
    /// Which.
    pub kind: OperationKind,
    /// Who asked.
    #[serde(default)]
    pub actor: String,
    /// What it waits for, one sentence.
    #[serde(default)]
    pub waiting_on: Option<String>,
}

/// `GET /v1/operations/{id}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationProgress {
    /// By which it is followed.
    pub id: u64,
    /// Whose.
    pub service: String,
    /// Which.
    pub kind: OperationKind,
    /// What happened after the sequence that was asked for.
    pub lines: Vec<ProgressLine>,
    /// What it waits for, one sentence.
    #[serde(default)]
    pub waiting_on: Option<String>,
    /// It has ended.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// Why what was asked for is not true, once it has ended.
    #[serde(default)]
    pub error: Option<String>,
    /// Process of the agent that answers, filled in by the server: another one counts its lines anew.
    #[serde(default)]
    pub agent: u32,
}

/// `POST /v1/plan` and `POST /v1/apply`: a manifest as the command line has checked it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestBody {
    /// The checked form, of the same version of Handover.
    pub manifest: serde_json::Value,
    /// Text of the file, for the record.
    pub source: String,
    /// Absolute path of the file.
    pub path: String,
    /// What services may inherit of the caller's environment; absent: what they inherit now.
    #[serde(default)]
    pub environment: Option<Vec<(String, String)>>,
    /// Who asks, for the history.
    #[serde(default)]
    pub actor: Option<String>,
    /// As in [`DeployBody`](super::DeployBody).
    #[serde(default)]
    pub operation: Option<String>,
}

impl fmt::Debug for ManifestBody {
    /// Its values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManifestBody").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Answer to `POST /v1/plan`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyPlan {
    /// Every key that differs from the manifest last applied.
    pub changes: Vec<ChangeReport>,
}

/// Answer to `POST /v1/apply`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplyReport {
    /// Every key that differed from the manifest last applied.
    pub changes: Vec<ChangeReport>,
    /// Rollouts that follow from it.
    #[serde(default)]
    pub rollouts: Vec<Begun>,
    /// Operations that follow from it.
    #[serde(default)]
    pub operations: Vec<Begun>,
}

/// Something that was begun.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Of which service.
    pub service: String,
    /// By which it is followed.
    pub id: u64,
}

/// One key of the manifest that differs. Values are never in it: some are secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeReport {
    /// As the file names it.
    pub key: String,
    /// The service it is about.
    #[serde(default)]
    pub service: Option<String>,
    /// What making it true does.
    pub effect: Effect,
    /// The release that a rollout leads to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<String>,
    /// Why requests wait or are refused meanwhile, where they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<String>,
    /// What has to be done besides, or why it cannot be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What a change does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// It holds at once, and no process is touched.
    #[default]
    Live,
    /// A rollout.
    Rollout,
    /// A service, listener or route that was not there.
    Added,
    /// One that is not there any more.
    Removed,
    /// A listener gets another address.
    Rebound,
    /// It holds from the next start of something on.
    NextStart,
    /// It cannot be changed in what runs.
    Refused,
    /// Of a newer Handover.
    #[serde(other)]
    Other,
}

/// Answer to `POST /v1/services/{name}/plan`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployPlan {
    /// The version it would have.
    #[serde(default)]
    pub version: Option<String>,
    /// What would be done, one sentence a step.
    pub steps: Vec<String>,
}

/// `GET /v1/manifest`: which file the manifest last applied came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestReport {
    /// Absolute path of the file.
    pub path: String,
}
