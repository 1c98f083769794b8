//! What the engine knows of one peer: its association, what it sends us, and its slots.
use super::allocate::Share;
use super::api::{SlotReport, SlotState, Wish};
use super::outgoing::Outgoing;
use super::quality::Quality;
use super::stream::BitRate;
use crate::forward::{Forwarder, Origin, Target};
use crate::ids::{Mid, PeerId, RoomId};
use crate::peer::Path;
use crate::peer::association::Association;
use crate::peer::config::{CodecParameters, ReceiveMedia, SendMedia};
use crate::peer::srtp::SsrcState;
use crate::rtp::clock::PeerClock;
use crate::rtp::codec::Codec;
use crate::rtp::extension::Extension;
use crate::rtp::rtcp::ReportBlock;
use crate::rtp::twcc::TwccRecorder;
use crate::rtp::{SeqNo, Ssrc};
use slab::Slab;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// SSRCs that one peer may use, RTX included. A camera with three encodings and RTX is six.
pub(super) const MAX_SSRCS: usize = 64;
/// Retransmissions of one slot remembered, to answer a NACK once per round trip.
const MAX_RECENT_REPAIRS: usize = 128;
/// The round trip taken for granted until one was measured.
pub(super) const DEFAULT_RTT: Duration = Duration::from_millis(100);

pub(super) struct Peer {
    pub id: PeerId,
    pub room: RoomId,
    pub association: Association,
    pub path: Option<Path>,
    /// All addresses that are the peer's.
    pub paths: Vec<Path>,
    pub connected: bool,
    /// Bytes that sealing adds to a packet for it.
    pub overhead: u8,
    /// Our user name fragments, the latest last.
    pub ufrags: Vec<Box<str>>,
    /// Our canonical name on this connection (RFC 7022).
    pub cname: String,
    pub receive: Vec<ReceiveMedia>,
    /// Tracks by the m-line that they are published on.
    pub published: Vec<(Mid, usize)>,
    /// Known SSRCs. A handful: a scan beats a hash.
    pub ssrcs: Vec<(Ssrc, Source)>,
    pub repairs: Slab<RepairStream>,
    pub clock: PeerClock,
    /// Made by the first packet with a transport-wide number.
    pub twcc: Option<TwccRecorder>,
    /// When receiver or sender reports go out next; `None` while there is nothing to report.
    pub report_due: Option<Instant>,
    /// When streams are looked through for silent ones next.
    pub review_due: Option<Instant>,
    pub rtt: Option<Duration>,
    pub remb: Remb,
    pub quality: Quality,
    pub slots: Vec<Slot>,
    /// Slots with packets to be forwarded in this batch, with the stream that they come from.
    pub pending: SmallVec<[(u32, u32); 2]>,
    pub repairs_due: Vec<Repair>,
    /// What goes to it, from its first slot on.
    pub outgoing: Option<Box<Outgoing>>,
    /// In the engine's list of peers with something to send.
    pub listed: bool,
    /// More happened to it than media that is to be forwarded: its association and its reports are looked after, too.
    pub stirred: bool,
    /// The deadline that stands in the timer queue.
    pub armed: Option<Instant>,
    pub counts: Counts,
    /// SSRC that our own reports come from: where there is no slot (RFC 3550 section 6.4.2).
    pub report_ssrc: Ssrc,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// Index of a stream.
    Media(usize),
    /// Key in the peer's `repairs`.
    Repair(usize),
}

/// An RTX SSRC (RFC 4588).
pub(super) struct RepairStream {
    pub srtp: SsrcState,
    /// Index of the stream that it repairs.
    pub stream: usize,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub datagrams_in: u64,
    pub bytes_in: u64,
    pub datagrams_out: u64,
    pub bytes_out: u64,
}

/// For publishers without transport-wide feedback: what REMB tells them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Remb {
    pub wanted: bool,
    pub bps: u64,
}

/// A packet that a subscriber asked for again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repair {
    pub slot: usize,
    pub out: SeqNo,
    pub origin: Origin,
}

/// A receive m-line of the subscriber: an RTP stream that never changes its SSRC.
pub(super) struct Slot {
    pub media: SendMedia,
    /// Its m-line is gone; a new one may take its place.
    pub retired: bool,
    pub track: Option<usize>,
    /// How it is looked at.
    pub wish: Wish,
    pub share: Share,
    /// What was forwarded when that was last looked at.
    pub shown: Option<Target>,
    /// What the room was last told, and when.
    pub reported_last: Option<(SlotReport, Instant)>,
    /// Of what is sent, without retransmissions.
    pub rate: BitRate,
    /// Where it stands among the track's subscribers.
    pub place: usize,
    pub forwarder: Forwarder,
    /// Next sequence number of the RTX stream.
    pub next_repair: SeqNo,
    recent_repairs: VecDeque<(SeqNo, Instant)>,
    pub told: Option<SlotState>,
    /// The payload types for the codec of the last packet.
    payload: Option<(Codec, CodecParameters)>,
    pub two_byte: bool,
    /// Counts for sender reports: of media packets, without RTX (RFC 3550 section 6.4.1).
    pub packets: u64,
    pub octets: u64,
    pub repaired: u64,
    pub nacks: u64,
    pub keyframe_requests: u64,
    /// What the subscriber last reported.
    pub reported: Option<ReportBlock>,
}

impl Slot {
    pub fn new(media: SendMedia, first: u16, first_repair: u16) -> Self {
        let forwarder = Forwarder::new(media.kind, first);
        // Ids above 14 and values above 16 bytes exist only in two-byte headers (RFC 8285 section 4.3); a dependency descriptor with its
        // structure, which every keyframe has, is longer.
        let two_byte =
            media.extensions.iter().any(|(extension, id)| id > 14 || extension == Extension::DependencyDescriptor);
        Self {
            media,
            retired: false,
            track: None,
            wish: Wish::default(),
            share: Share::default(),
            shown: None,
            reported_last: None,
            rate: BitRate::default(),
            place: 0,
            forwarder,
            next_repair: SeqNo(u64::from(first_repair & 0x7fff)),
            recent_repairs: VecDeque::new(),
            told: None,
            payload: None,
            two_byte,
            packets: 0,
            octets: 0,
            repaired: 0,
            nacks: 0,
            keyframe_requests: 0,
            reported: None,
        }
    }

    /// Lets go of the track that it shows, and gives its index.
    pub fn show_nothing(&mut self) -> Option<usize> {
        (self.told, self.shown, self.reported_last) = (None, None, None);
        self.share = Share::default();
        self.forwarder.set_target(None, false);
        self.track.take()
    }

    /// Whether the subscriber has a decoder for it.
    pub fn takes(&self, codec: Codec) -> bool {
        self.media.codecs.iter().any(|c| c.codec == codec || c.codec.decodes(codec))
    }

    /// The payload types for `codec` on this slot.
    pub fn payload(&mut self, codec: Codec) -> Option<&CodecParameters> {
        if self.payload.as_ref().is_none_or(|(cached, _)| *cached != codec) {
            let exact = self.media.codecs.iter().find(|c| c.codec == codec);
            let found = exact.or_else(|| self.media.codecs.iter().find(|c| c.codec.decodes(codec)))?;
            self.payload = Some((codec, found.clone()));
        }
        self.payload.as_ref().map(|(_, parameters)| parameters)
    }

    /// True if the packet may be sent again now, and notes it: once in a round trip, or it would come twice.
    pub fn may_repair(&mut self, now: Instant, seq: SeqNo, rtt: Duration) -> bool {
        let again_after = rtt.max(Duration::from_millis(10));
        while let Some(&(_, at)) = self.recent_repairs.front() {
            let full = self.recent_repairs.len() >= MAX_RECENT_REPAIRS;
            if !full && now.saturating_duration_since(at) < again_after {
                break;
            }
            self.recent_repairs.pop_front();
        }
        if self.recent_repairs.iter().any(|&(s, _)| s == seq) {
            return false;
        }
        self.recent_repairs.push_back((seq, now));
        true
    }
}

impl Peer {
    /// Indices of its streams: a copy, so that they can be changed on the way.
    pub fn streams(&self) -> SmallVec<[usize; 8]> {
        let media = self.ssrcs.iter().filter_map(|(_, source)| match source {
            Source::Media(stream) => Some(*stream),
            Source::Repair(_) => None,
        });
        media.collect()
    }
    pub fn rtt_or_default(&self) -> Duration {
        self.rtt.unwrap_or(DEFAULT_RTT)
    }
    pub fn slot_by_mid(&self, mid: &Mid) -> Option<usize> {
        self.slots.iter().position(|s| !s.retired && s.media.mid == *mid)
    }
    pub fn slot_by_ssrc(&self, ssrc: Ssrc) -> Option<usize> {
        self.slots.iter().position(|s| !s.retired && s.media.ssrc == ssrc)
    }
    pub fn track_on(&self, media: usize) -> Option<usize> {
        let mid = &self.receive.get(media)?.mid;
        self.published.iter().find(|(m, _)| m == mid).map(|&(_, track)| track)
    }
}
