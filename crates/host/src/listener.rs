//! Listening sockets: made once, shared as descriptors, accepted on by whoever needs to.
//!
//! One socket per address, never SO_REUSEPORT: its queue lives as long as any process holds a copy. Local sockets
//! are for the command line and are 0600.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::Descriptor;
use crate::channel::{Channel, Peer};

#[cfg(unix)]
#[path = "listener/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "listener/windows.rs"]
mod system;

#[cfg(unix)]
pub(crate) use system::{local_address_of, remove_socket};

/// The first port that everybody may listen on.
const PORT_FREE_MIN: u16 = 1024;
/// Accept queue of a local socket.
const LOCAL_BACKLOG: i32 = 128;

/// Binds and listens. An address in TIME-WAIT can be bound at once; one that somebody listens on cannot. Accepted
/// connections have TCP_NODELAY.
///
/// # Errors
/// When the address is taken, not ours, or not allowed.
pub fn bind_tcp(address: SocketAddr, backlog: u32) -> io::Result<Descriptor> {
    system::bind_tcp(address, backlog)
}

/// Binds and listens on a path, 0600, whatever socket was left there.
///
/// # Errors
/// When the path is too long or its directory does not let us.
pub fn bind_local(path: &Path) -> io::Result<Descriptor> {
    system::bind_local(path)
}

/// Binds and listens on `IP:PORT`, or on a path, with or without `unix:`. Says which address it has.
///
/// # Errors
/// As `bind_tcp` and `bind_local`, and when it is neither.
pub fn open(requested: &str, backlog: u32) -> io::Result<(Descriptor, String)> {
    let plain = requested.strip_prefix("unix:").unwrap_or(requested);
    if plain.starts_with('/') {
        return Ok((bind_local(Path::new(plain))?, plain.to_owned()));
    }
    let socket = bind_tcp(plain.parse().map_err(io::Error::other)?, backlog)?;
    let address = local_address(&socket)?.to_string();
    Ok((socket, address))
}

/// Listens (again) with that length of the accept queue; also after somebody called `shutdown` on it.
///
/// # Errors
/// When it is no bound socket.
pub fn listen(listener: &Descriptor, backlog: u32) -> io::Result<()> {
    system::listen(listener, backlog)
}

/// The address it has; the port is known here where it was bound to 0.
///
/// # Errors
/// When it is no TCP socket.
pub fn local_address(listener: &Descriptor) -> io::Result<SocketAddr> {
    system::local_address(listener)
}

/// A tokio listener on a copy of the descriptor, in the runtime this is called in.
///
/// # Errors
/// When no descriptor is left or it is no TCP listener.
pub fn into_tcp(listener: &Descriptor) -> io::Result<tokio::net::TcpListener> {
    system::into_tcp(listener)
}

/// Whether it still listens.
pub fn is_listening(listener: &Descriptor) -> bool {
    system::is_listening(listener)
}

/// Why that address could not be bound, for people: who has it, or what else is in the way.
pub fn explain(address: &str, error: &io::Error) -> String {
    let port = address.parse::<SocketAddr>().ok().map(|address| address.port());
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            let who = port.and_then(crate::sockets::who_listens_on).unwrap_or_else(|| "somebody".to_owned());
            format!("{who} listens there already; stop it, or choose another address")
        }
        io::ErrorKind::PermissionDenied if port.is_some_and(|port| port < PORT_FREE_MIN) => {
            format!(
                "{error}; ports below {PORT_FREE_MIN} need root or CAP_NET_BIND_SERVICE, or choose a higher one"
            )
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

/// What tells one socket from another, whatever the number of the descriptor and the process.
///
/// # Errors
/// When it is no socket.
pub fn socket_cookie(socket: &Descriptor) -> io::Result<u64> {
    system::socket_cookie(socket)
}

/// A listening socket on a path, in a tokio runtime.
#[derive(Debug)]
pub struct LocalListener(system::Listener);

impl LocalListener {
    /// Binds as `bind_local` does.
    ///
    /// # Errors
    /// As `bind_local`.
    pub fn bind(path: &Path) -> io::Result<Self> {
        Self::from_descriptor(&bind_local(path)?)
    }

    /// On a copy of a descriptor.
    ///
    /// # Errors
    /// When no descriptor is left or it is no local listener.
    pub fn from_descriptor(listener: &Descriptor) -> io::Result<Self> {
        Ok(Self(system::Listener::new(listener)?))
    }

    /// The next connection; cancel-safe.
    ///
    /// # Errors
    /// When the system cannot accept.
    pub async fn accept(&self) -> io::Result<LocalStream> {
        Ok(LocalStream(self.0.accept().await?))
    }
}

/// A connection on a path.
#[derive(Debug)]
pub struct LocalStream(system::Stream);

impl LocalStream {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self(system::connect(path).await?))
    }

    /// The connection as a channel, out of the runtime.
    ///
    /// # Errors
    /// When the runtime does not let it go.
    pub fn into_channel(self) -> io::Result<Channel> {
        Channel::from_descriptor(system::into_descriptor(self.0)?)
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn peer(&self) -> io::Result<Peer> {
        system::peer(&self.0)
    }
}

impl AsyncRead for LocalStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
