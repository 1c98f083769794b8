//! Frames (RFC 6455 section 5): read piece by piece as they come, and written.

/// A whole message, or a control frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    Text(String),
    Ping(Vec<u8>),
    Pong,
    Close,
}

/// A rule that the client broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// Of RFC 6455.
    Protocol,
    TooLong,
    NotUtf8,
    /// A binary message: none is taken.
    Binary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl TryFrom<u8> for Opcode {
    type Error = Breach;
    fn try_from(bits: u8) -> Result<Self, Breach> {
        use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};
        let known = [Continuation, Text, Binary, Close, Ping, Pong];
        known.into_iter().find(|opcode| *opcode as u8 == bits).ok_or(Breach::Protocol)
    }
}

impl Opcode {
    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Bytes of the longest head: two, eight of length, four of mask.
const HEAD: usize = 14;
/// Bytes of the longest control frame (section 5.5).
const CONTROL: usize = 125;

/// Puts messages together from bytes, however they are cut.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    head: [u8; HEAD],
    head_len: usize,
    /// The frame that is being read; its head is complete.
    frame: Option<Frame>,
    /// Of the message so far.
    text: Vec<u8>,
    /// More frames of the message are to come.
    fragmented: bool,
    /// Of a control frame, which may come between the frames of a message.
    control: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    mask: [u8; 4],
    /// Bytes of the payload that were read, and that there are.
    read: usize,
    len: usize,
}

impl Decoder {
    /// `limit`: bytes of the longest message taken.
    pub fn new(limit: usize) -> Self {
        let (text, control) = (Vec::new(), Vec::new());
        Self { limit, head: [0; HEAD], head_len: 0, frame: None, text, fragmented: false, control }
    }

    /// Takes bytes up to the end of a message, or all if they do not make one.
    ///
    /// # Errors
    /// The rule that they break; the decoder is of no more use then.
    pub fn decode(&mut self, bytes: &mut &[u8]) -> Result<Option<Message>, Breach> {
        loop {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => match self.read_head(bytes)? {
                    Some(frame) => frame,
                    None => return Ok(None),
                },
            };
            let payload = take(bytes, frame.len - frame.read);
            let into = if frame.opcode.is_control() { &mut self.control } else { &mut self.text };
            let unmasked = payload.iter().zip(frame.mask.iter().cycle().skip(frame.read % 4)).map(|(b, m)| b ^ m);
            into.extend(unmasked);
            frame.read += payload.len();
            if frame.read < frame.len {
                self.frame = Some(frame);
                return Ok(None);
            }
            if let Some(message) = self.finish(frame)? {
                return Ok(Some(message));
            }
        }
    }

    fn read_head(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, Breach> {
        // How long the head is, its second byte says.
        let need = |head: &[u8; HEAD], len: usize| match head[1] & 0x7f {
            _ if len < 2 => 2,
            126 => 8,
            127 => 14,
            _ => 6,
        };
        while self.head_len < need(&self.head, self.head_len) {
            let more = take(bytes, need(&self.head, self.head_len) - self.head_len);
            if more.is_empty() {
                return Ok(None);
            }
            for byte in more {
                self.head[self.head_len] = *byte;
                self.head_len += 1;
            }
        }
        self.head_len = 0;
        self.frame_of_head().map(Some)
    }

    fn frame_of_head(&self) -> Result<Frame, Breach> {
        let [first, second, rest @ ..] = self.head;
        let opcode = Opcode::try_from(first & 0x0f)?;
        let [a, b, c, d, e, f, g, h, ..] = rest;
        let (len, mask) = match second & 0x7f {
            126 => (u64::from(u16::from_be_bytes([a, b])), [c, d, e, f]),
            127 => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), [rest[8], rest[9], rest[10], rest[11]]),
            len => (u64::from(len), [a, b, c, d]),
        };
        let (fin, reserved, masked) = (first & 0x80 != 0, first & 0x70 != 0, second & 0x80 != 0);
        let out_of_place = match opcode {
            Opcode::Continuation => !self.fragmented,
            Opcode::Text | Opcode::Binary => self.fragmented,
            _ => !fin || len > CONTROL as u64,
        };
        if reserved || !masked || out_of_place {
            return Err(Breach::Protocol);
        }
        if opcode == Opcode::Binary {
            return Err(Breach::Binary);
        }
        let len = usize::try_from(len).ok().filter(|len| opcode.is_control() || *len <= self.limit - self.text.len());
        Ok(Frame { opcode, fin, mask, read: 0, len: len.ok_or(Breach::TooLong)? })
    }

    fn finish(&mut self, frame: Frame) -> Result<Option<Message>, Breach> {
        match frame.opcode {
            Opcode::Ping => Ok(Some(Message::Ping(std::mem::take(&mut self.control)))),
            Opcode::Pong | Opcode::Close => {
                self.control = Vec::new();
                Ok(Some(if frame.opcode == Opcode::Pong { Message::Pong } else { Message::Close }))
            }
            Opcode::Continuation | Opcode::Text | Opcode::Binary => {
                self.fragmented = !frame.fin;
                if self.fragmented {
                    return Ok(None);
                }
                let text = String::from_utf8(std::mem::take(&mut self.text)).map_err(|_| Breach::NotUtf8)?;
                Ok(Some(Message::Text(text)))
            }
        }
    }
}

/// Cuts off the first bytes: that many, or all.
fn take<'b>(bytes: &mut &'b [u8], most: usize) -> &'b [u8] {
    let (taken, rest) = bytes.split_at(most.min(bytes.len()));
    *bytes = rest;
    taken
}

/// Writes the head of a frame that is a whole message: a server does not mask.
pub(super) fn write_head(into: &mut Vec<u8>, opcode: Opcode, len: usize) {
    into.push(0x80 | opcode as u8);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(len @ 0..=125), _) => into.push(len),
        (_, Ok(len)) => {
            into.push(126);
            into.extend(len.to_be_bytes());
        }
        _ => {
            into.push(127);
            into.extend((len as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_head(&mut bytes, Opcode::Text, payload.len());
        bytes[0] = first;
        bytes[1] |= 0x80;
        let mask = [1, 2, 3, 250];
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        bytes
    }

    /// All that the bytes make, when they come in pieces of this length.
    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Message>, Breach> {
        let mut decoder = Decoder::new(70_000);
        let mut messages = Vec::new();
        for mut piece in bytes.chunks(piece) {
            while !piece.is_empty() {
                messages.extend(decoder.decode(&mut piece)?);
            }
        }
        assert!(decoder.frame.is_none() && decoder.head_len == 0, "all was read");
        Ok(messages)
    }

    #[test]
    fn messages_are_read_however_they_are_cut() {
        let long = "x".repeat(66_000);
        let bytes = [
            frame(0x81, b"{}"),
            frame(0x81, b""),
            frame(0x01, b"gr\xc3"),
            frame(0x89, b"are you there?"),
            frame(0x00, b""),
            frame(0x80, b"\xbcn"),
            frame(0x81, &long.as_bytes()[..300]),
            frame(0x8a, b""),
            frame(0x81, long.as_bytes()),
            frame(0x88, b"\x03\xe8bye"),
        ]
        .concat();
        for piece in [1, 2, 3, 7, 64, 4096, bytes.len()] {
            let messages = decode(&bytes, piece).expect("well-formed");
            let text = |text: &str| Message::Text(text.into());
            let want = [
                text("{}"),
                text(""),
                Message::Ping(b"are you there?".to_vec()),
                text("grün"),
                text(&long[..300]),
                Message::Pong,
                text(&long),
                Message::Close,
            ];
            assert_eq!(messages, want, "in pieces of {piece}");
        }
    }

    #[test]
    fn rules_that_are_broken_are_named() {
        let too_long = [frame(0x01, &[b'x'; 40_000]), frame(0x80, &[b'x'; 30_001])].concat();
        let mut unmasked = frame(0x81, b"x");
        unmasked[1] &= 0x7f;
        let huge = [0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
        for (bytes, breach) in [
            (too_long, Breach::TooLong),
            (huge.to_vec(), Breach::TooLong),
            (unmasked, Breach::Protocol),
            (frame(0xc1, b"reserved"), Breach::Protocol),
            (frame(0x83, b"no such opcode"), Breach::Protocol),
            (frame(0x80, b"continues nothing"), Breach::Protocol),
            ([frame(0x01, b"a"), frame(0x81, b"b")].concat(), Breach::Protocol),
            (frame(0x09, b"a control frame in pieces"), Breach::Protocol),
            (frame(0x89, &[0; 126]), Breach::Protocol),
            (frame(0x82, b"\0"), Breach::Binary),
            (frame(0x81, b"\xff"), Breach::NotUtf8),
        ] {
            assert_eq!(decode(&bytes, 5), Err(breach));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics_and_is_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1usize..50) {
            let mut decoder = Decoder::new(100);
            for mut piece in bytes.chunks(piece) {
                while !piece.is_empty() {
                    let Ok(_) = decoder.decode(&mut piece) else { return Ok(()) };
                    prop_assert!(decoder.text.len() <= 100 && decoder.control.len() <= CONTROL);
                }
            }
        }

        #[test]
        fn what_is_written_has_the_length_that_its_head_says(len in 0usize..70_000) {
            let mut head = Vec::new();
            write_head(&mut head, Opcode::Text, len);
            let told = match head[1] {
                126 => u64::from(u16::from_be_bytes([head[2], head[3]])),
                127 => u64::from_be_bytes(head[2..10].try_into().expect("eight bytes")),
                len => u64::from(len),
            };
            prop_assert_eq!(told, len as u64);
        }
    }
}
