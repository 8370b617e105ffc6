//! Counters and latency sketches by route, endpoint group and instance, as a proxy tells them.
//!
//! A sketch is the list of its buckets that have something: index, count, index, count, …; every version has the same
//! buckets. Those of a sender that has more are left out.

use model::series::{CLASSES, SeriesName, SeriesTotals};
use model::sketch::{Bucket, Sketch};
use serde::{Deserialize, Serialize};

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum SeriesOf {
    /// Requests that took one route of a listener.
    Route {
        /// Listener.
        listener: String,
        /// Host (`*` for any) and path prefix.
        route: String,
    },
    /// Requests of a service that fall under one of its path templates.
    Group {
        /// Service.
        service: String,
        /// The template, or `other`.
        group: String,
    },
    /// Requests answered by one instance, or for it.
    Instance {
        /// Service.
        service: String,
        /// Release; empty for requests that found no endpoint.
        release: String,
        /// Instance; empty for those of the release that are gone.
        instance: String,
    },
}

/// Cumulative counters of one series in one proxy process. What is absent is zero.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesCounters {
    /// Which.
    #[serde(flatten)]
    pub of: SeriesOf,
    /// Requests without answer, then those answered 1xx, 2xx, 3xx, 4xx, 5xx.
    #[serde(default)]
    pub answers: Vec<u64>,
    /// Bytes of request bodies.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes_in: u64,
    /// Bytes of response bodies.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bytes_out: u64,
    /// Attempts after which another was made.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u64,
    /// Answers that broke off, and requests lost on a connection that was used before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failures: u64,
    /// From head to the end of the answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<u64>,
    /// Sum of these in µs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub latency_us: u64,
    /// From the beginning of the attempt to the answer's head.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first_byte: Vec<u64>,
    /// Sum of these in µs.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub first_byte_us: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Longest text of one number, with its comma.
const NUMBER_BYTES_MAX: usize = 21;
/// Names of the fields, and the numbers that are always few.
const FIXED_BYTES_MAX: usize = 512;

impl SeriesCounters {
    /// What `totals` say about `name`.
    pub fn new(name: &SeriesName, totals: &SeriesTotals) -> Self {
        Self {
            of: name.into(),
            answers: totals.answers.to_vec(),
            bytes_in: totals.bytes_in,
            bytes_out: totals.bytes_out,
            retries: totals.retries,
            failures: totals.failures,
            latency: encode_sketch(&totals.latency),
            latency_us: totals.latency.sum_micros(),
            first_byte: encode_sketch(&totals.first_byte),
            first_byte_us: totals.first_byte.sum_micros(),
        }
    }

    /// The same as values.
    pub fn totals(&self) -> SeriesTotals {
        let mut answers = [0; CLASSES];
        for (count, told) in answers.iter_mut().zip(&self.answers) {
            *count = *told;
        }
        SeriesTotals {
            answers,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            retries: self.retries,
            failures: self.failures,
            latency: decode_sketch(&self.latency, self.latency_us),
            first_byte: decode_sketch(&self.first_byte, self.first_byte_us),
        }
    }

    /// More than it takes as JSON.
    pub fn bytes_at_most(&self) -> usize {
        // A name may have to be escaped: six bytes for one at worst.
        let names = match &self.of {
            SeriesOf::Route { listener, route } => listener.len() + route.len(),
            SeriesOf::Group { service, group } => service.len() + group.len(),
            SeriesOf::Instance { service, release, instance } => {
                service.len() + release.len() + instance.len()
            }
        };
        let digits = |number: &u64| {
            usize::try_from(number.checked_ilog10().unwrap_or(0)).unwrap_or(NUMBER_BYTES_MAX) + 2
        };
        let sketches = self.latency.iter().chain(&self.first_byte).map(digits).sum::<usize>();
        6 * names + FIXED_BYTES_MAX + sketches
    }
}

/// Index, count, index, count, … of the buckets that have something.
pub fn encode_sketch(sketch: &Sketch) -> Vec<u64> {
    sketch.buckets().flat_map(|(bucket, count)| [bucket.index() as u64, count]).collect()
}

/// The sketch that was encoded.
pub fn decode_sketch(buckets: &[u64], sum_micros: u64) -> Sketch {
    let mut sketch = Sketch::default();
    for pair in buckets.chunks_exact(2) {
        if let Some(bucket) = usize::try_from(pair[0]).ok().and_then(Bucket::at) {
            sketch.add(bucket, pair[1]);
        }
    }
    sketch.add_sum(sum_micros);
    sketch
}

impl From<&SeriesName> for SeriesOf {
    fn from(name: &SeriesName) -> Self {
        match name.clone() {
            SeriesName::Route { listener, route } => Self::Route { listener, route },
            SeriesName::Group { service, group } => Self::Group { service, group },
            SeriesName::Instance { service, release, instance } => {
                Self::Instance { service, release, instance }
            }
        }
    }
}

impl From<SeriesOf> for SeriesName {
    fn from(of: SeriesOf) -> Self {
        match of {
            SeriesOf::Route { listener, route } => Self::Route { listener, route },
            SeriesOf::Group { service, group } => Self::Group { service, group },
            SeriesOf::Instance { service, release, instance } => {
                Self::Instance { service, release, instance }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals() -> SeriesTotals {
        let mut totals = SeriesTotals { answers: [1, 0, 7, 0, 0, 2], bytes_in: 5, ..SeriesTotals::default() };
        for micros in [3, 900, 901, 1 << 30] {
            totals.latency.record_micros(micros);
        }
        totals
    }

    #[test]
    fn totals_read_back_as_they_were_written() {
        let name = SeriesName::Group { service: "web".into(), group: "/a\u{1}\"".into() };
        let counters = SeriesCounters::new(&name, &totals());
        let text = serde_json::to_string(&counters).unwrap();
        assert!(text.len() <= counters.bytes_at_most(), "{} {}", text.len(), counters.bytes_at_most());
        let read: SeriesCounters = serde_json::from_str(&text).unwrap();
        assert_eq!((SeriesName::from(read.of.clone()), read.totals()), (name, totals()));
    }

    #[test]
    fn buckets_that_do_not_exist_and_numbers_too_few_are_left_out() {
        let sketch = decode_sketch(&[3, 1, 1_000_000, 9, u64::MAX, 9, 4], 3);
        assert_eq!(sketch.count(), 1);
        let short = SeriesCounters {
            answers: vec![1; 9],
            ..SeriesCounters::new(&(SeriesName::Group { service: "a".into(), group: "b".into() }), &totals())
        };
        assert_eq!(short.totals().answers, [1; CLASSES]);
    }
}
