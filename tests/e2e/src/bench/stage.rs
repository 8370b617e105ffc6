//! All subjects before one origin.

use std::path::Path;

use tempfile::TempDir;

use super::Options;
use super::certificate::Certificate;
use super::handover::{self, Fronted, Wanted};
use super::origin::Files;
use super::subject::Subject;
use super::{haproxy, nginx};

/// The name under which the binary under test is shown.
pub(super) const OURS: &str = "Handover";
/// The same for a second build of it.
const BESIDE: &str = "Handover beside";

/// Everything that runs while cells are measured.
#[derive(Debug)]
pub(super) struct Stage {
    /// Ours first.
    pub(super) subjects: Vec<Subject>,
    // Kept for as long as the subjects run.
    _certificate: Certificate,
    _files: Files,
    _folder: TempDir,
}

impl Stage {
    pub(super) fn build(options: &Options) -> Result<Self, String> {
        let folder =
            tempfile::Builder::new().prefix("handover-bench-").tempdir().map_err(|e| e.to_string())?;
        let certificate = Certificate::make(folder.path())?;
        let files = Files::make()?;
        let start = |name: &str, binary: &Path| {
            handover::start(&Wanted { name, binary, threads: 1, certificate: &certificate }, &files)
        };
        let Fronted { subject, origin } = start(OURS, &options.handover)?;
        let mut subjects = vec![
            subject,
            nginx::start(folder.path(), origin, &certificate)?,
            haproxy::start(folder.path(), origin, &certificate)?,
        ];
        if let Some(binary) = &options.beside {
            subjects.push(start(BESIDE, binary)?.subject);
        }
        Ok(Self { subjects, _certificate: certificate, _files: files, _folder: folder })
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.subjects.iter().map(|subject| subject.name.clone()).collect()
    }
}
