//! A participant: the room API on one side, the two connections on the other.
use super::feedback::Feedback;
use super::meter::Meter;
use super::payload::VideoCodec;
use super::publisher::Publisher;
use super::sdp::{self, Head, Media};
use super::subscriber::Subscriber;
use super::track::TrackConfig;
use super::transport::Transport;
use super::{Epoch, earliest, ms};
use exedra::peer::LocalIdentity;
use exedra::rtp::header::{Datagram, classify};
use exedra::rtp::{Kind, Ssrc};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How often the connections are looked after.
const REVIEW: Duration = ms_const(500);
/// Between two attempts to mend a lost connection.
const MEND: Duration = ms_const(4_000);
/// After so many ICE restarts without success a connection is built anew.
const RESTARTS: u32 = 2;
/// Notes of what went wrong that are kept.
const MAX_PROBLEMS: usize = 64;
/// Events that are kept as they came.
const REMEMBERED: [&str; 4] = ["track.state", "slot.bind", "publish.layers", "quality"];
const MAX_HEARD: usize = 4_096;

const fn ms_const(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// One of the two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pc {
    Pub,
    Sub,
}

impl Pc {
    pub const BOTH: [Pc; 2] = [Pc::Pub, Pc::Sub];
    fn name(self) -> &'static str {
        match self {
            Pc::Pub => "pub",
            Pc::Sub => "sub",
        }
    }
}

/// Who a participant is and what it does.
#[derive(Clone)]
pub struct Settings {
    pub room: String,
    pub name: String,
    /// Marks its media.
    pub id: u32,
    pub publish: Vec<TrackConfig>,
    pub subscribe: bool,
    pub epoch: Epoch,
    pub seed: u64,
    /// May be shared by many: making one costs a millisecond.
    pub identity: LocalIdentity,
    /// Offer no more slots than this: audio, video.
    pub most_slots: (usize, usize),
    /// Send also what nobody looks at.
    pub stays_on: bool,
    /// Take lost packets again as RTX, else under their own number.
    pub rtx: bool,
    /// What it tells the server of the path to it.
    pub feedback: Feedback,
    /// Restart ICE, or build connections anew, when they are lost.
    pub mends: bool,
    /// Video codecs that it can receive, the best first.
    pub codecs: Vec<VideoCodec>,
    /// What it says that it sees of every video, in pixels; `None`: it says nothing.
    pub view: Option<(u16, u16)>,
    /// Keep a list of who is in the room. It costs time for each who comes and goes.
    pub roster: bool,
}

/// See the module. `handle_*` takes what happened, `poll_*` gives what is to be done, until there is none.
pub struct Participant {
    pub settings: Settings,
    rng: SmallRng,
    pub publisher: Option<Publisher>,
    pub subscriber: Option<Subscriber>,
    links: [Link; 2],
    session: Option<(String, String)>,
    /// The last event that was applied.
    pub seq: u64,
    /// One's own id, from the welcome.
    pub participant: Option<String>,
    next_id: u64,
    unanswered: BTreeMap<u64, Asked>,
    out: VecDeque<String>,
    need: (usize, usize),
    /// All tracks of the room, by id, as the server tells them.
    pub tracks: BTreeMap<String, Value>,
    /// Participants of the room, by id.
    pub participants: BTreeMap<String, Value>,
    /// One's own tracks: by mid.
    pub own: BTreeMap<String, String>,
    /// The last `track.state` of each track.
    pub states: BTreeMap<String, String>,
    /// Event types that came, counted.
    pub events: BTreeMap<String, u64>,
    /// What was told of layers and quality, and when; only with a roster.
    pub heard: Vec<Heard>,
    /// What the server last answered to `stats`.
    pub stats: Option<Value>,
    /// Answers that were refused, and whatever else should not have happened.
    pub problems: Vec<String>,
    pub said: u64,
    pub joined_at: Option<Instant>,
    next_review: Option<Instant>,
    /// Tracks came or went since it was said what is looked at.
    view_stale: bool,
    socket_open: bool,
    /// The hello on this socket has been answered.
    welcomed: bool,
    /// What the last welcome said: whether it is the session of before.
    resumed: bool,
    /// Counts the publishers that are built: their media is told apart.
    pub generation: u8,
    /// Of callers without one.
    meter: Option<Box<Meter>>,
}

/// What is read of every frame of the socket, without copies.
#[derive(serde::Deserialize)]
struct Envelope<'a> {
    id: Option<u64>,
    seq: Option<u64>,
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
}

/// An event of the room, as it came.
pub struct Heard {
    pub at: Instant,
    pub kind: String,
    pub data: Value,
}

#[derive(Default)]
struct Link {
    rev: u64,
    version: u64,
    session: u64,
    /// The server's SDP session.
    answered: Option<String>,
    /// An offer is on its way; another is to follow.
    busy: bool,
    again: bool,
    mended_at: Option<Instant>,
    restarts: u32,
}

struct Asked {
    text: String,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Hello,
    Negotiate(Pc),
    Stats,
    Other,
}

impl Participant {
    pub fn new(settings: Settings) -> Self {
        let rng = SmallRng::seed_from_u64(settings.seed);
        Self {
            settings,
            rng,
            publisher: None,
            subscriber: None,
            links: Default::default(),
            session: None,
            seq: 0,
            participant: None,
            next_id: 0,
            unanswered: BTreeMap::new(),
            out: VecDeque::new(),
            need: (0, 0),
            tracks: BTreeMap::new(),
            participants: BTreeMap::new(),
            own: BTreeMap::new(),
            states: BTreeMap::new(),
            events: BTreeMap::new(),
            heard: Vec::new(),
            stats: None,
            problems: Vec::new(),
            said: 0,
            joined_at: None,
            next_review: None,
            view_stale: false,
            socket_open: false,
            welcomed: false,
            resumed: false,
            generation: 0,
            meter: None,
        }
    }

    /// A socket to the server is open: says hello, and comes back to its session if it has one.
    pub fn socket_opened(&mut self) {
        (self.socket_open, self.welcomed) = (true, false);
        self.out.clear();
        self.unanswered.retain(|_, asked| asked.what != What::Hello);
        let resume = self.session.as_ref();
        let resume = resume.map(|(session, secret)| json!({"session": session, "secret": secret, "seq": self.seq}));
        let mut data = json!({"room": self.settings.room, "name": self.settings.name, "client": "loadtest"});
        if let Some(resume) = resume {
            data["resume"] = resume;
        }
        self.ask("hello", data, What::Hello);
    }

    pub fn socket_closed(&mut self) {
        (self.socket_open, self.welcomed) = (false, false);
        self.out.clear();
    }

    /// Whether this socket goes on with the session of before; none until the server has said so.
    pub fn resumed(&self) -> Option<bool> {
        self.welcomed.then_some(self.resumed)
    }

    /// Sends a request. Its answer is only looked at if it is refused; that to `stats` is kept.
    pub fn request(&mut self, kind: &str, data: Value) {
        self.ask(kind, data, if kind == "stats" { What::Stats } else { What::Other });
    }

    /// Mutes or unmutes one's own track on this m-line.
    pub fn mute(&mut self, mid: &str, muted: bool) {
        let Some(track) = self.own.get(mid).cloned() else { return };
        if let Some(publisher) = &mut self.publisher {
            publisher.set_muted(mid, muted);
        }
        self.request("track", json!({"track": track, "muted": muted}));
    }

    /// Publishes one more track.
    pub fn publish(&mut self, now: Instant, track: TrackConfig) {
        self.settings.publish.push(track.clone());
        match &mut self.publisher {
            Some(publisher) => publisher.add(&mut self.rng, track),
            None => self.build(Pc::Pub),
        }
        self.negotiate(now, Pc::Pub);
    }

    /// Stops publishing what is on this m-line.
    pub fn unpublish(&mut self, now: Instant, mid: &str) {
        if let Some(publisher) = &mut self.publisher {
            publisher.stop(mid);
        }
        self.negotiate(now, Pc::Pub);
    }

    /// The local address of a connection has changed.
    pub fn moved(&mut self, now: Instant, pc: Pc) {
        if let Some(transport) = self.transport_mut(pc) {
            transport.moved(now);
        }
    }

    pub fn restart_ice(&mut self, now: Instant, pc: Pc) {
        if let Some(transport) = self.transport_mut(pc) {
            transport.renew_credentials();
            self.negotiate(now, pc);
        }
    }

    /// Sends an RTCP compound of one's own making.
    pub fn send_rtcp(&mut self, pc: Pc, compound: &[u8]) {
        if let Some(transport) = self.transport_mut(pc) {
            transport.send_rtcp(compound);
        }
    }

    /// Leaves the room.
    pub fn leave(&mut self) {
        self.request("leave", json!({}));
    }

    /// Whether media can flow on all connections that there should be.
    pub fn is_connected(&self, now: Instant) -> bool {
        Pc::BOTH.into_iter().all(|pc| self.transport(pc).is_none_or(|t| t.is_connected(now)))
            && (self.publisher.is_some() || self.settings.publish.is_empty())
    }

    pub fn transport(&self, pc: Pc) -> Option<&Transport> {
        match pc {
            Pc::Pub => self.publisher.as_ref().map(|p| &p.transport),
            Pc::Sub => self.subscriber.as_ref().map(|s| &s.transport),
        }
    }

    fn transport_mut(&mut self, pc: Pc) -> Option<&mut Transport> {
        match pc {
            Pc::Pub => self.publisher.as_mut().map(|p| &mut p.transport),
            Pc::Sub => self.subscriber.as_mut().map(|s| &mut s.transport),
        }
    }

    /// All that is wrong with what was received, so far.
    pub fn faults(&self) -> Vec<String> {
        let slots = self.subscriber.iter().flat_map(|s| &s.slots).flat_map(|s| s.faults.iter().cloned());
        let name = &self.settings.name;
        slots.chain(self.problems.iter().cloned()).map(|fault| format!("{name}: {fault}")).collect()
    }

    fn problem(&mut self, what: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(what);
        }
    }

    // What goes to the server.

    pub fn poll_text(&mut self) -> Option<String> {
        self.out.pop_front()
    }

    pub fn poll_transmit(&mut self) -> Option<(Pc, SocketAddr, Vec<u8>)> {
        Pc::BOTH.into_iter().find_map(|pc| {
            let transport = self.transport_mut(pc)?;
            let remote = transport.remote()?;
            transport.poll_transmit().map(|datagram| (pc, remote, datagram))
        })
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        earliest([
            self.publisher.as_ref().and_then(Publisher::poll_timeout),
            self.subscriber.as_ref().and_then(Subscriber::poll_timeout),
            self.next_review,
        ])
    }

    // What happens.

    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(publisher) = &mut self.publisher {
            publisher.handle_timeout(now);
        }
        if let Some(subscriber) = &mut self.subscriber {
            subscriber.handle_timeout(now);
        }
        if self.next_review.is_some_and(|at| at <= now) {
            self.next_review = Some(now + REVIEW);
            Pc::BOTH.into_iter().for_each(|pc| self.review(now, pc));
            if std::mem::take(&mut self.view_stale) {
                self.say_view();
            }
        }
    }

    /// Says in which size everything is looked at.
    fn say_view(&mut self) {
        let Some((width, height)) = self.settings.view else { return };
        let own = |track: &str| self.own.values().any(|id| id == track);
        let videos = self.tracks.iter().filter(|(id, track)| track["kind"] == "video" && !own(id));
        let wishes = videos.map(|(id, _)| (id.clone(), json!({"w": width, "h": height})));
        let tracks: serde_json::Map<String, Value> = wishes.collect();
        if !tracks.is_empty() {
            self.request("view", json!({"tracks": tracks}));
        }
    }

    pub fn handle_datagram(&mut self, now: Instant, pc: Pc, datagram: &[u8]) {
        let mut meter = self.meter.take().unwrap_or_default();
        self.receive(now, pc, datagram, &mut meter);
        self.meter = Some(meter);
    }

    /// As [`handle_datagram`](Self::handle_datagram), with counters and buffers that many participants share.
    pub fn receive(&mut self, now: Instant, pc: Pc, datagram: &[u8], meter: &mut Meter) {
        // Media first: there is a thousand times more of it than of anything else.
        if pc == Pc::Sub && classify(datagram) == Datagram::Rtp {
            if let Some(subscriber) = &mut self.subscriber {
                subscriber.handle_rtp(now, datagram, meter);
            }
            return;
        }
        let Some(transport) = self.transport_mut(pc) else { return };
        if transport.handle_datagram(now, datagram) != Datagram::Rtcp {
            return;
        }
        let Some(inbound) = transport.inbound() else { return };
        let mut opened = [0; 2_048];
        let Ok(len) = inbound.open_rtcp(datagram, &mut opened) else { return };
        match (pc, &mut self.publisher, &mut self.subscriber) {
            (Pc::Pub, Some(publisher), _) => publisher.handle_rtcp(now, &opened[..len]),
            (Pc::Sub, _, Some(subscriber)) => subscriber.handle_rtcp(now, &opened[..len]),
            _ => {}
        }
    }

    /// A frame of the socket.
    pub fn handle_text(&mut self, now: Instant, text: &str) {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text) else {
            return self.problem(format!("not a message: {text}"));
        };
        let value = || serde_json::from_str::<Value>(text).unwrap_or_default();
        let kind = envelope.kind.as_deref().unwrap_or_default();
        if kind == "ping" {
            self.out.push_back(json!({"type": "pong", "t": value()["t"]}).to_string());
        } else if let Some(id) = envelope.id {
            self.answered(now, id, &value());
        } else if let Some(seq) = envelope.seq {
            if seq != self.seq + 1 {
                self.problem(format!("event {seq} after {}", self.seq));
            }
            self.seq = seq;
            match self.events.get_mut(kind) {
                Some(count) => *count += 1,
                None => _ = self.events.insert(kind.to_owned(), 1),
            }
            // Who comes and goes is most of what is told in a large room.
            if self.settings.roster || self.concerns(kind) {
                self.told(now, kind, &value()["data"]);
            }
        }
    }

    /// Whether an event means something to somebody who keeps no roster.
    fn concerns(&self, kind: &str) -> bool {
        !kind.starts_with("participant.") && !matches!(kind, "speakers" | "quality" | "room.updated")
    }

    fn answered(&mut self, now: Instant, id: u64, message: &Value) {
        let Some(asked) = self.unanswered.remove(&id) else {
            return self.problem(format!("an answer to nothing: {message}"));
        };
        if message["ok"] != true {
            let error = &message["error"];
            if error["retryable"] == true {
                // Taken up again when there is another reason to speak.
                self.unanswered.insert(id, asked);
                return;
            }
            if let What::Negotiate(pc) = asked.what {
                self.links[pc as usize].busy = false;
            }
            return self.problem(format!("refused: {error} to {}", asked.text.chars().take(120).collect::<String>()));
        }
        let data = &message["data"];
        match asked.what {
            What::Hello => self.welcomed(now, data),
            What::Negotiate(pc) => self.negotiated(now, pc, data),
            What::Stats => self.stats = Some(data.clone()),
            What::Other => {}
        }
    }

    fn welcomed(&mut self, now: Instant, data: &Value) {
        let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
        self.welcomed = true;
        self.joined_at.get_or_insert(now);
        self.next_review.get_or_insert(now + REVIEW);
        self.session = Some((text("session"), text("secret")));
        self.participant = Some(text("participant"));
        let resumed = data["resumed"] == true;
        self.resumed = resumed;
        if resumed && data.get("snapshot").is_none() && data["seq"] != self.seq {
            self.problem(format!("resumed at {} instead of {}", data["seq"], self.seq));
        }
        self.seq = data["seq"].as_u64().unwrap_or_default();
        if let Some(snapshot) = data.get("snapshot") {
            self.take_snapshot(snapshot);
        }
        if !resumed {
            // Nothing of an older session is known any more.
            self.unanswered.clear();
            self.own.clear();
            (self.publisher, self.subscriber, self.links) = (None, None, Default::default());
            if !self.settings.publish.is_empty() {
                self.build(Pc::Pub);
                self.negotiate(now, Pc::Pub);
            }
            if self.settings.subscribe {
                self.build(Pc::Sub);
                self.offer_slots(now);
            }
            return;
        }
        let repeated: Vec<String> = self.unanswered.values().map(|asked| asked.text.clone()).collect();
        self.out.extend(repeated);
        self.offer_slots(now);
    }

    fn take_snapshot(&mut self, snapshot: &Value) {
        let by_id = |list: &Value, key: &str| -> BTreeMap<String, Value> {
            let entries = list.as_array().into_iter().flatten();
            entries.filter_map(|v| Some((v[key].as_str()?.to_owned(), v.clone()))).collect()
        };
        self.tracks = by_id(&snapshot["tracks"], "track");
        self.view_stale = true;
        if self.settings.roster {
            self.participants = by_id(&snapshot["participants"], "participant");
        }
        self.note_need(&snapshot["slots"]["need"]);
        let bindings = snapshot["slots"]["bindings"].as_array().cloned().unwrap_or_default();
        for binding in bindings {
            self.bound(&binding);
        }
        let layers = snapshot["layers"].as_array().cloned().unwrap_or_default();
        for wanted in layers {
            self.layers(&wanted);
        }
    }

    fn told(&mut self, now: Instant, kind: &str, data: &Value) {
        if self.settings.roster && REMEMBERED.contains(&kind) && self.heard.len() < MAX_HEARD {
            self.heard.push(Heard { at: now, kind: kind.to_owned(), data: data.clone() });
        }
        let id = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
        match kind {
            "participant.joined" | "participant.updated" => {
                self.participants.insert(id("participant"), data.clone());
            }
            "participant.left" => {
                self.participants.remove(&id("participant"));
            }
            "track.published" | "track.updated" => {
                if data["muted"] == true {
                    self.rest(&id("track"));
                }
                self.tracks.insert(id("track"), data.clone());
                self.view_stale = true;
            }
            "track.unpublished" => {
                self.rest(&id("track"));
                self.tracks.remove(&id("track"));
                self.states.remove(&id("track"));
            }
            "track.state" => {
                if data["state"] != "live" {
                    self.rest(&id("track"));
                }
                self.states.insert(id("track"), id("state"));
            }
            "slots.need" => {
                self.note_need(data);
                self.offer_slots(now);
            }
            "slot.bind" => self.bound(data),
            "publish.layers" if !self.settings.stays_on => self.layers(data),
            "message" => self.said += 1,
            "bye" if data["action"] != "resume" => self.session = None,
            _ => {}
        }
    }

    fn note_need(&mut self, need: &Value) {
        let of = |key: &str| need[key].as_u64().unwrap_or_default() as usize;
        let most = self.settings.most_slots;
        self.need = (of("audio").max(self.need.0).min(most.0), of("video").max(self.need.1).min(most.1));
    }

    fn bound(&mut self, binding: &Value) {
        let mid = binding["mid"].as_str().unwrap_or_default();
        let Some(slot) = self.subscriber.as_mut().and_then(|s| s.slot_mut(mid)) else { return };
        let track = binding["track"].as_str().map(str::to_owned);
        if slot.track != track {
            slot.rebind(track);
        }
    }

    /// Nothing is expected of a track for a while.
    fn rest(&mut self, track: &str) {
        let slots = self.subscriber.iter_mut().flat_map(|s| &mut s.slots);
        slots.filter(|s| s.track.as_deref() == Some(track)).for_each(|s| s.rest());
    }

    fn layers(&mut self, data: &Value) {
        let wanted = data["wanted"].as_array().into_iter().flatten().filter_map(|r| r.as_str().map(str::to_owned));
        let wanted: Vec<String> = wanted.collect();
        let active = data["active"] != false;
        let mid = self.own.iter().find(|(_, track)| Some(track.as_str()) == data["track"].as_str()).map(|(mid, _)| mid);
        if let (Some(mid), Some(publisher)) = (mid, &mut self.publisher) {
            publisher.set_wanted(mid, active, &wanted);
        }
    }

    // Negotiation.

    fn build(&mut self, pc: Pc) {
        let transport = Transport::new(&self.settings.identity, SmallRng::seed_from_u64(self.rng.random()));
        let (epoch, link) = (self.settings.epoch, &mut self.links[pc as usize]);
        link.session = self.rng.random::<u64>() >> 2;
        link.answered = None;
        match pc {
            Pc::Pub => {
                let tracks = &self.settings.publish;
                let id = (self.settings.id, self.generation);
                self.generation = self.generation.wrapping_add(1);
                self.publisher = Some(Publisher::new(transport, id, epoch, &mut self.rng, tracks));
            }
            Pc::Sub => {
                let (ssrc, settings) = (Ssrc(self.rng.random()), &self.settings);
                let told = (settings.rtx, settings.feedback);
                self.subscriber = Some(Subscriber::new(transport, epoch, ssrc, told, &settings.codecs));
            }
        }
    }

    /// An offer for a connection without a room: for WHIP (`Pub`) and WHEP (`Sub`, with one slot of each kind).
    pub fn offer_alone(&mut self, _now: Instant, pc: Pc) -> String {
        self.build(pc);
        if let (Pc::Sub, Some(subscriber)) = (pc, &mut self.subscriber) {
            subscriber.want(1, 1);
        }
        self.offer(pc).unwrap_or_default()
    }

    /// Takes the answer to [`offer_alone`](Self::offer_alone). Says what is wrong with it.
    pub fn take_answer_alone(&mut self, now: Instant, pc: Pc, sdp: &str) -> Result<(), String> {
        let answer = sdp::read_answer(sdp).map_err(|what| format!("answer: {what}"))?;
        self.joined_at.get_or_insert(now);
        if let Some(transport) = self.transport_mut(pc) {
            transport.set_answer(now, &answer);
        }
        match (pc, &mut self.publisher, &mut self.subscriber) {
            (Pc::Pub, Some(publisher), _) => publisher.set_answer(&answer.media),
            (Pc::Sub, _, Some(subscriber)) => subscriber.set_answer(&answer.media)?,
            _ => {}
        }
        Ok(())
    }

    /// The text of the next offer.
    fn offer(&self, pc: Pc) -> Option<String> {
        let link = &self.links[pc as usize];
        let media: Vec<Media> = match pc {
            Pc::Pub => self.publisher.as_ref().map(Publisher::media).unwrap_or_default(),
            Pc::Sub => self.subscriber.as_ref().map(Subscriber::media).unwrap_or_default(),
        };
        let transport = self.transport(pc)?;
        let (session, version) = (link.session, link.version);
        let head = Head { session, version, ice: transport.credentials(), fingerprint: transport.fingerprint() };
        Some(sdp::offer(&head, &media))
    }

    /// Offers as many slots as are needed, if there are fewer.
    fn offer_slots(&mut self, now: Instant) {
        let (audio, video) = self.need;
        let Some(subscriber) = &mut self.subscriber else { return };
        let count = |slots: &[super::subscriber::Slot], kind| slots.iter().filter(|s| s.kind == kind).count();
        if count(&subscriber.slots, Kind::Audio) < audio || count(&subscriber.slots, Kind::Video) < video {
            subscriber.want(audio, video);
            self.negotiate(now, Pc::Sub);
        }
    }

    /// Sends an offer, or will when the answer to the last one is there.
    pub fn negotiate(&mut self, _now: Instant, pc: Pc) {
        let link = &mut self.links[pc as usize];
        if std::mem::replace(&mut link.busy, true) {
            link.again = true;
            return;
        }
        (link.rev, link.version) = (link.rev + 1, link.version + 1);
        let rev = link.rev;
        let Some(offer) = self.offer(pc) else { return };
        let mut data = json!({"pc": pc.name(), "rev": rev, "sdp": offer});
        if let (Pc::Pub, Some(publisher)) = (pc, &self.publisher) {
            data["tracks"] = publisher.offers().into();
        }
        self.ask("negotiate", data, What::Negotiate(pc));
    }

    fn negotiated(&mut self, now: Instant, pc: Pc, data: &Value) {
        self.links[pc as usize].busy = false;
        let answer = match sdp::read_answer(data["sdp"].as_str().unwrap_or_default()) {
            Ok(answer) => answer,
            Err(what) => return self.problem(format!("answer: {what}")),
        };
        let known = self.links[pc as usize].answered.replace(answer.session.clone());
        if known.is_some_and(|known| known != answer.session) {
            // The server had given this connection up: it knows nothing of our DTLS, so both begin anew.
            return self.rebuild(now, pc);
        }
        if let Some(transport) = self.transport_mut(pc) {
            transport.set_answer(now, &answer);
        }
        match pc {
            Pc::Pub => {
                for track in data["tracks"].as_array().into_iter().flatten() {
                    let text = |key: &str| track[key].as_str().unwrap_or_default().to_owned();
                    self.own.insert(text("mid"), text("track"));
                }
                if let Some(publisher) = &mut self.publisher {
                    publisher.set_answer(&answer.media);
                }
            }
            Pc::Sub => {
                if let Some(Err(what)) = self.subscriber.as_mut().map(|s| s.set_answer(&answer.media)) {
                    self.problem(what);
                }
            }
        }
        if std::mem::take(&mut self.links[pc as usize].again) {
            self.negotiate(now, pc);
        }
    }

    /// Mends a connection that is lost: by ICE restarts first, then by building it anew.
    fn review(&mut self, now: Instant, pc: Pc) {
        if !self.settings.mends || !self.socket_open {
            return;
        }
        let Some(transport) = self.transport(pc) else { return };
        let (failed, never) = (transport.failed, transport.connected_at.is_none());
        let healthy = transport.is_connected(now) && !failed;
        let link = &mut self.links[pc as usize];
        if healthy {
            link.restarts = 0;
            return;
        }
        let paused = link.mended_at.is_some_and(|at| now.saturating_duration_since(at) < MEND);
        let too_soon = never && self.joined_at.is_some_and(|at| now.saturating_duration_since(at) < ms(10_000));
        if paused || too_soon || link.busy {
            return;
        }
        (link.mended_at, link.restarts) = (Some(now), link.restarts + 1);
        if failed || link.restarts > RESTARTS {
            link.restarts = 0;
            return self.rebuild(now, pc);
        }
        self.restart_ice(now, pc);
    }

    /// A new connection in place of one that is lost, under a new certificate.
    pub fn rebuild(&mut self, now: Instant, pc: Pc) {
        if let Ok(identity) = LocalIdentity::generate() {
            self.settings.identity = identity;
        }
        let tracks: Vec<Option<String>> =
            self.subscriber.iter().flat_map(|s| &s.slots).map(|s| s.track.clone()).collect();
        self.build(pc);
        if let (Pc::Sub, Some(subscriber)) = (pc, &mut self.subscriber) {
            subscriber.want(self.need.0, self.need.1);
            subscriber.slots.iter_mut().zip(tracks).for_each(|(slot, track)| slot.track = track);
        }
        self.negotiate(now, pc);
    }

    fn ask(&mut self, kind: &str, data: Value, what: What) {
        self.next_id += 1;
        let text = json!({"id": self.next_id, "type": kind, "data": data}).to_string();
        // What is asked before the welcome goes out after it, with what else has no answer yet.
        if self.socket_open && (self.welcomed || what == What::Hello) {
            self.out.push_back(text.clone());
        }
        self.unanswered.insert(self.next_id, Asked { text, what });
    }
}
