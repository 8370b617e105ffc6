//! Slow start: an endpoint that has begun to serve gets its whole share only after a while.
//!
//! The share rises in a straight line from a tenth. What has to be warm already, the endpoints of a proxy's first
//! table, is for the caller to know.

use std::time::Duration;

use crate::time::Instant;

/// A whole share; weights are multiplied by shares of this.
pub const WHOLE_SHARE: u64 = 10_000;
/// The share at the beginning.
const FIRST_SHARE: u64 = WHOLE_SHARE / 10;

/// The share at `now` of an endpoint that serves since then.
pub fn share_at(now: Instant, serving_since: Instant, slow_start: Duration) -> u64 {
    let (served, whole) = (now.since(serving_since).as_nanos(), slow_start.as_nanos());
    if served >= whole {
        return WHOLE_SHARE;
    }
    let risen = u128::from(WHOLE_SHARE - FIRST_SHARE) * served / whole;
    FIRST_SHARE + u64::try_from(risen).unwrap_or(WHOLE_SHARE - FIRST_SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::{Turns, choose_of_two_weighted};
    use crate::random::Random;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    #[test]
    fn the_share_rises_in_a_straight_line_from_a_tenth() {
        let share = |ms: u64| share_at(at(5_000 + ms), at(5_000), Duration::from_secs(10));
        assert_eq!([0, 5_000, 9_999, 10_000, 60_000].map(share), [1_000, 5_500, 9_999, 10_000, 10_000]);
        assert_eq!(share_at(at(5), at(5), Duration::ZERO), WHOLE_SHARE);
    }

    #[test]
    fn turns_and_draws_give_a_beginner_its_rising_share() {
        let mut random = Random::new(11);
        for (ms, wanted) in [(0, 10), (5_000, 55), (10_000, 100)] {
            // Beside one that is warm, of a hundred and so many requests it gets so many.
            let weight =
                |one| if one == 0 { WHOLE_SHARE } else { share_at(at(ms), at(0), Duration::from_secs(10)) };
            let mut turns = Turns::new(2);
            let taken = (0..100 + wanted).filter(|_| turns.take(weight) == Some(1)).count();
            assert!(taken.abs_diff(wanted) <= 1, "{taken} turns after {ms} ms");
            let draws = (100 + wanted) * 100;
            let drawn = (0..draws)
                .filter(|_| choose_of_two_weighted(&mut random, 2, weight, |_| 0) == Some(1))
                .count();
            assert!(drawn.abs_diff(wanted * 100) <= 300, "{drawn} draws after {ms} ms");
        }
    }
}
