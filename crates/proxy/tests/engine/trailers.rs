//! Trailers: passed on where both sides speak of them, checked like fields, dropped elsewhere.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use crate::harness::{Instance, Peer, Rig, ok};

/// A chunked body with its trailers as text.
fn chunked(peer: &mut Peer) -> String {
    let mut all = peer.until("0\r\n").unwrap();
    loop {
        let line = peer.until("\r\n").unwrap();
        all += &line;
        if line == "\r\n" {
            return all;
        }
    }
}

#[test]
fn trailers_of_an_answer_reach_a_client_that_takes_them() {
    let wish: Arc<Mutex<Option<String>>> = Arc::default();
    let noted = wish.clone();
    let instance = Instance::answering(move |request| {
        *noted.lock().unwrap() = request.field("TE").map(str::to_owned);
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum, Host\r\nTransfer-Encoding: chunked\r\n\r\n2;ext=1\r\nab\r\n0\r\n\
         X-Sum: 1\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\nhandover-draining: 1\r\nGrpc-Status:0\r\n\r\n"
            .into()
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for (fields, takes) in [
        ("TE: trailers\r\nConnection: TE\r\n", true),
        ("TE: deflate, Trailers;q=1, trailers\r\n", true),
        ("TE: deflate\r\n", false),
        ("", false),
    ] {
        client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
        let head = client.head().unwrap();
        let body = chunked(&mut client);
        assert_eq!(head.contains("\r\nTrailer: X-Sum, Host\r\n"), takes, "{head}");
        assert_eq!(wish.lock().unwrap().as_deref(), takes.then_some("trailers"));
        let trailers = if takes { "X-Sum: 1\r\nGrpc-Status:0\r\n" } else { "" };
        assert_eq!(body, format!("2\r\nab\r\n0\r\n{trailers}\r\n"));
    }
    assert_eq!(instance.connections(), 1);
    let mut old = rig.client();
    old.send("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n");
    let head = old.head().unwrap();
    assert!(!head.contains("Trailer"));
    assert_eq!(old.rest(), b"ab");
}

#[test]
fn trailers_of_a_request_reach_the_instance_checked_and_however_they_are_cut() {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let instance = Instance::start(move |peer, _| {
        while let Some(head) = peer.head() {
            let body = chunked(peer);
            sender.lock().unwrap().send((head, body)).unwrap();
            peer.send(ok(""));
        }
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\
                   X-Sum: 1\r\nTransfer-Encoding: chunked\r\nAuthorization: b\r\nX_Forwarded_For: c\r\nY: \r\n\r\n";
    for piece in [request.len(), 1, 7] {
        for part in request.as_bytes().chunks(piece) {
            client.send(part);
            // The pieces shall arrive as pieces.
            std::thread::yield_now();
        }
        assert_eq!(client.response().status(), 200);
        let (head, body) = receiver.recv().unwrap();
        assert!(head.contains("\r\nTrailer: X-Sum\r\n"));
        let data: String = body.split("\r\n").collect::<Vec<_>>().join("|");
        assert!(data.ends_with("|0|X-Sum: 1|Y: ||"), "{data}");
    }
    assert_eq!(instance.connections(), 1);
}

#[test]
fn too_many_trailers_and_broken_ones_end_the_request() {
    let instance = Instance::named("a");
    let rig = Rig::start(&[instance.address]);
    for trailers in [
        "A: b\r\n".repeat(65),
        format!("A: {}\r\n", "b".repeat(9_000)),
        "A : b\r\n".into(),
        "A\r\n".into(),
        "A: b\n".into(),
        "A: \0\r\n".into(),
        " A: b\r\n".into(),
    ] {
        let mut client = rig.client();
        client.try_send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailers}\r\n"
        ));
        assert_eq!(client.response().status(), 400, "{}", trailers.escape_debug());
        assert!(client.is_at_end());
    }
    assert_eq!(instance.seen().len(), 0);
}
