//! What many clients of one thread count together, and the buffers that they share.
use crate::report::histogram::Histogram;
use exedra::rtp::Kind;
use std::time::Instant;

const OPENED: usize = 2_048;

/// Counters of what arrives, for one group of clients. Nothing is allocated for a packet.
pub struct Meter {
    /// When the datagrams in hand arrived, where that is known better than by when they were read: by the kernel's stamp.
    pub arrived: Option<Instant>,
    pub audio: Flow,
    pub video: Flow,
    /// Where packets are opened.
    pub(super) opened: Vec<u8>,
}

/// What arrived of one kind of media.
#[derive(Clone, Default)]
pub struct Flow {
    /// Media packets that were new, in whatever way they came, and the bytes of their datagrams.
    pub packets: u64,
    pub bytes: u64,
    /// From the moment at which the publisher handed a packet to the kernel until it arrived. This is the one that is recorded into;
    /// whoever reads it moves it to `total`.
    pub latency: Histogram,
    pub total: Histogram,
}

impl Default for Meter {
    fn default() -> Self {
        Self { arrived: None, audio: Flow::default(), video: Flow::default(), opened: vec![0; OPENED] }
    }
}

impl Meter {
    pub(super) fn count(&mut self, kind: Kind, bytes: usize, micros: u64) {
        let flow = match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        };
        flow.packets += 1;
        flow.bytes += bytes as u64;
        flow.latency.record_us(micros);
    }
}
