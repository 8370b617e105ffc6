//! Readiness datagrams: `NOTIFY_SOCKET`, one socket per instance.
//!
//! Who sends is known by the socket it arrives on. The holder binds it and keeps it open; the agent reads.

use std::io;
use std::path::Path;

use crate::Descriptor;

#[cfg(unix)]
#[path = "notify/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "notify/windows.rs"]
mod system;

/// Largest datagram that is read whole; longer ones are cut.
pub const DATAGRAM_BYTES_MAX: usize = 4096;

/// Binds a datagram socket on a path, 0600, for a process of that user and group (`None`: ours).
///
/// # Errors
/// When the path is too long or its directory does not let us.
pub fn bind(path: &Path, owner: Option<(u32, u32)>) -> io::Result<Descriptor> {
    system::bind(path, owner)
}

/// Sends one datagram, as a service does.
///
/// # Errors
/// When nobody has bound that path.
pub fn send(path: &Path, text: &str) -> io::Result<()> {
    system::send(path, text)
}

/// The reading end in a tokio runtime.
#[derive(Debug)]
pub struct NotifySocket(system::Socket);

impl NotifySocket {
    /// Binds as `bind` does, and reads itself.
    ///
    /// # Errors
    /// As `bind`.
    pub fn bind(path: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        Self::from_descriptor(&bind(path, owner)?)
    }

    /// Reads from a copy of a descriptor.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn from_descriptor(socket: &Descriptor) -> io::Result<Self> {
        Ok(Self(system::Socket::new(socket)?))
    }

    /// The next datagram; cancel-safe.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn recv(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
        let received = self.0.recv(&mut bytes).await?;
        bytes.truncate(received);
        Ok(bytes)
    }

    /// The next datagram, which stays there for whoever reads after us until `take` is called; cancel-safe.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn peek(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; DATAGRAM_BYTES_MAX];
        let received = self.0.peek(&mut bytes).await?;
        bytes.truncate(received);
        Ok(bytes)
    }

    /// Removes the datagram that `peek` gave, if nobody else has.
    pub fn take(&self) {
        self.0.take();
    }
}
