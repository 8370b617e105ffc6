//! What std knows; rights and links are for later.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

use super::{Facts, Kind};

pub(super) fn facts(metadata: &Metadata) -> io::Result<Facts> {
    let of = metadata.file_type();
    let kind = if of.is_dir() {
        Kind::Directory
    } else if of.is_file() {
        Kind::File
    } else if of.is_symlink() {
        Kind::Link
    } else {
        Kind::Other("neither a file nor a directory")
    };
    Ok(Facts { kind, executable: true, set_id: false, bytes: metadata.len() })
}

pub(super) fn open_plain(path: &Path) -> io::Result<File> {
    File::open(path)
}

pub(super) fn is_executable(_: &Path) -> bool {
    true
}

pub(super) fn set_rights(_: &Path, _: bool) -> io::Result<()> {
    Ok(())
}

pub(super) fn make_link(_: &Path, _: &Path) -> io::Result<()> {
    crate::unsupported()
}

pub(super) fn share_content(_: &File, _: &File) -> bool {
    false
}

pub(super) fn sync_all_of(_: &Path) -> io::Result<()> {
    Ok(())
}
