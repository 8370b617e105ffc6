//! `cargo xtask bench`: what Handover weighs, and its CPU per request beside nginx and HAProxy.
//!
//! All three proxy the same answer of the same backend, with one worker thread each, in rounds that take
//! turns: what disturbs the machine disturbs all of them. What counts is the ratio, not the number. nginx and
//! HAProxy run without an access log; Handover runs as it comes, with log, counters and probes.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a tool for terminals")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use e2e::crowd;
use e2e::http::{self, Request};
use e2e::manifest::Setup;
use e2e::peers::{free_port, nginx_user, program_path};
use e2e::sandbox::{self, Sandbox};
use e2e::{system, wait};

const USAGE: &str = "usage: cargo xtask bench [--build] [--rounds N] [--requests N]\n       cargo xtask bench --services [N,N…]";
/// How many services at a time, where nothing else is asked for.
const SERVICES: [usize; 4] = [10, 50, 100, 200];
/// Connections at a time.
const CONNECTIONS: [u32; 3] = [32, 128, 512];
/// A clock tick of /proc/PID/stat, in µs.
const TICK_US: f64 = 10_000.0;
/// Before idle memory is read: start-up is over by then.
const SETTLE: Duration = Duration::from_secs(3);

struct Options {
    rounds: usize,
    requests: u32,
    /// Measure these numbers of services, and nothing else.
    services: Vec<usize>,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = read(&arguments).and_then(|options| run(&options));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench: {why}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn read(arguments: &[String]) -> Result<Options, String> {
    let mut options = Options { rounds: 5, requests: 100_000, services: Vec::new() };
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        if word == "--services" {
            options.services = match words.next() {
                Some(list) => list
                    .split(',')
                    .map(str::parse)
                    .collect::<Result<_, _>>()
                    .map_err(|error| format!("`{list}`: {error}"))?,
                None => SERVICES.into(),
            };
            continue;
        }
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        let bad = || format!("`{value}` is no count");
        match word.as_str() {
            "--rounds" => options.rounds = value.parse().ok().ok_or_else(bad)?,
            "--requests" => options.requests = value.parse().ok().ok_or_else(bad)?,
            other => return Err(format!("there is no option `{other}`")),
        }
    }
    Ok(options)
}

fn run(options: &Options) -> Result<(), String> {
    if !options.services.is_empty() {
        let mut crowds = Vec::new();
        for services in &options.services {
            eprintln!("bench: {services} services");
            crowds.push(crowd::measure(*services)?);
        }
        println!("{}", crowd::markdown(&crowds));
        return Ok(());
    }
    let size = std::fs::metadata(sandbox::handover()).map_err(|e| e.to_string())?.len();
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let mebibytes = size as f64 / f64::from(1 << 20);
    println!("| | |\n|---|---|\n| binary | {mebibytes:.1} MiB |\n");
    idle();
    cpu(options)
}

fn idle() {
    let sandbox = Sandbox::started(Setup::default());
    std::thread::sleep(SETTLE);
    let status = sandbox.status();
    println!("| idle | RSS | PSS | threads |\n|---|---|---|---|");
    let mut pss_total = 0;
    for role in ["holder", "proxy", "agent"] {
        let pid = status.pid(role).unwrap_or(0);
        let (rss, pss) = system::memory_of(pid);
        pss_total += pss;
        println!("| {role} | {rss} KiB | {pss} KiB | {} |", system::threads_of(pid));
    }
    println!("| together | | {pss_total} KiB | |\n");
}

/// A proxy under measurement: where it listens and whose CPU time counts.
struct Subject {
    name: &'static str,
    port: u16,
    pid: u32,
    // Kept running while measured; ended when dropped.
    _keeps: Keeps,
}

enum Keeps {
    Handover(#[expect(dead_code, reason = "held for its drop")] Box<Sandbox>),
    Peer(#[expect(dead_code, reason = "held for its drop")] Running),
}

/// A process that is stopped when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        system::send(self.0.id(), system::Signal::Term);
        // It may have ended by itself.
        let _status = self.0.wait();
    }
}

fn cpu(options: &Options) -> Result<(), String> {
    let folder = tempfile::Builder::new().prefix("handover-bench-").tempdir().map_err(|e| e.to_string())?;
    let (keeper, backend) = free_port();
    drop(keeper);
    let text = backend_text(folder.path(), &backend.to_string());
    let _backend = start(folder.path(), "backend", "nginx", &text)?;
    wait_for(backend)?;
    let subjects = [handover()?, nginx(folder.path(), backend)?, haproxy(folder.path(), backend)?];
    println!(
        "| connections | Handover | nginx | HAProxy | Handover / nginx | Handover / HAProxy |\n|---|---|---|---|---|---|"
    );
    let mut product = 1.0;
    for connections in CONNECTIONS {
        let mut rounds: Vec<[f64; 3]> = Vec::new();
        for _ in 0..options.rounds {
            let mut round = [0.0; 3];
            for (micros, subject) in round.iter_mut().zip(&subjects) {
                *micros = micros_per_request(subject, connections, options.requests)?;
            }
            rounds.push(round);
        }
        let of = |index: usize| median(rounds.iter().map(|round| round[index]).collect());
        let to_nginx = median(rounds.iter().map(|round| round[0] / round[1]).collect());
        let to_haproxy = median(rounds.iter().map(|round| round[0] / round[2]).collect());
        product *= to_nginx;
        println!(
            "| {connections} | {:.2} µs | {:.2} µs | {:.2} µs | {to_nginx:.2} | {to_haproxy:.2} |",
            of(0),
            of(1),
            of(2)
        );
    }
    println!("\ngeometric mean of Handover / nginx: {:.2}", product.powf(1.0 / 3.0));
    let rounds = options.rounds;
    println!(
        "CPU time per request (user and system), one thread each, median of {rounds} interleaved rounds"
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn micros_per_request(subject: &Subject, connections: u32, requests: u32) -> Result<f64, String> {
    let url = format!("http://127.0.0.1:{}/", subject.port);
    let before = system::cpu_ticks(subject.pid);
    let mut h2load = Command::new("h2load");
    h2load.args(["--h1", "-t", "1", "-n", &requests.to_string(), "-c", &connections.to_string(), &url]);
    let output = h2load.output().map_err(|error| format!("h2load could not be started: {error}"))?;
    let ticks = system::cpu_ticks(subject.pid) - before;
    let said = String::from_utf8_lossy(&output.stdout);
    if !said.contains(&format!("{requests} succeeded")) {
        return Err(format!("{} did not answer all requests:\n{said}", subject.name));
    }
    let ticks = u32::try_from(ticks).map_err(|error| error.to_string())?;
    Ok(f64::from(ticks) * TICK_US / f64::from(requests))
}

fn start(folder: &Path, name: &str, program: &str, configuration: &str) -> Result<Running, String> {
    let file = folder.join(format!("{name}.conf"));
    std::fs::write(&file, configuration).map_err(|error| error.to_string())?;
    let mut command = Command::new(program_path(program));
    match program {
        "nginx" => command.arg("-p").arg(folder).arg("-c").arg(&file),
        _ => command.args(["-db", "-f"]).arg(&file),
    };
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    child.map(Running).map_err(|error| format!("{program} could not be started: {error}"))
}

fn wait_for(port: u16) -> Result<(), String> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let look = || http::once(address, &Request::get("/")).ok().filter(|answer| answer.status == 200);
    wait::try_until(wait::PATIENCE, look).map(|_| ()).ok_or_else(|| format!("nobody answers on port {port}"))
}

fn nginx_text(folder: &Path, name: &str, server: &str) -> String {
    let (folder, user) = (folder.display(), nginx_user());
    format!(
        "{user} daemon off; worker_processes 1; pid {folder}/{name}.pid; error_log /dev/null;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 60s;\n  \
         client_body_temp_path {folder}/{name}-b; proxy_temp_path {folder}/{name}-p; \
         fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;\n  \
         {server}\n}}\n"
    )
}

fn backend_text(folder: &Path, port: &str) -> String {
    let server = format!(
        "server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 'hello world\\n'; }} }}"
    );
    nginx_text(folder, "backend", &server)
}

fn first_child(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn nginx(folder: &Path, backend: u16) -> Result<Subject, String> {
    let (keeper, port) = free_port();
    drop(keeper);
    let server = format!(
        "upstream app {{ server 127.0.0.1:{backend}; keepalive 512; }}\n  \
         server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://app; \
         proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }}"
    );
    let running = start(folder, "nginx", "nginx", &nginx_text(folder, "nginx", &server))?;
    wait_for(port)?;
    let worker = first_child(running.0.id()).ok_or("nginx has no worker")?;
    Ok(Subject { name: "nginx", port, pid: worker, _keeps: Keeps::Peer(running) })
}

fn haproxy(folder: &Path, backend: u16) -> Result<Subject, String> {
    let (keeper, port) = free_port();
    drop(keeper);
    let text = format!(
        "global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode http\n  http-reuse always\n  timeout connect 5s\n  \
         timeout client 60s\n  timeout server 60s\nfrontend web\n  bind 127.0.0.1:{port} backlog 4096\n  \
         default_backend app\nbackend app\n  server one 127.0.0.1:{backend}\n"
    );
    let running = start(folder, "haproxy", "haproxy", &text)?;
    wait_for(port)?;
    let pid = running.0.id();
    Ok(Subject { name: "HAProxy", port, pid, _keeps: Keeps::Peer(running) })
}

fn handover() -> Result<Subject, String> {
    let program: PathBuf = program_path("nginx");
    let script = format!(
        "sed s/@PORT@/$PORT/ backend.template > backend.conf && exec {} -p . -c $PWD/backend.conf",
        program.display()
    );
    let setup = Setup {
        command: vec!["/bin/sh".to_owned(), "-c".to_owned(), script],
        proxy: "threads = 1\n".to_owned(),
        readiness: "http = \"/\"\n".to_owned(),
        ..Setup::default()
    };
    let mut sandbox = Sandbox::new(setup);
    let template = backend_text(sandbox.folder(), "@PORT@");
    let file = sandbox.folder().join("source/1/backend.template");
    std::fs::write(file, template).map_err(|error| error.to_string())?;
    sandbox.up();
    let status = sandbox.wait_ready();
    let port = status.listener("web").ok_or("the listener is not bound")?.port();
    let pid = status.pid("proxy").ok_or("there is no proxy")?;
    Ok(Subject { name: "Handover", port, pid, _keeps: Keeps::Handover(Box::new(sandbox)) })
}
