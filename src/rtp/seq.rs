//! Numbers of RTP that must not mix.

/// A synchronization source (RFC 3550 section 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ssrc(pub u32);

/// An RTP sequence number extended to 64 bits, so that it never wraps: `SeqNo / 65536` is SRTP's rollover counter
/// (RFC 3711 section 3.3.1). Only `rtp/` sees the `u16`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SeqNo(pub u64);

/// A 7-bit payload type (RFC 3550 section 5.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PayloadType(u8);

/// A payload type above 127.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a payload type is 0 to 127")]
pub struct InvalidPayloadType;

impl TryFrom<u8> for PayloadType {
    type Error = InvalidPayloadType;
    fn try_from(n: u8) -> Result<Self, InvalidPayloadType> {
        if n < 128 { Ok(Self(n)) } else { Err(InvalidPayloadType) }
    }
}

impl PayloadType {
    pub fn value(self) -> u8 {
        self.0
    }
}
