//! A service that nobody supervises: answers as the victim does, over TCP or a Unix socket, inside the test.
//!
//! It keeps every connection open, echoes a body that has a length, and says its name in `Version`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use crate::system;

/// One of that name on a port of its own; where it is.
///
/// # Panics
/// When loopback has no free port.
pub fn tcp(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound socket has an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(name, stream));
        }
    });
    address
}

/// One of that name at that path.
pub fn unix(name: &'static str, path: &Path) {
    system::serve_unix(path, move |stream| serve(name, stream));
}

fn serve(name: &str, stream: impl Read + Write) {
    let mut reader = BufReader::new(stream);
    while let Some(body) = read_request(&mut reader) {
        let body = if body.is_empty() { name.as_bytes() } else { &body };
        let mut answer =
            format!("HTTP/1.1 200 OK\r\nVersion: {name}\r\nContent-Length: {}\r\n\r\n", body.len())
                .into_bytes();
        answer.extend_from_slice(body);
        if reader.get_mut().write_all(&answer).is_err() {
            return;
        }
    }
}

/// The body of the next request; `None` at the end.
fn read_request(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut length = 0;
    let mut is_first = true;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() && !is_first {
            break;
        }
        is_first = false;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}
