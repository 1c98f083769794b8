//! The records of a room: participants, their connections, their tracks.
use super::api::{Grants, HttpKind};
use super::demand::Demand;
use super::messages::{self as msg, Connection, Pc, SlotsNeed, Source};
use super::presence::Standing;
use super::quality::Health;
use super::session::Session;
use super::slots::{Candidate, Group, Slots, Wish};
use super::states::Told;
use crate::ids::{Mid, ParticipantId, PeerId, Rid, TrackId};
use crate::peer::negotiate::Negotiation;
use crate::rtp::Kind;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Somebody in the room.
#[derive(Debug)]
pub(super) struct Participant {
    pub id: ParticipantId,
    pub identity: Option<String>,
    pub name: String,
    pub attributes: Map<String, Value>,
    pub joined_at_ms: u64,
    pub grants: Grants,
    pub expires: Option<Instant>,
    pub origin: Origin,
    /// What was last told to the others.
    pub connection: Connection,
    /// Whether everybody is told of it.
    pub standing: Standing,
    pub health: Health,
    pub publisher: Publisher,
    pub subscriber: Subscriber,
}

/// How somebody came in.
#[derive(Debug)]
pub(super) enum Origin {
    Socket(Box<Session>),
    Http {
        kind: HttpKind,
        resource: String,
        /// WHEP: whom to show; None is the stage.
        show: Option<String>,
    },
}

/// What somebody sends.
#[derive(Debug, Default)]
pub(super) struct Publisher {
    pub link: Link,
    pub tracks: Vec<TrackId>,
    /// The m-lines that a `negotiate` listed at some time: those are withdrawn by no longer listing them.
    pub listed: BTreeSet<Mid>,
    /// When its connection failed, while its tracks wait for another.
    pub orphaned_until: Option<Instant>,
}

/// What somebody receives.
#[derive(Debug, Default)]
pub(super) struct Subscriber {
    pub link: Link,
    pub slots: Slots,
    pub wish: Option<Wish>,
    /// What `slots.need` last said.
    pub need: SlotsNeed,
    /// What `track.state` last said.
    pub states: BTreeMap<TrackId, Told>,
}

/// One of a participant's connections.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub peer: Option<PeerId>,
    pub negotiation: Option<Box<Negotiation>>,
    /// The last `rev` taken.
    pub rev: u64,
    /// Names the ICE session: our username fragment.
    pub etag: String,
    /// The engine said that its network is gone.
    pub down: bool,
}

impl Participant {
    pub fn session(&self) -> Option<&Session> {
        match &self.origin {
            Origin::Socket(session) => Some(session),
            Origin::Http { .. } => None,
        }
    }
    pub fn session_mut(&mut self) -> Option<&mut Session> {
        match &mut self.origin {
            Origin::Socket(session) => Some(session),
            Origin::Http { .. } => None,
        }
    }
    pub fn link(&self, pc: Pc) -> &Link {
        match pc {
            Pc::Pub => &self.publisher.link,
            Pc::Sub => &self.subscriber.link,
        }
    }
    pub fn link_mut(&mut self, pc: Pc) -> &mut Link {
        match pc {
            Pc::Pub => &mut self.publisher.link,
            Pc::Sub => &mut self.subscriber.link,
        }
    }

    /// Whether the others are to think that it is there.
    pub fn true_connection(&self) -> Connection {
        let socketless = self.session().is_some_and(|s| s.socket.is_none());
        let down = self.publisher.link.down || self.subscriber.link.down || self.publisher.orphaned_until.is_some();
        if socketless || down { Connection::Lost } else { Connection::Live }
    }

    pub fn message(&self) -> msg::Participant {
        msg::Participant {
            participant: self.id.to_string(),
            name: self.name.clone(),
            attributes: self.attributes.clone(),
            joined_at_ms: self.joined_at_ms,
            connection: self.connection,
        }
    }
    pub fn you(&self) -> msg::You {
        msg::You { participant: self.id.to_string(), grants: self.grants }
    }
}

/// Something that is published.
#[derive(Debug)]
pub(super) struct Track {
    pub id: TrackId,
    pub owner: ParticipantId,
    pub mid: Mid,
    pub kind: Kind,
    pub source: Source,
    pub name: Option<String>,
    pub muted: bool,
    /// The encodings that were negotiated. Empty without simulcast.
    pub rids: Vec<Rid>,
    /// Nothing of it arrives.
    pub stalled: bool,
    /// Whose slots show it.
    pub watchers: BTreeSet<ParticipantId>,
    /// What its publisher is asked to send of it.
    pub demand: Demand,
    /// Its publisher was asked to send it again, and has until then.
    pub waking_until: Option<Instant>,
}

impl Track {
    pub fn candidate(&self) -> Candidate {
        Candidate { track: self.id, owner: self.owner, group: Group::of(&self.source, self.id) }
    }

    pub fn message(&self) -> msg::Track {
        msg::Track {
            track: self.id.to_string(),
            participant: self.owner.to_string(),
            source: self.source.clone(),
            kind: self.kind,
            name: self.name.clone(),
            muted: self.muted,
            simulcast: !self.rids.is_empty(),
        }
    }

    /// What its publisher is to send.
    pub fn layers(&self) -> msg::PublishLayers {
        let wanted = self.demand.asked().map(Rid::to_string).collect();
        msg::PublishLayers { track: self.id.to_string(), wanted, active: self.demand.is_active() }
    }

    /// Nothing of it arrives, and that is not what was asked for.
    pub fn is_stalled(&self) -> bool {
        self.stalled && self.demand.is_active() && self.waking_until.is_none()
    }
}
