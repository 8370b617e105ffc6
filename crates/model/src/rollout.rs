//! One rollout: how a release takes over from another, and how it is called back.
//!
//! ```text
//!  begin ─► preparing ─► waiting ─┬─► starting ─────────► shifting ─┐      blue-green: all ready, then all traffic
//!   deploy     │ refused    │ room├─► rolling ──────────────────────┼─► promoting ─┬─► baking ───► done
//!              │            │     └─► recreating ───────────────────┘              │      time up
//!              ▼            │          │ 3 exits, no start, not ready in time      └─► draining ─► done
//!           failed          └──────────┴── try_abort ──┐                                old one gone
//!                                                      ▼
//!                                                rolling-back ─► rolled-back (failed where nothing was
//!                            nothing goes to the new one, the old one is there        there before)
//! ```
//! Rolling replaces instance by instance, within its limits; recreating stops the old release, then starts the
//! new one. Forward, what is intended is recorded before it is done: `Action::Record`, then `handle_recorded`,
//! then the effect. On the way back (an abort, or a rollback's shift) traffic moves first and the record follows.
//! Effects are levels, not edges: `share`, `wanted_to` and `wanted_from` say what has to be true now, whoever
//! asks, so that an agent which took over does what the former one did.
//!
//! It deliberately knows no instances, tables or files, only counts and releases.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;

mod plan;
mod rolling;

pub use plan::{
    AbortDenied, Action, Cause, EXITS_MAX, Facts, Failure, Kind, NotBaking, Phase, Plan, Share, Strategy,
    WaitingOn, Wanted,
};

use rolling::{Counts, Limits};

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
    /// How many of each are wanted; not known before the first facts.
    Rolling(Option<Counts>),
    /// The old release ends, then the new one starts.
    Recreating,
    Shifting(Step),
    Promoting {
        keep_from: bool,
    },
    Draining,
    Baking {
        until: Instant,
    },
    RollingBack(Return),
    Final(Phase),
}

/// What the way back of a recreated service waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Return {
    /// The old release is to be ready again.
    Awaited,
    /// It will not do either: its restart policy goes on.
    GivenUp,
}

/// The state machine.
#[derive(Debug, Clone)]
pub struct Rollout {
    plan: Plan,
    state: State,
    exits: u32,
    /// `None` until the first are heard.
    facts: Option<Facts>,
    cause: Option<Cause>,
    actions: VecDeque<Action>,
}

impl Rollout {
    /// Begins. A deploy copies its release first; a rollback's release is there, and where `ready` says that it
    /// runs and is ready too, traffic moves at once.
    pub fn begin(plan: Plan, ready: bool) -> Self {
        let ready = ready && plan.strategy == Strategy::BlueGreen;
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
        Self { plan, state, exits: 0, facts: None, cause: None, actions: VecDeque::new() }
    }

    /// Goes on from what a record says; `bake_left` is the rest of the bake.
    pub fn resume(plan: Plan, phase: Phase, bake_left: Duration, now: Instant) -> Self {
        let state = match phase {
            Phase::Preparing if plan.kind == Kind::Rollback => State::Waiting,
            Phase::Preparing => State::Preparing(Step::Doing),
            Phase::Starting => Self::begun(&plan),
            Phase::Shifting if Self::begun(&plan) == State::Starting(Step::Doing) => {
                State::Shifting(Step::Doing)
            }
            Phase::Shifting => Self::begun(&plan),
            Phase::Promoting => State::Promoting { keep_from: !bake_left.is_zero() },
            Phase::Draining => State::Draining,
            Phase::Baking => State::Baking { until: now + bake_left },
            Phase::RollingBack => State::RollingBack(Return::Awaited),
            Phase::Done | Phase::RolledBack | Phase::Failed => State::Final(phase),
        };
        let mut rollout = Self::in_state(plan, state);
        match state {
            State::Preparing(_) => rollout.actions.push_back(Action::Prepare),
            // That record was written, so its promotion holds.
            State::Promoting { .. } => rollout.handle_recorded(now),
            State::RollingBack(_) => rollout.cause = Some(Cause::Earlier),
            State::Final(_) => rollout.actions.push_back(Action::Finished),
            State::Waiting
            | State::Starting(_)
            | State::Rolling(_)
            | State::Recreating
            | State::Shifting(_)
            | State::Draining
            | State::Baking { .. } => {}
        }
        rollout
    }

    /// Where its strategy leads once its start is recorded; without a release before there is nothing to replace.
    fn begun(plan: &Plan) -> State {
        match plan.strategy {
            Strategy::Rolling { .. } if plan.from.is_some() => State::Rolling(None),
            Strategy::Recreate if plan.from.is_some() => State::Recreating,
            Strategy::BlueGreen | Strategy::Rolling { .. } | Strategy::Recreate => {
                State::Starting(Step::Doing)
            }
        }
    }

    fn limits(&self) -> Option<Limits> {
        let Strategy::Rolling { max_surge, max_unavailable } = self.plan.strategy else { return None };
        Some(Limits { instances: self.plan.instances, max_surge, max_unavailable })
    }

    fn facts(&self) -> Facts {
        self.facts.unwrap_or_default()
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
                self.state = Self::begun(&self.plan);
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
            | State::Rolling(_)
            | State::Recreating
            | State::Shifting(Step::Doing)
            | State::Draining
            | State::Baking { .. }
            | State::RollingBack(_)
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
        if !self.is_on_trial() {
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
        if self.is_on_trial() {
            self.call_back(Cause::Failure(failure));
        }
    }

    fn is_on_trial(&self) -> bool {
        matches!(
            self.state,
            State::Starting(Step::Doing) | State::Shifting(_) | State::Rolling(_) | State::Recreating
        )
    }

    /// An instance of the old release, started again on the way back, will not do either.
    pub fn handle_old_failure(&mut self) {
        if let State::RollingBack(awaited) = &mut self.state {
            *awaited = Return::GivenUp;
        }
    }

    /// Whether another rollout may take its place now: not once part of the old release may be gone.
    pub fn is_replaceable(&self) -> bool {
        let replaces = self.plan.strategy != Strategy::BlueGreen && self.plan.from.is_some();
        match self.state {
            State::Rolling(_) | State::Recreating => false,
            State::RollingBack(_) => !replaces,
            State::Promoting { .. } | State::Final(_) => false,
            State::Preparing(_)
            | State::Waiting
            | State::Starting(_)
            | State::Shifting(_)
            | State::Draining
            | State::Baking { .. } => true,
        }
    }

    /// Call it back. One that is replaced is over at once: what takes its place says where traffic goes.
    ///
    /// # Errors
    /// When it is promoted, or the way back is being taken already.
    pub fn try_abort(&mut self, cause: Cause) -> Result<(), AbortDenied> {
        let replaced = matches!(cause, Cause::Replaced(_));
        match self.state {
            State::Rolling(_) | State::Recreating if replaced => Err(AbortDenied::Replacing),
            State::RollingBack(_) if replaced && !self.is_replaceable() => Err(AbortDenied::Replacing),
            State::Preparing(_) | State::Waiting | State::Starting(_) | State::Shifting(_) if replaced => {
                self.cause = Some(cause);
                self.finish_back();
                Ok(())
            }
            State::RollingBack(_) if replaced => {
                self.finish_back();
                Ok(())
            }
            State::Preparing(_)
            | State::Waiting
            | State::Starting(_)
            | State::Rolling(_)
            | State::Recreating
            | State::Shifting(_) => {
                self.call_back(cause);
                Ok(())
            }
            State::Promoting { .. } | State::Draining | State::Baking { .. } => Err(AbortDenied::Promoted),
            State::RollingBack(_) => Err(AbortDenied::RollingBack),
            State::Final(_) => Err(AbortDenied::Final),
        }
    }

    fn finish_back(&mut self) {
        self.finish(if self.plan.from.is_some() { Phase::RolledBack } else { Phase::Failed });
    }

    fn call_back(&mut self, cause: Cause) {
        self.cause = Some(cause);
        // Only now does the agent's next table count.
        if let Some(facts) = &mut self.facts {
            facts.restored = false;
        }
        self.actions.push_back(Action::Restore);
        self.enter(State::RollingBack(Return::Awaited));
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
            | State::Rolling(_)
            | State::Recreating
            | State::Shifting(_)
            | State::RollingBack(_) => Err(NotBaking),
        }
    }

    /// What holds now.
    pub fn handle_facts(&mut self, facts: Facts) {
        self.facts = Some(facts);
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
            State::Rolling(before) => {
                let counts = self.limits().map(|limits| limits.forward(before, &facts));
                self.state = State::Rolling(counts);
                if facts.from_staying == 0 && self.is_ready() && self.is_shifted() {
                    self.promote(false);
                }
            }
            State::Recreating if facts.is_from_gone() && self.is_ready() && self.is_shifted() => {
                self.promote(false);
            }
            State::Shifting(Step::Doing) if self.is_shifted() => {
                let keep_from = self.plan.kind != Kind::Rollback
                    && self.plan.from.is_some()
                    && facts.from_ready > 0
                    && !self.plan.keep_warm.is_zero();
                self.promote(keep_from);
            }
            State::Draining if facts.is_from_gone() => self.finish(Phase::Done),
            State::RollingBack(awaited) if facts.restored && self.is_back(awaited, &facts) => {
                self.finish_back();
            }
            State::Preparing(_)
            | State::Waiting
            | State::Starting(_)
            | State::Recreating
            | State::Shifting(_)
            | State::Promoting { .. }
            | State::Draining
            | State::Baking { .. }
            | State::RollingBack(_)
            | State::Final(_) => {}
        }
    }

    fn promote(&mut self, keep_from: bool) {
        self.actions.push_back(Action::Promote { keep_from });
        self.enter(State::Promoting { keep_from });
    }

    /// The old release is where it was, as far as it ever will be.
    fn is_back(&self, awaited: Return, facts: &Facts) -> bool {
        match self.plan.strategy {
            Strategy::Rolling { .. } if self.plan.from.is_some() => facts.is_gone(),
            Strategy::Recreate if self.plan.from.is_some() => {
                facts.is_gone() && (facts.from_ready >= self.plan.instances || awaited == Return::GivenUp)
            }
            Strategy::BlueGreen | Strategy::Rolling { .. } | Strategy::Recreate => true,
        }
    }

    fn is_ready(&self) -> bool {
        self.facts().ready >= self.plan.instances
    }

    /// Forward, someone must have seen traffic move, and what it moved to must still be there.
    fn is_shifted(&self) -> bool {
        let facts = self.facts();
        match self.plan.kind {
            Kind::Rollback => facts.shifted,
            Kind::First | Kind::Deploy => facts.shifted && facts.proxies > 0 && self.is_ready(),
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
            | State::Rolling(_)
            | State::Recreating
            | State::Shifting(_)
            | State::Promoting { .. }
            | State::Draining
            | State::RollingBack(_)
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
            State::Starting(_) | State::Recreating => Phase::Starting,
            State::Rolling(_) | State::Shifting(_) => Phase::Shifting,
            State::Promoting { .. } => Phase::Promoting,
            State::Draining => Phase::Draining,
            State::Baking { .. } => Phase::Baking,
            State::RollingBack(_) => Phase::RollingBack,
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
            State::RollingBack(_) | State::Final(Phase::RolledBack | Phase::Failed) => Share::From,
            State::Rolling(_) => Share::Both,
            State::Preparing(_)
            | State::Waiting
            | State::Starting(_)
            | State::Recreating
            | State::Shifting(_)
            | State::Promoting { .. }
            | State::Draining
            | State::Baking { .. }
            | State::Final(_) => Share::To,
        }
    }

    /// It leads to the new release, and not away from it.
    pub fn leads_forward(&self) -> bool {
        !matches!(self.state, State::RollingBack(_) | State::Final(Phase::RolledBack | Phase::Failed))
    }

    /// Requests wait meanwhile, where nothing answers: the old release ends before the new one starts.
    pub fn holds_requests(&self) -> bool {
        let recreates = self.plan.strategy == Strategy::Recreate && self.plan.from.is_some();
        recreates && matches!(self.state, State::Recreating | State::Promoting { .. } | State::RollingBack(_))
    }

    /// What should run of the new release now.
    pub fn wanted_to(&self) -> Wanted {
        let all = Wanted::Instances(self.plan.instances);
        match self.state {
            State::Preparing(_) | State::Waiting | State::Starting(Step::Intended) => Wanted::WhatRuns,
            State::Rolling(counts) => counts.map_or(Wanted::WhatRuns, |counts| Wanted::Instances(counts.to)),
            State::Recreating if !self.facts.is_some_and(|facts| facts.is_from_gone()) => Wanted::WhatRuns,
            State::RollingBack(_) if self.serves_alone() => self.making_room(),
            State::RollingBack(_) | State::Final(Phase::RolledBack | Phase::Failed) => Wanted::Nothing,
            State::Starting(Step::Doing)
            | State::Recreating
            | State::Shifting(_)
            | State::Promoting { .. }
            | State::Draining
            | State::Baking { .. }
            | State::Final(_) => all,
        }
    }

    /// On the way back of a rolling rollout, the new release answers until something of the old one does.
    fn serves_alone(&self) -> bool {
        matches!(self.plan.strategy, Strategy::Rolling { .. } if self.plan.from.is_some())
            && self.facts.is_none_or(|facts| facts.from_ready == 0 && facts.ready > 0)
    }

    /// Where as many run as may, part of the new release goes first, so that something of the old one can start.
    fn making_room(&self) -> Wanted {
        let (Some(limits), Some(facts)) = (self.limits(), &self.facts) else { return Wanted::WhatRuns };
        if limits.back(facts) > 0 || facts.running > facts.staying {
            return Wanted::WhatRuns;
        }
        Wanted::Instances(facts.staying.saturating_sub(limits.max_unavailable))
    }

    /// What should run of the old release now; `Nothing` where this rollout does not need it.
    pub fn wanted_from(&self) -> Wanted {
        let all = Wanted::Instances(self.plan.instances);
        match self.state {
            State::Draining | State::Final(Phase::Done) => Wanted::Nothing,
            State::Rolling(counts) => {
                counts.map_or(Wanted::WhatRuns, |counts| Wanted::Instances(counts.from))
            }
            State::Recreating => Wanted::Instances(0),
            State::Promoting { .. } if self.plan.strategy != Strategy::BlueGreen => Wanted::Instances(0),
            State::RollingBack(_) => match (self.plan.strategy, self.limits(), &self.facts) {
                (Strategy::BlueGreen, _, _) => all,
                (_, _, None) => Wanted::WhatRuns,
                (_, Some(limits), Some(facts)) => Wanted::Instances(limits.back(facts)),
                // Never two processes at once: what is left of either must be gone.
                (_, None, Some(facts)) if facts.is_gone() && facts.from_running == facts.from_staying => all,
                (_, None, Some(_)) => Wanted::WhatRuns,
            },
            State::Preparing(_)
            | State::Waiting
            | State::Starting(_)
            | State::Shifting(_)
            | State::Promoting { .. }
            | State::Baking { .. }
            | State::Final(_) => all,
        }
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
            | State::Rolling(_)
            | State::Recreating
            | State::Shifting(_)
            | State::Draining
            | State::RollingBack(_)
            | State::Final(_) => None,
        }
    }

    /// What is being done, for the record; `None` where nothing is.
    pub fn intent(&self) -> Option<String> {
        let Plan { to, from, instances, .. } = &self.plan;
        let from = || from.as_ref().map(ToString::to_string).unwrap_or_default();
        match self.state {
            State::Preparing(_) => Some(format!("copy {to}")),
            State::Waiting | State::Starting(_) => Some(format!("start {instances} of {to}")),
            State::Rolling(_) => Some(format!("replace {} by {to}, instance by instance", from())),
            State::Recreating => Some(format!("stop {}, then start {instances} of {to}", from())),
            State::Shifting(_) => Some(format!("give all traffic to {to}")),
            State::Promoting { .. } => Some(format!("make {to} stable")),
            State::Draining => self.plan.from.as_ref().map(|from| format!("stop {from}")),
            State::RollingBack(_) => Some(match &self.plan.from {
                Some(from) => format!("give all traffic back to {from}"),
                None => format!("stop {to}"),
            }),
            State::Baking { .. } | State::Final(_) => None,
        }
    }

    /// Why it is not further.
    pub fn waiting_on(&self, now: Instant) -> Option<WaitingOn> {
        let facts = self.facts();
        let ready = WaitingOn::Ready(facts.ready, self.plan.instances);
        Some(match self.state {
            State::Preparing(Step::Intended)
            | State::Starting(Step::Intended)
            | State::Shifting(Step::Intended)
            | State::Promoting { .. } => WaitingOn::Record,
            State::Preparing(Step::Doing) => WaitingOn::Copy,
            State::Waiting => WaitingOn::Room,
            State::Recreating if !facts.is_from_gone() => WaitingOn::FromGone,
            State::Starting(Step::Doing) => ready,
            State::Rolling(_) | State::Recreating | State::Shifting(Step::Doing) if !self.is_ready() => ready,
            State::Rolling(_) if facts.from_staying > 0 => WaitingOn::Replacing(facts.from_staying),
            State::RollingBack(_) if facts.restored && !facts.is_gone() => WaitingOn::ToGone,
            State::RollingBack(_) if facts.restored => WaitingOn::FromReady,
            State::Rolling(_) | State::Recreating | State::Shifting(Step::Doing) | State::RollingBack(_) => {
                WaitingOn::Proxies(facts.proxies)
            }
            State::Draining => WaitingOn::FromGone,
            State::Baking { until } => WaitingOn::Bake(now.until(until)),
            State::Final(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests;
