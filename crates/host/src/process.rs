//! Processes: starting one, its handle against reuse of its pid, signals, ends, and what a supervisor needs of itself.
//!
//! What a started process becomes before its program runs is in `exec`; whole trees are in `process_tree`.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::Descriptor;

#[cfg(unix)]
#[path = "process/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "process/windows.rs"]
mod system;

#[cfg(unix)]
pub(crate) use system::{Stat, all_pids, environment, family, stat, status_field};

/// SIGHUP.
pub const HUP: i32 = 1;
/// SIGINT.
pub const INT: i32 = 2;
/// SIGQUIT.
pub const QUIT: i32 = 3;
/// SIGKILL.
pub const KILL: i32 = 9;
/// SIGABRT: ends a process with a core dump.
pub const ABRT: i32 = 6;
/// SIGUSR1.
pub const USR1: i32 = 10;
/// SIGUSR2.
pub const USR2: i32 = 12;
/// SIGTERM.
pub const TERM: i32 = 15;
/// SIGCONT.
pub const CONT: i32 = 18;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// With that exit code.
    Code(i32),
    /// By that signal.
    Signal(i32),
    /// Nobody could tell.
    Unknown,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("nobody saw how"),
        }
    }
}

/// A process to start.
#[derive(Debug)]
pub struct Start<'a> {
    /// The program; absolute.
    pub program: &'a Path,
    /// Its arguments, without its name.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// Descriptors it keeps, under the numbers they have here; standard output and error stay open as well.
    pub keep: &'a [Descriptor],
}

/// This process.
pub fn current_pid() -> u32 {
    std::process::id()
}

/// Whether a process of that id runs. A zombie does not.
pub fn is_alive(pid: u32) -> bool {
    system::is_alive(pid)
}

/// When it started, in clock ticks since boot: with the pid it names one process only.
pub fn start_ticks(pid: u32) -> Option<u64> {
    system::start_ticks(pid)
}

/// The file that this process runs.
///
/// # Errors
/// When the system does not say.
pub fn own_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// The file that a process runs; also where that was replaced or removed since it was started.
///
/// # Errors
/// When there is no such process, or we may not know.
pub fn executable(pid: u32) -> io::Result<PathBuf> {
    system::executable(pid)
}

/// Becomes another program with the same process id and environment; `keep` stays open under the same numbers.
/// Returns only when that failed.
pub fn replace_self(program: &Path, arguments: &[String], keep: &[Descriptor]) -> io::Error {
    system::replace_self(program, arguments, keep)
}

/// Starts a process; its standard input is empty. The caller reaps it with `reap`.
///
/// # Errors
/// When the program cannot be run.
pub fn spawn(start: &Start<'_>) -> io::Result<u32> {
    system::spawn(start)
}

/// A handle that stays with this one process, and is readable once it has ended.
///
/// # Errors
/// When there is no such process.
pub fn handle(pid: u32) -> io::Result<Descriptor> {
    system::handle(pid)
}

/// Sends a signal to the process of a handle.
///
/// # Errors
/// When it has ended, or we may not.
pub fn signal(handle: &Descriptor, number: i32) -> io::Result<()> {
    system::signal(handle, number)
}

/// Sends a signal to a process by its id, which the caller knows to be still the same process.
///
/// # Errors
/// When there is none, or we may not.
pub fn signal_pid(pid: u32, number: i32) -> io::Result<()> {
    system::signal_pid(pid, number)
}

/// The next child that has ended, if one has.
///
/// # Errors
/// When the system fails; having no children is no error.
pub fn reap() -> io::Result<Option<(u32, Ended)>> {
    system::reap()
}

/// How a process that is not our child ended, as far as the system still knows.
pub fn end_of_other(handle: &Descriptor, pid: u32, start_ticks: u64) -> Ended {
    system::end_of_other(handle, pid, start_ticks)
}

/// Makes this process the parent of its descendants whose parents end.
///
/// # Errors
/// When the system does not let us.
pub fn become_subreaper() -> io::Result<()> {
    system::become_subreaper()
}

/// Raises the limit of open descriptors to the hard one, and says what soft and hard were.
///
/// # Errors
/// When the system does not let us.
pub fn raise_open_files() -> io::Result<(u64, u64)> {
    system::raise_open_files()
}

/// Whether this process has a controlling terminal.
pub fn has_terminal() -> bool {
    system::has_terminal()
}

/// A pipe: reading end, which does not block, and writing end.
///
/// # Errors
/// When no descriptor is left.
pub fn pipe() -> io::Result<(Descriptor, Descriptor)> {
    system::pipe()
}

/// Reads what is in a pipe; 0 bytes mean that the last writer closed it.
///
/// # Errors
/// `WouldBlock` when nothing is there.
pub fn read_pipe(pipe: &Descriptor, buffer: &mut [u8]) -> io::Result<usize> {
    system::read_pipe(pipe, buffer)
}

/// Takes the descriptor that this process was started with under that number.
pub(crate) fn take_inherited(number: i32) -> io::Result<Descriptor> {
    system::take_inherited(number)
}
