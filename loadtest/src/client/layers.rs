//! Which layer each frame of an encoding belongs to, and which frames it refers to: the patterns of real encoders, and the dependency
//! descriptor that tells them (RTP Payload Format For AV1, appendix A).
use super::bits::Bits;

/// The first template's id, as Chromium counts on from one structure to the next: any will do.
const TEMPLATE_OFFSET: u8 = 5;

/// How the frames of an encoding depend on each other, as WebRTC's scalability modes name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Layering {
    /// 1 to 3.
    pub spatial: u8,
    /// 1 to 3.
    pub temporal: u8,
    /// Upper spatial layers refer to lower ones in keyframes only (`_KEY`).
    pub key: bool,
}

/// Where a frame stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Place {
    pub spatial: u8,
    pub temporal: u8,
    /// How many frames before this one those are that it refers to. 0: none.
    pub refs: [u8; 2],
    /// Of the pictures between this one and the last of the base layer it needs none: one may begin with this temporal layer here.
    pub sync: bool,
    /// The picture begins a sequence: of the upper spatial layers, too.
    pub key_picture: bool,
    /// The picture's position in the temporal pattern.
    position: u8,
}

impl Layering {
    pub const FLAT: Self = Self { spatial: 1, temporal: 1, key: true };

    /// `L1Tn`.
    pub fn temporal(temporal: u8) -> Self {
        Self { temporal: temporal.clamp(1, 3), ..Self::FLAT }
    }

    /// `LnTm`, or `LnTm_KEY`.
    pub fn svc(spatial: u8, temporal: u8, key: bool) -> Self {
        Self { spatial: spatial.clamp(1, 3), key, ..Self::temporal(temporal) }
    }

    /// Reads `L3T3_KEY`.
    pub fn parse(name: &str) -> Option<Self> {
        let (layers, key) = name.strip_suffix("_KEY").map_or((name, false), |layers| (layers, true));
        let (spatial, temporal) = layers.strip_prefix('L')?.split_once('T')?;
        let of = |text: &str| text.parse().ok().filter(|n| (1..=3).contains(n));
        let (spatial, temporal) = (of(spatial)?, of(temporal)?);
        Some(Self { spatial, temporal, key: key || spatial == 1 })
    }

    pub fn is_flat(self) -> bool {
        self.spatial == 1 && self.temporal == 1
    }

    /// Where the frame of this spatial layer stands, in the `picture`-th picture since the keyframe.
    pub fn place(self, picture: u32, spatial: u8) -> Place {
        let key_picture = picture == 0;
        let cycle = 1 << (self.temporal - 1);
        let position = (picture % cycle) as u8;
        // T0 T2 T1 T2: how many pictures back the one is that a picture refers to.
        let (temporal, back, sync) = match (self.temporal, position) {
            (1, _) => (0, 1, false),
            (2, 0) => (0, 2, false),
            (2, _) => (1, 1, true),
            (_, 0) => (0, 4, false),
            (_, 1) => (2, 1, true),
            (_, 2) => (1, 2, true),
            (_, _) => (2, 1, false),
        };
        let below = u8::from(spatial > 0 && (key_picture || !self.key));
        let refs = if key_picture { [below, 0] } else { [back * self.spatial, below] };
        Place { spatial, temporal, refs, sync, key_picture, position }
    }

    /// What a frame of this temporal layer takes of an average one: real encoders give the base layer more.
    pub fn share(self, temporal: u8) -> f64 {
        match (self.temporal, temporal) {
            (1, _) => 1.0,
            (2, 0) => 1.2,
            (3, 0) => 1.6,
            _ => 0.8,
        }
    }

    /// Pictures of which none refers to another, and all the frames that come between two of the base layer.
    fn cycle(self) -> u8 {
        1 << (self.temporal - 1)
    }

    /// The templates of one spatial layer, by temporal layer: the keyframe, and then each position of the pattern.
    fn templates(self, spatial: u8) -> Vec<Place> {
        let positions: &[u8] = match self.temporal {
            1 => &[0],
            2 => &[0, 1],
            _ => &[0, 2, 1, 3],
        };
        let cycle = u32::from(self.cycle());
        let deltas = positions.iter().map(|p| self.place(cycle + u32::from(*p), spatial));
        std::iter::once(self.place(0, spatial)).chain(deltas).collect()
    }

    fn template_of(self, place: &Place) -> u8 {
        let per_layer = 1 + self.cycle();
        let within = match (place.key_picture, self.temporal, place.position) {
            (true, _, _) => 0,
            (false, 3, 1) => 3,
            (false, 3, 2) => 2,
            (false, _, position) => position + 1,
        };
        (TEMPLATE_OFFSET + place.spatial * per_layer + within) % 64
    }

    /// What a frame is to the decode target of these layers: 0 not present, 1 discardable, 2 switch, 3 required.
    fn indication(self, place: &Place, spatial: u8, temporal: u8) -> u64 {
        let own = match temporal {
            t if t < place.temporal => 0,
            t if t == place.temporal && t > 0 => 1,
            _ => 2,
        };
        match (place.key_picture, spatial.cmp(&place.spatial)) {
            (_, std::cmp::Ordering::Less) => 0,
            (true, _) => 2,
            (false, std::cmp::Ordering::Equal) => own,
            (false, std::cmp::Ordering::Greater) if self.key || own == 0 => 0,
            (false, std::cmp::Ordering::Greater) => 3,
        }
    }

    /// How many frames back the last one of this spatial layer's chain is.
    fn chain(self, place: &Place, chain: u8) -> u64 {
        let back = match (place.position, chain < place.spatial) {
            (0, true) => place.spatial - chain,
            (0, false) if place.key_picture || (!self.key && place.spatial > 0) => u8::from(place.spatial > 0),
            (0, false) => self.cycle() * self.spatial + place.spatial - chain,
            (position, _) => position * self.spatial + place.spatial - chain,
        };
        back.into()
    }

    /// The dependency descriptor of a packet. With `size`, that of the top layer, it carries the template structure.
    pub fn descriptor(
        self,
        place: &Place,
        (starts, ends): (bool, bool),
        frame: u16,
        size: Option<(u16, u16)>,
    ) -> Vec<u8> {
        let mut bits = Bits::default();
        bits.put(1, starts.into()).put(1, ends.into()).put(6, self.template_of(place).into()).put(16, frame.into());
        if let Some(size) = size {
            // Only the template structure; no list of active targets, nothing that differs from the template.
            bits.put(5, 0b10000);
            self.write_structure(&mut bits, size);
        }
        bits.bytes()
    }

    /// `template_dependency_structure` (appendix A.8.2).
    fn write_structure(self, bits: &mut Bits, size: (u16, u16)) {
        let targets: Vec<(u8, u8)> = (0..self.spatial).flat_map(|s| (0..self.temporal).map(move |t| (s, t))).collect();
        bits.put(6, TEMPLATE_OFFSET.into()).put(5, targets.len() as u64 - 1);
        let templates: Vec<Place> = (0..self.spatial).flat_map(|s| self.templates(s)).collect();
        let next = templates.iter().skip(1).map(Some).chain([None]);
        for (place, next) in templates.iter().zip(next) {
            let step = match next {
                None => 3,
                Some(next) if next.spatial > place.spatial => 2,
                Some(next) => u64::from(next.temporal > place.temporal),
            };
            bits.put(2, step);
        }
        for place in &templates {
            targets.iter().for_each(|(s, t)| _ = bits.put(2, self.indication(place, *s, *t)));
        }
        for place in &templates {
            place.refs.iter().filter(|r| **r > 0).for_each(|r| _ = bits.put(1, 1).put(4, u64::from(*r) - 1));
            bits.put(1, 0);
        }
        let chains = u32::from(self.spatial);
        bits.ns(targets.len() as u32 + 1, chains);
        targets.iter().for_each(|(s, _)| _ = bits.ns(chains, (*s).into()));
        for place in &templates {
            (0..self.spatial).for_each(|chain| _ = bits.put(4, self.chain(place, chain)));
        }
        bits.put(1, 1);
        for spatial in 0..self.spatial {
            let (width, height) = self.size(size, spatial);
            bits.put(16, u64::from(width) - 1).put(16, u64::from(height) - 1);
        }
    }

    /// The size of a spatial layer, each half of the next.
    pub fn size(self, top: (u16, u16), spatial: u8) -> (u16, u16) {
        let shift = (self.spatial - 1).saturating_sub(spatial);
        ((top.0 >> shift).max(1), (top.1 >> shift).max(1))
    }
}

impl std::fmt::Display for Layering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = if self.key && self.spatial > 1 { "_KEY" } else { "" };
        write!(f, "L{}T{}{key}", self.spatial, self.temporal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use exedra::rtp::dd::{Indication, Structures};

    fn all() -> impl Iterator<Item = Layering> {
        let layers = (1..=3).flat_map(|s| (1..=3).map(move |t| (s, t)));
        layers.flat_map(|(s, t)| [false, true].map(|key| Layering::svc(s, t, key)))
    }

    /// The server's reader understands the structure, and finds each frame where it is.
    #[test]
    fn the_descriptor_tells_what_the_pattern_is() {
        for layering in all() {
            let mut structures = Structures::default();
            for picture in 0..9 {
                for spatial in 0..layering.spatial {
                    let place = layering.place(picture, spatial);
                    let frame = (picture * u32::from(layering.spatial) + u32::from(spatial)) as u16;
                    let size = (picture == 0 && spatial == 0).then_some((1_280, 720));
                    let value = layering.descriptor(&place, (true, false), frame, size);
                    let read = structures.parse(&value).unwrap();
                    assert_eq!((read.spatial, read.temporal), (spatial, place.temporal), "{layering:?} {picture}");
                    assert_eq!((read.has_structure, read.frame_number), (size.is_some(), frame));
                    let own = usize::from(spatial * layering.temporal + place.temporal);
                    assert_ne!(read.indications().nth(own), Some(Indication::NotPresent), "{layering:?} {place:?}");
                }
            }
            let targets = usize::from(layering.spatial * layering.temporal);
            assert_eq!(structures.targets().len(), targets);
            assert_eq!(structures.targets().last(), Some(&(layering.spatial - 1, layering.temporal - 1)));
            assert_eq!(structures.resolution(layering.spatial - 1), Some((1_280, 720)));
        }
    }

    /// Whoever gets the layers of a target gets all that they refer to.
    #[test]
    fn no_frame_refers_to_one_that_its_target_lacks() {
        for layering in all() {
            let place = |frame: u32| {
                let spatial = u32::from(layering.spatial);
                layering.place(frame / spatial, (frame % spatial) as u8)
            };
            for frame in 0..24 * u32::from(layering.spatial) {
                let at = place(frame);
                for back in at.refs.into_iter().filter(|r| *r > 0) {
                    let other = place(frame.checked_sub(back.into()).unwrap());
                    assert!(
                        other.spatial <= at.spatial && other.temporal <= at.temporal,
                        "{layering:?} {at:?} {other:?}"
                    );
                    for (s, t) in (0..layering.spatial).flat_map(|s| (0..layering.temporal).map(move |t| (s, t))) {
                        let (mine, theirs) = (layering.indication(&at, s, t), layering.indication(&other, s, t));
                        assert!(mine == 0 || theirs > 1, "{layering:?}: {at:?} {mine} refers to {other:?} {theirs}");
                    }
                }
            }
        }
    }

    #[test]
    fn names_are_those_of_webrtc() {
        assert_eq!(Layering::parse("L1T1"), Some(Layering::FLAT));
        assert_eq!(Layering::parse("L1T3"), Some(Layering::temporal(3)));
        assert_eq!(Layering::parse("L3T3_KEY"), Some(Layering::svc(3, 3, true)));
        assert_eq!(Layering::parse("L2T1"), Some(Layering::svc(2, 1, false)));
        assert!(["", "L4T1", "L0T1", "T1", "L1T", "L1T3_"].into_iter().all(|name| Layering::parse(name).is_none()));
    }
}
