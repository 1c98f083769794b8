//! Vocabulary of the wire: sequence numbers, headers, header extensions, codec descriptors, RTCP.
//! Pure, bounded, and free of allocation where a packet passes.
pub mod clock;
pub mod codec;
pub mod dd;
pub mod extension;
pub mod header;
pub mod history;
pub mod layer;
pub mod packet;
pub mod receiver;
pub mod rtcp;
pub mod seq;
pub mod twcc;
pub mod vla;

pub use codec::{Codec, FrameInfo, Kind};
pub use extension::{Extension, ExtensionMap};
pub use header::{Datagram, Header, HeaderWriter, classify};
pub use history::{History, HistoryLimits, Stored};
pub use layer::LayerId;
pub use receiver::{NackConfig, NackGenerator, ReceptionStats};
pub use seq::{PayloadType, SeqExtender, SeqNo, Ssrc};
pub use twcc::TwccRecorder;

/// Bytes from the network that do not follow their grammar. The text names what is wrong, for a trace and for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);

/// Big-endian reads that end in [`Malformed`] instead of a panic.
mod read {
    use super::Malformed;

    pub fn u8(bytes: &[u8], at: usize) -> Result<u8, Malformed> {
        bytes.get(at).copied().ok_or(Malformed("truncated"))
    }
    pub fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], Malformed> {
        bytes.get(at..).and_then(|b| b.first_chunk::<N>()).copied().ok_or(Malformed("truncated"))
    }
    pub fn u16(bytes: &[u8], at: usize) -> Result<u16, Malformed> {
        array(bytes, at).map(u16::from_be_bytes)
    }
    pub fn u32(bytes: &[u8], at: usize) -> Result<u32, Malformed> {
        array(bytes, at).map(u32::from_be_bytes)
    }
    pub fn u64(bytes: &[u8], at: usize) -> Result<u64, Malformed> {
        array(bytes, at).map(u64::from_be_bytes)
    }
}
