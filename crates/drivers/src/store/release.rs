//! Releases on disk: copied once to `releases/SERVICE/RELEASE/`, and never changed after that.
//!
//! ```text
//!  source ──copy, check, hash──► releases/shop/.tmp-PID-1.4.1 ──synced, renamed──► releases/shop/1.4.1
//! ```
//! A copy is plain: files, directories, and links that stay inside; no other kind of entry, no rights of others,
//! no sharing with the source. So a release that was good once starts again the same.
//!
//! It deliberately does not decide what is kept: the agent says what to remove.

mod copy;

use std::io;
use std::path::{Component, Path, PathBuf};

use agent::world::PrepareRelease;
use host::folder::{self, Kind};
use model::id::ServiceName;

/// Beginning of temporary names; no version begins with a dot. Our process id follows, so that what a former agent
/// left is told from what this one is just making.
const TEMPORARY_PREFIX: &str = ".tmp-";

/// A release that is in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Absolute path.
    pub directory: PathBuf,
    /// sha256 over the tree, in hex.
    pub hash: String,
}

/// Why a release cannot be taken. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such directory.
    #[error("the release {path} cannot be read: {error}")]
    Source {
        /// As given.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// It is not a directory.
    #[error("the release {0} is not a directory; give the directory that holds the program and its files")]
    NotADirectory(PathBuf),
    /// It would copy itself.
    #[error(
        "the release {0} contains Handover's own releases, and would contain itself; move `state_dir` out of it or \
         give a directory with the program only"
    )]
    ContainsReleases(PathBuf),
    /// Something in it cannot be part of a release.
    #[error("the release has `{path}`, {what}; {advice}")]
    Entry {
        /// Relative to the release.
        path: PathBuf,
        /// What it is.
        what: String,
        /// What to do.
        advice: &'static str,
    },
    /// It is too large.
    #[error("the release has more than {0}; is this the right directory?")]
    TooLarge(String),
    /// The version is taken.
    #[error(
        "version {version} of {service} is known with other content; give the new content another version (--version)"
    )]
    OtherContent {
        /// Service.
        service: ServiceName,
        /// Which.
        version: String,
    },
    /// Somebody changed our copy.
    #[error(
        "the copy in {0} was changed since it was deployed; give the content another version (--version), so that \
         it is copied anew"
    )]
    CopyChanged(PathBuf),
    /// The program of the command is not in it.
    #[error("the program `{program}` is not in the release: {why}")]
    Program {
        /// First word of the command.
        program: String,
        /// The cause.
        why: String,
    },
    /// The copy could not be made.
    #[error("the release could not be copied to {path}: {error}")]
    Copy {
        /// Which file.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
}

/// Brings a release into its place, or finds that it is there already.
///
/// # Errors
/// When it cannot be taken; nothing has changed then.
pub fn prepare(releases: &Path, request: &PrepareRelease) -> Result<Prepared, Refused> {
    let source = check_source(releases, &request.source)?;
    let service = releases.join(request.service.as_str());
    let directory = service.join(request.release.to_string());
    let other_content = || Refused::OtherContent {
        service: request.service.clone(),
        version: request.release.version.to_string(),
    };
    if let (Some(expected), true) = (&request.expected_hash, directory.is_dir()) {
        if copy::hash(&source)? != *expected {
            return Err(other_content());
        }
        if copy::hash(&directory)? != *expected {
            return Err(Refused::CopyChanged(directory));
        }
        check_program(&directory, &request.program)?;
        return Ok(Prepared { directory, hash: expected.clone() });
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Refused::Copy { path, error }
    };
    make_directory(&service).map_err(failed(&service))?;
    let temporary = service.join(own_prefix() + &request.release.to_string());
    remove_tree(&temporary).map_err(failed(&temporary))?;
    let taken = take(&source, &temporary, &directory, request, other_content);
    if taken.is_err() {
        let _ = remove_tree(&temporary);
    }
    taken
}

fn take(
    source: &Path,
    temporary: &Path,
    directory: &Path,
    request: &PrepareRelease,
    other_content: impl FnOnce() -> Refused,
) -> Result<Prepared, Refused> {
    let hash = copy::copy(source, temporary)?;
    if request.expected_hash.as_ref().is_some_and(|expected| *expected != hash) {
        return Err(other_content());
    }
    check_program(temporary, &request.program)?;
    let place = || {
        // Not in the record, or it would have been expected: left by a deploy that was interrupted.
        remove_tree(directory)?;
        std::fs::rename(temporary, directory)?;
        directory.parent().map_or(Ok(()), host::file::sync_directory)
    };
    place().map_err(|error| Refused::Copy { path: directory.to_owned(), error })?;
    Ok(Prepared { directory: directory.to_owned(), hash })
}

fn check_source(releases: &Path, source: &Path) -> Result<PathBuf, Refused> {
    let unreadable = |error| Refused::Source { path: source.to_owned(), error };
    // The release itself may be named by a link (`current`); only inside it links must stay inside.
    let found = source.canonicalize().map_err(unreadable)?;
    if !found.is_dir() {
        return Err(Refused::NotADirectory(source.to_owned()));
    }
    if releases.canonicalize().is_ok_and(|releases| releases.starts_with(&found)) {
        return Err(Refused::ContainsReleases(source.to_owned()));
    }
    Ok(found)
}

fn make_directory(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    folder::set_rights(path, true)
}

/// The program of the command must be there if it is named as a part of the release. A bare name comes from the
/// PATH of the instance, and an absolute one from the machine: those are looked for at the start.
fn check_program(release: &Path, program: &str) -> Result<(), Refused> {
    let refused = |why: &str| Refused::Program { program: program.to_owned(), why: why.to_owned() };
    let relative = Path::new(program);
    if !program.contains('/') || relative.is_absolute() || program.contains("${") {
        return Ok(());
    }
    if relative.components().any(|part| part == Component::ParentDir) {
        return Err(refused("its path leads out of it (`..`)"));
    }
    let path = release.join(relative);
    if !path.exists() {
        return Err(refused("there is no such file"));
    }
    if !path.is_file() {
        return Err(refused("it is not a file"));
    }
    if !folder::is_executable(&path) {
        return Err(refused("it is not executable; `chmod +x` makes it so"));
    }
    Ok(())
}

/// Deletes a release. Anything else is not touched.
///
/// # Errors
/// When it cannot be deleted, or is none.
pub fn remove(releases: &Path, service: &ServiceName, directory: &Path) -> io::Result<()> {
    let folder = releases.join(service.as_str());
    let (true, Some(name)) = (directory.parent() == Some(&folder), directory.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a release of that service"));
    };
    let mut temporary = std::ffi::OsString::from(own_prefix());
    temporary.push(name);
    let temporary = folder.join(temporary);
    remove_tree(&temporary)?;
    match std::fs::rename(directory, &temporary) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    remove_tree(&temporary)
}

fn own_prefix() -> String {
    format!("{TEMPORARY_PREFIX}{}-", host::process::current_pid())
}

fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Deletes what interrupted copies and removals left.
pub fn remove_leftovers(releases: &Path) {
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    for service in entries(releases) {
        if !folder::facts(&service.path()).is_ok_and(|facts| facts.kind == Kind::Directory) {
            continue;
        }
        for entry in entries(&service.path()) {
            let name = entry.file_name();
            let starts_with = |prefix: &str| name.as_encoded_bytes().starts_with(prefix.as_bytes());
            if starts_with(TEMPORARY_PREFIX)
                && !starts_with(&own_prefix())
                && let Err(error) = remove_tree(&entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "a left-over copy could not be removed");
            }
        }
    }
}

#[cfg(test)]
mod tests;
