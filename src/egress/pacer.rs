//! temporary
use super::bandwidth::Bandwidth;
use crate::metrics::DropReason;
use std::time::Instant;
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Audio,
    Repair,
    Video,
}
#[derive(Debug)]
pub enum Item<J> {
    Packet(J),
    Padding { bytes: usize },
}
#[derive(Debug)]
pub struct Pacer<J> {
    q: Vec<J>,
}
impl<J> Default for Pacer<J> {
    fn default() -> Self {
        Self { q: Vec::new() }
    }
}
impl<J: Copy> Pacer<J> {
    pub fn push(&mut self, _: Instant, _: Class, _: usize, job: J) -> Result<(), DropReason> {
        self.q.push(job);
        Ok(())
    }
    pub fn poll(&mut self, _: Instant, _: &mut Bandwidth, out: &mut Vec<Item<J>>) {
        out.extend(self.q.drain(..).map(Item::Packet))
    }
    pub fn poll_timeout(&self, _: Instant) -> Option<Instant> {
        None
    }
    pub fn is_empty(&self) -> bool {
        self.q.is_empty()
    }
    pub fn clear(&mut self) {}
}
