//! System calls without the C library.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

#[inline]
pub(super) fn poll_read(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let read = || Ok(rustix::net::recv(stream, &mut *buffer, RecvFlags::empty())?.0);
        match stream.try_io(Interest::READABLE, read) {
            Ok(count) => {
                if count > 0 && count < buffer.len() {
                    // All that was there: more will be told, and a call to find nothing is spared.
                    let _nothing = stream.try_io(Interest::READABLE, would_block);
                }
                return Poll::Ready(Ok(count));
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

#[inline]
pub(super) fn poll_write(
    stream: &TcpStream,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let whole: usize = pieces.iter().map(|piece| piece.len()).sum();
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let write = || match pieces {
            [piece] => Ok(rustix::net::send(stream, piece, SendFlags::NOSIGNAL)?),
            pieces => {
                let nothing = &mut SendAncillaryBuffer::default();
                Ok(rustix::net::sendmsg(stream, pieces, nothing, SendFlags::NOSIGNAL)?)
            }
        };
        match stream.try_io(Interest::WRITABLE, write) {
            Ok(count) => {
                if count > 0 && count < whole {
                    let _full = stream.try_io(Interest::WRITABLE, would_block);
                }
                return Poll::Ready(Ok(count));
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

fn would_block() -> io::Result<()> {
    Err(io::ErrorKind::WouldBlock.into())
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
