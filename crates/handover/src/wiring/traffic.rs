//! From what the proxies counted to the admin API's body of it.

use admin::api;
use agent::measured::Measured;
use model::series::SeriesName;

/// All of it.
pub(super) fn report(measured: &Measured) -> api::TrafficReport {
    let base = measured.base();
    let mut report = api::TrafficReport {
        agent: host::process::current_pid(),
        log_lines_dropped_total: base.log_lines_dropped,
        ..api::TrafficReport::default()
    };
    for (name, listener) in base.listeners {
        let traffic = api::ListenerTraffic {
            connections: listener.connections,
            tunnels: listener.tunnels,
            accepted_total: listener.accepted,
            handshakes_total: listener.handshakes,
            handshakes_resumed_total: listener.handshakes_resumed,
            handshakes_failed_total: listener.handshakes_failed,
            refused_total: listener.refused,
        };
        report.listeners.insert(name, traffic);
    }
    for ((listener, name), not_after_ms) in base.certificates {
        report.certificates.push(api::CertificateInUse { listener, name, not_after_ms });
    }
    for ((service, _), release) in base.releases {
        let traffic = report.services.entry(service).or_default();
        traffic.in_flight += release.in_flight;
        traffic.retried_total += release.retried;
        traffic.held_total += release.held;
        traffic.queued_total += release.queued;
        traffic.waiting += release.waiting;
        traffic.ejected_total += release.ejected;
        traffic.ejected += release.ejected_now;
        traffic.failed_total += release.failed + release.lost_on_reuse;
    }
    for (name, totals) in measured.series() {
        let counts = api::SeriesReport::from(&totals);
        match name {
            SeriesName::Route { listener, route } => {
                report.routes.push(api::RouteTraffic { listener, route, counts });
            }
            SeriesName::Group { service, group } => {
                report.groups.push(api::GroupTraffic { service, group, counts });
            }
            SeriesName::Instance { service, release, instance } => {
                report.instances.push(api::InstanceTraffic { service, version: release, instance, counts });
            }
        }
    }
    report
}
