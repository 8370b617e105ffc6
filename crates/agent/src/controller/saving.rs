//! When the record is written, and what is in it.
//!
//! ```text
//!  something changed ──► wanted ──► Action::Write ──► durable
//!                          ▲                     └──► failed: again after a second
//! ```
//! Of events that come in a row the last one writes for all: a write takes milliseconds, and hundreds of services
//! start at once. What waits for the record waits as for a slow disk.
//! While a release is kept warm the record is written now and then only because time passes.

use std::time::Duration;

use model::id::ReleaseId;
use model::instance::Past;
use model::time::Instant;
use wire::manifest::millis;
use wire::record::{Record, ServiceRecord, SlotRecord, Warm};

use super::fronted::Front;
use super::services::Service;
use super::{Action, Controller, Link};
use crate::world::StoreError;

/// Between two tries when the record cannot be written.
const RETRY: Duration = Duration::from_secs(1);
/// Between two writes that only note how much of a bake is left.
const REFRESH: Duration = Duration::from_secs(30);

/// Whether the record says what holds.
#[derive(Debug)]
pub(super) struct Saving {
    pub wanted: bool,
    /// More has happened already: one write will do for all of it.
    pub more: bool,
    failed: Option<(String, Instant)>,
    refresh_at: Option<Instant>,
}

impl Saving {
    pub(super) fn new() -> Self {
        Self { wanted: false, more: false, failed: None, refresh_at: None }
    }

    /// Whether it had failed before.
    pub(super) fn handle_written(&mut self) -> bool {
        self.failed.take().is_some()
    }

    /// Whether that is news.
    pub(super) fn handle_failed(&mut self, error: &StoreError, now: Instant) -> bool {
        self.wanted = true;
        self.failed.replace((error.to_string(), now + RETRY)).is_none()
    }

    pub(super) fn handle_timeout(&mut self, counting_down: bool, now: Instant) {
        if self.refresh_at.is_some_and(|at| at <= now) {
            self.refresh_at = None;
            self.wanted |= counting_down;
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let retry = self.failed.as_ref().filter(|_| self.wanted).map(|(_, at)| *at);
        self.refresh_at.into_iter().chain(retry).min()
    }

    pub(super) fn error(&self) -> Option<&str> {
        self.failed.as_ref().map(|(error, _)| error.as_str())
    }

    fn is_due(&self, now: Instant) -> bool {
        self.wanted && !self.more && self.failed.as_ref().is_none_or(|(_, at)| *at <= now)
    }
}

/// All that is kept of a service whose processes are not ours.
fn counted(front: &Front) -> ServiceRecord {
    ServiceRecord {
        requests_before: front.before.requests,
        errors_before: front.before.errors,
        ..ServiceRecord::default()
    }
}

impl Controller {
    /// Last in a settle: the tables that this record speaks of are out.
    pub(super) fn save(&mut self) {
        // Of those that no table lists, the record says how far they are.
        let news = |service: &Service| service.is_worker() && service.instance_records() != service.adopted;
        let past = |service: &Service| service.slot_pasts() != service.pasts;
        self.saving.wanted |= self.link != Link::Unknown
            && self.services.values().any(|service| news(service) || past(service));
        if self.saving.is_due(self.now) {
            self.write();
        }
    }

    /// At once, whether the last try failed or not.
    pub(super) fn write(&mut self) {
        self.saving.wanted = false;
        let counting_down = self.services.values().any(|service| service.warm.is_some());
        self.saving.refresh_at = counting_down.then(|| self.now + REFRESH);
        if self.link != Link::Unknown {
            for service in self.services.values_mut() {
                service.adopted = service.instance_records();
                service.pasts = service.slot_pasts();
            }
        }
        let record = self.record();
        self.out.push_back(Action::Write(Box::new(record)));
    }

    /// What has to survive, as of now.
    pub fn record(&self) -> Record {
        Record {
            v: 1,
            written_at_ms: self.wall.0,
            manifest: self.base.wire.clone(),
            source: self.base.source.clone(),
            path: self.base.path.clone(),
            binary_origin: self.base.binary_origin.clone(),
            environment: self.base.environment.clone(),
            table_generation: self.tables.generation,
            next_rollout: self.next_rollout,
            stopping: self.stop_level(),
            services: {
                let own = self.services.iter();
                let own = own.map(|(name, service)| (name.to_string(), self.service(service, name)));
                let fronted = self.fronted.iter();
                own.chain(fronted.map(|(name, front)| (name.to_string(), counted(front)))).collect()
            },
        }
    }

    /// Before it is known what runs, what a former agent knew.
    fn instance_records(
        &self,
        service: &Service,
    ) -> std::collections::BTreeMap<String, wire::record::InstanceRecord> {
        if self.link == Link::Unknown { service.adopted.clone() } else { service.instance_records() }
    }

    /// Before it is known what runs, what a former agent knew.
    fn slot_records(&self, service: &Service) -> std::collections::BTreeMap<String, SlotRecord> {
        if self.link == Link::Unknown {
            return service.resumed.clone();
        }
        let record = |past: Past| SlotRecord {
            restarts: past.restarts,
            ends_in_a_row: past.ends_in_a_row,
            starts_at_ms: past
                .rest
                .as_ref()
                .and_then(|rest| Some(self.wall.0 + millis(self.now.until(rest.until?)))),
            ended: past.rest.map(|rest| rest.why),
        };
        service.slot_pasts().into_iter().map(|(id, past)| (id.to_string(), record(past))).collect()
    }

    fn service(&self, service: &Service, name: &model::id::ServiceName) -> ServiceRecord {
        let left = service.rollout.as_ref().and_then(|running| running.machine.bake_left(self.now));
        let warm =
            |release: &ReleaseId| Warm { release: release.to_string(), left_ms: left.map_or(0, millis) };
        let rollout = service.rollout.as_ref().map(|running| {
            let mut record = running.record(self.now);
            record.receipt = self.receipt(name);
            record
        });
        ServiceRecord {
            stable: service.stable.as_ref().map(ToString::to_string),
            warm: service.warm.as_ref().map(warm),
            releases: service.releases.iter().map(|release| release.record.clone()).collect(),
            rollout,
            last_rollout: service.last_rollout.clone(),
            requests_before: service.before.requests,
            errors_before: service.before.errors,
            scaled: service.desired.scaled,
            stopped: service.desired.stopped,
            pending: service.pending.as_ref().map(ToString::to_string),
            removed: service.desired.removed,
            operation: service.operation.as_ref().map(super::operating::Operation::record),
            instances: self.instance_records(service),
            slots: self.slot_records(service),
        }
    }
}
