//! How a service is started and when it counts as ready: users, limits, variables, readiness, dependencies, output.
//!
//! `@` in a manifest of these tests is the sandbox's folder, where services leave what they have to say.

use std::path::Path;
use std::process::Command;

use e2e::manifest::Setup;
use e2e::sandbox::Sandbox;
use e2e::status::{Instance, Status};
use e2e::system::{self, Signal};
use e2e::wait::{self, PATIENCE};

/// A sandbox whose manifest is these tables.
pub(crate) fn sandbox(tables: &[String]) -> Sandbox {
    let sandbox = Sandbox::new(Setup::default());
    let folder = sandbox.folder();
    std::fs::create_dir_all(folder.join("app/data")).unwrap();
    // What is empty is not copied everywhere.
    std::fs::write(folder.join("app/data/kept"), "").unwrap();
    let text = format!("state_dir = '@/state'\n[admin]\nbind = \"127.0.0.1:0\"\n{}", tables.concat());
    sandbox.write_manifest(&text.replace('@', &folder.to_string_lossy()));
    sandbox
}

/// The same, running.
pub(crate) fn running(tables: &[String]) -> Sandbox {
    let mut sandbox = sandbox(tables);
    sandbox.up();
    sandbox
}

/// A worker that runs a script; then further keys, and tables, where `%` is `service.NAME`.
pub(crate) fn worker(name: &str, script: &str, keys: &str) -> String {
    let keys = keys.replace('%', &format!("service.{name}"));
    format!(
        "[service.{name}]\nmode = \"worker\"\nrelease = '@/app'\nversion = \"1\"\n\
         command = ['sh', '-c', '''{script}''']\n{keys}\n"
    )
}

/// Its first instance.
pub(crate) fn instance(status: &Status, service: &str) -> Option<Instance> {
    status.instances(service).into_iter().next()
}

/// What is said of it.
pub(crate) fn detail(status: &Status, service: &str) -> String {
    status.0["services"][service]["instances"][0]["detail"].as_str().unwrap_or_default().to_owned()
}

/// Waits until the first instance of each of these is in that state.
#[track_caller]
pub(crate) fn wait_for(sandbox: &Sandbox, state: &str, services: &[&str]) -> Status {
    sandbox.wait_status(&format!("{services:?} to be {state}"), |status| {
        let are = services.iter().all(|name| instance(status, name).is_some_and(|one| one.state == state));
        are.then(|| status.clone())
    })
}

/// Leaves a file that services look for.
pub(crate) fn say(sandbox: &Sandbox, name: &str) {
    std::fs::write(sandbox.folder().join(name), "").unwrap();
}

/// What services left in a file, once that is so many lines.
#[track_caller]
pub(crate) fn lines(sandbox: &Sandbox, name: &str, count: usize) -> Vec<String> {
    let mut text = String::new();
    let path = sandbox.folder().join(name);
    let seen = wait::try_until(PATIENCE, || {
        text = std::fs::read_to_string(&path).unwrap_or_default();
        (text.ends_with('\n') && text.lines().count() >= count).then_some(())
    });
    assert!(seen.is_some(), "waited in vain for {count} lines of {name}:\n{text}");
    text.lines().map(str::to_owned).collect()
}

/// Waits until a service has printed that; all of its log.
#[track_caller]
pub(crate) fn printed(sandbox: &Sandbox, service: &str, text: &str) -> String {
    let path = sandbox.state_dir().join(format!("logs/{service}.log"));
    wait::until(text, PATIENCE, || std::fs::read_to_string(&path).ok().filter(|log| log.contains(text)))
}

fn is_root() -> bool {
    let said = Command::new("id").arg("-u").output().unwrap();
    said.stdout == b"0\n"
}

#[test]
fn a_service_runs_as_its_user_with_its_group_umask_and_limit_of_files() {
    let script = "echo $(id -un) $(id -gn) $(umask) $(ulimit -n) $USER $LOGNAME $HOME; \
                  echo again >>/dev/stdout; echo aside >>/dev/stderr; exec sleep 1000";
    let keys = "user = \"nobody\"\ngroup = \"daemon\"\numask = \"027\"\n[%.limits]\nopen_files = 321\n";
    let mut sandbox = sandbox(&[worker("shop", script, keys)]);
    if !is_root() {
        sandbox.run(&["check"]).expect_code(2).expect_says(&["user", "root"]);
        return;
    }
    // That user has to get to its release.
    assert!(Command::new("chmod").arg("711").arg(sandbox.folder()).status().unwrap().success());
    sandbox.up();
    let log = printed(&sandbox, "shop", "err | aside");
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let home = passwd.lines().find(|line| line.starts_with("nobody:")).unwrap().split(':').nth(5).unwrap();
    assert!(log.contains(&format!("| nobody daemon 0027 321 nobody nobody {home}\n")), "{log}");
    assert!(log.contains("out | again\n"), "{log}");
    wait_for(&sandbox, "ready", &["shop"]);
}

#[test]
fn a_user_that_does_not_exist_is_refused_before_anything_starts() {
    let sandbox = sandbox(&[worker("shop", "exec sleep 1000", "user = \"nobodi\"\n")]);
    sandbox.run(&["check"]).expect_code(2).expect_says(&["there is no user `nobodi`"]);
}

#[test]
fn a_limit_of_memory_is_granted_or_refused_with_the_reason() {
    let sandbox = sandbox(&[worker("shop", "exec sleep 1000", "[%.limits]\nmemory = \"64MiB\"\n")]);
    let ran = sandbox.run(&["check"]);
    if ran.code != Some(0) {
        ran.expect_code(2).expect_says(&["limits", "memory", "cgroup"]);
    }
}

/// Whether a file below this folder has these bytes.
fn holds(folder: &Path, secret: &str) -> Option<String> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            if let Some(found) = holds(&path, secret) {
                return Some(found);
            }
        } else if kind.is_file() && !path.ends_with("handover") {
            let bytes = std::fs::read(&path).unwrap_or_default();
            if bytes.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                return Some(path.display().to_string());
            }
        }
    }
    None
}

#[test]
fn variables_come_in_declared_order_and_those_of_the_environment_file_are_shown_nowhere() {
    let script = "printf \"%s\\n\" \"$1\" \"$LAST\" \"$SIDE\" \"$(pwd)\" \"$HANDOVER_INSTANCE\" >\"$OUT\"; exec sleep 1000";
    let tables = worker("shop", script, "working_directory = \"data\"\nenvironment_file = \"secrets.env\"\n")
        .replace("''']", "''', 'sh', '${LAST}/${SECRET}']");
    let environment = "environment = { OUT = '@/out', FIRST = \"${SERVICE}-${VERSION}\", \
                       LAST = \"${FIRST}-${LATER}\", LATER = \"too late\" }\n";
    let mut sandbox = sandbox(&[tables, environment.to_owned()]);
    let secret = "hush-4711";
    let file = format!("# not for everybody\nexport SECRET='{secret}'\nSIDE=\"two words\"\nLATER=never\n");
    std::fs::write(sandbox.folder().join("secrets.env"), file).unwrap();
    sandbox.run(&["check"]).expect_code(0).expect_says(&["secrets.env"]);
    sandbox.up();
    let out = lines(&sandbox, "out", 5);
    assert_eq!(out[0], format!("{}/{secret}", out[1]));
    assert_eq!(out[2], "two words");
    assert!(out[1].starts_with("shop-1-"), "{out:?}");
    assert!(out[3].ends_with("/releases/shop/1/data"), "{out:?}");
    assert_eq!(out[4], "shop@1/0");
    wait_for(&sandbox, "ready", &["shop"]);
    let shown = [&["status", "--json"], &["history", "--json"], &["events", "--json"], &["logs", "--json"]];
    for command in shown {
        let ran = sandbox.run(command).expect_code(0);
        assert!(!ran.text().contains(secret), "{}", ran.text());
    }
    assert_eq!(holds(&sandbox.state_dir(), secret), None);
    assert!(!sandbox.up_output().contains(secret));
}

#[test]
fn each_kind_of_readiness_is_believed_when_it_holds_and_not_before() {
    let until_go = "until [ -e '@/go' ]; do sleep 0.02; done";
    let tables = [
        worker(
            "by-log",
            &format!("echo 'will listen on 7'; {until_go}; echo 'listening on 127.0.0.1:7'; exec sleep 1000"),
            "[%.readiness]\nlog = 'listening on .*:\\d+'\n",
        ),
        worker(
            "by-command",
            "exec sleep 1000",
            "[%.readiness]\ncommand = ['sh', '-c', 'echo asked; test -e \"@/go\"']\ninterval = \"100ms\"\n",
        ),
        worker("by-age", "exec sleep 1000", "[%.readiness]\nalive_for = \"300ms\"\n"),
        worker("by-port", &format!("{until_go}; exec '@/source/1/victim'"), "[%.readiness]\ntcp = true\n")
            .replace("mode = \"worker\"\n", ""),
        "[listener.web]\nbind = \"127.0.0.1:0\"\n[[route]]\nlistener = \"web\"\nservice = \"by-port\"\n"
            .to_owned(),
    ];
    let sandbox = running(&tables);
    let status = wait_for(&sandbox, "ready", &["by-age"]);
    for service in ["by-log", "by-command", "by-port"] {
        let one = instance(&status, service).unwrap();
        assert_eq!(one.state, "starting", "{service}");
    }
    printed(&sandbox, "by-log", "will listen on 7");
    say(&sandbox, "go");
    wait_for(&sandbox, "ready", &["by-log", "by-command", "by-age", "by-port"]);
    let ends =
        ["by-log", "by-command", "by-age", "by-port"].map(|name| instance(&sandbox.status(), name).unwrap());
    assert!(ends.iter().all(|one| one.restarts == 0), "{ends:?}");
}

/// Says things to `NOTIFY_SOCKET`.
const NOTIFY: &str = "import os, signal, socket, time\n\
    to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
    def say(text): to.sendto(text.encode(), os.environ['NOTIFY_SOCKET'])\n";

/// A worker that runs a Python script which can `say`.
pub(crate) fn notifier(name: &str, script: &str, keys: &str) -> String {
    let keys = keys.replace('%', &format!("service.{name}"));
    format!(
        "[service.{name}]\nmode = \"worker\"\nrelease = '@/app'\nversion = \"1\"\n\
         command = ['python3', '-c', '''{NOTIFY}{script}''']\n{keys}\n"
    )
}

#[test]
fn a_slow_start_may_ask_for_time_and_a_daemon_may_name_its_main_process() {
    let slow = "say('EXTEND_TIMEOUT_USEC=20000000')\ntime.sleep(3.3)\nsay('READY=1')\ntime.sleep(1000)\n";
    // The parent ends once its child has been named.
    let daemon = "if os.path.exists('@/named'): os.remove('@/named')\n\
                  if os.fork() == 0:\n \
                  os.setsid()\n \
                  open('@/pids', 'w').write(f'{os.getpid()}\\n{os.getppid()}\\n')\n \
                  say(f'MAINPID={os.getpid()}\\nREADY=1')\n \
                  time.sleep(1000)\n\
                  while not os.path.exists('@/named'): time.sleep(0.02)\n";
    let readiness = "[%.readiness]\nnotify = true\nstartup_timeout = ";
    let tables = [
        notifier("slow", slow, &format!("{readiness}\"3s\"\n")),
        notifier("daemon", daemon, &format!("{readiness}\"20s\"\n[%.restart]\ndelay = \"100ms\"\n")),
    ];
    let sandbox = running(&tables);
    wait_for(&sandbox, "ready", &["daemon"]);
    let pids: Vec<u32> = lines(&sandbox, "pids", 2).iter().map(|line| line.parse().unwrap()).collect();
    let [main, parent] = pids[..] else { panic!("{pids:?}") };
    let named = |status: &Status| {
        instance(status, "daemon")
            .filter(|one| one.pid == Some(main) && one.state == "ready" && one.restarts == 0)
    };
    sandbox.wait_status("the named process", named);
    say(&sandbox, "named");
    wait::until("the end of the parent", PATIENCE, || (!system::is_alive(parent)).then_some(()));
    assert!(named(&sandbox.status()).is_some(), "its end is none of the service");
    system::send(main, Signal::Kill);
    sandbox.wait_status("a restart, because the named process ended", |status| {
        let one = instance(status, "daemon")?;
        (one.restarts == 1 && one.state == "ready" && one.pid != Some(main)).then_some(())
    });
    let status = wait_for(&sandbox, "ready", &["slow"]);
    assert_eq!(instance(&status, "slow").unwrap().restarts, 0);
}

#[test]
fn a_service_starts_after_what_it_depends_on_and_stops_before_it() {
    let script = |name: &str, more: &str| {
        format!(
            "echo start {name} >>'@/order'; trap 'echo stop {name} >>\"@/order\"; exit 0' TERM; \
             {more}; echo up; while :; do sleep 0.02; done"
        )
    };
    let tables = [
        worker("app", &script("app", ":"), "depends_on = [\"db\", \"cache\"]\n"),
        worker("early", &script("early", ":"), "depends_on = [{ service = \"db\", until = \"started\" }]\n"),
        worker("cache", &script("cache", ":"), "depends_on = [\"db\"]\n"),
        worker(
            "db",
            &script("db", "until [ -e '@/go' ]; do sleep 0.02; done"),
            "[%.readiness]\nlog = \"^up$\"\n",
        ),
    ];
    let mut sandbox = running(&tables);
    let status = wait_for(&sandbox, "ready", &["early"]);
    // One that is started has not said anything yet.
    let mut begun = lines(&sandbox, "order", 2);
    begun.sort();
    assert_eq!(begun, ["start db", "start early"]);
    let waits = status.0["services"]["app"].to_string();
    assert!(waits.contains("db"), "{waits}");
    say(&sandbox, "go");
    wait_for(&sandbox, "ready", &["db", "app", "cache"]);
    sandbox.down();
    let order = lines(&sandbox, "order", 8);
    assert_eq!(order[2..4], ["start cache", "start app"]);
    let at = |name: &str| order.iter().position(|line| *line == format!("stop {name}")).unwrap();
    assert!(at("app") < at("cache") && at("cache") < at("db") && at("early") < at("db"), "{order:?}");
}

#[test]
fn output_is_kept_by_size_and_count_and_read_with_its_times() {
    let script = "i=0; while [ $i -lt 600 ]; do i=$((i+1)); echo line $i of what it has to say; done; \
                  echo the end; exec sleep 1000";
    let sandbox = running(&[worker("shop", script, "[%.output]\nmax_size = \"4KiB\"\nfiles = 3\n")]);
    printed(&sandbox, "shop", "| the end");
    let logs = std::fs::read_dir(sandbox.state_dir().join("logs")).unwrap().flatten();
    let of_shop = logs.filter(|file| file.file_name().to_string_lossy().starts_with("shop.log"));
    let sizes: Vec<u64> = of_shop.map(|file| file.metadata().unwrap().len()).collect();
    assert!(sizes.len() == 3 && sizes.iter().all(|size| *size < 6 << 10), "{sizes:?}");
    let ran = sandbox.run(&["logs", "shop", "-n", "2", "--since", "10m"]).expect_code(0);
    let last: Vec<&str> = ran.stdout.lines().collect();
    assert!(last.len() == 2 && last[1].ends_with("the end") && last[0].contains("line 600 of"), "{last:?}");
    // A time in front, `17:00:32.125`; in the file with its day.
    assert_eq!((last[1].find(':'), last[1].find('.')), (Some(2), Some(8)), "{last:?}");
    assert!(printed(&sandbox, "shop", "| the end").lines().all(|line| line.find('T') == Some(10)));
    let ran = sandbox.run(&["logs", "shop", "--grep", "line 59[89]"]).expect_code(0);
    assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.stdout);
}
