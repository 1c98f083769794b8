//! What a room says to its recording, until the recording's thread takes it. The room never waits.
//!
//! Bounds: events of the room (chat, mostly) are left out and counted when many wait already. All else has to arrive, or the files would
//! not be what the manifest says: when there is no room for it, the disk has hung for minutes, and the recording is given up.
use crate::room::RecordingCommand;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Events of a room that may wait, and their bytes.
const MAX_EVENTS: usize = 4_096;
const MAX_EVENT_BYTES: usize = 4 << 20;
/// Everything that may wait.
const MAX_WAITING: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct Mailbox(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    letters: VecDeque<Said>,
    events: usize,
    event_bytes: usize,
    is_closed: bool,
}

/// What was said, and when.
#[derive(Debug)]
pub(super) struct Said {
    pub at: Instant,
    pub command: RecordingCommand,
}

/// What became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Posted {
    Taken,
    /// An event that finds no room.
    LeftOut,
    /// Told once: the recording is to be given up.
    Overrun,
    /// It was given up.
    Closed,
}

impl Mailbox {
    pub fn post(&self, said: Said) -> Posted {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Posted::Closed;
        }
        if let RecordingCommand::Event { data, .. } = &said.command {
            if waiting.events >= MAX_EVENTS || waiting.event_bytes + data.len() > MAX_EVENT_BYTES {
                return Posted::LeftOut;
            }
            waiting.events += 1;
            waiting.event_bytes += data.len();
        } else if waiting.letters.len() >= MAX_WAITING {
            *waiting = Waiting { is_closed: true, ..Waiting::default() };
            return Posted::Overrun;
        }
        waiting.letters.push_back(said);
        Posted::Taken
    }

    /// Takes all that waits. False once it was given up.
    pub fn take(&self, into: &mut VecDeque<Said>) -> bool {
        let mut waiting = self.lock();
        (waiting.events, waiting.event_bytes) = (0, 0);
        into.append(&mut waiting.letters);
        !waiting.is_closed
    }

    /// It was given up.
    pub fn is_overrun(&self) -> bool {
        self.lock().is_closed
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test may read the clock")]
mod tests {
    use super::*;
    use crate::ids::TrackId;

    fn post(mailbox: &Mailbox, command: RecordingCommand) -> Posted {
        mailbox.post(Said { at: Instant::now(), command })
    }

    fn event(bytes: usize) -> RecordingCommand {
        RecordingCommand::Event { kind: "message", data: "x".repeat(bytes).into() }
    }

    const MUTED: RecordingCommand = RecordingCommand::Muted { track: TrackId(1) };

    #[test]
    fn events_are_left_out_where_the_rest_is_taken() {
        let mailbox = Mailbox::default();
        assert_eq!(post(&mailbox, event(MAX_EVENT_BYTES)), Posted::Taken);
        assert_eq!(post(&mailbox, event(1)), Posted::LeftOut);
        assert_eq!(post(&mailbox, MUTED), Posted::Taken);
        let mut taken = VecDeque::new();
        assert!(mailbox.take(&mut taken));
        assert_eq!(taken.len(), 2);
        assert_eq!((0..MAX_EVENTS + 5).filter(|_| post(&mailbox, event(1)) == Posted::Taken).count(), MAX_EVENTS);
    }

    #[test]
    fn what_cannot_be_left_out_gives_the_recording_up_once() {
        let mailbox = Mailbox::default();
        let posted: Vec<_> = (0..MAX_WAITING + 3).map(|_| post(&mailbox, MUTED)).collect();
        assert!(posted[..MAX_WAITING].iter().all(|p| *p == Posted::Taken));
        assert_eq!(posted[MAX_WAITING..], [Posted::Overrun, Posted::Closed, Posted::Closed]);
        assert!(!mailbox.take(&mut VecDeque::new()));
    }
}
