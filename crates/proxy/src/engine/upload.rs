//! A request on its way to an instance: head and body as they are sent, kept from the start while that is cheap.
//!
//! While nothing was dropped yet the request is *intact* and can be sent again from the beginning, to
//! somebody else, and go on from there. Once it is larger than the limit, what was sent is forgotten.

use crate::buffer::Buffer;
use crate::h1::answer::Answer;
use crate::h1::body::{BodyReader, BodyWriter, Piece};

/// Most bytes that are kept for sending a request again.
pub(crate) const REPLAY_BYTES_MAX: usize = 64 << 10;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Upload {
    /// What is sent, from the start while intact.
    bytes: Vec<u8>,
    sent: usize,
    body: BodyReader,
    writer: BodyWriter,
    body_bytes: u64,
    body_bytes_max: u64,
    ended: bool,
    intact: bool,
    /// Trailer lines, until the end is written.
    trailers: Vec<u8>,
    /// The protocols that it offers to go on with.
    offered: Option<Box<[u8]>>,
}

impl Upload {
    /// The request with the head `head`.
    pub(crate) fn new(head: Vec<u8>, body: BodyReader, body_bytes_max: u64) -> Self {
        let writer = match body {
            BodyReader::Chunked(_) => BodyWriter::Chunked,
            BodyReader::Length(_) | BodyReader::UntilEnd => BodyWriter::Plain,
        };
        Self {
            bytes: head,
            sent: 0,
            body,
            writer,
            body_bytes: 0,
            body_bytes_max,
            ended: false,
            intact: true,
            trailers: Vec::new(),
            offered: None,
        }
    }

    /// Offers the instance to go on with one of these protocols.
    pub(crate) fn offer(&mut self, protocols: Option<Box<[u8]>>) {
        self.offered = protocols;
    }

    /// The protocols that it offers to go on with.
    pub(crate) fn offered(&self) -> Option<&[u8]> {
        self.offered.as_deref()
    }

    /// The buffer, once nothing of it is to be sent any more.
    pub(crate) fn take_bytes(&mut self) -> Vec<u8> {
        self.intact = false;
        self.sent = 0;
        std::mem::take(&mut self.bytes)
    }

    /// Takes what belongs to the body from `input`.
    ///
    /// # Errors
    /// When it cannot be read in one way, or is too large.
    pub(crate) fn pull(&mut self, input: &mut Buffer) -> Result<(), Answer> {
        while !self.ended {
            let piece = self.body.next_piece(input.filled());
            match piece.map_err(|_malformed| Answer::new(400, "the body is not chunked as it must be"))? {
                Piece::More => {
                    input.consume(input.len());
                    return Ok(());
                }
                Piece::End { skip } => {
                    input.consume(skip);
                    self.writer.end_with(&self.trailers, &mut self.bytes);
                    self.ended = true;
                }
                Piece::Trailers { skip, len } => {
                    input.consume(skip);
                    self.trailers.extend_from_slice(&input.filled()[..len]);
                    input.consume(len);
                }
                Piece::Data { skip, len } => {
                    input.consume(skip);
                    self.body_bytes += len as u64;
                    if self.body_bytes > self.body_bytes_max {
                        return Err(Answer::new(413, "the body is larger than this listener takes"));
                    }
                    self.forget_sent(len);
                    self.writer.write(&input.filled()[..len], &mut self.bytes);
                    input.consume(len);
                }
            }
        }
        Ok(())
    }

    /// Drops what was sent when keeping it and `more` bytes would be too much.
    fn forget_sent(&mut self, more: usize) {
        if self.sent > 0
            && self.sent == self.bytes.len()
            && (!self.intact || self.sent + more > REPLAY_BYTES_MAX)
        {
            self.intact = false;
            self.bytes.clear();
            self.sent = 0;
        }
    }

    /// What is to be sent next.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// That many more bytes were sent.
    pub(crate) fn advance(&mut self, count: usize) {
        self.sent += count;
    }

    /// Whether all of the body was taken from the client.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Whether some of the body was taken from the client.
    pub(crate) fn has_body(&self) -> bool {
        self.body_bytes > 0
    }

    /// Bytes of the body taken from the client.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// Whether everything was sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.ended && self.pending().is_empty()
    }

    /// Whether it can be sent from the beginning.
    pub(crate) fn is_intact(&self) -> bool {
        self.intact
    }

    /// Sends it from the beginning.
    pub(crate) fn rewind(&mut self) {
        self.sent = 0;
    }

    /// Bytes of body still to come, as far as that is known.
    pub(crate) fn left_at_most(&self) -> u64 {
        self.body.left_at_most()
    }

    /// The buffer, to be used again.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}
