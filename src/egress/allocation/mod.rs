//! Which layer each video slot of a subscriber gets: what the path carries, shared out over all that is looked at.
//!
//! [`allocate`] is a function of its arguments, the memory included that each slot hands back to it: a logged call gives the
//! same answer again. What it goes by:
//!
//! 1. *What is of use.* Nothing larger than it is shown, nothing faster than is asked for (`ladder`).
//! 2. *In which order.* What is on the stage, then by priority. Every slot gets its smallest layer before any slot gets more;
//!    then the classes are served in order, and within a class single steps up, the cheapest first (`fill`).
//! 3. *What stays.* A step up needs room to spare, for a while; a step down is made when the present choice is more than the
//!    path carries: at once where it is much more, after a second where it may be noise. After a step down the slot waits ten
//!    seconds before the next step up, and longer when a step up had to be undone. What the viewer changes is followed at once.
mod fill;
mod ladder;
#[cfg(test)]
mod tests;

pub use ladder::useful_pixels;

use fill::Purse;
use ladder::Rung;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A step up must fit into so much of the budget.
pub const RAISE_SHARE: f64 = 0.92;
/// What is sent may exceed the budget so far: rates and estimates wander.
pub const KEEP_SHARE: f64 = 1.05;
/// Before a picture is paused, its smallest layer may exceed the budget so far: that little is no reason to have nothing. Where the path
/// does not carry it, the estimate soon says so.
pub const PAUSE_SHARE: f64 = 1.25;
/// Beyond this excess, steps down are made at once.
pub const CLEAR_SHARE: f64 = 1.20;
/// A step up must have fitted for so long, once a step down had to be taken; for each step up that was undone of late twice as long again.
pub const RAISE_AFTER_MS: u64 = 1_000;
/// An excess that is not clear is borne for so long.
pub const BEAR_MS: u64 = 2_000;
/// After a step down for want of bandwidth the slot takes no step up for so long; doubled for each step up that was undone, to
/// [`MAX_STRIKES`] times.
pub const HOLD_MS: u64 = 10_000;
pub const MAX_STRIKES: u8 = 2;
/// A step up that was taken back sooner than this was a mistake. (Where the path has clearly become narrower, only
/// [`UNDONE_CLEAR_MS`].) One that lasted for [`FORGIVEN_MS`] clears the slot of former ones.
pub const UNDONE_MS: u64 = 30_000;
pub const UNDONE_CLEAR_MS: u64 = 8_000;
pub const FORGIVEN_MS: u64 = 60_000;
/// A path that carries so much more than when something had to be lowered is another one: nobody waits any longer. Nor if it carries so much
/// more than what would be sent: that is no matter of wandering rates. For each step up that was undone of late it must be so much more again.
pub const WIDER: f64 = 1.5;
/// After any step down for want of bandwidth nothing is raised for so long: the estimate is still moving.
pub const CALM_MS: u64 = 2_000;
/// Layers of one slot that are looked at; further ones are ignored. Three encodings, three spatial and three temporal layers are 27.
pub const MAX_LAYERS: usize = 32;

/// How a slot is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wish {
    /// In device pixels; 0 where it is not known.
    pub width: u16,
    pub height: u16,
    /// Frames a second that are of use; 0: all.
    pub fps: u8,
    pub priority: i32,
    /// Before all that is not on the stage, whatever their priorities.
    pub stage: bool,
    /// A shared screen: sharpness before frame rate.
    pub screen: bool,
}

/// One layer that a slot could be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// Which of the track's encodings, by a number of the caller's.
    pub encoding: u8,
    pub spatial: u8,
    pub temporal: u8,
    /// 0 where it is not known.
    pub fps: u8,
    /// In pixels; 0 where it is not known.
    pub width: u16,
    pub height: u16,
    /// Bits a second of all that has to be sent for it.
    pub bps: u32,
}

/// A video slot with a track that is there, and what there is of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Slot {
    pub wish: Wish,
    /// Where its layers begin in the list of all layers, and how many they are.
    pub first: u16,
    pub count: u8,
    /// Which of them was chosen before. `None` if nothing was, or what was is there no more.
    pub current: Option<u8>,
    pub memory: Memory,
}

impl Slot {
    /// Nothing is to be kept: the viewer changed something, or what was sent is there no more.
    fn is_free(&self) -> bool {
        self.memory.fresh || self.current.is_none() && !self.memory.paused
    }
}

/// What a slot remembers from one allocation to the next. Times in milliseconds on the caller's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// The viewer changed something: nothing holds it back. To be set by the caller.
    pub fresh: bool,
    /// Nothing is sent, for want of bandwidth.
    pub paused: bool,
    /// Since when more has fitted.
    pub fits_since: Option<u64>,
    /// When it was raised last.
    pub raised_at: Option<u64>,
    pub no_raise_before: u64,
    /// Steps up that had to be undone, of late.
    pub strikes: u8,
}

impl Default for Memory {
    /// Of a slot that shows nothing yet.
    fn default() -> Self {
        Self { fresh: true, paused: false, fits_since: None, raised_at: None, no_raise_before: 0, strikes: 0 }
    }
}

/// What all slots of a subscriber share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Path {
    /// Bits a second that it carries; `None` where nothing is known of it: everything fits.
    pub budget_bps: Option<u64>,
    /// The budget is what the path has been seen to carry, or a first guess; not the most that it carries. Nothing is taken back for
    /// that, and something is sent in any case: without that, nothing more would ever be known.
    pub untested: bool,
    /// What audio takes of it. It is sent whatever happens.
    pub audio_bps: u64,
    pub calm: Calm,
}

/// What a path remembers from one allocation to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Calm {
    /// Since when more has been sent than it carries.
    pub over_since: Option<u64>,
    pub no_raise_before: u64,
    /// The budget when something was lowered last.
    pub lowered_bps: Option<u64>,
}

/// What keeps a slot from a better layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Limit {
    /// There is none.
    #[default]
    Publisher,
    /// It would be of no use.
    View,
    Bandwidth,
}

/// What is to be sent on a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Choice {
    /// Which of its layers; `None`: nothing.
    pub layer: Option<u8>,
    pub limit: Limit,
    /// Bits a second of the next better layer, and what there is for it; 0 unless bandwidth is the limit.
    pub need_bps: u64,
    pub have_bps: u64,
    /// To be handed back next time.
    pub memory: Memory,
}

/// What an allocation comes to, audio included, in bits a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub allocated_bps: u64,
    /// If the path carried all that is of use.
    pub wanted_bps: u64,
    /// What the path must be known to carry before the next step up is made; as `allocated_bps` if there is none.
    pub next_bps: u64,
    /// When to allocate again at the latest, if nothing changes: somebody waits for a time to pass.
    pub again_at: Option<u64>,
    pub calm: Calm,
}

/// Buffers and the last answer. Kept from call to call, so that nothing is allocated once it has grown.
#[derive(Debug, Default)]
pub struct Scratch {
    rungs: Vec<Rung>,
    work: Vec<Work>,
    /// Slots in the order in which they are served.
    order: Vec<u16>,
    steps: BinaryHeap<Reverse<(u64, u16)>>,
    choices: Vec<Choice>,
}

/// One slot, while it is worked on. A level is a number of rungs: 0 is nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    /// Its ladder in `rungs`.
    first: u32,
    count: u8,
    /// Better layers were left out, because they would be of no use.
    cut: bool,
    keep: u8,
    low: u8,
    high: u8,
    chosen: u8,
}

impl Scratch {
    /// The answer of the last [`allocate`], by slot.
    pub fn choices(&self) -> &[Choice] {
        &self.choices
    }

    fn bps(&self, work: &Work, level: u8) -> u64 {
        match level.checked_sub(1) {
            Some(below) => self.rungs.get(work.first as usize + usize::from(below)).map_or(0, |r| u64::from(r.bps)),
            None => 0,
        }
    }

    fn sum(&self, level: impl Fn(&Work) -> u8) -> u64 {
        self.work.iter().map(|work| self.bps(work, level(work))).sum()
    }
}

/// Shares out the path at `now_ms`. The choices stand in `scratch` afterwards. O(n log n) in the number of layers.
pub fn allocate(now_ms: u64, path: &Path, slots: &[Slot], layers: &[Layer], scratch: &mut Scratch) -> Outcome {
    ladder::build(slots, layers, scratch);
    fill::order(slots, scratch);
    let budget = budget(path, scratch);
    let bps = share(budget, 1.0);
    let grace = share(budget, PAUSE_SHARE) - bps;
    let low = Purse { bps, reserve: bps - share(budget, RAISE_SHARE), grace };
    fill::fill(slots, low, scratch, |work, level| work.low = level);
    fill::fill(slots, Purse { reserve: 0, ..low }, scratch, |work, level| work.high = level);
    let mut calm = path.calm;
    let kept = scratch.sum(|w| w.keep);
    let over = !path.untested && kept > share(budget, KEEP_SHARE);
    calm.over_since = if over { calm.over_since.or(Some(now_ms)) } else { None };
    let borne = calm.over_since.is_none_or(|since| now_ms.saturating_sub(since) < BEAR_MS);
    let clear = kept > share(budget, CLEAR_SHARE);
    let lowered = over && (!borne || clear);
    if lowered {
        lower(slots, scratch);
        calm.over_since = None;
        if scratch.work.iter().any(|work| work.chosen < work.keep) {
            (calm.no_raise_before, calm.lowered_bps) = (now_ms + CALM_MS, path.budget_bps);
        }
    } else {
        raise(now_ms, path, &calm, budget, slots, scratch);
    }
    let undone_ms = if lowered && clear { UNDONE_CLEAR_MS } else { UNDONE_MS };
    conclude(now_ms, path, calm, undone_ms, budget, slots, scratch)
}

/// What there is for video.
fn budget(path: &Path, scratch: &Scratch) -> Option<u64> {
    let bps = path.budget_bps?.saturating_sub(path.audio_bps);
    let first = || scratch.order.iter().map(|at| &scratch.work[usize::from(*at)]).find(|work| work.count > 0);
    let least = || scratch.sum(|w| w.keep).max(first().map_or(0, |work| scratch.bps(work, 1)));
    Some(if path.untested { bps.max(least()) } else { bps })
}

fn share(budget: Option<u64>, share: f64) -> u64 {
    budget.map_or(u64::MAX, |bps| (bps as f64 * share) as u64)
}

/// More is sent than the path carries: nobody gets more than the whole budget gives him, and nobody is raised.
fn lower(slots: &[Slot], scratch: &mut Scratch) {
    for (slot, work) in slots.iter().zip(&mut scratch.work) {
        work.chosen = if slot.is_free() { work.high } else { work.keep.min(work.high) };
    }
}

/// The present choice is borne: who may be raised is, if need be at the expense of others who have more than is theirs.
fn raise(now_ms: u64, path: &Path, calm: &Calm, budget: Option<u64>, slots: &[Slot], scratch: &mut Scratch) {
    let mut any = false;
    let wanted = scratch.sum(|w| w.low);
    for (slot, work) in slots.iter().zip(&mut scratch.work) {
        let raised = work.low > work.keep && raise_at(now_ms, path, calm, budget, wanted, slot) <= now_ms;
        any |= raised;
        work.chosen = if raised { work.low } else { work.keep };
    }
    if !any || scratch.sum(|w| w.chosen) <= share(budget, RAISE_SHARE) {
        return;
    }
    for work in &mut scratch.work {
        work.chosen = work.chosen.min(work.low.max(work.high));
    }
    if scratch.sum(|w| w.chosen) > share(budget, 1.0) {
        scratch.work.iter_mut().for_each(|work| work.chosen = work.chosen.min(work.low));
    }
}

/// When a slot that could be raised will be, if it stays so. `wanted`: what would be sent if all were raised that fit.
fn raise_at(now_ms: u64, path: &Path, calm: &Calm, budget: Option<u64>, wanted: u64, slot: &Slot) -> u64 {
    let memory = &slot.memory;
    // As long as no step had to be taken back, the path is still being explored.
    if slot.is_free() || path.untested || memory.no_raise_before == 0 && calm.no_raise_before == 0 {
        return now_ms;
    }
    let fitted = memory.fits_since.unwrap_or(now_ms) + RAISE_AFTER_MS * (1 + 2 * u64::from(memory.strikes));
    let factor = WIDER.powi(1 + i32::from(memory.strikes));
    let exceeds = |bps: Option<u64>, other: u64| bps.is_none_or(|bps| bps as f64 >= other as f64 * factor);
    let wider = calm.lowered_bps.is_some_and(|before| exceeds(path.budget_bps, before));
    if wider || exceeds(budget, wanted) {
        return if memory.paused { now_ms } else { fitted };
    }
    fitted.max(memory.no_raise_before).max(calm.no_raise_before)
}

fn conclude(
    now_ms: u64,
    path: &Path,
    calm: Calm,
    undone_ms: u64,
    budget: Option<u64>,
    slots: &[Slot],
    scratch: &mut Scratch,
) -> Outcome {
    let sum = scratch.sum(|w| w.chosen);
    let left = budget.map_or(0, |bps| bps.saturating_sub(sum));
    let wanted = scratch.sum(|w| w.low);
    let mut again_at = calm.over_since.map(|since| since + BEAR_MS);
    scratch.choices.clear();
    for at in 0..scratch.work.len() {
        let (Some(slot), Some(work)) = (slots.get(at), scratch.work.get(at).copied()) else { break };
        let memory = remember(now_ms, undone_ms, slot, &work);
        if memory.fits_since.is_some() {
            let at = raise_at(now_ms, path, &calm, budget, wanted, &Slot { memory, ..*slot });
            again_at = Some(again_at.map_or(at, |other| other.min(at)));
        }
        let limited = work.chosen < work.count;
        let rung = work.chosen.checked_sub(1).and_then(|n| scratch.rungs.get(work.first as usize + usize::from(n)));
        let choice = Choice {
            layer: rung.map(|r| r.layer),
            limit: match (limited, work.cut) {
                (true, _) => Limit::Bandwidth,
                (false, true) => Limit::View,
                (false, false) => Limit::Publisher,
            },
            need_bps: if limited { scratch.bps(&work, work.chosen + 1) } else { 0 },
            have_bps: if limited { scratch.bps(&work, work.chosen) + left } else { 0 },
            memory,
        };
        scratch.choices.push(choice);
    }
    let step = fill::next_step(slots, scratch);
    Outcome {
        allocated_bps: sum + path.audio_bps,
        wanted_bps: scratch.sum(|w| w.count) + path.audio_bps,
        next_bps: path.audio_bps + step.map_or(sum, |step| ((sum + step) as f64 / RAISE_SHARE) as u64),
        again_at,
        calm,
    }
}

/// A step up that is taken back was a mistake if it is no older than `undone_ms`.
fn remember(now_ms: u64, undone_ms: u64, slot: &Slot, work: &Work) -> Memory {
    let before = slot.memory;
    if work.count == 0 {
        return before; // There is nothing of it: what it waits for is still to come.
    }
    let shown = slot.current.is_some() || before.paused;
    // Who has not had a picture yet gets one as soon as there is room.
    let fresh = before.fresh && work.chosen == 0;
    let mut memory = Memory { fresh, paused: work.chosen == 0, fits_since: None, ..before };
    if shown && work.chosen > work.keep {
        memory.raised_at = Some(now_ms);
    } else if shown && work.chosen < work.keep {
        let lasted = before.raised_at.map(|at| now_ms.saturating_sub(at));
        (memory.strikes, memory.raised_at) = match lasted {
            // One step up is one mistake, in however many steps it is taken back.
            Some(ms) if ms < undone_ms => ((before.strikes + 1).min(MAX_STRIKES), None),
            Some(ms) if ms < FORGIVEN_MS => (before.strikes, before.raised_at),
            Some(_) => (0, before.raised_at),
            None => (before.strikes, None),
        };
        memory.no_raise_before = now_ms + (HOLD_MS << memory.strikes);
    } else if work.low > work.chosen {
        memory.fits_since = before.fits_since.or(Some(now_ms));
    }
    memory
}
