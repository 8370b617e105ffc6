//! Route tables: what the proxies are told, and what is known of how far they are.
//!
//! A table is made anew from the state of the services after every event and given out if it says something
//! else than the last. *Nothing goes to X* is true once every living proxy uses a table that came after the
//! last one which let requests go to X. Of tables given out by a former life of the agent the worst is assumed.
//!
//! It deliberately never waits for a proxy that is gone.

use std::collections::BTreeMap;

use model::id::{InstanceId, ReleaseId, ServiceName};
use model::manifest::Mode;
use wire::routes::{Endpoint, EndpointState, RouteTable};

use super::services::Slot;
use super::{Action, Controller};

mod content;

pub(super) use content::{WEIGHT_ALL, hold_due, settings};

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
        self.is_drained_as_of(slot.last_served, &slot.drained)
    }

    /// The same of an endpoint: by the last table that let requests go to it, and the newest of each proxy as of
    /// which none was in flight.
    pub(super) fn is_drained_as_of(&self, last_served: Option<u64>, drained: &BTreeMap<u64, u64>) -> bool {
        let last = last_served.unwrap_or(self.floor);
        let past = |generation: Option<&u64>| generation.is_some_and(|generation| *generation > last);
        self.is_past(last) && self.proxies.keys().all(|proxy| past(drained.get(proxy)))
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
        self.forget_proxy_of_endpoints(generation);
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
        self.note_served_endpoints(&table);
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
            access_log: manifest.proxy.access_log.is_some(),
            access_log_settings: manifest.proxy.access_log.as_ref().map(Into::into).unwrap_or_default(),
            listeners: self.listener_settings(),
            routes: content::routes(&self.base),
            services: self
                .services
                .iter()
                .filter(|(_, service)| service.settings.mode == Mode::Proxied)
                .map(|(name, service)| (name.to_string(), content::traffic(service, now)))
                .chain(self.fronted.iter().map(|(name, front)| (name.to_string(), front.traffic(name))))
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
