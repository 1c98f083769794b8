//! Whom the floor sends to: bound sockets that are read as fast as they fill, in a thread or in a process of their own.
use super::FloorPlan;
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, IoSliceMut, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

/// Set for a program that is started to receive: how many sockets, and `gro` or `plain`.
const ASKED: &str = "EXEDRA_FLOOR_RECEIVERS";
/// What GRO merges is at most this long.
const LONGEST: usize = 64 << 10;
const RECEIVE_BUFFER: usize = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(1);

/// Sockets that are being read. They end with this.
pub struct Receivers {
    addresses: Vec<SocketAddr>,
    at: At,
}

enum At {
    Thread { received: Arc<AtomicU64>, _stop: oneshot::Sender<()> },
    Process { child: Child, questions: Option<ChildStdin>, answers: BufReader<ChildStdout> },
}

impl Receivers {
    /// `plan.subscribers` of them.
    pub fn start(plan: &FloorPlan) -> Result<Self, String> {
        let started = if plan.threads { Self::start_thread(plan) } else { Self::start_process(plan) };
        started.map_err(|e| format!("receivers: {e}"))
    }

    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until `packets` were received in all: full buffers drop, and a dropped packet is a cheap one. Says how many are
    /// missing when nothing more has come for a second.
    pub fn wait_for(&mut self, packets: u64) -> Result<u64, String> {
        let mut last = (self.received()?, Instant::now());
        while last.0 < packets {
            std::thread::sleep(Duration::from_micros(50));
            let received = self.received()?;
            if received > last.0 {
                last = (received, Instant::now());
            } else if last.1.elapsed() > PATIENCE {
                return Ok(packets - received);
            }
        }
        Ok(0)
    }

    /// Packets received so far, by all of them.
    pub fn received(&mut self) -> Result<u64, String> {
        match &mut self.at {
            At::Thread { received, .. } => Ok(received.load(Ordering::Acquire)),
            At::Process { questions, answers, .. } => {
                let questions = questions.as_mut().ok_or("the receivers have ended")?;
                questions.write_all(b"\n").map_err(|e| format!("the receivers have ended: {e}"))?;
                let mut line = String::new();
                answers.read_line(&mut line).map_err(|e| format!("the receivers have ended: {e}"))?;
                line.trim().parse().map_err(|e| format!("the receivers said {line:?}: {e}"))
            }
        }
    }

    fn start_thread(plan: &FloorPlan) -> io::Result<Self> {
        let sockets = bind(plan.subscribers)?;
        let addresses = sockets.iter().map(std::net::UdpSocket::local_addr).collect::<io::Result<_>>()?;
        let received = Arc::new(AtomicU64::new(0));
        let (stop, stopped) = oneshot::channel();
        let (gro, counter) = (plan.gro, Arc::clone(&received));
        std::thread::Builder::new()
            .name("floor-receivers".into())
            .spawn(move || drain(sockets, gro, counter, stopped))?;
        Ok(Self { addresses, at: At::Thread { received, _stop: stop } })
    }

    fn start_process(plan: &FloorPlan) -> io::Result<Self> {
        let asked = format!("{} {}", plan.subscribers, if plan.gro { "gro" } else { "plain" });
        let mut child = Command::new(std::env::current_exe()?)
            .env(ASKED, asked)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?);
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let ports = line.split_ascii_whitespace().map(str::parse::<u16>);
        let address = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let addresses: Vec<_> =
            ports.map(|port| port.map(address)).collect::<Result<_, _>>().map_err(io::Error::other)?;
        let receivers = Self { addresses, at: At::Process { child, questions, answers } };
        match receivers.addresses.len() == plan.subscribers {
            true => Ok(receivers),
            false => Err(io::Error::other("the program does not begin with `floor::serve_if_asked`")),
        }
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        if let At::Process { child, questions, .. } = &mut self.at {
            drop(questions.take());
            // It ends at the end of its input; one that did not understand what it was started for is ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Receives, if this program was started for that by [`measure`](super::measure); then it does not return. For the first line
/// of `main`.
pub fn serve_if_asked() {
    let Ok(asked) = std::env::var(ASKED) else { return };
    let done = serve(&asked);
    if let Err(error) = &done {
        eprintln!("floor receivers: {error}");
    }
    std::process::exit(i32::from(done.is_err()));
}

fn serve(asked: &str) -> io::Result<()> {
    let (count, gro) = asked.split_once(' ').ok_or(io::ErrorKind::InvalidInput)?;
    let sockets = bind(count.parse().map_err(io::Error::other)?)?;
    let mut ports = String::new();
    for socket in &sockets {
        ports.push_str(&format!("{} ", socket.local_addr()?.port()));
    }
    println!("{ports}");
    let received = Arc::new(AtomicU64::new(0));
    let (stop, stopped) = oneshot::channel();
    let (gro, counter) = (gro == "gro", Arc::clone(&received));
    let thread = std::thread::spawn(move || drain(sockets, gro, counter, stopped));
    for line in io::stdin().lines() {
        line?;
        println!("{}", received.load(Ordering::Acquire));
    }
    drop(stop);
    let _ = thread.join();
    Ok(())
}

fn bind(count: usize) -> io::Result<Vec<std::net::UdpSocket>> {
    let one = || {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    std::iter::repeat_with(one).take(count).collect()
}

/// Reads all sockets until `stopped`.
fn drain(sockets: Vec<std::net::UdpSocket>, gro: bool, received: Arc<AtomicU64>, stopped: oneshot::Receiver<()>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() else { return };
    let buffers = Rc::new(RefCell::new(vec![0; if gro { BATCH_SIZE * LONGEST } else { LONGEST }]));
    LocalSet::new().block_on(&runtime, async move {
        for socket in sockets {
            let (received, buffers) = (Arc::clone(&received), Rc::clone(&buffers));
            tokio::task::spawn_local(async move {
                let _ = read(socket, gro, &received, &buffers).await;
            });
        }
        let _ = stopped.await;
    });
}

async fn read(socket: std::net::UdpSocket, gro: bool, count: &AtomicU64, buffers: &RefCell<Vec<u8>>) -> io::Result<()> {
    let socket = UdpSocket::from_std(socket)?;
    // Making the state asks the kernel for GRO.
    let state = gro.then(|| UdpSocketState::new((&socket).into())).transpose()?;
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    loop {
        socket.readable().await?;
        let mut buffers = buffers.borrow_mut();
        let one = |buffer: &mut Vec<u8>| socket.try_recv(buffer).map(|_| 1);
        let many = |state: &UdpSocketState, buffers: &mut Vec<u8>, metas: &mut [RecvMeta]| {
            let mut chunks = buffers.chunks_mut(LONGEST);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            let filled =
                socket.try_io(Interest::READABLE, || state.recv((&socket).into(), &mut slices, &mut *metas))?;
            io::Result::Ok(metas.iter().take(filled).map(|m| m.len.div_ceil(m.stride.max(1)) as u64).sum())
        };
        loop {
            let packets = match &state {
                Some(state) => many(state, &mut buffers, &mut metas),
                None => one(&mut buffers),
            };
            match packets {
                Ok(packets) => count.fetch_add(packets, Ordering::Release),
                Err(_) => break,
            };
        }
    }
}
