//! Table swaps: nothing lost, and the end of traffic told when it is one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use proxy::engine::Notice;
use wire::routes::EndpointState;

use crate::harness::{Instance, Peer, Rig, eventually, ok, release};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn swaps_under_load_lose_no_request_and_leave_nothing_in_flight() {
    let instances = [Instance::named("a"), Instance::named("b")];
    let mut rig = Rig::start(&[instances[0].address]);
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (address, stop, asked) = (rig.address, stop.clone(), asked.clone());
            std::thread::spawn(move || {
                let mut client = Peer::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
                    let response = client.response();
                    assert_eq!(response.status(), 200, "{response:?}");
                    asked.fetch_add(1, Ordering::Relaxed);
                    if number % 4 == 0 {
                        client = Peer::connect(address);
                    }
                }
            })
        })
        .collect();
    for round in 0..40_usize {
        let goal = asked.load(Ordering::Relaxed) + 20;
        eventually(|| asked.load(Ordering::Relaxed) >= goal);
        let (now, before) = (round % 2, (round + 1) % 2);
        let name = |at: usize| format!("web@{at}/0");
        rig.start_swap(|table| {
            table.services.get_mut("web").unwrap().releases = vec![
                release(
                    "0",
                    if now == 0 { 10_000 } else { 0 },
                    &[(
                        &name(0),
                        instances[0].address,
                        if now == 0 { EndpointState::Serving } else { EndpointState::Draining },
                    )],
                ),
                release(
                    "1",
                    if now == 1 { 10_000 } else { 0 },
                    &[(
                        &name(1),
                        instances[1].address,
                        if now == 1 { EndpointState::Serving } else { EndpointState::Draining },
                    )],
                ),
            ];
        });
        let generation = rig.table.generation;
        rig.wait_for(|notice| *notice == Notice::Drained { instance: name(before), generation });
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    eventually(|| rig.counters().in_flight == 0);
}

/// How many more answers may leave.
type Gate = (Mutex<usize>, Condvar);

/// Answers when told to.
fn gated() -> (Instance, Arc<Gate>, Receiver<()>) {
    let gate = Arc::new(Gate::default());
    let (came, comes): (Sender<()>, Receiver<()>) = channel();
    let (inner, came) = (gate.clone(), Mutex::new(came));
    let instance = Instance::answering(move |_| {
        came.lock().unwrap().send(()).unwrap();
        let mut open = inner.1.wait_while(inner.0.lock().unwrap(), |open| *open == 0).unwrap();
        *open -= 1;
        ok("slow")
    });
    (instance, gate, comes)
}

fn open(gate: &Gate) {
    *gate.0.lock().unwrap() += 1;
    gate.1.notify_one();
}

fn set_state(rig: &mut Rig, state: EndpointState) {
    rig.start_swap(|table| {
        table.services.get_mut("web").unwrap().releases[0].endpoints[0].state = state;
    });
}

fn is_drained(notice: &Notice) -> bool {
    matches!(notice, Notice::Drained { .. })
}

#[test]
fn a_request_that_was_placed_finishes_where_it_is_and_only_then_it_is_drained() {
    let (slow, gate, comes) = gated();
    let mut rig = Rig::start(&[slow.address]);
    let mut client = rig.client();
    client.send(GET);
    comes.recv().unwrap();
    set_state(&mut rig, EndpointState::Draining);
    let first = rig.table.generation;
    rig.wait_for(|notice| *notice == Notice::Applied { generation: first });
    let mut refused = rig.client();
    refused.send(GET);
    assert_eq!(refused.response().status(), 503);
    assert!(!rig.has_notice(Duration::from_millis(150), is_drained));
    // A later table changes nothing about that, but the notice names it.
    rig.start_swap(|_| {});
    let generation = rig.table.generation;
    rig.wait_for(|notice| *notice == Notice::Applied { generation });
    open(&gate);
    assert_eq!(client.response().text(), "slow");
    assert_eq!(rig.wait_for(is_drained), Notice::Drained { instance: "web@1/0".into(), generation });
    // And each further table in which it is true says so once.
    rig.start_swap(|_| {});
    let generation = rig.table.generation;
    assert_eq!(rig.wait_for(is_drained), Notice::Drained { instance: "web@1/0".into(), generation });
    assert!(!rig.has_notice(Duration::from_millis(150), is_drained));
}

#[test]
fn an_instance_that_is_no_longer_listed_is_drained_when_its_last_request_is_over() {
    let (slow, gate, comes) = gated();
    let mut rig = Rig::start(&[slow.address]);
    let mut client = rig.client();
    client.send(GET);
    comes.recv().unwrap();
    rig.start_swap(|table| table.services.clear());
    assert!(!rig.has_notice(Duration::from_millis(150), is_drained));
    open(&gate);
    assert_eq!(client.response().text(), "slow");
    let generation = rig.table.generation;
    assert_eq!(rig.wait_for(is_drained), Notice::Drained { instance: "web@1/0".into(), generation });
}

#[test]
fn pooled_connections_are_closed_before_it_is_drained_and_no_new_ones_are_kept() {
    let (ended, ends) = channel();
    let ended = Mutex::new(ended);
    let instance = Instance::start(move |peer, _| {
        while peer.request().is_some() {
            peer.send(ok("x"));
        }
        ended.lock().unwrap().send(()).unwrap();
    });
    let mut rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    client.send(GET);
    client.response();
    assert!(ends.try_recv().is_err());
    set_state(&mut rig, EndpointState::Draining);
    rig.wait_for(is_drained);
    ends.recv_timeout(crate::harness::PATIENCE).unwrap();
    set_state(&mut rig, EndpointState::Serving);
    let generation = rig.table.generation;
    rig.wait_for(|notice| *notice == Notice::Applied { generation });
    client.send(GET);
    assert_eq!(client.response().text(), "x");
}

#[test]
fn a_candidate_gets_nothing_and_is_not_called_drained() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    set_state(&mut rig, EndpointState::Candidate);
    assert!(!rig.has_notice(Duration::from_millis(150), is_drained));
    assert_eq!(rig.ask(GET).status(), 503);
    assert_eq!(instance.connections(), 0);
}

#[test]
fn the_last_request_of_one_that_became_a_candidate_does_not_make_it_drained() {
    let (slow, gate, comes) = gated();
    let mut rig = Rig::start(&[slow.address]);
    let mut client = rig.client();
    client.send(GET);
    comes.recv().unwrap();
    set_state(&mut rig, EndpointState::Candidate);
    let generation = rig.table.generation;
    rig.wait_for(|notice| *notice == Notice::Applied { generation });
    open(&gate);
    assert_eq!(client.response().text(), "slow");
    assert!(!rig.has_notice(Duration::from_millis(150), is_drained));
}

#[test]
fn settings_of_a_listener_hold_from_the_next_request_on() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    client.send(post);
    assert_eq!(client.response().status(), 200);
    rig.swap(|table| table.listeners.get_mut("main").unwrap().body_bytes_max = 4);
    let mut other = rig.client();
    other.send(post);
    assert_eq!(other.response().status(), 413);
}

#[test]
fn a_connection_of_a_listener_that_is_gone_still_follows_the_tables() {
    let (old, new) = (Instance::named("old"), Instance::named("new"));
    let mut rig = Rig::start(&[old.address]);
    let mut client = rig.client();
    client.send(GET);
    assert_eq!(client.response().text(), "old 0");
    rig.engine().unlisten("main");
    rig.start_swap(|table| {
        table.services.get_mut("web").unwrap().releases = vec![
            release("1", 0, &[("web@1/0", old.address, EndpointState::Draining)]),
            release("2", 10_000, &[("web@2/0", new.address, EndpointState::Serving)]),
        ];
    });
    rig.wait_for(is_drained);
    client.send(GET);
    assert_eq!(client.response().text(), "new 0");
}

#[test]
fn a_second_attempt_goes_by_the_newest_table() {
    let (came, comes) = channel();
    let (go, wait) = channel::<()>();
    let (came, wait) = (Mutex::new(came), Mutex::new(wait));
    let dying = Instance::start(move |peer, _| {
        peer.request();
        came.lock().unwrap().send(()).unwrap();
        let _ = wait.lock().unwrap().recv();
    });
    let new = Instance::named("new");
    let mut rig = Rig::start(&[dying.address]);
    let mut client = rig.client();
    client.send(GET);
    comes.recv().unwrap();
    rig.swap(|table| {
        table.services.get_mut("web").unwrap().releases =
            vec![release("2", 10_000, &[("web@2/0", new.address, EndpointState::Serving)])];
    });
    go.send(()).unwrap();
    assert_eq!(client.response().text(), "new 0");
}

#[test]
fn a_release_that_lost_its_weight_does_not_keep_idle_connections_for_ever() {
    let closed = Arc::new(AtomicBool::new(false));
    let noted = closed.clone();
    let instance = Instance::start(move |peer, _| {
        peer.request();
        peer.send(ok("x"));
        noted.store(peer.request().is_none(), Ordering::SeqCst);
    });
    let mut rig = Rig::start(&[instance.address]);
    assert_eq!(rig.ask(GET).text(), "x");
    rig.swap(|table| {
        table.services.get_mut("web").unwrap().releases[0].weight = 0;
    });
    eventually(|| closed.load(Ordering::SeqCst));
}
