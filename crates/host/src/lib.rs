//! The operating system seam: sockets and passing them, processes, shared memory, signals, locks, paths.
//!
//! The only crate with `unsafe` and `cfg(unix)`/`cfg(windows)`. A module `x` says what there is; `x/unix.rs` and
//! `x/windows.rs` do it. Where Windows has no twin yet the call answers `io::ErrorKind::Unsupported`.
//!
//! Every descriptor made here is close-on-exec, and sockets are non-blocking. Nothing here decides anything.

pub mod account;
#[cfg(unix)]
mod cgroup;
pub mod channel;
pub mod clock;
pub mod disk;
pub mod exec;
pub mod file;
pub mod folder;
pub mod limits;
pub mod listener;
pub mod memory;
pub mod newcomers;
pub mod notify;
pub mod out_of_memory;
pub mod paths;
pub mod places;
pub mod poll;
pub mod process;
pub mod process_tree;
pub mod pump;
pub mod random;
pub mod rescue;
pub mod signals;
pub mod sockets;
pub mod splice;
pub mod tcp;
pub mod upstream;
pub mod usage;
pub mod watch;

/// A shared, open descriptor: cloning it is cheap, the last clone closes it.
#[cfg(unix)]
pub type Descriptor = std::sync::Arc<std::os::fd::OwnedFd>;
/// A shared, open handle: cloning it is cheap, the last clone closes it.
#[cfg(windows)]
pub type Descriptor = std::sync::Arc<std::os::windows::io::OwnedHandle>;

/// The number of a descriptor in this process, for a command line or a specification.
#[cfg(unix)]
pub fn number(descriptor: &Descriptor) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(descriptor)
}
/// The number of a handle in this process, for a command line or a specification.
#[cfg(windows)]
pub fn number(_: &Descriptor) -> i32 {
    -1
}

/// What a twin that is not there yet answers.
#[cfg(windows)]
fn unsupported<T>() -> std::io::Result<T> {
    Err(std::io::Error::new(std::io::ErrorKind::Unsupported, "not supported on Windows yet"))
}
