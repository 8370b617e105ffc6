//! Walking a release: into a copy, or only for its hash.
//!
//! The hash is sha256 over the entries in the order of their paths, each as
//! `KIND LENGTH-OF-PATH PATH LENGTH-OF-CONTENT CONTENT`, with numbers as eight bytes. A kind is `d`, `f`, `x` (an
//! executable file) or `l` (content: where it leads). Times, owners and other rights are not part of it, so the same
//! content has the same hash on every machine.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use host::folder::{self, Facts, Kind};
use sha2::{Digest, Sha256};

use super::{Refused, room};

/// Directories in directories: deeper than any real release, and safe for the stack.
pub(super) const DEPTH_MAX: usize = 100;
/// Up to so many files are synced one by one; more are faster with all that waits on the file system.
const SYNCED_EACH_MAX: u32 = 64;
/// Bytes copied at a time.
const PIECE_BYTES: usize = 256 << 10;

/// How large a release may be.
#[derive(Debug)]
pub(super) struct Limits {
    /// Bytes in its files.
    pub(super) bytes: u64,
    /// Files, directories and links.
    pub(super) entries: u32,
}

impl Limits {
    /// Of any release.
    pub(super) const RELEASE: Self = Self { bytes: 4 << 30, entries: 200_000 };

    pub(super) fn too_many_bytes(&self) -> Refused {
        Refused::TooLarge(room::human(self.bytes))
    }

    pub(super) fn too_many_entries(&self) -> Refused {
        Refused::TooLarge(format!("{} files", self.entries))
    }
}

/// The hash of what is in `source`.
pub(super) fn hash(source: &Path) -> Result<String, Refused> {
    Walk::new(source, None, &Limits::RELEASE).run()
}

/// Copies `source` to `target`, which is not there yet, durably; the hash is of the copy.
pub(super) fn copy(source: &Path, target: &Path, limits: &Limits) -> Result<String, Refused> {
    Walk::new(source, Some(target), limits).run()
}

pub(super) fn hex(hasher: Sha256) -> String {
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Walk<'a> {
    source: &'a Path,
    target: Option<&'a Path>,
    limits: &'a Limits,
    hasher: Sha256,
    bytes: u64,
    entries: u32,
    made: Vec<PathBuf>,
    piece: Vec<u8>,
}

impl<'a> Walk<'a> {
    fn new(source: &'a Path, target: Option<&'a Path>, limits: &'a Limits) -> Self {
        let (hasher, piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
        Self { source, target, limits, hasher, bytes: 0, entries: 0, made: Vec::new(), piece }
    }

    fn run(mut self) -> Result<String, Refused> {
        self.make_directory(Path::new(""))?;
        self.directory(Path::new(""), 0)?;
        self.sync()?;
        Ok(hex(self.hasher))
    }

    fn unreadable(&self, relative: &Path) -> impl FnOnce(io::Error) -> Refused + use<> {
        let path = self.source.join(relative);
        move |error| Refused::Source { path, error }
    }

    fn uncopied(&self, relative: &Path) -> impl FnOnce(io::Error) -> Refused + use<> {
        let path = self.target.map(|target| target.join(relative)).unwrap_or_default();
        move |error| Refused::Copy { path, error }
    }

    fn directory(&mut self, relative: &Path, depth: usize) -> Result<(), Refused> {
        if depth > DEPTH_MAX {
            return Err(Refused::TooLarge(format!("{DEPTH_MAX} directories in each other")));
        }
        let read = || -> io::Result<Vec<_>> {
            std::fs::read_dir(self.source.join(relative))?.map(|entry| Ok(entry?.file_name())).collect()
        };
        let mut names = read().map_err(self.unreadable(relative))?;
        names.sort_unstable();
        for name in names {
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(self.limits.too_many_entries());
            }
            self.entry(&relative.join(name), depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, relative: &Path, depth: usize) -> Result<(), Refused> {
        let path = self.source.join(relative);
        let facts = folder::facts(&path).map_err(self.unreadable(relative))?;
        match facts.kind {
            Kind::Directory => {
                self.begin(b'd', relative, 0);
                self.make_directory(relative)?;
                self.directory(relative, depth + 1)
            }
            Kind::File => self.file(relative),
            Kind::Link => self.link(relative, depth),
            Kind::Other(what) => Err(Refused::Entry {
                path: relative.to_owned(),
                what: what.to_owned(),
                advice: super::ONLY_PLAIN,
            }),
        }
    }

    fn begin(&mut self, kind: u8, relative: &Path, content_length: u64) {
        let path = relative.as_os_str().as_encoded_bytes();
        self.hasher.update([kind]);
        self.hasher.update((path.len() as u64).to_be_bytes());
        self.hasher.update(path);
        self.hasher.update(content_length.to_be_bytes());
    }

    fn make_directory(&mut self, relative: &Path) -> Result<(), Refused> {
        let Some(target) = self.target else { return Ok(()) };
        let path = target.join(relative);
        let make = || {
            std::fs::create_dir(&path)?;
            folder::set_rights(&path, true)
        };
        make().map_err(self.uncopied(relative))?;
        self.note_made(path);
        Ok(())
    }

    fn note_made(&mut self, path: PathBuf) {
        if self.entries <= SYNCED_EACH_MAX {
            self.made.push(path);
        }
    }

    fn file(&mut self, relative: &Path) -> Result<(), Refused> {
        let (source, facts) =
            folder::open_plain(&self.source.join(relative)).map_err(self.unreadable(relative))?;
        if facts.set_id {
            return Err(super::set_id(relative));
        }
        let Some(target) = self.target else { return self.hash_file(&source, relative, facts) };
        let path = target.join(relative);
        let copy = self.copy_content(&source, &path).map_err(self.uncopied(relative))?;
        folder::set_rights(&path, facts.executable).map_err(self.uncopied(relative))?;
        // What counts is what the copy has: the source may be changing under our hands.
        let facts = Facts { bytes: copy.metadata().map_err(self.uncopied(relative))?.len(), ..facts };
        self.hash_file(&copy, relative, facts)?;
        self.note_made(path);
        Ok(())
    }

    fn copy_content(&mut self, mut source: &File, path: &Path) -> io::Result<File> {
        let mut copy = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        if folder::share_content(source, &copy) {
            return Ok(copy);
        }
        let mut left = self.limits.bytes.saturating_sub(self.bytes);
        loop {
            let read = source.read(&mut self.piece)?;
            if read == 0 {
                break;
            }
            left =
                left.checked_sub(read as u64).ok_or_else(|| io::Error::other("the release is too large"))?;
            copy.write_all(&self.piece[..read])?;
        }
        io::Seek::rewind(&mut copy)?;
        Ok(copy)
    }

    fn hash_file(&mut self, mut file: &File, relative: &Path, facts: Facts) -> Result<(), Refused> {
        self.bytes = self.bytes.saturating_add(facts.bytes);
        if self.bytes > self.limits.bytes {
            return Err(self.limits.too_many_bytes());
        }
        self.begin(if facts.executable { b'x' } else { b'f' }, relative, facts.bytes);
        let mut left = facts.bytes;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            match file.read(&mut self.piece[..most]) {
                Ok(0) => {
                    let error =
                        io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter while it was read");
                    return Err(self.unreadable(relative)(error));
                }
                Ok(read) => {
                    self.hasher.update(&self.piece[..read]);
                    left -= read as u64;
                }
                Err(error) => return Err(self.unreadable(relative)(error)),
            }
        }
        Ok(())
    }

    fn link(&mut self, relative: &Path, depth: usize) -> Result<(), Refused> {
        let leads_to = std::fs::read_link(self.source.join(relative)).map_err(self.unreadable(relative))?;
        if !stays_inside(&leads_to, depth) {
            return Err(leads_out(relative, &leads_to.display().to_string()));
        }
        self.begin(b'l', relative, leads_to.as_os_str().len() as u64);
        self.hasher.update(leads_to.as_os_str().as_encoded_bytes());
        if let Some(target) = self.target {
            folder::make_link(&leads_to, &target.join(relative)).map_err(self.uncopied(relative))?;
        }
        Ok(())
    }

    /// The record will say that the release is there: so it must be, whatever happens to the machine.
    fn sync(&self) -> Result<(), Refused> {
        let Some(target) = self.target else { return Ok(()) };
        if self.entries > SYNCED_EACH_MAX {
            return folder::sync_all_of(target).map_err(self.uncopied(Path::new("")));
        }
        let sync = |path: &PathBuf| match path.is_dir() {
            true => host::file::sync_directory(path),
            false => OpenOptions::new().write(true).open(path)?.sync_all(),
        };
        self.made.iter().rev().try_for_each(sync).map_err(self.uncopied(Path::new("")))
    }
}

/// The refusal of a link that leads out.
pub(super) fn leads_out(path: &Path, leads_to: &str) -> Refused {
    Refused::Entry {
        path: path.to_owned(),
        what: format!("a link to `{leads_to}`"),
        advice: "a link must be relative, stay inside the release, and have `..` only at its beginning",
    }
}

/// Whether a link `depth` directories below the release's root leads to somewhere inside. `..` may only come first:
/// after a name that is a link itself, what `..` means cannot be read off the text.
pub(super) fn stays_inside(leads_to: &Path, depth: usize) -> bool {
    let mut up = 0;
    let mut down = false;
    for part in leads_to.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if !down => up += 1,
            Component::Normal(_) => down = true,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    up <= depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_inside_if_every_reading_of_it_is() {
        for (leads_to, depth, inside) in [
            ("shop", 0, true),
            ("./lib/libx.so.1", 0, true),
            ("../shop", 1, true),
            ("..", 1, true),
            ("../shop", 0, false),
            ("../../shop", 1, false),
            ("/etc/passwd", 3, false),
            ("lib/../../x", 1, false),
            ("lib/../x", 0, false),
        ] {
            assert_eq!(stays_inside(Path::new(leads_to), depth), inside, "{leads_to} at {depth}");
        }
    }
}
