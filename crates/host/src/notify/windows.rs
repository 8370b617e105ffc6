//! Not there yet.

use std::io;
use std::path::Path;

use crate::{Descriptor, unsupported};

pub(super) fn bind(_: &Path, _: Option<(u32, u32)>) -> io::Result<Descriptor> {
    unsupported()
}

pub(super) fn send(_: &Path, _: &str) -> io::Result<()> {
    unsupported()
}

#[derive(Debug)]
pub(super) enum Socket {}

impl Socket {
    pub(super) fn new(_: &Descriptor) -> io::Result<Self> {
        unsupported()
    }

    pub(super) async fn recv(&self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) async fn peek(&self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(super) fn take(&self) {
        match *self {}
    }
}
