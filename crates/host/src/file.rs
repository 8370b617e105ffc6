//! Files: private ones written whole, space given back or set aside, and the lock.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::Descriptor;

#[cfg(unix)]
#[path = "file/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "file/windows.rs"]
mod system;

/// Makes `path` contain `bytes`, readable by its owner only. Through a temporary file beside it, so that a reader
/// sees the old or the new content whole, also after a crash.
///
/// # Errors
/// When it is not durable; the old content is then still there.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    system::write_private(path, bytes)
}

/// As `write_private` for what need not survive a loss of power: nothing waits for the disk. A reader sees the old or
/// the new content whole all the same.
///
/// # Errors
/// When it cannot be written; the old content is then still there.
pub fn replace_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    system::replace_private(path, bytes)
}

/// Opens for appending, readable by its owner only; made where it is missing.
///
/// # Errors
/// When it cannot be opened.
pub fn append_private(path: &Path) -> io::Result<File> {
    system::append_private(path)
}

/// Gives the space of these bytes back to the file system; they read as zeros, and the size stays.
///
/// # Errors
/// `Unsupported` where the file system cannot.
pub fn punch_hole(file: &File, offset: u64, length: u64) -> io::Result<()> {
    system::punch_hole(file, offset, length)
}

/// Sets the file's space aside, so that writing in place works on a full disk. Never shortens it.
///
/// # Errors
/// When there is not enough space.
pub fn preallocate(file: &File, length: u64) -> io::Result<()> {
    system::preallocate(file, length)
}

/// Puts the file's content on the disk.
///
/// # Errors
/// When the disk failed; what is on it is then unknown.
pub fn sync(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// Puts a directory's entries on the disk: a rename or a new file in it is durable after that.
///
/// # Errors
/// When the disk failed.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    system::sync_directory(path)
}

/// Tells one content of a path from the next without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<std::time::SystemTime>,
    bytes: u64,
    identity: u64,
}

/// What the file looks like now; links are followed.
///
/// # Errors
/// When there is none.
pub fn stamp(path: &Path) -> io::Result<Stamp> {
    let facts = std::fs::metadata(path)?;
    Ok(Stamp { modified: facts.modified().ok(), bytes: facts.len(), identity: system::identity(&facts) })
}

/// Whether the file is the one that standard error goes to.
pub fn is_standard_error(file: &File) -> bool {
    system::is_standard_error(file)
}

/// An exclusive lock on a file, held until the last copy of its descriptor closes, in whatever process.
#[derive(Debug)]
pub struct Lock {
    descriptor: Descriptor,
}

impl Lock {
    /// Takes the lock, or says `None` when somebody has it. Makes the file where it is missing.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        Ok(system::try_lock(path)?.map(|descriptor| Self { descriptor }))
    }

    /// Takes over the lock that this process was started with under that number.
    ///
    /// # Errors
    /// When there is no such descriptor, or it does not hold the lock.
    pub fn from_inherited(number: i32) -> io::Result<Self> {
        let descriptor = crate::process::take_inherited(number)?;
        system::confirm_lock(&descriptor)?;
        Ok(Self { descriptor })
    }

    /// The descriptor itself, shared; the lock lives as long as any copy of it.
    pub fn descriptor(&self) -> Descriptor {
        self.descriptor.clone()
    }
}
