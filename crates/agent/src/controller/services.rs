//! One service: its releases, its slots, and what should run of it.
//!
//! It deliberately decides nothing about when: what is wanted follows from the stable and warm release and the
//! rollout at any moment.

use std::collections::{BTreeMap, BTreeSet};

use model::id::{InstanceId, ReleaseId, ServiceName, Version};
use model::instance::{Instance, Routing, Settings};
use model::manifest as checked;
use model::rollout::{Facts, Kind, Plan, Share, Wanted};
use wire::record::{ReleaseRecord, RolloutRecord, Verdict};

use super::counters::Totals;
use super::rollouts::Running;

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
        }
    }
}

/// One service.
#[derive(Debug)]
pub(super) struct Service {
    pub settings: checked::Service,
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
        Self {
            settings,
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
        Settings {
            check: self.settings.readiness.check.clone(),
            startup_timeout: self.settings.readiness.startup_timeout,
            stop: self.settings.stop.clone(),
            restart: self.settings.restart.clone(),
        }
    }

    /// What should run.
    pub(super) fn wanted(&self) -> BTreeMap<ReleaseId, Wanted> {
        let mut wanted = BTreeMap::new();
        for release in self.stable.iter().chain(&self.warm) {
            wanted.insert(release.clone(), Wanted::All);
        }
        if let Some(running) = &self.rollout {
            let plan = running.machine.plan();
            if let Some(from) = &plan.from
                && running.machine.wants_from()
            {
                wanted.insert(from.clone(), Wanted::All);
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
        match running.machine.share() {
            Share::From => (plan.from.as_ref(), None),
            Share::To if running.machine.phase().is_promoted() => (Some(&plan.to), None),
            Share::To => (Some(&plan.to), plan.from.as_ref()),
        }
    }

    /// Releases that a rollback or a failed rollout left, and that nothing leads to now.
    pub(super) fn refused(&self) -> impl Iterator<Item = &ReleaseId> {
        let forward = self.rollout.as_ref().filter(|running| running.machine.wanted_to() != Wanted::Nothing);
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
            from_gone: from.is_none_or(|from| self.slots_of(from).next().is_none()),
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
fn runs_alike(a: &wire::manifest::Service, b: &wire::manifest::Service) -> bool {
    a.command == b.command && a.environment == b.environment && a.environment_inherit == b.environment_inherit
}
