//! Sealed memory: bytes in a descriptor that nobody can change any more.

use std::io;

use crate::Descriptor;

#[cfg(unix)]
#[path = "memory/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "memory/windows.rs"]
mod system;

/// Largest content that is read from a received descriptor.
pub const BYTES_MAX: u64 = 64 << 20;

/// Memory with `bytes` in it, sealed. `name` is shown by the system's tools.
///
/// # Errors
/// When there is no memory or no descriptor left.
pub fn sealed(name: &str, bytes: &[u8]) -> io::Result<Descriptor> {
    system::sealed(name, bytes)
}

/// All of its bytes, from the beginning, whatever was read before.
///
/// # Errors
/// `InvalidData` when it is not sealed, or larger than `BYTES_MAX`.
pub fn read_all(memory: &Descriptor) -> io::Result<Vec<u8>> {
    system::read_all(memory)
}

/// Takes the descriptor that this process was started with under that number. Once: whoever calls it owns it.
///
/// # Errors
/// When there is no such descriptor.
pub fn inherited(number: i32) -> io::Result<Descriptor> {
    crate::process::take_inherited(number)
}
