//! `handover rollback`: back to the last good release, or out of a rollout that runs.
//!
//! A second rollback would go one release further back, so after a lost answer it is never repeated before the
//! status shows that nothing has begun.

use std::process::ExitCode;

use admin::api::{Accepted, Phase, Progress, RollbackBody, RolloutKind, RolloutReport, StatusReport};
use tokio::time::Instant;

use super::client::{self, Client, Ending, Posted, Screen, Until, follow};
use super::deploy::{known, newest_rollout, print_json, rollouts};
use super::render::{self, Style};
use super::{Failure, Global};
use crate::exit_code::Code;

/// Arguments of `rollback`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  handover rollback web        while a rollout runs: end it; else back to the last good release
  handover history web         what there is to go back to")]
#[command(visible_alias = "abort")]
pub(crate) struct Args {
    /// The service
    pub(crate) service: String,
    /// Print how it ended as JSON, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs `handover rollback`.
pub(crate) fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::find(global)?;
    let screen = Screen::new(Global::out_is_terminal(), global.colour_out(), args.json);
    client::block_on(rollback(&client, args, screen))
}

async fn rollback(client: &Client, args: Args, mut screen: Screen) -> Result<ExitCode, Failure> {
    let began = Instant::now();
    let before = client.status().await?;
    known(&before, &args.service, client)?;
    let body = RollbackBody { actor: Some(client::actor()), operation: Some(host::random::token()) };
    let accepted = start(client, &args.service, &body, &before).await?;
    let Some(id) = accepted.rollout else {
        return Err(Failure::new(Code::Failed, "the agent accepted the rollback but named no rollout"));
    };
    let interrupted = client::interrupted();
    let progress = match follow(client, &args.service, id, Until::Decided, &mut screen, interrupted).await? {
        Ending::Reached(progress) => progress,
        Ending::Left => return Err(left(client, &args.service)),
    };
    if args.json {
        print_json(&*progress);
        return Ok(if went_back(&progress.rollout).is_some() { Code::Done } else { Code::Failed }.into());
    }
    let took = progress
        .rollout
        .receipt
        .rolled_back_after_ms
        .map_or_else(|| began.elapsed(), std::time::Duration::from_millis);
    conclude(&args.service, &progress, &render::duration(took), screen.colour).map(|text| {
        render::print(&text);
        Code::Done.into()
    })
}

async fn start(
    client: &Client,
    service: &str,
    body: &RollbackBody,
    before: &StatusReport,
) -> Result<Accepted, Failure> {
    let path = format!("/v1/services/{service}/rollback");
    let deadline = client.deadline();
    loop {
        let why = match client.post(&path, body).await? {
            Posted::Answered(accepted) => return Ok(accepted),
            Posted::Unknown(why) => why,
        };
        let now = client.status().await?;
        if let Some(rollout) = begun(before, &now, service) {
            return Ok(Accepted { rollout: Some(rollout), ..Accepted::default() });
        }
        client.pause_until_retry(deadline, &why).await?;
    }
}

/// The rollout that takes the way back, where one has begun since `before`.
fn begun(before: &StatusReport, now: &StatusReport, service: &str) -> Option<u64> {
    let newest_before = newest_rollout(before, service);
    let was_going_back = |id| rollouts(before, service).any(|old| old.id == id && goes_back(old));
    rollouts(now, service)
        .find(|rollout| goes_back(rollout) && (rollout.id > newest_before || !was_going_back(rollout.id)))
        .map(|rollout| rollout.id)
}

fn goes_back(rollout: &RolloutReport) -> bool {
    rollout.kind == RolloutKind::Rollback || matches!(rollout.phase, Phase::RollingBack | Phase::RolledBack)
}

/// The release that serves now, where the way back was taken.
fn went_back(rollout: &RolloutReport) -> Option<&str> {
    match (rollout.kind, rollout.phase) {
        (RolloutKind::Rollback, Phase::RolledBack | Phase::Failed) => None,
        (RolloutKind::Rollback, _) => Some(&rollout.version),
        // A rollout that was ended: the release it came from serves as before.
        (_, Phase::RolledBack | Phase::Failed) => Some(rollout.from.as_deref().unwrap_or("no release")),
        _ => None,
    }
}

fn conclude(service: &str, progress: &Progress, took: &str, colour: bool) -> Result<String, Failure> {
    let rollout = &progress.rollout;
    if let Some(to) = went_back(rollout) {
        let text = format!("{service} is back at {to}, after {took}");
        return Ok(render::styled(&text, Style::Green, colour) + "\n");
    }
    let mut text = format!("{service} did not go back to {}", rollout.version);
    if rollout.kind != RolloutKind::Rollback {
        text = format!("{service} was not rolled back: {} was promoted meanwhile", rollout.version);
    }
    if let Some(reason) = &rollout.reason {
        text.push_str(": ");
        text.push_str(reason);
    }
    if !rollout.output.is_empty() {
        text.push_str("\nlast output of the instance that failed:\n");
        text.push_str(render::quoted(&rollout.output).trim_end());
    }
    Err(Failure::new(Code::Failed, text)
        .with_hint(format_args!("see what runs: `handover status {service}`")))
}

fn left(client: &Client, service: &str) -> Failure {
    Failure::new(
        Code::Interrupted,
        format_args!("left; the rollback of {service} goes on without this command"),
    )
    .with_hint(format_args!("watch it with `handover status {service}{}`", client.option()))
}

#[cfg(test)]
mod tests {
    use admin::api::ServiceReport;

    use super::*;
    use crate::cli::client::tests::{FakeAgent, Reply};

    fn rollout(id: u64, kind: RolloutKind, phase: Phase) -> RolloutReport {
        RolloutReport {
            id,
            kind,
            phase,
            version: "2".into(),
            from: Some("1".into()),
            ..RolloutReport::default()
        }
    }

    fn status(rollout: Option<RolloutReport>, last_rollout: Option<RolloutReport>) -> StatusReport {
        let mut status = StatusReport::default();
        status
            .services
            .insert("web".into(), ServiceReport { rollout, last_rollout, ..ServiceReport::default() });
        status
    }

    #[test]
    fn a_rollback_has_begun_when_something_goes_back_that_did_not() {
        let running = status(Some(rollout(3, RolloutKind::Deploy, Phase::Starting)), None);
        let aborting = status(Some(rollout(3, RolloutKind::Deploy, Phase::RollingBack)), None);
        let aborted = status(None, Some(rollout(3, RolloutKind::Deploy, Phase::RolledBack)));
        let back = status(Some(rollout(4, RolloutKind::Rollback, Phase::Starting)), None);
        assert_eq!(begun(&running, &running, "web"), None);
        assert_eq!(begun(&running, &aborting, "web"), Some(3));
        assert_eq!(begun(&running, &aborted, "web"), Some(3));
        assert_eq!(begun(&aborted, &aborted, "web"), None);
        assert_eq!(begun(&aborted, &back, "web"), Some(4));
    }

    #[test]
    fn the_end_names_the_release_that_serves_now() {
        let ended = |kind, phase| {
            let progress = Progress { rollout: rollout(4, kind, phase), ..Progress::default() };
            conclude("web", &progress, "20 ms", false)
        };
        assert_eq!(ended(RolloutKind::Rollback, Phase::Baking).unwrap(), "web is back at 2, after 20 ms\n");
        assert_eq!(ended(RolloutKind::Deploy, Phase::RolledBack).unwrap(), "web is back at 1, after 20 ms\n");
        assert_eq!(ended(RolloutKind::Rollback, Phase::Failed).unwrap_err().code, Code::Failed);
        assert_eq!(ended(RolloutKind::Deploy, Phase::Done).unwrap_err().code, Code::Failed);
    }

    #[tokio::test]
    async fn a_rollback_whose_answer_was_lost_is_not_taken_twice() {
        let before = status(None, Some(rollout(3, RolloutKind::Deploy, Phase::Done)));
        let now = status(Some(rollout(4, RolloutKind::Rollback, Phase::Starting)), None);
        let agent = FakeAgent::start(vec![Reply::HangUp, Reply::json(200, &now)]);
        let accepted = start(&agent.client, "web", &RollbackBody::default(), &before).await.unwrap();
        assert_eq!(accepted.rollout, Some(4));
        assert_eq!(agent.heard(), ["POST /v1/services/web/rollback", "GET /v1/status"]);
    }
}
