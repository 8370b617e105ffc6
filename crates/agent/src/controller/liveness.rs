//! Looking at instances, and restarting those that hang.
//!
//! Of a service one at a time is restarted for that, and one that still takes requests only while at least half
//! of its companions do: a check that is wrong, or a database that is away, must not take the whole service down.
//! One that is unready itself loses nothing: it is restarted whatever the others are.
//!
//! It deliberately decides nothing about when an instance hangs: that is `model::instance`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use model::id::InstanceId;
use model::instance::CheckPurpose;
use model::manifest::{LivenessCheck, ReadinessCheck};

use super::Controller;
use super::hooks::Work;
use super::services::Service;
use crate::world::{self, CheckBy, CheckRequest, FleetRequest};

/// Where instances listen.
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How an instance is to be looked at.
enum Look {
    Http(String),
    Tcp,
    Command(Vec<String>),
}

impl Controller {
    /// Looks once; where there is nothing to look at, nothing is answered and the instance asks again later.
    pub(super) fn check(&mut self, id: &InstanceId, purpose: CheckPurpose) {
        // Of an earlier look nobody has heard.
        self.cancel(id, Work::Check(purpose));
        let Some(slot) = self.slot(id) else { return };
        let settings = slot.machine.settings();
        let (look, timeout) = match purpose {
            CheckPurpose::Readiness => match &settings.readiness.check {
                ReadinessCheck::Command(command) => {
                    (Look::Command(command.clone()), settings.readiness.timeout)
                }
                ReadinessCheck::Http(_)
                | ReadinessCheck::Tcp
                | ReadinessCheck::Notify
                | ReadinessCheck::Log(_)
                | ReadinessCheck::AliveFor(_) => return,
            },
            CheckPurpose::Liveness => {
                let Some(liveness) = &settings.liveness else { return };
                let look = match &liveness.check {
                    LivenessCheck::Http(path) => Look::Http(path.clone()),
                    LivenessCheck::Tcp => Look::Tcp,
                    LivenessCheck::Command(command) => Look::Command(command.clone()),
                    LivenessCheck::Watchdog => return,
                };
                (look, liveness.timeout)
            }
        };
        let address = slot.port.map(|port| SocketAddr::new(LOOPBACK, port));
        let by = match (look, address) {
            (Look::Http(path), Some(address)) => CheckBy::Http { address, path },
            (Look::Tcp, Some(address)) => CheckBy::Tcp { address },
            (Look::Http(_) | Look::Tcp, None) => return,
            (Look::Command(command), _) => {
                let task = self.new_task();
                let (name, facts) = (purpose_name(purpose), self.process_facts(id));
                let Some(request) = self.task_request(id, task, name, (&command, timeout), facts) else {
                    return;
                };
                if let Some(slot) = self.slot(id) {
                    slot.tasks.insert(Work::Check(purpose), task);
                }
                CheckBy::Command(Box::new(request))
            }
        };
        let purpose = to_world(purpose);
        let request = CheckRequest { instance: id.clone(), purpose, by, timeout };
        self.pending.push(FleetRequest::Check(Box::new(request)));
    }

    pub(super) fn cancel_checks(&mut self, id: &InstanceId) {
        self.cancel(id, Work::Check(CheckPurpose::Readiness));
        self.cancel(id, Work::Check(CheckPurpose::Liveness));
    }

    pub(super) fn handle_checked(
        &mut self,
        id: &InstanceId,
        purpose: world::CheckPurpose,
        result: Result<(), String>,
    ) {
        let now = self.now;
        let Some(slot) = self.slot(id) else { return };
        let purpose = match purpose {
            world::CheckPurpose::Readiness => CheckPurpose::Readiness,
            world::CheckPurpose::Liveness => CheckPurpose::Liveness,
        };
        slot.tasks.remove(&Work::Check(purpose));
        slot.machine.handle_checked(purpose, result, now);
    }

    /// Restarts what hangs, as far as that is allowed now.
    pub(super) fn restart_hung(&mut self) -> bool {
        if self.stopping.is_some() {
            return false;
        }
        let now = self.now;
        let chosen: Vec<InstanceId> = self.services.values().filter_map(next_hung).cloned().collect();
        for id in &chosen {
            let Some(slot) = self.slot(id) else { continue };
            if slot.machine.try_kill_hung(now).is_ok() {
                self.tell_trouble(id, &format!("{id} is being restarted because it hangs"));
            }
        }
        !chosen.is_empty()
    }
}

/// The instance that may be restarted for hanging: unready ones first.
fn next_hung(service: &Service) -> Option<&InstanceId> {
    if service.slots.values().any(|slot| slot.machine.is_recovering()) {
        return None;
    }
    let hung = || service.slots.iter().filter(|(_, slot)| slot.machine.hung().is_some());
    let unready = hung().find(|(_, slot)| !slot.machine.is_ready());
    let chosen = unready.or_else(|| hung().find(|(id, _)| can_be_spared(service, id)));
    chosen.map(|(id, _)| id)
}

/// At least half of the others of its release are ready.
fn can_be_spared(service: &Service, id: &InstanceId) -> bool {
    let others =
        service.slots_of(&id.release).filter(|(other, slot)| *other != id && !slot.machine.is_leaving());
    let (ready, all) = others.fold((0_usize, 0_usize), |(ready, all), (_, slot)| {
        (ready + usize::from(slot.machine.is_ready()), all + 1)
    });
    ready * 2 >= all
}

fn purpose_name(purpose: CheckPurpose) -> &'static str {
    match purpose {
        CheckPurpose::Readiness => "readiness",
        CheckPurpose::Liveness => "liveness",
    }
}

fn to_world(purpose: CheckPurpose) -> world::CheckPurpose {
    match purpose {
        CheckPurpose::Readiness => world::CheckPurpose::Readiness,
        CheckPurpose::Liveness => world::CheckPurpose::Liveness,
    }
}
