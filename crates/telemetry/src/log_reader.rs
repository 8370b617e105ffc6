//! Reads services' logs back, also over rotated files: the newest lines, or those after a place.
//!
//! ```text
//!  SERVICE.log.2   SERVICE.log.1   SERVICE.log
//!  ◄──────────────────────────────────────────  without a cursor: backwards, until there is enough
//!        cursor ──────────────────────────────► with one: forwards, and the answer has the next one
//! ```
//! A cursor names files by what they begin with, so it holds while they are renamed. Lines of several services are
//! put together by their stamps. An answer is bounded, and so is what is read for it: it says when it is cut.
//!
//! It waits for the disk: not for a thread that has something else to do.

mod cursor;
mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use model::id::ServiceName;
use regex_lite::Regex;

pub use cursor::Cursor;
use cursor::Place;
use file::{Backwards, Forwards, LogFile};

use crate::stamp;

/// Most lines in an answer.
pub const LINES_MAX: usize = 10_000;
/// Most text in an answer; one line more may be in it.
pub const TEXT_BYTES_MAX: usize = 8 << 20;
/// Most that is read for an answer.
const READ_BYTES_MAX: u64 = 256 << 20;
/// Logs in the same folder that are no service's.
const OTHERS: [&str; 2] = ["access", "handover"];

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct LogQuery {
    /// Of that service only.
    pub service: Option<String>,
    /// Of that instance, and of tasks beside it.
    pub instance: Option<String>,
    /// So many lines: the newest, or with `after` the next.
    pub lines: usize,
    /// Not older than that.
    pub since_ms: Option<u64>,
    /// Text that matches that regular expression.
    pub grep: Option<String>,
    /// Only what came after an earlier answer.
    pub after: Option<Cursor>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read.
    pub at_ms: u64,
    /// Its service.
    pub service: String,
    /// Its instance, or a task's name.
    pub instance: String,
    /// `out`, `err`, or `handover` where Handover says something about the output.
    pub stream: String,
    /// The line itself.
    pub text: String,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPage {
    /// Oldest first.
    pub lines: Vec<LogLine>,
    /// For what comes after them.
    pub cursor: Cursor,
    /// There is more that was asked for: older lines, or with `after` newer ones.
    pub truncated: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum LogReadError {
    /// The expression is none.
    #[error("{0}")]
    Grep(String),
    /// The logs cannot be read.
    #[error("the logs in {directory} cannot be read: {error}")]
    Io {
        /// Where they are.
        directory: String,
        /// Why not.
        error: io::Error,
    },
}

/// Which lines are wanted.
struct Filter<'a> {
    query: &'a LogQuery,
    grep: Option<Regex>,
    most: usize,
}

impl Filter<'_> {
    fn wants(&self, line: &LogLine) -> bool {
        let LogQuery { instance, since_ms, .. } = self.query;
        let is_of = instance.as_ref().is_none_or(|instance| {
            line.instance
                .strip_prefix(instance.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('~'))
        });
        is_of
            && since_ms.is_none_or(|since| line.at_ms >= since)
            && self.grep.as_ref().is_none_or(|grep| grep.is_match(&line.text))
    }
}

/// What an answer may still take.
struct Room {
    lines: usize,
    text: usize,
    read: u64,
}

impl Room {
    fn is_left(&self) -> bool {
        self.lines > 0 && self.text > 0 && self.read > 0
    }

    fn take(&mut self, line: &LogLine) {
        self.lines -= 1;
        self.text = self.text.saturating_sub(line.text.len());
    }
}

/// Answers from the logs in `directory`.
///
/// # Errors
/// When the expression is none, or the directory cannot be read; a service without a log has no lines.
pub fn read(directory: &Path, query: &LogQuery) -> Result<LogPage, LogReadError> {
    let grep = query.grep.as_deref().map(crate::collector::parse_expression).transpose();
    let filter = Filter { query, grep: grep.map_err(LogReadError::Grep)?, most: query.lines.min(LINES_MAX) };
    let failed = |error| LogReadError::Io { directory: directory.display().to_string(), error };
    let services = match &query.service {
        // It becomes part of a path.
        Some(service) if service.parse::<ServiceName>().is_ok() && !OTHERS.contains(&service.as_str()) => {
            BTreeSet::from([service.clone()])
        }
        Some(_) => BTreeSet::new(),
        None => services(directory).map_err(failed)?,
    };
    let mut logs = BTreeMap::new();
    for service in services {
        let files = file::open(directory, &service).map_err(failed)?;
        if !files.is_empty() {
            logs.insert(service, files);
        }
    }
    match &query.after {
        None => newest(logs, &filter),
        Some(after) => following(logs, after, &filter),
    }
    .map_err(failed)
}

/// Services that have a log.
fn services(directory: &Path) -> io::Result<BTreeSet<String>> {
    let mut services = BTreeSet::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let service = name.to_str().and_then(|name| name.split_once(".log")).filter(|(service, rest)| {
            let is_ours = rest.is_empty() || rest.strip_prefix('.').is_some_and(|n| n.parse::<u32>().is_ok());
            is_ours && !OTHERS.contains(service)
        });
        services.extend(service.map(|(service, _)| service.to_owned()));
    }
    Ok(services)
}

/// `STAMP SOURCE STREAM | TEXT`.
fn parse(service: &str, line: &[u8]) -> Option<LogLine> {
    let line = std::str::from_utf8(line).ok()?;
    let at_ms = stamp::parse_utc(line)?;
    let (head, text) = line.get(stamp::UTC_BYTES + 1..)?.split_once(" | ")?;
    let (instance, stream) = head.split_once(' ')?;
    Some(LogLine {
        at_ms,
        service: service.to_owned(),
        instance: instance.to_owned(),
        stream: stream.to_owned(),
        text: text.to_owned(),
    })
}

/// The newest lines, backwards.
fn newest(logs: BTreeMap<String, Vec<LogFile>>, filter: &Filter<'_>) -> io::Result<LogPage> {
    let mut cursor = Cursor::default();
    let mut room = Room { lines: filter.most, text: TEXT_BYTES_MAX, read: READ_BYTES_MAX };
    let mut readers = Vec::new();
    for (service, files) in logs {
        if let Some(newest) = files.first() {
            cursor.0.insert(service.clone(), newest.end());
        }
        readers.push((service, Backwards::new(files), None));
    }
    let mut lines = Vec::new();
    let mut truncated = false;
    loop {
        for (service, reader, next) in &mut readers {
            if next.is_none() {
                *next = previous(service, reader, filter, &mut room.read)?;
            }
        }
        // Of equal stamps the last service first: so they are in order the other way round.
        let latest = readers
            .iter_mut()
            .filter_map(|(_, _, next)| Some((next.as_ref()?.at_ms, next)))
            .max_by_key(|(at_ms, _)| *at_ms);
        let Some((_, next)) = latest else { break };
        if !room.is_left() {
            truncated = true;
            break;
        }
        if let Some(line) = next.take() {
            room.take(&line);
            lines.push(line);
        }
    }
    lines.reverse();
    Ok(LogPage { lines, cursor, truncated: truncated || room.read == 0 })
}

/// The next older line that is wanted.
fn previous(
    service: &str,
    reader: &mut Backwards,
    filter: &Filter<'_>,
    read: &mut u64,
) -> io::Result<Option<LogLine>> {
    while *read > 0
        && let Some(line) = reader.previous(read)?
    {
        let Some(line) = parse(service, &line) else { continue };
        if filter.query.since_ms.is_some_and(|since| line.at_ms < since) {
            reader.finish();
            return Ok(None);
        }
        if filter.wants(&line) {
            return Ok(Some(line));
        }
    }
    Ok(None)
}

/// What came after a place, forwards.
fn following(
    logs: BTreeMap<String, Vec<LogFile>>,
    after: &Cursor,
    filter: &Filter<'_>,
) -> io::Result<LogPage> {
    let mut cursor = after.clone();
    let mut room = Room { lines: filter.most.max(1), text: TEXT_BYTES_MAX, read: READ_BYTES_MAX };
    let mut readers = Vec::new();
    for (service, files) in logs {
        let reader = Forwards::new(files, after.0.get(&service));
        readers.push((service, reader, None::<(LogLine, Place)>));
    }
    let mut lines = Vec::new();
    let mut truncated = false;
    loop {
        for (service, reader, next) in &mut readers {
            while next.is_none()
                && room.read > 0
                && let Some((line, place)) = reader.next(&mut room.read)?
            {
                match parse(service, &line).filter(|line| filter.wants(line)) {
                    Some(line) => *next = Some((line, place)),
                    None => drop(cursor.0.insert(service.clone(), place)),
                }
            }
        }
        let earliest = readers
            .iter_mut()
            .filter_map(|(service, _, next)| Some((next.as_ref()?.0.at_ms, service, next)))
            .min_by_key(|(at_ms, ..)| *at_ms);
        let Some((_, service, next)) = earliest else { break };
        if !room.is_left() {
            truncated = true;
            break;
        }
        if let Some((line, place)) = next.take() {
            room.take(&line);
            cursor.0.insert(service.clone(), place);
            lines.push(line);
        }
    }
    Ok(LogPage { lines, cursor, truncated: truncated || room.read == 0 })
}

#[cfg(test)]
mod tests;
