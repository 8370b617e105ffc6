//! `cargo xtask torture`: the hot-restart conformance suite from the command line.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals")]

use std::process::ExitCode;

use e2e::torture::{self, Options, Stage};

const USAGE: &str = "\
usage: cargo xtask torture [--small] [--peers] [--json] [--clients NAME]… [--stage NAME]… [--deploys N] [--seed N]

  --small         few steps: what every test run does
  --peers         the same clients against the recipe of today: two instances behind nginx and HAProxy
  --json          for machines
  --clients NAME  only these clients, by a word of their name: `2 ms`, `edge`, `together`, …
  --stage NAME    only these stages beside the deploys: rolling, recreate, apply, scale, restart, reload,
                  interrupted, random;
                  with --stage or --clients nothing else is done
  --deploys N     other than the full or small count
  --operations N  the same for random operations
  --seed N        of the random operations; a line of every run says which it had";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (options, as_json) = match read(&arguments) {
        Ok(read) => read,
        Err(why) => {
            eprintln!("torture: {why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let report = match torture::run(&options, &mut |line| eprintln!("torture: {line}")) {
        Ok(report) => report,
        Err(why) => {
            eprintln!("torture: {why}");
            return ExitCode::FAILURE;
        }
    };
    if as_json {
        println!("{:#}", report.json());
    } else {
        println!("{}", report.markdown());
    }
    let broken = report.broken_promises();
    for promise in &broken {
        eprintln!("torture: not kept: {promise}");
    }
    if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn read(arguments: &[String]) -> Result<(Options, bool), String> {
    let small = arguments.iter().any(|argument| argument == "--small");
    let mut options = if small { Options::small() } else { Options::full() };
    let mut as_json = false;
    let (mut only, mut stages): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--small" => {}
            "--peers" => options.peers = true,
            "--json" => as_json = true,
            "--clients" => only.push(value()?.clone()),
            "--stage" => stages.push(value()?.clone()),
            "--deploys" => {
                options.counts.deploys = number(value()?)?;
                options.changes.deploys = options.counts.deploys;
            }
            "--operations" => options.changes.random = number(value()?)?,
            "--seed" => options.changes.seed = number(value()?)?,
            other => return Err(format!("there is no option `{other}`")),
        }
    }
    if !only.is_empty() || !stages.is_empty() {
        options.mixes.retain(|mix| only.iter().any(|name| mix.name.contains(name)));
        options.stages = Stage::ALL.into();
        options.stages.retain(|stage| stages.iter().any(|name| stage.name().contains(name.as_str())));
        options.measures = false;
    }
    if options.mixes.is_empty() && options.stages.is_empty() {
        return Err("no clients and no stages have such a name".to_owned());
    }
    Ok((options, as_json))
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().ok().ok_or_else(|| format!("`{text}` is no count"))
}
