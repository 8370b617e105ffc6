//! One attempt: a request to one instance and its answer back, both at once, on one connection each.
//!
//! ```text
//!  client ──input──► upload ──────────────► instance
//!  client ◄─download (written straight from it when large)◄── instance
//!           └─answer: heads, framing, small pieces
//! ```
//! Each wake moves whatever can be moved, reads and writes being tried before they are waited for. It does not
//! choose instances and does not try again: it says how the attempt ended, and what the client has seen of it.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use host::splice::Pipe;
use host::upstream::Stream;
use model::time::Instant;
use tokio::io::AsyncWrite;

use crate::buffer::{Buffer, SMALL_BYTES};
use crate::engine::accept::Listener;
use crate::engine::client_stream::ClientStream;
use crate::engine::policy::Policy;
use crate::engine::slots::Slot;
use crate::engine::upload::Upload;
use crate::engine::watch::{ENDED_CLIENT_TIMEOUT, Seen, watch};
use crate::engine::worker::Worker;
use crate::h1::answer::Answer;
use crate::h1::body::Piece;
use crate::h1::response::{Asked, ResponseHead, read_response};
use crate::h1::scan::HeadScan;

/// Largest head of a response.
const RESPONSE_HEAD_BYTES_MAX: usize = 64 << 10;
/// Most interim responses before the final one.
const INTERIM_MAX: u32 = 16;
/// Pieces of a body up to this size are gathered with their framing into one write.
const GATHERED_BYTES_MAX: usize = 4 << 10;
/// Gathering stops when that much waits to be written.
const ANSWER_BYTES_MAX: usize = 32 << 10;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The answer was read to its end; the last of it may still have to be written.
    Complete,
    /// The instance goes on with another protocol, one that it was offered; what it said so is in the answer.
    Switched,
    /// Not one byte of the request could be written.
    NotSent,
    /// The connection ended before there was an answer.
    Lost {
        /// After part of one.
        in_answer: bool,
    },
    /// There was no answer in time.
    Late,
    /// The answer cannot be passed on.
    Bad(&'static str),
    /// The instance said that it is draining; nothing of that was passed on.
    Draining,
    /// The answer has a status that is tried again, and that was taken from the budget; nothing was passed on.
    Unwanted(u16),
    /// The connection, or the time, ended in the middle of an answer the client has a part of.
    Truncated,
    /// The client went away, or did not take its answer in time.
    ClientGone,
    /// The rest of the request is not acceptable, and the client has seen no answer yet.
    Refused(Answer),
    /// The drain's deadline is over.
    Cut,
}

/// Whom it waits for: the instance, the rest of the request's body, or the client to take its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Instance,
    Body,
    Client,
}

pub(super) type Step = Result<bool, Ended>;

/// Bytes on their way to the client.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// Heads, framing, small pieces.
    pub(crate) bytes: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    /// With an empty buffer.
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, sent: 0 }
    }

    /// Writes what it can of itself and `direct`; `Ok` when itself is written, with how much of `direct` was.
    pub(crate) fn poll_write(
        &mut self,
        client: &mut ClientStream,
        direct: &[u8],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let own = &self.bytes[self.sent..];
            let poll = match (own.is_empty(), direct.is_empty()) {
                (true, true) => return Poll::Ready(Ok(0)),
                (true, false) => Pin::new(&mut *client).poll_write(cx, direct),
                (false, true) => Pin::new(&mut *client).poll_write(cx, own),
                (false, false) => {
                    Pin::new(&mut *client).poll_write_vectored(cx, &[IoSlice::new(own), IoSlice::new(direct)])
                }
            };
            let Poll::Ready(written) = poll? else { return Poll::Pending };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_own = written.min(own.len());
            self.sent += of_own;
            if self.sent == self.bytes.len() {
                self.bytes.clear();
                self.sent = 0;
                if written > of_own {
                    return Poll::Ready(Ok(written - of_own));
                }
            }
        }
    }

    /// How much is still to be written.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Whether everything was written.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// What holds for one attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// What the request was; `keep_alive` as the client wants it.
    pub(crate) asked: Asked,
    /// For the instance.
    pub(crate) response_timeout: Duration,
    /// For the client.
    pub(crate) body_timeout: Duration,
    /// The client waits for 100 before it sends the body, and has not got it yet.
    pub(crate) owes_continue: bool,
}

/// One attempt under way.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) slot: &'a Slot,
    pub(crate) listener: &'a Listener,
    pub(crate) client: &'a mut ClientStream,
    pub(crate) input: &'a mut Buffer,
    pub(crate) answer: &'a mut Outgoing,
    pub(crate) upload: &'a mut Upload,
    pub(crate) instance: &'a mut Stream,
    pub(crate) policy: Policy<'a>,
    pub(crate) terms: Terms,
    /// What was read from the instance.
    pub(crate) download: Buffer,
    /// What of a large body is on its way without having been read.
    pub(super) pipe: Option<Pipe>,
    /// There was no pipe to be had.
    pub(super) is_unpiped: bool,
    /// The final response's head, once it is there.
    pub(crate) response: Option<ResponseHead>,
    /// When that was.
    pub(crate) answered_at: Option<Instant>,
    /// Body bytes read for the client.
    pub(crate) body_bytes: u64,
    state: State,
}

#[derive(Debug, Default)]
struct State {
    scan: HeadScan,
    /// At the front of `download`: body bytes to be written straight from there.
    direct: usize,
    /// Bytes of the request were written.
    has_sent: bool,
    /// The instance takes no more of the request.
    is_deaf: bool,
    /// An interim response was passed on.
    has_interim: bool,
    interims: u32,
    answer_ended: bool,
    waiting: Option<Waiting>,
    /// The time is over, and it is only looked whether anything has come.
    has_looked_again: bool,
    /// The client sends no more, and may have left.
    has_client_ended: bool,
    /// Trailer lines of the answer, for a client that takes them.
    trailers: Vec<u8>,
}

/// What an exchange needs of its surroundings.
pub(crate) struct Ends<'a> {
    pub(crate) worker: &'a Worker,
    pub(crate) slot: &'a Slot,
    pub(crate) listener: &'a Listener,
    pub(crate) client: &'a mut ClientStream,
    pub(crate) input: &'a mut Buffer,
    pub(crate) answer: &'a mut Outgoing,
    pub(crate) upload: &'a mut Upload,
    pub(crate) instance: &'a mut Stream,
    pub(crate) policy: Policy<'a>,
}

impl<'a> Exchange<'a> {
    /// An attempt that has not begun.
    pub(crate) fn new(ends: Ends<'a>, terms: Terms) -> Self {
        let Ends { worker, slot, listener, client, input, answer, upload, instance, policy } = ends;
        Self {
            worker,
            slot,
            listener,
            client,
            input,
            answer,
            upload,
            instance,
            policy,
            terms,
            download: Buffer::default(),
            pipe: None,
            is_unpiped: false,
            response: None,
            answered_at: None,
            body_bytes: 0,
            state: State::default(),
        }
    }

    /// Carries it out.
    pub(crate) async fn run(&mut self) -> Ended {
        poll_fn(|cx| self.poll(cx)).await
    }

    /// Whether the instance's connection can carry another request.
    pub(crate) fn is_instance_reusable(&self) -> bool {
        self.response.as_ref().is_some_and(|response| response.is_reusable)
            && self.upload.is_sent()
            && self.download.is_empty()
            && !self.state.is_deaf
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        // The first turn is that of the request's head, for which the clock was read.
        if self.state.waiting.is_some() {
            self.worker.clock.refresh();
        }
        let has_fired = self.slot.has_fired(cx);
        if self.worker.is_cut() {
            return Poll::Ready(Ended::Cut);
        }
        let is_late = has_fired && self.state.waiting.is_some();
        if is_late && self.slot.is_over_limit(self.worker.clock.now()) {
            return Poll::Ready(self.expired());
        }
        let mut has_moved = false;
        loop {
            let moved = self.poll_upload(cx).and_then(|up| Ok(self.poll_download(cx)? || up));
            match moved {
                Ok(true) => has_moved = true,
                Ok(false) => break,
                Err(ended) => return Poll::Ready(ended),
            }
        }
        // Where this process stood still nobody else was late: what has come meanwhile is seen once the runtime has
        // looked again.
        if is_late && !has_moved {
            if std::mem::replace(&mut self.state.has_looked_again, true) {
                return Poll::Ready(self.expired());
            }
            return pin!(tokio::task::yield_now()).poll(cx).map(|()| self.expired());
        }
        if self.is_client_to_be_watched() {
            match watch(self.client, self.input, &self.worker.buffers, cx) {
                Seen::Nothing => {}
                Seen::End => {
                    self.state.has_client_ended = true;
                    has_moved = true;
                }
                Seen::Gone => return Poll::Ready(Ended::ClientGone),
            }
        }
        self.arm(has_moved);
        Poll::Pending
    }

    /// While the instance thinks, or sends nothing for a while, nothing else would show that the client has left.
    fn is_client_to_be_watched(&self) -> bool {
        self.upload.has_ended() && !self.state.has_client_ended
    }

    /// The deadline starts over when anything moved, or something else is waited for.
    fn arm(&mut self, has_moved: bool) {
        let is_piped = self.pipe.as_ref().is_some_and(|pipe| pipe.filled() > 0);
        let waiting = if !self.answer.is_empty() || self.state.direct > 0 || is_piped {
            Waiting::Client
        } else if self.upload.has_ended() || !self.upload.pending().is_empty() || self.state.is_deaf {
            Waiting::Instance
        } else {
            Waiting::Body
        };
        if has_moved || self.state.waiting != Some(waiting) {
            self.state.waiting = Some(waiting);
            self.state.has_looked_again = false;
            let timeout = match waiting {
                Waiting::Instance if self.state.has_client_ended && self.response.is_none() => {
                    self.terms.response_timeout.min(ENDED_CLIENT_TIMEOUT)
                }
                Waiting::Instance => self.terms.response_timeout,
                Waiting::Body | Waiting::Client => self.terms.body_timeout,
            };
            self.slot.arm(self.worker.clock.now() + timeout);
        }
    }

    fn expired(&self) -> Ended {
        let has_answer = self.response.is_some();
        match self.state.waiting {
            Some(Waiting::Client) => Ended::ClientGone,
            Some(Waiting::Body) if has_answer => Ended::ClientGone,
            Some(Waiting::Body) => Ended::Refused(Answer::new(408, "the body did not come in time")),
            Some(Waiting::Instance) | None if has_answer => Ended::Truncated,
            Some(Waiting::Instance) | None if self.state.has_client_ended => Ended::ClientGone,
            Some(Waiting::Instance) | None => Ended::Late,
        }
    }

    /// Writes the request, and reads more of its body once everything so far is written.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Step {
        let mut moved = false;
        while !self.state.is_deaf {
            if self.upload.pending().is_empty() {
                if self.upload.has_ended() || !self.poll_body(cx)? {
                    break;
                }
                moved = true;
                continue;
            }
            match Pin::new(&mut *self.instance).poll_write(cx, self.upload.pending()) {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.upload.advance(written);
                    self.state.has_sent = true;
                    moved = true;
                }
                Poll::Ready(_) if !self.state.has_sent => return Err(Ended::NotSent),
                // It may have answered before it stopped reading.
                Poll::Ready(_) => self.state.is_deaf = true,
                Poll::Pending => break,
            }
        }
        Ok(moved)
    }

    /// Takes more of the request's body from the client; false when nothing is there yet.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Step {
        if self.input.is_empty() {
            // Once the final answer has begun, there is no place for it any more.
            if self.response.is_none() && std::mem::take(&mut self.terms.owes_continue) {
                self.answer.bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            self.fit_input();
            match self.input.poll_fill(self.client, cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(count)) if count > 0 => {}
                Poll::Ready(_) => return Err(Ended::ClientGone),
            }
        }
        self.terms.owes_continue = false;
        match self.upload.pull(self.input) {
            Ok(()) => Ok(true),
            Err(answer) if self.response.is_none() => Err(Ended::Refused(answer)),
            Err(_) => Err(Ended::ClientGone),
        }
    }

    /// A larger buffer for a large body, while the buffer is empty; none may be there at all.
    fn fit_input(&mut self) {
        let wants_large = self.upload.left_at_most() > SMALL_BYTES as u64 * 2;
        if self.input.capacity() == 0 || (wants_large && self.input.capacity() == SMALL_BYTES) {
            let buffers = &self.worker.buffers;
            let fitting = if wants_large { buffers.large() } else { buffers.small() };
            buffers.give_back(std::mem::replace(self.input, fitting));
        }
    }

    /// Writes what is there of the answer, and reads more of it once that is written.
    fn poll_download(&mut self, cx: &mut Context<'_>) -> Step {
        let mut moved = false;
        loop {
            let waited = self.answer.left() + self.state.direct;
            let is_written = self.poll_write_answer(cx)?;
            moved |= waited > self.answer.left() + self.state.direct;
            if self.state.answer_ended && self.state.direct == 0 {
                return Err(Ended::Complete);
            }
            if !is_written {
                return Ok(moved);
            }
            let goes_on = match self.passage() {
                Some(left) => self.poll_pass(left, cx)?,
                None => self.take_answer()? || self.poll_read_answer(cx)?,
            };
            if !goes_on {
                return Ok(moved);
            }
            moved = true;
        }
    }

    /// Whether everything that was to be written is.
    fn poll_write_answer(&mut self, cx: &mut Context<'_>) -> Step {
        loop {
            let direct = &self.download.filled()[..self.state.direct];
            if direct.is_empty() && self.answer.is_empty() {
                return Ok(true);
            }
            match self.answer.poll_write(self.client, direct, cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(_)) => return Err(Ended::ClientGone),
                Poll::Ready(Ok(written)) => {
                    self.download.consume(written);
                    let had_direct = self.state.direct > 0;
                    self.state.direct -= written;
                    if let (Some(response), true, 0) = (&self.response, had_direct, self.state.direct) {
                        response.writer.finish_piece(&mut self.answer.bytes);
                    }
                }
            }
        }
    }

    /// Reads from the instance; false when nothing is there yet.
    fn poll_read_answer(&mut self, cx: &mut Context<'_>) -> Step {
        if self.download.capacity() == 0 {
            // A buffer only once there is something to read.
            match self.instance.poll_read_ready(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(_) => self.download = self.worker.buffers.small(),
            }
        }
        self.fit_download();
        if !self.download.make_room(RESPONSE_HEAD_BYTES_MAX) {
            return Err(Ended::Bad("its head is too large"));
        }
        match self.download.poll_fill(self.instance, cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(count)) if count > 0 => Ok(true),
            Poll::Ready(result) => self.instance_ended(result.is_ok()),
        }
    }

    fn fit_download(&mut self) {
        let left = self.response.as_ref().map_or(0, |response| response.body.left_at_most());
        let is_small = self.download.capacity() == SMALL_BYTES;
        if is_small && self.download.is_empty() && left > SMALL_BYTES as u64 * 2 {
            let buffers = &self.worker.buffers;
            buffers.give_back(std::mem::replace(&mut self.download, buffers.large()));
        }
    }

    pub(super) fn instance_ended(&mut self, in_order: bool) -> Step {
        let Some(response) = &self.response else {
            return Err(Ended::Lost { in_answer: self.state.has_interim || !self.download.is_empty() });
        };
        if in_order && matches!(response.body, crate::h1::body::BodyReader::UntilEnd) {
            response.writer.end(&mut self.answer.bytes);
            self.state.answer_ended = true;
            return Ok(true);
        }
        Err(Ended::Truncated)
    }

    /// Looks at what was read; false when more has to be read first.
    fn take_answer(&mut self) -> Step {
        if self.response.is_none() && !self.take_head()? {
            return Ok(false);
        }
        self.take_body()
    }

    /// Takes heads until the final one; false when it is not whole yet.
    fn take_head(&mut self) -> Step {
        loop {
            let end = self.state.scan.find_end(self.download.filled());
            let Some(end) = end.map_err(|_bare| Ended::Bad("a line of its head does not end with CRLF"))?
            else {
                return Ok(false);
            };
            let before = self.answer.bytes.len();
            let asked = Asked {
                keep_alive: self.terms.asked.keep_alive
                    && self.upload.has_ended()
                    && !self.worker.is_draining()
                    && !self.listener.is_closing(),
                ..self.terms.asked
            };
            let head = &self.download.filled()[..end];
            let response = read_response(head, asked, self.upload.offered(), &mut self.answer.bytes)
                .map_err(|bad| {
                    self.answer.bytes.truncate(before);
                    Ended::Bad(bad.0)
                })?;
            self.download.consume(end);
            self.state.scan = HeadScan::default();
            if self.upload.is_intact()
                && !self.state.has_interim
                && let Some(ended) = self.policy.refuses(&response, self.worker.clock.now())
            {
                self.answer.bytes.truncate(before);
                return Err(ended);
            }
            if response.is_switch() {
                if !self.upload.is_sent() {
                    self.answer.bytes.truncate(before);
                    return Err(Ended::Bad("it switches before it was asked"));
                }
                self.response = Some(response);
                return Err(Ended::Switched);
            }
            if !response.is_interim() {
                self.policy.mark(&mut self.answer.bytes);
                self.response = Some(response);
                self.answered_at = Some(self.worker.clock.now());
                return Ok(true);
            }
            self.state.interims += 1;
            if self.state.interims > INTERIM_MAX {
                self.answer.bytes.truncate(before);
                return Err(Ended::Bad("it has too many interim responses"));
            }
            // 100 is ours to give, and an old client knows none of them.
            if response.status == 100 || asked.is_1_0 {
                self.answer.bytes.truncate(before);
            } else {
                self.state.has_interim = true;
            }
        }
    }

    /// Takes as much of the body as can be written next; true when there is something to write, or the end.
    fn take_body(&mut self) -> Step {
        let Some(response) = &mut self.response else { return Ok(false) };
        while self.answer.bytes.len() < ANSWER_BYTES_MAX {
            let piece = response.body.next_piece(self.download.filled());
            match piece.map_err(|_malformed| Ended::Truncated)? {
                Piece::More => {
                    self.download.consume(self.download.len());
                    return Ok(!self.answer.is_empty());
                }
                Piece::End { skip } => {
                    self.download.consume(skip);
                    response.writer.end_with(&self.state.trailers, &mut self.answer.bytes);
                    self.state.answer_ended = true;
                    return Ok(true);
                }
                Piece::Trailers { skip, len } => {
                    self.download.consume(skip);
                    if response.has_trailers {
                        self.state.trailers.extend_from_slice(&self.download.filled()[..len]);
                    }
                    self.download.consume(len);
                }
                Piece::Data { skip, len } => {
                    self.download.consume(skip);
                    self.body_bytes += len as u64;
                    if len > GATHERED_BYTES_MAX {
                        response.writer.begin(len, &mut self.answer.bytes);
                        self.state.direct = len;
                        return Ok(true);
                    }
                    response.writer.write(&self.download.filled()[..len], &mut self.answer.bytes);
                    self.download.consume(len);
                }
            }
        }
        Ok(true)
    }
}
