//! Hands batches from shard to shard: a bounded queue into each, and a way back for the empty ones, so that their buffers are
//! used again.
use crate::engine::relay::RelayBatch;
use crate::ids::ShardId;
use tokio::sync::mpsc;

/// Batches that may wait for one shard.
const QUEUE: usize = 256;
/// Empty batches that may wait to be used again, for each pair of shards.
const SPARE: usize = 32;

/// What other shards have handed over.
pub(super) struct Inbox(mpsc::Receiver<Box<RelayBatch>>);

/// The ways to other shards, by their ids. The one to oneself leads nowhere.
pub(super) struct Neighbours(Vec<Option<Neighbour>>);

struct Neighbour {
    to: mpsc::Sender<Box<RelayBatch>>,
    /// Our own batches, empty, on their way back.
    spare: mpsc::Receiver<Box<RelayBatch>>,
    /// Theirs, on their way back.
    back: mpsc::Sender<Box<RelayBatch>>,
}

/// The links of so many shards, by their ids.
pub(super) fn connect(shards: usize) -> Vec<(Neighbours, Inbox)> {
    let (inboxes_in, inboxes): (Vec<_>, Vec<_>) = (0..shards).map(|_| mpsc::channel(QUEUE)).unzip();
    let mut links: Vec<_> =
        inboxes.into_iter().map(|inbox| (Neighbours((0..shards).map(|_| None).collect()), Inbox(inbox))).collect();
    for a in 0..shards {
        for b in 0..a {
            // Batches of `a` come back on the first, those of `b` on the second.
            let (back_to_a, spare_of_a) = mpsc::channel(SPARE);
            let (back_to_b, spare_of_b) = mpsc::channel(SPARE);
            let to_b = Neighbour { to: inboxes_in[b].clone(), spare: spare_of_a, back: back_to_b };
            let to_a = Neighbour { to: inboxes_in[a].clone(), spare: spare_of_b, back: back_to_a };
            links[a].0.0[b] = Some(to_b);
            links[b].0.0[a] = Some(to_a);
        }
    }
    links
}

impl Inbox {
    /// The next batch. None if there are no other shards (any more): not to be polled in a loop.
    pub async fn recv(&mut self) -> Option<Box<RelayBatch>> {
        self.0.recv().await
    }
    pub fn try_recv(&mut self) -> Option<Box<RelayBatch>> {
        self.0.try_recv().ok()
    }
}

impl Neighbours {
    /// Hands the batch over and leaves an empty one in its place. False, and the batch stays, if the other has too many waiting.
    pub fn relay(&mut self, to: ShardId, batch: &mut Box<RelayBatch>) -> bool {
        let Some(Some(neighbour)) = self.0.get_mut(usize::from(to.0)) else { return false };
        let Ok(permit) = neighbour.to.try_reserve() else { return false };
        let empty = neighbour.spare.try_recv().unwrap_or_else(|_| Box::new(RelayBatch::new(batch.from)));
        permit.send(std::mem::replace(batch, empty));
        true
    }

    /// Gives a batch back to the shard that it came from.
    pub fn give_back(&mut self, mut batch: Box<RelayBatch>) {
        batch.clear();
        if let Some(Some(neighbour)) = self.0.get(usize::from(batch.from.0)) {
            // With enough of them on their way, this one is not needed.
            let _ = neighbour.back.try_send(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_goes_over_and_comes_back() {
        let mut links = connect(3);
        let (mut second, mut first) = (links.remove(1), links.remove(0));
        let mut batch = Box::new(RelayBatch::new(ShardId(0)));
        let address: *const RelayBatch = &*batch;
        assert!(first.0.relay(ShardId(1), &mut batch));
        let taken = second.1.try_recv().unwrap();
        assert_eq!(taken.from, ShardId(0));
        second.0.give_back(taken);
        assert!(first.0.relay(ShardId(1), &mut batch));
        assert!(std::ptr::eq(&*batch, address), "the same buffers again");
        assert!(!first.0.relay(ShardId(0), &mut batch), "nowhere");
    }

    #[test]
    fn a_full_queue_takes_nothing() {
        let mut links = connect(2);
        let mut batch = Box::new(RelayBatch::new(ShardId(1)));
        let taken = (0..QUEUE + 10).filter(|_| links[1].0.relay(ShardId(0), &mut batch)).count();
        assert_eq!(taken, QUEUE);
        while links[0].1.try_recv().is_some() {}
        assert!(links[1].0.relay(ShardId(0), &mut batch));
    }
}
