//! The only UDP and the only clock: a thread for each shard, with its own current-thread runtime, that turns datagrams,
//! commands and deadlines into calls of the sans-IO engine.
#![allow(clippy::disallowed_methods)] // This is where time comes from.
mod relay;
mod socket;
pub mod tap;

use crate::engine::relay::RelayBatch;
use crate::engine::{Command, Engine, Event};
use crate::ids::ShardId;
use crate::metrics::ShardMetrics;
use crate::peer::LocalIdentity;
use crate::rtp::history::HistoryBudget;
use relay::{Inbox, Neighbours};
use socket::{Socket, SocketSink};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};
use tap::{ShardTaps, Taps};
use tokio::sync::mpsc;

/// Commands that may wait for the shard. A room that fills it waits in turn (it awaits `send`).
pub const COMMAND_QUEUE: usize = 4_096;
/// Commands taken in one turn, so that a flood of them never starves the packets.
const COMMANDS_PER_TURN: usize = 256;
/// Receive calls in one turn and socket. With GRO one call is up to 32 buffers of 64 datagrams.
const RECEIVES_PER_TURN: usize = 4;
/// How long to wait before events that found no room in their queue are offered again.
const EVENT_RETRY: Duration = Duration::from_millis(5);

/// Between two turns while many are connected and nobody sends: a consent check each is no reason to wake up for each.
const IDLE_PAUSE: Duration = Duration::from_millis(10);
/// Batches of other shards taken in one turn.
const RELAYS_PER_TURN: usize = 64;

/// What the shards are started with.
pub struct ShardsConfig {
    /// Bound sockets of each shard, all shards on the same addresses in the same order: it is the `socket` index of a `Path`.
    pub sockets: Vec<Vec<std::net::UdpSocket>>,
    pub identity: LocalIdentity,
    /// Seeds the engines' random numbers (first sequence numbers, hashing of addresses).
    pub seed: u64,
    /// What retransmission histories may take, of all shards together.
    pub histories: HistoryBudget,
    /// Where the packets of recorded tracks go.
    pub taps: Taps,
    /// Where events go. When it is full, events wait in the shard and nothing is lost.
    pub events: mpsc::Sender<(ShardId, Event)>,
}

/// A running shard. It ends when the last sender of commands is dropped.
pub struct ShardHandle {
    pub commands: mpsc::Sender<Command>,
    pub metrics: Arc<ShardMetrics>,
    pub addresses: Arc<[SocketAddr]>,
    /// Datagrams that one send call may carry: 1 where the kernel has no UDP GSO.
    pub gso_segments: usize,
    pub thread: JoinHandle<()>,
}

/// Binds one UDP socket for each shard to the same address, as they want it: non-blocking, IPv6 without IPv4 inside, large buffers.
/// With port 0 the kernel chooses one for all of them.
pub fn bind(address: SocketAddr, shards: usize) -> std::io::Result<Vec<std::net::UdpSocket>> {
    socket::bind_all(address, shards)
}

/// Starts the threads `shard-0`, `shard-1` and so on.
pub fn spawn(config: ShardsConfig) -> std::io::Result<Vec<ShardHandle>> {
    let shards = config.sockets.len();
    let links = relay::connect(shards);
    let mut handles = Vec::with_capacity(shards);
    for (index, (sockets, (neighbours, relays))) in config.sockets.into_iter().zip(links).enumerate() {
        let id = ShardId(index as u16);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let metrics = Arc::new(ShardMetrics::default());
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let sockets = {
            let _context = runtime.enter();
            sockets.into_iter().map(Socket::new).collect::<std::io::Result<Vec<_>>>()?
        };
        let addresses = sockets.iter().map(Socket::local_addr).collect::<std::io::Result<Arc<[_]>>>()?;
        let gso_segments = sockets.iter().map(Socket::max_segments).min().unwrap_or(1);
        let seed = config.seed.wrapping_add(index as u64);
        let identity = config.identity.clone();
        let engine = Engine::new(Instant::now(), ntp_now(), seed, identity, Arc::clone(&metrics), gso_segments);
        let engine = engine.within(config.histories.clone());
        let shard = Shard {
            id,
            engine: if shards > 1 { engine.on_shard(id, shards) } else { engine },
            sockets,
            commands: receiver,
            relays,
            neighbours,
            taps: config.taps.of_shard(),
            events: config.events.clone(),
            metrics: Arc::clone(&metrics),
        };
        let thread = std::thread::Builder::new();
        let thread = thread.name(format!("shard-{index}")).spawn(move || runtime.block_on(shard.run()))?;
        handles.push(ShardHandle { commands, metrics, addresses, gso_segments, thread });
    }
    Ok(handles)
}

struct Shard {
    id: ShardId,
    engine: Engine,
    sockets: Vec<Socket>,
    commands: mpsc::Receiver<Command>,
    /// What other shards hand over, and the way to them.
    relays: Inbox,
    neighbours: Neighbours,
    taps: ShardTaps,
    events: mpsc::Sender<(ShardId, Event)>,
    metrics: Arc<ShardMetrics>,
}

enum Wake {
    Readable,
    Command(Option<Command>),
    Relay(Box<RelayBatch>),
    Deadline,
}

impl Shard {
    async fn run(mut self) {
        let mut events_wait = false;
        loop {
            if self.engine.is_idle(Instant::now()) {
                // The thread itself, which does nothing else: a timer of the runtime would be woken by every datagram all the same.
                std::thread::sleep(IDLE_PAUSE);
            }
            let wake = self.wait(events_wait).await;
            let began = Instant::now();
            match wake {
                Wake::Command(None) => return,
                Wake::Command(Some(command)) => self.guard(|engine, _| engine.handle_command(began, command)),
                Wake::Relay(batch) => self.take_relay(batch),
                Wake::Readable | Wake::Deadline => {}
            }
            self.turn(began);
            events_wait = !self.deliver_events();
            let nanos = began.elapsed().as_nanos() as u64;
            self.metrics.loops.add(1);
            self.metrics.loop_nanos.add(nanos);
            self.metrics.loop_nanos_max.set(self.metrics.loop_nanos_max.value().max(nanos));
        }
    }

    async fn wait(&mut self, events_wait: bool) -> Wake {
        let now = Instant::now();
        let retry = events_wait.then(|| now + EVENT_RETRY);
        let deadline = self.engine.poll_timeout().into_iter().chain(retry).min();
        let deadline = tokio::time::Instant::from_std(deadline.unwrap_or(now + Duration::from_secs(3_600)));
        let sockets = &self.sockets;
        let readable = poll_fn(|context| {
            let any = sockets.iter().any(|socket| socket.poll_readable(context).is_ready());
            if any { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            biased;
            () = readable => Wake::Readable,
            Some(batch) = self.relays.recv() => Wake::Relay(batch),
            command = self.commands.recv() => Wake::Command(command),
            () = tokio::time::sleep_until(deadline) => Wake::Deadline,
        }
    }

    /// Everything that is there to do now: what arrived, what was commanded, what is due; then what is to be sent.
    fn turn(&mut self, now: Instant) {
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(command) = self.commands.try_recv() else { break };
            self.guard(|engine, _| engine.handle_command(now, command));
        }
        for _ in 0..RELAYS_PER_TURN {
            let Some(batch) = self.relays.try_recv() else { break };
            self.take_relay(batch);
        }
        for index in 0..self.sockets.len() {
            for _ in 0..RECEIVES_PER_TURN {
                let Some(batch) = self.sockets[index].receive(&self.metrics) else { break };
                self.handle_batch(index, batch);
                self.flush();
            }
        }
        let now = Instant::now();
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.guard(|engine, _| engine.handle_timeout(now));
        }
        self.flush();
    }

    /// Takes what another shard handed over, and gives the batch back to it.
    fn take_relay(&mut self, mut batch: Box<RelayBatch>) {
        let batch_ref = &mut batch;
        self.guard(|engine, _| engine.handle_relay(Instant::now(), batch_ref));
        self.neighbours.give_back(batch);
    }

    fn handle_batch(&mut self, index: usize, buffers: usize) {
        let now = Instant::now();
        let Self { sockets, engine, .. } = self;
        let mut next = Some((0, 0));
        // A panic ends one room; the datagrams behind the one that caused it are taken up again.
        while let Some(from) = next {
            let mut at = from;
            let batch = sockets[index].datagrams(buffers, from);
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for (position, path, datagram) in batch {
                    at = position;
                    engine.handle_datagram(now, path.on(index), datagram);
                }
            }));
            next = match done {
                Ok(()) => None,
                Err(_) => {
                    engine.contain_panic(now);
                    Some((at.0, at.1 + 1))
                }
            };
        }
    }

    fn flush(&mut self) {
        self.guard(|engine, sink| engine.flush(Instant::now(), sink));
    }

    /// Runs a call of the engine. A panic in it ends the room that it was about, and no other.
    fn guard(&mut self, call: impl FnOnce(&mut Engine, &mut SocketSink<'_>)) {
        let mut sink = SocketSink::new(&self.sockets, &self.metrics, &mut self.neighbours, &mut self.taps);
        let engine = &mut self.engine;
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call(engine, &mut sink))).is_err() {
            engine.contain_panic(Instant::now());
        }
    }

    /// Hands events to the rooms. False if some had to wait.
    fn deliver_events(&mut self) -> bool {
        while self.engine.has_events() {
            let Ok(permit) = self.events.try_reserve() else { return self.events.is_closed() };
            match self.engine.poll_event() {
                Some(event) => permit.send((self.id, event)),
                None => break,
            }
        }
        true
    }
}

/// The time as NTP has it: seconds since 1900 in 32.32 fixed point (RFC 3550 section 4).
fn ntp_now() -> u64 {
    const SECONDS_1900_TO_1970: u64 = 2_208_988_800;
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    ((since_1970.as_secs() + SECONDS_1900_TO_1970) << 32)
        + ((u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000)
}
