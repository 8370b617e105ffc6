//! Watches instances that run and are not ready yet: what they print, and where they listen instead.
//!
//! ```text
//!  spawned ──► watched, once a second ──► ready, ended, or watched for too long: no longer
//! ```
//! It deliberately judges nothing: an instance may well listen elsewhere first and on its port later.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use agent::world::Event;
use model::id::InstanceId;
use telemetry::collector::Collector;
use tokio::sync::oneshot;

use crate::Events;

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Looks at one instance; who starts for longer is found by its timeout, not by us.
const LOOKS_MAX: u32 = 600;
/// And at one without a port, of which nobody but the agent may ever say that it is ready.
const LOOKS_WITHOUT_PORT_MAX: u32 = 60;

#[derive(Debug, Clone)]
struct Watched {
    pid: Option<u32>,
    port: Option<u16>,
    looks: u32,
    told_lines: Vec<String>,
    told_ports: Vec<u16>,
}

/// The instances that are watched. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Starting(Rc<RefCell<BTreeMap<InstanceId, Watched>>>);

impl Starting {
    /// Nobody is watched.
    pub fn new() -> Self {
        Self::default()
    }

    /// `instance` is about to run, or runs and is not ready. Without a port it cannot listen elsewhere.
    pub fn watch(&self, instance: InstanceId, port: Option<u16>) {
        let watched = Watched { pid: None, port, looks: 0, told_lines: Vec::new(), told_ports: Vec::new() };
        self.0.borrow_mut().insert(instance, watched);
    }

    /// It runs as that process.
    pub fn started(&self, instance: &InstanceId, pid: u32) {
        if let Some(watched) = self.0.borrow_mut().get_mut(instance) {
            watched.pid = Some(pid);
        }
    }

    /// It is ready, or has ended.
    pub fn forget(&self, instance: &InstanceId) {
        self.0.borrow_mut().remove(instance);
    }

    /// Looks and tells, for as long as the agent runs.
    pub async fn run(self, collector: Collector, events: Events) {
        let mut interval = tokio::time::interval(LOOK_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            for (instance, watched) in self.due() {
                self.look(&instance, watched, &collector, &events).await;
            }
        }
    }

    /// Those to look at, counted; the ones just spawned come next time.
    fn due(&self) -> Vec<(InstanceId, Watched)> {
        let mut all = self.0.borrow_mut();
        all.retain(|_, watched| {
            watched.looks <= if watched.port.is_some() { LOOKS_MAX } else { LOOKS_WITHOUT_PORT_MAX }
        });
        all.iter_mut()
            .filter_map(|(instance, watched)| {
                watched.looks += 1;
                (watched.looks > 1).then(|| (instance.clone(), watched.clone()))
            })
            .collect()
    }

    async fn look(&self, instance: &InstanceId, watched: Watched, collector: &Collector, events: &Events) {
        let (reply, lines) = oneshot::channel();
        let asked = collector.last_lines(instance.clone(), Box::new(move |lines| drop(reply.send(lines))));
        if asked.is_ok()
            && let Ok(lines) = lines.await
            && lines != watched.told_lines
            && self.note(instance, |watched| watched.told_lines.clone_from(&lines))
        {
            let _ = events.send(Event::Output { instance: instance.clone(), lines }).await;
        }
        let (Some(port), Some(pid)) = (watched.port, watched.pid) else { return };
        // Reads a good part of /proc: not on the thread that keeps the links alive.
        let Ok(ports) = tokio::task::spawn_blocking(move || host::sockets::ports_of(pid)).await else {
            return;
        };
        if !ports.is_empty()
            && !ports.contains(&port)
            && ports != watched.told_ports
            && self.note(instance, |watched| watched.told_ports.clone_from(&ports))
        {
            let _ = events.send(Event::ListensElsewhere { instance: instance.clone(), ports }).await;
        }
    }

    /// Whether it is still watched; if so, notes what is told.
    fn note(&self, instance: &InstanceId, note: impl FnOnce(&mut Watched)) -> bool {
        match self.0.borrow_mut().get_mut(instance) {
            Some(watched) => {
                note(watched);
                true
            }
            None => false,
        }
    }
}
