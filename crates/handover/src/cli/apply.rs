//! `handover apply`: makes a changed manifest true, after showing what that does.
//!
//! ```text
//! check ─► plan ─► table ─► y/N ─► apply ─► follow every rollout and operation that it began
//! ```
//! What it begins belongs to the agent: nothing here stops it, and nothing is lost when this process ends.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::ExitCode;

use admin::api::{ApplyReport, Begun, Effect, ManifestBody, ManifestReport, Phase, StatusReport};
use host::paths::Layout;

use super::client::{self, Client, Ending, Posted, Screen, Until, follow, follow_operation};
use super::render::{self, Style};
use super::{Failure, Global, changes, deploy, operate, plan};
use crate::config;
use crate::exit_code::Code;

/// Arguments of `apply`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file is compared with the manifest that was applied last, key by key. A key that was not edited keeps what
`deploy`, `scale` and `stop` have set since. A change of a program is a rollout; everything else holds at once.

Examples:
  handover plan                what would change, and nothing is
  handover apply               show it, ask, do it, and follow
  handover apply --yes         without asking, for scripts")]
pub(crate) struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Return as soon as it is accepted
    #[arg(long)]
    no_wait: bool,
}

/// Runs `handover apply`.
pub(crate) fn run(args: &Args, global: &Global) -> Result<ExitCode, Failure> {
    let loaded = super::load_manifest(global)?;
    super::count_warnings(&loaded);
    let client = Client::find(global)?;
    let mut screen = Screen::new(Global::out_is_terminal(), global.colour_out(), false);
    let body = changes::body(&loaded);
    // Asked before the one thread waits for signals, so that Ctrl-C ends the question as people expect.
    let plan = client::block_on(plan::of_apply(&client, &body))?;
    if plan.changes.is_empty() {
        screen.line("the manifest says what was applied last: nothing to do");
        return Ok(Code::Done.into());
    }
    screen.line(&changes::table(&plan.changes, screen.colour));
    if plan.changes.iter().any(|change| change.effect == Effect::Refused) {
        return Err(Failure::new(
            Code::Failed,
            "nothing was applied: some keys cannot be changed in what runs",
        )
        .with_hint("put these keys back to what they were, or `handover down` and `handover up`"));
    }
    if !args.yes {
        confirm()?;
    }
    client::block_on(async {
        let report = apply(&client, &body).await?;
        if args.no_wait {
            screen.line(&begun(&report, &client.option()));
            return Ok(Code::Done.into());
        }
        let ended = follow_all(&client, &report, &mut screen).await?;
        if ended == Code::Done {
            screen.line(&render::styled("applied", Style::Green, screen.colour));
        }
        Ok(ended.into())
    })
}

fn confirm() -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Err(Failure::new(Code::Usage, "nothing was applied: there is no terminal to ask at")
            .with_hint("say that you have seen what it does: `handover apply --yes`"));
    }
    render::print("apply this? [y/N] ");
    let mut answer = String::new();
    // An answer that cannot be read is none.
    let _ = std::io::stdin().lock().read_line(&mut answer);
    if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Code::Failed, "nothing was applied"))
}

/// Makes it true once, whatever breaks on the way.
async fn apply(client: &Client, body: &ManifestBody) -> Result<ApplyReport, Failure> {
    let before = client.status().await?;
    let deadline = client.deadline();
    let mut is_repeated = false;
    loop {
        match client.post::<_, ApplyReport>("/v1/apply", body).await? {
            // A second look at what was applied already names no rollouts.
            Posted::Answered(report) if is_repeated && report.rollouts.is_empty() => {
                let rollouts = begun_since(&before, &client.status().await?, body.actor.as_deref());
                return Ok(ApplyReport { rollouts, ..report });
            }
            Posted::Answered(report) => return Ok(report),
            Posted::Unknown(why) => client.pause_until_retry(deadline, &why).await?,
        }
        is_repeated = true;
    }
}

/// Rollouts that this actor has begun since.
fn begun_since(before: &StatusReport, now: &StatusReport, actor: Option<&str>) -> Vec<Begun> {
    let newest = |service: &str| deploy::newest_rollout(before, service);
    now.services
        .keys()
        .flat_map(|service| deploy::rollouts(now, service).map(move |rollout| (service, rollout)))
        .filter(|(service, rollout)| rollout.id > newest(service) && Some(rollout.actor.as_str()) == actor)
        .map(|(service, rollout)| Begun { service: service.clone(), id: rollout.id })
        .collect()
}

fn begun(report: &ApplyReport, option: &str) -> String {
    let number = |id: &Begun| format!("{} ({})", id.service, id.id);
    let named: Vec<String> = report.rollouts.iter().chain(&report.operations).map(number).collect();
    if named.is_empty() {
        return "applied".to_owned();
    }
    format!("accepted; under way: {}; watch it with `handover status{option}`", named.join(", "))
}

/// Follows what was begun, one after another: they run side by side.
async fn follow_all(client: &Client, report: &ApplyReport, screen: &mut Screen) -> Result<Code, Failure> {
    let mut worst = Code::Done;
    let are_several = report.rollouts.len() + report.operations.len() > 1;
    let name = |service: &str, screen: &mut Screen| {
        if are_several {
            screen.line(&render::styled(service, Style::Bold, screen.colour));
        }
    };
    for Begun { service, id } in &report.rollouts {
        name(service, screen);
        let ending = follow(client, service, *id, Until::Decided, screen, client::interrupted()).await?;
        let Ending::Reached(progress) = ending else { return Err(deploy::left(client, service)) };
        match deploy::code(&progress.rollout) {
            Code::Done => {
                let head = format!("{service} is at {} now", progress.rollout.version);
                screen.line(&render::styled(&head, Style::Green, screen.colour));
            }
            code => {
                // All of them are told; the exit code is that of the worst.
                deploy::undone(service, &progress.rollout, code, client).say_on(screen);
                worst = if worst == Code::Failed { worst } else { code };
            }
        }
    }
    for Begun { service, id } in &report.operations {
        name(service, screen);
        let ended = follow_operation(client, service, *id, screen, client::interrupted()).await?;
        let Some(progress) = ended else { return Err(operate::left(client, service, "change")) };
        if let Err(failure) = operate::outcome(client, service, progress.kind.as_str(), &progress) {
            failure.say_on(screen);
            worst = Code::Failed;
        }
    }
    Ok(worst)
}

/// `internal apply`: the manifest at the path where it was read last. How it ended, one sentence.
pub(crate) fn recorded(layout: Layout) -> Result<String, Failure> {
    let client = Client::at(layout.clone());
    client::block_on(async {
        let ManifestReport { path } = client.get("/v1/manifest").await?;
        let loaded = config::load(path.as_ref()).map_err(|error| Failure::new(Code::Usage, error))?;
        if loaded.manifest.state_dir != layout.state_dir {
            let message =
                format!("{path} names another state_dir now: {}", loaded.manifest.state_dir.display());
            return Err(Failure::new(Code::Usage, message));
        }
        // Services go on inheriting what they do: the environment here is nobody's.
        let body = ManifestBody { environment: None, actor: Some("SIGHUP".into()), ..changes::body(&loaded) };
        let plan = plan::of_apply(&client, &body).await?;
        if plan.changes.is_empty() {
            return Ok(format!("{path} says what was applied last: nothing to do"));
        }
        let report = apply(&client, &body).await?;
        let mut ends = Vec::new();
        for Begun { service, id } in &report.rollouts {
            let mut quiet = Screen::new(false, false, true);
            let never = std::future::pending();
            let ending = follow(&client, service, *id, Until::Decided, &mut quiet, never).await?;
            let Ending::Reached(progress) = ending else { continue };
            let rollout = &progress.rollout;
            ends.push(match rollout.phase {
                Phase::Failed | Phase::RolledBack => {
                    let reason = rollout.reason.as_deref().unwrap_or("it did not hold");
                    format!("{service} did not get to {}: {reason}", rollout.version)
                }
                _ => format!("{service} is at {}", rollout.version),
            });
        }
        let keys = render::counted(report.changes.len() as u64, "change");
        let ends = if ends.is_empty() { String::new() } else { format!("; {}", ends.join("; ")) };
        Ok(format!("{path} is applied: {keys}{ends}"))
    })
}

#[cfg(test)]
mod tests {
    use admin::api::{RolloutReport, ServiceReport};

    use super::*;
    use crate::cli::client::tests::{FakeAgent, Reply};

    fn status(id: u64) -> StatusReport {
        let rollout = RolloutReport { id, actor: "ann".into(), ..RolloutReport::default() };
        let mut status = StatusReport::default();
        let service = ServiceReport { rollout: Some(rollout), ..ServiceReport::default() };
        status.services.insert("web".into(), service);
        status
    }

    #[tokio::test]
    async fn the_rollouts_of_an_apply_whose_answer_was_lost_are_found_by_the_status() {
        let agent = FakeAgent::start(vec![
            Reply::json(200, &status(3)),
            Reply::HangUp,
            Reply::json(202, &ApplyReport::default()),
            Reply::json(200, &status(4)),
        ]);
        let body = ManifestBody { actor: Some("ann".into()), ..ManifestBody::default() };
        let report = apply(&agent.client, &body).await.unwrap();
        assert_eq!(report.rollouts, [Begun { service: "web".into(), id: 4 }]);
        let bodies = agent.bodies();
        assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]));
    }

    #[test]
    fn without_waiting_it_says_what_is_under_way() {
        assert_eq!(begun(&ApplyReport::default(), ""), "applied");
        let rollouts = vec![Begun { service: "web".into(), id: 4 }];
        let text = begun(&ApplyReport { rollouts, ..ApplyReport::default() }, " -c a.toml");
        assert_eq!(text, "accepted; under way: web (4); watch it with `handover status -c a.toml`");
    }
}
