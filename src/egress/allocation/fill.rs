//! Filling a budget from nothing: who is served in which order.
use super::{Scratch, Slot, Work};
use std::cmp::Reverse;

/// Slots that stand before others in everything beyond the smallest picture.
type Class = (bool, i32);

fn class(slot: &Slot) -> Class {
    (slot.wish.stage, slot.wish.priority)
}

/// Puts the slots into the order of service: by class; then those that have a picture, lest another one takes it from them; then by size.
pub(super) fn order(slots: &[Slot], scratch: &mut Scratch) {
    scratch.order.clear();
    scratch.order.extend(0..slots.len().min(usize::from(u16::MAX)) as u16);
    scratch.order.sort_unstable_by_key(|&at| {
        let (slot, shown) = (&slots[usize::from(at)], scratch.work[usize::from(at)].keep > 0);
        (Reverse((class(slot), shown, u32::from(slot.wish.width) * u32::from(slot.wish.height))), at)
    });
}

/// What there is to be shared out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purse {
    pub bps: u64,
    /// Left alone by all, save for the smallest layer of slots that were not paused.
    pub reserve: u64,
    /// On top of it, before a slot loses its smallest layer.
    pub grace: u64,
}

/// Shares it out, and hands each slot's level to `set`. Save for the smallest layers, what a slot gets depends on nothing that was
/// before.
pub(super) fn fill(slots: &[Slot], purse: Purse, scratch: &mut Scratch, set: impl Fn(&mut Work, u8)) {
    let Purse { bps, reserve, grace } = purse;
    let mut spent = 0u64;
    for n in 0..scratch.order.len() {
        let at = usize::from(scratch.order[n]);
        let work = scratch.work[at];
        let smallest = scratch.bps(&work, 1);
        let returns = slots[at].memory.paused && !slots[at].is_free();
        let most = match (work.keep > 0, returns) {
            (true, _) => bps.saturating_add(grace),
            (false, true) => bps - reserve,
            (false, false) => bps,
        };
        let level = u8::from(work.count > 0 && spent.saturating_add(smallest) <= most);
        if level > 0 {
            spent = spent.saturating_add(smallest);
        }
        scratch.work[at].chosen = level;
    }
    let mut left = (bps - reserve).saturating_sub(spent);
    let mut next = 0;
    while let Some(&at) = scratch.order.get(next) {
        let class = class(&slots[usize::from(at)]);
        scratch.steps.clear();
        while let Some(&at) = scratch.order.get(next).filter(|at| self::class(&slots[usize::from(**at)]) == class) {
            push_step(at, scratch);
            next += 1;
        }
        left = climb(left, scratch);
    }
    scratch.work.iter_mut().for_each(|work| set(work, work.chosen));
}

/// Takes the cheapest step as long as it fits. What is left over is returned.
///
/// The order of steps does not depend on the budget, so that more of it never takes anything from anybody in the class.
fn climb(mut left: u64, scratch: &mut Scratch) -> u64 {
    while let Some(Reverse((cost, at))) = scratch.steps.pop() {
        let Some(rest) = left.checked_sub(cost) else { break };
        left = rest;
        scratch.work[usize::from(at)].chosen += 1;
        push_step(at, scratch);
    }
    left
}

/// The next step up of a slot that has its smallest layer.
fn push_step(at: u16, scratch: &mut Scratch) {
    let work = scratch.work[usize::from(at)];
    if work.chosen > 0
        && let Some(cost) = step(scratch, &work)
    {
        scratch.steps.push(Reverse((cost, at)));
    }
}

/// What one step up costs from where the slot is.
fn step(scratch: &Scratch, work: &Work) -> Option<u64> {
    let cost = || scratch.bps(work, work.chosen + 1).saturating_sub(scratch.bps(work, work.chosen));
    (work.chosen < work.count).then(cost)
}

/// What the next step up would cost: the cheapest of the first class that has any.
pub(super) fn next_step(slots: &[Slot], scratch: &Scratch) -> Option<u64> {
    let mut waiting = scratch.order.iter().map(|at| usize::from(*at));
    let paused = |at: &usize| scratch.work[*at].chosen == 0 && scratch.work[*at].count > 0;
    if let Some(at) = waiting.clone().find(paused) {
        return step(scratch, &scratch.work[at]);
    }
    let first = waiting.find(|at| step(scratch, &scratch.work[*at]).is_some())?;
    let same = |at: &usize| class(&slots[*at]) == class(&slots[first]);
    std::iter::once(first).chain(waiting).filter(same).filter_map(|at| step(scratch, &scratch.work[at])).min()
}
