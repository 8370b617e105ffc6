//! The system's own places for a manifest and for state, and who may read or change a file there.
//!
//! Only names them: nothing is made or read here, but a file's rights.

use std::io;
use std::path::{Path, PathBuf};

#[cfg(unix)]
#[path = "places/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "places/windows.rs"]
mod system;

/// Where the machine's manifest is: `/etc/handover/handover.toml`, `%ProgramData%\Handover\handover.toml`.
pub fn system_manifest() -> Option<PathBuf> {
    system::manifest()
}

/// Where state lives if the manifest does not say: `/var/lib/handover` for root, else
/// `$XDG_STATE_HOME/handover` or `~/.local/state/handover`; `%ProgramData%\Handover`. `None` where the
/// environment names no such place.
pub fn default_state_dir() -> Option<PathBuf> {
    system::state_dir()
}

/// Users other than its owner may change the file (on Windows, where the access list of the folder rules: `false`).
///
/// # Errors
/// When the file's rights cannot be read.
pub fn others_may_change(path: &Path) -> io::Result<bool> {
    system::others_may_change(path)
}

/// Users other than its owner may read the file (on Windows, where the access list of the folder rules: `false`). Its
/// group counts as its owner does.
///
/// # Errors
/// When the file's rights cannot be read.
pub fn others_may_read(path: &Path) -> io::Result<bool> {
    system::others_may_read(path)
}
