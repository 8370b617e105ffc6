use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use model::manifest::{HostPattern, ReadinessCheck, RestartPolicy, StopSignal};

use super::error::ConfigError;
use super::testing::{SMALL, check, hello, plain, said, wrong, wrong_with};
use super::{find, load, raw, schema, state_dir};

/// Compares with what is expected, and shows both where they differ.
#[track_caller]
fn expect(got: &str, expected: &str) {
    assert!(got.trim_end() == expected.trim_end(), "--- got\n{got}\n--- expected\n{expected}");
}

#[test]
fn a_small_manifest_holds_with_every_default_filled_in() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = hello(folder.path(), "");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let manifest = loaded.manifest;
    assert_eq!(manifest.state_dir, folder.path().join("state"));
    assert!(manifest.admin.bind_is_default && manifest.admin.bind.port() == 7979);
    assert!(manifest.proxy.threads >= 1 && manifest.proxy.access_log.is_some());
    assert_eq!(manifest.instances.ports, (20_000, 29_999));
    let service = manifest.services.values().next().unwrap();
    assert_eq!(service.release, folder.path().join("releases/v1"));
    assert!(service.version.as_str().starts_with("v1-") && service.version_is_derived);
    assert_eq!(service.readiness.check, ReadinessCheck::Tcp);
    assert_eq!(service.rollout.keep_warm, Duration::from_secs(600));
    assert_eq!(manifest.routes[0].path, "/");
    assert_eq!(manifest.routes[0].host, HostPattern::Any);
}

#[test]
fn every_served_key_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let text = "
state_dir = './data'
admin = { bind = '[::1]:7000' }
proxy = { threads = 3, access_log = false }
instances = { ports = '30000-30100' }
[listener.web]
bind = '[::]:8443'
protocol = 'http'
backlog = 100
header_timeout = '5s'
idle_timeout = '2m'
body_timeout = '3s'
head_bytes_max = '16KiB'
headers_max = 64
body_bytes_max = '10MiB'
[[route]]
listener = 'web'
host = '*.Example.com'
path = '/api/'
service = 'shop'
[[route]]
listener = 'web'
host = 'shop.example.com'
service = 'shop'
[service.shop]
release = 'releases/v1'
version = '1.4.1'
command = ['./hello', '${PORT}', '${B}', '${TOKEN}', '${PATH}', '${X:-y}']
instances = 3
environment = { B = 'x ${PORT}', A = '${B}' }
environment_inherit = ['TOKEN']
mode = 'proxied'
readiness = { notify = true, interval = '2s', timeout = '1s', rise = 1, fall = 2, startup_timeout = '5s' }
stop = { signal = 'SIGQUIT', drain_timeout = '0s', grace_period = '1m30s' }
restart = { policy = 'on-failure', delay = '100ms', max_delay = '5s', reset_after = '1h' }
upstream = { connect_timeout = '1s', response_timeout = '20s', idle_reuse = '0s' }
balance = { algorithm = 'least-requests' }
rollout = { strategy = 'blue-green', keep_warm = '1d' }
";
    let manifest = check(folder.path(), text).unwrap().manifest;
    assert_eq!(manifest.state_dir, folder.path().join("data"));
    assert!(!manifest.admin.bind_is_default && manifest.proxy.access_log.is_none());
    assert_eq!((manifest.proxy.threads, manifest.instances.ports), (3, (30_000, 30_100)));
    let listener = manifest.listeners.values().next().unwrap();
    assert_eq!((listener.backlog, listener.headers_max, listener.head_bytes_max), (100, 64, 16 << 10));
    assert_eq!(listener.body_bytes_max, 10 << 20);
    assert_eq!(listener.idle_timeout, Duration::from_secs(120));
    assert_eq!(manifest.routes[0].host, HostPattern::Suffix(".example.com".into()));
    assert_eq!(manifest.routes[0].path, "/api");
    assert_eq!(manifest.routes[1].host, HostPattern::Exact("shop.example.com".into()));
    let shop = manifest.services.values().next().unwrap();
    assert_eq!((shop.version.as_str(), shop.instances), ("1.4.1", 3));
    let environment: Vec<_> =
        shop.environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(environment, ["B=x ${PORT}", "A=${B}"], "in the order of the file");
    assert_eq!(shop.environment_inherit, ["TOKEN"]);
    assert_eq!(
        (&shop.readiness.check, shop.readiness.rise, shop.readiness.fall),
        (&ReadinessCheck::Notify, 1, 2)
    );
    assert_eq!((shop.stop.signal, shop.stop.grace_period), (StopSignal::Quit, Duration::from_secs(90)));
    assert_eq!(
        (shop.restart.policy, shop.restart.delay),
        (RestartPolicy::OnFailure, Duration::from_millis(100))
    );
    assert_eq!(
        (shop.traffic.upstream.idle_reuse, shop.rollout.keep_warm),
        (Duration::ZERO, Duration::from_secs(86_400))
    );
}

#[test]
fn what_check_prints_is_the_same_manifest_again() {
    let folder = tempfile::tempdir().unwrap();
    let more = "environment = { \"a b\" = 'x\"y\\z', C = '' }\nreadiness.http = '/h'\nstop.signal = 'SIGINT'";
    let loaded = hello(folder.path(), more);
    let mut text = String::new();
    for section in loaded.effective() {
        text.push_str(&format!("{}\n", section.header));
        for line in section.lines {
            text.push_str(&format!("{} = {}\n", line.key, line.value));
        }
    }
    let mut again = check(folder.path(), &text).unwrap();
    assert!(again.effective().iter().all(|section| section.lines.iter().all(|line| !line.is_default)));
    again.manifest.admin.bind_is_default = true;
    let service = again.manifest.services.values_mut().next().unwrap();
    service.version_is_derived = true;
    assert_eq!(again.manifest, loaded.manifest, "{text}");
}

#[test]
fn an_error_shows_file_line_the_text_and_what_to_write() {
    let report = wrong(&format!("{SMALL}readiness = {{ htp = '/healthz', timeout = 2 }}\n"));
    expect(
        &plain(&report),
        r#"  x unknown key `htp` in [service.hello.readiness]
    ,-[handover.toml:12:15]
 11 | instances = 2
 12 | readiness = { htp = '/healthz', timeout = 2 }
    :               ^|^
    :                `-- did you mean `http`?
    `----
  help: allowed here: http, tcp, notify, log, command, alive_for, interval, timeout, rise, fall,
        startup_timeout

  x `timeout` must be a duration with its unit
    ,-[handover.toml:12:43]
 11 | instances = 2
 12 | readiness = { htp = '/healthz', timeout = 2 }
    :                                           |
    :                                           `-- this is a whole number
    `----
  help: write the unit too: "2s" for seconds, "2ms" for milliseconds
"#,
    );
}

#[test]
fn errors_for_programs_have_key_line_and_column() {
    let report = wrong(&format!("{SMALL}instnces = 3\n"));
    let json = &report.json()[0];
    assert_eq!((json["line"].as_u64(), json["column"].as_u64()), (Some(12), Some(1)));
    assert_eq!(
        (json["key"].as_str(), json["text"].as_str()),
        (Some("service.hello.instnces"), Some("instnces"))
    );
    let without_place = &wrong("").json()[0];
    assert!(without_place["line"].is_null() && without_place["message"].is_string());
}

#[test]
fn an_unknown_key_gets_the_nearest_one_and_the_allowed_ones() {
    expect(
        &said(&wrong(&format!("lisener = 3\n{SMALL}"))),
        "lisener <lisener>: unknown key `lisener` at the top level [did you mean `listener`?] -> allowed here: state_dir, \
         admin, proxy, log, instances, listener, route, service",
    );
}

#[test]
fn a_key_of_another_table_is_told_where_it_belongs() {
    let said = wrong_with("http = '/healthz'");
    assert!(said.contains("unknown key `http` in [service.hello] [not here]"), "{said}");
    assert!(
        said.contains("`http` belongs in [service.NAME.readiness] or [service.NAME.liveness]; allowed"),
        "{said}"
    );
}

#[test]
fn a_key_as_another_tool_calls_it_finds_its_name() {
    for (more, near) in [
        ("workdir = 'x'", "did you mean `working_directory`?"),
        ("env-file = 'x'", "did you mean `environment_file`?"),
        ("replicas = 3", "did you mean `instances`?"),
        ("hooks.pre_start = {}", "did you mean `before_start`?"),
        ("restart.exit_codes = [1]", "did you mean `success_codes`?"),
    ] {
        assert!(wrong_with(more).contains(near), "{more}: {}", wrong_with(more));
    }
    assert!(
        wrong_with("restart.stop_codes = 3").contains("must be a list [this is a whole number] -> write [3]")
    );
}

#[test]
fn every_key_that_is_not_served_yet_is_refused_by_name_at_its_place() {
    let mut seen = BTreeSet::new();
    for (header, _, later) in raw::TABLES {
        for (key, instead) in later {
            let text = match header {
                "the top level" => format!("{key} = 1\n{SMALL}"),
                "[service.NAME]" => format!("{SMALL}{key} = 1\n"),
                "[[route]]" => {
                    format!("[[route]]\nlistener = 'web'\nservice = 'hello'\npath = '/x'\n{key} = 1\n{SMALL}")
                }
                "[listener.NAME]" => format!("[listener.b]\nbind = '127.0.0.1:9'\n{key} = 1\n{SMALL}"),
                "[proxy]" => format!("[proxy]\n{key} = 1\n{SMALL}"),
                _ => format!(
                    "{SMALL}{}.{key} = 1\n",
                    header.trim_matches(['[', ']']).rsplit('.').next().unwrap()
                ),
            };
            let report = wrong(&text);
            let problem = &report.problems[0];
            assert_eq!(problem.message, format!("`{key}` is not served yet"), "{header} {key}");
            assert_eq!(&report.source[problem.labels[0].0.clone()], *key);
            assert_eq!(problem.help.as_deref(), Some(*instead));
            seen.insert(*key);
        }
    }
    for key in ["user", "releases_dir", "steps", "rule", "streams", "upgrade", "proxy_protocol"] {
        assert!(seen.contains(key), "{key}");
    }
}

#[test]
fn a_choice_that_is_not_served_yet_is_refused_by_name() {
    for (more, said) in [
        ("mode = 'socket'", "`mode = \"socket\"` is not served yet"),
        ("rollout.strategy = 'canary'", "`strategy = \"canary\"` is not served yet"),
    ] {
        let report = wrong_with(more);
        assert!(report.contains(said), "{report}");
        assert!(report.contains("allowed for now: \""), "{report}");
    }
    let listener = wrong(&SMALL.replace("\n\n[[route]]", "\nprotocol = 'tcp'\n[[route]]"));
    assert!(said(&listener).contains("`protocol = \"tcp\"` is not served yet"));
    let listener = wrong(&SMALL.replace("0.0.0.0:8080", "unix:/run/shop.sock"));
    assert!(said(&listener).contains("a Unix socket as listener is not served yet"));
}

#[test]
fn a_wrong_choice_gets_the_allowed_ones() {
    expect(
        &wrong_with("restart.policy = 'onfailure'"),
        "service.hello.restart.policy <'onfailure'>: `policy` cannot be \"onfailure\" [did you mean \"on-failure\"?] -> \
         allowed: \"always\", \"on-failure\", \"never\"",
    );
    expect(
        &wrong_with("stop.signal = 15"),
        "service.hello.stop.signal <15>: `signal` must be a string [this is a whole number] -> allowed: \"graceful\", \
         \"SIGTERM\", \"SIGINT\", \"SIGQUIT\", \"SIGHUP\", \"SIGUSR1\", \"SIGUSR2\", \"SIGABRT\", \"SIGKILL\"",
    );
}

#[test]
fn a_bare_number_is_told_which_unit_to_write() {
    expect(
        &wrong_with("stop.grace_period = 30"),
        "service.hello.stop.grace_period <30>: `grace_period` must be a duration with its unit [this is a whole number] \
         -> write the unit too: \"30s\" for seconds, \"30ms\" for milliseconds",
    );
    expect(
        &wrong_with("stop.grace_period = '30'"),
        "service.hello.stop.grace_period <'30'>: `grace_period` is not a duration with its unit [] -> a unit is missing: \
         write \"30s\" for seconds, or ms, m, h, d",
    );
    let listener =
        |line: &str| said(&wrong(&SMALL.replace("\n\n[[route]]", &format!("\n{line}\n[[route]]"))));
    expect(
        &listener("head_bytes_max = 4096"),
        "listener.web.head_bytes_max <4096>: `head_bytes_max` must be a size [this is a whole number] -> write it as \
         text: \"4096\" for bytes, or with a unit such as \"64KiB\"",
    );
    expect(
        &listener("head_bytes_max = \"8MB\""),
        "listener.web.head_bytes_max <\"8MB\">: `head_bytes_max` is not a size [] -> `MB` is not a unit of size here: \
         write \"8MiB\"",
    );
}

#[test]
fn a_windows_path_in_double_quotes_is_told_to_use_single_ones() {
    for path in [r"C:\new\app", r"C:\Users\me", r"D:\srv\1", r"C:\temp\new"] {
        let report = said(&wrong(&SMALL.replace("releases/v1", path)));
        assert!(report.contains("write a Windows path in single quotes, 'C:\\new\\app'"), "{path}: {report}");
    }
    let report = said(&wrong(&format!("state_dir = \"C:\\temp\"\n{SMALL}")));
    assert!(
        report.starts_with("state_dir <\"C:\\temp\">: `state_dir` has the character \\t in it"),
        "{report}"
    );
    let report = said(&wrong(&SMALL.replace("\"releases/v1\"", r"'C:\new\app'")));
    assert!(!report.contains("single quotes"), "{report}");
}

#[test]
fn text_that_is_not_toml_is_said_with_what_was_likely_meant() {
    assert!(said(&wrong("umask = 022\n")).ends_with("-> write it as text: \"022\""));
    for (text, expected) in [
        (
            "a = yes\nb = 30s\n",
            " <yes>: this is not TOML: string values must be quoted, expected literal string [] -> \
            write \"yes\"\n <30s>: this is not TOML: string values must be quoted, expected literal string [] -> write \"30s\"",
        ),
        (
            "a = 1\na = 2\n",
            " <a>: this is not TOML: duplicate key [a second time] -> each key and each table once; routes \
            are [[route]]",
        ),
        (
            "a = \n",
            " <>: this is not TOML: string values must be quoted, expected literal string [] -> write a value after \
            the `=`",
        ),
    ] {
        expect(&said(&wrong(text)), expected);
    }
}

#[test]
fn wrong_types_say_what_is_expected_and_what_to_write() {
    for (more, expected) in [
        ("version = 1.4", "`version` must be a string [this is a number] -> write \"1.4\""),
        ("environment = { A = true }", "`A` must be a string [this is a boolean] -> write \"true\""),
        (
            "readiness.rise = '2'",
            "`rise` must be a whole number [this is a string] -> write it without quotes",
        ),
        ("readiness.rise = -1", "`rise` must be a whole number, 0 or more [out of range]"),
        (
            "readiness.tcp = 'yes'",
            "`tcp` must be true or false [this is a string] -> write true or false, without quotes",
        ),
        (
            "readiness = '/healthz'",
            "`readiness` must be a table [this is a string] -> write [service.hello.readiness] and",
        ),
        (
            "environment_inherit = 'A B'",
            "`environment_inherit` must be a list [this is a string] -> write [\"A\", \"B\"]",
        ),
    ] {
        let report = wrong_with(more);
        assert!(report.contains(expected), "{more}: {report}");
    }
    let one_route = said(&wrong(&SMALL.replace("[[route]]", "[route]")));
    assert!(
        one_route.contains("`route` must be a list [this is a table] -> write [[route]] with double"),
        "{one_route}"
    );
    let command = said(&wrong(&SMALL.replace("[\"./hello\"]", "\"./hello --listen ${PORT}\"")));
    assert!(command.contains("-> write [\"./hello\", \"--listen\", \"${PORT}\"]"), "{command}");
}

#[test]
fn an_address_that_is_none_is_told_how_to_write_it() {
    for (bind, help) in [
        ("8080", "write \"0.0.0.0:8080\" for all interfaces, \"127.0.0.1:8080\" for this machine only"),
        ("'8080'", "write \"0.0.0.0:8080\" for all interfaces, \"127.0.0.1:8080\" for this machine only"),
        ("':8080'", "write \"0.0.0.0:8080\" for all interfaces, \"127.0.0.1:8080\" for this machine only"),
        ("'localhost:8080'", "write \"127.0.0.1:8080\""),
        ("'127.0.0.1'", "write its port too, such as \"127.0.0.1:8080\""),
        ("'::1'", "write an IPv6 address in brackets and with its port, such as \"[::]:8080\""),
        ("'::1:8080'", "write an IPv6 address in brackets and with its port, such as \"[::]:8080\""),
        ("'0.0.0.0:99999'", "ports end at 65535"),
        ("'shop:80'", "names are not looked up"),
    ] {
        let report = said(&wrong(&SMALL.replace("\"0.0.0.0:8080\"", bind)));
        assert!(report.ends_with(help), "{bind}: {report}");
    }
}

#[test]
fn a_route_to_an_unknown_name_is_offered_the_nearest() {
    expect(
        &said(&wrong(&SMALL.replace("service = \"hello\"", "service = \"helo\""))),
        "route.service <\"helo\">: there is no service `helo` [did you mean `hello`?] -> there is: hello",
    );
    expect(
        &said(&wrong(&SMALL.replace("listener = \"web\"", "listener = \"public\""))),
        "route.listener <\"public\">: there is no listener `public` [no such name] -> there is: web",
    );
}

#[test]
fn two_routes_for_the_same_requests_are_shown_both() {
    let text = format!("{SMALL}[[route]]\nlistener = 'web'\nservice = 'hello'\npath = '/'\n");
    let report = wrong(&text);
    expect(
        &said(&report),
        "route <[[route]]>: two routes are for the same listener, host and path [this one would never be taken] -> \
         remove one, or change its path or host",
    );
    assert_eq!(report.problems[0].labels[1].1, "the first");
}

#[test]
fn wrong_hosts_and_paths_of_routes_are_said() {
    let route = |line: &str| {
        said(&wrong(&SMALL.replace("service = \"hello\"", &format!("service = 'hello'\n{line}"))))
    };
    for (line, why) in [
        ("host = 'https://a.b'", "it is a host name, without scheme or path"),
        ("host = 'a.b:80'", "it is compared without the port"),
        ("host = 'a.*.b'", "`*` may only stand for the first label, as in *.example.com"),
        ("host = ''", "a host name has 1 to 253 characters"),
        ("host = 'a b'", "that is no host name"),
        ("path = 'api'", "it must begin with /"),
        ("path = '/a?b'", "it is compared without query and fragment"),
        ("path = '/ä'", "characters beyond visible ASCII are sent percent-encoded: write them so"),
        ("path = '/a/../b'", "`.` and `..` are resolved before it is compared"),
    ] {
        let report = route(line);
        assert!(report.contains(why), "{line}: {report}");
    }
}

#[test]
fn listeners_that_cannot_both_listen_are_shown_both() {
    let second = |bind: &str| format!("{SMALL}[listener.b]\nbind = '{bind}'\n");
    let folder = tempfile::tempdir().unwrap();
    for bind in ["0.0.0.0:8080", "127.0.0.1:8080"] {
        let report = said(&wrong(&second(bind)));
        assert!(report.contains("`b` and `web` cannot both listen on port 8080"), "{report}");
    }
    for bind in ["127.0.0.1:8081", "[::1]:8080"] {
        check(folder.path(), &second(bind)).unwrap();
    }
    check(folder.path(), &second("0.0.0.0:0").replace("0.0.0.0:8080", "0.0.0.0:0")).unwrap();
    let admin = said(&wrong(&format!("admin.bind = '127.0.0.1:8080'\n{SMALL}")));
    assert!(admin.contains("`web` and `admin` cannot both listen on port 8080"), "{admin}");
}

#[test]
fn a_release_is_a_directory_an_archive_or_a_program() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["app.tar.gz", "app.tgz", "app.tar.zst", "app.ZIP", "app"] {
        std::fs::write(folder.path().join(name), "").unwrap();
        let text = SMALL.replace("releases/v1", name).replace("./hello", "./app") + "version = '1'\n";
        let loaded = check(folder.path(), &text).unwrap();
        assert_eq!(loaded.manifest.services.values().next().unwrap().release, folder.path().join(name));
    }
    let text = SMALL.replace("releases/v1", "app") + "version = '1'\n";
    let Err(ConfigError::Wrong(report)) = check(folder.path(), &text) else { panic!("another program") };
    expect(
        &said(&report),
        "service.hello.command <\"./hello\">: there is no program ./hello in the release [not found] -> the release is \
         that one file: write \"./app\"",
    );
}

#[test]
fn what_is_no_release_is_refused_by_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("app.tar.xz"), "").unwrap();
    for (release, why) in [
        ("app.tar.xz", "such an archive is not read"),
        ("none.zip", "there is nothing at "),
        ("https://example.com/app.tar.gz", "a URL as `release` is not served yet"),
        ("releases/v9", "there is nothing at "),
    ] {
        let text = SMALL.replace("releases/v1", release);
        let Err(ConfigError::Wrong(report)) = check(folder.path(), &text) else { panic!("{release}") };
        assert!(report.problems[0].message.starts_with(why), "{release}: {}", said(&report));
        assert_eq!(report.problems.len(), 1, "{}", said(&report));
    }
}

#[test]
fn a_version_that_nobody_wrote_is_the_name_with_the_contents_hash() {
    let folder = tempfile::tempdir().unwrap();
    let version = |text: &str| {
        let manifest = check(folder.path(), text).unwrap().manifest;
        let service = manifest.services.into_values().next().unwrap();
        (service.version.to_string(), service.version_is_derived)
    };
    let (derived, is_derived) = version(SMALL);
    assert!(derived.starts_with("v1-") && derived.len() == 11 && is_derived, "{derived}");
    let written = SMALL.replace("instances = 2", "instances = 2\nversion = '1.0'");
    assert_eq!(version(&written), ("1.0".to_owned(), false));
    std::fs::create_dir_all(folder.path().join("my app")).unwrap();
    let text = SMALL.replace("releases/v1", "my app").replace("./hello", "sh");
    assert!(version(&text).0.starts_with("my-app-"));
}

#[test]
fn a_command_must_name_a_program_that_is_there_and_variables_that_exist() {
    let command = |command: &str| said(&wrong(&SMALL.replace("[\"./hello\"]", command)));
    assert!(command("[]").contains("`command` names no program"));
    assert!(command("['']").contains("`command` names no program"));
    assert!(command("['./shop']").contains("there is no program "));
    assert!(command("['bin/shop']").contains("there is no program "));
    expect(
        &command("['./hello', '${PROT}']"),
        "service.hello.command <'${PROT}'>: there is no variable ${PROT} [did you mean ${PORT}?] -> filled in are PORT, \
         VERSION, SERVICE, INSTANCE, RELEASE_DIR, HANDOVER, inherited variables, and those of `environment` declared \
         before; a shell's own is written without braces, $NAME",
    );
    let folder = tempfile::tempdir().unwrap();
    for fine in ["['hello']", "['${HANDOVER}', 'sample']", "['sh', '-c', 'exec $X ${X:-y} ${']"] {
        check(folder.path(), &SMALL.replace("[\"./hello\"]", fine)).unwrap();
    }
}

#[test]
fn variables_that_handover_sets_cannot_be_declared() {
    for name in ["PORT", "HANDOVER_SERVICE", "NOTIFY_SOCKET", "LISTEN_FDS"] {
        let report = wrong_with(&format!("environment.{name} = 'x'"));
        assert!(report.contains(&format!("`{name}` is set by Handover")), "{report}");
    }
    assert!(wrong_with("environment = { A = '${B}', B = '' }").contains("there is no variable ${B}"));
    assert!(wrong_with("environment.'a=b' = ''").contains("`a=b` cannot be the name of a variable"));
}

#[test]
fn only_one_thing_decides_readiness() {
    let report = wrong_with("readiness = { http = '/h', notify = true }");
    assert!(report.contains("`http` and `notify` cannot both decide readiness"), "{report}");
    let folder = tempfile::tempdir().unwrap();
    hello(folder.path(), "readiness = { http = '/h', tcp = false }");
}

#[test]
fn numbers_outside_their_range_are_told_the_range() {
    for (more, why) in [
        ("readiness.rise = 0", "`rise` must be 1 to 100"),
        ("readiness.interval = '1ms'", "`interval` must be at least \"10ms\""),
        ("restart = { delay = '10s', max_delay = '5s' }", "`max_delay` is below `delay`"),
        ("rollout.keep_warm = '400d'", "the longest duration is \"365d\""),
    ] {
        let report = wrong_with(more);
        assert!(report.contains(why), "{more}: {report}");
    }
    let instances = |count: &str| said(&wrong(&SMALL.replace("instances = 2", count)));
    assert!(instances("instances = 0").contains("`instances` must be 1 to 1000"));
    assert!(instances("instances = 99999999999").contains("`instances` must be 1 to 1000"));
    let threads = said(&wrong(&format!("proxy.threads = 0\n{SMALL}")));
    assert!(threads.contains("`threads` must be 1 to 256"), "{threads}");
    let ports = said(&wrong(&format!("instances.ports = '20000-20002'\n{SMALL}")));
    assert!(
        ports.contains("20000-20002 are too few ports: while releases are replaced 4 instances may run"),
        "{ports}"
    );
}

#[test]
fn a_name_that_cannot_be_one_is_refused() {
    let report = said(&wrong(&format!("{SMALL}[service.Shop]\nrelease = 'releases/v1'\ncommand = ['x']\n")));
    assert!(report.contains("`Shop` is not a name: use 1 to 40 of a-z, 0-9 and `-`"), "{report}");
}

#[test]
fn what_may_be_meant_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let text = SMALL.replace("instances = 2", "")
        + "[listener.b]\nbind = '127.0.0.1:1'\n[service.idle]\nrelease = 'releases/v2'\ncommand = ['sh']\ninstances = 2\n";
    let loaded = check(folder.path(), &text).unwrap();
    expect(
        &said(&loaded.warnings()),
        "service.hello.instances <[service.hello]>: instances = 1: a crash is then an outage until the restart [] -> \
         write instances = 2 or more; deploys lose nothing either way\n\
         listener.b <b>: no route is for `b`: it answers 404 to everything [] -> add [[route]] with listener = \"b\"\n\
         service.idle <idle>: no route leads to `idle`: it runs, and gets no request [] -> add [[route]] with service = \
         \"idle\"",
    );
}

#[test]
fn an_empty_manifest_says_what_it_needs() {
    expect(
        &said(&wrong("")),
        "service <>: there is no service: nothing would run [] -> add [service.web] with a `release` and a `command`\n\
         listener <>: there is no listener: nothing could be reached [] -> add [listener.web] with bind = \
         \"127.0.0.1:8080\"",
    );
}

#[test]
fn the_state_directory_is_found_in_a_manifest_that_is_wrong_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("handover.toml");
    std::fs::write(&path, "state_dir = 'here'\nwhat = yes\n[service.x]\n").unwrap();
    assert_eq!(state_dir(&path).unwrap(), folder.path().join("here"));
    std::fs::write(&path, "state_dir = 3\n").unwrap();
    assert!(matches!(state_dir(&path), Err(ConfigError::Wrong(_))));
}

#[test]
fn a_manifest_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    assert_eq!(find(Some(&missing)).unwrap(), missing);
    let error = load(&missing).unwrap_err().to_string();
    assert!(error.starts_with(&format!("{} cannot be read: ", missing.display())), "{error}");
}

#[test]
fn the_example_that_the_readme_begins_with_is_right() {
    let path = root().join("examples/hello/handover.toml");
    let loaded = load(&path).unwrap();
    // Tests may run as root, which is warned of.
    let warnings: Vec<_> = loaded.warnings.iter().filter(|w| !w.message.ends_with("root")).collect();
    assert!(warnings.is_empty(), "{warnings:?}");
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn the_committed_schema_is_the_one_of_these_types() {
    let path = root().join("docs/handover.schema.json");
    let text = schema::text();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    assert!(committed == text, "docs/handover.schema.json is old: run this test with UPDATE_EXPECT=1");
}

#[test]
fn the_schema_has_every_default_that_check_prints() {
    let folder = tempfile::tempdir().unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema::text()).unwrap();
    // These depend on the machine, the directory's name, or what else is said.
    let computed = [
        "state_dir",
        "threads",
        "version",
        "environment",
        "environment_inherit",
        "depends_on",
        "success_codes",
        "restart_codes",
        "stop_codes",
        "tcp",
        "access_log",
        "trusted_proxies",
        "paths",
        "statuses",
    ];
    for section in hello(folder.path(), "").effective() {
        let table = match section.header.trim_matches(['[', ']']).rsplit('.').next().unwrap() {
            "web" => "Listener".to_owned(),
            "hello" => "Service".to_owned(),
            "" => continue,
            name => name[..1].to_uppercase() + &name[1..],
        };
        for line in section.lines.iter().filter(|line| line.is_default && !computed.contains(&line.key)) {
            let default = &schema["definitions"][&table]["properties"][line.key]["default"];
            assert_eq!(default.to_string(), line.value, "{table} {}", line.key);
        }
    }
}

#[test]
fn what_the_schema_requires_is_what_is_missed() {
    let schema: serde_json::Value = serde_json::from_str(&schema::text()).unwrap();
    let report = wrong(
        "[listener.a]\ntls = {}\n[[route]]\n[[route]]\nlistener = 'a'\nsplit = [{}]\n[service.c]\nendpoints = [{}]\n\
         [service.b]\ndepends_on = [{}]\nhooks.after_exit = {}\n",
    );
    for (table, name) in [
        ("Listener", "listener.a"),
        ("Certificate", "listener.a.tls"),
        ("Route", "route"),
        ("Split", "route"),
        ("EndpointTable", "service.c.endpoints"),
        ("Hook", "service.b.hooks.after_exit"),
        ("DependencyTable", "service.b.depends_on"),
    ] {
        for key in schema["definitions"][table]["required"].as_array().unwrap() {
            let full = format!("{name}.{}", key.as_str().unwrap());
            assert!(report.problems.iter().any(|problem| problem.key == full), "{full}: {}", said(&report));
        }
    }
    assert_eq!(report.problems.len(), 11, "{}", said(&report));
}

#[test]
fn the_reference_names_every_key_that_is_served_or_refused() {
    let text = std::fs::read_to_string(root().join("docs/manifest.md")).unwrap();
    for (header, keys, later) in raw::TABLES {
        for key in keys.iter().copied().chain(later.iter().map(|(key, _)| *key)) {
            assert!(text.contains(&format!("| `{key}` |")), "docs/manifest.md lacks `{key}` of {header}");
        }
    }
}
