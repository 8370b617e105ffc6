//! Route tables: what the proxies are told, and what is known of how far they are.
//!
//! A table is made anew from the state of the services after every event and given out if it says something
//! else than the last. *Nothing goes to X* is true once every living proxy uses a table that came after the
//! last one which let requests go to X. Of tables given out by a former life of the agent the worst is assumed.
//!
//! It deliberately never waits for a proxy that is gone.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use model::id::{InstanceId, ReleaseId, ServiceName};
use model::instance::Routing;
use model::manifest::{Mode, ReadinessCheck};
use model::time::Instant;
use wire::manifest::millis;
use wire::routes::{
    AccessLogSettings, Endpoint, EndpointState, Hold, ListenerSettings, ProbeSettings, ReleaseTraffic, Route,
    RouteTable, ServiceTraffic,
};

use super::services::{Service, Slot};
use super::{Action, Base, Controller};

/// All of a service's requests, in basis points.
const WEIGHT_ALL: u16 = 10_000;
/// Requests wait for so long while a service that cannot run twice is between two processes, and so many.
const HOLD: Hold = Hold { timeout_ms: 30_000, requests_max: 1_000 };
/// Nobody waits for a start that is further away.
const HELD_BEFORE_START: Duration = Duration::from_secs(10);
/// Where instances listen.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One living proxy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proxy {
    pub pid: u32,
    /// Newest table that all its threads use.
    pub applied: u64,
    /// Open client connections.
    pub connections: u64,
    /// Its link was up once: its end is told by that.
    pub linked: bool,
}

/// Tables in which requests could go to a release: the first of an unbroken row, and the last.
#[derive(Debug, Clone, Copy)]
struct Routed {
    since: u64,
    until: u64,
}

/// What was given out, and to whom.
#[derive(Debug)]
pub(super) struct Tables {
    /// The last generation given out, by this agent or a former one.
    pub generation: u64,
    /// The last one of a former life.
    pub floor: u64,
    pub published: Option<RouteTable>,
    /// A proxy has no table from us: the next is given out even if it says nothing new.
    pub wanted: bool,
    /// Everything stops: that there is no proxy does not mean that one is just starting.
    pub closing: bool,
    pub proxies: BTreeMap<u64, Proxy>,
    routed: BTreeMap<(ServiceName, ReleaseId), Routed>,
}

impl Tables {
    pub(super) fn new(generation: u64) -> Self {
        Self {
            generation,
            floor: generation,
            published: None,
            wanted: true,
            closing: false,
            proxies: BTreeMap::new(),
            routed: BTreeMap::new(),
        }
    }

    /// Former agents gave out tables up to this one.
    pub(super) fn raise_floor(&mut self, generation: u64) {
        self.generation = self.generation.max(generation);
        self.floor = self.floor.max(self.generation);
    }

    pub(super) fn handle_applied(&mut self, proxy: u64, generation: u64) {
        if let Some(proxy) = self.proxies.get_mut(&proxy) {
            proxy.applied = proxy.applied.max(generation);
        }
    }

    /// Every living proxy uses a table later than `generation`, and so does the last one given out. Where none
    /// lives, one is about to start with the table that it found: what it does is known when it has a link.
    pub(super) fn is_past(&self, generation: u64) -> bool {
        (self.closing || !self.proxies.is_empty())
            && self.published.as_ref().is_some_and(|table| table.generation > generation)
            && self.proxies.values().all(|proxy| proxy.applied > generation)
    }

    /// No proxy lets a request go to that release.
    pub(super) fn nothing_goes_to(&self, service: &ServiceName, release: &ReleaseId) -> bool {
        let until =
            self.routed.get(&(service.clone(), release.clone())).map_or(self.floor, |routed| routed.until);
        self.is_past(until)
    }

    /// Every proxy lets requests go to that release.
    pub(super) fn all_go_to(&self, service: &ServiceName, release: &ReleaseId) -> bool {
        let Some(routed) = self.routed.get(&(service.clone(), release.clone())) else { return false };
        self.published.as_ref().is_some_and(|table| table.generation == routed.until)
            && self.proxies.values().all(|proxy| proxy.applied >= routed.since)
    }

    /// No proxy lets a request go to that instance, and none has one in flight on it.
    pub(super) fn is_drained(&self, slot: &Slot) -> bool {
        let last = slot.last_served.unwrap_or(self.floor);
        let past = |generation: Option<&u64>| generation.is_some_and(|generation| *generation > last);
        self.is_past(last) && self.proxies.keys().all(|proxy| past(slot.drained.get(proxy)))
    }

    /// Share of a release in the last table, in basis points.
    pub(super) fn weight(&self, service: &ServiceName, release: &ReleaseId) -> u16 {
        let Some(table) = &self.published else { return 0 };
        let Some(traffic) = table.services.get(service.as_str()) else { return 0 };
        let release = release.to_string();
        traffic.releases.iter().find(|known| known.release == release).map_or(0, |known| known.weight)
    }

    fn note_routes(&mut self, table: &RouteTable) {
        for (service, traffic) in &table.services {
            for release in traffic.releases.iter().filter(|release| release.weight > 0) {
                let is_serving = |endpoint: &Endpoint| endpoint.state == EndpointState::Serving;
                if !release.endpoints.iter().any(is_serving) {
                    continue;
                }
                let (Ok(service), Ok(id)) = (service.parse(), release.release.parse()) else { continue };
                let fresh = Routed { since: table.generation, until: table.generation };
                let former = self.published.as_ref().map_or(0, |former| former.generation);
                let routed = self.routed.entry((service, id)).or_insert(fresh);
                if routed.until != former {
                    routed.since = table.generation;
                }
                routed.until = table.generation;
            }
        }
    }
}

impl Controller {
    pub(super) fn handle_proxy_up(&mut self, generation: u64, pid: u32) {
        self.tables.proxies.insert(generation, Proxy { pid, applied: 0, connections: 0, linked: true });
        self.tables.wanted = true;
        self.unfold_counters(generation);
        self.drain_late_proxy();
    }

    pub(super) fn handle_proxy_gone(&mut self, generation: u64) {
        if self.tables.proxies.remove(&generation).is_some() {
            self.fold_counters(generation);
            if self.stopping.is_none() {
                self.append(
                    None,
                    "process",
                    format!("the proxy of generation {generation} has ended"),
                    "agent",
                );
            }
        }
        for slot in self.services.values_mut().flat_map(|service| service.slots.values_mut()) {
            slot.drained.remove(&generation);
        }
    }

    /// Gives out a table if there is something new to say.
    pub(super) fn publish(&mut self) -> bool {
        let mut table = self.make_table();
        if let Some(published) = &self.tables.published
            && !self.tables.wanted
        {
            table.generation = published.generation;
            if table == *published {
                return false;
            }
        }
        self.tables.generation += 1;
        table.generation = self.tables.generation;
        for (id, slot) in self.services.values_mut().flat_map(|service| &mut service.slots) {
            if is_serving(&table, id) {
                slot.last_served = Some(table.generation);
            }
        }
        self.tables.note_routes(&table);
        self.tables.published = Some(table.clone());
        self.tables.wanted = false;
        self.out.push_back(Action::Publish(Box::new(table)));
        true
    }

    fn make_table(&self) -> RouteTable {
        let now = self.now;
        let manifest = &self.base.manifest;
        let mut refused: Vec<(String, String)> = Vec::new();
        for (name, service) in &self.services {
            refused.extend(service.refused().map(|release| (name.to_string(), release.to_string())));
        }
        RouteTable {
            generation: 0,
            threads: manifest.proxy.threads,
            access_log: manifest.proxy.access_log,
            access_log_settings: AccessLogSettings::default(),
            listeners: listeners(&self.base),
            routes: routes(&self.base),
            services: self
                .services
                .iter()
                .filter(|(_, service)| service.settings.mode == Mode::Proxied)
                .map(|(name, service)| (name.to_string(), traffic(service, now)))
                .collect(),
            refused,
        }
    }
}

fn is_serving(table: &RouteTable, id: &InstanceId) -> bool {
    let Some(traffic) = table.services.get(id.service.as_str()) else { return false };
    let (release, instance) = (id.release.to_string(), id.to_string());
    let endpoints =
        traffic.releases.iter().filter(|known| known.release == release).flat_map(|r| &r.endpoints);
    endpoints.into_iter().any(|e| e.instance == instance && e.state == EndpointState::Serving)
}

fn listeners(base: &Base) -> BTreeMap<String, ListenerSettings> {
    let settings = |listener: &model::manifest::Listener| ListenerSettings {
        header_timeout_ms: millis(listener.header_timeout),
        idle_timeout_ms: millis(listener.idle_timeout),
        body_timeout_ms: millis(listener.body_timeout),
        head_bytes_max: u32::try_from(listener.head_bytes_max).unwrap_or(u32::MAX),
        headers_max: u32::try_from(listener.headers_max).unwrap_or(u32::MAX),
        body_bytes_max: listener.body_bytes_max,
        ..ListenerSettings::UNNAMED
    };
    base.manifest.listeners.iter().map(|(name, listener)| (name.to_string(), settings(listener))).collect()
}

fn routes(base: &Base) -> Vec<Route> {
    let route = |route: &wire::manifest::Route| Route {
        listener: route.listener.clone(),
        host: route.host.clone(),
        path: route.path.clone(),
        service: route.service.clone(),
        split: Vec::new(),
    };
    base.wire.routes.iter().map(route).collect()
}

fn traffic(service: &Service, now: Instant) -> ServiceTraffic {
    let mut groups: BTreeMap<&ReleaseId, Vec<Endpoint>> = BTreeMap::new();
    for (id, slot) in &service.slots {
        let Some(port) = slot.port else { continue };
        let state = match slot.machine.routing() {
            Routing::Absent => continue,
            Routing::Ready => EndpointState::Serving,
            Routing::Unready(_) if service.last_admitted(&id.release) == Some(id) => EndpointState::Serving,
            Routing::Unready(_) | Routing::Candidate => EndpointState::Candidate,
            Routing::Draining => EndpointState::Draining,
        };
        let address = SocketAddr::new(LOOPBACK, port).into();
        let endpoint = Endpoint { instance: id.to_string(), address, state, weight: 1, supervised: true };
        groups.entry(&id.release).or_default().push(endpoint);
    }
    let receiver = receiver(service, &groups);
    let shares = shares(service, &groups);
    let weight = |id: &ReleaseId| match &shares {
        Some(shares) => shares.iter().find(|(release, _)| *release == id).map_or(0, |(_, weight)| *weight),
        None if Some(id) == receiver => WEIGHT_ALL,
        None => 0,
    };
    let releases = groups.iter().map(|(id, endpoints)| ReleaseTraffic {
        release: id.to_string(),
        weight: weight(id),
        endpoints: endpoints.clone(),
    });
    let settings = &service.settings;
    ServiceTraffic {
        releases: releases.collect(),
        probe: probe(service),
        connect_timeout_ms: millis(settings.upstream.connect_timeout),
        response_timeout_ms: millis(settings.upstream.response_timeout),
        idle_reuse_ms: millis(settings.upstream.idle_reuse),
        hold: holds_requests(service, now).then_some(HOLD),
        ..ServiceTraffic::default()
    }
}

/// Two releases that both serve share in proportion to what each has ready; `None` where one has it all.
fn shares<'a>(
    service: &'a Service,
    groups: &BTreeMap<&ReleaseId, Vec<Endpoint>>,
) -> Option<[(&'a ReleaseId, u16); 2]> {
    let [from, to] = service.sharers()?;
    let serving = |release: &ReleaseId| {
        let serving = groups.get(release).into_iter().flatten();
        serving.filter(|endpoint| endpoint.state == EndpointState::Serving).count()
    };
    // An instance that is only the last of its release counts for nothing beside one that is ready.
    let counted = |release: &ReleaseId, other: &ReleaseId| {
        let ready = usize::try_from(service.ready(release)).unwrap_or(usize::MAX);
        if ready == 0 && service.ready(other) == 0 { serving(release) } else { ready.min(serving(release)) }
    };
    let (old, new) = (counted(from, to), counted(to, from));
    if old + new == 0 {
        return None;
    }
    let share = usize::from(WEIGHT_ALL) * new / (old + new);
    let share = u16::try_from(share).unwrap_or(WEIGHT_ALL);
    Some([(from, WEIGHT_ALL - share), (to, share)])
}

/// A service that cannot run twice is between two processes, and the next one is near.
fn holds_requests(service: &Service, now: Instant) -> bool {
    if service.rollout.as_ref().is_some_and(|running| running.machine.holds_requests()) {
        return true;
    }
    if !service.is_exclusive() || service.desired.stopped || service.desired.removed {
        return false;
    }
    if service.operating().is_some_and(super::operating::Operation::holds_requests) {
        return true;
    }
    let mut slots = service.slots.values();
    let (Some(slot), None) = (slots.next(), slots.next()) else { return false };
    match slot.machine.routing() {
        Routing::Candidate => true,
        Routing::Absent => next_start(slot, now).is_some_and(|left| left <= HELD_BEFORE_START),
        Routing::Ready | Routing::Unready(_) | Routing::Draining => false,
    }
}

/// Until its next start, where it waits for that.
fn next_start(slot: &Slot, now: Instant) -> Option<Duration> {
    slot.machine.next_start().map(|at| now.until(at))
}

/// When the next start of a service that cannot run twice comes so near that requests may wait for it.
pub(super) fn hold_due(service: &Service, now: Instant) -> Option<Instant> {
    let at = service.slots.values().filter_map(|slot| slot.machine.next_start()).min();
    let wait =
        at.filter(|_| service.is_exclusive()).map(|at| now.until(at).saturating_sub(HELD_BEFORE_START));
    wait.filter(|wait| !wait.is_zero()).map(|wait| now + wait)
}

/// Until a release is promoted its share goes to the former one while it has nothing that could answer.
fn receiver<'a>(service: &'a Service, groups: &BTreeMap<&ReleaseId, Vec<Endpoint>>) -> Option<&'a ReleaseId> {
    let (first, second) = service.receivers();
    let answers = |release: &ReleaseId| {
        groups.get(release).is_some_and(|group| group.iter().any(|e| e.state == EndpointState::Serving))
    };
    match (first, second) {
        (Some(first), Some(second)) if !answers(first) && answers(second) => Some(second),
        (first, _) => first,
    }
}

fn probe(service: &Service) -> Option<ProbeSettings> {
    let readiness = &service.settings.readiness;
    let http_path = match &readiness.check {
        ReadinessCheck::Http(path) => Some(path.clone()),
        ReadinessCheck::Tcp => None,
        ReadinessCheck::Notify
        | ReadinessCheck::Log(_)
        | ReadinessCheck::Command(_)
        | ReadinessCheck::AliveFor(_) => return None,
    };
    Some(ProbeSettings {
        http_path,
        interval_ms: millis(readiness.interval),
        timeout_ms: millis(readiness.timeout),
        rise: readiness.rise,
        fall: readiness.fall,
    })
}
