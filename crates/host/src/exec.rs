//! What a started process does to itself before its program runs.
//!
//! ```text
//! session → cgroup → standard streams → descriptors from 3 → signals → limits → umask → groups, group, user →
//! directory → execve
//! ```
//! A process alone in its session and cgroup can be found and ended as a whole. It is never tied to the life of the
//! thread that started it: that one may be replaced while its children go on.

use std::io;
use std::path::PathBuf;

use crate::Descriptor;

#[cfg(unix)]
#[path = "exec/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "exec/windows.rs"]
mod system;

/// Most bytes of a reason why a program was not started.
const REASON_BYTES_MAX: usize = 4096;

/// What it is to become.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setup {
    /// Program: an absolute path.
    pub program: String,
    /// Arguments, without the program's name.
    pub arguments: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Working directory, where it is not to stay as it is.
    pub working_directory: Option<PathBuf>,
    /// Descriptor numbers, now open, that become 3, 4, … in this order; no other is left open.
    pub descriptors: Vec<i32>,
    /// Set LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID for them.
    pub listen_names: Option<Vec<String>>,
    /// File for standard output, opened for append; `None` keeps it.
    pub stdout: Option<PathBuf>,
    /// File for standard error; `None` keeps it.
    pub stderr: Option<PathBuf>,
    /// `cgroup.procs` to write itself into.
    pub cgroup_procs: Option<PathBuf>,
    /// RLIMIT_NOFILE: soft and hard.
    pub open_files: Option<(u64, u64)>,
    /// Name or number of the user to become, with all of its groups.
    pub user: Option<String>,
    /// Name or number of the group to become, where that is not the user's own.
    pub group: Option<String>,
    /// File mode creation mask; `None` is 022.
    pub umask: Option<u32>,
    /// Its notify socket, for that user to own.
    pub notify_socket: Option<PathBuf>,
    /// Descriptor of the pipe whose reader gets the error, and whose end says that the program runs.
    pub error_descriptor: i32,
}

/// Becomes the program. Returns only when that failed: the pipe's reader has the reason then, for people.
pub fn become_program(setup: &Setup) -> String {
    system::become_program(setup)
}

/// A process that has not begun its program yet, as far as its starter knows: the reading end of its error pipe.
#[derive(Debug)]
pub struct Starting {
    pipe: Descriptor,
    reason: Vec<u8>,
}

impl Starting {
    /// From the reading end, which does not block; the starter keeps no writing end.
    pub fn new(pipe: Descriptor) -> Self {
        Self { pipe, reason: Vec::new() }
    }

    /// To poll for reading.
    pub fn descriptor(&self) -> Descriptor {
        self.pipe.clone()
    }

    /// Reads what is there. `Some` once it is over: with the reason where the program could not be started.
    pub fn poll(&mut self) -> Option<Result<(), String>> {
        let mut buffer = [0; REASON_BYTES_MAX];
        loop {
            match crate::process::read_pipe(&self.pipe, &mut buffer) {
                Ok(0) if self.reason.is_empty() => return Some(Ok(())),
                Ok(0) => return Some(Err(String::from_utf8_lossy(&self.reason).into_owned())),
                Ok(read) => {
                    let room = REASON_BYTES_MAX - self.reason.len();
                    self.reason.extend_from_slice(&buffer[..read.min(room)]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) => return Some(Err(format!("its start cannot be followed: {error}"))),
            }
        }
    }
}
