//! What a service may say of its life, and what stands against it.

use std::path::Path;
use std::time::Duration;

use model::manifest::{
    Account, DependsUntil, LivenessCheck, LogFormat, LogLevel, Mode, ReadinessCheck, ReloadBy, RestartPolicy,
    StopSignal, Strategy,
};

use super::Loaded;
use super::error::ConfigError;
use super::testing::{ROOTS, SMALL, check, check_on, said, wrong, wrong_with};

#[test]
fn a_service_cannot_be_named_like_a_log_of_ours() {
    for name in ["access", "handover"] {
        let said = wrong_with(&format!(
            "[service.{name}]\nrelease = \"releases/v1\"\nversion = \"1\"\ncommand = [\"./hello\"]\nmode = \"worker\""
        ));
        assert!(said.contains(&format!("logs/{name}.log is Handover's own")), "{said}");
    }
}

/// A worker, and a service on a fixed port, with every key that is theirs.
const WHOLE: &str = r#"
log = { format = "json", level = "debug" }

[listener.web]
bind = "0.0.0.0:8080"

[[route]]
listener = "web"
service = "old"

[service.old]
release = "releases/v1"
version = "1"
command = ["./hello", "${TOKEN}"]
port = 9000
environment_file = "secrets.env"
working_directory = "data"
user = "www-data"
group = "adm"
umask = "027"
limits = { open_files = 65536, memory = "1GiB" }
reload = { signal = "SIGHUP", timeout = "5s" }
depends_on = ["queue", { service = "db", until = "started" }]
readiness.log = 'listening on \d+'
liveness = { http = "/alive", interval = "5s", timeout = "1s", fall = 2 }
output = { max_size = "1MiB", max_age = "1d", files = 3 }

[service.old.restart]
success_codes = [3]
restart_codes = [75]
stop_codes = [78, 0]
unready_after = "0s"

[service.old.hooks]
before_start = { command = ["./hello", "migrate"], timeout = "90s" }
after_ready = { command = ["sh", "-c", "true"] }
before_stop = { command = ["./hello"] }
after_exit = { command = ["./hello"] }

[service.queue]
release = "releases/v1"
version = "1"
command = ["./hello"]
mode = "worker"
instances = 3
liveness = { watchdog = true, interval = "20s" }
reload.command = ["./hello", "reload"]
rollout = { strategy = "rolling", max_surge = 2, max_unavailable = 1 }

[service.db]
release = "releases/v1"
version = "1"
command = ["./hello"]
mode = "worker"
readiness.command = ["./hello", "ready"]
rollout.exclusive = true
"#;

fn whole(folder: &Path) -> Loaded {
    std::fs::write(folder.join("secrets.env"), "export TOKEN='x'\n").unwrap();
    check_on(ROOTS, folder, WHOLE).unwrap()
}

#[test]
fn every_key_of_a_supervised_life_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = whole(folder.path()).manifest;
    assert_eq!((manifest.log.format, manifest.log.level), (LogFormat::Json, LogLevel::Debug));
    let service = |name: &str| manifest.services.get(&name.parse().unwrap()).unwrap();
    let old = service("old");
    assert_eq!((old.port, old.instances, old.rollout.strategy), (Some(9000), 1, Strategy::Recreate));
    assert_eq!(old.rollout.keep_warm, Duration::ZERO);
    assert_eq!(old.environment_file, Some(folder.path().join("secrets.env")));
    assert_eq!(old.working_directory.as_deref(), Some(Path::new("data")));
    assert_eq!(old.account, Some(Account { user: "www-data".into(), group: Some("adm".into()) }));
    assert_eq!(
        (old.umask, old.limits.open_files, old.limits.memory),
        (Some(0o027), Some(65_536), Some(1 << 30))
    );
    let reload = old.reload.as_ref().unwrap();
    assert_eq!((&reload.by, reload.timeout), (&ReloadBy::Signal(StopSignal::HangUp), Duration::from_secs(5)));
    let waits: Vec<_> = old.depends_on.iter().map(|on| (on.service.as_str(), on.until)).collect();
    assert_eq!(waits, [("queue", DependsUntil::Ready), ("db", DependsUntil::Started)]);
    assert_eq!(old.readiness.check, ReadinessCheck::Log(r"listening on \d+".into()));
    let liveness = old.liveness.as_ref().unwrap();
    assert_eq!((&liveness.check, liveness.fall), (&LivenessCheck::Http("/alive".into()), 2));
    assert_eq!((old.output.max_size, old.output.files), (1 << 20, 3));
    assert_eq!(old.output.max_age, Some(Duration::from_secs(86_400)));
    let restart = &old.restart;
    assert_eq!((&restart.success_codes[..], &restart.stop_codes[..]), (&[3][..], &[78, 0][..]));
    assert_eq!((restart.policy, restart.unready_after), (RestartPolicy::Always, Duration::ZERO));
    let before_start = old.hooks.before_start.as_ref().unwrap();
    assert_eq!((before_start.command.len(), before_start.timeout), (2, Duration::from_secs(90)));
    assert_eq!(old.hooks.after_exit.as_ref().unwrap().timeout, Duration::from_secs(60));
    let queue = service("queue");
    assert_eq!((queue.mode, queue.restart.policy), (Mode::Worker, RestartPolicy::OnFailure));
    assert_eq!(queue.readiness.check, ReadinessCheck::AliveFor(Duration::from_secs(1)));
    let liveness = queue.liveness.as_ref().unwrap();
    assert_eq!((&liveness.check, liveness.fall), (&LivenessCheck::Watchdog, 1));
    assert_eq!((queue.rollout.max_surge, queue.rollout.max_unavailable), (2, 1));
    let db = service("db");
    assert_eq!((db.rollout.strategy, db.rollout.keep_warm), (Strategy::Recreate, Duration::ZERO));
}

#[test]
fn what_check_prints_of_it_is_the_same_manifest_again() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = whole(folder.path());
    let mut text = String::new();
    for section in loaded.effective() {
        text.push_str(&format!("{}\n", section.header));
        for line in section.lines {
            text.push_str(&format!("{} = {}\n", line.key, line.value));
        }
    }
    let mut again = check_on(ROOTS, folder.path(), &text).unwrap();
    again.manifest.admin.bind_is_default = true;
    assert_eq!(again.manifest, loaded.manifest, "{text}");
}

#[test]
fn a_manifest_crosses_processes_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = whole(folder.path()).manifest;
    let sent = wire::manifest::Manifest::from(&manifest);
    assert_eq!(model::manifest::Manifest::try_from(&sent).unwrap(), manifest);
}

#[test]
fn a_fixed_port_allows_one_instance_and_no_overlap() {
    let fixed = |more: &str| said(&wrong(&SMALL.replace("instances = 2", &format!("port = 9000\n{more}"))));
    for (more, expected) in [
        (
            "instances = 2",
            "service.hello.instances <2>: a program on a fixed port cannot run twice: `instances` must be 1 [] -> write \
             instances = 1",
        ),
        (
            "rollout.strategy = 'rolling'",
            "service.hello.rollout.strategy <'rolling'>: a fixed port needs `strategy = \"recreate\"`: two releases cannot \
             run at once [] -> leave `strategy` out",
        ),
        (
            "rollout.keep_warm = '1m'",
            "service.hello.rollout.keep_warm <'1m'>: `keep_warm` belongs to `strategy = \"blue-green\"`: no whole release \
             is left to keep warm [] -> take it out; `handover rollback` then starts the old release again",
        ),
    ] {
        assert_eq!(fixed(more), expected);
    }
    let folder = tempfile::tempdir().unwrap();
    for more in ["port = 9000", "port = 9000\nrollout.strategy = 'recreate'", "rollout.exclusive = true"] {
        let loaded = check(folder.path(), &SMALL.replace("instances = 2", more)).unwrap();
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    }
}

#[test]
fn a_fixed_port_belongs_to_nobody_else() {
    let fixed = |port: &str| SMALL.replace("instances = 2", port);
    let report = said(&wrong(&fixed("port = 8080")));
    assert!(
        report.contains("port 8080 belongs to the listener `web` already [the program's port]"),
        "{report}"
    );
    assert!(report.ends_with("give the listener another one"), "{report}");
    let twice = format!(
        "{}[service.b]\nrelease = 'releases/v1'\ncommand = ['./hello']\nport = 9000\n",
        fixed("port = 9000")
    );
    let report = wrong(&twice);
    assert!(said(&report).contains("port 9000 belongs to the service `hello` already"), "{}", said(&report));
    assert_eq!(report.problems[0].labels.len(), 2);
    let admin = said(&wrong(&format!("admin.bind = '127.0.0.1:9000'\n{}", fixed("port = 9000"))));
    assert!(admin.contains("port 9000 belongs to the admin API already"), "{admin}");
    assert!(said(&wrong(&fixed("port = 0"))).contains("`port` must be 1 to 65535"));
    let folder = tempfile::tempdir().unwrap();
    let warned = said(&check(folder.path(), &fixed("port = 25565")).unwrap().warnings());
    assert!(warned.contains("another instance may be given 25565 before this program starts"), "{warned}");
}

/// The small manifest's service as a worker that no route leads to.
fn worker(more: &str) -> String {
    let (_, service) = SMALL.split_once("[service").unwrap();
    format!("[service{service}mode = 'worker'\n{more}\n")
}

#[test]
fn a_worker_needs_no_listener_and_has_no_port() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = check(folder.path(), &worker("")).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    for (more, expected) in [
        ("port = 1", "a worker has no `port`"),
        ("readiness.http = '/h'", "`http` cannot be checked: it is a worker"),
        (
            "readiness.tcp = true",
            "a worker has no port: use `notify = true`, `log`, `command` or `alive_for`",
        ),
        ("liveness.tcp = true", "a worker has no port: use `command` or `watchdog = true`"),
        ("upstream.idle_reuse = '1s'", "`upstream` has no meaning for a worker: it gets no requests"),
        ("balance = {}", "`balance` has no meaning for a worker"),
        ("environment.A = '${PORT}'", "a worker has no port: there is no ${PORT}"),
        ("rollout.keep_warm = '1s'", "a worker's old release is not kept warm: both would work"),
    ] {
        let report = said(&wrong(&worker(more)));
        assert!(report.contains(expected), "{more}: {report}");
    }
    let routed = said(&wrong(&format!("{SMALL}mode = 'worker'\n")));
    assert!(
        routed.contains("route.service <\"hello\">: `hello` is a worker: it gets no requests"),
        "{routed}"
    );
}

#[test]
fn one_thing_decides_readiness_and_one_liveness() {
    for (more, expected) in [
        ("readiness = { log = 'a', alive_for = '1s' }", "`log` and `alive_for` cannot both decide readiness"),
        ("readiness.log = 'a('", "`log` is not a regular expression: "),
        ("readiness.log = ''", "an empty `log` matches every line"),
        ("readiness.alive_for = '1m'", "`alive_for` is not below `startup_timeout`: it would never be ready"),
        ("readiness.command = []", "`command` names no program"),
        ("liveness = {}", "`liveness` says nothing to check"),
        ("liveness = { tcp = true, watchdog = true }", "`tcp` and `watchdog` cannot both decide liveness"),
        ("liveness = { watchdog = true, fall = 2 }", "`fall` has no meaning with `watchdog`"),
        ("liveness = { command = ['./alive'] }", "there is no program "),
        ("liveness.htp = '/'", "unknown key `htp` in [service.hello.liveness] [did you mean `http`?]"),
    ] {
        let report = wrong_with(more);
        assert!(report.contains(expected), "{more}: {report}");
    }
}

#[test]
fn what_cannot_be_granted_is_refused() {
    let report = wrong_with("user = 'www-data'");
    assert!(
        report.contains("`user = \"www-data\"` needs root [only root may become another user]"),
        "{report}"
    );
    assert!(wrong_with("group = 'adm'").contains("`group` without `user`"));
    let report = wrong_with("limits.memory = '1GiB'");
    assert!(report.contains("`memory` cannot be limited here [refused, so that nothing is silently ignored] -> no cgroup of its own"), "{report}");
    assert!(wrong_with("limits.open_files = 3").contains("`open_files` must be 32 to "));
    assert!(
        wrong_with("limits.open_files = 5000").contains("`open_files` is more than the 4096 granted here")
    );
    let folder = tempfile::tempdir().unwrap();
    for (user, why) in [
        ("user = 'wwwdata'", "there is no user `wwwdata`"),
        ("user = 'www-data'\ngroup = 'x'", "there is no group `x`"),
    ] {
        let Err(ConfigError::Wrong(report)) = check_on(ROOTS, folder.path(), &format!("{SMALL}{user}\n"))
        else {
            panic!("{user}")
        };
        assert!(said(&report).contains(why), "{}", said(&report));
    }
    let warned = said(&check_on(ROOTS, folder.path(), SMALL).unwrap().warnings());
    assert!(warned.starts_with("service.hello.user <hello>: `hello` runs as root"), "{warned}");
}

#[test]
fn a_mask_is_octal_digits() {
    for (more, expected) in [
        ("umask = '9'", "`umask` cannot be \"9\" [no file mode mask] -> write one to three octal digits"),
        ("umask = '7777'", "`umask` cannot be \"7777\""),
        ("umask = 22", "`umask` must be a string [this is a whole number] -> write \"22\""),
    ] {
        let report = wrong_with(more);
        assert!(report.contains(expected), "{more}: {report}");
    }
}

#[test]
fn exit_codes_are_codes_and_do_not_contradict() {
    assert!(wrong_with("restart.success_codes = [256]").contains("an exit code is 0 to 255"));
    assert!(wrong_with("restart.stop_codes = ['1']").contains("must be a whole number"));
    let report = wrong_with("restart = { restart_codes = [75], stop_codes = [75] }");
    assert!(report.contains("75 cannot both restart it and keep it down"), "{report}");
}

#[test]
fn dependencies_lead_somewhere_and_never_back() {
    let two =
        format!("{SMALL}depends_on = ['DB']\n[service.db]\nrelease = 'releases/v1'\ncommand = ['./hello']\n");
    for (on, expected) in [
        ("'dbb'", "there is no service `dbb` [did you mean `db`?] -> there is: db"),
        ("'hello'", "`hello` cannot wait for itself"),
        ("'db', 'db'", "`db` is there twice"),
        ("{ service = 'db', until = 'up' }", "`until` cannot be \"up\""),
        ("{ servce = 'db' }", "unknown key `servce` in [service.hello.depends_on] [did you mean `service`?]"),
        ("7", "`depends_on` must be a list of names and tables"),
    ] {
        let report = said(&wrong(&two.replace("'DB'", on)));
        assert!(report.contains(expected), "{on}: {report}");
    }
    let circle = two.replace("'DB'", "'db'") + "depends_on = [{ service = 'hello', until = 'started' }]\n";
    let report = wrong(&circle);
    assert!(
        said(&report).contains("these wait for each other for ever: `db` → `hello` → `db`"),
        "{}",
        said(&report)
    );
    assert_eq!(report.problems.len(), 1, "{}", said(&report));
}

#[test]
fn a_rolling_rollout_has_room_to_move() {
    for (more, expected) in [
        ("rollout = { strategy = 'rolling', max_surge = 0 }", "both 0 nothing could ever move"),
        ("rollout.max_surge = 2", "`max_surge` belongs to `strategy = \"rolling\"`"),
        (
            "rollout = { strategy = 'rolling', exclusive = true }",
            "`exclusive` needs `strategy = \"recreate\"`",
        ),
        ("rollout.exclusive = true", "an exclusive program cannot run twice: `instances` must be 1"),
    ] {
        let report = wrong_with(more);
        assert!(report.contains(expected), "{more}: {report}");
    }
}

#[test]
fn hooks_and_reload_say_what_to_run() {
    for (more, expected) in [
        ("hooks.before_start = {}", "service.hello.hooks.before_start.command <{}>: `command` is missing"),
        ("hooks.before_start.command = ['./migrate']", "there is no program "),
        (
            "hooks.after_exit.command = ['sh', '${PROT}']",
            "there is no variable ${PROT} [did you mean ${PORT}?]",
        ),
        (
            "hooks.before_strat.command = []",
            "unknown key `before_strat` in [service.hello.hooks] [did you mean",
        ),
        ("hooks.before_start = ['x']", "`before_start` must be a table [this is a list]"),
        ("reload = {}", "`reload` says nothing to do"),
        ("reload.signal = 'SIGTERM'", "allowed: \"SIGHUP\", \"SIGUSR1\", \"SIGUSR2\""),
        (
            "reload = { signal = 'SIGHUP', command = ['./hello'] }",
            "`signal` and `command` cannot both reload it",
        ),
    ] {
        let report = wrong_with(more);
        assert!(report.contains(expected), "{more}: {report}");
    }
}

#[test]
fn files_and_folders_that_are_missing_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let warned = |more: &str| said(&check(folder.path(), &format!("{SMALL}{more}\n")).unwrap().warnings());
    let report = warned("environment_file = 'no.env'\nenvironment.A = '${ANY}'");
    assert!(report.contains("no.env cannot be read here [no such file, or no right]"), "{report}");
    assert!(warned("working_directory = 'data'").contains("there is no directory data now"));
    assert!(
        warned("hooks.after_exit.command = ['no-such-program']")
            .contains("there is no program `no-such-program` in PATH")
    );
    assert!(wrong_with("working_directory = '../x'").contains("stays inside the release"));
    let report = said(&check(folder.path(), &SMALL.replace("./hello", "hello")).unwrap().warnings());
    assert!(report.contains("write \"./hello\" for the one in the release"), "{report}");
}

#[test]
fn secrets_that_everybody_may_read_are_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.env");
    std::fs::write(&path, "A=1\n").unwrap();
    host::folder::set_rights(&path, false).unwrap();
    if !host::places::others_may_read(&path).unwrap() {
        return; // where rights are not kept by file
    }
    let text = format!("{SMALL}environment_file = 's.env'\nenvironment.B = '${{A}}'\n");
    let warned = said(&check(folder.path(), &text).unwrap().warnings());
    assert!(warned.contains("every user of this machine may read "), "{warned}");
    let text = text.replace("${A}", "${AA}");
    let Err(ConfigError::Wrong(report)) = check(folder.path(), &text) else { panic!("an unknown variable") };
    assert!(said(&report).contains("there is no variable ${AA} [did you mean ${A}?]"), "{}", said(&report));
}

#[test]
fn a_program_that_may_not_be_run_is_said() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("releases/v1")).unwrap();
    std::fs::write(folder.path().join("releases/v1/plain"), "").unwrap();
    if host::folder::is_executable(&folder.path().join("releases/v1/plain")) {
        return; // where rights are not kept by file
    }
    let text = SMALL.replace("./hello", "./plain");
    let Err(ConfigError::Wrong(report)) = check(folder.path(), &text) else { panic!("it may not be run") };
    assert!(
        said(&report).contains("plain may not be run [not executable] -> chmod +x "),
        "{}",
        said(&report)
    );
}
