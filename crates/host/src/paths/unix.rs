//! Modes, owners and symbolic links.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// What a login of root gets.
const ROOTS_LOGIN: &str = "/run/user/0";

pub(super) fn runtime_base() -> Option<PathBuf> {
    let euid = geteuid();
    if let Some(base) = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from)
        && base.is_absolute()
        && std::fs::metadata(&base).is_ok_and(|m| m.is_dir() && m.uid() == euid.as_raw())
        // Root's own is closed to the users that services run as, and goes with root's last login.
        && base != Path::new(ROOTS_LOGIN)
    {
        return Some(base);
    }
    euid.is_root().then(|| PathBuf::from("/run"))
}

/// Makes the directory with that mode. One that is there keeps its mode, and must be ours.
pub(super) fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match DirBuilder::new().mode(mode).create(path) {
        // The umask took bits away.
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let found = std::fs::metadata(path)?;
            let euid = geteuid().as_raw();
            if !found.is_dir() {
                return Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory"));
            }
            if found.uid() != euid && found.uid() != 0 {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    format!("it belongs to user {} and we are user {euid}", found.uid()),
                ));
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// Makes `link` lead to `target`, whatever link was there.
pub(super) fn make_link(target: &Path, link: &Path) -> io::Result<()> {
    match std::fs::read_link(link) {
        Ok(found) if found == target => return Ok(()),
        Ok(_) => std::fs::remove_file(link)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(io::Error::new(
                error.kind(),
                "it is in the way: a link to the run directory belongs there",
            ));
        }
    }
    symlink(target, link)
}
