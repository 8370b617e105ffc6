//! Where everything lies: `state_dir` for what must survive, `run_dir` for sockets and the like.
//!
//! ```text
//! state_dir/  bin/<sha256>/handover · record/{a,b} · history.redb · releases/ · logs/ · admin.token · run (link)
//! run_dir/    holder.lock · handover.pid · admin.sock · routes · rescue/ · notify/ · output/
//! ```

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

#[cfg(unix)]
#[path = "paths/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "paths/windows.rs"]
mod system;

/// Longest path of a local socket: what `sockaddr_un` holds, without its final zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
/// Longest name of a notify socket before it is cut and told apart by a hash.
const NOTIFY_NAME_BYTES_MAX: usize = 40;
/// Most bytes that anything below `run_dir` adds to the path of a socket.
const SOCKET_SUFFIX_BYTES_MAX: usize = "/notify/".len() + NOTIFY_NAME_BYTES_MAX + ".sock".len();

/// All paths of one Handover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What must survive; absolute.
    pub state_dir: PathBuf,
    /// Sockets, lock, output files: gone after a restart of the machine.
    pub run_dir: PathBuf,
}

impl Layout {
    /// The layout with these two directories; nothing is touched.
    pub fn new(state_dir: impl Into<PathBuf>, run_dir: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into(), run_dir: run_dir.into() }
    }

    /// The layout of a state directory as it is in use, or as it would be chosen.
    pub fn find(state_dir: impl Into<PathBuf>) -> Self {
        let state_dir = state_dir.into();
        let run_dir = Self::choose_run_dir(&state_dir);
        Self { state_dir, run_dir }
    }

    /// Where `run_dir` is: where `state_dir/run` leads if that is a directory, so that whoever asks finds the same
    /// one whatever their environment; else `$XDG_RUNTIME_DIR/handover/HASH` (if it is ours), `/run/handover/HASH`
    /// for root, else `state_dir/run`.
    pub fn choose_run_dir(state_dir: &Path) -> PathBuf {
        let link = state_dir.join("run");
        match std::fs::read_link(&link) {
            Ok(target) if target.is_dir() => return target,
            Err(_) if link.is_dir() => return link,
            _ => {}
        }
        match system::runtime_base() {
            Some(base) => base.join("handover").join(short_hash(state_dir)),
            None => link,
        }
    }

    /// Makes every directory with its rights, and the link `state_dir/run`.
    ///
    /// # Errors
    /// When a directory cannot be made, belongs to somebody else, is no text, or `run_dir` is too long for sockets in
    /// it.
    pub fn create(&self) -> io::Result<()> {
        self.check_text()?;
        self.check_length()?;
        for (path, mode) in [
            (self.state_dir.clone(), 0o711),
            (self.run_dir.clone(), 0o711),
            (self.bin_dir(), 0o700),
            (self.state_dir.join("record"), 0o700),
            (self.releases(), 0o755),
            (self.logs(), 0o700),
            (self.rescue_dir(), 0o700),
            (self.notify_dir(), 0o711),
            (self.run_dir.join("output"), 0o700),
            (self.tls_dir(), 0o700),
        ] {
            system::make_directory(&path, mode).map_err(|error| named(&path, &error))?;
        }
        let link = self.state_dir.join("run");
        if link != self.run_dir {
            system::make_link(&self.run_dir, &link).map_err(|error| named(&link, &error))?;
        }
        Ok(())
    }

    fn check_text(&self) -> io::Result<()> {
        match [&self.state_dir, &self.run_dir].into_iter().find(|path| path.to_str().is_none()) {
            None => Ok(()),
            Some(path) => {
                let text = format!(
                    "{} is not UTF-8; Handover passes its paths on as text, so choose another state_dir",
                    path.display()
                );
                Err(io::Error::new(io::ErrorKind::InvalidInput, text))
            }
        }
    }

    fn check_length(&self) -> io::Result<()> {
        let bytes = self.run_dir.as_os_str().len();
        let most = SOCKET_PATH_BYTES_MAX - SOCKET_SUFFIX_BYTES_MAX;
        if cfg!(unix) && bytes > most {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "the run directory {} has {bytes} bytes and sockets in it would get paths over the system's \
                     {SOCKET_PATH_BYTES_MAX}; choose a state_dir that is at least {} bytes shorter, or set XDG_RUNTIME_DIR",
                    self.run_dir.display(),
                    bytes - most
                ),
            ));
        }
        Ok(())
    }

    /// Copies of the binary, each in a directory named by its hash.
    pub fn bin_dir(&self) -> PathBuf {
        self.state_dir.join("bin")
    }

    /// One of the two record files: slot 0 is `a`, slot 1 is `b`.
    pub fn record(&self, slot: usize) -> PathBuf {
        self.state_dir.join("record").join(if slot == 0 { "a" } else { "b" })
    }

    /// History and events.
    pub fn history(&self) -> PathBuf {
        self.state_dir.join("history.redb")
    }

    /// Releases, by service and version.
    pub fn releases(&self) -> PathBuf {
        self.state_dir.join("releases")
    }

    /// Logs of services, access log, Handover's own.
    pub fn logs(&self) -> PathBuf {
        self.state_dir.join("logs")
    }

    /// Handover's own log.
    pub fn own_log(&self) -> PathBuf {
        self.logs().join("handover.log")
    }

    /// Bearer token of the admin API on TCP.
    pub fn admin_token(&self) -> PathBuf {
        self.state_dir.join("admin.token")
    }

    /// The lock that the living holder has.
    pub fn holder_lock(&self) -> PathBuf {
        self.run_dir.join("holder.lock")
    }

    /// Process id of the holder, for people and scripts.
    pub fn pid_file(&self) -> PathBuf {
        self.run_dir.join("handover.pid")
    }

    /// The command line's local socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.run_dir.join("admin.sock")
    }

    /// The last route table.
    pub fn routes(&self) -> PathBuf {
        self.run_dir.join("routes")
    }

    /// Where roles listen for a new holder.
    pub fn rescue_dir(&self) -> PathBuf {
        self.run_dir.join("rescue")
    }

    /// Where the role `agent` or `proxy` of that generation listens for a new holder.
    pub fn rescue_socket(&self, role: &str, generation: u64) -> PathBuf {
        self.rescue_dir().join(format!("{role}-{generation}.sock"))
    }

    /// Every rescue socket that is there, with the role and the generation that its name says.
    pub fn rescue_sockets(&self) -> Vec<(PathBuf, String, u64)> {
        let entries = std::fs::read_dir(self.rescue_dir()).into_iter().flatten().flatten();
        entries.filter_map(|entry| rescue_socket_of(entry.path())).collect()
    }

    /// Where the notify sockets are.
    pub fn notify_dir(&self) -> PathBuf {
        self.run_dir.join("notify")
    }

    /// Notify socket of an instance, by its id as a path component. A long name is cut and told apart by a hash.
    pub fn notify_socket(&self, file_name: &str) -> PathBuf {
        let directory = self.notify_dir();
        if file_name.len() <= NOTIFY_NAME_BYTES_MAX {
            return directory.join(format!("{file_name}.sock"));
        }
        let hash = short_hash(Path::new(file_name));
        let cut: String = file_name.chars().take(NOTIFY_NAME_BYTES_MAX - hash.len() - 1).collect();
        directory.join(format!("{cut}~{hash}.sock"))
    }

    /// Copies of the last good certificates and keys.
    pub fn tls_dir(&self) -> PathBuf {
        self.run_dir.join("tls")
    }

    /// Output files of an instance: standard output and standard error.
    pub fn output(&self, file_name: &str) -> (PathBuf, PathBuf) {
        let directory = self.run_dir.join("output");
        (directory.join(format!("{file_name}.out")), directory.join(format!("{file_name}.err")))
    }
}

/// The first eight hex digits of the path's sha256: tells Handovers on one machine apart.
pub fn short_hash(path: &Path) -> String {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Thirty-two hex digits of the text's sha256: a file's name for something that has none.
pub fn long_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes())[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `agent-3.sock`.
fn rescue_socket_of(path: PathBuf) -> Option<(PathBuf, String, u64)> {
    let (role, generation) = path.file_name()?.to_str()?.strip_suffix(".sock")?.split_once('-')?;
    let (role, generation) = (role.to_owned(), generation.parse().ok()?);
    Some((path, role, generation))
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_socket_in_the_longest_run_directory_fits_its_address() {
        let run = "/".repeat(SOCKET_PATH_BYTES_MAX - SOCKET_SUFFIX_BYTES_MAX);
        let layout = Layout::new("/s", &run);
        layout.check_length().unwrap();
        let long = "s".repeat(40) + "@" + &"v".repeat(64) + "+c1000.4294967295";
        for path in [
            layout.notify_socket(&long),
            layout.notify_socket("web@1.0.0"),
            layout.rescue_socket("agent", u64::MAX),
            layout.admin_socket(),
        ] {
            assert!(path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX, "{}", path.display());
        }
        assert!(Layout::new("/s", run + "x").check_length().is_err());
        assert_ne!(layout.notify_socket(&long), layout.notify_socket(&(long.clone() + "1")));
    }

    #[test]
    fn a_rescue_socket_names_its_role() {
        let of = |name: &str| rescue_socket_of(PathBuf::from(name)).map(|(_, role, at)| (role, at));
        assert_eq!(of("/r/agent-3.sock"), Some(("agent".to_owned(), 3)));
        assert_eq!(of("/r/proxy-12.sock"), Some(("proxy".to_owned(), 12)));
        for name in ["/r/agent-.sock", "/r/agent-1", "/r/x"] {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn whoever_asks_finds_the_run_directory_that_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let layout = Layout::new(&state, folder.path().join("r"));
        layout.create().unwrap();
        layout.create().unwrap();
        assert_eq!(Layout::find(&state), layout);
        assert!(layout.rescue_dir().is_dir() && layout.logs().is_dir());
    }
}
