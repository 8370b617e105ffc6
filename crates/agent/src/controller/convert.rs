//! Between the model's words and those of wire.

use std::time::Duration;

use model::instance::{Ended, Past, Rest, Said};
use model::rollout::{Kind, Phase, Strategy};
use model::time::{Instant, WallTime};
use wire::link::ExitStatus;
use wire::record;

use crate::world::Notified;

/// Notes the newest table as of which a proxy has nothing in flight on an endpoint.
pub(super) fn raise(drained: &mut std::collections::BTreeMap<u64, u64>, proxy: u64, generation: u64) {
    let known = drained.entry(proxy).or_insert(generation);
    *known = generation.max(*known);
}

pub(super) fn said(said: &Notified) -> Said {
    Said {
        ready: said.ready,
        stopping: said.stopping,
        watchdog: said.watchdog,
        extend_timeout: said.extend_timeout,
        main_pid: said.main_pid,
    }
}

pub(super) fn past(record: &record::SlotRecord, now: Instant, wall: WallTime) -> Past {
    let until = |at: u64| now + Duration::from_millis(at.saturating_sub(wall.0));
    let rest = record.ended.clone().map(|why| Rest { until: record.starts_at_ms.map(until), why });
    Past { restarts: record.restarts, ends_in_a_row: record.ends_in_a_row, rest }
}

pub(super) fn ended(status: ExitStatus) -> Ended {
    match status {
        ExitStatus::Code(code) => Ended::Code(code),
        ExitStatus::Signal(number) => Ended::Signal(number),
        ExitStatus::OutOfMemory => Ended::OutOfMemory,
        ExitStatus::Unknown => Ended::Unknown,
    }
}

pub(super) fn kind_to_wire(kind: Kind) -> record::RolloutKind {
    match kind {
        Kind::First => record::RolloutKind::First,
        Kind::Deploy => record::RolloutKind::Deploy,
        Kind::Rollback => record::RolloutKind::Rollback,
    }
}

pub(super) fn kind_from_wire(kind: record::RolloutKind) -> Kind {
    match kind {
        record::RolloutKind::First => Kind::First,
        record::RolloutKind::Deploy => Kind::Deploy,
        record::RolloutKind::Rollback => Kind::Rollback,
    }
}

pub(super) fn strategy_to_wire(strategy: Strategy) -> Option<record::RolloutStrategy> {
    match strategy {
        Strategy::BlueGreen => None,
        Strategy::Rolling { max_surge, max_unavailable } => {
            Some(record::RolloutStrategy::Rolling { max_surge, max_unavailable })
        }
        Strategy::Recreate => Some(record::RolloutStrategy::Recreate),
    }
}

pub(super) fn strategy_from_wire(strategy: Option<record::RolloutStrategy>) -> Strategy {
    match strategy {
        None => Strategy::BlueGreen,
        Some(record::RolloutStrategy::Rolling { max_surge, max_unavailable }) => {
            Strategy::Rolling { max_surge, max_unavailable }
        }
        Some(record::RolloutStrategy::Recreate) => Strategy::Recreate,
    }
}

/// As people read it.
pub(super) fn operation_name(kind: record::OperationKind) -> &'static str {
    match kind {
        record::OperationKind::Restart => "restart",
        record::OperationKind::Reload => "reload",
        record::OperationKind::Stop => "stop",
        record::OperationKind::Start => "start",
        record::OperationKind::Scale => "scale",
    }
}

pub(super) fn phase_to_wire(phase: Phase) -> record::Phase {
    match phase {
        Phase::Preparing => record::Phase::Preparing,
        Phase::Starting => record::Phase::Starting,
        Phase::Shifting => record::Phase::Shifting,
        Phase::Promoting => record::Phase::Promoting,
        Phase::Draining => record::Phase::Draining,
        Phase::Baking => record::Phase::Baking,
        Phase::Done => record::Phase::Done,
        Phase::RollingBack => record::Phase::RollingBack,
        Phase::RolledBack => record::Phase::RolledBack,
        Phase::Failed => record::Phase::Failed,
    }
}

/// `Paused` is of a later version that holds between steps: this one goes on shifting.
pub(super) fn phase_from_wire(phase: record::Phase) -> Phase {
    match phase {
        record::Phase::Preparing => Phase::Preparing,
        record::Phase::Starting => Phase::Starting,
        record::Phase::Shifting | record::Phase::Paused => Phase::Shifting,
        record::Phase::Promoting => Phase::Promoting,
        record::Phase::Draining => Phase::Draining,
        record::Phase::Baking => Phase::Baking,
        record::Phase::Done => Phase::Done,
        record::Phase::RollingBack => Phase::RollingBack,
        record::Phase::RolledBack => Phase::RolledBack,
        record::Phase::Failed => Phase::Failed,
    }
}
