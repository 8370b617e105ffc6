//! The twin record files: written in place by turns, so that one of the two is always whole.
//!
//! ```text
//!  a: sequence 8 (whole)     b: sequence 7 (whole)
//!     write 9 goes to b ──►     torn by a crash: a still holds 8
//!                               written and synced: b holds 9, and 10 will go to a
//! ```
//! Both files have their full size from the start, so a write needs no space on the disk.
//! It deliberately repairs nothing: a damaged file is simply the next to be written.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use agent::world::StoreError;
use host::paths::Layout;
use wire::record::{self, Record, RecordError, SLOT_BYTES};

/// What the files held when they were opened.
#[derive(Debug)]
pub struct Loaded {
    /// The newest whole record.
    pub record: Option<Record>,
    /// What was wrong with a file, for people; a file that was never written is not wrong.
    pub damaged: Vec<String>,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system said no.
    #[error("the record file {path} cannot be opened: {error}")]
    Io {
        /// Which.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// Written by a version that this one cannot read. Nothing is touched.
    #[error("the record file {path}: {error}; start the version of Handover that wrote it")]
    Newer {
        /// Which.
        path: PathBuf,
        /// The cause.
        error: RecordError,
    },
}

/// The two files, open.
#[derive(Debug)]
pub struct RecordFiles {
    files: [(PathBuf, File); 2],
    sequence: u64,
    next: usize,
}

impl RecordFiles {
    /// Opens the files, making them where they are missing, and reads the newest whole record.
    ///
    /// # Errors
    /// When they cannot be opened, or belong to a version that this one cannot read.
    pub fn open(layout: &Layout) -> Result<(Self, Loaded), OpenError> {
        let mut damaged = Vec::new();
        let mut newest: Option<(u64, usize, Record)> = None;
        let mut files = Vec::new();
        for slot in 0..2 {
            let path = layout.record(slot);
            let mut file = open(&path).map_err(|error| OpenError::Io { path: path.clone(), error })?;
            match read(&mut file).map_err(|error| OpenError::Io { path: path.clone(), error })? {
                Ok((sequence, record)) => {
                    if newest.as_ref().is_none_or(|(best, ..)| sequence > *best) {
                        newest = Some((sequence, slot, record));
                    }
                }
                Err(RecordError::Empty) => {}
                Err(error @ RecordError::Json(_)) => return Err(OpenError::Newer { path, error }),
                Err(error) => damaged.push(format!("the record file {}: {error}", path.display())),
            }
            files.push((path, file));
        }
        let files = files.try_into().expect("invariant: two slots were opened");
        let (sequence, next, record) = match newest {
            Some((sequence, slot, record)) => (sequence, 1 - slot, Some(record)),
            None => (0, 0, None),
        };
        Ok((Self { files, sequence, next }, Loaded { record, damaged }))
    }

    /// Makes `record` durable in the file that does not hold the newest.
    ///
    /// # Errors
    /// When it is not durable; the former one still is, and the next write goes to the same file again.
    pub fn write(&mut self, record: &Record) -> Result<(), StoreError> {
        let (path, file) = &mut self.files[self.next];
        let refused = |why: String| StoreError { path: path.display().to_string(), why };
        let bytes = record::encode(self.sequence + 1, record).map_err(|error| refused(error.to_string()))?;
        let write = |file: &mut File| {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&bytes)?;
            file.sync_data()
        };
        write(file).map_err(|error| refused(error.to_string()))?;
        self.sequence += 1;
        self.next = 1 - self.next;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    let right_size = std::fs::metadata(path).is_ok_and(|m| m.len() >= SLOT_BYTES as u64);
    if !right_size {
        // What a too short file holds may be the only record there is: it is kept and made longer. Zeros are
        // really written, so that no later write in place has to find space.
        let mut bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        bytes.resize(SLOT_BYTES, 0);
        host::file::write_private(path, &bytes)?;
    }
    OpenOptions::new().read(true).write(true).open(path)
}

fn read(file: &mut File) -> io::Result<Result<(u64, Record), RecordError>> {
    let mut bytes = Vec::with_capacity(SLOT_BYTES);
    file.take(SLOT_BYTES as u64).read_to_end(&mut bytes)?;
    Ok(record::decode(&bytes))
}

#[cfg(test)]
mod tests;
