//! zstd as a stream of bytes: frame after frame, with their checksums.
//!
//! It deliberately refuses windows over 128 MiB, which would only cost memory.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// What a stream of frames says.
pub(super) struct Frames<R> {
    source: R,
    decoder: FrameDecoder,
    inside: bool,
}

impl<R: BufRead> Frames<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, decoder: FrameDecoder::new(), inside: false }
    }

    /// What the first frame says about its length, where it does.
    pub(super) fn announced_bytes(&mut self) -> io::Result<Option<u64>> {
        self.begin()?;
        Ok(Some(self.decoder.content_size()).filter(|bytes| *bytes > 0))
    }

    /// Goes to the next frame with content; `false` at the end.
    fn begin(&mut self) -> io::Result<bool> {
        while !self.inside {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.source) {
                Ok(()) => self.inside = true,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(broken(&error)),
            }
        }
        Ok(true)
    }

    fn end(&mut self) -> io::Result<()> {
        self.inside = false;
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a checksum in it is wrong"));
        }
        Ok(())
    }
}

fn broken(error: &FrameDecoderError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.to_string())
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.begin()? {
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.source, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(|error| broken(&error))?;
            }
            match self.decoder.read(buffer)? {
                0 => self.end()?,
                read => return Ok(read),
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Frames::new(bytes).read_to_end(&mut out).map(|_| out)
    }

    fn frame(content: &[u8]) -> Vec<u8> {
        compress_to_vec(content, CompressionLevel::Fastest)
    }

    #[test]
    fn frames_follow_each_other_and_what_is_to_be_skipped_is_skipped() {
        let content = "words ".repeat(100_000).into_bytes();
        let mut stream = frame(&content);
        stream.extend([0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 9, 9, 9]);
        stream.extend(frame(b"end"));
        assert_eq!(read(&stream).unwrap(), [content.as_slice(), b"end"].concat());
        assert_eq!(read(&[]).unwrap(), b"");
    }

    #[test]
    fn what_is_cut_or_changed_is_an_error() {
        let content: Vec<u8> =
            (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
        let whole = frame(&content);
        assert_eq!(read(&whole).unwrap(), content);
        assert!(read(&whole[..whole.len() - 1]).is_err());
        assert!(read(&whole[..whole.len() / 2]).is_err());
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        assert!(read(&changed).is_err());
        assert!(read(b"no zstd at all").is_err());
        assert!(read(&[0x50, 0x2A, 0x4D, 0x18, 3, 0, 0, 0, 9]).is_err());
    }
}
