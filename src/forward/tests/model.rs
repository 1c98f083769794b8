//! A publisher that sends layers, and what a decoder makes of what is left of them.
use crate::rtp::codec::{Codec, FrameInfo, PictureId, Switching};
use crate::rtp::layer::LayerSet;
use crate::rtp::packet::{ExtensionSpans, PacketInfo};
use crate::rtp::{LayerId, SeqNo};

/// How a model publisher layers its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layering {
    /// VP8 with three temporal layers, told by the payload descriptor. Every other frame of T1 leans on the one before it.
    Vp8,
    /// VP9 with three spatial and temporal layers each, told by the payload descriptor.
    Vp9,
    /// AV1 `L3T3`, told by the dependency descriptor.
    Full,
    /// AV1 `L3T3_KEY`.
    Key,
}

/// A frame of one spatial layer: which others it refers to, and its packets.
#[derive(Clone, Debug)]
pub struct Frame {
    pub picture: u32,
    pub layer: LayerId,
    pub keyframe: bool,
    /// Indices of other frames.
    pub refers: Vec<usize>,
    pub packets: Vec<(SeqNo, PacketInfo)>,
}

/// A stream of so many pictures, with a keyframe at the first and wherever `keys` says so. `sizes` gives the packets of each frame.
pub fn stream(layering: Layering, pictures: u32, keys: &[u32], sizes: &[usize], first: u64) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut seq = first;
    let (mut since_key, mut tl0) = (0, 0u8);
    for picture in 0..pictures {
        let key = picture == 0 || keys.contains(&picture);
        since_key = if key { 0 } else { since_key + 1 };
        let temporal = [0, 2, 1, 2][since_key as usize % 4];
        tl0 = tl0.wrapping_add(u8::from(temporal == 0));
        let spatial_layers = if layering == Layering::Vp8 { 1 } else { 3 };
        for spatial in 0..spatial_layers {
            let layer = LayerId { spatial, temporal };
            let refers = references(layering, &frames, layer, key, since_key);
            let frame = frame_info(layering, layer, key, since_key, picture, tl0);
            let count = sizes[frames.len() % sizes.len()];
            let packets = (0..count).map(|part| {
                let info = FrameInfo {
                    keyframe: key && spatial == 0 && part == 0,
                    frame_start: part == 0,
                    frame_end: part + 1 == count,
                    // VP8 says in the first packet alone that a frame is a keyframe.
                    switching: if layering == Layering::Vp8 && key && part > 0 {
                        Switching::No
                    } else {
                        frame.switching
                    },
                    ..frame
                };
                let marker = info.frame_end && spatial + 1 == spatial_layers;
                (SeqNo(seq + part as u64), packet(layering, picture, marker, info))
            });
            let packets: Vec<_> = packets.collect();
            seq += count as u64;
            frames.push(Frame { picture, layer, keyframe: key && spatial == 0, refers, packets });
        }
    }
    frames
}

fn packet(layering: Layering, picture: u32, marker: bool, frame: FrameInfo) -> PacketInfo {
    let codec = match layering {
        Layering::Vp8 => Codec::Vp8,
        Layering::Vp9 => Codec::Vp9 { profile: 0 },
        Layering::Full | Layering::Key => Codec::Av1 { profile: 0 },
    };
    let (timestamp, extensions) = (picture * 3_000, ExtensionSpans::default());
    PacketInfo { timestamp, marker, codec, header_len: 12, payload_len: 100, frame, extensions }
}

/// The latest frame of each lower or equal temporal layer of its own spatial layer, and the frame below it.
fn references(layering: Layering, frames: &[Frame], layer: LayerId, key: bool, since_key: u32) -> Vec<usize> {
    let latest = |temporal: u8| {
        frames
            .iter()
            .rposition(|f| f.layer == LayerId { spatial: layer.spatial, temporal } || f.keyframe && temporal == 0)
    };
    let below =
        (layer.spatial > 0 && (key || matches!(layering, Layering::Full | Layering::Vp9))).then(|| frames.len() - 1);
    let before: Vec<usize> = match (key, layer.temporal) {
        (true, _) => vec![],
        (_, 0) => latest(0).into_iter().collect(),
        (_, 1) if leans(layering, since_key) => latest(0).into_iter().chain(latest(1)).collect(),
        (_, 1) => latest(0).into_iter().collect(),
        // The nearest frame of a lower layer.
        _ => latest(0).max(if since_key % 4 == 3 { latest(1) } else { None }).into_iter().collect(),
    };
    before.into_iter().chain(below).collect()
}

/// A frame of T1 that refers to the one of T1 before it.
fn leans(layering: Layering, since_key: u32) -> bool {
    layering == Layering::Vp8 && since_key % 8 == 6
}

fn frame_info(layering: Layering, layer: LayerId, key: bool, since_key: u32, picture: u32, tl0: u8) -> FrameInfo {
    let plain = FrameInfo { spatial: layer.spatial, temporal: layer.temporal, ..FrameInfo::default() };
    let ids = FrameInfo {
        picture_id: Some(PictureId { value: picture as u16 & 0x7fff, wide: true }),
        tl0_pic_idx: Some(tl0),
        absent: LayerSet::taking_in(layer).complement(),
        ..plain
    };
    match layering {
        Layering::Vp8 => FrameInfo {
            switching: match layer.temporal {
                _ if key => Switching::Fresh(LayerSet::ALL),
                1 if !leans(layering, since_key) => Switching::Temporal { from: 0, to: 1 },
                2 if since_key % 4 == 1 => Switching::Temporal { from: 1, to: 2 },
                _ => Switching::No,
            },
            ..ids
        },
        Layering::Vp9 => FrameInfo {
            switching: match (key, layer.spatial) {
                (true, 0) => Switching::Fresh(LayerSet::ALL),
                (true, _) => Switching::Spatial,
                _ => Switching::Temporal { from: layer.temporal, to: 7 },
            },
            ..ids
        },
        Layering::Full | Layering::Key => {
            let targets = |wanted| LayerSet::of(|limit| indication(layering, layer, key, limit) == wanted);
            let switch = targets('S');
            let fresh = key && layer.spatial == 0;
            FrameInfo {
                absent: targets('-'),
                switching: if fresh { Switching::Fresh(switch) } else { Switching::To(switch) },
                top_spatial: 2,
                frame_number: Some((picture * 3) as u16 + u16::from(layer.spatial)),
                ..plain
            }
        }
    }
}

/// What libwebrtc's structures tell of a frame to the decode target of a limit.
fn indication(layering: Layering, frame: LayerId, key: bool, limit: LayerId) -> char {
    let (spatial, temporal) = (limit.spatial.min(2), limit.temporal.min(2));
    let above = spatial < frame.spatial || temporal < frame.temporal;
    match layering {
        _ if above => '-',
        _ if key => 'S',
        Layering::Key if spatial != frame.spatial => '-',
        Layering::Full if spatial != frame.spatial => 'R',
        _ if temporal == frame.temporal && temporal > 0 => 'D',
        _ => 'S',
    }
}
