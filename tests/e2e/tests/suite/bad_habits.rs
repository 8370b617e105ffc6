//! Programs and hooks that misbehave in ways a supervisor must survive: Handover goes on, says what happened, and
//! loses no line of anybody else.

use std::path::PathBuf;
use std::time::Duration;

use e2e::load::{Kind, Load};
use e2e::manifest::Setup;
use e2e::sandbox::Sandbox;
use e2e::system;
use e2e::wait::{self, PATIENCE};

/// Between two lines of the good neighbour.
const TICK_MS: &str = "2";

/// `shop` with these habits, and a well-behaved neighbour, `side`, that counts aloud.
fn beside_a_good_one(setup: Setup) -> Sandbox {
    let mut sandbox = Sandbox::new(setup);
    let side = sandbox.release("side", &["--tick", TICK_MS]);
    sandbox.edit(|setup| {
        setup.extra.push_str(&format!(
            "[[route]]\nlistener = \"web\"\npath = \"/side\"\nservice = \"side\"\n\
             [service.side]\nrelease = '{}'\nversion = \"1\"\ncommand = ['./victim']\n\
             [service.side.readiness]\nhttp = \"/healthz\"\n",
            side.display()
        ));
    });
    sandbox.up();
    sandbox.wait_ready();
    sandbox.wait_status("the neighbour to be ready", |status| {
        (status.in_state("side", "ready").len() == 1).then_some(())
    });
    sandbox
}

/// All of a service's log, the oldest file first.
fn log_of(sandbox: &Sandbox, service: &str) -> String {
    let folder = sandbox.state_dir().join("logs");
    let old = (1..100).map(|number| folder.join(format!("{service}.log.{number}")));
    let mut files: Vec<PathBuf> = old.take_while(|path| path.exists()).collect();
    files.reverse();
    files.push(folder.join(format!("{service}.log")));
    let read = |path: PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    files.into_iter().map(read).collect()
}

/// How far the neighbour has counted; every number up to that is in its log once.
#[track_caller]
fn counted(sandbox: &Sandbox) -> u64 {
    let log = log_of(sandbox, "side");
    let numbers = log.lines().filter_map(|line| line.split_once("tick ")?.1.trim().parse::<u64>().ok());
    let mut next = 0;
    for number in numbers {
        assert_eq!(number, next, "a line of the neighbour is missing or doubled");
        next += 1;
    }
    next
}

/// The neighbour counts on, with nothing missing.
#[track_caller]
fn counts_on(sandbox: &Sandbox) {
    let goal = counted(sandbox) + 200;
    wait::until("the neighbour's next lines", PATIENCE, || (counted(sandbox) >= goal).then_some(()));
}

fn says(sandbox: &Sandbox, service: &str, text: &str) {
    wait::until(text, PATIENCE, || log_of(sandbox, service).contains(text).then_some(()));
}

#[test]
fn one_that_floods_its_output_costs_nobody_a_line_or_a_request_and_the_disk_little() {
    let sandbox = beside_a_good_one(Setup::default());
    let load = Load::start(&sandbox.plan(), &[Kind::Think2ms, Kind::Fresh]);
    let flood = sandbox.release("flood", &["--flood"]);
    sandbox.deploy("2", &flood).expect_code(0);
    for _ in 0..4 {
        counts_on(&sandbox);
        load.wait_for_answers(50);
    }
    let folder = sandbox.state_dir().join("logs");
    let files = std::fs::read_dir(folder).unwrap().flatten();
    let kept: u64 = files
        .filter(|file| file.file_name().to_string_lossy().starts_with("shop.log"))
        .map(|file| file.metadata().map_or(0, |metadata| metadata.len()))
        .sum();
    assert!(kept < 120 << 20, "{kept} bytes of its log are kept");
    let next = sandbox.release("quiet", &[]);
    sandbox.deploy("3", &next).expect_code(0);
    assert_eq!(load.finish().failures_by_name(), "none");
    counts_on(&sandbox);
}

#[test]
fn one_that_writes_no_text_is_shown_as_text_all_the_same() {
    let sandbox = beside_a_good_one(Setup::with_flags(&["--garbage"]));
    says(&sandbox, "shop", "not text");
    let log = std::fs::read(sandbox.state_dir().join("logs/shop.log")).unwrap();
    assert!(String::from_utf8(log).is_ok_and(|text| text.contains('\u{fffd}')));
    counts_on(&sandbox);
}

#[test]
fn a_line_of_ten_megabytes_is_cut_and_what_follows_is_a_line_of_its_own() {
    let sandbox = beside_a_good_one(Setup::with_flags(&["--long-line", "10000000"]));
    says(&sandbox, "shop", "after the long line");
    let log = log_of(&sandbox, "shop");
    let longest = log.lines().map(str::len).max().unwrap_or(0);
    assert!(longest < 70 << 10, "a line of {longest} bytes");
    let letters: usize = log.lines().map(|line| line.matches("lllll").count() * 5).sum();
    assert!(letters > 9_000_000, "only {letters} of it");
    counts_on(&sandbox);
}

#[test]
fn one_that_leaves_zombies_and_ignores_every_signal_ends_with_all_of_them() {
    let setup = Setup {
        stop: "drain_timeout = \"5s\"\ngrace_period = \"500ms\"\n".to_owned(),
        rollout: "keep_warm = \"0s\"\n".to_owned(),
        ..Setup::with_flags(&["--ignore-all", "--zombies", "30", "--fork-child-keeps-port"])
    };
    let sandbox = beside_a_good_one(setup);
    let old = sandbox.status().instances("shop")[0].pid.unwrap();
    let load = Load::of(&sandbox.plan(), Kind::Think2ms, 4);
    let next = sandbox.release("next", &[]);
    sandbox.deploy("2", &next).expect_code(0);
    wait::until("the old process to be killed", PATIENCE, || (!system::is_alive(old)).then_some(()));
    sandbox.wait_status("the old instance to be gone", |status| {
        status.instances("shop").iter().all(|instance| instance.version == "2").then_some(())
    });
    assert_eq!(load.finish().failures_by_name(), "none");
    counts_on(&sandbox);
}

/// A small disk of its own for the state directory; freed when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf, mebibytes: u64) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let size = format!("size={mebibytes}m,mode=0711");
        let mut mount = std::process::Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", &size, "none"]).arg(&path).status();
        assert!(mounted.is_ok_and(|status| status.success()), "this test needs the right to mount a tmpfs");
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: whoever still has a file there keeps it until its end.
        let _status = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_no_traffic_and_is_said_and_afterwards_all_goes_on() {
    let mut sandbox = Sandbox::new(Setup::with_flags(&["--tick", TICK_MS, "--fill", "4000000000"]));
    let size = |path: PathBuf| std::fs::metadata(path).unwrap().len() >> 20;
    // The binary that is committed, the releases, and what is to be filled.
    let mebibytes = size(e2e::sandbox::handover()) + size(e2e::sandbox::victim()) * 4 + 200;
    let _disk = SmallDisk::mount(sandbox.state_dir(), mebibytes);
    sandbox.up();
    sandbox.wait_ready();
    let load = Load::start(&sandbox.plan(), &[Kind::Think2ms, Kind::Fresh, Kind::Think0]);
    let filler = sandbox.state_dir().join("releases/shop/1/filler");
    let mut length = 0;
    wait::until("the disk to be full", PATIENCE, || {
        let now = std::fs::metadata(&filler).map_or(0, |metadata| metadata.len());
        let is_full = now > 0 && now == length;
        length = now;
        std::thread::sleep(Duration::from_millis(100));
        is_full.then_some(())
    });
    load.wait_for_answers(200);
    let next = sandbox.release("next", &[]);
    let refused = sandbox.deploy("2", &next);
    assert!(matches!(refused.code, Some(1 | 3)), "{}", refused.text());
    assert!(refused.text().contains("disk"), "it says why: {}", refused.text());
    let agent = sandbox.status().pid("agent").unwrap();
    system::send(agent, system::Signal::Kill);
    sandbox.wait_status("another agent", |status| status.pid("agent").filter(|pid| *pid != agent));
    load.wait_for_answers(200);
    std::fs::remove_file(&filler).unwrap();
    sandbox.deploy("3", &next).expect_code(0);
    load.wait_for_answers(50);
    assert_eq!(load.finish().failures_by_name(), "none");
    assert_eq!(sandbox.get("/").unwrap().text(), "3");
    sandbox.down();
}

/// `[service.shop.hooks]`, with a command that is one line of shell.
fn hook(kind: &str, script: &str, timeout: &str) -> String {
    format!(
        "[service.shop.hooks]\n{kind} = {{ command = [\"/bin/sh\", \"-c\", '{script}'], timeout = \"{timeout}\" }}\n"
    )
}

#[test]
fn a_hook_that_hangs_fails_the_start_by_name_and_changes_nothing() {
    let mut sandbox = beside_a_good_one(Setup::default());
    let load = Load::start(&sandbox.plan(), &[Kind::Think2ms, Kind::Fresh]);
    sandbox.edit(|setup| {
        setup.extra.push_str(&hook("before_start", "echo waiting; exec sleep 1000", "700ms"));
    });
    sandbox.run(&["apply", "--yes"]).expect_code(0);
    let next = sandbox.release("next", &[]);
    sandbox.deploy("2", &next).expect_code(3).expect_says(&["before_start"]);
    assert_eq!(load.finish().failures_by_name(), "none");
    assert_eq!(sandbox.status().stable("shop").as_deref(), Some("1"));
    says(&sandbox, "shop", "waiting");
    counts_on(&sandbox);
}

#[test]
fn what_a_hook_leaves_behind_ends_with_it() {
    let marker = "sleep 98765";
    let setup =
        Setup { extra: hook("before_start", &format!("{marker} & echo forked"), "5s"), ..Setup::default() };
    let sandbox = beside_a_good_one(setup);
    says(&sandbox, "shop", "forked");
    wait::until("its child to be gone", PATIENCE, || {
        let is_it = |pid: &u32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).replace('\0', " ").trim() == marker
        };
        sandbox.processes().iter().all(|pid| !is_it(pid)).then_some(())
    });
    counts_on(&sandbox);
}

#[test]
fn a_hook_that_floods_its_output_is_ended_in_its_time_and_the_stop_goes_on() {
    let setup = Setup {
        extra: hook("before_stop", "yes flooding-hook | head -c 200000000; exec sleep 1000", "2s"),
        rollout: "keep_warm = \"0s\"\n".to_owned(),
        ..Setup::default()
    };
    let sandbox = beside_a_good_one(setup);
    let load = Load::of(&sandbox.plan(), Kind::Think2ms, 2);
    let next = sandbox.release("next", &[]);
    sandbox.deploy("2", &next).expect_code(0);
    sandbox.wait_status("the old instance to be gone", |status| {
        status.instances("shop").iter().all(|instance| instance.version == "2").then_some(())
    });
    assert_eq!(load.finish().failures_by_name(), "none");
    counts_on(&sandbox);
}
