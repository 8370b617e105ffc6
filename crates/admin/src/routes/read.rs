//! Reads requests within limits: bodies, queries, and the texts that get into logs.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::operations::{Refused, RefusedKind};
use crate::reply;

/// Largest request body.
pub(crate) const BODY_BYTES_MAX: usize = 64 << 10;
/// Largest body that holds a manifest: what the record has room for.
pub(super) const MANIFEST_BODY_BYTES_MAX: usize = 4 << 20;
/// For a whole request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest actor or operation key.
const LABEL_BYTES_MAX: usize = 128;

/// A JSON body of at most `MAX` bytes; an empty one counts as `{}`.
pub(super) struct Json<T, const MAX: usize = BODY_BYTES_MAX>(pub(super) T);

impl<T: DeserializeOwned, S: Sync, const MAX: usize> FromRequest<S> for Json<T, MAX> {
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
        let bytes = read(&head.headers, body, MAX).await?;
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

async fn read(headers: &HeaderMap, body: Body, most: usize) -> Result<Vec<u8>, Response> {
    let too_large = || {
        let message = format!("the body is over the limit of {most} bytes");
        reply::error(StatusCode::PAYLOAD_TOO_LARGE, message, None)
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, most).collect()).await {
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

/// Who asks, and the client's key of the request.
pub(super) struct Labels {
    pub(super) actor: String,
    pub(super) key: Option<String>,
}

impl Labels {
    /// Within limits and without characters that could forge lines of a log.
    pub(super) fn read(actor: Option<String>, key: Option<String>) -> Result<Self, Refused> {
        let actor = actor.filter(|actor| !actor.is_empty()).unwrap_or_else(|| "api".to_owned());
        for (name, text) in [("actor", Some(&actor)), ("operation", key.as_ref())] {
            let Some(text) = text else { continue };
            if text.is_empty() || text.len() > LABEL_BYTES_MAX || text.chars().any(char::is_control) {
                let message =
                    format!("`{name}` must have 1 to {LABEL_BYTES_MAX} bytes and no control characters");
                return Err(Refused::new(RefusedKind::Invalid, message));
            }
        }
        Ok(Self { actor, key })
    }
}
