//! The examples, each with its own manifest, as a reader of its README would run it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use e2e::http::{Connection, Request, once};
use e2e::manifest::Setup;
use e2e::sandbox::Sandbox;
use e2e::wait;

/// Pause between two requests of a client.
const THINK: Duration = Duration::from_millis(2);
/// Clients with a connection of their own that they keep.
const KEEPING: usize = 3;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where builds of examples are kept from one run to the next.
fn target() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.ancestors().nth(3).unwrap().join("examples-of-handover")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let ours =
            ["target", "dist"].iter().any(|built| name == *built) || name.as_encoded_bytes()[0] == b'.';
        match entry.file_type().unwrap().is_dir() {
            true if ours => {}
            true => copy(&entry.path(), &to.join(name)),
            false => drop(std::fs::copy(entry.path(), to.join(name)).unwrap()),
        }
    }
}

#[track_caller]
fn run(command: &mut Command) {
    let ran = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&said));
}

/// The example's files in a sandbox, its manifest on free ports and with the sandbox's state directory.
fn sandbox(example: &str) -> Sandbox {
    let sandbox = Sandbox::new(Setup { instances: 2, ..Setup::default() });
    let example = root().join("examples").join(example);
    copy(&example, sandbox.folder());
    let manifest = std::fs::read_to_string(example.join("handover.toml")).unwrap();
    let state_dir = format!("state_dir = '{}'\n", sandbox.state_dir().display());
    let manifest = manifest.replace("state_dir = \".handover-state\"\n", &state_dir);
    assert!(manifest.contains(&state_dir) && manifest.contains("\"127.0.0.1:8080\""), "{manifest}");
    let manifest = manifest.replace("\"127.0.0.1:8080\"", "\"127.0.0.1:0\"");
    sandbox.write_manifest(&(manifest + "\n[admin]\nbind = \"127.0.0.1:0\"\n"));
    sandbox
}

/// Clients that never retry: some keep their connection, one makes a new one each time, one asks for what is slow.
struct Clients {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Clients {
    fn start(address: SocketAddr) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let spawn = |target: &'static str, keeps: bool| {
            let (stop, answered) = (stop.clone(), answered.clone());
            std::thread::spawn(move || {
                let mut losses = Vec::new();
                let mut connection = None;
                while !stop.load(Ordering::Relaxed) {
                    match one_request(address, target, &mut connection) {
                        Ok(()) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                        Err(loss) => losses.push(format!("{target}: {loss}")),
                    }
                    connection = connection.filter(|_| keeps);
                    std::thread::sleep(THINK);
                }
                losses
            })
        };
        let mut threads: Vec<_> = (0..KEEPING).map(|_| spawn("/", true)).collect();
        threads.extend([spawn("/", false), spawn("/slow", true)]);
        Self { stop, answered, threads }
    }

    #[track_caller]
    fn wait_for_answers(&self, more: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        wait::until("answers to the clients", wait::PATIENCE, || {
            (self.answered.load(Ordering::Relaxed) >= goal).then_some(())
        });
    }

    #[track_caller]
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let losses: Vec<String> =
            self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(losses.is_empty(), "{} requests lost: {losses:?}", losses.len());
    }
}

fn one_request(address: SocketAddr, target: &str, connection: &mut Option<Connection>) -> Result<(), String> {
    let mut kept = match connection.take() {
        Some(kept) => kept,
        None => Connection::open(address).map_err(|error| error.to_string())?,
    };
    let answer = kept.exchange(&Request::get(target)).map_err(|loss| loss.name().to_owned())?;
    if answer.status != 200 {
        return Err(format!("status {}", answer.status));
    }
    if !answer.close {
        *connection = Some(kept);
    }
    Ok(())
}

/// Up, requests, a second version under load, down; what it said at its end.
fn runs(mut sandbox: Sandbox, second: &Path, last_words: &str) {
    sandbox.up();
    sandbox.wait_ready();
    let address = sandbox.address();
    assert_eq!(once(address, &Request::get("/")).unwrap().text(), "shop, version 1\n");
    assert_eq!(once(address, &Request::get("/healthz")).unwrap().text(), "ok\n");
    let clients = Clients::start(address);
    clients.wait_for_answers(50);
    sandbox.deploy("2", second).expect_code(0);
    clients.wait_for_answers(50);
    assert_eq!(once(address, &Request::get("/")).unwrap().text(), "shop, version 2\n");
    sandbox.run(&["rollback", "shop"]).expect_code(0);
    clients.wait_for_answers(50);
    clients.finish();
    assert_eq!(once(address, &Request::get("/")).unwrap().text(), "shop, version 1\n");
    // It ends by itself, and not by the kill at the end of its grace.
    let ran = sandbox.down();
    assert!(ran.took < Duration::from_secs(20), "down took {:?}", ran.took);
    let log = std::fs::read_to_string(sandbox.state_dir().join("logs/shop.log")).unwrap();
    assert_eq!(log.matches(last_words).count(), 4, "{log}");
    assert!(sandbox.processes().is_empty());
}

#[test]
fn the_rust_example_is_replaced_without_a_lost_request() {
    let sandbox = sandbox("rust-axum");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked"]).current_dir(sandbox.folder());
    // Debug information would only take time.
    run(cargo.env("CARGO_TARGET_DIR", target()).env("CARGO_PROFILE_DEV_DEBUG", "0"));
    let built = sandbox.folder().join("target/release/shop");
    std::fs::create_dir_all(built.parent().unwrap()).unwrap();
    std::fs::copy(target().join("debug/shop"), &built).unwrap();
    runs(sandbox, &built, "all requests are answered");
}

#[test]
fn the_go_example_stops_in_phases_and_loses_no_request() {
    let sandbox = sandbox("go");
    let mut go = Command::new("go");
    go.args(["build", "-o", "dist/shop", "."]).current_dir(sandbox.folder());
    run(go.env("GOCACHE", target().join("go")).env("GOFLAGS", "-buildvcs=false"));
    let mut tar = Command::new("tar");
    run(tar.args(["-czf", "shop-2.tar.gz", "dist"]).current_dir(sandbox.folder()));
    let second = sandbox.folder().join("shop-2.tar.gz");
    runs(sandbox, &second, "stopping: the lock");
}

#[test]
fn the_python_example_is_replaced_without_a_lost_request() {
    let sandbox = sandbox("python");
    let mut tar = Command::new("tar");
    run(tar.args(["-czf", "shop-2.tgz", "app"]).current_dir(sandbox.folder()));
    let second = sandbox.folder().join("shop-2.tgz");
    runs(sandbox, &second, "all requests are answered");
}

#[test]
fn the_node_example_is_replaced_without_a_lost_request() {
    let sandbox = sandbox("node");
    let mut zip = Command::new("python3");
    zip.args(["-m", "zipfile", "--create", "shop-2.zip", "app/"]).current_dir(sandbox.folder());
    run(&mut zip);
    let second = sandbox.folder().join("shop-2.zip");
    runs(sandbox, &second, "all requests are answered");
}

/// The blocks of TOML in a document, each as a whole manifest.
fn manifests_of(document: &str, state_dir: &Path) -> Vec<String> {
    let blocks = document.split("```toml\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
    let whole = |block: &str| {
        let mut text = format!("state_dir = '{}'\n{block}", state_dir.display());
        if !block.contains("[listener.") {
            text.push_str(
                "[listener.web]\nbind = \"127.0.0.1:0\"\n[[route]]\nlistener = \"web\"\nservice = \"shop\"\n",
            );
        }
        if block.contains("depends_on") {
            text.push_str("[service.db]\nmode = \"worker\"\nrelease = \"app\"\ncommand = [\"./db\"]\n");
        }
        text
    };
    blocks.map(whole).collect()
}

#[test]
fn what_the_page_for_newcomers_shows_is_a_right_manifest() {
    let sandbox = Sandbox::new(Setup::default());
    for program in [
        "dist/shop-1.4.1/shop",
        "dist/shop-1.4.1/migrate",
        "dist/shop-1.4.1/prepare",
        "dist/shop-1.4.1/report",
        "app/db",
        "app/server.js",
    ] {
        let path = sandbox.folder().join(program);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(e2e::sandbox::victim(), path).unwrap();
    }
    let page = std::fs::read_to_string(root().join("docs/coming-from.md")).unwrap();
    let manifests = manifests_of(&page, &sandbox.state_dir());
    assert_eq!(manifests.len(), 5);
    let made = rcgen::generate_simple_self_signed(vec!["shop.example.com".to_owned()]).unwrap();
    let pair = sandbox.folder().join("pair.pem");
    std::fs::write(&pair, made.cert.pem() + &made.signing_key.serialize_pem()).unwrap();
    for mut manifest in manifests {
        for theirs in ["/etc/tls/shop.pem", "/etc/tls/shop.key", "/etc/haproxy/shop.pem"] {
            manifest = manifest.replace(theirs, pair.to_str().unwrap());
        }
        // Nothing of this machine: who is on it, and what it grants.
        let here = ["user = ", "memory = ", "open_files = ", "environment_file = "];
        let lines = manifest.lines().filter(|line| here.iter().all(|key| !line.starts_with(key)));
        sandbox.write_manifest(&lines.collect::<Vec<_>>().join("\n"));
        sandbox.run(&["check"]).expect_code(0);
    }
}
