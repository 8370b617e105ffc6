//! Whether a release fits on the disk, asked before the first byte is written and again on the way.
//!
//! A full disk stops more than a deploy: logs, history, other services. So a part always stays free.

use std::path::Path;

use host::folder::{self, Kind};

use super::Refused;

/// Stays free at least.
const SPARE_BYTES_MIN: u64 = 64 << 20;
/// Stays free, as a part of what the release needs.
const SPARE_DIVISOR: u64 = 10;
/// While a release is unpacked the disk is looked at after so many bytes.
pub(super) const LOOK_BYTES: u64 = 32 << 20;
/// While a release is unpacked so much must be left: by then it is known to need more than it said.
const LEFT_BYTES_MIN: u64 = 32 << 20;

/// Refuses what does not fit into the file system of `place`, after `make_room` had its chance.
pub(super) fn check(place: &Path, needed: u64, make_room: impl FnOnce()) -> Result<(), Refused> {
    let spare = (needed / SPARE_DIVISOR).max(SPARE_BYTES_MIN);
    let short = || {
        // Where the system does not say, the unpacking itself will find out.
        let free = host::disk::free_bytes(place).ok()?;
        (free < needed.saturating_add(spare)).then_some(free)
    };
    if short().is_none() {
        return Ok(());
    }
    make_room();
    match short() {
        Some(free) => Err(Refused::NoRoom { place: place.to_owned(), needed, spare, free }),
        None => Ok(()),
    }
}

/// Refuses to go on when what is left has become too little.
pub(super) fn check_on_the_way(place: &Path, written: u64) -> Result<(), Refused> {
    match host::disk::free_bytes(place) {
        Ok(free) if free < LEFT_BYTES_MIN => {
            Err(Refused::NoRoom { place: place.to_owned(), needed: written, spare: LEFT_BYTES_MIN, free })
        }
        _ => Ok(()),
    }
}

/// Bytes in the files below a directory, for an estimate: what cannot be read counts nothing.
pub(super) fn bytes_below(directory: &Path) -> u64 {
    let mut bytes = 0_u64;
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().flatten() {
            match folder::facts(&entry.path()) {
                Ok(facts) if facts.kind == Kind::Directory => waiting.push(entry.path()),
                Ok(facts) if facts.kind == Kind::File => bytes = bytes.saturating_add(facts.bytes),
                _ => {}
            }
        }
    }
    bytes
}

/// Bytes for people.
pub(super) fn human(bytes: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    for (unit, name) in UNITS {
        if bytes >= unit {
            let tenths = bytes.saturating_mul(10) / unit;
            return format!("{}.{} {name}", tenths / 10, tenths % 10);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_with_the_numbers_and_only_after_room_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let mut asked = false;
        check(folder.path(), 1, || asked = true).unwrap();
        assert!(!asked);
        let said = check(folder.path(), 1 << 60, || asked = true).unwrap_err().to_string();
        assert!(asked);
        assert!(said.contains("1073741824.0 GiB") && said.contains("free"), "{said}");
        check_on_the_way(folder.path(), 1).unwrap();
    }

    #[test]
    fn bytes_are_said_in_the_unit_that_reads_best() {
        for (bytes, text) in
            [(12, "12 bytes"), (1536, "1.5 KiB"), (310 << 20, "310.0 MiB"), (4 << 30, "4.0 GiB")]
        {
            assert_eq!(human(bytes), text);
        }
    }
}
