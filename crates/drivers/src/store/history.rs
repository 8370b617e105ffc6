//! History and events: the newest ten thousand entries in one database file.
//!
//! A thread of its own writes them, because a commit waits for the disk and the agent must not. Nothing
//! depends on it: where it fails, entries are lost, and that is said. A file that turns out damaged is put
//! aside under a dated name and a new one begun.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use agent::world::HistoryEntry;
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition,
};
use wire::history::{self, Entry};

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// Entries kept.
pub const ENTRIES_MAX: u64 = 10_000;
/// Entries that wait for the disk; more are lost, and counted.
const QUEUE_MAX: usize = 1024;
/// Entries in one commit.
const BATCH_MAX: usize = 64;
/// Pages kept in memory.
const CACHE_BYTES: usize = 1 << 20;
/// For an agent that is on its way out to let go of the file.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries to open it.
const OPEN_RETRY_DELAY: Duration = Duration::from_millis(50);
/// After it could not be opened, before the next entry tries again.
const REOPEN_DELAY: Duration = Duration::from_secs(10);

type Reply = Box<dyn FnOnce(Vec<Entry>) + Send>;

enum Order {
    Append(Box<Entry>),
    Newest(usize, Reply),
}

/// Gives entries to the thread; when it is dropped, the thread writes what waits and ends.
#[derive(Debug)]
pub struct History {
    orders: SyncSender<Order>,
    lost: u64,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order")
    }
}

impl History {
    /// Starts the thread on the database at `path`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(path: PathBuf) -> std::io::Result<Self> {
        let (orders, queue) = sync_channel(QUEUE_MAX);
        std::thread::Builder::new().name("history".into()).spawn(move || {
            Writer { path, database: None, open_again_at: Instant::now() }.run(&queue);
        })?;
        Ok(Self { orders, lost: 0 })
    }

    /// Adds an entry, soon.
    pub fn append(&mut self, entry: &HistoryEntry) {
        let entry = Box::new(Entry {
            v: 1,
            at_ms: entry.at.0,
            service: entry.service.as_ref().map(ToString::to_string),
            subject: entry.subject.to_owned(),
            text: entry.text.clone(),
            actor: entry.actor.clone(),
            rollout: entry.rollout.as_deref().cloned(),
        });
        if self.orders.try_send(Order::Append(entry)).is_err() {
            self.lost += 1;
            if self.lost.is_power_of_two() {
                tracing::warn!(lost = self.lost, "history cannot keep up: entries are lost");
            }
        }
    }

    /// Asks for the newest entries, newest last, once what was appended before is in. Damaged ones are left out.
    pub fn newest(&self, most: usize, reply: Reply) {
        let _ = self.orders.try_send(Order::Newest(most, reply));
    }
}

struct Writer {
    path: PathBuf,
    database: Option<Database>,
    open_again_at: Instant,
}

impl Writer {
    fn run(mut self, queue: &Receiver<Order>) {
        self.open();
        while let Ok(first) = queue.recv() {
            let mut batch = Vec::new();
            let mut order = Some(first);
            while let Some(Order::Append(entry)) = order {
                batch.push(*entry);
                order = if batch.len() < BATCH_MAX { queue.try_recv().ok() } else { None };
            }
            if !batch.is_empty() {
                self.append(&batch);
            }
            if let Some(Order::Newest(most, reply)) = order {
                reply(self.newest(most));
            }
        }
    }

    fn open(&mut self) {
        self.open_again_at = Instant::now() + REOPEN_DELAY;
        let deadline = Instant::now() + OPEN_PATIENCE;
        loop {
            match guarded(|| create(&self.path)) {
                Ok(database) => {
                    self.database = Some(database);
                    return;
                }
                Err(Failure::Busy) if Instant::now() < deadline => std::thread::sleep(OPEN_RETRY_DELAY),
                Err(Failure::Damaged(why)) => {
                    self.set_aside(&why);
                    self.database = guarded(|| create(&self.path)).ok();
                    return;
                }
                Err(failure @ (Failure::Busy | Failure::Io(_))) => {
                    tracing::error!(path = %self.path.display(), %failure, "history cannot be opened: going on without it");
                    return;
                }
            }
        }
    }

    fn set_aside(&self, why: &str) {
        let stamp = telemetry::stamp::file_name(host::clock::wall_ms());
        let aside = self.path.with_extension(format!("redb.damaged-{stamp}"));
        match std::fs::rename(&self.path, &aside) {
            Ok(()) => {
                tracing::error!(why, aside = %aside.display(), "history is damaged: it was set aside and begins anew");
            }
            Err(error) => tracing::error!(why, %error, "history is damaged and cannot be set aside"),
        }
    }

    fn append(&mut self, batch: &[Entry]) {
        if self.database.is_none() && Instant::now() >= self.open_again_at {
            self.open();
        }
        let Some(database) = &self.database else {
            tracing::warn!(entries = batch.len(), "history is not there: entries are lost");
            return;
        };
        if let Err(failure) = guarded(|| insert(database, batch)) {
            // After an error the database takes nothing more. Whether it is damaged shows when it is opened again.
            tracing::error!(
                %failure,
                entries = batch.len(),
                "history could not be written: entries are lost"
            );
            self.database = None;
        }
    }

    fn newest(&self, most: usize) -> Vec<Entry> {
        let Some(database) = &self.database else { return Vec::new() };
        match guarded(|| read(database, most)) {
            Ok(entries) => entries,
            Err(failure) => {
                tracing::error!(%failure, "history could not be read");
                Vec::new()
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("another process has it open")]
    Busy,
    /// A full disk, say; the file may be whole.
    #[error("the system said: {0}")]
    Io(String),
    #[error("it is not what it should be: {0}")]
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        match error.into() {
            redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch => Self::Busy,
            redb::Error::Io(error) if !tells_of_content(&error) => Self::Io(error.to_string()),
            error @ redb::Error::PreviousIo => Self::Io(error.to_string()),
            error => Self::Damaged(error.to_string()),
        }
    }
}

fn tells_of_content(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
}

/// A damaged file may also make the database panic; here that is one more error.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_panic| Err(Failure::Damaged("the database gave up on it".to_owned())))
}

fn create(path: &Path) -> Result<Database, Failure> {
    // So that a new file is its owner's only; the database makes its own from an empty one.
    drop(host::file::append_private(path).map_err(redb::Error::Io)?);
    let database: Result<Database, DatabaseError> =
        Database::builder().set_cache_size(CACHE_BYTES).create(path);
    Ok(database?)
}

fn insert(database: &Database, batch: &[Entry]) -> Result<(), Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    {
        let mut table = transaction.open_table(ENTRIES)?;
        let next = table.last()?.map_or(0, |(key, _)| key.value() + 1);
        for (key, entry) in (next..).zip(batch) {
            let bytes = history::encode(entry).map_err(|error| Failure::Damaged(error.to_string()))?;
            table.insert(key, bytes.as_slice())?;
        }
        while table.len()? > ENTRIES_MAX {
            table.pop_first()?;
        }
    }
    Ok(transaction.commit()?)
}

fn read(database: &Database, most: usize) -> Result<Vec<Entry>, Failure> {
    let table = match database.begin_read()?.open_table(ENTRIES) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let mut entries = Vec::new();
    let mut damaged = 0_u32;
    for row in table.iter()?.rev().take(most) {
        match history::decode(row?.1.value()) {
            Ok(entry) => entries.push(entry),
            Err(_) => damaged += 1,
        }
    }
    if damaged > 0 {
        tracing::warn!(damaged, "history entries are damaged and left out");
    }
    entries.reverse();
    Ok(entries)
}

#[cfg(test)]
mod tests;
