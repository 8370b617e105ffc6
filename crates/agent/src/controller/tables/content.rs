//! What a route table says of listeners, routes and services, from the manifest and the state of the services.
//!
//! It deliberately keeps nothing: a table is made anew after every event.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use model::id::{ListenerName, ReleaseId};
use model::instance::Routing;
use model::manifest as checked;
use model::manifest::ReadinessCheck;
use model::time::Instant;
use wire::manifest::millis;
use wire::routes::{
    Endpoint, EndpointState, Hold, ListenerSettings, ProbeSettings, ReleaseTraffic, Route, ServiceTraffic,
};

use super::super::services::{Service, Slot};
use super::super::{Base, Controller};

/// All of a service's requests, in basis points.
pub(in crate::controller) const WEIGHT_ALL: u16 = 10_000;
/// Requests wait for so long while a service that cannot run twice is between two processes, and so many.
const HOLD: Hold = Hold { timeout_ms: 30_000, requests_max: 1_000 };
/// Nobody waits for a start that is further away.
const HELD_BEFORE_START: Duration = Duration::from_secs(10);
/// Where instances listen.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Controller {
    pub(super) fn listener_settings(&self) -> BTreeMap<String, ListenerSettings> {
        let settings = |listener: &checked::Listener| ListenerSettings {
            header_timeout_ms: millis(listener.header_timeout),
            idle_timeout_ms: millis(listener.idle_timeout),
            body_timeout_ms: millis(listener.body_timeout),
            head_bytes_max: u32::try_from(listener.head_bytes_max).unwrap_or(u32::MAX),
            headers_max: u32::try_from(listener.headers_max).unwrap_or(u32::MAX),
            body_bytes_max: listener.body_bytes_max,
            trusted_proxies: listener.trusted_proxies.iter().map(ToString::to_string).collect(),
            tls: listener.tls.iter().map(Into::into).collect(),
            redirect_https_port: listener.https_redirect.as_ref().and_then(|to| self.port_of(to)),
        };
        let listeners = self.base.manifest.listeners.iter();
        listeners.map(|(name, listener)| (name.to_string(), settings(listener))).collect()
    }

    /// The port that a listener of the manifest has, or will have; `None` where that is not known yet.
    fn port_of(&self, name: &ListenerName) -> Option<u16> {
        let bound = self.listeners.get(name.as_str()).and_then(|listener| listener.address.as_deref());
        let bound = bound.and_then(|address| address.parse().ok());
        let written = self.base.manifest.listeners.get(name).map(|listener| listener.bind);
        bound.or(written).map(|address: SocketAddr| address.port()).filter(|port| *port != 0)
    }
}

pub(super) fn routes(base: &Base) -> Vec<Route> {
    let route = |route: &wire::manifest::Route| Route {
        listener: route.listener.clone(),
        host: route.host.clone(),
        path: route.path.clone(),
        service: route.service.clone(),
        split: route.split.clone(),
    };
    base.wire.routes.iter().map(route).collect()
}

pub(super) fn traffic(service: &Service, now: Instant) -> ServiceTraffic {
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
    ServiceTraffic {
        releases: releases.collect(),
        probe: probe(service),
        sticky: service.settings.rollout.sticky.as_ref().map(Into::into),
        hold: holds_requests(service, now).then_some(HOLD),
        ..settings(&service.settings.traffic)
    }
}

/// What the manifest says of a service's requests; endpoints are not in it.
pub(in crate::controller) fn settings(traffic: &checked::Traffic) -> ServiceTraffic {
    let upstream = &traffic.upstream;
    ServiceTraffic {
        releases: Vec::new(),
        probe: None,
        connect_timeout_ms: millis(upstream.connect_timeout),
        response_timeout_ms: millis(upstream.response_timeout),
        idle_reuse_ms: millis(upstream.idle_reuse),
        request_timeout_ms: millis(upstream.request_timeout),
        tunnel_idle_timeout_ms: millis(upstream.tunnel_idle_timeout),
        retry: (&traffic.retry).into(),
        balance: (&traffic.balance).into(),
        outlier: traffic.outlier.as_ref().map(Into::into),
        sticky: None,
        paths: traffic.paths.clone(),
        maintenance: traffic.maintenance.as_ref().map(Into::into),
        hold: None,
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
    if service.operating().is_some_and(super::super::operating::Operation::holds_requests) {
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
pub(in crate::controller) fn hold_due(service: &Service, now: Instant) -> Option<Instant> {
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
