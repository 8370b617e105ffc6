//! The origin behind all subjects: one nginx worker with a small answer and two files in memory.
//!
//! Handover supervises it and the peers are told its address, so that all of them talk to the same process.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::nginx;

/// Where files are memory.
const MEMORY: &str = "/dev/shm";
/// The answers: path and size.
pub(super) const SMALL: &str = "/";
pub(super) const MEDIUM: (&str, usize) = ("/medium", 64 << 10);
pub(super) const LARGE: (&str, usize) = ("/large", 10 << 20);

/// The files that the origin serves.
#[derive(Debug)]
pub(super) struct Files(TempDir);

impl Files {
    pub(super) fn make() -> Result<Self, String> {
        let memory = PathBuf::from(MEMORY);
        let mut builder = tempfile::Builder::new();
        builder.prefix("handover-bench-").permissions(readable());
        let folder = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
        let folder = folder.map_err(|error| error.to_string())?;
        for (path, bytes) in [MEDIUM, LARGE] {
            let path = folder.path().join(path.trim_start_matches('/'));
            // Real pages: a file of holes would be read from one page of zeros.
            let content: Vec<u8> = (b'a'..=b'z').cycle().take(bytes).collect();
            std::fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(Self(folder))
    }

    /// The configuration of the origin; `port` may be a mark that a script replaces.
    pub(super) fn configuration(&self, folder: &Path, port: &str) -> String {
        let root = self.0.path().display();
        let server = format!(
            "sendfile on; tcp_nopush on;\n  \
             server {{ listen 127.0.0.1:{port} backlog=4096; root {root};\n    \
             location = / {{ return 200 'hello world\\n'; }}\n    location / {{ }} }}"
        );
        nginx::text(folder, "origin", &server)
    }
}

/// The origin may run as another user than its files' owner.
#[cfg(unix)]
fn readable() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o755)
}

#[cfg(not(unix))]
fn readable() -> std::fs::Permissions {
    panic!("the bench needs Unix")
}
