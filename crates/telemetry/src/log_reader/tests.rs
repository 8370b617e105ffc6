use std::path::PathBuf;

use super::*;
use crate::rotate::{Limits, RotatedLog};

const BEGUN: u64 = 1_795_366_800_000;

struct Logs {
    folder: tempfile::TempDir,
    written: u64,
}

impl Logs {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), written: 0 }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Lines that are numbered over all services, a millisecond apart, in files of 3 to 4 of them.
    fn write(&mut self, service: &str, lines: u64) {
        let limits = Limits { file_bytes: 150, file_age: None, files: 50 };
        let mut log = RotatedLog::new(self.path().join(format!("{service}.log")), limits);
        for _ in 0..lines {
            let at = BEGUN + self.written;
            let line = format!("{} {service}@1/0 out | line {}\n", stamp::utc(at), self.written);
            log.append(line.as_bytes(), at).unwrap();
            self.written += 1;
        }
    }

    fn read(&self, query: LogQuery) -> LogPage {
        read(&self.path(), &query).unwrap()
    }
}

fn texts(page: &LogPage) -> Vec<&str> {
    page.lines.iter().map(|line| line.text.as_str()).collect()
}

fn numbered(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("line {n}")).collect()
}

fn newest(lines: usize) -> LogQuery {
    LogQuery { lines, ..LogQuery::default() }
}

#[test]
fn the_newest_lines_of_all_services_come_in_order_over_rotated_files() {
    let mut logs = Logs::new();
    for _ in 0..3 {
        logs.write("shop", 7);
        logs.write("web", 7);
    }
    std::fs::write(logs.path().join("access.log"), "2026-11-22T17:00:00.123Z x y | no service's\n").unwrap();
    std::fs::write(logs.path().join("handover.log"), "2026-11-22T17:00:00.123Z x y | no service's\n")
        .unwrap();
    let page = logs.read(newest(30));
    assert_eq!((texts(&page), page.truncated), (numbered(12..42).iter().map(String::as_str).collect(), true));
    let all = logs.read(newest(100));
    assert_eq!((all.lines.len(), all.truncated), (42, false));
    assert_eq!(
        all.lines[0],
        LogLine {
            at_ms: BEGUN,
            service: "shop".into(),
            instance: "shop@1/0".into(),
            stream: "out".into(),
            text: "line 0".into()
        }
    );
    let shop = logs.read(LogQuery { service: Some("shop".into()), ..newest(100) });
    assert_eq!(shop.lines.len(), 21);
    let since = logs.read(LogQuery { since_ms: Some(BEGUN + 40), ..newest(100) });
    assert_eq!((texts(&since), since.truncated), (vec!["line 40", "line 41"], false));
}

#[test]
fn who_follows_gets_every_line_once_whatever_is_rotated_meanwhile() {
    let mut logs = Logs::new();
    logs.write("shop", 5);
    let mut page = logs.read(newest(2));
    let mut seen: Vec<String> = texts(&page).iter().map(ToString::to_string).collect();
    for round in 0..10 {
        logs.write("shop", round);
        logs.write("web", 2);
        loop {
            let after: Cursor = page.cursor.to_string().parse().unwrap();
            page = logs.read(LogQuery { after: Some(after), ..newest(3) });
            seen.extend(texts(&page).iter().map(ToString::to_string));
            if !page.truncated {
                break;
            }
        }
    }
    let mut sorted = seen.clone();
    sorted.sort_by_key(|text| text.split_once(' ').unwrap().1.parse::<u64>().unwrap());
    assert_eq!(sorted, numbered(3..logs.written));
}

#[test]
fn lines_that_are_not_wanted_are_passed_over_and_not_looked_at_again() {
    let mut logs = Logs::new();
    logs.write("shop", 20);
    let log = logs.path().join("shop.log");
    let task = format!("{} shop@1/0~reload-1 err | line of a task\n", stamp::utc(BEGUN + 50));
    let other = format!("{} shop@1/01 err | line of another\n", stamp::utc(BEGUN + 51));
    let mut text = std::fs::read_to_string(&log).unwrap();
    text.push_str(&(task + &other + "no line of ours\n2026-11-22T17:00:00.123Z half"));
    std::fs::write(&log, text).unwrap();
    let of = |instance: &str| LogQuery { instance: Some(instance.into()), ..newest(100) };
    assert_eq!(logs.read(of("shop@1/0")).lines.len(), 21);
    let grep = |grep: &str| LogQuery { grep: Some(grep.into()), ..newest(100) };
    assert_eq!(texts(&logs.read(grep("^line 1[0-2]$"))), ["line 10", "line 11", "line 12"]);
    let start = Some(Cursor::default());
    let page = logs.read(LogQuery { after: start, ..grep("task") });
    assert_eq!(texts(&page), ["line of a task"]);
    assert!(texts(&logs.read(LogQuery { after: Some(page.cursor), ..newest(9) })).is_empty());
    let error = read(&logs.path(), &grep("(")).unwrap_err().to_string();
    assert!(error.starts_with("`(` is not a regular expression"), "{error}");
}

#[test]
fn an_answer_is_bounded_by_its_text() {
    let logs = Logs::new();
    let long = "x".repeat(64 << 10);
    let lines: String =
        (0..200).map(|n| format!("{} shop@1/0 out | {long}\n", stamp::utc(BEGUN + n))).collect();
    std::fs::write(logs.path().join("shop.log"), lines).unwrap();
    let page = logs.read(newest(usize::MAX));
    assert_eq!((page.lines.len(), page.truncated), (TEXT_BYTES_MAX / long.len(), true));
    let mut seen = 0;
    let mut page = logs.read(LogQuery { after: Some(Cursor::default()), ..newest(usize::MAX) });
    while page.truncated {
        seen += page.lines.len();
        page = logs.read(LogQuery { after: Some(page.cursor), ..newest(usize::MAX) });
    }
    assert_eq!(seen + page.lines.len(), 200);
}

#[test]
fn a_service_without_a_log_has_no_lines() {
    let logs = Logs::new();
    std::fs::write(logs.path().join("handover.log"), "2026-11-22T17:00:00.123Z x y | no service's\n")
        .unwrap();
    for service in ["shop", "handover", "../logs/shop"] {
        let page = logs.read(LogQuery { service: Some(service.into()), ..newest(5) });
        assert_eq!((page.lines.len(), page.truncated, page.cursor), (0, false, Cursor::default()));
    }
}
