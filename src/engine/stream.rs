//! What the engine knows of one RTP stream from a publisher.
use super::hold::Hold;
use super::meter::{Hint, Meter};
use super::record::Part;
use crate::forward::StreamKey;
use crate::ids::Rid;
use crate::peer::srtp::SsrcState;
use crate::rtp::clock::StreamClock;
use crate::rtp::codec::{Codec, Kind, resolution};
use crate::rtp::dd::Structures;
use crate::rtp::history::{History, HistoryBudget, HistoryLimits};
use crate::rtp::packet::PacketInfo;
use crate::rtp::receiver::{NackConfig, NackGenerator, ReceptionStats};
use crate::rtp::{SeqExtender, SeqNo, Ssrc};
use std::time::{Duration, Instant};

/// Retransmission histories: one for each stream, shared by all its subscribers. Video of 5 Mbit/s for 1.5 s is about 1 MB.
const VIDEO_HISTORY: HistoryLimits = HistoryLimits { packets: 2_048, bytes: 2 << 20 };
const AUDIO_HISTORY: HistoryLimits = HistoryLimits { packets: 256, bytes: 64 << 10 };

/// A stream without packets for this long is not live (an encoding that the publisher dropped); twice that, and its track stalls.
pub(super) const STREAM_SILENCE: Duration = Duration::from_secs(1);

/// A recording waits for two seconds, and does not mind how late something comes.
const FOR_RECORDINGS: NackConfig = NackConfig {
    reorder_wait: Duration::from_millis(10),
    min_interval: Duration::from_millis(20),
    max_tries: 24,
    max_age: Duration::from_millis(1_900),
    max_missing: 500,
};

/// One SSRC of a publisher; what comes on its RTX SSRC is put in here too.
pub(super) struct ReceiveStream {
    pub key: StreamKey,
    /// Its key on the shard of its publisher, if it mirrors a stream of another.
    pub origin: Option<StreamKey>,
    /// Index in the peer's `receive` list.
    pub media: usize,
    pub track: Option<usize>,
    pub ssrc: Ssrc,
    pub rid: Option<Rid>,
    pub kind: Kind,
    pub codec: Codec,
    pub srtp: SsrcState,
    /// Extends the sequence numbers that retransmissions name.
    pub extender: SeqExtender,
    pub history: History<StoredInfo>,
    pub reception: ReceptionStats,
    /// None where NACK was not negotiated.
    pub nack: Option<NackGenerator>,
    pub clock: StreamClock,
    pub dependency: Structures,
    pub keyframes: KeyframeRequests,
    pub rate: BitRate,
    /// Video only.
    pub meter: Option<Box<Meter>>,
    pub last_arrival: Instant,
    /// Packets of this batch, in order of arrival.
    pub fresh: Vec<SeqNo>,
    pub hold: Hold,
    pub bytes: u64,
    pub packets: u64,
    pub repaired: u64,
    pub nacked: u64,
    /// When the first NACK of a loss that is still open went out, to measure the round trip by its repair.
    pub nack_probe: Option<(SeqNo, Instant)>,
    /// Whether a recording gets it.
    pub recorded: Part,
}

/// What the history keeps beside the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredInfo {
    pub packet: PacketInfo,
    /// On our clock.
    pub captured_at: Instant,
}

impl ReceiveStream {
    pub fn new(
        now: Instant,
        key: StreamKey,
        media: usize,
        ssrc: Ssrc,
        codec: Codec,
        nack: bool,
        budget: &HistoryBudget,
    ) -> Self {
        let kind = codec.kind();
        let limits = match kind {
            Kind::Video => VIDEO_HISTORY,
            Kind::Audio => AUDIO_HISTORY,
        };
        Self {
            key,
            origin: None,
            media,
            track: None,
            ssrc,
            rid: None,
            kind,
            codec,
            srtp: SsrcState::default(),
            extender: SeqExtender::new(),
            history: History::within(limits, budget.clone()),
            reception: ReceptionStats::new(codec.clock_rate()),
            nack: nack.then(NackGenerator::default),
            clock: StreamClock::new(codec.clock_rate()),
            dependency: Structures::default(),
            keyframes: KeyframeRequests::default(),
            rate: BitRate::default(),
            meter: (kind == Kind::Video).then(Box::default),
            last_arrival: now,
            fresh: Vec::new(),
            hold: Hold::default(),
            bytes: 0,
            packets: 0,
            repaired: 0,
            nacked: 0,
            nack_probe: None,
            recorded: Part::None,
        }
    }

    /// The mirror of another shard's stream.
    pub fn mirror(
        now: Instant,
        key: StreamKey,
        origin: StreamKey,
        codec: Codec,
        rid: Option<Rid>,
        track: usize,
        budget: &HistoryBudget,
    ) -> Self {
        // Its SSRC is the publisher's affair: nothing is received or reported here.
        let plain = Self::new(now, key, usize::MAX, Ssrc(0), codec, false, budget);
        Self { origin: Some(origin), rid, track: Some(track), ..plain }
    }

    /// A packet has been put into the history.
    pub fn note_stored(&mut self, now: Instant, seq: SeqNo, packet: &PacketInfo, len: usize) {
        self.extender.accept(seq);
        // (Every packet of audio is a keyframe of its own, and makes none before it useless.)
        if self.kind == Kind::Video && packet.frame.keyframe && packet.frame.frame_start {
            self.keyframes.satisfied();
            // (A mirror is told: the structure of a dependency descriptor is known where the publisher is.)
            if self.origin.is_none() {
                self.note_sizes(seq);
            }
            // (A recording shows what was before it, too.)
            if let Some(nack) = self.nack.as_mut().filter(|_| self.recorded == Part::None) {
                nack.forget_before(seq);
            }
        }
        if self.kind == Kind::Video {
            let elapsed = now.saturating_duration_since(self.last_arrival);
            self.hold.note(now, elapsed, packet.timestamp, packet.marker);
        }
        self.codec = packet.codec;
        self.last_arrival = now;
        self.packets += 1;
        self.bytes += len as u64;
        self.rate.add(now, len);
        if let Some(meter) = &mut self.meter {
            meter.add(now, len, packet.timestamp, &packet.frame);
        }
    }

    /// A keyframe has begun: its pictures may have another size than before.
    fn note_sizes(&mut self, seq: SeqNo) {
        let (Some(meter), Some(stored)) = (&mut self.meter, self.history.packet(seq)) else { return };
        let packet = &stored.meta.packet;
        let payload = stored.bytes.get(usize::from(packet.header_len)..).unwrap_or_default();
        let payload = payload.get(..usize::from(packet.payload_len)).unwrap_or_default();
        if let Some(sizes) = resolution::sizes(packet.codec, payload, &self.dependency) {
            meter.set_sizes(sizes);
        }
    }

    /// What part it has in a recording. What is to be recorded is asked for again for as long as a recording waits for it.
    pub fn record_as(&mut self, part: Part) {
        self.recorded = part;
        if let Some(nack) = &mut self.nack {
            nack.configure(if part == Part::None { NackConfig::default() } else { FOR_RECORDINGS });
        }
    }

    /// What another shard is to know of it.
    pub fn hint(&self) -> Hint {
        self.meter.as_ref().map(|meter| meter.as_hint()).unwrap_or_default()
    }

    /// Whether it still comes, when the newest packet of its track came at `newest`: an encoding that stops is given up sooner than a
    /// track, of which nothing else could be shown.
    pub fn flows(&self, newest: Instant) -> bool {
        let silence = self.meter.as_ref().map_or(STREAM_SILENCE, |meter| meter.silence());
        newest.saturating_duration_since(self.last_arrival) < silence
    }

    pub fn is_live(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_arrival) < STREAM_SILENCE
    }
}

/// Keyframe requests for one stream: many subscribers ask, the publisher is asked once (RFC 4585 section 6.3.1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeyframeRequests {
    wanted: bool,
    last_sent: Option<Instant>,
    /// A recording asks for one, and when it last did.
    wanted_once: bool,
    last_once: Option<Instant>,
    /// Requests since the last keyframe.
    unanswered: u8,
    pub sent: u64,
}

impl KeyframeRequests {
    /// The least time between two requests to one stream. From the fifth one on that is not answered twice as long each time, to
    /// [`LONGEST`](Self::LONGEST).
    pub const INTERVAL: Duration = Duration::from_millis(250);
    pub const LONGEST: Duration = Duration::from_secs(1);
    /// The least time between two requests that are made for a recording alone.
    pub const FOR_RECORDING: Duration = Duration::from_secs(1);

    /// True if nobody had asked before.
    pub fn want(&mut self) -> bool {
        !std::mem::replace(&mut self.wanted, true)
    }
    /// A recording waits. It is not asked for again: the recording does that itself, if nothing comes.
    pub fn want_once(&mut self) {
        self.wanted_once = true;
    }
    /// A keyframe has begun: all who waited are served.
    pub fn satisfied(&mut self) {
        (self.wanted, self.wanted_once, self.unanswered) = (false, false, 0);
    }
    /// When to ask (again); `None` while nobody waits.
    pub fn due_at(&self, now: Instant) -> Option<Instant> {
        if !self.wanted && !self.wanted_once {
            return None;
        }
        let due = self.last_sent.map_or(now, |at| at + self.interval());
        let rested = self.last_once.filter(|_| !self.wanted).map(|at| at + Self::FOR_RECORDING);
        Some(rested.map_or(due, |rested| rested.max(due)))
    }
    fn interval(&self) -> Duration {
        (Self::INTERVAL * (1 << self.unanswered.saturating_sub(4).min(2))).min(Self::LONGEST)
    }
    pub fn is_due(&self, now: Instant) -> bool {
        self.due_at(now).is_some_and(|at| at <= now)
    }
    pub fn note_sent(&mut self, now: Instant) {
        if self.last_sent.is_none_or(|at| now.saturating_duration_since(at) > 2 * Self::LONGEST) {
            self.unanswered = 0; // That was another time.
        }
        if std::mem::take(&mut self.wanted_once) {
            self.last_once = Some(now);
        }
        self.last_sent = Some(now);
        self.unanswered = self.unanswered.saturating_add(1);
        self.sent += 1;
    }
}

/// A bit rate over about two seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BitRate {
    since: Option<Instant>,
    bits: u64,
    smoothed: f64,
}

impl BitRate {
    const WINDOW: Duration = Duration::from_millis(500);

    pub fn add(&mut self, now: Instant, bytes: usize) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= Self::WINDOW {
            let rate = self.bits as f64 / elapsed.as_secs_f64();
            self.smoothed = if self.smoothed == 0.0 { rate } else { self.smoothed * 0.75 + rate * 0.25 };
            self.since = Some(now);
            self.bits = 0;
        }
        self.bits += bytes as u64 * 8;
    }
    /// Bits a second.
    pub fn bps(&self) -> f64 {
        self.smoothed
    }
}
