//! Manifests for simulated services, as `up` would hand them over.

use std::collections::BTreeMap;
use std::path::PathBuf;

use wire::manifest::{
    Listener, Manifest, Mode, Readiness, ReadinessCheck, Restart, RestartPolicy, Rollout, Service, Stop,
    StopSignal, Strategy,
};
use wire::sealed::Boot;

/// Where the simulated state lives; nothing is ever there.
pub const STATE: &str = "/sim/state";

/// A service with small numbers, so that much happens in little time.
pub fn service(name: &str, version: &str) -> Service {
    let program = format!("./{name}");
    let bare = Service::bare(source(name, version), version, &[&program, "--listen", "127.0.0.1:${PORT}"]);
    Service {
        instances: 2,
        environment: vec![("ZONE".to_owned(), "sim".to_owned())],
        readiness: Readiness {
            check: ReadinessCheck::Http("/healthz".to_owned()),
            interval_ms: 1_000,
            timeout_ms: 500,
            rise: 2,
            fall: 3,
            startup_timeout_ms: 5_000,
        },
        stop: Stop { signal: StopSignal::Graceful, drain_timeout_ms: 5_000, grace_period_ms: 2_000 },
        restart: Restart {
            policy: RestartPolicy::Always,
            delay_ms: 1_000,
            max_delay_ms: 8_000,
            reset_after_ms: 10_000,
            ..bare.restart
        },
        rollout: Rollout { keep_warm_ms: 20_000, ..bare.rollout },
        ..bare
    }
}

/// Where a version of a service lies before it is deployed.
pub fn source(name: &str, version: &str) -> PathBuf {
    PathBuf::from(format!("/sim/dist/{name}/{version}"))
}

/// What `up` hands over for these services.
pub fn boot(services: BTreeMap<String, Service>) -> Boot {
    let manifest = Manifest {
        state_dir: PathBuf::from(STATE),
        admin_bind: "127.0.0.1:7979".parse().expect("invariant: an address"),
        admin_bind_is_default: true,
        proxy_threads: 2,
        access_log: true,
        access_log_settings: Default::default(),
        log: Default::default(),
        instance_ports: (20_000, 20_999),
        listeners: BTreeMap::new(),
        routes: Vec::new(),
        services,
        fronted: Default::default(),
    };
    Boot {
        v: 1,
        manifest,
        source: String::new(),
        path: "/sim/handover.toml".to_owned(),
        binary_origin: "/sim/handover".to_owned(),
        environment: Vec::new(),
        print_output: false,
        colour: false,
    }
}

/// How a simulated service is run and replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// All at once.
    BlueGreen,
    /// Instance by instance.
    Rolling,
    /// On a port of its own.
    FixedPort(u16),
    /// Without a port, overlapping.
    Worker,
    /// Without a port, one process at a time.
    ExclusiveWorker,
}

/// Makes a service one of that manner.
pub fn set_manner(service: &mut Service, manner: Manner) {
    match manner {
        Manner::BlueGreen => {}
        Manner::Rolling => service.rollout.strategy = Strategy::Rolling,
        Manner::FixedPort(port) => {
            service.port = Some(port);
            service.instances = 1;
            service.rollout.strategy = Strategy::Recreate;
        }
        Manner::Worker | Manner::ExclusiveWorker => {
            service.mode = Mode::Worker;
            service.readiness.check = ReadinessCheck::AliveForMs(1_000);
            service.command.truncate(1);
            service.restart.policy = RestartPolicy::OnFailure;
        }
    }
    if manner == Manner::ExclusiveWorker {
        service.instances = 1;
        service.rollout.strategy = Strategy::Recreate;
    }
}

/// A listener on that port.
pub fn listener(port: u16) -> Listener {
    Listener {
        bind: std::net::SocketAddr::from(([127, 0, 0, 1], port)),
        backlog: 128,
        header_timeout_ms: 1_000,
        idle_timeout_ms: 1_000,
        body_timeout_ms: 1_000,
        head_bytes_max: 16 << 10,
        headers_max: 100,
        body_bytes_max: 1 << 20,
        tls: Vec::new(),
        trusted_proxies: Vec::new(),
        https_redirect: None,
    }
}
