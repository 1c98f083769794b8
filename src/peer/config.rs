//! What negotiation decides and the engine carries out.
use crate::ids::{Mid, Rid};
use crate::rtp::{Codec, ExtensionMap, Kind, PayloadType, Ssrc};

/// The whole description of a peer: made from an offer and its answer.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    pub ice: IceConfig,
    pub dtls: DtlsConfig,
    /// m-lines on which the peer sends to us, in SDP order (connection `pub`, WHIP).
    pub receive: Vec<ReceiveMedia>,
    /// m-lines on which we send to the peer: its slots, in SDP order (connection `sub`, WHEP).
    pub send: Vec<SendMedia>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IceConfig {
    pub local: IceCredentials,
    pub remote: IceCredentials,
}

/// RFC 8839 section 5.4. The ufrag is 4 to 256 characters, the password 22 to 256.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    pub ufrag: String,
    pub pwd: String,
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IceCredentials({}, …)", self.ufrag)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DtlsConfig {
    /// Our role.
    pub role: DtlsRole,
    /// The peer's certificate must have one of these (RFC 8122). Never empty.
    pub fingerprints: Vec<Fingerprint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtlsRole {
    /// We answer `a=setup:active`.
    Client,
    /// We answer `a=setup:passive`: the default.
    Server,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    pub hash: FingerprintHash,
    pub value: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FingerprintHash {
    Sha256,
    Sha384,
    Sha512,
}

/// An m-line on which we receive.
#[derive(Clone, Debug)]
pub struct ReceiveMedia {
    pub mid: Mid,
    pub kind: Kind,
    /// What the answer accepts, in order of preference.
    pub codecs: Vec<CodecParameters>,
    pub extensions: ExtensionMap,
    /// Encodings offered by `a=rid … send`, in the order of `a=simulcast`. Empty without simulcast. A rid may never be sent.
    pub rids: Vec<Rid>,
    /// Streams declared by `a=ssrc`, each with its RTX SSRC by `a=ssrc-group:FID`. Empty if none are declared.
    pub ssrcs: Vec<DeclaredSsrc>,
    /// False while the m-line's direction is `inactive` or `recvonly`, or it was stopped.
    pub active: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredSsrc {
    pub ssrc: Ssrc,
    pub rtx: Option<Ssrc>,
}

/// An m-line on which we send: a slot. Its SSRCs and payload types never change.
#[derive(Clone, Debug)]
pub struct SendMedia {
    pub mid: Mid,
    pub kind: Kind,
    /// What the peer can receive, in its order of preference.
    pub codecs: Vec<CodecParameters>,
    pub extensions: ExtensionMap,
    pub ssrc: Ssrc,
    /// Present when RTX was negotiated for at least one codec.
    pub rtx_ssrc: Option<Ssrc>,
    pub active: bool,
}

/// A payload type and what it means on one m-line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecParameters {
    pub codec: Codec,
    pub payload_type: PayloadType,
    /// The payload type of its retransmissions (RFC 4588), `rtx` with `apt`.
    pub rtx: Option<PayloadType>,
    pub feedback: Feedback,
}

/// `a=rtcp-fb` as answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Feedback {
    pub nack: bool,
    pub pli: bool,
    pub fir: bool,
    pub transport_cc: bool,
    pub remb: bool,
}
