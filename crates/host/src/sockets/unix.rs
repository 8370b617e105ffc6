//! `/proc/net/tcp*` for sockets, `/proc/PID/fd` for who has them.

use std::collections::{BTreeMap, BTreeSet};

use crate::process;

/// `st` column of a listening socket.
const LISTENING: &str = "0A";

/// Inodes of listening TCP sockets with their ports.
fn listening() -> BTreeMap<u64, u16> {
    let mut found = BTreeMap::new();
    for table in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        for line in text.lines().skip(1) {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            let [_, local, _, LISTENING, rest @ ..] = columns.as_slice() else { continue };
            let port = local.rsplit(':').next().and_then(|port| u16::from_str_radix(port, 16).ok());
            let inode = rest.get(5).and_then(|inode| inode.parse().ok());
            if let (Some(port), Some(inode)) = (port, inode) {
                found.insert(inode, port);
            }
        }
    }
    found
}

/// Inodes of the sockets that a process has open, as far as we may see.
fn sockets_of(pid: u32) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

pub(super) fn who_listens_on(port: u16) -> Option<String> {
    let inodes: BTreeSet<u64> =
        listening().into_iter().filter(|(_, found)| *found == port).map(|(inode, _)| inode).collect();
    if inodes.is_empty() {
        return None;
    }
    let pid =
        process::all_pids().into_iter().find(|pid| sockets_of(*pid).iter().any(|i| inodes.contains(i)))?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("pid {pid} ({})", name.trim_end()))
}

pub(super) fn ports_of(pid: u32) -> Vec<u16> {
    let listening = listening();
    let ports: BTreeSet<u16> = process::family(pid)
        .into_iter()
        .flat_map(sockets_of)
        .filter_map(|inode| listening.get(&inode).copied())
        .collect();
    ports.into_iter().collect()
}
