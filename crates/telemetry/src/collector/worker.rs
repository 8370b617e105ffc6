//! The collector's thread.
//!
//! ```text
//!  a file changes ──► dirty ──► a piece is taken, more is left: dirty again
//!                       ▲          └─ its log cannot be written: blocked, tried every second
//!                       └── every 5 s all of them, should a change have been missed
//! ```
//! Pieces are small and taken in turn, so that one that floods keeps no other waiting.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::mem::take;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use host::watch::{Changes, Watch};
use model::id::{InstanceId, ServiceName};
use regex_lite::Regex;

use super::{LAST_LINE_CHARS_MAX, LAST_LINES_MAX, Matched, Order, Settings, Start, parse_expression};
use crate::console::Tone;
use crate::offsets::{Expression, Kept};
use crate::rotate::{Limits, RotatedLog};
use crate::source::Source;
use crate::tail::{READ_BYTES_MAX, Tail};
use crate::{line, stamp};

/// In the folder of the output files; no process has such a name.
const KEPT_FILE: &str = "offsets";
/// Between two looks at the files where they cannot be watched.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks at all files where they are watched.
const LOOK_ALL_INTERVAL: Duration = Duration::from_secs(5);
/// Between two writes of the offsets, and two tries of a log that cannot be written.
const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two words about the same trouble.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// Text for a log that is put together before it is written.
const PORTION_BYTES_MAX: u64 = 256 << 10;
/// Passes over one process's files in a drain: more than its files can hold.
const DRAIN_PASSES_MAX: u64 = 2 * super::UNREAD_BYTES_MAX / READ_BYTES_MAX as u64;

struct Tracked {
    source: Source,
    /// As lines name it.
    name: String,
    streams: [(Tail, &'static str); 2],
    last: VecDeque<String>,
    waits: Option<Waits>,
}

/// For a line that matches.
struct Waits {
    expression: Expression,
    regex: Regex,
    matched: Option<Matched>,
}

struct Log {
    log: RotatedLog,
    limits: Limits,
    failing_until: Option<Instant>,
}

/// What was lost of one process and not said yet.
#[derive(Default)]
struct Dropped {
    bytes: u64,
    said_at: Option<Instant>,
}

/// What became of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Taken {
    /// There is no more for now.
    All,
    /// There may be more.
    Piece,
    /// The log cannot be written.
    Blocked,
}

pub(super) struct Worker {
    settings: Settings,
    unread_max: u64,
    watch: Option<Watch>,
    /// By the name of their files.
    sources: BTreeMap<String, Tracked>,
    logs: BTreeMap<ServiceName, Log>,
    dirty: BTreeSet<String>,
    blocked: BTreeSet<String>,
    dropped: BTreeMap<Source, Dropped>,
    complained: BTreeMap<String, Instant>,
    /// As it is on disk.
    stored: Kept,
    /// Of that, what a former collector left and nobody has asked for yet.
    unclaimed: Kept,
    /// Something to store may have changed.
    unstored: bool,
    ticked_at: Instant,
    looked_at: Instant,
    buffer: Vec<u8>,
    portion: String,
}

impl Worker {
    pub(super) fn new(settings: Settings, unread_max: u64, watch: Option<Watch>) -> Self {
        let kept = std::fs::read_to_string(settings.output.join(KEPT_FILE)).unwrap_or_default();
        let stored = Kept::decode(&kept);
        Self {
            unclaimed: stored.clone(),
            stored,
            unstored: false,
            ticked_at: Instant::now(),
            looked_at: Instant::now(),
            settings,
            unread_max,
            watch,
            sources: BTreeMap::new(),
            logs: BTreeMap::new(),
            dirty: BTreeSet::new(),
            blocked: BTreeSet::new(),
            dropped: BTreeMap::new(),
            complained: BTreeMap::new(),
            buffer: Vec::new(),
            portion: String::new(),
        }
    }

    pub(super) fn run(mut self, orders: &Receiver<Order>) {
        loop {
            match self.next(orders) {
                Ok(Some(order)) => self.obey(order),
                Ok(None) => self.pass(),
                Err(_gone) => {
                    self.store();
                    return;
                }
            }
        }
    }

    /// The next order; `None`: look at the files.
    fn next(&mut self, orders: &Receiver<Order>) -> Result<Option<Order>, TryRecvError> {
        match orders.try_recv() {
            Ok(order) => return Ok(Some(order)),
            Err(TryRecvError::Disconnected) => return Err(TryRecvError::Disconnected),
            Err(TryRecvError::Empty) => {}
        }
        let busy = !self.dirty.is_empty();
        let Some(watch) = &mut self.watch else {
            return Self::next_unwatched(orders, busy, self.sources.is_empty());
        };
        let is_idle = self.blocked.is_empty() && !self.unstored && self.dropped.is_empty();
        let timeout = match (busy, is_idle) {
            (true, _) => Duration::ZERO,
            (false, false) => TICK_INTERVAL,
            (false, true) => LOOK_ALL_INTERVAL,
        };
        match watch.wait(timeout) {
            Ok(changes) => self.note(changes),
            Err(error) => {
                (self.settings.complain)(format!("output files are looked at often, not watched: {error}"));
                self.watch = None;
            }
        }
        match orders.try_recv() {
            Ok(order) => Ok(Some(order)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(gone @ TryRecvError::Disconnected) => Err(gone),
        }
    }

    fn next_unwatched(
        orders: &Receiver<Order>,
        busy: bool,
        nothing: bool,
    ) -> Result<Option<Order>, TryRecvError> {
        let timeout = match (busy, nothing) {
            (true, _) => Duration::ZERO,
            (false, false) => POLL_INTERVAL,
            (false, true) => LOOK_ALL_INTERVAL,
        };
        match orders.recv_timeout(timeout) {
            Ok(order) => Ok(Some(order)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(TryRecvError::Disconnected),
        }
    }

    fn note(&mut self, changes: Changes) {
        if changes.lost {
            self.dirty.extend(self.sources.keys().cloned());
        }
        for name in changes.names {
            let Some((key, "out" | "err")) = name.rsplit_once('.') else { continue };
            if self.sources.contains_key(key) && !self.blocked.contains(key) {
                self.dirty.insert(key.to_owned());
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Track(source, matched) => self.resume(source, matched),
            Order::Start(start, reply) => {
                self.start(start);
                reply(Vec::new());
            }
            Order::Keep(service, limits) => {
                self.log(&service);
                self.keep(&service, limits);
            }
            Order::Sweep(known, reply) => {
                self.sweep(&known);
                reply(Vec::new());
            }
            Order::Last(source, reply) => {
                let key = source.file_name();
                self.take(&key, false);
                reply(self.last_lines(&key));
            }
            Order::Drain(source, reply) => {
                let key = source.file_name();
                self.drain(&key);
                reply(self.last_lines(&key));
            }
            Order::Forget(source, reply) => {
                let key = source.file_name();
                self.drain(&key);
                let lines = self.last_lines(&key);
                self.forget(&key);
                reply(lines);
            }
        }
    }

    fn forget(&mut self, key: &str) {
        let Some(mut gone) = self.sources.remove(key) else { return };
        gone.streams.iter_mut().for_each(|(tail, _)| tail.remove());
        self.dirty.remove(key);
        self.blocked.remove(key);
        // The slot's next files begin at 0. A task's name never comes again.
        if gone.source.task.is_some() {
            self.unstored = true;
        } else {
            self.store();
        }
    }

    fn track(&mut self, source: Source) -> &mut Tracked {
        let key = source.file_name();
        self.dirty.insert(key.clone());
        let (unclaimed, output) = (&mut self.unclaimed, &self.settings.output);
        self.sources.entry(key).or_insert_with_key(|key| {
            let streams = ["out", "err"].map(|stream| {
                let name = format!("{key}.{stream}");
                let position = unclaimed.offsets.remove(&name).unwrap_or(0);
                (Tail::new(output.join(name), position), stream)
            });
            let name = source.to_string();
            Tracked { source, name, streams, last: VecDeque::new(), waits: None }
        })
    }

    fn resume(&mut self, source: Source, matched: Option<Matched>) {
        let kept = self.unclaimed.expressions.remove(&source.file_name());
        let tracked = self.track(source);
        if tracked.waits.is_none()
            && let Some(expression) = kept
            && let Ok(regex) = parse_expression(&expression.text)
        {
            tracked.waits = Some(Waits { expression, regex, matched: None });
        }
        let (Some(waits), Some(matched)) = (&mut tracked.waits, matched) else { return };
        if waits.expression.matched {
            matched();
        } else {
            waits.matched = Some(matched);
        }
    }

    fn start(&mut self, start: Start) {
        let Start { source, limits, expression, matched } = start;
        let service = source.instance.service.clone();
        let waits = expression.and_then(|text| match parse_expression(&text) {
            Ok(regex) => Some(Waits { expression: Expression { text, matched: false }, regex, matched }),
            Err(error) => {
                (self.settings.complain)(format!("{source}: {error}"));
                None
            }
        });
        self.unclaimed.expressions.remove(&source.file_name());
        let is_waited = waits.is_some();
        let was_waited = std::mem::replace(&mut self.track(source).waits, waits).is_some();
        self.log(&service);
        self.keep(&service, limits);
        if is_waited || was_waited {
            self.store();
        }
    }

    fn keep(&mut self, service: &ServiceName, limits: Limits) {
        if let Some(log) = self.logs.get_mut(service)
            && log.limits != limits
        {
            log.limits = limits;
            log.log.set_limits(limits);
            self.unstored = true;
        }
    }

    fn sweep(&mut self, known: &[InstanceId]) {
        let Ok(entries) = std::fs::read_dir(&self.settings.output) else { return };
        let left: Vec<Source> = entries
            .filter_map(|entry| Source::of_file(entry.ok()?.file_name().to_str()?))
            .filter(|source| source.task.is_some() || !known.contains(&source.instance))
            .filter(|source| !self.sources.contains_key(&source.file_name()))
            .collect();
        for source in left {
            self.track(source.clone());
            self.obey(Order::Forget(source, Box::new(drop)));
        }
        let is_known = |file: &str| {
            let source = Source::of_file(file);
            source.is_some_and(|source| source.task.is_none() && known.contains(&source.instance))
        };
        self.unclaimed.offsets.retain(|name, _| is_known(name));
        self.unclaimed.expressions.retain(|name, _| is_known(&format!("{name}.out")));
    }

    /// Takes a piece of every file that changed.
    fn pass(&mut self) {
        if self.watch.is_none() || self.looked_at.elapsed() >= LOOK_ALL_INTERVAL {
            self.looked_at = Instant::now();
            self.dirty.extend(self.sources.keys().filter(|key| !self.blocked.contains(*key)).cloned());
        }
        for key in take(&mut self.dirty) {
            match self.take(&key, false) {
                Taken::All => {}
                Taken::Piece => drop(self.dirty.insert(key)),
                Taken::Blocked => drop(self.blocked.insert(key)),
            }
        }
        if self.ticked_at.elapsed() >= TICK_INTERVAL {
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.ticked_at = Instant::now();
        self.dirty.append(&mut self.blocked);
        if self.unstored {
            self.store();
        }
        self.say_dropped();
        let now_ms = (self.settings.wall_ms)();
        let mut failed = Vec::new();
        for (service, log) in &mut self.logs {
            if let Err(error) = log.log.look(now_ms) {
                failed.push(format!("the log of {service} cannot be put aside: {error}"));
            }
        }
        failed.into_iter().for_each(|text| self.complain(text));
    }

    /// Says it, but the same not more than once a minute.
    fn complain(&mut self, text: String) {
        let now = Instant::now();
        self.complained.retain(|_, at| now.duration_since(*at) < COMPLAINT_INTERVAL);
        if !self.complained.contains_key(&text) {
            (self.settings.complain)(text.clone());
            self.complained.insert(text, now);
        }
    }

    fn drain(&mut self, key: &str) {
        let mut passes = 0;
        while self.take(key, true) == Taken::Piece && passes < DRAIN_PASSES_MAX {
            passes += 1;
        }
    }

    /// Takes a piece of both files of a process.
    fn take(&mut self, key: &str, last: bool) -> Taken {
        let Some(mut tracked) = self.sources.remove(key) else { return Taken::All };
        let mut taken = Taken::All;
        for stream in 0..tracked.streams.len() {
            match self.take_stream(&mut tracked, stream, last) {
                Ok(this) => taken = taken.max(this),
                Err(error) => {
                    let path = tracked.streams[stream].0.path().display();
                    self.complain(format!("the output in {path} could not be read: {error}"));
                }
            }
        }
        self.sources.insert(key.to_owned(), tracked);
        taken
    }

    fn take_stream(&mut self, tracked: &mut Tracked, stream: usize, last: bool) -> io::Result<Taken> {
        let (tail, _) = &mut tracked.streams[stream];
        let unread = tail.unread()?;
        if unread == 0 {
            return Ok(Taken::All);
        }
        if unread > self.unread_max {
            let bytes = tail.drop_beyond(self.unread_max)?;
            self.dropped.entry(tracked.source.clone()).or_default().bytes += bytes;
            self.unstored = true;
            self.say_dropped();
        }
        let mut buffer = take(&mut self.buffer);
        let read = tail.read(&mut buffer);
        let mut at = 0;
        let mut taken = Taken::All;
        if read.is_ok() {
            // A full buffer ends where it happens to end, not where the output does.
            let last = last && buffer.len() < READ_BYTES_MAX;
            loop {
                match self.take_portion(tracked, stream, &buffer[at..], last) {
                    Some(0) => break,
                    Some(bytes) => at += bytes,
                    None => {
                        taken = Taken::Blocked;
                        break;
                    }
                }
            }
        }
        self.buffer = buffer;
        read?;
        let (tail, _) = &mut tracked.streams[stream];
        if at > 0 {
            tail.free();
            if taken == Taken::All && tail.unread()? > 0 {
                taken = Taken::Piece;
            }
        }
        Ok(taken)
    }

    /// Puts the first lines of `bytes` into the log, as many as may go into its current file, and says how many
    /// bytes they took; `None`: the log cannot be written.
    fn take_portion(
        &mut self,
        tracked: &mut Tracked,
        stream: usize,
        bytes: &[u8],
        last: bool,
    ) -> Option<usize> {
        let service = tracked.source.instance.service.clone();
        let most = self.log(&service).log.room().min(PORTION_BYTES_MAX);
        let now_ms = (self.settings.wall_ms)();
        let prefix = format!("{} {} {} | ", stamp::utc(now_ms), tracked.name, tracked.streams[stream].1);
        let mut portion = take(&mut self.portion);
        portion.clear();
        let mut bytes_taken = 0;
        while (portion.len() as u64) < most
            && let Some((line, used)) = line::next(&bytes[bytes_taken..], last)
        {
            portion.push_str(&prefix);
            portion.push_str(&line::text(line));
            portion.push('\n');
            bytes_taken += used;
        }
        let appended = bytes_taken == 0 || self.append(&service, portion.as_bytes(), now_ms);
        if appended && bytes_taken > 0 {
            tracked.streams[stream].0.advance(bytes_taken);
            self.unstored = true;
            let lines = portion.split_terminator('\n').map(|line| &line[prefix.len()..]);
            self.hand_on(tracked, lines);
        }
        self.portion = portion;
        appended.then_some(bytes_taken)
    }

    /// Lines that are in the log: to the terminal, to who waits for one, to who asks for the last ones.
    fn hand_on<'a>(
        &mut self,
        tracked: &mut Tracked,
        lines: impl DoubleEndedIterator<Item = &'a str> + Clone,
    ) {
        if self.settings.console.is_on() {
            for text in lines.clone() {
                let service = tracked.source.instance.service.as_str();
                self.settings.console.show(service, &tracked.name, Tone::Service, text);
            }
        }
        let newest: Vec<&str> = lines.clone().rev().take(LAST_LINES_MAX).collect();
        newest.iter().rev().for_each(|text| remember(&mut tracked.last, text));
        if let Some(waits) = &mut tracked.waits
            && !waits.expression.matched
            && lines.into_iter().any(|line| waits.regex.is_match(line))
        {
            waits.expression.matched = true;
            let matched = waits.matched.take();
            // Before the lines are freed: whoever comes after us could not find it again.
            self.store_with(Some(tracked));
            if let Some(matched) = matched {
                matched();
            }
        }
    }

    fn log(&mut self, service: &ServiceName) -> &mut Log {
        let Settings { logs, limits, .. } = &self.settings;
        let kept = self.unclaimed.limits.get(service.as_str()).copied().unwrap_or(*limits);
        self.logs.entry(service.clone()).or_insert_with(|| Log {
            log: RotatedLog::new(logs.join(format!("{service}.log")), kept),
            limits: kept,
            failing_until: None,
        })
    }

    fn append(&mut self, service: &ServiceName, lines: &[u8], now_ms: u64) -> bool {
        let log = self.log(service);
        if log.failing_until.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        let was_failing = log.failing_until.is_some();
        match log.log.append(lines, now_ms) {
            Ok(()) => {
                log.failing_until = None;
                if was_failing {
                    (self.settings.complain)(format!("the log of {service} is written again"));
                }
                true
            }
            Err(error) => {
                log.failing_until = Some(Instant::now() + TICK_INTERVAL);
                if !was_failing {
                    let what = "its lines wait in the output files and are written when that works again";
                    (self.settings.complain)(format!(
                        "the log of {service} cannot be written: {error}; {what}"
                    ));
                }
                false
            }
        }
    }

    /// Says what was lost, of one process at most once a minute: in its log, on the terminal, in our own log.
    fn say_dropped(&mut self) {
        let now = Instant::now();
        let is_due = |at: Instant| now.duration_since(at) >= COMPLAINT_INTERVAL;
        self.dropped.retain(|_, dropped| dropped.bytes > 0 || !dropped.said_at.is_none_or(is_due));
        let mut said = Vec::new();
        for (source, dropped) in &mut self.dropped {
            if dropped.bytes > 0 && dropped.said_at.is_none_or(is_due) {
                dropped.said_at = Some(now);
                said.push((source.clone(), take(&mut dropped.bytes)));
            }
        }
        for (source, bytes) in said {
            let text = format!(
                "{bytes} bytes of its output were dropped: more than {} came before they could be read",
                self.unread_max
            );
            let now_ms = (self.settings.wall_ms)();
            let line = format!("{} {source} handover | {text}\n", stamp::utc(now_ms));
            self.append(&source.instance.service, line.as_bytes(), now_ms);
            let service = source.instance.service.as_str();
            self.settings.console.show(service, &source.to_string(), Tone::Warning, &text);
            (self.settings.complain)(format!("{source}: {text}"));
        }
    }

    /// Also what is unread or unfinished: that may be all there is to see of a process that hangs.
    fn last_lines(&mut self, key: &str) -> Vec<String> {
        let Some(tracked) = self.sources.get_mut(key) else { return Vec::new() };
        let mut lines = tracked.last.clone();
        for (tail, _) in &mut tracked.streams {
            if tail.peek(line::LINE_BYTES_MAX as u64, &mut self.buffer).is_ok() {
                line::take(&self.buffer, true, |bytes| remember(&mut lines, &line::text(bytes)));
            }
        }
        lines.into()
    }

    fn store(&mut self) {
        self.store_with(None);
    }

    /// `taken` is one that is out of the map because it is being read.
    fn store_with(&mut self, taken: Option<&Tracked>) {
        self.unstored = false;
        let mut now = self.unclaimed.clone();
        for tracked in self.sources.values().chain(taken) {
            let key = tracked.source.file_name();
            for (tail, stream) in &tracked.streams {
                now.offsets.insert(format!("{key}.{stream}"), tail.position());
            }
            if let Some(waits) = &tracked.waits {
                now.expressions.insert(key, waits.expression.clone());
            }
        }
        now.limits.extend(self.logs.iter().map(|(service, log)| (service.to_string(), log.limits)));
        if now == self.stored {
            return;
        }
        match host::file::replace_private(&self.settings.output.join(KEPT_FILE), now.encode().as_bytes()) {
            Ok(()) => self.stored = now,
            Err(error) => self.complain(format!("the place in the output files is not kept: {error}")),
        }
    }
}

fn remember(lines: &mut VecDeque<String>, text: &str) {
    if lines.len() == LAST_LINES_MAX {
        lines.pop_front();
    }
    lines.push_back(match text.char_indices().nth(LAST_LINE_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    });
}
