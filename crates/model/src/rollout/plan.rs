//! What a rollout is made of: its plan, what it hears, what it wants, and what it says.

use std::fmt;
use std::time::Duration;

use crate::id::ReleaseId;

/// So many exits of new instances before the promotion are a verdict.
pub const EXITS_MAX: u32 = 3;

/// What a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The service's first release.
    First,
    /// To a new one.
    Deploy,
    /// Back to one that was stable before.
    Rollback,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The release is copied and checked.
    Preparing,
    /// Its instances start and get ready.
    Starting,
    /// Traffic moves to it.
    Shifting,
    /// It becomes stable.
    Promoting,
    /// The old release finishes and stops.
    Draining,
    /// The old release is kept for an instant way back.
    Baking,
    /// Final: promoted.
    Done,
    /// Traffic moves back.
    RollingBack,
    /// Final: the old release serves as before.
    RolledBack,
    /// Final: it never began to serve.
    Failed,
}

impl Phase {
    /// As people read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Preparing => "preparing",
            Self::Starting => "starting",
            Self::Shifting => "shifting",
            Self::Promoting => "promoting",
            Self::Draining => "draining",
            Self::Baking => "baking",
            Self::Done => "done",
            Self::RollingBack => "rolling-back",
            Self::RolledBack => "rolled-back",
            Self::Failed => "failed",
        }
    }

    /// Nothing changes any more.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack | Self::Failed)
    }

    /// The new release was promoted.
    pub fn is_promoted(self) -> bool {
        matches!(self, Self::Draining | Self::Baking | Self::Done)
    }
}

/// How the new release takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// All new instances ready, then all traffic at once.
    BlueGreen,
    /// Instance by instance; both releases serve meanwhile.
    Rolling {
        /// How many instances more than `instances` may run.
        max_surge: u32,
        /// How many fewer than `instances` may be ready.
        max_unavailable: u32,
    },
    /// The old release ends before the new one starts.
    Recreate,
}

/// What is to be done, without a choice left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What it is.
    pub kind: Kind,
    /// How the new release takes over.
    pub strategy: Strategy,
    /// The release it leads to.
    pub to: ReleaseId,
    /// The release it comes from, where there is one.
    pub from: Option<ReleaseId>,
    /// How many instances have to be ready.
    pub instances: u32,
    /// How long the old release stays for an instant way back.
    pub keep_warm: Duration,
}

/// What holds now, gathered anew each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Facts {
    /// Ready instances of the new release.
    pub ready: u32,
    /// Instances of the new release that are there, those on their way out included.
    pub running: u32,
    /// Of these, those that stay.
    pub staying: u32,
    /// Ready instances of the old release.
    pub from_ready: u32,
    /// Instances of the old release that are there, those on their way out included.
    pub from_running: u32,
    /// Of these, those that stay.
    pub from_staying: u32,
    /// Instances of other releases that are still there.
    pub others: u32,
    /// Another release has room to start: at most one retires.
    pub room: bool,
    /// Living proxies.
    pub proxies: u32,
    /// They all use a table in which nothing goes to the old release.
    pub shifted: bool,
    /// They all use a table in which nothing goes to the new release.
    pub restored: bool,
}

/// Why a rollout cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The release could not be taken.
    #[error("{0}")]
    Refused(String),
    /// Too many exits.
    #[error(
        "instances of the new release ended {EXITS_MAX} times before it was promoted; the last, {instance}, {how}"
    )]
    Exits {
        /// The last one.
        instance: String,
        /// How it ended.
        how: String,
    },
    /// It ended and its policy keeps it down.
    #[error("{instance} {how}, and its restart policy keeps it down")]
    StaysDown {
        /// Which.
        instance: String,
        /// How it ended.
        how: String,
    },
    /// A process could not be started.
    #[error("{instance} could not be started: {error}")]
    SpawnFailed {
        /// Which.
        instance: String,
        /// For people.
        error: String,
    },
    /// Not ready in time.
    #[error("{instance} was not ready within {}{}", crate::time::human(*after), colon(detail))]
    StartupTimeout {
        /// Which.
        instance: String,
        /// `startup_timeout`.
        after: Duration,
        /// What the last check said.
        detail: String,
    },
}

impl Facts {
    /// The old release has no instance left.
    pub(super) fn is_from_gone(&self) -> bool {
        self.from_running == 0
    }

    /// The new release has no instance left.
    pub(super) fn is_gone(&self) -> bool {
        self.running == 0
    }
}

fn colon(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}

/// Why it is called back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It failed.
    Failure(Failure),
    /// A person said so.
    Operator(String),
    /// Another one takes its place.
    Replaced(String),
    /// It was decided in a former life of the agent, which ended before it could write why.
    Earlier,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failure(failure) => failure.fmt(f),
            Self::Operator(actor) => write!(f, "called back by {actor}"),
            Self::Replaced(by) => write!(f, "replaced by {by}"),
            Self::Earlier => f.write_str("called back; the reason was lost with the agent that decided it"),
        }
    }
}

/// An abort that comes too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AbortDenied {
    /// The new release is stable.
    #[error("it is promoted already")]
    Promoted,
    /// The way back is being taken.
    #[error("it is being rolled back already")]
    RollingBack,
    /// Another one cannot take its place: only part of the old release is left.
    #[error("it has begun to replace instances")]
    Replacing,
    /// It is over.
    #[error("it is over")]
    Final,
}

/// A bake that cannot end because there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not promoted yet")]
pub struct NotBaking;

/// What a rollout wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make what holds now durable, then call `handle_recorded`.
    Record,
    /// Copy and check the release.
    Prepare,
    /// Its instances are wanted from now on.
    Start,
    /// The new release gets the traffic from now on.
    Shift,
    /// The new release is the stable one from now on; the old one stays warm if so said.
    Promote {
        /// Keep the old one.
        keep_from: bool,
    },
    /// The old release gets the traffic from now on.
    Restore,
    /// It is over.
    Finished,
}

/// Which release gets the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All to the old one.
    From,
    /// All to the new one.
    To,
    /// To both, in proportion to their ready instances.
    Both,
}

/// What should run of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: what runs is stopped.
    Nothing,
    /// What runs may go on, nothing new is started.
    WhatRuns,
    /// So many instances.
    Instances(u32),
}

/// What a rollout waits for. Each is one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitingOn {
    /// The copy.
    Copy,
    /// Releases that retire.
    Room,
    /// The record's write.
    Record,
    /// Ready instances: how many are, how many must be.
    Ready(u32, u32),
    /// Proxies, all of which must use the new table.
    Proxies(u32),
    /// The end of the bake.
    Bake(Duration),
    /// The old release's last instance.
    FromGone,
    /// The new release's last instance, on the way back.
    ToGone,
    /// The old release, which has been started again.
    FromReady,
    /// Instances of the old release, one after another: so many stay still.
    Replacing(u32),
}

impl fmt::Display for WaitingOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Copy => f.write_str("waits for the release to be copied and checked"),
            Self::Room => f.write_str("waits for an earlier release to stop, so that no more than two run"),
            Self::Record => f.write_str("waits for the record to be written"),
            Self::Ready(ready, wanted) => write!(f, "{ready} of {wanted} new instances are ready"),
            Self::Proxies(0) => f.write_str("waits for a proxy to run"),
            Self::Proxies(_) => f.write_str("waits for every proxy to use the new routes"),
            Self::Bake(left) => {
                let seconds = Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0));
                write!(f, "keeps the old release warm for {} more", crate::time::human(seconds))
            }
            Self::FromGone => f.write_str("waits for the old release to finish its requests and stop"),
            Self::ToGone => f.write_str("waits for the new release to stop"),
            Self::FromReady => f.write_str("waits for the old release to be ready again"),
            Self::Replacing(1) => f.write_str("1 instance of the old release is still to be replaced"),
            Self::Replacing(left) => {
                write!(f, "{left} instances of the old release are still to be replaced")
            }
        }
    }
}
