//! The limit of a whole request, whatever it waits for.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use crate::harness::{Instance, Peer, Rig, table};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn rig(addresses: &[std::net::SocketAddr]) -> Rig {
    let mut table = table(addresses);
    table.services.get_mut("web").unwrap().request_timeout_ms = 400;
    Rig::with(table, None)
}

/// Sends a piece of something now and then, for much longer than the limit.
fn drip(peer: &mut Peer, piece: &str) {
    for _ in 0..100 {
        if !peer.try_send(piece) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_answer_that_does_not_come_within_the_limit_is_504() {
    let instance = Instance::start(|peer, _| {
        peer.request();
        peer.rest();
    });
    let rig = rig(&[instance.address]);
    let since = Instant::now();
    assert_eq!(rig.ask(GET).status(), 504);
    assert!((350..2_000).contains(&since.elapsed().as_millis()), "{:?}", since.elapsed());
}

#[test]
fn an_answer_that_is_not_whole_within_the_limit_is_cut_so_that_it_shows() {
    let instance = Instance::start(|peer, _| {
        let Some(request) = peer.request() else { return };
        peer.send(if request.head.contains("/chunked") {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\n\r\n"
        });
        drip(peer, "1\r\nx\r\n");
    });
    let mut rig = rig(&[instance.address]);
    let mut client = rig.client();
    client.send("GET /chunked HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_response().is_none(), "the last chunk is missing");
    let mut old = rig.client();
    old.send("GET / HTTP/1.0\r\n\r\n");
    let end = old.stream.read_to_end(&mut Vec::new());
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(rig.counters().failed, 2);
}

#[test]
fn a_connection_goes_on_and_each_request_has_the_whole_limit() {
    let instance = Instance::named("a");
    let rig = rig(&[instance.address]);
    let mut client = rig.client();
    for _ in 0..4 {
        client.send(GET);
        assert_eq!(client.response().status(), 200);
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(instance.connections(), 1);
}

#[test]
fn attempts_share_the_limit() {
    let slow = |peer: &mut Peer, _| {
        peer.request();
        std::thread::sleep(Duration::from_millis(250));
    };
    let (a, b, c) = (Instance::start(slow), Instance::start(slow), Instance::start(slow));
    let rig = rig(&[a.address, b.address, c.address]);
    let since = Instant::now();
    assert_eq!(rig.ask(GET).status(), 504);
    assert!(since.elapsed() < Duration::from_millis(700), "{:?}", since.elapsed());
    assert_eq!(a.connections() + b.connections() + c.connections(), 2);
}

#[test]
fn a_body_that_does_not_come_within_the_limit_is_the_clients_fault() {
    let instance = Instance::named("a");
    let rig = rig(&[instance.address]);
    let mut client = rig.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
    let mut writer = Peer::new(client.stream.try_clone().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || drip(&mut writer, "x"));
        assert_eq!(client.response().status(), 408);
        client.reset();
    });
}
