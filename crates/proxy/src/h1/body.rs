//! Where a body ends, and how it is framed for the other side.

use model::chunked::{ChunkDecoder, ChunkError, ChunkStep};

use crate::h1::trailers;

/// How the end of a body is found.
#[derive(Debug, Clone)]
pub(crate) enum BodyReader {
    /// That many bytes are left.
    Length(u64),
    /// Chunked coding.
    Chunked(ChunkDecoder),
    /// Everything until the stream ends.
    UntilEnd,
}

/// What is at the start of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// `len` bytes of data after `skip` bytes of framing.
    Data {
        /// Framing to drop.
        skip: usize,
        /// Data that follows it.
        len: usize,
    },
    /// `len` bytes of trailer lines after `skip` bytes of framing; all of them together are whole lines.
    Trailers {
        /// Framing to drop.
        skip: usize,
        /// Trailer lines that follow it.
        len: usize,
    },
    /// Framing only, all of it; more is needed.
    More,
    /// The body ended after `skip` bytes of framing.
    End {
        /// Framing to drop.
        skip: usize,
    },
}

impl BodyReader {
    /// No body at all.
    pub(crate) const EMPTY: Self = Self::Length(0);

    /// Looks at `input`; the caller drops what it is told about before the next call.
    pub(crate) fn next_piece(&mut self, input: &[u8]) -> Result<Piece, ChunkError> {
        match self {
            Self::Length(0) => Ok(Piece::End { skip: 0 }),
            Self::Length(_) | Self::UntilEnd if input.is_empty() => Ok(Piece::More),
            Self::Length(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= len as u64;
                Ok(Piece::Data { skip: 0, len })
            }
            Self::UntilEnd => Ok(Piece::Data { skip: 0, len: input.len() }),
            Self::Chunked(decoder) => Ok(match decoder.step(input)? {
                ChunkStep::Data { skip, len } => Piece::Data { skip, len },
                ChunkStep::Trailers { skip, len } => Piece::Trailers { skip, len },
                ChunkStep::More => Piece::More,
                ChunkStep::End { skip } => Piece::End { skip },
            }),
        }
    }

    /// `count` more bytes passed by that nobody looked at; only of a length.
    pub(crate) fn skip(&mut self, count: u64) {
        if let Self::Length(left) = self {
            *left = left.saturating_sub(count);
        }
    }

    /// Whether nothing more belongs to it.
    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(decoder) => decoder.is_done(),
            Self::UntilEnd => false,
        }
    }

    /// Bytes still to come, as far as that is known.
    pub(crate) fn left_at_most(&self) -> u64 {
        match self {
            Self::Length(left) => *left,
            Self::Chunked(_) | Self::UntilEnd => u64::MAX,
        }
    }
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyWriter {
    /// As it is: a length was announced, or the end of the stream ends it.
    Plain,
    /// In the chunked coding.
    Chunked,
}

impl BodyWriter {
    /// Appends what comes before `len` bytes of data.
    pub(crate) fn begin(self, len: usize, out: &mut Vec<u8>) {
        if self == Self::Chunked {
            write_hex(len, out);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends what comes after a piece of data.
    pub(crate) fn finish_piece(self, out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Appends a piece of data with its framing.
    pub(crate) fn write(self, data: &[u8], out: &mut Vec<u8>) {
        self.begin(data.len(), out);
        out.extend_from_slice(data);
        self.finish_piece(out);
    }

    /// Appends the end.
    pub(crate) fn end(self, out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"0\r\n\r\n");
        }
    }

    /// Appends the end, with those of the trailer lines `lines` that may be passed on.
    pub(crate) fn end_with(self, lines: &[u8], out: &mut Vec<u8>) {
        if self == Self::Chunked {
            out.extend_from_slice(b"0\r\n");
            trailers::write_kept(lines, out);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn write_hex(mut number: usize, out: &mut Vec<u8>) {
    let mut digits = [0_u8; 16];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b"0123456789abcdef"[number % 16];
        number /= 16;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_takes_exactly_its_bytes() {
        let mut body = BodyReader::Length(5);
        assert_eq!(body.next_piece(b""), Ok(Piece::More));
        assert_eq!(body.next_piece(b"abc"), Ok(Piece::Data { skip: 0, len: 3 }));
        assert_eq!(body.next_piece(b"deGET"), Ok(Piece::Data { skip: 0, len: 2 }));
        assert_eq!(body.next_piece(b"GET"), Ok(Piece::End { skip: 0 }));
        assert!(body.is_done());
    }

    #[test]
    fn chunks_are_written_with_plain_sizes() {
        let mut out = Vec::new();
        BodyWriter::Chunked.write(&[b'x'; 26], &mut out);
        BodyWriter::Chunked.end(&mut out);
        assert_eq!(out, [b"1a\r\n".to_vec(), vec![b'x'; 26], b"\r\n0\r\n\r\n".to_vec()].concat());
        let mut out = Vec::new();
        BodyWriter::Plain.write(b"x", &mut out);
        BodyWriter::Plain.end(&mut out);
        BodyWriter::Plain.end_with(b"a: b\r\n", &mut out);
        assert_eq!(out, b"x");
        let mut out = Vec::new();
        BodyWriter::Chunked.end_with(b"a: b\r\nHost: c\r\n", &mut out);
        assert_eq!(out, b"0\r\na: b\r\n\r\n");
    }
}
