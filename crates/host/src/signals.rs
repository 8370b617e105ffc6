//! Signals as something to wait for, never as a handler.

use std::io;

use crate::Descriptor;

#[cfg(unix)]
#[path = "signals/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "signals/windows.rs"]
mod system;

/// A signal that the holder listens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caught {
    /// A child ended.
    Child,
    /// SIGTERM.
    Terminate,
    /// SIGINT.
    Interrupt,
    /// SIGHUP.
    HangUp,
    /// SIGUSR2.
    User2,
}

/// The signals of `Caught`, blocked in this thread and readable from a descriptor.
#[derive(Debug)]
pub struct SignalSource(system::Source);

impl SignalSource {
    /// Blocks them in the calling thread, which must be the only one.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(system::Source::new()?))
    }

    /// To poll for reading.
    pub fn descriptor(&self) -> Descriptor {
        self.0.descriptor()
    }

    /// The next signal that waits, if one does.
    ///
    /// # Errors
    /// When the descriptor fails.
    pub fn take(&mut self) -> io::Result<Option<Caught>> {
        self.0.take()
    }
}

/// Makes this process immune to what a terminal does to its processes (SIGTSTP, SIGTTIN, SIGTTOU).
pub fn ignore_job_control() {
    system::ignore_job_control();
}

/// Makes this process ignore SIGINT and SIGHUP: the holder alone answers them.
pub fn ignore_interactive() {
    system::ignore_interactive();
}

/// Waits for SIGINT or SIGTERM (Ctrl-C on Windows). For a command with one thread; the first call blocks both.
///
/// # Errors
/// When the system does not let us wait.
pub async fn terminate() -> io::Result<()> {
    system::terminate().await
}
