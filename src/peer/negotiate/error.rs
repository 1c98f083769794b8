//! Why something is refused.
use crate::ids::Mid;
use crate::peer::sdp::SdpError;
use crate::rtp::Kind;

/// Why an m-line is answered with port 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("the client stopped it")]
    Stopped,
    #[error("{0:?} is neither audio nor video")]
    Kind(String),
    #[error("the protocol {0:?} is not RTP over DTLS (UDP/TLS/RTP/SAVPF)")]
    Protocol(String),
    #[error("it is not in the BUNDLE group, and there is one transport for all")]
    NotBundled,
    #[error("it has no a=rtcp-mux, and RTP and RTCP share one port")]
    NoRtcpMux,
    #[error("no codec in common (offered: {offered}; supported: {supported})")]
    NoCodec { offered: String, supported: &'static str },
    #[error("more than {limit} {kind:?} slots")]
    TooManySlots { kind: Kind, limit: usize },
}

/// Why an offer or a fragment is refused. m-lines are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NegotiateError {
    #[error(transparent)]
    Sdp(#[from] SdpError),
    #[error("the offer has no m-line that is not stopped")]
    NothingOffered,
    #[error("the offer has {0} m-lines and no a=group:BUNDLE: offer one transport for all (bundlePolicy max-bundle)")]
    NotBundled(usize),
    #[error("the a=group:BUNDLE names none of the m-lines")]
    OutsideBundle,
    #[error("no m-line can be used: {0}")]
    NothingAccepted(String),
    #[error("m-line {0}: the mid is not 1 to 32 printable ASCII characters")]
    InvalidMid(usize),
    #[error("m-line {line}: the mid {mid:?} is there twice")]
    DuplicateMid { line: usize, mid: String },
    #[error("the offer has {offered} m-lines, fewer than the {agreed} agreed before: stop them, but keep their places")]
    FewerSections { offered: usize, agreed: usize },
    #[error("m-line {line} (mid {mid}) became {now}: stop it, and offer another")]
    KindChanged { line: usize, mid: Mid, now: String },
    #[error("m-line {line} (mid {mid}): payload type {payload_type} has another meaning than before")]
    PayloadTypeChanged { line: usize, mid: Mid, payload_type: u8 },
    #[error("there is no a=ice-ufrag and a=ice-pwd")]
    NoIceCredentials,
    #[error(
        "a=ice-ufrag or a=ice-pwd is not what RFC 8839 section 5.4 allows: 4 to 256 and 22 to 256 of A-Z a-z 0-9 + /"
    )]
    IceCredentials,
    #[error("the offer is a=ice-lite, and so is the server: nobody would check the connection")]
    IceLite,
    #[error("the offer has no a=fingerprint")]
    NoFingerprint,
    #[error("no a=fingerprint of sha-256, sha-384 or sha-512, only {0:?}")]
    Fingerprint(String),
    #[error("a=setup:{0} is not actpass, active or passive")]
    Setup(String),
    #[error("there is no offer yet that a fragment could belong to")]
    NotNegotiated,
}
