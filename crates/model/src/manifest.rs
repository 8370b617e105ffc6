//! The manifest in its checked form: every default filled in, every path absolute, nothing left to refuse.
//!
//! Only `handover::config` makes one from text. This form holds what is served today; what the file may
//! say beyond that is refused there by name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::id::{ListenerName, ServiceName, Version};

/// A whole checked manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Where everything that must survive lives; absolute.
    pub state_dir: PathBuf,
    /// The admin API on TCP.
    pub admin: Admin,
    /// The data plane.
    pub proxy: ProxySettings,
    /// Where `${PORT}` comes from.
    pub instances: InstanceSettings,
    /// Bound addresses by name.
    pub listeners: BTreeMap<ListenerName, Listener>,
    /// In the order of the file; the most specific wins whatever the order.
    pub routes: Vec<Route>,
    /// Services by name.
    pub services: BTreeMap<ServiceName, Service>,
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
    /// Write `logs/access.log`.
    pub access_log: bool,
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
    /// Where its requests go.
    pub service: ServiceName,
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

/// `[service.NAME]`, mode proxied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// First release: an absolute path to a directory.
    pub release: PathBuf,
    /// Version of that first release.
    pub version: Version,
    /// Program and arguments; `${PORT}` and the other variables are still in it.
    pub command: Vec<String>,
    /// How many instances of the stable release, at least 1.
    pub instances: u32,
    /// Declared variables, in the file's order.
    pub environment: Vec<(String, String)>,
    /// Names taken over from the environment `up` was started with.
    pub environment_inherit: Vec<String>,
    /// When an instance may take traffic.
    pub readiness: Readiness,
    /// How an instance is stopped.
    pub stop: Stop,
    /// What happens when one ends by itself.
    pub restart: Restart,
    /// Connections to its instances.
    pub upstream: Upstream,
    /// How a new release takes over.
    pub rollout: Rollout,
}

/// `[service.NAME.readiness]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// By what.
    pub check: ReadinessCheck,
    /// Between two checks of an instance that is already ready, and of one slow to start.
    pub interval: Duration,
    /// For one check.
    pub timeout: Duration,
    /// Successes in a row that make it ready.
    pub rise: u32,
    /// Failures in a row that make it unready.
    pub fall: u32,
    /// From spawn to ready; later is a failure.
    pub startup_timeout: Duration,
}

/// What makes an instance ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadinessCheck {
    /// GET of that path answers 200 to 399.
    Http(String),
    /// Its port accepts a connection.
    Tcp,
    /// It sends READY=1 to `NOTIFY_SOCKET`.
    Notify,
}

/// `[service.NAME.stop]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// Sent to the main process.
    pub signal: StopSignal,
    /// For requests in flight, before the signal.
    pub drain_timeout: Duration,
    /// From the signal to the kill of the whole tree.
    pub grace_period: Duration,
}

/// How a process is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM; on Windows the stop chain.
    Graceful,
    /// SIGINT.
    Interrupt,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    HangUp,
    /// SIGUSR1.
    User1,
    /// SIGUSR2.
    User2,
    /// SIGKILL: no grace.
    Kill,
}

/// `[service.NAME.restart]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// When.
    pub policy: RestartPolicy,
    /// Before the first restart; doubles with each one.
    pub delay: Duration,
    /// The longest it becomes.
    pub max_delay: Duration,
    /// Ready for this long: the delay starts over.
    pub reset_after: Duration,
}

/// Which ends lead to a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Every end.
    Always,
    /// Any end but exit code 0.
    OnFailure,
    /// None.
    Never,
}

/// `[service.NAME.upstream]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// For a connection to an instance.
    pub connect_timeout: Duration,
    /// From the request's last byte to the response's first, and between any two bytes of it.
    pub response_timeout: Duration,
    /// A connection idle for longer is not used again.
    pub idle_reuse: Duration,
}

/// `[service.NAME.rollout]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// How.
    pub strategy: Strategy,
    /// How long the old release stays running for an instant way back.
    pub keep_warm: Duration,
}

/// How a new release takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// All new instances ready, then all traffic at once.
    BlueGreen,
}
