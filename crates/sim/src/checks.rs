//! The rules that hold at every moment, and those that hold at the end.
//!
//! Each is checked against the world itself, never against what the agent believes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent::world::SpawnRequest;
use model::id::{InstanceId, ReleaseId, ServiceName};
use model::time::Instant;
use wire::link::StopLevel;
use wire::manifest::{Mode, Service as Settings, Strategy};
use wire::record::{OperationKind, Phase, Record};
use wire::routes::{EndpointState, RouteTable, ServiceTraffic};

use crate::world::{Process, World};

/// Most violations kept.
const VIOLATIONS_MAX: usize = 20;
/// A stable release that answers for so long must get the requests.
const ROUTED_WITHIN: Duration = Duration::from_secs(4);
/// What was decided before a crash is carried out within that time.
const CRASH_COUNTS: Duration = Duration::from_secs(6);
/// A table is in use by every proxy within this time.
const APPLIED_WITHIN: Duration = Duration::from_millis(500);
/// Two deaths at once, of an instance and the agent, may cost as long as the agent takes to come back.
const FAILING_MAX: Duration = Duration::from_secs(1);
/// Stable, the one it is replaced by, and one that still retires.
const RELEASES_MAX: usize = 3;

/// What was seen.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    violations: Vec<String>,
    served: u64,
    lost_to_crashes: u64,
    last_table: Option<RouteTable>,
    /// When the latest tables were given out.
    given_out: Vec<(u64, Instant)>,
    /// Since when every request to a service fails.
    failing: BTreeMap<String, Instant>,
    /// Since when tables let no new request go to an instance.
    left: BTreeMap<String, Instant>,
    /// Services of which a process was started since the last `up`.
    pub(crate) started: BTreeSet<ServiceName>,
    /// When a process of a service was crashed last.
    pub(crate) crashed: BTreeMap<ServiceName, Instant>,
    /// When a person had stopped a service last, or taken it out.
    put_down: BTreeMap<String, Instant>,
    /// The most instances that a service ever was to have.
    most: BTreeMap<String, u32>,
    /// The stable release of each service by the durable record, and since when.
    stable: BTreeMap<String, (Option<String>, Instant)>,
}

impl Checks {
    pub(crate) fn violate(&mut self, now: Instant, text: String) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(format!("{:.3} {text}", now.since_start().as_secs_f64()));
        }
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) fn served(&mut self, service: &str) {
        self.served += 1;
        self.failing.remove(service);
    }
}

/// How many instances of a service there should be.
fn target(record: &Record, service: &str) -> u32 {
    let settings = record.manifest.services.get(service).map_or(0, |settings| settings.instances);
    record.services.get(service).and_then(|service| service.scaled).unwrap_or(settings)
}

fn serving(traffic: &ServiceTraffic) -> BTreeSet<&str> {
    let routed = traffic.releases.iter().filter(|release| release.weight > 0);
    let endpoints = routed.flat_map(|release| &release.endpoints);
    endpoints.filter(|e| e.state == EndpointState::Serving).map(|e| e.instance.as_str()).collect()
}

impl World {
    fn violate(&mut self, text: String) {
        let now = self.time();
        self.note(&format!("VIOLATION {text}"));
        self.checks.violate(now, text);
    }

    pub(crate) fn check_step(&mut self) {
        let mut by_service: BTreeMap<&ServiceName, BTreeSet<&ReleaseId>> = BTreeMap::new();
        for id in self.holder().running.keys() {
            by_service.entry(&id.service).or_default().insert(&id.release);
        }
        let over: Vec<String> = by_service
            .iter()
            .filter(|(_, releases)| releases.len() > RELEASES_MAX)
            .map(|(service, releases)| format!("{} releases of {service} run", releases.len()))
            .collect();
        over.into_iter().for_each(|text| self.violate(text));
    }

    /// Of a rolling service never more run than it may have, or one more where a fresh one takes over.
    pub(crate) fn check_surge(&mut self) {
        let Some(record) = self.record() else { return };
        let mut over = Vec::new();
        for (name, settings) in &record.manifest.services {
            let Some(service) = record.services.get(name) else { continue };
            let wanted = service.scaled.unwrap_or(settings.instances);
            let most = self.checks.most.entry(name.clone()).or_default();
            *most = wanted.max(*most);
            let most = *most;
            let running = self.holder().running.keys().filter(|id| id.service.as_str() == name).count();
            let may = most.saturating_add(settings.rollout.max_surge.max(1));
            // What is started while it stops, or before anything was stable, overlaps.
            let stopped = service.operation.as_ref().is_some_and(|operation| {
                matches!(operation.kind, OperationKind::Start | OperationKind::Stop)
            });
            let is_rolling = settings.rollout.strategy == Strategy::Rolling && service.stable.is_some();
            if is_rolling && !stopped && running > usize::try_from(may).unwrap_or(usize::MAX) {
                over.push(format!("{running} instances of {name} run, and {may} may"));
            }
        }
        over.into_iter().for_each(|text| self.violate(text));
    }

    fn settings(&self, service: &ServiceName) -> Option<Settings> {
        self.record()?.manifest.services.get(service.as_str()).cloned()
    }

    /// A person has stopped it, or has taken it out of the manifest.
    fn is_put_down(&self, service: &str) -> bool {
        let record = self.record();
        let record = record.as_ref().and_then(|record| record.services.get(service));
        record.is_none_or(|record| record.stopped || record.removed)
    }

    fn crashed_lately(&self, service: &ServiceName) -> bool {
        let now = self.time();
        self.checks.crashed.get(service).is_some_and(|at| now.since(*at) < CRASH_COUNTS)
    }

    /// A listener is closed: no proxy accepts on it by its table.
    pub(crate) fn check_unbind(&mut self, name: &str) {
        let mut tables = self.proxies().values().filter_map(|proxy| proxy.table.as_ref());
        if tables.any(|table| table.listeners.contains_key(name)) {
            self.violate(format!("listener {name} is closed while a proxy uses it"));
        }
    }

    /// What leaves a rolling service leaves as many ready as were promised.
    fn check_promise(
        &self,
        service: &str,
        last: &ServiceTraffic,
        traffic: &ServiceTraffic,
    ) -> Option<String> {
        let name = service.parse::<ServiceName>().ok()?;
        let settings = self.settings(&name)?;
        let record = self.record()?;
        let record = record.services.get(service)?;
        let stable = self.stable_of(&name)?.to_string();
        let flaps =
            self.holder().running.values().any(|p| p.id.service == name && p.behaviour.unready_of_ten > 0);
        let is_rolling = settings.rollout.strategy == Strategy::Rolling;
        if !is_rolling || flaps || self.is_put_down(service) || self.crashed_lately(&name) {
            return None;
        }
        let draining = |traffic: &ServiceTraffic| -> BTreeSet<String> {
            let endpoints = traffic.releases.iter().filter(|release| release.release == stable);
            let endpoints = endpoints.flat_map(|release| &release.endpoints);
            let draining = endpoints.filter(|e| e.state == EndpointState::Draining);
            draining.map(|e| e.instance.clone()).collect()
        };
        let before = serving(last);
        let left = draining(traffic).into_iter().find(|instance| before.contains(instance.as_str()))?;
        let wanted = record.scaled.unwrap_or(settings.instances);
        let promised = usize::try_from(wanted.saturating_sub(settings.rollout.max_unavailable)).ok()?;
        let now = self.time();
        let answers = |instance: &&&str| {
            let id = instance.parse::<InstanceId>().ok();
            let process = id.and_then(|id| self.holder().running.get(&id));
            process.is_some_and(|process| process.answers(now) && !process.signalled)
        };
        let ready = serving(traffic).iter().filter(answers).count();
        (ready < promised)
            .then(|| format!("{left} leaves {ready} of {service} ready, and {promised} were promised"))
    }

    /// The record has become durable.
    pub(crate) fn check_record(&mut self, record: &Record) {
        let now = self.time();
        for (name, service) in &record.services {
            if service.stopped || service.removed {
                self.checks.put_down.insert(name.clone(), now);
            }
            if self.checks.stable.get(name).is_none_or(|(known, _)| *known != service.stable) {
                self.checks.stable.insert(name.clone(), (service.stable.clone(), now));
            }
        }
    }

    /// No table takes away the last endpoint of a service while its process lives.
    pub(crate) fn check_table(&mut self, table: &RouteTable) {
        let mut broken = Vec::new();
        if let Some(last) = &self.checks.last_table {
            if table.generation <= last.generation {
                broken.push(format!("table {} follows {}", table.generation, last.generation));
            }
            for (service, traffic) in &table.services {
                let before = last.services.get(service).map(serving).unwrap_or_default();
                let alive = |instance: &&&str| instance.parse().is_ok_and(|id| self.is_wanted_alive(&id));
                if let Some(former) = last.services.get(service)
                    && self.stopping().is_none()
                {
                    broken.extend(self.check_promise(service, former, traffic));
                }
                if serving(traffic).is_empty()
                    && traffic.hold.is_none()
                    && !self.is_put_down(service)
                    && self.stopping().is_none()
                    && let Some(alive) = before.iter().find(alive)
                {
                    broken.push(format!(
                        "table {} has nothing for {service}, but {alive} lives",
                        table.generation
                    ));
                }
            }
        }
        for (service, traffic) in &table.services {
            let sum: u32 = traffic.releases.iter().map(|release| u32::from(release.weight)).sum();
            if sum != 0 && sum != 10_000 {
                broken.push(format!("the weights of {service} sum to {sum}"));
            }
        }
        let now = self.time();
        self.checks.given_out.retain(|(_, at)| now.since(*at) < APPLIED_WITHIN);
        self.checks.given_out.push((table.generation, now));
        let all = table.services.values().flat_map(|s| &s.releases).flat_map(|r| &r.endpoints);
        let still: BTreeSet<&str> =
            all.filter(|e| e.state == EndpointState::Serving).map(|e| e.instance.as_str()).collect();
        self.checks.left.retain(|instance, _| !still.contains(instance.as_str()));
        for instance in self.holder().running.keys().map(ToString::to_string).collect::<Vec<_>>() {
            if !still.contains(instance.as_str()) {
                self.checks.left.entry(instance).or_insert(now);
            }
        }
        self.checks.last_table = Some(table.clone());
        broken.into_iter().for_each(|text| self.violate(text));
    }

    /// It lives, and its release is one that the record does not give up: a failed rollout's may vanish.
    fn is_wanted_alive(&self, id: &InstanceId) -> bool {
        let Some(process) = self.holder().running.get(id) else { return false };
        let stable = self.stable_of(&id.service);
        !process.signalled && stable.as_ref() == Some(&id.release)
    }

    fn stable_of(&self, service: &ServiceName) -> Option<ReleaseId> {
        self.checks.stable.get(service.as_str())?.0.as_ref()?.parse().ok()
    }

    fn drain_timeout(&self, service: &ServiceName) -> Duration {
        let record = self.record();
        let settings = record.as_ref().and_then(|record| record.manifest.services.get(service.as_str()));
        settings.map_or(Duration::ZERO, |settings| Duration::from_millis(settings.stop.drain_timeout_ms))
    }

    /// Nothing is signalled while a proxy routes to it or has a request in flight on it, unless that took too
    /// long; and nothing of the stable release before another is stable.
    pub(crate) fn check_signal(&mut self, id: &InstanceId) {
        if self.stopping().is_some_and(|level| level > StopLevel::Drain) {
            return;
        }
        let now = self.time();
        let waited = self.checks.left.get(&id.to_string()).map_or(Duration::ZERO, |since| now.since(*since));
        let too_long = waited >= self.drain_timeout(&id.service);
        if (self.is_routed(id) || self.is_busy(id)) && !too_long {
            let what =
                if self.is_routed(id) { "a proxy routes to it" } else { "a request is in flight on it" };
            self.violate(format!("{id} is signalled {waited:?} after it left the table, but {what}"));
        }
        self.check_stable_stays(id, "signalled");
    }

    pub(crate) fn check_kill(&mut self, id: &InstanceId) {
        let signalled = self.holder().running.get(id).is_some_and(|process| process.signalled);
        if !signalled && self.stopping() != Some(StopLevel::Kill) {
            self.violate(format!("{id} is killed before it was asked to stop"));
        }
    }

    fn check_stable_stays(&mut self, id: &InstanceId, what: &str) {
        if self.stopping().is_some() || self.stable_of(&id.service).as_ref() != Some(&id.release) {
            return;
        }
        // A rolling service is looked at when its tables change, one that cannot run twice has to stop first.
        let settings = self.settings(&id.service);
        let replaces = settings.is_none_or(|settings| {
            // Whether a worker works shows nowhere but in its own checks.
            settings.rollout.strategy != Strategy::BlueGreen || settings.mode == Mode::Worker
        });
        if replaces || self.is_put_down(id.service.as_str()) {
            return;
        }
        let flaps = self.holder().running.values();
        let flaps = flaps.into_iter().any(|p| p.id.service == id.service && p.behaviour.unready_of_ten > 0);
        if self.crashed_lately(&id.service) || flaps {
            return;
        }
        let now = self.time();
        let answers = |process: &&Process| process.answers(now) && !process.signalled;
        // It was on its way out when its release became stable once more.
        let left = self.checks.left.get(&id.to_string());
        let stable = self.checks.stable.get(id.service.as_str());
        if left.is_some_and(|left| stable.is_some_and(|(_, since)| left <= since)) {
            return;
        }
        // Or when its service was started again, or was back in the manifest.
        let put_down = self.checks.put_down.get(id.service.as_str());
        if put_down.is_some_and(|put_down| left.is_none_or(|left| *left <= *put_down + APPLIED_WITHIN)) {
            return;
        }
        let record = self.record();
        let target = record.as_ref().map_or(0, |record| target(record, id.service.as_str()));
        let target = usize::try_from(target).unwrap_or(0);
        let of_release = self
            .holder()
            .running
            .values()
            .filter(|p| p.id.service == id.service && p.id.release == id.release);
        let others = of_release.filter(|process| process.id != *id).filter(answers).count();
        let itself = self.holder().running.get(id).filter(answers).is_some();
        if itself && others < target {
            self.violate(format!("{id} is {what}, but its release is stable and needs it"));
        }
    }

    pub(crate) fn check_spawn(&mut self, request: &SpawnRequest) {
        let id = &request.instance;
        self.check_order(request);
        let listed = request.port.is_none()
            || self.routes().is_some_and(|table| {
                let endpoints = table.services.values().flat_map(|s| &s.releases).flat_map(|r| &r.endpoints);
                endpoints
                    .into_iter()
                    .any(|e| e.instance == id.to_string() && e.address.port() == request.port)
            });
        if !listed {
            self.violate(format!("{id} is spawned on a port that no table has"));
        }
        if request
            .command
            .iter()
            .chain(request.environment.iter().map(|(_, value)| value))
            .any(|t| t.contains("${PORT}"))
        {
            self.violate(format!("{id} is spawned with a variable that is not expanded"));
        }
    }

    /// Nothing else of a service that cannot run twice runs, and what it needs was there before its first start.
    fn check_order(&mut self, request: &SpawnRequest) {
        let id = &request.instance;
        let Some(settings) = self.settings(&id.service) else { return };
        let other = self.holder().running.keys().find(|other| other.service == id.service).cloned();
        if settings.rollout.strategy == Strategy::Recreate
            && settings.instances == 1
            && let Some(other) = other
        {
            self.violate(format!("{id} is spawned while {other} runs"));
        }
        let record = self.record();
        let replaces = record.as_ref().and_then(|record| record.services.get(id.service.as_str()));
        // What is being replaced was there a moment ago.
        let replaces = replaces.is_some_and(|service| {
            let restarts = service.operation.as_ref().is_some_and(|o| o.kind == OperationKind::Restart);
            service.rollout.is_some() || restarts
        });
        if self.checks.started.contains(&id.service) || replaces {
            return;
        }
        for dependency in &settings.depends_on {
            let Ok(on) = dependency.service.parse::<ServiceName>() else { continue };
            let runs = self.holder().running.keys().any(|other| other.service == on);
            if !runs && !self.crashed_lately(&on) {
                self.violate(format!("{id} is spawned before anything of {on}"));
            }
        }
    }

    pub(crate) fn check_removal(&mut self, service: &ServiceName, directory: &str) {
        let record = self.record();
        let releases = record.as_ref().and_then(|record| record.services.get(service.as_str()));
        let used: Vec<String> = releases
            .iter()
            .flat_map(|service| &service.releases)
            .filter(|release| release.directory == directory)
            .map(|release| release.release.clone())
            .collect();
        let runs = |release: &String| {
            self.holder()
                .running
                .keys()
                .any(|id| id.service == *service && id.release.to_string() == *release)
        };
        if let Some(release) = used.iter().find(|release| runs(release)) {
            let text = format!("the directory of {service} {release} is removed while it runs");
            self.violate(text);
        }
    }

    /// A request found nothing that answers, although a stable release could have.
    pub(crate) fn check_failed_request(&mut self, service: &str) {
        if self.stopping().is_some() || self.is_put_down(service) {
            self.checks.failing.remove(service);
            return;
        }
        let now = self.time();
        let Ok(name) = service.parse::<ServiceName>() else { return };
        let Some(stable) = self.stable_of(&name) else { return };
        let could = |process: &&Process| {
            process.id.service == name
                && process.id.release == stable
                && !process.signalled
                && process.answers_since(ROUTED_WITHIN, now)
        };
        let could = self.holder().running.values().find(could).map(|process| process.id.clone());
        // It had been asked to leave when the one that took over from it crashed.
        let leaves =
            |id: &InstanceId| self.crashed_lately(&name) && self.checks.left.contains_key(&id.to_string());
        let could = could.filter(|id| !leaves(id));
        let Some(could) = could else {
            self.checks.failing.remove(service);
            return;
        };
        let since = *self.checks.failing.entry(service.to_owned()).or_insert(now);
        if now.since(since) > FAILING_MAX {
            let text = format!("requests to {service} fail since {since:?}, but {could} answers");
            self.violate(text);
        }
    }

    /// Requests were in flight on a process that is gone now.
    pub(crate) fn check_lost(&mut self, process: &Process, lost: &[(u64, Instant)]) {
        let forced = self.stopping().is_some_and(|level| level > StopLevel::Drain);
        if !process.signalled || forced {
            self.checks.lost_to_crashes += u64::try_from(lost.len()).unwrap_or(u64::MAX);
            return;
        }
        let now = self.time();
        let timeout = self.drain_timeout(&process.id.service);
        let oldest = lost.iter().map(|(_, started)| now.since(*started)).max().unwrap_or_default();
        if oldest < timeout {
            let text = format!("{} requests in flight on {} were lost to its stop", lost.len(), process.id);
            self.violate(text);
        }
    }

    /// After a quiet time: one release of each service runs and gets the traffic, and all say so.
    pub fn check_rest(&mut self) {
        let (Some(durable), Some(agent)) = (self.record(), self.agent_record()) else {
            self.violate("there is no agent at the end".to_owned());
            return;
        };
        let mut broken = Vec::new();
        let timeless = |mut record: Record| {
            record.written_at_ms = 0;
            for service in record.services.values_mut() {
                service.warm.iter_mut().for_each(|warm| warm.left_ms = 0);
                service.rollout.iter_mut().for_each(|rollout| {
                    rollout.bake_left_ms = None;
                    rollout.receipt = Default::default();
                });
                service.requests_before = 0;
                // Wall time from two clocks: a millisecond apart says nothing.
                let starts = service.slots.values_mut().filter_map(|slot| slot.starts_at_ms.as_mut());
                starts.for_each(|at| *at = 0);
            }
            record.table_generation = 0;
            record
        };
        if timeless(durable.clone()) != timeless(agent) {
            broken.push("the record does not say what the agent says".to_owned());
        }
        let table = self.routes().unwrap_or_default();
        let now = self.time();
        for (generation, proxy) in self.proxies() {
            let applied = proxy.table.as_ref().map_or(0, |used| used.generation);
            let fresh =
                self.checks.given_out.iter().filter(|(_, at)| now.since(*at) < APPLIED_WITHIN).count();
            if applied + u64::try_from(fresh).unwrap_or(0) < table.generation {
                broken.push(format!("proxy {generation} uses table {applied}, not {}", table.generation));
            }
        }
        for (name, service) in &durable.services {
            let phase = service.rollout.as_ref().map(|rollout| rollout.phase);
            let waits =
                durable.manifest.services.get(name).is_some_and(|settings| !settings.depends_on.is_empty());
            let waits = waits && phase == Some(Phase::Starting);
            if phase.is_some_and(|phase| phase != Phase::Baking) && !waits {
                broken.push(format!("the rollout of {name} is still {phase:?}"));
            }
            if service.operation.as_ref().is_some_and(|operation| operation.succeeded.is_none()) {
                broken.push(format!("the operation on {name} still runs: {:?}", service.operation));
            }
            if service.removed {
                broken.push(format!("{name} was taken out, and is still there"));
            }
            let target = target(&durable, name);
            broken.extend(self.check_service_rest(name, service, target, &table));
        }
        broken.into_iter().for_each(|text| self.violate(text));
    }

    fn check_service_rest(
        &self,
        name: &str,
        service: &wire::record::ServiceRecord,
        target: u32,
        table: &RouteTable,
    ) -> Vec<String> {
        let mut broken = Vec::new();
        let now = self.time();
        let warm = service.warm.as_ref().map(|warm| warm.release.clone());
        let mut wanted: BTreeSet<String> = service.stable.iter().cloned().chain(warm).collect();
        if service.stopped {
            wanted.clear();
        }
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for process in self.holder().running.values().filter(|process| process.id.service.as_str() == name) {
            *counts.entry(process.id.release.to_string()).or_default() += 1;
        }
        for release in counts.keys().filter(|release| !wanted.contains(*release)) {
            broken.push(format!("{name} {release} still runs"));
        }
        let Some(stable) = service.stable.as_ref().filter(|_| !service.stopped) else { return broken };
        let traffic = table.services.get(name);
        let routed = traffic.and_then(|traffic| traffic.releases.iter().find(|release| release.weight > 0));
        let processes = || {
            let of_release = |process: &&Process| {
                process.id.service.as_str() == name && process.id.release.to_string() == *stable
            };
            self.holder().running.values().filter(of_release)
        };
        let good = processes()
            .next()
            .is_some_and(|process| process.behaviour.is_good() && process.behaviour.unready_of_ten == 0);
        if good {
            if counts.get(stable) != Some(&target) {
                broken.push(format!("{name} {stable} has {:?} instances, not {target}", counts.get(stable)));
            }
            let all_serve = traffic.is_some_and(|traffic| {
                let serving = serving(traffic);
                processes()
                    .all(|process| !process.answers(now) || serving.contains(process.id.to_string().as_str()))
            });
            let is_worker = traffic.is_none();
            if !is_worker && (routed.is_none_or(|routed| routed.release != *stable) || !all_serve) {
                broken.push(format!("{name} {stable} is stable, but the table says {routed:?}"));
            }
        }
        broken
    }
}
