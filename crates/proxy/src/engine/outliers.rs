//! Endpoints of one service that are out for what they answered, as this thread saw it.
//!
//! An outcome is counted where an attempt ends; only one that may be too much looks at the other endpoints. Success
//! rates are compared once in an interval, with the sweep. Each thread judges by its own traffic and ejects for itself:
//! with several threads an endpoint that fails always is out everywhere after that many errors on each of them.

use std::cell::Cell;

use model::balance::{Failing, OutlierRules, low_success_rates, may_eject};
use model::time::Instant;

use crate::engine::endpoint::Endpoint;
use crate::engine::release::Release;

/// When endpoints of a service are ejected.
#[derive(Debug)]
pub(crate) struct Outliers {
    rules: OutlierRules,
    /// When success rates were looked at.
    judged_at: Cell<Instant>,
}

impl Outliers {
    /// By these rules, from now on.
    pub(crate) fn new(rules: OutlierRules, now: Instant) -> Self {
        Self { rules, judged_at: Cell::new(now) }
    }

    /// The interval goes on.
    pub(crate) fn go_on_from(&self, former: &Self) {
        self.judged_at.set(former.judged_at.get());
    }

    /// An attempt on an endpoint of `release` ended.
    pub(crate) fn handle_outcome(
        &self,
        is_success: bool,
        release: &Release,
        endpoint: &Endpoint,
        now: Instant,
    ) {
        let mut record = endpoint.record.get();
        if is_success {
            record.handle_success();
            endpoint.record.set(record);
            return;
        }
        let failing = record.handle_failure(&self.rules, now);
        endpoint.record.set(record);
        if let Some(failing) = failing {
            self.eject(failing, release, endpoint, now);
        }
    }

    /// Compares success rates, when it is time to.
    pub(crate) fn sweep(&self, releases: &[Release], now: Instant) {
        if now.since(self.judged_at.get()) < self.rules.interval {
            return;
        }
        self.judged_at.set(now);
        for release in releases {
            let tally = |endpoint: &Endpoint| {
                let mut record = endpoint.record.get();
                let tally = record.end_interval(&self.rules, now);
                endpoint.record.set(record);
                tally
            };
            let tallies: Vec<_> = release.endpoints.iter().map(|endpoint| tally(endpoint)).collect();
            for (at, failing) in low_success_rates(&tallies, &self.rules) {
                self.eject(failing, release, &release.endpoints[at], now);
            }
        }
    }

    fn eject(&self, failing: Failing, release: &Release, endpoint: &Endpoint, now: Instant) {
        // As of now: some of them may be gone from a newer table.
        let serving = release.endpoints.iter().filter(|one| one.is_serving());
        let (count, out) =
            serving.fold((0, 0), |(count, out), one| (count + 1, out + usize::from(!one.is_open(now))));
        if !endpoint.is_open(now) || !may_eject(count, out, &self.rules) {
            return;
        }
        let seconds = endpoint.eject_for_answers(&self.rules, now).as_secs();
        tracing::warn!(instance = endpoint.instance, %failing, seconds, "an endpoint is ejected");
    }
}
