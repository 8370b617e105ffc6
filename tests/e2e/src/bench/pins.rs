//! Which processors a process may use: a subject gets the first, its load and the origin all others.
//!
//! Where that is allowed, all of them also go before whatever else runs on the machine.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::load::output_of;
use crate::{system, wait};

/// The priority of what is measured on its own processor, where the system allows that.
const NICE: &str = "-15";
/// The system takes such a change only every tenth of a second.
const GROUP_PATIENCE: Duration = Duration::from_secs(1);

/// The processors of this machine as lists that `taskset` takes.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    pub(super) all: String,
    pub(super) first: String,
    pub(super) others: String,
}

impl Pins {
    /// `None` with a single processor.
    pub(super) fn known() -> Option<Self> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let all = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim();
        let mut processors = processors_of(all)?.into_iter();
        let first = processors.next()?.to_string();
        let others: Vec<String> = processors.map(|processor| processor.to_string()).collect();
        (!others.is_empty()).then(|| Self { all: all.to_owned(), first, others: others.join(",") })
    }

    /// Lets all threads of a process run on these only.
    pub(super) fn pin(pid: u32, processors: &str) -> Result<(), String> {
        let mut taskset = Command::new("taskset");
        output_of(taskset.args(["-a", "-p", "-c", processors, &pid.to_string()])).map(|_said| ())
    }

    /// Lets all threads of a process go before others, or no longer; whether that was allowed.
    pub(super) fn favour(pid: u32, favoured: bool) -> bool {
        let nice = if favoured { NICE } else { "0" };
        // Between sessions only the priority of their groups counts, where the system makes such groups.
        let group = PathBuf::from(format!("/proc/{pid}/autogroup"));
        let write = || std::fs::write(&group, nice).ok();
        let grouped = !group.exists() || wait::try_until(GROUP_PATIENCE, write).is_some();
        let threads = system::cpu_of_threads(pid).into_iter().map(|(thread, _)| thread.to_string());
        let mut renice = Command::new("renice");
        renice.args(["-n", nice, "-p"]).args(threads);
        output_of(&mut renice).is_ok() && grouped
    }

    /// A program that runs on these only, with the priority of the others.
    pub(super) fn command(program: &str, processors: &str, favoured: bool) -> Command {
        let mut command = Command::new("nice");
        command.args(["-n", if favoured { NICE } else { "0" }, "taskset", "-c", processors, program]);
        command
    }
}

/// `0-2,5` as numbers.
fn processors_of(list: &str) -> Option<Vec<u32>> {
    let mut processors = Vec::new();
    for range in list.split(',') {
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        processors.extend(from.parse::<u32>().ok()?..=to.parse().ok()?);
    }
    Some(processors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_processors_is_read_with_its_ranges() {
        assert_eq!(processors_of("0-2,5"), Some(vec![0, 1, 2, 5]));
        assert_eq!(processors_of("3"), Some(vec![3]));
        assert_eq!(processors_of(""), None);
    }
}
