//! What operators see: the answers of `/v1/admin`.
use super::{Layer, Participant, Quality, Room, Track, Why};
use crate::engine::api::PeerStats;
use crate::engine::explain::DecisionLog;
use crate::rtp::Kind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /v1/admin/rooms`: by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RoomList {
    pub rooms: Vec<RoomEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct RoomEntry {
    pub room: String,
    /// How many are in it, those of WHIP and WHEP included.
    pub participants: usize,
}

/// `GET /v1/admin/rooms/{room}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoomReport {
    pub room: Room,
    /// Everybody, in the order of joining.
    pub participants: Vec<ParticipantReport>,
    pub tracks: Vec<TrackReport>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ParticipantReport {
    #[serde(flatten)]
    pub participant: Participant,
    /// Who it is, by its token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    pub by: Door,
    /// Its `quality`, when there is anything to wish for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// It has said by a `view` what it looks at.
    pub view: bool,
    /// Slots that it offered, and those of them that show something.
    pub slots: usize,
    pub filled: usize,
}

/// How somebody came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Door {
    Socket,
    Whip,
    Whep,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TrackReport {
    #[serde(flatten)]
    pub track: Track,
    /// How many slots show it.
    pub watchers: usize,
    /// Nothing of it arrives.
    pub stalled: bool,
    /// What its publisher is asked to send: as `publish.layers` says it.
    pub wanted: Vec<String>,
    pub active: bool,
}

/// `GET /v1/admin/rooms/{room}/participants/{participant}/decisions`: what somebody is sent, and why not more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decisions {
    pub participant: String,
    /// Of the connection on which it receives: estimate, budget and streams among them.
    pub stats: PeerStats,
    /// Each slot that shows something.
    pub slots: Vec<SlotDecision>,
    /// The engine's last decisions, oldest first, with what they were made from.
    pub log: DecisionLog,
}

/// What a slot shows, how it is looked at, and what keeps it from more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotDecision {
    pub mid: String,
    pub kind: Kind,
    pub track: String,
    /// Why it is in the slot.
    pub why: Why,
    pub wish: Look,
    pub state: Showing,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
    /// What keeps it from a better layer.
    pub limit: Keeping,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub need_bps: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub have_bps: Option<u64>,
}

/// How a slot is looked at, as the engine was told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Look {
    /// In device pixels; 0 where it is not known.
    pub w: u16,
    pub h: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fps: Option<f32>,
    pub priority: i32,
    /// Before all that is not.
    pub stage: bool,
    /// A shared screen.
    pub screen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Showing {
    /// Nothing was forwarded yet.
    Waiting,
    Live,
    /// The network does not carry it.
    Paused,
    NoCodec,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Keeping {
    /// The publisher sends no better one.
    Publisher,
    /// A better one would be of no use.
    View,
    Bandwidth,
}
