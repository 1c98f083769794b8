//! What a client is told: the numbered events.
use super::state::{Layer, Participant, Recording, Room, SlotBinding, Track, You};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An event: on the wire also with `seq`, numbered from 1 without gaps in each session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// In a large room also: it did something for all to see, and is on the list from now on.
    #[serde(rename = "participant.joined")]
    ParticipantJoined(Participant),
    /// Another name, other attributes, lost, or back again: the whole participant.
    #[serde(rename = "participant.updated")]
    ParticipantUpdated(Participant),
    /// All its tracks were unpublished before. In a large room also: it left the list (`unlisted`).
    #[serde(rename = "participant.left")]
    ParticipantLeft(ParticipantLeft),
    /// One's own tracks are told too.
    #[serde(rename = "track.published")]
    TrackPublished(Track),
    /// Muted, unmuted or renamed: the whole track.
    #[serde(rename = "track.updated")]
    TrackUpdated(Track),
    #[serde(rename = "track.unpublished")]
    TrackUnpublished(TrackUnpublished),
    /// Offer `sub` again with at least that many recvonly m-lines. Never shrinks.
    #[serde(rename = "slots.need")]
    SlotsNeed(SlotsNeed),
    #[serde(rename = "slot.bind")]
    SlotBind(SlotBinding),
    #[serde(rename = "track.state")]
    TrackState(TrackState),
    #[serde(rename = "publish.layers")]
    PublishLayers(PublishLayers),
    /// Who speaks now, loudest first; empty when nobody does. For those who may subscribe.
    #[serde(rename = "speakers")]
    Speakers(Vec<SpeakerLevel>),
    /// Whose connections do better or worse now. In a large room: of those on the list, and oneself.
    #[serde(rename = "quality")]
    Quality(Vec<Quality>),
    #[serde(rename = "message")]
    Message(Message),
    /// The room is recorded, or no longer, or at another wish: the whole recording.
    #[serde(rename = "recording")]
    Recording(Recording),
    #[serde(rename = "room.updated")]
    RoomUpdated(Room),
    #[serde(rename = "you.updated")]
    YouUpdated(You),
    /// The last event: the server closes the socket.
    #[serde(rename = "bye")]
    Bye(Bye),
}

impl Event {
    /// Its `type`, if it is one that a recording keeps: what all were told, and not again and again.
    pub fn recorded_as(&self) -> Option<&'static str> {
        match self {
            Event::ParticipantJoined(_) => Some("participant.joined"),
            Event::ParticipantUpdated(_) => Some("participant.updated"),
            Event::ParticipantLeft(_) => Some("participant.left"),
            Event::TrackPublished(_) => Some("track.published"),
            Event::TrackUpdated(_) => Some("track.updated"),
            Event::TrackUnpublished(_) => Some("track.unpublished"),
            Event::Message(_) => Some("message"),
            Event::Recording(_) => Some("recording"),
            Event::RoomUpdated(_) => Some("room.updated"),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantLeft {
    pub participant: String,
    pub why: LeftWhy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LeftWhy {
    /// It said so.
    Left,
    /// Its connection was lost for longer than `graceMs`.
    Timeout,
    /// The same identity joined again.
    Replaced,
    Kicked,
    /// Its token expired.
    Expired,
    /// Its media connection failed, and it has no other (WHIP, WHEP).
    Failed,
    /// It is still there, silently: in a large room it is from now on only counted.
    Unlisted,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrackUnpublished {
    pub track: String,
    /// Who published it.
    pub participant: String,
}

/// How many receive slots of each kind are of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SlotsNeed {
    pub audio: usize,
    pub video: usize,
}

/// What you get of somebody's track. Said when it changes, of tracks that fill or filled one of your slots or that your
/// `view` lists; any other track is paused for want of a slot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrackState {
    pub track: String,
    pub state: TrackStateKind,
    /// What is forwarded, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
    pub why: Why,
    /// Bits a second that the next better state would take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need_bps: Option<u64>,
    /// Bits a second that there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub have_bps: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TrackStateKind {
    /// Packets are forwarded.
    Live,
    /// Nothing is forwarded for now.
    Paused,
    /// Nothing can be forwarded to this client.
    Unavailable,
}

/// Why a track is in its slot, out of it, or in its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// The `view` asks for it; of a paused track: the `view` does not ask for it, or paused it.
    View,
    /// It is, or is no longer, among the latest speakers that there are slots for.
    LastN,
    /// The `view` follows it.
    Follow,
    /// It is, or is no longer, on the room's stage (WHEP).
    Stage,
    /// Its publisher muted it.
    Muted,
    /// Nothing arrives from its publisher.
    Publisher,
    /// The client has no decoder for it.
    Codec,
    /// It was unpublished.
    Unpublished,
    /// The network does not carry it.
    Bandwidth,
}

/// What somebody has a use for. Send what is wanted (again) at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishLayers {
    /// One's own track.
    pub track: String,
    /// The rids of the encodings to send. Empty also for a track without simulcast.
    pub wanted: Vec<String>,
    /// Whether to send anything at all: false when nobody looks at it.
    #[serde(default = "active")]
    pub active: bool,
}

fn active() -> bool {
    true
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpeakerLevel {
    pub participant: String,
    /// 0 (silence, -127 dBov) to 1 (as loud as can be, 0 dBov), linear in dB.
    pub level: f32,
}

/// How well somebody's connections do. Of whom this was never said there is nothing to wish for, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quality {
    pub participant: String,
    /// What it sends: 0 (nothing arrives) to 5 (nothing to wish for).
    pub up: u8,
    /// What it receives: 0 (nothing arrives) to 5 (nothing to wish for).
    pub down: u8,
    pub why: QualityWhy,
}

/// What is worst about somebody's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QualityWhy {
    /// Nothing.
    Good,
    Loss,
    /// The round trip is long.
    Delay,
    /// The network does not carry all that is wanted.
    Bandwidth,
    /// Nothing arrives.
    Lost,
}

/// What somebody said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Who said it. It may have left since, when the message is a retained one.
    pub participant: String,
    /// The sender itself, when it is not one of those that all are told of (in a large room).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Participant>,
    /// To whom, when not to everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<String>>,
    pub topic: String,
    pub body: Value,
    pub retain: bool,
    /// Unix milliseconds.
    pub at_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bye {
    pub action: ByeAction,
    /// For people and logs: `replaced`, `expired`, `draining`, `media failed`.
    pub reason: String,
    /// Where to go, when that is elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ByeAction {
    /// Connect again and resume.
    Resume,
    /// Connect again and join anew.
    Rejoin,
    /// Do not come back by yourself.
    Stop,
}
