//! Rolling arithmetic: how many instances of each release there may be now.
//!
//! Never more than `instances + max_surge` run, those on their way out included; never fewer than
//! `instances - max_unavailable` are ready because of us. What is not ready of the old release goes first.

use super::plan::Facts;

/// What bounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) instances: u32,
    pub(super) max_surge: u32,
    pub(super) max_unavailable: u32,
}

/// How many instances of each release are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) to: u32,
    pub(super) from: u32,
}

impl Limits {
    fn running_max(self) -> u32 {
        self.instances.saturating_add(self.max_surge)
    }

    fn ready_min(self) -> u32 {
        self.instances.saturating_sub(self.max_unavailable)
    }

    /// One step on: the new release only grows, the old one only shrinks.
    pub(super) fn forward(self, before: Option<Counts>, facts: &Facts) -> Counts {
        let former = before.unwrap_or(Counts { to: 0, from: facts.from_staying });
        let room = self.running_max().saturating_sub(facts.from_running + facts.running + facts.others);
        let to = (facts.staying + room).min(self.instances).max(former.to).max(facts.staying);
        let starting = facts.staying.saturating_sub(facts.ready);
        let staying = facts.from_staying + facts.staying;
        let spare = staying.saturating_sub(self.ready_min() + starting);
        let unready = facts.from_staying.saturating_sub(facts.from_ready).min(spare);
        let ready = (facts.from_ready + facts.ready).saturating_sub(self.ready_min()).min(facts.from_ready);
        let from = facts.from_staying.saturating_sub(unready + ready).min(former.from);
        Counts { to, from }
    }

    /// How many of the old release may run on the way back, beside what is left of the new one.
    pub(super) fn back(self, facts: &Facts) -> u32 {
        let leaving = facts.from_running.saturating_sub(facts.from_staying);
        let room = self.running_max().saturating_sub(facts.running + leaving + facts.others);
        room.max(facts.from_staying).min(self.instances)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a rollout in which every instance does what is asked of it; the most that ran, the fewest ready.
    fn play(limits: Limits, old: u32, old_ready: u32) -> (u32, u32) {
        let mut facts =
            Facts { from_ready: old_ready, from_running: old, from_staying: old, ..Facts::default() };
        let (mut counts, mut most, mut fewest) = (None, old, old_ready);
        for turn in 0.. {
            assert!(turn < 1_000, "it does not end: {facts:?} {counts:?}");
            let next = limits.forward(counts, &facts);
            counts = Some(next);
            facts.from_staying = next.from;
            facts.from_ready = facts.from_ready.min(next.from);
            (facts.staying, facts.running) = (next.to, next.to);
            most = most.max(facts.running + facts.from_running);
            fewest = fewest.min(facts.ready + facts.from_ready);
            if turn % 2 == 0 {
                facts.from_running = facts.from_staying;
            } else {
                facts.ready = facts.staying;
            }
            if facts.ready == limits.instances && facts.from_running == 0 {
                break;
            }
        }
        (most, fewest)
    }

    #[test]
    fn neither_limit_is_ever_crossed_and_it_always_ends() {
        for instances in 1..6 {
            for max_surge in 0..3 {
                for max_unavailable in 0..3 {
                    if max_surge + max_unavailable == 0 {
                        continue;
                    }
                    let limits = Limits { instances, max_surge, max_unavailable };
                    let (most, fewest) = play(limits, instances, instances);
                    assert!(most <= limits.running_max(), "{limits:?}: {most} ran");
                    assert!(fewest >= limits.ready_min(), "{limits:?}: {fewest} were ready");
                }
            }
        }
    }

    #[test]
    fn an_old_release_that_is_not_ready_does_not_stop_it() {
        for ready in 0..3 {
            let limits = Limits { instances: 3, max_surge: 1, max_unavailable: 0 };
            assert!(play(limits, 3, ready).0 <= 4);
            let limits = Limits { instances: 3, max_surge: 0, max_unavailable: 1 };
            assert!(play(limits, 3, ready).0 <= 3);
        }
    }

    #[test]
    fn another_number_of_instances_is_reached_too() {
        let limits = Limits { instances: 2, max_surge: 1, max_unavailable: 0 };
        assert_eq!(play(limits, 5, 5), (5, 2));
        assert!(play(limits, 1, 1).0 <= 3);
    }

    #[test]
    fn the_way_back_starts_old_instances_as_the_new_ones_leave() {
        let limits = Limits { instances: 3, max_surge: 1, max_unavailable: 0 };
        let facts = Facts { running: 2, staying: 2, from_running: 2, from_staying: 2, ..Facts::default() };
        assert_eq!(limits.back(&facts), 2);
        assert_eq!(limits.back(&Facts { running: 1, ..facts }), 3);
    }
}
