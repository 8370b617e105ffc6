//! What is shown: status, and the progress of a rollout.
//!
//! Plain values made on request; nothing here changes anything.

use std::collections::BTreeMap;

use model::id::{InstanceId, ServiceName};
use model::rollout::{WaitingOn, Wanted};
use model::time::{Instant, WallTime};
use wire::manifest::millis;
use wire::record::RolloutRecord;

use super::instances::elsewhere;
use super::rollouts::Running;
use super::services::{Service, Slot};
use super::{Controller, Link};
use crate::status::{
    InstanceStatus, ListenerStatus, OperationStatus, Progress, RolloutStatus, ServiceStatus, Status,
};

impl Controller {
    /// Everything `status` shows.
    pub fn status(&self, now: Instant, _wall: WallTime) -> Status {
        let proxies = &self.tables.proxies;
        let newest = proxies.last_key_value().map(|(generation, proxy)| (proxy.pid, *generation));
        let older = proxies.iter().rev().skip(1).rev();
        Status {
            holder: self.holder,
            proxy: newest,
            draining_proxies: older
                .map(|(generation, proxy)| (proxy.pid, *generation, proxy.connections))
                .collect(),
            listeners: self.listener_statuses(),
            services: self
                .services
                .keys()
                .map(|name| (name.to_string(), self.service_status(name, now)))
                .chain(self.fronted_statuses())
                .collect(),
            warnings: self.warnings(),
            stopping: self.stopping.is_some(),
        }
    }

    fn listener_statuses(&self) -> BTreeMap<String, ListenerStatus> {
        let shown = self.listeners.iter().filter(|(name, _)| *name != "admin.sock");
        let status = |listener: &super::listeners::Listener| ListenerStatus {
            address: listener.address.clone(),
            error: listener.error.clone(),
        };
        shown.map(|(name, listener)| (name.clone(), status(listener))).collect()
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(error) = self.saving.error() {
            warnings.push(format!("{error}; rollouts wait until it can be written"));
        }
        match self.link {
            Link::Unknown => warnings.push("the control plane is just starting".to_owned()),
            Link::Lost { .. } => warnings.push("the holder is gone; it is being replaced".to_owned()),
            Link::Linked => {}
        }
        if self.tables.proxies.is_empty() && self.link == Link::Linked {
            warnings.push("no proxy runs".to_owned());
        }
        let failing = self.names.failing();
        warnings.extend(failing.map(|(name, why)| format!("{name} cannot be looked up: {why}")));
        if !self.differs.is_empty() {
            let keys = self.differs.join(", ");
            warnings.push(format!(
                "these keys of {} differ from what holds and could not be applied: {keys}; see `handover plan`",
                self.base.path
            ));
        }
        warnings
    }

    fn service_status(&self, name: &ServiceName, now: Instant) -> ServiceStatus {
        let service = &self.services[name];
        let totals = self.totals(name);
        let left = service.rollout.as_ref().and_then(|running| running.machine.bake_left(now));
        let warm = service.warm.as_ref().map(|warm| (warm.to_string(), left.map_or(0, millis)));
        ServiceStatus {
            stable: service.stable.as_ref().map(ToString::to_string),
            warm,
            rollout: service.rollout.as_ref().map(|running| self.rollout_status(name, running, now)),
            last_rollout: service.last_rollout.as_ref().map(|record| final_status(record.clone())),
            operation: service.operating().map(|operation| OperationStatus {
                id: operation.id,
                kind: operation.kind,
                actor: operation.actor.clone(),
                waiting_on: operation.waiting_on(service),
            }),
            desired_instances: service.desired_instances(),
            stopped: service.desired.stopped,
            removed: service.desired.removed,
            fronted: false,
            strategy: Some(service.settings.rollout.strategy),
            mode: Some(service.settings.mode),
            waiting_on: service.waits_for.clone(),
            instances: service
                .slots
                .iter()
                .map(|(id, slot)| instance_status(service, id, slot, now))
                .collect(),
            requests_total: totals.requests,
            errors_total: totals.errors,
        }
    }

    fn rollout_status(&self, name: &ServiceName, running: &Running, now: Instant) -> RolloutStatus {
        let mut record = running.record(now);
        let is_own = self.services[name].rollout.as_ref().is_some_and(|own| own.id == running.id);
        if is_own {
            record.receipt = self.receipt(name);
        }
        let receipt = record.receipt.clone();
        RolloutStatus {
            step: record.intent.clone(),
            weight_percent: u32::from(self.tables.weight(name, &running.machine.plan().to)) / 100,
            waiting_on: self.rollout_waits(name, running, now),
            receipt,
            record,
        }
    }

    fn rollout_waits(&self, name: &ServiceName, running: &Running, now: Instant) -> Option<String> {
        let waits = running.machine.waiting_on(now);
        // Its instances do not start before what they need is there.
        let first = matches!(waits, Some(WaitingOn::Ready(0, _)));
        let needs = self.services[name].waits_for.clone().filter(|_| first);
        needs.or_else(|| waits.map(|waits| waits.to_string()))
    }

    /// What a follower of a rollout has not seen yet; `None` if no such rollout of that service is known.
    pub fn progress(&self, service: &str, rollout: u64, after: u64, now: Instant) -> Option<Progress> {
        let (name, service) = self.services.iter().find(|(name, _)| name.as_str() == service)?;
        let story = self.stories.get(rollout);
        let lines = story.map(|story| &story.lines).into_iter().flatten();
        let lines = lines.filter(|line| line.sequence > after).cloned().collect();
        let living = [&service.rollout, &service.verifying].into_iter().flatten();
        if let Some(running) = living.into_iter().find(|running| running.id == rollout) {
            let decided = running.machine.phase().is_promoted() && running.counting.is_none();
            return Some(Progress {
                rollout: self.rollout_status(name, running, now),
                lines,
                decided,
                is_final: false,
            });
        }
        let record = story.and_then(|story| story.last.as_ref()).or(service.last_rollout.as_ref());
        let record = record.filter(|record| record.id == rollout)?;
        Some(Progress { rollout: final_status(record.clone()), lines, decided: true, is_final: true })
    }
}

fn final_status(record: RolloutRecord) -> RolloutStatus {
    let is_done = record.phase == wire::record::Phase::Done;
    RolloutStatus {
        step: None,
        weight_percent: if is_done { 100 } else { 0 },
        waiting_on: None,
        receipt: record.receipt.clone(),
        record,
    }
}

fn instance_status(service: &Service, id: &InstanceId, slot: &Slot, now: Instant) -> InstanceStatus {
    let status = slot.machine.status(now);
    let is_warm = status.state == "ready" && service.warm.as_ref() == Some(&id.release);
    let retires = !service.wanted().get(&id.release).is_some_and(|wanted| *wanted != Wanted::Nothing);
    let waiting = status.waiting_on.map(|waits| waits.to_string());
    let detail = elsewhere(slot).filter(|_| status.state == "starting").or(waiting);
    InstanceStatus {
        id: id.to_string(),
        pid: status.pid,
        version: id.release.to_string(),
        state: if is_warm && !retires { "warm" } else { status.state },
        address: slot.port.map(|port| format!("127.0.0.1:{port}")),
        restarts: status.restarts,
        detail: detail.or_else(|| slot.machine.detail().map(str::to_owned)),
        next_start_in_ms: slot.machine.next_start().map(|at| millis(now.until(at))),
        ends_in_a_row: slot.machine.ends_in_a_row(),
    }
}
