//! Requests that may be read in two ways, made from a seed and a number.

/// Numbers from a seed.
struct Numbers(u64);

impl Numbers {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.draw() % end.max(1) as u64).unwrap_or(0)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }
}

/// Field lines that frame, or seem to.
const FRAMING: [&str; 44] = [
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: Chunked",
    "transfer-encoding:chunked",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    " Transfer-Encoding: chunked",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding: chunked ",
    "Transfer-Encoding: chunked\x0b",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding:",
    "Transfer-Encoding: chunked;q=1",
    "Transfer_Encoding: chunked",
    "Transfer-Encoding\r\n : chunked",
    "Transfer-Encoding:\r\n chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\r\n Transfer-Encoding: chunked",
    "\x0bTransfer-Encoding: chunked",
    "Transfer-Encoding: \u{85}chunked",
    "Content-Length: 0",
    "Content-Length: 1",
    "Content-Length: +5",
    "Content-Length: 0x5",
    "Content-Length: 5, 5",
    "Content-Length: 05",
    "Content-Length: 5 ",
    "Content-Length : 5",
    " Content-Length: 5",
    "Content-Length: -1",
    "Content-Length:",
    "Content-Length: 5\r\n 0",
    "Content_Length: 5",
    "Content-Length: 18446744073709551616",
    "Content-Length: 4294967296",
    "X: y\rContent-Length: 5",
    "Content-Length: 5\x0b",
];

/// Field lines that mean something to somebody on the way.
const OTHERS: [&str; 40] = [
    "Connection: close",
    "Connection: keep-alive",
    "Connection: Content-Length",
    "Connection: Transfer-Encoding",
    "Connection: Host",
    "Connection: X, close",
    "Connection: upgrade",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
    "Expect: 100-continue",
    "Expect: 200-ok",
    "Expect: y 100-continue",
    "TE: trailers",
    "TE: chunked",
    "Trailer: Content-Length",
    "Host: b",
    "Host: a, b",
    "Host:",
    "X-Forwarded-Host: b",
    "X-HTTP-Method-Override: PUT",
    "X-Original-URL: /x",
    "Forwarded: for=1",
    "Keep-Alive: timeout=1",
    "Proxy-Connection: keep-alive",
    "Cookie: a=b; c",
    "Range: bytes=0-",
    "If-Match: *",
    "X: \u{e4}\u{f6}",
    "X: \u{ff}",
    "X:",
    ": y",
    "X y: z",
    "X",
    "X\x00: y",
    "X: \x01",
    "X: \x7f",
    "Content-Type: application/x-www-form-urlencoded",
    "Max-Forwards: 0",
    "\u{a0}X: y",
];

const LINE_ENDS: [&str; 8] = ["\n", "\r", "\r\r\n", "\n\r", "\r\n\r\n", " \r\n", "\x0b\r\n", "\0\r\n"];
const METHODS: [&str; 12] = [
    "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT", "get", "PROPFIND", "M-SEARCH",
    "G T",
];
const VERSIONS: [&str; 9] =
    ["HTTP/1.0", "HTTP/1.1 ", "HTTP/1.2", "HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1\t", "HTTP/1.10", ""];
const TARGETS: [&str; 16] = [
    "http://a@",
    "http://b@",
    "@?x=/y",
    "@?a=b HTTP/1.1",
    "@%00",
    "@%20x",
    "@/../x",
    "@//",
    "@;x",
    "@#x",
    "/%2e%2e@",
    "@\u{e4}",
    "@\\x",
    "//a@",
    "@ HTTP/1.0",
    "@?%0d%0aX:y",
];
const SIZES: [&str; 20] = [
    "@;a=b",
    "@;a=\"b\"",
    "0@",
    "00000@",
    "@ ",
    " @",
    "@\t",
    "+@",
    "0x@",
    "@;\n",
    "@\n",
    "@;a\rb",
    "@\r",
    "@;",
    "@,@",
    "-@",
    "@g",
    "1000000000000000@",
    "ffffffffffffffff@",
    "@;a;b;c=d",
];
const TRAILERS: [&str; 8] = [
    "X-Sum: 1\r\n",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "X: y\n",
    "X : y\r\n",
    " y\r\n",
    ": y\r\n",
    "Host: b\r\n",
];
const BYTES: [u8; 18] =
    [0, 9, 10, 11, 12, 13, 32, b':', b',', b';', b'"', b'\\', b'0', b'A', 0x7f, 0x85, 0xa0, 0xff];

/// A request in parts, before it is put together.
struct Draft {
    method: String,
    target: String,
    version: String,
    lines: Vec<(String, String)>,
    body: Body,
}

enum Body {
    None,
    /// Announced by its length, and so many bytes more or less.
    Length(String, i64),
    /// Chunks: size line (with `@` for the size), data, line end.
    Chunks(Vec<(String, String, String)>, String),
    /// As it is, announced by nobody.
    Bare(String),
}

/// What is sent for case `case`: a mutated request for `/c/N/a`, and behind it a plain one for `/c/N/z`.
pub fn request(seed: u64, case: u64) -> Vec<u8> {
    let mut numbers =
        Numbers(seed.wrapping_mul(0x0100_0000_01b3).wrapping_add(case.wrapping_mul(0x9e37_79b9)));
    let mut draft = draft(&mut numbers, case);
    for _ in 0..numbers.below(4) {
        mutate(&mut draft, &mut numbers);
    }
    let mut bytes = assemble(&draft);
    if numbers.below(4) == 0 {
        for _ in 0..=numbers.below(2) {
            mutate_bytes(&mut bytes, &mut numbers);
        }
    }
    bytes.extend_from_slice(format!("GET /c/{case}/z HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
    bytes
}

fn draft(numbers: &mut Numbers, case: u64) -> Draft {
    let hidden = format!("GET /c/{case}/s HTTP/1.1\r\nHost: a\r\n\r\n");
    let crlf = || "\r\n".to_owned();
    let chunk = |data: &str| ("@".to_owned(), data.to_owned(), crlf());
    let body = match numbers.below(6) {
        0 => Body::None,
        1 => Body::Length(hidden, 0),
        2 => Body::Chunks(vec![chunk(&hidden)], String::new()),
        3 => Body::Chunks(vec![chunk("hello"), chunk(&hidden), chunk("x")], String::new()),
        4 => Body::Length(format!("0\r\n\r\n{hidden}"), 0),
        _ => Body::Bare(hidden),
    };
    let method = if matches!(body, Body::None) { "GET" } else { "POST" }.to_owned();
    let mut lines = vec![("Host: a".to_owned(), crlf()), ("Accept: */*".to_owned(), crlf())];
    if matches!(body, Body::Chunks(..)) {
        lines.push(("Transfer-Encoding: chunked".to_owned(), crlf()));
    }
    Draft { method, target: format!("/c/{case}/a"), version: "HTTP/1.1".to_owned(), lines, body }
}

fn mutate(draft: &mut Draft, numbers: &mut Numbers) {
    let at = numbers.below(draft.lines.len() + 1);
    let line = |text: &str| (text.to_owned(), "\r\n".to_owned());
    match numbers.below(16) {
        0..=2 => draft.lines.insert(at, line(numbers.one(&FRAMING))),
        3 | 4 => draft.lines.insert(at, line(numbers.one(&OTHERS))),
        5 => draft.method = numbers.one(&METHODS).to_owned(),
        6 => draft.version = numbers.one(&VERSIONS).to_owned(),
        7 => draft.target = numbers.one(&TARGETS).replace('@', &draft.target),
        8 => {
            if let Some((_, end)) = draft.lines.get_mut(at) {
                *end = numbers.one(&LINE_ENDS).to_owned();
            }
        }
        9 => {
            if let Some(repeated) = draft.lines.get(at) {
                let repeated = repeated.clone();
                draft.lines.push(repeated);
            }
        }
        10 => {
            if let Some((text, _)) = draft.lines.get_mut(at) {
                *text = if numbers.below(2) == 0 { text.to_uppercase() } else { text.to_lowercase() };
            }
        }
        11 => draft.lines.insert(
            at,
            line(&format!("X-{}: {}", "l".repeat(numbers.below(300)), "v".repeat(numbers.below(900)))),
        ),
        _ => mutate_body(&mut draft.body, numbers),
    }
}

fn mutate_body(body: &mut Body, numbers: &mut Numbers) {
    match body {
        Body::None | Body::Bare(_) => {}
        Body::Length(_, off) => {
            *off = [-1, 1, -5, 5, 40, -30, 2, -2][numbers.below(8)];
        }
        Body::Chunks(chunks, trailers) => {
            let at = numbers.below(chunks.len());
            match numbers.below(4) {
                0 => trailers.push_str(numbers.one(&TRAILERS)),
                1 => chunks[at].2 = numbers.one(&LINE_ENDS).to_owned(),
                _ => chunks[at].0 = numbers.one(&SIZES).to_owned(),
            }
        }
    }
}

fn assemble(draft: &Draft) -> Vec<u8> {
    let mut text = format!("{} {} {}\r\n", draft.method, draft.target, draft.version);
    let mut body = String::new();
    match &draft.body {
        Body::None => {}
        Body::Bare(data) => body.push_str(data),
        Body::Length(data, off) => {
            let length = i64::try_from(data.len()).unwrap_or(0) + off;
            text.push_str(&format!("Content-Length: {length}\r\n"));
            body.push_str(data);
        }
        Body::Chunks(chunks, trailers) => {
            for (size, data, end) in chunks {
                body.push_str(&size.replace('@', &format!("{:x}", data.len())));
                body.push_str("\r\n");
                body.push_str(data);
                body.push_str(end);
            }
            body.push_str("0\r\n");
            body.push_str(trailers);
            body.push_str("\r\n");
        }
    }
    for (line, end) in &draft.lines {
        text.push_str(line);
        text.push_str(end);
    }
    text.push_str("\r\n");
    text.push_str(&body);
    // One byte for each letter up to ÿ: what is no UTF-8 is meant to be sent too.
    text.chars().map(|letter| u8::try_from(u32::from(letter)).unwrap_or(b'?')).collect()
}

fn mutate_bytes(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let at = numbers.below(bytes.len());
    let byte = BYTES[numbers.below(BYTES.len())];
    match numbers.below(5) {
        0 => bytes.insert(at, byte),
        1 => bytes[at] = byte,
        2 => drop(bytes.remove(at)),
        3 => bytes[at] ^= 1 << numbers.below(8),
        _ => {
            let end = (at + numbers.below(12)).min(bytes.len());
            let piece = bytes[at..end].to_vec();
            drop(bytes.splice(at..at, piece));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_the_same_each_time_and_unlike_the_next() {
        assert_eq!(request(7, 11), request(7, 11));
        let different: std::collections::BTreeSet<_> = (0..1_000).map(|case| request(7, case)).collect();
        assert_eq!(different.len(), 1_000);
        assert!(different.iter().all(|bytes| bytes.ends_with(b"/z HTTP/1.1\r\nHost: a\r\n\r\n")));
    }
}
