//! Datagrams are sorted, headers read with every extension value, and what was read can be written again.
#![no_main]
use exedra::rtp::extension::{self, AbsCaptureTime, AudioLevel, VideoOrientation};
use exedra::rtp::{Header, HeaderWriter, classify};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|packet: &[u8]| {
    classify(packet);
    let Ok(header) = Header::parse(packet) else { return };
    assert!(header.len >= 12 && header.len <= packet.len());
    if let Ok(payload) = header.payload_range(packet) {
        assert!(payload.start == header.len && payload.end <= packet.len());
    }
    let mut out = vec![0; 2 * packet.len() + 64];
    let (h, two_byte) = (&header, packet[0] & 1 != 0);
    let mut writer = HeaderWriter::new(&mut out, h.marker, h.payload_type, h.sequence, h.timestamp, h.ssrc, two_byte);
    let mut writable = Vec::new();
    for (id, value) in header.extensions(packet) {
        let _ = (AudioLevel::parse(value), AbsCaptureTime::parse(value), VideoOrientation::parse(value));
        let _ = (extension::parse_transport_seq(value), extension::parse_label(value));
        if two_byte || matches!(id, 1..=14) && matches!(value.len(), 1..=16) {
            writable.push((id, value));
        }
        writer.extension(id, value);
    }
    let len = writer.finish();
    let again = Header::parse(&out[..len]).expect("what is written can be read");
    assert_eq!((again.sequence, again.timestamp, again.ssrc, again.len), (h.sequence, h.timestamp, h.ssrc, len));
    assert_eq!(again.extensions(&out).collect::<Vec<_>>(), writable);
});
