//! Not there yet.

use std::io;
use std::path::Path;

use crate::channel::Channel;
use crate::file::Lock;
use crate::listener::LocalListener;
use crate::paths::Layout;
use crate::unsupported;

#[derive(Debug)]
pub(super) struct Socket(LocalListener);

impl Socket {
    pub(super) fn new(listener: LocalListener) -> Self {
        Self(listener)
    }

    pub(super) async fn accept(&self) -> io::Result<Channel> {
        self.0.accept().await?;
        unsupported()
    }
}

pub(super) fn spawn_rescue_holder(_: &Path, _: &Layout, _: &Lock) -> io::Result<()> {
    unsupported()
}
