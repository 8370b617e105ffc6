//! `depends_on`: what has to be there before a service's first instances start, and the order backwards.
//!
//! It deliberately waits for ever: a dependency that does not come is said in the status, not worked around.

use model::id::ServiceName;
use model::manifest::DependsUntil;

use super::Controller;

impl Controller {
    /// Why nothing of a service may start yet, one sentence.
    pub(super) fn unmet_dependency(&self, name: &ServiceName) -> Option<String> {
        let service = self.services.get(name)?;
        service.settings.depends_on.iter().find_map(|dependency| {
            if let Some(front) = self.fronted.get(&dependency.service) {
                let is_met = dependency.until == DependsUntil::Started || front.is_ready();
                return (!is_met).then(|| format!("waits for {} to be ready", dependency.service));
            }
            let on = self.services.get(&dependency.service)?;
            let mut slots = on.slots.values().filter(|slot| !slot.machine.is_leaving());
            let (is_met, word) = match dependency.until {
                DependsUntil::Started => (slots.any(|slot| slot.machine.pid().is_some()), "started"),
                DependsUntil::Ready => (slots.any(|slot| slot.machine.is_ready()), "ready"),
            };
            let stopped = if on.desired.stopped { " (it is stopped)" } else { "" };
            (!is_met).then(|| format!("waits for {} to be {word}{stopped}", dependency.service))
        })
    }

    /// Services that need this one, in order of their names.
    pub(super) fn dependents(&self, name: &ServiceName) -> Vec<ServiceName> {
        let needs = |service: &super::services::Service| {
            service.settings.depends_on.iter().any(|dependency| dependency.service == *name)
        };
        self.services.iter().filter(|(_, service)| needs(service)).map(|(known, _)| known.clone()).collect()
    }

    /// Something that needs it and that stops too is still there.
    pub(super) fn waits_for_dependents(&self, name: &ServiceName) -> bool {
        let everything = self.stopping.is_some();
        self.dependents(name).iter().any(|dependent| {
            let service = &self.services[dependent];
            (everything || service.durable_desired.removed) && !service.slots.is_empty()
        })
    }
}
