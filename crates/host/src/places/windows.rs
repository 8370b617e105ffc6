//! `%ProgramData%` for everything.

use std::io;
use std::path::{Path, PathBuf};

fn base() -> Option<PathBuf> {
    std::env::var_os("ProgramData")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .map(|p| p.join("Handover"))
}

pub(super) fn manifest() -> Option<PathBuf> {
    base().map(|base| base.join("handover.toml"))
}

pub(super) fn state_dir() -> Option<PathBuf> {
    base()
}

pub(super) fn others_may_change(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|_| false)
}

pub(super) fn others_may_read(path: &Path) -> io::Result<bool> {
    std::fs::metadata(path).map(|_| false)
}
