//! How rollouts begin: a service's first release, a deploy, a way back.

use std::path::PathBuf;

use model::id::{ReleaseId, ServiceName};
use model::rollout::{Cause, Kind, Plan, Rollout, Strategy};
use wire::record::{Receipt, ReleaseRecord, Verdict};

use super::requests::Asked;
use super::rollouts::Running;
use super::services::Release;
use super::{Action, Controller};
use crate::world::Severity;

impl Controller {
    /// The first release of a service that never had one.
    pub(super) fn begin_first(&mut self, name: &ServiceName) -> bool {
        let Some(service) = self.services.get_mut(name) else { return false };
        if service.desired != service.durable_desired || service.desired.stopped || service.desired.removed {
            return false;
        }
        let is_due = service.stable.is_none() && service.rollout.is_none();
        if !std::mem::take(&mut service.start_first) || !is_due {
            return false;
        }
        let (source, version) = (service.settings.release.clone(), service.settings.version.clone());
        let id = self.know_release(name, &version, &source);
        self.begin(name, Kind::First, id, Asked { actor: "up", operation: None });
        true
    }

    /// The release that `version` of this source is with the configuration of today, in the list of releases.
    pub(super) fn know_release(
        &mut self,
        name: &ServiceName,
        version: &model::id::Version,
        source: &PathBuf,
    ) -> ReleaseId {
        let service = self.services.get_mut(name).expect("invariant: the caller has looked it up");
        let mut configuration = wire::manifest::Service::from(&service.settings);
        configuration.release.clone_from(source);
        configuration.version = version.to_string();
        // It belongs to no release, and would be in the record once for each.
        configuration.maintenance = None;
        let id = service.release_id(version, &configuration);
        let source = source.display().to_string();
        match service.release_mut(&id) {
            Some(known) => known.record.source = source,
            None => service.releases.push(Release {
                id: id.clone(),
                record: ReleaseRecord {
                    release: id.to_string(),
                    directory: String::new(),
                    hash: String::new(),
                    source,
                    configuration,
                    verdict: Verdict::Unknown,
                    promoted: false,
                },
            }),
        }
        id
    }

    /// Begins a rollout; what ran before has been ended by the caller.
    pub(super) fn begin(&mut self, name: &ServiceName, kind: Kind, to: ReleaseId, asked: Asked<'_>) -> u64 {
        self.begin_with(name, kind, to, asked, false)
    }

    /// As `begin`; `prepared`: the release's content is on disk, and is what was asked for.
    pub(super) fn begin_with(
        &mut self,
        name: &ServiceName,
        kind: Kind,
        to: ReleaseId,
        asked: Asked<'_>,
        prepared: bool,
    ) -> u64 {
        let keep_warm = self.keep_warm(name);
        let Some(service) = self.services.get(name) else { return 0 };
        let ready = kind == Kind::Rollback && service.ready(&to) > 0;
        let plan = Plan {
            kind,
            strategy: service.strategy(),
            to,
            from: service.stable.clone(),
            instances: service.desired_instances(),
            keep_warm,
        };
        let machine = Rollout::begin(plan, ready);
        let running = Running { prepared, ..self.new_running(name, machine, asked) };
        let actor = asked.actor;
        let id = running.id;
        let text = match (kind, running.machine.plan()) {
            (Kind::Rollback, Plan { to, from: Some(from), .. }) => {
                format!("going back from {from} to {to}, asked by {actor}")
            }
            (_, Plan { to, .. }) if prepared => format!("{to} is on disk already"),
            (_, Plan { to, .. }) => {
                let source = self.services.get(name).and_then(|service| service.release(to));
                format!(
                    "copying {to} from {}",
                    source.map(|known| known.record.source.as_str()).unwrap_or_default()
                )
            }
        };
        if let Some(service) = self.services.get_mut(name) {
            service.rollout = Some(running);
            // A release that is neither the old one nor the new one makes room.
            service.warm = None;
            service.start_first = false;
        }
        self.tell(name, text);
        let counting = self.begin_counting(name, Receipt::default());
        if let Some(running) = self.rollout_mut(name) {
            running.counting = Some(counting);
        }
        id
    }

    fn new_running(&mut self, name: &ServiceName, machine: Rollout, asked: Asked<'_>) -> Running {
        let id = self.next_rollout;
        self.next_rollout += 1;
        let text = format!("rollout {id} to {} begins", machine.plan().to);
        self.append(Some(name), "rollout", text, asked.actor);
        Running {
            id,
            machine,
            actor: asked.actor.to_owned(),
            operation: asked.operation.map(str::to_owned),
            started_at_ms: self.wall.0,
            decided_at_ms: None,
            called_back_at_ms: None,
            prepared: false,
            has_news: false,
            reason: None,
            output: Vec::new(),
            receipt: Receipt::default(),
            counting: None,
        }
    }

    /// Ends what bakes or drains, and what is to be replaced, so that another rollout can begin.
    pub(super) fn make_way(&mut self, name: &ServiceName, by: &str) {
        if let Some(running) = self.rollout_mut(name) {
            let ended = running.machine.try_end();
            if ended.is_err() {
                // Whatever state it is in, a replacement is allowed from it.
                let _ = running.machine.try_abort(Cause::Replaced(by.to_owned()));
            }
        }
        self.carry_out_rollout(name);
    }

    /// Compares the content of a release that is stable already with what is on disk.
    pub(super) fn begin_verifying(&mut self, name: &ServiceName, to: ReleaseId, asked: Asked<'_>) -> u64 {
        let plan = Plan {
            kind: Kind::Deploy,
            strategy: Strategy::BlueGreen,
            to: to.clone(),
            from: Some(to.clone()),
            instances: 0,
            keep_warm: self.keep_warm(name),
        };
        let mut machine = Rollout::begin(plan, false);
        machine.handle_recorded(self.now);
        while machine.poll_action().is_some() {}
        let running = self.new_running(name, machine, asked);
        let id = running.id;
        self.stories.line(id, 0, format!("{to} is stable already; comparing its content"));
        if let Some(request) = self.prepare_request(name, &to) {
            self.out.push_back(Action::Prepare(Box::new(request)));
        }
        if let Some(service) = self.services.get_mut(name) {
            service.verifying = Some(running);
        }
        id
    }

    /// The comparison is done.
    pub(super) fn end_verifying(&mut self, name: &ServiceName, id: &ReleaseId, error: Option<&str>) {
        let (now, wall) = (self.now, self.wall);
        let Some(service) = self.services.get_mut(name) else { return };
        let Some(mut running) = service.verifying.take_if(|running| running.machine.plan().to == *id) else {
            return;
        };
        match error {
            None => running.machine.handle_nothing_to_do(),
            Some(error) => running.machine.handle_refused(error.to_owned()),
        }
        running.decided_at_ms = Some(wall.0);
        running.reason = Some(match error {
            None => format!("{id} is stable already, and its content is the same: nothing to do"),
            Some(error) => error.to_owned(),
        });
        let record = running.record(now);
        self.stories.line(running.id, running.age_ms(wall), record.reason.clone().unwrap_or_default());
        self.stories.finish(record.clone());
        let severity = if error.is_none() { Severity::Info } else { Severity::Error };
        self.report_end(name, &record, severity);
    }
}
