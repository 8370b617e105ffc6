//! Kinds of payloads on which servers were found to disagree, one or more of each.

use super::{Bench, HIDDEN};

fn post(fields: &str, body: &str) -> String {
    format!("POST /first HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}")
}

#[test]
fn lengths_that_are_no_plain_number_are_refused() {
    let bench = Bench::new();
    for value in [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "0x5",
        "0o5",
        "0b1",
        "5.0",
        "5e0",
        "5,",
        ",5",
        "5,5",
        "5, 5",
        "5 5",
        "5;5",
        "5_0",
        "5\u{a0}",
        "\u{b}5",
        "5\u{b}",
        "\u{c}5",
        "\"5\"",
        "'5'",
        "5\0",
        "\u{663}",
        "１",
        "５",
        "5a",
        "a5",
        "0x",
        "18446744073709551621",
        "4294967301",
        "-18446744073709551611",
        "99999999999999999999999999",
        "5\r\n 0",
        "5\r\n\t5",
        "\r\n 5",
        "5\r",
        "5\n",
        "5\r\r",
        "1e1",
        "inf",
        "NaN",
        "٥",
        "5\u{85}",
        "5%00",
        "0.5e1",
    ] {
        // The largest numbers are numbers, but of no body that anybody takes.
        bench.refuses(post(&format!("Content-Length: {value}"), "hello"));
    }
    for (first, second) in
        [("5", "0"), ("0", "5"), ("5", "5"), ("5", "+5"), ("5", ""), ("", "5"), ("5", "05")]
    {
        bench.refuses(post(&format!("Content-Length: {first}\r\nContent-Length: {second}"), "hello"));
        bench.refuses(post(&format!("Content-Length: {first}\r\nX: y\r\ncontent-length: {second}"), "hello"));
    }
    bench.takes_as_one(post("Content-Length: 005", "hello"), "hello");
    bench.takes_as_one(post("Content-Length:\t 5 \t", "hello"), "hello");
}

#[test]
fn chunks_that_two_readers_could_cut_differently_are_refused() {
    let bench = Bench::new();
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\n\n",
        "5\r\nhello\r\n0\r\n\r",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\t\r\nhello\r\n0\r\n\r\n",
        "\t5\r\nhello\r\n0\r\n\r\n",
        "\r\n5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "0X5\r\nhello\r\n0\r\n\r\n",
        "5h\r\nhello\r\n0\r\n\r\n",
        "5_\r\nhello\r\n0\r\n\r\n",
        "_5\r\nhello\r\n0\r\n\r\n",
        "\"5\"\r\nhello\r\n0\r\n\r\n",
        "5,5\r\nhello\r\n0\r\n\r\n",
        "5.\r\nhello\r\n0\r\n\r\n",
        "\x005\r\nhello\r\n0\r\n\r\n",
        "5\0\r\nhello\r\n0\r\n\r\n",
        "５\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "100000005\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffb\r\nhello\r\n0\r\n\r\n",
        "00000000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\0b\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
        "5;\u{7f}\r\nhello\r\n0\r\n\r\n",
        ";5\r\nhello\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX: y\r\n z\r\n\r\n",
        "0\r\nX: y\0\r\n\r\n",
        "0\r\n\rX",
    ] {
        let outcome = bench.send(post("Transfer-Encoding: chunked", body).as_bytes());
        assert!(outcome.seen.is_empty(), "{}: {outcome:?}", body.escape_debug());
        // A size that was never filled is an unfinished body, and its client has gone.
        assert!(matches!(outcome.statuses[..], [] | [400 | 413]), "{}: {outcome:?}", body.escape_debug());
    }
    for (body, data) in [
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("05;a=b;c=\"d e\"\r\nhello\r\n000;x\r\n\r\n", "hello"),
        ("1\r\nh\r\n4\r\nello\r\n0\r\nX-Sum: 1\r\n\r\n", "hello"),
        ("5; a\t=\tb\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
    ] {
        bench.takes_as_one(post("Transfer-Encoding: chunked", body), data);
    }
}

#[test]
fn line_ends_spaces_and_empty_names_have_one_reading_or_none() {
    let bench = Bench::new();
    for start in [
        "GET /first HTTP/1.1\nHost: a\r\n\r\n",
        "GET /first HTTP/1.1\rHost: a\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost: a\n\r\n",
        "GET /first HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost: a\n\n",
        "GET /first HTTP/1.1\r\nHost: a\r\n\n",
        "GET /first HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET /first HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost: a\r\n:\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost: a\r\nX y: z\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost: a\r\n\u{e4}: z\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost: a\r\nX: \u{0}\r\n\r\n",
        "GET /first HTTP/1.1\r\nHost: a\r\nX: \u{1b}[31m\r\n\r\n",
        "GET\t/first HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /first\tHTTP/1.1\r\nHost: a\r\n\r\n",
        " GET /first HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET  /first HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /first  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /fi rst HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /first HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET /first HTTP/1.1 x\r\nHost: a\r\n\r\n",
        "GET /first\r\nHost: a\r\n\r\n",
        "GET /first HTTP/0.9\r\nHost: a\r\n\r\n",
        "GET /first HTTP/1.10\r\nHost: a\r\n\r\n",
        "GET /first HTTP/01.1\r\nHost: a\r\n\r\n",
        "GET /first HTTP/1.1\0\r\nHost: a\r\n\r\n",
        "GET /first HTTP/1\r\nHost: a\r\n\r\n",
        "GET /first http/1.1\r\nHost: a\r\n\r\n",
        "GET /first HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET /first HTTP/+1.1\r\nHost: a\r\n\r\n",
        "GET /first XTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /fi\u{0}rst HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /first#x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET first HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET //a@b:c HTTP/1.1\r\nHost: a b\r\n\r\n",
        "G\u{0}T /first HTTP/1.1\r\nHost: a\r\n\r\n",
        "G:T /first HTTP/1.1\r\nHost: a\r\n\r\n",
        "\u{feff}GET /first HTTP/1.1\r\nHost: a\r\n\r\n",
        "\rGET /first HTTP/1.1\r\nHost: a\r\n\r\n",
        "X\r\n\r\n",
    ] {
        bench.refuses(start);
    }
    bench.takes_as_one("\r\nGET /first HTTP/1.1\r\nHost: a\r\n\r\n", "");
    bench.takes_as_one("GET /first HTTP/1.1\r\nHost:a\r\nX:\r\nY: \t\r\n\r\n", "");
}

#[test]
fn a_host_has_one_reading_and_is_the_one_that_counts() {
    let bench = Bench::new();
    for host in [
        "Host: a\r\nHost: a",
        "Host: a\r\nHost: b",
        "Host:",
        "Host: a, b",
        "Host: a b",
        "Host: a@b",
        "Host: a/b",
        "Host: a?b",
        "Host: a#b",
        "Host: a\\b",
        "Host: http://a",
        "Host: a:b",
        "Host: a:80:80",
        "Host: a:-1",
        "Host: a:99999999",
        "Host: [::1",
        "Host: ::1",
        "Host: [a]b",
        "Host: a%00",
        "Host: a\u{0}",
        "Host: \u{e4}",
        "Host: a;b",
        "Host: \"a\"",
        "Host: a\r\n b",
        "X: y",
        "Host: a\r\nConnection: Host",
        "Host: a\r\nConnection: close, host",
        "Host_: a",
        "Host: .",
        "Host: :80",
        "Host: a:80 ,b",
    ] {
        bench.refuses(format!("GET /first HTTP/1.1\r\n{host}\r\n\r\n"));
    }
    for target in [
        "http://a@b/",
        "http:///",
        "http://",
        "https://a/",
        "ftp://a/",
        "http:/a",
        "//",
        "a:80",
        "*",
        "http://a b/",
    ] {
        let outcome = bench.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert!(outcome.is_refused() || target == "//", "{target}: {outcome:?}");
    }
    let outcome =
        bench.send(b"GET http://inner/first HTTP/1.1\r\nHost: outer\r\nX-Forwarded-Host: x\r\n\r\n");
    let head = &outcome.seen[0].head;
    assert!(head.starts_with("GET /first HTTP/1.1\r\nHost: inner\r\n") && !head.contains("outer"), "{head}");
    assert!(head.contains("X-Forwarded-Host: inner\r\n"));
}

#[test]
fn a_body_where_none_is_expected_is_a_body_all_the_same() {
    let bench = Bench::new();
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND", "get", "FOO"] {
        let length = HIDDEN.len();
        let request =
            format!("{method} /first HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{HIDDEN}");
        let outcome = bench.send(request.as_bytes());
        assert!(
            matches!(&outcome.seen[..], [first, _] if first.body == HIDDEN.as_bytes()),
            "{method}: {outcome:?}"
        );
    }
    let chunk = format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len());
    bench.takes_as_one(
        format!("GET /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"),
        HIDDEN,
    );
}

#[test]
fn expectations_that_are_not_the_one_are_refused() {
    let bench = Bench::new();
    for expect in [
        "100",
        "y 100-continue",
        "100-continue, x",
        "100-continue;q=1",
        "\"100-continue\"",
        "",
        "100-continu",
        "x",
    ] {
        bench.refuses(post(&format!("Expect: {expect}\r\nContent-Length: 5"), "hello"));
    }
    bench.refuses(post("Expect : 100-continue\r\nContent-Length: 5", "hello"));
    bench.refuses(post("Expect:\r\n 100-continue\r\nContent-Length: 5", "hello"));
}
