//! The file system's hierarchy standard for root, XDG for everyone else.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The bit that lets everybody write. A file's own group is trusted: it is what the file's owner chose.
const WRITABLE_BY_ALL: u32 = 0o002;
/// The bit that lets everybody read.
const READABLE_BY_ALL: u32 = 0o004;

#[expect(clippy::unnecessary_wraps, reason = "on Windows the environment may not name it")]
pub(super) fn manifest() -> Option<PathBuf> {
    Some(PathBuf::from("/etc/handover/handover.toml"))
}

pub(super) fn state_dir() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/handover"));
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))
        .map(|base| base.join("handover"))
}

pub(super) fn others_may_change(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.mode() & WRITABLE_BY_ALL != 0)
}

pub(super) fn others_may_read(path: &Path) -> io::Result<bool> {
    Ok(std::fs::metadata(path)?.mode() & READABLE_BY_ALL != 0)
}
