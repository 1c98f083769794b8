//! One recording: what its room says and what the shards hand over, in the right order, into its session.
//!
//! What a room says overtakes the packets that were sent before it: they lie in a shard's batch for some 20 ms, or wait in the queue. So what
//! ends something is held back a little, until those packets are in.
use super::mailbox::Said;
use super::metrics::{RecordingMetrics, add};
use crate::engine::Command;
use crate::engine::relay::{RelayBatch, RelayedMedia};
use crate::ids::{ShardId, TrackId};
use crate::record::manifest::{Content, Ended, GapCause};
use crate::record::session::{self, Session, Storage, TrackInfo};
use crate::record::{MediaPacket, SourceId};
use crate::room::messages::Source;
use crate::room::{RecordingCommand, RecordingStop};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// What ends something waits so long for packets from before it; and no longer than this, however many wait.
const LINGER: Duration = Duration::from_millis(50);
const MAX_LINGER: Duration = Duration::from_secs(2);

/// See the module. Time is an argument.
pub(super) struct Task<S: Storage> {
    session: Session<S>,
    /// What was said and is not done yet.
    pending: VecDeque<Said>,
    /// Where each track's packets come from.
    homes: FxHashMap<TrackId, ShardId>,
    shards: Vec<mpsc::Sender<Command>>,
    metrics: Arc<RecordingMetrics>,
    told: Told,
}

/// What of this recording is in the metrics that go up and down.
#[derive(Default)]
struct Told {
    files: u64,
    bytes: u64,
    queued: u64,
}

impl<S: Storage> Task<S> {
    pub fn new(session: Session<S>, shards: Vec<mpsc::Sender<Command>>, metrics: Arc<RecordingMetrics>) -> Self {
        let (pending, homes) = (VecDeque::new(), FxHashMap::default());
        Self { session, pending, homes, shards, metrics, told: Told::default() }
    }

    /// Where to put what the room said, in its order.
    pub fn pending(&mut self) -> &mut VecDeque<Said> {
        &mut self.pending
    }

    /// Does what the room said. `caught_up`: no packets wait.
    pub fn handle_pending(&mut self, now: Instant, caught_up: bool) {
        while let Some(said) = self.pending.front() {
            let age = now.saturating_duration_since(said.at);
            let is_ripe = age >= MAX_LINGER || age >= LINGER && caught_up;
            if self.session.has_ended() || ends_something(&said.command) && !is_ripe {
                return;
            }
            if let Some(said) = self.pending.pop_front() {
                self.handle(now, said);
            }
        }
    }

    /// Packets that a shard handed over.
    pub fn handle_batch(&mut self, now: Instant, batch: &RelayBatch) {
        let mut last = None;
        for media in batch.media() {
            if last.replace(media.track) != Some(media.track) {
                self.homes.insert(media.track, batch.from);
            }
            self.handle_media(now, media);
        }
    }

    /// So many packets did not get here.
    pub fn handle_lost(&mut self, packets: u64) {
        if packets > 0 {
            add(&self.metrics.lost, packets);
            self.session.interrupt_all(GapCause::Disk);
        }
    }

    /// Time passes: to be called at least every 100 ms. `queued`: bytes that wait.
    pub fn handle_timeout(&mut self, now: Instant, queued: usize) {
        self.session.handle_timeout(now);
        let (files, bytes) = self.session.written();
        self.tell(Told { files: files as u64, bytes, queued: queued as u64 });
    }

    /// Carries out what the session wants. Gives the reason when it ended by itself.
    pub fn poll_ended(&mut self) -> Option<Ended> {
        while let Some(event) = self.session.poll_event() {
            match event {
                session::Event::WantKeyframe { track, source } => self.ask_for_keyframe(track, source),
                session::Event::Ended(ended) => return Some(ended),
            }
        }
        None
    }

    pub fn session(&mut self) -> &mut Session<S> {
        &mut self.session
    }

    /// Bytes of media in its files.
    pub fn bytes(&self) -> u64 {
        self.told.bytes
    }

    fn handle(&mut self, now: Instant, Said { at, command }: Said) {
        let session = &mut self.session;
        match command {
            RecordingCommand::Start { .. } => {}
            RecordingCommand::Joined { participant, name } => session.handle_joined(at, participant, &name),
            RecordingCommand::Left { participant } => session.handle_left(now, participant),
            RecordingCommand::Published { track, participant, kind, source } => {
                session.handle_published(TrackInfo { id: track, participant, content: content(&source), kind });
            }
            RecordingCommand::Unpublished { track } => {
                self.homes.remove(&track);
                session.handle_unpublished(track);
            }
            RecordingCommand::Muted { track } => session.handle_muted(track),
            RecordingCommand::Event { kind, data } => match serde_json::from_str(&data) {
                Ok(data) => session.handle_event(at, kind, data),
                Err(error) => tracing::error!(kind, %error, "an event of a room is no JSON, and is not recorded"),
            },
            RecordingCommand::Stop(why) => session.end(now, why.into()),
        }
    }

    fn handle_media(&mut self, now: Instant, media: RelayedMedia<'_>) {
        let RelayedMedia { track, source, seq, info, captured_at, bytes } = media;
        let packet = MediaPacket { seq, info, captured_at, bytes };
        match self.session.handle_packet(now, track, SourceId(source), packet) {
            Ok(()) => add(&self.metrics.packets, 1),
            Err(reason) => self.metrics.drop_packet(reason),
        }
    }

    /// If its shard has no room for the wish, the session has it again in a second.
    fn ask_for_keyframe(&self, track: TrackId, SourceId(source): SourceId) {
        let Some(shard) = self.homes.get(&track).and_then(|home| self.shards.get(usize::from(home.0))) else { return };
        if shard.try_send(Command::Keyframe { track, source }).is_ok() {
            add(&self.metrics.keyframes, 1);
        }
    }

    fn tell(&mut self, now: Told) {
        let (m, before) = (&self.metrics, std::mem::replace(&mut self.told, now));
        add(&m.bytes, self.told.bytes.saturating_sub(before.bytes));
        for (gauge, before, now) in
            [(&m.files, before.files, self.told.files), (&m.queued, before.queued, self.told.queued)]
        {
            add(gauge, now);
            gauge.fetch_sub(before, Relaxed);
        }
    }
}

impl<S: Storage> Drop for Task<S> {
    fn drop(&mut self) {
        self.tell(Told { bytes: self.told.bytes, ..Told::default() });
    }
}

impl From<RecordingStop> for Ended {
    fn from(why: RecordingStop) -> Self {
        match why {
            RecordingStop::Asked => Ended::Stopped,
            RecordingStop::RoomEnded => Ended::RoomEnded,
            RecordingStop::Shutdown => Ended::Shutdown,
        }
    }
}

/// Packets from before it may still be on their way.
fn ends_something(command: &RecordingCommand) -> bool {
    use RecordingCommand::{Left, Muted, Stop, Unpublished};
    matches!(command, Left { .. } | Muted { .. } | Stop(_) | Unpublished { .. })
}

/// Which file a track goes into.
fn content(source: &Source) -> Content {
    match source {
        Source::Camera | Source::Microphone => Content::Camera,
        Source::Screen | Source::ScreenAudio => Content::Screen,
        Source::Other(_) => Content::Other,
    }
}
