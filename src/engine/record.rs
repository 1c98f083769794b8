//! Recorded tracks: which of a track's packets go to its recording, and when.
//!
//! A recording is a subscriber beside the packet path. Here its packets are copied into a batch, as for another shard, and handed over
//! a few times a second; what cannot be taken then is dropped, by name. It gets the largest encoding of a track that comes. When that
//! changes, the present one goes on until the other's first keyframe is whole, so that the recording misses nothing in between.
use super::relay::RelayBatch;
use super::stream::{KeyframeRequests, ReceiveStream};
use super::timers::{Timer, Timers};
use super::{Engine, Owner, Sink, Track};
use crate::forward::StreamKey;
use crate::ids::{RecordingId, ShardId, TrackId};
use crate::metrics::DropReason;
use crate::rtp::SeqNo;
use crate::rtp::codec::Kind;
use slab::Slab;
use std::time::{Duration, Instant};

/// How long a packet waits for others: so many wake-ups of a recording's thread are saved.
const GATHER: Duration = Duration::from_millis(20);
/// A batch of so many bytes waits no longer.
const ENOUGH: usize = 256 << 10;
/// A keyframe that is not whole after this will not be. A recording waits no longer for a packet.
const PATIENCE: Duration = Duration::from_secs(2);
/// An encoding whose size is not known must have this much more than the present one to replace it.
const BETTER: f64 = 1.3;

/// Which part a stream has in a recording of its track.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    None,
    /// Its packets are handed over.
    Source,
    /// They are from its next keyframe on; once that is whole, it is the source.
    Next,
}

/// How a track is recorded. At most one of its streams is the source, and at most one the next.
#[derive(Debug)]
pub(super) struct Recorded {
    /// Index of its recording.
    at: usize,
    to: RecordingId,
    source: Option<StreamKey>,
    next: Option<Next>,
    /// When a keyframe was last asked for.
    asked: Option<Instant>,
}

#[derive(Debug)]
struct Next {
    stream: StreamKey,
    keyframe: Option<Keyframe>,
}

/// A keyframe that is on its way.
#[derive(Clone, Copy, Debug)]
struct Keyframe {
    since: Instant,
    timestamp: u32,
    first: SeqNo,
    /// The first of its packets that is not here yet.
    missing: SeqNo,
}

/// The recordings that this shard has packets for.
#[derive(Debug, Default)]
pub(super) struct Recordings {
    taps: Slab<Tap>,
    /// Those whose batches go with the next flush.
    due: Vec<usize>,
}

/// The way to one recording.
#[derive(Debug)]
struct Tap {
    to: RecordingId,
    /// Tracks that are recorded there. Without any it goes after its last batch.
    tracks: usize,
    batch: Box<RelayBatch>,
    /// When the batch goes; `None` while nothing waits.
    due: Option<Instant>,
}

impl Recordings {
    fn add_track(&mut self, from: ShardId, to: RecordingId) -> usize {
        let known = self.taps.iter().find(|(_, tap)| tap.to == to).map(|(at, _)| at);
        let new = || Tap { to, tracks: 0, batch: Box::new(RelayBatch::new(from)), due: None };
        let at = known.unwrap_or_else(|| self.taps.insert(new()));
        self.taps[at].tracks += 1;
        at
    }

    fn remove_track(&mut self, recorded: &Recorded) {
        self.hurry(recorded);
        if let Some(tap) = self.taps.get_mut(recorded.at) {
            tap.tracks -= 1;
        }
    }

    /// What waits goes with the next flush.
    pub fn hurry(&mut self, recorded: &Recorded) {
        self.due.push(recorded.at);
    }

    /// The timer that was set for `at` is due.
    pub fn handle_timeout(&mut self, at: Instant, index: usize) {
        if self.taps.get(index).is_some_and(|tap| tap.due == Some(at)) {
            self.due.push(index);
        }
    }

    /// Copies a packet.
    fn push(
        &mut self,
        now: Instant,
        timers: &mut Timers,
        track: &Track,
        recorded: &Recorded,
        stream: &ReceiveStream,
        seq: SeqNo,
    ) -> Result<(), DropReason> {
        let tap = self.taps.get_mut(recorded.at).ok_or(DropReason::RecordingFull)?;
        let stored = stream.history.packet(seq).ok_or(DropReason::TooOld)?;
        let pushed = tap.batch.push_packet(track, stream, false, seq, stored.meta, stored.bytes);
        if tap.due.is_none() {
            let due = now + GATHER;
            tap.due = Some(due);
            timers.arm(due, Timer::Recording(recorded.at));
        }
        if tap.batch.bytes() >= ENOUGH {
            self.due.push(recorded.at);
        }
        pushed.map_err(|_| DropReason::RecordingFull)
    }
}

impl Engine {
    /// Begins to record a track of this shard, or ends it.
    pub(super) fn record(&mut self, now: Instant, id: TrackId, to: Option<RecordingId>) {
        let Some(&at) = self.track_ids.get(&id) else { return };
        let track = &self.tracks[at];
        self.at_work = Some(track.room);
        if track.recorded.as_ref().map(|r| r.to) == to || !matches!(track.owner, Owner::Peer(_)) {
            return;
        }
        self.stop_recording(at);
        if let Some(to) = to {
            let tap = self.recordings.add_track(self.shard, to);
            self.tracks[at].recorded = Some(Recorded { at: tap, to, source: None, next: None, asked: None });
            self.review_recorded(now, at);
            if let Some(source) = self.tracks[at].recorded.as_ref().and_then(|r| r.source) {
                self.ask_for_recording(now, id, source);
            }
        }
        self.demand_changed(at);
    }

    /// Nothing more of the track goes to its recording.
    pub(super) fn stop_recording(&mut self, at: usize) {
        let Self { tracks, streams, recordings, .. } = self;
        let Some(recorded) = tracks[at].recorded.take() else { return };
        recordings.remove_track(&recorded);
        for &stream in &tracks[at].streams {
            streams[stream].record_as(Part::None);
        }
        self.demand_changed(at);
    }

    /// Asks the publisher for a keyframe of what is recorded of a track: at most once a second, whoever else asks.
    pub(super) fn ask_for_recording(&mut self, now: Instant, id: TrackId, source: StreamKey) {
        let Some(track) = self.track_ids.get(&id).and_then(|t| self.tracks.get_mut(*t)) else { return };
        let (Owner::Peer(publisher), false, Kind::Video) = (track.owner, track.muted, track.kind) else { return };
        let Some(recorded) = &mut track.recorded else { return };
        let stream = self.streams.get_mut(source.index as usize).filter(|s| s.key == source);
        // The recording may not know yet that it gets another one by now.
        let Some(stream) = stream.filter(|s| s.recorded != Part::None) else { return };
        let rested = recorded.asked.is_none_or(|at| now >= at + KeyframeRequests::FOR_RECORDING);
        if rested {
            recorded.asked = Some(now);
            stream.keyframes.want_once();
            self.touch(publisher);
        }
    }

    /// Chooses anew which of the track's streams is recorded.
    pub(super) fn review_recorded(&mut self, now: Instant, at: usize) {
        let Self { tracks, streams, .. } = self;
        let Some(track) = tracks.get_mut(at).filter(|track| track.recorded.is_some()) else { return };
        let Some(chosen) = chosen(now, track, streams) else { return };
        let key = streams[chosen].key;
        let (id, kind) = (track.id, track.kind);
        let Some(recorded) = &mut track.recorded else { return };
        let is_there =
            |key: StreamKey| streams.get(key.index as usize).is_some_and(|s| s.key == key && s.track == Some(at));
        if kind == Kind::Audio || recorded.source == Some(key) || !recorded.source.is_some_and(is_there) {
            (recorded.source, recorded.next) = (Some(key), None);
        } else if recorded.next.as_ref().is_none_or(|next| next.stream != key) {
            recorded.next = Some(Next { stream: key, keyframe: None });
        }
        let awaited = recorded.next.as_ref().filter(|next| next.keyframe.is_none()).map(|next| next.stream);
        self.assign_parts(at);
        if let Some(stream) = awaited {
            self.ask_for_recording(now, id, stream);
        }
    }

    fn assign_parts(&mut self, at: usize) {
        let Self { tracks, streams, .. } = self;
        let Some(recorded) = &tracks[at].recorded else { return };
        for &stream in &tracks[at].streams {
            let stream = &mut streams[stream];
            stream.record_as(match Some(stream.key) {
                key if key == recorded.source => Part::Source,
                key if key == recorded.next.as_ref().map(|next| next.stream) => Part::Next,
                _ => Part::None,
            });
        }
    }

    /// Copies the packet that was just committed for the recording of its track.
    pub(super) fn record_packet(&mut self, now: Instant, track: usize, at: usize, seq: SeqNo) {
        let Self { tracks, streams, recordings, timers, metrics, .. } = self;
        let (track_index, track, stream) = (track, &tracks[track], &streams[at]);
        let Some(recorded) = &track.recorded else { return };
        if stream.recorded == Part::Next {
            return self.record_next(now, track_index, at, seq);
        }
        if let Err(reason) = recordings.push(now, timers, track, recorded, stream, seq) {
            metrics.drop_packet(reason);
        }
    }

    /// A packet of the stream that is to be the source: it goes over from a keyframe on, and replaces the present one when that is whole.
    fn record_next(&mut self, now: Instant, track: usize, at: usize, seq: SeqNo) {
        let index = track;
        let Self { tracks, streams, recordings, timers, metrics, .. } = self;
        let (track, stream) = (&mut tracks[index], &streams[at]);
        let Some(mut next) = track.recorded.as_mut().and_then(|recorded| recorded.next.take()) else { return };
        let admitted = next.admit(now, stream, seq).filter(|seq| stream.history.contains(SeqNo(*seq)));
        if let Some(recorded) = &track.recorded {
            for seq in admitted.map(SeqNo) {
                if let Err(reason) = recordings.push(now, timers, track, recorded, stream, seq) {
                    metrics.drop_packet(reason);
                }
            }
        }
        let begins = next.is_whole(now, stream);
        let Some(recorded) = &mut track.recorded else { return };
        if begins {
            recorded.source = Some(next.stream);
            self.assign_parts(index);
        } else {
            recorded.next = Some(next);
        }
    }

    /// Hands over the batches that are due.
    pub(super) fn flush_recordings(&mut self, sink: &mut impl Sink) {
        let Self { recordings: Recordings { taps, due }, metrics, .. } = self;
        while let Some(at) = due.pop() {
            let Some(tap) = taps.get_mut(at) else { continue };
            tap.due = None;
            let packets = tap.batch.packets();
            if packets > 0 && sink.record(tap.to, &mut tap.batch) {
                metrics.recorded.add(packets as u64);
                metrics.record_batches.add(1);
            } else {
                (0..packets).for_each(|_| metrics.drop_packet(DropReason::RecordingFull));
                tap.batch.clear();
            }
            if tap.tracks == 0 {
                taps.remove(at);
            }
        }
    }
}

impl Next {
    /// The numbers that go over now that `seq` is here, if their packets are.
    fn admit(&mut self, now: Instant, stream: &ReceiveStream, seq: SeqNo) -> std::ops::Range<u64> {
        let none = 0..0;
        match &self.keyframe {
            Some(keyframe) if seq >= keyframe.first => return seq.0..seq.0 + 1,
            Some(_) => return none,
            None => {}
        }
        let Some(packet) = stream.history.packet(seq).map(|stored| &stored.meta.packet) else { return none };
        if !packet.frame.keyframe || !packet.frame.frame_start || packet.frame.spatial > 0 {
            return none;
        }
        self.keyframe = Some(Keyframe { since: now, timestamp: packet.timestamp, first: seq, missing: seq });
        // What followed it and came sooner is in the history already.
        seq.0..stream.history.highest().unwrap_or(seq).0 + 1
    }

    /// True once the keyframe is here from end to end, or will not be.
    fn is_whole(&mut self, now: Instant, stream: &ReceiveStream) -> bool {
        let Some(keyframe) = &mut self.keyframe else { return false };
        while let Some(packet) = stream.history.packet(keyframe.missing).map(|stored| &stored.meta.packet) {
            keyframe.missing = keyframe.missing.next();
            if packet.marker || packet.timestamp != keyframe.timestamp {
                return true;
            }
        }
        now >= keyframe.since + PATIENCE
    }
}

/// The stream of a track that is to be recorded: of audio what is heard, of video the largest picture that comes.
fn chosen(now: Instant, track: &Track, streams: &Slab<ReceiveStream>) -> Option<usize> {
    if track.kind == Kind::Audio {
        return track.best;
    }
    let newest = track.streams.iter().map(|s| streams[*s].last_arrival).max().unwrap_or(now);
    let pixels = |at: usize| {
        let size = streams[at].meter.as_ref().and_then(|meter| meter.size());
        size.map_or(0, |(width, height)| u32::from(width) * u32::from(height))
    };
    let rate = |at: usize| streams[at].rate.bps();
    let source = track.recorded.as_ref().and_then(|recorded| recorded.source);
    let flowing = || track.streams.iter().copied().filter(|s| streams[*s].flows(newest));
    let largest = flowing().max_by(|a, b| pixels(*a).cmp(&pixels(*b)).then(rate(*a).total_cmp(&rate(*b))))?;
    let Some(present) = flowing().find(|s| Some(streams[*s].key) == source) else { return Some(largest) };
    let (now, then) = (pixels(present), pixels(largest));
    let better = if now.min(then) == 0 { rate(largest) > rate(present) * BETTER } else { then > now };
    Some(if better { largest } else { present })
}
