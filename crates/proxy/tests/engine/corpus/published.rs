//! Published flaws of other servers and proxies, each shown not to be ours.

use super::{Bench, HIDDEN};
use crate::harness::{Instance, Rig, half_close, ok};

fn post(fields: &str, body: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
}

/// pingora, CVE-2025-4366: a request answered without its body being read left that body as the next request.
#[test]
fn the_unread_body_of_a_request_answered_early_is_never_a_request() {
    let instance = Instance::start(|peer, _| {
        if let Some(head) = peer.head() {
            assert!(!head.contains("hidden"), "{head}");
            peer.send(ok("early"));
            assert!(peer.rest().windows(4).all(|four| four != b"X-Fo"), "a second head came");
        }
    });
    let mut rig = Rig::start(&[instance.address]);
    rig.swap(|table| table.routes[0].path = "/known".into());
    for path in ["/known", "/unknown"] {
        for (fields, body) in [
            (format!("Content-Length: {}", HIDDEN.len() + 100), HIDDEN.to_owned()),
            ("Transfer-Encoding: chunked".to_owned(), format!("{:x}\r\n{HIDDEN}", HIDDEN.len() + 100)),
        ] {
            let mut client = rig.client();
            client.send(format!("POST {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n"));
            let response = client.response();
            assert_eq!(response.field("Connection"), Some("close"));
            let _gone = client.try_send(body);
            assert!(client.is_at_end(), "{path}");
        }
    }
}

/// pingora, CVE-2026-2833: bytes behind a request to switch protocols went through unread before the 101 came.
#[test]
fn what_follows_a_wish_to_switch_is_a_request_until_the_switch() {
    let bench = Bench::new();
    for upgrade in ["websocket", "h2c", "foo", "TLS/1.0"] {
        bench.takes_as_one(
            format!("GET /first HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {upgrade}\r\n\r\n"),
            "",
        );
    }
    bench.refuses("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n");
}

/// pingora, CVE-2026-2835: HTTP/1.0 with Transfer-Encoding, and several of them, were framed in their own way.
#[test]
fn an_old_client_has_no_transfer_encoding() {
    let bench = Bench::new();
    for fields in [
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: identity",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Connection: keep-alive\r\nTransfer-Encoding: chunked",
    ] {
        bench.refuses(format!("POST /first HTTP/1.0\r\nHost: a\r\n{fields}\r\n\r\n0\r\n\r\n"));
    }
    bench.refuses(post("Transfer-Encoding: identity, chunked", "0\r\n\r\n"));
}

/// pingora, CVE-2026-2836: two hosts shared what was kept for one of them, for the key left the host out.
#[test]
fn a_host_that_is_claimed_twice_is_told_once() {
    let bench = Bench::new();
    let outcome = bench.send(
        b"GET http://b/first HTTP/1.1\r\nHost: a\r\nX-Forwarded-Host: c\r\nX_Forwarded_Host: d\r\n\r\n",
    );
    let head = &outcome.seen[0].head;
    assert!(head.contains("\r\nHost: b\r\n") && head.contains("\r\nX-Forwarded-Host: b\r\n"), "{head}");
    assert!(!head.contains(": a\r\n") && !head.contains(": c\r\n") && !head.contains(": d\r\n"), "{head}");
}

/// HAProxy, CVE-2021-40346: a name of 270 bytes overflowed its length, and the field became another one.
#[test]
fn an_overlong_name_stays_what_it_is() {
    let bench = Bench::new();
    for length in [255, 256, 257, 270, 271, 512, 1_024, 4_096] {
        let name = format!("Content-Length0{}", "a".repeat(length - 15));
        let outcome = bench.send(post(&format!("{name}:\r\nContent-Length: 5"), "hello").as_bytes());
        assert!(outcome.seen[0].head.contains(&format!("\r\n{name}:")), "{outcome:?}");
        assert_eq!((outcome.seen[0].text(), outcome.seen.len()), ("hello", 2));
    }
    bench.refuses(post(
        &format!("Content-Length0{}:\r\nContent-Length: 5\r\nContent-Length: 0", "a".repeat(255)),
        "hello",
    ));
}

/// HAProxy, CVE-2023-25725: an empty name ended the list of fields, and those after it were lost on the way.
#[test]
fn an_empty_name_is_refused() {
    let bench = Bench::new();
    for field in [":", ": ", ":x", ": x", " :x", "\0:x"] {
        bench.refuses(post(&format!("{field}\r\nContent-Length: 5"), "hello"));
        bench.refuses(post(&format!("Content-Length: 5\r\n{field}"), "hello"));
    }
}

/// HAProxy, CVE-2023-40225: an empty length was passed on as it was.
#[test]
fn an_empty_length_is_refused() {
    let bench = Bench::new();
    for fields in
        ["Content-Length:", "Content-Length: ", "Content-Length:\t", "Content-Length: 5\r\nContent-Length:"]
    {
        bench.refuses(post(fields, "hello"));
    }
}

/// HAProxy, CVE-2019-18277: a vertical tab before `chunked` was passed on, and the length believed.
#[test]
fn a_vertical_tab_is_no_space() {
    let bench = Bench::new();
    bench.refuses(post("Content-Length: 6\r\nTransfer-Encoding:\u{b}chunked", "0\r\n\r\nX"));
}

/// HAProxy, CVE-2023-45539: a fragment in a target was matched with the rules for paths.
#[test]
fn a_fragment_is_refused() {
    let bench = Bench::new();
    for target in ["/first#.png", "#", "/#", "/first?a#b", "http://a/#"] {
        bench.refuses(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
}

/// nginx, CVE-2019-20372: the body of a request that got an error page of nginx's own was taken for a request.
#[test]
fn the_body_of_a_request_we_answer_ourselves_is_its_body() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    rig.swap(|table| table.routes[0].path = "/known".into());
    let mut client = rig.client();
    client.send(format!(
        "POST /unknown HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{HIDDEN}GET /known HTTP/1.1\r\nHost: a\r\n\r\n",
        HIDDEN.len()
    ));
    half_close(&client);
    assert_eq!(client.response().status(), 404);
    assert_eq!(client.response().status(), 200);
    assert!(client.is_at_end());
    assert_eq!(instance.seen().len(), 1);
}

/// nginx, CVE-2013-4547: a space in a target hid the rest of it from the rules.
#[test]
fn a_space_in_a_target_is_refused() {
    let bench = Bench::new();
    for target in ["/first \0.php", "/first .php", "/first\u{b}x", "/first\0x", "/ /../first"] {
        bench.refuses(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
}

/// nginx, CVE-2013-2028, and hyper, CVE-2021-32714: a chunk's size overflowed its number.
#[test]
fn a_size_that_overflows_is_refused() {
    let bench = Bench::new();
    for size in [
        "f0000000000000003",
        "ffffffffffffffed",
        "10000000000000000",
        "8000000000000000",
        "7fffffffffffffff",
        "fffffffffffffffffffffffffffffff5",
        "f000000000000000000000000000005",
    ] {
        let outcome =
            bench.send(post("Transfer-Encoding: chunked", &format!("{size}\r\nabc\r\n0\r\n\r\n")).as_bytes());
        assert!(outcome.seen.is_empty() && outcome.statuses == [400], "{size}: {outcome:?}");
    }
}

/// hyper, CVE-2021-21299: of several Transfer-Encoding fields only one was looked at.
#[test]
fn several_transfer_encodings_are_refused() {
    let bench = Bench::new();
    for (first, second) in
        [("chunked", "identity"), ("identity", "chunked"), ("chunked", "chunked"), ("gzip", "chunked")]
    {
        bench.refuses(post(
            &format!("Transfer-Encoding: {first}\r\nTransfer-Encoding: {second}"),
            "0\r\n\r\n",
        ));
    }
}

/// hyper, CVE-2021-32715: a length with a plus sign was read, and passed on to those who do not read it.
#[test]
fn a_length_with_a_sign_is_refused() {
    let bench = Bench::new();
    for value in ["+5", "+0", "-0", "+", "++5", "5+"] {
        bench.refuses(post(&format!("Content-Length: {value}"), "hello"));
    }
}

/// hyper, CVE-2020-35863: the body of a GET was left unread, and became the next request.
#[test]
fn the_body_of_a_get_is_its_body() {
    let bench = Bench::new();
    let request =
        format!("GET /first HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len());
    bench.takes_as_one(request, HIDDEN);
}

/// Node, CVE-2022-32213 to -32215 and CVE-2023-30589: folded, repeated and CR-ended Transfer-Encoding fields.
#[test]
fn a_folded_or_cr_ended_transfer_encoding_is_refused() {
    let bench = Bench::new();
    for fields in [
        "Transfer-Encoding: chunked\r\n , identity",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: chunked, x\r\n y",
        "X: \rTransfer-Encoding: chunked",
        "X:\rContent-Length: 5\r\nY: z",
        "Transfer-Encoding: chunkedchunked",
    ] {
        bench.refuses(post(fields, "0\r\n\r\n"));
    }
}

/// Puma, CVE-2024-21647, and Go, CVE-2023-39326: extensions of chunks without a limit cost without end.
#[test]
fn extensions_of_chunks_have_an_end() {
    let bench = Bench::new();
    for body in [
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(1_000)),
        format!("0\r\n{}\r\n", "X: y\r\n".repeat(3_000)),
    ] {
        let outcome = bench.send(post("Transfer-Encoding: chunked", &body).as_bytes());
        assert!(outcome.seen.is_empty() && outcome.statuses == [400], "{:?}", outcome.statuses);
    }
}
