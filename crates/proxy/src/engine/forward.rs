//! One request through as many attempts as the rules allow.
//!
//! Another attempt needs that the client has seen nothing, the request is intact, the budget has room, and:
//! nothing of it was sent, or sending it twice does no harm, or the instance said that it is draining. A failure on a
//! connection that was used before is of that connection, on a fresh one of the instance. Where the table says so, a
//! request that finds no endpoint waits for the next table instead of failing, one that finds only full ones waits for
//! a slot, and an answer with a certain status is tried again too, where somebody else can be asked.

use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use host::upstream::{Stream, is_shortage};
use model::time::Instant;
use wire::routes::Address;

use crate::buffer::Buffer;
use crate::engine::accept::Listener;
use crate::engine::claim::{Claim, Claimed, Tried, claim, claim_slot, has_other, wanted};
use crate::engine::client_stream::ClientStream;
use crate::engine::endpoint::Endpoint;
use crate::engine::entry::micros;
use crate::engine::exchange::{Ended, Ends, Exchange, Outgoing, Terms};
use crate::engine::hold::{self, Held, Waited};
use crate::engine::policy::Policy;
use crate::engine::queue::{self, Passed};
use crate::engine::slots::Slot;
use crate::engine::stats::{ReleaseStats, count, uncount};
use crate::engine::table::Service;
use crate::engine::tunnel;
use crate::engine::upload::Upload;
use crate::engine::visitor::Visitor;
use crate::engine::worker::Worker;
use crate::h1::answer::Answer;

/// The client's side of a request.
pub(crate) struct Client<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) slot: &'a Slot,
    pub(crate) listener: &'a Listener,
    pub(crate) stream: &'a mut ClientStream,
    pub(crate) input: &'a mut Buffer,
    pub(crate) answer: &'a mut Outgoing,
}

/// A request that has a service.
pub(crate) struct Request {
    /// As of the newest table.
    pub(crate) service: Rc<Service>,
    /// Who sent it, as far as the service asks.
    pub(crate) visitor: Visitor,
    pub(crate) terms: Terms,
    pub(crate) is_idempotent: bool,
    pub(crate) started: Instant,
    /// From the last attempt's beginning to its answer's head, once that is there.
    pub(crate) first_byte: Option<Duration>,
    /// The instance failed after its answer had begun, or lost the request.
    pub(crate) is_failed: bool,
}

impl Request {
    /// Takes the service from the newest table. One that is gone keeps what it was, and none of its endpoints serves
    /// any more.
    fn renew(&mut self, worker: &Worker, tried: &mut Tried) {
        if let Some(newest) = worker.service(&self.service.name)
            && !Rc::ptr_eq(&newest, &self.service)
        {
            tried.follow(&self.service, &newest);
            self.service = newest;
        }
    }

    /// Whether it may be sent twice although it may have arrived.
    fn may_repeat(&self) -> bool {
        self.is_idempotent || self.service.balance.retry.non_idempotent
    }
}

/// What the client gets.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The instance's answer; the last of it may still have to be written.
    Answered {
        /// Its status.
        status: u16,
        /// Bytes of its body.
        bytes: u64,
        /// The connection goes on.
        keep_alive: bool,
    },
    /// The instance's 101, and what passed after it; it is over.
    Tunnelled(tunnel::Passed),
    /// An answer of our own.
    Own(Answer),
    /// Nothing more: the connection is closed as it is.
    Dropped {
        /// Status of the answer that was begun, or 0.
        status: u16,
        /// Bytes of its body.
        bytes: u64,
    },
}

/// A request that was dealt with.
#[derive(Debug)]
pub(crate) struct Forwarded {
    /// What the client gets.
    pub(crate) verdict: Verdict,
    /// The instance that had it last.
    pub(crate) endpoint: Option<Rc<Endpoint>>,
    /// Attempts after the first.
    pub(crate) retries: u32,
    /// How long it waited because no endpoint served, if it did.
    pub(crate) held: Option<Duration>,
    /// From the last attempt's beginning to its answer's head, once that was there.
    pub(crate) first_byte: Option<Duration>,
    /// The instance failed after its answer had begun, or lost the request.
    pub(crate) is_failed: bool,
    /// It waited for a slot.
    pub(crate) was_queued: bool,
}

/// How an attempt went wrong, and what that allows.
struct Failure {
    answer: Answer,
    may_retry: bool,
    /// The endpoint is not to be tried again.
    leaves_endpoint: bool,
    /// The retry was taken from the budget already.
    is_paid: bool,
}

impl Failure {
    const fn new(answer: Answer, may_retry: bool, leaves_endpoint: bool) -> Self {
        Self { answer, may_retry, leaves_endpoint, is_paid: false }
    }
}

/// Forwards a request until it is answered or nothing more can be done.
pub(crate) async fn forward(client: &mut Client<'_>, mut request: Request, upload: &mut Upload) -> Forwarded {
    request.service.balance.retry.budget.borrow_mut().handle_request();
    let mut wait = Wait::default();
    let (verdict, endpoint, retries) = try_all(client, &mut request, upload, &mut wait).await;
    let Request { first_byte, is_failed, .. } = request;
    let was_queued = wait.queued_since.is_some();
    Forwarded { verdict, endpoint, retries, held: wait.took, was_queued, first_byte, is_failed }
}

/// What waiting for an endpoint has come to.
#[derive(Debug, Default)]
struct Wait {
    /// Its place, until the attempt after it is over.
    held: Option<Held>,
    took: Option<Duration>,
    /// When it first waited for a slot.
    queued_since: Option<Instant>,
}

impl Wait {
    /// Waits, if the table says so; `None` when it does not, else what the client gets unless there is a newer table
    /// to be looked at.
    async fn for_endpoint(&mut self, client: &mut Client<'_>, request: &Request) -> Option<Option<Verdict>> {
        // A service that is in no table any more has nothing to wait for.
        client.worker.service(&request.service.name)?;
        let terms = request.service.hold()?;
        // One that has to wait again takes its old turn.
        self.held = None;
        let (worker, before) = (client.worker, client.worker.clock.refresh());
        // Boxed: a request that does not wait carries nothing of this.
        let waited = Box::pin(hold::wait(client, &request.service.name, terms, request.started)).await;
        *self.took.get_or_insert_default() += worker.clock.now().since(before);
        Some(match waited {
            Waited::Go(held) => {
                self.held = Some(held);
                None
            }
            Waited::Refused if client.slot.is_over_limit(worker.clock.now()) => Some(Verdict::Own(TOO_LONG)),
            Waited::Refused => Some(Verdict::Own(NOT_READY_IN_TIME)),
            Waited::ClientGone => Some(Verdict::Dropped { status: 0, bytes: 0 }),
        })
    }
}

/// What a wait for a slot has come to.
enum Queued {
    Claim(Claim),
    /// As things are now it has to be seen anew what there is.
    Again,
    Over(Verdict),
}

/// Counts among those that wait for a slot.
struct Counted(Rc<ReleaseStats>);

impl Counted {
    fn new(stats: &Rc<ReleaseStats>) -> Self {
        count(&stats.waiting);
        Self(stats.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        uncount(&self.0.waiting);
    }
}

const FULL: Answer = Answer::new(503, "every instance of the service has as many requests as it may have");

impl Wait {
    /// Waits for a slot of an endpoint, at most as long as the service says, whatever became of it in between.
    async fn for_slot(
        &mut self,
        client: &mut Client<'_>,
        request: &mut Request,
        tried: &mut Tried,
    ) -> Queued {
        let worker = client.worker;
        let Some(waiting) = &request.service.balance.gate else { return Queued::Again };
        let Some(slots) = wanted(worker, &request.service, &request.visitor, tried) else {
            return Queued::Again;
        };
        // Its place among those let go would keep others waiting meanwhile.
        self.held = None;
        let since = *self.queued_since.get_or_insert(worker.clock.now());
        let deadline = since + waiting.timeout;
        let Ok(place) = waiting.gate.try_join(request.started, slots) else {
            return Queued::Over(Verdict::Own(FULL));
        };
        let _waiting = Counted::new(&request.service.unplaced);
        let mut look = || {
            request.renew(worker, tried);
            wanted(worker, &request.service, &request.visitor, tried)
        };
        match queue::wait(client, place, deadline, &mut look).await {
            Passed::Slot(slot) => {
                request.renew(worker, tried);
                claim_slot(worker, &request.service, tried, slot).map_or(Queued::Again, Queued::Claim)
            }
            Passed::Again => Queued::Again,
            Passed::Refused if client.slot.is_over_limit(worker.clock.now()) => {
                Queued::Over(Verdict::Own(TOO_LONG))
            }
            Passed::Refused => Queued::Over(Verdict::Own(FULL)),
            Passed::ClientGone => Queued::Over(Verdict::Dropped { status: 0, bytes: 0 }),
        }
    }
}

async fn try_all(
    client: &mut Client<'_>,
    request: &mut Request,
    upload: &mut Upload,
    wait: &mut Wait,
) -> (Verdict, Option<Rc<Endpoint>>, u32) {
    let worker = client.worker;
    let (mut tried, mut retries) = (Tried::default(), 0);
    let mut last: Option<(Answer, Rc<Endpoint>)> = None;
    loop {
        if last.is_some() || wait.held.is_some() || wait.queued_since.is_some() {
            request.renew(worker, &mut tried);
        }
        let claim = match claim(worker, &request.service, &request.visitor, &mut tried) {
            Claimed::Claim(claim) => claim,
            Claimed::Full => match Box::pin(wait.for_slot(client, request, &mut tried)).await {
                Queued::Claim(claim) => claim,
                Queued::Again => continue,
                Queued::Over(verdict) => return (verdict, last.map(|(_, endpoint)| endpoint), retries),
            },
            Claimed::Nobody => {
                match wait.for_endpoint(client, request).await {
                    Some(None) => {
                        // Whoever serves now is another process, also where it has an old one's place.
                        tried = Tried::default();
                        continue;
                    }
                    Some(Some(verdict)) => return (verdict, last.map(|(_, endpoint)| endpoint), retries),
                    None => {}
                }
                let (answer, endpoint) = last.unzip();
                let answer = answer.unwrap_or(NOT_READY);
                return (Verdict::Own(answer), endpoint, retries);
            }
        };
        if let Some((_, failed)) = &last {
            retries += 1;
            count(&failed.stats.retried);
            failed.series.retried(1);
        }
        upload.rewind();
        let endpoint = claim.endpoint().clone();
        let has_more = retries + 1 < request.service.balance.retry.attempts;
        let before = Before { tried: &tried, has_more, held: wait.held.as_ref() };
        let failure = match attempt(client, request, upload, claim, before).await {
            Ok(verdict) => return (verdict, Some(endpoint), retries),
            Err(failure) => failure,
        };
        wait.held = None;
        let may_retry = failure.may_retry
            && upload.is_intact()
            && has_more
            && !client.slot.is_over_limit(worker.clock.now());
        let budget = &request.service.balance.retry.budget;
        if !may_retry || !(failure.is_paid || budget.borrow_mut().try_take(worker.clock.now())) {
            return (Verdict::Own(failure.answer), Some(endpoint), retries);
        }
        if failure.leaves_endpoint {
            tried.add(endpoint.clone());
        }
        last = Some((failure.answer, endpoint));
    }
}

/// What came before an attempt.
struct Before<'a> {
    tried: &'a Tried,
    /// There may be another one after it.
    has_more: bool,
    held: Option<&'a Held>,
}

impl Before<'_> {
    /// What decides about the answer of the attempt that has this claim.
    fn policy<'a>(&self, request: &'a Request, claim: &Claim) -> Policy<'a> {
        let balance = &request.service.balance;
        let retry = &balance.retry;
        let may_retry = !retry.statuses.is_empty()
            && self.has_more
            && request.may_repeat()
            && has_other(&request.service, self.tried, claim.endpoint());
        Policy {
            believes_draining: claim.endpoint().is_supervised(),
            retried: may_retry.then_some((&*retry.statuses, &retry.budget)),
            cookie: balance
                .sticky
                .as_ref()
                .and_then(|sticky| sticky.cookie(&request.visitor, claim.release())),
        }
    }
}

async fn attempt(
    client: &mut Client<'_>,
    request: &mut Request,
    upload: &mut Upload,
    claim: Claim,
    before: Before<'_>,
) -> Result<Verdict, Failure> {
    let worker = client.worker;
    let endpoint = claim.endpoint().clone();
    let now = worker.clock.now();
    let pooled = endpoint.take_pooled(now, request.service.idle_reuse);
    let is_reused = pooled.is_some();
    let mut instance = match pooled {
        Some(stream) => stream,
        None => connect(client, request, &claim).await?,
    };
    if let Some(held) = before.held {
        held.handle_connected();
    }
    let waited = u64::try_from(worker.clock.now().since(request.started).as_micros()).unwrap_or(u64::MAX);
    endpoint.stats.wait_us_max.set(endpoint.stats.wait_us_max.get().max(waited));

    let ends = Ends {
        worker,
        slot: client.slot,
        listener: client.listener,
        client: client.stream,
        input: client.input,
        answer: client.answer,
        upload,
        instance: &mut instance,
        policy: before.policy(request, &claim),
    };
    let mut exchange = Exchange::new(ends, request.terms);
    let ended = exchange.run().await;
    let is_reusable = exchange.is_instance_reusable();
    let Exchange { download, pipe, response, answered_at, body_bytes, terms, .. } = exchange;
    request.first_byte = answered_at.map(|at| at.since(now));
    if let Some(time) = request.first_byte {
        endpoint.series.observe_first_byte(micros(time));
    }
    // A client that was asked for the body is not asked again.
    request.terms.owes_continue = terms.owes_continue;
    if ended == Ended::Switched {
        let idle_timeout = request.service.tunnel_idle_timeout;
        note(true, request, &claim, worker.clock.now());
        // Boxed: a request that stays one carries nothing of this.
        let passed = Box::pin(go_on(client, upload, claim, (instance, download), idle_timeout)).await;
        return Ok(Verdict::Tunnelled(passed));
    }
    worker.buffers.give_back(download);
    if let Some(pipe) = pipe {
        worker.buffers.give_back_pipe(pipe);
    }
    let status = response.as_ref().map_or(0, |response| response.status);
    if let Some(is_success) = outcome(ended, status, is_reused) {
        note(is_success, request, &claim, worker.clock.now());
    }
    match (ended, response) {
        (Ended::Complete, Some(response)) => {
            if is_reusable {
                // A margin for the way: what the instance counts from started earlier than what we count from.
                let asked = response.reuse_for.map_or(request.service.idle_reuse, |time| time * 3 / 4);
                endpoint.pool(instance, worker.clock.now(), asked);
            }
            // The answer was read to its end: the instance is done with it, however slow the client is.
            drop(claim);
            let keep_alive = response.keep_alive && upload.has_ended();
            Ok(Verdict::Answered { status, bytes: body_bytes, keep_alive })
        }
        (ended, response) => {
            if response.is_some_and(|response| response.ends_with_connection()) {
                // An orderly end would make what came look like all of it; nothing more can be done if this fails.
                let _ = client.stream.set_zero_linger();
            }
            let dropped = Verdict::Dropped { status, bytes: body_bytes };
            judge(ended, request, &endpoint, is_reused, worker.clock.now(), dropped)
        }
    }
}

/// What comes behind a 101. The claim lives as long as that.
async fn go_on(
    client: &mut Client<'_>,
    upload: &mut Upload,
    claim: Claim,
    (instance, download): (Stream, Buffer),
    idle_timeout: Duration,
) -> tunnel::Passed {
    count(&claim.endpoint().stats.requests);
    client.worker.buffers.give_back_output(upload.take_bytes());
    let ends = tunnel::Ends {
        worker: client.worker,
        tunnels: &client.listener.stats.tunnels,
        slot: client.slot,
        client: client.stream,
        input: std::mem::take(client.input),
        answer: client.answer,
        instance,
        download,
        idle_timeout,
    };
    tunnel::run(ends).await
}

fn judge(
    ended: Ended,
    request: &mut Request,
    endpoint: &Endpoint,
    is_reused: bool,
    now: Instant,
    dropped: Verdict,
) -> Result<Verdict, Failure> {
    if is_reused && matches!(ended, Ended::NotSent | Ended::Lost { .. }) {
        // Its neighbours in the pool are likely to have ended with it.
        endpoint.close_pool();
    }
    let fail = |answer, may_retry, leaves_endpoint| Err(Failure::new(answer, may_retry, leaves_endpoint));
    match ended {
        Ended::NotSent => fail(LOST, true, !is_reused),
        Ended::Lost { in_answer: false } if request.may_repeat() => fail(LOST, true, !is_reused),
        Ended::Lost { in_answer } => {
            if is_reused && !in_answer {
                count(&endpoint.stats.lost_on_reuse);
                endpoint.series.failed();
                request.is_failed = true;
            }
            fail(LOST, false, true)
        }
        Ended::Late => fail(Answer::new(504, "the instance did not answer in time"), false, true),
        Ended::Bad(why) => {
            tracing::warn!(instance = endpoint.instance, why, "a response was not passed on");
            fail(Answer::new(502, "the instance's response is not acceptable"), false, true)
        }
        Ended::Draining => {
            endpoint.handle_draining(now);
            fail(Answer::new(503, "the instance is draining"), true, true)
        }
        Ended::Unwanted(status) => {
            // Answered only where whoever else there was is gone meanwhile.
            let answer = Answer::new(status, "the instance answered so, and there is nobody else");
            Err(Failure { is_paid: true, ..Failure::new(answer, true, true) })
        }
        Ended::Refused(answer) => fail(answer, false, true),
        Ended::Truncated => {
            count(&endpoint.stats.failed);
            endpoint.series.failed();
            request.is_failed = true;
            Ok(dropped)
        }
        Ended::Complete | Ended::Switched | Ended::ClientGone | Ended::Cut => Ok(dropped),
    }
}

/// What an attempt says about its endpoint, if anything: whether it did well.
fn outcome(ended: Ended, status: u16, is_reused: bool) -> Option<bool> {
    match ended {
        Ended::Complete => Some(status < 500),
        Ended::Unwanted(status) => Some(status < 500),
        // Of that connection, not of the endpoint.
        Ended::NotSent | Ended::Lost { in_answer: false } if is_reused => None,
        Ended::NotSent | Ended::Lost { .. } | Ended::Late | Ended::Bad(_) | Ended::Truncated => Some(false),
        Ended::Switched => Some(true),
        Ended::Draining | Ended::ClientGone | Ended::Refused(_) | Ended::Cut => None,
    }
}

fn note(is_success: bool, request: &Request, claim: &Claim, now: Instant) {
    let service = &request.service;
    if let (Some(outliers), Some(release)) =
        (&service.balance.outliers, service.releases.get(claim.release()))
    {
        outliers.handle_outcome(is_success, release, claim.endpoint(), now);
    }
}

/// No endpoint serves.
pub(crate) const NOT_READY: Answer = Answer::new(503, "no instance of the service is ready");
/// None did for as long as requests wait.
pub(crate) const NOT_READY_IN_TIME: Answer =
    Answer::new(503, "no instance of the service became ready in time");
/// The limit of the whole request is over.
const TOO_LONG: Answer = Answer::new(504, "the request took longer than its service allows");
const LOST: Answer = Answer::new(502, "the instance closed the connection before it answered");

/// A connection to that address.
pub(crate) async fn open(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Tcp(address) => Stream::connect(*address).await,
        Address::Unix(path) => Stream::connect_local(Path::new(path)).await,
    }
}

/// A fresh connection to the endpoint.
async fn connect(client: &Client<'_>, request: &Request, claim: &Claim) -> Result<Stream, Failure> {
    let (worker, endpoint) = (client.worker, claim.endpoint());
    client.slot.arm(worker.clock.now() + request.service.connect_timeout);
    let mut connecting = pin!(open(&endpoint.address));
    let result = poll_fn(|cx| {
        if client.slot.has_fired(cx) || worker.is_cut() {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)));
        }
        connecting.as_mut().poll(cx)
    });
    let result = result.await;
    let now = worker.clock.refresh();
    match result {
        Ok(stream) => {
            endpoint.handle_connected();
            Ok(stream)
        }
        Err(error) if is_shortage(&error) => {
            worker.shed();
            tracing::warn!(instance = endpoint.instance, %error, "no connection could be opened");
            let answer = Answer::new(503, "too many connections");
            Err(Failure::new(answer, true, false))
        }
        // It is not the instance's fault that others took the time.
        Err(_) if client.slot.is_over_limit(now) => Err(Failure::new(TOO_LONG, false, false)),
        Err(error) => {
            endpoint.handle_connect_failure(now);
            note(false, request, claim, now);
            let answer = if error.kind() == io::ErrorKind::TimedOut {
                Answer::new(504, "the instance did not accept a connection in time")
            } else {
                Answer::new(502, "the instance does not accept connections")
            };
            Err(Failure::new(answer, true, true))
        }
    }
}
