//! Requests and responses that could be read in two ways: refused, and never passed on.

use crate::harness::{Instance, Rig, ok};

#[test]
fn a_request_with_two_readings_is_refused_and_nothing_of_it_reaches_the_instance() {
    let instance = Instance::named("a");
    let rig = Rig::start(&[instance.address]);
    let hidden = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";
    for (fields, body, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n", 400),
        ("Content-Length: 5\r\nContent-Length: 0", "hello", 400),
        ("Content-Length: 0\r\nContent-Length: 0", "", 400),
        ("Content-Length: 0, 5", "", 400),
        ("Content-Length: 0x5", "", 400),
        ("Content-Length: +5", "", 400),
        ("Content-Length : 5", "hello", 400),
        ("Content-Length\t: 5", "hello", 400),
        (" Content-Length: 5", "hello", 400),
        ("X: y\r\n Content-Length: 5", "hello", 400),
        ("Transfer-Encoding: xchunked", "0\r\n\r\n", 501),
        ("Transfer-Encoding: chunked, identity", "0\r\n\r\n", 501),
        ("Transfer-Encoding: identity, chunked", "0\r\n\r\n", 501),
        ("Transfer-Encoding: chunked;q=1", "0\r\n\r\n", 501),
        ("Transfer-Encoding:\u{b}chunked", "0\r\n\r\n", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: cow", "0\r\n\r\n", 400),
        ("Transfer-Encoding : chunked", "0\r\n\r\n", 400),
        ("Transfer-Encoding\n: chunked", "0\r\n\r\n", 400),
        ("X: y\nTransfer-Encoding: chunked", "0\r\n\r\n", 400),
        ("X: y\rTransfer-Encoding: chunked", "0\r\n\r\n", 400),
        ("X: y\0\r\nTransfer-Encoding: chunked", "0\r\n\r\n", 400),
        ("Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", "0\r\n\r\n", 400),
        ("Host: b", "", 400),
        ("Expect: 100-continue, x\r\nContent-Length: 5", "hello", 417),
    ] {
        let mut client = rig.client();
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}{hidden}"));
        let response = client.response();
        assert_eq!(response.status(), status, "{}", fields.escape_debug());
        assert_eq!(response.field("Connection"), Some("close"));
        assert!(client.is_at_end(), "{}", fields.escape_debug());
    }
    for start in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/ http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
    ] {
        let mut client = rig.client();
        client.send(format!("{start}{hidden}"));
        let status = client.response().status();
        assert!(status == 400 || status == 505, "{}", start.escape_debug());
        assert!(client.is_at_end());
    }
    assert_eq!((instance.connections(), instance.seen().len()), (0, 0));
}

#[test]
fn a_chunked_body_with_two_readings_ends_the_request_and_the_connection() {
    let instance = Instance::named("a");
    let rig = Rig::start(&[instance.address]);
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloX\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "ffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n\n",
    ] {
        let mut client = rig.client();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
        ));
        assert_eq!(client.response().status(), 400, "{}", body.escape_debug());
        assert!(client.is_at_end());
    }
    assert_eq!(instance.seen().len(), 0);
}

#[test]
fn a_response_with_two_readings_becomes_502_and_its_connection_is_not_used_again() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c=d\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let instance = Instance::answering(move |_| response.to_owned());
        let rig = Rig::start(&[instance.address]);
        let mut client = rig.client();
        for number in 1..=2 {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(client.response().status(), 502, "{}", response.escape_debug());
            assert_eq!(instance.connections(), number);
        }
    }
}

#[test]
fn bytes_behind_a_response_are_nobodys_answer() {
    let instance = Instance::answering(|_| format!("{}{}", ok("first"), ok("not asked for")));
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.response().text(), "first");
    }
    assert_eq!(instance.connections(), 3);
}

#[test]
fn limits_are_answered_with_their_status() {
    let instance = Instance::named("a");
    let rig = Rig::start(&[instance.address]);
    let ask = |request: String| {
        let mut client = rig.client();
        client.send(request);
        let status = client.response().status();
        assert!(client.is_at_end());
        status
    };
    let long = "x".repeat(9_000);
    assert_eq!(ask(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n")), 414);
    assert_eq!(ask(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n")), 431);
    assert_eq!(ask(format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(50))), 431);
    assert_eq!(ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n".into()), 413);
    assert_eq!(ask("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n".into()), 501);
    let chunk = format!("{:x}\r\n{}\r\n", 5_000_000, "x".repeat(5_000_000));
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
    let mut client = rig.client();
    let mut writer = crate::harness::Peer::new(client.stream.try_clone().unwrap());
    std::thread::scope(|scope| {
        // It is not read to its end: the connection is closed under it.
        scope.spawn(move || std::io::Write::write_all(&mut writer.stream, request.as_bytes()).err());
        assert_eq!(client.response().status(), 413);
    });
}
