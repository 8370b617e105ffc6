//! A client that never retries and forgives nothing: HTTP/1.1 over one connection, every loss told apart.
//!
//! It deliberately does not look whether an idle connection has been closed before it writes: that look is
//! what hides the loss from whoever operates the proxy, until a client without it comes along.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// For a connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the next byte of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes asked for in one read.
const READ_BYTES: usize = 64 << 10;

/// How a request was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// No connection.
    Connect,
    /// No byte of an answer, on a connection that had served before.
    Reused,
    /// No byte of an answer, on a new connection.
    Fresh,
    /// An answer that broke off.
    Cut,
    /// No next byte in time.
    TimedOut,
    /// Not HTTP.
    Garbled,
}

impl Loss {
    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect failed",
            Self::Reused => "failed reused",
            Self::Fresh => "failed fresh",
            Self::Cut => "cut",
            Self::TimedOut => "timed out",
            Self::Garbled => "garbled",
        }
    }
}

/// One request.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// GET, POST, …
    pub method: &'static str,
    /// Path and query.
    pub target: String,
    /// Host field.
    pub host: String,
    /// More fields.
    pub headers: Vec<(String, String)>,
    /// Body; sent with its length unless `pieces` says otherwise.
    pub body: Vec<u8>,
    /// Send the body chunked, in so many pieces with that pause after each.
    pub pieces: Option<(usize, Duration)>,
    /// Ask for the connection to be closed afterwards.
    pub close: bool,
    /// Read the answer's body in pieces of so many bytes with that pause before each.
    pub read_slowly: Option<(usize, Duration)>,
}

impl Request {
    /// A GET.
    pub fn get(target: &str) -> Self {
        Self { method: "GET", target: target.to_owned(), host: "test".to_owned(), ..Self::default() }
    }

    /// A POST.
    pub fn post(target: &str, body: Vec<u8>) -> Self {
        Self { method: "POST", body, ..Self::get(target) }
    }

    fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.close {
            head.push_str("Connection: close\r\n");
        }
        if self.pieces.is_some() {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !self.body.is_empty() || self.method == "POST" {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        head
    }
}

/// One answer.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body without its framing.
    pub body: Vec<u8>,
    /// The connection is not to be used again.
    pub close: bool,
}

impl Answer {
    /// The first field of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    served: u64,
    /// When the last answer was complete, or the connection was made.
    pub idle_since: Instant,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// The system's, as it says it.
    pub fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.set_write_timeout(Some(READ_TIMEOUT))?;
        Ok(Self { stream, buffer: Vec::new(), served: 0, idle_since: Instant::now() })
    }

    /// Whether it has served a request.
    pub fn is_reused(&self) -> bool {
        self.served > 0
    }

    /// Sends and waits for the whole answer.
    ///
    /// # Errors
    /// How it was lost; the connection is of no use then.
    pub fn exchange(&mut self, request: &Request) -> Result<Answer, Loss> {
        // An answer may come before the request is all sent; a failed write is therefore no verdict yet.
        let written = self.write(request);
        let answer = self.read_answer(request);
        match (written, answer) {
            (_, Ok(answer)) => {
                self.served += 1;
                self.idle_since = Instant::now();
                Ok(answer)
            }
            (_, Err(loss)) => Err(loss),
        }
    }

    fn write(&mut self, request: &Request) -> std::io::Result<()> {
        let mut bytes = request.head().into_bytes();
        let Some((pieces, pause)) = request.pieces else {
            bytes.extend_from_slice(&request.body);
            return self.stream.write_all(&bytes);
        };
        self.stream.write_all(&bytes)?;
        for piece in request.body.chunks(request.body.len().div_ceil(pieces).max(1)) {
            let mut framed = format!("{:x}\r\n", piece.len()).into_bytes();
            framed.extend_from_slice(piece);
            framed.extend_from_slice(b"\r\n");
            self.stream.write_all(&framed)?;
            std::thread::sleep(pause);
        }
        self.stream.write_all(b"0\r\n\r\n")
    }

    fn read_answer(&mut self, request: &Request) -> Result<Answer, Loss> {
        loop {
            let head = self.read_head()?;
            let mut answer = parse_head(&head)?;
            if answer.status < 200 {
                continue;
            }
            if let Some((bytes, pause)) = request.read_slowly {
                self.read_body(&mut answer, bytes, Some(pause))?;
            } else {
                self.read_body(&mut answer, READ_BYTES, None)?;
            }
            return Ok(answer);
        }
    }

    fn read_head(&mut self) -> Result<Vec<u8>, Loss> {
        let nothing_yet = if self.is_reused() { Loss::Reused } else { Loss::Fresh };
        loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                return Ok(self.buffer.drain(..at + 4).collect());
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(Loss::Garbled);
            }
            let end = if self.buffer.is_empty() { nothing_yet } else { Loss::Cut };
            if self.fill(READ_BYTES, end)? == 0 {
                return Err(end);
            }
        }
    }

    /// Reads more; 0 at the end of the stream.
    fn fill(&mut self, bytes: usize, on_error: Loss) -> Result<usize, Loss> {
        let old = self.buffer.len();
        self.buffer.resize(old + bytes, 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[old..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(old + *read.as_ref().unwrap_or(&0));
        read.map_err(|error| match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Loss::TimedOut,
            _ => on_error,
        })
    }

    fn need(&mut self, bytes: usize, pause: Option<Duration>) -> Result<(), Loss> {
        if let Some(pause) = pause {
            std::thread::sleep(pause);
        }
        if self.fill(bytes, Loss::Cut)? == 0 { Err(Loss::Cut) } else { Ok(()) }
    }

    fn read_body(&mut self, answer: &mut Answer, bytes: usize, pause: Option<Duration>) -> Result<(), Loss> {
        let chunked = answer.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
        if chunked {
            return self.read_chunks(answer, bytes, pause);
        }
        let length =
            answer.header("content-length").map(|text| text.parse::<usize>().ok().ok_or(Loss::Garbled));
        match length.transpose()? {
            Some(length) => {
                while self.buffer.len() < length {
                    self.need(bytes, pause)?;
                }
                answer.body = self.buffer.drain(..length).collect();
            }
            None if matches!(answer.status, 204 | 304) => {}
            None => {
                while self.fill(bytes, Loss::Cut)? > 0 {}
                answer.body = std::mem::take(&mut self.buffer);
                answer.close = true;
            }
        }
        Ok(())
    }

    fn read_chunks(
        &mut self,
        answer: &mut Answer,
        bytes: usize,
        pause: Option<Duration>,
    ) -> Result<(), Loss> {
        loop {
            let line_end = loop {
                if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                    break at;
                }
                self.need(bytes, pause)?;
            };
            let line: Vec<u8> = self.buffer.drain(..line_end + 2).collect();
            let text = String::from_utf8_lossy(&line[..line_end]);
            let size = text.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).ok().ok_or(Loss::Garbled)?;
            while self.buffer.len() < size + 2 {
                self.need(bytes, pause)?;
            }
            answer.body.extend(self.buffer.drain(..size));
            self.buffer.drain(..2);
            if size == 0 {
                return Ok(());
            }
        }
    }
}

fn parse_head(head: &[u8]) -> Result<Answer, Loss> {
    let text = std::str::from_utf8(head).ok().ok_or(Loss::Garbled)?;
    let mut lines = text.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or(Loss::Garbled)?;
    let mut answer = Answer { status: status.parse().ok().ok_or(Loss::Garbled)?, ..Answer::default() };
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(Loss::Garbled)?;
        answer.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    answer.close = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(answer)
}

/// One request on a connection of its own.
///
/// # Errors
/// How it was lost.
pub fn once(address: SocketAddr, request: &Request) -> Result<Answer, Loss> {
    let mut connection = Connection::open(address).ok().ok_or(Loss::Connect)?;
    connection.exchange(request)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each connection with the given bytes and closes it.
    fn server(answers: Vec<&'static [u8]>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let _read = stream.read(&mut request).unwrap();
                stream.write_all(answer).unwrap();
            }
        });
        address
    }

    #[test]
    fn a_chunked_answer_is_put_together() {
        let address = server(vec![
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        ]);
        assert_eq!(once(address, &Request::get("/")).unwrap().text(), "abcde");
    }

    #[test]
    fn losses_are_told_apart() {
        let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc";
        let one = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        let address = server(vec![b"", cut, b"nonsense\r\n\r\n", one]);
        assert_eq!(once(address, &Request::get("/")).unwrap_err(), Loss::Fresh);
        assert_eq!(once(address, &Request::get("/")).unwrap_err(), Loss::Cut);
        assert_eq!(once(address, &Request::get("/")).unwrap_err(), Loss::Garbled);
        let mut connection = Connection::open(address).unwrap();
        assert_eq!(connection.exchange(&Request::get("/")).unwrap().status, 200);
        assert_eq!(connection.exchange(&Request::get("/")).unwrap_err(), Loss::Reused);
    }
}
