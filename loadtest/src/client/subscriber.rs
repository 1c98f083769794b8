//! The receiving side: slots, what was lost and asked for again, and reports.
use super::audio::{self, Listener};
use super::payload::{Tag, VP8_HEAD, Vp8};
use super::sdp::{self, AnsweredMedia, Direction, Media};
use super::transport::Transport;
use super::video::{VideoPacket, Viewer};
use super::{Epoch, earliest, ms};
use exedra::peer::srtp::SsrcState;
use exedra::rtp::rtcp::{self, ReportBlock, Rtcp};
use exedra::rtp::seq::SeqExtender;
use exedra::rtp::{Header, Kind, NackGenerator, ReceptionStats, SeqNo, Ssrc};
use std::time::{Duration, Instant};

const REPORTS: Duration = Duration::from_secs(1);
/// A decoder that is stuck asks for a keyframe after this, and again.
const KEYFRAME_AFTER: Duration = Duration::from_millis(300);
/// How often stuck decoders are looked for.
const REVIEW: Duration = Duration::from_millis(100);
/// Faults that are remembered one by one.
const MAX_FAULTS: usize = 32;
/// Latencies are counted in buckets of one millisecond, up to this.
const LATENCIES: usize = 2_000;

/// Receives on some slots over one transport.
pub struct Subscriber {
    pub transport: Transport,
    pub slots: Vec<Slot>,
    epoch: Epoch,
    ssrc: Ssrc,
    rtx: bool,
    next_report: Option<Instant>,
    next_review: Option<Instant>,
    opened: Vec<u8>,
    asked: Vec<SeqNo>,
    /// Packets of no slot, and those that did not open.
    pub strays: u64,
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
    pub latencies: Latencies,
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
    pub duplicates: u64,
    pub nacks: u64,
    pub keyframe_requests: u64,
    #[serde(skip)]
    pub first_packet: Option<Instant>,
    #[serde(skip)]
    pub first_keyframe: Option<Instant>,
    /// The least and the greatest extended number.
    pub first: Option<u64>,
    pub highest: Option<u64>,
}

/// How long after their capture packets arrived.
#[derive(Clone)]
pub struct Latencies(Vec<u32>);

impl Default for Latencies {
    fn default() -> Self {
        Self(vec![0; LATENCIES])
    }
}

impl Latencies {
    fn add(&mut self, age: Duration) {
        let bucket = (age.as_millis() as usize).min(LATENCIES - 1);
        self.0[bucket] += 1;
    }
    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a += b);
    }
    /// The latency that this share (0 to 1) of all packets keeps, in milliseconds.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let total: u64 = self.0.iter().map(|n| u64::from(*n)).sum();
        let wanted = (total as f64 * share).ceil().max(1.0) as u64;
        let mut sum = 0;
        self.0
            .iter()
            .position(|n| {
                sum += u64::from(*n);
                sum >= wanted
            })
            .map(|ms| ms as u64)
    }
}

impl Subscriber {
    /// `ssrc` is that of our reports. Without `rtx`, lost packets come again under their own number.
    pub fn new(transport: Transport, epoch: Epoch, ssrc: Ssrc, rtx: bool) -> Self {
        Self {
            transport,
            slots: Vec::new(),
            epoch,
            ssrc,
            rtx,
            next_report: None,
            next_review: None,
            opened: vec![0; 2_048],
            asked: Vec::new(),
            strays: 0,
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
            rids: Vec::new(),
            ssrcs: Vec::new(),
        };
        self.slots.iter().map(media).collect()
    }

    /// Takes the streams of an answer. Says what changed that must not.
    pub fn set_answer(&mut self, media: &[AnsweredMedia]) -> Result<(), String> {
        for slot in &mut self.slots {
            let Some(answered) = media.iter().find(|m| m.mid == slot.mid) else { continue };
            if slot.ssrc.is_some() && (slot.ssrc, slot.rtx) != (answered.ssrc, answered.rtx) {
                return Err(format!("slot {}: another SSRC", slot.mid));
            }
            (slot.ssrc, slot.rtx, slot.may_nack) = (answered.ssrc, answered.rtx, answered.nack);
        }
        Ok(())
    }

    /// A sealed RTP packet.
    pub fn handle_rtp(&mut self, now: Instant, datagram: &[u8]) {
        let Self { transport, slots, opened, epoch, strays, .. } = self;
        let (Ok(header), Some(inbound)) = (Header::parse(datagram), transport.inbound()) else {
            *strays += 1;
            return;
        };
        let ssrc = Some(header.ssrc);
        let Some(slot) = slots.iter_mut().find(|s| s.ssrc == ssrc || s.rtx == ssrc) else {
            *strays += 1;
            return;
        };
        let is_rtx = slot.rtx == ssrc;
        let state = if is_rtx { &mut slot.rtx_srtp } else { &mut slot.srtp };
        if opened.len() < datagram.len() {
            opened.resize(datagram.len(), 0);
        }
        let Ok((seq, len)) = inbound.open_rtp(state, header.len, header.sequence, datagram, opened) else {
            slot.stats.duplicates += 1;
            return;
        };
        let Ok(range) = header.payload_range(&opened[..len]) else {
            return slot.fault(format!("{}: padding that does not fit", slot.mid));
        };
        if is_rtx {
            slot.handle_rtx(now, *epoch, &header, &opened[range]);
        } else {
            slot.reception.handle_packet(now, seq, header.timestamp);
            slot.handle_media(now, *epoch, seq, &header, &opened[range]);
        }
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
        if self.next_report.is_none_or(|at| at <= now) {
            self.next_report = Some(now + REPORTS);
            let blocks = self.slots.iter_mut().filter_map(|s| s.reception.report_block(now, s.ssrc?));
            let blocks: Vec<ReportBlock> = blocks.collect();
            rtcp::write_receiver_report(&mut out, self.ssrc, &blocks);
            rtcp::write_cname(&mut out, self.ssrc, "loadtest");
        }
        let review = self.next_review.is_none_or(|at| at <= now);
        if review {
            self.next_review = Some(now + REVIEW);
        }
        let rtt = self.transport.rtt();
        for slot in &mut self.slots {
            let Some(ssrc) = slot.ssrc else { continue };
            self.asked.clear();
            slot.nack.poll(now, rtt, &mut self.asked);
            if !self.asked.is_empty() && slot.may_nack {
                slot.stats.nacks += self.asked.len() as u64;
                rtcp::write_nack(&mut out, self.ssrc, ssrc, self.asked.iter().map(|s| s.low()));
            }
            slot.keyframe_needed |= slot.nack.take_keyframe_needed();
            if review && slot.wants_keyframe(now) {
                rtcp::write_pli(&mut out, self.ssrc, ssrc);
            }
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
        let nacks = self.slots.iter().map(|s| s.nack.next_timeout());
        earliest(nacks.chain([transport, self.next_report.or(ready), self.next_review.or(ready)]))
    }
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
            latencies: Latencies::default(),
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
        }
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

    /// Packets that never came, neither at first nor repaired, among all numbers that were used.
    pub fn lost_for_good(&self) -> u64 {
        let expected = self.stats.first.zip(self.stats.highest).map_or(0, |(first, last)| last - first + 1);
        expected.saturating_sub(self.stats.packets + self.stats.repaired)
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

    fn handle_rtx(&mut self, now: Instant, epoch: Epoch, header: &Header, payload: &[u8]) {
        let Some((osn, payload)) = payload.split_first_chunk::<2>() else { return };
        let Some(seq) = self.extender.extend(u16::from_be_bytes(*osn)) else { return };
        if header.payload_type.value() != sdp::VP8_RTX {
            return self.fault(format!("{}: RTX with payload type {}", self.mid, header.payload_type.value()));
        }
        self.stats.repaired += 1;
        self.take(now, epoch, seq, header, payload);
    }

    fn handle_media(&mut self, now: Instant, epoch: Epoch, seq: SeqNo, header: &Header, payload: &[u8]) {
        let expected = if self.kind == Kind::Audio { sdp::OPUS } else { sdp::VP8 };
        if header.payload_type.value() != expected {
            return self.fault(format!("{}: payload type {}", self.mid, header.payload_type.value()));
        }
        self.stats.packets += 1;
        self.extender.accept(seq);
        self.take(now, epoch, seq, header, payload);
    }

    fn take(&mut self, now: Instant, epoch: Epoch, seq: SeqNo, header: &Header, payload: &[u8]) {
        self.nack.handle_packet(now, seq);
        self.stats.first_packet.get_or_insert(now);
        self.stats.first = Some(self.stats.first.map_or(seq.0, |f| f.min(seq.0)));
        self.stats.highest = Some(self.stats.highest.map_or(seq.0, |h| h.max(seq.0)));
        let (head, skip) = match self.kind {
            Kind::Audio => (None, 1),
            Kind::Video => (Vp8::read(payload), VP8_HEAD),
        };
        let Some(tag) = payload.get(skip..).and_then(Tag::read) else {
            return self.fault(format!("{}: {}: not what anybody sent", self.mid, seq.0));
        };
        let age = audio::age(epoch.start, now, tag.micros);
        self.latencies.add(age);
        self.latest = Some((tag.micros, header.timestamp));
        let (timestamp, marker) = (header.timestamp, header.marker);
        let fault = match (&mut self.media, head) {
            (Screen::Audio(listener), _) => listener.handle_packet(seq, timestamp, tag, age),
            (Screen::Video(viewer), Some(head)) => {
                let before = viewer.stats.keyframes;
                let fault = viewer.handle_packet(now, seq, VideoPacket { timestamp, marker, head, tag });
                if viewer.stats.keyframes > before {
                    self.stats.first_keyframe.get_or_insert(now);
                    self.keyframe_needed = false;
                }
                fault
            }
            (Screen::Video(_), None) => Some("no VP8 descriptor".into()),
        };
        if let Some(fault) = fault {
            let mid = self.mid.clone();
            self.fault(format!("slot {mid}: {fault}"));
        }
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
