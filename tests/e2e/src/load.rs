//! Clients that never retry, many at once, and what they saw.
//!
//! Each client is a thread with one connection. It does nothing to hide a loss: it keeps to what the server
//! said (`Connection: close`, the idle timeout it was promised), and counts everything else.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{Answer, Connection, Loss, Request};

/// A stall that a person or a tight timeout would notice.
pub const STALL: Duration = Duration::from_millis(20);
/// After a refused connection, so that a dead server is not hammered.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_millis(1);
/// The edge client wakes this much early and spins: sleeping overshoots.
const SPIN: Duration = Duration::from_millis(2);
/// What the slow reader asks for, its pieces, and the pause before each: about a second in all.
const SLOW_BYTES: usize = 4 << 20;
const SLOW_PIECE: usize = 64 << 10;
const SLOW_PAUSE: Duration = Duration::from_millis(15);

/// What a client does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One POST after the other.
    Think0,
    /// 2 ms between answer and next request.
    Think2ms,
    /// 1 s.
    Think1s,
    /// As long as the server promised to keep an idle connection.
    IdleEdge,
    /// A new connection for each request.
    Fresh,
    /// Requests that take longer than a deploy.
    Long,
    /// Takes a large answer slowly.
    SlowReader,
    /// Chunked uploads with pauses.
    Chunked,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Think0,
        Self::Think2ms,
        Self::Think1s,
        Self::IdleEdge,
        Self::Fresh,
        Self::Long,
        Self::SlowReader,
        Self::Chunked,
    ];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Think0 => "think 0",
            Self::Think2ms => "think 2 ms",
            Self::Think1s => "think 1 s",
            Self::IdleEdge => "idle edge",
            Self::Fresh => "fresh",
            Self::Long => "long",
            Self::SlowReader => "slow reader",
            Self::Chunked => "chunked",
        }
    }

    /// What one request takes by itself: not a stall.
    fn own_time(self, plan: &Plan) -> Option<Duration> {
        match self {
            Self::Think0 | Self::Think2ms | Self::Think1s | Self::IdleEdge | Self::Fresh => {
                Some(Duration::ZERO)
            }
            Self::Long => Some(plan.long),
            Self::SlowReader | Self::Chunked => None,
        }
    }
}

/// What all clients of a load have in common.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where they connect.
    pub address: SocketAddr,
    /// How long the server promised to keep an idle connection.
    pub idle_timeout: Duration,
    /// How long a long request takes.
    pub long: Duration,
    /// POST, or PUT where a retry by the proxy is to be allowed.
    pub method: &'static str,
}

impl Plan {
    /// The usual one.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            idle_timeout: Duration::from_secs(2),
            long: Duration::from_millis(1500),
            method: "POST",
        }
    }
}

/// What clients saw.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Answered 200 with the right body.
    pub ok: u64,
    /// Lost, by how.
    pub lost: BTreeMap<Loss, u64>,
    /// Answered with another status, by status.
    pub bad_status: BTreeMap<u16, u64>,
    /// Answered 200 with a wrong body.
    pub wrong_body: u64,
    /// Connections made.
    pub connections: u64,
    /// Connections ended because the server said so.
    pub closes_honoured: u64,
    /// Connections given up because the client itself slept over the idle timeout.
    pub overslept: u64,
    /// The longest stall: time over what the request takes by itself.
    pub longest_stall: Duration,
    /// Stalls over [`STALL`].
    pub stalls: u64,
    /// By version: when the last request that it answered was sent.
    pub last_sent_to: BTreeMap<String, Instant>,
    /// By version: when its first answer was complete.
    pub first_answer_of: BTreeMap<String, Instant>,
}

impl Tally {
    /// Requests that did not get their answer.
    pub fn failures(&self) -> u64 {
        self.lost.values().sum::<u64>() + self.bad_status.values().sum::<u64>() + self.wrong_body
    }

    /// Requests made.
    pub fn requests(&self) -> u64 {
        self.ok + self.failures()
    }

    /// Connections refused or reset before they stood.
    pub fn connect_failures(&self) -> u64 {
        self.lost.get(&Loss::Connect).copied().unwrap_or(0)
    }

    /// Failures by name, for people: `failed reused 3, status 502 1`; `none`.
    pub fn failures_by_name(&self) -> String {
        let lost = self.lost.iter().map(|(loss, count)| format!("{} {count}", loss.name()));
        let status = self.bad_status.iter().map(|(status, count)| format!("status {status} {count}"));
        let wrong = (self.wrong_body > 0).then(|| format!("wrong body {}", self.wrong_body));
        let all: Vec<String> = lost.chain(status).chain(wrong).collect();
        if all.is_empty() { "none".to_owned() } else { all.join(", ") }
    }

    /// Adds what others saw.
    pub fn add(&mut self, other: Self) {
        self.ok += other.ok;
        for (loss, count) in other.lost {
            *self.lost.entry(loss).or_default() += count;
        }
        for (status, count) in other.bad_status {
            *self.bad_status.entry(status).or_default() += count;
        }
        self.wrong_body += other.wrong_body;
        self.connections += other.connections;
        self.closes_honoured += other.closes_honoured;
        self.overslept += other.overslept;
        self.longest_stall = self.longest_stall.max(other.longest_stall);
        self.stalls += other.stalls;
        for (version, at) in other.last_sent_to {
            let last = self.last_sent_to.entry(version).or_insert(at);
            *last = (*last).max(at);
        }
        for (version, at) in other.first_answer_of {
            let first = self.first_answer_of.entry(version).or_insert(at);
            *first = (*first).min(at);
        }
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Starts one client per entry of `kinds`.
    pub fn start(plan: &Plan, kinds: &[Kind]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let spawn = |(number, kind): (usize, &Kind)| {
            let client = Client {
                number,
                kind: *kind,
                plan: plan.clone(),
                stop: stop.clone(),
                answered: answered.clone(),
                connection: None,
                tally: Tally::default(),
            };
            std::thread::spawn(move || client.run())
        };
        let clients = kinds.iter().enumerate().map(spawn).collect();
        Self { stop, answered, clients }
    }

    /// `count` clients of one kind.
    pub fn of(plan: &Plan, kind: Kind, count: usize) -> Self {
        Self::start(plan, &vec![kind; count])
    }

    /// Requests answered well so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until this many more requests were answered well.
    ///
    /// # Panics
    /// When they are not within [`crate::wait::PATIENCE`].
    #[track_caller]
    pub fn wait_for_answers(&self, more: u64) {
        let goal = self.answered() + more;
        crate::wait::until("answers to the load", crate::wait::PATIENCE, || {
            (self.answered() >= goal).then_some(())
        });
    }

    /// Lets every client finish its request; what they saw.
    ///
    /// # Panics
    /// When a client itself panicked.
    pub fn finish(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut tally = Tally::default();
        for client in self.clients {
            tally.add(client.join().expect("clients do not panic"));
        }
        tally
    }
}

struct Client {
    number: usize,
    kind: Kind,
    plan: Plan,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    connection: Option<Connection>,
    tally: Tally,
}

impl Client {
    fn run(mut self) -> Tally {
        self.stagger();
        let mut sequence = 0;
        while !self.stop.load(Ordering::Relaxed) {
            sequence += 1;
            if self.one_request(sequence) {
                self.think();
            }
        }
        self.tally
    }

    /// Clients that think for long begin apart, or they would all ask in the same millisecond for ever.
    fn stagger(&self) {
        let period = match self.kind {
            Kind::Think1s => Duration::from_secs(1),
            Kind::IdleEdge => self.plan.idle_timeout,
            Kind::Long => self.plan.long,
            _ => return,
        };
        let share = u32::try_from(self.number * 37 % 100).unwrap_or(0);
        self.sleep_until(Instant::now() + period * share / 100);
    }

    /// Whether it was answered.
    fn one_request(&mut self, sequence: u64) -> bool {
        let request = self.request(sequence);
        let began = Instant::now();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match Connection::open(self.plan.address) {
                Ok(connection) => {
                    self.tally.connections += 1;
                    connection
                }
                Err(_) => {
                    self.lose(Loss::Connect);
                    std::thread::sleep(PAUSE_AFTER_REFUSAL);
                    return false;
                }
            },
        };
        match connection.exchange(&request) {
            Ok(answer) => {
                self.note_stall(began.elapsed());
                self.judge(&request, &answer, began);
                if answer.close {
                    self.tally.closes_honoured += u64::from(!request.close);
                } else if !request.close {
                    self.connection = Some(connection);
                }
                true
            }
            Err(loss) => {
                self.lose(loss);
                false
            }
        }
    }

    fn lose(&mut self, loss: Loss) {
        *self.tally.lost.entry(loss).or_default() += 1;
    }

    fn note_stall(&mut self, took: Duration) {
        let Some(own) = self.kind.own_time(&self.plan) else { return };
        let stall = took.saturating_sub(own);
        self.tally.longest_stall = self.tally.longest_stall.max(stall);
        self.tally.stalls += u64::from(stall > STALL);
    }

    fn judge(&mut self, request: &Request, answer: &Answer, sent: Instant) {
        if answer.status != 200 {
            *self.tally.bad_status.entry(answer.status).or_default() += 1;
            return;
        }
        let right = match self.kind {
            Kind::SlowReader => {
                answer.body.len() == SLOW_BYTES && answer.body.iter().all(|byte| *byte == b'x')
            }
            _ => answer.body == request.body,
        };
        if !right {
            self.tally.wrong_body += 1;
            return;
        }
        self.tally.ok += 1;
        self.answered.fetch_add(1, Ordering::Relaxed);
        let Some(version) = answer.header("version") else { return };
        if let Some(last) = self.tally.last_sent_to.get_mut(version) {
            *last = sent;
        } else {
            self.tally.last_sent_to.insert(version.to_owned(), sent);
            self.tally.first_answer_of.insert(version.to_owned(), Instant::now());
        }
    }

    fn request(&self, sequence: u64) -> Request {
        let text = format!("client {} request {sequence} ", self.number);
        let echo =
            || Request { method: self.plan.method, ..Request::post("/echo", text.repeat(4).into_bytes()) };
        match self.kind {
            Kind::Think0 | Kind::Think2ms | Kind::Think1s | Kind::IdleEdge => echo(),
            Kind::Fresh => Request { close: true, ..echo() },
            Kind::Long => {
                Request::post(&format!("/slow?ms={}", self.plan.long.as_millis()), text.into_bytes())
            }
            Kind::SlowReader => Request {
                read_slowly: Some((SLOW_PIECE, SLOW_PAUSE)),
                ..Request::get(&format!("/big?bytes={SLOW_BYTES}"))
            },
            Kind::Chunked => Request {
                pieces: Some((10, Duration::from_millis(5))),
                ..Request::post("/echo", text.repeat(400).into_bytes())
            },
        }
    }

    fn think(&mut self) {
        match self.kind {
            Kind::Think0 | Kind::Long | Kind::SlowReader | Kind::Chunked => {}
            Kind::Think2ms | Kind::Fresh => std::thread::sleep(Duration::from_millis(2)),
            Kind::Think1s => self.sleep_until(Instant::now() + Duration::from_secs(1)),
            Kind::IdleEdge => self.think_to_the_edge(),
        }
    }

    fn sleep_until(&self, at: Instant) {
        while !self.stop.load(Ordering::Relaxed) {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    fn think_to_the_edge(&mut self) {
        let Some(idle_since) = self.connection.as_ref().map(|connection| connection.idle_since) else {
            return;
        };
        let edge = idle_since + self.plan.idle_timeout;
        self.sleep_until(edge.checked_sub(SPIN).unwrap_or(edge));
        while Instant::now() + Duration::from_micros(100) < edge && !self.stop.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        if Instant::now() > edge {
            // The promise was to keep the connection up to the edge; this client came too late for it.
            self.tally.overslept += 1;
            self.connection = None;
        }
    }
}
