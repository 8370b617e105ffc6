//! Sealed memory, private files, space, the lock.
#![cfg(unix)]

use std::fs::File;
use std::io::{Seek, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use host::file::{Lock, preallocate, punch_hole, write_private};
use host::memory::{read_all, sealed};

#[test]
fn sealed_memory_reads_whole_however_often_and_cannot_be_changed() {
    let memory = sealed("test", b"content").unwrap();
    for _ in 0..2 {
        assert_eq!(read_all(&memory).unwrap(), b"content");
    }
    let mut file =
        File::options().write(true).open(format!("/proc/self/fd/{}", host::number(&memory))).unwrap();
    assert!(file.write_all(b"x").is_err() && file.set_len(1).is_err());
    assert!(read_all(&sealed("empty", b"").unwrap()).unwrap().is_empty());
}

#[test]
fn what_is_no_sealed_memory_is_not_read() {
    let (a, _b) = host::channel::Channel::pair().unwrap();
    let error = read_all(&a.descriptor()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn a_private_file_is_replaced_whole_and_leaves_no_other_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    for text in ["a longer first one", "second"] {
        write_private(&path, text.as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(write_private(&folder.path().join("no/such"), b"").is_err());
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    assert!(write_private(&folder.path().join("folder"), b"x").is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn space_is_set_aside_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::create_new(folder.path().join("record")).unwrap();
    preallocate(&file, 1 << 20).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    preallocate(&file, 1 << 10).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    file.write_all(&vec![1; 1 << 20]).unwrap();
    file.sync_all().unwrap();
    let before = file.metadata().unwrap().blocks();
    match punch_hole(&file, 0, 1 << 19) {
        Ok(()) => assert!(file.metadata().unwrap().blocks() < before),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::Unsupported),
    }
    assert_eq!(file.seek(std::io::SeekFrom::End(0)).unwrap(), 1 << 20);
}

#[test]
fn a_lock_is_held_until_its_last_copy_closes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holder.lock");
    let lock = Lock::try_exclusive(&path).unwrap().unwrap();
    assert!(Lock::try_exclusive(&path).unwrap().is_none());
    let copy = lock.descriptor();
    drop(lock);
    assert!(Lock::try_exclusive(&path).unwrap().is_none());
    drop(copy);
    assert!(Lock::try_exclusive(&path).unwrap().is_some());
}
