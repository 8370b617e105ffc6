//! One service: its releases, its slots, and what should run of it.
//!
//! It deliberately decides nothing about when: what is wanted follows from the stable and warm release and the
//! rollout at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::id::{InstanceId, ReleaseId, ServiceName, Version};
use model::instance::{Instance, Past, Routing, Settings};
use model::manifest as checked;
use model::rollout::{Facts, Kind, Plan, Share, Strategy, Wanted};
use wire::record::{InstanceRecord, OperationKind, ReleaseRecord, RolloutRecord, SlotRecord, Verdict};

use super::counters::Totals;
use super::hooks::Work;
use super::operating::Operation;
use super::rollouts::Running;
use crate::world::TaskId;

/// A release that is known.
#[derive(Debug, Clone)]
pub(super) struct Release {
    pub id: ReleaseId,
    /// Its directory and hash are empty until it has been copied.
    pub record: ReleaseRecord,
}

impl Release {
    pub(super) fn is_prepared(&self) -> bool {
        !self.record.hash.is_empty()
    }
}

/// A slot and what the agent knows of it beyond its state.
#[derive(Debug)]
pub(super) struct Slot {
    pub machine: Instance,
    pub port: Option<u16>,
    /// Ports tried in a row for this start.
    pub port_tries: u32,
    /// The last table that let requests go to it.
    pub last_served: Option<u64>,
    /// By proxy: the newest table as of which nothing was in flight on it.
    pub drained: BTreeMap<u64, u64>,
    /// Ports it listens on instead of its own.
    pub elsewhere: Vec<u16>,
    pub output: Vec<String>,
    /// Hooks and checks of it that run as tasks.
    pub tasks: BTreeMap<Work, TaskId>,
}

impl Slot {
    pub(super) fn new(machine: Instance) -> Self {
        Self {
            machine,
            port: None,
            port_tries: 0,
            last_served: None,
            drained: BTreeMap::new(),
            elsewhere: Vec::new(),
            output: Vec::new(),
            tasks: BTreeMap::new(),
        }
    }
}

/// How much of a service there should be: the manifest's number, and what operators have set since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Desired {
    /// As the manifest last applied says.
    pub instances: u32,
    /// How many instances; `None`: as many as the manifest says.
    pub scaled: Option<u32>,
    /// Nothing of it runs.
    pub stopped: bool,
    /// It is not in the manifest any more.
    pub removed: bool,
}

/// One service.
#[derive(Debug)]
pub(super) struct Service {
    pub settings: checked::Service,
    pub desired: Desired,
    /// As the last durable record says; only that is acted on.
    pub durable_desired: Desired,
    /// The operation that runs, or the last one.
    pub operation: Option<Operation>,
    /// Begins when the service is started: it was applied while that was stopped.
    pub pending: Option<ReleaseId>,
    /// Nothing of it has been started since `up`.
    pub is_fresh: bool,
    /// Why nothing of it is started yet.
    pub waits_for: Option<String>,
    /// How far its instances were by the last record, where no table says so.
    pub adopted: BTreeMap<String, InstanceRecord>,
    /// What its slots had gone through by the record that this agent began from.
    pub resumed: BTreeMap<String, SlotRecord>,
    /// What its slots had gone through when the record was written last.
    pub pasts: BTreeMap<InstanceId, Past>,
    pub stable: Option<ReleaseId>,
    /// The stable release of the last record that is durable: nothing of it is stopped before another is.
    pub durable: Option<ReleaseId>,
    pub warm: Option<ReleaseId>,
    /// In the order of their last promotion, the newest last.
    pub releases: Vec<Release>,
    pub rollout: Option<Running>,
    /// A deploy of the stable release, whose content is being compared.
    pub verifying: Option<Running>,
    pub last_rollout: Option<RolloutRecord>,
    /// Counted by proxies that have ended.
    pub before: Totals,
    pub slots: BTreeMap<InstanceId, Slot>,
    /// Its first release has not been tried since the last `up`.
    pub start_first: bool,
}

impl Service {
    pub(super) fn new(settings: checked::Service) -> Self {
        let desired = Desired { instances: settings.instances, scaled: None, stopped: false, removed: false };
        Self {
            settings,
            desired,
            durable_desired: desired,
            operation: None,
            pending: None,
            is_fresh: false,
            waits_for: None,
            adopted: BTreeMap::new(),
            resumed: BTreeMap::new(),
            pasts: BTreeMap::new(),
            stable: None,
            durable: None,
            warm: None,
            releases: Vec::new(),
            rollout: None,
            verifying: None,
            last_rollout: None,
            before: Totals::default(),
            slots: BTreeMap::new(),
            start_first: true,
        }
    }

    pub(super) fn release(&self, id: &ReleaseId) -> Option<&Release> {
        self.releases.iter().find(|release| release.id == *id)
    }

    pub(super) fn release_mut(&mut self, id: &ReleaseId) -> Option<&mut Release> {
        self.releases.iter_mut().find(|release| release.id == *id)
    }

    pub(super) fn set_verdict(&mut self, id: &ReleaseId, verdict: Verdict) {
        if let Some(release) = self.release_mut(id) {
            release.record.verdict = verdict;
        }
    }

    /// A way back is not taken after all: what it was to leave stays, and has nothing against it.
    pub(super) fn keep_from(&mut self, plan: &Plan) {
        if let (Kind::Rollback, Some(from)) = (plan.kind, &plan.from) {
            self.set_verdict(from, Verdict::Good);
        }
    }

    /// How far its instances are, where no table says so.
    pub(super) fn instance_records(&self) -> BTreeMap<String, InstanceRecord> {
        let record = |slot: &Slot| match slot.machine.routing() {
            _ if slot.machine.is_leaving() => Some(InstanceRecord::Leaving),
            Routing::Ready | Routing::Unready(_) => Some(InstanceRecord::Ready),
            Routing::Absent | Routing::Candidate | Routing::Draining => None,
        };
        let slots = self.slots.iter().filter(|_| self.is_worker());
        slots.filter_map(|(id, slot)| Some((id.to_string(), record(slot)?))).collect()
    }

    /// What its slots went through, where that is not nothing.
    pub(super) fn slot_pasts(&self) -> BTreeMap<InstanceId, Past> {
        let staying = self.slots.iter().filter(|(_, slot)| !slot.machine.is_leaving());
        let pasts = staying.map(|(id, slot)| (id.clone(), slot.machine.past()));
        pasts.filter(|(_, past)| *past != Past::default()).collect()
    }

    /// The release that `version` with this configuration is, known or new.
    pub(super) fn release_id(&self, version: &Version, configuration: &wire::manifest::Service) -> ReleaseId {
        let of_version = || self.releases.iter().filter(|release| release.id.version == *version);
        if let Some(same) =
            of_version().find(|release| runs_alike(&release.record.configuration, configuration))
        {
            return same.id.clone();
        }
        let number = of_version().map(|release| release.id.configuration).max().unwrap_or(0) + 1;
        ReleaseId { version: version.clone(), configuration: number }
    }

    /// The newest release that was promoted and has nothing against it, other than the stable one.
    pub(super) fn way_back(&self) -> Option<ReleaseId> {
        let good = |release: &&Release| {
            release.record.promoted
                && release.record.verdict == Verdict::Good
                && Some(&release.id) != self.stable.as_ref()
        };
        self.releases.iter().rev().find(good).map(|release| release.id.clone())
    }

    pub(super) fn instance_settings(&self) -> Settings {
        Settings::of(&self.settings)
    }

    /// How many instances of the stable release there should be.
    pub(super) fn instances(&self) -> u32 {
        self.durable_desired.scaled.unwrap_or(self.durable_desired.instances)
    }

    /// How many that will be once the record says so.
    pub(super) fn desired_instances(&self) -> u32 {
        self.desired.scaled.unwrap_or(self.desired.instances)
    }

    /// No proxy knows it.
    pub(super) fn is_worker(&self) -> bool {
        self.settings.mode == checked::Mode::Worker
    }

    /// Two processes of it must never run at once, beyond its own instances of one release.
    pub(super) fn is_exclusive(&self) -> bool {
        let by_rollout = self.rollout.as_ref().map(|running| running.machine.plan().strategy);
        self.settings.rollout.strategy == checked::Strategy::Recreate
            || by_rollout == Some(Strategy::Recreate)
    }

    /// Another instance of `release` may start: of an exclusive service nothing else is left.
    pub(super) fn has_room(&self, release: &ReleaseId) -> bool {
        let of_it = |(id, slot): (&InstanceId, &Slot)| id.release == *release && !slot.machine.is_leaving();
        !self.is_exclusive() || self.slots.iter().all(of_it)
    }

    /// Its instances are on their way to be others: by a rollout, or by a restart.
    pub(super) fn is_replacing(&self) -> bool {
        let rollout = self.rollout.as_ref().is_some_and(|running| running.machine.plan().from.is_some());
        if self.is_fresh {
            return false;
        }
        rollout || self.operating().is_some_and(|operation| operation.kind == OperationKind::Restart)
    }

    /// The strategy of a rollout that begins now. Rolling leaves one instance ready, whatever may be unavailable.
    pub(super) fn strategy(&self) -> Strategy {
        let rollout = &self.settings.rollout;
        match rollout.strategy {
            checked::Strategy::BlueGreen => Strategy::BlueGreen,
            checked::Strategy::Rolling => {
                let spare = self.desired_instances().saturating_sub(1);
                let max_unavailable = rollout.max_unavailable.min(spare);
                let max_surge = rollout.max_surge.max(u32::from(max_unavailable == 0));
                Strategy::Rolling { max_surge, max_unavailable }
            }
            checked::Strategy::Recreate => Strategy::Recreate,
        }
    }

    /// How long `from` stays warm once another release is promoted: not at all where it would work on beside that
    /// one, or was stopped for it.
    pub(super) fn keep_warm(&self, from: Option<&ReleaseId>) -> Duration {
        let works_on = from.and_then(|from| self.release(from)).is_some_and(|from| {
            let configuration = &from.record.configuration;
            configuration.mode == wire::manifest::Mode::Worker || configuration.port.is_some()
        });
        if works_on || self.is_worker() || self.strategy() != Strategy::BlueGreen {
            return Duration::ZERO;
        }
        self.settings.rollout.keep_warm
    }

    /// `count` instances of a release that is there, or one where its port is fixed.
    fn at_most_one_per_port(&self, release: &ReleaseId, count: u32) -> Wanted {
        let is_fixed = self.release(release).is_some_and(|known| known.record.configuration.port.is_some());
        Wanted::Instances(if is_fixed { count.min(1) } else { count })
    }

    /// The operation that runs.
    pub(super) fn operating(&self) -> Option<&Operation> {
        self.operation.as_ref().filter(|operation| operation.outcome().is_none())
    }

    /// What should run.
    pub(super) fn wanted(&self) -> BTreeMap<ReleaseId, Wanted> {
        let mut wanted = BTreeMap::new();
        if self.durable_desired.stopped || self.durable_desired.removed {
            return wanted;
        }
        let instances = self.instances();
        if let Some(warm) = &self.warm {
            wanted.insert(warm.clone(), self.at_most_one_per_port(warm, instances));
        }
        if let Some(stable) = &self.stable {
            let count = self.operating().map_or(instances, |operation| operation.target(self, stable));
            wanted.insert(stable.clone(), self.at_most_one_per_port(stable, count));
        }
        if let Some(running) = &self.rollout {
            let plan = running.machine.plan();
            let from = running.machine.wanted_from();
            if let Some(release) = plan.from.as_ref().filter(|_| from != Wanted::Nothing) {
                let from = match from {
                    Wanted::Instances(count) => self.at_most_one_per_port(release, count),
                    Wanted::WhatRuns | Wanted::Nothing => from,
                };
                wanted.insert(release.clone(), from);
            }
            wanted.entry(plan.to.clone()).or_insert(running.machine.wanted_to());
        }
        wanted.retain(|_, wanted| *wanted != Wanted::Nothing);
        if let Some(durable) = &self.durable {
            wanted.entry(durable.clone()).or_insert(Wanted::WhatRuns);
        }
        wanted
    }

    /// The release that should get the traffic, and the one that gets it while that has no endpoint.
    pub(super) fn receivers(&self) -> (Option<&ReleaseId>, Option<&ReleaseId>) {
        let Some(running) = &self.rollout else { return (self.stable.as_ref(), None) };
        let plan = running.machine.plan();
        let replaces = plan.strategy != Strategy::BlueGreen;
        match running.machine.share() {
            Share::From if replaces => (plan.from.as_ref().or(Some(&plan.to)), Some(&plan.to)),
            Share::From => (plan.from.as_ref(), None),
            Share::To if running.machine.phase().is_promoted() => (Some(&plan.to), None),
            Share::To | Share::Both => (Some(&plan.to), plan.from.as_ref()),
        }
    }

    /// Both releases of a rollout that replaces instance by instance.
    pub(super) fn sharers(&self) -> Option<[&ReleaseId; 2]> {
        let plan =
            self.rollout.as_ref().filter(|running| running.machine.share() == Share::Both)?.machine.plan();
        Some([plan.from.as_ref()?, &plan.to])
    }

    /// Releases that a rollback or a failed rollout left, and that nothing leads to now.
    pub(super) fn refused(&self) -> impl Iterator<Item = &ReleaseId> {
        let forward = self.rollout.as_ref().filter(|running| running.machine.leads_forward());
        let to = forward.map(|running| &running.machine.plan().to);
        let left = self
            .releases
            .iter()
            .filter(|release| matches!(release.record.verdict, Verdict::Failed | Verdict::LeftByRollback));
        left.map(|release| &release.id).filter(move |id| Some(*id) != to)
    }

    pub(super) fn slots_of<'a>(
        &'a self,
        release: &'a ReleaseId,
    ) -> impl Iterator<Item = (&'a InstanceId, &'a Slot)> {
        self.slots.iter().filter(move |(id, _)| id.release == *release)
    }

    pub(super) fn ready(&self, release: &ReleaseId) -> u32 {
        let ready = self.slots_of(release).filter(|(_, slot)| slot.machine.is_ready()).count();
        u32::try_from(ready).unwrap_or(u32::MAX)
    }

    /// Slots of a release, those on their way out included.
    pub(super) fn running(&self, release: &ReleaseId) -> u32 {
        u32::try_from(self.slots_of(release).count()).unwrap_or(u32::MAX)
    }

    /// Slots of a release that nobody asked to stop.
    pub(super) fn staying(&self, release: &ReleaseId) -> u32 {
        let staying = self.slots_of(release).filter(|(_, slot)| !slot.machine.is_leaving()).count();
        u32::try_from(staying).unwrap_or(u32::MAX)
    }

    /// Releases that have instances and are not wanted any more.
    pub(super) fn retiring(&self) -> BTreeSet<ReleaseId> {
        let wanted = self.wanted();
        self.slots
            .keys()
            .map(|id| id.release.clone())
            .filter(|release| !wanted.contains_key(release))
            .collect()
    }

    /// What the rollout has to know; `shifted` and `restored` are the tables' to say.
    pub(super) fn facts(&self, running: &Running) -> Facts {
        let plan = running.machine.plan();
        let from = plan.from.as_ref();
        Facts {
            ready: self.ready(&plan.to),
            from_ready: from.map_or(0, |from| self.ready(from)),
            running: self.running(&plan.to),
            staying: self.staying(&plan.to),
            others: {
                let others =
                    self.slots.keys().filter(|id| id.release != plan.to && Some(&id.release) != from);
                u32::try_from(others.count()).unwrap_or(u32::MAX)
            },
            from_running: from.map_or(0, |from| self.running(from)),
            from_staying: from.map_or(0, |from| self.staying(from)),
            room: self.retiring().iter().filter(|release| **release != plan.to).count() <= 1,
            proxies: 0,
            shifted: false,
            restored: false,
        }
    }

    /// The lowest number no living slot of `release` has.
    pub(super) fn free_slot(&self, service: &ServiceName, release: &ReleaseId) -> InstanceId {
        let taken: BTreeSet<u32> = self.slots_of(release).map(|(id, _)| id.number).collect();
        let number =
            (0..).find(|number| !taken.contains(number)).expect("invariant: fewer slots than numbers");
        InstanceId { service: service.clone(), release: release.clone(), number }
    }

    /// The instance of `release` that stays admitted though none is ready: the one that was the longest.
    pub(super) fn last_admitted<'a>(&'a self, release: &'a ReleaseId) -> Option<&'a InstanceId> {
        let mut last = None;
        for (id, slot) in self.slots_of(release) {
            match slot.machine.routing() {
                Routing::Ready => return None,
                Routing::Unready(since) if last.is_none_or(|(_, newest)| newest <= since) => {
                    last = Some((id, since));
                }
                Routing::Unready(_) | Routing::Absent | Routing::Candidate | Routing::Draining => {}
            }
        }
        last.map(|(id, _)| id)
    }
}

/// Two configurations that need no other process: what differs beyond this holds at once.
pub(super) fn runs_alike(a: &wire::manifest::Service, b: &wire::manifest::Service) -> bool {
    a.command == b.command
        && a.environment == b.environment
        && a.environment_inherit == b.environment_inherit
        && a.environment_file == b.environment_file
        && a.working_directory == b.working_directory
        && (&a.user, &a.group, a.umask) == (&b.user, &b.group, b.umask)
        && (a.limits_open_files, a.limits_memory) == (b.limits_open_files, b.limits_memory)
        && (a.mode, a.port) == (b.mode, b.port)
}
