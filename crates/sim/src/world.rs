//! The world: one queue of what will happen, and everything it happens to.
//!
//! Messages on one link keep their order and take their time; different links do not wait for each other. What
//! was sent before its sender died still arrives; what was sent to someone who has died is lost.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use agent::world::{CheckPurpose, Event, FleetRequest, Inventory, TaskId};
use agent::{Agent, Controller};
use model::id::{InstanceId, ReleaseId, ServiceName};
use model::random::Random;
use model::time::Instant;
use wire::link::{ExitStatus, StopLevel};
use wire::record::Record;
use wire::routes::RouteTable;
use wire::sealed::Boot;

use crate::behaviour::Behaviour;
use crate::checks::Checks;
use crate::hands::{Asked, Hands, Inner};
use crate::manifest;

mod holder;
mod log;
mod operators;
mod proxies;
mod tasks;

pub use crate::hands::Side;
pub(crate) use holder::{Holder, Process};
pub use operators::Operate;
pub(crate) use proxies::Proxy;

/// Timeouts in a row without time passing: more is a timer that does not move.
const TIMEOUTS_MAX: u32 = 1_000;

/// Who asks for everything.
pub const OPERATOR: &str = "alice";
/// Durable records until the holder has heard that the boot form is in it.
const BOOT_TAKEN_AFTER: u64 = 1;

/// An ordered stream of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Link {
    ToHolder(u64),
    FromHolder(u64),
    ToProxy(u64, u64),
    FromProxy(u64, u64),
    /// Between a proxy and its own threads.
    Threads(u64),
}

/// What a proxy is told.
#[derive(Debug, Clone)]
enum Told {
    Table(Box<RouteTable>),
    Drain(Duration),
    Report(u64),
}

#[derive(Debug, Clone)]
enum Happening {
    ToAgent(u64, Box<Event>),
    /// To the holder of that process id: what was sent to a former one is lost.
    ToHolder(u32, Box<FleetRequest>),
    ToProxy(u64, Told),
    TableUsed(u64, Box<RouteTable>),
    ProcessReady(InstanceId, u32),
    ProcessExits(InstanceId, u32, ExitStatus),
    ListensElsewhere(InstanceId, u32),
    CheckEnds(u64, InstanceId, u32, CheckPurpose),
    TaskEnds(u64, TaskId),
    Reloads(InstanceId, u32),
    HoldEnds(u64, u64),
    Probes(u64),
    Counters(u64),
    Requests,
    RequestEnds(u64, u64),
    ProxyGivesUp(u64),
    ProxyStarts,
    AgentStarts,
    HolderStarts,
    DiskIsGood,
}

type SimAgent = Agent<Hands, Hands, Hands, Hands, Hands, Hands>;

/// Everything there is.
#[derive(Debug)]
pub struct World {
    now: Instant,
    queue: BTreeMap<(Instant, u64), Happening>,
    sequence: u64,
    links: BTreeMap<Link, Instant>,
    /// Messages take one millisecond each, and no port is taken.
    calm: bool,
    delays: Random,
    choices: Random,
    behaviours: BTreeMap<(String, String), Behaviour>,
    hands: Hands,
    agent: Option<SimAgent>,
    /// Lives of the agent so far.
    life: u64,
    timeouts: u32,
    holder: Holder,
    /// Process of the holder that the agent has its link to.
    known_holder: u32,
    proxies: BTreeMap<u64, Proxy>,
    next_proxy: u64,
    next_request: u64,
    next_pid: u32,
    copied: BTreeMap<String, String>,
    /// The holder has the boot form until that write: then an agent has said that its record holds it.
    boot: Option<(Boot, u64)>,
    stopping: Option<StopLevel>,
    pub(crate) checks: Checks,
    log: Vec<String>,
    logged_record: String,
}

impl World {
    /// A world before `up`; call [`World::up`].
    pub fn new(seed: u64, boot: Boot) -> Self {
        Self {
            now: Instant::START,
            queue: BTreeMap::new(),
            sequence: 0,
            links: BTreeMap::new(),
            calm: false,
            delays: Random::new(seed ^ 0x0064_656c_6179),
            choices: Random::new(seed ^ 0x6368_6f69_6365),
            behaviours: BTreeMap::new(),
            hands: Hands(Rc::new(RefCell::new(Inner::new()))),
            agent: None,
            life: 0,
            timeouts: 0,
            holder: Holder::default(),
            known_holder: 0,
            proxies: BTreeMap::new(),
            next_proxy: 1,
            next_request: 0,
            next_pid: 1_000,
            copied: BTreeMap::new(),
            boot: Some((boot, BOOT_TAKEN_AFTER)),
            stopping: None,
            checks: Checks::default(),
            log: Vec::new(),
            logged_record: String::new(),
        }
    }

    /// A world in which nothing takes longer than it must, for stories that people read.
    pub fn calm(boot: Boot) -> Self {
        Self { calm: true, ..Self::new(0, boot) }
    }

    /// `up`: a holder, a proxy, an agent.
    pub fn up(&mut self) {
        self.note("up");
        self.stopping = None;
        self.holder.alive = true;
        self.holder.stopped = false;
        self.holder.pid = self.pid();
        self.start_proxy();
        self.later(Duration::from_millis(5), Happening::Requests);
        self.start_agent();
    }

    /// `up` again after a `down`, with this boot form.
    pub fn up_again(&mut self, boot: Boot) {
        let durable = self.hands.0.borrow().durable;
        self.boot = Some((boot, durable + BOOT_TAKEN_AFTER));
        self.up();
    }

    /// How processes of that version behave from now on.
    pub fn behave(&mut self, service: &str, version: &str, behaviour: Behaviour) {
        self.behaviours.insert((service.to_owned(), version.to_owned()), behaviour);
    }

    fn behaviour(&self, service: &str, version: &str) -> Behaviour {
        self.behaviours.get(&(service.to_owned(), version.to_owned())).cloned().unwrap_or_default()
    }

    fn pid(&mut self) -> u32 {
        self.next_pid += 1;
        self.next_pid
    }

    fn later(&mut self, delay: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((self.now + delay, self.sequence), happening);
    }

    /// On a link: after what was sent on it before.
    fn send(&mut self, link: Link, happening: Happening) {
        let mut at = self.now + self.delay();
        let last = self.links.entry(link).or_insert(at);
        at = at.max(*last);
        *last = at;
        self.sequence += 1;
        self.queue.insert((at, self.sequence), happening);
    }

    /// Mostly short; now and then the machine is busy.
    fn delay(&mut self) -> Duration {
        if self.calm {
            return Duration::from_millis(1);
        }
        let micros = 50 + self.delays.below(2_000);
        let busy = if self.delays.below(100) == 0 { self.delays.below(60_000) } else { 0 };
        Duration::from_micros(u64::try_from(micros + busy).expect("invariant: small"))
    }

    fn millis_between(&mut self, from: usize, to: usize) -> Duration {
        let millis = if self.calm { from } else { from + self.choices.below(to - from) };
        Duration::from_millis(u64::try_from(millis).expect("invariant: small"))
    }

    /// Lets `duration` pass.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
    }

    /// Until `done` says so; false if it does not within `limit`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.now + limit;
        loop {
            if done(self) {
                return true;
            }
            if !self.step(end) {
                return done(self);
            }
        }
    }

    fn step(&mut self, end: Instant) -> bool {
        let next = self.queue.first_key_value().map(|((at, _), _)| *at);
        let timer = self.agent.as_ref().and_then(Agent::poll_timeout);
        let timer_is_first = timer.is_some_and(|timer| next.is_none_or(|next| timer <= next));
        let at = if timer_is_first { timer } else { next };
        let Some(at) = at.filter(|at| *at <= end) else {
            self.set_now(self.now.max(end));
            return false;
        };
        if at > self.now {
            self.timeouts = 0;
        }
        self.set_now(self.now.max(at));
        if timer_is_first {
            self.timeouts += 1;
            if self.timeouts > TIMEOUTS_MAX {
                self.checks.violate(self.now, "a timer does not move".to_owned());
                return false;
            }
            self.tell_agent(Event::Timeout);
        } else if let Some((_, happening)) = self.queue.pop_first() {
            self.happen(happening);
        }
        self.check_step();
        true
    }

    fn set_now(&mut self, now: Instant) {
        self.now = now;
        self.hands.0.borrow_mut().now = now;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToAgent(life, event) => {
                if life == self.life {
                    if let Event::Inventory(inventory) = event.as_ref() {
                        self.known_holder = inventory.holder;
                    }
                    let notified = match event.as_ref() {
                        Event::Notified { instance, .. } => Some(instance.clone()),
                        _ => None,
                    };
                    self.tell_agent(*event);
                    if let Some(instance) = notified.filter(|_| self.agent.is_some()) {
                        self.notification_read(&instance);
                    }
                }
            }
            Happening::ToHolder(holder, request) => {
                if holder == self.holder.pid {
                    self.ask_holder(*request);
                }
            }
            Happening::ToProxy(proxy, told) => self.tell_proxy(proxy, told),
            Happening::TableUsed(proxy, table) => self.use_table(proxy, *table),
            Happening::ProcessReady(instance, pid) => self.process_ready(&instance, pid),
            Happening::ProcessExits(instance, pid, status) => self.process_exits(&instance, pid, status),
            Happening::ListensElsewhere(instance, pid) => self.process_listens_elsewhere(&instance, pid),
            Happening::CheckEnds(life, instance, pid, purpose) => {
                self.check_ends(life, &instance, pid, purpose)
            }
            Happening::TaskEnds(life, task) => self.task_ends(life, task),
            Happening::Reloads(instance, pid) => self.process_reloaded(&instance, pid),
            Happening::HoldEnds(proxy, request) => self.hold_ends(proxy, request),
            Happening::Probes(proxy) => self.probe(proxy),
            Happening::Counters(proxy) => self.count(proxy),
            Happening::Requests => self.requests(),
            Happening::RequestEnds(proxy, request) => self.request_ends(proxy, request),
            Happening::ProxyGivesUp(proxy) => self.proxy_ends(proxy),
            Happening::ProxyStarts => {
                if self.stopping.is_none() && !self.holder.stopped && self.newest_proxy().is_none() {
                    self.start_proxy();
                }
            }
            Happening::AgentStarts => {
                if self.agent.is_none() && !self.holder.stopped {
                    self.start_agent();
                }
            }
            Happening::HolderStarts => self.start_holder(),
            Happening::DiskIsGood => self.hands.0.borrow_mut().disk_is_bad = false,
        }
    }

    fn tell_agent(&mut self, event: Event) {
        let Some(mut agent) = self.agent.take() else { return };
        agent.handle(event);
        self.after_agent(agent);
    }

    /// Empties the box, and buries the agent if it died meanwhile.
    fn after_agent(&mut self, agent: SimAgent) {
        let asked = std::mem::take(&mut self.hands.0.borrow_mut().asked);
        for asked in asked {
            self.answer(asked);
        }
        if self.hands.0.borrow().dead {
            self.note("the agent dies at a write");
            self.bury_agent();
        } else {
            self.agent = Some(agent);
        }
    }

    fn bury_agent(&mut self) {
        self.agent = None;
        self.holder.tasks.clear();
        // The holder reads the link to its end before it knows.
        let unread =
            self.links.get(&Link::ToHolder(self.life)).map_or(Duration::ZERO, |last| self.now.until(*last));
        self.life += 1;
        let delay = unread + self.millis_between(5, 300);
        self.later(delay, Happening::AgentStarts);
    }

    fn answer(&mut self, asked: Asked) {
        let life = self.life;
        self.log_asked(&asked);
        match asked {
            Asked::Fleet(request) => {
                let happening = Happening::ToHolder(self.known_holder, Box::new(request));
                self.send(Link::ToHolder(life), happening);
            }
            Asked::Table(table) => {
                self.check_table(&table);
                for proxy in self.linked_proxies() {
                    self.send(
                        Link::ToProxy(life, proxy),
                        Happening::ToProxy(proxy, Told::Table(table.clone())),
                    );
                }
            }
            Asked::Drain(deadline) => {
                for proxy in self.linked_proxies() {
                    self.send(Link::ToProxy(life, proxy), Happening::ToProxy(proxy, Told::Drain(deadline)));
                }
            }
            Asked::Report(token) => {
                for proxy in self.linked_proxies() {
                    self.send(Link::ToProxy(life, proxy), Happening::ToProxy(proxy, Told::Report(token)));
                }
            }
            Asked::Prepare(request) => self.copy(&request),
            Asked::Remove(service, directory) => self.check_removal(&service, &directory),
            Asked::Wrote(record) => self.check_record(&record),
            Asked::Notice(_) => {}
        }
    }

    fn copy(&mut self, request: &agent::world::PrepareRelease) {
        let (service, release) = (request.service.clone(), request.release.clone());
        let version = release.version.to_string();
        let hash = format!("hash-of-{}", request.source.display());
        let wrong = request.expected_hash.as_ref().is_some_and(|expected| *expected != hash);
        let event = if self.behaviour(service.as_str(), &version).refused {
            Event::ReleaseRefused { service, release, error: "its directory is empty".to_owned() }
        } else if wrong {
            let error = format!("{version} is known with other content: give it another version");
            Event::ReleaseRefused { service, release, error }
        } else {
            let directory = format!("{}/releases/{service}/{version}", manifest::STATE);
            self.copied.insert(directory.clone(), hash.clone());
            Event::ReleasePrepared { service, release, directory: directory.into(), hash }
        };
        let delay = self.millis_between(5, 80);
        let life = self.life;
        self.later(delay, Happening::ToAgent(life, Box::new(event)));
    }

    fn start_agent(&mut self) {
        let record = self.hands.0.borrow().record.clone();
        let wall = self.hands.0.borrow().wall();
        let boot = self
            .boot
            .clone()
            .filter(|(_, until)| self.hands.0.borrow().durable <= *until)
            .map(|(boot, _)| boot);
        let known = record.is_some();
        let Some(record) = record.or_else(|| Some(Controller::first_record(boot.as_ref()?, wall))) else {
            self.checks.violate(self.now, "there is no record to go on from".to_owned());
            return;
        };
        let resumed = Controller::resume(record, self.now, wall, self.life).and_then(|mut controller| {
            if let Some(boot) = boot.filter(|_| known) {
                controller.note_boot(&boot)?;
            }
            Ok(controller)
        });
        let controller = match resumed {
            Ok(controller) => controller,
            Err(error) => {
                self.checks.violate(self.now, format!("the record does not resume: {error}"));
                return;
            }
        };
        self.hands.0.borrow_mut().dead = false;
        let hands = || self.hands.clone();
        self.agent = Some(Agent::new(controller, (hands(), hands(), hands(), hands(), hands()), hands()));
        let life = self.life;
        self.note(&format!("agent {life} starts"));
        if self.holder.alive {
            self.send_inventory();
        }
        for proxy in self.proxies.keys().copied().collect::<Vec<_>>() {
            self.link_proxy(proxy);
        }
    }

    fn send_inventory(&mut self) {
        let inventory = Inventory {
            listeners: self.holder.listeners.iter().map(|(n, a)| (n.clone(), a.clone())).collect(),
            running: self.holder.running.values().map(|process| (process.id.clone(), process.pid)).collect(),
            ended: self.holder.ended.iter().map(|(id, status)| (id.clone(), *status)).collect(),
            proxies: self.proxies.iter().map(|(generation, proxy)| (*generation, proxy.pid)).collect(),
            table: self.hands.0.borrow().routes.clone(),
            holder: self.holder.pid,
        };
        let life = self.life;
        let event = Box::new(Event::Inventory(inventory));
        self.send(Link::FromHolder(life), Happening::ToAgent(life, event));
        self.deliver_notifications();
    }

    /// An operator stops everything; false if no agent has taken it.
    pub fn down(&mut self, level: StopLevel) -> bool {
        let Some(mut agent) = self.agent.take() else { return false };
        let before = self.stopping.replace(level);
        agent.stop_all(level);
        self.after_agent(agent);
        self.check_step();
        let is_recorded = self.record().is_some_and(|record| record.stopping.is_some());
        if self.agent.is_none() && !is_recorded {
            self.stopping = before;
        }
        self.agent.is_some() || is_recorded
    }

    /// kill -9 of the agent.
    pub fn kill_agent(&mut self) {
        if self.agent.is_some() {
            self.note("the agent is killed");
            self.bury_agent();
        }
    }

    /// The agent dies at the `nth` write of the record from now, or in all if `all` says so.
    pub fn kill_agent_at_write(&mut self, nth: u64, side: Side) {
        let mut inner = self.hands.0.borrow_mut();
        inner.die_at = Some((inner.writes + nth, side));
    }

    /// Writes of the record fail for so long.
    pub fn spoil_disk(&mut self, duration: Duration) {
        self.note("the disk is bad");
        self.hands.0.borrow_mut().disk_is_bad = true;
        self.later(duration, Happening::DiskIsGood);
    }

    /// Writes of the record fail.
    pub fn disk_is_bad(&self) -> bool {
        self.hands.0.borrow().disk_is_bad
    }

    /// The durable record.
    pub fn record(&self) -> Option<Record> {
        self.hands.0.borrow().record.clone()
    }

    /// How often the record was written.
    pub fn writes(&self) -> u64 {
        self.hands.0.borrow().writes
    }

    /// What `status` shows; `None` while there is no agent.
    pub fn status(&self) -> Option<agent::status::Status> {
        self.agent.as_ref().map(Agent::status)
    }

    /// What a follower of a rollout sees.
    pub fn progress(&self, service: &str, rollout: u64) -> Option<agent::status::Progress> {
        self.agent.as_ref()?.progress(service, rollout, 0)
    }

    /// Everything has ended and the holder is gone.
    pub fn is_stopped(&self) -> bool {
        self.holder.stopped
    }

    /// Something else than a rule of every moment is broken.
    pub fn complain(&mut self, text: &str) {
        self.note(&format!("VIOLATION {text}"));
        let now = self.now;
        self.checks.violate(now, text.to_owned());
    }

    /// Rules that were broken, in order.
    pub fn violations(&self) -> &[String] {
        self.checks.violations()
    }

    /// Time since the start of the world.
    pub fn elapsed(&self) -> Duration {
        self.now.since_start()
    }

    pub(crate) fn time(&self) -> Instant {
        self.now
    }

    pub(crate) fn holder(&self) -> &Holder {
        &self.holder
    }

    pub(crate) fn proxies(&self) -> &BTreeMap<u64, Proxy> {
        &self.proxies
    }

    pub(crate) fn routes(&self) -> Option<RouteTable> {
        self.hands.0.borrow().routes.clone()
    }

    pub(crate) fn stopping(&self) -> Option<StopLevel> {
        self.stopping
    }

    pub(crate) fn agent_record(&self) -> Option<Record> {
        self.agent.as_ref().map(Agent::record)
    }
}

/// The parts of an instance id as texts, for looking up behaviours.
fn names(service: &ServiceName, release: &ReleaseId) -> (String, String) {
    (service.to_string(), release.version.to_string())
}
