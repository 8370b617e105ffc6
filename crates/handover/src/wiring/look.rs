//! Answers from the disk and the system, on threads that may wait: never in the agent's loop.

use std::path::{Path, PathBuf};

use admin::api::{
    DeployBody, ENTRIES_DEFAULT, EventPage, EventReport, EventsQuery, HistoryPage, HistoryQuery,
    HistoryReport, LINES_DEFAULT, LogLine, LogPage, LogsQuery, StatusReport,
};
use admin::{Refused, RefusedKind};
use drivers::store::history::{self, HistoryReader, Numbered};
use drivers::store::release::derived_version;
use telemetry::log_reader;
use tokio::sync::oneshot;

use super::report;

/// Where it is looked.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) logs: PathBuf,
    pub(super) history: HistoryReader,
}

impl Look {
    /// Rollouts and operations that have ended, and those rollouts of `status` that are promoted and bake.
    pub(super) async fn history(
        &self,
        query: HistoryQuery,
        status: StatusReport,
    ) -> Result<HistoryPage, Refused> {
        let limit = query.limit.unwrap_or(ENTRIES_DEFAULT);
        let mut found = Vec::new();
        for subject in ["rollout", "operation", "manifest"] {
            // An operation has two entries.
            let limit = limit.saturating_mul(2);
            let subject = Some(subject.to_owned());
            let service = query.service.clone();
            found.extend(
                self.page(history::HistoryQuery { service, subject, limit, ..Default::default() }).await?,
            );
        }
        found.sort_by_key(|(sequence, _)| *sequence);
        // That a rollout began is told by its end.
        found.retain(|(_, entry)| entry.subject != "rollout" || entry.rollout.is_some());
        let mut entries = paired(found.into_iter().map(report::event));
        entries.extend(baking(&status, query.service.as_deref()));
        entries.drain(..entries.len().saturating_sub(limit));
        Ok(HistoryPage { entries })
    }

    /// One rollout that has ended, or bakes.
    pub(super) async fn history_of(&self, id: u64, status: StatusReport) -> Result<HistoryReport, Refused> {
        let found = self.ask(|reader, reply| reader.rollout(id, reply)).await?;
        let found = found.into_iter().next().map(report::event);
        let entry = found.or_else(|| {
            let of = |entry: &EventReport| entry.rollout.as_ref().is_some_and(|rollout| rollout.id == id);
            baking(&status, None).find(of)
        });
        let Some((entry, rollout)) =
            entry.and_then(|mut entry| Some(entry.rollout.take()).map(|r| (entry, r)))
        else {
            let message = format!("no rollout {id} has ended that is still kept");
            return Err(Refused::new(RefusedKind::NotFound, message)
                .with_hint("see which there are: `handover history`"));
        };
        let (service, rollout) = (entry.service.unwrap_or_default(), rollout.unwrap_or_default());
        let query = history::HistoryQuery {
            service: Some(service.clone()),
            before: (entry.sequence > 0).then_some(entry.sequence + 1),
            limit: history::PAGE_MAX,
            ..history::HistoryQuery::default()
        };
        let mut lines: Vec<EventReport> = self.page(query).await?.into_iter().map(report::event).collect();
        lines.retain(|line| line.at_ms >= rollout.started_at_ms);
        for line in &mut lines {
            line.rollout = None;
        }
        Ok(HistoryReport { service, rollout, lines })
    }

    pub(super) async fn events(&self, query: EventsQuery) -> Result<EventPage, Refused> {
        // Nothing new is seen without a look at the disk.
        if query.after.is_some_and(|after| after > 0 && after == *self.history.newest().borrow()) {
            return Ok(EventPage::default());
        }
        let query = history::HistoryQuery {
            service: query.service,
            after_sequence: query.after,
            limit: query.limit.unwrap_or(ENTRIES_DEFAULT),
            ..history::HistoryQuery::default()
        };
        Ok(EventPage { events: self.page(query).await?.into_iter().map(report::event).collect() })
    }

    async fn page(&self, query: history::HistoryQuery) -> Result<Vec<Numbered>, Refused> {
        self.ask(|reader, reply| reader.page(query, reply)).await
    }

    async fn ask(&self, ask: impl FnOnce(&HistoryReader, history::Reply)) -> Result<Vec<Numbered>, Refused> {
        let (reply, answer) = oneshot::channel();
        // Whoever asked may be gone by then.
        ask(&self.history, Box::new(move |entries| drop(reply.send(entries))));
        answer.await.map_err(|_dropped| {
            Refused::new(RefusedKind::Unavailable, "the history cannot keep up just now")
                .with_hint("ask again in a second")
        })
    }

    pub(super) async fn logs(&self, query: LogsQuery) -> Result<LogPage, Refused> {
        let directory = self.logs.clone();
        blocking(move || logs(&directory, query)).await
    }
}

/// A page of the log files in `directory`.
pub(crate) fn logs(directory: &Path, query: LogsQuery) -> Result<LogPage, Refused> {
    let invalid = |message: String| Refused::new(RefusedKind::Invalid, message);
    let after = query.after.map(|after| after.parse());
    let after =
        after.transpose().map_err(|_no_cursor| invalid("`after` is no cursor of a page of logs".into()))?;
    let query = log_reader::LogQuery {
        service: query.service,
        instance: query.instance,
        lines: query.lines.unwrap_or(LINES_DEFAULT),
        since_ms: query.since_ms,
        grep: query.grep,
        after,
    };
    let page = log_reader::read(directory, &query).map_err(|error| match error {
        log_reader::LogReadError::Grep(why) => invalid(why),
        error @ log_reader::LogReadError::Io { .. } => Refused::new(RefusedKind::Conflict, error.to_string()),
    })?;
    let line = |line: log_reader::LogLine| LogLine {
        at_ms: line.at_ms,
        service: line.service,
        instance: line.instance,
        stream: line.stream,
        text: line.text,
    };
    Ok(LogPage {
        lines: page.lines.into_iter().map(line).collect(),
        cursor: page.cursor.to_string(),
        truncated: page.truncated,
    })
}

/// On a thread that may wait.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "an answer to an operator failed");
        Err(Refused::new(RefusedKind::Conflict, "the agent failed while it looked")
            .with_hint("look at handover.log"))
    })
}

/// Rollouts that are promoted and not final yet, as entries: they are in no file.
fn baking<'s>(status: &'s StatusReport, only: Option<&'s str>) -> impl Iterator<Item = EventReport> + 's {
    let services =
        status.services.iter().filter(move |(name, _)| only.is_none_or(|only| only == name.as_str()));
    services.filter_map(|(name, service)| {
        let rollout = service.rollout.clone()?;
        let at_ms = rollout.decided_at_ms?;
        Some(EventReport {
            sequence: 0,
            at_ms,
            service: Some(name.clone()),
            subject: "rollout".to_owned(),
            text: format!("{name} is at {}", rollout.version),
            actor: rollout.actor.clone(),
            outcome: None,
            rollout: Some(rollout),
        })
    })
}

/// The two entries of an operation as one: what was asked for, and how it ended.
fn paired(entries: impl Iterator<Item = EventReport>) -> Vec<EventReport> {
    let mut paired: Vec<EventReport> = Vec::new();
    for entry in entries {
        if entry.subject != "operation" {
            paired.push(entry);
            continue;
        }
        let Some(outcome) = outcome(&entry.text) else {
            let asked_by = format!(", asked by {}", entry.actor);
            let text = entry.text.strip_suffix(&asked_by).unwrap_or(&entry.text).to_owned();
            paired.push(EventReport { text, ..entry });
            continue;
        };
        let is_open = |open: &&mut EventReport| {
            open.subject == "operation" && open.service == entry.service && open.outcome.is_none()
        };
        match paired.iter_mut().rev().find(is_open) {
            Some(open) => (open.outcome, open.at_ms) = (Some(outcome), entry.at_ms),
            None => paired.push(EventReport { outcome: Some(outcome), ..entry }),
        }
    }
    paired
}

/// How an operation ended, where its entry tells of the end.
fn outcome(text: &str) -> Option<String> {
    let rest = text.strip_prefix("the ")?;
    if rest.ends_with(" is done") {
        return Some("done".to_owned());
    }
    let (_, why) = rest.split_once(" has failed")?;
    Some(format!("failed{why}"))
}

/// The body with a version, made of the release's name and content where none was given.
pub(super) async fn with_version(body: DeployBody) -> Result<DeployBody, Refused> {
    if body.version.is_some() {
        return Ok(body);
    }
    blocking(move || {
        let version = derived_version(Path::new(&body.source)).map_err(|error| {
            Refused::new(RefusedKind::Invalid, error.to_string()).with_hint("name a version with `version`")
        })?;
        Ok(DeployBody { version: Some(version.to_string()), ..body })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(sequence: u64, service: &str, text: &str) -> EventReport {
        EventReport {
            sequence,
            at_ms: sequence,
            service: Some(service.into()),
            subject: "operation".into(),
            text: text.into(),
            actor: "ann".into(),
            ..EventReport::default()
        }
    }

    #[test]
    fn an_operation_is_one_line_of_history_with_how_it_ended() {
        let entries = [
            entry(1, "web", "restarting web, asked by ann"),
            entry(2, "db", "stopping db, asked by ann"),
            entry(3, "web", "the restart of web is done"),
            entry(4, "db", "the stop of db has failed: it hangs"),
            entry(5, "web", "starting web, asked by ann"),
        ];
        let told: Vec<(String, Option<String>, u64)> = paired(entries.into_iter())
            .into_iter()
            .map(|entry| (entry.text, entry.outcome, entry.at_ms))
            .collect();
        assert_eq!(
            told,
            [
                ("restarting web".into(), Some("done".into()), 3),
                ("stopping db".into(), Some("failed: it hangs".into()), 4),
                ("starting web".into(), None, 5)
            ]
        );
    }
}
