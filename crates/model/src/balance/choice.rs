//! Least requests: of two random endpoints, the one with less to do for its weight.
//!
//! With equal weights nothing but the loads is looked at. With others the two are drawn by weight, so that shares hold
//! also while nothing is in flight, and loads are compared by weight.

use crate::random::Random;

/// One of `count` endpoints: the less loaded of two random eligible ones; `None` when none is eligible.
pub fn choose_of_two(
    random: &mut Random,
    count: usize,
    eligible: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> u32,
) -> Option<usize> {
    let among = (0..count).filter(|at| eligible(*at)).count();
    let nth = |n: usize| {
        if among == count { Some(n) } else { (0..count).filter(|at| eligible(*at)).nth(n) }
    };
    if among <= 1 {
        return (0..count).find(|at| eligible(*at));
    }
    let first = random.below(among);
    // The second is another one: drawn from the others and shifted past the first.
    let second = random.below(among - 1);
    let second = if second >= first { second + 1 } else { second };
    let (first, second) = (nth(first)?, nth(second)?);
    Some(if load(second) < load(first) { second } else { first })
}

/// The same with weights; who has none is not eligible.
pub fn choose_of_two_weighted(
    random: &mut Random,
    count: usize,
    weight: impl Fn(usize) -> u64,
    load: impl Fn(usize) -> u32,
) -> Option<usize> {
    let all: u64 = (0..count).map(&weight).fold(0, u64::saturating_add);
    let mut draw = |sum: u64, without: Option<usize>| {
        let mut left = random.below_u64(sum);
        (0..count).filter(|at| Some(*at) != without).find(|at| match left.checked_sub(weight(*at)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        })
    };
    let first = draw(all, None)?;
    let others = all - weight(first).min(all);
    if others == 0 {
        return Some(first);
    }
    let Some(second) = draw(others, Some(first)) else { return Some(first) };
    let scaled = |one: usize, other: usize| u128::from(load(one)) * u128::from(weight(other));
    Some(if scaled(second, first) < scaled(first, second) { second } else { first })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_loaded_of_two_is_chosen() {
        let mut random = Random::new(7);
        let loads = [5, 1, 9];
        for _ in 0..100 {
            assert_eq!(choose_of_two(&mut random, 2, |_| true, |at| loads[at]), Some(1));
            assert_ne!(choose_of_two(&mut random, 3, |_| true, |at| loads[at]), Some(2));
        }
        assert_eq!(choose_of_two(&mut random, 3, |at| at == 2, |at| loads[at]), Some(2));
        assert_eq!(choose_of_two(&mut random, 3, |_| false, |at| loads[at]), None);
        assert_eq!(choose_of_two(&mut random, 0, |_| true, |_| 0), None);
    }

    #[test]
    fn equal_loads_are_spread_over_all() {
        let mut random = Random::new(1);
        let mut hits = [0_u32; 4];
        for _ in 0..4_000 {
            hits[choose_of_two(&mut random, 4, |_| true, |_| 0).unwrap()] += 1;
        }
        assert!(hits.iter().all(|hits| (800..1_200).contains(hits)), "{hits:?}");
    }

    #[test]
    fn an_idle_release_is_shared_by_weight() {
        let mut random = Random::new(3);
        let weights = [1, 2, 0, 7];
        let mut hits = [0_u32; 4];
        for _ in 0..10_000 {
            hits[choose_of_two_weighted(&mut random, 4, |at| weights[at], |_| 0).unwrap()] += 1;
        }
        for (hits, weight) in hits.iter().zip(weights) {
            let wanted = u32::try_from(weight * 1_000).unwrap();
            assert!(hits.abs_diff(wanted) <= 150, "{hits} instead of {wanted}");
        }
    }

    #[test]
    fn a_busy_release_fills_by_weight_too() {
        let mut random = Random::new(3);
        let weights = [1_u64, 4];
        let mut loads = [0_u32; 2];
        for _ in 0..1_000 {
            let at = choose_of_two_weighted(&mut random, 2, |at| weights[at], |at| loads[at]).unwrap();
            loads[at] += 1;
        }
        assert!(loads[0].abs_diff(200) <= 2, "{loads:?}");
    }

    #[test]
    fn without_any_weight_there_is_no_choice() {
        let mut random = Random::new(3);
        assert_eq!(choose_of_two_weighted(&mut random, 3, |_| 0, |_| 0), None);
        assert_eq!(choose_of_two_weighted(&mut random, 0, |_| 1, |_| 0), None);
        assert_eq!(choose_of_two_weighted(&mut random, 3, |at| u64::from(at == 1), |_| 9), Some(1));
    }
}
