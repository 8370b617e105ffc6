//! Handover's own log, `logs/handover.log`: one file that several of its processes append to.
//!
//! Each writes whole lines with one call, which the system appends without mixing. Whoever finds the file too
//! long puts it aside; the others notice by the shorter file under its name and open that one.
//! It deliberately never fails: a log that cannot be written must not stop what it tells about.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::rotate::{self, Limits};

/// So many lines between two looks at the file's size.
const LINES_PER_LOOK: u32 = 64;

/// One process's end of the shared log.
#[derive(Debug)]
pub struct SharedLog {
    path: PathBuf,
    limits: Limits,
    file: Option<File>,
    until_look: u32,
}

impl SharedLog {
    /// The log at `path`; nothing is opened yet.
    pub fn new(path: PathBuf, limits: Limits) -> Self {
        Self { path, limits, file: None, until_look: 0 }
    }

    fn look(&mut self) {
        let Some(file) = &self.file else { return };
        let ours = file.metadata().map_or(0, |m| m.len());
        let named = std::fs::metadata(&self.path).map_or(0, |m| m.len());
        if named < ours {
            self.file = None; // someone else put ours aside
        } else if ours >= self.limits.file_bytes {
            self.file = None;
            let _ = rotate::rotate(&self.path, self.limits.files);
        }
    }
}

impl Write for SharedLog {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.until_look == 0 {
            self.look();
            self.until_look = LINES_PER_LOOK;
        }
        self.until_look -= 1;
        if self.file.is_none() {
            self.file = host::file::append_private(&self.path).ok();
        }
        if let Some(file) = &mut self.file
            && file.write_all(line).is_err()
        {
            self.file = None;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_writers_share_a_log_across_its_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handover.log");
        let limits = Limits { file_bytes: 2_000, file_age: None, files: 2 };
        let mut writers = [SharedLog::new(path.clone(), limits), SharedLog::new(path.clone(), limits)];
        for n in 0..400 {
            writers[n % 2].write_all(format!("line {n:04}\n").as_bytes()).unwrap();
        }
        let length = std::fs::metadata(&path).unwrap().len();
        assert!(length < 4_000, "{length}");
        let now = std::fs::read_to_string(&path).unwrap();
        assert!(now.ends_with("line 0399\n") && now.contains("line 0398\n"));
    }
}
