//! `cargo xtask torture`: the hot-restart conformance suite, which lives in package `e2e`.

use crate::{shell, system};

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    if arguments.iter().any(|argument| argument == "--peers") {
        system::ensure_packages()?;
    }
    shell::run(&mut shell::cargo(&["build", "--release", "--package", "handover"]))?;
    shell::run(&mut shell::cargo(&["build", "--profile", "ci", "--package", "e2e", "--bins"]))?;
    let handover = shell::target_directory().join("release/handover");
    let mut torture = std::process::Command::new(shell::target_directory().join("ci/torture"));
    shell::run(torture.args(arguments).env("HANDOVER_BIN", handover))
}
