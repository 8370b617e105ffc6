//! What `internal exec` and the holder need to start one process.

use serde::{Deserialize, Serialize};

/// One process to start, from the agent to the holder: an instance, or a task beside one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnSpec {
    /// Instance id, or a task's name: `INSTANCE~PURPOSE-NUMBER`.
    pub instance: String,
    /// The id as a path component, for the output files, the notify socket and the cgroup.
    pub file_name: String,
    /// Program: an absolute path.
    pub program: String,
    /// Arguments, without the program's name.
    pub arguments: Vec<String>,
    /// The whole environment; nothing is inherited. `NOTIFY_SOCKET` is added by the holder.
    pub environment: Vec<(String, String)>,
    /// Working directory: absolute.
    pub working_directory: String,
    /// Make a notify socket for it.
    pub notify: bool,
    /// Signal number that asks it to stop.
    pub stop_signal: i32,
    /// From that signal to the kill.
    pub grace_ms: u64,
    /// Name or number of the user it runs as; `None`: as the holder.
    #[serde(default)]
    pub user: Option<String>,
    /// Name or number of its group, where that is not the user's own.
    #[serde(default)]
    pub group: Option<String>,
    /// File mode creation mask.
    #[serde(default)]
    pub umask: Option<u32>,
    /// RLIMIT_NOFILE, soft and hard; `None`: what the first holder was started with.
    #[serde(default)]
    pub open_files: Option<u64>,
    /// Bytes of memory for its cgroup.
    #[serde(default)]
    pub memory_max: Option<u64>,
}

/// The specification that `internal exec` reads from its memfd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecSpec {
    /// Program: an absolute path.
    pub program: String,
    /// Arguments, without the program's name.
    pub arguments: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
    /// Working directory, where it is not to stay as it is.
    pub working_directory: Option<String>,
    /// Descriptor numbers, now open, that become 3, 4, … in this order.
    pub descriptors: Vec<i32>,
    /// Set LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID for them.
    #[serde(default)]
    pub listen_names: Option<Vec<String>>,
    /// File for standard output, opened for append; `None` keeps it.
    pub stdout: Option<String>,
    /// File for standard error; `None` keeps it.
    pub stderr: Option<String>,
    /// `cgroup.procs` to write itself into.
    pub cgroup_procs: Option<String>,
    /// RLIMIT_NOFILE to restore: soft and hard.
    pub open_files: Option<(u64, u64)>,
    /// Name or number of the user to become, with all of its groups; `None` stays.
    #[serde(default)]
    pub user: Option<String>,
    /// Name or number of the group to become, where that is not the user's own.
    #[serde(default)]
    pub group: Option<String>,
    /// File mode creation mask; `None` keeps it.
    #[serde(default)]
    pub umask: Option<u32>,
    /// Its notify socket, for that user to own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify_socket: Option<String>,
    /// Descriptor of the close-on-exec pipe on which an error is written.
    pub error_descriptor: i32,
}
