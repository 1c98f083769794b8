//! A client's UDP socket, and the buffers that all of them receive into: many datagrams for one system call (recvmmsg, GRO).
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use quinn_udp::{RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

/// Asked of the kernel for each socket: more than a browser has, for one thread serves a thousand sockets.
const RECEIVE_BUFFER: usize = 4 << 20;
/// One buffer takes what GRO merges: at most 64 KiB.
const BUFFER: usize = 64 << 10;
/// Buffers filled by one system call.
pub(super) const BATCH: usize = 4;

/// One socket.
pub(super) struct Udp {
    io: UdpSocket,
    state: UdpSocketState,
    pub(super) port: u16,
}

impl Udp {
    /// A socket of the family of whom it is to talk to.
    pub(super) fn bind(to: SocketAddr, registry: &Registry, token: Token) -> io::Result<Self> {
        let any = match to {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = Socket::new(Domain::for_address(any), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        socket.bind(&any.into())?;
        let mut io = UdpSocket::from_std(socket.into());
        let state = UdpSocketState::new((&io).into())?;
        registry.register(&mut io, token, Interest::READABLE)?;
        let port = io.local_addr()?.port();
        Ok(Self { io, state, port })
    }

    /// What the kernel granted.
    pub(super) fn receive_buffer(&self) -> u64 {
        self.state.recv_buffer_size((&self.io).into()).unwrap_or(0) as u64
    }

    /// False if the kernel did not take it.
    pub(super) fn send(&self, to: SocketAddr, datagram: &[u8]) -> bool {
        self.io.send_to(datagram, to).is_ok()
    }

    pub(super) fn close(mut self, registry: &Registry) {
        let _ = registry.deregister(&mut self.io);
    }
}

/// Where datagrams are received into, by one socket after the other.
pub(super) struct Buffers {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH],
    /// The most datagrams that came in one of them.
    pub(super) datagrams_max: usize,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { bytes: vec![0; BATCH * BUFFER], metas: [RecvMeta::default(); BATCH], datagrams_max: 0 }
    }
}

impl Buffers {
    /// Receives what waits on a socket: how many buffers were filled. Fewer than [`BATCH`]: nothing more waits.
    pub(super) fn receive(&mut self, socket: &Udp) -> usize {
        let mut chunks = self.bytes.chunks_mut(BUFFER);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let received = socket.io.try_io(|| socket.state.recv((&socket.io).into(), &mut slices, &mut self.metas));
        // Refused datagrams of others (ICMP) surface as errors; there is nothing to do about them.
        let received = received.unwrap_or(0);
        for meta in self.metas.iter().take(received) {
            self.datagrams_max = self.datagrams_max.max(meta.len.div_ceil(meta.stride.max(1)));
        }
        received
    }

    /// A filled buffer: its datagrams, and when the kernel got them.
    pub(super) fn filled(&self, index: usize) -> (impl Iterator<Item = &[u8]>, Option<Duration>) {
        let meta = self.metas.get(index).copied().unwrap_or_default();
        let bytes = self.bytes.get(index * BUFFER..).and_then(|b| b.get(..meta.len)).unwrap_or_default();
        (bytes.chunks(meta.stride.max(1)), meta.timestamp)
    }
}

/// Turns the kernel's stamps, which are by the wall's clock, into moments.
#[derive(Clone, Copy)]
pub(super) struct WallClock {
    instant: Instant,
    wall: Duration,
}

impl WallClock {
    pub(super) fn now() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), wall }
    }

    pub(super) fn instant(&self, stamp: Duration) -> Instant {
        match stamp.checked_sub(self.wall) {
            Some(later) => self.instant + later,
            None => self.instant.checked_sub(self.wall - stamp).unwrap_or(self.instant),
        }
    }
}
