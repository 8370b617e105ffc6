//! What requests meet on their way: TLS, services that run elsewhere, shares, maintenance, tunnels.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use e2e::backend;
use e2e::http::{Connection, Request};
use e2e::load::{Kind, Load};
use e2e::manifest::Setup;
use e2e::sandbox::Sandbox;
use e2e::wait::{self, PATIENCE};

/// A new certificate for 127.0.0.1, signed by itself, with its key.
fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// What curl says with `words`: exit code, then output.
fn curl(authority: &Path, words: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--cacert"]).arg(authority).args(words);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

/// `web` speaks TLS, `plain` sends there.
fn with_tls() -> (Sandbox, String) {
    let setup = Setup {
        listener: "tls = { certificate = \"cert.pem\", key = \"key.pem\" }\n".to_owned(),
        extra: "[listener.plain]\nbind = \"127.0.0.1:0\"\nhttps_redirect = \"web\"\n".to_owned(),
        ..Setup::default()
    };
    let mut sandbox = Sandbox::new(setup);
    let (certificate, key) = pair();
    std::fs::write(sandbox.folder().join("cert.pem"), &certificate).unwrap();
    std::fs::write(sandbox.folder().join("key.pem"), key).unwrap();
    sandbox.up();
    sandbox.wait_ready();
    (sandbox, certificate)
}

#[test]
fn https_is_answered_and_http_is_sent_there() {
    let (sandbox, _) = with_tls();
    let authority = sandbox.folder().join("cert.pem");
    let secure = format!("https://{}/x?y=1", sandbox.address());
    assert_eq!(curl(&authority, &[&secure]), (Some(0), "1".to_owned()));
    let plain = format!("http://{}/x?y=1", sandbox.status().listener("plain").unwrap());
    let shown = ["--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}", &plain];
    assert_eq!(curl(&authority, &shown), (Some(0), format!("308 {secure}")));
    assert_eq!(curl(&authority, &["--location", &plain]), (Some(0), "1".to_owned()));
}

#[test]
fn a_certificate_is_replaced_under_clients_and_a_broken_one_is_not_used() {
    let (sandbox, first) = with_tls();
    let at = |name: &str| sandbox.folder().join(name);
    let secure = format!("https://{}/", sandbox.address());
    let (certificate, key) = pair();
    std::fs::write(at("new.pem"), &certificate).unwrap();
    std::fs::write(at("both.pem"), format!("{first}{certificate}")).unwrap();
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let client = std::thread::spawn({
        let (stop, answered, both, secure) = (stop.clone(), answered.clone(), at("both.pem"), secure.clone());
        move || {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(curl(&both, &[&secure]), (Some(0), "1".to_owned()));
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let more = || {
        let goal = answered.load(Ordering::Relaxed) + 5;
        wait::until("the client to be answered", PATIENCE, || {
            (answered.load(Ordering::Relaxed) >= goal || client.is_finished()).then_some(())
        });
    };
    more();
    std::fs::write(at("cert.pem"), "what an editor left\n").unwrap();
    wait::until("the broken file to be told", PATIENCE, || {
        let log = std::fs::read_to_string(sandbox.state_dir().join("logs/handover.log")).ok()?;
        log.contains("contains no certificate in PEM form").then_some(())
    });
    more();
    std::fs::write(at("key.pem"), key).unwrap();
    std::fs::write(at("cert.pem"), certificate).unwrap();
    wait::until("the new certificate to be shown", PATIENCE, || {
        (curl(&at("new.pem"), &[&secure]).0 == Some(0)).then_some(())
    });
    more();
    stop.store(true, Ordering::Relaxed);
    client.join().unwrap();
}

/// Requests for the host `test`, which is what loads ask for, go to `to`.
fn test_host(to: &str) -> String {
    format!("[[route]]\nlistener = \"web\"\nhost = \"test\"\n{to}\n")
}

#[test]
fn endpoints_change_under_clients_that_never_retry() {
    let mut sandbox = Sandbox::new(Setup::default());
    let socket = sandbox.folder().join("b.sock");
    backend::unix("b", &socket);
    let (a, c) = (backend::tcp("a"), backend::tcp("c"));
    let elsewhere = |first: &str, second: &str| {
        let route = test_host("service = \"elsewhere\"");
        format!("{route}[service.elsewhere]\nendpoints = [\"{first}\", \"{second}\"]\n")
    };
    sandbox.edit(|setup| setup.extra = elsewhere(&a.to_string(), "unix:b.sock"));
    sandbox.up();
    sandbox.wait_ready();
    let load = Load::start(&sandbox.plan(), &[Kind::Think0, Kind::Think0, Kind::Think2ms, Kind::Fresh]);
    load.wait_for_answers(100);
    sandbox.edit(|setup| setup.extra = elsewhere("unix:b.sock", &c.to_string()));
    sandbox.run(&["apply", "--yes"]).expect_code(0);
    let returned = Instant::now();
    let mut other = Connection::open(sandbox.address()).unwrap();
    wait::until("an answer of the new endpoint", PATIENCE, || {
        (other.exchange(&Request::get("/")).unwrap().text() == "c").then_some(())
    });
    let tally = load.finish();
    assert_eq!(tally.failures_by_name(), "none");
    assert!(["a", "b"].iter().all(|name| tally.first_answer_of.contains_key(*name)));
    assert!(tally.last_sent_to["a"] <= returned, "a request went to an endpoint that was taken away");
}

#[test]
fn a_split_gives_each_service_its_share() {
    let mut sandbox = Sandbox::new(Setup::default());
    let next = backend::tcp("next");
    let split = "split = [{ service = \"shop\", weight = 3 }, { service = \"next\" }]";
    let service = format!("[service.next]\nendpoints = [\"{next}\"]\n");
    sandbox.edit(|setup| setup.extra = format!("{}{service}", test_host(split)));
    sandbox.up();
    sandbox.wait_ready();
    let mut connection = Connection::open(sandbox.address()).unwrap();
    let mut to_next = 0_i32;
    for _ in 0..400 {
        let answer = connection.exchange(&Request::get("/")).unwrap();
        assert_eq!(answer.status, 200);
        to_next += i32::from(answer.text() == "next");
    }
    assert!((to_next - 100).abs() <= 4, "{to_next} of 400");
}

#[test]
fn maintenance_is_turned_on_and_off_by_apply() {
    let maintenance = |is_on: bool| {
        format!("maintenance = {{ on = {is_on}, page = \"soon.html\", retry_after = \"90s\" }}\n")
    };
    let mut sandbox = Sandbox::new(Setup { service: maintenance(false), ..Setup::default() });
    std::fs::write(sandbox.folder().join("soon.html"), "<p>soon</p>").unwrap();
    sandbox.up();
    let pid = sandbox.wait_ready().instances("shop")[0].pid;
    assert_eq!(sandbox.get("/").unwrap().status, 200);
    sandbox.edit(|setup| setup.service = maintenance(true));
    sandbox.run(&["apply", "--yes"]).expect_code(0);
    let answer = sandbox.get("/").unwrap();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("90")));
    assert_eq!(answer.text(), "<p>soon</p>");
    assert!(answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    sandbox.edit(|setup| setup.service = maintenance(false));
    sandbox.run(&["apply", "--yes"]).expect_code(0);
    assert_eq!(sandbox.get("/").unwrap().status, 200);
    assert_eq!(sandbox.status().instances("shop")[0].pid, pid, "nothing was restarted for it");
}

/// A client that has switched protocols.
struct Tunnel(BufReader<TcpStream>);

impl Tunnel {
    fn open(sandbox: &Sandbox) -> Self {
        let stream = TcpStream::connect(sandbox.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut tunnel = Self(BufReader::new(stream));
        let request = "GET /tunnel HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n";
        tunnel.write(request);
        assert!(tunnel.line().starts_with("HTTP/1.1 101 "));
        while !tunnel.line().is_empty() {}
        tunnel
    }

    fn write(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// What is said to `text`.
    fn say(&mut self, text: &str) -> String {
        self.write(&format!("{text}\n"));
        self.line()
    }
}

#[test]
fn a_tunnel_lives_through_a_deploy_while_the_old_release_is_warm() {
    let sandbox = Sandbox::started(Setup::default());
    let mut old = Tunnel::open(&sandbox);
    assert_eq!(old.say("before"), "1 before");
    let next = sandbox.release("next", &[]);
    sandbox.deploy("2", &next).expect_code(0);
    assert_eq!(old.say("after"), "1 after");
    let mut new = Tunnel::open(&sandbox);
    assert_eq!((new.say("new"), old.say("and on")), ("2 new".to_owned(), "1 and on".to_owned()));
    old.0.get_mut().shutdown(Shutdown::Write).unwrap();
    old.0.get_mut().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(old.line(), "", "a half that is closed is closed on to the service, which then ends");
}
