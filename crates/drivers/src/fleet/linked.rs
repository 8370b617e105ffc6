//! While a holder is there: its messages become events, the agent's requests become messages.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use agent::world::{Event, FleetRequest, Inventory, SpawnRequest};
use host::Descriptor;
use host::channel::AsyncChannel;
use host::clock::MonotonicClock;
use host::process_tree::Tree;
use host::pump::{Pumped, pump_once};
use model::id::InstanceId;
use telemetry::collector::{Collector, Matched, Reply, Start, Unreachable};
use telemetry::source::Source;
use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;
use wire::link::{ALIVE_INTERVAL_MS, ExitStatus, FromHolder, ToHolder};
use wire::routes::{Address, EndpointState, RouteTable};
use wire::sealed::Boot;
use wire::vault::{ListenerUse, ProcessRole, VaultItem};

use super::silence::{Remedy, Silence};
use super::{Command, Fallback, LinkEnd, Task, beside, inventory, notify, spec, until};
use crate::usage;

/// Between two looks at the holder's silence.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// For the last lines of an instance that has ended; its end is told without them then.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(2);

impl Task {
    /// Until the link is of no use any more.
    pub(super) async fn linked(&mut self, channel: &AsyncChannel) -> LinkEnd {
        match self.converse(channel).await {
            Ok(()) => LinkEnd::Closed,
            Err(end) => end,
        }
    }

    async fn converse(&mut self, channel: &AsyncChannel) -> Result<(), LinkEnd> {
        self.link.0.connect()?;
        let clock = MonotonicClock::start();
        let mut silence = Silence::new(clock.now());
        let mut alive = tokio::time::interval(Duration::from_millis(ALIVE_INTERVAL_MS));
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut sample = tokio::time::interval(usage::LOOK_INTERVAL);
        sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased; // first what was sent, so that nobody is called silent who only was not heard
                pumped = pump_once(channel, &mut self.link) => match pumped? {
                    Pumped::Closed => return Ok(()),
                    Pumped::Wrote => {}
                    Pumped::Read => {
                        silence.heard(clock.now());
                        self.hear_all().await?;
                    }
                },
                Some(command) = self.commands.recv() => self.obey(command).await?,
                Ok(()) = self.overflowed.changed() => self.take_stock(None).await,
                () = until(self.tasks.deadline()) => self.end_overdue(),
                _ = sample.tick() => self.sample(),
                _ = alive.tick() => self.link.0.send(&ToHolder::Alive)?,
                _ = look.tick() => match silence.look(clock.now()) {
                    Some(Remedy::Wake) => self.signal_holder(host::process::CONT, "silent for long: SIGCONT"),
                    Some(Remedy::Kill) => self.signal_holder(host::process::KILL, "silent although woken: SIGKILL"),
                    None => {}
                },
            }
            self.start_tasks().await;
        }
    }

    fn sample(&self) {
        let trees = self.link.0.vault().values().filter_map(|(item, _)| match item {
            VaultItem::Process(process)
                if process.role == ProcessRole::Instance && process.ended.is_none() =>
            {
                Some(Tree {
                    instance: process.name.clone(),
                    pid: process.pid,
                    start_ticks: process.start_ticks,
                    cgroup: process.cgroup.as_ref().map(PathBuf::from),
                })
            }
            _ => None,
        });
        tokio::task::spawn_local(self.usage.clone().look(trees.collect()));
    }

    fn signal_holder(&self, signal: i32, why: &str) {
        tracing::error!(holder = self.holder_pid, "the holder is {why}");
        // The pid may have gone to somebody else since; the time of its start tells.
        if self.holder_started.is_none() || host::process::start_ticks(self.holder_pid) != self.holder_started
        {
            return;
        }
        if let Err(error) = host::process::signal_pid(self.holder_pid, signal) {
            tracing::error!(holder = self.holder_pid, %error, "the signal could not be sent");
        }
    }

    async fn hear_all(&mut self) -> Result<(), LinkEnd> {
        while let Some((message, descriptors)) = self.link.0.poll_message()? {
            self.hear(message, descriptors).await;
        }
        Ok(())
    }

    async fn hear(&mut self, message: FromHolder, descriptors: Vec<Descriptor>) {
        match message {
            FromHolder::Hello(hello) => {
                self.holder_pid = hello.pid;
                self.holder_started = host::process::start_ticks(hello.pid);
            }
            FromHolder::Deposit { items } => self.deposited(&items),
            FromHolder::Withdraw { keys } => self.withdrawn(&keys),
            FromHolder::Inventory { boot, committed } => {
                self.ground.handover = committed;
                self.is_known = true;
                self.take_stock_of_tasks().await;
                let boot = descriptors.into_iter().next().filter(|_| boot);
                self.take_stock(boot.as_ref()).await;
            }
            FromHolder::Spawned { instance, .. } if instance.contains('~') => {} // a task: only its end counts
            FromHolder::Spawned { instance, pid } => {
                if let Some(instance) = known(&instance) {
                    self.starting.started(&instance, pid);
                    self.tell(Event::Spawned { instance, pid }).await;
                }
            }
            FromHolder::SpawnFailed { instance, error } => {
                if self.tasks.runs(&instance) {
                    self.task_failed(&instance, error).await;
                } else if let Some(instance) = known(&instance) {
                    self.starting.forget(&instance);
                    self.tell(Event::SpawnFailed { instance, error }).await;
                }
            }
            FromHolder::Exited { instance, status } => match instance.parse::<Source>() {
                Ok(source) if source.task.is_some() => self.task_ended(source, status),
                _ => {
                    if let Some(instance) = known(&instance) {
                        self.exited(instance, status);
                    }
                }
            },
            FromHolder::MainPid { instance, pid } => {
                if let Some(instance) = known(&instance) {
                    self.tell(Event::MainPid { instance, pid }).await;
                }
            }
            FromHolder::Bound { name, address } => {
                self.fallbacks.retain(|fallback| fallback.name != name);
                self.tell(Event::Bound { name, address }).await;
            }
            FromHolder::BindFailed { name, error } => self.bind_failed(name, error).await,
            FromHolder::Peer { generation, pid } => {
                if let Some(descriptor) = descriptors.into_iter().next() {
                    self.proxies.attach(generation, pid, descriptor);
                }
            }
            FromHolder::PeerGone { generation, role: ProcessRole::Proxy } => {
                self.proxies.gone(generation).await
            }
            FromHolder::Stop { level } => self.tell(Event::StopAsked { level }).await,
            FromHolder::PeerGone { .. } | FromHolder::Drain { .. } | FromHolder::Alive => {}
        }
    }

    fn deposited(&mut self, items: &[VaultItem]) {
        for item in items {
            let Some((_, Some(descriptor))) = self.link.0.vault().get(&item.key()) else { continue };
            match item {
                VaultItem::Notify { instance, .. } => {
                    self.notify.start(instance, descriptor, self.ears.clone());
                }
                VaultItem::Listener(listener) => match listener.used_by {
                    ListenerUse::AdminLocal => {
                        self.admin.send_modify(|admin| admin.local = Some(descriptor.clone()))
                    }
                    ListenerUse::Admin => {
                        self.admin.send_modify(|admin| admin.tcp = Some(descriptor.clone()))
                    }
                    ListenerUse::Traffic => {}
                },
                VaultItem::Process(_) => {}
            }
        }
    }

    fn withdrawn(&mut self, keys: &[String]) {
        for key in keys {
            if let Some(instance) = key.strip_prefix("notify/") {
                self.notify.stop(instance);
            } else if key == "listener/admin" {
                self.admin.send_modify(|admin| admin.tcp = None);
            } else if key == "listener/admin.sock" {
                self.admin.send_modify(|admin| admin.local = None);
            }
        }
    }

    /// Tells the agent everything that is, and the last words of who ended meanwhile before it.
    async fn take_stock(&mut self, boot: Option<&Descriptor>) {
        let boot = boot.and_then(read_boot);
        let table = self.proxies.last_table();
        let inventory =
            inventory::compose(self.link.0.vault().values().map(|(item, _)| item), table, self.holder_pid);
        let running = inventory.running.iter().map(|(instance, _)| instance);
        let known: Vec<InstanceId> =
            running.chain(inventory.ended.iter().map(|(instance, _)| instance)).cloned().collect();
        let is_first = !std::mem::replace(&mut self.swept, true);
        if is_first {
            notify::sweep(&self.ears.notes, &known);
            let known = known.clone();
            if self.collected(|collector, done| collector.sweep(known, done)).await.is_none() {
                tracing::error!("output of former instances is not collected: the collector does not answer");
            }
        }
        let mut waits = Vec::new();
        for instance in known {
            let matched = is_first.then(|| matched(&mut waits, &instance));
            self.track(instance, matched);
        }
        for (instance, _) in &inventory.ended {
            self.starting.forget(instance);
            let lines = self.collected(|collector, done| collector.drain(instance.clone(), done)).await;
            let lines = lines.unwrap_or_default();
            self.tell(Event::Output { instance: instance.clone(), lines }).await;
        }
        self.watch_candidates(&inventory);
        self.proxies.keep_only(&inventory.proxies).await;
        self.told += 1;
        let running = inventory.running.clone();
        self.tell(Event::Inventory(inventory)).await;
        if is_first {
            self.tell_again(&running).await;
        }
        waits.into_iter().for_each(|(instance, line)| self.tell_match(instance, line));
        if let Some(sender) = self.boot.take() {
            let _ = sender.send(boot);
        }
    }

    /// What a former agent was told, and may not have handled.
    async fn tell_again(&self, running: &[(InstanceId, u32)]) {
        for (instance, pid) in running {
            if let Some(said) = notify::noted(&self.ears.notes, instance, *pid) {
                self.tell(Event::Notified { instance: instance.clone(), said }).await;
            }
        }
    }

    /// Tells the agent once the line has come that an instance is waited for.
    fn tell_match(&self, instance: InstanceId, line: oneshot::Receiver<()>) {
        let (starting, events) = (self.starting.clone(), self.events.clone());
        tokio::task::spawn_local(async move {
            if line.await.is_ok() {
                starting.forget(&instance);
                let _ = events.send(Event::LogMatched { instance }).await;
            }
        });
    }

    /// Those that run without being ready for traffic yet, as far as the last table says.
    fn watch_candidates(&self, inventory: &Inventory) {
        let endpoints = inventory.table.as_ref().map(endpoints).unwrap_or_default();
        for (instance, pid) in &inventory.running {
            if let Some((address, EndpointState::Candidate)) = endpoints.get(instance.to_string().as_str()) {
                self.starting.watch(instance.clone(), address.port());
                self.starting.started(instance, *pid);
            }
        }
    }

    pub(super) fn track(&self, source: impl Into<Source>, matched: Option<Matched>) {
        let source = source.into();
        if self.collector.track(source.clone(), matched).is_err() {
            tracing::error!(%source, "its output is not collected: the collector does not answer");
        }
    }

    /// What the collector answers to an order, if it does in time.
    pub(super) fn collected<O>(&self, order: O) -> impl Future<Output = Option<Vec<String>>> + use<O>
    where
        O: FnOnce(&Collector, Reply) -> Result<(), Unreachable>,
    {
        let (reply, answer) = oneshot::channel();
        let ordered = order(&self.collector, Box::new(move |lines| drop(reply.send(lines))));
        async move {
            ordered.ok()?;
            tokio::time::timeout(OUTPUT_PATIENCE, answer).await.ok()?.ok()
        }
    }

    /// Its last words first. In a task of its own, so that a slow disk does not keep the link waiting.
    fn exited(&self, instance: InstanceId, status: ExitStatus) {
        self.starting.forget(&instance);
        let ended = instance.clone();
        let lines = self.collected(move |collector, done| collector.drain(ended, done));
        let events = self.events.clone();
        tokio::task::spawn_local(async move {
            let lines = lines.await.unwrap_or_else(|| {
                tracing::warn!(%instance, "its last lines could not be had in time");
                Vec::new()
            });
            let _ = events.send(Event::Output { instance: instance.clone(), lines }).await;
            let _ = events.send(Event::Exited { instance, status }).await;
        });
    }

    async fn bind_failed(&mut self, name: String, error: String) {
        match self.fallbacks.iter().position(|fallback| fallback.name == name) {
            Some(at) => {
                let again = self.fallbacks.swap_remove(at).again;
                tracing::warn!(
                    listener = name,
                    error,
                    "the default address is taken: any free port is used instead"
                );
                self.send(&again);
            }
            None => self.tell(Event::BindFailed { name, error }).await,
        }
    }

    /// Queues a message. A holder that does not read for so long is as good as gone: the silence will tell.
    pub(super) fn send(&mut self, message: &ToHolder) {
        if let Err(error) = self.link.0.send(message) {
            tracing::error!(%error, "a request to the holder is lost");
        }
    }

    async fn obey(&mut self, command: Command) -> Result<(), LinkEnd> {
        let request = match command {
            Command::BootTaken => return Ok(self.link.0.send(&ToHolder::BootTaken)?),
            Command::Inherit(base) => {
                self.ground.environment = base;
                return Ok(());
            }
            Command::Keep(service, limits) => {
                self.keep(service, limits);
                return Ok(());
            }
            Command::Request(seen, request) => match self.take_aside(request) {
                None => return Ok(()),
                Some(FleetRequest::Stopped) => FleetRequest::Stopped, // nothing is asked after that
                Some(request) if seen == self.told => request,
                Some(request) => {
                    tracing::debug!(?request, "dropped: an inventory is on its way to the agent");
                    return Ok(());
                }
            },
        };
        match request {
            FleetRequest::Bind { name, used_by, address, backlog, fall_back_to_any_port } => {
                let address = match used_by {
                    ListenerUse::AdminLocal => self.layout.run_dir.join(address).display().to_string(),
                    ListenerUse::Admin | ListenerUse::Traffic => address,
                };
                let bind = ToHolder::Bind { name, used_by, address, backlog };
                if fall_back_to_any_port { self.bind_or_any(bind).await } else { self.send(&bind) }
            }
            FleetRequest::Spawn(request) => self.spawn(request).await,
            FleetRequest::Unbind { name } => self.send(&ToHolder::Unbind { name }),
            FleetRequest::MainPid { instance, pid } => {
                self.send(&ToHolder::MainPid { instance: instance.to_string(), pid });
            }
            FleetRequest::Check(_) | FleetRequest::Run(_) | FleetRequest::Cancel { .. } => {} // taken aside
            FleetRequest::Signal { instance, signal } => {
                let signal = spec::signal_number(signal);
                self.send(&ToHolder::Signal { instance: instance.to_string(), signal });
            }
            FleetRequest::KillTree { instance } => {
                self.send(&ToHolder::KillTree { instance: instance.to_string() })
            }
            FleetRequest::Forget { instance } => self.forget(&instance).await,
            FleetRequest::Stopped => {
                self.stopped = true;
                for source in self.tasks.cancel_all() {
                    self.send(&ToHolder::KillTree { instance: source.to_string() });
                }
                self.send(&ToHolder::Stopped);
            }
        }
        Ok(())
    }

    /// Binds the address, or the same with port 0 if that fails or was done before.
    async fn bind_or_any(&mut self, bind: ToHolder) {
        let ToHolder::Bind { name, used_by, address, backlog } = &bind else { return };
        let Some(any) =
            address.parse().ok().map(|wanted: SocketAddr| SocketAddr::new(wanted.ip(), 0).to_string())
        else {
            return self.send(&bind);
        };
        if let Some((VaultItem::Listener(listener), _)) = self.link.0.vault().get(&format!("listener/{name}"))
            && listener.used_by == *used_by
            && listener.requested == any
        {
            let bound = Event::Bound { name: name.clone(), address: listener.address.clone() };
            return self.tell(bound).await;
        }
        let again = ToHolder::Bind { name: name.clone(), used_by: *used_by, address: any, backlog: *backlog };
        self.fallbacks.push(Fallback { name: name.clone(), again });
        self.send(&bind);
    }

    async fn spawn(&mut self, request: Box<SpawnRequest>) {
        let instance = request.instance.clone();
        if let Some(refused) = port_in_the_way(&request) {
            return self.tell(refused).await;
        }
        let start = |matched| Start {
            source: instance.clone().into(),
            limits: (&request.output).into(),
            expression: request.ready_log.clone(),
            matched,
        };
        let mut waits = Vec::new();
        let waited = request.ready_log.is_some().then(|| matched(&mut waits, &instance));
        let start = start(waited);
        let (is_waited, port, ground) = (request.ready_log.is_some(), request.port, self.ground.clone());
        let spec = match beside::off_thread(move || spec::build(&request, &ground)).await {
            Ok(spec) => spec,
            Err(error) => return self.tell(Event::SpawnFailed { instance, error }).await,
        };
        self.notify.stop(&spec.instance);
        notify::forget(&self.ears.notes, &instance);
        let begun = self.collected(|collector, done| collector.begin(start, done));
        // A next agent would not know which line is waited for, were it not on disk before the process runs.
        if is_waited && begun.await.is_none() {
            tracing::error!(%instance, "its output is not collected: the collector does not answer");
        }
        waits.into_iter().for_each(|(instance, line)| self.tell_match(instance, line));
        self.starting.watch(instance, port);
        self.send(&ToHolder::Spawn(Box::new(spec)));
    }

    /// The files go first: the slot's next process makes new ones under the same names.
    async fn forget(&mut self, instance: &InstanceId) {
        self.starting.forget(instance);
        self.notify.stop(&instance.to_string());
        notify::forget(&self.ears.notes, instance);
        if self.collected(|collector, done| collector.forget(instance.clone(), done)).await.is_none() {
            tracing::warn!(%instance, "its output files are not removed yet: the collector does not answer");
        }
        self.send(&ToHolder::Forget { instance: instance.to_string() });
    }
}

/// What the agent hears instead of a start, where somebody has the port already.
fn port_in_the_way(request: &SpawnRequest) -> Option<Event> {
    let (instance, port) = (request.instance.clone(), request.port?);
    // On any address: who listens on one of them would get in the way of a service that wants all.
    let error = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).err()?;
    if !request.port_is_fixed {
        return Some(Event::PortTaken { instance, port });
    }
    // A port that only we may not have is for the service to find out about.
    (error.kind() == io::ErrorKind::AddrInUse).then(|| {
        let who = host::sockets::who_listens_on(port).unwrap_or_else(|| "somebody".to_owned());
        let error =
            format!("its port {port} is taken: {who} listens there; stop that, or choose another `port`");
        Event::SpawnFailed { instance, error }
    })
}

type Waits = Vec<(InstanceId, oneshot::Receiver<()>)>;

/// What the collector calls, with its other end noted in `waits`.
fn matched(waits: &mut Waits, instance: &InstanceId) -> Matched {
    let (sender, line) = oneshot::channel();
    waits.push((instance.clone(), line));
    Box::new(move || {
        let _ = sender.send(()); // the agent is ending if nobody listens
    })
}

fn endpoints(table: &RouteTable) -> BTreeMap<&str, (&Address, EndpointState)> {
    let releases = table.services.values().flat_map(|service| &service.releases);
    let endpoints = releases.flat_map(|release| &release.endpoints);
    endpoints.map(|endpoint| (endpoint.instance.as_str(), (&endpoint.address, endpoint.state))).collect()
}

fn read_boot(descriptor: &Descriptor) -> Option<Boot> {
    let read = host::memory::read_all(descriptor).map_err(|error| error.to_string());
    let boot = read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    boot.inspect_err(|error| tracing::error!(error, "what `up` passed on cannot be read")).ok()
}

fn known(instance: &str) -> Option<InstanceId> {
    let parsed = instance.parse();
    if parsed.is_err() {
        tracing::warn!(instance, "the holder speaks of something that is no instance");
    }
    parsed.ok()
}
