//! Commands beside instances: which run, which wait for their turn, and who hears of their end.
//!
//! ```text
//!  asked ──► waiting ──► running ──► ended ──► told
//!               │           └── its time is over, or nobody waits any more: killed, and forgotten when it has ended
//!               └── its time is over: told
//! ```
//! Commands that check wait while many of them run; hooks never do, for something else waits for them. Without a
//! holder everything waits.
//!
//! A book and nothing else: who keeps it talks to holder and agent.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use agent::world::{CheckPurpose, Event, TaskId, TaskRequest};
use model::id::InstanceId;
use model::time::human;
use telemetry::source::Source;
use tokio::time::Instant;
use wire::link::ExitStatus;

/// Checks by command that run at once.
const CHECKS_MAX: usize = 64;
/// Of the last line of a task that failed, this much is said.
const LAST_LINE_CHARS_MAX: usize = 200;

/// What a task ends as, for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Hears {
    /// `TaskEnded`.
    Task(TaskId),
    /// `Checked`.
    Check(InstanceId, CheckPurpose, TaskId),
}

impl Hears {
    fn task(&self) -> TaskId {
        match self {
            Self::Task(task) | Self::Check(_, _, task) => *task,
        }
    }

    /// What the agent hears.
    pub(crate) fn event(self, result: Result<(), String>) -> Event {
        match self {
            Self::Task(task) => Event::TaskEnded { task, result },
            Self::Check(instance, purpose, _) => Event::Checked { instance, purpose, result },
        }
    }
}

#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) request: Box<TaskRequest>,
    pub(crate) hears: Hears,
    deadline: Instant,
}

/// One that was started.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) source: Source,
    /// `None`: nobody any more.
    pub(crate) hears: Option<Hears>,
    timeout: Duration,
    deadline: Instant,
}

/// One whose time is over.
#[derive(Debug)]
pub(crate) struct Overdue {
    pub(crate) hears: Hears,
    /// To be killed.
    pub(crate) running: Option<Source>,
    pub(crate) why: String,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    waiting: VecDeque<Waiting>,
    /// By name.
    running: BTreeMap<String, Running>,
    /// Of the last one; never used twice, also not after a restart of the agent while one is left.
    number: u64,
}

impl Tasks {
    pub(crate) fn ask(&mut self, request: Box<TaskRequest>, hears: Hears, now: Instant) {
        let deadline = now + request.timeout;
        self.waiting.push_back(Waiting { request, hears, deadline });
    }

    /// The next one that may start, which is from now on a running one of that name.
    pub(crate) fn poll_start(&mut self) -> Option<(Source, Waiting)> {
        let checks =
            self.running.values().filter(|task| matches!(task.hears, Some(Hears::Check(..)))).count();
        let may = |waiting: &Waiting| checks < CHECKS_MAX || matches!(waiting.hears, Hears::Task(_));
        let at = self.waiting.iter().position(may)?;
        let next = self.waiting.remove(at)?;
        self.number += 1;
        let source = Source::task(next.request.spawn.instance.clone(), next.request.purpose, self.number);
        let running = Running {
            source: source.clone(),
            hears: Some(next.hears.clone()),
            timeout: next.request.timeout,
            deadline: next.deadline,
        };
        self.running.insert(source.to_string(), running);
        Some((source, next))
    }

    /// Its end is known, or it was never started.
    pub(crate) fn ended(&mut self, name: &str) -> Option<Running> {
        self.running.remove(name)
    }

    pub(crate) fn runs(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    /// Nobody waits for it any more; says what has to be killed.
    pub(crate) fn cancel(&mut self, task: TaskId) -> Option<Source> {
        self.waiting.retain(|waiting| waiting.hears.task() != task);
        let running =
            self.running.values_mut().find(|task_| task_.hears.as_ref().map(Hears::task) == Some(task))?;
        running.hears = None;
        Some(running.source.clone())
    }

    /// All that somebody waits for, and those that run: there is no more to be done.
    pub(crate) fn cancel_all(&mut self) -> Vec<Source> {
        self.waiting.clear();
        self.running.values_mut().for_each(|running| running.hears = None);
        self.running.values().map(|running| running.source.clone()).collect()
    }

    /// When `overdue` has something to say.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let running = self.running.values().filter(|task| task.hears.is_some()).map(|task| task.deadline);
        self.waiting.iter().map(|waiting| waiting.deadline).chain(running).min()
    }

    /// Those whose time is over; nobody waits for them any more.
    pub(crate) fn overdue(&mut self, now: Instant) -> Vec<Overdue> {
        let mut overdue = Vec::new();
        self.waiting.retain(|waiting| {
            let is_over = waiting.deadline <= now;
            if is_over {
                let timeout = human(waiting.request.timeout);
                overdue.push(Overdue {
                    hears: waiting.hears.clone(),
                    running: None,
                    why: format!("it could not be started within {timeout}"),
                });
            }
            !is_over
        });
        for running in self.running.values_mut().filter(|running| running.deadline <= now) {
            if let Some(hears) = running.hears.take() {
                let why = format!("did not end within {} and was killed", human(running.timeout));
                overdue.push(Overdue { hears, running: Some(running.source.clone()), why });
            }
        }
        overdue
    }

    /// A task of that name is there and is none of ours.
    pub(crate) fn note_foreign(&mut self, source: &Source) {
        self.number = self.number.max(source.task_number().unwrap_or(0));
    }

    /// Running ones that a new holder does not know of.
    pub(crate) fn lost(&mut self, is_known: impl Fn(&str) -> bool) -> Vec<Running> {
        let lost: Vec<String> = self.running.keys().filter(|name| !is_known(name)).cloned().collect();
        lost.iter().filter_map(|name| self.running.remove(name)).collect()
    }
}

/// One sentence about how a task ended, with the last thing it said.
pub(crate) fn outcome(status: ExitStatus, lines: &[String]) -> Result<(), String> {
    let how = match status {
        ExitStatus::Code(0) => return Ok(()),
        ExitStatus::Code(code) => format!("exited with code {code}"),
        ExitStatus::Signal(signal) => format!("was killed by signal {signal}"),
        ExitStatus::OutOfMemory => "was killed because memory ran out".to_owned(),
        ExitStatus::Unknown => "ended, and nobody saw how".to_owned(),
    };
    Err(with_last_line(how, lines))
}

/// `how`, with the last thing a task said.
pub(crate) fn with_last_line(how: String, lines: &[String]) -> String {
    match lines.iter().rev().map(|line| line.trim()).find(|line| !line.is_empty()) {
        None => how,
        Some(line) => {
            let line: String = line.chars().take(LAST_LINE_CHARS_MAX).collect();
            format!("{how}: its last line was \"{line}\"")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use agent::world::SpawnRequest;
    use model::manifest::{Limits, Output, Stop, StopSignal};

    use super::*;

    fn request(task: u64, timeout: u64) -> Box<TaskRequest> {
        let spawn = SpawnRequest {
            instance: "shop@1/0".parse().unwrap(),
            release_directory: PathBuf::from("/"),
            command: vec!["true".into()],
            environment: Vec::new(),
            port: None,
            port_is_fixed: false,
            notify: false,
            watchdog: None,
            ready_log: None,
            environment_file: None,
            working_directory: None,
            account: None,
            umask: None,
            limits: Limits::default(),
            output: Output::default(),
            stop: Stop {
                signal: StopSignal::Graceful,
                drain_timeout: Duration::ZERO,
                grace_period: Duration::ZERO,
            },
        };
        let timeout = Duration::from_secs(timeout);
        Box::new(TaskRequest { task: TaskId(task), purpose: "liveness", spawn, timeout })
    }

    fn check(task: u64) -> Hears {
        Hears::Check("shop@1/0".parse().unwrap(), CheckPurpose::Liveness, TaskId(task))
    }

    #[test]
    fn checks_wait_for_their_turn_and_hooks_do_not() {
        let mut tasks = Tasks::default();
        let now = Instant::now();
        let checks = CHECKS_MAX as u64 + 1;
        (0..checks).for_each(|n| tasks.ask(request(n, 5), check(n), now));
        tasks.ask(request(100, 5), Hears::Task(TaskId(100)), now);
        let started: Vec<Source> =
            std::iter::from_fn(|| tasks.poll_start()).map(|(source, _)| source).collect();
        assert_eq!(started.len(), CHECKS_MAX + 1);
        let (hook, check) = (started[CHECKS_MAX].to_string(), started[0].to_string());
        assert_eq!(tasks.ended(&hook).unwrap().hears, Some(Hears::Task(TaskId(100))));
        assert!(tasks.poll_start().is_none());
        tasks.ended(&check).unwrap();
        assert!(tasks.poll_start().is_some());
    }

    #[test]
    fn whose_time_is_over_is_told_once_and_killed_if_it_runs() {
        let mut tasks = Tasks::default();
        let now = Instant::now();
        tasks.ask(request(1, 2), Hears::Task(TaskId(1)), now);
        tasks.ask(request(2, 1), Hears::Task(TaskId(2)), now);
        let (source, _) = tasks.poll_start().unwrap();
        assert_eq!(tasks.deadline(), Some(now + Duration::from_secs(1)));
        let overdue = tasks.overdue(now + Duration::from_secs(2));
        let told: Vec<_> = overdue.iter().map(|task| (task.why.as_str(), task.running.clone())).collect();
        assert_eq!(
            told,
            [
                ("it could not be started within 1s", None),
                ("did not end within 2s and was killed", Some(source.clone()))
            ]
        );
        assert!(tasks.overdue(now + Duration::from_secs(9)).is_empty());
        assert_eq!((tasks.deadline(), tasks.ended(&source.to_string()).unwrap().hears), (None, None));
    }

    #[test]
    fn what_a_former_agent_left_is_never_taken_for_ours() {
        let mut tasks = Tasks::default();
        tasks.note_foreign(&"shop@1/0~liveness-7".parse().unwrap());
        tasks.ask(request(1, 2), Hears::Task(TaskId(1)), Instant::now());
        let (source, _) = tasks.poll_start().unwrap();
        assert_eq!(source.to_string(), "shop@1/0~liveness-8");
        assert!(tasks.lost(|name| name == source.to_string()).is_empty());
        assert_eq!(tasks.lost(|_| false).len(), 1);
    }

    #[test]
    fn an_end_is_told_with_the_last_thing_that_was_said() {
        let lines = ["one".to_owned(), "no such table".to_owned(), "  ".to_owned()];
        assert_eq!(outcome(ExitStatus::Code(0), &lines), Ok(()));
        assert_eq!(
            outcome(ExitStatus::Code(3), &lines).unwrap_err(),
            "exited with code 3: its last line was \"no such table\""
        );
        assert_eq!(outcome(ExitStatus::Signal(9), &[]).unwrap_err(), "was killed by signal 9");
    }
}
