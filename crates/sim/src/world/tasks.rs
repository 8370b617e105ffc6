//! What runs beside processes: checks by the agent, hooks, reloads.

use std::time::Duration;

use agent::world::{CheckPurpose, CheckRequest, Event, Notified, TaskId, TaskRequest};
use model::id::InstanceId;
use wire::link::ExitStatus;

use super::{Happening, World};

const SIGHUP: i32 = 1;

impl World {
    pub(super) fn begin_check(&mut self, request: &CheckRequest) {
        let Some(process) = self.holder.running.get(&request.instance) else { return };
        let pid = process.pid;
        let (life, wait) = (self.life, self.millis_between(1, 40));
        let ends = Happening::CheckEnds(life, request.instance.clone(), pid, request.purpose);
        self.later(wait, ends);
    }

    pub(super) fn check_ends(&mut self, life: u64, instance: &InstanceId, pid: u32, purpose: CheckPurpose) {
        let now = self.now;
        if life != self.life {
            return;
        }
        let process = self.holder.running.get(instance).filter(|process| process.pid == pid);
        let answers = process.is_some_and(|process| process.answers(now));
        let result = if answers { Ok(()) } else { Err("connection refused".to_owned()) };
        self.tell(Event::Checked { instance: instance.clone(), purpose, result });
    }

    pub(super) fn begin_task(&mut self, request: &TaskRequest) {
        let (service, version) =
            super::names(&request.spawn.instance.service, &request.spawn.instance.release);
        let fails = self.behaviour(&service, &version).hooks_fail && request.purpose != "reload";
        let result = if fails { Err("exited with code 1".to_owned()) } else { Ok(()) };
        self.note(&format!("{} of {} runs", request.purpose, request.spawn.instance));
        self.holder.tasks.insert(request.task, result);
        let (life, wait) = (self.life, self.millis_between(5, 200));
        self.later(wait, Happening::TaskEnds(life, request.task));
    }

    pub(super) fn task_ends(&mut self, life: u64, task: TaskId) {
        if life == self.life
            && let Some(result) = self.holder.tasks.remove(&task)
        {
            self.tell(Event::TaskEnded { task, result });
        }
    }

    /// SIGHUP: it reads its configuration again, or does not know that signal.
    pub(super) fn tell_to_reload(&mut self, instance: &InstanceId) {
        let Some(process) = self.holder.running.get(instance) else { return };
        let (pid, dies, notifies) = (process.pid, process.behaviour.dies_at_reload, process.notify);
        if dies {
            self.later(
                Duration::from_millis(5),
                Happening::ProcessExits(instance.clone(), pid, ExitStatus::Signal(SIGHUP)),
            );
        } else if notifies {
            let said = Notified { reloading: true, ..Notified::default() };
            self.tell(Event::Notified { instance: instance.clone(), said });
            self.later(Duration::from_millis(300), Happening::Reloads(instance.clone(), pid));
        }
    }

    pub(super) fn process_reloaded(&mut self, instance: &InstanceId, pid: u32) {
        if self.holder.running.get(instance).is_some_and(|process| process.pid == pid) {
            let said = Notified { ready: true, ..Notified::default() };
            self.tell(Event::Notified { instance: instance.clone(), said });
        }
    }
}
