//! WebSocket close codes of the room API, and which one an error ends a socket with.
use crate::room::messages::ErrorCode;

pub type CloseCode = u16;

/// The session ended as it should.
pub const NORMAL: CloseCode = 1000;
/// The server goes away (RFC 6455 section 7.4.1).
pub const GOING_AWAY: CloseCode = 1001;
/// A frame breaks RFC 6455.
pub const PROTOCOL: CloseCode = 1002;
/// A binary frame: the room API is text.
pub const UNSUPPORTED_DATA: CloseCode = 1003;
/// Text that is not UTF-8.
pub const INVALID_PAYLOAD: CloseCode = 1007;
/// A frame over the size limit.
pub const TOO_BIG: CloseCode = 1009;
pub const BAD_MESSAGE: CloseCode = 4400;
pub const UNAUTHORIZED: CloseCode = 4401;
pub const FORBIDDEN: CloseCode = 4403;
pub const NO_SUCH_ROOM: CloseCode = 4404;
/// The reader was too slow, or did not answer the heartbeat.
pub const TOO_SLOW: CloseCode = 4408;
pub const RATE_LIMITED: CloseCode = 4429;
pub const INTERNAL: CloseCode = 4500;

/// The code that closes a socket whose `hello` was answered with this error.
pub fn close_code(error: ErrorCode) -> CloseCode {
    match error {
        ErrorCode::BadRequest | ErrorCode::Unsupported | ErrorCode::Conflict => BAD_MESSAGE,
        ErrorCode::Unauthorized => UNAUTHORIZED,
        ErrorCode::Forbidden => FORBIDDEN,
        ErrorCode::NotFound => NO_SUCH_ROOM,
        ErrorCode::LimitReached | ErrorCode::RateLimited => RATE_LIMITED,
        ErrorCode::Unavailable => GOING_AWAY,
        ErrorCode::Internal => INTERNAL,
    }
}
