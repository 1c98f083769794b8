//! A room, an engine and clients in virtual time: no socket, no sleep. The clients speak the real JSON to the real room, so
//! the negotiation is the real one.
use crate::heap;
use crate::network::{Conditions, Link};
use crate::tape::{RECORDING, Tape};
use exedra::engine::relay::RelayBatch;
use exedra::engine::{Command, Engine, Event, Path, Sink, Transmit};
use exedra::ids::{RecordingId, RoomId, ShardId};
use exedra::metrics::{DropReason, ShardMetrics};
use exedra::peer::LocalIdentity;
use exedra::room::shards::Router;
use exedra::room::{Claims, Grants, IdSource, Input, Output, Room, RoomLimits, RoomSettings, SocketId, messages};
use exedra::rtp::header::{Datagram, classify};
use loadtest::client::participant::Pc;
use loadtest::client::subscriber::Slot;
use loadtest::client::video::Shown;
use loadtest::client::{Epoch, Feedback, Participant, Settings, TrackConfig};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const ROOM: RoomId = RoomId(7);
const WALL_MS: u64 = 1_800_000_000_000;
/// The NTP time of the start: any will do.
const NTP: u64 = 0xe000_0000_0000_0000;
/// Everything happens on a grid of this, so that datagrams come in batches as they do to a busy server.
const GRID: Duration = Duration::from_millis(1);

pub fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
pub fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `SIM_SEED`, if it is set.
fn given_seed() -> Option<u64> {
    std::env::var("SIM_SEED").ok().and_then(|s| s.parse().ok())
}

/// As many seeds from `first` on; only the given one, if one is given.
pub fn seeds(first: u64, count: u64) -> impl Iterator<Item = u64> {
    let range = given_seed().map_or(first..first + count, |seed| seed..seed + 1);
    range.into_iter()
}

/// One certificate serves all simulated servers and clients: making one is slow, and none of this is about certificates.
fn identity() -> LocalIdentity {
    static IDENTITY: OnceLock<LocalIdentity> = OnceLock::new();
    IDENTITY.get_or_init(|| LocalIdentity::generate().expect("a certificate")).clone()
}

/// See the module. `SIM_SEED` in the environment replaces the seed of every simulation.
pub struct Sim {
    pub seed: u64,
    pub now: Instant,
    pub start: Instant,
    pub engines: Vec<Engine>,
    pub metrics: Vec<Arc<ShardMetrics>>,
    router: Router,
    /// Empty batches for what shards hand to each other.
    #[expect(clippy::vec_box, reason = "a batch changes hands as a box")]
    spare: Vec<Box<RelayBatch>>,
    pub room: Room,
    pub clients: Vec<Client>,
    /// For clients that join from now on.
    pub conditions: Conditions,
    rng: StdRng,
    queue: BinaryHeap<Reverse<Delivery>>,
    sent: u64,
    addresses: HashMap<SocketAddr, (usize, Pc)>,
    sockets: HashMap<SocketId, usize>,
    last_socket: u64,
    last_port: u16,
    joins: u8,
    /// Datagrams that were handed to somebody.
    pub delivered: u64,
    turn: Turn,
    /// What each turn of the engine was, while it is not `None`.
    pub turns: Option<Vec<Turn>>,
    /// The recording, once something is recorded.
    pub tape: Option<Tape>,
}

/// A batch of datagrams that the engine got, and what it did with them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// Media packets that came in, and that went out.
    pub packets_in: usize,
    pub packets_out: usize,
    /// There was something beside media, in or out.
    pub control: bool,
    pub allocations: u64,
}

pub struct Client {
    pub participant: Participant,
    /// From the client, and to it.
    pub up: Link,
    pub down: Link,
    socket: Option<SocketId>,
    addresses: [SocketAddr; 2],
    deadline: Option<Instant>,
    /// When the last frame arrives at the server, and at the client: a socket keeps the order.
    last_frames: [Option<Instant>; 2],
    /// Codes that the server closed sockets with.
    pub closed: Vec<u16>,
}

struct Delivery {
    at: Instant,
    order: u64,
    what: What,
}

enum What {
    Server { from: SocketAddr, bytes: Vec<u8> },
    Client { to: SocketAddr, bytes: Vec<u8> },
    TextToServer { socket: SocketId, text: String },
    TextToClient { socket: SocketId, text: Arc<str> },
    CloseToClient { socket: SocketId, code: u16 },
}

impl PartialEq for Delivery {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Delivery {}
impl PartialOrd for Delivery {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Delivery {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// A failing test prints its seed.
impl Drop for Sim {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let shards = self.engines.len();
            eprintln!("seed {} on {shards} shards at {:?} of virtual time", self.seed, self.now - self.start);
            for reason in DropReason::ALL {
                if self.dropped(*reason) > 0 {
                    eprintln!("  dropped {reason}: {}", self.dropped(*reason));
                }
            }
            for client in self.clients.iter().take(6) {
                let faults = client.participant.faults();
                faults.iter().take(2).for_each(|fault| eprintln!("  {fault}"));
                let slots = client.participant.subscriber.iter().flat_map(|s| &s.slots);
                for (slot, viewer) in
                    slots.filter_map(|s| Some((s, s.viewer()?))).filter(|(s, _)| s.track.is_some()).take(3)
                {
                    let heard = client.participant.heard.iter().rev().filter(|h| h.kind == "track.state");
                    let told = heard.map(|h| &h.data).find(|data| data["track"].as_str() == slot.track.as_deref());
                    let told = told.map(ToString::to_string);
                    let (name, shown) = (&client.participant.settings.name, viewer.shown());
                    eprintln!("  {name}: {:?} is {told:?} and shows {shown:?}, {:?}", slot.track, viewer.stats);
                }
                if std::env::var_os("SIM_TOLD").is_some() {
                    self.told(client.participant.settings.id as usize).iter().for_each(|line| eprintln!("  {line}"));
                }
            }
        }
    }
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        Self::with_limits(seed, RoomLimits::default())
    }

    pub fn with_limits(seed: u64, limits: RoomLimits) -> Self {
        let seed = given_seed().unwrap_or(seed);
        // One, two or three, so that most of what is tried here is tried across shards, too.
        let shards = std::env::var("SIM_SHARDS").ok().and_then(|s| s.parse().ok());
        Self::on_shards(seed, limits, shards.unwrap_or(1 + seed as usize % 3))
    }

    /// The room spreads over so many shards as early as it can.
    #[allow(clippy::disallowed_methods, reason = "some instant to count from")]
    pub fn on_shards(seed: u64, limits: RoomLimits, shards: usize) -> Self {
        let start = Instant::now();
        let metrics: Vec<Arc<ShardMetrics>> = (0..shards).map(|_| Arc::default()).collect();
        let engine = |(n, metrics): (usize, &Arc<ShardMetrics>)| {
            let engine = Engine::new(start, NTP, seed + n as u64, identity(), Arc::clone(metrics), 64);
            if shards > 1 { engine.on_shard(ShardId(n as u16), shards) } else { engine }
        };
        let engines = metrics.iter().enumerate().map(engine).collect();
        let mut settings = RoomSettings::new(identity().fingerprint().clone(), vec![server()]);
        settings.limits = limits;
        let (settings, ids) = (Arc::new(settings), Arc::new(IdSource::default()));
        let room = Room::new(ROOM, "demo", settings, ids, StdRng::seed_from_u64(seed), WALL_MS);
        Self {
            seed,
            now: start,
            start,
            engines,
            metrics,
            router: Router::new(ROOM, ShardId(0), shards).together(1),
            spare: Vec::new(),
            room,
            clients: Vec::new(),
            conditions: Conditions::default(),
            rng: StdRng::seed_from_u64(seed ^ 0x5eed),
            queue: BinaryHeap::new(),
            sent: 0,
            addresses: HashMap::new(),
            sockets: HashMap::new(),
            last_socket: 0,
            last_port: 10_000,
            joins: 0,
            delivered: 0,
            turn: Turn::default(),
            turns: None,
            tape: None,
        }
    }

    pub fn loss(mut self, share: f64) -> Self {
        self.conditions.loss = share;
        self
    }
    pub fn delay(mut self, delay: Duration) -> Self {
        self.conditions.delay = delay;
        self
    }
    pub fn jitter(mut self, jitter: Duration) -> Self {
        self.conditions.jitter = jitter;
        self
    }
    pub fn duplicate(mut self, share: f64) -> Self {
        self.conditions.duplicate = share;
        self
    }
    pub fn reorder(mut self, share: f64) -> Self {
        self.conditions.reorder = share;
        self
    }
    pub fn bandwidth(mut self, bits_per_second: u64) -> Self {
        self.conditions.bandwidth = Some(bits_per_second);
        self
    }

    /// Somebody who publishes these tracks comes in, and subscribes to everything. Gives their index.
    pub fn join(&mut self, publish: &[TrackConfig]) -> usize {
        self.join_with(publish, |_| {})
    }

    /// Somebody who only sends.
    pub fn join_to_publish(&mut self, publish: &[TrackConfig]) -> usize {
        self.join_with(publish, |settings| settings.subscribe = false)
    }

    /// Somebody who knows no RTX, in either direction.
    pub fn join_without_rtx(&mut self, publish: &[TrackConfig]) -> usize {
        let publish: Vec<TrackConfig> = publish.iter().cloned().map(TrackConfig::without_rtx).collect();
        self.join_with(&publish, |settings| settings.rtx = false)
    }

    /// Somebody who only watches, with one slot of each kind.
    pub fn join_with_one_slot(&mut self) -> usize {
        self.join_with(&[], |settings| settings.most_slots = (1, 1))
    }

    /// Somebody who is not like the others.
    pub fn join_with(&mut self, publish: &[TrackConfig], set: impl FnOnce(&mut Settings)) -> usize {
        let index = self.clients.len();
        let mut settings = Settings {
            room: "demo".into(),
            name: format!("client {index}"),
            id: index as u32,
            publish: publish.to_vec(),
            subscribe: true,
            most_slots: (100, 100),
            epoch: self.epoch(),
            seed: self.seed.wrapping_mul(1_000).wrapping_add(index as u64),
            identity: identity(),
            rtx: true,
            view: None,
            feedback: Feedback::TransportCc,
            mends: true,
            codecs: loadtest::client::VideoCodec::ALL.to_vec(),
            roster: true,
            stays_on: false,
        };
        set(&mut settings);
        let addresses = Pc::BOTH.map(|_| self.next_address());
        for (pc, address) in Pc::BOTH.into_iter().zip(addresses) {
            self.addresses.insert(address, (index, pc));
        }
        let mut participant = Participant::new(settings);
        // Whoever takes the index of somebody who left is told apart from them.
        participant.generation = self.joins.wrapping_mul(8);
        self.joins = self.joins.wrapping_add(1);
        self.clients.push(Client {
            participant,
            up: Link::new(self.conditions),
            down: Link::new(self.conditions),
            socket: None,
            addresses,
            deadline: None,
            last_frames: [None; 2],
            closed: Vec::new(),
        });
        self.open_socket(index);
        index
    }

    /// `count` people with a microphone and a camera each.
    pub fn join_many(&mut self, count: usize, publish: &[TrackConfig]) {
        for _ in 0..count {
            self.join(publish);
        }
    }

    pub fn epoch(&self) -> Epoch {
        Epoch { start: self.start, ntp: NTP }
    }

    /// Does something with a client, and sees to what follows.
    pub fn with<T>(&mut self, client: usize, act: impl FnOnce(&mut Participant, Instant) -> T) -> T {
        let result = act(&mut self.clients[client].participant, self.now);
        self.after_client(client);
        result
    }

    /// The client's socket is lost; the server learns of it at once.
    pub fn close_socket(&mut self, client: usize) {
        let Some(socket) = self.clients[client].socket.take() else { return };
        self.sockets.remove(&socket);
        self.clients[client].participant.socket_closed();
        self.input(Input::SocketClosed { socket });
    }

    pub fn open_socket(&mut self, client: usize) {
        self.close_socket(client);
        self.last_socket += 1;
        let socket = SocketId(self.last_socket);
        self.sockets.insert(socket, client);
        self.clients[client].socket = Some(socket);
        self.clients[client].participant.socket_opened();
        self.after_client(client);
    }

    /// No datagram passes any more, or all do again. The socket is not touched.
    pub fn set_offline(&mut self, client: usize, offline: bool) {
        let client = &mut self.clients[client];
        client.up.conditions.offline = offline;
        client.down.conditions.offline = offline;
    }

    /// The client has new addresses for both connections; what is sent to the old ones is lost.
    pub fn move_client(&mut self, client: usize) {
        for pc in Pc::BOTH {
            let address = self.next_address();
            let old = std::mem::replace(&mut self.clients[client].addresses[pc as usize], address);
            self.addresses.remove(&old);
            self.addresses.insert(address, (client, pc));
            self.with(client, |participant, now| participant.moved(now, pc));
        }
    }

    /// Leaves by its own will.
    pub fn leave(&mut self, client: usize) {
        self.with(client, |participant, _| participant.leave());
    }

    /// Drops the last client, who has left.
    pub fn forget(&mut self, client: usize) {
        assert_eq!(client + 1, self.clients.len(), "only the last one");
        self.close_socket(client);
        self.clients.pop();
        self.addresses.retain(|_, (owner, _)| *owner != client);
    }

    fn next_address(&mut self) -> SocketAddr {
        self.last_port += 1;
        SocketAddr::from(([192, 0, 2, 9], self.last_port))
    }

    // Time.

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// Lets time pass until something holds, looked at every 10 ms. Panics if that takes longer than `most`.
    pub fn run_until(&mut self, most: Duration, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let began = self.now;
        while !holds(self) {
            assert!(self.now < began + most, "{what} did not come within {most:?}");
            self.run(ms(10));
        }
        self.now - began
    }

    /// Goes to the next moment at which something happens, not beyond `end`. False if there is none.
    fn step(&mut self, end: Instant) -> bool {
        let own = [self.queue.peek().map(|Reverse(d)| d.at), self.room.poll_timeout()];
        let engines = self.engines.iter().map(Engine::poll_timeout);
        let next = own.into_iter().chain(engines).chain(self.clients.iter().map(|c| c.deadline)).flatten().min();
        let Some(next) = next.map(|at| self.on_grid(at)).filter(|at| *at <= end) else { return false };
        self.now = next;
        let mut turns = 0;
        while self.turn() {
            turns += 1;
            assert!(turns < 1_000, "something is due again and again at one moment");
        }
        assert!(turns > 0, "something is due that does nothing");
        true
    }

    fn on_grid(&self, at: Instant) -> Instant {
        let since = at.saturating_duration_since(self.start).as_nanos() as u64;
        let grid = GRID.as_nanos() as u64;
        (self.start + Duration::from_nanos(since.div_ceil(grid) * grid)).max(self.now)
    }

    /// All that is due now. False if nothing was.
    fn turn(&mut self) -> bool {
        let mut any = false;
        let mut server = false;
        while self.queue.peek().is_some_and(|Reverse(d)| d.at <= self.now) {
            let Some(Reverse(delivery)) = self.queue.pop() else { break };
            any = true;
            server |= matches!(delivery.what, What::Server { .. });
            self.deliver(delivery.what);
        }
        for engine in &mut self.engines {
            if engine.poll_timeout().is_some_and(|at| at <= self.now) {
                (any, server, self.turn.control) = (true, true, true);
                engine.handle_timeout(self.now);
            }
        }
        if server {
            self.after_engines();
        }
        if self.room.poll_timeout().is_some_and(|at| at <= self.now) {
            any = true;
            self.room.handle_timeout(self.now, self.wall_ms());
            self.after_room();
        }
        for client in 0..self.clients.len() {
            if self.clients[client].deadline.is_some_and(|at| at <= self.now) {
                any = true;
                self.clients[client].participant.handle_timeout(self.now);
                self.after_client(client);
            }
        }
        any
    }

    fn wall_ms(&self) -> u64 {
        WALL_MS + (self.now - self.start).as_millis() as u64
    }

    fn deliver(&mut self, what: What) {
        match what {
            What::Server { from, bytes } => {
                self.delivered += 1;
                let path = Path { socket: 0, remote: from, local_ip: None };
                let is_media = classify(&bytes) == Datagram::Rtp;
                self.turn.packets_in += usize::from(is_media);
                self.turn.control |= !is_media;
                // As the kernel does it: by the address, whoever lives where.
                let shard = usize::from(from.port()).wrapping_mul(0x9e37_79b1) >> 7;
                let shard = shard % self.engines.len();
                let before = heap::count();
                self.engines[shard].handle_datagram(self.now, path, &bytes);
                self.turn.allocations += heap::count() - before;
            }
            What::Client { to, bytes } => {
                let Some(&(client, pc)) = self.addresses.get(&to) else { return };
                self.delivered += 1;
                self.clients[client].participant.handle_datagram(self.now, pc, &bytes);
                self.after_client(client);
            }
            What::TextToServer { socket, text } => {
                if self.sockets.contains_key(&socket) {
                    self.take_text(socket, &text);
                }
            }
            What::TextToClient { socket, text } => {
                let Some(&client) = self.sockets.get(&socket) else { return };
                self.clients[client].participant.handle_text(self.now, &text);
                self.after_client(client);
            }
            What::CloseToClient { socket, code } => {
                let Some(client) = self.sockets.remove(&socket) else { return };
                self.clients[client].socket = None;
                self.clients[client].closed.push(code);
                self.clients[client].participant.socket_closed();
                self.input(Input::SocketClosed { socket });
            }
        }
    }

    /// A frame, as `signal` would sort it.
    fn take_text(&mut self, socket: SocketId, text: &str) {
        let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
        let input = match value["type"].as_str() {
            Some("pong") => Input::Pong { socket },
            Some("hello") => {
                let hello: messages::Hello = serde_json::from_value(value["data"].clone()).expect("a hello");
                let name = hello.name.clone().unwrap_or_default();
                let claims = Claims { identity: None, name, grants: Grants::default(), expires_ms: None };
                Input::Hello { socket, id: value["id"].as_u64().expect("an id"), hello, claims }
            }
            _ => Input::Request { socket, request: serde_json::from_str(text).expect("a request") },
        };
        self.input(input);
    }

    fn input(&mut self, input: Input) {
        self.room.handle(self.now, self.wall_ms(), input);
        self.after_room();
    }

    fn after_room(&mut self) {
        let mut commands = false;
        while let Some(output) = self.room.poll_output() {
            match output {
                Output::Engine(command) => {
                    commands = true;
                    self.route(command);
                }
                Output::Send { socket, text } => {
                    let text = text.to_string().into();
                    self.signal(socket, What::TextToClient { socket, text });
                }
                Output::Close { socket, code, .. } => self.signal(socket, What::CloseToClient { socket, code }),
                Output::Http { .. } | Output::Recording(..) | Output::Empty => {}
            }
        }
        if commands {
            self.after_engines();
        }
    }

    fn route(&mut self, command: Command) {
        let (engines, now) = (&mut self.engines, self.now);
        self.router.route(command, |shard, command| engines[usize::from(shard.0)].handle_command(now, command));
    }

    /// A command that is not the room's.
    pub fn command(&mut self, command: Command) {
        self.route(command);
        self.after_engines();
    }

    /// What the engines have to send, to each other first, and to say.
    fn after_engines(&mut self) {
        let mut out = Outgoing {
            datagrams: Vec::new(),
            relays: VecDeque::new(),
            records: Vec::new(),
            refuse: self.tape.as_ref().map_or(0, |tape| tape.refuse),
            spare: std::mem::take(&mut self.spare),
        };
        let before = heap::count();
        for engine in &mut self.engines {
            engine.flush(self.now, &mut out);
        }
        let mut rounds = 0;
        while let Some((to, mut batch)) = out.relays.pop_front() {
            self.engines[usize::from(to.0)].handle_relay(self.now, &mut batch);
            batch.clear();
            heap::uncounted(|| out.spare.push(batch));
            self.engines[usize::from(to.0)].flush(self.now, &mut out);
            rounds += 1;
            assert!(rounds < 1_000, "the shards never stop talking to each other");
        }
        self.turn.allocations += heap::count() - before;
        self.spare = out.spare;
        if let Some(tape) = &mut self.tape {
            tape.refuse = out.refuse;
        }
        self.after_records(out.records);
        let out = out.datagrams;
        let media = out.iter().filter(|(_, bytes)| classify(bytes) == Datagram::Rtp).count();
        self.turn.control |= media < out.len();
        self.turn.packets_out = media;
        let turn = std::mem::take(&mut self.turn);
        if let Some(turns) = &mut self.turns {
            turns.push(turn);
        }
        for (to, bytes) in out {
            let Some(&(client, _)) = self.addresses.get(&to) else { continue };
            let arrivals = self.clients[client].down.send(self.now, bytes.len(), &mut self.rng);
            for at in arrivals {
                self.push(at, What::Client { to, bytes: bytes.clone() });
            }
        }
        let mut events: Vec<Event> = Vec::new();
        for (shard, engine) in self.engines.iter_mut().enumerate() {
            while let Some(event) = engine.poll_event() {
                events.push(self.router.merge(ShardId(shard as u16), event));
            }
        }
        for event in events {
            self.input(Input::Engine(event));
        }
    }

    #[expect(clippy::vec_box, reason = "a batch changes hands as a box")]
    fn after_records(&mut self, records: Vec<Box<RelayBatch>>) {
        let Some(tape) = &mut self.tape else { return assert!(records.is_empty(), "nothing is recorded") };
        for mut batch in records {
            tape.take(self.now, &batch);
            batch.clear();
            self.spare.push(batch);
        }
        for command in tape.poll(self.now) {
            self.command(command);
        }
    }

    /// Sends what a client has to say, and notes when it wants to be called again.
    fn after_client(&mut self, index: usize) {
        while let Some((pc, to, bytes)) = self.clients[index].participant.poll_transmit() {
            assert_eq!(to, server());
            let client = &mut self.clients[index];
            let from = client.addresses[pc as usize];
            for at in client.up.send(self.now, bytes.len(), &mut self.rng) {
                self.push(at, What::Server { from, bytes: bytes.clone() });
            }
        }
        while let Some(text) = self.clients[index].participant.poll_text() {
            if let Some(socket) = self.clients[index].socket {
                let at = self.now + self.clients[index].up.conditions.delay;
                let at = self.clients[index].last_frames[0].map_or(at, |last| last.max(at));
                self.clients[index].last_frames[0] = Some(at);
                self.push(at, What::TextToServer { socket, text });
            }
        }
        self.clients[index].deadline = self.clients[index].participant.poll_timeout();
    }

    /// The socket loses nothing: it is as slow as the path.
    fn signal(&mut self, socket: SocketId, what: What) {
        let Some(&client) = self.sockets.get(&socket) else { return };
        let at = self.now + self.clients[client].down.conditions.delay;
        let at = self.clients[client].last_frames[1].map_or(at, |last| last.max(at));
        self.clients[client].last_frames[1] = Some(at);
        self.push(at, what);
    }

    fn push(&mut self, at: Instant, what: What) {
        self.sent += 1;
        let at = self.on_grid(at);
        self.queue.push(Reverse(Delivery { at, order: self.sent, what }));
    }

    // What is to be looked at.

    pub fn client(&self, index: usize) -> &Participant {
        &self.clients[index].participant
    }

    /// The slot of `viewer` that shows what `publisher` sends on m-line `mid`.
    pub fn slot(&self, viewer: usize, publisher: usize, mid: &str) -> Option<&Slot> {
        let track = self.client(publisher).own.get(mid)?;
        let slots = &self.client(viewer).subscriber.as_ref()?.slots;
        slots.iter().find(|s| s.track.as_ref() == Some(track))
    }

    /// True if everybody who subscribes has heard and seen everything that others publish.
    pub fn everybody_gets_everything(&self) -> bool {
        let clients = 0..self.clients.len();
        let pairs = clients.clone().flat_map(|v| clients.clone().map(move |p| (v, p))).filter(|(v, p)| v != p);
        self.clients.iter().all(|c| c.participant.own.len() == c.participant.settings.publish.len())
            && pairs.filter(|(v, _)| self.wants_all(*v)).all(|(viewer, publisher)| {
                let own = self.client(publisher).own.keys();
                own.into_iter().all(|mid| self.slot(viewer, publisher, mid).is_some_and(|s| plays(s, publisher as u32)))
            })
    }

    fn wants_all(&self, client: usize) -> bool {
        let settings = &self.client(client).settings;
        settings.subscribe && settings.most_slots.1 > 1
    }

    /// True if `viewer` sees what `publisher` has on m-line `mid`, now.
    pub fn sees(&self, viewer: usize, publisher: usize, mid: &str) -> bool {
        let last = self.slot(viewer, publisher, mid).and_then(|s| s.viewer()).and_then(|v| v.last());
        last.is_some_and(|l| l.tag.publisher == publisher as u32 && l.at + ms(150) > self.now)
    }

    /// Which layers of it `viewer` sees.
    pub fn shown(&self, viewer: usize, publisher: usize, mid: &str) -> Option<Shown> {
        let viewer = self.slot(viewer, publisher, mid).and_then(|s| s.viewer())?;
        // The lowest temporal layer alone may have few frames.
        let fresh = viewer.last().is_some_and(|l| l.tag.publisher == publisher as u32 && l.at + ms(400) > self.now);
        viewer.shown().filter(|_| fresh)
    }

    /// The last `track.state` that `viewer` was told of a track.
    pub fn state(&self, viewer: usize, publisher: usize, mid: &str) -> Option<&serde_json::Value> {
        let track = self.client(publisher).own.get(mid)?;
        let heard = self.client(viewer).heard.iter().rev();
        heard.filter(|h| h.kind == "track.state").map(|h| &h.data).find(|data| data["track"] == **track)
    }

    /// `viewer` looks at these tracks in these sizes: publisher, mid, width, height.
    pub fn look(&mut self, viewer: usize, wishes: &[(usize, &str, u16, u16)]) {
        let wish = |(publisher, mid, w, h): &(usize, &str, u16, u16)| {
            let track = self.client(*publisher).own[*mid].clone();
            (track, serde_json::json!({"w": w, "h": h}))
        };
        let tracks: serde_json::Map<_, _> = wishes.iter().map(wish).collect();
        self.with(viewer, |p, _| p.request("view", serde_json::json!({"tracks": tracks})));
    }

    /// Bytes that a client has received, of all media.
    pub fn received(&self, client: usize) -> u64 {
        self.client(client).subscriber.as_ref().map_or(0, |s| s.bytes)
    }

    /// No slot of `client` lacks a number although its path loses nothing.
    pub fn assert_no_holes(&self, client: usize) {
        for slot in self.client(client).subscriber.iter().flat_map(|s| &s.slots) {
            assert_eq!(slot.ledger.lost_for_good(), 0, "client {client}, slot {}: numbers that nobody used", slot.mid);
        }
    }

    /// What a client was told of its tracks, with the time, for whoever looks into a failure.
    pub fn told(&self, client: usize) -> Vec<String> {
        let heard = self.client(client).heard.iter().filter(|h| h.kind == "track.state");
        heard.map(|h| format!("{:?}: {}", h.at - self.start, h.data)).collect()
    }

    /// All slots of everybody.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.clients.iter().flat_map(|c| c.participant.subscriber.iter()).flat_map(|s| &s.slots)
    }

    /// Nothing that a decoder or a client would stumble over has come.
    pub fn assert_clean(&self) {
        let faults: Vec<String> = self.clients.iter().flat_map(|c| c.participant.faults()).collect();
        assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults[..faults.len().min(12)].join("\n"));
        assert!(self.metrics.iter().all(|m| m.panics.value() == 0));
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.metrics.iter().map(|m| m.dropped(reason)).sum()
    }

    /// Associations that the engines have.
    pub fn peers(&self) -> u64 {
        self.metrics.iter().map(|m| m.peers.value()).sum()
    }

    /// No video stood still for longer than `most` from `since` on, nor does it now.
    pub fn assert_no_freeze(&self, since: Instant, most: Duration) {
        for client in &self.clients {
            for slot in client.participant.subscriber.iter().flat_map(|s| &s.slots) {
                let Some(viewer) = slot.viewer() else { continue };
                let freeze = viewer.freezes.iter().find(|(at, gap)| *at >= since && *gap > most);
                let name = &client.participant.settings.name;
                let at = freeze.map(|(at, gap)| (*at - self.start, *gap));
                assert!(at.is_none(), "{name}, slot {}: froze, until {at:?} of virtual time", slot.mid);
                let waiting = viewer.waiting(self.now);
                assert!(waiting <= most, "{name}, slot {}: stands still for {waiting:?}", slot.mid);
            }
        }
    }

    /// The share of all audio frames that could not be played.
    pub fn audio_gaps(&self) -> f64 {
        let listeners = || self.slots().filter_map(|s| s.listener());
        let (gaps, played) =
            (listeners().map(|l| l.gaps()).sum::<u64>(), listeners().map(|l| l.stats.played).sum::<u64>());
        gaps as f64 / (gaps + played).max(1) as f64
    }
}

fn plays(slot: &Slot, publisher: u32) -> bool {
    match slot.viewer() {
        Some(viewer) => viewer.last().is_some_and(|l| l.tag.publisher == publisher),
        None => slot.listener().is_some_and(|l| l.stats.played > 0),
    }
}

fn server() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 7882))
}

/// What the engines send: to clients, cut into datagrams, and to each other.
struct Outgoing {
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    relays: VecDeque<(ShardId, Box<RelayBatch>)>,
    #[expect(clippy::vec_box, reason = "a batch changes hands as a box")]
    records: Vec<Box<RelayBatch>>,
    /// Batches that the recording has no room for.
    refuse: usize,
    #[expect(clippy::vec_box, reason = "a batch changes hands as a box")]
    spare: Vec<Box<RelayBatch>>,
}

impl Sink for Outgoing {
    fn transmit(&mut self, transmit: Transmit<'_>) {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let datagrams = transmit.contents.chunks(size);
        heap::uncounted(|| self.datagrams.extend(datagrams.map(|c| (transmit.path.remote, c.to_vec()))));
    }
    fn relay(&mut self, to: ShardId, batch: &mut Box<RelayBatch>) -> bool {
        heap::uncounted(|| {
            let mut empty = self.spare.pop().unwrap_or_default();
            empty.from = batch.from;
            self.relays.push_back((to, std::mem::replace(batch, empty)));
        });
        true
    }
    fn record(&mut self, to: RecordingId, batch: &mut Box<RelayBatch>) -> bool {
        assert_eq!(to, RECORDING);
        if self.refuse > 0 {
            self.refuse -= 1;
            return false;
        }
        heap::uncounted(|| {
            let mut empty = self.spare.pop().unwrap_or_default();
            empty.from = batch.from;
            self.records.push(std::mem::replace(batch, empty));
        });
        true
    }
}
