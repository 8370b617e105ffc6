//! What trees of processes use: processor time and memory.
//!
//! ```text
//! with a cgroup      cpu.stat; memory.current without what the kernel can drop, else the sum over its processes
//! without            the sum over the main process, its descendants and its session, from one look at /proc for all
//! ```
//! Sums count shared memory once for each process. A process that left the session and lost its parents is not counted
//! without a cgroup.

use std::time::Duration;

use crate::process_tree::Tree;

#[cfg(unix)]
#[path = "usage/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "usage/windows.rs"]
mod system;

/// What a tree uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time so far. Without a cgroup it may fall when a process ends.
    pub cpu: Duration,
    /// Memory now.
    pub memory_bytes: u64,
}

/// What each of these trees uses, in order; `None` where nothing of it runs or the system does not say.
pub fn of(trees: &[Tree]) -> Vec<Option<Usage>> {
    system::of(trees)
}
