//! Whether origins, Handover and clients saw the same requests.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::mutate;
use super::rig::Rig;
use crate::wait;

/// For logs to be written.
const SETTLE: Duration = Duration::from_secs(5);

/// (origin, method, case, letter): one request that may be seen.
type Key = (String, String, u64, char);

/// Stands for the case of a request whose target was mutated beyond recognition: these are only counted.
const UNMARKED: (u64, char) = (u64::MAX, '?');

/// What clients got.
#[derive(Debug, Default)]
pub(super) struct Answers(Vec<(u64, String, Result<Vec<u8>, String>)>, Option<(Duration, u64, String)>);

impl Answers {
    pub(super) fn add(&mut self, case: u64, origin: &str, answer: Result<Vec<u8>, String>, took: Duration) {
        self.1 = self.1.take().max(Some((took, case, origin.to_owned())));
        self.0.push((case, origin.to_owned(), answer));
    }

    /// The slowest of them, with its case and origin.
    pub(super) fn slowest(&self) -> Option<&(Duration, u64, String)> {
        self.1.as_ref()
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
        self.1 = self.1.take().max(other.1);
    }

    /// The status of every answer.
    pub(super) fn statuses(&self) -> impl Iterator<Item = u16> {
        self.0.iter().filter_map(|(_, _, answer)| answer.as_ref().ok()).flat_map(|bytes| {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let lines: Vec<u16> =
                text.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect();
            lines
        })
    }
}

/// What Handover logged of one request.
#[derive(Debug, Clone, Copy, Default)]
struct Logged {
    /// Times it was forwarded, or may have been, retries included.
    at_most: u64,
    /// Times an origin has answered it.
    answered: u64,
}

/// The case and letter of the first `/c/N/x` in a text.
fn marker(text: &str) -> Option<(u64, char)> {
    let (_, rest) = text.split_once("/c/")?;
    let (number, rest) = rest.split_once('/')?;
    let letter = rest.chars().next().filter(|letter| "asz".contains(*letter))?;
    Some((number.parse().ok()?, letter))
}

/// What must not be, each with the case it is about.
pub(super) fn judge(
    rig: &mut Rig,
    seed: u64,
    answers: &Answers,
    totals: &mut BTreeMap<String, u64>,
) -> Vec<(Option<u64>, String)> {
    let mut seen: BTreeMap<Key, u64> = BTreeMap::new();
    let mut logged: BTreeMap<Key, Logged> = BTreeMap::new();
    let mut violations = Vec::new();
    let origins: Vec<String> = rig.origins().iter().map(|(name, _)| name.clone()).collect();
    let _settled = wait::try_until(SETTLE, || {
        for line in rig.new_access_lines() {
            note(&line, &mut logged);
        }
        for origin in &origins {
            for line in rig.new_lines_of(origin) {
                match request_in(&line) {
                    Some((method, case, letter)) => {
                        *seen.entry((origin.clone(), method, case, letter)).or_default() += 1;
                        *totals.entry(origin.clone()).or_default() += 1;
                    }
                    // Debian's httpd logs a connection that ended in a head in this way.
                    None if line == "SEEN -" => {}
                    None => violations
                        .push((marker(&line).map(|(case, _)| case), format!("{origin} saw: {line}"))),
                }
            }
        }
        disagreements(&seen, &logged).is_empty().then_some(())
    });
    violations.extend(disagreements(&seen, &logged));
    violations.extend(strangers(seed, answers));
    violations
}

/// The request that an origin's line is about. One that Node does not take for its method is a request all the same.
fn request_in(line: &str) -> Option<(String, u64, char)> {
    let request = line.strip_prefix("SEEN ").or_else(|| line.strip_prefix("BAD HPE_INVALID_METHOD "))?;
    let (method, rest) = request.split_once(' ')?;
    let is_whole =
        line.starts_with("SEEN ") || rest.split(' ').nth(1).is_some_and(|word| word.starts_with("HTTP/1.1"));
    let (case, letter) = marker(rest).unwrap_or(UNMARKED);
    is_whole.then(|| (method.to_owned(), case, letter))
}

fn note(line: &str, logged: &mut BTreeMap<Key, Logged>) {
    let Ok(value) = serde_json::from_str::<Value>(line) else { return };
    let (Some(service), Some(path)) = (value["service"].as_str(), value["path"].as_str()) else { return };
    let (case, letter) = marker(path).unwrap_or(UNMARKED);
    let method = value["method"].as_str().unwrap_or_default().to_owned();
    let entry = logged.entry((service.to_owned(), method, case, letter)).or_default();
    entry.at_most += 1 + value["retries"].as_u64().unwrap_or(0);
    entry.answered += u64::from(matches!(value["status"].as_u64(), Some(200 | 404)));
}

fn disagreements(seen: &BTreeMap<Key, u64>, logged: &BTreeMap<Key, Logged>) -> Vec<(Option<u64>, String)> {
    let mut all = Vec::new();
    for (key, count) in seen {
        let at_most = logged.get(key).map_or(0, |logged| logged.at_most);
        if *count > at_most {
            let (origin, method, case, letter) = key;
            all.push((
                Some(*case),
                format!(
                    "{origin} saw {method} /c/{case}/{letter} {count} times, Handover forwarded it {at_most} times"
                ),
            ));
        }
    }
    for (key, logged) in logged {
        let count = seen.get(key).copied().unwrap_or(0);
        if count < logged.answered {
            let (origin, method, case, letter) = key;
            let answered = logged.answered;
            all.push((
                Some(*case),
                format!(
                    "{origin} saw {method} /c/{case}/{letter} {count} times and answered it {answered} times"
                ),
            ));
        }
    }
    all
}

/// Answers that are another connection's, and connections that did not end.
fn strangers(seed: u64, answers: &Answers) -> Vec<(Option<u64>, String)> {
    let mut all = Vec::new();
    for (case, origin, answer) in &answers.0 {
        match answer {
            Err(why) => all.push((Some(*case), format!("{origin}: {why}"))),
            Ok(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                for line in text.lines().filter(|line| line.to_ascii_lowercase().starts_with("x-seen:")) {
                    // A mutation may have changed the number, but then it was sent so.
                    let is_other = |other: u64| {
                        let sent = String::from_utf8_lossy(&mutate::request(seed, *case)).into_owned();
                        other != *case && !sent.contains(&format!("/c/{other}/"))
                    };
                    if marker(line).is_some_and(|(other, _)| is_other(other)) {
                        all.push((Some(*case), format!("{origin}: it got the answer of another: {line}")));
                    }
                }
            }
        }
    }
    all
}
