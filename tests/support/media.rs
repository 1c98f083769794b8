//! Test media that says what it is: VP8 frames and Opus packets whose bytes follow from publisher, frame and part.
use rtp::Packet;
use rtp::header::Header;

/// Packets of a frame: more than one, so that frames can be torn.
pub const PARTS: u8 = 3;
/// The VP8 payload descriptor that the camera writes: X, I (15 bits), L and T (RFC 7741 section 4.2).
const DESCRIPTOR: usize = 6;
const FILLER: usize = 700;
const OPUS_FILLER: usize = 60;

/// What a packet turned out to carry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Content {
    /// Which publisher it is of.
    pub label: u8,
    pub frame: u32,
    pub part: u8,
    /// The first packet of a keyframe.
    pub keyframe: bool,
}

/// The numbers of one RTP stream.
pub struct Source {
    pub label: u8,
    pub ssrc: u32,
    pub payload_type: u8,
    pub seq: u16,
    pub timestamp: u32,
    pub frame: u32,
}

impl Source {
    pub fn new(label: u8, ssrc: u32, payload_type: u8) -> Self {
        // Near the wrap of all that wraps, so that a short test crosses it.
        let (seq, timestamp) = (0xffe0 + u16::from(label % 16), 0xfffe_0000);
        Self { label, ssrc, payload_type, seq, timestamp, frame: 0 }
    }

    /// One VP8 frame of [`PARTS`] packets, `ticks` of 90 kHz after the last.
    pub fn vp8_frame(&mut self, keyframe: bool, ticks: u32) -> Vec<Packet> {
        self.timestamp = self.timestamp.wrapping_add(ticks);
        let frame = self.frame;
        self.frame += 1;
        let picture = 0x7ff0_u16.wrapping_add(frame as u16) | 0x8000;
        let [high, low] = picture.to_be_bytes();
        let packet = |part: u8| {
            let start = if part == 0 { 0x10 } else { 0 };
            let mut payload = vec![0x80 | start, 0xe0, high, low, frame as u8, 0];
            if part == 0 {
                // The frame tag's lowest bit is 0 for a keyframe; start code and size follow in one (RFC 6386 section 9.1).
                match keyframe {
                    true => payload.extend([0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00]),
                    false => payload.extend([0x11, 0x02, 0x00]),
                }
            }
            payload.extend(filler(self.label, frame, part, FILLER));
            payload
        };
        let payloads: Vec<_> = (0..PARTS).map(packet).collect();
        payloads.into_iter().enumerate().map(|(i, p)| self.packet(p, i + 1 == usize::from(PARTS))).collect()
    }

    /// One Opus packet of 20 ms.
    pub fn opus(&mut self) -> Packet {
        self.timestamp = self.timestamp.wrapping_add(960);
        let frame = self.frame;
        self.frame += 1;
        self.packet(filler(self.label, frame, 0, OPUS_FILLER), false)
    }

    fn packet(&mut self, payload: Vec<u8>, marker: bool) -> Packet {
        self.seq = self.seq.wrapping_add(1);
        let header = Header {
            version: 2,
            marker,
            payload_type: self.payload_type,
            sequence_number: self.seq,
            timestamp: self.timestamp,
            ssrc: self.ssrc,
            ..Default::default()
        };
        Packet { header, payload: payload.into() }
    }
}

/// Reads a VP8 payload of a [`Source`], and holds every byte of it against what was sent.
pub fn read_vp8(payload: &[u8]) -> Content {
    let (descriptor, body) = payload.split_at(DESCRIPTOR);
    assert_eq!(descriptor[0] & 0x80, 0x80, "the descriptor lost its extension: {descriptor:02x?}");
    assert_eq!((descriptor[1], descriptor[2] & 0x80), (0xe0, 0x80), "{descriptor:02x?}");
    let starts = descriptor[0] & 0x10 != 0;
    let keyframe = starts && body[0] & 1 == 0;
    let body = match (starts, keyframe) {
        (true, true) => &body[10..],
        (true, false) => &body[3..],
        (false, _) => body,
    };
    let content = Content { keyframe, ..read(body, FILLER) };
    assert_eq!(starts, content.part == 0, "{content:?}");
    content
}

/// The picture id and TL0PICIDX of a VP8 payload of a [`Source`].
pub fn picture(payload: &[u8]) -> (u16, u8) {
    (u16::from_be_bytes([payload[2], payload[3]]) & 0x7fff, payload[4])
}

/// Holds that packets of a slot are one stream without end: its numbers go up by one, its time never back.
pub fn assert_one_stream(packets: &[Packet]) {
    for pair in packets.windows(2) {
        let (last, next) = (&pair[0].header, &pair[1].header);
        assert_eq!(next.sequence_number, last.sequence_number.wrapping_add(1), "{last:?} {next:?}");
        assert!(next.timestamp.wrapping_sub(last.timestamp) < 90_000 * 5, "{last:?} {next:?}");
        assert_eq!((next.ssrc, next.payload_type), (last.ssrc, last.payload_type));
    }
}

/// Reads an Opus payload of a [`Source`], and holds every byte of it against what was sent.
pub fn read_opus(payload: &[u8]) -> Content {
    read(payload, OPUS_FILLER)
}

fn read(body: &[u8], len: usize) -> Content {
    let (label, part) = (body[0], body[5]);
    let frame = u32::from_be_bytes([body[1], body[2], body[3], body[4]]);
    assert_eq!(body, filler(label, frame, part, len), "the payload is not what was sent");
    Content { label, frame, part, keyframe: false }
}

fn filler(label: u8, frame: u32, part: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![label];
    bytes.extend(frame.to_be_bytes());
    bytes.push(part);
    bytes.extend((0..len).map(|i| (i as u32 ^ frame ^ u32::from(part) << 4 ^ u32::from(label)) as u8));
    bytes
}
