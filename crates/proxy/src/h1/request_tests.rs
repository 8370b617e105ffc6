//! Heads that are taken, heads that are refused, and what reaches the instance.

use proptest::prelude::*;

use super::*;
use crate::h1::scan::HeadScan;

const LIMITS: RequestLimits = RequestLimits { fields: 16, body_bytes: 1_000 };

fn read(head: &str) -> Result<(RequestHead, Target, String), u16> {
    read_by("http", head)
}

/// As `read`, but for the ids that are made for each request.
fn read_plain(head: &str) -> Result<(RequestHead, Target, String), u16> {
    let (request, target, out) = read(head)?;
    let made = |line: &&str| !line.starts_with("X-Request-Id: ") && !line.starts_with("traceparent: ");
    let out = out.split_inclusive("\r\n").filter(made).collect();
    Ok((request, target, out))
}

fn read_by(scheme: &'static str, head: &str) -> Result<(RequestHead, Target, String), u16> {
    let via = Via::new("10.1.2.3", scheme, "127.0.0.1:8080");
    let source = IdSource::new((1, 2));
    let (mut target, mut out) = (Target::default(), Vec::new());
    if !matches!(HeadScan::default().find_end(head.as_bytes()), Ok(Some(end)) if end == head.len()) {
        return Err(400);
    }
    let request = read_request(head.as_bytes(), LIMITS, &via, &source, &mut target, &mut out)
        .map_err(|answer| answer.status)?;
    Ok((request, target, String::from_utf8(out).unwrap()))
}

#[track_caller]
fn refused(head: &str, status: u16) {
    assert_eq!(read(head).map(|(.., out)| out), Err(status), "{}", head.escape_debug());
}

#[test]
fn a_request_is_rewritten_for_the_instance() {
    let (request, target, out) = read_plain(
        "POST /a/b?c=d HTTP/1.1\r\nUser-Agent: x\r\nHost: Shop.Example.com:8080\r\nX-Forwarded-For: 6.6.6.6\r\n\
         Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nForwarded: for=1\r\nX-Real-IP: 7\r\nHandover-Release: 2\r\n\
         Keep-Alive: timeout=5\r\nTE: trailers\r\nUpgrade: websocket\r\nAccept: */*\r\nContent-Length: 007\r\n\r\n",
    )
    .unwrap();
    assert_eq!(
        out,
        "POST /a/b?c=d HTTP/1.1\r\nHost: Shop.Example.com:8080\r\nUser-Agent: x\r\nAccept: */*\r\n\
         X-Forwarded-For: 10.1.2.3\r\nX-Real-IP: 10.1.2.3\r\nX-Forwarded-Proto: http\r\n\
         X-Forwarded-Host: Shop.Example.com:8080\r\nConnection: TE\r\nTE: trailers\r\nContent-Length: 7\r\n\r\n"
    );
    assert_eq!((&target.path[..], &target.host[..]), (&b"/a/b"[..], &b"shop.example.com"[..]));
    assert!(request.keep_alive && !request.is_idempotent && !request.is_head);
    assert_eq!(request.body.left_at_most(), 7);
}

#[test]
fn a_request_without_fields_but_host_stays_whole() {
    let (request, _, out) = read_plain("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(request.is_head && request.is_idempotent && request.body.is_done());
    assert_eq!(
        out,
        "HEAD / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.2.3\r\nX-Real-IP: 10.1.2.3\r\n\
         X-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\r\n"
    );
}

#[test]
fn an_old_client_needs_no_host_and_says_when_it_stays() {
    let (request, target, out) = read("GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(request.is_1_0 && !request.keep_alive && target.host.is_empty());
    assert!(out.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n"));
    assert!(read("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").unwrap().0.keep_alive);
    assert!(!read("GET / HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n").unwrap().0.keep_alive);
}

#[test]
fn the_host_of_an_absolute_target_counts() {
    let (_, target, out) =
        read("GET HTTP://Real.example?q HTTP/1.1\r\nHost: claimed\r\nA: b\r\n\r\n").unwrap();
    assert!(out.starts_with("GET /?q HTTP/1.1\r\nHost: Real.example\r\nA: b\r\nX-Forwarded-For"));
    assert_eq!((&target.host[..], &target.path[..]), (&b"real.example"[..], &b"/"[..]));
    refused("GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n", 400);
    refused("GET http:///x HTTP/1.1\r\nHost: b\r\n\r\n", 400);
    refused("GET ftp://b/ HTTP/1.1\r\nHost: b\r\n\r\n", 400);
    let by_tls = "GET https://b/x HTTP/1.1\r\nHost: c\r\n\r\n";
    refused(by_tls, 400);
    let (_, target, out) = read_by("https", by_tls).unwrap();
    assert_eq!((&target.host[..], &target.path[..]), (&b"b"[..], &b"/x"[..]));
    assert!(
        out.starts_with("GET /x HTTP/1.1\r\nHost: b\r\nX-F") && out.contains("X-Forwarded-Proto: https\r\n")
    );
    refused("GET a HTTP/1.1\r\nHost: b\r\n\r\n", 400);
}

#[test]
fn the_asterisk_is_for_options() {
    let (_, target, out) = read("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(out.starts_with("OPTIONS * HTTP/1.1\r\n"));
    assert_eq!(target.path, b"/");
    refused("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400);
}

#[test]
fn a_body_has_one_framing_or_the_request_is_refused() {
    let framing = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    for (fields, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0", 400),
        ("Content-Length: 5\r\nContent-Length: 5", 400),
        ("Content-Length: 5\r\nContent-Length: 6", 400),
        ("Content-Length: 5, 5", 400),
        ("Content-Length: +5", 400),
        ("Content-Length: 0x5", 400),
        ("Content-Length: -1", 400),
        ("Content-Length:", 400),
        ("Content-Length: 5 5", 400),
        ("Content-Length: 1001", 413),
        ("Content-Length: 99999999999999999999", 400),
        ("Transfer-Encoding: chunked, chunked", 501),
        ("Transfer-Encoding: gzip, chunked", 501),
        ("Transfer-Encoding: identity", 501),
        ("Transfer-Encoding: xchunked", 501),
        ("Transfer-Encoding: \"chunked\"", 501),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", 400),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", 400),
        ("Transfer-Encoding:", 501),
        ("Transfer-Encoding : chunked", 400),
        ("Content-Length : 5", 400),
        (" Content-Length: 5", 400),
        ("X: y\r\n Content-Length: 5", 400),
        ("X: y\r\n\tfolded", 400),
        ("Connection: Content-Length\r\nContent-Length: 5", 400),
        ("Connection: close, transfer-encoding\r\nTransfer-Encoding: chunked", 400),
        ("Connection: host", 400),
        ("Connection: a b", 400),
        ("Expect: 200-ok", 417),
        ("X: a\0b", 400),
        ("X: a\u{1}b", 400),
        ("X: a\u{7f}b", 400),
        ("X\0: a", 400),
        ("X Y: a", 400),
        (": a", 400),
        ("X", 400),
    ] {
        refused(&framing(fields), status);
    }
    refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400);
    let (request, _, out) = read(&framing("Transfer-Encoding:  ChunKed \r\nContent_Length: 9")).unwrap();
    assert!(matches!(request.body, BodyReader::Chunked(_)));
    assert!(out.ends_with("\r\nTransfer-Encoding: chunked\r\n\r\n") && !out.contains("Length"));
}

#[test]
fn the_request_line_and_the_host_have_one_reading() {
    for (head, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\r\nHost: a\r\n\r\n", 400),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\rX: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: b@a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", 400),
        ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("ABCDEFGHIJKLMNOPQRSTUVWXYZ-ABCDEF / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ] {
        refused(head, status);
    }
    let many = "A: b\r\n".repeat(16);
    refused(&format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431);
}

#[test]
fn waiting_for_100_needs_a_body_and_a_new_client() {
    let head = |version, length| {
        format!(
            "PUT / HTTP/1.{version}\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    assert!(read(&head(1, 3)).unwrap().0.expects_continue);
    assert!(!read(&head(1, 0)).unwrap().0.expects_continue);
    assert!(!read(&head(0, 3)).unwrap().0.expects_continue);
    assert!(!read(&head(1, 3)).unwrap().2.contains("Expect"));
}

proptest! {
    /// What is taken is, read again by the same rules, the same request: nothing can hide in it.
    #[test]
    fn what_reaches_the_instance_reads_back_the_same(
        lines in proptest::collection::vec(
            "(Host|X|Connection|Content-Length|Transfer-Encoding|X-Forwarded-For|TE)[ \t]?:[ \t]?(a|5|chunked|close|X|host)?[ \t\0\r\n]?",
            0..6,
        ),
        version in 0..2,
    ) {
        let head = format!("POST /p?q HTTP/1.{version}\r\n{}\r\n", lines.iter().map(|line| format!("{line}\r\n")).collect::<String>());
        if let Ok((first, target, out)) = read(&head) {
            let (second, again, _) = read(&out).expect("our own head is acceptable");
            prop_assert_eq!(first.body.left_at_most(), second.body.left_at_most());
            prop_assert_eq!(target.path, again.path);
            prop_assert_eq!(out.matches("\r\nHost: ").count(), 1);
            prop_assert!(out.matches("\r\nX-Forwarded-For:").count() == 1);
            prop_assert!(out.matches("Content-Length").count() + out.matches("Transfer-Encoding").count() <= 1);
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut head = b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec();
        head.extend_from_slice(&bytes);
        head.extend_from_slice(b"\r\n\r\n");
        let via = Via::new("10.1.2.3", "http", "");
        if let Ok(Some(end)) = HeadScan::default().find_end(&head) {
            let source = IdSource::new((1, 2));
            let _ = read_request(&head[..end], LIMITS, &via, &source, &mut Target::default(), &mut Vec::new());
        }
    }

    /// Heads that are nearly right: what is taken goes on with the same framing, and with no line that was not meant.
    #[test]
    fn a_damaged_head_is_refused_or_goes_on_with_one_framing(
        fields in proptest::collection::vec(
            proptest::sample::select(vec![
                "Host: a", "Content-Length: 5", "Transfer-Encoding: chunked", "Connection: Upgrade, TE", "TE: trailers",
                "Upgrade: websocket, h2c", "HTTP2-Settings: x", "Trailer: X", "X-Request-Id: 1", "Expect: 100-continue",
                "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate: a=b",
                "X-Forwarded-For: 1.1.1.1", "Forwarded: for=1", "Cookie: a=b", "Keep-Alive: timeout=5",
            ]),
            0..8,
        ),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let lines: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let mut head = format!("POST /p?q HTTP/1.1\r\nHost: b\r\n{lines}\r\n").into_bytes();
        for (at, byte) in damage {
            let at = at.index(head.len());
            head[at] = byte;
        }
        let (via, source) = (Via::new("10.1.2.3", "http", ""), IdSource::new((1, 2)));
        let (mut target, mut out) = (Target::default(), Vec::new());
        if let Ok(Some(end)) = HeadScan::default().find_end(&head)
            && let Ok(first) = read_request(&head[..end], LIMITS, &via, &source, &mut target, &mut out)
        {
            let mut again = Vec::new();
            prop_assert_eq!(HeadScan::default().find_end(&out), Ok(Some(out.len())));
            let second = read_request(&out, LIMITS_AGAIN, &via, &source, &mut Target::default(), &mut again);
            let second = second.expect("our own head is acceptable");
            prop_assert_eq!(format!("{:?}", first.body), format!("{:?}", second.body));
            prop_assert_eq!(first.upgrade, second.upgrade);
            let text = String::from_utf8_lossy(&out).to_ascii_lowercase();
            for name in ["host", "content-length", "transfer-encoding", "connection", "upgrade", "x-request-id",
                "traceparent", "x-forwarded-for", "te"]
            {
                prop_assert!(text.matches(&format!("\r\n{name}:")).count() <= 1, "{} {}", name, text);
            }
            // A protocol whose name has more in it is another one.
            let offers_http = |line: &str| {
                let offered = line.strip_prefix("upgrade:");
                offered.is_some_and(|offered| offered.split(',').any(|name| name.trim() == "h2c"))
            };
            let is_dropped = |line: &str| line.starts_with("http2-settings:") || line.starts_with("expect:");
            prop_assert!(!text.lines().any(|line| offers_http(line) || is_dropped(line)), "{}", text);
        }
    }
}

const LIMITS_AGAIN: RequestLimits = RequestLimits { fields: 64, body_bytes: 1_000 };

#[test]
fn a_wish_for_another_protocol_goes_on_only_without_a_body_and_in_plain_words() {
    let head = |fields: &str| format!("GET /chat HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let good = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
    let (request, _, out) = read(&head(good)).unwrap();
    assert_eq!(request.upgrade.as_deref(), Some(&b"websocket"[..]));
    assert!(out.ends_with("\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), "{out}");
    assert!(out.contains("\r\nSec-WebSocket-Key: x\r\n"));
    let (request, _, out) = read(&head(&format!("{good}TE: trailers\r\nContent-Length: 0\r\n"))).unwrap();
    assert!(request.upgrade.is_some() && !out.contains("TE:"));
    for fields in [
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "Connection: close\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
    ] {
        let (request, _, out) = read(&head(fields)).unwrap();
        assert!(
            request.upgrade.is_none() && !out.contains("Upgrade") && !out.contains("HTTP2"),
            "{fields}: {out}"
        );
    }
    let old = head(good).replace("HTTP/1.1", "HTTP/1.0");
    assert!(read(&old).unwrap().0.upgrade.is_none());
}

#[test]
fn trailers_are_asked_for_and_announced_hop_by_hop() {
    let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let (request, _, out) = read(&head("TE: gzip;q=0.5, Trailers\r\nConnection: te\r\n")).unwrap();
    assert!(request.takes_trailers && out.ends_with("\r\nConnection: TE\r\nTE: trailers\r\n\r\n"));
    let (request, _, out) = read(&head("TE: gzip\r\nTrailer: X-Sum\r\n")).unwrap();
    assert!(!request.takes_trailers && !out.contains("TE:") && !out.contains("Trailer"));
    let (_, _, out) = read(&head("Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n")).unwrap();
    assert!(out.contains("\r\nTrailer: X-Sum\r\n"));
    assert!(!read("GET / HTTP/1.0\r\nTE: trailers\r\n\r\n").unwrap().0.takes_trailers);
}

#[test]
fn ids_are_kept_once_and_made_where_there_is_none_or_more() {
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let head = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let sound =
        format!("x-request-id: abc\r\ntraceparent: {parent}\r\ntracestate: a=b\r\nTracestate: c=d\r\n");
    let (_, target, out) = read(&head(&sound)).unwrap();
    assert!(out.contains(&format!("\r\n{sound}X-Forwarded-For")) && !out.contains("X-Request-Id"));
    assert_eq!((target.ids.request_id(), target.ids.traceparent()), (&b"abc"[..], parent.as_bytes()));
    for fields in [
        "X-Request-Id: a b\r\ntraceparent: 00-0-0-00\r\ntracestate: a=b\r\n".to_owned(),
        format!(
            "X-Request-Id: a\r\nX-Request-Id: a\r\ntraceparent: {parent}\r\ntraceparent: {parent}\r\ntracestate: a=b\r\n"
        ),
        format!("Connection: x-request-id, traceparent\r\n{sound}"),
        "tracestate: a=b\r\n".to_owned(),
    ] {
        let (_, target, out) = read(&head(&fields)).unwrap();
        let made = |name: &str, value: &[u8]| {
            let line = format!("\r\n{name}: {}\r\n", std::str::from_utf8(value).unwrap());
            assert!(out.contains(&line), "{line} is not in {out}");
            assert_eq!(
                out.to_lowercase().matches(&format!("\r\n{}:", name.to_lowercase())).count(),
                1,
                "{out}"
            );
        };
        made("X-Request-Id", target.ids.request_id());
        made("traceparent", target.ids.traceparent());
        assert!(!out.to_lowercase().contains("tracestate"), "{out}");
    }
}

#[test]
fn any_method_of_up_to_32_bytes_is_passed_on() {
    for method in ["PROPFIND", "M-SEARCH", "x", "ABCDEFGHIJKLMNOPQRSTUVWXYZ-ABCDE"] {
        let (request, target, out) = read(&format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
        assert!(out.starts_with(&format!("{method} / HTTP/1.1\r\n")) && !request.is_idempotent);
        assert_eq!(target.method, method.as_bytes());
    }
}
