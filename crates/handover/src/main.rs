//! `handover`: the one binary. What it is to be follows from its first argument: a role, or the command line.

mod cli;
mod config;
mod exit_code;
mod internal;
mod wiring;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        Some(first) if first == "internal" => internal::run(arguments),
        _ => cli::run(),
    }
}
