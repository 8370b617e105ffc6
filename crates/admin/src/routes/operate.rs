//! Paths that change something beside rollouts, and the plans of what would be changed.

use std::path::Path as FilePath;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use tokio::time::Instant;

use super::read::{Json, Labels, MANIFEST_BODY_BYTES_MAX};
use super::{DEPLOY_TIMEOUT, Follow, PROGRESS_INTERVAL, accepted, in_time, in_time_of, not_found};
use crate::access::Rights;
use crate::api::{DeployBody, ManifestBody, Operate, OperateBody, OperationProgress, ScaleBody};
use crate::operations::{Refused, RefusedKind};
use crate::reply;
use crate::server::Server;

/// A body with a manifest.
type ManifestJson = Json<ManifestBody, MANIFEST_BODY_BYTES_MAX>;
/// A path's service.
type Service = Result<Path<String>, PathRejection>;

pub(super) async fn restart(
    State(server): State<Server>,
    path: Service,
    Json(body): Json<OperateBody>,
) -> Response {
    operate(server, path, Operate::Restart, body).await
}

pub(super) async fn reload(
    State(server): State<Server>,
    path: Service,
    Json(body): Json<OperateBody>,
) -> Response {
    operate(server, path, Operate::Reload, body).await
}

pub(super) async fn stop(
    State(server): State<Server>,
    path: Service,
    Json(body): Json<OperateBody>,
) -> Response {
    operate(server, path, Operate::Stop, body).await
}

pub(super) async fn start(
    State(server): State<Server>,
    path: Service,
    Json(body): Json<OperateBody>,
) -> Response {
    operate(server, path, Operate::Start, body).await
}

pub(super) async fn scale(
    State(server): State<Server>,
    path: Service,
    Json(body): Json<ScaleBody>,
) -> Response {
    let rest = OperateBody { actor: body.actor, operation: body.operation };
    operate(server, path, Operate::Scale(body.instances), rest).await
}

/// The agent records the client's key with the operation: it is answered from there when it comes again.
async fn operate(server: Server, path: Service, what: Operate, body: OperateBody) -> Response {
    let Ok(Path(service)) = path else { return not_found().await };
    let labels = match Labels::read(body.actor, body.operation) {
        Ok(labels) => labels,
        Err(refused) => return reply::refused(refused),
    };
    let body = OperateBody { actor: Some(labels.actor), operation: labels.key };
    let work = async move { server.operations.operate(&service, what, body).await };
    accepted(in_time(super::detached(work))).await
}

pub(super) async fn progress(
    State(server): State<Server>,
    path: Result<Path<u64>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Response {
    let Ok(Path(id)) = path else { return not_found().await };
    let follow = match Follow::parse(query.as_deref().unwrap_or_default()) {
        Ok(follow) => follow,
        Err(refused) => return reply::refused(refused),
    };
    match wait_for_news(&server, id, follow.after, follow.wait).await {
        Ok(mut progress) => {
            progress.agent = std::process::id();
            reply::json(StatusCode::OK, &progress)
        }
        Err(refused) => reply::refused(refused),
    }
}

async fn wait_for_news(
    server: &Server,
    id: u64,
    after: u64,
    wait: Duration,
) -> Result<OperationProgress, Refused> {
    let deadline = Instant::now() + wait;
    loop {
        let progress = in_time(server.operations.operation(id, after)).await?;
        let now = Instant::now();
        if !progress.lines.is_empty() || progress.is_final || now >= deadline {
            return Ok(progress);
        }
        tokio::time::sleep_until(deadline.min(now + PROGRESS_INTERVAL)).await;
    }
}

pub(super) async fn plan(
    State(server): State<Server>,
    Extension(rights): Extension<Rights>,
    Json(body): ManifestJson,
) -> Response {
    if rights != Rights::Local {
        return local_only("a manifest");
    }
    match in_time(server.operations.plan(body)).await {
        Ok(plan) => reply::json(StatusCode::OK, &plan),
        Err(refused) => reply::refused(refused),
    }
}

pub(super) async fn apply(
    State(server): State<Server>,
    Extension(rights): Extension<Rights>,
    Json(mut body): ManifestJson,
) -> Response {
    if rights != Rights::Local {
        return local_only("a manifest");
    }
    match Labels::read(body.actor.take(), body.operation.take()) {
        Ok(labels) => (body.actor, body.operation) = (Some(labels.actor), labels.key),
        Err(refused) => return reply::refused(refused),
    }
    let work = async move { server.operations.apply(body).await };
    accepted(in_time(super::detached(work))).await
}

pub(super) async fn plan_deploy(
    State(server): State<Server>,
    Extension(rights): Extension<Rights>,
    path: Service,
    Json(body): Json<DeployBody>,
) -> Response {
    let Ok(Path(service)) = path else { return not_found().await };
    if rights != Rights::Local {
        return local_only("a release by path");
    }
    if let Err(refused) = source_is_absolute(&body) {
        return reply::refused(refused);
    }
    match in_time_of(DEPLOY_TIMEOUT, server.operations.plan_deploy(&service, body)).await {
        Ok(plan) => reply::json(StatusCode::OK, &plan),
        Err(refused) => reply::refused(refused),
    }
}

/// What would let whoever has the token run anything on this machine.
pub(super) fn local_only(what: &str) -> Response {
    let message = format!(
        "{what} is taken over the local socket only: over TCP anyone with the token could run any program of this \
         machine"
    );
    let hint = "run the command on this machine, as the user that runs Handover";
    reply::error(StatusCode::FORBIDDEN, message, Some(hint))
}

pub(super) fn source_is_absolute(body: &DeployBody) -> Result<(), Refused> {
    if FilePath::new(&body.source).is_absolute() {
        return Ok(());
    }
    let message = format!("`source` must be an absolute path, not `{}`", body.source);
    Err(Refused::new(RefusedKind::Invalid, message))
}
