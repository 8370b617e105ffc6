//! Sockets by rustix, accepted on by tokio.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, socket_with, sockopt};
use tokio::net::{UnixListener, UnixStream};

use super::{LOCAL_BACKLOG, Peer};
use crate::Descriptor;

pub(super) type Stream = UnixStream;

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

pub(super) fn bind_tcp(address: SocketAddr, backlog: u32) -> io::Result<Descriptor> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, FLAGS, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    let socket = Arc::new(socket);
    listen(&socket, backlog)?;
    Ok(socket)
}

pub(super) fn listen(listener: &Descriptor, backlog: u32) -> io::Result<()> {
    Ok(rustix::net::listen(listener, i32::try_from(backlog).unwrap_or(i32::MAX))?)
}

pub(super) fn bind_local(path: &Path) -> io::Result<Descriptor> {
    let address = local_address_of(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    remove_socket(path)?;
    rustix::net::bind(&socket, &address)?;
    // Before anybody can connect: that needs `listen`.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    rustix::net::listen(&socket, LOCAL_BACKLOG)?;
    Ok(Arc::new(socket))
}

/// The address of a path, or why there is none.
pub(crate) fn local_address_of(path: &Path) -> io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(path).map_err(|_too_long| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "the path {} has {} bytes and a local socket's may have {}",
                path.display(),
                path.as_os_str().len(),
                crate::paths::SOCKET_PATH_BYTES_MAX
            ),
        )
    })
}

/// Removes a socket that was left there, and nothing but a socket.
pub(crate) fn remove_socket(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is in its place"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

pub(super) fn local_address(listener: &Descriptor) -> io::Result<SocketAddr> {
    let address = rustix::net::getsockname(listener)?;
    SocketAddr::try_from(address)
        .map_err(|_other_family| io::Error::new(io::ErrorKind::InvalidInput, "it is no TCP socket"))
}

pub(super) fn into_tcp(listener: &Descriptor) -> io::Result<tokio::net::TcpListener> {
    let copy = std::net::TcpListener::from(listener.as_fd().try_clone_to_owned()?);
    copy.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(copy)
}

pub(super) fn is_listening(listener: &Descriptor) -> bool {
    sockopt::socket_acceptconn(listener).unwrap_or(false)
}

pub(super) fn socket_cookie(socket: &Descriptor) -> io::Result<u64> {
    Ok(sockopt::socket_cookie(socket)?)
}

#[derive(Debug)]
pub(super) struct Listener(UnixListener);

impl Listener {
    pub(super) fn new(listener: &Descriptor) -> io::Result<Self> {
        let copy = std::os::unix::net::UnixListener::from(listener.as_fd().try_clone_to_owned()?);
        copy.set_nonblocking(true)?;
        Ok(Self(UnixListener::from_std(copy)?))
    }

    pub(super) async fn accept(&self) -> io::Result<Stream> {
        Ok(self.0.accept().await?.0)
    }
}

pub(super) async fn connect(path: &Path) -> io::Result<Stream> {
    UnixStream::connect(path).await
}

pub(super) fn peer(stream: &Stream) -> io::Result<Peer> {
    let credentials = stream.peer_cred()?;
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    Ok(Peer { pid, uid: credentials.uid() })
}

pub(super) fn into_descriptor(stream: Stream) -> io::Result<Descriptor> {
    Ok(Arc::new(OwnedFd::from(stream.into_std()?)))
}
