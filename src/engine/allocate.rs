//! Which layers a subscriber gets: its slots and what there is of their tracks are put before [`allocation::allocate`], and its answer
//! is carried out. Done when something changed, and about once a second where the path's estimate decides; never for a packet.
use super::api::{self, SlotState};
use super::explain::{KeyframeWhy, Log, Why};
use super::meter::SOON;
use super::outgoing::Outgoing;
use super::peer::Slot;
use super::{Engine, Track};
use crate::egress::allocation::{self, Calm, Choice, Layer, Limit, Memory, Outcome, Path, Scratch, Wish};
use crate::egress::bandwidth::{Estimate, LimitedBy, MAX_BPS};
use crate::forward::Target;
use crate::rtp::LayerId;
use crate::rtp::codec::Kind;
use std::time::{Duration, Instant};

/// Rates drift: with an estimate, the choice is looked at so often.
const AGAIN: Duration = Duration::from_secs(1);
/// An estimate that moves is followed at most so often, unless less than is sent.
const FOLLOW: Duration = Duration::from_millis(20);
/// When nothing is sent for want of bandwidth, nothing more will be known of the path, nor whether it has become another one. Something
/// is tried after this long, and then after twice as long, up to [`TRIALS`] times; each time for so long that a probe can tell.
const DARK: Duration = Duration::from_secs(5);
const TRIALS: u32 = 4;
const TRIAL: Duration = Duration::from_secs(3);
/// What is wanted is so much of what the path should be known to carry: a step up needs room to spare, and a probe shows less than it
/// sends.
const GOAL_SHARE: f64 = 0.8;
/// Where nothing is known but losses, which may have any reason, no less than this is taken for what the path carries, in bits a second.
const BLIND_LEAST: u64 = 800_000;
/// A packet that waits no longer than this on its way meets no queue to speak of.
const NO_QUEUE: Duration = Duration::from_millis(50);
/// A change of the estimate below this share is followed with the next round.
const MOVED: f64 = 0.03;

/// See [`Board::exceeded`]: a share of the budget, as its inverse.
const EXCEEDED: u64 = 4;

/// What a peer with slots remembers of its allocation.
#[derive(Default)]
pub(super) struct Allocation {
    /// When it is to be done next; `None` while nothing changes.
    pub due: Option<Instant>,
    /// Times of allocation are counted from here.
    since: Option<Instant>,
    ran_at: Option<Instant>,
    calm: Calm,
    /// The path has shown its limits.
    tested: bool,
    /// Since when nothing is sent although something could be; how often that was tried all the same; and until when it is tried.
    dark_since: Option<Instant>,
    trials: u32,
    trial_until: Option<Instant>,
    /// By the last one.
    pub budget_bps: Option<u64>,
    pub outcome: Outcome,
    pub log: Log,
}

/// What was allocated to a slot, and why not more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    pub memory: Memory,
    pub limit: Limit,
    /// 0 unless bandwidth is the limit.
    pub need_bps: u64,
    pub have_bps: u64,
}

/// What an allocation is made of. Kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// Which of the peer's slots.
    pub at: Vec<u16>,
    pub slots: Vec<allocation::Slot>,
    pub layers: Vec<Layer>,
    /// For each layer.
    targets: Vec<Target>,
    /// What is sent now is so much more than the path carries that it is not worth sending any more of it: it would only stand in the way
    /// of what takes its place.
    exceeded: bool,
    pub scratch: Scratch,
}

impl Board {
    /// Bits a second of what is sent now.
    fn current_bps(&self) -> u64 {
        let current = |slot: &allocation::Slot| self.layers.get(usize::from(slot.first) + usize::from(slot.current?));
        self.slots.iter().filter_map(current).map(|layer| u64::from(layer.bps)).sum()
    }
}

impl From<&api::Wish> for Wish {
    fn from(wish: &api::Wish) -> Self {
        let fps = wish.fps.filter(|fps| *fps > 0.0).map_or(0, |fps| fps.ceil().clamp(1.0, 255.0) as u8);
        let &api::Wish { width, height, priority, stage, screen, .. } = wish;
        Self { width, height, fps, priority, stage, screen }
    }
}

impl Allocation {
    pub fn want(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// The path shows its limits. (During a trial, the estimate is still that of before.)
    fn note_limits(&mut self, now: Instant, estimate: &Estimate) {
        let limited = match estimate.limited_by {
            LimitedBy::Delay | LimitedBy::Loss | LimitedBy::Remb => true,
            LimitedBy::Nothing => !estimate.has_feedback,
            _ => false,
        };
        self.tested |= limited && self.trial_until.is_none_or(|until| now >= until);
    }

    /// The path may be another one, or anew what it was.
    pub fn forget_limits(&mut self, now: Instant) {
        self.trial_until = self.tested.then(|| now + TRIAL);
        (self.tested, self.dark_since, self.trials) = (false, None, 0);
    }

    /// Sees to it that a subscriber to whom nothing is sent does not stay so for ever.
    fn watch_darkness(&mut self, now: Instant, dark: bool) {
        if !dark {
            self.dark_since = None;
            if self.tested {
                self.trials = 0;
            }
            return;
        }
        let since = *self.dark_since.get_or_insert(now);
        let at = since + DARK * (1 << self.trials.min(TRIALS));
        if at <= now {
            (self.tested, self.dark_since) = (false, None);
            self.trials += 1;
            self.trial_until = Some(now + TRIAL);
        }
        self.want(at.max(now));
    }

    /// Milliseconds since the first allocation.
    pub fn millis(&mut self, now: Instant) -> u64 {
        let since = *self.since.get_or_insert(now);
        now.saturating_duration_since(since).as_millis() as u64
    }
}

impl Engine {
    /// Something of the track has changed that subscribers choose by.
    pub(super) fn reconsider(&mut self, now: Instant, track: usize) {
        for n in 0..self.tracks[track].subscribers.len() {
            let (peer, _) = self.tracks[track].subscribers[n];
            self.want_allocation(now, peer);
        }
    }

    /// The next flush allocates for this peer.
    pub(super) fn want_allocation(&mut self, now: Instant, index: usize) {
        let Some(outgoing) = self.peers.get_mut(index).and_then(|p| p.outgoing.as_deref_mut()) else { return };
        outgoing.allocation.want(now);
        self.touch(index);
    }

    /// The estimate of a peer's path may have moved: because something was heard of it, or because time passed.
    pub(super) fn follow_estimate(&mut self, now: Instant, index: usize, heard: bool) {
        let Some(outgoing) = self.peers.get_mut(index).and_then(|p| p.outgoing.as_deref_mut()) else { return };
        let budget = outgoing.budget();
        let estimate = outgoing.bandwidth.estimate();
        let allocation = &mut outgoing.allocation;
        if budget.is_some() {
            let at_ms = allocation.millis(now);
            if heard {
                allocation.note_limits(now, &estimate);
            }
            allocation.log.note_estimate(at_ms, &estimate, allocation.outcome.wanted_bps);
        }
        let (Some(before), Some(bps)) = (allocation.budget_bps, budget) else {
            if allocation.budget_bps != budget {
                self.want_allocation(now, index);
            }
            return;
        };
        let moved = before.abs_diff(bps) as f64 > before as f64 * MOVED;
        if moved && bps < allocation.outcome.allocated_bps && bps < before {
            self.want_allocation(now, index);
        } else if moved {
            allocation.want(allocation.ran_at.map_or(now, |at| at + FOLLOW));
        }
    }

    /// Allocates for those whose time it is, of the peers that something happened to.
    pub(super) fn allocate_due(&mut self, now: Instant) {
        let mut next = 0;
        while let Some(&index) = self.batch.peers.get(next) {
            next += 1;
            let Some(peer) = self.peers.get_mut(index) else { continue };
            let Some(outgoing) = peer.outgoing.as_deref_mut() else { continue };
            if outgoing.allocation.due.is_none_or(|due| due > now) {
                continue;
            }
            outgoing.allocation.due = None;
            if peer.connected {
                self.at_work = Some(peer.room);
                self.allocate(now, index);
                self.touch(index);
            }
        }
    }

    fn allocate(&mut self, now: Instant, index: usize) {
        let mut board = std::mem::take(&mut self.batch.board);
        let guessed = self.gather(now, index, &mut board);
        let audio_bps = self.audio_bps(now, index);
        if let Some(outgoing) = self.peers[index].outgoing.as_deref_mut() {
            let budget_bps = outgoing.budget();
            let allocation = &mut outgoing.allocation;
            let at_ms = allocation.millis(now);
            let path = Path { budget_bps, untested: !allocation.tested, audio_bps, calm: allocation.calm };
            board.exceeded = budget_bps.is_some_and(|bps| board.current_bps() + audio_bps > bps + bps / EXCEEDED);
            let outcome = allocation::allocate(at_ms, &path, &board.slots, &board.layers, &mut board.scratch);
            allocation.log.note_allocation(at_ms, &path, &board, &outcome);

            (allocation.calm, allocation.budget_bps, allocation.outcome) = (outcome.calm, budget_bps, outcome);
            allocation.ran_at = Some(now);
            let choices = board.scratch.choices();
            allocation.watch_darkness(now, !choices.is_empty() && choices.iter().all(|choice| choice.layer.is_none()));
            outgoing.set_goal(now, &outcome);
        }
        let mut waits = false;
        for n in 0..board.slots.len() {
            waits |= self.carry_out(now, index, &board, n);
        }
        let Some(outgoing) = self.peers[index].outgoing.as_deref_mut() else { return };
        let allocation = &mut outgoing.allocation;
        if waits || allocation.budget_bps.is_some() && !board.slots.is_empty() {
            allocation.want(now + AGAIN);
        }
        if guessed {
            allocation.want(now + SOON);
        }
        if let (Some(at), Some(since)) = (allocation.outcome.again_at, allocation.since) {
            allocation.want((since + Duration::from_millis(at)).max(now + FOLLOW));
        }
        self.batch.board = board;
    }

    /// Puts the peer's video slots on the board, with what there is for each. True if the rate of some stream is a guess.
    fn gather(&mut self, now: Instant, index: usize, board: &mut Board) -> bool {
        let mut guessed = false;
        let Self { peers, tracks, streams, .. } = self;
        board.at.clear();
        board.slots.clear();
        board.layers.clear();
        board.targets.clear();
        for (at, slot) in peers[index].slots.iter_mut().enumerate() {
            let Some(track) = slot.shown_video(tracks) else { continue };
            let first = board.layers.len();
            let newest = track.streams.iter().map(|s| streams[*s].last_arrival).max();
            let mut comes = false;
            for (encoding, &stream) in track.streams.iter().enumerate() {
                let stream = &streams[stream];
                let (Some(meter), Some(newest)) = (&stream.meter, newest) else { continue };
                if !stream.flows(newest) {
                    continue;
                }
                comes = true;
                guessed |= meter.is_new();
                if slot.takes(stream.codec) {
                    meter.for_each_layer(now, encoding as u8, |layer, layers| {
                        board.layers.push(layer);
                        board.targets.push(Target { stream: stream.key, layers });
                    });
                }
            }
            let count = (board.layers.len() - first).min(allocation::MAX_LAYERS);
            board.layers.truncate(first + count);
            board.targets.truncate(first + count);
            if count == 0 {
                if comes {
                    slot.told = Some(SlotState::NoCodec);
                }
                continue;
            }
            let target = slot.forwarder.target();
            let current = board.targets[first..].iter().position(|t| Some(*t) == target);
            // The same encoding with other layers than before: it is what it was, as far as may be.
            let alike = || board.targets[first..].iter().rposition(|t| target.is_some_and(|c| is_below(t, &c)));
            board.at.push(at as u16);
            board.slots.push(allocation::Slot {
                wish: Wish::from(&slot.wish),
                first: first as u16,
                count: count as u8,
                current: current.or_else(alike).map(|n| n as u8),
                memory: slot.share.memory,
            });
        }
        guessed
    }

    /// Does to a slot what was decided. True if it waits for a keyframe.
    fn carry_out(&mut self, now: Instant, index: usize, board: &Board, n: usize) -> bool {
        let (Some(&at), Some(own), Some(choice)) =
            (board.at.get(n), board.slots.get(n), board.scratch.choices().get(n))
        else {
            return false;
        };
        let at = usize::from(at);
        let slot = &mut self.peers[index].slots[at];
        slot.share = Share::from(choice);
        let place = |layer: u8| usize::from(own.first) + usize::from(layer);
        let target = choice.layer.and_then(|l| board.targets.get(place(l))).copied();
        let before = slot.forwarder.target();
        if target != before {
            let bps = |layer: Option<u8>| layer.and_then(|l| board.layers.get(place(l))).map_or(0, |layer| layer.bps);
            let ends = board.exceeded && bps(choice.layer) < bps(own.current);
            slot.forwarder.set_target(target, target.is_some() && !ends);
            if ends && slot.forwarder.current().is_none() {
                self.forget_waiting(index, at);
            }
        }
        let slot = &mut self.peers[index].slots[at];
        match (target, slot.told) {
            (None, _) => slot.told = Some(SlotState::Paused),
            (Some(_), Some(SlotState::Paused | SlotState::NoCodec) | None) => slot.told = Some(SlotState::Waiting),
            _ => {}
        }
        let waits = slot.forwarder.awaits_keyframe();
        if target != before {
            let why = Why::of(own, choice);
            self.note_aim(now, index, at, before, target, why);
        }
        if waits {
            self.want_keyframe(now, index, at, KeyframeWhy::Switch);
        }
        self.report_slot(now, index, at);
        waits
    }

    /// What the audio that goes to this peer takes of its path.
    fn audio_bps(&self, now: Instant, index: usize) -> u64 {
        let audio = self.peers[index].slots.iter().filter(|s| s.media.kind == Kind::Audio && s.track.is_some());
        let streams = audio.filter_map(|s| self.streams.get(s.forwarder.current()?.stream.index as usize));
        streams.filter(|s| s.is_live(now)).map(|s| s.rate.bps() as u64).sum()
    }
}

impl From<&Choice> for Share {
    fn from(choice: &Choice) -> Self {
        let &Choice { limit, need_bps, have_bps, memory, .. } = choice;
        Self { memory, limit, need_bps, have_bps }
    }
}

impl Slot {
    /// The video track that it is to show now.
    fn shown_video<'a>(&self, tracks: &'a slab::Slab<Track>) -> Option<&'a Track> {
        let track = tracks.get(self.track.filter(|_| !self.retired && self.media.kind == Kind::Video)?)?;
        (track.kind == Kind::Video && !track.muted).then_some(track)
    }
}

impl Outgoing {
    /// What its path carries; `None` where nothing can be known of it.
    fn budget(&self) -> Option<u64> {
        let estimate = self.bandwidth.estimate();
        let blind = !estimate.has_feedback && estimate.limited_by != LimitedBy::Start;
        // Losses without a queue: what arrives all the same is carried.
        let lossy = estimate.limited_by == LimitedBy::Loss && estimate.queue_delay < NO_QUEUE;
        let least = match (blind, lossy) {
            (true, _) => BLIND_LEAST,
            (false, true) => estimate.acked_bps,
            (false, false) => 0,
        };
        let bps = estimate.bps.max(least);
        (bps < MAX_BPS).then_some(bps)
    }

    /// Tells the estimator what its estimate is needed for.
    fn set_goal(&mut self, now: Instant, outcome: &Outcome) {
        let goal = (outcome.wanted_bps as f64 / GOAL_SHARE) as u64;
        self.bandwidth.set_goal(now, outcome.allocated_bps, goal);
    }
}

fn is_below(target: &Target, limit: &Target) -> bool {
    let class = |id: LayerId| LayerId { spatial: id.spatial.min(3), temporal: id.temporal };
    target.stream == limit.stream && class(limit.layers).includes(class(target.layers))
}
