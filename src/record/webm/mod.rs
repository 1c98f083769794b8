//! WebM and Matroska (RFC 9559), written so that a file can be read at any moment.
//!
//! The file grows by clusters of at most one second, each written at once, with its size; a crash loses the cluster that was being
//! filled. The Segment's size stays unknown while it grows. A clean [`finish`](Writer::finish) appends the cues, and overwrites
//! what was reserved in front: a place for the SeekHead, the duration, the Segment's size. What is learnt late (a picture's
//! size, a decoder's configuration) is written over reserved places too.
//!
//! ```text
//!   EBML  Segment( [SeekHead or Void]  Info([Duration or Void])  Tracks([TrackEntry…])  Cluster(Timestamp SimpleBlock…)…  [Cues] )
//! ```
mod header;
mod index;
pub mod read;

use super::depacketize::Size;
use super::ebml::{self, id};
use crate::rtp::Codec;
use header::Layout;
pub(super) use header::voided;
pub(super) use index::{Cue, close};
use std::io::{self, Seek, SeekFrom, Write};
use std::time::{Duration, SystemTime};

/// A cluster spans no more, in milliseconds.
const MAX_CLUSTER_SPAN: i64 = 1_000;
/// A cluster holds no more bytes, but for a single frame that does.
const MAX_CLUSTER_BYTES: usize = 2 << 20;
/// Without video, there is a cue this often, in milliseconds.
const AUDIO_CUES: i64 = 5_000;
const KEYFRAME_FLAG: u8 = 0x80;

/// What a track of a file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrackCodec {
    Vp8,
    Vp9,
    Av1,
    H264,
    Opus { channels: u8 },
}

impl TrackCodec {
    /// What a file keeps of an RTP stream of this codec. Audio is stereo: a decoder makes that of mono.
    pub fn of(codec: Codec) -> Self {
        match codec {
            Codec::Vp8 => Self::Vp8,
            Codec::Vp9 { .. } => Self::Vp9,
            Codec::Av1 { .. } => Self::Av1,
            Codec::H264 { .. } => Self::H264,
            Codec::Opus | Codec::Red => Self::Opus { channels: 2 },
        }
    }

    pub fn is_video(self) -> bool {
        !matches!(self, Self::Opus { .. })
    }

    /// Matroska's name for it.
    pub fn id(self) -> &'static str {
        match self {
            Self::Vp8 => "V_VP8",
            Self::Vp9 => "V_VP9",
            Self::Av1 => "V_AV1",
            Self::H264 => "V_MPEG4/ISO/AVC",
            Self::Opus { .. } => "A_OPUS",
        }
    }

    /// WebM allows it; otherwise the file is Matroska.
    pub fn is_webm(self) -> bool {
        self != Self::H264
    }
}

/// `webm` or `mkv`: the extension that a file of these tracks should have.
pub fn extension(tracks: &[TrackCodec]) -> &'static str {
    if tracks.iter().all(|t| t.is_webm()) { "webm" } else { "mkv" }
}

/// A track of a file, by its place among those that the file was begun with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TrackIndex(pub usize);

/// Writes one file. After an error nothing more should be written: [`heal`](super::heal::heal) closes what is there.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    layout: Layout,
    tracks: Vec<Track>,
    /// Where the next cluster goes.
    position: u64,
    cluster: Cluster,
    cues: Vec<Cue>,
    /// When the last frame ends, in milliseconds.
    end: i64,
    last_audio_cue: Option<i64>,
    has_header: bool,
}

#[derive(Debug)]
struct Track {
    codec: TrackCodec,
    frames: u64,
    size: Option<Size>,
    configuration: Option<Vec<u8>>,
    last: Option<i64>,
}

/// The one that is being filled.
#[derive(Debug, Default)]
struct Cluster {
    /// Its time in milliseconds, by its first frame.
    base: Option<i64>,
    blocks: Vec<u8>,
    /// The track that a player may seek to it for.
    cue: Option<TrackIndex>,
}

impl<W: Write + Seek> Writer<W> {
    /// Begins a file at the start of `out`. Nothing is written before the first cluster. `began` is the wall-clock time of its zero.
    pub fn new(out: W, tracks: &[TrackCodec], began: SystemTime) -> Self {
        Self {
            out,
            layout: Layout::new(tracks, began),
            tracks: tracks.iter().map(|codec| Track::new(*codec)).collect(),
            position: 0,
            cluster: Cluster::default(),
            cues: Vec::new(),
            end: 0,
            last_audio_cue: None,
            has_header: false,
        }
    }

    /// Bytes written until now; the cluster that is being filled is not among them.
    pub fn written(&self) -> u64 {
        self.position
    }

    /// How much would be lost if the process died now.
    pub fn unwritten(&self) -> Duration {
        let span = self.cluster.base.map_or(0, |base| (self.end - base).max(0));
        Duration::from_millis(span as u64)
    }

    /// Tells a decoder's configuration and the size of the pictures from here on. Only the first size and configuration stand in the
    /// file's front; a stream may change its size later, and does so within the frames.
    pub fn describe(&mut self, track: TrackIndex, size: Option<Size>, configuration: Option<&[u8]>) -> io::Result<()> {
        let Some(state) = self.tracks.get_mut(track.0) else { return Ok(()) };
        if let (None, Some(size)) = (state.size, size) {
            state.size = Some(size);
            let (at, bytes) = self.layout.set_size(track, size);
            overwrite(&mut self.out, self.has_header, at, &bytes)?;
        }
        if let (None, Some(configuration)) = (&state.configuration, configuration) {
            state.configuration = Some(configuration.to_vec());
            let (at, bytes) = self.layout.set_configuration(track, configuration);
            overwrite(&mut self.out, self.has_header, at, &bytes)?;
        }
        Ok(())
    }

    /// Adds a frame, which lasts until `at + length` at least. The times of one track go up; another's may lie a little before.
    pub fn write(
        &mut self,
        track: TrackIndex,
        at: Duration,
        length: Duration,
        keyframe: bool,
        data: &[u8],
    ) -> io::Result<()> {
        let Some(codec) = self.tracks.get(track.0).map(|t| t.codec) else { return Ok(()) };
        let ms = (at.as_nanos() + 500_000) as i64 / 1_000_000;
        if self.ends_cluster(codec, ms, keyframe, data.len()) {
            self.flush()?;
        }
        let base = *self.cluster.base.get_or_insert(ms);
        self.note_cue(track, codec, ms, keyframe);
        let relative = (ms - base).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        let blocks = &mut self.cluster.blocks;
        ebml::put_id(blocks, id::SIMPLE_BLOCK);
        ebml::put_size(blocks, data.len() as u64 + 4);
        blocks.push(0x80 | (track.0 as u8 + 1));
        blocks.extend_from_slice(&relative.to_be_bytes());
        blocks.push(if keyframe { KEYFRAME_FLAG } else { 0 });
        blocks.extend_from_slice(data);
        let state = &mut self.tracks[track.0];
        state.frames += 1;
        // What a picture lasts is not known before the next one: as long as the last one did.
        let last = state.last.replace(ms).map_or(0, |last| (ms - last).clamp(0, 100));
        let length = if length.is_zero() { last } else { length.as_nanos().div_ceil(1_000_000) as i64 };
        self.end = self.end.max(ms + length);
        Ok(())
    }

    /// Writes the cluster that is being filled. To be called some times a second.
    pub fn flush(&mut self) -> io::Result<()> {
        let Some(base) = self.cluster.base.take() else { return Ok(()) };
        self.write_header()?;
        let mut head = Vec::with_capacity(32);
        let mut timestamp = Vec::with_capacity(12);
        ebml::put_uint(&mut timestamp, id::TIMESTAMP, base.max(0) as u64);
        ebml::put_id(&mut head, id::CLUSTER);
        ebml::put_size(&mut head, (timestamp.len() + self.cluster.blocks.len()) as u64);
        head.append(&mut timestamp);
        if let Some(track) = self.cluster.cue.take() {
            self.cues.push(Cue { time: base.max(0) as u64, track, position: self.position });
        }
        // In one piece, so that what a reader sees ends with a whole cluster.
        self.cluster.blocks.splice(0..0, head);
        self.out.seek(SeekFrom::Start(self.position))?;
        self.out.write_all(&self.cluster.blocks)?;
        self.position += self.cluster.blocks.len() as u64;
        self.cluster.blocks.clear();
        Ok(())
    }

    /// How long the file is so far: as long as a player will say, once it is closed.
    pub fn duration(&self) -> Duration {
        Duration::from_millis(self.end.max(0) as u64)
    }

    /// Closes the file: cues, duration, sizes. Tracks without a frame are taken out of it. Gives back what it was written to, and its
    /// length in bytes; 0 if there was no frame at all.
    pub fn finish(mut self) -> io::Result<(W, u64)> {
        self.flush()?;
        if !self.has_header {
            return Ok((self.out, 0));
        }
        let unused: Vec<_> = (0..self.tracks.len()).filter(|t| self.tracks[*t].frames == 0).map(TrackIndex).collect();
        for track in unused {
            let Some((at, byte)) = self.layout.void_track(track) else { continue };
            overwrite(&mut self.out, true, at, &[byte])?;
        }
        let length = close(&mut self.out, &self.layout.places(), self.position, &self.cues, self.end.max(0) as u64)?;
        self.out.flush()?;
        Ok((self.out, length))
    }

    /// What has been written to.
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    fn write_header(&mut self) -> io::Result<()> {
        if !self.has_header {
            self.out.seek(SeekFrom::Start(0))?;
            self.out.write_all(self.layout.bytes())?;
            self.position = self.layout.bytes().len() as u64;
            self.has_header = true;
        }
        Ok(())
    }

    fn ends_cluster(&self, codec: TrackCodec, ms: i64, keyframe: bool, len: usize) -> bool {
        let Some(base) = self.cluster.base else { return false };
        let spans = !(-MAX_CLUSTER_SPAN..MAX_CLUSTER_SPAN).contains(&(ms - base));
        // A player seeks to the beginning of a cluster.
        let seekable = codec.is_video() && keyframe;
        spans || seekable || self.cluster.blocks.len() + len > MAX_CLUSTER_BYTES
    }

    fn note_cue(&mut self, track: TrackIndex, codec: TrackCodec, ms: i64, keyframe: bool) {
        let first = self.cluster.blocks.is_empty();
        if codec.is_video() {
            if keyframe && first {
                self.cluster.cue = Some(track);
            }
        } else if first
            && !self.tracks.iter().any(|t| t.codec.is_video() && t.frames > 0)
            && self.last_audio_cue.is_none_or(|last| ms - last >= AUDIO_CUES)
        {
            self.cluster.cue = Some(track);
            self.last_audio_cue = Some(ms);
        }
    }
}

impl Track {
    fn new(codec: TrackCodec) -> Self {
        Self { codec, frames: 0, size: None, configuration: None, last: None }
    }
}

/// Writes over a part of the header, if it has been written.
fn overwrite(out: &mut (impl Write + Seek), written: bool, at: u64, bytes: &[u8]) -> io::Result<()> {
    if !written || bytes.is_empty() {
        return Ok(());
    }
    out.seek(SeekFrom::Start(at))?;
    out.write_all(bytes)
}

#[cfg(test)]
pub(super) mod tests;
