//! Users, limits, main processes that change, ends for want of memory, and trees that do not want to go.
//!
//! What a machine does not grant (root, a controller of memory) is refused there, and then that is what is tested.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use host::process;
use wire::exec::SpawnSpec;
use wire::link::ToHolder;
use wire::vault::ListenerUse;

use crate::scenarios::{Scenario, kill};
use crate::world::World;

pub(crate) const ALL: &[Scenario] = &[
    ("a_service_is_its_user_for_good", a_service_is_its_user_for_good),
    (
        "who_may_not_become_a_user_or_enter_a_place_is_told_why",
        who_may_not_become_a_user_or_enter_a_place_is_told_why,
    ),
    ("limits_hold_or_are_refused_with_what_to_do", limits_hold_or_are_refused_with_what_to_do),
    ("another_process_of_its_tree_becomes_the_main_one", another_process_of_its_tree_becomes_the_main_one),
    ("a_daemon_runs_on_after_its_starter_has_ended", a_daemon_runs_on_after_its_starter_has_ended),
    ("a_changed_main_process_survives_a_killed_holder", a_changed_main_process_survives_a_killed_holder),
    ("who_was_killed_for_memory_is_said_to_be", who_was_killed_for_memory_is_said_to_be),
    ("a_hang_up_has_the_manifest_applied_one_at_a_time", a_hang_up_has_the_manifest_applied_one_at_a_time),
    ("an_address_can_be_bound_again_under_any_name", an_address_can_be_bound_again_under_any_name),
    ("a_listener_that_cannot_move_stays_where_it_is", a_listener_that_cannot_move_stays_where_it_is),
    ("a_tree_that_does_not_want_to_go_goes_whole", a_tree_that_does_not_want_to_go_goes_whole),
    ("a_task_sees_the_instance_that_it_works_for", a_task_sees_the_instance_that_it_works_for),
];

fn number(word: &str) -> u32 {
    word.parse().expect("a number")
}

fn spawn(world: &World, spec: SpawnSpec) {
    world.say("agent", &ToHolder::Spawn(Box::new(spec)));
}

fn signal(world: &World, name: &str, signal: i32) {
    world.say("agent", &ToHolder::Signal { instance: name.to_owned(), signal });
}

fn forget(world: &World, name: &str) {
    world.say("agent", &ToHolder::Forget { instance: name.to_owned() });
}

/// Lets other users into the folder of the test.
fn open_to_others(world: &World) {
    host::folder::set_rights(world.folder.path(), true).expect("our folder");
}

fn a_service_is_its_user_for_good() {
    let world = World::start(None);
    open_to_others(&world);
    let line = "grep -E '^(Uid|Gid|Groups|CapEff):' /proc/self/status | cut -f2- | tr '\\t\\n' '  '; umask; ulimit -n; \
                ulimit -Hn; stat -c '%u %g %a' \"$NOTIFY_SOCKET\"; stat -L -c '%u %g %a' /proc/self/fd/1 /proc/self/fd/2; \
                test -w \"$NOTIFY_SOCKET\" && echo may-notify; echo opened-again >>/dev/stdout; exec sleep 1000";
    let spec = SpawnSpec {
        user: Some("nobody".to_owned()),
        group: Some("www-data".to_owned()),
        umask: Some(0o027),
        open_files: Some(99),
        ..world.spec("web@1/0", line)
    };
    spawn(&world, spec);
    if !host::account::is_root() {
        assert!(world.refused("web@1/0").contains("only root"));
        return world.stop(true);
    }
    world.spawned(1, "web@1/0");
    let nobody = host::account::lookup("nobody", Some("www-data")).expect("nobody");
    let (user, group) = (nobody.uid.to_string(), nobody.gid.to_string());
    let groups: Vec<String> = nobody.groups.iter().map(u32::to_string).collect();
    let (user, group) = (user.as_str(), group.as_str());
    let mut expected = vec![user, user, user, user, group, group, group, group];
    expected.extend(groups.iter().map(String::as_str));
    // No right of root is left.
    expected.extend(["0000000000000000", "0027", "99", "99"]);
    for _ in 0..3 {
        expected.extend([user, group, "600"]);
    }
    expected.extend(["may-notify", "opened-again"]);
    assert_eq!(world.words("web@1.0", expected.len()), expected);
    // The same slot for another user: the files are that one's.
    signal(&world, "web@1/0", process::KILL);
    world.exited(1, "web@1/0");
    let (out, _) = world.layout.output("web@1.0");
    std::fs::write(&out, "").expect("its output");
    let spec = SpawnSpec {
        user: Some("www-data".to_owned()),
        ..world.spec("web@1/0", "stat -L -c '%U' /proc/self/fd/1")
    };
    spawn(&world, spec);
    assert_eq!(world.words("web@1.0", 1), ["www-data"]);
    world.stop(true);
}

fn who_may_not_become_a_user_or_enter_a_place_is_told_why() {
    let world = World::start(None);
    let user =
        |name: &str, user: &str| SpawnSpec { user: Some(user.to_owned()), ..world.spec(name, "exit 0") };
    spawn(&world, user("web@1/0", "no-such-user"));
    let why = world.refused("web@1/0");
    assert!(why.contains("no user `no-such-user`") && why.contains("useradd"), "{why}");
    let group = SpawnSpec { group: Some("no-such-group".to_owned()), ..world.spec("web@1/1", "exit 0") };
    spawn(&world, group);
    assert!(world.refused("web@1/1").contains("no group `no-such-group`"));
    if host::account::is_root() {
        // Closed to all who are not.
        host::folder::set_rights(world.folder.path(), false).expect("our folder");
    }
    spawn(&world, user("web@1/2", if host::account::is_root() { "nobody" } else { "root" }));
    let why = world.refused("web@1/2");
    if host::account::is_root() {
        let folder = world.folder.path().display().to_string();
        assert!(why.contains("notify socket") && why.contains(&folder) && why.contains("chmod o+x"), "{why}");
        let spec = SpawnSpec { notify: false, ..user("web@1/3", "nobody") };
        spawn(&world, spec);
        let why = world.refused("web@1/3");
        assert!(why.contains("working directory") && why.contains("may not pass through"), "{why}");
        let program = world.folder.path().join("program");
        std::fs::write(&program, "#!/bin/sh\n").expect("a program");
        host::folder::set_rights(&program, true).expect("our program");
        let spec = SpawnSpec {
            notify: false,
            working_directory: "/".to_owned(),
            program: program.display().to_string(),
            ..user("web@1/4", "nobody")
        };
        spawn(&world, spec);
        let why = world.refused("web@1/4");
        assert!(why.contains("Permission denied") && why.contains("may not pass through"), "{why}");
    } else {
        assert!(why.contains("only root"), "{why}");
    }
    assert_eq!(world.count("agent", 1, "spawned"), 0);
    // Its own user is nothing to become.
    spawn(&world, user("web@1/5", &host::account::own_user().to_string()));
    world.spawned(1, "web@1/5");
    world.stop(true);
}

fn limits_hold_or_are_refused_with_what_to_do() {
    let world = World::start(None);
    let too_many = host::limits::open_files_hard() + 1;
    let spec = SpawnSpec { open_files: Some(too_many), ..world.spec("web@1/0", "exit 0") };
    spawn(&world, spec);
    let why = world.refused("web@1/0");
    assert!(
        why.contains(&too_many.to_string()) && why.contains("open_files") && why.contains("LimitNOFILE"),
        "{why}"
    );
    let spec = SpawnSpec { memory_max: Some(64 << 20), ..world.spec("web@1/1", "exec sleep 1000") };
    spawn(&world, spec);
    match host::limits::memory_grantable_to(world.holder.get()) {
        Ok(()) => {
            let pid = world.spawned(1, "web@1/1");
            let cgroup = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroup");
            let path = cgroup.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup of v2");
            let max = std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(path).join("memory.max"));
            assert_eq!(max.expect("a limit").trim(), (64 << 20).to_string());
        }
        Err(expected) => {
            assert_eq!(world.refused("web@1/1"), expected);
            assert!(expected.contains("`limits`"), "{expected}");
        }
    }
    // What was refused has left nothing: the slot can be used.
    world.say("agent", &world.spawn("web@1/1", "exec sleep 1000"));
    world.spawned(1, "web@1/1");
    world.stop(true);
}

fn main_pid(world: &World, name: &str, pid: u32) {
    world.say("agent", &ToHolder::MainPid { instance: name.to_owned(), pid });
}

fn another_process_of_its_tree_becomes_the_main_one() {
    let world = World::start(None);
    let line = "setsid sleep 1000 & echo $!; sleep 1000 & echo $!; wait; exec sleep 1000";
    world.say("agent", &world.spawn("web@1/0", line));
    world.say("agent", &world.spawn("web@1/1", "exec sleep 1000"));
    let (first, stranger) = (world.spawned(1, "web@1/0"), world.spawned(1, "web@1/1"));
    let words = world.words("web@1.0", 2);
    let (second, third) = (number(&words[0]), number(&words[1]));
    // Nobody else's, not ours, and none that is not there.
    for pid in [stranger, process::current_pid(), world.holder.get(), 1, 0, u32::MAX] {
        main_pid(&world, "web@1/0", pid);
    }
    for pid in [second, third] {
        main_pid(&world, "web@1/0", pid);
        world.event("agent", 1, |e| e["kind"] == "main-pid" && e["body"]["pid"] == pid);
    }
    assert_eq!(world.count("agent", 1, "main-pid"), 2);
    // The end of a former one is no end of the instance.
    kill(second, process::KILL);
    kill(first, process::KILL);
    world.until("the end of both", || {
        [first, second].iter().all(|pid| !process::is_alive(*pid)).then_some(())
    });
    signal(&world, "web@1/0", process::TERM);
    assert_eq!(world.exited(1, "web@1/0")["signal"], process::TERM);
    assert!(!process::is_alive(third));
    assert_eq!(world.count("agent", 1, "exited"), 1);
    forget(&world, "web@1/0");
    world.event("proxy", 1, |event| event.to_string().contains("process/web@1/0"));
    main_pid(&world, "web@1/0", stranger);
    world.stop(true);
}

fn a_daemon_runs_on_after_its_starter_has_ended() {
    let world = World::start(None);
    world.say("agent", &world.spawn("web@1/0", "setsid sleep 1000 & echo $!; exit 0"));
    let daemon = number(&world.words("web@1.0", 1)[0]);
    assert_eq!(world.exited(1, "web@1/0")["code"], 0);
    main_pid(&world, "web@1/0", daemon);
    world.event("agent", 1, |event| event["kind"] == "main-pid");
    world.event("proxy", 1, |e| e["kind"] == "deposit" && e["body"]["items"][0]["pid"] == daemon);
    // It runs: it is not forgotten.
    forget(&world, "web@1/0");
    signal(&world, "web@1/0", process::TERM);
    world.event("agent", 1, |e| e["kind"] == "exited" && e["body"]["status"]["signal"] == process::TERM);
    assert!(!process::is_alive(daemon));
    forget(&world, "web@1/0");
    world.event("proxy", 1, |event| {
        event.to_string().contains("process/web@1/0") && event["kind"] == "withdraw"
    });
    world.stop(true);
}

fn a_changed_main_process_survives_a_killed_holder() {
    let world = World::start(None);
    world.say("agent", &world.spawn("web@1/0", "setsid sleep 1000 & echo $!; exec sleep 1000"));
    let main = world.spawned(1, "web@1/0");
    let other = number(&world.words("web@1.0", 1)[0]);
    main_pid(&world, "web@1/0", other);
    world.event("proxy", 1, |e| e["kind"] == "deposit" && e["body"]["items"][0]["pid"] == other);
    let old = world.holder.get();
    kill(old, process::KILL);
    let new = world.until("a new holder", || world.holder_in_file().filter(|pid| *pid != old));
    world.until("a second inventory", || (world.count("agent", 1, "inventory") == 2).then_some(()));
    world.holder.set(new);
    kill(main, process::KILL);
    world.until("the end of the first", || (!process::is_alive(main)).then_some(()));
    signal(&world, "web@1/0", process::TERM);
    world.exited(1, "web@1/0");
    assert!(!process::is_alive(other));
    assert_eq!(world.count("agent", 1, "exited"), 1);
    world.stop(false);
}

/// A group with little memory, where this machine lets us make one.
struct Scarce(PathBuf);

impl Scarce {
    fn make() -> Option<Self> {
        let path = PathBuf::from(format!("/sys/fs/cgroup/memory/handover-test-{}", process::current_pid()));
        std::fs::create_dir(&path).ok()?;
        let scarce = Self(path);
        std::fs::write(scarce.0.join("memory.limit_in_bytes"), "33554432").ok()?;
        // Not to wait for the disk.
        let _ = std::fs::write(scarce.0.join("memory.swappiness"), "0");
        Some(scarce)
    }
}

impl Drop for Scarce {
    fn drop(&mut self) {
        // Of what was killed the last memory may be freed a moment later; then the empty group stays behind.
        let _ = std::fs::remove_dir(&self.0);
    }
}

fn who_was_killed_for_memory_is_said_to_be() {
    let world = World::start(None);
    // A kill that has nothing to do with memory.
    world.say("agent", &world.spawn("web@1/0", "kill -9 $$"));
    assert_eq!(world.exited(1, "web@1/0")["signal"], process::KILL);
    let eat = "exec tail /dev/zero";
    let readable = std::fs::File::open("/dev/kmsg").is_ok();
    match Scarce::make().filter(|_| readable) {
        Some(scarce) => {
            let enter = format!("echo $$ >{}/cgroup.procs && {eat}", scarce.0.display());
            world.say("agent", &world.spawn("web@1/1", &enter));
            assert_eq!(world.exited(1, "web@1/1"), "out-of-memory");
            world.stop(true);
        }
        None if host::limits::memory_grantable_to(world.holder.get()).is_ok() => {
            spawn(&world, SpawnSpec { memory_max: Some(32 << 20), ..world.spec("web@1/1", eat) });
            assert_eq!(world.exited(1, "web@1/1"), "out-of-memory");
            world.stop(true);
        }
        // Neither the kernel's log nor a controller: nobody can know, and nothing is claimed.
        None => world.stop(true),
    }
}

fn a_hang_up_has_the_manifest_applied_one_at_a_time() {
    let world = World::start(None);
    let holder = world.holder.get();
    let (waits, applied) =
        (world.layout.run_dir.join("test-apply-waits"), world.layout.run_dir.join("test-applied"));
    let begun = || std::fs::read_to_string(&applied).unwrap_or_default().lines().count();
    let refused = || {
        let log = std::fs::read_to_string(world.layout.own_log()).unwrap_or_default();
        log.lines().filter(|line| line.contains("not applied now")).count()
    };
    std::fs::write(&waits, "").expect("a file");
    kill(holder, process::HUP);
    world.until("the first", || (begun() == 1).then_some(()));
    for asked in 1..=3 {
        kill(holder, process::HUP);
        world.until("what was asked meanwhile", || (refused() == asked).then_some(()));
    }
    assert_eq!(begun(), 1);
    std::fs::remove_file(&waits).expect("a file");
    world.until("the second", || (begun() == 2).then_some(()));
    // It may still be running; then one more follows.
    kill(holder, process::HUP);
    world.until("the third", || (begun() == 3).then_some(()));
    assert_eq!(world.count("agent", 1, "stop"), 0);
    world.stop(true);
    assert_eq!(begun_after(&applied), 0, "the folder is gone with the world");
}

fn begun_after(path: &Path) -> usize {
    std::fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

fn bind(world: &World, name: &str, address: &str) {
    let bind = ToHolder::Bind {
        name: name.to_owned(),
        used_by: ListenerUse::Traffic,
        address: address.to_owned(),
        backlog: 64,
    };
    world.say("agent", &bind);
}

/// The address under that name, the n-th time it is bound.
fn bound(world: &World, name: &str, nth: usize) -> String {
    world.until("a bound listener", || {
        let events = world.events("agent", 1);
        let mut of = events.iter().filter(|e| e["kind"] == "bound" && e["body"]["name"] == name);
        Some(of.nth(nth - 1)?["body"]["address"].as_str()?.to_owned())
    })
}

fn an_address_can_be_bound_again_under_any_name() {
    let world = World::start(None);
    bind(&world, "web", "127.0.0.1:0");
    let address = bound(&world, "web", 1);
    // Let go and taken at once: proxies may hold it for a moment still.
    world.say("agent", &ToHolder::Unbind { name: "web".to_owned() });
    bind(&world, "web", &address);
    assert_eq!(bound(&world, "web", 2), address);
    // Under another name first, then the former one goes: nobody is refused meanwhile.
    bind(&world, "front", &address);
    assert_eq!(bound(&world, "front", 1), address);
    world.say("agent", &ToHolder::Unbind { name: "web".to_owned() });
    world.until("the second withdrawal", || (world.count("proxy", 1, "withdraw") == 2).then_some(()));
    TcpStream::connect(&address).expect("one socket, another name");
    // It moves; the former address is free once nobody holds it.
    bind(&world, "front", "127.0.0.2:0");
    let moved = bound(&world, "front", 2);
    assert!(moved.starts_with("127.0.0.2:"));
    world.until("a refused connection", || TcpStream::connect(&address).is_err().then_some(()));
    TcpStream::connect(&moved).expect("the new address");
    bind(&world, "web", &address);
    assert_eq!(bound(&world, "web", 3), address);
    assert_eq!(world.count("agent", 1, "bind-failed"), 0);
    world.stop(true);
}

fn a_listener_that_cannot_move_stays_where_it_is() {
    let world = World::start(None);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let theirs = taken.local_addr().expect("an address").to_string();
    bind(&world, "web", "127.0.0.1:0");
    let address = bound(&world, "web", 1);
    bind(&world, "web", &theirs);
    let failed = world.event("agent", 1, |event| event["kind"] == "bind-failed");
    let text = failed["body"]["error"].as_str().expect("text");
    assert!(text.contains("listener `web`") && text.contains(&theirs), "{text}");
    TcpStream::connect(&address).expect("as before");
    // What is waited for in vain is refused as well, and what is given up is not waited for.
    world.say("agent", &ToHolder::Unbind { name: "web".to_owned() });
    bind(&world, "api", &theirs);
    bind(&world, "given-up", &theirs);
    world.say("agent", &ToHolder::Unbind { name: "given-up".to_owned() });
    world.event("agent", 1, |e| e["kind"] == "bind-failed" && e["body"]["name"] == "api");
    drop(taken);
    bind(&world, "api", &theirs);
    assert_eq!(bound(&world, "api", 1), theirs);
    assert_eq!(world.count("agent", 1, "bind-failed"), 2);
    world.stop(true);
}

fn a_tree_that_does_not_want_to_go_goes_whole() {
    let world = World::start(None);
    // One that ignores what it can and lives in a session of its own, a daemon whose parents have ended, a zombie that
    // nobody reaps.
    let line = "trap '' HUP INT QUIT USR1 USR2 TERM ALRM; \
                setsid sh -c \"trap '' HUP INT QUIT USR1 USR2 TERM; echo \\$\\$; while :; do sleep 1000; done\" & \
                (setsid sh -c 'sleep 1000 & echo $!' &) ; sh -c 'exit 0' & echo $!; exec sleep 1000";
    world.say("agent", &world.spawn("web@1/0", line));
    let main = world.spawned(1, "web@1/0");
    let pids: Vec<u32> = world.words("web@1.0", 3).iter().map(|word| number(word)).collect();
    signal(&world, "web@1/0", process::TERM);
    world.until("the signal's arrival", || {
        let pending = std::fs::read_to_string(format!("/proc/{main}/status")).ok()?;
        pending.lines().any(|line| line.starts_with("SigPnd:\t0000000000000000")).then_some(())
    });
    assert!(process::is_alive(main));
    world.say("agent", &ToHolder::KillTree { instance: "web@1/0".to_owned() });
    assert_eq!(world.exited(1, "web@1/0")["signal"], process::KILL);
    // Not even a zombie is left: the holder reaps what loses its parents.
    world.until("nobody of it", || {
        pids.iter().chain([&main]).all(|pid| process::start_ticks(*pid).is_none()).then_some(())
    });
    forget(&world, "web@1/0");
    world.stop(true);
}

fn a_task_sees_the_instance_that_it_works_for() {
    let world = World::start(None);
    let ToHolder::Spawn(mut spec) = world.spawn("web@1/0~reload-1", "echo $HANDOVER_INSTANCE $HANDOVER_TASK")
    else {
        unreachable!()
    };
    spec.environment.push(("HANDOVER_INSTANCE".to_owned(), "web@1/0".to_owned()));
    let name = spec.file_name.clone();
    world.say("agent", &ToHolder::Spawn(spec));
    assert_eq!(world.words(&name, 2), ["web@1/0", "web@1/0~reload-1"]);
    assert_eq!(world.exited(1, "web@1/0~reload-1")["code"], 0);
    forget(&world, "web@1/0~reload-1");
    world.stop(true);
}
