//! Rollouts on their way: facts in, what they want carried out, and how they end.
//!
//! It deliberately decides nothing: that is `model::rollout`. Here a promotion becomes a stable release, a
//! failure a verdict, and all of it a story.

use std::path::Path;
use std::time::Duration;

use model::id::{InstanceId, ReleaseId, ServiceName};
use model::rollout::{Action as Wish, Cause, Facts, Kind, Phase, Rollout, Strategy};
use model::time::{Instant, WallTime};
use wire::manifest::millis;
use wire::record::{Receipt, RolloutRecord, Verdict};

use super::counters::Counting;
use super::{Action, Controller, convert};
use crate::world::{HistoryEntry, PrepareRelease, Severity};
use model::time::human;

/// Good releases kept beside the stable one and the way back; as many that were never promoted.
const RELEASES_KEPT: usize = 5;

/// A rollout and what is known of it beyond its state.
#[derive(Debug, Clone)]
pub(super) struct Running {
    pub id: u64,
    pub machine: Rollout,
    pub actor: String,
    /// The client's key of the request.
    pub operation: Option<String>,
    pub started_at_ms: u64,
    pub decided_at_ms: Option<u64>,
    pub called_back_at_ms: Option<u64>,
    /// The release was on disk when it began.
    pub prepared: bool,
    /// What is wanted has changed, and nobody has acted on it yet.
    pub has_news: bool,
    pub reason: Option<String>,
    pub output: Vec<String>,
    /// What is known of it apart from the counts, and all of it once `counting` is over.
    pub receipt: Receipt,
    pub counting: Option<Counting>,
}

impl Running {
    /// Its facts, with the receipt as it was closed.
    pub(super) fn record(&self, now: Instant) -> RolloutRecord {
        let plan = self.machine.plan();
        RolloutRecord {
            id: self.id,
            kind: convert::kind_to_wire(plan.kind),
            to: plan.to.to_string(),
            from: plan.from.as_ref().map(ToString::to_string),
            actor: self.actor.clone(),
            operation: self.operation.clone(),
            strategy: convert::strategy_to_wire(plan.strategy),
            prepared: self.prepared,
            phase: convert::phase_to_wire(self.machine.phase()),
            intent: self.machine.intent(),
            reason: self.reason.clone(),
            output: self.output.clone(),
            started_at_ms: self.started_at_ms,
            decided_at_ms: self.decided_at_ms,
            bake_left_ms: self.machine.bake_left(now).map(millis),
            receipt: self.receipt.clone(),
        }
    }

    pub(super) fn age_ms(&self, wall: WallTime) -> u64 {
        wall.0.saturating_sub(self.started_at_ms)
    }
}

impl Controller {
    /// Tells every rollout what holds, and carries out what they want.
    pub(super) fn drive_rollouts(&mut self) -> bool {
        if self.stopping.is_some() {
            return false;
        }
        let mut changed = false;
        for name in self.names() {
            let Some(service) = self.services.get(&name) else { continue };
            let Some(running) = &service.rollout else { continue };
            let plan = running.machine.plan();
            let mut facts = service.facts(running);
            facts.proxies = u32::try_from(self.tables.proxies.len()).unwrap_or(u32::MAX);
            if service.is_worker() {
                // No proxy knows it: nothing goes to it, and nothing has to be waited for.
                (facts.proxies, facts.shifted, facts.restored) = (1, true, true);
                self.hear_facts(&name, facts);
                changed |= self.carry_out_rollout(&name);
                continue;
            }
            let left = plan.from.as_ref().is_none_or(|from| self.tables.nothing_goes_to(&name, from));
            facts.shifted = left && self.tables.all_go_to(&name, &plan.to);
            facts.restored = self.tables.nothing_goes_to(&name, &plan.to);
            self.hear_facts(&name, facts);
            changed |= self.carry_out_rollout(&name);
        }
        changed
    }

    fn hear_facts(&mut self, name: &ServiceName, facts: Facts) {
        let wall = self.wall;
        let Some(service) = self.services.get_mut(name) else { return };
        let is_put_down = service.desired.stopped || service.desired.removed;
        let Some(running) = &mut service.rollout else { return };
        if is_put_down {
            // The old release is not started again: the way back does not wait for it.
            running.machine.handle_old_failure();
        }
        let before = (running.machine.wanted_to(), running.machine.wanted_from());
        running.machine.handle_facts(facts);
        if running.machine.phase() == Phase::RollingBack && facts.restored {
            let since = running.called_back_at_ms.map(|at| wall.0.saturating_sub(at));
            let after = &mut running.receipt.rolled_back_after_ms;
            *after = after.or(since);
        }
        // What is wanted of either release is what instances are started and stopped by.
        running.has_news = before != (running.machine.wanted_to(), running.machine.wanted_from());
    }

    pub(super) fn carry_out_rollout(&mut self, name: &ServiceName) -> bool {
        let mut changed = self.rollout_mut(name).is_some_and(|running| std::mem::take(&mut running.has_news));
        while let Some(wish) = self.rollout_mut(name).and_then(|running| running.machine.poll_action()) {
            changed = true;
            match wish {
                Wish::Record => self.saving.wanted = true,
                Wish::Prepare => self.prepare(name),
                Wish::Start => {
                    let Some(running) = self.rollout_mut(name) else { continue };
                    let text = start_text(running);
                    self.tell(name, text);
                }
                Wish::Shift => self.shift(name),
                Wish::Promote { keep_from } => self.promote(name, keep_from),
                Wish::Restore => self.restore(name),
                Wish::Finished => self.finish(name),
            }
        }
        changed
    }

    pub(super) fn rollout_mut(&mut self, name: &ServiceName) -> Option<&mut Running> {
        self.services.get_mut(name)?.rollout.as_mut()
    }

    /// The rollout that takes the way back to this instance's release.
    pub(super) fn rollout_from(&mut self, id: &InstanceId) -> Option<&mut Running> {
        self.rollout_mut(&id.service)
            .filter(|running| running.machine.plan().from.as_ref() == Some(&id.release))
    }

    /// The rollout that leads to this instance's release.
    pub(super) fn rollout_to(&mut self, id: &InstanceId) -> Option<&mut Running> {
        self.rollout_mut(&id.service).filter(|running| running.machine.plan().to == id.release)
    }

    /// One line in the story of the service's rollout.
    pub(super) fn tell(&mut self, name: &ServiceName, text: String) {
        let wall = self.wall;
        let Some(running) = self.rollout_mut(name) else { return };
        let (id, at_ms) = (running.id, running.age_ms(wall));
        self.stories.line(id, at_ms, text.clone());
        self.announce(Severity::Info, Some((name, Some(id))), text);
    }

    /// One line about an instance, if the rollout leads to its release and is not decided.
    pub(super) fn tell_rollout(&mut self, id: &InstanceId, text: String) {
        let wall = self.wall;
        let running = self.rollout_to(id).filter(|running| !running.machine.phase().is_promoted());
        if let Some((rollout, at_ms)) = running.map(|running| (running.id, running.age_ms(wall))) {
            self.stories.line(rollout, at_ms, text);
        }
    }

    /// What an instance that failed said last belongs to the rollout's story.
    pub(super) fn keep_output(&mut self, id: &InstanceId) {
        let Some(output) = self.slot(id).map(|slot| slot.output.clone()) else { return };
        let running = self.rollout_to(id).filter(|running| !running.machine.phase().is_promoted());
        if let Some(running) = running
            && !output.is_empty()
        {
            running.output = output;
        }
    }

    fn prepare(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get(name) else { return };
        let Some(running) = &service.rollout else { return };
        let to = running.machine.plan().to.clone();
        if running.prepared && service.release(&to).is_some_and(super::services::Release::is_prepared) {
            if let Some(running) = self.rollout_mut(name) {
                running.machine.handle_prepared();
            }
            return;
        }
        if let Some(request) = self.prepare_request(name, &to) {
            self.out.push_back(Action::Prepare(Box::new(request)));
        }
    }

    pub(super) fn prepare_request(&self, name: &ServiceName, id: &ReleaseId) -> Option<PrepareRelease> {
        let service = self.services.get(name)?;
        let release = service.release(id)?;
        // Another configuration of a version has the same content.
        let mut of_version = service.releases.iter().filter(|known| known.id.version == id.version);
        let expected = of_version.find(|known| known.is_prepared()).map(|known| known.record.hash.clone());
        Some(PrepareRelease {
            service: name.clone(),
            release: id.clone(),
            source: release.record.source.clone().into(),
            program: release.record.configuration.command.first().cloned().unwrap_or_default(),
            arguments: release.record.configuration.command.iter().skip(1).cloned().collect(),
            expected_hash: expected,
        })
    }

    pub(super) fn handle_prepared(
        &mut self,
        name: &ServiceName,
        id: &ReleaseId,
        directory: &Path,
        hash: String,
    ) {
        let Some(service) = self.services.get_mut(name) else { return };
        if let Some(release) = service.release_mut(id) {
            release.record.directory = directory.display().to_string();
            release.record.hash = hash;
        }
        if let Some(running) = &mut service.rollout
            && running.machine.plan().to == *id
        {
            running.machine.handle_prepared();
        }
        self.end_verifying(name, id, None);
    }

    pub(super) fn handle_refused(&mut self, name: &ServiceName, id: &ReleaseId, error: &str) {
        if let Some(running) = self.rollout_mut(name)
            && running.machine.plan().to == *id
        {
            running.machine.handle_refused(error.to_owned());
        }
        self.end_verifying(name, id, Some(error));
    }

    fn shift(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name) else { return };
        let Some(running) = &service.rollout else { return };
        let plan = running.machine.plan().clone();
        if plan.kind == Kind::Rollback
            && let Some(from) = &plan.from
        {
            // Said in the table that goes out next, recorded after it.
            service.set_verdict(from, Verdict::LeftByRollback);
        }
        let text = match &plan.from {
            _ if service.is_worker() => return,
            Some(from) => format!("moving all traffic from {from} to {}", plan.to),
            None => format!("{} takes all traffic", plan.to),
        };
        self.tell(name, text);
    }

    fn promote(&mut self, name: &ServiceName, keep_from: bool) {
        let wall = self.wall;
        let Some(service) = self.services.get_mut(name) else { return };
        let Some(running) = &mut service.rollout else { return };
        let plan = running.machine.plan().clone();
        let age = running.age_ms(wall);
        running.decided_at_ms = Some(wall.0);
        if plan.kind == Kind::Rollback {
            running.receipt.rolled_back_after_ms = Some(age);
        }
        let left = plan.from.clone().filter(|_| plan.kind == Kind::Rollback);
        running.receipt.switched_after_ms = Some(age);
        service.stable = Some(plan.to.clone());
        service.warm = plan.from.clone().filter(|_| keep_from);
        if let Some(index) = service.releases.iter().position(|release| release.id == plan.to) {
            let mut release = service.releases.remove(index);
            release.record.verdict = Verdict::Good;
            release.record.promoted = true;
            service.releases.push(release);
        }
        if let Some(left) = left {
            service.set_verdict(&left, Verdict::LeftByRollback);
        }
        let worker = service.is_worker();
        let text = match &plan.from {
            None => format!("{} is stable", plan.to),
            Some(from) if worker || plan.strategy == Strategy::Recreate => {
                format!("{} has taken the place of {from}", plan.to)
            }
            Some(from) if keep_from => {
                format!("all traffic goes to {}; {from} stays warm for {}", plan.to, human(plan.keep_warm))
            }
            Some(from) => format!("all traffic goes to {}; {from} finishes its requests and stops", plan.to),
        };
        self.tell(name, text);
        self.decide_counting(name);
    }

    fn restore(&mut self, name: &ServiceName) {
        let wall = self.wall;
        let Some(service) = self.services.get_mut(name) else { return };
        let Some(running) = &mut service.rollout else { return };
        running.called_back_at_ms = Some(wall.0);
        let plan = running.machine.plan().clone();
        let Some(cause) = running.machine.cause().cloned() else { return };
        running.reason.get_or_insert(cause.to_string());
        match cause {
            Cause::Failure(_) | Cause::Earlier => service.set_verdict(&plan.to, Verdict::Failed),
            Cause::Operator(_) if plan.kind != Kind::Rollback => {
                service.set_verdict(&plan.to, Verdict::LeftByRollback);
            }
            Cause::Operator(_) | Cause::Replaced(_) => {}
        }
        service.keep_from(&plan);
        self.tell(name, cause.to_string());
    }

    fn finish(&mut self, name: &ServiceName) {
        let receipt = self.receipt(name);
        let (now, wall) = (self.now, self.wall);
        let Some(service) = self.services.get_mut(name) else { return };
        let Some(running) = &mut service.rollout else { return };
        running.receipt = receipt;
        let phase = running.machine.phase();
        let cause = running.machine.cause().map(ToString::to_string);
        if let Some(cause) = cause {
            running.reason.get_or_insert(cause);
        }
        running.decided_at_ms.get_or_insert(wall.0);
        if phase == Phase::RolledBack
            && let Some(at) = running.called_back_at_ms
        {
            running.receipt.rolled_back_after_ms.get_or_insert(wall.0.saturating_sub(at));
        }
        let plan = running.machine.plan().clone();
        let text = match (phase, &plan.from) {
            (Phase::Done, _) => None,
            (_, Some(from)) => Some(format!("{} is not taken; {from} serves as before", plan.to)),
            (_, None) => Some(format!("{} is not taken, and there is nothing else to serve", plan.to)),
        };
        if let Some(text) = text {
            self.tell(name, text);
        }
        let Some(service) = self.services.get_mut(name) else { return };
        let Some(running) = service.rollout.take() else { return };
        let record = running.record(now);
        if phase == Phase::Done {
            service.warm = None;
        } else {
            service.keep_from(&plan);
        }
        service.last_rollout = Some(record.clone());
        self.stories.finish(record.clone());
        let severity = match running.machine.cause() {
            None => Severity::Info,
            Some(Cause::Operator(_) | Cause::Replaced(_)) => Severity::Warning,
            Some(Cause::Failure(_) | Cause::Earlier) => Severity::Error,
        };
        self.report_end(name, &record, severity);
        self.forget_releases(name);
        self.saving.wanted = true;
    }

    pub(super) fn report_end(&mut self, name: &ServiceName, record: &RolloutRecord, severity: Severity) {
        let reason = record.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        let word = convert::phase_from_wire(record.phase).name();
        let text = format!("rollout {} to {} is {word}{reason}", record.id, record.to);
        self.announce(severity, Some((name, Some(record.id))), text.clone());
        let entry = HistoryEntry {
            at: self.wall,
            service: Some(name.clone()),
            subject: "rollout",
            text,
            actor: record.actor.clone(),
            rollout: Some(Box::new(record.clone())),
        };
        self.out.push_back(Action::Append(Box::new(entry)));
    }

    /// Drops releases that were never copied, and the oldest of the others beyond what is kept.
    fn forget_releases(&mut self, name: &ServiceName) {
        let Some(service) = self.services.get_mut(name) else { return };
        service.releases.retain(super::services::Release::is_prepared);
        let mut keep: Vec<ReleaseId> = service.slots.keys().map(|id| id.release.clone()).collect();
        keep.extend(service.stable.iter().chain(&service.warm).cloned());
        keep.extend(service.way_back());
        let (mut good, mut other) = (0, 0);
        let mut dropped = Vec::new();
        for release in service.releases.iter().rev() {
            let is_good = release.record.promoted && release.record.verdict == Verdict::Good;
            let count = if is_good { &mut good } else { &mut other };
            *count += 1;
            if *count > RELEASES_KEPT && !keep.contains(&release.id) {
                dropped.push(release.id.clone());
            }
        }
        for id in dropped {
            let index = service.releases.iter().position(|release| release.id == id);
            let release = service.releases.remove(index.expect("invariant: just listed"));
            let directory = release.record.directory;
            self.dropped.push((name.clone(), directory));
        }
    }

    /// How long the old release stays warm after a promotion: not at all where it would work on beside the new
    /// one, or was stopped for it.
    pub(super) fn keep_warm(&self, name: &ServiceName) -> Duration {
        self.services.get(name).map_or(Duration::ZERO, |service| service.keep_warm(service.stable.as_ref()))
    }
}

fn start_text(running: &Running) -> String {
    let plan = running.machine.plan();
    let s = if plan.instances == 1 { "" } else { "s" };
    match (plan.strategy, &plan.from) {
        (Strategy::Rolling { .. }, Some(from)) => {
            format!("replacing {} instance{s} of {from} by {}, one after another", plan.instances, plan.to)
        }
        (Strategy::Recreate, Some(from)) => {
            format!("stopping {from}, then starting {} instance{s} of {}", plan.instances, plan.to)
        }
        _ => format!("starting {} instance{s} of {}", plan.instances, plan.to),
    }
}
