//! The end of everything: by `down`, by signals, and what is left of it.

use e2e::http::{Request, once};
use e2e::load::{Kind, Load};
use e2e::manifest::Setup;
use e2e::sandbox::Sandbox;
use e2e::system::{self, Signal};
use e2e::wait::{self, PATIENCE};

#[track_caller]
fn nothing_is_left(sandbox: &Sandbox) {
    wait::until("the end of all processes", PATIENCE, || sandbox.processes().is_empty().then_some(()));
    for name in ["admin.sock", "handover.pid", "notify/shop@1.0.sock"] {
        assert!(!sandbox.run_dir().join(name).exists(), "{name} is left");
    }
    let rescue = std::fs::read_dir(sandbox.run_dir().join("rescue")).into_iter().flatten().flatten();
    assert_eq!(rescue.map(|entry| entry.path()).collect::<Vec<_>>(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn down_finishes_requests_in_flight_and_leaves_no_process_and_no_socket() {
    let mut sandbox = Sandbox::started(Setup { instances: 2, ..Setup::default() });
    let address = sandbox.address();
    let long = std::thread::spawn(move || once(address, &Request::get("/slow?ms=1500")));
    sandbox.wait_status("the request to be in flight", |_| Some(()));
    let instances = sandbox.status().instances("shop");
    let cgroups: Vec<_> = instances.iter().filter_map(|i| system::cgroup_of(i.pid?)).collect();
    sandbox.down();
    assert_eq!(long.join().unwrap().unwrap().status, 200);
    nothing_is_left(&sandbox);
    assert!(cgroups.iter().all(|cgroup| !cgroup.exists()), "{cgroups:?}");
    assert!(!system::listens(address.port()));
}

#[test]
fn sigterm_to_up_drains_and_ends_with_0() {
    let mut sandbox = Sandbox::started(Setup::default());
    let address = sandbox.address();
    let long = std::thread::spawn(move || once(address, &Request::get("/slow?ms=1000")));
    sandbox.wait_status("the request to be in flight", |_| Some(()));
    system::send(sandbox.up_pid(), Signal::Term);
    assert_eq!(sandbox.wait_for_up_to_end().code(), Some(0));
    assert_eq!(long.join().unwrap().unwrap().status, 200);
    nothing_is_left(&sandbox);
}

#[test]
fn ctrl_c_to_up_ends_with_0_too() {
    let mut sandbox = Sandbox::started(Setup::default());
    system::send(sandbox.up_pid(), Signal::Interrupt);
    assert_eq!(sandbox.wait_for_up_to_end().code(), Some(0));
    nothing_is_left(&sandbox);
}

#[test]
fn a_second_signal_skips_the_drain_and_a_third_kills() {
    let setup = Setup {
        stop: "drain_timeout = \"60s\"\ngrace_period = \"60s\"\n".to_owned(),
        ..Setup::with_flags(&["--ignore-term"])
    };
    let mut sandbox = Sandbox::started(setup);
    let address = sandbox.address();
    let long = std::thread::spawn(move || once(address, &Request::get("/slow?ms=60000")));
    sandbox.wait_status("the request to be in flight", |_| Some(()));
    let up = sandbox.up_pid();
    system::send(up, Signal::Interrupt);
    sandbox.wait_status("the stop to begin", |status| (status.0["stopping"] == true).then_some(()));
    system::send(up, Signal::Interrupt);
    sandbox.wait_status("the instance to be asked", |status| {
        status
            .in_state("shop", "stopping")
            .first()
            .map(|_| ())
            .or_else(|| status.instances("shop").is_empty().then_some(()))
    });
    system::send(up, Signal::Interrupt);
    sandbox.wait_for_up_to_end();
    let answered = long.join().unwrap().is_ok_and(|answer| answer.status == 200);
    assert!(!answered, "its instance was killed");
    nothing_is_left(&sandbox);
}

#[test]
fn clients_see_a_drain_as_closed_connections_and_never_as_a_broken_answer() {
    let mut sandbox = Sandbox::started(Setup::default());
    let load = Load::start(&sandbox.plan(), &[Kind::Think0, Kind::Think2ms, Kind::Long]);
    load.wait_for_answers(100);
    sandbox.down();
    let tally = load.finish();
    let broken = tally.lost.get(&e2e::http::Loss::Cut).copied().unwrap_or(0);
    assert_eq!((broken, tally.wrong_body, tally.bad_status.len()), (0, 0, 0), "{}", tally.failures_by_name());
}

#[test]
fn down_without_anything_running_says_so_and_is_done() {
    let sandbox = Sandbox::new(Setup::default());
    sandbox.run(&["down"]).expect_code(0).expect_says(&["not running"]);
}

#[test]
fn after_a_killed_terminal_down_still_ends_everything() {
    let mut sandbox = Sandbox::started(Setup::default());
    let up = sandbox.up_pid();
    system::send(up, Signal::Kill);
    sandbox.collect_up();
    sandbox.wait_status("a rescued holder", |status| status.pid("holder").filter(|pid| *pid != up));
    sandbox.down();
    nothing_is_left(&sandbox);
}

/// What a request in flight and `down` come to when that role is killed while everything stops.
fn down_while_killing(role: &str) {
    let mut sandbox = Sandbox::started(Setup::default());
    let address = sandbox.address();
    let pid = sandbox.status().pid(role).expect("it runs");
    let long = std::thread::spawn(move || once(address, &Request::get("/slow?ms=2500")));
    sandbox.wait_status("the request to be in flight", |_| Some(()));
    let down = sandbox.begin(&["down"]);
    wait::until("the stop to begin", PATIENCE, || {
        std::fs::read_to_string(sandbox.state_dir().join("logs/handover.log"))
            .is_ok_and(|log| log.contains(": draining"))
            .then_some(())
    });
    system::send(pid, Signal::Kill);
    let began = std::time::Instant::now();
    e2e::sandbox::finish(down, began, &["down"]).expect_code(0).expect_says(&["stopped"]);
    // It has not said so before it was true.
    assert_eq!(sandbox.processes(), Vec::<u32>::new());
    assert_eq!(long.join().unwrap().unwrap().status, 200);
    if role == "agent" {
        sandbox.wait_for_up_to_end();
    } else {
        sandbox.collect_up();
    }
    nothing_is_left(&sandbox);
}

#[test]
fn a_request_in_flight_is_answered_though_the_agent_dies_while_everything_stops() {
    down_while_killing("agent");
}

#[test]
fn down_waits_for_the_end_also_of_the_holder_that_takes_over_while_everything_stops() {
    down_while_killing("holder");
}
