//! A latency sketch: how many durations fell into each of a fixed set of narrow buckets, from 1 µs to 19 hours.
//!
//! Log-linear: each power of two of microseconds is cut into 32 equal buckets, so a bucket is at most 1/32 as wide as
//! what falls into it, and its middle at most 1/64 (1.6 %) away. Below 32 µs each microsecond has its own.
//!
//! Why not DDSketch (doi 10.14778/3352063.3352135), which promises the same kind of error: its buckets are powers of a
//! γ, found by a logarithm or an approximation of one, and kept in a store that grows and collapses. Fixed buckets are
//! found by counting leading zeros and a shift, a few instructions; any two sketches have the same buckets, so merging
//! and taking a difference are exact addition and subtraction, whatever machine or version made them; and nothing ever
//! collapses, so the error holds for every quantile. The price is a fixed range, which request times do not leave.
//!
//! Buckets are made by octave when first used: a series that sees six octaves takes 2 KiB.
//! It keeps no maximum and no minimum, which could not be subtracted.

use std::time::Duration;

/// Buckets of one octave, as a power of two.
const SUB_BITS: u32 = 5;
/// Buckets of one octave.
const SUB: usize = 1 << SUB_BITS;
/// Octaves: single microseconds, then the powers of two from 2^5 to 2^35.
const OCTAVES: usize = 32;
/// Buckets of a sketch; every index is below.
pub const BUCKETS: usize = OCTAVES * SUB;
/// What is longer counts as this long.
pub const MICROS_MAX: u64 = (1 << 36) - 1;

/// Which bucket a duration is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket(u16);

impl Bucket {
    /// The bucket of that many microseconds.
    #[inline]
    pub fn of_micros(micros: u64) -> Self {
        let micros = micros.min(MICROS_MAX);
        // Zero for single microseconds, and for the first octave, whose buckets are as wide.
        let shift = (u64::BITS - SUB_BITS - 1).saturating_sub(micros.leading_zeros());
        let within = (micros >> shift) + (u64::from(shift) << SUB_BITS);
        Self(u16::try_from(within).unwrap_or(u16::MAX))
    }

    /// The bucket with that index, if there is one.
    pub fn at(index: usize) -> Option<Self> {
        u16::try_from(index).ok().filter(|_| index < BUCKETS).map(Self)
    }

    /// Its index, below [`BUCKETS`].
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// The shortest duration in it, in µs.
    pub fn lower_micros(self) -> u64 {
        let (octave, sub) = (self.0 >> SUB_BITS, u64::from(self.0) & (SUB as u64 - 1));
        match octave {
            0 => sub,
            _ => (SUB as u64 + sub) << (octave - 1),
        }
    }

    /// What stands for everything in it, in µs.
    pub fn middle_micros(self) -> f64 {
        let width = 1_u64 << (self.0 >> SUB_BITS).saturating_sub(1);
        let lower = self.lower_micros();
        // Exact: both are far below 2^53.
        lower as f64 + (width - 1) as f64 / 2.0
    }
}

/// Counts by bucket, and their sum.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sketch {
    octaves: [Option<Box<[u64; SUB]>>; OCTAVES],
    sum_micros: u64,
}

impl Sketch {
    /// Counts one duration.
    #[inline]
    pub fn record(&mut self, duration: Duration) {
        self.record_micros(u64::try_from(duration.as_micros()).unwrap_or(MICROS_MAX));
    }

    /// Counts one duration in µs.
    #[inline]
    pub fn record_micros(&mut self, micros: u64) {
        self.add(Bucket::of_micros(micros), 1);
        self.add_sum(micros.min(MICROS_MAX));
    }

    /// Adds to one bucket; the sum is added by [`add_sum`](Self::add_sum).
    #[inline]
    pub fn add(&mut self, bucket: Bucket, count: u64) {
        let at = bucket.index();
        let octave = self.octaves[at >> SUB_BITS].get_or_insert_with(|| Box::new([0; SUB]));
        let cell = &mut octave[at & (SUB - 1)];
        *cell = cell.saturating_add(count);
    }

    /// Adds to the sum of all durations.
    #[inline]
    pub fn add_sum(&mut self, micros: u64) {
        self.sum_micros = self.sum_micros.saturating_add(micros);
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.buckets() {
            self.add(bucket, count);
        }
        self.add_sum(other.sum_micros);
    }

    /// What came since `earlier`, a former state of this one. Where that has more, nothing did.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut since =
            Self { sum_micros: self.sum_micros.saturating_sub(earlier.sum_micros), ..Self::default() };
        for (bucket, count) in self.buckets() {
            let more = count.saturating_sub(earlier.count_in(bucket));
            if more > 0 {
                since.add(bucket, more);
            }
        }
        since
    }

    /// The buckets that have something, in order.
    pub fn buckets(&self) -> impl Iterator<Item = (Bucket, u64)> + '_ {
        self.octaves
            .iter()
            .enumerate()
            .filter_map(|(octave, cells)| Some((octave, cells.as_ref()?)))
            .flat_map(|(octave, cells)| {
                let found = cells.iter().enumerate().filter(|(_, count)| **count > 0);
                found.filter_map(move |(sub, count)| Some((Bucket::at(octave << SUB_BITS | sub)?, *count)))
            })
    }

    /// How many are in that bucket.
    pub fn count_in(&self, bucket: Bucket) -> u64 {
        let at = bucket.index();
        self.octaves[at >> SUB_BITS].as_ref().map_or(0, |cells| cells[at & (SUB - 1)])
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.buckets().fold(0, |sum, (_, count)| sum.saturating_add(count))
    }

    /// All of them together, in µs.
    pub fn sum_micros(&self) -> u64 {
        self.sum_micros
    }

    /// The duration in µs within which the share `quantile` (0 to 1) of all ended; `None` when there are none.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        // The rank of the first that is not below: the smallest whole number of durations that is enough.
        let rank = (quantile.clamp(0.0, 1.0) * count as f64).ceil().max(1.0);
        let mut seen = 0_u64;
        let mut last = None;
        for (bucket, count) in self.buckets() {
            seen += count;
            last = Some(bucket);
            if seen as f64 >= rank {
                break;
            }
        }
        last.map(Bucket::middle_micros)
    }

    /// How many took longer than `micros`; those in its own bucket are taken for longer.
    pub fn count_above(&self, micros: u64) -> u64 {
        let first = Bucket::of_micros(micros.saturating_add(1));
        self.buckets()
            .filter(|(bucket, _)| *bucket >= first)
            .fold(0, |sum, (_, count)| sum.saturating_add(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn buckets_follow_each_other_without_gap_or_overlap() {
        for index in 1..BUCKETS {
            let (before, here) = (Bucket::at(index - 1).unwrap(), Bucket::at(index).unwrap());
            let lower = here.lower_micros();
            assert_eq!(Bucket::of_micros(lower), here, "{index}");
            assert_eq!(Bucket::of_micros(lower - 1), before, "{index}");
        }
        assert_eq!(Bucket::of_micros(0).index(), 0);
        assert_eq!(Bucket::of_micros(MICROS_MAX).index(), BUCKETS - 1);
        assert_eq!(Bucket::of_micros(u64::MAX).index(), BUCKETS - 1);
        assert_eq!(Bucket::at(BUCKETS), None);
    }

    #[test]
    fn the_middle_of_a_bucket_is_at_most_a_sixty_fourth_away_from_all_in_it() {
        let mut random = Random::new(1);
        for round in 0..200_000_u32 {
            let micros = random.next_u64() & (MICROS_MAX >> (round % 36));
            let middle = Bucket::of_micros(micros).middle_micros();
            let error = (middle - micros as f64).abs();
            assert!(error <= micros as f64 / 64.0, "{micros} became {middle}");
        }
    }

    fn drawn(random: &mut Random, count: usize) -> (Sketch, Vec<u64>) {
        let mut sketch = Sketch::default();
        let mut all = Vec::new();
        for _ in 0..count {
            let spread = u32::try_from(random.below(30)).unwrap();
            let micros = random.next_u64() & ((1 << spread) - 1);
            sketch.record_micros(micros);
            all.push(micros);
        }
        all.sort_unstable();
        (sketch, all)
    }

    #[test]
    fn every_quantile_is_within_two_percent_of_the_true_one() {
        let mut random = Random::new(7);
        for count in [1, 2, 3, 10, 100, 1_000, 20_000] {
            let (sketch, all) = drawn(&mut random, count);
            assert_eq!(sketch.count(), count as u64);
            assert_eq!(sketch.sum_micros(), all.iter().sum::<u64>());
            for permille in [0, 1, 10, 250, 500, 900, 950, 990, 999, 1_000_usize] {
                let rank = (permille * count).div_ceil(1_000).max(1);
                let truth = all[rank - 1] as f64;
                let found = sketch.quantile(permille as f64 / 1_000.0).unwrap();
                assert!((found - truth).abs() <= truth * 0.02, "{count} {permille}: {found} for {truth}");
            }
        }
        assert_eq!(Sketch::default().quantile(0.5), None);
    }

    #[test]
    fn merging_is_the_sketch_of_both_and_a_difference_gives_the_second_back() {
        let mut random = Random::new(3);
        let (one, first) = drawn(&mut random, 500);
        let (two, second) = drawn(&mut random, 300);
        let mut merged = one.clone();
        merged.merge(&two);
        let mut both = Sketch::default();
        first.iter().chain(&second).for_each(|micros| both.record_micros(*micros));
        assert_eq!(merged, both);
        let difference = merged.since(&one);
        assert!(difference.buckets().eq(two.buckets()));
        assert_eq!(difference.sum_micros(), two.sum_micros());
    }

    #[test]
    fn those_above_a_limit_are_counted_to_the_width_of_a_bucket() {
        let mut sketch = Sketch::default();
        for micros in [1, 31, 500, 1_000, 2_000, 1 << 20] {
            sketch.record_micros(micros);
        }
        assert_eq!(sketch.count_above(0), 6);
        assert_eq!(sketch.count_above(31), 4);
        assert_eq!(sketch.count_above(600), 3);
        assert_eq!(sketch.count_above(MICROS_MAX), 0);
    }
}
