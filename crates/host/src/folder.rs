//! What lies in a directory, looked at without following links, and made anew somewhere else.
//!
//! It says what is there and does what is asked, entry by entry; what may be copied is the caller's decision.

use std::fs::File;
use std::io;
use std::path::Path;

#[cfg(unix)]
#[path = "folder/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "folder/windows.rs"]
mod system;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A plain file.
    File,
    /// A symbolic link.
    Link,
    /// Something else, by its name for people: `a socket`.
    Other(&'static str),
}

/// What is known of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub kind: Kind,
    /// Somebody may run it.
    pub executable: bool,
    /// It would run with another user's or group's rights.
    pub set_id: bool,
    /// Its length.
    pub bytes: u64,
}

/// Of the entry itself, not of what a link leads to.
///
/// # Errors
/// When there is none.
pub fn facts(path: &Path) -> io::Result<Facts> {
    system::facts(&path.symlink_metadata()?)
}

/// Opens a plain file, and neither what a link leads to nor anything that would wait or act when opened.
///
/// # Errors
/// When it cannot be opened; `InvalidInput` when it is not a plain file.
pub fn open_plain(path: &Path) -> io::Result<(File, Facts)> {
    let file = system::open_plain(path)?;
    let facts = system::facts(&file.metadata()?)?;
    match facts.kind {
        Kind::File => Ok((file, facts)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no longer a plain file")),
    }
}

/// Whether we may run it; links are followed.
pub fn is_executable(path: &Path) -> bool {
    path.is_file() && system::is_executable(path)
}

/// Gives a directory or an executable file the rights 0755, another file 0644.
///
/// # Errors
/// When it is not ours.
pub fn set_rights(path: &Path, executable: bool) -> io::Result<()> {
    system::set_rights(path, executable)
}

/// Makes a symbolic link.
///
/// # Errors
/// When something is there already.
pub fn make_link(target: &Path, path: &Path) -> io::Result<()> {
    system::make_link(target, path)
}

/// Makes an empty file share the content of another without copying. `false` where the file system cannot.
pub fn share_content(from: &File, to: &File) -> bool {
    system::share_content(from, to)
}

/// Puts everything that was written to the file system of `path` on the disk.
///
/// # Errors
/// When the disk failed.
pub fn sync_all_of(path: &Path) -> io::Result<()> {
    system::sync_all_of(path)
}

/// Removes the files of a directory that are not to be kept. What cannot be removed stays.
pub fn keep_only(directory: &Path, keeps: impl Fn(&Path) -> bool) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if !keeps(&path) {
            let _ = std::fs::remove_file(path);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn entries_are_told_apart_without_following_links() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "12345").unwrap();
        make_link(Path::new("file"), &at("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        assert_eq!(facts(folder.path()).unwrap().kind, Kind::Directory);
        assert_eq!((facts(&at("file")).unwrap().kind, facts(&at("file")).unwrap().bytes), (Kind::File, 5));
        assert_eq!(facts(&at("link")).unwrap().kind, Kind::Link);
        assert_eq!(facts(&at("socket")).unwrap().kind, Kind::Other("a socket"));
        assert!(open_plain(&at("file")).is_ok());
        assert!(open_plain(&at("link")).is_err() && open_plain(&at("socket")).is_err());
        assert!(open_plain(folder.path()).is_err());
    }

    #[test]
    fn rights_are_seen_and_set() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o4711)).unwrap();
        let seen = facts(&path).unwrap();
        assert!(seen.executable && seen.set_id && is_executable(&path));
        set_rights(&path, false).unwrap();
        let seen = facts(&path).unwrap();
        assert!(!seen.executable && !seen.set_id && !is_executable(&path));
        assert!(!is_executable(folder.path()));
    }
}
