//! Stopping everything: proxies finish and exit, then instances stop, then the holder may go.
//!
//! ```text
//!  asked, recorded ──► proxies drain ──► instances stop ──► the record is written ──► stopped
//!                        │ a harder level, or the time is up │
//!                        └───────────────────────────────────┘
//! ```
//! Services that need others stop before these. What is wanted does not change: the next `up` starts again what ran.

use std::collections::BTreeSet;
use std::time::Duration;

use model::instance::Hardness;
use model::time::{Instant, WallTime};
use wire::link::StopLevel;

use super::fronted::DRAIN_LISTED;
use super::{Action, Controller};
use crate::world::{FleetRequest, Severity};

/// Beyond the longest drain timeout, for proxies to close their connections and exit.
const PROXY_MARGIN: Duration = Duration::from_secs(5);

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stopping {
    pub level: StopLevel,
    step: Step,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Its record is being written.
    Intended,
    Proxies {
        awaited: BTreeSet<u64>,
        until: Instant,
    },
    Instances(Hardness),
    Stopped,
}

impl Stopping {
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.step {
            Step::Proxies { until, .. } => Some(*until),
            Step::Intended | Step::Instances(_) | Step::Stopped => None,
        }
    }
}

impl Controller {
    /// Stops everything; asked again with a higher level, it goes on harder.
    pub fn stop_all(&mut self, level: StopLevel, now: Instant, wall: WallTime) {
        self.at(now, wall);
        self.begin_stop(level);
        self.settle();
    }

    /// Everything has ended.
    pub fn is_stopped(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stopping| stopping.step == Step::Stopped)
    }

    pub(super) fn begin_stop(&mut self, level: StopLevel) {
        if self.is_stopped() || self.stopping.as_ref().is_some_and(|stopping| stopping.level >= level) {
            return;
        }
        if self.stopping.is_none() {
            self.append(None, "handover", "stopping everything".to_owned(), "operator");
        }
        self.stopping = Some(Stopping { level, step: Step::Intended });
        self.write();
    }

    /// The intent is durable, or cannot be: it is carried out in either case.
    pub(super) fn carry_out_stop(&mut self) {
        let Some(stopping) = self.stopping.as_mut().filter(|stopping| stopping.step == Step::Intended) else {
            return;
        };
        let ours = self.services.values().map(|service| service.settings.stop.drain_timeout);
        // Services that are not started here have no such setting, and requests in flight all the same.
        let longest = ours.chain(self.fronted.values().map(|_| DRAIN_LISTED)).max();
        let (text, deadline) = match stopping.level {
            StopLevel::Drain => ("stopping: requests in flight finish first", longest.unwrap_or_default()),
            StopLevel::SkipDrain => ("stopping without waiting for requests", Duration::ZERO),
            StopLevel::Kill => ("killing everything", Duration::ZERO),
        };
        stopping.step = match stopping.level {
            StopLevel::Drain => {
                let awaited = self.tables.proxies.keys().copied().collect();
                Step::Proxies { awaited, until: self.now + deadline + PROXY_MARGIN }
            }
            StopLevel::SkipDrain => Step::Instances(Hardness::SkipDrain),
            StopLevel::Kill => Step::Instances(Hardness::Kill),
        };
        self.announce(Severity::Info, None, text.to_owned());
        self.tables.closing = true;
        self.out.push_back(Action::Drain(deadline));
    }

    /// For the record: also while an agent that took over does not know yet what there is to stop.
    pub(super) fn stop_level(&self) -> Option<StopLevel> {
        self.stopping.as_ref().map(|stopping| stopping.level).or(self.stop_resumed)
    }

    /// A proxy has a link while everything stops. It may be one that answers requests since before this agent,
    /// and all of them hear this: they have the time that is left. One that just starts has nothing to finish.
    pub(super) fn drain_late_proxy(&mut self) {
        let left = match self.stopping.as_ref().map(|stopping| &stopping.step) {
            // They will be told.
            None | Some(Step::Intended) => return,
            Some(Step::Proxies { until, .. }) => self.now.until(*until).saturating_sub(PROXY_MARGIN),
            Some(Step::Instances(_) | Step::Stopped) => Duration::ZERO,
        };
        self.out.push_back(Action::Drain(left));
    }

    /// What others need stops after them, unless everything is killed.
    fn stop_instances(&mut self, hardness: Hardness) {
        let now = self.now;
        for name in self.names() {
            if hardness < Hardness::Kill && self.waits_for_dependents(&name) {
                continue;
            }
            let slots =
                self.services.get_mut(&name).into_iter().flat_map(|service| service.slots.values_mut());
            for slot in slots {
                // Denied where it is being stopped as hard already.
                let _ = slot.machine.try_stop(hardness, now);
            }
        }
    }

    pub(super) fn drive_stop(&mut self) {
        let Some(stopping) = &mut self.stopping else { return };
        if let Step::Proxies { awaited, until } = &mut stopping.step {
            awaited.retain(|proxy| self.tables.proxies.contains_key(proxy));
            if awaited.is_empty() {
                stopping.step = Step::Instances(Hardness::Drain);
            } else if *until <= self.now {
                stopping.step = Step::Instances(Hardness::SkipDrain);
            }
        }
        let Step::Instances(hardness) = stopping.step else { return };
        loop {
            self.stop_instances(hardness);
            if !(self.drive_instances() | self.publish()) {
                break;
            }
        }
        self.flush();
        if self.services.values().all(|service| service.slots.is_empty()) {
            self.saving.wanted = true;
            // Whatever else has happened: nobody is there to write later.
            self.saving.more = false;
            self.save();
            self.pending.push(FleetRequest::Stopped);
            self.flush();
            if let Some(stopping) = &mut self.stopping {
                stopping.step = Step::Stopped;
            }
        }
    }
}
