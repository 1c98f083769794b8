//! What recordings count, for `/metrics`.
use crate::metrics::DropReason;
use crate::record::manifest::Ended;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Many threads write these.
#[derive(Debug)]
pub struct RecordingMetrics {
    /// That run now, those included whose files are being closed.
    pub running: AtomicU64,
    pub started: AtomicU64,
    /// That could not begin.
    pub refused: AtomicU64,
    /// By [`EndedWhy`].
    ended: [AtomicU64; EndedWhy::ALL.len()],
    /// Of media, in the files of all recordings since the start.
    pub bytes: AtomicU64,
    /// Packets that went into recordings.
    pub packets: AtomicU64,
    /// Packets that found no room in the queue of their recording.
    pub lost: AtomicU64,
    drops: [AtomicU64; DropReason::ALL.len()],
    /// Events of rooms that found no room.
    pub events_left_out: AtomicU64,
    /// Keyframes that were asked for.
    pub keyframes: AtomicU64,
    /// Bytes that wait for the threads that write.
    pub queued: AtomicU64,
    /// Files that are being written.
    pub files: AtomicU64,
    /// Bytes free on the disk.
    pub free: AtomicU64,
    /// Bytes of all recordings that there are.
    pub kept_bytes: AtomicU64,
    /// Recordings that there are, those that run not counted.
    pub kept: AtomicU64,
    pub healed: AtomicU64,
    /// Recordings that could not be healed.
    pub heal_failures: AtomicU64,
    /// Times that the disk was told to keep what was written, and how long that took.
    pub syncs: AtomicU64,
    pub sync_nanos: AtomicU64,
    pub sync_failures: AtomicU64,
    /// Recordings taken away because of their age, and because of what all take.
    pub deleted_age: AtomicU64,
    pub deleted_bytes: AtomicU64,
    /// Recordings that wait to be uploaded, that which goes up included.
    pub uploads_waiting: AtomicU64,
    /// Recordings that were found whole where they were uploaded to.
    pub uploaded_recordings: AtomicU64,
    pub uploaded_files: AtomicU64,
    pub uploaded_bytes: AtomicU64,
    /// Times that one could not go on.
    pub upload_failures: AtomicU64,
}

/// How recordings end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum EndedWhy {
    Stopped,
    RoomEnded,
    Shutdown,
    DiskFull,
    DiskError,
    /// The disk could not follow at all.
    Overrun,
    /// A mistake of our own.
    Panicked,
}

impl EndedWhy {
    pub const ALL: &'static [Self] = &[
        Self::Stopped,
        Self::RoomEnded,
        Self::Shutdown,
        Self::DiskFull,
        Self::DiskError,
        Self::Overrun,
        Self::Panicked,
    ];

    /// The label of `exedra_recordings_ended_total{why="…"}`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::RoomEnded => "room_ended",
            Self::Shutdown => "shutdown",
            Self::DiskFull => "disk_full",
            Self::DiskError => "disk_error",
            Self::Overrun => "overrun",
            Self::Panicked => "panic",
        }
    }
}

impl From<Ended> for EndedWhy {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Stopped => Self::Stopped,
            Ended::RoomEnded => Self::RoomEnded,
            Ended::Shutdown => Self::Shutdown,
            Ended::DiskFull => Self::DiskFull,
            Ended::DiskError => Self::DiskError,
            Ended::Crash => Self::Panicked,
        }
    }
}

impl Default for RecordingMetrics {
    fn default() -> Self {
        let c = AtomicU64::default;
        Self {
            running: c(),
            started: c(),
            refused: c(),
            ended: std::array::from_fn(|_| c()),
            bytes: c(),
            packets: c(),
            lost: c(),
            drops: std::array::from_fn(|_| c()),
            events_left_out: c(),
            keyframes: c(),
            queued: c(),
            files: c(),
            free: c(),
            kept_bytes: c(),
            kept: c(),
            healed: c(),
            heal_failures: c(),
            syncs: c(),
            sync_nanos: c(),
            sync_failures: c(),
            deleted_age: c(),
            deleted_bytes: c(),
            uploads_waiting: c(),
            uploaded_recordings: c(),
            uploaded_files: c(),
            uploaded_bytes: c(),
            upload_failures: c(),
        }
    }
}

impl RecordingMetrics {
    pub(super) fn end(&self, why: EndedWhy) {
        add(&self.ended[why as usize], 1);
    }
    pub fn ended(&self, why: EndedWhy) -> u64 {
        self.ended[why as usize].load(Relaxed)
    }
    pub(super) fn drop_packet(&self, reason: DropReason) {
        add(&self.drops[reason as usize], 1);
    }
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize].load(Relaxed)
    }
}

pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Relaxed);
}
