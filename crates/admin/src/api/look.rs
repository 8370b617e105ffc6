//! Bodies of looking back: history, events and logs, a bounded page at a time.

use serde::{Deserialize, Serialize};

use super::RolloutReport;

/// Entries on one page where nothing else is asked for.
pub const ENTRIES_DEFAULT: usize = 100;
/// Most entries on one page.
pub const ENTRIES_MAX: usize = 1_000;
/// Log lines on one page where nothing else is asked for.
pub const LINES_DEFAULT: usize = 100;
/// Most log lines on one page.
pub const LINES_MAX: usize = 10_000;

/// Query of `GET /v1/history`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct HistoryQuery {
    /// Only of that service.
    pub service: Option<String>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
}

/// `GET /v1/history`: rollouts and operations that have ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPage {
    /// Newest last.
    pub entries: Vec<EventReport>,
}

/// `GET /v1/history/{id}`: one rollout that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryReport {
    /// Of which service.
    pub service: String,
    /// How it ended and what it cost.
    pub rollout: RolloutReport,
    /// What happened to the service while it ran.
    pub lines: Vec<EventReport>,
}

/// Query of `GET /v1/events`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EventsQuery {
    /// Only of that service.
    pub service: Option<String>,
    /// Only what came after that sequence, oldest first; absent: the newest.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: Option<usize>,
    /// How long to wait while there is nothing, with `after`.
    pub wait_ms: Option<u64>,
}

/// `GET /v1/events`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventPage {
    /// Newest last.
    pub events: Vec<EventReport>,
}

/// One change: what happened, when, why and by whom.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventReport {
    /// Grows with every change.
    pub sequence: u64,
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// The service it is about, where it is about one.
    #[serde(default)]
    pub service: Option<String>,
    /// What it is about: `rollout`, `instance`, `operation`, `listener`, `proxy`, …
    pub subject: String,
    /// What happened and why, one sentence.
    pub text: String,
    /// Who or what caused it.
    pub actor: String,
    /// How it ended, in the history of operations; absent while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// The rollout that ended with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutReport>,
}

/// Query of `GET /v1/logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LogsQuery {
    /// Only of that service.
    pub service: Option<String>,
    /// Only of that instance.
    pub instance: Option<String>,
    /// At most so many, the newest; with `after` the oldest.
    pub lines: Option<usize>,
    /// Only lines from then on, milliseconds since 1970.
    pub since_ms: Option<u64>,
    /// Only lines that match this regular expression.
    pub grep: Option<String>,
    /// Only what came after that cursor of a page before.
    pub after: Option<String>,
    /// How long to wait while there is nothing, with `after`.
    pub wait_ms: Option<u64>,
}

/// `GET /v1/logs`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    /// Newest last.
    pub lines: Vec<LogLine>,
    /// Where the next page begins; opaque.
    pub cursor: String,
    /// There were more lines than one page holds.
    #[serde(default)]
    pub truncated: bool,
}

/// One line that a service printed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was read, milliseconds since 1970.
    pub at_ms: u64,
    /// Who printed it.
    pub service: String,
    /// Which of its instances.
    pub instance: String,
    /// `out` or `err`.
    pub stream: String,
    /// The line.
    pub text: String,
}
