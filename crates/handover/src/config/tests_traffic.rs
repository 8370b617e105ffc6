//! What a manifest may say of requests, and what stands against it.

use std::path::Path;
use std::time::Duration;

use model::manifest::{AccessLogFormat, Algorithm, HashKey, Service, Sticky};

use super::Loaded;
use super::error::ConfigError;
use super::testing::{SMALL, check, said, wrong, wrong_with};

/// Every key that is about requests.
const WHOLE: &str = r#"
[proxy]
access_log = { format = "combined", sample = "12.5%", query = true }

[listener.plain]
bind = "0.0.0.0:8080"
https_redirect = "secure"
trusted_proxies = ["10.0.0.0/8", "::1"]

[listener.secure]
bind = "0.0.0.0:8443"
tls = [
    { certificate = "cert.pem", key = "key.pem" },
    { certificate = "pem/other.pem", key = "key.pem" },
]

[[route]]
listener = "secure"
split = [{ service = "a", weight = 80 }, { service = "b" }]

[service.a]
release = "releases/v1"
version = "1"
command = ["./hello"]
instances = 2
paths = ["/", "/api/order/{id}"]
maintenance = { on = true, page = "soon.html", retry_after = "90s" }

[service.a.upstream]
request_timeout = "20s"
tunnel_idle_timeout = "1h"

[service.a.retry]
attempts = 2
budget = "10%"
statuses = [502, 503]
non_idempotent = true

[service.a.balance]
algorithm = "hash"
hash = { cookie = "session" }
slow_start = "10s"
requests_max = 64
queue_max = 10
queue_timeout = "5s"
panic = "0%"

[service.a.outlier]
consecutive_errors = 3
interval = "5s"
base_ejection = "1m"
max_ejection = "2m"
max_ejected = "50%"
success_rate_stdev = "0"
success_rate_requests = 10
success_rate_endpoints = 2

[service.a.rollout]
sticky = { cookie = "handover_release", max_age = "1h" }

[service.b]
release = "releases/v1"
version = "1"
command = ["./hello"]
instances = 2
balance = { algorithm = "round-robin" }
outlier.enabled = false
rollout.sticky = { header = "X-User" }
"#;

/// Certificate and key, good until that year.
fn pem(year: i32) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["shop.example".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn whole(folder: &Path) -> Loaded {
    std::fs::create_dir_all(folder.join("pem")).unwrap();
    let (certificate, key) = pem(2_090);
    for (file, text) in [("cert.pem", &certificate), ("key.pem", &key), ("pem/other.pem", &certificate)] {
        std::fs::write(folder.join(file), text).unwrap();
    }
    std::fs::write(folder.join("soon.html"), "<p>soon</p>").unwrap();
    check(folder, WHOLE).unwrap()
}

#[test]
fn every_key_about_requests_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = whole(folder.path()).manifest;
    let log = manifest.proxy.access_log.as_ref().unwrap();
    assert_eq!((log.format, log.sample, log.query), (AccessLogFormat::Combined, 1_250, true));
    let plain = &manifest.listeners[&"plain".parse().unwrap()];
    assert_eq!(plain.https_redirect.as_ref().unwrap().as_str(), "secure");
    let trusted: Vec<_> = plain.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(trusted, ["10.0.0.0/8", "::1/128"]);
    let secure = &manifest.listeners[&"secure".parse().unwrap()];
    assert_eq!((secure.tls.len(), &secure.tls[1].certificate), (2, &folder.path().join("pem/other.pem")));
    let shares: Vec<_> =
        manifest.routes[0].to.iter().map(|share| (share.service.as_str(), share.weight)).collect();
    assert_eq!(shares, [("a", 80), ("b", 1)]);
    let service = |name: &str| -> &Service { &manifest.services[&name.parse().unwrap()] };
    let a = &service("a").traffic;
    assert_eq!(a.paths, ["/", "/api/order/{id}"]);
    let maintenance = a.maintenance.as_ref().unwrap();
    assert_eq!((maintenance.on, maintenance.page.as_deref()), (true, Some("<p>soon</p>")));
    assert_eq!(maintenance.retry_after, Duration::from_secs(90));
    assert_eq!(a.upstream.request_timeout, Duration::from_secs(20));
    assert_eq!(a.upstream.tunnel_idle_timeout, Duration::from_secs(3_600));
    assert_eq!((a.retry.attempts, a.retry.budget_percent, a.retry.non_idempotent), (2, 10, true));
    assert_eq!(a.retry.statuses, [502, 503]);
    assert_eq!(a.balance.algorithm, Algorithm::Hash(HashKey::Cookie("session".into())));
    assert_eq!((a.balance.requests_max, a.balance.queue_max, a.balance.panic_percent), (64, 10, 0));
    let outlier = a.outlier.as_ref().unwrap();
    assert_eq!((outlier.consecutive_errors, outlier.max_ejected_percent), (3, 50));
    assert_eq!(outlier.success_rate_stdev_milli, 0);
    let kept = Sticky::Cookie { name: "handover_release".into(), max_age: Duration::from_secs(3_600) };
    assert_eq!(service("a").rollout.sticky, Some(kept));
    let b = service("b");
    assert_eq!((&b.traffic.balance.algorithm, &b.traffic.outlier), (&Algorithm::RoundRobin, &None));
    assert_eq!(b.rollout.sticky, Some(Sticky::Header { name: "X-User".into() }));
}

#[test]
fn what_check_prints_of_requests_is_the_same_manifest_again() {
    let folder = tempfile::tempdir().unwrap();
    let loaded = whole(folder.path());
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
    assert_eq!(again.manifest, loaded.manifest, "{text}");
}

#[test]
fn an_access_log_that_is_only_wanted_or_not_has_the_defaults() {
    let folder = tempfile::tempdir().unwrap();
    let log =
        |text: &str| check(folder.path(), &format!("{text}\n{SMALL}")).unwrap().manifest.proxy.access_log;
    assert_eq!(log("proxy.access_log = true"), log(""));
    assert_eq!(log("proxy.access_log = {}"), log(""));
    assert_eq!(log("proxy.access_log = false"), None);
    let said = said(&wrong(&format!("proxy.access_log = 'json'\n{SMALL}")));
    assert!(said.contains("`access_log` must be true, false or a table [this is a string]"), "{said}");
}

#[test]
fn a_wrong_setting_of_requests_says_what_is_allowed() {
    for (more, why) in [
        ("retry.attempts = 0", "`attempts` must be 1 to 10"),
        (
            "retry.budget = 20",
            "`budget` must be a share of a hundred [this is a whole number] -> write it as text with its sign: \"20%\"",
        ),
        ("retry.budget = '12.5%'", "`budget` is counted in whole percent [] -> write \"13%\""),
        ("retry.statuses = [200]", "a status that is tried again is 400 to 599"),
        ("retry.statuses = [503, 503]", "503 is there twice"),
        ("balance.algorithm = 'hash'", "`algorithm = \"hash\"` needs to know of what"),
        ("balance.algorithm = 'random'", "allowed: \"least-requests\", \"round-robin\", \"hash\""),
        ("balance.hash = { source = true }", "`hash` belongs to `algorithm = \"hash\"`"),
        ("balance = { algorithm = 'hash', hash = {} }", "`hash` names nothing"),
        (
            "balance = { algorithm = 'hash', hash = { source = true, cookie = 'a' } }",
            "`hash` names more than one thing",
        ),
        (
            "balance = { algorithm = 'hash', hash = { header = 'a b' } }",
            "`header` cannot be \"a b\" [no such name can be sent]",
        ),
        ("balance.requests_max = 2000000", "`requests_max` must be 0 to 1000000"),
        ("balance.queue_timeout = '0s'", "`queue_timeout` must be at least \"10ms\""),
        ("balance.panic = '101%'", "`panic` is not a share of a hundred [] -> the most is \"100%\""),
        ("outlier.max_ejection = '1s'", "`max_ejection` is below `base_ejection`, \"30s\""),
        ("outlier.success_rate_stdev = 1.9", "write \"1.9\""),
        ("outlier.success_rate_stdev = 'x'", "`success_rate_stdev` is no number from \"0\" to \"100\""),
        ("upstream.request_timeout = '1ms'", "`request_timeout` must be at least \"10ms\""),
        ("upstream.tunnel_idle_timeout = '0s'", "`tunnel_idle_timeout` must be at least \"1s\""),
        ("paths = ['api']", "\"api\" is no endpoint group: it does not begin with `/`"),
        ("paths = ['/a/{id}x']", "a parameter is a whole segment in braces"),
        ("paths = ['/a/{id}', '/a/{name}/']", "\"/a/{name}/\" is for the same paths as another one"),
        ("maintenance.page = 'none.html'", "none.html cannot be read"),
        ("maintenance.retry_after = '0s'", "`retry_after` must be at least \"1s\""),
        ("maintenance = true", "-> write maintenance = { on = true }"),
        ("outlier = false", "-> write outlier = { enabled = false }"),
        ("rollout.sticky = {}", "`sticky` names nothing"),
        ("rollout.sticky = { cookie = 'a', header = 'b' }", "`sticky` names two things"),
        ("rollout.sticky = { header = 'b', max_age = '1d' }", "`max_age` belongs to `cookie`"),
    ] {
        let report = wrong_with(more);
        assert!(report.contains(why), "{more}: {report}");
    }
    let many: Vec<String> = (0..65).map(|n| format!("'/p{n}'")).collect();
    let report = wrong_with(&format!("paths = [{}]", many.join(", ")));
    assert!(report.contains("`paths` has 65 entries; the most is 64"), "{report}");
}

#[test]
fn a_worker_has_nothing_to_say_of_requests() {
    for (key, more) in [
        ("retry", "retry.attempts = 2"),
        ("outlier", "outlier.enabled = false"),
        ("paths", "paths = ['/']"),
        ("maintenance", "maintenance.on = true"),
        ("sticky", "rollout.sticky = { header = 'X-User' }"),
    ] {
        let text = format!(
            "{SMALL}[service.w]\nrelease = 'releases/v1'\nversion = '1'\ncommand = ['./hello']\nmode = 'worker'\n{more}\n"
        );
        let report = said(&wrong(&text));
        assert!(report.contains(&format!("`{key}` has no meaning for a worker")), "{report}");
    }
}

fn listener(lines: &str) -> String {
    said(&wrong(&SMALL.replace("\n\n[[route]]", &format!("\n{lines}\n[[route]]"))))
}

#[test]
fn a_wrong_setting_of_a_listener_says_what_is_allowed() {
    for (lines, why) in [
        ("trusted_proxies = ['10.0.0.1/8']", "it has bits set beyond the 8 that count: write 10.0.0.0/8"),
        (
            "trusted_proxies = ['proxy.internal']",
            "it is neither an IP address nor a network such as 10.0.0.0/8",
        ),
        ("tls = { certificate = 'none.pem', key = 'none.pem' }", "none.pem cannot be read"),
        ("tls = 'cert.pem'", "`tls` must be a table or a list of tables [this is a string]"),
        ("tls = []", "`tls` has 0 certificates: write 1 to 100"),
        ("https_redirect = true", "-> write https_redirect = \"NAME\", a listener with `tls`"),
        ("https_redirect = 'secure'", "there is no listener `secure`"),
        ("https_redirect = 'web'", "`web` has no `tls`: nothing answers https there"),
        (
            "https_redirect = 'b'\n[listener.b]\nbind = '127.0.0.1:1'",
            "`b` has no `tls`: nothing answers https there",
        ),
    ] {
        let report = listener(lines);
        assert!(report.contains(why), "{lines}: {report}");
    }
}

/// What is said of these two files.
fn said_of(certificate: &str, key: &str) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("cert.pem"), certificate).unwrap();
    std::fs::write(folder.path().join("key.pem"), key).unwrap();
    let tls = "\ntls = { certificate = 'cert.pem', key = 'key.pem' }\n[[route]]";
    match check(folder.path(), &SMALL.replace("\n\n[[route]]", tls)) {
        Ok(loaded) => Ok(said(&loaded.warnings())),
        Err(ConfigError::Wrong(report)) => Err(said(&report)),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_certificate_or_key_that_no_listener_could_use_is_refused_where_it_is_named() {
    let (certificate, key) = pem(2_090);
    let (_, other) = pem(2_090);
    let damaged = certificate.replace("MII", "AAA");
    for (chain, private, place, why) in [
        ("", &*key, "certificate <'cert.pem'>", "cert.pem contains no certificate in PEM form"),
        (&damaged, &key, "certificate <'cert.pem'>", "certificate 1 in "),
        (&certificate, "", "key <'key.pem'>", "key.pem contains no private key in PEM form"),
        (&certificate, &other, "key <'key.pem'>", "is not the one of the first certificate in "),
    ] {
        let report = said_of(chain, private).unwrap_err();
        assert!(report.starts_with(&format!("listener.web.tls.{place}: ")), "{report}");
        assert!(report.contains(why) && report.lines().count() == 1, "{report}");
    }
    assert_eq!(said_of(&certificate, &key), Ok(String::new()));
}

#[test]
fn a_certificate_that_has_ended_is_a_warning() {
    let (certificate, key) = pem(2_000);
    let report = said_of(&certificate, &key).unwrap();
    assert!(report.starts_with("listener.web.tls.certificate <'cert.pem'>: "), "{report}");
    assert!(report.contains("expired") && report.contains("-> renew it"), "{report}");
}

#[test]
fn a_listener_that_only_redirects_needs_no_route() {
    let folder = tempfile::tempdir().unwrap();
    assert!(whole(folder.path()).warnings.is_empty());
}

#[test]
fn a_split_names_services_that_are_there_and_nothing_else_does() {
    let route = |lines: &str| said(&wrong(&SMALL.replace("service = \"hello\"", lines)));
    for (lines, why) in [
        ("split = ['hello']", "-> write split = [{ service = \"NAME\", weight = 80 }, …]"),
        ("split = []", "`split` names no service"),
        ("split = [{ service = 'helo' }]", "there is no service `helo` [did you mean `hello`?]"),
        ("split = [{ service = 'hello', weight = 0 }]", "`weight` must be 1 to 10000"),
        ("split = [{ service = 'hello' }, { service = 'hello' }]", "`hello` is there twice"),
        (
            "service = 'hello'\nsplit = [{ service = 'hello' }]",
            "`service` and `split` cannot both say where a route leads",
        ),
    ] {
        let report = route(lines);
        assert!(report.contains(why), "{lines}: {report}");
    }
}

#[test]
fn a_page_that_is_too_large_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("big.html"), vec![b'x'; (64 << 10) + 1]).unwrap();
    let text = format!("{SMALL}maintenance.page = 'big.html'\n");
    let Err(ConfigError::Wrong(report)) = check(folder.path(), &text) else { panic!("it is too large") };
    assert!(
        said(&report).contains("big.html has 65537 bytes; a page has at most 65536"),
        "{}",
        said(&report)
    );
}

/// The small manifest with a service beside it that is not started here.
fn fronted(lines: &str) -> String {
    format!("{SMALL}[service.api]\n{lines}\n[[route]]\nlistener = 'web'\npath = '/api'\nservice = 'api'\n")
}

#[test]
fn a_service_that_is_not_started_here_has_endpoints() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "endpoints = ['10.0.0.5:9000', { address = '[fd00::6]:9000', weight = 5 }, 'unix:/run/app.sock', \
                 'unix:here.sock', 'Backend.internal:8080']\npaths = ['/api/{id}']\n\
                 readiness = { http = '/healthz', interval = '5s', rise = 1 }\nretry.attempts = 2";
    let loaded = check(folder.path(), &fronted(lines)).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let api = &loaded.manifest.fronted[&"api".parse().unwrap()];
    let places: Vec<_> =
        api.endpoints.iter().map(|place| (place.address.to_string(), place.weight)).collect();
    let here = format!("unix:{}", folder.path().join("here.sock").display());
    let expected = [
        ("10.0.0.5:9000".to_owned(), 1),
        ("[fd00::6]:9000".to_owned(), 5),
        ("unix:/run/app.sock".to_owned(), 1),
        (here, 1),
        ("backend.internal:8080".to_owned(), 1),
    ];
    assert_eq!(places, expected);
    let probe = api.probe.as_ref().unwrap();
    assert_eq!((probe.http_path.as_deref(), probe.rise, probe.fall), (Some("/healthz"), 1, 3));
    assert_eq!((api.traffic.retry.attempts, &api.traffic.paths[..]), (2, &["/api/{id}".to_owned()][..]));
    assert!(!loaded.manifest.services.contains_key(&"api".parse().unwrap()));
    let mut text = String::new();
    for section in loaded.effective() {
        text.push_str(&format!("{}\n", section.header));
        for line in section.lines {
            text.push_str(&format!("{} = {}\n", line.key, line.value));
        }
    }
    let again = check(folder.path(), &text).unwrap();
    assert_eq!(again.manifest.fronted, loaded.manifest.fronted, "{text}");
}

#[test]
fn endpoints_are_not_probed_unless_that_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let probe = |lines: &str| {
        let manifest =
            check(folder.path(), &fronted(&format!("endpoints = ['a.b:1']\n{lines}"))).unwrap().manifest;
        manifest.fronted[&"api".parse().unwrap()].probe.clone().map(|probe| probe.http_path)
    };
    assert_eq!(probe(""), None);
    assert_eq!(probe("readiness.tcp = true"), Some(None));
    assert_eq!(probe("readiness.http = '/h'"), Some(Some("/h".to_owned())));
}

#[test]
fn what_needs_a_process_is_refused_beside_endpoints_by_name() {
    for (key, lines) in [
        ("release", "release = 'releases/v1'"),
        ("command", "command = ['./hello']"),
        ("version", "version = '1'"),
        ("instances", "instances = 2"),
        ("mode", "mode = 'worker'"),
        ("port", "port = 9"),
        ("environment", "environment.A = 'b'"),
        ("user", "user = 'www-data'"),
        ("limits", "limits.open_files = 100"),
        ("liveness", "liveness.tcp = true"),
        ("stop", "stop.drain_timeout = '1s'"),
        ("restart", "restart.delay = '1s'"),
        ("reload", "reload.signal = 'SIGHUP'"),
        ("hooks", "hooks.after_exit.command = ['./hello']"),
        ("depends_on", "depends_on = ['hello']"),
        ("output", "output.files = 2"),
        ("rollout", "rollout.sticky = { header = 'X-User' }"),
    ] {
        let report = said(&wrong(&fronted(&format!("endpoints = ['10.0.0.5:9000']\n{lines}"))));
        assert!(report.starts_with(&format!("service.api.{key} ")), "{lines}: {report}");
        assert!(report.contains(&format!("`{key}` has no meaning beside `endpoints`")), "{lines}: {report}");
    }
    let report = said(&wrong(&fronted("endpoints = ['a.b:1']\nreadiness.notify = true")));
    assert!(report.contains("`notify` cannot be seen of `endpoints`"), "{report}");
}

#[test]
fn an_endpoint_that_is_none_says_what_is_wrong() {
    for (endpoints, why) in [
        ("[]", "`endpoints` has 0 entries: write 1 to 256"),
        ("['10.0.0.5']", "its port is missing"),
        ("['10.0.0.5:0']", "port 0 is none"),
        ("['10.0.0.500:80']", "that is no IP address"),
        ("['a.b:99999']", "a port is 1 to 65535"),
        ("['http://a.b:80']", "it is an address and a port, without a scheme"),
        ("['a b:80']", "that is no host name"),
        ("['unix:']", "it names no path"),
        ("['a.b:80', 'A.b:80']", "a.b:80 is there twice"),
        ("[{ address = 'a.b:80', weight = 0 }]", "`weight` must be 1 to 10000"),
        ("[80]", "`endpoints` must be a list of addresses and tables [this is a whole number]"),
    ] {
        let report = said(&wrong(&fronted(&format!("endpoints = {endpoints}"))));
        assert!(report.contains(why), "{endpoints}: {report}");
    }
}

#[test]
fn a_service_may_wait_for_one_that_is_not_started_here() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        fronted("endpoints = ['a.b:1']").replace("instances = 2", "instances = 2\ndepends_on = ['api']");
    let manifest = check(folder.path(), &text).unwrap().manifest;
    assert_eq!(manifest.services[&"hello".parse().unwrap()].depends_on.len(), 1);
}

#[test]
fn two_services_at_one_host_that_mark_visitors_by_one_cookie_are_a_warning() {
    let with = |cookie: &str, hosts: [&str; 2]| {
        let service = |name: &str, cookie: &str| {
            format!(
                "[service.{name}]\nrelease = 'releases/v1'\ncommand = ['./hello']\ninstances = 2\n\
                 rollout.sticky = {{ cookie = '{cookie}' }}\n"
            )
        };
        let route = |name: &str, host: &str| {
            format!("[[route]]\nlistener = 'web'\nservice = '{name}'\nhost = '{host}'\npath = '/{name}'\n")
        };
        let listener = "[listener.web]\nbind = '127.0.0.1:8080'\n";
        let routes = route("a", hosts[0]) + &route("b", hosts[1]);
        let text = format!("{listener}{routes}{}{}", service("a", "mark"), service("b", cookie));
        let folder = tempfile::tempdir().unwrap();
        said(&check(folder.path(), &text).unwrap().warnings())
    };
    let report = with("mark", ["shop.example", "*.example"]);
    assert!(report.starts_with("service.b.rollout.sticky.cookie <'mark'>: `a` and `b` keep"), "{report}");
    assert!(report.contains("-> give each its own: cookie = \"mark_b\""), "{report}");
    assert_eq!(with("other", ["shop.example", "shop.example"]), "");
    assert_eq!(with("mark", ["shop.example", "blog.example"]), "");
}
