//! `cargo xtask bench`: what Handover weighs, and what its data plane costs beside nginx and HAProxy.
//!
//! Tables go to standard output, each as soon as it is known; what goes on goes to standard error.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use e2e::bench::{self, Cell, Section};
use e2e::manifest::Setup;
use e2e::sandbox::{self, Sandbox};
use e2e::{crowd, system};

const USAGE: &str = "\
usage: cargo xtask bench [--build]                    size and idle memory of the binary, CPU per small request
       cargo xtask bench proxy [OPTION…]              the data plane beside nginx and HAProxy
       cargo xtask bench --services [N,N…]            what many services cost

  --only CELL[,CELL]  only these: keepalive, bodies, tls, onecore, fresh, threads, idle,
                      tunnels, transfer
  --rounds N          rounds of each row (5); the figure is their median
  --requests N        small requests of one run (100000)
  --handover PATH     another binary than the release build, which is then not made
  --alone             without nginx and HAProxy
  --beside PATH       a second binary that takes part in every row: two builds compared
  --json FILE         every round of every row, for programs";
/// How many services at a time, where nothing else is asked for.
const SERVICES: [usize; 4] = [10, 50, 100, 200];
/// Before idle memory is read: start-up is over by then.
const SETTLE: Duration = Duration::from_secs(3);

/// What is asked for.
enum Asked {
    /// Size, idle memory, and the first cell.
    Weight,
    Proxy,
    Services(Vec<usize>),
}

struct Arguments {
    asked: Asked,
    options: bench::Options,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == [bench::STREAMS] {
        return bench::serve_streams();
    }
    let arguments = match read(&arguments) {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("bench: {why}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn read(words: &[String]) -> Result<Arguments, String> {
    let mut asked = Asked::Weight;
    let mut json = None;
    let mut options = bench::Options {
        rounds: 5,
        requests: 100_000,
        cells: Vec::new(),
        handover: sandbox::handover(),
        peers: true,
        beside: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "proxy" {
            asked = Asked::Proxy;
            continue;
        }
        if word == "--alone" {
            options.peers = false;
            continue;
        }
        if word == "--services" {
            asked = Asked::Services(match words.next() {
                Some(list) => list.split(',').map(number).collect::<Result<_, _>>()?,
                None => SERVICES.into(),
            });
            continue;
        }
        let value = words.next().ok_or(format!("there is no option `{word}`, or it wants a value"))?;
        match word.as_str() {
            "--only" => options.cells = value.split(',').map(cell).collect::<Result<_, _>>()?,
            "--rounds" => options.rounds = number(value)?,
            "--requests" => options.requests = number(value)?,
            "--handover" => options.handover = path(value)?,
            "--beside" => options.beside = Some(path(value)?),
            "--json" => json = Some(path(value)?),
            other => return Err(format!("there is no option `{other}`")),
        }
    }
    if options.cells.is_empty() {
        options.cells = if matches!(asked, Asked::Proxy) { Cell::ALL.into() } else { vec![Cell::Keepalive] };
    }
    if options.rounds == 0 || options.requests == 0 {
        return Err("nothing would be measured".to_owned());
    }
    Ok(Arguments { asked, options, json })
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().ok().ok_or_else(|| format!("`{text}` is no count"))
}

fn cell(name: &str) -> Result<Cell, String> {
    Cell::named(name).ok_or_else(|| format!("there is no cell `{name}`"))
}

fn path(text: &str) -> Result<PathBuf, String> {
    std::path::absolute(text).map_err(|error| format!("`{text}`: {error}"))
}

fn run(arguments: &Arguments) -> Result<(), String> {
    match &arguments.asked {
        Asked::Services(services) => return crowds(services),
        Asked::Weight => {
            size(&arguments.options)?;
            idle(&arguments.options);
        }
        Asked::Proxy => {}
    }
    system::raise_descriptors();
    let options = &arguments.options;
    let mut sections: Vec<Section> = Vec::new();
    let outcome = bench::run(options, &mut |name| eprintln!("bench: {name}"), &mut |section| {
        println!("{}", section.markdown());
        sections.push(section);
    });
    println!("Median of {} interleaved rounds; in brackets the least and the most ratio.", options.rounds);
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", bench::json(&sections));
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    outcome
}

fn crowds(services: &[usize]) -> Result<(), String> {
    let mut crowds = Vec::new();
    for services in services {
        eprintln!("bench: {services} services");
        crowds.push(crowd::measure(*services)?);
    }
    println!("{}", crowd::markdown(&crowds));
    Ok(())
}

fn size(options: &bench::Options) -> Result<(), String> {
    let size = std::fs::metadata(&options.handover).map_err(|e| e.to_string())?.len();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mebibytes = size as f64 / f64::from(1 << 20);
    println!("| | |\n|---|---|\n| binary | {mebibytes:.1} MiB |\n");
    Ok(())
}

fn idle(options: &bench::Options) {
    let sandbox = Sandbox::started(Setup { binary: Some(options.handover.clone()), ..Setup::default() });
    std::thread::sleep(SETTLE);
    let status = sandbox.status();
    println!("| idle | RSS | PSS | threads |\n|---|---|---|---|");
    let mut pss_total = 0;
    for role in crowd::ROLES {
        let pid = status.pid(role).unwrap_or(0);
        let (rss, pss) = system::memory_of(pid);
        pss_total += pss;
        println!("| {role} | {rss} KiB | {pss} KiB | {} |", system::threads_of(pid));
    }
    println!("| together | | {pss_total} KiB | |\n");
}
