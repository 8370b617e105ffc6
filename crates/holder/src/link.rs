//! The holder's end of a link to one role: bytes in and out without waiting.
//!
//! ```text
//!  collecting ── vault-complete ──► linked        over a rescue socket
//!  linked                                         over the pair that a role is started with
//! ```
//! It knows no meaning of a message.

use std::io;

use host::Descriptor;
use host::channel::Channel;
use wire::holder_end::{HolderEnd, HolderEndError};
use wire::link::{FromHolder, ToHolder};

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Most reads in a row: a role that talks without end keeps nobody else waiting.
const READS_MAX: u32 = 64;

/// Why a link is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("it closed the link")]
    Closed,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Rules(#[from] HolderEndError),
}

impl LinkError {
    /// The role itself may be in order: it is ending, or has closed on purpose.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Closed | Self::Io(_))
    }
}

/// A message with what came along.
pub(crate) type Received = (ToHolder, Vec<Descriptor>);

/// One end.
#[derive(Debug)]
pub(crate) struct Link {
    channel: Channel,
    end: HolderEnd<Descriptor>,
    /// The role's vault is still coming.
    pub(crate) collecting: bool,
}

impl Link {
    /// A link that begins with our hello. With `rescue` the role gives its vault first.
    pub(crate) fn new(channel: Channel, rescue: bool) -> Result<Self, LinkError> {
        let end = HolderEnd::new(host::process::current_pid(), env!("CARGO_PKG_VERSION"), rescue)?;
        Ok(Self { channel, end, collecting: rescue })
    }

    pub(crate) fn descriptor(&self) -> Descriptor {
        self.channel.descriptor()
    }

    /// Queues a message.
    pub(crate) fn send(&mut self, message: &FromHolder, with: Vec<Descriptor>) -> Result<(), LinkError> {
        Ok(self.end.send(message, with)?)
    }

    /// Writes what fits.
    pub(crate) fn flush(&mut self) -> Result<(), LinkError> {
        while let Some((bytes, descriptors)) = self.end.transmit() {
            match self.channel.send(bytes, descriptors) {
                Ok(written) => self.end.transmitted(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Whether something waits to be written.
    pub(crate) fn wants_to_write(&mut self) -> bool {
        self.end.transmit().is_some()
    }

    /// Reads all that is there into `messages`, also when the link then turns out to be at its end.
    pub(crate) fn read(&mut self, messages: &mut Vec<Received>) -> Result<(), LinkError> {
        let mut buffer = vec![0; READ_BYTES];
        for _ in 0..READS_MAX {
            let mut descriptors = Vec::new();
            match self.channel.recv(&mut buffer, &mut descriptors) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(received) => self.end.receive(&buffer[..received], descriptors, messages)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use host::listener::{bind_tcp, socket_cookie};
    use wire::collected::{Collected, Kept};
    use wire::link::Hello;
    use wire::role::RoleLink;
    use wire::vault::{Listener, ListenerUse, VaultItem};

    use super::*;

    fn socket() -> Descriptor {
        bind_tcp("127.0.0.1:0".parse().unwrap(), 16).unwrap()
    }

    fn listener(name: &str) -> VaultItem {
        VaultItem::Listener(Listener {
            name: name.to_owned(),
            used_by: ListenerUse::Traffic,
            requested: "127.0.0.1:0".to_owned(),
            address: "127.0.0.1:1".to_owned(),
            backlog: 16,
        })
    }

    /// Pumps both ends until neither has anything to say.
    fn converse(link: &mut Link, role: &mut RoleLink<Descriptor>, end: &Channel) -> Vec<Received> {
        let mut received = Vec::new();
        loop {
            let mut moved = false;
            while let Some((bytes, descriptors)) = role.transmit() {
                let Ok(sent) = end.send(bytes, descriptors) else { break };
                role.transmitted(sent);
                moved = true;
            }
            let before = received.len();
            link.read(&mut received).unwrap();
            link.flush().unwrap();
            moved |= received.len() > before;
            let mut buffer = vec![0; 1 << 16];
            let mut descriptors = Vec::new();
            while let Ok(read) = end.recv(&mut buffer, &mut descriptors) {
                role.receive(&buffer[..read], std::mem::take(&mut descriptors)).unwrap();
                while role.poll_message().unwrap().is_some() {}
                moved = true;
            }
            if !moved {
                return received;
            }
        }
    }

    fn hello() -> Hello {
        Hello {
            min: 1,
            max: 1,
            role: "proxy".to_owned(),
            pid: 1,
            generation: 1,
            build: String::new(),
            rescue: false,
        }
    }

    #[test]
    fn what_a_holder_deposits_comes_back_to_the_next_one_as_the_same_sockets() {
        let sockets: Vec<Descriptor> = (0..100).map(|_| socket()).collect();
        let items = sockets.iter().enumerate().map(|(n, s)| (listener(&format!("l{n}")), Some(s.clone())));
        let mut role = RoleLink::new(hello());

        let (ours, theirs) = Channel::pair().unwrap();
        let mut link = Link::new(ours, false).unwrap();
        role.connect().unwrap();
        for (items, descriptors) in wire::role::batches(items) {
            link.send(&FromHolder::Deposit { items }, descriptors).unwrap();
        }
        converse(&mut link, &mut role, &theirs);
        assert_eq!(role.vault().len(), 100);
        drop((link, theirs));

        let (ours, theirs) = Channel::pair().unwrap();
        let mut link = Link::new(ours, true).unwrap();
        role.connect().unwrap();
        let mut collected = Collected::default();
        let received = converse(&mut link, &mut role, &theirs);
        assert!(matches!(received.last(), Some((ToHolder::VaultComplete, _))));
        for (message, descriptors) in received {
            if let ToHolder::Deposit { items } = message {
                collected.add(items, descriptors).unwrap();
            }
        }
        let rescued: Vec<Kept<Descriptor>> = collected.into_items().collect();
        assert_eq!(rescued.len(), 100);
        let cookies = |all: Vec<&Descriptor>| {
            all.into_iter().map(|s| socket_cookie(s).unwrap()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(
            cookies(rescued.iter().map(|(_, s)| s.as_ref().unwrap()).collect()),
            cookies(sockets.iter().collect())
        );
    }
}
