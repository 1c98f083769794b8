//! What there is in a room, and the data of every answer.
use super::{Message, PublishLayers, Quality, SlotsNeed, SpeakerLevel, TrackState};
use crate::engine::api::PeerStats;
use crate::room::Grants;
use crate::room::messages::Source;
use crate::rtp::Kind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The answer to `hello`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    pub session: String,
    /// What `resume` needs, beside the session id.
    pub secret: String,
    /// The number of the last event that this answer already covers. Events follow from `seq + 1`.
    pub seq: u64,
    /// The session lived on. Without `snapshot` the missed events follow; with it, they are in it.
    pub resumed: bool,
    pub participant: String,
    /// Milliseconds between two pings. Whoever hears nothing for two of them closes.
    pub ping_ms: u64,
    /// Milliseconds for which a session waits to be resumed after its socket closed.
    pub grace_ms: u64,
    pub limits: ServerLimits,
    /// For `RTCPeerConnection`. Empty: the server needs none to be reached.
    pub ice_servers: Vec<IceServer>,
    /// The last `rev` taken for each connection; 0 for none.
    pub revs: Revs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
}

/// The bounds that a client can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServerLimits {
    /// Bytes of one frame of the socket.
    pub frame_bytes: usize,
    /// Tracks that a participant may publish.
    pub tracks: usize,
    /// Audio slots of a `sub` connection.
    pub audio_slots: usize,
    /// Video slots of a `sub` connection.
    pub video_slots: usize,
    /// Participants of a room.
    pub participants: usize,
    /// Bytes of the `body` of `say`, as JSON.
    pub say_bytes: usize,
    /// Bytes of one's attributes, as JSON.
    pub attributes_bytes: usize,
}

/// `RTCIceServer`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IceServer {
    pub urls: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// The last `rev` taken for each connection; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Revs {
    #[serde(rename = "pub")]
    pub publish: u64,
    #[serde(rename = "sub")]
    pub subscribe: u64,
}

/// The whole state of a room, as one participant may see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    pub room: Room,
    pub you: You,
    /// Everybody, yourself included; in a large room (`room.participants`) those on the list, and yourself.
    pub participants: Vec<Participant>,
    /// All that is published, yours included.
    pub tracks: Vec<Track>,
    pub slots: Slots,
    /// What `track.state` would have said. A track that is absent here and fills no slot is paused.
    #[serde(default)]
    pub states: Vec<TrackState>,
    /// What `publish.layers` said last of your tracks. For a track that is absent here all is wanted.
    #[serde(default)]
    pub layers: Vec<PublishLayers>,
    /// The last `speakers`.
    #[serde(default)]
    pub speakers: Vec<SpeakerLevel>,
    /// What `quality` said last of those with anything to wish for.
    #[serde(default)]
    pub quality: Vec<Quality>,
    /// Retained messages, one for each topic.
    pub messages: Vec<Message>,
    /// The recording that runs, if `room.recording` says that there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recording>,
}

/// A `sub` connection's slots.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Slots {
    pub need: SlotsNeed,
    /// Each slot that shows something.
    pub bindings: Vec<SlotBinding>,
}

/// What one slot shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotBinding {
    /// The m-line of `sub`.
    pub mid: String,
    /// The track, or null when it shows nothing.
    pub track: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
    pub why: super::Why,
}

/// An encoding, and a layer within it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Layer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spatial: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporal: Option<u8>,
}

/// The room itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    pub name: String,
    /// Nobody new may join.
    pub locked: bool,
    /// It is being recorded.
    pub recording: bool,
    /// Unix milliseconds.
    pub started_at_ms: u64,
    /// How many there are, in a room so large that those who only watch are counted and not told of one by one. Absent in
    /// a small room, where everybody is told of everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participants: Option<Population>,
}

/// Whether the room is recorded, at whose wish, and what of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Recording {
    pub state: RecordingState,
    /// Its name: what its files are found under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<String>,
    /// Unix milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_ms: Option<u64>,
    /// Who wants it: ids of participants, some of which may have left; `"admin"`, an operator; `"server"`, because this room
    /// is always recorded. It ends when none of them wants it any more, or when the last participant leaves.
    pub owners: Vec<String>,
    /// The tracks that are recorded. Absent: all, also those to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracks: Option<Vec<String>>,
    /// Who stopped it, written like an owner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<RecordingWhy>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RecordingState {
    /// It runs. Also said again when its owners or its tracks change.
    Started,
    /// There is none.
    #[default]
    Stopped,
    /// It ended by itself, or could not begin. It may be started again.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RecordingWhy {
    /// The server's disk is full, or what recordings may take of it is. What was recorded is kept.
    DiskFull,
    /// The server's disk does not write, or not fast enough. What was recorded is kept.
    DiskError,
    /// A room that is always recorded could not be recorded.
    Refused,
}

/// How many there are in a large room, told from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Population {
    /// Everybody, yourself included.
    pub total: usize,
    /// Of those, who publish nothing.
    pub viewers: usize,
}

/// Which of the participants you are, and what you may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct You {
    pub participant: String,
    pub grants: Grants,
}

/// Somebody in the room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    pub participant: String,
    pub name: String,
    /// Set by the participant: a raised hand, and so on.
    pub attributes: Map<String, Value>,
    /// Unix milliseconds.
    pub joined_at_ms: u64,
    pub connection: Connection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Connection {
    Live,
    /// Its socket or its network is gone. It leaves unless it comes back within `graceMs`.
    Lost,
}

/// Something that is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Track {
    pub track: String,
    /// Who publishes it.
    pub participant: String,
    pub source: Source,
    pub kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub muted: bool,
    /// It has several encodings.
    pub simulcast: bool,
}

/// The answer to `negotiate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Negotiated {
    pub rev: u64,
    /// The SDP answer.
    pub sdp: String,
    /// For `pub`: the track that each m-line became.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracks: Option<Vec<MidTrack>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct MidTrack {
    pub mid: String,
    pub track: String,
}

/// The answer to `participants`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantPage {
    /// In the order in which they joined.
    pub participants: Vec<Participant>,
    /// The `after` of the next page. Absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// How many there are altogether.
    pub total: usize,
}

/// The answer to `say`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Said {
    /// The number of the `message` event in the sender's own session.
    pub seq: u64,
}

/// The answer to `stats`: each connection that there is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stats {
    #[serde(rename = "pub", default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PeerStats>,
    #[serde(rename = "sub", default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<PeerStats>,
}
