//! Where the rig's engine sends to.
use exedra::engine::relay::RelayBatch;
use exedra::engine::{Sink, Transmit};
use exedra::ids::RecordingId;
use exedra::rtp::{Header, Ssrc};
use quinn_udp::UdpSocketState;
use std::io;
use std::net::{SocketAddr, UdpSocket};

/// Counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    pub sends: u64,
    pub datagrams: u64,
    pub bytes: u64,
}

impl Sink for Counting {
    fn transmit(&mut self, transmit: Transmit<'_>) {
        self.sends += 1;
        self.datagrams += count(&transmit);
        self.bytes += transmit.contents.len() as u64;
    }
    /// Takes what it gets, and forgets it.
    fn record(&mut self, _to: RecordingId, batch: &mut Box<RelayBatch>) -> bool {
        batch.clear();
        true
    }
}

/// Keeps everything.
#[derive(Clone, Debug, Default)]
pub struct Collecting {
    pub datagrams: Vec<(SocketAddr, Vec<u8>)>,
}

impl Collecting {
    /// The sequence numbers of this SSRC's packets.
    pub fn sequences(&self, ssrc: Ssrc) -> Vec<u16> {
        let headers = self.datagrams.iter().filter_map(|(_, datagram)| Header::parse(datagram).ok());
        headers.filter(|h| h.ssrc == ssrc).map(|h| h.sequence).collect()
    }
}

impl Sink for Collecting {
    fn transmit(&mut self, transmit: Transmit<'_>) {
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        self.datagrams.extend(transmit.contents.chunks(size).map(|c| (transmit.path.remote, c.to_vec())));
    }
}

/// Sends on a socket of loopback, as the server's sink does.
pub struct Sending {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Datagrams that the kernel took.
    pub datagrams: u64,
}

impl Sending {
    pub fn new() -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let _ = socket2::SockRef::from(&socket).set_send_buffer_size(4 << 20);
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state, datagrams: 0 })
    }
}

impl Sink for Sending {
    fn transmit(&mut self, transmit: Transmit<'_>) {
        let wire = quinn_udp::Transmit {
            destination: transmit.path.remote,
            ecn: None,
            contents: transmit.contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.path.local_ip,
        };
        if self.state.try_send((&self.socket).into(), &wire).is_ok() {
            self.datagrams += count(&transmit);
        }
    }
}

fn count(transmit: &Transmit<'_>) -> u64 {
    transmit.segment_size.map_or(1, |size| transmit.contents.len().div_ceil(size.max(1))) as u64
}
