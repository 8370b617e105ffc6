//! The thread that writes the access log's file, and puts it aside when it is full.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::lines_in;

/// A file this long is put aside.
const FILE_BYTES_MAX: u64 = 10 << 20;
/// Files kept, the current one included: a day of a busy service, and never a full disk.
const FILES_MAX: u32 = 8;
/// Blocks that wait for the disk; more are dropped.
const BLOCKS_WAITING_MAX: usize = 64;

/// The thread that writes the file. It ends when the last sender is gone.
#[derive(Debug)]
pub(crate) struct LogWriter {
    thread: JoinHandle<()>,
    lost: Arc<AtomicU64>,
}

impl LogWriter {
    /// Starts it; `None` when there can be no thread.
    pub(crate) fn start(path: PathBuf) -> Option<(Self, SyncSender<Vec<u8>>)> {
        let (sender, receiver) = sync_channel(BLOCKS_WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let counter = lost.clone();
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(&path, &receiver, &counter));
        match thread {
            Ok(thread) => Some((Self { thread, lost }, sender)),
            Err(error) => {
                tracing::error!(%error, "there is no access log: its thread cannot be started");
                None
            }
        }
    }

    /// Lines that could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything handed over is written. All senders must be gone.
    pub(crate) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the access log's thread ended by a bug");
        }
    }
}

/// Opens the file anew after each failure, so that a disk that has room again is used again.
fn write_all(path: &Path, blocks: &Receiver<Vec<u8>>, lost: &AtomicU64) {
    let mut file = None;
    let mut failing = false;
    for block in blocks {
        let result = (|| {
            if file.as_ref().is_some_and(|file| !is_to_go_on(path, file, FILE_BYTES_MAX)) {
                file = None;
            }
            let file = match &mut file {
                Some(file) => file,
                none => none.insert(host::file::append_private(path)?),
            };
            file.write_all(&block)
        })();
        match result {
            Ok(()) => failing = false,
            Err(error) => {
                file = None;
                lost.fetch_add(lines_in(&block), Ordering::Relaxed);
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(path = %path.display(), %error, "access log lines are dropped");
                }
            }
        }
    }
}

/// Whether the next block belongs into `file`, which is put aside first if it is full.
fn is_to_go_on(path: &Path, file: &File, bytes_max: u64) -> bool {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    // A full file is longer than the one that took its name.
    let is_named = || std::fs::metadata(path).is_ok_and(|named| named.len() >= length);
    if !is_named() {
        return false;
    }
    // Whoever holds this lock puts it aside; of the others, those that come later find another file under its name.
    if length < bytes_max || file.try_lock().is_err() {
        return true;
    }
    if is_named()
        && let Err(error) = put_aside(path)
    {
        tracing::error!(path = %path.display(), %error, "the access log cannot be put aside, and grows");
        return true;
    }
    false
}

fn put_aside(path: &Path) -> io::Result<()> {
    let old = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..FILES_MAX - 1).rev() {
        match std::fs::rename(old(number), old(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    std::fs::rename(path, old(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_by_one_of_several_writers_and_no_line_is_lost_before_the_oldest_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut files: [Option<File>; 3] = Default::default();
        for number in 0..60 {
            let file = &mut files[number % 3];
            if file.as_ref().is_some_and(|file| !is_to_go_on(&path, file, 40)) {
                *file = None;
            }
            let file = file.get_or_insert_with(|| host::file::append_private(&path).unwrap());
            file.write_all(format!("line {number:04}\n").as_bytes()).unwrap();
        }
        let read = |name: String| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let mut lines: Vec<String> = Vec::new();
        for name in
            (1..FILES_MAX).rev().map(|number| format!("access.log.{number}")).chain(["access.log".into()])
        {
            let text = read(name);
            assert!(text.len() <= 60, "{text}");
            lines.extend(text.lines().map(str::to_owned));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), FILES_MAX as usize);
        lines.sort_unstable();
        let newest: Vec<String> = (60 - lines.len()..60).map(|number| format!("line {number:04}")).collect();
        assert_eq!(lines, newest);
        assert!(lines.len() >= 28);
    }
}
