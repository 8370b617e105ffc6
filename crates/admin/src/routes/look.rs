//! Paths that look back: history, events and logs, a bounded page at a time.

use std::time::Duration;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;

use super::{in_time, not_found};
use crate::api::{
    ENTRIES_DEFAULT, ENTRIES_MAX, EventsQuery, HistoryQuery, LINES_DEFAULT, LINES_MAX, LogsQuery,
    PROGRESS_WAIT_MS_MAX,
};
use crate::operations::{Answer, Refused, RefusedKind};
use crate::reply;
use crate::server::Server;

/// How often it is looked for news while a follower waits: each look reads from the disk.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Longest pattern: it is made into a machine of many times its size.
const PATTERN_BYTES_MAX: usize = 1 << 10;

type Asked<Q> = Result<Query<Q>, QueryRejection>;

pub(super) async fn history(State(server): State<Server>, query: Asked<HistoryQuery>) -> Response {
    let Query(mut query) = match read(query) {
        Ok(query) => query,
        Err(refused) => return reply::refused(refused),
    };
    query.limit = Some(query.limit.unwrap_or(ENTRIES_DEFAULT).min(ENTRIES_MAX));
    answer(in_time(server.operations.history(query)).await)
}

pub(super) async fn history_of(
    State(server): State<Server>,
    path: Result<Path<u64>, PathRejection>,
) -> Response {
    let Ok(Path(rollout)) = path else { return not_found().await };
    answer(in_time(server.operations.history_of(rollout)).await)
}

pub(super) async fn events(State(server): State<Server>, query: Asked<EventsQuery>) -> Response {
    let Query(mut query) = match read(query) {
        Ok(query) => query,
        Err(refused) => return reply::refused(refused),
    };
    query.limit = Some(query.limit.unwrap_or(ENTRIES_DEFAULT).min(ENTRIES_MAX));
    let wait = query.after.and(query.wait_ms);
    answer(news(wait, || server.operations.events(query.clone()), |page| !page.events.is_empty()).await)
}

pub(super) async fn logs(State(server): State<Server>, query: Asked<LogsQuery>) -> Response {
    let Query(mut query) = match read(query) {
        Ok(query) => query,
        Err(refused) => return reply::refused(refused),
    };
    if query.grep.as_ref().is_some_and(|pattern| pattern.len() > PATTERN_BYTES_MAX) {
        let message = format!("`grep` has at most {PATTERN_BYTES_MAX} bytes");
        return reply::refused(Refused::new(RefusedKind::Invalid, message));
    }
    query.lines = Some(query.lines.unwrap_or(LINES_DEFAULT).min(LINES_MAX));
    let wait = query.after.as_ref().and(query.wait_ms);
    let mut page = match in_time(server.operations.logs(query.clone())).await {
        Ok(page) => page,
        Err(refused) => return reply::refused(refused),
    };
    let deadline = Instant::now() + Duration::from_millis(wait.unwrap_or(0).min(PROGRESS_WAIT_MS_MAX));
    while page.lines.is_empty() && !page.truncated && Instant::now() < deadline {
        tokio::time::sleep_until(deadline.min(Instant::now() + LOOK_INTERVAL)).await;
        // Lines that did not match are not read again.
        query.after = Some(page.cursor);
        page = match in_time(server.operations.logs(query.clone())).await {
            Ok(page) => page,
            Err(refused) => return reply::refused(refused),
        };
    }
    reply::json(StatusCode::OK, &page)
}

/// Asks until there is something, for at most `wait_ms`.
async fn news<'a, T>(
    wait_ms: Option<u64>,
    ask: impl Fn() -> Answer<'a, T>,
    is_news: impl Fn(&T) -> bool,
) -> Result<T, Refused> {
    let deadline = Instant::now() + Duration::from_millis(wait_ms.unwrap_or(0).min(PROGRESS_WAIT_MS_MAX));
    loop {
        let page = in_time(ask()).await?;
        let now = Instant::now();
        if is_news(&page) || now >= deadline {
            return Ok(page);
        }
        tokio::time::sleep_until(deadline.min(now + LOOK_INTERVAL)).await;
    }
}

fn answer<T: Serialize>(answered: Result<T, Refused>) -> Response {
    match answered {
        Ok(page) => reply::json(StatusCode::OK, &page),
        Err(refused) => reply::refused(refused),
    }
}

fn read<Q>(query: Asked<Q>) -> Result<Query<Q>, Refused> {
    query.map_err(|rejection| Refused::new(RefusedKind::Invalid, rejection.body_text()))
}
