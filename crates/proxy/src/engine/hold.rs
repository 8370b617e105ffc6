//! Requests that wait because no endpoint of their service serves for a moment.
//!
//! ```text
//!  no endpoint ──► waiting ──a table with an endpoint, and its turn──► going ──answered, or a moment later──► over
//!                     │ ▲                                               │
//!                     │ └──────────── nobody serves again ──────────────┘
//!                     └── timeout, drain's deadline: 503; the client left: nothing
//! ```
//! Each thread wakes its own in the order in which they came, and only so many at a time: the next goes when one
//! before it is answered, or has had its connection for a while. Only who waits is counted, by one number per service that the threads share; a
//! request that finds an endpoint at once sees nothing of this. The body is not asked for meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use model::time::Instant;
use wire::routes::Hold;

use crate::engine::forward::Client;
use crate::engine::patience::{Mood, Patience};
use crate::engine::worker::Worker;

/// Requests of one service and thread that were let go at once: what a small accept queue takes. A slow instance is
/// asked for that many more with each sweep.
const GOING_MAX: usize = 32;

/// How many requests of each service wait, over all threads.
#[derive(Debug, Default)]
pub(crate) struct HeldCounts(Mutex<BTreeMap<String, Weak<AtomicU32>>>);

impl HeldCounts {
    /// The number of that service. Asked for at a swap, not by requests.
    pub(crate) fn of(&self, service: &str) -> Arc<AtomicU32> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(service).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, count| count.strong_count() > 0);
        let new = Arc::new(AtomicU32::new(0));
        all.insert(service.to_owned(), Arc::downgrade(&new));
        new
    }
}

/// How requests of a service wait.
#[derive(Debug, Clone)]
pub(crate) struct HoldTerms {
    timeout: Duration,
    requests_max: u32,
    held: Arc<AtomicU32>,
}

impl HoldTerms {
    /// As the table says.
    pub(crate) fn new(hold: Hold, service: &str, counts: &HeldCounts) -> Self {
        let timeout = Duration::from_millis(hold.timeout_ms);
        Self { timeout, requests_max: hold.requests_max, held: counts.of(service) }
    }
}

/// One of those counted.
#[derive(Debug)]
struct Counted(Arc<AtomicU32>);

impl Counted {
    fn try_new(terms: &HoldTerms) -> Option<Self> {
        // Counted first, so that nobody fits in between; given back at once when that was too many.
        let counted = Self(terms.held.clone());
        (counted.0.fetch_add(1, Ordering::Relaxed) < terms.requests_max).then_some(counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Those that wait on one thread, by service.
#[derive(Debug, Default)]
pub(crate) struct Holds(RefCell<BTreeMap<String, Queue>>);

#[derive(Debug, Default)]
struct Queue {
    /// The oldest first.
    waiting: VecDeque<Rc<Waiter>>,
    going: Vec<Rc<Waiter>>,
    /// There is something to wait for no more: an endpoint, or no hold.
    open: bool,
}

#[derive(Debug)]
struct Waiter {
    since: Instant,
    may_go: Cell<bool>,
    is_connected: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Waiter {
    fn new(since: Instant) -> Rc<Self> {
        let (may_go, is_connected) = (Cell::new(false), Cell::new(false));
        Rc::new(Self { since, may_go, is_connected, waker: RefCell::default() })
    }
}

impl Queue {
    fn let_go(&mut self) {
        while self.open && self.going.len() < GOING_MAX {
            let Some(next) = self.waiting.pop_front() else { return };
            next.may_go.set(true);
            if let Some(waker) = next.waker.take() {
                waker.wake();
            }
            self.going.push(next);
        }
    }
}

impl Holds {
    /// There is a new table: `is_open` says of a service whether its requests need not wait.
    pub(crate) fn follow(&self, is_open: impl Fn(&str) -> bool) {
        for (service, queue) in &mut *self.0.borrow_mut() {
            queue.open = is_open(service);
            queue.let_go();
        }
    }

    /// Those that have a connection make room for others, however long their answer takes.
    pub(crate) fn sweep(&self) {
        for queue in self.0.borrow_mut().values_mut() {
            queue.going.retain(|one| !one.is_connected.get());
            queue.let_go();
        }
    }

    fn join(&self, service: &str, waiter: &Rc<Waiter>) {
        let mut all = self.0.borrow_mut();
        let queue = all.entry(service.to_owned()).or_default();
        // Somebody who found nobody serving is here: what an older table said is over.
        queue.open = false;
        let at = queue.waiting.partition_point(|one| one.since <= waiter.since);
        queue.waiting.insert(at, waiter.clone());
    }

    fn leave(&self, service: &str, waiter: &Rc<Waiter>) {
        let mut all = self.0.borrow_mut();
        let Some(queue) = all.get_mut(service) else { return };
        if waiter.may_go.get() {
            queue.going.retain(|one| !Rc::ptr_eq(one, waiter));
            queue.let_go();
        } else {
            queue.waiting.retain(|one| !Rc::ptr_eq(one, waiter));
        }
        if queue.going.is_empty() && queue.waiting.is_empty() {
            all.remove(service);
        }
    }
}

/// A request's place among those that wait, until its next attempt is over.
#[derive(Debug)]
pub(crate) struct Held {
    worker: Rc<Worker>,
    service: String,
    waiter: Rc<Waiter>,
    counted: Option<Counted>,
}

impl Held {
    /// It has a connection.
    pub(crate) fn handle_connected(&self) {
        self.waiter.is_connected.set(true);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.worker.holds.leave(&self.service, &self.waiter);
    }
}

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum Waited {
    /// The newest table is to be looked at.
    Go(Held),
    /// There are too many already, or it took too long, or the drain is over.
    Refused,
    /// Nobody waits for an answer any more.
    ClientGone,
}

/// Waits for a table with an endpoint. `since` is when the request came: its turn and its time count from there.
pub(crate) async fn wait(
    client: &mut Client<'_>,
    service: &str,
    terms: &HoldTerms,
    since: Instant,
) -> Waited {
    let worker = client.worker;
    let Some(counted) = Counted::try_new(terms) else { return Waited::Refused };
    let waiter = Waiter::new(since);
    worker.holds.join(service, &waiter);
    let mut held =
        Held { worker: worker.clone(), service: service.to_owned(), waiter, counted: Some(counted) };
    let mut patience = Patience::until(client, since + terms.timeout);
    let ended = poll_fn(|cx| {
        let mood = patience.look(client, cx);
        if mood == Mood::Cut {
            return Poll::Ready(Some(Waited::Refused));
        }
        if held.waiter.may_go.get() {
            return Poll::Ready(None);
        }
        if mood == Mood::Late {
            return Poll::Ready(Some(Waited::Refused));
        }
        held.waiter.waker.replace(Some(cx.waker().clone()));
        if patience.watch(client, cx) { Poll::Pending } else { Poll::Ready(Some(Waited::ClientGone)) }
    });
    let ended = ended.await;
    worker.clock.refresh();
    held.counted = None;
    ended.unwrap_or(Waited::Go(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter(ms: u64) -> Rc<Waiter> {
        Waiter::new(Instant::from_start(Duration::from_millis(ms)))
    }

    fn going(all: &[Rc<Waiter>]) -> Vec<usize> {
        (0..all.len()).filter(|at| all[*at].may_go.get()).collect()
    }

    #[test]
    fn who_came_first_goes_first_and_only_so_many_at_a_time() {
        let holds = Holds::default();
        let all: Vec<_> = (0..100).map(waiter).collect();
        // Also one that has to wait again keeps its turn.
        for one in all.iter().rev() {
            holds.join("web", one);
        }
        holds.follow(|_| false);
        assert_eq!(going(&all), Vec::<usize>::new());
        holds.follow(|_| true);
        assert_eq!(going(&all), (0..GOING_MAX).collect::<Vec<_>>());
        holds.leave("web", &all[3]);
        assert_eq!(going(&all), (0..=GOING_MAX).collect::<Vec<_>>());
        // A slow answer does not keep the others.
        all[5].is_connected.set(true);
        holds.sweep();
        assert_eq!(going(&all), (0..=GOING_MAX + 1).collect::<Vec<_>>());
        // The endpoint is gone again: nobody else goes.
        holds.follow(|_| false);
        holds.leave("web", &all[4]);
        assert_eq!(going(&all), (0..=GOING_MAX + 1).collect::<Vec<_>>());
        all.iter().enumerate().filter(|(at, _)| ![3, 4].contains(at)).for_each(|(_, one)| {
            holds.leave("web", one);
        });
        assert!(holds.0.borrow().is_empty());
    }

    #[test]
    fn the_threads_count_together_and_a_place_comes_back() {
        let counts = HeldCounts::default();
        let terms = || HoldTerms::new(Hold { timeout_ms: 1, requests_max: 2 }, "web", &counts);
        let (one, other) = (terms(), terms());
        let first = Counted::try_new(&one).unwrap();
        let _second = Counted::try_new(&other).unwrap();
        assert!(Counted::try_new(&one).is_none());
        drop(first);
        assert!(Counted::try_new(&other).is_some());
        assert_eq!(one.held.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn wakers_are_called_once_it_may_go() {
        struct Flag(std::sync::atomic::AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let flag = Arc::new(Flag(false.into()));
        let (holds, one) = (Holds::default(), waiter(1));
        one.waker.replace(Some(Waker::from(flag.clone())));
        holds.join("web", &one);
        holds.follow(|service| service == "web");
        assert!(flag.0.load(Ordering::SeqCst) && one.may_go.get());
    }
}
