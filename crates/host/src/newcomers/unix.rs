//! By a packet filter on the socket that drops what opens a connection and lets everything else through.
#![expect(unsafe_code, reason = "a packet filter is set by a call that nobody has wrapped")]

use std::io;
use std::os::fd::AsRawFd;

/// Classic BPF: the byte of flags of the TCP header; SYN without ACK is dropped.
const FILTER: [libc::sock_filter; 5] = [
    instruction(0x30, 0, 0, 13),
    instruction(0x54, 0, 0, 0x12),
    instruction(0x15, 0, 1, 0x02),
    instruction(0x06, 0, 0, 0),
    instruction(0x06, 0, 0, u32::MAX),
];

const fn instruction(code: u16, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

pub(super) fn turn_away(listener: &tokio::net::TcpListener) -> io::Result<()> {
    let mut filter = FILTER;
    let program = libc::sock_fprog { len: 5, filter: filter.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).map_err(io::Error::other)?;
    // SAFETY: the program and its five instructions live through the call, which copies them, and the size is theirs.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
