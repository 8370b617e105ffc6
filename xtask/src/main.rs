//! Everything a person or a build machine does with this repository: `cargo xtask CHORE`.
//!
//! One file per chore. It deliberately has no dependency but `serde_json`, so that it builds in seconds on a
//! machine that has nothing else yet.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "chores talk to a terminal")]

mod bench;
mod clients;
mod fuzz;
mod shell;
mod sim;
mod strict;
mod system;
mod test;
mod tidy;
mod torture;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask CHORE

  test [STAGE…]     everything that must hold before a change is taken; without stages all of them, in order
  tidy              the rules no compiler checks: imports, sizes, comments, words
  torture [ARGS…]   clients that never retry, during deploys, rollbacks and crashes (--small, --peers, --json)
  bench [ARGS…]     sizes, memory, threads (--build); `bench proxy`: the data plane beside nginx and HAProxy
  sim [--seeds N]   the simulated world over N seeds; `--first S --seeds 1 --all` shows one of them
  fuzz [TARGET…]    libFuzzer on the targets of package `fuzz`, ten minutes each (--seconds N, --keep)
  strict [ARGS…]    mutated requests to other people's origins: all must see the same (--requests N, --seed N)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((chore, rest)) = arguments.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let outcome = match chore.as_str() {
        "test" => test::run(rest),
        "tidy" => tidy::run(rest),
        "torture" => torture::run(rest),
        "bench" => bench::run(rest),
        "sim" => sim::run(rest),
        "fuzz" => fuzz::run(rest),
        "strict" => strict::run(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprintln!("xtask: there is no chore `{other}`\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask {chore}: {why}");
            ExitCode::FAILURE
        }
    }
}
