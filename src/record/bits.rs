//! Bits from the highest down, as H.264, VP9 and AV1 write their headers.
use crate::rtp::Malformed;

/// Reads bits; the end is an error, never a panic.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many were read.
    pub fn at(&self) -> usize {
        self.at
    }

    pub fn flag(&mut self) -> Result<bool, Malformed> {
        let byte = self.bytes.get(self.at / 8).ok_or(Malformed("truncated"))?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit == 1)
    }

    /// `n` bits, at most 32.
    pub fn u(&mut self, n: u32) -> Result<u32, Malformed> {
        let mut value = 0;
        for _ in 0..n.min(32) {
            value = value << 1 | u32::from(self.flag()?);
        }
        Ok(value)
    }

    pub fn skip(&mut self, n: u32) -> Result<(), Malformed> {
        (0..n).try_for_each(|_| self.flag().map(drop))
    }

    /// An unsigned Exp-Golomb code (H.264 section 9.1). AV1's `uvlc` is the same up to 32 leading zeros.
    pub fn ue(&mut self) -> Result<u32, Malformed> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(Malformed("Exp-Golomb code beyond 32 bits"));
            }
        }
        Ok((1u32 << zeros) - 1 + self.u(zeros)?)
    }

    /// A signed Exp-Golomb code.
    pub fn se(&mut self) -> Result<i32, Malformed> {
        let code = i64::from(self.ue()?);
        let value = if code % 2 == 1 { (code + 1) / 2 } else { -(code / 2) };
        Ok(value as i32)
    }
}

/// Writes bits behind what is there; the last byte is filled with zeros.
pub(super) struct BitsMut<'a> {
    bytes: &'a mut Vec<u8>,
    /// Bits of the last byte that are not written yet.
    free: u32,
}

impl<'a> BitsMut<'a> {
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes, free: 0 }
    }

    pub fn push(&mut self, bit: bool) {
        if self.free == 0 {
            self.bytes.push(0);
            self.free = 8;
        }
        self.free -= 1;
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << self.free;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_as_h264_draws_them() {
        // 1, 010, 011, 00100, 00101, 1 (table 9-2: 0, 1, 2, 3, 4, 0)
        let bytes = [0b1010_0110, 0b0100_0010, 0b1100_0000];
        let mut bits = Bits::new(&bytes);
        let read: Vec<_> = (0..6).map(|_| bits.ue().unwrap()).collect();
        assert_eq!(read, [0, 1, 2, 3, 4, 0]);
        let mut bits = Bits::new(&bytes);
        let read: Vec<_> = (0..5).map(|_| bits.se().unwrap()).collect();
        assert_eq!(read, [0, 1, -1, 2, -2]);
        assert!(Bits::new(&[0; 8]).ue().is_err());
        assert!(Bits::new(&[0x80]).u(9).is_err());
    }

    #[test]
    fn bits_are_written_as_they_are_read() {
        let (mut out, bytes) = (vec![7], [0xa5, 0x3c, 0xf0]);
        let (mut bits, mut written) = (Bits::new(&bytes), BitsMut::new(&mut out));
        (0..20).for_each(|_| written.push(bits.flag().unwrap()));
        assert_eq!(bits.at(), 20);
        assert_eq!(out, [7, 0xa5, 0x3c, 0xf0]);
    }
}
