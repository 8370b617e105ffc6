//! Operations, strategies and applied manifests, one decision at a time: a world in which everything does at once
//! what is asked of it, except where a test says otherwise. Whole stories are the simulator's.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use agent::controller::{Action, Asked};
use agent::world::{
    Applied, ApplyRequest, DeployRequest, Effect, Event, FleetRequest, Inventory, PrepareRelease,
};
use agent::{Controller, Denied};
use model::id::InstanceId;
use model::manifest::StopSignal;
use model::time::{Instant, WallTime};
use wire::link::ExitStatus;
use wire::manifest::{
    Dependency, DependsUntil, Listener, Manifest, Mode, ReadinessCheck, Reload, ReloadBy, Service, Strategy,
};
use wire::record::Record;
use wire::routes::{EndpointState, RouteTable};
use wire::sealed::Boot;
use wire::traffic::{Counters, ReleaseCounters};

const ADA: Asked<'_> = Asked { actor: "ada", operation: None };

fn service(instances: u32) -> Service {
    Service { instances, ..Service::bare("/dist/1.0.0", "1.0.0", &["./shop", "${PORT}"]) }
}

fn rolling(instances: u32) -> Service {
    let mut service = service(instances);
    service.rollout.strategy = Strategy::Rolling;
    service
}

fn fixed() -> Service {
    let mut service = Service { port: Some(9_000), ..service(1) };
    service.rollout.strategy = Strategy::Recreate;
    service
}

fn manifest(services: &[(&str, Service)]) -> Manifest {
    Manifest {
        state_dir: PathBuf::from("/state"),
        admin_bind: "127.0.0.1:7979".parse().expect("an address"),
        admin_bind_is_default: true,
        proxy_threads: 1,
        access_log: true,
        access_log_settings: Default::default(),
        log: Default::default(),
        instance_ports: (20_000, 20_099),
        listeners: BTreeMap::new(),
        routes: Vec::new(),
        services: services.iter().map(|(name, service)| ((*name).to_owned(), service.clone())).collect(),
        fronted: Default::default(),
    }
}

fn given(manifest: Manifest) -> ApplyRequest {
    ApplyRequest {
        manifest,
        source: "# edited".to_owned(),
        path: "/srv/handover.toml".to_owned(),
        environment: Vec::new(),
        actor: "ada".to_owned(),
        operation: None,
    }
}

/// A controller, and a world that obeys it.
struct Scene {
    controller: Controller,
    now: Instant,
    record: Record,
    table: RouteTable,
    running: BTreeMap<InstanceId, u32>,
    /// In order, as text.
    done: Vec<String>,
    /// What is started does not answer.
    silent: bool,
    /// What is asked to stop does not.
    stubborn: bool,
    events: VecDeque<Event>,
    pids: u32,
}

impl Scene {
    fn new(services: &[(&str, Service)]) -> Self {
        let boot = Boot {
            v: 1,
            manifest: manifest(services),
            source: "# text".to_owned(),
            path: "/srv/handover.toml".to_owned(),
            binary_origin: "/usr/bin/handover".to_owned(),
            environment: Vec::new(),
            print_output: false,
            colour: false,
        };
        let mut scene = Self::resume(Controller::first_record(&boot, WallTime(0)));
        scene.tell(Event::Inventory(Inventory { proxies: vec![(1, 50)], ..Inventory::default() }));
        scene.tell(Event::ProxyUp { generation: 1, pid: 50 });
        scene
    }

    fn resume(record: Record) -> Self {
        let controller = Controller::resume(record.clone(), Instant::START, WallTime(0), 0).expect("ours");
        Self {
            controller,
            now: Instant::START,
            record,
            table: RouteTable::default(),
            running: BTreeMap::new(),
            done: Vec::new(),
            silent: false,
            stubborn: false,
            events: VecDeque::new(),
            pids: 100,
        }
    }

    /// Another agent takes over from this one.
    fn next(self) -> Self {
        let Self { record, table, running, pids, .. } = self;
        let mut next = Self { table: table.clone(), running: running.clone(), pids, ..Self::resume(record) };
        let running = running.into_iter().collect();
        next.tell(Event::Inventory(Inventory {
            running,
            proxies: vec![(1, 50)],
            table: Some(table),
            ..Inventory::default()
        }));
        next.tell(Event::ProxyUp { generation: 1, pid: 50 });
        next
    }

    fn tell(&mut self, event: Event) {
        self.events.push_back(event);
        while let Some(event) = self.events.pop_front() {
            self.controller.handle_event(event, self.now, WallTime(0));
            self.carry_out();
        }
    }

    fn settle(&mut self) {
        self.carry_out();
        self.tell(Event::Timeout);
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.controller.poll_action() {
            match action {
                Action::Publish(table) => self.publish(*table),
                Action::Fleet(request) => self.obey(request),
                Action::Write(record) => {
                    self.record = *record;
                    self.controller.handle_written(Ok(()), self.now, WallTime(0));
                }
                Action::Prepare(request) => self.prepare(&request),
                Action::RemoveRelease { directory, .. } => self.done.push(format!("remove {directory}")),
                Action::Drain(time) => self.done.push(format!("drain within {time:?}")),
                Action::ReportNow(_) | Action::Append(_) | Action::LookUp(_) | Action::Announce(_) => {}
            }
        }
    }

    fn prepare(&mut self, request: &PrepareRelease) {
        self.done.push(format!("copy {}", request.release));
        self.events.push_back(Event::ReleasePrepared {
            service: request.service.clone(),
            release: request.release.clone(),
            directory: PathBuf::from(format!(
                "/state/releases/{}/{}",
                request.service, request.release.version
            )),
            hash: format!("hash of {}", request.release.version),
        });
    }

    fn publish(&mut self, table: RouteTable) {
        let generation = table.generation;
        let endpoints = table.services.values().flat_map(|s| &s.releases).flat_map(|r| &r.endpoints);
        let draining = endpoints.filter(|e| e.state == EndpointState::Draining);
        let drained = draining.map(|e| e.instance.parse().expect("an id"));
        let drained: Vec<InstanceId> = drained.collect();
        self.events.push_back(Event::TableApplied { proxy: 1, generation });
        self.events.extend(drained.into_iter().map(|instance| Event::Drained {
            proxy: 1,
            instance,
            generation,
        }));
        self.table = table;
    }

    fn obey(&mut self, request: FleetRequest) {
        match request {
            FleetRequest::Spawn(request) => {
                self.pids += 1;
                self.done.push(format!("start {}", request.instance));
                self.running.insert(request.instance.clone(), self.pids);
                let instance = request.instance.clone();
                self.events.push_back(Event::Spawned { instance: instance.clone(), pid: self.pids });
                if !self.silent {
                    let detail = String::new();
                    self.events.push_back(Event::Probe { instance, healthy: Some(true), detail });
                }
            }
            FleetRequest::Signal { instance, signal: StopSignal::HangUp } => {
                self.done.push(format!("reload {instance}"));
            }
            FleetRequest::Signal { instance, .. } => {
                self.done.push(format!("stop {instance}"));
                if !self.stubborn {
                    self.end(&instance, ExitStatus::Signal(15));
                }
            }
            FleetRequest::Unbind { name } => self.done.push(format!("unbind {name}")),
            FleetRequest::Bind { name, address, .. } => {
                if !name.starts_with("admin") {
                    self.done.push(format!("bind {name} to {address}"));
                }
                self.events.push_back(Event::Bound { name, address });
            }
            _ => {}
        }
    }

    fn end(&mut self, instance: &InstanceId, status: ExitStatus) {
        if self.running.remove(instance).is_some() {
            self.events.push_back(Event::Exited { instance: instance.clone(), status });
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.controller.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.tell(Event::Timeout);
        }
        self.now = end;
    }

    fn deploy(&mut self, version: &str) -> Result<u64, Denied> {
        let request = DeployRequest {
            service: "shop".parse().expect("a name"),
            source: PathBuf::from(format!("/dist/{version}")),
            version: None,
            replace: false,
            force: false,
            actor: "ada".to_owned(),
            operation: None,
        };
        let accepted = self.controller.try_deploy(&request, self.now, WallTime(0));
        self.settle();
        accepted.map(|accepted| accepted.rollout)
    }

    fn restart(&mut self) -> Result<u64, Denied> {
        let accepted = self.controller.try_restart("shop", ADA, self.now, WallTime(0));
        self.settle();
        accepted.map(|accepted| accepted.id)
    }

    fn scale(&mut self, instances: u32) -> Result<u64, Denied> {
        let accepted = self.controller.try_scale("shop", instances, ADA, self.now, WallTime(0));
        self.settle();
        accepted.map(|accepted| accepted.id)
    }

    fn stop(&mut self) -> Result<u64, Denied> {
        let accepted = self.controller.try_stop_service("shop", ADA, self.now, WallTime(0));
        self.settle();
        accepted.map(|accepted| accepted.id)
    }

    fn start(&mut self) -> Result<u64, Denied> {
        let accepted = self.controller.try_start("shop", ADA, self.now, WallTime(0));
        self.settle();
        accepted.map(|accepted| accepted.id)
    }

    fn reload(&mut self) -> Result<u64, Denied> {
        let accepted = self.controller.try_reload("shop", ADA, self.now, WallTime(0));
        self.settle();
        accepted.map(|accepted| accepted.id)
    }

    fn apply(&mut self, manifest: Manifest) -> Result<Applied, Denied> {
        let planned = self.controller.plan_apply(&given(manifest.clone()));
        let applied = self.controller.try_apply(&given(manifest), self.now, WallTime(0));
        self.settle();
        if let (Ok(planned), Ok(applied)) = (planned, &applied) {
            assert_eq!(planned, applied.changes);
        }
        applied
    }

    fn outcome(&self, id: u64) -> Option<Result<(), String>> {
        self.controller.operation_progress(id, 0).expect("it is known").outcome
    }

    /// What was done since the last time.
    fn done(&mut self) -> Vec<String> {
        std::mem::take(&mut self.done)
    }

    fn ids(&self) -> Vec<String> {
        self.running.keys().map(ToString::to_string).collect()
    }

    fn weights(&self) -> Vec<(String, u16)> {
        let releases = &self.table.services["shop"].releases;
        releases.iter().map(|release| (release.release.clone(), release.weight)).collect()
    }
}

fn effects(applied: &Applied) -> Vec<(&str, &Effect)> {
    applied.changes.iter().map(|change| (change.key.as_str(), &change.effect)).collect()
}

#[test]
fn a_restart_stops_each_old_instance_after_a_fresh_one_is_ready() {
    let mut scene = Scene::new(&[("shop", service(2))]);
    scene.done();
    let id = scene.restart().expect("accepted");
    let expected = ["start shop@1.0.0/2", "stop shop@1.0.0/0", "start shop@1.0.0/0", "stop shop@1.0.0/1"];
    assert_eq!(scene.done(), expected);
    assert_eq!(scene.outcome(id), Some(Ok(())));
    assert_eq!(scene.ids(), ["shop@1.0.0/0", "shop@1.0.0/2"]);
}

#[test]
fn the_next_agent_goes_on_with_a_restart_and_knows_its_key() {
    let mut scene = Scene::new(&[("shop", service(2))]);
    scene.silent = true;
    let asked = Asked { actor: "ada", operation: Some("key") };
    let id = scene.controller.try_restart("shop", asked, scene.now, WallTime(0)).expect("accepted").id;
    scene.settle();
    assert_eq!((scene.ids().len(), scene.outcome(id)), (3, None));
    let mut next = scene.next();
    let again = next.controller.try_restart("shop", asked, next.now, WallTime(0)).expect("the same");
    assert_eq!(again.id, id);
    let fresh = "shop@1.0.0/2".parse().expect("an id");
    next.tell(Event::Probe { instance: fresh, healthy: Some(true), detail: String::new() });
    assert_eq!(next.outcome(id), Some(Ok(())));
    assert!(!next.ids().contains(&"shop@1.0.0/1".to_owned()));
}

#[test]
fn a_fresh_instance_that_does_not_get_ready_leaves_the_old_ones_alone() {
    let mut scene = Scene::new(&[("shop", service(2))]);
    scene.silent = true;
    let id = scene.restart().expect("accepted");
    scene.wait(Duration::from_secs(30));
    let Some(Err(why)) = scene.outcome(id) else { panic!("it goes on") };
    assert_eq!(why, "shop@1.0.0/2 was not ready within 10s");
    assert_eq!(scene.ids(), ["shop@1.0.0/0", "shop@1.0.0/1"]);
}

#[test]
fn what_scale_and_stop_set_is_there_for_the_next_agent() {
    let mut scene = Scene::new(&[("shop", service(1))]);
    let id = scene.scale(3).expect("accepted");
    assert_eq!((scene.ids().len(), scene.outcome(id)), (3, Some(Ok(()))));
    let mut scene = scene.next();
    assert_eq!(scene.ids().len(), 3);
    let id = scene.stop().expect("accepted");
    assert_eq!((scene.ids().len(), scene.outcome(id)), (0, Some(Ok(()))));
    assert_eq!(scene.restart(), Err(Denied::Stopped { service: "shop".parse().expect("a name") }));
    let mut scene = scene.next();
    assert_eq!(scene.ids().len(), 0);
    let id = scene.start().expect("accepted");
    assert_eq!((scene.ids().len(), scene.outcome(id)), (3, Some(Ok(()))));
}

#[test]
fn a_stop_ends_whatever_is_under_way() {
    let mut scene = Scene::new(&[("shop", rolling(3))]);
    scene.silent = true;
    assert!(scene.deploy("1.1.0").is_ok());
    assert!(matches!(scene.scale(2), Err(Denied::RolloutRuns { .. })));
    let id = scene.stop().expect("accepted");
    assert_eq!((scene.ids().len(), scene.outcome(id)), (0, Some(Ok(()))));
    assert!(scene.record.services["shop"].rollout.is_none());
}

#[test]
fn a_service_that_cannot_run_twice_is_not_scaled_and_restarts_with_requests_held() {
    let mut scene = Scene::new(&[("shop", fixed())]);
    assert!(matches!(scene.scale(2), Err(Denied::ScaleOfOne { instances: 2, .. })));
    assert!(matches!(scene.scale(0), Err(Denied::ScaleToNothing { .. })));
    assert_eq!(scene.table.services["shop"].hold, None);
    scene.done();
    scene.silent = true;
    let id = scene.restart().expect("accepted");
    assert_eq!(scene.done(), ["stop shop@1.0.0/0", "start shop@1.0.0/0"]);
    assert!(scene.table.services["shop"].hold.is_some());
    let instance = "shop@1.0.0/0".parse().expect("an id");
    scene.tell(Event::Probe { instance, healthy: Some(true), detail: String::new() });
    assert_eq!((scene.outcome(id), scene.table.services["shop"].hold), (Some(Ok(())), None));
}

#[test]
fn a_reload_goes_from_one_instance_to_the_next_and_ends_at_one_that_dies_of_it() {
    let reload = Reload { by: ReloadBy::Signal(wire::manifest::StopSignal::HangUp), timeout_ms: 5_000 };
    let mut scene = Scene::new(&[("shop", Service { reload: Some(reload), ..service(2) })]);
    scene.done();
    let id = scene.reload().expect("accepted");
    assert_eq!(scene.done(), ["reload shop@1.0.0/0"]);
    scene.wait(Duration::from_secs(1));
    assert_eq!(scene.done(), ["reload shop@1.0.0/1"]);
    scene.wait(Duration::from_secs(1));
    assert_eq!(scene.outcome(id), Some(Ok(())));
    let id = scene.reload().expect("accepted");
    scene.done();
    scene.end(&"shop@1.0.0/0".parse().expect("an id"), ExitStatus::Signal(1));
    scene.settle();
    assert!(matches!(scene.outcome(id), Some(Err(why)) if why.contains("SIGHUP")));
    assert_eq!(scene.done(), [] as [&str; 0]);
    let mut scene = Scene::new(&[("shop", service(1))]);
    assert!(matches!(scene.reload(), Err(Denied::NoReload { .. })));
}

#[test]
fn a_rolling_deploy_shares_traffic_by_what_is_ready() {
    let mut scene = Scene::new(&[("shop", rolling(3))]);
    scene.silent = true;
    assert!(scene.deploy("1.1.0").is_ok());
    scene.stubborn = true;
    let first = "shop@1.1.0/0".parse().expect("an id");
    scene.tell(Event::Probe { instance: first, healthy: Some(true), detail: String::new() });
    assert_eq!(scene.weights(), [("1.0.0".to_owned(), 6_667), ("1.1.0".to_owned(), 3_333)]);
    assert_eq!(scene.ids().len(), 4, "no fifth starts before one has ended");
    let old = "shop@1.0.0/2".parse().expect("an id");
    scene.end(&old, ExitStatus::Code(0));
    scene.settle();
    assert_eq!(scene.ids().len(), 4);
    assert!(scene.ids().contains(&"shop@1.1.0/1".to_owned()));
}

#[test]
fn a_recreated_service_ends_before_the_next_release_starts_and_its_receipt_says_how_long_requests_waited() {
    let mut scene = Scene::new(&[("shop", fixed())]);
    scene.done();
    scene.silent = true;
    let id = scene.deploy("1.1.0").expect("accepted");
    assert_eq!(scene.done(), ["copy 1.1.0", "stop shop@1.0.0/0", "start shop@1.1.0/0"]);
    assert!(scene.table.services["shop"].hold.is_some());
    let release = ReleaseCounters {
        service: "shop".to_owned(),
        release: "1.1.0".to_owned(),
        held: 7,
        hold_us_max: 1_234,
        ..ReleaseCounters::default()
    };
    let none = Counters {
        releases: vec![ReleaseCounters { held: 0, hold_us_max: 0, ..release.clone() }],
        ..Counters::default()
    };
    scene.tell(Event::Counters { proxy: 1, counters: Box::new(none) });
    let counters = Counters { releases: vec![release], ..Counters::default() };
    scene.tell(Event::Counters { proxy: 1, counters: Box::new(counters) });
    let receipt = scene.controller.progress("shop", id, 0, scene.now).expect("it runs").rollout.receipt;
    assert_eq!((receipt.held, receipt.longest_hold_us), (7, 1_234));
    let instance = "shop@1.1.0/0".parse().expect("an id");
    scene.tell(Event::Probe { instance, healthy: Some(true), detail: String::new() });
    assert_eq!(scene.record.services["shop"].stable.as_deref(), Some("1.1.0"));
}

#[test]
fn a_worker_is_in_no_table_and_its_releases_take_over_all_the_same() {
    let mut worker = Service { mode: Mode::Worker, ..service(1) };
    worker.readiness.check = ReadinessCheck::AliveForMs(1_000);
    let mut scene = Scene::new(&[("shop", worker)]);
    scene.wait(Duration::from_secs(2));
    assert_eq!(scene.record.services["shop"].stable.as_deref(), Some("1.0.0"));
    assert!(scene.table.services.is_empty());
    assert!(scene.deploy("1.1.0").is_ok());
    scene.wait(Duration::from_secs(2));
    assert_eq!(scene.ids(), ["shop@1.1.0/0"]);
    let next = scene.next();
    assert_eq!(next.controller.status(next.now, WallTime(0)).services["shop"].instances[0].state, "ready");
}

#[test]
fn what_is_needed_starts_first_and_is_said() {
    let needs = Dependency { service: "shop".to_owned(), until: DependsUntil::Ready };
    let mail = Service { depends_on: vec![needs], ..service(1) };
    let mut scene = Scene::new(&[("mail", mail), ("shop", service(1))]);
    assert_eq!(scene.ids(), ["mail@1.0.0/0", "shop@1.0.0/0"]);
    let starts: Vec<String> = scene.done().into_iter().filter(|done| done.starts_with("start")).collect();
    assert_eq!(starts, ["start shop@1.0.0/0", "start mail@1.0.0/0"]);
    assert!(scene.stop().is_ok());
    let asked = scene.controller.try_stop_service("mail", ADA, scene.now, WallTime(0));
    assert!(asked.is_ok());
    scene.settle();
    assert!(scene.controller.try_start("mail", ADA, scene.now, WallTime(0)).is_ok());
    scene.settle();
    let status = scene.controller.status(scene.now, WallTime(0));
    assert_eq!(
        status.services["mail"].waiting_on.as_deref(),
        Some("waits for shop to be ready (it is stopped)")
    );
}

#[test]
fn an_applied_manifest_touches_only_what_changed() {
    let mut scene = Scene::new(&[("mail", service(1)), ("shop", service(1))]);
    assert!(scene.scale(2).is_ok());
    scene.done();
    let mut edited = manifest(&[("mail", service(1)), ("shop", service(1))]);
    edited.access_log = false;
    let shop = edited.services.get_mut("shop").expect("it is there");
    shop.stop.grace_period_ms = 1_000;
    let mail = edited.services.get_mut("mail").expect("it is there");
    mail.environment.push(("ZONE".to_owned(), "eu".to_owned()));
    let applied = scene.apply(edited.clone()).expect("applied");
    let rollout = Effect::Rollout { release: "1.0.0+c2".to_owned(), gap: None };
    let expected = [
        ("service.mail.environment", &rollout),
        ("service.shop.stop.grace_period", &Effect::Live),
        ("proxy.access_log", &Effect::Live),
    ];
    assert_eq!(effects(&applied), expected);
    assert_eq!(
        scene.done(),
        ["start mail@1.0.0+c2/0"],
        "nothing is copied, and shop keeps what scale has set"
    );
    assert_eq!(scene.record.services["shop"].scaled, Some(2));
    assert_eq!(scene.apply(edited).expect("applied").changes, []);
}

#[test]
fn an_edited_number_of_instances_ends_what_scale_has_set() {
    let mut scene = Scene::new(&[("shop", service(1))]);
    assert!(scene.scale(4).is_ok());
    let applied = scene.apply(manifest(&[("shop", service(2))])).expect("applied");
    assert_eq!((applied.operations.len(), scene.ids().len()), (1, 2));
    assert_eq!(scene.outcome(applied.operations[0].1), Some(Ok(())));
    assert_eq!(scene.record.services["shop"].scaled, None);
}

#[test]
fn a_release_that_a_person_deployed_stays_until_its_key_is_edited() {
    let mut scene = Scene::new(&[("shop", service(1))]);
    assert!(scene.deploy("1.1.0").is_ok());
    let mut edited = service(1);
    edited.command.push("--more".to_owned());
    let applied = scene.apply(manifest(&[("shop", edited.clone())])).expect("applied");
    let rollout = Effect::Rollout { release: "1.1.0+c2".to_owned(), gap: None };
    assert_eq!(effects(&applied), [("service.shop.command", &rollout)]);
    edited.version = "1.2.0".to_owned();
    let applied = scene.apply(manifest(&[("shop", edited)])).expect("applied");
    let rollout = Effect::Rollout { release: "1.2.0".to_owned(), gap: None };
    assert_eq!(effects(&applied), [("service.shop.version", &rollout)]);
    assert_eq!(scene.record.services["shop"].stable.as_deref(), Some("1.2.0"));
}

#[test]
fn a_service_that_is_taken_out_stops_and_is_forgotten() {
    let mut scene = Scene::new(&[("mail", service(1)), ("shop", service(1))]);
    scene.done();
    let applied = scene.apply(manifest(&[("mail", service(1))])).expect("applied");
    assert_eq!(effects(&applied), [("service.shop", &Effect::Removed)]);
    scene.settle();
    assert_eq!(scene.done(), ["stop shop@1.0.0/0", "remove /state/releases/shop/1.0.0"]);
    assert!(
        !scene.record.services.contains_key("shop") && !scene.record.manifest.services.contains_key("shop")
    );
    let applied = scene.apply(manifest(&[("mail", service(1)), ("shop", service(2))])).expect("applied");
    assert_eq!((applied.rollouts.len(), scene.ids().len()), (1, 3));
}

#[test]
fn a_listener_is_closed_when_no_proxy_uses_it_any_more() {
    let listener = |port: u16| Listener {
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
    };
    let mut scene = Scene::new(&[("shop", service(1))]);
    scene.done();
    let mut with = manifest(&[("shop", service(1))]);
    with.listeners.insert("web".to_owned(), listener(80));
    assert!(scene.apply(with.clone()).is_ok());
    with.listeners.insert("web".to_owned(), listener(81));
    let applied = scene.apply(with).expect("applied");
    assert_eq!(effects(&applied), [("listener.web.bind", &Effect::Rebound)]);
    assert!(scene.apply(manifest(&[("shop", service(1))])).is_ok());
    assert_eq!(scene.done(), ["bind web to 127.0.0.1:80", "bind web to 127.0.0.1:81", "unbind web"]);
}

#[test]
fn what_cannot_be_changed_is_refused_as_a_whole() {
    let mut scene = Scene::new(&[("shop", service(1))]);
    let mut edited = manifest(&[("shop", service(3))]);
    edited.state_dir = PathBuf::from("/elsewhere");
    assert!(
        matches!(scene.apply(edited), Err(Denied::Unchangeable { keys }) if keys[0].contains("state_dir"))
    );
    assert_eq!(scene.ids().len(), 1);
}

#[test]
fn what_is_applied_to_a_stopped_service_begins_with_its_start() {
    let mut scene = Scene::new(&[("shop", service(1))]);
    assert!(scene.stop().is_ok());
    let mut edited = service(1);
    edited.command.push("--more".to_owned());
    let applied = scene.apply(manifest(&[("shop", edited)])).expect("applied");
    assert!(matches!(applied.changes[0].effect, Effect::NextStart(_)));
    assert_eq!(scene.ids().len(), 0);
    let mut scene = scene.next();
    let id = scene.start().expect("accepted");
    assert_eq!(scene.record.services["shop"].stable.as_deref(), Some("1.0.0+c2"));
    assert_eq!(scene.outcome(id), Some(Ok(())));
}

#[test]
fn a_plan_of_a_deploy_says_each_step_and_the_gap() {
    let request = |version: &str| DeployRequest {
        service: "shop".parse().expect("a name"),
        source: PathBuf::from(format!("/dist/{version}.tar.gz")),
        version: None,
        replace: false,
        force: false,
        actor: "ada".to_owned(),
        operation: None,
    };
    let scene = Scene::new(&[("shop", fixed())]);
    let steps = scene.controller.plan_deploy(&request("1.1.0")).expect("it can be done");
    assert_eq!(steps.len(), 4);
    assert_eq!(steps[1], "let 1.0.0 finish its requests, and stop it");
    assert!(steps[3].starts_with("there is a gap: port 9000 is fixed"), "{steps:?}");
    let scene = Scene::new(&[("shop", rolling(3))]);
    let steps = scene.controller.plan_deploy(&request("1.1.0")).expect("it can be done");
    assert_eq!(
        steps[1..],
        [
            "replace 3 instances of 1.0.0 one after another: at most 4 run, at least 3 are ready".to_owned(),
            "no request waits or is refused meanwhile".to_owned()
        ]
    );
}

#[test]
fn what_has_ended_for_good_is_not_started_by_the_next_agent() {
    let mut worker = Service { mode: Mode::Worker, ..service(1) };
    worker.readiness.check = ReadinessCheck::AliveForMs(1_000);
    worker.restart.policy = wire::manifest::RestartPolicy::OnFailure;
    let mut scene = Scene::new(&[("shop", worker)]);
    scene.wait(Duration::from_secs(2));
    scene.end(&"shop@1.0.0/0".parse().expect("an id"), ExitStatus::Code(0));
    scene.settle();
    let mut scene = scene.next();
    scene.wait(Duration::from_secs(600));
    assert_eq!(scene.ids().len(), 0);
    // Its record is that of the agent before as well.
    let mut scene = scene.next();
    scene.wait(Duration::from_secs(600));
    assert_eq!(scene.ids().len(), 0);
    assert!(scene.restart().is_ok());
    assert_eq!(scene.ids(), ["shop@1.0.0/1"]);
}

#[test]
fn restarts_and_the_wait_for_the_next_one_outlive_the_agent() {
    let mut scene = Scene::new(&[("shop", service(1))]);
    let id: InstanceId = "shop@1.0.0/0".parse().expect("an id");
    for wait in [1, 2, 4] {
        scene.end(&id, ExitStatus::Code(1));
        scene.settle();
        scene.wait(Duration::from_secs(wait));
        assert_eq!(scene.ids().len(), 1);
    }
    scene.end(&id, ExitStatus::Code(1));
    scene.settle();
    scene.wait(Duration::from_secs(5));
    let mut scene = scene.next();
    scene.wait(Duration::from_secs(7));
    assert_eq!(scene.ids().len(), 0);
    scene.wait(Duration::from_secs(1));
    assert_eq!(scene.ids().len(), 1);
    let scene = scene.next();
    let status = scene.controller.status(scene.now, WallTime(0));
    let shop = &status.services["shop"].instances[0];
    assert_eq!((shop.restarts, shop.ends_in_a_row), (4, 4));
}

#[test]
fn the_release_that_serves_is_not_applied_while_a_rollout_leads_to_another() {
    let mut scene = Scene::new(&[("shop", service(1))]);
    scene.silent = true;
    let other = Service { release: "/dist/2.0.0".into(), version: "2.0.0".to_owned(), ..service(1) };
    assert_eq!(scene.apply(manifest(&[("shop", other)])).expect("applied").rollouts.len(), 1);
    let back = scene.apply(manifest(&[("shop", service(1))]));
    assert!(matches!(back, Err(Denied::RolloutRuns { .. })), "{back:?}");
}

#[test]
fn an_apply_ends_the_bake_also_where_nothing_has_to_start() {
    let mut scene = Scene::new(&[("shop", service(1))]);
    scene.deploy("1.1.0").expect("accepted");
    assert!(scene.record.services["shop"].warm.is_some());
    let mut edited = service(1);
    edited.stop.drain_timeout_ms += 1_000;
    scene.apply(manifest(&[("shop", edited)])).expect("applied");
    assert!(scene.record.services["shop"].warm.is_none());
    assert_eq!(scene.ids(), ["shop@1.1.0/0"]);
}

#[test]
fn a_restart_of_what_did_not_run_is_done_when_it_is_ready_and_not_before() {
    let mut scene = Scene::new(&[("shop", service(1))]);
    scene.end(&"shop@1.0.0/0".parse().expect("an id"), ExitStatus::Code(1));
    scene.settle();
    scene.silent = true;
    let id = scene.restart().expect("accepted");
    assert_eq!(scene.outcome(id), None);
    scene.tell(Event::Probe {
        instance: "shop@1.0.0/1".parse().expect("an id"),
        healthy: Some(true),
        detail: String::new(),
    });
    assert_eq!(scene.outcome(id), Some(Ok(())));
}

#[test]
fn requests_in_flight_keep_their_time_when_the_agent_dies_while_everything_stops() {
    let mut scene = Scene::new(&[("shop", service(1))]);
    scene.controller.stop_all(wire::link::StopLevel::Drain, scene.now, WallTime(0));
    scene.settle();
    let mut scene = scene.next();
    // To those that have a link already, and to the one that gets it now.
    assert_eq!(scene.done(), ["drain within 5s", "drain within 5s"]);
    scene.wait(Duration::from_secs(2));
    scene.tell(Event::ProxyUp { generation: 2, pid: 51 });
    assert_eq!(scene.done(), ["drain within 3s"]);
}

#[test]
fn a_release_on_a_fixed_port_has_one_instance_whatever_takes_its_place() {
    let mut scene = Scene::new(&[("shop", fixed())]);
    scene.done();
    let mut many = service(2);
    many.rollout.keep_warm_ms = 60_000;
    scene.apply(manifest(&[("shop", many)])).expect("applied");
    let done = scene.done();
    assert!(!done.iter().any(|done| done == "start shop@1.0.0/1"), "{done:?}");
    assert_eq!(scene.ids(), ["shop@1.0.0+c2/0", "shop@1.0.0+c2/1"]);
}

#[test]
fn a_worker_does_not_work_on_beside_the_release_that_serves_instead() {
    let mut worker = Service { mode: Mode::Worker, ..service(1) };
    worker.readiness.check = ReadinessCheck::AliveForMs(1_000);
    let mut scene = Scene::new(&[("shop", worker)]);
    scene.wait(Duration::from_secs(2));
    let mut serving = service(1);
    serving.rollout.keep_warm_ms = 60_000;
    scene.apply(manifest(&[("shop", serving)])).expect("applied");
    assert_eq!(scene.ids(), ["shop@1.0.0+c2/0"]);
}
