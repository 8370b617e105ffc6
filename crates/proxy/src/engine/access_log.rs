//! The access log: one line per request, gathered per thread, written by a thread of its own.
//!
//! A block leaves a thread when 64 KiB are full or a quarter of a second is over. When the disk is behind, whole
//! blocks are dropped and counted; a request never waits for its line. Cookies and credentials are never in it, and
//! query strings only where a table says so. Of sampled lines every n-th is written, and every answer of 500 and above.
//!
//! Several proxies write to one file, each block with one call, which the system appends without mixing. Who finds it
//! full puts it aside as `access.log.1`, and what was that as `access.log.2`; the others notice by the shorter file
//! under its name and go on in that one.

use std::cell::{Cell, RefCell};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use wire::routes::{AccessLogFormat, AccessLogSettings};

mod dates;
mod escape;
mod line;
mod writer;

use dates::Dates;

pub(crate) use escape::field;
pub(crate) use line::{Extra, Line};
pub(crate) use writer::LogWriter;

/// A block this full is handed over at once.
const BLOCK_BYTES: usize = 64 << 10;
/// Room behind that for the line that fills it.
const LINE_BYTES: usize = 4 << 10;
/// Longest time a line waits in a block.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(250);
/// Share of requests that is all of them, in basis points.
const ALL: u16 = 10_000;

/// What a table says about the log.
#[derive(Debug, Clone, Copy)]
struct Rules {
    is_on: bool,
    format: AccessLogFormat,
    sample: u16,
    has_query: bool,
}

/// The lines of one thread.
#[derive(Debug)]
pub(crate) struct AccessLog {
    writer: Option<SyncSender<Vec<u8>>>,
    rules: Cell<Rules>,
    /// Basis points saved up; a line is due when they reach all.
    saved: Cell<u16>,
    block: RefCell<Vec<u8>>,
    dates: RefCell<Dates>,
    dropped: Cell<u64>,
    dropped_untold: Cell<u64>,
}

impl AccessLog {
    /// Lines that go to `writer`, or nowhere; none before a table asks for them.
    pub(crate) fn new(writer: Option<SyncSender<Vec<u8>>>) -> Self {
        let rules = Rules { is_on: false, format: AccessLogFormat::Json, sample: ALL, has_query: false };
        Self {
            writer,
            rules: Cell::new(rules),
            saved: Cell::new(0),
            block: RefCell::default(),
            dates: RefCell::default(),
            dropped: Cell::new(0),
            dropped_untold: Cell::new(0),
        }
    }

    /// A table says how it is to be.
    pub(crate) fn follow(&self, is_on: bool, settings: &AccessLogSettings) {
        self.rules.set(Rules {
            is_on: is_on && self.writer.is_some(),
            format: settings.format,
            sample: settings.sample.min(ALL),
            has_query: settings.query,
        });
    }

    /// Whether a request that ended so has a line. Asked once for each.
    #[inline]
    pub(crate) fn is_due(&self, status: u16) -> bool {
        let rules = self.rules.get();
        if !rules.is_on || rules.sample == ALL || status >= 500 {
            return rules.is_on;
        }
        let saved = self.saved.get() + rules.sample;
        let is_due = saved >= ALL;
        self.saved.set(if is_due { saved - ALL } else { saved });
        is_due
    }

    /// Takes from a request's head what lines are to have beyond what everybody needs.
    #[inline]
    pub(crate) fn read_extra(&self, head: &[u8], extra: &mut Option<Box<Extra>>) {
        let rules = self.rules.get();
        if rules.is_on && (rules.has_query || rules.format == AccessLogFormat::Combined) {
            extra.get_or_insert_default().read(head, rules.has_query);
        } else if extra.is_some() {
            *extra = None;
        }
    }

    /// Adds a line.
    pub(crate) fn write(&self, line: &Line<'_>) {
        let mut block = self.block.borrow_mut();
        if block.capacity() == 0 {
            block.reserve(BLOCK_BYTES + LINE_BYTES);
        }
        line.write(self.rules.get().format, &mut self.dates.borrow_mut(), &mut block);
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

    /// Lines that were dropped because the disk was behind.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.get()
    }

    fn hand_over(&self, block: &mut Vec<u8>) {
        let Some(writer) = &self.writer else { return block.clear() };
        match writer.try_send(std::mem::take(block)) {
            Ok(()) => {
                let dropped = self.dropped_untold.take();
                if dropped > 0 {
                    tracing::warn!(dropped, "access log lines were dropped because the disk was behind");
                }
            }
            Err(TrySendError::Full(lost) | TrySendError::Disconnected(lost)) => {
                let lines = lines_in(&lost);
                self.dropped.set(self.dropped.get() + lines);
                self.dropped_untold.set(self.dropped_untold.get() + lines);
                *block = lost;
                block.clear();
            }
        }
    }
}

fn lines_in(block: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', block).count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use model::time::WallTime;

    use super::*;

    pub(super) fn line(path: &[u8]) -> Line<'_> {
        Line {
            time: WallTime(1_769_860_800_042),
            listener_field: r#""listener":"web""#,
            is_tls: false,
            client: "10.0.0.1",
            method: b"GET",
            host: b"shop.example.com",
            path,
            extra: None,
            is_1_0: false,
            status: 200,
            bytes: 5,
            bytes_in: 0,
            duration: Duration::from_micros(321),
            first_byte: None,
            retries: 1,
            request_id: b"",
            trace_id: b"",
            tunnel: None,
            fields: r#""service":"web","release":"1""#,
            group_field: "",
        }
    }

    #[test]
    fn lines_reach_the_file_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let (writer, sender) = LogWriter::start(path.clone()).unwrap();
        let log = AccessLog::new(Some(sender));
        log.write(&line(b"/a"));
        log.write(&line(b"/b"));
        log.flush();
        drop(log);
        writer.join();
        let text = std::fs::read_to_string(&path).unwrap();
        let paths: Vec<String> = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["path"].to_string())
            .collect();
        assert_eq!(paths, [r#""/a""#, r#""/b""#]);
    }

    #[test]
    fn a_disk_that_is_behind_costs_lines_and_no_waiting() {
        let (sender, receiver) = sync_channel(1);
        let log = AccessLog::new(Some(sender));
        for _ in 0..3 {
            log.write(&line(b"/a"));
            log.flush();
        }
        assert_eq!(log.dropped(), 2);
        drop(receiver);
    }

    #[test]
    fn a_sample_is_its_share_of_all_and_every_failure() {
        let (sender, _receiver) = sync_channel(1);
        let log = AccessLog::new(Some(sender));
        let settings = |sample| AccessLogSettings { sample, ..AccessLogSettings::default() };
        let due = |status| (0..1_000).filter(|_| log.is_due(status)).count();
        assert_eq!(due(500), 0);
        for (sample, lines) in [(10_000, 1_000), (2_500, 250), (10, 1), (0, 0)] {
            log.follow(true, &settings(sample));
            assert_eq!((due(200), due(503)), (lines, 1_000), "{sample}");
        }
        log.follow(false, &settings(10_000));
        assert_eq!(due(503), 0);
    }

    /// Not a limit, for the machine may be busy: run it with `--release --nocapture` to see what a line costs.
    #[test]
    fn a_line_takes_some_nanoseconds() {
        let (sender, receiver) = sync_channel(1);
        drop(receiver);
        let log = AccessLog::new(Some(sender));
        let rounds = 100_000_u64;
        let whole = Line {
            first_byte: Some(Duration::from_micros(300)),
            request_id: b"0af7651916cd43dd8448eb211c80319c",
            trace_id: b"4bf92f3577b34da6a3ce929d0e0e4736",
            fields: r#""service":"web","release":"1.4.1","instance":"web@1.4.1/0""#,
            group_field: r#""group":"/api/order/{id}""#,
            ..line(b"/api/order/123456")
        };
        let start = std::time::Instant::now();
        for round in 0..rounds {
            let time = WallTime(1_769_860_800_000 + round / 50);
            log.write(std::hint::black_box(&Line { time, duration: Duration::from_micros(round), ..whole }));
        }
        println!("a line: {} ns", start.elapsed().as_nanos() / u128::from(rounds));
        log.flush();
        assert_eq!(log.dropped(), rounds);
    }
}
