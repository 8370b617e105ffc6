//! `cargo xtask bench`: sizes, memory, threads and the cost of the data plane, as Markdown for `docs/benchmarks.md`.

use std::process::Command;
use std::time::Instant;

use crate::{shell, system};

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let from_clean = arguments.iter().any(|argument| argument == "--build");
    let rest: Vec<&String> = arguments.iter().filter(|argument| *argument != "--build").collect();
    system::ensure_packages()?;
    if from_clean {
        clean_build()?;
    } else if !arguments.iter().any(|argument| argument == "--handover") {
        shell::run(&mut shell::cargo(&["build", "--release", "--package", "handover"]))?;
    }
    shell::run(&mut shell::cargo(&["build", "--profile", "ci", "--package", "e2e", "--bins"]))?;
    let handover = shell::target_directory().join("release/handover");
    let mut bench = Command::new(shell::target_directory().join("ci/bench"));
    shell::run(bench.args(rest).env("HANDOVER_BIN", handover))
}

/// Times a release build that starts from nothing but downloaded sources.
fn clean_build() -> Result<(), String> {
    let directory = shell::target_directory().join("clean-build");
    remove(&directory)?;
    shell::run(&mut shell::cargo(&["fetch", "--locked"]))?;
    let began = Instant::now();
    let mut build = shell::cargo(&["build", "--release", "--package", "handover"]);
    shell::run(build.env("CARGO_TARGET_DIR", &directory))?;
    let seconds = began.elapsed().as_secs_f64();
    remove(&directory)?;
    shell::run(&mut shell::cargo(&["build", "--release", "--package", "handover"]))?;
    println!("\n| clean release build | {seconds:.0} s |\n|---|---|\n");
    Ok(())
}

fn remove(directory: &std::path::Path) -> Result<(), String> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{} could not be removed: {error}", directory.display()))
        }
        _ => Ok(()),
    }
}
