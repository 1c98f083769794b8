//! `GET /v1/room`: one WebSocket, from its `hello` to its close frame.
use super::auth::{Admitted, Visitor};
use super::clock;
use super::close::{self, CloseCode};
use super::frame::{self, Frame};
use super::hub::{Letter, RoomLink};
use super::metrics::SignalMetrics;
use super::outbox::{Closing, Next, Outbox, OutboxReader, outbox};
use super::problem::Problem;
use super::{Signal, origin};
use crate::room::api::{Input, SocketId, Text};
use crate::room::messages::{ApiError, Request};
use axum::extract::State;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::Instrument;

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
pub(super) async fn upgrade(State(signal): State<Signal>, headers: HeaderMap, ws: WebSocketUpgrade) -> Response {
    if !origin::allowed(&signal.settings.cors, &headers) {
        return Problem::new(StatusCode::FORBIDDEN, "pages of this origin may not join rooms here").into_response();
    }
    let Some(seat) = Seat::take(&signal) else {
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server has as many sockets as it may")
            .retry_after(5)
            .into_response();
    };
    let bytes = signal.settings.limits.frame_bytes;
    ws.protocols([SUBPROTOCOL])
        .max_message_size(bytes)
        .max_frame_size(bytes)
        .on_upgrade(move |socket| serve(signal, socket, seat))
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

async fn serve(signal: Signal, socket: WebSocket, seat: Seat) {
    let (sink, stream) = socket.split();
    let (outbox, queue) = outbox(signal.settings.limits.outbox);
    let writer = tokio::spawn(write(sink, queue, seat.0.clone()));
    let mut reader = Reader { id: signal.hub().socket_id(), signal, stream, writer, outbox, frames: Bucket::full() };
    let closing = reader.run().await;
    reader.outbox.close(closing.code, closing.reason);
    reader.finish().await;
}

/// Writes frames until there is a close frame to write, or until the client takes no more.
async fn write(mut sink: SplitSink<WebSocket, Message>, mut queue: OutboxReader, metrics: Arc<SignalMetrics>) {
    loop {
        let (message, last) = match queue.next().await {
            Next::Text(text) => (Message::Text(text.to_string().into()), false),
            Next::Close(closing) => {
                metrics.closed(closing.code);
                (Message::Close(Some(CloseFrame { code: closing.code, reason: closing.reason.into() })), true)
            }
        };
        let sent = timeout(WRITE_WITHIN, sink.send(message)).await;
        if last || !matches!(sent, Ok(Ok(()))) {
            return;
        }
        metrics.frames_out.fetch_add(1, Relaxed);
    }
}

struct Reader {
    id: SocketId,
    signal: Signal,
    stream: SplitStream<WebSocket>,
    writer: JoinHandle<()>,
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

impl Reader {
    /// Reads to the end, and says what to close with, should nothing else have closed the socket before.
    async fn run(&mut self) -> Closing {
        let request = match timeout(HELLO_WITHIN, self.first()).await {
            Ok(Ok(request)) => request,
            Ok(Err(closing)) => return closing,
            Err(_) => return Closing { code: close::TOO_SLOW, reason: "no hello came within 5 s" },
        };
        let (link, admitted) = match self.hello(request).await {
            Ok(entered) => entered,
            Err(closing) => return closing,
        };
        let span =
            tracing::info_span!("participant", room = %admitted.room, name = admitted.claims.name, socket = self.id.0);
        let closing = self.converse(&link).instrument(span).await;
        link.send(Letter::Input(Input::SocketClosed { socket: self.id })).await;
        closing
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
    async fn hello(&mut self, request: Request) -> Result<(RoomLink, Admitted), Closing> {
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
        let input = Input::Hello { socket: self.id, id, hello, claims: admitted.claims.clone() };
        let letter = Letter::Hello { socket: self.id, outbox: self.outbox.clone(), input };
        if link.send(letter).await {
            Ok((link, admitted))
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
            _ = &mut self.writer => return Read::End,
        };
        match message {
            Some(Ok(Message::Text(text))) => {
                self.signal.metrics().frames_in.fetch_add(1, Relaxed);
                Read::Text(text.as_str().to_owned())
            }
            Some(Ok(Message::Binary(_))) => {
                Read::Bad(Closing { code: close::UNSUPPORTED_DATA, reason: "the room API is text" })
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Read::Alive,
            Some(Ok(Message::Close(_))) | None => Read::End,
            Some(Err(error)) => read_error(&error),
        }
    }

    /// Waits until the close frame is out and answered, each within its bound.
    async fn finish(mut self) {
        if !self.writer.is_finished() {
            let _ = (&mut self.writer).await;
        }
        let answered = async { while let Some(Ok(_)) = self.stream.next().await {} };
        let _ = timeout(CLOSE_WITHIN, answered).await;
    }
}

/// The client went, or the room has closed the socket already.
const BYE: Closing = Closing { code: close::NORMAL, reason: "bye" };

fn bad_message(reason: &'static str) -> Closing {
    Closing { code: close::BAD_MESSAGE, reason }
}

/// axum hides the type of what went wrong; its words say it, and a test holds them.
fn read_error(error: &axum::Error) -> Read {
    let words = error.to_string();
    let (code, reason): (CloseCode, &'static str) = if words.contains("too long") {
        (close::TOO_BIG, "the frame is too large")
    } else if words.contains("UTF-8") {
        (close::INVALID_PAYLOAD, "the text is not UTF-8")
    } else if words.contains("protocol") {
        (close::PROTOCOL, "the frame breaks the WebSocket protocol")
    } else {
        return Read::End;
    };
    Read::Bad(Closing { code, reason })
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
