//! One HTTP request without a runtime: for WHIP and WHEP.
use super::room_socket::HttpAddress;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::io::{ErrorKind, Read, Write};

/// An answer is no longer than this.
const LONGEST: usize = 1 << 20;

/// A request on its way, over a connection of its own.
pub(super) struct Exchange {
    stream: TcpStream,
    request: Vec<u8>,
    written: usize,
    answer: Vec<u8>,
}

/// What a request has come to.
pub(super) enum Progress {
    Pending,
    Done(Answer),
    Failed(String),
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) location: Option<String>,
    pub(super) body: String,
}

impl Exchange {
    /// Sends SDP, or nothing.
    pub(super) fn start(
        to: &HttpAddress,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        sdp: &str,
        place: (&Registry, Token),
    ) -> std::io::Result<Self> {
        let mut stream = TcpStream::connect(to.address)?;
        place.0.register(&mut stream, place.1, Interest::READABLE | Interest::WRITABLE)?;
        let _ = stream.set_nodelay(true);
        let authorization = bearer.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
        let kind = if sdp.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{authorization}{kind}Content-Length: {}\r\nConnection: close\r\n\r\n{sdp}",
            to.authority,
            sdp.len()
        );
        Ok(Self { stream, request: request.into_bytes(), written: 0, answer: Vec::new() })
    }

    /// Goes on: to be called whenever the socket is ready.
    pub(super) fn advance(&mut self) -> Progress {
        if let Ok(Some(error)) | Err(error) = self.stream.take_error() {
            return Progress::Failed(format!("cannot connect: {error}"));
        }
        while self.written < self.request.len() {
            match self.stream.write(&self.request[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Progress::Pending;
                }
                Err(error) => return Progress::Failed(format!("HTTP: {error}")),
            }
        }
        let mut buffer = [0; 8 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) if self.answer.len() + n <= LONGEST => self.answer.extend(&buffer[..n]),
                Ok(_) => return Progress::Failed("HTTP: an answer without an end".into()),
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Progress::Pending,
                Err(error) => return Progress::Failed(format!("HTTP: {error}")),
            }
        }
        match parse(&self.answer) {
            Some(answer) => Progress::Done(answer),
            None => Progress::Failed("HTTP: an answer that cannot be read".into()),
        }
    }

    pub(super) fn close(mut self, registry: &Registry) {
        let _ = registry.deregister(&mut self.stream);
    }
}

/// A whole answer: until the server closed the connection.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers = lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim()));
    let header = |wanted: &str| {
        let mut found = headers.clone().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.next().map(|(_, value)| value.to_owned())
    };
    let chunked = header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let location = header("location");
    let body = if chunked { unchunked(body)? } else { body.to_owned() };
    Some(Answer { status, location, body })
}

/// RFC 9112 section 7.1, of text.
fn unchunked(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(after.get(..size)?);
        rest = after.get(size..)?.strip_prefix("\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_in_chunks() {
        let answer = |status, location: Option<&str>, body: &str| {
            Some(Answer { status, location: location.map(str::to_owned), body: body.to_owned() })
        };
        let plain = b"HTTP/1.1 201 Created\r\nLocation: /x/1\r\ncontent-length: 5\r\n\r\nv=0\r\n";
        assert_eq!(parse(plain), answer(201, Some("/x/1"), "v=0\r\n"));
        let chunked =
            b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        assert_eq!(parse(chunked), answer(404, None, "abcde"));
        assert_eq!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"), None);
        assert_eq!(parse(b"nonsense"), None);
    }
}
