//! The rooms that are there: found by name, made on demand, gone when empty. Each runs in a task of its own (`driver`).
//!
//! Bounds: letters to a room wait in a queue of [`LETTERS`]; when it is full their sender waits, and with it the one
//! socket or request that it stands for. Engine events wait in a queue of [`EVENTS`], and must not wait longer, because
//! all rooms of a shard share the way there: when it is full, that room is ended (`4500`) and the others go on.
use super::driver;
use super::metrics::SignalMetrics;
use super::names::RoomName;
use super::outbox::Outbox;
use crate::engine::{Command, Event};
use crate::ids::{RoomId, ShardId};
use crate::recordings::{Notice, Recordings};
use crate::room::Room;
use crate::room::api::{HttpId, HttpRequest, HttpResponse, Input, Output, SocketId};
use crate::room::messages::{ApiError, ErrorCode, RoomEntry};
use crate::room::shards::Router;
use rustc_hash::FxHashMap;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc, oneshot};

/// Letters that may wait for one room.
const LETTERS: usize = 256;
/// Engine events that may wait for one room: as many as thousands of viewers whose slots all change at once make. The queue
/// takes memory for what waits, not for what might.
pub(super) const EVENTS: usize = 1 << 16;

/// A room as its task sees it: `room::Room`, or a machine of a test's own.
pub trait Machine: Send + 'static {
    fn handle(&mut self, now: Instant, wall_ms: u64, input: Input);
    fn handle_timeout(&mut self, now: Instant, wall_ms: u64);
    fn poll_timeout(&mut self) -> Option<Instant>;
    fn poll_output(&mut self) -> Option<Output>;
    /// How many participants are in it, for `/metrics`.
    fn participants(&self) -> usize;
}

impl Machine for Room {
    fn handle(&mut self, now: Instant, wall_ms: u64, input: Input) {
        Room::handle(self, now, wall_ms, input);
    }
    fn handle_timeout(&mut self, now: Instant, wall_ms: u64) {
        Room::handle_timeout(self, now, wall_ms);
    }
    fn poll_timeout(&mut self) -> Option<Instant> {
        Room::poll_timeout(self)
    }
    fn poll_output(&mut self) -> Option<Output> {
        Room::poll_output(self)
    }
    fn participants(&self) -> usize {
        Room::participants(self)
    }
}

/// Makes the machine of a new room.
pub type MakeRoom = Box<dyn Fn(RoomId, &RoomName) -> Box<dyn Machine> + Send + Sync>;

/// What a room's task gets.
pub(super) enum Letter {
    /// A `hello`, and where to write what the room answers.
    Hello {
        socket: SocketId,
        outbox: Outbox,
        input: Input,
    },
    Input(Input),
    Http {
        http: HttpId,
        request: HttpRequest,
        reply: oneshot::Sender<HttpResponse>,
    },
}

/// All rooms. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    make_room: MakeRoom,
    max_rooms: usize,
    /// One for each shard of the engine.
    engines: Vec<mpsc::Sender<Command>>,
    recordings: Recordings,
    pub metrics: Arc<SignalMetrics>,
    rooms: Mutex<Rooms>,
    rooms_changed: Notify,
    draining: AtomicBool,
    last_id: AtomicU64,
}

#[derive(Default)]
struct Rooms {
    /// Names come from the network: a seeded hasher.
    by_name: HashMap<RoomName, Arc<Entry>>,
    by_id: FxHashMap<RoomId, Arc<Entry>>,
}

/// A room, as the hub and its task share it.
pub(super) struct Entry {
    pub id: RoomId,
    pub name: RoomName,
    letters: mpsc::Sender<Letter>,
    events: mpsc::Sender<(ShardId, Event)>,
    /// Links to it: it is not dropped while there are any. Raised under the lock of `rooms` only.
    links: AtomicUsize,
    pub participants: AtomicUsize,
    /// Set to end the room whatever its state.
    stop: Mutex<Option<Stop>>,
    /// A link went, or `stop` was set.
    pub nudged: Notify,
}

/// Why a room is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Its queue of engine events overflowed.
    Overrun,
    /// The server goes away and the bound of the drain has passed.
    Shutdown,
}

/// A hold on a room, for as long as a socket or a request has business with it.
pub struct RoomLink(Arc<Entry>);

impl Hub {
    pub fn new(
        make_room: MakeRoom,
        max_rooms: usize,
        engines: Vec<mpsc::Sender<Command>>,
        recordings: Recordings,
        metrics: Arc<SignalMetrics>,
    ) -> Self {
        Self(Arc::new(Inner {
            make_room,
            max_rooms,
            engines,
            recordings,
            metrics,
            rooms: Mutex::default(),
            rooms_changed: Notify::new(),
            draining: AtomicBool::new(false),
            last_id: AtomicU64::new(0),
        }))
    }

    /// The room of this name, made if it is not there. Errors: `unavailable` while draining, `limit_reached`.
    pub fn enter(&self, name: &RoomName) -> Result<RoomLink, ApiError> {
        let mut rooms = self.0.lock();
        // Looked at under the lock, so that a drain misses no room.
        if self.is_draining() {
            return Err(going_away());
        }
        if let Some(entry) = rooms.by_name.get(name) {
            return Ok(RoomLink::new(entry));
        }
        if rooms.by_name.len() >= self.0.max_rooms {
            return Err(retryable(ErrorCode::LimitReached, "the server has as many rooms as it may", 5000));
        }
        let (entry, inbox) = self.open(name);
        rooms.by_name.insert(name.clone(), entry.clone());
        rooms.by_id.insert(entry.id, entry.clone());
        self.0.metrics.rooms_opened.fetch_add(1, Relaxed);
        let link = RoomLink::new(&entry);
        let machine = (self.0.make_room)(entry.id, name);
        drop(rooms);
        tokio::spawn(driver::run(self.clone(), entry, machine, inbox));
        Ok(link)
    }

    /// The room of this name, if it is there.
    pub fn find(&self, name: &RoomName) -> Option<RoomLink> {
        self.0.lock().by_name.get(name).map(RoomLink::new)
    }

    /// Hands an event of the engine to its room. Never waits. An event of a room that is gone is dropped: its peers are
    /// being removed anyway.
    pub fn dispatch(&self, shard: ShardId, event: Event) {
        let Some(entry) = self.0.lock().by_id.get(&event.room()).cloned() else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = entry.events.try_send((shard, event)) {
            entry.stop(Stop::Overrun);
        }
    }

    /// Tells a room what became of its recording. One that is gone does not want to know.
    pub async fn notify(&self, notice: Notice) {
        let Notice { room, recording, event } = notice;
        let link = self.0.lock().by_id.get(&room).map(RoomLink::new);
        if let Some(link) = link {
            link.send(Letter::Input(Input::Recording(recording, event))).await;
        }
    }

    pub fn recordings(&self) -> &Recordings {
        &self.0.recordings
    }

    pub fn socket_id(&self) -> SocketId {
        SocketId(self.0.next_id())
    }

    pub fn metrics(&self) -> &Arc<SignalMetrics> {
        &self.0.metrics
    }

    /// Rooms, and the participants in them.
    pub fn population(&self) -> (usize, usize) {
        let rooms = self.0.lock();
        (rooms.by_name.len(), rooms.by_name.values().map(|e| e.participants.load(Relaxed)).sum())
    }

    /// Each room, by name.
    pub fn list(&self) -> Vec<RoomEntry> {
        let rooms = self.0.lock();
        let entry = |e: &Arc<Entry>| RoomEntry { room: e.name.to_string(), participants: e.participants.load(Relaxed) };
        let mut list: Vec<RoomEntry> = rooms.by_name.values().map(entry).collect();
        drop(rooms);
        list.sort_unstable();
        list
    }

    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Relaxed)
    }

    /// Lets nobody in any more, tells every room that the server goes away, and waits until all are gone. After `within`
    /// they are ended. `url`: where clients find their room from now on.
    pub async fn drain(&self, url: Option<String>, within: Duration) {
        self.0.draining.store(true, Relaxed);
        let links: Vec<RoomLink> = self.0.lock().by_name.values().map(RoomLink::new).collect();
        let all_told = async {
            for link in links {
                link.send(Letter::Input(Input::Drain { url: url.clone() })).await;
            }
            self.until_empty().await;
        };
        if tokio::time::timeout(within, all_told).await.is_err() {
            for entry in self.0.lock().by_name.values() {
                entry.stop(Stop::Shutdown);
            }
            // The rooms' tasks need no longer than to see it.
            let _ = tokio::time::timeout(Duration::from_millis(500), self.until_empty()).await;
        }
    }

    /// Waits until no WebSocket is open any more.
    pub async fn until_sockets_closed(&self) {
        while self.0.metrics.sockets.load(Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn until_empty(&self) {
        loop {
            let changed = self.0.rooms_changed.notified();
            if self.0.lock().by_name.is_empty() {
                return;
            }
            changed.await;
        }
    }

    fn open(&self, name: &RoomName) -> (Arc<Entry>, Inbox) {
        let (letters, letters_rx) = mpsc::channel(LETTERS);
        let (events, events_rx) = mpsc::channel(EVENTS);
        let entry = Arc::new(Entry {
            id: RoomId(self.0.next_id()),
            name: name.clone(),
            letters,
            events,
            links: AtomicUsize::new(0),
            participants: AtomicUsize::new(0),
            stop: Mutex::new(None),
            nudged: Notify::new(),
        });
        (entry, Inbox { letters: letters_rx, events: events_rx })
    }

    /// The way to a shard of the engine.
    pub(super) fn engine(&self, shard: ShardId) -> Option<&mpsc::Sender<Command>> {
        self.0.engines.get(usize::from(shard.0))
    }

    /// The shards of a new room: rooms begin on one after the other.
    pub(super) fn router(&self, room: RoomId) -> Router {
        let shards = self.0.engines.len().max(1);
        Router::new(room, ShardId((room.0 % shards as u64) as u16), shards)
    }

    /// Forgets a room that nobody holds and nobody has written to. False if somebody does: it has to go on.
    pub(super) fn forget_if_idle(&self, entry: &Entry, inbox: &Inbox) -> bool {
        let mut rooms = self.0.lock();
        let idle = entry.links.load(Relaxed) == 0 && inbox.letters.is_empty();
        if idle {
            rooms.remove(entry);
            self.0.rooms_changed.notify_waiters();
        }
        idle
    }

    /// Forgets a room. Who enters it from now on gets a new one.
    pub(super) fn forget(&self, entry: &Entry) {
        self.0.lock().remove(entry);
        self.0.rooms_changed.notify_waiters();
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Relaxed) + 1
    }
}

impl Rooms {
    fn remove(&mut self, entry: &Entry) {
        if self.by_id.remove(&entry.id).is_some() {
            self.by_name.remove(&entry.name);
        }
    }
}

impl Entry {
    fn stop(&self, why: Stop) {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
        self.nudged.notify_one();
    }

    pub(super) fn stopped(&self) -> Option<Stop> {
        *self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reading ends of a room's queues.
pub(super) struct Inbox {
    pub letters: mpsc::Receiver<Letter>,
    pub events: mpsc::Receiver<(ShardId, Event)>,
}

impl RoomLink {
    /// Under the lock of `rooms`.
    fn new(entry: &Arc<Entry>) -> Self {
        entry.links.fetch_add(1, Relaxed);
        Self(entry.clone())
    }

    pub fn name(&self) -> &RoomName {
        &self.0.name
    }

    /// Waits for a place in the room's queue. False if the room has ended.
    pub(super) async fn send(&self, letter: Letter) -> bool {
        self.0.letters.send(letter).await.is_ok()
    }

    /// Asks the room for the answer to a WHIP or WHEP request, or an operator's. None if the room ended without one.
    pub async fn http(&self, hub: &Hub, request: HttpRequest) -> Option<HttpResponse> {
        let (reply, answer) = oneshot::channel();
        self.send(Letter::Http { http: HttpId(hub.0.next_id()), request, reply }).await;
        answer.await.ok()
    }
}

impl Drop for RoomLink {
    fn drop(&mut self) {
        self.0.links.fetch_sub(1, Relaxed);
        self.0.nudged.notify_one();
    }
}

pub(super) fn going_away() -> ApiError {
    retryable(ErrorCode::Unavailable, "the server is going away", 1000)
}

fn retryable(code: ErrorCode, message: &str, retry_after_ms: u64) -> ApiError {
    ApiError { code, message: message.into(), retryable: true, retry_after_ms }
}
