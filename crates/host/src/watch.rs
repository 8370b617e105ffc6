//! Changes of files in a directory, waited for together with a wake-up from other threads.
//!
//! It tells which files changed, not how. It may tell of a change twice and, when there are very many, that it lost
//! count: whoever waits looks at everything then.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

#[cfg(unix)]
#[path = "watch/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "watch/windows.rs"]
mod system;

/// A directory that is watched.
#[derive(Debug)]
pub struct Watch(system::Watch);

/// Ends a wait from another thread. Clones wake the same one.
#[derive(Debug, Clone)]
pub struct Waker(system::Waker);

/// What has changed since the wait before.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
    /// Names in the directory.
    pub names: BTreeSet<String>,
    /// More changed than was counted.
    pub lost: bool,
}

impl Watch {
    /// Watches the files of a directory for being made and written.
    ///
    /// # Errors
    /// When there is no such directory, the system has no watch left, or cannot watch at all.
    pub fn new(directory: &Path) -> io::Result<(Self, Waker)> {
        let (watch, waker) = system::Watch::new(directory)?;
        Ok((Self(watch), Waker(waker)))
    }

    /// Waits for a change or a wake-up; also ends early for no reason.
    ///
    /// # Errors
    /// When the system cannot watch any more.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Changes> {
        self.0.wait(timeout)
    }
}

impl Waker {
    /// Ends the wait, or the next one if there is none now. Never waits.
    pub fn wake(&self) {
        self.0.wake();
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_written_file_is_told_and_an_untouched_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("old"), "x").unwrap();
        let (mut watch, _waker) = Watch::new(folder.path()).unwrap();
        std::fs::write(folder.path().join("new"), "x").unwrap();
        let changes = watch.wait(LONG).unwrap();
        assert_eq!((changes.names, changes.lost), (BTreeSet::from(["new".to_owned()]), false));
    }

    #[test]
    fn a_wake_up_before_the_wait_ends_it_and_is_used_up_by_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut watch, waker) = Watch::new(folder.path()).unwrap();
        waker.wake();
        waker.wake();
        assert_eq!(watch.wait(LONG).unwrap(), Changes::default());
        assert_eq!(watch.wait(Duration::ZERO).unwrap(), Changes::default());
        std::thread::spawn(move || waker.wake());
        watch.wait(LONG).unwrap();
    }

    #[test]
    fn what_is_not_there_cannot_be_watched() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Watch::new(&folder.path().join("missing")).is_err());
    }
}
