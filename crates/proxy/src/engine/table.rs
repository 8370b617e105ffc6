//! A route table as one thread uses it: names resolved, endpoints shared with the table before it.
//!
//! It is made at a swap and not changed afterwards, but for whose turn it is. Claims outlive it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use model::balance::WeightedTurns;
use model::routing::{Router, host_pattern};
use model::series::SeriesName;
use wire::routes::{Address, EndpointState, ListenerSettings, RouteTable, ServiceTraffic};

use crate::engine::access_log::field;
use crate::engine::endpoint::Endpoint;
use crate::engine::hold::{HeldCounts, HoldTerms};
use crate::engine::labels::{GROUPS_MAX, Groups, instance_name, route_name};
use crate::engine::series::Series;
use crate::engine::stats::ReleaseStats;
use crate::h1::request::RequestLimits;

/// A client that reuses its connection just within the idle timeout must find it open: it is closed a tenth
/// later, and at least this much.
const IDLE_MARGIN_MIN: Duration = Duration::from_secs(2);

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
    /// Limits of a request.
    pub(crate) limits: RequestLimits,
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
    /// For a connection to an endpoint.
    pub(crate) connect_timeout: Duration,
    /// For an answer, and between two pieces of it.
    pub(crate) response_timeout: Duration,
    /// Longest idle time of a connection that is used again.
    pub(crate) idle_reuse: Duration,
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

/// A release that gets requests now.
#[derive(Debug)]
pub(crate) struct Release {
    /// Its serving endpoints, at least one.
    pub(crate) endpoints: Vec<Rc<Endpoint>>,
    name: String,
    weight: u16,
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
        held: &HeldCounts,
    ) -> Self {
        let mut endpoints = Vec::new();
        let mut draining = Vec::new();
        let mut idle_reuse = Vec::new();
        let mut services = BTreeMap::new();
        let mut groups_room = GROUPS_MAX;
        for (name, service) in &table.services {
            let mut known = |instance: &str, address: &Address, release: &str| {
                let same = |one: &&Rc<Endpoint>| one.instance == instance && one.address == *address;
                let endpoint = before.iter().find(same).cloned().unwrap_or_else(|| {
                    let series = stats.series_of(instance_name(name, release, instance));
                    Rc::new(Endpoint::new(instance, address.clone(), stats.stats_of(name, release), series))
                });
                endpoints.push(endpoint.clone());
                endpoint
            };
            let releases = releases(service, &mut known, &mut draining);
            idle_reuse.resize(endpoints.len(), Duration::from_millis(service.idle_reuse_ms));
            let groups = Groups::new(name, &service.paths, &mut groups_room, |name| stats.series_of(name));
            let new = Service::new(name, service, (releases, groups), stats, held);
            if let Some(former) = former.service(name) {
                new.go_on_from(former);
            }
            services.insert(name.clone(), Rc::new(new));
        }
        let listeners = table.listeners.iter().map(|(name, settings)| {
            let routes = table.routes.iter().filter(|route| route.listener == *name).filter_map(|route| {
                let service = services.get(&route.service)?.clone();
                let way = Way { service, series: stats.series_of(route_name(route)) };
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

    /// Closes pooled connections that are too old.
    pub(crate) fn sweep_pools(&self, now: model::time::Instant) {
        for (endpoint, idle_reuse) in self.endpoints.iter().zip(&self.idle_reuse) {
            endpoint.sweep_pool(now, *idle_reuse);
        }
    }
}

/// The releases of a service that get requests, after every endpoint was told its state.
fn releases(
    service: &ServiceTraffic,
    known: &mut impl FnMut(&str, &Address, &str) -> Rc<Endpoint>,
    draining: &mut Vec<String>,
) -> Vec<Release> {
    let mut releases = Vec::new();
    for release in &service.releases {
        let mut serving = Vec::new();
        for listed in &release.endpoints {
            let endpoint = known(&listed.instance, &listed.address, &release.release);
            endpoint.set_serving(listed.state == EndpointState::Serving);
            match listed.state {
                EndpointState::Serving => serving.push(endpoint),
                EndpointState::Draining => draining.push(listed.instance.clone()),
                EndpointState::Candidate => {}
            }
        }
        if release.weight > 0 && !serving.is_empty() {
            releases.push(Release {
                endpoints: serving,
                name: release.release.clone(),
                weight: release.weight,
            });
        }
    }
    releases
}

impl Service {
    fn new(
        name: &str,
        service: &ServiceTraffic,
        (releases, groups): (Vec<Release>, Groups),
        stats: &impl StatsOf,
        held: &HeldCounts,
    ) -> Self {
        Self {
            name: name.to_owned(),
            turns: RefCell::new(WeightedTurns::new(releases.iter().map(|release| release.weight))),
            releases,
            connect_timeout: Duration::from_millis(service.connect_timeout_ms),
            response_timeout: Duration::from_millis(service.response_timeout_ms),
            idle_reuse: Duration::from_millis(service.idle_reuse_ms),
            unplaced: stats.stats_of(name, ""),
            unplaced_series: stats.series_of(instance_name(name, "", "")),
            groups,
            log_fields: field("service", name),
            hold: service.hold.map(|hold| HoldTerms::new(hold, name, held)),
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
    }

    /// How requests wait, while no endpoint serves and they are to.
    pub(crate) fn hold(&self) -> Option<&HoldTerms> {
        self.hold.as_ref().filter(|_| self.releases.is_empty())
    }
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
            limits: RequestLimits { fields: size(settings.headers_max), body_bytes: settings.body_bytes_max },
            router,
        }
    }
}
