//! temporary
use crate::metrics::DropReason;
use crate::rtp::rtcp::TransportFeedback;
use std::time::{Duration, Instant};
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    Media,
    Repair,
    Probe,
}
#[derive(Default, Debug)]
pub struct Bandwidth {
    next: u16,
}
impl Bandwidth {
    pub fn handle_sent(&mut self, _: Instant, _: usize, _: Purpose) -> u16 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
    pub fn handle_feedback(&mut self, _: Instant, _: &TransportFeedback<'_>) -> Result<(), DropReason> {
        Ok(())
    }
    pub fn handle_remb(&mut self, _: Instant, _: u64) -> Result<(), DropReason> {
        Ok(())
    }
    pub fn handle_report(&mut self, _: Instant, _: u8) {}
    pub fn handle_rtt(&mut self, _: Duration) {}
    pub fn handle_timeout(&mut self, _: Instant) {}
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    pub fn paces(&self) -> bool {
        false
    }
}
