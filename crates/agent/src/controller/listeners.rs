//! Listeners: asked for at every inventory, asked for again while they cannot be bound.

use std::time::Duration;

use model::id::ServiceName;
use model::time::Instant;
use wire::traffic::CertificateNews;
use wire::vault::ListenerUse;

use super::{Controller, Link};
use crate::world::{FleetRequest, Inventory, Severity};

/// Before the first new try to bind; doubles up to the next.
const RETRY: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Accept queue of the admin listeners.
const ADMIN_BACKLOG: u32 = 128;
/// Name of the admin API's TCP listener.
const ADMIN: &str = "admin";
/// Name of the command line's socket, and its path below `run`.
const ADMIN_LOCAL: &str = "admin.sock";

/// What is known of one listener.
#[derive(Debug, Clone, Default)]
pub(super) struct Listener {
    pub address: Option<String>,
    pub error: Option<String>,
    /// It is in the manifest no more: the first table without it.
    left_at: Option<u64>,
    tries: u32,
    again_at: Option<Instant>,
}

impl Controller {
    /// Asks for every listener; one that is bound as asked is only confirmed.
    pub(super) fn bind_all(&mut self) {
        let mut names: Vec<String> = self.base.manifest.listeners.keys().map(ToString::to_string).collect();
        names.extend([ADMIN.to_owned(), ADMIN_LOCAL.to_owned()]);
        for name in names {
            self.bind(&name);
        }
    }

    fn bind(&mut self, name: &str) {
        let manifest = &self.base.manifest;
        let request = match name {
            ADMIN => FleetRequest::Bind {
                name: name.to_owned(),
                used_by: ListenerUse::Admin,
                address: manifest.admin.bind.to_string(),
                backlog: ADMIN_BACKLOG,
                fall_back_to_any_port: manifest.admin.bind_is_default,
            },
            ADMIN_LOCAL => FleetRequest::Bind {
                name: name.to_owned(),
                used_by: ListenerUse::AdminLocal,
                address: ADMIN_LOCAL.to_owned(),
                backlog: ADMIN_BACKLOG,
                fall_back_to_any_port: false,
            },
            _ => {
                let listener = manifest.listeners.iter().find(|(known, _)| known.as_str() == name);
                let Some((_, listener)) = listener else { return };
                FleetRequest::Bind {
                    name: name.to_owned(),
                    used_by: ListenerUse::Traffic,
                    address: listener.bind.to_string(),
                    backlog: listener.backlog,
                    fall_back_to_any_port: false,
                }
            }
        };
        self.listeners.entry(name.to_owned()).or_default().again_at = None;
        self.pending.push(request);
        self.flush();
    }

    /// What a former agent had bound and the manifest no longer has is closed like any other that was taken out.
    pub(super) fn note_listeners(&mut self, inventory: &Inventory) {
        for (name, address) in &inventory.listeners {
            let known = self.listeners.entry(name.clone()).or_default();
            known.address.get_or_insert_with(|| address.clone());
        }
    }

    /// Binds a listener of the manifest that is new or has another address; the former one serves until then.
    pub(super) fn bind_anew(&mut self, name: &str) {
        if self.link != Link::Unknown {
            self.listeners.entry(name.to_owned()).or_default().left_at = None;
            self.bind(name);
        }
    }

    /// Listeners that were taken out and never bound are not tried again.
    pub(super) fn forget_listeners(&mut self) {
        let manifest = &self.base.manifest;
        let is_known = |name: &str| is_known(manifest, name);
        self.listeners.retain(|name, listener| is_known(name) || listener.address.is_some());
        for (name, listener) in &mut self.listeners {
            if !is_known(name) {
                listener.again_at = None;
            }
        }
    }

    /// Closes listeners that were taken out, once every proxy uses a table without them.
    pub(super) fn unbind_unused(&mut self) {
        let Some(published) = &self.tables.published else { return };
        let (generation, manifest) = (published.generation, &self.base.manifest);
        let mut unused = Vec::new();
        for (name, listener) in &mut self.listeners {
            if is_known(manifest, name) || published.listeners.contains_key(name) {
                listener.left_at = None;
                continue;
            }
            let left_at = *listener.left_at.get_or_insert(generation);
            if self.tables.is_past(left_at.saturating_sub(1)) {
                unused.push(name.clone());
            }
        }
        for name in unused {
            self.listeners.remove(&name);
            self.pending.push(FleetRequest::Unbind { name: name.clone() });
            let text = format!("listener {name} is closed");
            self.announce(Severity::Info, None::<(&ServiceName, _)>, text.clone());
            self.append(None, "listener", text, "agent");
        }
    }

    pub(super) fn handle_bound(&mut self, name: &str, address: String) {
        let listener = self.listeners.entry(name.to_owned()).or_default();
        let is_news = listener.address.as_ref() != Some(&address);
        *listener = Listener { address: Some(address.clone()), ..Listener::default() };
        if is_news && name != ADMIN_LOCAL {
            let text = format!("listener {name} is bound to {address}");
            self.announce(Severity::Info, None::<(&ServiceName, _)>, text.clone());
            self.append(None, "listener", text, "agent");
        }
    }

    pub(super) fn handle_bind_failed(&mut self, name: &str, error: String) {
        let now = self.now;
        let listener = self.listeners.entry(name.to_owned()).or_default();
        let delay = RETRY.saturating_mul(1 << listener.tries.min(5)).min(RETRY_MAX);
        listener.tries += 1;
        listener.again_at = Some(now + delay);
        let is_news = listener.error.replace(error.clone()).as_ref() != Some(&error);
        if is_news {
            let text = format!("listener {name} cannot be bound: {error}");
            self.announce(Severity::Error, None::<(&ServiceName, _)>, text.clone());
            self.append(None, "listener", text, "agent");
        }
    }

    /// What a proxy tells of a certificate becomes an event, and is kept.
    pub(super) fn handle_certificate(&mut self, news: &CertificateNews) {
        let CertificateNews { listener, certificate, error, .. } = news;
        let (severity, text) = match error {
            Some(error) => {
                (Severity::Warning, format!("listener {listener}: certificate {certificate}: {error}"))
            }
            None => (
                Severity::Info,
                format!("listener {listener}: certificate {certificate} was read again and is in use"),
            ),
        };
        self.announce(severity, None::<(&ServiceName, _)>, text.clone());
        self.append(None, "certificate", text, "proxy");
    }

    /// Tries again what is due.
    pub(super) fn bind_again(&mut self) {
        let now = self.now;
        let due = |listener: &Listener| listener.again_at.is_some_and(|at| at <= now);
        let names: Vec<String> = self
            .listeners
            .iter()
            .filter(|(_, listener)| due(listener))
            .map(|(name, _)| name.clone())
            .collect();
        if self.stopping.is_none() {
            names.iter().for_each(|name| self.bind(name));
        }
    }

    pub(super) fn bind_due(&self) -> Option<Instant> {
        if self.stopping.is_some() {
            return None;
        }
        self.listeners.values().filter_map(|listener| listener.again_at).min()
    }
}

fn is_known(manifest: &model::manifest::Manifest, name: &str) -> bool {
    let is_own = name == ADMIN || name == ADMIN_LOCAL;
    is_own || manifest.listeners.keys().any(|known| known.as_str() == name)
}
