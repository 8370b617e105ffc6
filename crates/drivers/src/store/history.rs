//! History and events: the newest ten thousand entries in one database file, and the newest thousand decisions of
//! people (rollouts, operations, manifests), which a service that crashes all day does not push out.
//!
//! Entries are numbered as they come, from 1 on; a number is never used again while the file is whole.
//! A thread of its own writes them, because a commit waits for the disk and the agent must not. Nothing
//! depends on it: where it fails, entries are lost, and that is said. A file that turns out damaged is put
//! aside under a dated name and a new one begun.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use agent::world::HistoryEntry;
use redb::{
    AccessGuard, Database, DatabaseError, ReadOnlyTable, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, StorageError, TableDefinition,
};
use tokio::sync::watch;
use wire::history::{self, Entry};

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
/// Entries about decisions once more, under the same number.
const DECISIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("decisions");
/// Entries kept.
pub const ENTRIES_MAX: u64 = 10_000;
/// Decisions kept.
pub const DECISIONS_MAX: u64 = 1_000;
/// Entries in one answer.
pub const PAGE_MAX: usize = 1_000;
/// Subjects of entries that are decisions.
const DECIDED: [&str; 3] = ["rollout", "operation", "manifest"];
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

/// An entry under its number.
pub type Numbered = (u64, Entry);
/// Called with entries, oldest first.
pub type Reply = Box<dyn FnOnce(Vec<Numbered>) + Send>;

/// Which entries are asked for.
#[derive(Debug, Clone, Default)]
pub struct HistoryQuery {
    /// About that service only.
    pub service: Option<String>,
    /// About `rollout`, `instance`, … only.
    pub subject: Option<String>,
    /// The oldest ones after that number, as for who follows. A number that was never given, from before the file
    /// was lost, counts as 0.
    pub after_sequence: Option<u64>,
    /// Without `after_sequence` the newest ones; those before that number.
    pub before: Option<u64>,
    /// How many; at most `PAGE_MAX`.
    pub limit: usize,
}

impl HistoryQuery {
    fn wants(&self, entry: &Entry) -> bool {
        self.service.as_ref().is_none_or(|service| entry.service.as_ref() == Some(service))
            && self.subject.as_ref().is_none_or(|subject| entry.subject == *subject)
    }
}

enum Order {
    Append(Box<Entry>),
    Page(HistoryQuery, Reply),
    Rollout(u64, Reply),
}

/// Gives entries to the thread; when it and its readers are dropped, the thread writes what waits and ends.
#[derive(Debug)]
pub struct History {
    reader: HistoryReader,
    lost: u64,
}

/// Asks the thread. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct HistoryReader {
    orders: SyncSender<Order>,
    newest: watch::Receiver<u64>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Order")
    }
}

impl HistoryReader {
    /// Asks for entries, once what was appended before is in. Damaged ones are left out. Where the thread is far
    /// behind, `reply` is dropped uncalled.
    pub fn page(&self, query: HistoryQuery, reply: Reply) {
        let _ = self.orders.try_send(Order::Page(query, reply));
    }

    /// Asks for the entry with the final record of a rollout, if it is kept: one or none.
    pub fn rollout(&self, id: u64, reply: Reply) {
        let _ = self.orders.try_send(Order::Rollout(id, reply));
    }

    /// The number of the newest entry, as it changes; 0 while there is none.
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.newest.clone()
    }
}

impl History {
    /// Starts the thread on the database at `path`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(path: PathBuf) -> std::io::Result<Self> {
        let (orders, queue) = sync_channel(QUEUE_MAX);
        let (told, newest) = watch::channel(0);
        std::thread::Builder::new().name("history".into()).spawn(move || {
            Writer { path, database: None, open_again_at: Instant::now(), told }.run(&queue);
        })?;
        Ok(Self { reader: HistoryReader { orders, newest }, lost: 0 })
    }

    /// For who asks.
    pub fn reader(&self) -> HistoryReader {
        self.reader.clone()
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
        if self.reader.orders.try_send(Order::Append(entry)).is_err() {
            self.lost += 1;
            if self.lost.is_power_of_two() {
                tracing::warn!(lost = self.lost, "history cannot keep up: entries are lost");
            }
        }
    }
}

struct Writer {
    path: PathBuf,
    database: Option<Database>,
    open_again_at: Instant,
    told: watch::Sender<u64>,
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
            match order {
                Some(Order::Page(query, reply)) => reply(self.ask(|database| page(database, &query))),
                Some(Order::Rollout(id, reply)) => reply(self.ask(|database| rollout(database, id))),
                Some(Order::Append(_)) | None => {}
            }
        }
    }

    fn open(&mut self) {
        self.open_again_at = Instant::now() + REOPEN_DELAY;
        let deadline = Instant::now() + OPEN_PATIENCE;
        loop {
            match guarded(|| create(&self.path)) {
                Ok(database) => {
                    self.tell(guarded(|| newest(&database)).unwrap_or(0));
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
        match guarded(|| insert(database, batch)) {
            Ok(newest) => self.tell(newest),
            Err(failure) => self.fail(&failure, batch.len()),
        }
    }

    fn tell(&self, newest: u64) {
        self.told.send_if_modified(|told| std::mem::replace(told, newest) != newest);
    }

    fn fail(&mut self, failure: &Failure, entries: usize) {
        // After an error the database takes nothing more. Whether it is damaged shows when it is opened again.
        tracing::error!(%failure, entries, "history could not be written: entries are lost");
        self.database = None;
    }

    fn ask(&self, work: impl FnOnce(&Database) -> Result<Vec<Numbered>, Failure>) -> Vec<Numbered> {
        let Some(database) = &self.database else { return Vec::new() };
        guarded(|| work(database)).unwrap_or_else(|failure| {
            tracing::error!(%failure, "history could not be read");
            Vec::new()
        })
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

/// Writes them, and says the number of the last.
fn insert(database: &Database, batch: &[Entry]) -> Result<u64, Failure> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    let newest = {
        let mut table = transaction.open_table(ENTRIES)?;
        let mut decisions = transaction.open_table(DECISIONS)?;
        let mut newest = table.last()?.map_or(0, |(key, _)| key.value());
        for entry in batch {
            newest += 1;
            let bytes = history::encode(entry).map_err(|error| Failure::Damaged(error.to_string()))?;
            table.insert(newest, bytes.as_slice())?;
            if entry.rollout.is_some() || DECIDED.contains(&entry.subject.as_str()) {
                decisions.insert(newest, bytes.as_slice())?;
            }
        }
        while table.len()? > ENTRIES_MAX {
            table.pop_first()?;
        }
        while decisions.len()? > DECISIONS_MAX {
            decisions.pop_first()?;
        }
        newest
    };
    transaction.commit()?;
    Ok(newest)
}

type Table = ReadOnlyTable<u64, &'static [u8]>;

/// `None` while nothing was ever written.
fn table(
    database: &Database,
    table: TableDefinition<'static, u64, &'static [u8]>,
) -> Result<Option<Table>, Failure> {
    match database.begin_read()?.open_table(table) {
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(Some(table?)),
    }
}

fn newest(database: &Database) -> Result<u64, Failure> {
    let Some(table) = table(database, ENTRIES)? else { return Ok(0) };
    Ok(table.last()?.map_or(0, |(key, _)| key.value()))
}

fn page(database: &Database, query: &HistoryQuery) -> Result<Vec<Numbered>, Failure> {
    let is_decision = query.subject.as_deref().is_some_and(|subject| DECIDED.contains(&subject));
    let kept = if is_decision { DECISIONS } else { ENTRIES };
    let Some(table) = table(database, kept)? else { return Ok(Vec::new()) };
    let most = query.limit.min(PAGE_MAX);
    if let Some(after) = query.after_sequence {
        let after = if after > newest(database)? { 0 } else { after };
        return collect(table.range(after + 1..)?, query, most);
    }
    let before = query.before.unwrap_or(u64::MAX);
    let mut entries = collect(table.range(..before)?.rev(), query, most)?;
    entries.reverse();
    Ok(entries)
}

fn rollout(database: &Database, id: u64) -> Result<Vec<Numbered>, Failure> {
    let Some(table) = table(database, DECISIONS)? else { return Ok(Vec::new()) };
    for row in table.iter()?.rev() {
        let (key, value) = row?;
        if let Ok(entry) = history::decode(value.value())
            && entry.rollout.as_ref().is_some_and(|rollout| rollout.id == id)
        {
            return Ok(vec![(key.value(), entry)]);
        }
    }
    Ok(Vec::new())
}

type Row = Result<(AccessGuard<'static, u64>, AccessGuard<'static, &'static [u8]>), StorageError>;

fn collect(
    rows: impl Iterator<Item = Row>,
    query: &HistoryQuery,
    most: usize,
) -> Result<Vec<Numbered>, Failure> {
    let mut entries = Vec::new();
    let mut damaged = 0_u32;
    for row in rows {
        if entries.len() == most {
            break;
        }
        let (key, value) = row?;
        match history::decode(value.value()) {
            Ok(entry) if query.wants(&entry) => entries.push((key.value(), entry)),
            Ok(_) => {}
            Err(_) => damaged += 1,
        }
    }
    if damaged > 0 {
        tracing::warn!(damaged, "history entries are damaged and left out");
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
