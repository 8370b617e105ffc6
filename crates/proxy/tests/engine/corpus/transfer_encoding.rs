//! `Transfer-Encoding` hidden from one reader and shown to another, by rule: every place in a field, with every
//! byte that somebody skips, trims, folds or splits at.

use super::{Bench, HIDDEN};

/// Bytes that some readers treat as space, as a line end, as nothing, or as the end of a text.
const BYTES: [u8; 22] = [
    0x00, 0x01, 0x04, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x10, 0x1b, 0x1f, 0x20, b'"', b'\'', b',',
    b';', 0x7f, 0x85, 0xa0, 0xff,
];

/// Where such a byte can stand; `@` is its place.
const PLACES: [&str; 30] = [
    "@Transfer-Encoding: chunked",
    "Transfer-Encoding@: chunked",
    "Transfer@-Encoding: chunked",
    "Transfer-@Encoding: chunked",
    "Transfer-Encoding:@chunked",
    "Transfer-Encoding: @chunked",
    "Transfer-Encoding: chunked@",
    "Transfer-Encoding: chu@nked",
    "Transfer-Encoding: @chunked@",
    "Transfer-Encoding:@ chunked",
    "Transfer-Encoding @: chunked",
    "Transfer-Encoding: chunked@, identity",
    "Transfer-Encoding: identity@, chunked",
    "Transfer-Encoding: identity,@chunked",
    "Transfer-Encoding:@\r\n chunked",
    "Transfer-Encoding:\r\n@chunked",
    "Transfer-Encoding\r\n@: chunked",
    "Transfer-Encoding: chunked\r\n@",
    "X: y@Transfer-Encoding: chunked",
    "X: y@\r\nTransfer-Encoding: chunked",
    "X: y\r@Transfer-Encoding: chunked",
    "X: y@\nTransfer-Encoding: chunked",
    "X:@\r\nTransfer-Encoding: chunked",
    "X@\r\nTransfer-Encoding: chunked",
    "@\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding:@identity",
    "Transfer-Encoding:@identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nX@: y",
    "Transfer-Encoding@chunked",
    "TRANSFER-ENCODING:@CHUNKED",
];

/// Spellings that need no such byte.
const SPELLINGS: [&str; 24] = [
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: chunked-",
    "Transfer-Encoding: chunke",
    "Transfer-Encoding: chunked chunked",
    "Transfer-Encoding: chunked,chunked",
    "Transfer-Encoding: ,chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: chunked;q=0",
    "Transfer-Encoding: x;chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: compress",
    "Transfer-Encoding: identity",
    "Transfer-Encoding: {chunked}",
    "Transfer-Encoding: (chunked)",
    "Transfer-Encoding: =?iso-8859-1?B?Y2h1bmtlZA==?=",
    "Transfer-Encoding:",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    "Transfer-Encoding: chunked\r\nTransfer-encoding: x",
    "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding",
    "Connection: transfer-encoding, close\r\nTransfer-Encoding: chunked",
    "Transfer-%45ncoding: chunked\r\nTransfer-Encoding: identity",
];

fn headers() -> impl Iterator<Item = Vec<u8>> {
    let by_rule = PLACES.iter().flat_map(|place| {
        BYTES.iter().map(|byte| {
            let bytes = place.bytes().map(|at| if at == b'@' { *byte } else { at });
            bytes.collect::<Vec<u8>>()
        })
    });
    by_rule.chain(SPELLINGS.iter().map(|text| text.as_bytes().to_vec()))
}

fn request(fields: &[&[u8]], body: &str) -> Vec<u8> {
    let mut request = b"POST /first HTTP/1.1\r\nHost: a\r\n".to_vec();
    for field in fields {
        request.extend_from_slice(field);
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body.as_bytes());
    request
}

#[test]
fn a_hidden_transfer_encoding_beside_a_length_is_refused_or_was_none() {
    let bench = Bench::new();
    let body = "0\r\n\r\nX";
    let length: &[u8] = b"Content-Length: 6";
    let (mut refused, mut taken) = (0, 0);
    for header in headers() {
        for fields in [[length, &header[..]], [&header[..], length]] {
            let outcome = bench.send(&request(&fields, body));
            // Taken is only what is no Transfer-Encoding for anybody, and then the length holds.
            if outcome.is_one(body.as_bytes()) {
                taken += 1;
            } else {
                assert!(outcome.is_refused(), "{}: {outcome:?}", header.escape_ascii());
                refused += 1;
            }
        }
    }
    println!("{refused} refused, {taken} taken by their length");
    assert!(refused > 1_200 && taken > 0);
}

#[test]
fn a_transfer_encoding_alone_is_refused_or_the_only_framing() {
    let bench = Bench::new();
    let (mut refused, mut taken) = (0, 0);
    for header in headers() {
        let outcome = bench.send(&request(&[&header], "5\r\nhello\r\n0\r\n\r\n"));
        if outcome.is_one(b"hello") {
            taken += 1;
        } else if !outcome.is_refused() {
            // It was no Transfer-Encoding: there is no body, and what follows is no request.
            let first =
                outcome.seen.first().unwrap_or_else(|| panic!("{}: {outcome:?}", header.escape_ascii()));
            assert!(first.body.is_empty() && outcome.seen.len() == 1, "{}", header.escape_ascii());
            assert_eq!(outcome.statuses, [200, 400], "{}", header.escape_ascii());
        } else {
            refused += 1;
        }
    }
    println!("{refused} refused, {taken} taken as chunked");
    assert!(refused > 600 && taken > 10);
}

#[test]
fn a_hidden_length_beside_chunks_is_refused_or_was_none() {
    let bench = Bench::new();
    let chunked: &[u8] = b"Transfer-Encoding: chunked";
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let covering = format!("{}", body.len() + HIDDEN.len());
    for place in PLACES {
        let place = place.replace("Transfer-Encoding", "Content-Length").replace("chunked", &covering);
        let place = place
            .replace("Transfer@-Encoding", "Content@-Length")
            .replace("Transfer-@Encoding", "Content-@Length");
        for byte in BYTES {
            let header: Vec<u8> = place.bytes().map(|at| if at == b'@' { byte } else { at }).collect();
            for fields in [[chunked, &header[..]], [&header[..], chunked]] {
                let outcome = bench.send(&request(&fields, body));
                assert!(
                    outcome.is_refused() || outcome.is_one(b"hello"),
                    "{}: {outcome:?}",
                    header.escape_ascii()
                );
            }
        }
    }
}
