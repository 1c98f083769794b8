//! What a publisher says of the layers that it means to send (`rtp::vla`): it counts until they were measured.
use super::meter::Hint;
use super::{Engine, stream::ReceiveStream};
use crate::rtp::extension::Extension;
use crate::rtp::header::Header;
use crate::rtp::vla::{SpatialLayer, VideoLayersAllocation};

impl Engine {
    /// Reads the allocation that a packet of stream `at` carries, if it does. What cannot be read is of no use, and does no harm.
    pub(super) fn note_allocation(&mut self, index: usize, at: usize, header: &Header, datagram: &[u8]) {
        let media = &self.peers[index].receive[self.streams[at].media];
        let value = media.extensions.id(Extension::VideoLayersAllocation).and_then(|id| header.extension(datagram, id));
        let Some(allocation) = value.and_then(|v| VideoLayersAllocation::parse(v).ok()) else { return };
        let Some(track) = self.streams[at].track else { return };
        for &other in &self.tracks[track].streams {
            let stream = &mut self.streams[other];
            // Streams are numbered as `a=simulcast` names them; without it there is one.
            let number = match &stream.rid {
                Some(rid) => media.rids.iter().position(|r| r == rid),
                None => Some(0),
            };
            let Some(number) = number.and_then(|n| u8::try_from(n).ok()) else { continue };
            announce(stream, allocation.of_stream(number));
        }
    }
}

fn announce<'a>(stream: &mut ReceiveStream, layers: impl Iterator<Item = &'a SpatialLayer>) {
    let Some(meter) = stream.meter.as_mut() else { return };
    let Hint { mut sizes, .. } = meter.as_hint();
    let mut kbps = 0;
    for layer in layers {
        kbps = kbps.max(layer.total_kbps());
        if let (Some(told), Some(size)) = (layer.resolution, sizes.get_mut(usize::from(layer.spatial))) {
            let side = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
            *size = (side(told.width), side(told.height));
        }
    }
    if kbps > 0 {
        meter.hint(Hint { bps: kbps.saturating_mul(1_000), sizes });
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "some instant to count from")]
mod tests {
    use super::*;
    use crate::forward::StreamKey;
    use crate::rtp::history::HistoryBudget;
    use crate::rtp::{Codec, Ssrc};
    use std::time::Instant;

    #[test]
    fn what_is_announced_counts_until_it_was_measured() {
        let key = StreamKey { index: 0, generation: 1 };
        let budget = HistoryBudget::default();
        let mut stream = ReceiveStream::new(Instant::now(), key, 0, Ssrc(1), Codec::Vp8, true, &budget);
        // The second of two streams: 500 kbit/s, 640x360 at 30 frames a second.
        let value = [0x51, 0x00, 100, 0xf4, 3, 1, 63, 0, 179, 30, 2, 127, 1, 103, 30];
        let allocation = VideoLayersAllocation::parse(&value).unwrap();
        announce(&mut stream, allocation.of_stream(1));
        let hint = stream.hint();
        assert_eq!((hint.bps, hint.sizes[0]), (500_000, (640, 360)));
        // Without sizes those stay; a stream that is not sent changes nothing.
        announce(&mut stream, VideoLayersAllocation::parse(&[0x51, 0x00, 90, 80]).unwrap().of_stream(1));
        announce(&mut stream, VideoLayersAllocation::parse(&[0]).unwrap().of_stream(1));
        let hint = stream.hint();
        assert_eq!((hint.bps, hint.sizes[0]), (80_000, (640, 360)));
    }
}
