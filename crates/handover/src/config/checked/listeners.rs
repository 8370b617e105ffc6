//! Listeners and routes: addresses that clash, routes that lead nowhere or twice to the same place.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use model::manifest::{HostPattern, Listener, Route, RouteShare};

use super::super::defaults as default;
use super::super::error::Problem;
use super::super::nearest::nearest;
use super::super::raw;
use super::super::read::{Given, Named, Spot};
use super::{Checks, entries};

/// Most connections that may wait to be accepted.
const BACKLOG_MAX: u32 = 65_535;
/// Smallest and largest head: below, browsers' cookies do not fit; above, a head is an attack.
const HEAD_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=1 << 20;
/// Fewest and most header fields.
const HEADERS: std::ops::RangeInclusive<u32> = 8..=1000;
/// Largest limit for bodies: 1 PiB, so that sums stay far from overflow.
const BODY_BYTES_MAX: u64 = 1 << 50;
/// Shorter waits would cut off honest clients.
const TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Weights beyond these say no more.
pub(super) const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=10_000;
/// Longest host name in DNS.
const HOST_BYTES_MAX: usize = 253;

impl Checks<'_> {
    pub(super) fn listener(
        &mut self,
        manifest: &raw::Manifest,
        name: &str,
        spot: &Spot<raw::Listener>,
    ) -> Option<Listener> {
        let raw = &spot.value;
        let key = &*format!("listener.{name}");
        let at = |name: &str| format!("{key}.{name}");
        if raw.bind.is_absent() {
            self.missing(key, "bind", &spot.span, "bind = \"127.0.0.1:8080\"");
        }
        let head = self.size(&at("head_bytes_max"), &raw.head_bytes_max, default::HEAD_BYTES_MAX, HEAD_BYTES);
        let headers = self.number(&at("headers_max"), &raw.headers_max, default::HEADERS_MAX, HEADERS);
        let mut wait =
            |name: &str, given: &Given<_>, default| self.duration(&at(name), given, default, TIMEOUT_MIN);
        let header_timeout = wait("header_timeout", &raw.header_timeout, default::HEADER_TIMEOUT);
        let idle_timeout = wait("idle_timeout", &raw.idle_timeout, default::IDLE_TIMEOUT);
        let body_timeout = wait("body_timeout", &raw.body_timeout, default::BODY_TIMEOUT);
        Some(Listener {
            backlog: self.number(&at("backlog"), &raw.backlog, default::BACKLOG, 1..=BACKLOG_MAX),
            header_timeout,
            idle_timeout,
            body_timeout,
            head_bytes_max: usize::try_from(head).expect("invariant: at most 1 MiB"),
            headers_max: usize::try_from(headers).expect("invariant: at most 1000"),
            body_bytes_max: self.size(
                &at("body_bytes_max"),
                &raw.body_bytes_max,
                default::BODY_BYTES_MAX,
                0..=BODY_BYTES_MAX,
            ),
            tls: self.tls(&at("tls"), &raw.tls),
            trusted_proxies: self.trusted_proxies(&at("trusted_proxies"), &raw.trusted_proxies),
            https_redirect: self.https_redirect(manifest, name, raw),
            bind: raw.bind.get()?.0,
        })
    }

    /// Two listeners, or a listener and the admin API, on one address.
    pub(super) fn clashes(&mut self, raw: &raw::Manifest) {
        let mut taken: Vec<(String, SocketAddr, Range<usize>)> = Vec::new();
        let admin = raw.admin.get().and_then(|admin| admin.bind.spot());
        if let Some(bind) = admin {
            taken.push(("admin".to_owned(), bind.value.0, bind.span.clone()));
        }
        for (name, listener) in entries(&raw.listener) {
            let Some(bind) = listener.value.bind.spot() else { continue };
            let address = bind.value.0;
            if let Some((other, _, span)) = taken.iter().find(|(_, other, _)| do_clash(address, *other)) {
                let message =
                    format!("`{}` and `{other}` cannot both listen on port {}", name.value, address.port());
                let key = format!("listener.{}.bind", name.value);
                let problem = Problem::error(&key, bind.span.clone(), message).label("this address");
                self.problems.push(problem.and(span.clone(), "and this one").help("give one another port"));
            }
            taken.push((name.value.clone(), address, bind.span.clone()));
        }
    }

    pub(super) fn route(&mut self, raw: &raw::Manifest, spot: &Spot<raw::Route>) -> Option<Route> {
        let route = &spot.value;
        let listener = self.reference("listener", &route.listener, &raw.listener, &spot.span);
        let to = self.route_to(raw, spot);
        let host = match &route.host {
            Given::Absent => Some(HostPattern::Any),
            Given::Wrong => None,
            Given::Is(host) => self.host(host),
        };
        let path = match &route.path {
            Given::Absent => Some(default::ROUTE_PATH.to_owned()),
            Given::Wrong => None,
            Given::Is(path) => self.path("route.path", path).map(|path| without_end_slash(&path)),
        };
        Some(Route { listener: listener?.parse().ok()?, host: host?, path: path?, to: to? })
    }

    /// The service that gets a route's requests, or those that share them.
    fn route_to(&mut self, raw: &raw::Manifest, spot: &Spot<raw::Route>) -> Option<Vec<RouteShare>> {
        let route = &spot.value;
        if route.split.is_absent() {
            let service = self.reference("service", &route.service, &raw.service, &spot.span);
            self.route_to_worker(raw, &route.service);
            return Some(vec![RouteShare { service: service?.parse().ok()?, weight: default::WEIGHT }]);
        }
        if let (Some(split), Some(service)) = (route.split.spot(), route.service.spot()) {
            let message = "`service` and `split` cannot both say where a route leads";
            let problem = Problem::error("route.service", service.span.clone(), message);
            self.push(
                problem.and(split.span.clone(), "").help("keep one: `split` names its services itself"),
            );
        }
        let split = route.split.spot()?;
        if split.value.is_empty() {
            let problem = Problem::error("route.split", split.span.clone(), "`split` names no service");
            self.push(problem.help("write split = [{ service = \"NAME\", weight = 80 }, …]"));
            return None;
        }
        let mut to: Vec<RouteShare> = Vec::new();
        let mut is_whole = true;
        for entry in &split.value {
            let name = self.reference("service", &entry.value.service, &raw.service, &entry.span);
            self.route_to_worker(raw, &entry.value.service);
            let weight = self.number("route.split.weight", &entry.value.weight, default::WEIGHT, WEIGHTS);
            let Some(service) = name.and_then(|name| name.parse().ok()) else {
                is_whole = false;
                continue;
            };
            if to.iter().any(|share| share.service == service) {
                let message = format!("`{service}` is there twice");
                let problem = Problem::error("route.split", entry.span.clone(), message);
                self.push(problem.help("keep one of them, with both weights"));
            }
            to.push(RouteShare { service, weight });
        }
        is_whole.then_some(to)
    }

    /// A worker has no port that a request could be passed to.
    fn route_to_worker(&mut self, raw: &raw::Manifest, service: &Given<String>) {
        let Some(spot) = service.spot() else { return };
        let Some((_, table)) = entries(&raw.service).iter().find(|(name, _)| name.value == spot.value) else {
            return;
        };
        let Some(mode) = table.value.mode.spot().filter(|mode| mode.value == raw::Mode::Worker) else {
            return;
        };
        let message = format!("`{}` is a worker: it gets no requests", spot.value);
        let problem = Problem::error("route.service", spot.span.clone(), message).label("this route");
        let help = "take the route out, or the worker's `mode`: it is then reached on ${PORT}";
        self.push(problem.and(mode.span.clone(), "a worker by this").help(help));
    }

    /// The name in a route, if a table of that name is there.
    fn reference<'g, T>(
        &mut self,
        kind: &str,
        given: &'g Given<String>,
        tables: &Given<Named<T>>,
        route: &Range<usize>,
    ) -> Option<&'g str> {
        let full = format!("route.{kind}");
        let Some(spot) = given.spot() else {
            if given.is_absent() {
                self.missing(
                    "route",
                    kind,
                    route,
                    &format!("{kind} = \"NAME\", the name of a [{kind}.NAME]"),
                );
            }
            return None;
        };
        let names: Vec<&str> = entries(tables).iter().map(|(name, _)| name.value.as_str()).collect();
        if names.contains(&spot.value.as_str()) {
            return Some(&spot.value);
        }
        // A table that is itself wrong hides its names: what was noted there comes first.
        if !matches!(tables, Given::Wrong) {
            let mut problem =
                Problem::error(&full, spot.span.clone(), format!("there is no {kind} `{}`", spot.value));
            problem = match nearest(&spot.value, names.iter().copied()) {
                Some(near) => problem.label(format!("did you mean `{near}`?")),
                None => problem.label("no such name"),
            };
            problem = if names.is_empty() {
                problem.help(format!("add [{kind}.{}]", spot.value))
            } else {
                problem.help(format!("there is: {}", names.join(", ")))
            };
            self.push(problem);
        }
        None
    }

    fn host(&mut self, spot: &Spot<String>) -> Option<HostPattern> {
        let text = spot.value.to_ascii_lowercase();
        let (suffix, name) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text.as_str()),
        };
        if let Some(why) = host_error(name) {
            let message = format!("`host` cannot be \"{}\": {why}", spot.value);
            let problem = Problem::error("route.host", spot.span.clone(), message);
            self.push(
                problem
                    .help("write a name such as \"shop.example.com\", or \"*.example.com\" for all below it"),
            );
            return None;
        }
        Some(if suffix { HostPattern::Suffix(format!(".{name}")) } else { HostPattern::Exact(text) })
    }

    /// A path that a request may have.
    pub(super) fn path(&mut self, key: &str, spot: &Spot<String>) -> Option<String> {
        let text = &spot.value;
        let why = if !text.starts_with('/') {
            "it must begin with /"
        } else if text.contains(['?', '#']) {
            "it is compared without query and fragment"
        } else if !text.bytes().all(|b| b.is_ascii_graphic()) {
            "characters beyond visible ASCII are sent percent-encoded: write them so"
        } else if text.split('/').any(|segment| matches!(segment, "." | "..")) {
            "`.` and `..` are resolved before it is compared"
        } else {
            return Some(text.clone());
        };
        let name = super::last(key);
        self.push(Problem::error(key, spot.span.clone(), format!("`{name}` cannot be \"{text}\": {why}")));
        None
    }

    /// Two routes for the same requests.
    pub(super) fn duplicate_routes(&mut self, raw: &[Spot<raw::Route>], routes: &[Option<Route>]) {
        let mut seen: BTreeMap<(String, String, String), Range<usize>> = BTreeMap::new();
        for (spot, route) in raw.iter().zip(routes) {
            let Some(route) = route else { continue };
            let key = (route.listener.to_string(), format!("{:?}", route.host), route.path.clone());
            if let Some(first) = seen.get(&key) {
                let message = "two routes are for the same listener, host and path";
                let problem = Problem::error("route", spot.span.clone(), message)
                    .label("this one would never be taken");
                self.problems.push(
                    problem.and(first.clone(), "the first").help("remove one, or change its path or host"),
                );
            } else {
                seen.insert(key, spot.span.clone());
            }
        }
    }

    /// Warns of what no request can reach.
    pub(super) fn unused(&mut self, raw: &raw::Manifest, routes: &[Route]) {
        // A wrong route hides where it leads.
        let all_known =
            raw.route.get().map_or(0, Vec::len) == routes.len() && !matches!(raw.route, Given::Wrong);
        if !all_known {
            return;
        }
        let is_worker = |service: &raw::Service| service.mode.get() == Some(&raw::Mode::Worker);
        for (name, service) in entries(&raw.service) {
            let leads = |route: &Route| route.to.iter().any(|share| share.service.as_str() == name.value);
            if !is_worker(&service.value) && !routes.iter().any(leads) {
                let message = format!("no route leads to `{}`: it runs, and gets no request", name.value);
                let key = format!("service.{}", name.value);
                let help = format!("add [[route]] with service = \"{}\"", name.value);
                self.problems.push(Problem::warning(&key, name.span.clone(), message).help(help));
            }
        }
        for (name, listener) in entries(&raw.listener) {
            let redirects = listener.value.https_redirect.spot().is_some();
            if !redirects && !routes.iter().any(|route| route.listener.as_str() == name.value) {
                let message = format!("no route is for `{}`: it answers 404 to everything", name.value);
                let key = format!("listener.{}", name.value);
                let help = format!("add [[route]] with listener = \"{}\"", name.value);
                self.problems.push(Problem::warning(&key, name.span.clone(), message).help(help));
            }
        }
    }
}

/// Nobody can listen on both. Port 0 is a different port each time.
fn do_clash(a: SocketAddr, b: SocketAddr) -> bool {
    if a.port() != b.port() || a.port() == 0 {
        return false;
    }
    let covers = |wide: IpAddr, other: IpAddr| wide.is_unspecified() && wide.is_ipv4() == other.is_ipv4();
    a.ip() == b.ip() || covers(a.ip(), b.ip()) || covers(b.ip(), a.ip())
}

pub(super) fn host_error(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > HOST_BYTES_MAX {
        return Some("a host name has 1 to 253 characters");
    }
    if name.contains('*') {
        return Some("`*` may only stand for the first label, as in *.example.com");
    }
    if name.contains("://") || name.contains('/') {
        return Some("it is a host name, without scheme or path");
    }
    if name.starts_with('[') && name.ends_with(']') {
        let inner = &name[1..name.len() - 1];
        return inner.parse::<std::net::Ipv6Addr>().is_err().then_some("that is no IPv6 address");
    }
    if name.contains(':') {
        return Some("it is compared without the port");
    }
    let is_fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    (!name.bytes().all(is_fine) || name.starts_with('.') || name.contains(".."))
        .then_some("that is no host name")
}

fn without_end_slash(path: &str) -> String {
    let short = path.trim_end_matches('/');
    if short.is_empty() { "/".to_owned() } else { short.to_owned() }
}
