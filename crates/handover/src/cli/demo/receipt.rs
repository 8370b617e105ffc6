//! What the demo ends with: what it cost, step by step.

use std::time::Duration;

use serde::Serialize;

use super::load::Tally;
use crate::cli::render::{self, Cell, Style, Table};

/// Everything, as `--json` prints it.
#[derive(Debug, Serialize)]
pub(super) struct Receipt {
    /// Requests sent, each once.
    pub(super) requests: u64,
    /// Of these without a whole and right answer.
    pub(super) lost: u64,
    /// Longest time from a request to the end of its answer.
    pub(super) longest_stall_ms: u64,
    /// How long requests were sent.
    pub(super) load_ms: u64,
    /// How many sent them.
    pub(super) clients: usize,
    /// The first losses.
    pub(super) losses: Vec<String>,
    /// In their order.
    pub(super) steps: Vec<StepReceipt>,
}

/// One step.
#[derive(Debug, Serialize)]
pub(super) struct StepReceipt {
    pub(super) step: &'static str,
    /// As a person would type it; empty where nothing is typed.
    pub(super) command: &'static str,
    pub(super) outcome: String,
    /// Until it was done, without the pause after it.
    pub(super) took_ms: u64,
    pub(super) requests: u64,
    pub(super) lost: u64,
    pub(super) longest_stall_ms: u64,
}

impl StepReceipt {
    pub(super) fn new(
        step: &'static str,
        command: &'static str,
        took: Duration,
        tally: &Tally,
        outcome: String,
    ) -> Self {
        Self {
            step,
            command,
            outcome,
            took_ms: millis(took),
            requests: tally.requests,
            lost: tally.lost,
            longest_stall_ms: millis(tally.longest),
        }
    }
}

impl Receipt {
    pub(super) fn new(tally: &Tally, steps: Vec<StepReceipt>) -> Self {
        Self {
            requests: tally.requests,
            lost: tally.lost,
            longest_stall_ms: millis(tally.longest),
            load_ms: millis(tally.lasted),
            clients: super::load::CLIENTS,
            losses: tally.described.clone(),
            steps,
        }
    }

    /// For people.
    pub(super) fn text(&self, colour: bool) -> String {
        let loss =
            |lost: u64| Cell::new(render::count(lost), if lost == 0 { Style::Green } else { Style::Red });
        let mut table = Table::new(&["STEP", "TOOK", "REQUESTS", "LOST", "LONGEST STALL"]);
        for step in &self.steps {
            table.row([
                step.step.into(),
                if step.command.is_empty() { "".into() } else { render::millis(step.took_ms).into() },
                render::count(step.requests).into(),
                loss(step.lost),
                render::millis(step.longest_stall_ms).into(),
            ]);
        }
        table.row([
            Cell::new("all", Style::Bold),
            render::millis(self.load_ms).into(),
            Cell::new(render::count(self.requests), Style::Bold),
            loss(self.lost),
            render::millis(self.longest_stall_ms).into(),
        ]);
        let mut text = format!("\n{}", table.render(colour));
        let requests = render::counted(self.requests, "request");
        let verdict = match self.lost {
            0 => format!("{requests}, none lost"),
            lost => format!("{requests}, {} lost", render::count(lost)),
        };
        let style = if self.lost == 0 { Style::Green } else { Style::Red };
        text.push_str(&format!("\n{}\n", render::styled(&verdict, style, colour)));
        text.push_str(&render::quoted(&self.losses));
        text
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receipt_says_first_of_all_what_was_lost() {
        let tally = |lost| Tally {
            requests: 1_204,
            lost,
            longest: Duration::from_millis(12),
            lasted: Duration::from_secs(11),
            described: Vec::new(),
        };
        let step = |tally: &Tally| {
            StepReceipt::new("deploy v2", "handover deploy", Duration::from_millis(400), tally, String::new())
        };
        let text = Receipt::new(&tally(0), vec![step(&tally(0))]).text(false);
        assert_eq!(
            text,
            "\n\
             STEP       TOOK   REQUESTS  LOST  LONGEST STALL\n\
             deploy v2  0.4 s  1,204     0     12 ms\n\
             all        11 s   1,204     0     12 ms\n\
             \n\
             1,204 requests, none lost\n"
        );
        let text = Receipt::new(&tally(2), Vec::new()).text(false);
        assert!(text.ends_with("\n1,204 requests, 2 lost\n"), "{text}");
    }
}
