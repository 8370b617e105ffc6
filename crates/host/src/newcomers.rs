//! A listener that is about to be closed: nobody new gets into its accept queue, so that it can be emptied.
//!
//! Closing a listener resets everyone who waits in its queue, and between the last look at an empty queue and the
//! close somebody may come. Here new attempts to connect are dropped before they are answered, and handshakes under
//! way go on: a client whose connection stands is in the queue, and every other tries again and is refused by then.

use std::io;

#[cfg(unix)]
#[path = "newcomers/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "newcomers/windows.rs"]
mod system;

/// Turns newcomers away from the socket, in all processes that have it, for good.
///
/// # Errors
/// When the system cannot; then some who come at the last moment are reset.
pub fn turn_away(listener: &tokio::net::TcpListener) -> io::Result<()> {
    system::turn_away(listener)
}

#[cfg(all(test, unix))]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_has_connected_is_served_and_who_comes_later_is_not_let_in() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut known = TcpStream::connect(address).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        let copy = listener.try_clone().unwrap();
        copy.set_nonblocking(true).unwrap();
        runtime.block_on(async { turn_away(&tokio::net::TcpListener::from_std(copy).unwrap()).unwrap() });
        assert!(TcpStream::connect_timeout(&address, Duration::from_millis(300)).is_err());
        listener.set_nonblocking(false).unwrap();
        known.write_all(b"hello").unwrap();
        let (mut served, _) = listener.accept().unwrap();
        let mut text = [0; 5];
        served.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
    }
}
