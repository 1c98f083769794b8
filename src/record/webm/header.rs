//! What stands in front of the clusters, and where in it are the places that are written again.
use super::index::Places;
use super::{TrackCodec, TrackIndex};
use crate::record::depacketize::Size;
use crate::record::ebml::{self, id};
use std::time::{Duration, SystemTime};

/// Reserved for the SeekHead.
pub const SEEK_HEAD_SPACE: usize = 100;
/// A Duration element with eight bytes of value.
pub const DURATION_SPACE: usize = 11;
/// Reserved for the configuration of a decoder: avcC is some 50 bytes, av1C some 20.
pub const CONFIGURATION_SPACE: usize = 560;

/// Decoders need 80 ms before what they play is right (RFC 7845 section 4.6).
const OPUS_PRE_ROLL_NS: u64 = 80_000_000;
/// An Opus encoder's usual delay at 48 kHz; RTP does not tell it (RFC 7845 section 4.2).
const OPUS_PRE_SKIP: u16 = 312;
const OPUS_DELAY_NS: u64 = 6_500_000;
/// Seconds from the Unix epoch to 2001, from which Matroska counts dates.
const MATROSKA_EPOCH: Duration = Duration::from_secs(978_307_200);

/// The header's bytes, and its places.
#[derive(Debug)]
pub struct Layout {
    bytes: Vec<u8>,
    places: Places,
    tracks: Vec<Entry>,
}

/// Where a TrackEntry is.
#[derive(Debug, Default)]
struct Entry {
    at: usize,
    /// Of the values of PixelWidth and PixelHeight, four bytes each.
    size: Option<(usize, usize)>,
    /// Of the place for CodecPrivate.
    configuration: Option<usize>,
}

/// What to write where, to make of a TrackEntry a Void: its id has one byte, as Void's has, so nothing else changes.
pub fn voided(track_entry: u64) -> (u64, u8) {
    const { assert!(id::TRACK_ENTRY <= 0xff && id::VOID <= 0xff) };
    (track_entry, id::VOID as u8)
}

impl Layout {
    pub fn new(tracks: &[TrackCodec], began: SystemTime) -> Self {
        let mut bytes = Vec::new();
        put_ebml(&mut bytes, tracks);
        ebml::put_id(&mut bytes, id::SEGMENT);
        let segment_size = bytes.len() as u64;
        bytes.extend_from_slice(&ebml::UNKNOWN_SIZE);
        let segment = bytes.len() as u64;
        ebml::put_void(&mut bytes, SEEK_HEAD_SPACE);
        let info = bytes.len() as u64;
        let in_info = put_info(&mut bytes, began);
        let tracks_at = bytes.len() as u64;
        let entries = put_tracks(&mut bytes, tracks);
        let places = Places { segment_size, segment, info, duration: in_info, tracks: tracks_at };
        Self { bytes, places, tracks: entries }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn places(&self) -> Places {
        self.places
    }

    /// Gives what to write where, if the header is out already.
    pub fn set_size(&mut self, track: TrackIndex, size: Size) -> (u64, Vec<u8>) {
        let Some((width, height)) = self.tracks.get(track.0).and_then(|t| t.size) else { return (0, vec![]) };
        self.put(width, &size.width.to_be_bytes());
        self.put(height, &size.height.to_be_bytes());
        (width as u64, self.bytes[width..height + 4].to_vec())
    }

    /// As [`set_size`](Self::set_size). One that is longer than its place is left out; decoders find it in the frames too.
    pub fn set_configuration(&mut self, track: TrackIndex, value: &[u8]) -> (u64, Vec<u8>) {
        let Some(at) = self.tracks.get(track.0).and_then(|t| t.configuration) else { return (0, vec![]) };
        let mut element = Vec::with_capacity(CONFIGURATION_SPACE);
        ebml::put_id(&mut element, id::CODEC_PRIVATE);
        element.extend_from_slice(&ebml::size_of_eight(value.len() as u64));
        element.extend_from_slice(value);
        let Some(rest) = CONFIGURATION_SPACE.checked_sub(element.len()).filter(|rest| *rest != 1) else {
            return (0, vec![]);
        };
        ebml::put_void(&mut element, rest);
        self.put(at, &element);
        (at as u64, element)
    }

    /// Takes a track out. See [`voided`].
    pub fn void_track(&self, track: TrackIndex) -> Option<(u64, u8)> {
        self.tracks.get(track.0).map(|entry| voided(entry.at as u64))
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
    }
}

fn put_ebml(out: &mut Vec<u8>, tracks: &[TrackCodec]) {
    let webm = tracks.iter().all(|t| t.is_webm());
    ebml::put_master(out, id::EBML, |out| {
        ebml::put_uint(out, id::EBML_VERSION, 1);
        ebml::put_uint(out, id::EBML_READ_VERSION, 1);
        ebml::put_uint(out, id::EBML_MAX_ID_LENGTH, 4);
        ebml::put_uint(out, id::EBML_MAX_SIZE_LENGTH, 8);
        ebml::put_bytes(out, id::DOC_TYPE, if webm { b"webm" } else { b"matroska" });
        ebml::put_uint(out, id::DOC_TYPE_VERSION, 4);
        ebml::put_uint(out, id::DOC_TYPE_READ_VERSION, 2);
    });
}

/// Gives where the Duration goes.
fn put_info(out: &mut Vec<u8>, began: SystemTime) -> u64 {
    let mut body = Vec::new();
    ebml::put_uint(&mut body, id::TIMESTAMP_SCALE, 1_000_000);
    let since_epoch = began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let date = since_epoch.saturating_sub(MATROSKA_EPOCH).as_nanos() as i64;
    ebml::put_bytes(&mut body, id::DATE_UTC, &date.to_be_bytes());
    ebml::put_bytes(&mut body, id::MUXING_APP, b"Exedra");
    ebml::put_bytes(&mut body, id::WRITING_APP, b"Exedra");
    let duration = body.len();
    ebml::put_void(&mut body, DURATION_SPACE);
    let len = body.len();
    ebml::put_bytes(out, id::INFO, &body);
    (out.len() - len + duration) as u64
}

fn put_tracks(out: &mut Vec<u8>, tracks: &[TrackCodec]) -> Vec<Entry> {
    let mut body = Vec::new();
    let mut entries: Vec<Entry> =
        tracks.iter().enumerate().map(|(index, codec)| put_entry(&mut body, index as u64 + 1, *codec)).collect();
    let len = body.len();
    ebml::put_bytes(out, id::TRACKS, &body);
    let start = out.len() - len;
    for entry in &mut entries {
        entry.at += start;
        entry.size = entry.size.map(|(width, height)| (width + start, height + start));
        entry.configuration = entry.configuration.map(|at| at + start);
    }
    entries
}

/// Places are relative to `out`'s begin.
fn put_entry(out: &mut Vec<u8>, number: u64, codec: TrackCodec) -> Entry {
    let mut body = Vec::new();
    ebml::put_uint(&mut body, id::TRACK_NUMBER, number);
    ebml::put_uint(&mut body, id::TRACK_UID, number);
    ebml::put_uint(&mut body, id::TRACK_TYPE, if codec.is_video() { 1 } else { 2 });
    ebml::put_uint(&mut body, id::FLAG_LACING, 0);
    ebml::put_bytes(&mut body, id::LANGUAGE, b"und");
    ebml::put_bytes(&mut body, id::CODEC_ID, codec.id().as_bytes());
    let (mut size, mut configuration) = (None, None);
    match codec {
        TrackCodec::Opus { channels } => put_opus(&mut body, channels),
        _ => {
            if matches!(codec, TrackCodec::Av1 | TrackCodec::H264) {
                configuration = Some(body.len());
                ebml::put_void(&mut body, CONFIGURATION_SPACE);
            }
            size = Some(put_video(&mut body));
        }
    }
    let (at, len) = (out.len(), body.len());
    ebml::put_bytes(out, id::TRACK_ENTRY, &body);
    let start = out.len() - len;
    Entry {
        at,
        size: size.map(|(width, height)| (width + start, height + start)),
        configuration: configuration.map(|c| c + start),
    }
}

/// Gives where the values of width and height are, four bytes each.
fn put_video(out: &mut Vec<u8>) -> (usize, usize) {
    // A size that every decoder takes, until the first keyframe tells the true one.
    let provisional = 16u32.to_be_bytes();
    ebml::put_master(out, id::VIDEO, |out| {
        ebml::put_uint(out, id::FLAG_INTERLACED, 2);
        ebml::put_bytes(out, id::PIXEL_WIDTH, &provisional);
        ebml::put_bytes(out, id::PIXEL_HEIGHT, &provisional);
    });
    (out.len() - 10, out.len() - 4)
}

/// OpusHead (RFC 7845 section 5.1) as CodecPrivate, and what Matroska wants beside it.
fn put_opus(out: &mut Vec<u8>, channels: u8) {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(channels);
    head.extend(OPUS_PRE_SKIP.to_le_bytes());
    head.extend(48_000u32.to_le_bytes());
    head.extend([0, 0, 0]); // no gain, mapping family 0
    ebml::put_bytes(out, id::CODEC_PRIVATE, &head);
    ebml::put_uint(out, id::CODEC_DELAY, OPUS_DELAY_NS);
    ebml::put_uint(out, id::SEEK_PRE_ROLL, OPUS_PRE_ROLL_NS);
    ebml::put_master(out, id::AUDIO, |out| {
        ebml::put_float(out, id::SAMPLING_FREQUENCY, 48_000.0);
        ebml::put_uint(out, id::CHANNELS, channels.into());
    });
}
