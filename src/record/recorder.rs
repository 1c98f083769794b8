//! One file: the camera and the microphone of a participant, or a screen and its sound.
use super::MediaPacket;
use super::audio_line::{AudioLine, Laid, Sound};
use super::depacketize::{Size, opus};
use super::manifest::{AvOffset, Gap, GapCause, SizeChange};
use super::reception::{Frame, KEYFRAME_INTERVAL, Reception};
use super::reorder::WAIT;
use super::timeline::{Placed, Timeline};
use super::webm::{TrackCodec, TrackIndex, Writer};
use crate::metrics::DropReason;
use crate::rtp::Kind;
use crate::rtp::codec::Codec;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Seek, Write};
use std::time::{Duration, Instant, SystemTime};

/// A frame that was captured so long ago has come, if it comes: what is later goes into the file.
const SETTLED: Duration = Duration::from_millis(300);
/// Silence is put in for what was to be heard so long ago, if no packet is waited for.
const SILENT: Duration = Duration::from_secs(1);
/// Encodings of one picture are placed no farther from each other.
const SAME_PICTURE: Duration = Duration::from_millis(12);
/// Between two sources: a pause of more is told as a gap.
const LONG_PAUSE: Duration = Duration::from_millis(500);
/// What was sent before a track was interrupted may come for so long after; a frame is behind the interruption if so much is missing before it.
const ON_ITS_WAY: Duration = Duration::from_millis(500);
const HOLE: Duration = Duration::from_millis(200);
/// What was written is handed to the file this often.
const FLUSH: Duration = Duration::from_millis(300);
/// What is told of a file is bounded: more gaps are counted, more sizes forgotten.
const MAX_GAPS: usize = 10_000;
const MAX_SIZES: usize = 1_000;

/// One of the streams that a track may come from: its SSRCs follow each other, and encodings replace each other. The caller numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SourceId(pub u64);

/// What the recorder wants, or tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// Ask the video's publisher for a keyframe of this source. At most one a second.
    WantKeyframe(SourceId),
    /// From here on the picture has this size.
    Size(SizeChange),
    Gap(Gap),
}

/// What a file came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Summary {
    /// The file's zero, since the session began.
    pub start: Duration,
    pub duration: Duration,
    /// Bytes; 0 if there was nothing to record, and nothing was written.
    pub size: u64,
    pub video: Option<TrackSummary>,
    pub audio: Option<TrackSummary>,
    pub gaps: Vec<Gap>,
    pub more_gaps: u64,
    pub av_offset: Option<AvOffset>,
}

/// What a track of a file came to. Times are since the session began.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrackSummary {
    pub first: Duration,
    pub last: Duration,
    /// Silence that was put in is not counted.
    pub frames: u64,
    pub keyframes: u64,
    pub lost_packets: u64,
    pub sizes: Vec<SizeChange>,
}

/// When a session began, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct SessionStart {
    pub instant: Instant,
    pub wall: SystemTime,
}

/// See the module.
#[derive(Debug)]
pub struct Recorder<W> {
    start: SessionStart,
    out: Output<W>,
    video: Option<Line>,
    audio: Option<Line>,
    voice: AudioLine,
    /// Frames in the order of their times, until all that come before them are there.
    queue: BTreeMap<(Duration, TrackIndex, u64), Queued>,
    queued: u64,
    events: VecDeque<Event>,
    gaps: Vec<Gap>,
    more_gaps: u64,
    offset: Offset,
    last_flush: Instant,
}

#[derive(Debug)]
struct Queued {
    length: Duration,
    keyframe: bool,
    size: Option<Size>,
    configuration: Option<Vec<u8>>,
    data: Vec<u8>,
}

/// The file, and where its zero is.
#[derive(Debug)]
struct Output<W> {
    /// Taken when the file is begun: its zero is the time of its first frame.
    unopened: Option<W>,
    writer: Option<Writer<W>>,
    codecs: Vec<TrackCodec>,
    zero: Duration,
    end: Duration,
}

/// One track.
#[derive(Debug)]
struct Line {
    codec: Codec,
    index: TrackIndex,
    source: Option<SourceId>,
    reception: Reception,
    /// The source that is to follow, until it has a keyframe.
    next: Option<Next>,
    timeline: Timeline,
    /// Why it has been interrupted, and where it had come to then.
    interrupted: Option<(GapCause, Duration)>,
    /// Packets came since it was interrupted.
    is_live: bool,
    /// Where the last frame was placed, and where it ended.
    last: Option<(Duration, Duration)>,
    /// Of sources before the current one.
    lost_before: u64,
    /// The last frame that is in the file: what comes goes behind it.
    written: Option<Duration>,
    /// When a keyframe was last asked for, of whatever source.
    asked: Option<Instant>,
    summary: TrackSummary,
}

/// A source that is to follow the present one.
#[derive(Debug)]
struct Next {
    source: SourceId,
    reception: Reception,
    /// When its first packet came, and when that was captured.
    since: Instant,
    captured_at: Instant,
    /// When its last packet came.
    last: Instant,
}

/// The error of sound against that of the picture.
#[derive(Debug, Default)]
struct Offset {
    audio: i64,
    sum: f64,
    max: f64,
    samples: u64,
    last: Option<Duration>,
}

impl<W: Write + Seek> Recorder<W> {
    /// Begins a file on `out`, with at most one track of each kind. What a track has later than its codec here is refused: it needs
    /// another file. Nothing is written before the first frame.
    pub fn new(now: Instant, start: SessionStart, video: Option<Codec>, audio: Option<Codec>, out: W) -> Self {
        let codecs: Vec<_> = video.into_iter().chain(audio).map(TrackCodec::of).collect();
        let line = |codec: Codec, index| Line::new(codec, TrackIndex(index), start.instant);
        Self {
            start,
            out: Output { unopened: Some(out), writer: None, codecs, zero: Duration::ZERO, end: Duration::ZERO },
            video: video.map(|codec| line(codec, 0)),
            audio: audio.map(|codec| line(codec, usize::from(video.is_some()))),
            voice: AudioLine::default(),
            queue: BTreeMap::new(),
            queued: 0,
            events: VecDeque::new(),
            gaps: Vec::new(),
            more_gaps: 0,
            offset: Offset::default(),
            last_flush: now,
        }
    }

    /// A packet of one of the tracks. Of another source than before, video goes over to it at its first keyframe.
    pub fn handle_packet(&mut self, now: Instant, source: SourceId, packet: MediaPacket<'_>) -> Result<(), DropReason> {
        let kind = packet.info.codec.kind();
        let line = self.line(kind).ok_or(DropReason::Unwanted)?;
        if TrackCodec::of(packet.info.codec) != TrackCodec::of(line.codec) {
            return Err(DropReason::CodecNotNegotiated);
        }
        line.is_live = true;
        line.handle_packet(now, source, packet)
    }

    /// A packet of this number carried nothing: it is not missing.
    pub fn handle_padding(&mut self, now: Instant, kind: Kind, source: SourceId, seq: crate::rtp::SeqNo) {
        if let Some(line) = self.line(kind).filter(|l| l.source == Some(source)) {
            // One that is here already, or too late, changes nothing.
            let _ = line.reception.handle_padding(now, seq);
        }
    }

    /// The track stops for a reason that is known: what is missing from here on is no loss.
    pub fn interrupt(&mut self, kind: Kind, cause: GapCause) {
        if let Some(line) = self.line(kind) {
            line.reception.interrupt();
            line.next = None;
            line.is_live = false;
            let reached = line.last.map_or(Duration::ZERO, |(_, end)| end);
            line.interrupted.get_or_insert((cause, reached));
        }
    }

    /// Time passes: to be called after packets, and at least every 100 ms. An error is the disk's, and ends the recording.
    pub fn handle_timeout(&mut self, now: Instant) -> io::Result<()> {
        self.take_video(now);
        self.take_audio(now);
        self.fill_silence(now);
        let until = self.settled(now);
        self.write_until(until)?;
        if now >= self.last_flush + FLUSH {
            self.last_flush = now;
            if let Some(writer) = &mut self.out.writer {
                writer.flush()?;
            }
        }
        Ok(())
    }

    /// What has come up since the last call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// What is written to, once something is.
    pub fn file(&self) -> Option<&W> {
        self.out.writer.as_ref().map(Writer::get_ref)
    }

    /// Bytes in the file.
    pub fn written(&self) -> u64 {
        self.out.writer.as_ref().map_or(0, Writer::written)
    }

    /// Ends the file. Gives back what it was written to.
    pub fn finish(mut self, now: Instant) -> io::Result<(W, Summary)> {
        for line in [&mut self.video, &mut self.audio].into_iter().flatten() {
            line.reception.interrupt();
        }
        self.take_video(now);
        self.take_audio(now);
        self.note_open_gaps(now);
        self.write_until(Duration::MAX)?;
        let mut summary = self.summary();
        let out = match (self.out.writer, self.out.unopened) {
            (Some(writer), _) => {
                let (out, size) = writer.finish()?;
                summary.size = size;
                out
            }
            (None, Some(out)) => out,
            (None, None) => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        Ok((out, summary))
    }

    /// What the file has come to so far. Its size is that of what was written.
    pub fn summary(&self) -> Summary {
        let summary = |line: &Option<Line>| line.as_ref().map(Line::summary).filter(|s| s.frames > 0);
        let (video, audio) = (summary(&self.video), summary(&self.audio));
        let av_offset = self.offset.told().filter(|_| video.is_some() && audio.is_some());
        let Output { zero, end, .. } = self.out;
        Summary {
            start: zero,
            duration: end.saturating_sub(zero),
            size: self.written(),
            video,
            audio,
            gaps: self.gaps.clone(),
            more_gaps: self.more_gaps,
            av_offset,
        }
    }

    fn line(&mut self, kind: Kind) -> Option<&mut Line> {
        match kind {
            Kind::Video => self.video.as_mut(),
            Kind::Audio => self.audio.as_mut(),
        }
    }

    fn take_video(&mut self, now: Instant) {
        let Some(line) = &mut self.video else { return };
        let (frames, anew) = line.take(now);
        let wanted = line.wants_keyframe(now);
        self.events.extend(wanted.map(Event::WantKeyframe));
        for (n, (placed, frame)) in frames.into_iter().enumerate() {
            if anew == Some(n) {
                self.give_way(placed.at);
            }
            self.add_picture(placed, frame);
        }
    }

    /// Another source begins here: what the one before has from here on is not needed.
    fn give_way(&mut self, from: Duration) {
        let Some(line) = &mut self.video else { return };
        let own = |(at, track, _): &(Duration, TrackIndex, u64)| (*track == line.index).then_some(*at);
        let doubled = |at: Duration| at + SAME_PICTURE >= from;
        let summary = &mut line.summary;
        self.queue.retain(|key, frame| {
            let stays = !own(key).is_some_and(doubled);
            summary.frames -= u64::from(!stays);
            summary.keyframes -= u64::from(!stays && frame.keyframe);
            stays
        });
        let last = self.queue.keys().filter_map(own).max().or(line.written);
        line.last = last.map(|at| (at, at));
        summary.last = last.unwrap_or_default();
        // (What is missing before a source shows in no number of its own.)
        let paused = last.is_some_and(|last| from > last + LONG_PAUSE);
        if paused && line.interrupted.is_none() {
            line.interrupted = Some((GapCause::Loss, Duration::ZERO));
        }
    }

    fn add_picture(&mut self, placed: Placed, frame: Frame) {
        let Some(line) = &mut self.video else { return };
        let gap = line.note(placed, &frame);
        let index = line.index;
        if let Some(change) = line.note_size(placed.at, frame.size) {
            self.events.push_back(Event::Size(change));
        }
        self.offset.note_picture(placed, self.voice.end().is_some());
        self.note_gap(gap);
        let Frame { keyframe, size, configuration, data, .. } = frame;
        let queued = Queued { length: Duration::ZERO, keyframe, size, configuration, data };
        self.enqueue(placed.at, index, queued);
    }

    fn take_audio(&mut self, now: Instant) {
        let Some(line) = &mut self.audio else { return };
        for (placed, frame) in line.take(now).0 {
            let gap = self.audio.as_mut().and_then(|line| line.note(placed, &frame));
            self.note_gap(gap);
            let mut sounds = Vec::new();
            if let Laid::Written { error, .. } = self.voice.push(placed.at, frame.data, frame.level, &mut sounds) {
                self.offset.audio = placed.error + error;
            }
            self.add_sounds(sounds);
        }
    }

    fn add_sounds(&mut self, sounds: Vec<Sound>) {
        let Some(track) = self.audio.as_ref().map(|l| l.index) else { return };
        for Sound { at, data, .. } in sounds {
            let length = opus_length(&data);
            let queued = Queued { length, keyframe: true, size: None, configuration: None, data };
            self.enqueue(at, track, queued);
        }
    }

    /// Sound that does not come is silence.
    fn fill_silence(&mut self, now: Instant) {
        let Some(line) = &self.audio else { return };
        let wait = if line.is_live { SILENT } else { SETTLED };
        if !line.reception.is_waiting() {
            let mut sounds = Vec::new();
            self.voice.fill_until(self.since_start(now).saturating_sub(wait), &mut sounds);
            self.add_sounds(sounds);
        }
    }

    /// Up to where nothing more will come before what is in the queue.
    fn settled(&self, now: Instant) -> Duration {
        let usual = self.since_start(now).saturating_sub(SETTLED);
        let video = self.video.as_ref().filter(|l| l.reception.is_waiting()).map(Line::last_at);
        // Pictures of the present source that the next one has, too, give way to those.
        let next = self.video.as_ref().and_then(|l| l.next.as_ref()).filter(|next| now < next.since + WAIT);
        let next = next.map(|next| self.since_start(next.captured_at).saturating_sub(SAME_PICTURE));
        // Sound has no holes up to its end; what comes next goes there.
        let audio = match (self.voice.end(), &self.audio) {
            (None, Some(line)) if line.reception.is_waiting() => Some(Duration::ZERO),
            (end, _) => end,
        };
        [video, next, audio].into_iter().flatten().fold(usual, Duration::min)
    }

    fn enqueue(&mut self, at: Duration, track: TrackIndex, queued: Queued) {
        self.queued += 1;
        self.queue.insert((at, track, self.queued), queued);
    }

    fn write_until(&mut self, until: Duration) -> io::Result<()> {
        while let Some(entry) = self.queue.first_entry().filter(|e| e.key().0 <= until) {
            let ((at, track, _), frame) = entry.remove_entry();
            if let Some(line) = self.video.as_mut().filter(|line| line.index == track) {
                line.written = Some(at);
            }
            self.out.write(self.start, at, track, &frame)?;
        }
        Ok(())
    }

    fn note_gap(&mut self, gap: Option<Gap>) {
        let Some(gap) = gap else { return };
        self.events.push_back(Event::Gap(gap));
        if self.gaps.len() < MAX_GAPS {
            self.gaps.push(gap);
        } else {
            self.more_gaps += 1;
        }
    }

    /// What was interrupted and has not come back is missing to the end.
    fn note_open_gaps(&mut self, now: Instant) {
        let to = self.since_start(now);
        for kind in [Kind::Video, Kind::Audio] {
            let gap = self.line(kind).and_then(|line| {
                let ((cause, _), (from, _)) = (line.interrupted?, line.last?);
                Some(Gap { kind, from_ms: ms(from), to_ms: ms(to), cause, packets: 0 })
            });
            self.note_gap(gap);
        }
    }

    fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start.instant)
    }
}

impl Line {
    fn new(codec: Codec, index: TrackIndex, start: Instant) -> Self {
        Self {
            codec,
            index,
            source: None,
            reception: Reception::new(codec),
            next: None,
            timeline: Timeline::new(start, codec),
            interrupted: None,
            is_live: false,
            last: None,
            lost_before: 0,
            written: None,
            asked: None,
            summary: TrackSummary::default(),
        }
    }

    /// A packet of the current source, or of the one that is to follow.
    fn handle_packet(&mut self, now: Instant, source: SourceId, packet: MediaPacket<'_>) -> Result<(), DropReason> {
        let codec = packet.info.codec;
        if self.source.is_none() {
            (self.source, self.reception) = (Some(source), Reception::new(codec));
        }
        // A packet of the current source does not end the wait for the next one: both come for a while.
        if self.source == Some(source) && self.reception.codec() == codec {
            return self.reception.handle_packet(now, packet);
        }
        let captured_at = packet.captured_at;
        let anew = || Next { source, reception: Reception::new(codec), since: now, captured_at, last: now };
        let known = self.next.take().filter(|next| next.source == source && next.reception.codec() == codec);
        let next = self.next.insert(known.unwrap_or_else(anew));
        (next.captured_at, next.last) = (next.captured_at.min(captured_at), now);
        next.reception.handle_packet(now, packet)
    }

    /// The frames that are ready, in their places. Goes over to the next source when that has one; its first is a keyframe. Gives which
    /// frame that is.
    fn take(&mut self, now: Instant) -> (Vec<(Placed, Frame)>, Option<usize>) {
        let mut frames = Vec::new();
        self.reception.handle_timeout(now);
        self.place_ready(&mut frames);
        // One that was not heard of any more is not waited for, nor asked for keyframes.
        self.next.take_if(|next| now >= next.last + WAIT);
        if let Some(next) = &mut self.next {
            next.reception.handle_timeout(now);
        }
        let Some(next) = self.next.take_if(|next| next.reception.has_frame()) else { return (frames, None) };
        // What still waits in the old one was captured while the new one was there already.
        self.lost_before += std::mem::replace(&mut self.reception, next.reception).lost();
        self.source = Some(next.source);
        let first = frames.len();
        let last = match self.codec.kind() {
            Kind::Video => self.written,
            Kind::Audio => self.last.map(|(at, _)| at),
        };
        self.timeline.restart(self.codec.clock_rate(), last);
        self.place_ready(&mut frames);
        (frames, Some(first))
    }

    fn place_ready(&mut self, into: &mut Vec<(Placed, Frame)>) {
        while let Some(frame) = self.reception.poll_frame() {
            let placed = self.timeline.place(frame.timestamp, frame.captured_at, frame.arrived_at);
            into.push((placed, frame));
        }
    }

    fn wants_keyframe(&mut self, now: Instant) -> Option<SourceId> {
        if !self.is_live || self.asked.is_some_and(|at| now < at + KEYFRAME_INTERVAL) {
            return None;
        }
        let (source, reception) = match &mut self.next {
            Some(next) => (next.source, &mut next.reception),
            None => (self.source?, &mut self.reception),
        };
        let source = reception.poll_keyframe_request(now).then_some(source)?;
        self.asked = Some(now);
        Some(source)
    }

    /// Counts a frame; gives the gap before it.
    fn note(&mut self, placed: Placed, frame: &Frame) -> Option<Gap> {
        let length = match self.codec.kind() {
            Kind::Audio => opus_length(&frame.data),
            Kind::Video => Duration::ZERO,
        };
        let interrupted = self.interrupted.take();
        let before = self.last.replace((placed.at, placed.at + length));
        let summary = &mut self.summary;
        if summary.frames == 0 {
            summary.first = placed.at;
        }
        summary.last = summary.last.max(placed.at);
        summary.frames += 1;
        summary.keyframes += u64::from(frame.keyframe);
        let (from, ended) = before?;
        // What was on its way when it was interrupted still comes: it is not over yet.
        let on_its_way = |(_, reached): &(GapCause, Duration)| placed.at < (*reached + ON_ITS_WAY).min(ended + HOLE);
        self.interrupted = interrupted.filter(on_its_way);
        let cause = interrupted.filter(|_| self.interrupted.is_none()).map(|(cause, _)| cause);
        let missing = match self.codec.kind() {
            Kind::Video => frame.after_gap,
            Kind::Audio => frame.lost > 0 && placed.at > ended + length / 2,
        };
        let cause = cause.or(missing.then_some(GapCause::Loss))?;
        let (kind, packets) = (self.codec.kind(), frame.lost);
        Some(Gap { kind, from_ms: ms(from), to_ms: ms(placed.at), cause, packets })
    }

    fn note_size(&mut self, at: Duration, size: Option<Size>) -> Option<SizeChange> {
        let sizes = &mut self.summary.sizes;
        let size = size.filter(|size| sizes.last().is_none_or(|last| last.size != *size))?;
        let change = SizeChange { at_ms: ms(at), size };
        if sizes.len() < MAX_SIZES {
            sizes.push(change);
        }
        Some(change)
    }

    fn last_at(&self) -> Duration {
        self.last.map_or(Duration::ZERO, |(at, _)| at)
    }

    fn summary(&self) -> TrackSummary {
        TrackSummary { lost_packets: self.lost_before + self.reception.lost(), ..self.summary.clone() }
    }
}

impl<W: Write + Seek> Output<W> {
    fn write(&mut self, start: SessionStart, at: Duration, track: TrackIndex, frame: &Queued) -> io::Result<()> {
        if let Some(out) = self.unopened.take() {
            self.zero = at;
            self.writer = Some(Writer::new(out, &self.codecs, start.wall + at));
        }
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if frame.keyframe {
            writer.describe(track, frame.size, frame.configuration.as_deref())?;
        }
        writer.write(track, at.saturating_sub(self.zero), frame.length, frame.keyframe, &frame.data)?;
        self.end = self.zero + writer.duration();
        Ok(())
    }
}

impl Offset {
    /// Measures once a second: what sound and picture are off just now, against each other.
    fn note_picture(&mut self, placed: Placed, is_heard: bool) {
        let due = self.last.is_none_or(|last| placed.at >= last + Duration::from_secs(1));
        if !is_heard || !due {
            return;
        }
        self.last = Some(placed.at);
        let offset = (self.audio - placed.error) as f64 / 1e6;
        self.sum += offset;
        self.max = self.max.max(offset.abs());
        self.samples += 1;
    }

    fn told(&self) -> Option<AvOffset> {
        let round = |ms: f64| (ms * 1_000.0).round() / 1_000.0;
        let mean = self.sum / self.samples.max(1) as f64;
        (self.samples > 0).then(|| AvOffset { mean_ms: round(mean), max_ms: round(self.max), samples: self.samples })
    }
}

fn opus_length(data: &[u8]) -> Duration {
    Duration::from_micros(u64::from(opus::samples(data).unwrap_or(0)) * 1_000 / 48)
}

fn ms(at: Duration) -> u64 {
    at.as_millis() as u64
}

#[cfg(test)]
mod tests;
