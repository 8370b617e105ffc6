//! Body of what the proxies counted: by listener, route, endpoint group, instance and service.
//!
//! All counts are totals and only grow while an agent lives; rates and quantiles of a time are differences.

use std::collections::BTreeMap;

use model::series::SeriesTotals;
use model::sketch::{Bucket, Sketch};
use serde::{Deserialize, Serialize};

/// `GET /v1/traffic`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficReport {
    /// Process of the agent; another one may count from another start.
    pub agent: u32,
    /// By listener.
    pub listeners: BTreeMap<String, ListenerTraffic>,
    /// By service.
    pub services: BTreeMap<String, ServiceTraffic>,
    /// By listener and route.
    pub routes: Vec<RouteTraffic>,
    /// By service and endpoint group.
    pub groups: Vec<GroupTraffic>,
    /// By service, version and instance; an empty instance stands for those that are gone.
    pub instances: Vec<InstanceTraffic>,
    /// By listener and name.
    #[serde(default)]
    pub certificates: Vec<CertificateInUse>,
    /// Lines of the access log that were dropped because the disk was behind.
    pub log_lines_dropped_total: u64,
}

/// One listener.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerTraffic {
    /// Open client connections.
    pub connections: u64,
    /// Of these, tunnels.
    pub tunnels: u64,
    /// Client connections accepted.
    pub accepted_total: u64,
    /// TLS handshakes that were done.
    #[serde(default)]
    pub handshakes_total: u64,
    /// Of these, such as went on from an earlier session.
    #[serde(default)]
    pub handshakes_resumed_total: u64,
    /// TLS handshakes that failed.
    pub handshakes_failed_total: u64,
    /// Requests refused before a route was known.
    pub refused_total: u64,
}

/// One service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTraffic {
    /// Requests being answered.
    pub in_flight: u64,
    /// Attempts that were tried again.
    pub retried_total: u64,
    /// Requests that waited because no instance served.
    pub held_total: u64,
    /// Requests that waited for a slot because every instance had as many as it may have.
    #[serde(default)]
    pub queued_total: u64,
    /// Requests that wait for one now.
    #[serde(default)]
    pub waiting: u64,
    /// Times an instance was ejected, on any thread of a proxy.
    #[serde(default)]
    pub ejected_total: u64,
    /// Instances that are ejected now.
    #[serde(default)]
    pub ejected: u64,
    /// Requests whose answer broke off, or that were lost with a connection that had served before.
    pub failed_total: u64,
}

/// A certificate that a listener shows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateInUse {
    /// Listener.
    pub listener: String,
    /// The first of the names that it is for.
    pub name: String,
    /// When it ends, in milliseconds since 1970.
    pub not_after_ms: u64,
}

/// One route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTraffic {
    /// Listener.
    pub listener: String,
    /// Host (`*` for any) and path prefix.
    pub route: String,
    /// What was counted.
    #[serde(flatten)]
    pub counts: SeriesReport,
}

/// One endpoint group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupTraffic {
    /// Service.
    pub service: String,
    /// Path template, or `other`.
    pub group: String,
    /// What was counted.
    #[serde(flatten)]
    pub counts: SeriesReport,
}

/// One instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceTraffic {
    /// Service.
    pub service: String,
    /// Version; empty, with `instance`, for requests that found no instance.
    pub version: String,
    /// Instance.
    pub instance: String,
    /// What was counted.
    #[serde(flatten)]
    pub counts: SeriesReport,
}

/// What was counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesReport {
    /// Requests without answer, then those answered 1xx, 2xx, 3xx, 4xx, 5xx.
    pub answers: [u64; 6],
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Attempts after which another was made.
    pub retries: u64,
    /// Answers that broke off, and requests lost with a connection that had served before.
    pub failures: u64,
    /// From a request's head to the end of its answer.
    pub latency: SketchReport,
    /// From the beginning of an attempt to the answer's head; of instances only.
    pub first_byte: SketchReport,
}

/// A latency sketch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SketchReport {
    /// Index and count of each bucket that has something: up to 31 one for each microsecond, then 32 for each power
    /// of two.
    pub buckets: Vec<(u16, u64)>,
    /// Sum of all in it, in µs.
    pub sum_us: u64,
}

impl From<&Sketch> for SketchReport {
    fn from(sketch: &Sketch) -> Self {
        let buckets = sketch.buckets();
        let buckets =
            buckets.filter_map(|(bucket, count)| Some((u16::try_from(bucket.index()).ok()?, count)));
        Self { buckets: buckets.collect(), sum_us: sketch.sum_micros() }
    }
}

impl From<&SketchReport> for Sketch {
    fn from(report: &SketchReport) -> Self {
        let mut sketch = Self::default();
        for (index, count) in &report.buckets {
            if let Some(bucket) = Bucket::at(usize::from(*index)) {
                sketch.add(bucket, *count);
            }
        }
        sketch.add_sum(report.sum_us);
        sketch
    }
}

impl From<&SeriesTotals> for SeriesReport {
    fn from(totals: &SeriesTotals) -> Self {
        Self {
            answers: totals.answers,
            bytes_in: totals.bytes_in,
            bytes_out: totals.bytes_out,
            retries: totals.retries,
            failures: totals.failures,
            latency: (&totals.latency).into(),
            first_byte: (&totals.first_byte).into(),
        }
    }
}

impl From<&SeriesReport> for SeriesTotals {
    fn from(report: &SeriesReport) -> Self {
        Self {
            answers: report.answers,
            bytes_in: report.bytes_in,
            bytes_out: report.bytes_out,
            retries: report.retries,
            failures: report.failures,
            latency: (&report.latency).into(),
            first_byte: (&report.first_byte).into(),
        }
    }
}
