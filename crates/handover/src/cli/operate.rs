//! What `restart`, `reload`, `stop`, `start` and `scale` have in common: ask, follow, say how it ended.
//!
//! The operation belongs to the agent: nothing here stops it, and nothing is lost when this process ends. The key that
//! is sent with the request is recorded with the operation, so that asking again begins nothing twice.

use std::process::ExitCode;

use admin::api::{OperationAccepted, OperationProgress};
use serde::Serialize;

use super::client::{self, Client, Posted, Screen, follow_operation};
use super::deploy::{known, print_json};
use super::render::{self, Style};
use super::{Failure, Global};
use crate::exit_code::Code;

/// Which service, and how its end is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Target {
    /// The service
    pub(crate) service: String,
    /// Print how it ended as JSON, and nothing else
    #[arg(long)]
    pub(crate) json: bool,
}

/// What is asked: the last part of its path, its body, and how its end is said.
pub(super) struct Asked<B> {
    pub(super) verb: &'static str,
    pub(super) body: B,
    /// `web is stopped`, without the service.
    pub(super) done: String,
}

/// Asks for it and follows it to its end.
pub(super) fn run<B: Serialize>(
    target: &Target,
    asked: &Asked<B>,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let client = Client::find(global)?;
    let screen = Screen::new(Global::out_is_terminal(), global.colour_out(), target.json);
    client::block_on(operate(&client, target, asked, screen))
}

async fn operate<B: Serialize>(
    client: &Client,
    target: &Target,
    asked: &Asked<B>,
    mut screen: Screen,
) -> Result<ExitCode, Failure> {
    let service = target.service.as_str();
    known(&client.status().await?, service, client)?;
    let accepted = ask(client, service, asked).await?;
    if let Some(warning) = &accepted.warning {
        screen.line(&format!("{} {warning}", render::styled("warning:", Style::Yellow, screen.colour)));
    }
    if let Some(already) = accepted.already.as_ref().filter(|_| !target.json) {
        screen.line(&render::styled(already, Style::Green, screen.colour));
        return Ok(Code::Done.into());
    }
    let ended =
        follow_operation(client, service, accepted.operation, &mut screen, client::interrupted()).await?;
    let Some(progress) = ended else { return Err(left(client, service, asked.verb)) };
    if target.json {
        print_json(&progress);
        return Ok(if progress.error.is_none() { Code::Done } else { Code::Failed }.into());
    }
    outcome(client, service, asked.verb, &progress)?;
    screen.line(&render::styled(&format!("{service} {}", asked.done), Style::Green, screen.colour));
    Ok(Code::Done.into())
}

/// Why what was asked for is not true, where it is not.
pub(super) fn outcome(
    client: &Client,
    service: &str,
    verb: &str,
    progress: &OperationProgress,
) -> Result<(), Failure> {
    match &progress.error {
        None => Ok(()),
        Some(why) => Err(Failure::new(Code::Failed, format_args!("the {verb} of {service} failed: {why}"))
            .with_hint(format_args!(
                "see what runs: `handover status {service}{0}`; what it printed: `handover logs {service}{0}`",
                client.option()
            ))),
    }
}

async fn ask<B: Serialize>(
    client: &Client,
    service: &str,
    asked: &Asked<B>,
) -> Result<OperationAccepted, Failure> {
    let path = format!("/v1/services/{service}/{}", asked.verb);
    let deadline = client.deadline();
    loop {
        match client.post(&path, &asked.body).await? {
            Posted::Answered(accepted) => return Ok(accepted),
            Posted::Unknown(why) => client.pause_until_retry(deadline, &why).await?,
        }
    }
}

pub(super) fn left(client: &Client, service: &str, verb: &str) -> Failure {
    let message = format!("left; the {verb} of {service} goes on without this command");
    Failure::new(Code::Interrupted, message)
        .with_hint(format_args!("watch it with `handover status {service}{}`", client.option()))
}

#[cfg(test)]
mod tests {
    use admin::api::{OperateBody, ServiceReport, StatusReport};

    use super::*;
    use crate::cli::client::tests::{FakeAgent, Reply};

    fn status() -> Reply {
        let mut status = StatusReport::default();
        status.services.insert("web".into(), ServiceReport::default());
        Reply::json(200, &status)
    }

    fn asked() -> Asked<OperateBody> {
        let body = OperateBody { operation: Some("key".into()), ..OperateBody::default() };
        Asked { verb: "restart", body, done: "is fresh".into() }
    }

    fn target(service: &str) -> Target {
        Target { service: service.into(), json: false }
    }

    #[tokio::test]
    async fn one_whose_answer_was_lost_is_asked_for_again_with_the_same_key() {
        let accepted = OperationAccepted { operation: 4, ..OperationAccepted::default() };
        let ended = OperationProgress { is_final: true, ..OperationProgress::default() };
        let agent = FakeAgent::start(vec![
            status(),
            Reply::HangUp,
            Reply::json(202, &accepted),
            Reply::json(200, &ended),
        ]);
        let screen = Screen::new(false, false, true);
        operate(&agent.client, &target("web"), &asked(), screen).await.unwrap();
        let bodies = agent.bodies();
        assert_eq!((bodies.len(), &bodies[0]), (2, &bodies[1]));
        assert!(agent.heard()[3].starts_with("GET /v1/operations/4?"));
    }

    #[tokio::test]
    async fn one_that_failed_says_why_and_what_to_look_at() {
        let accepted = OperationAccepted { operation: 4, ..OperationAccepted::default() };
        let why = Some("web@1/2 was not ready within 1 m".to_owned());
        let ended = OperationProgress { is_final: true, error: why, ..OperationProgress::default() };
        let agent = FakeAgent::start(vec![status(), Reply::json(202, &accepted), Reply::json(200, &ended)]);
        let screen = Screen::new(false, false, true);
        let failure = operate(&agent.client, &target("web"), &asked(), screen).await.unwrap_err();
        assert_eq!(failure.message, "the restart of web failed: web@1/2 was not ready within 1 m");
        assert!(failure.hint.unwrap().contains("handover logs web"));
    }

    #[tokio::test]
    async fn a_mistyped_service_is_offered_the_nearest_and_nothing_is_asked() {
        let agent = FakeAgent::start(vec![status()]);
        let screen = Screen::new(false, false, true);
        let failure = operate(&agent.client, &target("wbe"), &asked(), screen).await.unwrap_err();
        assert_eq!((failure.code, failure.hint.as_deref()), (Code::NoSuch, Some("did you mean `web`?")));
        assert_eq!(agent.heard().len(), 1);
    }
}
