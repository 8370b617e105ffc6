//! Waiting for descriptors in the one thread of a process without a runtime.

use std::io;
use std::time::Duration;

use crate::Descriptor;

#[cfg(unix)]
#[path = "poll/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "poll/windows.rs"]
mod system;

/// One descriptor and what is wanted of it.
#[derive(Debug, Clone)]
pub struct Interest {
    /// Which.
    pub descriptor: Descriptor,
    /// Wake when it can be written, too; reading, the end and errors always wake.
    pub write: bool,
}

/// What a descriptor is ready for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ready {
    /// Something can be read, or the other end is gone.
    pub read: bool,
    /// Something can be written.
    pub write: bool,
}

/// Waits until one of them is ready or `timeout` is over, and says for each, in order, what it is ready for.
///
/// # Errors
/// When the system has no memory for it. A signal is no error: nothing is ready then.
pub fn wait(interests: &[Interest], timeout: Duration) -> io::Result<Vec<Ready>> {
    system::wait(interests, timeout)
}
