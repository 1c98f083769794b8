//! The end of a file: cues, and what then is written over the reserved places. The writer and `heal` end a file alike.
use super::TrackIndex;
use super::header::{DURATION_SPACE, SEEK_HEAD_SPACE};
use crate::record::ebml::{self, id};
use std::io::{self, Seek, SeekFrom, Write};

/// A cluster that players may seek to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cue {
    /// Milliseconds.
    pub time: u64,
    pub track: TrackIndex,
    /// Of the cluster, in the file.
    pub position: u64,
}

/// Offsets in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Places {
    /// The Segment's size, in eight bytes.
    pub segment_size: u64,
    /// The Segment's body, where the SeekHead goes first.
    pub segment: u64,
    pub info: u64,
    pub duration: u64,
    pub tracks: u64,
}

/// Ends a file whose clusters end at `end`, and which lasts `duration` milliseconds. Gives its length in bytes.
pub fn close(out: &mut (impl Write + Seek), places: &Places, end: u64, cues: &[Cue], duration: u64) -> io::Result<u64> {
    let index = cue_element(places, cues);
    out.seek(SeekFrom::Start(end))?;
    out.write_all(&index)?;
    let length = end + index.len() as u64;

    let mut element = Vec::new();
    ebml::put_float(&mut element, id::DURATION, duration as f64);
    debug_assert_eq!(element.len(), DURATION_SPACE);
    out.seek(SeekFrom::Start(places.duration))?;
    out.write_all(&element)?;

    out.seek(SeekFrom::Start(places.segment))?;
    out.write_all(&seek_head(places, if index.is_empty() { None } else { Some(end) }))?;

    // Last, because a file with a known size passes for finished.
    out.seek(SeekFrom::Start(places.segment_size))?;
    out.write_all(&ebml::size_of_eight(length - places.segment))?;
    Ok(length)
}

fn cue_element(places: &Places, cues: &[Cue]) -> Vec<u8> {
    let mut out = Vec::new();
    if cues.is_empty() {
        return out;
    }
    ebml::put_master(&mut out, id::CUES, |out| {
        for cue in cues {
            ebml::put_master(out, id::CUE_POINT, |out| {
                ebml::put_uint(out, id::CUE_TIME, cue.time);
                ebml::put_master(out, id::CUE_TRACK_POSITIONS, |out| {
                    ebml::put_uint(out, id::CUE_TRACK, cue.track.0 as u64 + 1);
                    ebml::put_uint(out, id::CUE_CLUSTER_POSITION, cue.position - places.segment);
                });
            });
        }
    });
    out
}

/// The SeekHead, filled up to the place that is reserved for it.
fn seek_head(places: &Places, cues: Option<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    let wanted = [(id::INFO, Some(places.info)), (id::TRACKS, Some(places.tracks)), (id::CUES, cues)];
    ebml::put_master(&mut out, id::SEEK_HEAD, |out| {
        for (element, at) in wanted.into_iter().filter_map(|(e, at)| Some((e, at?))) {
            ebml::put_master(out, id::SEEK, |out| {
                let mut name = Vec::new();
                ebml::put_id(&mut name, element);
                ebml::put_bytes(out, id::SEEK_ID, &name);
                ebml::put_uint(out, id::SEEK_POSITION, at - places.segment);
            });
        }
    });
    let rest = SEEK_HEAD_SPACE.saturating_sub(out.len());
    ebml::put_void(&mut out, rest);
    debug_assert_eq!(out.len(), SEEK_HEAD_SPACE);
    out
}
