//! Which header fields mean something to a proxy, and the values of those that do.
//!
//! Everything else is passed on as it came. Names that only a gateway's translation (`_` for `-`) turns into
//! one of ours are told apart too: they are how such a check is usually walked around.

use crate::h1::FIELDS_MAX;

/// What a header field is to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    /// Passed on as it is.
    Other,
    /// `Host`.
    Host,
    /// `Content-Length`.
    ContentLength,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Connection`.
    Connection,
    /// `Expect`.
    Expect,
    /// `Keep-Alive`.
    KeepAlive,
    /// `Handover-Draining`.
    Draining,
    /// `TE`.
    Te,
    /// `Trailer`.
    Trailer,
    /// `Upgrade`.
    Upgrade,
    /// `X-Request-Id`.
    RequestId,
    /// `traceparent`.
    Traceparent,
    /// `tracestate`.
    Tracestate,
    /// Ends at this hop, or is written anew by us.
    Dropped,
}

/// What the field `name` is, in any case.
pub(crate) fn classify(name: &[u8]) -> Field {
    // Most names begin with no letter of ours: nothing else of them has to be looked at.
    match name.first().map(|first| first | 0x20) {
        Some(b'c' | b'e' | b'f' | b'h' | b'k' | b'p' | b't' | b'u' | b'x') => {}
        _ => return Field::Other,
    }
    match known(name) {
        Field::Other if memchr::memchr(b'_', name).is_some() => translated(name),
        field => field,
    }
}

/// Told by length and first letter before anything is compared.
fn known(name: &[u8]) -> Field {
    let Some(first) = name.first() else { return Field::Other };
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    match (name.len(), first | 0x20) {
        (2, b't') if is("te") => Field::Te,
        (4, b'h') if is("host") => Field::Host,
        // Names a proxy to CGI programs that trust HTTP_PROXY.
        (5, b'p') if is("proxy") => Field::Dropped,
        (6, b'e') if is("expect") => Field::Expect,
        (7, b't') if is("trailer") => Field::Trailer,
        (7, b'u') if is("upgrade") => Field::Upgrade,
        (9, b'f') if is("forwarded") => Field::Dropped,
        (9, b'x') if is("x-real-ip") => Field::Dropped,
        (10, b'c') if is("connection") => Field::Connection,
        (10, b'k') if is("keep-alive") => Field::KeepAlive,
        (10, b't') if is("tracestate") => Field::Tracestate,
        (11, b't') if is("traceparent") => Field::Traceparent,
        (12, b'x') if is("x-request-id") => Field::RequestId,
        (14, b'c') if is("content-length") => Field::ContentLength,
        // Of an upgrade to HTTP/2, which is never passed on.
        (14, b'h') if is("http2-settings") => Field::Dropped,
        (16, b'p') if is("proxy-connection") => Field::Dropped,
        (17, b't') if is("transfer-encoding") => Field::TransferEncoding,
        (17, b'h') if is("handover-draining") => Field::Draining,
        (_, b'x') if has_prefix(name, b"x-forwarded-") => Field::Dropped,
        (_, b'h') if has_prefix(name, b"handover-") => Field::Dropped,
        _ => Field::Other,
    }
}

/// A name with `_` that becomes one of ours where `_` and `-` are the same is dropped.
#[cold]
fn translated(name: &[u8]) -> Field {
    let dashed: Vec<u8> = name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
    if known(&dashed) == Field::Other { Field::Other } else { Field::Dropped }
}

fn has_prefix(name: &[u8], prefix: &[u8]) -> bool {
    name.len() > prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix)
}

/// What the `Connection` fields of a head say together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ConnectionTokens {
    /// `close` is among them.
    pub(crate) close: bool,
    /// `keep-alive` is among them.
    pub(crate) keep_alive: bool,
    /// `upgrade` is among them.
    pub(crate) upgrade: bool,
    /// They name fields that end at this hop.
    pub(crate) names_fields: bool,
    /// They name a field without which the message would be another one.
    pub(crate) names_framing: bool,
    /// Something in them is not a token.
    pub(crate) malformed: bool,
}

impl ConnectionTokens {
    /// Adds the tokens of one field value.
    pub(crate) fn add(&mut self, value: &[u8]) {
        for token in list(value) {
            let is = |other: &str| token.eq_ignore_ascii_case(other.as_bytes());
            if is("close") {
                self.close = true;
            } else if is("keep-alive") {
                self.keep_alive = true;
            } else if token.iter().all(|byte| model::chunked::is_token(*byte)) {
                self.names_fields = true;
                self.upgrade |= is("upgrade");
                self.names_framing |=
                    matches!(known(token), Field::Host | Field::ContentLength | Field::TransferEncoding);
            } else {
                self.malformed = true;
            }
        }
    }
}

/// Whether one of the `Connection` fields in `headers` names the field `name`.
pub(crate) fn is_named(headers: &[httparse::Header<'_>], kinds: &[Field], name: &[u8]) -> bool {
    headers
        .iter()
        .zip(kinds)
        .filter(|(_, kind)| **kind == Field::Connection)
        .any(|(header, _)| list(header.value).any(|token| token.eq_ignore_ascii_case(name)))
}

/// The elements of a list, without empty ones.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Whether a `TE` says that trailers are taken; nothing else of it holds beyond this hop.
pub(crate) fn takes_trailers(value: &[u8]) -> bool {
    list(value).any(|token| token.eq_ignore_ascii_case(b"trailers"))
}

/// The value of a `Content-Length`: digits and nothing else, at most 18 of them.
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
}

/// Seconds of a `Keep-Alive: timeout=N`.
pub(crate) fn keep_alive_timeout(value: &[u8]) -> Option<u64> {
    list(value).find_map(|part| {
        let (name, seconds) = part.split_at_checked(8)?;
        if name.eq_ignore_ascii_case(b"timeout=") { content_length(seconds) } else { None }
    })
}

/// Host name and port of a `Host` field or an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Authority<'a> {
    /// Name or address as it came, without port and trailing dot.
    pub(crate) host: &'a [u8],
}

/// Reads an authority: a name, an IPv4 address or an IPv6 address in brackets, with or without a port.
/// User names, lists and percent signs are refused: not everybody reads them the same way.
pub(crate) fn authority(value: &[u8]) -> Option<Authority<'_>> {
    let (host, port) = if let Some(rest) = value.strip_prefix(b"[") {
        let end = rest.iter().position(|byte| *byte == b']')?;
        let address = &rest[..end];
        if address.len() < 2 || !address.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte)) {
            return None;
        }
        (&value[..end + 2], &rest[end + 1..])
    } else {
        let end = value.iter().position(|byte| *byte == b':').unwrap_or(value.len());
        let name = &value[..end];
        if !name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~'))
        {
            return None;
        }
        (name.strip_suffix(b".").unwrap_or(name), &value[end..])
    };
    let digits = match port {
        [] => port,
        [b':', digits @ ..] => digits,
        _ => return None,
    };
    let is_port = digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit);
    let is_host = !host.is_empty() && host.len() <= model::routing::HOST_BYTES_MAX;
    (is_port && is_host).then_some(Authority { host })
}

/// The fields of one head by kind.
pub(crate) fn kinds(headers: &[httparse::Header<'_>]) -> [Field; FIELDS_MAX] {
    let mut kinds = [Field::Other; FIELDS_MAX];
    for (kind, header) in kinds.iter_mut().zip(headers) {
        *kind = classify(header.name.as_bytes());
    }
    kinds
}

/// Appends the field lines of `head` that are passed on, as they came, in as few copies as possible.
///
/// Lines of a head that `scan` accepted end where the next name begins.
pub(crate) fn copy_kept(
    head: &[u8],
    headers: &[httparse::Header<'_>],
    is_kept: impl Fn(usize) -> bool,
    out: &mut Vec<u8>,
) {
    let offset = |at: usize| match headers.get(at) {
        Some(header) => header.name.as_ptr().addr() - head.as_ptr().addr(),
        None => head.len() - 2,
    };
    let mut run = offset(0);
    for at in 0..headers.len() {
        if !is_kept(at) {
            out.extend_from_slice(&head[run..offset(at)]);
            run = offset(at + 1);
        }
    }
    out.extend_from_slice(&head[run..head.len() - 2]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case_and_in_translation() {
        assert_eq!(classify(b"hOsT"), Field::Host);
        assert_eq!(classify(b"X-Forwarded-For"), Field::Dropped);
        assert_eq!(classify(b"X_Forwarded_For"), Field::Dropped);
        assert_eq!(classify(b"Content_Length"), Field::Dropped);
        assert_eq!(classify(b"Transfer-Encoding"), Field::TransferEncoding);
        assert_eq!(classify(b"handover-release"), Field::Dropped);
        assert_eq!(classify(b"X_Request_Id"), Field::Dropped);
        assert_eq!(classify(b"HTTP2-Settings"), Field::Dropped);
        assert_eq!(classify(b"TraceParent"), Field::Traceparent);
        assert_eq!(classify(b"X-Forwarded"), Field::Other);
    }

    #[test]
    fn connection_tokens_are_told_apart() {
        let tokens = |value: &str| {
            let mut tokens = ConnectionTokens::default();
            tokens.add(value.as_bytes());
            tokens
        };
        assert!(tokens("Close, ,TE").close && tokens("Close, TE").names_fields);
        assert!(tokens("keep-alive, Upgrade").upgrade && !tokens("keep-alive").upgrade);
        assert!(tokens("keep-alive").keep_alive && !tokens("keep-alive").names_fields);
        assert!(tokens("x, Content-Length").names_framing);
        assert!(tokens("a b").malformed);
    }

    #[test]
    fn a_length_is_digits_only() {
        assert_eq!(content_length(b"0042"), Some(42));
        for bad in ["", "+1", "-1", "1,1", "0x1", "1 ", "1000000000000000000", "１"] {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn authorities_have_one_reading() {
        let host =
            |text: &'static str| authority(text.as_bytes()).map(|it| std::str::from_utf8(it.host).unwrap());
        assert_eq!(host("a.example.com:8080"), Some("a.example.com"));
        assert_eq!(host("a.example.com."), Some("a.example.com"));
        assert_eq!(host("[::1]:80"), Some("[::1]"));
        assert_eq!(host("127.0.0.1"), Some("127.0.0.1"));
        for bad in [
            "", ".", ":80", "a b", "a@b", "a,b", "a/b", "a:8x", "a:123456", "[::1", "[::1]x", "a%41", "ä",
            "[]",
        ] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }

    #[test]
    fn keep_alive_timeouts_are_found() {
        assert_eq!(keep_alive_timeout(b"timeout=5, max=100"), Some(5));
        assert_eq!(keep_alive_timeout(b"max=3,Timeout=7"), Some(7));
        assert_eq!(keep_alive_timeout(b"max=3"), None);
    }
}
