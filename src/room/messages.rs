//! The room API's messages (version 1): the single source of truth. `/v1/schema.json` is generated from these types.
use serde::{Deserialize, Serialize};

/// The first request of a socket.
#[derive(Clone, Debug, Default, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    pub token: Option<String>,
    pub room: Option<String>,
    pub name: Option<String>,
    /// Free text that says what the client is, for logs: `"exedra-web/0.1"`.
    pub client: Option<String>,
    pub resume: Option<Resume>,
}

#[derive(Clone, Debug, Deserialize, Serialize, schemars::JsonSchema)]
pub struct Resume {
    pub session: String,
    pub secret: String,
    /// The last event that the client has applied.
    pub seq: u64,
}

/// A request after `hello`: parsed no further than its envelope.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    pub id: u64,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub data: serde_json::Value,
}

/// The `error` of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    pub code: ErrorCode,
    pub message: String,
    pub retryable: bool,
    pub retry_after_ms: u64,
}

/// These strings are never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    BadRequest,
    Unsupported,
    Unauthorized,
    Forbidden,
    NotFound,
    Conflict,
    LimitReached,
    RateLimited,
    Unavailable,
    Internal,
}
