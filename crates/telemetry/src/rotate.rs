//! One rotated log: `NAME`, then `NAME.1` (the newest of the old) to `NAME.N`.
//!
//! An append is all or nothing: if it fails half way, on a full disk say, the file is cut back, so that the
//! caller can try the same bytes again later without doubling lines. How old a file is says its first line, so a
//! restart changes nothing.
//! It deliberately does not sync: a log line may be lost with the machine's power.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use crate::stamp;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A file that has reached this is put aside.
    pub file_bytes: u64,
    /// A file whose first line is this old is put aside.
    pub file_age: Option<Duration>,
    /// Files kept, the current one included.
    pub files: u32,
}

impl Default for Limits {
    fn default() -> Self {
        (&model::manifest::Output::default()).into()
    }
}

impl From<&model::manifest::Output> for Limits {
    fn from(output: &model::manifest::Output) -> Self {
        Self { file_bytes: output.max_size, file_age: output.max_age, files: output.files.max(1) }
    }
}

/// A log that is written by this process only.
#[derive(Debug)]
pub struct RotatedLog {
    path: PathBuf,
    limits: Limits,
    open: Option<Open>,
    /// Files beyond the limit may be there, from a time when it was higher.
    prune: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    length: u64,
    /// When its first line was written; `None`: it has none.
    begun_ms: Option<u64>,
}

impl RotatedLog {
    /// A log at `path`; nothing is opened yet.
    pub fn new(path: PathBuf, limits: Limits) -> Self {
        Self { path, limits, open: None, prune: true }
    }

    /// Keeps that much from the next append on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.prune |= limits.files < self.limits.files;
        self.limits = limits;
    }

    /// Bytes after which the current file is full, at least 1.
    pub fn room(&self) -> u64 {
        let length = self.open.as_ref().map_or(0, |open| open.length);
        match self.limits.file_bytes.saturating_sub(length) {
            0 => self.limits.file_bytes.max(1),
            room => room,
        }
    }

    /// Adds whole lines.
    ///
    /// # Errors
    /// When they could not be written; the log is then as it was.
    pub fn append(&mut self, lines: &[u8], now_ms: u64) -> io::Result<()> {
        self.set_aside_if_due(now_ms)?;
        let open = self.opened()?;
        match open.file.write_all(lines) {
            Ok(()) => {
                open.length += lines.len() as u64;
                open.begun_ms.get_or_insert(now_ms);
                Ok(())
            }
            Err(error) => {
                // Where even this fails the next try doubles some lines; nothing better is left.
                let _ = open.file.set_len(open.length);
                self.open = None;
                Err(error)
            }
        }
    }

    /// Puts the current file aside if it is old by now, although nothing is added.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn look(&mut self, now_ms: u64) -> io::Result<()> {
        if self.open.is_some() { self.set_aside_if_due(now_ms) } else { Ok(()) }
    }

    fn set_aside_if_due(&mut self, now_ms: u64) -> io::Result<()> {
        let Limits { file_bytes, file_age, files } = self.limits;
        let open = self.opened()?;
        let is_old = file_age
            .zip(open.begun_ms)
            .is_some_and(|(most, begun_ms)| Duration::from_millis(now_ms.saturating_sub(begun_ms)) >= most);
        if open.length >= file_bytes.max(1) || is_old {
            self.open = None;
            rotate(&self.path, files)?;
        }
        if std::mem::take(&mut self.prune) {
            remove_beyond(&self.path, files);
        }
        Ok(())
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        match &mut self.open {
            Some(open) => Ok(open),
            closed => {
                let file = host::file::append_private(&self.path)?;
                let length = file.metadata()?.len();
                let begun_ms = if length > 0 { begun_ms(&self.path) } else { None };
                Ok(closed.insert(Open { file, length, begun_ms }))
            }
        }
    }
}

/// When the first line of a file was written: as it says itself, else the birth of the file.
fn begun_ms(path: &Path) -> Option<u64> {
    let mut file = File::open(path).ok()?;
    let mut first = [0; stamp::UTC_BYTES];
    if file.read_exact(&mut first).is_ok()
        && let Some(ms) = std::str::from_utf8(&first).ok().and_then(stamp::parse_utc)
    {
        return Some(ms);
    }
    let made = file.metadata().and_then(|m| m.created().or_else(|_unknown| m.modified())).ok()?;
    u64::try_from(made.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

/// Deletes old files beyond `files`.
fn remove_beyond(path: &Path, files: u32) {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return;
    };
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let number = entry
            .file_name()
            .to_str()
            .and_then(|found| found.strip_prefix(name)?.strip_prefix('.')?.parse::<u32>().ok());
        if number.is_some_and(|number| number >= files) {
            let _ = std::fs::remove_file(entry.path());
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
        let mut log = RotatedLog::new(path.clone(), Limits { file_bytes: 4, file_age: None, files: 3 });
        for line in ["one\n", "two\n", "three\n", "four\n", "five\n"] {
            log.append(line.as_bytes(), 0).unwrap();
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
        let limits = Limits { file_bytes: 6, file_age: None, files: 2 };
        RotatedLog::new(path.clone(), limits).append(b"one\n", 0).unwrap();
        let mut log = RotatedLog::new(path.clone(), limits);
        log.append(b"two\n", 0).unwrap();
        log.append(b"three\n", 0).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\n");
        assert_eq!(std::fs::read_to_string(folder.path().join("shop.log.1")).unwrap(), "one\ntwo\n");
    }

    #[test]
    fn an_append_that_fails_can_be_repeated_once_the_cause_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs").join("shop.log");
        let mut log = RotatedLog::new(path.clone(), Limits::default());
        assert!(log.append(b"one\n", 0).is_err());
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        log.append(b"one\n", 0).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\n");
    }

    #[test]
    fn a_file_is_put_aside_when_its_first_line_is_old_also_by_a_later_process() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.log");
        let hour = Duration::from_secs(3600);
        let limits = Limits { file_age: Some(hour), ..Limits::default() };
        let begun = 1_795_366_800_000;
        let line = |ms: u64| format!("{} shop@1/0 out | x\n", stamp::utc(ms)).into_bytes();
        RotatedLog::new(path.clone(), limits).append(&line(begun), begun).unwrap();
        let mut log = RotatedLog::new(path.clone(), limits);
        let soon = begun + 3_599_999;
        log.append(&line(soon), soon).unwrap();
        assert!(!folder.path().join("shop.log.1").exists());
        log.look(begun + 3_600_000).unwrap();
        log.look(begun + 9_000_000).unwrap();
        assert!(folder.path().join("shop.log.1").exists());
        log.append(&line(begun + 3_600_000), begun + 3_600_000).unwrap();
        log.append(&line(begun + 7_000_000), begun + 7_000_000).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn with_fewer_files_to_keep_the_older_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.log");
        let mut log = RotatedLog::new(path, Limits { file_bytes: 4, file_age: None, files: 5 });
        (0..8).for_each(|_| log.append(b"line\n", 0).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5);
        log.set_limits(Limits { file_bytes: 4, file_age: None, files: 2 });
        log.append(b"line\n", 0).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
