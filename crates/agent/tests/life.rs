//! The life of instances as the controller leads it: hooks, health, ports, and what the fleet is asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use agent::Controller;
use agent::controller::Action;
use agent::world::{
    CheckBy, CheckPurpose, CheckRequest, Event, FleetRequest, Inventory, Notified, SpawnRequest, TaskRequest,
};
use model::id::InstanceId;
use model::manifest::StopSignal;
use model::time::{Instant, WallTime};
use wire::link::{ExitStatus, StopLevel};
use wire::manifest::{
    Hook, Liveness, LivenessCheck, Manifest, Mode, OwnLog, ReadinessCheck, RestartPolicy, Service,
};
use wire::record::Record;
use wire::routes::RouteTable;
use wire::sealed::Boot;

const SECOND: Duration = Duration::from_secs(1);

fn bare() -> Service {
    Service::bare("/dist/shop-1.0.0", "1.0.0", &["./shop", "${PORT}"])
}

fn record_of(service: Service) -> Record {
    let manifest = Manifest {
        state_dir: PathBuf::from("/state"),
        admin_bind: "127.0.0.1:7979".parse().expect("an address"),
        admin_bind_is_default: true,
        proxy_threads: 1,
        access_log: true,
        access_log_settings: Default::default(),
        log: OwnLog::default(),
        instance_ports: (20_000, 20_099),
        listeners: BTreeMap::new(),
        routes: Vec::new(),
        services: BTreeMap::from([("shop".to_owned(), service)]),
        fronted: Default::default(),
    };
    let boot = Boot {
        v: 1,
        manifest,
        source: String::new(),
        path: "/srv/handover.toml".to_owned(),
        binary_origin: "/usr/bin/handover".to_owned(),
        environment: Vec::new(),
        print_output: false,
        colour: false,
    };
    Controller::first_record(&boot, WallTime(0))
}

fn hook(program: &str) -> Hook {
    Hook { command: vec![program.to_owned(), "${INSTANCE}".to_owned()], timeout_ms: 60_000 }
}

/// A controller whose record is always written, and what it asked for.
struct Scene {
    controller: Controller,
    now: Instant,
    record: Option<Record>,
    table: RouteTable,
    asked: Vec<FleetRequest>,
    told: Vec<String>,
}

impl Scene {
    /// The first release is on disk, and its instances were asked for.
    fn new(service: Service) -> Self {
        let mut scene = Self::resume(record_of(service));
        scene.tell(Event::Inventory(Inventory { proxies: vec![(1, 50)], ..Inventory::default() }));
        scene.tell(Event::ProxyUp { generation: 1, pid: 50 });
        scene.tell(Event::ReleasePrepared {
            service: "shop".parse().expect("a name"),
            release: "1.0.0".parse().expect("a release"),
            directory: PathBuf::from("/state/releases/shop/1.0.0"),
            hash: "hash".to_owned(),
        });
        scene
    }

    fn resume(record: Record) -> Self {
        let now = Instant::START;
        Self {
            controller: Controller::resume(record, now, WallTime(0), 0).expect("a record of ours"),
            now,
            record: None,
            table: RouteTable::default(),
            asked: Vec::new(),
            told: Vec::new(),
        }
    }

    /// Its instances run and are ready by a probe.
    fn ready(service: Service) -> Self {
        let count = service.instances;
        let mut scene = Self::new(service);
        for number in 0..count {
            scene.spawned(number);
            scene.probe(number, true);
        }
        scene.applied();
        scene.asked.clear();
        scene.told.clear();
        scene
    }

    fn tell(&mut self, event: Event) {
        let wall = WallTime(wire::manifest::millis(self.now.since_start()));
        self.controller.handle_event(event, self.now, wall);
        while let Some(action) = self.controller.poll_action() {
            match action {
                Action::Publish(table) => self.table = *table,
                Action::Fleet(request) => self.asked.push(request),
                Action::Announce(notice) => self.told.push(notice.text),
                Action::Write(record) => {
                    self.record = Some(*record);
                    self.controller.handle_written(Ok(()), self.now, wall);
                }
                _ => {}
            }
        }
    }

    fn spawned(&mut self, number: u32) {
        self.tell(Event::Spawned { instance: id(number), pid: 100 + number });
    }

    fn probe(&mut self, number: u32, healthy: bool) {
        self.tell(Event::Probe { instance: id(number), healthy: Some(healthy), detail: "503".to_owned() });
    }

    fn exited(&mut self, number: u32, code: i32) {
        self.tell(Event::Exited { instance: id(number), status: ExitStatus::Code(code) });
    }

    fn said(&mut self, said: Notified) {
        self.tell(Event::Notified { instance: id(0), said });
    }

    fn checked(&mut self, number: u32, purpose: CheckPurpose, ok: bool) {
        let result = if ok { Ok(()) } else { Err("answered 500".to_owned()) };
        self.tell(Event::Checked { instance: id(number), purpose, result });
    }

    fn ended(&mut self, task: &TaskRequest, result: Result<(), &str>) {
        self.tell(Event::TaskEnded { task: task.task, result: result.map_err(str::to_owned) });
    }

    fn applied(&mut self) {
        let generation = self.table.generation;
        self.tell(Event::TableApplied { proxy: 1, generation });
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.controller.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.tell(Event::Timeout);
        }
        self.now = end;
    }

    fn spawns(&mut self) -> Vec<SpawnRequest> {
        let mut spawns = Vec::new();
        self.asked.retain(|request| match request {
            FleetRequest::Spawn(request) => {
                spawns.push((**request).clone());
                false
            }
            _ => true,
        });
        spawns
    }

    /// The tasks asked for since the last look.
    fn runs(&mut self) -> Vec<TaskRequest> {
        let mut runs = Vec::new();
        self.asked.retain(|request| match request {
            FleetRequest::Run(request) => {
                runs.push((**request).clone());
                false
            }
            _ => true,
        });
        runs
    }

    fn checks(&mut self) -> Vec<CheckRequest> {
        let mut checks = Vec::new();
        self.asked.retain(|request| match request {
            FleetRequest::Check(request) => {
                checks.push((**request).clone());
                false
            }
            _ => true,
        });
        checks
    }

    fn signals(&mut self) -> Vec<(u32, StopSignal)> {
        let mut signals = Vec::new();
        self.asked.retain(|request| match request {
            FleetRequest::Signal { instance, signal } => {
                signals.push((instance.number, *signal));
                false
            }
            _ => true,
        });
        signals
    }

    fn forgot(&self) -> bool {
        self.asked.contains(&FleetRequest::Forget { instance: id(0) })
    }

    fn state(&self, number: u32) -> &'static str {
        let status = self.controller.status(self.now, WallTime(0));
        let wanted = id(number).to_string();
        let found = status.services["shop"].instances.iter().find(|instance| instance.id == wanted);
        found.map_or("none", |instance| instance.state)
    }

    /// One liveness check of that instance comes about and fails.
    fn fail_liveness(&mut self, number: u32) {
        while !self.checks().iter().any(|check| check.instance == id(number)) {
            self.wait(SECOND);
        }
        self.checked(number, CheckPurpose::Liveness, false);
    }
}

fn id(number: u32) -> InstanceId {
    format!("shop@1.0.0/{number}").parse().expect("an id")
}

fn value<'a>(spawn: &'a SpawnRequest, name: &str) -> Option<&'a str> {
    spawn.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn checked_by(check: LivenessCheck, instances: u32) -> Service {
    let liveness = Some(Liveness { check, interval_ms: 10_000, timeout_ms: 2_000, fall: 1 });
    Service { instances, liveness, ..bare() }
}

#[test]
fn a_hook_before_the_start_knows_the_port_and_the_start_waits_for_it() {
    let hooks = BTreeMap::from([("before_start".to_owned(), hook("./prepare"))]);
    let mut scene = Scene::new(Service { hooks, ..bare() });
    assert!(scene.spawns().is_empty());
    let run = scene.runs().remove(0);
    assert_eq!((run.purpose, run.timeout), ("before-start", SECOND * 60));
    assert_eq!(run.spawn.command, ["./prepare", "0"]);
    assert_eq!(value(&run.spawn, "HANDOVER_HOOK"), Some("before_start"));
    assert_eq!((run.spawn.port, run.spawn.notify, value(&run.spawn, "HANDOVER_PID")), (None, false, None));
    scene.ended(&run, Ok(()));
    let spawn = scene.spawns().remove(0);
    assert_eq!(value(&run.spawn, "PORT"), spawn.port.map(|port| port.to_string()).as_deref());
    let endpoint = &scene.table.services["shop"].releases[0].endpoints[0];
    assert_eq!(endpoint.address.port(), spawn.port, "it is in a table before it is spawned");
}

#[test]
fn a_hook_that_fails_before_the_first_start_fails_the_rollout_with_its_reason() {
    let hooks = BTreeMap::from([("before_start".to_owned(), hook("./prepare"))]);
    let mut scene = Scene::new(Service { hooks, ..bare() });
    let run = scene.runs().remove(0);
    scene.ended(&run, Err("exited with code 1"));
    let record = scene.record.as_ref().expect("written");
    let last = record.services["shop"].rollout.as_ref().or(record.services["shop"].last_rollout.as_ref());
    let why = "shop@1.0.0/0 could not be started: its before_start hook failed: exited with code 1";
    assert_eq!(last.and_then(|rollout| rollout.reason.as_deref()), Some(why));
}

#[test]
fn a_hook_after_an_exit_is_told_how_it_ended_and_the_slot_is_free_only_then() {
    let hooks = BTreeMap::from([("after_exit".to_owned(), hook("./clean"))]);
    let mut scene = Scene::ready(Service { hooks, ..bare() });
    scene.wait(SECOND * 7);
    scene.exited(0, 3);
    let run = scene.runs().remove(0);
    assert_eq!(run.purpose, "after-exit");
    let facts = ["HANDOVER_EXIT_CODE", "HANDOVER_EXIT_SIGNAL", "HANDOVER_RUN_MS", "HANDOVER_RESTARTS"];
    let known = facts.map(|name| value(&run.spawn, name));
    assert_eq!(known, [Some("3"), None, Some("7000"), Some("0")]);
    scene.wait(SECOND * 30);
    assert!(scene.spawns().is_empty() && !scene.forgot());
    scene.ended(&run, Err("exited with code 9"));
    assert!(scene.forgot());
    assert!(scene.told.contains(&"shop@1.0.0/0: its after_exit hook failed: exited with code 9".to_owned()));
    scene.wait(SECOND);
    assert_eq!(scene.spawns().len(), 1);
}

#[test]
fn the_next_agent_runs_the_hook_after_an_exit_again_that_a_former_one_may_not_have_seen_the_end_of() {
    let hooks = BTreeMap::from([("after_exit".to_owned(), hook("./clean"))]);
    let scene = Scene::ready(Service { hooks, ..bare() });
    let mut next = Scene::resume(scene.record.expect("written"));
    next.tell(Event::Inventory(Inventory {
        ended: vec![(id(0), ExitStatus::Signal(9))],
        proxies: vec![(1, 50)],
        table: Some(scene.table),
        ..Inventory::default()
    }));
    let run = next.runs().remove(0);
    assert_eq!(value(&run.spawn, "HANDOVER_EXIT_SIGNAL"), Some("9"));
    assert!(!next.forgot());
    next.ended(&run, Ok(()));
    assert!(next.forgot());
}

#[test]
fn at_a_stop_the_hook_comes_after_the_requests_and_before_the_signal() {
    let hooks = BTreeMap::from([("before_stop".to_owned(), hook("./leave"))]);
    let mut scene = Scene::ready(Service { hooks, ..bare() });
    scene.tell(Event::StopAsked { level: StopLevel::Drain });
    scene.tell(Event::ProxyGone { generation: 1 });
    let run = scene.runs().remove(0);
    assert_eq!((run.purpose, value(&run.spawn, "HANDOVER_PID")), ("before-stop", Some("100")));
    assert_eq!(scene.signals(), []);
    scene.ended(&run, Err("was killed after 60s"));
    assert_eq!(scene.signals(), [(0, StopSignal::Graceful)]);
    scene.exited(0, 0);
    assert!(scene.asked.contains(&FleetRequest::Stopped));
}

#[test]
fn a_worker_has_no_port_and_is_in_no_table() {
    let mut scene = Scene::new(Service {
        mode: Mode::Worker,
        command: vec!["./mill".to_owned()],
        readiness: wire::manifest::Readiness { check: ReadinessCheck::AliveForMs(1_000), ..bare().readiness },
        ..bare()
    });
    let spawn = scene.spawns().remove(0);
    assert_eq!((spawn.port, spawn.port_is_fixed, value(&spawn, "PORT")), (None, false, None));
    scene.spawned(0);
    assert_eq!(scene.state(0), "starting");
    scene.wait(SECOND);
    assert_eq!(scene.state(0), "ready");
    let endpoints = scene.table.services.get("shop").map(|traffic| &traffic.releases);
    assert!(endpoints.is_none_or(|releases| releases.iter().all(|release| release.endpoints.is_empty())));
    scene.tell(Event::StopAsked { level: StopLevel::Drain });
    scene.tell(Event::ProxyGone { generation: 1 });
    assert_eq!(scene.signals(), [(0, StopSignal::Graceful)]);
}

#[test]
fn a_port_of_its_own_is_used_as_it_is_and_given_to_nobody_else() {
    let mut scene = Scene::new(Service { port: Some(20_000), ..bare() });
    let spawn = scene.spawns().remove(0);
    assert_eq!((spawn.port, spawn.port_is_fixed), (Some(20_000), true));
    assert_eq!(spawn.command, ["./shop", "20000"]);
    scene.spawned(0);
    scene.exited(0, 1);
    scene.wait(SECOND);
    assert_eq!(scene.spawns().remove(0).port, Some(20_000), "it does not rest");
}

#[test]
fn a_line_of_output_that_matches_makes_it_ready() {
    let readiness = wire::manifest::Readiness {
        check: ReadinessCheck::Log("listening on .*".to_owned()),
        ..bare().readiness
    };
    let mut scene = Scene::new(Service { readiness, ..bare() });
    assert_eq!(scene.spawns().remove(0).ready_log.as_deref(), Some("listening on .*"));
    scene.spawned(0);
    scene.tell(Event::LogMatched { instance: id(0) });
    assert_eq!(scene.state(0), "ready");
}

#[test]
fn a_command_that_says_ready_runs_beside_it_and_is_cancelled_with_it() {
    let check = ReadinessCheck::Command(vec!["./ready".to_owned(), "${PORT}".to_owned()]);
    let mut scene =
        Scene::new(Service { readiness: wire::manifest::Readiness { check, ..bare().readiness }, ..bare() });
    let port = scene.spawns().remove(0).port.expect("a port");
    scene.spawned(0);
    scene.wait(Duration::ZERO);
    let check = scene.checks().remove(0);
    assert_eq!((check.purpose, check.timeout), (CheckPurpose::Readiness, SECOND));
    let CheckBy::Command(task) = check.by else { panic!("not by a command: {:?}", check.by) };
    assert_eq!((task.purpose, task.spawn.command[1].as_str()), ("readiness", port.to_string().as_str()));
    scene.checked(0, CheckPurpose::Readiness, true);
    scene.wait(SECOND);
    let CheckBy::Command(second) = scene.checks().remove(0).by else { panic!("not by a command") };
    assert_ne!(second.task, task.task);
    scene.exited(0, 1);
    assert!(scene.asked.contains(&FleetRequest::Cancel { task: second.task }));
}

#[test]
fn an_instance_that_does_not_answer_its_liveness_check_is_restarted() {
    let mut scene = Scene::ready(checked_by(LivenessCheck::Http("/alive".to_owned()), 1));
    scene.wait(SECOND * 10);
    let check = scene.checks().remove(0);
    let listed = &scene.table.services["shop"].releases[0].endpoints[0].address;
    let wire::routes::Address::Tcp(address) = *listed else { panic!("{listed} is a port of this machine") };
    assert_eq!(check.by, CheckBy::Http { address, path: "/alive".to_owned() });
    scene.checked(0, CheckPurpose::Liveness, false);
    assert_eq!(scene.signals(), [(0, StopSignal::Graceful)]);
    let hung = "shop@1.0.0/0 is taken for hung: its liveness check failed: answered 500";
    assert_eq!(scene.told, [hung, "shop@1.0.0/0 is being restarted because it hangs"]);
    scene.exited(0, 0);
    scene.wait(SECOND);
    assert_eq!(scene.spawns().len(), 1, "also with exit code 0");
}

#[test]
fn of_those_that_hang_one_is_restarted_at_a_time() {
    let mut scene = Scene::ready(checked_by(LivenessCheck::Tcp, 4));
    scene.wait(SECOND * 10);
    assert_eq!(scene.checks().len(), 4);
    for number in 0..4 {
        scene.checked(number, CheckPurpose::Liveness, false);
    }
    assert_eq!(scene.signals(), [(0, StopSignal::Graceful)]);
    scene.exited(0, 1);
    scene.wait(SECOND);
    assert_eq!(scene.signals(), [], "the first is not back yet");
    scene.spawned(0);
    scene.probe(0, true);
    assert_eq!(scene.signals(), [(1, StopSignal::Graceful)]);
}

#[test]
fn one_that_takes_requests_is_not_restarted_while_fewer_than_half_of_the_others_do() {
    let mut scene = Scene::ready(checked_by(LivenessCheck::Tcp, 4));
    scene.wait(SECOND * 10);
    scene.checks();
    scene.probe(1, false);
    scene.probe(2, false);
    scene.checked(0, CheckPurpose::Liveness, false);
    assert_eq!((scene.signals(), scene.state(0)), (Vec::new(), "ready"));
    scene.probe(1, true);
    assert_eq!(scene.signals(), [(0, StopSignal::Graceful)]);
}

#[test]
fn a_service_that_hangs_whole_and_is_unready_is_restarted_all_the_same() {
    let mut scene = Scene::ready(checked_by(LivenessCheck::Tcp, 3));
    for number in 0..3 {
        scene.probe(number, false);
    }
    for number in 0..3 {
        scene.fail_liveness(number);
        assert_eq!(scene.signals(), [(number, StopSignal::Graceful)]);
        scene.exited(number, 0);
        scene.wait(SECOND);
        scene.spawned(number);
        scene.probe(number, true);
    }
}

#[test]
fn silence_of_one_that_is_to_send_signs_of_life_aborts_it() {
    let mut scene = Scene::new(checked_by(LivenessCheck::Watchdog, 1));
    let spawn = scene.spawns().remove(0);
    assert_eq!((spawn.notify, spawn.watchdog), (true, Some(SECOND * 10)));
    scene.spawned(0);
    scene.probe(0, true);
    scene.applied();
    for _ in 0..3 {
        scene.wait(SECOND * 9);
        scene.said(Notified { watchdog: true, ..Notified::default() });
    }
    assert_eq!(scene.signals(), []);
    scene.wait(SECOND * 10);
    assert_eq!(scene.signals(), [(0, StopSignal::Abort)]);
}

#[test]
fn a_program_that_forks_is_followed_to_its_child() {
    let mut scene = Scene::new(bare());
    scene.spawned(0);
    scene.said(Notified { main_pid: Some(7_000), ..Notified::default() });
    assert!(scene.asked.contains(&FleetRequest::MainPid { instance: id(0), pid: 7_000 }));
    scene.exited(0, 0);
    scene.tell(Event::MainPid { instance: id(0), pid: 7_000 });
    scene.probe(0, true);
    assert_eq!(scene.state(0), "ready");
}

#[test]
fn what_a_starting_program_says_of_itself_is_shown() {
    let mut scene = Scene::new(bare());
    scene.spawned(0);
    scene.said(Notified { status: Some("reading 3 of 9 tables".to_owned()), ..Notified::default() });
    let status = scene.controller.status(scene.now, WallTime(0));
    let detail = status.services["shop"].instances[0].detail.clone().unwrap_or_default();
    assert!(detail.ends_with(": reading 3 of 9 tables"), "{detail}");
}

#[test]
fn a_release_keeps_what_it_was_deployed_with_and_is_stopped_as_the_manifest_says_now() {
    let first = Service { umask: Some(0o027), user: Some("www".to_owned()), ..bare() };
    let scene = Scene::ready(first);
    let mut record = scene.record.expect("written");
    let live = record.manifest.services.get_mut("shop").expect("it is there");
    live.umask = Some(0o077);
    live.user = None;
    live.stop.signal = wire::manifest::StopSignal::Quit;
    let mut next = Scene::resume(record);
    next.tell(Event::Inventory(Inventory { proxies: vec![(1, 50)], ..Inventory::default() }));
    let spawn = next.spawns().remove(0);
    assert_eq!(
        (spawn.umask, spawn.account.map(|account| account.user)),
        (Some(0o027), Some("www".to_owned()))
    );
    assert_eq!(spawn.stop.signal, StopSignal::Quit);
}

#[test]
fn a_crash_loop_is_told_with_the_time_of_the_next_try() {
    let mut scene = Scene::ready(bare());
    scene.now = Instant::from_start(SECOND * 3_600);
    for _ in 0..3 {
        scene.exited(0, 1);
        scene.wait(SECOND * 5);
        scene.spawned(0);
    }
    let text = "shop@1.0.0/0 exited with code 1; crash loop: 3 ends in a row, it starts again in 4s (at 01:00:14 UTC)";
    assert_eq!(scene.told.iter().rfind(|text| text.contains("exited")).map(String::as_str), Some(text));
}

#[test]
fn codes_that_mean_success_end_a_service_that_restarts_on_failure() {
    let mut service = Service { ..bare() };
    service.restart.policy = RestartPolicy::OnFailure;
    service.restart.success_codes = vec![75];
    let mut scene = Scene::ready(service);
    scene.exited(0, 75);
    assert_eq!(scene.state(0), "stopped");
}
