//! How a service's requests are given to its releases and endpoints, as its table says: resolved once at a swap.
//!
//! What is counted or taken in turns goes on from one table to the next. Nothing here is shared between threads but the
//! gate, and that is there only where the table sets a maximum.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use model::balance::{OutlierRules, RetryBudget};
use wire::routes::{Algorithm, OutlierSettings, ServiceTraffic};

use crate::engine::outliers::Outliers;
use crate::engine::queue::Gate;
use crate::engine::release::Release;
use crate::engine::sticky::Stickiness;
use crate::engine::table::Surroundings;
use crate::engine::visitor::Asks;

/// How a service's requests are given out.
#[derive(Debug)]
pub(crate) struct Balance {
    /// How an endpoint is chosen.
    pub(crate) algorithm: Choice,
    /// How long an endpoint that began to serve gets less than its share.
    pub(crate) slow_start: Duration,
    /// With fewer endpoints than this admitted, in percent, ejections count for nothing.
    pub(crate) panic_percent: usize,
    /// What requests are asked about their senders.
    pub(crate) asks: Asks,
    /// What keeps visitors on a release, while there is a choice of releases.
    pub(crate) sticky: Option<Stickiness>,
    /// When endpoints are ejected for what they answer.
    pub(crate) outliers: Option<Outliers>,
    /// When requests are tried again.
    pub(crate) retry: Retry,
    /// Where requests wait for slots, if endpoints have a maximum.
    pub(crate) gate: Option<Waiting>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The less loaded of two.
    LeastRequests,
    /// In turns.
    RoundRobin,
    /// By a key, where there is one.
    Hash,
}

/// When requests are tried again.
#[derive(Debug)]
pub(crate) struct Retry {
    /// Most attempts for one request.
    pub(crate) attempts: u32,
    /// Answers that are tried again too.
    pub(crate) statuses: Vec<u16>,
    /// Any request may be sent twice.
    pub(crate) non_idempotent: bool,
    /// What is left for it.
    pub(crate) budget: RefCell<RetryBudget>,
    percent: u32,
}

/// Where requests wait for slots, and for how long.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Shared with the other threads.
    pub(crate) gate: Arc<Gate>,
    /// Longest wait.
    pub(crate) timeout: Duration,
}

impl Balance {
    /// As the table says of the service `name`, whose `releases` get requests.
    pub(crate) fn new(
        name: &str,
        service: &ServiceTraffic,
        releases: &[Release],
        around: &Surroundings<'_>,
    ) -> Self {
        let settings = &service.balance;
        let sticky = Stickiness::new(name, service, releases);
        let gate = (settings.requests_max > 0).then(|| {
            let gate = around.gates.of(name);
            let queue_max = usize::try_from(settings.queue_max).unwrap_or(usize::MAX);
            gate.set_limits(around.generation, settings.requests_max, queue_max);
            Waiting { gate, timeout: Duration::from_millis(settings.queue_timeout_ms) }
        });
        Self {
            algorithm: match settings.algorithm {
                Algorithm::LeastRequests => Choice::LeastRequests,
                Algorithm::RoundRobin => Choice::RoundRobin,
                Algorithm::Hash(_) => Choice::Hash,
            },
            slow_start: Duration::from_millis(settings.slow_start_ms),
            panic_percent: usize::try_from(settings.panic_percent.min(100)).unwrap_or(100),
            asks: Asks::new(&settings.algorithm, service.sticky.as_ref().filter(|_| sticky.is_some())),
            sticky,
            outliers: service.outlier.as_ref().map(|settings| Outliers::new(rules(settings), around.now)),
            retry: Retry {
                attempts: service.retry.attempts.max(1),
                statuses: service.retry.statuses.clone(),
                non_idempotent: service.retry.non_idempotent,
                budget: RefCell::new(RetryBudget::new(service.retry.budget_percent, around.now)),
                percent: service.retry.budget_percent,
            },
            gate,
        }
    }

    /// What was counted under the table before goes on.
    pub(crate) fn go_on_from(&self, former: &Self) {
        let budget = former.retry.budget.borrow().clone();
        self.retry.budget.replace(budget.with_percent(self.retry.percent));
        if let (Some(now), Some(before)) = (&self.outliers, &former.outliers) {
            now.go_on_from(before);
        }
    }
}

fn rules(settings: &OutlierSettings) -> OutlierRules {
    OutlierRules {
        consecutive_errors: settings.consecutive_errors,
        interval: Duration::from_millis(settings.interval_ms),
        base_ejection: Duration::from_millis(settings.base_ejection_ms),
        max_ejection: Duration::from_millis(settings.max_ejection_ms),
        max_ejected_percent: settings.max_ejected_percent,
        stdev_milli: settings.success_rate_stdev_milli,
        requests_min: settings.success_rate_requests,
        endpoints_min: settings.success_rate_endpoints,
    }
}
