//! One coarse deadline per connection, looked at ten times a second: no timer is made for a request.
//!
//! ```text
//!  arm(deadline) ──► armed ──sweep past it──► fired ──arm()──► armed
//!                                  └─ the task is woken, and asks has_fired() itself
//! ```
//! A slot also says whether its connection idles, so that idle ones can be given up first.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::Duration;

use model::time::Instant;

/// Between two sweeps; a deadline is late by at most this.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// The deadline of one connection.
#[derive(Debug)]
pub(crate) struct Slot {
    deadline: Cell<Instant>,
    /// No deadline is later than this.
    limit: Cell<Instant>,
    fired: Cell<bool>,
    idle: Cell<bool>,
    given_up: Cell<bool>,
    at: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Slot {
    /// Sets the deadline; an older one no longer counts.
    pub(crate) fn arm(&self, deadline: Instant) {
        self.deadline.set(deadline.min(self.limit.get()));
        self.fired.set(false);
    }

    /// Until the limit is cleared, no deadline is later than this: that of the whole request.
    pub(crate) fn set_limit(&self, limit: Instant) {
        self.limit.set(limit);
    }

    /// Deadlines are as they are set again.
    pub(crate) fn clear_limit(&self) {
        self.limit.set(Instant::NEVER);
    }

    /// Whether the limit is over, rather than some deadline before it.
    pub(crate) fn is_over_limit(&self, now: Instant) -> bool {
        now >= self.limit.get()
    }

    /// Remembers whom to wake; true once the deadline is over.
    pub(crate) fn has_fired(&self, cx: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.fired.get()
    }

    /// Says whether the connection waits for a first byte.
    pub(crate) fn set_idle(&self, idle: bool) {
        self.idle.set(idle);
    }

    /// Whether the connection is to be closed at once because its descriptor is needed.
    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.get()
    }

    fn fire(&self) {
        self.fired.set(true);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }
}

/// The slots of one thread.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    all: RefCell<Vec<Rc<Slot>>>,
}

impl Slots {
    /// A new slot; it goes when the guard goes.
    pub(crate) fn add(self: &Rc<Self>) -> SlotGuard {
        let mut all = self.all.borrow_mut();
        let slot = Rc::new(Slot {
            deadline: Cell::new(Instant::NEVER),
            limit: Cell::new(Instant::NEVER),
            fired: Cell::new(false),
            idle: Cell::new(false),
            given_up: Cell::new(false),
            at: Cell::new(all.len()),
            waker: RefCell::new(None),
        });
        all.push(slot.clone());
        SlotGuard { slot, slots: self.clone() }
    }

    /// How many connections there are.
    pub(crate) fn len(&self) -> usize {
        self.all.borrow().len()
    }

    /// Wakes everyone whose deadline is over.
    pub(crate) fn sweep(&self, now: Instant) {
        for slot in &*self.all.borrow() {
            if now >= slot.deadline.get() && !slot.fired.get() {
                slot.fire();
            }
        }
    }

    /// Wakes everyone, as if every deadline were over.
    pub(crate) fn fire_all(&self) {
        self.all.borrow().iter().for_each(|slot| slot.fire());
    }

    /// Gives up to `count` idle connections up; how many there were.
    pub(crate) fn give_up_idle(&self, count: usize) -> usize {
        let all = self.all.borrow();
        let idle = all.iter().filter(|slot| slot.idle.get() && !slot.given_up.get()).take(count);
        idle.map(|slot| {
            slot.given_up.set(true);
            slot.fire();
        })
        .count()
    }
}

/// A slot of a living connection.
#[derive(Debug)]
pub(crate) struct SlotGuard {
    slot: Rc<Slot>,
    slots: Rc<Slots>,
}

impl std::ops::Deref for SlotGuard {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        let mut all = self.slots.all.borrow_mut();
        let at = self.slot.at.get();
        all.swap_remove(at);
        if let Some(moved) = all.get(at) {
            moved.at.set(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(slot: &Slot) -> bool {
        slot.has_fired(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_slot_fires_once_its_deadline_is_over_and_arming_starts_anew() {
        let at = |ms| Instant::from_start(Duration::from_millis(ms));
        let slots = Rc::new(Slots::default());
        let slot = slots.add();
        slot.arm(at(500));
        slots.sweep(at(499));
        assert!(!fired(&slot));
        slots.sweep(at(500));
        assert!(fired(&slot));
        slot.arm(at(900));
        assert!(!fired(&slot));
    }

    #[test]
    fn no_deadline_is_later_than_the_limit_until_that_is_cleared() {
        let at = |ms| Instant::from_start(Duration::from_millis(ms));
        let slots = Rc::new(Slots::default());
        let slot = slots.add();
        slot.set_limit(at(300));
        slot.arm(at(200));
        slots.sweep(at(250));
        assert!(fired(&slot) && !slot.is_over_limit(at(250)));
        slot.arm(at(900));
        slots.sweep(at(300));
        assert!(fired(&slot) && slot.is_over_limit(at(300)));
        slot.clear_limit();
        slot.arm(at(900));
        slots.sweep(at(899));
        assert!(!fired(&slot) && !slot.is_over_limit(at(899)));
    }

    #[test]
    fn slots_that_go_leave_the_others_in_place() {
        let slots = Rc::new(Slots::default());
        let (a, b, c) = (slots.add(), slots.add(), slots.add());
        drop(a);
        drop(c);
        b.set_idle(true);
        assert_eq!(slots.give_up_idle(5), 1);
        assert_eq!(slots.give_up_idle(5), 0);
        assert!(fired(&b) && b.is_given_up());
        drop(b);
        assert_eq!(slots.len(), 0);
    }
}
