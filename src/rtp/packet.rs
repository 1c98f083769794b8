//! A media packet as the server keeps it: parsed once, then read by every subscriber.
use super::codec::{Codec, FrameInfo};
use super::extension::Extension;

/// What was read of a stored packet, once: everything that forwarding needs without looking at the bytes again.
#[derive(Clone, Copy, Debug)]
pub struct PacketInfo {
    pub timestamp: u32,
    pub marker: bool,
    pub codec: Codec,
    /// Bytes before the payload: the RTP header with its extensions.
    pub header_len: u16,
    /// Bytes of payload, RTP padding left out.
    pub payload_len: u16,
    pub frame: FrameInfo,
    pub extensions: ExtensionSpans,
}

/// Where in a packet the values of those extensions are that are passed on.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExtensionSpans {
    spans: [(u8, u8, u16); ExtensionSpans::MAX],
    count: u8,
}

impl ExtensionSpans {
    const MAX: usize = 8;

    /// True if the server passes this extension from publisher to subscriber. The others it makes itself, or they end here.
    pub fn is_passed_on(extension: Extension) -> bool {
        matches!(
            extension,
            Extension::AudioLevel
                | Extension::AbsCaptureTime
                | Extension::DependencyDescriptor
                | Extension::VideoOrientation
                | Extension::PlayoutDelay
                | Extension::VideoContentType
                | Extension::VideoTiming
                | Extension::ColorSpace
        )
    }

    /// Notes that the value of `extension` stands at `offset` in the packet. Beyond eight, and beyond 255 bytes, it is left out.
    pub fn push(&mut self, extension: Extension, offset: usize, len: usize) {
        let (Ok(len), Ok(offset)) = (u8::try_from(len), u16::try_from(offset)) else { return };
        if let Some(span) = self.spans.get_mut(usize::from(self.count)) {
            *span = (extension as u8, len, offset);
            self.count += 1;
        }
    }

    /// The value of one of them, read from the packet that they were noted for.
    pub fn value<'a>(&self, extension: Extension, packet: &'a [u8]) -> Option<&'a [u8]> {
        let mut spans = self.spans.iter().take(usize::from(self.count));
        let &(_, len, offset) = spans.find(|(e, ..)| *e == extension as u8)?;
        packet.get(usize::from(offset)..usize::from(offset) + usize::from(len))
    }

    /// The values, read from the packet that they were noted for.
    pub fn values<'a>(&'a self, packet: &'a [u8]) -> impl Iterator<Item = (Extension, &'a [u8])> + 'a {
        self.spans.iter().take(usize::from(self.count)).filter_map(move |&(extension, len, offset)| {
            let value = packet.get(usize::from(offset)..usize::from(offset) + usize::from(len))?;
            Some((Extension::ALL[usize::from(extension)], value))
        })
    }
}
