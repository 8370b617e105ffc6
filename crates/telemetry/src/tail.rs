//! One output file, read from where reading stood, and freed behind the reader.
//!
//! ```text
//!   0 ........ freed ........ position ........ size
//!     zeros (a hole)  taken, not   not taken    written by the service, always at the end
//!                     freed yet    yet
//! ```
//! `position` is always the beginning of a line. Where the file system cannot make holes, the file is cut to
//! nothing once all of it was taken; a line written in that very moment is lost there.
//! It deliberately does not watch: who owns it asks often enough.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

/// Bytes taken in one go: bounds memory, and how long one instance can keep the others waiting.
pub(crate) const READ_BYTES_MAX: usize = 1 << 20;
/// A file that cannot get holes is cut once it is this long.
const TRUNCATE_BYTES_MIN: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Tail {
    path: PathBuf,
    file: Option<File>,
    position: u64,
    freed: u64,
    /// Zeros at `position` are what a former reader took and freed, not output.
    resuming: bool,
    /// `position` may be inside a line: go on after its end.
    inside_line: bool,
    holes: bool,
}

impl Tail {
    /// A tail of the file at `path`, from where a former one stood.
    pub(crate) fn new(path: PathBuf, position: u64) -> Self {
        Self { path, file: None, position, freed: position, resuming: true, inside_line: false, holes: true }
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes that were written and not taken. 0 while there is no file.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(crate) fn unread(&mut self) -> io::Result<u64> {
        let file = match &mut self.file {
            Some(file) => file,
            closed => match OpenOptions::new().read(true).write(true).open(&self.path) {
                Ok(file) => closed.insert(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                Err(error) => return Err(error),
            },
        };
        let size = file.metadata()?.len();
        if size < self.position {
            // Someone cut it. What is in it now is new.
            (self.position, self.freed, self.resuming, self.inside_line) = (0, 0, false, false);
        }
        Ok(size - self.position)
    }

    /// Drops what is unread beyond `limit`, oldest first, and says how many bytes that was.
    pub(crate) fn drop_beyond(&mut self, limit: u64) -> io::Result<u64> {
        let excess = self.unread()?.saturating_sub(limit);
        if excess > 0 {
            self.position += excess;
            self.inside_line = true;
            self.free();
        }
        Ok(excess)
    }

    /// Fills `buffer` with what is unread, at most `READ_BYTES_MAX`, from the beginning of a line.
    pub(crate) fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        if self.unread()? == 0 {
            return Ok(());
        }
        let position = self.position;
        self.read_at(position, buffer)?;
        if self.resuming {
            let zeros = buffer.iter().take_while(|byte| **byte == 0).count();
            self.resuming = zeros == buffer.len();
            self.position += zeros as u64;
            buffer.drain(..zeros);
        }
        if self.inside_line {
            let rest = memchr::memchr(b'\n', buffer).map_or(buffer.len(), |end| end + 1);
            self.inside_line = rest == buffer.len();
            self.position += rest as u64;
            buffer.drain(..rest);
        }
        Ok(())
    }

    /// The last bytes that are unread, without taking them.
    pub(crate) fn peek(&mut self, most: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        let unread = self.unread()?;
        if unread > 0 {
            self.read_at(self.position + unread.saturating_sub(most), buffer)?;
        }
        Ok(())
    }

    fn read_at(&mut self, position: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.seek(SeekFrom::Start(position))?;
        file.take(READ_BYTES_MAX as u64).read_to_end(buffer)?;
        Ok(())
    }

    /// That many bytes of what `read` gave are safe elsewhere.
    pub(crate) fn advance(&mut self, taken: usize) {
        self.position += taken as u64;
    }

    /// Gives back the space of what was taken.
    pub(crate) fn free(&mut self) {
        let Some(file) = &self.file else { return };
        if self.holes && self.position > self.freed {
            match host::file::punch_hole(file, self.freed, self.position - self.freed) {
                Ok(()) => self.freed = self.position,
                Err(_) => self.holes = false,
            }
        }
        if !self.holes
            && self.position >= TRUNCATE_BYTES_MIN
            && file.metadata().is_ok_and(|m| m.len() == self.position)
            && file.set_len(0).is_ok()
        {
            (self.position, self.freed) = (0, 0);
        }
    }

    /// Deletes the file.
    pub(crate) fn remove(&mut self) {
        self.file = None;
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn append(path: &PathBuf, bytes: &[u8]) {
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    fn read(tail: &mut Tail) -> Vec<u8> {
        let mut buffer = Vec::new();
        tail.read(&mut buffer).unwrap();
        buffer
    }

    #[test]
    fn a_reader_that_was_killed_before_noting_its_place_skips_what_was_freed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.out");
        append(&path, b"one\ntwo\n");
        let mut tail = Tail::new(path.clone(), 0);
        assert_eq!(read(&mut tail), b"one\ntwo\n");
        tail.advance(4);
        tail.free();
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0\0\0two\n");
        let mut next = Tail::new(path, 0);
        assert_eq!(read(&mut next), b"two\n");
        assert_eq!(next.position(), 4);
    }

    #[test]
    fn a_place_beyond_the_end_means_the_file_is_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.out");
        let mut tail = Tail::new(path.clone(), 100);
        assert_eq!(tail.unread().unwrap(), 0);
        append(&path, b"new\n");
        assert_eq!(read(&mut tail), b"new\n");
    }

    #[test]
    fn what_is_too_much_is_dropped_oldest_first_up_to_a_whole_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.out");
        append(&path, b"one\ntwo\nthree\n");
        let mut tail = Tail::new(path, 0);
        assert_eq!(tail.drop_beyond(8).unwrap(), 6);
        assert_eq!(read(&mut tail), b"three\n");
        assert_eq!(tail.drop_beyond(8).unwrap(), 0);
    }

    #[test]
    fn without_holes_a_file_is_cut_once_it_was_all_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.out");
        append(&path, &vec![b'x'; usize::try_from(TRUNCATE_BYTES_MIN).unwrap()]);
        let mut tail = Tail::new(path.clone(), 0);
        tail.holes = false;
        let taken = read(&mut tail).len();
        tail.advance(taken - 1);
        tail.free();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), TRUNCATE_BYTES_MIN);
        tail.advance(1);
        tail.free();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        append(&path, b"more\n");
        assert_eq!(read(&mut tail), b"more\n");
    }
}
