//! What publishers send: simulcast encodings with two temporal layers, frames of uneven sizes, keyframes; and who gets what of it.
use exedra::egress::allocation::{Layer, Path, RAISE_SHARE, Scratch, Slot, allocate};
use rand::Rng;
use rand::rngs::StdRng;
use std::time::{Duration, Instant};

/// Bits a second of the encodings.
pub const ENCODINGS: [f64; 3] = [150e3, 500e3, 2_500e3];
/// The share of an encoding's bits in its lower temporal layer.
const BASE_SHARE: f64 = 0.6;
pub const AUDIO_BPS: f64 = 32e3 + 50.0 * 8.0 * 40.0;
const FRAME: Duration = Duration::from_micros(33_333);
/// A keyframe, in delta frames.
const KEYFRAME: f64 = 4.5;
const PACKET: usize = 1100;
/// SRTP, RTP and its extensions.
const OVERHEAD: usize = 40;

/// A rung: encoding, and whether it has both temporal layers.
pub type Rung = (usize, bool);
pub const RUNGS: [Rung; 6] = [(0, false), (0, true), (1, false), (1, true), (2, false), (2, true)];

pub fn rung_bps(rung: usize) -> f64 {
    let (encoding, full) = RUNGS[rung];
    ENCODINGS[encoding] * if full { 1.0 } else { BASE_SHARE } * (1.0 + OVERHEAD as f64 / PACKET as f64)
}

/// What the allocator is told of the tracks: each with the rungs up to `top`.
pub fn layers(tracks: usize, top: usize) -> Vec<Layer> {
    let of_rung = |(at, &(encoding, full)): (usize, &Rung)| Layer {
        encoding: encoding as u8,
        spatial: 0,
        temporal: u8::from(full),
        fps: if full { 30 } else { 15 },
        width: 320 << encoding,
        height: 180 << encoding,
        bps: rung_bps(at) as u32,
    };
    let one: Vec<Layer> = RUNGS.iter().enumerate().take(top + 1).map(of_rung).collect();
    one.iter().copied().cycle().take(one.len() * tracks).collect()
}

/// For each of `tracks` the best rung so that all fit `bps`.
pub fn best(tracks: usize, top: usize, bps: f64) -> Vec<Option<usize>> {
    let count = (top + 1) as u8;
    let slots: Vec<Slot> =
        (0..tracks).map(|n| Slot { first: n as u16 * u16::from(count), count, ..Slot::default() }).collect();
    // The reserve that the allocator keeps is taken off again.
    let budget = (bps - AUDIO_BPS) / RAISE_SHARE + AUDIO_BPS;
    let path = Path { budget_bps: Some(budget as u64), audio_bps: AUDIO_BPS as u64, ..Path::default() };
    let mut scratch = Scratch::default();
    allocate(0, &path, &slots, &layers(tracks, top), &mut scratch);
    scratch.choices().iter().map(|choice| choice.layer.map(usize::from)).collect()
}

pub fn total_bps(chosen: &[Option<usize>]) -> f64 {
    chosen.iter().flatten().map(|&rung| rung_bps(rung)).sum::<f64>() + AUDIO_BPS
}

/// One track, and what of it is forwarded to one viewer.
pub struct Track {
    pub target: Option<usize>,
    encoding: Option<usize>,
    full: bool,
    /// Frames of the encoding that is switched to come with a keyframe from here on.
    keyframe_at: Option<Instant>,
    next_frame: Instant,
    frame: u64,
    debt: f64,
    next_spontaneous: Instant,
}

impl Track {
    pub fn new(now: Instant, rng: &mut StdRng) -> Self {
        Self {
            target: None,
            encoding: None,
            full: true,
            keyframe_at: None,
            next_frame: now + FRAME.mul_f64(rng.random()),
            frame: 0,
            debt: 0.0,
            next_spontaneous: now + Duration::from_secs_f64(rng.random_range(5.0..20.0)),
        }
    }

    /// The sizes of the packets that are to be forwarded at `now`, in bytes.
    pub fn poll(&mut self, now: Instant, rng: &mut StdRng, out: &mut Vec<usize>) {
        if now < self.next_frame {
            return;
        }
        self.next_frame += FRAME;
        self.frame += 1;
        let noise: f64 = 0.7 + 0.3 * (rng.random::<f64>() + rng.random::<f64>());
        let key = self.follow_target(now, rng);
        let Some(encoding) = self.encoding else { return };
        let upper = self.frame % 2 == 1;
        if upper && !self.full && !key {
            return;
        }
        let share = 2.0 * if upper { 1.0 - BASE_SHARE } else { BASE_SHARE };
        let plain = ENCODINGS[encoding] / 8.0 * FRAME.as_secs_f64();
        let mut size = plain * share * noise;
        if key {
            size = plain * KEYFRAME;
            self.debt += size - plain;
        } else {
            // The encoder makes up for its keyframe within a second or so.
            let saved = (self.debt * 0.05).min(size * 0.3);
            self.debt -= saved;
            size -= saved;
        }
        let mut left = size as usize;
        while left > 0 {
            let part = left.min(PACKET);
            out.push(part + OVERHEAD);
            left -= part;
        }
    }

    /// Down at once, up with a keyframe; true if this frame is one.
    fn follow_target(&mut self, now: Instant, rng: &mut StdRng) -> bool {
        let Some(target) = self.target else {
            self.encoding = None;
            return false;
        };
        let (encoding, full) = RUNGS[target];
        if self.encoding == Some(encoding) {
            (self.full, self.keyframe_at) = (full, None);
            if now >= self.next_spontaneous {
                self.next_spontaneous = now + Duration::from_secs_f64(rng.random_range(10.0..20.0));
                return true;
            }
            return false;
        }
        // The publisher is asked for a keyframe; while it is on its way the old layer goes on, if there is room for it.
        let at = *self.keyframe_at.get_or_insert(now + Duration::from_millis(70));
        if self.encoding.is_some_and(|e| e > encoding) {
            self.encoding = None;
        }
        if now < at {
            return false;
        }
        (self.encoding, self.full, self.keyframe_at, self.debt) = (Some(encoding), full, None, 0.0);
        true
    }
}
