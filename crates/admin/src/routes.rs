//! The API's paths: read the request within limits, ask [`Operations`](crate::Operations), answer.

use std::future::Future;
use std::path::Path as FilePath;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, FromRequest, Path, RawQuery, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::access::Rights;
use crate::api::{DeployBody, DownBody, PROGRESS_WAIT_MS_MAX, Progress, RollbackBody};
use crate::operations::{Refused, RefusedKind};
use crate::server::{Front, Server};
use crate::{metrics, reply};

/// Largest request body.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;
/// For a whole request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// For the agent to answer; it answers at once unless something is wrong with it.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a waiting follower's rollout is looked at.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);
/// Longest actor or operation key.
const LABEL_BYTES_MAX: usize = 128;

pub(crate) fn router(server: Server, front: Front) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(serve_metrics))
        .route("/v1/status", get(status))
        .route("/v1/services/{service}/deploy", post(deploy))
        .route("/v1/services/{service}/rollback", post(rollback))
        .route("/v1/services/{service}/rollouts/{rollout}", get(progress))
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
    match in_time(server.operations.status()).await {
        Ok(status) => reply::text(metrics::CONTENT_TYPE, metrics::render(&status)),
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
        return reply::error(
            StatusCode::FORBIDDEN,
            "a release by path is taken over the local socket only: over TCP anyone with the token could run any \
             directory of this machine",
            Some("run `handover deploy` on this machine, as the user that runs Handover"),
        );
    }
    if !FilePath::new(&body.source).is_absolute() {
        let message = format!("`source` must be an absolute path of a directory, not `{}`", body.source);
        return reply::refused(Refused::new(RefusedKind::Invalid, message));
    }
    let (actor, key) = match labels(body.actor.take(), body.operation.clone()) {
        Ok(labels) => labels,
        Err(refused) => return reply::refused(refused),
    };
    body.actor = Some(actor);
    let what = format!("deploy {} {} of {service}", body.version.as_deref().unwrap_or("-"), body.source);
    let work = async move {
        let start = async { server.operations.deploy(&service, body).await };
        server.once(key, what, start).await
    };
    accepted(work).await
}

async fn rollback(
    State(server): State<Server>,
    path: Result<Path<String>, PathRejection>,
    Json(mut body): Json<RollbackBody>,
) -> Response {
    let Ok(Path(service)) = path else { return not_found().await };
    let (actor, key) = match labels(body.actor.take(), body.operation.clone()) {
        Ok(labels) => labels,
        Err(refused) => return reply::refused(refused),
    };
    body.actor = Some(actor);
    let what = format!("rollback of {service}");
    let work = async move {
        let start = async { server.operations.rollback(&service, body).await };
        server.once(key, what, start).await
    };
    accepted(work).await
}

async fn down(State(server): State<Server>, Json(mut body): Json<DownBody>) -> Response {
    match labels(body.actor.take(), None) {
        Ok((actor, _)) => body.actor = Some(actor),
        Err(refused) => return reply::refused(refused),
    }
    accepted(async move { server.operations.down(body).await }).await
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
async fn accepted<T>(work: impl Future<Output = Result<T, Refused>> + Send + 'static) -> Response
where
    T: serde::Serialize + Send + 'static,
{
    let task = tokio::spawn(work);
    let answer = in_time(async move {
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "admin: an operation panicked");
            Err(Refused::new(RefusedKind::Unavailable, "the agent failed while it answered")
                .with_hint("look at handover.log"))
        })
    });
    match answer.await {
        Ok(accepted) => reply::json(StatusCode::ACCEPTED, &accepted),
        Err(refused) => reply::refused(refused),
    }
}

async fn in_time<T>(answer: impl Future<Output = Result<T, Refused>>) -> Result<T, Refused> {
    tokio::time::timeout(OPERATION_TIMEOUT, answer).await.unwrap_or_else(|_elapsed| {
        let message = format!("the agent did not answer within {} s", OPERATION_TIMEOUT.as_secs());
        Err(Refused::new(RefusedKind::Unavailable, message)
            .with_hint("ask `handover status` before you repeat it"))
    })
}

/// Actor and operation key, within limits and without characters that could forge lines of a log.
fn labels(actor: Option<String>, key: Option<String>) -> Result<(String, Option<String>), Refused> {
    let actor = actor.filter(|actor| !actor.is_empty()).unwrap_or_else(|| "api".to_owned());
    for (name, text) in [("actor", Some(&actor)), ("operation", key.as_ref())] {
        let Some(text) = text else { continue };
        if text.is_empty() || text.len() > LABEL_BYTES_MAX || text.chars().any(char::is_control) {
            let message =
                format!("`{name}` must have 1 to {LABEL_BYTES_MAX} bytes and no control characters");
            return Err(Refused::new(RefusedKind::Invalid, message));
        }
    }
    Ok((actor, key))
}

/// A JSON body within the limits; an empty one counts as `{}`.
struct Json<T>(T);

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Json<T> {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        let (head, body) = request.into_parts();
        if !is_json(&head.headers) {
            return Err(reply::error(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body must be JSON",
                Some("send `Content-Type: application/json`"),
            ));
        }
        let bytes = read(&head.headers, body).await?;
        let bytes = if bytes.is_empty() { b"{}" } else { bytes.as_slice() };
        match serde_json::from_slice(bytes) {
            Ok(body) => Ok(Self(body)),
            Err(error) => Err(reply::error(
                StatusCode::BAD_REQUEST,
                format!("the body is not as expected: {error}"),
                None,
            )),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Response> {
    let too_large = || {
        let message = format!("the body is over the limit of {BODY_BYTES_MAX} bytes");
        reply::error(StatusCode::PAYLOAD_TOO_LARGE, message, None)
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES_MAX).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes().into()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            Err(reply::error(StatusCode::BAD_REQUEST, format!("the body broke off: {error}"), None))
        }
        Err(_elapsed) => {
            Err(reply::error(StatusCode::REQUEST_TIMEOUT, "the body did not come in time", None))
        }
    }
}
