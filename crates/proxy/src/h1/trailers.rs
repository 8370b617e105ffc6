//! Trailer fields: those that may follow a body, and none that say how it or its message is to be read.
//!
//! The lines come from the chunked decoder, which has checked that they are lines, and how many. Whether the other
//! side wants any is decided elsewhere.

use crate::h1::fields::{self, Field};

/// Names (RFC 9110, 6.5.1) that frame, route, authenticate, or control a message or its caching: what comes behind the
/// body must not change what was decided before it.
const REFUSED: &[&[u8]] = &[
    b"accept-encoding",
    b"age",
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-location",
    b"content-range",
    b"content-type",
    b"cookie",
    b"cookie2",
    b"date",
    b"expires",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"location",
    b"max-forwards",
    b"origin",
    b"pragma",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"range",
    b"retry-after",
    b"set-cookie",
    b"set-cookie2",
    b"strict-transport-security",
    b"vary",
    b"warning",
    b"www-authenticate",
];
/// Longest of them.
const REFUSED_BYTES_MAX: usize = 32;

/// Appends those of the trailer lines `lines` that may be passed on.
pub(crate) fn write_kept(lines: &[u8], out: &mut Vec<u8>) {
    let mut rest = lines;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at(end + 1);
        rest = after;
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        if is_kept(name) {
            out.extend_from_slice(line);
        }
    }
}

fn is_kept(name: &[u8]) -> bool {
    if fields::classify(name) != Field::Other {
        return false;
    }
    let mut plain = [0; REFUSED_BYTES_MAX];
    let Some(plain) = plain.get_mut(..name.len()) else { return true };
    for (byte, of_name) in plain.iter_mut().zip(name) {
        // As for header fields: some readers take one for the other.
        *byte = if *of_name == b'_' { b'-' } else { of_name.to_ascii_lowercase() };
    }
    REFUSED.binary_search(&&*plain).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(lines: &str) -> String {
        let mut out = Vec::new();
        write_kept(lines.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn plain_fields_are_kept_as_they_came() {
        let lines = "grpc-status: 0\r\nServer-Timing:a;dur=1\r\nX-Sum:\r\n";
        assert_eq!(kept(lines), lines);
        assert_eq!(kept(""), "");
    }

    #[test]
    fn what_would_change_the_message_is_dropped() {
        for name in [
            "Content-Length",
            "transfer-encoding",
            "Host",
            "Connection",
            "Trailer",
            "TE",
            "Upgrade",
            "Keep-Alive",
            "Expect",
            "Authorization",
            "Proxy-Authorization",
            "Cookie",
            "Set-Cookie",
            "set_cookie",
            "X-Forwarded-For",
            "x_forwarded_for",
            "Forwarded",
            "X-Real-IP",
            "Handover-Draining",
            "Handover-Release",
            "X-Request-Id",
            "traceparent",
            "Content-Type",
            "Cache-Control",
            "WWW-Authenticate",
            "Location",
        ] {
            assert_eq!(kept(&format!("{name}: 5\r\nX-Sum: 1\r\n{name}:\r\n")), "X-Sum: 1\r\n", "{name}");
        }
    }

    #[test]
    fn the_list_can_be_searched() {
        assert!(REFUSED.is_sorted());
        assert!(REFUSED.iter().all(|name| name.len() <= REFUSED_BYTES_MAX));
    }
}
