//! The committed copy: every process of ours runs from a copy of the binary that nobody replaces by accident.
//!
//! A build or an upgrade may overwrite the file that `up` was started from at any time; what has to be started
//! after that must still be the same program. The copy lies under its hash, so the same content is copied once.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use host::paths::Layout;
use sha2::{Digest, Sha256};

use crate::cli::Failure;
use crate::exit_code::Code;

/// For the copy to show that it runs here.
const SELF_CHECK_LIMIT: Duration = Duration::from_secs(10);
/// Between two looks at whether it has ended.
const SELF_CHECK_LOOK: Duration = Duration::from_millis(5);
/// Copies of other binaries that stay: those that ran last, for a way back.
const OTHER_COPIES_MAX: usize = 2;
/// Bytes read at once.
const CHUNK_BYTES: usize = 1 << 16;

/// Where the binary was started from: what an upgrade without a path takes.
pub(super) fn origin() -> Result<PathBuf, Failure> {
    // As it was typed, because a link may lead to another file by then.
    let typed = std::env::args_os().next().map(PathBuf::from).filter(|typed| typed.components().count() > 1);
    match typed.and_then(|typed| std::path::absolute(typed).ok()).filter(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => own_program(),
    }
}

fn own_program() -> Result<PathBuf, Failure> {
    host::process::own_program().map_err(|error| {
        Failure::new(Code::Failed, format_args!("the system does not say what runs here: {error}"))
    })
}

/// Copies this binary under its hash, if it is not there yet, and sees that the copy runs.
pub(super) fn commit(layout: &Layout) -> Result<PathBuf, Failure> {
    let source = own_program()?;
    let failed = |error: io::Error| {
        Failure::new(Code::Failed, format_args!("{} cannot be copied: {error}", source.display()))
    };
    if host::places::others_may_change(&source).map_err(failed)? {
        return Err(Failure::new(
            Code::NotPermitted,
            format_args!("{} may be changed by every user of this machine", source.display()),
        )
        .with_hint(format_args!("take that right away: `chmod o-w {}`", source.display())));
    }
    let hash = hash_of(&source).map_err(failed)?;
    let directory = layout.bin_dir().join(&hash);
    let copy = directory.join("handover");
    let size = std::fs::metadata(&source).map_err(failed)?.len();
    // Written under another name and then renamed: what has the name is whole.
    if !std::fs::metadata(&copy).is_ok_and(|copied| copied.len() == size) {
        copy_file(&source, &directory, &copy).map_err(failed)?;
    }
    self_check(&copy)?;
    remove_old_copies(&layout.bin_dir(), &hash);
    Ok(copy)
}

/// Removes the oldest of the copies that are not this one. One that cannot be removed only takes space.
fn remove_old_copies(bin: &Path, current: &str) {
    let Ok(entries) = std::fs::read_dir(bin) else { return };
    let mut others: Vec<(std::time::SystemTime, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() != current)
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    others.sort();
    let excess = others.len().saturating_sub(OTHER_COPIES_MAX);
    for (_, path) in others.into_iter().take(excess) {
        let _ = std::fs::remove_dir_all(path);
    }
}

fn hash_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(&chunk[..read]);
    }
}

/// Copies with the rights of the original.
fn copy_file(source: &Path, directory: &Path, copy: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let temporary = directory.join(format!("handover.{}", std::process::id()));
    let written = std::fs::copy(source, &temporary)
        .and_then(|_| host::file::sync(&File::open(&temporary)?))
        .and_then(|()| std::fs::rename(&temporary, copy))
        .and_then(|()| host::file::sync_directory(directory));
    if written.is_err() {
        // What is half there would never be found again.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

/// The copy must start and end on this machine: a wrong file system, a missing library, a damaged copy show here.
fn self_check(copy: &Path) -> Result<(), Failure> {
    let failed = |why: String| {
        Failure::new(Code::Failed, format_args!("the copy {} does not run: {why}", copy.display()))
            .with_hint("is the file system of `state_dir` mounted with noexec?")
    };
    let mut child = Command::new(copy)
        .args(["internal", "self-check"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let deadline = Instant::now() + SELF_CHECK_LIMIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(failed(format!("it ended with {status}"))),
            Ok(None) if Instant::now() < deadline => std::thread::sleep(SELF_CHECK_LOOK),
            Ok(None) => {
                // It is of no use, whatever becomes of it.
                let _ = child.kill().and_then(|()| child.wait().map(|_| ()));
                return Err(failed(format!("it did not end within {} s", SELF_CHECK_LIMIT.as_secs())));
            }
            Err(error) => return Err(failed(error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_copied_under_its_hash_and_no_half_copy_stays() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        std::fs::write(&source, "abc").unwrap();
        assert_eq!(
            hash_of(&source).unwrap(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let directory = folder.path().join("bin");
        copy_file(&source, &directory, &directory.join("handover")).unwrap();
        assert_eq!(std::fs::read(directory.join("handover")).unwrap(), b"abc");
        assert!(copy_file(&folder.path().join("none"), &directory, &directory.join("other")).is_err());
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn of_older_copies_only_the_newest_stay() {
        let folder = tempfile::tempdir().unwrap();
        for (name, age_s) in [("now", 900), ("old", 800), ("older", 850), ("new", 100), ("newer", 50)] {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).unwrap();
            let modified = std::time::SystemTime::now() - Duration::from_secs(age_s);
            File::open(&path).unwrap().set_modified(modified).unwrap();
        }
        remove_old_copies(folder.path(), "now");
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["new", "newer", "now"]);
    }

    #[test]
    fn a_copy_that_does_not_run_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let failure = self_check(&folder.path().join("handover")).unwrap_err();
        assert!(failure.message.contains("does not run"), "{failure:?}");
    }
}
