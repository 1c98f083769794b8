//! Bits in the order in which video formats write them: the most significant first.

#[derive(Default)]
pub(super) struct Bits {
    bytes: Vec<u8>,
    /// Bits of the last byte that are in use; 0 when it is full.
    used: u32,
}

impl Bits {
    /// The low `count` bits of `value`.
    pub(super) fn put(&mut self, count: u32, value: u64) -> &mut Self {
        for shift in (0..count).rev() {
            if self.used == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> shift & 1) as u8) << (7 - self.used);
            }
            self.used = (self.used + 1) % 8;
        }
        self
    }

    /// Exp-Golomb (H.264 section 9.1).
    pub(super) fn ue(&mut self, value: u32) -> &mut Self {
        let code = u64::from(value) + 1;
        let bits = 64 - code.leading_zeros();
        self.put(2 * bits - 1, code)
    }

    /// `ns(n)` of the AV1 specification, section 4.10.7: a value below `n`.
    pub(super) fn ns(&mut self, n: u32, value: u32) -> &mut Self {
        let w = 32 - n.leading_zeros();
        let m = (1 << w) - n;
        if value < m { self.put(w - 1, value.into()) } else { self.put(w, u64::from(value + m)) }
    }

    pub(super) fn bytes(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
