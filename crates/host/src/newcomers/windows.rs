//! Not there: listeners are not shared yet.

use std::io;

use crate::unsupported;

pub(super) fn turn_away(_: &tokio::net::TcpListener) -> io::Result<()> {
    unsupported()
}
