//! `cargo xtask test`: everything that must hold before a change is taken, in the order that fails fastest.
//!
//! It stops at the first stage that fails. A tool that is missing is a failure, never a skip: a green run
//! means that all of it ran.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::{clients, shell, system, tidy};

/// Counted test results of all stages so far.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Takes libtest's summary lines: `test result: ok. 12 passed; 0 failed; 0 ignored; …`.
    fn take(&mut self, line: &str) {
        let Some((_, counts)) = line.split_once("test result: ").and_then(|(_, rest)| rest.split_once(". "))
        else {
            return;
        };
        for part in counts.split(';') {
            let mut words = part.split_whitespace();
            let count = words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            match words.next() {
                Some("passed") => self.passed += count,
                Some("failed") => self.failed += count,
                _ => {}
            }
        }
    }
}

type Stage = (&'static str, fn(&mut Tally) -> Result<(), String>);

const STAGES: [Stage; 9] = [
    ("packages", |_| {
        system::ensure_packages()?;
        clients::ensure()
    }),
    ("target", |_| system::ensure_windows_target()),
    ("fmt", |_| shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))),
    ("tidy", |_| tidy::run(&[])),
    ("clippy", |_| {
        shell::run(&mut shell::cargo(&["clippy", "--workspace", "--all-targets", "--", "-Dwarnings"]))
    }),
    ("windows", |_| {
        shell::run(&mut shell::cargo(&[
            "check",
            "--workspace",
            "--all-targets",
            "--target",
            system::WINDOWS_TARGET,
        ]))
    }),
    ("unit", unit),
    ("e2e", end_to_end),
    ("torture", torture),
];

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let unknown = arguments.iter().find(|name| STAGES.iter().all(|(stage, _)| stage != name));
    if let Some(unknown) = unknown {
        let names: Vec<_> = STAGES.iter().map(|(name, _)| *name).collect();
        return Err(format!("there is no stage `{unknown}`; the stages are: {}", names.join(", ")));
    }
    let mut tally = Tally::default();
    let mut times = Vec::new();
    let mut outcome = Ok(());
    for (name, stage) in STAGES {
        if !arguments.is_empty() && arguments.iter().all(|wanted| wanted != name) {
            continue;
        }
        println!("\n== {name}");
        let began = Instant::now();
        let result = stage(&mut tally);
        times.push((name, began.elapsed()));
        println!("== {name}: {:.1} s", began.elapsed().as_secs_f64());
        if let Err(why) = result {
            outcome = Err(format!("stage {name} failed: {why}"));
            break;
        }
    }
    summarise(&times, &tally, outcome.is_ok());
    outcome
}

fn summarise(times: &[(&str, Duration)], tally: &Tally, good: bool) {
    println!();
    for (name, time) in times {
        println!("{:>9.1} s  {name}", time.as_secs_f64());
    }
    let total: Duration = times.iter().map(|(_, time)| *time).sum();
    println!("{:>9.1} s  together\n", total.as_secs_f64());
    // A stage that is no counted test may have failed too; the summary must never look green then.
    let failed = if good { tally.failed } else { tally.failed.max(1) };
    println!("{} passed, {failed} failed", tally.passed);
}

/// Unit, property, golden, simulation and driver tests, and the binary the next stages run.
fn unit(tally: &mut Tally) -> Result<(), String> {
    shell::run(&mut shell::cargo(&["build", "--profile", "ci", "--package", "handover"]))?;
    let mut tests =
        shell::cargo(&["test", "--workspace", "--exclude", "e2e", "--profile", "ci", "--no-fail-fast"]);
    shell::run_and_watch(tests.env("HANDOVER_BIN", handover()), |line| tally.take(line))
}

fn end_to_end(tally: &mut Tally) -> Result<(), String> {
    shell::run(&mut shell::cargo(&["build", "--profile", "ci", "--package", "handover"]))?;
    let mut tests = shell::cargo(&["test", "--package", "e2e", "--profile", "ci", "--no-fail-fast"]);
    shell::run_and_watch(tests.env("HANDOVER_BIN", handover()), |line| tally.take(line))
}

fn torture(_: &mut Tally) -> Result<(), String> {
    shell::run(&mut shell::cargo(&["build", "--profile", "ci", "--package", "handover"]))?;
    shell::run(&mut shell::cargo(&["build", "--profile", "ci", "--package", "e2e", "--bins"]))?;
    let mut torture = std::process::Command::new(shell::target_directory().join("ci/torture"));
    shell::run(torture.arg("--small").env("HANDOVER_BIN", handover()))
}

fn handover() -> PathBuf {
    shell::target_directory().join("ci/handover")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_lines_are_added_up_and_others_ignored() {
        let mut tally = Tally::default();
        tally.take(
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s",
        );
        tally.take("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        tally.take("test some::name ... ok");
        assert_eq!((tally.passed, tally.failed), (15, 2));
    }
}
