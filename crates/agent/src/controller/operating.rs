//! Operations that run: restart, reload, stop, start, scale, one step at a time until what was asked is true.
//!
//! ```text
//!  accepted ──► intended ──► the record is durable ──► doing ──► ended: true, or why not
//!                                                        │ restart: one more instance, ready, then an old one stops
//!                                                        │ reload:  one instance after another is told
//!                                                        └ others:  what runs comes to what is wanted
//! ```
//! What an operation still has to do is in the record, so the next agent goes on with it. What is wanted of a
//! service's instances follows from it at any moment: `Operation::target`.
//!
//! It deliberately starts and stops nothing itself, but for the instance whose turn it is.

use std::time::Duration;

use model::id::{InstanceId, ReleaseId, ServiceName};
use model::instance::{Hardness, Report};
use model::rollout::EXITS_MAX;
use model::time::Instant;
use wire::record::{OperationKind, OperationRecord};

use super::reload::Reloading;
use super::services::Service;
use super::{Controller, convert};
use crate::world::{HistoryEntry, Severity};

/// Beyond what single instances may take.
const PATIENCE_MARGIN: Duration = Duration::from_secs(10);

/// How far an operation is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// Its record is being written.
    Intended,
    Doing,
    Ended(Result<(), String>),
}

/// What an operator asked that is no rollout.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    pub id: u64,
    pub kind: OperationKind,
    pub actor: String,
    /// The client's key of the request.
    pub operation: Option<String>,
    pub started_at_ms: u64,
    /// Restart and reload: instances still to do.
    pub remaining: Vec<InstanceId>,
    /// Reload: the instance whose turn it is.
    pub reloading: Option<Reloading>,
    /// Restart: what was replaced did not run, so that nothing has waited for what took its place.
    unawaited: bool,
    /// Exits of instances that it started.
    exits: u32,
    /// What it had come to when it last moved, and when that was: slots, and instances still to do.
    moved: Option<((usize, usize), Instant)>,
    state: State,
}

impl Operation {
    pub(super) fn new(id: u64, kind: OperationKind, started_at_ms: u64) -> Self {
        Self {
            id,
            kind,
            actor: String::new(),
            operation: None,
            started_at_ms,
            remaining: Vec::new(),
            reloading: None,
            unawaited: false,
            exits: 0,
            moved: None,
            state: State::Intended,
        }
    }

    /// Goes on from what a record says.
    pub(super) fn resume(record: &OperationRecord) -> Self {
        let state = match record.succeeded {
            None => State::Doing,
            Some(true) => State::Ended(Ok(())),
            Some(false) => State::Ended(Err(record.reason.clone().unwrap_or_default())),
        };
        Self {
            actor: record.actor.clone(),
            operation: record.operation.clone(),
            remaining: record.remaining.iter().filter_map(|id| id.parse().ok()).collect(),
            state,
            ..Self::new(record.id, record.kind, record.started_at_ms)
        }
    }

    pub(super) fn record(&self) -> OperationRecord {
        OperationRecord {
            id: self.id,
            kind: self.kind,
            actor: self.actor.clone(),
            operation: self.operation.clone(),
            started_at_ms: self.started_at_ms,
            remaining: self.remaining.iter().map(ToString::to_string).collect(),
            succeeded: self.outcome().map(Result::is_ok),
            reason: self.outcome().and_then(|outcome| outcome.as_ref().err().cloned()),
        }
    }

    /// `None` while it runs.
    pub(super) fn outcome(&self) -> Option<&Result<(), String>> {
        match &self.state {
            State::Ended(outcome) => Some(outcome),
            State::Intended | State::Doing => None,
        }
    }

    /// What was true when it was accepted is durable now.
    pub(super) fn handle_recorded(&mut self) {
        if self.state == State::Intended {
            self.state = State::Doing;
        }
    }

    fn restarts(&self) -> bool {
        self.kind == OperationKind::Restart && self.state == State::Doing && !self.remaining.is_empty()
    }

    /// How many instances of the stable release are wanted while it runs: one more than the service has where
    /// a fresh one takes the place of an old one, none where two must not run at once.
    pub(super) fn target(&self, service: &Service, stable: &ReleaseId) -> u32 {
        let instances = service.instances();
        if !self.restarts() {
            return instances;
        }
        if service.is_exclusive() {
            return 0;
        }
        let leaves =
            service.slots.iter().any(|(id, slot)| id.release != *stable || slot.machine.is_leaving());
        instances + u32::from(!leaves)
    }

    /// Requests wait meanwhile, where the service cannot run twice.
    pub(super) fn holds_requests(&self) -> bool {
        match self.kind {
            OperationKind::Restart | OperationKind::Start | OperationKind::Reload => self.outcome().is_none(),
            OperationKind::Stop | OperationKind::Scale => false,
        }
    }

    /// What it waits for, one sentence.
    pub(super) fn waiting_on(&self, service: &Service) -> Option<String> {
        match &self.state {
            State::Ended(_) => return None,
            State::Intended => return Some("waits for the record to be written".to_owned()),
            State::Doing => {}
        }
        if let Some(waits) = &service.waits_for {
            return Some(waits.clone());
        }
        let instances = service.instances();
        let ready = service.stable.as_ref().map_or(0, |stable| service.ready(stable));
        Some(match self.kind {
            OperationKind::Stop => match service.slots.len() {
                1 => "waits for 1 instance to stop".to_owned(),
                left => format!("waits for {left} instances to stop"),
            },
            OperationKind::Restart if !self.remaining.is_empty() => {
                format!("{} of {instances} instances are still to be replaced", self.remaining.len())
            }
            OperationKind::Reload => match &self.reloading {
                Some(reloading) => format!("waits for {} to have reloaded", reloading.instance),
                None => format!("{} instances are still to reload", self.remaining.len()),
            },
            OperationKind::Restart | OperationKind::Start | OperationKind::Scale => {
                format!("{ready} of {instances} instances are ready")
            }
        })
    }
}

impl Controller {
    /// Ends an operation that has not moved for longer than everything it may wait for.
    fn give_up(&mut self, name: &ServiceName) -> bool {
        let now = self.now;
        let Some(service) = self.services.get_mut(name) else { return false };
        let (slots, limit) = (service.slots.len(), patience(&service.settings));
        let Some(mut operation) = service.operation.take() else { return false };
        let reached = (slots, operation.remaining.len());
        let since = match operation.moved {
            Some((before, since)) if before == reached => since,
            _ => now,
        };
        operation.moved = Some((reached, since));
        let is_over = since + limit <= now;
        let waits = operation.waiting_on(service).filter(|_| is_over);
        service.operation = Some(operation);
        if let Some(waits) = waits {
            let why = format!("nothing has moved for {}: {waits}", model::time::human(limit));
            self.end_operation(name, Err(why));
        }
        is_over
    }

    /// When the first operation that does not move is given up.
    pub(super) fn operations_due(&self) -> Option<Instant> {
        let due = |service: &Service| {
            let (_, since) = service.operating()?.moved?;
            Some(since + patience(&service.settings))
        };
        self.services.values().filter_map(due).min()
    }

    /// Moves every operation on as far as it goes now.
    pub(super) fn drive_operations(&mut self) -> bool {
        if self.stopping.is_some() {
            return false;
        }
        let mut changed = false;
        for name in self.names() {
            let Some(service) = self.services.get(&name) else { continue };
            let Some(operation) = service.operating().filter(|op| op.state == State::Doing) else { continue };
            changed |= match operation.kind {
                OperationKind::Restart => self.drive_restart(&name),
                OperationKind::Reload => self.drive_reload(&name),
                OperationKind::Stop => {
                    self.end_when(&name, service.slots.is_empty() && service.rollout.is_none())
                }
                OperationKind::Start => self.drive_start(&name),
                OperationKind::Scale => {
                    let later = service.desired.stopped && service.desired == service.durable_desired;
                    self.end_when(&name, is_settled(service) || later)
                }
            };
            let is_bounded = self.services[&name]
                .operating()
                .is_some_and(|op| !matches!(op.kind, OperationKind::Reload | OperationKind::Stop));
            changed |= is_bounded && self.give_up(&name);
        }
        changed
    }

    fn end_when(&mut self, name: &ServiceName, is_true: bool) -> bool {
        if is_true {
            self.end_operation(name, Ok(()));
        }
        is_true
    }

    fn drive_start(&mut self, name: &ServiceName) -> bool {
        let service = &self.services[name];
        if service.stable.is_some() {
            return self.end_when(name, is_settled(service));
        }
        let last =
            service.last_rollout.as_ref().filter(|_| service.rollout.is_none() && !service.start_first);
        let Some(last) = last else { return false };
        let reason = last.reason.clone().unwrap_or_else(|| "its first release did not come up".to_owned());
        self.end_operation(name, Err(reason));
        true
    }

    fn drive_restart(&mut self, name: &ServiceName) -> bool {
        let now = self.now;
        let Some(service) = self.services.get_mut(name) else { return false };
        let Some(stable) = service.stable.clone() else { return false };
        let stays = |service: &Service, id: &InstanceId| {
            id.release == stable && service.slots.get(id).is_some_and(|slot| !slot.machine.is_leaving())
        };
        let Some(mut operation) = service.operation.take() else { return false };
        let before = operation.remaining.len();
        operation.remaining.retain(|id| stays(service, id));
        let mut stopped = Vec::new();
        if service.is_exclusive() {
            // Wanted is nothing: they stop; when they have, what is wanted is all again.
        } else {
            // What does not run waits for its next start: a fresh one does not.
            for id in operation.remaining.clone() {
                let slot = service.slots.get_mut(&id).filter(|slot| slot.machine.pid().is_none());
                if let Some(slot) = slot
                    && slot.machine.try_stop(Hardness::Drain, now).is_ok()
                {
                    operation.unawaited = true;
                    stopped.push(id);
                }
            }
            operation.remaining.retain(|id| !stopped.contains(id));
            let left = u32::try_from(operation.remaining.len()).unwrap_or(u32::MAX);
            let fresh = |id: &InstanceId| id.release == stable && !operation.remaining.contains(id);
            let ready =
                service.slots.iter().filter(|(id, slot)| fresh(id) && slot.machine.is_ready()).count();
            let needed = (service.instances() + 1).saturating_sub(left);
            if !operation.remaining.is_empty() && u32::try_from(ready).unwrap_or(u32::MAX) >= needed {
                let id = operation.remaining.remove(0);
                if let Some(slot) = service.slots.get_mut(&id) {
                    let _ = slot.machine.try_stop(Hardness::Drain, now);
                }
                stopped.push(id);
            }
        }
        let changed = operation.remaining.len() != before || !stopped.is_empty();
        let (is_over, unawaited) = (operation.remaining.is_empty(), operation.unawaited);
        service.operation = Some(operation);
        // Each fresh instance has been ready; that all are at one time is asked only where none was there before.
        let is_there = service.running(&stable) == service.instances()
            && service.staying(&stable) == service.instances();
        let is_settled = is_settled(service) || (is_there && !service.is_exclusive() && !unawaited);
        for id in stopped {
            self.tell_operation(name, format!("{id} stops: a fresh instance has taken its place"));
        }
        self.saving.wanted |= changed;
        changed | self.end_when(name, is_over && is_settled)
    }

    /// What an instance did matters to whoever has started it.
    pub(super) fn hear_report(&mut self, id: &InstanceId, report: &Report) {
        let ends = self.slot(id).map_or(0, |slot| slot.machine.ends_in_a_row());
        let will_not_do = match report {
            Report::Exited(_, delay) => delay.is_none() || ends >= EXITS_MAX,
            Report::SpawnFailed(..) | Report::StartupTimeout(..) => true,
            _ => false,
        };
        if will_not_do && let Some(running) = self.rollout_from(id) {
            running.machine.handle_old_failure();
        }
        self.operation_hears(id, report);
    }

    /// What an instance did that an operation has started.
    fn operation_hears(&mut self, id: &InstanceId, report: &Report) {
        let Some(service) = self.services.get_mut(&id.service) else { return };
        let is_stable = service.stable.as_ref() == Some(&id.release);
        let Some(operation) = service.operation.as_mut().filter(|op| op.state == State::Doing) else {
            return;
        };
        if let Report::Exited(ended, _) = report
            && operation.reloading.as_ref().is_some_and(|reloading| reloading.instance == *id)
        {
            let why = format!("{id} {ended} when it was told to reload: its program does not handle that");
            self.end_operation(&id.service, Err(why));
            return;
        }
        let starts =
            matches!(operation.kind, OperationKind::Restart | OperationKind::Start | OperationKind::Scale);
        if !is_stable || !starts || operation.remaining.contains(id) {
            return;
        }
        let why = match report {
            Report::Exited(ended, None) => format!("{id} {ended}, and its restart policy keeps it down"),
            Report::Exited(ended, Some(_)) => {
                operation.exits += 1;
                if operation.exits < EXITS_MAX {
                    return;
                }
                format!("fresh instances ended {EXITS_MAX} times; the last, {id}, {ended}")
            }
            Report::SpawnFailed(error, _) => format!("{id} could not be started: {error}"),
            Report::StartupTimeout(after, detail) => {
                let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
                format!("{id} was not ready within {}{detail}", model::time::human(*after))
            }
            _ => return,
        };
        let stays = operation.kind == OperationKind::Restart && !operation.remaining.is_empty();
        let remaining = operation.remaining.clone();
        if stays {
            // The old ones stay: a replacement that will not do goes.
            let now = self.now;
            for (fresh, slot) in &mut service.slots {
                let is_fresh = fresh.release == id.release && !remaining.contains(fresh);
                if is_fresh && !slot.machine.is_ready() {
                    let _ = slot.machine.try_stop(Hardness::SkipDrain, now);
                }
            }
        }
        self.end_operation(&id.service, Err(why));
    }

    /// One line in the story of the service's operation.
    pub(super) fn tell_operation(&mut self, name: &ServiceName, text: String) {
        let wall = self.wall;
        let Some(operation) = self.services.get(name).and_then(|service| service.operation.as_ref()) else {
            return;
        };
        let (id, at_ms) = (operation.id, wall.0.saturating_sub(operation.started_at_ms));
        self.stories.line(id, at_ms, text.clone());
        self.announce(Severity::Info, Some((name, Some(id))), text);
    }

    /// What was asked is true, or will not become so.
    pub(super) fn end_operation(&mut self, name: &ServiceName, outcome: Result<(), String>) {
        let Some(operation) = self.services.get_mut(name).and_then(|service| service.operation.as_mut())
        else {
            return;
        };
        if operation.outcome().is_some() {
            return;
        }
        operation.state = State::Ended(outcome.clone());
        operation.remaining.clear();
        let reloading = operation.reloading.take();
        let (id, actor, kind) =
            (operation.id, operation.actor.clone(), convert::operation_name(operation.kind));
        let record = operation.record();
        let (text, severity) = match &outcome {
            Ok(()) => (format!("the {kind} of {name} is done"), Severity::Info),
            Err(why) => (format!("the {kind} of {name} has failed: {why}"), Severity::Error),
        };
        let at_ms = self.wall.0.saturating_sub(record.started_at_ms);
        self.stories.line(id, at_ms, text.clone());
        self.stories.finish_operation(name.to_string(), record);
        self.announce(severity, Some((name, Some(id))), text.clone());
        let entry = HistoryEntry {
            at: self.wall,
            service: Some(name.clone()),
            subject: "operation",
            text,
            actor,
            rollout: None,
        };
        self.out.push_back(super::Action::Append(Box::new(entry)));
        if let Some(reloading) = reloading {
            self.cancel_reload(&reloading);
        }
        self.saving.wanted = true;
    }
}

/// Longer than anything that one instance may take to come or to go.
fn patience(settings: &model::manifest::Service) -> Duration {
    let hooks = &settings.hooks;
    let hooks = [&hooks.before_start, &hooks.after_ready, &hooks.before_stop, &hooks.after_exit];
    let hooks: Duration = hooks.into_iter().flatten().map(|hook| hook.timeout).sum();
    let stop = settings.stop.drain_timeout + settings.stop.grace_period;
    settings.readiness.startup_timeout + stop + settings.restart.max_delay + hooks + PATIENCE_MARGIN
}

/// As many instances of the stable release as there should be are ready, and nothing else of it runs.
fn is_settled(service: &Service) -> bool {
    let Some(stable) = &service.stable else { return service.rollout.is_none() };
    let instances = service.instances();
    let in_rollout = service.rollout.as_ref().is_some_and(|running| !running.machine.phase().is_promoted());
    let desired = service.desired == service.durable_desired && !in_rollout;
    desired && service.ready(stable) >= instances && service.running(stable) == instances
}
