//! The dependency descriptor (RTP Payload Format For AV1, appendix A): which frame a packet belongs to, and what depends on
//! it, without a look at the payload.
//!
//! Across a change of source a decoder needs: the packet with the new source's template structure first (a keyframe's first
//! packet), and a frame number that goes on increasing modulo 2^16 ([`set_frame_number`]). Differences between frames are
//! relative, and a new structure replaces the old one with its template ids, so nothing else needs rewriting.
use super::codec::{FrameInfo, Switching};
use super::layer::{LayerId, LayerSet};
use super::{Malformed, read};

const MAX_TEMPLATES: usize = 64;
const MAX_TARGETS: usize = 32;
const MAX_SPATIAL: u8 = 3;
const MAX_TEMPORAL: u8 = 7;
/// Limits in a [`LayerSet`].
const LIMITS: usize = 16;
/// A structure of a frame up to this far behind the current one's came late, by retransmission. Farther behind, the sender has
/// begun to count anew.
const LATE_FRAMES: u16 = 1000;

/// What a frame is to a decode target (appendix A.8.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Indication {
    /// The target does without this frame.
    NotPresent,
    /// Needed for the target, and no other frame refers to it.
    Discardable,
    /// From here on the target can be decoded, if it could not before.
    Switch,
    Required,
}

/// The descriptor of one packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DependencyDescriptor {
    pub frame_start: bool,
    pub frame_end: bool,
    pub frame_number: u16,
    /// It carries a template structure: a keyframe begins.
    pub has_structure: bool,
    /// The template is not known: its structure was lost, or came not yet. The layer ids are 0 then.
    pub template_unknown: bool,
    pub spatial: u8,
    pub temporal: u8,
    /// Which decode targets the sender makes at present, one bit each, where this packet says so.
    pub active_targets: Option<u32>,
    target_count: u8,
    indications: u64,
    meaning: Meaning,
    top_spatial: u8,
}

/// What a frame is to receivers that follow the stream up to some layer: each gets the best decode target within its limit that is
/// active.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Meaning {
    absent: LayerSet,
    switch: LayerSet,
    /// It refers to other frames.
    refers: bool,
}

impl DependencyDescriptor {
    /// What the frame is to each decode target. Empty when the template is not known.
    pub fn indications(&self) -> impl Iterator<Item = Indication> + '_ {
        (0..usize::from(self.target_count)).map(|target| indication(self.indications, target))
    }

    /// `described` is what the payload says; the descriptor knows better.
    pub(super) fn describe(&self, described: FrameInfo) -> FrameInfo {
        let frame = FrameInfo {
            keyframe: self.has_structure && self.frame_start,
            idr_without_parameters: false,
            frame_start: self.frame_start,
            frame_end: self.frame_end,
            frame_number: Some(self.frame_number),
            top_spatial: self.top_spatial,
            ..described
        };
        if self.template_unknown {
            return frame;
        }
        let needed = self.indications().any(|i| matches!(i, Indication::Switch | Indication::Required));
        let Meaning { absent, switch, refers } = self.meaning;
        FrameInfo {
            spatial: self.spatial,
            temporal: self.temporal,
            absent,
            switching: if refers { Switching::To(switch) } else { Switching::Fresh(switch) },
            discardable: !needed,
            ..frame
        }
    }
}

/// Writes another frame number into an extension value.
pub fn set_frame_number(value: &mut [u8], frame_number: u16) -> Result<(), Malformed> {
    let slot = value.get_mut(1..3).ok_or(Malformed("truncated"))?;
    slot.copy_from_slice(&frame_number.to_be_bytes());
    Ok(())
}

/// The template structure of one stream, kept from packet to packet.
#[derive(Clone, Debug, Default)]
pub struct Structures {
    current: Option<Box<Structure>>,
}

#[derive(Clone, Debug)]
struct Structure {
    /// Of the frame that brought it.
    frame_number: u16,
    id_offset: u8,
    target_count: u8,
    chain_count: u8,
    template_count: u8,
    templates: [Template; MAX_TEMPLATES],
    /// The highest layers of each decode target.
    targets: [(u8, u8); MAX_TARGETS],
    resolutions: [(u16, u16); MAX_SPATIAL as usize + 1],
    resolution_count: u8,
    /// The decode targets that the sender makes, one bit each, and the frame that said so.
    active: u32,
    active_since: u16,
    /// The decode target for each limit, in the order of [`LayerSet::of`], and the highest spatial layer of all of them.
    by_limit: [u8; LIMITS],
    top_spatial: u8,
}

#[derive(Clone, Copy, Debug, Default)]
struct Template {
    spatial: u8,
    temporal: u8,
    /// Two bits for each decode target.
    indications: u64,
    refers: bool,
    /// By the active decode targets.
    meaning: Meaning,
}

impl Structures {
    /// Reads an extension value. A structure in it replaces the one kept, unless it comes late; on an error that one stays.
    /// Allocates only for the first structure of a stream.
    pub fn parse(&mut self, value: &[u8]) -> Result<DependencyDescriptor, Malformed> {
        let mut bits = Bits { bytes: value, at: 0 };
        let frame_start = bits.flag()?;
        let frame_end = bits.flag()?;
        let template_id = bits.u(6)? as u8;
        let frame_number = bits.u(16)? as u16;
        let [has_structure, has_active, custom_dtis, custom_fdiffs, custom_chains] = if value.len() > 3 {
            [bits.flag()?, bits.flag()?, bits.flag()?, bits.flag()?, bits.flag()?]
        } else {
            [false; 5]
        };
        if has_structure && !frame_start {
            return Err(Malformed("template structure amid a frame"));
        }
        let received = if has_structure { Some(Structure::parse(frame_number, &mut bits)?) } else { None };
        let mut descriptor = DependencyDescriptor {
            frame_start,
            frame_end,
            frame_number,
            has_structure,
            template_unknown: true,
            spatial: 0,
            temporal: 0,
            active_targets: None,
            target_count: 0,
            indications: 0,
            meaning: Meaning::default(),
            top_spatial: 0,
        };
        let mut received = received;
        if let Some(structure) = received.as_mut().or(self.current.as_deref_mut()) {
            if has_structure {
                descriptor.active_targets = Some(structure.active);
            }
            if has_active {
                let active = bits.u(u32::from(structure.target_count))? as u32;
                descriptor.active_targets = Some(active);
                structure.set_active(active, frame_number);
            }
            let custom = Custom { dtis: custom_dtis, fdiffs: custom_fdiffs, chains: custom_chains };
            structure.define(&mut descriptor, template_id, custom, &mut bits)?;
            if has_structure && descriptor.template_unknown {
                return Err(Malformed("template is not in its own structure"));
            }
        }
        match (received, &mut self.current) {
            (Some(new), Some(old)) if new.came_late(old) => {}
            (Some(new), Some(old)) => **old = new,
            (Some(new), none) => *none = Some(Box::new(new)),
            (None, _) => {}
        }
        Ok(descriptor)
    }

    /// Width and height of a spatial layer, where the sender told it.
    pub fn resolution(&self, spatial: u8) -> Option<(u32, u32)> {
        let s = self.current.as_deref()?;
        let (width, height) = s.resolutions.get(..usize::from(s.resolution_count))?.get(usize::from(spatial))?;
        Some((u32::from(*width) + 1, u32::from(*height) + 1))
    }

    /// The highest spatial and temporal id of each decode target, in their order.
    pub fn targets(&self) -> &[(u8, u8)] {
        self.current.as_deref().map_or(&[], |s| &s.targets[..usize::from(s.target_count)])
    }

    /// The decode targets that the sender makes at present, by their highest layers. Empty before the first structure.
    pub fn active_layers(&self) -> impl Iterator<Item = LayerId> + '_ {
        let active = self.current.as_deref().map_or(0, |s| s.active);
        let targets = self.targets().iter().enumerate().filter(move |(at, _)| active >> at & 1 != 0);
        targets.map(|(_, &(spatial, temporal))| LayerId { spatial, temporal })
    }
}

/// Which of the template's values a frame replaces.
#[derive(Clone, Copy)]
struct Custom {
    dtis: bool,
    fdiffs: bool,
    chains: bool,
}

impl Structure {
    /// `template_dependency_structure` (appendix A.8.2).
    fn parse(frame_number: u16, bits: &mut Bits<'_>) -> Result<Self, Malformed> {
        let mut s = Self {
            frame_number,
            id_offset: bits.u(6)? as u8,
            target_count: bits.u(5)? as u8 + 1,
            chain_count: 0,
            template_count: 0,
            templates: [Template::default(); MAX_TEMPLATES],
            targets: [(0, 0); MAX_TARGETS],
            resolutions: [(0, 0); MAX_SPATIAL as usize + 1],
            resolution_count: 0,
            active: 0,
            active_since: frame_number,
            by_limit: [0; LIMITS],
            top_spatial: 0,
        };
        let max_spatial = s.parse_layers(bits)?;
        s.parse_indications(bits)?;
        for template in &mut s.templates[..usize::from(s.template_count)] {
            while bits.flag()? {
                bits.u(4)?;
                template.refers = true;
            }
        }
        s.parse_chains(bits)?;
        if bits.flag()? {
            for resolution in &mut s.resolutions[..=usize::from(max_spatial)] {
                *resolution = (bits.u(16)? as u16, bits.u(16)? as u16);
            }
            s.resolution_count = max_spatial + 1;
        }
        s.active = u32::MAX >> (MAX_TARGETS as u32 - u32::from(s.target_count));
        s.explain_templates();
        Ok(s)
    }

    /// A frame says which decode targets are made from now on. One that came late says nothing new.
    fn set_active(&mut self, active: u32, frame_number: u16) {
        if (1..=LATE_FRAMES).contains(&self.active_since.wrapping_sub(frame_number)) {
            return;
        }
        self.active_since = frame_number;
        if active != self.active {
            self.active = active;
            self.explain_templates();
        }
    }

    /// Which limit gets which target, and what the templates are to each limit.
    fn explain_templates(&mut self) {
        let targets = &self.targets[..usize::from(self.target_count)];
        let made = |at: usize| self.active == 0 || self.active >> at & 1 != 0;
        let candidates = || targets.iter().enumerate().filter(|(at, _)| made(*at)).map(|(at, &target)| (target, at));
        let lowest = candidates().min().map_or(0, |(_, at)| at);
        for (limit, slot) in LayerSet::limits().zip(&mut self.by_limit) {
            let within = |((spatial, temporal), _): &((u8, u8), usize)| {
                limit.includes(LayerId { spatial: *spatial, temporal: *temporal })
            };
            let best = candidates().filter(within).max_by_key(|(target, _)| *target);
            *slot = best.map_or(lowest, |(_, at)| at) as u8;
        }
        self.top_spatial = candidates().map(|((spatial, _), _)| spatial).max().unwrap_or(0);
        let by_limit = self.by_limit;
        for template in &mut self.templates[..usize::from(self.template_count)] {
            template.meaning = Meaning::of(template.indications, &by_limit, template.refers);
        }
    }

    fn came_late(&self, current: &Self) -> bool {
        (1..=LATE_FRAMES).contains(&current.frame_number.wrapping_sub(self.frame_number))
    }

    /// Gives the highest spatial id.
    fn parse_layers(&mut self, bits: &mut Bits<'_>) -> Result<u8, Malformed> {
        let (mut spatial, mut temporal) = (0, 0);
        for template in &mut self.templates {
            (template.spatial, template.temporal) = (spatial, temporal);
            self.template_count += 1;
            match bits.u(2)? {
                0 => {}
                1 => temporal += 1,
                2 => (spatial, temporal) = (spatial + 1, 0),
                _ => return Ok(spatial),
            }
            if spatial > MAX_SPATIAL || temporal > MAX_TEMPORAL {
                return Err(Malformed("too many layers"));
            }
        }
        Err(Malformed("too many templates"))
    }

    fn parse_indications(&mut self, bits: &mut Bits<'_>) -> Result<(), Malformed> {
        for template in &mut self.templates[..usize::from(self.template_count)] {
            template.indications = parse_indications(bits, self.target_count)?;
            for (target, (spatial, temporal)) in self.targets[..usize::from(self.target_count)].iter_mut().enumerate() {
                if indication(template.indications, target) != Indication::NotPresent {
                    *spatial = template.spatial.max(*spatial);
                    *temporal = template.temporal.max(*temporal);
                }
            }
        }
        Ok(())
    }

    fn parse_chains(&mut self, bits: &mut Bits<'_>) -> Result<(), Malformed> {
        self.chain_count = bits.ns(u32::from(self.target_count) + 1)? as u8;
        if self.chain_count == 0 {
            return Ok(());
        }
        for _ in 0..self.target_count {
            bits.ns(u32::from(self.chain_count))?;
        }
        for _ in 0..u32::from(self.template_count) * u32::from(self.chain_count) {
            bits.u(4)?;
        }
        Ok(())
    }

    /// `frame_dependency_definition` (appendix A.8.2).
    fn define(
        &self,
        descriptor: &mut DependencyDescriptor,
        template_id: u8,
        custom: Custom,
        bits: &mut Bits<'_>,
    ) -> Result<(), Malformed> {
        let index = usize::from((template_id + MAX_TEMPLATES as u8 - self.id_offset) % MAX_TEMPLATES as u8);
        descriptor.top_spatial = self.top_spatial;
        let Some(template) = self.templates[..usize::from(self.template_count)].get(index) else { return Ok(()) };
        descriptor.template_unknown = false;
        descriptor.spatial = template.spatial;
        descriptor.temporal = template.temporal;
        descriptor.target_count = self.target_count;
        descriptor.indications =
            if custom.dtis { parse_indications(bits, self.target_count)? } else { template.indications };
        descriptor.meaning = if custom.dtis {
            Meaning::of(descriptor.indications, &self.by_limit, template.refers)
        } else {
            template.meaning
        };
        if custom.fdiffs {
            descriptor.meaning.refers = false;
            loop {
                match bits.u(2)? as u32 {
                    0 => break,
                    nibbles => drop(bits.u(4 * nibbles)?),
                }
                descriptor.meaning.refers = true;
            }
        }
        if custom.chains {
            for _ in 0..self.chain_count {
                bits.u(8)?;
            }
        }
        Ok(())
    }
}

impl Meaning {
    fn of(indications: u64, by_limit: &[u8; LIMITS], refers: bool) -> Self {
        let those = |wanted| {
            let mut targets = by_limit.iter();
            LayerSet::of(|_| targets.next().is_some_and(|t| indication(indications, usize::from(*t)) == wanted))
        };
        Self { absent: those(Indication::NotPresent), switch: those(Indication::Switch), refers }
    }
}

fn parse_indications(bits: &mut Bits<'_>, target_count: u8) -> Result<u64, Malformed> {
    let mut all = 0;
    for target in 0..u32::from(target_count) {
        all |= bits.u(2)? << (2 * target);
    }
    Ok(all)
}

fn indication(all: u64, target: usize) -> Indication {
    match all >> (2 * target) & 3 {
        0 => Indication::NotPresent,
        1 => Indication::Discardable,
        2 => Indication::Switch,
        _ => Indication::Required,
    }
}

/// Bits, most significant first. Every loop above takes at least one, so the bytes bound the work.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn flag(&mut self) -> Result<bool, Malformed> {
        let byte = read::u8(self.bytes, self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Ok(bit != 0)
    }
    /// At most 64 bits.
    fn u(&mut self, n: u32) -> Result<u64, Malformed> {
        let mut value = 0;
        for _ in 0..n {
            value = value << 1 | u64::from(self.flag()?);
        }
        Ok(value)
    }
    /// `ns(n)` of the AV1 specification, section 4.10.7: a value below `n`, with as few bits as can be. `n` is 1 to 33 here.
    fn ns(&mut self, n: u32) -> Result<u32, Malformed> {
        let w = 32 - n.leading_zeros();
        let m = (1 << w) - n;
        let v = self.u(w - 1)? as u32;
        if v < m {
            return Ok(v);
        }
        Ok((v << 1) - m + self.u(1)? as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Writer {
        bits: Vec<bool>,
    }
    impl Writer {
        fn u(&mut self, n: u32, value: u64) -> &mut Self {
            self.bits.extend((0..n).rev().map(|i| value >> i & 1 != 0));
            self
        }
        fn bytes(&self) -> Vec<u8> {
            self.bits
                .chunks(8)
                .map(|c| c.iter().enumerate().fold(0, |b, (i, &bit)| b | u8::from(bit) << (7 - i)))
                .collect()
        }
        fn mandatory(&mut self, start: bool, end: bool, template: u64, number: u16) -> &mut Self {
            self.u(1, start.into()).u(1, end.into()).u(6, template).u(16, number.into())
        }
    }

    /// A keyframe's first packet with the structure of L1T3 as Chromium sends it: id offset 5, three targets, five templates,
    /// one chain, a resolution.
    fn l1t3() -> Writer {
        let mut w = Writer::default();
        w.mandatory(true, false, 5, 0x1234).u(5, 0b10000);
        w.u(6, 5).u(5, 2);
        // Layers: T0 T0 T1 T2 T2 would be usual; here T0, T1, T2, T2.
        w.u(2, 1).u(2, 1).u(2, 0).u(2, 3);
        // Indications of targets T0, T1, T2: - 0, D 1, S 2, R 3.
        for row in [[2, 2, 2], [0, 2, 3], [0, 0, 1], [0, 0, 2]] {
            for i in row {
                w.u(2, i);
            }
        }
        // Differences: none; 2; 1; 1 and 2.
        w.u(1, 0).u(1, 1).u(4, 1).u(1, 0).u(1, 1).u(4, 0).u(1, 0).u(1, 1).u(4, 0).u(1, 1).u(4, 1).u(1, 0);
        // One chain: ns(4) takes two bits; protected_by is ns(1), no bits.
        w.u(2, 1);
        for d in [0, 2, 1, 3] {
            w.u(4, d);
        }
        w.u(1, 1).u(16, 1279).u(16, 719);
        w
    }

    #[test]
    fn a_structure_explains_the_packets_behind_it() {
        let mut structures = Structures::default();
        let key = structures.parse(&l1t3().bytes()).unwrap();
        assert!(key.has_structure && key.frame_start && !key.frame_end && !key.template_unknown);
        assert_eq!((key.frame_number, key.spatial, key.temporal, key.active_targets), (0x1234, 0, 0, Some(0b111)));
        assert_eq!(structures.targets(), [(0, 0), (0, 1), (0, 2)]);
        assert_eq!((structures.resolution(0), structures.resolution(1)), (Some((1280, 720)), None));
        let info = key.describe(FrameInfo::default());
        assert!(info.keyframe && !info.discardable);
        assert_eq!((info.absent, info.switching), (LayerSet::NONE, Switching::Fresh(LayerSet::ALL)));

        // (template, temporal, least limit it may be followed up to from here on, discardable)
        let from = |temporal| LayerSet::of(|limit| limit.temporal >= temporal);
        let only = |temporal| LayerSet::of(|limit| limit.temporal == temporal);
        for (template, temporal, switch, discardable) in
            [(5, 0, from(0), false), (6, 1, only(1), false), (7, 2, from(9), true), (8, 2, from(2), false)]
        {
            let value = Writer::default().mandatory(true, true, template, 7).bytes();
            let info = structures.parse(&value).unwrap().describe(FrameInfo::default());
            assert!(!info.keyframe && info.frame_end && info.frame_number == Some(7));
            let switching = if template == 5 { Switching::Fresh(switch) } else { Switching::To(switch) };
            assert_eq!((info.temporal, info.switching, info.discardable), (temporal, switching, discardable));
            assert_eq!(info.absent, LayerSet::of(|limit| limit.temporal < temporal));
        }
        let unknown = structures.parse(&Writer::default().mandatory(true, true, 9, 7).bytes()).unwrap();
        assert!(unknown.template_unknown);
    }

    /// A keyframe's first packet with the structure of L2T2_KEY: four targets, six templates, no chains.
    fn l2t2_key() -> Writer {
        let mut w = Writer::default();
        w.mandatory(true, true, 0, 100).u(5, 0b10000).u(6, 0).u(5, 3);
        w.u(2, 0).u(2, 1).u(2, 2).u(2, 0).u(2, 1).u(2, 3);
        for row in ["SSSS", "SS--", "-D--", "--SS", "--SS", "---D"] {
            for indication in row.bytes() {
                w.u(2, b"-DSR".iter().position(|i| *i == indication).unwrap() as u64);
            }
        }
        // Differences: none; 4; 2; 1; 4; 2.
        for difference in [0, 4, 2, 1, 4, 2] {
            if difference > 0 {
                w.u(1, 1).u(4, difference - 1);
            }
            w.u(1, 0);
        }
        w.u(2, 0).u(1, 0);
        w
    }

    #[test]
    fn limits_follow_the_targets_that_are_made() {
        let mut structures = Structures::default();
        let info = |structures: &mut Structures, w: &Writer| {
            structures.parse(&w.bytes()).unwrap().describe(FrameInfo::default())
        };
        let key = info(&mut structures, &l2t2_key());
        assert_eq!((key.switching, key.top_spatial), (Switching::Fresh(LayerSet::ALL), 1));
        assert_eq!(structures.active_layers().max(), Some(LayerId { spatial: 1, temporal: 1 }));
        let plain = |template, number| {
            let mut w = Writer::default();
            w.mandatory(true, true, template, number);
            w
        };
        // The lower layer of a picture that is no keyframe is nothing to who gets the upper one, and the other way round.
        let lower = info(&mut structures, &plain(1, 102));
        let spatial = |from, to| LayerSet::of(|limit| (from..=to).contains(&limit.spatial));
        assert_eq!((lower.absent, lower.switching), (spatial(1, 3), Switching::To(spatial(0, 0))));
        let upper = info(&mut structures, &plain(4, 103));
        assert_eq!((upper.absent, upper.switching), (spatial(0, 0), Switching::To(spatial(1, 3))));
        // From frame 104 on only the lower spatial layer is made: every limit gets that.
        let mut w = plain(1, 104);
        w.u(5, 0b01000).u(4, 0b0011);
        let alone = info(&mut structures, &w);
        assert_eq!((alone.absent, alone.top_spatial), (LayerSet::NONE, 0));
        assert_eq!(info(&mut structures, &plain(1, 106)).absent, LayerSet::NONE);
        // What is told of an earlier frame, and comes late, changes nothing.
        let mut late = plain(1, 103);
        late.u(5, 0b01000).u(4, 0b1111);
        info(&mut structures, &late);
        assert_eq!(info(&mut structures, &plain(1, 106)).top_spatial, 0);
        assert_eq!(structures.active_layers().count(), 2);
        // None at all is not believed.
        let mut none = plain(1, 108);
        none.u(5, 0b01000).u(4, 0);
        assert_eq!(info(&mut structures, &none).top_spatial, 1);
    }

    #[test]
    fn custom_fields_replace_those_of_the_template() {
        let mut structures = Structures::default();
        structures.parse(&l1t3().bytes()).unwrap();
        let mut w = Writer::default();
        w.mandatory(false, true, 7, 9).u(5, 0b01111).u(3, 0b011);
        w.u(2, 0).u(2, 0).u(2, 3);
        w.u(2, 1).u(4, 5).u(2, 3).u(12, 99).u(2, 0);
        w.u(8, 3);
        let d = structures.parse(&w.bytes()).unwrap();
        assert_eq!(d.active_targets, Some(0b011));
        assert_eq!(
            d.indications().collect::<Vec<_>>(),
            [Indication::NotPresent, Indication::NotPresent, Indication::Required]
        );
        // Every byte of it is needed.
        let bytes = w.bytes();
        for cut in 4..bytes.len() {
            assert!(structures.parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_bad_structure_leaves_the_old_one() {
        let mut structures = Structures::default();
        let good = l1t3().bytes();
        structures.parse(&good).unwrap();
        for cut in 0..good.len() {
            if cut != 3 {
                assert!(structures.parse(&good[..cut]).is_err(), "cut at {cut}");
            }
        }
        let mut amid = good.clone();
        amid[0] &= 0x7f;
        assert!(structures.parse(&amid).is_err());
        let mut foreign = good.clone();
        foreign[0] |= 0x3f;
        assert!(structures.parse(&foreign).is_err());
        let mut layers = Writer::default();
        layers.mandatory(true, true, 0, 0).u(5, 0b10000).u(6, 0).u(5, 0);
        let mut spatial = layers.bytes();
        spatial.extend([0b1010_1010; 40]);
        assert!(structures.parse(&spatial).is_err(), "too many spatial layers");
        let mut templates = layers.bytes();
        templates.extend([0; 40]);
        assert!(structures.parse(&templates).is_err(), "too many templates");
        assert_eq!(structures.targets().len(), 3);
    }

    #[test]
    fn a_late_structure_does_not_replace_the_current_one() {
        let with_number = |number: u16| {
            let mut value = l1t3().bytes();
            set_frame_number(&mut value, number).unwrap();
            value
        };
        let mut one_target = Writer::default();
        one_target.mandatory(true, true, 0, 10).u(5, 0b10000).u(6, 0).u(5, 0).u(2, 3).u(2, 2).u(1, 0).u(1, 0).u(1, 0);
        let mut structures = Structures::default();
        structures.parse(&one_target.bytes()).unwrap();
        // Retransmitted from before the wrap: it explains itself, no more.
        let late = structures.parse(&with_number(65_530)).unwrap();
        assert!(late.has_structure && late.indications().count() == 3);
        assert_eq!(structures.targets().len(), 1);
        // Newer, and then anew from far behind.
        structures.parse(&with_number(11)).unwrap();
        assert_eq!(structures.targets().len(), 3);
        one_target = Writer::default();
        one_target
            .mandatory(true, true, 0, 40_000)
            .u(5, 0b10000)
            .u(6, 0)
            .u(5, 0)
            .u(2, 3)
            .u(2, 2)
            .u(1, 0)
            .u(1, 0)
            .u(1, 0);
        structures.parse(&one_target.bytes()).unwrap();
        assert_eq!(structures.targets().len(), 1);
    }

    #[test]
    fn without_a_structure_the_frame_is_still_told() {
        let mut structures = Structures::default();
        let d = structures.parse(&Writer::default().mandatory(true, false, 7, 77).bytes()).unwrap();
        assert!(d.template_unknown && d.frame_start && d.frame_number == 77);
        let info = d.describe(FrameInfo::default());
        assert!(!info.keyframe && !info.discardable);
    }

    #[test]
    fn frame_numbers_are_written_in_place() {
        let mut value = l1t3().bytes();
        set_frame_number(&mut value, 0xbeef).unwrap();
        assert_eq!(Structures::default().parse(&value).unwrap().frame_number, 0xbeef);
        assert!(set_frame_number(&mut [0, 0], 1).is_err());
    }

    #[test]
    fn ns_takes_as_few_bits_as_the_specification_says() {
        // n = 5: values 0 to 2 take two bits, 3 and 4 three.
        for (bits, n, want, used) in [
            (0b0000_0000, 5, 0, 2),
            (0b1000_0000, 5, 2, 2),
            (0b1100_0000, 5, 3, 3),
            (0b1110_0000, 5, 4, 3),
            (0, 1, 0, 0),
        ] {
            let mut reader = Bits { bytes: &[bits], at: 0 };
            assert_eq!((reader.ns(n), reader.at), (Ok(want), used));
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6)) {
            let mut structures = Structures::default();
            structures.parse(&l1t3().bytes()).unwrap();
            for value in values {
                if let Ok(d) = structures.parse(&value) {
                    d.describe(FrameInfo::default());
                    structures.resolution(d.spatial);
                }
            }
        }
    }
}
