//! Clients that never retry: they check every answer, and count whatever is not right as lost.
//!
//! Each is a thread with blocking sockets and a few lines of HTTP of its own: a client library would hide the very
//! losses that are looked for, by trying again.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::cli::Failure;
use crate::exit_code::Code;

/// Clients of all kinds.
pub(super) const CLIENTS: usize = KEEPING + FRESH + POSTING;
/// Clients that keep their connection.
const KEEPING: usize = 6;
/// Clients that make a connection for every request.
const FRESH: usize = 3;
/// Clients that send a body, on a connection they keep.
const POSTING: usize = 3;
/// Between two requests of one client: the machine has other things to do as well.
const PACE: Duration = Duration::from_millis(3);
/// Between two requests of one that makes connections: each leaves a used port behind for a minute.
const PACE_FRESH: Duration = Duration::from_millis(10);
/// After a loss, so that a service that is gone altogether is not counted ten thousand times.
const PACE_AFTER_LOSS: Duration = Duration::from_millis(100);
/// For one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Longest answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Longest body that is sent; each one has another length.
const BODY_BYTES_MAX: usize = 20_000;
/// Losses that are described.
const DESCRIBED_MAX: usize = 5;

/// What a release's sample service answers with.
pub(super) fn greeting(version: &str) -> String {
    format!("Hello from {version}.")
}

/// Requests under way, by threads of their own.
pub(super) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    before: Tally,
    began: Instant,
}

/// What the clients count.
#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    stop: AtomicBool,
    requests: AtomicU64,
    lost: AtomicU64,
    longest_us: AtomicU64,
    described: Mutex<Vec<String>>,
}

/// What was counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) requests: u64,
    pub(super) lost: u64,
    pub(super) longest: Duration,
    pub(super) lasted: Duration,
    pub(super) described: Vec<String>,
}

/// What kind of requests a client sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Keeping,
    Fresh,
    Posting,
}

impl Load {
    /// Starts all clients.
    pub(super) fn start(address: SocketAddr) -> Result<Self, Failure> {
        let shared = Arc::new(Shared {
            address,
            stop: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            longest_us: AtomicU64::new(0),
            described: Mutex::new(Vec::new()),
        });
        let mut load = Self { shared, threads: Vec::new(), before: Tally::default(), began: Instant::now() };
        let kinds = [(Kind::Keeping, KEEPING), (Kind::Fresh, FRESH), (Kind::Posting, POSTING)];
        for kind in kinds.into_iter().flat_map(|(kind, clients)| std::iter::repeat_n(kind, clients)) {
            let shared = Arc::clone(&load.shared);
            let client = std::thread::Builder::new().name("client".into()).spawn(move || shared.send(kind));
            load.threads.push(client.map_err(|error| {
                Failure::new(Code::Failed, format_args!("a client cannot be started: {error}"))
            })?);
        }
        Ok(load)
    }

    /// Requests and losses until now.
    pub(super) fn so_far(&self) -> (u64, u64) {
        (self.shared.requests.load(Ordering::Relaxed), self.shared.lost.load(Ordering::Relaxed))
    }

    /// What was counted since this was asked last.
    pub(super) fn since_last(&mut self) -> Tally {
        let (requests, lost) = self.so_far();
        let longest = Duration::from_micros(self.shared.longest_us.swap(0, Ordering::Relaxed));
        let tally = Tally {
            requests: requests - self.before.requests,
            lost: lost - self.before.lost,
            longest,
            ..Tally::default()
        };
        let longest = self.before.longest.max(longest);
        self.before = Tally { requests, lost, longest, ..Tally::default() };
        tally
    }

    /// Lets every client finish its request; everything that was counted.
    pub(super) fn end(mut self) -> Tally {
        let lasted = self.began.elapsed();
        self.stop();
        let _ = self.since_last();
        let described = self.shared.described.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Tally { described, lasted, ..self.before.clone() }
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                self.shared.lose("a client of the demo panicked".to_owned());
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// One client's life.
    fn send(&self, kind: Kind) {
        let pace = if kind == Kind::Fresh { PACE_FRESH } else { PACE };
        let mut connection = None;
        let mut number = 0;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            let began = Instant::now();
            let outcome = self.request(kind, number, &mut connection);
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.longest_us.fetch_max(took, Ordering::Relaxed);
            self.requests.fetch_add(1, Ordering::Relaxed);
            match outcome {
                Ok(()) => std::thread::sleep(pace),
                Err(why) => {
                    connection = None;
                    self.lose(why);
                    std::thread::sleep(PACE_AFTER_LOSS);
                }
            }
        }
    }

    fn lose(&self, why: String) {
        self.lost.fetch_add(1, Ordering::Relaxed);
        let mut described = self.described.lock().unwrap_or_else(PoisonError::into_inner);
        if described.len() < DESCRIBED_MAX {
            described.push(why);
        }
    }

    /// One request, sent once.
    fn request(&self, kind: Kind, number: usize, kept: &mut Option<TcpStream>) -> Result<(), String> {
        let is_reused = kept.is_some();
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => self.connect().map_err(|error| format!("no connection: {error}"))?,
        };
        let where_ = if is_reused { "a kept connection" } else { "a new connection" };
        let (request, expected) = self.compose(kind, number);
        stream.write_all(&request).map_err(|error| format!("not sent on {where_}: {error}"))?;
        let answer =
            Answer::read(&mut stream).map_err(|error| format!("no whole answer on {where_}: {error}"))?;
        if answer.status != 200 {
            return Err(format!("answered with status {}: {}", answer.status, answer.body.trim_end()));
        }
        let is_right = match &expected {
            Some(expected) => answer.body == *expected,
            None => is_greeting(&answer.body),
        };
        if !is_right {
            return Err(format!("a wrong answer: {:?}", answer.body));
        }
        if kind != Kind::Fresh && !answer.closes {
            *kept = Some(stream);
        }
        Ok(())
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, ANSWER_LIMIT)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The request, and its answer where that does not depend on the release.
    fn compose(&self, kind: Kind, number: usize) -> (Vec<u8>, Option<String>) {
        let address = self.address;
        match kind {
            Kind::Keeping => {
                (format!("GET /{number} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes(), None)
            }
            Kind::Fresh => {
                let text = format!("GET /{number} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
                (text.into_bytes(), None)
            }
            Kind::Posting => {
                let length = 1 + number * 997 % BODY_BYTES_MAX;
                let head =
                    format!("POST /{number} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n");
                let mut request = head.into_bytes();
                request.resize(request.len() + length, b'x');
                (request, Some(format!("received {length} bytes\n")))
            }
        }
    }
}

/// Whether a body is one that a release of the demo answers with, all of it from one and the same.
fn is_greeting(body: &str) -> bool {
    ["v1", "v2", "v4"].iter().any(|version| {
        let head = format!("{}\n{version} (hello@{version}/", greeting(version));
        body.strip_prefix(&head)
            .and_then(|rest| rest.strip_suffix(")\n"))
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// An answer that was read to its end.
struct Answer {
    status: u16,
    closes: bool,
    body: String,
}

impl Answer {
    fn read(stream: &mut TcpStream) -> io::Result<Self> {
        let broken = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
        let mut bytes = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            if let Some(answer) = Self::parse(&bytes).map_err(broken)? {
                return Ok(answer);
            }
            if bytes.len() > ANSWER_BYTES_MAX {
                return Err(broken("it is too long"));
            }
            match stream.read(&mut chunk)? {
                0 if bytes.is_empty() => return Err(broken("closed before the first byte")),
                0 => return Err(broken("cut off")),
                read => bytes.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// The answer once it is whole; more than one is an error, because one was asked for.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_bytes| "its head is not text")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
        let status = status.ok_or("it does not begin like an answer")?;
        let (mut length, mut closes) = (None, false);
        for line in lines {
            let (name, value) = line.split_once(':').ok_or("a field without a colon")?;
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse().map_err(|_value| "its length is no number")?);
            } else if name.eq_ignore_ascii_case("connection") {
                closes |= value.trim().eq_ignore_ascii_case("close");
            }
        }
        let length: usize = length.ok_or("it does not say its length")?;
        let body = &bytes[end + 4..];
        if body.len() < length {
            return Ok(None);
        }
        if body.len() > length {
            return Err("more bytes than it announced");
        }
        let body = String::from_utf8(body.to_vec()).map_err(|_bytes| "its body is not text")?;
        Ok(Some(Self { status, closes, body }))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_counts_when_it_is_whole_and_not_before() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
        for end in 0..text.len() {
            assert!(Answer::parse(&text[..end]).unwrap().is_none(), "{end}");
        }
        let answer = Answer::parse(text).unwrap().unwrap();
        assert_eq!((answer.status, answer.closes, answer.body.as_str()), (200, true, "abc"));
        assert!(Answer::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd").is_err());
        assert!(Answer::parse(b"nonsense\r\n\r\n").is_err());
    }

    #[test]
    fn a_greeting_is_of_one_release_from_its_first_word_to_its_last() {
        assert!(is_greeting("Hello from v2.\nv2 (hello@v2/11)\n"));
        for wrong in [
            "Hello from v2.\nv1 (hello@v1/0)\n",
            "Hello from v3.\nv3 (hello@v3/0)\n",
            "Hello from v2.\nv2 (hello@v2/)\n",
            "Hello from v2.\nv2 (hello@v2/0)",
            "",
        ] {
            assert!(!is_greeting(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_connection_that_is_closed_without_an_answer_is_a_loss_that_is_described() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let closing = std::thread::spawn(move || drop(listener.accept().unwrap()));
        let load = Load::start(address).unwrap();
        closing.join().unwrap();
        while load.so_far().1 == 0 {
            std::thread::yield_now();
        }
        let tally = load.end();
        assert!(tally.lost > 0 && !tally.described.is_empty());
    }
}
