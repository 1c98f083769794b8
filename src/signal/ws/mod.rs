//! WebSockets (RFC 6455), the server's side, without extensions: our own code, because thousands of idle sockets must cost
//! next to nothing. A socket that waits holds no buffer, and what it last sent or received holds none either.
mod codec;
mod handshake;

pub use codec::{Breach, Decoder, Message};
pub use handshake::{Upgrade, upgrade};

use codec::Opcode;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// Read with one call at most.
const CHUNK: usize = 4096;
/// Frames that wait are written with one call, up to so many bytes.
const BATCH: usize = 16 * 1024;

/// Why nothing more can be read.
#[derive(Debug)]
pub enum ReadError {
    /// The client is gone.
    Gone,
    /// What it sends breaks a rule.
    Breach(Breach),
}

/// Reads messages.
pub struct Reader<'s> {
    stream: ReadHalf<'s>,
    decoder: Decoder,
    /// Read, and not decoded yet: whatever followed the last message in one chunk.
    rest: Vec<u8>,
}

impl<'s> Reader<'s> {
    /// `limit`: bytes of the longest message taken. `rest`: what came behind the handshake.
    pub fn new(stream: ReadHalf<'s>, limit: usize, rest: Vec<u8>) -> Self {
        Self { stream, decoder: Decoder::new(limit), rest }
    }

    /// The next message. Cancel-safe.
    ///
    /// # Errors
    /// See [`ReadError`]; nothing can be read after one.
    pub async fn next(&mut self) -> Result<Message, ReadError> {
        loop {
            if !self.rest.is_empty() {
                let rest = std::mem::take(&mut self.rest);
                if let Some(message) = self.decode(&rest)? {
                    return Ok(message);
                }
            }
            if let Some(message) = poll_fn(|context| self.poll_read(context)).await? {
                return Ok(message);
            }
        }
    }

    /// Reads what is there. The buffer is the stack's, so none is held while waiting.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Message>, ReadError>> {
        let mut chunk = [0; CHUNK];
        let mut read = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut read)).map_err(|_| ReadError::Gone)?;
        if read.filled().is_empty() {
            return Poll::Ready(Err(ReadError::Gone));
        }
        Poll::Ready(self.decode(read.filled()))
    }

    fn decode(&mut self, mut bytes: &[u8]) -> Result<Option<Message>, ReadError> {
        let message = self.decoder.decode(&mut bytes).map_err(ReadError::Breach)?;
        if !bytes.is_empty() {
            self.rest = bytes.to_vec();
        }
        Ok(message)
    }

    /// Reads on to the end, whatever comes: a socket that is closed with something unread loses what was last written to it.
    pub async fn drain(&mut self) {
        let mut sink = [0; 512];
        while let Ok(1..) = self.stream.read(&mut sink).await {}
    }
}

/// Frames to be written together.
#[derive(Default)]
pub struct Batch(Vec<u8>);

impl Batch {
    /// A text of that many bytes.
    pub fn text(&mut self, text: &impl std::fmt::Display, bytes: usize) {
        use io::Write;
        codec::write_head(&mut self.0, Opcode::Text, bytes);
        // Writing to a Vec does not fail.
        let _ = write!(self.0, "{text}");
    }
    pub fn pong(&mut self, payload: &[u8]) {
        codec::write_head(&mut self.0, Opcode::Pong, payload.len());
        self.0.extend_from_slice(payload);
    }
    /// The reason is at most 123 bytes (RFC 6455 section 5.5).
    pub fn close(&mut self, code: u16, reason: &str) {
        let reason = reason.as_bytes().get(..reason.len().min(123)).unwrap_or_default();
        codec::write_head(&mut self.0, Opcode::Close, 2 + reason.len());
        self.0.extend_from_slice(&code.to_be_bytes());
        self.0.extend_from_slice(reason);
    }
    pub fn is_full(&self) -> bool {
        self.0.len() >= BATCH
    }

    /// # Errors
    /// The client is gone.
    pub async fn write(self, stream: &mut WriteHalf<'_>) -> io::Result<()> {
        stream.write_all(&self.0).await
    }
}
