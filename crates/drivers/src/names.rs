//! Names of endpoints, looked up in the hosts file and by DNS, again whenever an answer is over.
//!
//! ```text
//!  look_up ──► a task a name: look up ─► says something else than before ─► looked-up
//!                                ▲        └─ wait: as long as the answer holds, or longer after each failure
//! ```
//! Nothing is cached beside that. Where the hosts file or the list of name servers was edited, the next lookup uses
//! what they say then. A name that has IPv4 addresses is reached by these, else by its IPv6 ones: both mostly lead to
//! the same machines, which would count twice.
//!
//! It deliberately keeps no addresses: what holds after a failure is the agent's to decide.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use agent::world::{Event, Names};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};

use crate::Events;

/// However short an answer holds, it is asked for again no earlier.
const HOLDS_MIN: Duration = Duration::from_secs(1);
/// However long one holds, it is asked for again by then: a wrong one must not stay for a day.
const HOLDS_MAX: Duration = Duration::from_secs(300);
/// Before the first new try after a failure; doubles up to `HOLDS_MAX`.
const RETRY: Duration = Duration::from_secs(1);
/// Doublings after which that limit is reached in any case.
const DOUBLINGS_MAX: u32 = 16;
/// For one lookup with all its tries: a silent server must not look like no answer at all.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);

/// Where name servers and fixed names stand on this kind of system.
const SERVERS_FILE: &str = "/etc/resolv.conf";
const HOSTS_FILE: &str = "/etc/hosts";

/// What is asked.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// This server and no other; `None`: those of the system.
    pub server: Option<SocketAddr>,
    /// This hosts file; `None`: that of the system.
    pub hosts: Option<PathBuf>,
}

impl Sources {
    fn hosts_file(&self) -> &Path {
        self.hosts.as_deref().unwrap_or(Path::new(HOSTS_FILE))
    }

    /// When its files were edited last.
    fn stamp(&self) -> Stamp {
        let edited = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        [edited(self.hosts_file()), edited(Path::new(SERVERS_FILE))]
    }

    fn open(&self) -> Result<TokioResolver, NetError> {
        let runtime = TokioRuntimeProvider::default;
        let mut builder = match self.server {
            Some(server) => {
                let mut udp = ConnectionConfig::udp();
                udp.port = server.port();
                let servers = vec![NameServerConfig::new(server.ip(), true, vec![udp])];
                TokioResolver::builder_with_config(ResolverConfig::from_name_servers(servers), runtime())
            }
            None => TokioResolver::builder_tokio().unwrap_or_else(|error| {
                tracing::warn!(%error, "no name servers are known: only names of the hosts file are found");
                TokioResolver::builder_with_config(ResolverConfig::default(), runtime())
            }),
        };
        let options = builder.options_mut();
        options.cache_size = 0;
        options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
        options.use_hosts_file = ResolveHosts::Always;
        let mut resolver = builder.build()?;
        if let Some(path) = &self.hosts {
            let mut hosts = hickory_resolver::Hosts::default();
            hosts.read_hosts_conf(std::fs::File::open(path)?)?;
            resolver.set_hosts(Arc::new(hosts));
        }
        Ok(resolver)
    }
}

type Stamp = [Option<SystemTime>; 2];

/// A resolver for as long as its files are what they were.
#[derive(Default)]
struct Opened {
    sources: Sources,
    resolver: RefCell<Option<(Stamp, TokioResolver)>>,
}

impl Opened {
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let stamp = self.sources.stamp();
        let mut opened = self.resolver.borrow_mut();
        if let Some((_, resolver)) = opened.as_ref().filter(|(known, _)| *known == stamp) {
            return Ok(resolver.clone());
        }
        let resolver = self.sources.open()?;
        *opened = Some((stamp, resolver.clone()));
        Ok(resolver)
    }

    /// The addresses and for how long they hold.
    async fn look_up(&self, name: &str) -> Result<(Vec<IpAddr>, Duration), String> {
        let resolver = self.resolver().map_err(|error| said(&error))?;
        let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, resolver.lookup_ip(name)).await;
        let lookup = lookup.map_err(|_elapsed| "no name server has answered".to_owned())?;
        let lookup = lookup.map_err(|error| said(&error))?;
        let mut addresses: Vec<IpAddr> = lookup.iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        Ok((addresses, lookup.valid_until().saturating_duration_since(Instant::now())))
    }
}

/// In words for people.
fn said(error: &NetError) -> String {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(_)) => {
            "there is no such name, or it has no address".to_owned()
        }
        NetError::Timeout => "no name server has answered".to_owned(),
        NetError::NoConnections => "no name server can be reached".to_owned(),
        other => other.to_string(),
    }
}

/// Looks names up.
pub struct Resolver {
    opened: Rc<Opened>,
    events: Events,
    /// Ended when they are dropped.
    tasks: BTreeMap<String, Watched>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&String> = self.tasks.keys().collect();
        f.debug_struct("Resolver").field("sources", &self.opened.sources).field("names", &names).finish()
    }
}

struct Watched(tokio::task::JoinHandle<()>);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Resolver {
    /// No name yet. Wants to live on a `LocalSet`.
    pub fn new(sources: Sources, events: Events) -> Self {
        let opened = Rc::new(Opened { sources, resolver: RefCell::default() });
        Self { opened, events, tasks: BTreeMap::new() }
    }
}

impl Names for Resolver {
    fn look_up(&mut self, names: &BTreeSet<String>) {
        self.tasks.retain(|name, _| names.contains(name));
        for name in names {
            if !self.tasks.contains_key(name) {
                let task = watch(name.clone(), Rc::clone(&self.opened), self.events.clone());
                self.tasks.insert(name.clone(), Watched(tokio::task::spawn_local(task)));
            }
        }
    }
}

/// Until it is aborted.
async fn watch(name: String, opened: Rc<Opened>, events: Events) {
    let mut before = None;
    let mut failures: u32 = 0;
    loop {
        let (result, wait) = match opened.look_up(&name).await {
            Ok((addresses, holds)) => {
                failures = 0;
                (Ok(addresses), holds.clamp(HOLDS_MIN, HOLDS_MAX))
            }
            Err(why) => {
                let wait = RETRY.saturating_mul(1 << failures.min(DOUBLINGS_MAX)).min(HOLDS_MAX);
                failures = failures.saturating_add(1);
                (Err(why), wait)
            }
        };
        if before.as_ref() != Some(&result) {
            before = Some(result.clone());
            if events.send(Event::LookedUp { name: name.clone(), result }).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(wait).await;
    }
}

#[cfg(test)]
mod tests;
