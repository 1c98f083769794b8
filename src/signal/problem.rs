//! Errors of HTTP as a machine and a person can read them: problem details (RFC 9457).
use crate::room::messages::{ApiError, ErrorCode};
use axum::Json;
use axum::body::to_bytes;
use axum::http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

const PROBLEM_JSON: &str = "application/problem+json";

/// An answer with `Content-Type: application/problem+json`.
#[derive(Debug, Clone)]
pub struct Problem {
    status: StatusCode,
    detail: String,
    /// The room API's name for it, where it has one.
    code: Option<ErrorCode>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), code: None, headers: Vec::new() }
    }

    /// Whole seconds.
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// 401, with how to prove oneself (RFC 6750 section 3). `token_given`: there was one, and it is no good.
    pub fn unauthorized(detail: impl Into<String>, token_given: bool) -> Self {
        let challenge =
            if token_given { r#"Bearer realm="exedra", error="invalid_token""# } else { r#"Bearer realm="exedra""# };
        Self { code: Some(ErrorCode::Unauthorized), ..Self::new(StatusCode::UNAUTHORIZED, detail) }
            .header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    /// 415: the body is not what this resource takes. `takes` goes into `Accept`, `Accept-Post` or `Accept-Patch`.
    pub fn unsupported_media_type(accept: HeaderName, takes: &'static str) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("the body has to be {takes}"))
            .header(ACCEPT, HeaderValue::from_static(takes))
            .header(accept, HeaderValue::from_static(takes))
    }

    /// An error of the room API, for a request that carried a token or not.
    pub fn from_api(error: ApiError, token_given: bool) -> Self {
        if error.code == ErrorCode::Unauthorized {
            return Self::unauthorized(error.message, token_given);
        }
        let retry_after = error.retryable.then(|| error.retry_after_ms.div_ceil(1000).max(1));
        let problem = Self { code: Some(error.code), ..Self::new(status(error.code), error.message) };
        match retry_after {
            Some(seconds) => problem.retry_after(seconds),
            None => problem,
        }
    }
}

/// Makes a problem of an error that axum's own extractors and routing answered in plain text. Other headers stay.
pub(super) async fn unify(response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_error || response.headers().get(CONTENT_TYPE).is_some_and(|v| v == PROBLEM_JSON) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let text = to_bytes(body, 4096).await.unwrap_or_default();
    let detail = match String::from_utf8_lossy(&text).trim() {
        "" => "the request cannot be answered".to_owned(),
        text => text.to_owned(),
    };
    head.headers.remove(CONTENT_TYPE);
    head.headers.remove(CONTENT_LENGTH);
    let mut problem = Problem::new(status, detail).into_response();
    problem.headers_mut().extend(head.headers);
    problem
}

fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
        ErrorCode::Unsupported => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::Conflict => StatusCode::CONFLICT,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::LimitReached | ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        if let Some(code) = self.code {
            body["code"] = json!(code);
        }
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.extend(self.headers);
        response
    }
}
