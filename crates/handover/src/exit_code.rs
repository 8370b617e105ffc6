//! Exit codes of the command line: one table, the same for every command.

use std::process::ExitCode;

/// How a command ended, for scripts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// What was asked is true.
    Done = 0,
    /// It failed, or was refused.
    Failed = 1,
    /// Wrong arguments, or an error in the manifest.
    Usage = 2,
    /// The new release did not hold: the old one serves.
    RolledBack = 3,
    /// The agent cannot be reached.
    Unreachable = 4,
    /// Waiting took too long.
    TimedOut = 5,
    /// The rights do not suffice.
    NotPermitted = 6,
    /// No such service or release.
    NoSuch = 7,
    /// A rollout that was followed was left by Ctrl-C; it goes on.
    Interrupted = 130,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}
