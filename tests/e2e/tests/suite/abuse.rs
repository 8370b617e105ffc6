//! Clients that mean harm: everyone else is served in time, memory stays bounded, nothing panics.
//!
//! `HANDOVER_ABUSE=full` in the environment asks for the large counts.

use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use e2e::http::{self, Connection, Request};
use e2e::manifest::Setup;
use e2e::sandbox::Sandbox;
use e2e::system;
use e2e::wait::{self, PATIENCE};

/// No well-behaved client waits for longer, on a busy machine.
const WELL_SERVED: Duration = Duration::from_secs(3);
/// Most that a proxy may grow under each of these, for each connection it holds.
const GROWTH_KIB_PER_CONNECTION: u64 = 40;
/// And whatever the number of connections.
const GROWTH_KIB: u64 = 24 << 10;

fn is_full() -> bool {
    std::env::var("HANDOVER_ABUSE").is_ok_and(|value| value == "full")
}

/// A service whose listener has no patience.
fn impatient() -> Sandbox {
    let listener = "header_timeout = \"2s\"\nbody_timeout = \"2s\"\nidle_timeout = \"60s\"\n".to_owned();
    Sandbox::started(Setup { listener, ..Setup::default() })
}

/// A client that asks on a kept and on a fresh connection, again and again.
struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(u64, Duration), String>>,
}

impl Neighbour {
    fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut kept = Connection::open(address).map_err(|error| error.to_string())?;
            let (mut answers, mut longest) = (0, Duration::ZERO);
            while !told.load(Ordering::SeqCst) {
                let asked = Instant::now();
                let answer =
                    kept.exchange(&Request::get("/")).map_err(|loss| format!("kept: {}", loss.name()))?;
                if answer.status != 200 {
                    return Err(format!("kept: {}", answer.status));
                }
                if answer.close {
                    kept = Connection::open(address).map_err(|error| error.to_string())?;
                }
                let fresh = Request { close: true, ..Request::get("/") };
                let answer = http::once(address, &fresh).map_err(|loss| format!("fresh: {}", loss.name()))?;
                if answer.status != 200 {
                    return Err(format!("fresh: {}", answer.status));
                }
                longest = longest.max(asked.elapsed());
                answers += 2;
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok((answers, longest))
        });
        Self { stop, thread }
    }

    #[track_caller]
    fn finish(self, what: &str) {
        self.stop.store(true, Ordering::SeqCst);
        let (answers, longest) =
            self.thread.join().unwrap().unwrap_or_else(|why| panic!("beside {what}: {why}"));
        println!("beside {what}: {answers} answers, the longest wait {longest:?}");
        assert!(answers > 0 && longest < WELL_SERVED, "beside {what}: {answers} answers, {longest:?}");
    }
}

/// The proxy did not grow beyond what its connections may cost, is the same process, and nothing panicked.
#[track_caller]
fn is_sound(sandbox: &Sandbox, proxy: u32, before_kib: u64, connections: u64, what: &str) {
    let after = system::memory_of(proxy).0;
    let most = before_kib + GROWTH_KIB + connections * GROWTH_KIB_PER_CONNECTION;
    println!("{what}: {before_kib} KiB before, {after} KiB after");
    assert!(after > 0 && after < most, "{what}: {before_kib} KiB before, {after} KiB after");
    assert_eq!(sandbox.status().pid("proxy"), Some(proxy), "{what}: another proxy");
    assert!(!sandbox.logs().contains("panicked"), "{what}: a panic");
}

#[test]
fn slow_heads_slow_bodies_and_slow_readers_keep_nobody_waiting() {
    let sandbox = impatient();
    let address = sandbox.address();
    let proxy = sandbox.status().pid("proxy").unwrap();
    let (connections, seconds) = if is_full() { (4_000_u64, "30") } else { (500, "5") };
    let count = connections.to_string();
    let url = |path: &str| format!("http://{address}{path}");
    for (what, arguments) in [
        ("slowloris", ["-H", "-t", "GET", "-x", "24", "-u", &url("/")].map(str::to_owned).to_vec()),
        (
            "slow bodies",
            ["-B", "-t", "POST", "-s", "8192", "-x", "10", "-u", &url("/")].map(str::to_owned).to_vec(),
        ),
        (
            "slow readers",
            [
                "-X",
                "-w",
                "256",
                "-y",
                "512",
                "-n",
                "1",
                "-z",
                "32",
                "-k",
                "3",
                "-u",
                &url("/big?bytes=2000000"),
            ]
            .map(str::to_owned)
            .to_vec(),
        ),
    ] {
        let before = system::memory_of(proxy).0;
        let neighbour = Neighbour::start(address);
        let mut tool = Command::new("slowhttptest");
        tool.args(["-c", &count, "-r", &count, "-i", "1", "-l", seconds, "-p", "3", "-v", "1"])
            .args(arguments);
        let status = tool.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.is_ok(), "slowhttptest is installed: {status:?}");
        neighbour.finish(what);
        is_sound(&sandbox, proxy, before, connections, what);
    }
}

#[test]
fn thousands_of_connections_that_say_nothing_or_half_a_head_keep_nobody_waiting() {
    let listener = "header_timeout = \"60s\"\nidle_timeout = \"60s\"\n".to_owned();
    let sandbox = Sandbox::started(Setup { listener, ..Setup::default() });
    let address = sandbox.address();
    let proxy = sandbox.status().pid("proxy").unwrap();
    let count = if is_full() { 15_000 } else { 3_000 };
    system::raise_descriptor_limit();
    let before = system::memory_of(proxy).0;
    let neighbour = Neighbour::start(address);
    let began = Instant::now();
    let mut held: Vec<TcpStream> = Vec::new();
    for number in 0..count {
        let mut stream = TcpStream::connect(address).unwrap();
        if number % 2 == 0 {
            std::io::Write::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: a\r\nX-Ha").unwrap();
        }
        held.push(stream);
    }
    println!("{count} connections after {:?}", began.elapsed());
    wait::until("the proxy to have accepted them", PATIENCE, || {
        (system::descriptors_of(proxy) > count).then_some(())
    });
    neighbour.finish("silent connections");
    is_sound(&sandbox, proxy, before, count as u64, "silent connections");
    drop(held);
    wait::until("their ends to be seen", PATIENCE, || (system::descriptors_of(proxy) < 500).then_some(()));
}

#[test]
fn when_descriptors_run_out_idle_connections_are_given_up_and_requests_are_answered() {
    let sandbox = impatient();
    let address = sandbox.address();
    let proxy = sandbox.status().pid("proxy").unwrap();
    let before = system::memory_of(proxy).0;
    let limit = system::descriptors_of(proxy) + 100;
    let limited = Command::new("prlimit")
        .args(["--pid", &proxy.to_string(), &format!("--nofile={limit}:20000")])
        .status();
    assert!(limited.is_ok_and(|status| status.success()), "prlimit works");
    let mut held: Vec<TcpStream> = Vec::new();
    for round in 0..5 {
        for _ in 0..200 {
            held.push(TcpStream::connect(address).unwrap());
        }
        let answer = wait::until("an answer", PATIENCE, || {
            http::once(address, &Request { close: true, ..Request::get("/") })
                .ok()
                .filter(|answer| answer.status == 200)
        });
        assert_eq!(answer.status, 200, "round {round}");
    }
    let raised = Command::new("prlimit").args(["--pid", &proxy.to_string(), "--nofile=20000:20000"]).status();
    assert!(raised.is_ok_and(|status| status.success()), "prlimit works");
    drop(held);
    let neighbour = Neighbour::start(address);
    std::thread::sleep(Duration::from_millis(300));
    neighbour.finish("a shortage that is over");
    is_sound(&sandbox, proxy, before, 0, "a shortage of descriptors");
}
