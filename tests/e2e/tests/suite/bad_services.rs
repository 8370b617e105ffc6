//! Services with bad habits: each is told apart, said by name, and costs nobody a request.

use e2e::load::{Kind, Load};
use e2e::manifest::Setup;
use e2e::sandbox::Sandbox;
use e2e::system;
use e2e::wait::{self, PATIENCE};

/// A failed deploy leaves everything as it was: the same process serves the same version.
#[track_caller]
fn fails_and_changes_nothing(sandbox: &Sandbox, flags: &[&str], says: &[&str]) {
    let before = sandbox.status().instances("shop");
    let load = Load::start(&sandbox.plan(), &[Kind::Think2ms, Kind::Fresh]);
    let bad = sandbox.release("bad", flags);
    sandbox.deploy("2", &bad).expect_code(3).expect_says(says);
    assert_eq!(load.finish().failures_by_name(), "none");
    let after = sandbox.wait_status("the end of the bad instances", |status| {
        let instances = status.instances("shop");
        instances.iter().all(|instance| instance.version == "1").then_some(instances)
    });
    assert_eq!(after, before);
    let status = sandbox.status();
    assert_eq!(status.stable("shop").as_deref(), Some("1"));
    assert_eq!(status.last_rollout("shop")["version"], "2");
    assert!(
        ["failed", "rolled-back"].contains(&status.phase("shop").unwrap().as_str()),
        "{:?}",
        status.phase("shop")
    );
}

fn short_startup() -> Setup {
    let readiness = "http = \"/healthz\"\nstartup_timeout = \"3s\"\n".to_owned();
    Setup { readiness, ..Setup::default() }
}

#[test]
fn one_that_exits_at_once_is_told_with_its_code_and_last_lines() {
    let sandbox = Sandbox::started(Setup::default());
    let says = ["7", "cannot open the database: no such file"];
    fails_and_changes_nothing(&sandbox, &["--print", "starting up", "--exit-at-once", "7"], &says);
}

#[test]
fn one_that_never_gets_ready_is_told_with_its_probe_and_time() {
    let sandbox = Sandbox::started(short_startup());
    fails_and_changes_nothing(&sandbox, &["--never-ready"], &["not ready within 3s", "503"]);
}

#[test]
fn one_that_listens_on_a_fixed_port_is_told_that_port() {
    let sandbox = Sandbox::started(short_startup());
    let (keeper, port) = e2e::peers::free_port();
    drop(keeper);
    let port = port.to_string();
    fails_and_changes_nothing(&sandbox, &["--fixed-port", &port], &[&port, "PORT"]);
}

#[test]
fn one_that_cannot_be_executed_is_told_by_name() {
    let sandbox = Sandbox::started(Setup::default());
    let bad = sandbox.release("bad", &[]);
    std::fs::write(bad.join("victim"), "no program at all").unwrap();
    let ran = sandbox.deploy("2", &bad);
    assert!(matches!(ran.code, Some(1 | 3)), "{}", ran.text());
    ran.expect_says(&["victim"]);
    assert_eq!(sandbox.get("/").unwrap().text(), "1");
}

#[test]
fn a_release_without_its_program_is_refused_before_anything_starts() {
    let sandbox = Sandbox::started(Setup::default());
    let bad = sandbox.release("bad", &[]);
    std::fs::remove_file(bad.join("victim")).unwrap();
    let ran = sandbox.deploy("2", &bad);
    assert!(matches!(ran.code, Some(1 | 3)), "{}", ran.text());
    ran.expect_says(&["./victim"]);
    assert_eq!(sandbox.get("/").unwrap().text(), "1");
}

#[test]
fn one_that_starts_slowly_gets_its_time_and_traffic_only_then() {
    let sandbox = Sandbox::started(Setup::default());
    let slow = sandbox.release("slow", &["--bind-after", "800", "--ready-after", "700"]);
    let load = Load::start(&sandbox.plan(), &[Kind::Think0, Kind::Think2ms, Kind::Fresh]);
    let ran = sandbox.deploy("2", &slow).expect_code(0);
    assert!(ran.took.as_millis() >= 1500, "{:?}", ran.took);
    load.wait_for_answers(50);
    assert_eq!(load.finish().failures_by_name(), "none");
    assert_eq!(sandbox.get("/").unwrap().text(), "2");
}

#[test]
fn one_that_says_ready_itself_is_believed_then_and_not_before() {
    let setup = Setup {
        readiness: "notify = true\nstartup_timeout = \"10s\"\n".to_owned(),
        ..Setup::with_flags(&["--notify"])
    };
    let sandbox = Sandbox::started(setup);
    let next = sandbox.release("next", &["--notify", "--ready-after", "600"]);
    let load = Load::of(&sandbox.plan(), Kind::Think2ms, 4);
    let ran = sandbox.deploy("2", &next).expect_code(0);
    assert!(ran.took.as_millis() >= 600, "{:?}", ran.took);
    load.wait_for_answers(20);
    assert_eq!(load.finish().failures_by_name(), "none");
    assert_eq!(sandbox.get("/").unwrap().text(), "2");
}

#[test]
fn one_that_ignores_sigterm_is_killed_after_its_grace_period() {
    let setup = Setup {
        stop: "drain_timeout = \"5s\"\ngrace_period = \"700ms\"\n".to_owned(),
        rollout: "keep_warm = \"0s\"\n".to_owned(),
        ..Setup::with_flags(&["--ignore-term"])
    };
    let sandbox = Sandbox::started(setup);
    let old = sandbox.status().instances("shop")[0].pid.unwrap();
    let next = sandbox.release("next", &[]);
    let load = Load::of(&sandbox.plan(), Kind::Think2ms, 4);
    sandbox.deploy("2", &next).expect_code(0);
    wait::until("the old process to be killed", PATIENCE, || (!system::is_alive(old)).then_some(()));
    assert_eq!(load.finish().failures_by_name(), "none");
    sandbox.wait_status("the old instance to be gone", |status| {
        status.instances("shop").iter().all(|instance| instance.version == "2").then_some(())
    });
    assert!(sandbox.logs().contains("asked to stop"), "it was asked before it was killed");
}

#[test]
fn a_forked_child_that_keeps_the_port_ends_with_its_instance() {
    let setup = Setup {
        rollout: "keep_warm = \"0s\"\n".to_owned(),
        ..Setup::with_flags(&["--fork-child-keeps-port"])
    };
    let sandbox = Sandbox::started(setup);
    let port = sandbox.status().instances("shop")[0].address.unwrap().port();
    let next = sandbox.release("next", &[]);
    sandbox.deploy("2", &next).expect_code(0);
    sandbox.wait_status("the old instance to be gone", |status| {
        status.instances("shop").iter().all(|instance| instance.version == "2").then_some(())
    });
    wait::until("the child to free the port", PATIENCE, || (!system::listens(port)).then_some(()));
}

#[test]
fn one_that_closes_idle_connections_by_itself_costs_no_request_that_may_be_repeated() {
    let sandbox = Sandbox::started(Setup::with_flags(&["--idle-close-ms", "20"]));
    let mut plan = sandbox.plan();
    plan.method = "PUT";
    let load =
        Load::start(&plan, &[Kind::Think2ms, Kind::Think0, Kind::Think1s, Kind::Fresh, Kind::Think2ms]);
    load.wait_for_answers(2000);
    assert_eq!(load.finish().failures_by_name(), "none");
}

#[test]
fn one_that_closes_after_some_requests_costs_none_that_may_be_repeated() {
    let sandbox = Sandbox::started(Setup::with_flags(&["--close-after-n-requests", "7"]));
    let mut plan = sandbox.plan();
    plan.method = "PUT";
    let load = Load::start(&plan, &[Kind::Think0, Kind::Think0, Kind::Think2ms, Kind::Fresh]);
    load.wait_for_answers(3000);
    assert_eq!(load.finish().failures_by_name(), "none");
}

#[test]
fn one_that_crashes_is_started_again_and_counted() {
    let setup = Setup { restart: "delay = \"100ms\"\n".to_owned(), ..Setup::default() };
    let sandbox = Sandbox::started(setup);
    let before = sandbox.status().instances("shop")[0].pid;
    let _lost_with_the_instance = sandbox.get("/die");
    sandbox.wait_status("another process, one restart", |status| {
        let instance = status.instances("shop").into_iter().next()?;
        (instance.state == "ready" && instance.restarts == 1 && instance.pid != before).then_some(())
    });
    assert_eq!(sandbox.get("/").unwrap().status, 200);
}

#[test]
fn with_two_instances_a_crash_of_one_costs_no_request_that_may_be_repeated() {
    let setup = Setup { instances: 2, restart: "delay = \"100ms\"\n".to_owned(), ..Setup::default() };
    let sandbox = Sandbox::started(setup);
    let mut plan = sandbox.plan();
    plan.method = "PUT";
    let load = Load::start(&plan, &[Kind::Think0, Kind::Think2ms, Kind::Fresh, Kind::Think2ms]);
    load.wait_for_answers(100);
    let victim = sandbox.status().instances("shop")[0].pid.unwrap();
    system::send(victim, system::Signal::Kill);
    load.wait_for_answers(200);
    assert_eq!(load.finish().failures_by_name(), "none");
    sandbox.wait_ready();
}
