//! The manifest as it is written: every table and key of `handover.toml`, typed, each with its place.
//!
//! What a comment here says is what an editor shows, by the schema that is made from these types. Keys under
//! `later` are known and refused by name. Nothing here fills in a default or compares two keys.

use super::defaults as default;
use super::read::{Named, Spot, Table, choice, table};
use super::units::{show_duration, show_ports, show_size};
use super::values::{Address, PathText, Ports, Size, Span};

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
        /// Write logs/access.log in the state directory.
        access_log: bool = default::ACCESS_LOG,
    }
    later {
        user => "leave it out: the proxy runs as the user that runs Handover for now",
    }
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
    }
    later {
        tls => "end TLS before Handover for now, or leave it out",
        proxy_protocol => "leave it out for now",
        keepalive => "leave it out: the system's TCP keep-alive holds; `idle_timeout` closes idle connections",
        trusted_proxies => "leave it out: forwarding headers of clients are dropped and written anew for now",
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
    }
    later {
        split => "name one `service` for now",
    }
}

table! {
    /// A service: a program, how it is run, watched, stopped and replaced.
    struct Service {
        /// First release: a directory. Later ones come by `handover deploy`.
        release: PathText,
        /// Version of that release. Default: the directory's name.
        version: String,
        /// Program and arguments, run inside the release. `${PORT}`, `${VERSION}`, `${SERVICE}`, `${INSTANCE}`,
        /// `${RELEASE_DIR}`, `${HANDOVER}` and declared environment variables are filled in.
        command: Vec<Spot<String>>,
        /// How many instances run, 1 to 1000.
        instances: u64 = default::INSTANCES,
        /// Environment variables, filled in like the command, in the order of the file.
        environment: Named<String>,
        /// Names of variables taken from the environment that `handover up` was started with.
        environment_inherit: Vec<Spot<String>>,
        /// How traffic reaches the service.
        mode: Mode = "proxied",
        /// When an instance may take traffic. Without it: when its port accepts a connection.
        readiness: Readiness,
        /// How an instance is stopped.
        stop: Stop,
        /// What happens when an instance ends by itself.
        restart: Restart,
        /// Connections to instances.
        upstream: Upstream,
        /// Which instance gets a request.
        balance: Balance,
        /// How a new release takes over.
        rollout: Rollout,
    }
    later {
        environment_file => "use `environment`, or `environment_inherit` for secrets, for now",
        working_directory => "leave it out: an instance runs inside its release for now",
        releases_dir => "leave it out: releases are kept in the state directory for now",
        listeners => "leave it out: it belongs to `mode = \"socket\"`",
        user => "leave it out: services run as the user that runs Handover for now",
        port => "leave it out and listen on ${PORT}",
        endpoints => "name a `release` and a `command` for now",
        liveness => "leave it out: instances that end are restarted, those that hang are not yet",
        depends_on => "leave it out: all services start at once for now",
        limits => "leave it out for now",
        hooks => "leave it out for now",
    }
}

choice! {
    /// How traffic reaches a service.
    enum Mode { Proxied = "proxied", }
    later {
        "socket" => "only services behind the proxy are run for now",
        "worker" => "only services behind the proxy are run for now",
    }
}

table! {
    /// When an instance may take traffic: one of `http`, `tcp`, `notify`.
    struct Readiness {
        /// A path whose GET answers 200 to 399.
        http: String,
        /// Its port accepts a connection.
        tcp: bool,
        /// It sends READY=1 to the socket that NOTIFY_SOCKET names.
        notify: bool,
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
        log => "use `http`, `tcp = true` or `notify = true` for now",
        command => "use `http`, `tcp = true` or `notify = true` for now",
        alive_for => "use `http`, `tcp = true` or `notify = true`: it belongs to services without a proxy before them",
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
        Kill = "SIGKILL",
    }
    later {}
}

table! {
    /// What happens when an instance ends by itself.
    struct Restart {
        /// Which ends lead to a restart.
        policy: RestartPolicy = "always",
        /// Before the first restart; doubled for each further one.
        delay: Span = show_duration(default::RESTART_DELAY),
        /// The longest it becomes.
        max_delay: Span = show_duration(default::RESTART_MAX_DELAY),
        /// Ready for this long: the delay starts over.
        reset_after: Span = show_duration(default::RESTART_RESET_AFTER),
    }
    later {
        success_codes => "leave it out: 0 is success for now",
        restart_codes => "leave it out: `policy` decides for now",
        stop_codes => "leave it out: `policy` decides for now",
        unready_after => "leave it out: an instance that stays unready is not restarted for now",
    }
}

choice! {
    /// Which ends lead to a restart.
    enum RestartPolicy { Always = "always", OnFailure = "on-failure", Never = "never", }
    later {}
}

table! {
    /// Connections to instances.
    struct Upstream {
        /// For a connection to be made.
        connect_timeout: Span = show_duration(default::CONNECT_TIMEOUT),
        /// From a request's last byte to its response's first, and between any two bytes of that.
        response_timeout: Span = show_duration(default::RESPONSE_TIMEOUT),
        /// A connection that was idle for longer is not used again.
        idle_reuse: Span = show_duration(default::IDLE_REUSE),
    }
    later {
    }
}

table! {
    /// Which instance gets a request.
    struct Balance {
        /// `least-requests`: of two chosen at random, the one with fewer requests in flight.
        algorithm: Algorithm = "least-requests",
    }
    later {
    }
}

choice! {
    /// Which instance gets a request.
    enum Algorithm { LeastRequests = "least-requests", }
    later {
        "round-robin" => "of two instances chosen at random the one with fewer requests in flight is taken for now",
        "hash" => "of two instances chosen at random the one with fewer requests in flight is taken for now",
    }
}

table! {
    /// How a new release takes over.
    struct Rollout {
        /// `blue-green`: all new instances get ready, then all traffic moves at once.
        strategy: Strategy = "blue-green",
        /// How long the old release stays running for an instant way back.
        keep_warm: Span = show_duration(default::KEEP_WARM),
    }
    later {
        steps => "leave it out: it belongs to `strategy = \"canary\"`",
        evidence_timeout => "leave it out: no rules judge a release yet",
        on_evidence_timeout => "leave it out: no rules judge a release yet",
        on_missing_metric => "leave it out: no rules judge a release yet",
        alpha => "leave it out: no rules judge a release yet",
        rule => "leave it out: no rules judge a release yet",
        bake => "leave it out: the way back stays open for `keep_warm`",
        max_surge => "leave it out: it belongs to `strategy = \"rolling\"`",
        max_unavailable => "leave it out: it belongs to `strategy = \"rolling\"`",
        min_healthy => "leave it out: it belongs to `strategy = \"rolling\"`",
        exclusive => "leave it out: both releases run while one takes over",
        sticky => "leave it out: all visitors move at once",
    }
}

choice! {
    /// How a new release takes over.
    enum Strategy { BlueGreen = "blue-green", }
    later {
        "canary" => "all traffic moves at once for now",
        "rolling" => "all instances of the new release start beside the old ones for now",
        "recreate" => "both releases run while one takes over for now",
    }
}

/// A table's header, its served keys, and its refused ones with what to do meanwhile.
type Keys = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)]);

/// The keys of every table.
pub(super) const TABLES: [Keys; 13] = [
    ("the top level", Manifest::KEYS, Manifest::LATER),
    ("[admin]", Admin::KEYS, Admin::LATER),
    ("[proxy]", Proxy::KEYS, Proxy::LATER),
    ("[instances]", Instances::KEYS, Instances::LATER),
    ("[listener.NAME]", Listener::KEYS, Listener::LATER),
    ("[[route]]", Route::KEYS, Route::LATER),
    ("[service.NAME]", Service::KEYS, Service::LATER),
    ("[service.NAME.readiness]", Readiness::KEYS, Readiness::LATER),
    ("[service.NAME.stop]", Stop::KEYS, Stop::LATER),
    ("[service.NAME.restart]", Restart::KEYS, Restart::LATER),
    ("[service.NAME.upstream]", Upstream::KEYS, Upstream::LATER),
    ("[service.NAME.balance]", Balance::KEYS, Balance::LATER),
    ("[service.NAME.rollout]", Rollout::KEYS, Rollout::LATER),
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
