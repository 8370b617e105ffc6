//! Response heads of instances: read as strictly as requests, and rewritten for the client.
//!
//! A response that can be read in two ways is worth nothing: the client gets 502 instead. It does not decide
//! what to do with a draining answer or an interim one; it says that it is one.

use std::mem::MaybeUninit;
use std::time::Duration;

use httparse::{Header, Status};
use model::chunked::ChunkDecoder;

use crate::h1::FIELDS_MAX;
use crate::h1::body::{BodyReader, BodyWriter};
use crate::h1::fields::{self, ConnectionTokens, Field};
use crate::h1::upgrade;

/// What the request was, as far as the response depends on it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// HEAD.
    pub(crate) is_head: bool,
    /// By an HTTP/1.0 client.
    pub(crate) is_1_0: bool,
    /// The connection to the client may go on.
    pub(crate) keep_alive: bool,
    /// The client takes trailers.
    pub(crate) takes_trailers: bool,
}

/// A response that cannot be passed on, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadResponse(pub(crate) &'static str);

/// A checked response.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    /// Status code.
    pub(crate) status: u16,
    /// Its body, as the instance sends it.
    pub(crate) body: BodyReader,
    /// Its body, as the client gets it.
    pub(crate) writer: BodyWriter,
    /// The connection to the client goes on.
    pub(crate) keep_alive: bool,
    /// The instance lets its connection be used again.
    pub(crate) is_reusable: bool,
    /// For how long, as far as it said.
    pub(crate) reuse_for: Option<Duration>,
    /// The instance says that it is draining.
    pub(crate) is_draining: bool,
    /// What follows the body is passed on.
    pub(crate) has_trailers: bool,
}

impl ResponseHead {
    /// Whether nothing but the end of the connection tells the client where the body ends.
    pub(crate) fn ends_with_connection(&self) -> bool {
        self.writer == BodyWriter::Plain && !matches!(self.body, BodyReader::Length(_))
    }

    /// Whether the final response is still to come.
    pub(crate) fn is_interim(&self) -> bool {
        self.status < 200 && !self.is_switch()
    }

    /// Whether both sides go on with another protocol.
    pub(crate) fn is_switch(&self) -> bool {
        self.status == 101
    }
}

/// Reads the whole head `head` and appends the head for the client to `out`. The instance may take one of the
/// protocols that it was `offered`.
///
/// # Errors
/// When it can not be read in exactly one way; `out` is then of no use.
pub(crate) fn read_response(
    head: &[u8],
    asked: Asked,
    offered: Option<&[u8]>,
    out: &mut Vec<u8>,
) -> Result<ResponseHead, BadResponse> {
    let mut room = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut response, head, &mut room) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        _ => return Err(BadResponse("its head is not HTTP/1")),
    }
    let (Some(status), Some(version)) = (response.code, response.version) else {
        return Err(BadResponse("its status line is not complete"));
    };
    if !(100..=999).contains(&status) {
        return Err(BadResponse("its status is not one that was asked for"));
    }
    let headers = &*response.headers;
    let mut kinds = fields::kinds(headers);
    let seen = Seen::read(headers, &kinds, version == 0)?;
    let protocol = if status == 101 { Some(seen.protocol(offered, version == 0)?) } else { None };
    let has_no_body = status < 200 || status == 204 || status == 304;
    let body = seen.body(asked.is_head || has_no_body);
    let (writer, keep_alive) = match (&body, asked.is_1_0) {
        (BodyReader::Length(_), _) => (BodyWriter::Plain, asked.keep_alive),
        (_, true) => (BodyWriter::Plain, false),
        (_, false) => (BodyWriter::Chunked, asked.keep_alive),
    };
    let has_trailers = asked.takes_trailers && writer == BodyWriter::Chunked && seen.chunked;
    for kind in &mut kinds[..headers.len()] {
        match kind {
            Field::RequestId | Field::Traceparent | Field::Tracestate => *kind = Field::Other,
            Field::Trailer if has_trailers => *kind = Field::Other,
            _ => {}
        }
    }
    write_status(status, response.reason.unwrap_or_default(), out);
    let is_kept = |at: usize| {
        kinds[at] == Field::Other
            && !(seen.connection.names_fields
                && fields::is_named(headers, &kinds, headers[at].name.as_bytes()))
    };
    fields::copy_kept(head, headers, is_kept, out);
    let length = if status < 200 || status == 204 { None } else { seen.content_length };
    if let Some(protocol) = protocol {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
        out.extend_from_slice(protocol);
        out.extend_from_slice(b"\r\n");
    }
    write_end(status, length, writer, asked, keep_alive, out);
    Ok(ResponseHead {
        status,
        is_reusable: seen.is_reusable(version == 0) && !matches!(body, BodyReader::UntilEnd),
        reuse_for: seen.reuse_for,
        is_draining: status == 503 && seen.draining,
        has_trailers,
        body,
        writer,
        keep_alive,
    })
}

#[derive(Debug, Default)]
struct Seen<'a> {
    upgrade: Option<&'a [u8]>,
    upgrades: usize,
    content_length: Option<u64>,
    chunked: bool,
    connection: ConnectionTokens,
    reuse_for: Option<Duration>,
    draining: bool,
}

impl<'a> Seen<'a> {
    fn read(headers: &[Header<'a>], kinds: &[Field], is_1_0: bool) -> Result<Self, BadResponse> {
        let mut seen = Self::default();
        for (header, kind) in headers.iter().zip(kinds) {
            match kind {
                Field::Other
                | Field::Host
                | Field::Expect
                | Field::Te
                | Field::Trailer
                | Field::RequestId
                | Field::Traceparent
                | Field::Tracestate
                | Field::Dropped => {}
                Field::Upgrade => {
                    seen.upgrade = Some(header.value);
                    seen.upgrades += 1;
                }
                Field::ContentLength => {
                    let length = fields::content_length(header.value);
                    let length = length.ok_or(BadResponse("its Content-Length is not a plain number"))?;
                    if seen.content_length.replace(length).is_some() {
                        return Err(BadResponse("it has more than one Content-Length"));
                    }
                }
                Field::TransferEncoding => {
                    if seen.chunked || is_1_0 || !header.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(BadResponse("its Transfer-Encoding is not just chunked"));
                    }
                    seen.chunked = true;
                }
                Field::Connection => seen.connection.add(header.value),
                Field::KeepAlive => {
                    let seconds = fields::keep_alive_timeout(header.value);
                    seen.reuse_for = seconds.map(Duration::from_secs).or(seen.reuse_for);
                }
                Field::Draining => seen.draining = header.value == b"1",
            }
        }
        if seen.chunked && seen.content_length.is_some() {
            return Err(BadResponse("it has both Transfer-Encoding and Content-Length"));
        }
        Ok(seen)
    }

    /// The protocol that a 101 goes on with: one of those that were offered, and no body.
    fn protocol(&self, offered: Option<&[u8]>, is_1_0: bool) -> Result<&'a [u8], BadResponse> {
        let offered = offered.ok_or(BadResponse("it switches protocols, which was not asked for"))?;
        let is_plain = self.content_length.is_none() && !self.chunked && !is_1_0;
        match self.upgrade {
            Some(protocol)
                if is_plain
                    && self.upgrades == 1
                    && self.connection.upgrade
                    && upgrade::is_taken(offered, protocol) =>
            {
                Ok(protocol)
            }
            _ => {
                Err(BadResponse("it switches to a protocol that was not offered, or does not say so plainly"))
            }
        }
    }

    fn body(&self, has_none: bool) -> BodyReader {
        match self.content_length {
            _ if has_none => BodyReader::EMPTY,
            Some(length) => BodyReader::Length(length),
            None if self.chunked => BodyReader::Chunked(ChunkDecoder::default()),
            None => BodyReader::UntilEnd,
        }
    }

    fn is_reusable(&self, is_1_0: bool) -> bool {
        !self.connection.close && !self.connection.malformed && (!is_1_0 || self.connection.keep_alive)
    }
}

fn write_status(status: u16, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_end(
    status: u16,
    length: Option<u64>,
    writer: BodyWriter,
    asked: Asked,
    keep_alive: bool,
    out: &mut Vec<u8>,
) {
    if status >= 200 {
        if let Some(length) = length {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if writer == BodyWriter::Chunked {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        if !keep_alive {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if asked.is_1_0 {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h1::scan::HeadScan;

    const ASKED: Asked = Asked { is_head: false, is_1_0: false, keep_alive: true, takes_trailers: false };

    fn read(head: &str, asked: Asked) -> Result<(ResponseHead, String), BadResponse> {
        read_offered(head, asked, None)
    }

    fn read_offered(
        head: &str,
        asked: Asked,
        offered: Option<&[u8]>,
    ) -> Result<(ResponseHead, String), BadResponse> {
        if !matches!(HeadScan::default().find_end(head.as_bytes()), Ok(Some(end)) if end == head.len()) {
            return Err(BadResponse("scan"));
        }
        let mut out = Vec::new();
        let response = read_response(head.as_bytes(), asked, offered, &mut out)?;
        Ok((response, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn a_response_is_rewritten_for_the_client() {
        let (response, out) = read(
            "HTTP/1.1 200 Very OK\r\nServer: x\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n\
             Keep-Alive: timeout=5\r\nContent-Length: 3\r\nHandover-Internal: 1\r\nSet-Cookie: a\r\n\r\n",
            ASKED,
        )
        .unwrap();
        assert_eq!(out, "HTTP/1.1 200 Very OK\r\nServer: x\r\nSet-Cookie: a\r\nContent-Length: 3\r\n\r\n");
        assert!(response.is_reusable && response.keep_alive);
        assert_eq!(response.reuse_for, Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_body_without_length_is_chunked_for_new_clients_and_ends_the_connection_for_old_ones() {
        let head = "HTTP/1.0 200\r\n\r\n";
        let (response, out) = read(head, ASKED).unwrap();
        assert_eq!(out, "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n");
        assert!(!response.is_reusable && response.keep_alive);
        let (response, out) = read(head, Asked { is_1_0: true, ..ASKED }).unwrap();
        assert_eq!(out, "HTTP/1.1 200 \r\nConnection: close\r\n\r\n");
        assert!(!response.keep_alive && response.writer == BodyWriter::Plain);
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(!read(chunked, Asked { is_1_0: true, ..ASKED }).unwrap().0.keep_alive);
    }

    #[test]
    fn responses_without_a_body_have_none_whatever_they_announce() {
        for (head, asked) in [
            ("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", ASKED),
            ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", ASKED),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Asked { is_head: true, ..ASKED }),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Asked { is_head: true, ..ASKED }),
            ("HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", ASKED),
        ] {
            let (response, out) = read(head, asked).unwrap();
            assert!(response.body.is_done() && response.keep_alive && !out.contains("chunked"), "{head}");
            assert_eq!(
                out.contains("Content-Length"),
                head.contains("Length") && response.status != 204,
                "{head}"
            );
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
            "HTTP/1.1 200 OK\nA: b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\rSet-Cookie: c\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: b\0c\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
        ] {
            assert!(read(bad, ASKED).is_err(), "{}", bad.escape_debug());
        }
    }

    #[test]
    fn reuse_needs_consent() {
        let reusable = |head: &str| read(head, ASKED).unwrap().0.is_reusable;
        assert!(reusable("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(!reusable("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
        assert!(!reusable("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"));
        assert!(reusable("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n"));
        assert!(!reusable("HTTP/1.1 200 OK\r\n\r\n"));
    }

    #[test]
    fn draining_is_believed_on_503_only_and_never_passed_on() {
        let (response, out) =
            read("HTTP/1.1 503 No\r\nHandover-Draining: 1\r\nContent-Length: 0\r\n\r\n", ASKED).unwrap();
        assert!(response.is_draining && !out.contains("Draining"));
        let head = "HTTP/1.1 200 OK\r\nHandover-Draining: 1\r\nContent-Length: 0\r\n\r\n";
        assert!(!read(head, ASKED).unwrap().0.is_draining);
    }

    #[test]
    fn interim_responses_carry_no_framing() {
        let (response, out) = read("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", ASKED).unwrap();
        assert!(response.is_interim());
        assert_eq!(out, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
    }

    #[test]
    fn a_switch_is_taken_only_for_what_was_offered() {
        let head = |fields: &str| format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
        let offered = Some(&b"irc, websocket"[..]);
        let good =
            head("Upgrade: WebSocket\r\nConnection: x, upgrade\r\nX: hop\r\nSec-WebSocket-Accept: y\r\n");
        let (response, out) = read_offered(&good, ASKED, offered).unwrap();
        assert!(response.is_switch() && !response.is_interim() && response.body.is_done());
        assert_eq!(
            out,
            "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: y\r\nConnection: Upgrade\r\n\
             Upgrade: WebSocket\r\n\r\n"
        );
        for (fields, offered) in [
            ("Upgrade: websocket\r\nConnection: upgrade\r\n", None),
            ("Upgrade: h2c\r\nConnection: upgrade\r\n", offered),
            ("Upgrade: irc, websocket\r\nConnection: upgrade\r\n", offered),
            ("Upgrade: irc\r\nUpgrade: irc\r\nConnection: upgrade\r\n", offered),
            ("Upgrade: websocket\r\n", offered),
            ("Connection: upgrade\r\n", offered),
            ("Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n", offered),
            ("Upgrade: websocket\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n", offered),
        ] {
            assert!(read_offered(&head(fields), ASKED, offered).is_err(), "{fields}");
        }
        assert!(read_offered(&good.replace("HTTP/1.1", "HTTP/1.0"), ASKED, offered).is_err());
    }

    #[test]
    fn trailers_are_announced_only_to_who_takes_them_and_gets_chunks() {
        let takes = Asked { takes_trailers: true, ..ASKED };
        let chunked = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        let (response, out) = read(chunked, takes).unwrap();
        assert!(response.has_trailers && out.contains("\r\nTrailer: X-Sum\r\n"));
        for (head, asked) in [
            (chunked, ASKED),
            (chunked, Asked { is_1_0: true, ..takes }),
            (chunked, Asked { is_head: true, ..takes }),
            ("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nContent-Length: 5\r\n\r\n", takes),
            ("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\n\r\n", takes),
            ("HTTP/1.1 204 No Content\r\nTrailer: X-Sum\r\n\r\n", takes),
        ] {
            let (response, out) = read(head, asked).unwrap();
            assert!(!response.has_trailers && !out.contains("Trailer"), "{head}");
        }
    }

    #[test]
    fn ids_of_an_answer_are_the_instances_business() {
        let fields = "X-Request-Id: a b\r\ntraceparent: x\r\ntracestate: y\r\n";
        let (_, out) = read(&format!("HTTP/1.1 204 No\r\n{fields}\r\n"), ASKED).unwrap();
        assert_eq!(out, format!("HTTP/1.1 204 No\r\n{fields}\r\n"));
    }
}
