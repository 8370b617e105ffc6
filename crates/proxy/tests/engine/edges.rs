//! Corners of HTTP/1.1 in which a connection must stay in step, or end.

use std::sync::Mutex;
use std::sync::mpsc::channel;

use crate::harness::{Instance, Rig, ok};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_body_behind_an_answer_that_has_none_is_not_taken_for_the_next_answer() {
    let instance = Instance::answering(|request| {
        let status = if request.head.starts_with("HEAD") { "200 OK" } else { "304 Not Modified" };
        format!("HTTP/1.1 {status}\r\nContent-Length: 38\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for (number, method) in ["HEAD", "GET", "HEAD"].into_iter().enumerate() {
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(client.head().unwrap().contains("\r\nContent-Length: 38\r\n"));
        assert_eq!(instance.connections(), number + 1, "its connection is not used again");
    }
}

#[test]
fn an_answer_that_comes_before_the_body_is_whole_is_the_last_of_its_connection() {
    let instance = Instance::start(|peer, _| {
        peer.head();
        peer.send(ok("enough"));
        peer.rest();
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf");
    let response = client.response();
    assert_eq!((response.text(), response.field("Connection")), ("enough", Some("close")));
    client.try_send(format!("other{GET}"));
    assert!(client.is_at_end(), "what follows is the rest of the body, or nothing");
}

#[test]
fn old_instances_are_answered_for_in_the_new_version() {
    let instance = Instance::start(|peer, _| {
        while let Some(request) = peer.request() {
            assert!(request.head.starts_with("GET / HTTP/1.1\r\n"));
            peer.send("HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok");
        }
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for _ in 0..3 {
        client.send(GET);
        let response = client.response();
        assert!(response.head.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!((response.text(), response.field("Connection")), ("ok", None));
    }
    assert_eq!(instance.connections(), 1);
}

#[test]
fn every_refused_form_of_a_request_ends_the_connection_and_reaches_nobody() {
    let instance = Instance::named("a");
    let rig = Rig::start(&[instance.address]);
    for (request, status) in [
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX : a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \u{1}\r\n\r\n", 400),
        ("AVERYLONGMETHODTHATNOBODYCANHAVEMEANT / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    ] {
        let mut client = rig.client();
        client.send(request);
        let response = client.response();
        assert_eq!((response.status(), response.field("Connection")), (status, Some("close")), "{request}");
        client.try_send(GET);
        assert!(client.is_at_end(), "{request}");
    }
    assert_eq!(instance.connections(), 0);
}

#[test]
fn control_bytes_and_folds_of_an_instance_reach_no_client() {
    for field in
        ["X: a\0b", "X: a\u{1}b", "X: a\u{7f}b", "X: a\r\n folded", "X : a", ": a", "X: a\nb", "X: a\rb"]
    {
        let instance =
            Instance::answering(move |_| format!("HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 0\r\n\r\n"));
        let rig = Rig::start(&[instance.address]);
        let response = rig.ask(GET);
        assert_eq!(response.status(), 502, "{}", field.escape_debug());
        assert_eq!(response.field("X"), None);
    }
}

#[test]
fn fields_that_connection_names_end_here_both_ways() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let instance = Instance::answering(move |request| {
        sender.lock().unwrap().send(request.clone()).unwrap();
        "HTTP/1.1 200 OK\r\nConnection: X-Theirs, keep-alive\r\nX-Theirs: 1\r\nKeep-Alive: timeout=9\r\n\
         Proxy-Connection: x\r\nContent-Length: 0\r\n\r\n"
            .into()
    });
    let rig = Rig::start(&[instance.address]);
    let response = rig.ask(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-ours,\tCookie\r\nX-Ours: 1\r\nCookie: a=b\r\nKeep-Alive: 5\r\n\r\n",
    );
    let seen = receiver.recv().unwrap();
    for name in ["X-Ours", "Cookie", "Keep-Alive", "Connection"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    for name in ["X-Theirs", "Keep-Alive", "Connection", "Proxy-Connection"] {
        assert_eq!(response.field(name), None, "{name}");
    }
}
