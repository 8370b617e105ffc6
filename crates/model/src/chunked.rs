//! The chunked transfer coding, read one way only: whatever another reader could take differently is an error.
//!
//! ```text
//!  size ──► extension ──► size line's LF ──► data ──► data's CR ──► data's LF ──► size
//!    │ "0"                       │
//!    └───────────────────────────┴──► trailer line ⇄ its LF ──► last LF ──► end
//! ```
//! Lines end with CRLF, sizes are plain hexadecimal with nothing around them, extensions are checked, bounded and
//! dropped. Trailers are checked as lines and bounded; what their names mean is not its business. It does not copy:
//! it says which bytes of the input are data, and which are trailers.

/// Longest size line, extensions included.
const SIZE_LINE_BYTES_MAX: u32 = 256;
/// Most digits of a size: 60 bits, which cannot overflow.
const SIZE_DIGITS_MAX: u32 = 15;
/// Most bytes of all trailer lines together.
const TRAILER_BYTES_MAX: u32 = 8_192;
/// Most trailer lines.
const TRAILERS_MAX: u32 = 64;

/// Why bytes are not the chunked coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// A size that is not 1 to 15 hexadecimal digits.
    #[error("a chunk's size is not a plain hexadecimal number")]
    Size,
    /// A line that does not end with CRLF, or data longer than its size.
    #[error("a chunk's line does not end where it must")]
    LineEnd,
    /// A control byte in an extension, or a line over the limit.
    #[error("a chunk's extension is not acceptable")]
    Extension,
    /// A trailer that is no field line, or too much of them.
    #[error("a trailer is not a header field")]
    Trailer,
}

/// What the decoder found at the start of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkStep {
    /// After `skip` bytes of framing come `len` (1 or more) bytes of data.
    Data {
        /// Framing to drop.
        skip: usize,
        /// Data that follows it.
        len: usize,
    },
    /// After `skip` bytes of framing come `len` (1 or more) bytes of trailer lines. All of them together, however
    /// they were cut, are whole lines `name:value` that end with CRLF.
    Trailers {
        /// Framing to drop.
        skip: usize,
        /// Trailer lines that follow it.
        len: usize,
    },
    /// All of the input was framing; more is needed.
    More,
    /// The body ended after `skip` bytes; what follows belongs to somebody else.
    End {
        /// Framing to drop.
        skip: usize,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size { digits: u32 },
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    End,
}

/// Decodes one chunked body, however it is cut into pieces.
#[derive(Debug, Clone)]
pub struct ChunkDecoder {
    state: State,
    left: u64,
    line: u32,
    trailers: u32,
}

impl Default for ChunkDecoder {
    fn default() -> Self {
        Self { state: State::Size { digits: 0 }, left: 0, line: 0, trailers: 0 }
    }
}

impl ChunkDecoder {
    /// Looks at `input`. The caller drops `skip` and `len` bytes before the next call; `More` took it all.
    ///
    /// # Errors
    /// When there is no or more than one way to read it; the message is of no use then.
    pub fn step(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        for (at, byte) in input.iter().enumerate() {
            if self.state == State::End {
                return Ok(ChunkStep::End { skip: at });
            }
            if self.is_in_trailers(*byte) {
                return Ok(ChunkStep::Trailers { skip: at, len: self.trailer_bytes(&input[at..])? });
            }
            if self.state == State::Data {
                let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len() - at);
                self.left -= len as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                return Ok(ChunkStep::Data { skip: at, len });
            }
            self.state = self.next(*byte)?;
        }
        if self.state == State::End { Ok(ChunkStep::End { skip: input.len() }) } else { Ok(ChunkStep::More) }
    }

    /// Whether `byte`, the next one, belongs to a trailer line.
    fn is_in_trailers(&self, byte: u8) -> bool {
        match self.state {
            State::TrailerStart => byte != b'\r',
            State::TrailerName | State::TrailerValue | State::TrailerLf => true,
            State::Size { .. }
            | State::Extension
            | State::SizeLf
            | State::Data
            | State::DataCr
            | State::DataLf
            | State::LastLf
            | State::End => false,
        }
    }

    /// How much of `input`, which begins in a trailer line, is trailer lines.
    fn trailer_bytes(&mut self, input: &[u8]) -> Result<usize, ChunkError> {
        for (at, byte) in input.iter().enumerate() {
            if !self.is_in_trailers(*byte) {
                return Ok(at);
            }
            self.state = self.next(*byte)?;
        }
        Ok(input.len())
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::End
    }

    fn next(&mut self, byte: u8) -> Result<State, ChunkError> {
        match self.state {
            State::Size { digits } => self.size(byte, digits),
            State::Extension => self.extension(byte),
            State::SizeLf if byte == b'\n' => {
                self.line = 0;
                Ok(if self.left == 0 { State::TrailerStart } else { State::Data })
            }
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => Ok(State::Size { digits: 0 }),
            State::SizeLf | State::DataCr | State::DataLf => Err(ChunkError::LineEnd),
            State::TrailerStart if byte == b'\r' => Ok(State::LastLf),
            State::TrailerStart if is_token(byte) => {
                self.trailers += 1;
                if self.trailers > TRAILERS_MAX {
                    return Err(ChunkError::Trailer);
                }
                self.trailer(State::TrailerName)
            }
            State::TrailerName if byte == b':' => self.trailer(State::TrailerValue),
            State::TrailerName if is_token(byte) => self.trailer(State::TrailerName),
            State::TrailerValue if byte == b'\r' => self.trailer(State::TrailerLf),
            State::TrailerValue if is_text(byte) => self.trailer(State::TrailerValue),
            State::TrailerLf if byte == b'\n' => Ok(State::TrailerStart),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf => {
                Err(ChunkError::Trailer)
            }
            State::LastLf if byte == b'\n' => Ok(State::End),
            State::LastLf => Err(ChunkError::LineEnd),
            State::Data | State::End => Ok(self.state),
        }
    }

    fn size(&mut self, byte: u8, digits: u32) -> Result<State, ChunkError> {
        if let Some(digit) = char::from(byte).to_digit(16) {
            if digits == SIZE_DIGITS_MAX {
                return Err(ChunkError::Size);
            }
            self.left = self.left * 16 + u64::from(digit);
            return Ok(State::Size { digits: digits + 1 });
        }
        match byte {
            b'\r' if digits > 0 => Ok(State::SizeLf),
            b';' if digits > 0 => Ok(State::Extension),
            _ => Err(ChunkError::Size),
        }
    }

    fn extension(&mut self, byte: u8) -> Result<State, ChunkError> {
        if byte == b'\r' {
            return Ok(State::SizeLf);
        }
        self.line += 1;
        if !is_text(byte) || self.line > SIZE_LINE_BYTES_MAX {
            return Err(ChunkError::Extension);
        }
        Ok(State::Extension)
    }

    fn trailer(&mut self, next: State) -> Result<State, ChunkError> {
        self.line += 1;
        if self.line > TRAILER_BYTES_MAX { Err(ChunkError::Trailer) } else { Ok(next) }
    }
}

/// A byte of a header name (RFC 9110 `tchar`).
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A byte of a header value: no control byte but tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Decoded = Result<(Vec<u8>, bool, usize), ChunkError>;

    /// Data, whether the end was reached, and how many bytes belong to the body.
    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
        decode_with_trailers(pieces).map(|(decoded, _)| decoded)
    }

    type WithTrailers = Result<((Vec<u8>, bool, usize), Vec<u8>), ChunkError>;

    fn decode_with_trailers<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> WithTrailers {
        let (mut decoder, mut data, mut used) = (ChunkDecoder::default(), Vec::new(), 0);
        let mut trailers = Vec::new();
        for mut piece in pieces {
            loop {
                match decoder.step(piece)? {
                    ChunkStep::Data { skip, len } => {
                        data.extend_from_slice(&piece[skip..skip + len]);
                        used += skip + len;
                        piece = &piece[skip + len..];
                    }
                    ChunkStep::Trailers { skip, len } => {
                        trailers.extend_from_slice(&piece[skip..skip + len]);
                        used += skip + len;
                        piece = &piece[skip + len..];
                    }
                    ChunkStep::More => {
                        used += piece.len();
                        break;
                    }
                    ChunkStep::End { skip } => return Ok(((data, true, used + skip), trailers)),
                }
            }
        }
        Ok(((data, decoder.is_done(), used), trailers))
    }

    #[test]
    fn chunks_extensions_and_trailers_are_read_and_the_next_request_is_left_alone() {
        let body = b"5\r\nhello\r\n0006;name=\"a b\"\r\n world\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n";
        let mut input = body.to_vec();
        input.extend_from_slice(b"GET / HTTP/1.1\r\n");
        assert_eq!(decode([&input[..]]), Ok((b"hello world".to_vec(), true, body.len())));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_an_error() {
        for bad in [
            &b"5\nhello\r\n"[..],
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhelloo\r\n",
            b"5 \r\nhello\r\n",
            b" 5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"0x5\r\nhello\r\n",
            b"5_0\r\n",
            b"-1\r\n",
            b"\r\n",
            b";a\r\n",
            b"5\r\rhello",
            b"5;a\n\r\nhello",
            b"5;a\0\r\nhello",
            b"1000000000000000\r\n",
            b"0\r\nContent-Length : 5\r\n\r\n",
            b"0\r\n folded\r\n\r\n",
            b"0\r\nA: 1\n\r\n",
            b"0\r\nA: 1\rB: 2\r\n\r\n",
            b"0\r\n\n",
            b"0\r\n\rX",
            b"0\r\n:\r\n\r\n",
        ] {
            assert!(decode([bad]).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn extensions_and_trailers_have_a_limit() {
        let long = [b"5;".to_vec(), vec![b'a'; 300]].concat();
        assert_eq!(decode([&long[..]]), Err(ChunkError::Extension));
        let many = [b"0\r\n".to_vec(), b"a: b\r\n".repeat(65)].concat();
        assert_eq!(decode([&many[..]]), Err(ChunkError::Trailer));
        let large = [b"0\r\na:".to_vec(), vec![b'a'; 9_000]].concat();
        assert_eq!(decode([&large[..]]), Err(ChunkError::Trailer));
    }

    #[test]
    fn trailer_lines_come_whole_however_they_are_cut() {
        let body = b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\nGET";
        for size in 1..body.len() {
            let (_, trailers) = decode_with_trailers(body.chunks(size)).unwrap();
            assert_eq!(trailers, b"X-Sum: 1\r\nY:\r\n", "in pieces of {size}");
        }
        assert_eq!(decode_with_trailers([&b"0\r\n\r\n"[..]]).unwrap().1, b"");
    }

    fn encoded() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6).prop_map(|chunks| {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            (bytes, chunks.concat())
        })
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_as_the_whole((bytes, data) in encoded(), size in 1_usize..9) {
            prop_assert_eq!(decode(bytes.chunks(size)), Ok((data.clone(), true, bytes.len())));
            prop_assert_eq!(decode([&bytes[..]]), Ok((data, true, bytes.len())));
        }

        #[test]
        fn any_bytes_in_any_pieces_give_the_same(
            bytes in proptest::collection::vec(prop_oneof![Just(b'0'), Just(b'2'), Just(b'\r'), Just(b'\n'), Just(b';'), Just(b'a'), Just(b':'), any::<u8>()], 0..60),
            size in 1_usize..9,
        ) {
            prop_assert_eq!(decode_with_trailers(bytes.chunks(size)), decode_with_trailers([&bytes[..]]));
        }
    }
}
