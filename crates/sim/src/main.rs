//! `cargo run -p sim -- --seeds N --first S`: plays seeds, prints the first that breaks a rule, with its history.

#![expect(clippy::print_stdout, reason = "it is a command")]

use std::process::ExitCode;

use sim::campaign;

/// Seeds when none are asked for.
const SEEDS: u64 = 500;
/// Lines of the history shown before the first broken rule.
const LINES_SHOWN: usize = 150;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (mut seeds, mut first, mut all) = (SEEDS, 0, false);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse().ok());
        match argument.as_str() {
            "--seeds" => seeds = number().unwrap_or(seeds),
            "--first" => first = number().unwrap_or(first),
            "--all" => all = true,
            _ => {
                println!(
                    "usage: sim [--seeds N] [--first S] [--all]\n  --all: show the whole history of the first seed"
                );
                return ExitCode::from(2);
            }
        }
    }
    let (mut rollouts, mut operations, mut kills) = (0, 0, 0);
    for seed in first..first + seeds {
        let outcome = campaign::play(seed);
        rollouts += outcome.rollouts;
        operations += outcome.operations;
        kills += outcome.kills;
        if all || !outcome.violations.is_empty() {
            let broken = outcome.log.iter().position(|line| line.contains("VIOLATION"));
            let end = broken.filter(|_| !all).map_or(outcome.log.len(), |line| line + 1);
            let start = if all { 0 } else { end.saturating_sub(LINES_SHOWN) };
            outcome.log[start..end].iter().for_each(|line| println!("{line}"));
        }
        if !outcome.violations.is_empty() {
            println!("seed {seed} broke a rule; play it again with --first {seed} --seeds 1 --all");
            outcome.violations.iter().for_each(|text| println!("  {text}"));
            return ExitCode::FAILURE;
        }
    }
    println!(
        "{seeds} seeds from {first}: {rollouts} rollouts, {operations} other operations, {kills} kills, no rule broken"
    );
    ExitCode::SUCCESS
}
