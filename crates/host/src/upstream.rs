//! A connection to an instance: TCP, or a socket in the file system where the system has those.
//!
//! It does not resolve names, does not pool, and sets no time limit: its caller does.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::tcp;

#[cfg(unix)]
#[path = "upstream/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "upstream/windows.rs"]
mod system;

/// A connection to an instance.
#[derive(Debug)]
pub struct Stream(Kind);

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Local(system::Local),
}

impl Stream {
    /// Connects to an address; small writes are sent at once.
    ///
    /// # Errors
    /// When the system says so.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self(Kind::Tcp(stream)))
    }

    /// Connects to the socket at `path`; as with TCP, a full accept queue is waited for.
    ///
    /// # Errors
    /// When the system says so, or has no such sockets.
    pub async fn connect_local(path: &Path) -> io::Result<Self> {
        Ok(Self(Kind::Local(system::connect(path).await?)))
    }

    /// The TCP connection, if it is one.
    pub(crate) fn tcp(&self) -> Option<&TcpStream> {
        match &self.0 {
            Kind::Tcp(stream) => Some(stream),
            Kind::Local(_) => None,
        }
    }

    /// Whether there may be something to read; the task is woken when that changes.
    ///
    /// # Errors
    /// When the runtime is gone.
    #[inline]
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.0 {
            Kind::Tcp(stream) => stream.poll_read_ready(cx),
            Kind::Local(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Reads what is there now.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is; else what the system says.
    #[inline]
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.0 {
            Kind::Tcp(stream) => stream.try_read(buffer),
            Kind::Local(stream) => stream.try_read(buffer),
        }
    }
}

/// Whether an error of connecting is about what this process or machine has too little of, not about the other side.
pub fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(system::is_shortage)
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self(Kind::Tcp(stream))
    }
}

impl AsyncRead for Stream {
    #[inline]
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Tcp(stream) => {
                let count = ready!(tcp::poll_read(stream, cx, buffer.initialize_unfilled()))?;
                buffer.advance(count);
                Poll::Ready(Ok(()))
            }
            Kind::Local(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    #[inline]
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Kind::Tcp(stream) => tcp::poll_write(stream, cx, bytes),
            Kind::Local(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    #[inline]
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().0 {
            Kind::Tcp(stream) => tcp::poll_write_vectored(stream, cx, pieces),
            Kind::Local(stream) => Pin::new(stream).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is kept back.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().0 {
            Kind::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Kind::Local(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_socket_in_the_file_system_is_read_and_written_like_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.sock");
        assert_eq!(Stream::connect_local(&path).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let mut stream = Stream::connect_local(&path).await.unwrap();
        let (mut served, _) = listener.accept().await.unwrap();
        assert_eq!(stream.try_read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut text = String::new();
        served.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello");
    }

    #[tokio::test]
    async fn who_finds_the_accept_queue_full_waits_for_a_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("busy.sock");
        let listener = system::listen_with_queue_of_one(&path);
        let mut waiting = Vec::new();
        let (late, _) = loop {
            let mut connecting = Box::pin(Stream::connect_local(&path));
            let first = std::future::poll_fn(|cx| Poll::Ready(connecting.as_mut().poll(cx))).await;
            match first {
                Poll::Ready(stream) => waiting.push(stream.unwrap()),
                Poll::Pending => break (connecting, waiting.len()),
            }
        };
        let (late, accepted) = tokio::join!(late, listener.accept());
        assert!(late.is_ok() && accepted.is_ok());
    }

    #[test]
    fn a_refusal_is_no_shortage_of_ours() {
        assert!(is_shortage(&io::Error::from_raw_os_error(libc::EMFILE)));
        assert!(!is_shortage(&io::Error::from_raw_os_error(libc::ECONNREFUSED)));
        assert!(!is_shortage(&io::ErrorKind::TimedOut.into()));
    }
}
