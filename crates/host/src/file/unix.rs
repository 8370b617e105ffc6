//! Modes, fallocate, flock.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, fallocate, flock};
use rustix::io::Errno;

use crate::Descriptor;

/// Zeros written at a time where the file system cannot set space aside.
const ZERO_BYTES: usize = 64 << 10;

pub(super) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, true)
}

pub(super) fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, false)
}

fn replace(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let mut name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?.to_owned();
    name.push(format!(".{}.{:x}.new", std::process::id(), crate::random::seed()));
    let temporary = directory.join(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        std::fs::rename(&temporary, path)?;
        if durable { sync_directory(directory) } else { Ok(()) }
    })();
    if written.is_err() {
        // It may not be there at all; the error that counts is the first one.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

pub(super) fn append_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

pub(super) fn punch_hole(file: &File, offset: u64, length: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, length) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::Unsupported.into()),
        other => Ok(other?),
    }
}

pub(super) fn preallocate(file: &File, length: u64) -> io::Result<()> {
    match fallocate(file, FallocateFlags::empty(), 0, length) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        other => return Ok(other?),
    }
    let mut at = file.metadata()?.len();
    while at < length {
        let most = usize::try_from(length - at).unwrap_or(ZERO_BYTES).min(ZERO_BYTES);
        file.write_all_at(&vec![0; most], at)?;
        at += most as u64;
    }
    Ok(())
}

pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

pub(super) fn try_lock(path: &Path) -> io::Result<Option<Descriptor>> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let descriptor = Arc::new(OwnedFd::from(file));
    match flock(&descriptor, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(descriptor)),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Locking again what is locked through the same open file succeeds; through another one it would not.
pub(super) fn confirm_lock(descriptor: &Descriptor) -> io::Result<()> {
    Ok(flock(descriptor, FlockOperation::NonBlockingLockExclusive)?)
}

pub(super) fn is_standard_error(file: &File) -> bool {
    let Ok(ours) = rustix::fs::fstat(file) else { return false };
    rustix::fs::fstat(rustix::stdio::stderr())
        .is_ok_and(|e| e.st_dev == ours.st_dev && e.st_ino == ours.st_ino)
}

pub(super) fn identity(facts: &std::fs::Metadata) -> u64 {
    facts.ino()
}
