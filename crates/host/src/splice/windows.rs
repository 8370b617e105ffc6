//! None: there are no such pipes.

use std::io;
use std::task::{Context, Poll};

use tokio::net::TcpStream;

pub(super) const IS_THERE: bool = false;

/// Cannot exist.
#[derive(Debug)]
pub(super) enum Ends {}

pub(super) fn open(_: usize) -> io::Result<Ends> {
    Err(io::ErrorKind::Unsupported.into())
}

pub(super) fn poll_fill(
    ends: &Ends,
    _: &TcpStream,
    _: usize,
    _: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    match *ends {}
}

pub(super) fn poll_drain(
    ends: &Ends,
    _: &TcpStream,
    _: usize,
    _: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    match *ends {}
}
