//! Lines that an agent tells of something that goes on, told once whichever agent tells them.

use std::collections::BTreeSet;

use admin::api::{PROGRESS_WAIT_MS_MAX, ProgressLine};

use crate::cli::render;

/// What was heard.
#[derive(Debug, Default)]
pub(super) struct Story {
    /// Sequence of the last line, as the present agent counts.
    pub(super) after: u64,
    /// Who told it; nobody yet.
    agent: Option<u32>,
    /// Another agent tells it now: it may tell again what was told.
    is_retold: bool,
    /// The last answer left out lines that were not heard.
    pub(super) asks_again: bool,
    told: BTreeSet<String>,
}

impl Story {
    /// How long to wait for news. What is already there is wanted at once: it may be all that there is to tell.
    pub(super) fn wait_ms(&self) -> u64 {
        if self.asks_again || self.agent.is_none() { 0 } else { PROGRESS_WAIT_MS_MAX }
    }

    /// The lines that are new.
    pub(super) fn hear(&mut self, agent: u32, lines: &[ProgressLine]) -> Vec<String> {
        let is_another = self.agent.is_some_and(|before| before != agent);
        self.agent = Some(agent);
        self.is_retold |= is_another;
        // Its count began anew, so what was asked for was the wrong part of its story.
        self.asks_again = is_another && std::mem::take(&mut self.after) > 0;
        if self.asks_again {
            return Vec::new();
        }
        let mut new = Vec::new();
        for line in lines {
            self.after = self.after.max(line.sequence);
            let is_new = self.told.insert(line.text.clone());
            if is_new || !self.is_retold {
                new.push(format!("{:>8}  {}", render::millis(line.at_ms), line.text));
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[(u64, &str)]) -> Vec<ProgressLine> {
        let line = |(sequence, text): &(u64, &str)| ProgressLine {
            sequence: *sequence,
            at_ms: 300,
            text: (*text).into(),
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn another_agent_is_heard_from_its_beginning_and_repeats_nothing() {
        let mut story = Story::default();
        assert_eq!(
            story.hear(1, &lines(&[(1, "copied"), (2, "started")])),
            ["   0.3 s  copied", "   0.3 s  started"]
        );
        assert_eq!(story.after, 2);
        assert!(story.hear(2, &lines(&[(3, "ready")])).is_empty());
        assert_eq!((story.after, story.asks_again), (0, true));
        assert_eq!(story.wait_ms(), 0, "the new agent may have nothing to tell and no news either");
        assert_eq!(
            story.hear(2, &lines(&[(1, "goes on"), (2, "started"), (3, "ready")])),
            ["   0.3 s  goes on", "   0.3 s  ready"]
        );
        assert_eq!((story.after, story.asks_again), (3, false));
    }

    #[test]
    fn one_agent_may_say_the_same_twice() {
        let mut story = Story::default();
        let said = story.hear(1, &lines(&[(1, "exited, restarts"), (2, "exited, restarts")]));
        assert_eq!(said.len(), 2);
    }
}
