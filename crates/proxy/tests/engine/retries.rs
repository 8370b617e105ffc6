//! What is tried again elsewhere, and what is not.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use wire::routes::EndpointState;

use crate::harness::{Instance, Peer, Rig, nobody, ok, release, table};

const POST: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_post_to_an_instance_that_refuses_connections_goes_to_another() {
    let alive = Instance::named("alive");
    let mut rig = Rig::start(&[nobody(), alive.address]);
    let mut client = rig.client();
    for _ in 0..50 {
        client.send(POST);
        assert_eq!(client.response().text(), "alive 5");
    }
    let counters = rig.counters();
    assert_eq!((counters.requests, counters.errors, counters.in_flight), (50, 0, 0));
    assert!((1..=4).contains(&counters.retried), "an ejected instance is not asked: {}", counters.retried);
}

#[test]
fn with_nobody_to_turn_to_it_is_502_and_without_any_instance_503() {
    let mut rig = Rig::start(&[nobody()]);
    let mut client = rig.client();
    for _ in 0..3 {
        client.send(POST);
        assert_eq!(client.response().status(), 502, "the last one of a group stays in use");
    }
    rig.swap(|table| table.services.get_mut("web").unwrap().releases.clear());
    client.send(POST);
    let response = client.response();
    assert_eq!((response.status(), response.field("Retry-After")), (503, Some("1")));
    assert_eq!(response.text(), "503: no instance of the service is ready\n");
}

/// Closes the connection at the first request, without an answer.
fn closing() -> Instance {
    Instance::start(|peer, _| {
        peer.request();
    })
}

#[test]
fn a_lost_get_is_tried_again_and_a_lost_post_is_not() {
    let (bad, good) = (closing(), Instance::named("good"));
    let mut rig = Rig::start(&[bad.address, good.address]);
    for _ in 0..3 {
        assert_eq!(rig.ask(GET).text(), "good 0");
    }
    let mut statuses: Vec<u16> = (0..40).map(|_| rig.ask(POST).status()).collect();
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(statuses, [200, 502]);
    assert_eq!(rig.counters().lost_on_reuse, 0);
}

#[test]
fn a_part_of_an_answer_is_never_followed_by_another() {
    let cut = Instance::start(|peer, _| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Le");
    });
    let rig = Rig::start(&[cut.address]);
    assert_eq!(rig.ask(GET).status(), 502);
    assert_eq!(cut.connections(), 1);
    let cut = Instance::start(|peer, _| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
    });
    let mut rig = Rig::start(&[cut.address]);
    let mut client = rig.client();
    client.send(GET);
    assert!(client.try_response().is_none(), "half of an answer ends with its connection");
    assert_eq!((cut.connections(), rig.counters().failed), (1, 1));
}

#[test]
fn an_instance_that_says_it_is_draining_is_passed_over() {
    let draining = Instance::answering(|_| {
        "HTTP/1.1 503 Service Unavailable\r\nHandover-Draining: 1\r\nContent-Length: 3\r\n\r\nbye".into()
    });
    let other = Instance::named("other");
    let rig = Rig::start(&[draining.address, other.address]);
    let mut client = rig.client();
    for _ in 0..20 {
        client.send(POST);
        assert_eq!(client.response().text(), "other 5");
    }
    assert!(draining.connections() > 0);
    let alone = Rig::start(&[draining.address]);
    let response = alone.ask(POST);
    assert_eq!((response.status(), response.field("Handover-Draining")), (503, None));
}

#[test]
fn a_503_without_that_word_is_an_answer() {
    let busy = Instance::answering(|_| "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy".into());
    let rig = Rig::start(&[busy.address, busy.address]);
    assert_eq!(rig.ask(GET).text(), "busy");
    assert_eq!(busy.seen().len(), 1);
}

/// Answers each connection's first request and closes at the second.
fn closing_at_second() -> Instance {
    Instance::start(|peer, _| {
        peer.request();
        peer.send(ok("once"));
        peer.request();
    })
}

#[test]
fn a_loss_on_a_reused_connection_is_tried_again_for_get_and_counted_for_post() {
    let instance = closing_at_second();
    let mut rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for _ in 0..3 {
        client.send(GET);
        assert_eq!(client.response().text(), "once");
    }
    assert_eq!(rig.counters().lost_on_reuse, 0);
    client.send(POST);
    assert_eq!(client.response().status(), 502);
    assert_eq!(rig.counters().lost_on_reuse, 1);
}

#[test]
fn an_instance_that_closes_after_each_answer_loses_nothing() {
    let instance = Instance::start(|peer, _| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for _ in 0..20 {
        client.send(POST);
        assert_eq!(client.response().text(), "ok");
    }
    assert_eq!(instance.connections(), 20);
}

#[test]
fn a_connection_the_instance_closed_meanwhile_is_not_used() {
    let closed = std::sync::Arc::new(AtomicUsize::new(0));
    let count = closed.clone();
    let instance = Instance::start(move |peer, _| {
        peer.request();
        peer.send(ok("x"));
        peer.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        // Whoever of the two is first: the connection is of no use any more.
        let _ = std::io::Read::read(&mut peer.stream, &mut [0; 1]);
        let _ = peer.stream.shutdown(std::net::Shutdown::Both);
        count.fetch_add(1, Ordering::SeqCst);
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for number in 1..=3 {
        client.send(POST);
        assert_eq!(client.response().text(), "x");
        crate::harness::eventually(|| closed.load(Ordering::SeqCst) == number);
    }
}

#[test]
fn a_body_too_large_to_keep_is_not_sent_twice_once_sent() {
    let bad = Instance::start(|peer, _| {
        peer.head();
        peer.exactly(150_000);
    });
    let rig = Rig::start(&[bad.address, bad.address]);
    let mut client = rig.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
    let mut writer = Peer::new(client.stream.try_clone().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut writer.stream, &[b'x'; 200_000]).err());
        assert_eq!(client.response().status(), 502);
    });
    assert_eq!(bad.connections(), 1);
}

#[test]
fn a_large_body_is_kept_for_the_next_while_nothing_of_it_was_sent() {
    let good = Instance::named("good");
    let rig = Rig::start(&[nobody(), good.address]);
    for _ in 0..8 {
        let mut client = rig.client();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n");
        client.send(vec![b'x'; 300_000]);
        assert_eq!(client.response().text(), "good 300000");
    }
}

#[test]
fn retries_stay_within_their_budget() {
    let closing = closing();
    let mut rig = Rig::start(&[closing.address, closing.address, closing.address]);
    let before = std::time::Instant::now();
    for _ in 0..50 {
        assert_eq!(rig.ask(GET).status(), 502);
    }
    let seconds = before.elapsed().as_secs() + 1;
    let retried = rig.counters().retried;
    // A fifth of the requests, and three a second on each of two threads.
    assert!(retried <= 10 + 6 * (seconds + 1), "{retried}");
}

#[test]
fn a_release_of_weight_zero_gets_nothing_and_both_get_their_share() {
    let (old, new) = (Instance::named("old"), Instance::named("new"));
    let mut table = table(&[]);
    table.threads = 1;
    let mut rig = Rig::with(table, None);
    let serving = EndpointState::Serving;
    let weights = |rig: &mut Rig, one, two| {
        rig.swap(|table| {
            table.services.get_mut("web").unwrap().releases = vec![
                release("1", one, &[("web@1/0", old.address, serving)]),
                release("2", two, &[("web@2/0", new.address, serving)]),
            ];
        });
    };
    let share = |rig: &Rig| {
        let mut client = rig.client();
        (0..100)
            .filter(|_| {
                client.send(GET);
                client.response().text().starts_with("new")
            })
            .count()
    };
    weights(&mut rig, 10_000, 0);
    assert_eq!(share(&rig), 0);
    weights(&mut rig, 8_000, 2_000);
    assert!((19..=21).contains(&share(&rig)));
    weights(&mut rig, 0, 10_000);
    assert_eq!(share(&rig), 100);
}

#[test]
fn a_second_attempt_does_not_ask_a_second_time_for_the_body() {
    let connections = std::sync::Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    let instance = Instance::start(move |peer, _| {
        if count.fetch_add(1, Ordering::SeqCst) == 0 {
            peer.head();
            peer.exactly(2);
        } else {
            peer.request();
            peer.send(ok("whole"));
        }
    });
    let rig = Rig::start(&[instance.address, instance.address]);
    let mut client = rig.client();
    client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("he");
    crate::harness::eventually(|| connections.load(Ordering::SeqCst) == 2);
    client.send("llo");
    let response = client.try_response().unwrap();
    assert_eq!((response.status(), response.text()), (200, "whole"));
}

fn retrying(table: &mut wire::routes::RouteTable) -> &mut wire::routes::RetrySettings {
    &mut table.services.get_mut("web").unwrap().retry
}

/// Answers 503, and says how often it did.
fn busy() -> (Instance, std::sync::Arc<AtomicUsize>) {
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let instance = Instance::answering(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy".into()
    });
    (instance, asked)
}

#[test]
fn a_status_of_the_list_is_tried_again_elsewhere_for_idempotent_requests_only() {
    let ((busy, asked), good) = (busy(), Instance::named("good"));
    let mut table = table(&[busy.address, good.address]);
    retrying(&mut table).statuses = vec![429, 503];
    retrying(&mut table).budget_percent = 100;
    let mut rig = Rig::with(table, None);
    for _ in 0..20 {
        assert_eq!(rig.ask(GET).text(), "good 0");
    }
    let before = asked.load(Ordering::SeqCst);
    assert!(before > 0);
    let counters = rig.counters();
    assert_eq!(
        (counters.requests, counters.errors, counters.retried),
        (20, 0, u64::try_from(before).unwrap())
    );
    let mut texts: Vec<String> = (0..30).map(|_| rig.ask(POST).text().to_owned()).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts, ["busy", "good 5"], "a POST is not sent twice");
    assert_eq!(rig.counters().retried, u64::try_from(before).unwrap());
}

#[test]
fn a_status_of_the_list_is_an_answer_where_nobody_else_is_left_or_the_budget_is_spent() {
    let ((one, asked), (other, _)) = (busy(), busy());
    let mut alone = table(&[one.address]);
    retrying(&mut alone).statuses = vec![503];
    assert_eq!(Rig::with(alone, None).ask(GET).text(), "busy");
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let mut both = table(&[one.address, other.address]);
    retrying(&mut both).statuses = vec![503];
    let mut rig = Rig::with(both.clone(), None);
    assert_eq!(rig.ask(GET).text(), "busy", "the last answer is passed on");
    assert_eq!(rig.counters().retried, 1);
    retrying(&mut both).budget_percent = 0;
    let mut rig = Rig::with(both, None);
    assert_eq!(rig.ask(GET).text(), "busy");
    assert_eq!(rig.counters().retried, 0);
}

#[test]
fn attempts_are_as_many_as_the_table_says() {
    let closing = [closing(), closing(), closing(), closing()];
    let addresses: Vec<_> = closing.iter().map(|instance| instance.address).collect();
    for attempts in [1, 2, 4] {
        let mut table = table(&addresses);
        retrying(&mut table).attempts = attempts;
        retrying(&mut table).budget_percent = 100;
        let mut rig = Rig::with(table, None);
        assert_eq!(rig.ask(GET).status(), 502);
        assert_eq!(rig.counters().retried, u64::from(attempts) - 1);
    }
}

#[test]
fn a_post_is_sent_twice_only_where_the_table_says_so() {
    let (bad, good) = (closing(), Instance::named("good"));
    let mut table = table(&[bad.address, good.address]);
    retrying(&mut table).non_idempotent = true;
    retrying(&mut table).budget_percent = 100;
    let rig = Rig::with(table, None);
    for _ in 0..20 {
        assert_eq!(rig.ask(POST).text(), "good 5");
    }
    assert!(bad.connections() > 0);
}

#[test]
fn who_is_not_supervised_is_not_believed_to_be_draining() {
    let draining = Instance::answering(|_| {
        "HTTP/1.1 503 Service Unavailable\r\nHandover-Draining: 1\r\nContent-Length: 3\r\n\r\nbye".into()
    });
    let other = Instance::named("other");
    let mut table = table(&[draining.address, other.address]);
    table.services.get_mut("web").unwrap().releases[0].endpoints[0].supervised = false;
    let rig = Rig::with(table, None);
    let mut texts: Vec<String> = (0..30).map(|_| rig.ask(GET).text().to_owned()).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts, ["bye", "other 0"]);
}
