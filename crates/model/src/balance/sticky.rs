//! What keeps a visitor on a release: a mark that is given, or a value of the visitor's own that decides.
//!
//! A mark is a hash of service and release and nothing else: it says nothing to whoever reads it, needs no memory here,
//! and means the same in every proxy. A value decides by its place on a line that the releases share by weight, each
//! beginning where the one before ends: a release that grows only takes visitors, and loses none.

use std::fmt;

use crate::balance::hash::hash_pair;

/// Which release a visitor was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(u64);

/// Length of a mark as text.
const MARK_DIGITS: usize = 16;

impl Mark {
    /// The mark of that release.
    pub fn of(service: &str, release: &str) -> Self {
        Self(hash_pair(service, release))
    }

    /// The mark in a text; `None` when it is none.
    pub fn read(text: &[u8]) -> Option<Self> {
        let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != MARK_DIGITS || !text.iter().all(is_digit) {
            return None;
        }
        u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok().map(Self)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Whose stretch of the line `value` falls on, where each of `weights` has one as long as itself; `None` when all are
/// 0. Whoever wants the same places again keeps their order.
pub fn place_of(value: u64, weights: impl Iterator<Item = u16> + Clone) -> Option<usize> {
    let whole: u64 = weights.clone().map(u64::from).sum();
    let place = u64::try_from((u128::from(value) * u128::from(whole)) >> 64).ok()?;
    let mut end = 0;
    weights.enumerate().find_map(|(at, weight)| {
        end += u64::from(weight);
        (place < end).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::hash_bytes;

    #[test]
    fn a_mark_reads_back_and_anything_else_is_none() {
        let mark = Mark::of("shop", "1.4.1");
        assert_eq!(Mark::read(mark.to_string().as_bytes()), Some(mark));
        assert_ne!(mark, Mark::of("shop", "1.4.2"));
        assert_ne!(mark, Mark::of("blog", "1.4.1"));
        for garbage in
            ["", "1.4.1", "0123456789ABCDEF", "0123456789abcdef0", "+123456789abcdef", "ü23456789abcde"]
        {
            assert_eq!(Mark::read(garbage.as_bytes()), None, "{garbage}");
        }
    }

    #[test]
    fn without_weights_there_is_no_place() {
        assert_eq!(place_of(5, [].into_iter()), None);
        assert_eq!(place_of(5, [0, 0].into_iter()), None);
        assert_eq!(place_of(u64::MAX, [1, 9_999].into_iter()), Some(1));
        assert_eq!(place_of(0, [1, 9_999].into_iter()), Some(0));
    }

    proptest! {
        #[test]
        fn a_release_that_grows_takes_visitors_and_loses_none(steps in prop::collection::vec(0_u16..=10_000, 2..6)) {
            let mut steps = steps;
            steps.sort_unstable();
            for visitor in 0..300_u32 {
                let value = hash_bytes(&visitor.to_le_bytes());
                let releases: Vec<Option<usize>> =
                    steps.iter().map(|new| place_of(value, [10_000 - new, *new].into_iter())).collect();
                prop_assert!(releases.is_sorted(), "{:?} at {:?}", releases, steps);
            }
        }

        #[test]
        fn shares_follow_the_weights(new in 0_u16..=10_000) {
            let hits = (0..10_000_u32)
                .filter(|visitor| place_of(hash_bytes(&visitor.to_le_bytes()), [10_000 - new, new].into_iter()) == Some(1))
                .count();
            prop_assert!(hits.abs_diff(usize::from(new)) < 250, "{} instead of {}", hits, new);
        }
    }
}
