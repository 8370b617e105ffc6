//! Follows a rollout to its end, whichever agent tells the story.
//!
//! ```text
//!   ask after line N ──► lines, state ──► print ──► ask after line M …
//!        ▲                                 │
//!        └── another agent: from line 0, and only what was not printed yet
//! ```
//! Leaving (Ctrl-C) changes nothing: the rollout is the agent's.

use std::future::Future;
use std::time::Duration;

use admin::api::{Phase, Progress, RolloutReport, ServiceReport};
use tokio::time::{Instant, MissedTickBehavior};

use super::Client;
use super::story::Story;
use crate::cli::Failure;
use crate::cli::render::{self, Style};
use crate::exit_code::Code;

/// Between two looks of the line that changes.
pub(super) const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Widest line that is redrawn: one that wraps could not be.
const LIVE_COLUMNS_MAX: usize = 78;
/// Takes a line that is redrawn away again.
const ERASE_LINE: &str = "\r\x1b[K";

/// How far a rollout is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// Promoted with the old release unrouted, or final.
    Decided,
    /// Final.
    Final,
}

impl Until {
    fn is_reached(self, progress: &Progress) -> bool {
        // A promoted release that is being left again is not decided before it is left.
        let is_decided = progress.decided && progress.rollout.phase != Phase::RollingBack;
        progress.is_final || (self == Self::Decided && is_decided)
    }
}

/// How following ended.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Where it was followed to.
    Reached(Box<Progress>),
    /// Ctrl-C: it goes on by itself.
    Left,
}

/// Where the story is told.
#[derive(Debug)]
pub(crate) struct Screen {
    /// A terminal: the present state is a line that changes.
    pub(crate) live: bool,
    /// Colour.
    pub(crate) colour: bool,
    /// Nothing at all is printed.
    pub(crate) quiet: bool,
    is_drawn: bool,
    #[cfg(test)]
    pub(in crate::cli) shown: String,
}

impl Screen {
    /// A screen; `quiet` tells nothing.
    pub(crate) fn new(live: bool, colour: bool, quiet: bool) -> Self {
        Self {
            live: live && !quiet,
            colour,
            quiet,
            is_drawn: false,
            #[cfg(test)]
            shown: String::new(),
        }
    }

    /// Prints a line that stays.
    pub(crate) fn line(&mut self, text: &str) {
        if self.quiet {
            return;
        }
        self.erase();
        self.put(&format!("{text}\n"));
    }

    /// Prints the line that changes.
    pub(crate) fn draw(&mut self, text: &str) {
        if self.live {
            let text = styled_cut(text, self.colour);
            self.put(&format!("{ERASE_LINE}{text}"));
            self.is_drawn = true;
        }
    }

    /// Takes the line that changes away.
    pub(crate) fn erase(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            self.put(ERASE_LINE);
        }
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests keep what is shown")]
    fn put(&mut self, text: &str) {
        render::print(text);
    }

    #[cfg(test)]
    fn put(&mut self, text: &str) {
        self.shown.push_str(text);
    }
}

fn styled_cut(text: &str, colour: bool) -> String {
    render::styled(&render::cut(text, LIVE_COLUMNS_MAX), Style::Dim, colour)
}

/// Follows rollout `id` of `service`; `interrupted` ends it early.
pub(crate) async fn follow(
    client: &Client,
    service: &str,
    id: u64,
    until: Until,
    screen: &mut Screen,
    interrupted: impl Future<Output = ()>,
) -> Result<Ending, Failure> {
    let mut told = Told::default();
    tokio::pin!(interrupted);
    let mut redraw = tokio::time::interval(REDRAW_INTERVAL);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    loop {
        let progress = {
            let answer = next(client, service, id, &told);
            tokio::pin!(answer);
            loop {
                tokio::select! {
                    answer = &mut answer => break answer,
                    _ = redraw.tick() => screen.draw(&told.present(began.elapsed())),
                    () = &mut interrupted => {
                        screen.erase();
                        return Ok(Ending::Left);
                    }
                }
            }
        };
        let progress = progress.map_err(|failure| {
            screen.erase();
            match &told.last {
                Some(last) => {
                    let what = format!("the rollout of {service} to {}", last.rollout.version);
                    client.stopped_meanwhile(failure, &what)
                }
                None => failure,
            }
        })?;
        for line in told.hear(&progress) {
            screen.line(&line);
        }
        if until.is_reached(&progress) && !told.story.asks_again {
            screen.erase();
            return Ok(Ending::Reached(Box::new(progress)));
        }
    }
}

async fn next(client: &Client, service: &str, id: u64, told: &Told) -> Result<Progress, Failure> {
    let wait_ms = told.story.wait_ms();
    let mut path =
        format!("/v1/services/{service}/rollouts/{id}?after={}&wait_ms={wait_ms}", told.story.after);
    if let Some(last) = &told.last {
        path.push_str("&state=");
        path.push_str(&last.state());
    }
    match client.get_waiting(&path, Duration::from_millis(wait_ms)).await {
        Err(failure) if failure.code == Code::NoSuch => forgotten(client, service, id).await,
        answer => answer,
    }
}

/// A new agent may know of an old rollout only how it ended.
async fn forgotten(client: &Client, service: &str, id: u64) -> Result<Progress, Failure> {
    let status = client.status().await?;
    match status.services.get(service).and_then(|service| find(service, id)) {
        Some((rollout, is_final)) => Ok(Progress {
            decided: is_final || rollout.phase == Phase::Baking,
            rollout: rollout.clone(),
            is_final,
            agent: status.processes.agent.pid,
            ..Progress::default()
        }),
        None => Err(Failure::new(
            Code::Failed,
            format_args!("the agent no longer knows rollout {id} of {service}: others came after it"),
        )
        .with_hint(format_args!("see what runs now: `handover status {service}{}`", client.option()))),
    }
}

fn find(service: &ServiceReport, id: u64) -> Option<(&RolloutReport, bool)> {
    let running = service.rollout.as_ref().map(|rollout| (rollout, false));
    let last = service.last_rollout.as_ref().map(|rollout| (rollout, true));
    running.into_iter().chain(last).find(|(rollout, _)| rollout.id == id)
}

/// What was heard of a rollout.
#[derive(Debug, Default)]
struct Told {
    story: Story,
    last: Option<Progress>,
}

impl Told {
    fn hear(&mut self, progress: &Progress) -> Vec<String> {
        self.last = Some(progress.clone());
        self.story.hear(progress.agent, &progress.lines)
    }

    /// The present state in one line.
    fn present(&self, elapsed: Duration) -> String {
        let Some(Progress { rollout, .. }) = &self.last else {
            return format!("{:>8}  …", render::duration(elapsed));
        };
        let mut text = format!("{:>8}  {}", render::duration(elapsed), rollout.phase);
        if rollout.weight_percent > 0 && rollout.weight_percent < 100 {
            text.push_str(&format!(" at {} %", rollout.weight_percent));
        }
        if let Some(waiting_on) = &rollout.waiting_on {
            text.push_str(" · ");
            text.push_str(waiting_on);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promoted_release_that_is_being_left_is_followed_on() {
        let mut progress = Progress { decided: true, ..Progress::default() };
        for (phase, is_reached) in [(Phase::Baking, true), (Phase::RollingBack, false)] {
            progress.rollout.phase = phase;
            assert_eq!(Until::Decided.is_reached(&progress), is_reached);
            assert!(!Until::Final.is_reached(&progress));
        }
    }

    #[test]
    fn the_line_that_changes_is_taken_away_before_a_line_that_stays() {
        let mut screen = Screen::new(true, false, false);
        screen.draw("   0.1 s  starting");
        screen.line("ready");
        screen.line("routed");
        assert_eq!(screen.shown, "\r\x1b[K   0.1 s  starting\r\x1b[Kready\nrouted\n");
        let mut plain = Screen::new(false, false, false);
        plain.draw("unseen");
        plain.line("ready");
        assert_eq!(plain.shown, "ready\n");
        let mut quiet = Screen::new(true, true, true);
        quiet.draw("unseen");
        quiet.line("unseen");
        assert_eq!(quiet.shown, "");
    }
}
