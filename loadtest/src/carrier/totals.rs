//! What became of all media: sums over the slots of those who are here and of those who left.
use super::Cohort;
use super::client::Client;
use crate::client::subscriber::Slot;
use crate::report::model::Media;
use exedra::rtp::Kind;
use std::time::Instant;

/// Sums, by group of clients and kind of media.
#[derive(Clone, Default)]
pub(super) struct Sums {
    pub(super) cohorts: [[Media; 2]; Cohort::ALL.len()],
}

/// What all publishers did.
#[derive(Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) packets: u64,
    pub(super) due: u64,
    /// What feedback said of them.
    pub(super) acknowledged: u64,
    pub(super) missed: u64,
}

impl Sums {
    /// Adds what one client got.
    pub(super) fn add(&mut self, client: &Client) {
        let sums = &mut self.cohorts[client.cohort as usize];
        let slots = || client.participant.subscriber.iter().flat_map(|s| &s.slots);
        for slot in slots() {
            add_slot(&mut sums[slot.kind as usize], slot);
        }
        for (kind, expected) in [(Kind::Audio, client.expects.0), (Kind::Video, client.expects.1)] {
            let got = slots().filter(|s| s.kind == kind && s.ledger.expected() > 0).count();
            sums[kind as usize].silent_slots += expected.saturating_sub(got) as u64;
            sums[kind as usize].slots += expected.saturating_sub(got) as u64;
        }
    }

    /// Adds which layers one client showed last, and what the server believed of its path.
    pub(super) fn note_layers(&mut self, client: &Client) {
        let media = &mut self.cohorts[client.cohort as usize][Kind::Video as usize];
        let slots = client.participant.subscriber.iter().flat_map(|s| &s.slots);
        for shown in slots.filter_map(|s| s.viewer()?.shown()) {
            let layer = format!("encoding {}, S{} T{}", shown.encoding, shown.spatial, shown.temporal);
            *media.layers.entry(layer).or_default() += 1;
        }
        let stats = client.participant.stats.as_ref();
        if let Some(bps) = stats.and_then(|s| s["sub"]["estimateBps"].as_u64()) {
            media.estimates.add(bps);
        }
    }

    /// Of all groups and kinds.
    pub(super) fn all(&self) -> Media {
        let mut all = Media::default();
        self.cohorts.iter().flatten().for_each(|media| all.merge(media));
        all
    }
}

impl Sent {
    pub(super) fn since(&self, before: &Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(before.packets),
            due: self.due.saturating_sub(before.due),
            acknowledged: self.acknowledged.saturating_sub(before.acknowledged),
            missed: self.missed.saturating_sub(before.missed),
        }
    }

    pub(super) fn add(&mut self, client: &Client) {
        if let Some(publisher) = &client.participant.publisher {
            self.packets += publisher.stats.packets;
            self.due += publisher.stats.due;
            self.acknowledged += publisher.stats.acknowledged;
            self.missed += publisher.stats.missed;
        }
    }
}

fn add_slot(media: &mut Media, slot: &Slot) {
    let ledger = &slot.ledger;
    if ledger.expected() == 0 {
        return;
    }
    media.slots += 1;
    media.expected += ledger.expected();
    media.received += ledger.arrived + ledger.repaired;
    media.lost_before_repair += ledger.lost_before_repair();
    media.repaired += ledger.repaired;
    media.lost += ledger.lost_for_good();
    media.duplicates += ledger.duplicates;
    media.reordered += ledger.reordered;
    media.nacks += slot.stats.nacks;
    media.keyframe_requests += slot.stats.keyframe_requests;
    if let Some(viewer) = slot.viewer() {
        media.frames += viewer.stats.frames;
        media.freezes += viewer.stats.freezes;
        media.frozen_ms += viewer.stats.frozen_ms;
        media.longest_freeze_ms = media.longest_freeze_ms.max(viewer.stats.longest_freeze_ms);
    }
}

/// What came in between; of `lost` what is missing by now.
pub(super) fn difference(now: &Media, before: &Media) -> Media {
    Media {
        expected: now.expected.saturating_sub(before.expected),
        received: now.received.saturating_sub(before.received),
        received_bytes: now.received_bytes.saturating_sub(before.received_bytes),
        lost_before_repair: now.lost_before_repair.saturating_sub(before.lost_before_repair),
        repaired: now.repaired.saturating_sub(before.repaired),
        lost: now.lost,
        duplicates: now.duplicates.saturating_sub(before.duplicates),
        reordered: now.reordered.saturating_sub(before.reordered),
        ..Media::default()
    }
}

/// The end of each stream: what publishers have sent behind the last packet that a slot got. Nobody else notices that it is missing.
pub(super) fn missing_tails<'a>(clients: impl Iterator<Item = &'a Client> + Clone) -> Vec<(Cohort, Kind, u64)> {
    let publishers: rustc_hash::FxHashMap<u32, &Client> =
        clients.clone().filter(|c| c.participant.publisher.is_some()).map(|c| (c.participant.settings.id, c)).collect();
    let mut missing = Vec::new();
    for client in clients {
        for slot in client.participant.subscriber.iter().flat_map(|s| &s.slots) {
            let Some(last) = slot.last else { continue };
            let Some(sender) = publishers.get(&last.publisher).map(|p| &p.participant) else { continue };
            let Some(publisher) = &sender.publisher else { continue };
            let shown = sender.own.get(&last.track.to_string());
            // Without the room API nobody says what a slot shows; of one publisher it is clear.
            let alone = shown.is_none() && publishers.len() == 1;
            let live = alone
                || shown.is_some_and(|track| {
                    slot.track.as_ref() == Some(track)
                        && client.participant.states.get(track).is_none_or(|state| state == "live")
                });
            // Of layers, not all need come.
            let layered = publisher.encodings(last.track) != 1 || publisher.is_layered(last.track);
            if !live || publisher.generation() != last.generation || layered {
                continue;
            }
            let sent = publisher.sent(last.track, last.encoding).unwrap_or(0);
            let tail = u64::from(sent.saturating_sub(last.count.saturating_add(1)));
            if tail > 0 {
                missing.push((client.cohort, slot.kind, tail));
            }
        }
    }
    missing
}

/// Freezes that go on count as they are now.
pub(super) fn finish_viewers(client: &mut Client, now: Instant) {
    for slot in client.participant.subscriber.iter_mut().flat_map(|s| &mut s.slots) {
        slot.finish(now);
    }
}
