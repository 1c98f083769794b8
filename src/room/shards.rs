//! One room on many shards: which shard carries which peer, and which commands each shard gets.
//!
//! A small room stays on one shard. A large one spreads over all of them, and each shard that has subscribers of another's track
//! mirrors it (`engine::relay`). The room itself knows nothing of this: its commands are split here, and what the shards
//! say is put together again.
use crate::engine::api::{Speaker, Wish};
use crate::engine::{Command, Event};
use crate::ids::{Mid, PeerId, RoomId, ShardId, TrackId};
use crate::peer::config::PeerConfig;
use crate::rtp::Kind;
use rustc_hash::FxHashMap;

/// Peers of a room that stay together before others go elsewhere: four people with two connections each.
pub const TOGETHER: usize = 8;
/// Loudest speakers that are told, as by one engine.
const SPEAKERS: usize = 10;

/// The shards of one room.
#[derive(Debug)]
pub struct Router {
    room: RoomId,
    /// The shard of the first peers.
    home: ShardId,
    together: usize,
    /// Peers of this room on each shard.
    counts: Vec<usize>,
    peers: FxHashMap<PeerId, ShardId>,
    tracks: FxHashMap<TrackId, Place>,
    /// What each slot shows.
    slots: FxHashMap<PeerId, FxHashMap<Mid, TrackId>>,
    /// What each shard last said of the speakers.
    speakers: Vec<Vec<Speaker>>,
}

#[derive(Debug)]
struct Place {
    peer: PeerId,
    mid: Mid,
    kind: Kind,
    home: ShardId,
    muted: bool,
    /// Slots on other shards that show it: how many, by shard.
    elsewhere: Vec<(ShardId, usize)>,
}

impl Router {
    /// The room begins on shard `home` of `shards`.
    pub fn new(room: RoomId, home: ShardId, shards: usize) -> Self {
        let shards = shards.max(1);
        Self {
            room,
            home: ShardId(home.0 % shards as u16),
            together: TOGETHER,
            counts: vec![0; shards],
            peers: FxHashMap::default(),
            tracks: FxHashMap::default(),
            slots: FxHashMap::default(),
            speakers: vec![Vec::new(); shards],
        }
    }

    /// So many peers stay together, instead of [`TOGETHER`].
    pub fn together(self, together: usize) -> Self {
        Self { together, ..self }
    }

    /// Gives `send` what each shard is to be told for this command, in this order.
    pub fn route(&mut self, command: Command, mut send: impl FnMut(ShardId, Command)) {
        match command {
            Command::AddPeer { peer, room, config } => {
                let shard = self.place(peer);
                self.drop_slots(peer, &config, &mut send);
                send(shard, Command::AddPeer { peer, room, config });
            }
            Command::UpdatePeer { peer, config } => {
                let Some(&shard) = self.peers.get(&peer) else { return };
                self.drop_slots(peer, &config, &mut send);
                send(shard, Command::UpdatePeer { peer, config });
            }
            Command::RemovePeer { peer } => self.remove_peer(peer, &mut send),
            Command::Publish { track, peer, mid, kind } => self.publish(track, peer, mid, kind, &mut send),
            Command::Unpublish { track } => self.unpublish(track, &mut send),
            Command::SetMuted { track, muted } => self.set_muted(track, muted, &mut send),
            Command::Bind { peer, mid, track, wish } => self.bind(peer, mid, track, wish, &mut send),
            Command::Stats { peer, token } => {
                if let Some(&shard) = self.peers.get(&peer) {
                    send(shard, Command::Stats { peer, token });
                }
            }
            Command::Explain { peer, token } => {
                if let Some(&shard) = self.peers.get(&peer) {
                    send(shard, Command::Explain { peer, token });
                }
            }
            Command::Record { track, to } => {
                if let Some(place) = self.tracks.get(&track) {
                    send(place.home, Command::Record { track, to });
                }
            }
            Command::Keyframe { track, source } => {
                if let Some(place) = self.tracks.get(&track) {
                    send(place.home, Command::Keyframe { track, source });
                }
            }
            // These are made here.
            Command::Mirror { .. } | Command::Relay { .. } => {}
        }
    }

    /// What the room is to be told of an event of one shard.
    pub fn merge(&mut self, shard: ShardId, event: Event) -> Event {
        let Event::Speakers { room, speakers } = event else { return event };
        if self.speakers.len() == 1 {
            return Event::Speakers { room, speakers };
        }
        if let Some(own) = self.speakers.get_mut(usize::from(shard.0)) {
            *own = speakers;
        }
        let mut all: Vec<Speaker> = self.speakers.iter().flatten().copied().collect();
        all.sort_by_key(|s| (s.level, s.track));
        all.truncate(SPEAKERS);
        Event::Speakers { room, speakers: all }
    }

    /// All peers, and where they are.
    pub fn peers(&self) -> impl Iterator<Item = (PeerId, ShardId)> {
        self.peers.iter().map(|(peer, shard)| (*peer, *shard))
    }

    /// Tracks that a shard mirrors.
    pub fn mirrors(&self) -> impl Iterator<Item = (TrackId, ShardId)> {
        self.tracks.iter().flat_map(|(id, place)| place.elsewhere.iter().map(|(shard, _)| (*id, *shard)))
    }

    /// Where the peer is, or is to be from now on.
    fn place(&mut self, peer: PeerId) -> ShardId {
        if let Some(&shard) = self.peers.get(&peer) {
            return shard;
        }
        // Each shard is filled up to `together`, beginning at home; then the emptiest is the next.
        let shards = self.counts.len();
        let from_home = (0..shards).map(|n| (usize::from(self.home.0) + n) % shards);
        let at = from_home.min_by_key(|&at| match self.counts[at] {
            count if count < self.together => 0,
            count => count,
        });
        let at = at.unwrap_or(0);
        self.counts[at] += 1;
        let shard = ShardId(at as u16);
        self.peers.insert(peer, shard);
        shard
    }

    fn remove_peer(&mut self, peer: PeerId, send: &mut impl FnMut(ShardId, Command)) {
        let Some(shard) = self.peers.remove(&peer) else { return };
        self.counts[usize::from(shard.0)] -= 1;
        let own: Vec<TrackId> = self.tracks.iter().filter(|(_, p)| p.peer == peer).map(|(id, _)| *id).collect();
        own.into_iter().for_each(|track| self.unpublish(track, send));
        let shown = self.slots.remove(&peer).unwrap_or_default();
        send(shard, Command::RemovePeer { peer });
        shown.into_values().for_each(|track| self.count_out(track, shard, send));
    }

    fn publish(&mut self, id: TrackId, peer: PeerId, mid: Mid, kind: Kind, send: &mut impl FnMut(ShardId, Command)) {
        let Some(&home) = self.peers.get(&peer) else { return };
        if self.tracks.contains_key(&id) {
            return;
        }
        let before = self.tracks.iter().find(|(_, p)| p.peer == peer && p.mid == mid).map(|(id, _)| *id);
        before.into_iter().for_each(|track| self.unpublish(track, send));
        self.tracks.insert(id, Place { peer, mid: mid.clone(), kind, home, muted: false, elsewhere: Vec::new() });
        send(home, Command::Publish { track: id, peer, mid, kind });
    }

    fn unpublish(&mut self, id: TrackId, send: &mut impl FnMut(ShardId, Command)) {
        let Some(place) = self.tracks.remove(&id) else { return };
        // The shards forget which slots show it. It may be published again under its id, from another connection.
        self.slots.values_mut().for_each(|slots| slots.retain(|_, shown| *shown != id));
        send(place.home, Command::Unpublish { track: id });
        for (shard, _) in place.elsewhere {
            send(shard, Command::Unpublish { track: id });
        }
    }

    fn set_muted(&mut self, id: TrackId, muted: bool, send: &mut impl FnMut(ShardId, Command)) {
        let Some(place) = self.tracks.get_mut(&id) else { return };
        place.muted = muted;
        for shard in place.elsewhere.iter().map(|(shard, _)| *shard).chain([place.home]) {
            send(shard, Command::SetMuted { track: id, muted });
        }
    }

    fn bind(
        &mut self,
        peer: PeerId,
        mid: Mid,
        track: Option<TrackId>,
        wish: Wish,
        send: &mut impl FnMut(ShardId, Command),
    ) {
        let Some(&shard) = self.peers.get(&peer) else { return };
        let track = track.filter(|id| self.tracks.contains_key(id));
        let slots = self.slots.entry(peer).or_default();
        let before = match track {
            Some(track) => slots.insert(mid.clone(), track),
            None => slots.remove(&mid),
        };
        if before == track {
            return send(shard, Command::Bind { peer, mid, track, wish });
        }
        if let Some(track) = track {
            self.count_in(track, shard, send);
        }
        send(shard, Command::Bind { peer, mid, track, wish });
        if let Some(before) = before {
            self.count_out(before, shard, send);
        }
    }

    /// One more slot of `shard` shows the track.
    fn count_in(&mut self, id: TrackId, shard: ShardId, send: &mut impl FnMut(ShardId, Command)) {
        let Some(place) = self.tracks.get_mut(&id).filter(|place| place.home != shard) else { return };
        if let Some((_, count)) = place.elsewhere.iter_mut().find(|(s, _)| *s == shard) {
            *count += 1;
            return;
        }
        place.elsewhere.push((shard, 1));
        let (room, kind, home) = (self.room, place.kind, place.home);
        send(shard, Command::Mirror { track: id, room, kind, home });
        if place.muted {
            send(shard, Command::SetMuted { track: id, muted: true });
        }
        send(home, Command::Relay { track: id, to: shard, on: true });
    }

    /// One slot of `shard` less shows the track. After the last one its mirror goes.
    fn count_out(&mut self, id: TrackId, shard: ShardId, send: &mut impl FnMut(ShardId, Command)) {
        let Some(place) = self.tracks.get_mut(&id) else { return };
        let Some(at) = place.elsewhere.iter().position(|(s, _)| *s == shard) else { return };
        place.elsewhere[at].1 -= 1;
        if place.elsewhere[at].1 == 0 {
            place.elsewhere.swap_remove(at);
            send(place.home, Command::Relay { track: id, to: shard, on: false });
            send(shard, Command::Unpublish { track: id });
        }
    }

    /// Slots that the description has no more show nothing.
    fn drop_slots(&mut self, peer: PeerId, config: &PeerConfig, send: &mut impl FnMut(ShardId, Command)) {
        let Some(slots) = self.slots.get(&peer) else { return };
        let kept = |mid: &Mid| config.send.iter().any(|media| media.mid == *mid);
        let gone: Vec<Mid> = slots.keys().filter(|mid| !kept(mid)).cloned().collect();
        gone.into_iter().for_each(|mid| self.bind(peer, mid, None, Wish::default(), send));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::RecordingId;
    use crate::peer::config::{DtlsConfig, DtlsRole, IceConfig, IceCredentials};
    use proptest::prelude::*;

    const ROOM: RoomId = RoomId(1);

    fn mid(n: u64) -> Mid {
        Mid::try_from(n.to_string().as_str()).unwrap()
    }

    fn add(peer: u64) -> Command {
        let credentials = || IceCredentials { ufrag: String::new(), pwd: String::new() };
        let ice = IceConfig { local: credentials(), remote: credentials() };
        let dtls = DtlsConfig { role: DtlsRole::Server, fingerprints: Vec::new() };
        let config = Box::new(PeerConfig { ice, dtls, receive: vec![], send: vec![], cname: String::new() });
        Command::AddPeer { peer: PeerId(peer), room: ROOM, config }
    }

    fn publish(track: u64, peer: u64) -> Command {
        Command::Publish { track: TrackId(track), peer: PeerId(peer), mid: mid(track), kind: Kind::Video }
    }

    fn bind(peer: u64, slot: u64, track: Option<u64>) -> Command {
        Command::Bind { peer: PeerId(peer), mid: mid(slot), track: track.map(TrackId), wish: Wish::default() }
    }

    fn route(router: &mut Router, command: Command) -> Vec<(u16, String)> {
        let mut sent = Vec::new();
        router.route(command, |shard, command| sent.push((shard.0, brief(&command))));
        sent
    }

    fn brief(command: &Command) -> String {
        match command {
            Command::AddPeer { peer, .. } => format!("add {peer}"),
            Command::UpdatePeer { peer, .. } => format!("update {peer}"),
            Command::RemovePeer { peer } => format!("remove {peer}"),
            Command::Publish { track, .. } => format!("publish {track}"),
            Command::Unpublish { track } => format!("unpublish {track}"),
            Command::SetMuted { track, muted } => format!("muted {track} {muted}"),
            Command::Bind { peer, track, .. } => format!("bind {peer} {}", track.map_or("-".into(), |t| t.to_string())),
            Command::Mirror { track, home, .. } => format!("mirror {track} of {home}"),
            Command::Relay { track, to, on } => format!("relay {track} to {to} {on}"),
            Command::Stats { .. } => "stats".into(),
            Command::Explain { .. } => "explain".into(),
            Command::Record { track, to } => format!("record {track} {}", to.is_some()),
            Command::Keyframe { track, .. } => format!("keyframe {track}"),
        }
    }

    #[test]
    fn a_small_room_stays_together_and_a_large_one_spreads() {
        let mut router = Router::new(ROOM, ShardId(1), 3);
        let shards: Vec<u16> = (0..27).map(|n| route(&mut router, add(n))[0].0).collect();
        assert!(shards[..8].iter().all(|s| *s == 1));
        assert!(shards[8..16].iter().all(|s| *s == 2));
        assert!(shards[16..24].iter().all(|s| *s == 0));
        let mut rest = shards[24..].to_vec();
        rest.sort_unstable();
        assert_eq!(rest, [0, 1, 2]);
        assert_eq!(route(&mut router, add(3)), [(1, "add c3".into())], "where it is already");
    }

    #[test]
    fn a_track_is_mirrored_while_another_shard_shows_it() {
        let mut router = Router::new(ROOM, ShardId(0), 2);
        (0..16).for_each(|n| drop(route(&mut router, add(n))));
        route(&mut router, publish(1, 0));
        route(&mut router, Command::SetMuted { track: TrackId(1), muted: true });
        assert_eq!(route(&mut router, bind(1, 0, Some(1))), [(0, "bind c1 t1".into())], "the same shard");
        let first = route(&mut router, bind(9, 0, Some(1)));
        let expected = [(1, "mirror t1 of 0"), (1, "muted t1 true"), (0, "relay t1 to 1 true"), (1, "bind c9 t1")];
        assert_eq!(first, expected.map(|(s, t)| (s, t.to_owned())));
        assert_eq!(route(&mut router, bind(10, 0, Some(1))), [(1, "bind c10 t1".into())]);
        assert_eq!(route(&mut router, bind(9, 0, None)), [(1, "bind c9 -".into())]);
        let last = route(&mut router, Command::RemovePeer { peer: PeerId(10) });
        let expected = [(1, "remove c10"), (0, "relay t1 to 1 false"), (1, "unpublish t1")];
        assert_eq!(last, expected.map(|(s, t)| (s, t.to_owned())));
        route(&mut router, bind(9, 0, Some(1)));
        let gone = route(&mut router, Command::RemovePeer { peer: PeerId(0) });
        assert_eq!(gone, [(0, "unpublish t1"), (1, "unpublish t1"), (0, "remove c0")].map(|(s, t)| (s, t.to_owned())));
        assert_eq!(route(&mut router, bind(9, 0, None)), [(1, "bind c9 -".into())], "nothing is left of it");
    }

    #[test]
    fn a_track_is_recorded_where_its_publisher_is() {
        let mut router = Router::new(ROOM, ShardId(0), 2);
        (0..16).for_each(|n| drop(route(&mut router, add(n))));
        route(&mut router, publish(1, 9));
        let record = |to| Command::Record { track: TrackId(1), to };
        assert_eq!(route(&mut router, record(Some(RecordingId(1)))), [(1, "record t1 true".into())]);
        assert_eq!(route(&mut router, record(None)), [(1, "record t1 false".into())]);
        route(&mut router, Command::RemovePeer { peer: PeerId(9) });
        assert_eq!(route(&mut router, record(None)), [], "it is forgotten");
    }

    #[test]
    fn speakers_of_all_shards_are_told_together() {
        let mut router = Router::new(ROOM, ShardId(0), 2);
        let say = |track, level| Speaker { track: TrackId(track), level };
        let told = |event| match event {
            Event::Speakers { speakers, .. } => speakers.iter().map(|s| s.track.0).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        let mut merge = |shard, speakers| told(router.merge(ShardId(shard), Event::Speakers { room: ROOM, speakers }));
        assert_eq!(merge(0, vec![say(1, 20), say(2, 40)]), [1, 2]);
        assert_eq!(merge(1, vec![say(3, 30)]), [1, 3, 2]);
        assert_eq!(merge(0, vec![]), [3]);
    }

    proptest! {
        /// A shard mirrors exactly the tracks of others that its slots show, whatever happens in whatever order.
        #[test]
        fn mirrors_follow_the_slots(steps in prop::collection::vec((0..6u8, 0..24u64, 0..12u64), 1..300)) {
            let mut router = Router::new(ROOM, ShardId(0), 3);
            let (mut mirrors, mut relays) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
            for (what, peer, n) in steps {
                let slot = n % 3;
                let command = match what {
                    0 | 1 => add(peer),
                    2 => publish(n, peer),
                    3 => Command::Unpublish { track: TrackId(n) },
                    4 => bind(peer, slot, Some(n)),
                    _ if n == 0 => Command::RemovePeer { peer: PeerId(peer) },
                    _ => bind(peer, slot, None),
                };
                router.route(command, |shard, command| match command {
                    Command::Mirror { track, home, .. } => {
                        assert_ne!(home, shard);
                        assert!(mirrors.insert((track, shard)), "twice");
                    }
                    // On its home shard the track is forgotten, and with it who got it.
                    Command::Unpublish { track } if !mirrors.remove(&(track, shard)) => {
                        relays.retain(|(t, _)| *t != track);
                    }
                    Command::Relay { track, to, on: true } => drop(relays.insert((track, to))),
                    Command::Relay { track, to, on: false } => drop(relays.remove(&(track, to))),
                    _ => {}
                });
                let mut wanted = std::collections::BTreeSet::new();
                for (peer, slots) in &router.slots {
                    let shard = router.peers[peer];
                    let elsewhere = |t: &&TrackId| router.tracks.get(t).is_some_and(|p| p.home != shard);
                    wanted.extend(slots.values().filter(elsewhere).map(|t| (*t, shard)));
                }
                prop_assert_eq!(&mirrors, &wanted);
                prop_assert_eq!(&relays, &wanted);
            }
        }
    }
}
