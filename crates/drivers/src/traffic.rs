//! The proxies, as the agent uses them.
//!
//! ```text
//!  publish ──► run/routes ──► every link: the newest table wins, older ones that wait are skipped
//!  holder: peer ──► link ──► proxy-up, then what the proxy says ──► holder: peer gone ──► proxy-gone
//!                    └─ stream closed: the holder will say whether it is gone or has a new link; 5 s, then proxy-gone
//! ```
//! Only the proxy with the highest generation is told to probe. A link keeps at most one table, one drain and one
//! report that wait, so a proxy that does not read costs nothing.
//!
//! It deliberately does not count acknowledgements: the agent does.

mod link;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use agent::world::{Event, Traffic};
use host::Descriptor;
use wire::link::Hello;
use wire::routes::{self, RouteTable};

use crate::Events;
use crate::starting::Starting;
use link::{Link, Outbox};

#[derive(Debug)]
struct Shared {
    routes: PathBuf,
    hello: Hello,
    events: Events,
    starting: Starting,
    table: Option<Rc<RouteTable>>,
    links: BTreeMap<u64, Link>,
}

/// The proxies. Clones share them: one is the agent's, one the fleet's, which hears of new links.
#[derive(Debug, Clone)]
pub struct Proxies(Rc<RefCell<Shared>>);

impl Proxies {
    /// No proxy yet. Tables are also written to `routes`; `hello` is how we greet.
    pub fn new(routes: PathBuf, hello: Hello, events: Events, starting: Starting) -> Self {
        let links = BTreeMap::new();
        Self(Rc::new(RefCell::new(Shared { routes, hello, events, starting, table: None, links })))
    }

    /// The table that a former agent left, if there is one: what proxies get until there is a newer one.
    pub(crate) fn last_table(&self) -> Option<RouteTable> {
        let mut shared = self.0.borrow_mut();
        if shared.table.is_none() {
            shared.table = read_table(&shared.routes).map(Rc::new);
        }
        shared.table.as_deref().cloned()
    }

    /// The holder says: this is our end of a link to the proxy of that generation. It takes the place of an
    /// older link to the same one.
    pub(crate) fn attach(&self, generation: u64, pid: u32, descriptor: Descriptor) {
        let mut shared = self.0.borrow_mut();
        let newest = shared.links.last_key_value().is_none_or(|(last, _)| *last <= generation);
        let outbox = Outbox::default();
        outbox.greet(shared.hello.clone());
        if let Some(table) = &shared.table {
            outbox.table(Rc::clone(table), newest);
        }
        if newest {
            // The one before stops probing when it reads the same table again.
            if let (Some((_, before)), Some(table)) =
                (shared.links.range(..generation).next_back(), &shared.table)
            {
                before.outbox.table(Rc::clone(table), false);
            }
        }
        let ears =
            link::Ears { generation, pid, events: shared.events.clone(), starting: shared.starting.clone() };
        let link = Link::start(descriptor, outbox, ears, self.clone());
        if let Some(older) = shared.links.insert(generation, link) {
            older.stop();
        }
    }

    /// That proxy has ended, or cannot be talked to any more.
    pub(crate) async fn gone(&self, generation: u64) {
        let (link, events) = {
            let mut shared = self.0.borrow_mut();
            (shared.links.remove(&generation), shared.events.clone())
        };
        if let Some(link) = link {
            link.stop();
            self.probe_from_newest();
            let _ = events.send(Event::ProxyGone { generation }).await;
        }
    }

    /// Ends the links to proxies that are not among the living: they ended while nobody could tell us.
    pub(crate) async fn keep_only(&self, living: &[(u64, u32)]) {
        let lost: Vec<u64> = {
            let shared = self.0.borrow();
            let is_living = |generation: &u64| living.iter().any(|(living, _)| living == generation);
            shared.links.keys().copied().filter(|generation| !is_living(generation)).collect()
        };
        for generation in lost {
            self.gone(generation).await;
        }
    }

    /// A link's stream has closed. Whether its proxy has ended is the holder's to say: a new holder gives a living
    /// one a new link.
    fn closed(&self, generation: u64, number: u64) {
        if let Some(link) =
            self.0.borrow_mut().links.get_mut(&generation).filter(|link| link.number == number)
        {
            link.open = false;
        }
        self.probe_from_newest();
    }

    /// Whether that link has closed and no other took its place.
    fn is_without_link(&self, generation: u64, number: u64) -> bool {
        self.0.borrow().links.get(&generation).is_some_and(|link| link.number == number && !link.open)
    }

    /// Whoever is the newest now has the task of probing.
    fn probe_from_newest(&self) {
        let shared = self.0.borrow();
        let newest = shared.links.values().rev().find(|link| link.open);
        if let (Some(newest), Some(table)) = (newest, &shared.table) {
            newest.outbox.table(Rc::clone(table), true);
        }
    }
}

impl Traffic for Proxies {
    fn publish(&mut self, table: &RouteTable) {
        let mut shared = self.0.borrow_mut();
        if let Err(error) = write_table(&shared.routes, table) {
            // The living proxies have it all the same; only one that starts before the next table is behind.
            tracing::error!(path = %shared.routes.display(), %error, "the route table could not be written");
        }
        let table = Rc::new(table.clone());
        shared.table = Some(Rc::clone(&table));
        let newest = shared.links.values().rev().find(|link| link.open).map(|link| link.number);
        for link in shared.links.values() {
            link.outbox.table(Rc::clone(&table), Some(link.number) == newest);
        }
    }

    fn drain(&mut self, deadline: Duration) {
        for link in self.0.borrow().links.values() {
            link.outbox.drain(wire::manifest::millis(deadline));
        }
    }

    fn report_now(&mut self, token: u64) {
        for link in self.0.borrow().links.values() {
            link.outbox.report_now(token);
        }
    }
}

/// Not synced: after a loss of power its checksum tells whether it is whole, and no proxy runs that needs it.
fn write_table(path: &Path, table: &RouteTable) -> std::io::Result<()> {
    let bytes = routes::encode_file(table).map_err(std::io::Error::other)?;
    host::file::replace_private(path, &bytes)
}

fn read_table(path: &Path) -> Option<RouteTable> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the route table cannot be read");
            return None;
        }
    };
    match routes::decode_file(&bytes) {
        Ok(table) => Some(table),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "the route table is not used");
            None
        }
    }
}

#[cfg(test)]
mod tests;
