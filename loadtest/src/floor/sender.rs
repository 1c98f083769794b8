//! The bare loop.
use super::{FloorPlan, Work};
use exedra::peer::srtp::{SrtpOutbound, SrtpProfile};
use exedra::rtp::header::HeaderWriter;
use exedra::rtp::{PayloadType, SeqNo, Ssrc};
use quinn_udp::{Transmit, UdpSocketState};
use std::io;
use std::net::{SocketAddr, UdpSocket};

const HEADER: usize = 12;
const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
/// The longest UDP payload over IPv4.
const MAX_SEND: usize = 65_507;
/// Bursts of payload that take turns, so that a payload is as warm as one that has just been received.
const PAYLOADS: usize = 32;
/// As large as the server's.
const SEND_BUFFER: usize = 4 << 20;

struct Subscriber {
    address: SocketAddr,
    outbound: SrtpOutbound,
    ssrc: Ssrc,
    next: SeqNo,
}

pub(super) struct Sender {
    socket: UdpSocket,
    state: UdpSocketState,
    subscribers: Vec<Subscriber>,
    packet_len: usize,
    burst: usize,
    segments: usize,
    payload_type: PayloadType,
    payloads: Vec<u8>,
    round: usize,
    slab: Vec<u8>,
}

impl Sender {
    pub(super) fn new(plan: &FloorPlan, addresses: &[SocketAddr]) -> Result<Self, String> {
        let shortest = HEADER + PROFILE.rtp_overhead();
        if plan.packet_len < shortest || plan.packet_len > MAX_SEND {
            return Err(format!("a packet has {shortest} to {MAX_SEND} bytes, not {}", plan.packet_len));
        }
        if plan.burst == 0 || plan.subscribers == 0 {
            return Err("at least one packet to at least one subscriber".into());
        }
        let (socket, state) = socket().map_err(|e| format!("the sending socket: {e}"))?;
        let segments = plan.burst.min(state.max_gso_segments()).min(MAX_SEND / plan.packet_len).max(1);
        let payload_len = plan.packet_len - shortest;
        let subscribers = addresses.iter().enumerate().map(|(n, address)| subscriber(n, *address));
        Ok(Self {
            socket,
            state,
            subscribers: subscribers.collect::<Result<_, _>>()?,
            packet_len: plan.packet_len,
            burst: plan.burst,
            segments,
            payload_type: PayloadType::try_from(96).map_err(|_| "a payload type")?,
            payloads: (0..PAYLOADS * plan.burst * payload_len).map(|i| (i * 31) as u8).collect(),
            round: 0,
            slab: vec![0; plan.burst * plan.packet_len],
        })
    }

    /// Packets in one send call.
    pub(super) fn segments(&self) -> usize {
        self.segments
    }

    pub(super) fn packets_a_round(&self) -> u64 {
        (self.subscribers.len() * self.burst) as u64
    }

    /// A burst for every subscriber. Says how many packets were sent.
    pub(super) fn round(&mut self, work: Work) -> Result<u64, String> {
        let mut sent = 0;
        self.round += 1;
        for index in 0..self.subscribers.len() {
            if work != Work::Send {
                self.seal(index).ok_or("a packet could not be sealed")?;
            }
            if work != Work::Seal {
                sent += self.send(index).map_err(|e| format!("send: {e}"))?;
            }
        }
        Ok(sent)
    }

    fn seal(&mut self, index: usize) -> Option<()> {
        let Self { subscribers, slab, payloads, payload_type, .. } = self;
        let subscriber = subscribers.get_mut(index)?;
        let payload_len = self.packet_len - HEADER - PROFILE.rtp_overhead();
        let first = self.round % PAYLOADS * self.burst * payload_len;
        for (n, out) in slab.chunks_exact_mut(self.packet_len).enumerate() {
            let seq = subscriber.next;
            subscriber.next = seq.next();
            let marker = n + 1 == self.burst;
            let timestamp = self.round as u32 * 3_000;
            HeaderWriter::new(out, marker, *payload_type, seq.low(), timestamp, subscriber.ssrc, false).finish();
            let start = first + n * payload_len;
            let payload = payloads.get(start..start + payload_len)?;
            subscriber.outbound.seal_rtp_parts(seq, HEADER, &[], payload, out)?;
        }
        Some(())
    }

    fn send(&mut self, index: usize) -> io::Result<u64> {
        let destination = self.subscribers[index].address;
        for contents in self.slab.chunks(self.segments * self.packet_len) {
            let segment_size = (contents.len() > self.packet_len).then_some(self.packet_len);
            let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
            self.state.try_send((&self.socket).into(), &transmit)?;
        }
        Ok(self.burst as u64)
    }
}

fn socket() -> io::Result<(UdpSocket, UdpSocketState)> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let _ = socket2::SockRef::from(&socket).set_send_buffer_size(SEND_BUFFER);
    let state = UdpSocketState::new((&socket).into())?;
    Ok((socket, state))
}

fn subscriber(n: usize, address: SocketAddr) -> Result<Subscriber, String> {
    let mut key = [0x5a; 16];
    key[..8].copy_from_slice(&(n as u64).to_be_bytes());
    let outbound = SrtpOutbound::new(PROFILE, &key, &[7; 12]).map_err(|e| e.to_string())?;
    Ok(Subscriber { address, outbound, ssrc: Ssrc(0x1000 + n as u32), next: SeqNo(1) })
}
