//! The same key to the same endpoint, on every thread and in every proxy: weighted rendezvous hashing.
//!
//! Each endpoint has a rank for each key that depends on nothing but the two, and on its weight; the highest eligible
//! one is chosen. So when an endpoint leaves only its own keys move, each to the next in its ranks, and when one comes
//! it takes from each other endpoint the same share. There is no seed of a process in it. Hashes are for spreading
//! only: whoever chooses keys can choose an endpoint.

/// FNV-1a's offset and prime, 64 bits.
const FNV_OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01B3;

/// A hash of `bytes` that is the same in every process.
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(FNV_OFFSET, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME)))
}

/// A hash of two texts, neither of which can pass for a part of the other.
pub fn hash_pair(first: &str, second: &str) -> u64 {
    mix(hash_bytes(first.as_bytes()).rotate_left(32) ^ hash_bytes(second.as_bytes()))
}

/// Every bit of the result depends on every bit of `x` (the finalizer of MurmurHash3).
fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    x ^= x >> 33;
    x = x.wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    x ^ (x >> 33)
}

/// An endpoint in the eyes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// What it is known by, hashed.
    pub identity: u64,
    /// Its share beside the others.
    pub weight: u32,
}

/// Which of `candidates` has the highest rank for `key` among those that are eligible; who has no weight is not.
pub fn highest_rank(key: u64, candidates: &[Candidate], eligible: impl Fn(usize) -> bool) -> Option<usize> {
    let first = candidates.first()?.weight;
    let is_uniform = candidates.iter().all(|one| one.weight == first);
    let mut best: Option<(usize, f64)> = None;
    for (at, candidate) in candidates.iter().enumerate() {
        if candidate.weight == 0 || !eligible(at) {
            continue;
        }
        let drawn = unit(mix(key ^ candidate.identity));
        // The logarithm makes shares follow weights; where those are equal it changes no order.
        let rank = if is_uniform { drawn } else { f64::from(candidate.weight) / -drawn.ln() };
        if best.is_none_or(|(_, highest)| rank > highest) {
            best = Some((at, rank));
        }
    }
    best.map(|(at, _)| at)
}

/// A number above 0 and at most 1 that grows with `hash`.
fn unit(hash: u64) -> f64 {
    // The highest 52 bits as the fraction of a number from 1 to 2; the smallest step keeps it above 0.
    f64::from_bits(0x3FF0_0000_0000_0000 | (hash >> 12)) - 1.0 + f64::EPSILON
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(names: &[u32], weight: impl Fn(u32) -> u32) -> Vec<Candidate> {
        let one = |name: &u32| Candidate {
            identity: hash_bytes(format!("web@1/{name}").as_bytes()),
            weight: weight(*name),
        };
        names.iter().map(one).collect()
    }

    fn keys(count: u32) -> impl Iterator<Item = u64> {
        (0..count).map(|key| hash_bytes(format!("user-{key}").as_bytes()))
    }

    #[test]
    fn hashes_are_the_same_in_every_version() {
        // Values that are no longer these move every key of every user.
        assert_eq!(hash_bytes(b""), 0xEFD0_1F60_BA99_2926);
        assert_eq!(hash_bytes(b"handover"), 0x894C_FC27_49DF_2BA0);
        assert_eq!(hash_pair("a", "b"), 0x1631_C94E_8D7E_8749);
        assert_ne!(hash_pair("a", "b"), hash_pair("b", "a"));
    }

    #[test]
    fn keys_are_shared_by_weight() {
        for weights in [[1, 1, 1, 1], [1, 2, 3, 4]] {
            let all = candidates(&[0, 1, 2, 3], |name| weights[usize::try_from(name).unwrap()]);
            let mut hits = [0_u32; 4];
            keys(20_000).for_each(|key| hits[highest_rank(key, &all, |_| true).unwrap()] += 1);
            let sum: u32 = weights.iter().sum();
            for (hits, weight) in hits.iter().zip(weights) {
                let wanted = 20_000 * weight / sum;
                assert!(hits.abs_diff(wanted) < 400, "{hits} instead of {wanted}");
            }
        }
    }

    #[test]
    fn nobody_is_chosen_where_nobody_is_eligible() {
        let all = candidates(&[0, 1], |name| name);
        assert_eq!(highest_rank(1, &all, |_| false), None);
        assert_eq!(highest_rank(1, &all, |at| at == 0), None, "it has no weight");
        assert_eq!(highest_rank(1, &all, |_| true), Some(1));
        assert_eq!(highest_rank(1, &[], |_| true), None);
    }

    proptest! {
        #[test]
        fn only_the_keys_of_who_leaves_move_and_who_comes_takes_no_more_than_its_share(
            count in 2_u32..12,
            leaves in any::<prop::sample::Index>(),
            weights in prop::collection::vec(1_u32..5, 12),
            order in any::<bool>(),
        ) {
            let weight = |name: u32| weights[usize::try_from(name).unwrap()];
            let names: Vec<u32> = (0..count).collect();
            let gone = names[leaves.index(names.len())];
            let mut fewer: Vec<u32> = names.iter().copied().filter(|name| *name != gone).collect();
            if order {
                fewer.reverse();
            }
            let (all, left) = (candidates(&names, weight), candidates(&fewer, weight));
            let mut moved = 0_u32;
            for key in keys(2_000) {
                let before = names[highest_rank(key, &all, |_| true).unwrap()];
                let after = fewer[highest_rank(key, &left, |_| true).unwrap()];
                if before == gone {
                    moved += 1;
                    // An ejection leads to the same one as a table without it.
                    let passed_over = highest_rank(key, &all, |at| names[at] != gone).unwrap();
                    prop_assert_eq!(names[passed_over], after);
                } else {
                    prop_assert_eq!(before, after);
                }
            }
            let share = 2_000 * weight(gone) / names.iter().map(|name| weight(*name)).sum::<u32>();
            prop_assert!(moved.abs_diff(share) < 150, "{moved} keys moved, its share is {share}");
        }
    }
}
