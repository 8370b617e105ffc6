//! What operators ask: whether it can be done is said at once, and nothing has changed if it cannot.
//!
//! Services are asked for by text: only here is it known which there are.

use model::id::{ReleaseId, ServiceName, Version};
use model::nearest::nearest;
use model::rollout::{AbortDenied, Cause, Kind, Phase};
use model::time::{Instant, WallTime};
use wire::record::Verdict;

use super::services::Service;
use super::{Controller, Link};
use crate::denied::{Accepted, Denied};
use crate::world::DeployRequest;

/// What the name of an archive ends with, beyond its version.
const ARCHIVE_ENDINGS: [&str; 4] = [".tar.gz", ".tgz", ".tar.zst", ".zip"];

/// Who asks, and the key by which the same request is known when it comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// For history.
    pub actor: &'a str,
    /// Made by the client.
    pub operation: Option<&'a str>,
}

impl<'a> From<&'a DeployRequest> for Asked<'a> {
    fn from(request: &'a DeployRequest) -> Self {
        Self { actor: &request.actor, operation: request.operation.as_deref() }
    }
}

impl Controller {
    /// Starts a rollout to a release in a directory.
    ///
    /// A deploy of the stable release is a rollout too: it compares the content, then is done, or has failed.
    ///
    /// # Errors
    /// When it cannot be done now.
    pub fn try_deploy(
        &mut self,
        request: &DeployRequest,
        now: Instant,
        wall: WallTime,
    ) -> Result<Accepted, Denied> {
        self.at(now, wall);
        if let Some(before) = self.accepted_before(request.service.as_str(), request.operation.as_deref()) {
            return Ok(before);
        }
        let (name, version) = self.check_deploy(request)?;
        let service = &self.services[&name];
        let mut configuration = wire::manifest::Service::from(&service.settings);
        configuration.release.clone_from(&request.source);
        let id = service.release_id(&version, &configuration);
        let verdict = self.check_verdict(&name, &id, request.force)?;
        let warning = (verdict == Some(Verdict::LeftByRollback))
            .then(|| format!("{name} was rolled back from {id} by a person before"));
        let is_stable = service.stable.as_ref() == Some(&id);
        let runs = service.rollout.as_ref().is_some_and(|running| !running.machine.phase().is_promoted());
        let rollout = if is_stable {
            if runs {
                self.make_way(&name, &id.to_string());
            }
            self.verify(&name, id.clone(), request)
        } else {
            self.end_operation(&name, Err(format!("{} deploys {id}", request.actor)));
            self.make_way(&name, &id.to_string());
            let id = self.know_release(&name, &version, &request.source);
            self.begin(&name, Kind::Deploy, id, Asked::from(request))
        };
        if let Some(warning) = &warning {
            self.tell(&name, warning.clone());
        }
        self.saving.wanted = true;
        self.settle();
        Ok(Accepted { rollout, release: id.to_string(), warning })
    }

    fn verify(&mut self, name: &ServiceName, id: ReleaseId, request: &DeployRequest) -> u64 {
        let service = &self.services[name];
        if let Some(running) = service.verifying.as_ref().filter(|running| running.machine.plan().to == id) {
            return running.id;
        }
        let id = self.know_release(name, &id.version, &request.source);
        self.begin_verifying(name, id, Asked::from(request))
    }

    /// What is known of a release; one that failed before is denied unless it is forced.
    pub(super) fn check_verdict(
        &self,
        name: &ServiceName,
        id: &ReleaseId,
        force: bool,
    ) -> Result<Option<Verdict>, Denied> {
        let service = &self.services[name];
        let verdict = service.release(id).map(|release| release.record.verdict);
        if verdict == Some(Verdict::Failed) && !force {
            return Err(Denied::FailedBefore {
                reason: reason_of(service, id),
                service: name.clone(),
                version: id.to_string(),
            });
        }
        Ok(verdict)
    }

    pub(super) fn check_deploy(&self, request: &DeployRequest) -> Result<(ServiceName, Version), Denied> {
        let name = self.check_service(request.service.as_str())?;
        self.check_writable()?;
        let version = match &request.version {
            Some(version) => version.clone(),
            None => {
                let text = request.source.file_name().map(|name| name.to_string_lossy().into_owned());
                let no_version = || Denied::NoVersion { path: request.source.display().to_string() };
                let text = text.unwrap_or_default();
                let cut = ARCHIVE_ENDINGS.iter().find_map(|ending| text.strip_suffix(ending));
                cut.unwrap_or(&text).parse().ok().ok_or_else(no_version)?
            }
        };
        let running = self.services[&name].rollout.as_ref();
        if self.services[&name].desired.stopped {
            return Err(Denied::Stopped { service: name });
        }
        if self.services[&name].operating().is_some() && !request.replace {
            return Err(self.operation_runs(&name));
        }
        match running.filter(|running| !running.machine.phase().is_promoted()) {
            Some(running) if request.replace && !running.machine.is_replaceable() => {
                let version = running.machine.plan().to.to_string();
                Err(Denied::CannotReplace { service: name, version })
            }
            Some(running) if !request.replace || running.machine.phase() == Phase::Promoting => {
                Err(Denied::RolloutRuns {
                    service: name,
                    version: running.machine.plan().to.to_string(),
                    phase: running.machine.phase().name(),
                    actor: running.actor.clone(),
                })
            }
            _ => Ok((name, version)),
        }
    }

    pub(super) fn check_writable(&self) -> Result<(), Denied> {
        self.saving.error().map_or(Ok(()), |why| Err(Denied::Unwritable { why: why.to_owned() }))
    }

    pub(super) fn check_service(&self, name: &str) -> Result<ServiceName, Denied> {
        let mut fronted = self.fronted.iter().filter(|(_, front)| !front.is_removed());
        if let Some((service, _)) = fronted.find(|(known, _)| known.as_str() == name) {
            return Err(Denied::Fronted { service: service.clone() });
        }
        let there =
            || self.services.iter().filter(|(_, service)| !service.desired.removed).map(|(name, _)| name);
        let known = || there().map(ToString::to_string).collect::<Vec<_>>();
        let found = there().find(|known| known.as_str() == name).cloned();
        let Some(found) = found else {
            let known = known();
            return Err(Denied::UnknownService {
                name: name.to_owned(),
                nearest: nearest(name, &known),
                known,
            });
        };
        if self.stopping.is_some() {
            return Err(Denied::Stopping);
        }
        if self.link == Link::Unknown {
            return Err(Denied::Starting);
        }
        Ok(found)
    }

    /// The answer that this request got when it came the first time, maybe from a former agent.
    fn accepted_before(&self, service: &str, operation: Option<&str>) -> Option<Accepted> {
        let operation = Some(operation?);
        let service = self.services.iter().find(|(name, _)| name.as_str() == service)?.1;
        let living = [&service.rollout, &service.verifying].into_iter().flatten();
        if let Some(running) = living.into_iter().find(|running| running.operation.as_deref() == operation) {
            let release = running.machine.plan().to.to_string();
            return Some(Accepted { rollout: running.id, release, warning: None });
        }
        let last = service.last_rollout.as_ref().filter(|last| last.operation.as_deref() == operation)?;
        Some(Accepted { rollout: last.id, release: last.to.clone(), warning: None })
    }

    /// Takes the way back: out of a running rollout, else to the newest release that was good. While a way back
    /// is being taken there is nothing more to do.
    ///
    /// # Errors
    /// When there is nothing to go back to.
    pub fn try_rollback(
        &mut self,
        service: &str,
        asked: Asked<'_>,
        now: Instant,
        wall: WallTime,
    ) -> Result<Accepted, Denied> {
        self.at(now, wall);
        if let Some(before) = self.accepted_before(service, asked.operation) {
            return Ok(before);
        }
        let name = self.check_service(service)?;
        if self.services[&name].desired.stopped {
            return Err(Denied::Stopped { service: name });
        }
        let running = self.rollout_mut(&name);
        if let Some(running) = running.filter(|running| !running.machine.phase().is_promoted()) {
            let plan = running.machine.plan();
            let goes_back = plan.kind == Kind::Rollback && running.machine.phase() != Phase::Promoting;
            let release = if goes_back { &plan.to } else { plan.from.as_ref().unwrap_or(&plan.to) };
            let accepted = Accepted { rollout: running.id, release: release.to_string(), warning: None };
            if goes_back {
                return Ok(accepted);
            }
            match running.machine.try_abort(Cause::Operator(asked.actor.to_owned())) {
                Ok(()) => {
                    running.operation = asked.operation.map(str::to_owned);
                    self.settle();
                }
                // It is promoted but for a record that cannot be written: the way back leads out of it.
                Err(AbortDenied::Promoted) => return self.go_back(&name, asked),
                Err(AbortDenied::RollingBack | AbortDenied::Replacing | AbortDenied::Final) => {}
            }
            return Ok(accepted);
        }
        self.go_back(&name, asked)
    }

    fn go_back(&mut self, name: &ServiceName, asked: Asked<'_>) -> Result<Accepted, Denied> {
        let service = &self.services[name];
        let Some(stable) = &service.stable else {
            return Err(Denied::NoWayBack {
                service: name.clone(),
                why: "no release of it was ever stable".to_owned(),
            });
        };
        let Some(to) = service.way_back() else {
            let why =
                format!("none but {stable} was ever stable, or each was left by a rollback or has failed");
            return Err(Denied::NoWayBack { service: name.clone(), why });
        };
        if service.ready(&to) == 0 {
            // Nothing of it runs: the way there is long, and must be remembered. Else traffic moves at once.
            self.check_writable()?;
        }
        self.end_operation(name, Err(format!("{} goes back to {to}", asked.actor)));
        self.make_way(name, &to.to_string());
        let rollout = self.begin(name, Kind::Rollback, to.clone(), asked);
        self.settle();
        Ok(Accepted { rollout, release: to.to_string(), warning: None })
    }
}

fn reason_of(service: &Service, id: &ReleaseId) -> Option<String> {
    let last = service.last_rollout.as_ref()?;
    if last.to == id.to_string() { last.reason.clone() } else { None }
}
