//! From a publisher's SRTP packet to a packet in the history of its stream: opened once, read once.
use super::layers::REVIEW_INTERVAL;
use super::peer::{MAX_SSRCS, Peer, RepairStream, Source};
use super::record::Part;
use super::stream::{ReceiveStream, StoredInfo};
use super::{Engine, Track};
use crate::forward::StreamKey;
use crate::ids::Rid;
use crate::metrics::DropReason;
use crate::peer::config::{CodecParameters, ReceiveMedia};
use crate::peer::srtp::SsrcState;
use crate::rtp::codec::{self, Codec, FrameInfo, Kind};
use crate::rtp::dd::Structures;
use crate::rtp::extension::{AbsCaptureTime, AudioLevel, Extension, ExtensionMap};
use crate::rtp::header::Header;
use crate::rtp::packet::{ExtensionSpans, PacketInfo};
use crate::rtp::{PayloadType, SeqNo};
use std::time::{Duration, Instant};

/// Longer SRTP packets are dropped. An Ethernet frame carries 1,500 bytes.
pub(super) const MAX_PACKET: usize = 2_048;
/// A retransmission may be ahead of all that has come by so many packets: those before it are lost, too.
const MAX_REPAIR_AHEAD: u64 = 256;
/// The first receiver report: soon, so that the publisher knows its round trip.
const FIRST_REPORT: Duration = Duration::from_millis(500);

/// What a payload type of an m-line says of a packet.
enum Meaning<'a> {
    Media(&'a CodecParameters),
    Repair(&'a CodecParameters),
}

impl Engine {
    pub(super) fn handle_rtp(&mut self, now: Instant, index: usize, datagram: &[u8]) -> Result<(), DropReason> {
        if datagram.len() > MAX_PACKET {
            return Err(DropReason::TooLarge);
        }
        let header = Header::parse(datagram).map_err(|_| DropReason::RtpMalformed)?;
        let source = self.peers[index].ssrcs.iter().find(|(ssrc, _)| *ssrc == header.ssrc).map(|&(_, source)| source);
        match source {
            Some(Source::Media(stream)) => self.receive_media(now, index, stream, &header, datagram),
            Some(Source::Repair(repair)) => self.receive_repair(now, index, repair, &header, datagram),
            None => self.latch(now, index, &header, datagram),
        }
    }

    fn receive_media(
        &mut self,
        now: Instant,
        index: usize,
        at: usize,
        header: &Header,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let peer = &mut self.peers[index];
        let stream = &mut self.streams[at];
        let inbound = peer.association.inbound().ok_or(DropReason::SrtpBeforeKeys)?;
        let opened = stream.history.reserve(datagram.len());
        let (seq, len) = inbound.open_rtp(&mut stream.srtp, header.len, header.sequence, datagram, opened)?;
        self.note_arrival(now, index, at, header, datagram);
        let stream = &mut self.streams[at];
        let media = &self.peers[index].receive[stream.media];
        let Some(Meaning::Media(parameters)) = meaning(media, header.payload_type) else {
            return Err(DropReason::UnknownPayloadType);
        };
        stream.reception.handle_packet(now, seq, header.timestamp);
        stream.clock.handle_packet(now, header.timestamp);
        let codec = parameters.codec;
        let opened = &stream.history.reserved()[..len];
        let packet = read_packet(header, opened, codec, &media.extensions, &mut stream.dependency);
        if packet.is_err()
            && let Some(nack) = &mut stream.nack
        {
            nack.handle_packet(now, seq); // It is here, and would be no better a second time.
        }
        self.store(now, index, at, seq, len, packet?)
    }

    fn receive_repair(
        &mut self,
        now: Instant,
        index: usize,
        repair: usize,
        header: &Header,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let peer = &mut self.peers[index];
        let RepairStream { srtp, stream: at } = &mut peer.repairs[repair];
        let at = *at;
        let inbound = peer.association.inbound().ok_or(DropReason::SrtpBeforeKeys)?;
        let (_, len) = inbound.open_rtp(srtp, header.len, header.sequence, datagram, &mut self.batch.opened)?;
        self.note_arrival(now, index, at, header, datagram);
        self.store_repair(now, index, at, header, len)
    }

    /// The packet in `batch.opened` is a retransmission (RFC 4588 section 4): two bytes of original sequence number, then the payload.
    fn store_repair(
        &mut self,
        now: Instant,
        index: usize,
        at: usize,
        header: &Header,
        len: usize,
    ) -> Result<(), DropReason> {
        const OSN: usize = 2;
        let opened = self.batch.opened.get(..len).ok_or(DropReason::RtxMalformed)?;
        let range = header.payload_range(opened).map_err(|_| DropReason::RtxMalformed)?;
        if range.is_empty() {
            return Err(DropReason::Unwanted); // Padding that probes for bandwidth.
        }
        let payload = &opened[range];
        let (&osn, payload) = payload.split_first_chunk::<OSN>().ok_or(DropReason::RtxMalformed)?;
        let stream = &mut self.streams[at];
        let media = &self.peers[index].receive[stream.media];
        let Some(Meaning::Repair(parameters)) = meaning(media, header.payload_type) else {
            return Err(DropReason::UnknownPayloadType);
        };
        let seq = stream.extender.extend(u16::from_be_bytes(osn)).ok_or(DropReason::TooOld)?;
        // Nobody asks for what is far ahead; taken for true, it would make everything that is to come too old.
        if stream.extender.highest().is_some_and(|highest| seq.0 > highest.0 + MAX_REPAIR_AHEAD) {
            return Err(DropReason::RtxMalformed);
        }
        if stream.history.contains(seq) {
            return Err(DropReason::Duplicate);
        }
        let whole = header.len + payload.len();
        let space = stream.history.reserve(whole);
        space[..header.len].copy_from_slice(&opened[..header.len]);
        space[header.len..whole].copy_from_slice(payload);
        // The padding is gone with the payload range; the copy has none.
        let mut plain = *header;
        plain.has_padding = false;
        let codec = parameters.codec;
        let space = &stream.history.reserved()[..whole];
        let packet = read_packet(&plain, space, codec, &media.extensions, &mut stream.dependency)?;
        stream.repaired += 1;
        if let Some((_, asked)) = stream.nack_probe.take_if(|(probe, _)| *probe == seq) {
            let sample = now.saturating_duration_since(asked);
            let peer = &mut self.peers[index];
            peer.rtt = Some(peer.rtt.map_or(sample, |rtt| rtt * 7 / 8 + sample / 8));
        }
        self.store(now, index, at, seq, whole, packet)
    }

    /// Puts a packet that stands in the history's reserved space into the history, and on its way.
    fn store(
        &mut self,
        now: Instant,
        index: usize,
        at: usize,
        seq: SeqNo,
        len: usize,
        packet: PacketInfo,
    ) -> Result<(), DropReason> {
        let stream = &mut self.streams[at];
        let clock = &mut self.peers[index].clock;
        if let Some(value) = packet.extensions.value(Extension::AbsCaptureTime, stream.history.reserved())
            && let Ok(capture) = AbsCaptureTime::parse(value)
        {
            let ntp = capture.sender_ntp();
            clock.handle_capture(now, ntp);
            stream.clock.handle_capture(ntp, packet.timestamp);
        }
        let captured_at = stream.clock.captured_at(clock, packet.timestamp).unwrap_or(now);
        stream.history.commit(seq, len, now, StoredInfo { packet, captured_at })?;
        if let Some(nack) = &mut stream.nack {
            nack.handle_packet(now, seq);
        }
        let was_silent = !stream.is_live(now);
        stream.note_stored(now, seq, &packet, len);
        self.metrics.rtp_in.add(1);
        self.last_media = Some(now);
        let Some(track_index) = stream.track else { return Err(DropReason::Unwanted) };
        if was_silent || self.tracks[track_index].best.is_none() {
            self.choose_best(now, track_index);
        }
        self.review_layers(now, track_index);
        let Self { tracks, streams, .. } = self;
        let (track, stream) = (&mut tracks[track_index], &mut streams[at]);
        if !track.muted {
            note_level(track, stream, seq, now);
            let (room, kind, mirrored) = (track.room, track.kind, !track.mirrors.is_empty());
            if kind == Kind::Audio {
                self.note_audio(now, room);
            }
            if mirrored {
                self.relay_packet(track_index, at, seq);
            }
            if self.streams[at].recorded != Part::None {
                self.record_packet(now, track_index, at, seq);
            }
        }
        self.put_on_its_way(at, seq)
    }

    /// Sees to it that the packet goes to this shard's subscribers with the next flush.
    pub(super) fn put_on_its_way(&mut self, at: usize, seq: SeqNo) -> Result<(), DropReason> {
        let Self { tracks, streams, batch, .. } = self;
        let stream = &mut streams[at];
        let track = stream.track.and_then(|t| tracks.get(t)).ok_or(DropReason::Unwanted)?;
        if track.muted {
            return Err(DropReason::Muted);
        }
        if stream.fresh.is_empty() {
            batch.streams.push(at);
        }
        stream.fresh.push(seq);
        Ok(())
    }

    /// What every authentic packet counts into, whatever becomes of it: transport-wide feedback, and the time of reports.
    fn note_arrival(&mut self, now: Instant, index: usize, at: usize, header: &Header, datagram: &[u8]) {
        let peer = &mut self.peers[index];
        let media = &peer.receive[self.streams[at].media];
        if let Some(value) = media.extensions.id(Extension::TransportCc).and_then(|id| header.extension(datagram, id))
            && let Some(seq) = value.first_chunk::<2>()
        {
            peer.twcc.get_or_insert_default().record(now, u16::from_be_bytes(*seq));
        }
        peer.report_due.get_or_insert(now + FIRST_REPORT);
        peer.review_due.get_or_insert(now + REVIEW_INTERVAL);
        peer.association.alive(now);
        self.note_allocation(index, at, header, datagram);
        self.handle_association(now, index);
        self.touch(index);
    }

    /// The first packet of an SSRC: which m-line and encoding it is of (RFC 8843 section 9.2), once it has proved authentic.
    fn latch(&mut self, now: Instant, index: usize, header: &Header, datagram: &[u8]) -> Result<(), DropReason> {
        let peer = &mut self.peers[index];
        let inbound = peer.association.inbound().ok_or(DropReason::SrtpBeforeKeys)?;
        let mut srtp = SsrcState::default();
        let (seq, len) = inbound.open_rtp(&mut srtp, header.len, header.sequence, datagram, &mut self.batch.opened)?;
        if peer.ssrcs.len() >= MAX_SSRCS {
            return Err(DropReason::TooManySsrcs);
        }
        // An m-line that has the stream it declared takes no other for its own.
        let served = |at: usize| {
            let own = peer.streams().into_iter().map(|s| &self.streams[s]).filter(|s| s.media == at);
            own.into_iter().any(|s| peer.receive[at].ssrcs.iter().any(|d| d.ssrc == s.ssrc))
        };
        let at = media_of(&peer.receive, header, datagram, served).ok_or(DropReason::UnknownSsrc)?;
        let media = &peer.receive[at];
        match meaning(media, header.payload_type).ok_or(DropReason::UnknownPayloadType)? {
            Meaning::Media(parameters) => {
                let rid = label(media, header, datagram, Extension::Rid);
                let declared = media.ssrcs.iter().any(|d| d.ssrc == header.ssrc);
                if !media.rids.is_empty() && !rid.as_ref().is_some_and(|rid| media.rids.contains(rid)) && !declared {
                    return Err(DropReason::UnknownSsrc); // It says which encoding it is in a packet to come.
                }
                let (codec, nack) = (parameters.codec, parameters.feedback.nack);
                let stream = self.add_stream(now, index, at, header, codec, nack, rid);
                self.streams[stream].srtp = srtp;
                let space = self.streams[stream].history.reserve(len);
                space[..len].copy_from_slice(&self.batch.opened[..len]);
                self.note_arrival(now, index, stream, header, datagram);
                let s = &mut self.streams[stream];
                s.reception.handle_packet(now, seq, header.timestamp);
                s.clock.handle_packet(now, header.timestamp);
                let media = &self.peers[index].receive[at];
                let opened = &s.history.reserved()[..len];
                let packet = read_packet(header, opened, codec, &media.extensions, &mut s.dependency)?;
                self.store(now, index, stream, seq, len, packet)
            }
            Meaning::Repair(_) => {
                let stream = self.repaired_stream(index, at, header, datagram).ok_or(DropReason::UnknownSsrc)?;
                let peer = &mut self.peers[index];
                let repair = peer.repairs.insert(RepairStream { srtp, stream });
                peer.ssrcs.push((header.ssrc, Source::Repair(repair)));
                self.note_arrival(now, index, stream, header, datagram);
                self.store_repair(now, index, stream, header, len)
            }
        }
    }

    /// Which stream an RTX SSRC repairs: by repaired-rid, by `a=ssrc-group:FID`, or because there is only one.
    fn repaired_stream(&self, index: usize, at: usize, header: &Header, datagram: &[u8]) -> Option<usize> {
        let media = &self.peers[index].receive[at];
        let rid = label(media, header, datagram, Extension::RepairedRid)
            .or_else(|| label(media, header, datagram, Extension::Rid));
        let declared = media.ssrcs.iter().find(|d| d.rtx == Some(header.ssrc)).map(|d| d.ssrc);
        let own = self.peers[index].streams().into_iter().map(|stream| (stream, &self.streams[stream]));
        let mut streams = own.filter(|(_, s)| s.media == at);
        match (rid, declared) {
            (Some(rid), _) => streams.find(|(_, s)| s.rid.as_ref() == Some(&rid)),
            (None, Some(ssrc)) => streams.find(|(_, s)| s.ssrc == ssrc),
            (None, None) if media.rids.is_empty() => streams.next(),
            (None, None) => None,
        }
        .map(|(stream, _)| stream)
    }

    #[allow(clippy::too_many_arguments)]
    fn add_stream(
        &mut self,
        now: Instant,
        index: usize,
        media: usize,
        header: &Header,
        codec: Codec,
        nack: bool,
        rid: Option<Rid>,
    ) -> usize {
        // The same encoding under a new SSRC: the publisher started it anew. (Declared encodings without rids stay apart.)
        let simulcast = !self.peers[index].receive[media].rids.is_empty();
        let same = |s: &ReceiveStream| s.media == media && s.rid == rid && (rid.is_some() || !simulcast);
        let mut own = self.peers[index].streams().into_iter();
        let old = own.find(|at| same(&self.streams[*at]));
        let hint = old.map(|old| self.streams[old].hint());
        old.into_iter().for_each(|old| self.forget_stream(index, old));
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let entry = self.streams.vacant_entry();
        let stream = entry.key();
        let key = StreamKey { index: stream as u32, generation };
        let mut new = ReceiveStream::new(now, key, media, header.ssrc, codec, nack, &self.histories);
        new.rid = rid;
        if let (Some(meter), Some(hint)) = (&mut new.meter, hint) {
            meter.hint(hint); // It will be what it was.
        }
        entry.insert(new);
        self.peers[index].ssrcs.push((header.ssrc, Source::Media(stream)));
        if let Some(track) = self.peers[index].track_on(media) {
            self.attach_stream(now, stream, track);
        }
        stream
    }

    pub(super) fn forget_stream(&mut self, index: usize, stream: usize) {
        self.detach_stream(stream);
        self.streams.remove(stream);
        self.batch.streams.retain(|&s| s != stream);
        let peer = &mut self.peers[index];
        peer.repairs.retain(|_, repair| repair.stream != stream);
        let Peer { ssrcs, repairs, .. } = peer;
        ssrcs.retain(|(_, source)| match source {
            Source::Media(media) => *media != stream,
            Source::Repair(repair) => repairs.contains(*repair),
        });
    }
}

/// What a payload type means on this m-line.
fn meaning(media: &ReceiveMedia, payload_type: PayloadType) -> Option<Meaning<'_>> {
    media.codecs.iter().find_map(|parameters| {
        if parameters.payload_type == payload_type {
            Some(Meaning::Media(parameters))
        } else if parameters.rtx == Some(payload_type) {
            Some(Meaning::Repair(parameters))
        } else {
            None
        }
    })
}

/// The m-line of a packet: by its mid, by a declared SSRC, or because only one m-line has its payload type.
///
/// `served` says whether an m-line has the stream already that it declared. A packet that names an m-line, or comes for one, that
/// is negotiated but not yet known here must not be taken for another's of the same payload type.
fn media_of(
    receive: &[ReceiveMedia],
    header: &Header,
    datagram: &[u8],
    served: impl Fn(usize) -> bool,
) -> Option<usize> {
    let named =
        |media: &ReceiveMedia| media.extensions.id(Extension::Mid).and_then(|id| header.extension(datagram, id));
    let by_mid = receive.iter().position(|media| named(media) == Some(media.mid.as_str().as_bytes()));
    let declares =
        |media: &ReceiveMedia| media.ssrcs.iter().any(|d| d.ssrc == header.ssrc || d.rtx == Some(header.ssrc));
    let by_ssrc = || receive.iter().position(declares);
    let by_payload_type = || {
        if receive.iter().any(|media| named(media).is_some()) {
            return None;
        }
        let mut fitting =
            receive.iter().enumerate().filter(|(_, m)| m.active && meaning(m, header.payload_type).is_some());
        let (first, _) = fitting.next()?;
        (fitting.next().is_none() && !served(first)).then_some(first)
    };
    by_mid.or_else(by_ssrc).or_else(by_payload_type)
}

/// A rid that stands in a header extension.
fn label(media: &ReceiveMedia, header: &Header, datagram: &[u8], extension: Extension) -> Option<Rid> {
    let value = header.extension(datagram, media.extensions.id(extension)?)?;
    std::str::from_utf8(value).ok().and_then(|text| Rid::try_from(text).ok())
}

/// Reads an opened packet.
fn read_packet(
    header: &Header,
    opened: &[u8],
    codec: Codec,
    map: &ExtensionMap,
    dependency: &mut Structures,
) -> Result<PacketInfo, DropReason> {
    let range = header.payload_range(opened).map_err(|_| DropReason::RtpMalformed)?;
    let payload = opened.get(range).ok_or(DropReason::RtpMalformed)?;
    let mut extensions = ExtensionSpans::default();
    let mut descriptor = None;
    for (id, value) in header.extensions(opened) {
        let Some(extension) = map.extension(id) else { continue };
        if ExtensionSpans::is_passed_on(extension) {
            let offset = value.as_ptr() as usize - opened.as_ptr() as usize;
            extensions.push(extension, offset, value.len());
        }
        if extension == Extension::DependencyDescriptor {
            descriptor = dependency.parse(value).ok();
        }
    }
    // A packet without payload is padding: it keeps the numbers going.
    let frame = if payload.is_empty() {
        FrameInfo::default()
    } else {
        codec::describe(codec, payload, header.marker, descriptor.as_ref())
            .map_err(|_| DropReason::DescriptorMalformed)?
    };
    Ok(PacketInfo {
        timestamp: header.timestamp,
        marker: header.marker,
        codec,
        header_len: header.len as u16,
        payload_len: payload.len() as u16,
        frame,
        extensions,
    })
}

fn note_level(track: &mut Track, stream: &ReceiveStream, seq: SeqNo, now: Instant) {
    if track.kind != Kind::Audio {
        return;
    }
    let Some(stored) = stream.history.packet(seq) else { return };
    if let Some(value) = stored.meta.packet.extensions.value(Extension::AudioLevel, stored.bytes)
        && let Ok(level) = AudioLevel::parse(value)
    {
        track.level.add(now, level.level);
    }
}
