//! A role's end of its link to the holder: hello, the vault it keeps, and handing the vault to a new holder.
//!
//! ```text
//!  connect() ──► hello out ──► hello in ──► linked ◄──► deposits, withdrawals kept in the vault
//!     ▲                                       │ stream closed: disconnect()
//!     │                                    orphaned
//!     └── connect() on the rescue socket's connection; the new holder's hello says `rescue`,
//!         and the vault goes out as deposits, then vault-complete
//! ```
//! The vault outlives connections: it is emptied only by withdrawals. No IO, no clock: the driver pumps bytes,
//! sends `alive` every `ALIVE_INTERVAL_MS` and decides what silence means.

use std::collections::BTreeMap;

use crate::frame::DESCRIPTORS_MAX;
use crate::link::{FromHolder, Hello, ToHolder};
use crate::session::{Session, SessionError};
use crate::vault::VaultItem;

/// Why the link cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RoleLinkError {
    /// The stream's rules were broken.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// No protocol version in common.
    #[error(
        "the holder speaks protocol {min} to {max}, this build {} to {}",
        crate::PROTOCOL_MIN,
        crate::PROTOCOL_MAX
    )]
    Protocol {
        /// Its oldest.
        min: u16,
        /// Its newest.
        max: u16,
    },
    /// The first message was not a hello, or a deposit's descriptors do not match its items.
    #[error("the holder broke the protocol: {0}")]
    Order(&'static str),
}

/// A role's end of the link. `F` is a shared descriptor: cloning it is cheap and keeps it open.
#[derive(Debug)]
pub struct RoleLink<F> {
    hello: Hello,
    session: Session<FromHolder, F>,
    greeted: bool,
    vault: BTreeMap<String, (VaultItem, Option<F>)>,
}

impl<F: Clone> RoleLink<F> {
    /// A link that is not connected yet; `hello` says who we are.
    pub fn new(hello: Hello) -> Self {
        Self { hello, session: Session::new(), greeted: false, vault: BTreeMap::new() }
    }

    /// A fresh stream is there: start over with a hello of ours. What was queued for the old stream is gone.
    ///
    /// # Errors
    /// Never in practice: a hello fits a frame.
    pub fn connect(&mut self) -> Result<(), RoleLinkError> {
        self.session = Session::new();
        self.greeted = false;
        Ok(self.session.queue(&ToHolder::Hello(self.hello.clone()), Vec::new())?)
    }

    /// Queues a message.
    ///
    /// # Errors
    /// When the holder has not read for too long.
    pub fn send(&mut self, message: &ToHolder) -> Result<(), RoleLinkError> {
        Ok(self.session.queue(message, Vec::new())?)
    }

    /// The bytes to write next, and the descriptors that must go with their first byte.
    pub fn transmit(&mut self) -> Option<(&[u8], &[F])> {
        self.session.transmit()
    }

    /// The stream took that many bytes.
    pub fn transmitted(&mut self, written: usize) {
        self.session.transmitted(written);
    }

    /// Whether everything queued has left and was acknowledged.
    pub fn is_flushed(&self) -> bool {
        self.session.is_flushed()
    }

    /// Bytes and descriptors from the stream.
    ///
    /// # Errors
    /// When the holder sent more descriptors than a frame may carry.
    pub fn receive(&mut self, bytes: &[u8], descriptors: Vec<F>) -> Result<(), RoleLinkError> {
        Ok(self.session.receive(bytes, descriptors)?)
    }

    /// The next message. Deposits and withdrawals are already in the vault when they are returned; the
    /// descriptors of a deposit are in the vault, not in the returned list.
    ///
    /// # Errors
    /// When the holder broke the protocol; the driver closes the stream.
    pub fn poll_message(&mut self) -> Result<Option<(FromHolder, Vec<F>)>, RoleLinkError> {
        let Some((message, descriptors)) = self.session.poll_message()? else { return Ok(None) };
        match &message {
            FromHolder::Hello(hello) => {
                if hello.min > crate::PROTOCOL_MAX || hello.max < crate::PROTOCOL_MIN {
                    return Err(RoleLinkError::Protocol { min: hello.min, max: hello.max });
                }
                if self.greeted {
                    return Err(RoleLinkError::Order("a second hello"));
                }
                self.greeted = true;
                if hello.rescue {
                    self.hand_over_vault()?;
                }
            }
            _ if !self.greeted => return Err(RoleLinkError::Order("something before its hello")),
            FromHolder::Deposit { items } => {
                self.deposit(items.clone(), descriptors)?;
                return Ok(Some((message, Vec::new())));
            }
            FromHolder::Withdraw { keys } => {
                for key in keys {
                    self.vault.remove(key);
                }
            }
            _ => {}
        }
        Ok(Some((message, descriptors)))
    }

    fn deposit(&mut self, items: Vec<VaultItem>, descriptors: Vec<F>) -> Result<(), RoleLinkError> {
        let mut descriptors = descriptors.into_iter();
        for item in items {
            let descriptor = if item.has_descriptor() {
                Some(descriptors.next().ok_or(RoleLinkError::Order("a deposit with too few descriptors"))?)
            } else {
                None
            };
            self.vault.insert(item.key(), (item, descriptor));
        }
        if descriptors.next().is_some() {
            return Err(RoleLinkError::Order("a deposit with too many descriptors"));
        }
        Ok(())
    }

    fn hand_over_vault(&mut self) -> Result<(), RoleLinkError> {
        for (items, descriptors) in batches(self.vault.values().cloned()) {
            self.session.queue(&ToHolder::Deposit { items }, descriptors)?;
        }
        Ok(self.session.queue(&ToHolder::VaultComplete, Vec::new())?)
    }

    /// What is in the vault, by key.
    pub fn vault(&self) -> &BTreeMap<String, (VaultItem, Option<F>)> {
        &self.vault
    }
}

/// Cuts items into frames of at most `DESCRIPTORS_MAX` items.
pub fn batches<F>(items: impl Iterator<Item = (VaultItem, Option<F>)>) -> Vec<(Vec<VaultItem>, Vec<F>)> {
    let mut all: Vec<(Vec<VaultItem>, Vec<F>)> = Vec::new();
    for (item, descriptor) in items {
        match all.last_mut() {
            Some((batch, descriptors)) if batch.len() < DESCRIPTORS_MAX => {
                batch.push(item);
                descriptors.extend(descriptor);
            }
            _ => all.push((vec![item], descriptor.into_iter().collect())),
        }
    }
    all
}
