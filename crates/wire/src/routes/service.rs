//! `[service.NAME]` as the proxy needs it: its releases and endpoints, and how requests are given to them.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::ProbeSettings;

/// One service as the proxy needs it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTraffic {
    /// Releases that have endpoints, at most two of them with weight in a rollout.
    pub releases: Vec<ReleaseTraffic>,
    /// How endpoints are probed; `None`: not by the proxy.
    pub probe: Option<ProbeSettings>,
    /// For a connection to an endpoint.
    pub connect_timeout_ms: u64,
    /// For an answer, and between two pieces of it.
    pub response_timeout_ms: u64,
    /// Longest idle time after which a pooled connection is used again.
    pub idle_reuse_ms: u64,
    /// For a whole request, from its head to the last byte of its answer; 0: no such limit. Tunnels have none.
    #[serde(default)]
    pub request_timeout_ms: u64,
    /// A tunnel (`Upgrade`) in which nothing moved for this long is closed; 0: the default of ten minutes.
    #[serde(default)]
    pub tunnel_idle_timeout_ms: u64,
    /// When a request is tried again.
    #[serde(default)]
    pub retry: RetrySettings,
    /// Which endpoint gets a request.
    #[serde(default)]
    pub balance: BalanceSettings,
    /// When an endpoint that fails gets no requests for a while; `None`: only after failures to connect.
    #[serde(default)]
    pub outlier: Option<OutlierSettings>,
    /// What keeps a visitor on the release it got first.
    #[serde(default)]
    pub sticky: Option<Sticky>,
    /// Endpoint groups of the access log and metrics: `/api/order/{id}`; the most specific one counts.
    #[serde(default)]
    pub paths: Vec<String>,
    /// What is answered instead of the service.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
    /// While no endpoint serves, requests wait for the next table that has one; `None`: they are answered 503.
    #[serde(default)]
    pub hold: Option<Hold>,
}

/// How requests wait while a service cannot answer for a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Longest wait of one request; then 503 with Retry-After.
    pub timeout_ms: u64,
    /// Most requests that wait, over all threads of a proxy; more are answered 503 with Retry-After.
    pub requests_max: u32,
}

/// One release of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseTraffic {
    /// Release id as shown.
    pub release: String,
    /// Share of the service's requests in basis points; the weights of a service sum to 10,000 or 0.
    pub weight: u16,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One address of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Instance id.
    pub instance: String,
    /// Where it listens.
    pub address: Address,
    /// What may be done with it.
    pub state: EndpointState,
    /// Its share beside the others of its release, for every algorithm but `hash`, which takes it too.
    #[serde(default = "one")]
    pub weight: u32,
    /// Its process is ours: what it says by `Handover-Draining` is believed.
    #[serde(default = "yes")]
    pub supervised: bool,
}

/// What a proxy may do with an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndpointState {
    /// Probed fast, gets no request yet. Also an instance that lost its readiness.
    Candidate,
    /// Gets requests, by its release's weight.
    Serving,
    /// Gets no new request, and its pooled connections are closed; those in flight finish. Reported when at 0.
    Draining,
}

/// Where an endpoint listens, as text: `127.0.0.1:8080`, `[::1]:80`, or `unix:/run/shop.sock`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// IP address and port.
    Tcp(SocketAddr),
    /// Absolute path of a Unix socket.
    Unix(String),
}

impl Address {
    /// The port, where it has one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

/// The text is no address of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is neither an IP address with a port nor `unix:` with an absolute path")]
pub struct BadAddress(String);

impl TryFrom<String> for Address {
    type Error = BadAddress;

    fn try_from(text: String) -> Result<Self, BadAddress> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with('/')) {
            return Ok(Self::Unix(path.to_owned()));
        }
        text.parse().map(Self::Tcp).map_err(|_unreadable| BadAddress(text))
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

const fn one() -> u32 {
    1
}

const fn yes() -> bool {
    true
}

/// When a request is tried again. Whatever stands here: never once a byte of an answer came, and never a request that
/// is not idempotent and may have arrived, but where `non_idempotent` says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrySettings {
    /// Most attempts for one request, the first included.
    pub attempts: u32,
    /// Retries in a hundred requests.
    pub budget_percent: u32,
    /// Answers with these statuses are tried again as well, for idempotent methods.
    pub statuses: Vec<u16>,
    /// POST and PATCH may be sent twice.
    pub non_idempotent: bool,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self { attempts: 3, budget_percent: 20, statuses: Vec::new(), non_idempotent: false }
    }
}

/// Which endpoint of a release gets a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalanceSettings {
    /// How it is chosen.
    pub algorithm: Algorithm,
    /// An endpoint that began to serve gets its whole share only after this long, rising from a tenth; 0: at once.
    pub slow_start_ms: u64,
    /// Most requests in flight on one instance, over all threads; 0: no limit.
    pub requests_max: u32,
    /// Most requests that wait for an instance below `requests_max`; more are answered 503.
    pub queue_max: u32,
    /// Longest wait there; then 503.
    pub queue_timeout_ms: u64,
    /// With fewer of the release's endpoints in service than this, in percent, ejections count for nothing.
    pub panic_percent: u32,
}

impl Default for BalanceSettings {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::LeastRequests,
            slow_start_ms: 0,
            requests_max: 0,
            queue_max: 1_000,
            queue_timeout_ms: 30_000,
            panic_percent: 50,
        }
    }
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Of two random ones, that with fewer requests in flight for its weight.
    LeastRequests,
    /// Exact turns by weight.
    RoundRobin,
    /// The same key goes to the same endpoint while that serves, and few keys move when endpoints come and go.
    Hash(HashKey),
}

/// What is hashed. A request without it is given to any endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashKey {
    /// The value of that header field.
    Header(String),
    /// The value of that cookie.
    Cookie(String),
    /// The client's address.
    Source,
}

/// When an endpoint is ejected for what it answers (Envoy's outlier detection, and its defaults).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutlierSettings {
    /// Failures (5xx, reset, timeout, refused connect) in a row; 0: these do not count.
    pub consecutive_errors: u32,
    /// Between two looks at success rates.
    pub interval_ms: u64,
    /// First ejection; each further one lasts that much longer.
    pub base_ejection_ms: u64,
    /// The longest.
    pub max_ejection_ms: u64,
    /// Most endpoints of a release that are out at once, in percent, but always one of several.
    pub max_ejected_percent: u32,
    /// Ejected when its success rate is that many thousandths of a standard deviation below the mean; 0: never.
    pub success_rate_stdev_milli: u32,
    /// Requests in an interval without which a success rate says nothing.
    pub success_rate_requests: u32,
    /// Endpoints with that many requests without which there is no mean.
    pub success_rate_endpoints: u32,
}

impl Default for OutlierSettings {
    fn default() -> Self {
        Self {
            consecutive_errors: 5,
            interval_ms: 10_000,
            base_ejection_ms: 30_000,
            max_ejection_ms: 300_000,
            max_ejected_percent: 10,
            success_rate_stdev_milli: 1_900,
            success_rate_requests: 100,
            success_rate_endpoints: 5,
        }
    }
}

/// What keeps a visitor on a release, while that has any weight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sticky {
    /// A cookie that we set.
    Cookie {
        /// Its name.
        name: String,
        /// How long it is kept.
        max_age_s: u64,
    },
    /// A header field that the client sends; the same value always leads to the same release at the same weights.
    Header {
        /// Its name.
        name: String,
    },
}

/// What is answered instead of a service, with 503 and Retry-After: while it is on, and when no instance is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// Whether it is answered whatever the instances do.
    pub on: bool,
    /// For Retry-After.
    pub retry_after_s: u64,
    /// The page, as HTML; `None`: one sentence as plain text.
    pub page: Option<String>,
}
