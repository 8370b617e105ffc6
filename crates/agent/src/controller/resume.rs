//! Beginning from a record, and comparing it with what really runs.
//!
//! ```text
//!  record ──► resume ──► (note_boot) ──► inventory: adopt what runs, count what ended, continue rollouts
//!                                            ▲
//!                 holder lost ──► requests wait ──► inventory again: compare, send again what may be lost
//! ```
//! The first table after a resume lets requests go wherever the last table of the former agent did. That table
//! is newer than the record where a way back was taken and the agent died before it could write: what it
//! refuses is then done once more.
//!
//! It deliberately starts and stops nothing: that follows from what is wanted.

use std::collections::BTreeMap;
use std::time::Duration;

use model::id::{InstanceId, ReleaseId, ServiceName};
use model::instance::{Adopted, Hardness, Instance};
use model::ports::PortPool;
use model::rollout::{Cause, Kind, Phase, Plan, Rollout, Strategy};
use model::time::{Instant, WallTime};
use wire::differences::differences;
use wire::link::ExitStatus;
use wire::manifest::Manifest;
use wire::record::{InstanceRecord, Record, RolloutRecord, ServiceRecord, Verdict};
use wire::routes::{Endpoint, EndpointState, RouteTable};
use wire::sealed::Boot;

use super::counters::{Counted, Totals};
use super::names::Names;
use super::operating::Operation;
use super::requests::Asked;
use super::rollouts::Running;
use super::saving::Saving;
use super::services::{Desired, Release, Service, Slot};
use super::story::Stories;
use super::tables::{Proxy, Tables};
use super::{Action, Base, Controller, Link, convert};
use crate::world::{FleetRequest, Inventory, Severity};

/// Who a rollout is said to be asked by, when only the table still knew of it.
const ACTOR_LOST: &str = "unknown (the control plane ended before it could write who)";

/// Why a record cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum ResumeError {
    /// Its manifest does not read back.
    #[error(transparent)]
    Manifest(#[from] wire::manifest::ManifestError),
    /// One of its names is none.
    #[error("the record is not valid: {0}")]
    Id(#[from] model::id::IdError),
}

impl Controller {
    /// The record of a state directory that has none yet.
    pub fn first_record(boot: &Boot, wall: WallTime) -> Record {
        let services = boot.manifest.services.keys().map(|name| (name.clone(), ServiceRecord::default()));
        Record {
            v: 1,
            written_at_ms: wall.0,
            manifest: boot.manifest.clone(),
            source: boot.source.clone(),
            path: boot.path.clone(),
            binary_origin: boot.binary_origin.clone(),
            environment: boot.environment.clone(),
            table_generation: 0,
            next_rollout: 1,
            services: services.collect(),
            stopping: None,
        }
    }

    /// Goes on from a record. `seed` only chooses where in the range the search for free ports begins.
    ///
    /// # Errors
    /// When the record holds what no version of Handover writes.
    pub fn resume(record: Record, now: Instant, wall: WallTime, seed: u64) -> Result<Self, ResumeError> {
        let manifest = model::manifest::Manifest::try_from(&record.manifest)?;
        let before = |record: &ServiceRecord| Totals {
            requests: record.requests_before,
            errors: record.errors_before,
            ..Totals::default()
        };
        let counted: BTreeMap<String, Totals> =
            record.services.iter().map(|(name, record)| (name.clone(), before(record))).collect();
        let mut services = BTreeMap::new();
        for (name, settings) in &manifest.services {
            let mut service = Service::new(settings.clone());
            if let Some(record) = record.services.get(name.as_str()) {
                resume_service(&mut service, record, now)?;
            }
            services.insert(name.clone(), service);
        }
        let mut controller = Self {
            ports: PortPool::new(manifest.instances.ports, seed),
            base: Base {
                manifest,
                wire: record.manifest,
                source: record.source,
                path: record.path,
                binary_origin: record.binary_origin,
                environment: record.environment,
            },
            services,
            fronted: BTreeMap::new(),
            names: Names::default(),
            tables: Tables::new(record.table_generation),
            counted: Counted::default(),
            listeners: BTreeMap::new(),
            stories: Stories::default(),
            saving: Saving::new(),
            link: Link::Unknown,
            holder: None,
            stopping: None,
            stop_resumed: record.stopping,
            next_rollout: record.next_rollout,
            next_token: 0,
            differs: Vec::new(),
            given_at_up: None,
            dropped: Vec::new(),
            pending: Vec::new(),
            early: Default::default(),
            out: Default::default(),
            now,
            wall,
        };
        controller.note_fronted();
        for (name, front) in &mut controller.fronted {
            front.before = counted.get(name.as_str()).copied().unwrap_or_default();
        }
        controller.saving.wanted = true;
        Ok(controller)
    }

    /// An `up` gave this boot form. What holds is gone on from; then what differs is applied, as soon as it is
    /// known what runs. Services of which no release was ever promoted begin anew with what the file says.
    ///
    /// # Errors
    /// When the boot form holds what no `up` writes.
    pub fn note_boot(&mut self, boot: &Boot) -> Result<(), ResumeError> {
        let given = model::manifest::Manifest::try_from(&boot.manifest)?;
        self.stop_resumed = None;
        self.base.binary_origin.clone_from(&boot.binary_origin);
        self.base.path.clone_from(&boot.path);
        self.base.environment.clone_from(&boot.environment);
        for service in self.services.values_mut() {
            service.is_fresh = true;
            service.resumed.clear();
            if let Some(operation) = &mut service.operation {
                // What was to be replaced or told is gone.
                operation.remaining.clear();
            }
        }
        let nothing_holds = self.services.values().all(|service| service.stable.is_none());
        if nothing_holds {
            let services = std::mem::take(&mut self.base.wire.services);
            self.base.manifest = given.clone();
            self.base.wire = Manifest { services, ..boot.manifest.clone() };
            self.services.retain(|name, _| given.services.contains_key(name));
            self.base.wire.services.retain(|name, _| boot.manifest.services.contains_key(name));
            self.note_fronted();
        }
        for (name, settings) in &given.services {
            let service = match self.services.get_mut(name) {
                Some(service) => service,
                None if nothing_holds => {
                    self.services.entry(name.clone()).or_insert_with(|| Service::new(settings.clone()))
                }
                None => continue,
            };
            let text = boot.manifest.services.get(name.as_str());
            let same = self.base.wire.services.get(name.as_str()) == text && service.settings == *settings;
            let begins_anew = match &service.rollout {
                None => service.stable.is_none(),
                // The boot form may come twice, when the first agent dies before it says that it has it.
                Some(running) => is_first(running) && !same,
            };
            if !begins_anew {
                continue;
            }
            let mut fresh = Service::new(settings.clone());
            fresh.last_rollout = service.last_rollout.take();
            fresh.before = service.before;
            let former = std::mem::replace(service, fresh);
            for release in former.releases.into_iter().filter(Release::is_prepared) {
                let directory = release.record.directory;
                self.out.push_back(Action::RemoveRelease { service: name.clone(), directory });
            }
            if let Some(text) = text {
                self.base.wire.services.insert(name.to_string(), text.clone());
            }
            self.base.manifest.services.insert(name.clone(), settings.clone());
        }
        if differences(&self.base.wire, &boot.manifest).is_empty() {
            self.base.source.clone_from(&boot.source);
        } else {
            self.note_apply(boot);
        }
        self.saving.wanted = true;
        Ok(())
    }

    pub(super) fn handle_holder_lost(&mut self) {
        if self.link == Link::Linked {
            self.link = Link::Lost { since: self.now };
            self.holder = None;
            self.announce(Severity::Warning, None, "the holder is gone; it is being replaced".to_owned());
            self.append(None, "holder", "the holder is gone".to_owned(), "agent");
        }
    }

    pub(super) fn handle_inventory(&mut self, inventory: Inventory) {
        let first = self.link == Link::Unknown;
        let lost = match self.link {
            Link::Lost { since } => since,
            Link::Unknown | Link::Linked => self.now,
        };
        self.note_successors(&inventory);
        self.link = Link::Linked;
        self.holder = Some(inventory.holder);
        // Asked before the holder was lost; what is still wanted is asked for anew.
        self.pending.retain(|request| !matches!(request, FleetRequest::Spawn(_) | FleetRequest::Bind { .. }));
        for (generation, pid) in &inventory.proxies {
            let proxy = Proxy { pid: *pid, applied: 0, connections: 0, linked: false };
            self.tables.proxies.entry(*generation).or_insert(proxy);
        }
        if first {
            self.resume_receipts();
            if let Some(table) = &inventory.table {
                self.resume_routes(table);
                self.adopt_endpoints(table);
            }
        } else {
            self.forget_proxies(&inventory);
        }
        self.compare(&inventory, lost);
        for event in std::mem::take(&mut self.early) {
            self.handle_instance_event(event);
        }
        if self.is_stopped() {
            // Whoever was told so may have died of something else before.
            self.pending.push(FleetRequest::Stopped);
        }
        match self.stop_resumed.take() {
            Some(level) => self.begin_stop(level),
            None => {
                self.note_listeners(&inventory);
                self.bind_all();
                self.apply_given_at_up();
            }
        }
    }

    /// A death among our own processes that nobody noticed is in the history all the same.
    fn note_successors(&mut self, inventory: &Inventory) {
        let text = match self.link {
            Link::Unknown if !inventory.running.is_empty() => {
                "a new agent has taken over what runs".to_owned()
            }
            Link::Lost { .. } => format!("a new holder has taken over, as pid {}", inventory.holder),
            Link::Unknown | Link::Linked => return,
        };
        self.append(None, "process", text, "agent");
    }

    /// Proxies that ended while nobody could say so. Those that had a link are told of by its end.
    fn forget_proxies(&mut self, inventory: &Inventory) {
        let is_living = |known: u64| inventory.proxies.iter().any(|(living, _)| *living == known);
        let unlinked = self.tables.proxies.iter().filter(|(_, proxy)| !proxy.linked);
        let gone: Vec<u64> = unlinked.map(|(known, _)| *known).filter(|known| !is_living(*known)).collect();
        gone.into_iter().for_each(|proxy| self.handle_proxy_gone(proxy));
    }

    fn compare(&mut self, inventory: &Inventory, lost: Instant) {
        let now = self.now;
        let table = inventory.table.clone().unwrap_or_default();
        let mut known: Vec<&InstanceId> = Vec::new();
        for (id, pid) in &inventory.running {
            known.push(id);
            match self.slot(id) {
                Some(slot) => slot.machine.handle_found(*pid, lost, now),
                None => self.adopt(id, *pid, &table, None),
            }
        }
        for (id, status) in &inventory.ended {
            known.push(id);
            match self.slot(id) {
                Some(slot) => slot.machine.handle_exited(convert::ended(*status), now),
                None => self.adopt(id, 0, &table, Some(*status)),
            }
        }
        self.resume_rests();
        for (id, slot) in self.services.values_mut().flat_map(|service| &mut service.slots) {
            if !known.contains(&id) {
                slot.machine.handle_missing(now);
            }
        }
    }

    /// Takes over a slot that a former agent made; `ended` if its process has ended since.
    fn adopt(&mut self, id: &InstanceId, pid: u32, table: &RouteTable, ended: Option<ExitStatus>) {
        let (now, wall) = (self.now, self.wall);
        let endpoint = find_endpoint(table, id);
        let known =
            self.services.get_mut(&id.service).filter(|service| service.release(&id.release).is_some());
        let Some(service) = known else {
            self.pending.push(FleetRequest::KillTree { instance: id.clone() });
            self.pending.push(FleetRequest::Forget { instance: id.clone() });
            return;
        };
        let recorded = service.adopted.get(&id.to_string()).copied();
        let adopted = match endpoint.map(|endpoint| endpoint.state) {
            None if service.is_worker() => match recorded {
                Some(InstanceRecord::Ready) => Adopted::Serving,
                Some(InstanceRecord::Leaving) => Adopted::Retiring,
                None => Adopted::Candidate,
            },
            Some(EndpointState::Serving) => Adopted::Serving,
            Some(EndpointState::Candidate) => Adopted::Candidate,
            Some(EndpointState::Draining) | None => Adopted::Retiring,
        };
        let mut slot = Slot::new(Instance::adopt(service.instance_settings(), pid, adopted, now));
        if let Some(record) = service.resumed.remove(&id.to_string()) {
            slot.machine.remember(&convert::past(&record, now, wall));
        }
        slot.port = endpoint.and_then(|endpoint| endpoint.address.port());
        if let Some(port) = slot.port {
            self.ports.adopt(port);
        }
        slot.last_served = endpoint.map(|endpoint| match endpoint.state {
            EndpointState::Serving => table.generation,
            // That table is already one that lets nothing go to it.
            EndpointState::Candidate | EndpointState::Draining => table.generation.saturating_sub(1),
        });
        if let Some(status) = ended {
            slot.machine.handle_exited(convert::ended(status), now);
        } else if endpoint.is_none() && !service.is_worker() {
            // Nobody knows its port, so nothing was ever sent to it.
            let _ = slot.machine.try_stop(Hardness::SkipDrain, now);
        }
        service.is_fresh = false;
        service.slots.insert(id.clone(), slot);
    }

    /// Slots of which nothing runs wait on as they did, or stay down.
    fn resume_rests(&mut self) {
        let (now, wall) = (self.now, self.wall);
        for service in self.services.values_mut() {
            for (text, record) in std::mem::take(&mut service.resumed) {
                let Ok(id) = text.parse::<InstanceId>() else { continue };
                let mut past = convert::past(&record, now, wall);
                let Some(rest) = past.rest.take() else { continue };
                if service.release(&id.release).is_none() || service.slots.contains_key(&id) {
                    continue;
                }
                let machine = Instance::resting(service.instance_settings(), &past, rest, now);
                service.is_fresh = false;
                service.slots.insert(id, Slot::new(machine));
            }
        }
    }

    fn resume_receipts(&mut self) {
        for name in self.names() {
            let Some(running) = self.rollout_mut(&name) else { continue };
            if running.machine.phase().is_promoted() {
                continue;
            }
            let carried = running.receipt.clone();
            let counting = self.begin_counting(&name, carried);
            if let Some(running) = self.rollout_mut(&name) {
                running.counting = Some(counting);
            }
        }
    }

    /// Does once more what the last table says was decided, and the record does not.
    fn resume_routes(&mut self, table: &RouteTable) {
        let is_newer = table.generation > self.tables.generation;
        self.tables.raise_floor(table.generation);
        if !is_newer {
            return;
        }
        for (name, release) in &table.refused {
            let (Ok(name), Ok(release)) = (name.parse::<ServiceName>(), release.parse::<ReleaseId>()) else {
                continue;
            };
            self.resume_refused(&name, &release);
        }
    }

    fn resume_refused(&mut self, name: &ServiceName, release: &ReleaseId) {
        let Some(service) = self.services.get_mut(name) else { return };
        if let Some(running) =
            service.rollout.as_mut().filter(|running| !running.machine.phase().is_promoted())
        {
            let plan = running.machine.plan().clone();
            if plan.to == *release {
                // Too late where the abort itself is in the record.
                let _ = running.machine.try_abort(Cause::Earlier);
            } else if plan.kind == Kind::Rollback
                && plan.from.as_ref() == Some(release)
                && plan.strategy == Strategy::BlueGreen
                && running.machine.phase() < Phase::Shifting
            {
                running.machine = Rollout::resume(plan, Phase::Shifting, Duration::ZERO, self.now);
                service.set_verdict(release, Verdict::LeftByRollback);
            }
            return;
        }
        if service.stable.as_ref() == Some(release)
            && let Some(to) = service.warm.clone().or_else(|| service.way_back())
        {
            self.make_way(name, &to.to_string());
            self.begin(name, Kind::Rollback, to, Asked { actor: ACTOR_LOST, operation: None });
            // Whatever is ready by now: traffic is there already.
            let now = self.now;
            let at_once = |running: &&mut Running| running.machine.plan().strategy == Strategy::BlueGreen;
            if let Some(running) = self.rollout_mut(name).filter(at_once) {
                let plan = running.machine.plan().clone();
                running.machine = Rollout::resume(plan, Phase::Shifting, Duration::ZERO, now);
            }
            if let Some(service) = self.services.get_mut(name) {
                service.set_verdict(release, Verdict::LeftByRollback);
            }
            self.saving.wanted = true;
        }
    }
}

fn is_first(running: &Running) -> bool {
    running.machine.plan().kind == Kind::First
}

fn find_endpoint<'a>(table: &'a RouteTable, id: &InstanceId) -> Option<&'a Endpoint> {
    let traffic = table.services.get(id.service.as_str())?;
    let text = id.to_string();
    traffic.releases.iter().flat_map(|release| &release.endpoints).find(|endpoint| endpoint.instance == text)
}

fn resume_service(service: &mut Service, record: &ServiceRecord, now: Instant) -> Result<(), ResumeError> {
    let id = |text: &String| text.parse::<ReleaseId>();
    service.stable = record.stable.as_ref().map(id).transpose()?;
    service.durable.clone_from(&service.stable);
    for release in &record.releases {
        service.releases.push(Release { id: id(&release.release)?, record: release.clone() });
    }
    service.before =
        Totals { requests: record.requests_before, errors: record.errors_before, ..Totals::default() };
    service.last_rollout.clone_from(&record.last_rollout);
    let (scaled, stopped, removed) = (record.scaled, record.stopped, record.removed);
    service.desired = Desired { instances: service.settings.instances, scaled, stopped, removed };
    service.durable_desired = service.desired;
    service.pending = record.pending.as_ref().map(id).transpose()?;
    service.operation = record.operation.as_ref().map(Operation::resume);
    service.adopted.clone_from(&record.instances);
    service.resumed.clone_from(&record.slots);
    if let Some(rollout) = &record.rollout {
        let running = resume_rollout(service, rollout, now)?;
        service.warm = record.warm.as_ref().map(|warm| id(&warm.release)).transpose()?;
        service.rollout = Some(running);
    }
    service.start_first =
        service.stable.is_none() && service.rollout.is_none() && service.last_rollout.is_none();
    Ok(())
}

fn resume_rollout(service: &Service, record: &RolloutRecord, now: Instant) -> Result<Running, ResumeError> {
    let from = record.from.as_ref().map(|from| from.parse()).transpose()?;
    let plan = Plan {
        kind: convert::kind_from_wire(record.kind),
        strategy: convert::strategy_from_wire(record.strategy),
        to: record.to.parse()?,
        keep_warm: service.keep_warm(from.as_ref()),
        from,
        instances: service.instances(),
    };
    let left = Duration::from_millis(record.bake_left_ms.unwrap_or(0));
    Ok(Running {
        id: record.id,
        machine: Rollout::resume(plan, convert::phase_from_wire(record.phase), left, now),
        actor: record.actor.clone(),
        operation: record.operation.clone(),
        started_at_ms: record.started_at_ms,
        decided_at_ms: record.decided_at_ms,
        called_back_at_ms: None,
        prepared: record.prepared,
        has_news: false,
        reason: record.reason.clone(),
        output: record.output.clone(),
        receipt: record.receipt.clone(),
        counting: None,
    })
}
