//! What is counted of requests, and under which names: a route, an endpoint group, an instance.
//!
//! Counts only grow. Names come and go with route tables; [`SeriesName::folded`] says under which broader name the
//! counts of one that is gone are kept, so that sums stay right and the number of names is bounded.
//! Nothing is counted here: proxies do that, and the agent adds them up.

use crate::sketch::Sketch;

/// Stands for all names of a kind that have none of their own: paths that match no template, names over a limit, names
/// that are gone.
pub const OTHER: &str = "other";
/// Sorts of answers: none, then by the first digit of the status.
pub const CLASSES: usize = 6;

/// What is counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SeriesName {
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
        /// The template, or [`OTHER`].
        group: String,
    },
    /// Requests answered by one instance, or for it.
    Instance {
        /// Service.
        service: String,
        /// Release; empty with `instance` for requests that found no endpoint.
        release: String,
        /// Instance; empty for those of the release that are gone.
        instance: String,
    },
}

impl SeriesName {
    /// The broader name that takes the counts when this one is gone; `None` when there is none broader.
    pub fn folded(&self) -> Option<Self> {
        let other = || OTHER.to_owned();
        match self {
            Self::Route { listener, route } if route != OTHER => {
                Some(Self::Route { listener: listener.clone(), route: other() })
            }
            Self::Group { service, group } if group != OTHER => {
                Some(Self::Group { service: service.clone(), group: other() })
            }
            Self::Instance { service, release, instance } if !instance.is_empty() => {
                let (service, release) = (service.clone(), release.clone());
                Some(Self::Instance { service, release, instance: String::new() })
            }
            Self::Instance { service, release, .. } if !release.is_empty() && release != OTHER => {
                Some(Self::Instance { service: service.clone(), release: other(), instance: String::new() })
            }
            Self::Route { .. } | Self::Group { .. } | Self::Instance { .. } => None,
        }
    }
}

/// Which sort of answer a status is, as an index below [`CLASSES`].
pub fn class(status: u16) -> usize {
    usize::from(status / 100).min(CLASSES - 1)
}

/// What was counted under one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeriesTotals {
    /// Requests by sort of answer; the first got none.
    pub answers: [u64; CLASSES],
    /// Bytes of request bodies.
    pub bytes_in: u64,
    /// Bytes of response bodies.
    pub bytes_out: u64,
    /// Attempts after which another was made.
    pub retries: u64,
    /// Answers that broke off because of the instance, and requests lost on a connection that was used before.
    pub failures: u64,
    /// From the request's head to the end of its answer; tunnels have none.
    pub latency: Sketch,
    /// Of instances only: from the beginning of the attempt to the answer's head.
    pub first_byte: Sketch,
}

impl SeriesTotals {
    /// Adds all of another one.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.answers.iter_mut().zip(other.answers) {
            *sum = sum.saturating_add(more);
        }
        self.bytes_in = self.bytes_in.saturating_add(other.bytes_in);
        self.bytes_out = self.bytes_out.saturating_add(other.bytes_out);
        self.retries = self.retries.saturating_add(other.retries);
        self.failures = self.failures.saturating_add(other.failures);
        self.latency.merge(&other.latency);
        self.first_byte.merge(&other.first_byte);
    }

    /// Requests, with or without an answer.
    pub fn requests(&self) -> u64 {
        self.answers.iter().sum()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.requests() == 0 && self.retries == 0 && self.failures == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_folds_into_a_broader_one_until_there_is_none() {
        let text = |text: &str| text.to_owned();
        let mut name = SeriesName::Instance {
            service: text("web"),
            release: text("1.4.1"),
            instance: text("web@1.4.1/0"),
        };
        let mut steps = 0;
        while let Some(broader) = name.folded() {
            assert_ne!(broader, name);
            name = broader;
            steps += 1;
        }
        assert_eq!(steps, 2);
        let unplaced =
            SeriesName::Instance { service: text("web"), release: String::new(), instance: String::new() };
        assert_eq!(unplaced.folded(), None);
        let group = SeriesName::Group { service: text("web"), group: text("/a") };
        assert_eq!(group.folded().and_then(|group| group.folded()), None);
    }

    #[test]
    fn statuses_fall_into_six_classes() {
        assert_eq!([0, 101, 200, 304, 499, 503, 999].map(class), [0, 1, 2, 3, 4, 5, 5]);
    }

    #[test]
    fn totals_add_up() {
        let mut one = SeriesTotals { retries: 1, ..SeriesTotals::default() };
        one.answers[2] = 3;
        one.latency.record_micros(7);
        let mut sum = one.clone();
        sum.add(&one);
        assert_eq!((sum.requests(), sum.retries, sum.latency.count()), (6, 2, 2));
        assert!(!sum.is_empty() && SeriesTotals::default().is_empty());
    }
}
