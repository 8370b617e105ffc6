//! What operators ask, on its way from the admin API's tasks to the agent's loop and back.

use std::path::PathBuf;

use admin::api::{Accepted, DeployBody, DownAccepted, DownBody, Progress, RollbackBody, StatusReport};
use admin::{Answer, Operations, Refused, RefusedKind};
use tokio::sync::{mpsc, oneshot};

/// Questions that wait for the agent; more are answered with "ask again".
pub(super) const QUESTIONS_MAX: usize = 256;

/// Where an answer goes.
type Reply<T> = oneshot::Sender<Result<T, Refused>>;

/// One question.
#[derive(Debug)]
pub(super) enum Question {
    Status(Reply<StatusReport>),
    Deploy { service: String, source: PathBuf, body: DeployBody, reply: Reply<Accepted> },
    Rollback { service: String, body: RollbackBody, reply: Reply<Accepted> },
    Progress { service: String, rollout: u64, after: u64, reply: Reply<Progress> },
    Down { body: DownBody, reply: Reply<DownAccepted> },
}

/// The admin API's end.
#[derive(Debug)]
pub(super) struct Asking(pub(super) mpsc::Sender<Question>);

impl Asking {
    fn ask<T: Send + 'static>(&self, question: impl FnOnce(Reply<T>) -> Question) -> Answer<'_, T> {
        let (reply, answer) = oneshot::channel();
        let sent = self.0.try_send(question(reply));
        Box::pin(async move {
            let busy = || {
                Refused::new(RefusedKind::Unavailable, "the agent is busy or about to end")
                    .with_hint("ask again in a second")
            };
            sent.map_err(|_full_or_closed| busy())?;
            answer.await.unwrap_or_else(|_dropped| Err(busy()))
        })
    }
}

impl Operations for Asking {
    fn status(&self) -> Answer<'_, StatusReport> {
        self.ask(Question::Status)
    }

    fn deploy(&self, service: &str, body: DeployBody) -> Answer<'_, Accepted> {
        let service = service.to_owned();
        let source = PathBuf::from(&body.source);
        self.ask(|reply| Question::Deploy { service, source, body, reply })
    }

    fn rollback(&self, service: &str, body: RollbackBody) -> Answer<'_, Accepted> {
        let service = service.to_owned();
        self.ask(|reply| Question::Rollback { service, body, reply })
    }

    fn progress(&self, service: &str, rollout: u64, after: u64) -> Answer<'_, Progress> {
        let service = service.to_owned();
        self.ask(|reply| Question::Progress { service, rollout, after, reply })
    }

    fn down(&self, body: DownBody) -> Answer<'_, DownAccepted> {
        self.ask(|reply| Question::Down { body, reply })
    }
}
