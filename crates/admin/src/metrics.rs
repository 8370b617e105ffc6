//! `/metrics`: what the status says, as Prometheus text.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::api::{ServiceReport, StatusReport};

/// Content type of the text format.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(crate) fn render(status: &StatusReport) -> String {
    let mut text = String::new();
    family(&mut text, "handover_up", "gauge", "The agent answers.");
    text.push_str("handover_up 1\n");
    let services = &status.services;
    per_service(&mut text, services, "handover_instances", "gauge", "Instances with a process.", |service| {
        Some(count(service, |instance| instance.pid.is_some()))
    });
    per_service(
        &mut text,
        services,
        "handover_instances_ready",
        "gauge",
        "Instances that are ready.",
        |service| Some(count(service, |instance| instance.state == "ready")),
    );
    per_service(
        &mut text,
        services,
        "handover_instance_restarts",
        "gauge",
        "Restarts of living slots.",
        |service| Some(service.instances.iter().map(|instance| u64::from(instance.restarts)).sum()),
    );
    per_service(&mut text, services, "handover_in_flight", "gauge", "Requests being answered.", |service| {
        service.in_flight
    });
    per_service(
        &mut text,
        services,
        "handover_memory_bytes",
        "gauge",
        "Memory of the instances' process trees.",
        |service| service.instances.iter().filter_map(|instance| instance.memory_bytes).reduce(|a, b| a + b),
    );
    per_service(
        &mut text,
        services,
        "handover_rollout_running",
        "gauge",
        "A rollout runs or bakes.",
        |service| Some(u64::from(service.rollout.is_some())),
    );
    per_service(&mut text, services, "handover_requests_total", "counter", "Requests answered.", |service| {
        service.requests_total
    });
    per_service(
        &mut text,
        services,
        "handover_errors_total",
        "counter",
        "Requests answered 5xx.",
        |service| service.errors_total,
    );
    text
}

fn count(service: &ServiceReport, counts: impl Fn(&crate::api::InstanceReport) -> bool) -> u64 {
    service.instances.iter().map(|instance| u64::from(counts(instance))).sum()
}

fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}").expect("invariant: a String takes all");
}

fn per_service(
    text: &mut String,
    services: &BTreeMap<String, ServiceReport>,
    name: &str,
    kind: &str,
    help: &str,
    value: impl Fn(&ServiceReport) -> Option<u64>,
) {
    family(text, name, kind, help);
    for (service, report) in services {
        if let Some(value) = value(report) {
            // Names of services have no character that would need escaping.
            writeln!(text, "{name}{{service=\"{service}\"}} {value}").expect("invariant: a String takes all");
        }
    }
}
