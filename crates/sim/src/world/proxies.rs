//! Fake proxies: they use tables, probe, let requests through, count, drain and die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent::world::Event;
use model::id::InstanceId;
use model::time::Instant;
use wire::routes::{EndpointState, RouteTable, ServiceTraffic};
use wire::traffic::{Counters, ReleaseCounters};

use super::{Happening, Link, Process, Told, World};

/// Between two looks at what has to be probed.
const PROBE_TICK: Duration = Duration::from_millis(50);
/// A candidate is probed fast for so long.
const PROBED_FAST: Duration = Duration::from_secs(5);
const COUNTERS_TICK: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
struct Probed {
    since: Instant,
    next: Instant,
    in_a_row: u32,
    last: bool,
    told: Option<bool>,
    told_failing: Instant,
}

#[derive(Debug, Clone)]
struct Request {
    service: String,
    release: String,
    instance: String,
    port: u16,
    pid: u32,
    pub(super) started: Instant,
}

/// One proxy process.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) pid: u32,
    pub(crate) table: Option<RouteTable>,
    /// The agent's life it has a link to.
    linked: Option<u64>,
    probed: BTreeMap<(String, u16), Probed>,
    requests: BTreeMap<u64, Request>,
    /// Instances that were said to be drained as of the table in use.
    quiet: BTreeSet<String>,
    draining: bool,
    counters: BTreeMap<(String, String), ReleaseCounters>,
    /// Requests that wait for a table with something that answers: service and since when.
    held: BTreeMap<u64, (String, Instant)>,
}

impl World {
    pub(super) fn newest_proxy(&self) -> Option<u64> {
        self.proxies.last_key_value().map(|(generation, _)| *generation)
    }

    pub(super) fn linked_proxies(&self) -> Vec<u64> {
        let linked = |(_, proxy): &(&u64, &Proxy)| proxy.linked == Some(self.life);
        self.proxies.iter().filter(linked).map(|(generation, _)| *generation).collect()
    }

    pub(super) fn start_proxy(&mut self) {
        let generation = self.next_proxy;
        self.next_proxy += 1;
        let pid = self.pid();
        self.note(&format!("proxy {generation} starts"));
        let proxy = Proxy {
            pid,
            table: self.routes(),
            linked: None,
            probed: BTreeMap::new(),
            requests: BTreeMap::new(),
            quiet: BTreeSet::new(),
            draining: false,
            counters: BTreeMap::new(),
            held: BTreeMap::new(),
        };
        self.proxies.insert(generation, proxy);
        self.later(PROBE_TICK, Happening::Probes(generation));
        self.later(COUNTERS_TICK, Happening::Counters(generation));
        if self.agent.is_some() && self.holder.alive {
            self.link_proxy(generation);
        }
    }

    /// A fresh link between the living agent and a proxy: the proxy says again what it knows.
    pub(super) fn link_proxy(&mut self, generation: u64) {
        let life = self.life;
        let Some(proxy) = self.proxies.get_mut(&generation) else { return };
        proxy.linked = Some(life);
        proxy.quiet.clear();
        let pid = proxy.pid;
        let mut known = Vec::new();
        for ((instance, _), probed) in &proxy.probed {
            if let (Some(healthy), Ok(instance)) = (probed.told, instance.parse()) {
                known.push(Event::Probe {
                    instance,
                    healthy: Some(healthy),
                    detail: "known before".to_owned(),
                });
            }
        }
        self.say(generation, Event::ProxyUp { generation, pid });
        for event in known {
            self.say(generation, event);
        }
        self.tell_quiet(generation);
    }

    fn say(&mut self, generation: u64, event: Event) {
        let Some(life) = self.proxies.get(&generation).and_then(|proxy| proxy.linked) else { return };
        self.send(Link::FromProxy(life, generation), Happening::ToAgent(life, Box::new(event)));
    }

    /// kill -9 of the newest proxy; the holder starts another.
    pub fn kill_proxy(&mut self) {
        let Some(generation) = self.newest_proxy() else { return };
        self.note(&format!("proxy {generation} is killed"));
        self.remove_proxy(generation);
        if self.holder.alive {
            let delay = self.millis_between(5, 150);
            self.later(delay, Happening::ProxyStarts);
        }
    }

    fn remove_proxy(&mut self, generation: u64) {
        self.say(generation, Event::ProxyGone { generation });
        self.proxies.remove(&generation);
    }

    pub(super) fn proxy_ends(&mut self, generation: u64) {
        if self.proxies.contains_key(&generation) {
            self.note(&format!("proxy {generation} has drained and exits"));
            self.remove_proxy(generation);
        }
    }

    pub(super) fn tell_proxy(&mut self, generation: u64, told: Told) {
        let apply = self.millis_between(0, 8);
        let Some(proxy) = self.proxies.get_mut(&generation) else { return };
        match told {
            Told::Table(table) => {
                let at =
                    (self.now + apply).max(*self.links.get(&Link::Threads(generation)).unwrap_or(&self.now));
                self.links.insert(Link::Threads(generation), at);
                self.later(self.now.until(at), Happening::TableUsed(generation, table));
            }
            Told::Drain(deadline) => {
                proxy.draining = true;
                let empty = proxy.requests.is_empty();
                let wait = if empty { Duration::from_millis(1) } else { deadline };
                self.later(wait, Happening::ProxyGivesUp(generation));
            }
            Told::Report(token) => self.send_counters(generation, Some(token)),
        }
    }

    pub(super) fn use_table(&mut self, generation: u64, table: RouteTable) {
        let Some(proxy) = self.proxies.get_mut(&generation) else { return };
        if proxy.table.as_ref().is_some_and(|known| known.generation > table.generation) {
            return;
        }
        let applied = table.generation;
        let listed = |key: &(String, u16)| {
            let endpoints = table.services.values().flat_map(|s| &s.releases).flat_map(|r| &r.endpoints);
            endpoints.into_iter().any(|e| e.instance == key.0 && e.address.port() == Some(key.1))
        };
        proxy.probed.retain(|key, _| listed(key));
        proxy.quiet.clear();
        proxy.table = Some(table);
        self.say(generation, Event::TableApplied { proxy: generation, generation: applied });
        self.tell_quiet(generation);
        self.release_held(generation);
    }

    /// What waited goes on where something answers now.
    fn release_held(&mut self, generation: u64) {
        let Some(proxy) = self.proxies.get(&generation) else { return };
        let held: Vec<(u64, String, Instant)> =
            proxy.held.iter().map(|(id, (service, since))| (*id, service.clone(), *since)).collect();
        for (id, service, since) in held {
            let Some(traffic) =
                self.proxies[&generation].table.as_ref().and_then(|t| t.services.get(&service)).cloned()
            else {
                continue;
            };
            if let Some(request) = self.choose(&service, &traffic) {
                let waited = self.now.since(since);
                if let Some(proxy) = self.proxies.get_mut(&generation) {
                    proxy.held.remove(&id);
                }
                self.count_held(generation, &request, waited);
                self.begin_request(generation, request);
            } else if traffic.hold.is_none() {
                if let Some(proxy) = self.proxies.get_mut(&generation) {
                    proxy.held.remove(&id);
                }
                self.check_failed_request(&service);
            }
        }
    }

    fn count_held(&mut self, generation: u64, request: &Request, waited: Duration) {
        let Some(proxy) = self.proxies.get_mut(&generation) else { return };
        let counters = counters_of(proxy, request);
        counters.held += 1;
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        counters.hold_us_max = counters.hold_us_max.max(micros);
    }

    /// It has waited for as long as it may.
    pub(super) fn hold_ends(&mut self, generation: u64, id: u64) {
        let held = self.proxies.get_mut(&generation).and_then(|proxy| proxy.held.remove(&id));
        if let Some((service, _)) = held {
            self.check_failed_request(&service);
        }
    }

    fn tell_quiet(&mut self, generation: u64) {
        let Some(proxy) = self.proxies.get_mut(&generation) else { return };
        let Some(table) = &proxy.table else { return };
        let as_of = table.generation;
        let mut drained = Vec::new();
        for endpoint in table.services.values().flat_map(|s| &s.releases).flat_map(|r| &r.endpoints) {
            let busy = proxy.requests.values().any(|request| request.instance == endpoint.instance);
            if endpoint.state == EndpointState::Draining
                && !busy
                && proxy.quiet.insert(endpoint.instance.clone())
            {
                drained.push(endpoint.instance.clone());
            }
        }
        for instance in drained {
            if let Ok(instance) = instance.parse() {
                self.say(generation, Event::Drained { proxy: generation, instance, generation: as_of });
            }
        }
    }

    pub(super) fn probe(&mut self, generation: u64) {
        let is_newest = self.newest_proxy() == Some(generation);
        let now = self.now;
        let Some(proxy) = self.proxies.get_mut(&generation) else { return };
        let mut said = Vec::new();
        let services = proxy.table.iter().flat_map(|table| table.services.values());
        for service in services.filter(|_| is_newest) {
            let Some(settings) = &service.probe else { continue };
            for endpoint in service.releases.iter().flat_map(|release| &release.endpoints) {
                if endpoint.state == EndpointState::Draining {
                    continue;
                }
                let Some(port) = endpoint.address.port() else { continue };
                let key = (endpoint.instance.clone(), port);
                let fresh = Probed {
                    since: now,
                    next: now,
                    in_a_row: 0,
                    last: false,
                    told: (endpoint.state == EndpointState::Serving).then_some(true),
                    told_failing: now,
                };
                let probed = proxy.probed.entry(key).or_insert(fresh);
                if probed.next > now {
                    continue;
                }
                let fast =
                    endpoint.state == EndpointState::Candidate && now.since(probed.since) < PROBED_FAST;
                probed.next =
                    now + if fast { PROBE_TICK } else { Duration::from_millis(settings.interval_ms) };
                let process = self.holder.on_port(port);
                let ok = process.is_some_and(|process| process.answers(now));
                probed.in_a_row = if ok == probed.last { probed.in_a_row + 1 } else { 1 };
                probed.last = ok;
                let needed = if ok { settings.rise } else { settings.fall };
                if probed.in_a_row >= needed && probed.told != Some(ok) && (ok || probed.told.is_some()) {
                    probed.told = Some(ok);
                    said.push((endpoint.instance.clone(), Some(ok)));
                } else if !ok && probed.told.is_none() && now.since(probed.told_failing) >= COUNTERS_TICK {
                    probed.told_failing = now;
                    said.push((endpoint.instance.clone(), None));
                }
            }
        }
        for (instance, healthy) in said {
            if let Ok(instance) = instance.parse() {
                let detail = if healthy == Some(true) { "answered 200" } else { "connection refused" };
                self.say(generation, Event::Probe { instance, healthy, detail: detail.to_owned() });
            }
        }
        self.later(PROBE_TICK, Happening::Probes(generation));
    }

    pub(super) fn count(&mut self, generation: u64) {
        if self.proxies.contains_key(&generation) {
            self.send_counters(generation, None);
            self.later(COUNTERS_TICK, Happening::Counters(generation));
        }
    }

    fn send_counters(&mut self, generation: u64, token: Option<u64>) {
        let Some(proxy) = self.proxies.get(&generation) else { return };
        let counters = Counters {
            token,
            connections: u64::try_from(proxy.requests.len()).unwrap_or(u64::MAX),
            releases: proxy.counters.values().cloned().collect(),
            ..Counters::default()
        };
        if let Some(proxy) = self.proxies.get_mut(&generation) {
            proxy.counters.values_mut().for_each(|counters| counters.hold_us_max = 0);
        }
        self.say(generation, Event::Counters { proxy: generation, counters: Box::new(counters) });
    }

    /// One request to every service, by a proxy that accepts.
    pub(super) fn requests(&mut self) {
        if self.holder.stopped {
            return;
        }
        let pause = self.millis_between(10, 60);
        self.later(pause, Happening::Requests);
        let accepting: Vec<u64> = self
            .proxies
            .iter()
            .filter(|(_, proxy)| !proxy.draining)
            .map(|(generation, _)| *generation)
            .collect();
        if accepting.is_empty() {
            return;
        }
        let generation = accepting[self.choices.below(accepting.len())];
        let Some(table) = self.proxies[&generation].table.clone() else { return };
        for (service, traffic) in &table.services {
            match self.choose(service, traffic) {
                Some(request) => self.begin_request(generation, request),
                None => self.hold_or_fail(generation, service, traffic),
            }
        }
    }

    fn hold_or_fail(&mut self, generation: u64, service: &str, traffic: &ServiceTraffic) {
        let serves = traffic.releases.iter().flat_map(|release| &release.endpoints);
        let serves = serves.into_iter().any(|endpoint| endpoint.state == EndpointState::Serving);
        let Some(hold) = traffic.hold.filter(|_| !serves) else {
            self.check_failed_request(service);
            return;
        };
        self.next_request += 1;
        let (id, now) = (self.next_request, self.now);
        let Some(proxy) = self.proxies.get_mut(&generation) else { return };
        if proxy.held.len() < usize::try_from(hold.requests_max).unwrap_or(usize::MAX) {
            proxy.held.insert(id, (service.to_owned(), now));
            self.later(Duration::from_millis(hold.timeout_ms), Happening::HoldEnds(generation, id));
        }
    }

    /// Where a request goes: first the release by its weight, then one of its endpoints that accepts.
    fn choose(&mut self, service: &str, traffic: &ServiceTraffic) -> Option<Request> {
        let mut releases: Vec<_> = traffic.releases.iter().filter(|release| release.weight > 0).collect();
        if releases.len() > 1 {
            let turn = self.choices.below(10_000);
            if turn >= usize::from(releases[0].weight) {
                releases.rotate_left(1);
            }
        }
        for release in releases {
            let serving =
                release.endpoints.iter().filter(|endpoint| endpoint.state == EndpointState::Serving);
            let mut serving: Vec<(&str, u16)> =
                serving.filter_map(|e| Some((e.instance.as_str(), e.address.port()?))).collect();
            if serving.len() > 1 {
                let turn = self.choices.below(serving.len());
                serving.rotate_left(turn);
            }
            let now = self.now;
            let reached = serving.iter().find_map(|(instance, port)| {
                let process = self.holder.on_port(*port).filter(|process| process.listens(now))?;
                Some((*instance, *port, process.pid))
            });
            if let Some((instance, port, pid)) = reached {
                return Some(Request {
                    service: service.to_owned(),
                    release: release.release.clone(),
                    instance: instance.to_owned(),
                    port,
                    pid,
                    started: now,
                });
            }
        }
        None
    }

    fn begin_request(&mut self, generation: u64, request: Request) {
        self.next_request += 1;
        let id = self.next_request;
        let long = !self.calm && self.choices.below(20) == 0;
        let duration = if long { self.millis_between(100, 2_500) } else { self.millis_between(1, 30) };
        self.checks.served(&request.service);
        if let Some(proxy) = self.proxies.get_mut(&generation) {
            proxy.requests.insert(id, request);
        }
        self.later(duration, Happening::RequestEnds(generation, id));
    }

    pub(super) fn request_ends(&mut self, generation: u64, id: u64) {
        let Some(proxy) = self.proxies.get_mut(&generation) else { return };
        let Some(request) = proxy.requests.remove(&id) else { return };
        counters_of(proxy, &request).requests += 1;
        let done = proxy.draining && proxy.requests.is_empty();
        self.tell_quiet(generation);
        if done {
            self.later(Duration::from_millis(1), Happening::ProxyGivesUp(generation));
        }
    }

    /// A process is gone: what was in flight on it is lost, and whose fault that is depends on why it ended.
    pub(super) fn lose_requests(&mut self, process: &Process) {
        let mut lost: Vec<(u64, Instant)> = Vec::new();
        for (generation, proxy) in &mut self.proxies {
            let on_it = |request: &Request| request.pid == process.pid && request.port == process.port;
            lost.extend(proxy.requests.values().filter(|r| on_it(r)).map(|r| (*generation, r.started)));
            proxy.requests.retain(|_, request| !on_it(request));
        }
        if !lost.is_empty() {
            self.check_lost(process, &lost);
        }
        for generation in self.proxies.keys().copied().collect::<Vec<_>>() {
            self.tell_quiet(generation);
        }
    }

    /// Whether some living proxy lets requests go to that instance.
    pub(crate) fn is_routed(&self, instance: &InstanceId) -> bool {
        let text = instance.to_string();
        self.proxies.values().filter_map(|proxy| proxy.table.as_ref()).any(|table| {
            let releases = table.services.values().flat_map(|service| &service.releases);
            let endpoints = releases.flat_map(|release| &release.endpoints);
            endpoints.into_iter().any(|e| e.instance == text && e.state == EndpointState::Serving)
        })
    }

    /// Whether some living proxy has a request in flight on it.
    pub(crate) fn is_busy(&self, instance: &InstanceId) -> bool {
        let text = instance.to_string();
        self.proxies
            .values()
            .flat_map(|proxy| proxy.requests.values())
            .any(|request| request.instance == text)
    }
}

fn counters_of<'a>(proxy: &'a mut Proxy, request: &Request) -> &'a mut ReleaseCounters {
    let key = (request.service.clone(), request.release.clone());
    let fresh = ReleaseCounters {
        service: request.service.clone(),
        release: request.release.clone(),
        ..ReleaseCounters::default()
    };
    proxy.counters.entry(key).or_insert(fresh)
}
