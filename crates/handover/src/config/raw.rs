//! The manifest as it is written: every table and key of `handover.toml`, typed, each with its place.
//!
//! What a comment here says is what an editor shows, by the schema that is made from these types. Keys under
//! `later` are known and refused by name. Nothing here fills in a default or compares two keys.

use toml::Spanned;
use toml::de::DeValue;

use super::defaults as default;
use super::read::{Given, Named, Problems, Read, Spot, Table, choice, not_a, table};
use super::units::{show_duration, show_ports, show_size};
use super::values::{Address, PathText, Ports, Size, Span, Umask};

mod traffic;

pub(super) use traffic::{
    AccessLog, AccessLogFormat, AccessLogTable, Algorithm, Balance, Certificate, Certificates, Endpoint,
    EndpointTable, Hash, Maintenance, Outlier, Retry, Split, Sticky, Upstream,
};

table! {
    /// What a machine serves, and how: the manifest of Handover.
    struct Manifest {
        /// Where everything that must survive a restart lives. Default: /var/lib/handover for root, else
        /// $XDG_STATE_HOME/handover or ~/.local/state/handover.
        state_dir: PathText,
        /// The admin API.
        admin: Admin,
        /// The proxy before all services.
        proxy: Proxy,
        /// What Handover says of itself.
        log: Log,
        /// Where `${PORT}` comes from.
        instances: Instances,
        /// Addresses that clients connect to, by name.
        listener: Named<Listener>,
        /// Which requests go to which service. The most specific route wins, whatever the order.
        route: Vec<Spot<Route>>,
        /// Services, by name.
        service: Named<Service>,
    }
    later {
        upgrade => "leave the table out: Handover is replaced by `handover down` and `handover up` for now",
    }
}

table! {
    /// The admin API.
    struct Admin {
        /// Address of the admin API. Where this default is taken, a free port is used, and said.
        bind: Address = default::ADMIN_BIND.to_string(),
    }
    later {
    }
}

table! {
    /// The proxy before all services.
    struct Proxy {
        /// Worker threads, 1 to 256. Default: one per core.
        threads: u64,
        /// Write logs/access.log in the state directory; a table says how.
        access_log: AccessLog = default::ACCESS_LOG,
    }
    later {
        user => "leave it out: the proxy runs as the user that runs Handover for now",
    }
}

table! {
    /// What Handover says of itself, in logs/handover.log of the state directory.
    struct Log {
        /// `text` for people, `json` for programs: one object a line.
        format: LogFormat = "text",
        /// The least that is written: `info` is one line for each decision.
        level: LogLevel = "info",
    }
    later {
    }
}

choice! {
    /// How a line of Handover's own log looks.
    enum LogFormat { Text = "text", Json = "json", }
    later {}
}

choice! {
    /// How much Handover says of itself.
    enum LogLevel { Error = "error", Warn = "warn", Info = "info", Debug = "debug", }
    later {}
}

table! {
    /// Where `${PORT}` comes from.
    struct Instances {
        /// First and last port that instances are given.
        ports: Ports = show_ports(default::INSTANCE_PORTS),
    }
    later {
    }
}

table! {
    /// An address that clients connect to.
    struct Listener {
        /// IP address and port.
        bind: Address,
        /// What is spoken there.
        protocol: Protocol = "http",
        /// Connections that may wait to be accepted; the system may cap it.
        backlog: u64 = default::BACKLOG,
        /// From the first byte of a request's head to its last.
        header_timeout: Span = show_duration(default::HEADER_TIMEOUT),
        /// How long a client may leave a connection idle and still use it again.
        idle_timeout: Span = show_duration(default::IDLE_TIMEOUT),
        /// Longest wait for the next bytes of a request's body, or for the client to take those of a response.
        body_timeout: Span = show_duration(default::BODY_TIMEOUT),
        /// Largest head of a request, with its request line; larger is answered 431.
        head_bytes_max: Size = show_size(default::HEAD_BYTES_MAX),
        /// Most header fields of a request; more is answered 431.
        headers_max: u64 = default::HEADERS_MAX,
        /// Largest body of a request; larger is answered 413.
        body_bytes_max: Size = show_size(default::BODY_BYTES_MAX),
        /// TLS is spoken there, with this certificate, or with one of these by the name that the client asks for.
        tls: Certificates,
        /// Addresses and networks (`10.0.0.0/8`) whose forwarding headers are believed and appended to. Those of all
        /// others are dropped and written anew.
        trusted_proxies: Vec<Spot<String>>,
        /// Name of a listener with `tls`: every request is answered 308 to the same address there.
        https_redirect: String,
    }
    later {
        proxy_protocol => "leave it out for now",
        keepalive => "leave it out: the system's TCP keep-alive holds; `idle_timeout` closes idle connections",
        nonblocking => "leave it out: it belongs to services that inherit their listeners",
    }
}

choice! {
    /// What a listener speaks.
    enum Protocol { Http = "http", }
    later { "tcp" => "only HTTP is forwarded for now", }
}

table! {
    /// Which requests go to which service.
    struct Route {
        /// Name of a listener.
        listener: String,
        /// `shop.example.com`, or `*.example.com` for every name below it. Absent: any.
        host: String,
        /// Beginning of the path, by whole segments: `/api` is also `/api/x` but not `/apis`. The longest wins.
        path: String = default::ROUTE_PATH,
        /// Name of a service.
        service: String,
        /// Services that share the requests by weight, instead of `service`.
        split: Vec<Spot<Split>>,
    }
    later {
    }
}

table! {
    /// A service: a program, how it is run, watched, stopped and replaced.
    struct Service {
        /// First release: a directory, an archive (.tar.gz, .tgz, .tar.zst, .zip) or a single executable. Later ones
        /// come by `handover deploy`.
        release: PathText,
        /// Version of that release. Default: its name and the first eight digits of the hash of its content.
        version: String,
        /// Where the service is, if it is not started here: instead of `release` and `command`.
        endpoints: Vec<Spot<Endpoint>>,
        /// Program and arguments, run inside the release. `${PORT}`, `${VERSION}`, `${SERVICE}`, `${INSTANCE}`,
        /// `${RELEASE_DIR}`, `${HANDOVER}` and declared environment variables are filled in.
        command: Vec<Spot<String>>,
        /// How many instances run, 1 to 1000.
        instances: u64 = default::INSTANCES,
        /// How traffic reaches the service: through the proxy, or not at all.
        mode: Mode = "proxied",
        /// The program listens on that port and nowhere else: one instance, and each deploy stops it before the next
        /// one starts, with requests held meanwhile. Without it each instance gets a free one in `${PORT}`.
        port: u64,
        /// Environment variables, filled in like the command, in the order of the file.
        environment: Named<String>,
        /// Names of variables taken from the environment that `handover up` was started with.
        environment_inherit: Vec<Spot<String>>,
        /// A file of NAME=value lines, read at each start of an instance, for secrets: its values are never shown.
        environment_file: PathText,
        /// Where the program runs: inside the release if relative. Default: the release.
        working_directory: PathText,
        /// Name or number of the user it runs as. Only where Handover runs as root.
        user: String,
        /// Name or number of the group, where it is not the user's own.
        group: String,
        /// File mode creation mask, in octal digits: "027".
        umask: Umask,
        /// What one instance may use.
        limits: Limits,
        /// When an instance may take traffic. Without it: when its port accepts a connection; for a worker, when it
        /// has run for a second.
        readiness: Readiness,
        /// When a running instance is taken for hung, and restarted.
        liveness: Liveness,
        /// How an instance is stopped.
        stop: Stop,
        /// What happens when an instance ends by itself.
        restart: Restart,
        /// How an instance is told to read its configuration again, by `handover reload`.
        reload: Reload,
        /// Commands around the life of an instance.
        hooks: Hooks,
        /// Services that have to be there before this one starts; they are stopped after it.
        depends_on: Vec<Spot<Dependency>>,
        /// How what it writes to its output is kept.
        output: Output,
        /// Connections to instances.
        upstream: Upstream,
        /// When a request is tried again on another instance.
        retry: Retry,
        /// Which instance gets a request.
        balance: Balance,
        /// When an instance gets no requests for a while, for what it answered.
        outlier: Outlier,
        /// Endpoint groups of the access log and the metrics, such as `/api/order/{id}`; at most 64.
        paths: Vec<Spot<String>>,
        /// What is answered instead of the service, while it is on, and when nothing is ready.
        maintenance: Maintenance,
        /// How a new release takes over.
        rollout: Rollout,
    }
    later {
        releases_dir => "leave it out: releases are kept in the state directory for now",
        listeners => "leave it out: it belongs to `mode = \"socket\"`",
    }
}

choice! {
    /// How traffic reaches a service.
    enum Mode { Proxied = "proxied", Worker = "worker", }
    later {
        "socket" => "let the proxy pass requests on to it for now",
    }
}

table! {
    /// What one instance may use.
    struct Limits {
        /// Files and connections open at once.
        open_files: u64,
        /// Memory of all its processes together.
        memory: Size,
    }
    later {
    }
}

table! {
    /// When an instance may take traffic: one of `http`, `tcp`, `notify`, `log`, `command`, `alive_for`.
    struct Readiness {
        /// A path whose GET answers 200 to 399.
        http: String,
        /// Its port accepts a connection.
        tcp: bool,
        /// It sends READY=1 to the socket that NOTIFY_SOCKET names.
        notify: bool,
        /// A line of its output matches this regular expression.
        log: String,
        /// This command, run inside the release, exits with 0.
        command: Vec<Spot<String>>,
        /// It has run for this long.
        alive_for: Span,
        /// Between two checks; in its first five seconds an instance is checked every 50 ms.
        interval: Span = show_duration(default::READINESS_INTERVAL),
        /// For one check.
        timeout: Span = show_duration(default::READINESS_TIMEOUT),
        /// Successes in a row that make an instance ready.
        rise: u64 = default::READINESS_RISE,
        /// Failures in a row that make it unready.
        fall: u64 = default::READINESS_FALL,
        /// From its start to ready; longer is a failed start.
        startup_timeout: Span = show_duration(default::STARTUP_TIMEOUT),
    }
    later {
    }
}

table! {
    /// When a running instance is taken for hung, and restarted: one of `http`, `tcp`, `command`, `watchdog`.
    struct Liveness {
        /// A path whose GET answers 200 to 399.
        http: String,
        /// Its port accepts a connection.
        tcp: bool,
        /// This command, run inside the release, exits with 0.
        command: Vec<Spot<String>>,
        /// It sends WATCHDOG=1 to the socket that NOTIFY_SOCKET names, at least every `interval`.
        watchdog: bool,
        /// Between two checks; with `watchdog` the longest silence, which it sees as WATCHDOG_USEC.
        interval: Span = show_duration(default::LIVENESS_INTERVAL),
        /// For one check.
        timeout: Span = show_duration(default::LIVENESS_TIMEOUT),
        /// Failures in a row that make it hung.
        fall: u64 = default::LIVENESS_FALL,
    }
    later {
    }
}

table! {
    /// How an instance is stopped: no new request, those in flight finish, the signal, the kill.
    struct Stop {
        /// What asks it to stop.
        signal: Signal = "graceful",
        /// For requests in flight, before the signal.
        drain_timeout: Span = show_duration(default::DRAIN_TIMEOUT),
        /// From the signal to the kill of all its processes.
        grace_period: Span = show_duration(default::GRACE_PERIOD),
    }
    later {
        streams => "leave it out: long streams end with `drain_timeout` for now",
    }
}

choice! {
    /// What asks a process to stop.
    enum Signal {
        Graceful = "graceful",
        Terminate = "SIGTERM",
        Interrupt = "SIGINT",
        Quit = "SIGQUIT",
        HangUp = "SIGHUP",
        User1 = "SIGUSR1",
        User2 = "SIGUSR2",
        Abort = "SIGABRT",
        Kill = "SIGKILL",
    }
    later {}
}

table! {
    /// What happens when an instance ends by itself.
    struct Restart {
        /// Which ends lead to a restart. Default for a worker: `on-failure`.
        policy: RestartPolicy = "always",
        /// Before the first restart; doubled for each further one.
        delay: Span = show_duration(default::RESTART_DELAY),
        /// The longest it becomes.
        max_delay: Span = show_duration(default::RESTART_MAX_DELAY),
        /// Ready for this long: the delay starts over.
        reset_after: Span = show_duration(default::RESTART_RESET_AFTER),
        /// Exit codes that count as success, beside 0.
        success_codes: Vec<Spot<u64>>,
        /// Exit codes that lead to a restart whatever the policy says.
        restart_codes: Vec<Spot<u64>>,
        /// Exit codes after which it stays down whatever the policy says.
        stop_codes: Vec<Spot<u64>>,
        /// Unready for this long: restarted. Only without `liveness`; "0s" is never.
        unready_after: Span = show_duration(default::UNREADY_AFTER),
    }
    later {
    }
}

choice! {
    /// Which ends lead to a restart.
    enum RestartPolicy { Always = "always", OnFailure = "on-failure", Never = "never", }
    later {}
}

table! {
    /// How an instance is told to read its configuration again: `signal` or `command`.
    struct Reload {
        /// Sent to the main process.
        signal: ReloadSignal,
        /// Run inside the release, with the main process in HANDOVER_PID.
        command: Vec<Spot<String>>,
        /// For the command, and for READY=1 after RELOADING=1.
        timeout: Span = show_duration(default::RELOAD_TIMEOUT),
    }
    later {
    }
}

choice! {
    /// What tells a process to read its configuration again.
    enum ReloadSignal { HangUp = "SIGHUP", User1 = "SIGUSR1", User2 = "SIGUSR2", }
    later {}
}

table! {
    /// Commands around the life of an instance, run inside the release as its user.
    struct Hooks {
        /// Before each start of an instance; if it fails, that start failed.
        before_start: Hook,
        /// After an instance got ready.
        after_ready: Hook,
        /// Before the stop signal, after its requests have finished.
        before_stop: Hook,
        /// After each end of an instance, before the next start.
        after_exit: Hook,
    }
    later {
    }
}

table! {
    /// A command around the life of an instance.
    struct Hook {
        /// Program and arguments, filled in like the service's command.
        command: Vec<Spot<String>>,
        /// For its run; all its processes are killed then.
        timeout: Span = show_duration(default::HOOK_TIMEOUT),
    }
    later {
    }
}

/// An entry of `depends_on`: a name, or a table that says more.
#[derive(Debug)]
pub(super) struct Dependency {
    /// The service, unless that is missing.
    pub(super) service: Given<String>,
    /// How far it has to be.
    pub(super) until: Given<Until>,
}

impl Read for Dependency {
    fn read(value: &Spanned<DeValue<'_>>, key: &str, problems: &mut Problems<'_>) -> Option<Self> {
        if value.get_ref().is_table() {
            let DependencyTable { service, until } = DependencyTable::read(value, key, problems)?;
            return Some(Self { service, until });
        }
        if !value.get_ref().is_str() {
            let problem = not_a(value, key, "a list of names and tables");
            problems.push(problem.help("write [\"NAME\"], or [{ service = \"NAME\", until = \"started\" }]"));
            return None;
        }
        Some(Self { service: String::read_given(value, key, problems), until: Given::Absent })
    }
}

impl schemars::JsonSchema for Dependency {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dependency".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let table = generator.subschema_for::<DependencyTable>();
        schemars::json_schema!({ "anyOf": [{ "type": "string" }, table] })
    }
}

table! {
    /// A service that has to be there first.
    struct DependencyTable {
        /// Its name.
        service: String,
        /// How far it has to be.
        until: Until = "ready",
    }
    later {
    }
}

choice! {
    /// How far a dependency has to be: one of its processes runs, or one of its instances is ready.
    enum Until { Started = "started", Ready = "ready", }
    later {}
}

table! {
    /// How what a service writes to its output is kept: logs/NAME.log and older ones.
    struct Output {
        /// A file of this size is set aside.
        max_size: Size = show_size(default::OUTPUT_MAX_SIZE),
        /// A file whose first line is this old is set aside. Default: whatever its age.
        max_age: Span,
        /// Files kept, with the current one.
        files: u64 = default::OUTPUT_FILES,
    }
    later {
    }
}

table! {
    /// How a new release takes over.
    struct Rollout {
        /// `blue-green`: all new instances get ready, then all traffic moves at once. `rolling`: instance by
        /// instance. `recreate`: the old release stops before the new one starts; requests are held meanwhile.
        strategy: Strategy = "blue-green",
        /// How long the old release stays running for an instant way back. Only with `blue-green`.
        keep_warm: Span = show_duration(default::KEEP_WARM),
        /// With `rolling`: how many instances more than `instances` may run at once.
        max_surge: u64 = default::MAX_SURGE,
        /// With `rolling`: how many fewer than `instances` may be ready.
        max_unavailable: u64 = default::MAX_UNAVAILABLE,
        /// Two releases of it must never run at once: the same as `recreate`.
        exclusive: bool = default::EXCLUSIVE,
        /// What keeps a visitor on the release it got first, while that has any weight.
        sticky: Sticky,
    }
    later {
        steps => "leave it out: it belongs to `strategy = \"canary\"`",
        evidence_timeout => "leave it out: no rules judge a release yet",
        on_evidence_timeout => "leave it out: no rules judge a release yet",
        on_missing_metric => "leave it out: no rules judge a release yet",
        alpha => "leave it out: no rules judge a release yet",
        rule => "leave it out: no rules judge a release yet",
        bake => "leave it out: the way back stays open for `keep_warm`",
        min_healthy => "leave it out: `max_unavailable` says how many may be missing",
    }
}

choice! {
    /// How a new release takes over.
    enum Strategy { BlueGreen = "blue-green", Rolling = "rolling", Recreate = "recreate", }
    later {
        "canary" => "all traffic moves at once, or instance by instance, for now",
    }
}

/// A table's header, its served keys, and its refused ones with what to do meanwhile.
type Keys = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

/// The keys of every table.
pub(super) const TABLES: [Keys; 30] = [
    ("the top level", Manifest::KEYS, Manifest::LATER),
    ("[admin]", Admin::KEYS, Admin::LATER),
    ("[proxy]", Proxy::KEYS, Proxy::LATER),
    ("[proxy.access_log]", AccessLogTable::KEYS, AccessLogTable::LATER),
    ("[log]", Log::KEYS, Log::LATER),
    ("[instances]", Instances::KEYS, Instances::LATER),
    ("[listener.NAME]", Listener::KEYS, Listener::LATER),
    ("an entry of `tls`", Certificate::KEYS, Certificate::LATER),
    ("[[route]]", Route::KEYS, Route::LATER),
    ("an entry of `split`", Split::KEYS, Split::LATER),
    ("[service.NAME]", Service::KEYS, Service::LATER),
    ("an entry of `endpoints`", EndpointTable::KEYS, EndpointTable::LATER),
    ("[service.NAME.limits]", Limits::KEYS, Limits::LATER),
    ("[service.NAME.readiness]", Readiness::KEYS, Readiness::LATER),
    ("[service.NAME.liveness]", Liveness::KEYS, Liveness::LATER),
    ("[service.NAME.stop]", Stop::KEYS, Stop::LATER),
    ("[service.NAME.restart]", Restart::KEYS, Restart::LATER),
    ("[service.NAME.reload]", Reload::KEYS, Reload::LATER),
    ("[service.NAME.hooks]", Hooks::KEYS, Hooks::LATER),
    ("a hook", Hook::KEYS, Hook::LATER),
    ("an entry of `depends_on`", DependencyTable::KEYS, DependencyTable::LATER),
    ("[service.NAME.output]", Output::KEYS, Output::LATER),
    ("[service.NAME.upstream]", Upstream::KEYS, Upstream::LATER),
    ("[service.NAME.retry]", Retry::KEYS, Retry::LATER),
    ("[service.NAME.balance]", Balance::KEYS, Balance::LATER),
    ("`hash` of [service.NAME.balance]", Hash::KEYS, Hash::LATER),
    ("[service.NAME.outlier]", Outlier::KEYS, Outlier::LATER),
    ("[service.NAME.maintenance]", Maintenance::KEYS, Maintenance::LATER),
    ("[service.NAME.rollout]", Rollout::KEYS, Rollout::LATER),
    ("`sticky` of [service.NAME.rollout]", Sticky::KEYS, Sticky::LATER),
];

/// The tables that have a key, for a message.
pub(super) fn tables_with(key: &str) -> Option<String> {
    let headers: Vec<&str> = TABLES
        .iter()
        .filter(|(_, keys, later)| keys.contains(&key) || later.iter().any(|(name, _)| *name == key))
        .map(|(header, _, _)| *header)
        .collect();
    (!headers.is_empty()).then(|| headers.join(" or "))
}
