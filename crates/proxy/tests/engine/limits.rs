//! The maximum of requests that an endpoint has at once, and the queue before it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proxy::engine::Notice;
use wire::routes::{EndpointState, Hold, RouteTable, ServiceTraffic};

use crate::harness::{Instance, Peer, Rig, eventually, nobody, ok, release, table};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
/// Long enough to see that nothing comes.
const SILENCE: Duration = Duration::from_millis(150);

fn web(table: &mut RouteTable) -> &mut ServiceTraffic {
    table.services.get_mut("web").unwrap()
}

fn limit(table: &mut RouteTable, requests_max: u32, queue_max: u32, queue_timeout_ms: u64) {
    let balance = &mut web(table).balance;
    (balance.requests_max, balance.queue_max, balance.queue_timeout_ms) =
        (requests_max, queue_max, queue_timeout_ms);
}

/// Answers one request for each word it is given, with the path; says which came.
struct Gated {
    instance: Instance,
    open: Sender<()>,
    comes: Receiver<String>,
}

fn gated() -> Gated {
    let (open, opened) = channel();
    let (came, comes) = channel();
    let (opened, came) = (Mutex::new(opened), Mutex::new(came));
    let instance = Instance::answering(move |request| {
        let path = request.head.split(' ').nth(1).unwrap().to_owned();
        let _ = came.lock().unwrap().send(path.clone());
        let _ = opened.lock().unwrap().recv();
        ok(&path)
    });
    Gated { instance, open, comes }
}

impl Gated {
    fn open(&self) {
        self.open.send(()).unwrap();
    }

    #[track_caller]
    fn next(&self) -> String {
        self.comes.recv_timeout(crate::harness::PATIENCE).unwrap()
    }
}

fn sent(rig: &Rig, path: &str) -> Peer {
    let mut client = rig.client();
    client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

#[track_caller]
fn queued(rig: &Rig, path: &str) -> Peer {
    let mut client = sent(rig, path);
    assert!(client.is_silent(SILENCE), "it waits");
    client
}

#[track_caller]
fn is_refused(client: &mut Peer) {
    let response = client.response();
    assert_eq!((response.status(), response.field("Retry-After")), (503, Some("1")));
}

#[test]
fn no_instance_ever_has_more_than_its_maximum_whichever_threads_ask() {
    let most = Arc::new(AtomicUsize::new(0));
    let instance = || {
        let (most, now) = (most.clone(), AtomicUsize::new(0));
        Instance::answering(move |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(1));
            now.fetch_sub(1, Ordering::SeqCst);
            ok("x")
        })
    };
    let instances = [instance(), instance()];
    let mut table = table(&[instances[0].address, instances[1].address]);
    table.threads = 4;
    limit(&mut table, 1, 1_000, 10_000);
    let mut rig = Rig::with(table, None);
    let address = rig.address;
    let clients: Vec<_> = (0..24)
        .map(|_| {
            std::thread::spawn(move || {
                let mut client = Peer::connect(address);
                for _ in 0..12 {
                    client.send(GET);
                    assert_eq!(client.response().status(), 200);
                }
            })
        })
        .collect();
    for round in 0..10 {
        rig.swap(|table| limit(table, 1, 1_000 + round, 10_000));
    }
    clients.into_iter().for_each(|client| client.join().unwrap());
    assert_eq!(most.load(Ordering::SeqCst), 1);
    let counters = rig.counters();
    assert_eq!((counters.requests, counters.errors, counters.in_flight), (24 * 12, 0, 0));
    assert!(counters.queued > 0);
}

#[test]
fn who_waits_goes_in_the_order_of_arrival_over_all_threads() {
    let gated = gated();
    let mut table = table(&[gated.instance.address]);
    table.threads = 4;
    limit(&mut table, 1, 100, 10_000);
    let mut rig = Rig::with(table, None);
    let mut clients = vec![sent(&rig, "/0")];
    assert_eq!(gated.next(), "/0");
    clients.extend((1..8).map(|number| queued(&rig, &format!("/{number}"))));
    assert_eq!(rig.counters_of("").waiting, 7);
    for (number, client) in clients.iter_mut().enumerate() {
        gated.open();
        assert_eq!(client.response().text(), format!("/{number}"));
        if number < 7 {
            assert_eq!(gated.next(), format!("/{}", number + 1));
        }
    }
    assert_eq!((rig.counters().queued, rig.counters_of("").waiting), (7, 0));
}

#[test]
fn a_full_queue_and_a_long_wait_are_answered_and_who_leaves_makes_room() {
    let gated = gated();
    let mut table = table(&[gated.instance.address]);
    limit(&mut table, 1, 1, 10_000);
    let mut rig = Rig::with(table, None);
    let mut first = sent(&rig, "/first");
    gated.next();
    let leaving = queued(&rig, "/leaving");
    is_refused(&mut sent(&rig, "/too-many"));
    leaving.reset();
    let mut second = None;
    eventually(|| {
        let mut client = sent(&rig, "/second");
        let waits = client.is_silent(SILENCE);
        second = waits.then_some(client);
        waits
    });
    gated.open();
    assert_eq!(first.response().text(), "/first");
    assert_eq!(gated.next(), "/second", "who left is not forwarded");
    rig.swap(|table| limit(table, 1, 1, 300));
    let began = Instant::now();
    let mut late = sent(&rig, "/late");
    is_refused(&mut late);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    gated.open();
    assert_eq!(second.unwrap().response().text(), "/second");
    // The connection goes on.
    late.send(GET);
    gated.open();
    assert_eq!(late.response().text(), "/");
}

#[test]
fn who_waits_sees_the_endpoints_of_a_new_table() {
    let (gated, other) = (gated(), Instance::named("other"));
    let mut table = table(&[gated.instance.address]);
    limit(&mut table, 1, 10, 10_000);
    let mut rig = Rig::with(table, None);
    let mut first = sent(&rig, "/first");
    gated.next();
    let mut clients = [queued(&rig, "/a"), queued(&rig, "/b")];
    rig.swap(|table| {
        let more = release("1", 10_000, &[("web@1/1", other.address, EndpointState::Serving)]);
        web(table).releases[0].endpoints.extend(more.endpoints);
    });
    for client in &mut clients {
        assert_eq!(client.response().text(), "other 0");
    }
    // Without the maximum nobody waits.
    rig.swap(|table| {
        web(table).releases[0].endpoints.truncate(1);
    });
    let mut waiting = queued(&rig, "/waiting");
    rig.swap(|table| limit(table, 0, 10, 10_000));
    assert_eq!(gated.next(), "/waiting");
    gated.open();
    gated.open();
    assert_eq!((first.response().status(), waiting.response().status()), (200, 200));
}

#[test]
fn who_waits_for_a_slot_is_held_when_nobody_serves_and_refused_where_there_is_no_hold() {
    let (gated, other) = (gated(), Instance::named("other"));
    let mut table = table(&[gated.instance.address]);
    limit(&mut table, 1, 10, 10_000);
    web(&mut table).hold = Some(Hold { timeout_ms: 8_000, requests_max: 10 });
    let mut rig = Rig::with(table, None);
    let mut first = sent(&rig, "/first");
    gated.next();
    let mut waiting = queued(&rig, "/waiting");
    rig.swap(|table| web(table).releases[0].endpoints[0].state = EndpointState::Draining);
    assert!(waiting.is_silent(SILENCE));
    rig.swap(|table| {
        web(table).releases =
            vec![release("2", 10_000, &[("web@2/0", other.address, EndpointState::Serving)])];
    });
    assert_eq!(waiting.response().text(), "other 0");
    gated.open();
    assert_eq!(first.response().text(), "/first");

    rig.swap(|table| {
        web(table).hold = None;
        web(table).releases =
            vec![release("1", 10_000, &[("web@1/0", gated.instance.address, EndpointState::Serving)])];
    });
    let mut first = sent(&rig, "/first");
    gated.next();
    let mut waiting = queued(&rig, "/waiting");
    rig.swap(|table| web(table).releases[0].endpoints[0].state = EndpointState::Draining);
    is_refused(&mut waiting);
    gated.open();
    assert_eq!(first.response().status(), 200);
}

#[test]
fn a_drain_lets_who_waits_go_on_and_answers_them_at_its_deadline() {
    let gated = gated();
    let mut table = table(&[gated.instance.address]);
    limit(&mut table, 1, 10, 10_000);
    let mut rig = Rig::with(table, None);
    let mut first = sent(&rig, "/first");
    gated.next();
    let (mut second, mut third) = (queued(&rig, "/second"), queued(&rig, "/third"));
    rig.engine().drain(Duration::from_millis(900));
    gated.open();
    assert_eq!(first.response().text(), "/first");
    assert_eq!(gated.next(), "/second");
    is_refused(&mut third);
    assert!(third.is_at_end() && second.try_response().is_none(), "cut at the deadline");
    gated.open();
    drop((first, second, third));
    rig.wait_for(|notice| *notice == Notice::Empty);
}

#[test]
fn a_slot_that_the_deadline_of_a_drain_frees_is_for_nobody() {
    let gated = gated();
    let mut table = table(&[gated.instance.address]);
    table.threads = 4;
    limit(&mut table, 1, 100, 10_000);
    let mut rig = Rig::with(table, None);
    let mut first = sent(&rig, "/first");
    gated.next();
    let mut waiting: Vec<Peer> = (0..24).map(|number| sent(&rig, &format!("/{number}"))).collect();
    assert!(waiting.iter_mut().all(|client| client.is_silent(Duration::from_millis(10))));
    rig.engine().drain(Duration::from_millis(200));
    waiting.iter_mut().for_each(is_refused);
    assert!(first.try_response().is_none(), "cut at the deadline");
    assert!(gated.comes.try_recv().is_err(), "nobody else was forwarded");
    gated.open();
}

#[test]
fn a_slot_comes_back_from_attempts_that_fail() {
    let good = Instance::named("good");
    let mut table = table(&[nobody(), good.address]);
    limit(&mut table, 1, 10, 10_000);
    let mut rig = Rig::with(table, None);
    for _ in 0..30 {
        assert_eq!(rig.ask(GET).text(), "good 0");
    }
    rig.swap(|table| {
        web(table).releases[0].endpoints.truncate(1);
    });
    for _ in 0..5 {
        assert_eq!(rig.ask(GET).status(), 502, "its slot is free each time");
    }
}

#[test]
fn a_slot_comes_back_when_its_client_leaves() {
    let gated = gated();
    let mut table = table(&[gated.instance.address]);
    limit(&mut table, 1, 10, 10_000);
    let rig = Rig::with(table, None);
    let first = sent(&rig, "/first");
    assert_eq!(gated.next(), "/first");
    let mut second = queued(&rig, "/second");
    first.reset();
    assert_eq!(gated.next(), "/second");
    gated.open();
    gated.open();
    assert_eq!(second.response().text(), "/second");
}
