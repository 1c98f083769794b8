//! What negotiation decides and the engine carries out.
use std::fmt;
use std::str::FromStr;

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
    /// The canonical name (RFC 3550 section 6.5.1) of everything we send, as the answer says it in `a=ssrc`.
    pub cname: String,
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

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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

impl FingerprintHash {
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    /// As the "Hash Function Textual Names" registry spells it (RFC 8122 section 5).
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }
    /// Length of a value in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// The value of `a=fingerprint` (RFC 8122 section 5): the hash, a space, and hexadecimal bytes with colons between.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hash.name())?;
        for (i, byte) in self.value.iter().enumerate() {
            write!(f, "{}{byte:02X}", if i == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

/// Not a fingerprint, or one of a hash that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a fingerprint is sha-256, sha-384 or sha-512 and as many bytes as that has, in hexadecimal with colons between"
)]
pub struct InvalidFingerprint;

impl FromStr for Fingerprint {
    type Err = InvalidFingerprint;
    /// The inverse of `Display`; letters may be of either case.
    fn from_str(text: &str) -> Result<Self, InvalidFingerprint> {
        let (name, hex) = text.trim().split_once(' ').ok_or(InvalidFingerprint)?;
        let hash = FingerprintHash::ALL.into_iter().find(|h| h.name().eq_ignore_ascii_case(name));
        let hash = hash.ok_or(InvalidFingerprint)?;
        let mut value = Vec::with_capacity(hash.size());
        for byte in hex.trim().split(':').take(hash.size() + 1) {
            if byte.len() != 2 || !byte.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(InvalidFingerprint);
            }
            value.push(u8::from_str_radix(byte, 16).map_err(|_| InvalidFingerprint)?);
        }
        if value.len() == hash.size() { Ok(Self { hash, value }) } else { Err(InvalidFingerprint) }
    }
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
    /// False while the direction is `inactive`: the client paused it, or offered only to receive. A stopped m-line is not listed.
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
    /// Packets with two-byte extension headers may be among others (RFC 8285 section 6).
    pub mixed_headers: bool,
    pub ssrc: Ssrc,
    /// Present when RTX was negotiated for at least one codec.
    pub rtx_ssrc: Option<Ssrc>,
    /// False while the direction is `inactive`. A stopped m-line is not listed.
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
