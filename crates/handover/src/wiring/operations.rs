//! What operators ask, on its way from the admin API's tasks to the agent's loop and back.
//!
//! What only reads files never gets there: it is answered from the disk beside it.

use std::path::PathBuf;

use admin::api::{
    Accepted, ApplyPlan, ApplyReport, DeployBody, DeployPlan, DownAccepted, DownBody, EventPage, EventsQuery,
    HistoryPage, HistoryQuery, HistoryReport, LogPage, LogsQuery, ManifestBody, ManifestReport, Operate,
    OperateBody, OperationAccepted, OperationProgress, Progress, RollbackBody, StatusReport, TrafficReport,
};
use admin::{Answer, Operations, Refused, RefusedKind};
use tokio::sync::{mpsc, oneshot};

use super::look::Look;

/// Questions that wait for the agent; more are answered with "ask again".
pub(super) const QUESTIONS_MAX: usize = 256;

/// Where an answer goes.
type Reply<T> = oneshot::Sender<Result<T, Refused>>;

/// One question.
#[derive(Debug)]
pub(super) enum Question {
    Status(Reply<StatusReport>),
    Traffic(Reply<TrafficReport>),
    Deploy { service: String, source: PathBuf, body: DeployBody, reply: Reply<Accepted> },
    PlanDeploy { service: String, source: PathBuf, body: DeployBody, reply: Reply<DeployPlan> },
    Rollback { service: String, body: RollbackBody, reply: Reply<Accepted> },
    Progress { service: String, rollout: u64, after: u64, reply: Reply<Progress> },
    Operate { service: String, what: Operate, body: OperateBody, reply: Reply<OperationAccepted> },
    Operation { id: u64, after: u64, reply: Reply<OperationProgress> },
    Plan { manifest: Box<Given>, reply: Reply<ApplyPlan> },
    Apply { manifest: Box<Given>, reply: Reply<ApplyReport> },
    Manifest(Reply<ManifestReport>),
    Down { body: DownBody, reply: Reply<DownAccepted> },
}

/// A manifest that was given, and what came with it.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) manifest: wire::manifest::Manifest,
    pub(super) body: ManifestBody,
}

impl Given {
    fn read(mut body: ManifestBody) -> Result<Box<Self>, Refused> {
        match serde_json::from_value(body.manifest.take()) {
            Ok(manifest) => Ok(Box::new(Self { manifest, body })),
            Err(error) => {
                let message = format!("`manifest` is not what this version of Handover checks: {error}");
                Err(Refused::new(RefusedKind::Invalid, message)
                    .with_hint("use the command line of the version that runs"))
            }
        }
    }
}

/// The admin API's end.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) questions: mpsc::Sender<Question>,
    pub(super) look: Look,
}

impl Asking {
    fn ask<T: Send + 'static>(&self, question: impl FnOnce(Reply<T>) -> Question) -> Answer<'_, T> {
        let (reply, answer) = oneshot::channel();
        let sent = self.questions.try_send(question(reply));
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

    fn traffic(&self) -> Answer<'_, TrafficReport> {
        self.ask(Question::Traffic)
    }

    fn deploy(&self, service: &str, body: DeployBody) -> Answer<'_, Accepted> {
        let service = service.to_owned();
        Box::pin(async move {
            let body = super::look::with_version(body).await?;
            let source = PathBuf::from(&body.source);
            self.ask(|reply| Question::Deploy { service, source, body, reply }).await
        })
    }

    fn rollback(&self, service: &str, body: RollbackBody) -> Answer<'_, Accepted> {
        let service = service.to_owned();
        self.ask(|reply| Question::Rollback { service, body, reply })
    }

    fn progress(&self, service: &str, rollout: u64, after: u64) -> Answer<'_, Progress> {
        let service = service.to_owned();
        self.ask(|reply| Question::Progress { service, rollout, after, reply })
    }

    fn operate(&self, service: &str, what: Operate, body: OperateBody) -> Answer<'_, OperationAccepted> {
        let service = service.to_owned();
        self.ask(|reply| Question::Operate { service, what, body, reply })
    }

    fn operation(&self, id: u64, after: u64) -> Answer<'_, OperationProgress> {
        self.ask(|reply| Question::Operation { id, after, reply })
    }

    fn plan(&self, body: ManifestBody) -> Answer<'_, ApplyPlan> {
        match Given::read(body) {
            Ok(manifest) => self.ask(|reply| Question::Plan { manifest, reply }),
            Err(refused) => Box::pin(std::future::ready(Err(refused))),
        }
    }

    fn apply(&self, body: ManifestBody) -> Answer<'_, ApplyReport> {
        match Given::read(body) {
            Ok(manifest) => self.ask(|reply| Question::Apply { manifest, reply }),
            Err(refused) => Box::pin(std::future::ready(Err(refused))),
        }
    }

    fn plan_deploy(&self, service: &str, body: DeployBody) -> Answer<'_, DeployPlan> {
        let service = service.to_owned();
        Box::pin(async move {
            let body = super::look::with_version(body).await?;
            let source = PathBuf::from(&body.source);
            self.ask(|reply| Question::PlanDeploy { service, source, body, reply }).await
        })
    }

    fn manifest(&self) -> Answer<'_, ManifestReport> {
        self.ask(Question::Manifest)
    }

    fn history(&self, query: HistoryQuery) -> Answer<'_, HistoryPage> {
        let status = self.status();
        Box::pin(async move { self.look.history(query, status.await?).await })
    }

    fn history_of(&self, rollout: u64) -> Answer<'_, HistoryReport> {
        let status = self.status();
        Box::pin(async move { self.look.history_of(rollout, status.await?).await })
    }

    fn events(&self, query: EventsQuery) -> Answer<'_, EventPage> {
        Box::pin(self.look.events(query))
    }

    fn logs(&self, query: LogsQuery) -> Answer<'_, LogPage> {
        Box::pin(self.look.logs(query))
    }

    fn down(&self, body: DownBody) -> Answer<'_, DownAccepted> {
        self.ask(|reply| Question::Down { body, reply })
    }
}
