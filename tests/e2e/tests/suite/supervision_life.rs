//! What happens to a service that runs: hangs, ends, crash loops, hooks, reloads, and the next version of a worker.

use e2e::sandbox::Sandbox;
use e2e::status::Status;
use e2e::system::{self, Signal};
use e2e::wait::{self, PATIENCE};

use crate::supervision::{detail, instance, lines, notifier, printed, running, say, wait_for, worker};

/// Waits until that is in the list of changes.
#[track_caller]
fn told(sandbox: &Sandbox, texts: &[&str]) {
    let mut events = String::new();
    let seen = wait::try_until(PATIENCE, || {
        events = sandbox.run(&["events", "--json"]).stdout;
        texts.iter().all(|text| events.contains(text)).then_some(())
    });
    assert!(seen.is_some(), "waited in vain for {texts:?} in:\n{events}");
}

fn restarts(status: &Status, service: &str) -> u64 {
    instance(status, service).map_or(0, |one| one.restarts)
}

#[test]
fn a_hung_service_is_restarted_and_why_is_said() {
    let beats = "while True:\n if not os.path.exists('@/mute'): say('WATCHDOG=1')\n time.sleep(0.05)\n";
    let quick = "[%.restart]\ndelay = \"100ms\"\n[%.stop]\ngrace_period = \"300ms\"\n";
    let tables = [
        worker(
            "asked",
            "rm -f '@/sick'; exec sleep 1000",
            &format!(
                "{quick}[%.liveness]\ncommand = ['sh', '-c', 'test ! -e \"@/sick\" || {{ echo no pulse; exit 9; }}']\n\
                 interval = \"200ms\"\nfall = 2\n"
            ),
        ),
        notifier(
            "beating",
            &format!("if os.path.exists('@/mute'): os.remove('@/mute')\nsay('READY=1')\n{beats}"),
            &format!(
                "{quick}[%.readiness]\nnotify = true\n[%.liveness]\nwatchdog = true\ninterval = \"2s\"\n"
            ),
        ),
        "[listener.web]\nbind = \"127.0.0.1:0\"\n[[route]]\nlistener = \"web\"\nservice = \"frozen\"\n\
         [service.frozen]\nrelease = '@/source/1'\nversion = \"1\"\ncommand = ['./victim']\n\
         [service.frozen.liveness]\nhttp = \"/healthz\"\ninterval = \"200ms\"\ntimeout = \"500ms\"\nfall = 2\n\
         [service.frozen.restart]\ndelay = \"100ms\"\n[service.frozen.stop]\ngrace_period = \"300ms\"\n"
            .to_owned(),
    ];
    let sandbox = running(&tables);
    let status = wait_for(&sandbox, "ready", &["asked", "beating", "frozen"]);
    say(&sandbox, "sick");
    say(&sandbox, "mute");
    system::send(instance(&status, "frozen").unwrap().pid.unwrap(), Signal::Stop);
    sandbox.wait_status("all three to be restarted and ready", |status| {
        let again =
            |name: &str| restarts(status, name) == 1 && instance(status, name).unwrap().state == "ready";
        ["asked", "beating", "frozen"].iter().all(|name| again(name)).then_some(())
    });
    told(
        &sandbox,
        &[
            "asked@1/0 is taken for hung",
            "no pulse",
            "beating@1/0 is taken for hung",
            "WATCHDOG=1",
            "SIGABRT",
            "frozen@1/0 is taken for hung",
        ],
    );
}

#[test]
fn whether_a_service_that_ended_starts_again_is_said_by_its_policy_and_codes() {
    let tables = [
        ("never", "exit 3", "policy = \"never\""),
        ("done", "exit 0", "policy = \"on-failure\""),
        ("good", "exit 3", "policy = \"on-failure\"\nsuccess_codes = [3]"),
        ("wrong", "exit 78", "policy = \"always\"\nstop_codes = [78]"),
        ("failing", "exit 3", "policy = \"on-failure\""),
        ("always", "exit 0", "policy = \"always\""),
        ("forced", "exit 75", "policy = \"never\"\nrestart_codes = [75]"),
    ]
    .map(|(name, end, keys)| {
        // Ready before it ends: a first release that never gets there would be given up.
        let keys = format!("[%.restart]\ndelay = \"100ms\"\n{keys}\n[%.readiness]\nlog = \"^up$\"\n");
        worker(name, &format!("echo up; until [ -e '@/go' ]; do sleep 0.02; done; {end}"), &keys)
    });
    let names = ["never", "done", "good", "wrong", "failing", "always", "forced"];
    let sandbox = running(&tables);
    wait_for(&sandbox, "ready", &names);
    say(&sandbox, "go");
    sandbox.wait_status("three that go on", |status| {
        names[4..].iter().all(|name| restarts(status, name) >= 2).then_some(())
    });
    let status = sandbox.wait_status("four that have ended", |status| {
        let down = |name: &str| instance(status, name).is_some_and(|one| one.pid.is_none());
        names[..4].iter().all(|name| down(name)).then(|| status.clone())
    });
    for name in &names[..4] {
        assert_eq!(restarts(&status, name), 0, "{name}");
    }
    // What stays down is started by hand.
    std::fs::remove_file(sandbox.folder().join("go")).unwrap();
    sandbox.run(&["restart", "wrong"]).expect_code(0);
    wait_for(&sandbox, "ready", &["wrong"]);
}

#[test]
fn a_crash_loop_is_shown_with_the_time_of_the_next_try_and_cut_short_by_a_restart() {
    let script =
        "echo up; until [ -e '@/go' ]; do sleep 0.02; done; test -e '@/mended' || exit 3; exec sleep 1000";
    let keys = "[%.restart]\ndelay = \"400ms\"\n[%.readiness]\nlog = \"^up$\"\n";
    let sandbox = running(&[worker("shop", script, keys)]);
    wait_for(&sandbox, "ready", &["shop"]);
    say(&sandbox, "go");
    let status = sandbox.wait_status("a crash loop", |status| {
        let said = detail(status, "shop");
        let next = status.0["services"]["shop"]["instances"][0]["next_start_in_ms"].as_u64()?;
        (said.contains("crash loop") && next > 0).then(|| status.clone())
    });
    let said = detail(&status, "shop");
    assert!(said.contains("ends in a row; starts again in") && said.contains("code 3"), "{said}");
    told(&sandbox, &["exited with code 3; crash loop: 3 ends in a row, it starts again in", "UTC)"]);
    wait::until("the time of its next start", PATIENCE, || {
        let text = sandbox.run(&["status"]).expect_code(0).stdout;
        (text.contains("crash loop") && text.contains("next start at") && text.contains("UTC")).then_some(())
    });
    say(&sandbox, "mended");
    sandbox.run(&["restart", "shop"]).expect_code(0);
    wait_for(&sandbox, "ready", &["shop"]);
}

#[test]
fn hooks_run_around_an_instance_and_know_what_happened_to_it() {
    let note = "echo \"$HANDOVER_HOOK $HANDOVER_INSTANCE ${HANDOVER_PID:-} \
                code=${HANDOVER_EXIT_CODE:-} signal=${HANDOVER_EXIT_SIGNAL:-} restarts=$HANDOVER_RESTARTS \
                ran=${HANDOVER_RUN_MS:+yes} mark=$MARK\" >>\"@/notes\"; echo \"$HANDOVER_HOOK was here\"";
    let hook =
        |name: &str| format!("{name} = {{ command = ['sh', '-c', '''{note}'''], timeout = \"10s\" }}\n");
    let hooks = ["before_start", "after_ready", "before_stop", "after_exit"].map(hook).concat();
    let script = "trap 'exit 7' USR2; while :; do sleep 0.02; done";
    let keys = format!(
        "environment = {{ MARK = \"m-${{INSTANCE}}\" }}\n[%.restart]\ndelay = \"100ms\"\n[%.stop]\nsignal = \"SIGUSR1\"\n[%.hooks]\n{hooks}"
    );
    let mut sandbox = running(&[worker("shop", script, &keys)]);
    let status = wait_for(&sandbox, "ready", &["shop"]);
    let first = instance(&status, "shop").unwrap().pid.unwrap();
    assert_eq!(lines(&sandbox, "notes", 2).len(), 2);
    system::send(first, Signal::User2);
    let second = sandbox.wait_status("the second process", |status| {
        instance(status, "shop").filter(|one| one.restarts == 1 && one.state == "ready")?.pid
    });
    lines(&sandbox, "notes", 5);
    sandbox.down();
    let id = "shop@1/0";
    let expected = [
        format!("before_start {id} code= signal= restarts=0 ran= mark=m-0"),
        format!("after_ready {id} {first} code= signal= restarts=0 ran=yes mark=m-0"),
        format!("after_exit {id} code=7 signal= restarts=0 ran=yes mark=m-0"),
        format!("before_start {id} code= signal= restarts=1 ran= mark=m-0"),
        format!("after_ready {id} {second} code= signal= restarts=1 ran=yes mark=m-0"),
        format!("before_stop {id} {second} code= signal= restarts=1 ran=yes mark=m-0"),
        format!("after_exit {id} code= signal=10 restarts=1 ran=yes mark=m-0"),
    ];
    let notes: Vec<String> = lines(&sandbox, "notes", 7)
        .iter()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(notes, expected);
    let log = printed(&sandbox, "shop", "after_exit was here");
    assert!(log.contains("shop@1/0~before-start-"), "{log}");
    assert!(log.contains("before_stop was here"), "{log}");
}

#[test]
fn a_hook_that_fails_or_hangs_is_said_with_its_output_and_ends_in_time() {
    let tables = [
        worker(
            "failing",
            "touch '@/started'; exec sleep 1000",
            "[%.restart]\ndelay = \"100ms\"\n\
             [%.hooks]\nbefore_start = { command = ['sh', '-c', 'test -e \"@/go\" || { echo no such table >&2; exit 4; }'] }\n",
        ),
        worker(
            "hanging",
            "exec sleep 1000",
            "[%.hooks]\n\
             after_ready = { command = ['sh', '-c', 'setsid sleep 1000 & echo $! >\"@/left\"; wait'], timeout = \"500ms\" }\n",
        ),
    ];
    let sandbox = running(&tables);
    told(&sandbox, &["before_start", "no such table", "hanging@1/0: its after_ready hook failed"]);
    assert!(!sandbox.folder().join("started").exists());
    let left: u32 = lines(&sandbox, "left", 1)[0].parse().unwrap();
    wait::until("the end of what the hook left", PATIENCE, || (!system::is_alive(left)).then_some(()));
    let status = wait_for(&sandbox, "ready", &["hanging"]);
    assert_eq!(restarts(&status, "hanging"), 0);
    assert!(printed(&sandbox, "failing", "no such table").contains("failing@1/0~before-start-"));
}

#[test]
fn a_reload_is_a_signal_or_a_command_and_keeps_the_process() {
    let script = "trap 'echo read anew' HUP; echo up; while :; do sleep 0.02; done";
    let tables = [
        worker("told", script, "[%.readiness]\nlog = \"^up$\"\n[%.reload]\nsignal = \"SIGHUP\"\n"),
        worker(
            "asked",
            script,
            "[%.readiness]\nlog = \"^up$\"\n\
             [%.reload]\ncommand = ['sh', '-c', 'echo reloading $HANDOVER_INSTANCE; kill -HUP $HANDOVER_PID']\n",
        ),
        notifier(
            "slow",
            "def reload(*_):\n say('RELOADING=1')\n time.sleep(0.7)\n open('@/slow', 'w').write('read anew\\n')\n say('READY=1')\n\
             signal.signal(signal.SIGHUP, reload)\nsay('READY=1')\nwhile True: time.sleep(1000)\n",
            "[%.readiness]\nnotify = true\n[%.reload]\nsignal = \"SIGHUP\"\n",
        ),
        worker("plain", "exec sleep 1000", ""),
        worker(
            "broken",
            "exec sleep 1000",
            "[%.reload]\ncommand = ['sh', '-c', 'echo line 3 is wrong >&2; exit 1']\n",
        ),
    ];
    let sandbox = running(&tables);
    let services = ["told", "asked", "slow", "plain", "broken"];
    let before = wait_for(&sandbox, "ready", &services);
    sandbox.run(&["reload", "told"]).expect_code(0);
    sandbox.run(&["reload", "asked"]).expect_code(0);
    // It returns when the service says that it is done.
    sandbox.run(&["reload", "slow"]).expect_code(0);
    assert_eq!(std::fs::read_to_string(sandbox.folder().join("slow")).unwrap(), "read anew\n");
    printed(&sandbox, "told", "out | read anew");
    let log = printed(&sandbox, "asked", "out | read anew");
    assert!(log.contains("reloading asked@1/0"), "{log}");
    let ran = sandbox.run(&["reload", "broken"]);
    assert!(ran.code != Some(0), "{}", ran.text());
    ran.expect_says(&["line 3 is wrong"]);
    let ran = sandbox.run(&["reload", "plain"]);
    assert!(ran.code != Some(0), "{}", ran.text());
    ran.expect_says(&["[service.plain]", "reload = { signal"]);
    let after = sandbox.status();
    for service in services {
        assert_eq!(instance(&before, service), instance(&after, service));
    }
}

#[test]
fn two_versions_of_a_worker_overlap_unless_it_is_exclusive() {
    let script = "echo start $HANDOVER_VERSION >>\"@/$HANDOVER_SERVICE\"; \
                  trap 'echo stop $HANDOVER_VERSION >>\"@/$HANDOVER_SERVICE\"; exit 0' TERM; \
                  while :; do sleep 0.02; done";
    let tables = [worker("queue", script, ""), worker("clock", script, "[%.rollout]\nexclusive = true\n")];
    let sandbox = running(&tables);
    wait_for(&sandbox, "ready", &["queue", "clock"]);
    let release = sandbox.folder().join("app");
    for service in ["queue", "clock"] {
        let release = release.to_string_lossy();
        sandbox.run(&["deploy", service, "--release", &release, "--version", "2"]).expect_code(0);
    }
    assert_eq!(lines(&sandbox, "queue", 3), ["start 1", "start 2", "stop 1"]);
    assert_eq!(lines(&sandbox, "clock", 3), ["start 1", "stop 1", "start 2"]);
    let status = sandbox.status();
    assert_eq!(
        ["queue", "clock"].map(|service| status.stable(service)),
        [Some("2".to_owned()), Some("2".to_owned())]
    );
}
