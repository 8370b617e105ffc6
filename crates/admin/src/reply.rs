//! Answers: JSON with the same headers everywhere, errors with what to do.

use axum::Json;
use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::access::Denied;
use crate::api::ErrorBody;
use crate::operations::{Refused, RefusedKind};

pub(crate) fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    with_headers((status, Json(body)).into_response())
}

pub(crate) fn text(content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    with_headers(response)
}

pub(crate) fn error(status: StatusCode, error: impl Into<String>, hint: Option<&str>) -> Response {
    json(status, &ErrorBody { error: error.into(), hint: hint.map(Into::into) })
}

pub(crate) fn refused(refused: Refused) -> Response {
    let status = match refused.kind {
        RefusedKind::NotFound => StatusCode::NOT_FOUND,
        RefusedKind::Conflict => StatusCode::CONFLICT,
        RefusedKind::Invalid => StatusCode::BAD_REQUEST,
        RefusedKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    };
    json(status, &ErrorBody { error: refused.message, hint: refused.hint })
}

pub(crate) fn denied(denied: Denied) -> Response {
    match denied {
        Denied::Host => error(
            StatusCode::FORBIDDEN,
            "this Host is not served here",
            Some("use 127.0.0.1, [::1], localhost or the configured address in the URL"),
        ),
        Denied::Origin => {
            error(StatusCode::FORBIDDEN, "requests from pages of other sites are not served", None)
        }
        Denied::Token => {
            let hint =
                "send `Authorization: Bearer TOKEN` with the token from admin.token in the state directory";
            let mut response = error(StatusCode::UNAUTHORIZED, "this needs the token", Some(hint));
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            response
        }
    }
}

fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
