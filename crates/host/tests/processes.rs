//! Processes that are ours and others', and whole trees of them.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests are outside of test functions")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use host::poll::{Interest, wait};
use host::process::{self, Ended};
use host::process_tree::{INSTANCE_VARIABLE, STATE_VARIABLE, TASK_VARIABLE, Tree, Trees};

/// For anything that is to come.
const DEADLINE: Duration = Duration::from_secs(10);

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < DEADLINE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

/// What its output says, as numbers, once `count` of them are there.
fn numbers(child: &mut Child, count: usize) -> Vec<u32> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.take(count).map(|line| line.unwrap().trim().parse().unwrap()).collect()
}

#[test]
fn a_zombie_is_dead_and_the_living_have_a_start() {
    let own = process::current_pid();
    assert!(process::is_alive(own) && process::start_ticks(own).is_some());
    let mut child = shell("exit 0").spawn().unwrap();
    until("its end", || !process::is_alive(child.id()));
    assert!(process::start_ticks(child.id()).is_some(), "it is a zombie still");
    child.wait().unwrap();
    assert!(process::start_ticks(child.id()).is_none());
}

#[test]
fn the_end_of_a_process_that_is_not_our_child_is_seen_with_its_status() {
    for (line, expected) in [("exit 7", Ended::Code(7)), ("kill -9 $$", Ended::Signal(9))] {
        // The one in between reaps it, as an init would.
        let mut between = shell(&format!("/bin/sh -c 'echo $$; sleep 0.1; {line}' & wait; exec sleep 1000"));
        let mut between = between.spawn().unwrap();
        let pid = numbers(&mut between, 1)[0];
        let handle = process::handle(pid).unwrap();
        let ticks = process::start_ticks(pid).unwrap();
        let interest = [Interest { descriptor: handle.clone(), write: false }];
        assert!(!wait(&interest, Duration::ZERO).unwrap()[0].read);
        until("its end", || wait(&interest, DEADLINE).unwrap()[0].read);
        let ended = process::end_of_other(&handle, pid, ticks);
        assert!(ended == expected || ended == Ended::Unknown, "{ended:?}");
        between.kill().unwrap();
        between.wait().unwrap();
    }
}

#[test]
fn a_handle_signals_its_process_and_nobody_after_it() {
    let mut child = shell("exec sleep 1000").spawn().unwrap();
    let handle = process::handle(child.id()).unwrap();
    process::signal(&handle, process::KILL).unwrap();
    child.wait().unwrap();
    assert!(process::signal(&handle, process::KILL).is_err());
    assert!(process::signal(&handle, 4711).is_err());
}

#[test]
fn why_an_address_cannot_be_bound_is_told_in_words() {
    let socket = host::listener::bind_tcp("127.0.0.1:0".parse().unwrap(), 8).unwrap();
    let address = host::listener::local_address(&socket).unwrap();
    let error = host::listener::bind_tcp(address, 8).unwrap_err();
    let text = host::listener::explain(&address.to_string(), &error);
    assert!(
        text.contains(&format!("pid {}", process::current_pid())) && text.contains("choose another"),
        "{text}"
    );
    let error = host::listener::bind_tcp("192.0.2.1:80".parse().unwrap(), 8).unwrap_err();
    assert!(host::listener::explain("192.0.2.1:80", &error).contains("no such address"));
}

#[test]
fn the_listener_of_a_port_is_found_by_the_port_and_by_its_process() {
    let socket = host::listener::bind_tcp("127.0.0.1:0".parse().unwrap(), 8).unwrap();
    let port = host::listener::local_address(&socket).unwrap().port();
    let pid = process::current_pid();
    assert!(host::sockets::who_listens_on(port).unwrap().starts_with(&format!("pid {pid} (")));
    assert!(host::sockets::ports_of(pid).contains(&port));
    drop(socket);
    assert_eq!(host::sockets::who_listens_on(port), None);
}

/// A main process with a child in its session, one in its own, and one that forks on and on; should a test fail to end
/// it, it stops by itself.
const FOREST: &str = "sleep 1000 & echo $!; setsid sleep 1000 & echo $!; \
    (for n in $(seq 400); do sleep 100 & echo $! >/dev/null; sleep 0.01; done) & echo $!; echo $$; wait";

/// Starts it as a tree of its own, as `exec` does.
fn forest(trees: &Trees, instance: &str) -> (Child, Tree, Vec<u32>) {
    let cgroup = trees.make_cgroup(instance).unwrap();
    let enter =
        cgroup.as_ref().map_or_else(String::new, |path| format!("echo 0 >{}/cgroup.procs;", path.display()));
    let mut command = Command::new("setsid");
    command
        .args(["/bin/sh", "-c", &format!("{enter} {FOREST}")])
        .env(STATE_VARIABLE, trees.state())
        .env(INSTANCE_VARIABLE, instance)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut main = command.spawn().unwrap();
    let pids = numbers(&mut main, 4);
    let pid = pids[3];
    let start_ticks = process::start_ticks(pid).unwrap();
    (main, Tree { instance: instance.to_owned(), pid, start_ticks, cgroup }, pids)
}

fn kill_a_forest(trees: &Trees) {
    let (mut main, tree, pids) = forest(trees, "web@1.0");
    let (mut other, other_tree, other_pids) = forest(trees, "web@1.1");
    assert!(!trees.is_empty(&tree));
    trees.kill(&tree).unwrap();
    main.wait().unwrap();
    until("an empty tree", || trees.is_empty(&tree));
    assert!(!pids.iter().any(|pid| process::is_alive(*pid)));
    assert!(other_pids.iter().all(|pid| process::is_alive(*pid)), "the other one is not touched");
    // Of the other the main process ends first; what it leaves is found all the same.
    process::signal_pid(other_tree.pid, process::KILL).unwrap();
    other.wait().unwrap();
    assert!(!trees.is_empty(&other_tree));
    trees.kill(&other_tree).unwrap();
    until("an empty tree", || trees.is_empty(&other_tree));
    for tree in [tree, other_tree] {
        if let Some(cgroup) = tree.cgroup {
            until("a removed cgroup", || trees.remove_cgroup(&cgroup).is_ok());
        }
    }
}

#[test]
fn a_forking_tree_is_killed_whole_by_its_cgroup() {
    let folder = tempfile::tempdir().unwrap();
    let trees = Trees::new(folder.path());
    kill_a_forest(&trees);
    trees.remove_base();
}

#[test]
fn a_forking_tree_is_killed_whole_without_cgroups() {
    let folder = tempfile::tempdir().unwrap();
    kill_a_forest(&Trees::without_cgroups(folder.path()));
}

#[test]
fn a_task_is_a_tree_of_its_own_beside_the_instance_that_it_works_for() {
    let folder = tempfile::tempdir().unwrap();
    let trees = Trees::without_cgroups(folder.path());
    let (mut main, tree, _) = forest(&trees, "web@1/0");
    let environment = [(INSTANCE_VARIABLE, "web@1/0"), (TASK_VARIABLE, "anothers")]
        .map(|(a, b)| (a.to_owned(), b.to_owned()));
    let environment = trees.marked(environment.into(), "web@1/0~before-stop-1");
    let [instance, _, task] = &environment[..] else { panic!("{environment:?}") };
    assert_eq!((instance.1.as_str(), task.1.as_str()), ("web@1/0", "web@1/0~before-stop-1"));
    let mut hook = Command::new("sh");
    hook.args(["-c", "setsid sleep 1000 & echo $!; echo $$; wait"])
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut hook = hook.spawn().unwrap();
    let pids = numbers(&mut hook, 2);
    let start_ticks = process::start_ticks(pids[1]).unwrap();
    let task = Tree { instance: "web@1/0~before-stop-1".to_owned(), pid: pids[1], start_ticks, cgroup: None };
    // One that is just becoming another program has no environment for a moment.
    until("two processes of the task", || pids.iter().all(|pid| trees.contains(&task, *pid)));
    assert!(!pids.iter().any(|pid| trees.contains(&tree, *pid)));
    trees.kill(&task).unwrap();
    hook.wait().unwrap();
    until("an empty tree", || trees.is_empty(&task));
    assert!(process::is_alive(tree.pid));
    trees.kill(&tree).unwrap();
    main.wait().unwrap();
    until("an empty tree", || trees.is_empty(&tree));
}

#[test]
fn what_nobody_knows_is_killed_and_what_is_known_or_anothers_is_not() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (trees, others) = (Trees::new(ours.path()), Trees::new(theirs.path()));
    let (mut known, known_tree, _) = forest(&trees, "known@1.0");
    let (mut unknown, unknown_tree, _) = forest(&trees, "unknown@1.0");
    let (mut other, other_tree, _) = forest(&others, "unknown@1.0");
    assert_eq!(trees.kill_unknown(std::slice::from_ref(&known_tree)), ["unknown@1.0"]);
    unknown.wait().unwrap();
    until("its end", || trees.is_empty(&unknown_tree));
    assert!(process::is_alive(known_tree.pid) && process::is_alive(other_tree.pid));
    assert_eq!(trees.kill_unknown(&[]), ["known@1.0"]);
    assert_eq!(others.kill_unknown(&[]), ["unknown@1.0"]);
    known.wait().unwrap();
    other.wait().unwrap();
    for (trees, tree) in [(&trees, known_tree), (&trees, unknown_tree), (&others, other_tree)] {
        until("its end", || trees.is_empty(&tree));
        if let Some(cgroup) = tree.cgroup {
            until("a removed cgroup", || trees.remove_cgroup(&cgroup).is_ok());
        }
    }
    trees.remove_base();
    others.remove_base();
}

#[test]
fn a_cgroup_name_that_is_still_in_use_is_not_shared() {
    let folder = tempfile::tempdir().unwrap();
    let trees = Trees::new(folder.path());
    let (mut main, tree, _) = forest(&trees, "web@1.0");
    let again = trees.make_cgroup("web@1.0").unwrap();
    if let (Some(first), Some(second)) = (&tree.cgroup, &again) {
        assert_ne!(first, second);
        trees.remove_cgroup(second).unwrap();
    }
    trees.kill(&tree).unwrap();
    main.wait().unwrap();
    if let Some(cgroup) = &tree.cgroup {
        until("a removed cgroup", || trees.remove_cgroup(cgroup).is_ok());
        assert!(!Path::new(cgroup).exists());
    }
    trees.remove_base();
}

#[test]
fn a_process_belongs_to_the_tree_it_was_started_in_wherever_it_went() {
    let folder = tempfile::tempdir().unwrap();
    for trees in [Trees::new(folder.path()), Trees::without_cgroups(folder.path())] {
        let (mut main, tree, pids) = forest(&trees, "web@1.0");
        let (mut other, other_tree, other_pids) = forest(&trees, "web@1.1");
        assert!(pids.iter().all(|pid| trees.contains(&tree, *pid)));
        assert!(!other_pids.iter().any(|pid| trees.contains(&tree, *pid)));
        for pid in [0, 1, process::current_pid(), u32::MAX] {
            assert!(!trees.contains(&tree, pid), "{pid}");
        }
        for (main, tree) in [(&mut main, &tree), (&mut other, &other_tree)] {
            trees.kill(tree).unwrap();
            main.wait().unwrap();
            until("an empty tree", || trees.is_empty(tree));
            // Also while they are zombies.
            assert!(!trees.contains(tree, tree.pid));
            if let Some(cgroup) = &tree.cgroup {
                until("a removed cgroup", || trees.remove_cgroup(cgroup).is_ok());
            }
        }
        trees.remove_base();
    }
}

/// Ignores what can be ignored, has a daemon whose parents have ended and one in a group of its own, and leaves a
/// zombie; then it says so.
const STUBBORN: &str = "trap '' HUP INT QUIT USR1 USR2 TERM; (setsid sh -c 'sleep 1000 & echo $!' &); \
    setsid sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1000; done' & \
    sh -c 'exit 0' & echo $!; exec sleep 1000";

#[test]
fn a_stubborn_tree_is_killed_whole_with_and_without_cgroups() {
    let folder = tempfile::tempdir().unwrap();
    for trees in [Trees::new(folder.path()), Trees::without_cgroups(folder.path())] {
        let cgroup = trees.make_cgroup("web@1.0").unwrap();
        let enter =
            cgroup.as_ref().map_or(String::new(), |path| format!("echo 0 >{}/cgroup.procs;", path.display()));
        let mut command = Command::new("setsid");
        command
            .args(["/bin/sh", "-c", &format!("{enter} {STUBBORN}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        command.env(STATE_VARIABLE, trees.state()).env(INSTANCE_VARIABLE, "web@1.0");
        let mut main = command.spawn().unwrap();
        let pids = numbers(&mut main, 3);
        let start_ticks = process::start_ticks(main.id()).unwrap();
        let tree = Tree { instance: "web@1.0".to_owned(), pid: main.id(), start_ticks, cgroup };
        process::signal_pid(tree.pid, process::TERM).unwrap();
        until("a zombie", || pids.iter().filter(|pid| process::is_alive(**pid)).count() == 2);
        trees.kill(&tree).unwrap();
        main.wait().unwrap();
        until("an empty tree", || trees.is_empty(&tree));
        assert!(!pids.iter().any(|pid| process::is_alive(*pid)));
        if let Some(cgroup) = &tree.cgroup {
            until("a removed cgroup", || trees.remove_cgroup(cgroup).is_ok());
        }
        trees.remove_base();
    }
}

#[test]
fn a_limit_of_memory_is_kept_or_refused_as_was_said_before() {
    let folder = tempfile::tempdir().unwrap();
    let trees = Trees::new(folder.path());
    let cgroup = trees.make_cgroup("web@1.0").unwrap();
    match (host::limits::memory_grantable(), trees.limit_memory(cgroup.as_deref(), 64 << 20)) {
        (Ok(()), Ok(())) => {
            let max = std::fs::read_to_string(cgroup.as_ref().unwrap().join("memory.max")).unwrap();
            assert_eq!(max.trim(), (64 << 20).to_string());
        }
        (Err(said), Err(refused)) => assert_eq!(said, refused),
        (said, done) => panic!("said {said:?} and did {done:?}"),
    }
    let refused = Trees::without_cgroups(folder.path()).limit_memory(None, 64 << 20).unwrap_err();
    assert!(refused.contains("cgroup v2") && refused.contains("`limits`"), "{refused}");
    if let Some(cgroup) = cgroup {
        trees.remove_cgroup(&cgroup).unwrap();
    }
    trees.remove_base();
}

#[test]
fn what_a_tree_uses_is_the_sum_of_its_processes() {
    let folder = tempfile::tempdir().unwrap();
    for trees in [Trees::new(folder.path()), Trees::without_cgroups(folder.path())] {
        let (mut main, tree, _) = forest(&trees, "web@1.0");
        let nothing = Tree { instance: "web@1.1".to_owned(), pid: u32::MAX, start_ticks: 0, cgroup: None };
        let other = Tree { start_ticks: tree.start_ticks + 1, cgroup: None, ..tree.clone() };
        let all = [nothing, tree.clone(), other];
        // The one that forks on and on needs time, and each shell and sleep some memory.
        until("some use", || {
            let used = host::usage::of(&all);
            assert_eq!((used[0], used[2]), (None, None));
            let used = used[1].unwrap();
            used.cpu >= Duration::from_millis(50)
                && used.memory_bytes > 1 << 20
                && used.memory_bytes < 4 << 30
        });
        trees.kill(&tree).unwrap();
        main.wait().unwrap();
        until("an empty tree", || trees.is_empty(&tree));
        assert_eq!(host::usage::of(std::slice::from_ref(&tree)), [None]);
        if let Some(cgroup) = &tree.cgroup {
            until("a removed cgroup", || trees.remove_cgroup(cgroup).is_ok());
        }
        trees.remove_base();
    }
}

#[test]
fn the_program_of_a_process_is_known_also_when_its_file_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    std::fs::copy("/bin/sleep", &path).unwrap();
    let mut child = Command::new(&path).arg("1000").spawn().unwrap();
    assert_eq!(process::executable(child.id()).unwrap(), path);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(process::executable(child.id()).unwrap(), path);
    assert_eq!(process::executable(process::current_pid()).unwrap(), process::own_program().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(process::executable(child.id()).is_err());
}
