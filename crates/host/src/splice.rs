//! Bytes from one connection to another inside the system, through a pipe, without being copied into this process.
//!
//! ```text
//!  instance ──poll_fill──► pipe ──poll_drain──► client
//! ```
//! It is filled only when it is empty, so that "nothing now" is always said of the connection and never of the pipe.
//! What is in it cannot be looked at, so only bytes that pass as they are belong here.

use std::io;
use std::task::{Context, Poll};

use tokio::net::TcpStream;

use crate::upstream::Stream;

#[cfg(any(target_os = "linux", target_os = "android"))]
#[path = "splice/unix.rs"]
mod system;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
#[path = "splice/windows.rs"]
mod system;

/// Most bytes in a pipe. The system may give less; more is of no use, for a connection has no more at once.
const PIPE_BYTES: usize = 512 << 10;

/// A pipe, and how much is in it.
#[derive(Debug)]
pub struct Pipe {
    ends: system::Ends,
    filled: usize,
}

impl Pipe {
    /// An empty one.
    ///
    /// # Errors
    /// When the system has no descriptors left, or no such way.
    pub fn open() -> io::Result<Self> {
        Ok(Self { ends: system::open(PIPE_BYTES)?, filled: 0 })
    }

    /// Whether bytes from `stream` can pass this way.
    pub fn can_take(stream: &Stream) -> bool {
        system::IS_THERE && stream.tcp().is_some()
    }

    /// Bytes in it.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Takes up to `max` bytes from `stream`; 0 is the end of that. Only when it is empty.
    ///
    /// # Errors
    /// What the system says of the stream.
    pub fn poll_fill(
        &mut self,
        stream: &Stream,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.filled, 0, "a full pipe would look like an empty connection");
        let Some(stream) = stream.tcp() else { return Poll::Ready(Err(io::ErrorKind::Unsupported.into())) };
        let poll = system::poll_fill(&self.ends, stream, max.min(PIPE_BYTES), cx);
        if let Poll::Ready(Ok(count)) = poll {
            self.filled = count;
        }
        poll
    }

    /// Writes to `stream` what it can of what is there; how much that was.
    ///
    /// # Errors
    /// What the system says of the stream.
    pub fn poll_drain(&mut self, stream: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let poll = system::poll_drain(&self.ends, stream, self.filled, cx);
        if let Poll::Ready(Ok(count)) = poll {
            self.filled -= count.min(self.filled);
        }
        poll
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    #[tokio::test]
    async fn what_goes_in_comes_out_and_the_end_is_seen() {
        let (mut source, near) = pair().await;
        let (far, mut sink) = pair().await;
        let body: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
        let sent = body.clone();
        tokio::spawn(async move { source.write_all(&sent).await.unwrap() });
        let passing = tokio::spawn(async move {
            let (near, mut pipe) = (Stream::from(near), Pipe::open().unwrap());
            assert!(Pipe::can_take(&near));
            while poll_fn(|cx| pipe.poll_fill(&near, 1 << 20, cx)).await.unwrap() > 0 {
                while pipe.filled() > 0 {
                    assert!(poll_fn(|cx| pipe.poll_drain(&far, cx)).await.unwrap() > 0);
                }
            }
        });
        let mut got = Vec::new();
        sink.read_to_end(&mut got).await.unwrap();
        passing.await.unwrap();
        assert!(got == body, "{} of {} bytes", got.len(), body.len());
    }
}
