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

mod service;
mod traffic;

pub use service::{
    Dependency, DependsUntil, Hook, Liveness, LivenessCheck, Mode, Output, Readiness, ReadinessCheck, Reload,
    ReloadBy, Restart, RestartPolicy, Rollout, Service, Stop, StopSignal, Strategy,
};
pub use traffic::{Fronted, Place, PlaceAddress, Probe, TUNNEL_IDLE_MS, Upstream};

use crate::routes::{AccessLogSettings, CertificateFiles, Split};

/// Why a stored manifest does not read back.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// One of its names is none.
    #[error("a stored manifest is not valid: {0}")]
    Id(#[from] model::id::IdError),
    /// One of its networks is none.
    #[error("a stored manifest is not valid: `{0}`: {1}")]
    Network(String, checked::NetworkError),
}

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
    /// How its lines look.
    #[serde(default)]
    pub access_log_settings: AccessLogSettings,
    /// Handover's own log.
    #[serde(default)]
    pub log: OwnLog,
    /// First and last port for `${PORT}`.
    pub instance_ports: (u16, u16),
    /// By name.
    pub listeners: BTreeMap<String, Listener>,
    /// In file order.
    pub routes: Vec<Route>,
    /// By name.
    pub services: BTreeMap<String, Service>,
    /// Services of which only the endpoints are known, by name.
    #[serde(default)]
    pub fronted: BTreeMap<String, Fronted>,
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
    /// Absolute paths.
    #[serde(default)]
    pub tls: Vec<CertificateFiles>,
    /// Networks.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// Listener.
    #[serde(default)]
    pub https_redirect: Option<String>,
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
    /// Service; with `split`, its first one.
    pub service: String,
    /// Services by weight; empty: all requests go to `service`.
    #[serde(default)]
    pub split: Vec<Split>,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OwnLog {
    /// How a line looks.
    #[serde(default)]
    pub format: LogFormat,
    /// The least that is written.
    #[serde(default)]
    pub level: LogLevel,
}

/// How a line of the own log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "mirrors model::manifest::LogFormat")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// How much the own log says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "mirrors model::manifest::LogLevel")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
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
            access_log: m.proxy.access_log.is_some(),
            access_log_settings: m.proxy.access_log.as_ref().map(Into::into).unwrap_or_default(),
            log: m.log.into(),
            instance_ports: m.instances.ports,
            listeners: m.listeners.iter().map(|(name, l)| (name.to_string(), l.into())).collect(),
            routes: m.routes.iter().map(Into::into).collect(),
            services: m.services.iter().map(|(name, s)| (name.to_string(), s.into())).collect(),
            fronted: m.fronted.iter().map(|(name, f)| (name.to_string(), f.into())).collect(),
        }
    }
}

impl TryFrom<&Manifest> for checked::Manifest {
    type Error = ManifestError;

    fn try_from(m: &Manifest) -> Result<Self, ManifestError> {
        let mut listeners = BTreeMap::new();
        for (name, l) in &m.listeners {
            listeners.insert(name.parse()?, l.try_into()?);
        }
        let mut services = BTreeMap::new();
        for (name, s) in &m.services {
            services.insert(name.parse()?, s.try_into()?);
        }
        let mut fronted = BTreeMap::new();
        for (name, f) in &m.fronted {
            fronted.insert(name.parse()?, f.into());
        }
        let access_log = m.access_log.then(|| (&m.access_log_settings).into());
        Ok(Self {
            state_dir: m.state_dir.clone(),
            admin: checked::Admin { bind: m.admin_bind, bind_is_default: m.admin_bind_is_default },
            proxy: checked::ProxySettings { threads: m.proxy_threads, access_log },
            log: m.log.into(),
            instances: checked::InstanceSettings { ports: m.instance_ports },
            listeners,
            routes: m.routes.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            services,
            fronted,
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
            tls: l.tls.iter().map(Into::into).collect(),
            trusted_proxies: l.trusted_proxies.iter().map(ToString::to_string).collect(),
            https_redirect: l.https_redirect.as_ref().map(ToString::to_string),
        }
    }
}

impl TryFrom<&Listener> for checked::Listener {
    type Error = ManifestError;

    fn try_from(l: &Listener) -> Result<Self, ManifestError> {
        let network = |text: &String| {
            text.parse::<checked::Network>().map_err(|why| ManifestError::Network(text.clone(), why))
        };
        Ok(Self {
            bind: l.bind,
            backlog: l.backlog,
            header_timeout: Duration::from_millis(l.header_timeout_ms),
            idle_timeout: Duration::from_millis(l.idle_timeout_ms),
            body_timeout: Duration::from_millis(l.body_timeout_ms),
            head_bytes_max: l.head_bytes_max,
            headers_max: l.headers_max,
            body_bytes_max: l.body_bytes_max,
            tls: l.tls.iter().map(Into::into).collect(),
            trusted_proxies: l.trusted_proxies.iter().map(network).collect::<Result<_, _>>()?,
            https_redirect: l.https_redirect.as_ref().map(|name| name.parse()).transpose()?,
        })
    }
}

impl From<&checked::Route> for Route {
    fn from(r: &checked::Route) -> Self {
        let host = match &r.host {
            checked::HostPattern::Any => None,
            checked::HostPattern::Exact(host) => Some(host.clone()),
            checked::HostPattern::Suffix(suffix) => Some(format!("*{suffix}")),
        };
        let service = r.to.first().map(|share| share.service.to_string()).unwrap_or_default();
        // One has all of it, whatever its weight.
        let split = if r.to.len() > 1 { r.to.iter().map(Into::into).collect() } else { Vec::new() };
        Self { listener: r.listener.to_string(), host, path: r.path.clone(), service, split }
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
        let mut to = Vec::new();
        for share in &r.split {
            to.push(checked::RouteShare { service: share.service.parse()?, weight: share.weight });
        }
        if to.is_empty() {
            to.push(checked::RouteShare { service: r.service.parse()?, weight: 1 });
        }
        Ok(Self { listener: r.listener.parse()?, host, path: r.path.clone(), to })
    }
}

impl From<checked::OwnLog> for OwnLog {
    fn from(log: checked::OwnLog) -> Self {
        let format = match log.format {
            checked::LogFormat::Text => LogFormat::Text,
            checked::LogFormat::Json => LogFormat::Json,
        };
        let level = match log.level {
            checked::LogLevel::Error => LogLevel::Error,
            checked::LogLevel::Warn => LogLevel::Warn,
            checked::LogLevel::Info => LogLevel::Info,
            checked::LogLevel::Debug => LogLevel::Debug,
        };
        Self { format, level }
    }
}

impl From<OwnLog> for checked::OwnLog {
    fn from(log: OwnLog) -> Self {
        let format = match log.format {
            LogFormat::Text => checked::LogFormat::Text,
            LogFormat::Json => checked::LogFormat::Json,
        };
        let level = match log.level {
            LogLevel::Error => checked::LogLevel::Error,
            LogLevel::Warn => checked::LogLevel::Warn,
            LogLevel::Info => checked::LogLevel::Info,
            LogLevel::Debug => checked::LogLevel::Debug,
        };
        Self { format, level }
    }
}
