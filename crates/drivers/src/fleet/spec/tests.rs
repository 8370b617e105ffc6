use std::time::Duration;

use model::manifest::Stop;

use super::*;

fn request(command: &[&str], release: &Path) -> SpawnRequest {
    SpawnRequest {
        instance: "shop@1.4.1/0".parse().unwrap(),
        release_directory: release.to_owned(),
        command: command.iter().map(ToString::to_string).collect(),
        environment: vec![("PORT".into(), "20000".into()), ("SELF".into(), "${HANDOVER}!".into())],
        port: Some(20_000),
        port_is_fixed: false,
        watchdog: None,
        ready_log: None,
        environment_file: None,
        working_directory: None,
        account: None,
        umask: None,
        limits: model::manifest::Limits::default(),
        output: model::manifest::Output::default(),
        notify: false,
        stop: Stop {
            signal: StopSignal::Interrupt,
            drain_timeout: Duration::ZERO,
            grace_period: Duration::from_secs(3),
        },
    }
}

fn ground(path: &str) -> Ground {
    Ground { environment: vec![("PATH".into(), path.into())], handover: "/state/bin/x/handover".into() }
}

#[test]
fn programs_become_absolute_and_never_come_from_the_working_directory() {
    let release = tempfile::tempdir().unwrap();
    std::fs::write(release.path().join("notes"), "").unwrap();
    let program = |command: &str| build(&request(&[command], release.path()), &ground("relative:/bin"));
    assert_eq!(program("sh").unwrap().program, "/bin/sh");
    assert_eq!(program("/bin/sh").unwrap().program, "/bin/sh");
    assert!(program("no-such-program").unwrap_err().contains("write `./no-such-program`"));
    assert!(program("./missing").unwrap_err().contains("missing cannot be run"));
    assert!(program("./notes").unwrap_err().contains("chmod +x"));
    assert!(program("").is_err());
}

#[test]
fn our_own_binary_can_be_named_in_commands_and_values() {
    let release = tempfile::tempdir().unwrap();
    let ground = Ground { handover: "/bin/sh".into(), ..ground("/bin") };
    let spec = build(&request(&["${HANDOVER}", "sample"], release.path()), &ground).unwrap();
    assert_eq!((spec.program.as_str(), spec.arguments[0].as_str()), ("/bin/sh", "sample"));
    assert!(spec.environment.contains(&("SELF".into(), "/bin/sh!".into())));
    assert_eq!((spec.stop_signal, spec.grace_ms), (host::process::INT, 3_000));
}

#[test]
fn what_a_request_prints_in_a_log_has_no_arguments_and_no_values() {
    let mut request = request(&["./shop", "--key", "s3cret"], Path::new("/r"));
    request.environment.push(("TOKEN".into(), "s3cret".into()));
    let shown = format!("{request:?}");
    assert!(shown.contains("TOKEN"), "{shown}");
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn instances_get_the_base_variables_and_nothing_else_of_ours() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let own =
        [pair("HOME", "/root"), pair("NOTIFY_SOCKET", "/x"), pair("LC_ALL", "C"), pair("LISTEN_FDS", "1")];
    let recorded = [pair("HOME", "/home/ada"), pair("SECRET", "1")];
    let base = base_environment(&recorded, own.into_iter());
    assert_eq!(base, [pair("HOME", "/home/ada"), pair("LC_ALL", "C"), pair("PATH", PATH_DEFAULT)]);
}

#[test]
fn values_of_the_environment_file_get_into_commands_and_declared_variables() {
    let release = tempfile::tempdir().unwrap();
    let file = release.path().join("secrets.env");
    std::fs::write(&file, "KEY=k${PORT}\nPORT=1\nNOTIFY_SOCKET=/x\nHANDOVER=no\n").unwrap();
    let mut request = request(&["sh", "--key=${KEY}", "${NONE}${KEY}", "${"], release.path());
    request.environment.push(("URL".into(), "x:${KEY}@${HANDOVER}".into()));
    request.environment_file = Some(file.clone());
    request.watchdog = Some(Duration::from_millis(1_500));
    let spec = build(&request, &ground("/bin")).unwrap();
    assert_eq!(spec.arguments, ["--key=k${PORT}", "${NONE}k${PORT}", "${"]);
    let value = |name: &str| {
        let mut all = spec.environment.iter().filter(|(known, _)| known == name);
        all.next().map(|(_, value)| value.as_str())
    };
    assert_eq!(value("KEY"), Some("k${PORT}"));
    assert_eq!(value("PORT"), Some("20000"), "what the agent says wins");
    assert_eq!(value("URL"), Some("x:k${PORT}@/state/bin/x/handover"));
    assert_eq!((value("WATCHDOG_USEC"), value("NOTIFY_SOCKET")), (Some("1500000"), None));
    std::fs::remove_file(file).unwrap();
    assert!(build(&request, &ground("/bin")).unwrap_err().contains("secrets.env is not there"));
}

#[test]
fn a_relative_working_directory_stays_in_the_release() {
    let release = tempfile::tempdir().unwrap();
    std::fs::create_dir(release.path().join("data")).unwrap();
    host::folder::make_link(Path::new("/tmp"), &release.path().join("out")).unwrap();
    let with = |directory: &str| {
        let mut request = request(&["sh"], release.path());
        request.working_directory = Some(directory.into());
        build(&request, &ground("/bin")).map(|spec| spec.working_directory)
    };
    assert_eq!(with("data").unwrap(), release.path().join("data").to_str().unwrap());
    assert_eq!(with("./data/").unwrap(), release.path().join("data").to_str().unwrap());
    assert_eq!(with("/tmp").unwrap(), "/tmp");
    assert!(with("out").unwrap_err().contains("leads out of the release"));
    assert!(with("missing").unwrap_err().contains("missing cannot be used"));
    assert!(with("/no-such-directory").is_err());
}

#[test]
fn an_account_brings_its_home_and_name_and_tasks_bring_no_limits() {
    let release = tempfile::tempdir().unwrap();
    let mut request = request(&["sh"], release.path());
    request.account = Some(model::manifest::Account { user: "root".into(), group: None });
    request.limits.memory = Some(1 << 30);
    request.umask = Some(0o027);
    let mut ground = ground("/bin");
    ground.environment.push(("HOME".into(), "/home/ada".into()));
    let spec = build(&request, &ground).unwrap();
    for pair in [("HOME", "/root"), ("USER", "root"), ("LOGNAME", "root")] {
        assert!(spec.environment.contains(&(pair.0.into(), pair.1.into())), "{pair:?}");
    }
    assert_eq!(
        (spec.user.as_deref(), spec.umask, spec.memory_max),
        (Some("root"), Some(0o027), Some(1 << 30))
    );
    let source = Source::task(request.instance.clone(), "reload", 3);
    let task = build_task(&source, &request, &ground).unwrap();
    assert_eq!((task.instance.as_str(), task.memory_max), ("shop@1.4.1/0~reload-3", None));
    request.account = Some(model::manifest::Account { user: "no-such-user".into(), group: None });
    assert!(build(&request, &ground).unwrap_err().contains("no-such-user"));
}
