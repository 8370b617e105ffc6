//! Golden samples of every frame and record: what this version writes today, the next one must read.
//!
//! Each file under `golden/` holds one sample per line. `UPDATE_EXPECT=1` rewrites them, which is right only
//! for a new message or a new optional field; samples of older versions stay as `*.vN.jsonl` and are only read.

#![expect(clippy::unwrap_used, reason = "a test file: what cannot be read is the failure")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::PathBuf;

use model::series::{SeriesName, SeriesTotals};
use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::exec::{ExecSpec, SpawnSpec};
use wire::link::{ExitStatus, FromHolder, Hello, StopLevel, ToHolder};
use wire::manifest::{
    Dependency, DependsUntil, Fronted, Hook, Listener, Liveness, LivenessCheck, Manifest, Mode, Output,
    Place, PlaceAddress, Probe, Readiness, ReadinessCheck, Reload, ReloadBy, Restart, RestartPolicy, Rollout,
    Route, Service, Stop, StopSignal, Strategy, Upstream,
};
use wire::record::{
    OperationKind, OperationRecord, Phase, Receipt, Record, ReleaseRecord, RolloutKind, RolloutRecord,
    ServiceRecord, Verdict, Warm,
};
use wire::routes::{
    AccessLogFormat, AccessLogSettings, Address, Algorithm, BalanceSettings, CertificateFiles, Endpoint,
    EndpointState, HashKey, Hold, ListenerSettings, Maintenance, OutlierSettings, ProbeSettings,
    ReleaseTraffic, RetrySettings, Route as TableRoute, RouteTable, ServiceTraffic, Split, Sticky,
};
use wire::sealed::Boot;
use wire::traffic::{
    CertificateInUse, CertificateNews, Counters, FromProxy, ListenerCounters, ReleaseCounters,
    SeriesCounters, ToProxy,
};
use wire::vault::{ListenerUse, Process, ProcessRole, VaultItem};

/// More former versions than samples are kept of.
const FORMER_VERSIONS_MAX: u32 = 100;

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(name: &str, samples: &[T]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.jsonl"));
    let written: Vec<String> = samples.iter().map(|s| serde_json::to_string(s).unwrap()).collect();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, written.join("\n") + "\n").unwrap();
    }
    let golden = std::fs::read_to_string(&path).expect("golden file; make it with UPDATE_EXPECT=1");
    let golden: Vec<&str> = golden.lines().collect();
    assert_eq!(
        written, golden,
        "{name}: what is written changed; the neighbouring version must still read it"
    );
    for former in 1..FORMER_VERSIONS_MAX {
        let Ok(lines) = std::fs::read_to_string(path.with_extension(format!("v{former}.jsonl"))) else {
            break;
        };
        for line in lines.lines() {
            serde_json::from_str::<T>(line).expect("what a former version wrote is read");
        }
    }
    for (line, sample) in golden.iter().zip(samples) {
        assert_eq!(&serde_json::from_str::<T>(line).unwrap(), sample);
        // A newer neighbour adds fields: they are ignored.
        if let Some(rest) = line.strip_prefix('{') {
            let comma = if rest.starts_with('}') { "" } else { "," };
            let newer = format!("{{\"added_by_a_newer_version\":[1]{comma}{rest}");
            assert_eq!(&serde_json::from_str::<T>(&newer).unwrap(), sample, "{newer}");
        }
    }
}

fn hello() -> Hello {
    Hello {
        min: 1,
        max: 1,
        role: "agent".into(),
        pid: 7,
        generation: 2,
        build: "0.1.0".into(),
        rescue: false,
    }
}

fn process() -> Process {
    Process {
        name: "shop@1.4.1/0".into(),
        role: ProcessRole::Instance,
        pid: 4711,
        start_ticks: 99,
        generation: 0,
        descriptor: true,
        cgroup: Some("/sys/fs/cgroup/handover-0a1b2c3d/shop@1.4.1.0".into()),
        stop_signal: 15,
        grace_ms: 30_000,
        ended: None,
    }
}

fn items() -> Vec<VaultItem> {
    let listener = wire::vault::Listener {
        name: "web".into(),
        used_by: ListenerUse::Traffic,
        requested: "127.0.0.1:0".into(),
        address: "127.0.0.1:8080".into(),
        backlog: 4096,
    };
    let ended = Process { pid: 0, descriptor: false, ended: Some(ExitStatus::Signal(9)), ..process() };
    vec![
        VaultItem::Listener(listener),
        VaultItem::Notify { instance: "shop@1.4.1/0".into(), path: "/run/handover/x/notify/a.sock".into() },
        VaultItem::Process(process()),
        VaultItem::Process(ended),
    ]
}

#[test]
fn frames_from_the_holder_keep_their_form() {
    let instance = || "shop@1.4.1/0".to_owned();
    check(
        "from_holder",
        &[
            FromHolder::Hello(Hello { role: "holder".into(), generation: 0, rescue: true, ..hello() }),
            FromHolder::Deposit { items: items() },
            FromHolder::Withdraw { keys: items().iter().map(VaultItem::key).collect() },
            FromHolder::Inventory { boot: true, committed: "/var/lib/handover/bin/ab/handover".into() },
            FromHolder::Spawned { instance: instance(), pid: 4711 },
            FromHolder::SpawnFailed { instance: instance(), error: "no such file".into() },
            FromHolder::Exited { instance: instance(), status: ExitStatus::Code(3) },
            FromHolder::Exited { instance: instance(), status: ExitStatus::Unknown },
            FromHolder::Bound { name: "web".into(), address: "127.0.0.1:8080".into() },
            FromHolder::BindFailed { name: "web".into(), error: "in use".into() },
            FromHolder::Peer { generation: 3, pid: 12 },
            FromHolder::PeerGone { generation: 3, role: ProcessRole::Proxy },
            FromHolder::Stop { level: StopLevel::SkipDrain },
            FromHolder::Drain { deadline_ms: 30_000 },
            FromHolder::Alive,
        ],
    );
}

#[test]
fn frames_to_the_holder_keep_their_form() {
    let spawn = SpawnSpec {
        user: Some("www-data".into()),
        group: Some("adm".into()),
        umask: Some(0o027),
        open_files: Some(65_536),
        memory_max: Some(1 << 30),
        instance: "shop@1.4.1/0".into(),
        file_name: "shop@1.4.1.0".into(),
        program: "/srv/shop".into(),
        arguments: vec!["--listen".into(), "127.0.0.1:20000".into()],
        environment: vec![("PORT".into(), "20000".into())],
        working_directory: "/srv".into(),
        notify: true,
        stop_signal: 15,
        grace_ms: 30_000,
    };
    check(
        "to_holder",
        &[
            ToHolder::Hello(hello()),
            ToHolder::Deposit { items: items() },
            ToHolder::VaultComplete,
            ToHolder::BootTaken,
            ToHolder::Bind {
                name: "admin.sock".into(),
                used_by: ListenerUse::AdminLocal,
                address: "/run/handover/x/admin.sock".into(),
                backlog: 64,
            },
            ToHolder::Unbind { name: "web".into() },
            ToHolder::Spawn(Box::new(spawn)),
            ToHolder::Signal { instance: "shop@1.4.1/0".into(), signal: 15 },
            ToHolder::KillTree { instance: "shop@1.4.1/0".into() },
            ToHolder::Forget { instance: "shop@1.4.1/0".into() },
            ToHolder::Serving,
            ToHolder::Stopped,
            ToHolder::Alive,
        ],
    );
    check(
        "exec_spec",
        &[
            ExecSpec::default(),
            ExecSpec {
                user: Some("www-data".into()),
                group: Some("adm".into()),
                umask: Some(0o027),
                program: "/srv/shop".into(),
                arguments: vec!["-v".into()],
                environment: vec![("A".into(), "b".into())],
                working_directory: Some("/srv".into()),
                descriptors: vec![7, 9],
                listen_names: Some(vec!["web".into()]),
                stdout: Some("/run/out".into()),
                stderr: Some("/run/err".into()),
                cgroup_procs: Some("/sys/fs/cgroup/x/cgroup.procs".into()),
                open_files: Some((1024, 4096)),
                notify_socket: Some("/run/notify/x.sock".into()),
                error_descriptor: 11,
            },
        ],
    );
}

fn table() -> RouteTable {
    let settings = ListenerSettings {
        header_timeout_ms: 10_000,
        idle_timeout_ms: 75_000,
        body_timeout_ms: 60_000,
        head_bytes_max: 32_768,
        headers_max: 100,
        body_bytes_max: 1 << 30,
        ..ListenerSettings::UNNAMED
    };
    let probe = ProbeSettings {
        http_path: Some("/healthz".into()),
        interval_ms: 1_000,
        timeout_ms: 2_000,
        rise: 2,
        fall: 3,
    };
    let endpoint = |instance: &str, state| Endpoint {
        instance: instance.into(),
        address: Address::Tcp("127.0.0.1:20000".parse().unwrap()),
        state,
        weight: 1,
        supervised: true,
    };
    let release = ReleaseTraffic {
        release: "1.4.1".into(),
        weight: 10_000,
        endpoints: vec![
            endpoint("shop@1.4.1/0", EndpointState::Serving),
            endpoint("shop@1.4.1/1", EndpointState::Candidate),
            endpoint("shop@1.4.1/2", EndpointState::Draining),
        ],
    };
    let service = ServiceTraffic {
        hold: Some(Hold { timeout_ms: 30_000, requests_max: 1_000 }),
        releases: vec![release],
        probe: Some(probe),
        connect_timeout_ms: 2_000,
        response_timeout_ms: 60_000,
        idle_reuse_ms: 2_000,
        ..ServiceTraffic::default()
    };
    let route = TableRoute {
        listener: "web".into(),
        host: Some("*.example.com".into()),
        path: "/".into(),
        service: "shop".into(),
        split: vec![],
    };
    RouteTable {
        generation: 17,
        threads: 2,
        access_log: true,
        access_log_settings: AccessLogSettings::default(),
        listeners: BTreeMap::from([("web".into(), settings)]),
        routes: vec![route],
        services: BTreeMap::from([("shop".into(), service)]),
        refused: vec![("shop".into(), "1.4.2".into())],
    }
}

#[test]
fn frames_between_agent_and_proxy_keep_their_form() {
    check(
        "to_proxy",
        &[
            ToProxy::Hello(hello()),
            ToProxy::Table { table: Box::new(table()), probe: true },
            ToProxy::TableInDescriptor { generation: 17, probe: false },
            ToProxy::Drain { deadline_ms: 30_000 },
            ToProxy::ReportNow { token: 5 },
        ],
    );
    let release = ReleaseCounters {
        held: 3,
        hold_us_max: 1_500_000,
        service: "shop".into(),
        release: "1.4.1".into(),
        requests: 10,
        errors: 1,
        retried: 2,
        failed: 3,
        lost_on_reuse: 1,
        in_flight: 4,
        wait_us_max: 250,
        ejected: 2,
        queued: 6,
        waiting: 5,
        ejected_now: 1,
    };
    let counters = golden_counters(release);
    check(
        "from_proxy",
        &[
            FromProxy::Hello(Hello { role: "proxy".into(), ..hello() }),
            FromProxy::TableApplied { generation: 17 },
            FromProxy::Drained { instance: "shop@1.4.1/2".into(), generation: 17 },
            FromProxy::Probe { instance: "shop@1.4.1/1".into(), healthy: Some(true), detail: "200".into() },
            FromProxy::Probe { instance: "shop@1.4.1/1".into(), healthy: None, detail: "refused".into() },
            FromProxy::Counters(Box::new(counters)),
            FromProxy::Certificate(CertificateNews {
                listener: "web".into(),
                certificate: "/etc/tls/shop.pem".into(),
                error: Some("it expires in 9 days".into()),
                not_after_ms: Some(1_800_000_000_000),
            }),
            FromProxy::DrainComplete,
        ],
    );
}

fn service() -> Service {
    Service {
        release: "/srv/dist/shop-1.4.1".into(),
        version: "1.4.1".into(),
        command: vec!["./shop".into(), "${PORT}".into()],
        instances: 2,
        environment: vec![("RUST_LOG".into(), "info".into())],
        environment_inherit: vec!["HTTP_PROXY".into()],
        version_is_derived: true,
        mode: Mode::Proxied,
        port: Some(8_081),
        environment_file: Some("/etc/shop.env".into()),
        working_directory: Some("data".into()),
        user: Some("www-data".into()),
        group: Some("adm".into()),
        umask: Some(0o027),
        limits_open_files: Some(65_536),
        limits_memory: Some(1 << 30),
        liveness: Some(Liveness {
            check: LivenessCheck::Watchdog,
            interval_ms: 10_000,
            timeout_ms: 2_000,
            fall: 1,
        }),
        reload: Some(Reload { by: ReloadBy::Signal(StopSignal::HangUp), timeout_ms: 10_000 }),
        hooks: BTreeMap::from([(
            "before_start".into(),
            Hook { command: vec!["./migrate".into()], timeout_ms: 60_000 },
        )]),
        depends_on: vec![Dependency { service: "db".into(), until: DependsUntil::Ready }],
        output: Output { max_size: 10 << 20, max_age_ms: Some(86_400_000), files: 8 },
        readiness: Readiness {
            check: ReadinessCheck::Http("/healthz".into()),
            interval_ms: 1_000,
            timeout_ms: 2_000,
            rise: 2,
            fall: 3,
            startup_timeout_ms: 60_000,
        },
        stop: Stop { signal: StopSignal::Graceful, drain_timeout_ms: 30_000, grace_period_ms: 30_000 },
        restart: Restart {
            policy: RestartPolicy::Always,
            delay_ms: 1_000,
            max_delay_ms: 60_000,
            reset_after_ms: 60_000,
            success_codes: vec![143],
            restart_codes: vec![75],
            stop_codes: vec![64, 78],
            unready_after_ms: 300_000,
        },
        upstream: upstream(),
        retry: RetrySettings {
            attempts: 2,
            budget_percent: 10,
            statuses: vec![502, 503],
            non_idempotent: true,
        },
        balance: balance(),
        outlier: Some(OutlierSettings::default()),
        paths: vec!["/api/order/{id}".into()],
        maintenance: Some(Maintenance { on: true, retry_after_s: 60, page: Some("<p>soon</p>".into()) }),
        rollout: Rollout {
            strategy: Strategy::Rolling,
            keep_warm_ms: 600_000,
            max_surge: 1,
            max_unavailable: 0,
            sticky: Some(Sticky::Cookie { name: "handover_release".into(), max_age_s: 86_400 }),
        },
    }
}

fn balance() -> BalanceSettings {
    BalanceSettings {
        algorithm: Algorithm::Hash(HashKey::Cookie("session".into())),
        slow_start_ms: 10_000,
        requests_max: 64,
        ..BalanceSettings::default()
    }
}

fn upstream() -> Upstream {
    Upstream {
        connect_timeout_ms: 2_000,
        response_timeout_ms: 60_000,
        idle_reuse_ms: 2_000,
        request_timeout_ms: 30_000,
        tunnel_idle_timeout_ms: 600_000,
    }
}

fn fronted() -> Fronted {
    let place = |address| Place { address, weight: 5 };
    Fronted {
        endpoints: vec![
            place(PlaceAddress::Tcp("10.0.0.5:9000".parse().unwrap())),
            place(PlaceAddress::Unix("/run/app.sock".into())),
            place(PlaceAddress::Name("backend.internal".into(), 8_080)),
        ],
        probe: Some(Probe {
            http_path: Some("/healthz".into()),
            interval_ms: 1_000,
            timeout_ms: 2_000,
            rise: 2,
            fall: 3,
        }),
        upstream: upstream(),
        retry: RetrySettings::default(),
        balance: BalanceSettings { algorithm: Algorithm::RoundRobin, ..BalanceSettings::default() },
        outlier: None,
        paths: vec![],
        maintenance: None,
    }
}

fn manifest() -> Manifest {
    let listener = Listener {
        bind: "0.0.0.0:8080".parse().unwrap(),
        backlog: 4_096,
        header_timeout_ms: 10_000,
        idle_timeout_ms: 75_000,
        body_timeout_ms: 60_000,
        head_bytes_max: 32_768,
        headers_max: 100,
        body_bytes_max: 1 << 30,
        tls: vec![CertificateFiles { certificate: "/etc/cert.pem".into(), key: "/etc/key.pem".into() }],
        trusted_proxies: vec!["10.0.0.0/8".into()],
        https_redirect: Some("secure".into()),
    };
    let route = |host: Option<&str>| Route {
        listener: "web".into(),
        host: host.map(Into::into),
        path: "/".into(),
        service: "shop".into(),
        split: vec![
            Split { service: "shop".into(), weight: 80 },
            Split { service: "api".into(), weight: 20 },
        ],
    };
    Manifest {
        state_dir: "/var/lib/handover".into(),
        admin_bind: "127.0.0.1:7979".parse().unwrap(),
        admin_bind_is_default: true,
        proxy_threads: 4,
        access_log: true,
        access_log_settings: AccessLogSettings {
            format: AccessLogFormat::Combined,
            sample: 1_000,
            query: true,
        },
        log: Default::default(),
        instance_ports: (20_000, 29_999),
        listeners: BTreeMap::from([("web".into(), listener)]),
        routes: vec![route(None), route(Some("shop.example.com")), route(Some("*.example.com"))],
        services: BTreeMap::from([("shop".into(), service())]),
        fronted: BTreeMap::from([("api".into(), fronted())]),
    }
}

fn record() -> Record {
    let rollout = RolloutRecord {
        id: 3,
        kind: RolloutKind::Deploy,
        to: "1.4.2".into(),
        from: Some("1.4.1".into()),
        actor: "root".into(),
        operation: None,
        strategy: None,
        prepared: false,
        phase: Phase::Baking,
        intent: None,
        reason: None,
        output: vec!["listening".into()],
        started_at_ms: 1_790_000_000_000,
        decided_at_ms: Some(1_790_000_000_400),
        bake_left_ms: Some(599_000),
        receipt: Receipt { requests: 100, switched_after_ms: Some(310), ..Receipt::default() },
    };
    let release = ReleaseRecord {
        release: "1.4.2".into(),
        directory: "/var/lib/handover/releases/shop/1.4.2".into(),
        hash: "ab".repeat(32),
        source: "/srv/dist/shop-1.4.2".into(),
        configuration: service(),
        verdict: Verdict::Good,
        promoted: true,
    };
    let service = ServiceRecord {
        removed: false,
        pending: None,
        instances: BTreeMap::new(),
        slots: BTreeMap::new(),
        scaled: Some(4),
        stopped: true,
        operation: Some(OperationRecord {
            id: 12,
            kind: OperationKind::Restart,
            actor: "command line".into(),
            operation: Some("0123abcd".into()),
            started_at_ms: 1_764_000_000_000,
            remaining: vec!["shop@1.4.1/1".into()],
            succeeded: Some(false),
            reason: Some("shop@1.4.1/2 was not ready within 1m".into()),
        }),
        stable: Some("1.4.2".into()),
        warm: Some(Warm { release: "1.4.1".into(), left_ms: 599_000 }),
        releases: vec![release],
        last_rollout: Some(RolloutRecord { id: 2, kind: RolloutKind::First, ..rollout.clone() }),
        rollout: Some(rollout),
        requests_before: 5,
        errors_before: 1,
    };
    Record {
        v: 1,
        written_at_ms: 1_790_000_000_500,
        manifest: manifest(),
        source: "[service.shop]".into(),
        path: "/srv/handover.toml".into(),
        binary_origin: "/usr/bin/handover".into(),
        environment: vec![("HTTP_PROXY".into(), "x".into())],
        table_generation: 17,
        next_rollout: 4,
        services: BTreeMap::from([("shop".into(), service)]),
        stopping: None,
    }
}

#[test]
fn records_and_the_boot_form_keep_their_form() {
    check("record", &[record()]);
    check("routes", &[table()]);
    let boot = Boot {
        v: 1,
        manifest: manifest(),
        source: "[service.shop]".into(),
        path: "/srv/handover.toml".into(),
        binary_origin: "/usr/bin/handover".into(),
        environment: vec![],
        print_output: true,
        colour: false,
    };
    check("boot", &[boot]);
}

#[test]
fn history_entries_keep_their_form() {
    let entry = wire::history::Entry {
        v: 1,
        at_ms: 1_795_366_800_123,
        service: Some("shop".into()),
        subject: "rollout".into(),
        text: "rollout 1 to 1.4.1 begins".into(),
        actor: "ada".into(),
        rollout: record().services["shop"].rollout.clone(),
    };
    let bare = wire::history::Entry { service: None, rollout: None, ..entry.clone() };
    check("history", &[entry, bare]);
}

#[test]
fn the_checked_manifest_survives_the_way_over_the_wire() {
    let there = model::manifest::Manifest::try_from(&manifest()).unwrap();
    assert_eq!(Manifest::from(&there), manifest());
}

#[test]
fn a_slot_torn_or_flipped_at_any_byte_is_noticed() {
    let bytes = wire::record::encode(9, &record()).unwrap();
    assert_eq!(wire::record::decode(&bytes).unwrap(), (9, record()));
    let mut padded = bytes.clone();
    padded.resize(wire::record::SLOT_BYTES, 0xAA);
    assert_eq!(wire::record::decode(&padded).unwrap().0, 9);
    for cut in 0..bytes.len() {
        let mut torn = bytes[..cut].to_vec();
        torn.resize(bytes.len(), 0);
        // Only a cut that loses zeros alone may still read.
        assert!(torn == bytes || wire::record::decode(&torn).is_err(), "cut at {cut}");
    }
    for at in (0..bytes.len()).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        assert!(wire::record::decode(&flipped).is_err(), "flipped at {at}");
    }
    assert!(matches!(wire::record::decode(&[0; 4096]), Err(wire::record::RecordError::Empty)));
}

fn golden_counters(release: ReleaseCounters) -> Counters {
    let name = SeriesName::Instance {
        service: "shop".into(),
        release: "1.4.1".into(),
        instance: "shop@1.4.1/0".into(),
    };
    let mut totals =
        SeriesTotals { answers: [0, 0, 2, 0, 0, 1], bytes_out: 64, retries: 1, ..SeriesTotals::default() };
    for micros in [7, 900, 901] {
        totals.latency.record_micros(micros);
    }
    totals.first_byte.record_micros(5);
    let listener = ListenerCounters {
        listener: "web".into(),
        connections: 1,
        tunnels: 1,
        accepted: 2,
        handshakes: 2,
        handshakes_resumed: 1,
        handshakes_failed: 1,
        refused: 3,
    };
    Counters {
        token: Some(5),
        connections: 1,
        accepted: 2,
        refused: 3,
        releases: vec![release],
        listeners: vec![listener],
        certificates: vec![CertificateInUse {
            listener: "web".into(),
            name: "shop.example".into(),
            not_after_ms: 1_900_000_000_000,
        }],
        log_lines_dropped: 4,
        series: vec![
            SeriesCounters::new(&name, &totals),
            SeriesCounters::new(
                &SeriesName::Group { service: "shop".into(), group: "/api/order/{id}".into() },
                &SeriesTotals::default(),
            ),
            SeriesCounters::new(
                &SeriesName::Route { listener: "web".into(), route: "*/".into() },
                &SeriesTotals::default(),
            ),
        ],
        series_anew: true,
        series_more: true,
    }
}
