//! Answers operators from the control plane: their words in, its decisions out.

use std::path::PathBuf;

use admin::api::{
    Accepted, ApplyPlan, ApplyReport, DeployBody, DeployPlan, DownAccepted, DownBody, DownLevel,
    ManifestReport, Operate, OperateBody, OperationAccepted, RollbackBody,
};
use admin::{Refused, RefusedKind};
use agent::Denied;
use agent::world::{ApplyRequest, DeployRequest};
use wire::link::StopLevel;

use super::agent::Running;
use super::beside::Beside;
use super::operations::{Given, Question};
use super::report;

/// Who asks, where a client did not say.
const ACTOR_UNKNOWN: &str = "unknown";

/// Answers at once. Who asked may be gone by now; what was asked for is done all the same.
pub(super) fn answer(agent: &mut Running, beside: &Beside, question: Question) {
    match question {
        Question::Status(reply) => {
            let _ = reply.send(Ok(beside.complete(report::status(agent.status()))));
        }
        Question::Traffic(reply) => {
            let _ = reply.send(Ok(beside.traffic()));
        }
        Question::Deploy { service, source, body, reply } => {
            let _ = reply.send(deploy(agent, &service, source, body));
        }
        Question::Rollback { service, body, reply } => {
            let _ = reply.send(rollback(agent, &service, &body));
        }
        Question::Progress { service, rollout, after, reply } => {
            let found = agent.progress(&service, rollout, after).map(report::progress);
            let none = || Refused::new(RefusedKind::NotFound, format!("{service} has no rollout {rollout}"));
            let _ = reply.send(found.ok_or_else(none));
        }
        Question::PlanDeploy { service, source, body, reply } => {
            let _ = reply.send(plan_deploy(agent, &service, source, body));
        }
        Question::Operate { service, what, body, reply } => {
            let _ = reply.send(operate(agent, &service, what, &body));
        }
        Question::Operation { id, after, reply } => {
            let found = agent.operation_progress(id, after).map(report::operation);
            let none = || {
                Refused::new(RefusedKind::NotFound, format!("there is no operation {id} any more"))
                    .with_hint("see what runs: `handover status`")
            };
            let _ = reply.send(found.ok_or_else(none));
        }
        Question::Plan { manifest, reply } => {
            let request = apply_request(agent, *manifest);
            let planned = agent.plan_apply(&request).map_err(|denied| refused(&denied));
            let changes = |changes: Vec<_>| changes.into_iter().map(report::change).collect();
            let _ = reply.send(planned.map(|found| ApplyPlan { changes: changes(found) }));
        }
        Question::Apply { manifest, reply } => {
            let _ = reply.send(apply(agent, *manifest));
        }
        Question::Manifest(reply) => {
            let _ = reply.send(Ok(ManifestReport { path: agent.record().path }));
        }
        Question::Down { body, reply } => {
            let _ = reply.send(Ok(down(agent, &body)));
        }
    }
}

fn actor(given: Option<&String>) -> String {
    given.cloned().unwrap_or_else(|| ACTOR_UNKNOWN.to_owned())
}

fn deploy(
    agent: &mut Running,
    service: &str,
    source: PathBuf,
    body: DeployBody,
) -> Result<Accepted, Refused> {
    let request = deploy_request(service, source, body)?;
    agent.try_deploy(&request).map(accepted).map_err(|denied| refused(&denied))
}

fn plan_deploy(
    agent: &Running,
    service: &str,
    source: PathBuf,
    body: DeployBody,
) -> Result<DeployPlan, Refused> {
    let version = body.version.clone();
    let request = deploy_request(service, source, body)?;
    let steps = agent.plan_deploy(&request).map_err(|denied| refused(&denied))?;
    Ok(DeployPlan { version, steps })
}

fn deploy_request(service: &str, source: PathBuf, body: DeployBody) -> Result<DeployRequest, Refused> {
    let invalid = |error: model::id::IdError| Refused::new(RefusedKind::Invalid, error.to_string());
    let version = body.version.map(|version| version.parse()).transpose().map_err(invalid)?;
    let no_such = |error: model::id::IdError| Refused::new(RefusedKind::NotFound, error.to_string());
    Ok(DeployRequest {
        service: service.parse().map_err(no_such)?,
        source,
        version,
        replace: body.replace,
        force: body.force,
        actor: actor(body.actor.as_ref()),
        operation: body.operation,
    })
}

fn operate(
    agent: &mut Running,
    service: &str,
    what: Operate,
    body: &OperateBody,
) -> Result<OperationAccepted, Refused> {
    let (actor, key) = (actor(body.actor.as_ref()), body.operation.as_deref());
    let accepted = match what {
        Operate::Restart => agent.try_restart(service, &actor, key),
        Operate::Reload => agent.try_reload(service, &actor, key),
        Operate::Stop => agent.try_stop_service(service, &actor, key),
        Operate::Start => agent.try_start(service, &actor, key),
        Operate::Scale(instances) => agent.try_scale(service, instances, &actor, key),
    };
    accepted
        .map(|accepted| OperationAccepted {
            operation: accepted.id,
            already: accepted.already,
            warning: accepted.warning,
        })
        .map_err(|denied| refused(&denied))
}

fn apply(agent: &mut Running, given: Given) -> Result<ApplyReport, Refused> {
    let request = apply_request(agent, given);
    agent.try_apply(&request).map(report::applied).map_err(|denied| refused(&denied))
}

fn apply_request(agent: &Running, given: Given) -> ApplyRequest {
    let Given { manifest, body } = given;
    ApplyRequest {
        manifest,
        source: body.source,
        path: body.path,
        environment: body.environment.unwrap_or_else(|| agent.record().environment),
        actor: actor(body.actor.as_ref()),
        operation: body.operation,
    }
}

fn rollback(agent: &mut Running, service: &str, body: &RollbackBody) -> Result<Accepted, Refused> {
    let actor = actor(body.actor.as_ref());
    agent
        .try_rollback(service, &actor, body.operation.as_deref())
        .map(accepted)
        .map_err(|denied| refused(&denied))
}

fn down(agent: &mut Running, body: &DownBody) -> DownAccepted {
    tracing::info!(actor = actor(body.actor.as_ref()), level = ?body.level, "everything is to be stopped");
    agent.stop_all(match body.level {
        DownLevel::Drain => StopLevel::Drain,
        DownLevel::SkipDrain => StopLevel::SkipDrain,
        DownLevel::Kill => StopLevel::Kill,
    });
    let services = agent.record().manifest.services;
    let longest = services.values().map(|service| match body.level {
        DownLevel::Drain => service.stop.drain_timeout_ms.saturating_add(service.stop.grace_period_ms),
        DownLevel::SkipDrain => service.stop.grace_period_ms,
        DownLevel::Kill => 0,
    });
    DownAccepted { holder: agent.status().holder, longest_ms: longest.max() }
}

fn accepted(accepted: agent::Accepted) -> Accepted {
    Accepted {
        rollout: Some(accepted.rollout),
        already_stable: false,
        version: Some(accepted.release),
        warning: accepted.warning,
    }
}

fn refused(denied: &Denied) -> Refused {
    let kind = match denied {
        Denied::UnknownService { .. } => RefusedKind::NotFound,
        Denied::RolloutRuns { .. }
        | Denied::FailedBefore { .. }
        | Denied::NoWayBack { .. }
        | Denied::CannotReplace { .. }
        | Denied::OperationRuns { .. }
        | Denied::Stopped { .. }
        | Denied::NothingStable { .. }
        | Denied::Unchangeable { .. }
        | Denied::Unwritable { .. } => RefusedKind::Conflict,
        Denied::Fronted { .. }
        | Denied::NoVersion { .. }
        | Denied::NoReload { .. }
        | Denied::ScaleToNothing { .. }
        | Denied::ScaleOfOne { .. }
        | Denied::Manifest { .. } => RefusedKind::Invalid,
        Denied::Stopping | Denied::Starting => RefusedKind::Unavailable,
    };
    let refused = Refused::new(kind, denied.to_string());
    match denied.hint() {
        Some(hint) => refused.with_hint(hint),
        None => refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_says_what_to_do_and_who_may_ask_again() {
        let runs = Denied::RolloutRuns {
            service: "shop".parse().unwrap(),
            version: "1.5.0".into(),
            phase: "starting",
            actor: "ada".into(),
        };
        let said = refused(&runs);
        assert_eq!(said.kind, RefusedKind::Conflict);
        assert!(said.message.contains("1.5.0") && said.message.contains("ada"));
        assert!(said.hint.unwrap().contains("--replace"));
        assert_eq!(refused(&Denied::Starting).kind, RefusedKind::Unavailable);
        let unknown =
            Denied::UnknownService { name: "shp".into(), nearest: Some("shop".into()), known: vec![] };
        assert_eq!(refused(&unknown).kind, RefusedKind::NotFound);
    }
}
