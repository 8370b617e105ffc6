//! What operators ask that is no rollout: restart, reload, stop, start, scale.
//!
//! Whether it can be done is said at once, and nothing has changed if it cannot. What was true already is an
//! operation too: one that has ended. How the others go on is in `operating`.

use model::id::{InstanceId, ServiceName};
use model::manifest as checked;
use model::rollout::Cause;
use model::time::{Instant, WallTime};
use wire::record::OperationKind;

use super::operating::Operation;
use super::requests::Asked;
use super::{Controller, convert};
use crate::denied::Denied;
use crate::status::{OperationAccepted, OperationProgress};

impl Controller {
    /// Replaces every instance of the stable release by a fresh one, one after another: the fresh one is ready
    /// before the old one stops, unless two must not run at once.
    ///
    /// # Errors
    /// When it cannot be done now.
    pub fn try_restart(
        &mut self,
        service: &str,
        asked: Asked<'_>,
        now: Instant,
        wall: WallTime,
    ) -> Result<OperationAccepted, Denied> {
        self.at(now, wall);
        if let Some(before) = self.operated_before(service, asked.operation) {
            return Ok(before);
        }
        let name = self.check_operation(service)?;
        let remaining = self.check_running(&name)?;
        self.end_bake(&name);
        let id = self.begin_operation(&name, OperationKind::Restart, asked, remaining);
        self.settle();
        Ok(OperationAccepted { id, already: None, warning: None })
    }

    /// Tells every instance of the stable release to read its configuration again, one after another.
    ///
    /// # Errors
    /// When it cannot be done now.
    pub fn try_reload(
        &mut self,
        service: &str,
        asked: Asked<'_>,
        now: Instant,
        wall: WallTime,
    ) -> Result<OperationAccepted, Denied> {
        self.at(now, wall);
        if let Some(before) = self.operated_before(service, asked.operation) {
            return Ok(before);
        }
        let name = self.check_operation(service)?;
        let remaining = self.check_running(&name)?;
        if self.services[&name].settings.reload.is_none() {
            return Err(Denied::NoReload { service: name });
        }
        self.end_bake(&name);
        let id = self.begin_operation(&name, OperationKind::Reload, asked, remaining);
        self.settle();
        Ok(OperationAccepted { id, already: None, warning: None })
    }

    /// Stops everything of a service until `try_start`. A rollout or operation that runs is ended by it.
    ///
    /// # Errors
    /// When it cannot be done now.
    pub fn try_stop_service(
        &mut self,
        service: &str,
        asked: Asked<'_>,
        now: Instant,
        wall: WallTime,
    ) -> Result<OperationAccepted, Denied> {
        self.at(now, wall);
        if let Some(before) = self.operated_before(service, asked.operation) {
            return Ok(before);
        }
        let name = self.check_service(service)?;
        self.check_writable()?;
        let running = self.services[&name].operating();
        if let Some(stop) = running.filter(|operation| operation.kind == OperationKind::Stop) {
            return Ok(OperationAccepted { id: stop.id, already: None, warning: None });
        }
        let is_stopped = self.services[&name].desired.stopped && self.services[&name].slots.is_empty();
        self.end_operation(&name, Err(format!("{} has stopped {name}", asked.actor)));
        self.end_bake(&name);
        if let Some(running) = self.rollout_mut(&name) {
            // Whatever state it is in, the way back is the way out; nothing is awaited on it.
            let _ = running.machine.try_abort(Cause::Operator(asked.actor.to_owned()));
            running.machine.handle_old_failure();
        }
        self.carry_out_rollout(&name);
        let warning = self.needed_by(&name);
        let service = self.services.get_mut(&name).expect("invariant: just looked up");
        service.desired.stopped = true;
        service.start_first = false;
        let id = self.begin_operation(&name, OperationKind::Stop, asked, Vec::new());
        if let Some(warning) = &warning {
            self.tell_operation(&name, warning.clone());
        }
        let already = is_stopped.then(|| format!("{name} is stopped already"));
        self.settle();
        Ok(OperationAccepted { id, already, warning })
    }

    fn needed_by(&self, name: &ServiceName) -> Option<String> {
        let mut dependents = self.dependents(name);
        dependents.retain(|dependent| !self.services[dependent].slots.is_empty());
        let names: Vec<String> = dependents.iter().map(ToString::to_string).collect();
        let verb = if names.len() == 1 { "needs" } else { "need" };
        (!names.is_empty()).then(|| format!("{} {verb} {name}, and go on without it", names.join(", ")))
    }

    /// Undoes a stop; what waits for its next start, or is down by its restart policy, starts now.
    ///
    /// # Errors
    /// When it cannot be done now.
    pub fn try_start(
        &mut self,
        service: &str,
        asked: Asked<'_>,
        now: Instant,
        wall: WallTime,
    ) -> Result<OperationAccepted, Denied> {
        self.at(now, wall);
        if let Some(before) = self.operated_before(service, asked.operation) {
            return Ok(before);
        }
        let name = self.check_service(service)?;
        self.check_writable()?;
        if let Some(stop) = self.services[&name].operating() {
            if stop.kind == OperationKind::Start {
                return Ok(OperationAccepted { id: stop.id, already: None, warning: None });
            }
            if stop.kind != OperationKind::Stop {
                return Err(self.operation_runs(&name));
            }
        }
        self.end_operation(&name, Err(format!("{} has started {name} again", asked.actor)));
        let service = self.services.get_mut(&name).expect("invariant: just looked up");
        let was_stopped = std::mem::take(&mut service.desired.stopped);
        let pending = service.pending.take();
        let mut cut_short = false;
        for slot in service.slots.values_mut() {
            cut_short |= slot.machine.try_start_now(now).is_ok();
        }
        if service.stable.is_none() && service.rollout.is_none() {
            service.start_first = true;
            cut_short = true;
        }
        if let Some(pending) = pending {
            self.roll_out_to(&name, pending, asked);
        }
        let in_rollout = self.check_no_rollout(&name).is_err();
        let already = (!was_stopped && !cut_short && !in_rollout).then(|| format!("{name} runs already"));
        let id = self.begin_operation(&name, OperationKind::Start, asked, Vec::new());
        self.settle();
        Ok(OperationAccepted { id, already, warning: None })
    }

    /// Another number of instances, whatever the manifest says, until it says another one.
    ///
    /// # Errors
    /// When it cannot be done now.
    pub fn try_scale(
        &mut self,
        service: &str,
        instances: u32,
        asked: Asked<'_>,
        now: Instant,
        wall: WallTime,
    ) -> Result<OperationAccepted, Denied> {
        self.at(now, wall);
        if let Some(before) = self.operated_before(service, asked.operation) {
            return Ok(before);
        }
        let name = self.check_operation(service)?;
        if instances == 0 {
            return Err(Denied::ScaleToNothing { service: name });
        }
        if let Some(why) = runs_once(&self.services[&name].settings).filter(|_| instances > 1) {
            return Err(Denied::ScaleOfOne { service: name, instances, why });
        }
        self.end_bake(&name);
        let (id, already) = self.scale(&name, Some(instances), asked);
        self.settle();
        Ok(OperationAccepted { id, already, warning: None })
    }

    /// Sets what `scale` says of a service; checked by the caller.
    pub(super) fn scale(
        &mut self,
        name: &ServiceName,
        scaled: Option<u32>,
        asked: Asked<'_>,
    ) -> (u64, Option<String>) {
        let service = self.services.get_mut(name).expect("invariant: the caller has looked it up");
        let before = service.desired_instances();
        service.desired.scaled = scaled;
        let now = service.desired_instances();
        let same =
            before == now && service.stable.as_ref().is_none_or(|stable| service.running(stable) == now);
        let already =
            same.then(|| format!("{name} has {now} instance{} already", if now == 1 { "" } else { "s" }));
        (self.begin_operation(name, OperationKind::Scale, asked, Vec::new()), already)
    }

    fn check_operation(&self, service: &str) -> Result<ServiceName, Denied> {
        let name = self.check_service(service)?;
        self.check_writable()?;
        self.check_no_rollout(&name)?;
        if self.services[&name].operating().is_some() {
            return Err(self.operation_runs(&name));
        }
        Ok(name)
    }

    pub(super) fn check_no_rollout(&self, name: &ServiceName) -> Result<(), Denied> {
        let running = self.services[name].rollout.as_ref();
        match running.filter(|running| !running.machine.phase().is_promoted()) {
            Some(running) => Err(Denied::RolloutRuns {
                service: name.clone(),
                version: running.machine.plan().to.to_string(),
                phase: running.machine.phase().name(),
                actor: running.actor.clone(),
            }),
            None => Ok(()),
        }
    }

    pub(super) fn operation_runs(&self, name: &ServiceName) -> Denied {
        let operation = self.services[name].operating();
        Denied::OperationRuns {
            service: name.clone(),
            kind: operation.map_or("stop", |operation| convert::operation_name(operation.kind)),
            actor: operation.map(|operation| operation.actor.clone()).unwrap_or_default(),
        }
    }

    /// The instances of the stable release, which a restart or a reload is about.
    fn check_running(&self, name: &ServiceName) -> Result<Vec<InstanceId>, Denied> {
        let service = &self.services[name];
        if service.desired.stopped {
            return Err(Denied::Stopped { service: name.clone() });
        }
        let Some(stable) = &service.stable else {
            return Err(Denied::NothingStable { service: name.clone() });
        };
        let slots = service.slots_of(stable).filter(|(_, slot)| !slot.machine.is_leaving());
        Ok(slots.map(|(id, _)| id.clone()).collect())
    }

    /// What bakes, or drains, is over: the release stays good.
    pub(super) fn end_bake(&mut self, name: &ServiceName) {
        if let Some(running) = self.rollout_mut(name).filter(|running| running.machine.phase().is_promoted())
        {
            // Promoted: it can be ended.
            let _ = running.machine.try_end();
        }
        self.carry_out_rollout(name);
    }

    fn begin_operation(
        &mut self,
        name: &ServiceName,
        kind: OperationKind,
        asked: Asked<'_>,
        remaining: Vec<InstanceId>,
    ) -> u64 {
        let id = self.next_rollout;
        self.next_rollout += 1;
        let mut operation = Operation::new(id, kind, self.wall.0);
        asked.actor.clone_into(&mut operation.actor);
        operation.operation = asked.operation.map(str::to_owned);
        operation.remaining = remaining;
        let service = self.services.get_mut(name).expect("invariant: the caller has looked it up");
        service.operation = Some(operation);
        let text = match kind {
            OperationKind::Restart => format!("restarting {name}"),
            OperationKind::Reload => format!("reloading {name}"),
            OperationKind::Stop => format!("stopping {name}"),
            OperationKind::Start => format!("starting {name}"),
            OperationKind::Scale => {
                let instances = service.desired_instances();
                format!("{name} shall have {instances} instance{}", if instances == 1 { "" } else { "s" })
            }
        };
        self.append(Some(name), "operation", format!("{text}, asked by {}", asked.actor), asked.actor);
        self.tell_operation(name, text);
        self.saving.wanted = true;
        id
    }

    /// The answer that this request got when it came the first time, maybe from a former agent.
    fn operated_before(&self, service: &str, key: Option<&str>) -> Option<OperationAccepted> {
        let key = Some(key?);
        let service = self.services.iter().find(|(name, _)| name.as_str() == service)?.1;
        let operation =
            service.operation.as_ref().filter(|operation| operation.operation.as_deref() == key)?;
        Some(OperationAccepted { id: operation.id, already: None, warning: None })
    }

    /// What a follower of an operation has not seen yet; `None` if no such operation is known.
    pub fn operation_progress(&self, id: u64, after: u64) -> Option<OperationProgress> {
        let story = self.stories.get(id);
        let lines = story.map(|story| &story.lines).into_iter().flatten();
        let lines = lines.filter(|line| line.sequence > after).cloned().collect();
        let mut known = self.services.iter();
        let found = known.find_map(|(name, service)| {
            let operation = service.operation.as_ref().filter(|operation| operation.id == id)?;
            Some((name, service, operation))
        });
        if let Some((name, service, operation)) = found {
            return Some(OperationProgress {
                id,
                service: name.to_string(),
                kind: operation.kind,
                lines,
                waiting_on: operation.waiting_on(service),
                outcome: operation.outcome().cloned(),
            });
        }
        let (service, record) = story?.operation.as_ref()?;
        let failed = || Err(record.reason.clone().unwrap_or_default());
        Some(OperationProgress {
            id,
            service: service.clone(),
            kind: record.kind,
            lines,
            waiting_on: None,
            outcome: Some(if record.succeeded == Some(true) { Ok(()) } else { failed() }),
        })
    }
}

/// Why a service cannot have more than one instance.
pub(super) fn runs_once(settings: &checked::Service) -> Option<&'static str> {
    if settings.port.is_some() {
        return Some("its port is fixed, and only one process can listen on it");
    }
    let recreates = settings.rollout.strategy == checked::Strategy::Recreate;
    recreates.then_some("its manifest says that only one process of it may run")
}
