//! Closes a file that a crash left open: what is torn at its end is cut off, then come cues, duration and sizes, as if the recording
//! had ended there.
use super::depacketize::opus;
use super::ebml;
use super::webm::read::{self, Cluster, Front, TrackEntry};
use super::webm::{Cue, TrackIndex, close, voided};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Bytes of a cluster's id.
const CLUSTER_ID: u64 = 4;

/// Something like a file that can be cut.
pub trait Cut: Read + Write + Seek {
    /// Cuts it to this length.
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl Cut for io::Cursor<Vec<u8>> {
    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.get_mut().truncate(len as usize);
        Ok(())
    }
}

/// What became of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Healed {
    /// It was finished; nothing was changed.
    Whole,
    /// It is finished now.
    Closed {
        /// Milliseconds.
        duration: u64,
        frames: u64,
        /// Bytes that were cut off.
        lost_bytes: u64,
    },
    /// There is no frame in it, or it is none of ours; nothing was changed.
    Nothing,
}

/// Closes the file. What it does can be done again: a crash amid it is healed by the next time.
pub fn heal(file: &mut impl Cut) -> io::Result<Healed> {
    let length = file.seek(SeekFrom::End(0))?;
    let Some(front) = read::front(file)? else { return Ok(Healed::Nothing) };
    if front.finished && front.complete {
        return Ok(Healed::Whole);
    }
    let Some(found) = survey(file, &front)? else { return Ok(Healed::Nothing) };
    if let Some((at, size)) = &found.torn {
        file.seek(SeekFrom::Start(*at))?;
        file.write_all(size)?;
    }
    file.cut(found.end)?;
    for entry in &front.tracks {
        let seen = index(entry).and_then(|t| found.tracks.get(t.0));
        if seen.is_none_or(|t| t.frames == 0) {
            let (at, byte) = voided(entry.at);
            file.seek(SeekFrom::Start(at))?;
            file.write_all(&[byte])?;
        }
    }
    let duration = found.duration();
    close(file, &front.places, found.end, &found.cues, duration)?;
    file.flush()?;
    let frames = found.tracks.iter().map(|t| t.frames).sum();
    Ok(Healed::Closed { duration, frames, lost_bytes: length.saturating_sub(found.end) })
}

/// Tracks are numbered from 1.
fn index(entry: &TrackEntry) -> Option<TrackIndex> {
    usize::try_from(entry.number).ok()?.checked_sub(1).map(TrackIndex)
}

fn is_video(front: &Front, track: TrackIndex) -> bool {
    front.tracks.iter().any(|t| index(t) == Some(track) && t.is_video)
}

/// What of a file can be kept.
struct Found {
    /// Where it ends.
    end: u64,
    /// If the last cluster was torn: the size that it has now, and where to write it.
    torn: Option<(u64, Vec<u8>)>,
    cues: Vec<Cue>,
    tracks: Vec<Seen>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    frames: u64,
    last: i64,
    /// How long the last frame lasts, going by the ones before or by what it says.
    step: i64,
}

impl Found {
    fn duration(&self) -> u64 {
        let ends = self.tracks.iter().filter(|t| t.frames > 0).map(|t| t.last + t.step);
        ends.max().unwrap_or(0).max(0) as u64
    }

    fn note(&mut self, front: &Front, block: &read::Block<'_>) {
        let Some(seen) = self.tracks.get_mut(block.track.0) else { return };
        let samples = opus::samples(block.data).filter(|_| !is_video(front, block.track));
        seen.step = match samples {
            Some(samples) => i64::from(samples.div_ceil(48)),
            None if seen.frames == 0 => 0,
            None => (block.time - seen.last).clamp(0, 100),
        };
        seen.last = block.time;
        seen.frames += 1;
    }

    /// A cluster that begins with a keyframe can be sought; without video, any can.
    fn note_cue(&mut self, front: &Front, cluster: &Cluster) {
        let Some((first, _)) = cluster.blocks().next() else { return };
        let has_video =
            self.tracks.iter().enumerate().any(|(t, seen)| seen.frames > 0 && is_video(front, TrackIndex(t)));
        let far = self.cues.last().is_none_or(|last| cluster.time - last.time as i64 >= 5_000);
        let seekable = if is_video(front, first.track) { first.keyframe } else { !has_video && far };
        if seekable {
            self.cues.push(Cue { time: cluster.time.max(0) as u64, track: first.track, position: cluster.at });
        }
    }
}

/// Goes through the clusters up to the first thing that is none, or not all there.
fn survey(file: &mut impl Cut, front: &Front) -> io::Result<Option<Found>> {
    let tracks = front.tracks.iter().map(|t| t.number).max().unwrap_or(0).min(127);
    // A track that was taken out leaves its number behind; it has no frames.
    let seen = vec![Seen::default(); tracks as usize];
    let mut found = Found { end: front.clusters, torn: None, cues: Vec::new(), tracks: seen };
    while let Some(cluster) = read::cluster(file, found.end)? {
        let mut kept = cluster.blocks_at();
        for (block, end) in cluster.blocks() {
            if !front.tracks.iter().any(|t| index(t) == Some(block.track)) {
                break;
            }
            found.note(front, &block);
            kept = end;
        }
        if kept == cluster.blocks_at() {
            break;
        }
        found.note_cue(front, &cluster);
        found.end = cluster.at + cluster.head_len + kept as u64;
        if !cluster.complete || found.end != cluster.end() {
            // In as many bytes as before, so that no block moves.
            let width = cluster.head_len - CLUSTER_ID;
            found.torn = Some((cluster.at + CLUSTER_ID, ebml::size_of_width(kept as u64, width as usize)));
            break;
        }
    }
    Ok(found.tracks.iter().any(|t| t.frames > 0).then_some(found))
}

#[cfg(test)]
mod tests;
