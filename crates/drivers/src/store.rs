//! Files: the record, history, releases.
//!
//! Only `write` waits for the disk on the agent's own thread: what comes after it relies on it. History has a
//! thread of its own, and releases are copied and deleted on threads that may take their time.

pub mod history;
pub mod record;
pub mod release;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::world::{Event, HistoryEntry, PrepareRelease, Store, StoreError};
use host::paths::Layout;
use model::id::ServiceName;
use model::manifest::OwnLog;
use tokio::sync::Semaphore;
use wire::manifest::Output;
use wire::record::Record;

use crate::Events;
use crate::fleet::OutputLimits;
use history::History;
use record::RecordFiles;

/// Releases copied at the same time: with more of them the disk does no more, and the first is ready later.
const COPIES_MAX: usize = 4;

/// The files of one state directory.
#[derive(Debug)]
pub struct Files {
    record: RecordFiles,
    history: History,
    releases: PathBuf,
    run_dir: PathBuf,
    /// How the own log is kept, as roles were told.
    log: Option<OwnLog>,
    output: Option<OutputLimits>,
    /// How services' logs are kept, as the collector was told.
    kept: BTreeMap<String, Output>,
    events: Events,
    copies: Arc<Semaphore>,
}

impl Files {
    /// Takes over opened record files; what an interrupted copy left of releases is removed.
    pub fn new(layout: &Layout, record: RecordFiles, history: History, events: Events) -> Self {
        let releases = layout.releases();
        let sweep = releases.clone();
        tokio::task::spawn_blocking(move || release::remove_leftovers(&sweep));
        let run_dir = layout.run_dir.clone();
        let copies = Arc::new(Semaphore::new(COPIES_MAX));
        let (log, output, kept) = (None, None, BTreeMap::new());
        Self { record, history, releases, run_dir, log, output, kept, events, copies }
    }

    /// Tells that one how services' logs are kept, whenever a record says otherwise than the one before.
    #[must_use]
    pub fn telling(self, output: OutputLimits) -> Self {
        Self { output: Some(output), ..self }
    }

    /// What holds at once, whatever runs: the settings of logs.
    fn tell_logs(&mut self, record: &Record) {
        let log = OwnLog::from(record.manifest.log);
        if self.log.replace(log) != Some(log)
            && let Err(error) = telemetry::own_log::tell(&self.run_dir, log)
        {
            tracing::warn!(%error, "how the own log is kept does not change");
        }
        let Some(limits) = &self.output else { return };
        for (name, service) in &record.manifest.services {
            if self.kept.get(name) != Some(&service.output)
                && let Ok(parsed) = name.parse()
            {
                limits.keep(&parsed, &(&service.output).into());
                self.kept.insert(name.clone(), service.output.clone());
            }
        }
    }
}

impl Store for Files {
    fn write(&mut self, record: &Record) -> Result<(), StoreError> {
        self.record.write(record)?;
        self.tell_logs(record);
        Ok(())
    }

    fn append(&mut self, entry: &HistoryEntry) {
        self.history.append(entry);
    }

    fn prepare(&mut self, request: PrepareRelease) {
        let releases = self.releases.clone();
        let events = self.events.clone();
        let copies = Arc::clone(&self.copies);
        tokio::spawn(async move {
            // Never closed; without a permit it would only be copied beside more others.
            let permit = copies.acquire_owned().await.ok();
            tokio::task::spawn_blocking(move || {
                let event = prepared(&releases, request);
                drop(permit);
                let _ = events.blocking_send(event);
            });
        });
    }

    fn remove_release(&mut self, service: &ServiceName, directory: &str) {
        let releases = self.releases.clone();
        let (service, directory) = (service.clone(), Path::new(directory).to_owned());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = release::remove(&releases, &service, &directory) {
                tracing::warn!(directory = %directory.display(), %error, "a release could not be removed");
            }
        });
    }
}

fn prepared(releases: &Path, request: PrepareRelease) -> Event {
    let prepared = release::prepare(releases, &request);
    let PrepareRelease { service, release, .. } = request;
    match prepared {
        Ok(prepared) => {
            let (directory, hash) = (prepared.directory, prepared.hash);
            Event::ReleasePrepared { service, release, directory, hash }
        }
        Err(refused) => Event::ReleaseRefused { service, release, error: refused.to_string() },
    }
}
