//! Which layers of its source a slot gets: frames above them are left out, whole.
//!
//! [`LayerSet`] `followable` is the heart of it: the limits that the subscriber's decoder could follow from now on, because all that
//! they need was forwarded. A frame that is left out takes away those that needed it; a frame that one may switch by
//! gives some back ([`Switching`]). The limit in force moves to what is wanted as soon as that is followable: down with the next
//! picture, for who got all layers can do with fewer; up where the publisher says so. With `L3T3_KEY` the lower spatial layers of a
//! picture that is no keyframe are of no use to the higher ones and left out, so going down, too, waits for a keyframe there.
use super::record::FrameKey;
use crate::rtp::codec::{Codec, Switching};
use crate::rtp::layer::LayerSet;
use crate::rtp::packet::PacketInfo;
use crate::rtp::{LayerId, SeqNo};
use std::collections::VecDeque;

/// Changes of the limit that are remembered for packets that come late.
const MAX_CHANGES: usize = 8;

#[derive(Debug)]
pub(super) struct Layers {
    limit: LayerId,
    followable: LayerSet,
    /// The highest spatial layer that is made, where a dependency descriptor told it.
    top_spatial: Option<u8>,
    /// The highest that was seen.
    seen_spatial: u8,
    /// The last frame that refers to no other, and the last one that made more limits followable than there were.
    fresh_at: SeqNo,
    gained_at: SeqNo,
    frame: Option<Frame>,
    /// The last frame that was let through although its time was over.
    late: Option<FrameKey>,
    changes: VecDeque<Change>,
}

/// The frame that the furthest packet belongs to.
#[derive(Clone, Copy, Debug)]
struct Frame {
    key: FrameKey,
    /// Its packets say which layer they are of by a dependency descriptor.
    described: bool,
    ended: bool,
    kept: bool,
}

/// The limit changed with packet `from`, and for all of the picture of this timestamp.
#[derive(Clone, Copy, Debug)]
struct Change {
    from: SeqNo,
    timestamp: u32,
    before: LayerId,
}

/// What is to become of a packet that is beyond all that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Admission {
    pub kept: bool,
    /// A frame begins with it.
    pub begins: bool,
    /// Of the packets missing before it: how many at the begin and at the end belong to frames that are left out.
    pub missing: (u64, u64),
}

impl Layers {
    pub fn new() -> Self {
        Self {
            limit: LayerId::TOP,
            followable: LayerSet::ALL,
            top_spatial: None,
            seen_spatial: 0,
            fresh_at: SeqNo(0),
            gained_at: SeqNo(0),
            frame: None,
            late: None,
            changes: VecDeque::new(),
        }
    }

    /// A decoder starts with this packet, which is sent whatever its layer: what follows refers to it.
    pub fn start(&mut self, seq: SeqNo, packet: &PacketInfo, wanted: LayerId) {
        let frame = &packet.frame;
        self.followable = match frame.switching {
            Switching::To(set) | Switching::Fresh(set) if !set.is_empty() => set,
            _ => LayerSet::ALL,
        };
        self.top_spatial = frame.frame_number.map(|_| frame.top_spatial);
        self.seen_spatial = frame.spatial;
        self.limit = self.followable.best_within(wanted).unwrap_or(wanted);
        self.frame = Some(Frame::of(packet, true));
        (self.fresh_at, self.gained_at) = (seq, seq);
        self.late = None;
        self.changes.clear();
    }

    /// The limit in force.
    pub fn limit(&self) -> LayerId {
        self.limit
    }

    /// Whether nothing but a keyframe lets the subscriber get the spatial layer that is wanted.
    pub fn awaits_keyframe(&self, wanted: LayerId) -> bool {
        !self.followable.has_spatial(wanted.spatial)
    }

    /// Decides on a packet that is beyond all that came; `gap` packets are missing before it. `wanted` is `None` while the source is
    /// to be left for another.
    pub fn admit(&mut self, seq: SeqNo, gap: u64, packet: &PacketInfo, wanted: Option<LayerId>) -> Admission {
        let last = self.frame;
        if let Some(frame) = self.frame.as_mut().filter(|f| f.continues(packet)) {
            let inner = !frame.ended && !packet.frame.frame_start;
            frame.ended |= packet.frame.frame_end;
            let kept = frame.kept;
            let missing = if !kept && inner { (gap, 0) } else { (0, 0) };
            return Admission { kept, begins: false, missing };
        }
        let kept = self.decide(seq, packet, wanted);
        self.frame = Some(Frame::of(packet, kept));
        let head = last.is_some_and(|f| !f.kept && !f.ended) && gap > 0;
        let tail = !kept && !packet.frame.frame_start && gap > u64::from(head);
        Admission { kept, begins: true, missing: (head.into(), tail.into()) }
    }

    /// Decides on a packet behind the furthest one; `left_out`: other packets of its frame were. True if it is left out.
    pub fn excludes(&mut self, seq: SeqNo, packet: &PacketInfo, left_out: bool) -> bool {
        if let Some(frame) = self.frame.filter(|f| f.continues(packet)) {
            return !frame.kept;
        }
        let (absent, key) = (packet.frame.absent, FrameKey::of(packet));
        let limit = self.limit_of(seq, packet.timestamp);
        if left_out || !absent.contains(limit) || self.late == Some(key) {
            return left_out;
        }
        // Nothing was known of its frame. What is forwarded now may refer to it. Where frames name what they refer to, one that cannot
        // be decoded does no harm; VP8 would take another for it, but waits for a picture id.
        let followed = !absent.contains(self.limit);
        let syncs = || matches!(packet.frame.switching, Switching::Temporal { from, .. } if from <= limit.temporal);
        let passes = match packet.codec {
            Codec::Vp8 => followed && seq > self.gained_at || syncs(),
            _ => followed && seq > self.fresh_at,
        };
        if passes {
            self.late = Some(key);
            return false;
        }
        self.followable = self.followable.and(absent);
        true
    }

    /// Whether the packet ends what the subscriber gets of its picture: then it has the marker bit.
    pub fn ends_picture(&self, seq: SeqNo, packet: &PacketInfo) -> bool {
        let ends = || packet.frame.spatial >= self.limit_of(seq, packet.timestamp).spatial;
        packet.marker || packet.frame.frame_end && ends()
    }

    /// Decides on a frame by its first packet.
    fn decide(&mut self, seq: SeqNo, packet: &PacketInfo, wanted: Option<LayerId>) -> bool {
        let frame = &packet.frame;
        self.note_spatial(packet);
        let reachable = self.reachable(packet);
        let wanted = wanted.filter(|w| *w != self.limit || !reachable.contains(*w));
        let next = wanted.and_then(|wanted| self.best(wanted, reachable));
        // Of a picture that has begun no more is left out than before.
        let begun = self.frame.is_some_and(|f| f.key.timestamp == packet.timestamp);
        if let Some(next) = next.filter(|next| *next != self.limit && (!begun || next.includes(self.limit))) {
            self.change(seq, packet.timestamp, next);
        }
        let kept = !frame.absent.contains(self.limit);
        if kept && reachable != self.followable {
            self.gained_at = seq;
        }
        if matches!(frame.switching, Switching::Fresh(_)) {
            self.fresh_at = seq;
        }
        self.followable = if kept { reachable } else { self.followable.and(frame.absent) };
        kept
    }

    /// Limits above the highest spatial layer stand for that one. So when the sender ceases to make the highest, they are what the
    /// next lower one is; and when it begins with a higher one, nobody has followed that yet.
    fn note_spatial(&mut self, packet: &PacketInfo) {
        let frame = &packet.frame;
        self.seen_spatial = self.seen_spatial.max(frame.spatial);
        let Some(top) = frame.frame_number.map(|_| frame.top_spatial) else { return };
        let before = self.top_spatial.replace(top).unwrap_or(top);
        if top > before {
            self.followable = self.followable.up_to_spatial(before);
        } else if top < before {
            self.followable =
                (top + 1..=LayerId::TOP.spatial).fold(self.followable, |set, to| set.copied(top, to, true));
        }
    }

    /// What could be followed if this frame were forwarded.
    fn reachable(&self, packet: &PacketInfo) -> LayerSet {
        let (now, frame) = (self.followable, &packet.frame);
        match frame.switching {
            Switching::No => now,
            Switching::Temporal { from, to } => now.raised(from, to),
            Switching::Spatial => {
                // Limits above the highest layer are the same as that.
                let last = if frame.spatial >= self.seen_spatial { LayerId::TOP.spatial } else { frame.spatial };
                (frame.spatial..=last).fold(now, |set, to| set.copied(frame.spatial.saturating_sub(1), to, false))
            }
            Switching::To(set) if !frame.absent.contains(self.limit) => now.or(set),
            Switching::To(_) => now,
            Switching::Fresh(set) => now.or(set),
        }
    }

    /// The best of `reachable` for who wants `wanted`. Where only a higher spatial layer can be followed: as little of it as can be.
    fn best(&self, wanted: LayerId, reachable: LayerSet) -> Option<LayerId> {
        let least = LayerId { spatial: self.limit.spatial, temporal: 0 };
        reachable.best_within(wanted).or(Some(least).filter(|l| reachable.contains(*l)))
    }

    fn change(&mut self, seq: SeqNo, timestamp: u32, next: LayerId) {
        if self.changes.len() == MAX_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(Change { from: seq, timestamp, before: self.limit });
        self.limit = next;
    }

    fn limit_of(&self, seq: SeqNo, timestamp: u32) -> LayerId {
        let later = self.changes.iter().rev().take_while(|c| seq < c.from && timestamp != c.timestamp);
        later.last().map_or(self.limit, |change| change.before)
    }
}

impl FrameKey {
    pub fn of(packet: &PacketInfo) -> Self {
        Self { timestamp: packet.timestamp, spatial: packet.frame.spatial }
    }
}

impl Frame {
    fn of(packet: &PacketInfo, kept: bool) -> Self {
        let frame = &packet.frame;
        Self { key: FrameKey::of(packet), described: frame.frame_number.is_some(), ended: frame.frame_end, kept }
    }

    /// Whether the packet belongs to this frame. One without a dependency descriptor among those with one says little of itself.
    fn continues(&self, packet: &PacketInfo) -> bool {
        let silent = self.described && packet.frame.frame_number.is_none();
        packet.timestamp == self.key.timestamp && (packet.frame.spatial == self.key.spatial || silent)
    }
}
