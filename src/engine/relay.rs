//! One room on many shards: what the shards of a server say to each other.
//!
//! A peer lives on one shard, and a track on that of its publisher. A shard with subscribers of another's track keeps a mirror
//! of it: streams with histories of their own, filled from relayed packets, so that fan-out, repair and late joins are the
//! business of the subscriber's shard alone. A packet is opened once, and handed over once to each shard, not to each subscriber.
//!
//! All shards listen on one port (SO_REUSEPORT), and the kernel chooses which of them gets a datagram. The shard that
//! gets one for another's peer hands it over: shards tell each other their peers' user name fragments and paths.
use super::demand::Need;
use super::meter::Hint;
use super::stream::{ReceiveStream, StoredInfo};
use super::{Engine, Owner, Sink, Track};
use crate::forward::StreamKey;
use crate::ids::{Rid, RoomId, ShardId, TrackId};
use crate::metrics::DropReason;
use crate::peer::Path;
use crate::rtp::SeqNo;
use crate::rtp::codec::{Codec, Kind};
use crate::rtp::history::HistoryBudget;
use crate::rtp::packet::PacketInfo;
use std::time::Instant;

/// Media and datagrams that one batch may carry. Beyond it packets are dropped, by name.
const MAX_BYTES: usize = 4 << 20;
const MAX_PACKETS: usize = 8_192;
/// Streams of one mirrored track: encodings, and those that replaced them. The one that was silent for longest goes.
const MAX_MIRRORED: usize = 8;

/// Where a peer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    /// On this shard, at this index.
    Here(usize),
    There(ShardId),
}

/// What one shard hands to another after a turn. Its buffers are kept: once grown, a batch allocates nothing.
#[derive(Debug, Default)]
pub struct RelayBatch {
    pub from: ShardId,
    controls: Vec<Control>,
    /// Datagrams for peers of the other shard: where they came from, and how long they are.
    datagrams: Vec<(Path, usize)>,
    sections: Vec<Section>,
    packets: Vec<RelayedPacket>,
    /// The datagrams, one behind the other.
    datagram_bytes: Vec<u8>,
    /// The packets, one behind the other.
    packet_bytes: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Control {
    Ufrag { ufrag: Box<str>, known: bool },
    Path { path: Path, known: bool },
    Keyframe { track: TrackId, stream: StreamKey },
    Need { track: TrackId, need: Need },
}

/// Packets of one stream that follow each other.
#[derive(Debug)]
struct Section {
    track: TrackId,
    stream: StreamKey,
    rid: Option<Rid>,
    codec: Codec,
    /// The home shard forwards this stream of the track.
    best: bool,
    /// What the home shard measured of it.
    hint: Hint,
    packets: usize,
}

/// A packet in a batch, for those who are no shard.
#[derive(Clone, Copy, Debug)]
pub struct RelayedMedia<'a> {
    pub track: TrackId,
    /// Which of the streams that make up the track it is of.
    pub source: u64,
    pub seq: SeqNo,
    pub info: &'a PacketInfo,
    /// When what it carries was captured, on our clock.
    pub captured_at: Instant,
    /// The whole packet, from the RTP header on.
    pub bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct RelayedPacket {
    seq: SeqNo,
    info: StoredInfo,
    len: usize,
}

impl RelayBatch {
    pub fn new(from: ShardId) -> Self {
        Self { from, ..Self::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.controls.is_empty() && self.datagrams.is_empty() && self.sections.is_empty()
    }

    /// Bytes of media in it.
    pub fn bytes(&self) -> usize {
        self.packet_bytes.len()
    }

    /// The packets in it, in the order in which they came.
    pub fn media(&self) -> impl Iterator<Item = RelayedMedia<'_>> {
        let mut rest = &self.packet_bytes[..];
        let of_each = self.sections.iter().flat_map(|section| std::iter::repeat_n(section, section.packets));
        of_each.zip(&self.packets).map_while(move |(section, packet)| {
            let (bytes, others) = rest.split_at_checked(packet.len)?;
            rest = others;
            Some(RelayedMedia {
                track: section.track,
                source: section.stream.into(),
                seq: packet.seq,
                info: &packet.info.packet,
                captured_at: packet.info.captured_at,
                bytes,
            })
        })
    }

    /// Datagrams and media packets in it.
    pub fn packets(&self) -> usize {
        self.datagrams.len() + self.packets.len()
    }

    /// Forgets everything, and keeps the buffers.
    pub fn clear(&mut self) {
        self.controls.clear();
        self.clear_packets();
    }

    fn clear_packets(&mut self) {
        self.datagrams.clear();
        self.sections.clear();
        self.packets.clear();
        self.datagram_bytes.clear();
        self.packet_bytes.clear();
    }

    /// A batch as an engine makes it, for the tests of those who get it.
    #[cfg(test)]
    pub(crate) fn of_media<'a>(from: ShardId, media: impl IntoIterator<Item = RelayedMedia<'a>>) -> Self {
        let mut batch = Self::new(from);
        for RelayedMedia { track, source, seq, info, captured_at, bytes } in media {
            let (stream, hint) = (source.into(), Hint::default());
            batch.sections.push(Section { track, stream, rid: None, codec: info.codec, best: true, hint, packets: 1 });
            batch.packets.push(RelayedPacket {
                seq,
                info: StoredInfo { packet: *info, captured_at },
                len: bytes.len(),
            });
            batch.packet_bytes.extend_from_slice(bytes);
        }
        batch
    }

    fn has_room(&self, len: usize) -> bool {
        let bytes = self.datagram_bytes.len() + self.packet_bytes.len() + len;
        bytes <= MAX_BYTES && self.packets() < MAX_PACKETS
    }

    fn push_datagram(&mut self, path: Path, datagram: &[u8]) -> Result<(), DropReason> {
        if !self.has_room(datagram.len()) {
            return Err(DropReason::RelayFull);
        }
        self.datagrams.push((path, datagram.len()));
        self.datagram_bytes.extend_from_slice(datagram);
        Ok(())
    }

    pub(super) fn push_control(&mut self, control: Control) {
        self.controls.push(control);
    }

    /// Begins a section.
    fn announce(&mut self, track: &Track, stream: &ReceiveStream, best: bool) {
        self.sections.push(Section {
            track: track.id,
            stream: stream.key,
            rid: stream.rid.clone(),
            codec: stream.codec,
            best,
            hint: stream.hint(),
            packets: 0,
        });
    }

    pub(super) fn push_packet(
        &mut self,
        track: &Track,
        stream: &ReceiveStream,
        best: bool,
        seq: SeqNo,
        info: &StoredInfo,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        if !self.has_room(bytes.len()) {
            return Err(DropReason::RelayFull);
        }
        let same = |s: &Section| s.track == track.id && s.stream == stream.key && s.best == best;
        if !self.sections.last().is_some_and(same) {
            self.announce(track, stream, best);
        }
        if let Some(section) = self.sections.last_mut() {
            section.packets += 1;
            if info.packet.frame.keyframe {
                section.hint = stream.hint(); // Its pictures may have other sizes than those before.
            }
        }
        self.packets.push(RelayedPacket { seq, info: *info, len: bytes.len() });
        self.packet_bytes.extend_from_slice(bytes);
        Ok(())
    }
}

impl Engine {
    /// Makes this engine shard `shard` of `shards`. To be called before anything else. Alone is what it is without this.
    pub fn on_shard(mut self, shard: ShardId, shards: usize) -> Self {
        self.shard = shard;
        self.relays = (0..shards).map(|_| Box::new(RelayBatch::new(shard))).collect();
        self
    }

    /// The memory that its histories share with those of other shards.
    pub fn within(mut self, histories: HistoryBudget) -> Self {
        self.histories = histories;
        self
    }

    /// Takes what another shard handed over. Call [`flush`](Self::flush) after it.
    pub fn handle_relay(&mut self, now: Instant, batch: &mut RelayBatch) {
        let from = batch.from;
        for control in batch.controls.drain(..) {
            self.handle_relay_control(now, from, control);
        }
        let mut rest = &batch.datagram_bytes[..];
        for &(path, len) in &batch.datagrams {
            let Some((datagram, others)) = rest.split_at_checked(len) else { break };
            rest = others;
            self.handle_handed_over(now, path, datagram);
        }
        let (mut packets, mut rest) = (&batch.packets[..], &batch.packet_bytes[..]);
        for section in &batch.sections {
            let Some((these, others)) = packets.split_at_checked(section.packets) else { break };
            packets = others;
            let len = these.iter().map(|p| p.len).sum();
            let Some((bytes, others)) = rest.split_at_checked(len) else { break };
            rest = others;
            if let Err(reason) = self.mirror_section(now, from, section, these, bytes) {
                these.iter().for_each(|_| self.drop_packet(reason));
            }
            self.at_work = None;
        }
    }

    /// Hands to the other shards what they are to have.
    pub(super) fn flush_relays(&mut self, sink: &mut impl Sink) {
        let Self { relays, metrics, .. } = self;
        for (to, batch) in relays.iter_mut().enumerate() {
            if batch.is_empty() {
                continue;
            }
            let packets = batch.packets();
            if sink.relay(ShardId(to as u16), batch) {
                metrics.relayed.add(packets as u64);
                metrics.relays.add(1);
            } else {
                // Media that waits is worth nothing; what the other shard has to know waits for the next flush.
                (0..packets).for_each(|_| metrics.drop_packet(DropReason::RelayFull));
                batch.clear_packets();
            }
        }
    }

    /// The datagram is for a peer of another shard.
    pub(super) fn hand_over(&mut self, to: ShardId, path: Path, datagram: &[u8]) -> Result<(), DropReason> {
        let batch = self.relays.get_mut(usize::from(to.0)).ok_or(DropReason::UnknownPeer)?;
        batch.push_datagram(path, datagram)
    }

    /// Copies the packet that was just committed for every shard that mirrors its track.
    pub(super) fn relay_packet(&mut self, track: usize, stream: usize, seq: SeqNo) {
        let (track, best) = (&self.tracks[track], self.tracks[track].best == Some(stream));
        let stream = &self.streams[stream];
        let Some(stored) = stream.history.packet(seq) else { return };
        for to in &track.mirrors {
            let Some(batch) = self.relays.get_mut(usize::from(to.0)) else { continue };
            if let Err(reason) = batch.push_packet(track, stream, best, seq, stored.meta, stored.bytes) {
                self.metrics.drop_packet(reason);
            }
        }
    }

    /// A shard begins or ends to mirror one of our tracks.
    pub(super) fn set_relay(&mut self, id: TrackId, to: ShardId, on: bool) {
        let Some(&index) = self.track_ids.get(&id) else { return };
        let track = &mut self.tracks[index];
        track.mirrors.retain(|shard| *shard != to);
        track.needs.retain(|(shard, _)| *shard != to);
        self.demand_changed(index);
        let track = &mut self.tracks[index];
        if !on || to == self.shard {
            return;
        }
        track.mirrors.push(to);
        // Who waits there is to know what to ask a keyframe of before the next packet comes.
        let Some(batch) = self.relays.get_mut(usize::from(to.0)) else { return };
        let newest = track.streams.iter().map(|at| self.streams[*at].last_arrival).max();
        for &at in &track.streams {
            let stream = &self.streams[at];
            if track.best == Some(at) || newest.is_some_and(|newest| stream.flows(newest)) {
                batch.announce(track, stream, track.best == Some(at));
            }
        }
    }

    /// Begins a mirror of another shard's track.
    pub(super) fn mirror(&mut self, id: TrackId, room: RoomId, kind: Kind, home: ShardId) {
        if home != self.shard && !self.track_ids.contains_key(&id) {
            let index = self.tracks.insert(Track::new(id, room, kind, Owner::Shard(home)));
            self.track_ids.insert(id, index);
        }
    }

    /// Asks the home shard of a mirrored stream for a keyframe, as often as the publisher would be asked.
    pub(super) fn ask_home(&mut self, now: Instant, home: ShardId, track: TrackId, at: usize) {
        let stream = &mut self.streams[at];
        let (Some(origin), Some(batch)) = (stream.origin, self.relays.get_mut(usize::from(home.0))) else { return };
        if stream.keyframes.is_due(now) {
            stream.keyframes.note_sent(now);
            batch.controls.push(Control::Keyframe { track, stream: origin });
        }
    }

    /// Tells all other shards where a peer is found, or no more.
    pub(super) fn announce_ufrag(&mut self, ufrag: &str, known: bool) {
        for batch in self.others() {
            batch.controls.push(Control::Ufrag { ufrag: ufrag.into(), known });
        }
    }

    pub(super) fn announce_path(&mut self, path: Path, known: bool) {
        for batch in self.others() {
            batch.controls.push(Control::Path { path, known });
        }
    }

    fn others(&mut self) -> impl Iterator<Item = &mut Box<RelayBatch>> {
        let own = usize::from(self.shard.0);
        self.relays.iter_mut().enumerate().filter(move |(at, _)| *at != own).map(|(_, batch)| batch)
    }

    fn handle_relay_control(&mut self, now: Instant, from: ShardId, control: Control) {
        let there = Place::There(from);
        match control {
            Control::Ufrag { ufrag, known: true } => drop(self.ufrags.insert(ufrag, there)),
            Control::Ufrag { ufrag, known: false } => {
                if self.ufrags.get(&ufrag) == Some(&there) {
                    self.ufrags.remove(&ufrag);
                }
            }
            // Somebody else may have had this address before: who passed a check from it last has it.
            Control::Path { path, known: true } => drop(self.paths.insert((path.socket, path.remote), there)),
            Control::Path { path, known: false } => {
                if self.paths.get(&(path.socket, path.remote)) == Some(&there) {
                    self.paths.remove(&(path.socket, path.remote));
                }
            }
            Control::Need { track, need } => self.handle_need(from, track, need),
            Control::Keyframe { track, stream: key } => {
                let Some(track) = self.track_ids.get(&track).and_then(|t| self.tracks.get(*t)) else { return };
                let (Owner::Peer(peer), false) = (&track.owner, track.muted) else { return };
                let peer = *peer;
                // An encoding that is gone: whoever asked will see the next one, and ask for that.
                if let Some(stream) = self.streams.get_mut(key.index as usize).filter(|s| s.key == key)
                    && stream.is_live(now)
                {
                    stream.keyframes.want();
                    self.touch(peer);
                }
            }
        }
    }

    fn mirror_section(
        &mut self,
        now: Instant,
        from: ShardId,
        section: &Section,
        packets: &[RelayedPacket],
        mut bytes: &[u8],
    ) -> Result<(), DropReason> {
        let &index = self.track_ids.get(&section.track).ok_or(DropReason::Unwanted)?;
        if !matches!(self.tracks[index].owner, Owner::Shard(home) if home == from) {
            return Err(DropReason::Unwanted);
        }
        self.at_work = Some(self.tracks[index].room);
        self.last_media = Some(now);
        let at = self.mirrored_stream(now, index, section);
        self.streams[at].meter.as_mut().into_iter().for_each(|meter| meter.hint(section.hint));
        for packet in packets {
            let Some((own, rest)) = bytes.split_at_checked(packet.len) else { break };
            bytes = rest;
            if let Err(reason) = self.mirror_packet(now, at, packet, own) {
                self.drop_packet(reason);
            }
        }
        if section.best && self.tracks[index].best != Some(at) {
            self.tracks[index].best = Some(at);
            self.aim_subscribers(now, index);
        }
        self.review_layers(now, index);
        // A request may have been lost on the way to the home shard.
        self.ask_home(now, from, section.track, at);
        Ok(())
    }

    /// The stream that stands for the home shard's.
    fn mirrored_stream(&mut self, now: Instant, track: usize, section: &Section) -> usize {
        let streams = &self.streams;
        let mut known = self.tracks[track].streams.iter().copied();
        if let Some(at) = known.find(|at| streams[*at].origin == Some(section.stream)) {
            return at;
        }
        if self.tracks[track].streams.len() >= MAX_MIRRORED {
            let oldest = self.tracks[track].streams.iter().copied().min_by_key(|at| streams[*at].last_arrival);
            oldest.into_iter().for_each(|at| self.forget_mirrored(at));
        }
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let entry = self.streams.vacant_entry();
        let at = entry.key();
        let key = StreamKey { index: at as u32, generation };
        let (origin, rid) = (section.stream, section.rid.clone());
        entry.insert(ReceiveStream::mirror(now, key, origin, section.codec, rid, track, &self.histories));
        self.tracks[track].streams.push(at);
        at
    }

    fn mirror_packet(
        &mut self,
        now: Instant,
        at: usize,
        packet: &RelayedPacket,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let stream = &mut self.streams[at];
        let space = stream.history.reserve(bytes.len());
        space.get_mut(..bytes.len()).ok_or(DropReason::TooLarge)?.copy_from_slice(bytes);
        stream.history.commit(packet.seq, bytes.len(), now, packet.info)?;
        stream.note_stored(now, packet.seq, &packet.info.packet, bytes.len());
        self.put_on_its_way(at, packet.seq)
    }

    pub(super) fn forget_mirrored(&mut self, at: usize) {
        self.detach_stream(at);
        self.streams.remove(at);
        self.batch.streams.retain(|&s| s != at);
    }
}
