//! A client that holds many connections at once, or moves bodies it never keeps.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// For the next byte.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest head of an answer.
const HEAD_BYTES_MAX: u64 = 16 << 10;
/// Buffer of each connection, small because there are many.
const BUFFER: usize = 512;
/// Most bytes of a body that are read at once.
const PIECE: usize = 256 << 10;

/// One connection.
#[derive(Debug)]
pub(super) struct Client(BufReader<TcpStream>);

impl Client {
    pub(super) fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_TIMEOUT))?;
        stream.set_write_timeout(Some(READ_TIMEOUT))?;
        Ok(Self(BufReader::with_capacity(BUFFER, stream)))
    }

    /// For writing.
    pub(super) fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }

    /// Reads the head of an answer: its status, and the bytes of its body.
    pub(super) fn read_head(&mut self) -> std::io::Result<(u16, u64)> {
        let bad = || Error::from(ErrorKind::InvalidData);
        let mut limited = (&mut self.0).take(HEAD_BYTES_MAX);
        let mut line = String::new();
        limited.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(bad)?;
        let mut body_bytes = 0;
        loop {
            line.clear();
            if limited.read_line(&mut line)? == 0 {
                return Err(Error::from(ErrorKind::UnexpectedEof));
            }
            let Some((name, value)) = line.split_once(':') else { return Ok((status, body_bytes)) };
            if name.eq_ignore_ascii_case("content-length") {
                body_bytes = value.trim().parse().ok().ok_or_else(bad)?;
            }
        }
    }

    /// Reads so many bytes and forgets them.
    pub(super) fn skip(&mut self, bytes: u64) -> std::io::Result<()> {
        let mut piece = vec![0; usize::try_from(bytes).map_or(PIECE, |bytes| bytes.min(PIECE))];
        let mut left = bytes;
        while left > 0 {
            let wanted = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
            match self.0.read(&mut piece[..wanted])? {
                0 => return Err(Error::from(ErrorKind::UnexpectedEof)),
                read => left -= read as u64,
            }
        }
        Ok(())
    }

    /// A whole answer with 200 whose body is forgotten.
    pub(super) fn expect_ok(&mut self) -> std::io::Result<()> {
        match self.read_head()? {
            (200, bytes) => self.skip(bytes),
            (status, _) => Err(Error::other(format!("answered {status}"))),
        }
    }
}
