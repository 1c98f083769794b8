//! The task around one room: facts in, outputs carried out. A panic of the room ends here.
use super::clock;
use super::close::{CloseCode, GOING_AWAY, INTERNAL};
use super::hub::{Entry, Hub, Inbox, Letter, Machine, Stop, going_away};
use super::outbox::Outbox;
use crate::engine::{Command, Event};
use crate::ids::{RecordingId, ShardId};
use crate::room::api::{
    HttpId, HttpRequest, HttpResponse, Input, Output, RecordingCommand, RecordingEvent, RecordingStop, SocketId,
};
use crate::room::shards::Router;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use tokio::sync::oneshot;
use tracing::Instrument;

/// Engine events handled in one turn.
const CROWD: usize = 256;

/// Runs a room until nobody is in it, or until it has to end.
pub(super) async fn run(hub: Hub, entry: Arc<Entry>, machine: Box<dyn Machine>, inbox: Inbox) {
    let span = tracing::info_span!("room", id = %entry.id, name = %entry.name);
    let _forget = Forget(hub.clone(), entry.clone());
    let router = hub.router(entry.id);
    let driver = Driver {
        hub,
        entry,
        machine,
        inbox,
        outputs: Vec::new(),
        timeout: None,
        sockets: FxHashMap::default(),
        requests: FxHashMap::default(),
        router,
        recordings: BTreeSet::new(),
        empty: true,
        draining: false,
    };
    driver.run().instrument(span).await;
}

/// Whatever ends the task, its name is free again.
struct Forget(Hub, Arc<Entry>);

impl Drop for Forget {
    fn drop(&mut self) {
        self.0.forget(&self.1);
    }
}

struct Driver {
    hub: Hub,
    entry: Arc<Entry>,
    machine: Box<dyn Machine>,
    inbox: Inbox,
    /// What the last turn of the machine wants done.
    outputs: Vec<Output>,
    timeout: Option<Instant>,
    sockets: FxHashMap<SocketId, Outbox>,
    requests: FxHashMap<HttpId, oneshot::Sender<HttpResponse>>,
    /// Which shard carries which peer.
    router: Router,
    /// The recordings that have not been stopped.
    recordings: BTreeSet<RecordingId>,
    /// The room said that nobody is in it, and nobody has come since.
    empty: bool,
    draining: bool,
}

/// Why a room ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Empty,
    Drained,
    Panicked,
    Overrun,
    Shutdown,
    /// The shard that carries its media is gone.
    EngineGone,
}

impl Driver {
    async fn run(mut self) {
        tracing::debug!("opened");
        let ended = loop {
            if let Some(ended) = self.ended() {
                break ended;
            }
            if let Err(ended) = self.turn().await {
                break ended;
            }
        };
        self.end(ended).await;
    }

    /// Whether the room has to end now.
    fn ended(&self) -> Option<Ended> {
        match self.entry.stopped() {
            Some(Stop::Overrun) => return Some(Ended::Overrun),
            Some(Stop::Shutdown) => return Some(Ended::Shutdown),
            None => {}
        }
        if self.draining && self.sockets.is_empty() && self.requests.is_empty() {
            return Some(Ended::Drained);
        }
        (self.empty && self.hub.forget_if_idle(&self.entry, &self.inbox)).then_some(Ended::Empty)
    }

    /// Waits for one thing to happen, lets the room handle it, and does what the room then wants.
    async fn turn(&mut self) -> Result<(), Ended> {
        let timeout = self.timeout;
        tokio::select! {
            Some((shard, event)) = self.inbox.events.recv() => {
                self.handle_event(shard, event)?;
                self.handle_more_events()?;
            }
            Some(letter) = self.inbox.letters.recv() => self.handle_letter(letter)?,
            () = sleep_until(timeout) => {
                self.with_machine(|machine, now, wall_ms| machine.handle_timeout(now, wall_ms))?;
            }
            () = self.entry.nudged.notified() => {}
        }
        self.carry_out().await
    }

    fn handle_event(&mut self, shard: ShardId, event: Event) -> Result<(), Ended> {
        let event = self.router.merge(shard, event);
        self.with_machine(|machine, now, wall_ms| machine.handle(now, wall_ms, Input::Engine(event)))
    }

    /// Events come in crowds, when a track begins that many watch: what waits is handled before anything is sent.
    fn handle_more_events(&mut self) -> Result<(), Ended> {
        for _ in 1..CROWD {
            let Ok((shard, event)) = self.inbox.events.try_recv() else { break };
            self.handle_event(shard, event)?;
        }
        Ok(())
    }

    fn handle_letter(&mut self, letter: Letter) -> Result<(), Ended> {
        let input = match letter {
            Letter::Hello { outbox, .. } if self.draining => {
                outbox.close(GOING_AWAY, "the server goes away");
                return Ok(());
            }
            Letter::Http { reply, .. } if self.draining => {
                let _ = reply.send(HttpResponse::Failed(going_away()));
                return Ok(());
            }
            Letter::Hello { socket, outbox, input } => {
                self.empty = false;
                self.sockets.insert(socket, outbox);
                input
            }
            Letter::Http { http, request, reply } => {
                self.empty &= !matches!(request, HttpRequest::Create { .. });
                self.requests.insert(http, reply);
                Input::Http { http, request }
            }
            Letter::Input(input) => input,
        };
        match &input {
            Input::Recording(id, RecordingEvent::Refused(_) | RecordingEvent::Ended(_)) => {
                self.recordings.remove(id);
            }
            Input::SocketClosed { socket } => drop(self.sockets.remove(socket)),
            Input::Drain { .. } => self.draining = true,
            _ => {}
        }
        self.with_machine(|machine, now, wall_ms| machine.handle(now, wall_ms, input))
    }

    /// Everything that the room's own code runs in: a panic goes no further.
    fn with_machine(&mut self, act: impl FnOnce(&mut dyn Machine, Instant, u64)) -> Result<(), Ended> {
        let (machine, outputs) = (&mut *self.machine, &mut self.outputs);
        // Neither is looked at again after a panic: the room is ended.
        let turn = AssertUnwindSafe(|| {
            act(machine, clock::now(), clock::wall_ms());
            outputs.extend(std::iter::from_fn(|| machine.poll_output()));
            (machine.poll_timeout(), machine.participants())
        });
        match catch_unwind(turn) {
            Ok((timeout, participants)) => {
                self.timeout = timeout;
                self.entry.participants.store(participants, Relaxed);
                Ok(())
            }
            Err(panic) => {
                tracing::error!(room = %self.entry.name, "the room panicked and is closed: {}", panic_text(&*panic));
                Err(Ended::Panicked)
            }
        }
    }

    async fn carry_out(&mut self) -> Result<(), Ended> {
        let mut outputs = std::mem::take(&mut self.outputs);
        for output in outputs.drain(..) {
            match output {
                Output::Send { socket, text } => {
                    if let Some(outbox) = self.sockets.get(&socket)
                        && !outbox.send(text)
                    {
                        // Its reader will say that the socket is closed.
                        self.sockets.remove(&socket);
                    }
                }
                Output::Close { socket, code, reason } => {
                    if let Some(outbox) = self.sockets.remove(&socket) {
                        outbox.close(code, reason);
                    }
                }
                Output::Engine(command) => self.command(command).await?,
                Output::Recording(id, command) => self.record(id, command),
                Output::Http { http, response } => {
                    if let Some(reply) = self.requests.remove(&http) {
                        // Whoever asked may be gone: the room hears of that by its own deadlines.
                        let _ = reply.send(response);
                    }
                }
                Output::Empty => self.empty = true,
            }
        }
        self.outputs = outputs;
        Ok(())
    }

    fn record(&mut self, id: RecordingId, command: RecordingCommand) {
        match command {
            RecordingCommand::Start { .. } => drop(self.recordings.insert(id)),
            RecordingCommand::Stop(_) => drop(self.recordings.remove(&id)),
            _ => {}
        }
        self.hub.recordings().handle(self.entry.id, id, command);
    }

    async fn command(&mut self, command: Command) -> Result<(), Ended> {
        let mut routed: SmallVec<[(ShardId, Command); 4]> = SmallVec::new();
        self.router.route(command, |shard, command| routed.push((shard, command)));
        for (shard, command) in routed {
            let engine = self.hub.engine(shard).ok_or(Ended::EngineGone)?;
            engine.send(command).await.map_err(|_| Ended::EngineGone)?;
        }
        Ok(())
    }

    async fn end(mut self, ended: Ended) {
        self.hub.forget(&self.entry);
        let (code, reason): (CloseCode, &'static str) = match ended {
            Ended::Empty | Ended::Drained | Ended::Shutdown => (GOING_AWAY, "the server goes away"),
            Ended::Panicked | Ended::Overrun | Ended::EngineGone => (INTERNAL, "something went wrong in this room"),
        };
        let metrics = self.hub.metrics();
        match ended {
            Ended::Empty | Ended::Drained | Ended::Shutdown => tracing::debug!(?ended, "closed"),
            Ended::Panicked => drop(metrics.room_panics.fetch_add(1, Relaxed)),
            Ended::Overrun | Ended::EngineGone => {
                metrics.rooms_failed.fetch_add(1, Relaxed);
                tracing::error!(room = %self.entry.name, ?ended, "the room is closed");
            }
        }
        for outbox in self.sockets.values() {
            outbox.close(code, reason);
        }
        // Whoever still waits in the queue, or is about to write: their sockets and requests must not hang.
        self.inbox.letters.close();
        while let Some(letter) = self.inbox.letters.recv().await {
            if let Letter::Hello { outbox, .. } = letter {
                outbox.close(code, reason);
            }
        }
        self.requests.clear();
        // A room that broke could not stop its own.
        let stop = if ended == Ended::Shutdown { RecordingStop::Shutdown } else { RecordingStop::RoomEnded };
        for id in std::mem::take(&mut self.recordings) {
            self.record(id, RecordingCommand::Stop(stop));
        }
        for (peer, shard) in self.router.peers() {
            let Some(engine) = self.hub.engine(shard) else { continue };
            if engine.send(Command::RemovePeer { peer }).await.is_err() {
                break;
            }
        }
        // Mirrors are of no peer.
        for (track, shard) in self.router.mirrors() {
            let Some(engine) = self.hub.engine(shard) else { continue };
            if engine.send(Command::Unpublish { track }).await.is_err() {
                break;
            }
        }
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// What a panic said, if it said anything.
pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("(no message)")
}
