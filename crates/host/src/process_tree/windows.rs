//! Job Objects are not there yet.

use std::io;
use std::path::{Path, PathBuf};

use super::Tree;
use crate::unsupported;

pub(super) fn make_base(_: &str) -> Option<PathBuf> {
    None
}

pub(super) fn make_cgroup(_: &Path, _: &str) -> io::Result<PathBuf> {
    unsupported()
}

pub(super) fn kill(_: &str, _: &Tree) -> io::Result<()> {
    unsupported()
}

pub(super) fn contains(_: &str, _: &Tree, _: u32) -> bool {
    false
}

pub(super) fn limit_memory(_: Option<&Path>, _: &str, _: &Path, _: u64) -> Result<(), String> {
    crate::limits::memory_grantable()
}

pub(super) fn is_empty(_: &str, _: &Tree) -> bool {
    true
}

pub(super) fn remove_cgroup(_: &Path) -> io::Result<()> {
    unsupported()
}

pub(super) fn kill_unknown(_: Option<&Path>, _: &str, _: &[Tree]) -> Vec<String> {
    Vec::new()
}
