//! What the proxies counted: totals of a service, and what one rollout cost.
//!
//! A proxy counts from its start and says all of it each time; what ended proxies had said is kept beside. A
//! rollout's receipt is the difference between two totals, with the first taken from answers asked for when it
//! began. Proxies that an agent finds when it takes over count from their first report.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use model::id::ServiceName;
use model::time::Instant;
use wire::record::Receipt;
use wire::traffic::Counters;

use super::{Action, Controller};

/// A receipt is closed that long after the decision even if a proxy has not answered.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);

/// Ended proxies that may come back; more than ever drain at a time.
const ENDED_MAX: usize = 16;

/// What was counted of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    pub requests: u64,
    pub errors: u64,
    pub retried: u64,
    pub failed: u64,
    /// Requests that waited because nothing could take them.
    pub held: u64,
}

impl Totals {
    fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            errors: self.errors.saturating_add(other.errors),
            retried: self.retried.saturating_add(other.retried),
            failed: self.failed.saturating_add(other.failed),
            held: self.held.saturating_add(other.held),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(other.requests),
            errors: self.errors.saturating_sub(other.errors),
            retried: self.retried.saturating_sub(other.retried),
            failed: self.failed.saturating_sub(other.failed),
            held: self.held.saturating_sub(other.held),
        }
    }
}

/// The last report of each proxy, by service.
#[derive(Debug, Default)]
pub(super) struct Counted {
    living: BTreeMap<u64, BTreeMap<String, Totals>>,
    /// Of those taken for ended: one that was only out of reach goes on counting from there.
    ended: BTreeMap<u64, BTreeMap<String, Totals>>,
}

/// The receipt of a rollout that is still being counted.
#[derive(Debug, Clone)]
pub(super) struct Counting {
    /// From before this agent took over.
    carried: Receipt,
    base: Totals,
    /// Proxies whose first report is where they begin.
    unheard: BTreeSet<u64>,
    /// Answers to this say where the rollout began.
    token: u64,
    decision: Option<Decision>,
}

#[derive(Debug, Clone)]
struct Decision {
    token: u64,
    missing: BTreeSet<u64>,
    until: Instant,
}

impl Counting {
    fn is_closed(&self, now: Instant) -> bool {
        self.decision.as_ref().is_some_and(|decision| decision.missing.is_empty() || decision.until <= now)
    }
}

impl Controller {
    pub(super) fn totals(&self, service: &ServiceName) -> Totals {
        let own = self.services.get(service).map(|service| service.before);
        let before = own.or_else(|| Some(self.fronted.get(service)?.before)).unwrap_or_default();
        let living = self.counted.living.values().filter_map(|by_service| by_service.get(service.as_str()));
        living.fold(before, |sum, totals| sum.plus(*totals))
    }

    /// Begins the receipt of a rollout, on top of what a former agent had counted of it.
    pub(super) fn begin_counting(&mut self, service: &ServiceName, carried: Receipt) -> Counting {
        let token = self.report_now();
        let unheard =
            self.tables.proxies.keys().filter(|proxy| !self.counted.living.contains_key(proxy)).copied();
        Counting { carried, base: self.totals(service), unheard: unheard.collect(), token, decision: None }
    }

    fn report_now(&mut self) -> u64 {
        self.next_token += 1;
        self.out.push_back(Action::ReportNow(self.next_token));
        self.next_token
    }

    /// What the rollout of `service` has cost so far.
    pub(super) fn receipt(&self, service: &ServiceName) -> Receipt {
        let Some(running) = self.services.get(service).and_then(|service| service.rollout.as_ref()) else {
            return Receipt::default();
        };
        let Some(counting) = &running.counting else { return running.receipt.clone() };
        let since = self.totals(service).minus(counting.base);
        Receipt {
            requests: counting.carried.requests + since.requests,
            errors: counting.carried.errors + since.errors,
            retried: counting.carried.retried + since.retried,
            failed: counting.carried.failed + since.failed,
            held: counting.carried.held + since.held,
            ..running.receipt.clone()
        }
    }

    /// The rollout is decided: its receipt is closed by the proxies' next answers.
    pub(super) fn decide_counting(&mut self, service: &ServiceName) {
        let token = self.report_now();
        let missing = self.tables.proxies.keys().copied().collect();
        let until = self.now + ANSWER_WITHIN;
        let running = self.services.get_mut(service).and_then(|service| service.rollout.as_mut());
        if let Some(counting) = running.and_then(|running| running.counting.as_mut()) {
            counting.decision = Some(Decision { token, missing, until });
        }
        self.close_receipts();
    }

    pub(super) fn handle_counters(&mut self, proxy: u64, counters: &Counters) {
        let Some(known) = self.tables.proxies.get_mut(&proxy) else { return };
        known.connections = counters.connections;
        let mut totals: BTreeMap<String, Totals> = BTreeMap::new();
        let mut waits: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for release in &counters.releases {
            let sum = totals.entry(release.service.clone()).or_default();
            *sum = sum.plus(Totals {
                requests: release.requests,
                errors: release.errors,
                retried: release.retried,
                failed: release.failed.saturating_add(release.lost_on_reuse),
                held: release.held,
            });
            let wait = waits.entry(&release.service).or_default();
            *wait = (wait.0.max(release.wait_us_max), wait.1.max(release.hold_us_max));
        }
        let former = self.counted.living.insert(proxy, totals).unwrap_or_default();
        let current = &self.counted.living[&proxy];
        for (name, service) in &mut self.services {
            let Some(running) = &mut service.rollout else { continue };
            let Some(counting) = &mut running.counting else { continue };
            let of = |by_service: &BTreeMap<String, Totals>| {
                by_service.get(name.as_str()).copied().unwrap_or_default()
            };
            if counting.unheard.remove(&proxy) || counters.token == Some(counting.token) {
                counting.base = counting.base.plus(of(current).minus(of(&former)));
            } else {
                let (wait, hold) = waits.get(name.as_str()).copied().unwrap_or_default();
                let receipt = &mut running.receipt;
                receipt.longest_wait_us = receipt.longest_wait_us.max(wait);
                receipt.longest_hold_us = receipt.longest_hold_us.max(hold);
            }
            if let Some(decision) = &mut counting.decision
                && counters.token.is_some_and(|token| token >= decision.token)
            {
                decision.missing.remove(&proxy);
            }
        }
        self.close_receipts();
    }

    /// A proxy has ended: what it said last stays.
    pub(super) fn fold_counters(&mut self, proxy: u64) {
        let last = self.counted.living.remove(&proxy).unwrap_or_default();
        for (name, service) in &mut self.services {
            if let Some(totals) = last.get(name.as_str()) {
                service.before = service.before.plus(*totals);
            }
            let counting = service.rollout.as_mut().and_then(|running| running.counting.as_mut());
            if let Some(decision) = counting.and_then(|counting| counting.decision.as_mut()) {
                decision.missing.remove(&proxy);
            }
        }
        for (name, front) in &mut self.fronted {
            front.before = front.before.plus(last.get(name.as_str()).copied().unwrap_or_default());
        }
        self.counted.ended.insert(proxy, last);
        if self.counted.ended.len() > ENDED_MAX {
            self.counted.ended.pop_first();
        }
        self.saving.wanted = true;
        self.close_receipts();
    }

    /// A proxy has a link. One that was taken for ended is back: what it says next is all of what it counted.
    pub(super) fn unfold_counters(&mut self, proxy: u64) {
        let Some(last) = self.counted.ended.remove(&proxy) else { return };
        for (name, service) in &mut self.services {
            if let Some(totals) = last.get(name.as_str()) {
                service.before = service.before.minus(*totals);
            }
        }
        for (name, front) in &mut self.fronted {
            front.before = front.before.minus(last.get(name.as_str()).copied().unwrap_or_default());
        }
        self.counted.living.insert(proxy, last);
        self.saving.wanted = true;
    }

    /// Closes the receipts for which every proxy has answered, or has had time to.
    pub(super) fn close_receipts(&mut self) {
        for name in self.names() {
            let receipt = self.receipt(&name);
            let now = self.now;
            let Some(running) = self.services.get_mut(&name).and_then(|service| service.rollout.as_mut())
            else {
                continue;
            };
            if running.counting.as_ref().is_some_and(|counting| counting.is_closed(now)) {
                running.receipt = receipt;
                running.counting = None;
                self.saving.wanted = true;
            }
        }
    }

    /// When the first receipt is closed at the latest.
    pub(super) fn receipts_due(&self) -> Option<Instant> {
        let rollouts = self.services.values().filter_map(|service| service.rollout.as_ref());
        rollouts.filter_map(|running| Some(running.counting.as_ref()?.decision.as_ref()?.until)).min()
    }
}
