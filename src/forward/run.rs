//! Runs: stretches of a slot's stream in which everything is shifted by the same amounts. A few runs stand for thousands of
//! packets, so a NACK is answered from the publisher's history without a record for each packet and subscriber.
use super::{Mapped, StreamKey};
use crate::rtp::SeqNo;
use std::collections::VecDeque;

/// What is added to a packet's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// RTP timestamp, modulo 2^32.
    pub timestamp: u32,
    /// VP8 and VP9 picture id, modulo 2^15.
    pub picture_id: u16,
    /// VP8 and VP9 TL0PICIDX, modulo 2^8.
    pub tl0_pic_idx: u8,
    /// Frame number of the dependency descriptor, modulo 2^16.
    pub frame_number: u16,
}

/// A stretch of one source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub stream: StreamKey,
    pub in_first: SeqNo,
    /// The furthest packet so far: all of `in_first..=in_last` have their numbers, those too that have not arrived.
    pub in_last: SeqNo,
    pub out_first: SeqNo,
    pub offsets: Offsets,
}

impl Run {
    pub fn map(&self, seq: SeqNo, timestamp: u32) -> Mapped {
        Mapped {
            seq: SeqNo(self.out_first.0 + (seq.0 - self.in_first.0)),
            timestamp: timestamp.wrapping_add(self.offsets.timestamp),
            offsets: self.offsets,
            starts: false,
        }
    }
    pub fn input(&self, out: SeqNo) -> SeqNo {
        SeqNo(self.in_first.0 + (out.0 - self.out_first.0))
    }
    fn holds_output(&self, out: SeqNo) -> bool {
        out >= self.out_first && out.0 - self.out_first.0 <= self.in_last.0 - self.in_first.0
    }
    fn holds_input(&self, stream: StreamKey, seq: SeqNo) -> bool {
        self.stream == stream && (self.in_first..=self.in_last).contains(&seq)
    }
}

/// The latest runs. At most [`Runs::MAX`]: a NACK for anything older comes too late anyway.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// The latest one lies here and not behind a pointer: every packet of every subscriber asks for it.
    latest: Option<Run>,
    open: bool,
    /// Those before it, oldest first.
    older: VecDeque<Run>,
}

impl Runs {
    const MAX: usize = 32;

    pub fn open(&mut self, run: Run) {
        if let Some(before) = self.latest.replace(run) {
            if self.older.len() + 1 == Self::MAX {
                self.older.pop_front();
            }
            self.older.push_back(before);
        }
        self.open = true;
    }
    pub fn close(&mut self) {
        self.open = false;
    }
    pub fn open_mut(&mut self) -> Option<&mut Run> {
        if self.open { self.latest.as_mut() } else { None }
    }
    pub fn open_stream(&self) -> Option<StreamKey> {
        if self.open { self.latest.map(|r| r.stream) } else { None }
    }
    /// True if a run of this stream has reached `seq` or beyond.
    pub fn is_behind(&self, stream: StreamKey, seq: SeqNo) -> bool {
        self.latest_first().any(|r| r.stream == stream && seq <= r.in_last)
    }
    pub fn by_output(&self, out: SeqNo) -> Option<&Run> {
        self.latest_first().find(|r| r.holds_output(out))
    }
    pub fn by_input(&self, stream: StreamKey, seq: SeqNo) -> Option<&Run> {
        self.latest_first().find(|r| r.holds_input(stream, seq))
    }
    fn latest_first(&self) -> impl Iterator<Item = &Run> {
        self.latest.iter().chain(self.older.iter().rev())
    }
}
