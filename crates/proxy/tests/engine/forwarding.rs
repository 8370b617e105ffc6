//! Requests and responses as both sides see them.

use std::sync::mpsc::channel;

use crate::harness::{Instance, Peer, Rig, half_close, ok, table};

const GET: &str = "GET /a?b HTTP/1.1\r\nHost: shop\r\n\r\n";

#[test]
fn requests_on_one_connection_share_one_connection_to_the_instance() {
    let instance = Instance::named("a");
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for _ in 0..5 {
        client.send(GET);
        let response = client.response();
        assert_eq!((response.status(), response.text()), (200, "a 0"));
        assert_eq!(response.field("Connection"), None);
    }
    assert_eq!(instance.connections(), 1);
    let seen = instance.seen().pop().unwrap();
    let id = seen.field("X-Request-Id").unwrap();
    let parent = seen.field("traceparent").unwrap();
    assert!(parent.starts_with(&format!("00-{id}-")), "{parent}");
    assert_eq!(
        seen.head,
        format!(
            "GET /a?b HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n\
             X-Forwarded-Proto: http\r\nX-Forwarded-Host: shop\r\nX-Request-Id: {id}\r\n\
             traceparent: {parent}\r\n\r\n"
        )
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let instance = Instance::answering(|request| ok(request.head.split(' ').nth(1).unwrap()));
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    let mut all = String::new();
    for number in 0..20 {
        all += &format!("POST /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz");
    }
    client.send(all);
    for number in 0..20 {
        assert_eq!(client.response().text(), format!("/{number}"));
    }
}

#[test]
fn bodies_of_any_size_and_framing_arrive_whole_both_ways() {
    let instance = Instance::start(|peer, _| {
        while let Some(request) = peer.request() {
            let body = &request.body;
            if request.head.contains("chunked") {
                peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(50_000) {
                    peer.send(format!("{:X};ext=1\r\n", chunk.len()));
                    peer.send(chunk);
                    peer.send("\r\n");
                }
                peer.send("0\r\nX-Trailer: 1\r\n\r\n");
            } else {
                peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
                peer.send(body);
            }
        }
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for size in [0_usize, 1, 4_096, 4_097, 16_384, 65_536, 65_537, 200_000, 3_000_000] {
        let body: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
        exchange(&mut client, &body, size);
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut chunked = Vec::new();
        for chunk in body.chunks(7_000) {
            chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            chunked.extend_from_slice(chunk);
            chunked.extend_from_slice(b"\r\n");
        }
        chunked.extend_from_slice(b"0\r\n\r\n");
        exchange(&mut client, &chunked, size);
    }
    assert_eq!(instance.connections(), 1);
}

/// Writes in a thread of its own while reading: neither side has to hold a whole body.
#[track_caller]
fn exchange(client: &mut Peer, bytes: &[u8], size: usize) {
    let mut writer = Peer::new(client.stream.try_clone().unwrap());
    let response = std::thread::scope(|scope| {
        scope.spawn(|| writer.send(bytes));
        client.response()
    });
    assert_eq!((response.status(), response.body.len()), (200, size));
    let right = response.body.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251);
    assert!(right, "{size} bytes arrived changed");
}

#[test]
fn a_body_in_many_small_pieces_arrives_whole() {
    let instance = Instance::answering(|request| ok(request_text(&request.body)));
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for byte in
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
    {
        client.send([*byte]);
        // The pieces shall arrive as pieces.
        std::thread::yield_now();
    }
    assert_eq!(client.response().text(), "hello");
}

fn request_text(body: &[u8]) -> &str {
    std::str::from_utf8(body).unwrap()
}

#[test]
fn head_and_bodiless_answers_leave_the_connection_in_step() {
    let instance = Instance::answering(|request| match request.head.split(' ').nth(1) {
        Some("/204") => "HTTP/1.1 204 No Content\r\n\r\n".into(),
        Some("/304") => "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n".into(),
        _ if request.head.starts_with("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n".into(),
        _ => ok("body"),
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.head().unwrap().contains("Content-Length: 99"));
        client.send("GET /204 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().status(), 204);
        client.send("GET /304 HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.head().unwrap();
        assert!(head.contains(" 304 ") && head.contains("Content-Length: 7"));
        client.send(GET);
        assert_eq!(client.response().text(), "body");
    }
    assert_eq!(instance.connections(), 1);
}

#[test]
fn a_waiting_client_gets_100_once_and_then_its_answer() {
    let instance = Instance::named("a");
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(client.head().unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("hello");
        assert_eq!(client.response().text(), "a 5");
    }
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello");
    assert_eq!(client.response().text(), "a 5", "nobody waits who sends at once");
}

#[test]
fn interim_answers_of_the_instance_are_passed_on_but_for_100() {
    let instance = Instance::answering(|_| {
        format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n{}", ok("end"))
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    client.send(GET);
    assert_eq!(client.head().unwrap(), "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
    assert_eq!(client.response().text(), "end");
    let mut old = rig.client();
    old.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(old.response().text(), "end");
}

#[test]
fn an_answer_that_ends_with_its_connection_is_chunked_for_new_clients_and_plain_for_old_ones() {
    let instance = Instance::start(|peer, _| {
        if peer.request().is_some() {
            peer.send("HTTP/1.1 200 OK\r\n\r\nuntil ");
            peer.send("the end");
        }
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for _ in 0..2 {
        client.send(GET);
        let response = client.response();
        assert_eq!(response.text(), "until the end");
        assert_eq!(response.field("Transfer-Encoding"), Some("chunked"));
    }
    let mut old = rig.client();
    old.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = old.response();
    assert_eq!((response.text(), response.field("Connection")), ("until the end", Some("close")));
}

#[test]
fn an_old_client_may_keep_its_connection() {
    let instance = Instance::named("a");
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.response();
        assert_eq!((response.text(), response.field("Connection")), ("a 0", Some("keep-alive")));
    }
    client.send("GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "a 0");
    assert!(client.is_at_end());
}

#[test]
fn a_client_that_half_closes_still_gets_its_answer() {
    let (go, wait) = channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let instance = Instance::answering(move |_| {
        wait.lock().unwrap().recv().unwrap();
        ok("late")
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    client.send(GET);
    half_close(&client);
    go.send(()).unwrap();
    assert_eq!(client.response().text(), "late");
    assert!(client.is_at_end());
}

#[test]
fn routes_go_by_host_and_path_and_what_has_none_is_404() {
    let (a, b) = (Instance::named("a"), Instance::named("b"));
    let other = table(&[b.address]).services.remove("web").unwrap();
    let mut table = table(&[a.address]);
    table.services.insert("other".into(), other);
    table.routes[0].path = "/shop".into();
    table.routes.push(wire::routes::Route {
        listener: "main".into(),
        host: Some("*.example.com".into()),
        path: "/".into(),
        service: "other".into(),
        split: vec![],
    });
    let rig = Rig::with(table, None);
    let mut client = rig.client();
    for (target, host, answer) in [
        ("/shop/x", "h", "a 0"),
        ("/", "x.Example.com:80", "b 0"),
        ("http://y.example.com/", "h", "b 0"),
        ("/shopping", "h", "404: there is no route for this host and path\n"),
    ] {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response().text(), answer);
    }
    client.send(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhelloGET /shop HTTP/1.1\r\nHost: h\r\n\r\n",
    );
    assert_eq!(client.response().status(), 404);
    assert_eq!(client.response().text(), "a 0", "the body that came with it is passed over");
}

#[test]
fn the_access_log_has_a_line_for_each_request_without_its_query() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let instance = Instance::named("a");
    let mut rig = Rig::with(table(&[instance.address]), Some(path.clone()));
    rig.ask("GET /secret?token=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    rig.ask("nonsense\r\n\r\n");
    rig.stop();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines.iter().any(|line| {
        line.contains(
            r#""client":"127.0.0.1","tls":false,"method":"GET","host":"a","path":"/secret","status":200,"#,
        ) && line.contains(r#""retries":0,"request_id":""#)
            && line.contains(r#"","service":"web","release":"1","instance":"web@1/0"}"#)
    }));
    assert!(lines.iter().any(|line| line.contains(r#""status":400"#)));
    assert!(!text.contains("token"));
}

#[test]
fn no_100_comes_into_the_middle_of_an_early_answer() {
    let (begun, begin) = channel();
    let begin = std::sync::Mutex::new(begin);
    let instance = Instance::start(move |peer, _| {
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        begin.lock().unwrap().recv().unwrap();
        peer.exactly(16 << 20);
        peer.send(" half");
        peer.rest();
    });
    let mut table = table(&[instance.address]);
    table.listeners.get_mut("main").unwrap().head_bytes_max = 32 << 20;
    let rig = Rig::with(table, None);
    let mut client = rig.client();
    // More than the buffers between proxy and instance hold: the head is not written when the answer begins.
    let large = "x".repeat(16 << 20);
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nX: {large}\r\n\r\n"
    ));
    client.until("first").unwrap();
    begun.send(()).unwrap();
    assert_eq!(client.rest(), b" half");
}

#[test]
fn half_of_an_answer_does_not_look_whole_to_an_old_client() {
    let instance = Instance::start(|peer, _| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    });
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    client.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n");
    let mut answer = Vec::new();
    let end = std::io::Read::read_to_end(&mut client.stream, &mut answer);
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}
