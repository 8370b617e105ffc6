//! Processes, sockets and ports, by way of the holder.
//!
//! ```text
//!            ┌────────── linked ◄──────────────────────────┐
//!  start ──► │ requests out, facts in, alive every 2 s      │ a holder connects to our rescue socket
//!            └── stream closed ──► orphaned ────────────────┘
//!                    │              holder-lost; the lock is free: start a rescue holder; tried every 500 ms
//!                    └─ `stopped` was said: the end
//! ```
//! What the agent asks for instances while orphaned, or before it has seen the newest inventory, is dropped: that
//! inventory says what is, and the agent asks anew for what is missing. What it asks for beside instances (checks,
//! hooks) waits for the next holder within its time limit, and is always answered.
//!
//! It deliberately keeps no state of instances: the holder's vault and the inventory are the facts.

mod beside;
mod checks;
mod environment_file;
mod inventory;
mod linked;
mod notify;
mod silence;
pub(crate) mod spec;
mod tasks;

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use agent::world::{Event, Fleet, FleetRequest};
use host::Descriptor;
use host::channel::{AsyncChannel, Channel};
use host::file::Lock;
use host::paths::Layout;
use host::pump::Duplex;
use host::rescue::RescueSocket;
use model::id::ServiceName;
use model::manifest::Output;
use telemetry::collector::Collector;
use telemetry::rotate::Limits;
use tokio::sync::{mpsc, oneshot, watch};
use wire::link::{Hello, ToHolder};
use wire::role::{RoleLink, RoleLinkError};
use wire::sealed::Boot;

use crate::starting::Starting;
use crate::traffic::Proxies;
use crate::usage::Samples;
use crate::{Events, Inbox};
use spec::Ground;

/// Requests that wait for the link; more than this are lost, and the agent is told to look anew.
const COMMANDS_MAX: usize = 4096;
/// Between two tries to get the lock while no holder has come.
const RESCUE_RETRY_DELAY: Duration = Duration::from_millis(500);

/// Where things are and who we are.
#[derive(Debug)]
pub struct Settings {
    /// Paths.
    pub layout: Layout,
    /// How we greet the holder.
    pub hello: Hello,
    /// The link that we were started with.
    pub channel: Channel,
    /// Reads instances' output.
    pub collector: Collector,
    /// Watches those that are not ready.
    pub starting: Starting,
    /// Gets the links to proxies.
    pub proxies: Proxies,
}

/// Listeners that the agent itself accepts on.
#[derive(Debug, Clone, Default)]
pub struct AdminListeners {
    /// The command line's local socket.
    pub local: Option<Descriptor>,
    /// The admin API on TCP.
    pub tcp: Option<Descriptor>,
}

enum Command {
    /// With how many inventories the agent had seen when it asked.
    Request(u64, FleetRequest),
    BootTaken,
    Inherit(Vec<(String, String)>),
    Keep(ServiceName, Limits),
}

/// The agent's handle.
#[derive(Debug)]
pub struct Holder {
    commands: mpsc::Sender<Command>,
    overflow: watch::Sender<u64>,
    seen: Rc<Cell<u64>>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request(_, request) => request.fmt(f),
            Self::BootTaken => f.write_str("BootTaken"),
            Self::Inherit(_) => f.write_str("Inherit"), // values may be secrets
            Self::Keep(service, _) => write!(f, "Keep({service})"),
        }
    }
}

impl Holder {
    fn command(&self, command: Command) {
        if let Err(mpsc::error::TrySendError::Full(lost)) = self.commands.try_send(command) {
            tracing::error!(?lost, "more than {COMMANDS_MAX} requests wait for the holder");
            self.overflow.send_modify(|count| *count += 1);
        }
    }

    /// The boot form is in the record: the holder may drop it.
    pub fn boot_taken(&self) {
        self.command(Command::BootTaken);
    }

    /// The environment that `up` was started with, as recorded: instances get the base variables of it.
    pub fn inherit(&self, recorded: &[(String, String)]) {
        let own = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        self.command(Command::Inherit(spec::base_environment(recorded, own)));
    }

    /// For who tells how services' logs are kept.
    pub fn output_limits(&self) -> OutputLimits {
        OutputLimits(self.commands.clone())
    }
}

/// Tells how services' logs are kept.
#[derive(Debug, Clone)]
pub struct OutputLimits(mpsc::Sender<Command>);

impl OutputLimits {
    /// That service's from now on, also while nothing of it starts.
    pub fn keep(&self, service: &ServiceName, output: &Output) {
        if self.0.try_send(Command::Keep(service.clone(), output.into())).is_err() {
            tracing::error!(%service, "how its log is kept does not change: too much waits");
        }
    }
}

impl Fleet for Holder {
    fn request(&mut self, request: FleetRequest) {
        self.command(Command::Request(self.seen.get(), request));
    }
}

/// What a started fleet gives besides the handle.
#[derive(Debug)]
pub struct Started {
    /// The agent's handle.
    pub holder: Holder,
    /// Comes with the first inventory, whose event is queued by then: the boot form, where this is the first
    /// agent after `up`.
    pub boot: oneshot::Receiver<Option<Boot>>,
    /// Listeners for the admin API, as they come and go.
    pub admin: watch::Receiver<AdminListeners>,
    /// What instances use.
    pub usage: Samples,
    /// Ends when `stopped` was said and the holder has closed the link, or with an error that nothing helps.
    pub task: tokio::task::JoinHandle<io::Result<()>>,
}

/// Starts the task, in a local set.
///
/// # Errors
/// When the rescue socket cannot be bound.
pub fn start(settings: Settings, events: Events, inbox: &Inbox) -> io::Result<Started> {
    let (commands, queue) = mpsc::channel(COMMANDS_MAX);
    let (overflow, overflowed) = watch::channel(0);
    let (boot_sender, boot) = oneshot::channel();
    let (admin_sender, admin) = watch::channel(AdminListeners::default());
    let usage = Samples::default();
    let ears = notify::Ears {
        notes: settings.layout.run_dir.join("output"),
        starting: settings.starting.clone(),
        events: events.clone(),
    };
    let socket = settings.layout.rescue_socket("agent", settings.hello.generation);
    let rescue = RescueSocket::bind(&socket)?;
    let task = Task {
        layout: settings.layout,
        link: HolderEnd(RoleLink::new(settings.hello)),
        rescue,
        socket,
        commands: queue,
        overflowed,
        events,
        collector: settings.collector,
        starting: settings.starting,
        proxies: settings.proxies,
        boot: Some(boot_sender),
        admin: admin_sender,
        notify: notify::Readers::default(),
        ears,
        tasks: tasks::Tasks::default(),
        checks: checks::Checks::default(),
        usage: usage.clone(),
        is_known: false,
        ground: Ground::default(),
        told: 0,
        holder_pid: 0,
        holder_started: None,
        fallbacks: Vec::new(),
        swept: false,
        stopped: false,
    };
    let channel = settings.channel;
    let task = tokio::task::spawn_local(task.run(channel));
    let holder = Holder { commands, overflow, seen: Rc::clone(&inbox.seen) };
    Ok(Started { holder, boot, admin, usage, task })
}

#[derive(Debug)]
struct HolderEnd(RoleLink<Descriptor>);

impl Duplex for HolderEnd {
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

/// A bind that may fall back to any port.
#[derive(Debug)]
struct Fallback {
    name: String,
    again: ToHolder,
}

#[derive(Debug)]
struct Task {
    layout: Layout,
    link: HolderEnd,
    rescue: RescueSocket,
    socket: PathBuf,
    commands: mpsc::Receiver<Command>,
    overflowed: watch::Receiver<u64>,
    events: Events,
    collector: Collector,
    starting: Starting,
    proxies: Proxies,
    boot: Option<oneshot::Sender<Option<Boot>>>,
    admin: watch::Sender<AdminListeners>,
    notify: notify::Readers,
    ears: notify::Ears,
    tasks: tasks::Tasks,
    checks: checks::Checks,
    usage: Samples,
    /// The holder that is there has said all it knows.
    is_known: bool,
    ground: Ground,
    /// Inventories told.
    told: u64,
    holder_pid: u32,
    holder_started: Option<u64>,
    fallbacks: Vec<Fallback>,
    swept: bool,
    stopped: bool,
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
enum LinkEnd {
    #[error("the holder closed it")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Protocol(#[from] RoleLinkError),
}

impl Task {
    async fn run(mut self, first: Channel) -> io::Result<()> {
        let mut channel = first;
        loop {
            let end = self.linked(&AsyncChannel::new(channel)?).await;
            if self.stopped {
                let _ = std::fs::remove_file(&self.socket);
                return Ok(());
            }
            self.is_known = false;
            tracing::warn!(why = %end, holder = self.holder_pid, "the link to the holder is down");
            self.tell(Event::HolderLost).await;
            self.fallbacks.clear();
            channel = self.orphaned().await?;
        }
    }

    async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await; // the agent is ending if nobody listens
    }

    /// Until a holder has connected.
    async fn orphaned(&mut self) -> io::Result<Channel> {
        let mut retry = tokio::time::interval(RESCUE_RETRY_DELAY);
        loop {
            tokio::select! {
                connected = self.rescue.accept() => return connected,
                _ = retry.tick() => self.try_rescue(),
                () = until(self.tasks.deadline()) => self.end_overdue(),
                Some(command) = self.commands.recv() => match command {
                    Command::Inherit(base) => self.ground.environment = base,
                    Command::Keep(service, limits) => self.keep(service, limits),
                    Command::Request(_, FleetRequest::Stopped) => self.stopped = true,
                    Command::Request(_, request) => {
                        if let Some(request) = self.take_aside(request) {
                            tracing::debug!(?request, "dropped: no holder");
                        }
                    }
                    Command::BootTaken => tracing::debug!("dropped: no holder"),
                },
            }
        }
    }

    fn keep(&self, service: ServiceName, limits: Limits) {
        if self.collector.keep(service, limits).is_err() {
            tracing::error!("how a service's log is kept did not change: the collector does not answer");
        }
    }

    fn try_rescue(&self) {
        if self.ground.handover.is_empty() {
            return; // we never heard from a holder which binary is the right one
        }
        let lock = match Lock::try_exclusive(&self.layout.holder_lock()) {
            Ok(Some(lock)) => lock,
            Ok(None) => return, // another rescuer was faster: its holder will connect
            Err(error) => {
                tracing::error!(%error, "the holder's lock cannot be tried");
                return;
            }
        };
        tracing::warn!("the holder is gone: starting a new one that takes over what runs");
        let binary = PathBuf::from(&self.ground.handover);
        if let Err(error) = host::rescue::spawn_rescue_holder(&binary, &self.layout, lock) {
            tracing::error!(%error, "the new holder could not be started; trying again");
        }
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
