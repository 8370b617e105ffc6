//! Reading `.zip`: its directory first and whole, then the entries, each checked against its checksum.
//!
//! It deliberately takes names, kinds and lengths from the directory alone; what stands before an entry's content is
//! only passed over.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use flate2::read::DeflateDecoder;
use host::folder;
use rawzip::{
    CompressionMethod, FileReader, RECOMMENDED_BUFFER_SIZE, ZipArchive, ZipArchiveEntryWayfinder,
    ZipFileHeaderRecord,
};

use super::Refused;
use super::source::Source;
use super::unpack::Unpacking;

/// Longest place a link leads to, as the system has it.
const LINK_BYTES_MAX: u64 = 4096;
const KIND_MODE: u32 = 0o170_000;
const DIRECTORY_MODE: u32 = 0o040_000;
const FILE_MODE: u32 = 0o100_000;
const LINK_MODE: u32 = 0o120_000;
const SET_ID_MODE: u32 = 0o6000;
const EXECUTE_MODE: u32 = 0o111;
const RIGHTS_MODE: u32 = 0o777;
/// Systems whose archives have modes: Unix and macOS.
const WITH_MODES: [u8; 2] = [3, 19];

enum Kind {
    Directory,
    /// Whether it may be run, where the archive says so.
    File(Option<bool>),
    Link,
}

struct Item {
    path: PathBuf,
    kind: Kind,
    packed_with: CompressionMethod,
    begins: u64,
    place: ZipArchiveEntryWayfinder,
}

/// How many bytes unpacking will take, as the archive says.
pub(super) fn announced_bytes(source: &Source) -> io::Result<u64> {
    let (file, _) = folder::open_plain(&source.path)?;
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let broken = |error: rawzip::Error| io::Error::new(io::ErrorKind::InvalidData, error.to_string());
    let archive = ZipArchive::from_file(file, &mut buffer).map_err(broken)?;
    let mut entries = archive.entries(&mut buffer);
    let mut bytes = 0_u64;
    while let Some(entry) = entries.next_entry().map_err(broken)? {
        bytes = bytes.saturating_add(entry.uncompressed_size_hint());
    }
    Ok(bytes)
}

pub(super) fn unpack(file: File, into: &mut Unpacking<'_>) -> Result<(), Refused> {
    let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
    let broken = |into: &Unpacking<'_>, error: rawzip::Error| into.broken_because(error.to_string());
    let archive = ZipArchive::from_file(file, &mut buffer).map_err(|error| broken(into, error))?;
    let mut items = Vec::new();
    let mut entries = archive.entries(&mut buffer);
    while let Some(entry) = entries.next_entry().map_err(|error| broken(into, error))? {
        if items.len() >= into.limits().entries as usize {
            return Err(into.limits().too_many_entries());
        }
        items.push(item(&entry, into)?);
    }
    if items.len() as u64 != archive.entries_hint() {
        return Err(into.broken_because("it does not have as many entries as it says"));
    }
    check_ranges(&archive, &items, into)?;
    for item in items {
        one(&archive, item, into)?;
    }
    Ok(())
}

fn item(entry: &ZipFileHeaderRecord<'_>, into: &mut Unpacking<'_>) -> Result<Item, Refused> {
    let name = entry.file_path();
    let name = name.as_bytes();
    let path = into.path(name)?;
    if name.contains(&b'\\') {
        return Err(into.refuse(
            &path,
            "whose name has a `\\`",
            "pack the release with a tool that writes `/`",
        ));
    }
    if entry.flags().is_encrypted() || entry.flags().has_strong_encryption() {
        return Err(into.refuse(&path, "which is encrypted", "pack the release without a password"));
    }
    let packed_with = entry.compression_method();
    if packed_with != CompressionMethod::STORE && packed_with != CompressionMethod::DEFLATE {
        let what = format!("which is packed by method {packed_with:?}");
        return Err(into.refuse(&path, &what, "only `deflate` and `store` are read"));
    }
    let system = entry.version_made_by().creator_system().as_u8();
    let mode = if WITH_MODES.contains(&system) { entry.external_attributes() >> 16 } else { 0 };
    let rights = mode & RIGHTS_MODE;
    let kind = match mode & KIND_MODE {
        _ if name.ends_with(b"/") => Kind::Directory,
        DIRECTORY_MODE => Kind::Directory,
        0 | FILE_MODE if mode & SET_ID_MODE != 0 => return Err(super::set_id(&path)),
        0 | FILE_MODE => Kind::File((rights != 0).then_some(rights & EXECUTE_MODE != 0)),
        LINK_MODE => Kind::Link,
        _ => return Err(into.refuse(&path, "a device, a socket or a named pipe", super::ONLY_PLAIN)),
    };
    Ok(Item { path, kind, packed_with, begins: entry.local_header_offset(), place: entry.wayfinder() })
}

/// Each entry has bytes of its own: what is unpacked twice from the same bytes is made to be large.
fn check_ranges(
    archive: &ZipArchive<FileReader>,
    items: &[Item],
    into: &Unpacking<'_>,
) -> Result<(), Refused> {
    let mut ranges = Vec::with_capacity(items.len());
    for item in items {
        let entry = archive.get_entry(item.place).map_err(|error| into.broken_because(error.to_string()))?;
        ranges.push((item.begins, entry.compressed_data_range().1));
    }
    ranges.push((archive.directory_offset(), u64::MAX));
    ranges.sort_unstable();
    match ranges.windows(2).all(|two| two[0].1 <= two[1].0) {
        true => Ok(()),
        false => Err(into.broken_because("entries in it overlap")),
    }
}

fn one(archive: &ZipArchive<FileReader>, item: Item, into: &mut Unpacking<'_>) -> Result<(), Refused> {
    let executable = match item.kind {
        Kind::Directory => return into.directory(&item.path),
        Kind::File(executable) => executable,
        Kind::Link => None,
    };
    let entry = archive.get_entry(item.place).map_err(|error| into.broken_because(error.to_string()))?;
    let packed = entry.reader();
    let mut content: Box<dyn Read + '_> = match item.packed_with {
        CompressionMethod::STORE => Box::new(entry.verifying_reader(packed)),
        _ => Box::new(entry.verifying_reader(DeflateDecoder::new(packed))),
    };
    if !matches!(item.kind, Kind::Link) {
        into.file(&item.path, executable, &mut content)?;
        return Ok(());
    }
    let mut leads_to = Vec::new();
    let read = content.take(LINK_BYTES_MAX + 1).read_to_end(&mut leads_to);
    read.map_err(|error| into.broken(&error))?;
    if leads_to.len() as u64 > LINK_BYTES_MAX {
        return Err(into.refuse(&item.path, "a link that is too long", super::ONLY_PLAIN));
    }
    into.link(item.path, &leads_to)
}
