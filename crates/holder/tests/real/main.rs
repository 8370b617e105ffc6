//! A real holder with real processes: this program is the holder, the roles, and the test of both.
//!
//! The roles only note what they hear and say what they are told to (see `role`); what agent and proxy really do
//! is tested elsewhere.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a test tells its results")]

mod role;
mod scenarios;
mod supervision;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "internal") {
        return internal(&arguments[1..]);
    }
    if !cfg!(unix) {
        return ExitCode::SUCCESS;
    }
    scenarios::run(arguments.iter().find(|argument| !argument.starts_with('-')))
}

fn internal(arguments: &[String]) -> ExitCode {
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let number = |name: &str| value(name).map(|text| text.parse().expect("a number"));
    match arguments[0].as_str() {
        "exec" => holder::exec::run(arguments[1].parse().expect("a number")),
        "holder" => {
            let options = holder::Options {
                state_dir: PathBuf::from(value("--state-dir").expect("--state-dir")),
                run_dir: PathBuf::from(value("--run-dir").expect("--run-dir")),
                boot_descriptor: number("--boot-fd"),
                rescue: arguments.iter().any(|argument| argument == "--rescue"),
                lock_descriptor: number("--lock-fd"),
            };
            holder::run(&options).unwrap_or_else(|error| {
                eprintln!("{error}");
                ExitCode::FAILURE
            })
        }
        "apply" => {
            role::apply(&value("--state-dir").expect("--state-dir"), &value("--run-dir").expect("--run-dir"))
        }
        kind => role::run(
            kind,
            &value("--state-dir").expect("--state-dir"),
            &value("--run-dir").expect("--run-dir"),
            value("--generation").expect("--generation").parse().expect("a number"),
        ),
    }
}
