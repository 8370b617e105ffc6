//! One thread of the data plane: its runtime, what it owns, and the commands it carries out.
//!
//! Everything here belongs to one thread and is borrowed only between two awaits. A swap resolves the new
//! table against the endpoints of the old one; an endpoint that is no longer listed is kept until its last
//! request is over. It does not read requests.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use model::random::Random;
use model::series::SeriesName;
use model::time::Instant;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;
use wire::routes::RouteTable;
use wire::traffic::{Counters, ReleaseCounters};

use crate::buffer::Buffers;
use crate::engine::ListenSource;
use crate::engine::accept::{self, Listener};
use crate::engine::access_log::{self, AccessLog};
use crate::engine::clock::Clock;
use crate::engine::endpoint::Endpoint;
use crate::engine::hold::{HeldCounts, Holds};
use crate::engine::ledger::Event;
use crate::engine::queue::Gates;
use crate::engine::series::{AllSeries, Series};
use crate::engine::slots::{SWEEP_INTERVAL, SlotGuard, Slots};
use crate::engine::stats::{ListenerStats, ReleaseStats, ThreadStats};
use crate::engine::table::{Service, StatsOf, Surroundings, Table};
use crate::h1::ids::IdSource;
use crate::tls::certificates::Certificates;
use crate::tls::stream::Scratch;

/// Releases that are in no table any more and whose counters are still kept.
const GONE_RELEASES_MAX: usize = 64;
/// Names of listeners whose counters are kept when the listener is gone, with those that are not.
const LISTENER_NAMES_MAX: usize = 256;
/// Places in a thread's queue that handed-over connections leave to everything else.
const STEERING_RESERVE: usize = 256;
/// How much longer connections may take to say goodbye once the drain's deadline is over.
const GOODBYE: Duration = Duration::from_secs(3);

/// Tasks that are run before the system is asked again what else is ready.
const TASKS_PER_LOOK: u32 = 128;

/// What a thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    /// Use this table.
    Swap(Arc<RouteTable>),
    /// Accept on this listener, instead of the one that had its name.
    Listen {
        /// Its name.
        name: String,
        /// Makes this thread's copy.
        source: Arc<dyn ListenSource>,
    },
    /// Accept no more on the listener of that name, once nobody waits there.
    Unlisten {
        /// Its name.
        name: String,
    },
    /// Serve a connection that another thread accepted.
    Adopt(Box<accept::Accepted>),
    /// Accept no more, finish, and say when nobody is left.
    Drain {
        /// Connections left then are cut: the same time on every thread.
        until: Instant,
    },
    /// Send counters.
    Report {
        /// Comes back.
        number: u64,
    },
}

/// What a thread begins with.
#[derive(Debug)]
pub(crate) struct Setup {
    /// Its number.
    pub(crate) index: usize,
    /// Start of the clock that all threads share.
    pub(crate) start: std::time::Instant,
    /// Of its random choices.
    pub(crate) seed: u64,
    /// Where its blocks of the access log go.
    pub(crate) log: Option<SyncSender<Vec<u8>>>,
    /// Its commands.
    pub(crate) commands: mpsc::Receiver<Command>,
    /// The commands of all threads.
    pub(crate) peers: Vec<mpsc::WeakSender<Command>>,
    /// Open connections of all threads.
    pub(crate) loads: Arc<[AtomicUsize]>,
    /// Requests that are held, on all threads.
    pub(crate) held: Arc<HeldCounts>,
    /// Where requests wait for slots, on all threads.
    pub(crate) gates: Arc<Gates>,
    /// For listeners that speak TLS.
    pub(crate) certificates: Certificates,
    /// To the ledger.
    pub(crate) events: mpsc::Sender<Event>,
}

/// What a draining thread waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    Until(Instant),
    /// Connections were cut at that time.
    Over(Instant),
    /// Nobody was left; who another thread hands over after that is served all the same.
    Empty,
    /// The same after a cut.
    Cut,
}

/// One thread.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Its clock.
    pub(crate) clock: Clock,
    /// Its spare buffers.
    pub(crate) buffers: Buffers,
    /// For choices between endpoints.
    pub(crate) random: RefCell<Random>,
    /// Names for requests.
    pub(crate) ids: IdSource,
    /// What happened before a release was known.
    pub(crate) stats: ThreadStats,
    /// Buffers of its TLS sessions.
    pub(crate) tls_scratch: Rc<Scratch>,
    /// Its part of the access log.
    pub(crate) log: AccessLog,
    /// Requests that wait for an endpoint.
    pub(crate) holds: Holds,
    /// Tasks that accept.
    pub(crate) accepting: Cell<usize>,
    index: usize,
    slots: Rc<Slots>,
    table: RefCell<Rc<Table>>,
    releases: RefCell<Vec<Rc<ReleaseStats>>>,
    series: AllSeries,
    listener_stats: RefCell<Vec<Rc<ListenerStats>>>,
    leaving: RefCell<Vec<Rc<Endpoint>>>,
    listeners: RefCell<BTreeMap<String, Rc<Listener>>>,
    /// Also those that are not accepted on any more, and whose connections live.
    all_listeners: RefCell<Vec<Weak<Listener>>>,
    drain: Cell<Drain>,
    loads: Arc<[AtomicUsize]>,
    held: Arc<HeldCounts>,
    gates: Arc<Gates>,
    certificates: Certificates,
    peers: Vec<mpsc::WeakSender<Command>>,
    events: mpsc::Sender<Event>,
}

/// Runs a thread until its commands end.
pub(crate) fn run(setup: Setup) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .event_interval(TASKS_PER_LOOK)
        .build_local(LocalOptions::default())?;
    let worker = Rc::new(Worker::new(&setup));
    let commands = setup.commands;
    runtime.block_on(worker.clone().main(commands));
    // Connections that are left end here; their requests are counted out by the guards they hold.
    drop(runtime);
    worker.log.flush();
    Ok(())
}

impl StatsOf for Worker {
    fn stats_of(&self, service: &str, release: &str) -> Rc<ReleaseStats> {
        let mut all = self.releases.borrow_mut();
        if let Some(known) = all.iter().find(|one| one.is_of(service, release)) {
            return known.clone();
        }
        let new = Rc::new(ReleaseStats::new(service, release));
        all.push(new.clone());
        new
    }

    fn series_of(&self, name: SeriesName) -> Rc<Series> {
        self.series.of(name)
    }
}

impl Worker {
    fn new(setup: &Setup) -> Self {
        let clock = Clock::new(setup.start);
        Self {
            clock,
            buffers: Buffers::default(),
            random: RefCell::new(Random::new(setup.seed)),
            // From the system, whatever the seed: two processes must not give the same ids.
            ids: IdSource::new((host::random::seed(), host::random::seed())),
            stats: ThreadStats::default(),
            tls_scratch: Rc::default(),
            log: AccessLog::new(setup.log.clone()),
            holds: Holds::default(),
            accepting: Cell::new(0),
            index: setup.index,
            slots: Rc::default(),
            table: RefCell::new(Rc::new(Table::empty())),
            releases: RefCell::default(),
            series: AllSeries::default(),
            listener_stats: RefCell::default(),
            leaving: RefCell::default(),
            listeners: RefCell::default(),
            all_listeners: RefCell::default(),
            drain: Cell::new(Drain::No),
            loads: setup.loads.clone(),
            held: setup.held.clone(),
            gates: setup.gates.clone(),
            certificates: setup.certificates.clone(),
            peers: setup.peers.clone(),
            events: setup.events.clone(),
        }
    }

    async fn main(self: Rc<Self>, mut commands: mpsc::Receiver<Command>) {
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut flushed = self.clock.now();
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.carry_out(command),
                    None => return,
                },
                _ = sweep.tick() => {
                    self.clock.refresh_wall();
                    self.sweep();
                    if self.clock.now().since(flushed) >= access_log::FLUSH_INTERVAL {
                        flushed = self.clock.now();
                        self.log.flush();
                    }
                }
            }
        }
    }

    fn carry_out(self: &Rc<Self>, command: Command) {
        self.clock.refresh();
        match command {
            Command::Swap(table) => self.swap(&table),
            Command::Listen { name, source } => self.listen(name, &*source),
            Command::Unlisten { name } => {
                if let Some(listener) = self.listeners.borrow_mut().remove(&name) {
                    listener.withdraw();
                }
            }
            Command::Adopt(accepted) => accept::adopt(self, *accepted),
            Command::Drain { until } => self.start_drain(until),
            Command::Report { number } => self.report(number),
        }
    }

    fn swap(&self, table: &RouteTable) {
        let before = self.table.borrow().clone();
        let mut known = before.endpoints.clone();
        known.extend(self.leaving.borrow().iter().cloned());
        let around = Surroundings {
            now: self.clock.now(),
            generation: table.generation,
            held: &self.held,
            gates: &self.gates,
        };
        let now = Rc::new(Table::new(table, &before, &known, self, &around));
        let is_listed = |one: &Rc<Endpoint>| now.endpoints.iter().any(|listed| Rc::ptr_eq(listed, one));
        let mut told: Vec<String> = now.draining.clone();
        for endpoint in known.iter().filter(|one| !is_listed(one)) {
            endpoint.set_serving(false);
            told.push(endpoint.instance.clone());
        }
        *self.leaving.borrow_mut() =
            known.iter().filter(|one| !is_listed(one) && one.in_flight() > 0).cloned().collect();
        self.all_listeners.borrow_mut().retain(|listener| {
            let Some(listener) = listener.upgrade() else { return false };
            listener.set_rules(now.rules(listener.name()));
            listener.set_tls(self.certificates.config(listener.name()));
            true
        });
        self.log.follow(table.access_log, &table.access_log_settings);
        *self.table.borrow_mut() = now.clone();
        before.wake_queues(self.index);
        now.wake_queues(self.index);
        self.holds.follow(|service| now.service(service).is_none_or(|service| service.hold().is_none()));
        self.forget_old_releases();
        self.send(Event::Applied { thread: self.index, generation: table.generation });
        told.sort_unstable();
        told.dedup();
        for instance in told {
            self.tell_if_quiet(&instance);
        }
    }

    /// Counters of releases that nobody refers to any more are dropped, the oldest first.
    fn forget_old_releases(&self) {
        let mut all = self.releases.borrow_mut();
        let gone = all.iter().filter(|one| Rc::strong_count(one) == 1).count();
        let mut excess = gone.saturating_sub(GONE_RELEASES_MAX);
        all.retain(|one| {
            let drop = excess > 0 && Rc::strong_count(one) == 1;
            excess -= usize::from(drop);
            !drop
        });
    }

    /// Says so when `instance`, draining or not listed, has no request in flight on this thread.
    pub(crate) fn tell_if_quiet(&self, instance: &str) {
        let table = self.table.borrow().clone();
        let mut leaving = self.leaving.borrow_mut();
        let is_listed = table.endpoints.iter().any(|one| one.instance == instance);
        if is_listed && !table.draining.iter().any(|draining| draining == instance) {
            return;
        }
        let busy =
            |one: &&Rc<Endpoint>| one.instance == instance && (one.is_serving() || one.in_flight() > 0);
        if table.endpoints.iter().find(busy).or_else(|| leaving.iter().find(busy)).is_some() {
            return;
        }
        leaving.retain(|one| one.instance != instance);
        let event =
            Event::Quiet { thread: self.index, instance: instance.to_owned(), generation: table.generation };
        self.send(event);
    }

    fn listen(self: &Rc<Self>, name: String, source: &dyn ListenSource) {
        let result = source.open().and_then(|socket| {
            let listener = self.add_listener(&name, &socket.local_addr()?.to_string());
            if matches!(self.drain.get(), Drain::No) {
                accept::start_accepting(self, listener.clone(), socket);
                match self.listeners.borrow_mut().insert(name.clone(), listener.clone()) {
                    // Two that listen on one address are two copies of one socket.
                    Some(before) if before.address() == listener.address() => before.stop(),
                    Some(before) => before.withdraw(),
                    None => {}
                }
            }
            Ok(())
        });
        let error = result.err().map(|error| error.to_string());
        self.send(Event::Listening { thread: self.index, name, error });
    }

    /// The listener of that name, or one like it when it is gone meanwhile.
    pub(crate) fn listener(&self, name: &str, address: &str) -> Rc<Listener> {
        if let Some(listener) = self.listeners.borrow().get(name).filter(|one| one.address() == address) {
            return listener.clone();
        }
        let gone = self.add_listener(name, address);
        gone.withdraw();
        gone
    }

    /// The counters of a listener, also of one that had its name before.
    fn stats_of_listener(&self, name: &str) -> Rc<ListenerStats> {
        let mut all = self.listener_stats.borrow_mut();
        if let Some(known) = all.iter().find(|one| one.name == name) {
            return known.clone();
        }
        if all.len() >= LISTENER_NAMES_MAX
            && let Some(gone) = all.iter().position(|one| Rc::strong_count(one) == 1)
        {
            all.remove(gone);
        }
        let new = Rc::new(ListenerStats::new(name));
        all.push(new.clone());
        new
    }

    /// A listener that follows the tables for as long as anybody has it.
    fn add_listener(&self, name: &str, address: &str) -> Rc<Listener> {
        let stats = self.stats_of_listener(name);
        let listener = Rc::new(Listener::new(stats, address, self.table.borrow().rules(name)));
        listener.set_tls(self.certificates.config(name));
        self.all_listeners.borrow_mut().push(Rc::downgrade(&listener));
        listener
    }

    /// The service of that name in the newest table.
    pub(crate) fn service(&self, name: &str) -> Option<Rc<Service>> {
        self.table.borrow().service(name).cloned()
    }

    fn start_drain(&self, until: Instant) {
        match self.drain.get() {
            // The shorter one counts, whoever asked first.
            Drain::Until(before) if before <= until => return,
            Drain::Over(_) | Drain::Empty | Drain::Cut => return,
            Drain::No | Drain::Until(_) => self.drain.set(Drain::Until(until)),
        }
        for (_, listener) in std::mem::take(&mut *self.listeners.borrow_mut()) {
            listener.stop();
        }
    }

    fn sweep(&self) {
        let now = self.clock.now();
        self.slots.sweep(now);
        self.holds.sweep();
        let table = self.table.borrow().clone();
        table.sweep_pools(now);
        table.sweep_balance(now, self.index);
        match self.drain.get() {
            Drain::No | Drain::Empty | Drain::Cut => {}
            // Accepting tasks hold their listener until they have found nobody waiting.
            Drain::Until(_) if self.slots.len() == 0 && self.accepting.get() == 0 => {
                self.tell_empty(Drain::Empty)
            }
            Drain::Until(until) if now >= until => {
                self.drain.set(Drain::Over(now));
                self.slots.fire_all();
            }
            Drain::Until(_) => {}
            Drain::Over(since) if self.slots.len() == 0 || now.since(since) >= GOODBYE => {
                self.tell_empty(Drain::Cut);
            }
            Drain::Over(_) => {}
        }
    }

    fn tell_empty(&self, drain: Drain) {
        self.drain.set(drain);
        self.log.flush();
        self.send(Event::Empty { thread: self.index });
    }

    /// Its number.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Whether connections are to end with their next answer.
    pub(crate) fn is_draining(&self) -> bool {
        !matches!(self.drain.get(), Drain::No)
    }

    /// Whether connections end now, whatever they do.
    pub(crate) fn is_cut(&self) -> bool {
        matches!(self.drain.get(), Drain::Over(_) | Drain::Cut)
    }

    /// Whether the drain's deadline is over, cut or not. Threads cut one after the other: what the first of them frees
    /// must not be taken by who waits on another, only to be cut too.
    pub(crate) fn is_overdue(&self) -> bool {
        match self.drain.get() {
            Drain::Until(until) => self.clock.refresh() >= until,
            Drain::Over(_) | Drain::Cut => true,
            Drain::No | Drain::Empty => false,
        }
    }

    fn report(&self, number: u64) {
        let now = self.clock.now();
        let table = self.table.borrow();
        let known = self.releases.borrow();
        let releases = known.iter().map(|one| {
            let out = table.endpoints.iter().filter(|endpoint| {
                Rc::ptr_eq(&endpoint.stats, one) && endpoint.is_serving() && !endpoint.is_open(now)
            });
            ReleaseCounters { ejected_now: out.count() as u64, ..one.report() }
        });
        let counters = Counters {
            token: None,
            connections: self.slots.len() as u64,
            accepted: self.stats.accepted.get(),
            refused: self.stats.refused.get(),
            releases: releases.collect(),
            listeners: self.listener_stats.borrow().iter().map(|one| one.report()).collect(),
            log_lines_dropped: self.log.dropped(),
            ..Counters::default()
        };
        let (counters, changes) = (Box::new(counters), self.series.take_changes());
        self.send(Event::Report { thread: self.index, number, counters, changes });
    }

    fn send(&self, event: Event) {
        if self.events.try_send(event).is_err() && !self.events.is_closed() {
            tracing::error!(thread = self.index, "an event was lost: nobody reads them");
        }
    }

    /// A slot for a new connection.
    pub(crate) fn add_slot(&self) -> SlotGuard {
        let slot = self.slots.add();
        self.publish_load();
        slot
    }

    /// Lets the other threads know how many connections there are.
    pub(crate) fn publish_load(&self) {
        self.loads[self.index].store(self.slots.len(), Ordering::Relaxed);
    }

    /// The less loaded of two random other threads, if it has so much less that it should get the next connection.
    pub(crate) fn lighter_peer(&self) -> Option<mpsc::Sender<Command>> {
        let others = self.peers.len() - 1;
        if others == 0 || self.is_draining() {
            return None;
        }
        let mut random = self.random.borrow_mut();
        let mut draw = || {
            let other = random.below(others);
            if other >= self.index { other + 1 } else { other }
        };
        let (first, second) = (draw(), draw());
        let load = |at: usize| self.loads[at].load(Ordering::Relaxed);
        let lighter = if load(second) < load(first) { second } else { first };
        let theirs = load(lighter);
        if self.slots.len() <= theirs + theirs / 8 {
            return None;
        }
        // A thread that is behind must still hear of tables and drains.
        let peer = self.peers[lighter].upgrade().filter(|peer| peer.capacity() > STEERING_RESERVE)?;
        self.loads[lighter].fetch_add(1, Ordering::Relaxed);
        Some(peer)
    }

    /// Descriptors ran out: gives up pooled connections, and idle clients where there are none. Whether there
    /// was anything to give up.
    pub(crate) fn shed(&self) -> bool {
        /// Idle clients given up at once.
        const IDLE_SHED: usize = 16;
        let table = self.table.borrow();
        let pooled: usize = table.endpoints.iter().map(|endpoint| endpoint.close_pool()).sum();
        pooled > 0 || self.slots.give_up_idle(IDLE_SHED) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker() -> (Worker, mpsc::Receiver<Event>) {
        let (_commands_in, commands) = mpsc::channel(1);
        let (events, told) = mpsc::channel(4);
        let worker = Worker::new(&Setup {
            index: 0,
            start: std::time::Instant::now(),
            seed: 1,
            log: None,
            commands,
            peers: Vec::new(),
            loads: Arc::new([AtomicUsize::new(0)]),
            held: Arc::default(),
            gates: Arc::default(),
            certificates: Certificates::new(None, &events),
            events,
        });
        (worker, told)
    }

    #[test]
    fn the_deadline_of_a_drain_is_over_for_who_waits_before_this_thread_has_cut() {
        let (worker, _told) = worker();
        assert!(!worker.is_overdue());
        worker.start_drain(worker.clock.refresh() + Duration::from_secs(60));
        assert!(!worker.is_overdue());
        worker.start_drain(worker.clock.now());
        assert!(worker.is_overdue() && !worker.is_cut());
    }

    #[test]
    fn a_drained_thread_still_serves_who_comes_late_from_another_one() {
        let (worker, mut told) = worker();
        worker.start_drain(worker.clock.refresh() + Duration::from_secs(60));
        worker.sweep();
        assert!(matches!(told.try_recv(), Ok(Event::Empty { thread: 0 })));
        let _late = worker.add_slot();
        assert!(worker.is_draining() && !worker.is_cut());
    }
}
