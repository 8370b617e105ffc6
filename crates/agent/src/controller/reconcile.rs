//! What should run against what does: makes the slots that are missing, stops those that are not wanted.
//!
//! It deliberately decides nothing about when: what is wanted follows from `Service::wanted`.

use std::cmp::Reverse;

use model::id::{InstanceId, ReleaseId, ServiceName};
use model::instance::{Hardness, Instance};
use model::rollout::Wanted;
use model::time::Instant;

use super::services::{Service, Slot};
use super::{Controller, Link};

impl Controller {
    /// Starts what is wanted and missing, stops what runs and is not wanted.
    pub(super) fn reconcile(&mut self) -> bool {
        if self.link != Link::Linked || self.stopping.is_some() {
            return false;
        }
        let mut changed = false;
        for name in self.names() {
            changed |= self.begin_first(&name);
            changed |= self.reconcile_service(&name);
        }
        changed
    }

    fn reconcile_service(&mut self, name: &ServiceName) -> bool {
        let now = self.now;
        let unmet = self.unmet_dependency(name);
        let is_needed = self.waits_for_dependents(name);
        let Some(service) = self.services.get_mut(name) else { return false };
        let mut changed = false;
        let wanted = service.wanted();
        for (id, slot) in &mut service.slots {
            if !wanted.contains_key(&id.release) && !slot.machine.is_leaving() && !is_needed {
                changed |= slot.machine.try_stop(Hardness::Drain, now).is_ok();
            }
        }
        service.waits_for = None;
        for (release, wanted) in wanted {
            let Wanted::Instances(count) = wanted else { continue };
            let staying = service.staying(&release);
            if staying > count {
                changed |= stop_extra(service, &release, count, now);
            }
            if staying >= count || !service.has_room(&release) {
                continue;
            }
            // What is being replaced was there a moment ago: nothing new is waited for.
            let is_first =
                service.slots.values().all(|slot| slot.machine.is_leaving()) && !service.is_replacing();
            if is_first && unmet.is_some() {
                service.waits_for.clone_from(&unmet);
                continue;
            }
            for _ in staying..count {
                let id = service.free_slot(name, &release);
                let machine = Instance::new(service.instance_settings(), now);
                service.is_fresh = false;
                service.slots.insert(id, Slot::new(machine));
                changed = true;
            }
        }
        changed
    }
}

/// Stops what is too much: what is not ready first, then the highest numbers.
fn stop_extra(service: &mut Service, release: &ReleaseId, count: u32, now: Instant) -> bool {
    let staying = service.slots_of(release).filter(|(_, slot)| !slot.machine.is_leaving());
    let mut staying: Vec<(bool, Reverse<u32>, InstanceId)> =
        staying.map(|(id, slot)| (slot.machine.is_ready(), Reverse(id.number), id.clone())).collect();
    staying.sort();
    let extra = staying.len().saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
    let mut changed = false;
    for (_, _, id) in staying.into_iter().take(extra) {
        if let Some(slot) = service.slots.get_mut(&id) {
            changed |= slot.machine.try_stop(Hardness::Drain, now).is_ok();
        }
    }
    changed
}
