//! The bounded queue of frames between a room (or a reader) and the task that writes to one WebSocket.
//!
//! Overflow policy: a reader so slow that the queue fills is closed `4408`, and what was queued is thrown away: the client
//! resumes with a snapshot, which is newer anyway.
use super::close::{CloseCode, TOO_SLOW};
use crate::room::api::Text;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// How much may wait for one WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    pub messages: usize,
    /// Sum of the lengths of the frames, in bytes.
    pub bytes: usize,
}

/// Why a socket is closed: a code of the room API, and words for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    pub code: CloseCode,
    pub reason: &'static str,
}

/// The writing end: cheap to clone, never waits.
#[derive(Clone, Debug)]
pub struct Outbox(Arc<Shared>);

/// The end that the writer task reads.
#[derive(Debug)]
pub struct OutboxReader(Arc<Shared>);

/// What the writer has to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    Text(Text),
    /// The answer to a WebSocket ping, with its payload.
    Pong(Vec<u8>),
    /// Close; nothing comes after it.
    Close(Closing),
}

#[derive(Debug)]
struct Shared {
    limits: OutboxLimits,
    state: Mutex<State>,
    changed: Notify,
    /// The writing end waits for the reading end to go.
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Text>,
    bytes: usize,
    /// Only the latest ping needs an answer (RFC 6455 section 5.5.3).
    pong: Option<Vec<u8>>,
    closing: Option<Closing>,
    ended: bool,
}

/// A queue for one socket, with its two ends.
pub fn outbox(limits: OutboxLimits) -> (Outbox, OutboxReader) {
    let shared = Arc::new(Shared { limits, state: Mutex::default(), changed: Notify::new(), ended: Notify::new() });
    (Outbox(shared.clone()), OutboxReader(shared))
}

impl Outbox {
    /// Queues a frame. False if the socket is closing: now, because the queue is full, or since earlier.
    pub fn send(&self, text: Text) -> bool {
        let mut state = self.0.lock();
        if state.closing.is_some() {
            return false;
        }
        let fits = state.queue.len() < self.0.limits.messages && state.bytes + text.bytes() <= self.0.limits.bytes;
        if fits {
            state.bytes += text.bytes();
            state.queue.push_back(text);
        } else {
            state.queue.clear();
            state.bytes = 0;
            state.closing = Some(Closing { code: TOO_SLOW, reason: "too slow: more was waiting than the queue holds" });
        }
        drop(state);
        self.0.changed.notify_one();
        fits
    }

    /// Closes once what is queued has been sent. The first reason stays.
    pub fn close(&self, code: CloseCode, reason: &'static str) {
        let mut state = self.0.lock();
        if state.closing.is_none() {
            state.closing = Some(Closing { code, reason });
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// Answers a WebSocket ping.
    pub fn pong(&self, payload: Vec<u8>) {
        self.0.lock().pong = Some(payload);
        self.0.changed.notify_one();
    }

    /// Waits until nothing more is written: the close frame is out, or the client takes nothing. Cancel-safe; for one task.
    pub async fn written(&self) {
        // `notify_one` keeps a permit: nothing is missed between the look and the wait.
        while !self.0.lock().ended {
            self.0.ended.notified().await;
        }
    }

    /// Why the socket is being closed, if it is.
    pub fn closing(&self) -> Option<Closing> {
        self.0.lock().closing
    }
}

impl OutboxReader {
    /// Waits for the next thing to do. Cancel-safe. After `Close` it answers `Close` again.
    pub async fn next(&mut self) -> Next {
        loop {
            // One reader, and `notify_one` keeps a permit: nothing is missed between the look and the wait.
            if let Some(next) = self.0.lock().take() {
                return next;
            }
            self.0.changed.notified().await;
        }
    }

    /// The next thing to do, if there is any.
    pub fn try_next(&self) -> Option<Next> {
        self.0.lock().take()
    }
}

impl Drop for OutboxReader {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.ended.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self) -> Option<Next> {
        if let Some(payload) = self.pong.take() {
            return Some(Next::Pong(payload));
        }
        if let Some(text) = self.queue.pop_front() {
            self.bytes -= text.bytes();
            if self.queue.is_empty() {
                // Most sockets wait most of the time.
                self.queue = VecDeque::new();
            }
            return Some(Next::Text(text));
        }
        self.closing.map(Next::Close)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits { messages: 3, bytes: 10 };

    #[tokio::test]
    async fn what_is_queued_goes_out_before_the_close() {
        let (tx, mut rx) = outbox(LIMITS);
        assert!(tx.send(Text::plain("a")));
        tx.close(1000, "bye");
        tx.close(4500, "a later reason does not count");
        assert!(!tx.send(Text::plain("b")));
        assert_eq!(rx.next().await, Next::Text(Text::plain("a")));
        for _ in 0..2 {
            assert_eq!(rx.next().await, Next::Close(Closing { code: 1000, reason: "bye" }));
        }
    }

    #[tokio::test]
    async fn a_full_queue_closes_4408_and_drops_what_waits() {
        for flood in [vec!["1", "2", "3", "4"], vec!["12345", "67890", "x"]] {
            let (tx, mut rx) = outbox(LIMITS);
            let (last, fit) = flood.split_last().unwrap();
            assert!(fit.iter().all(|t| tx.send(Text::plain(*t))));
            assert!(!tx.send(Text::plain(*last)));
            assert!(matches!(rx.next().await, Next::Close(Closing { code: 4408, .. })));
        }
    }

    #[tokio::test]
    async fn room_is_made_by_reading() {
        let (tx, mut rx) = outbox(LIMITS);
        for _ in 0..100 {
            assert!(tx.send(Text::plain("123456789")));
            assert_eq!(rx.next().await, Next::Text(Text::plain("123456789")));
        }
    }
}
