//! `cargo xtask strict`: mutated requests through Handover to nginx, Apache httpd, Node, Python and an origin of ours.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals")]

use std::process::ExitCode;

use e2e::strict::{self, Options};

const USAGE: &str = "\
usage: cargo xtask strict [--requests N] [--seed N] [--case N]

  --requests N    mutated requests over all origins (60000)
  --seed N        of all cases
  --case N        only this one, at every origin";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, log] = &arguments[..]
        && flag == "--origin"
    {
        return match strict::origin::serve(log) {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                eprintln!("origin: {why}");
                ExitCode::FAILURE
            }
        };
    }
    let Some(options) = read(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match strict::run(&options, &mut |line| eprintln!("strict: {line}")) {
        Ok(report) => {
            println!("{}", report.markdown());
            report.violations.iter().for_each(|violation| eprintln!("strict: {violation}"));
            if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(why) => {
            eprintln!("strict: {why}");
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: &[String]) -> Option<Options> {
    let mut options = Options::default();
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let number: u64 = words.next()?.parse().ok()?;
        match word.as_str() {
            "--requests" => options.requests = number,
            "--seed" => options.seed = number,
            "--case" => options.case = Some(number),
            _ => return None,
        }
    }
    Some(options)
}
