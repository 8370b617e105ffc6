//! What the admin API needs from the agent, as one object-safe trait.
//!
//! The binary implements it by messages to the agent's loop. It deliberately has no streaming call: followers
//! poll `progress`, so an agent that dies takes nothing with it that a follower cannot ask again.

use std::future::Future;
use std::pin::Pin;

use crate::api::{
    Accepted, ApplyPlan, ApplyReport, DeployBody, DeployPlan, DownAccepted, DownBody, EventPage, EventsQuery,
    HistoryPage, HistoryQuery, HistoryReport, LogPage, LogsQuery, ManifestBody, ManifestReport, Operate,
    OperateBody, OperationAccepted, OperationProgress, Progress, RollbackBody, StatusReport, TrafficReport,
};

/// Answer of an operation, when it comes.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Refused>> + Send + 'a>>;

/// What operators can ask.
pub trait Operations: Send + Sync + 'static {
    /// Everything `status` shows.
    fn status(&self) -> Answer<'_, StatusReport>;

    /// What the proxies counted.
    fn traffic(&self) -> Answer<'_, TrafficReport>;

    /// Starts a rollout; `body.source` is absolute and `body.actor` is set.
    fn deploy(&self, service: &str, body: DeployBody) -> Answer<'_, Accepted>;

    /// Takes the way back; `body.actor` is set.
    fn rollback(&self, service: &str, body: RollbackBody) -> Answer<'_, Accepted>;

    /// Where a rollout stands, with its lines after sequence `after` (0: all), at once.
    fn progress(&self, service: &str, rollout: u64, after: u64) -> Answer<'_, Progress>;

    /// Begins an operation; `body.actor` is set.
    fn operate(&self, service: &str, what: Operate, body: OperateBody) -> Answer<'_, OperationAccepted>;

    /// Where an operation stands, with its lines after sequence `after` (0: all), at once.
    fn operation(&self, id: u64, after: u64) -> Answer<'_, OperationProgress>;

    /// What [`apply`](Self::apply) would do.
    fn plan(&self, body: ManifestBody) -> Answer<'_, ApplyPlan>;

    /// Makes a manifest true; answers when that has begun. `body.actor` is set.
    fn apply(&self, body: ManifestBody) -> Answer<'_, ApplyReport>;

    /// What [`deploy`](Self::deploy) would do; `body.source` is absolute.
    fn plan_deploy(&self, service: &str, body: DeployBody) -> Answer<'_, DeployPlan>;

    /// Which file the manifest last applied came from.
    fn manifest(&self) -> Answer<'_, ManifestReport>;

    /// Rollouts and operations that have ended, at most `query.limit` of them (set).
    fn history(&self, query: HistoryQuery) -> Answer<'_, HistoryPage>;

    /// One rollout that has ended.
    fn history_of(&self, rollout: u64) -> Answer<'_, HistoryReport>;

    /// Changes, at most `query.limit` of them (set), at once.
    fn events(&self, query: EventsQuery) -> Answer<'_, EventPage>;

    /// What services printed, at most `query.lines` lines (set), at once.
    fn logs(&self, query: LogsQuery) -> Answer<'_, LogPage>;

    /// Stops everything; answers when that has begun.
    fn down(&self, body: DownBody) -> Answer<'_, DownAccepted>;
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// Which sort, for the HTTP status and the exit code.
    pub kind: RefusedKind,
    /// What failed and why, one sentence or two.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Sorts of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedKind {
    /// No such service, release or rollout.
    NotFound,
    /// It cannot be done in the present state.
    Conflict,
    /// What was asked makes no sense.
    Invalid,
    /// The agent cannot answer now; ask again.
    Unavailable,
}

impl Refused {
    /// A refusal without a hint.
    pub fn new(kind: RefusedKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// The same with what to do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
