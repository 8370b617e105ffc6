//! Smooth weighted round-robin: everybody gets its weight, evenly spread.
//!
//! Each turn every member is credited its weight, and the one with the most credit pays the sum of all credits given. So
//! the credits always sum to the same, and any run of turns as long as the sum of weights gives each exactly its weight.

/// Turns between members whose weights may change from one turn to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turns {
    credits: Vec<i64>,
}

impl Turns {
    /// Turns between `count` members.
    pub fn new(count: usize) -> Self {
        Self { credits: vec![0; count] }
    }

    /// Goes on from `former`: `place(at)` is where the member who is now at `at` was there. Who is new begins without
    /// credit, and what those who left had is taken from everybody alike.
    pub fn following(former: &Self, count: usize, place: impl Fn(usize) -> Option<usize>) -> Self {
        let credit = |at| place(at).and_then(|at| former.credits.get(at)).copied().unwrap_or(0);
        let mut credits: Vec<i64> = (0..count).map(credit).collect();
        if let Ok(members) = i64::try_from(count)
            && members > 0
        {
            let excess = credits.iter().sum::<i64>() / members;
            credits.iter_mut().for_each(|credit| *credit -= excess);
        }
        Self { credits }
    }

    /// Whose turn it is; a member of weight 0 takes no part. `None` when all weights are 0.
    pub fn take(&mut self, weight: impl Fn(usize) -> u64) -> Option<usize> {
        let (mut best, mut given): (Option<(usize, i64)>, i64) = (None, 0);
        for (at, credit) in self.credits.iter_mut().enumerate() {
            let weight = i64::try_from(weight(at)).unwrap_or(i64::MAX);
            if weight == 0 {
                continue;
            }
            given = given.saturating_add(weight);
            *credit = credit.saturating_add(weight);
            if best.is_none_or(|(_, most)| *credit > most) {
                best = Some((at, *credit));
            }
        }
        let (best, credit) = best?;
        self.credits[best] = credit.saturating_sub(given);
        Some(best)
    }
}

/// Turns between members whose weights stay.
#[derive(Debug, Clone, Default)]
pub struct WeightedTurns {
    weights: Vec<u64>,
    turns: Turns,
    /// The only one that has a weight at all.
    only: Option<usize>,
}

impl WeightedTurns {
    /// Turns over `weights`; those of weight 0 never have one.
    pub fn new<W: Into<u64>>(weights: impl IntoIterator<Item = W>) -> Self {
        let weights: Vec<u64> = weights.into_iter().map(Into::into).collect();
        let mut weighty = (0..weights.len()).filter(|at| weights[*at] > 0);
        let only = weighty.next().filter(|_| weighty.next().is_none());
        Self { turns: Turns::new(weights.len()), weights, only }
    }

    /// Whose turn it is; `None` when all weights are 0.
    pub fn take(&mut self) -> Option<usize> {
        if self.only.is_some() {
            return self.only;
        }
        let weights = &self.weights;
        self.turns.take(|at| weights[at])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_release_gets_its_share_in_any_window() {
        let mut turns = WeightedTurns::new([500_u16, 9_500]);
        let taken: Vec<usize> = (0..10_000).map(|_| turns.take().unwrap()).collect();
        for window in taken.windows(1_000) {
            let new = window.iter().filter(|at| **at == 0).count();
            assert!((49..=51).contains(&new), "{new} of 1,000");
        }
    }

    #[test]
    fn weight_zero_never_has_a_turn() {
        let mut turns = WeightedTurns::new([0_u16, 10_000]);
        assert!((0..100).all(|_| turns.take() == Some(1)));
        assert_eq!(WeightedTurns::new([0_u16, 0]).take(), None);
        assert_eq!(WeightedTurns::default().take(), None);
    }

    #[test]
    fn nobody_has_two_turns_in_a_row_while_weights_are_equal() {
        let mut turns = Turns::new(3);
        let taken: Vec<usize> = (0..9).map(|_| turns.take(|_| 1).unwrap()).collect();
        assert_eq!(taken, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        assert_eq!(turns.take(|_| 0), None);
    }

    proptest! {
        #[test]
        fn any_window_as_long_as_the_sum_gives_each_exactly_its_weight(
            weights in prop::collection::vec(0_u64..20, 1..8),
            start in 0_usize..100,
        ) {
            let sum = usize::try_from(weights.iter().sum::<u64>()).unwrap();
            prop_assume!(sum > 0);
            let mut turns = Turns::new(weights.len());
            (0..start).for_each(|_| { turns.take(|at| weights[at]); });
            let mut counts = vec![0; weights.len()];
            (0..sum).for_each(|_| counts[turns.take(|at| weights[at]).unwrap()] += 1);
            prop_assert_eq!(counts, weights);
        }

        #[test]
        fn shares_stay_right_while_members_come_go_and_pause(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 1..20),
        ) {
            // Five members; each change takes one out or lets it in again, by a new table or by an ejection.
            let mut members: Vec<u64> = (0..5).collect();
            let mut paused: Vec<u64> = Vec::new();
            let mut turns = Turns::new(members.len());
            for (which, by_table) in changes {
                let one = u64::try_from(which.index(5)).unwrap();
                if by_table {
                    let former = members.clone();
                    match members.iter().position(|member| *member == one) {
                        Some(at) if members.len() > 1 => { members.remove(at); }
                        Some(_) => {}
                        None => members.insert(which.index(members.len() + 1), one),
                    }
                    turns = Turns::following(&turns, members.len(), |at| {
                        former.iter().position(|member| *member == members[at])
                    });
                } else if let Some(at) = paused.iter().position(|member| *member == one) {
                    paused.remove(at);
                } else {
                    paused.push(one);
                }
                let active = members.iter().filter(|member| !paused.contains(member)).count();
                if active == 0 {
                    continue;
                }
                let mut counts = vec![0_usize; members.len()];
                for _ in 0..active * 20 {
                    let taken = turns.take(|at| u64::from(!paused.contains(&members[at])));
                    counts[taken.unwrap()] += 1;
                }
                for (at, count) in counts.iter().enumerate() {
                    let wanted = if paused.contains(&members[at]) { 0..=0 } else { 17..=23 };
                    prop_assert!(wanted.contains(count), "{counts:?} of {members:?} without {paused:?}");
                }
            }
        }
    }
}
