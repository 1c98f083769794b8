//! The room API's messages (version 1): the single source of truth. `/v1/schema.json` is generated from these types,
//! and every example of `docs/API.md` is read by a test as one of them.
mod admin;
mod event;
mod request;
mod state;

pub use admin::{
    Decisions, Door, Keeping, Look, ParticipantReport, RoomEntry, RoomList, RoomReport, Showing, SlotDecision,
    TrackReport,
};
pub use event::{
    Bye, ByeAction, Event, LeftWhy, Message, ParticipantLeft, PublishLayers, Quality, QualityWhy, SlotsNeed,
    SpeakerLevel, TrackState, TrackStateKind, TrackUnpublished, Why,
};
pub use request::{
    Candidate, Hello, Moderate, ModerateAction, Negotiate, Nothing, ParticipantsAfter, Pc, Record, RecordAction,
    RecordLayout, Request, Resume, Say, Set, SetTrack, Source, TrackOffer, View, ViewTrack,
};
pub use state::{
    Connection, IceServer, Layer, MidTrack, Negotiated, Participant, ParticipantPage, Population, Recording,
    RecordingState, RecordingWhy, Revs, Room, Said, ServerLimits, SlotBinding, Slots, Snapshot, Stats, Track, Welcome,
    You,
};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// The `error` of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// For programs: what kind of error it is.
    pub code: ErrorCode,
    /// For people: what is wrong. The wording may change at any time.
    pub message: String,
    /// The same request may succeed later, unchanged (also with the same id).
    pub retryable: bool,
    /// Milliseconds to wait before trying again; 0 when there is nothing to wait for.
    pub retry_after_ms: u64,
}

impl ApiError {
    /// An error that the same request would meet again.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retryable: false, retry_after_ms: 0 }
    }
    /// An error that time may heal.
    pub fn retry(code: ErrorCode, message: impl Into<String>, after_ms: u64) -> Self {
        Self { code, message: message.into(), retryable: true, retry_after_ms: after_ms }
    }
}

/// What kind of error an answer tells. These strings are never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The data is not what the request takes; the message names the field.
    BadRequest,
    /// The server does not know this request, or does not offer it.
    Unsupported,
    /// The token, or the session's secret, is wrong or expired.
    Unauthorized,
    /// A grant is missing.
    Forbidden,
    /// There is no such participant, track or resource.
    NotFound,
    /// The request does not fit the present state: a stale `rev`, an id that was used long ago.
    Conflict,
    /// A bound of `limits` is reached.
    LimitReached,
    /// Too many requests: wait `retryAfterMs`.
    RateLimited,
    /// Not now.
    Unavailable,
    /// The server's fault.
    Internal,
}

/// An answer: `data` when `ok`, else `error`.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Answer {
    /// The request's id.
    pub id: u64,
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
}

/// The heartbeat, which the server begins: the client answers every `ping` with a `pong` that carries the same `t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Heartbeat {
    Ping {
        /// The server's Unix milliseconds.
        t: u64,
    },
    Pong {
        /// The `t` of the ping.
        t: u64,
    },
}

/// The text of an answer.
pub fn answer_text<T: Serialize>(id: u64, result: &Result<T, ApiError>) -> Arc<str> {
    /// An `Answer` whose data is written as it is, without a copy of all of it as a `Value`.
    #[derive(Serialize)]
    struct Written<'a, T> {
        id: u64,
        ok: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a T>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a ApiError>,
    }
    text(&Written { id, ok: result.is_ok(), data: result.as_ref().ok(), error: result.as_ref().err() })
}

/// JSON of a type of this module, whose serialisation cannot fail: maps have string keys, numbers are finite.
pub(super) fn text<T: Serialize>(value: &T) -> Arc<str> {
    serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned()).into()
}

/// Reads a request's data. Nothing at all counts as `{}`.
///
/// # Errors
/// `bad_request` that names the field.
pub fn parse<T: DeserializeOwned>(data: Value) -> Result<T, ApiError> {
    let data = if data.is_null() { Value::Object(Default::default()) } else { data };
    if !data.is_object() {
        return Err(ApiError::new(ErrorCode::BadRequest, "data: not an object"));
    }
    serde_path_to_error::deserialize(data).map_err(|e| {
        let path = e.path().to_string();
        let inner = e.into_inner();
        let message = if path == "." { format!("data: {inner}") } else { format!("{path}: {inner}") };
        ApiError::new(ErrorCode::BadRequest, message)
    })
}

/// The JSON Schema (draft 2020-12) of every message, each under `$defs`.
pub fn schema() -> Value {
    let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    macro_rules! define {
        ($($name:ident)*) => { $(generator.subschema_for::<$name>();)* };
    }
    define!(Request Answer ApiError Heartbeat Event);
    define!(Hello Negotiate Candidate View SetTrack Set Say ParticipantsAfter Moderate Record Nothing);
    define!(Welcome Negotiated Said ParticipantPage Recording Stats Snapshot);
    define!(RoomList RoomReport Decisions);
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Exedra room API, version 1",
        "$defs": generator.take_definitions(true),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bad_data_names_the_field() {
        let cases = [
            (json!({"pc": "pub", "rev": 1}), "data: missing field `sdp`"),
            (json!({"pc": "up", "rev": 1, "sdp": ""}), "pc: unknown variant"),
            (json!({"pc": "pub", "rev": -1, "sdp": ""}), "rev: invalid value"),
            (json!({"pc": "pub", "rev": 1, "sdp": "", "tracks": [{"mid": 1}]}), "tracks[0].mid: invalid type"),
            (json!([1]), "data: "),
        ];
        for (data, want) in cases {
            let error = parse::<Negotiate>(data.clone()).expect_err("it is bad");
            assert_eq!(error.code, ErrorCode::BadRequest);
            assert!(error.message.contains(want), "{data}: {:?} should contain {want:?}", error.message);
        }
        assert!(parse::<Nothing>(Value::Null).is_ok());
        assert!(parse::<Set>(json!({"surprise": 1})).is_ok(), "unknown fields are ignored");
    }

    #[test]
    fn the_schema_has_every_message_and_resolves() {
        let schema = schema();
        let defs = schema["$defs"].as_object().expect("an object");
        for name in ["Request", "Answer", "Event", "Hello", "Welcome", "Snapshot", "View", "Track", "ApiError"] {
            assert!(defs.contains_key(name), "{name} is missing");
        }
        let text = schema.to_string();
        for reference in text.split("\"$ref\":\"#/$defs/").skip(1) {
            let name = reference.split('"').next().unwrap_or_default();
            assert!(defs.contains_key(name), "{name} is referred to and not there");
        }
    }
}
