//! One rollout: how a release takes over from another, all at once, and how it is called back.
//!
//! ```text
//!  begin ─► preparing ─► waiting ─► starting ──────► shifting ─────► promoting ─┬─► baking ───► done
//!   deploy     │ refused    │ room     │ all ready      │ nothing goes          │ time up
//!              │            │          │                │ to the old one        └─► draining ─► done
//!              ▼            │          │ 3 exits, no start, not ready in time        old one gone
//!           failed          └──────────┴────── try_abort ──┐
//!                                                          ▼
//!                                                    rolling-back ─► rolled-back (failed where nothing was
//!                                                       nothing goes to the new one         there before)
//! ```
//! Forward, what is intended is recorded before it is done: `Action::Record`, then `handle_recorded`, then the
//! effect. On the way back (an abort, or a rollback's shift) traffic moves first and the record follows.
//! Effects are levels, not edges: `share` and `wanted` say what has to be true now, whoever asks, so that an
//! agent which took over does what the former one did.
//!
//! It deliberately knows no instances, tables or files, only counts and releases.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use crate::id::ReleaseId;
use crate::time::Instant;

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

/// What is to be done, without a choice left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What it is.
    pub kind: Kind,
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
    /// Ready instances of the old release.
    pub from_ready: u32,
    /// The old release has no instance left.
    pub from_gone: bool,
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
}

/// What should run of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing: what runs is stopped.
    Nothing,
    /// What runs may go on, nothing new is started.
    WhatRuns,
    /// As many instances as the service has.
    All,
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
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Intended,
    Doing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preparing(Step),
    /// Prepared; there must be room.
    Waiting,
    Starting(Step),
    Shifting(Step),
    Promoting {
        keep_from: bool,
    },
    Draining,
    Baking {
        until: Instant,
    },
    RollingBack,
    Final(Phase),
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Rollout {
    plan: Plan,
    state: State,
    exits: u32,
    facts: Facts,
    cause: Option<Cause>,
    actions: VecDeque<Action>,
}

impl Rollout {
    /// Begins. A deploy copies its release first; a rollback's release is there, and where `ready` says that it
    /// runs and is ready too, traffic moves at once.
    pub fn begin(plan: Plan, ready: bool) -> Self {
        let state = match plan.kind {
            Kind::First | Kind::Deploy => State::Preparing(Step::Intended),
            Kind::Rollback if ready => State::Shifting(Step::Doing),
            Kind::Rollback => State::Waiting,
        };
        let mut rollout = Self::in_state(plan, state);
        if state == State::Shifting(Step::Doing) {
            rollout.actions.push_back(Action::Shift);
        }
        rollout.actions.push_back(Action::Record);
        rollout
    }

    fn in_state(plan: Plan, state: State) -> Self {
        Self { plan, state, exits: 0, facts: Facts::default(), cause: None, actions: VecDeque::new() }
    }

    /// Goes on from what a record says; `bake_left` is the rest of the bake.
    pub fn resume(plan: Plan, phase: Phase, bake_left: Duration, now: Instant) -> Self {
        let state = match phase {
            Phase::Preparing if plan.kind == Kind::Rollback => State::Waiting,
            Phase::Preparing => State::Preparing(Step::Doing),
            Phase::Starting => State::Starting(Step::Doing),
            Phase::Shifting => State::Shifting(Step::Doing),
            Phase::Promoting => State::Promoting { keep_from: !bake_left.is_zero() },
            Phase::Draining => State::Draining,
            Phase::Baking => State::Baking { until: now + bake_left },
            Phase::RollingBack => State::RollingBack,
            Phase::Done | Phase::RolledBack | Phase::Failed => State::Final(phase),
        };
        let mut rollout = Self::in_state(plan, state);
        match state {
            State::Preparing(_) => rollout.actions.push_back(Action::Prepare),
            // That record was written, so its promotion holds.
            State::Promoting { .. } => rollout.handle_recorded(now),
            State::RollingBack => rollout.cause = Some(Cause::Earlier),
            State::Final(_) => rollout.actions.push_back(Action::Finished),
            State::Waiting
            | State::Starting(_)
            | State::Shifting(_)
            | State::Draining
            | State::Baking { .. } => {}
        }
        rollout
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.actions.push_back(Action::Record);
    }

    fn finish(&mut self, phase: Phase) {
        self.enter(State::Final(phase));
        self.actions.push_back(Action::Finished);
    }

    /// What was true at the last `Action::Record` is durable now.
    pub fn handle_recorded(&mut self, now: Instant) {
        match self.state {
            State::Preparing(Step::Intended) => {
                self.state = State::Preparing(Step::Doing);
                self.actions.push_back(Action::Prepare);
            }
            State::Starting(Step::Intended) => {
                self.state = State::Starting(Step::Doing);
                self.actions.push_back(Action::Start);
            }
            State::Shifting(Step::Intended) => {
                self.state = State::Shifting(Step::Doing);
                self.actions.push_back(Action::Shift);
            }
            State::Promoting { .. } if self.plan.from.is_none() => self.finish(Phase::Done),
            State::Promoting { keep_from: true } => {
                self.enter(State::Baking { until: now + self.plan.keep_warm });
            }
            State::Promoting { keep_from: false } => self.enter(State::Draining),
            State::Preparing(Step::Doing)
            | State::Waiting
            | State::Starting(Step::Doing)
            | State::Shifting(Step::Doing)
            | State::Draining
            | State::Baking { .. }
            | State::RollingBack
            | State::Final(_) => {}
        }
    }

    /// The release is on disk.
    pub fn handle_prepared(&mut self) {
        if self.state == State::Preparing(Step::Doing) {
            self.state = State::Waiting;
        }
    }

    /// The release is the stable one, and what is on disk is what was asked for: nothing to do.
    pub fn handle_nothing_to_do(&mut self) {
        if self.state == State::Preparing(Step::Doing) {
            self.finish(Phase::Done);
        }
    }

    /// The release could not be taken.
    pub fn handle_refused(&mut self, why: String) {
        if matches!(self.state, State::Preparing(_)) {
            self.cause = Some(Cause::Failure(Failure::Refused(why)));
            self.finish(Phase::Failed);
        }
    }

    /// An instance of the new release ended by itself; `restarts` says whether it starts again.
    pub fn handle_exit(&mut self, instance: &str, how: &str, restarts: bool) {
        if !matches!(self.state, State::Starting(Step::Doing) | State::Shifting(_)) {
            return;
        }
        self.exits += 1;
        let (instance, how) = (instance.to_owned(), how.to_owned());
        if !restarts {
            self.handle_failure(Failure::StaysDown { instance, how });
        } else if self.exits >= EXITS_MAX {
            self.handle_failure(Failure::Exits { instance, how });
        }
    }

    /// The new release will not do.
    pub fn handle_failure(&mut self, failure: Failure) {
        if matches!(self.state, State::Starting(Step::Doing) | State::Shifting(_)) {
            self.call_back(Cause::Failure(failure));
        }
    }

    /// Call it back. One that is replaced is over at once: what takes its place says where traffic goes.
    ///
    /// # Errors
    /// When it is promoted, or the way back is being taken already.
    pub fn try_abort(&mut self, cause: Cause) -> Result<(), AbortDenied> {
        let replaced = matches!(cause, Cause::Replaced(_));
        match self.state {
            State::Preparing(_) | State::Waiting | State::Starting(_) | State::Shifting(_) if replaced => {
                self.cause = Some(cause);
                self.finish_back();
                Ok(())
            }
            State::RollingBack if replaced => {
                self.finish_back();
                Ok(())
            }
            State::Preparing(_) | State::Waiting | State::Starting(_) | State::Shifting(_) => {
                self.call_back(cause);
                Ok(())
            }
            State::Promoting { .. } | State::Draining | State::Baking { .. } => Err(AbortDenied::Promoted),
            State::RollingBack => Err(AbortDenied::RollingBack),
            State::Final(_) => Err(AbortDenied::Final),
        }
    }

    fn finish_back(&mut self) {
        self.finish(if self.plan.from.is_some() { Phase::RolledBack } else { Phase::Failed });
    }

    fn call_back(&mut self, cause: Cause) {
        self.cause = Some(cause);
        // Only now does the agent's next table count.
        self.facts.restored = false;
        self.actions.push_back(Action::Restore);
        self.enter(State::RollingBack);
    }

    /// End the bake, or the wait for the old release, before its time.
    ///
    /// # Errors
    /// When it is not promoted yet.
    pub fn try_end(&mut self) -> Result<(), NotBaking> {
        match self.state {
            // `promoting` waits for a record that cannot be written; the new release is stable all the same.
            State::Promoting { .. } | State::Draining | State::Baking { .. } => {
                self.finish(Phase::Done);
                Ok(())
            }
            State::Final(_) => Ok(()),
            State::Preparing(_)
            | State::Waiting
            | State::Starting(_)
            | State::Shifting(_)
            | State::RollingBack => Err(NotBaking),
        }
    }

    /// What holds now.
    pub fn handle_facts(&mut self, facts: Facts) {
        self.facts = facts;
        match self.state {
            State::Waiting if facts.room => self.enter(State::Starting(Step::Intended)),
            State::Starting(Step::Doing) if self.is_ready() => match self.plan.kind {
                // The way back: traffic first.
                Kind::Rollback => {
                    self.actions.push_back(Action::Shift);
                    self.enter(State::Shifting(Step::Doing));
                }
                Kind::First | Kind::Deploy => self.enter(State::Shifting(Step::Intended)),
            },
            State::Shifting(Step::Doing) if self.is_shifted() => {
                let keep_from = self.plan.kind != Kind::Rollback
                    && self.plan.from.is_some()
                    && facts.from_ready > 0
                    && !self.plan.keep_warm.is_zero();
                self.actions.push_back(Action::Promote { keep_from });
                self.enter(State::Promoting { keep_from });
            }
            State::Draining if facts.from_gone => self.finish(Phase::Done),
            State::RollingBack if facts.restored => self.finish_back(),
            State::Preparing(_)
            | State::Waiting
            | State::Starting(_)
            | State::Shifting(_)
            | State::Promoting { .. }
            | State::Draining
            | State::Baking { .. }
            | State::RollingBack
            | State::Final(_) => {}
        }
    }

    fn is_ready(&self) -> bool {
        self.facts.ready >= self.plan.instances
    }

    /// Forward, someone must have seen traffic move, and what it moved to must still be there.
    fn is_shifted(&self) -> bool {
        match self.plan.kind {
            Kind::Rollback => self.facts.shifted,
            Kind::First | Kind::Deploy => self.facts.shifted && self.facts.proxies > 0 && self.is_ready(),
        }
    }

    /// `poll_timeout` has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let State::Baking { until } = self.state
            && until <= now
        {
            self.finish(Phase::Done);
        }
    }

    /// When `handle_timeout` wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Baking { until } => Some(until),
            State::Preparing(_)
            | State::Waiting
            | State::Starting(_)
            | State::Shifting(_)
            | State::Promoting { .. }
            | State::Draining
            | State::RollingBack
            | State::Final(_) => None,
        }
    }

    /// What it wants done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        match self.state {
            State::Preparing(_) | State::Waiting => Phase::Preparing,
            State::Starting(_) => Phase::Starting,
            State::Shifting(_) => Phase::Shifting,
            State::Promoting { .. } => Phase::Promoting,
            State::Draining => Phase::Draining,
            State::Baking { .. } => Phase::Baking,
            State::RollingBack => Phase::RollingBack,
            State::Final(phase) => phase,
        }
    }

    /// Why it was called back or failed.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Which release gets the traffic now.
    pub fn share(&self) -> Share {
        match self.state {
            State::Preparing(_) | State::Waiting | State::Starting(_) | State::Shifting(Step::Intended)
                if self.plan.from.is_some() =>
            {
                Share::From
            }
            State::RollingBack | State::Final(Phase::RolledBack | Phase::Failed) => Share::From,
            State::Preparing(_)
            | State::Waiting
            | State::Starting(_)
            | State::Shifting(_)
            | State::Promoting { .. }
            | State::Draining
            | State::Baking { .. }
            | State::Final(_) => Share::To,
        }
    }

    /// What should run of the new release now.
    pub fn wanted_to(&self) -> Wanted {
        match self.state {
            State::Preparing(_) | State::Waiting | State::Starting(Step::Intended) => Wanted::WhatRuns,
            State::RollingBack | State::Final(Phase::RolledBack | Phase::Failed) => Wanted::Nothing,
            State::Starting(Step::Doing)
            | State::Shifting(_)
            | State::Promoting { .. }
            | State::Draining
            | State::Baking { .. }
            | State::Final(_) => Wanted::All,
        }
    }

    /// Whether the old release is wanted still.
    pub fn wants_from(&self) -> bool {
        !matches!(self.state, State::Draining | State::Final(Phase::Done))
    }

    /// The rest of the bake.
    pub fn bake_left(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Baking { until } => Some(now.until(until)),
            State::Promoting { keep_from: true } => Some(self.plan.keep_warm),
            State::Promoting { keep_from: false }
            | State::Preparing(_)
            | State::Waiting
            | State::Starting(_)
            | State::Shifting(_)
            | State::Draining
            | State::RollingBack
            | State::Final(_) => None,
        }
    }

    /// What is being done, for the record; `None` where nothing is.
    pub fn intent(&self) -> Option<String> {
        let Plan { to, instances, .. } = &self.plan;
        match self.state {
            State::Preparing(_) => Some(format!("copy {to}")),
            State::Waiting | State::Starting(_) => Some(format!("start {instances} of {to}")),
            State::Shifting(_) => Some(format!("give all traffic to {to}")),
            State::Promoting { .. } => Some(format!("make {to} stable")),
            State::Draining => self.plan.from.as_ref().map(|from| format!("stop {from}")),
            State::RollingBack => Some(match &self.plan.from {
                Some(from) => format!("give all traffic back to {from}"),
                None => format!("stop {to}"),
            }),
            State::Baking { .. } | State::Final(_) => None,
        }
    }

    /// Why it is not further.
    pub fn waiting_on(&self, now: Instant) -> Option<WaitingOn> {
        Some(match self.state {
            State::Preparing(Step::Intended)
            | State::Starting(Step::Intended)
            | State::Shifting(Step::Intended)
            | State::Promoting { .. } => WaitingOn::Record,
            State::Preparing(Step::Doing) => WaitingOn::Copy,
            State::Waiting => WaitingOn::Room,
            State::Starting(Step::Doing) => WaitingOn::Ready(self.facts.ready, self.plan.instances),
            State::Shifting(Step::Doing) if !self.is_ready() => {
                WaitingOn::Ready(self.facts.ready, self.plan.instances)
            }
            State::Shifting(Step::Doing) | State::RollingBack => WaitingOn::Proxies(self.facts.proxies),
            State::Draining => WaitingOn::FromGone,
            State::Baking { until } => WaitingOn::Bake(now.until(until)),
            State::Final(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests;
