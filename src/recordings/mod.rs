//! The recordings of this server: those that run, and those that are kept.
//!
//! A room tells what happens to it (`RecordingCommand`); shards hand over packets (`net::tap`); a thread for each recording
//! writes (`record::session`). What is on the disk is read by [`catalogue`].
pub mod catalogue;
pub mod compose;

use crate::engine::Command;
use crate::ids::{RecordingId, RoomId};
use crate::net::tap::Taps;
use crate::room::messages::{ApiError, ErrorCode};
use crate::room::{RecordingCommand, RecordingEvent};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// How recordings are made and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where the folders of all recordings are. It is there, or is made.
    pub root: PathBuf,
    /// Bytes that are to stay free on its disk: a recording ends, and none begins, when there are fewer.
    pub min_free: u64,
}

/// What a room is told of its recording.
#[derive(Debug)]
pub struct Notice {
    pub room: RoomId,
    pub recording: RecordingId,
    pub event: RecordingEvent,
}

/// All recordings. Cheap to clone.
#[derive(Clone)]
pub struct Recordings(Arc<Inner>);

struct Inner {
    settings: Option<Settings>,
    /// The ways to the shards, by their ids: to ask for keyframes.
    shards: Vec<mpsc::Sender<Command>>,
    taps: Taps,
    notices: mpsc::UnboundedSender<Notice>,
}

impl Recordings {
    /// Without settings every recording is refused.
    pub fn new(
        settings: Option<Settings>,
        shards: Vec<mpsc::Sender<Command>>,
        taps: Taps,
        notices: mpsc::UnboundedSender<Notice>,
    ) -> Self {
        Self(Arc::new(Inner { settings, shards, taps, notices }))
    }

    /// Takes what a room has to say of a recording of its own. Never waits.
    pub fn handle(&self, room: RoomId, recording: RecordingId, command: RecordingCommand) {
        if let RecordingCommand::Start { .. } = command {
            let error = ApiError::new(
                ErrorCode::Unsupported,
                "this server keeps no recordings: it was started without --recordings DIR",
            );
            let _ = self.0.notices.send(Notice { room, recording, event: RecordingEvent::Refused(error) });
        }
    }
}
