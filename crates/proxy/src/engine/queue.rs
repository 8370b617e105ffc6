//! Requests that wait for a slot of an endpoint, where endpoints have a maximum of requests at once.
//!
//! ```text
//!  every endpoint full ──► waiting ──a slot is given to it──► attempt ──over──► the slot goes to who waits longest
//!                           │  ▲                                 │
//!                           │  └────── the endpoint is gone ─────┘
//!                           └── queue full, timeout, drain's deadline: 503; the client left: nothing
//! ```
//! The maximum is exact over all threads of a proxy, so this is the one thing that threads share on the way of a
//! request, and only for services that ask for it. Who waits looks at the newest table whenever it is woken: with each
//! swap, and with each sweep, for ejections end without a word. An endpoint is known by instance and address.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use model::balance::{QueueFull, SlotId, SlotQueue, Ticket};
use model::time::Instant;

use crate::engine::forward::Client;
use crate::engine::patience::{Mood, Patience};

/// The gates of all services that have one.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<BTreeMap<String, Weak<Gate>>>);

impl Gates {
    /// The gate of that service. Asked for at a swap, not by requests.
    pub(crate) fn of(&self, service: &str) -> Arc<Gate> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(service).and_then(Weak::upgrade) {
            return known;
        }
        all.retain(|_, gate| gate.strong_count() > 0);
        let new = Arc::new(Gate::default());
        all.insert(service.to_owned(), Arc::downgrade(&new));
        new
    }
}

/// The slots of one service, and who waits for them.
#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    queue: SlotQueue,
    /// Whom to wake, and on which thread it waits.
    sleepers: BTreeMap<Ticket, (usize, Waker)>,
    generation: u64,
}

impl State {
    fn wakers_of(&mut self, tickets: impl IntoIterator<Item = Ticket>) -> Vec<Waker> {
        tickets
            .into_iter()
            .filter_map(|ticket| self.sleepers.remove(&ticket))
            .map(|(_, waker)| waker)
            .collect()
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and wakes whom that gave a slot once nothing is locked.
    fn change(&self, change: impl FnOnce(&mut SlotQueue) -> Option<Ticket>) {
        let waker = {
            let mut state = self.lock();
            let ticket = change(&mut state.queue);
            ticket.and_then(|ticket| state.sleepers.remove(&ticket))
        };
        if let Some((_, waker)) = waker {
            waker.wake();
        }
    }

    /// The limits of the table of that generation; those of a newer one stay.
    pub(crate) fn set_limits(&self, generation: u64, requests_max: u32, queue_max: usize) {
        let wakers = {
            let mut state = self.lock();
            if generation < state.generation {
                return;
            }
            state.generation = generation;
            let tickets = state.queue.set_limits(requests_max, queue_max);
            state.wakers_of(tickets)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Who waits on that thread is to look again.
    pub(crate) fn wake_thread(&self, thread: usize) {
        let state = self.lock();
        let of_thread = state.sleepers.values().filter(|(one, _)| *one == thread);
        let wakers: Vec<Waker> = of_thread.map(|(_, waker)| waker.clone()).collect();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Lets `choose` choose among the endpoints that have a slot free, and takes the slot of that one.
    pub(crate) fn try_take<T>(
        self: &Arc<Self>,
        choose: impl FnOnce(&dyn Fn(SlotId) -> bool) -> Result<(T, SlotId), T>,
    ) -> (T, Option<HeldSlot>) {
        let mut state = self.lock();
        match choose(&|slot| state.queue.is_free(slot)) {
            Ok((chosen, slot)) => {
                let taken = state.queue.try_take(slot);
                (chosen, taken.then(|| HeldSlot { gate: self.clone(), slot }))
            }
            Err(none) => (none, None),
        }
    }

    /// Waits for any of the `wanted`, in the turn of who came at `since`.
    ///
    /// # Errors
    /// When too many wait already.
    pub(crate) fn try_join(
        self: &Arc<Self>,
        since: Instant,
        wanted: Vec<SlotId>,
    ) -> Result<Place, QueueFull> {
        let ticket = self.lock().queue.try_join(since, wanted)?;
        Ok(Place { gate: self.clone(), ticket })
    }
}

/// A slot in use; dropping it gives it to who waits longest.
#[derive(Debug)]
pub(crate) struct HeldSlot {
    gate: Arc<Gate>,
    slot: SlotId,
}

impl HeldSlot {
    /// Whose it is.
    pub(crate) fn id(&self) -> SlotId {
        self.slot
    }
}

impl Drop for HeldSlot {
    fn drop(&mut self) {
        self.gate.change(|queue| queue.give_back(self.slot));
    }
}

/// A place in the queue; dropping it leaves the queue, and a slot that was given meanwhile to the next.
#[derive(Debug)]
pub(crate) struct Place {
    gate: Arc<Gate>,
    ticket: Ticket,
}

impl Place {
    /// The slot that was given, or else: waits for any of `wanted` from now on.
    fn look(&self, wanted: &[SlotId], thread: usize, waker: &Waker) -> Option<HeldSlot> {
        let mut state = self.gate.lock();
        state.queue.want(self.ticket, wanted);
        match state.queue.take_granted(self.ticket) {
            Some(slot) => {
                state.sleepers.remove(&self.ticket);
                Some(HeldSlot { gate: self.gate.clone(), slot })
            }
            None => {
                state.sleepers.insert(self.ticket, (thread, waker.clone()));
                None
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gate.lock().sleepers.remove(&self.ticket);
        self.gate.change(|queue| queue.leave(self.ticket));
    }
}

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum Passed {
    /// With a slot.
    Slot(HeldSlot),
    /// There is nothing to wait for as things are now: they are to be looked at again.
    Again,
    /// It took too long, or the drain is over.
    Refused,
    /// Nobody waits for an answer any more.
    ClientGone,
}

/// Waits until `deadline`; `wanted` says what for, as of the newest table, if for anything.
pub(crate) async fn wait(
    client: &mut Client<'_>,
    place: Place,
    deadline: Instant,
    mut wanted: impl FnMut() -> Option<Vec<SlotId>>,
) -> Passed {
    let mut patience = Patience::until(client, deadline);
    let passed = poll_fn(|cx| {
        let mood = patience.look(client, cx);
        if mood == Mood::Cut {
            return Poll::Ready(Passed::Refused);
        }
        // A slot that is there already goes before a deadline that is just over.
        let Some(wanted) = wanted() else { return Poll::Ready(Passed::Again) };
        if let Some(slot) = place.look(&wanted, client.worker.index(), cx.waker()) {
            return Poll::Ready(Passed::Slot(slot));
        }
        if mood == Mood::Late {
            return Poll::Ready(Passed::Refused);
        }
        if patience.watch(client, cx) { Poll::Pending } else { Poll::Ready(Passed::ClientGone) }
    });
    let passed = passed.await;
    client.worker.clock.refresh();
    passed
}
