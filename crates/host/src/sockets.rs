//! Who listens where: best-effort answers for messages, never for decisions.

#[cfg(unix)]
#[path = "sockets/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "sockets/windows.rs"]
mod system;

/// Who listens on a TCP port of this machine, as `pid 12 (nginx)`, where we may see it.
pub fn who_listens_on(port: u16) -> Option<String> {
    system::who_listens_on(port)
}

/// TCP ports on which a process, its descendants or its session listen, in order.
pub fn ports_of(pid: u32) -> Vec<u16> {
    system::ports_of(pid)
}
