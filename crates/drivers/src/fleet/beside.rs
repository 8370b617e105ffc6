//! What the agent wants beside instances: commands by way of the holder, looks of our own.
//!
//! It deliberately survives what it can: without a holder commands wait, and looks go on.

use agent::world::{CheckBy, CheckPurpose, CheckRequest, Event, FleetRequest, TaskRequest};
use telemetry::source::Source;
use tokio::time::Instant;
use wire::link::{ExitStatus, ToHolder};
use wire::vault::{ProcessRole, VaultItem};

use super::tasks::{Hears, Overdue, Running, outcome, with_last_line};
use super::{Task, spec};
use crate::starting::Starting;

impl Task {
    /// Notes what is asked beside instances, and gives back what is asked for instances themselves.
    pub(super) fn take_aside(&mut self, request: FleetRequest) -> Option<FleetRequest> {
        let now = Instant::now();
        match request {
            FleetRequest::Run(request) => {
                let hears = Hears::Task(request.task);
                self.tasks.ask(request, hears, now);
            }
            FleetRequest::Check(request) => self.check(*request, now),
            FleetRequest::Cancel { task } => {
                if let Some(source) = self.tasks.cancel(task) {
                    self.kill_task(&source);
                }
            }
            other => return Some(other),
        }
        None
    }

    fn check(&mut self, request: CheckRequest, now: Instant) {
        let CheckRequest { instance, purpose, by, timeout } = request;
        let (checks, events, starting) = (self.checks.clone(), self.events.clone(), self.starting.clone());
        let (address, path) = match by {
            CheckBy::Command(task) => {
                let hears = Hears::Check(instance, purpose, task.task);
                return self.tasks.ask(task, hears, now);
            }
            CheckBy::Http { address, path } => (address, Some(path)),
            CheckBy::Tcp { address } => (address, None),
        };
        tokio::task::spawn_local(async move {
            let result = match path {
                Some(path) => checks.http(address, &path, timeout).await,
                None => checks.tcp(address, timeout).await,
            };
            let answer = Event::Checked { instance, purpose, result };
            note_ready(&starting, &answer);
            let _ = events.send(answer).await;
        });
    }

    /// Starts those whose turn it is.
    pub(super) async fn start_tasks(&mut self) {
        while self.is_known
            && let Some((source, waiting)) = self.tasks.poll_start()
        {
            self.start_task(source, *waiting.request).await;
        }
    }

    async fn start_task(&mut self, source: Source, request: TaskRequest) {
        let (ground, of) = (self.ground.clone(), source.clone());
        let spec = off_thread(move || spec::build_task(&of, &request.spawn, &ground)).await;
        match spec {
            Ok(spec) => {
                self.track(source, None);
                self.send(&ToHolder::Spawn(Box::new(spec)));
            }
            Err(error) => self.task_failed(&source.to_string(), error).await,
        }
    }

    /// It was not started, and the agent hears why.
    pub(super) async fn task_failed(&mut self, name: &str, error: String) {
        let Some(Running { source, hears, .. }) = self.tasks.ended(name) else { return };
        self.forget_output(source);
        if let Some(hears) = hears {
            self.tell(hears.event(Err(error))).await;
        }
    }

    /// A task has ended: what it last said first. What it left running goes with it.
    pub(super) fn task_ended(&mut self, source: Source, status: ExitStatus) {
        self.send(&ToHolder::Forget { instance: source.to_string() });
        let hears = self.tasks.ended(&source.to_string()).and_then(|running| running.hears);
        self.tell_end(source, hears, move |lines| outcome(status, lines));
    }

    fn tell_end(
        &self,
        source: Source,
        hears: Option<Hears>,
        result: impl FnOnce(&[String]) -> Result<(), String> + 'static,
    ) {
        let output = source.clone();
        let lines = self.collected(move |collector, done| collector.forget(output, done));
        let (events, starting) = (self.events.clone(), self.starting.clone());
        tokio::task::spawn_local(async move {
            let lines = lines.await.unwrap_or_default();
            if let Some(hears) = hears {
                let answer = hears.event(result(&lines));
                note_ready(&starting, &answer);
                let _ = events.send(answer).await;
            }
        });
    }

    fn forget_output(&self, source: Source) {
        // Nobody waits for it: a task's files are never used again.
        let _ = self.collector.forget(source, Box::new(drop));
    }

    fn kill_task(&mut self, source: &Source) {
        if self.is_known {
            self.send(&ToHolder::KillTree { instance: source.to_string() });
        }
    }

    /// Those whose time is over.
    pub(super) fn end_overdue(&mut self) {
        for Overdue { hears, running, why } in self.tasks.overdue(Instant::now()) {
            let events = self.events.clone();
            let lines = running.map(|source| {
                self.kill_task(&source);
                self.collected(move |collector, done| collector.drain(source, done))
            });
            tokio::task::spawn_local(async move {
                let lines = match lines {
                    Some(lines) => lines.await.unwrap_or_default(),
                    None => Vec::new(),
                };
                let _ = events.send(hears.event(Err(with_last_line(why, &lines)))).await;
            });
        }
    }

    /// A holder has said all it knows: tasks of a former agent are killed, ours that ended meanwhile are told.
    pub(super) async fn take_stock_of_tasks(&mut self) {
        let named = |item: &VaultItem| match item {
            VaultItem::Process(process) if process.role == ProcessRole::Instance => {
                let source: Source = process.name.parse().ok()?;
                source.task.is_some().then_some((source, process.ended))
            }
            _ => None,
        };
        let found: Vec<(Source, Option<ExitStatus>)> =
            self.link.0.vault().values().filter_map(|(item, _)| named(item)).collect();
        let lost = self.tasks.lost(|name| found.iter().any(|(source, _)| source.to_string() == name));
        for (source, ended) in found {
            let is_ours = self.tasks.runs(&source.to_string());
            self.tasks.note_foreign(&source);
            match ended {
                Some(status) => self.task_ended(source, status),
                None if is_ours => {}
                None => self.kill_task(&source), // it is forgotten when it has ended
            }
        }
        for Running { source, hears, .. } in lost {
            self.forget_output(source);
            if let Some(hears) = hears {
                let why = "its end is not known: the holder was replaced while it ran";
                self.tell(hears.event(Err(why.to_owned()))).await;
            }
        }
    }
}

/// Nobody has to find out why an instance is not ready that is.
fn note_ready(starting: &Starting, answer: &Event) {
    if let Event::Checked { instance, purpose: CheckPurpose::Readiness, result: Ok(()) } = answer {
        starting.forget(instance);
    }
}

/// Reading files and the list of users may take long, and the link must not wait.
pub(super) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()))
}
