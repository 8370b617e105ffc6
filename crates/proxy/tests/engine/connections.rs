//! How connections begin, wait and end.

use std::time::{Duration, Instant};

use proxy::engine::Notice;

use crate::harness::{Instance, Rig, eventually, ok, table};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_draining_engine_ends_each_connection_with_its_next_answer_and_then_is_empty() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    let (mut idle, mut fresh) = (rig.client(), rig.client());
    idle.send(GET);
    idle.response();
    // Both are accepted before the drain begins.
    fresh.send("GET / HT");
    rig.engine().drain(Duration::from_secs(60));
    assert!(idle.is_silent(Duration::from_millis(300)), "an idle connection is not closed first");
    idle.send(GET);
    let response = idle.response();
    assert_eq!((response.status(), response.field("Connection")), (200, Some("close")));
    assert!(idle.is_at_end());
    drop(idle);
    fresh.send("TP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(fresh.response().field("Connection"), Some("close"));
    assert!(fresh.is_at_end());
    drop(fresh);
    rig.wait_for(|notice| *notice == Notice::Empty);
}

#[test]
fn who_waited_in_the_queue_when_the_drain_began_is_served() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    let mut waiting: Vec<_> = (0..50).map(|_| rig.client()).collect();
    rig.engine().drain(Duration::from_secs(60));
    for client in &mut waiting {
        client.send(GET);
        assert_eq!(client.response().status(), 200);
    }
    drop(waiting);
    rig.wait_for(|notice| *notice == Notice::Empty);
}

#[test]
fn the_deadline_of_a_drain_ends_idle_connections_in_order_and_requests_as_they_are() {
    let instance = Instance::start(|peer, _| {
        peer.request();
        peer.rest();
    });
    let mut rig = Rig::start(&[instance.address]);
    let (mut idle, mut busy) = (rig.client(), rig.client());
    busy.send(GET);
    eventually(|| instance.connections() == 1);
    idle.send("GET");
    rig.engine().drain(Duration::from_millis(300));
    assert!(busy.is_at_end());
    assert!(idle.is_at_end());
    drop((idle, busy));
    rig.wait_for(|notice| *notice == Notice::Empty);
}

#[test]
fn an_idle_connection_outlives_its_idle_timeout_by_a_margin_and_ends_in_order() {
    let instance = Instance::named("a");
    let mut table = table(&[instance.address]);
    table.listeners.get_mut("main").unwrap().idle_timeout_ms = 300;
    let rig = Rig::with(table, None);
    let mut client = rig.client();
    for _ in 0..2 {
        client.send(GET);
        assert_eq!(client.response().status(), 200);
        // Just within what the client was promised, and beyond.
        assert!(client.is_silent(Duration::from_millis(600)));
    }
    let before = Instant::now();
    assert!(client.is_at_end());
    assert!(before.elapsed() >= Duration::from_secs(1), "the margin is at least two seconds");
}

#[test]
fn a_head_that_does_not_come_is_408_and_a_body_too() {
    let instance = Instance::named("a");
    let mut table = table(&[instance.address]);
    let settings = table.listeners.get_mut("main").unwrap();
    (settings.header_timeout_ms, settings.body_timeout_ms) = (200, 200);
    let rig = Rig::with(table, None);
    for part in ["GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel"] {
        let mut client = rig.client();
        client.send(part);
        let response = client.response();
        assert_eq!((response.status(), response.field("Connection")), (408, Some("close")));
        assert!(client.is_at_end());
    }
    assert_eq!(instance.seen().len(), 0);
}

#[test]
fn a_slow_body_is_fine_while_it_moves() {
    let instance = Instance::named("a");
    let mut table = table(&[instance.address]);
    table.listeners.get_mut("main").unwrap().body_timeout_ms = 400;
    let rig = Rig::with(table, None);
    let mut client = rig.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n");
    for _ in 0..6 {
        assert!(client.is_silent(Duration::from_millis(150)));
        client.send("x");
    }
    assert_eq!(client.response().text(), "a 6");
}

#[test]
fn an_answer_that_does_not_come_is_504() {
    let instance = Instance::start(|peer, _| {
        peer.request();
        peer.rest();
    });
    let mut table = table(&[instance.address]);
    table.services.get_mut("web").unwrap().response_timeout_ms = 200;
    let mut rig = Rig::with(table, None);
    let mut client = rig.client();
    client.send(GET);
    assert_eq!(client.response().status(), 504);
    client.send(GET);
    assert_eq!(client.response().status(), 504, "the client's connection goes on");
    assert_eq!(rig.counters().errors, 2);
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let instance = Instance::start(|peer, _| {
        peer.head();
        peer.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nxxx");
    let response = client.response();
    assert_eq!((response.status(), response.text()), (413, "big"));
    assert_eq!(response.field("Connection"), Some("close"));
    client.send("more that nobody wants");
    assert!(client.is_at_end());
}

#[test]
fn a_slow_reader_does_not_hold_the_instance() {
    let body = "x".repeat(20_000);
    let instance = Instance::answering(move |_| ok(&body));
    let mut rig = Rig::start(&[instance.address]);
    let mut clients: Vec<_> = (0..4).map(|_| rig.client()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    eventually(|| rig.counters().requests == 4);
    eventually(|| rig.counters().in_flight == 0);
    for client in &mut clients {
        assert_eq!(client.response().body.len(), 20_000);
    }
}

#[test]
fn connections_are_spread_over_the_threads() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    let mut clients: Vec<_> = (0..64).map(|_| rig.client()).collect();
    for _ in 0..3 {
        for client in &mut clients {
            client.send(GET);
            assert_eq!(client.response().status(), 200);
        }
    }
    assert_eq!(rig.counters().requests, 192);
    // Each thread has connections of its own to the instance.
    assert!(instance.connections() >= 2);
}

/// Answers `/N` with a body of N pieces, each small enough to be gathered with others.
fn in_small_pieces() -> Instance {
    Instance::answering(|request| {
        let count = request.head.split(['/', ' ']).nth(2).unwrap().parse().unwrap();
        let pieces = format!("3e8\r\n{}\r\n", "x".repeat(1_000)).repeat(count);
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{pieces}0\r\n\r\n")
    })
}

#[test]
fn the_end_of_a_last_answer_waits_for_a_slow_reader_like_any_other() {
    let instance = in_small_pieces();
    let mut table = table(&[instance.address]);
    table.listeners.get_mut("main").unwrap().body_timeout_ms = 60_000;
    let mut rig = Rig::with(table, None);
    let mut ask = |count: usize| {
        let before = rig.counters().requests;
        let mut client = rig.client();
        client.send(format!("GET /{count} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        let deadline = Instant::now() + Duration::from_millis(500);
        while rig.counters().requests == before {
            if Instant::now() > deadline {
                return None;
            }
        }
        Some(client)
    };
    // The largest answer that is read to its end with nobody taking it: its end is still to be written.
    let (mut fits, mut too_much) = ((1, ask(1).unwrap()), 20_000);
    while too_much - fits.0 > 8 {
        let middle = usize::midpoint(fits.0, too_much);
        match ask(middle) {
            Some(client) => fits = (middle, client),
            None => too_much = middle,
        }
    }
    let (count, mut client) = fits;
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(client.response().body.len(), count * 1_000);
}

#[test]
fn a_client_that_breaks_off_while_its_instance_thinks_frees_its_place_at_once() {
    let (ended, ends) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let instance = Instance::start(move |peer, _| {
        peer.request();
        peer.rest();
        ended.lock().unwrap().send(()).unwrap();
    });
    let mut rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    client.send(GET);
    eventually(|| rig.counters().in_flight == 1);
    let began = Instant::now();
    client.reset();
    ends.recv_timeout(crate::harness::PATIENCE).unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    eventually(|| rig.counters().in_flight == 0);
}

#[test]
fn one_that_breaks_off_a_stream_in_which_nothing_comes_ends_it_at_its_instance() {
    let (ended, ends) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let instance = Instance::start(move |peer, _| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        peer.rest();
        ended.lock().unwrap().send(()).unwrap();
    });
    let mut rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    client.send(GET);
    assert!(client.until("first\r\n").is_some());
    let began = Instant::now();
    client.reset();
    ends.recv_timeout(crate::harness::PATIENCE).unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    eventually(|| rig.counters().in_flight == 0);
}

#[test]
fn one_that_ended_its_side_has_a_limited_time_instead_of_the_instances() {
    let instance = Instance::start(|peer, _| {
        peer.request();
        peer.rest();
    });
    let mut table = table(&[instance.address]);
    table.services.get_mut("web").unwrap().response_timeout_ms = 60_000;
    let mut rig = Rig::with(table, None);
    let mut client = rig.client();
    client.send(GET);
    eventually(|| rig.counters().in_flight == 1);
    drop(client);
    eventually(|| rig.counters().in_flight == 0);
}

#[test]
fn what_a_client_sends_while_its_instance_thinks_is_its_next_request() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let instance = Instance::answering(move |request| {
        wait.lock().unwrap().recv().unwrap();
        ok(request.head.split(' ').nth(1).unwrap())
    });
    let mut rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    client.send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(|| rig.counters().in_flight == 1);
    client.send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HT");
    assert!(client.is_silent(Duration::from_millis(100)));
    client.send("TP/1.1\r\nHost: a\r\n\r\n");
    for path in ["/1", "/2", "/3"] {
        go.send(()).unwrap();
        assert_eq!(client.response().text(), path);
    }
}
