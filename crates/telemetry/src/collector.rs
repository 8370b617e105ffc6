//! Reads every process's output files and keeps what they say.
//!
//! ```text
//!  start/track ──► tailed as it changes ──► drain (it has ended: to the last byte) ──► forget (files deleted)
//! ```
//! One thread owns all files, so nothing is locked; orders come over a bounded queue. What was read counts as
//! taken only once it is in the log: on a full disk it stays in the output file, up to a limit.
//! It deliberately never waits for a terminal, and never makes a service wait.

mod worker;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use host::watch::{Waker, Watch};
use model::id::{InstanceId, ServiceName};
use regex_lite::Regex;

use crate::console::Console;
use crate::rotate::Limits;
use crate::source::Source;

/// Orders that wait.
const ORDERS_MAX: usize = 1024;
/// Unread output of one file beyond this is dropped, oldest first.
const UNREAD_BYTES_MAX: u64 = 1 << 30;
/// Lines kept per process for whoever asks why it failed.
pub const LAST_LINES_MAX: usize = 20;
/// Such a line is cut here: it goes into records and answers.
pub const LAST_LINE_CHARS_MAX: usize = 400;

/// Where things are.
pub struct Settings {
    /// The folder of the output files.
    pub output: PathBuf,
    /// The folder of the logs.
    pub logs: PathBuf,
    /// How much of a service's log is kept, where nothing else was said.
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

/// Called with a process's last lines.
pub type Reply = Box<dyn FnOnce(Vec<String>) + Send>;
/// Called when a line has matched, from the collector's thread: it must not wait.
pub type Matched = Box<dyn FnOnce() + Send>;

/// A process that is about to start.
pub struct Start {
    /// Whose output.
    pub source: Source,
    /// How its service's log is kept from now on.
    pub limits: Limits,
    /// A line that matches it is waited for.
    pub expression: Option<String>,
    /// Called once for the first such line.
    pub matched: Option<Matched>,
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").field("source", &self.source).finish_non_exhaustive()
    }
}

enum Order {
    Track(Source, Option<Matched>),
    Start(Start, Reply),
    Keep(ServiceName, Limits),
    Sweep(Vec<InstanceId>, Reply),
    Last(Source, Reply),
    Drain(Source, Reply),
    Forget(Source, Reply),
}

/// The collector could not be reached: its thread is gone or far behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the output collector does not answer")]
pub struct Unreachable;

/// Gives orders to the thread; when the last clone is dropped, the thread ends.
#[derive(Debug, Clone)]
pub struct Collector(Arc<Orders>);

#[derive(Debug)]
struct Orders {
    queue: Option<SyncSender<Order>>,
    waker: Option<Waker>,
}

impl Drop for Orders {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Order")
    }
}

/// The expression, or for people why it is none.
///
/// # Errors
/// When it is not a regular expression, or too big a one.
pub fn parse_expression(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("`{text}` is not a regular expression: {error}"))
}

impl Collector {
    /// Starts the thread.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(settings: Settings) -> io::Result<Self> {
        Self::start_with(settings, UNREAD_BYTES_MAX)
    }

    fn start_with(settings: Settings, unread_max: u64) -> io::Result<Self> {
        let (queue, orders) = sync_channel(ORDERS_MAX);
        let (watch, waker) = match Watch::new(&settings.output) {
            Ok((watch, waker)) => (Some(watch), Some(waker)),
            Err(error) => {
                if error.kind() != io::ErrorKind::Unsupported {
                    (settings.complain)(format!("output files are looked at often, not watched: {error}"));
                }
                (None, None)
            }
        };
        let worker = worker::Worker::new(settings, unread_max, watch);
        std::thread::Builder::new().name("output".into()).spawn(move || worker.run(&orders))?;
        Ok(Self(Arc::new(Orders { queue: Some(queue), waker })))
    }

    fn order(&self, order: Order) -> Result<(), Unreachable> {
        let queue = self.0.queue.as_ref().ok_or(Unreachable)?;
        queue.try_send(order).map_err(|_full_or_gone| Unreachable)?;
        if let Some(waker) = &self.0.waker {
            waker.wake();
        }
        Ok(())
    }

    /// Reads the files of a process that may have started long ago, from where reading stood. If a line was waited
    /// for, that goes on too; `matched` is called at once if one has matched before.
    ///
    /// # Errors
    /// See `Unreachable`.
    pub fn track(&self, source: impl Into<Source>, matched: Option<Matched>) -> Result<(), Unreachable> {
        self.order(Order::Track(source.into(), matched))
    }

    /// Reads the files of a process that starts now; answers when a restart would know of it.
    ///
    /// # Errors
    /// See `Unreachable`; `reply` is dropped uncalled then.
    pub fn begin(&self, start: Start, reply: Reply) -> Result<(), Unreachable> {
        self.order(Order::Start(start, reply))
    }

    /// Keeps that much of a service's log from now on.
    ///
    /// # Errors
    /// See `Unreachable`.
    pub fn keep(&self, service: ServiceName, limits: Limits) -> Result<(), Unreachable> {
        self.order(Order::Keep(service, limits))
    }

    /// Takes what is unread in files of tasks, and of instances other than `known`, deletes those files, and answers
    /// when that is done: instances may be started again then.
    ///
    /// # Errors
    /// See `Unreachable`; `reply` is dropped uncalled then.
    pub fn sweep(&self, known: Vec<InstanceId>, reply: Reply) -> Result<(), Unreachable> {
        self.order(Order::Sweep(known, reply))
    }

    /// Asks for the last lines of a process, newest last.
    ///
    /// # Errors
    /// See `Unreachable`; `reply` is dropped uncalled then.
    pub fn last_lines(&self, source: impl Into<Source>, reply: Reply) -> Result<(), Unreachable> {
        self.order(Order::Last(source.into(), reply))
    }

    /// The process has ended: takes all it wrote, an unfinished line too, and answers with its last lines.
    ///
    /// # Errors
    /// See `Unreachable`; `reply` is dropped uncalled then.
    pub fn drain(&self, source: impl Into<Source>, reply: Reply) -> Result<(), Unreachable> {
        self.order(Order::Drain(source.into(), reply))
    }

    /// Takes what is left, deletes the files, and answers when that is done: the slot's next process may
    /// then make new ones.
    ///
    /// # Errors
    /// See `Unreachable`; `reply` is dropped uncalled then.
    pub fn forget(&self, source: impl Into<Source>, reply: Reply) -> Result<(), Unreachable> {
        self.order(Order::Forget(source.into(), reply))
    }
}

#[cfg(test)]
mod tests;
