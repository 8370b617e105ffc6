//! One link to one proxy: what waits to be said, and what it says.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent::world::Event;
use host::Descriptor;
use host::channel::{AsyncChannel, Channel};
use host::pump::{Duplex, Pumped, pump_once};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use wire::frame::FrameError;
use wire::link::Hello;
use wire::routes::RouteTable;
use wire::session::{Session, SessionError};
use wire::traffic::{FromProxy, ToProxy};

use super::Proxies;
use crate::Events;
use crate::starting::Starting;

#[derive(Debug, Default)]
struct Waiting {
    hello: Option<Hello>,
    table: Option<(Rc<RouteTable>, bool)>,
    drain: Option<u64>,
    report: Option<u64>,
}

/// What waits for a proxy: of each kind only the newest.
#[derive(Debug, Clone, Default)]
pub(super) struct Outbox(Rc<(RefCell<Waiting>, Notify)>);

impl Outbox {
    fn put(&self, put: impl FnOnce(&mut Waiting)) {
        put(&mut self.0.0.borrow_mut());
        self.0.1.notify_one();
    }

    pub(super) fn greet(&self, hello: Hello) {
        self.put(|waiting| waiting.hello = Some(hello));
    }

    pub(super) fn table(&self, table: Rc<RouteTable>, probe: bool) {
        self.put(|waiting| waiting.table = Some((table, probe)));
    }

    pub(super) fn drain(&self, deadline_ms: u64) {
        self.put(|waiting| waiting.drain = Some(deadline_ms));
    }

    pub(super) fn report_now(&self, token: u64) {
        self.put(|waiting| waiting.report = Some(token));
    }

    fn take(&self) -> Waiting {
        self.0.0.take()
    }

    async fn filled(&self) {
        self.0.1.notified().await;
    }
}

/// Where what a proxy says goes.
#[derive(Debug)]
pub(super) struct Ears {
    pub(super) generation: u64,
    pub(super) pid: u32,
    pub(super) events: Events,
    pub(super) starting: Starting,
}

/// For the holder to say whether a proxy whose stream closed has ended.
const GONE_PATIENCE: Duration = Duration::from_secs(5);

/// A link to a proxy that has not been said to be gone.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) outbox: Outbox,
    /// Tells it from an older link to the same proxy.
    pub(super) number: u64,
    pub(super) open: bool,
    task: JoinHandle<()>,
}

impl Link {
    pub(super) fn start(descriptor: Descriptor, outbox: Outbox, ears: Ears, proxies: Proxies) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let out = outbox.clone();
        let task = tokio::task::spawn_local(async move {
            let ended = converse(descriptor, &out, &ears).await;
            proxies.closed(ears.generation, number);
            match ended {
                Ok(()) => tokio::time::sleep(GONE_PATIENCE).await,
                Err(error) => tracing::error!(proxy = ears.generation, %error, "the link to a proxy failed"),
            }
            if proxies.is_without_link(ears.generation, number) {
                // In a task of its own: this one is stopped by it.
                tokio::task::spawn_local(async move { proxies.gone(ears.generation).await });
            }
        });
        Self { outbox, number, open: true, task }
    }

    pub(super) fn stop(self) {
        self.task.abort();
    }
}

struct End(Session<FromProxy, Descriptor>);

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

/// Until the stream closes.
async fn converse(descriptor: Descriptor, outbox: &Outbox, ears: &Ears) -> io::Result<()> {
    let channel = AsyncChannel::new(Channel::from_descriptor(descriptor)?)?;
    let mut end = End(Session::new());
    ears.tell(Event::ProxyUp { generation: ears.generation, pid: ears.pid }).await;
    loop {
        // Only what fits is put on the way: a newer table takes the place of one that still waits.
        if end.0.is_flushed() {
            queue(&mut end.0, outbox.take()).map_err(io::Error::other)?;
        }
        let pumped = tokio::select! {
            pumped = pump_once(&channel, &mut end) => pumped?,
            () = outbox.filled() => continue,
        };
        if pumped == Pumped::Closed {
            return Ok(());
        }
        while let Some((message, _)) = end.0.poll_message().map_err(io::Error::other)? {
            ears.hear(message).await?;
        }
    }
}

fn queue(session: &mut Session<FromProxy, Descriptor>, waiting: Waiting) -> Result<(), SessionError> {
    if let Some(hello) = waiting.hello {
        session.queue(&ToProxy::Hello(hello), Vec::new())?;
    }
    if let Some((table, probe)) = waiting.table {
        queue_table(session, &table, probe)?;
    }
    if let Some(token) = waiting.report {
        session.queue(&ToProxy::ReportNow { token }, Vec::new())?;
    }
    if let Some(deadline_ms) = waiting.drain {
        session.queue(&ToProxy::Drain { deadline_ms }, Vec::new())?;
    }
    Ok(())
}

fn queue_table(
    session: &mut Session<FromProxy, Descriptor>,
    table: &RouteTable,
    probe: bool,
) -> Result<(), SessionError> {
    match session.queue(&ToProxy::Table { table: Box::new(table.clone()), probe }, Vec::new()) {
        Err(SessionError::Frame(FrameError::TooLong(_))) => {
            let json = serde_json::to_vec(table).map_err(FrameError::Json)?;
            match host::memory::sealed("handover-routes", &json) {
                Ok(memory) => {
                    let generation = table.generation;
                    session.queue(&ToProxy::TableInDescriptor { generation, probe }, vec![memory])
                }
                Err(error) => {
                    tracing::error!(%error, "a route table is too large for a frame and there is no memory for it");
                    Ok(())
                }
            }
        }
        queued => queued,
    }
}

impl Ears {
    async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await; // the agent is ending if nobody listens
    }

    async fn hear(&self, message: FromProxy) -> io::Result<()> {
        let proxy = self.generation;
        match message {
            FromProxy::Hello(hello) => {
                if hello.min > wire::PROTOCOL_MAX || hello.max < wire::PROTOCOL_MIN {
                    let said = format!("it speaks protocol {} to {}", hello.min, hello.max);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, said));
                }
            }
            FromProxy::TableApplied { generation } => {
                self.tell(Event::TableApplied { proxy, generation }).await
            }
            FromProxy::Drained { instance, generation } => {
                if let Some(instance) = known(&instance) {
                    self.tell(Event::Drained { proxy, instance, generation }).await;
                }
            }
            FromProxy::Probe { instance, healthy, detail } => {
                if let Some(instance) = known(&instance) {
                    if healthy == Some(true) {
                        self.starting.forget(&instance);
                    }
                    self.tell(Event::Probe { instance, healthy, detail }).await;
                }
            }
            FromProxy::Counters(counters) => self.tell(Event::Counters { proxy, counters }).await,
            FromProxy::Certificate(news) => self.tell(Event::Certificate(news)).await,
            FromProxy::DrainComplete => tracing::debug!(proxy, "a proxy has drained"),
        }
        Ok(())
    }
}

fn known(instance: &str) -> Option<model::id::InstanceId> {
    let parsed = instance.parse();
    if parsed.is_err() {
        tracing::warn!(instance, "a proxy speaks of something that is no instance");
    }
    parsed.ok()
}
