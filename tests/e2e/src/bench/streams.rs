//! The origin for what nginx cannot do: bodies of any size both ways, none of them held, and tunnels that echo.
//!
//! A thread per connection. It deliberately understands only the requests of this bench: bodies have a length.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;

/// The argument with which this program is that origin.
pub const WORD: &str = "--streams";
/// Where a body comes from: `/bytes/1024`.
pub(super) const BYTES: &str = "/bytes/";
/// What a client sends that wants a tunnel: the key of RFC 6455's example.
pub(super) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// The answer to that key; HAProxy looks whether it fits.
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// Largest head of a request.
const HEAD_BYTES_MAX: u64 = 16 << 10;
/// Piece in which bodies go.
const PIECE: usize = 256 << 10;

/// Serves on `PORT` until it is killed.
pub fn serve() -> ExitCode {
    let port = std::env::var("PORT").ok().and_then(|port| port.parse::<u16>().ok());
    let Some(Ok(listener)) = port.map(|port| TcpListener::bind(("127.0.0.1", port))) else {
        return ExitCode::FAILURE;
    };
    for stream in listener.incoming().flatten() {
        // An error here is the other side's end: there is nobody to tell.
        std::thread::spawn(move || drop(serve_connection(&stream)));
    }
    ExitCode::SUCCESS
}

/// What the head of a request says.
#[derive(Debug, Default)]
struct Head {
    path: String,
    body_bytes: u64,
    upgrade: bool,
}

fn serve_connection(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(PIECE, stream);
    while let Some(head) = read_head(&mut reader)? {
        if head.upgrade {
            write_all(stream, SWITCHED.as_bytes())?;
            return echo(&mut reader, stream);
        }
        let received = std::io::copy(&mut (&mut reader).take(head.body_bytes), &mut std::io::sink())?;
        if received < head.body_bytes {
            return Ok(());
        }
        match head.path.strip_prefix(BYTES).and_then(|bytes| bytes.parse().ok()) {
            Some(bytes) => give(stream, bytes)?,
            None => {
                let text = received.to_string();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len());
                write_all(stream, answer.as_bytes())?;
            }
        }
    }
    Ok(())
}

/// `None` at the end of the connection.
fn read_head(reader: &mut BufReader<&TcpStream>) -> std::io::Result<Option<Head>> {
    let mut limited = reader.take(HEAD_BYTES_MAX);
    let mut line = String::new();
    if limited.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut head = Head { path, ..Head::default() };
    loop {
        line.clear();
        if limited.read_line(&mut line)? == 0 {
            return Err(Error::from(ErrorKind::UnexpectedEof));
        }
        let Some((name, value)) = line.split_once(':') else { return Ok(Some(head)) };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                head.body_bytes = value.trim().parse().ok().ok_or(Error::from(ErrorKind::InvalidData))?;
            }
            "upgrade" => head.upgrade = value.trim().eq_ignore_ascii_case("websocket"),
            _ => {}
        }
    }
}

fn write_all(mut stream: &TcpStream, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes)
}

fn give(stream: &TcpStream, bytes: u64) -> std::io::Result<()> {
    write_all(stream, format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").as_bytes())?;
    pour(stream, bytes)
}

/// Writes so many bytes, a piece at a time.
pub(super) fn pour(stream: &TcpStream, bytes: u64) -> std::io::Result<()> {
    let piece = vec![b'x'; PIECE];
    let mut left = bytes;
    while left > 0 {
        let now = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        write_all(stream, &piece[..now])?;
        left = left.saturating_sub(now as u64);
    }
    Ok(())
}

fn echo(reader: &mut BufReader<&TcpStream>, stream: &TcpStream) -> std::io::Result<()> {
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            return Ok(());
        }
        write_all(stream, bytes)?;
        let read = bytes.len();
        reader.consume(read);
    }
}
