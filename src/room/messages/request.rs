//! What a client asks: the data of every request.
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A request after `hello`: parsed no further than its envelope.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Request {
    /// Chosen by the client: ascending, unique in the session, also across a resume. The same id again gets the same
    /// answer and has no second effect.
    pub id: u64,
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub data: Value,
}

/// `hello`: the first request of a socket, within 5 s.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// A JWT that names room, identity, name, grants and expiry. Needed where the server has a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The room to join, where the server is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<String>,
    /// The name to show, where the server is open. 1 to 64 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Free text that says what the client is, for logs: `"exedra-web/0.1"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Come back to a session instead of making a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<Resume>,
}

/// Which session to come back to.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct Resume {
    pub session: String,
    /// The secret of the welcome.
    pub secret: String,
    /// The last event that the client has applied; 0 for none.
    pub seq: u64,
}

/// One of a participant's two connections. The client makes every offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pc {
    /// The client sends.
    Pub,
    /// The client receives: each recvonly m-line is a slot.
    Sub,
}

/// `negotiate`: an offer. An ICE restart is an offer with new credentials.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Negotiate {
    pub pc: Pc,
    /// Greater than the last one taken for this connection.
    pub rev: u64,
    pub sdp: String,
    /// For `pub`: what each m-line is. A m-line that was listed before and is not any more is unpublished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracks: Option<Vec<TrackOffer>>,
}

/// What an m-line of `pub` is.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct TrackOffer {
    /// The m-line's `a=mid`.
    pub mid: String,
    pub source: Source,
    /// A name to show. At most 64 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The client means to send several encodings. What counts is `a=simulcast` in the offer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub simulcast: bool,
}

/// Where a track comes from. Anything else than the four known sources is passed on as it is, at most 32 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    Microphone,
    Camera,
    Screen,
    ScreenAudio,
    #[serde(untagged)]
    Other(String),
}

/// `candidate`: a trickled ICE candidate. It is accepted, and needed by nobody: the server is ICE-lite and learns
/// addresses from the checks.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct Candidate {
    pub pc: Pc,
    /// `candidate:…`, as `RTCIceCandidate.candidate` has it, or its JSON object. Empty or null at the end.
    #[serde(default)]
    pub candidate: Value,
}

/// `view`: the whole wish, in place of the one before. Without any `view` a participant gets all that others publish,
/// the latest speakers first, up to the slots there are.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// What is looked at and how large, by track id. At most 1024 entries; unknown tracks are kept for when they come.
    #[serde(default)]
    pub tracks: BTreeMap<String, ViewTrack>,
    /// How many more video tracks to get, by latest speaker. 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_n: Option<u16>,
    /// How many audio tracks to get at most, by latest speaker. All that there are slots for when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio_n: Option<u16>,
    /// Put this participant's video first: `"speaker"` for whoever spoke last, or a participant id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<String>,
}

/// How one track is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct ViewTrack {
    /// Width in device pixels, 0 to 16384.
    #[serde(default)]
    pub w: u16,
    /// Height in device pixels, 0 to 16384.
    #[serde(default)]
    pub h: u16,
    /// Frames a second that are of use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fps: Option<f32>,
    /// The higher, the more important when not everything fits. 0 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
    /// Send nothing of it for now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// `track`: mute or unmute a track of one's own. Nothing of a muted track is forwarded.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct SetTrack {
    pub track: String,
    pub muted: bool,
}

/// `set`: change what others see of oneself.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct Set {
    /// 1 to 64 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A JSON merge patch (RFC 7396) for one's attributes: `null` deletes. The result is at most `limits.attributesBytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Map<String, Value>>,
}

/// `say`: a message to everybody, or to some.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct Say {
    /// Participant ids; everybody when absent. The sender gets the message too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<String>>,
    /// 1 to 64 bytes.
    pub topic: String,
    /// Any JSON, at most `limits.sayBytes` as text.
    #[serde(default)]
    pub body: Value,
    /// Keep it for those who join later: the latest of each topic. A `null` body takes the kept one away.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retain: bool,
}

/// `participants`: a page of everybody who is there, also of those who are only counted.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct ParticipantsAfter {
    /// The participant after whom to go on: `next` of the page before. From the start when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// How many to tell, 1 to 500. 100 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u16>,
}

/// `moderate`. Answered `unsupported` by this version of the server.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct Moderate {
    pub action: ModerateAction,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub track: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModerateAction {
    Mute,
    Kick,
    Ban,
    Grant,
    Lock,
    Unlock,
    End,
}

/// `record`: has the room recorded, or no longer. Takes the grant `record`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct Record {
    pub action: RecordAction,
    /// For `start`: only these tracks, by id; 1 to 1024. All that there are and that will come when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracks: Option<Vec<String>>,
    /// For `start`: how `exedra compose` arranges a composite of the recording, unless it is told otherwise. Of whoever makes it begin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<RecordLayout>,
    /// For `stop`: also on behalf of the other participants who asked for it. Takes the grant `moderate` as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordAction {
    Start,
    Stop,
}

/// How the pictures of a composite are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordLayout {
    /// All alike.
    Grid,
    /// The shared screen is large, else who speaks.
    Speaker,
}

/// The data of a request or an answer that has none: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct Nothing {}
