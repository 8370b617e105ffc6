//! A client's connection: requests one after the other, and an end that loses none.
//!
//! ```text
//!          ┌────────────── keep-alive ◄─────────────┐
//!  idle ──first byte──► head ──whole──► request ──answered──► goodbye: half-close, read on for a while, close
//!   │ idle timeout and a margin         │ refused ──own answer──┘
//!   └───────────────────────────────────┴──────────────────────────► (an idle client closed it: just close)
//! ```
//! An idle connection is never closed first but after the time in which its client may use it again, and a
//! margin. While draining, or when its listener is gone, the next answer says that it was the last. Bytes behind a
//! request are the next one.
//! A connection that became a tunnel ends with it.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use model::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use wire::routes::Maintenance;

use crate::buffer::Buffer;
use crate::engine::accept::Listener;
use crate::engine::access_log::{Extra, Line};
use crate::engine::client_stream::ClientStream;
use crate::engine::entry::Entry;
use crate::engine::exchange::{Outgoing, Terms};
use crate::engine::forward::{Client, Forwarded, NOT_READY, NOT_READY_IN_TIME, Request, Verdict, forward};
use crate::engine::slots::SlotGuard;
use crate::engine::stats::{count, uncount};
use crate::engine::table::{Rules, Way};
use crate::engine::upload::Upload;
use crate::engine::visitor::Visitor;
use crate::engine::worker::Worker;
use crate::h1::answer::{Answer, AnswerForm, Extras, https_location, write_answer_with};
use crate::h1::forwarded::Via;
use crate::h1::request::{RequestHead, Target, read_request};
use crate::h1::scan::HeadScan;
use crate::tls::accept::{Opened, open};

/// How long a connection is read on after our last byte, so that the client gets it.
const LINGER: Duration = Duration::from_secs(2);
/// Empty lines that are passed over before a request (some clients send one behind a body).
const EMPTY_LINES_MAX: u32 = 2;

/// Serves a connection until it ends.
pub(crate) async fn serve(
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    slot: SlotGuard,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let client = peer.ip().to_canonical().to_string();
    let mut is_http_on_tls = false;
    let (stream, scheme) = match listener.tls() {
        None => (ClientStream::Plain(stream), "http"),
        // Boxed: a plain connection carries nothing of this.
        Some(config) => match Box::pin(open(&worker, &listener, &slot, stream, config)).await {
            Opened::Session(stream) => (stream, "https"),
            Opened::Http(stream) => {
                is_http_on_tls = true;
                (stream, "http")
            }
            Opened::Nothing => return worker.publish_load(),
        },
    };
    // Decided once: whom a later table trusts holds for later connections.
    let via = Via::new(&client, scheme, listener.address()).trusting(&listener.rules().trusted, peer.ip());
    count(&listener.stats.connections);
    let mut connection = Connection {
        slot,
        worker,
        listener,
        stream,
        client,
        via,
        input: Buffer::default(),
        answer: Outgoing::default(),
        target: Target::default(),
        extra: None,
    };
    let end = if is_http_on_tls {
        connection.refuse(Answer::new(400, "this listener speaks https"))
    } else {
        connection.serve_requests().await
    };
    match end {
        End::Goodbye => connection.say_goodbye().await,
        End::Close => connection.stream.part(),
    }
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// We end it: what was written must arrive.
    Goodbye,
    /// The client did, or there is nothing to save.
    Close,
}

/// What comes next on a connection.
enum Next {
    /// A whole head of that length is at the start of the input.
    Head(usize),
    /// Something that is no request, or comes too slowly.
    Refuse(Answer),
    End(End),
}

struct Connection {
    worker: Rc<Worker>,
    listener: Rc<Listener>,
    slot: SlotGuard,
    stream: ClientStream,
    client: String,
    via: Via,
    input: Buffer,
    answer: Outgoing,
    target: Target,
    /// What some settings of the access log ask for.
    extra: Option<Box<Extra>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.rest();
        uncount(&self.listener.stats.connections);
        self.worker.publish_load();
    }
}

impl Connection {
    async fn serve_requests(&mut self) -> End {
        loop {
            let rules = self.listener.rules();
            match self.next_head(&rules).await {
                Next::Head(length) => {
                    // A table may have been swapped while the head was waited for.
                    let rules = self.listener.rules();
                    let end = self.request(&rules, length).await;
                    // A last answer has as much time as any other.
                    if end != Some(End::Close) && !self.write_rest(rules.body_timeout).await {
                        // Its end may be all that tells the client where the answer ends; nothing more can be
                        // done if this fails.
                        let _ = self.stream.set_zero_linger();
                        return End::Close;
                    }
                    self.slot.clear_limit();
                    if let Some(end) = end {
                        return end;
                    }
                }
                Next::Refuse(answer) => return self.refuse(answer),
                Next::End(end) => return end,
            }
            if self.input.is_empty() {
                self.rest();
            }
        }
    }

    /// Gives the buffers back while there is nothing in them.
    fn rest(&mut self) {
        self.worker.buffers.give_back(std::mem::take(&mut self.input));
        self.worker.buffers.give_back_output(std::mem::take(&mut self.answer.bytes));
    }

    /// Reads until a whole head is there.
    async fn next_head(&mut self, rules: &Rules) -> Next {
        let (mut scan, mut empty_lines) = (HeadScan::default(), 0);
        if self.input.is_empty() {
            self.slot.set_idle(true);
            let came = self.wait_for_first_byte(rules).await;
            self.slot.set_idle(false);
            if let Err(end) = came {
                return Next::End(end);
            }
        }
        self.slot.arm(self.worker.clock.refresh() + rules.header_timeout);
        loop {
            match scan.find_end(self.input.filled()) {
                Err(_) => return Next::Refuse(Answer::new(400, "a line of the head does not end with CRLF")),
                Ok(Some(2)) if empty_lines < EMPTY_LINES_MAX => {
                    self.input.consume(2);
                    scan = HeadScan::default();
                    empty_lines += 1;
                    continue;
                }
                Ok(Some(2)) => return Next::Refuse(Answer::new(400, "there are only empty lines")),
                Ok(Some(end)) if end <= rules.head_bytes_max => return Next::Head(end),
                Ok(None) if self.input.len() <= rules.head_bytes_max => {}
                Ok(_) if scan.first_line().is_some_and(|length| length <= rules.head_bytes_max) => {
                    return Next::Refuse(Answer::new(
                        431,
                        "the request head is larger than this listener takes",
                    ));
                }
                Ok(_) => {
                    return Next::Refuse(Answer::new(
                        414,
                        "the request line is longer than this listener takes",
                    ));
                }
            }
            match self.read_more(rules.head_bytes_max).await {
                Ok(()) => {}
                Err(next) => return next,
            }
        }
    }

    /// Waits for the first byte of a request; a buffer is taken only when there is one.
    async fn wait_for_first_byte(&mut self, rules: &Rules) -> Result<(), End> {
        let (worker, slot, stream, input) = (&self.worker, &self.slot, &mut self.stream, &mut self.input);
        slot.arm(worker.clock.now() + rules.idle_close);
        let mut looked_again = false;
        loop {
            let came = poll_fn(|cx| {
                let has_fired = slot.has_fired(cx) || worker.is_cut();
                if slot.is_given_up() {
                    return Poll::Ready(Err(End::Close));
                }
                if has_fired && !looked_again {
                    return Poll::Ready(Ok(None));
                }
                if stream.poll_read_ready(cx).is_pending() {
                    return if has_fired { Poll::Ready(Err(End::Goodbye)) } else { Poll::Pending };
                }
                if input.capacity() == 0 {
                    *input = worker.buffers.small();
                }
                match input.poll_fill(stream, cx) {
                    Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(Ok(Some(()))),
                    Poll::Ready(_) => Poll::Ready(Err(End::Close)),
                    Poll::Pending if has_fired => Poll::Ready(Err(End::Goodbye)),
                    Poll::Pending => {
                        worker.buffers.give_back(std::mem::take(input));
                        Poll::Pending
                    }
                }
            });
            if came.await?.is_some() {
                return Ok(());
            }
            // The time is over. What has arrived meanwhile is seen once the runtime has looked again.
            looked_again = true;
            tokio::task::yield_now().await;
        }
    }

    async fn read_more(&mut self, head_bytes_max: usize) -> Result<(), Next> {
        if self.input.capacity() == 0 {
            self.input = self.worker.buffers.small();
        }
        // One byte more than the largest head shows that a head is larger.
        self.input.make_room(head_bytes_max + 1);
        poll_fn(|cx| {
            let has_fired = self.slot.has_fired(cx);
            if self.worker.is_cut() {
                return Poll::Ready(Err(Next::End(End::Close)));
            }
            match self.input.poll_fill(&mut self.stream, cx) {
                Poll::Ready(Ok(count)) if count > 0 => Poll::Ready(Ok(())),
                Poll::Ready(_) => Poll::Ready(Err(Next::End(End::Close))),
                Poll::Pending if has_fired => {
                    Poll::Ready(Err(Next::Refuse(Answer::new(408, "the request head did not come in time"))))
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Answers the request whose head is at the start of the input; how the connection ends, if it does.
    async fn request(&mut self, rules: &Rules, length: usize) -> Option<End> {
        let started = self.worker.clock.now();
        let mut out = self.worker.buffers.output();
        let head = &self.input.filled()[..length];
        self.worker.log.read_extra(head, &mut self.extra);
        let (via, ids) = (&self.via, &self.worker.ids);
        let mut head = match read_request(head, rules.limits, via, ids, &mut self.target, &mut out) {
            Ok(head) => head,
            Err(answer) => {
                self.worker.buffers.give_back_output(out);
                return Some(self.refuse(answer));
            }
        };
        let way = rules.router.find(&self.target.host, &self.target.path).map(Way::take);
        let claimed = self.target.client.map(|client| client.to_string());
        let visitor = way.map(|way| {
            let head = &self.input.filled()[..length];
            let client = claimed.as_deref().unwrap_or(&self.client);
            way.service.balance.asks.read(head, client, rules.is_secure)
        });
        self.input.consume(length);
        let redirect = rules.redirect_https_port.map(|port| https_location(&out, &self.target.host, port));
        let mut upload = Upload::new(out, head.body.clone(), rules.limits.body_bytes);
        upload.offer(head.upgrade.take());
        if let Err(answer) = upload.pull(&mut self.input) {
            return Some(self.refuse(answer));
        }
        self.answer = Outgoing::new(self.worker.buffers.output());
        if let Some(location) = redirect {
            return self.redirect(location.as_deref(), &head, &upload, started);
        }
        let (Some(way), Some(visitor)) = (way, visitor) else {
            count(&self.worker.stats.refused);
            count(&self.listener.stats.refused);
            let answer = Answer::new(404, "there is no route for this host and path");
            let entry = Entry { is_1_0: head.is_1_0, ..Entry::new(started) };
            return self.answer_itself(answer, Extras::default(), &head, &upload, &entry);
        };
        if let Some(maintenance) = way.service.maintenance.as_ref().filter(|maintenance| maintenance.on) {
            way.service.unplaced.answered(MAINTENANCE.status);
            let group = way.service.groups.find(&self.target.path);
            let entry = Entry { way: Some(way), group, is_1_0: head.is_1_0, ..Entry::new(started) };
            return self.answer_itself(MAINTENANCE, extras_of(maintenance), &head, &upload, &entry);
        }
        if let Some(timeout) = way.service.request_timeout {
            self.slot.set_limit(started + timeout);
        }
        let end = self.forward(rules, (way, visitor), &head, &mut upload, started).await;
        self.worker.buffers.give_back_output(upload.into_bytes());
        end
    }

    async fn forward(
        &mut self,
        rules: &Rules,
        (way, visitor): (&Way, Visitor),
        head: &RequestHead,
        upload: &mut Upload,
        started: Instant,
    ) -> Option<End> {
        let service = &way.service;
        let terms = Terms {
            asked: head.asked(),
            response_timeout: service.response_timeout,
            body_timeout: rules.body_timeout,
            owes_continue: head.expects_continue && !upload.has_ended() && !upload.has_body(),
        };
        let request = Request {
            service: service.clone(),
            visitor,
            terms,
            is_idempotent: head.is_idempotent,
            started,
            first_byte: None,
            is_failed: false,
        };
        let mut client = Client {
            worker: &self.worker,
            slot: &self.slot,
            listener: &self.listener,
            stream: &mut self.stream,
            input: &mut self.input,
            answer: &mut self.answer,
        };
        let Forwarded { verdict, endpoint, retries, held, was_queued, first_byte, is_failed } =
            forward(&mut client, request, upload).await;
        let stats = endpoint.as_ref().map_or(&service.unplaced, |endpoint| &endpoint.stats);
        if let Some(time) = held {
            stats.was_held(time);
        }
        if was_queued {
            count(&stats.queued);
        }
        let entry = Entry {
            started,
            way: Some(way),
            group: service.groups.find(&self.target.path),
            endpoint: endpoint.as_deref(),
            retries,
            bytes_in: upload.body_bytes(),
            first_byte,
            is_failed,
            is_1_0: head.is_1_0,
            tunnel: None,
        };
        match verdict {
            Verdict::Answered { status, bytes, keep_alive } => {
                stats.answered(status);
                self.finish(&entry, status, bytes);
                (!keep_alive).then_some(End::Goodbye)
            }
            Verdict::Tunnelled(passed) => {
                self.finish(&Entry { tunnel: Some(passed), ..entry }, 101, 0);
                Some(End::Close)
            }
            Verdict::Own(answer) => {
                stats.answered(answer.status);
                let is_down = answer == NOT_READY || answer == NOT_READY_IN_TIME;
                let maintenance = service.maintenance.as_ref().filter(|_| is_down);
                let extras = maintenance.map(extras_of).unwrap_or_default();
                self.answer_itself(answer, extras, head, upload, &entry)
            }
            Verdict::Dropped { status, bytes } => {
                self.finish(&entry, status, bytes);
                Some(End::Close)
            }
        }
    }

    /// Writes what is left of an answer; false when the client does not take it.
    async fn write_rest(&mut self, timeout: Duration) -> bool {
        if self.answer.is_empty() {
            return true;
        }
        self.slot.arm(self.worker.clock.now() + timeout);
        let mut left = self.answer.left();
        poll_fn(|cx| {
            if self.slot.has_fired(cx) {
                return Poll::Ready(false);
            }
            let written = self.answer.poll_write(&mut self.stream, &[], cx);
            if self.answer.left() < left {
                left = self.answer.left();
                self.slot.arm(self.worker.clock.refresh() + timeout);
            }
            written.map(|result| result.is_ok())
        })
        .await
    }

    /// Puts down an answer of our own to a request that was read. The connection goes on if nothing of the
    /// request is left.
    fn answer_itself(
        &mut self,
        answer: Answer,
        extras: Extras<'_>,
        head: &RequestHead,
        upload: &Upload,
        entry: &Entry<'_>,
    ) -> Option<End> {
        let is_last = self.worker.is_draining() || self.listener.is_closing();
        let keep_alive = head.keep_alive && upload.has_ended() && !is_last;
        let form = AnswerForm { is_head: head.is_head, keep_alive, is_1_0: head.is_1_0 };
        let extras = Extras { request_id: self.target.ids.request_id(), ..extras };
        let bytes = write_answer_with(answer, form, extras, &mut self.answer.bytes);
        self.finish(entry, answer.status, bytes as u64);
        (!keep_alive).then_some(End::Goodbye)
    }

    /// Sends the client to `location`, if it is known where that is.
    fn redirect(
        &mut self,
        location: Option<&[u8]>,
        head: &RequestHead,
        upload: &Upload,
        started: Instant,
    ) -> Option<End> {
        let answer = match location {
            Some(_) => Answer::new(308, "this is served by https"),
            None => Answer::new(400, "the Host field is missing"),
        };
        let extras = Extras { location: location.unwrap_or_default(), ..Extras::default() };
        let entry = Entry { is_1_0: head.is_1_0, ..Entry::new(started) };
        self.answer_itself(answer, extras, head, upload, &entry)
    }

    /// Refuses what is no request.
    fn refuse(&mut self, answer: Answer) -> End {
        count(&self.worker.stats.refused);
        count(&self.listener.stats.refused);
        let form = AnswerForm { is_head: false, keep_alive: false, is_1_0: false };
        self.target.clear();
        self.target.ids.decide(None, None, &self.worker.ids);
        let extras = Extras { request_id: self.target.ids.request_id(), ..Extras::default() };
        let bytes = write_answer_with(answer, form, extras, &mut self.answer.bytes);
        self.extra = None;
        self.finish(&Entry::new(self.worker.clock.now()), answer.status, bytes as u64);
        End::Goodbye
    }

    /// Counts a request that is over, and says so in the access log.
    fn finish(&self, entry: &Entry<'_>, status: u16, bytes: u64) {
        let worker = &self.worker;
        entry.count(status, bytes, worker.clock.now());
        if !worker.log.is_due(status) {
            return;
        }
        let claimed = self.target.client.map(|client| client.to_string());
        let tunnel = entry.tunnel.map(|passed| (passed.received, passed.sent));
        worker.log.write(&Line {
            time: worker.clock.wall(entry.started),
            listener_field: self.listener.log_field(),
            is_tls: self.stream.is_tls(),
            client: claimed.as_deref().unwrap_or(&self.client),
            method: &self.target.method,
            host: &self.target.host,
            path: &self.target.path,
            extra: self.extra.as_deref(),
            is_1_0: entry.is_1_0,
            status,
            bytes,
            bytes_in: entry.bytes_in,
            duration: worker.clock.now().since(entry.started),
            first_byte: entry.first_byte,
            retries: entry.retries,
            request_id: self.target.ids.request_id(),
            trace_id: self.target.ids.trace_id(),
            tunnel,
            fields: entry.log_fields(),
            group_field: entry.group.map_or("", |group| &group.log_field),
        });
    }

    /// Half-closes and reads on, so that no reset destroys what the client has not read yet.
    async fn say_goodbye(&mut self) {
        if !self.write_rest(LINGER).await || self.stream.shutdown().await.is_err() {
            return;
        }
        if self.input.capacity() == 0 {
            self.input = self.worker.buffers.small();
        }
        self.slot.arm(self.worker.clock.refresh() + LINGER);
        poll_fn(|cx| {
            loop {
                if self.slot.has_fired(cx) {
                    return Poll::Ready(());
                }
                self.input.consume(self.input.len());
                match self.input.poll_fill(&mut self.stream, cx) {
                    Poll::Ready(Ok(count)) if count > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
    }
}

/// Answered while the service is in maintenance.
const MAINTENANCE: Answer = Answer::new(503, "the service is in maintenance");

fn extras_of(maintenance: &Maintenance) -> Extras<'_> {
    Extras {
        retry_after_s: Some(maintenance.retry_after_s),
        page: maintenance.page.as_deref(),
        ..Extras::default()
    }
}
