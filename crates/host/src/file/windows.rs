//! Plain files; the lock is not there yet.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use crate::{Descriptor, unsupported};

pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.to_owned();
    name.push(format!(".{}.{:x}.new", std::process::id(), crate::random::seed()));
    let temporary = path.with_file_name(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // It may not be there at all; the error that counts is the first one.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

pub(super) fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_private(path, bytes)
}

pub(super) fn append_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

pub(super) fn punch_hole(_: &File, _: u64, _: u64) -> io::Result<()> {
    unsupported()
}

pub(super) fn preallocate(file: &File, length: u64) -> io::Result<()> {
    if file.metadata()?.len() < length { file.set_len(length) } else { Ok(()) }
}

pub(super) fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

pub(super) fn try_lock(_: &Path) -> io::Result<Option<Descriptor>> {
    unsupported()
}

pub(super) fn confirm_lock(_: &Descriptor) -> io::Result<()> {
    unsupported()
}

pub(super) fn is_standard_error(_: &File) -> bool {
    false
}

pub(super) fn identity(_: &std::fs::Metadata) -> u64 {
    0
}
