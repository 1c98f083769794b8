//! Reads what the writer writes, and no more: for healing, and for tests. Whatever a file holds, reading it ends with an answer.
use super::TrackIndex;
use super::header::{DURATION_SPACE, SEEK_HEAD_SPACE};
use super::index::Places;
use crate::record::ebml::{self, Head, id};
use std::io::{self, Read, Seek, SeekFrom};

/// More than a header has.
const MAX_HEADER: u64 = 64 << 10;
/// More than a cluster has: its own bound, and one frame.
const MAX_CLUSTER: u64 = 16 << 20;

/// What stands before the clusters.
#[derive(Clone, PartialEq, Debug)]
pub struct Front {
    pub places: Places,
    /// The Segment's size is known: the file was finished.
    pub finished: bool,
    /// The file's length is what the Segment says.
    pub complete: bool,
    pub tracks: Vec<TrackEntry>,
    /// Milliseconds.
    pub duration: Option<f64>,
    pub has_seek_head: bool,
    /// Where the first cluster begins.
    pub clusters: u64,
}

/// A TrackEntry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrackEntry {
    pub number: u64,
    pub is_video: bool,
    pub codec: String,
    pub width: u64,
    pub height: u64,
    pub configuration: Option<Vec<u8>>,
    /// Of the element, in the file.
    pub at: u64,
}

/// A frame in a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block<'a> {
    pub track: TrackIndex,
    /// Milliseconds.
    pub time: i64,
    pub keyframe: bool,
    pub data: &'a [u8],
}

/// Reads the front. `None`: it is not one of ours, or not all there.
pub fn front(file: &mut (impl Read + Seek)) -> io::Result<Option<Front>> {
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(MAX_HEADER).read_to_end(&mut bytes)?;
    Ok(parse_front(&bytes, length))
}

fn parse_front(bytes: &[u8], length: u64) -> Option<Front> {
    let ebml = ebml::head(bytes).filter(|h| h.id == id::EBML)?;
    let segment_at = ebml.len + usize::try_from(ebml.size?).ok()?;
    let segment = ebml::head(bytes.get(segment_at..)?).filter(|h| h.id == id::SEGMENT)?;
    // Ours has its size in eight bytes.
    if segment.len != 12 {
        return None;
    }
    let body = segment_at + segment.len;
    let mut front = Front {
        places: Places { segment_size: segment_at as u64 + 4, segment: body as u64, ..Places::default() },
        finished: segment.size.is_some(),
        complete: segment.size.is_some() && segment.size == length.checked_sub(body as u64),
        tracks: Vec::new(),
        duration: None,
        has_seek_head: false,
        clusters: 0,
    };
    // What stands in the place of the SeekHead may be half written.
    front.has_seek_head = ebml::elements(bytes.get(body..)?).next().is_some_and(|(e, _)| e == id::SEEK_HEAD);
    let mut at = body + SEEK_HEAD_SPACE;
    while front.places.tracks == 0 {
        let Head { id: element, size, len } = ebml::head(bytes.get(at..)?)?;
        let start = at + len;
        let end = start.checked_add(usize::try_from(size?).ok()?)?;
        let body = bytes.get(start..end)?;
        match element {
            id::INFO => {
                front.places.info = at as u64;
                // Last, and maybe half written.
                front.places.duration = (start + body.len().checked_sub(DURATION_SPACE)?) as u64;
                let duration = ebml::elements(body).find(|(e, _)| *e == id::DURATION);
                front.duration = duration.and_then(|(_, value)| value.try_into().ok()).map(f64::from_be_bytes);
            }
            id::TRACKS => {
                front.places.tracks = at as u64;
                front.read_tracks(body, start)?;
            }
            _ => return None,
        }
        at = end;
    }
    front.clusters = at as u64;
    (front.places.duration > 0 && !front.tracks.is_empty()).then_some(front)
}

impl Front {
    fn read_tracks(&mut self, body: &[u8], start: usize) -> Option<()> {
        let mut at = 0;
        while at < body.len() {
            let head = ebml::head(&body[at..])?;
            let end = (at + head.len).checked_add(usize::try_from(head.size?).ok()?)?;
            let value = body.get(at + head.len..end)?;
            if head.id == id::TRACK_ENTRY {
                let mut entry = track_entry(value);
                entry.at = (start + at) as u64;
                self.tracks.push(entry);
            }
            at = end;
        }
        Some(())
    }
}

fn track_entry(body: &[u8]) -> TrackEntry {
    let mut entry = TrackEntry {
        number: 0,
        is_video: false,
        codec: String::new(),
        width: 0,
        height: 0,
        configuration: None,
        at: 0,
    };
    for (element, value) in ebml::elements(body) {
        match element {
            id::TRACK_NUMBER => entry.number = ebml::uint(value).unwrap_or(0),
            id::TRACK_TYPE => entry.is_video = ebml::uint(value) == Some(1),
            id::CODEC_ID => entry.codec = String::from_utf8_lossy(value).into_owned(),
            id::CODEC_PRIVATE => entry.configuration = Some(value.to_vec()),
            id::VIDEO => {
                for (element, value) in ebml::elements(value) {
                    match element {
                        id::PIXEL_WIDTH => entry.width = ebml::uint(value).unwrap_or(0),
                        id::PIXEL_HEIGHT => entry.height = ebml::uint(value).unwrap_or(0),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    entry
}

/// A cluster as it stands in a file.
#[derive(Debug)]
pub struct Cluster {
    /// In the file.
    pub at: u64,
    /// Milliseconds.
    pub time: i64,
    /// Bytes of its body that are there: less than it should have when the file ends within it.
    body: Vec<u8>,
    /// Where in the body the blocks begin.
    blocks: usize,
    /// It is all there.
    pub complete: bool,
    pub head_len: u64,
}

/// Reads the cluster at `at`. `None`: there is none, or too little of one.
pub fn cluster(file: &mut (impl Read + Seek), at: u64) -> io::Result<Option<Cluster>> {
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = Vec::new();
    file.by_ref().take(ebml::MAX_HEAD as u64).read_to_end(&mut bytes)?;
    let Some(Head { id: id::CLUSTER, size: Some(size), len }) = ebml::head(&bytes) else { return Ok(None) };
    if size > MAX_CLUSTER {
        return Ok(None);
    }
    let mut body = bytes.split_off(len);
    body.truncate(size as usize);
    let missing = size - body.len() as u64;
    file.take(missing).read_to_end(&mut body)?;
    let Some(timestamp) = ebml::head(&body).filter(|h| h.id == id::TIMESTAMP) else { return Ok(None) };
    let end = timestamp.size.and_then(|s| usize::try_from(s).ok()).and_then(|s| s.checked_add(timestamp.len));
    let Some(time) = end.and_then(|end| body.get(timestamp.len..end)).and_then(ebml::uint) else { return Ok(None) };
    let (Ok(time), Some(blocks)) = (i64::try_from(time), end) else { return Ok(None) };
    let complete = body.len() as u64 == size;
    Ok(Some(Cluster { at, time, body, blocks, complete, head_len: len as u64 }))
}

impl Cluster {
    /// The blocks that are all there, each with where it ends in the body.
    pub fn blocks(&self) -> impl Iterator<Item = (Block<'_>, usize)> {
        let mut at = self.blocks;
        std::iter::from_fn(move || {
            let rest = &self.body[at..];
            let head = ebml::head(rest).filter(|h| h.id == id::SIMPLE_BLOCK)?;
            let size = usize::try_from(head.size?).ok()?;
            let value = rest.get(head.len..)?.get(..size)?;
            let &[track, high, low, flags, ref data @ ..] = value else { return None };
            at += head.len + size;
            let time = self.time.saturating_add(i16::from_be_bytes([high, low]).into());
            let track = TrackIndex(usize::from(track & 0x7f).checked_sub(1)?);
            Some((Block { track, time, keyframe: flags & super::KEYFRAME_FLAG != 0, data }, at))
        })
    }

    /// Where it ends in the file, if it is all there.
    pub fn end(&self) -> u64 {
        self.at + self.head_len + self.body.len() as u64
    }

    /// Of the body, where the blocks begin.
    pub fn blocks_at(&self) -> usize {
        self.blocks
    }
}
