//! The maximum of requests that an endpoint has at once, and the queue of those that wait for a slot.
//!
//! ```text
//!  join ──► waiting ──one of the wanted slots is free, and nobody before it wants it──► granted ──take──► in use
//!              │ leave                                            leave: to the next ┘             give back: to the next
//! ```
//! A slot that comes free is given to who waits longest for it, there and then, so nobody who comes later can be
//! faster. Hence: a free slot is one that nobody waits for. It holds no time limit and wakes nobody: it says whom.

use std::collections::BTreeMap;

use crate::time::Instant;

/// What an endpoint's slots are known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u64);

/// A place in the queue: by arrival, and by number for those that came at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    since: Instant,
    number: u64,
}

/// Too many wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many requests as may wait do so already")]
pub struct QueueFull;

/// Slots and queue of one service.
#[derive(Debug, Default)]
pub struct SlotQueue {
    /// Most requests of one endpoint.
    requests_max: u32,
    /// Most that wait.
    queue_max: usize,
    in_use: BTreeMap<SlotId, u32>,
    /// What each wants, the oldest first.
    waiting: BTreeMap<Ticket, Vec<SlotId>>,
    granted: BTreeMap<Ticket, SlotId>,
    tickets: u64,
}

impl SlotQueue {
    /// Other limits. Says who goes because of them.
    pub fn set_limits(&mut self, requests_max: u32, queue_max: usize) -> Vec<Ticket> {
        let has_more = requests_max > self.requests_max;
        (self.requests_max, self.queue_max) = (requests_max, queue_max);
        if !has_more {
            return Vec::new();
        }
        let all: Vec<Ticket> = self.waiting.keys().copied().collect();
        all.into_iter().filter(|ticket| self.try_grant(*ticket)).collect()
    }

    /// Whether one more request may go there.
    pub fn is_free(&self, slot: SlotId) -> bool {
        self.in_use.get(&slot).copied().unwrap_or(0) < self.requests_max
    }

    /// Takes a slot, if one is free.
    pub fn try_take(&mut self, slot: SlotId) -> bool {
        let is_free = self.is_free(slot);
        if is_free {
            *self.in_use.entry(slot).or_default() += 1;
        }
        is_free
    }

    /// Gives a slot back. Says who has it now.
    pub fn give_back(&mut self, slot: SlotId) -> Option<Ticket> {
        let count = self.in_use.get_mut(&slot)?;
        *count -= 1;
        if *count == 0 {
            self.in_use.remove(&slot);
        }
        let next =
            self.waiting.iter().find(|(_, wanted)| wanted.contains(&slot)).map(|(ticket, _)| *ticket)?;
        self.try_grant(next).then_some(next)
    }

    /// Waits for any of the `wanted`, in the turn of who came at `since`.
    ///
    /// # Errors
    /// When too many wait already.
    pub fn try_join(&mut self, since: Instant, wanted: Vec<SlotId>) -> Result<Ticket, QueueFull> {
        if self.waiting.len() >= self.queue_max {
            return Err(QueueFull);
        }
        self.tickets += 1;
        let ticket = Ticket { since, number: self.tickets };
        self.waiting.insert(ticket, wanted);
        self.try_grant(ticket);
        Ok(ticket)
    }

    /// Who waits wants something else from now on; nothing happens to who has a slot.
    pub fn want(&mut self, ticket: Ticket, wanted: &[SlotId]) {
        let Some(before) = self.waiting.get_mut(&ticket) else { return };
        if before != wanted {
            before.clear();
            before.extend_from_slice(wanted);
            self.try_grant(ticket);
        }
    }

    /// The slot that was granted, which is the caller's to give back from now on.
    pub fn take_granted(&mut self, ticket: Ticket) -> Option<SlotId> {
        self.granted.remove(&ticket)
    }

    /// Waits no more, whether or not there is a slot. Says who has it instead.
    pub fn leave(&mut self, ticket: Ticket) -> Option<Ticket> {
        self.waiting.remove(&ticket);
        let slot = self.granted.remove(&ticket)?;
        self.give_back(slot)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn try_grant(&mut self, ticket: Ticket) -> bool {
        let Some(wanted) = self.waiting.get(&ticket) else { return false };
        // The emptiest, the first of several.
        let free = wanted.iter().copied().filter(|slot| self.is_free(*slot));
        let Some(slot) = free.min_by_key(|slot| self.in_use.get(slot).copied().unwrap_or(0)) else {
            return false;
        };
        *self.in_use.entry(slot).or_default() += 1;
        self.waiting.remove(&ticket);
        self.granted.insert(ticket, slot);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const A: SlotId = SlotId(1);
    const B: SlotId = SlotId(2);

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn queue(requests_max: u32, queue_max: usize) -> SlotQueue {
        let mut queue = SlotQueue::default();
        queue.set_limits(requests_max, queue_max);
        queue
    }

    #[test]
    fn a_slot_goes_to_who_came_first_and_wants_it() {
        let mut queue = queue(1, 10);
        assert!(queue.try_take(A) && !queue.try_take(A) && queue.try_take(B));
        let late = queue.try_join(at(3), vec![A]).unwrap();
        let early = queue.try_join(at(1), vec![A, B]).unwrap();
        let other = queue.try_join(at(0), vec![SlotId(3)]).unwrap();
        assert_eq!(queue.take_granted(other), Some(SlotId(3)), "that one was free");
        assert_eq!(queue.give_back(A), Some(early));
        assert_eq!(queue.take_granted(early), Some(A));
        assert_eq!(queue.give_back(B), None, "nobody wants it");
        assert!(queue.try_take(B));
        assert_eq!(queue.give_back(A), Some(late));
        // Who leaves with a slot leaves it to the next.
        let next = queue.try_join(at(4), vec![A]).unwrap();
        assert_eq!(queue.leave(late), Some(next));
        assert_eq!(queue.leave(next), None);
        assert!(queue.is_free(A));
    }

    #[test]
    fn a_queue_has_an_end_and_who_leaves_makes_room() {
        let mut queue = queue(0, 2);
        let first = queue.try_join(at(0), vec![A]).unwrap();
        queue.try_join(at(0), vec![A]).unwrap();
        assert_eq!(queue.try_join(at(0), vec![A]), Err(QueueFull));
        queue.leave(first);
        assert!(queue.try_join(at(0), vec![A]).is_ok());
        assert_eq!(queue.waiting(), 2);
    }

    #[test]
    fn other_limits_and_other_wishes_take_effect_at_once() {
        let mut queue = queue(1, 10);
        assert!(queue.try_take(A));
        let first = queue.try_join(at(0), vec![A]).unwrap();
        let second = queue.try_join(at(1), vec![A]).unwrap();
        queue.want(second, &[A, B]);
        assert_eq!(queue.take_granted(second), Some(B));
        assert_eq!(queue.set_limits(2, 10), [first]);
        assert_eq!(queue.set_limits(1, 10), []);
        // Above the new limit nobody gets what is given back.
        let third = queue.try_join(at(2), vec![A]).unwrap();
        assert_eq!(queue.give_back(A), None);
        assert_eq!(queue.leave(first), Some(third));
    }

    #[derive(Debug, Clone)]
    enum Deed {
        Take(u64),
        GiveBack(prop::sample::Index),
        Join(u64, Vec<u64>),
        Want(prop::sample::Index, Vec<u64>),
        Leave(prop::sample::Index),
        TakeGranted(prop::sample::Index),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let wanted = || prop::collection::vec(0_u64..4, 0..4);
        let deed = prop_oneof![
            (0_u64..4).prop_map(Deed::Take),
            any::<prop::sample::Index>().prop_map(Deed::GiveBack),
            (0_u64..50, wanted()).prop_map(|(since, wanted)| Deed::Join(since, wanted)),
            (any::<prop::sample::Index>(), wanted()).prop_map(|(at, wanted)| Deed::Want(at, wanted)),
            any::<prop::sample::Index>().prop_map(Deed::Leave),
            any::<prop::sample::Index>().prop_map(Deed::TakeGranted),
        ];
        prop::collection::vec(deed, 1..120)
    }

    proptest! {
        #[test]
        fn no_slot_is_given_twice_and_none_is_free_while_somebody_waits_for_it(
            requests_max in 1_u32..3,
            deeds in deeds(),
        ) {
            let mut queue = queue(requests_max, 8);
            let (mut used, mut tickets): (Vec<SlotId>, Vec<Ticket>) = (Vec::new(), Vec::new());
            let slots = |wanted: Vec<u64>| wanted.into_iter().map(SlotId).collect::<Vec<_>>();
            for deed in deeds {
                match deed {
                    Deed::Take(slot) => if queue.try_take(SlotId(slot)) { used.push(SlotId(slot)); },
                    Deed::GiveBack(at) => if !used.is_empty() {
                        let slot = used.swap_remove(at.index(used.len()));
                        let first = queue.waiting.iter().find(|(_, wanted)| wanted.contains(&slot)).map(|(one, _)| *one);
                        prop_assert_eq!(queue.give_back(slot), first);
                    },
                    Deed::Join(since, wanted) => {
                        let was_full = queue.waiting() == 8;
                        let joined = queue.try_join(at(since), slots(wanted));
                        prop_assert_eq!(joined.is_err(), was_full);
                        tickets.extend(joined);
                    }
                    Deed::Want(at, wanted) => if !tickets.is_empty() {
                        queue.want(tickets[at.index(tickets.len())], &slots(wanted));
                    },
                    Deed::Leave(at) => if !tickets.is_empty() {
                        queue.leave(tickets.swap_remove(at.index(tickets.len())));
                    },
                    Deed::TakeGranted(at) => if !tickets.is_empty() {
                        let at = at.index(tickets.len());
                        if let Some(slot) = queue.take_granted(tickets[at]) {
                            tickets.swap_remove(at);
                            used.push(slot);
                        }
                    },
                }
                for slot in (0..4).map(SlotId) {
                    let held = used.iter().chain(queue.granted.values()).filter(|one| **one == slot).count();
                    prop_assert!(held <= usize::try_from(requests_max).unwrap());
                    prop_assert_eq!(held, usize::try_from(queue.in_use.get(&slot).copied().unwrap_or(0)).unwrap());
                    let is_wanted = queue.waiting.values().any(|wanted| wanted.contains(&slot));
                    prop_assert!(!(queue.is_free(slot) && is_wanted));
                }
                prop_assert_eq!(queue.waiting.len() + queue.granted.len(), tickets.len());
            }
        }
    }
}
