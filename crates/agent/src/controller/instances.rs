//! Slots and their processes: making what is wanted, stopping what is not, and hearing from both.
//!
//! It deliberately holds no states: those are `model::instance`. Here an instance gets its port, its request to
//! the fleet, and its place in the story.

use std::path::PathBuf;
use std::time::Duration;

use model::id::{InstanceId, ServiceName};
use model::instance::{Action as Wish, Hardness, Instance, Report, Routing};
use model::rollout::{Failure, Wanted};

use super::services::Slot;
use super::story::seconds;
use super::{Controller, Link, convert};
use crate::expand::{Sources, expand};
use crate::world::{Event, FleetRequest, Severity, SpawnRequest};

/// Ports tried for one start before it counts as failed.
const PORT_TRIES_MAX: u32 = 20;
/// Most output lines kept of an instance.
const OUTPUT_LINES_MAX: usize = 20;

impl Controller {
    /// Starts what is wanted and missing, stops what runs and is not wanted.
    pub(super) fn reconcile(&mut self) -> bool {
        if self.link != Link::Linked || self.stopping.is_some() {
            return false;
        }
        let mut changed = false;
        for name in self.names() {
            changed |= self.begin_first(&name);
            changed |= self.reconcile_service(&name);
        }
        changed
    }

    fn reconcile_service(&mut self, name: &ServiceName) -> bool {
        let now = self.now;
        let Some(service) = self.services.get_mut(name) else { return false };
        let mut changed = false;
        let wanted = service.wanted();
        for (id, slot) in &mut service.slots {
            if !wanted.contains_key(&id.release) && !slot.machine.is_leaving() {
                changed |= slot.machine.try_stop(Hardness::Drain, now).is_ok();
            }
        }
        for (release, _) in wanted.iter().filter(|(_, wanted)| **wanted == Wanted::All) {
            let staying =
                |(id, slot): &(&InstanceId, &Slot)| id.release == *release && !slot.machine.is_leaving();
            let running = service.slots.iter().filter(staying).count();
            let target = usize::try_from(service.settings.instances).unwrap_or(usize::MAX);
            for _ in running..target {
                let id = service.free_slot(name, release);
                let machine = Instance::new(service.instance_settings(), now);
                service.slots.insert(id, Slot::new(machine));
                changed = true;
            }
            let extra: Vec<InstanceId> =
                service.slots.iter().filter(staying).map(|(id, _)| id.clone()).skip(target).collect();
            for id in extra {
                let slot = service.slots.get_mut(&id).expect("invariant: just listed");
                changed |= slot.machine.try_stop(Hardness::Drain, now).is_ok();
            }
        }
        changed
    }

    /// Carries out what the slots want, and drops those of which nothing is left.
    pub(super) fn drive_instances(&mut self) -> bool {
        let now = self.now;
        let mut wishes = Vec::new();
        for service in self.services.values_mut() {
            for (id, slot) in &mut service.slots {
                if slot.machine.is_draining() && self.tables.is_drained(slot) {
                    slot.machine.handle_drained(now);
                }
                while let Some(wish) = slot.machine.poll_action() {
                    wishes.push((id.clone(), wish));
                }
            }
        }
        let mut changed = !wishes.is_empty();
        for (id, wish) in wishes {
            match wish {
                Wish::Spawn => self.spawn(&id),
                Wish::Signal(signal) => self.pending.push(FleetRequest::Signal { instance: id, signal }),
                Wish::KillTree => self.pending.push(FleetRequest::KillTree { instance: id }),
                Wish::Forget => {
                    self.free_port(&id);
                    self.pending.push(FleetRequest::Forget { instance: id });
                }
                Wish::Report(report) => self.handle_report(&id, report),
            }
        }
        for service in self.services.values_mut() {
            let before = service.slots.len();
            for slot in service.slots.values_mut().filter(|slot| slot.machine.is_stopped()) {
                if let Some(port) = slot.port.take() {
                    self.ports.free(port, now);
                }
            }
            service.slots.retain(|_, slot| !slot.machine.is_stopped());
            changed |= service.slots.len() != before;
        }
        changed
    }

    fn free_port(&mut self, id: &InstanceId) {
        let now = self.now;
        if let Some(port) = self.slot(id).and_then(|slot| slot.port.take()) {
            self.ports.free(port, now);
        }
    }

    fn spawn(&mut self, id: &InstanceId) {
        self.free_port(id);
        let now = self.now;
        let port = match self.ports.try_take(now) {
            Ok(port) => port,
            Err(error) => {
                if let Some(slot) = self.slot(id) {
                    slot.machine.handle_spawn_failed(error.to_string(), now);
                }
                return;
            }
        };
        let Some(request) = self.spawn_request(id, port) else {
            self.ports.free(port, now);
            return;
        };
        if let Some(slot) = self.slot(id) {
            slot.port = Some(port);
            slot.elsewhere.clear();
            slot.output.clear();
            self.pending.push(FleetRequest::Spawn(Box::new(request)));
        }
    }

    fn spawn_request(&self, id: &InstanceId, port: u16) -> Option<SpawnRequest> {
        let service = self.services.get(&id.service)?;
        let release = service.release(&id.release)?;
        let directory = PathBuf::from(&release.record.directory);
        let configuration = &release.record.configuration;
        let may_inherit = |(name, _): &&(String, String)| configuration.environment_inherit.contains(name);
        let inherited: Vec<(String, String)> =
            self.base.environment.iter().filter(may_inherit).cloned().collect();
        let expanded = expand(&Sources {
            instance: id,
            port,
            directory: &directory,
            inherited: &inherited,
            declared: &configuration.environment,
            command: &configuration.command,
        });
        Some(SpawnRequest {
            instance: id.clone(),
            release_directory: directory,
            command: expanded.command,
            environment: expanded.environment,
            port: Some(port),
            port_is_fixed: false,
            watchdog: None,
            ready_log: None,
            environment_file: service.settings.environment_file.clone(),
            working_directory: service.settings.working_directory.clone(),
            account: service.settings.account.clone(),
            umask: service.settings.umask,
            limits: service.settings.limits,
            output: service.settings.output.clone(),
            notify: service.settings.readiness.check == model::manifest::ReadinessCheck::Notify,
            stop: service.settings.stop.clone(),
        })
    }

    pub(super) fn handle_instance_event(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Spawned { instance, pid } => {
                if let Some(slot) = self.slot(&instance) {
                    slot.port_tries = 0;
                    slot.machine.handle_spawned(pid, now);
                }
            }
            Event::SpawnFailed { instance, error } => {
                if let Some(slot) = self.slot(&instance) {
                    slot.machine.handle_spawn_failed(error, now);
                }
            }
            Event::PortTaken { instance, port } => self.handle_port_taken(&instance, port),
            Event::Exited { instance, status } => match self.slot(&instance) {
                Some(slot) => slot.machine.handle_exited(convert::ended(status), now),
                // Noted and dropped before: the holder repeats it until it is told so.
                None => self.pending.push(FleetRequest::Forget { instance }),
            },
            Event::Notified { instance, said } => {
                if let Some(slot) = self.slot(&instance).filter(|_| said.ready) {
                    slot.machine.handle_notified_ready(now);
                }
            }
            Event::Probe { instance, healthy, detail } => {
                if let Some(slot) = self.slot(&instance) {
                    slot.machine.handle_probe(healthy, &detail, now);
                }
            }
            Event::Drained { proxy, instance, generation } => {
                if let Some(slot) = self.slot(&instance) {
                    let known = slot.drained.entry(proxy).or_insert(generation);
                    *known = generation.max(*known);
                }
            }
            Event::ListensElsewhere { instance, ports } => self.handle_listens_elsewhere(&instance, ports),
            Event::Output { instance, mut lines } => {
                if let Some(slot) = self.slot(&instance) {
                    lines.drain(..lines.len().saturating_sub(OUTPUT_LINES_MAX));
                    slot.output = lines;
                }
            }
            // `Controller::handle_event` takes the others itself.
            _ => {}
        }
    }

    fn handle_port_taken(&mut self, id: &InstanceId, taken: u16) {
        let now = self.now;
        let Some(slot) = self.slot(id) else { return };
        if slot.port != Some(taken) || slot.machine.pid().is_some() {
            return;
        }
        slot.port_tries += 1;
        if slot.port_tries > PORT_TRIES_MAX || slot.machine.is_leaving() {
            let error = format!("{PORT_TRIES_MAX} ports in a row were in use, the last was {taken}");
            slot.machine.handle_spawn_failed(error, now);
            slot.port_tries = 0;
            self.free_port(id);
        } else {
            self.spawn(id);
        }
    }

    fn handle_listens_elsewhere(&mut self, id: &InstanceId, ports: Vec<u16>) {
        let Some(slot) = self.slot(id) else { return };
        if slot.elsewhere == ports || slot.machine.routing() != Routing::Candidate {
            return;
        }
        slot.elsewhere = ports;
        let Some(text) = elsewhere(slot) else { return };
        self.tell_rollout(id, format!("{id} {text}"));
    }

    fn handle_report(&mut self, id: &InstanceId, report: Report) {
        match report {
            Report::Ready(after) => {
                let text = format!("{id} is ready after {}", seconds(after));
                self.tell_rollout(id, text.clone());
                self.announce(Severity::Info, Some((&id.service, None)), text);
            }
            Report::ReadyAgain => {
                let text = format!("{id} is ready again");
                self.announce(Severity::Info, Some((&id.service, None)), text.clone());
                self.append(Some(&id.service), "instance", text, "agent");
            }
            Report::Unready(detail) => {
                let text = format!("{id} lost its readiness: {detail}");
                self.announce(Severity::Warning, Some((&id.service, None)), text.clone());
                self.append(Some(&id.service), "instance", text, "agent");
            }
            Report::Exited(ended, delay) => {
                let how = ended.to_string();
                self.tell_end(id, &how, delay);
                self.keep_output(id);
                if let Some(running) = self.rollout_to(id) {
                    running.machine.handle_exit(&id.to_string(), &how, delay.is_some());
                }
            }
            Report::SpawnFailed(error, delay) => {
                self.free_port(id);
                self.tell_end(id, &format!("could not be started: {error}"), delay);
                if let Some(running) = self.rollout_to(id) {
                    running.machine.handle_failure(Failure::SpawnFailed { instance: id.to_string(), error });
                }
            }
            Report::StartupTimeout(after, detail) => {
                let known = self.slot(id).and_then(|slot| elsewhere(slot));
                let detail = known.unwrap_or(detail);
                if self.rollout_to(id).is_none() {
                    self.tell_end(id, &format!("was not ready within {}", model::time::human(after)), None);
                }
                self.keep_output(id);
                if let Some(running) = self.rollout_to(id) {
                    let instance = id.to_string();
                    running.machine.handle_failure(Failure::StartupTimeout { instance, after, detail });
                }
            }
            Report::Gone(_) => {}
        }
    }

    fn tell_end(&mut self, id: &InstanceId, how: &str, delay: Option<Duration>) {
        let then = delay.map(|delay| format!("; it starts again in {}", model::time::human(delay)));
        let text = format!("{id} {how}{}", then.unwrap_or_default());
        self.tell_rollout(id, text.clone());
        self.announce(Severity::Warning, Some((&id.service, None)), text.clone());
        self.append(Some(&id.service), "instance", text, "agent");
    }
}

/// What to say of an instance that listens, but not where it should.
pub(super) fn elsewhere(slot: &Slot) -> Option<String> {
    let port = slot.port?;
    let ports: Vec<String> = slot.elsewhere.iter().map(ToString::to_string).collect();
    if ports.is_empty() {
        return None;
    }
    let ports = ports.join(", ");
    Some(format!(
        "listens on port {ports} and not on {port}: it has to listen on ${{PORT}} (in `command`), or on the environment variable PORT"
    ))
}
