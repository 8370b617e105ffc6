use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;

use std::time::{Duration, Instant};

use super::*;

struct Scene {
    folder: tempfile::TempDir,
    collector: Collector,
}

fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("output")).unwrap();
        std::fs::create_dir(folder.path().join("logs")).unwrap();
        let collector = Self::collector(folder.path());
        Self { folder, collector }
    }

    fn settings(folder: &Path) -> Settings {
        Settings {
            output: folder.join("output"),
            logs: folder.join("logs"),
            limits: Limits::default(),
            console: Console::silent(),
            complain: Box::new(drop),
            wall_ms: || 1_795_366_800_123,
        }
    }

    fn collector(folder: &Path) -> Collector {
        Collector::start(Self::settings(folder)).unwrap()
    }

    fn start(instance: &str, expression: Option<&str>, matched: Option<Matched>) -> Start {
        let expression = expression.map(str::to_owned);
        Start { source: id(instance).into(), limits: Limits::default(), expression, matched }
    }

    fn begin(&self, start: Start) {
        self.ask(|collector, reply| collector.begin(start, reply));
    }

    fn drain(&self, instance: &str) -> Vec<String> {
        self.ask(|collector, reply| collector.drain(id(instance), reply))
    }

    fn texts(&self, service: &str) -> Vec<String> {
        let log = self.log(service);
        log.lines().map(|line| line.split_once(" | ").unwrap().1.to_owned()).collect()
    }

    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let path = self.folder.path().join("output").join(file);
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_ref()).unwrap();
    }

    fn ask(&self, ask: impl FnOnce(&Collector, Reply) -> Result<(), Unreachable>) -> Vec<String> {
        let (sender, answer) = mpsc::channel();
        ask(&self.collector, Box::new(move |lines| sender.send(lines).unwrap())).unwrap();
        answer.recv_timeout(Duration::from_secs(20)).unwrap()
    }

    fn log(&self, service: &str) -> String {
        std::fs::read_to_string(self.folder.path().join("logs").join(format!("{service}.log")))
            .unwrap_or_default()
    }
}

#[test]
fn lines_are_stamped_and_the_last_ones_kept_with_the_unfinished() {
    let scene = Scene::new();
    scene.collector.track(id("shop@1.4.1/0"), None).unwrap();
    scene.write("shop@1.4.1.0.out", "hello\nhalf");
    scene.write("shop@1.4.1.0.err", "oh\n");
    let lines = scene.ask(|c, reply| c.last_lines(id("shop@1.4.1/0"), reply));
    assert_eq!(lines, ["hello", "oh", "half"]);
    assert_eq!(
        scene.log("shop"),
        "2026-11-22T17:00:00.123Z shop@1.4.1/0 out | hello\n2026-11-22T17:00:00.123Z shop@1.4.1/0 err | oh\n"
    );
    scene.write("shop@1.4.1.0.out", "way\nand the end");
    let lines = scene.ask(|c, reply| c.drain(id("shop@1.4.1/0"), reply));
    assert_eq!(lines, ["hello", "oh", "halfway", "and the end"]);
    assert!(scene.log("shop").ends_with("out | and the end\n"));
}

#[test]
fn a_forgotten_instance_leaves_no_file_and_its_slot_starts_over() {
    let scene = Scene::new();
    let one = || id("shop@1/0");
    scene.collector.track(one(), None).unwrap();
    scene.write("shop@1.0.out", "first life\n");
    scene.ask(|c, reply| c.forget(one(), reply));
    assert!(!scene.folder.path().join("output/shop@1.0.out").exists());
    scene.collector.track(one(), None).unwrap();
    scene.write("shop@1.0.out", "next\n");
    assert_eq!(scene.ask(|c, reply| c.drain(one(), reply)), ["next"]);
    assert_eq!(scene.log("shop").matches('\n').count(), 2);
}

#[test]
fn a_restarted_collector_goes_on_where_the_last_one_stopped() {
    let mut scene = Scene::new();
    let one = || id("shop@1/0");
    scene.collector.track(one(), None).unwrap();
    scene.write("shop@1.0.out", "one\ntwo\nhal");
    scene.ask(|c, reply| c.last_lines(one(), reply));
    scene.collector = Scene::collector(scene.folder.path());
    scene.write("shop@1.0.out", "f\nthree\n");
    scene.collector.track(one(), None).unwrap();
    scene.ask(|c, reply| c.drain(one(), reply));
    let texts: Vec<String> =
        scene.log("shop").lines().map(|line| line.split_once(" | ").unwrap().1.to_owned()).collect();
    assert_eq!(texts, ["one", "two", "half", "three"]);
}

#[test]
fn output_of_instances_nobody_knows_any_more_is_kept_and_its_files_removed() {
    let scene = Scene::new();
    scene.write("shop@1.0.out", "last words\n");
    scene.write("shop@2.0.out", "alive\n");
    scene.write("offsets", "");
    scene.ask(|c, reply| c.sweep(vec![id("shop@2/0")], reply));
    assert!(scene.log("shop").ends_with("shop@1/0 out | last words\n"));
    assert!(!scene.folder.path().join("output/shop@1.0.out").exists());
    assert!(scene.folder.path().join("output/shop@2.0.out").exists());
}

#[test]
fn lines_wait_in_the_output_while_the_log_cannot_be_written() {
    let scene = Scene::new();
    let one = || id("shop@1/0");
    let logs = scene.folder.path().join("logs");
    std::fs::remove_dir(&logs).unwrap();
    scene.collector.track(one(), None).unwrap();
    scene.write("shop@1.0.out", "kept\n");
    assert_eq!(scene.ask(|c, reply| c.drain(one(), reply)), ["kept"]);
    std::fs::create_dir(&logs).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while scene.log("shop").is_empty() {
        assert!(Instant::now() < deadline, "the line never came to the log");
        std::thread::yield_now();
    }
    assert!(scene.log("shop").ends_with("| kept\n"));
    assert_eq!(scene.ask(|c, reply| c.drain(one(), reply)), ["kept"]);
}

#[test]
fn a_flood_arrives_whole_and_takes_no_room_behind_the_reader() {
    let scene = Scene::new();
    let one = || id("flood@1/0");
    scene.collector.track(one(), None).unwrap();
    let text: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
    scene.write("flood@1.0.out", &text);
    let lines = scene.ask(|c, reply| c.drain(one(), reply));
    assert_eq!(lines.len(), LAST_LINES_MAX);
    assert_eq!(lines.last().unwrap(), "line 99999");
    assert_eq!(scene.log("flood").lines().count(), 100_000);
    let left = std::fs::read(scene.folder.path().join("output/flood@1.0.out")).unwrap();
    assert!(left.iter().all(|byte| *byte == 0), "what was taken is freed");
}

/// A callback and where it is noticed.
fn noticed() -> (Matched, mpsc::Receiver<()>) {
    let (sender, noticed) = mpsc::channel();
    (Box::new(move || sender.send(()).unwrap()), noticed)
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_line_that_is_waited_for_is_told_as_it_comes_and_only_once() {
    let scene = Scene::new();
    let (matched, noticed) = noticed();
    scene.begin(Scene::start("shop@1/0", Some("^ready [0-9]+$"), Some(matched)));
    scene.write("shop@1.0.out", "not ready 5\nready 5");
    scene.write("shop@1.0.err", "no\n");
    scene.drain("shop@1/1");
    assert!(noticed.try_recv().is_err(), "half a line is no line");
    scene.write("shop@1.0.out", "\nready 6\n");
    noticed.recv_timeout(LONG).unwrap();
    scene.drain("shop@1/0");
    assert!(noticed.recv().is_err(), "the callback is gone");
}

#[test]
fn a_restarted_collector_still_waits_for_the_line_and_knows_that_it_came() {
    let mut scene = Scene::new();
    scene.begin(Scene::start("shop@1/0", Some("ready"), None));
    let again = |scene: &mut Scene| {
        scene.collector = Scene::collector(scene.folder.path());
        // Of another one nothing is kept, and nothing of the former is lost by that.
        scene.ask(|collector, reply| collector.sweep(vec![id("shop@1/0")], reply));
        let (matched, noticed) = noticed();
        scene.collector.track(id("shop@1/0"), Some(matched)).unwrap();
        noticed
    };
    scene.write("gone@1.0.out", "x\n");
    let noticed = again(&mut scene);
    scene.write("shop@1.0.out", "ready\n");
    noticed.recv_timeout(LONG).unwrap();
    again(&mut scene).recv_timeout(LONG).unwrap();
    scene.begin(Scene::start("shop@1/0", None, None));
    assert!(again(&mut scene).recv_timeout(LONG).is_err(), "its next process waits for nothing");
}

#[test]
fn output_of_a_task_is_in_the_log_of_its_service_under_its_own_name() {
    let scene = Scene::new();
    let task = Source::task(id("shop@1/0"), "before-start", 3);
    scene.collector.track(task.clone(), None).unwrap();
    scene.write("shop@1.0~before-start-3.err", "no such table");
    assert_eq!(scene.ask(|c, reply| c.forget(task, reply)), ["no such table"]);
    assert!(scene.log("shop").ends_with("Z shop@1/0~before-start-3 err | no such table\n"));
    scene.write("shop@1.0~reload-4.out", "left\n");
    scene.ask(|c, reply| c.sweep(vec![id("shop@1/0")], reply));
    assert!(scene.log("shop").ends_with("Z shop@1/0~reload-4 out | left\n"));
    let left = std::fs::read_dir(scene.folder.path().join("output")).unwrap();
    assert!(left.into_iter().all(|file| file.unwrap().file_name() == "offsets"));
}

#[test]
fn a_services_log_is_kept_as_it_says_and_so_by_the_next_collector() {
    let mut scene = Scene::new();
    let limits = Limits { file_bytes: 100, file_age: None, files: 3 };
    scene.begin(Start { limits, ..Scene::start("shop@1/0", None, None) });
    let files = |scene: &Scene| std::fs::read_dir(scene.folder.path().join("logs")).unwrap().count();
    scene.write("shop@1.0.out", "line\n".repeat(50));
    scene.drain("shop@1/0");
    assert_eq!(files(&scene), 3);
    let lengths: Vec<u64> = ["shop.log", "shop.log.1", "shop.log.2"]
        .map(|name| std::fs::metadata(scene.folder.path().join("logs").join(name)).unwrap().len())
        .to_vec();
    assert!(lengths.iter().all(|length| *length < 200), "{lengths:?}");
    scene.collector = Scene::collector(scene.folder.path());
    scene.collector.track(id("shop@1/0"), None).unwrap();
    scene.write("shop@1.0.out", "line\n".repeat(50));
    scene.drain("shop@1/0");
    assert_eq!(files(&scene), 3);
    scene.collector.keep(id("shop@1/0").service, Limits { files: 1, ..limits }).unwrap();
    scene.write("shop@1.0.out", "line\n".repeat(50));
    scene.drain("shop@1/0");
    assert_eq!(files(&scene), 1);
}

#[test]
fn lines_of_ten_megabytes_and_what_is_not_text_arrive_in_pieces_and_delay_nobody() {
    let scene = Scene::new();
    scene.begin(Scene::start("wild@1/0", None, None));
    scene.begin(Scene::start("shop@1/0", None, None));
    let mut bytes = vec![b'x'; 10 << 20];
    bytes.extend_from_slice(b"\n\xFF\xFE\0binary\n");
    scene.write("wild@1.0.out", &bytes);
    scene.write("shop@1.0.out", "fine\n");
    assert_eq!(scene.drain("shop@1/0"), ["fine"]);
    let last = scene.drain("wild@1/0");
    assert_eq!(last.last().unwrap(), "\u{FFFD}\u{FFFD}\u{2400}binary");
    assert!(last.iter().all(|line| line.chars().count() <= LAST_LINE_CHARS_MAX + 1));
    let texts = scene.texts("wild");
    let others = std::fs::read_to_string(scene.folder.path().join("logs/wild.log.1")).unwrap_or_default();
    let old: usize = others.lines().map(|line| line.split_once(" | ").unwrap().1.len()).sum();
    let new: usize = texts[..texts.len() - 1].iter().map(String::len).sum();
    assert_eq!(old + new, 10 << 20, "nothing of it is lost");
}

#[test]
fn what_comes_faster_than_it_can_be_read_is_dropped_oldest_first_and_said_once() {
    let mut scene = Scene::new();
    let (complaints, complained) = mpsc::channel();
    let settings = Settings {
        complain: Box::new(move |text| complaints.send(text).unwrap()),
        ..Scene::settings(scene.folder.path())
    };
    scene.collector = Collector::start_with(settings, 1_000).unwrap();
    scene.write("flood@1.0.out", "old line\n".repeat(1_000) + &"new\n".repeat(250));
    scene.begin(Scene::start("flood@1/0", None, None));
    scene.drain("flood@1/0");
    scene.write("flood@1.0.out", "old line\n".repeat(1_000) + &"new\n".repeat(250));
    scene.drain("flood@1/0");
    let dropped = "9000 bytes of its output were dropped: more than 1000 came before they could be read";
    assert_eq!(complained.recv_timeout(LONG).unwrap(), format!("flood@1/0: {dropped}"));
    assert!(complained.try_recv().is_err(), "the second time is counted, and said a minute later");
    let log = scene.log("flood");
    assert!(log.contains(&format!("Z flood@1/0 handover | {dropped}\n")), "{log}");
    assert!(!log.contains("old line"));
    assert_eq!(scene.texts("flood").iter().filter(|text| *text == "new").count(), 498, "{log}");
}

#[test]
fn a_hundred_megabytes_of_one_service_lose_no_line_of_another_and_leave_nothing_behind() {
    let scene = Scene::new();
    scene.begin(Scene::start("flood@1/0", None, None));
    scene.begin(Scene::start("shop@1/0", None, None));
    let line = "x".repeat(999) + "\n";
    let flood = line.repeat(1_000);
    let output = scene.folder.path().join("output/flood@1.0.out");
    for n in 0..100 {
        scene.write("flood@1.0.out", &flood);
        scene.write("shop@1.0.out", format!("line {n}\n"));
    }
    scene.drain("shop@1/0");
    scene.drain("flood@1/0");
    assert_eq!(scene.texts("shop"), (0..100).map(|n| format!("line {n}")).collect::<Vec<_>>());
    let logs = scene.folder.path().join("logs");
    let kept: u64 =
        std::fs::read_dir(&logs).unwrap().map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(kept < 90 << 20, "{kept} bytes of logs");
    // A reader in between sees no bytes that take up space: they were given back.
    let mut first = [1; 4096];
    io::Read::read_exact(&mut std::fs::File::open(output).unwrap(), &mut first).unwrap();
    assert!(first.iter().all(|byte| *byte == 0));
}

#[test]
fn a_log_that_cannot_be_written_keeps_no_other_from_it() {
    let scene = Scene::new();
    scene.begin(Scene::start("shop@1/0", None, None));
    scene.begin(Scene::start("web@1/0", None, None));
    // As on a full disk: every append fails.
    let log = scene.folder.path().join("logs/shop.log");
    std::fs::create_dir(&log).unwrap();
    scene.write("shop@1.0.out", "kept\n");
    scene.write("web@1.0.out", "fine\n");
    assert_eq!(scene.drain("shop@1/0"), ["kept"]);
    assert_eq!(scene.drain("web@1/0"), ["fine"]);
    assert_eq!(scene.texts("web"), ["fine"]);
    std::fs::remove_dir(log).unwrap();
    let deadline = Instant::now() + LONG;
    while scene.log("shop").is_empty() {
        assert!(Instant::now() < deadline, "the line never came to the log");
        std::thread::yield_now();
    }
    assert_eq!(scene.texts("shop"), ["kept"]);
}
