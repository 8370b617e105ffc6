//! One rotated log: `NAME`, then `NAME.1` (the newest of the old) to `NAME.N`.
//!
//! An append is all or nothing: if it fails half way, on a full disk say, the file is cut back, so that the
//! caller can try the same bytes again later without doubling lines.
//! It deliberately does not sync: a log line may be lost with the machine's power.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A file that has reached this is put aside.
    pub file_bytes: u64,
    /// Files kept, the current one included.
    pub files: u32,
}

impl Default for Limits {
    /// 80 MiB a service: a day of a chatty one, and never a full disk.
    fn default() -> Self {
        Self { file_bytes: 10 << 20, files: 8 }
    }
}

/// A log that is written by this process only.
#[derive(Debug)]
pub struct RotatedLog {
    path: PathBuf,
    limits: Limits,
    open: Option<(File, u64)>,
}

impl RotatedLog {
    /// A log at `path`; nothing is opened yet.
    pub fn new(path: PathBuf, limits: Limits) -> Self {
        Self { path, limits, open: None }
    }

    /// Adds whole lines.
    ///
    /// # Errors
    /// When they could not be written; the log is then as it was.
    pub fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.open.as_ref().is_some_and(|(_, length)| *length >= self.limits.file_bytes) {
            self.open = None;
            rotate(&self.path, self.limits.files)?;
        }
        let (file, length) = match &mut self.open {
            Some(open) => open,
            closed => {
                let file = host::file::append_private(&self.path)?;
                let length = file.metadata()?.len();
                closed.insert((file, length))
            }
        };
        match file.write_all(lines) {
            Ok(()) => {
                *length += lines.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Where even this fails the next try doubles some lines; nothing better is left.
                let _ = file.set_len(*length);
                self.open = None;
                Err(error)
            }
        }
    }
}

/// `NAME` becomes `NAME.1`, that becomes `NAME.2`, and so on; the one beyond `files` is gone.
///
/// # Errors
/// When the current file cannot be renamed; gaps among the old ones are no error.
pub fn rotate(path: &Path, files: u32) -> io::Result<()> {
    let old = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    if files < 2 {
        return std::fs::remove_file(path);
    }
    for number in (1..files - 1).rev() {
        match std::fs::rename(old(number), old(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, old(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_only_so_many_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.log");
        let mut log = RotatedLog::new(path.clone(), Limits { file_bytes: 4, files: 3 });
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n"] {
            log.append(line.as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(
            (read("shop.log"), read("shop.log.1"), read("shop.log.2")),
            ("five\n".into(), "four\n".into(), "three\n".into())
        );
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn a_restart_goes_on_in_the_same_file_and_counts_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.log");
        let limits = Limits { file_bytes: 6, files: 2 };
        RotatedLog::new(path.clone(), limits).append(b"one\n").unwrap();
        let mut log = RotatedLog::new(path.clone(), limits);
        log.append(b"two\n").unwrap();
        log.append(b"three\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("shop.log.1")).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn an_append_that_fails_can_be_repeated_once_the_cause_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs").join("shop.log");
        let mut log = RotatedLog::new(path.clone(), Limits::default());
        assert!(log.append(b"one\n").is_err());
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        log.append(b"one\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
    }
}
