//! `kill -9` of anything of ours: the crash table, row by row.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use e2e::http::{self, Request};
use e2e::load::{Kind, Load};
use e2e::manifest::Setup;
use e2e::sandbox::{Sandbox, finish};
use e2e::status::Status;
use e2e::system::{self, Signal};
use e2e::wait::{self, PATIENCE};

const CLIENTS: [Kind; 8] = [
    Kind::Think0,
    Kind::Think0,
    Kind::Think2ms,
    Kind::Think2ms,
    Kind::Fresh,
    Kind::Long,
    Kind::Think1s,
    Kind::Chunked,
];

fn kill(sandbox: &mut Sandbox, role: &str) -> Status {
    let former = sandbox.status().pid(role).unwrap();
    system::send(former, Signal::Kill);
    if role == "holder" {
        sandbox.collect_up();
    }
    sandbox.wait_status(&format!("another {role}"), |status| {
        let another = status.pid(role).is_some_and(|pid| pid != former);
        (another && status.pid("holder").is_some() && status.pid("proxy").is_some()).then(|| status.clone())
    })
}

fn instances_survive(before: &Status, after: &Status) {
    assert_eq!(before.instances("shop"), after.instances("shop"));
}

#[test]
fn nobody_notices_a_killed_agent() {
    let mut sandbox = Sandbox::started(Setup { instances: 2, ..Setup::default() });
    let load = Load::start(&sandbox.plan(), &CLIENTS);
    load.wait_for_answers(100);
    let before = sandbox.status();
    let after = kill(&mut sandbox, "agent");
    load.wait_for_answers(100);
    assert_eq!(load.finish().failures_by_name(), "none");
    instances_survive(&before, &after);
    assert_eq!((before.pid("holder"), before.pid("proxy")), (after.pid("holder"), after.pid("proxy")));
    let next = sandbox.release("next", &[]);
    sandbox.deploy("2", &next).expect_code(0);
}

#[test]
fn nobody_notices_a_killed_holder() {
    let mut sandbox = Sandbox::started(Setup { instances: 2, ..Setup::default() });
    let load = Load::start(&sandbox.plan(), &CLIENTS);
    load.wait_for_answers(100);
    let before = sandbox.status();
    let after = kill(&mut sandbox, "holder");
    load.wait_for_answers(100);
    assert_eq!(load.finish().failures_by_name(), "none");
    instances_survive(&before, &after);
    assert_eq!((before.pid("agent"), before.pid("proxy")), (after.pid("agent"), after.pid("proxy")));
    let next = sandbox.release("next", &[]);
    sandbox.deploy("2", &next).expect_code(0);
    sandbox.down();
    wait::until("the end of all processes", PATIENCE, || sandbox.processes().is_empty().then_some(()));
}

#[test]
fn a_killed_proxy_refuses_no_connection() {
    let mut sandbox = Sandbox::started(Setup::default());
    let clients = [Kind::Think0, Kind::Think0, Kind::Think0, Kind::Think0, Kind::Fresh, Kind::Fresh];
    let load = Load::start(&sandbox.plan(), &clients);
    load.wait_for_answers(100);
    let before = sandbox.status();
    let after = kill(&mut sandbox, "proxy");
    load.wait_for_answers(100);
    let tally = load.finish();
    assert_eq!(tally.connect_failures(), 0);
    assert!(tally.failures() <= clients.len() as u64, "{}", tally.failures_by_name());
    assert!(after.proxy_generation() > before.proxy_generation());
    instances_survive(&before, &after);
}

#[test]
fn agent_and_holder_killed_together_come_back() {
    let mut sandbox = Sandbox::started(Setup::default());
    let load = Load::start(&sandbox.plan(), &CLIENTS);
    load.wait_for_answers(50);
    let before = sandbox.status();
    let (agent, holder) = (before.pid("agent").unwrap(), before.pid("holder").unwrap());
    system::send(holder, Signal::Kill);
    system::send(agent, Signal::Kill);
    sandbox.collect_up();
    let after = sandbox.wait_status("new ones", |status| {
        let new = status.pid("agent")? != agent && status.pid("holder")? != holder;
        (new && status.pid("proxy").is_some()).then(|| status.clone())
    });
    load.wait_for_answers(50);
    assert_eq!(load.finish().failures_by_name(), "none");
    instances_survive(&before, &after);
}

#[test]
fn a_deploy_whose_agent_is_killed_ends_well_all_the_same() {
    let sandbox = Sandbox::started(Setup::default());
    let next = sandbox.release("next", &["--ready-after", "700"]);
    let load = Load::start(&sandbox.plan(), &[Kind::Think0, Kind::Think2ms, Kind::Fresh]);
    let agent = sandbox.status().pid("agent").unwrap();
    let words = ["deploy", "shop", "--release", &next.to_string_lossy(), "--version", "2"];
    let began = Instant::now();
    let deploy = sandbox.begin(&words);
    sandbox.wait_status("the rollout to start instances", |status| {
        (status.rollout("shop")?["phase"] == "starting").then_some(())
    });
    system::send(agent, Signal::Kill);
    finish(deploy, began, &words).expect_code(0);
    load.wait_for_answers(50);
    assert_eq!(load.finish().failures_by_name(), "none");
    let status = sandbox.status();
    assert_eq!(status.stable("shop").as_deref(), Some("2"));
    assert_ne!(status.pid("agent"), Some(agent));
}

#[test]
fn a_deploy_whose_holder_is_killed_ends_well_all_the_same() {
    let mut sandbox = Sandbox::started(Setup::default());
    let next = sandbox.release("next", &["--ready-after", "700"]);
    let load = Load::start(&sandbox.plan(), &[Kind::Think0, Kind::Think2ms, Kind::Fresh]);
    let holder = sandbox.status().pid("holder").unwrap();
    let words = ["deploy", "shop", "--release", &next.to_string_lossy(), "--version", "2"];
    let began = Instant::now();
    let deploy = sandbox.begin(&words);
    sandbox.wait_status("the rollout to start instances", |status| {
        (status.rollout("shop")?["phase"] == "starting").then_some(())
    });
    system::send(holder, Signal::Kill);
    sandbox.collect_up();
    finish(deploy, began, &words).expect_code(0);
    assert_eq!(load.finish().failures_by_name(), "none");
    assert_eq!(sandbox.get("/").unwrap().text(), "2");
}

#[test]
fn everything_killed_at_once_comes_back_as_it_was() {
    let mut sandbox = Sandbox::started(Setup::default());
    let next = sandbox.release("next", &[]);
    sandbox.deploy("2", &next).expect_code(0);
    wait::until("the end of all processes", PATIENCE, || {
        // Frozen first: they would start each other again.
        let all = sandbox.processes();
        all.iter().for_each(|pid| system::send(*pid, Signal::Stop));
        all.iter().for_each(|pid| system::send(*pid, Signal::Kill));
        all.is_empty().then_some(())
    });
    sandbox.collect_up();
    sandbox.up();
    let status = sandbox.wait_ready();
    assert_eq!(status.stable("shop").as_deref(), Some("2"));
    assert_eq!(sandbox.get("/").unwrap().text(), "2");
}

#[test]
fn down_ends_what_outlived_all_of_our_own_processes() {
    let mut sandbox = Sandbox::started(Setup::default());
    kill_at_once(&mut sandbox, &["holder", "proxy", "agent"]);
    assert_eq!(sandbox.processes().len(), 1, "the instance goes on");
    sandbox.run(&["down"]).expect_code(0).expect_says(&["killed: shop@1.0"]);
    wait::until("the end of the instance", PATIENCE, || sandbox.processes().is_empty().then_some(()));
}

#[test]
fn down_waits_for_who_is_just_being_replaced() {
    let mut sandbox = Sandbox::started(Setup::default());
    kill_at_once(&mut sandbox, &["holder", "agent"]);
    sandbox.run(&["down"]).expect_code(0).expect_says(&["stopped"]);
    assert!(sandbox.processes().is_empty());
}

/// Frozen first: they would start each other again.
fn kill_at_once(sandbox: &mut Sandbox, roles: &[&str]) {
    let status = sandbox.status();
    let pids: Vec<u32> = roles.iter().map(|role| status.pid(role).unwrap()).collect();
    for signal in [Signal::Stop, Signal::Kill] {
        pids.iter().for_each(|pid| system::send(*pid, signal));
    }
    sandbox.collect_up();
    wait::until("their end", PATIENCE, || (!pids.iter().any(|pid| system::is_alive(*pid))).then_some(()));
}

#[test]
fn a_frozen_agent_or_holder_costs_nobody_a_request() {
    let sandbox = Sandbox::started(Setup::default());
    let load = Load::start(&sandbox.plan(), &[Kind::Think0, Kind::Think2ms, Kind::Fresh]);
    let status = sandbox.status();
    for role in ["agent", "holder"] {
        let pid = status.pid(role).unwrap();
        system::send(pid, Signal::Stop);
        load.wait_for_answers(1000);
        system::send(pid, Signal::Continue);
    }
    assert_eq!(load.finish().failures_by_name(), "none");
    let after = sandbox.status();
    assert_eq!((status.pid("agent"), status.pid("holder")), (after.pid("agent"), after.pid("holder")));
}

#[test]
fn what_was_answered_while_the_proxy_stood_still_is_passed_on_when_it_goes_on() {
    const TIMEOUT: Duration = Duration::from_secs(1);
    let instance = TcpListener::bind("127.0.0.1:0").unwrap();
    let extra = format!(
        "[listener.out]\nbind = \"127.0.0.1:0\"\n[[route]]\nlistener = \"out\"\nservice = \"out\"\n\
         [service.out]\nendpoints = [\"{}\"]\n[service.out.upstream]\nresponse_timeout = \"{}s\"\n",
        instance.local_addr().unwrap(),
        TIMEOUT.as_secs(),
    );
    let sandbox = Sandbox::started(Setup { extra, ..Setup::default() });
    let status = sandbox.status();
    let address = status.listener("out").unwrap();
    let client = std::thread::spawn(move || http::once(address, &Request::get("/")).unwrap().text());
    let (mut stream, _) = instance.accept().unwrap();
    assert!(stream.read(&mut [0; 4_096]).unwrap() > 0);
    let proxy = status.pid("proxy").unwrap();
    system::send(proxy, Signal::Stop);
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").unwrap();
    std::thread::sleep(TIMEOUT + TIMEOUT / 2);
    system::send(proxy, Signal::Continue);
    assert_eq!(client.join().unwrap(), "done");
}
