//! All certificates of this process: followed from table to table, and looked after by a thread of their own.
//!
//! Each listener has one configuration for as long as it speaks TLS; what changes is the choice in it. It reads files
//! when a table names new ones, on the thread that swaps, and when they change, on its own: never on one that serves.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ProducesTickets};
use rustls::version::{TLS12, TLS13};
use tokio::sync::mpsc;
use wire::routes::{CertificateFiles, RouteTable};
use wire::traffic::{CertificateInUse, CertificateNews};

use super::choice::{Choice, Chooser};
use super::pair::Pair;
use super::tracked::{News, Tracked, copy_name};
use crate::engine::ledger::Event;

/// Between two looks at the files.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// All certificates of this process.
#[derive(Debug, Clone)]
pub(crate) struct Certificates(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    provider: Arc<CryptoProvider>,
    /// Where the last good pairs are kept.
    copies: Option<PathBuf>,
    events: mpsc::WeakSender<Event>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<CertificateFiles, Known>,
    listeners: BTreeMap<String, Serving>,
    /// Made with the first listener that needs it.
    tickets: Option<Arc<dyn ProducesTickets>>,
    watcher: Option<Watcher>,
}

/// One pair of files.
#[derive(Debug)]
struct Known {
    /// Held while files are read.
    tracked: Arc<Mutex<Tracked>>,
    /// In use.
    pair: Option<Arc<Pair>>,
}

/// What one listener serves.
#[derive(Debug)]
struct Serving {
    files: Vec<CertificateFiles>,
    config: Arc<ServerConfig>,
    chooser: Arc<Chooser>,
}

/// The thread that looks after the files; it ends with its sender.
#[derive(Debug)]
struct Watcher {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Certificates {
    /// None yet.
    pub(crate) fn new(copies: Option<PathBuf>, events: &mpsc::Sender<Event>) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            copies,
            events: events.downgrade(),
        }))
    }

    /// Listeners speak TLS as `table` says from here on.
    pub(crate) fn follow(&self, table: &RouteTable) {
        let shared = &self.0;
        let now_ms = now_ms();
        let wanted: BTreeMap<&String, &Vec<CertificateFiles>> = table
            .listeners
            .iter()
            .filter(|(_, settings)| !settings.tls.is_empty())
            .map(|(name, settings)| (name, &settings.tls))
            .collect();
        let known: Vec<CertificateFiles> = shared.state().files.keys().cloned().collect();
        let mut opened = BTreeMap::new();
        for files in wanted.values().copied().flatten().filter(|files| !known.contains(files)) {
            let open = || Tracked::open(files, shared.copies.as_deref(), now_ms);
            opened.entry(files.clone()).or_insert_with(open);
        }
        let mut state = shared.state();
        let is_wanted = |files: &CertificateFiles| wanted.values().any(|list| list.contains(files));
        state.files.retain(|files, _| is_wanted(files));
        state.listeners.retain(|name, _| wanted.contains_key(name));
        let mut news = Vec::new();
        for (files, (tracked, told)) in opened {
            let pair = tracked.pair.clone();
            state.files.insert(files.clone(), Known { tracked: Arc::new(Mutex::new(tracked)), pair });
            news.extend(told.map(|told| (files, told)));
        }
        for (name, files) in wanted {
            state.serve(name, files, &shared.provider);
        }
        for (files, told) in news {
            shared.tell(&state, &files, &told);
        }
        self.tidy_copies(&state);
        self.watch_if_needed(&mut state);
    }

    /// How TLS is spoken on that listener; `None`: not at all.
    pub(crate) fn config(&self, listener: &str) -> Option<Arc<ServerConfig>> {
        self.0.state().listeners.get(listener).map(|serving| serving.config.clone())
    }

    /// What is in use, listener by listener; of several for one name the one that ends first.
    pub(crate) fn in_use(&self) -> Vec<CertificateInUse> {
        let state = self.0.state();
        let mut ends: BTreeMap<(&String, &str), u64> = BTreeMap::new();
        for (listener, serving) in &state.listeners {
            for pair in serving.files.iter().filter_map(|files| state.files.get(files)?.pair.as_ref()) {
                let name = pair.names.first().map_or("", String::as_str);
                let end = ends.entry((listener, name)).or_insert(u64::MAX);
                *end = pair.not_after_ms.min(*end);
            }
        }
        let in_use = |((listener, name), not_after_ms): ((&String, &str), u64)| CertificateInUse {
            listener: listener.clone(),
            name: name.to_owned(),
            not_after_ms,
        };
        ends.into_iter().map(in_use).collect()
    }

    /// Looks at no file any more.
    pub(crate) fn stop(&self) {
        let watcher = self.0.state().watcher.take();
        if let Some(Watcher { stop, thread }) = watcher {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the thread that looks after certificates ended by a bug");
            }
        }
    }

    /// No key stays behind that no table names.
    fn tidy_copies(&self, state: &State) {
        let Some(directory) = &self.0.copies else { return };
        let kept: Vec<PathBuf> = state.files.keys().map(|files| directory.join(copy_name(files))).collect();
        host::folder::keep_only(directory, |path| kept.iter().any(|one| one == path));
    }

    fn watch_if_needed(&self, state: &mut State) {
        if state.files.is_empty() || state.watcher.is_some() {
            return;
        }
        let (stop, stopped) = sync_channel(0);
        let weak = Arc::downgrade(&self.0);
        let thread = std::thread::Builder::new().name("certificates".to_owned()).spawn(move || {
            while stopped.recv_timeout(LOOK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                match weak.upgrade() {
                    Some(shared) => shared.look(),
                    None => return,
                }
            }
        });
        match thread {
            Ok(thread) => state.watcher = Some(Watcher { stop, thread }),
            Err(error) => tracing::error!(%error, "certificates are not read again when they change"),
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at every file; none is read while others wait for the state.
    fn look(&self) {
        let now_ms = now_ms();
        let all: Vec<_> =
            self.state().files.iter().map(|(files, known)| (files.clone(), known.tracked.clone())).collect();
        for (files, tracked) in all {
            let mut tracked = tracked.lock().unwrap_or_else(PoisonError::into_inner);
            let (news, is_new) = tracked.look(now_ms);
            let mut state = self.state();
            if is_new && let Some(known) = state.files.get_mut(&files) {
                known.pair = tracked.pair.clone();
                state.choose_again(&files);
                tracing::info!(certificate = files.certificate, "a certificate was read again and is in use");
            }
            if let Some(news) = news {
                self.tell(&state, &files, &news);
            }
        }
    }

    fn tell(&self, state: &State, files: &CertificateFiles, news: &News) {
        let Some(events) = self.events.upgrade() else { return };
        for (name, _) in state.listeners.iter().filter(|(_, serving)| serving.files.contains(files)) {
            let news = CertificateNews {
                listener: name.clone(),
                certificate: files.certificate.clone(),
                error: news.error.clone(),
                not_after_ms: news.not_after_ms,
            };
            if events.try_send(Event::Certificate(Box::new(news))).is_err() {
                tracing::error!(listener = name, "news of a certificate was lost: nobody reads them");
            }
        }
    }
}

impl State {
    /// The listener speaks TLS with these.
    fn serve(&mut self, name: &str, files: &[CertificateFiles], provider: &Arc<CryptoProvider>) {
        if !self.listeners.contains_key(name) {
            let chooser = Arc::new(Chooser::default());
            let config = Arc::new(self.configure(chooser.clone(), provider));
            self.listeners.insert(name.to_owned(), Serving { files: Vec::new(), config, chooser });
        }
        if let Some(serving) = self.listeners.get_mut(name) {
            serving.files = files.to_vec();
            serving.choose(&self.files);
        }
    }

    fn configure(&mut self, chooser: Arc<Chooser>, provider: &Arc<CryptoProvider>) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("invariant: the provider has suites for both")
            .with_no_client_auth()
            .with_cert_resolver(chooser);
        // Tickets hold all there is to remember; nothing is remembered here.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        if self.tickets.is_none() {
            let made = rustls::crypto::ring::Ticketer::new();
            if let Err(error) = &made {
                tracing::warn!(%error, "TLS sessions cannot be resumed");
            }
            self.tickets = made.ok();
        }
        if let Some(tickets) = &self.tickets {
            config.ticketer = tickets.clone();
        }
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }

    fn choose_again(&self, files: &CertificateFiles) {
        for serving in self.listeners.values().filter(|serving| serving.files.contains(files)) {
            serving.choose(&self.files);
        }
    }
}

impl Serving {
    fn choose(&self, all: &BTreeMap<CertificateFiles, Known>) {
        let pairs = self.files.iter().filter_map(|files| all.get(files)?.pair.as_ref());
        self.chooser.set(Choice::new(pairs));
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
