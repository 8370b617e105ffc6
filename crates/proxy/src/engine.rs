//! The data plane itself: threads that accept, forward and count, and the handle that steers them.
//!
//! ```text
//!              ┌── commands: swap, listen, drain, report ──► thread 0: table, pools, counters, connections
//!  Engine ─────┤                                             thread 1: its own of everything
//!   ▲          └──────────────────────────────────────────►  …
//!   └── Ledger ◄── events: applied, quiet, listening, report, empty ── each thread
//! ```
//! Nothing is shared between threads on the way of a request: no lock, no atomic. A command is a message
//! to each thread, and the ledger knows when all have done it. It knows nothing of holder and agent.

pub(crate) mod accept;
pub(crate) mod access_log;
pub(crate) mod balance;
pub(crate) mod book;
pub(crate) mod claim;
pub(crate) mod client_stream;
pub(crate) mod clock;
pub(crate) mod connection;
pub(crate) mod endpoint;
pub(crate) mod entry;
pub(crate) mod exchange;
pub(crate) mod forward;
pub(crate) mod hold;
pub(crate) mod labels;
pub(crate) mod ledger;
pub(crate) mod outliers;
pub(crate) mod passage;
pub(crate) mod patience;
pub(crate) mod policy;
pub(crate) mod queue;
pub(crate) mod release;
pub(crate) mod series;
pub(crate) mod slots;
pub(crate) mod split;
pub(crate) mod stats;
pub(crate) mod sticky;
pub(crate) mod table;
pub(crate) mod tunnel;
pub(crate) mod upload;
pub(crate) mod visitor;
pub(crate) mod watch;
pub(crate) mod worker;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::JoinHandle;
use std::time::Duration;

use model::random::Random;
use model::time::Instant;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use wire::routes::RouteTable;
use wire::traffic::SeriesCounters;

use access_log::LogWriter;
use hold::HeldCounts;
use ledger::{Event, Ledger};
use queue::Gates;
use worker::{Command, Setup};

use crate::tls::certificates::Certificates;

pub use ledger::Notice;

/// Most worker threads.
const THREADS_MAX: u32 = 256;
/// Commands that wait for one thread; a thread that is so far behind gets no more.
const COMMANDS_MAX: usize = 4_096;
/// Events of all threads that wait for the ledger.
const EVENTS_MAX: usize = 65_536;

/// Something of which every thread can have its own copy of one listening socket.
pub trait ListenSource: std::fmt::Debug + Send + Sync {
    /// A copy, registered with the runtime this is called in.
    ///
    /// # Errors
    /// When there are no descriptors left.
    fn open(&self) -> io::Result<TcpListener>;
}

impl ListenSource for host::Descriptor {
    fn open(&self) -> io::Result<TcpListener> {
        host::listener::into_tcp(self)
    }
}

impl ListenSource for std::net::TcpListener {
    fn open(&self) -> io::Result<TcpListener> {
        let copy = self.try_clone()?;
        copy.set_nonblocking(true)?;
        TcpListener::from_std(copy)
    }
}

/// What an engine starts with, and keeps.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Worker threads.
    pub threads: u32,
    /// Of random choices.
    pub seed: u64,
    /// Where the access log goes, when a table asks for one.
    pub access_log: Option<PathBuf>,
    /// Where copies of the last good certificates and keys are kept.
    pub tls_copies: Option<PathBuf>,
}

/// The data plane: its threads, and what they were told.
#[derive(Debug)]
pub struct Engine {
    commands: Vec<mpsc::Sender<Command>>,
    threads: Vec<JoinHandle<()>>,
    log: Option<LogWriter>,
    events: mpsc::Receiver<Event>,
    ledger: Ledger,
    certificates: Certificates,
    /// Of the clock that all threads share.
    start: std::time::Instant,
    reports: u64,
}

impl Engine {
    /// Starts the threads. They route nothing until a table comes, and accept on nothing until a listener does.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let count = usize::try_from(settings.threads.clamp(1, THREADS_MAX)).unwrap_or(1);
        let start = std::time::Instant::now();
        let mut seeds = Random::new(settings.seed);
        let (log, sender) = settings.access_log.clone().and_then(LogWriter::start).unzip();
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel(COMMANDS_MAX)).unzip();
        let loads: Arc<[AtomicUsize]> = (0..count).map(|_| AtomicUsize::new(0)).collect();
        let (held, gates) = (Arc::new(HeldCounts::default()), Arc::new(Gates::default()));
        let (events_in, events) = mpsc::channel(EVENTS_MAX);
        let certificates = Certificates::new(settings.tls_copies.clone(), &events_in);
        let mut threads = Vec::new();
        for (index, commands) in receivers.into_iter().enumerate() {
            let setup = Setup {
                index,
                start,
                seed: seeds.next_u64(),
                log: sender.clone(),
                commands,
                peers: senders.iter().map(mpsc::Sender::downgrade).collect(),
                loads: loads.clone(),
                held: held.clone(),
                gates: gates.clone(),
                certificates: certificates.clone(),
                events: events_in.clone(),
            };
            let thread = std::thread::Builder::new().name(format!("proxy-{index}")).spawn(move || {
                if let Err(error) = worker::run(setup) {
                    tracing::error!(thread = index, %error, "a proxy thread cannot work");
                }
            })?;
            threads.push(thread);
        }
        let ledger = Ledger::new(count);
        Ok(Self { commands: senders, threads, log, events, ledger, certificates, start, reports: 0 })
    }

    /// Every thread is to use `table`; `Notice::Applied` says when all do.
    pub fn swap(&mut self, table: &Arc<RouteTable>) {
        self.ledger.handle_swap(table.generation);
        self.ledger.book.follow(table);
        self.certificates.follow(table);
        self.tell(|| Command::Swap(table.clone()));
    }

    /// Every thread is to accept on `source`; `Notice::Listening` says when all do.
    pub fn listen(&mut self, name: &str, source: &Arc<dyn ListenSource>) {
        self.ledger.handle_listen(name);
        self.tell(|| Command::Listen { name: name.to_owned(), source: source.clone() });
    }

    /// No thread is to accept on the listener `name` any more; who waits there is still served.
    pub fn unlisten(&mut self, name: &str) {
        self.tell(|| Command::Unlisten { name: name.to_owned() });
    }

    /// Accept no more, finish what is there, cut what is left at the deadline; `Notice::Empty` says when nothing is.
    pub fn drain(&mut self, deadline: Duration) {
        let until = Instant::from_start(self.start.elapsed()) + deadline;
        self.tell(|| Command::Drain { until });
    }

    /// Asks for counters; the number comes back with them.
    pub fn report(&mut self) -> u64 {
        self.reports += 1;
        let number = self.reports;
        self.tell(|| Command::Report { number });
        number
    }

    /// What reports have brought by series and was not asked for before, and whether it is everything there is.
    pub fn changed_series(&mut self) -> (Vec<SeriesCounters>, bool) {
        self.ledger.book.changed()
    }

    /// The next time all series are to be told: somebody new listens.
    pub fn begin_series_anew(&mut self) {
        self.ledger.book.begin_anew();
    }

    /// The next thing that all threads have done; `None` when every thread has ended. Cancel-safe.
    pub async fn notice(&mut self) -> Option<Notice> {
        loop {
            let notice = self.ledger.handle_event(self.events.recv().await?);
            if let Some(mut notice) = notice {
                if let Notice::Report { counters, .. } = &mut notice {
                    counters.log_lines_dropped += self.log.as_ref().map_or(0, LogWriter::lost);
                    counters.certificates = self.certificates.in_use();
                }
                return Some(notice);
            }
        }
    }

    /// Whether every thread is alive.
    pub fn is_whole(&self) -> bool {
        !self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Ends the threads, whatever they do, and writes what is left of the access log.
    pub fn stop(self) {
        drop(self.commands);
        self.certificates.stop();
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a proxy thread ended by a bug");
            }
        }
        if let Some(log) = self.log {
            log.join();
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for (thread, commands) in self.commands.iter().enumerate() {
            if let Err(error) = commands.try_send(command()) {
                tracing::error!(thread, %error, "a proxy thread does not take commands");
            }
        }
    }
}
