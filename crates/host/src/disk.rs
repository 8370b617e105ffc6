//! Room on the disk.

use std::io;
use std::path::Path;

#[cfg(unix)]
#[path = "disk/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "disk/windows.rs"]
mod system;

/// Bytes that may still be written to the file system of `path`, which must exist. What it keeps back for root does
/// not count: services of other users need room too.
///
/// # Errors
/// When there is no such path, or the system does not say.
pub fn free_bytes(path: &Path) -> io::Result<u64> {
    system::free_bytes(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_room_and_a_path_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).unwrap() > 0);
        assert!(free_bytes(&folder.path().join("none")).is_err());
    }
}
