//! The receiving side: slots, what was lost and asked for again, and reports.
use super::audio::{self, Listener};
use super::feedback::{Feedback, Reporter};
use super::ledger::{Arrival, Ledger, Way};
use super::meter::Meter;
use super::payload::{Tag, VideoCodec};
use super::sdp::{self, AnsweredMedia, Direction, Media};
use super::transport::Transport;
use super::video::{Described, VideoPacket, Viewer};
use super::{Epoch, earliest, ms};
use exedra::metrics::DropReason;
use exedra::peer::srtp::SsrcState;
use exedra::rtp::rtcp::{self, ReportBlock, Rtcp};
use exedra::rtp::seq::SeqExtender;
use exedra::rtp::{Extension, Header, Kind, NackGenerator, ReceptionStats, SeqNo, Ssrc};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const REPORTS: Duration = Duration::from_secs(1);
/// Who receives nothing has little to report (RFC 3550 section 6.2: 5 s).
const EMPTY_REPORTS: Duration = Duration::from_secs(5);
/// A decoder that is stuck asks for a keyframe after this, and again.
const KEYFRAME_AFTER: Duration = Duration::from_millis(300);
/// How often stuck decoders are looked for.
const REVIEW: Duration = Duration::from_millis(100);
/// Faults that are remembered one by one.
const MAX_FAULTS: usize = 32;
/// Numbers that were asked for again and are remembered, so that what comes under its own number is known as repaired.
const MAX_ASKED: usize = 512;

/// Receives on some slots over one transport.
pub struct Subscriber {
    pub transport: Transport,
    pub slots: Vec<Slot>,
    epoch: Epoch,
    ssrc: Ssrc,
    rtx: bool,
    feedback: Feedback,
    reporter: Reporter,
    codecs: Vec<VideoCodec>,
    next_report: Option<Instant>,
    next_review: Option<Instant>,
    /// Not later than the earliest of the slots' requests for lost packets.
    next_nack: Option<Instant>,
    asked: Vec<SeqNo>,
    /// Where each SSRC belongs, and whether it is the slot's RTX.
    by_ssrc: Places,
    /// Packets of no slot.
    pub strays: u64,
    /// Bytes of all datagrams of media, whatever they carry.
    pub bytes: u64,
    /// The first packet on any slot, and the first keyframe.
    pub first_packet: Option<Instant>,
    pub first_keyframe: Option<Instant>,
}

/// A receive m-line.
pub struct Slot {
    pub mid: String,
    pub kind: Kind,
    pub ssrc: Option<Ssrc>,
    pub rtx: Option<Ssrc>,
    /// The track that the server says it shows.
    pub track: Option<String>,
    pub media: Screen,
    pub stats: SlotStats,
    /// What was wrong with the stream: a decoder would have noticed.
    pub faults: Vec<String>,
    pub ledger: Ledger,
    /// The last packet that came, by its publisher's count.
    pub last: Option<Tag>,
    may_nack: bool,
    srtp: SsrcState,
    rtx_srtp: SsrcState,
    extender: SeqExtender,
    nack: NackGenerator,
    reception: ReceptionStats,
    keyframe_asked: Option<Instant>,
    keyframe_needed: bool,
    /// The last sender report, and the last packet: NTP time and RTP timestamp; capture time and RTP timestamp.
    report: Option<(u64, u32)>,
    latest: Option<(u64, u32)>,
    asked: VecDeque<u64>,
    /// How long the fastest packet of the track was on its way, in microseconds.
    fastest: Option<u64>,
}

/// A packet as it came.
struct Packet<'a> {
    now: Instant,
    epoch: Epoch,
    header: &'a Header,
    bytes: usize,
    is_rtx: bool,
}

/// Who looks at a slot.
pub enum Screen {
    Audio(Listener),
    Video(Box<Viewer>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct SlotStats {
    /// Media packets that arrived the first time they were sent, or again under their own number.
    pub packets: u64,
    /// Packets that came as RTX.
    pub repaired: u64,
    /// Packets of nothing but padding: probes as RTX, and what the server filled numbers with.
    pub padding: u64,
    pub fillers: u64,
    pub nacks: u64,
    pub keyframe_requests: u64,
    #[serde(skip)]
    pub first_packet: Option<Instant>,
    #[serde(skip)]
    pub first_keyframe: Option<Instant>,
    /// The greatest extended number.
    pub highest: Option<u64>,
}

/// Which slot an SSRC belongs to, and whether it is the slot's RTX. There are few, and a list that is searched is in fewer pieces of memory than a map.
#[derive(Default)]
struct Places(Vec<(Ssrc, (u32, bool))>);

impl Places {
    fn get(&self, ssrc: Ssrc) -> Option<(u32, bool)> {
        self.0.iter().find(|(known, _)| *known == ssrc).map(|(_, place)| *place)
    }

    fn set(&mut self, ssrc: Ssrc, place: (u32, bool)) {
        self.0.retain(|(known, _)| *known != ssrc);
        self.0.push((ssrc, place));
    }
}

impl Subscriber {
    /// `ssrc` is that of our reports. Without `rtx`, lost packets come again under their own number.
    pub fn new(
        transport: Transport,
        epoch: Epoch,
        ssrc: Ssrc,
        (rtx, feedback): (bool, Feedback),
        codecs: &[VideoCodec],
    ) -> Self {
        Self {
            transport,
            slots: Vec::new(),
            epoch,
            ssrc,
            rtx,
            feedback,
            reporter: Reporter::new(ssrc, feedback),
            next_report: None,
            codecs: codecs.to_vec(),
            next_review: None,
            next_nack: None,
            asked: Vec::new(),
            by_ssrc: Places::default(),
            strays: 0,
            bytes: 0,
            first_packet: None,
            first_keyframe: None,
        }
    }

    /// Makes slots until there are that many of each kind, in pairs.
    pub fn want(&mut self, audio: usize, video: usize) {
        let count = |slots: &[Slot], kind| slots.iter().filter(|s| s.kind == kind).count();
        loop {
            let (a, v) = (count(&self.slots, Kind::Audio), count(&self.slots, Kind::Video));
            let kind = match (a < audio, v < video) {
                (false, false) => return,
                (true, lacks_video) if a <= v || !lacks_video => Kind::Audio,
                _ => Kind::Video,
            };
            self.slots.push(Slot::new(self.slots.len().to_string(), kind));
        }
    }

    pub fn slot(&self, mid: &str) -> Option<&Slot> {
        self.slots.iter().find(|s| s.mid == mid)
    }

    pub fn slot_mut(&mut self, mid: &str) -> Option<&mut Slot> {
        self.slots.iter_mut().find(|s| s.mid == mid)
    }

    /// The m-lines of an offer.
    pub fn media(&self) -> Vec<Media> {
        let media = |slot: &Slot| Media {
            mid: slot.mid.clone(),
            kind: slot.kind,
            direction: Direction::Receive,
            audio_nack: true,
            rtx: self.rtx,
            feedback: self.feedback,
            codecs: self.codecs.clone(),
            rids: Vec::new(),
            ssrcs: Vec::new(),
        };
        self.slots.iter().map(media).collect()
    }

    /// Takes the streams of an answer. Says what changed that must not.
    pub fn set_answer(&mut self, media: &[AnsweredMedia]) -> Result<(), String> {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            // Offers have the slots in order; an answer has them as the offer had.
            let in_place = media.get(index).filter(|m| m.mid == slot.mid);
            let Some(answered) = in_place.or_else(|| media.iter().find(|m| m.mid == slot.mid)) else { continue };
            if slot.ssrc.is_some() && (slot.ssrc, slot.rtx) != (answered.ssrc, answered.rtx) {
                return Err(format!("slot {}: another SSRC", slot.mid));
            }
            (slot.ssrc, slot.rtx, slot.may_nack) = (answered.ssrc, answered.rtx, answered.nack);
            answered.ssrc.into_iter().for_each(|ssrc| self.by_ssrc.set(ssrc, (index as u32, false)));
            answered.rtx.into_iter().for_each(|ssrc| self.by_ssrc.set(ssrc, (index as u32, true)));
        }
        Ok(())
    }

    /// A sealed RTP packet.
    pub fn handle_rtp(&mut self, now: Instant, datagram: &[u8], meter: &mut Meter) {
        let (Ok(header), Some(inbound)) = (Header::parse(datagram), self.transport.inbound()) else {
            self.strays += 1;
            return;
        };
        let known = self.by_ssrc.get(header.ssrc);
        let place = known.or_else(|| latch(&mut self.slots, &mut self.by_ssrc, &header));
        let Some((slot, is_rtx)) = place.and_then(|(i, rtx)| Some((self.slots.get_mut(i as usize)?, rtx))) else {
            self.strays += 1;
            return;
        };
        let state = if is_rtx { &mut slot.rtx_srtp } else { &mut slot.srtp };
        let mut opened = std::mem::take(&mut meter.opened);
        if opened.len() < datagram.len() {
            opened.resize(datagram.len(), 0);
        }
        match inbound.open_rtp(state, header.len, header.sequence, datagram, &mut opened) {
            Ok((seq, len)) => {
                if !is_rtx {
                    slot.reception.handle_packet(now, seq, header.timestamp);
                }
                let packet = Packet { now, epoch: self.epoch, header: &header, bytes: datagram.len(), is_rtx };
                self.bytes += datagram.len() as u64;
                self.reporter.handle_packet(meter.arrived.unwrap_or(now), &header, datagram);
                let delay = slot.handle_opened(&packet, seq, opened.get(..len).unwrap_or_default(), meter);
                delay.into_iter().for_each(|delay| self.reporter.handle_delay(delay));
            }
            Err(DropReason::SrtpReplayed) => slot.ledger.duplicates += 1,
            Err(why) => slot.fault(format!("slot {}: a packet that does not open: {why}", slot.mid)),
        }
        meter.opened = opened;
        self.next_nack = earliest([self.next_nack, slot.nack.next_timeout()]);
        if self.first_packet.is_none() {
            // There is something to report from now on.
            self.next_report = Some(now + REPORTS);
        }
        self.first_packet = self.first_packet.or(slot.stats.first_packet);
        self.first_keyframe = self.first_keyframe.or(slot.stats.first_keyframe);
    }

    /// An opened RTCP compound.
    pub fn handle_rtcp(&mut self, now: Instant, compound: &[u8]) {
        for packet in rtcp::packets(compound).flatten() {
            if let Rtcp::SenderReport { ssrc, ntp, rtp_timestamp, .. } = packet
                && let Some(slot) = self.slots.iter_mut().find(|s| s.ssrc == Some(ssrc))
            {
                slot.reception.handle_sender_report(now, ntp);
                slot.report = Some((ntp, rtp_timestamp));
            }
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.transport.handle_timeout(now);
        if !self.transport.is_secure() || self.transport.failed {
            return;
        }
        let mut out = Vec::new();
        self.reporter.write(now, &mut out);
        if self.next_report.is_none_or(|at| at <= now) {
            let blocks = self.slots.iter_mut().filter_map(|s| s.reception.report_block(now, s.ssrc?));
            let blocks: Vec<ReportBlock> = blocks.collect();
            self.next_report = Some(now + if blocks.is_empty() { EMPTY_REPORTS } else { REPORTS });
            rtcp::write_receiver_report(&mut out, self.ssrc, &blocks);
            rtcp::write_cname(&mut out, self.ssrc, "loadtest");
        }
        let review = self.next_review.is_none_or(|at| at <= now);
        if review {
            self.next_review = Some(now + REVIEW);
        }
        let rtt = self.transport.rtt();
        let nacks = self.next_nack.is_some_and(|at| at <= now);
        for slot in self.slots.iter_mut().filter(|_| nacks || review) {
            let Some(ssrc) = slot.ssrc else { continue };
            self.asked.clear();
            slot.nack.poll(now, rtt, &mut self.asked);
            if !self.asked.is_empty() && slot.may_nack {
                slot.note_asked(&self.asked);
                rtcp::write_nack(&mut out, self.ssrc, ssrc, self.asked.iter().map(|s| s.low()));
            }
            slot.keyframe_needed |= slot.nack.take_keyframe_needed();
            if review && slot.wants_keyframe(now) {
                rtcp::write_pli(&mut out, self.ssrc, ssrc);
            }
        }
        if nacks {
            self.next_nack = earliest(self.slots.iter().map(|s| s.nack.next_timeout()));
        }
        if !out.is_empty() {
            self.transport.send_rtcp(&out);
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let transport = self.transport.poll_timeout();
        if !self.transport.is_secure() || self.transport.failed {
            return transport;
        }
        let ready = self.transport.connected_at;
        let feedback = self.reporter.poll_timeout();
        earliest([transport, feedback, self.next_nack, self.next_report.or(ready), self.next_review.or(ready)])
    }
}

/// A server need not tell its SSRCs (ours does): then the payload type says which slot it is, where there is one of the kind.
fn latch(slots: &mut [Slot], by_ssrc: &mut Places, header: &Header) -> Option<(u32, bool)> {
    let of = |kind| sdp::codec_of(kind, header.payload_type.value()).map(|(_, rtx)| (kind, rtx));
    let (kind, rtx) = of(Kind::Audio).or_else(|| of(Kind::Video))?;
    let free = |slot: &Slot| slot.kind == kind && if rtx { slot.rtx.is_none() } else { slot.ssrc.is_none() };
    let index = slots.iter().position(free)?;
    let slot = slots.get_mut(index)?;
    *(if rtx { &mut slot.rtx } else { &mut slot.ssrc }) = Some(header.ssrc);
    let place = (index as u32, rtx);
    by_ssrc.set(header.ssrc, place);
    Some(place)
}

impl Slot {
    fn new(mid: String, kind: Kind) -> Self {
        let media = match kind {
            Kind::Audio => Screen::Audio(Listener::default()),
            Kind::Video => Screen::Video(Box::default()),
        };
        Self {
            mid,
            kind,
            ssrc: None,
            rtx: None,
            track: None,
            media,
            stats: SlotStats::default(),
            faults: Vec::new(),
            ledger: Ledger::default(),
            last: None,
            may_nack: false,
            srtp: SsrcState::default(),
            rtx_srtp: SsrcState::default(),
            extender: SeqExtender::new(),
            nack: NackGenerator::default(),
            reception: ReceptionStats::new(kind.clock_rate()),
            keyframe_asked: None,
            keyframe_needed: false,
            report: None,
            latest: None,
            asked: VecDeque::new(),
            fastest: None,
        }
    }

    /// Another track, or none, is shown from now on.
    pub fn rebind(&mut self, track: Option<String>) {
        (self.track, self.fastest) = (track, None);
        self.rest();
    }

    pub fn viewer(&self) -> Option<&Viewer> {
        match &self.media {
            Screen::Video(viewer) => Some(viewer),
            Screen::Audio(_) => None,
        }
    }

    pub fn listener(&self) -> Option<&Listener> {
        match &self.media {
            Screen::Audio(listener) => Some(listener),
            Screen::Video(_) => None,
        }
    }

    /// Nothing is expected until the next packet.
    pub fn rest(&mut self) {
        match &mut self.media {
            Screen::Audio(listener) => listener.rest(),
            Screen::Video(viewer) => viewer.rest(),
        }
    }

    /// Nothing more is expected at all. A freeze that goes on counts as it is.
    pub fn finish(&mut self, now: Instant) {
        match &mut self.media {
            Screen::Audio(listener) => listener.rest(),
            Screen::Video(viewer) => viewer.finish(now),
        }
    }

    /// Packets that never came, neither at first nor repaired, among all numbers that were used.
    pub fn lost_for_good(&self) -> u64 {
        self.ledger.lost_for_good()
    }

    /// What the server's reports say of the time at which the latest packet was captured, less the truth, in seconds. The
    /// difference between two slots of one publisher is how far lips are off.
    pub fn clock_error(&self, epoch: Epoch) -> Option<f64> {
        let ((ntp, reported), (micros, timestamp)) = self.report.zip(self.latest)?;
        let ticks = f64::from(timestamp.wrapping_sub(reported) as i32);
        let since_start = ntp.wrapping_sub(epoch.ntp) as i64 as f64 / f64::from(u32::MAX);
        Some(since_start + ticks / f64::from(self.kind.clock_rate()) - micros as f64 / 1e6)
    }

    fn fault(&mut self, what: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(what);
        }
    }

    fn note_asked(&mut self, asked: &[SeqNo]) {
        self.stats.nacks += asked.len() as u64;
        for seq in asked {
            if self.asked.len() == MAX_ASKED {
                self.asked.pop_front();
            }
            self.asked.push_back(seq.0);
        }
    }

    /// Gives how much longer than the fastest one a packet was on its way, where that says something of the path.
    fn handle_opened(&mut self, packet: &Packet<'_>, seq: SeqNo, opened: &[u8], meter: &mut Meter) -> Option<Duration> {
        let Ok(range) = packet.header.payload_range(opened) else {
            self.fault(format!("{}: padding that does not fit", self.mid));
            return None;
        };
        let payload = opened.get(range).unwrap_or_default();
        let payload_type = packet.header.payload_type.value();
        let Some((codec, rtx)) = sdp::codec_of(self.kind, payload_type).filter(|(_, rtx)| *rtx == packet.is_rtx) else {
            self.fault(format!("{}: payload type {payload_type}", self.mid));
            return None;
        };
        if !rtx {
            self.stats.packets += 1;
            self.extender.accept(seq);
            let way = if self.asked.contains(&seq.0) { Way::Repair } else { Way::Wire };
            let descriptor = packet.header.extension(opened, sdp::extension_id(Extension::DependencyDescriptor));
            return match payload {
                [] => self.take_filler(packet, seq, way),
                _ => self.take(packet, seq, codec, (payload, descriptor), way, meter),
            };
        }
        let Some((osn, payload)) = payload.split_first_chunk::<2>() else {
            self.stats.padding += 1;
            return None;
        };
        let seq = self.extender.extend(u16::from_be_bytes(*osn))?;
        self.stats.repaired += 1;
        let descriptor = packet.header.extension(opened, sdp::extension_id(Extension::DependencyDescriptor));
        match payload {
            [] => self.take_filler(packet, seq, Way::Repair),
            _ => self.take(packet, seq, codec, (payload, descriptor), Way::Repair, meter),
        };
        None
    }

    /// A number that the server used for nothing.
    fn take_filler(&mut self, packet: &Packet<'_>, seq: SeqNo, way: Way) -> Option<Duration> {
        self.nack.handle_packet(packet.now, seq);
        self.ledger.enter(seq.0, way);
        self.stats.highest = self.ledger.highest();
        self.stats.fillers += 1;
        match &mut self.media {
            Screen::Video(viewer) => viewer.handle_filler(packet.now, seq),
            Screen::Audio(_) => self.fault(format!("slot {}: padding among audio", self.mid)),
        }
        None
    }

    fn take(
        &mut self,
        packet: &Packet<'_>,
        seq: SeqNo,
        codec: Option<VideoCodec>,
        (payload, descriptor): (&[u8], Option<&[u8]>),
        way: Way,
        meter: &mut Meter,
    ) -> Option<Duration> {
        let Packet { now, epoch, header, bytes, .. } = *packet;
        self.nack.handle_packet(now, seq);
        let arrival = self.ledger.enter(seq.0, way);
        self.stats.first_packet.get_or_insert(now);
        self.stats.highest = self.ledger.highest();
        let head = codec.map(|codec| (codec, codec.read(payload)));
        let len = head.map_or(1, |(_, head)| head.map_or(0, |head| head.len));
        let Some(tag) = payload.get(len..).and_then(Tag::read) else {
            self.fault(format!("{}: {}: not what anybody sent", self.mid, seq.0));
            return None;
        };
        let age = audio::age(epoch.start, now, tag.micros);
        let travelled = epoch.micros(meter.arrived.unwrap_or(now)).saturating_sub(tag.sent);
        if matches!(arrival, Arrival::Next | Arrival::Late) {
            meter.count(self.kind, bytes, travelled);
        }
        if arrival == Arrival::Next {
            self.latest = Some((tag.micros, header.timestamp));
            self.last = Some(tag);
        }
        let (timestamp, marker) = (header.timestamp, header.marker);
        let fault = match (&mut self.media, head) {
            (Screen::Audio(listener), _) => listener.handle_packet(seq, timestamp, tag, age),
            (Screen::Video(viewer), Some((codec, Some(head)))) => {
                let before = viewer.stats.keyframes;
                let descriptor = descriptor.and_then(Described::read);
                let packet = VideoPacket { codec, timestamp, marker, head, tag, descriptor };
                let fault = viewer.handle_packet(now, seq, packet);
                if viewer.stats.keyframes > before {
                    self.stats.first_keyframe.get_or_insert(now);
                    self.keyframe_needed = false;
                }
                fault
            }
            (Screen::Video(_), _) => Some("no descriptor of the codec".into()),
        };
        if let Some(fault) = fault {
            let mid = self.mid.clone();
            self.fault(format!("slot {mid}: {fault}"));
        }
        let fastest = self.fastest.get_or_insert(travelled);
        *fastest = travelled.min(*fastest);
        (way == Way::Wire && arrival == Arrival::Next).then(|| Duration::from_micros(travelled - *fastest))
    }

    fn wants_keyframe(&mut self, now: Instant) -> bool {
        let Screen::Video(viewer) = &self.media else { return false };
        let stuck = viewer.is_stuck() && (self.keyframe_needed || viewer.waiting(now) > KEYFRAME_AFTER);
        let again = self.keyframe_asked.is_none_or(|at| now.saturating_duration_since(at) >= ms(500));
        if stuck && again {
            self.keyframe_asked = Some(now);
            self.stats.keyframe_requests += 1;
        }
        stuck && again
    }
}
