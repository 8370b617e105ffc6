//! Reading and writing a TCP connection with nothing between the runtime's readiness and the system call.
//!
//! The C library makes of each call a place where its thread may be cancelled, with two locked instructions a call: the
//! four calls of a proxied request took 6.7 µs directly and 7.3 µs through it (medians of 25 rounds of 200,000 over
//! loopback). It does not register connections, and has no buffers.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use tokio::net::TcpStream;

#[cfg(unix)]
#[path = "tcp/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "tcp/windows.rs"]
mod system;

/// Reads once; 0 is the end of the stream, or no room. Pending: the task is woken when there is something to read.
///
/// # Errors
/// What the system says.
#[inline]
pub fn poll_read(stream: &TcpStream, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
    system::poll_read(stream, cx, buffer)
}

/// Writes once. Pending: the task is woken when there is room.
///
/// # Errors
/// What the system says.
#[inline]
pub fn poll_write(stream: &TcpStream, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
    system::poll_write(stream, cx, &[IoSlice::new(bytes)])
}

/// Writes the pieces, one after the other, once.
///
/// # Errors
/// What the system says.
#[inline]
pub fn poll_write_vectored(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    system::poll_write(stream, cx, pieces)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
        (one.unwrap(), other.unwrap().0)
    }

    #[tokio::test]
    async fn what_is_written_is_read_and_the_end_is_seen() {
        let (one, other) = pair().await;
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            let mut buffer = [0; 7];
            loop {
                match poll_fn(|cx| poll_read(&other, cx, &mut buffer)).await.unwrap() {
                    0 => return got,
                    count => got.extend_from_slice(&buffer[..count]),
                }
            }
        });
        let pieces = [IoSlice::new(b"hello "), IoSlice::new(b"world")];
        assert_eq!(poll_fn(|cx| poll_write_vectored(&one, cx, &pieces)).await.unwrap(), 11);
        assert_eq!(poll_fn(|cx| poll_write(&one, cx, b"!")).await.unwrap(), 1);
        drop(one);
        assert_eq!(reading.await.unwrap(), b"hello world!");
    }

    #[tokio::test]
    async fn who_finds_no_room_is_woken_once_there_is_some() {
        let (one, other) = pair().await;
        let block = vec![7; 1 << 20];
        let mut sent = 0;
        while let Poll::Ready(count) = poll_fn(|cx| Poll::Ready(poll_write(&one, cx, &block))).await {
            sent += count.unwrap();
        }
        let writing = tokio::spawn(async move { poll_fn(|cx| poll_write(&one, cx, b"last")).await.unwrap() });
        let mut buffer = vec![0; 1 << 20];
        let mut got = 0;
        while got < sent {
            got += poll_fn(|cx| poll_read(&other, cx, &mut buffer)).await.unwrap();
        }
        assert_eq!(writing.await.unwrap(), 4);
    }
}
