//! Which track goes into which slot: pure functions from the ranking of a room, one participant's view and its slots.
use super::messages::{Source, View, ViewTrack, Why};
use crate::engine::api::{self, SlotReport};
use crate::ids::{Mid, ParticipantId, TrackId};
use crate::rtp::Kind;
use rustc_hash::{FxHashMap, FxHashSet};
use std::collections::BTreeMap;

/// Something that could fill a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub track: TrackId,
    pub owner: ParticipantId,
    pub group: Group,
}

/// Tracks of one participant that belong together: picture and sound of the person, or of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Group {
    Person,
    Screen,
    /// A source that we do not know: it is paired with nothing.
    Other(TrackId),
}

impl Group {
    pub fn of(source: &Source, track: TrackId) -> Self {
        match source {
            Source::Microphone | Source::Camera => Group::Person,
            Source::Screen | Source::ScreenAudio => Group::Screen,
            Source::Other(_) => Group::Other(track),
        }
    }
}

/// All tracks of a room in the order in which they get slots: shared screens, then the latest speakers. Made once for
/// all participants; each then reads only as far as it has slots.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ranking {
    pub audio: Vec<Candidate>,
    pub video: Vec<Candidate>,
    /// The two who spoke last: whom a view follows, and whom that one's own view follows.
    spoke: Vec<ParticipantId>,
}

impl Ranking {
    /// `candidates` come in the order of the speakers, and so does `spoke`.
    pub fn new(
        candidates: impl Iterator<Item = (Kind, Candidate)>,
        spoke: impl Iterator<Item = ParticipantId>,
    ) -> Self {
        let mut ranking = Self { spoke: spoke.take(2).collect(), ..Self::default() };
        for (kind, candidate) in candidates {
            ranking.of_mut(kind).push(candidate);
        }
        for list in [&mut ranking.audio, &mut ranking.video] {
            list.sort_by_key(|c| c.group != Group::Screen);
        }
        ranking
    }

    /// Whether both have the same first `count` of each kind.
    pub fn same_to(&self, other: &Self, count: usize) -> bool {
        let first = |list: &[Candidate]| list.len().min(count);
        let same = |a: &[Candidate], b: &[Candidate]| a[..first(a)] == b[..first(b)];
        same(&self.audio, &other.audio) && same(&self.video, &other.video)
    }

    pub fn of(&self, kind: Kind) -> &[Candidate] {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }
    fn of_mut(&mut self, kind: Kind) -> &mut Vec<Candidate> {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
}

/// A `view`, its ids read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wish {
    pub tracks: BTreeMap<TrackId, ViewTrack>,
    last_n: usize,
    audio_n: Option<usize>,
    follow: Option<Follow>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Follow {
    Speaker,
    Participant(ParticipantId),
}

impl Wish {
    /// # Errors
    /// Which field makes no sense.
    pub fn read(view: View) -> Result<Self, String> {
        let id = |name: String| name.parse().map_err(|()| format!("tracks: {name:?} is not a track id"));
        let tracks =
            view.tracks.into_iter().map(|(name, wish)| Ok((id(name)?, wish))).collect::<Result<_, String>>()?;
        let follow = match view.follow.as_deref() {
            None => None,
            Some("speaker") => Some(Follow::Speaker),
            Some(id) => match id.parse() {
                Ok(participant) => Some(Follow::Participant(participant)),
                Err(()) => return Err("follow: neither \"speaker\" nor a participant id".into()),
            },
        };
        let last_n = view.last_n.unwrap_or(0).into();
        Ok(Self { tracks, last_n, audio_n: view.audio_n.map(usize::from), follow })
    }

    fn paused(&self, track: TrackId) -> bool {
        self.tracks.get(&track).is_some_and(|t| t.paused)
    }

    /// How a track is looked at. What makes no sense is not known.
    fn look(&self, kind: Kind, candidate: &Candidate, why: Why) -> api::Wish {
        let plain = look(kind, candidate, why == Why::Follow);
        let Some(listed) = self.tracks.get(&candidate.track).filter(|_| kind == Kind::Video) else { return plain };
        let (width, height) = if listed.w > 0 && listed.h > 0 { (listed.w, listed.h) } else { (0, 0) };
        let fps = listed.fps.filter(|fps| fps.is_finite() && *fps > 0.0);
        api::Wish { width, height, fps, priority: listed.priority.unwrap_or(0), ..plain }
    }
}

/// How a track is looked at of which no view says it. Sound is sound.
pub(super) fn look(kind: Kind, candidate: &Candidate, stage: bool) -> api::Wish {
    match kind {
        Kind::Audio => api::Wish::default(),
        Kind::Video => api::Wish { stage, screen: candidate.group == Group::Screen, ..api::Wish::default() },
    }
}

/// A track that a participant is to get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Want {
    pub candidate: Candidate,
    pub why: Why,
    /// How it is looked at.
    pub wish: api::Wish,
}

/// What a participant is to get, the most important first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    pub audio: Vec<Want>,
    pub video: Vec<Want>,
}

impl Wanted {
    /// Without a view: everybody else, as far as `limits` reaches.
    pub fn by_default(ranking: &Ranking, me: ParticipantId, limit: impl Fn(Kind) -> usize) -> Self {
        let of = |kind| {
            let others = ranking.of(kind).iter().filter(|c| c.owner != me).take(limit(kind));
            others.map(|c| Want { candidate: *c, why: Why::LastN, wish: look(kind, c, false) }).collect()
        };
        Self { audio: of(Kind::Audio), video: of(Kind::Video) }
    }

    /// With a view. `track`: what a track id stands for.
    pub fn by_view(
        wish: &Wish,
        ranking: &Ranking,
        me: ParticipantId,
        track: impl Fn(TrackId) -> Option<(Kind, Candidate)>,
        limit: impl Fn(Kind) -> usize,
    ) -> Self {
        let mut listed: Vec<_> = wish.tracks.iter().filter(|(_, w)| !w.paused).collect();
        listed.sort_by_key(|(_, w)| (-i64::from(w.priority.unwrap_or(0)), -i64::from(w.w) * i64::from(w.h)));
        let listed: Vec<_> = listed.into_iter().filter_map(|(id, _)| track(*id)).collect();
        let audio_limit = limit(Kind::Audio).min(wish.audio_n.unwrap_or(usize::MAX));
        let mut audio = List::new(wish, Kind::Audio, me, audio_limit);
        let mut video = List::new(wish, Kind::Video, me, limit(Kind::Video));
        let followed = match wish.follow {
            Some(Follow::Speaker) => ranking.spoke.iter().copied().find(|p| *p != me),
            Some(Follow::Participant(p)) => Some(p),
            None => None,
        };
        let unpaused = |kind| ranking.of(kind).iter().filter(|c| !wish.paused(c.track));
        video.extend(unpaused(Kind::Video).filter(|c| Some(c.owner) == followed), Why::Follow, usize::MAX);
        let of_kind = |kind| listed.iter().filter(move |(k, _)| *k == kind).map(|(_, c)| c);
        audio.extend(of_kind(Kind::Audio), Why::View, usize::MAX);
        video.extend(of_kind(Kind::Video), Why::View, usize::MAX);
        audio.extend(unpaused(Kind::Audio), Why::LastN, usize::MAX);
        video.extend(unpaused(Kind::Video), Why::LastN, wish.last_n);
        Self { audio: audio.wants, video: video.wants }
    }

    pub fn of(&self, kind: Kind) -> &[Want] {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }

    /// Keeps only as many as there are slots.
    pub fn truncate(&mut self, slots: &Slots) {
        self.audio.truncate(slots.usable(Kind::Audio));
        self.video.truncate(slots.usable(Kind::Video));
    }
}

/// A list of wants, none twice, none of one's own.
struct List<'a> {
    view: &'a Wish,
    kind: Kind,
    me: ParticipantId,
    limit: usize,
    seen: FxHashSet<TrackId>,
    wants: Vec<Want>,
}

impl<'a> List<'a> {
    fn new(view: &'a Wish, kind: Kind, me: ParticipantId, limit: usize) -> Self {
        Self { view, kind, me, limit, seen: FxHashSet::default(), wants: Vec::new() }
    }
    /// Adds up to `most` more.
    fn extend<'c>(&mut self, candidates: impl Iterator<Item = &'c Candidate>, why: Why, most: usize) {
        let most = most.min(self.limit - self.wants.len());
        let mut added = 0;
        for candidate in candidates.filter(|c| c.owner != self.me) {
            if added == most {
                break;
            }
            if self.seen.insert(candidate.track) {
                let wish = self.view.look(self.kind, candidate, why);
                self.wants.push(Want { candidate: *candidate, why, wish });
                added += 1;
            }
        }
    }
}

/// A receive m-line.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Slot {
    pub mid: Mid,
    /// An audio and a video slot of the same number share a MediaStream in our answer.
    pub number: usize,
    pub active: bool,
    pub bound: Option<Bound>,
}

impl Slot {
    /// What it shows.
    pub fn track(&self) -> Option<TrackId> {
        self.bound.as_ref().map(|b| b.candidate.track)
    }
}

/// What fills a slot.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bound {
    pub candidate: Candidate,
    pub why: Why,
    /// What the engine was told of how it is looked at.
    pub wish: api::Wish,
    /// What the engine said last.
    pub report: SlotReport,
}

impl Bound {
    /// Nothing is sent yet.
    pub fn new(want: Want) -> Self {
        let Want { candidate, why, wish } = want;
        Self { candidate, why, wish, report: SlotReport::plain(api::SlotState::Waiting) }
    }

    pub fn wait(&mut self) {
        self.report = SlotReport::plain(api::SlotState::Waiting);
    }
}

/// The slots of a `sub` connection, in SDP order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Slots {
    pub audio: Vec<Slot>,
    pub video: Vec<Slot>,
}

impl Slots {
    pub fn of(&self, kind: Kind) -> &[Slot] {
        match kind {
            Kind::Audio => &self.audio,
            Kind::Video => &self.video,
        }
    }
    pub fn of_mut(&mut self, kind: Kind) -> &mut Vec<Slot> {
        match kind {
            Kind::Audio => &mut self.audio,
            Kind::Video => &mut self.video,
        }
    }
    pub fn slot_mut(&mut self, kind: Kind, number: usize) -> Option<&mut Slot> {
        self.of_mut(kind).iter_mut().find(|s| s.number == number)
    }
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.audio.iter().chain(&self.video)
    }
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.audio.iter_mut().chain(&mut self.video)
    }
    pub fn bound_to(&self, track: TrackId) -> Option<&Bound> {
        self.iter().filter_map(|s| s.bound.as_ref()).find(|b| b.candidate.track == track)
    }
    fn usable(&self, kind: Kind) -> usize {
        self.of(kind).iter().filter(|s| s.active).count()
    }
}

/// One slot that is to show something else.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rebind {
    pub kind: Kind,
    /// Which slot of this kind.
    pub number: usize,
    /// None empties it.
    pub want: Option<Want>,
}

/// Whether the slots show what is wanted already, each track in some slot: the usual case, found without any allocation.
pub(super) fn agrees(slots: &Slots, wanted: &Wanted) -> bool {
    let agrees = |kind| {
        let wants = wanted.of(kind);
        let mut bound = slots.of(kind).iter().filter_map(|slot| Some((slot.active, slot.track()?)));
        let is_wanted = |(active, track)| active && wants.iter().any(|want| want.candidate.track == track);
        bound.clone().count() == wants.len() && bound.all(is_wanted)
    };
    agrees(Kind::Audio) && agrees(Kind::Video)
}

/// What must change so that the slots show what is wanted. A track keeps its slot as long as it is wanted; picture and
/// sound that belong together go to slots of the same number where there are such. Empty when all is well.
pub(super) fn reconcile(slots: &Slots, wanted: &Wanted) -> Vec<Rebind> {
    let mut plan = Plan { audio: Row::new(slots, wanted, Kind::Audio), video: Row::new(slots, wanted, Kind::Video) };
    for kind in [Kind::Video, Kind::Audio] {
        for want in wanted.of(kind) {
            plan.place(kind, want);
        }
    }
    let changes = |kind, row: &Row| -> Vec<Rebind> {
        let now = |slot: &Slot| row.cells.get(slot.number).and_then(|c| c.want);
        let differs = |slot: &Slot| slot.track() != now(slot).map(|w| w.candidate.track);
        let changed = slots.of(kind).iter().filter(|slot| differs(slot));
        changed.map(|slot| Rebind { kind, number: slot.number, want: now(slot) }).collect()
    };
    let mut all = changes(Kind::Audio, &plan.audio);
    all.extend(changes(Kind::Video, &plan.video));
    // What is emptied first never shows in two slots at once.
    all.sort_by_key(|change| change.want.is_some());
    all
}

/// Takes over how the slots' tracks are looked at. The slots whose track stays and is looked at in another way from now on.
pub(super) fn look_again(slots: &mut Slots, wanted: &Wanted) -> Vec<(Mid, TrackId, api::Wish)> {
    let mut changed = Vec::new();
    for kind in [Kind::Audio, Kind::Video] {
        for slot in slots.of_mut(kind) {
            let Some(bound) = &mut slot.bound else { continue };
            let want = wanted.of(kind).iter().find(|w| w.candidate.track == bound.candidate.track);
            if let Some(want) = want.filter(|w| w.wish != bound.wish) {
                bound.wish = want.wish;
                changed.push((slot.mid.clone(), want.candidate.track, want.wish));
            }
        }
    }
    changed
}

struct Plan {
    audio: Row,
    video: Row,
}

/// The slots of one kind, as they are to be.
struct Row {
    /// By number. A number that no slot has is not active.
    cells: Vec<Cell>,
    placed: FxHashSet<TrackId>,
}

#[derive(Clone, Copy, Default)]
struct Cell {
    active: bool,
    want: Option<Want>,
}

impl Row {
    /// Keeps what is wanted still.
    fn new(slots: &Slots, wanted: &Wanted, kind: Kind) -> Self {
        let wants: FxHashMap<TrackId, Want> = wanted.of(kind).iter().map(|w| (w.candidate.track, *w)).collect();
        let keep = |slot: &Slot| slot.track().and_then(|t| wants.get(&t)).copied().filter(|_| slot.active);
        let count = slots.of(kind).iter().map(|s| s.number + 1).max().unwrap_or(0);
        let mut cells = vec![Cell::default(); count];
        for slot in slots.of(kind) {
            cells[slot.number] = Cell { active: slot.active, want: keep(slot) };
        }
        let placed = cells.iter().filter_map(|c| c.want).map(|w| w.candidate.track).collect();
        Self { cells, placed }
    }
    fn is_free(&self, index: usize) -> bool {
        self.cells.get(index).is_some_and(|c| c.active && c.want.is_none())
    }
    fn find_pair(&self, of: &Candidate) -> Option<usize> {
        let pairs = |c: &Candidate| c.owner == of.owner && c.group == of.group;
        self.cells.iter().position(|c| c.want.is_some_and(|w| pairs(&w.candidate)))
    }
}

impl Plan {
    fn place(&mut self, kind: Kind, want: &Want) {
        let (row, other) = match kind {
            Kind::Audio => (&mut self.audio, &self.video),
            Kind::Video => (&mut self.video, &self.audio),
        };
        if !row.placed.insert(want.candidate.track) {
            return;
        }
        let beside = other.find_pair(&want.candidate).filter(|i| row.is_free(*i));
        let free = || (0..row.cells.len()).filter(|i| row.is_free(*i));
        let index = beside.or_else(|| free().find(|i| other.is_free(*i))).or_else(|| free().next());
        if let Some(cell) = index.and_then(|i| row.cells.get_mut(i)) {
            cell.want = Some(*want);
        }
    }
}

/// How many slots to ask for when `wanted` are of use: 2, 4, 6, 9, 12, 16, 20, 25, … so that joins rarely renegotiate.
pub(super) fn step(wanted: usize, limit: usize) -> usize {
    let steps = (1..).flat_map(|n| [n * (n + 1), (n + 1) * (n + 1)]);
    steps.into_iter().find(|s| *s >= wanted.min(limit)).unwrap_or(limit).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(track: u64, owner: u64, group: Group) -> Candidate {
        Candidate { track: TrackId(track), owner: ParticipantId(owner), group }
    }
    /// Each participant n has microphone 10n and camera 10n+1.
    fn people(owners: &[u64]) -> Ranking {
        let of = |n: u64, track| candidate(track, n, Group::Person);
        let tracks = |n: &u64| [(Kind::Audio, of(*n, n * 10)), (Kind::Video, of(*n, n * 10 + 1))];
        Ranking::new(owners.iter().flat_map(tracks), [].into_iter())
    }
    fn slots(audio: usize, video: usize) -> Slots {
        let make = |prefix: &str, n| -> Vec<Slot> {
            let mid = |i| Mid::try_from(format!("{prefix}{i}").as_str()).expect("a mid");
            (0..n).map(|i| Slot { mid: mid(i), number: i, active: true, bound: None }).collect()
        };
        Slots { audio: make("a", audio), video: make("v", video) }
    }
    fn apply(slots: &mut Slots, wanted: &Wanted) -> usize {
        let changes = reconcile(slots, wanted);
        for change in &changes {
            slots.slot_mut(change.kind, change.number).expect("a slot").bound = change.want.map(Bound::new);
        }
        assert_eq!(reconcile(slots, wanted), [], "a second call does nothing");
        changes.len()
    }
    fn shown(slots: &Slots, kind: Kind) -> Vec<u64> {
        slots.of(kind).iter().map(|s| s.track().map_or(0, |t| t.0)).collect()
    }
    fn everybody(ranking: &Ranking, slots: &Slots) -> Wanted {
        let mut wanted = Wanted::by_default(ranking, ParticipantId(1), |_| 9);
        wanted.truncate(slots);
        wanted
    }

    #[test]
    fn steps() {
        let got: Vec<_> = [0, 1, 2, 3, 5, 7, 10, 13, 17, 21, 24, 99].map(|n| step(n, 25)).into();
        assert_eq!(got, [2, 2, 2, 4, 6, 9, 12, 16, 20, 25, 25, 25]);
        assert_eq!(step(3, 3), 3);
        assert_eq!(step(1, 0), 0);
    }

    #[test]
    fn picture_and_sound_share_an_index_and_stay_where_they_are() {
        let mut slots = slots(3, 3);
        let wanted = everybody(&people(&[1, 2, 3, 4]), &slots);
        assert_eq!(apply(&mut slots, &wanted), 6);
        assert_eq!((shown(&slots, Kind::Audio), shown(&slots, Kind::Video)), (vec![20, 30, 40], vec![21, 31, 41]));
        let wanted = everybody(&people(&[1, 4, 5, 2, 3]), &slots);
        assert_eq!(apply(&mut slots, &wanted), 2, "only the one who fell out makes room");
        assert_eq!((shown(&slots, Kind::Audio), shown(&slots, Kind::Video)), (vec![20, 50, 40], vec![21, 51, 41]));
    }

    #[test]
    fn a_camera_that_comes_later_goes_beside_its_microphone() {
        let mut slots = slots(3, 3);
        let mut ranking = people(&[2, 3, 4]);
        ranking.video.remove(1);
        let wanted = everybody(&ranking, &slots);
        apply(&mut slots, &wanted);
        let at = shown(&slots, Kind::Audio).iter().position(|t| *t == 30).expect("3 is heard");
        assert_eq!(shown(&slots, Kind::Video)[at], 0, "kept free for it");
        let wanted = everybody(&people(&[2, 3, 4]), &slots);
        assert_eq!(apply(&mut slots, &wanted), 1);
        assert_eq!(shown(&slots, Kind::Video)[at], 31);
    }

    #[test]
    fn screens_come_first_and_inactive_slots_stay_empty() {
        let mut ranking = people(&[2, 3]);
        ranking.video.push(candidate(99, 3, Group::Screen));
        ranking = Ranking::new(ranking.video.into_iter().map(|c| (Kind::Video, c)), [].into_iter());
        let mut slots = slots(0, 3);
        slots.video[1].active = false;
        let wanted = everybody(&ranking, &slots);
        apply(&mut slots, &wanted);
        assert_eq!(shown(&slots, Kind::Video), [99, 0, 21]);
        slots.video[0].active = false;
        let wanted = everybody(&ranking, &slots);
        apply(&mut slots, &wanted);
        assert_eq!(shown(&slots, Kind::Video), [0, 0, 99]);
    }

    fn view(ranking: &Ranking, json: serde_json::Value) -> (Vec<u64>, Vec<u64>) {
        let wish = Wish::read(serde_json::from_value(json).expect("a view")).expect("a wish");
        let find = |id| {
            let of = |kind| ranking.of(kind).iter().find(|c| c.track == id).map(|c| (kind, *c));
            of(Kind::Audio).or(of(Kind::Video))
        };
        let wanted = Wanted::by_view(&wish, ranking, ParticipantId(1), find, |_| 4);
        let ids = |wants: &[Want]| wants.iter().map(|w| w.candidate.track.0).collect();
        (ids(&wanted.audio), ids(&wanted.video))
    }

    #[test]
    fn a_view_decides() {
        let mut ranking = people(&[1, 2, 3, 4, 5, 6]);
        ranking.spoke = vec![ParticipantId(1), ParticipantId(3)];
        let cases = [
            (serde_json::json!({}), vec![20, 30, 40, 50], vec![]),
            (serde_json::json!({"audioN": 1, "lastN": 2}), vec![20], vec![21, 31]),
            (
                serde_json::json!({"tracks": {"t61": {"w": 1, "h": 1}, "t51": {"w": 9, "h": 9}}}),
                vec![20, 30, 40, 50],
                vec![51, 61],
            ),
            (
                serde_json::json!({"tracks": {"t61": {"priority": 1}, "t51": {"w": 9, "h": 9}, "t11": {}}, "lastN": 1}),
                vec![20, 30, 40, 50],
                vec![61, 51, 21],
            ),
            (
                serde_json::json!({"tracks": {"t61": {"paused": true}, "t20": {"paused": true}}, "lastN": 9}),
                vec![30, 40, 50, 60],
                vec![21, 31, 41, 51],
            ),
            (
                serde_json::json!({"tracks": {"t60": {}}, "follow": "p5", "lastN": 1}),
                vec![60, 20, 30, 40],
                vec![51, 21],
            ),
            (serde_json::json!({"follow": "speaker"}), vec![20, 30, 40, 50], vec![31]),
            (serde_json::json!({"tracks": {"t777": {}}, "follow": "p777"}), vec![20, 30, 40, 50], vec![]),
        ];
        for (json, audio, video) in cases {
            assert_eq!(view(&ranking, json.clone()), (audio, video), "{json}");
        }
    }

    #[test]
    fn a_view_that_makes_no_sense_names_the_field() {
        for (json, field) in
            [(serde_json::json!({"tracks": {"x": {}}}), "tracks"), (serde_json::json!({"follow": "me"}), "follow")]
        {
            let error = Wish::read(serde_json::from_value(json).expect("a view")).expect_err("nonsense");
            assert!(error.starts_with(field), "{error}");
        }
    }
}
