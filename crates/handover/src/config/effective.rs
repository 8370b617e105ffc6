//! What holds: every value of a checked manifest as the line of TOML that would say it, and whether it was said.

use model::manifest as checked;
use model::manifest::{HostPattern, ReadinessCheck, RestartPolicy, StopSignal, Strategy};

use super::raw;
use super::read::{Given, Named};
use super::units::{show_duration, show_ports, show_size};

/// A table and its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    /// `[listener.web]`; empty for the top level.
    pub(crate) header: String,
    /// Its keys.
    pub(crate) lines: Vec<Line>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// Its name.
    pub(crate) key: &'static str,
    /// What holds, as TOML.
    pub(crate) value: String,
    /// Nobody wrote it.
    pub(crate) is_default: bool,
}

impl Section {
    fn new(header: impl Into<String>) -> Self {
        Self { header: header.into(), lines: Vec::new() }
    }

    /// Adds a key; it is a default where `given` is absent, or the whole table is.
    fn with<T>(mut self, key: &'static str, value: impl Into<String>, given: Option<&Given<T>>) -> Self {
        let is_default = given.is_none_or(Given::is_absent);
        self.lines.push(Line { key, value: value.into(), is_default });
        self
    }
}

/// All sections, in the order of the reference.
pub(super) fn sections(manifest: &checked::Manifest, raw: &raw::Manifest) -> Vec<Section> {
    let proxy = raw.proxy.get();
    let mut sections = vec![
        Section::new("").with("state_dir", path(&manifest.state_dir), Some(&raw.state_dir)),
        Section::new("[admin]").with(
            "bind",
            text(manifest.admin.bind),
            raw.admin.get().map(|admin| &admin.bind),
        ),
        Section::new("[proxy]")
            .with("threads", manifest.proxy.threads.to_string(), proxy.map(|proxy| &proxy.threads))
            .with("access_log", manifest.proxy.access_log.to_string(), proxy.map(|proxy| &proxy.access_log)),
        Section::new("[instances]").with(
            "ports",
            text(show_ports(manifest.instances.ports)),
            raw.instances.get().map(|instances| &instances.ports),
        ),
    ];
    for (name, held) in &manifest.listeners {
        sections.extend(named(&raw.listener, name.as_str()).map(|raw| listener(name.as_str(), held, raw)));
    }
    for (held, spot) in manifest.routes.iter().zip(raw.route.get().into_iter().flatten()) {
        sections.push(route(held, &spot.value));
    }
    for (name, held) in &manifest.services {
        if let Some(raw) = named(&raw.service, name.as_str()) {
            service(name.as_str(), held, raw, &mut sections);
        }
    }
    sections
}

fn named<'r, T>(given: &'r Given<Named<T>>, name: &str) -> Option<&'r T> {
    given.get()?.0.iter().find(|(spot, _)| spot.value == name).map(|(_, table)| &table.value)
}

fn listener(name: &str, held: &checked::Listener, raw: &raw::Listener) -> Section {
    Section::new(format!("[listener.{name}]"))
        .with("bind", text(held.bind), Some(&raw.bind))
        .with("protocol", text("http"), Some(&raw.protocol))
        .with("backlog", held.backlog.to_string(), Some(&raw.backlog))
        .with("header_timeout", text(show_duration(held.header_timeout)), Some(&raw.header_timeout))
        .with("idle_timeout", text(show_duration(held.idle_timeout)), Some(&raw.idle_timeout))
        .with("body_timeout", text(show_duration(held.body_timeout)), Some(&raw.body_timeout))
        .with("head_bytes_max", text(show_size(held.head_bytes_max as u64)), Some(&raw.head_bytes_max))
        .with("headers_max", held.headers_max.to_string(), Some(&raw.headers_max))
        .with("body_bytes_max", text(show_size(held.body_bytes_max)), Some(&raw.body_bytes_max))
}

fn route(held: &checked::Route, raw: &raw::Route) -> Section {
    let section = Section::new("[[route]]").with("listener", text(&held.listener), Some(&raw.listener));
    let section = match &held.host {
        HostPattern::Any => section,
        HostPattern::Exact(host) => section.with("host", text(host), Some(&raw.host)),
        HostPattern::Suffix(suffix) => section.with("host", text(format!("*{suffix}")), Some(&raw.host)),
    };
    section.with("path", text(&held.path), Some(&raw.path)).with(
        "service",
        text(&held.service),
        Some(&raw.service),
    )
}

fn service(name: &str, held: &checked::Service, raw: &raw::Service, sections: &mut Vec<Section>) {
    sections.push(
        Section::new(format!("[service.{name}]"))
            .with("release", path(&held.release), Some(&raw.release))
            .with("version", text(&held.version), Some(&raw.version))
            .with("command", list(&held.command), Some(&raw.command))
            .with("instances", held.instances.to_string(), Some(&raw.instances))
            .with("environment", inline_table(&held.environment), Some(&raw.environment))
            .with("environment_inherit", list(&held.environment_inherit), Some(&raw.environment_inherit))
            .with("mode", text("proxied"), Some(&raw.mode)),
    );
    sections.push(readiness(name, &held.readiness, raw.readiness.get()));
    let given = raw.stop.get();
    sections.push(
        Section::new(format!("[service.{name}.stop]"))
            .with("signal", text(signal(held.stop.signal)), given.map(|g| &g.signal))
            .with(
                "drain_timeout",
                text(show_duration(held.stop.drain_timeout)),
                given.map(|g| &g.drain_timeout),
            )
            .with(
                "grace_period",
                text(show_duration(held.stop.grace_period)),
                given.map(|g| &g.grace_period),
            ),
    );
    let (restart, given) = (&held.restart, raw.restart.get());
    sections.push(
        Section::new(format!("[service.{name}.restart]"))
            .with("policy", text(policy(restart.policy)), given.map(|g| &g.policy))
            .with("delay", text(show_duration(restart.delay)), given.map(|g| &g.delay))
            .with("max_delay", text(show_duration(restart.max_delay)), given.map(|g| &g.max_delay))
            .with("reset_after", text(show_duration(restart.reset_after)), given.map(|g| &g.reset_after)),
    );
    sections.push(upstream(name, &held.upstream, raw.upstream.get()));
    let algorithm = raw.balance.get().map(|given| &given.algorithm);
    sections.push(Section::new(format!("[service.{name}.balance]")).with(
        "algorithm",
        text("least-requests"),
        algorithm,
    ));
    let strategy = match held.rollout.strategy {
        Strategy::BlueGreen => "blue-green",
        Strategy::Rolling => "rolling",
        Strategy::Recreate => "recreate",
    };
    let given = raw.rollout.get();
    sections.push(
        Section::new(format!("[service.{name}.rollout]"))
            .with("strategy", text(strategy), given.map(|g| &g.strategy))
            .with("keep_warm", text(show_duration(held.rollout.keep_warm)), given.map(|g| &g.keep_warm)),
    );
}

fn readiness(name: &str, held: &checked::Readiness, given: Option<&raw::Readiness>) -> Section {
    let section = Section::new(format!("[service.{name}.readiness]"));
    let section = match &held.check {
        ReadinessCheck::Http(path) => section.with("http", text(path), given.map(|g| &g.http)),
        ReadinessCheck::Tcp => section.with("tcp", "true", given.map(|g| &g.tcp)),
        ReadinessCheck::Notify => section.with("notify", "true", given.map(|g| &g.notify)),
        ReadinessCheck::Log(_) | ReadinessCheck::Command(_) | ReadinessCheck::AliveFor(_) => section,
    };
    section
        .with("interval", text(show_duration(held.interval)), given.map(|g| &g.interval))
        .with("timeout", text(show_duration(held.timeout)), given.map(|g| &g.timeout))
        .with("rise", held.rise.to_string(), given.map(|g| &g.rise))
        .with("fall", held.fall.to_string(), given.map(|g| &g.fall))
        .with("startup_timeout", text(show_duration(held.startup_timeout)), given.map(|g| &g.startup_timeout))
}

fn upstream(name: &str, held: &checked::Upstream, given: Option<&raw::Upstream>) -> Section {
    Section::new(format!("[service.{name}.upstream]"))
        .with("connect_timeout", text(show_duration(held.connect_timeout)), given.map(|g| &g.connect_timeout))
        .with(
            "response_timeout",
            text(show_duration(held.response_timeout)),
            given.map(|g| &g.response_timeout),
        )
        .with("idle_reuse", text(show_duration(held.idle_reuse)), given.map(|g| &g.idle_reuse))
}

fn signal(signal: StopSignal) -> &'static str {
    match signal {
        StopSignal::Graceful => "graceful",
        StopSignal::Interrupt => "SIGINT",
        StopSignal::Quit => "SIGQUIT",
        StopSignal::HangUp => "SIGHUP",
        StopSignal::User1 => "SIGUSR1",
        StopSignal::User2 => "SIGUSR2",
        StopSignal::Abort => "SIGABRT",
        StopSignal::Kill => "SIGKILL",
    }
}

fn policy(policy: RestartPolicy) -> &'static str {
    match policy {
        RestartPolicy::Always => "always",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Never => "never",
    }
}

/// A string of TOML.
fn text(value: impl ToString) -> String {
    toml::Value::String(value.to_string()).to_string()
}

fn path(path: &std::path::Path) -> String {
    text(path.display())
}

fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(text).collect();
    format!("[{}]", items.join(", "))
}

fn inline_table(entries: &[(String, String)]) -> String {
    if entries.is_empty() {
        return "{}".to_owned();
    }
    let entries: Vec<String> =
        entries.iter().map(|(key, value)| format!("{} = {}", bare_key(key), text(value))).collect();
    format!("{{ {} }}", entries.join(", "))
}

fn bare_key(key: &str) -> String {
    let is_bare =
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if is_bare { key.to_owned() } else { text(key) }
}
