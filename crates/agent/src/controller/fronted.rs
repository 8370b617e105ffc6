//! Services whose processes are not ours: their endpoints, as the manifest and the names in it say.
//!
//! ```text
//!  listed ─► candidate ─ probe ─► ready ◄─ probe ─► unready
//!    └─ without a probe ───────────►┘
//!  no longer listed ─► serves on while nothing that is listed does ─► draining ─► gone
//! ```
//! An endpoint keeps its number as long as its address is known, also from one agent to the next: the route table
//! says which had which. Until a name is answered for the first time, what the last table had stays. The endpoint
//! that was ready the longest stays admitted when none is.
//!
//! It deliberately starts, stops and deploys nothing, and keeps nothing in the record but what was counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::id::{InstanceId, ReleaseId, ServiceName, Version};
use model::manifest as checked;
use model::manifest::PlaceAddress;
use model::time::Instant;
use wire::manifest::millis;
use wire::routes::{
    Address, Endpoint, EndpointState, ProbeSettings, ReleaseTraffic, RouteTable, ServiceTraffic,
};

use super::counters::Totals;
use super::names::Names;
use super::tables::{WEIGHT_ALL, settings};
use super::{Controller, convert};
use crate::status::{InstanceStatus, ServiceStatus};
use crate::world::Severity;

/// The one release that such a service has.
const RELEASE: &str = "external";
/// An endpoint that drains is listed for so long at most. Its requests finish all the same; nothing waits for them but
/// the end of everything, which waits as long.
pub(super) const DRAIN_LISTED: Duration = Duration::from_secs(30);
/// Most endpoints of one service, those that drain included: names may have many addresses.
const ENDPOINTS_MAX: usize = 1_024;

/// How far an endpoint is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Candidate,
    Ready,
    Unready { since: Instant },
    Draining { until: Instant },
}

/// One endpoint.
#[derive(Debug)]
struct Outside {
    address: Address,
    weight: u32,
    state: State,
    /// The manifest or a name says so now.
    listed: bool,
    /// A former agent listed it, and it is not known yet why.
    adopted: bool,
    /// What the last probe said.
    detail: Option<String>,
    last_served: Option<u64>,
    drained: BTreeMap<u64, u64>,
}

/// One such service.
#[derive(Debug)]
pub(super) struct Front {
    settings: checked::Fronted,
    slots: BTreeMap<u32, Outside>,
    /// Counted by proxies that have ended.
    pub before: Totals,
    /// It is not in the manifest any more.
    removed: bool,
}

impl Front {
    pub(super) fn new(settings: checked::Fronted) -> Self {
        Self { settings, slots: BTreeMap::new(), before: Totals::default(), removed: false }
    }

    pub(super) fn is_ready(&self) -> bool {
        self.slots.values().any(|slot| slot.state == State::Ready)
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        let places = self.settings.endpoints.iter().filter(|_| !self.removed);
        places.filter_map(|place| match &place.address {
            PlaceAddress::Name(host, _) => Some(host),
            PlaceAddress::Tcp(_) | PlaceAddress::Unix(_) => None,
        })
    }

    /// Where it is now by what is known of names; of one address that is there twice the first counts.
    fn wanted(&self, names: &Names) -> Vec<(Address, u32)> {
        let mut wanted: Vec<(Address, u32)> = Vec::new();
        if self.removed {
            return wanted;
        }
        for place in &self.settings.endpoints {
            let addresses = match &place.address {
                PlaceAddress::Tcp(address) => vec![Address::Tcp(*address)],
                PlaceAddress::Unix(path) => vec![Address::Unix(path.clone())],
                PlaceAddress::Name(host, port) => {
                    let found = names.addresses(host).iter();
                    found.map(|ip| Address::Tcp((*ip, *port).into())).collect()
                }
            };
            for address in addresses {
                if !wanted.iter().any(|(known, _)| *known == address) {
                    wanted.push((address, place.weight));
                }
            }
        }
        wanted
    }

    /// What is wanted becomes what is listed; whether anything changed.
    fn refresh(&mut self, names: &Names, now: Instant) -> bool {
        let wanted = self.wanted(names);
        let is_open = self.names().any(|name| !names.is_known(name));
        let is_probed = self.settings.probe.is_some();
        let fresh = if is_probed { State::Candidate } else { State::Ready };
        let mut changed = false;
        for slot in self.slots.values_mut() {
            let place = wanted.iter().find(|(address, _)| *address == slot.address);
            slot.adopted &= place.is_none() && is_open && !self.removed;
            let listed = place.is_some() || slot.adopted;
            changed |= slot.listed != listed;
            slot.listed = listed;
            slot.weight = place.map_or(slot.weight, |(_, weight)| *weight);
            if listed && (matches!(slot.state, State::Draining { .. }) || !is_probed) && slot.state != fresh {
                slot.state = fresh.clone();
                slot.detail = None;
                changed = true;
            }
        }
        for (address, weight) in wanted {
            if self.slots.len() >= ENDPOINTS_MAX {
                break;
            }
            if self.slots.values().any(|slot| slot.address == address) {
                continue;
            }
            let number = (0..).find(|number| !self.slots.contains_key(number));
            let number = number.expect("invariant: fewer endpoints than numbers");
            self.slots.insert(number, Outside::new(address, weight, fresh.clone()));
            changed = true;
        }
        changed | self.leave(now)
    }

    /// What is listed no more drains, as soon as something else serves.
    fn leave(&mut self, now: Instant) -> bool {
        let others = self.slots.values().any(|slot| slot.listed && slot.state == State::Ready);
        let mut changed = false;
        for slot in self.slots.values_mut().filter(|slot| !slot.listed) {
            let serves = !matches!(slot.state, State::Draining { .. });
            if serves && (self.removed || others || slot.state == State::Candidate) {
                slot.state = State::Draining { until: now + DRAIN_LISTED };
                changed = true;
            }
        }
        changed
    }

    /// The endpoint that stays admitted though none is ready: the one that was the longest.
    fn last_admitted(&self) -> Option<u32> {
        if self.is_ready() {
            return None;
        }
        let unready = self.slots.iter().filter_map(|(number, slot)| match slot.state {
            State::Unready { since } => Some((since, *number)),
            State::Candidate | State::Ready | State::Draining { .. } => None,
        });
        unready.max().map(|(_, number)| number)
    }

    pub(super) fn traffic(&self, name: &ServiceName) -> ServiceTraffic {
        let last = self.last_admitted();
        let endpoint = |(number, slot): (&u32, &Outside)| Endpoint {
            instance: instance_id(name, *number).to_string(),
            address: slot.address.clone(),
            state: match slot.state {
                State::Ready => EndpointState::Serving,
                State::Unready { .. } if last == Some(*number) => EndpointState::Serving,
                State::Unready { .. } | State::Candidate => EndpointState::Candidate,
                State::Draining { .. } => EndpointState::Draining,
            },
            weight: slot.weight,
            supervised: false,
        };
        let endpoints: Vec<Endpoint> = self.slots.iter().map(endpoint).collect();
        let stays = endpoints.iter().any(|endpoint| endpoint.state != EndpointState::Draining);
        let weight = if stays { WEIGHT_ALL } else { 0 };
        let release = ReleaseTraffic { release: RELEASE.to_owned(), weight, endpoints };
        ServiceTraffic {
            releases: vec![release],
            probe: self.settings.probe.as_ref().map(probe),
            ..settings(&self.settings.traffic)
        }
    }

    fn status(&self, name: &ServiceName, totals: Totals) -> ServiceStatus {
        let last = self.last_admitted();
        let instance = |(number, slot): (&u32, &Outside)| InstanceStatus {
            id: instance_id(name, *number).to_string(),
            pid: None,
            version: RELEASE.to_owned(),
            state: match slot.state {
                State::Candidate => "starting",
                State::Ready => "ready",
                State::Unready { .. } => "unready",
                State::Draining { .. } => "draining",
            },
            address: Some(slot.address.to_string()),
            restarts: 0,
            detail: match slot.state {
                State::Unready { .. } if last == Some(*number) => {
                    let why = slot.detail.as_deref().unwrap_or("not ready");
                    Some(format!("the last one, so it serves on: {why}"))
                }
                _ => slot.detail.clone(),
            },
            next_start_in_ms: None,
            ends_in_a_row: 0,
        };
        let listed = self.slots.values().filter(|slot| slot.listed).count();
        ServiceStatus {
            stable: Some(RELEASE.to_owned()),
            desired_instances: u32::try_from(listed).unwrap_or(u32::MAX),
            removed: self.removed,
            fronted: true,
            instances: self.slots.iter().map(instance).collect(),
            requests_total: totals.requests,
            errors_total: totals.errors,
            ..ServiceStatus::default()
        }
    }
}

impl Outside {
    fn new(address: Address, weight: u32, state: State) -> Self {
        Self {
            address,
            weight,
            state,
            listed: true,
            adopted: false,
            detail: None,
            last_served: None,
            drained: BTreeMap::new(),
        }
    }
}

/// Which endpoint that is.
fn instance_id(service: &ServiceName, number: u32) -> InstanceId {
    let version: Version = RELEASE.parse().expect("invariant: a version");
    InstanceId { service: service.clone(), release: ReleaseId::first(version), number }
}

fn probe(probe: &checked::Probe) -> ProbeSettings {
    ProbeSettings {
        http_path: probe.http_path.clone(),
        interval_ms: millis(probe.interval),
        timeout_ms: millis(probe.timeout),
        rise: probe.rise,
        fall: probe.fall,
    }
}

impl Controller {
    /// What the manifest says of such services holds for them; those that it has no more drain, then are forgotten.
    pub(super) fn note_fronted(&mut self) {
        let given = &self.base.manifest.fronted;
        for (name, front) in &mut self.fronted {
            front.removed = !given.contains_key(name);
        }
        for (name, settings) in given {
            match self.fronted.get_mut(name) {
                Some(front) => front.settings = settings.clone(),
                None => {
                    self.fronted.insert(name.clone(), Front::new(settings.clone()));
                }
            }
        }
    }

    /// Takes the endpoints of a former agent's last table as they are there, until it is known what is listed.
    pub(super) fn adopt_endpoints(&mut self, table: &RouteTable) {
        let now = self.now;
        for (name, front) in &mut self.fronted {
            let Some(traffic) = table.services.get(name.as_str()) else { continue };
            let known = traffic.releases.iter().filter(|release| release.release == RELEASE);
            for endpoint in known.flat_map(|release| &release.endpoints) {
                let Ok(id) = endpoint.instance.parse::<InstanceId>() else { continue };
                let state = match endpoint.state {
                    EndpointState::Candidate => State::Candidate,
                    EndpointState::Serving => State::Ready,
                    EndpointState::Draining => State::Draining { until: now + DRAIN_LISTED },
                };
                let is_draining = endpoint.state == EndpointState::Draining;
                let slot = Outside {
                    adopted: !is_draining,
                    listed: !is_draining,
                    last_served: Some(table.generation),
                    ..Outside::new(endpoint.address.clone(), endpoint.weight, state)
                };
                front.slots.entry(id.number).or_insert(slot);
            }
        }
    }

    /// Brings endpoints in line with the manifest and the names, and asks for the names.
    pub(super) fn drive_fronted(&mut self) -> bool {
        let now = self.now;
        let wanted: BTreeSet<String> = self.fronted.values().flat_map(Front::names).cloned().collect();
        self.ask_names(wanted);
        let mut changed = false;
        for front in self.fronted.values_mut() {
            changed |= front.refresh(&self.names, now);
            let tables = &self.tables;
            let before = front.slots.len();
            front.slots.retain(|_, slot| match slot.state {
                State::Draining { until } => {
                    until > now && !tables.is_drained_as_of(slot.last_served, &slot.drained)
                }
                State::Candidate | State::Ready | State::Unready { .. } => true,
            });
            changed |= front.slots.len() != before;
        }
        let gone: Vec<ServiceName> = self
            .fronted
            .iter()
            .filter(|(_, front)| front.removed && front.slots.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        for name in &gone {
            self.fronted.remove(name);
            self.append(Some(name), "manifest", format!("{name} is forgotten"), "agent");
            self.saving.wanted = true;
        }
        changed | !gone.is_empty()
    }

    /// When the first endpoint that drains is listed no more at the latest.
    pub(super) fn endpoints_due(&self) -> Option<Instant> {
        let slots = self.fronted.values().flat_map(|front| front.slots.values());
        let due = slots.filter_map(|slot| match slot.state {
            State::Draining { until } => Some(until),
            State::Candidate | State::Ready | State::Unready { .. } => None,
        });
        due.min()
    }

    pub(super) fn note_served_endpoints(&mut self, table: &RouteTable) {
        for (name, front) in &mut self.fronted {
            let Some(traffic) = table.services.get(name.as_str()) else { continue };
            let endpoints = traffic.releases.iter().flat_map(|release| &release.endpoints);
            let serving = endpoints.filter(|endpoint| endpoint.state == EndpointState::Serving);
            let serving: BTreeSet<&Address> = serving.map(|endpoint| &endpoint.address).collect();
            for slot in front.slots.values_mut().filter(|slot| serving.contains(&slot.address)) {
                slot.last_served = Some(table.generation);
            }
        }
    }

    fn outside(&mut self, id: &InstanceId) -> Option<&mut Outside> {
        self.fronted.get_mut(&id.service)?.slots.get_mut(&id.number)
    }

    /// A probe's outcome; whether that is an endpoint which is not ours.
    pub(super) fn handle_endpoint_probe(
        &mut self,
        id: &InstanceId,
        healthy: Option<bool>,
        detail: &str,
    ) -> bool {
        let now = self.now;
        let Some(slot) = self.outside(id) else { return false };
        let next = match (&slot.state, healthy) {
            (State::Draining { .. }, _) => return true,
            (_, Some(true)) => State::Ready,
            (State::Ready, Some(false)) => State::Unready { since: now },
            (state, _) => state.clone(),
        };
        slot.detail = (next != State::Ready).then(|| detail.to_owned());
        let before = std::mem::replace(&mut slot.state, next.clone());
        let address = slot.address.clone();
        let (severity, text) = match (before, next) {
            (State::Ready, State::Unready { .. }) => {
                (Severity::Warning, format!("{id} ({address}) is not ready any more: {detail}"))
            }
            (State::Candidate | State::Unready { .. }, State::Ready) => {
                (Severity::Info, format!("{id} ({address}) is ready"))
            }
            _ => return true,
        };
        self.announce(severity, Some((&id.service, None)), text.clone());
        self.append(Some(&id.service), "instance", text, "agent");
        true
    }

    /// In one proxy nothing is in flight on it; whether that is an endpoint which is not ours.
    pub(super) fn handle_endpoint_drained(&mut self, proxy: u64, id: &InstanceId, generation: u64) -> bool {
        let Some(slot) = self.outside(id) else { return false };
        convert::raise(&mut slot.drained, proxy, generation);
        true
    }

    pub(super) fn forget_proxy_of_endpoints(&mut self, proxy: u64) {
        for slot in self.fronted.values_mut().flat_map(|front| front.slots.values_mut()) {
            slot.drained.remove(&proxy);
        }
    }

    pub(super) fn fronted_statuses(&self) -> impl Iterator<Item = (String, ServiceStatus)> {
        self.fronted.iter().map(|(name, front)| (name.to_string(), front.status(name, self.totals(name))))
    }
}
