//! What crosses into the engine (`Command`) and out of it (`Event`).
pub use super::explain::DecisionLog;
use crate::ids::{Mid, PeerId, RecordingId, Rid, RoomId, ShardId, TrackId};
use crate::peer::config::PeerConfig;
use crate::rtp::{Codec, Kind};

/// A command to the engine. Commands are idempotent; one that names what does not exist does nothing.
#[derive(Clone, Debug)]
pub enum Command {
    /// A new association. The engine answers its ICE checks from now on.
    AddPeer {
        peer: PeerId,
        room: RoomId,
        config: Box<PeerConfig>,
    },
    /// The peer negotiated again: new m-lines, new slots, other directions; an ICE restart when `config.ice` differs.
    UpdatePeer {
        peer: PeerId,
        config: Box<PeerConfig>,
    },
    /// Forget it: its tracks end, its slots go. A DTLS close_notify is sent.
    RemovePeer {
        peer: PeerId,
    },
    /// What arrives on `mid` of `peer` is this track.
    Publish {
        track: TrackId,
        peer: PeerId,
        mid: Mid,
        kind: Kind,
    },
    Unpublish {
        track: TrackId,
    },
    /// Nothing of a muted track is forwarded.
    SetMuted {
        track: TrackId,
        muted: bool,
    },
    /// What slot `mid` of `peer` shows, and how it is looked at. A keyframe is asked for at once when it is video. The same track
    /// with another wish changes only what is chosen of it.
    Bind {
        peer: PeerId,
        mid: Mid,
        track: Option<TrackId>,
        wish: Wish,
    },
    /// A track of another shard that peers of this one are to get. `Unpublish` ends it.
    Mirror {
        track: TrackId,
        room: RoomId,
        kind: Kind,
        home: ShardId,
    },
    /// Whether the packets of a track of this shard go to shard `to`, which mirrors it.
    Relay {
        track: TrackId,
        to: ShardId,
        on: bool,
    },
    /// The packets of the track's best encoding go to a recording from now on, or no more. A track has at most one. While it has one it is
    /// of use whole, whoever looks at it.
    Record {
        track: TrackId,
        to: Option<RecordingId>,
    },
    /// A recording needs a keyframe of a track: `source` as its packets have it. Whoever asks sees to it that it does so rarely.
    Keyframe {
        track: TrackId,
        source: u64,
    },
    /// Answered by `Event::Stats` with the same token.
    Stats {
        peer: PeerId,
        token: u64,
    },
    /// Answered by `Event::Explained` with the same token.
    Explain {
        peer: PeerId,
        token: u64,
    },
}

/// What the engine has to say to the room.
#[derive(Clone, Debug)]
pub enum Event {
    /// ICE and DTLS are done: media can flow. Also after a loss of consent that ended.
    PeerConnected {
        room: RoomId,
        peer: PeerId,
    },
    /// No consent for 5 s or more (RFC 7675): the network is gone, perhaps for a while.
    PeerDisconnected {
        room: RoomId,
        peer: PeerId,
    },
    /// The association is of no more use: DTLS failed or was closed, or no consent came for 30 s. Send `RemovePeer`.
    PeerFailed {
        room: RoomId,
        peer: PeerId,
        why: PeerFailure,
    },
    /// Packets of this track arrive, with this codec; `encodings` are the rids that are live now (empty without simulcast).
    TrackLive {
        room: RoomId,
        track: TrackId,
        codec: Codec,
        encodings: Vec<Rid>,
    },
    /// Nothing of this track has arrived for 2 s although it is not muted.
    TrackStalled {
        room: RoomId,
        track: TrackId,
    },
    /// What a slot does now. Said when it changes.
    SlotState {
        room: RoomId,
        peer: PeerId,
        mid: Mid,
        track: TrackId,
        report: SlotReport,
    },
    /// The encodings of a track that are of use to those who look at it, of those that were negotiated: nobody looks at the others. Said when
    /// it changes, by the shard of its publisher; a track of which it was never said is wanted whole.
    TrackWanted {
        room: RoomId,
        track: TrackId,
        rids: Vec<Rid>,
    },
    /// How well a peer's connection does. Said when it changes, at most every two seconds.
    Quality {
        room: RoomId,
        peer: PeerId,
        /// 0 (nothing arrives) to 5 (nothing to wish for).
        score: u8,
        why: QualityWhy,
    },
    /// The loudest tracks, loudest first, at most ten: said at most every 250 ms, when the list or a level changed.
    /// Empty when everybody fell silent.
    Speakers {
        room: RoomId,
        speakers: Vec<Speaker>,
    },
    Stats {
        room: RoomId,
        peer: PeerId,
        token: u64,
        stats: Box<PeerStats>,
    },
    /// The last decisions for a peer.
    Explained {
        room: RoomId,
        peer: PeerId,
        token: u64,
        log: Box<DecisionLog>,
    },
    /// A panic was contained: the engine has forgotten every peer of this room.
    RoomFailed {
        room: RoomId,
    },
}

impl Event {
    /// The room whose business this is.
    pub fn room(&self) -> RoomId {
        match self {
            Event::PeerConnected { room, .. }
            | Event::PeerDisconnected { room, .. }
            | Event::PeerFailed { room, .. }
            | Event::TrackLive { room, .. }
            | Event::TrackStalled { room, .. }
            | Event::SlotState { room, .. }
            | Event::TrackWanted { room, .. }
            | Event::Quality { room, .. }
            | Event::Speakers { room, .. }
            | Event::Stats { room, .. }
            | Event::Explained { room, .. }
            | Event::RoomFailed { room } => *room,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerFailure {
    /// No ICE check came within 30 s of the answer.
    NeverConnected,
    /// No consent for 30 s.
    ConsentExpired,
    /// The DTLS handshake failed, or the certificate is not the one of the SDP.
    Dtls,
    /// The peer said close_notify.
    Closed,
}

/// How a slot is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Wish {
    /// In device pixels. 0 where it is not known: the best there is.
    pub width: u16,
    pub height: u16,
    /// Frames a second that are of use; `None`: all.
    pub fps: Option<f32>,
    /// The higher, the more important when not everything fits.
    pub priority: i32,
    /// It is on the stage: before all that is not, whatever their priorities.
    pub stage: bool,
    /// A shared screen: sharpness before frame rate.
    pub screen: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Bound, and nothing forwarded yet: waits for the publisher, or for its keyframe.
    Waiting,
    /// Packets are forwarded.
    Live,
    /// The network does not carry it.
    Paused,
    /// The peer negotiated no payload type for the codec of the track.
    NoCodec,
}

/// What a slot does, and why not more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotReport {
    pub state: SlotState,
    /// What is forwarded. `None` while nothing is, and for audio.
    pub layer: Option<ChosenLayer>,
    /// What keeps it from a better layer.
    pub limit: Limit,
    /// Bits a second that the next better layer would take; `None` when bandwidth is not what is missing.
    pub need_bps: Option<u64>,
    /// Bits a second that there are for it; `None` when bandwidth is not what is missing.
    pub have_bps: Option<u64>,
}

impl SlotReport {
    /// Nothing is known but the state.
    pub fn plain(state: SlotState) -> Self {
        Self { state, layer: None, limit: Limit::Publisher, need_bps: None, have_bps: None }
    }
}

/// An encoding, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenLayer {
    /// `None` without simulcast.
    pub rid: Option<Rid>,
    /// The highest spatial layer that is forwarded; `None` where the encoding has only one.
    pub spatial: Option<u8>,
    /// The highest temporal layer that is forwarded; `None` where the encoding has only one.
    pub temporal: Option<u8>,
}

/// What keeps a slot from a better layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The publisher sends none.
    Publisher,
    /// It would be of no use: the picture is shown smaller, or slower, or not at all.
    View,
    /// The network does not carry it.
    Bandwidth,
}

/// What is worst about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QualityWhy {
    /// Nothing.
    Good,
    Loss,
    /// The round trip is long.
    Delay,
    /// Less is sent than is wanted, for want of bandwidth.
    Bandwidth,
    /// Nothing arrives.
    Silence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    pub track: TrackId,
    /// Smoothed level in dB below full scale: 0 is loudest, 127 silence (RFC 6464).
    pub level: u8,
}

/// What the server knows of one connection.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerStats {
    pub connected: bool,
    /// The negotiated SRTP profile, as RFC 5764 and RFC 7714 name it.
    pub srtp_profile: Option<String>,
    /// The address that media goes to and comes from.
    pub remote_address: Option<String>,
    /// Round-trip time in milliseconds, from receiver reports.
    pub rtt_ms: Option<f64>,
    pub datagrams_in: u64,
    pub bytes_in: u64,
    pub datagrams_out: u64,
    pub bytes_out: u64,
    /// What its path carries, as far as media is sent to it.
    pub bandwidth: Option<BandwidthStats>,
    pub streams: Vec<StreamStats>,
}

/// The path to a subscriber: the estimate of it, and how it is shared out.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BandwidthStats {
    /// Bits a second of whole datagrams that it is taken to carry. Absent while the client says nothing that an estimate could be
    /// made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate_bps: Option<u64>,
    /// What of that is allotted, audio included; and what would be if it carried all that is of use.
    pub allocated_bps: u64,
    pub wanted_bps: u64,
    /// What arrives, by transport-wide feedback.
    pub acked_bps: u64,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// How long the last packet waited on its way.
    pub queue_delay_ms: f64,
    /// Bytes that wait here for their turn.
    pub queued_bytes: u64,
    /// What keeps the estimate where it is: start, delay, loss, application, remb, silence, nothing.
    pub limited_by: String,
    /// A probe for more is being made.
    pub probing: bool,
}

/// A layer within an RTP stream; `None` where there is only one.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LayerStats {
    pub rid: Option<String>,
    pub spatial: Option<u8>,
    pub temporal: Option<u8>,
}

/// One RTP stream of a connection: received from a publisher, or sent on a slot.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StreamStats {
    pub mid: String,
    pub track: Option<String>,
    pub rid: Option<String>,
    pub codec: Option<String>,
    pub ssrc: u32,
    pub packets: u64,
    pub bytes: u64,
    /// Packets lost for good (received stream), or reported lost by the subscriber (sent stream).
    pub lost: u64,
    /// Packets that came or went as a retransmission.
    pub retransmitted: u64,
    pub nacks: u64,
    /// Keyframe requests sent to the publisher, or received from the subscriber.
    pub keyframe_requests: u64,
    /// Interarrival jitter in milliseconds (RFC 3550 section 6.4.1).
    pub jitter_ms: f64,
    /// Bits a second over about two seconds.
    pub bitrate_bps: u64,
    /// Of video that is received: the size of the largest pictures, and frames a second.
    pub width: Option<u16>,
    pub height: Option<u16>,
    pub fps: Option<f64>,
    /// Of a slot: what it shows, and what it is to show.
    pub layer: Option<LayerStats>,
    pub target: Option<LayerStats>,
    /// Of a slot: waiting, live, paused, noCodec.
    pub state: Option<String>,
    /// Of a slot: what keeps it from a better layer: publisher, view, bandwidth; and then the bits that it would take and those there are.
    pub limit: Option<String>,
    pub need_bps: Option<u64>,
    pub have_bps: Option<u64>,
}
