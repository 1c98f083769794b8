//! After a batch: each subscriber's packets, mapped, joined into runs, sealed, and handed out.
use super::api::SlotState;
use super::outgoing::{Stamp, Stamps};
use super::peer::{Peer, Repair, Slot};
use super::stream::ReceiveStream;
use super::{Batch, Engine, Sink, Transmit};
use crate::egress::pacer::Class;
use crate::egress::segments::{Job, MAX_PADDING};
use crate::forward::{self, Offsets, Origin, StreamKey};
use crate::metrics::DropReason;
use crate::peer::srtp::SrtpOutbound;
use crate::rtp::codec::{self, Codec, Kind};
use crate::rtp::dd;
use crate::rtp::extension::Extension;
use crate::rtp::header::HeaderWriter;
use crate::rtp::packet::PacketInfo;
use crate::rtp::{PayloadType, SeqNo};
use slab::Slab;
use std::time::Instant;

/// The slab that packets are sealed into, one run at a time.
pub(super) const SLAB: usize = 64 << 10;

/// Which packet a job sends, and as what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub slot: u32,
    pub stream: StreamKey,
    pub class: Class,
    pub stamp: Stamp,
    /// Nobody asked for it: it is sent to see whether the path carries it.
    pub probes: bool,
    header_len: u16,
    payload_type: PayloadType,
    seq: SeqNo,
    /// Number on the wire: of the slot's stream, or of its RTX stream.
    out: SeqNo,
    timestamp: u32,
    offsets: Offsets,
    marker: bool,
    /// Bytes of padding that it consists of, in place of a payload that is of no use.
    filler: u8,
    /// For a retransmission (RFC 4588): the number that the packet had.
    pub original: Option<u16>,
    /// Where in the stored packet the payload lies that goes out, and its length.
    payload: (u16, u16),
}

/// In place of a stream: padding that stands for no packet.
const NO_STREAM: StreamKey = StreamKey { index: u32::MAX, generation: 0 };

/// Padding that goes out in place of a packet that is of no use: as little as there can be.
const FILLER: u8 = 1;

impl Engine {
    /// Sends all there is to send. Call it after each batch of datagrams, after commands, and after `handle_timeout`.
    pub fn flush(&mut self, now: Instant, sink: &mut impl Sink) {
        for (path, datagram) in self.farewells.drain(..) {
            sink.transmit(Transmit { path, contents: &datagram, segment_size: None });
        }
        // Others wait for these, and what follows may take a while.
        self.flush_relays(sink);
        self.flush_recordings(sink);
        self.allocate_due(now);
        self.settle_demands();
        self.release_streams(now);
        self.collect_subscribers();
        // Peers may be touched while others are flushed (a keyframe is asked for): the list is walked by index.
        let mut next = 0;
        while let Some(&index) = self.batch.peers.get(next) {
            next += 1;
            self.flush_peer(now, index, sink);
        }
        self.batch.peers.clear();
        let Self { batch, streams, .. } = self;
        for stream in batch.due.drain(..) {
            if let Some(stream) = streams.get_mut(stream) {
                stream.fresh.clear();
            }
        }
        self.at_work = None;
        self.flush_relays(sink);
    }

    /// Chooses the streams whose packets go now; the others wait for more.
    fn release_streams(&mut self, now: Instant) {
        let Self { batch, streams, tracks, .. } = self;
        let Batch { streams: waiting, due, held_until, .. } = batch;
        *held_until = None;
        waiting.retain(|&at| {
            let Some(stream) = streams.get_mut(at) else { return false };
            let subscribers = stream.track.and_then(|t| tracks.get(t)).map_or(0, |t| t.subscribers.len());
            match stream.hold.until(now, stream.fresh.len(), subscribers) {
                Some(until) => {
                    *held_until = Some(held_until.map_or(until, |earliest| earliest.min(until)));
                    true
                }
                None => {
                    stream.hold.release();
                    due.push(at);
                    false
                }
            }
        });
    }

    /// Notes for each subscriber which of its slots have something to get.
    fn collect_subscribers(&mut self) {
        let Self { batch, streams, tracks, peers, metrics, .. } = self;
        for &at in &batch.due {
            let Some(stream) = streams.get(at) else { continue };
            let Some(track) = stream.track.and_then(|t| tracks.get(t)) else { continue };
            // Asked of everybody here, one right after the other: what `flush_peer` is to read of them comes into the cache, and the
            // processor waits for many of them at a time.
            for &(index, slot) in &track.subscribers {
                let Some(peer) = peers.get_mut(index) else { continue };
                if let Err(reason) = gets(peer, slot, stream) {
                    stream.fresh.iter().for_each(|_| metrics.drop_packet(reason));
                    continue;
                }
                peer.pending.push((slot as u32, at as u32));
                if !peer.listed {
                    peer.listed = true;
                    batch.peers.push(index);
                }
            }
        }
    }

    fn flush_peer(&mut self, now: Instant, index: usize, sink: &mut impl Sink) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        peer.listed = false;
        self.at_work = Some(peer.room);
        if peer.stirred {
            while let Some((path, datagram)) = peer.association.poll_transmit() {
                peer.counts.datagrams_out += 1;
                peer.counts.bytes_out += datagram.len() as u64;
                sink.transmit(Transmit { path, contents: &datagram, segment_size: None });
            }
        }
        let mut jobs = std::mem::take(&mut self.batch.jobs);
        self.collect_repairs(now, index, &mut jobs);
        self.collect_media(now, index, &mut jobs);
        self.pace(now, index, &mut jobs);
        self.send_jobs(now, index, &jobs, sink);
        jobs.clear();
        self.batch.jobs = jobs;
        // Media alone changes no deadline, and most peers most of the time have nothing else.
        if std::mem::take(&mut self.peers[index].stirred) {
            self.send_reports(now, index, sink);
            self.arm(now, index);
        }
    }

    fn collect_media(&mut self, now: Instant, index: usize, jobs: &mut Vec<Job<Source>>) {
        let mut pending = std::mem::take(&mut self.peers[index].pending);
        for &(slot, stream) in &pending {
            self.collect_slot(now, index, slot as usize, stream as usize, jobs);
        }
        pending.clear();
        let peer = &mut self.peers[index];
        peer.pending = pending;
        if !jobs.is_empty() && peer.report_due.is_none() {
            peer.report_due = Some(now);
            peer.stirred = true;
        }
    }

    fn collect_slot(&mut self, now: Instant, index: usize, at: usize, stream: usize, jobs: &mut Vec<Job<Source>>) {
        let Self { peers, streams, metrics, .. } = self;
        let peer = &mut peers[index];
        let Some(stream) = streams.get(stream) else { return };
        let Some(slot) = peer.slots.get_mut(at) else { return };
        let overhead = usize::from(peer.overhead);
        let (before, first_job) = (slot.told, jobs.len());
        for &seq in &stream.fresh {
            match plan(slot, at, stream, seq, overhead) {
                Ok((job, false)) => jobs.push(job),
                Ok((job, true)) => {
                    // A new source starts here. What followed it and came sooner is in the history already.
                    jobs.push(job);
                    let highest = stream.extender.highest().unwrap_or(seq);
                    let rest = (seq.0 + 1..=highest.0).map(SeqNo).filter(|s| stream.history.contains(*s));
                    let rest = rest.filter_map(|s| plan(slot, at, stream, s, overhead).ok());
                    jobs.extend(rest.map(|(job, _)| job));
                    break;
                }
                Err(reason) => {
                    metrics.drop_packet(reason);
                    if reason == DropReason::CodecNotNegotiated {
                        slot.told = Some(SlotState::NoCodec);
                    }
                }
            }
        }
        if jobs.len() > first_job {
            slot.told = Some(SlotState::Live);
        }
        slot.rate.add(now, jobs[first_job..].iter().map(|job| job.len).sum());
        let shown = slot.forwarder.current();
        if slot.told != before || slot.shown != shown {
            slot.shown = shown;
            shown.into_iter().for_each(|shown| self.note_shown(now, index, at, shown));
            self.report_slot(now, index, at);
        }
    }

    /// The packets that were asked for again.
    fn collect_repairs(&mut self, now: Instant, index: usize, jobs: &mut Vec<Job<Source>>) {
        let Self { peers, streams, metrics, .. } = self;
        let peer = &mut peers[index];
        if peer.repairs_due.is_empty() {
            return;
        }
        let Some(overhead) = peer.association.outbound().map(|o| o.profile().rtp_overhead()) else { return };
        let rtt = peer.rtt_or_default();
        let Some(allowed) = peer.outgoing.as_deref_mut().map(|o| &mut o.repairs) else { return };
        let mut repairs = std::mem::take(&mut peer.repairs_due);
        for repair in repairs.drain(..) {
            let slot = &mut peer.slots[repair.slot];
            let planned = plan_repair(now, slot, streams, repair, rtt, overhead);
            match planned.and_then(|job| allowed.spend(job.len).then_some(job).ok_or(DropReason::NackThrottled)) {
                Ok(job) => {
                    slot.repaired += 1;
                    metrics.retransmissions_out.add(1);
                    jobs.push(job);
                }
                Err(reason) => metrics.drop_packet(reason),
            }
        }
        peer.repairs_due = repairs;
    }
}

/// Whether the slot is to get packets of this stream now.
fn gets(peer: &mut Peer, slot: usize, stream: &ReceiveStream) -> Result<(), DropReason> {
    let forwarder = &peer.slots.get(slot).ok_or(DropReason::Unwanted)?.forwarder;
    if !forwarder.follows(stream.key) {
        return Err(DropReason::LayerNotSelected);
    }
    let outbound = peer.association.outbound().filter(|_| peer.connected).ok_or(DropReason::NotConnected)?;
    peer.overhead = outbound.profile().rtp_overhead() as u8;
    Ok(())
}

/// Maps one packet into a slot. True if a new source starts with it.
fn plan(
    slot: &mut Slot,
    at: usize,
    stream: &ReceiveStream,
    seq: SeqNo,
    overhead: usize,
) -> Result<(Job<Source>, bool), DropReason> {
    let stored = stream.history.packet(seq).ok_or(DropReason::TooOld)?;
    let packet = &stored.meta.packet;
    let payload_type = outgoing_payload_type(slot, packet.codec).ok_or(DropReason::CodecNotNegotiated)?;
    let mapped = slot.forwarder.map(stream.key, seq, packet, stored.meta.captured_at)?;
    let padding = padding(slot, packet.codec);
    let stamp = Stamp::of(slot, padding > 0);
    let header_len = header_len(slot, packet, stored.bytes, stamp);
    let filler = if mapped.filler { FILLER } else { 0 };
    let payload = outgoing_payload(slot, packet, stored.bytes, mapped.filler);
    let len = header_len + usize::from(payload.1) + usize::from(filler) + overhead;
    slot.packets += 1;
    slot.octets += u64::from(payload.1);
    let source = Source {
        slot: at as u32,
        stream: stream.key,
        class: if packet.codec.kind() == Kind::Audio { Class::Audio } else { Class::Video },
        stamp,
        probes: false,
        header_len: header_len as u16,
        payload_type,
        seq,
        out: mapped.seq,
        timestamp: mapped.timestamp,
        offsets: mapped.offsets,
        marker: mapped.marker,
        filler,
        original: None,
        payload,
    };
    Ok((Job { source, len, padding }, mapped.starts))
}

fn plan_repair(
    now: Instant,
    slot: &mut Slot,
    streams: &Slab<ReceiveStream>,
    repair: Repair,
    rtt: std::time::Duration,
    overhead: usize,
) -> Result<Job<Source>, DropReason> {
    let Origin { stream: key, seq, .. } = repair.origin;
    let stream = streams.get(key.index as usize).filter(|s| s.key == key);
    let stream = stream.filter(|s| s.history.contains(seq)).ok_or(DropReason::NackUnanswerable)?;
    // What has just come has its own turn, in which it may prove to be of a layer that is left out: nothing is known of it yet.
    if stream.fresh.contains(&seq) || !slot.may_repair(now, repair.out, rtt) {
        return Err(DropReason::NackThrottled);
    }
    plan_copy(slot, stream, &repair, overhead)
}

/// A packet of the slot once more, as a probe: the one that became `out`, if it is there and about as long as `bytes` at most.
pub(super) fn plan_probe(
    slot: &mut Slot,
    at: usize,
    streams: &Slab<ReceiveStream>,
    out: SeqNo,
    overhead: usize,
) -> Option<Job<Source>> {
    let origin = slot.forwarder.origin(out)?;
    let stream = streams.get(origin.stream.index as usize).filter(|s| s.key == origin.stream)?;
    let repair = Repair { slot: at, out, origin };
    let mut job = plan_copy(slot, stream, &repair, overhead).ok().filter(|job| job.source.original.is_some())?;
    job.source.probes = true;
    Some(job)
}

/// A packet of padding alone on the slot's RTX stream: receivers take one without an original for what it is.
pub(super) fn plan_bare_padding(now: Instant, slot: &mut Slot, at: usize, overhead: usize) -> Option<Job<Source>> {
    slot.media.rtx_ssrc?;
    let payload_type = slot.media.codecs.iter().find_map(|c| c.rtx)?;
    let stamp = Stamp::of(slot, true);
    let head = if slot.two_byte { 2 } else { 1 };
    let header_len = block_len(stamp.len().map_or(0, |len| head + len));
    let out = slot.next_repair;
    slot.next_repair = SeqNo(out.0 + 1);
    let source = Source {
        slot: at as u32,
        stream: NO_STREAM,
        class: Class::Repair,
        stamp,
        probes: true,
        header_len: header_len as u16,
        payload_type,
        seq: out,
        out,
        timestamp: slot.forwarder.timestamp_at(now).unwrap_or(0),
        offsets: Offsets::default(),
        marker: false,
        filler: u8::MAX,
        original: None,
        payload: (0, 0),
    };
    Some(Job { source, len: header_len + usize::from(u8::MAX) + overhead, padding: 0 })
}

/// A packet that was sent before, by RTX where that was negotiated.
fn plan_copy(
    slot: &mut Slot,
    stream: &ReceiveStream,
    repair: &Repair,
    overhead: usize,
) -> Result<Job<Source>, DropReason> {
    let Origin { seq, offsets, marked, filler, .. } = repair.origin;
    let stored = stream.history.packet(seq).ok_or(DropReason::NackUnanswerable)?;
    let packet = &stored.meta.packet;
    let plain = outgoing_payload_type(slot, packet.codec).ok_or(DropReason::CodecNotNegotiated)?;
    let rtx = slot.payload(packet.codec).and_then(|p| p.rtx).filter(|_| slot.media.rtx_ssrc.is_some());
    let stamp = Stamp::of(slot, rtx.is_some());
    let header_len = header_len(slot, packet, stored.bytes, stamp);
    let payload = outgoing_payload(slot, packet, stored.bytes, filler);
    let (out, payload_type, original, extra) = match rtx {
        Some(rtx) => {
            let out = slot.next_repair;
            slot.next_repair = SeqNo(out.0 + 1);
            (out, rtx, Some(repair.out.low()), 2)
        }
        // Only what was announced for it: other packets may have been padded, and are not the same to the byte again.
        None if padding(slot, packet.codec) > 0 => return Err(DropReason::NackUnanswerable),
        // Without RTX the very packet is sent again: the same number, the same bytes.
        None => (repair.out, plain, None, 0),
    };
    // What repeats a filler by RTX has the number alone.
    let filler = if filler && original.is_none() { FILLER } else { 0 };
    let source = Source {
        slot: repair.slot as u32,
        stream: repair.origin.stream,
        class: Class::Repair,
        stamp,
        probes: false,
        header_len: header_len as u16,
        payload_type,
        seq,
        out,
        timestamp: packet.timestamp.wrapping_add(offsets.timestamp),
        offsets,
        marker: (packet.marker || marked) && !repair.origin.filler,
        filler,
        original,
        payload,
    };
    let padding = if original.is_some() { MAX_PADDING } else { 0 };
    let len = header_len + extra + usize::from(payload.1) + usize::from(filler) + overhead;
    Ok(Job { source, len, padding })
}

/// How far a media packet may be padded: not at all if a NACK would have it sent again under the same number.
fn padding(slot: &mut Slot, codec: Codec) -> usize {
    let repaired_by_rtx = slot.media.rtx_ssrc.is_some();
    match slot.payload(codec) {
        Some(p) if p.feedback.nack && !(repaired_by_rtx && p.rtx.is_some()) => 0,
        _ => MAX_PADDING,
    }
}

/// The payload type for the codec. Redundant audio goes as plain Opus to who knows no RED.
fn outgoing_payload_type(slot: &mut Slot, codec: Codec) -> Option<PayloadType> {
    let direct = slot.payload(codec).map(|p| p.payload_type);
    match codec {
        Codec::Red => direct.or_else(|| slot.payload(Codec::Opus).map(|p| p.payload_type)),
        _ => direct,
    }
}

/// Which bytes of the stored packet are the payload that goes out: of RED only the primary block, to who knows no RED.
fn outgoing_payload(slot: &mut Slot, packet: &PacketInfo, bytes: &[u8], filler: bool) -> (u16, u16) {
    let (start, len) = (packet.header_len, packet.payload_len);
    if filler {
        return (start, 0);
    }
    if packet.codec == Codec::Red && slot.payload(Codec::Red).is_none() {
        let payload = bytes.get(usize::from(start)..).and_then(|b| b.get(..usize::from(len))).unwrap_or_default();
        if let Ok(primary) = codec::opus::red_primary(payload) {
            // The primary block is the last one.
            let primary = primary.data.len() as u16;
            return (start + len - primary, primary);
        }
    }
    (start, len)
}

/// The extensions that go along, by the slot's own ids.
fn extensions<'a>(
    slot: &'a Slot,
    packet: &'a PacketInfo,
    bytes: &'a [u8],
) -> impl Iterator<Item = (Extension, u8, &'a [u8])> {
    let fits = |value: &[u8]| slot.two_byte || slot.media.mixed_headers || is_short(value);
    let values = packet.extensions.values(bytes);
    values.filter_map(move |(e, value)| Some((e, slot.media.extensions.id(e)?, value)).filter(|_| fits(value)))
}

/// What a one-byte header can hold (RFC 8285 section 4.2).
fn is_short(value: &[u8]) -> bool {
    matches!(value.len(), 1..=16)
}

/// Whether a packet takes two-byte headers: the template structure of a dependency descriptor is longer than sixteen bytes.
fn two_byte(slot: &Slot, packet: &PacketInfo, bytes: &[u8]) -> bool {
    slot.two_byte || extensions(slot, packet, bytes).any(|(_, _, value)| !is_short(value))
}

fn header_len(slot: &Slot, packet: &PacketInfo, bytes: &[u8], stamp: Stamp) -> usize {
    let head = if two_byte(slot, packet, bytes) { 2 } else { 1 };
    let passed_on: usize = extensions(slot, packet, bytes).map(|(_, _, value)| head + value.len()).sum();
    block_len(passed_on + stamp.len().map_or(0, |len| head + len))
}

/// Length of a header whose extensions take so many bytes.
fn block_len(extensions: usize) -> usize {
    if extensions == 0 { 12 } else { 12 + 4 + extensions.next_multiple_of(4) }
}

/// Writes one packet as the subscriber is to see it, and seals it. `out` is exactly as long as the datagram. `None` if the packet,
/// which may have waited, is not there any more.
pub(super) fn seal(
    slot: &Slot,
    stream: Option<&ReceiveStream>,
    source: &Source,
    padding: usize,
    stamps: Stamps,
    outbound: &SrtpOutbound,
    out: &mut [u8],
) -> Option<()> {
    if source.stream == NO_STREAM {
        return seal_bare_padding(slot, source, stamps, outbound, out);
    }
    let stored = stream.filter(|stream| stream.key == source.stream)?.history.packet(source.seq)?;
    let packet = &stored.meta.packet;
    let padding = padding + usize::from(source.filler);
    let header_len = write_header(slot, packet, stored.bytes, source, padding > 0, stamps, out);
    if header_len != usize::from(source.header_len) {
        return None;
    }
    let (start, len) = (usize::from(source.payload.0), usize::from(source.payload.1));
    let payload = stored.bytes.get(start..start + len)?;
    let rewrites = forward::rewrites_payload(packet.codec, &source.offsets) || packet.codec == Codec::Red;
    if source.original.is_none() && padding == 0 && !rewrites {
        let sealed = outbound.seal_rtp_parts(source.out, header_len, &[], payload, out)?;
        return (sealed == out.len()).then_some(());
    }
    let mut end = header_len;
    if let Some(original) = source.original {
        out.get_mut(end..end + 2)?.copy_from_slice(&original.to_be_bytes());
        end += 2;
    }
    let body = out.get_mut(end..end + payload.len())?;
    body.copy_from_slice(payload);
    if rewrites {
        rewrite_payload(slot, packet, &source.offsets, body);
    }
    end += payload.len();
    if padding > 0 {
        let pad = out.get_mut(end..end + padding)?;
        pad.fill(0);
        *pad.last_mut()? = padding as u8;
        end += padding;
    }
    let sealed = outbound.seal_rtp_in_place(source.out, header_len, end - header_len, out)?;
    (sealed == out.len()).then_some(())
}

fn seal_bare_padding(
    slot: &Slot,
    source: &Source,
    stamps: Stamps,
    outbound: &SrtpOutbound,
    out: &mut [u8],
) -> Option<()> {
    let (seq, timestamp, ssrc) = (source.out.low(), source.timestamp, slot.media.rtx_ssrc?);
    let mut header = HeaderWriter::new(out, false, source.payload_type, seq, timestamp, ssrc, slot.two_byte);
    header.padding();
    stamp(slot, source, stamps, &mut header);
    let end = header.finish();
    let padding = out.get_mut(end..end + usize::from(source.filler))?;
    padding.fill(0);
    *padding.last_mut()? = source.filler;
    let sealed = outbound.seal_rtp_in_place(source.out, end, usize::from(source.filler), out)?;
    (sealed == out.len()).then_some(())
}

/// Adds what the packet is to say of its leaving.
fn stamp(slot: &Slot, source: &Source, stamps: Stamps, header: &mut HeaderWriter<'_>) {
    let own = |extension| slot.media.extensions.id(extension);
    match (source.stamp, stamps.transport) {
        (Stamp::Transport, Some(number)) => {
            own(Extension::TransportCc).map(|id| header.extension(id, &number.to_be_bytes()));
        }
        (Stamp::SendTime, _) => {
            own(Extension::AbsSendTime).map(|id| header.extension(id, &stamps.sent_at.to_be_bytes()[1..]));
        }
        _ => {}
    }
}

fn write_header(
    slot: &Slot,
    packet: &PacketInfo,
    bytes: &[u8],
    source: &Source,
    padded: bool,
    stamps: Stamps,
    out: &mut [u8],
) -> usize {
    let ssrc = if source.original.is_some() { slot.media.rtx_ssrc.unwrap_or(slot.media.ssrc) } else { slot.media.ssrc };
    let (seq, timestamp) = (source.out.low(), source.timestamp);
    let two_byte = two_byte(slot, packet, bytes);
    let mut header = HeaderWriter::new(out, source.marker, source.payload_type, seq, timestamp, ssrc, two_byte);
    if padded {
        header.padding();
    }
    for (extension, id, value) in extensions(slot, packet, bytes) {
        match (extension, packet.frame.frame_number) {
            (Extension::DependencyDescriptor, Some(number)) if source.offsets.frame_number != 0 => {
                let mut copy = [0; 255];
                let copy = &mut copy[..value.len()];
                copy.copy_from_slice(value);
                // It was read before; a descriptor is never too short for its number.
                let _ = dd::set_frame_number(copy, number.wrapping_add(source.offsets.frame_number));
                header.extension(id, copy);
            }
            _ => {
                header.extension(id, value);
            }
        }
    }
    stamp(slot, source, stamps, &mut header);
    header.finish()
}

/// Gives the copied payload the numbers of the slot's stream. What cannot be read goes as it is.
fn rewrite_payload(slot: &Slot, packet: &PacketInfo, offsets: &Offsets, payload: &mut [u8]) {
    let picture_id = packet.frame.picture_id.map(|p| p.value.wrapping_add(offsets.picture_id));
    let tl0_pic_idx = packet.frame.tl0_pic_idx.map(|t| t.wrapping_add(offsets.tl0_pic_idx));
    let _ = match packet.codec {
        Codec::Vp8 => codec::vp8::rewrite(payload, picture_id, tl0_pic_idx),
        Codec::Vp9 { .. } => codec::vp9::rewrite(payload, picture_id, tl0_pic_idx),
        Codec::Red => {
            let opus = slot.media.codecs.iter().find(|c| c.codec == Codec::Opus).map(|c| c.payload_type);
            codec::opus::rewrite_red(payload, |_| opus)
        }
        _ => Ok(()),
    };
}
