//! What crosses into a room (`Input`) and out of it (`Output`).
use super::messages::{ApiError, RecordLayout, Source};
use crate::engine::{Command, Event};
use crate::ids::{ParticipantId, RecordingId, TrackId};
use crate::rtp::Kind;
use std::fmt;
use std::sync::Arc;

/// One WebSocket connection. Made by `signal`, never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SocketId(pub u64);

/// One HTTP request that waits for the room's answer (WHIP, WHEP, admin). Made by `signal`, never reused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HttpId(pub u64);

/// Who somebody is and what they may do: from a verified token, or the defaults of an open server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Stable identity (`sub` of the token). A second session with the same identity replaces the first (4409).
    /// None on an open server: every hello is somebody new.
    pub identity: Option<String>,
    pub name: String,
    pub grants: Grants,
    /// Unix milliseconds after which the session is closed 4401. None on an open server.
    pub expires_ms: Option<u64>,
}

/// What a participant may do. In a token: `"grants": ["publish", "subscribe", "say", "moderate", "record"]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Grants {
    pub publish: bool,
    pub subscribe: bool,
    pub say: bool,
    pub moderate: bool,
    pub record: bool,
}

impl Grants {
    /// Those of a token that names none, and of guests: to take part.
    pub const USUAL: Grants = Grants { publish: true, subscribe: true, say: true, moderate: false, record: false };
}

impl Default for Grants {
    fn default() -> Self {
        Self::USUAL
    }
}

/// What happens to a room.
#[derive(Debug)]
pub enum Input {
    /// The first frame of a socket, already authenticated. `id` is the request's id.
    Hello {
        socket: SocketId,
        id: u64,
        hello: super::messages::Hello,
        claims: Claims,
    },
    /// A later frame: a text that is JSON, within the size limit, and an object with `id` and `type`.
    Request {
        socket: SocketId,
        request: super::messages::Request,
    },
    /// The heartbeat was answered.
    Pong {
        socket: SocketId,
    },
    SocketClosed {
        socket: SocketId,
    },
    /// WHIP and WHEP, and operators.
    Http {
        http: HttpId,
        request: HttpRequest,
    },
    Engine(Event),
    /// What became of a recording.
    Recording(RecordingId, RecordingEvent),
    /// The server goes away: tell every session `bye`, then close 1001.
    Drain {
        url: Option<String>,
    },
}

#[derive(Debug)]
pub enum HttpRequest {
    /// POST: `sdp` is the offer. Makes a participant of its own, without a socket.
    /// `whep_of`: for WHEP, whom to show; None is the room's stage (the latest screen share, else the last speaker with video).
    Create { kind: HttpKind, sdp: String, claims: Claims, whep_of: Option<String> },
    /// PATCH with `application/trickle-ice-sdpfrag`. `if_match` is the ETag of the ICE session, or `*` for a restart.
    Patch { kind: HttpKind, resource: String, fragment: String, if_match: Option<String> },
    /// DELETE.
    Delete { kind: HttpKind, resource: String },
    /// An operator looks.
    Inspect(Inspect),
    /// An operator has the room recorded, or no longer: then for all who wanted it. Shown is `messages::Recording`.
    Record(super::messages::Record),
}

/// What an operator wants to see.
#[derive(Clone, Debug)]
pub enum Inspect {
    /// `messages::RoomReport`
    Room,
    /// `messages::Recording`
    Recording,
    /// `messages::Decisions` of a participant: by id, identity or name.
    Decisions { participant: String },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpKind {
    Whip,
    Whep,
}

/// What a room wants done, in order.
#[derive(Debug)]
pub enum Output {
    Send {
        socket: SocketId,
        text: Text,
    },
    /// Send what is queued, then close.
    Close {
        socket: SocketId,
        code: u16,
        reason: &'static str,
    },
    Engine(Command),
    Recording(RecordingId, RecordingCommand),
    Http {
        http: HttpId,
        response: HttpResponse,
    },
    /// Nobody is in the room and no session waits to resume: it can be dropped.
    Empty,
}

/// What a recording is told, in this order: `Start`, then whatever happens, then `Stop`. Nothing follows once it was refused, or
/// ended by itself.
#[derive(Debug)]
pub enum RecordingCommand {
    /// Answered by `Started` or `Refused`. What follows need not wait for that.
    Start {
        /// The room's name.
        room: String,
        /// How a composite of it is to be arranged.
        layout: Option<RecordLayout>,
    },
    /// Somebody is in the room.
    Joined {
        participant: ParticipantId,
        name: String,
    },
    /// After all its tracks were unpublished.
    Left {
        participant: ParticipantId,
    },
    /// A track is to be recorded. Its packets come by `Command::Record`.
    Published {
        track: TrackId,
        participant: ParticipantId,
        kind: Kind,
        source: Source,
    },
    /// It is no longer published, or no longer to be recorded.
    Unpublished {
        track: TrackId,
    },
    /// That it is heard or seen again shows by its packets.
    Muted {
        track: TrackId,
    },
    /// An event of the room: its `type`, and its `data` as JSON.
    Event {
        kind: &'static str,
        data: Arc<str>,
    },
    Stop(RecordingStop),
}

/// Why a room ends a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingStop {
    /// All who had asked for it said so, or left.
    Asked,
    /// The last participant left.
    RoomEnded,
    /// The server goes away.
    Shutdown,
}

/// What became of a recording.
#[derive(Debug)]
pub enum RecordingEvent {
    /// It runs. `name` is that of its folder.
    Started { name: String, started_at_ms: u64 },
    /// It could not begin.
    Refused(ApiError),
    /// It ended by itself.
    Ended(RecordingFailure),
}

/// Why a recording ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordingFailure {
    /// The disk is full, or below the floor of free space, or the quota is used up.
    DiskFull,
    /// The disk refused to write, or could not follow at all.
    DiskError,
}

/// The text of one frame. What an event says is the same for all who are told and is kept once for all of them; only its
/// number is each receiver's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    seq: Option<u64>,
    rest: Arc<str>,
}

impl Text {
    /// A text without a number: answers and pings.
    pub fn plain(text: impl Into<Arc<str>>) -> Self {
        Self { seq: None, rest: text.into() }
    }

    /// An event: `rest` is its JSON without the opening brace.
    pub(super) fn numbered(seq: u64, rest: Arc<str>) -> Self {
        Self { seq: Some(seq), rest }
    }

    /// Bytes, as `Display` writes them.
    pub fn bytes(&self) -> usize {
        let number = self.seq.map_or(0, |seq| r#"{"seq":,"#.len() + seq.checked_ilog10().unwrap_or(0) as usize + 1);
        number + self.rest.len()
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(seq) = self.seq {
            write!(f, r#"{{"seq":{seq},"#)?;
        }
        f.write_str(&self.rest)
    }
}

#[derive(Debug)]
pub enum HttpResponse {
    /// 201: `resource` is the last segment of `Location`, unguessable (128 random bits): it is the capability to PATCH and DELETE.
    Created {
        participant: ParticipantId,
        resource: String,
        etag: String,
        sdp: String,
    },
    /// 204, nothing more to say (trickle, DELETE of what is there).
    Done,
    /// 200: an ICE restart with its fragment and new ETag.
    Restarted {
        etag: String,
        fragment: String,
    },
    /// Mapped to a status: bad_request 400, forbidden 403, not_found 404, conflict 409, `precondition` 412, unsupported 422, limit_reached 503.
    Failed(super::messages::ApiError),
    PreconditionFailed,
    /// 200: what an operator asked for, as JSON.
    Shown(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_as_long_as_it_says() {
        for seq in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            let text = Text::numbered(seq, r#""type":"x"}"#.into());
            assert_eq!(text.to_string(), format!(r#"{{"seq":{seq},"type":"x"}}"#));
            assert_eq!(text.bytes(), text.to_string().len());
        }
        assert_eq!(Text::plain("{}").bytes(), 2);
    }
}
