//! TCP for one process; sharing it and local sockets are not there yet.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Peer;
use crate::{Descriptor, unsupported};

pub(super) fn bind_tcp(_: SocketAddr, _: u32) -> io::Result<Descriptor> {
    unsupported()
}

pub(super) fn bind_local(_: &Path) -> io::Result<Descriptor> {
    let _ = super::LOCAL_BACKLOG;
    unsupported()
}

pub(super) fn listen(_: &Descriptor, _: u32) -> io::Result<()> {
    unsupported()
}

pub(super) fn local_address(_: &Descriptor) -> io::Result<SocketAddr> {
    unsupported()
}

pub(super) fn into_tcp(_: &Descriptor) -> io::Result<tokio::net::TcpListener> {
    unsupported()
}

pub(super) fn is_listening(_: &Descriptor) -> bool {
    false
}

pub(super) fn socket_cookie(_: &Descriptor) -> io::Result<u64> {
    unsupported()
}

#[derive(Debug)]
pub(super) enum Listener {}

impl Listener {
    pub(super) fn new(_: &Descriptor) -> io::Result<Self> {
        unsupported()
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match *self {}
    }
}

#[derive(Debug)]
pub(super) enum Stream {}

pub(super) async fn connect(_: &Path) -> io::Result<Stream> {
    std::future::ready(unsupported()).await
}

pub(super) fn peer(stream: &Stream) -> io::Result<Peer> {
    match *stream {}
}

pub(super) fn into_descriptor(stream: Stream) -> io::Result<Descriptor> {
    match stream {}
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}
