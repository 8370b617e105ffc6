//! Entry points for fuzzing: each takes any bytes, and panics where a promise about them is broken.
//!
//! What our code let through is read again by a reader of its own, which shares nothing with it and knows one
//! spelling of everything: canonical heads, plain lengths, chunks without extensions. No sockets, no time.

use std::task::{Context, Poll, Waker};

use model::chunked::{ChunkDecoder, ChunkStep};

use crate::buffer::{Buffer, Buffers};
use crate::engine::upload::Upload;
use crate::h1::body::{BodyWriter, Piece};
use crate::h1::forwarded::Via;
use crate::h1::ids::IdSource;
use crate::h1::request::{RequestLimits, Target, read_request};
use crate::h1::response::{Asked, read_response};
use crate::h1::scan::HeadScan;

mod canonical;

use canonical::{Kind, read_message};

/// Requests of one stream that are looked at.
const REQUESTS_MAX: usize = 8;
/// Largest body of a request here.
const BODY_BYTES_MAX: u64 = 4_096;
/// Most fields of a request here.
const FIELDS: usize = 24;

/// What a client may send: every request that is taken reaches the instance as exactly one canonical message.
/// The first byte says in which pieces it comes.
pub fn client(input: &[u8]) {
    let Some((size, mut stream)) = input.split_first() else { return };
    let via = Via::new("192.0.2.7", "http", "127.0.0.1:8080");
    let ids = IdSource::new((1, 2));
    let limits = RequestLimits { fields: FIELDS, body_bytes: BODY_BYTES_MAX };
    let buffers = Buffers::default();
    for _ in 0..REQUESTS_MAX {
        let Some(end) = head_end(stream, usize::from(*size)) else { return };
        let (head, rest) = stream.split_at(end);
        let (mut target, mut out) = (Target::default(), Vec::new());
        let Ok(request) = read_request(head, limits, &via, &ids, &mut target, &mut out) else { return };
        assert_eq!(target.path.first(), Some(&b'/'), "a path to route by begins with /");
        let mut upload = Upload::new(out, request.body, BODY_BYTES_MAX);
        let Some(taken) = pull(&mut upload, rest, usize::from(*size), &buffers) else { return };
        if !upload.has_ended() {
            return;
        }
        let sent = upload.into_bytes();
        let message = read_message(&sent, Kind::Request);
        assert_eq!(message.length, sent.len(), "one message: {}", sent.escape_ascii());
        assert!(message.has_host, "a host: {}", sent.escape_ascii());
        assert_eq!(message.is_head, request.is_head);
        stream = &rest[taken..];
    }
}

/// Gives `rest` to `upload` in pieces; how much of it is the body's, or `None` when that is refused.
fn pull(upload: &mut Upload, rest: &[u8], size: usize, buffers: &Buffers) -> Option<usize> {
    let mut taken = 0;
    let mut buffer = buffers.small();
    upload.pull(&mut buffer).ok()?;
    while !upload.has_ended() && taken < rest.len() {
        let piece = &rest[taken..rest.len().min(taken + size.max(1))];
        fill(&mut buffer, piece);
        upload.pull(&mut buffer).ok()?;
        assert!(buffer.is_empty() || upload.has_ended(), "what is not taken is the next request's");
        taken += piece.len() - buffer.len();
        buffer.consume(buffer.len());
    }
    Some(taken)
}

fn fill(buffer: &mut Buffer, mut piece: &[u8]) {
    let mut context = Context::from_waker(Waker::noop());
    let length = piece.len();
    let filled = buffer.poll_fill(&mut piece, &mut context);
    assert!(matches!(filled, Poll::Ready(Ok(count)) if count == length), "an empty buffer has room");
}

/// The end of the head, found in pieces and at once alike.
fn head_end(stream: &[u8], size: usize) -> Option<usize> {
    let at_once = HeadScan::default().find_end(stream);
    let mut scan = HeadScan::default();
    let mut in_pieces = Ok(None);
    for end in (0..stream.len()).step_by(size.max(1)).chain([stream.len()]) {
        in_pieces = scan.find_end(&stream[..end]);
        if in_pieces != Ok(None) {
            break;
        }
    }
    assert_eq!(at_once, in_pieces, "{}", stream.escape_ascii());
    at_once.ok().flatten()
}

/// What an instance may send: the client gets exactly one canonical response of it, or nothing. The first byte
/// says what was asked.
pub fn instance(input: &[u8]) {
    let Some((flags, stream)) = input.split_first() else { return };
    let asked = Asked {
        is_head: flags & 1 != 0,
        is_1_0: flags & 2 != 0,
        keep_alive: flags & 4 == 0,
        takes_trailers: flags & 8 != 0,
    };
    let offered = (flags & 16 != 0).then_some(&b"websocket"[..]);
    let Some(end) = head_end(stream, usize::from(flags >> 3)) else { return };
    let (head, mut rest) = stream.split_at(end);
    let mut out = Vec::new();
    let Ok(mut response) = read_response(head, asked, offered, &mut out) else { return };
    let ends_with_connection = response.ends_with_connection();
    assert!(!(ends_with_connection && response.keep_alive), "nobody would know its end");
    let mut trailers = Vec::new();
    loop {
        match response.body.next_piece(rest) {
            Err(_) => return,
            Ok(Piece::More) => {
                if !matches!(response.body, crate::h1::body::BodyReader::UntilEnd) {
                    return;
                }
                break;
            }
            Ok(Piece::End { .. }) => break,
            Ok(Piece::Trailers { skip, len }) => {
                assert!(len > 0 && skip + len <= rest.len());
                if response.has_trailers {
                    trailers.extend_from_slice(&rest[skip..skip + len]);
                }
                rest = &rest[skip + len..];
            }
            Ok(Piece::Data { skip, len }) => {
                assert!(len > 0 && skip + len <= rest.len());
                response.writer.write(&rest[skip..skip + len], &mut out);
                rest = &rest[skip + len..];
            }
        }
    }
    response.writer.end_with(&trailers, &mut out);
    let has_no_body = asked.is_head || response.status < 200 || matches!(response.status, 204 | 304);
    let message = read_message(&out, Kind::Response { has_no_body });
    assert!(!asked.is_1_0 || !message.is_chunked, "an old client knows no chunks");
    if ends_with_connection {
        assert!(message.length <= out.len() && !message.has_length && !message.is_chunked);
    } else {
        assert_eq!(message.length, out.len(), "one message: {}", out.escape_ascii());
    }
}

/// A chunked body in any pieces: the same as at once, the same as another reader says, and the same again when
/// it is written anew. The first byte is the size of the pieces.
pub fn chunked(input: &[u8]) {
    let Some((size, body)) = input.split_first() else { return };
    let at_once = decode([body].into_iter());
    assert_eq!(at_once, decode(body.chunks(usize::from(*size).max(1))), "{}", body.escape_ascii());
    let Some((data, Some(used))) = at_once else { return };
    assert_eq!(canonical::lenient_chunks(body), Some((data.clone(), used)), "{}", body.escape_ascii());
    let mut again = Vec::new();
    for piece in data.chunks(usize::from(*size).max(1)) {
        BodyWriter::Chunked.write(piece, &mut again);
    }
    BodyWriter::Chunked.end(&mut again);
    assert_eq!(decode([&again[..]].into_iter()), Some((data, Some(again.len()))));
}

/// The data, and how many bytes the body has if it ended; `None` when it is refused.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<(Vec<u8>, Option<usize>)> {
    let (mut decoder, mut data, mut used) = (ChunkDecoder::default(), Vec::new(), 0);
    for mut piece in pieces {
        loop {
            match decoder.step(piece).ok()? {
                ChunkStep::More => {
                    used += piece.len();
                    break;
                }
                ChunkStep::End { skip } => return Some((data, Some(used + skip))),
                ChunkStep::Trailers { skip, len } => {
                    used += skip + len;
                    piece = &piece[skip + len..];
                }
                ChunkStep::Data { skip, len } => {
                    data.extend_from_slice(&piece[skip..skip + len]);
                    used += skip + len;
                    piece = &piece[skip + len..];
                }
            }
        }
    }
    Some((data, decoder.is_done().then_some(used)))
}
