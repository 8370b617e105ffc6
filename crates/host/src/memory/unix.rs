//! memfd with seals.

use std::io;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, memfd_create};
use rustix::io::{pread, write};

use super::BYTES_MAX;
use crate::Descriptor;

/// What makes the content final.
const FINAL: SealFlags = SealFlags::WRITE.union(SealFlags::SHRINK).union(SealFlags::GROW);

pub(super) fn sealed(name: &str, bytes: &[u8]) -> io::Result<Descriptor> {
    let memory = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = write(&memory, rest)?;
        rest = &rest[written..];
    }
    fcntl_add_seals(&memory, FINAL | SealFlags::SEAL)?;
    Ok(Arc::new(memory))
}

pub(super) fn read_all(memory: &Descriptor) -> io::Result<Vec<u8>> {
    if !fcntl_get_seals(memory).is_ok_and(|seals| seals.contains(FINAL)) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the descriptor is no sealed memory"));
    }
    let length = u64::try_from(fstat(memory)?.st_size).unwrap_or(u64::MAX);
    if length > BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{length} bytes of sealed memory are too many"),
        ));
    }
    let mut bytes = vec![0; usize::try_from(length).expect("invariant: BYTES_MAX fits")];
    let mut filled = 0;
    while filled < bytes.len() {
        match pread(memory, &mut bytes[filled..], filled as u64)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
    }
    Ok(bytes)
}
