//! What is counted of a request when it is over, and said about it in the access log.

use std::time::Duration;

use model::time::Instant;

use crate::engine::endpoint::Endpoint;
use crate::engine::labels::Group;
use crate::engine::series::Outcome;
use crate::engine::table::Way;
use crate::engine::tunnel::Passed;

/// The answer to a request to switch protocols: what follows it is a tunnel, whose length is no latency.
const SWITCHING_PROTOCOLS: u16 = 101;

/// What is known of a request besides how it ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// When its head was there.
    pub(crate) started: Instant,
    /// Its route, once there is one.
    pub(crate) way: Option<&'a Way>,
    /// Its endpoint group, where the service has groups.
    pub(crate) group: Option<&'a Group>,
    /// Who had it last.
    pub(crate) endpoint: Option<&'a Endpoint>,
    /// Attempts after the first.
    pub(crate) retries: u32,
    /// Body bytes received.
    pub(crate) bytes_in: u64,
    /// From the last attempt's beginning to its answer's head.
    pub(crate) first_byte: Option<Duration>,
    /// The instance failed after its answer had begun, or lost the request.
    pub(crate) is_failed: bool,
    /// HTTP/1.0 rather than 1.1.
    pub(crate) is_1_0: bool,
    /// What passed through it, when it became a tunnel.
    pub(crate) tunnel: Option<Passed>,
}

impl Entry<'_> {
    /// One that was refused before anything was known of it.
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            way: None,
            group: None,
            endpoint: None,
            retries: 0,
            bytes_in: 0,
            first_byte: None,
            is_failed: false,
            is_1_0: false,
            tunnel: None,
        }
    }

    /// Counts it in its series: a few numbers grow, nothing else happens.
    #[inline]
    pub(crate) fn count(&self, status: u16, bytes_out: u64, now: Instant) {
        let Some(way) = self.way else { return };
        let micros = micros(now.since(self.started));
        let micros = (status != SWITCHING_PROTOCOLS && status != 0).then_some(micros);
        let outcome = Outcome { status, bytes_in: self.bytes_in, bytes_out, micros };
        way.series.observe(&outcome);
        match self.endpoint {
            Some(endpoint) => endpoint.series.observe(&outcome),
            None => way.service.unplaced_series.observe(&outcome),
        }
        if let Some(group) = self.group {
            group.series.observe(&outcome);
        }
        if self.retries > 0 || self.is_failed {
            self.count_trouble(way);
        }
    }

    /// Service, release and instance as the access log shows them, as far as they are known.
    pub(crate) fn log_fields(&self) -> &str {
        match (self.endpoint, self.way) {
            (Some(endpoint), _) => &endpoint.log_fields,
            (None, Some(way)) => &way.service.log_fields,
            (None, None) => "",
        }
    }

    /// The endpoint's own were counted at each attempt.
    #[cold]
    fn count_trouble(&self, way: &Way) {
        for series in [Some(&way.series), self.group.map(|group| &group.series)].into_iter().flatten() {
            series.retried(self.retries);
            if self.is_failed {
                series.failed();
            }
        }
    }
}

/// Whole microseconds.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
