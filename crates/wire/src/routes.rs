//! The route table: what a proxy needs to serve, and all it ever knows. Also the file `run/routes`.
//!
//! A new proxy starts from that file at once and takes its health as true. Generations only grow; a proxy
//! ignores a table that is older than the one it has.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// A whole route table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Grows with every table the agent makes, across its restarts.
    pub generation: u64,
    /// Worker threads, read at the start of a proxy only.
    pub threads: u32,
    /// Write the access log.
    pub access_log: bool,
    /// Settings by listener name.
    pub listeners: BTreeMap<String, ListenerSettings>,
    /// Routes; the most specific match wins: exact host, wildcard (longest first), any; then longest path.
    pub routes: Vec<Route>,
    /// Services by name.
    pub services: BTreeMap<String, ServiceTraffic>,
    /// (service, release) pairs left by a rollback or a failed rollout: told here first, recorded after, so
    /// that an agent killed in between still knows.
    #[serde(default)]
    pub refused: Vec<(String, String)>,
}

/// `[listener.NAME]` as the proxy needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerSettings {
    /// From a request head's first byte to its last.
    pub header_timeout_ms: u64,
    /// Idle time within which a client may reuse its connection.
    pub idle_timeout_ms: u64,
    /// Between two pieces of a body, either way.
    pub body_timeout_ms: u64,
    /// Largest request head.
    pub head_bytes_max: u32,
    /// Most header fields.
    pub headers_max: u32,
    /// Largest request body.
    pub body_bytes_max: u64,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Listener.
    pub listener: String,
    /// `None` any, `shop.example.com` exact, `*.example.com` suffix.
    pub host: Option<String>,
    /// Prefix on segment boundaries.
    pub path: String,
    /// Service.
    pub service: String,
}

/// One service as the proxy needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    pub address: SocketAddr,
    /// What may be done with it.
    pub state: EndpointState,
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

/// How endpoints are probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSettings {
    /// GET this path and want 200 to 399; `None`: a TCP connect.
    pub http_path: Option<String>,
    /// Between probes; candidates are probed every 50 ms for their first 5 s.
    pub interval_ms: u64,
    /// For one probe.
    pub timeout_ms: u64,
    /// Successes in a row.
    pub rise: u32,
    /// Failures in a row.
    pub fall: u32,
}
