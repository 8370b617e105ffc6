//! Where a role waits for a new holder, and how a role starts one.

use std::io;
use std::path::Path;

use crate::channel::Channel;
use crate::file::Lock;
use crate::listener::LocalListener;
use crate::paths::Layout;

#[cfg(unix)]
#[path = "rescue/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "rescue/windows.rs"]
mod system;

/// A role's socket for a new holder.
#[derive(Debug)]
pub struct RescueSocket(system::Socket);

impl RescueSocket {
    /// Binds, 0600.
    ///
    /// # Errors
    /// As `listener::bind_local`.
    pub fn bind(path: &Path) -> io::Result<Self> {
        Ok(Self(system::Socket::new(LocalListener::bind(path)?)))
    }

    /// The next connection of a process of our user or root; others are dropped. Cancel-safe.
    ///
    /// # Errors
    /// When the system cannot accept.
    pub async fn accept(&self) -> io::Result<Channel> {
        self.0.accept().await
    }
}

/// Starts `internal holder --rescue` from `binary`, in a session of its own and as nobody's child, with the lock,
/// which is no longer ours after that.
///
/// # Errors
/// When it could not be started; the lock is then free again.
pub fn spawn_rescue_holder(binary: &Path, layout: &Layout, lock: Lock) -> io::Result<()> {
    system::spawn_rescue_holder(binary, layout, &lock)
}
