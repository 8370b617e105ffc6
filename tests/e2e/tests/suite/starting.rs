//! `up`, from nothing and from what was there.

use e2e::manifest::Setup;
use e2e::sandbox::Sandbox;
use e2e::system;

#[test]
fn the_first_start_serves_and_status_shows_all_of_it() {
    let sandbox = Sandbox::started(Setup { instances: 2, ..Setup::default() });
    let status = sandbox.status();
    assert_eq!(sandbox.get("/").unwrap().text(), "1");
    assert_eq!(status.0["schema"], 1);
    assert_eq!(status.pid("holder"), Some(sandbox.up_pid()), "`up` becomes the holder");
    for role in ["holder", "proxy", "agent"] {
        assert!(system::is_alive(status.pid(role).unwrap()), "{role}");
    }
    assert!(status.proxy_generation().is_some());
    assert!(status.0["processes"]["proxy"]["draining"].as_array().unwrap().is_empty());
    assert!(status.listener("admin").is_some(), "{}", status.0["listeners"]);
    let shop = &status.0["services"]["shop"];
    assert_eq!(shop["stable"], "1");
    assert!(shop["rollout"].is_null());
    assert_eq!(shop["last_rollout"]["phase"], "done");
    assert!(shop["requests_total"].is_u64() && shop["errors_total"].is_u64());
    let ids: Vec<String> = status.instances("shop").into_iter().map(|instance| instance.id).collect();
    assert_eq!(ids, ["shop@1/0", "shop@1/1"]);
    for instance in status.instances("shop") {
        assert_eq!((instance.state.as_str(), instance.restarts), ("ready", 0));
        assert!(instance.address.is_some_and(|address| system::listens(address.port())));
    }
}

#[test]
fn requests_are_counted() {
    let sandbox = Sandbox::started(Setup::default());
    for _ in 0..5 {
        assert_eq!(sandbox.get("/").unwrap().status, 200);
    }
    assert_eq!(sandbox.get("/status?code=500").unwrap().status, 500);
    sandbox.wait_status("six requests, one error", |status| {
        let shop = &status.0["services"]["shop"];
        (shop["requests_total"] == 6 && shop["errors_total"] == 1).then_some(())
    });
}

#[test]
fn an_instance_knows_who_it_is_and_nothing_of_ours() {
    let command = ["/bin/sh", "-c", "env > seen.tmp; mv seen.tmp seen; exec ./victim"];
    let command = command.map(str::to_owned).into();
    let setup =
        Setup { command, service: "environment = { COLOUR = \"blue\" }\n".to_owned(), ..Setup::default() };
    let mut sandbox = Sandbox::new(setup);
    sandbox.up();
    sandbox.wait_ready();
    let seen = std::fs::read_to_string(sandbox.state_dir().join("releases/shop/1/seen")).unwrap();
    let has = |line: &str| seen.lines().any(|seen| seen == line);
    assert!(has("COLOUR=blue") && has("HANDOVER_SERVICE=shop") && has("HANDOVER_VERSION=1"), "{seen}");
    assert!(has("HANDOVER_INSTANCE=shop@1/0"), "{seen}");
    assert!(seen.contains("\nPORT=") || seen.starts_with("PORT="), "{seen}");
    for name in ["NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "XDG_RUNTIME_DIR", "CARGO"] {
        assert!(!seen.lines().any(|line| line.starts_with(name)), "{name} in {seen}");
    }
}

#[test]
fn what_services_print_is_on_the_terminal_and_in_their_log() {
    let sandbox = Sandbox::started(Setup::with_flags(&["--print", "good morning"]));
    let log = sandbox.state_dir().join("logs/shop.log");
    let logged = || std::fs::read_to_string(&log).ok().filter(|text| text.contains("good morning"));
    e2e::wait::until("the line in the service's log", e2e::wait::PATIENCE, logged);
    let shown = || sandbox.up_output().contains("good morning").then_some(());
    e2e::wait::until("the line on the terminal", e2e::wait::PATIENCE, shown);
}

#[test]
fn up_goes_on_from_the_record_and_not_from_the_file() {
    let mut sandbox = Sandbox::started(Setup::default());
    let next = sandbox.release("next", &[]);
    sandbox.deploy("2", &next).expect_code(0);
    sandbox.down();
    sandbox.up();
    let status = sandbox.wait_ready();
    assert_eq!(status.stable("shop").as_deref(), Some("2"), "the file still says 1");
    assert_eq!(sandbox.get("/").unwrap().text(), "2");
}

#[test]
fn up_on_an_existing_state_makes_true_what_was_changed_in_the_file_since() {
    let mut sandbox = Sandbox::started(Setup::default());
    let next = sandbox.release("next", &[]);
    sandbox.deploy("2", &next).expect_code(0);
    sandbox.down();
    sandbox.edit(|setup| setup.instances = 3);
    sandbox.up();
    sandbox.wait_ready();
    assert_eq!(
        sandbox.get("/").unwrap().text(),
        "2",
        "a line that was not touched keeps what `deploy` set since"
    );
    assert_eq!(sandbox.status().0["warnings"], serde_json::json!([]));
}

#[test]
fn a_second_up_is_refused_with_the_process_of_the_first() {
    let sandbox = Sandbox::started(Setup::default());
    let pid = sandbox.up_pid().to_string();
    sandbox.run(&["up"]).expect_code(1).expect_says(&[&pid]);
    assert_eq!(sandbox.get("/").unwrap().status, 200, "the first one goes on");
}

#[test]
fn detached_up_returns_when_everything_is_ready() {
    let mut sandbox = Sandbox::new(Setup::with_flags(&["--ready-after", "300"]));
    sandbox.run(&["up", "--detach"]).expect_code(0);
    assert_eq!(sandbox.status().stable("shop").as_deref(), Some("1"));
    assert_eq!(sandbox.get("/").unwrap().text(), "1");
    sandbox.down();
    e2e::wait::until("the end of all processes", e2e::wait::PATIENCE, || {
        sandbox.processes().is_empty().then_some(())
    });
}

#[test]
fn detached_up_says_why_the_first_release_does_not_start() {
    let sandbox = Sandbox::new(Setup::with_flags(&["--exit-at-once", "7"]));
    let ran = sandbox.run(&["up", "--detach"]);
    assert_ne!(ran.code, Some(0), "{}", ran.text());
    ran.expect_says(&["cannot open the database"]);
}

#[test]
fn what_was_killed_before_anything_was_recorded_leaves_nothing_in_the_way_of_the_next_up() {
    let mut sandbox = Sandbox::new(Setup::default());
    let began = std::time::Instant::now();
    let (state, run) = (sandbox.state_dir(), sandbox.folder().join("rescued"));
    std::fs::create_dir_all(&state).unwrap();
    // As it is started by a role that has survived `up`: the boot form is lost, and there is no record.
    let (state, run) = (state.to_str().unwrap(), run.to_str().unwrap());
    let arguments = ["internal", "holder", "--state-dir", state, "--run-dir", run];
    let mut command = sandbox.command(&arguments);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let ended = e2e::sandbox::finish(command.spawn().unwrap(), began, &arguments);
    ended.expect_code(0).expect_says(&["no record and no manifest", "handover up"]);
    assert!(sandbox.processes().is_empty());
    sandbox.up();
    sandbox.wait_ready();
}

#[test]
fn files_that_others_should_not_read_are_private() {
    let sandbox = Sandbox::started(Setup::default());
    let mode = |path: &str| system::mode_of(&sandbox.state_dir().join(path));
    assert_eq!(mode(""), 0o711);
    assert_eq!(mode("releases"), 0o755);
    assert_eq!((mode("record/a"), mode("record/b"), mode("admin.token")), (0o600, 0o600, 0o600));
    assert_eq!(mode("bin"), 0o700);
    let run = |path: &str| system::mode_of(&sandbox.run_dir().join(path));
    assert_eq!((run(""), run("admin.sock"), run("rescue")), (0o711, 0o600, 0o700));
    let pid = std::fs::read_to_string(sandbox.run_dir().join("handover.pid")).unwrap();
    assert_eq!(pid.trim(), sandbox.up_pid().to_string());
}

#[test]
fn a_taken_port_is_named_with_the_listener() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut sandbox = Sandbox::new(Setup { bind: address.clone(), ..Setup::default() });
    sandbox.up();
    sandbox.wait_status("the listener's error", |status| {
        status.0["listeners"]["web"]["error"].as_str().filter(|error| error.contains(&address)).map(|_| ())
    });
}
