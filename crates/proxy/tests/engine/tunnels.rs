//! `Upgrade`: tunnels that begin with the instance's 101 and not before, and their ends.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use proxy::engine::Notice;
use wire::routes::EndpointState;

use crate::harness::{Instance, PATIENCE, Peer, Rig, eventually, half_close, ok, release, table};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: shop\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: x\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: y\r\n\r\n";

/// Switches, and gives back what it gets until the end.
fn echo() -> Instance {
    Instance::start(|peer, _| {
        if peer.request().is_some() {
            peer.send(SWITCH);
            while let Some(byte) = peer.exactly(1) {
                peer.send(byte);
            }
        }
    })
}

/// Switches, and hands its side of the tunnel to the test.
fn handing_over() -> (Instance, Receiver<Peer>) {
    let (sender, receiver): (Sender<Peer>, _) = channel();
    let sender = Mutex::new(sender);
    let instance = Instance::start(move |peer, _| {
        if peer.request().is_some() {
            peer.send(SWITCH);
            let _ = sender.lock().unwrap().send(Peer::new(peer.stream.try_clone().unwrap()));
        }
    });
    (instance, receiver)
}

fn open(rig: &Rig) -> Peer {
    let mut client = rig.client();
    client.send(ASK);
    assert!(client.head().unwrap().starts_with("HTTP/1.1 101 "));
    client
}

fn tunnels(rig: &mut Rig) -> u64 {
    let number = rig.engine().report();
    let Notice::Report { counters, .. } =
        rig.wait_for(|notice| matches!(notice, Notice::Report { number: one, .. } if *one == number))
    else {
        unreachable!()
    };
    counters.listeners.iter().map(|listener| listener.tunnels).sum()
}

#[test]
fn a_tunnel_carries_both_ways_and_is_logged_and_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let instance = echo();
    let mut rig = Rig::with(table(&[instance.address]), Some(path.clone()));
    let mut client = rig.client();
    client.send(ASK);
    assert_eq!(
        client.head().unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: y\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    );
    for text in ["hello", "GET / HTTP/1.1\r\n\r\n", "\0\u{1}\r\n"] {
        client.send(text);
        assert_eq!(client.exactly(text.len()).unwrap(), text.as_bytes());
    }
    assert_eq!(tunnels(&mut rig), 1);
    assert_eq!((rig.counters().requests, rig.counters().in_flight), (1, 1));
    half_close(&client);
    assert!(client.is_at_end());
    eventually(|| rig.counters().in_flight == 0 && tunnels(&mut rig) == 0);
    assert_eq!(rig.counters().errors, 0);
    rig.stop();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 1);
    assert!(
        text.contains(r#""path":"/chat","status":101,"#)
            && text.contains(r#""tunnel_bytes_in":27,"tunnel_bytes_out":27"#),
        "{text}"
    );
}

#[test]
fn exactly_the_wish_reaches_the_instance() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let instance = Instance::answering(move |request| {
        sender.lock().unwrap().send(request.clone()).unwrap();
        ok("no")
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for (fields, upgrade) in [
        (
            "Connection: Upgrade, X-Hop\r\nUpgrade: h2c, WebSocket\r\nX-Hop: 1\r\nHTTP2-Settings: AAA\r\n",
            Some("WebSocket"),
        ),
        ("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n", None),
        ("Upgrade: websocket\r\n", None),
        ("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n", None),
    ] {
        let body = if fields.contains("Length") { "ab" } else { "" };
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}"));
        assert_eq!(client.response().text(), "no", "anything but 101 is an ordinary answer");
        let seen = receiver.recv_timeout(PATIENCE).unwrap();
        assert_eq!(seen.field("Upgrade"), upgrade, "{fields}");
        assert_eq!(seen.field("Connection"), upgrade.map(|_| "Upgrade"), "{fields}");
        assert_eq!((seen.field("HTTP2-Settings"), seen.field("X-Hop")), (None, None));
    }
    assert_eq!(instance.connections(), 1);
}

#[test]
fn what_comes_early_waits_for_the_101() {
    let (go, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let instance = Instance::start(move |peer, _| {
        peer.request();
        assert!(peer.is_silent(Duration::from_millis(100)), "nothing may pass before the 101");
        wait.lock().unwrap().recv().unwrap();
        peer.send(format!("{SWITCH}welcome"));
        while let Some(byte) = peer.exactly(1) {
            peer.send(byte);
        }
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    client.send(format!("{ASK}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"));
    go.send(()).unwrap();
    assert!(client.head().unwrap().starts_with("HTTP/1.1 101 "));
    assert_eq!(client.until("\r\n\r\n").unwrap(), "welcomeGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
}

#[test]
fn an_answer_other_than_101_leaves_what_came_early_a_request() {
    let instance = Instance::answering(|request| ok(request.head.split(' ').nth(1).unwrap()));
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    client.send(format!("{ASK}GET /next HTTP/1.1\r\nHost: a\r\n\r\n"));
    assert_eq!(client.response().text(), "/chat");
    assert_eq!(client.response().text(), "/next");
    assert_eq!(instance.connections(), 1);
}

#[test]
fn a_101_that_was_not_asked_for_or_takes_something_else_is_502() {
    for (ask, switch) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), SWITCH.to_owned()),
        (ASK.to_owned(), SWITCH.replace("websocket", "h2c")),
        (ASK.to_owned(), SWITCH.replace("Upgrade: websocket\r\n", "")),
        (ASK.to_owned(), SWITCH.replace("Connection: Upgrade\r\n", "")),
        (ASK.to_owned(), SWITCH.replace("\r\n\r\n", "\r\nContent-Length: 5\r\n\r\nhello")),
        (ASK.replace("HTTP/1.1", "HTTP/1.0"), SWITCH.to_owned()),
    ] {
        let reply = switch.clone();
        let instance = Instance::start(move |peer, _| {
            if peer.request().is_some() {
                peer.send(&reply);
                assert!(peer.is_at_end(), "nothing more may reach it");
            }
        });
        let rig = Rig::start(&[instance.address]);
        let mut client = rig.client();
        client.send(ask);
        assert_eq!(client.response().status(), 502, "{switch}");
        client.try_send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
}

#[test]
fn each_way_ends_by_itself() {
    let (instance, sides) = handing_over();
    let mut rig = Rig::start(&[instance.address]);
    for client_ends_first in [true, false] {
        let mut client = open(&rig);
        let mut side = sides.recv_timeout(PATIENCE).unwrap();
        let (first, second) =
            if client_ends_first { (&mut client, &mut side) } else { (&mut side, &mut client) };
        first.send("last words");
        half_close(first);
        assert_eq!(second.rest(), b"last words");
        second.send("still here");
        assert_eq!(first.exactly(10).unwrap(), b"still here");
        half_close(second);
        assert!(first.is_at_end());
        eventually(|| rig.counters().in_flight == 0);
    }
}

#[test]
fn a_side_that_is_gone_ends_the_tunnel() {
    let (instance, sides) = handing_over();
    let mut rig = Rig::start(&[instance.address]);
    let client = open(&rig);
    let mut side = sides.recv_timeout(PATIENCE).unwrap();
    client.reset();
    side.rest();
    eventually(|| rig.counters().in_flight == 0);
    let mut client = open(&rig);
    sides.recv_timeout(PATIENCE).unwrap().reset();
    client.rest();
    eventually(|| rig.counters().in_flight == 0);
}

#[test]
fn much_passes_both_ways_at_once_and_a_slow_side_slows_the_other() {
    const BYTES: usize = 8 << 20;
    let (instance, sides) = handing_over();
    let rig = Rig::start(&[instance.address]);
    let mut client = open(&rig);
    let mut side = sides.recv_timeout(PATIENCE).unwrap();
    let data: Vec<u8> = (0..BYTES).map(|at| u8::try_from(at % 251).unwrap()).collect();
    std::thread::scope(|scope| {
        for peer in [&mut client, &mut side] {
            let mut writer = Peer::new(peer.stream.try_clone().unwrap());
            let data = &data;
            scope.spawn(move || {
                writer.send(data);
                half_close(&writer);
            });
            scope.spawn(move || assert!(peer.rest() == *data, "bytes arrived changed"));
        }
    });
    // Nobody reads there: of what is sent, no more is taken than buffers hold.
    let mut client = open(&rig);
    let _side = sides.recv_timeout(PATIENCE).unwrap();
    client.stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let (mut taken, block) = (0, vec![0; 1 << 20]);
    while taken < 256 << 20 && client.try_send(&block) {
        taken += block.len();
    }
    assert!(taken < 64 << 20, "{taken} bytes were taken");
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_closed_and_others_are_not() {
    let (instance, sides) = handing_over();
    let mut table = table(&[instance.address]);
    let service = table.services.get_mut("web").unwrap();
    // Tunnels have no limit as a whole.
    (service.tunnel_idle_timeout_ms, service.request_timeout_ms) = (600, 300);
    service.response_timeout_ms = 200;
    let mut rig = Rig::with(table, None);
    let mut client = open(&rig);
    let mut side = sides.recv_timeout(PATIENCE).unwrap();
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(200));
        side.send("x");
        assert_eq!(client.exactly(1).unwrap(), b"x");
    }
    let since = std::time::Instant::now();
    assert!(client.is_at_end() && side.is_at_end());
    assert!(since.elapsed() >= Duration::from_millis(500), "{:?}", since.elapsed());
    eventually(|| rig.counters().in_flight == 0);
}

#[test]
fn a_tunnel_stays_on_its_release_until_it_ends_and_counts_there() {
    let (old, sides) = handing_over();
    let new = Instance::named("new");
    let mut rig = Rig::start(&[old.address]);
    let mut client = open(&rig);
    let mut side = sides.recv_timeout(PATIENCE).unwrap();
    let (old_at, new_at) = (old.address, new.address);
    rig.swap(|table| {
        table.services.get_mut("web").unwrap().releases = vec![
            release("1", 0, &[("web@1/0", old_at, EndpointState::Draining)]),
            release("2", 10_000, &[("web@2/0", new_at, EndpointState::Serving)]),
        ];
    });
    assert_eq!(rig.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").text(), "new 0");
    client.send("ping");
    assert_eq!(side.exactly(4).unwrap(), b"ping");
    let is_drained =
        |notice: &Notice| matches!(notice, Notice::Drained { instance, .. } if instance == "web@1/0");
    assert!(!rig.has_notice(Duration::from_millis(200), is_drained));
    half_close(&client);
    half_close(&side);
    rig.wait_for(is_drained);
}

#[test]
fn tunnels_live_until_the_deadline_of_a_drain() {
    let (instance, sides) = handing_over();
    let mut rig = Rig::start(&[instance.address]);
    let mut client = open(&rig);
    let mut side = sides.recv_timeout(PATIENCE).unwrap();
    rig.engine().drain(Duration::from_millis(800));
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(100));
        client.send("x");
        assert_eq!(side.exactly(1).unwrap(), b"x");
    }
    assert!(client.is_at_end());
    rig.wait_for(|notice| *notice == Notice::Empty);
}
