//! The holder: binds and keeps listening sockets, starts and reaps every other process, and hands both on.
//!
//! ```text
//!  start ─ lock ─► collecting ── every role answered, or their time is over ──► holding ── stopped ──► exit
//!                   (vaults of roles that are still there)                        one thread, one poll loop
//! ```
//! It knows no HTTP, no manifest and no releases. Its only policies are fixed: roles that die are started again,
//! roles that are silent are killed, and a stop is carried through with or without the agent.

pub mod exec;
mod holder;
mod instances;
mod link;
mod listeners;
mod log;
mod roles;
mod run;
mod start;

use std::path::PathBuf;
use std::process::ExitCode;

/// How a holder is started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What must survive.
    pub state_dir: PathBuf,
    /// Lock, sockets, output files.
    pub run_dir: PathBuf,
    /// Descriptor of the boot form, passed to the agent unread.
    pub boot_descriptor: Option<i32>,
    /// It replaces one that died, and was started by a role.
    pub rescue: bool,
    /// Descriptor of the lock, which is taken already.
    pub lock_descriptor: Option<i32>,
}

/// Why a holder could not start.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// There is one.
    #[error(
        "Handover runs already for {state_dir}{}; `handover status` shows it, `handover down` stops it",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Runs {
        /// Whose.
        state_dir: String,
        /// The living one, where it says so.
        pid: Option<u32>,
    },
    /// Something the system refused.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Runs until everything is stopped.
///
/// # Errors
/// When it cannot start; then nothing has been touched.
pub fn run(options: &Options) -> Result<ExitCode, HolderError> {
    let holder = start::prepare(options)?;
    Ok(run::run(holder))
}
