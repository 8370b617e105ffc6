//! The agent's world as it really is: processes by way of the holder, proxies, files, people.
//!
//! ```text
//!                    ┌─ fleet ──── fd 3 ──── holder        (Fleet)
//!  agent::Agent ─────┼─ traffic ── peer links ── proxies   (Traffic)
//!   ▲                ├─ names ──── DNS, hosts file          (Names)
//!   │                ├─ store ──── record, history, releases (Store)
//!   │                └─ people ─── terminal, own log       (Notify)
//!   └──── events, one bounded queue ◄── all of them
//! ```
//! Requests return at once; what becomes of them arrives as an event. Everything runs on the agent's one
//! thread except what may wait for a disk.
//!
//! It deliberately decides nothing that the agent could decide: retries, timeouts and order are there.

pub mod fleet;
pub mod names;
pub mod people;
pub mod starting;
pub mod store;
pub mod traffic;
pub mod usage;

use std::cell::Cell;
use std::rc::Rc;

use agent::world::{Clock, Event};
use host::clock::MonotonicClock;
use model::time::{Instant, WallTime};
use tokio::sync::mpsc;

/// Events that wait for the agent; whoever has more to say waits.
pub const EVENTS_MAX: usize = 1024;

/// Where drivers put what the agent hears.
pub type Events = mpsc::Sender<Event>;

/// Where the agent takes it from. It counts the inventories, so that what the agent asked for before it had seen
/// the newest one can be told apart: that inventory does not know of it.
#[derive(Debug)]
pub struct Inbox {
    events: mpsc::Receiver<Event>,
    seen: Rc<Cell<u64>>,
}

/// The agent's queue.
pub fn queue() -> (Events, Inbox) {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    (sender, Inbox { events, seen: Rc::default() })
}

impl Inbox {
    /// The next event; cancel-safe.
    pub async fn recv(&mut self) -> Option<Event> {
        let event = self.events.recv().await;
        self.count(event)
    }

    /// The next event, if it is there.
    pub fn try_recv(&mut self) -> Option<Event> {
        let event = self.events.try_recv().ok();
        self.count(event)
    }

    fn count(&self, event: Option<Event>) -> Option<Event> {
        if matches!(event, Some(Event::Inventory(_))) {
            self.seen.set(self.seen.get() + 1);
        }
        event
    }
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock(MonotonicClock);

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::from_start(self.0.now())
    }

    fn wall(&self) -> WallTime {
        WallTime(host::clock::wall_ms())
    }
}
