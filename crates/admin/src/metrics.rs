//! `/metrics`: what the status says and what the proxies counted, as Prometheus text.
//!
//! Names and labels are a promise like those of the status. Sums over labels are left to who reads it, but for those
//! over instances: a version's counts stay when its instances are gone.

mod text;

use std::collections::BTreeMap;

use model::series::SeriesTotals;

use crate::api::{InstanceReport, SeriesReport, ServiceReport, ServiceTraffic, StatusReport, TrafficReport};
use text::{Labels, Text};

/// Content type of the text format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `answers` are called in the label `code`.
const CODES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

pub(crate) fn render(status: &StatusReport, traffic: &TrafficReport) -> String {
    let mut text = Text::default();
    processes(&mut text, status);
    services(&mut text, &status.services);
    service_traffic(&mut text, &traffic.services);
    listeners(&mut text, traffic);
    let routes = traffic.routes.iter();
    let routes: Vec<_> =
        routes.map(|one| ([("listener", &*one.listener), ("route", &*one.route)], &one.counts)).collect();
    counted(&mut text, &ROUTE, &routes);
    let groups = traffic.groups.iter();
    let groups: Vec<_> =
        groups.map(|one| ([("service", &*one.service), ("group", &*one.group)], &one.counts)).collect();
    counted(&mut text, &GROUP, &groups);
    versions(&mut text, traffic);
    let instances = traffic.instances.iter().filter(|one| !one.instance.is_empty());
    let instances: Vec<_> = instances
        .map(|one| {
            let labels =
                [("service", &*one.service), ("version", &*one.version), ("instance", &*one.instance)];
            (labels, &one.counts)
        })
        .collect();
    counted(&mut text, &INSTANCE, &instances);
    text.family(
        "handover_instance_first_byte_seconds",
        "histogram",
        "From the beginning of an attempt to the head of the instance's answer.",
    );
    for (labels, counts) in &instances {
        text.histogram(labels, &(&counts.first_byte).into());
    }
    let left_out = text.left_out;
    text.family("handover_metrics_left_out", "gauge", "Samples left out here because there are too many.");
    text.sample(&[], left_out);
    text.into_string()
}

fn processes(text: &mut Text, status: &StatusReport) {
    text.family("handover_up", "gauge", "The agent answers.");
    text.sample(&[], 1);
    text.family("handover_build_info", "gauge", "Version of the agent's binary.");
    text.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.family("handover_proxy_generation", "gauge", "Which start of the proxy serves.");
    let proxy = status.processes.proxy.as_ref();
    text.sample(&[], proxy.map_or(0, |proxy| proxy.generation));
    text.family("handover_proxies_draining", "gauge", "Former proxies that finish what they have.");
    text.sample(&[], proxy.map_or(0, |proxy| proxy.draining.len()));
}

fn services(text: &mut Text, services: &BTreeMap<String, ServiceReport>) {
    let mut per = |name, kind, help, value: &dyn Fn(&ServiceReport) -> Option<u64>| {
        text.family(name, kind, help);
        for (service, report) in services {
            if let Some(value) = value(report) {
                text.sample(&[("service", service)], value);
            }
        }
    };
    let count = |service: &ServiceReport, counts: fn(&InstanceReport) -> bool| {
        service.instances.iter().filter(|instance| counts(instance)).count() as u64
    };
    per("handover_instances", "gauge", "Instances with a process.", &|service| {
        Some(count(service, |instance| instance.pid.is_some()))
    });
    per("handover_instances_ready", "gauge", "Instances that are ready.", &|service| {
        Some(count(service, |instance| instance.state == "ready"))
    });
    per(
        "handover_instances_wanted",
        "gauge",
        "Instances of the stable release that should be.",
        &|service| service.instances_wanted.map(u64::from),
    );
    per("handover_instance_restarts", "gauge", "Restarts of living slots.", &|service| {
        Some(service.instances.iter().map(|instance| u64::from(instance.restarts)).sum())
    });
    per("handover_in_flight", "gauge", "Requests being answered.", &|service| service.in_flight);
    per("handover_memory_bytes", "gauge", "Memory of the instances' process trees.", &|service| {
        service.instances.iter().filter_map(|instance| instance.memory_bytes).reduce(|a, b| a + b)
    });
    per("handover_rollout_running", "gauge", "A rollout runs or bakes.", &|service| {
        Some(u64::from(service.rollout.is_some()))
    });
    per("handover_requests_total", "counter", "Requests answered.", &|service| service.requests_total);
    per("handover_errors_total", "counter", "Requests answered 5xx.", &|service| service.errors_total);
}

fn service_traffic(text: &mut Text, services: &BTreeMap<String, ServiceTraffic>) {
    let mut per = |name: &'static str, help, value: fn(&ServiceTraffic) -> u64| {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        text.family(name, kind, help);
        for (service, traffic) in services {
            text.sample(&[("service", service)], value(traffic));
        }
    };
    per("handover_retries_total", "Attempts that were tried again.", |service| service.retried_total);
    per("handover_held_total", "Requests that waited because no instance served.", |service| {
        service.held_total
    });
    per("handover_failures_total", "Answers that broke off, and requests lost on the way.", |service| {
        service.failed_total
    });
    per("handover_queued_total", "Requests that waited for a slot of an instance.", |service| {
        service.queued_total
    });
    per("handover_queue_length", "Requests that wait for a slot of an instance now.", |service| {
        service.waiting
    });
    per("handover_ejections_total", "Times an instance was ejected, on any thread of a proxy.", |service| {
        service.ejected_total
    });
    per("handover_instances_ejected", "Instances that are ejected now.", |service| service.ejected);
}

fn listeners(text: &mut Text, traffic: &TrafficReport) {
    let mut per = |name, kind, help, value: fn(&crate::api::ListenerTraffic) -> u64| {
        text.family(name, kind, help);
        for (listener, traffic) in &traffic.listeners {
            text.sample(&[("listener", listener)], value(traffic));
        }
    };
    per("handover_listener_connections", "gauge", "Open client connections.", |one| one.connections);
    per("handover_listener_tunnels", "gauge", "Of these, tunnels.", |one| one.tunnels);
    per("handover_listener_accepted_total", "counter", "Client connections accepted.", |one| {
        one.accepted_total
    });
    per("handover_listener_handshakes_total", "counter", "TLS handshakes that were done.", |one| {
        one.handshakes_total
    });
    per(
        "handover_listener_handshakes_resumed_total",
        "counter",
        "Of these, such as went on from an earlier session.",
        |one| one.handshakes_resumed_total,
    );
    per("handover_listener_handshake_failures_total", "counter", "TLS handshakes that failed.", |one| {
        one.handshakes_failed_total
    });
    per("handover_listener_refused_total", "counter", "Requests refused before a route was known.", |one| {
        one.refused_total
    });
    text.family(
        "handover_certificate_not_after_seconds",
        "gauge",
        "When the certificate for that name ends, in seconds since 1970.",
    );
    for one in &traffic.certificates {
        text.sample(&[("listener", &one.listener), ("name", &one.name)], one.not_after_ms / 1_000);
    }
    text.family(
        "handover_access_log_dropped_total",
        "counter",
        "Lines of the access log dropped because the disk was behind.",
    );
    text.sample(&[], traffic.log_lines_dropped_total);
}

/// Names of the families of one kind of series.
struct Families {
    requests: &'static str,
    duration: &'static str,
    received: &'static str,
    sent: &'static str,
    retries: &'static str,
    failures: &'static str,
}

const ROUTE: Families = Families {
    requests: "handover_route_requests_total",
    duration: "handover_route_duration_seconds",
    received: "handover_route_received_bytes_total",
    sent: "handover_route_sent_bytes_total",
    retries: "handover_route_retries_total",
    failures: "handover_route_failures_total",
};
const GROUP: Families = Families {
    requests: "handover_group_requests_total",
    duration: "handover_group_duration_seconds",
    received: "handover_group_received_bytes_total",
    sent: "handover_group_sent_bytes_total",
    retries: "handover_group_retries_total",
    failures: "handover_group_failures_total",
};
const VERSION: Families = Families {
    requests: "handover_version_requests_total",
    duration: "handover_version_duration_seconds",
    received: "handover_version_received_bytes_total",
    sent: "handover_version_sent_bytes_total",
    retries: "handover_version_retries_total",
    failures: "handover_version_failures_total",
};
const INSTANCE: Families = Families {
    requests: "handover_instance_requests_total",
    duration: "handover_instance_duration_seconds",
    received: "handover_instance_received_bytes_total",
    sent: "handover_instance_sent_bytes_total",
    retries: "handover_instance_retries_total",
    failures: "handover_instance_failures_total",
};

fn counted<const N: usize>(
    text: &mut Text,
    families: &Families,
    series: &[([(&str, &str); N], &SeriesReport)],
) {
    text.family(families.requests, "counter", "Requests by the first digit of what was answered.");
    for (labels, counts) in series {
        for (code, count) in CODES.iter().zip(counts.answers).filter(|(_, count)| *count > 0) {
            let with_code: Vec<_> = labels.iter().copied().chain([("code", *code)]).collect();
            text.sample(&with_code, count);
        }
    }
    text.family(families.duration, "histogram", "From a request's head to the end of its answer.");
    for (labels, counts) in series {
        text.histogram(labels, &(&counts.latency).into());
    }
    let mut total = |name, help, value: fn(&SeriesReport) -> u64| {
        text.family(name, "counter", help);
        for (labels, counts) in series {
            let labels: Labels<'_> = labels;
            text.sample(labels, value(counts));
        }
    };
    total(families.received, "Bytes of request bodies.", |counts| counts.bytes_in);
    total(families.sent, "Bytes of response bodies.", |counts| counts.bytes_out);
    total(families.retries, "Attempts after which another was made.", |counts| counts.retries);
    total(families.failures, "Answers that broke off, and requests lost on the way.", |counts| {
        counts.failures
    });
}

fn versions(text: &mut Text, traffic: &TrafficReport) {
    let mut sums: BTreeMap<(&str, &str), SeriesTotals> = BTreeMap::new();
    for one in &traffic.instances {
        sums.entry((&one.service, &one.version)).or_default().add(&(&one.counts).into());
    }
    let sums: Vec<_> = sums.iter().map(|(name, totals)| (*name, SeriesReport::from(totals))).collect();
    let series: Vec<_> = sums
        .iter()
        .map(|((service, version), counts)| ([("service", *service), ("version", *version)], counts))
        .collect();
    counted(text, &VERSION, &series);
}
