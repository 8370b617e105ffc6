//! Clients that people use, through Handover: curl, Python's requests, Node's fetch, Go's net/http, Chromium.
//!
//! `cargo xtask test packages` installs them; one that is missing is a failure.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::manifest::Setup;
use e2e::sandbox::Sandbox;

/// Parts of the page that Chromium loads.
const PAGE_PARTS: &str = "100 parts";

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Where `xtask` puts what is no Debian package.
fn installed(path: &str) -> PathBuf {
    let given = std::env::var_os("HANDOVER_CLIENTS").map(PathBuf::from);
    let folder = given.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/clients"));
    let path = folder.join(path);
    assert!(path.exists(), "{} is missing: cargo xtask test packages", path.display());
    path
}

/// A service that says what it got.
fn echo() -> Sandbox {
    let sandbox = Sandbox::new(Setup { command: vec!["node".into(), "echo.js".into()], ..Setup::default() });
    std::fs::copy(sources().join("echo.js"), sandbox.folder().join("source/1/echo.js")).unwrap();
    let mut sandbox = sandbox;
    sandbox.up();
    sandbox.wait_ready();
    sandbox
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}: {status}\n{text}{}", String::from_utf8_lossy(&stderr));
    text
}

fn base(sandbox: &Sandbox) -> String {
    format!("http://{}", sandbox.address())
}

#[test]
fn curl_gets_what_it_asks_for_in_every_way_it_asks() {
    let sandbox = echo();
    let base = base(&sandbox);
    let upload = sandbox.folder().join("upload");
    std::fs::write(&upload, vec![b'u'; 200_000]).unwrap();
    let file = format!("@{}", upload.display());
    let curl = |arguments: &[&str], path: &str| {
        let mut curl = Command::new("curl");
        run(curl.args(["-sS", "--fail", "--max-time", "10"]).args(arguments).arg(format!("{base}{path}")))
    };
    assert!(curl(&[], "/a?b=c").contains(r#""url":"/a?b=c""#));
    assert!(curl(&["--http1.0"], "/old").contains(r#""url":"/old""#));
    assert!(curl(&["--path-as-is"], "/a/../b").contains(r#""url":"/a/../b""#));
    assert!(curl(&["-X", "DELETE"], "/x").contains("DELETE"));
    assert!(curl(&["-I"], "/head").starts_with("HTTP/1.1 200 "));
    assert!(curl(&["--data-binary", &file], "/post").contains(r#""bytes":200000"#));
    assert!(
        curl(&["-H", "Expect: 100-continue", "--data-binary", &file], "/expect")
            .contains(r#""bytes":200000"#)
    );
    assert!(
        curl(&["-H", "Transfer-Encoding: chunked", "--data-binary", &file], "/chunked")
            .contains(r#""bytes":200000"#)
    );
    assert!(
        curl(&["-H", "Transfer-Encoding: chunked", "-T", &upload.to_string_lossy()], "/put")
            .contains(r#""bytes":200000"#)
    );
    assert_eq!(curl(&["-r", "10-19"], "/big"), "b".repeat(10));
    assert_eq!(curl(&[], "/big").len(), 1_000_000);
    assert_eq!(curl(&["--limit-rate", "2M"], "/big").len(), 1_000_000);
    // Several on one connection.
    assert_eq!(curl(&[], "/many/[1-20]").matches("\"url\"").count(), 20);
}

#[test]
fn requests_of_python_work() {
    let sandbox = echo();
    let python = installed("python/bin/python");
    let said = run(Command::new(python).arg(sources().join("client.py")).arg(base(&sandbox)));
    assert!(said.contains("all good"), "{said}");
}

#[test]
fn fetch_of_node_works() {
    let sandbox = echo();
    let said = run(Command::new("node").arg(sources().join("client.js")).arg(base(&sandbox)));
    assert!(said.contains("all good"), "{said}");
}

#[test]
fn net_http_of_go_works() {
    let sandbox = echo();
    let program = sandbox.folder().join("client");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(sources().join("client.go"));
    build.env("GO111MODULE", "off").env("GOPROXY", "off").env("GOFLAGS", "");
    run(&mut build);
    let said = run(Command::new(program).arg(base(&sandbox)));
    assert!(said.contains("all good"), "{said}");
}

#[test]
fn chromium_loads_a_page_of_a_hundred_parts() {
    let sandbox = echo();
    let profile = sandbox.folder().join("profile");
    let mut browser = Command::new("chromium");
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    browser.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    browser.arg(format!("--user-data-dir={}", profile.display())).arg("--dump-dom");
    let page = run(browser.arg(format!("{}/page", base(&sandbox))));
    assert!(page.contains(&format!("<p id=\"loaded\">{PAGE_PARTS}</p>")), "{page}");
}

/// A WebSocket service that says everything again.
fn ws_echo() -> Sandbox {
    let python = installed("python/bin/python").display().to_string();
    let mut sandbox = Sandbox::new(Setup {
        command: vec![python, "ws_echo.py".into()],
        readiness: "tcp = true\nstartup_timeout = \"10s\"\n".into(),
        ..Setup::default()
    });
    std::fs::copy(sources().join("ws_echo.py"), sandbox.folder().join("source/1/ws_echo.py")).unwrap();
    sandbox.up();
    sandbox.wait_ready();
    sandbox
}

#[test]
fn websockets_of_python_and_node_work() {
    let sandbox = ws_echo();
    let address = format!("ws://{}/", sandbox.address());
    let mut python = Command::new(installed("python/bin/python"));
    assert!(run(python.arg(sources().join("ws_client.py")).arg(&address)).contains("all good"));
    let mut node = Command::new("node");
    node.arg(sources().join("ws_client.js")).arg(&address).arg(installed("node/node_modules/ws"));
    assert!(run(&mut node).contains("all good"));
}

/// Cases of the Autobahn suite that take milliseconds; the others measure rates and compression.
const AUTOBAHN: [&str; 8] = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"];

/// What the cases came to: name, and whether it and its close failed.
fn autobahn(address: &str, folder: &Path) -> std::collections::BTreeMap<String, (String, String)> {
    let mut kosoku = Command::new(installed("python/bin/kosoku"));
    kosoku.args(["-p", "4", "-o"]).arg(folder);
    for case in AUTOBAHN {
        kosoku.args(["-i", case]);
    }
    // It says by its exit code that a case failed; which is in the report.
    let ran = kosoku.arg(address).output().unwrap();
    let report = std::fs::read(folder.join("index.json"));
    let report = report.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&ran.stderr)));
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let cases = report.as_object().unwrap().values().next().unwrap().as_object().unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let verdict = |case: &serde_json::Value| (text(&case["behavior"]), text(&case["behaviorClose"]));
    cases.iter().map(|(name, case)| (name.clone(), verdict(case))).collect()
}

#[test]
fn the_cases_of_autobahn_come_to_the_same_with_handover_and_without() {
    let sandbox = ws_echo();
    let instance = sandbox.status().instances("shop")[0].address.unwrap();
    let direct = autobahn(&format!("ws://{instance}"), &sandbox.folder().join("direct"));
    let through = autobahn(&format!("ws://{}", sandbox.address()), &sandbox.folder().join("through"));
    println!("{} cases", through.len());
    assert!(through.len() > 240);
    let failed = |verdict: &(String, String)| {
        verdict.0 == "FAILED" || verdict.1.contains("WRONG") || verdict.1.contains("UNCLEAN")
    };
    for (name, verdict) in &through {
        assert!(
            !failed(verdict) || failed(&direct[name]),
            "{name}: {:?} without, {verdict:?} with",
            direct[name]
        );
    }
}
