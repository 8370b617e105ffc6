//! A route table as one thread uses it: names resolved, endpoints shared with the table before it.
//!
//! It is made at a swap and not changed afterwards, but for whose turn it is. Claims outlive it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use model::balance::WeightedTurns;
use model::networks::{Network, Networks};
use model::routing::{Router, host_pattern};
use model::series::SeriesName;
use model::time::Instant;
use wire::routes::{
    Endpoint as Listed, EndpointState, ListenerSettings, Maintenance, Route, RouteTable, ServiceTraffic,
};

use crate::engine::access_log::field;
use crate::engine::balance::Balance;
use crate::engine::endpoint::Endpoint;
use crate::engine::hold::{HeldCounts, HoldTerms};
use crate::engine::labels::{GROUPS_MAX, Groups, instance_name, route_name};
use crate::engine::queue::Gates;
use crate::engine::release::Release;
use crate::engine::series::Series;
use crate::engine::split::SplitTurns;
use crate::engine::stats::ReleaseStats;
use crate::h1::request::RequestLimits;

/// A client that reuses its connection just within the idle timeout must find it open: it is closed a tenth
/// later, and at least this much.
const IDLE_MARGIN_MIN: Duration = Duration::from_secs(2);
/// A tunnel in which nothing moved for this long is closed, where the table says nothing: longer than the pauses
/// between the pings of the usual clients, shorter than most firewalls remember a connection.
const TUNNEL_IDLE_TIMEOUT: Duration = Duration::from_secs(600);

/// A table in use.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its generation.
    pub(crate) generation: u64,
    /// Every endpoint in it, whatever its state.
    pub(crate) endpoints: Vec<Rc<Endpoint>>,
    /// Instances whose end of traffic is to be told.
    pub(crate) draining: Vec<String>,
    /// How long the connections of each may idle, also of those that get no requests now.
    idle_reuse: Vec<Duration>,
    services: BTreeMap<String, Rc<Service>>,
    splits: Vec<(Route, Rc<SplitTurns>)>,
    listeners: BTreeMap<String, Rc<Rules>>,
    unnamed: Rc<Rules>,
}

/// What holds on a listener.
#[derive(Debug)]
pub(crate) struct Rules {
    /// From a head's first byte to its last.
    pub(crate) header_timeout: Duration,
    /// After which an idle connection is closed: its idle timeout and a margin.
    pub(crate) idle_close: Duration,
    /// Between two pieces of a body, either way.
    pub(crate) body_timeout: Duration,
    /// Largest head.
    pub(crate) head_bytes_max: usize,
    /// TLS is spoken on it.
    pub(crate) is_secure: bool,
    /// Limits of a request.
    pub(crate) limits: RequestLimits,
    /// Peers whose forwarding fields are believed.
    pub(crate) trusted: Rc<Networks>,
    /// Every request is sent to https on this port.
    pub(crate) redirect_https_port: Option<u16>,
    /// Where requests go.
    pub(crate) router: Router<Way>,
}

/// Where a route leads.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// Who answers.
    pub(crate) service: Rc<Service>,
    /// Counters of the route.
    pub(crate) series: Rc<Series>,
    split: Option<Rc<SplitTurns>>,
}

impl Way {
    /// A way to one service.
    pub(crate) fn new(service: Rc<Service>, series: Rc<Series>) -> Self {
        Self { service, series, split: None }
    }

    /// The way of the next request: another one where several services share the route.
    #[inline]
    pub(crate) fn take(&self) -> &Self {
        self.split.as_ref().and_then(|split| split.take()).unwrap_or(self)
    }
}

/// A service in use.
#[derive(Debug)]
pub(crate) struct Service {
    /// In the manifest.
    pub(crate) name: String,
    /// Releases that get requests now.
    pub(crate) releases: Vec<Release>,
    /// Whose turn it is.
    pub(crate) turns: RefCell<WeightedTurns>,
    /// How they are given to endpoints.
    pub(crate) balance: Balance,
    /// For a connection to an endpoint.
    pub(crate) connect_timeout: Duration,
    /// For an answer, and between two pieces of it.
    pub(crate) response_timeout: Duration,
    /// Longest idle time of a connection that is used again.
    pub(crate) idle_reuse: Duration,
    /// For a whole request, where there is such a limit.
    pub(crate) request_timeout: Option<Duration>,
    /// Longest time in which nothing moves in a tunnel.
    pub(crate) tunnel_idle_timeout: Duration,
    /// What is answered in its place.
    pub(crate) maintenance: Option<Maintenance>,
    /// Requests that found no endpoint.
    pub(crate) unplaced: Rc<ReleaseStats>,
    /// The same, as a series.
    pub(crate) unplaced_series: Rc<Series>,
    /// The service as the access log shows it, for those.
    pub(crate) log_fields: String,
    /// Its endpoint groups.
    pub(crate) groups: Groups,
    hold: Option<HoldTerms>,
}

/// What a table is made in.
#[derive(Debug)]
pub(crate) struct Surroundings<'a> {
    /// When.
    pub(crate) now: Instant,
    /// Of the table.
    pub(crate) generation: u64,
    /// Requests that are held, on all threads.
    pub(crate) held: &'a HeldCounts,
    /// Where requests wait for slots, on all threads.
    pub(crate) gates: &'a Gates,
}

/// Finds the counters of a release, or makes them.
pub(crate) trait StatsOf {
    /// The counters of that release on this thread.
    fn stats_of(&self, service: &str, release: &str) -> Rc<ReleaseStats>;

    /// The series of that name on this thread.
    fn series_of(&self, name: SeriesName) -> Rc<Series>;
}

impl Table {
    /// The table before the first: it routes nothing.
    pub(crate) fn empty() -> Self {
        Self {
            generation: 0,
            endpoints: Vec::new(),
            draining: Vec::new(),
            idle_reuse: Vec::new(),
            services: BTreeMap::new(),
            splits: Vec::new(),
            listeners: BTreeMap::new(),
            unnamed: Rc::new(Rules::new(&ListenerSettings::UNNAMED, Router::default())),
        }
    }

    /// `table` for this thread, after `former`, with the endpoints of `before` where they are the same.
    pub(crate) fn new(
        table: &RouteTable,
        former: &Self,
        before: &[Rc<Endpoint>],
        stats: &impl StatsOf,
        around: &Surroundings<'_>,
    ) -> Self {
        // Whoever serves in the first table did so before this proxy began.
        let since = (former.generation > 0).then_some(around.now);
        let mut endpoints = Vec::new();
        let mut draining = Vec::new();
        let mut idle_reuse = Vec::new();
        let mut services = BTreeMap::new();
        let mut groups_room = GROUPS_MAX;
        for (name, service) in &table.services {
            let mut known = |listed: &Listed, release: &str| {
                let (instance, address) = (&listed.instance, &listed.address);
                let same = |one: &&Rc<Endpoint>| one.instance == *instance && one.address == *address;
                let endpoint = before.iter().find(same).cloned().unwrap_or_else(|| {
                    let series = stats.series_of(instance_name(name, release, instance));
                    Rc::new(Endpoint::new(instance, address.clone(), stats.stats_of(name, release), series))
                });
                endpoint.follow(listed, since);
                endpoints.push(endpoint.clone());
                endpoint
            };
            let releases = releases(service, &mut known, &mut draining);
            idle_reuse.resize(endpoints.len(), Duration::from_millis(service.idle_reuse_ms));
            let groups = Groups::new(name, &service.paths, &mut groups_room, |name| stats.series_of(name));
            let new = Service::new(name, service, (releases, groups), stats, around);
            if let Some(former) = former.service(name) {
                new.go_on_from(former);
            }
            services.insert(name.clone(), Rc::new(new));
        }
        let splits = splits(table, &services, former, stats);
        let listeners = table.listeners.iter().map(|(name, settings)| {
            let routes = table.routes.iter().filter(|route| route.listener == *name).filter_map(|route| {
                let split = splits.iter().find(|(one, _)| one == route).map(|(_, split)| split.clone());
                let service = services.get(&route.service)?.clone();
                let way = Way { split, ..Way::new(service, stats.series_of(route_name(route))) };
                Some((host_pattern(route.host.as_deref()), route.path.clone(), way))
            });
            (name.clone(), Rc::new(Rules::new(settings, Router::new(routes))))
        });
        let listeners = listeners.collect();
        Self {
            generation: table.generation,
            endpoints,
            draining,
            idle_reuse,
            services,
            splits,
            listeners,
            unnamed: Rc::new(Rules::new(&ListenerSettings::UNNAMED, Router::default())),
        }
    }

    /// What holds on the listener `name`.
    pub(crate) fn rules(&self, name: &str) -> Rc<Rules> {
        self.listeners.get(name).unwrap_or(&self.unnamed).clone()
    }

    /// The service of that name.
    pub(crate) fn service(&self, name: &str) -> Option<&Rc<Service>> {
        self.services.get(name)
    }

    /// Looks at ejections, and lets who waits for a slot look again.
    pub(crate) fn sweep_balance(&self, now: Instant, thread: usize) {
        for service in self.services.values() {
            if let Some(outliers) = &service.balance.outliers {
                outliers.sweep(&service.releases, now);
            }
        }
        self.wake_queues(thread);
    }

    /// Who waits for a slot on that thread is to look again.
    pub(crate) fn wake_queues(&self, thread: usize) {
        for waiting in self.services.values().filter_map(|service| service.balance.gate.as_ref()) {
            waiting.gate.wake_thread(thread);
        }
    }

    /// Closes pooled connections that are too old.
    pub(crate) fn sweep_pools(&self, now: Instant) {
        for (endpoint, idle_reuse) in self.endpoints.iter().zip(&self.idle_reuse) {
            endpoint.sweep_pool(now, *idle_reuse);
        }
    }
}

/// The turns of each route that several services share.
fn splits(
    table: &RouteTable,
    services: &BTreeMap<String, Rc<Service>>,
    former: &Table,
    stats: &impl StatsOf,
) -> Vec<(Route, Rc<SplitTurns>)> {
    let shared = table.routes.iter().filter(|route| !route.split.is_empty());
    let turns = shared.map(|route| {
        let series = stats.series_of(route_name(route));
        let turns =
            SplitTurns::new(&route.split, |name| Some(Way::new(services.get(name)?.clone(), series.clone())));
        let is_same = |one: &Route| {
            (&one.listener, &one.host, &one.path) == (&route.listener, &route.host, &route.path)
        };
        if let Some((_, before)) = former.splits.iter().find(|(one, _)| is_same(one)) {
            turns.go_on_from(before);
        }
        (route.clone(), Rc::new(turns))
    });
    turns.collect()
}

/// The releases of a service that get requests, after every endpoint was told its state.
fn releases(
    service: &ServiceTraffic,
    known: &mut impl FnMut(&Listed, &str) -> Rc<Endpoint>,
    draining: &mut Vec<String>,
) -> Vec<Release> {
    let mut releases = Vec::new();
    for release in &service.releases {
        let mut serving = Vec::new();
        for listed in &release.endpoints {
            let endpoint = known(listed, &release.release);
            match listed.state {
                EndpointState::Serving => serving.push((endpoint, listed.weight)),
                EndpointState::Draining => draining.push(listed.instance.clone()),
                EndpointState::Candidate => {}
            }
        }
        if release.weight > 0 && !serving.is_empty() {
            let slow_start = Duration::from_millis(service.balance.slow_start_ms);
            releases.push(Release::new(&release.release, release.weight, serving, slow_start));
        }
    }
    Release::let_largest_panic(&mut releases);
    releases
}

impl Service {
    fn new(
        name: &str,
        service: &ServiceTraffic,
        (releases, groups): (Vec<Release>, Groups),
        stats: &impl StatsOf,
        around: &Surroundings<'_>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            balance: Balance::new(name, service, &releases, around),
            turns: RefCell::new(WeightedTurns::new(releases.iter().map(|release| release.weight))),
            releases,
            connect_timeout: Duration::from_millis(service.connect_timeout_ms),
            response_timeout: Duration::from_millis(service.response_timeout_ms),
            idle_reuse: Duration::from_millis(service.idle_reuse_ms),
            request_timeout: Some(service.request_timeout_ms).filter(|ms| *ms > 0).map(Duration::from_millis),
            tunnel_idle_timeout: match service.tunnel_idle_timeout_ms {
                0 => TUNNEL_IDLE_TIMEOUT,
                ms => Duration::from_millis(ms),
            },
            maintenance: service.maintenance.clone(),
            unplaced: stats.stats_of(name, ""),
            unplaced_series: stats.series_of(instance_name(name, "", "")),
            groups,
            log_fields: field("service", name),
            hold: service.hold.map(|hold| HoldTerms::new(hold, name, around.held)),
        }
    }

    /// Shares that stay as they were go on where they were: tables may come faster than a small share has a turn.
    fn go_on_from(&self, former: &Self) {
        let shares = |one: &Self| -> Vec<(String, u16)> {
            one.releases.iter().map(|release| (release.name.clone(), release.weight)).collect()
        };
        if shares(self) == shares(former) {
            self.turns.replace(former.turns.borrow().clone());
        }
        for release in &self.releases {
            if let Some(before) = former.releases.iter().find(|one| one.name == release.name) {
                release.go_on_from(before);
            }
        }
        self.balance.go_on_from(&former.balance);
    }

    /// How requests wait, while no endpoint serves and they are to.
    pub(crate) fn hold(&self) -> Option<&HoldTerms> {
        self.hold.as_ref().filter(|_| self.releases.is_empty())
    }
}

/// The networks of a listener's trusted proxies; they were checked with the manifest.
fn trusted(settings: &ListenerSettings) -> Networks {
    let networks = settings.trusted_proxies.iter().filter_map(|text| match text.parse::<Network>() {
        Ok(network) => Some(network),
        Err(error) => {
            tracing::error!(network = text, %error, "a trusted proxy is not believed");
            None
        }
    });
    networks.collect()
}

impl Rules {
    fn new(settings: &ListenerSettings, router: Router<Way>) -> Self {
        let idle = Duration::from_millis(settings.idle_timeout_ms);
        let size = |bytes: u32| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            header_timeout: Duration::from_millis(settings.header_timeout_ms),
            idle_close: idle + (idle / 10).max(IDLE_MARGIN_MIN),
            body_timeout: Duration::from_millis(settings.body_timeout_ms),
            head_bytes_max: size(settings.head_bytes_max),
            is_secure: !settings.tls.is_empty(),
            limits: RequestLimits { fields: size(settings.headers_max), body_bytes: settings.body_bytes_max },
            trusted: Rc::new(trusted(settings)),
            redirect_https_port: settings.redirect_https_port,
            router,
        }
    }
}
