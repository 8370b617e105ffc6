//! The agent's process: drivers around the control plane, and the loop that feeds it.
//!
//! ```text
//!  fd 3 ──► first inventory (and boot form) ──► record or first record ──► loop: events, questions, the timer
//!                                                                            └─ stopped, link closed ──► exit 0
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;

use admin::{Server, TcpAccess};
use agent::controller::ResumeError;
use agent::world::{Clock, Event, Fleet, FleetRequest, Inventory};
use agent::{Agent, Controller};
use drivers::fleet::{self, Holder};
use drivers::names::{self, Resolver};
use drivers::people::People;
use drivers::starting::Starting;
use drivers::store::Files;
use drivers::store::history::History;
use drivers::store::record::{Loaded, RecordFiles};
use drivers::traffic::Proxies;
use drivers::{Events, Inbox, SystemClock};
use host::channel::Channel;
use host::paths::Layout;
use model::time::Instant;
use telemetry::collector::{self, Collector};
use telemetry::console::Console;
use telemetry::rotate::Limits;
use tokio::sync::{mpsc, watch};
use wire::link::Hello;
use wire::record::Record;
use wire::sealed::Boot;

use super::beside::Beside;
use super::look::Look;
use super::operations::{Asking, QUESTIONS_MAX};
use super::{admin_server, answers, terminal};

/// The descriptor that the holder starts a role with.
const LINK_DESCRIPTOR: i32 = 3;
/// Events that are handled before operators get a turn and the record is written.
const EVENTS_IN_A_ROW_MAX: usize = 64;
/// The control plane with the drivers of a real machine.
pub(super) type Running = Agent<Holder, Proxies, Files, People, Resolver, SystemClock>;

/// Why an agent ends other than by a stop.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    /// The system refused something without which nothing goes.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// The record cannot be used.
    #[error(transparent)]
    Record(#[from] drivers::store::record::OpenError),
    /// Nothing says what should run.
    #[error(
        "there is no record and no manifest to start from; `handover up -c FILE` starts anew \
         (state directory: {})", .0.display()
    )]
    Nothing(PathBuf),
    /// What said so is no longer readable.
    #[error(
        "what should run is not known any more: {}; what runs goes on for now. Restore one of these files, or begin \
         anew: `handover down`, then `handover up -c FILE`", .0.join("; ")
    )]
    Damaged(Vec<String>),
    /// The record was read, and says something impossible.
    #[error("the record cannot be used: {0}")]
    Resume(#[from] ResumeError),
}

fn system(what: &'static str) -> impl FnOnce(std::io::Error) -> AgentError {
    move |error| AgentError::System { what, error }
}

/// Runs until everything is stopped.
pub(super) fn run(layout: Layout, generation: u64) -> Result<(), AgentError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system("no runtime"))?;
    let ended = runtime.block_on(tokio::task::LocalSet::new().run_until(live(layout, generation)));
    // A copy of a release may be under way; it is begun anew by the next agent.
    runtime.shutdown_background();
    ended
}

/// Everything around the control plane.
struct Ground {
    layout: Layout,
    clock: SystemClock,
    console: Console,
    record: RecordFiles,
    loaded: Loaded,
    started: fleet::Started,
    proxies: Proxies,
    sender: Events,
    events: Inbox,
}

fn prepare(layout: Layout, generation: u64) -> Result<Ground, AgentError> {
    let (record, loaded) = RecordFiles::open(&layout)?;
    let console = Console::silent();
    if let Err(error) = terminal::restore(&layout, &console) {
        tracing::warn!(%error, "whether the terminal shows output is not known");
    }
    let collector = Collector::start(collector::Settings {
        output: layout.run_dir.join("output"),
        logs: layout.logs(),
        limits: Limits::default(),
        console: console.clone(),
        complain: Box::new(|text| tracing::warn!("{text}")),
        wall_ms: host::clock::wall_ms,
    })
    .map_err(system("the output collector does not start"))?;
    let hello = Hello {
        min: wire::PROTOCOL_MIN,
        max: wire::PROTOCOL_MAX,
        role: "agent".to_owned(),
        pid: host::process::current_pid(),
        generation,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        rescue: false,
    };
    let (sender, events) = drivers::queue();
    let starting = Starting::new();
    let proxies = Proxies::new(layout.routes(), hello.clone(), sender.clone(), starting.clone());
    let channel = Channel::inherited(LINK_DESCRIPTOR).map_err(system("there is no link to a holder"))?;
    tokio::task::spawn_local(starting.clone().run(collector.clone(), sender.clone()));
    let settings = fleet::Settings {
        layout: layout.clone(),
        hello,
        channel,
        collector,
        starting,
        proxies: proxies.clone(),
    };
    let started = fleet::start(settings, sender.clone(), &events).map_err(system("the rescue socket"))?;
    let clock = SystemClock::default();
    Ok(Ground { layout, clock, console, record, loaded, started, proxies, sender, events })
}

async fn live(layout: Layout, generation: u64) -> Result<(), AgentError> {
    let mut ground = prepare(layout, generation)?;
    tracing::info!("the agent has started");
    let boot = tokio::select! {
        boot = &mut ground.started.boot => boot.ok().flatten(),
        ended = &mut ground.started.task => return end_of_fleet(ended),
    };
    let controller = match controller(&mut ground, boot) {
        Err(nothing @ (AgentError::Nothing(_) | AgentError::Damaged(_))) => {
            return Err(end_all(ground, nothing).await);
        }
        controller => controller?,
    };
    let Ground { layout, clock, console, record, started, proxies, sender, mut events, .. } = ground;
    let history = History::start(layout.history()).map_err(system("history does not start"))?;
    let look = Look { logs: layout.logs(), history: history.reader() };
    let resolver = Resolver::new(names::Sources::default(), sender.clone());
    let files = Files::new(&layout, record, history, sender).telling(started.holder.output_limits());
    let fleet::Started { holder, admin, usage, mut task, .. } = started;
    let mut beside = Beside::new(usage);
    let (questions, mut asked) = mpsc::channel(QUESTIONS_MAX);
    serve_admin(&layout, controller.record().manifest.admin_bind, Asking { questions, look }, admin)?;
    let hands = (holder, proxies, files, People::new(console), resolver);
    let mut agent: Running = Agent::new(controller, hands, clock);
    let start = tokio::time::Instant::now() - clock.now().since_start();
    loop {
        let timeout = agent.poll_timeout();
        tokio::select! {
            Some(mut event) = events.recv() => {
                beside.hear(&event);
                for _ in 1..EVENTS_IN_A_ROW_MAX {
                    let Some(next) = events.try_recv() else { break };
                    beside.hear(&next);
                    agent.handle_of_many(std::mem::replace(&mut event, next));
                }
                agent.handle(event);
            }
            Some(question) = asked.recv() => answers::answer(&mut agent, &beside, question),
            () = until(start, timeout) => agent.handle(Event::Timeout),
            ended = &mut task => return end_of_fleet(ended),
        }
    }
}

async fn until(start: tokio::time::Instant, timeout: Option<Instant>) {
    match timeout {
        Some(at) => tokio::time::sleep_until(start + at.since_start()).await,
        None => std::future::pending().await,
    }
}

fn end_of_fleet(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> Result<(), AgentError> {
    let ended = ended.unwrap_or_else(|error| Err(std::io::Error::other(error)));
    tracing::info!("the agent ends");
    ended.map_err(system("the link to the holder"))
}

/// `up` was killed before what it passed on was recorded: where nothing was started yet, nothing is lost by ending
/// everything, and the next `up` finds no holder in its way that has nothing to do.
async fn end_all(mut ground: Ground, nothing: AgentError) -> AgentError {
    let first = loop {
        match ground.events.recv().await {
            Some(Event::Inventory(inventory)) => break inventory,
            Some(_) => {}
            None => return nothing,
        }
    };
    if is_idle(&first) {
        tracing::warn!("nothing says what should run, and nothing runs: everything ends");
        ground.started.holder.request(FleetRequest::Stopped);
        // Whatever its end is, ours has another reason.
        let _ = ground.started.task.await;
    }
    nothing
}

/// Whether no service could notice the end of everything.
fn is_idle(inventory: &Inventory) -> bool {
    inventory.running.is_empty() && inventory.ended.is_empty()
}

/// From the record where there is one; from what `up` passed on otherwise.
fn controller(ground: &mut Ground, boot: Option<Boot>) -> Result<Controller, AgentError> {
    let (now, wall) = (ground.clock.now(), ground.clock.wall());
    let other =
        if ground.loaded.record.is_some() { "the other one is used" } else { "the other one is no help" };
    for damaged in &ground.loaded.damaged {
        tracing::warn!("{damaged}; {other}");
    }
    let record: Record = match (ground.loaded.record.take(), &boot) {
        (Some(record), _) => record,
        (None, Some(boot)) => {
            keep_damaged(ground);
            Controller::first_record(boot, wall)
        }
        (None, None) if ground.loaded.damaged.is_empty() => {
            return Err(AgentError::Nothing(ground.layout.state_dir.clone()));
        }
        (None, None) => {
            let damaged = ground.loaded.damaged.iter().map(ToString::to_string).collect();
            return Err(AgentError::Damaged(damaged));
        }
    };
    let holder = &ground.started.holder;
    holder.inherit(boot.as_ref().map_or(&record.environment, |boot| &boot.environment));
    let mut controller = Controller::resume(record, now, wall, host::random::seed())?;
    if let Some(boot) = boot {
        if let Err(error) = terminal::set(&ground.layout, &boot, &ground.console) {
            tracing::warn!(%error, "services' output is not shown on the terminal");
        }
        controller.note_boot(&boot)?;
        match ground.record.write(&controller.record()) {
            Ok(()) => ground.started.holder.boot_taken(),
            Err(error) => tracing::error!(%error, "what `up` passed on is not recorded yet"),
        }
    }
    Ok(controller)
}

/// Both records are damaged and a new one begins: what is left of them may still help a person.
fn keep_damaged(ground: &Ground) {
    if ground.loaded.damaged.is_empty() {
        return;
    }
    let stamp = telemetry::stamp::file_name(host::clock::wall_ms());
    for slot in 0..2 {
        let path = ground.layout.record(slot);
        let aside = path.with_extension(format!("damaged-{stamp}"));
        match std::fs::copy(&path, &aside) {
            Ok(_) => {
                tracing::error!(aside = %aside.display(), "no record is whole: starting from the manifest")
            }
            Err(error) => tracing::error!(%error, "no record is whole, and a copy could not be kept"),
        }
    }
}

fn serve_admin(
    layout: &Layout,
    bind: SocketAddr,
    asking: Asking,
    listeners: watch::Receiver<fleet::AdminListeners>,
) -> Result<(), AgentError> {
    let token = admin_server::token(layout).map_err(system("the admin token"))?;
    let names = if bind.ip().is_unspecified() { Vec::new() } else { vec![bind.ip().to_string()] };
    let server = Server::new(std::sync::Arc::new(asking));
    tokio::task::spawn_local(admin_server::run(server, TcpAccess { token, names }, listeners));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_no_service_was_started_everything_may_end() {
        assert!(is_idle(&Inventory { proxies: vec![(1, 10)], ..Inventory::default() }));
        let shop = || "shop@1/0".parse().unwrap();
        assert!(!is_idle(&Inventory { running: vec![(shop(), 11)], ..Inventory::default() }));
        let ended = vec![(shop(), wire::link::ExitStatus::Code(0))];
        assert!(!is_idle(&Inventory { ended, ..Inventory::default() }));
    }
}
