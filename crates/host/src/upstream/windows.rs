//! None: the runtime has no sockets in the file system here.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Cannot exist.
#[derive(Debug)]
pub(super) enum Local {}

impl Local {
    pub(super) fn poll_read_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    pub(super) fn try_read(&self, _: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

impl AsyncRead for Local {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match *self.get_mut() {}
    }
}

impl AsyncWrite for Local {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self.get_mut() {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self.get_mut() {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self.get_mut() {}
    }
}

pub(super) async fn connect(_: &Path) -> io::Result<Local> {
    crate::unsupported()
}

pub(super) fn is_shortage(code: i32) -> bool {
    /// WSAEMFILE, WSAENOBUFS, WSAEADDRNOTAVAIL, and their elders ERROR_TOO_MANY_OPEN_FILES and
    /// ERROR_NOT_ENOUGH_MEMORY.
    const SHORTAGES: [i32; 5] = [10_024, 10_055, 10_049, 4, 8];
    SHORTAGES.contains(&code)
}
