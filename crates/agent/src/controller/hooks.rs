//! Commands beside an instance: its hooks, and the reload command.
//!
//! Each is a task of the fleet: in the instance's release, as its account, with its environment and facts about
//! its life. What a former agent had left running was killed before the first inventory; the state machines of
//! the slots begin what is still needed anew.

use std::time::Duration;

use model::id::InstanceId;
use model::instance::{CheckPurpose, ExitFacts, HookKind};
use wire::manifest::millis;

use super::Controller;
use crate::world::{FleetRequest, TaskId, TaskRequest};

/// What a task of a slot is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    Hook(HookKind),
    Check(CheckPurpose),
}

impl Controller {
    pub(super) fn new_task(&mut self) -> TaskId {
        self.next_token += 1;
        TaskId(self.next_token)
    }

    /// `facts` are added to the instance's environment.
    pub(super) fn task_request(
        &self,
        id: &InstanceId,
        task: TaskId,
        purpose: &'static str,
        (command, timeout): (&[String], Duration),
        facts: Vec<(String, String)>,
    ) -> Option<TaskRequest> {
        let port = self.services.get(&id.service)?.slots.get(id)?.port;
        let mut spawn = self.plain_request(id, port, command)?;
        spawn.environment.retain(|(name, _)| facts.iter().all(|(fact, _)| fact != name));
        spawn.environment.extend(facts);
        Some(TaskRequest { task, purpose, spawn, timeout })
    }

    pub(super) fn run_hook(&mut self, id: &InstanceId, kind: HookKind, facts: Option<ExitFacts>) {
        if kind == HookKind::BeforeStart
            && let Err(error) = self.take_port(id)
        {
            self.end_hook(id, kind, Err(error));
            return;
        }
        let task = self.new_task();
        let Some(service) = self.services.get(&id.service) else { return };
        let hook = service.slots.get(id).and_then(|slot| kind.of(&slot.machine.settings().hooks).cloned());
        let mut environment = self.process_facts(id);
        environment.push(("HANDOVER_HOOK".to_owned(), kind.name().to_owned()));
        if let Some(facts) = facts {
            environment.extend(exit_facts(&facts));
        }
        let request = hook.and_then(|hook| {
            self.task_request(id, task, purpose(kind), (&hook.command, hook.timeout), environment)
        });
        let Some(request) = request else {
            self.end_hook(id, kind, Ok(()));
            return;
        };
        if let Some(slot) = self.slot(id) {
            slot.tasks.insert(Work::Hook(kind), task);
            self.pending.push(FleetRequest::Run(Box::new(request)));
        }
    }

    /// Runs the command that tells an instance to reload; its end is told to `reload_ended`.
    pub(super) fn run_reload(
        &mut self,
        id: &InstanceId,
        command: &[String],
        timeout: Duration,
    ) -> Option<TaskId> {
        let task = self.new_task();
        let facts = self.process_facts(id);
        let request = self.task_request(id, task, "reload", (command, timeout), facts)?;
        self.pending.push(FleetRequest::Run(Box::new(request)));
        Some(task)
    }

    /// What a command beside an instance may know of its process.
    pub(super) fn process_facts(&self, id: &InstanceId) -> Vec<(String, String)> {
        let slot = self.services.get(&id.service).and_then(|service| service.slots.get(id));
        let Some(machine) = slot.map(|slot| &slot.machine) else { return Vec::new() };
        let mut facts = vec![("HANDOVER_RESTARTS".to_owned(), machine.restarts().to_string())];
        if let Some(pid) = machine.pid() {
            facts.push(("HANDOVER_PID".to_owned(), pid.to_string()));
        }
        if let Some(ran) = machine.run_time(self.now) {
            facts.push(("HANDOVER_RUN_MS".to_owned(), millis(ran).to_string()));
        }
        facts
    }

    pub(super) fn cancel_hook(&mut self, id: &InstanceId, kind: HookKind) {
        self.cancel(id, Work::Hook(kind));
    }

    pub(super) fn cancel(&mut self, id: &InstanceId, work: Work) {
        if let Some(task) = self.slot(id).and_then(|slot| slot.tasks.remove(&work)) {
            self.pending.push(FleetRequest::Cancel { task });
        }
    }

    pub(super) fn handle_task_ended(&mut self, task: TaskId, result: Result<(), String>) {
        if self.reload_ended(task, &result) {
            return;
        }
        let mut slots = self.services.values().flat_map(|service| &service.slots);
        let found = slots.find_map(|(id, slot)| {
            let known = slot.tasks.iter().find(|(_, known)| **known == task);
            known.map(|(work, _)| (id.clone(), *work))
        });
        // An unknown one is of a former agent, or was cancelled while its end was on its way.
        if let Some((id, Work::Hook(kind))) = found {
            self.end_hook(&id, kind, result);
        }
    }

    fn end_hook(&mut self, id: &InstanceId, kind: HookKind, result: Result<(), String>) {
        let now = self.now;
        if let Some(slot) = self.slot(id) {
            slot.tasks.remove(&Work::Hook(kind));
            slot.machine.handle_hook_ended(kind, result, now);
        }
    }
}

fn exit_facts(facts: &ExitFacts) -> Vec<(String, String)> {
    let mut known = vec![("HANDOVER_RUN_MS".to_owned(), millis(facts.ran).to_string())];
    if let Some(code) = facts.ended.code() {
        known.push(("HANDOVER_EXIT_CODE".to_owned(), code.to_string()));
    }
    if let Some(signal) = facts.ended.signal() {
        known.push(("HANDOVER_EXIT_SIGNAL".to_owned(), signal.to_string()));
    }
    known
}

fn purpose(kind: HookKind) -> &'static str {
    match kind {
        HookKind::BeforeStart => "before-start",
        HookKind::AfterReady => "after-ready",
        HookKind::BeforeStop => "before-stop",
        HookKind::AfterExit => "after-exit",
    }
}
