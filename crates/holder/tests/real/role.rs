//! A role that notes every message in `run/test-ROLE-GENERATION.events`, and obeys files in `run/test-ROLE.d`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use host::Descriptor;
use host::channel::{AsyncChannel, Channel};
use host::file::Lock;
use host::paths::Layout;
use host::pump::{Duplex, Pumped, pump_once};
use host::rescue::{RescueSocket, spawn_rescue_holder};
use serde_json::{Value, json};
use wire::link::{FromHolder, Hello, ToHolder};
use wire::role::RoleLink;

struct End(RoleLink<Descriptor>);

impl Duplex for End {
    fn transmit(&mut self) -> Option<(&[u8], &[Descriptor])> {
        self.0.transmit()
    }

    fn transmitted(&mut self, written: usize) {
        self.0.transmitted(written);
    }

    fn receive(&mut self, bytes: &[u8], descriptors: Vec<Descriptor>) -> Result<(), String> {
        self.0.receive(bytes, descriptors).map_err(|error| error.to_string())
    }
}

struct Role {
    kind: String,
    generation: u64,
    layout: Layout,
    link: End,
    rescue: RescueSocket,
    peers: Vec<Channel>,
    stopped: bool,
}

pub(crate) fn run(kind: &str, state_dir: &str, run_dir: &str, generation: u64) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let layout = Layout::new(state_dir, run_dir);
        let hello = Hello {
            min: 1,
            max: 1,
            role: kind.to_owned(),
            pid: host::process::current_pid(),
            generation,
            build: String::new(),
            rescue: false,
        };
        let mut role = Role {
            kind: kind.to_owned(),
            generation,
            rescue: RescueSocket::bind(&layout.rescue_socket(kind, generation)).expect("a rescue socket"),
            layout,
            link: End(RoleLink::new(hello)),
            peers: Vec::new(),
            stopped: false,
        };
        let mut channel = Channel::inherited(3).expect("the link");
        while !role.stopped {
            role.linked(AsyncChannel::new(channel).expect("a channel")).await;
            if role.stopped {
                break;
            }
            role.note(&json!({"kind": "lost"}));
            channel = role.orphaned().await;
        }
    });
    ExitCode::SUCCESS
}

impl Role {
    fn note(&self, event: &Value) {
        let path = self.layout.run_dir.join(format!("test-{}-{}.events", self.kind, self.generation));
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("events");
        file.write_all(format!("{event}\n").as_bytes()).expect("events");
    }

    async fn linked(&mut self, channel: AsyncChannel) {
        self.link.0.connect().expect("a hello");
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let mut alive = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                pumped = pump_once(&channel, &mut self.link) => match pumped {
                    Ok(Pumped::Closed) | Err(_) => return,
                    Ok(_) => self.hear(),
                },
                _ = tick.tick() => self.obey(),
                _ = alive.tick() => self.link.0.send(&ToHolder::Alive).expect("room"),
            }
            if self.stopped && self.kind == "proxy" {
                return;
            }
        }
    }

    fn hear(&mut self) {
        while let Some((message, descriptors)) = self.link.0.poll_message().expect("order") {
            match &message {
                FromHolder::Alive => continue,
                FromHolder::Drain { .. } => self.stopped = true,
                FromHolder::Peer { .. } => {
                    let peer = Channel::from_descriptor(descriptors[0].clone()).expect("a peer");
                    // It may be gone already.
                    let _ = peer.send(format!("from {}-{}", self.kind, self.generation).as_bytes(), &[]);
                    self.peers.push(peer);
                }
                FromHolder::Inventory { boot: true, .. } => {
                    let boot = host::memory::read_all(&descriptors[0]).expect("the boot form");
                    self.note(&json!({"kind": "boot", "text": String::from_utf8_lossy(&boot)}));
                }
                _ => {}
            }
            self.note(&serde_json::to_value(&message).expect("a message"));
        }
    }

    fn obey(&mut self) {
        for peer in &self.peers {
            let mut buffer = [0; 64];
            if let Ok(read @ 1..) = peer.recv(&mut buffer, &mut Vec::new()) {
                self.note(&json!({"kind": "said", "text": String::from_utf8_lossy(&buffer[..read])}));
            }
        }
        let folder = self.layout.run_dir.join(format!("test-{}.d", self.kind));
        let mut files: Vec<_> =
            std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "json")) {
            let message = read_message(file);
            std::fs::remove_file(file).expect("a command");
            self.stopped |= message == ToHolder::Stopped;
            self.link.0.send(&message).expect("room");
        }
    }

    async fn orphaned(&mut self) -> Channel {
        let mut retry = tokio::time::interval(Duration::from_millis(50));
        loop {
            tokio::select! {
                channel = self.rescue.accept() => return channel.expect("a holder"),
                _ = retry.tick() => if let Some(lock) = Lock::try_exclusive(&self.layout.holder_lock()).expect("the lock") {
                    let binary = host::process::own_program().expect("our path");
                    spawn_rescue_holder(&binary, &self.layout, lock).expect("a holder");
                },
            }
        }
    }
}

/// What stands for applying a manifest: it says that it has begun, and ends when it is let go.
pub(crate) fn apply(state_dir: &str, run_dir: &str) -> ExitCode {
    let layout = Layout::new(state_dir, run_dir);
    let path = layout.run_dir.join("test-applied");
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).expect("a file");
    file.write_all(b"begun\n").expect("a line");
    while layout.run_dir.join("test-apply-waits").exists() {
        std::thread::sleep(Duration::from_millis(2));
    }
    ExitCode::SUCCESS
}

fn read_message(path: &Path) -> ToHolder {
    serde_json::from_slice(&std::fs::read(path).expect("a file")).expect("JSON")
}
