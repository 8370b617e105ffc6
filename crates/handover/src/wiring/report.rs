//! From the agent's values to the admin API's: the same facts in the words of a stable JSON.

use admin::api;
use agent::status;
use agent::world::{Applied, Change, Effect};
use model::manifest::{Mode, Strategy};
use wire::record;

/// The whole status.
pub(super) fn status(status: status::Status) -> api::StatusReport {
    let draining = |(pid, generation, connections)| api::DrainingProxy { pid, generation, connections };
    let proxy = status.proxy.map(|(pid, generation)| api::ProxyProcess {
        pid,
        generation,
        draining: status.draining_proxies.into_iter().map(draining).collect(),
    });
    let listener = |listener: status::ListenerStatus| api::ListenerReport {
        address: listener.address,
        error: listener.error,
    };
    api::StatusReport {
        processes: api::Processes {
            holder: status.holder.map(|pid| api::HolderProcess { pid }),
            proxy,
            agent: api::AgentProcess { pid: host::process::current_pid() },
        },
        listeners: status.listeners.into_iter().map(|(name, l)| (name, listener(l))).collect(),
        services: status.services.into_iter().map(|(name, s)| (name, service(s))).collect(),
        stopping: status.stopping,
        warnings: status.warnings,
        ..api::StatusReport::default()
    }
}

fn service(service: status::ServiceStatus) -> api::ServiceReport {
    // What a worker does is not seen.
    let is_worker = service.mode == Some(Mode::Worker);
    api::ServiceReport {
        stable: service.stable,
        warm: service.warm.map(|(version, left_ms)| api::WarmReport { version, left_ms }),
        rollout: service.rollout.map(rollout),
        last_rollout: service.last_rollout.map(rollout),
        instances: service.instances.into_iter().map(instance).collect(),
        requests_total: Some(service.requests_total).filter(|_| !is_worker),
        errors_total: Some(service.errors_total).filter(|_| !is_worker),
        in_flight: None,
        instances_wanted: Some(service.desired_instances),
        stopped: service.stopped,
        removed: service.removed,
        strategy: service.strategy.map(|strategy| strategy_word(strategy).to_owned()),
        mode: if service.fronted {
            Some("endpoints".to_owned())
        } else {
            service.mode.map(|mode| mode_word(mode).to_owned())
        },
        operation: service.operation.map(operation_report),
        waiting_on: service.waiting_on,
    }
}

fn strategy_word(strategy: Strategy) -> &'static str {
    match strategy {
        Strategy::BlueGreen => "blue-green",
        Strategy::Rolling => "rolling",
        Strategy::Recreate => "recreate",
    }
}

fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Proxied => "proxied",
        Mode::Worker => "worker",
    }
}

fn operation_report(operation: status::OperationStatus) -> api::OperationReport {
    api::OperationReport {
        id: operation.id,
        kind: operation_kind(operation.kind),
        actor: operation.actor,
        waiting_on: operation.waiting_on,
    }
}

fn operation_kind(kind: record::OperationKind) -> api::OperationKind {
    match kind {
        record::OperationKind::Restart => api::OperationKind::Restart,
        record::OperationKind::Reload => api::OperationKind::Reload,
        record::OperationKind::Stop => api::OperationKind::Stop,
        record::OperationKind::Start => api::OperationKind::Start,
        record::OperationKind::Scale => api::OperationKind::Scale,
    }
}

/// An entry of the history.
pub(super) fn event((sequence, entry): (u64, wire::history::Entry)) -> api::EventReport {
    let ended = |record: record::RolloutRecord| {
        let receipt = record.receipt.clone();
        let weight_percent = 0;
        rollout(status::RolloutStatus { record, step: None, weight_percent, waiting_on: None, receipt })
    };
    api::EventReport {
        sequence,
        at_ms: entry.at_ms,
        service: entry.service,
        subject: entry.subject,
        text: entry.text,
        actor: entry.actor,
        outcome: None,
        rollout: entry.rollout.map(ended),
    }
}

/// What a follower of an operation gets.
pub(super) fn operation(progress: status::OperationProgress) -> api::OperationProgress {
    api::OperationProgress {
        id: progress.id,
        service: progress.service,
        kind: operation_kind(progress.kind),
        lines: progress.lines.into_iter().map(line).collect(),
        waiting_on: progress.waiting_on,
        is_final: progress.outcome.is_some(),
        error: progress.outcome.and_then(Result::err),
        agent: host::process::current_pid(),
    }
}

/// One key of a manifest that differs.
pub(super) fn change(change: Change) -> api::ChangeReport {
    let mut report =
        api::ChangeReport { key: change.key, service: change.service, ..api::ChangeReport::default() };
    report.effect = match change.effect {
        Effect::Live => api::Effect::Live,
        Effect::Rollout { release, gap } => {
            (report.release, report.gap) = (Some(release), gap);
            api::Effect::Rollout
        }
        Effect::Added => api::Effect::Added,
        Effect::Removed => api::Effect::Removed,
        Effect::Rebound => api::Effect::Rebound,
        Effect::NextStart(note) => {
            report.note = Some(note);
            api::Effect::NextStart
        }
        Effect::Refused(note) => {
            report.note = Some(note);
            api::Effect::Refused
        }
    };
    report
}

/// What came of a manifest.
pub(super) fn applied(applied: Applied) -> api::ApplyReport {
    let begun =
        |(service, id): (model::id::ServiceName, u64)| api::Begun { service: service.to_string(), id };
    api::ApplyReport {
        changes: applied.changes.into_iter().map(change).collect(),
        rollouts: applied.rollouts.into_iter().map(begun).collect(),
        operations: applied.operations.into_iter().map(begun).collect(),
    }
}

fn instance(instance: status::InstanceStatus) -> api::InstanceReport {
    api::InstanceReport {
        id: instance.id,
        pid: instance.pid,
        version: instance.version,
        state: instance.state.to_owned(),
        address: instance.address,
        restarts: instance.restarts,
        detail: instance.detail,
        next_start_in_ms: instance.next_start_in_ms,
        ends_in_a_row: instance.ends_in_a_row,
        ..api::InstanceReport::default()
    }
}

fn rollout(rollout: status::RolloutStatus) -> api::RolloutReport {
    let record = rollout.record;
    api::RolloutReport {
        id: record.id,
        kind: match record.kind {
            record::RolloutKind::First => api::RolloutKind::First,
            record::RolloutKind::Deploy => api::RolloutKind::Deploy,
            record::RolloutKind::Rollback => api::RolloutKind::Rollback,
        },
        version: record.to,
        from: record.from,
        phase: phase(record.phase),
        step: rollout.step,
        weight_percent: rollout.weight_percent,
        verdict: None,
        waiting_on: rollout.waiting_on,
        actor: record.actor,
        reason: record.reason,
        output: record.output,
        started_at_ms: record.started_at_ms,
        decided_at_ms: record.decided_at_ms,
        receipt: receipt(&rollout.receipt),
    }
}

fn phase(phase: record::Phase) -> api::Phase {
    match phase {
        record::Phase::Preparing => api::Phase::Preparing,
        record::Phase::Starting => api::Phase::Starting,
        record::Phase::Shifting => api::Phase::Shifting,
        record::Phase::Paused => api::Phase::Paused,
        record::Phase::Promoting => api::Phase::Promoting,
        record::Phase::Draining => api::Phase::Draining,
        record::Phase::Baking => api::Phase::Baking,
        record::Phase::Done => api::Phase::Done,
        record::Phase::RollingBack => api::Phase::RollingBack,
        record::Phase::RolledBack => api::Phase::RolledBack,
        record::Phase::Failed => api::Phase::Failed,
    }
}

fn receipt(receipt: &record::Receipt) -> api::Receipt {
    api::Receipt {
        requests: receipt.requests,
        errors: receipt.errors,
        retried: receipt.retried,
        failed: receipt.failed,
        held: receipt.held,
        longest_hold_us: receipt.longest_hold_us,
        longest_wait_us: receipt.longest_wait_us,
        switched_after_ms: receipt.switched_after_ms,
        rolled_back_after_ms: receipt.rolled_back_after_ms,
    }
}

/// What a follower of a rollout gets.
pub(super) fn progress(progress: status::Progress) -> api::Progress {
    api::Progress {
        rollout: rollout(progress.rollout),
        lines: progress.lines.into_iter().map(line).collect(),
        decided: progress.decided,
        is_final: progress.is_final,
        agent: host::process::current_pid(),
    }
}

fn line(line: status::ProgressLine) -> api::ProgressLine {
    api::ProgressLine { sequence: line.sequence, at_ms: line.at_ms, text: line.text }
}
