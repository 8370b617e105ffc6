//! Read buffers, and the pool of one thread that they come from and go back to when a connection idles.
//!
//! A buffer is a block of initialised bytes of which a part is filled; reading appends, parsing takes from
//! the front. It grows only when asked, up to a limit the caller names.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use host::splice::Pipe;
use tokio::io::{AsyncRead, ReadBuf};

/// Size of a buffer for heads and small bodies.
pub(crate) const SMALL_BYTES: usize = 16 << 10;
/// Size of a buffer for large bodies.
pub(crate) const LARGE_BYTES: usize = 64 << 10;
/// Most small buffers, and most output buffers, that a thread keeps for later.
const SPARE_SMALL_MAX: usize = 1_024;
/// Most large buffers that a thread keeps for later.
const SPARE_LARGE_MAX: usize = 64;
/// Most empty pipes that a thread keeps for later.
const SPARE_PIPES_MAX: usize = 32;
/// An output buffer that grew beyond this is not kept.
const OUTPUT_KEPT_BYTES_MAX: usize = 128 << 10;

/// Bytes read and not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn with_size(size: usize) -> Self {
        Self { bytes: vec![0; size].into_boxed_slice(), start: 0, end: 0 }
    }

    /// What is filled.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// How much is filled.
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether nothing is filled.
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How much it holds at most.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Takes `count` bytes off the front.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Makes room for at least one more byte: moves what is filled to the front, or grows up to `limit`.
    /// False when it is full at that limit.
    pub(crate) fn make_room(&mut self, limit: usize) -> bool {
        if self.end < self.bytes.len() {
            return true;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            return true;
        }
        if self.bytes.len() >= limit {
            return false;
        }
        let mut larger = vec![0; (self.bytes.len() * 2).min(limit).max(SMALL_BYTES)];
        larger[..self.end].copy_from_slice(&self.bytes);
        self.bytes = larger.into_boxed_slice();
        true
    }

    /// Reads once into the free part; 0 is the end of the stream, or no room.
    pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut free = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(stream).poll_read(cx, &mut free))?;
        let count = free.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }
}

/// The spare buffers of one thread.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    small: RefCell<Vec<Buffer>>,
    large: RefCell<Vec<Buffer>>,
    outputs: RefCell<Vec<Vec<u8>>>,
    pipes: RefCell<Vec<Pipe>>,
}

impl Buffers {
    /// An empty buffer for a head.
    pub(crate) fn small(&self) -> Buffer {
        self.small.borrow_mut().pop().unwrap_or_else(|| Buffer::with_size(SMALL_BYTES))
    }

    /// An empty buffer for a large body.
    pub(crate) fn large(&self) -> Buffer {
        self.large.borrow_mut().pop().unwrap_or_else(|| Buffer::with_size(LARGE_BYTES))
    }

    /// An empty output buffer.
    pub(crate) fn output(&self) -> Vec<u8> {
        self.outputs.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(2_048))
    }

    /// An empty pipe; `None` when the system has none.
    pub(crate) fn pipe(&self) -> Option<Pipe> {
        let spare = self.pipes.borrow_mut().pop();
        spare.or_else(|| Pipe::open().ok())
    }

    /// Gives a pipe back; what is still in one goes with it.
    pub(crate) fn give_back_pipe(&self, pipe: Pipe) {
        let mut spare = self.pipes.borrow_mut();
        if pipe.filled() == 0 && spare.len() < SPARE_PIPES_MAX {
            spare.push(pipe);
        }
    }

    /// Gives a buffer back, whatever is in it.
    pub(crate) fn give_back(&self, mut buffer: Buffer) {
        let (spare, max) = match buffer.capacity() {
            SMALL_BYTES => (&self.small, SPARE_SMALL_MAX),
            LARGE_BYTES => (&self.large, SPARE_LARGE_MAX),
            _ => return,
        };
        (buffer.start, buffer.end) = (0, 0);
        let mut spare = spare.borrow_mut();
        if spare.len() < max {
            spare.push(buffer);
        }
    }

    /// Gives an output buffer back, whatever is in it.
    pub(crate) fn give_back_output(&self, mut output: Vec<u8>) {
        let mut spare = self.outputs.borrow_mut();
        if spare.len() < SPARE_SMALL_MAX && (1..=OUTPUT_KEPT_BYTES_MAX).contains(&output.capacity()) {
            output.clear();
            spare.push(output);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_by_moving_before_growing_and_never_beyond_the_limit() {
        let mut buffer = Buffer::with_size(4);
        buffer.bytes.copy_from_slice(b"abcd");
        buffer.end = 4;
        buffer.consume(1);
        assert!(buffer.make_room(4));
        assert_eq!((buffer.filled(), buffer.capacity()), (&b"bcd"[..], 4));
        buffer.end = 4;
        assert!(!buffer.make_room(4));
        assert!(buffer.make_room(SMALL_BYTES));
        assert_eq!((&buffer.filled()[..3], buffer.capacity()), (&b"bcd"[..], SMALL_BYTES));
    }

    #[test]
    fn buffers_come_back_empty() {
        let buffers = Buffers::default();
        let mut buffer = buffers.small();
        buffer.end = 7;
        buffers.give_back(buffer);
        assert!(buffers.small().is_empty());
        buffers.give_back_output(b"x".to_vec());
        assert!(buffers.output().is_empty());
    }
}
