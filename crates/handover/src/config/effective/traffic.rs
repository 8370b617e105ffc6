//! What holds of requests, as lines of TOML.

use model::manifest::{
    AccessLog, AccessLogFormat, Algorithm, Balance, Certificate, Fronted, HashKey, Outlier, Place, Retry,
    RouteShare, Sticky, Traffic, Upstream,
};

use super::super::defaults as default;
use super::super::raw;
use super::super::units::{show_decimal, show_duration, show_percent};
use super::{Section, list, numbers, path, text};

pub(super) fn access_log(held: Option<&AccessLog>) -> String {
    let Some(held) = held else { return "false".to_owned() };
    let format = match held.format {
        AccessLogFormat::Json => "json",
        AccessLogFormat::Combined => "combined",
    };
    let sample = show_percent(u32::from(held.sample));
    format!("{{ format = {}, sample = {}, query = {} }}", text(format), text(sample), held.query)
}

pub(super) fn certificates(held: &[Certificate]) -> Option<String> {
    let one = |files: &Certificate| {
        format!("{{ certificate = {}, key = {} }}", path(&files.certificate), path(&files.key))
    };
    match held {
        [] => None,
        [files] => Some(one(files)),
        all => Some(format!("[{}]", all.iter().map(one).collect::<Vec<_>>().join(", "))),
    }
}

pub(super) fn shares(held: &[RouteShare]) -> String {
    let one =
        |share: &RouteShare| format!("{{ service = {}, weight = {} }}", text(&share.service), share.weight);
    format!("[{}]", held.iter().map(one).collect::<Vec<_>>().join(", "))
}

pub(super) fn sticky(held: &Sticky) -> String {
    match held {
        Sticky::Cookie { name, max_age } => {
            format!("{{ cookie = {}, max_age = {} }}", text(name), text(show_duration(*max_age)))
        }
        Sticky::Header { name } => format!("{{ header = {} }}", text(name)),
    }
}

/// Keys of the service's own table. A page is not repeated: its path is what the file says.
pub(super) fn keys(section: Section, held: &Traffic, raw: &raw::Service) -> Section {
    let page = raw.maintenance.get().and_then(|given| given.page.get());
    let maintenance = held.maintenance.as_ref().map(|held| {
        let page = page.map_or_else(String::new, |page| format!("page = {}, ", text(&page.0)));
        let retry_after = text(show_duration(held.retry_after));
        format!("{{ on = {}, {page}retry_after = {retry_after} }}", held.on)
    });
    section.with("paths", list(&held.paths), Some(&raw.paths)).with_if(
        "maintenance",
        maintenance,
        Some(&raw.maintenance),
    )
}

/// Tables below the service's own.
pub(super) fn sections(name: &str, held: &Traffic, raw: &raw::Service, sections: &mut Vec<Section>) {
    sections.push(upstream(name, &held.upstream, raw.upstream.get()));
    sections.push(retry(name, &held.retry, raw.retry.get()));
    sections.push(balance(name, &held.balance, raw.balance.get()));
    sections.push(outlier(name, held.outlier.as_ref(), raw.outlier.get()));
}

/// A service of which only the endpoints are known.
pub(super) fn fronted(name: &str, held: &Fronted, raw: &raw::Service, sections: &mut Vec<Section>) {
    let place = |place: &Place| match place.weight {
        default::WEIGHT => text(&place.address),
        weight => format!("{{ address = {}, weight = {weight} }}", text(&place.address)),
    };
    let places: Vec<String> = held.endpoints.iter().map(place).collect();
    let section = Section::new(format!("[service.{name}]"));
    let section = section.with("endpoints", format!("[{}]", places.join(", ")), Some(&raw.endpoints));
    sections.push(keys(section, &held.traffic, raw));
    if let Some(probe) = &held.probe {
        let given = raw.readiness.get();
        let section = Section::new(format!("[service.{name}.readiness]"));
        let section = match &probe.http_path {
            Some(path) => section.with("http", text(path), given.map(|g| &g.http)),
            None => section.with("tcp", "true", given.map(|g| &g.tcp)),
        };
        sections.push(
            section
                .with("interval", text(show_duration(probe.interval)), given.map(|g| &g.interval))
                .with("timeout", text(show_duration(probe.timeout)), given.map(|g| &g.timeout))
                .with("rise", probe.rise.to_string(), given.map(|g| &g.rise))
                .with("fall", probe.fall.to_string(), given.map(|g| &g.fall)),
        );
    }
    self::sections(name, &held.traffic, raw, sections);
}

fn upstream(name: &str, held: &Upstream, given: Option<&raw::Upstream>) -> Section {
    Section::new(format!("[service.{name}.upstream]"))
        .with("connect_timeout", text(show_duration(held.connect_timeout)), given.map(|g| &g.connect_timeout))
        .with(
            "response_timeout",
            text(show_duration(held.response_timeout)),
            given.map(|g| &g.response_timeout),
        )
        .with("idle_reuse", text(show_duration(held.idle_reuse)), given.map(|g| &g.idle_reuse))
        .with("request_timeout", text(show_duration(held.request_timeout)), given.map(|g| &g.request_timeout))
        .with(
            "tunnel_idle_timeout",
            text(show_duration(held.tunnel_idle_timeout)),
            given.map(|g| &g.tunnel_idle_timeout),
        )
}

fn retry(name: &str, held: &Retry, given: Option<&raw::Retry>) -> Section {
    Section::new(format!("[service.{name}.retry]"))
        .with("attempts", held.attempts.to_string(), given.map(|g| &g.attempts))
        .with("budget", text(show_percent(held.budget_percent * 100)), given.map(|g| &g.budget))
        .with("statuses", numbers(&held.statuses), given.map(|g| &g.statuses))
        .with("non_idempotent", held.non_idempotent.to_string(), given.map(|g| &g.non_idempotent))
}

fn balance(name: &str, held: &Balance, given: Option<&raw::Balance>) -> Section {
    let (algorithm, hash) = match &held.algorithm {
        Algorithm::LeastRequests => ("least-requests", None),
        Algorithm::RoundRobin => ("round-robin", None),
        Algorithm::Hash(HashKey::Header(name)) => ("hash", Some(format!("{{ header = {} }}", text(name)))),
        Algorithm::Hash(HashKey::Cookie(name)) => ("hash", Some(format!("{{ cookie = {} }}", text(name)))),
        Algorithm::Hash(HashKey::Source) => ("hash", Some("{ source = true }".to_owned())),
    };
    Section::new(format!("[service.{name}.balance]"))
        .with("algorithm", text(algorithm), given.map(|g| &g.algorithm))
        .with_if("hash", hash, given.map(|g| &g.hash))
        .with("slow_start", text(show_duration(held.slow_start)), given.map(|g| &g.slow_start))
        .with("requests_max", held.requests_max.to_string(), given.map(|g| &g.requests_max))
        .with("queue_max", held.queue_max.to_string(), given.map(|g| &g.queue_max))
        .with("queue_timeout", text(show_duration(held.queue_timeout)), given.map(|g| &g.queue_timeout))
        .with("panic", text(show_percent(held.panic_percent * 100)), given.map(|g| &g.panic))
}

fn outlier(name: &str, held: Option<&Outlier>, given: Option<&raw::Outlier>) -> Section {
    let section = Section::new(format!("[service.{name}.outlier]")).with(
        "enabled",
        held.is_some().to_string(),
        given.map(|g| &g.enabled),
    );
    let Some(held) = held else { return section };
    section
        .with("consecutive_errors", held.consecutive_errors.to_string(), given.map(|g| &g.consecutive_errors))
        .with("interval", text(show_duration(held.interval)), given.map(|g| &g.interval))
        .with("base_ejection", text(show_duration(held.base_ejection)), given.map(|g| &g.base_ejection))
        .with("max_ejection", text(show_duration(held.max_ejection)), given.map(|g| &g.max_ejection))
        .with(
            "max_ejected",
            text(show_percent(held.max_ejected_percent * 100)),
            given.map(|g| &g.max_ejected),
        )
        .with(
            "success_rate_stdev",
            text(show_decimal(held.success_rate_stdev_milli, 3)),
            given.map(|g| &g.success_rate_stdev),
        )
        .with(
            "success_rate_requests",
            held.success_rate_requests.to_string(),
            given.map(|g| &g.success_rate_requests),
        )
        .with(
            "success_rate_endpoints",
            held.success_rate_endpoints.to_string(),
            given.map(|g| &g.success_rate_endpoints),
        )
}
