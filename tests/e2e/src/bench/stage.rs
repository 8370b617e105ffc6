//! All subjects before one origin.

use std::path::Path;

use tempfile::TempDir;

use super::Options;
use super::certificate::Certificate;
use super::handover::{self, Fronted, Wanted};
use super::origin::Files;
use super::seats::Seats;
use super::subject::Subject;
use super::{haproxy, nginx};
use crate::system;

/// The name under which the binary under test is shown.
pub(super) const OURS: &str = "Handover";
/// The same for a second build of it.
const BESIDE: &str = "Handover beside";

/// Everything that runs while cells are measured.
#[derive(Debug)]
pub(super) struct Stage {
    /// Ours first.
    pub(super) subjects: Vec<Subject>,
    /// The origins' first processes; all subjects but a second build share the first.
    pub(super) origins: Vec<u32>,
    /// Where they run.
    pub(super) seats: Seats,
    // Kept for as long as the subjects run.
    pub(super) certificate: Certificate,
    pub(super) files: Files,
    _folder: TempDir,
}

/// What is behind all subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// nginx, for requests.
    Requests,
    /// An origin of our own, for streams and tunnels.
    Streams,
}

impl Stage {
    pub(super) fn build(options: &Options, behind: Behind) -> Result<Self, String> {
        let folder =
            tempfile::Builder::new().prefix("handover-bench-").tempdir().map_err(|e| e.to_string())?;
        let certificate = Certificate::make(folder.path())?;
        let files = Files::make()?;
        let start = |name: &str, binary: &Path| {
            let wanted = Wanted { name, binary, threads: 1, certificate: &certificate };
            match behind {
                Behind::Requests => handover::start(&wanted, &files),
                Behind::Streams => handover::start_with_streams(&wanted),
            }
        };
        let Fronted { subject, origin, origin_pid } = start(OURS, &options.handover)?;
        let mut origins = vec![origin_pid];
        let mut subjects = vec![subject];
        if options.peers {
            subjects.push(nginx::start(folder.path(), origin, &certificate)?);
            subjects.push(haproxy::start(folder.path(), origin, &certificate)?);
        }
        if let Some(binary) = &options.beside {
            let fronted = start(BESIDE, binary)?;
            subjects.push(Subject { origin: origins.len(), ..fronted.subject });
            origins.push(fronted.origin_pid);
        }
        let pids: Vec<u32> = subjects.iter().flat_map(Subject::pids).collect();
        let with_workers = |pid: u32| std::iter::once(pid).chain(system::children_of(pid));
        let origin_pids: Vec<u32> = origins.iter().flat_map(|pid| with_workers(*pid)).collect();
        let seats = Seats::take(&pids, &origin_pids)?;
        Ok(Self { subjects, origins, seats, certificate, files, _folder: folder })
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.subjects.iter().map(|subject| subject.name.clone()).collect()
    }

    /// Who runs as which process, for whoever wants to watch one of them.
    pub(super) fn processes(&self) -> String {
        let of = |subject: &Subject| {
            let each: Vec<String> =
                subject.processes.iter().map(|(role, pid)| format!("{role} {pid}")).collect();
            format!("{}: {}", subject.name, each.join(", "))
        };
        self.subjects.iter().map(of).collect::<Vec<_>>().join("; ")
    }
}
