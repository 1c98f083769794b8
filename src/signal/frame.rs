//! What a client's frame is: the envelope of the room API, read no further than signalling needs.
use crate::room::messages::{ApiError, ErrorCode, Hello, Request};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A well-formed frame.
#[derive(Debug)]
pub enum Frame {
    Request(Request),
    /// `{"type":"pong"}`: the heartbeat was answered.
    Pong,
}

/// A frame that cannot be taken for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("the frame is not JSON")]
    NotJson,
    #[error("the frame is not a JSON object")]
    NotAnObject,
    /// Without an id there is nothing to answer to.
    #[error("`id` is not a number from 0 to 2^53 - 1")]
    NoId,
    #[error("`type` is not a string")]
    NoType,
}

/// The largest integer that every JSON reader keeps exactly (RFC 8259 section 6).
const MAX_ID: u64 = (1 << 53) - 1;

/// Reads a frame's envelope.
pub fn parse(text: &str) -> Result<Frame, FrameError> {
    let value: Value = serde_json::from_str(text).map_err(|_| FrameError::NotJson)?;
    let Value::Object(mut frame) = value else { return Err(FrameError::NotAnObject) };
    let kind = match frame.remove("type") {
        Some(Value::String(kind)) => kind,
        _ => return Err(FrameError::NoType),
    };
    if kind == "pong" {
        return Ok(Frame::Pong);
    }
    let id = frame.get("id").and_then(Value::as_u64).filter(|id| *id <= MAX_ID).ok_or(FrameError::NoId)?;
    Ok(Frame::Request(Request { id, kind, data: frame.remove("data").unwrap_or(Value::Null) }))
}

/// Reads the data of a `hello`.
pub fn hello(data: Value) -> Result<Hello, ApiError> {
    let data = if data.is_null() { Value::Object(Map::new()) } else { data };
    serde_json::from_value(data).map_err(|e| ApiError {
        code: ErrorCode::BadRequest,
        message: format!("hello: {e}"),
        retryable: false,
        retry_after_ms: 0,
    })
}

/// The answer that refuses request `id`.
pub fn refusal(id: u64, error: &ApiError) -> Arc<str> {
    json!({ "id": id, "ok": false, "error": error }).to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn envelopes() {
        let Ok(Frame::Request(r)) = parse(r#"{"id":7,"type":"say","data":{"topic":"x"},"later":1}"#) else { panic!() };
        assert_eq!((r.id, r.kind.as_str()), (7, "say"));
        assert_eq!(r.data["topic"], "x");
        assert!(matches!(parse(r#"{"type":"pong","t":1}"#), Ok(Frame::Pong)));
        for (text, error) in [
            ("", FrameError::NotJson),
            ("{", FrameError::NotJson),
            ("[]", FrameError::NotAnObject),
            ("\"hello\"", FrameError::NotAnObject),
            ("{}", FrameError::NoType),
            (r#"{"type":7,"id":1}"#, FrameError::NoType),
            (r#"{"type":"say"}"#, FrameError::NoId),
            (r#"{"type":"say","id":-1}"#, FrameError::NoId),
            (r#"{"type":"say","id":1.5}"#, FrameError::NoId),
            (r#"{"type":"say","id":9007199254740992}"#, FrameError::NoId),
        ] {
            assert_eq!(parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = format!("{}{}", "[".repeat(60_000), "]".repeat(60_000));
        assert_eq!(parse(&deep).unwrap_err(), FrameError::NotJson);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(text in "\\PC{0,200}") {
            let _ = parse(&text);
        }
    }
}
