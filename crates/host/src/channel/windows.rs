//! Not there yet.

use std::io;
use std::path::Path;

use super::Peer;
use crate::{Descriptor, unsupported};

pub(super) fn pair() -> io::Result<(Descriptor, Descriptor)> {
    unsupported()
}

pub(super) fn prepare(_: &Descriptor) -> io::Result<()> {
    unsupported()
}

pub(super) fn connect(_: &Path) -> io::Result<Descriptor> {
    unsupported()
}

pub(super) fn inherit(_: i32) -> io::Result<Descriptor> {
    unsupported()
}

pub(super) fn send(_: &Descriptor, _: &[u8], _: &[Descriptor]) -> io::Result<usize> {
    unsupported()
}

pub(super) fn receive(_: &Descriptor, _: &mut [u8], _: &mut Vec<Descriptor>) -> io::Result<usize> {
    unsupported()
}

pub(super) fn peer(_: &Descriptor) -> io::Result<Peer> {
    unsupported()
}

#[derive(Debug)]
pub(super) struct Readiness;

impl Readiness {
    pub(super) fn new(_: Descriptor) -> io::Result<Self> {
        unsupported()
    }

    pub(super) async fn readable(&self) -> io::Result<()> {
        std::future::ready(unsupported()).await
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        std::future::ready(unsupported()).await
    }

    pub(super) fn try_write<R>(&self, send: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        send()
    }

    pub(super) fn try_read<R>(&self, receive: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
        receive()
    }
}
