//! The publisher's engine, where it is on a shard of its own.
#![expect(clippy::vec_box, reason = "a batch goes to the other engine as it is, and an empty one takes its place")]
use super::{Counting, HERE, HOME};
use exedra::engine::relay::RelayBatch;
use exedra::engine::{Engine, Sink, Transmit};
use exedra::ids::ShardId;
use std::time::Instant;

pub(super) struct Home {
    pub engine: Engine,
    /// One on its way, and one to take its place, as the shards have them.
    batches: Vec<Box<RelayBatch>>,
}

/// A sink that takes batches for the other shard as well.
struct Passing<'a, S> {
    sink: &'a mut S,
    spare: &'a mut Vec<Box<RelayBatch>>,
    from: ShardId,
    passed: Option<Box<RelayBatch>>,
}

impl<S: Sink> Sink for Passing<'_, S> {
    fn transmit(&mut self, transmit: Transmit<'_>) {
        self.sink.transmit(transmit);
    }
    fn relay(&mut self, _to: ShardId, batch: &mut Box<RelayBatch>) -> bool {
        let Some(mut empty) = self.spare.pop().filter(|_| self.passed.is_none()) else { return false };
        empty.from = self.from;
        self.passed = Some(std::mem::replace(batch, empty));
        true
    }
}

impl Home {
    pub fn new(engine: Engine) -> Self {
        let batches = [HOME, HERE].map(|shard| Box::new(RelayBatch::new(shard)));
        Self { engine: engine.on_shard(HOME, 2), batches: batches.into() }
    }

    /// Flushes here, and hands to the other shard what it is to have.
    pub fn hand_over(&mut self, now: Instant, other: &mut Engine, sink: &mut impl Sink) {
        pass(now, (&mut self.engine, HOME), other, &mut self.batches, sink);
    }

    /// Does what is due, on both.
    pub fn run_timers(&mut self, now: Instant, other: &mut Engine, sink: &mut impl Sink) {
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
        }
        self.hand_over(now, other, sink);
        pass(now, (other, HERE), &mut self.engine, &mut self.batches, sink);
        self.engine.flush(now, &mut Counting::default());
    }
}

fn pass(
    now: Instant,
    (from, shard): (&mut Engine, ShardId),
    to: &mut Engine,
    spare: &mut Vec<Box<RelayBatch>>,
    sink: &mut impl Sink,
) {
    let mut passing = Passing { sink, spare, from: shard, passed: None };
    from.flush(now, &mut passing);
    if let Some(mut batch) = passing.passed {
        to.handle_relay(now, &mut batch);
        batch.clear();
        spare.push(batch);
    }
}
