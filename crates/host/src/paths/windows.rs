//! No modes and no links: `run_dir` is `state_dir/run`, and the folder's access list rules.

use std::io;
use std::path::{Path, PathBuf};

pub(super) fn runtime_base() -> Option<PathBuf> {
    None
}

pub(super) fn make_directory(path: &Path, _: u32) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

pub(super) fn make_link(_: &Path, _: &Path) -> io::Result<()> {
    crate::unsupported()
}
