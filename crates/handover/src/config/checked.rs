//! From what is written to what holds: defaults filled in, paths made absolute, names and addresses compared.
//!
//! Everything wrong is noted, with its place; a manifest comes out only if nothing is. Releases are looked at
//! (what it is, is the program in it) but not unpacked; of an environment file only names are read.

mod account;
mod cookies;
mod dependencies;
mod fronted;
mod health;
mod life;
mod listeners;
mod program;
mod replace;
mod service;
mod tls;
mod traffic;

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::id::{IdError, ListenerName, ServiceName};
use model::manifest::{
    AccessLog, AccessLogFormat, Admin, Fronted, InstanceSettings, Listener, LogFormat, LogLevel, Manifest,
    Mode, OwnLog, ProxySettings, Route, Service,
};

use super::defaults as default;
use super::error::{Problem, Severity, count};
use super::raw;
use super::read::{Given, Named, Spot, last};
use super::units::{show_duration, show_ports, show_size};
use super::values::{PathText, Ports, Size, Span};

/// Most worker threads of a proxy.
pub(super) const PROXY_THREADS_MAX: u32 = 256;

/// Names of log files that are not those of services.
const OWN_LOGS: [&str; 2] = ["access", "handover"];

/// What the checks need to know besides the text.
pub(super) struct Surroundings<'a> {
    /// The manifest's folder, absolute: relative paths begin there.
    pub(super) folder: &'a Path,
    /// Where state lives if the file does not say.
    pub(super) state_dir: Option<PathBuf>,
    /// What the machine grants.
    pub(super) machine: Machine,
}

/// What a machine grants to whoever runs Handover on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Machine {
    /// Services may run as other users.
    pub(crate) is_root: bool,
    /// Whether there is such a user, and such a group where one is named.
    pub(crate) account: fn(&str, Option<&str>) -> Result<(), String>,
    /// Whether the memory of one instance can be limited.
    pub(crate) memory: fn() -> Result<(), String>,
    /// The most open files of an instance.
    pub(crate) open_files: u64,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        Self {
            is_root: host::account::is_root(),
            account: account::lookup,
            memory: host::limits::memory_grantable,
            open_files: host::limits::open_files_hard(),
        }
    }
}

/// The checked manifest, if nothing in `problems` is an error.
pub(super) fn check(
    raw: &raw::Manifest,
    surroundings: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) -> Option<Manifest> {
    let mut checks =
        Checks { folder: surroundings.folder, machine: surroundings.machine, problems, page_bytes: 0 };
    let state_dir = state_dir(&raw.state_dir, surroundings, checks.problems);
    let admin = Admin {
        bind: raw
            .admin
            .get()
            .map_or(default::ADMIN_BIND, |admin| admin.bind.get().map_or(default::ADMIN_BIND, |a| a.0)),
        bind_is_default: raw.admin.get().is_none_or(|admin| admin.bind.is_absent()),
    };
    let proxy = checks.proxy(raw.proxy.get());
    let log = own_log(raw.log.get());
    let listeners = checks.listeners(raw);
    let (services, fronted) = checks.services(raw);
    checks.no_listener(raw, &services, &fronted);
    checks.dependencies(raw);
    checks.fixed_ports(raw);
    checks.warn_of_root(raw);
    let instances = checks.instances(raw, &services);
    let routes = checks.routes(raw);
    checks.unused(raw, &routes);
    checks.shared_cookies(raw, &routes);
    checks.clashes(raw);
    if checks.problems.iter().any(|problem| problem.severity == Severity::Error) {
        return None;
    }
    let state_dir = state_dir?;
    Some(Manifest { state_dir, admin, proxy, log, instances, listeners, routes, services, fronted })
}

/// Where state lives, absolute.
pub(super) fn state_dir(
    given: &Given<PathText>,
    surroundings: &Surroundings<'_>,
    problems: &mut Vec<Problem>,
) -> Option<PathBuf> {
    match given {
        Given::Is(spot) => {
            let path = normal(&surroundings.folder.join(&spot.value.0));
            if path.exists() && !path.is_dir() {
                let message = format!("`state_dir` {} is not a directory", path.display());
                problems.push(Problem::error("state_dir", spot.span.clone(), message));
                return None;
            }
            Some(path)
        }
        Given::Wrong => None,
        Given::Absent => {
            if surroundings.state_dir.is_none() {
                let problem = Problem::placeless("state_dir", "there is no usual place for state here");
                problems.push(problem.help("write state_dir = \"/some/where\", or set HOME"));
            }
            surroundings.state_dir.clone()
        }
    }
}

/// The checks, with where they note what they find.
struct Checks<'a> {
    folder: &'a Path,
    machine: Machine,
    problems: &'a mut Vec<Problem>,
    /// Of all maintenance pages so far.
    page_bytes: usize,
}

impl Checks<'_> {
    fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn proxy(&mut self, raw: Option<&raw::Proxy>) -> ProxySettings {
        let absent = raw::Proxy::default();
        let raw = raw.unwrap_or(&absent);
        ProxySettings {
            threads: self.number(
                "proxy.threads",
                &raw.threads,
                default::proxy_threads(),
                1..=PROXY_THREADS_MAX,
            ),
            access_log: access_log(raw.access_log.get()),
        }
    }

    fn instances(
        &mut self,
        raw: &raw::Manifest,
        services: &BTreeMap<ServiceName, Service>,
    ) -> InstanceSettings {
        let given = raw.instances.get().and_then(|instances| instances.ports.spot());
        let ports = given.map_or(default::INSTANCE_PORTS, |spot| {
            let Ports(ports) = spot.value;
            ports
        });
        // While a release takes over, both run.
        let asking = services.values().filter(|s| s.mode == Mode::Proxied && s.port.is_none());
        let needed: u64 = asking.map(|service| 2 * u64::from(service.instances)).sum();
        let there = u64::from(ports.1 - ports.0) + 1;
        if there < needed {
            let message = format!(
                "{} are too few ports: while releases are replaced {} may run",
                show_ports(ports),
                count(usize::try_from(needed).unwrap_or(usize::MAX), "instance")
            );
            let problem = match given {
                Some(spot) => Problem::error("instances.ports", spot.span.clone(), message),
                None => Problem::placeless("instances.ports", message),
            };
            self.push(problem.help("write a wider range of `ports` in [instances], or fewer instances"));
        }
        InstanceSettings { ports }
    }

    /// A whole number in a range.
    fn number(&mut self, key: &str, given: &Given<u64>, default: u32, allowed: RangeInclusive<u32>) -> u32 {
        let Some(spot) = given.spot() else { return default };
        match u32::try_from(spot.value) {
            Ok(value) if allowed.contains(&value) => value,
            _ => {
                let message = format!("`{}` must be {} to {}", last(key), allowed.start(), allowed.end());
                self.push(Problem::error(key, spot.span.clone(), message));
                default
            }
        }
    }

    /// A duration that is not below `least`.
    fn duration(&mut self, key: &str, given: &Given<Span>, default: Duration, least: Duration) -> Duration {
        let Some(spot) = given.spot() else { return default };
        let Span(value) = spot.value;
        if value < least {
            let message = format!("`{}` must be at least \"{}\"", last(key), show_duration(least));
            self.push(Problem::error(key, spot.span.clone(), message));
            return default;
        }
        value
    }

    /// A size in a range.
    fn size(&mut self, key: &str, given: &Given<Size>, default: u64, allowed: RangeInclusive<u64>) -> u64 {
        let Some(spot) = given.spot() else { return default };
        let Size(value) = spot.value;
        if !allowed.contains(&value) {
            let (least, most) = (show_size(*allowed.start()), show_size(*allowed.end()));
            let message = format!("`{}` must be \"{least}\" to \"{most}\"", last(key));
            self.push(Problem::error(key, spot.span.clone(), message));
            return default;
        }
        value
    }

    /// Notes that a key is missing from the table at `span`.
    fn missing(&mut self, table: &str, key: &str, span: &Range<usize>, example: &str) {
        let full = format!("{table}.{key}");
        let problem =
            Problem::error(&full, span.clone(), format!("`{key}` is missing")).label("in this table");
        self.push(problem.help(format!("add {example}")));
    }

    /// A name from a header, or a note that it is none.
    fn name<N: std::str::FromStr<Err = IdError>>(&mut self, kind: &str, name: &Spot<String>) -> Option<N> {
        match name.value.parse() {
            Ok(parsed) => Some(parsed),
            Err(why) => {
                let key = format!("{kind}.{}", name.value);
                self.push(Problem::error(&key, name.span.clone(), why.to_string()));
                None
            }
        }
    }

    fn listeners(&mut self, manifest: &raw::Manifest) -> BTreeMap<ListenerName, Listener> {
        let mut listeners = BTreeMap::new();
        for (name, listener) in entries(&manifest.listener) {
            let checked = self.listener(manifest, &name.value, listener);
            if let (Some(name), Some(checked)) = (self.name("listener", name), checked) {
                listeners.insert(name, checked);
            }
        }
        listeners
    }

    /// Only workers can do without.
    fn no_listener(
        &mut self,
        raw: &raw::Manifest,
        services: &BTreeMap<ServiceName, Service>,
        fronted: &BTreeMap<ServiceName, Fronted>,
    ) {
        let are_workers = services.values().all(|s| s.mode == Mode::Worker);
        let only_workers = !services.is_empty() && are_workers && fronted.is_empty();
        if raw.listener.is_absent() && !only_workers {
            let problem = Problem::placeless("listener", "there is no listener: nothing could be reached");
            self.push(problem.help("add [listener.web] with bind = \"127.0.0.1:8080\""));
        }
    }

    /// Those that are started here, and those of which only the endpoints are known.
    fn services(
        &mut self,
        raw: &raw::Manifest,
    ) -> (BTreeMap<ServiceName, Service>, BTreeMap<ServiceName, Fronted>) {
        let (mut services, mut fronted) = (BTreeMap::new(), BTreeMap::new());
        for (name, raw) in entries(&raw.service) {
            let key = format!("service.{}", name.value);
            let is_ours = raw.value.endpoints.is_absent();
            let checked = if is_ours { self.service(&key, raw) } else { None };
            let front = if is_ours { None } else { self.fronted(&key, raw) };
            if OWN_LOGS.contains(&name.value.as_str()) {
                let message =
                    format!("a service cannot be named `{0}`: logs/{0}.log is Handover's own", name.value);
                let problem = Problem::error(&key, name.span.clone(), message);
                self.push(problem.help("give it another name"));
            }
            let Some(name) = self.name::<ServiceName>("service", name) else { continue };
            if let Some(checked) = checked {
                services.insert(name.clone(), checked);
            }
            if let Some(front) = front {
                fronted.insert(name, front);
            }
        }
        if raw.service.is_absent() {
            let problem = Problem::placeless("service", "there is no service: nothing would run");
            self.push(problem.help("add [service.web] with a `release` and a `command`"));
        }
        (services, fronted)
    }

    fn routes(&mut self, raw: &raw::Manifest) -> Vec<Route> {
        let given = raw.route.get().map(Vec::as_slice).unwrap_or_default();
        let routes: Vec<_> = given.iter().map(|spot| self.route(raw, spot)).collect();
        self.duplicate_routes(given, &routes);
        routes.into_iter().flatten().collect()
    }
}

fn access_log(raw: Option<&raw::AccessLog>) -> Option<AccessLog> {
    let absent = raw::AccessLogTable::default();
    let table = raw.map_or(&absent, |raw| &raw.table);
    let super::values::Percent(sample) = table.sample.or(super::values::Percent(default::ACCESS_LOG_SAMPLE));
    raw.map_or(default::ACCESS_LOG, |raw| raw.on).then(|| AccessLog {
        format: match table.format.or(raw::AccessLogFormat::Json) {
            raw::AccessLogFormat::Json => AccessLogFormat::Json,
            raw::AccessLogFormat::Combined => AccessLogFormat::Combined,
        },
        sample: u16::try_from(sample).expect("invariant: at most 100%"),
        query: table.query.or(default::ACCESS_LOG_QUERY),
    })
}

fn own_log(raw: Option<&raw::Log>) -> OwnLog {
    let Some(raw) = raw else { return OwnLog::default() };
    OwnLog {
        format: match raw.format.or(raw::LogFormat::Text) {
            raw::LogFormat::Text => LogFormat::Text,
            raw::LogFormat::Json => LogFormat::Json,
        },
        level: match raw.level.or(raw::LogLevel::Info) {
            raw::LogLevel::Error => LogLevel::Error,
            raw::LogLevel::Warn => LogLevel::Warn,
            raw::LogLevel::Info => LogLevel::Info,
            raw::LogLevel::Debug => LogLevel::Debug,
        },
    }
}

/// The named tables of a key.
fn entries<T>(given: &Given<Named<T>>) -> &[(Spot<String>, Spot<T>)] {
    given.get().map(|named| named.0.as_slice()).unwrap_or_default()
}

/// The path without `.` and without `..`, by its text alone.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}
