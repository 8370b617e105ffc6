//! Modes, O_NOFOLLOW, FICLONE, syncfs.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, OFlags};

use super::{Facts, Kind};

const EXECUTE_BITS: u32 = 0o111;
const SET_ID_BITS: u32 = 0o6000;

#[expect(clippy::unnecessary_wraps, reason = "the other system's twin can fail")]
pub(super) fn facts(metadata: &Metadata) -> io::Result<Facts> {
    let of = metadata.file_type();
    let kind = if of.is_dir() {
        Kind::Directory
    } else if of.is_file() {
        Kind::File
    } else if of.is_symlink() {
        Kind::Link
    } else if of.is_socket() {
        Kind::Other("a socket")
    } else if of.is_fifo() {
        Kind::Other("a named pipe")
    } else {
        Kind::Other("a device")
    };
    let mode = metadata.mode();
    // On a directory the bit only says which group new entries get.
    let set_id = kind == Kind::File && mode & SET_ID_BITS != 0;
    Ok(Facts { kind, executable: mode & EXECUTE_BITS != 0, set_id, bytes: metadata.len() })
}

pub(super) fn open_plain(path: &Path) -> io::Result<File> {
    // NONBLOCK: a named pipe that took the file's place must not keep us waiting.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    OpenOptions::new().read(true).custom_flags(i32::from_ne_bytes(flags.to_ne_bytes())).open(path)
}

pub(super) fn is_executable(path: &Path) -> bool {
    // Root may run a file only if somebody may; `access` knows.
    rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

pub(super) fn set_rights(path: &Path, executable: bool) -> io::Result<()> {
    std::fs::set_permissions(path, Permissions::from_mode(if executable { 0o755 } else { 0o644 }))
}

pub(super) fn make_link(target: &Path, path: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

pub(super) fn share_content(from: &File, to: &File) -> bool {
    rustix::fs::ioctl_ficlone(to, from).is_ok()
}

pub(super) fn sync_all_of(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(path)?)?)
}
