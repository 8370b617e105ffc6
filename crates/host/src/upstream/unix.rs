//! Unix sockets.

use std::io;
use std::path::Path;
use std::time::Duration;

pub(super) use tokio::net::UnixStream as Local;

/// Between two looks at an accept queue that is full. The system does not tell when it no longer is.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(5);

pub(super) async fn connect(path: &Path) -> io::Result<Local> {
    loop {
        match Local::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(FULL_QUEUE_PAUSE).await;
            }
            done => return done,
        }
    }
}

pub(super) fn is_shortage(code: i32) -> bool {
    matches!(
        code,
        libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EADDRNOTAVAIL | libc::EAGAIN
    )
}

#[cfg(test)]
pub(super) fn listen_with_queue_of_one(path: &Path) -> tokio::net::UnixListener {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    // Listening again changes the queue's length.
    rustix::net::listen(&listener, 0).unwrap();
    listener
}
