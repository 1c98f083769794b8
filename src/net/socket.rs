//! Batched UDP: many datagrams for one receive call (recvmmsg, GRO), many for one send call (GSO), by quinn-udp.
use super::relay::Neighbours;
use super::tap::ShardTaps;
use crate::engine::relay::RelayBatch;
use crate::engine::{Path, Sink, Transmit};
use crate::ids::{RecordingId, ShardId};
use crate::metrics::{DropReason, ShardMetrics};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, Type};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Asked of the kernel for each direction, in bytes; it gives what `net.core.[rw]mem_max` allows. A second of 30 Mbit/s.
const SOCKET_BUFFER: usize = 4 << 20;
/// One buffer takes what GRO merges: at most 64 KiB.
const RECEIVE_BUFFER: usize = 64 << 10;

/// One socket for each of `shards`. Several share the port by SO_REUSEPORT; a port that another program has is refused all the same.
pub(super) fn bind_all(address: SocketAddr, shards: usize) -> io::Result<Vec<std::net::UdpSocket>> {
    if shards <= 1 || !cfg!(unix) {
        return Ok(vec![bind(address, false)?]);
    }
    if address.port() != 0 {
        // Another server of the same user could share the port with ours, and each would get half of what comes.
        drop(bind(address, false)?);
    }
    let first = bind(address, true)?;
    let address = first.local_addr()?;
    let others = (1..shards).map(|_| bind(address, true));
    std::iter::once(Ok(first)).chain(others).collect()
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<std::net::UdpSocket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    // Smaller buffers than wished for are no reason not to start.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    Ok(socket.into())
}

/// One bound socket and the buffers that it receives into.
pub(super) struct Socket {
    /// Watched for what can be read only: for UDP the kernel says of each datagram that has left that the socket can be written to,
    /// which would wake the thread once for each send.
    io: AsyncFd<std::net::UdpSocket>,
    state: UdpSocketState,
    buffers: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
}

/// Where a datagram came from, without the index of the socket.
#[derive(Clone, Copy)]
pub(super) struct From {
    remote: SocketAddr,
    local_ip: Option<IpAddr>,
}

impl From {
    pub(super) fn on(self, socket: usize) -> Path {
        Path { socket: socket as u8, remote: self.remote, local_ip: self.local_ip }
    }
}

impl Socket {
    pub(super) fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        #[expect(
            deprecated,
            reason = "its unsafe successor asks for what a socket of std is: a descriptor that stays the same"
        )]
        let io = AsyncFd::with_interest(socket, Interest::READABLE)?;
        let state = UdpSocketState::new(io.get_ref().into())?;
        let buffers = vec![0; BATCH_SIZE * RECEIVE_BUFFER];
        Ok(Self { io, state, buffers, metas: [RecvMeta::default(); BATCH_SIZE] })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.get_ref().local_addr()
    }

    pub(super) fn max_segments(&self) -> usize {
        self.state.max_gso_segments()
    }

    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_read_ready(context).map_ok(drop)
    }

    /// Receives what is there: how many buffers were filled, or `None` if nothing waits. After a call that filled fewer than there are,
    /// `poll_readable` waits for what comes next.
    pub(super) fn receive(&mut self, metrics: &ShardMetrics) -> Option<usize> {
        let Self { io, state, buffers, metas } = self;
        let mut chunks = buffers.chunks_mut(RECEIVE_BUFFER);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let mut received = None;
        // Refused datagrams of others (ICMP) surface as errors; there is nothing to do about them.
        let _ = io.try_io(Interest::READABLE, |socket| {
            metrics.receives.add(1);
            let filled = state.recv(socket.into(), &mut slices, metas)?;
            received = Some(filled);
            // Fewer than there was room for: nothing waits any more, and the kernel tells when that changes. To say so here saves
            // the call that would find it out.
            if filled < BATCH_SIZE { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        received
    }

    /// The datagrams of the last receive, from position `from` (buffer, datagram within it) on.
    pub(super) fn datagrams(
        &self,
        buffers: usize,
        from: (usize, usize),
    ) -> impl Iterator<Item = ((usize, usize), From, &[u8])> {
        let filled = self.buffers.chunks(RECEIVE_BUFFER).zip(&self.metas).take(buffers).enumerate();
        filled.skip(from.0).flat_map(move |(index, (buffer, meta))| {
            let sender = From { remote: meta.addr, local_ip: meta.dst_ip };
            let skipped = if index == from.0 { from.1 } else { 0 };
            let data = &buffer[..meta.len.min(buffer.len())];
            data.chunks(meta.stride.max(1)).enumerate().skip(skipped).map(move |(n, d)| ((index, n), sender, d))
        })
    }
}

/// Sends what the engine has to send.
pub(super) struct SocketSink<'a> {
    sockets: &'a [Socket],
    metrics: &'a ShardMetrics,
    neighbours: &'a mut Neighbours,
    taps: &'a mut ShardTaps,
}

impl<'a> SocketSink<'a> {
    pub(super) fn new(
        sockets: &'a [Socket],
        metrics: &'a ShardMetrics,
        neighbours: &'a mut Neighbours,
        taps: &'a mut ShardTaps,
    ) -> Self {
        Self { sockets, metrics, neighbours, taps }
    }
}

impl Sink for SocketSink<'_> {
    fn relay(&mut self, to: ShardId, batch: &mut Box<RelayBatch>) -> bool {
        self.neighbours.relay(to, batch)
    }

    fn record(&mut self, to: RecordingId, batch: &mut Box<RelayBatch>) -> bool {
        self.taps.record(to, batch)
    }

    fn transmit(&mut self, transmit: Transmit<'_>) {
        let Some(socket) = self.sockets.get(usize::from(transmit.path.socket)) else { return };
        let datagrams = match transmit.segment_size {
            Some(size) => transmit.contents.len().div_ceil(size.max(1)),
            None => 1,
        };
        let wire = quinn_udp::Transmit {
            destination: transmit.path.remote,
            ecn: None,
            contents: transmit.contents,
            segment_size: transmit.segment_size,
            src_ip: transmit.path.local_ip,
        };
        self.metrics.sends.add(1);
        match socket.state.try_send(socket.io.get_ref().into(), &wire) {
            Ok(()) => {
                self.metrics.datagrams_out.add(datagrams as u64);
                self.metrics.bytes_out.add(transmit.contents.len() as u64);
            }
            Err(error) => {
                let full = error.kind() == io::ErrorKind::WouldBlock;
                let reason = if full { DropReason::SendBufferFull } else { DropReason::SendFailed };
                for _ in 0..datagrams {
                    self.metrics.drop_packet(reason);
                }
                tracing::trace!(%error, to = %transmit.path.remote, "send failed");
            }
        }
    }
}
