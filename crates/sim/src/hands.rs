//! The agent's six traits as one box that is emptied after every step, and may die at a write of the record.
//!
//! Once it has died everything asked of it is lost, as it is when a process is killed between two system calls.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use agent::world::{
    Clock, Fleet, FleetRequest, HistoryEntry, Names, Notice, Notify, PrepareRelease, Store, StoreError,
    Traffic,
};
use model::id::ServiceName;
use model::time::{Instant, WallTime};
use wire::record::Record;
use wire::routes::RouteTable;

/// Wall clock at the start of every simulated world.
const WALL_START: u64 = 1_700_000_000_000;

/// What the agent asked for in one step.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Fleet(FleetRequest),
    Table(Box<RouteTable>),
    Drain(Duration),
    Report(u64),
    Prepare(Box<PrepareRelease>),
    Remove(ServiceName, String),
    Notice(Notice),
    Wrote(Box<Record>),
}

/// On which side of a write the agent dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The record is not durable.
    Before,
    /// It is, and nothing that follows from it was done.
    After,
}

/// What lies behind the traits.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) now: Instant,
    pub(crate) asked: Vec<Asked>,
    /// The durable record.
    pub(crate) record: Option<Record>,
    /// The table in `run/routes`.
    pub(crate) routes: Option<RouteTable>,
    /// Writes so far, of all lives.
    pub(crate) writes: u64,
    /// Of these, how many made a record durable.
    pub(crate) durable: u64,
    /// Die at that write.
    pub(crate) die_at: Option<(u64, Side)>,
    /// Writes fail.
    pub(crate) disk_is_bad: bool,
    pub(crate) dead: bool,
}

impl Inner {
    pub(crate) fn new() -> Self {
        Self {
            now: Instant::START,
            asked: Vec::new(),
            record: None,
            routes: None,
            writes: 0,
            durable: 0,
            die_at: None,
            disk_is_bad: false,
            dead: false,
        }
    }

    pub(crate) fn wall(&self) -> WallTime {
        WallTime(WALL_START + wire::manifest::millis(self.now.since_start()))
    }
}

/// One handle to the box; every trait has its own.
#[derive(Debug, Clone)]
pub(crate) struct Hands(pub(crate) Rc<RefCell<Inner>>);

impl Hands {
    fn ask(&self, asked: Asked) {
        let mut inner = self.0.borrow_mut();
        if !inner.dead {
            inner.asked.push(asked);
        }
    }
}

impl Clock for Hands {
    fn now(&self) -> Instant {
        self.0.borrow().now
    }

    fn wall(&self) -> WallTime {
        self.0.borrow().wall()
    }
}

impl Fleet for Hands {
    fn request(&mut self, request: FleetRequest) {
        self.ask(Asked::Fleet(request));
    }
}

impl Traffic for Hands {
    fn publish(&mut self, table: &RouteTable) {
        if self.0.borrow().dead {
            return;
        }
        self.0.borrow_mut().routes = Some(table.clone());
        self.ask(Asked::Table(Box::new(table.clone())));
    }

    fn drain(&mut self, deadline: Duration) {
        self.ask(Asked::Drain(deadline));
    }

    fn report_now(&mut self, token: u64) {
        self.ask(Asked::Report(token));
    }
}

impl Store for Hands {
    fn write(&mut self, record: &Record) -> Result<(), StoreError> {
        let mut inner = self.0.borrow_mut();
        if inner.dead {
            return Ok(());
        }
        inner.writes += 1;
        let die = inner.die_at.filter(|(write, _)| *write == inner.writes).map(|(_, side)| side);
        if die == Some(Side::Before) {
            inner.dead = true;
            return Ok(());
        }
        if inner.disk_is_bad {
            return Err(StoreError {
                path: "/sim/state/record/a".to_owned(),
                why: "the disk is bad".to_owned(),
            });
        }
        inner.durable += 1;
        inner.record = Some(record.clone());
        inner.asked.push(Asked::Wrote(Box::new(record.clone())));
        inner.dead = die == Some(Side::After);
        Ok(())
    }

    fn append(&mut self, _entry: &HistoryEntry) {}

    fn prepare(&mut self, request: PrepareRelease) {
        self.ask(Asked::Prepare(Box::new(request)));
    }

    fn remove_release(&mut self, service: &ServiceName, directory: &str) {
        self.ask(Asked::Remove(service.clone(), directory.to_owned()));
    }
}

impl Names for Hands {
    /// No service of this world has endpoints by name.
    fn look_up(&mut self, _names: &BTreeSet<String>) {}
}

impl Notify for Hands {
    fn announce(&mut self, notice: &Notice) {
        self.ask(Asked::Notice(notice.clone()));
    }
}
