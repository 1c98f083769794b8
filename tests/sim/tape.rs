//! What a recording gets, and what it makes of it: the real session on a disk in memory.
use crate::world::Sim;
use exedra::engine::Command;
use exedra::engine::relay::RelayBatch;
use exedra::ids::{ParticipantId, RecordingId, TrackId};
use exedra::record::manifest::{Content, Ended, EventLine, Session as Manifest};
use exedra::record::session::{Event, FileName, Session, SessionId, Storage, TrackInfo};
use exedra::record::{MediaPacket, SessionStart, SourceId};
use exedra::rtp::Codec;
use loadtest::client::VideoCodec;
use loadtest::client::payload::Tag;
use std::io::{self, Cursor};
use std::time::{Duration, Instant, UNIX_EPOCH};

pub const RECORDING: RecordingId = RecordingId(1);

/// A packet that was handed over.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub track: TrackId,
    pub seq: u64,
    /// When it was handed over.
    pub at: Instant,
    pub tag: Tag,
}

pub struct Tape {
    pub session: Session<Memory>,
    pub packets: Vec<Taken>,
    /// Keyframes that the session asked for.
    pub asked: Vec<Instant>,
    /// Batches that are refused from now on.
    pub refuse: usize,
    pub batches: usize,
    participants: Vec<ParticipantId>,
}

impl Tape {
    fn new(start: Instant) -> Self {
        let start = SessionStart { instant: start, wall: UNIX_EPOCH + Duration::from_secs(1_800_000_000) };
        let id = SessionId::try_from("sim").expect("an id");
        let session = Session::new(&id, "demo", start, Codec::Vp8, 0, Memory);
        Self { session, packets: Vec::new(), asked: Vec::new(), refuse: 0, batches: 0, participants: Vec::new() }
    }

    /// What came in a batch.
    pub fn take(&mut self, now: Instant, batch: &RelayBatch) {
        self.batches += 1;
        assert!(batch.packets() > 0, "an empty batch");
        for media in batch.media() {
            let (info, source) = (media.info, media.source);
            let packet = MediaPacket { seq: media.seq, info, captured_at: media.captured_at, bytes: media.bytes };
            let payload = packet.payload();
            let codec = match info.codec {
                Codec::Vp8 => Some(VideoCodec::Vp8),
                Codec::Vp9 { .. } => Some(VideoCodec::Vp9),
                Codec::Av1 { .. } => Some(VideoCodec::Av1),
                Codec::H264 { .. } => Some(VideoCodec::H264),
                Codec::Opus | Codec::Red => None,
            };
            let head = codec.map_or(1, |codec| codec.read(payload).expect("a head").len);
            let tag = Tag::read(&payload[head..]).expect("a tag");
            self.packets.push(Taken { track: media.track, seq: media.seq.0, at: now, tag });
            let _ = self.session.handle_packet(now, media.track, SourceId(source), packet);
        }
    }

    /// Lets time pass for the session; gives what it asks of the engine.
    pub fn poll(&mut self, now: Instant) -> Vec<Command> {
        self.session.handle_timeout(now);
        let mut commands = Vec::new();
        while let Some(event) = self.session.poll_event() {
            if let Event::WantKeyframe { track, source } = event {
                self.asked.push(now);
                commands.push(Command::Keyframe { track, source: source.0 });
            }
        }
        commands
    }
}

impl Sim {
    /// Begins to record what somebody publishes on these m-lines.
    pub fn record(&mut self, publisher: usize, mids: &[&str]) {
        let now = self.now;
        self.tape.get_or_insert_with(|| Tape::new(now));
        for mid in mids {
            let (info, at) = (self.track_info(publisher, mid), self.now);
            let Some(tape) = &mut self.tape else { return };
            if !tape.participants.contains(&info.participant) {
                tape.participants.push(info.participant);
                tape.session.handle_joined(at, info.participant, "somebody");
            }
            tape.session.handle_published(info);
            self.command(Command::Record { track: info.id, to: Some(RECORDING) });
        }
    }

    /// Ends it.
    pub fn stop_recording(&mut self, publisher: usize, mid: &str) {
        let track = self.track_info(publisher, mid).id;
        self.command(Command::Record { track, to: None });
    }

    fn track_info(&self, publisher: usize, mid: &str) -> TrackInfo {
        let own = &self.client(publisher).own[mid];
        let id = own.parse().expect("a track's id");
        let published = self.client(publisher).settings.publish[mid.parse::<usize>().expect("a number")].kind;
        let participant = ParticipantId(publisher as u64 + 1);
        TrackInfo { id, participant, content: Content::Camera, kind: published }
    }

    /// The manifest of what was recorded.
    pub fn finish_tape(&mut self) -> (Manifest, Vec<Taken>) {
        let tape = self.tape.take().expect("a recording");
        let (_, manifest) = tape.session.finish(self.now, Ended::Stopped);
        (manifest, tape.packets)
    }

    /// How many packets were recorded.
    pub fn taken_in_all(&self) -> usize {
        self.tape.as_ref().map_or(0, |tape| tape.packets.len())
    }

    /// Packets that were recorded of a track, in their order.
    pub fn taken(&self, publisher: usize, mid: &str) -> Vec<Taken> {
        let track = self.track_info(publisher, mid).id;
        self.tape.iter().flat_map(|tape| &tape.packets).filter(|p| p.track == track).copied().collect()
    }
}

/// Files that nobody reads.
pub struct Memory;

impl Storage for Memory {
    type File = Cursor<Vec<u8>>;
    fn create(&mut self, _: &FileName) -> io::Result<Self::File> {
        Ok(Cursor::default())
    }
    fn close(&mut self, _: &FileName, _: Self::File) -> io::Result<Option<String>> {
        Ok(Some("00".repeat(32)))
    }
    fn discard(&mut self, _: &FileName, _: Self::File) -> io::Result<()> {
        Ok(())
    }
    fn write_manifest(&mut self, _: &Manifest) -> io::Result<()> {
        Ok(())
    }
    fn write_event(&mut self, _: &EventLine) -> io::Result<()> {
        Ok(())
    }
}
