//! Accepts connections and serves HTTP/1 on them, within bounds.
//!
//! Each front has its own bound on connections, so that whoever can reach the TCP port cannot keep the command
//! line out. At the bound nothing is accepted: the rest waits in the listener's queue.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::access::TcpAccess;
use crate::api::Accepted;
use crate::operations::{Operations, Refused, RefusedKind};
use crate::prompt::Prompt;
use crate::routes;

/// Most connections at once on one front.
pub(crate) const CONNECTIONS_MAX: usize = 64;
/// From a connection's start, or the last answer on it, to the end of the next request's head.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest request head.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Between two pieces of an answer that the client takes: one that takes none would keep its place for ever.
pub(crate) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (usually: out of descriptors) before the next.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);
/// How many accepted operations are remembered by their key.
pub(crate) const OPERATIONS_REMEMBERED_MAX: usize = 256;

/// Where connections come from.
pub trait Accept: Send {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one; cancel-safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<TcpStream> {
        let (stream, _) = Self::accept(self).await?;
        Ok(stream)
    }
}

/// Which way connections come in, and so what they may do.
#[derive(Debug, Clone)]
pub enum Front {
    /// The owner-only local socket: everything.
    Local,
    /// TCP: what [`TcpAccess`] allows.
    Tcp(TcpAccess),
}

/// What both fronts share. Keep one for the life of the agent: it remembers accepted operations by key.
#[derive(Clone)]
pub struct Server {
    pub(crate) operations: Arc<dyn Operations>,
    remembered: Arc<Mutex<VecDeque<Remembered>>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

struct Remembered {
    key: String,
    what: String,
    accepted: Accepted,
}

impl Server {
    /// A server over `operations` that remembers nothing yet.
    pub fn new(operations: Arc<dyn Operations>) -> Self {
        Self { operations, remembered: Arc::new(Mutex::new(VecDeque::new())) }
    }

    /// Runs `start` unless an operation with that key was accepted before; then its answer comes again.
    ///
    /// `what` names the request: a key that comes back with another one is refused.
    pub(crate) async fn once(
        &self,
        key: Option<String>,
        what: String,
        start: impl Future<Output = Result<Accepted, Refused>>,
    ) -> Result<Accepted, Refused> {
        let Some(key) = key else { return start.await };
        // Held while the operation is handed over, so that its repetition waits for its answer.
        let mut remembered = self.remembered.lock().await;
        if let Some(before) = remembered.iter().find(|before| before.key == key) {
            if before.what != what {
                let message =
                    format!("operation `{key}` was already used for something else ({})", before.what);
                return Err(Refused::new(RefusedKind::Conflict, message)
                    .with_hint("send a new key with a new request"));
            }
            return Ok(before.accepted.clone());
        }
        let accepted = start.await?;
        if remembered.len() == OPERATIONS_REMEMBERED_MAX {
            remembered.pop_front();
        }
        remembered.push_back(Remembered { key, what, accepted: accepted.clone() });
        Ok(accepted)
    }
}

/// Serves until dropped; its connections end with it.
pub async fn serve(server: Server, front: Front, mut accept: impl Accept) {
    let app = routes::router(server, front);
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        tokio::select! {
            accepted = accept.accept() => match accepted {
                Ok(stream) => {
                    connections.spawn(serve_connection(stream, app.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "admin: accept failed");
                    tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                }
            },
            // Ended ones are let go at once, not at the bound.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection<S>(stream: S, app: axum::Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    let connection =
        builder.serve_connection(TokioIo::new(Prompt::new(stream)), TowerToHyperService::new(app));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "admin: connection ended early");
    }
}
