//! One participant on real sockets.
use exedra::peer::LocalIdentity;
use futures_util::{SinkExt, StreamExt};
use loadtest::client::participant::Pc;
use loadtest::client::{Epoch, Participant, Settings, TrackConfig};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Datagrams read from one socket before others get their turn.
const BURST: usize = 64;
const LONGEST_DATAGRAM: usize = 2_048;

/// What somebody is to do.
pub struct Plan {
    pub http: String,
    pub room: String,
    pub id: u32,
    pub publish: Vec<TrackConfig>,
    /// How many slots of each kind are to get something.
    pub expects: usize,
    pub epoch: Epoch,
    pub identity: LocalIdentity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Run,
    /// Nothing is sent any more.
    Settle,
    End,
}

/// What became of it.
pub struct Outcome {
    pub participant: Participant,
    pub expects: usize,
    pub began: Instant,
    /// Datagrams that the kernel did not take.
    pub unsent: u64,
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

struct Call {
    participant: Participant,
    socket: Socket,
    /// One for each connection.
    udp: [UdpSocket; 2],
    unsent: u64,
}

/// Joins, takes part until the end, and says what became of it.
pub async fn run(plan: Plan, mut phases: watch::Receiver<Phase>) -> Result<Outcome, String> {
    let began = Instant::now();
    let expects = plan.expects;
    let mut call = Call::join(plan).await?;
    loop {
        call.drain().await?;
        let deadline = call.participant.poll_timeout().unwrap_or(began + Duration::from_secs(3_600));
        tokio::select! {
            biased;
            changed = phases.changed() => {
                if changed.is_err() || *phases.borrow() == Phase::End {
                    break;
                }
                if let Some(publisher) = &mut call.participant.publisher {
                    ["0", "1"].iter().for_each(|mid| publisher.set_muted(mid, true));
                }
            }
            frame = call.socket.next() => call.take_frame(frame)?,
            pc = readable(&call.udp) => call.receive(pc),
            () = tokio::time::sleep_until(deadline.into()) => call.participant.handle_timeout(Instant::now()),
        }
    }
    call.participant.leave();
    call.drain().await?;
    let _ = call.socket.close(None).await;
    Ok(Outcome { participant: call.participant, expects, began, unsent: call.unsent })
}

async fn readable(udp: &[UdpSocket; 2]) -> Pc {
    poll_fn(|context| {
        let ready = Pc::BOTH.into_iter().find(|pc| udp[*pc as usize].poll_recv_ready(context).is_ready());
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

impl Call {
    async fn join(plan: Plan) -> Result<Self, String> {
        let url = format!("{}/v1/room", plan.http.replacen("http", "ws", 1).trim_end_matches('/'));
        let mut request = url.as_str().into_client_request().map_err(|e| format!("{url}: {e}"))?;
        let protocol = "exedra.v1".parse().map_err(|_| "a protocol name")?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let (socket, _) = tokio_tungstenite::connect_async(request).await.map_err(|e| format!("{url}: {e}"))?;
        let mut participant = Participant::new(Settings {
            room: plan.room,
            name: format!("load {}", plan.id),
            id: plan.id,
            publish: plan.publish,
            subscribe: true,
            epoch: plan.epoch,
            seed: rand::random(),
            identity: plan.identity,
            most_slots: (usize::MAX, usize::MAX),
            rtx: true,
            mends: true,
        });
        participant.socket_opened();
        let udp = [bind().await?, bind().await?];
        Ok(Self { participant, socket, udp, unsent: 0 })
    }

    /// Sends what there is to send.
    async fn drain(&mut self) -> Result<(), String> {
        while let Some((pc, to, datagram)) = self.participant.poll_transmit() {
            if self.udp[pc as usize].try_send_to(&datagram, to).is_err() {
                self.unsent += 1;
            }
        }
        while let Some(text) = self.participant.poll_text() {
            self.socket.send(Message::text(text)).await.map_err(|e| format!("room socket: {e}"))?;
        }
        Ok(())
    }

    fn take_frame(
        &mut self,
        frame: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> Result<(), String> {
        match frame {
            Some(Ok(Message::Text(text))) => self.participant.handle_text(Instant::now(), &text),
            Some(Ok(Message::Close(why))) => return Err(format!("the server closed the room socket: {why:?}")),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(format!("room socket: {error}")),
            None => return Err("the server closed the room socket".into()),
        }
        Ok(())
    }

    fn receive(&mut self, pc: Pc) {
        let mut buffer = [0; LONGEST_DATAGRAM];
        for _ in 0..BURST {
            let Ok((len, _)) = self.udp[pc as usize].try_recv_from(&mut buffer) else { return };
            self.participant.handle_datagram(Instant::now(), pc, &buffer[..len]);
        }
    }
}

async fn bind() -> Result<UdpSocket, String> {
    UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).await.map_err(|e| format!("a UDP socket: {e}"))
}
