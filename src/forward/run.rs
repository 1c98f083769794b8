//! Runs: stretches of a slot's stream that come from one source. All in a run is shifted by the same amounts, but for what was left out of
//! it on purpose (`record`). So a few runs stand for thousands of packets, and a NACK is answered from the publisher's history
//! without a record for each packet and subscriber.
use super::StreamKey;
use super::record::{Base, FrameKey, Place, Record};
use crate::rtp::{LayerId, SeqNo};
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

/// More packets than this are not missing within one frame.
const MAX_MISSING: u64 = 256;

/// A stretch of one source.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub stream: StreamKey,
    /// The layers that are forwarded; of a run that has ended: that were at its end.
    pub limit: LayerId,
    /// The first packet that is still known of.
    in_first: SeqNo,
    /// The furthest packet so far. All of `in_first..=in_last` have their numbers, those too that have not arrived, but for what
    /// was left out.
    in_last: SeqNo,
    /// The furthest packet that was sent. Once the run has ended, numbers behind it are another's.
    sent_last: SeqNo,
    ended: bool,
    out_first: SeqNo,
    offsets: Offsets,
    record: Option<Box<Record>>,
}

impl Run {
    /// Begins with `seq`, which is sent as `out`.
    pub fn new(stream: StreamKey, limit: LayerId, seq: SeqNo, out: SeqNo, offsets: Offsets) -> Self {
        Self {
            stream,
            limit,
            in_first: seq,
            in_last: seq,
            sent_last: seq,
            ended: false,
            out_first: out,
            offsets,
            record: None,
        }
    }

    /// The furthest packet so far.
    pub fn last(&self) -> SeqNo {
        self.in_last
    }
    /// Whether `seq` is before all that is known of the run.
    pub fn begins_after(&self, seq: SeqNo) -> bool {
        seq < self.in_first
    }

    /// What `seq` became, or is to become; `None` if it was left out or lies without.
    pub fn place(&self, seq: SeqNo) -> Option<Place> {
        if !self.holds(seq) {
            return None;
        }
        match &self.record {
            Some(record) if !record.begins_after(seq) => record.place(seq),
            _ => Some(self.linear(seq)),
        }
    }

    /// Which packet became `out`.
    pub fn input(&self, out: SeqNo) -> Option<SeqNo> {
        let linear = self.in_first.plus(out.since(self.out_first)?);
        let input = match &self.record {
            Some(record) if !record.begins_after(linear) => record.input(out)?,
            _ => linear,
        };
        self.holds(input).then_some(input)
    }

    /// What is added to the numbers of a packet in this place.
    pub fn offsets(&self, place: &Place) -> Offsets {
        Offsets { picture_id: self.offsets.picture_id.wrapping_sub(place.removed), ..self.offsets }
    }

    /// `seq` is beyond all that came, and is sent.
    pub fn extend(&mut self, seq: SeqNo) -> Place {
        (self.in_last, self.sent_last) = (seq, seq);
        if self.record.is_some() {
            self.recorded(seq);
            self.forget_idle_record();
        }
        self.place(seq).unwrap_or_else(|| self.linear(seq))
    }

    /// `seq` is beyond all that came, and is left out.
    pub fn skip(&mut self, seq: SeqNo) {
        self.in_last = seq;
        self.recorded(seq).drop(seq);
    }

    /// A frame begins at `seq` that is left out; with `picture`, so is the id of its picture.
    pub fn skip_frame(&mut self, seq: SeqNo, frame: FrameKey, picture: bool) {
        self.skip(seq);
        let record = self.recorded(seq);
        record.note_frame(frame);
        if picture {
            record.remove_picture(seq);
        }
    }

    /// Of `gap` packets that are missing behind the furthest one, some at the begin and at the end are known to be left out.
    pub fn skip_missing(&mut self, gap: u64, head: u64, tail: u64) {
        let before = self.in_last;
        (1..=head.min(MAX_MISSING)).for_each(|n| self.skip(before.plus(n)));
        (gap - tail + 1..=gap).for_each(|n| self.skip(before.plus(n)));
    }

    /// A number is kept for `seq`, which is of no use: it is given back, unless packets behind it were sent already. Then the number is to
    /// be filled: true.
    pub fn fill(&mut self, seq: SeqNo, frame: FrameKey) -> bool {
        let filled = seq < self.sent_last;
        let record = self.recorded(seq);
        record.note_frame(frame);
        if filled {
            record.fill(seq)
        } else {
            record.drop(seq)
        }
        filled
    }

    /// A number was kept for `seq`, and it is sent.
    pub fn sent(&mut self, seq: SeqNo) {
        self.sent_last = self.sent_last.max(seq);
    }

    /// `seq` ends its picture in the slot.
    pub fn mark(&mut self, seq: SeqNo) {
        self.recorded(seq).mark(seq);
    }

    /// Whether this frame was left out, of late.
    pub fn has_left_out(&self, frame: FrameKey) -> bool {
        self.record.as_ref().is_some_and(|r| r.has_noted(frame))
    }

    #[cfg(test)]
    pub fn is_recorded(&self) -> bool {
        self.record.is_some()
    }

    /// Nothing new will come of it.
    pub fn end(&mut self) {
        self.ended = true;
    }

    fn holds(&self, seq: SeqNo) -> bool {
        let last = if self.ended { self.sent_last } else { self.in_last };
        (self.in_first..=last).contains(&seq)
    }

    fn linear(&self, seq: SeqNo) -> Place {
        let out = self.out_first.plus(seq.0 - self.in_first.0);
        Place { out, removed: 0, filler: false, marked: false }
    }

    /// The record, with blocks for `seq` and all that came.
    fn recorded(&mut self, seq: SeqNo) -> &mut Record {
        let base = Base { first: self.in_first, out: self.out_first, removed: 0 };
        let record = self.record.get_or_insert_with(|| Box::new(Record::new(base, seq)));
        if let Some(base) = record.reach(self.in_last) {
            (self.in_first, self.out_first) = (base.first, base.out);
        }
        record.reach_back(seq);
        record
    }

    /// Once all that was left out is too long ago to matter, the run goes on without a record.
    fn forget_idle_record(&mut self) {
        if let Some(base) = self.record.as_ref().and_then(|record| record.idle_since()) {
            (self.in_first, self.out_first) = (base.first, base.out);
            self.offsets.picture_id = self.offsets.picture_id.wrapping_sub(base.removed);
            self.record = None;
        }
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
        self.close();
        if let Some(before) = self.latest.replace(run) {
            if self.older.len() + 1 == Self::MAX {
                self.older.pop_front();
            }
            self.older.push_back(before);
        }
        self.open = true;
    }
    pub fn close(&mut self) {
        if let Some(run) = self.latest.as_mut().filter(|_| self.open) {
            run.end();
        }
        self.open = false;
    }
    pub fn open_mut(&mut self) -> Option<&mut Run> {
        if self.open { self.latest.as_mut() } else { None }
    }
    pub fn open_run(&self) -> Option<&Run> {
        if self.open { self.latest.as_ref() } else { None }
    }
    pub fn is_latest(&self, run: &Run) -> bool {
        self.latest.as_ref().is_some_and(|latest| std::ptr::eq(latest, run))
    }
    /// True if a run of this stream has reached `seq` or beyond.
    pub fn is_behind(&self, stream: StreamKey, seq: SeqNo) -> bool {
        self.latest_first().any(|r| r.stream == stream && seq <= r.last())
    }
    /// The run that `out` was sent in, and which packet of it that was.
    pub fn by_output(&self, out: SeqNo) -> Option<(&Run, SeqNo)> {
        self.latest_first().find_map(|r| Some((r, r.input(out)?)))
    }
    /// The run that `seq` has a number in.
    pub fn by_input(&mut self, stream: StreamKey, seq: SeqNo) -> Option<(&mut Run, Place)> {
        let latest_first = self.latest.iter_mut().chain(self.older.iter_mut().rev());
        let mut own = latest_first.filter(|r| r.stream == stream);
        own.find_map(|r| r.place(seq).map(|place| (r, place)))
    }
    fn latest_first(&self) -> impl Iterator<Item = &Run> {
        self.latest.iter().chain(self.older.iter().rev())
    }
}
