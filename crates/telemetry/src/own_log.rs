//! How Handover's own log is kept: said by the agent, read by every role, in a small file of one line.
//!
//! ```text
//!  manifest `[log]` ──► agent ──► run/log: `json info` ──► every role, when it next looks
//! ```
//! A plain file, because no role should have to hear from another to log a line. What is not understood is as if it
//! had not been said.

use std::io;
use std::path::{Path, PathBuf};

use model::manifest::{LogFormat, LogLevel, OwnLog};

const LEVELS: [(&str, LogLevel); 4] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
];
const FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];

fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("log")
}

/// Every role logs so from now on.
///
/// # Errors
/// When the file cannot be written.
pub fn tell(run_dir: &Path, log: OwnLog) -> io::Result<()> {
    if read(run_dir) == Some(log) {
        return Ok(());
    }
    let format = FORMATS.iter().find(|(_, format)| *format == log.format).map_or("", |(word, _)| word);
    let level = LEVELS.iter().find(|(_, level)| *level == log.level).map_or("", |(word, _)| word);
    host::file::replace_private(&path(run_dir), format!("{format} {level}\n").as_bytes())
}

/// How the log is to be kept, if somebody has said so.
pub fn read(run_dir: &Path) -> Option<OwnLog> {
    let text = std::fs::read_to_string(path(run_dir)).ok()?;
    let (format, level) = text.trim_end().split_once(' ')?;
    Some(OwnLog {
        format: FORMATS.iter().find(|(word, _)| *word == format)?.1,
        level: LEVELS.iter().find(|(word, _)| *word == level)?.1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_read_and_anything_else_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), None);
        for (_, level) in LEVELS {
            for (_, format) in FORMATS {
                tell(folder.path(), OwnLog { format, level }).unwrap();
                assert_eq!(read(folder.path()), Some(OwnLog { format, level }));
            }
        }
        std::fs::write(path(folder.path()), "yaml loud").unwrap();
        assert_eq!(read(folder.path()), None);
    }
}
