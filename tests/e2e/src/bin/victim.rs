//! A service with every bad habit on request: what the tests put under supervision.
//!
//! Without flags it is well behaved: listens on `PORT`, is ready at once, finishes its requests at SIGTERM.
//! Flags come from the command line and, one per line, from the file `flags` in the working directory, which
//! is its release: so releases differ without the command differing.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a service prints")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::system;

/// Between two looks at whether the last request is finished.
const FINISH_INTERVAL: Duration = Duration::from_millis(2);
/// Piece in which large answers are written.
const PIECE: usize = 64 << 10;

/// What a flood writes every 10 ms.
const FLOOD_BLOCK: usize = 1_000_000;

/// Its habits.
#[derive(Debug, Default)]
struct Habits {
    ready_after: Duration,
    bind_after: Duration,
    never_ready: bool,
    exit_at_once: Option<u8>,
    exit_after: Option<(Duration, u8)>,
    ignore_term: bool,
    fork_child_keeps_port: bool,
    close_after: Option<u64>,
    idle_close: Option<Duration>,
    fixed_port: Option<u16>,
    notify: bool,
    version: Option<String>,
    print: Vec<String>,
    hold_stdin: bool,
    ignore_all: bool,
    tick: Option<Duration>,
    flood: bool,
    garbage: bool,
    long_line: Option<usize>,
    zombies: u32,
    fill: Option<u64>,
}

impl Habits {
    fn from_arguments(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut habits = Self::default();
        let mut arguments = arguments;
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{flag} wants a value"));
            match flag.as_str() {
                "--ready-after" => habits.ready_after = Duration::from_millis(number(&value()?)?),
                "--bind-after" => habits.bind_after = Duration::from_millis(number(&value()?)?),
                "--never-ready" => habits.never_ready = true,
                "--exit-at-once" => habits.exit_at_once = Some(number(&value()?)?),
                "--exit-after" => {
                    habits.exit_after = Some((Duration::from_millis(number(&value()?)?), number(&value()?)?));
                }
                "--ignore-term" => habits.ignore_term = true,
                "--fork-child-keeps-port" => habits.fork_child_keeps_port = true,
                "--close-after-n-requests" => habits.close_after = Some(number(&value()?)?),
                "--idle-close-ms" => habits.idle_close = Some(Duration::from_millis(number(&value()?)?)),
                "--fixed-port" => habits.fixed_port = Some(number(&value()?)?),
                "--notify" => habits.notify = true,
                "--version" => habits.version = Some(value()?),
                "--print" => habits.print.push(value()?),
                "--hold-stdin" => habits.hold_stdin = true,
                "--ignore-all" => habits.ignore_all = true,
                "--tick" => habits.tick = Some(Duration::from_millis(number(&value()?)?)),
                "--flood" => habits.flood = true,
                "--garbage" => habits.garbage = true,
                "--long-line" => habits.long_line = Some(number(&value()?)?),
                "--zombies" => habits.zombies = number(&value()?)?,
                "--fill" => habits.fill = Some(number(&value()?)?),
                other => return Err(format!("there is no flag `{other}`")),
            }
        }
        Ok(habits)
    }
}

fn number<N: FromStr>(text: &str) -> Result<N, String> {
    text.parse().ok().ok_or_else(|| format!("`{text}` is not such a number"))
}

/// What all connections share.
struct Shared {
    habits: Habits,
    version: String,
    started: Instant,
    stopping: AtomicBool,
    in_flight: AtomicU32,
    requests: AtomicU64,
}

impl Shared {
    fn is_ready(&self) -> bool {
        !self.habits.never_ready && self.started.elapsed() >= self.habits.ready_after
    }
}

fn main() -> ExitCode {
    system::block_signals();
    let from_file = std::fs::read_to_string("flags").unwrap_or_default();
    let lines: Vec<String> = from_file.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let habits = match Habits::from_arguments(std::env::args().skip(1).chain(lines)) {
        Ok(habits) => habits,
        Err(why) => {
            eprintln!("victim: {why}");
            return ExitCode::from(2);
        }
    };
    if habits.ignore_all {
        system::block_every_signal();
    }
    if habits.hold_stdin {
        // A child that nobody told about the end: SIGTERM stays blocked.
        loop {
            std::thread::park();
        }
    }
    habits.print.iter().for_each(|line| println!("{line}"));
    if let Some(code) = habits.exit_at_once {
        eprintln!("cannot open the database: no such file");
        return ExitCode::from(code);
    }
    serve(habits)
}

fn serve(habits: Habits) -> ExitCode {
    let port = habits.fixed_port.or_else(|| std::env::var("PORT").ok()?.parse().ok());
    let Some(port) = port else {
        eprintln!("victim: PORT is not set");
        return ExitCode::from(2);
    };
    std::thread::sleep(habits.bind_after);
    let listener = match TcpListener::bind(("127.0.0.1", port)) {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("victim: cannot listen on port {port}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("listening on {port}");
    if habits.fork_child_keeps_port {
        let own = std::env::current_exe().expect("the own path is known");
        let child = Command::new(own).arg("--hold-stdin").stdin(system::as_stdin(&listener)).spawn();
        println!("child {}", child.expect("a child can be started").id());
    }
    let version =
        habits.version.clone().or_else(|| std::env::var("HANDOVER_VERSION").ok()).unwrap_or_default();
    let shared = Arc::new(Shared {
        habits,
        version,
        started: Instant::now(),
        stopping: AtomicBool::new(false),
        in_flight: AtomicU32::new(0),
        requests: AtomicU64::new(0),
    });
    timed_habits(&shared);
    output_habits(&shared.habits);
    let accepting = shared.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = accepting.clone();
            std::thread::spawn(move || serve_connection(&shared, stream));
        }
    });
    wait_for_the_end(&shared);
    ExitCode::SUCCESS
}

fn timed_habits(shared: &Arc<Shared>) {
    if shared.habits.notify && !shared.habits.never_ready {
        let after = shared.habits.ready_after;
        std::thread::spawn(move || {
            std::thread::sleep(after);
            system::notify("READY=1");
        });
    }
    if let Some((after, code)) = shared.habits.exit_after {
        std::thread::spawn(move || {
            std::thread::sleep(after);
            eprintln!("out of patience");
            leave(code);
        });
    }
}

/// What it prints, and does to the machine, without being asked.
fn output_habits(habits: &Habits) {
    if let Some(tick) = habits.tick {
        std::thread::spawn(move || {
            for number in 0_u64.. {
                println!("tick {number:08}");
                std::thread::sleep(tick);
            }
        });
    }
    if habits.flood {
        std::thread::spawn(flood);
    }
    if habits.garbage {
        std::thread::spawn(|| {
            loop {
                write_out(b"\xff\xfe\xc3(\0 not text \xf0\x9f\n");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
    }
    if let Some(length) = habits.long_line {
        std::thread::spawn(move || {
            let mut line = vec![b'l'; length];
            line.extend_from_slice(b"\nafter the long line\n");
            write_out(&line);
        });
    }
    for _ in 0..habits.zombies {
        // Ended at once, and never asked about.
        let _zombie = Command::new("true").stdin(std::process::Stdio::null()).spawn();
    }
    if let Some(bytes) = habits.fill {
        std::thread::spawn(move || {
            println!("{}", fill(bytes));
        });
    }
}

/// Lines of 100 bytes, 100 MB in a second.
fn flood() {
    let line = [b'f'; 99];
    let block: Vec<u8> = line.iter().chain(b"\n").copied().cycle().take(FLOOD_BLOCK).collect();
    let pace = Duration::from_millis(10);
    loop {
        let began = Instant::now();
        write_out(&block);
        std::thread::sleep(pace.saturating_sub(began.elapsed()));
    }
}

fn write_out(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    // A closed output is nothing a service with these habits cares about.
    let _written = out.write_all(bytes).and_then(|()| out.flush());
}

/// Writes up to so many bytes into its working directory; what came of it.
fn fill(bytes: u64) -> String {
    let written = std::fs::File::create("filler").and_then(|mut file| {
        let piece = vec![b'x'; PIECE];
        for _ in 0..bytes / PIECE as u64 {
            file.write_all(&piece)?;
        }
        Ok(())
    });
    match written {
        Ok(()) => "all written".to_owned(),
        Err(error) => format!("the disk is full: {error}"),
    }
}

#[expect(clippy::exit, reason = "a service that ends from one of its threads is the habit under test")]
fn leave(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

/// Returns when it was asked to stop and nothing is in flight.
fn wait_for_the_end(shared: &Shared) {
    loop {
        if shared.habits.ignore_all {
            std::thread::park();
            continue;
        }
        if system::wait_for_signal() {
            println!("asked to reload");
            if shared.habits.notify {
                system::notify("RELOADING=1");
                system::notify("READY=1");
            }
            continue;
        }
        println!("asked to stop");
        if !shared.habits.ignore_term {
            break;
        }
    }
    shared.stopping.store(true, Ordering::SeqCst);
    while shared.in_flight.load(Ordering::SeqCst) > 0 {
        std::thread::sleep(FINISH_INTERVAL);
    }
    println!("stopped after {} requests", shared.requests.load(Ordering::Relaxed));
}

struct Asked {
    method: String,
    path: String,
    query: String,
    close: bool,
    body: Vec<u8>,
}

fn serve_connection(shared: &Shared, stream: TcpStream) {
    // An error here is the other side's end: there is nobody to tell.
    let _ended = stream.set_nodelay(true).and_then(|()| stream.set_read_timeout(shared.habits.idle_close));
    let Ok(mut writer) = stream.try_clone() else { return };
    let mut reader = BufReader::with_capacity(PIECE, stream);
    let mut served = 0;
    loop {
        // Blocks while the connection is idle; the request counts as in flight from its first byte.
        match reader.fill_buf() {
            Ok(bytes) if !bytes.is_empty() => {}
            _ => return,
        }
        let _in_flight = InFlight::begin(shared);
        let Some(asked) = read_request(&mut reader) else { return };
        if asked.path == "/tunnel" {
            return tunnel(shared, &mut reader, &mut writer);
        }
        served += 1;
        let last = shared.habits.close_after.is_some_and(|n| served >= n);
        // Whoever closes after n requests here does so without saying it: that is the bad habit.
        let close = asked.close || shared.stopping.load(Ordering::SeqCst);
        if answer(shared, &asked, close, &mut writer).is_err() || close || last {
            return;
        }
    }
}

struct InFlight<'a>(&'a Shared);

impl<'a> InFlight<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.in_flight.fetch_add(1, Ordering::SeqCst);
        shared.requests.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

fn read_line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = reader.read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let first = read_line(reader)?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let (mut length, mut chunked, mut close) = (0, false, false);
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':')?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => close = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while chunked {
        let size = usize::from_str_radix(read_line(reader)?.split(';').next()?.trim(), 16).ok()?;
        let old = body.len();
        body.resize(old + size, 0);
        reader.read_exact(&mut body[old..]).ok()?;
        read_line(reader)?;
        chunked = size > 0;
    }
    Some(Asked { method, path: path.to_owned(), query: query.to_owned(), close, body })
}

fn query_number(query: &str, name: &str) -> u64 {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(0)
}

fn answer(shared: &Shared, asked: &Asked, close: bool, writer: &mut TcpStream) -> std::io::Result<()> {
    match asked.path.as_str() {
        "/healthz" if !shared.is_ready() => respond(shared, writer, 503, close, b"starting"),
        "/slow" => {
            std::thread::sleep(Duration::from_millis(query_number(&asked.query, "ms")));
            respond(shared, writer, 200, close, &asked.body)
        }
        "/big" => big(shared, writer, close, query_number(&asked.query, "bytes")),
        "/drip" => drip(shared, writer, close, &asked.query),
        "/status" => {
            let status = u16::try_from(query_number(&asked.query, "code")).unwrap_or(500);
            respond(shared, writer, status, close, b"as asked")
        }
        "/die" => leave(9),
        _ if asked.method == "POST" || asked.method == "PUT" => {
            respond(shared, writer, 200, close, &asked.body)
        }
        _ => respond(shared, writer, 200, close, shared.version.as_bytes()),
    }
}

fn head(shared: &Shared, status: u16, close: bool, framing: &str) -> String {
    let instance = std::env::var("HANDOVER_INSTANCE").unwrap_or_default();
    let close = if close { "Connection: close\r\n" } else { "" };
    let version = &shared.version;
    format!("HTTP/1.1 {status} It\r\nVersion: {version}\r\nInstance: {instance}\r\n{close}{framing}\r\n\r\n")
}

fn respond(
    shared: &Shared,
    out: &mut TcpStream,
    status: u16,
    close: bool,
    body: &[u8],
) -> std::io::Result<()> {
    let mut bytes = head(shared, status, close, &format!("Content-Length: {}", body.len())).into_bytes();
    bytes.extend_from_slice(body);
    out.write_all(&bytes)
}

fn big(shared: &Shared, out: &mut TcpStream, close: bool, bytes: u64) -> std::io::Result<()> {
    out.write_all(head(shared, 200, close, &format!("Content-Length: {bytes}")).as_bytes())?;
    let piece = [b'x'; PIECE];
    let mut left = usize::try_from(bytes).unwrap_or(0);
    while left > 0 {
        let now = left.min(PIECE);
        out.write_all(&piece[..now])?;
        left -= now;
    }
    Ok(())
}

/// A chunked answer, a piece at a time.
fn drip(shared: &Shared, out: &mut TcpStream, close: bool, query: &str) -> std::io::Result<()> {
    out.write_all(head(shared, 200, close, "Transfer-Encoding: chunked").as_bytes())?;
    for _ in 0..query_number(query, "pieces") {
        out.write_all(b"5\r\ndrop \r\n")?;
        std::thread::sleep(Duration::from_millis(query_number(query, "ms")));
    }
    out.write_all(b"0\r\n\r\n")
}

/// Speaks no HTTP any more: says each line again, after its version.
fn tunnel(shared: &Shared, reader: &mut BufReader<TcpStream>, out: &mut TcpStream) {
    let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n";
    if out.write_all(switch).is_err() {
        return;
    }
    while let Some(line) = read_line(reader) {
        if out.write_all(format!("{} {line}\n", shared.version).as_bytes()).is_err() {
            return;
        }
    }
}
