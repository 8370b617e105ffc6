//! Writing what an archive says into an empty directory, and nowhere else.
//!
//! ```text
//!  entry ──name checked──► directories at once ── files at once, never over anything ── links when all else is there
//! ```
//! While files are written there is not one link in the directory, so no name can lead through one. What is counted
//! is what arrives, not what the archive says of itself.
//!
//! It deliberately knows no format of archives; and it trusts none: the tree is walked again for its hash, with the
//! same rules as a directory that is copied.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use host::folder::{self, Kind};

use super::copy::{self, Limits};
use super::source::{self, Source};
use super::{Refused, room};

/// Bytes of all names and links together: they are in memory at once.
const NAME_BYTES_MAX: usize = 64 << 20;
/// Bytes written at a time.
const PIECE_BYTES: usize = 128 << 10;
/// Up to so many files are synced one by one; more are faster with all that waits on the file system.
const SYNCED_EACH_MAX: usize = 64;

const REPACK: &str = "pack the release anew without it";

/// An archive on its way to files.
pub(super) struct Unpacking<'a> {
    source: &'a Source,
    target: &'a Path,
    limits: &'a Limits,
    bytes: u64,
    looked_at: u64,
    entries: u32,
    name_bytes: usize,
    directories: HashSet<PathBuf>,
    files: Vec<PathBuf>,
    links: Vec<(PathBuf, PathBuf)>,
    piece: Vec<u8>,
}

impl<'a> Unpacking<'a> {
    /// `target` is not there yet.
    pub(super) fn begin(source: &'a Source, target: &'a Path, limits: &'a Limits) -> Result<Self, Refused> {
        let made = std::fs::create_dir(target).and_then(|()| folder::set_rights(target, true));
        made.map_err(|error| Refused::Copy { path: target.to_owned(), error })?;
        Ok(Self {
            source,
            target,
            limits,
            bytes: 0,
            looked_at: 0,
            entries: 0,
            name_bytes: 0,
            directories: HashSet::from([PathBuf::new()]),
            files: Vec::new(),
            links: Vec::new(),
            piece: vec![0; PIECE_BYTES],
        })
    }

    /// How much and how many.
    pub(super) fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// For what the archive itself gets wrong.
    pub(super) fn broken(&self, error: &io::Error) -> Refused {
        if error.kind() == io::ErrorKind::FileTooLarge {
            return self.limits.too_many_bytes();
        }
        self.broken_because(error.to_string())
    }

    /// The same in words.
    pub(super) fn broken_because(&self, why: impl Into<String>) -> Refused {
        Refused::Archive { path: self.source.given.clone(), why: why.into() }
    }

    fn failed(&self, path: &Path) -> impl FnOnce(io::Error) -> Refused + use<> {
        let path = self.target.join(path);
        move |error| Refused::Copy { path, error }
    }

    /// A name as it stands in an archive, as a path below the target. Empty: the target itself.
    pub(super) fn path(&mut self, name: &[u8]) -> Result<PathBuf, Refused> {
        let refused = |what: &str, advice| {
            let path = String::from_utf8_lossy(name).into_owned().into();
            Err(Refused::Entry { path, what: what.to_owned(), advice })
        };
        let Ok(text) = std::str::from_utf8(name) else {
            return refused("whose name is not UTF-8", "pack the release anew with names in UTF-8");
        };
        if text.contains('\0') {
            return refused("whose name has a zero byte", REPACK);
        }
        let mut path = PathBuf::new();
        let mut depth = 0;
        for part in Path::new(text).components() {
            match part {
                Component::CurDir => {}
                Component::Normal(name) => {
                    path.push(name);
                    depth += 1;
                }
                Component::ParentDir => return refused("whose name leads upwards (`..`)", REPACK),
                Component::RootDir | Component::Prefix(_) => {
                    return refused(
                        "whose name is absolute",
                        "pack the release from inside its directory (`tar -C DIRECTORY … .`)",
                    );
                }
            }
        }
        self.name_bytes += text.len();
        if depth > copy::DEPTH_MAX {
            return Err(Refused::TooLarge(format!("{} directories in each other", copy::DEPTH_MAX)));
        }
        if self.name_bytes > NAME_BYTES_MAX {
            return Err(Refused::TooLarge(format!("{} of names", room::human(NAME_BYTES_MAX as u64))));
        }
        Ok(path)
    }

    fn count(&mut self) -> Result<(), Refused> {
        self.entries += 1;
        if self.entries > self.limits.entries { Err(self.limits.too_many_entries()) } else { Ok(()) }
    }

    /// A directory and those it is in; there already is fine.
    pub(super) fn directory(&mut self, path: &Path) -> Result<(), Refused> {
        if self.directories.contains(path) {
            return Ok(());
        }
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        self.count()?;
        let whole = self.target.join(path);
        std::fs::create_dir(&whole).map_err(|error| self.taken(path, error))?;
        folder::set_rights(&whole, true).map_err(self.failed(path))?;
        self.directories.insert(path.to_owned());
        Ok(())
    }

    /// What could not be made because something else is there.
    fn taken(&self, path: &Path, error: io::Error) -> Refused {
        match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => {
                Refused::Entry {
                    path: path.to_owned(),
                    what: "which is there twice".to_owned(),
                    advice: "pack the release anew, each name once (upper and lower case may be the same)",
                }
            }
            _ => Refused::Copy { path: self.target.join(path), error },
        }
    }

    /// A file. `executable` is `None` where the archive does not say: then what is in it decides.
    pub(super) fn file(
        &mut self,
        path: &Path,
        executable: Option<bool>,
        content: &mut dyn Read,
    ) -> Result<u64, Refused> {
        let Some(parent) = path.parent() else {
            return Err(self.broken_because("it has a file without a name"));
        };
        self.directory(parent)?;
        self.count()?;
        let whole = self.target.join(path);
        let opened = OpenOptions::new().write(true).create_new(true).open(&whole);
        let mut file = opened.map_err(|error| self.taken(path, error))?;
        let mut written = 0_u64;
        let mut runs = executable;
        loop {
            let read = read_full(content, &mut self.piece).map_err(|error| self.broken(&error))?;
            if runs.is_none() {
                runs = Some(source::begins_a_program(&self.piece[..read]));
            }
            if read == 0 {
                break;
            }
            written += read as u64;
            self.count_bytes(read as u64)?;
            file.write_all(&self.piece[..read]).map_err(self.failed(path))?;
        }
        folder::set_rights(&whole, runs.unwrap_or(false)).map_err(self.failed(path))?;
        if self.files.len() <= SYNCED_EACH_MAX {
            self.files.push(whole);
        }
        Ok(written)
    }

    fn count_bytes(&mut self, more: u64) -> Result<(), Refused> {
        self.bytes += more;
        if self.bytes > self.limits.bytes {
            return Err(self.limits.too_many_bytes());
        }
        if self.bytes - self.looked_at >= room::LOOK_BYTES {
            self.looked_at = self.bytes;
            room::check_on_the_way(self.target, self.bytes)?;
        }
        Ok(())
    }

    /// A link, made when all files are there.
    pub(super) fn link(&mut self, path: PathBuf, leads_to: &[u8]) -> Result<(), Refused> {
        let Some(parent) = path.parent() else {
            return Err(self.broken_because("it has a link without a name"));
        };
        self.directory(parent)?;
        self.count()?;
        self.name_bytes += leads_to.len();
        let depth = path.components().count() - 1;
        let target =
            std::str::from_utf8(leads_to).ok().filter(|text| !text.is_empty() && !text.contains('\0'));
        match target.map(PathBuf::from) {
            Some(target) if copy::stays_inside(&target, depth) => {
                self.links.push((path, target));
                Ok(())
            }
            _ => Err(copy::leads_out(&path, &String::from_utf8_lossy(leads_to))),
        }
    }

    /// What it is not allowed to be.
    pub(super) fn refuse(&self, path: &Path, what: &str, advice: &'static str) -> Refused {
        Refused::Entry { path: path.to_owned(), what: what.to_owned(), advice }
    }

    /// Makes the links, and puts everything on the disk.
    pub(super) fn finish(self) -> Result<(), Refused> {
        if self.entries == 0 {
            return Err(self.broken_because("there is nothing in it"));
        }
        for (path, leads_to) in &self.links {
            folder::make_link(leads_to, &self.target.join(path)).map_err(|error| self.taken(path, error))?;
        }
        self.sync().map_err(self.failed(Path::new("")))
    }

    fn sync(&self) -> io::Result<()> {
        if self.files.len() > SYNCED_EACH_MAX || self.directories.len() > SYNCED_EACH_MAX {
            return folder::sync_all_of(self.target);
        }
        let sync = |path: &PathBuf| OpenOptions::new().write(true).open(path)?.sync_all();
        self.files.iter().try_for_each(sync)?;
        self.directories.iter().try_for_each(|path| host::file::sync_directory(&self.target.join(path)))
    }
}

/// Reads until the piece is full or there is no more.
fn read_full(from: &mut dyn Read, piece: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < piece.len() {
        match from.read(&mut piece[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The directory that holds everything there is, as many archives are packed: `shop-1.4.1/…`.
pub(super) fn only_directory(unpacked: &Path) -> Option<PathBuf> {
    let mut entries = std::fs::read_dir(unpacked).ok()?;
    let first = entries.next()?.ok()?.path();
    let alone = entries.next().is_none();
    let directory = folder::facts(&first).is_ok_and(|facts| facts.kind == Kind::Directory);
    (alone && directory).then_some(first)
}
