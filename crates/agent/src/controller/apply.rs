//! Making a changed manifest true: what differs is said, then each difference becomes what holds.
//!
//! ```text
//!  request ──► compared, key by key ──► denied as a whole, or:  settings of what runs ─► rollouts, numbers
//!                                                               listeners bound ─► routes ─► listeners closed
//!                                                               services begun, and stopped and forgotten
//! ```
//! Nothing of it waits: rollouts and operations that follow are followed by their ids, a service that was taken
//! out is gone from the status once nothing of it runs, a listener once no proxy uses it.

use model::id::ServiceName;
use model::rollout::{Cause, Kind};
use model::time::{Instant, WallTime};
use wire::sealed::Boot;

use super::changes::{Compared, Deed};
use super::requests::Asked;
use super::services::{Desired, Service};
use super::{Action, Controller, Link};
use crate::denied::Denied;
use crate::world::{Applied, ApplyRequest, Change, Effect, Severity};

/// Who applies what `up` was given.
const ACTOR_UP: &str = "up";

impl Controller {
    /// What [`Self::try_apply`] would do; that it could not be done now is an effect or an error as well.
    ///
    /// # Errors
    /// When it could not be applied at all now.
    pub fn plan_apply(&self, request: &ApplyRequest) -> Result<Vec<Change>, Denied> {
        if self.link == Link::Unknown {
            return Err(Denied::Starting);
        }
        Ok(self.compare_manifest(request)?.changes)
    }

    /// Makes a manifest true, key by key against the one last applied.
    ///
    /// # Errors
    /// When it cannot be done now; nothing of it is done then.
    pub fn try_apply(
        &mut self,
        request: &ApplyRequest,
        now: Instant,
        wall: WallTime,
    ) -> Result<Applied, Denied> {
        self.at(now, wall);
        if let Some(before) = self.applied_before(request.operation.as_deref()) {
            return Ok(before);
        }
        let compared = self.check_apply(request)?;
        let applied = self.apply(request, compared);
        self.settle();
        Ok(applied)
    }

    fn check_apply(&self, request: &ApplyRequest) -> Result<Compared, Denied> {
        if self.stopping.is_some() {
            return Err(Denied::Stopping);
        }
        if self.link == Link::Unknown {
            return Err(Denied::Starting);
        }
        self.check_writable()?;
        let compared = self.compare_manifest(request)?;
        let refused = compared.changes.iter().filter_map(|change| match &change.effect {
            Effect::Refused(why) => Some(format!("`{}` cannot be changed: {why}", change.key)),
            _ => None,
        });
        let refused: Vec<String> = refused.collect();
        if !refused.is_empty() {
            return Err(Denied::Unchangeable { keys: refused });
        }
        for (name, deed) in &compared.deeds {
            match deed {
                Deed::Scale | Deed::RollOut { .. } | Deed::RollOutLater { .. } | Deed::TryAgain => {
                    self.check_no_rollout(name)?;
                    if self.services[name].operating().is_some() {
                        return Err(self.operation_runs(name));
                    }
                }
                Deed::Add | Deed::Settle | Deed::Remove => {}
            }
        }
        Ok(compared)
    }

    /// What followed when this request came the first time, maybe to a former agent.
    fn applied_before(&self, key: Option<&str>) -> Option<Applied> {
        let key = Some(key?);
        let mut applied = Applied { changes: Vec::new(), rollouts: Vec::new(), operations: Vec::new() };
        for (name, service) in &self.services {
            let running = service.rollout.as_ref().map(|running| (running.id, running.operation.as_deref()));
            let last = service.last_rollout.as_ref().map(|last| (last.id, last.operation.as_deref()));
            let found = running.into_iter().chain(last).find(|(_, operation)| *operation == key);
            applied.rollouts.extend(found.map(|(id, _)| (name.clone(), id)));
            let own = service.operation.as_ref().filter(|operation| operation.operation.as_deref() == key);
            applied.operations.extend(own.map(|operation| (name.clone(), operation.id)));
        }
        (!applied.rollouts.is_empty() || !applied.operations.is_empty()).then_some(applied)
    }

    fn apply(&mut self, request: &ApplyRequest, compared: Compared) -> Applied {
        let Compared { given, changes, deeds, rescaled, bind } = compared;
        let asked = Asked { actor: &request.actor, operation: request.operation.as_deref() };
        let mut applied = Applied { changes, rollouts: Vec::new(), operations: Vec::new() };
        if !applied.changes.is_empty() {
            let keys: Vec<&str> = applied.changes.iter().map(|change| change.key.as_str()).collect();
            let text = format!("{} applied: {}", request.path, keys.join(", "));
            self.announce(Severity::Info, None, text.clone());
            self.append(None, "manifest", text, asked.actor);
        }
        self.hold_manifest(request, given);
        for (name, deed) in &deeds {
            self.settle_service(name);
            if let Some(service) = self.services.get_mut(name).filter(|_| rescaled.contains(name)) {
                service.desired.scaled = None;
            }
            self.carry_out_deed(name, deed, asked, &mut applied);
        }
        self.forget_listeners();
        for name in &bind {
            self.bind_anew(name);
        }
        self.saving.wanted = true;
        applied
    }

    /// What is given is the manifest last applied from now on; services that are taken out stay known until
    /// nothing of them runs.
    fn hold_manifest(&mut self, request: &ApplyRequest, given: model::manifest::Manifest) {
        let leaving: Vec<ServiceName> =
            self.services.keys().filter(|name| !given.services.contains_key(*name)).cloned().collect();
        let former = std::mem::replace(&mut self.base.manifest, given);
        let former_wire = std::mem::replace(&mut self.base.wire, request.manifest.clone());
        for name in leaving {
            if let Some(settings) = former.services.get(&name) {
                self.base.manifest.services.insert(name.clone(), settings.clone());
            }
            if let Some(settings) = former_wire.services.get(name.as_str()) {
                self.base.wire.services.insert(name.to_string(), settings.clone());
            }
        }
        self.note_fronted();
        self.base.source.clone_from(&request.source);
        self.base.path.clone_from(&request.path);
        self.base.environment.clone_from(&request.environment);
        self.ports.set_range(self.base.manifest.instances.ports);
        self.differs.clear();
    }

    /// What the manifest says of a service holds for what runs of it.
    fn settle_service(&mut self, name: &ServiceName) {
        let now = self.now;
        let Some(settings) = self.base.manifest.services.get(name).cloned() else { return };
        let Some(service) = self.services.get_mut(name) else { return };
        service.desired.instances = settings.instances;
        service.settings = settings;
        let settings = service.instance_settings();
        for slot in service.slots.values_mut() {
            let mut settings = settings.clone();
            if needs_start(&settings, slot.machine.settings()) {
                // Its process was not told of the watchdog: silence says nothing.
                settings.liveness = slot.machine.settings().liveness.clone();
            }
            slot.machine.set_settings(settings, now);
        }
    }

    fn carry_out_deed(&mut self, name: &ServiceName, deed: &Deed, asked: Asked<'_>, applied: &mut Applied) {
        match deed {
            Deed::Settle => self.end_bake(name),
            Deed::Add => self.add_service(name, asked, applied),
            Deed::Remove => self.take_out(name, asked.actor),
            Deed::Scale => {
                self.end_bake(name);
                let (id, _) = self.scale(name, None, asked);
                applied.operations.push((name.clone(), id));
            }
            Deed::RollOut { version, source } => {
                self.end_bake(name);
                let id = self.roll_out(name, version, source, asked);
                applied.rollouts.push((name.clone(), id));
            }
            Deed::RollOutLater { version, source } => {
                let id = self.know_configured(name, version, source);
                if let Some(service) = self.services.get_mut(name) {
                    service.pending = Some(id);
                }
            }
            Deed::TryAgain => {
                if let Some(service) = self.services.get_mut(name) {
                    service.start_first = true;
                }
                self.begin_first_by(name, asked, applied);
            }
        }
    }

    fn add_service(&mut self, name: &ServiceName, asked: Asked<'_>, applied: &mut Applied) {
        match self.services.get_mut(name) {
            // It was being taken out.
            Some(service) => service.desired.removed = false,
            None => {
                let Some(settings) = self.base.manifest.services.get(name).cloned() else { return };
                self.services.insert(name.clone(), Service::new(settings));
            }
        }
        self.begin_first_by(name, asked, applied);
    }

    fn begin_first_by(&mut self, name: &ServiceName, asked: Asked<'_>, applied: &mut Applied) {
        let Some(service) = self.services.get_mut(name) else { return };
        if service.stable.is_some() || service.rollout.is_some() || service.desired.stopped {
            return;
        }
        service.start_first = false;
        let (source, version) = (service.settings.release.clone(), service.settings.version.clone());
        let id = self.know_release(name, &version, &source);
        let rollout = self.begin(name, Kind::First, id, asked);
        applied.rollouts.push((name.clone(), rollout));
    }

    /// A release of that version with the configuration of today. Where its content is on disk, nothing is copied.
    fn know_configured(
        &mut self,
        name: &ServiceName,
        version: &model::id::Version,
        source: &std::path::PathBuf,
    ) -> model::id::ReleaseId {
        let id = self.know_release(name, version, source);
        let Some(service) = self.services.get_mut(name) else { return id };
        let text = source.display().to_string();
        let mut known = service.releases.iter().filter(|known| {
            known.id.version == *version && known.is_prepared() && known.record.source == text
        });
        let found = known.next().map(|known| (known.record.directory.clone(), known.record.hash.clone()));
        if let (Some((directory, hash)), Some(release)) = (found, service.release_mut(&id)) {
            (release.record.directory, release.record.hash) = (directory, hash);
        }
        id
    }

    pub(super) fn roll_out(
        &mut self,
        name: &ServiceName,
        version: &model::id::Version,
        source: &std::path::PathBuf,
        asked: Asked<'_>,
    ) -> u64 {
        let id = self.know_configured(name, version, source);
        self.roll_out_to(name, id, asked)
    }

    /// A rollout to a release that is known. One whose content is on disk is not copied again.
    pub(super) fn roll_out_to(
        &mut self,
        name: &ServiceName,
        id: model::id::ReleaseId,
        asked: Asked<'_>,
    ) -> u64 {
        let is_stable_content = {
            let service = &self.services[name];
            let hash = |id| service.release(id).map(|release| release.record.hash.clone());
            let stable = service.stable.as_ref().and_then(hash);
            stable.is_some() && stable == hash(&id)
        };
        self.begin_with(name, Kind::Deploy, id, asked, is_stable_content)
    }

    /// Nothing of it is wanted any more: it stops, then it is forgotten.
    fn take_out(&mut self, name: &ServiceName, actor: &str) {
        self.end_operation(name, Err(format!("{actor} has taken {name} out of the manifest")));
        self.end_bake(name);
        if let Some(running) = self.rollout_mut(name) {
            let _ = running.machine.try_abort(Cause::Operator(actor.to_owned()));
            running.machine.handle_old_failure();
        }
        self.carry_out_rollout(name);
        if let Some(service) = self.services.get_mut(name) {
            service.desired = Desired { removed: true, ..service.desired };
            service.start_first = false;
        }
        self.append(Some(name), "manifest", format!("{name} is taken out: it stops and is forgotten"), actor);
    }

    /// Forgets services that were taken out and of which nothing runs.
    pub(super) fn forget_services(&mut self) -> bool {
        let is_gone = |service: &Service| {
            let desired = service.desired.removed && service.durable_desired.removed;
            desired && service.slots.is_empty() && service.rollout.is_none()
        };
        let gone: Vec<ServiceName> = self
            .services
            .iter()
            .filter(|(_, service)| is_gone(service))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &gone {
            let Some(service) = self.services.remove(name) else { continue };
            self.base.manifest.services.remove(name);
            self.base.wire.services.remove(name.as_str());
            for release in service.releases.into_iter().filter(super::services::Release::is_prepared) {
                self.dropped.push((name.clone(), release.record.directory));
            }
            let text = format!("{name} has stopped and is forgotten");
            self.announce(Severity::Info, Some((name, None)), text.clone());
            self.append(Some(name), "manifest", text, "agent");
            self.saving.wanted = true;
        }
        !gone.is_empty()
    }

    /// What `up` was given is applied as soon as it is known what runs.
    pub(super) fn note_apply(&mut self, boot: &Boot) {
        self.given_at_up = Some(Box::new(ApplyRequest {
            manifest: boot.manifest.clone(),
            source: boot.source.clone(),
            path: boot.path.clone(),
            environment: boot.environment.clone(),
            actor: ACTOR_UP.to_owned(),
            operation: None,
        }));
    }

    pub(super) fn apply_given_at_up(&mut self) {
        let Some(request) = self.given_at_up.take() else { return };
        match self.check_apply(&request) {
            Ok(compared) => {
                self.apply(&request, compared);
            }
            Err(denied) => {
                let keys = wire::differences::differences(&self.base.wire, &request.manifest);
                let text = format!("{} not applied: {denied}", request.path);
                self.announce(Severity::Warning, None, text);
                self.differs = keys;
            }
        }
    }

    /// The directories of a service that is gone, and of releases that were dropped, may go.
    pub(super) fn remove_dropped(&mut self) {
        for (name, directory) in std::mem::take(&mut self.dropped) {
            // Another configuration of the version may use the same directory.
            let is_used = self.services.get(&name).is_some_and(|service| {
                service.releases.iter().any(|other| other.record.directory == directory)
            });
            if !is_used {
                self.out.push_back(Action::RemoveRelease { service: name, directory });
            }
        }
    }
}

/// The watchdog is new to a process that was started without it.
fn needs_start(given: &model::instance::Settings, holds: &model::instance::Settings) -> bool {
    let watchdog = |settings: &model::instance::Settings| {
        let liveness = settings.liveness.as_ref();
        liveness.filter(|l| l.check == model::manifest::LivenessCheck::Watchdog).map(|l| l.interval)
    };
    watchdog(given).is_some() && watchdog(given) != watchdog(holds)
}
