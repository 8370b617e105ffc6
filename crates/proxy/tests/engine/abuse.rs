//! Instances that misbehave in every phase: their client gets an answer or an end, and everybody else is served.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wire::routes::{EndpointState, Route, ServiceTraffic};

use crate::harness::{Instance, Peer, Rig, ok, release};

/// The bad instance's time for an answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(700);
/// No well-behaved client waits for longer, on a busy machine.
const WELL_SERVED: Duration = Duration::from_secs(2);
/// A bad request is over after this.
const OVER: Duration = Duration::from_secs(8);

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";

type Script = fn(&mut Peer);

/// What an instance may do wrong, and the statuses that its client may see (0: an end without an answer). The second
/// request of each may come on the connection of the first.
const HABITS: [(&str, Script, &[u16]); 24] = [
    ("closes at once", |_| {}, &[502]),
    ("closes after the head", |peer| drop(peer.head()), &[502]),
    ("says nothing", |peer| drop(peer.rest()), &[504]),
    ("says garbage", |peer| after_head(peer, b"\x00\x01\x02 garbage \xff\r\n\r\n"), &[502]),
    ("says binary without end", |peer| for_ever(peer, b"", &[0xff; 4_096]), &[502]),
    ("says half a status line", |peer| after_head(peer, b"HTTP/1.1 20"), &[502]),
    ("says half a head", |peer| after_head(peer, b"HTTP/1.1 200 OK\r\nContent-Le"), &[502]),
    ("says half a head and waits", |peer| wait_after(peer, b"HTTP/1.1 200 OK\r\nContent-Le"), &[504]),
    ("says half a body", |peer| after_head(peer, [HEAD, "half"].concat().as_bytes()), &[200, 0]),
    ("says half a body and waits", |peer| wait_after(peer, [HEAD, "half"].concat().as_bytes()), &[200]),
    (
        "says fields without end",
        |peer| for_ever(peer, b"HTTP/1.1 200 OK\r\n", b"X-Field: and on and on and on\r\n"),
        &[502],
    ),
    ("says one field without end", |peer| for_ever(peer, b"HTTP/1.1 200 OK\r\nX: ", &[b'y'; 1_024]), &[502]),
    (
        "says interim answers without end",
        |peer| for_ever(peer, b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        &[103, 502, 0],
    ),
    ("says 100 without end", |peer| for_ever(peer, b"", b"HTTP/1.1 100 Continue\r\n\r\n"), &[502]),
    ("says a chunk's size wrong", |peer| chunks(peer, b"5\r\nhelloworld\r\n0\r\n\r\n"), &[200, 0]),
    ("says a chunk's size that is none", |peer| chunks(peer, b"zz\r\nhello\r\n"), &[200, 0]),
    ("says a chunk larger than any", |peer| chunks(peer, b"ffffffffffffffff\r\nhello"), &[200, 0]),
    ("says chunks without the last", |peer| chunks(peer, b"5\r\nhello\r\n"), &[200, 0]),
    (
        "says extensions without end",
        |peer| for_ever(peer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", &[b'a'; 512]),
        &[200, 0],
    ),
    (
        "says trailers without end",
        |peer| for_ever(peer, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
        &[200, 0],
    ),
    ("says two answers", |peer| after_head(peer, [ok("a"), ok("b")].concat().as_bytes()), &[200]),
    (
        "answers before it is asked",
        |peer| {
            peer.send(ok("early"));
            drop(peer.rest());
        },
        &[200, 504],
    ),
    (
        "switches without being asked",
        |peer| {
            after_head(peer, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
        },
        &[502],
    ),
    (
        "says more than it announced",
        |peer| after_head(peer, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more"),
        &[200],
    ),
];

fn after_head(peer: &mut Peer, bytes: &[u8]) {
    if peer.head().is_some() {
        let _sent = peer.try_send(bytes);
    }
}

fn wait_after(peer: &mut Peer, bytes: &[u8]) {
    after_head(peer, bytes);
    drop(peer.rest());
}

fn chunks(peer: &mut Peer, bytes: &[u8]) {
    after_head(peer, &[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", bytes].concat());
}

fn for_ever(peer: &mut Peer, start: &[u8], again: &[u8]) {
    if peer.head().is_some() && peer.try_send(start) {
        while peer.try_send(again) {}
    }
}

/// Two services: `/bad` is the bad one's.
fn rig(bad: &Instance, good: &Instance) -> Rig {
    let mut rig = Rig::start(&[good.address]);
    rig.swap(|table| {
        let endpoints = [("bad@1/0", bad.address, EndpointState::Serving)];
        let timeout = u64::try_from(RESPONSE_TIMEOUT.as_millis()).unwrap();
        let service = ServiceTraffic {
            releases: vec![release("1", 10_000, &endpoints)],
            response_timeout_ms: timeout,
            ..table.services["web"].clone()
        };
        table.services.insert("bad".into(), service);
        let route = Route { path: "/bad".into(), service: "bad".into(), ..table.routes[0].clone() };
        table.routes.push(route);
    });
    rig
}

/// Asks the good one again and again until told to stop; the longest wait, and how many there were.
fn well_behaved(rig: &Rig, stop: &AtomicBool) -> (Duration, u64) {
    let (mut longest, mut answers) = (Duration::ZERO, 0);
    let mut client = rig.client();
    loop {
        let asked = Instant::now();
        client.send("GET /good HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "good 0");
        let mut fresh = rig.client();
        fresh.send("GET /good HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(fresh.response().text(), "good 0");
        longest = longest.max(asked.elapsed());
        answers += 2;
        if stop.load(Ordering::SeqCst) {
            return (longest, answers);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Ends the well-behaved client however the test ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn whatever_an_instance_does_wrong_its_client_sees_an_end_and_others_are_served() {
    for (habit, script, statuses) in HABITS {
        let bad = Instance::start(move |peer, _| script(peer));
        let good = Instance::named("good");
        let rig = rig(&bad, &good);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| well_behaved(&rig, &stop));
            let told = Stop(&stop);
            for request in [
                "GET /bad HTTP/1.1\r\nHost: a\r\n\r\n",
                "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
            ] {
                let asked = Instant::now();
                let mut client = rig.client();
                client.send(request);
                let status = client.head().map_or(0, |head| head[9..12].parse().unwrap());
                assert!(statuses.contains(&status), "one that {habit}: {status} to {request}");
                // Half an answer must not look like a whole one: what comes is less than was announced, then the end.
                crate::harness::half_close(&client);
                drop(client.rest());
                assert!(asked.elapsed() < OVER, "one that {habit}: {:?}", asked.elapsed());
            }
            drop(told);
            let (longest, answers) = other.join().unwrap();
            assert!(longest < WELL_SERVED && answers > 0, "beside one that {habit}: {longest:?}");
        });
    }
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    for (habit, script, _) in
        HABITS.iter().filter(|(habit, ..)| habit.contains("half a body") || habit.contains("chunk"))
    {
        let script = *script;
        let bad = Instance::start(move |peer, _| script(peer));
        let good = Instance::named("good");
        let rig = rig(&bad, &good);
        let mut client = rig.client();
        client.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
        // Nothing at all is no whole answer either.
        let Some(head) = client.head() else { continue };
        let rest = client.rest();
        let is_whole =
            if head.contains("chunked") { rest.ends_with(b"\r\n0\r\n\r\n") } else { rest.len() == 100_000 };
        assert!(!is_whole, "one that {habit}: {}", rest.escape_ascii());
    }
}

#[test]
fn clients_that_leave_in_any_phase_cost_nobody_an_answer() {
    let asked = std::sync::Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let slow = Instance::start(move |peer, _| {
        while peer.request().is_some() {
            count.fetch_add(1, Ordering::SeqCst);
            let _sent = peer.try_send(HEAD) && peer.try_send([b'x'; 50_000]);
            std::thread::sleep(Duration::from_millis(20));
            let _sent = peer.try_send([b'x'; 50_000]);
        }
    });
    let good = Instance::named("good");
    let rig = rig(&slow, &good);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| well_behaved(&rig, &stop));
        let told = Stop(&stop);
        for number in 0..200 {
            let mut client = rig.client();
            let request = "POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
            client.send(&request[..1 + number % request.len()]);
            if number % 3 == 0 {
                client.reset();
            }
        }
        for _ in 0..50 {
            let mut client = rig.client();
            client.send("GET /bad HTTP/1.1\r\nHost: a\r\n\r\n");
            drop(client.exactly(10));
            client.reset();
        }
        drop(told);
        let (longest, answers) = other.join().unwrap();
        assert!(longest < WELL_SERVED && answers > 0, "{longest:?}");
    });
    assert!(asked.load(Ordering::SeqCst) >= 50);
}
