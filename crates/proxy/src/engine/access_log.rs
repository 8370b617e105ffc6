//! The access log: one JSON line per request, gathered per thread, written by a thread of its own.
//!
//! A block leaves a thread when 64 KiB are full or a quarter of a second is over. When the disk is behind, whole
//! blocks are dropped and counted; a request never waits for its line. Query strings, cookies and
//! credentials are never in it.
//!
//! Several proxies write to one file, each block with one call, which the system appends without mixing. Who finds it
//! full puts it aside as `access.log.1`, and what was that as `access.log.2`; the others notice by the shorter file
//! under its name and go on in that one.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use model::time::WallTime;

/// A block this full is handed over at once.
const BLOCK_BYTES: usize = 64 << 10;
/// A file this long is put aside.
const FILE_BYTES_MAX: u64 = 10 << 20;
/// Files kept, the current one included: a day of a busy service, and never a full disk.
const FILES_MAX: u32 = 8;
/// Blocks that wait for the disk; more are dropped.
const BLOCKS_WAITING_MAX: usize = 64;
/// Longest path in a line.
const PATH_BYTES_MAX: usize = 2_048;
/// Longest time a line waits in a block.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(250);

/// What one line says.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// When the request's head was there.
    pub(crate) time: WallTime,
    /// Address of the client.
    pub(crate) client: &'a str,
    /// Empty when the request could not be read.
    pub(crate) method: &'a [u8],
    /// Without query.
    pub(crate) path: &'a [u8],
    /// What was answered; 0 for nothing.
    pub(crate) status: u16,
    /// Body bytes sent.
    pub(crate) bytes: u64,
    /// From the head to the last byte handed to the system.
    pub(crate) duration: Duration,
    /// Further attempts.
    pub(crate) retries: u32,
    /// Ready fields of service, release and instance, as far as known.
    pub(crate) fields: &'a str,
}

/// The lines of one thread.
#[derive(Debug)]
pub(crate) struct AccessLog {
    writer: Option<SyncSender<Vec<u8>>>,
    block: RefCell<Vec<u8>>,
    dropped: Cell<u64>,
    second: RefCell<(u64, String)>,
}

impl AccessLog {
    /// Lines that go to `writer`, or nowhere.
    pub(crate) fn new(writer: Option<SyncSender<Vec<u8>>>) -> Self {
        Self {
            writer,
            block: RefCell::default(),
            dropped: Cell::new(0),
            second: RefCell::new((u64::MAX, String::new())),
        }
    }

    /// Adds a line.
    pub(crate) fn write(&self, line: &Line<'_>) {
        if self.writer.is_none() {
            return;
        }
        let mut block = self.block.borrow_mut();
        if block.capacity() == 0 {
            block.reserve(BLOCK_BYTES + 4_096);
        }
        let mut number = itoa::Buffer::new();
        block.extend_from_slice(b"{\"time\":\"");
        self.write_time(line.time, &mut block);
        for (name, value) in
            [("client", line.client.as_bytes()), ("method", line.method), ("path", line.path)]
        {
            block.extend_from_slice(if name == "client" { b"\",\"" } else { b",\"" });
            block.extend_from_slice(name.as_bytes());
            block.extend_from_slice(b"\":\"");
            escape(&value[..value.len().min(PATH_BYTES_MAX)], &mut block);
            block.push(b'"');
        }
        let duration = u64::try_from(line.duration.as_micros()).unwrap_or(u64::MAX);
        for (name, value) in [
            ("status", u64::from(line.status)),
            ("bytes", line.bytes),
            ("duration_us", duration),
            ("retries", u64::from(line.retries)),
        ] {
            block.extend_from_slice(b",\"");
            block.extend_from_slice(name.as_bytes());
            block.extend_from_slice(b"\":");
            block.extend_from_slice(number.format(value).as_bytes());
        }
        if !line.fields.is_empty() {
            block.push(b',');
            block.extend_from_slice(line.fields.as_bytes());
        }
        block.extend_from_slice(b"}\n");
        if block.len() >= BLOCK_BYTES {
            self.hand_over(&mut block);
        }
    }

    /// Hands over what there is.
    pub(crate) fn flush(&self) {
        let mut block = self.block.borrow_mut();
        if !block.is_empty() {
            self.hand_over(&mut block);
        }
    }

    fn hand_over(&self, block: &mut Vec<u8>) {
        let Some(writer) = &self.writer else { return };
        match writer.try_send(std::mem::take(block)) {
            Ok(()) => {
                let dropped = self.dropped.take();
                if dropped > 0 {
                    tracing::warn!(dropped, "access log lines were dropped because the disk was behind");
                }
            }
            Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) => {
                let lines = memchr::memchr_iter(b'\n', &lost).count() as u64;
                self.dropped.set(self.dropped.get() + lines);
                *block = lost;
                block.clear();
            }
        }
    }

    /// RFC 3339 in UTC with milliseconds; the part down to the second is made once per second.
    fn write_time(&self, time: WallTime, out: &mut Vec<u8>) {
        let (second, millis) = (time.0 / 1_000, time.0 % 1_000);
        let mut cached = self.second.borrow_mut();
        if cached.0 != second {
            *cached = (second, to_the_second(second));
        }
        out.extend_from_slice(cached.1.as_bytes());
        let digit = |value: u64| b'0' + u8::try_from(value % 10).unwrap_or(0);
        out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z']);
    }
}

/// `2026-01-31T12:00:00` for seconds since 1970 (days to civil date as in Hinnant's chrono algorithms).
fn to_the_second(second: u64) -> String {
    let (days, rest) = (second / 86_400 + 719_468, second % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3_600, rest / 60 % 60, rest % 60)
}

/// Bytes as the inside of a JSON string: those that no URL may hold are percent-encoded.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.iter().all(|byte| (b' '..0x7f).contains(byte) && *byte != b'"' && *byte != b'\\') {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b' '..0x7f => out.push(*byte),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

/// The thread that writes the file. It ends when the last sender is gone.
#[derive(Debug)]
pub(crate) struct LogWriter {
    thread: JoinHandle<()>,
}

impl LogWriter {
    /// Starts it; `None` when there can be no thread.
    pub(crate) fn start(path: PathBuf) -> Option<(Self, SyncSender<Vec<u8>>)> {
        let (sender, receiver) = sync_channel(BLOCKS_WAITING_MAX);
        let thread =
            std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&path, &receiver));
        match thread {
            Ok(thread) => Some((Self { thread }, sender)),
            Err(error) => {
                tracing::error!(%error, "there is no access log: its thread cannot be started");
                None
            }
        }
    }

    /// Waits until everything handed over is written. All senders must be gone.
    pub(crate) fn join(self) {
        if self.thread.join().is_err() {
            tracing::error!("the access log's thread ended by a bug");
        }
    }
}

/// Opens the file anew after each failure, so that a disk that has room again is used again.
fn write_all(path: &Path, blocks: &Receiver<Vec<u8>>) {
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

    fn line(path: &[u8]) -> Line<'_> {
        Line {
            time: WallTime(1_769_860_800_042),
            client: "10.0.0.1",
            method: b"GET",
            path,
            status: 200,
            bytes: 5,
            duration: Duration::from_micros(321),
            retries: 1,
            fields: r#""service":"web","release":"1""#,
        }
    }

    #[test]
    fn lines_reach_the_file_whole_and_escaped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (writer, sender) = LogWriter::start(path.clone()).unwrap();
        let log = AccessLog::new(Some(sender));
        log.write(&line(b"/a"));
        log.write(&line(b"/\"\\\xff"));
        log.flush();
        drop(log);
        writer.join();
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        assert_eq!(
            lines.next().unwrap(),
            r#"{"time":"2026-01-31T12:00:00.042Z","client":"10.0.0.1","method":"GET","path":"/a","status":200,"bytes":5,"duration_us":321,"retries":1,"service":"web","release":"1"}"#
        );
        assert!(lines.next().unwrap().contains(r#""path":"/\"\\%FF""#));
    }

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

    #[test]
    fn a_disk_that_is_behind_costs_lines_and_no_waiting() {
        let (sender, receiver) = sync_channel(1);
        let log = AccessLog::new(Some(sender));
        for _ in 0..3 {
            log.write(&line(b"/a"));
            log.flush();
        }
        assert_eq!(log.dropped.get(), 2);
        drop(receiver);
    }

    #[test]
    fn dates_are_right_at_the_edges() {
        assert_eq!(to_the_second(0), "1970-01-01T00:00:00");
        assert_eq!(to_the_second(951_782_399), "2000-02-28T23:59:59");
        assert_eq!(to_the_second(951_868_799), "2000-02-29T23:59:59");
        assert_eq!(to_the_second(4_107_542_400), "2100-03-01T00:00:00");
    }
}
