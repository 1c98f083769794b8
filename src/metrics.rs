//! Counters: one writer each (the shard's thread, or one task), read by `/metrics` at any time.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter with one writer: a plain load and store, no locked instruction on the packet path.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the counter's one writer may call this.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }
    pub fn set(&self, n: u64) {
        self.0.store(n, Relaxed);
    }
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $name:ident = $label:literal,)*) => {
        /// Why a packet went no further. Every drop has one of these names and a counter of that name.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason { $($(#[$doc])* $name,)* }
        impl DropReason {
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)*];
            /// The label of `exedra_dropped_packets_total{reason="…"}`.
            pub fn label(self) -> &'static str {
                match self { $(DropReason::$name => $label,)* }
            }
        }
        impl std::fmt::Display for DropReason {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.label()) }
        }
    };
}

drop_reasons! {
    /// The first byte belongs to none of STUN, DTLS, RTP, RTCP (RFC 7983).
    NotMedia = "not_media",
    /// A datagram of no known peer: no address and no ufrag matches.
    UnknownPeer = "unknown_peer",
    /// Not a well-formed STUN Binding request, response or indication.
    StunMalformed = "stun_malformed",
    /// MESSAGE-INTEGRITY is absent or wrong (RFC 8445 section 7.3).
    StunUnauthenticated = "stun_unauthenticated",
    /// DTLS from an address that has passed no ICE check.
    DtlsBeforeIce = "dtls_before_ice",
    /// A DTLS record or handshake message that makes no sense, or too large.
    DtlsMalformed = "dtls_malformed",
    /// SRTP or SRTCP before the handshake gave keys.
    SrtpBeforeKeys = "srtp_before_keys",
    /// The authentication tag is wrong (RFC 3711 section 3.3).
    SrtpUnauthenticated = "srtp_unauthenticated",
    /// Seen before, or older than the replay window.
    SrtpReplayed = "srtp_replayed",
    /// An RTP header that cannot be read.
    RtpMalformed = "rtp_malformed",
    /// An RTCP packet that cannot be read.
    RtcpMalformed = "rtcp_malformed",
    /// No m-line claims this SSRC (by mid, rid, a=ssrc or payload type, RFC 8843 section 9.2).
    UnknownSsrc = "unknown_ssrc",
    /// A payload type that was not negotiated.
    UnknownPayloadType = "unknown_payload_type",
    /// More SSRCs than one peer may have.
    TooManySsrcs = "too_many_ssrcs",
    /// A codec descriptor that cannot be read.
    DescriptorMalformed = "descriptor_malformed",
    /// An RTX packet with no original sequence number, or of no known stream.
    RtxMalformed = "rtx_malformed",
    /// A media packet that is here already.
    Duplicate = "duplicate",
    /// Too late to be of use: older than what the history holds.
    TooOld = "too_old",
    /// Nobody is to get it: padding for probing, or a stream without a track.
    Unwanted = "unwanted",
    /// The slot waits for a keyframe.
    AwaitingKeyframe = "awaiting_keyframe",
    /// Belongs to an encoding or layer that is not forwarded.
    LayerNotSelected = "layer_not_selected",
    /// The subscriber negotiated no payload type for this codec.
    CodecNotNegotiated = "codec_not_negotiated",
    /// From before the last change of source.
    OldSource = "old_source",
    /// The track is muted.
    Muted = "muted",
    /// Longer than what is forwarded.
    TooLarge = "too_large",
    /// The subscriber's transport is not connected.
    NotConnected = "not_connected",
    /// The kernel's send buffer was full.
    SendBufferFull = "send_buffer_full",
    /// The kernel refused the datagram.
    SendFailed = "send_failed",
    /// A NACK for a packet that is no longer in the history, or never was sent.
    NackUnanswerable = "nack_unanswerable",
    /// Retransmission withheld: asked again sooner than a round trip, or over budget.
    NackThrottled = "nack_throttled",
    /// Another shard could not take it: it has more waiting than it may.
    RelayFull = "relay_full",
    /// A datagram beyond the rate one source may have before it is authenticated.
    RateLimited = "rate_limited",
    /// Transport-wide feedback on packets that were never sent.
    FeedbackImpossible = "feedback_impossible",
    /// Transport-wide feedback that says nothing new, or only of packets long forgotten.
    FeedbackStale = "feedback_stale",
    /// Transport-wide feedback after which the receiver's clock is another one.
    FeedbackClock = "feedback_clock",
    /// A REMB of no rate that a receiver can mean.
    RembImplausible = "remb_implausible",
    /// More packets wait for a subscriber's path than may.
    PacerFull = "pacer_full",
    /// A recording could not take it: it has more waiting than it may, or has just ended.
    RecordingFull = "recording_full",
}

/// What one shard counts. The shard's thread is the one writer.
#[derive(Debug)]
pub struct ShardMetrics {
    pub datagrams_in: Counter,
    pub bytes_in: Counter,
    pub datagrams_out: Counter,
    pub bytes_out: Counter,
    /// Send system calls (a GSO send of many datagrams counts once).
    pub sends: Counter,
    /// Receive system calls.
    pub receives: Counter,
    /// RTP packets opened from publishers.
    pub rtp_in: Counter,
    /// RTP packets sealed for subscribers, retransmissions included.
    pub rtp_out: Counter,
    pub retransmissions_out: Counter,
    /// Packets sent to subscribers to see whether their paths carry more.
    pub probes_out: Counter,
    /// Packets asked for again from publishers.
    pub nacks_out: Counter,
    /// Packets that subscribers asked for again.
    pub nacks_in: Counter,
    /// Transport-wide feedbacks and REMBs of subscribers, from which their paths are estimated.
    pub feedbacks_in: Counter,
    pub keyframe_requests_out: Counter,
    pub keyframe_requests_in: Counter,
    pub peers: Counter,
    /// Packets handed to other shards, and the batches that they were handed over in.
    pub relayed: Counter,
    pub relays: Counter,
    /// Packets handed to recordings, and the batches that they were handed over in.
    pub recorded: Counter,
    pub record_batches: Counter,
    /// Turns of the shard loop, and the nanoseconds spent in them (waiting not counted).
    pub loops: Counter,
    pub loop_nanos: Counter,
    pub loop_nanos_max: Counter,
    /// Panics contained to one room.
    pub panics: Counter,
    drops: [Counter; DropReason::ALL.len()],
}

impl Default for ShardMetrics {
    fn default() -> Self {
        let c = Counter::default;
        Self {
            datagrams_in: c(),
            bytes_in: c(),
            datagrams_out: c(),
            bytes_out: c(),
            sends: c(),
            receives: c(),
            rtp_in: c(),
            rtp_out: c(),
            retransmissions_out: c(),
            probes_out: c(),
            nacks_out: c(),
            nacks_in: c(),
            feedbacks_in: c(),
            keyframe_requests_out: c(),
            keyframe_requests_in: c(),
            peers: c(),
            relayed: c(),
            relays: c(),
            recorded: c(),
            record_batches: c(),
            loops: c(),
            loop_nanos: c(),
            loop_nanos_max: c(),
            panics: c(),
            drops: std::array::from_fn(|_| c()),
        }
    }
}

impl ShardMetrics {
    pub fn drop_packet(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].value()
    }
}
