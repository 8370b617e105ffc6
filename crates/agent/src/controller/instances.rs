//! Slots and their processes: carrying out what they want, and hearing from them.
//!
//! It deliberately holds no states: those are `model::instance`. Here an instance gets its port, its request to
//! the fleet, and its place in the story.

use std::path::PathBuf;
use std::time::Duration;

use model::id::InstanceId;
use model::instance::{Action as Wish, Report, Routing};
use model::manifest::{Account, Limits, LivenessCheck, ReadinessCheck};
use model::restart::CRASH_LOOP_ENDS;
use model::rollout::Failure;
use model::time::{WallTime, human};
use wire::manifest::{Mode, millis};

use super::services::{Service, Slot};
use super::story::seconds;
use super::{Controller, convert};
use crate::expand::{Sources, expand};
use crate::world::{Event, FleetRequest, Notified, Severity, SpawnRequest};

/// Ports tried for one start before it counts as failed.
const PORT_TRIES_MAX: u32 = 20;
/// Most output lines kept of an instance.
const OUTPUT_LINES_MAX: usize = 20;

impl Controller {
    /// Carries out what the slots want, and drops those of which nothing is left.
    pub(super) fn drive_instances(&mut self) -> bool {
        let now = self.now;
        let mut wishes = Vec::new();
        for service in self.services.values_mut() {
            for (id, slot) in &mut service.slots {
                // What has no port was never in a table.
                let is_drained = slot.port.is_none() || self.tables.is_drained(slot);
                if slot.machine.is_draining() && is_drained {
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
                Wish::KillTree => {
                    self.cancel_checks(&id);
                    self.pending.push(FleetRequest::KillTree { instance: id });
                }
                Wish::Run(hook, facts) => self.run_hook(&id, hook, facts),
                Wish::Cancel(hook) => self.cancel_hook(&id, hook),
                Wish::Check(purpose) => self.check(&id, purpose),
                Wish::AdoptMain(pid) => self.pending.push(FleetRequest::MainPid { instance: id, pid }),
                Wish::Forget => {
                    self.free_port(&id);
                    self.pending.push(FleetRequest::Forget { instance: id });
                }
                Wish::Report(report) => self.handle_report(&id, report),
            }
        }
        changed |= self.restart_hung();
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

    /// The port of an instance that starts: its own already, its service's, or a free one; `None` for one that
    /// has none.
    pub(super) fn take_port(&mut self, id: &InstanceId) -> Result<Option<u16>, String> {
        let now = self.now;
        if let Some(port) = self.slot(id).and_then(|slot| slot.port) {
            return Ok(Some(port));
        }
        let Some(service) = self.services.get(&id.service) else { return Ok(None) };
        let Some(release) = service.release(&id.release) else { return Ok(None) };
        let configuration = &release.record.configuration;
        let port = match (configuration.mode, configuration.port) {
            (Mode::Worker, _) => None,
            (Mode::Proxied, Some(port)) => Some(port),
            (Mode::Proxied, None) => {
                for fixed in self.services.values().filter_map(|service| service.settings.port) {
                    self.ports.adopt(fixed);
                }
                Some(self.ports.try_take(now).map_err(|error| error.to_string())?)
            }
        };
        if let Some(slot) = self.slot(id) {
            slot.port = port;
        }
        Ok(port)
    }

    fn spawn(&mut self, id: &InstanceId) {
        let now = self.now;
        let request = self.take_port(id).map(|port| self.spawn_request(id, port));
        // What could not hold for the process before holds for this one.
        let settings = self.services.get(&id.service).map(Service::instance_settings);
        if let (Some(slot), Some(settings)) = (self.slot(id), settings) {
            slot.machine.set_settings(settings, now);
        }
        let Some(slot) = self.slot(id) else { return };
        match request {
            Err(error) => slot.machine.handle_spawn_failed(error, now),
            Ok(None) => {}
            Ok(Some(request)) => {
                slot.elsewhere.clear();
                slot.output.clear();
                self.pending.push(FleetRequest::Spawn(Box::new(request)));
            }
        }
    }

    /// What makes a release is as it was deployed; what only says how it is watched and stopped is as it holds.
    fn spawn_request(&self, id: &InstanceId, port: Option<u16>) -> Option<SpawnRequest> {
        let service = self.services.get(&id.service)?;
        let live = &service.settings;
        let configuration = &service.release(&id.release)?.record.configuration;
        let plain = self.plain_request(id, port, &configuration.command)?;
        let is_by_pings = live.liveness.as_ref().filter(|liveness| liveness.check == LivenessCheck::Watchdog);
        let ready_log = match &live.readiness.check {
            ReadinessCheck::Log(expression) => Some(expression.clone()),
            ReadinessCheck::Http(_)
            | ReadinessCheck::Tcp
            | ReadinessCheck::Notify
            | ReadinessCheck::Command(_)
            | ReadinessCheck::AliveFor(_) => None,
        };
        Some(SpawnRequest {
            port,
            port_is_fixed: port.is_some() && configuration.port.is_some(),
            notify: live.readiness.check == ReadinessCheck::Notify || is_by_pings.is_some(),
            watchdog: is_by_pings.map(|liveness| liveness.interval),
            ready_log,
            limits: Limits {
                open_files: configuration.limits_open_files,
                memory: configuration.limits_memory,
            },
            ..plain
        })
    }

    /// A command in the release of an instance, as its account and with its environment.
    pub(super) fn plain_request(
        &self,
        id: &InstanceId,
        port: Option<u16>,
        command: &[String],
    ) -> Option<SpawnRequest> {
        let service = self.services.get(&id.service)?;
        let record = &service.release(&id.release)?.record;
        let directory = PathBuf::from(&record.directory);
        let configuration = &record.configuration;
        let may_inherit = |(name, _): &&(String, String)| configuration.environment_inherit.contains(name);
        let inherited: Vec<(String, String)> =
            self.base.environment.iter().filter(may_inherit).cloned().collect();
        let expanded = expand(&Sources {
            instance: id,
            port,
            directory: &directory,
            inherited: &inherited,
            declared: &configuration.environment,
            command,
        });
        let group = configuration.group.clone();
        Some(SpawnRequest {
            instance: id.clone(),
            release_directory: directory,
            command: expanded.command,
            environment: expanded.environment,
            port: None,
            port_is_fixed: false,
            notify: false,
            watchdog: None,
            ready_log: None,
            environment_file: configuration.environment_file.clone(),
            working_directory: configuration.working_directory.clone(),
            account: configuration.user.clone().map(|user| Account { user, group }),
            umask: configuration.umask,
            limits: Limits::default(),
            output: service.settings.output.clone(),
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
            Event::Notified { instance, said } => self.handle_notified(&instance, said),
            Event::MainPid { instance, pid } => {
                if let Some(slot) = self.slot(&instance) {
                    slot.machine.handle_main_pid(pid);
                }
            }
            Event::LogMatched { instance } => {
                if let Some(slot) = self.slot(&instance) {
                    slot.machine.handle_log_matched(now);
                }
            }
            Event::Checked { instance, purpose, result } => self.handle_checked(&instance, purpose, result),
            Event::TaskEnded { task, result } => self.handle_task_ended(task, result),
            Event::Probe { instance, healthy, detail } => {
                if self.handle_endpoint_probe(&instance, healthy, &detail) {
                    return;
                }
                if let Some(slot) = self.slot(&instance) {
                    slot.machine.handle_probe(healthy, &detail, now);
                }
            }
            Event::Drained { proxy, instance, generation } => {
                if self.handle_endpoint_drained(proxy, &instance, generation) {
                    return;
                }
                if let Some(slot) = self.slot(&instance) {
                    convert::raise(&mut slot.drained, proxy, generation);
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

    fn handle_notified(&mut self, id: &InstanceId, said: Notified) {
        let now = self.now;
        self.reload_hears(id, &said);
        let Some(slot) = self.slot(id) else { return };
        slot.machine.handle_notified(&convert::said(&said), now);
        if let Some(status) = said.status {
            slot.machine.handle_detail(status);
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
            self.free_port(id);
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
        self.hear_report(id, &report);
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
                    self.tell_end(id, &format!("was not ready within {}", human(after)), None);
                }
                self.keep_output(id);
                if let Some(running) = self.rollout_to(id) {
                    let instance = id.to_string();
                    running.machine.handle_failure(Failure::StartupTimeout { instance, after, detail });
                }
            }
            Report::Hung(why) => self.tell_trouble(id, &format!("{id} is taken for hung: {why}")),
            Report::HookFailed(hook, why) => {
                self.tell_trouble(id, &format!("{id}: its {hook} hook failed: {why}"));
            }
            Report::Gone(_) => {}
        }
    }

    fn tell_end(&mut self, id: &InstanceId, how: &str, delay: Option<Duration>) {
        let ends = self.slot(id).map_or(0, |slot| slot.machine.ends_in_a_row());
        let then = match delay {
            None => String::new(),
            Some(delay) if ends >= CRASH_LOOP_ENDS => {
                let (delay, at) = (human(delay), clock_time(WallTime(self.wall.0 + millis(delay))));
                format!("; crash loop: {ends} ends in a row, it starts again in {delay} (at {at} UTC)")
            }
            Some(delay) => format!("; it starts again in {}", human(delay)),
        };
        self.tell_trouble(id, &format!("{id} {how}{then}"));
    }

    /// Someone should look at that instance: its rollout's followers, people, and history are told.
    pub(super) fn tell_trouble(&mut self, id: &InstanceId, text: &str) {
        self.tell_rollout(id, text.to_owned());
        self.announce(Severity::Warning, Some((&id.service, None)), text.to_owned());
        self.append(Some(&id.service), "instance", text.to_owned(), "agent");
    }
}

/// `17:00:32`.
fn clock_time(at: WallTime) -> String {
    at.to_string().get(11..19).unwrap_or_default().to_owned()
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
