//! Whole process trees: a cgroup for each where cgroup v2 lets us, else session and environment.
//!
//! ```text
//! <own cgroup>/handover-<hash of state_dir>/<instance>     kill = cgroup.kill
//! no such cgroup                                           kill = its session, and every process that was started
//!                                                          with HANDOVER_INSTANCE and HANDOVER_STATE of it;
//!                                                          of a task, such as a hook, HANDOVER_TASK and HANDOVER_STATE
//! ```
//! Without a cgroup, a process that left the session with an emptied environment escapes.

use std::io;
use std::path::{Path, PathBuf};

#[cfg(unix)]
#[path = "process_tree/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "process_tree/windows.rs"]
mod system;

#[cfg(unix)]
pub(crate) use system::belongs_to_a_handover;

/// Names the instance in a process's environment.
pub const INSTANCE_VARIABLE: &str = "HANDOVER_INSTANCE";
/// Names the tree of a task, in whose environment `INSTANCE_VARIABLE` is the instance that it works for.
pub const TASK_VARIABLE: &str = "HANDOVER_TASK";
/// Names the Handover, by its state directory, in a process's environment: two on one machine never touch each other.
pub const STATE_VARIABLE: &str = "HANDOVER_STATE";

/// One tree, by its main process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Instance id.
    pub instance: String,
    /// Its main process, also after that one ended.
    pub pid: u32,
    /// When that one started.
    pub start_ticks: u64,
    /// Its cgroup, where it has one.
    pub cgroup: Option<PathBuf>,
}

/// The trees of one Handover.
#[derive(Debug)]
pub struct Trees {
    base: Option<PathBuf>,
    state: String,
}

impl Trees {
    /// Finds out what this machine lets us do, and makes our cgroup if it does.
    pub fn new(state_dir: &Path) -> Self {
        let name = format!("handover-{}", crate::paths::short_hash(state_dir));
        Self { base: system::make_base(&name), state: state_dir.to_string_lossy().into_owned() }
    }

    /// As on a machine without cgroup v2.
    pub fn without_cgroups(state_dir: &Path) -> Self {
        Self { base: None, state: state_dir.to_string_lossy().into_owned() }
    }

    /// Value of `STATE_VARIABLE` for what belongs to us.
    pub fn state(&self) -> &str {
        &self.state
    }

    /// This environment for a process of that tree, by which it is found. A task, which has the instance that it works
    /// for in it already, keeps that and gets its own tree under another name.
    pub fn marked(&self, mut environment: Vec<(String, String)>, tree: &str) -> Vec<(String, String)> {
        let is_task = environment.iter().any(|(name, value)| name == INSTANCE_VARIABLE && value != tree);
        let marker = if is_task { TASK_VARIABLE } else { INSTANCE_VARIABLE };
        environment.retain(|(name, _)| ![STATE_VARIABLE, TASK_VARIABLE, marker].contains(&name.as_str()));
        environment.push((STATE_VARIABLE.to_owned(), self.state.clone()));
        environment.push((marker.to_owned(), tree.to_owned()));
        environment
    }

    /// Makes a fresh cgroup for a tree; `None` where there are none. An earlier one of that name that still has
    /// processes is left to them.
    ///
    /// # Errors
    /// When there should be one and it cannot be made.
    pub fn make_cgroup(&self, name: &str) -> io::Result<Option<PathBuf>> {
        self.base.as_deref().map(|base| system::make_cgroup(base, name)).transpose()
    }

    /// Kills every process of a tree. Returns before they are gone.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn kill(&self, tree: &Tree) -> io::Result<()> {
        system::kill(&self.state, tree)
    }

    /// Whether a living process belongs to a tree.
    pub fn contains(&self, tree: &Tree, pid: u32) -> bool {
        system::contains(&self.state, tree, pid)
    }

    /// Limits the memory of a tree, by its cgroup.
    ///
    /// # Errors
    /// Why that cannot be kept here, and what to do, for people.
    pub fn limit_memory(&self, cgroup: Option<&Path>, bytes: u64) -> Result<(), String> {
        system::limit_memory(
            self.base.as_deref().filter(|_| cgroup.is_some()),
            &self.state,
            cgroup.unwrap_or(Path::new("")),
            bytes,
        )
    }

    /// Whether no process of a tree is left. Zombies are none.
    pub fn is_empty(&self, tree: &Tree) -> bool {
        system::is_empty(&self.state, tree)
    }

    /// Removes an empty cgroup, `WouldBlock` while processes are in it.
    ///
    /// # Errors
    /// When it is not empty, or cannot be removed.
    pub fn remove_cgroup(&self, cgroup: &Path) -> io::Result<()> {
        system::remove_cgroup(cgroup)
    }

    /// Kills what an earlier holder started and nobody knows any more: trees that are not among `known`. Says whose.
    pub fn kill_unknown(&self, known: &[Tree]) -> Vec<String> {
        system::kill_unknown(self.base.as_deref(), &self.state, known)
    }

    /// Removes our own cgroup, if it is empty.
    pub fn remove_base(&self) {
        if let Some(base) = &self.base {
            // Left behind it costs nothing, and the next start uses it.
            let _ = system::remove_cgroup(base);
        }
    }
}
