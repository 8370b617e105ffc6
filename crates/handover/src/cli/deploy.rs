//! `handover deploy`: starts a rollout, follows it, and says what it cost.
//!
//! ```text
//!  status ─► POST deploy ─► accepted ─► follow ─► promoted: receipt, 0 · rolled back: why, 3 · failed: why, 1
//!              │  ▲                        └────► Ctrl-C: it goes on, 130
//!    no answer ▼  │ not begun
//!           status ──► begun: follow
//! ```
//! The rollout belongs to the agent: nothing here stops it, and nothing is lost when this process ends.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use admin::api::{
    Accepted, DeployBody, Phase, Progress, RolloutKind, RolloutReport, ServiceReport, StatusReport,
};
use model::id::Version;
use serde::Serialize;

use super::client::{self, Client, Ending, Posted, Screen, Until, follow};
use super::render::{self, Style};
use super::{Failure, Global};
use crate::exit_code::Code;

/// Arguments of `deploy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The rollout goes on by itself: Ctrl-C, a closed terminal or a killed command leave it running.

Examples:
  handover plan web --release dist/web-1.5.0                       what it would do
  handover deploy web --release dist/web-1.5.0                     do it, and follow
  handover deploy web --release web.tar.gz --version 1.5.0         from an archive
  handover rollback web                                            and back")]
pub(crate) struct Args {
    /// The service
    pub(crate) service: String,
    /// The new release: a directory, an archive (.tar.gz, .tar.zst, .zip) or an executable
    #[arg(long, value_name = "PATH")]
    pub(crate) release: PathBuf,
    /// Its version; without it the release's name and the beginning of its content's hash
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<Version>,
    /// Return as soon as the rollout is accepted
    #[arg(long, conflicts_with = "wait_bake")]
    pub(crate) no_wait: bool,
    /// Wait until the old release is no longer kept warm
    #[arg(long)]
    pub(crate) wait_bake: bool,
    /// End a running rollout of the service first
    #[arg(long)]
    pub(crate) replace: bool,
    /// Although this release has failed before
    #[arg(long)]
    pub(crate) force: bool,
    /// Print how it ended as JSON, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

/// Runs `handover deploy`.
pub(crate) fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::find(global)?;
    let screen = Screen::new(Global::out_is_terminal(), global.colour_out(), args.json);
    client::block_on(deploy(&client, args, screen))
}

async fn deploy(client: &Client, args: Args, mut screen: Screen) -> Result<ExitCode, Failure> {
    let source = absolute(&args.release)?;
    let before = client.status().await?;
    known(&before, &args.service, client)?;
    // Made here and not by the agent: the content of a large release takes its time.
    let version = args.version.clone().map_or_else(|| version_of(&args.release), Ok)?;
    let body = DeployBody {
        source,
        version: Some(version.to_string()),
        replace: args.replace,
        force: args.force,
        actor: Some(client::actor()),
        operation: Some(host::random::token()),
    };
    let accepted = start(client, &args.service, &body, &before).await?;
    if let Some(warning) = &accepted.warning {
        screen.line(&styled_note("warning:", warning, screen.colour));
    }
    let Some(id) = accepted.rollout else {
        return Ok(nothing_to_do(&args, &accepted, &screen));
    };
    if args.no_wait {
        if args.json {
            print_json(&accepted);
        } else {
            let service = &args.service;
            let option = client.option();
            render::print(&format!(
                "rollout {id} of {service} has begun; watch it with `handover status {service}{option}`\n"
            ));
        }
        return Ok(Code::Done.into());
    }
    let until = if args.wait_bake { Until::Final } else { Until::Decided };
    let interrupted = client::interrupted();
    match follow(client, &args.service, id, until, &mut screen, interrupted).await? {
        Ending::Reached(progress) => conclude(client, &args, &progress, &mut screen).await,
        Ending::Left => Err(left(client, &args.service)),
    }
}

/// The version of a release that is given none: its name and the beginning of a hash of its content.
pub(super) fn version_of(release: &Path) -> Result<Version, Failure> {
    let release = release.canonicalize().map_err(|error| unreadable(release, &error))?;
    drivers::store::release::derived_version(&release)
        .map_err(|error| Failure::new(Code::Failed, error).with_hint("name a version with `--version`"))
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::Failed, format_args!("the release {} cannot be read: {why}", path.display())).with_hint(
        "`--release` names a directory with the program in it, an archive of one (.tar.gz, .tar.zst, .zip), or an \
         executable, on this machine",
    )
}

/// The release's path as the agent can use it, whatever its working directory.
pub(super) fn absolute(path: &Path) -> Result<String, Failure> {
    let absolute = path.canonicalize().map_err(|error| unreadable(path, &error))?;
    absolute.into_os_string().into_string().map_err(|_path| unreadable(path, &"its path is not Unicode"))
}

/// The service, or the failure that names the nearest one.
pub(super) fn known<'s>(
    status: &'s StatusReport,
    service: &str,
    client: &Client,
) -> Result<&'s ServiceReport, Failure> {
    if let Some(report) = status.services.get(service) {
        return Ok(report);
    }
    let failure = Failure::new(Code::NoSuch, format_args!("there is no service `{service}`"));
    let names = status.services.keys().map(String::as_str);
    Err(match crate::config::nearest::nearest(service, names) {
        Some(nearest) => failure.with_hint(format_args!("did you mean `{nearest}`?")),
        None => failure.with_hint(format_args!("see which there are: `handover status{}`", client.option())),
    })
}

/// Starts the rollout once, whatever breaks on the way.
async fn start(
    client: &Client,
    service: &str,
    body: &DeployBody,
    before: &StatusReport,
) -> Result<Accepted, Failure> {
    let path = format!("/v1/services/{service}/deploy");
    let newest_before = newest_rollout(before, service);
    let deadline = client.deadline();
    loop {
        let why = match client.post(&path, body).await? {
            Posted::Answered(accepted) => return Ok(accepted),
            Posted::Unknown(why) => why,
        };
        // The agent died, or looked so, after it may have begun: a new one knows of the rollout by its record.
        let now = client.status().await?;
        if let Some(ours) = begun(&now, service, body, newest_before) {
            return Ok(Accepted {
                rollout: Some(ours.id),
                version: Some(ours.version.clone()),
                ..Accepted::default()
            });
        }
        client.pause_until_retry(deadline, &why).await?;
    }
}

/// Id of the newest rollout that a status tells of.
pub(super) fn newest_rollout(status: &StatusReport, service: &str) -> u64 {
    rollouts(status, service).map(|rollout| rollout.id).max().unwrap_or(0)
}

/// Rollouts that a status tells of.
pub(super) fn rollouts<'s>(
    status: &'s StatusReport,
    service: &str,
) -> impl Iterator<Item = &'s RolloutReport> {
    status
        .services
        .get(service)
        .into_iter()
        .flat_map(|service| service.rollout.iter().chain(&service.last_rollout))
}

fn begun<'s>(
    status: &'s StatusReport,
    service: &str,
    body: &DeployBody,
    newest_before: u64,
) -> Option<&'s RolloutReport> {
    let version = body.version.as_deref().or_else(|| Path::new(&body.source).file_name()?.to_str())?;
    rollouts(status, service).find(|rollout| {
        // `1.4.1` may have become `1.4.1+c2`.
        let is_version = rollout.version.split('+').next() == Some(version);
        rollout.id > newest_before && is_version && body.actor.as_deref() == Some(rollout.actor.as_str())
    })
}

fn nothing_to_do(args: &Args, accepted: &Accepted, screen: &Screen) -> ExitCode {
    if args.json {
        print_json(accepted);
    } else {
        let version = accepted.version.as_deref().unwrap_or("that release");
        let text = format!("{} is at {version} already: nothing to do\n", args.service);
        render::print(&render::styled(&text, Style::Green, screen.colour));
    }
    Code::Done.into()
}

async fn conclude(
    client: &Client,
    args: &Args,
    progress: &Progress,
    screen: &mut Screen,
) -> Result<ExitCode, Failure> {
    if args.json {
        print_json(progress);
        return Ok(code(&progress.rollout).into());
    }
    match code(&progress.rollout) {
        Code::Done if progress.rollout.from.as_ref() == Some(&progress.rollout.version) => {
            let text = format!("{} is at {} already: nothing to do", args.service, progress.rollout.version);
            screen.line(&render::styled(&text, Style::Green, screen.colour));
            Ok(Code::Done.into())
        }
        Code::Done => {
            // What stays warm is worth a question, but no failure: the deploy is done.
            let status = client.status().await.ok();
            let service = status.as_ref().and_then(|status| status.services.get(&args.service));
            if let Some(failure) =
                service.and_then(|service| left_again(&args.service, &progress.rollout, service))
            {
                return Err(failure);
            }
            let back =
                way_back(&args.service, &progress.rollout, service, progress.is_final, &client.option());
            let head = format!("{} is at {} now", args.service, progress.rollout.version);
            screen.line(&render::styled(&head, Style::Green, screen.colour));
            render::print(&receipt(&progress.rollout, Some(&back)));
            Ok(Code::Done.into())
        }
        code => Err(undone(&args.service, &progress.rollout, code, client)),
    }
}

/// Promoted, and left again by a rollback while it was waited for.
fn left_again(name: &str, rollout: &RolloutReport, service: &ServiceReport) -> Option<Failure> {
    let newest = service.rollout.iter().chain(&service.last_rollout).max_by_key(|other| other.id)?;
    let is_left = newest.id > rollout.id && newest.kind == RolloutKind::Rollback;
    let stable = service.stable.as_ref().filter(|stable| is_left && **stable != rollout.version)?;
    let message = format!(
        "{name} {} was promoted, and left again meanwhile: {} went back to {stable}",
        rollout.version, newest.actor
    );
    Some(Failure::new(Code::RolledBack, message))
}

/// How a decided rollout ends the command.
pub(super) fn code(rollout: &RolloutReport) -> Code {
    match rollout.phase {
        Phase::RolledBack => Code::RolledBack,
        Phase::Failed => Code::Failed,
        _ => Code::Done,
    }
}

fn way_back(
    service: &str,
    rollout: &RolloutReport,
    report: Option<&ServiceReport>,
    is_final: bool,
    option: &str,
) -> String {
    let command = format!("`handover rollback {service}{option}`");
    match (report.and_then(|report| report.warm.as_ref()), &rollout.from) {
        (Some(warm), _) => {
            format!("{} stays warm for {}: {command}", warm.version, render::millis(warm.left_ms))
        }
        (None, Some(from)) if is_final => format!("{from} is started again by {command}"),
        (None, Some(from)) => format!("to {from} by {command}"),
        (None, None) => "none: this is the first release".to_owned(),
    }
}

/// What a rollout cost, and the way back.
pub(super) fn receipt(rollout: &RolloutReport, back: Option<&str>) -> String {
    let receipt = &rollout.receipt;
    let mut counts = vec![
        render::counted(receipt.requests, "request"),
        render::counted(receipt.errors, "error"),
        format!("{} retried", render::count(receipt.retried)),
        format!("{} failed", render::count(receipt.failed)),
    ];
    if receipt.held > 0 {
        let longest = render::micros(receipt.longest_hold_us);
        counts.push(format!("{} held back (at most {longest})", render::count(receipt.held)));
    }
    let mut text = format!("  while it ran  {}\n", counts.join(", "));
    let longest = render::micros(receipt.longest_wait_us);
    text.push_str(&format!("  longest wait  {longest} for a connection to an instance\n"));
    if let Some(switched) = receipt.switched_after_ms {
        text.push_str(&format!("  switched      {} after the command\n", render::millis(switched)));
    }
    if let Some(back) = back {
        text.push_str(&format!("  way back      {back}\n"));
    }
    text
}

/// The failure of a rollout that did not hold.
pub(super) fn undone(service: &str, rollout: &RolloutReport, code: Code, client: &Client) -> Failure {
    let version = &rollout.version;
    let mut text = match (code, &rollout.reason) {
        (Code::RolledBack, Some(reason)) => format!("{service} {version} was rolled back: {reason}"),
        (Code::RolledBack, None) => format!("{service} {version} was rolled back"),
        (_, Some(reason)) => format!("the rollout of {service} to {version} failed: {reason}"),
        (_, None) => format!("the rollout of {service} to {version} failed"),
    };
    if let Some(from) = &rollout.from {
        let after = rollout.receipt.rolled_back_after_ms;
        let after = after
            .map_or_else(String::new, |after| format!(" ({} after the decision)", render::millis(after)));
        text.push_str(&format!("\n{service} serves {from} as before{after}"));
    }
    if !rollout.output.is_empty() {
        text.push_str("\nlast output of the instance that failed:\n");
        text.push_str(render::quoted(&rollout.output).trim_end());
    }
    let hint =
        format!("mend it and deploy it under a new version; `handover status {service}{}`", client.option());
    Failure::new(code, text).with_hint(hint)
}

/// A followed rollout was left.
pub(super) fn left(client: &Client, service: &str) -> Failure {
    let option = client.option();
    Failure::new(Code::Interrupted, format_args!("left; the rollout of {service} goes on without this command"))
        .with_hint(format_args!(
            "watch it with `handover status {service}{option}`, undo it with `handover rollback {service}{option}`"
        ))
}

fn styled_note(word: &str, text: &str, colour: bool) -> String {
    format!("{} {text}", render::styled(word, Style::Yellow, colour))
}

pub(super) fn print_json<T: Serialize>(value: &T) {
    let text = serde_json::to_string_pretty(value).expect("invariant: bodies of the API are JSON");
    render::print(&(text + "\n"));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use admin::api::{
        ApplyPlan, ApplyReport, DeployPlan, DownAccepted, DownBody, EventPage, EventsQuery, HistoryPage,
        HistoryQuery, HistoryReport, LogPage, LogsQuery, ManifestBody, ManifestReport, Operate, OperateBody,
        OperationAccepted, OperationProgress, ProgressLine, Receipt, RollbackBody, TrafficReport, WarmReport,
    };
    use admin::{Answer, Operations, Refused, RefusedKind};

    use super::*;
    use crate::cli::client::tests::{FakeAgent, Reply};

    fn rollout(phase: Phase) -> RolloutReport {
        RolloutReport {
            id: 7,
            version: "1.5.0".into(),
            from: Some("1.4.1".into()),
            actor: "ann".into(),
            phase,
            receipt: Receipt {
                requests: 1204,
                errors: 1,
                retried: 2,
                longest_wait_us: 1_250,
                switched_after_ms: Some(310),
                rolled_back_after_ms: Some(40),
                ..Receipt::default()
            },
            ..RolloutReport::default()
        }
    }

    #[test]
    fn the_receipt_says_what_it_cost_and_how_to_go_back() {
        let warm = WarmReport { version: "1.4.1".into(), left_ms: 600_000 };
        let service = ServiceReport { warm: Some(warm), ..ServiceReport::default() };
        let back = way_back("web", &rollout(Phase::Baking), Some(&service), false, "");
        assert_eq!(
            receipt(&rollout(Phase::Baking), Some(&back)),
            "  while it ran  1,204 requests, 1 error, 2 retried, 0 failed\n  \
             longest wait  1.2 ms for a connection to an instance\n  \
             switched      0.3 s after the command\n  \
             way back      1.4.1 stays warm for 10 m: `handover rollback web`\n"
        );
    }

    #[test]
    fn a_release_that_was_left_while_it_was_waited_for_is_told_as_rolled_back() {
        let back = RolloutReport {
            id: 9,
            kind: RolloutKind::Rollback,
            version: "1.4.1".into(),
            ..rollout(Phase::Done)
        };
        let mut service = ServiceReport {
            stable: Some("1.4.1".into()),
            last_rollout: Some(back),
            ..ServiceReport::default()
        };
        let failure = left_again("web", &rollout(Phase::Done), &service).unwrap();
        assert_eq!(failure.code, Code::RolledBack);
        service.last_rollout = Some(RolloutReport { id: 9, ..rollout(Phase::Done) });
        assert_eq!(left_again("web", &rollout(Phase::Done), &service), None, "another deploy came after it");
    }

    #[test]
    fn phases_become_exit_codes() {
        for (phase, expected) in [
            (Phase::Baking, Code::Done),
            (Phase::Done, Code::Done),
            (Phase::Draining, Code::Done),
            (Phase::RolledBack, Code::RolledBack),
            (Phase::Failed, Code::Failed),
        ] {
            assert_eq!(code(&rollout(phase)), expected);
        }
    }

    #[test]
    fn a_release_that_did_not_hold_is_told_with_reason_and_last_output() {
        let agent = FakeAgent::absent();
        let mut rollout = rollout(Phase::RolledBack);
        rollout.reason = Some("web@1.5.0/0 exited with code 1 before it was ready".into());
        rollout.output = vec!["cannot open config.json".into()];
        let failure = undone("web", &rollout, Code::RolledBack, &agent.client);
        assert_eq!(failure.code, Code::RolledBack);
        assert_eq!(
            failure.message,
            "web 1.5.0 was rolled back: web@1.5.0/0 exited with code 1 before it was ready\n\
             web serves 1.4.1 as before (40 ms after the decision)\n\
             last output of the instance that failed:\n  \
             │ cannot open config.json"
        );
    }

    #[test]
    fn only_a_newer_rollout_to_that_version_by_this_actor_is_ours() {
        let mut status = StatusReport::default();
        let service =
            ServiceReport { last_rollout: Some(rollout(Phase::Failed)), ..ServiceReport::default() };
        status.services.insert("web".into(), service);
        let body =
            DeployBody { source: "/r/1.5.0".into(), actor: Some("ann".into()), ..DeployBody::default() };
        assert_eq!(begun(&status, "web", &body, 6).map(|rollout| rollout.id), Some(7));
        assert!(begun(&status, "web", &body, 7).is_none());
        let other = DeployBody { version: Some("1.5".into()), ..body.clone() };
        assert!(begun(&status, "web", &other, 6).is_none());
        let other = DeployBody { actor: Some("bob".into()), ..body };
        assert!(begun(&status, "web", &other, 6).is_none());
    }

    #[tokio::test]
    async fn a_deploy_whose_answer_was_lost_is_found_by_the_status_and_not_sent_again() {
        let mut now = StatusReport::default();
        let service = ServiceReport { rollout: Some(rollout(Phase::Starting)), ..ServiceReport::default() };
        now.services.insert("web".into(), service);
        let agent = FakeAgent::start(vec![Reply::HangUp, Reply::json(200, &now)]);
        let body =
            DeployBody { source: "/r/1.5.0".into(), actor: Some("ann".into()), ..DeployBody::default() };
        let accepted = start(&agent.client, "web", &body, &StatusReport::default()).await.unwrap();
        assert_eq!(accepted.rollout, Some(7));
        assert_eq!(agent.heard(), ["POST /v1/services/web/deploy", "GET /v1/status"]);
    }

    #[tokio::test]
    async fn a_deploy_that_never_arrived_is_sent_again_with_the_same_key() {
        let accepted = Accepted { rollout: Some(1), ..Accepted::default() };
        let agent = FakeAgent::start(vec![
            Reply::HangUp,
            Reply::json(200, &StatusReport::default()),
            Reply::json(202, &accepted),
        ]);
        let body = DeployBody { operation: Some("key".into()), ..DeployBody::default() };
        let answered = start(&agent.client, "web", &body, &StatusReport::default()).await.unwrap();
        assert_eq!(answered, accepted);
        let bodies = agent.bodies();
        assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]));
    }

    #[tokio::test]
    async fn the_api_as_it_is_served_answers_the_command_line_to_the_end() {
        let agent = FakeAgent::serving(Arc::new(Obedient));
        let before = agent.client.status().await.unwrap();
        known(&before, "web", &agent.client).unwrap();
        let failure = known(&before, "wbe", &agent.client).unwrap_err();
        assert_eq!((failure.code, failure.hint.as_deref()), (Code::NoSuch, Some("did you mean `web`?")));
        let source = std::env::temp_dir().to_str().unwrap().to_owned();
        let body = DeployBody { source, operation: Some("key".into()), ..DeployBody::default() };
        let id = start(&agent.client, "web", &body, &before).await.unwrap().rollout.unwrap();
        let mut screen = Screen::new(false, false, false);
        let never = std::future::pending();
        let ending = follow(&agent.client, "web", id, Until::Decided, &mut screen, never).await.unwrap();
        let Ending::Reached(progress) = ending else { panic!("it was left") };
        assert_eq!(
            (code(&progress.rollout), screen.shown.as_str()),
            (Code::RolledBack, "   20 ms  copied\n")
        );
    }

    fn refuse<T: Send + 'static>() -> Answer<'static, T> {
        Box::pin(std::future::ready(Err(Refused::new(RefusedKind::Conflict, "not here"))))
    }

    /// Accepts a deploy and has nothing but an end to tell.
    struct Obedient;

    impl Operations for Obedient {
        fn status(&self) -> Answer<'_, StatusReport> {
            let mut status = StatusReport::default();
            status.services.insert("web".into(), ServiceReport::default());
            Box::pin(std::future::ready(Ok(status)))
        }

        fn traffic(&self) -> Answer<'_, TrafficReport> {
            Box::pin(std::future::ready(Ok(TrafficReport::default())))
        }

        fn deploy(&self, _: &str, _: DeployBody) -> Answer<'_, Accepted> {
            let accepted = Accepted { rollout: Some(7), ..Accepted::default() };
            Box::pin(std::future::ready(Ok(accepted)))
        }

        fn rollback(&self, _: &str, _: RollbackBody) -> Answer<'_, Accepted> {
            refuse()
        }

        fn progress(&self, service: &str, id: u64, after: u64) -> Answer<'_, Progress> {
            assert_eq!((service, id), ("web", 7));
            let line = ProgressLine { sequence: 1, at_ms: 20, text: "copied".into() };
            let progress = match after {
                0 => Progress { lines: vec![line], ..Progress::default() },
                _ => Progress { rollout: rollout(Phase::RolledBack), is_final: true, ..Progress::default() },
            };
            Box::pin(std::future::ready(Ok(progress)))
        }

        fn operate(&self, _: &str, _: Operate, _: OperateBody) -> Answer<'_, OperationAccepted> {
            refuse()
        }

        fn operation(&self, _: u64, _: u64) -> Answer<'_, OperationProgress> {
            refuse()
        }

        fn plan(&self, _: ManifestBody) -> Answer<'_, ApplyPlan> {
            refuse()
        }

        fn apply(&self, _: ManifestBody) -> Answer<'_, ApplyReport> {
            refuse()
        }

        fn plan_deploy(&self, _: &str, _: DeployBody) -> Answer<'_, DeployPlan> {
            refuse()
        }

        fn manifest(&self) -> Answer<'_, ManifestReport> {
            refuse()
        }

        fn history(&self, _: HistoryQuery) -> Answer<'_, HistoryPage> {
            refuse()
        }

        fn history_of(&self, _: u64) -> Answer<'_, HistoryReport> {
            refuse()
        }

        fn events(&self, _: EventsQuery) -> Answer<'_, EventPage> {
            refuse()
        }

        fn logs(&self, _: LogsQuery) -> Answer<'_, LogPage> {
            refuse()
        }

        fn down(&self, _: DownBody) -> Answer<'_, DownAccepted> {
            refuse()
        }
    }
}
