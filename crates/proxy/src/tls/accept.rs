//! The handshake of one connection, in the connection's own task and within the time a request head has.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use rustls::ServerConfig;
use tokio::net::TcpStream;

use crate::engine::accept::Listener;
use crate::engine::client_stream::ClientStream;
use crate::engine::slots::Slot;
use crate::engine::stats::count;
use crate::engine::worker::Worker;
use crate::tls::stream::{HandshakeError, TlsStream};

/// What came of a handshake.
#[derive(Debug)]
pub(crate) enum Opened {
    /// A session.
    Session(ClientStream),
    /// The client speaks HTTP without TLS, and is to be told in the same way.
    Http(ClientStream),
    /// Nobody to talk to.
    Nothing,
}

/// Makes a session of a connection.
pub(crate) async fn open(
    worker: &Worker,
    listener: &Listener,
    slot: &Slot,
    socket: TcpStream,
    config: Arc<ServerConfig>,
) -> Opened {
    let mut stream = match TlsStream::new(socket, config, worker.tls_scratch.clone()) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::error!(listener = listener.name(), %error, "no TLS session could be made");
            return Opened::Nothing;
        }
    };
    slot.arm(worker.clock.refresh() + listener.rules().header_timeout);
    // Who has not finished its handshake is given up before anybody who has.
    slot.set_idle(true);
    let done = poll_fn(|cx| {
        let has_fired = slot.has_fired(cx);
        if has_fired || slot.is_given_up() || worker.is_cut() {
            let late = io::Error::new(io::ErrorKind::TimedOut, "the handshake did not end in time");
            return Poll::Ready(Err(HandshakeError::Io(late)));
        }
        stream.poll_handshake(cx)
    })
    .await;
    slot.set_idle(false);
    worker.clock.refresh();
    match done {
        Ok(()) => {
            count(&listener.stats.handshakes);
            if stream.is_resumed() {
                count(&listener.stats.handshakes_resumed);
            }
            Opened::Session(ClientStream::Tls(Box::new(stream)))
        }
        Err(HandshakeError::Http) => {
            count(&listener.stats.handshakes_failed);
            Opened::Http(ClientStream::Plain(stream.into_socket()))
        }
        Err(HandshakeError::Io(error)) => {
            count(&listener.stats.handshakes_failed);
            tracing::debug!(listener = listener.name(), %error, "a handshake failed");
            Opened::Nothing
        }
    }
}
