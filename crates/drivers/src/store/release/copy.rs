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

use super::Refused;

/// Most bytes in the files of a release.
const BYTES_MAX: u64 = 4 << 30;
/// Most entries in a release.
const ENTRIES_MAX: u32 = 200_000;
/// Directories in directories: deeper than any real release, and safe for the stack.
const DEPTH_MAX: usize = 100;
/// Up to so many files are synced one by one; more are faster with all that waits on the file system.
const SYNCED_EACH_MAX: u32 = 64;
/// Bytes copied at a time.
const PIECE_BYTES: usize = 256 << 10;

/// The hash of what is in `source`.
pub(super) fn hash(source: &Path) -> Result<String, Refused> {
    Walk::new(source, None).run()
}

/// Copies `source` to `target`, which is not there yet, durably; the hash is of the copy.
pub(super) fn copy(source: &Path, target: &Path) -> Result<String, Refused> {
    Walk::new(source, Some(target)).run()
}

struct Walk<'a> {
    source: &'a Path,
    target: Option<&'a Path>,
    hasher: Sha256,
    bytes: u64,
    entries: u32,
    made: Vec<PathBuf>,
    piece: Vec<u8>,
}

impl<'a> Walk<'a> {
    fn new(source: &'a Path, target: Option<&'a Path>) -> Self {
        let hasher = Sha256::new();
        Self { source, target, hasher, bytes: 0, entries: 0, made: Vec::new(), piece: vec![0; PIECE_BYTES] }
    }

    fn run(mut self) -> Result<String, Refused> {
        self.make_directory(Path::new(""))?;
        self.directory(Path::new(""), 0)?;
        self.sync()?;
        Ok(self.hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
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
            if self.entries > ENTRIES_MAX {
                return Err(Refused::TooLarge(format!("{ENTRIES_MAX} files")));
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
                advice: "a release has only files, directories and links",
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
            return Err(Refused::Entry {
                path: relative.to_owned(),
                what: "a program that runs with another user's or group's rights".to_owned(),
                advice: "`chmod ug-s` removes that from it",
            });
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
        let mut left = BYTES_MAX - self.bytes;
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
        if self.bytes > BYTES_MAX {
            return Err(Refused::TooLarge(format!("{} GiB", BYTES_MAX >> 30)));
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
            return Err(Refused::Entry {
                path: relative.to_owned(),
                what: format!("a link to `{}`", leads_to.display()),
                advice: "a link must be relative, stay inside the release, and have `..` only at its beginning",
            });
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

/// Whether a link `depth` directories below the release's root leads to somewhere inside. `..` may only come first:
/// after a name that is a link itself, what `..` means cannot be read off the text.
fn stays_inside(leads_to: &Path, depth: usize) -> bool {
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
