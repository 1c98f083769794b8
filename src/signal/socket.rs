//! `GET /v1/room`: one WebSocket, from its `hello` to its close frame.
use super::addresses::{ClientAddress, Place};
use super::auth::Visitor;
use super::clock;
use super::close::{self, CloseCode};
use super::frame::{self, Frame};
use super::hub::{Letter, RoomLink};
use super::metrics::SignalMetrics;
use super::outbox::{Closing, Next, Outbox, OutboxReader, outbox};
use super::problem::Problem;
use super::ws::{self, Batch, Breach, Message, ReadError};
use super::{Signal, origin};
use crate::room::api::{Input, SocketId, Text};
use crate::room::messages::{ApiError, Request};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::net::tcp::WriteHalf;
use tokio::time::timeout;

pub const SUBPROTOCOL: &str = "exedra.v1";
/// How long the first frame may take.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// How long one frame may take to leave: a client that reads nothing at all is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// How long the client has to answer our close frame.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);
/// Frames that a client may send at once, and in a second from then on. More closes the socket `4429`.
const BURST: f64 = 300.0;
const FRAMES_PER_S: f64 = 100.0;

/// The handler. The subprotocol is agreed to if it is offered, and not insisted on.
pub(super) async fn upgrade(State(signal): State<Signal>, request: axum::extract::Request) -> Response {
    if !origin::allowed(&signal.settings.cors, request.headers()) {
        return Problem::new(StatusCode::FORBIDDEN, "pages of this origin may not join rooms here").into_response();
    }
    let Some(seat) = Seat::take(&signal) else {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server has as many sockets as it may")
            .retry_after(5)
            .into_response();
    };
    let client = request.extensions().get::<ClientAddress>().copied();
    let Some(place) = client.map_or(Some(None), |ClientAddress(ip)| signal.addresses.enter(ip).map(Some)) else {
        return Problem::new(StatusCode::TOO_MANY_REQUESTS, "this address has as many sockets as it may")
            .retry_after(5)
            .into_response();
    };
    match ws::upgrade(request, SUBPROTOCOL) {
        Ok((response, upgrade)) => {
            tokio::spawn(async move {
                // The answer is written first; then there is nothing of HTTP left of this connection.
                if let Some((stream, rest)) = upgrade.stream().await {
                    tokio::spawn(serve(signal, stream, rest, (seat, place)));
                }
            });
            response
        }
        Err(problem) => problem.into_response(),
    }
}

/// One of the sockets that the server may have. Given back when dropped.
struct Seat(Arc<SignalMetrics>);

impl Seat {
    fn take(signal: &Signal) -> Option<Self> {
        let metrics = signal.metrics().clone();
        if metrics.sockets.fetch_add(1, Relaxed) >= signal.settings.limits.sockets as u64 {
            metrics.sockets.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Self(metrics))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.sockets.fetch_sub(1, Relaxed);
    }
}

/// One task for each socket: it reads and writes until both have come to their end.
async fn serve(signal: Signal, mut stream: TcpStream, rest: Vec<u8>, (seat, _place): (Seat, Option<Place>)) {
    let limits = signal.settings.limits;
    let (read, write_half) = stream.split();
    let (outbox, queue) = outbox(limits.outbox);
    let stream = ws::Reader::new(read, limits.frame_bytes, rest);
    let reader = Reader { id: signal.hub().socket_id(), signal, stream, outbox, frames: Bucket::full() };
    tokio::join!(reader.serve(), write(write_half, queue, &seat.0));
}

/// Writes frames until there is a close frame to write, or until the client takes no more.
async fn write(mut stream: WriteHalf<'_>, mut queue: OutboxReader, metrics: &SignalMetrics) {
    loop {
        let (batch, last) = gather(queue.next().await, &queue, metrics);
        let sent = timeout(WRITE_WITHIN, batch.write(&mut stream)).await;
        if last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

/// Puts together what waits. Whether the close frame is among it.
fn gather(first: Next, queue: &OutboxReader, metrics: &SignalMetrics) -> (Batch, bool) {
    let (mut batch, mut next) = (Batch::default(), Some(first));
    while let Some(item) = next {
        match item {
            Next::Text(text) => {
                metrics.frames_out.fetch_add(1, Relaxed);
                batch.text(&text, text.bytes());
            }
            Next::Pong(payload) => batch.pong(&payload),
            Next::Close(closing) => {
                metrics.closed(closing.code);
                batch.close(closing.code, closing.reason);
                return (batch, true);
            }
        }
        next = if batch.is_full() { None } else { queue.try_next() };
    }
    (batch, false)
}

struct Reader<'s> {
    id: SocketId,
    signal: Signal,
    stream: ws::Reader<'s>,
    outbox: Outbox,
    frames: Bucket,
}

/// What became of reading.
enum Read {
    Text(String),
    /// A WebSocket ping or pong: the client lives.
    Alive,
    /// The client is gone, or our close frame is out.
    End,
    Bad(Closing),
}

impl Reader<'_> {
    /// Reads to the end, and waits until the close frame is out and answered, each within its bound.
    async fn serve(mut self) {
        let closing = self.run().await;
        self.outbox.close(closing.code, closing.reason);
        self.outbox.written().await;
        let _ = timeout(CLOSE_WITHIN, self.stream.drain()).await;
    }

    /// Says what to close with, should nothing else have closed the socket before.
    async fn run(&mut self) -> Closing {
        // In a box, so that nothing of it is kept while the socket is open.
        let link = match Box::pin(self.enter()).await {
            Ok(link) => link,
            Err(closing) => return closing,
        };
        let closing = self.converse(&link).await;
        link.send(Letter::Input(Input::SocketClosed { socket: self.id })).await;
        closing
    }

    async fn enter(&mut self) -> Result<RoomLink, Closing> {
        match timeout(HELLO_WITHIN, self.first()).await {
            Ok(request) => self.hello(request?).await,
            Err(_) => Err(Closing { code: close::TOO_SLOW, reason: "no hello came within 5 s" }),
        }
    }

    /// The first request.
    async fn first(&mut self) -> Result<Request, Closing> {
        loop {
            match self.read().await {
                Read::Text(text) => match frame::parse(&text) {
                    Ok(Frame::Request(request)) if request.kind == "hello" => return Ok(request),
                    Ok(_) => return Err(bad_message("the first frame must be hello")),
                    Err(_) => return Err(bad_message("the first frame is not a request")),
                },
                Read::Alive => {}
                Read::End => return Err(BYE),
                Read::Bad(closing) => return Err(closing),
            }
        }
    }

    /// Checks who it is, and takes them to their room. A refusal is answered before the socket is closed.
    async fn hello(&mut self, request: Request) -> Result<RoomLink, Closing> {
        let id = request.id;
        let enter = || {
            let hello = frame::hello(request.data)?;
            let visitor =
                Visitor { token: hello.token.as_deref(), room: hello.room.as_deref(), name: hello.name.as_deref() };
            let admitted = self.signal.access().admit(visitor, clock::wall_ms())?;
            let link = self.signal.hub().enter(&admitted.room)?;
            Ok((hello, admitted, link))
        };
        let (hello, admitted, link) = enter().map_err(|error: ApiError| {
            tracing::debug!(socket = self.id.0, code = ?error.code, "hello refused: {}", error.message);
            self.outbox.send(Text::plain(frame::refusal(id, &error)));
            Closing { code: close::close_code(error.code), reason: "hello was refused" }
        })?;
        tracing::debug!(socket = self.id.0, room = %admitted.room, name = admitted.claims.name, "hello");
        let input = Input::Hello { socket: self.id, id, hello, claims: admitted.claims };
        let letter = Letter::Hello { socket: self.id, outbox: self.outbox.clone(), input };
        if link.send(letter).await {
            Ok(link)
        } else {
            Err(Closing { code: close::INTERNAL, reason: "the room has just ended" })
        }
    }

    /// Hands frame after frame to the room.
    async fn converse(&mut self, link: &RoomLink) -> Closing {
        let socket = self.id;
        loop {
            let input = match self.read().await {
                Read::Text(text) => match frame::parse(&text) {
                    Ok(Frame::Request(request)) => Input::Request { socket, request },
                    Ok(Frame::Pong) => Input::Pong { socket },
                    Err(_) => return bad_message("the frame is not a request: an object with `id` and `type`"),
                },
                Read::Alive => Input::Pong { socket },
                Read::End => return BYE,
                Read::Bad(closing) => return closing,
            };
            if !self.frames.take(clock::now()) {
                return Closing { code: close::RATE_LIMITED, reason: "too many frames" };
            }
            if !link.send(Letter::Input(input)).await {
                return Closing { code: close::INTERNAL, reason: "the room has ended" };
            }
        }
    }

    async fn read(&mut self) -> Read {
        let message = tokio::select! {
            message = self.stream.next() => message,
            () = self.outbox.written() => return Read::End,
        };
        match message {
            Ok(Message::Text(text)) => {
                self.signal.metrics().frames_in.fetch_add(1, Relaxed);
                Read::Text(text)
            }
            Ok(Message::Ping(payload)) => {
                self.outbox.pong(payload);
                Read::Alive
            }
            Ok(Message::Pong) => Read::Alive,
            Ok(Message::Close) | Err(ReadError::Gone) => Read::End,
            Err(ReadError::Breach(breach)) => Read::Bad(closing_of(breach)),
        }
    }
}

/// The client went, or the room has closed the socket already.
const BYE: Closing = Closing { code: close::NORMAL, reason: "bye" };

fn bad_message(reason: &'static str) -> Closing {
    Closing { code: close::BAD_MESSAGE, reason }
}

fn closing_of(breach: Breach) -> Closing {
    let (code, reason): (CloseCode, &'static str) = match breach {
        Breach::TooLong => (close::TOO_BIG, "the frame is too large"),
        Breach::NotUtf8 => (close::INVALID_PAYLOAD, "the text is not UTF-8"),
        Breach::Binary => (close::UNSUPPORTED_DATA, "the room API is text"),
        Breach::Protocol => (close::PROTOCOL, "the frame breaks the WebSocket protocol"),
    };
    Closing { code, reason }
}

/// A token bucket.
struct Bucket {
    tokens: f64,
    filled: Option<Instant>,
}

impl Bucket {
    fn full() -> Self {
        Self { tokens: BURST, filled: None }
    }

    fn take(&mut self, now: Instant) -> bool {
        let passed = self.filled.map_or(0.0, |at| now.saturating_duration_since(at).as_secs_f64());
        self.filled = Some(now);
        self.tokens = (self.tokens + passed * FRAMES_PER_S).min(BURST);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}
