//! The API's paths: read the request within limits, ask [`Operations`](crate::Operations), answer.

mod look;
mod operate;
mod read;

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use tokio::time::Instant;

use crate::access::Rights;
use crate::api::{DeployBody, DownBody, PROGRESS_WAIT_MS_MAX, Progress, RollbackBody};
use crate::operations::{Refused, RefusedKind};
use crate::server::{Front, Server};
use crate::{metrics, reply};
use read::{Json, Labels};

/// For the agent to answer; it answers at once unless something is wrong with it.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// The same where a version is made of a release's whole content first.
const DEPLOY_TIMEOUT: Duration = Duration::from_secs(300);
/// How often a waiting follower's rollout is looked at.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) fn router(server: Server, front: Front) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(serve_metrics))
        .route("/v1/status", get(status))
        .route("/v1/traffic", get(traffic))
        .route("/v1/services/{service}/deploy", post(deploy))
        .route("/v1/services/{service}/plan", post(operate::plan_deploy))
        .route("/v1/services/{service}/rollback", post(rollback))
        .route("/v1/services/{service}/restart", post(operate::restart))
        .route("/v1/services/{service}/reload", post(operate::reload))
        .route("/v1/services/{service}/stop", post(operate::stop))
        .route("/v1/services/{service}/start", post(operate::start))
        .route("/v1/services/{service}/scale", post(operate::scale))
        .route("/v1/services/{service}/rollouts/{rollout}", get(progress))
        .route("/v1/operations/{operation}", get(operate::progress))
        .route("/v1/plan", post(operate::plan))
        .route("/v1/apply", post(operate::apply))
        .route("/v1/manifest", get(manifest))
        .route("/v1/history", get(look::history))
        .route("/v1/history/{rollout}", get(look::history_of))
        .route("/v1/events", get(look::events))
        .route("/v1/logs", get(look::logs))
        .route("/v1/down", post(down))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(middleware::from_fn_with_state(front, guard))
        .with_state(server)
}

async fn guard(State(front): State<Front>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let rights = match &front {
        Front::Local => Ok(Rights::Local),
        Front::Tcp(access) => access.rights(&head),
    };
    match rights {
        Ok(rights) => {
            head.extensions.insert(rights);
            next.run(Request::from_parts(head, body)).await
        }
        Err(denied) => reply::denied(denied),
    }
}

async fn not_found() -> Response {
    reply::error(StatusCode::NOT_FOUND, "there is nothing at this path", Some("try GET /v1/status"))
}

async fn method_not_allowed() -> Response {
    reply::error(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method", None)
}

async fn healthz() -> Response {
    reply::text("text/plain; charset=utf-8", "ok\n")
}

async fn serve_metrics(State(server): State<Server>) -> Response {
    let status = match in_time(server.operations.status()).await {
        Ok(status) => status,
        Err(refused) => return reply::refused(refused),
    };
    match in_time(server.operations.traffic()).await {
        Ok(traffic) => reply::text(metrics::CONTENT_TYPE, metrics::render(&status, &traffic)),
        Err(refused) => reply::refused(refused),
    }
}

async fn traffic(State(server): State<Server>) -> Response {
    match in_time(server.operations.traffic()).await {
        Ok(traffic) => reply::json(StatusCode::OK, &traffic),
        Err(refused) => reply::refused(refused),
    }
}

async fn status(State(server): State<Server>, Extension(rights): Extension<Rights>) -> Response {
    match in_time(server.operations.status()).await {
        Ok(status) if rights == Rights::Public => {
            reply::json(StatusCode::OK, &status.without_private_parts())
        }
        Ok(status) => reply::json(StatusCode::OK, &status),
        Err(refused) => reply::refused(refused),
    }
}

async fn deploy(
    State(server): State<Server>,
    Extension(rights): Extension<Rights>,
    path: Result<Path<String>, PathRejection>,
    Json(mut body): Json<DeployBody>,
) -> Response {
    let Ok(Path(service)) = path else { return not_found().await };
    if rights != Rights::Local {
        return operate::local_only("a release by path");
    }
    if let Err(refused) = operate::source_is_absolute(&body) {
        return reply::refused(refused);
    }
    let labels = match Labels::read(body.actor.take(), body.operation.clone()) {
        Ok(labels) => labels,
        Err(refused) => return reply::refused(refused),
    };
    body.actor = Some(labels.actor);
    let what = format!("deploy {} {} of {service}", body.version.as_deref().unwrap_or("-"), body.source);
    let work = async move {
        let start = async { server.operations.deploy(&service, body).await };
        server.once(labels.key, what, start).await
    };
    accepted(in_time_of(DEPLOY_TIMEOUT, detached(work))).await
}

async fn rollback(
    State(server): State<Server>,
    path: Result<Path<String>, PathRejection>,
    Json(mut body): Json<RollbackBody>,
) -> Response {
    let Ok(Path(service)) = path else { return not_found().await };
    let labels = match Labels::read(body.actor.take(), body.operation.clone()) {
        Ok(labels) => labels,
        Err(refused) => return reply::refused(refused),
    };
    body.actor = Some(labels.actor);
    let what = format!("rollback of {service}");
    let work = async move {
        let start = async { server.operations.rollback(&service, body).await };
        server.once(labels.key, what, start).await
    };
    accepted(in_time(detached(work))).await
}

async fn down(State(server): State<Server>, Json(mut body): Json<DownBody>) -> Response {
    match Labels::read(body.actor.take(), None) {
        Ok(labels) => body.actor = Some(labels.actor),
        Err(refused) => return reply::refused(refused),
    }
    let work = async move { server.operations.down(body).await };
    accepted(in_time(detached(work))).await
}

async fn manifest(State(server): State<Server>) -> Response {
    match in_time(server.operations.manifest()).await {
        Ok(manifest) => reply::json(StatusCode::OK, &manifest),
        Err(refused) => reply::refused(refused),
    }
}

async fn progress(
    State(server): State<Server>,
    path: Result<Path<(String, u64)>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Response {
    let Ok(Path((service, rollout))) = path else { return not_found().await };
    let query = match Follow::parse(query.as_deref().unwrap_or_default()) {
        Ok(query) => query,
        Err(refused) => return reply::refused(refused),
    };
    match wait_for_news(&server, &service, rollout, query).await {
        Ok(mut progress) => {
            progress.agent = std::process::id();
            reply::json(StatusCode::OK, &progress)
        }
        Err(refused) => reply::refused(refused),
    }
}

/// What a follower knows already, and how long it waits for more.
#[derive(Debug, Default)]
struct Follow {
    after: u64,
    wait: Duration,
    state: Option<String>,
}

impl Follow {
    fn parse(query: &str) -> Result<Self, Refused> {
        let mut follow = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || {
                let message = format!("`{name}` must be a whole number, not `{value}`");
                value.parse::<u64>().map_err(|_not_a_number| Refused::new(RefusedKind::Invalid, message))
            };
            match name {
                "after" => follow.after = number()?,
                "wait_ms" => follow.wait = Duration::from_millis(number()?.min(PROGRESS_WAIT_MS_MAX)),
                "state" => follow.state = Some(value.to_owned()),
                // A newer client may say more than this version knows.
                _ => {}
            }
        }
        Ok(follow)
    }
}

async fn wait_for_news(
    server: &Server,
    service: &str,
    rollout: u64,
    follow: Follow,
) -> Result<Progress, Refused> {
    let deadline = Instant::now() + follow.wait;
    let mut seen = follow.state;
    loop {
        let progress = in_time(server.operations.progress(service, rollout, follow.after)).await?;
        let state = progress.state();
        let is_news = !progress.lines.is_empty()
            || progress.is_final
            || seen.as_ref().is_some_and(|seen| *seen != state);
        let now = Instant::now();
        if is_news || now >= deadline {
            return Ok(progress);
        }
        seen = Some(state);
        tokio::time::sleep_until(deadline.min(now + PROGRESS_INTERVAL)).await;
    }
}

/// Carries an operation out to its end even if the client goes away, or its answer would be lost with it.
async fn detached<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refused>> + Send + 'static,
) -> Result<T, Refused> {
    tokio::spawn(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "admin: an operation panicked");
        Err(Refused::new(RefusedKind::Unavailable, "the agent failed while it answered")
            .with_hint("look at handover.log"))
    })
}

async fn accepted<T: serde::Serialize>(answer: impl Future<Output = Result<T, Refused>>) -> Response {
    match answer.await {
        Ok(accepted) => reply::json(StatusCode::ACCEPTED, &accepted),
        Err(refused) => reply::refused(refused),
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
    in_time_of(OPERATION_TIMEOUT, answer).await
}

async fn in_time_of<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_elapsed| {
        let message = format!("the agent did not answer within {} s", limit.as_secs());
        Err(Refused::new(RefusedKind::Unavailable, message)
            .with_hint("ask `handover status` before you repeat it"))
    })
}
