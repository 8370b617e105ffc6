//! Why an operator's request is not taken, in words for people: what, why, and what to do.

use model::id::ServiceName;

/// What is taken, and how it can be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The rollout to follow.
    pub rollout: u64,
    /// Release it leads to.
    pub release: String,
    /// It is done all the same, but someone should know this.
    pub warning: Option<String>,
}

/// Why a request is not taken. Nothing has changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No such service.
    #[error("there is no service `{name}`{}", nearest_or_all(nearest.as_deref(), known))]
    UnknownService {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
        /// What there is.
        known: Vec<String>,
    },
    /// Its processes are not ours.
    #[error(
        "{service} is not run by Handover, which only knows its endpoints: nothing of it can be deployed, started or stopped"
    )]
    Fronted {
        /// Which service.
        service: ServiceName,
    },
    /// A rollout runs.
    #[error("{service} is in a rollout to {version} ({phase}), started by {actor}")]
    RolloutRuns {
        /// Which service.
        service: ServiceName,
        /// Where it leads.
        version: String,
        /// Where it stands.
        phase: &'static str,
        /// Who started it.
        actor: String,
    },
    /// A rollout runs that has begun to replace instances.
    #[error("{service} is in a rollout to {version} that has replaced instances already")]
    CannotReplace {
        /// Which service.
        service: ServiceName,
        /// Where it leads.
        version: String,
    },
    /// Another operation runs.
    #[error("a {kind} of {service} runs, started by {actor}")]
    OperationRuns {
        /// Which service.
        service: ServiceName,
        /// Which operation.
        kind: &'static str,
        /// Who started it.
        actor: String,
    },
    /// It is stopped.
    #[error("{service} is stopped")]
    Stopped {
        /// Which service.
        service: ServiceName,
    },
    /// No release of it was ever stable.
    #[error("nothing of {service} runs: no release of it was ever stable")]
    NothingStable {
        /// Which service.
        service: ServiceName,
    },
    /// There is no way to tell it.
    #[error("{service} cannot be told to reload: its `[service.{service}]` says not how")]
    NoReload {
        /// Which service.
        service: ServiceName,
    },
    /// No instances at all.
    #[error("{service} cannot have 0 instances")]
    ScaleToNothing {
        /// Which service.
        service: ServiceName,
    },
    /// It cannot run twice.
    #[error("{service} cannot have {instances} instances: {why}")]
    ScaleOfOne {
        /// Which service.
        service: ServiceName,
        /// How many were asked for.
        instances: u32,
        /// Why it cannot.
        why: &'static str,
    },
    /// A manifest that no checker lets through.
    #[error("that manifest cannot be applied: {why}")]
    Manifest {
        /// What is wrong with it.
        why: String,
    },
    /// A manifest with keys that cannot be changed in what runs.
    #[error("{}", keys.join("; "))]
    Unchangeable {
        /// Each key with why not.
        keys: Vec<String>,
    },
    /// The release failed before.
    #[error("{service} {version} failed before{}", because(reason.as_deref()))]
    FailedBefore {
        /// Which service.
        service: ServiceName,
        /// Which release.
        version: String,
        /// Why.
        reason: Option<String>,
    },
    /// No version was given and the directory's name is none.
    #[error("the name of {path} is not a version")]
    NoVersion {
        /// The directory.
        path: String,
    },
    /// Nothing to go back to.
    #[error("{service} has no release to go back to: {why}")]
    NoWayBack {
        /// Which service.
        service: ServiceName,
        /// Why not.
        why: String,
    },
    /// What is accepted has to survive, and cannot now.
    #[error("nothing new is begun: {why}")]
    Unwritable {
        /// Why the record cannot be written.
        why: String,
    },
    /// Everything is being stopped.
    #[error("everything is being stopped")]
    Stopping,
    /// The agent has just started and does not know yet what runs.
    #[error("the control plane is just starting")]
    Starting,
}

impl Denied {
    /// What to do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::RolloutRuns { .. } => {
                Some("wait until it is done, `handover rollback` it, or take its place with `--replace`")
            }
            Self::FailedBefore { .. } => {
                Some("deploy another version, or this one all the same with `--force`")
            }
            Self::Fronted { .. } => {
                Some("change `endpoints` in the manifest and `handover apply`, or use what runs it")
            }
            Self::NoVersion { .. } => Some("name the version with `--version`"),
            Self::Starting => Some("ask again in a second"),
            Self::Unwritable { .. } => {
                Some("make the state directory writable; it is tried again every second")
            }
            Self::CannotReplace { .. } => Some("wait until it is done, or `handover rollback` it"),
            Self::OperationRuns { .. } => Some("wait until it is done"),
            Self::Stopped { .. } => Some("start it first, with `handover start`"),
            Self::NothingStable { .. } => {
                Some("deploy a release, or try the first one again with `handover start`")
            }
            Self::NoReload { .. } => Some(
                "add `reload = { signal = \"SIGHUP\" }` or `reload = { command = [...] }` and `handover apply`",
            ),
            Self::ScaleToNothing { .. } => Some("stop it with `handover stop`"),
            Self::ScaleOfOne { .. } => {
                Some("take `port`, `exclusive` or `strategy = \"recreate\"` out of the manifest first")
            }
            Self::Unchangeable { .. } => Some("put these keys back to what they were"),
            Self::UnknownService { .. } | Self::NoWayBack { .. } | Self::Stopping | Self::Manifest { .. } => {
                None
            }
        }
    }
}

fn nearest_or_all(nearest: Option<&str>, known: &[String]) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; there is {}", known.join(", ")),
    }
}

fn because(reason: Option<&str>) -> String {
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}
