//! Listening sockets: bound once, kept, handed out, closed when the agent says so.
//!
//! It never accepts.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use host::Descriptor;
use host::listener::{bind_local, bind_tcp, is_listening, listen, local_address};
use wire::link::FromHolder;
use wire::vault::{Listener, ListenerUse, VaultItem};

use crate::holder::Holder;

impl Holder {
    pub(crate) fn bind(&mut self, name: &str, used_by: ListenerUse, requested: &str, backlog: u32) {
        let wanted = Listener {
            name: name.to_owned(),
            used_by,
            requested: requested.to_owned(),
            address: String::new(),
            backlog,
        };
        let held = self.listeners.get(name).cloned();
        let result = match held {
            Some((held, socket)) if held.requested == requested => keep(held, socket, &wanted),
            _ => open(wanted),
        };
        let message = match result {
            Ok((listener, socket)) => {
                let bound = FromHolder::Bound { name: name.to_owned(), address: listener.address.clone() };
                let kept = (listener, socket);
                self.deposit((VaultItem::Listener(kept.0.clone()), Some(kept.1.clone())));
                self.listeners.insert(name.to_owned(), kept);
                bound
            }
            Err(error) => {
                let why = host::listener::explain(requested, &error);
                let error = format!("listener `{name}` cannot listen on {requested}: {why}");
                self.log.info(&error);
                FromHolder::BindFailed { name: name.to_owned(), error }
            }
        };
        self.tell_agent(&message);
    }

    pub(crate) fn unbind(&mut self, name: &str) {
        if let Some((listener, _)) = self.listeners.remove(name) {
            self.withdraw(&[VaultItem::Listener(listener.clone()).key()]);
            remove_path(&listener);
        }
    }
}

/// Removes the file of a local socket.
pub(crate) fn remove_path(listener: &Listener) {
    if listener.used_by == ListenerUse::AdminLocal {
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
    let requested = listener.requested.strip_prefix("unix:").unwrap_or(&listener.requested);
    let socket = if requested.starts_with('/') {
        listener.address = requested.to_owned();
        bind_local(Path::new(requested))?
    } else {
        let address: SocketAddr = requested.parse().map_err(io::Error::other)?;
        let socket = bind_tcp(address, listener.backlog)?;
        listener.address = local_address(&socket)?.to_string();
        socket
    };
    Ok((listener, socket))
}

#[cfg(test)]
mod tests {
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
