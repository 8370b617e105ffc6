//! Strategies and the commands that change what runs, seen by clients that never retry.

use std::time::Duration;

use e2e::load::Load;
use e2e::manifest::Setup;
use e2e::peers::free_port;
use e2e::sandbox::{Sandbox, finish};
use e2e::torture::Mix;
use e2e::wait::{self, PATIENCE};

fn everyone(sandbox: &Sandbox) -> Load {
    let clients = Mix::all().pop().expect("the last mix is all together").clients;
    let load = Load::start(&sandbox.plan(), &clients);
    load.wait_for_answers(100);
    load
}

#[track_caller]
fn nothing_lost(load: Load) -> Duration {
    load.wait_for_answers(50);
    let tally = load.finish();
    assert_eq!(tally.failures_by_name(), "none");
    tally.longest_stall
}

fn listener() -> String {
    "idle_timeout = \"2s\"\n".to_owned()
}

fn on_a_fixed_port(flags: &[&str]) -> (Setup, u16) {
    let (keeper, port) = free_port();
    drop(keeper);
    let service = format!("port = {port}\n");
    (Setup { listener: listener(), service, ..Setup::with_flags(flags) }, port)
}

fn pids(sandbox: &Sandbox) -> Vec<u32> {
    sandbox.status().in_state("shop", "ready").iter().filter_map(|instance| instance.pid).collect()
}

#[test]
fn a_program_on_a_fixed_port_is_replaced_while_its_requests_wait() {
    let (setup, port) = on_a_fixed_port(&["--ready-after", "400"]);
    let sandbox = Sandbox::started(setup);
    assert_eq!(sandbox.status().instances("shop")[0].address.unwrap().port(), port);
    let next = sandbox.release("next", &["--ready-after", "400"]);
    let load = everyone(&sandbox);
    sandbox.deploy("2", &next).expect_code(0);
    sandbox.run(&["restart", "shop"]).expect_code(0);
    sandbox.run(&["rollback", "shop"]).expect_code(0);
    let longest = nothing_lost(load);
    assert!(longest >= Duration::from_millis(400), "they waited: {longest:?}");
    assert_eq!(sandbox.get("/").unwrap().text(), "1");
    assert_eq!(sandbox.status().instances("shop").len(), 1);
}

#[test]
fn a_bad_release_on_a_fixed_port_gives_way_to_the_old_one_while_requests_wait() {
    let (setup, _) = on_a_fixed_port(&[]);
    let sandbox = Sandbox::started(setup);
    let load = everyone(&sandbox);
    let bad = sandbox.release("bad", &["--exit-at-once", "7"]);
    sandbox.deploy("2", &bad).expect_code(3);
    nothing_lost(load);
    assert_eq!(sandbox.get("/").unwrap().text(), "1");
    sandbox.wait_ready();
}

#[test]
fn a_rolling_deploy_keeps_as_many_ready_as_it_must_and_starts_no_more_than_it_may() {
    let setup = Setup {
        instances: 3,
        listener: listener(),
        rollout: "strategy = \"rolling\"\nmax_surge = 1\nmax_unavailable = 0\n".to_owned(),
        ..Setup::with_flags(&["--ready-after", "150"])
    };
    let sandbox = Sandbox::started(setup);
    let next = sandbox.release("next", &["--ready-after", "150"]);
    let load = everyone(&sandbox);
    let words = ["deploy", "shop", "--release", &next.to_string_lossy(), "--version", "2"];
    let began = std::time::Instant::now();
    let mut child = sandbox.begin(&words);
    let mut both = false;
    while child.try_wait().unwrap().is_none() {
        let Some(status) = sandbox.try_status() else { continue };
        let (all, ready) = (status.instances("shop"), status.in_state("shop", "ready"));
        let running = all.iter().filter(|instance| instance.pid.is_some()).count();
        assert!(ready.len() >= 3, "{all:?}");
        assert!(running <= 4, "{all:?}");
        both |= ready.iter().any(|instance| instance.version == "1")
            && ready.iter().any(|instance| instance.version == "2");
    }
    finish(child, began, &words).expect_code(0);
    assert!(both, "one after the other");
    nothing_lost(load);
    assert!(sandbox.status().in_state("shop", "ready").iter().all(|instance| instance.version == "2"));
}

#[test]
fn a_restart_replaces_every_instance_and_loses_nothing_even_with_one() {
    let sandbox = Sandbox::started(Setup { listener: listener(), ..Setup::default() });
    let before = pids(&sandbox);
    let load = everyone(&sandbox);
    sandbox.run(&["restart", "shop"]).expect_code(0);
    nothing_lost(load);
    let after = pids(&sandbox);
    assert_eq!(after.len(), 1);
    assert_ne!(before, after);
}

#[test]
fn what_was_scaled_stays_so_through_the_deaths_of_agent_and_holder() {
    let sandbox = Sandbox::started(Setup { listener: listener(), ..Setup::default() });
    let load = everyone(&sandbox);
    sandbox.run(&["scale", "shop", "3"]).expect_code(0);
    assert_eq!(pids(&sandbox).len(), 3, "it returns when what was asked is true");
    for role in ["agent", "holder"] {
        let pid = sandbox.status().pid(role).unwrap();
        e2e::system::send(pid, e2e::system::Signal::Kill);
        sandbox.wait_status("another one", |status| status.pid(role).filter(|new| *new != pid));
        assert_eq!(sandbox.wait_ready().in_state("shop", "ready").len(), 3);
    }
    sandbox.run(&["scale", "shop", "1"]).expect_code(0);
    assert_eq!(pids(&sandbox).len(), 1);
    nothing_lost(load);
}

#[test]
fn a_reload_reaches_every_instance_and_ends_none() {
    let service = "reload = { signal = \"SIGHUP\" }\n".to_owned();
    let setup = Setup { instances: 2, listener: listener(), service, ..Setup::default() };
    let sandbox = Sandbox::started(setup);
    let before = pids(&sandbox);
    let load = everyone(&sandbox);
    sandbox.run(&["reload", "shop"]).expect_code(0);
    wait::until("both to be asked", PATIENCE, || {
        (sandbox.logs().matches("asked to reload").count() >= 2).then_some(())
    });
    nothing_lost(load);
    assert_eq!(pids(&sandbox), before);
}

#[test]
fn what_was_stopped_stays_so_until_it_is_started() {
    let sandbox = Sandbox::started(Setup::default());
    sandbox.run(&["stop", "shop"]).expect_code(0);
    assert!(pids(&sandbox).is_empty());
    assert_eq!(sandbox.get("/").unwrap().status, 503);
    let agent = sandbox.status().pid("agent").unwrap();
    e2e::system::send(agent, e2e::system::Signal::Kill);
    sandbox.wait_status("another agent", |status| status.pid("agent").filter(|new| *new != agent));
    assert_eq!(sandbox.get("/").unwrap().status, 503);
    sandbox.run(&["start", "shop"]).expect_code(0);
    assert_eq!(sandbox.get("/").unwrap().text(), "1");
}

#[test]
fn an_applied_manifest_changes_what_differs_and_says_it_first_without_values() {
    let mut sandbox = Sandbox::started(Setup { listener: listener(), ..Setup::default() });
    let load = everyone(&sandbox);
    sandbox.run(&["apply", "--yes"]).expect_code(0);
    let before = pids(&sandbox);
    sandbox.edit(|setup| setup.stop = "drain_timeout = \"11s\"\ngrace_period = \"5s\"\n".to_owned());
    sandbox.run(&["plan"]).expect_code(0).expect_says(&["drain_timeout"]);
    sandbox.run(&["apply", "--yes"]).expect_code(0).expect_says(&["drain_timeout"]);
    assert_eq!(pids(&sandbox), before, "it holds at once, and no process is touched");
    sandbox.edit(|setup| setup.service.push_str("environment = { TOKEN = \"opensesame\" }\n"));
    let ran = sandbox.run(&["apply", "--yes"]).expect_code(0).expect_says(&["environment"]);
    assert!(!ran.text().contains("opensesame"), "{}", ran.text());
    assert_ne!(pids(&sandbox), before);
    nothing_lost(load);
}
