//! Reads every instance's output files and keeps what they say.
//!
//! ```text
//!  track ──► tailed every 100 ms ──► drain (it has ended: to the last byte) ──► forget (files deleted)
//! ```
//! One thread owns all files, so nothing is locked; orders come over a bounded queue. What was read counts as
//! taken only once it is in the log: on a full disk it stays in the output file, up to a limit.
//! It deliberately never waits for a terminal, and never makes a service wait.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use model::id::{InstanceId, ServiceName};

use crate::console::{Console, Tone};
use crate::offsets::{self, Offsets};
use crate::rotate::{Limits, RotatedLog};
use crate::tail::{READ_BYTES_MAX, Tail};
use crate::{line, stamp};

/// Between two looks at the files.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Between two writes of the offsets.
const OFFSETS_INTERVAL: Duration = Duration::from_secs(1);
/// After a failed append to a log before the next try.
const LOG_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Orders that wait.
const ORDERS_MAX: usize = 1024;
/// Unread output of one file beyond this is dropped, oldest first.
const UNREAD_BYTES_MAX: u64 = 1 << 30;
/// Lines kept per instance for whoever asks why it failed.
pub const LAST_LINES_MAX: usize = 20;
/// Such a line is cut here: it goes into records and answers.
pub const LAST_LINE_CHARS_MAX: usize = 400;
/// Passes over one instance's files in a drain: more than its files can hold.
const DRAIN_PASSES_MAX: u64 = 2 * UNREAD_BYTES_MAX / READ_BYTES_MAX as u64;

/// Where things are.
pub struct Settings {
    /// The folder of the output files.
    pub output: PathBuf,
    /// The folder of the logs.
    pub logs: PathBuf,
    /// How much of a service's log is kept.
    pub limits: Limits,
    /// Shows lines as they come.
    pub console: Console,
    /// Hears what is wrong with files, for Handover's own log.
    pub complain: Box<dyn Fn(String) + Send>,
    /// The wall clock in milliseconds.
    pub wall_ms: fn() -> u64,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("output", &self.output)
            .field("logs", &self.logs)
            .finish_non_exhaustive()
    }
}

/// Called with an instance's last lines.
pub type Reply = Box<dyn FnOnce(Vec<String>) + Send>;

enum Order {
    Track(InstanceId),
    Sweep(Vec<InstanceId>, Reply),
    Last(InstanceId, Reply),
    Drain(InstanceId, Reply),
    Forget(InstanceId, Reply),
}

/// The collector could not be reached: its thread is gone or far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the output collector does not answer")]
pub struct Unreachable;

/// Gives orders to the thread; when the last clone is dropped, the thread ends.
#[derive(Debug, Clone)]
pub struct Collector(SyncSender<Order>);

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Order")
    }
}

impl Collector {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let (sender, orders) = sync_channel(ORDERS_MAX);
        let worker = Worker::new(settings);
        std::thread::Builder::new().name("output".into()).spawn(move || worker.run(&orders))?;
        Ok(Self(sender))
    }

    fn order(&self, order: Order) -> Result<(), Unreachable> {
        self.0.try_send(order).map_err(|_full_or_gone| Unreachable)
    }

    /// Reads the files of `instance` from now on, and from where it stood if it was read before.
    ///
    /// # Errors
    /// See `Unreachable`.
    pub fn track(&self, instance: InstanceId) -> Result<(), Unreachable> {
        self.order(Order::Track(instance))
    }

    /// Takes what is unread in files of instances other than `known`, deletes those files, and answers when that is
    /// done: instances may be started again then.
    ///
    /// # Errors
    /// See `Unreachable`; `reply` is dropped uncalled then.
    pub fn sweep(&self, known: Vec<InstanceId>, reply: Reply) -> Result<(), Unreachable> {
        self.order(Order::Sweep(known, reply))
    }

    /// Asks for the last lines of `instance`, newest last.
    ///
    /// # Errors
    /// See `Unreachable`; `reply` is dropped uncalled then.
    pub fn last_lines(&self, instance: InstanceId, reply: Reply) -> Result<(), Unreachable> {
        self.order(Order::Last(instance, reply))
    }

    /// `instance` has ended: takes all it wrote, an unfinished line too, and answers with its last lines.
    ///
    /// # Errors
    /// See `Unreachable`; `reply` is dropped uncalled then.
    pub fn drain(&self, instance: InstanceId, reply: Reply) -> Result<(), Unreachable> {
        self.order(Order::Drain(instance, reply))
    }

    /// Takes what is left, deletes the files, and answers when that is done: the slot's next process may
    /// then make new ones.
    ///
    /// # Errors
    /// See `Unreachable`; `reply` is dropped uncalled then.
    pub fn forget(&self, instance: InstanceId, reply: Reply) -> Result<(), Unreachable> {
        self.order(Order::Forget(instance, reply))
    }
}

struct Tracked {
    streams: [(Tail, &'static str); 2],
    last: VecDeque<String>,
}

struct Log {
    log: RotatedLog,
    failing_until: Option<Instant>,
}

struct Worker {
    settings: Settings,
    instances: BTreeMap<InstanceId, Tracked>,
    logs: BTreeMap<ServiceName, Log>,
    stored: Offsets,
    stored_at: Instant,
    buffer: Vec<u8>,
}

impl Worker {
    fn new(settings: Settings) -> Self {
        let stored = std::fs::read_to_string(settings.output.join(OFFSETS_FILE)).unwrap_or_default();
        Self {
            stored: offsets::decode(&stored),
            stored_at: Instant::now(),
            settings,
            instances: BTreeMap::new(),
            logs: BTreeMap::new(),
            buffer: Vec::new(),
        }
    }

    fn run(mut self, orders: &Receiver<Order>) {
        let mut busy = false;
        loop {
            let order = if busy {
                orders.recv_timeout(Duration::ZERO)
            } else if self.instances.is_empty() {
                orders.recv().map_err(RecvTimeoutError::from)
            } else {
                orders.recv_timeout(POLL_INTERVAL)
            };
            match order {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => busy = self.pass(),
                Err(RecvTimeoutError::Disconnected) => {
                    self.store_offsets();
                    return;
                }
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Track(instance) => self.track(instance),
            Order::Sweep(known, reply) => {
                self.sweep(&known);
                reply(Vec::new());
            }
            Order::Last(instance, reply) => {
                self.take(&instance, false);
                reply(self.last_lines(&instance));
            }
            Order::Drain(instance, reply) => {
                self.drain(&instance);
                reply(self.last_lines(&instance));
            }
            Order::Forget(instance, reply) => {
                self.drain(&instance);
                let lines = self.last_lines(&instance);
                if let Some(mut gone) = self.instances.remove(&instance) {
                    gone.streams.iter_mut().for_each(|(tail, _)| tail.remove());
                    self.store_offsets(); // the slot's next files begin at 0
                }
                reply(lines);
            }
        }
    }

    fn track(&mut self, instance: InstanceId) {
        if self.instances.contains_key(&instance) {
            return;
        }
        let streams = ["out", "err"].map(|stream| {
            let name = format!("{}.{stream}", instance.file_name());
            let position = self.stored.get(&name).copied().unwrap_or(0);
            (Tail::new(self.settings.output.join(name), position), stream)
        });
        self.instances.insert(instance, Tracked { streams, last: VecDeque::new() });
    }

    fn sweep(&mut self, known: &[InstanceId]) {
        let Ok(entries) = std::fs::read_dir(&self.settings.output) else { return };
        let left: Vec<InstanceId> = entries
            .filter_map(|entry| instance_of_file(entry.ok()?.file_name().to_str()?))
            .filter(|instance| !known.contains(instance) && !self.instances.contains_key(instance))
            .collect();
        for instance in left {
            self.track(instance.clone());
            self.obey(Order::Forget(instance, Box::new(drop)));
        }
    }

    /// Takes a piece of every file; says whether some of them may hold more.
    fn pass(&mut self) -> bool {
        let instances: Vec<InstanceId> = self.instances.keys().cloned().collect();
        let mut more = false;
        for instance in &instances {
            more |= self.take(instance, false);
        }
        if self.stored_at.elapsed() >= OFFSETS_INTERVAL {
            self.store_offsets();
        }
        more
    }

    fn drain(&mut self, instance: &InstanceId) {
        let mut passes = 0;
        while self.take(instance, true) && passes < DRAIN_PASSES_MAX {
            passes += 1;
        }
    }

    /// Takes a piece of both files of an instance; says whether there may be more that can be taken now.
    fn take(&mut self, instance: &InstanceId, last: bool) -> bool {
        let Some(mut tracked) = self.instances.remove(instance) else { return false };
        let mut more = false;
        for stream in 0..tracked.streams.len() {
            match self.take_stream(instance, &mut tracked, stream, last) {
                Ok(left) => more |= left,
                Err(error) => {
                    let path = tracked.streams[stream].0.path().display();
                    (self.settings.complain)(format!("the output in {path} could not be read: {error}"));
                }
            }
        }
        self.instances.insert(instance.clone(), tracked);
        more
    }

    fn take_stream(
        &mut self,
        instance: &InstanceId,
        tracked: &mut Tracked,
        stream: usize,
        last: bool,
    ) -> io::Result<bool> {
        let (tail, stream) = &mut tracked.streams[stream];
        let dropped = tail.drop_beyond(UNREAD_BYTES_MAX)?;
        if dropped > 0 {
            let text =
                format!("{dropped} bytes of output were dropped: more than {UNREAD_BYTES_MAX} were unread");
            (self.settings.complain)(format!("{instance} {stream}: {text}"));
        }
        tail.read(&mut self.buffer)?;
        let stamp = stamp::utc((self.settings.wall_ms)());
        let mut formatted = Vec::new();
        let mut texts = Vec::new();
        // A full buffer ends where it happens to end, not where the output does.
        let last = last && self.buffer.len() < READ_BYTES_MAX;
        let taken = line::take(&self.buffer, last, |bytes| {
            let text = line::text(bytes);
            formatted.extend_from_slice(format!("{stamp} {instance} {stream} | {text}\n").as_bytes());
            texts.push(text);
        });
        if taken == 0 || !self.append(&instance.service, &formatted) {
            return Ok(false);
        }
        tail.advance(taken);
        tail.free();
        let prefix = instance.to_string();
        for text in &texts {
            self.settings.console.show(instance.service.as_str(), &prefix, Tone::Service, text);
        }
        for text in texts.into_iter().rev().take(LAST_LINES_MAX).rev() {
            remember(&mut tracked.last, &text);
        }
        Ok(tail.unread()? > 0)
    }

    fn append(&mut self, service: &ServiceName, lines: &[u8]) -> bool {
        let log = self.logs.entry(service.clone()).or_insert_with(|| Log {
            log: RotatedLog::new(self.settings.logs.join(format!("{service}.log")), self.settings.limits),
            failing_until: None,
        });
        if log.failing_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let was_failing = log.failing_until.is_some();
        match log.log.append(lines) {
            Ok(()) => {
                log.failing_until = None;
                if was_failing {
                    (self.settings.complain)(format!("the log of {service} is written again"));
                }
                true
            }
            Err(error) => {
                log.failing_until = Some(Instant::now() + LOG_RETRY_DELAY);
                if !was_failing {
                    let what = "its lines wait in the output files and are written when that works again";
                    (self.settings.complain)(format!(
                        "the log of {service} cannot be written: {error}; {what}"
                    ));
                }
                false
            }
        }
    }

    /// Also what is unread or unfinished: that may be all there is to see of a process that hangs.
    fn last_lines(&mut self, instance: &InstanceId) -> Vec<String> {
        let Some(tracked) = self.instances.get_mut(instance) else { return Vec::new() };
        let mut lines = tracked.last.clone();
        for (tail, _) in &mut tracked.streams {
            if tail.peek(line::LINE_BYTES_MAX as u64, &mut self.buffer).is_ok() {
                line::take(&self.buffer, true, |bytes| remember(&mut lines, &line::text(bytes)));
            }
        }
        lines.into()
    }

    fn store_offsets(&mut self) {
        self.stored_at = Instant::now();
        let now: Offsets = self
            .instances
            .values()
            .flat_map(|tracked| &tracked.streams)
            .filter_map(|(tail, _)| Some((tail.path().file_name()?.to_str()?.to_owned(), tail.position())))
            .collect();
        if now == self.stored {
            return;
        }
        let text = offsets::encode(&now);
        match host::file::replace_private(&self.settings.output.join(OFFSETS_FILE), text.as_bytes()) {
            Ok(()) => self.stored = now,
            Err(error) => {
                (self.settings.complain)(format!("the place in the output files is not kept: {error}"))
            }
        }
    }
}

/// In the folder of the output files; no instance has such a name.
const OFFSETS_FILE: &str = "offsets";

fn remember(lines: &mut VecDeque<String>, text: &str) {
    if lines.len() == LAST_LINES_MAX {
        lines.pop_front();
    }
    lines.push_back(match text.char_indices().nth(LAST_LINE_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    });
}

/// The instance whose output a file in the output folder is.
fn instance_of_file(name: &str) -> Option<InstanceId> {
    let (id, stream) = name.rsplit_once('.')?;
    let (release, number) = id.rsplit_once('.')?;
    if !matches!(stream, "out" | "err") {
        return None;
    }
    format!("{release}/{number}").parse().ok()
}

#[cfg(test)]
mod tests;
