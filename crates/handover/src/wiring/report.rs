//! From the agent's values to the admin API's: the same facts in the words of a stable JSON.

use admin::api;
use agent::status;
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
    api::ServiceReport {
        stable: service.stable,
        warm: service.warm.map(|(version, left_ms)| api::WarmReport { version, left_ms }),
        rollout: service.rollout.map(rollout),
        last_rollout: service.last_rollout.map(rollout),
        instances: service.instances.into_iter().map(instance).collect(),
        requests_total: Some(service.requests_total),
        errors_total: Some(service.errors_total),
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
        longest_wait_us: receipt.longest_wait_us,
        switched_after_ms: receipt.switched_after_ms,
        rolled_back_after_ms: receipt.rolled_back_after_ms,
    }
}

/// What a follower of a rollout gets.
pub(super) fn progress(progress: status::Progress) -> api::Progress {
    let line = |line: status::ProgressLine| api::ProgressLine {
        sequence: line.sequence,
        at_ms: line.at_ms,
        text: line.text,
    };
    api::Progress {
        rollout: rollout(progress.rollout),
        lines: progress.lines.into_iter().map(line).collect(),
        decided: progress.decided,
        is_final: progress.is_final,
        agent: host::process::current_pid(),
    }
}
