//! What each of our processes is made of: options in, roles and drivers put together, exit code out.
//!
//! It deliberately decides nothing: here is only what is connected to what.

mod admin_server;
mod agent;
mod answers;
mod beside;
mod look;
mod operations;
mod own_log;
mod report;
mod terminal;
mod traffic;

use std::process::ExitCode;

use host::paths::Layout;

use crate::exit_code::Code;
use crate::internal::{HolderArgs, RoleArgs};

/// The role `holder`.
pub(crate) fn run_holder(args: &HolderArgs) -> ExitCode {
    let options = holder::Options {
        state_dir: args.state_dir.clone(),
        run_dir: args.run_dir.clone(),
        boot_descriptor: args.boot_fd,
        rescue: args.rescue,
        lock_descriptor: args.lock_fd,
    };
    holder::run(&options).unwrap_or_else(|error| failed(&error.to_string()))
}

/// A page of a former run's log files, as its agent would have answered.
pub(crate) use look::logs as stored_logs;

/// The role `agent`.
pub(crate) fn run_agent(args: &RoleArgs) -> ExitCode {
    let layout = Layout::new(&args.state_dir, &args.run_dir);
    own_log::start(&layout, "agent", args.generation);
    match agent::run(layout, args.generation) {
        Ok(()) => Code::Done.into(),
        Err(error) => {
            tracing::error!(%error, "the agent cannot go on");
            failed(&format!("the agent cannot go on: {error}"))
        }
    }
}

/// The role `proxy`.
pub(crate) fn run_proxy(args: &RoleArgs) -> ExitCode {
    let layout = Layout::new(&args.state_dir, &args.run_dir);
    own_log::start(&layout, "proxy", args.generation);
    match proxy::run(proxy::Options { layout, generation: args.generation }) {
        Ok(()) => Code::Done.into(),
        Err(error) => {
            tracing::error!(%error, "the proxy cannot go on");
            failed(&format!("the proxy cannot go on: {error}"))
        }
    }
}

/// What SIGHUP asks for: the manifest, read anew from where it was read last.
pub(crate) fn run_apply(args: &RoleArgs) -> ExitCode {
    let layout = Layout::new(&args.state_dir, &args.run_dir);
    own_log::start(&layout, "apply", args.generation);
    match crate::cli::apply_recorded(layout) {
        Ok(ended) => {
            tracing::info!("SIGHUP: {ended}");
            Code::Done.into()
        }
        Err(failure) => {
            tracing::error!(hint = failure.hint, "SIGHUP: {}", failure.message);
            failure.code.into()
        }
    }
}

/// What `internal exec` becomes.
pub(crate) fn run_exec(specification: i32) -> ExitCode {
    holder::exec::run(specification)
}

#[expect(
    clippy::print_stderr,
    reason = "the terminal of `up`, or the own log when detached: nobody else says it"
)]
fn failed(why: &str) -> ExitCode {
    eprintln!("handover: {why}");
    Code::Failed.into()
}
