//! Ports for `${PORT}`: which one an instance gets.
//!
//! A port that was freed rests for a while, so that a client or a check that still holds the old address does
//! not reach another program. Whether something foreign listens on a port is for the caller to find out; it
//! then says so and asks for the next.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::time::Instant;

/// How long a freed port is not given out.
pub const REST: Duration = Duration::from_secs(60);

/// Every port of the range is in use or rests.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no port of `instances.ports` {first}-{last} is free ({used} in use, the others were in use less than a minute ago): make the range larger"
)]
pub struct PortsExhausted {
    first: u16,
    last: u16,
    used: usize,
}

/// The range and what is known of it.
#[derive(Debug, Clone)]
pub struct PortPool {
    first: u16,
    last: u16,
    next: u16,
    used: BTreeSet<u16>,
    resting: BTreeMap<u16, Instant>,
}

impl PortPool {
    /// All free. `start` chooses where in the range the search begins: two lives of an agent that begin at
    /// different places do not hand out each other's freshly freed ports.
    pub fn new((first, last): (u16, u16), start: u64) -> Self {
        let last = last.max(first);
        let width = u64::from(last - first) + 1;
        let offset = u16::try_from(start % width).expect("invariant: smaller than the width of a u16 range");
        Self { first, last, next: first + offset, used: BTreeSet::new(), resting: BTreeMap::new() }
    }

    /// Another range from now on; what is in use stays in use.
    pub fn set_range(&mut self, (first, last): (u16, u16)) {
        self.first = first;
        self.last = last.max(first);
        if !(self.first..=self.last).contains(&self.next) {
            self.next = first;
        }
    }

    /// The next free port, in order from the last one given out.
    ///
    /// # Errors
    /// When all are in use or rest.
    pub fn try_take(&mut self, now: Instant) -> Result<u16, PortsExhausted> {
        self.resting.retain(|_, freed| now.since(*freed) < REST);
        let mut port = self.next;
        for _ in self.first..=self.last {
            let candidate = port;
            port = if port >= self.last { self.first } else { port + 1 };
            if !self.used.contains(&candidate) && !self.resting.contains_key(&candidate) {
                self.used.insert(candidate);
                self.next = port;
                return Ok(candidate);
            }
        }
        Err(PortsExhausted { first: self.first, last: self.last, used: self.used.len() })
    }

    /// `port` is in use by an instance that runs already.
    pub fn adopt(&mut self, port: u16) {
        self.used.insert(port);
    }

    /// Its instance is gone, or something foreign listens there.
    pub fn free(&mut self, port: u16, now: Instant) {
        if self.used.remove(&port) {
            self.resting.insert(port, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_freed_port_rests_for_a_minute() {
        let mut pool = PortPool::new((20_000, 20_001), 0);
        let now = Instant::START;
        assert_eq!((pool.try_take(now), pool.try_take(now)), (Ok(20_000), Ok(20_001)));
        pool.free(20_000, now);
        assert!(pool.try_take(now + Duration::from_secs(59)).is_err());
        assert_eq!(pool.try_take(now + Duration::from_secs(60)), Ok(20_000));
    }

    proptest! {
        #[test]
        fn no_port_is_given_out_twice_or_before_it_has_rested(
            start: u64,
            steps in prop::collection::vec((0_u64..40_000, any::<bool>()), 1..200),
        ) {
            let mut pool = PortPool::new((30_000, 30_007), start);
            let mut now = Instant::START;
            let mut held: Vec<u16> = Vec::new();
            let mut freed: BTreeMap<u16, Instant> = BTreeMap::new();
            for (wait, give_back) in steps {
                now = now + Duration::from_millis(wait);
                if give_back && !held.is_empty() {
                    let port = held.remove(0);
                    pool.free(port, now);
                    freed.insert(port, now);
                } else if let Ok(port) = pool.try_take(now) {
                    prop_assert!(!held.contains(&port) && (30_000..=30_007).contains(&port));
                    prop_assert!(freed.get(&port).is_none_or(|at| now.since(*at) >= REST));
                    held.push(port);
                }
            }
        }
    }
}
