use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;

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

    fn collector(folder: &Path) -> Collector {
        Collector::start(Settings {
            output: folder.join("output"),
            logs: folder.join("logs"),
            limits: Limits::default(),
            console: Console::silent(),
            complain: Box::new(drop),
            wall_ms: || 1_795_366_800_123,
        })
        .unwrap()
    }

    fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join("output").join(file);
        OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
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
    scene.collector.track(id("shop@1.4.1/0")).unwrap();
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
    scene.collector.track(one()).unwrap();
    scene.write("shop@1.0.out", "first life\n");
    scene.ask(|c, reply| c.forget(one(), reply));
    assert!(!scene.folder.path().join("output/shop@1.0.out").exists());
    scene.collector.track(one()).unwrap();
    scene.write("shop@1.0.out", "next\n");
    assert_eq!(scene.ask(|c, reply| c.drain(one(), reply)), ["next"]);
    assert_eq!(scene.log("shop").matches('\n').count(), 2);
}

#[test]
fn a_restarted_collector_goes_on_where_the_last_one_stopped() {
    let mut scene = Scene::new();
    let one = || id("shop@1/0");
    scene.collector.track(one()).unwrap();
    scene.write("shop@1.0.out", "one\ntwo\nhal");
    scene.ask(|c, reply| c.last_lines(one(), reply));
    scene.collector = Scene::collector(scene.folder.path());
    scene.write("shop@1.0.out", "f\nthree\n");
    scene.collector.track(one()).unwrap();
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
    scene.collector.track(one()).unwrap();
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
    scene.collector.track(one()).unwrap();
    let text: String = (0..100_000).map(|n| format!("line {n}\n")).collect();
    scene.write("flood@1.0.out", &text);
    let lines = scene.ask(|c, reply| c.drain(one(), reply));
    assert_eq!(lines.len(), LAST_LINES_MAX);
    assert_eq!(lines.last().unwrap(), "line 99999");
    assert_eq!(scene.log("flood").lines().count(), 100_000);
    let left = std::fs::read(scene.folder.path().join("output/flood@1.0.out")).unwrap();
    assert!(left.iter().all(|byte| *byte == 0), "what was taken is freed");
}

#[test]
fn file_names_lead_back_to_their_instances() {
    for text in ["shop@1.4.1/0", "a-b@1.0+c2/17"] {
        assert_eq!(instance_of_file(&format!("{}.err", id(text).file_name())), Some(id(text)));
    }
    for name in ["offsets", "offsets.new", "shop@1.0.log", "x.out"] {
        assert_eq!(instance_of_file(name), None, "{name}");
    }
}
