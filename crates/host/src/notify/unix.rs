//! Unix datagrams.

use std::fs::Permissions;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use crate::Descriptor;
use crate::listener::{local_address_of, remove_socket};

pub(super) fn bind(path: &Path, owner: Option<(u32, u32)>) -> io::Result<Descriptor> {
    local_address_of(path)?;
    remove_socket(path)?;
    let socket = std::os::unix::net::UnixDatagram::bind(path)?;
    socket.set_nonblocking(true)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    if let Some((user, group)) = owner {
        std::os::unix::fs::chown(path, Some(user), Some(group))?;
    }
    Ok(Arc::new(OwnedFd::from(socket)))
}

pub(super) fn send(path: &Path, text: &str) -> io::Result<()> {
    std::os::unix::net::UnixDatagram::unbound()?.send_to(text.as_bytes(), path)?;
    Ok(())
}

#[derive(Debug)]
pub(super) struct Socket(UnixDatagram);

impl Socket {
    pub(super) fn new(socket: &Descriptor) -> io::Result<Self> {
        let copy = std::os::unix::net::UnixDatagram::from(socket.as_fd().try_clone_to_owned()?);
        copy.set_nonblocking(true)?;
        Ok(Self(UnixDatagram::from_std(copy)?))
    }

    pub(super) async fn recv(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.recv(bytes).await
    }

    pub(super) async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        let look = || {
            let (_, received) =
                rustix::net::recv(&self.0, &mut *bytes, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
            Ok(received)
        };
        self.0.async_io(Interest::READABLE, look).await
    }

    pub(super) fn take(&self) {
        let _ = self.0.try_recv(&mut [0; 1]); // what does not fit is dropped with it
    }
}
