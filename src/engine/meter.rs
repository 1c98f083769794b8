//! What the layers of one video stream amount to: bit rates, frame rates, sizes, and whether it still flows.
use crate::egress::allocation::Layer;
use crate::rtp::LayerId;
use crate::rtp::codec::FrameInfo;
use crate::rtp::codec::resolution::{SPATIAL_LAYERS, Sizes};
use crate::rtp::layer::LayerSet;
use std::time::{Duration, Instant};

/// Spatial and temporal layers that are told apart, as in [`LayerSet::limits`].
const SPATIAL: usize = SPATIAL_LAYERS;
const TEMPORAL: usize = 4;
const LIMITS: usize = SPATIAL * TEMPORAL;
const WINDOW: Duration = Duration::from_millis(500);
/// What one window weighs against those before it; with a keyframe in it, which is several times as large as other frames.
const WEIGHT: f32 = 0.3;
const KEYFRAME_WEIGHT: f32 = 0.1;
/// An encoding is gone when it misses so many frames, while others of its track go on; at least and at most after so long.
const MISSED_FRAMES: u32 = 4;
const LEAST_SILENCE: Duration = Duration::from_millis(400);
const MOST_SILENCE: Duration = Duration::from_secs(2);
/// When it can be said how much a stream is that has just begun; and until then, or until another shard says: what encoders spend on a pixel, in bits a second, and on a picture of unknown size.
pub(super) const SOON: Duration = Duration::from_millis(100);
const USUAL_BITS: f64 = 1.5;
const USUAL_BPS: u32 = 300_000;

/// Kept for each video stream, here or mirrored.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    since: Option<Instant>,
    /// Of the present window, by limit: all that somebody gets who follows the stream up to there.
    bits: [u32; LIMITS],
    /// Pictures of the present window, by temporal limit.
    pictures: [u16; TEMPORAL],
    keyframe: bool,
    /// Of the first window: what its keyframe took, by limit, and the timestamp of that.
    key_bits: [u32; LIMITS],
    key_timestamp: Option<u32>,
    bps: [f32; LIMITS],
    fps: [f32; TEMPORAL],
    windows: u32,
    /// Layers that came in the present window, and in the one before: one bit each.
    coming: u16,
    came: u16,
    /// By spatial layer; 0 where it is not known.
    sizes: Sizes,
    last_frame: Option<Instant>,
    /// Time between two pictures, smoothed.
    gap: Duration,
    /// What others say of it, until there is enough to go by here.
    hint_bps: u32,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            since: None,
            bits: [0; LIMITS],
            pictures: [0; TEMPORAL],
            keyframe: false,
            key_bits: [0; LIMITS],
            key_timestamp: None,
            bps: [0.0; LIMITS],
            fps: [0.0; TEMPORAL],
            windows: 0,
            coming: 0,
            came: 0,
            sizes: Sizes::default(),
            last_frame: None,
            gap: Duration::ZERO,
            hint_bps: 0,
        }
    }
}

impl Meter {
    pub fn add(&mut self, now: Instant, bytes: usize, timestamp: u32, frame: &FrameInfo) {
        let since = *self.since.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        if elapsed >= MOST_SILENCE && self.windows > 0 && self.gap < WINDOW {
            // It was away, and is what it was: the silence is no part of it.
            self.begin(now);
        } else if elapsed >= WINDOW {
            self.turn(now, elapsed);
        }
        let bits = u32::try_from(bytes * 8).unwrap_or(u32::MAX);
        if frame.keyframe {
            self.key_timestamp = Some(timestamp);
        }
        let of_keyframe = self.windows == 0 && self.key_timestamp == Some(timestamp);
        let sums = if of_keyframe { &mut self.key_bits } else { &mut self.bits };
        for (sum, limit) in sums.iter_mut().zip(LayerSet::limits()) {
            if !frame.absent.contains(limit) {
                *sum = sum.saturating_add(bits);
            }
        }
        let (spatial, temporal) = (usize::from(frame.spatial).min(SPATIAL - 1), temporal_class(frame.temporal));
        self.coming |= 1 << (spatial * TEMPORAL + temporal);
        self.keyframe |= frame.keyframe;
        if frame.frame_start && spatial == 0 {
            self.pictures.iter_mut().skip(temporal).for_each(|n| *n = n.saturating_add(1));
            if let Some(last) = self.last_frame.replace(now) {
                let gap = now.saturating_duration_since(last).min(MOST_SILENCE);
                self.gap = if self.gap.is_zero() { gap } else { (self.gap * 7 + gap) / 8 };
            }
        }
    }

    /// A window is complete.
    fn turn(&mut self, now: Instant, elapsed: Duration) {
        let seconds = elapsed.as_secs_f32();
        let first = self.windows == 0;
        let weight = match (first, self.keyframe) {
            (true, _) => 1.0,
            (false, true) => KEYFRAME_WEIGHT,
            (false, false) => WEIGHT,
        };
        if self.windows == 0 && self.pictures[TEMPORAL - 1] > 1 {
            // As if the keyframe had been a picture like the others.
            let pictures = f32::from(self.pictures[TEMPORAL - 1]);
            self.bits.iter_mut().for_each(|bits| *bits = (*bits as f32 * pictures / (pictures - 1.0)) as u32);
        } else if self.windows == 0 {
            self.bits = self.key_bits;
        }
        for (rate, bits) in self.bps.iter_mut().zip(self.bits) {
            *rate += (bits as f32 / seconds - *rate) * weight;
        }
        for (rate, pictures) in self.fps.iter_mut().zip(self.pictures) {
            *rate += (f32::from(pictures) / seconds - *rate) * if first { 1.0 } else { WEIGHT };
        }
        self.windows = self.windows.saturating_add(1);
        (self.came, self.coming) = (self.coming, 0);
        self.begin(now);
    }

    fn begin(&mut self, now: Instant) {
        (self.bits, self.pictures, self.keyframe) = ([0; LIMITS], [0; TEMPORAL], false);
        self.since = Some(now);
    }

    /// What a keyframe says of its pictures.
    pub fn set_sizes(&mut self, sizes: Sizes) {
        self.sizes = sizes;
    }

    /// What the publisher says of the stream, or the home shard of one that is mirrored, or was known of one that it replaces.
    pub fn hint(&mut self, hint: Hint) {
        self.hint_bps = hint.bps;
        self.sizes = hint.sizes;
    }

    pub fn as_hint(&self) -> Hint {
        let measured = self.bps[LIMITS - 1] as u32;
        Hint { bps: if self.windows == 0 { self.hint_bps } else { measured }, sizes: self.sizes }
    }

    /// How long it may be silent and yet flow.
    pub fn silence(&self) -> Duration {
        (self.gap * MISSED_FRAMES).clamp(LEAST_SILENCE, MOST_SILENCE)
    }

    /// Pixels of the largest picture, if known.
    pub fn size(&self) -> Option<(u16, u16)> {
        self.sizes.iter().copied().max_by_key(|(w, h)| u32::from(*w) * u32::from(*h)).filter(|size| size.0 > 0)
    }

    /// Frames a second.
    pub fn fps(&self) -> f32 {
        self.fps[TEMPORAL - 1]
    }

    /// Nothing is known of its bit rate but a guess.
    pub fn is_new(&self) -> bool {
        self.windows == 0
    }

    /// What subscribers choose by, rates aside: when it changes, they have to choose anew.
    pub fn shape(&self) -> (u16, Sizes, bool) {
        (self.layers(), self.sizes, self.windows > 0)
    }

    fn layers(&self) -> u16 {
        self.coming | self.came
    }

    /// Hands out each layer, with the limit for it. The best one's limit lets everything pass, new layers as well.
    pub fn for_each_layer(&self, now: Instant, encoding: u8, mut take: impl FnMut(Layer, LayerId)) {
        let present = self.layers();
        let row = |spatial: usize| present >> (spatial * TEMPORAL) & 0xf;
        if self.windows == 0 || present == 0 {
            // (A stream that has just begun has one layer, as far as anybody knows.)
            let (width, height) = self.size().unwrap_or((0, 0));
            let bps = self.guess(now, width, height);
            return take(Layer { encoding, width, height, bps, ..Layer::default() }, LayerId::TOP);
        }
        let best = (0..SPATIAL).rev().find(|s| row(*s) != 0).unwrap_or(0);
        let alone = (0..SPATIAL).filter(|s| row(*s) != 0).count() == 1;
        for spatial in (0..SPATIAL).filter(|s| row(*s) != 0) {
            let fastest = (0..TEMPORAL).rev().find(|t| row(spatial) >> t & 1 != 0).unwrap_or(0);
            for temporal in (0..TEMPORAL).filter(|t| row(spatial) >> t & 1 != 0) {
                let (width, height) = if alone { self.size().unwrap_or((0, 0)) } else { self.sizes[spatial] };
                let layer = Layer {
                    encoding,
                    spatial: spatial as u8,
                    temporal: temporal as u8,
                    fps: self.fps[temporal].round().clamp(0.0, 255.0) as u8,
                    width,
                    height,
                    bps: self.bps[spatial * TEMPORAL + temporal] as u32,
                };
                let limit = LayerId {
                    spatial: if spatial == best { LayerId::TOP.spatial } else { spatial as u8 },
                    temporal: if temporal == fastest { LayerId::TOP.temporal } else { temporal as u8 },
                };
                take(layer, limit);
            }
        }
    }

    /// The highest layers that come.
    pub fn top(&self) -> Top {
        let present = self.layers();
        let row = |s: usize| present >> (s * TEMPORAL) & 0xf;
        let highest = |bits: u16| (bits.count_ones() > 1).then(|| (15 - bits.leading_zeros()) as u8);
        let rows = (0..SPATIAL).fold(0, |bits, s| bits | u16::from(row(s) != 0) << s);
        Top { spatial: highest(rows), temporal: highest((0..SPATIAL).fold(0, |bits, s| bits | row(s))) }
    }

    /// The bit rate of a stream that has just begun.
    fn guess(&self, now: Instant, width: u16, height: u16) -> u32 {
        let elapsed = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        if elapsed >= SOON && self.hint_bps == 0 {
            let bits = self.bits[LIMITS - 1].max(self.key_bits[LIMITS - 1] / 4);
            return (bits as f32 / elapsed.as_secs_f32()) as u32;
        }
        match (self.hint_bps, u32::from(width) * u32::from(height)) {
            (0, 0) => USUAL_BPS,
            (0, pixels) => (f64::from(pixels) * USUAL_BITS) as u32,
            (hint, _) => hint,
        }
    }
}

/// What one shard tells another of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hint {
    pub bps: u32,
    pub sizes: Sizes,
}

/// `None` where there is only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Top {
    pub spatial: Option<u8>,
    pub temporal: Option<u8>,
}

fn temporal_class(temporal: u8) -> usize {
    usize::from(temporal).min(TEMPORAL - 1)
}
