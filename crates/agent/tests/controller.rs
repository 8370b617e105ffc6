//! The controller, one decision at a time: events in, actions out. Whole stories are the simulator's.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use agent::controller::{Action, Asked};
use agent::world::{DeployRequest, Event, FleetRequest, Inventory, SpawnRequest, StoreError};
use agent::{Controller, Denied};
use model::time::{Instant, WallTime};
use wire::link::ExitStatus;
use wire::manifest::{Manifest, Readiness, ReadinessCheck, Service};
use wire::record::{Phase, Record, Verdict};
use wire::routes::{EndpointState, RouteTable};
use wire::sealed::Boot;
use wire::traffic::{Counters, ReleaseCounters};

fn service(instances: u32) -> Service {
    let bare = Service::bare("/dist/shop-1.0.0", "1.0.0", &["./shop", "${PORT}", "${HANDOVER}"]);
    Service {
        instances,
        environment: vec![("WHERE".to_owned(), "${SERVICE}/${ZONE}".to_owned())],
        environment_inherit: vec!["ZONE".to_owned()],
        readiness: Readiness { check: ReadinessCheck::Http("/healthz".to_owned()), ..bare.readiness },
        ..bare
    }
}

fn boot(instances: u32) -> Boot {
    let manifest = Manifest {
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
        services: BTreeMap::from([("shop".to_owned(), service(instances))]),
        fronted: Default::default(),
    };
    Boot {
        v: 1,
        manifest,
        source: "# text".to_owned(),
        path: "/srv/handover.toml".to_owned(),
        binary_origin: "/usr/bin/handover".to_owned(),
        environment: vec![("ZONE".to_owned(), "eu".to_owned()), ("SECRET".to_owned(), "no".to_owned())],
        print_output: false,
        colour: false,
    }
}

/// A controller whose record is always written, and what it asked for.
struct Scene {
    controller: Controller,
    now: Instant,
    record: Option<Record>,
    table: RouteTable,
    spawned: Vec<SpawnRequest>,
    asked: Vec<FleetRequest>,
    tokens: Vec<u64>,
    disk_is_bad: bool,
}

impl Scene {
    /// As after an `up` with nothing there yet: the inventory is empty and proxy 1 has a link.
    fn new(instances: u32) -> Self {
        let record = Controller::first_record(&boot(instances), WallTime(0));
        let mut scene = Self::resume(record);
        scene.tell(Event::Inventory(Inventory { proxies: vec![(1, 50)], ..Inventory::default() }));
        scene.tell(Event::ProxyUp { generation: 1, pid: 50 });
        scene
    }

    fn resume(record: Record) -> Self {
        let now = Instant::START;
        let controller = Controller::resume(record, now, WallTime(0), 0).expect("a record of ours");
        Self {
            controller,
            now,
            record: None,
            table: RouteTable::default(),
            spawned: Vec::new(),
            asked: Vec::new(),
            tokens: Vec::new(),
            disk_is_bad: false,
        }
    }

    fn wall(&self) -> WallTime {
        WallTime(wire::manifest::millis(self.now.since_start()))
    }

    fn tell(&mut self, event: Event) {
        self.controller.handle_event(event, self.now, self.wall());
        self.carry_out();
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.controller.poll_action() {
            match action {
                Action::Publish(table) => self.table = *table,
                Action::Fleet(FleetRequest::Spawn(request)) => self.spawned.push(*request),
                Action::Fleet(request) => self.asked.push(request),
                Action::ReportNow(token) => self.tokens.push(token),
                Action::Write(record) => {
                    let result = if self.disk_is_bad {
                        Err(StoreError {
                            path: "/state/record/a".to_owned(),
                            why: "input/output error".to_owned(),
                        })
                    } else {
                        self.record = Some(*record);
                        Ok(())
                    };
                    self.controller.handle_written(result, self.now, self.wall());
                }
                Action::Drain(_)
                | Action::Append(_)
                | Action::Prepare(_)
                | Action::RemoveRelease { .. }
                | Action::LookUp(_)
                | Action::Announce(_) => {}
            }
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

    fn prepared(&mut self, version: &str) {
        self.tell(Event::ReleasePrepared {
            service: "shop".parse().expect("a name"),
            release: version.parse().expect("a release"),
            directory: PathBuf::from(format!("/state/releases/shop/{version}")),
            hash: format!("hash of {version}"),
        });
    }

    /// Every process that was asked for runs and answers.
    fn all_ready(&mut self) {
        for request in std::mem::take(&mut self.spawned) {
            self.tell(Event::Spawned {
                instance: request.instance.clone(),
                pid: u32::from(request.port.expect("a port")),
            });
            let detail = "200".to_owned();
            self.tell(Event::Probe { instance: request.instance, healthy: Some(true), detail });
        }
        self.applied();
    }

    fn applied(&mut self) {
        let generation = self.table.generation;
        self.tell(Event::TableApplied { proxy: 1, generation });
    }

    fn stable(instances: u32) -> Self {
        let mut scene = Self::new(instances);
        scene.prepared("1.0.0");
        scene.all_ready();
        assert_eq!(scene.recorded().stable.as_deref(), Some("1.0.0"));
        scene
    }

    fn recorded(&self) -> &wire::record::ServiceRecord {
        &self.record.as_ref().expect("something was written").services["shop"]
    }

    fn deploy(&mut self, version: &str) -> Result<u64, Denied> {
        let accepted = self.controller.try_deploy(&request(version), self.now, self.wall());
        self.carry_out();
        accepted.map(|accepted| accepted.rollout)
    }

    fn states(&self) -> Vec<(String, EndpointState)> {
        let releases = self.table.services["shop"].releases.iter().flat_map(|release| &release.endpoints);
        releases.map(|endpoint| (endpoint.instance.clone(), endpoint.state)).collect()
    }

    fn counted(&mut self, proxy: u64, token: Option<u64>, requests: u64) {
        let release = ReleaseCounters {
            service: "shop".to_owned(),
            release: "1.0.0".to_owned(),
            requests,
            ..ReleaseCounters::default()
        };
        let counters = Box::new(Counters { token, releases: vec![release], ..Counters::default() });
        self.tell(Event::Counters { proxy, counters });
    }
}

fn request(version: &str) -> DeployRequest {
    DeployRequest {
        service: "shop".parse().expect("a name"),
        source: PathBuf::from(format!("/dist/{version}")),
        version: None,
        replace: false,
        force: false,
        actor: "ada".to_owned(),
        operation: None,
    }
}

#[test]
fn an_instance_is_in_a_table_before_it_is_spawned_and_gets_what_it_is_promised() {
    let mut scene = Scene::new(1);
    scene.prepared("1.0.0");
    let request = &scene.spawned[0];
    assert_eq!(scene.states(), [("shop@1.0.0/0".to_owned(), EndpointState::Candidate)]);
    assert_eq!(request.command, ["./shop", &request.port.expect("a port").to_string(), "${HANDOVER}"]);
    let value = |name: &str| {
        request.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    };
    assert_eq!((value("WHERE"), value("ZONE"), value("SECRET")), (Some("shop/eu"), Some("eu"), None));
    assert_eq!(
        (value("HANDOVER_VERSION"), value("HANDOVER_INSTANCE")),
        (Some("1.0.0"), Some("shop@1.0.0/0"))
    );
    assert!(!request.notify);
}

#[test]
fn a_taken_port_is_replaced_by_another_and_the_table_says_so() {
    let mut scene = Scene::new(1);
    scene.prepared("1.0.0");
    let first = scene.spawned.remove(0);
    scene.tell(Event::PortTaken { instance: first.instance.clone(), port: first.port.expect("a port") });
    let second = &scene.spawned[0];
    assert_ne!(second.port, first.port);
    let endpoint = &scene.table.services["shop"].releases[0].endpoints[0];
    assert_eq!(endpoint.address.port(), second.port);
    // An answer about the first one that comes late changes nothing.
    scene.tell(Event::PortTaken { instance: first.instance, port: first.port.expect("a port") });
    assert_eq!(scene.spawned.len(), 1);
}

#[test]
fn the_last_that_takes_requests_is_not_taken_out_by_its_probes() {
    let mut scene = Scene::stable(2);
    let unready = |scene: &mut Scene, number: u32| {
        let instance = format!("shop@1.0.0/{number}").parse().expect("an id");
        scene.tell(Event::Probe { instance, healthy: Some(false), detail: "timed out".to_owned() });
    };
    unready(&mut scene, 0);
    assert_eq!(scene.states()[0].1, EndpointState::Candidate);
    unready(&mut scene, 1);
    assert_eq!(
        scene.states().iter().map(|(_, state)| *state).collect::<Vec<_>>(),
        [EndpointState::Candidate, EndpointState::Serving]
    );
    let instance = "shop@1.0.0/0".parse().expect("an id");
    scene.tell(Event::Probe { instance, healthy: Some(true), detail: "200".to_owned() });
    assert_eq!(scene.states()[1].1, EndpointState::Candidate);
}

#[test]
fn requests_that_make_no_sense_now_are_denied_with_what_to_do() {
    let mut scene = Scene::stable(1);
    let denied = |result: Result<u64, Denied>| result.expect_err("it is denied").to_string();
    let mut unknown = request("1.1.0");
    unknown.service = "shpo".parse().expect("a name");
    let now = scene.now;
    let text =
        scene.controller.try_deploy(&unknown, now, WallTime(0)).expect_err("no such service").to_string();
    assert_eq!(text, "there is no service `shpo`; did you mean `shop`?");
    let asked = Asked { actor: "ada", operation: None };
    let text =
        scene.controller.try_rollback("shop", asked, now, WallTime(0)).expect_err("no way back").to_string();
    assert!(text.starts_with("shop has no release to go back to: none but 1.0.0"), "{text}");
    assert_eq!(scene.deploy("1.1.0"), Ok(2));
    let text = denied(scene.deploy("1.2.0"));
    assert_eq!(text, "shop is in a rollout to 1.1.0 (preparing), started by ada");
}

#[test]
fn a_request_that_comes_again_with_its_key_gets_the_same_answer_also_from_the_next_agent() {
    let mut scene = Scene::stable(1);
    let keyed = DeployRequest { operation: Some("k1".to_owned()), ..request("1.1.0") };
    let first = scene.controller.try_deploy(&keyed, scene.now, WallTime(0)).expect("it is accepted");
    scene.carry_out();
    let again = scene.controller.try_deploy(&keyed, scene.now, WallTime(0)).expect("it is the same");
    assert_eq!(first, again);
    let mut next = Scene::resume(scene.record.expect("written"));
    let again = next.controller.try_deploy(&keyed, next.now, WallTime(0)).expect("it is in the record");
    assert_eq!(first, again);
}

#[test]
fn while_the_record_cannot_be_written_deploys_are_denied_and_crashes_are_not_left_alone() {
    let mut scene = Scene::stable(1);
    scene.disk_is_bad = true;
    assert_eq!(scene.deploy("1.1.0"), Ok(2));
    let why = scene.controller.status(scene.now, WallTime(0)).warnings;
    assert!(why[0].contains("input/output error"), "{why:?}");
    scene.tell(Event::Exited {
        instance: "shop@1.0.0/0".parse().expect("an id"),
        status: ExitStatus::Signal(11),
    });
    scene.wait(Duration::from_secs(2));
    assert_eq!(scene.spawned.len(), 1);
    let mut second = request("1.2.0");
    second.replace = true;
    let denied = scene.controller.try_deploy(&second, scene.now, WallTime(0));
    assert!(matches!(denied, Err(Denied::Unwritable { .. })));
}

#[test]
fn requests_of_proxies_that_ended_still_count_and_a_receipt_begins_with_its_rollout() {
    let mut scene = Scene::stable(1);
    scene.counted(1, None, 100);
    assert_eq!(scene.deploy("1.1.0"), Ok(2));
    let begin = *scene.tokens.last().expect("asked for");
    scene.counted(1, Some(begin), 110);
    scene.counted(1, None, 150);
    let cost = |scene: &Scene| {
        let status = scene.controller.status(scene.now, WallTime(0));
        let service = &status.services["shop"];
        (service.requests_total, service.rollout.as_ref().map(|rollout| rollout.receipt.requests))
    };
    assert_eq!(cost(&scene), (150, Some(40)));
    scene.tell(Event::ProxyGone { generation: 1 });
    scene.tell(Event::ProxyUp { generation: 2, pid: 51 });
    scene.counted(2, None, 7);
    assert_eq!(cost(&scene).0, 157);
    assert_eq!(scene.recorded().requests_before, 150);
    // The first was only out of reach, and says again all that it has counted.
    scene.tell(Event::ProxyUp { generation: 1, pid: 50 });
    assert_eq!(cost(&scene).0, 157);
    scene.counted(1, None, 160);
    assert_eq!(cost(&scene).0, 167);
    scene.tell(Event::ProxyGone { generation: 1 });
    assert_eq!((cost(&scene).0, scene.recorded().requests_before), (167, 160));
}

#[test]
fn a_deploy_is_decided_when_no_proxy_lets_a_request_go_to_the_old_release() {
    let mut scene = Scene::stable(1);
    assert_eq!(scene.deploy("1.1.0"), Ok(2));
    scene.prepared("1.1.0");
    let phase = |scene: &Scene| scene.recorded().rollout.as_ref().map(|rollout| rollout.phase);
    for request in std::mem::take(&mut scene.spawned) {
        scene.tell(Event::Spawned { instance: request.instance.clone(), pid: 9 });
        scene.tell(Event::Probe { instance: request.instance, healthy: Some(true), detail: String::new() });
    }
    assert_eq!(phase(&scene), Some(Phase::Shifting));
    let weights: Vec<u16> =
        scene.table.services["shop"].releases.iter().map(|release| release.weight).collect();
    assert_eq!(weights, [0, 10_000]);
    let decided =
        |scene: &Scene| scene.controller.progress("shop", 2, 0, scene.now).map(|progress| progress.decided);
    assert_eq!(decided(&scene), Some(false));
    scene.applied();
    assert_eq!((phase(&scene), scene.recorded().stable.as_deref()), (Some(Phase::Baking), Some("1.1.0")));
    let end = *scene.tokens.last().expect("asked for");
    scene.counted(1, Some(end), 0);
    assert_eq!(decided(&scene), Some(true));
    assert!(scene.asked.iter().all(|request| !matches!(request, FleetRequest::Signal { .. })));
}

#[test]
fn verdicts_that_a_proxy_tells_before_the_inventory_are_not_lost() {
    let mut scene = Scene::new(1);
    scene.prepared("1.0.0");
    let (table, spawned) = (scene.table.clone(), scene.spawned.remove(0));
    let mut next = Scene::resume(scene.record.expect("written"));
    next.tell(Event::ProxyUp { generation: 1, pid: 50 });
    let instance = spawned.instance.clone();
    next.tell(Event::Probe { instance, healthy: Some(true), detail: String::new() });
    next.tell(Event::Inventory(Inventory {
        running: vec![(spawned.instance, 9)],
        proxies: vec![(1, 50)],
        table: Some(table.clone()),
        ..Inventory::default()
    }));
    assert_eq!(next.states(), [("shop@1.0.0/0".to_owned(), EndpointState::Serving)]);
    assert!(next.table.generation > table.generation);
}

#[test]
fn an_up_on_a_state_that_holds_goes_on_and_then_applies_what_differs() {
    let scene = Scene::stable(1);
    let mut next = Scene::resume(scene.record.expect("written"));
    next.controller.note_boot(&boot(3)).expect("a boot form of ours");
    next.tell(Event::Inventory(Inventory::default()));
    next.tell(Event::ProxyUp { generation: 1, pid: 50 });
    assert_eq!(next.spawned.len(), 3);
    assert_eq!(next.controller.status(next.now, WallTime(0)).warnings, [] as [String; 0]);
    assert_eq!(next.record.expect("written").manifest.services["shop"].instances, 3);
}

#[test]
fn an_up_after_a_first_start_that_failed_tries_again_with_what_the_file_says_now() {
    let mut scene = Scene::new(1);
    scene.tell(Event::ReleaseRefused {
        service: "shop".parse().expect("a name"),
        release: "1.0.0".parse().expect("a release"),
        error: "/dist/shop-1.0.0 does not exist".to_owned(),
    });
    let last = scene.recorded().last_rollout.clone().expect("it is over");
    assert_eq!(
        (last.phase, last.reason.as_deref()),
        (Phase::Failed, Some("/dist/shop-1.0.0 does not exist"))
    );
    let record = scene.record.expect("written");
    // The same agent, or one that takes over, does not try again by itself.
    let mut next = Scene::resume(record.clone());
    next.tell(Event::Inventory(Inventory::default()));
    assert!(next.recorded().rollout.is_none());
    let mut next = Scene::resume(record);
    next.controller.note_boot(&boot(2)).expect("a boot form of ours");
    next.tell(Event::Inventory(Inventory::default()));
    next.tell(Event::ProxyUp { generation: 1, pid: 50 });
    next.prepared("1.0.0");
    assert_eq!(next.spawned.len(), 2);
    assert!(next.controller.status(next.now, WallTime(0)).warnings.is_empty());
}

#[test]
fn what_failed_is_refused_until_it_is_forced() {
    let mut scene = Scene::stable(1);
    assert_eq!(scene.deploy("1.1.0"), Ok(2));
    scene.prepared("1.1.0");
    let instance = scene.spawned[0].instance.clone();
    scene.tell(Event::SpawnFailed { instance, error: "./shop: permission denied".to_owned() });
    scene.applied();
    let verdicts: Vec<Verdict> = scene.recorded().releases.iter().map(|release| release.verdict).collect();
    assert_eq!(verdicts, [Verdict::Good, Verdict::Failed]);
    assert_eq!(scene.table.refused, [("shop".to_owned(), "1.1.0".to_owned())]);
    let denied = scene.deploy("1.1.0").expect_err("it failed before");
    let text = "shop 1.1.0 failed before (shop@1.1.0/0 could not be started: ./shop: permission denied)";
    assert_eq!(denied.to_string(), text);
    let forced = DeployRequest { force: true, ..request("1.1.0") };
    assert!(scene.controller.try_deploy(&forced, scene.now, WallTime(0)).is_ok());
}

#[test]
fn the_same_version_with_another_command_is_another_configuration_of_it() {
    let mut scene = Scene::stable(1);
    let mut record = scene.record.take().expect("written");
    let service = record.manifest.services.get_mut("shop").expect("it is there");
    service.command.push("--verbose".to_owned());
    let mut next = Scene::resume(record);
    next.tell(Event::Inventory(Inventory::default()));
    assert_eq!(next.deploy("1.0.0"), Ok(2));
    assert_eq!(next.recorded().rollout.as_ref().map(|rollout| rollout.to.as_str()), Some("1.0.0+c2"));
}

#[test]
fn of_events_in_a_row_the_last_one_writes_for_all() {
    let record = Controller::first_record(&boot(1), WallTime(0));
    let mut scene = Scene::resume(record);
    let inventory = Event::Inventory(Inventory { proxies: vec![(1, 50)], ..Inventory::default() });
    scene.controller.handle_event_of_many(inventory, scene.now, scene.wall());
    scene.carry_out();
    assert!(scene.record.is_none(), "more has happened already");
    scene.tell(Event::ProxyUp { generation: 1, pid: 50 });
    let rollout = scene.record.as_ref().and_then(|record| record.services["shop"].rollout.clone());
    assert_eq!(rollout.map(|rollout| rollout.phase), Some(Phase::Preparing));
    scene.prepared("1.0.0");
    scene.all_ready();
    assert_eq!(
        scene.controller.status(scene.now, scene.wall()).services["shop"].stable.as_deref(),
        Some("1.0.0")
    );
}

#[test]
fn deaths_among_our_own_processes_are_in_the_history_although_nobody_noticed() {
    let mut scene = Scene::new(1);
    scene.prepared("1.0.0");
    scene.all_ready();
    let record = scene.record.clone().expect("a record");
    let mut scene = Scene::resume(record);
    let running = vec![("shop@1.0.0/0".parse().expect("an id"), 60)];
    let inventory = |holder| Inventory {
        proxies: vec![(1, 50)],
        running: running.clone(),
        holder,
        ..Inventory::default()
    };
    let mut said = |event| -> Vec<String> {
        scene.controller.handle_event(event, scene.now, WallTime(0));
        let actions = std::iter::from_fn(|| scene.controller.poll_action());
        let entries = actions.filter_map(|action| match action {
            Action::Append(entry) if entry.subject == "process" => Some(entry.text),
            _ => None,
        });
        entries.collect()
    };
    assert_eq!(said(Event::Inventory(inventory(7))), ["a new agent has taken over what runs"]);
    assert!(said(Event::HolderLost).is_empty());
    assert_eq!(said(Event::Inventory(inventory(8))), ["a new holder has taken over, as pid 8"]);
    assert_eq!(said(Event::ProxyGone { generation: 1 }), ["the proxy of generation 1 has ended"]);
}
