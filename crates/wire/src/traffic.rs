//! Messages between agent and proxy: route tables one way, verdicts and counters the other.
//!
//! Every living proxy, serving or draining, gets each table and acknowledges it once all of its threads
//! use it. An endpoint is *unrouted* when all living proxies acknowledged a table without it as serving,
//! and *drained* when each of them has said so.

use serde::{Deserialize, Serialize};

use crate::link::Hello;
use crate::routes::RouteTable;

mod series;

pub use series::{SeriesCounters, SeriesOf, decode_sketch, encode_sketch};

/// From the agent to a proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "kebab-case")]
pub enum ToProxy {
    /// First message.
    Hello(Hello),
    /// Use this table; only the newest proxy probes (`probe`).
    Table {
        /// The whole table.
        table: Box<RouteTable>,
        /// Probe the endpoints and report.
        probe: bool,
    },
    /// As `Table`, with the JSON in the sealed memfd that travels along (it was over the frame limit).
    TableInDescriptor {
        /// Its generation.
        generation: u64,
        /// Probe the endpoints and report.
        probe: bool,
    },
    /// Stop accepting (accept until empty first), finish what is in flight, exit.
    Drain {
        /// For requests in flight; connections left are closed then.
        deadline_ms: u64,
    },
    /// Send `Counters` with this token now.
    ReportNow {
        /// Comes back.
        token: u64,
    },
}

/// From a proxy to the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "kebab-case")]
pub enum FromProxy {
    /// First message.
    Hello(Hello),
    /// Every thread uses that table.
    TableApplied {
        /// Its generation.
        generation: u64,
    },
    /// No request is in flight on that endpoint, which the named table lists as draining (or not at all),
    /// and no pooled connection to it is open.
    Drained {
        /// Which instance.
        instance: String,
        /// As of that table.
        generation: u64,
    },
    /// A probe's outcome: sent when the verdict changes, and for a candidate that fails at most once a second.
    Probe {
        /// Which instance.
        instance: String,
        /// `rise` successes in a row; false = `fall` failures in a row; `None` = still failing.
        healthy: Option<bool>,
        /// One sentence about the last probe.
        detail: String,
    },
    /// Cumulative counters since this proxy started; once a second and on `report-now`.
    Counters(Box<Counters>),
    /// A certificate was read again, cannot be used, or ends soon; said again to a next agent while it is so.
    Certificate(CertificateNews),
    /// Draining has ended; the process exits next.
    DrainComplete,
}

/// What is to be told of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateNews {
    /// Where it is used.
    pub listener: String,
    /// Its file.
    pub certificate: String,
    /// What is wrong, one sentence; `None`: it was read again, is good, and is in use.
    pub error: Option<String>,
    /// When what is in use ends, in milliseconds since 1970; `None`: nothing is in use.
    pub not_after_ms: Option<u64>,
}

/// Cumulative counters of one proxy process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// The token of `report-now`, where this answers one.
    #[serde(default)]
    pub token: Option<u64>,
    /// Open client connections now.
    pub connections: u64,
    /// Client connections accepted.
    pub accepted: u64,
    /// Requests refused before a route was known (400, 404, 408, 413, 431).
    pub refused: u64,
    /// By service and release.
    pub releases: Vec<ReleaseCounters>,
    /// By listener.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerCounters>,
    /// Certificates in use.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateInUse>,
    /// Lines of the access log that were dropped because the disk was behind.
    #[serde(default)]
    pub log_lines_dropped: u64,
    /// Series, each with all of what was counted: those that changed since the last report, or all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub series: Vec<SeriesCounters>,
    /// These series, with those of the reports that follow, are all: what is not among them is no more.
    #[serde(default)]
    pub series_anew: bool,
    /// More series follow in another report, which repeats everything else.
    #[serde(default)]
    pub series_more: bool,
}

/// Counters of one listener in one proxy process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerCounters {
    /// Which.
    pub listener: String,
    /// Open client connections now.
    #[serde(default)]
    pub connections: u64,
    /// Of these, tunnels.
    #[serde(default)]
    pub tunnels: u64,
    /// Client connections accepted.
    #[serde(default)]
    pub accepted: u64,
    /// TLS handshakes that were done.
    #[serde(default)]
    pub handshakes: u64,
    /// Of these, such as went on from an earlier session.
    #[serde(default)]
    pub handshakes_resumed: u64,
    /// TLS handshakes that failed, or came to no end.
    #[serde(default)]
    pub handshakes_failed: u64,
    /// Requests refused before a route was known.
    #[serde(default)]
    pub refused: u64,
}

/// Counters of one release in one proxy process.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseCounters {
    /// Service.
    pub service: String,
    /// Release; empty for requests that found no endpoint at all.
    pub release: String,
    /// Requests answered, whatever the answer.
    pub requests: u64,
    /// Answered 5xx, by the instance or by us for it.
    pub errors: u64,
    /// Attempts that were tried again elsewhere.
    pub retried: u64,
    /// Requests that got no answer, or half of one, because the instance failed after the answer began.
    pub failed: u64,
    /// Losses on a reused upstream connection that could not be retried.
    pub lost_on_reuse: u64,
    /// In flight now.
    pub in_flight: u64,
    /// Longest time since the last report that a request waited inside Handover for a connection to an instance, in µs.
    pub wait_us_max: u64,
    /// Requests that waited because no endpoint served (`hold`), whatever became of them; in the entry of the
    /// release that answered, or of the empty one.
    #[serde(default)]
    pub held: u64,
    /// Longest such wait since the last report, in µs.
    #[serde(default)]
    pub hold_us_max: u64,
    /// Times an endpoint was ejected, on any thread.
    #[serde(default)]
    pub ejected: u64,
    /// Requests that waited for a slot because every endpoint had as many as it may have.
    #[serde(default)]
    pub queued: u64,
    /// Requests that wait for one now; in the entry of the empty release.
    #[serde(default)]
    pub waiting: u64,
    /// Endpoints that are ejected now, on the thread on which most are.
    #[serde(default)]
    pub ejected_now: u64,
}

/// A certificate in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateInUse {
    /// Where.
    pub listener: String,
    /// The first of the names that it is for.
    pub name: String,
    /// When it ends, in milliseconds since 1970.
    pub not_after_ms: u64,
}
