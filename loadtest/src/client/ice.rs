//! The controlling side of ICE (RFC 8445) towards a lite agent: one pair, checked until it answers, then for consent.

use super::stun::{self, Transaction};
use exedra::peer::config::IceCredentials;
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Between two consent checks, on average; Chromium does so.
const CONSENT: Duration = ms_const(2500);
/// A check that is not answered is sent again after this, at first.
const FIRST_REPEAT: Duration = ms_const(60);
const LONGEST_REPEAT: Duration = ms_const(500);
/// Without an answer for so long the connection counts as lost.
const LOST_AFTER: Duration = ms_const(5000);
/// Checks whose answers are waited for.
const OUTSTANDING: usize = 16;

const fn ms_const(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// See the module.
pub struct Ice {
    local: IceCredentials,
    remote: Option<IceCredentials>,
    outstanding: VecDeque<(Transaction, Instant)>,
    next_check: Option<Instant>,
    repeat: Duration,
    last_answer: Option<Instant>,
    /// False from a start, restart or move until a check is answered.
    confirmed: bool,
    rtt: Duration,
}

impl Ice {
    pub fn new(local: IceCredentials) -> Self {
        Self {
            local,
            remote: None,
            outstanding: VecDeque::new(),
            next_check: None,
            repeat: FIRST_REPEAT,
            last_answer: None,
            confirmed: false,
            rtt: ms_const(100),
        }
    }

    pub fn remote(&self) -> Option<&IceCredentials> {
        self.remote.as_ref()
    }

    /// Checks with these credentials from now on: the start, or an ICE restart.
    pub fn start(&mut self, now: Instant, local: IceCredentials, remote: IceCredentials) {
        (self.local, self.remote) = (local, Some(remote));
        self.recheck(now);
    }

    /// Checks at once, and often until there is an answer: the local address has changed, say.
    pub fn recheck(&mut self, now: Instant) {
        self.outstanding.clear();
        self.confirmed = false;
        self.repeat = FIRST_REPEAT;
        self.next_check = self.remote.is_some().then_some(now);
    }

    /// True while checks are answered.
    pub fn is_connected(&self, now: Instant) -> bool {
        self.last_answer.is_some_and(|at| now.saturating_duration_since(at) < LOST_AFTER)
    }

    /// Smoothed round trip of the checks; 100 ms before the first.
    pub fn rtt(&self) -> Duration {
        self.rtt
    }

    /// Takes a STUN datagram. True for the answer to one of our checks.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> bool {
        let Some(transaction) = self.remote.as_ref().and_then(|remote| stun::answered(datagram, remote)) else {
            return false;
        };
        let Some(at) = self.outstanding.iter().position(|(t, _)| *t == transaction) else { return false };
        let (_, sent) = self.outstanding[at];
        self.outstanding.drain(..=at);
        let sample = now.saturating_duration_since(sent);
        self.rtt = if self.last_answer.is_none() { sample } else { self.rtt * 3 / 4 + sample / 4 };
        self.last_answer = Some(now);
        self.confirmed = true;
        self.repeat = FIRST_REPEAT;
        self.next_check = Some(now + CONSENT);
        true
    }

    /// The check that is due, if one is.
    pub fn poll_check(&mut self, now: Instant, rng: &mut SmallRng) -> Option<Vec<u8>> {
        if self.next_check.is_none_or(|at| at > now) {
            return None;
        }
        let remote = self.remote.as_ref()?;
        let transaction: Transaction = rng.random();
        if self.outstanding.len() == OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((transaction, now));
        // A consent check that is not answered is repeated too, more slowly.
        let pause = if self.confirmed { LONGEST_REPEAT } else { self.repeat };
        self.repeat = (self.repeat * 2).min(LONGEST_REPEAT);
        self.next_check = Some(now + pause);
        Some(stun::check(transaction, &self.local, remote))
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next_check
    }
}
