//! What holds: every value of a checked manifest as the line of TOML that would say it, and whether it was said.

use model::manifest as checked;
use model::manifest::{
    DependsUntil, HostPattern, LivenessCheck, LogFormat, LogLevel, Mode, ReadinessCheck, ReloadBy,
    RestartPolicy, StopSignal, Strategy,
};

use super::raw;
use super::read::{Given, Named};
use super::units::{show_duration, show_ports, show_size};

mod traffic;

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

    /// Adds a key that has no default, if it is there.
    fn with_if<T>(self, key: &'static str, value: Option<String>, given: Option<&Given<T>>) -> Self {
        match value {
            Some(value) => self.with(key, value, given),
            None => self,
        }
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
            .with(
                "access_log",
                traffic::access_log(manifest.proxy.access_log.as_ref()),
                proxy.map(|proxy| &proxy.access_log),
            ),
        own_log(&manifest.log, raw.log.get()),
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
    for (name, held) in &manifest.fronted {
        if let Some(raw) = named(&raw.service, name.as_str()) {
            traffic::fronted(name.as_str(), held, raw, &mut sections);
        }
    }
    sections
}

fn own_log(held: &checked::OwnLog, given: Option<&raw::Log>) -> Section {
    let format = match held.format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    let level = match held.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
    };
    Section::new("[log]").with("format", text(format), given.map(|g| &g.format)).with(
        "level",
        text(level),
        given.map(|g| &g.level),
    )
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
        .with_if("tls", traffic::certificates(&held.tls), Some(&raw.tls))
        .with("trusted_proxies", list(&held.trusted_proxies), Some(&raw.trusted_proxies))
        .with_if("https_redirect", held.https_redirect.as_ref().map(text), Some(&raw.https_redirect))
}

fn route(held: &checked::Route, raw: &raw::Route) -> Section {
    let section = Section::new("[[route]]").with("listener", text(&held.listener), Some(&raw.listener));
    let section = match &held.host {
        HostPattern::Any => section,
        HostPattern::Exact(host) => section.with("host", text(host), Some(&raw.host)),
        HostPattern::Suffix(suffix) => section.with("host", text(format!("*{suffix}")), Some(&raw.host)),
    };
    let section = section.with("path", text(&held.path), Some(&raw.path));
    match held.to.as_slice() {
        [one] if raw.split.is_absent() => section.with("service", text(&one.service), Some(&raw.service)),
        shares => section.with("split", traffic::shares(shares), Some(&raw.split)),
    }
}

fn service(name: &str, held: &checked::Service, raw: &raw::Service, sections: &mut Vec<Section>) {
    sections.push(program(name, held, raw));
    if held.limits != checked::Limits::default() {
        let given = raw.limits.get();
        sections.push(
            Section::new(format!("[service.{name}.limits]"))
                .with_if(
                    "open_files",
                    held.limits.open_files.map(|files| files.to_string()),
                    given.map(|g| &g.open_files),
                )
                .with_if(
                    "memory",
                    held.limits.memory.map(|bytes| text(show_size(bytes))),
                    given.map(|g| &g.memory),
                ),
        );
    }
    sections.push(readiness(name, &held.readiness, raw.readiness.get()));
    sections.extend(held.liveness.as_ref().map(|held| liveness(name, held, raw.liveness.get())));
    sections.push(stop(name, &held.stop, raw.stop.get()));
    sections.push(restart(name, &held.restart, raw.restart.get()));
    sections.extend(held.reload.as_ref().map(|held| reload(name, held, raw.reload.get())));
    hooks(name, &held.hooks, raw.hooks.get(), sections);
    sections.push(output(name, &held.output, raw.output.get()));
    if held.mode == Mode::Proxied {
        traffic::sections(name, &held.traffic, raw, sections);
    }
    sections.push(rollout(name, held, raw));
}

fn program(name: &str, held: &checked::Service, raw: &raw::Service) -> Section {
    let mode = match held.mode {
        Mode::Proxied => "proxied",
        Mode::Worker => "worker",
    };
    let account = held.account.as_ref();
    let depends_on: Vec<String> = held.depends_on.iter().map(dependency).collect();
    let section = Section::new(format!("[service.{name}]"))
        .with("release", path(&held.release), Some(&raw.release))
        .with("version", text(&held.version), Some(&raw.version))
        .with("command", list(&held.command), Some(&raw.command))
        .with("instances", held.instances.to_string(), Some(&raw.instances))
        .with("mode", text(mode), Some(&raw.mode))
        .with_if("port", held.port.map(|port| port.to_string()), Some(&raw.port))
        .with("environment", inline_table(&held.environment), Some(&raw.environment))
        .with("environment_inherit", list(&held.environment_inherit), Some(&raw.environment_inherit))
        .with_if("environment_file", held.environment_file.as_deref().map(path), Some(&raw.environment_file))
        .with_if(
            "working_directory",
            held.working_directory.as_deref().map(path),
            Some(&raw.working_directory),
        )
        .with_if("user", account.map(|account| text(&account.user)), Some(&raw.user))
        .with_if("group", account.and_then(|account| account.group.as_ref()).map(text), Some(&raw.group))
        .with_if("umask", held.umask.map(|mask| text(format!("{mask:03o}"))), Some(&raw.umask))
        .with("depends_on", format!("[{}]", depends_on.join(", ")), Some(&raw.depends_on));
    if held.mode == Mode::Worker { section } else { traffic::keys(section, &held.traffic, raw) }
}

fn dependency(held: &checked::Dependency) -> String {
    match held.until {
        DependsUntil::Ready => text(&held.service),
        DependsUntil::Started => format!("{{ service = {}, until = \"started\" }}", text(&held.service)),
    }
}

fn readiness(name: &str, held: &checked::Readiness, given: Option<&raw::Readiness>) -> Section {
    let section = Section::new(format!("[service.{name}.readiness]"));
    let section = match &held.check {
        ReadinessCheck::Http(path) => section.with("http", text(path), given.map(|g| &g.http)),
        ReadinessCheck::Tcp => section.with("tcp", "true", given.map(|g| &g.tcp)),
        ReadinessCheck::Notify => section.with("notify", "true", given.map(|g| &g.notify)),
        ReadinessCheck::Log(expression) => section.with("log", text(expression), given.map(|g| &g.log)),
        ReadinessCheck::Command(command) => section.with("command", list(command), given.map(|g| &g.command)),
        ReadinessCheck::AliveFor(span) => {
            section.with("alive_for", text(show_duration(*span)), given.map(|g| &g.alive_for))
        }
    };
    section
        .with("interval", text(show_duration(held.interval)), given.map(|g| &g.interval))
        .with("timeout", text(show_duration(held.timeout)), given.map(|g| &g.timeout))
        .with("rise", held.rise.to_string(), given.map(|g| &g.rise))
        .with("fall", held.fall.to_string(), given.map(|g| &g.fall))
        .with("startup_timeout", text(show_duration(held.startup_timeout)), given.map(|g| &g.startup_timeout))
}

fn liveness(name: &str, held: &checked::Liveness, given: Option<&raw::Liveness>) -> Section {
    let section = Section::new(format!("[service.{name}.liveness]"));
    let interval = text(show_duration(held.interval));
    let section = match &held.check {
        LivenessCheck::Http(path) => section.with("http", text(path), given.map(|g| &g.http)),
        LivenessCheck::Tcp => section.with("tcp", "true", given.map(|g| &g.tcp)),
        LivenessCheck::Command(command) => section.with("command", list(command), given.map(|g| &g.command)),
        LivenessCheck::Watchdog => {
            let section = section.with("watchdog", "true", given.map(|g| &g.watchdog));
            return section.with("interval", interval, given.map(|g| &g.interval));
        }
    };
    section
        .with("interval", interval, given.map(|g| &g.interval))
        .with("timeout", text(show_duration(held.timeout)), given.map(|g| &g.timeout))
        .with("fall", held.fall.to_string(), given.map(|g| &g.fall))
}

fn stop(name: &str, held: &checked::Stop, given: Option<&raw::Stop>) -> Section {
    Section::new(format!("[service.{name}.stop]"))
        .with("signal", text(signal(held.signal)), given.map(|g| &g.signal))
        .with("drain_timeout", text(show_duration(held.drain_timeout)), given.map(|g| &g.drain_timeout))
        .with("grace_period", text(show_duration(held.grace_period)), given.map(|g| &g.grace_period))
}

fn restart(name: &str, held: &checked::Restart, given: Option<&raw::Restart>) -> Section {
    Section::new(format!("[service.{name}.restart]"))
        .with("policy", text(policy(held.policy)), given.map(|g| &g.policy))
        .with("delay", text(show_duration(held.delay)), given.map(|g| &g.delay))
        .with("max_delay", text(show_duration(held.max_delay)), given.map(|g| &g.max_delay))
        .with("reset_after", text(show_duration(held.reset_after)), given.map(|g| &g.reset_after))
        .with("success_codes", numbers(&held.success_codes), given.map(|g| &g.success_codes))
        .with("restart_codes", numbers(&held.restart_codes), given.map(|g| &g.restart_codes))
        .with("stop_codes", numbers(&held.stop_codes), given.map(|g| &g.stop_codes))
        .with("unready_after", text(show_duration(held.unready_after)), given.map(|g| &g.unready_after))
}

fn reload(name: &str, held: &checked::Reload, given: Option<&raw::Reload>) -> Section {
    let section = Section::new(format!("[service.{name}.reload]"));
    let section = match &held.by {
        ReloadBy::Signal(by) => section.with("signal", text(signal(*by)), given.map(|g| &g.signal)),
        ReloadBy::Command(command) => section.with("command", list(command), given.map(|g| &g.command)),
    };
    section.with("timeout", text(show_duration(held.timeout)), given.map(|g| &g.timeout))
}

fn hooks(name: &str, held: &checked::Hooks, given: Option<&raw::Hooks>, sections: &mut Vec<Section>) {
    let all = [
        ("before_start", &held.before_start, given.map(|g| &g.before_start)),
        ("after_ready", &held.after_ready, given.map(|g| &g.after_ready)),
        ("before_stop", &held.before_stop, given.map(|g| &g.before_stop)),
        ("after_exit", &held.after_exit, given.map(|g| &g.after_exit)),
    ];
    for (kind, held, given) in all {
        let given = given.and_then(Given::get);
        sections.extend(held.as_ref().map(|held| {
            Section::new(format!("[service.{name}.hooks.{kind}]"))
                .with("command", list(&held.command), given.map(|g| &g.command))
                .with("timeout", text(show_duration(held.timeout)), given.map(|g| &g.timeout))
        }));
    }
}

fn output(name: &str, held: &checked::Output, given: Option<&raw::Output>) -> Section {
    Section::new(format!("[service.{name}.output]"))
        .with("max_size", text(show_size(held.max_size)), given.map(|g| &g.max_size))
        .with_if("max_age", held.max_age.map(|age| text(show_duration(age))), given.map(|g| &g.max_age))
        .with("files", held.files.to_string(), given.map(|g| &g.files))
}

fn rollout(name: &str, held: &checked::Service, raw: &raw::Service) -> Section {
    let strategy = match held.rollout.strategy {
        Strategy::BlueGreen => "blue-green",
        Strategy::Rolling => "rolling",
        Strategy::Recreate => "recreate",
    };
    let given = raw.rollout.get();
    let section = Section::new(format!("[service.{name}.rollout]")).with(
        "strategy",
        text(strategy),
        given.map(|g| &g.strategy),
    );
    let sticky = held.rollout.sticky.as_ref().map(traffic::sticky);
    let section = section.with_if("sticky", sticky, given.map(|g| &g.sticky));
    match held.rollout.strategy {
        Strategy::Rolling => {
            section.with("max_surge", held.rollout.max_surge.to_string(), given.map(|g| &g.max_surge)).with(
                "max_unavailable",
                held.rollout.max_unavailable.to_string(),
                given.map(|g| &g.max_unavailable),
            )
        }
        Strategy::BlueGreen => {
            let keep_warm = text(show_duration(held.rollout.keep_warm));
            section.with("keep_warm", keep_warm, given.map(|g| &g.keep_warm))
        }
        Strategy::Recreate => {
            let exclusive = given.and_then(|given| given.exclusive.get()).map(ToString::to_string);
            section.with_if("exclusive", exclusive, given.map(|g| &g.exclusive))
        }
    }
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

fn list(items: &[impl ToString]) -> String {
    let items: Vec<String> = items.iter().map(|item| text(item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

fn numbers(items: &[impl ToString]) -> String {
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
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
