//! The room's WebSocket without a runtime: it is polled like all other sockets.
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::ErrorKind;
use std::net::SocketAddr;
use tungstenite::client::IntoClientRequest;
use tungstenite::handshake::MidHandshake;
use tungstenite::handshake::client::ClientHandshake;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Error, HandshakeError, Message, WebSocket};

/// Thousands of these are open at once.
const READ_BUFFER: usize = 8 << 10;
const LONGEST_MESSAGE: usize = 16 << 20;

/// Where a server's HTTP is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAddress {
    /// `host:port`, as requests name it.
    pub authority: String,
    pub address: SocketAddr,
    /// Leads every path; empty, or without a slash at its end.
    pub path: String,
}

/// A WebSocket on its way, or open.
pub(super) enum RoomSocket {
    Connecting(TcpStream, String),
    Shaking(Box<MidHandshake<ClientHandshake<TcpStream>>>),
    Open(Box<WebSocket<TcpStream>>),
    Closed,
}

/// What became of a socket when it was looked at.
pub(super) enum News {
    /// It has opened just now.
    Opened,
    Text(tungstenite::Utf8Bytes),
    /// Nothing for now.
    Nothing,
    /// It is closed: by whom or by what.
    Closed(String),
}

impl RoomSocket {
    pub(super) fn connect(to: &HttpAddress, registry: &Registry, token: Token) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(to.address)?;
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let _ = stream.set_nodelay(true);
        Ok(Self::Connecting(stream, format!("ws://{}{}/v1/room", to.authority, to.path)))
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    /// Goes on: opens, flushes, reads. To be called until it gives nothing.
    pub(super) fn advance(&mut self) -> News {
        match std::mem::replace(self, Self::Closed) {
            Self::Connecting(stream, url) => match stream.take_error() {
                Ok(None) if stream.peer_addr().is_ok() => {
                    let config = WebSocketConfig::default()
                        .read_buffer_size(READ_BUFFER)
                        .write_buffer_size(0)
                        .max_message_size(Some(LONGEST_MESSAGE))
                        .max_frame_size(Some(LONGEST_MESSAGE));
                    let request = url.as_str().into_client_request().map(|mut request| {
                        request.headers_mut().insert("Sec-WebSocket-Protocol", PROTOCOL);
                        request
                    });
                    match request {
                        Ok(request) => {
                            self.shaken(tungstenite::client::client_with_config(request, stream, Some(config)))
                        }
                        Err(error) => News::Closed(format!("{url}: {error}")),
                    }
                }
                Ok(Some(error)) | Err(error) => News::Closed(format!("cannot connect: {error}")),
                Ok(None) => {
                    *self = Self::Connecting(stream, url);
                    News::Nothing
                }
            },
            Self::Shaking(half) => self.shaken(half.handshake()),
            Self::Open(socket) => {
                *self = Self::Open(socket);
                self.read()
            }
            Self::Closed => News::Nothing,
        }
    }

    fn shaken<R>(
        &mut self,
        result: Result<(WebSocket<TcpStream>, R), HandshakeError<ClientHandshake<TcpStream>>>,
    ) -> News {
        match result {
            Ok((socket, _)) => {
                *self = Self::Open(Box::new(socket));
                News::Opened
            }
            Err(HandshakeError::Interrupted(half)) => {
                *self = Self::Shaking(Box::new(half));
                News::Nothing
            }
            Err(HandshakeError::Failure(error)) => News::Closed(format!("the room socket does not open: {error}")),
        }
    }

    fn read(&mut self) -> News {
        let Self::Open(socket) = self else { return News::Nothing };
        loop {
            match socket.read() {
                Ok(Message::Text(text)) => return News::Text(text),
                Ok(Message::Close(Some(frame))) => {
                    let _ = socket.flush();
                    return News::Closed(format!("closed by the server: {} {}", u16::from(frame.code), frame.reason));
                }
                Ok(Message::Close(None)) => return News::Closed("closed by the server".into()),
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                    // What did not fit before may do so now.
                    let _ = socket.flush();
                    return News::Nothing;
                }
                Err(error) => return News::Closed(format!("room socket: {error}")),
            }
        }
    }

    /// Sends a text; what does not fit in the kernel's buffer goes out with the next [`advance`](Self::advance).
    pub(super) fn send(&mut self, text: String) -> Result<(), String> {
        let Self::Open(socket) = self else { return Ok(()) };
        match socket.send(Message::text(text)) {
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(format!("room socket: {error}")),
            Ok(()) => Ok(()),
        }
    }

    pub(super) fn close(&mut self, registry: &Registry) {
        match std::mem::replace(self, Self::Closed) {
            Self::Connecting(mut stream, _) => _ = registry.deregister(&mut stream),
            Self::Open(mut socket) => _ = registry.deregister(socket.get_mut()),
            Self::Shaking(mut half) => _ = registry.deregister(half.get_mut().get_mut()),
            Self::Closed => {}
        }
    }
}

const PROTOCOL: tungstenite::http::HeaderValue = tungstenite::http::HeaderValue::from_static("exedra.v1");
