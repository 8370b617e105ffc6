//! How fast and how well each version and each endpoint group of a service answered between two looks.

use std::collections::BTreeMap;
use std::time::Duration;

use admin::api::{SeriesReport, TrafficReport};
use model::series::SeriesTotals;
use serde::Serialize;

use crate::cli::render::{Cell, Style, Table};

/// Requests of one kind between two looks.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Share {
    pub(super) requests_per_second: f64,
    /// Answered 5xx, of all that were answered.
    pub(super) error_percent: Option<f64>,
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

/// A share and what it is of.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Named {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) share: Share,
}

/// The shares of one service.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Shares {
    #[serde(flatten)]
    pub(super) all: Latency,
    pub(super) versions: Vec<Named>,
    pub(super) groups: Vec<Named>,
}

/// How long the requests of a service took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Latency {
    pub(super) p50_ms: Option<f64>,
    pub(super) p95_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

/// Totals by name.
type Counted = BTreeMap<String, SeriesTotals>;

fn counted<'a>(named: impl Iterator<Item = (&'a String, &'a SeriesReport)>) -> Counted {
    let mut sums = Counted::new();
    for (name, counts) in named {
        sums.entry(name.clone()).or_default().add(&counts.into());
    }
    sums
}

fn versions(traffic: &TrafficReport, service: &str) -> Counted {
    let of_it = traffic.instances.iter().filter(|one| one.service == service);
    counted(of_it.map(|one| (&one.version, &one.counts)))
}

fn groups(traffic: &TrafficReport, service: &str) -> Counted {
    let of_it = traffic.groups.iter().filter(|one| one.service == service);
    counted(of_it.map(|one| (&one.group, &one.counts)))
}

fn since(now: &SeriesTotals, before: Option<&SeriesTotals>) -> SeriesTotals {
    let none = SeriesTotals::default();
    let before = before.unwrap_or(&none);
    SeriesTotals {
        answers: std::array::from_fn(|at| now.answers[at].saturating_sub(before.answers[at])),
        latency: now.latency.since(&before.latency),
        ..none
    }
}

fn share(totals: &SeriesTotals, between: Duration) -> Share {
    // Counts are far below where a double would lose ones.
    let per_second = |count: u64| round(count as f64 / between.as_secs_f64().max(0.001));
    let answered: u64 = totals.answers[1..].iter().sum();
    let errors = (answered > 0).then(|| round(totals.answers[5] as f64 * 100.0 / answered as f64));
    let Latency { p50_ms, p95_ms, p99_ms } = latency(totals);
    Share {
        requests_per_second: per_second(totals.requests()),
        error_percent: errors,
        p50_ms,
        p95_ms,
        p99_ms,
    }
}

fn latency(totals: &SeriesTotals) -> Latency {
    let ms = |quantile| totals.latency.quantile(quantile).map(|micros| round(micros / 1_000.0));
    Latency { p50_ms: ms(0.5), p95_ms: ms(0.95), p99_ms: ms(0.99) }
}

/// More digits would only look exact.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// What came of `service` between two looks.
pub(super) fn shares(
    before: &TrafficReport,
    now: &TrafficReport,
    between: Duration,
    service: &str,
) -> Shares {
    // Another agent may count from another start.
    let nothing = TrafficReport::default();
    let before = if before.agent == now.agent { before } else { &nothing };
    let named = |now: Counted, before: &Counted| -> (Vec<Named>, SeriesTotals) {
        let mut all = SeriesTotals::default();
        let mut shares = Vec::new();
        for (name, totals) in now {
            let new = since(&totals, before.get(&name));
            all.add(&new);
            if !new.is_empty() {
                shares.push(Named { name, share: share(&new, between) });
            }
        }
        (shares, all)
    };
    let (versions, all) = named(versions(now, service), &versions(before, service));
    let (groups, _) = named(groups(now, service), &groups(before, service));
    Shares { all: latency(&all), versions, groups }
}

/// Milliseconds with as many digits as say something.
pub(super) fn ms(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value < 10.0 => format!("{value:.2} ms"),
        Some(value) if value < 100.0 => format!("{value:.1} ms"),
        Some(value) if value < 10_000.0 => format!("{value:.0} ms"),
        Some(value) => format!("{:.1} s", value / 1_000.0),
    }
}

/// The table of versions and endpoint groups; empty without any.
pub(super) fn table<'a>(services: impl Iterator<Item = (&'a str, &'a Shares)>, colour: bool) -> String {
    let mut table = Table::new(&["SERVICE", "VERSION OR PATHS", "REQ/S", "ERRORS", "P50", "P95", "P99"]);
    let mut is_empty = true;
    for (service, shares) in services {
        for Named { name, share } in shares.versions.iter().chain(&shares.groups) {
            is_empty = false;
            let fails = share.error_percent.is_some_and(|percent| percent > 0.0);
            let errors = share.error_percent.map_or("-".to_owned(), |percent| format!("{percent:.1} %"));
            table.row([
                Cell::new(service, Style::Bold),
                Cell::new(if name.is_empty() { "(no instance)" } else { name }, Style::Plain),
                format!("{:.1}", share.requests_per_second).into(),
                Cell::new(errors, if fails { Style::Red } else { Style::Plain }),
                ms(share.p50_ms).into(),
                ms(share.p95_ms).into(),
                ms(share.p99_ms).into(),
            ]);
        }
    }
    if is_empty { String::new() } else { table.render(colour) }
}

#[cfg(test)]
mod tests {
    use admin::api::{GroupTraffic, InstanceTraffic};

    use super::*;

    fn traffic(agent: u32, fast: u64, failed: u64) -> TrafficReport {
        let mut totals = SeriesTotals { answers: [0, 0, fast, 0, 0, failed], ..SeriesTotals::default() };
        (0..fast).for_each(|_| totals.latency.record_micros(2_000));
        (0..failed).for_each(|_| totals.latency.record_micros(90_000));
        let counts = SeriesReport::from(&totals);
        let service = || "web".to_owned();
        TrafficReport {
            agent,
            groups: vec![GroupTraffic {
                service: service(),
                group: "/a/{id}".into(),
                counts: counts.clone(),
            }],
            instances: vec![InstanceTraffic {
                service: service(),
                version: "1".into(),
                instance: "web@1/0".into(),
                counts,
            }],
            ..TrafficReport::default()
        }
    }

    #[test]
    fn quantiles_and_errors_are_of_the_time_between_two_looks() {
        let shares = shares(&traffic(7, 100, 50), &traffic(7, 280, 70), Duration::from_secs(2), "web");
        assert_eq!(
            table([("web", &shares)].into_iter(), false),
            "\
SERVICE  VERSION OR PATHS  REQ/S  ERRORS  P50      P95      P99
web      1                 100.0  10.0 %  2.00 ms  89.1 ms  89.1 ms
web      /a/{id}           100.0  10.0 %  2.00 ms  89.1 ms  89.1 ms
"
        );
        assert_eq!(shares.all.p50_ms, shares.groups[0].share.p50_ms);
    }

    #[test]
    fn another_agent_counts_from_its_own_start_and_no_traffic_is_no_row() {
        let anew = shares(&traffic(7, 100, 50), &traffic(8, 10, 0), Duration::from_secs(1), "web");
        assert_eq!(anew.versions[0].share.requests_per_second, 10.0);
        let quiet = shares(&traffic(7, 1, 0), &traffic(7, 1, 0), Duration::from_secs(1), "web");
        assert_eq!(table([("web", &quiet)].into_iter(), false), "");
    }
}
