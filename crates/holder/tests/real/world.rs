//! One Handover in a folder of its own: starting its holder, speaking through its roles, waiting for what is to come.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use host::paths::Layout;
use host::process::{self, Ended};
use serde_json::Value;
use wire::exec::SpawnSpec;
use wire::link::ToHolder;

/// For anything that is to come.
const DEADLINE: Duration = Duration::from_secs(20);

/// How all children ended: whoever looks reaps those of all.
static ENDED: Mutex<BTreeMap<u32, Ended>> = Mutex::new(BTreeMap::new());

pub(crate) struct World {
    pub(crate) layout: Layout,
    pub(crate) holder: Cell<u32>,
    pub(crate) folder: tempfile::TempDir,
    commands: Cell<u32>,
}

impl World {
    /// A started holder with both roles up.
    pub(crate) fn start(boot: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let layout = Layout::new(folder.path().join("state"), folder.path().join("run"));
        let world = Self { layout, holder: Cell::new(0), folder, commands: Cell::new(0) };
        world.start_holder(boot);
        world.event("agent", 1, |event| event["kind"] == "inventory");
        world.event("proxy", 1, |event| event["kind"] == "peer");
        world
    }

    pub(crate) fn start_holder(&self, boot: Option<&str>) -> u32 {
        let boot = boot.map(|text| host::memory::sealed("boot", text.as_bytes()).expect("memory"));
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        let mut arguments = vec!["internal".to_owned(), "holder".to_owned()];
        arguments.extend(["--state-dir".to_owned(), text(&self.layout.state_dir)]);
        arguments.extend(["--run-dir".to_owned(), text(&self.layout.run_dir)]);
        if let Some(boot) = &boot {
            arguments.extend(["--boot-fd".to_owned(), host::number(boot).to_string()]);
        }
        let pid = process::spawn(&process::Start {
            program: &process::own_program().expect("our path"),
            arguments,
            environment: vec![("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())],
            keep: &boot.into_iter().collect::<Vec<_>>(),
        })
        .expect("a holder");
        self.holder.set(pid);
        pid
    }

    /// Makes a role say that.
    pub(crate) fn say(&self, kind: &str, message: &ToHolder) {
        let folder = self.layout.run_dir.join(format!("test-{kind}.d"));
        std::fs::create_dir_all(&folder).expect("a folder");
        let number = self.commands.get();
        self.commands.set(number + 1);
        let (part, whole) =
            (folder.join(format!("{number:04}.part")), folder.join(format!("{number:04}.json")));
        std::fs::write(&part, serde_json::to_vec(message).expect("JSON")).expect("a file");
        std::fs::rename(part, whole).expect("a file");
    }

    pub(crate) fn events(&self, kind: &str, generation: u64) -> Vec<Value> {
        let path = self.layout.run_dir.join(format!("test-{kind}-{generation}.events"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The first event of a role that is wanted, when it has come.
    pub(crate) fn event(&self, kind: &str, generation: u64, wanted: impl Fn(&Value) -> bool) -> Value {
        self.until(&format!("an event of {kind}-{generation}"), || {
            self.events(kind, generation).into_iter().find(|event| wanted(event))
        })
    }

    pub(crate) fn count(&self, kind: &str, generation: u64, wanted: &str) -> usize {
        self.events(kind, generation).iter().filter(|event| event["kind"] == wanted).count()
    }

    /// Waits for a level.
    pub(crate) fn until<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            Self::reap();
            if let Some(found) = look() {
                return found;
            }
            assert!(begun.elapsed() < DEADLINE, "waited for {what}\n{}", self.story());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn story(&self) -> String {
        let log = std::fs::read_to_string(self.layout.own_log()).unwrap_or_default();
        let events: String = std::fs::read_dir(&self.layout.run_dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "events"))
            .map(|e| {
                format!(
                    "--- {}\n{}",
                    e.path().display(),
                    std::fs::read_to_string(e.path()).unwrap_or_default()
                )
            })
            .collect();
        format!("{log}{events}")
    }

    fn reap() {
        let mut all = ENDED.lock().expect("no panic in here");
        while let Ok(Some((pid, ended))) = process::reap() {
            all.insert(pid, ended);
        }
    }

    pub(crate) fn end_of(&self, pid: u32) -> Ended {
        self.until(&format!("the end of {pid}"), || {
            ENDED.lock().expect("no panic in here").get(&pid).copied()
        })
    }

    /// The process that a file in the holder's care names.
    pub(crate) fn holder_in_file(&self) -> Option<u32> {
        std::fs::read_to_string(self.layout.pid_file()).ok()?.trim().parse().ok()
    }

    /// Starts an instance that runs this line of shell.
    pub(crate) fn spawn(&self, name: &str, line: &str) -> ToHolder {
        ToHolder::Spawn(Box::new(self.spec(name, line)))
    }

    pub(crate) fn spec(&self, name: &str, line: &str) -> SpawnSpec {
        let file_name = name.replace('/', ".");
        SpawnSpec {
            instance: name.to_owned(),
            file_name,
            program: "/bin/sh".to_owned(),
            arguments: vec!["-c".to_owned(), line.to_owned()],
            environment: vec![
                ("PATH".to_owned(), "/bin:/usr/bin".to_owned()),
                ("ANSWER".to_owned(), "42".to_owned()),
            ],
            working_directory: self.folder.path().to_str().expect("text").to_owned(),
            notify: true,
            stop_signal: process::TERM,
            grace_ms: 300,
            ..SpawnSpec::default()
        }
    }

    pub(crate) fn spawned(&self, generation: u64, name: &str) -> u32 {
        let event =
            self.event("agent", generation, |e| e["kind"] == "spawned" && e["body"]["instance"] == name);
        u32::try_from(event["body"]["pid"].as_u64().expect("a pid")).expect("a pid")
    }

    /// How the main process of an instance ended, once that was told.
    pub(crate) fn exited(&self, generation: u64, name: &str) -> Value {
        let of = |e: &Value| e["kind"] == "exited" && e["body"]["instance"] == name;
        self.event("agent", generation, of)["body"]["status"].clone()
    }

    /// Why an instance was not started.
    pub(crate) fn refused(&self, name: &str) -> String {
        let of = |e: &Value| e["kind"] == "spawn-failed" && e["body"]["instance"] == name;
        self.event("agent", 1, of)["body"]["error"].as_str().expect("text").to_owned()
    }

    /// The words of its standard output, once there are that many.
    pub(crate) fn words(&self, file_name: &str, count: usize) -> Vec<String> {
        let (out, _) = self.layout.output(file_name);
        self.until(&format!("{count} words in {}", out.display()), || {
            let text = std::fs::read_to_string(&out).ok().filter(|text| text.ends_with('\n'))?;
            let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            (words.len() >= count).then_some(words)
        })
    }

    /// Its file, once that is not empty.
    pub(crate) fn written(&self, path: PathBuf) -> String {
        self.until(&format!("{}", path.display()), || {
            std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
        })
    }

    /// Stops it as `down` does, and looks that nothing is left.
    pub(crate) fn stop(self, agent_is_child_of_holder: bool) {
        let holder = self.holder.get();
        self.say("agent", &ToHolder::Stopped);
        if agent_is_child_of_holder {
            assert_eq!(self.end_of(holder), Ended::Code(0));
        }
        self.until("an empty run directory", || {
            let left: Vec<_> = ["rescue", "notify"]
                .iter()
                .flat_map(|name| std::fs::read_dir(self.layout.run_dir.join(name)).into_iter().flatten())
                .collect();
            (left.is_empty() && !self.layout.pid_file().exists() && !process::is_alive(holder)).then_some(())
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // After a failure: no holder, no roles, no services.
        let trees = host::process_tree::Trees::new(&self.layout.state_dir);
        let begun = Instant::now();
        let mut lock = None;
        while begun.elapsed() < DEADLINE {
            // Who has the lock is the only one that could start a holder.
            lock =
                lock.or_else(|| host::file::Lock::try_exclusive(&self.layout.holder_lock()).ok().flatten());
            if lock.is_none() {
                for pid in [Some(self.holder.get()), self.holder_in_file()].into_iter().flatten() {
                    let _ = process::signal_pid(pid, process::KILL);
                }
            }
            let left = trees.kill_unknown(&[]);
            Self::reap();
            if lock.is_some() && left.is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        trees.remove_base();
    }
}
