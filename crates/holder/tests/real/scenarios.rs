//! What a holder must do, one story each.

use std::net::TcpStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use host::process::{self, Ended};
use wire::link::ToHolder;
use wire::vault::ListenerUse;

use crate::world::World;

pub(crate) type Scenario = (&'static str, fn());

const ALL: &[Scenario] = &[
    ("roles_are_started_linked_and_restarted", roles_are_started_linked_and_restarted),
    ("an_instance_is_what_its_specification_says", an_instance_is_what_its_specification_says),
    ("a_program_that_cannot_start_says_why", a_program_that_cannot_start_says_why),
    ("a_tree_is_killed_whole_and_forgotten_whole", a_tree_is_killed_whole_and_forgotten_whole),
    ("a_killed_holder_is_replaced_and_nothing_is_lost", a_killed_holder_is_replaced_and_nothing_is_lost),
    ("holder_and_agent_killed_at_once_are_replaced", holder_and_agent_killed_at_once_are_replaced),
    (
        "after_everything_was_killed_a_start_finds_no_strays",
        after_everything_was_killed_a_start_finds_no_strays,
    ),
    ("a_terminated_holder_asks_the_agent_and_ends", a_terminated_holder_asks_the_agent_and_ends),
    ("without_an_agent_the_holder_stops_all_by_itself", without_an_agent_the_holder_stops_all_by_itself),
    ("the_third_signal_kills_everything", the_third_signal_kills_everything),
    (
        "a_second_holder_is_refused_with_the_pid_of_the_first",
        a_second_holder_is_refused_with_the_pid_of_the_first,
    ),
    ("a_stopped_role_is_killed_after_ten_seconds", a_stopped_role_is_killed_after_ten_seconds),
];

pub(crate) fn run(filter: Option<&String>) -> ExitCode {
    // What the killed holders leave is ours to reap, whatever process 1 does.
    process::become_subreaper().expect("a subreaper");
    let wanted = ALL
        .iter()
        .chain(crate::supervision::ALL)
        .filter(|(name, _)| filter.is_none_or(|filter| name.contains(filter.as_str())));
    let started: Vec<_> =
        wanted.map(|(name, scenario)| (name, Instant::now(), std::thread::spawn(scenario))).collect();
    let mut failed = 0;
    for (name, begun, thread) in started {
        let is_ok = thread.join().is_ok();
        failed += u32::from(!is_ok);
        println!(
            "test {name} ... {} ({} ms)",
            if is_ok { "ok" } else { "FAILED" },
            begun.elapsed().as_millis()
        );
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn bind(world: &World) -> String {
    let bind = ToHolder::Bind {
        name: "web".to_owned(),
        used_by: ListenerUse::Traffic,
        address: "127.0.0.1:0".to_owned(),
        backlog: 64,
    };
    world.say("agent", &bind);
    let bound = world.event("agent", 1, |event| event["kind"] == "bound");
    bound["body"]["address"].as_str().expect("an address").to_owned()
}

pub(crate) fn pid_of_role(world: &World, kind: &str, generation: u64) -> u32 {
    let path = world.layout.rescue_socket(kind, generation);
    world.until("a role's socket", || Some(host::channel::Channel::connect(&path).ok()?.peer().ok()?.pid))
}

pub(crate) fn kill(pid: u32, signal: i32) {
    process::signal_pid(pid, signal).expect("a process");
}

fn roles_are_started_linked_and_restarted() {
    let world = World::start(Some("the boot form"));
    let boot = world.event("agent", 1, |event| event["kind"] == "boot");
    assert_eq!(boot["text"], "the boot form");
    world.event("agent", 1, |event| event["text"] == "from proxy-1");
    world.event("proxy", 1, |event| event["text"] == "from agent-1");
    let address = bind(&world);
    world.event("proxy", 1, |event| {
        event["kind"] == "deposit" && event["body"]["items"][0]["address"] == address.as_str()
    });
    let begun = Instant::now();
    kill(pid_of_role(&world, "proxy", 1), process::KILL);
    world.event("agent", 1, |event| event["kind"] == "peer-gone" && event["body"]["generation"] == 1);
    world.event("agent", 1, |event| event["kind"] == "peer" && event["body"]["generation"] == 2);
    world.event("proxy", 2, |event| event["kind"] == "deposit" && event.to_string().contains(&address));
    assert!(begun.elapsed() < Duration::from_millis(1000), "{:?}", begun.elapsed());
    TcpStream::connect(&address).expect("the queue lives on");
    // The boot form is given again until it is in the record.
    kill(pid_of_role(&world, "agent", 1), process::KILL);
    world.event("agent", 2, |event| event["kind"] == "boot");
    world.event("agent", 2, |event| event["text"] == "from proxy-2");
    world.say("agent", &ToHolder::BootTaken);
    world.say("agent", &ToHolder::Unbind { name: "web".to_owned() });
    world.event("proxy", 2, |event| event["body"]["keys"][0] == "listener/web");
    world.until("a refused connection", || TcpStream::connect(&address).is_err().then_some(()));
    kill(pid_of_role(&world, "agent", 2), process::KILL);
    let inventory = world.event("agent", 3, |event| event["kind"] == "inventory");
    assert_eq!(inventory["body"]["boot"], false);
    world.stop(true);
}

fn an_instance_is_what_its_specification_says() {
    let world = World::start(None);
    let line = "echo $ANSWER $HANDOVER_INSTANCE $(pwd) $(ulimit -n) $(ls /proc/self/fd | tr '\\n' ' ') \
                $(ps -o sid= -p $$) $(umask); echo $NOTIFY_SOCKET; grep -E 'Sig(Blk|Ign)' /proc/self/status >&2; exec sleep 1000";
    world.say("agent", &world.spawn("web@1/0", line));
    let pid = world.spawned(1, "web@1/0");
    let (out, err) = world.layout.output("web@1.0");
    let out = world
        .until("two lines", || Some(world.written(out.clone())).filter(|text| text.lines().count() == 2));
    let words: Vec<&str> = out.split_whitespace().collect();
    assert_eq!(words[..2], ["42", "web@1/0"]);
    let limits = std::fs::read_to_string("/proc/self/limits").expect("limits");
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit");
    assert_eq!(Some(words[3]), limit.split_whitespace().next(), "the limit of before");
    // 3 is the folder that `ls` reads.
    assert_eq!(words[4..8], ["0", "1", "2", "3"], "{out}");
    assert_eq!(words[8], pid.to_string(), "a session of its own");
    assert_eq!(words[9], "0022");
    let notify = world.layout.notify_socket("web@1.0");
    assert_eq!(words[10], notify.to_str().expect("text"));
    host::notify::send(&notify, "READY=1").expect("a socket that somebody holds");
    for line in world.written(err).lines() {
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    world.say("agent", &ToHolder::Signal { instance: "web@1/0".to_owned(), signal: process::TERM });
    let exited = world.event("agent", 1, |event| event["kind"] == "exited");
    assert_eq!(exited["body"]["status"]["signal"], process::TERM);
    world.say("agent", &ToHolder::Forget { instance: "web@1/0".to_owned() });
    world.event("proxy", 1, |event| event.to_string().contains("process/web@1/0"));
    world.until("no notify socket", || (!notify.exists()).then_some(()));
    world.stop(true);
}

fn a_program_that_cannot_start_says_why() {
    let world = World::start(None);
    let ToHolder::Spawn(mut spec) = world.spawn("web@1/0", "") else { unreachable!() };
    spec.program = "/nowhere/program".to_owned();
    world.say("agent", &ToHolder::Spawn(spec));
    let failed = world.event("agent", 1, |event| event["kind"] == "spawn-failed");
    let text = failed["body"]["error"].as_str().expect("text");
    assert!(text.contains("/nowhere/program") && text.contains("No such file"), "{text}");
    let ToHolder::Spawn(mut spec) = world.spawn("web@1/1", "") else { unreachable!() };
    spec.working_directory = "/nowhere".to_owned();
    world.say("agent", &ToHolder::Spawn(spec));
    let failed =
        world.event("agent", 1, |e| e["kind"] == "spawn-failed" && e["body"]["instance"] == "web@1/1");
    assert!(failed.to_string().contains("working directory /nowhere"), "{failed}");
    assert_eq!(world.count("agent", 1, "spawned"), 0);
    world.stop(true);
}

fn a_tree_is_killed_whole_and_forgotten_whole() {
    let world = World::start(None);
    // A child in a session of its own, which a signal to the main process does not reach.
    let line = "setsid sleep 1000 & sleep 1000 & echo $! $$; exec sleep 1000";
    world.say("agent", &world.spawn("web@1/0", line));
    let main = world.spawned(1, "web@1/0");
    let (out, _) = world.layout.output("web@1.0");
    let child: u32 = world.written(out).split_whitespace().next().expect("a pid").parse().expect("a pid");
    assert!(process::is_alive(child));
    world.say("agent", &ToHolder::KillTree { instance: "web@1/0".to_owned() });
    let exited = world.event("agent", 1, |event| event["kind"] == "exited");
    assert_eq!(exited["body"]["status"]["signal"], process::KILL);
    world.until("no process of it", || (!process::is_alive(child) && !process::is_alive(main)).then_some(()));
    // Here the main process ends by itself and leaves a child.
    world.say("agent", &world.spawn("web@1/1", "sleep 1000 & echo $!; exit 3"));
    let exited = world.event("agent", 1, |e| e["kind"] == "exited" && e["body"]["instance"] == "web@1/1");
    assert_eq!(exited["body"]["status"]["code"], 3);
    let child: u32 = world.written(world.layout.output("web@1.1").0).trim().parse().expect("a pid");
    assert!(process::is_alive(child));
    world.say("agent", &ToHolder::Forget { instance: "web@1/1".to_owned() });
    world.until("no child", || (!process::is_alive(child)).then_some(()));
    world.stop(true);
}

fn a_killed_holder_is_replaced_and_nothing_is_lost() {
    let world = World::start(None);
    let address = bind(&world);
    world.say("agent", &world.spawn("web@1/0", "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done"));
    world.say("agent", &world.spawn("web@1/1", "exec sleep 1000"));
    let (first, second) = (world.spawned(1, "web@1/0"), world.spawned(1, "web@1/1"));
    world.written(world.layout.output("web@1.0").0);
    let old = world.holder.get();
    let begun = Instant::now();
    kill(old, process::KILL);
    TcpStream::connect(&address).expect("roles hold the queue open");
    let new = world.until("a new holder", || world.holder_in_file().filter(|pid| *pid != old));
    world.until("a second inventory", || (world.count("agent", 1, "inventory") == 2).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    world.holder.set(new);
    TcpStream::connect(&address).expect("the same socket");
    world.until("new links between the roles", || (world.count("agent", 1, "said") == 2).then_some(()));
    // It is asked for again, and is there as it was.
    world.say(
        "agent",
        &ToHolder::Bind {
            name: "web".to_owned(),
            used_by: ListenerUse::Traffic,
            address: "127.0.0.1:0".to_owned(),
            backlog: 64,
        },
    );
    world.until("bound as before", || (world.count("agent", 1, "bound") == 2).then_some(()));
    world.event("agent", 1, |event| event["kind"] == "bound" && event["body"]["address"] == address.as_str());
    // Neither was its child; their ends are told all the same.
    world.say("agent", &ToHolder::Signal { instance: "web@1/0".to_owned(), signal: process::TERM });
    world.say("agent", &ToHolder::KillTree { instance: "web@1/1".to_owned() });
    for (name, pid, field, number) in
        [("web@1/0", first, "code", 7), ("web@1/1", second, "signal", process::KILL)]
    {
        let exited = world.event("agent", 1, |e| e["kind"] == "exited" && e["body"]["instance"] == name);
        let status = &exited["body"]["status"];
        // Kernels that do not keep the status of others' children leave it unknown.
        assert!(status[field] == number || status == "unknown", "{exited}");
        assert!(!process::is_alive(pid));
        world.say("agent", &ToHolder::Forget { instance: name.to_owned() });
    }
    // A new instance in the new holder's care, in the slot of a former one.
    world.until("forgotten", || (world.count("proxy", 1, "withdraw") >= 4).then_some(()));
    world.say("agent", &world.spawn("web@1/0", "exec sleep 1000"));
    world.until("spawned again", || (world.count("agent", 1, "spawned") == 3).then_some(()));
    world.stop(false);
}

fn holder_and_agent_killed_at_once_are_replaced() {
    let world = World::start(None);
    let address = bind(&world);
    world.say("agent", &world.spawn("web@1/0", "exec sleep 1000"));
    let service = world.spawned(1, "web@1/0");
    let (old, agent) = (world.holder.get(), pid_of_role(&world, "agent", 1));
    kill(agent, process::KILL);
    kill(old, process::KILL);
    let new = world.until("a new holder", || world.holder_in_file().filter(|pid| *pid != old));
    world.holder.set(new);
    let generation =
        world.until("a new agent", || (2..4).find(|g| world.count("agent", *g, "inventory") == 1));
    world.event("agent", generation, |event| event.to_string().contains(&address));
    world.event("agent", generation, |event| event.to_string().contains("web@1/0"));
    assert!(process::is_alive(service));
    TcpStream::connect(&address).expect("the same socket");
    world.stop(false);
}

fn after_everything_was_killed_a_start_finds_no_strays() {
    let world = World::start(None);
    world.say("agent", &world.spawn("web@1/0", "exec sleep 1000"));
    let service = world.spawned(1, "web@1/0");
    let roles = [pid_of_role(&world, "agent", 1), pid_of_role(&world, "proxy", 1)];
    for role in roles {
        kill(role, 19); // so that neither begins to rescue
    }
    kill(world.holder.get(), process::KILL);
    roles.into_iter().for_each(|role| kill(role, process::KILL));
    world.until("the end of all", || roles.iter().all(|role| !process::is_alive(*role)).then_some(()));
    assert!(process::is_alive(service));
    world.start_holder(None);
    world.until("the end of the stray", || (!process::is_alive(service)).then_some(()));
    world.until("new roles", || (2..4).find(|g| world.count("agent", *g, "inventory") == 1));
    world.stop(true);
}

fn a_terminated_holder_asks_the_agent_and_ends() {
    let world = World::start(None);
    let address = bind(&world);
    kill(world.holder.get(), process::HUP);
    kill(world.holder.get(), process::TERM);
    let stop = world.event("agent", 1, |event| event["kind"] == "stop");
    assert_eq!(stop["body"]["level"], "drain");
    kill(world.holder.get(), process::INT);
    world.event("agent", 1, |event| event["kind"] == "stop" && event["body"]["level"] == "skip-drain");
    world.stop(true);
    assert!(TcpStream::connect(&address).is_err());
}

fn without_an_agent_the_holder_stops_all_by_itself() {
    let world = World::start(None);
    world.say("agent", &world.spawn("web@1/0", "trap 'exit 0' TERM; echo up; while :; do sleep 0.01; done"));
    world.say("agent", &world.spawn("web@1/1", "trap '' TERM; echo up; while :; do sleep 0.01; done"));
    let services = [world.spawned(1, "web@1/0"), world.spawned(1, "web@1/1")];
    world.written(world.layout.output("web@1.0").0);
    world.written(world.layout.output("web@1.1").0);
    let (holder, agent) = (world.holder.get(), pid_of_role(&world, "agent", 1));
    kill(agent, 19); // it hangs
    kill(holder, process::TERM);
    assert_eq!(world.end_of(holder), Ended::Code(0));
    assert!(!services.iter().any(|service| process::is_alive(*service)));
    assert!(!process::is_alive(agent) && !world.layout.pid_file().exists());
    world.event("proxy", 1, |event| event["kind"] == "drain");
}

fn the_third_signal_kills_everything() {
    let world = World::start(None);
    world.say("agent", &world.spawn("web@1/0", "trap '' TERM; sleep 1000 & wait; sleep 1000"));
    let service = world.spawned(1, "web@1/0");
    let holder = world.holder.get();
    for level in ["drain", "skip-drain"] {
        kill(holder, process::INT);
        world.event("agent", 1, |event| event["kind"] == "stop" && event["body"]["level"] == level);
    }
    kill(holder, process::INT);
    assert_eq!(world.end_of(holder), Ended::Code(1));
    assert!(!process::is_alive(service));
}

fn a_second_holder_is_refused_with_the_pid_of_the_first() {
    let world = World::start(None);
    let first = world.holder.get();
    let second = world.start_holder(None);
    assert_eq!(world.end_of(second), Ended::Code(1));
    world.holder.set(first);
    assert_eq!(world.holder_in_file(), Some(first));
    world.stop(true);
}

fn a_stopped_role_is_killed_after_ten_seconds() {
    let world = World::start(None);
    let begun = Instant::now();
    kill(pid_of_role(&world, "proxy", 1), 19);
    world.event("proxy", 2, |event| event["kind"] == "peer");
    let after = begun.elapsed();
    assert!(after > Duration::from_secs(9) && after < Duration::from_secs(13), "{after:?}");
    world.stop(true);
}
