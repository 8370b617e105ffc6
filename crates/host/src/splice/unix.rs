//! By splice, which Linux has.

use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

pub(super) const IS_THERE: bool = true;

#[derive(Debug)]
pub(super) struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

pub(super) fn open(bytes: usize) -> io::Result<Ends> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // A smaller one does as well, with more calls.
    let _ = rustix::pipe::fcntl_setpipe_size(&write, bytes);
    Ok(Ends { read, write })
}

pub(super) fn poll_fill(
    ends: &Ends,
    stream: &TcpStream,
    max: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_read_ready(cx))?;
        let take = || splice(stream, &ends.write, max);
        if let Some(result) = told(stream.try_io(Interest::READABLE, take)) {
            return Poll::Ready(result);
        }
    }
}

pub(super) fn poll_drain(
    ends: &Ends,
    stream: &TcpStream,
    count: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(cx))?;
        let give = || splice(&ends.read, stream, count);
        if let Some(result) = told(stream.try_io(Interest::WRITABLE, give)) {
            return Poll::Ready(result);
        }
    }
}

fn splice(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, max: usize) -> io::Result<usize> {
    Ok(rustix::pipe::splice(from, None, to, None, max, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
}

/// `None` when it is to be tried again, once the runtime says so.
fn told(result: io::Result<usize>) -> Option<io::Result<usize>> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => None,
        told => Some(told),
    }
}
