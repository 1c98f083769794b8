//! Opus packets (RFC 6716): how long they are, and those that are silence.

/// Samples at 48 kHz that a packet decodes to; `None` for what is no Opus packet. At most 120 ms (RFC 6716 section 3.2).
pub fn samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        config @ 0..=11 => [480, 960, 1920, 2880][usize::from(config & 3)],
        config @ 12..=15 => [480, 960][usize::from(config & 1)],
        config => [120, 240, 480, 960][usize::from(config & 3)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(packet.get(1)? & 0x3f),
    };
    let samples = frame * frames;
    (samples > 0 && samples <= 5760).then_some(samples)
}

/// A packet is stereo if this bit of its first byte is set (RFC 6716 section 3.1).
pub fn is_stereo(packet: &[u8]) -> bool {
    packet.first().is_some_and(|toc| toc & 4 != 0)
}

/// Packets that decode to digital silence, longest first, with their samples: CELT frames whose silence flag is set
/// (RFC 6716 section 4.3).
pub const SILENCE: [(u32, [u8; 3]); 4] =
    [(960, [0xfc, 0xff, 0xfe]), (480, [0xf4, 0xff, 0xfe]), (240, [0xec, 0xff, 0xfe]), (120, [0xe4, 0xff, 0xfe])];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_follow_from_the_first_byte() {
        for (packet, want) in [
            (&[0x78, 1][..], Some(960)),    // hybrid, 20 ms
            (&[0x08, 1], Some(960)),        // SILK narrowband, 20 ms
            (&[0x18], Some(2880)),          // SILK, 60 ms
            (&[0x79, 1], Some(1920)),       // two frames
            (&[0xfb, 0x83, 1], Some(2880)), // three frames of CELT
            (&[0x1b, 0x03], None),          // 180 ms
            (&[0xfb], None),
            (&[], None),
        ] {
            assert_eq!(samples(packet), want, "{packet:x?}");
        }
        for (n, packet) in SILENCE {
            assert_eq!((samples(&packet), is_stereo(&packet)), (Some(n), true));
        }
    }
}
