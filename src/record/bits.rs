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
}
