//! Releases on disk: copied once to `releases/SERVICE/RELEASE/`, and never changed after that.
//!
//! ```text
//!  directory ──copy───┐
//!  archive ───unpack──┼──check, hash──► releases/shop/.tmp-PID-1.4.1 ──synced, renamed──► releases/shop/1.4.1
//!  program ───copy────┘
//! ```
//! What is there then is plain: files, directories, and links that stay inside; no other kind of entry, no rights of
//! others, no sharing with the source. So a release that was good once starts again the same.
//!
//! It deliberately does not decide what is kept: the agent says what to remove.

mod copy;
mod room;
mod source;
mod tarball;
mod unpack;
mod zipped;
mod zstd;

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Component, Path, PathBuf};

use agent::world::PrepareRelease;
use host::folder::{self, Kind};
use model::id::ServiceName;

use copy::Limits;
use source::{Form, Source};
pub use source::{content_hash, derived_version};
use unpack::Unpacking;

/// Beginning of temporary names; no version begins with a dot. Our process id follows, so that what a former agent
/// left is told from what this one is just making.
const TEMPORARY_PREFIX: &str = ".tmp-";
/// What to do about anything else.
const ONLY_PLAIN: &str = "a release has only files, directories and links";

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
    /// There is no such thing, or not for us.
    #[error("the release {path} cannot be read: {error}")]
    Source {
        /// As given.
        path: PathBuf,
        /// The cause.
        error: io::Error,
    },
    /// It is of no known kind.
    #[error(
        "the release {0} is neither a directory nor an archive (.tar.gz, .tgz, .tar.zst, .zip) nor a program; give one \
         of these"
    )]
    NotARelease(PathBuf),
    /// It is an archive that cannot be unpacked.
    #[error("the archive {path} cannot be unpacked: {why}; see whether it came here whole, or pack it anew")]
    Archive {
        /// As given.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// The disk has no room for it.
    #[error(
        "the release does not fit on the disk of {place}: it needs {} and {} to spare, and {} are free; delete what is \
         not needed there",
        room::human(*needed),
        room::human(*spare),
        room::human(*free)
    )]
    NoRoom {
        /// Where it would go.
        place: PathBuf,
        /// Its bytes.
        needed: u64,
        /// What must stay free.
        spare: u64,
        /// What is free.
        free: u64,
    },
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
    #[error("the release has more than {0}, which is the most it may have; is this the right one?")]
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
    // A rollout waits for the answer: also where a hostile archive finds a fault in what reads it.
    let work = AssertUnwindSafe(|| prepare_within(releases, request, &Limits::RELEASE));
    std::panic::catch_unwind(work).unwrap_or_else(|_| {
        let _ = remove_tree(&temporary_of(releases, request));
        Err(Refused::Archive { path: request.source.clone(), why: "what is in it makes no sense".to_owned() })
    })
}

fn prepare_within(releases: &Path, request: &PrepareRelease, limits: &Limits) -> Result<Prepared, Refused> {
    let source = Source::look(&request.source)?;
    if source.form == Form::Directory
        && releases.canonicalize().is_ok_and(|releases| releases.starts_with(&source.path))
    {
        return Err(Refused::ContainsReleases(source.given));
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Refused::Copy { path, error }
    };
    let service = releases.join(request.service.as_str());
    make_directory(&service).map_err(failed(&service))?;
    let temporary = temporary_of(releases, request);
    remove_tree(&temporary).map_err(failed(&temporary))?;
    let taken = take(&source, &temporary, releases, request, limits);
    // Where it is in its place by now, at most an empty directory is left of this.
    let removed = remove_tree(&temporary);
    if taken.is_ok() {
        removed.map_err(failed(&temporary))?;
    }
    taken
}

fn temporary_of(releases: &Path, request: &PrepareRelease) -> PathBuf {
    releases.join(request.service.as_str()).join(own_prefix() + &request.release.to_string())
}

fn take(
    source: &Source,
    temporary: &Path,
    releases: &Path,
    request: &PrepareRelease,
    limits: &Limits,
) -> Result<Prepared, Refused> {
    let directory = releases.join(request.service.as_str()).join(request.release.to_string());
    let is_there = request.expected_hash.is_some() && directory.is_dir();
    let (root, hash) = if is_there && source.form == Form::Directory {
        (directory.clone(), copy::hash(&source.path)?)
    } else {
        check_room(source, releases, request, limits)?;
        fetch(source, temporary, request, limits)?
    };
    if request.expected_hash.as_ref().is_some_and(|expected| *expected != hash) {
        let (service, version) = (request.service.clone(), request.release.version.to_string());
        return Err(Refused::OtherContent { service, version });
    }
    if is_there {
        if copy::hash(&directory)? != hash {
            return Err(Refused::CopyChanged(directory));
        }
        check_program(&directory, &request.program)?;
        return Ok(Prepared { directory, hash });
    }
    check_program(&root, &request.program)?;
    let place = || {
        // Not in the record, or it would have been expected: left by a deploy that was interrupted.
        remove_tree(&directory)?;
        std::fs::rename(&root, &directory)?;
        directory.parent().map_or(Ok(()), host::file::sync_directory)
    };
    place().map_err(|error| Refused::Copy { path: directory.clone(), error })?;
    Ok(Prepared { directory, hash })
}

/// Refuses what would fill the disk, before anything is written. What interrupted copies left goes first.
fn check_room(
    source: &Source,
    releases: &Path,
    request: &PrepareRelease,
    limits: &Limits,
) -> Result<(), Refused> {
    let broken = |error: io::Error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            Refused::Archive { path: source.given.clone(), why: error.to_string() }
        }
        _ => Refused::Source { path: source.given.clone(), error },
    };
    let needed = match source.form {
        Form::Directory => room::bytes_below(&source.path),
        Form::Program => folder::facts(&source.path).map_err(broken)?.bytes,
        Form::TarGzip | Form::TarZstd => tarball::announced_bytes(source).map_err(broken)?,
        Form::Zip => zipped::announced_bytes(source).map_err(broken)?,
    };
    if needed > limits.bytes && source.form != Form::TarGzip && source.form != Form::TarZstd {
        return Err(limits.too_many_bytes());
    }
    room::check(&releases.join(request.service.as_str()), needed.min(limits.bytes), || {
        remove_leftovers(releases)
    })
}

/// Makes a tree of the source, complete and durable, in the temporary directory or just below it; and its hash.
fn fetch(
    source: &Source,
    temporary: &Path,
    request: &PrepareRelease,
    limits: &Limits,
) -> Result<(PathBuf, String), Refused> {
    if source.form == Form::Directory {
        return Ok((temporary.to_owned(), copy::copy(&source.path, temporary, limits)?));
    }
    let unreadable = |error| Refused::Source { path: source.given.clone(), error };
    let (mut file, facts) = folder::open_plain(&source.path).map_err(unreadable)?;
    let mut into = Unpacking::begin(source, temporary, limits)?;
    if source.form == Form::Program {
        let name = program_name(source, &request.program);
        if facts.set_id {
            return Err(set_id(&name));
        }
        into.file(&name, Some(true), &mut file)?;
        into.finish()?;
        return Ok((temporary.to_owned(), copy::hash(temporary)?));
    }
    match source.form {
        Form::Zip => zipped::unpack(file, &mut into)?,
        _ => tarball::unpack(source, file, &mut into)?,
    }
    into.finish()?;
    choose_root(temporary, request)
}

/// A single executable gets the name that the command has for it (`./shop`), whatever the file is called.
fn program_name(source: &Source, program: &str) -> PathBuf {
    let mut parts = Path::new(program).components().filter(|part| *part != Component::CurDir);
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(name)), None) if program.contains('/') && !program.contains("${") => {
            name.into()
        }
        _ => source.path.file_name().unwrap_or_default().into(),
    }
}

/// Many archives hold one directory, and everything in that (`shop-1.4.1/…`). It is the release where what the command
/// names is found in it only.
fn choose_root(unpacked: &Path, request: &PrepareRelease) -> Result<(PathBuf, String), Refused> {
    let whole = unpacked.to_owned();
    let Some(top) = unpack::only_directory(unpacked) else {
        let hash = copy::hash(&whole)?;
        return Ok((whole, hash));
    };
    let named: Vec<&String> = if is_part_of_release(&request.program) {
        vec![&request.program]
    } else {
        // `node server.js`: options are no files, and what is elsewhere on the machine is not looked for.
        let in_release = |word: &&String| !word.starts_with('-') && !Path::new(word).is_absolute();
        request.arguments.iter().filter(in_release).collect()
    };
    let found = |root: &Path| named.iter().any(|word| folder::facts(&root.join(word)).is_ok());
    let inside = !found(&whole) && found(&top);
    let (first, second) = if inside { (top, whole) } else { (whole, top) };
    let hash = copy::hash(&first)?;
    // Another configuration of a version may have another command; its content was chosen when it came.
    if let Some(expected) = request.expected_hash.as_ref().filter(|expected| **expected != hash)
        && copy::hash(&second).is_ok_and(|other| other == *expected)
    {
        return Ok((second, expected.clone()));
    }
    Ok((first, hash))
}

fn set_id(path: &Path) -> Refused {
    Refused::Entry {
        path: path.to_owned(),
        what: "a program that runs with another user's or group's rights".to_owned(),
        advice: "`chmod ug-s` removes that from it",
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        made => made?,
    }
    folder::set_rights(path, true)
}

/// Whether the program of the command is named as a part of the release. A bare name comes from the PATH of the
/// instance, and an absolute one from the machine: those are looked for at the start.
fn is_part_of_release(program: &str) -> bool {
    program.contains('/') && !Path::new(program).is_absolute() && !program.contains("${")
}

fn check_program(release: &Path, program: &str) -> Result<(), Refused> {
    let refused = |why: String| Refused::Program { program: program.to_owned(), why };
    if !is_part_of_release(program) {
        return Ok(());
    }
    let relative = Path::new(program);
    if relative.components().any(|part| part == Component::ParentDir) {
        return Err(refused("its path leads out of it (`..`)".to_owned()));
    }
    let path = release.join(relative);
    if !path.exists() {
        let elsewhere =
            elsewhere(release, relative).map(|found| format!("; but there is `{}`", found.display()));
        return Err(refused("there is no such file".to_owned() + &elsewhere.unwrap_or_default()));
    }
    if !path.is_file() {
        return Err(refused("it is not a file".to_owned()));
    }
    if !folder::is_executable(&path) {
        return Err(refused("it is not executable; `chmod +x` makes it so".to_owned()));
    }
    Ok(())
}

/// The same program one directory further down, for the error.
fn elsewhere(release: &Path, program: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(release).ok()?.flatten();
    let inside =
        |name: std::ffi::OsString| Path::new(&name).join(program.strip_prefix(".").unwrap_or(program));
    entries.map(|entry| inside(entry.file_name())).find(|path| release.join(path).is_file())
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
