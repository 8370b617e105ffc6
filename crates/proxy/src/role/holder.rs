//! The proxy's end of its link to the holder, through the death of one holder and the coming of the next.
//!
//! ```text
//!  linked ──stream closed──► orphaned since … ──a holder connects to the rescue socket──► linked
//! ```
//! The vault survives that. It starts no holder: whether this is the one who should is not known here.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use host::Descriptor;
use host::channel::{AsyncChannel, Channel};
use host::file::Lock;
use host::paths::Layout;
use host::pump::{Duplex, Pumped, pump_once};
use wire::link::{FromHolder, Hello, ToHolder};
use wire::role::RoleLink;
use wire::vault::{ListenerUse, VaultItem};

/// How long the newest proxy leaves the rescue to the agent.
const RESCUE_AFTER: Duration = Duration::from_millis(300);
/// Between two attempts to become the rescuer.
const RESCUE_INTERVAL: Duration = Duration::from_millis(500);

/// The protocol as the pump sees it.
#[derive(Debug)]
struct End(RoleLink<Descriptor>);

impl Duplex for End {
    fn transmit(&mut self) -> Option<(&[u8], &[Descriptor])> {
        self.0.transmit()
    }

    fn transmitted(&mut self, written: usize) {
        self.0.transmitted(written);
    }

    fn receive(&mut self, bytes: &[u8], descriptors: Vec<Descriptor>) -> Result<(), String> {
        self.0.receive(bytes, descriptors).map_err(|error| error.to_string())
    }
}

/// The link, connected or orphaned.
#[derive(Debug)]
pub(super) struct HolderLink {
    end: End,
    channel: Option<AsyncChannel>,
    next_rescue: Instant,
}

impl HolderLink {
    /// On the connection that the holder made for us.
    pub(super) fn new(hello: Hello, channel: Channel) -> io::Result<Self> {
        let mut link = Self { end: End(RoleLink::new(hello)), channel: None, next_rescue: Instant::now() };
        link.connect(channel)?;
        Ok(link)
    }

    /// A holder is at the other end of `channel`.
    pub(super) fn connect(&mut self, channel: Channel) -> io::Result<()> {
        let channel = AsyncChannel::new(channel)?;
        self.end.0.connect().map_err(io::Error::other)?;
        self.channel = Some(channel);
        Ok(())
    }

    /// Whether there is no holder.
    pub(super) fn is_orphaned(&self) -> bool {
        self.channel.is_none()
    }

    /// Moves bytes, and gives what the holder said. Without a holder it waits for ever. Cancel-safe.
    pub(super) async fn messages(&mut self) -> Vec<(FromHolder, Vec<Descriptor>)> {
        let Some(channel) = &self.channel else { return std::future::pending().await };
        let lost = match pump_once(channel, &mut self.end).await {
            Ok(Pumped::Wrote) => return Vec::new(),
            Ok(Pumped::Read) => None,
            Ok(Pumped::Closed) => Some("its stream closed".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        let mut messages = Vec::new();
        let broken = loop {
            match self.end.0.poll_message() {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break lost,
                Err(error) => break Some(error.to_string()),
            }
        };
        if let Some(why) = broken {
            tracing::warn!(why, "the holder is lost");
            self.channel = None;
            self.next_rescue = Instant::now() + RESCUE_AFTER;
        }
        messages
    }

    /// Queues a message; without a holder it is forgotten.
    pub(super) fn send(&mut self, message: &ToHolder) {
        if self.channel.is_none() {
            return;
        }
        if let Err(error) = self.end.0.send(message) {
            tracing::error!(%error, "the holder does not read");
        }
    }

    /// The listeners on which proxies accept, by name.
    pub(super) fn listeners(&self) -> impl Iterator<Item = (&str, &Descriptor)> {
        self.end.0.vault().values().filter_map(|(item, descriptor)| match item {
            VaultItem::Listener(listener) if listener.used_by == ListenerUse::Traffic => {
                Some((listener.name.as_str(), descriptor.as_ref()?))
            }
            VaultItem::Listener(_) | VaultItem::Notify { .. } | VaultItem::Process(_) => None,
        })
    }

    /// When the next attempt to start a holder is due, while there is none.
    pub(super) fn next_rescue(&self) -> Option<Instant> {
        self.is_orphaned().then_some(self.next_rescue)
    }

    /// Starts a new holder, unless somebody else holds the lock: a living holder, or a faster rescuer.
    pub(super) fn try_rescue(&mut self, layout: &Layout) {
        self.next_rescue = Instant::now() + RESCUE_INTERVAL;
        let lock = match Lock::try_exclusive(&layout.holder_lock()) {
            Ok(Some(lock)) => lock,
            Ok(None) => return,
            Err(error) => return tracing::error!(%error, "the holder's lock cannot be opened"),
        };
        let binary = match std::env::current_exe() {
            Ok(binary) => binary,
            Err(error) => return tracing::error!(%error, "our own binary is not known"),
        };
        start_holder(&binary, layout, lock);
    }
}

fn start_holder(binary: &Path, layout: &Layout, lock: Lock) {
    match host::rescue::spawn_rescue_holder(binary, layout, lock) {
        Ok(()) => tracing::warn!("a new holder was started"),
        Err(error) => tracing::error!(%error, "no new holder could be started"),
    }
}
