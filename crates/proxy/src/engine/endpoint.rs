//! One address of one instance, as one thread sees it: requests in flight, pooled connections, ejection.
//!
//! ```text
//!            table says serving                     table says anything else, or nothing
//!  resting ─────────────────────► serving ───────────────────────────────────────► resting
//!                                  │  ▲ claims; connections are pooled               │ pool is closed at once;
//!                                  └──┘                                              │ the last claim to go says so
//! ```
//! Choosing is not done here. A pooled connection is used again only if it idled for less than the shortest
//! of: what the service's settings say, what the instance said, and half of the time after which the instance
//! was seen to close one by itself.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use host::upstream::Stream;
use model::balance::{Ejection, OutlierRules, Record, hash_bytes, hash_pair};
use model::time::Instant;
use wire::routes::{Address, Endpoint as Listed, EndpointState};

use crate::engine::access_log::field;
use crate::engine::series::Series;
use crate::engine::stats::{ReleaseStats, count};

/// Most pooled connections per endpoint and thread; the oldest goes first.
const POOL_CONNECTIONS_MAX: usize = 512;
/// An observed close counts for this long; then twice as long an idle time is tried.
const OBSERVED_FOR: Duration = Duration::from_secs(60);
/// A close sooner than this after an answer is a habit of closing: nothing is reused then.
const RUDE_CLOSE: Duration = Duration::from_millis(150);

#[derive(Debug)]
struct Idle {
    stream: Stream,
    since: Instant,
    reuse_for: Duration,
}

/// After which idle time the instance was seen to close, and when that was.
#[derive(Debug, Clone, Copy)]
struct ObservedClose {
    reuse_for: Duration,
    at: Instant,
}

/// One address of one instance.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Instance id.
    pub(crate) instance: String,
    /// Where it listens.
    pub(crate) address: Address,
    /// Counters of its release.
    pub(crate) stats: Rc<ReleaseStats>,
    /// Its own counters.
    pub(crate) series: Rc<Series>,
    /// Service, release and instance as the access log shows them.
    pub(crate) log_fields: String,
    /// What it answered lately, where that can eject it.
    pub(crate) record: Cell<Record>,
    serving: Cell<bool>,
    /// Since when, unless that was before this proxy knew of it.
    serving_since: Cell<Option<Instant>>,
    supervised: Cell<bool>,
    in_flight: Cell<u32>,
    ejection: Cell<Ejection>,
    /// Until when it is out, by either kind of ejection.
    out_until: Cell<Instant>,
    identity: Cell<u64>,
    slot: u64,
    observed: Cell<Option<ObservedClose>>,
    pool: RefCell<VecDeque<Idle>>,
}

impl Endpoint {
    /// An endpoint that gets nothing yet.
    pub(crate) fn new(instance: &str, address: Address, stats: Rc<ReleaseStats>, series: Rc<Series>) -> Self {
        let log_fields = [("service", &*stats.service), ("release", &*stats.release), ("instance", instance)]
            .map(|(name, value)| field(name, value))
            .join(",");
        Self {
            instance: instance.to_owned(),
            slot: hash_pair(instance, &address.to_string()),
            address,
            stats,
            series,
            log_fields,
            record: Cell::default(),
            serving: Cell::new(false),
            serving_since: Cell::new(None),
            supervised: Cell::new(false),
            in_flight: Cell::new(0),
            ejection: Cell::default(),
            out_until: Cell::default(),
            identity: Cell::new(hash_bytes(instance.as_bytes())),
            observed: Cell::new(None),
            pool: RefCell::default(),
        }
    }

    /// Whether the current table lets it take requests.
    pub(crate) fn is_serving(&self) -> bool {
        self.serving.get()
    }

    /// What the current table says. Leaving closes the pool before anybody is told; coming back starts fresh,
    /// for there may be a new process behind the address.
    pub(crate) fn set_serving(&self, serving: bool) {
        if self.serving.replace(serving) == serving {
            return;
        }
        self.close_pool();
        self.ejection.take();
        self.record.take();
        self.out_until.take();
        self.serving_since.take();
        self.observed.take();
    }

    /// What the table that begins to count at `now` says of it; `None`: before the first, when who serves did so
    /// already.
    pub(crate) fn follow(&self, listed: &Listed, now: Option<Instant>) {
        let is_new = !self.is_serving();
        self.set_serving(listed.state == EndpointState::Serving);
        if is_new && self.is_serving() {
            self.serving_since.set(now);
        }
        self.supervised.set(listed.supervised);
        // A slot of ours keeps its keys wherever it listens; others may have several addresses.
        let ours = hash_bytes(self.instance.as_bytes());
        self.identity.set(if listed.supervised { ours } else { self.slot });
    }

    /// Since when it serves, unless that was before this proxy knew of it.
    pub(crate) fn serving_since(&self) -> Option<Instant> {
        self.serving_since.get()
    }

    /// Whether what it says about itself is believed.
    pub(crate) fn is_supervised(&self) -> bool {
        self.supervised.get()
    }

    /// What keys are hashed against: the same in every proxy.
    pub(crate) fn identity(&self) -> u64 {
        self.identity.get()
    }

    /// What its slots are known by: instance and address.
    pub(crate) fn slot(&self) -> u64 {
        self.slot
    }

    /// Requests in flight on this thread.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Counts a request in; `Claim` counts it out.
    pub(crate) fn enter(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.stats.in_flight.set(self.stats.in_flight.get() + 1);
    }

    /// Counts a request out; true when it was the last one of an endpoint that takes no more.
    pub(crate) fn leave(&self) -> bool {
        self.in_flight.set(self.in_flight.get() - 1);
        self.stats.in_flight.set(self.stats.in_flight.get() - 1);
        self.in_flight.get() == 0 && !self.serving.get()
    }

    /// Whether it serves and is not ejected.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        self.serving.get() && now >= self.out_until.get()
    }

    /// No connection could be made to it.
    pub(crate) fn handle_connect_failure(&self, now: Instant) {
        if self.is_open(now) {
            self.eject(now);
            count(&self.stats.ejected);
            let seconds = self.out_until.get().since(now).as_secs();
            tracing::warn!(
                instance = self.instance,
                seconds,
                "an endpoint is ejected: no connection was made"
            );
        }
        self.close_pool();
    }

    /// It is out for what it answered; for how long.
    pub(crate) fn eject_for_answers(&self, rules: &OutlierRules, now: Instant) -> Duration {
        let mut record = self.record.get();
        let until = record.eject(rules, now);
        self.record.set(record);
        self.settle(self.ejection.get());
        count(&self.stats.ejected);
        until.since(now)
    }

    /// It said that it takes no more: the next table will say so too, until then others are asked first.
    pub(crate) fn handle_draining(&self, now: Instant) {
        self.eject(now);
    }

    fn eject(&self, now: Instant) {
        let mut ejection = self.ejection.get();
        ejection.handle_failure(now);
        self.settle(ejection);
    }

    fn settle(&self, ejection: Ejection) {
        self.ejection.set(ejection);
        let until = ejection.until().max(self.record.get().until());
        self.out_until.set(until.unwrap_or(Instant::START));
    }

    /// A connection was made to it.
    pub(crate) fn handle_connected(&self) {
        self.settle(Ejection::default());
    }

    /// The youngest pooled connection that can be used again.
    pub(crate) fn take_pooled(&self, now: Instant, idle_reuse: Duration) -> Option<Stream> {
        let mut pool = self.pool.borrow_mut();
        while let Some(idle) = pool.pop_back() {
            let idled = now.since(idle.since);
            if idled >= self.reuse_limit(now, idle.reuse_for.min(idle_reuse)) {
                // The others idled for longer.
                pool.clear();
                return None;
            }
            match idle.stream.try_read(&mut [0; 1]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(idle.stream),
                Ok(0) => self.observe_close(now, idled),
                // Data nobody asked for, or a failure: not usable.
                Ok(_) | Err(_) => {}
            }
        }
        None
    }

    /// Keeps a connection whose last answer was read to its end.
    pub(crate) fn pool(&self, stream: Stream, now: Instant, reuse_for: Duration) {
        if !self.serving.get() || reuse_for.is_zero() {
            return;
        }
        let mut pool = self.pool.borrow_mut();
        if pool.len() == POOL_CONNECTIONS_MAX {
            pool.pop_front();
        }
        pool.push_back(Idle { stream, since: now, reuse_for });
    }

    /// Closes every pooled connection; how many there were.
    pub(crate) fn close_pool(&self) -> usize {
        self.pool.take().len()
    }

    /// Closes pooled connections that are too old, and notes those the instance closed.
    pub(crate) fn sweep_pool(&self, now: Instant, idle_reuse: Duration) {
        self.pool.borrow_mut().retain(|idle| {
            let idled = now.since(idle.since);
            if idled >= self.reuse_limit(now, idle.reuse_for.min(idle_reuse)) {
                return false;
            }
            match idle.stream.try_read(&mut [0; 1]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => true,
                Ok(0) => {
                    self.observe_close(now, idled);
                    false
                }
                Ok(_) | Err(_) => false,
            }
        });
    }

    fn observe_close(&self, now: Instant, idled: Duration) {
        let reuse_for = if idled < RUDE_CLOSE { Duration::ZERO } else { idled / 2 };
        let known = self.observed.get().map_or(reuse_for, |observed| observed.reuse_for.min(reuse_for));
        self.observed.set(Some(ObservedClose { reuse_for: known, at: now }));
    }

    fn reuse_limit(&self, now: Instant, asked: Duration) -> Duration {
        let Some(observed) = self.observed.get() else { return asked };
        if now.since(observed.at) < OBSERVED_FOR {
            return asked.min(observed.reuse_for);
        }
        let longer = (observed.reuse_for * 2).max(RUDE_CLOSE);
        self.observed.set((longer < asked).then_some(ObservedClose { reuse_for: longer, at: now }));
        asked.min(longer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::labels::instance_name;
    use crate::engine::series::AllSeries;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    const REUSE: Duration = Duration::from_secs(2);

    async fn endpoint() -> (Endpoint, tokio::net::TcpListener) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stats = Rc::new(ReleaseStats::new("web", "1"));
        let series = AllSeries::default().of(instance_name("web", "1", "web@1/0"));
        let endpoint = Endpoint::new("web@1/0", listener.local_addr().unwrap().into(), stats, series);
        endpoint.set_serving(true);
        (endpoint, listener)
    }

    async fn connect(listener: &tokio::net::TcpListener) -> (Stream, tokio::net::TcpStream) {
        let stream = Stream::connect(listener.local_addr().unwrap()).await.unwrap();
        (stream, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn the_youngest_connection_is_reused_while_it_is_young_enough() {
        let (endpoint, listener) = endpoint().await;
        let (older, _a) = connect(&listener).await;
        let (younger, mut b) = connect(&listener).await;
        endpoint.pool(older, at(0), REUSE);
        endpoint.pool(younger, at(500), REUSE);
        let mut taken = endpoint.take_pooled(at(1_000), REUSE).unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut taken, b"y").await.unwrap();
        assert_eq!(tokio::io::AsyncReadExt::read_u8(&mut b).await.unwrap(), b'y');
        assert!(endpoint.take_pooled(at(2_000), REUSE).is_none());
    }

    #[tokio::test]
    async fn a_connection_with_data_or_end_pending_is_not_reused_and_a_close_shortens_the_next() {
        let (endpoint, listener) = endpoint().await;
        let (stream, other) = connect(&listener).await;
        drop(other);
        std::future::poll_fn(|cx| stream.poll_read_ready(cx)).await.unwrap();
        endpoint.pool(stream, at(0), REUSE);
        assert!(endpoint.take_pooled(at(1_000), REUSE).is_none());
        let (stream, _other) = connect(&listener).await;
        endpoint.pool(stream, at(1_000), REUSE);
        assert!(endpoint.take_pooled(at(1_500), REUSE).is_none(), "half of the observed second is over");
        let (stream, _other) = connect(&listener).await;
        endpoint.pool(stream, at(90_000), REUSE);
        assert!(endpoint.take_pooled(at(90_900), REUSE).is_some(), "an old observation counts less");
    }

    #[tokio::test]
    async fn leaving_closes_the_pool_and_keeps_it_closed() {
        let (endpoint, listener) = endpoint().await;
        let (stream, mut other) = connect(&listener).await;
        endpoint.pool(stream, at(0), REUSE);
        endpoint.set_serving(false);
        assert_eq!(tokio::io::AsyncReadExt::read(&mut other, &mut [0; 1]).await.unwrap(), 0);
        let (stream, _other) = connect(&listener).await;
        endpoint.pool(stream, at(0), REUSE);
        assert!(endpoint.take_pooled(at(0), REUSE).is_none());
    }

    #[tokio::test]
    async fn the_last_to_leave_a_resting_endpoint_is_told() {
        let (endpoint, _listener) = endpoint().await;
        endpoint.enter();
        endpoint.enter();
        assert!(!endpoint.leave());
        endpoint.set_serving(false);
        assert!(endpoint.leave());
        assert_eq!(endpoint.stats.in_flight.get(), 0);
    }
}
