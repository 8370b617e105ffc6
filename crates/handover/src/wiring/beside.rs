//! What is shown beside what the control plane knows: what instances use, what is in flight, what was counted.

use std::collections::BTreeMap;

use admin::api::{StatusReport, TrafficReport};
use agent::measured::Measured;
use agent::world::Event;
use drivers::usage::Samples;

/// Kept next to the agent's loop.
#[derive(Debug, Default)]
pub(super) struct Beside {
    usage: Samples,
    in_flight: InFlight,
    measured: Measured,
}

/// Requests in flight by the last report of each living proxy, by service.
#[derive(Debug, Default)]
struct InFlight(BTreeMap<u64, BTreeMap<String, u64>>);

impl Beside {
    pub(super) fn new(usage: Samples) -> Self {
        Self { usage, in_flight: InFlight::default(), measured: Measured::default() }
    }

    /// Listens to what goes to the control plane.
    pub(super) fn hear(&mut self, event: &Event) {
        self.in_flight.hear(event);
        self.measured.hear(event);
    }

    /// What the proxies counted.
    pub(super) fn traffic(&self) -> TrafficReport {
        super::traffic::report(&self.measured)
    }

    /// The status with it.
    pub(super) fn complete(&self, mut status: StatusReport) -> StatusReport {
        for (name, service) in &mut status.services {
            // What a worker does is not seen.
            service.in_flight = service.requests_total.map(|_| self.in_flight.of(name));
            for instance in service.instances.iter_mut().filter(|instance| instance.pid.is_some()) {
                let sample = instance.id.parse().ok().and_then(|id| self.usage.of(&id));
                // A look is not exact: more digits would only look so.
                let percent = sample.and_then(|sample| sample.cpu_percent);
                instance.cpu_percent = percent.map(|percent| (percent * 10.0).round() / 10.0);
                instance.memory_bytes = sample.map(|sample| sample.memory_bytes);
            }
        }
        status
    }
}

impl InFlight {
    fn hear(&mut self, event: &Event) {
        if let Event::Counters { proxy, counters } = event {
            let by_service = self.0.entry(*proxy).or_default();
            by_service.clear();
            for release in &counters.releases {
                *by_service.entry(release.service.clone()).or_default() += release.in_flight;
            }
        } else if let Event::ProxyGone { generation } = event {
            self.0.remove(generation);
        }
    }

    fn of(&self, service: &str) -> u64 {
        self.0.values().filter_map(|by_service| by_service.get(service)).sum()
    }
}

#[cfg(test)]
mod tests {
    use wire::traffic::{Counters, ReleaseCounters};

    use super::*;

    fn counters(proxy: u64, in_flight: &[u64]) -> Event {
        let release = |in_flight: &u64| ReleaseCounters {
            service: "web".into(),
            in_flight: *in_flight,
            ..ReleaseCounters::default()
        };
        let releases = in_flight.iter().map(release).collect();
        Event::Counters { proxy, counters: Box::new(Counters { releases, ..Counters::default() }) }
    }

    #[test]
    fn what_is_in_flight_is_the_sum_over_living_proxies_and_releases() {
        let mut in_flight = InFlight::default();
        in_flight.hear(&counters(1, &[2, 3]));
        in_flight.hear(&counters(2, &[4]));
        in_flight.hear(&counters(1, &[1, 1]));
        assert_eq!((in_flight.of("web"), in_flight.of("other")), (6, 0));
        in_flight.hear(&Event::ProxyGone { generation: 2 });
        assert_eq!(in_flight.of("web"), 2);
    }
}
