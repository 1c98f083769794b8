//! What of a track is of use to a slot: its layers as a ladder, each rung better and dearer than the one below.
use super::{Layer, MAX_LAYERS, Scratch, Slot, Wish, Work};
use smallvec::SmallVec;

/// A picture may be shown so much larger than it is: what is gained by the next larger one is not seen.
const TOLERANCE: f64 = 1.15;
/// So much of the frame rate asked for is enough.
const ENOUGH_FPS: f64 = 0.8;
/// A layer that saves less than a twentieth of a better one is not worth a rung.
const WORTH: f64 = 0.95;
/// The frame rate of a stream whose rate is not known.
const USUAL_FPS: f64 = 30.0;
/// What a doubling of the frame rate is worth, in doublings of the number of pixels. Half the rate at four times the pixels is better
/// than the whole rate; a quarter of the rate is not. Of a screen every size is better than a smaller one.
const MOTION: f64 = 1.5;
const SCREEN_MOTION: f64 = 0.25;

#[derive(Clone, Copy, Debug)]
pub(super) struct Rung {
    /// Place among the slot's layers.
    pub layer: u8,
    pub bps: u32,
}

#[derive(Clone, Copy)]
struct Candidate {
    layer: u8,
    bps: u32,
    value: f64,
}

/// Makes the ladders of all slots.
pub(super) fn build(slots: &[Slot], layers: &[Layer], scratch: &mut Scratch) {
    scratch.rungs.clear();
    scratch.work.clear();
    for slot in slots {
        let first = usize::from(slot.first);
        let own = layers.get(first..first + usize::from(slot.count).min(MAX_LAYERS)).unwrap_or_default();
        let start = scratch.rungs.len();
        let cut = climb(slot, own, &mut scratch.rungs);
        let ladder = scratch.rungs.get(start..).unwrap_or_default();
        let keep = match slot.current {
            // It is larger than is of use now: the best that is.
            Some(current) => ladder.iter().position(|r| r.layer == current).map_or(ladder.len(), |at| at + 1),
            None => 0,
        };
        let (first, count) = (start as u32, ladder.len() as u8);
        scratch.work.push(Work { first, count, cut, keep: keep as u8, ..Work::default() });
    }
}

/// Appends the slot's ladder, the worst rung first. True if there is something better that would be of no use.
fn climb(slot: &Slot, layers: &[Layer], rungs: &mut Vec<Rung>) -> bool {
    let mut candidates: SmallVec<[Candidate; MAX_LAYERS]> = SmallVec::new();
    let largest = useful_pixels(&slot.wish, layers);
    let sized = layers.iter().all(|layer| pixels(layer) > 0);
    let mut cut = false;
    for (at, layer) in layers.iter().enumerate() {
        if pixels(layer) > largest || is_too_fast(&slot.wish, layer, layers) {
            cut = true;
            continue;
        }
        let value = value(&slot.wish, layer, layers, sized);
        candidates.push(Candidate { layer: at as u8, bps: layer.bps, value });
    }
    // The best first, and of two that are alike the cheaper one.
    candidates.sort_unstable_by(|a, b| b.value.total_cmp(&a.value).then(a.bps.cmp(&b.bps)));
    let start = rungs.len();
    let mut cheapest = f64::INFINITY;
    for candidate in candidates {
        // What is sent now stays on the ladder: it costs nothing to go on with it.
        if f64::from(candidate.bps) < cheapest * WORTH || slot.current == Some(candidate.layer) {
            rungs.push(Rung { layer: candidate.layer, bps: candidate.bps });
            cheapest = cheapest.min(f64::from(candidate.bps));
        }
    }
    if let Some(ladder) = rungs.get_mut(start..) {
        ladder.reverse();
    }
    cut
}

/// How many pixels are of use: those of the smallest picture that is as large as it is shown. Fitted into the space that
/// there is for it, a picture fills one of the two dimensions.
pub fn useful_pixels(wish: &Wish, layers: &[Layer]) -> u32 {
    let fills = |layer: u16, shown: u16| shown > 0 && f64::from(layer) * TOLERANCE >= f64::from(shown);
    let enough =
        |layer: &&Layer| pixels(layer) > 0 && (fills(layer.width, wish.width) || fills(layer.height, wish.height));
    layers.iter().filter(enough).map(pixels).min().unwrap_or(u32::MAX)
}

pub(super) fn pixels(layer: &Layer) -> u32 {
    u32::from(layer.width) * u32::from(layer.height)
}

/// Fewer temporal layers of the same pictures have all the frames that are asked for.
fn is_too_fast(wish: &Wish, layer: &Layer, layers: &[Layer]) -> bool {
    let enough = |other: &Layer| wish.fps > 0 && fps(other, layers) >= f64::from(wish.fps) * ENOUGH_FPS;
    layers.iter().any(|other| is_alike(layer, other) && other.temporal < layer.temporal && enough(other))
}

/// The same pictures, with other temporal layers perhaps.
fn is_alike(a: &Layer, b: &Layer) -> bool {
    (a.encoding, a.spatial) == (b.encoding, b.spatial)
}

fn fps(layer: &Layer, layers: &[Layer]) -> f64 {
    if layer.fps > 0 {
        return f64::from(layer.fps);
    }
    let above = layers.iter().filter(|other| is_alike(layer, other)).map(|other| other.temporal).max();
    let halvings = above.unwrap_or(0).saturating_sub(layer.temporal).min(7);
    USUAL_FPS / f64::from(1u32 << halvings)
}

/// How good a layer is, in doublings of its pixels. Where a size is not known, bit rates stand for the sizes: encoders spend
/// them alike.
fn value(wish: &Wish, layer: &Layer, layers: &[Layer], sized: bool) -> f64 {
    let size = if sized {
        pixels(layer)
    } else {
        layers.iter().filter(|other| is_alike(layer, other)).map(|other| other.bps).max().unwrap_or(0)
    };
    let motion = if wish.screen { SCREEN_MOTION } else { MOTION };
    f64::from(size.max(1)).log2() + motion * fps(layer, layers).max(0.1).log2()
}
