//! The controller: everything the agent decides, as one state machine over services, rollouts and tables.
//!
//! ```text
//!  event or request ──► facts change ──► settle:  reconcile ─► instances ─► rollouts ─► table ─┐
//!                                           ▲          until nothing changes any more          │
//!                                           └───────────────────────────────────────────────◄──┘
//!                                        ──► actions, in the order in which they must happen
//! ```
//! What should run and who gets the traffic follow from the record at any moment (`Service::wanted`,
//! `Rollout::share`), so a resumed agent needs no memory of what the former one was about to do. Order inside
//! one settle: the table, then requests to the fleet (a spawned instance is always in a table that was written
//! before), then the record; what must not happen before the record is durable waits for `handle_written`.
//!
//! It deliberately does no IO and reads no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use model::id::{InstanceId, ServiceName};
use model::manifest as checked;
use model::ports::PortPool;
use model::time::{Instant, WallTime};
use wire::link::StopLevel;
use wire::record::Record;
use wire::routes::RouteTable;

use crate::world::{
    ApplyRequest, Event, FleetRequest, HistoryEntry, Notice, PrepareRelease, Severity, StoreError,
};

mod apply;
mod begin;
mod changes;
mod convert;
mod counters;
mod depends;
mod fronted;
mod hooks;
mod instances;
mod listeners;
mod liveness;
mod names;
mod operating;
mod operations;
mod plan;
mod reconcile;
mod reload;
mod report;
mod requests;
mod resume;
mod rollouts;
mod saving;
mod services;
mod stop;
mod story;
mod tables;

pub use requests::Asked;
pub use resume::ResumeError;

use counters::Counted;
use fronted::Front;
use listeners::Listener;
use names::Names;
use saving::Saving;
use services::Service;
use stop::Stopping;
use story::Stories;
use tables::Tables;

/// Most events about instances that wait for the first inventory; of more, the oldest are lost.
const EARLY_MAX: usize = 10_000;
/// Rounds after which a settle gives up for now: each round moves something forward, so more is a bug.
const ROUNDS_MAX: usize = 100;

/// What the agent has to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Give this table to the proxies.
    Publish(Box<RouteTable>),
    /// Every proxy finishes within that time and exits.
    Drain(Duration),
    /// Every proxy sends its counters.
    ReportNow(u64),
    /// Ask the fleet.
    Fleet(FleetRequest),
    /// Make the record durable, then call `handle_written`.
    Write(Box<Record>),
    /// Add to history.
    Append(Box<HistoryEntry>),
    /// Copy a release.
    Prepare(Box<PrepareRelease>),
    /// Delete a release's directory.
    RemoveRelease {
        /// Whose.
        service: ServiceName,
        /// Its directory.
        directory: String,
    },
    /// Look these names up from now on, and no others.
    LookUp(BTreeSet<String>),
    /// Tell people.
    Announce(Box<Notice>),
}

/// Whether the holder can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// It has not said yet what runs.
    Unknown,
    /// It answers.
    Linked,
    /// Its link is down.
    Lost { since: Instant },
}

/// What of the record does not belong to one service.
#[derive(Debug)]
struct Base {
    manifest: checked::Manifest,
    wire: wire::manifest::Manifest,
    source: String,
    path: String,
    binary_origin: String,
    environment: Vec<(String, String)>,
}

/// The state machine.
#[derive(Debug)]
pub struct Controller {
    base: Base,
    services: BTreeMap<ServiceName, Service>,
    /// None of them has the name of one of `services`.
    fronted: BTreeMap<ServiceName, Front>,
    names: Names,
    ports: PortPool,
    tables: Tables,
    counted: Counted,
    listeners: BTreeMap<String, Listener>,
    stories: Stories,
    saving: Saving,
    link: Link,
    holder: Option<u32>,
    stopping: Option<Stopping>,
    /// A former agent was stopping everything.
    stop_resumed: Option<StopLevel>,
    next_rollout: u64,
    next_token: u64,
    /// Keys of the file given at the last `up` that could not be applied.
    differs: Vec<String>,
    /// The manifest of the last `up`, until it is known what runs.
    given_at_up: Option<Box<ApplyRequest>>,
    /// Directories of releases that the next durable record no longer speaks of.
    dropped: Vec<(ServiceName, String)>,
    /// Requests of this round, sent after its table.
    pending: Vec<FleetRequest>,
    /// About instances, heard before the inventory said that there are such.
    early: VecDeque<Event>,
    out: VecDeque<Action>,
    now: Instant,
    wall: WallTime,
}

impl Controller {
    fn at(&mut self, now: Instant, wall: WallTime) {
        self.now = now;
        self.wall = wall;
    }

    /// Something happened, and something else has happened already: the record waits for that.
    pub fn handle_event_of_many(&mut self, event: Event, now: Instant, wall: WallTime) {
        self.saving.more = true;
        self.handle_event(event, now, wall);
        self.saving.more = false;
    }

    /// Something happened.
    pub fn handle_event(&mut self, event: Event, now: Instant, wall: WallTime) {
        self.at(now, wall);
        match event {
            Event::Inventory(inventory) => self.handle_inventory(inventory),
            Event::HolderLost => self.handle_holder_lost(),
            Event::Bound { name, address } => self.handle_bound(&name, address),
            Event::BindFailed { name, error } => self.handle_bind_failed(&name, error),
            Event::ProxyUp { generation, pid } => self.handle_proxy_up(generation, pid),
            Event::ProxyGone { generation } => self.handle_proxy_gone(generation),
            Event::TableApplied { proxy, generation } => self.tables.handle_applied(proxy, generation),
            Event::Counters { proxy, counters } => self.handle_counters(proxy, &counters),
            Event::Certificate(news) => self.handle_certificate(&news),
            Event::ReleasePrepared { service, release, directory, hash } => {
                self.handle_prepared(&service, &release, &directory, hash);
            }
            Event::ReleaseRefused { service, release, error } => {
                self.handle_refused(&service, &release, &error)
            }
            Event::LookedUp { name, result } => self.handle_looked_up(&name, result),
            Event::StopAsked { level } => self.begin_stop(level),
            Event::Timeout => self.handle_timeout(),
            Event::Spawned { .. }
            | Event::SpawnFailed { .. }
            | Event::PortTaken { .. }
            | Event::Exited { .. }
            | Event::Notified { .. }
            | Event::MainPid { .. }
            | Event::LogMatched { .. }
            | Event::Checked { .. }
            | Event::TaskEnded { .. }
            | Event::ListensElsewhere { .. }
            | Event::Drained { .. }
            | Event::Probe { .. }
            | Event::Output { .. } => self.handle_about_instance(event),
        }
        self.settle();
    }

    /// A proxy that has a link before the holder has said what runs speaks of instances we do not know yet.
    fn handle_about_instance(&mut self, event: Event) {
        if self.link != Link::Unknown {
            self.handle_instance_event(event);
            return;
        }
        if self.early.len() == EARLY_MAX {
            self.early.pop_front();
        }
        self.early.push_back(event);
    }

    /// The record that `Action::Write` held is durable, or is not.
    pub fn handle_written(&mut self, result: Result<(), StoreError>, now: Instant, wall: WallTime) {
        self.at(now, wall);
        self.carry_out_stop();
        match result {
            Ok(()) => {
                if self.saving.handle_written() {
                    self.announce(Severity::Info, None, "the record can be written again".to_owned());
                }
                self.remove_dropped();
                for service in self.services.values_mut() {
                    service.durable.clone_from(&service.stable);
                    service.durable_desired = service.desired;
                    if let Some(operation) = &mut service.operation {
                        operation.handle_recorded();
                    }
                    if let Some(running) = &mut service.rollout {
                        running.machine.handle_recorded(now);
                    }
                }
            }
            Err(error) => {
                if self.saving.handle_failed(&error, now) {
                    let text = format!("{error}; rollouts wait, everything else goes on");
                    self.announce(Severity::Error, None, text);
                }
            }
        }
        self.settle();
    }

    fn handle_timeout(&mut self) {
        let now = self.now;
        if self.link == Link::Linked {
            for service in self.services.values_mut() {
                for slot in service.slots.values_mut() {
                    slot.machine.handle_timeout(now);
                }
            }
            self.bind_again();
        }
        if self.stopping.is_none() {
            for service in self.services.values_mut() {
                if let Some(running) = &mut service.rollout {
                    running.machine.handle_timeout(now);
                }
            }
        }
        self.close_receipts();
        let counting_down = self.services.values().any(|service| service.warm.is_some());
        self.saving.handle_timeout(counting_down, now);
    }

    /// When `Event::Timeout` wants to be handled.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mut at = vec![self.saving.poll_timeout(), self.receipts_due(), self.endpoints_due()];
        if self.link == Link::Linked {
            let slots = self.services.values().flat_map(|service| service.slots.values());
            at.extend(slots.map(|slot| slot.machine.poll_timeout()));
            at.push(self.bind_due());
        }
        match &self.stopping {
            Some(stopping) => at.push(stopping.poll_timeout()),
            None => {
                let rollouts = self.services.values().filter_map(|service| service.rollout.as_ref());
                at.extend(rollouts.map(|running| running.machine.poll_timeout()));
                at.push(self.reloads_due());
                at.push(self.operations_due());
                let now = self.now;
                at.extend(self.services.values().map(|service| tables::hold_due(service, now)));
            }
        }
        at.into_iter().flatten().min()
    }

    /// What has to be done next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.out.pop_front()
    }

    fn settle(&mut self) {
        if self.link != Link::Unknown {
            for _ in 0..ROUNDS_MAX {
                let mut changed = self.reconcile();
                changed |= self.drive_instances();
                changed |= self.drive_rollouts();
                changed |= self.drive_operations();
                changed |= self.forget_services();
                changed |= self.drive_fronted();
                changed |= self.publish();
                self.unbind_unused();
                self.flush();
                if !changed {
                    break;
                }
            }
            self.drive_stop();
        }
        self.save();
    }

    /// While the holder is away its requests wait.
    fn flush(&mut self) {
        if self.link == Link::Linked {
            self.out.extend(self.pending.drain(..).map(Action::Fleet));
        }
    }

    fn announce(&mut self, severity: Severity, about: Option<(&ServiceName, Option<u64>)>, text: String) {
        let notice = Notice {
            severity,
            service: about.map(|(service, _)| service.clone()),
            rollout: about.and_then(|(_, rollout)| rollout),
            release: about.and_then(|(service, rollout)| self.release_of(service, rollout?)),
            text,
        };
        self.out.push_back(Action::Announce(Box::new(notice)));
    }

    /// Where a rollout leads that runs or was the last to end.
    fn release_of(&self, service: &ServiceName, rollout: u64) -> Option<String> {
        let service = self.services.get(service)?;
        let running = service.rollout.as_ref().filter(|running| running.id == rollout);
        let last = service.last_rollout.as_ref().filter(|last| last.id == rollout);
        running.map(|running| running.machine.plan().to.to_string()).or_else(|| Some(last?.to.clone()))
    }

    fn append(&mut self, service: Option<&ServiceName>, subject: &'static str, text: String, actor: &str) {
        let entry = HistoryEntry {
            at: self.wall,
            service: service.cloned(),
            subject,
            text,
            actor: actor.to_owned(),
            rollout: None,
        };
        self.out.push_back(Action::Append(Box::new(entry)));
    }

    fn slot(&mut self, id: &InstanceId) -> Option<&mut services::Slot> {
        self.services.get_mut(&id.service)?.slots.get_mut(id)
    }

    fn names(&self) -> Vec<ServiceName> {
        self.services.keys().cloned().collect()
    }
}
