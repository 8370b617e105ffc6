//! What followers of a rollout or an operation read: its lines, and how it ended.
//!
//! Stories live as long as the agent; the facts of the last rollout of each service are in the record.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use wire::record::{OperationRecord, RolloutRecord};

use crate::status::ProgressLine;

/// Most lines kept of one rollout; the oldest go first.
const LINES_MAX: usize = 200;
/// Most rollouts kept; the oldest go first.
const STORIES_MAX: usize = 20;

/// One rollout's.
#[derive(Debug, Default)]
pub(super) struct Story {
    pub lines: VecDeque<ProgressLine>,
    pub last: Option<RolloutRecord>,
    /// Of which service, and how it ended.
    pub operation: Option<(String, OperationRecord)>,
    sequence: u64,
}

/// By rollout.
#[derive(Debug, Default)]
pub(super) struct Stories(BTreeMap<u64, Story>);

impl Stories {
    pub(super) fn line(&mut self, rollout: u64, at_ms: u64, text: String) {
        let story = self.0.entry(rollout).or_default();
        story.sequence += 1;
        if story.lines.len() == LINES_MAX {
            story.lines.pop_front();
        }
        story.lines.push_back(ProgressLine { sequence: story.sequence, at_ms, text });
        while self.0.len() > STORIES_MAX {
            self.0.pop_first();
        }
    }

    pub(super) fn finish(&mut self, record: RolloutRecord) {
        let story = self.0.entry(record.id).or_default();
        story.last = Some(record);
    }

    pub(super) fn finish_operation(&mut self, service: String, record: OperationRecord) {
        let story = self.0.entry(record.id).or_default();
        story.operation = Some((service, record));
    }

    pub(super) fn get(&self, rollout: u64) -> Option<&Story> {
        self.0.get(&rollout)
    }
}

/// A measured time in seconds: `0.3 s`.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_are_bounded_and_forget_the_oldest_first() {
        let mut stories = Stories::default();
        for n in 0..300 {
            stories.line(1, n, format!("line {n}"));
        }
        let story = stories.get(1).unwrap();
        assert_eq!((story.lines.len(), story.lines[0].sequence), (200, 101));
        for rollout in 2..40 {
            stories.line(rollout, 0, String::new());
        }
        assert!(stories.get(19).is_none() && stories.get(20).is_some());
    }
}
