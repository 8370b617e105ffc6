//! The checked manifest as it crosses processes and lives in the record.
//!
//! It mirrors `model::manifest` field by field: a serialisable type is a promise to the next version, so the
//! domain types are free to change and this file says what that costs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use model::manifest as checked;
use serde::{Deserialize, Serialize};

/// Why a stored manifest does not read back.
#[derive(Debug, thiserror::Error)]
#[error("a stored manifest is not valid: {0}")]
pub struct ManifestError(#[from] model::id::IdError);

/// A whole checked manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Absolute.
    pub state_dir: PathBuf,
    /// Admin API on TCP.
    pub admin_bind: SocketAddr,
    /// Not from the file.
    pub admin_bind_is_default: bool,
    /// Worker threads of a proxy.
    pub proxy_threads: u32,
    /// Write the access log.
    #[serde(default)]
    pub access_log: bool,
    /// First and last port for `${PORT}`.
    pub instance_ports: (u16, u16),
    /// By name.
    pub listeners: BTreeMap<String, Listener>,
    /// In file order.
    pub routes: Vec<Route>,
    /// By name.
    pub services: BTreeMap<String, Service>,
}

/// `[listener.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Address.
    pub bind: SocketAddr,
    /// Accept queue.
    pub backlog: u32,
    /// Milliseconds.
    pub header_timeout_ms: u64,
    /// Milliseconds.
    pub idle_timeout_ms: u64,
    /// Milliseconds.
    pub body_timeout_ms: u64,
    /// Bytes.
    pub head_bytes_max: usize,
    /// Fields.
    pub headers_max: usize,
    /// Bytes.
    pub body_bytes_max: u64,
}

/// `[[route]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Listener.
    pub listener: String,
    /// Absent, exact, or `*.suffix`.
    pub host: Option<String>,
    /// Prefix.
    pub path: String,
    /// Service.
    pub service: String,
}

/// `[service.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// First release.
    pub release: PathBuf,
    /// Its version.
    pub version: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Instances.
    pub instances: u32,
    /// In file order.
    pub environment: Vec<(String, String)>,
    /// Inherited names.
    pub environment_inherit: Vec<String>,
    /// Readiness.
    pub readiness: Readiness,
    /// Stop.
    pub stop: Stop,
    /// Restart.
    pub restart: Restart,
    /// Upstream connections.
    pub upstream: Upstream,
    /// Rollout.
    pub rollout: Rollout,
}

/// `[service.NAME.readiness]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// By what.
    pub check: ReadinessCheck,
    /// Milliseconds.
    pub interval_ms: u64,
    /// Milliseconds.
    pub timeout_ms: u64,
    /// In a row.
    pub rise: u32,
    /// In a row.
    pub fall: u32,
    /// Milliseconds.
    pub startup_timeout_ms: u64,
}

/// What makes an instance ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadinessCheck {
    /// GET that path.
    Http(String),
    /// Connect.
    Tcp,
    /// READY=1.
    Notify,
}

/// `[service.NAME.stop]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Which.
    pub signal: StopSignal,
    /// Milliseconds.
    pub drain_timeout_ms: u64,
    /// Milliseconds.
    pub grace_period_ms: u64,
}

/// How a process is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "mirrors model::manifest::StopSignal")]
pub enum StopSignal {
    Graceful,
    Interrupt,
    Quit,
    HangUp,
    User1,
    User2,
    Kill,
}

/// `[service.NAME.restart]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// When.
    pub policy: RestartPolicy,
    /// Milliseconds.
    pub delay_ms: u64,
    /// Milliseconds.
    pub max_delay_ms: u64,
    /// Milliseconds.
    pub reset_after_ms: u64,
}

/// Which ends lead to a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "mirrors model::manifest::RestartPolicy")]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// `[service.NAME.upstream]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Milliseconds.
    pub connect_timeout_ms: u64,
    /// Milliseconds.
    pub response_timeout_ms: u64,
    /// Milliseconds.
    pub idle_reuse_ms: u64,
}

/// `[service.NAME.rollout]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// How.
    pub strategy: Strategy,
    /// Milliseconds.
    pub keep_warm_ms: u64,
}

/// How a new release takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// All at once.
    BlueGreen,
}

/// A duration as whole milliseconds; saturates.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl From<&checked::Manifest> for Manifest {
    fn from(m: &checked::Manifest) -> Self {
        Self {
            state_dir: m.state_dir.clone(),
            admin_bind: m.admin.bind,
            admin_bind_is_default: m.admin.bind_is_default,
            proxy_threads: m.proxy.threads,
            access_log: m.proxy.access_log,
            instance_ports: m.instances.ports,
            listeners: m.listeners.iter().map(|(name, l)| (name.to_string(), l.into())).collect(),
            routes: m.routes.iter().map(Into::into).collect(),
            services: m.services.iter().map(|(name, s)| (name.to_string(), s.into())).collect(),
        }
    }
}

impl TryFrom<&Manifest> for checked::Manifest {
    type Error = ManifestError;

    fn try_from(m: &Manifest) -> Result<Self, ManifestError> {
        let mut listeners = BTreeMap::new();
        for (name, l) in &m.listeners {
            listeners.insert(name.parse()?, l.into());
        }
        let mut services = BTreeMap::new();
        for (name, s) in &m.services {
            services.insert(name.parse()?, s.try_into()?);
        }
        Ok(Self {
            state_dir: m.state_dir.clone(),
            admin: checked::Admin { bind: m.admin_bind, bind_is_default: m.admin_bind_is_default },
            proxy: checked::ProxySettings { threads: m.proxy_threads, access_log: m.access_log },
            instances: checked::InstanceSettings { ports: m.instance_ports },
            listeners,
            routes: m.routes.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            services,
        })
    }
}

impl From<&checked::Listener> for Listener {
    fn from(l: &checked::Listener) -> Self {
        Self {
            bind: l.bind,
            backlog: l.backlog,
            header_timeout_ms: millis(l.header_timeout),
            idle_timeout_ms: millis(l.idle_timeout),
            body_timeout_ms: millis(l.body_timeout),
            head_bytes_max: l.head_bytes_max,
            headers_max: l.headers_max,
            body_bytes_max: l.body_bytes_max,
        }
    }
}

impl From<&Listener> for checked::Listener {
    fn from(l: &Listener) -> Self {
        Self {
            bind: l.bind,
            backlog: l.backlog,
            header_timeout: Duration::from_millis(l.header_timeout_ms),
            idle_timeout: Duration::from_millis(l.idle_timeout_ms),
            body_timeout: Duration::from_millis(l.body_timeout_ms),
            head_bytes_max: l.head_bytes_max,
            headers_max: l.headers_max,
            body_bytes_max: l.body_bytes_max,
        }
    }
}

impl From<&checked::Route> for Route {
    fn from(r: &checked::Route) -> Self {
        let host = match &r.host {
            checked::HostPattern::Any => None,
            checked::HostPattern::Exact(host) => Some(host.clone()),
            checked::HostPattern::Suffix(suffix) => Some(format!("*{suffix}")),
        };
        Self { listener: r.listener.to_string(), host, path: r.path.clone(), service: r.service.to_string() }
    }
}

impl TryFrom<&Route> for checked::Route {
    type Error = ManifestError;

    fn try_from(r: &Route) -> Result<Self, ManifestError> {
        let host = match &r.host {
            None => checked::HostPattern::Any,
            Some(host) => match host.strip_prefix('*') {
                Some(suffix) => checked::HostPattern::Suffix(suffix.to_owned()),
                None => checked::HostPattern::Exact(host.clone()),
            },
        };
        Ok(Self { listener: r.listener.parse()?, host, path: r.path.clone(), service: r.service.parse()? })
    }
}

impl From<&checked::Service> for Service {
    fn from(s: &checked::Service) -> Self {
        Self {
            release: s.release.clone(),
            version: s.version.to_string(),
            command: s.command.clone(),
            instances: s.instances,
            environment: s.environment.clone(),
            environment_inherit: s.environment_inherit.clone(),
            readiness: (&s.readiness).into(),
            stop: (&s.stop).into(),
            restart: (&s.restart).into(),
            upstream: (&s.upstream).into(),
            rollout: (&s.rollout).into(),
        }
    }
}

impl TryFrom<&Service> for checked::Service {
    type Error = ManifestError;

    fn try_from(s: &Service) -> Result<Self, ManifestError> {
        Ok(Self {
            release: s.release.clone(),
            version: s.version.parse()?,
            command: s.command.clone(),
            instances: s.instances,
            environment: s.environment.clone(),
            environment_inherit: s.environment_inherit.clone(),
            readiness: (&s.readiness).into(),
            stop: (&s.stop).into(),
            restart: (&s.restart).into(),
            upstream: (&s.upstream).into(),
            rollout: (&s.rollout).into(),
        })
    }
}

impl From<&checked::Readiness> for Readiness {
    fn from(r: &checked::Readiness) -> Self {
        let check = match &r.check {
            checked::ReadinessCheck::Http(path) => ReadinessCheck::Http(path.clone()),
            checked::ReadinessCheck::Tcp => ReadinessCheck::Tcp,
            checked::ReadinessCheck::Notify => ReadinessCheck::Notify,
        };
        Self {
            check,
            interval_ms: millis(r.interval),
            timeout_ms: millis(r.timeout),
            rise: r.rise,
            fall: r.fall,
            startup_timeout_ms: millis(r.startup_timeout),
        }
    }
}

impl From<&Readiness> for checked::Readiness {
    fn from(r: &Readiness) -> Self {
        let check = match &r.check {
            ReadinessCheck::Http(path) => checked::ReadinessCheck::Http(path.clone()),
            ReadinessCheck::Tcp => checked::ReadinessCheck::Tcp,
            ReadinessCheck::Notify => checked::ReadinessCheck::Notify,
        };
        Self {
            check,
            interval: Duration::from_millis(r.interval_ms),
            timeout: Duration::from_millis(r.timeout_ms),
            rise: r.rise,
            fall: r.fall,
            startup_timeout: Duration::from_millis(r.startup_timeout_ms),
        }
    }
}

impl From<&checked::Stop> for Stop {
    fn from(s: &checked::Stop) -> Self {
        use checked::StopSignal as From;
        let signal = match s.signal {
            From::Graceful => StopSignal::Graceful,
            From::Interrupt => StopSignal::Interrupt,
            From::Quit => StopSignal::Quit,
            From::HangUp => StopSignal::HangUp,
            From::User1 => StopSignal::User1,
            From::User2 => StopSignal::User2,
            From::Kill => StopSignal::Kill,
        };
        Self { signal, drain_timeout_ms: millis(s.drain_timeout), grace_period_ms: millis(s.grace_period) }
    }
}

impl From<&Stop> for checked::Stop {
    fn from(s: &Stop) -> Self {
        use checked::StopSignal as To;
        let signal = match s.signal {
            StopSignal::Graceful => To::Graceful,
            StopSignal::Interrupt => To::Interrupt,
            StopSignal::Quit => To::Quit,
            StopSignal::HangUp => To::HangUp,
            StopSignal::User1 => To::User1,
            StopSignal::User2 => To::User2,
            StopSignal::Kill => To::Kill,
        };
        Self {
            signal,
            drain_timeout: Duration::from_millis(s.drain_timeout_ms),
            grace_period: Duration::from_millis(s.grace_period_ms),
        }
    }
}

impl From<&checked::Restart> for Restart {
    fn from(r: &checked::Restart) -> Self {
        let policy = match r.policy {
            checked::RestartPolicy::Always => RestartPolicy::Always,
            checked::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
            checked::RestartPolicy::Never => RestartPolicy::Never,
        };
        Self {
            policy,
            delay_ms: millis(r.delay),
            max_delay_ms: millis(r.max_delay),
            reset_after_ms: millis(r.reset_after),
        }
    }
}

impl From<&Restart> for checked::Restart {
    fn from(r: &Restart) -> Self {
        let policy = match r.policy {
            RestartPolicy::Always => checked::RestartPolicy::Always,
            RestartPolicy::OnFailure => checked::RestartPolicy::OnFailure,
            RestartPolicy::Never => checked::RestartPolicy::Never,
        };
        Self {
            policy,
            delay: Duration::from_millis(r.delay_ms),
            max_delay: Duration::from_millis(r.max_delay_ms),
            reset_after: Duration::from_millis(r.reset_after_ms),
        }
    }
}

impl From<&checked::Upstream> for Upstream {
    fn from(u: &checked::Upstream) -> Self {
        Self {
            connect_timeout_ms: millis(u.connect_timeout),
            response_timeout_ms: millis(u.response_timeout),
            idle_reuse_ms: millis(u.idle_reuse),
        }
    }
}

impl From<&Upstream> for checked::Upstream {
    fn from(u: &Upstream) -> Self {
        Self {
            connect_timeout: Duration::from_millis(u.connect_timeout_ms),
            response_timeout: Duration::from_millis(u.response_timeout_ms),
            idle_reuse: Duration::from_millis(u.idle_reuse_ms),
        }
    }
}

impl From<&checked::Rollout> for Rollout {
    fn from(r: &checked::Rollout) -> Self {
        let strategy = match r.strategy {
            checked::Strategy::BlueGreen => Strategy::BlueGreen,
        };
        Self { strategy, keep_warm_ms: millis(r.keep_warm) }
    }
}

impl From<&Rollout> for checked::Rollout {
    fn from(r: &Rollout) -> Self {
        let strategy = match r.strategy {
            Strategy::BlueGreen => checked::Strategy::BlueGreen,
        };
        Self { strategy, keep_warm: Duration::from_millis(r.keep_warm_ms) }
    }
}
