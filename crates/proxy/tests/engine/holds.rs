//! Requests that wait while no endpoint serves.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proxy::engine::Notice;
use wire::routes::{EndpointState, Hold, RouteTable};

use crate::harness::{Instance, Peer, Rig, eventually, release, table};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
/// Long enough to see that nothing comes.
const SILENCE: Duration = Duration::from_millis(150);

fn set(table: &mut RouteTable, state: EndpointState, hold: Option<Hold>) {
    let service = table.services.get_mut("web").unwrap();
    service.releases[0].endpoints.iter_mut().for_each(|endpoint| endpoint.state = state);
    service.hold = hold;
}

fn hold(timeout_ms: u64, requests_max: u32) -> Option<Hold> {
    Some(Hold { timeout_ms, requests_max })
}

/// An engine whose service does not serve now, and holds.
fn holding(address: SocketAddr, terms: Option<Hold>) -> Rig {
    let mut table = table(&[address]);
    set(&mut table, EndpointState::Candidate, terms);
    Rig::with(table, None)
}

fn held(rig: &Rig, request: &str) -> Peer {
    let mut client = rig.client();
    client.send(request);
    assert!(client.is_silent(SILENCE), "it waits");
    client
}

/// Sent and accepted; whether it is held already is to be seen.
fn sent(rig: &Rig, request: &str) -> Peer {
    let mut client = rig.client();
    client.send(request);
    client
}

#[test]
fn requests_wait_through_any_number_of_tables_until_one_has_an_endpoint() {
    let instance = Instance::named("a");
    let terms = hold(8_000, 100);
    let mut rig = holding(instance.address, terms);
    let mut clients: Vec<Peer> = (0..20).map(|_| sent(&rig, POST)).collect();
    assert!(clients[19].is_silent(SILENCE));
    for state in [EndpointState::Draining, EndpointState::Candidate, EndpointState::Draining] {
        rig.swap(|table| set(table, state, terms));
    }
    assert!(clients[0].is_silent(SILENCE));
    assert_eq!(instance.connections(), 0);
    rig.swap(|table| set(table, EndpointState::Serving, terms));
    for client in &mut clients {
        assert_eq!(client.response().text(), "a 5");
        client.send(GET);
        assert_eq!(client.response().text(), "a 0");
    }
    let counters = rig.counters();
    assert_eq!((counters.held, counters.requests, counters.errors, counters.in_flight), (20, 40, 0, 0));
    assert!(counters.hold_us_max >= 2 * 150_000, "{counters:?}");
    assert_eq!(rig.counters().hold_us_max, 0, "the longest starts over with each report");
}

#[test]
fn a_deploy_onto_a_fixed_port_loses_nothing_and_drains_the_pool_of_the_old() {
    let old = Instance::named("old");
    let mut rig = Rig::start(&[old.address]);
    let mut pooled = rig.client();
    pooled.send(GET);
    assert_eq!(pooled.response().text(), "old 0");
    rig.start_swap(|table| set(table, EndpointState::Draining, hold(8_000, 10)));
    rig.wait_for(|notice| matches!(notice, Notice::Drained { .. }));
    pooled.send(POST);
    let mut fresh = held(&rig, POST);
    let new = Instance::named("new");
    rig.swap(|table| {
        let endpoints = [("web@2/0", new.address, EndpointState::Serving)];
        table.services.get_mut("web").unwrap().releases = vec![release("2", 10_000, &endpoints)];
    });
    assert_eq!(pooled.response().text(), "new 5");
    assert_eq!(fresh.response().text(), "new 5");
}

#[test]
fn one_that_waits_too_long_is_told_to_come_again() {
    let mut rig = holding(crate::harness::nobody(), hold(300, 10));
    let began = Instant::now();
    let response = rig.ask(GET);
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    assert_eq!((response.status(), response.field("Retry-After")), (503, Some("1")));
    assert_eq!(response.field("Connection"), None);
    // Without an endpoint it is in the entry of none.
    assert_eq!(rig.counters_of("").held, 1);
}

#[test]
fn only_so_many_wait_over_all_threads_and_who_leaves_makes_room() {
    let instance = Instance::named("a");
    let mut rig = holding(instance.address, hold(8_000, 2));
    let (first, mut second) = (held(&rig, GET), held(&rig, GET));
    for _ in 0..4 {
        let response = rig.ask(GET);
        assert_eq!((response.status(), response.field("Retry-After")), (503, Some("1")));
    }
    first.reset();
    let mut third = None;
    eventually(|| {
        let mut client = sent(&rig, GET);
        let is_held = client.is_silent(SILENCE);
        third = is_held.then_some(client);
        is_held
    });
    rig.swap(|table| set(table, EndpointState::Serving, None));
    assert_eq!(second.response().status(), 200);
    assert_eq!(third.unwrap().response().status(), 200);
    assert_eq!(instance.connections(), 2, "who left is not forwarded");
}

#[test]
fn at_the_deadline_of_a_drain_who_still_waits_is_answered() {
    let mut rig = holding(crate::harness::nobody(), hold(8_000, 10));
    let mut clients = [held(&rig, GET), held(&rig, POST)];
    rig.engine().drain(Duration::from_millis(400));
    assert!(clients[0].is_silent(SILENCE), "a drain does not end the wait");
    for client in &mut clients {
        let response = client.response();
        assert_eq!((response.status(), response.field("Retry-After")), (503, Some("1")));
        assert_eq!(response.field("Connection"), Some("close"));
        assert!(client.is_at_end());
    }
    drop(clients);
    rig.wait_for(|notice| *notice == Notice::Empty);
}

#[test]
fn a_draining_engine_still_lets_go_who_waits() {
    let instance = Instance::named("a");
    let mut rig = holding(instance.address, hold(8_000, 10));
    let mut client = held(&rig, GET);
    rig.engine().drain(Duration::from_secs(60));
    rig.swap(|table| set(table, EndpointState::Serving, None));
    let response = client.response();
    assert_eq!((response.text(), response.field("Connection")), ("a 0", Some("close")));
    drop(client);
    rig.wait_for(|notice| *notice == Notice::Empty);
}

#[test]
fn the_end_of_the_hold_or_of_the_service_ends_the_wait() {
    let mut rig = holding(crate::harness::nobody(), hold(8_000, 10));
    let mut client = held(&rig, GET);
    rig.swap(|table| set(table, EndpointState::Candidate, None));
    assert_eq!(client.response().status(), 503);
    rig.swap(|table| set(table, EndpointState::Candidate, hold(8_000, 10)));
    client.send(GET);
    assert!(client.is_silent(SILENCE));
    rig.swap(|table| table.services.clear());
    assert_eq!(client.response().status(), 503);
}

#[test]
fn a_body_is_not_asked_for_while_its_request_waits() {
    let instance = Instance::named("a");
    let mut rig = holding(instance.address, hold(8_000, 10));
    let mut client =
        held(&rig, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\nExpect: 100-continue\r\n\r\n");
    rig.swap(|table| set(table, EndpointState::Serving, None));
    assert_eq!(client.response().status(), 100);
    client.send(vec![b'x'; 300_000]);
    assert_eq!(client.response().text(), "a 300000");
}

#[test]
fn a_body_that_comes_unasked_is_passed_on_whole() {
    let instance = Instance::named("a");
    let mut rig = holding(instance.address, hold(8_000, 10));
    let mut client = sent(&rig, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    client.send(vec![b'x'; 100_000]);
    assert!(client.is_silent(SILENCE));
    rig.swap(|table| set(table, EndpointState::Serving, None));
    assert_eq!(client.response().text(), "a 100000");
}

#[test]
fn hundreds_that_waited_are_let_go_without_a_failure() {
    let instance = Instance::named("a");
    let mut rig = holding(instance.address, hold(9_000, 400));
    let mut clients: Vec<Peer> = (0..300).map(|_| sent(&rig, POST)).collect();
    assert!(clients[299].is_silent(SILENCE));
    rig.swap(|table| set(table, EndpointState::Serving, None));
    assert!(clients.iter_mut().all(|client| client.response().status() == 200));
    assert_eq!(rig.counters().held, 300);
}
