//! Follows an operation on a service to its end, whichever agent tells of it.
//!
//! Leaving (Ctrl-C) changes nothing: the operation is the agent's.

use std::time::Duration;

use admin::api::{OperationProgress, StatusReport};
use tokio::time::{Instant, MissedTickBehavior};

use super::follow::REDRAW_INTERVAL;
use super::story::Story;
use super::{Client, Screen};
use crate::cli::{Failure, render};
use crate::exit_code::Code;

/// Follows operation `id` of `service`; `None`: `interrupted` ended that early.
pub(crate) async fn follow_operation(
    client: &Client,
    service: &str,
    id: u64,
    screen: &mut Screen,
    interrupted: impl Future<Output = ()>,
) -> Result<Option<OperationProgress>, Failure> {
    let mut story = Story::default();
    let mut waiting_on = None;
    tokio::pin!(interrupted);
    let mut redraw = tokio::time::interval(REDRAW_INTERVAL);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    loop {
        let progress = {
            let answer = next(client, service, id, &story);
            tokio::pin!(answer);
            loop {
                tokio::select! {
                    answer = &mut answer => break answer,
                    _ = redraw.tick() => screen.draw(&present(began.elapsed(), waiting_on.as_deref())),
                    () = &mut interrupted => {
                        screen.erase();
                        return Ok(None);
                    }
                }
            }
        };
        let progress = progress.map_err(|failure| {
            screen.erase();
            client.stopped_meanwhile(failure, &format!("operation {id} of {service}"))
        })?;
        for line in story.hear(progress.agent, &progress.lines) {
            screen.line(&line);
        }
        if progress.is_final && !story.asks_again {
            screen.erase();
            return Ok(Some(progress));
        }
        waiting_on = progress.waiting_on;
    }
}

async fn next(client: &Client, service: &str, id: u64, story: &Story) -> Result<OperationProgress, Failure> {
    let wait_ms = story.wait_ms();
    let path = format!("/v1/operations/{id}?after={}&wait_ms={wait_ms}", story.after);
    match client.get_waiting(&path, Duration::from_millis(wait_ms)).await {
        Err(failure) if failure.code == Code::NoSuch => {
            let status: StatusReport = client.status().await?;
            let running = status.services.get(service).and_then(|service| service.operation.as_ref());
            match running.filter(|running| running.id == id) {
                Some(running) => Ok(OperationProgress {
                    id,
                    service: service.to_owned(),
                    kind: running.kind,
                    waiting_on: running.waiting_on.clone(),
                    agent: status.processes.agent.pid,
                    ..OperationProgress::default()
                }),
                None => Err(forgotten(client, service, id)),
            }
        }
        answer => answer,
    }
}

fn forgotten(client: &Client, service: &str, id: u64) -> Failure {
    let message = format!("the agent no longer knows operation {id} of {service}: others came after it");
    Failure::new(Code::Failed, message)
        .with_hint(format_args!("see what runs now: `handover status {service}{}`", client.option()))
}

fn present(elapsed: Duration, waiting_on: Option<&str>) -> String {
    format!("{:>8}  {}", render::duration(elapsed), waiting_on.unwrap_or("…"))
}

#[cfg(test)]
mod tests {
    use admin::api::ProgressLine;

    use super::*;
    use crate::cli::client::tests::{FakeAgent, Reply};

    fn told(agent: u32, text: &str, is_final: bool) -> Reply {
        let line = ProgressLine { sequence: 1, at_ms: 20, text: text.into() };
        let progress =
            OperationProgress { lines: vec![line], is_final, agent, ..OperationProgress::default() };
        Reply::json(200, &progress)
    }

    #[tokio::test]
    async fn an_operation_is_followed_through_the_death_of_its_agent() {
        let agent = FakeAgent::start(vec![
            told(10, "replaces web@1/0", false),
            Reply::HangUp,
            told(11, "replaces web@1/0", false),
            told(11, "replaces web@1/0", false),
            told(11, "all are fresh", true),
        ]);
        let mut screen = Screen::new(false, false, false);
        let never = std::future::pending();
        let ended = follow_operation(&agent.client, "web", 3, &mut screen, never).await.unwrap();
        assert!(ended.is_some_and(|progress| progress.is_final && progress.error.is_none()));
        assert_eq!(screen.shown, "   20 ms  replaces web@1/0\n   20 ms  all are fresh\n");
    }

    #[tokio::test]
    async fn one_that_nobody_knows_any_more_is_an_error_with_what_to_do() {
        let gone = admin::api::ErrorBody { error: "no such operation".into(), hint: None };
        let agent =
            FakeAgent::start(vec![Reply::json(404, &gone), Reply::json(200, &StatusReport::default())]);
        let mut screen = Screen::new(false, false, false);
        let never = std::future::pending();
        let failure = follow_operation(&agent.client, "web", 3, &mut screen, never).await.unwrap_err();
        assert!(failure.message.contains("operation 3"), "{failure:?}");
        assert!(failure.hint.unwrap().contains("handover status web"));
    }
}
