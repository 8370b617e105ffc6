//! Which processors everybody runs on while requests are measured: a subject on the first, origin and load on the others.
//!
//! Where that is allowed, all of them also go before whatever else runs on the machine. What a request costs depends on
//! how many of them are ready when a proxy wakes, and that depends on who else wants its processor: seats keep it even.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::load::output_of;
use crate::{system, wait};

/// The priority of what is measured, where the system allows one.
const NICE: &str = "-15";
/// The system takes the priority of a session only every tenth of a second.
const SESSION_PATIENCE: Duration = Duration::from_secs(1);

/// Where a load runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Seats {
    /// The processors of origin and load; `None`: there is only one, or all may run everywhere.
    others: Option<String>,
    /// All go before other programs.
    favoured: bool,
}

impl Seats {
    /// Gives subjects and origins their processors and the priority for as long as they live.
    pub(super) fn take(subjects: &[u32], origins: &[u32]) -> Result<Self, String> {
        let mut favoured = true;
        subjects.iter().chain(origins).for_each(|pid| favoured &= favour(*pid));
        let Some((first, others)) = processors() else { return Ok(Self { others: None, favoured }) };
        subjects.iter().try_for_each(|pid| pin(*pid, &first))?;
        origins.iter().try_for_each(|pid| pin(*pid, &others))?;
        Ok(Self { others: Some(others), favoured })
    }

    /// The same without processors of their own.
    pub(super) fn share(subjects: &[u32]) -> Self {
        let mut favoured = true;
        subjects.iter().for_each(|pid| favoured &= favour(*pid));
        Self { others: None, favoured }
    }

    /// Whether the subject has a processor for itself.
    pub(super) fn are_apart(&self) -> bool {
        self.others.is_some()
    }

    /// A load's program in its place.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut words = Vec::new();
        if self.favoured {
            words.extend(["nice", "-n", NICE]);
        }
        if let Some(others) = &self.others {
            words.extend(["taskset", "-c", others]);
        }
        words.push(program);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        command
    }

    /// For a table.
    pub(super) fn note(&self) -> String {
        let place = match &self.others {
            Some(_) => "The subject had the first processor, origin and load the others",
            None => "Subject, origin and load shared all processors",
        };
        let before = if self.favoured { "before" } else { "beside" };
        format!("{place}, {before} whatever else ran.")
    }
}

/// The first of the processors that we may use, and all others.
fn processors() -> Option<(String, String)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let all = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim();
    let mut processors = numbers(all)?.into_iter();
    let first = processors.next()?.to_string();
    let others: Vec<String> = processors.map(|processor| processor.to_string()).collect();
    (!others.is_empty()).then(|| (first, others.join(",")))
}

/// `0-2,5` as numbers.
fn numbers(list: &str) -> Option<Vec<u32>> {
    let mut numbers = Vec::new();
    for range in list.split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        numbers.extend(from.parse::<u32>().ok()?..=to.parse().ok()?);
    }
    Some(numbers)
}

/// Lets all threads of a process run on these only.
fn pin(pid: u32, processors: &str) -> Result<(), String> {
    let mut taskset = Command::new("taskset");
    output_of(taskset.args(["-a", "-p", "-c", processors, &pid.to_string()])).map(|_said| ())
}

/// Lets all threads of a process go before others; whether that was allowed.
fn favour(pid: u32) -> bool {
    // Between sessions only the priority of a whole session counts, where the system makes groups of them.
    let session = PathBuf::from(format!("/proc/{pid}/autogroup"));
    let write = || std::fs::write(&session, NICE).ok();
    let before_others = !session.exists() || wait::try_until(SESSION_PATIENCE, write).is_some();
    let threads = system::cpu_of_threads(pid).into_iter().map(|(thread, _)| thread.to_string());
    let mut renice = Command::new("renice");
    renice.args(["-n", NICE, "-p"]).args(threads);
    output_of(&mut renice).is_ok() && before_others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_processors_is_read_with_its_ranges() {
        assert_eq!(numbers("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(numbers("3"), Some(vec![3]));
        assert_eq!(numbers(""), None);
    }

    #[test]
    fn a_load_is_started_in_its_place() {
        let seats = Seats { others: Some("1,2".to_owned()), favoured: true };
        let command = seats.command("wrk");
        let words: Vec<_> = command.get_args().collect();
        assert_eq!(command.get_program(), "nice");
        assert_eq!(words, ["-n", NICE, "taskset", "-c", "1,2", "wrk"]);
        assert_eq!(Seats::default().command("wrk").get_program(), "wrk");
    }
}
