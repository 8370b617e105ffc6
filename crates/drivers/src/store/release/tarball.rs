//! Reading `.tar.gz` and `.tar.zst`.
//!
//! Long names and the other extensions of the format are read here, with limits: each is an entry of its own whose
//! content an archive may claim to be as long as it likes.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::MultiGzDecoder;
use host::folder;
use tar::{Archive, EntryType, Header};

use super::Refused;
use super::source::{Form, Source};
use super::unpack::Unpacking;
use super::zstd::Frames;

/// Longest extension: a path and a link of 4 KiB each, and what else there may be, several times over.
const EXTENSION_BYTES_MAX: u64 = 256 << 10;
/// What an archive's own structure may take beside its files.
const STRUCTURE_BYTES_MAX: u64 = 1 << 30;
/// gzip and zstd make at most so much of one byte; more is a lie.
const GZIP_RATIO_MAX: u64 = 1032;
/// What is assumed where an archive does not say how long it is.
const USUAL_RATIO: u64 = 4;
/// Bytes read from the disk at a time.
const BUFFER_BYTES: usize = 128 << 10;

const SET_ID_MODE: u32 = 0o6000;
const EXECUTE_MODE: u32 = 0o111;

/// How many bytes unpacking will take, as far as can be known without doing it.
pub(super) fn announced_bytes(source: &Source) -> io::Result<u64> {
    let (mut file, facts) = folder::open_plain(&source.path)?;
    if source.form == Form::TarZstd {
        let announced = Frames::new(BufReader::new(file)).announced_bytes()?;
        return Ok(announced.unwrap_or(facts.bytes.saturating_mul(USUAL_RATIO)));
    }
    // gzip ends with the length of its content, as far as 32 bits hold it.
    let mut length = [0; 4];
    file.seek(SeekFrom::End(-4))?;
    file.read_exact(&mut length)?;
    let announced = u64::from(u32::from_le_bytes(length));
    Ok(announced.clamp(facts.bytes, facts.bytes.saturating_mul(GZIP_RATIO_MAX)))
}

pub(super) fn unpack(source: &Source, file: File, into: &mut Unpacking<'_>) -> Result<(), Refused> {
    let file = BufReader::with_capacity(BUFFER_BYTES, file);
    let content: Box<dyn Read> = match source.form {
        Form::TarZstd => Box::new(Frames::new(file)),
        _ => Box::new(MultiGzDecoder::new(file)),
    };
    let left = into.limits().bytes.saturating_add(STRUCTURE_BYTES_MAX);
    let mut archive = Archive::new(Bounded { content, left });
    let mut extension = Extension::default();
    let entries = archive.entries().map_err(|error| into.broken(&error))?.raw(true);
    for entry in entries {
        let mut entry = entry.map_err(|error| into.broken(&error))?;
        let header = entry.header().clone();
        let size = header.entry_size().map_err(|error| into.broken(&error))?;
        match header.entry_type() {
            EntryType::XGlobalHeader => {}
            kind @ (EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink) => {
                let content = read_extension(&mut entry, size, into)?;
                extension.take(kind, content).map_err(|why| into.broken_because(why))?;
            }
            _ => one(&header, size, std::mem::take(&mut extension), &mut entry, into)?,
        }
    }
    // To its very end: the checksums stand there.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(|error| into.broken(&error))?;
    Ok(())
}

fn read_extension(entry: &mut impl Read, size: u64, into: &Unpacking<'_>) -> Result<Vec<u8>, Refused> {
    if size > EXTENSION_BYTES_MAX {
        return Err(into.broken_because(format!("a name or attribute in it is {size} bytes long")));
    }
    let mut content = Vec::new();
    entry.read_to_end(&mut content).map_err(|error| into.broken(&error))?;
    if content.len() as u64 != size {
        return Err(into.broken_because("it ends too early"));
    }
    Ok(content)
}

fn one(
    header: &Header,
    size: u64,
    extension: Extension,
    content: &mut impl Read,
    into: &mut Unpacking<'_>,
) -> Result<(), Refused> {
    if extension.size.is_some_and(|other| other != size) {
        return Err(into.broken_because("an entry in it has two lengths"));
    }
    let name = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
    let path = into.path(&name)?;
    let mode = header.mode().map_err(|error| into.broken(&error))?;
    match header.entry_type() {
        EntryType::Directory => into.directory(&path),
        // So the oldest tars wrote directories.
        EntryType::Regular if name.ends_with(b"/") => into.directory(&path),
        EntryType::Regular | EntryType::Continuous => {
            if extension.sparse {
                return Err(into.refuse(&path, "a file with holes", "pack the release without `--sparse`"));
            }
            if mode & SET_ID_MODE != 0 {
                return Err(super::set_id(&path));
            }
            let written = into.file(&path, Some(mode & EXECUTE_MODE != 0), content)?;
            if written == size { Ok(()) } else { Err(into.broken_because("it ends too early")) }
        }
        EntryType::Symlink => {
            let in_header = || header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
            into.link(path, &extension.link.unwrap_or_else(in_header))
        }
        EntryType::Link => Err(into.refuse(
            &path,
            "a second name of another file (a hard link)",
            "pack the release with `tar --hard-dereference`",
        )),
        EntryType::GNUSparse => {
            Err(into.refuse(&path, "a file with holes", "pack the release without `--sparse`"))
        }
        EntryType::Fifo => Err(into.refuse(&path, "a named pipe", super::ONLY_PLAIN)),
        EntryType::Char | EntryType::Block => Err(into.refuse(&path, "a device", super::ONLY_PLAIN)),
        _ => Err(into.refuse(&path, "something of an unknown kind", super::ONLY_PLAIN)),
    }
}

/// What extensions say about the entry after them.
#[derive(Debug, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl Extension {
    fn take(&mut self, kind: EntryType, mut content: Vec<u8>) -> Result<(), &'static str> {
        if kind == EntryType::XHeader {
            return self.take_records(&content).ok_or("an attribute in it makes no sense");
        }
        while content.last() == Some(&0) {
            content.pop();
        }
        let place = if kind == EntryType::GNULongName { &mut self.path } else { &mut self.link };
        *place = Some(content);
        Ok(())
    }

    /// `LENGTH KEY=VALUE\n`, where the length is that of the whole record.
    fn take_records(&mut self, mut content: &[u8]) -> Option<()> {
        while !content.is_empty() {
            let space = content.iter().position(|byte| *byte == b' ')?;
            let length: usize = std::str::from_utf8(&content[..space]).ok()?.parse().ok()?;
            let record = content.get(space + 1..length)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(value.to_owned()),
                b"linkpath" => self.link = Some(value.to_owned()),
                b"size" => self.size = Some(std::str::from_utf8(value).ok()?.parse().ok()?),
                _ => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
            content = &content[length..];
        }
        Some(())
    }
}

/// Ends with an error where a stream is longer than anything that would be taken of it.
struct Bounded {
    content: Box<dyn Read>,
    left: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_by_their_lengths_and_nonsense_is_noticed() {
        let mut extension = Extension::default();
        let records = b"20 path=a\nlong name\n11 size=42\n16 x.xattr=a\n\n\0\n17 linkpath=../x\n";
        assert!(extension.take_records(records).is_some());
        assert_eq!(extension.path.as_deref(), Some(b"a\nlong name".as_slice()));
        assert_eq!(extension.link.as_deref(), Some(b"../x".as_slice()));
        assert_eq!((extension.size, extension.sparse), (Some(42), false));
        assert!(extension.take_records(b"22 GNU.sparse.major=1\n").is_some());
        assert!(extension.sparse);
        for nonsense in
            [&b"path=a\n"[..], b"99 path=a\n", b"9 path=a ", b"1 path=a\n", b"x a=b\n", b"11 size=4x\n"]
        {
            assert!(Extension::default().take_records(nonsense).is_none(), "{nonsense:?}");
        }
    }
}
