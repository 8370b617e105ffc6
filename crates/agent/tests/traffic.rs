//! What a manifest says of requests, and how it gets into route tables; services whose processes are not ours.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use agent::controller::{Action, Asked};
use agent::world::{Applied, ApplyRequest, Effect, Event, FleetRequest, Inventory};
use agent::{Controller, Denied};
use model::time::{Instant, WallTime};
use wire::manifest::{Fronted, Listener, Manifest, Place, PlaceAddress, Probe, Route, Service};
use wire::record::Record;
use wire::routes::{
    AccessLogFormat, AccessLogSettings, Algorithm, BalanceSettings, CertificateFiles, Endpoint, HashKey,
    Maintenance, OutlierSettings, RetrySettings, RouteTable, Split, Sticky,
};
use wire::sealed::Boot;

fn listener(port: u16) -> Listener {
    Listener {
        bind: ([127, 0, 0, 1], port).into(),
        backlog: 128,
        header_timeout_ms: 1,
        idle_timeout_ms: 1,
        body_timeout_ms: 1,
        head_bytes_max: 1,
        headers_max: 1,
        body_bytes_max: 1,
        tls: Vec::new(),
        trusted_proxies: Vec::new(),
        https_redirect: None,
    }
}

fn manifest() -> Manifest {
    Manifest {
        state_dir: PathBuf::from("/state"),
        admin_bind: "127.0.0.1:7979".parse().expect("an address"),
        admin_bind_is_default: true,
        proxy_threads: 1,
        access_log: true,
        access_log_settings: AccessLogSettings::default(),
        log: Default::default(),
        instance_ports: (20_000, 20_099),
        listeners: BTreeMap::from([("plain".to_owned(), listener(80)), ("secure".to_owned(), listener(0))]),
        routes: vec![Route {
            listener: "plain".to_owned(),
            host: None,
            path: "/".to_owned(),
            service: "shop".to_owned(),
            split: Vec::new(),
        }],
        services: BTreeMap::from([(
            "shop".to_owned(),
            Service::bare("/dist/1.0.0", "1.0.0", &["./shop", "${PORT}"]),
        )]),
        fronted: BTreeMap::new(),
    }
}

/// A controller, and a world that obeys it at once.
struct Scene {
    controller: Controller,
    record: Record,
    table: RouteTable,
    /// Processes that were started.
    started: usize,
    /// Names that are looked up.
    asked: BTreeSet<String>,
    told: Vec<String>,
    /// What proxies were told of the time that is left.
    drains: Vec<Duration>,
    events: VecDeque<Event>,
}

impl Scene {
    fn new(manifest: Manifest) -> Self {
        let boot = Boot {
            v: 1,
            manifest,
            source: "# text".to_owned(),
            path: "/srv/handover.toml".to_owned(),
            binary_origin: "/usr/bin/handover".to_owned(),
            environment: Vec::new(),
            print_output: false,
            colour: false,
        };
        let mut scene = Self::resume(Controller::first_record(&boot, WallTime(0)), RouteTable::default());
        scene.hear_inventory(None);
        scene
    }

    fn resume(record: Record, table: RouteTable) -> Self {
        let controller = Controller::resume(record.clone(), Instant::START, WallTime(0), 0).expect("ours");
        let (asked, told) = (BTreeSet::new(), Vec::new());
        let drains = Vec::new();
        Self { controller, record, table, started: 0, asked, told, drains, events: VecDeque::new() }
    }

    fn hear_inventory(&mut self, table: Option<RouteTable>) {
        self.tell(Event::Inventory(Inventory { proxies: vec![(1, 50)], table, ..Inventory::default() }));
        self.tell(Event::ProxyUp { generation: 1, pid: 50 });
    }

    fn tell(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            self.controller.handle_event(event, Instant::START, WallTime(0));
            self.carry_out();
        }
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.controller.poll_action() {
            match action {
                Action::Publish(table) => {
                    self.events.push_back(Event::TableApplied { proxy: 1, generation: table.generation });
                    self.table = *table;
                }
                Action::Drain(left) => self.drains.push(left),
                Action::Write(record) => {
                    self.record = *record;
                    self.controller.handle_written(Ok(()), Instant::START, WallTime(0));
                }
                Action::Prepare(request) => self.events.push_back(Event::ReleasePrepared {
                    service: request.service.clone(),
                    release: request.release.clone(),
                    directory: PathBuf::from("/state/releases/1.0.0"),
                    hash: "hash".to_owned(),
                }),
                Action::Fleet(FleetRequest::Spawn(request)) => {
                    self.started += 1;
                    let instance = request.instance.clone();
                    self.events.push_back(Event::Spawned { instance: instance.clone(), pid: 7 });
                    self.events.push_back(Event::Probe {
                        instance,
                        healthy: Some(true),
                        detail: String::new(),
                    });
                }
                Action::Fleet(FleetRequest::Bind { name, address, .. }) => {
                    let address = if address.ends_with(":0") { "127.0.0.1:8443".to_owned() } else { address };
                    self.events.push_back(Event::Bound { name, address });
                }
                Action::LookUp(names) => self.asked = names,
                Action::Announce(notice) => self.told.push(notice.text.clone()),
                _ => {}
            }
        }
    }

    fn apply(&mut self, manifest: Manifest) -> Result<Applied, Denied> {
        let request = ApplyRequest {
            manifest,
            source: "# edited".to_owned(),
            path: "/srv/handover.toml".to_owned(),
            environment: Vec::new(),
            actor: "ada".to_owned(),
            operation: None,
        };
        let applied = self.controller.try_apply(&request, Instant::START, WallTime(0));
        self.carry_out();
        self.tell(Event::Timeout);
        applied
    }
}

#[test]
fn every_setting_of_requests_holds_at_once_and_is_in_the_next_table() {
    let mut scene = Scene::new(manifest());
    let outlier = OutlierSettings { consecutive_errors: 7, ..OutlierSettings::default() };
    let sticky = Sticky::Header { name: "X-User".to_owned() };
    let maintenance = Maintenance { on: true, retry_after_s: 30, page: Some("<p>soon</p>".to_owned()) };
    let log = AccessLogSettings { format: AccessLogFormat::Combined, sample: 100, query: true };
    let certificate =
        CertificateFiles { certificate: "/pem/cert.pem".to_owned(), key: "/pem/key.pem".to_owned() };
    let mut edited = manifest();
    edited.access_log_settings = log.clone();
    edited.routes[0].split = vec![
        Split { service: "shop".to_owned(), weight: 3 },
        Split { service: "other".to_owned(), weight: 1 },
    ];
    let plain = edited.listeners.get_mut("plain").expect("it is there");
    plain.trusted_proxies = vec!["10.0.0.0/8".to_owned()];
    plain.https_redirect = Some("secure".to_owned());
    edited.listeners.get_mut("secure").expect("it is there").tls = vec![certificate.clone()];
    let shop = edited.services.get_mut("shop").expect("it is there");
    shop.upstream.request_timeout_ms = 5_000;
    shop.upstream.tunnel_idle_timeout_ms = 6_000;
    shop.retry = RetrySettings { attempts: 2, statuses: vec![503], ..RetrySettings::default() };
    shop.balance.algorithm = Algorithm::Hash(HashKey::Source);
    shop.balance.requests_max = 8;
    shop.outlier = Some(outlier.clone());
    shop.paths = vec!["/order/{id}".to_owned()];
    shop.maintenance = Some(maintenance.clone());
    shop.rollout.sticky = Some(sticky.clone());
    let applied = scene.apply(edited).expect("applied");
    let keys: Vec<&str> = applied.changes.iter().map(|change| change.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "service.shop.balance.algorithm",
            "service.shop.balance.requests_max",
            "service.shop.maintenance",
            "service.shop.outlier.consecutive_errors",
            "service.shop.paths",
            "service.shop.retry.attempts",
            "service.shop.retry.statuses",
            "service.shop.rollout.sticky",
            "service.shop.upstream.request_timeout",
            "service.shop.upstream.tunnel_idle_timeout",
            "proxy.access_log",
            "listener.plain.https_redirect",
            "listener.plain.trusted_proxies",
            "listener.secure.tls",
            "route",
        ]
    );
    assert!(applied.changes.iter().all(|change| change.effect == Effect::Live), "{:?}", applied.changes);
    assert!(applied.rollouts.is_empty() && applied.operations.is_empty());
    assert_eq!(scene.started, 1, "no other process is started");
    let table = &scene.table;
    assert_eq!((table.access_log, &table.access_log_settings), (true, &log));
    assert_eq!(table.listeners["plain"].trusted_proxies, ["10.0.0.0/8"]);
    assert_eq!(table.listeners["plain"].redirect_https_port, Some(8443), "the port that it has");
    assert_eq!(table.listeners["secure"].tls, [certificate]);
    assert_eq!((table.routes[0].service.as_str(), table.routes[0].split.len()), ("shop", 2));
    let shop = &table.services["shop"];
    assert_eq!((shop.request_timeout_ms, shop.tunnel_idle_timeout_ms), (5_000, 6_000));
    assert_eq!((shop.retry.attempts, &shop.retry.statuses[..]), (2, &[503][..]));
    let hashed = BalanceSettings {
        algorithm: Algorithm::Hash(HashKey::Source),
        requests_max: 8,
        ..BalanceSettings::default()
    };
    assert_eq!((&shop.balance, shop.outlier.as_ref()), (&hashed, Some(&outlier)));
    assert_eq!((&shop.paths[..], shop.sticky.as_ref()), (&["/order/{id}".to_owned()][..], Some(&sticky)));
    assert_eq!(shop.maintenance.as_ref(), Some(&maintenance));
}

#[test]
fn a_maintenance_page_is_in_the_record_once() {
    let mut with = manifest();
    let page = Some("<p>soon</p>".to_owned());
    with.services.get_mut("shop").expect("it is there").maintenance =
        Some(Maintenance { on: false, retry_after_s: 1, page });
    let scene = Scene::new(with);
    assert_eq!(format!("{:?}", scene.record).matches("<p>soon</p>").count(), 1);
}

fn place(address: PlaceAddress) -> Place {
    Place { address, weight: 1 }
}

fn tcp(address: &str) -> Place {
    place(PlaceAddress::Tcp(address.parse().expect("an address")))
}

fn named() -> Place {
    place(PlaceAddress::Name("backend.internal".to_owned(), 8_080))
}

fn fronted(endpoints: Vec<Place>, probe: bool) -> Manifest {
    let probe = probe.then_some(Probe { http_path: None, interval_ms: 1, timeout_ms: 1, rise: 1, fall: 1 });
    let Service { upstream, retry, balance, outlier, .. } = Service::bare("/", "1", &["x"]);
    let api =
        Fronted { endpoints, probe, upstream, retry, balance, outlier, paths: Vec::new(), maintenance: None };
    Manifest {
        services: BTreeMap::new(),
        routes: Vec::new(),
        fronted: BTreeMap::from([("api".to_owned(), api)]),
        ..manifest()
    }
}

impl Scene {
    /// Instance, address and state of each endpoint in the last table.
    fn endpoints(&self) -> Vec<String> {
        let releases = &self.table.services["api"].releases;
        let shown = |e: &Endpoint| format!("{} {} {:?}", e.instance, e.address, e.state);
        releases.iter().flat_map(|release| &release.endpoints).map(shown).collect()
    }

    fn looked_up(&mut self, result: Result<&[&str], &str>) {
        let addresses = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an IP")).collect();
        let result = result.map(addresses).map_err(str::to_owned);
        self.tell(Event::LookedUp { name: "backend.internal".to_owned(), result });
    }

    fn probed(&mut self, instance: &str, healthy: bool) {
        let instance = instance.parse().expect("an id");
        self.tell(Event::Probe { instance, healthy: Some(healthy), detail: "refused".to_owned() });
    }

    fn drained(&mut self, instance: &str) {
        let instance = instance.parse().expect("an id");
        self.tell(Event::Drained { proxy: 1, instance, generation: self.table.generation });
    }
}

#[test]
fn endpoints_without_a_probe_serve_at_once_and_are_not_believed_to_drain() {
    let scene = Scene::new(fronted(
        vec![tcp("10.0.0.5:9000"), place(PlaceAddress::Unix("/run/app.sock".to_owned()))],
        false,
    ));
    assert_eq!(
        scene.endpoints(),
        ["api@external/0 10.0.0.5:9000 Serving", "api@external/1 unix:/run/app.sock Serving"]
    );
    let api = &scene.table.services["api"];
    assert_eq!((api.releases[0].weight, api.probe.is_none()), (10_000, true));
    assert!(api.releases[0].endpoints.iter().all(|endpoint| !endpoint.supervised));
    assert_eq!(scene.started, 0);
    let status = scene.controller.status(Instant::START, WallTime(0));
    let api = &status.services["api"];
    assert_eq!((api.stable.as_deref(), api.fronted, api.desired_instances), (Some("external"), true, 2));
    assert_eq!(
        (api.instances[0].state, api.instances[0].address.as_deref()),
        ("ready", Some("10.0.0.5:9000"))
    );
}

#[test]
fn probed_endpoints_serve_when_they_are_ready_and_the_last_one_stays() {
    let mut scene = Scene::new(fronted(vec![tcp("10.0.0.5:1"), tcp("10.0.0.6:1")], true));
    assert_eq!(
        scene.endpoints(),
        ["api@external/0 10.0.0.5:1 Candidate", "api@external/1 10.0.0.6:1 Candidate"]
    );
    scene.probed("api@external/0", true);
    scene.probed("api@external/1", true);
    scene.probed("api@external/0", false);
    assert_eq!(
        scene.endpoints(),
        ["api@external/0 10.0.0.5:1 Candidate", "api@external/1 10.0.0.6:1 Serving"]
    );
    scene.probed("api@external/1", false);
    let serving = scene.endpoints().iter().filter(|endpoint| endpoint.ends_with("Serving")).count();
    assert_eq!(serving, 1, "the last one is never ejected");
}

#[test]
fn an_endpoint_that_is_taken_out_drains_once_another_one_serves() {
    let mut scene = Scene::new(fronted(vec![tcp("10.0.0.5:1")], true));
    scene.probed("api@external/0", true);
    let applied = scene.apply(fronted(vec![tcp("10.0.0.6:1")], true)).expect("applied");
    let keys: Vec<_> = applied.changes.iter().map(|change| (change.key.as_str(), &change.effect)).collect();
    assert_eq!(keys, [("service.api.endpoints", &Effect::Live)]);
    assert_eq!(
        scene.endpoints(),
        ["api@external/0 10.0.0.5:1 Serving", "api@external/1 10.0.0.6:1 Candidate"],
        "nothing else could answer yet"
    );
    scene.probed("api@external/1", true);
    assert_eq!(
        scene.endpoints(),
        ["api@external/0 10.0.0.5:1 Draining", "api@external/1 10.0.0.6:1 Serving"]
    );
    scene.drained("api@external/0");
    assert_eq!(scene.endpoints(), ["api@external/1 10.0.0.6:1 Serving"]);
}

#[test]
fn every_address_of_a_name_is_an_endpoint_and_a_failed_lookup_changes_none() {
    let mut scene = Scene::new(fronted(vec![named()], false));
    assert_eq!(scene.asked, BTreeSet::from(["backend.internal".to_owned()]));
    assert_eq!(scene.endpoints(), Vec::<String>::new());
    scene.looked_up(Ok(&["10.0.0.2", "10.0.0.1"]));
    let both = ["api@external/0 10.0.0.1:8080 Serving", "api@external/1 10.0.0.2:8080 Serving"];
    assert_eq!(scene.endpoints(), both);
    scene.looked_up(Err("no name server has answered"));
    scene.looked_up(Err("no name server has answered"));
    assert_eq!(scene.endpoints(), both);
    let told = scene.told.iter().filter(|text| text.contains("cannot be looked up")).count();
    assert_eq!(told, 1, "{:?}", scene.told);
    scene.looked_up(Ok(&["10.0.0.2", "10.0.0.3"]));
    assert_eq!(
        scene.endpoints(),
        [
            "api@external/0 10.0.0.1:8080 Draining",
            "api@external/1 10.0.0.2:8080 Serving",
            "api@external/2 10.0.0.3:8080 Serving"
        ]
    );
}

#[test]
fn the_next_agent_goes_on_with_the_endpoints_of_the_table_until_names_are_answered() {
    let mut scene = Scene::new(fronted(vec![named(), tcp("10.0.0.9:1")], false));
    scene.looked_up(Ok(&["10.0.0.1"]));
    let before = scene.endpoints();
    let mut next = Scene::resume(scene.record.clone(), RouteTable::default());
    next.hear_inventory(Some(scene.table.clone()));
    assert_eq!(next.endpoints(), before);
    next.looked_up(Err("no name server has answered"));
    assert_eq!(next.endpoints(), before);
    next.looked_up(Ok(&["10.0.0.1"]));
    assert_eq!(next.endpoints(), before, "each keeps its number");
}

#[test]
fn nothing_of_a_fronted_service_can_be_deployed_or_stopped_and_it_can_be_taken_out() {
    let mut scene = Scene::new(fronted(vec![tcp("10.0.0.5:1")], false));
    let asked = Asked { actor: "ada", operation: None };
    let denied = scene.controller.try_restart("api", asked, Instant::START, WallTime(0)).expect_err("denied");
    assert_eq!(denied, Denied::Fronted { service: "api".parse().expect("a name") });
    let refused = scene.apply(Manifest {
        services: BTreeMap::from([("api".to_owned(), Service::bare("/dist/1", "1", &["x"]))]),
        fronted: BTreeMap::new(),
        ..fronted(Vec::new(), false)
    });
    assert!(matches!(refused, Err(Denied::Unchangeable { .. })), "{refused:?}");
    let without = Manifest { fronted: BTreeMap::new(), ..fronted(Vec::new(), false) };
    let applied = scene.apply(without).expect("applied");
    assert_eq!(applied.changes[0].effect, Effect::Removed);
    assert_eq!(scene.endpoints(), ["api@external/0 10.0.0.5:1 Draining"]);
    scene.drained("api@external/0");
    assert!(!scene.table.services.contains_key("api") && !scene.record.services.contains_key("api"));
}

#[test]
fn requests_to_services_that_are_not_started_here_finish_when_everything_stops() {
    let mut scene = Scene::new(fronted(vec![tcp("10.0.0.5:1")], false));
    scene.controller.stop_all(wire::link::StopLevel::Drain, Instant::START, WallTime(0));
    scene.carry_out();
    assert_eq!(scene.drains, [Duration::from_secs(30)]);
}
