//! Why a subscriber gets what it gets: the last decisions for each peer, with what they were made from. Bounded, and read by an
//! operator ([`Command::Explain`](super::Command::Explain)) or by a test, which may put an allocation's inputs before [`allocate`](allocation::allocate) again.
use super::Engine;
use super::allocate::Board;
use super::api::Event;
use crate::egress::allocation::{self, Choice, Layer, Outcome, Path};
use crate::egress::bandwidth::Estimate;
use crate::forward::Target;
use crate::ids::{PeerId, Rid};
use std::collections::VecDeque;
use std::time::Instant;

/// Decisions kept for each peer.
const MAX_ENTRIES: usize = 64;
/// Allocations are kept with all that they were made from: the latest, and others as long as they are no more than this together.
const MAX_ALLOCATION_BYTES: usize = 8 << 10;
/// An estimate is noted when it is this much off the last one that was.
const MOVED: f64 = 0.15;

/// The last decisions for one peer, oldest first.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionLog {
    pub entries: Vec<Decision>,
    /// The allocations among them, in full. A slot's `mid` stands at the same place in `mids`.
    pub allocations: Vec<AllocationRecord>,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// Milliseconds since the first allocation for this peer.
    pub at_ms: u64,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum What {
    /// The estimate of the path has moved.
    Estimate {
        bps: u64,
        acked_bps: u64,
        /// 0 to 1.
        loss: f32,
        rtt_ms: Option<u32>,
        queue_delay_ms: u32,
        limited_by: String,
    },
    /// A probe for more has begun.
    Probe { estimate_bps: u64, wanted_bps: u64 },
    /// The path was shared out anew.
    Allocated { budget_bps: Option<u64>, allocated_bps: u64, wanted_bps: u64, slots: u16 },
    /// A slot is to show something else.
    Aimed { mid: String, from: Option<LoggedLayer>, to: Option<LoggedLayer>, why: Why },
    /// It does so now.
    Shown { mid: String, layer: LoggedLayer },
    /// The slot is in need of a keyframe of this encoding.
    KeyframeWanted { mid: String, rid: Option<String>, why: KeyframeWhy },
}

/// An encoding, and the limit up to which its layers are forwarded; 3 and 7 let everything pass.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LoggedLayer {
    pub rid: Option<String>,
    pub spatial: u8,
    pub temporal: u8,
}

/// Why a slot is to show something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Why {
    /// It showed nothing before.
    First,
    /// The viewer changed how it is looked at; or a layer is of no more use.
    View,
    /// What it showed comes no more.
    Gone,
    /// The path carries more.
    Raised,
    /// The path does not carry it.
    Lowered,
    Paused,
    Resumed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum KeyframeWhy {
    /// A switch waits for it.
    Switch,
    /// The subscriber's decoder asked for it.
    Subscriber,
}

/// All that an allocation was made from, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AllocationRecord {
    pub at_ms: u64,
    pub path: Path,
    pub mids: Vec<String>,
    pub slots: Vec<allocation::Slot>,
    pub layers: Vec<Layer>,
    pub choices: Vec<Choice>,
    pub outcome: Outcome,
    #[serde(skip)]
    at: Vec<u16>,
}

impl Why {
    pub(super) fn of(slot: &allocation::Slot, choice: &Choice) -> Self {
        let (before, after) = (&slot.memory, &choice.memory);
        match (slot.current, choice.layer) {
            (_, None) => Why::Paused,
            (None, _) if before.paused => Why::Resumed,
            (None, _) if before.fresh => Why::First,
            (None, _) => Why::Gone,
            _ if before.fresh => Why::View,
            _ if after.raised_at != before.raised_at => Why::Raised,
            _ if after.no_raise_before != before.no_raise_before => Why::Lowered,
            _ => Why::View,
        }
    }
}

impl AllocationRecord {
    fn bytes(&self) -> usize {
        let slots = self.slots.len() * (size_of::<allocation::Slot>() + size_of::<Choice>() + size_of::<u16>());
        size_of::<Self>() + slots + self.layers.len() * size_of::<Layer>()
    }
}

/// As it is kept.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<Decision>,
    allocations: VecDeque<AllocationRecord>,
    estimate_bps: u64,
    probing: bool,
}

impl Log {
    pub fn push(&mut self, at_ms: u64, what: What) {
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(Decision { at_ms, what });
    }

    /// Notes an estimate that has moved, and the beginning of a probe.
    pub fn note_estimate(&mut self, at_ms: u64, estimate: &Estimate, wanted_bps: u64) {
        if self.estimate_bps.abs_diff(estimate.bps) as f64 > self.estimate_bps as f64 * MOVED {
            self.estimate_bps = estimate.bps;
            let what = What::Estimate {
                bps: estimate.bps,
                acked_bps: estimate.acked_bps,
                loss: estimate.loss,
                rtt_ms: estimate.rtt.map(|rtt| rtt.as_millis() as u32),
                queue_delay_ms: estimate.queue_delay.as_millis() as u32,
                limited_by: format!("{:?}", estimate.limited_by).to_lowercase(),
            };
            self.push(at_ms, what);
        }
        if estimate.probing && !self.probing {
            self.push(at_ms, What::Probe { estimate_bps: estimate.bps, wanted_bps });
        }
        self.probing = estimate.probing;
    }

    /// Notes an allocation that changes anything.
    pub fn note_allocation(&mut self, at_ms: u64, path: &Path, board: &Board, outcome: &Outcome) {
        let choices = board.scratch.choices();
        if board.slots.iter().zip(choices).all(|(slot, choice)| slot.current == choice.layer) {
            return;
        }
        let record = AllocationRecord {
            at_ms,
            path: *path,
            mids: Vec::new(),
            slots: board.slots.clone(),
            layers: board.layers.clone(),
            choices: choices.to_vec(),
            outcome: *outcome,
            at: board.at.clone(),
        };
        let mut bytes: usize = self.allocations.iter().map(AllocationRecord::bytes).sum::<usize>() + record.bytes();
        while bytes > MAX_ALLOCATION_BYTES
            && let Some(oldest) = self.allocations.pop_front()
        {
            bytes -= oldest.bytes();
        }
        self.allocations.push_back(record);
        let &Outcome { allocated_bps, wanted_bps, .. } = outcome;
        let slots = board.slots.len() as u16;
        self.push(at_ms, What::Allocated { budget_bps: path.budget_bps, allocated_bps, wanted_bps, slots });
    }
}

impl Engine {
    /// A slot of the peer is aimed at something else.
    pub(super) fn note_aim(
        &mut self,
        now: Instant,
        index: usize,
        at: usize,
        from: Option<Target>,
        to: Option<Target>,
        why: Why,
    ) {
        let (from, to) = (from.map(|t| self.logged(t)), to.map(|t| self.logged(t)));
        self.note(now, index, at, |mid| What::Aimed { mid, from, to, why });
    }

    pub(super) fn note_shown(&mut self, now: Instant, index: usize, at: usize, shown: Target) {
        let layer = self.logged(shown);
        self.note(now, index, at, |mid| What::Shown { mid, layer });
    }

    pub(super) fn note_keyframe(&mut self, now: Instant, index: usize, at: usize, rid: Option<Rid>, why: KeyframeWhy) {
        self.note(now, index, at, |mid| What::KeyframeWanted { mid, rid: rid.as_ref().map(Rid::to_string), why });
    }

    fn note(&mut self, now: Instant, index: usize, at: usize, what: impl FnOnce(String) -> What) {
        let peer = &mut self.peers[index];
        let (Some(outgoing), Some(slot)) = (peer.outgoing.as_deref_mut(), peer.slots.get(at)) else { return };
        let at_ms = outgoing.allocation.millis(now);
        outgoing.allocation.log.push(at_ms, what(slot.media.mid.to_string()));
    }

    fn logged(&self, target: Target) -> LoggedLayer {
        let stream = self.streams.get(target.stream.index as usize).filter(|s| s.key == target.stream);
        let rid = stream.and_then(|s| s.rid.as_ref()).map(Rid::to_string);
        LoggedLayer { rid, spatial: target.layers.spatial, temporal: target.layers.temporal }
    }

    /// Answers [`Command::Explain`](super::Command::Explain).
    pub(super) fn explain(&mut self, id: PeerId, token: u64) {
        let Some(&index) = self.peer_ids.get(&id) else { return };
        let peer = &self.peers[index];
        let mut log = DecisionLog::default();
        if let Some(outgoing) = peer.outgoing.as_deref() {
            let kept = &outgoing.allocation.log;
            log.entries.extend(kept.entries.iter().cloned());
            log.allocations.extend(kept.allocations.iter().cloned());
        }
        for record in &mut log.allocations {
            let mid = |at: &u16| peer.slots.get(usize::from(*at)).map(|s| s.media.mid.to_string()).unwrap_or_default();
            record.mids = record.at.iter().map(mid).collect();
        }
        self.events.push_back(Event::Explained { room: peer.room, peer: id, token, log: Box::new(log) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::allocation::{Scratch, Slot, Wish, allocate};

    /// What was logged of an allocation, put before it again, gives what was logged of its answer; also after it went through JSON.
    #[test]
    fn an_allocation_can_be_replayed() {
        let mut log = Log::default();
        let mut board = Board::default();
        let layer =
            |encoding: u8, height: u16, bps| Layer { encoding, width: height * 2, height, bps, ..Layer::default() };
        for n in 0..8u16 {
            board.at.push(n);
            let wish = Wish { width: 100 * n, height: 100 * n, priority: i32::from(n % 3), ..Wish::default() };
            board.slots.push(Slot { wish, first: 3 * n, count: 3, ..Slot::default() });
            board.layers.extend([layer(0, 180, 150_000), layer(1, 360, 500_000), layer(2, 720, 2_000_000)]);
        }
        let mut path = Path { audio_bps: 64_000, ..Path::default() };
        for step in 0..100u64 {
            path.budget_bps = Some(300_000 + step * 7_919 % 31 * 300_000);
            let at_ms = 3_000 * step;
            let outcome = allocate(at_ms, &path, &board.slots, &board.layers, &mut board.scratch);
            log.note_allocation(at_ms, &path, &board, &outcome);
            path.calm = outcome.calm;
            for (slot, choice) in board.slots.iter_mut().zip(board.scratch.choices()) {
                (slot.current, slot.memory) = (choice.layer, choice.memory);
            }
        }
        assert!(log.entries.len() > 10 && log.entries.len() <= MAX_ENTRIES, "{}", log.entries.len());
        let bytes: usize = log.allocations.iter().map(AllocationRecord::bytes).sum();
        assert!(
            log.allocations.len() >= 2 && bytes <= MAX_ALLOCATION_BYTES,
            "{} of {bytes} bytes",
            log.allocations.len()
        );
        for record in &log.allocations {
            let text = serde_json::to_string(record).unwrap();
            let read: AllocationRecord = serde_json::from_str(&text).unwrap();
            let mut scratch = Scratch::default();
            let outcome = allocate(read.at_ms, &read.path, &read.slots, &read.layers, &mut scratch);
            assert_eq!((outcome, scratch.choices()), (record.outcome, &record.choices[..]));
        }
    }

    #[test]
    fn the_log_is_bounded() {
        let mut log = Log::default();
        for n in 0..1_000u64 {
            log.push(n, What::Probe { estimate_bps: n, wanted_bps: n });
        }
        assert_eq!(log.entries.len(), MAX_ENTRIES);
        assert_eq!(log.entries.back().map(|entry| entry.at_ms), Some(999));
    }
}
