//! The files of one service's log, read from either end.
//!
//! All are opened first, the newest first: while they are renamed meanwhile, one may be seen twice but none is
//! missed, and their beginnings tell them apart. A line without an end is one that is just being written: it is not
//! there yet.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::cursor::Place;

/// Bytes read at a time.
const BLOCK_BYTES: usize = 64 << 10;
/// So much of its first line names a file.
const NAMING_BYTES: usize = 256;
/// No log keeps more files.
const FILES_MAX: u32 = 10_000;

#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    id: u64,
    /// Bytes up to the end of its last whole line.
    length: u64,
}

impl LogFile {
    pub(super) fn end(&self) -> Place {
        Place { file: self.id, offset: self.length }
    }

    fn new(mut file: File) -> io::Result<Option<Self>> {
        let Some(id) = identify(&mut file)? else { return Ok(None) };
        let mut length = file.metadata()?.len();
        let mut block = Vec::new();
        // Back to the last line end.
        while length > 0 {
            let from = length.saturating_sub(BLOCK_BYTES as u64);
            read_range(&mut file, from, length, &mut block)?;
            match memchr::memrchr(b'\n', &block) {
                Some(end) => {
                    length = from + end as u64 + 1;
                    break;
                }
                None => length = from,
            }
        }
        Ok(Some(Self { file, id, length }))
    }
}

/// The files of a service's log, the newest first.
pub(super) fn open(directory: &Path, service: &str) -> io::Result<Vec<LogFile>> {
    let mut files: Vec<LogFile> = Vec::new();
    for number in 0..FILES_MAX {
        let name = if number == 0 { format!("{service}.log") } else { format!("{service}.log.{number}") };
        match File::open(directory.join(name)) {
            Ok(file) => {
                if let Some(file) = LogFile::new(file)?
                    && files.iter().all(|known| known.id != file.id)
                {
                    files.push(file);
                }
            }
            // The current one may not be there yet after a rotation.
            Err(error) if error.kind() == io::ErrorKind::NotFound && number == 0 => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(files)
}

/// From when it was made and what it begins with; `None` while its first line is not whole.
fn identify(file: &mut File) -> io::Result<Option<u64>> {
    let mut first = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(NAMING_BYTES as u64).read_to_end(&mut first)?;
    match memchr::memchr(b'\n', &first) {
        Some(end) => first.truncate(end),
        None if first.len() < NAMING_BYTES => return Ok(None),
        None => {}
    }
    let made = file.metadata()?.created().ok().and_then(|made| made.duration_since(UNIX_EPOCH).ok());
    let made = made.map_or(0, |made| made.as_nanos()).to_be_bytes();
    // FNV-1a: short, and the same in every version.
    let hash = made.iter().chain(&first).fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    Ok(Some(hash))
}

fn read_range(file: &mut File, from: u64, to: u64, block: &mut Vec<u8>) -> io::Result<()> {
    block.clear();
    file.seek(SeekFrom::Start(from))?;
    file.take(to - from).read_to_end(block)?;
    Ok(())
}

/// Lines from the newest to the oldest.
#[derive(Debug)]
pub(super) struct Backwards {
    /// The newest first.
    files: std::vec::IntoIter<LogFile>,
    file: Option<LogFile>,
    /// The bytes before `position` of the file are not read yet.
    position: u64,
    /// Bytes from `position` on that are not given yet, whole lines but for the first.
    pending: Vec<u8>,
}

impl Backwards {
    pub(super) fn new(files: Vec<LogFile>) -> Self {
        Self { files: files.into_iter(), file: None, position: 0, pending: Vec::new() }
    }

    /// There is no older one of interest.
    pub(super) fn finish(&mut self) {
        self.files = Vec::new().into_iter();
        self.file = None;
        self.position = 0;
        self.pending.clear();
    }

    /// The line before the one given last; `read` is what may still be read.
    pub(super) fn previous(&mut self, read: &mut u64) -> io::Result<Option<Vec<u8>>> {
        loop {
            let without_end = self.pending.strip_suffix(b"\n").unwrap_or(&self.pending);
            if let Some(end) = memchr::memrchr(b'\n', without_end) {
                let line = without_end[end + 1..].to_vec();
                self.pending.truncate(end + 1);
                return Ok(Some(line));
            }
            if self.position == 0 {
                if !self.pending.is_empty() {
                    let line = without_end.to_vec();
                    self.pending.clear();
                    return Ok(Some(line));
                }
                self.file = self.files.next();
                let Some(file) = &self.file else { return Ok(None) };
                self.position = file.length;
                continue;
            }
            let Some(file) = &mut self.file else { return Ok(None) };
            let from = self.position.saturating_sub(BLOCK_BYTES as u64);
            let mut block = Vec::new();
            read_range(&mut file.file, from, self.position, &mut block)?;
            *read = read.saturating_sub(self.position - from);
            self.position = from;
            block.append(&mut self.pending);
            self.pending = block;
            if *read == 0 {
                return Ok(None);
            }
        }
    }
}

/// Lines from a place to the newest.
#[derive(Debug)]
pub(super) struct Forwards {
    /// The newest first, so the next one is the last.
    files: Vec<LogFile>,
    /// In the last file.
    offset: u64,
    /// Bytes up to `offset` that are not given yet.
    pending: Vec<u8>,
}

impl Forwards {
    /// After `place`; from the oldest line there is where that is gone, or there is none.
    pub(super) fn new(mut files: Vec<LogFile>, place: Option<&Place>) -> Self {
        let at = place.and_then(|place| files.iter().position(|file| file.id == place.file));
        if let Some(at) = at {
            files.truncate(at + 1);
        }
        let offset = at.and(place).map_or(0, |place| place.offset);
        Self { files, offset, pending: Vec::new() }
    }

    /// The next line and the place after it; `read` is what may still be read.
    pub(super) fn next(&mut self, read: &mut u64) -> io::Result<Option<(Vec<u8>, Place)>> {
        loop {
            let Some(file) = self.files.last_mut() else { return Ok(None) };
            if let Some(end) = memchr::memchr(b'\n', &self.pending) {
                let rest = self.pending.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                let place = Place { file: file.id, offset: self.offset - self.pending.len() as u64 };
                return Ok(Some((line, place)));
            }
            if self.offset >= file.length {
                self.files.pop();
                (self.offset, self.pending) = (0, Vec::new());
                continue;
            }
            if *read == 0 {
                return Ok(None);
            }
            let to = file.length.min(self.offset + BLOCK_BYTES as u64);
            let mut block = Vec::new();
            read_range(&mut file.file, self.offset, to, &mut block)?;
            *read = read.saturating_sub(to - self.offset);
            self.offset = to;
            self.pending.append(&mut block);
        }
    }
}
