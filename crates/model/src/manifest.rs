//! The manifest in its checked form: every default filled in, every path absolute, nothing left to refuse.
//!
//! Only `handover::config` makes one from text. This form holds what is served today; what the file may
//! say beyond that is refused there by name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::id::{ListenerName, ServiceName};

mod service;
mod traffic;

pub use service::{
    Account, Dependency, DependsUntil, Hook, Hooks, Limits, Liveness, LivenessCheck, Mode, Output, Readiness,
    ReadinessCheck, Reload, ReloadBy, Restart, RestartPolicy, Service, Stop, StopSignal,
};
pub use traffic::{
    AccessLog, AccessLogFormat, Algorithm, Balance, Certificate, Fronted, HashKey, Maintenance, Network,
    NetworkError, Outlier, Place, PlaceAddress, Probe, Retry, RouteShare, Sticky, Traffic, Upstream,
};

/// A whole checked manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Where everything that must survive lives; absolute.
    pub state_dir: PathBuf,
    /// The admin API on TCP.
    pub admin: Admin,
    /// The data plane.
    pub proxy: ProxySettings,
    /// Handover's own log.
    pub log: OwnLog,
    /// Where `${PORT}` comes from.
    pub instances: InstanceSettings,
    /// Bound addresses by name.
    pub listeners: BTreeMap<ListenerName, Listener>,
    /// In the order of the file; the most specific wins whatever the order.
    pub routes: Vec<Route>,
    /// Services by name.
    pub services: BTreeMap<ServiceName, Service>,
    /// Services of which only the endpoints are known, by name; none has a name of those above.
    pub fronted: BTreeMap<ServiceName, Fronted>,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Address of the admin API, the dashboard and `/metrics`.
    pub bind: SocketAddr,
    /// The address was not in the file: a taken port is then replaced by port 0, and said.
    pub bind_is_default: bool,
}

/// `[proxy]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxySettings {
    /// Worker threads, at least 1.
    pub threads: u32,
    /// How `logs/access.log` is written; `None`: not at all.
    pub access_log: Option<AccessLog>,
}

/// `[log]`: what Handover says of itself, in `logs/handover.log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnLog {
    /// How a line looks.
    pub format: LogFormat,
    /// The least that is written.
    pub level: LogLevel,
}

/// How a line of Handover's own log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How much Handover says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what may become trouble.
    Warn,
    /// And every decision.
    #[default]
    Info,
    /// And what led to it.
    Debug,
}

/// `[instances]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSettings {
    /// First and last port `${PORT}` may get.
    pub ports: (u16, u16),
}

/// `[listener.NAME]`, protocol http.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address it is bound to.
    pub bind: SocketAddr,
    /// Length of the accept queue, as asked (the kernel caps it at `somaxconn`).
    pub backlog: u32,
    /// From the first byte of a request head to its last.
    pub header_timeout: Duration,
    /// How long a client may leave a connection idle and still reuse it; it is closed a margin later.
    pub idle_timeout: Duration,
    /// Longest wait for the next bytes of a request's body, or for the client to take the next bytes of a response.
    pub body_timeout: Duration,
    /// Largest request head, request line included.
    pub head_bytes_max: usize,
    /// Most header fields in a request.
    pub headers_max: usize,
    /// Largest request body; larger is answered 413.
    pub body_bytes_max: u64,
    /// TLS is spoken on it, with the first of these for names that none of them has; empty: it is not.
    pub tls: Vec<Certificate>,
    /// Whose forwarding headers are believed.
    pub trusted_proxies: Vec<Network>,
    /// Every request is sent to that listener, which has TLS.
    pub https_redirect: Option<ListenerName>,
}

/// `[[route]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Listener it applies to.
    pub listener: ListenerName,
    /// Which hosts.
    pub host: HostPattern,
    /// Path prefix, on segment boundaries; `/` matches all. The longest prefix wins.
    pub path: String,
    /// Where its requests go, by weight; never empty.
    pub to: Vec<RouteShare>,
}

/// Which `Host` a route matches. Exact beats wildcard beats any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPattern {
    /// No host in the route.
    Any,
    /// That host, in lower case, without port.
    Exact(String),
    /// `*.example.com`: any host that ends with `.example.com`; the text starts with the dot.
    Suffix(String),
}

/// `[service.NAME.rollout]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// How.
    pub strategy: Strategy,
    /// How long the old release stays running for an instant way back.
    pub keep_warm: Duration,
    /// Rolling: how many instances more than `instances` may run at once.
    pub max_surge: u32,
    /// Rolling: how many fewer than `instances` may be ready. Never 0 together with `max_surge`.
    pub max_unavailable: u32,
    /// What keeps a visitor on the release it got first; `None`: nothing.
    pub sticky: Option<Sticky>,
}

/// How a new release takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// All new instances ready, then all traffic at once.
    BlueGreen,
    /// Instance by instance, within `max_surge` and `max_unavailable`; both releases serve meanwhile.
    Rolling,
    /// The old release stops before the new one starts; requests are held meanwhile. For programs that cannot
    /// run twice: a fixed port, or exclusive by declaration.
    Recreate,
}
