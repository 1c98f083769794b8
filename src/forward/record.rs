//! Which packets of a run were left out on purpose, so that those that were not have numbers without holes.
//!
//! A block stands for 64 numbers of the source, with a bit for each of them; the slot's numbers follow by counting bits. A run of which
//! nothing is left out has no record at all, and one that is no longer needed goes.
use crate::rtp::SeqNo;
use std::collections::VecDeque;

/// Source numbers in a block.
const BITS: u64 = 64;
/// Blocks that are kept: 2,048 source numbers, as many as the longest history has packets.
const MAX_BLOCKS: usize = 32;
/// Frames that are remembered as left out, for those of their packets that come late: about a second of them.
const FRAMES: usize = 64;

#[derive(Clone, Copy, Debug, Default)]
struct Block {
    /// The slot's number of the block's first packet. Signed, for the first block may begin before the run does.
    out: i64,
    dropped: u64,
    /// Numbers that were kept for packets which turned out to be of no use.
    fillers: u64,
    /// Packets that end their picture in the slot, and not in the source.
    marked: u64,
    /// A bit for each picture that was left out, where its first packet was.
    removed: u64,
    /// Pictures that were left out before this block, modulo 2^16.
    removed_before: u16,
}

/// A frame of one spatial layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct FrameKey {
    pub timestamp: u32,
    pub spatial: u8,
}

/// What is known of one source number that has a number in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub out: SeqNo,
    /// Pictures left out before it, modulo 2^16.
    pub removed: u16,
    pub filler: bool,
    pub marked: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Without a gap; `blocks[0]` begins at `first * BITS`.
    blocks: VecDeque<Block>,
    first: u64,
    frames: [FrameKey; FRAMES],
    /// How many were ever noted there.
    noted: usize,
}

/// From where on a run is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Base {
    pub first: SeqNo,
    pub out: SeqNo,
    /// Pictures left out before, modulo 2^16.
    pub removed: u16,
}

impl Record {
    /// Begins with the block of `seq`; nothing was left out since `base`.
    pub fn new(base: Base, seq: SeqNo) -> Self {
        let first = seq.0 / BITS;
        let out = base.out.0 as i64 - (base.first.0 as i64 - (first * BITS) as i64);
        let block = Block { out, ..Block::default() };
        Self { blocks: VecDeque::from([block]), first, frames: [FrameKey::default(); FRAMES], noted: 0 }
    }

    /// Makes blocks up to that of `seq`. What is before the first one then is forgotten, which moves the run's base.
    pub fn reach(&mut self, seq: SeqNo) -> Option<Base> {
        let mut moved = false;
        while self.first + self.blocks.len() as u64 <= seq.0 / BITS {
            let last = self.blocks.back().copied().unwrap_or_default();
            if self.blocks.len() >= MAX_BLOCKS {
                self.blocks.pop_front();
                self.first += 1;
                moved = true;
            }
            self.blocks.push_back(Block {
                out: last.out + (BITS as i64 - i64::from(last.dropped.count_ones())),
                removed_before: last.removed_before.wrapping_add(last.removed.count_ones() as u16),
                ..Block::default()
            });
        }
        self.blocks.front().filter(|_| moved).map(|front| self.base(front))
    }

    /// Makes blocks back to that of `seq`, if there is room: nothing was left out there before.
    pub fn reach_back(&mut self, seq: SeqNo) {
        while seq.0 / BITS < self.first && self.blocks.len() < MAX_BLOCKS {
            let front = self.blocks.front().copied().unwrap_or_default();
            let (out, removed_before) = (front.out - BITS as i64, front.removed_before);
            self.blocks.push_front(Block { out, removed_before, ..Block::default() });
            self.first -= 1;
        }
    }

    fn base(&self, front: &Block) -> Base {
        // Only the first block of a run may begin before it, and that is forgotten first.
        let out = SeqNo(u64::try_from(front.out).unwrap_or_default());
        Base { first: SeqNo(self.first * BITS), out, removed: front.removed_before }
    }

    /// From where on the run is the same without the record: `None` while it tells anything.
    pub fn idle_since(&self) -> Option<Base> {
        let told = |b: &Block| b.dropped | b.fillers | b.marked | b.removed != 0;
        let (front, full) = (self.blocks.front()?, self.blocks.len() >= MAX_BLOCKS);
        (full && !told(front) && !self.blocks.iter().any(told)).then(|| self.base(front))
    }

    /// Leaves `seq` out. Nothing behind it must have been sent: the numbers there change.
    pub fn drop(&mut self, seq: SeqNo) {
        if let Some((block, bit)) = self.block_mut(seq)
            && block.dropped & bit == 0
        {
            block.dropped |= bit;
            let behind = (seq.0 / BITS + 1).saturating_sub(self.first) as usize;
            self.blocks.range_mut(behind.min(self.blocks.len())..).for_each(|b| b.out -= 1);
        }
    }
    /// The picture id of a picture that begins at `seq` is left out, too.
    pub fn remove_picture(&mut self, seq: SeqNo) {
        if let Some((block, bit)) = self.block_mut(seq) {
            block.removed |= bit;
        }
    }
    /// A frame is left out.
    pub fn note_frame(&mut self, key: FrameKey) {
        self.frames[self.noted % FRAMES] = key;
        self.noted += 1;
    }
    pub fn has_noted(&self, key: FrameKey) -> bool {
        self.frames.iter().take(self.noted).any(|f| *f == key)
    }
    pub fn fill(&mut self, seq: SeqNo) {
        if let Some((block, bit)) = self.block_mut(seq) {
            block.fillers |= bit;
        }
    }
    pub fn mark(&mut self, seq: SeqNo) {
        if let Some((block, bit)) = self.block_mut(seq) {
            block.marked |= bit;
        }
    }

    /// True if `seq` lies before the first block: nothing was left out there.
    pub fn begins_after(&self, seq: SeqNo) -> bool {
        seq.0 / BITS < self.first
    }

    /// `None` if it was left out, or lies beyond the blocks.
    pub fn place(&self, seq: SeqNo) -> Option<Place> {
        let block = self.blocks.get(usize::try_from((seq.0 / BITS).checked_sub(self.first)?).ok()?)?;
        let bit = 1 << (seq.0 % BITS);
        if block.dropped & bit != 0 {
            return None;
        }
        Some(Place {
            out: self.number(block, bit)?,
            removed: block.removed_before.wrapping_add((block.removed & (bit - 1)).count_ones() as u16),
            filler: block.fillers & bit != 0,
            marked: block.marked & bit != 0,
        })
    }

    fn number(&self, block: &Block, bit: u64) -> Option<SeqNo> {
        let rank = (!block.dropped & (bit - 1)).count_ones();
        u64::try_from(block.out + i64::from(rank)).ok().map(SeqNo)
    }

    /// Which source number has the slot's number `out`. `None` if it lies before the blocks; beyond what the run has come to, it is of no
    /// meaning.
    pub fn input(&self, out: SeqNo) -> Option<SeqNo> {
        let out = i64::try_from(out.0).ok()?;
        let at = self.blocks.partition_point(|b| b.out <= out).checked_sub(1)?;
        let block = self.blocks.get(at)?;
        let mut kept = !block.dropped;
        for _ in 0..out - block.out {
            kept &= kept.wrapping_sub(1);
            if kept == 0 {
                return None;
            }
        }
        let bit = u64::from(kept.trailing_zeros());
        (bit < BITS).then(|| SeqNo((self.first + at as u64) * BITS + bit))
    }

    fn block_mut(&mut self, seq: SeqNo) -> Option<(&mut Block, u64)> {
        let at = usize::try_from((seq.0 / BITS).checked_sub(self.first)?).ok()?;
        Some((self.blocks.get_mut(at)?, 1 << (seq.0 % BITS)))
    }
}
