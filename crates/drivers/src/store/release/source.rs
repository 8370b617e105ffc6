//! What a release is given as: a directory, an archive by the ending of its name, or a program.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use host::folder;
use model::id::{VERSION_BYTES_MAX, Version};
use sha2::{Digest, Sha256};

use super::{Refused, copy};

/// How many digits of its hash a derived version ends with.
const HASH_DIGITS: usize = 8;
/// Bytes hashed at a time.
const PIECE_BYTES: usize = 256 << 10;
/// What a file begins with that the system can run: ELF, a script, Windows.
const PROGRAM_BEGINNINGS: [&[u8]; 3] = [b"\x7fELF", b"#!", b"MZ"];
/// Endings of archives, in lower case.
const ENDINGS: [(&str, Form); 4] =
    [(".tar.gz", Form::TarGzip), (".tgz", Form::TarGzip), (".tar.zst", Form::TarZstd), (".zip", Form::Zip)];

/// How a release is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Directory,
    TarGzip,
    TarZstd,
    Zip,
    /// One executable file.
    Program,
}

/// A release as it was given, looked at.
#[derive(Debug)]
pub(super) struct Source {
    /// As given, for people.
    pub(super) given: PathBuf,
    /// With links followed: the release itself may be named by one (`current`).
    pub(super) path: PathBuf,
    pub(super) form: Form,
}

impl Source {
    pub(super) fn look(given: &Path) -> Result<Self, Refused> {
        let unreadable = |error| Refused::Source { path: given.to_owned(), error };
        let path = given.canonicalize().map_err(unreadable)?;
        let form = if path.is_dir() {
            Form::Directory
        } else if let Some((_, form)) = ending(&path) {
            form
        } else if is_program(&path).map_err(unreadable)? {
            Form::Program
        } else {
            return Err(Refused::NotARelease(given.to_owned()));
        };
        Ok(Self { given: given.to_owned(), path, form })
    }

    /// The name without the ending of an archive.
    fn plain_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let cut = ending(&self.path).filter(|_| self.form != Form::Directory).map_or(0, |(end, _)| end.len());
        name[..name.len() - cut].to_owned()
    }
}

fn ending(path: &Path) -> Option<(&'static str, Form)> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    ENDINGS.into_iter().find(|(end, _)| name.ends_with(end))
}

fn is_program(path: &Path) -> io::Result<bool> {
    let (mut file, facts) = folder::open_plain(path)?;
    let mut beginning = Vec::new();
    file.by_ref().take(4).read_to_end(&mut beginning)?;
    Ok(facts.executable || begins_a_program(&beginning))
}

/// Whether the system can run what begins so.
pub(super) fn begins_a_program(content: &[u8]) -> bool {
    PROGRAM_BEGINNINGS.iter().any(|beginning| content.starts_with(beginning))
}

/// sha256 in hex of what a release is: of the tree of a directory, of the bytes of an archive or a program.
///
/// # Errors
/// When it cannot be read, or cannot be a release.
pub fn content_hash(path: &Path) -> Result<String, Refused> {
    hash_of(&Source::look(path)?)
}

fn hash_of(source: &Source) -> Result<String, Refused> {
    if source.form == Form::Directory {
        return copy::hash(&source.path);
    }
    let hash = || {
        let (mut file, _) = folder::open_plain(&source.path)?;
        let mut hasher = Sha256::new();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(copy::hex(hasher)),
                read => hasher.update(&piece[..read]),
            }
        }
    };
    hash().map_err(|error| Refused::Source { path: source.given.clone(), error })
}

/// The version of a release that nobody gave one: its name without the ending of an archive, and the beginning of its
/// hash. So other content is another version.
///
/// # Errors
/// When it cannot be read, or cannot be a release.
pub fn derived_version(path: &Path) -> Result<Version, Refused> {
    let source = Source::look(path)?;
    let hash = hash_of(&source)?;
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = source.plain_name().chars().map(allowed).collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let name = if name.is_empty() { "release" } else { name };
    let name = &name[..name.len().min(VERSION_BYTES_MAX - HASH_DIGITS - 1)];
    let version = format!("{name}-{}", &hash[..HASH_DIGITS]);
    Ok(version.parse().expect("invariant: only allowed characters, and not too many"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_version_is_the_name_without_ending_and_the_beginning_of_the_hash() {
        let folder = tempfile::tempdir().unwrap();
        let version = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            (derived_version(&path).unwrap().to_string(), content_hash(&path).unwrap())
        };
        let (packed, hash) = version("shop-1.4.1.tar.gz", "a");
        assert_eq!(packed, format!("shop-1.4.1-{}", &hash[..8]));
        assert_eq!(version("Shop.TGZ", "a").0, format!("Shop-{}", &hash[..8]));
        assert_ne!(version("shop-1.4.1.tar.gz", "b").0, packed);
        assert!(version("shop-1.4.1.tar.zst", "a").0.starts_with("shop-1.4.1-"));
        assert!(version("_ä shop +.zip", "a").0.starts_with("shop---"));
        assert!(version(".zip", "a").0.starts_with("release-"));
        assert!(version("shop", "#!/bin/sh\n").0.starts_with("shop-"));
        let long = version(&("x".repeat(200) + ".zip"), "a").0;
        assert_eq!(long.len(), VERSION_BYTES_MAX);
    }

    #[test]
    fn the_version_of_a_directory_follows_its_content_and_a_link_to_it_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let release = folder.path().join("shop.zip");
        std::fs::create_dir(&release).unwrap();
        std::fs::write(release.join("shop"), "1").unwrap();
        folder::make_link(&release, &folder.path().join("current")).unwrap();
        let first = derived_version(&folder.path().join("current")).unwrap();
        assert_eq!(first, derived_version(&release).unwrap());
        assert!(first.to_string().starts_with("shop.zip-"));
        std::fs::write(release.join("shop"), "2").unwrap();
        assert_ne!(first, derived_version(&release).unwrap());
    }

    #[test]
    fn a_file_that_is_neither_archive_nor_program_is_no_release() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["notes.txt", "shop.tar.xz", "shop.tar"] {
            let path = folder.path().join(name);
            std::fs::write(&path, "words").unwrap();
            let said = content_hash(&path).unwrap_err().to_string();
            assert!(said.contains(name) && said.contains(".tar.gz"), "{said}");
        }
    }
}
