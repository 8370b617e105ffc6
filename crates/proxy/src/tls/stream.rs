//! One client's TLS session over its socket, with buffers that a thread's sessions share.
//!
//! ```text
//!  socket ──► scratch input (+ the part of a record from before) ──► reader's buffer, the rest of a record in `plain`
//!  socket ◄── scratch output ◄── what is written; what the socket does not take stays in `unsent`
//! ```
//! A session that waits holds no buffer at all. What the socket takes at once is never copied. As in OpenSSL, a write
//! that was *pending* has already been encrypted: it is to be repeated with at least the same bytes in front, and then
//! says how much of them it was. It knows neither certificates nor HTTP, but that HTTP is no handshake.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Most plain bytes of a record.
const RECORD_PLAIN_MAX: usize = 16 << 10;
/// Most bytes of a record on the wire, of any version.
const RECORD_BYTES_MAX: usize = RECORD_PLAIN_MAX + 5 + 2_048;
/// Most bytes that wait for the rest of their record or handshake message: no client has so much to say in one.
const PARTIAL_BYTES_MAX: usize = RECORD_BYTES_MAX;
/// Most bytes read at once.
const READ_BYTES_MAX: usize = 64 << 10;
/// Most bytes encrypted for one write.
const WRITE_BYTES_MAX: usize = 64 << 10;
/// What encryption adds to a record at most.
const RECORD_OVERHEAD: usize = 64;

/// The buffers that all sessions of a thread use in turn; made when the first one needs them.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    input: RefCell<Vec<u8>>,
    output: RefCell<Vec<u8>>,
    joined: RefCell<Vec<u8>>,
}

/// How far the client's side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// It said that this was all.
    Ended,
    /// Its connection ended without that.
    Cut,
    /// Nothing more can be understood.
    Broken,
}

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum HandshakeError {
    /// The client speaks HTTP.
    Http,
    /// The connection, or what came on it.
    Io(io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A client's TLS session.
pub(crate) struct TlsStream {
    socket: TcpStream,
    session: UnbufferedServerConnection,
    scratch: Rc<Scratch>,
    /// The part of a record that came so far.
    partial: Vec<u8>,
    /// Decrypted, and from `taken` on not yet read.
    plain: Vec<u8>,
    taken: usize,
    /// Encrypted, and from `sent` on not yet written.
    unsent: Vec<u8>,
    sent: usize,
    /// Plain bytes in `unsent` whose write is still to be answered.
    promised: usize,
    reading: Reading,
    is_fresh: bool,
    is_http: bool,
    has_said_goodbye: bool,
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.socket).field("reading", &self.reading).finish()
    }
}

impl TlsStream {
    /// A session that has not begun.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub(crate) fn new(
        socket: TcpStream,
        config: Arc<rustls::ServerConfig>,
        scratch: Rc<Scratch>,
    ) -> io::Result<Self> {
        let session = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
        Ok(Self {
            socket,
            session,
            scratch,
            partial: Vec::new(),
            plain: Vec::new(),
            taken: 0,
            unsent: Vec::new(),
            sent: 0,
            promised: 0,
            reading: Reading::Open,
            is_fresh: true,
            is_http: false,
            has_said_goodbye: false,
        })
    }

    /// The socket, for who speaks without TLS.
    pub(crate) fn into_socket(self) -> TcpStream {
        self.socket
    }

    /// The socket under it.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether the client came with what it knew from an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.session.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Goes on with the handshake until it is done.
    pub(crate) fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandshakeError>> {
        loop {
            ready!(self.poll_send(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.reading != Reading::Open {
                return Poll::Ready(Err(HandshakeError::Io(io::ErrorKind::UnexpectedEof.into())));
            }
            let received = ready!(self.poll_receive(cx, &mut ReadBuf::new(&mut [])));
            if self.is_http {
                return Poll::Ready(Err(HandshakeError::Http));
            }
            received?;
        }
    }

    /// Whether there may be something to read; the task is woken when that changes.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.taken < self.plain.len() || self.reading != Reading::Open {
            return Poll::Ready(Ok(()));
        }
        self.socket.poll_read_ready(cx)
    }

    /// Before it is dropped without a shutdown: a client that has said its goodbye hears ours, if that is no trouble.
    pub(crate) fn part(&mut self) {
        if self.reading == Reading::Ended && self.unsent.is_empty() && self.queue_goodbye().is_ok() {
            // It may be gone.
            let _ = self.socket.try_write(&self.unsent);
        }
    }

    /// Writes what waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.unsent.len() {
            let written = ready!(host::tcp::poll_write(&self.socket, cx, &self.unsent[self.sent..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += written;
        }
        if self.unsent.capacity() > 0 {
            (self.unsent, self.sent) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once from the socket and decrypts what is whole, into `out` as far as that has room.
    fn poll_receive(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let scratch = self.scratch.clone();
        let mut input = scratch.input.borrow_mut();
        input.resize(PARTIAL_BYTES_MAX + READ_BYTES_MAX, 0);
        let before = self.partial.len();
        input[..before].copy_from_slice(&self.partial);
        // Not much more than the reader takes: what it leaves has to be kept.
        let room = out.remaining().clamp(RECORD_BYTES_MAX, READ_BYTES_MAX);
        let count = match ready!(host::tcp::poll_read(&self.socket, cx, &mut input[before..before + room])) {
            Ok(count) => count,
            Err(error) => {
                self.reading = Reading::Broken;
                return Poll::Ready(Err(error));
            }
        };
        if count == 0 {
            self.reading = Reading::Cut;
            return Poll::Ready(Ok(()));
        }
        if std::mem::take(&mut self.is_fresh) && input[0].is_ascii_uppercase() {
            // A handshake begins with 22, HTTP with a method.
            self.is_http = true;
            self.reading = Reading::Broken;
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        let filled = &mut input[..before + count];
        let result = self.process(filled, out).and_then(|used| {
            let rest = &filled[used..];
            if rest.len() > PARTIAL_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
            }
            if rest.is_empty() && self.partial.capacity() > 0 {
                self.partial = Vec::new();
            } else if !rest.is_empty() {
                self.partial.clear();
                self.partial.extend_from_slice(rest);
            }
            Ok(())
        });
        if result.is_err() {
            self.reading = Reading::Broken;
        }
        Poll::Ready(result)
    }

    /// Takes records from `input` until the rest is none; how much was used.
    fn process(&mut self, input: &mut [u8], out: &mut ReadBuf<'_>) -> io::Result<usize> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.session.process_tls_records(&mut input[used..]);
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        used += record.discard;
                        let direct =
                            if self.plain.is_empty() { record.payload.len().min(out.remaining()) } else { 0 };
                        out.put_slice(&record.payload[..direct]);
                        self.plain.extend_from_slice(&record.payload[direct..]);
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut self.unsent)?,
                // Whoever waits for it sends it before anything else.
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.reading = Reading::Ended,
                Ok(ConnectionState::Closed) => {
                    self.reading = Reading::Ended;
                    return Ok(input.len());
                }
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => {
                    return Ok(used + discard);
                }
                // Early data is not asked for.
                Ok(_) => return Err(io::ErrorKind::InvalidData.into()),
                Err(error) => {
                    self.queue_alert(&mut input[used..]);
                    return Err(invalid(error));
                }
            }
            used += discard;
        }
    }

    /// After an error: what the client is told of it, if that is no trouble.
    fn queue_alert(&mut self, input: &mut [u8]) {
        if !self.session.wants_write() {
            return;
        }
        let status = self.session.process_tls_records(input);
        if let Ok(ConnectionState::EncodeTlsData(mut data)) = status.state
            && encode(&mut data, &mut self.unsent).is_ok()
        {
            let _ = self.socket.try_write(&self.unsent[self.sent..]);
        }
    }

    /// Encrypts `plain` behind the first `at` bytes of `output`; how many are filled then.
    fn encrypt(&mut self, plain: &[u8], output: &mut Vec<u8>, mut at: usize) -> io::Result<usize> {
        loop {
            // What waits for the rest of a message is what the session was shown last, and is shown again.
            match self.session.process_tls_records(&mut self.partial).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    match traffic.encrypt(plain, &mut output[at..]) {
                        Ok(count) => return Ok(at + count),
                        Err(EncryptError::InsufficientSize(need)) => {
                            output.resize(at + need.required_size, 0)
                        }
                        Err(EncryptError::EncryptExhausted) => return Err(io::ErrorKind::BrokenPipe.into()),
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    output.truncate(at);
                    encode(&mut data, output)?;
                    at = output.len();
                    output.resize(at + plain.len() + RECORD_OVERHEAD, 0);
                }
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.reading = Reading::Ended,
                Ok(_) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => return Err(invalid(error)),
            }
        }
    }

    /// Encrypts and writes as much of the pieces as one write is to have.
    fn poll_write_pieces(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        ready!(self.poll_send(cx))?;
        // Also where a read has sent it meanwhile.
        if self.promised > 0 {
            return Poll::Ready(Ok(std::mem::take(&mut self.promised).min(total)));
        }
        if self.reading == Reading::Broken || self.has_said_goodbye {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let scratch = self.scratch.clone();
        let mut output = scratch.output.borrow_mut();
        let (filled, count) = self.encrypt_pieces(pieces, total, &mut output)?;
        let written = match host::tcp::poll_write(&self.socket, cx, &output[..filled]) {
            Poll::Ready(Ok(written)) if written == filled => return Poll::Ready(Ok(count)),
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        self.unsent.extend_from_slice(&output[written..filled]);
        self.promised = count;
        // The socket is full; the task must be woken when it no longer is.
        ready!(self.poll_send(cx))?;
        Poll::Ready(Ok(std::mem::take(&mut self.promised)))
    }

    /// How many bytes of `output` are filled then, and how many plain ones are in them.
    fn encrypt_pieces(
        &mut self,
        pieces: &[IoSlice<'_>],
        total: usize,
        output: &mut Vec<u8>,
    ) -> io::Result<(usize, usize)> {
        let records = WRITE_BYTES_MAX / RECORD_PLAIN_MAX + pieces.len();
        output.resize(output.len().max(WRITE_BYTES_MAX + records * RECORD_OVERHEAD), 0);
        if pieces.len() > 1 && total <= RECORD_PLAIN_MAX {
            let scratch = self.scratch.clone();
            let mut joined = scratch.joined.borrow_mut();
            joined.clear();
            pieces.iter().for_each(|piece| joined.extend_from_slice(piece));
            return Ok((self.encrypt(&joined, output, 0)?, total));
        }
        let (mut filled, mut count) = (0, 0);
        for piece in pieces {
            let piece = &piece[..piece.len().min(WRITE_BYTES_MAX - count)];
            if !piece.is_empty() {
                filled = self.encrypt(piece, output, filled)?;
                count += piece.len();
            }
        }
        Ok((filled, count))
    }

    /// Puts down that this was all.
    fn queue_goodbye(&mut self) -> io::Result<()> {
        while !self.has_said_goodbye {
            match self.session.process_tls_records(&mut self.partial).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    let mut output = [0; 256];
                    let count = traffic.queue_close_notify(&mut output).map_err(io::Error::other)?;
                    self.unsent.extend_from_slice(&output[..count]);
                    self.has_said_goodbye = true;
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, &mut self.unsent)?,
                Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
                Ok(ConnectionState::PeerClosed) => self.reading = Reading::Ended,
                Ok(_) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => return Err(invalid(error)),
            }
        }
        Ok(())
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = out.filled().len();
        loop {
            if this.taken < this.plain.len() {
                let count = out.remaining().min(this.plain.len() - this.taken);
                out.put_slice(&this.plain[this.taken..this.taken + count]);
                this.taken += count;
                if this.taken == this.plain.len() {
                    (this.plain, this.taken) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(()));
            }
            match this.reading {
                Reading::Open => {}
                Reading::Ended | Reading::Cut => return Poll::Ready(Ok(())),
                Reading::Broken => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
            ready!(this.poll_receive(cx, out))?;
            if !this.unsent.is_empty() {
                // Tickets, or new keys; what the socket does not take now goes before the next write.
                let _ = this.poll_send(cx)?;
            }
            if out.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_pieces(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_pieces(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.reading != Reading::Broken {
            this.queue_goodbye()?;
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.socket).poll_shutdown(cx)
    }
}

fn encode(
    data: &mut rustls::unbuffered::EncodeTlsData<'_, rustls::server::ServerConnectionData>,
    output: &mut Vec<u8>,
) -> io::Result<()> {
    let at = output.len();
    loop {
        match data.encode(&mut output[at..]) {
            Ok(count) => {
                output.truncate(at + count);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(need)) => output.resize(at + need.required_size, 0),
            Err(error @ EncodeError::AlreadyEncoded) => return Err(io::Error::other(error)),
        }
    }
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};
    use std::thread::JoinHandle;

    use rustls::pki_types::ServerName;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::tls::pair::tests::pem;

    type Client = StreamOwned<ClientConnection, std::net::TcpStream>;

    fn configs() -> (Arc<ClientConfig>, Arc<ServerConfig>) {
        let (certificate, key) = pem(&["a.example"], 2_090);
        let certificate = rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let provider = || Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let server = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        (
            Arc::new(client.unwrap().with_root_certificates(roots).with_no_client_auth()),
            Arc::new(server.unwrap().with_no_client_auth().with_single_cert(vec![certificate], key).unwrap()),
        )
    }

    /// A session after its handshake, and its client on a thread of its own.
    async fn session<T: Send + 'static>(
        client: impl FnOnce(&mut Client) -> T + Send + 'static,
    ) -> (TlsStream, JoinHandle<T>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (config, of_server) = configs();
        let thread = std::thread::spawn(move || {
            let session = ClientConnection::new(config, ServerName::try_from("a.example").unwrap()).unwrap();
            let mut stream = StreamOwned::new(session, std::net::TcpStream::connect(address).unwrap());
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock).unwrap();
            }
            client(&mut stream)
        });
        let mut stream =
            TlsStream::new(listener.accept().await.unwrap().0, of_server, Rc::default()).unwrap();
        poll_fn(|cx| stream.poll_handshake(cx)).await.unwrap();
        (stream, thread)
    }

    #[tokio::test]
    async fn what_a_read_sends_of_a_write_that_was_pending_is_not_sent_again() {
        let data: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let (begin, may_begin) = std::sync::mpsc::channel();
        let (mut server, client) = session(move |client: &mut Client| {
            may_begin.recv().unwrap();
            let mut got = vec![0; 1 << 20];
            client.read_exact(&mut got).unwrap();
            client.write_all(b"x").unwrap();
            client.read_to_end(&mut got).unwrap();
            got
        })
        .await;
        let mut sent = 0;
        while let Poll::Ready(count) =
            poll_fn(|cx| Poll::Ready(Pin::new(&mut server).poll_write(cx, &data[sent..]))).await
        {
            sent += count.unwrap();
        }
        begin.send(()).unwrap();
        server.socket().writable().await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        server.write_all(&data[sent..]).await.unwrap();
        server.shutdown().await.unwrap();
        let got = client.join().unwrap();
        assert!(got == data, "{} bytes of {}", got.len(), data.len());
    }
}
