//! `cargo xtask strict`: the differential check of requests at its full count; it lives in package `e2e`.

use crate::{shell, system};

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    system::ensure_packages()?;
    shell::run(&mut shell::cargo(&["build", "--profile", "ci", "--package", "handover"]))?;
    shell::run(&mut shell::cargo(&["build", "--profile", "ci", "--package", "e2e", "--bins"]))?;
    let built = shell::target_directory().join("ci");
    let mut strict = std::process::Command::new(built.join("strict"));
    shell::run(strict.args(arguments).env("HANDOVER_BIN", built.join("handover")))
}
