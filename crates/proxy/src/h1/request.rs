//! Request heads: read strictly, checked, and rewritten for the instance.
//!
//! One reading or a refusal: framing, host and target decide who sees what, so anything that two readers
//! could take differently ends the connection. Fields that end at this hop are dropped, and what the client
//! claims about forwarding is replaced by what is known. A wish for another protocol is passed on only by a request of
//! HTTP/1.1 without a body; with one, or where it is unclear, it is as if it had not been said. Bodies are not looked
//! at here.

use std::mem::MaybeUninit;
use std::net::IpAddr;

use httparse::{Header, Status};
use model::chunked::ChunkDecoder;

use crate::h1::FIELDS_MAX;
use crate::h1::answer::Answer;
use crate::h1::body::BodyReader;
use crate::h1::fields::{self, ConnectionTokens, Field};
use crate::h1::forwarded::Via;
use crate::h1::ids::{IdSource, Ids, Kept};
use crate::h1::response::Asked;
use crate::h1::upgrade;

/// Longest method; which methods there are is the instance's business.
const METHOD_BYTES_MAX: usize = 32;

/// What a request may be at most.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RequestLimits {
    /// Header fields.
    pub(crate) fields: usize,
    /// Bytes of body.
    pub(crate) body_bytes: u64,
}

/// What routing and the access log need of a request, kept in buffers that are used again.
#[derive(Debug, Default)]
pub(crate) struct Target {
    /// As the client wrote it.
    pub(crate) method: Vec<u8>,
    /// Without query.
    pub(crate) path: Vec<u8>,
    /// Lower case, without port; empty when a 1.0 client named none.
    pub(crate) host: Vec<u8>,
    /// The client, where a trusted proxy says that it is another than the peer.
    pub(crate) client: Option<IpAddr>,
    /// Its names.
    pub(crate) ids: Ids,
}

/// A checked request.
#[derive(Debug)]
pub(crate) struct RequestHead {
    /// HEAD: the answer has no body.
    pub(crate) is_head: bool,
    /// May be sent twice without harm.
    pub(crate) is_idempotent: bool,
    /// HTTP/1.0 rather than 1.1.
    pub(crate) is_1_0: bool,
    /// The client wants the connection to go on.
    pub(crate) keep_alive: bool,
    /// Its body.
    pub(crate) body: BodyReader,
    /// It waits for 100 before it sends the body.
    pub(crate) expects_continue: bool,
    /// The client takes trailers.
    pub(crate) takes_trailers: bool,
    /// The protocols it wants to go on with, as they were offered to the instance.
    pub(crate) upgrade: Option<Box<[u8]>>,
}

impl RequestHead {
    /// What the response depends on.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            is_head: self.is_head,
            is_1_0: self.is_1_0,
            keep_alive: self.keep_alive,
            takes_trailers: self.takes_trailers,
        }
    }
}

const fn bad(why: &'static str) -> Answer {
    Answer::new(400, why)
}

/// Reads the whole head `head`, fills `target`, and appends the head for the instance to `out`.
///
/// # Errors
/// With the answer to give before the connection is closed; `out` is then of no use.
pub(crate) fn read_request(
    head: &[u8],
    limits: RequestLimits,
    via: &Via,
    source: &IdSource,
    target: &mut Target,
    out: &mut Vec<u8>,
) -> Result<RequestHead, Answer> {
    let mut room = [const { MaybeUninit::<Header<'_>>::uninit() }; FIELDS_MAX];
    let room = &mut room[..limits.fields.min(FIELDS_MAX)];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, room) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(bad("the request head ends in two places")),
        Err(error) => return Err(refusal(error, head)),
    }
    let (Some(method), Some(uri), Some(version)) = (request.method, request.path, request.version) else {
        return Err(bad("the request line is not complete"));
    };
    let is_1_0 = version == 0;
    check_method(method)?;
    let form = read_uri(method, uri, via)?;
    let headers = &*request.headers;
    let mut kinds = fields::kinds(headers);
    let seen = Seen::read(headers, &kinds, is_1_0)?;
    let (body, expects_continue) = seen.framing(is_1_0, limits.body_bytes)?;

    let named = form.authority.or(seen.host);
    if named.is_none() && !is_1_0 {
        return Err(bad("the Host field is missing"));
    }
    target.fill(method, &form, named)?;
    let host = named.unwrap_or(via.fallback_host());
    write_start(method, &form, host, out);
    let kept = seen.decide_ids(headers, &kinds, &mut target.ids, source);
    seen.keep(kept, &body, &mut kinds);
    let is_kept = |at: usize| {
        kinds[at] == Field::Other
            && !(seen.connection.names_fields
                && fields::is_named(headers, &kinds, headers[at].name.as_bytes()))
    };
    fields::copy_kept(head, headers, is_kept, out);
    target.client = via.write(headers, host, out);
    target.ids.write_made(kept, out);
    let upgrade = if is_1_0 || !body.is_done() { None } else { seen.upgrade() };
    let takes_trailers = !is_1_0 && seen.takes_trailers;
    write_wishes(upgrade.as_deref(), takes_trailers, out);
    write_end(seen.content_length, &body, out);
    Ok(RequestHead {
        is_head: method == "HEAD",
        is_idempotent: matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS"),
        is_1_0,
        keep_alive: if is_1_0 { seen.connection.keep_alive } else { true } && !seen.connection.close,
        body,
        expects_continue,
        takes_trailers,
        upgrade,
    })
}

fn check_method(method: &str) -> Result<(), Answer> {
    match method {
        "CONNECT" => Err(Answer::new(501, "CONNECT is not offered here")),
        "TRACE" => Err(Answer::new(405, "TRACE is not offered here")),
        _ if method.len() > METHOD_BYTES_MAX => Err(Answer::new(501, "the method is longer than any")),
        _ => Ok(()),
    }
}

fn refusal(error: httparse::Error, head: &[u8]) -> Answer {
    match error {
        httparse::Error::TooManyHeaders => Answer::new(431, "the request has too many header fields"),
        httparse::Error::Version if names_other_version(head) => {
            Answer::new(505, "this is neither HTTP/1.1 nor HTTP/1.0")
        }
        httparse::Error::HeaderName => bad("a header name is not acceptable"),
        httparse::Error::HeaderValue => bad("a header value is not acceptable"),
        _ => bad("the request line is not acceptable"),
    }
}

/// Whether the request line is whole and only its version is not ours.
fn names_other_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (Some(_), Some(_), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

/// A request target in whichever form it came.
#[derive(Debug)]
struct Uri<'a> {
    authority: Option<&'a [u8]>,
    /// Empty in absolute form without a path.
    path_and_query: &'a str,
}

fn read_uri<'a>(method: &str, uri: &'a str, via: &Via) -> Result<Uri<'a>, Answer> {
    if uri.contains('#') {
        return Err(bad("a request target has no fragment"));
    }
    if uri.starts_with('/') {
        return Ok(Uri { authority: None, path_and_query: uri });
    }
    if uri == "*" {
        return match method {
            "OPTIONS" => Ok(Uri { authority: None, path_and_query: uri }),
            _ => Err(bad("the target * is for OPTIONS only")),
        };
    }
    let after = |scheme: &str| {
        let (start, rest) = uri.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let rest = after("http://")
        .or_else(|| after("https://").filter(|_| via.is_https()))
        .ok_or(bad("the request target is neither a path nor an http address"))?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path_and_query) = rest.split_at(end);
    let path_and_query = if method == "OPTIONS" && path_and_query.is_empty() { "*" } else { path_and_query };
    Ok(Uri { authority: Some(authority.as_bytes()), path_and_query })
}

impl Target {
    fn fill(&mut self, method: &str, uri: &Uri<'_>, named: Option<&[u8]>) -> Result<(), Answer> {
        self.clear();
        self.method.extend_from_slice(method.as_bytes());
        let path = uri.path_and_query.split('?').next().unwrap_or_default();
        self.path.extend_from_slice(if path.starts_with('/') { path.as_bytes() } else { b"/" });
        if let Some(named) = named {
            let authority = fields::authority(named).ok_or(bad("the host is not a name or an address"))?;
            self.host.extend_from_slice(authority.host);
            self.host.make_ascii_lowercase();
        }
        Ok(())
    }

    /// Forgets the last request.
    pub(crate) fn clear(&mut self) {
        self.method.clear();
        self.path.clear();
        self.host.clear();
        self.client = None;
        self.ids.clear();
    }
}

/// What the fields of a request said, as far as it matters here.
#[derive(Debug, Default)]
struct Seen<'a> {
    host: Option<&'a [u8]>,
    content_length: Option<u64>,
    chunked: bool,
    connection: ConnectionTokens,
    expect: Option<&'a [u8]>,
    takes_trailers: bool,
    has_trailer: bool,
    has_tracestate: bool,
    upgrade: Once<'a>,
    request_id: Once<'a>,
    traceparent: Once<'a>,
}

/// A field that counts if it is there once.
#[derive(Debug, Default, Clone, Copy)]
enum Once<'a> {
    #[default]
    No,
    At(usize, &'a [u8]),
    Often,
}

impl<'a> Once<'a> {
    fn add(&mut self, at: usize, value: &'a [u8]) {
        *self = if matches!(self, Self::No) { Self::At(at, value) } else { Self::Often };
    }
}

impl<'a> Seen<'a> {
    fn read(headers: &[Header<'a>], kinds: &[Field], is_1_0: bool) -> Result<Self, Answer> {
        let mut seen = Self::default();
        for (at, (header, kind)) in headers.iter().zip(kinds).enumerate() {
            match kind {
                Field::Other | Field::KeepAlive | Field::Draining | Field::Dropped => {}
                Field::Te => seen.takes_trailers |= fields::takes_trailers(header.value),
                Field::Trailer => seen.has_trailer = true,
                Field::Upgrade => seen.upgrade.add(at, header.value),
                Field::RequestId => seen.request_id.add(at, header.value),
                Field::Traceparent => seen.traceparent.add(at, header.value),
                Field::Tracestate => seen.has_tracestate = true,
                Field::Host if seen.host.is_some() => return Err(bad("there is more than one Host field")),
                Field::Host => seen.host = Some(header.value),
                Field::ContentLength if seen.content_length.is_some() => {
                    return Err(bad("there is more than one Content-Length"));
                }
                Field::ContentLength => {
                    let length = fields::content_length(header.value);
                    seen.content_length = Some(length.ok_or(bad("Content-Length is not a plain number"))?);
                }
                Field::TransferEncoding => seen.transfer_encoding(header.value, is_1_0)?,
                Field::Connection => seen.connection.add(header.value),
                Field::Expect => seen.expect = Some(header.value),
            }
        }
        if seen.connection.malformed {
            return Err(bad("Connection is not a list of names"));
        }
        if seen.connection.names_framing {
            return Err(bad("Connection names a field that cannot be dropped"));
        }
        Ok(seen)
    }

    fn transfer_encoding(&mut self, value: &[u8], is_1_0: bool) -> Result<(), Answer> {
        if is_1_0 {
            return Err(bad("HTTP/1.0 has no Transfer-Encoding"));
        }
        if self.chunked {
            return Err(bad("there is more than one Transfer-Encoding"));
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Answer::new(501, "the only Transfer-Encoding here is chunked"));
        }
        self.chunked = true;
        Ok(())
    }

    /// The ids of the request; a field that `Connection` names is not there.
    fn decide_ids(&self, headers: &[Header<'_>], kinds: &[Field], ids: &mut Ids, source: &IdSource) -> Kept {
        let value = |field: Once<'a>| match field {
            Once::At(at, _)
                if self.connection.names_fields
                    && fields::is_named(headers, kinds, headers[at].name.as_bytes()) =>
            {
                None
            }
            Once::At(_, value) => Some(value),
            Once::No | Once::Often => None,
        };
        ids.decide(value(self.request_id), value(self.traceparent), source)
    }

    /// Marks fields that are passed on because of what others say.
    fn keep(&self, kept: Kept, body: &BodyReader, kinds: &mut [Field]) {
        for (field, is_kept) in [(self.request_id, kept.request_id), (self.traceparent, kept.trace)] {
            if let (Once::At(at, _), true) = (field, is_kept) {
                kinds[at] = Field::Other;
            }
        }
        let has_trailer = self.has_trailer && matches!(body, BodyReader::Chunked(_));
        let has_tracestate = self.has_tracestate && kept.trace;
        if has_trailer || has_tracestate {
            for kind in kinds {
                if has_trailer && *kind == Field::Trailer || has_tracestate && *kind == Field::Tracestate {
                    *kind = Field::Other;
                }
            }
        }
    }

    /// What is offered to the instance.
    fn upgrade(&self) -> Option<Box<[u8]>> {
        match self.upgrade {
            Once::At(_, value) if self.connection.upgrade => upgrade::offered(value),
            _ => None,
        }
    }

    fn framing(&self, is_1_0: bool, body_bytes_max: u64) -> Result<(BodyReader, bool), Answer> {
        let body = match (self.chunked, self.content_length) {
            (true, Some(_)) => return Err(bad("Transfer-Encoding and Content-Length exclude each other")),
            (true, None) => BodyReader::Chunked(ChunkDecoder::default()),
            (false, length) => BodyReader::Length(length.unwrap_or(0)),
        };
        if self.content_length.is_some_and(|length| length > body_bytes_max) {
            return Err(Answer::new(413, "the body is larger than this listener takes"));
        }
        let expects_continue = match self.expect {
            Some(value) if !is_1_0 => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Answer::new(417, "the only expectation here is 100-continue"));
                }
                !body.is_done()
            }
            _ => false,
        };
        Ok((body, expects_continue))
    }
}

fn write_start(method: &str, uri: &Uri<'_>, host: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    if !uri.path_and_query.starts_with(['/', '*']) {
        out.push(b'/');
    }
    out.extend_from_slice(uri.path_and_query.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\n");
}

/// Appends what the client wants of this hop, and we of the next.
fn write_wishes(upgrade: Option<&[u8]>, takes_trailers: bool, out: &mut Vec<u8>) {
    if let Some(upgrade) = upgrade {
        out.extend_from_slice(b"Connection: Upgrade\r\nUpgrade: ");
        out.extend_from_slice(upgrade);
        out.extend_from_slice(b"\r\n");
    } else if takes_trailers {
        out.extend_from_slice(b"Connection: TE\r\nTE: trailers\r\n");
    }
}

fn write_end(content_length: Option<u64>, body: &BodyReader, out: &mut Vec<u8>) {
    match (body, content_length) {
        (BodyReader::Chunked(_), _) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        (_, Some(length)) => {
            out.extend_from_slice(b"Content-Length: ");
            out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        (_, None) => {}
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
