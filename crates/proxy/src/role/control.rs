//! What the proxy's main thread does: passes listeners and tables to the engine, and what comes of it back.
//!
//! ```text
//!  holder ──listeners──►┐             ┌──applied, drained, counters──► agent
//!  agent ──tables──────►├─ control ─┬─► engine
//!  run/routes ─────────►┘           └─► prober ──verdicts──► agent
//! ```
//! Everything said to an agent can be said again to the next one: it follows from the table and the ledger. A table
//! older than the one in use is ignored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use host::Descriptor;
use host::channel::Channel;
use host::paths::Layout;
use host::rescue::RescueSocket;
use wire::link::{ALIVE_INTERVAL_MS, FromHolder, Hello, ToHolder};
use wire::routes::{RouteTable, RoutesFileError, decode_file};
use wire::traffic::{CertificateNews, Counters, FromProxy, ToProxy};
use wire::vault::ProcessRole;

use crate::engine::{Engine, ListenSource, Notice, Settings};
use crate::prober::{Finding, Prober};
use crate::role::ProxyError;
use crate::role::agent::AgentLink;
use crate::role::holder::HolderLink;
use crate::role::report;

/// Between two signs of life, and two looks at what is overdue.
const TICK: Duration = Duration::from_millis(100);
/// Between two reports of counters.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// After the end of a drain, for what is still to be told.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
/// After the deadline of a drain, for the threads to say that nothing is left.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// Reports with a token that may be under way.
const TOKENS_MAX: usize = 8;

/// What woke the main thread.
enum Wake {
    Holder(Vec<(FromHolder, Vec<Descriptor>)>),
    Agent(Vec<(ToProxy, Vec<Descriptor>)>),
    Engine(Option<Notice>),
    Found(Finding),
    Rescuer(std::io::Result<Channel>),
    Tick,
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    No,
    Until(Instant),
    /// Nothing is left; what is still to be told may leave until then.
    Done(Instant),
}

/// Every thread has said that it is empty; a last report is to show that it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    Due,
    Asked(u64),
}

/// The main thread's state.
#[derive(Debug)]
pub(super) struct Control {
    layout: Layout,
    hello: Hello,
    holder: HolderLink,
    agent: AgentLink,
    rescue: RescueSocket,
    prober: Prober,
    engine: Option<Engine>,
    table: Option<Arc<RouteTable>>,
    /// The generation that all threads use.
    applied: Option<u64>,
    /// Instances that were told drained under the table in use.
    drained: BTreeSet<String>,
    /// Listeners the engine was given.
    listeners: BTreeMap<String, Descriptor>,
    /// Those on which all threads accept.
    accepting: BTreeSet<String>,
    /// What is wrong with certificates, by listener and file.
    certificates: BTreeMap<(String, String), CertificateNews>,
    /// Tokens of reports that were asked for, by report.
    tokens: BTreeMap<u64, u64>,
    reported: Instant,
    alive: Instant,
    drain: Drain,
    farewell: Option<Farewell>,
}

impl Control {
    /// Nothing has happened yet.
    pub(super) fn new(layout: Layout, hello: Hello, holder: HolderLink, rescue: RescueSocket) -> Self {
        let now = Instant::now();
        Self {
            layout,
            hello,
            holder,
            agent: AgentLink::default(),
            rescue,
            prober: Prober::new(),
            engine: None,
            table: None,
            applied: None,
            drained: BTreeSet::new(),
            listeners: BTreeMap::new(),
            accepting: BTreeSet::new(),
            certificates: BTreeMap::new(),
            tokens: BTreeMap::new(),
            reported: now,
            alive: now,
            drain: Drain::No,
            farewell: None,
        }
    }

    /// Runs until a drain has ended.
    pub(super) async fn run(&mut self) -> Result<(), ProxyError> {
        if let Some(table) = self.read_routes() {
            self.use_table(table)?;
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_orphaned = self.holder.is_orphaned();
            let wake = tokio::select! {
                messages = self.holder.messages() => Wake::Holder(messages),
                messages = self.agent.messages() => Wake::Agent(messages),
                notice = next_notice(&mut self.engine) => Wake::Engine(notice),
                finding = self.prober.finding() => Wake::Found(finding),
                channel = self.rescue.accept(), if is_orphaned => Wake::Rescuer(channel),
                _ = tick.tick() => Wake::Tick,
            };
            self.handle(wake)?;
            if self.has_ended() {
                return Ok(());
            }
        }
    }

    /// Ends the threads.
    pub(super) fn stop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.stop();
        }
    }

    fn handle(&mut self, wake: Wake) -> Result<(), ProxyError> {
        match wake {
            Wake::Holder(messages) => {
                for (message, descriptors) in messages {
                    self.handle_holder(message, descriptors);
                }
                self.follow_vault();
            }
            Wake::Agent(messages) => {
                for (message, descriptors) in messages {
                    self.handle_agent(message, &descriptors)?;
                }
            }
            Wake::Engine(Some(notice)) => self.handle_notice(notice),
            Wake::Engine(None) => return Err(ProxyError::Threads),
            Wake::Found(Finding { instance, healthy, detail }) => {
                self.agent.send(&FromProxy::Probe { instance, healthy, detail });
            }
            Wake::Rescuer(Ok(channel)) => self.meet_rescuer(channel),
            Wake::Rescuer(Err(error)) => {
                tracing::warn!(%error, "nobody can be accepted on the rescue socket")
            }
            Wake::Tick => return self.tick(),
        }
        Ok(())
    }

    fn read_routes(&self) -> Option<RouteTable> {
        let path = self.layout.routes();
        let read = std::fs::read(&path);
        match read {
            Ok(bytes) => match decode_file(&bytes) {
                Ok(table) => return Some(table),
                Err(
                    error @ (RoutesFileError::Shape | RoutesFileError::Checksum | RoutesFileError::Json(_)),
                ) => {
                    tracing::error!(path = %path.display(), %error, "waiting for the agent's table");
                }
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::error!(path = %path.display(), %error, "waiting for the agent's table"),
        }
        None
    }

    /// Uses `table`, on an engine that starts with the first one.
    fn use_table(&mut self, table: RouteTable) -> Result<(), ProxyError> {
        let table = Arc::new(table);
        if self.engine.is_none() {
            let settings = Settings {
                threads: table.threads,
                seed: host::random::seed(),
                access_log: Some(self.layout.logs().join("access.log")),
                tls_copies: Some(self.layout.tls_dir()),
            };
            self.engine = Some(Engine::start(&settings).map_err(ProxyError::system("no threads"))?);
        }
        if let Some(engine) = &mut self.engine {
            engine.swap(&table);
        }
        self.certificates.retain(|(listener, certificate), _| {
            let settings = table.listeners.get(listener);
            settings
                .is_some_and(|settings| settings.tls.iter().any(|files| files.certificate == *certificate))
        });
        self.table = Some(table);
        self.applied = None;
        self.drained.clear();
        self.follow_vault();
        Ok(())
    }

    /// Gives the engine the listeners that are in the vault, and takes back those that are not.
    fn follow_vault(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        if self.drain != Drain::No {
            return;
        }
        let mut gone: BTreeSet<String> = self.listeners.keys().cloned().collect();
        for (name, descriptor) in self.holder.listeners() {
            gone.remove(name);
            if self.listeners.get(name).is_some_and(|known| is_same_socket(known, descriptor)) {
                continue;
            }
            self.listeners.insert(name.to_owned(), descriptor.clone());
            self.accepting.remove(name);
            let source: Arc<dyn ListenSource> = Arc::new(descriptor.clone());
            engine.listen(name, &source);
        }
        for name in gone {
            engine.unlisten(&name);
            self.listeners.remove(&name);
            self.accepting.remove(&name);
        }
    }

    fn tell_if_serving(&mut self) {
        if self.drain == Drain::No && self.listeners.keys().all(|name| self.accepting.contains(name)) {
            self.holder.send(&ToHolder::Serving);
        }
    }

    fn handle_holder(&mut self, message: FromHolder, mut descriptors: Vec<Descriptor>) {
        match message {
            FromHolder::Hello(_) => {
                if !self.accepting.is_empty() {
                    self.tell_if_serving();
                }
            }
            FromHolder::Peer { generation, .. } => {
                let Some(descriptor) = descriptors.pop() else {
                    return tracing::error!("a link to an agent came without its descriptor");
                };
                if let Err(error) = self.agent.connect(generation, descriptor, &self.hello) {
                    tracing::error!(agent = generation, %error, "the link to an agent cannot be used");
                }
                if let Some(engine) = &mut self.engine {
                    engine.begin_series_anew();
                }
            }
            FromHolder::PeerGone { generation, role: ProcessRole::Agent } => self.agent.gone(generation),
            FromHolder::Drain { deadline_ms } => self.start_drain(deadline_ms),
            FromHolder::Deposit { .. }
            | FromHolder::Withdraw { .. }
            | FromHolder::Inventory { .. }
            | FromHolder::Spawned { .. }
            | FromHolder::SpawnFailed { .. }
            | FromHolder::Exited { .. }
            | FromHolder::MainPid { .. }
            | FromHolder::Bound { .. }
            | FromHolder::BindFailed { .. }
            | FromHolder::PeerGone { .. }
            | FromHolder::Stop { .. }
            | FromHolder::Alive => {}
        }
    }

    fn meet_rescuer(&mut self, channel: Channel) {
        match self.holder.connect(channel) {
            Ok(()) => tracing::info!("a new holder is here"),
            Err(error) => tracing::error!(%error, "a new holder cannot be talked to"),
        }
    }

    fn handle_agent(&mut self, message: ToProxy, descriptors: &[Descriptor]) -> Result<(), ProxyError> {
        match message {
            ToProxy::Hello(hello) if hello.min > wire::PROTOCOL_MAX || hello.max < wire::PROTOCOL_MIN => {
                tracing::error!(min = hello.min, max = hello.max, "the agent speaks another protocol");
                self.agent = AgentLink::default();
            }
            ToProxy::Hello(_) => {}
            ToProxy::Table { table, probe } => self.handle_table(*table, probe)?,
            ToProxy::TableInDescriptor { generation, probe } => match read_table(descriptors) {
                Ok(table) if table.generation == generation => self.handle_table(table, probe)?,
                Ok(table) => {
                    tracing::error!(generation, found = table.generation, "another table was announced")
                }
                Err(error) => tracing::error!(generation, %error, "a table could not be read"),
            },
            ToProxy::Drain { deadline_ms } => self.start_drain(deadline_ms),
            ToProxy::ReportNow { token } => match &mut self.engine {
                Some(engine) => {
                    let number = engine.report();
                    self.tokens.insert(number, token);
                    if self.tokens.len() > TOKENS_MAX {
                        self.tokens.pop_first();
                    }
                }
                None => {
                    let counters = Counters { token: Some(token), ..Counters::default() };
                    self.agent.send(&FromProxy::Counters(Box::new(counters)));
                }
            },
        }
        Ok(())
    }

    fn handle_table(&mut self, table: RouteTable, probe: bool) -> Result<(), ProxyError> {
        if let Some(used) = self.table.as_ref().filter(|used| used.generation > table.generation) {
            tracing::info!(used = used.generation, offered = table.generation, "an older table is ignored");
            return Ok(());
        }
        if probe {
            self.prober.follow(&table);
        } else {
            self.prober.stop();
        }
        if self.table.as_deref() != Some(&table) {
            return self.use_table(table);
        }
        // This agent has not heard what came of it.
        if let Some(generation) = self.applied {
            self.agent.send(&FromProxy::TableApplied { generation });
        }
        for news in self.certificates.values() {
            self.agent.send(&FromProxy::Certificate(news.clone()));
        }
        for instance in &self.drained {
            let told = FromProxy::Drained { instance: instance.clone(), generation: table.generation };
            self.agent.send(&told);
        }
        Ok(())
    }

    fn handle_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Applied { generation } => {
                self.applied = Some(generation);
                self.agent.send(&FromProxy::TableApplied { generation });
            }
            Notice::Drained { instance, generation } => {
                self.drained.insert(instance.clone());
                self.agent.send(&FromProxy::Drained { instance, generation });
            }
            Notice::Listening { name } => {
                self.accepting.insert(name);
                self.tell_if_serving();
            }
            Notice::ListenFailed { name, error } => {
                tracing::error!(listener = name, error, "a thread cannot accept; trying again");
                self.listeners.remove(&name);
            }
            Notice::Report { number, counters } => self.pass_report(number, *counters),
            Notice::Certificate(news) => self.handle_certificate(*news),
            // A connection may still be on its way from one thread to another: the next report shows it.
            Notice::Empty => self.ask_whether_empty(),
        }
    }

    /// A draining proxy's certificates are those of its successor, which tells of them.
    fn handle_certificate(&mut self, news: CertificateNews) {
        if self.drain == Drain::No {
            self.agent.send(&FromProxy::Certificate(news.clone()));
        }
        let key = (news.listener.clone(), news.certificate.clone());
        if news.error.is_some() {
            self.certificates.insert(key, news);
        } else {
            self.certificates.remove(&key);
        }
    }

    fn pass_report(&mut self, number: u64, mut counters: Counters) {
        counters.token = self.tokens.remove(&number);
        let has_none = counters.connections == 0;
        self.send_counters(counters);
        if self.farewell == Some(Farewell::Asked(number)) {
            self.farewell = Some(Farewell::Due);
            if has_none {
                self.end_drain();
            }
        }
    }

    fn send_counters(&mut self, counters: Counters) {
        // What nobody hears stays to be told.
        let (series, is_anew) = match &mut self.engine {
            Some(engine) if !self.agent.is_alone() => engine.changed_series(),
            _ => (Vec::new(), false),
        };
        for part in report::in_parts(counters, series, is_anew) {
            self.agent.send(&FromProxy::Counters(Box::new(part)));
        }
    }

    fn ask_whether_empty(&mut self) {
        if let Some(engine) = &mut self.engine {
            self.farewell = Some(Farewell::Asked(engine.report()));
        }
    }

    fn start_drain(&mut self, deadline_ms: u64) {
        let deadline = Duration::from_millis(deadline_ms);
        let until = Instant::now() + deadline + DRAIN_MARGIN;
        match self.drain {
            Drain::Done(_) => return,
            Drain::Until(before) => self.drain = Drain::Until(before.min(until)),
            Drain::No => {
                tracing::info!(deadline_ms, "draining");
                self.drain = Drain::Until(until);
            }
        }
        self.prober.stop();
        match &mut self.engine {
            Some(engine) => engine.drain(deadline),
            None => self.end_drain(),
        }
    }

    fn end_drain(&mut self) {
        if matches!(self.drain, Drain::Until(_)) {
            tracing::info!("drained");
            self.drain = Drain::Done(Instant::now() + FAREWELL_MAX);
            self.agent.send(&FromProxy::DrainComplete);
        }
    }

    fn has_ended(&self) -> bool {
        match self.drain {
            Drain::Done(until) => self.agent.is_flushed() || Instant::now() >= until,
            Drain::No | Drain::Until(_) => false,
        }
    }

    fn tick(&mut self) -> Result<(), ProxyError> {
        let now = Instant::now();
        if self.engine.as_ref().is_some_and(|engine| !engine.is_whole()) {
            return Err(ProxyError::Threads);
        }
        if now.duration_since(self.alive) >= Duration::from_millis(ALIVE_INTERVAL_MS) {
            self.alive = now;
            self.holder.send(&ToHolder::Alive);
        }
        if now.duration_since(self.reported) >= REPORT_INTERVAL {
            self.reported = now;
            // An agent that does not read gets the sum later; nothing is lost by waiting.
            if let (Some(engine), false, true) =
                (&mut self.engine, self.agent.is_alone(), self.agent.is_flushed())
            {
                engine.report();
            }
            // What could not be listened on is tried again.
            self.follow_vault();
        }
        if self.drain == Drain::No && self.holder.next_rescue().is_some_and(|due| now >= due) {
            self.holder.try_rescue(&self.layout);
        }
        if matches!(self.drain, Drain::Until(until) if now >= until) {
            tracing::error!("a thread did not end its connections in time");
            self.end_drain();
        }
        if self.farewell == Some(Farewell::Due) {
            self.ask_whether_empty();
        }
        Ok(())
    }
}

/// Whether two descriptors are of one socket: a new holder gives its own copies of the sockets we have.
fn is_same_socket(a: &Descriptor, b: &Descriptor) -> bool {
    if Arc::ptr_eq(a, b) {
        return true;
    }
    match (host::listener::socket_cookie(a), host::listener::socket_cookie(b)) {
        (Ok(a), Ok(b)) => a == b,
        _ => false,
    }
}

fn read_table(descriptors: &[Descriptor]) -> std::io::Result<RouteTable> {
    let [memory] = descriptors else {
        return Err(std::io::Error::other("it needs exactly one descriptor"));
    };
    Ok(serde_json::from_slice(&host::memory::read_all(memory)?)?)
}

async fn next_notice(engine: &mut Option<Engine>) -> Option<Notice> {
    match engine {
        Some(engine) => engine.notice().await,
        None => std::future::pending().await,
    }
}
