//! Reload: each instance in turn is told to read its configuration again.
//!
//! ```text
//!  its turn ──► signal, or command ──► settled, well again ──► the next one's turn
//!                  │ it ends, the command fails, RELOADING=1 without READY=1 in time
//!                  └──► the operation has failed; those whose turn has not come are left alone
//! ```

use std::time::Duration;

use model::id::{InstanceId, ServiceName};
use model::manifest::ReloadBy;
use model::time::Instant;

use super::Controller;
use crate::world::{FleetRequest, Notified, TaskId};

/// A program that takes the signal for its end, or says RELOADING=1, has done so by then.
const SETTLES_WITHIN: Duration = Duration::from_millis(500);

/// The instance whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reloading {
    pub instance: InstanceId,
    step: Step,
    /// Later than this is a failure.
    until: Instant,
    /// It was ready before.
    was_ready: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The command runs.
    Command(TaskId),
    /// It was told; whether it minds shows by then.
    Settling(Instant),
    /// It said RELOADING=1: READY=1 is awaited.
    Busy,
    /// It has reloaded; if it was ready before it has to be again.
    Done,
}

impl Reloading {
    pub(super) fn poll_timeout(&self) -> Instant {
        match self.step {
            Step::Settling(until) => until.min(self.until),
            Step::Command(_) | Step::Busy | Step::Done => self.until,
        }
    }
}

impl Controller {
    pub(super) fn drive_reload(&mut self, name: &ServiceName) -> bool {
        let now = self.now;
        let Some(service) = self.services.get_mut(name) else { return false };
        let Some(operation) = service.operation.as_mut() else { return false };
        if let Some(reloading) = &mut operation.reloading {
            if let Step::Settling(until) = reloading.step
                && until <= now
            {
                reloading.step = Step::Done;
            }
            let slot = service.slots.get(&reloading.instance).filter(|slot| !slot.machine.is_leaving());
            let is_well = slot.is_none_or(|slot| slot.machine.is_ready() || !reloading.was_ready);
            let instance = reloading.instance.clone();
            if reloading.step == Step::Done && is_well {
                operation.reloading = None;
                operation.remaining.retain(|id| *id != instance);
                self.saving.wanted = true;
                self.tell_operation(name, format!("{instance} has reloaded"));
                return true;
            }
            if reloading.until <= now {
                let why = match reloading.step {
                    Step::Command(_) => format!("the reload command of {instance} did not end in time"),
                    Step::Busy => format!("{instance} said RELOADING=1 and not READY=1 in time"),
                    Step::Settling(_) | Step::Done => {
                        format!("{instance} is not ready again after its reload")
                    }
                };
                self.end_operation(name, Err(why));
                return true;
            }
            return false;
        }
        let runs = |id: &InstanceId| {
            let slot = service.slots.get(id).filter(|slot| !slot.machine.is_leaving());
            slot.is_some_and(|slot| slot.machine.pid().is_some())
        };
        // What has ended meanwhile reads its configuration when it starts.
        operation.remaining.retain(runs);
        let Some(next) = operation.remaining.first().cloned() else {
            self.end_operation(name, Ok(()));
            return true;
        };
        self.tell_to_reload(name, &next)
    }

    fn tell_to_reload(&mut self, name: &ServiceName, id: &InstanceId) -> bool {
        let now = self.now;
        let Some(service) = self.services.get(name) else { return false };
        let Some(reload) = service.settings.reload.clone() else {
            self.end_operation(name, Err("the manifest no longer says how".to_owned()));
            return true;
        };
        let was_ready = service.slots.get(id).is_some_and(|slot| slot.machine.is_ready());
        let step = match reload.by {
            ReloadBy::Signal(signal) => {
                self.pending.push(FleetRequest::Signal { instance: id.clone(), signal });
                Step::Settling(now + SETTLES_WITHIN)
            }
            ReloadBy::Command(command) => match self.run_reload(id, &command, reload.timeout) {
                Some(task) => Step::Command(task),
                None => return false,
            },
        };
        let until = now + reload.timeout.max(SETTLES_WITHIN);
        let reloading = Reloading { instance: id.clone(), step, until, was_ready };
        if let Some(operation) = self.services.get_mut(name).and_then(|service| service.operation.as_mut()) {
            operation.reloading = Some(reloading);
        }
        true
    }

    /// An instance has said something; only what it says of a reload matters here.
    pub(super) fn reload_hears(&mut self, id: &InstanceId, said: &Notified) {
        let operation = self.services.get_mut(&id.service).and_then(|service| service.operation.as_mut());
        let reloading = operation.and_then(|operation| operation.reloading.as_mut());
        let Some(reloading) = reloading.filter(|reloading| reloading.instance == *id) else { return };
        match reloading.step {
            Step::Settling(_) if said.reloading && !said.ready => reloading.step = Step::Busy,
            Step::Busy if said.ready => reloading.step = Step::Done,
            Step::Settling(_) | Step::Busy | Step::Command(_) | Step::Done => {}
        }
    }

    /// A task has ended; true if it was a reload's.
    pub(super) fn reload_ended(&mut self, task: TaskId, result: &Result<(), String>) -> bool {
        let now = self.now;
        let mut failed = None;
        for (name, service) in &mut self.services {
            let reloading = service.operation.as_mut().and_then(|operation| operation.reloading.as_mut());
            let Some(reloading) = reloading.filter(|known| known.step == Step::Command(task)) else {
                continue;
            };
            match result {
                Ok(()) => reloading.step = Step::Settling(now + SETTLES_WITHIN),
                Err(error) => {
                    failed =
                        Some((name.clone(), format!("the reload command of {} {error}", reloading.instance)));
                }
            }
            if let Some((name, why)) = failed {
                self.end_operation(&name, Err(why));
            }
            return true;
        }
        false
    }

    pub(super) fn cancel_reload(&mut self, reloading: &Reloading) {
        if let Step::Command(task) = reloading.step {
            self.pending.push(FleetRequest::Cancel { task });
        }
    }

    /// When the first reload has something to do.
    pub(super) fn reloads_due(&self) -> Option<Instant> {
        let operations = self.services.values().filter_map(|service| service.operating());
        operations.filter_map(|operation| operation.reloading.as_ref()).map(Reloading::poll_timeout).min()
    }
}
