//! Listening sockets: bound once, kept, handed out, closed when the agent says so.
//!
//! ```text
//!  bind ──► held ── unbind ──► withdrawn: the address is free once the last role has let go of its copy
//!    │ in use, and something was let go just now
//!    └──► waiting ── free ──► held          at most 5 s, then it is refused
//! ```
//! It never accepts.

use std::io;
use std::time::Duration;

use host::Descriptor;
use host::listener::{is_listening, listen};
use model::time::Instant;
use wire::link::FromHolder;
use wire::vault::{Listener, VaultItem};

use crate::holder::Holder;

/// For roles to let go of a socket.
const LET_GO_MAX: Duration = Duration::from_secs(5);
/// Between two tries to bind what they hold.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_millis(20);

impl Holder {
    /// Binds and listens as `wanted` says, or keeps what does already.
    pub(crate) fn bind(&mut self, wanted: Listener) {
        self.waiting_binds.retain(|(other, _)| other.name != wanted.name);
        let held = self.listeners.get(&wanted.name).cloned();
        // The same address under another name is the same socket: it stays when that name goes.
        let other = self.listeners.values().find(|(l, _)| l.requested == wanted.requested && l.is_fixed());
        let result = match held {
            Some((held, socket)) if held.requested == wanted.requested => keep(held, socket, &wanted),
            _ => match other.cloned() {
                Some((other, socket)) => {
                    keep(Listener { name: wanted.name.clone(), ..other }, socket, &wanted)
                }
                None => open(wanted.clone()),
            },
        };
        let now = self.now;
        match result {
            Ok(kept) => self.bound(kept),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && self.let_go_until > now => {
                self.waiting_binds.push((wanted, now + RETRY_INTERVAL));
            }
            Err(error) => {
                let Listener { name, requested, .. } = wanted;
                let why = host::listener::explain(&requested, &error);
                let error = format!("listener `{name}` cannot listen on {requested}: {why}");
                self.log.info(&error);
                self.tell_agent(&FromHolder::BindFailed { name, error });
            }
        }
    }

    fn bound(&mut self, (listener, socket): (Listener, Descriptor)) {
        let item = VaultItem::Listener(listener.clone());
        let Listener { name, address, .. } = listener.clone();
        if let Some((former, old)) = self.listeners.insert(name.clone(), (listener, socket.clone()))
            && host::number(&old) != host::number(&socket)
        {
            // Also by roles that hear of no new ones: a copy anywhere keeps its queue alive.
            self.withdraw(&[item.key()]);
            self.let_go(&former);
        }
        self.deposit((item, Some(socket)));
        self.tell_agent(&FromHolder::Bound { name, address });
    }

    pub(crate) fn unbind(&mut self, name: &str) {
        self.waiting_binds.retain(|(waiting, _)| waiting.name != name);
        if let Some((listener, _)) = self.listeners.remove(name) {
            self.withdraw(&[VaultItem::Listener(listener.clone()).key()]);
            self.let_go(&listener);
        }
    }

    /// Nobody needs it under its former name or address.
    fn let_go(&mut self, former: &Listener) {
        if !self.listeners.values().any(|(listener, _)| listener.address == former.address) {
            remove_path(former);
            self.let_go_until = self.now + LET_GO_MAX;
        }
    }

    /// Tries again what could not be bound because somebody still held it.
    pub(crate) fn retry_binds(&mut self) {
        let now = self.now;
        let due = |(_, at): &mut (Listener, Instant)| *at <= now;
        for (wanted, _) in self.waiting_binds.extract_if(.., due).collect::<Vec<_>>() {
            self.bind(wanted);
        }
    }
}

/// Removes the file of a local socket.
pub(crate) fn remove_path(listener: &Listener) {
    if listener.address.starts_with('/') {
        let _ = std::fs::remove_file(&listener.address);
    }
}

/// What is bound as asked stays; it listens (again) with the queue that is asked for.
fn keep(held: Listener, socket: Descriptor, wanted: &Listener) -> io::Result<(Listener, Descriptor)> {
    if held.backlog != wanted.backlog || !is_listening(&socket) {
        listen(&socket, wanted.backlog)?;
    }
    Ok((Listener { used_by: wanted.used_by, backlog: wanted.backlog, ..held }, socket))
}

fn open(mut listener: Listener) -> io::Result<(Listener, Descriptor)> {
    let (socket, address) = host::listener::open(&listener.requested, listener.backlog)?;
    listener.address = address;
    Ok((listener, socket))
}

#[cfg(test)]
mod tests {
    use wire::vault::ListenerUse;

    use super::*;

    fn wanted(requested: &str) -> Listener {
        Listener {
            name: "web".to_owned(),
            used_by: ListenerUse::Traffic,
            requested: requested.to_owned(),
            address: String::new(),
            backlog: 16,
        }
    }

    #[test]
    fn a_listener_that_somebody_shut_down_listens_again() {
        let (held, socket) = open(wanted("127.0.0.1:0")).unwrap();
        let (kept, same) =
            keep(held.clone(), socket.clone(), &Listener { backlog: 99, ..wanted("127.0.0.1:0") }).unwrap();
        assert_eq!((kept.address, kept.backlog), (held.address, 99));
        assert_eq!(host::number(&same), host::number(&socket));
        assert!(is_listening(&same));
    }
}
