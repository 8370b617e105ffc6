//! `cargo xtask torture`: the hot-restart conformance suite from the command line.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals")]

use std::process::ExitCode;

use e2e::torture::{self, Mix, Options};

const USAGE: &str = "\
usage: cargo xtask torture [--small] [--peers] [--json] [--clients NAME]… [--deploys N]

  --small         few steps: what every test run does
  --peers         the same clients against the recipe of today: two instances behind nginx and HAProxy
  --json          for machines
  --clients NAME  only these clients, by a word of their name: `2 ms`, `edge`, `together`, …
  --deploys N     other than the full or small count";

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
    let mut only = Vec::new();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--small" => {}
            "--peers" => options.peers = true,
            "--json" => as_json = true,
            "--clients" => only.push(value()?.clone()),
            "--deploys" => {
                let count = value()?;
                options.counts.deploys = count.parse().ok().ok_or(format!("`{count}` is no count"))?;
            }
            other => return Err(format!("there is no option `{other}`")),
        }
    }
    if !only.is_empty() {
        options.mixes =
            Mix::all().into_iter().filter(|mix| only.iter().any(|name| mix.name.contains(name))).collect();
    }
    if options.mixes.is_empty() {
        return Err("no clients have such a name".to_owned());
    }
    Ok((options, as_json))
}
