//! `handover demo`: the whole promise on one machine, with nothing but this binary.
//!
//! ```text
//! folder, manifest ─► up ─► load begins ─► deploy, bad deploy, rollback, kills ─► load ends ─► down ─► receipt
//!      └──────────────── Ctrl-C, or a step that went wrong ────────────────────────────────► down, no folder
//! ```
//! It types the commands that a person would type. It decides nothing by itself: what it shows is what they say.

mod load;
mod receipt;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use admin::api::{Phase, Progress};
use tokio::time::Instant;

use super::client::{self, Screen};
use super::deploy::print_json;
use super::render::{self, Style};
use super::{Failure, Global};
use crate::exit_code::Code;
use load::Load;
use receipt::{Receipt, StepReceipt};
use stage::{Role, Stage};

/// Requests go on this long after each step, so that what it may have broken is seen.
const PAUSE_AFTER_STEP: Duration = Duration::from_millis(1_500);
/// Between two looks of the line that changes.
const REDRAW_INTERVAL: Duration = Duration::from_millis(100);
/// Room for the time and a step's name.
const HEAD_COLUMNS: usize = 28;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It needs nothing but this binary, listens on free ports of 127.0.0.1 only, and leaves nothing behind.

Examples:
  handover demo                watch it
  handover demo --json         only the receipt, for programs; the exit code is 1 if one request failed")]
pub(crate) struct Args {
    /// Print the receipt as JSON, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs `handover demo`.
pub(crate) fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    global.refuse_admin("demo")?;
    if global.config.is_some() {
        return Err(Failure::new(Code::Usage, "`handover demo` has a manifest of its own")
            .with_hint("leave `-c` out"));
    }
    let screen = Screen::new(Global::out_is_terminal(), global.colour_out(), args.json);
    let receipt = client::block_on(demo(screen))?;
    if args.json {
        print_json(&receipt);
    } else {
        render::print(&receipt.text(global.colour_out()));
    }
    Ok(if receipt.lost == 0 { Code::Done } else { Code::Failed }.into())
}

/// Everything, and the tidying up after it, whatever became of it.
async fn demo(mut screen: Screen) -> Result<Receipt, Failure> {
    let mut stage = Stage::set()?;
    screen.line(&announcement(&stage, screen.colour));
    // Waited for before any thread is there: all that start later leave these signals to it.
    let played = tokio::select! {
        biased;
        () = client::interrupted() => None,
        played = play(&mut stage, &mut screen) => Some(played),
    };
    screen.erase();
    if played.as_ref().is_none_or(Result::is_err) {
        screen.line("stopping everything …");
    }
    stage.clear().await?;
    let interrupted = "interrupted; everything of the demo is stopped and removed";
    played.unwrap_or_else(|| Err(Failure::new(Code::Interrupted, interrupted)))
}

fn announcement(stage: &Stage, colour: bool) -> String {
    let folder = stage.folder().display();
    let head = "handover demo: replaces and kills what runs under a steady load, and counts what was lost";
    let clients = load::CLIENTS;
    format!(
        "{}\n\n  \
         It starts Handover and two instances of a sample service, sends requests through it from {clients} clients\n  \
         that check every answer and never retry, deploys v2, a v3 that fails to start, and v4, goes back from v4,\n  \
         kills -9 Handover's own agent and holder, and prints the receipt. About 20 seconds; Ctrl-C ends it early.\n  \
         Nothing stays behind: all it writes is in {folder}.\n",
        render::styled(head, Style::Bold, colour)
    )
}

/// What has been done under load so far.
struct Play<'s> {
    stage: &'s mut Stage,
    screen: &'s mut Screen,
    load: Load,
    began: Instant,
    steps: Vec<StepReceipt>,
}

/// How a step went, for people: what happened, and what else it said.
struct Outcome {
    text: String,
    more: String,
}

impl From<String> for Outcome {
    fn from(text: String) -> Self {
        Self { text, more: String::new() }
    }
}

/// The acts in their order. One that replaces Handover itself would be one more of them.
async fn play(stage: &mut Stage, screen: &mut Screen) -> Result<Receipt, Failure> {
    let began = Instant::now();
    let address = waiting(screen, began, "up", stage.up()).await?;
    tell(screen, began, "up", &format!("two instances of v1 answer at http://{address}").into());
    let load = Load::start(address)?;
    let mut play = Play { stage, screen, load, began, steps: Vec::new() };
    play.act("steady load", "", steady).await?;
    play.act("deploy v2", "handover deploy hello --release releases/v2", deploy_v2).await?;
    play.act("deploy v3 (broken)", "handover deploy hello --release releases/v3", deploy_v3).await?;
    play.act("deploy v4", "handover deploy hello --release releases/v4", deploy_v4).await?;
    play.act("rollback", "handover rollback hello", rollback).await?;
    play.act("kill -9 agent", "kill -9 AGENT", kill_agent).await?;
    play.act("kill -9 holder", "kill -9 HOLDER", kill_holder).await?;
    let Play { stage, screen, load, steps, .. } = play;
    let tally = load.end();
    waiting(screen, began, "down", stage.down()).await?;
    tell(screen, began, "down", &"everything has stopped".to_owned().into());
    Ok(Receipt::new(&tally, steps))
}

impl Play<'_> {
    /// One act, and a while of requests after it.
    async fn act<F>(&mut self, name: &'static str, command: &'static str, deed: F) -> Result<(), Failure>
    where
        F: AsyncFnOnce(&mut Stage) -> Result<Outcome, Failure>,
    {
        let act_began = Instant::now();
        let outcome = self.during(name, async |stage| deed(stage).await).await?;
        let took = act_began.elapsed();
        tell(self.screen, self.began, name, &outcome);
        let pause = async |_: &mut Stage| {
            tokio::time::sleep(PAUSE_AFTER_STEP).await;
            Ok(())
        };
        self.during("requests go on", pause).await?;
        let tally = self.load.since_last();
        self.steps.push(StepReceipt::new(name, command, took, &tally, outcome.text));
        Ok(())
    }

    /// Waits with a line that changes.
    async fn during<T, F>(&mut self, name: &str, deed: F) -> Result<T, Failure>
    where
        F: AsyncFnOnce(&mut Stage) -> Result<T, Failure>,
    {
        let deed = deed(self.stage);
        tokio::pin!(deed);
        let mut redraw = tokio::time::interval(REDRAW_INTERVAL);
        loop {
            tokio::select! {
                done = &mut deed => return done,
                _ = redraw.tick() => {
                    let (requests, lost) = self.load.so_far();
                    let sent = render::counted(requests, "request");
                    let head = head(self.began, name);
                    self.screen.draw(&format!("{head:<HEAD_COLUMNS$}  {sent}, {} lost", render::count(lost)));
                }
            }
        }
    }
}

/// Waits for what happens without load, with a line that changes.
async fn waiting<T>(
    screen: &mut Screen,
    began: Instant,
    name: &str,
    deed: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::pin!(deed);
    let mut redraw = tokio::time::interval(REDRAW_INTERVAL);
    loop {
        tokio::select! {
            done = &mut deed => return done,
            _ = redraw.tick() => screen.draw(&head(began, name)),
        }
    }
}

fn head(began: Instant, name: &str) -> String {
    format!("{:>8}  {name}", render::duration(began.elapsed()))
}

fn tell(screen: &mut Screen, began: Instant, name: &str, outcome: &Outcome) {
    screen.line(&format!("{:<HEAD_COLUMNS$}  {}", head(began, name), outcome.text));
    if !outcome.more.is_empty() {
        screen.line(outcome.more.trim_end());
    }
}

async fn steady(_: &mut Stage) -> Result<Outcome, Failure> {
    Ok(format!("{} clients send one request after another", load::CLIENTS).into())
}

async fn deploy_v2(stage: &mut Stage) -> Result<Outcome, Failure> {
    promoted(stage, "v2").await
}

async fn deploy_v4(stage: &mut Stage) -> Result<Outcome, Failure> {
    promoted(stage, "v4").await
}

async fn kill_agent(stage: &mut Stage) -> Result<Outcome, Failure> {
    killed(stage, Role::Agent).await
}

async fn kill_holder(stage: &mut Stage) -> Result<Outcome, Failure> {
    killed(stage, Role::Holder).await
}

async fn promoted(stage: &mut Stage, version: &str) -> Result<Outcome, Failure> {
    let (code, progress) = stage.deploy(version).await?;
    let rollout = &progress.rollout;
    if code != Code::Done {
        return Err(unexpected(&format!("deploying {version}"), &progress));
    }
    let switched = rollout.receipt.switched_after_ms.map_or_else(
        || "all traffic has moved".to_owned(),
        |ms| format!("all traffic moved {} after the command", render::millis(ms)),
    );
    Ok(format!("{version} serves; {switched}").into())
}

async fn deploy_v3(stage: &mut Stage) -> Result<Outcome, Failure> {
    let (code, progress) = stage.deploy("v3").await?;
    let rollout = &progress.rollout;
    if code != Code::RolledBack {
        return Err(unexpected("deploying v3, which cannot start,", &progress));
    }
    let reason = rollout.reason.as_deref().unwrap_or("it did not get ready");
    let text = format!("exit code 3, {} serves on: {reason}", rollout.from.as_deref().unwrap_or("v2"));
    let last = rollout.output.len().saturating_sub(1);
    Ok(Outcome { text, more: render::quoted(&rollout.output[last..]) })
}

async fn rollback(stage: &mut Stage) -> Result<Outcome, Failure> {
    let progress = stage.rollback().await?;
    let rollout = &progress.rollout;
    if rollout.version != "v2" || matches!(rollout.phase, Phase::Failed | Phase::RolledBack) {
        return Err(unexpected("going back to v2", &progress));
    }
    let after = rollout.receipt.rolled_back_after_ms.or(rollout.receipt.switched_after_ms);
    let after = after.map_or_else(String::new, |ms| format!(", {} after the decision", render::millis(ms)));
    Ok(format!("v2 serves again{after}").into())
}

async fn killed(stage: &mut Stage, role: Role) -> Result<Outcome, Failure> {
    let (old, new, after) = stage.kill(role).await?;
    let after = render::duration(after);
    Ok(format!("{} {old} is gone; {new} took its place within {after}", role.name()).into())
}

fn unexpected(what: &str, progress: &Progress) -> Failure {
    let rollout = &progress.rollout;
    let mut text = format!("{what} ended as `{}`", rollout.phase);
    if let Some(reason) = &rollout.reason {
        text.push_str(": ");
        text.push_str(reason);
    }
    text.push('\n');
    text.push_str(&render::quoted(&rollout.output));
    Failure::new(Code::Failed, text.trim_end())
}
