//! One Handover of its own per test: scratch folder, manifest, releases, and an end that leaves nothing.
//!
//! However a test ends, every process that has the scratch folder in its arguments, environment or working
//! directory is killed, and its cgroups are removed. If the test failed, the logs are printed first.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Answer, Loss, Request};
use crate::load::Plan;
use crate::manifest::Setup;
use crate::status::Status;
use crate::system::{self, Signal};
use crate::wait::{self, PATIENCE};

/// How much of each log a failed test shows.
const LOG_BYTES_SHOWN: usize = 8 << 10;
/// How often the last processes are killed before the end gives up: they may be starting each other.
const KILL_ROUNDS: usize = 50;

/// How a command of the command line ended.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Exit code; `None` by a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Ran {
    /// Both outputs.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Checks the exit code.
    ///
    /// # Panics
    /// When it is another; the message holds all output.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\n--- stdout\n{}\n--- stderr\n{}", self.stdout, self.stderr);
        self
    }

    /// Checks that each of these is said somewhere.
    ///
    /// # Panics
    /// When one is not; the message holds all output.
    #[track_caller]
    pub fn expect_says(self, texts: &[&str]) -> Self {
        let said = self.text();
        for text in texts {
            assert!(said.contains(text), "`{text}` is not said in:\n{said}");
        }
        self
    }
}

/// One Handover of its own.
#[derive(Debug)]
pub struct Sandbox {
    folder: TempDir,
    setup: Setup,
    up: Option<Child>,
}

impl Sandbox {
    /// A scratch folder with a manifest whose first release is version 1.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn new(setup: Setup) -> Self {
        let folder = tempfile::Builder::new().prefix("handover-e2e-").tempdir().expect("a scratch folder");
        let sandbox = Self { folder, setup, up: None };
        std::fs::create_dir(sandbox.runtime_dir()).expect("the scratch folder is ours");
        system::make_private(&sandbox.runtime_dir());
        let flags: Vec<&str> = sandbox.setup.flags.iter().map(String::as_str).collect();
        let release = sandbox.release("1", &flags);
        sandbox.write_manifest(&sandbox.setup.text(&sandbox.state_dir(), &release, &sandbox.setup.version));
        sandbox
    }

    /// Writes the manifest anew with something changed; nobody is told.
    pub fn edit(&mut self, change: impl FnOnce(&mut Setup)) {
        change(&mut self.setup);
        let release = self.folder().join("source/1");
        self.write_manifest(&self.setup.text(&self.state_dir(), &release, &self.setup.version));
    }

    /// The same, started and with every service ready.
    pub fn started(setup: Setup) -> Self {
        let mut sandbox = Self::new(setup);
        sandbox.up();
        sandbox.wait_ready();
        sandbox
    }

    /// The scratch folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `state_dir`.
    pub fn state_dir(&self) -> PathBuf {
        self.folder().join("state")
    }

    /// `XDG_RUNTIME_DIR`.
    pub fn runtime_dir(&self) -> PathBuf {
        self.folder().join("runtime")
    }

    /// Where run files are: what the link in the state directory points to.
    pub fn run_dir(&self) -> PathBuf {
        let link = self.state_dir().join("run");
        std::fs::canonicalize(&link).unwrap_or(link)
    }

    /// The manifest's path.
    pub fn manifest(&self) -> PathBuf {
        self.folder().join("handover.toml")
    }

    /// Writes the manifest.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_manifest(&self, text: &str) {
        std::fs::write(self.manifest(), text).expect("the scratch folder is ours");
    }

    /// Makes a release with the victim and these arguments for it, under that name; its directory.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn release(&self, name: &str, flags: &[&str]) -> PathBuf {
        let directory = self.folder().join("source").join(name);
        std::fs::create_dir_all(&directory).expect("the scratch folder is ours");
        std::fs::copy(victim(), directory.join("victim")).expect("the victim is built");
        std::fs::write(directory.join("flags"), flags.join("\n")).expect("the scratch folder is ours");
        directory
    }

    /// A command of the binary under test, with the sandbox's environment and nothing else of ours.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let binary = self.setup.binary.clone().unwrap_or_else(handover);
        let mut command = system::plain_command(&binary);
        command.args(arguments).current_dir(self.folder()).env("XDG_RUNTIME_DIR", self.runtime_dir());
        command.env("XDG_STATE_HOME", self.folder().join("xdg-state"));
        command
    }

    /// Runs it with the manifest to its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let began = Instant::now();
        let child = self.begin(arguments);
        finish(child, began, arguments)
    }

    /// Starts it with the manifest.
    ///
    /// # Panics
    /// When the binary is not there.
    pub fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.arg("-c").arg(self.manifest()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the binary under test is built")
    }

    /// `handover up` in the foreground, its output in `up.out` and `up.err`.
    ///
    /// # Panics
    /// When the binary is not there.
    pub fn up(&mut self) {
        let open = |name: &str| {
            let path = self.folder().join(name);
            File::options().create(true).append(true).open(path).expect("the scratch folder is ours")
        };
        let mut command = self.command(&["up"]);
        command.arg("-c").arg(self.manifest()).stdout(open("up.out")).stderr(open("up.err"));
        self.up = Some(command.spawn().expect("the binary under test is built"));
    }

    /// What `up` said so far.
    pub fn up_output(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.folder().join(name)).unwrap_or_default();
        format!("{}{}", read("up.out"), read("up.err"))
    }

    /// Process of `up`.
    ///
    /// # Panics
    /// When there is none.
    pub fn up_pid(&self) -> u32 {
        self.up.as_ref().expect("`up` was started").id()
    }

    /// Collects `up` after it was killed, so that no zombie stays.
    pub fn collect_up(&mut self) {
        if let Some(mut up) = self.up.take() {
            // It was killed: there is no more to learn.
            let _status = up.wait();
        }
    }

    /// Waits for the end of `up`.
    ///
    /// # Panics
    /// When it does not end, or was not started.
    #[track_caller]
    pub fn wait_for_up_to_end(&mut self) -> ExitStatus {
        let mut up = self.up.take().expect("`up` was started");
        wait::until("the end of `up`", PATIENCE, || up.try_wait().expect("it is our child"))
    }

    /// What `status --json` says now; `None` when it cannot reach an agent.
    pub fn try_status(&self) -> Option<Status> {
        let ran = self.run(&["status", "--json"]);
        let value: Value = serde_json::from_str(&ran.stdout).ok()?;
        (ran.code == Some(0)).then_some(Status(value))
    }

    /// What `status --json` says now.
    ///
    /// # Panics
    /// When it says nothing.
    #[track_caller]
    pub fn status(&self) -> Status {
        self.try_status().expect("`status --json` answers")
    }

    /// Waits until `status --json` shows it.
    #[track_caller]
    pub fn wait_status<T>(&self, what: &str, mut look: impl FnMut(&Status) -> Option<T>) -> T {
        let mut last = None;
        let seen = wait::try_until(PATIENCE, || {
            last = self.try_status();
            last.as_ref().and_then(&mut look)
        });
        match seen {
            Some(seen) => seen,
            None => panic!("waited in vain for: {what}; the last status: {last:#?}"),
        }
    }

    /// Waits until the service has a stable release, a proxy and all instances ready.
    #[track_caller]
    pub fn wait_ready(&self) -> Status {
        let wanted = self.setup.instances as usize;
        self.wait_status("a stable release, all instances ready", |status| {
            let stable = status.stable("shop")?;
            let ready = status.in_state("shop", "ready");
            let serving = ready.iter().filter(|instance| instance.version == stable).count() >= wanted;
            let proxy = status.pid("proxy").is_some() && status.pid("holder").is_some();
            (serving && proxy && status.listener("web").is_some()).then(|| status.clone())
        })
    }

    /// Address of the listener.
    ///
    /// # Panics
    /// When it is not bound.
    #[track_caller]
    pub fn address(&self) -> SocketAddr {
        self.status().listener("web").expect("the listener is bound")
    }

    /// A load's plan for the listener.
    #[track_caller]
    pub fn plan(&self) -> Plan {
        Plan::new(self.address())
    }

    /// One GET through the listener.
    ///
    /// # Errors
    /// How it was lost.
    #[track_caller]
    pub fn get(&self, target: &str) -> Result<Answer, Loss> {
        http::once(self.address(), &Request::get(target))
    }

    /// `handover deploy shop` of that release directory as that version.
    #[track_caller]
    pub fn deploy(&self, version: &str, release: &Path) -> Ran {
        self.run(&["deploy", "shop", "--release", &release.to_string_lossy(), "--version", version])
    }

    /// `handover down`, and the end of `up` where it runs in the foreground.
    #[track_caller]
    pub fn down(&mut self) -> Ran {
        let ran = self.run(&["down"]).expect_code(0);
        if self.up.is_some() {
            self.wait_for_up_to_end();
        }
        ran
    }

    /// Every living process of this sandbox.
    pub fn processes(&self) -> Vec<u32> {
        system::processes_of(self.folder())
    }

    /// What Handover and its services logged, the ends of the files.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        let mut show = |path: &Path| {
            let bytes = std::fs::read(path).unwrap_or_default();
            let end =
                String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_BYTES_SHOWN)..]).into_owned();
            text.push_str(&format!("--- {}\n{end}\n", path.display()));
        };
        show(&self.folder().join("up.out"));
        show(&self.folder().join("up.err"));
        let logs = std::fs::read_dir(self.state_dir().join("logs")).into_iter().flatten().flatten();
        for log in logs.map(|entry| entry.path()).filter(|path| !path.ends_with("access.log")) {
            show(&log);
        }
        text
    }

    fn kill_everything(&mut self) {
        let mut cgroups = Vec::new();
        for _ in 0..KILL_ROUNDS {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            cgroups.extend(processes.iter().filter_map(|pid| system::cgroup_of(*pid)));
            // Frozen first: a role must not notice another's end and start a successor.
            processes.iter().for_each(|pid| system::send(*pid, Signal::Stop));
            processes.iter().for_each(|pid| system::send(*pid, Signal::Kill));
            std::thread::sleep(Duration::from_millis(20));
        }
        self.collect_up();
        for cgroup in cgroups {
            let _gone = std::fs::remove_dir(&cgroup);
            let _gone = cgroup.parent().map(std::fs::remove_dir);
        }
    }
}

impl Drop for Sandbox {
    #[expect(clippy::print_stderr, reason = "a failed test shows why")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        self.kill_everything();
    }
}

/// Waits for a command that was begun.
///
/// # Panics
/// When it does not end.
#[track_caller]
pub fn finish(mut child: Child, began: Instant, arguments: &[&str]) -> Ran {
    let out = reader(child.stdout.take().expect("invariant: a pipe"));
    let err = reader(child.stderr.take().expect("invariant: a pipe"));
    let status = wait::try_until(PATIENCE, || child.try_wait().expect("it is our child"));
    let took = began.elapsed();
    let Some(status) = status else {
        system::send(child.id(), Signal::Kill);
        let _status = child.wait();
        let (out, err) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
        panic!("`handover {}` does not end:\n{out}{err}", arguments.join(" "));
    };
    let (stdout, stderr) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    Ran { code: status.code(), stdout, stderr, took }
}

fn reader(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What could be read is shown; a broken pipe only ends it.
        let _read = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The binary under test.
pub fn handover() -> PathBuf {
    // Absolute: commands run in their sandbox's folder.
    let given = std::env::var_os("HANDOVER_BIN").map(|path| std::path::absolute(path).expect("it is a path"));
    given.unwrap_or_else(|| beside_this_binary("handover"))
}

/// The service that tests supervise.
pub fn victim() -> PathBuf {
    beside_this_binary("victim")
}

/// A binary of the same build: test binaries lie one folder deeper than others.
pub fn beside_this_binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("the own path is known");
    let folder = own.parent().expect("invariant: a file has a folder");
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}
