//! Accepting: every thread on its own copy of the same socket, and what happens when descriptors run out.
//!
//! ```text
//!  accepting ──stop()──► accepting until nobody waits, for a quarter of a second at most ──► copy dropped
//! ```
//! A connection is handed to its task, or to a thread with fewer of them, before anything is awaited: an accepted
//! socket that is dropped is a lost client.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::engine::access_log::field;
use crate::engine::connection;
use crate::engine::stats::{ListenerStats, count};
use crate::engine::table::Rules;
use crate::engine::worker::{Command, Worker};
use crate::h1::answer::{Answer, AnswerForm, write_answer};

/// Nobody came for this long after the stop: nobody waits.
const EMPTY_AFTER: Duration = Duration::from_millis(20);
/// Under steady load somebody always comes: this long after the stop those who come are too late.
const LAST_ACCEPTS_MAX: Duration = Duration::from_millis(250);
/// Then so many more are taken as wait there: more than an accept queue holds.
const LAST_LOOK_ACCEPTS_MAX: usize = 8_192;
/// For connections that were given up to be closed.
const SHED_PAUSE: Duration = Duration::from_millis(1);
/// Between two attempts to accept while there are no descriptors.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);
/// Between two warnings about it.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// A listener on one thread.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Its counters.
    pub(crate) stats: Rc<ListenerStats>,
    address: String,
    log_field: String,
    rules: RefCell<Rc<Rules>>,
    tls: RefCell<Option<Arc<ServerConfig>>>,
    stop: Notify,
    closing: Cell<bool>,
}

impl Listener {
    /// One with these rules.
    pub(crate) fn new(stats: Rc<ListenerStats>, address: &str, rules: Rc<Rules>) -> Self {
        Self {
            address: address.into(),
            log_field: field("listener", &stats.name),
            stats,
            rules: RefCell::new(rules),
            tls: RefCell::default(),
            stop: Notify::new(),
            closing: Cell::new(false),
        }
    }

    /// In the manifest.
    pub(crate) fn name(&self) -> &str {
        &self.stats.name
    }

    /// Its name as the access log shows it.
    pub(crate) fn log_field(&self) -> &str {
        &self.log_field
    }

    /// What holds on it now.
    pub(crate) fn rules(&self) -> Rc<Rules> {
        self.rules.borrow().clone()
    }

    /// A table was swapped.
    pub(crate) fn set_rules(&self, rules: Rc<Rules>) {
        *self.rules.borrow_mut() = rules;
    }

    /// How TLS is spoken with who comes now; `None`: it is not.
    pub(crate) fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.borrow().clone()
    }

    /// A table was swapped.
    pub(crate) fn set_tls(&self, config: Option<Arc<ServerConfig>>) {
        *self.tls.borrow_mut() = config;
    }

    /// Its address, as a host for clients that name none.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Accept until nobody waits, and no more; another process may go on.
    pub(crate) fn stop(&self) {
        self.stop.notify_one();
    }

    /// Nobody is to accept on it any more; its connections end with their next answer.
    pub(crate) fn withdraw(&self) {
        self.closing.set(true);
        self.stop.notify_one();
    }

    /// Whether it was withdrawn.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }
}

/// A connection on its way to another thread.
#[derive(Debug)]
pub(crate) struct Accepted {
    stream: std::net::TcpStream,
    peer: SocketAddr,
    listener: String,
    address: String,
}

/// Counts a task that accepts, from before it is started until it has ended.
#[derive(Debug)]
struct Accepting(Rc<Worker>);

impl Accepting {
    fn start(worker: &Rc<Worker>) -> Self {
        worker.accepting.set(worker.accepting.get() + 1);
        Self(worker.clone())
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.set(self.0.accepting.get() - 1);
    }
}

/// Starts accepting on `socket` until the listener is stopped and nobody waits.
pub(crate) fn start_accepting(worker: &Rc<Worker>, listener: Rc<Listener>, socket: TcpListener) {
    let accepting = Accepting::start(worker);
    tokio::task::spawn_local(accept_all(accepting, listener, socket));
}

async fn accept_all(accepting: Accepting, listener: Rc<Listener>, socket: TcpListener) {
    let worker = accepting.0.clone();
    let mut reserve = Reserve::new();
    loop {
        tokio::select! {
            biased;
            () = listener.stop.notified() => break,
            accepted = socket.accept() => reserve.handle(&worker, &listener, &socket, accepted).await,
        }
    }
    if listener.is_closing()
        && let Err(error) = host::newcomers::turn_away(&socket)
    {
        tracing::debug!(listener = listener.name(), %error, "who comes in the last moment may be reset");
    }
    let until = tokio::time::Instant::now() + LAST_ACCEPTS_MAX;
    while tokio::time::Instant::now() < until {
        let Ok(accepted) = tokio::time::timeout(EMPTY_AFTER, socket.accept()).await else { break };
        reserve.handle(&worker, &listener, &socket, accepted).await;
    }
    // Who came until now is served: with the last copy of the socket the system resets whoever waits there. From the
    // last look to that nothing is awaited.
    for _ in 0..LAST_LOOK_ACCEPTS_MAX {
        match accept_now(&socket) {
            Some(Ok((stream, peer))) => place(&worker, &listener, stream, peer),
            Some(Err(error)) if is_of_connection(&error) && error.kind() != io::ErrorKind::WouldBlock => {}
            Some(Err(_)) | None => break,
        }
    }
}

/// Who waits on the socket, if anybody does.
fn accept_now(socket: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    // Not as a part of the task's turn: the end of that must not look like the end of the queue.
    let mut accept = std::pin::pin!(tokio::task::unconstrained(socket.accept()));
    match accept.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(accepted) => Some(accepted),
        Poll::Pending => None,
    }
}

/// Serves a connection that another thread accepted.
pub(crate) fn adopt(worker: &Rc<Worker>, accepted: Accepted) {
    let listener = worker.listener(&accepted.listener, &accepted.address);
    match TcpStream::from_std(accepted.stream) {
        Ok(stream) => start(worker, &listener, stream, accepted.peer),
        Err(error) => tracing::warn!(%error, "a connection was lost on its way to another thread"),
    }
}

fn start(worker: &Rc<Worker>, listener: &Rc<Listener>, stream: TcpStream, peer: SocketAddr) {
    // The slot first: a connection counts from here on, not from when its task is first run.
    let slot = worker.add_slot();
    let connection = connection::serve(worker.clone(), listener.clone(), slot, stream, peer);
    tokio::task::spawn_local(connection);
}

fn place(worker: &Rc<Worker>, listener: &Rc<Listener>, stream: TcpStream, peer: SocketAddr) {
    count(&worker.stats.accepted);
    count(&listener.stats.accepted);
    let Some(lighter) = worker.lighter_peer() else { return start(worker, listener, stream, peer) };
    // A place in their queue first: a stream that left the runtime could not come back without a failure.
    let Ok(permit) = lighter.try_reserve() else { return start(worker, listener, stream, peer) };
    match stream.into_std() {
        Ok(stream) => permit.send(Command::Adopt(Box::new(Accepted {
            stream,
            peer,
            listener: listener.name().to_owned(),
            address: listener.address.clone(),
        }))),
        Err(error) => tracing::warn!(%error, "a connection was lost on its way to another thread"),
    }
}

/// Descriptors kept for the moment in which there are no others.
struct Reserve {
    kept: Option<(io::PipeReader, io::PipeWriter)>,
    warned: Option<std::time::Instant>,
}

impl Reserve {
    fn new() -> Self {
        Self { kept: io::pipe().ok(), warned: None }
    }

    async fn handle(
        &mut self,
        worker: &Rc<Worker>,
        listener: &Rc<Listener>,
        socket: &TcpListener,
        accepted: io::Result<(TcpStream, SocketAddr)>,
    ) {
        match accepted {
            Ok((stream, peer)) => place(worker, listener, stream, peer),
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                self.warn(listener, &error);
                if worker.shed() {
                    // What was given up is closed when its task has run.
                    tokio::time::sleep(SHED_PAUSE).await;
                } else {
                    self.refuse(socket).await;
                    tokio::time::sleep(SHORTAGE_PAUSE).await;
                }
            }
        }
    }

    /// Answers one who waits, with the descriptor that was kept for this.
    async fn refuse(&mut self, socket: &TcpListener) {
        drop(self.kept.take());
        if let Ok(Ok((stream, _))) = tokio::time::timeout(SHORTAGE_PAUSE, socket.accept()).await {
            let mut out = Vec::new();
            let form = AnswerForm { is_head: false, keep_alive: false, is_1_0: false };
            write_answer(Answer::new(503, "too many connections"), form, &mut out);
            // The peer may be gone, and there is nothing to be done about it.
            let _ = stream.writable().await;
            let _ = stream.try_write(&out);
        }
        self.kept = io::pipe().ok();
    }

    fn warn(&mut self, listener: &Listener, error: &io::Error) {
        if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_INTERVAL) {
            self.warned = Some(std::time::Instant::now());
            tracing::warn!(
                listener = listener.name(),
                %error,
                "connections cannot be accepted and are answered 503; raise the limit of open files"
            );
        }
    }
}

/// Whether an error of accept is about that one connection only.
fn is_of_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::WouldBlock
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::TimedOut
            | io::ErrorKind::PermissionDenied
    )
}
