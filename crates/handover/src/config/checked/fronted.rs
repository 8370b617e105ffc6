//! Services whose processes are not ours: where they are, and what nobody can say of them.

use std::net::SocketAddr;
use std::ops::Range;

use model::manifest::{Fronted, Place, PlaceAddress, Probe};

use super::super::defaults as default;
use super::super::error::Problem;
use super::super::raw;
use super::super::read::{Given, Spot};
use super::Checks;
use super::health::{CHECK_MIN, IN_A_ROW_MAX};
use super::listeners::{WEIGHTS, host_error};

/// Most entries of `endpoints`.
const ENDPOINTS_MAX: usize = 256;
/// Longest path of a Unix socket, in bytes.
const SOCKET_BYTES_MAX: usize = 107;

const ADDRESS_HELP: &str =
    "write \"10.0.0.5:9000\", \"[fd00::5]:9000\", \"backend.internal:8080\" or \"unix:/run/app.sock\"";

impl Checks<'_> {
    pub(super) fn fronted(&mut self, key: &str, spot: &Spot<raw::Service>) -> Option<Fronted> {
        let raw = &spot.value;
        let endpoints = raw.endpoints.spot()?;
        self.not_beside(key, raw, &endpoints.span);
        let places = self.places(&format!("{key}.endpoints"), endpoints);
        Some(Fronted {
            probe: self.probe(&format!("{key}.readiness"), &raw.readiness, &endpoints.span),
            traffic: self.traffic(key, raw),
            endpoints: places?,
        })
    }

    /// Everything that needs a process.
    fn not_beside(&mut self, key: &str, raw: &raw::Service, endpoints: &Range<usize>) {
        fn place<T>(name: &'static str, given: &Given<T>) -> (&'static str, Option<Range<usize>>) {
            (name, given.spot().map(|spot| spot.span.clone()))
        }
        let keys = [
            place("release", &raw.release),
            place("version", &raw.version),
            place("command", &raw.command),
            place("instances", &raw.instances),
            place("mode", &raw.mode),
            place("port", &raw.port),
            place("environment", &raw.environment),
            place("environment_inherit", &raw.environment_inherit),
            place("environment_file", &raw.environment_file),
            place("working_directory", &raw.working_directory),
            place("user", &raw.user),
            place("group", &raw.group),
            place("umask", &raw.umask),
            place("limits", &raw.limits),
            place("liveness", &raw.liveness),
            place("stop", &raw.stop),
            place("restart", &raw.restart),
            place("reload", &raw.reload),
            place("hooks", &raw.hooks),
            place("depends_on", &raw.depends_on),
            place("output", &raw.output),
            place("rollout", &raw.rollout),
        ];
        for (name, span) in keys {
            if let Some(span) = span {
                let message =
                    format!("`{name}` has no meaning beside `endpoints`: nothing of it is started here");
                let problem = Problem::error(&format!("{key}.{name}"), span, message);
                self.push(problem.and(endpoints.clone(), "because of this").help("take one of the two out"));
            }
        }
    }

    fn places(&mut self, key: &str, given: &Spot<Vec<Spot<raw::Endpoint>>>) -> Option<Vec<Place>> {
        if given.value.is_empty() || given.value.len() > ENDPOINTS_MAX {
            let message =
                format!("`endpoints` has {} entries: write 1 to {ENDPOINTS_MAX}", given.value.len());
            self.push(Problem::error(key, given.span.clone(), message).help(ADDRESS_HELP));
            return None;
        }
        let mut places: Vec<Place> = Vec::new();
        let mut is_whole = true;
        for entry in &given.value {
            if entry.value.address.is_absent() {
                self.missing(key, "address", &entry.span, "address = \"10.0.0.5:9000\"");
            }
            let weight = self.number(&format!("{key}.weight"), &entry.value.weight, default::WEIGHT, WEIGHTS);
            let Some(address) = entry.value.address.spot().and_then(|spot| self.place(key, spot)) else {
                is_whole = false;
                continue;
            };
            if places.iter().any(|place| place.address == address) {
                let message = format!("{address} is there twice");
                let problem = Problem::error(key, entry.span.clone(), message);
                self.push(problem.help("keep one of them, with both weights"));
            }
            places.push(Place { address, weight });
        }
        is_whole.then_some(places)
    }

    fn place(&mut self, key: &str, spot: &Spot<String>) -> Option<PlaceAddress> {
        let text = &spot.value;
        let mut refuse = |why: &str| {
            let message = format!("\"{text}\" is no endpoint: {why}");
            self.problems.push(Problem::error(key, spot.span.clone(), message).help(ADDRESS_HELP));
            None
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = super::normal(&self.folder.join(path));
            let Some(whole) = path.to_str().filter(|_| text.len() > "unix:".len()) else {
                return refuse("it names no path");
            };
            if whole.len() > SOCKET_BYTES_MAX {
                return refuse("the path of a socket ends at 107 bytes");
            }
            return Some(PlaceAddress::Unix(whole.to_owned()));
        }
        if text.contains("://") {
            return refuse("it is an address and a port, without a scheme");
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return if address.port() == 0 {
                refuse("port 0 is none")
            } else {
                Some(PlaceAddress::Tcp(address))
            };
        }
        let Some((host, port)) = text.rsplit_once(':') else { return refuse("its port is missing") };
        let Some(port) = port.parse::<u16>().ok().filter(|port| *port > 0) else {
            return refuse("a port is 1 to 65535");
        };
        let host = host.to_ascii_lowercase();
        let is_number = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        if is_number || host.contains(':') || host.starts_with('[') {
            return refuse("that is no IP address");
        }
        match host_error(&host) {
            Some(why) => refuse(why),
            None => Some(PlaceAddress::Name(host, port)),
        }
    }

    /// By the proxy, or not at all: nobody else can see such an endpoint.
    fn probe(&mut self, key: &str, given: &Given<raw::Readiness>, endpoints: &Range<usize>) -> Option<Probe> {
        let spot = given.spot()?;
        let raw = &spot.value;
        let at = |name: &str| format!("{key}.{name}");
        let needs_process = [
            ("notify", raw.notify.spot().map(|spot| &spot.span)),
            ("log", raw.log.spot().map(|spot| &spot.span)),
            ("command", raw.command.spot().map(|spot| &spot.span)),
            ("alive_for", raw.alive_for.spot().map(|spot| &spot.span)),
            ("startup_timeout", raw.startup_timeout.spot().map(|spot| &spot.span)),
        ];
        for (name, span) in needs_process {
            if let Some(span) = span {
                let message =
                    format!("`{name}` cannot be seen of `endpoints`: nothing of it is started here");
                let problem = Problem::error(&at(name), span.clone(), message);
                self.push(
                    problem
                        .and(endpoints.clone(), "because of this")
                        .help("use http = \"/healthz\" or tcp = true"),
                );
            }
        }
        let http_path = raw.http.spot().and_then(|path| self.path(&at("http"), path));
        if let (Some(http), Some(tcp)) = (raw.http.spot(), raw.tcp.spot().filter(|tcp| tcp.value)) {
            let message = "`http` and `tcp` cannot both decide readiness";
            let problem = Problem::error(&at("tcp"), tcp.span.clone(), message);
            self.push(problem.and(http.span.clone(), "").help("keep the one that says most: `http`"));
        }
        Some(Probe {
            http_path,
            interval: self.duration(&at("interval"), &raw.interval, default::READINESS_INTERVAL, CHECK_MIN),
            timeout: self.duration(&at("timeout"), &raw.timeout, default::READINESS_TIMEOUT, CHECK_MIN),
            rise: self.number(&at("rise"), &raw.rise, default::READINESS_RISE, 1..=IN_A_ROW_MAX),
            fall: self.number(&at("fall"), &raw.fall, default::READINESS_FALL, 1..=IN_A_ROW_MAX),
        })
    }
}
