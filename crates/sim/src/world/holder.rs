//! The fake holder and the processes it starts.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::world::{Event, FleetRequest, Notified, SpawnRequest, TaskId};
use model::id::InstanceId;
use model::manifest::StopSignal;
use model::time::Instant;
use wire::link::ExitStatus;

use super::{Happening, Link, World, names};
use crate::behaviour::Behaviour;

const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// One process of a service.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) id: InstanceId,
    pub(crate) pid: u32,
    pub(crate) port: u16,
    pub(crate) started: Instant,
    pub(crate) behaviour: Behaviour,
    pub(crate) signalled: bool,
    pub(super) notify: bool,
    /// READY=1 lies in its socket, unread.
    unread: bool,
}

impl Process {
    /// It accepts connections on its port.
    pub(crate) fn listens(&self, now: Instant) -> bool {
        let ready = self.behaviour.ready_after.is_some_and(|after| self.started + after <= now);
        ready && self.behaviour.elsewhere.is_none()
    }

    /// Its check succeeds.
    pub(crate) fn answers(&self, now: Instant) -> bool {
        let Some(after) = self.behaviour.ready_after else { return false };
        let phase = now.since(self.started + after).as_secs() % 10;
        self.listens(now) && phase < 10 - self.behaviour.unready_of_ten
    }

    /// It has answered for that long without a break.
    pub(crate) fn answers_since(&self, long: Duration, now: Instant) -> bool {
        let steady = self.behaviour.unready_of_ten == 0;
        steady
            && self.listens(now)
            && self.behaviour.ready_after.is_some_and(|after| self.started + after + long <= now)
    }
}

/// What the holder has.
#[derive(Debug, Default)]
pub(crate) struct Holder {
    pub(crate) alive: bool,
    pub(crate) stopped: bool,
    pub(crate) pid: u32,
    pub(crate) running: BTreeMap<InstanceId, Process>,
    pub(crate) ended: BTreeMap<InstanceId, ExitStatus>,
    /// Bound, by name.
    pub(crate) listeners: BTreeMap<String, String>,
    /// Tasks of the living agent, and how each will end.
    pub(super) tasks: BTreeMap<TaskId, Result<(), String>>,
}

impl Holder {
    pub(crate) fn on_port(&self, port: u16) -> Option<&Process> {
        self.running.values().find(|process| process.port == port)
    }
}

impl World {
    /// kill -9 of the holder; another one takes over what it had.
    pub fn kill_holder(&mut self) {
        if !self.holder.alive || self.holder.stopped {
            return;
        }
        self.note("the holder is killed");
        self.holder.alive = false;
        let life = self.life;
        self.send(Link::FromHolder(life), Happening::ToAgent(life, Box::new(Event::HolderLost)));
        let delay = self.millis_between(20, 600);
        self.later(delay, Happening::HolderStarts);
    }

    pub(super) fn start_holder(&mut self) {
        self.note("another holder takes over");
        self.holder.alive = true;
        self.holder.pid = self.pid();
        if self.agent.is_some() {
            self.send_inventory();
            for proxy in self.proxies.keys().copied().collect::<Vec<_>>() {
                self.link_proxy(proxy);
            }
        }
        if self.newest_proxy().is_none() {
            self.later(Duration::from_millis(1), Happening::ProxyStarts);
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        if self.holder.alive {
            let life = self.life;
            self.send(Link::FromHolder(life), Happening::ToAgent(life, Box::new(event)));
        }
    }

    pub(super) fn ask_holder(&mut self, request: FleetRequest) {
        if !self.holder.alive || self.holder.stopped {
            return;
        }
        match request {
            FleetRequest::Bind { name, address, .. } => {
                self.holder.listeners.insert(name.clone(), address.clone());
                self.tell(Event::Bound { name, address });
            }
            FleetRequest::Spawn(request) => self.spawn(&request),
            FleetRequest::Unbind { name } => {
                self.check_unbind(&name);
                self.holder.listeners.remove(&name);
            }
            FleetRequest::MainPid { instance, pid } => self.tell(Event::MainPid { instance, pid }),
            FleetRequest::Check(request) => self.begin_check(&request),
            FleetRequest::Run(request) => self.begin_task(&request),
            FleetRequest::Cancel { task } => {
                self.holder.tasks.remove(&task);
            }
            FleetRequest::Signal { instance, signal } => self.signal(&instance, signal),
            FleetRequest::KillTree { instance } => {
                if let Some(process) = self.holder.running.get(&instance) {
                    let pid = process.pid;
                    self.check_kill(&instance);
                    self.process_exits(&instance, pid, ExitStatus::Signal(SIGKILL));
                }
            }
            FleetRequest::Forget { instance } => {
                if self.holder.running.contains_key(&instance) {
                    self.checks.violate(self.now, format!("{instance} is forgotten while it runs"));
                }
                self.holder.ended.remove(&instance);
            }
            FleetRequest::Stopped => self.stop_holder(),
        }
    }

    fn stop_holder(&mut self) {
        self.note("everything has stopped");
        if !self.holder.running.is_empty() {
            self.checks.violate(self.now, "stopped while instances run".to_owned());
        }
        self.holder.stopped = true;
        self.holder.alive = false;
        self.holder.ended.clear();
        self.holder.tasks.clear();
        self.holder.listeners.clear();
        self.checks.started.clear();
        self.agent = None;
        self.life += 1;
        self.proxies.clear();
        self.queue.clear();
        self.links.clear();
        self.hands.0.borrow_mut().disk_is_bad = false;
    }

    fn spawn(&mut self, request: &SpawnRequest) {
        let instance = request.instance.clone();
        self.check_spawn(request);
        if self.holder.running.contains_key(&instance) || self.holder.ended.contains_key(&instance) {
            self.checks.violate(self.now, format!("{instance} is spawned while its slot is taken"));
            return;
        }
        let (service, version) = names(&instance.service, &instance.release);
        let behaviour = self.behaviour(&service, &version);
        if behaviour.spawn_fails {
            let error = "./shop: no such file in the release".to_owned();
            self.tell(Event::SpawnFailed { instance, error });
            return;
        }
        let foreign = !self.calm && !request.port_is_fixed && self.choices.below(20) == 0;
        if let Some(port) = request.port
            && request.port_is_fixed
            && self.holder.on_port(port).is_some()
        {
            self.checks.violate(self.now, format!("{instance} is spawned while port {port} is in use"));
            let error = format!("port {port} is in use");
            self.tell(Event::SpawnFailed { instance, error });
            return;
        }
        if let Some(port) = request.port
            && (self.holder.on_port(port).is_some() || foreign)
        {
            self.tell(Event::PortTaken { instance, port });
            return;
        }
        let pid = self.pid();
        let process = Process {
            id: instance.clone(),
            pid,
            port: request.port.unwrap_or(0),
            started: self.now,
            behaviour: behaviour.clone(),
            signalled: false,
            notify: request.notify,
            unread: false,
        };
        self.checks.started.insert(instance.service.clone());
        self.holder.running.insert(instance.clone(), process);
        self.check_surge();
        self.tell(Event::Spawned { instance: instance.clone(), pid });
        if let Some(after) = behaviour.ready_after {
            self.later(after, Happening::ProcessReady(instance.clone(), pid));
        }
        if let Some(after) = behaviour.exits_after {
            self.later(after, Happening::ProcessExits(instance.clone(), pid, ExitStatus::Code(1)));
        }
        if behaviour.elsewhere.is_some() {
            self.later(Duration::from_secs(2), Happening::ListensElsewhere(instance, pid));
        }
    }

    fn signal(&mut self, instance: &InstanceId, signal: StopSignal) {
        if signal == StopSignal::HangUp {
            self.tell_to_reload(instance);
            return;
        }
        self.check_signal(instance);
        let now = self.now;
        let Some(process) = self.holder.running.get_mut(instance) else { return };
        process.signalled = true;
        let (pid, after) = (process.pid, process.behaviour.stops_after);
        debug_assert_ne!(signal, StopSignal::Kill, "a kill is asked for as KillTree at {now:?}");
        if let Some(after) = after {
            self.later(after, Happening::ProcessExits(instance.clone(), pid, ExitStatus::Signal(SIGTERM)));
        }
    }

    pub(super) fn process_exits(&mut self, instance: &InstanceId, pid: u32, status: ExitStatus) {
        if self.holder.running.get(instance).is_none_or(|process| process.pid != pid) {
            return;
        }
        let process = self.holder.running.remove(instance).expect("invariant: just looked at");
        self.note(&format!("{instance} ends ({status:?})"));
        if !process.signalled {
            self.checks.crashed.insert(instance.service.clone(), self.now);
        }
        self.lose_requests(&process);
        let status = if self.holder.alive { status } else { ExitStatus::Unknown };
        self.holder.ended.insert(instance.clone(), status);
        let lines = vec![format!("output of {instance}"), "its last line".to_owned()];
        self.tell(Event::Output { instance: instance.clone(), lines });
        self.tell(Event::Exited { instance: instance.clone(), status });
    }

    pub(super) fn process_ready(&mut self, instance: &InstanceId, pid: u32) {
        let Some(process) = self.holder.running.get_mut(instance) else { return };
        if process.pid == pid && process.notify && process.behaviour.elsewhere.is_none() {
            process.unread = true;
            self.deliver_notifications();
        }
    }

    /// The agent reads the notify sockets itself; what no agent has acted on stays in them.
    pub(super) fn deliver_notifications(&mut self) {
        if self.agent.is_none() {
            return;
        }
        let life = self.life;
        let unread = self.holder.running.values().filter(|process| process.unread);
        let unread: Vec<InstanceId> = unread.map(|process| process.id.clone()).collect();
        for instance in unread {
            let event =
                Box::new(Event::Notified { instance, said: Notified { ready: true, ..Notified::default() } });
            self.send(Link::FromHolder(life), Happening::ToAgent(life, event));
        }
    }

    /// The agent has handled what it read, and lives.
    pub(super) fn notification_read(&mut self, instance: &InstanceId) {
        if let Some(process) = self.holder.running.get_mut(instance) {
            process.unread = false;
        }
    }

    pub(super) fn process_listens_elsewhere(&mut self, instance: &InstanceId, pid: u32) {
        let Some(process) = self.holder.running.get(instance).filter(|process| process.pid == pid) else {
            return;
        };
        let ports = process.behaviour.elsewhere.into_iter().collect();
        self.tell(Event::ListensElsewhere { instance: instance.clone(), ports });
    }

    /// A process ends by itself now.
    pub fn crash(&mut self, instance: &InstanceId) -> bool {
        let Some(process) = self.holder.running.get(instance) else { return false };
        let pid = process.pid;
        self.note(&format!("{instance} crashes"));
        self.process_exits(instance, pid, ExitStatus::Signal(11));
        true
    }

    /// Instances that run now.
    pub fn running(&self) -> Vec<InstanceId> {
        self.holder.running.keys().cloned().collect()
    }
}
