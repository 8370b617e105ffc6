//! No signals; Ctrl-C is not there yet and is waited for without end.

use std::io;

use super::Caught;
use crate::{Descriptor, unsupported};

#[derive(Debug)]
pub(super) enum Source {}

impl Source {
    pub(super) fn new() -> io::Result<Self> {
        unsupported()
    }

    pub(super) fn descriptor(&self) -> Descriptor {
        match *self {}
    }

    pub(super) fn take(&mut self) -> io::Result<Option<Caught>> {
        match *self {}
    }
}

pub(super) fn ignore_job_control() {}

pub(super) fn ignore_interactive() {}

pub(super) async fn terminate() -> io::Result<()> {
    std::future::pending().await
}
