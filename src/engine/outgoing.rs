//! What leaves for one subscriber: paced by the estimate of its path, numbered for its feedback, joined into runs, sealed.
use super::allocate::Allocation;
use super::fanout::{self, Source};
use super::peer::{Peer, Slot};
use super::stream::ReceiveStream;
use super::timers::Timer;
use super::{Engine, Sink, Transmit};
use crate::egress::bandwidth::{Bandwidth, Purpose};
use crate::egress::pacer::{Class, Item, Pacer};
use crate::egress::segments::{Job, Limits, Run, next_run};
use crate::metrics::DropReason;
use crate::rtp::codec::Kind;
use crate::rtp::{Extension, SeqNo};
use slab::Slab;
use std::time::Instant;

/// Bytes that one send may have: the longest UDP payload over IPv4.
const MAX_SEND: usize = 65_507;
/// A packet for padding is looked for among so many of the latest ones of a slot.
const PADDING_FROM: u64 = 16;

/// The sending side of a peer with slots.
#[derive(Default)]
pub(super) struct Outgoing {
    pub bandwidth: Bandwidth,
    pub pacer: Pacer<Job<Source>>,
    pub allocation: Allocation,
    pub repairs: RepairCredit,
    /// The deadline of the pacer that stands in the timer queue.
    armed: Option<Instant>,
    /// Turns with each packet of padding, so that not the same one is sent again and again.
    turn: u64,
}

/// Bytes of repairs that may be sent: in the long run no more than of media. On a path that is full, repairs would only be lost like what they
/// repair, and again and again.
pub(super) struct RepairCredit(usize);

impl RepairCredit {
    /// A keyframe and what comes with it may be repaired at once.
    const MOST: usize = 256 << 10;

    /// So many bytes of media were sent.
    pub fn earn(&mut self, bytes: usize) {
        self.0 = (self.0 + bytes).min(Self::MOST);
    }
    /// False if a repair of so many bytes may not be sent.
    pub fn spend(&mut self, bytes: usize) -> bool {
        self.0.checked_sub(bytes).map(|rest| self.0 = rest).is_some()
    }
}

impl Default for RepairCredit {
    fn default() -> Self {
        Self(Self::MOST)
    }
}

/// Values of header extensions that the server itself gives a packet, at the moment when it leaves.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamps {
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01.
    pub transport: Option<u16>,
    /// abs-send-time: seconds, 6.18 fixed point, in the low 24 bits.
    pub sent_at: u32,
}

/// Which of the two a packet is to have: what is repeated byte by byte (a NACK without RTX) gets neither, for it would not be the same
/// again. A receiver with transport-wide feedback has no use for the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    None,
    Transport,
    SendTime,
}

impl Stamp {
    pub fn of(slot: &Slot, may_change: bool) -> Self {
        let has = |extension| slot.media.extensions.id(extension).is_some();
        match may_change {
            true if has(Extension::TransportCc) => Stamp::Transport,
            true if has(Extension::AbsSendTime) => Stamp::SendTime,
            _ => Stamp::None,
        }
    }

    /// Bytes of its value.
    pub fn len(self) -> Option<usize> {
        match self {
            Stamp::None => None,
            Stamp::Transport => Some(2),
            Stamp::SendTime => Some(3),
        }
    }
}

impl Engine {
    /// Puts what is to be sent into its queue, and takes out of it what may leave now.
    pub(super) fn pace(&mut self, now: Instant, index: usize, jobs: &mut Vec<Job<Source>>) {
        let Self { peers, batch, metrics, .. } = self;
        let Some(outgoing) = peers[index].outgoing.as_deref_mut() else { return };
        if outgoing.pacer.is_empty() && !outgoing.bandwidth.paces() {
            return;
        }
        for job in jobs.drain(..) {
            if let Err(reason) = outgoing.pacer.push(now, job.source.class, job.len, job) {
                metrics.drop_packet(reason);
            }
        }
        let mut items = std::mem::take(&mut batch.items);
        outgoing.pacer.poll(now, &mut outgoing.bandwidth, &mut items);
        for item in items.drain(..) {
            match item {
                Item::Packet(job) => jobs.push(job),
                Item::Padding { bytes } => self.pad(now, index, bytes, jobs),
            }
        }
        self.batch.items = items;
        self.arm_pacer(now, index);
    }

    /// What waits for this slot will not be sent: it was for a source that the path does not carry.
    pub(super) fn forget_waiting(&mut self, index: usize, slot: usize) {
        let Self { peers, metrics, .. } = self;
        let Some(outgoing) = peers[index].outgoing.as_deref_mut() else { return };
        outgoing.pacer.retain(|job| {
            let stays = job.source.slot as usize != slot;
            if !stays {
                metrics.drop_packet(DropReason::OldSource);
            }
            stays
        });
    }

    /// Adds packets of padding until they are `bytes` long together.
    fn pad(&mut self, now: Instant, index: usize, bytes: usize, jobs: &mut Vec<Job<Source>>) {
        let mut padded = 0;
        while padded < bytes {
            let Some(job) = self.plan_padding(now, index) else {
                if let Some(outgoing) = &mut self.peers[index].outgoing {
                    outgoing.bandwidth.handle_no_padding();
                }
                return;
            };
            padded += job.len;
            jobs.push(job);
        }
    }

    /// Sees to it that the rest of the queue gets its turn.
    fn arm_pacer(&mut self, now: Instant, index: usize) {
        let Some(outgoing) = self.peers[index].outgoing.as_deref_mut() else { return };
        let Some(at) = outgoing.pacer.poll_timeout(now) else { return };
        if outgoing.armed.is_none_or(|armed| at < armed) {
            outgoing.armed = Some(at);
            self.timers.arm(at, Timer::Pacer(index));
        }
    }

    /// The pacer's time has come: the next flush looks after the peer.
    pub(super) fn pacer_due(&mut self, at: Instant, index: usize) {
        let Some(peer) = self.peers.get_mut(index) else { return };
        let Some(outgoing) = peer.outgoing.as_deref_mut().filter(|o| o.armed == Some(at)) else { return };
        outgoing.armed = None;
        self.list(index);
    }

    /// A packet that probes for bandwidth: one of the latest again, as a retransmission that nobody asked for. It mends a loss, or
    /// is thrown away as a duplicate. Where there is none, padding alone. Both need RTX.
    fn plan_padding(&mut self, now: Instant, index: usize) -> Option<Job<Source>> {
        let Self { peers, streams, metrics, .. } = self;
        let peer = &mut peers[index];
        let overhead = usize::from(peer.overhead);
        let outgoing = peer.outgoing.as_deref_mut()?;
        let slots = peer.slots.len();
        // What still waits itself must not be overtaken by its copy: the receiver would miss what is between.
        let waiting = outgoing.pacer.queued_video() as u64;
        let mut bare = None;
        for _ in 0..slots {
            outgoing.turn += 1;
            let at = outgoing.turn as usize % slots;
            let video = |s: &&mut Slot| s.media.kind == Kind::Video && s.media.active && !s.retired;
            let Some(slot) = peer.slots.get_mut(at).filter(video) else { continue };
            let back = outgoing.turn / slots as u64 % PADDING_FROM;
            let out = slot.forwarder.highest().and_then(|highest| highest.0.checked_sub(back + waiting));
            if let Some(job) = out.and_then(|out| fanout::plan_probe(slot, at, streams, SeqNo(out), overhead)) {
                metrics.probes_out.add(1);
                return Some(job);
            }
            bare = bare.or(Some(at));
        }
        let at = bare?;
        let job = fanout::plan_bare_padding(now, peer.slots.get_mut(at)?, at, overhead)?;
        metrics.probes_out.add(1);
        Some(job)
    }

    pub(super) fn send_jobs(&mut self, now: Instant, index: usize, jobs: &[Job<Source>], sink: &mut impl Sink) {
        let timed = jobs.iter().any(|job| job.source.stamp == Stamp::SendTime);
        let sent_at = if timed { (self.ntp(now) >> 14) as u32 } else { 0 };
        let Self { peers, streams, batch, metrics, max_segments, .. } = self;
        let peer = &mut peers[index];
        let Some(path) = peer.path else { return };
        let limits = Limits { segments: *max_segments, bytes: MAX_SEND.min(batch.slab.len()) };
        let mut rest = jobs;
        while !rest.is_empty() {
            let run = next_run(rest, limits);
            let (sealed, bytes) =
                seal_run(now, peer, streams, &rest[..run.count.max(1)], run, sent_at, &mut batch.slab);
            // What could not be sealed waited for so long that it is gone; the others of its run go in another one.
            if sealed < run.count.max(1) {
                metrics.drop_packet(DropReason::TooOld);
            }
            let taken = (sealed + 1).min(run.count.max(1));
            rest = &rest[taken..];
            if sealed == 0 {
                continue;
            }
            metrics.rtp_out.add(sealed as u64);
            peer.counts.datagrams_out += sealed as u64;
            peer.counts.bytes_out += bytes as u64;
            let segment_size = (sealed > 1).then_some(run.size);
            sink.transmit(Transmit { path, contents: &batch.slab[..bytes], segment_size });
        }
    }
}

/// Seals a run into the slab, up to the first packet that is not there any more. How many packets, and how many bytes.
fn seal_run(
    now: Instant,
    peer: &mut Peer,
    streams: &Slab<ReceiveStream>,
    jobs: &[Job<Source>],
    run: Run,
    sent_at: u32,
    slab: &mut [u8],
) -> (usize, usize) {
    let Peer { association, slots, outgoing, .. } = peer;
    let (Some(outbound), Some(outgoing)) = (association.outbound(), outgoing) else { return (0, 0) };
    let mut used = 0;
    for (position, job) in jobs.iter().enumerate() {
        let padding = if position + 1 == jobs.len() { 0 } else { run.size - job.len };
        let len = job.len + padding;
        let Some(space) = slab.get_mut(used..used + len) else { return (position, used) };
        let Some(slot) = slots.get(job.source.slot as usize) else { return (position, used) };
        let stream = streams.get(job.source.stream.index as usize);
        let purpose = purpose(&job.source);
        if purpose == Purpose::Media {
            outgoing.repairs.earn(len);
        }
        let transport =
            (job.source.stamp == Stamp::Transport).then(|| outgoing.bandwidth.handle_sent(now, len, purpose));
        if transport.is_none() {
            outgoing.bandwidth.handle_unnumbered(now, len, purpose);
        }
        if fanout::seal(slot, stream, &job.source, padding, Stamps { transport, sent_at }, outbound, space).is_none() {
            return (position, used);
        }
        used += len;
    }
    (jobs.len(), used)
}

fn purpose(source: &Source) -> Purpose {
    match source.class {
        _ if source.probes => Purpose::Probe,
        Class::Repair => Purpose::Repair,
        _ => Purpose::Media,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_no_more_than_media_in_the_long_run() {
        let mut credit = RepairCredit::default();
        let sent = (0..10_000).filter(|_| {
            credit.earn(1_000);
            (0..5).filter(|_| credit.spend(1_000)).count() > 0
        });
        assert_eq!(sent.count(), 10_000, "each time at least one");
        let (mut repairs, media) = (0, 10_000);
        for _ in 0..media {
            credit.earn(1_000);
            repairs += (0..5).filter(|_| credit.spend(1_000)).count();
        }
        assert!((media..media + 300).contains(&repairs), "{repairs}");
        assert!(!credit.spend(usize::MAX));
    }
}
