//! The media engine of one shard: commands and datagrams in, datagrams and events out. It does no I/O and reads no clock.
//!
//! The life of a packet, from one publisher to many subscribers:
//!
//! 1. [`Engine::handle_datagram`] finds the peer by the address (`demux`),
//! 2. `ingress` opens SRTP straight from the receive buffer into the stream's history and reads it once,
//! 3. [`Engine::flush`] collects, after the batch, which subscribers have something to get (`fanout`),
//! 4. [`Forwarder::map`](crate::forward::Forwarder::map) gives the packet its numbers in the subscriber's slot,
//! 5. [`egress::segments`](crate::egress::segments) joins packets of nearly equal size into one send,
//! 6. `fanout` writes the header, seals into the slab, and hands the run to the [`Sink`]: one system call.
mod allocate;
mod announce;
pub mod api;
mod commands;
mod demand;
mod demux;
pub mod explain;
mod fanout;
mod hold;
mod ingress;
mod layers;
mod meter;
mod outgoing;
mod peer;
mod quality;
mod record;
pub mod relay;
mod reports;
mod rtcp_in;
mod speakers;
mod stats;
mod stream;
mod timers;
mod told;

pub use crate::peer::Path;
pub use api::{Command, Event};

use crate::egress::pacer::Item;
use crate::egress::segments::Job;
use crate::ids::{PeerId, RecordingId, Rid, RoomId, ShardId, TrackId};
use crate::metrics::{DropReason, ShardMetrics};
use crate::peer::LocalIdentity;
use crate::rtp::codec::{Codec, Kind};
use crate::rtp::history::HistoryBudget;
use peer::Peer;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use relay::{Place, RelayBatch};
use rustc_hash::FxHashMap;
use slab::Slab;
use smallvec::SmallVec;
use speakers::RoomMedia;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stream::ReceiveStream;
use timers::{Timer, Timers};

/// Deadlines further away than this are put on a grid of [`COARSE_MS`].
const COARSE_FROM: Duration = Duration::from_millis(400);
const COARSE_MS: u64 = 50;

/// See [`Engine::is_idle`]: with fewer peers it saves nothing.
const IDLE_AFTER: Duration = Duration::from_secs(1);
const IDLE_PEERS: usize = 100;

/// Datagrams for one path, to be sent in one call where the kernel can.
#[derive(Clone, Copy, Debug)]
pub struct Transmit<'a> {
    pub path: Path,
    pub contents: &'a [u8],
    /// If set, `contents` is several datagrams of this size, the last perhaps shorter.
    pub segment_size: Option<usize>,
}

/// Takes what the engine sends.
pub trait Sink {
    fn transmit(&mut self, transmit: Transmit<'_>);
    /// Hands a batch to another shard, and leaves an empty one in its place. False if that shard can take none now. Only called
    /// by an engine that is one of several.
    fn relay(&mut self, _to: ShardId, _batch: &mut Box<RelayBatch>) -> bool {
        false
    }
    /// Hands packets to a recording, and leaves an empty batch in the place of this one. False if it can take none now.
    fn record(&mut self, _to: RecordingId, _batch: &mut Box<RelayBatch>) -> bool {
        false
    }
}

/// The engine of one shard. See the module's documentation.
pub struct Engine {
    metrics: Arc<ShardMetrics>,
    identity: LocalIdentity,
    rng: SmallRng,
    /// One moment on both clocks: ours, and NTP time (32.32 fixed point).
    epoch: (Instant, u64),
    max_segments: usize,
    peers: Slab<Peer>,
    peer_ids: FxHashMap<PeerId, usize>,
    /// Keys that the network chooses, so std's seeded hasher.
    paths: HashMap<(u8, SocketAddr), Place>,
    ufrags: HashMap<Box<str>, Place>,
    shard: ShardId,
    /// What each shard is to have after this turn; none if this one is alone.
    #[expect(clippy::vec_box, reason = "a batch goes to another thread as it is, and an empty one takes its place")]
    relays: Vec<Box<RelayBatch>>,
    streams: Slab<ReceiveStream>,
    histories: HistoryBudget,
    generation: u32,
    tracks: Slab<Track>,
    track_ids: FxHashMap<TrackId, usize>,
    rooms: FxHashMap<RoomId, RoomMedia>,
    recordings: record::Recordings,
    timers: Timers,
    /// When the last media packet came, from a publisher or from another shard.
    last_media: Option<Instant>,
    events: VecDeque<Event>,
    batch: Batch,
    /// What removed peers still have to say.
    farewells: Vec<(Path, Vec<u8>)>,
    /// The room whose packet is being worked on: whose fault a panic is.
    at_work: Option<RoomId>,
}

/// A published track: what is received on one m-line, and who gets it.
struct Track {
    id: TrackId,
    room: RoomId,
    owner: Owner,
    kind: Kind,
    muted: bool,
    /// Indices of its streams: one, or one for each encoding that has appeared.
    streams: Vec<usize>,
    /// The best stream that is live: what is forwarded of audio, and what the track is known by.
    best: Option<usize>,
    /// Slots that show it: peer and slot index.
    subscribers: Vec<(usize, usize)>,
    /// Shards that have subscribers of it, and get its packets.
    mirrors: SmallVec<[ShardId; 4]>,
    /// When its layers are looked at next, if packets come; and what there was of them.
    review_at: Option<Instant>,
    shape: u64,
    /// What there is use for here, and on shards that mirror it; what was last said of it.
    need: demand::Need,
    needs: SmallVec<[(ShardId, demand::Need); 2]>,
    wanted: Option<Vec<Rid>>,
    demand_due: bool,
    /// What was last told by `Event::TrackLive`; `None` after `TrackStalled`.
    told: Option<(Codec, usize)>,
    level: speakers::Level,
    /// Where it is recorded.
    recorded: Option<record::Recorded>,
}

/// Who publishes a track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    /// The peer at this index.
    Peer(usize),
    /// A peer of another shard: this is a mirror.
    Shard(ShardId),
}

impl Track {
    fn new(id: TrackId, room: RoomId, kind: Kind, owner: Owner) -> Self {
        Self {
            id,
            room,
            owner,
            kind,
            muted: false,
            streams: Vec::new(),
            best: None,
            subscribers: Vec::new(),
            mirrors: SmallVec::new(),
            review_at: None,
            shape: 0,
            need: demand::Need::Nothing,
            needs: SmallVec::new(),
            wanted: None,
            demand_due: false,
            told: None,
            level: speakers::Level::default(),
            recorded: None,
        }
    }
}

/// Scratch that is kept from batch to batch, so that a packet allocates nothing.
#[derive(Default)]
struct Batch {
    /// Streams with fresh packets.
    streams: Vec<usize>,
    /// Those of them that go with this flush.
    due: Vec<usize>,
    /// When the first of the others is to go.
    held_until: Option<Instant>,
    /// Peers with something to send.
    peers: Vec<usize>,
    jobs: Vec<Job<fanout::Source>>,
    items: Vec<Item<Job<fanout::Source>>>,
    slab: Vec<u8>,
    opened: Vec<u8>,
    board: allocate::Board,
    /// Tracks whose demand has changed.
    demands: Vec<usize>,
    rtcp: Vec<u8>,
    sequences: Vec<crate::rtp::SeqNo>,
}

impl Engine {
    /// `ntp` is the NTP time at `now` (32.32 fixed point); `max_segments` is how many datagrams one send may carry.
    pub fn new(
        now: Instant,
        ntp: u64,
        seed: u64,
        identity: LocalIdentity,
        metrics: Arc<ShardMetrics>,
        max_segments: usize,
    ) -> Self {
        Self {
            metrics,
            identity,
            rng: SmallRng::seed_from_u64(seed),
            epoch: (now, ntp),
            max_segments: max_segments.max(1),
            peers: Slab::new(),
            peer_ids: FxHashMap::default(),
            paths: HashMap::new(),
            ufrags: HashMap::new(),
            shard: ShardId(0),
            relays: Vec::new(),
            streams: Slab::new(),
            histories: HistoryBudget::default(),
            generation: 0,
            tracks: Slab::new(),
            track_ids: FxHashMap::default(),
            rooms: FxHashMap::default(),
            recordings: record::Recordings::default(),
            timers: Timers::default(),
            last_media: None,
            events: VecDeque::new(),
            batch: Batch { slab: vec![0; fanout::SLAB], opened: vec![0; ingress::MAX_PACKET], ..Batch::default() },
            farewells: Vec::new(),
            at_work: None,
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called; a call too early does no harm.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.batch.held_until).min()
    }

    /// Does what is due. Call [`flush`](Self::flush) after it.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, timer)) = self.timers.pop_due(now) {
            match timer {
                Timer::Peer(index) => {
                    let Some(peer) = self.peers.get_mut(index) else { continue };
                    if peer.armed != Some(at) {
                        continue;
                    }
                    peer.armed = None;
                    self.at_work = Some(peer.room);
                    peer.association.handle_timeout(now);
                    if let Some(outgoing) = &mut peer.outgoing {
                        outgoing.bandwidth.handle_timeout(now);
                    }
                    self.follow_estimate(now, index, false);
                    self.handle_association(now, index);
                    if self.peers[index].review_due.is_some_and(|at| at <= now) {
                        self.review_streams(now, index);
                    }
                    self.touch(index);
                }
                Timer::Pacer(index) => self.pacer_due(at, index),
                Timer::Room(room) => {
                    self.at_work = Some(room);
                    self.review_speakers(now, room);
                }
                Timer::Recording(index) => self.recordings.handle_timeout(at, index),
            }
        }
        self.at_work = None;
    }

    /// True while many are connected and nobody sends media: what comes then are consent checks and reports, which may wait for a
    /// few milliseconds and for each other.
    pub fn is_idle(&self, now: Instant) -> bool {
        let silent = self.last_media.is_none_or(|at| now.saturating_duration_since(at) >= IDLE_AFTER);
        silent && self.peers.len() >= IDLE_PEERS
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// After a panic in one of the calls above: forgets the room that was being worked on, and says so by `RoomFailed`.
    pub fn contain_panic(&mut self, now: Instant) {
        self.metrics.panics.add(1);
        if self.batch.opened.len() < ingress::MAX_PACKET {
            self.batch.opened = vec![0; ingress::MAX_PACKET]; // It was taken out while it was read.
        }
        // Whatever the batch was in the middle of is lost. All streams are looked through: a flush had taken the list of those
        // with fresh packets, and one that kept some would never be put on it again.
        self.batch.streams.clear();
        self.batch.held_until = None;
        self.batch.due.clear();
        for (_, stream) in &mut self.streams {
            stream.fresh.clear();
            stream.hold.release();
        }
        for index in std::mem::take(&mut self.batch.peers) {
            if let Some(peer) = self.peers.get_mut(index) {
                peer.pending.clear();
                peer.listed = false;
            }
        }
        let Some(room) = self.at_work.take() else { return };
        let members: Vec<PeerId> = self.peers.iter().filter(|(_, p)| p.room == room).map(|(_, p)| p.id).collect();
        tracing::error!(%room, peers = members.len(), "a panic was contained to this room");
        for peer in members {
            self.handle_command(now, Command::RemovePeer { peer });
        }
        let mirrors: Vec<TrackId> = self.tracks.iter().filter(|(_, t)| t.room == room).map(|(_, t)| t.id).collect();
        mirrors.into_iter().for_each(|track| self.unpublish(track));
        self.rooms.remove(&room);
        self.events.push_back(Event::RoomFailed { room });
    }

    fn drop_packet(&self, reason: DropReason) {
        self.metrics.drop_packet(reason);
    }

    /// Notes that something happened to this peer: it may have something to send, or another deadline.
    fn touch(&mut self, index: usize) {
        if let Some(peer) = self.peers.get_mut(index) {
            peer.stirred = true;
        }
        self.list(index);
    }

    /// The peer may have packets to send, and nothing else has happened to it.
    fn list(&mut self, index: usize) {
        if let Some(peer) = self.peers.get_mut(index).filter(|peer| !peer.listed) {
            peer.listed = true;
            self.batch.peers.push(index);
        }
    }

    /// Puts the peer's next deadline into the timer queue, if it is earlier than the one that stands there.
    fn arm(&mut self, now: Instant, index: usize) {
        let Some(at) = self.deadline(now, index).map(|at| self.coarse(now, at)) else { return };
        let Some(peer) = self.peers.get_mut(index) else { return };
        if peer.armed.is_none_or(|armed| at < armed) {
            peer.armed = Some(at);
            self.timers.arm(at, Timer::Peer(index));
        }
    }

    /// What is far away may come a little later, together with others: a thousand silent peers do not wake the thread a thousand times.
    fn coarse(&self, now: Instant, at: Instant) -> Instant {
        if at.saturating_duration_since(now) < COARSE_FROM {
            return at;
        }
        let since = at.saturating_duration_since(self.epoch.0).as_millis() as u64;
        self.epoch.0 + Duration::from_millis((since / COARSE_MS + 1) * COARSE_MS)
    }

    fn random_u16(&mut self) -> u16 {
        self.rng.random()
    }

    /// NTP time at `now`.
    fn ntp(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.epoch.0);
        let fraction = ((u128::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000) as u64;
        self.epoch.1.wrapping_add(elapsed.as_secs() << 32).wrapping_add(fraction)
    }
}
