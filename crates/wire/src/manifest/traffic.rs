//! How requests reach a service, as it crosses processes and lives in the record. What a route table says in the same
//! words is stored in the same types.

use std::time::Duration;

use model::manifest as checked;
use serde::{Deserialize, Serialize};

use super::millis;
use crate::routes::{
    AccessLogFormat, AccessLogSettings, Algorithm, BalanceSettings, CertificateFiles, HashKey, Maintenance,
    OutlierSettings, RetrySettings, Split, Sticky,
};

/// Milliseconds after which a tunnel in which nothing moves is closed, for those who do not say.
pub const TUNNEL_IDLE_MS: u64 = 600_000;

/// `[service.NAME.upstream]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Milliseconds.
    pub connect_timeout_ms: u64,
    /// Milliseconds.
    pub response_timeout_ms: u64,
    /// Milliseconds.
    pub idle_reuse_ms: u64,
    /// Milliseconds; 0 is no limit.
    #[serde(default)]
    pub request_timeout_ms: u64,
    /// Milliseconds.
    #[serde(default = "tunnel_idle")]
    pub tunnel_idle_timeout_ms: u64,
}

const fn tunnel_idle() -> u64 {
    TUNNEL_IDLE_MS
}

/// `outlier` of a service that says nothing of it.
pub(super) fn outlier() -> Option<OutlierSettings> {
    Some(OutlierSettings::default())
}

/// A service of which only the endpoints are known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fronted {
    /// In file order.
    pub endpoints: Vec<Place>,
    /// How they are probed.
    #[serde(default)]
    pub probe: Option<Probe>,
    /// Upstream connections.
    pub upstream: Upstream,
    /// Retries.
    #[serde(default)]
    pub retry: RetrySettings,
    /// Balance.
    #[serde(default)]
    pub balance: BalanceSettings,
    /// Ejection.
    #[serde(default = "outlier")]
    pub outlier: Option<OutlierSettings>,
    /// Endpoint groups.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Maintenance.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
}

/// One entry of `endpoints`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where.
    pub address: PlaceAddress,
    /// Beside the others.
    pub weight: u32,
}

/// Where an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlaceAddress {
    /// IP address and port.
    Tcp(std::net::SocketAddr),
    /// Absolute path.
    Unix(String),
    /// Looked up.
    Name(String, u16),
}

/// How endpoints that are not ours are probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// GET that path; `None`: connect.
    pub http_path: Option<String>,
    /// Milliseconds.
    pub interval_ms: u64,
    /// Milliseconds.
    pub timeout_ms: u64,
    /// In a row.
    pub rise: u32,
    /// In a row.
    pub fall: u32,
}

impl From<&checked::Upstream> for Upstream {
    fn from(u: &checked::Upstream) -> Self {
        Self {
            connect_timeout_ms: millis(u.connect_timeout),
            response_timeout_ms: millis(u.response_timeout),
            idle_reuse_ms: millis(u.idle_reuse),
            request_timeout_ms: millis(u.request_timeout),
            tunnel_idle_timeout_ms: millis(u.tunnel_idle_timeout),
        }
    }
}

impl From<&Upstream> for checked::Upstream {
    fn from(u: &Upstream) -> Self {
        Self {
            connect_timeout: Duration::from_millis(u.connect_timeout_ms),
            response_timeout: Duration::from_millis(u.response_timeout_ms),
            idle_reuse: Duration::from_millis(u.idle_reuse_ms),
            request_timeout: Duration::from_millis(u.request_timeout_ms),
            tunnel_idle_timeout: Duration::from_millis(u.tunnel_idle_timeout_ms),
        }
    }
}

impl From<&checked::Retry> for RetrySettings {
    fn from(r: &checked::Retry) -> Self {
        Self {
            attempts: r.attempts,
            budget_percent: r.budget_percent,
            statuses: r.statuses.clone(),
            non_idempotent: r.non_idempotent,
        }
    }
}

impl From<&RetrySettings> for checked::Retry {
    fn from(r: &RetrySettings) -> Self {
        Self {
            attempts: r.attempts,
            budget_percent: r.budget_percent,
            statuses: r.statuses.clone(),
            non_idempotent: r.non_idempotent,
        }
    }
}

impl From<&checked::Balance> for BalanceSettings {
    fn from(b: &checked::Balance) -> Self {
        let algorithm = match &b.algorithm {
            checked::Algorithm::LeastRequests => Algorithm::LeastRequests,
            checked::Algorithm::RoundRobin => Algorithm::RoundRobin,
            checked::Algorithm::Hash(key) => Algorithm::Hash(match key {
                checked::HashKey::Header(name) => HashKey::Header(name.clone()),
                checked::HashKey::Cookie(name) => HashKey::Cookie(name.clone()),
                checked::HashKey::Source => HashKey::Source,
            }),
        };
        Self {
            algorithm,
            slow_start_ms: millis(b.slow_start),
            requests_max: b.requests_max,
            queue_max: b.queue_max,
            queue_timeout_ms: millis(b.queue_timeout),
            panic_percent: b.panic_percent,
        }
    }
}

impl From<&BalanceSettings> for checked::Balance {
    fn from(b: &BalanceSettings) -> Self {
        let algorithm = match &b.algorithm {
            Algorithm::LeastRequests => checked::Algorithm::LeastRequests,
            Algorithm::RoundRobin => checked::Algorithm::RoundRobin,
            Algorithm::Hash(key) => checked::Algorithm::Hash(match key {
                HashKey::Header(name) => checked::HashKey::Header(name.clone()),
                HashKey::Cookie(name) => checked::HashKey::Cookie(name.clone()),
                HashKey::Source => checked::HashKey::Source,
            }),
        };
        Self {
            algorithm,
            slow_start: Duration::from_millis(b.slow_start_ms),
            requests_max: b.requests_max,
            queue_max: b.queue_max,
            queue_timeout: Duration::from_millis(b.queue_timeout_ms),
            panic_percent: b.panic_percent,
        }
    }
}

impl From<&checked::Outlier> for OutlierSettings {
    fn from(o: &checked::Outlier) -> Self {
        Self {
            consecutive_errors: o.consecutive_errors,
            interval_ms: millis(o.interval),
            base_ejection_ms: millis(o.base_ejection),
            max_ejection_ms: millis(o.max_ejection),
            max_ejected_percent: o.max_ejected_percent,
            success_rate_stdev_milli: o.success_rate_stdev_milli,
            success_rate_requests: o.success_rate_requests,
            success_rate_endpoints: o.success_rate_endpoints,
        }
    }
}

impl From<&OutlierSettings> for checked::Outlier {
    fn from(o: &OutlierSettings) -> Self {
        Self {
            consecutive_errors: o.consecutive_errors,
            interval: Duration::from_millis(o.interval_ms),
            base_ejection: Duration::from_millis(o.base_ejection_ms),
            max_ejection: Duration::from_millis(o.max_ejection_ms),
            max_ejected_percent: o.max_ejected_percent,
            success_rate_stdev_milli: o.success_rate_stdev_milli,
            success_rate_requests: o.success_rate_requests,
            success_rate_endpoints: o.success_rate_endpoints,
        }
    }
}

impl From<&checked::Maintenance> for Maintenance {
    fn from(m: &checked::Maintenance) -> Self {
        Self { on: m.on, retry_after_s: m.retry_after.as_secs(), page: m.page.clone() }
    }
}

impl From<&Maintenance> for checked::Maintenance {
    fn from(m: &Maintenance) -> Self {
        Self { on: m.on, retry_after: Duration::from_secs(m.retry_after_s), page: m.page.clone() }
    }
}

impl From<&checked::Sticky> for Sticky {
    fn from(s: &checked::Sticky) -> Self {
        match s {
            checked::Sticky::Cookie { name, max_age } => {
                Self::Cookie { name: name.clone(), max_age_s: max_age.as_secs() }
            }
            checked::Sticky::Header { name } => Self::Header { name: name.clone() },
        }
    }
}

impl From<&Sticky> for checked::Sticky {
    fn from(s: &Sticky) -> Self {
        match s {
            Sticky::Cookie { name, max_age_s } => {
                Self::Cookie { name: name.clone(), max_age: Duration::from_secs(*max_age_s) }
            }
            Sticky::Header { name } => Self::Header { name: name.clone() },
        }
    }
}

impl From<&checked::AccessLog> for AccessLogSettings {
    fn from(log: &checked::AccessLog) -> Self {
        let format = match log.format {
            checked::AccessLogFormat::Json => AccessLogFormat::Json,
            checked::AccessLogFormat::Combined => AccessLogFormat::Combined,
        };
        Self { format, sample: log.sample, query: log.query }
    }
}

impl From<&AccessLogSettings> for checked::AccessLog {
    fn from(log: &AccessLogSettings) -> Self {
        let format = match log.format {
            AccessLogFormat::Json => checked::AccessLogFormat::Json,
            AccessLogFormat::Combined => checked::AccessLogFormat::Combined,
        };
        Self { format, sample: log.sample, query: log.query }
    }
}

impl From<&checked::Certificate> for CertificateFiles {
    fn from(files: &checked::Certificate) -> Self {
        let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
        Self { certificate: text(&files.certificate), key: text(&files.key) }
    }
}

impl From<&CertificateFiles> for checked::Certificate {
    fn from(files: &CertificateFiles) -> Self {
        Self { certificate: files.certificate.as_str().into(), key: files.key.as_str().into() }
    }
}

impl From<&checked::RouteShare> for Split {
    fn from(share: &checked::RouteShare) -> Self {
        Self { service: share.service.to_string(), weight: share.weight }
    }
}

impl From<&checked::Fronted> for Fronted {
    fn from(f: &checked::Fronted) -> Self {
        let place = |place: &checked::Place| Place {
            address: match &place.address {
                checked::PlaceAddress::Tcp(address) => PlaceAddress::Tcp(*address),
                checked::PlaceAddress::Unix(path) => PlaceAddress::Unix(path.clone()),
                checked::PlaceAddress::Name(host, port) => PlaceAddress::Name(host.clone(), *port),
            },
            weight: place.weight,
        };
        let probe = |probe: &checked::Probe| Probe {
            http_path: probe.http_path.clone(),
            interval_ms: millis(probe.interval),
            timeout_ms: millis(probe.timeout),
            rise: probe.rise,
            fall: probe.fall,
        };
        Self {
            endpoints: f.endpoints.iter().map(place).collect(),
            probe: f.probe.as_ref().map(probe),
            upstream: (&f.traffic.upstream).into(),
            retry: (&f.traffic.retry).into(),
            balance: (&f.traffic.balance).into(),
            outlier: f.traffic.outlier.as_ref().map(Into::into),
            paths: f.traffic.paths.clone(),
            maintenance: f.traffic.maintenance.as_ref().map(Into::into),
        }
    }
}

impl From<&Fronted> for checked::Fronted {
    fn from(f: &Fronted) -> Self {
        let place = |place: &Place| checked::Place {
            address: match &place.address {
                PlaceAddress::Tcp(address) => checked::PlaceAddress::Tcp(*address),
                PlaceAddress::Unix(path) => checked::PlaceAddress::Unix(path.clone()),
                PlaceAddress::Name(host, port) => checked::PlaceAddress::Name(host.clone(), *port),
            },
            weight: place.weight,
        };
        let probe = |probe: &Probe| checked::Probe {
            http_path: probe.http_path.clone(),
            interval: Duration::from_millis(probe.interval_ms),
            timeout: Duration::from_millis(probe.timeout_ms),
            rise: probe.rise,
            fall: probe.fall,
        };
        Self {
            endpoints: f.endpoints.iter().map(place).collect(),
            probe: f.probe.as_ref().map(probe),
            traffic: checked::Traffic {
                upstream: (&f.upstream).into(),
                retry: (&f.retry).into(),
                balance: (&f.balance).into(),
                outlier: f.outlier.as_ref().map(Into::into),
                paths: f.paths.clone(),
                maintenance: f.maintenance.as_ref().map(Into::into),
            },
        }
    }
}
