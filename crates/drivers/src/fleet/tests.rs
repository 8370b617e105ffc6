use agent::world::{Inventory, SpawnRequest};
use model::manifest::{Stop, StopSignal};
use telemetry::console::Console;
use telemetry::rotate::Limits;
use wire::link::{ExitStatus, FromHolder};
use wire::session::Session;
use wire::vault::{Listener, ListenerUse, Process, ProcessRole, VaultItem};

use super::*;

fn hello(role: &str, rescue: bool) -> Hello {
    Hello {
        min: wire::PROTOCOL_MIN,
        max: wire::PROTOCOL_MAX,
        role: role.into(),
        pid: 4_000_000, // nobody's: no signal of a test hits anyone
        generation: 3,
        build: String::new(),
        rescue,
    }
}

/// A holder's end of the link, as far as these tests need one.
struct FakeHolder {
    channel: AsyncChannel,
    session: Session<ToHolder, Descriptor>,
}

impl FakeHolder {
    fn new(channel: Channel, rescue: bool) -> Self {
        let mut holder = Self { channel: AsyncChannel::new(channel).unwrap(), session: Session::new() };
        holder.say(&FromHolder::Hello(hello("holder", rescue)), vec![]);
        holder
    }

    fn say(&mut self, message: &FromHolder, descriptors: Vec<Descriptor>) {
        self.session.queue(message, descriptors).unwrap();
        self.flush();
    }

    fn flush(&mut self) {
        while let Some((bytes, descriptors)) = self.session.transmit() {
            let written = self.channel.channel().send(bytes, descriptors).unwrap();
            self.session.transmitted(written);
        }
    }

    /// The next message that is no sign of life.
    async fn hear(&mut self) -> (ToHolder, Vec<Descriptor>) {
        loop {
            match self.session.poll_message().unwrap() {
                Some((ToHolder::Alive, _)) => {}
                Some(heard) => return heard,
                None => self.step().await,
            }
        }
    }

    async fn step(&mut self) {
        self.flush();
        self.channel.readable().await.unwrap();
        let (mut buffer, mut descriptors) = (vec![0; 64 << 10], Vec::new());
        if let Ok(received) = self.channel.try_recv(&mut buffer, &mut descriptors) {
            assert_ne!(received, 0, "the fleet closed the link");
            self.session.receive(&buffer[..received], descriptors).unwrap();
        }
    }

    /// Until all that was said has been taken.
    async fn settle(&mut self) {
        while !self.session.is_flushed() {
            self.step().await;
            let heard = self.session.poll_message().unwrap();
            assert!(matches!(heard, None | Some((ToHolder::Alive, _))));
        }
    }
}

struct Scene {
    folder: tempfile::TempDir,
    layout: Layout,
    holder: FakeHolder,
    started: Started,
    events: Inbox,
}

impl Scene {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().join("s"), folder.path().join("r"));
        layout.create().unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        let (sender, events) = crate::queue();
        let collector = Collector::start(telemetry::collector::Settings {
            output: layout.run_dir.join("output"),
            logs: layout.logs(),
            limits: Limits::default(),
            console: Console::silent(),
            complain: Box::new(drop),
            wall_ms: host::clock::wall_ms,
        })
        .unwrap();
        let starting = Starting::new();
        let settings = Settings {
            layout: layout.clone(),
            hello: hello("agent", false),
            channel: ours,
            collector,
            starting: starting.clone(),
            proxies: Proxies::new(layout.routes(), hello("agent", false), sender.clone(), starting),
        };
        let started = start(settings, sender, &events).unwrap();
        let mut holder = FakeHolder::new(theirs, false);
        assert!(matches!(holder.hear().await.0, ToHolder::Hello(_)));
        Self { folder, layout, holder, started, events }
    }

    async fn event(&mut self) -> Event {
        self.events.recv().await.unwrap()
    }

    async fn linked() -> Self {
        let mut scene = Self::new().await;
        scene
            .holder
            .say(&FromHolder::Inventory { boot: false, committed: "/state/bin/x/handover".into() }, vec![]);
        assert!(matches!(scene.event().await, Event::Inventory(_)));
        scene
    }

    fn request(&self, port: u16) -> FleetRequest {
        FleetRequest::Spawn(Box::new(SpawnRequest {
            instance: "shop@1/0".parse().unwrap(),
            release_directory: self.folder.path().to_owned(),
            command: vec!["/bin/sh".into(), "-c".into(), "true".into()],
            environment: Vec::new(),
            port: (port != 0).then_some(port),
            port_is_fixed: false,
            notify: true,
            watchdog: None,
            ready_log: None,
            environment_file: None,
            working_directory: None,
            account: None,
            umask: None,
            limits: model::manifest::Limits::default(),
            output: model::manifest::Output::default(),
            stop: Stop {
                signal: StopSignal::Graceful,
                drain_timeout: Duration::ZERO,
                grace_period: Duration::from_secs(1),
            },
        }))
    }
}

fn instance_item(name: &str, pid: u32, ended: Option<ExitStatus>) -> VaultItem {
    VaultItem::Process(Process {
        name: name.into(),
        role: ProcessRole::Instance,
        pid,
        start_ticks: 1,
        generation: 0,
        descriptor: false,
        cgroup: None,
        stop_signal: 15,
        grace_ms: 1,
        ended,
    })
}

fn bind(address: &str, any: bool) -> FleetRequest {
    FleetRequest::Bind {
        name: "admin".into(),
        used_by: ListenerUse::Admin,
        address: address.into(),
        backlog: 16,
        fall_back_to_any_port: any,
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs");
    }));
}

#[test]
fn the_first_inventory_tells_what_runs_and_the_last_words_of_what_has_ended() {
    run(async {
        let mut scene = Scene::new().await;
        std::fs::write(scene.layout.output("shop@1.1").0, "oh no\n").unwrap();
        let ended = Some(ExitStatus::Code(1));
        let items = vec![instance_item("shop@1/0", 17, None), instance_item("shop@1/1", 0, ended)];
        scene.holder.say(&FromHolder::Deposit { items }, vec![]);
        let boot = host::memory::sealed("boot", b"not what it should be").unwrap();
        scene.holder.say(&FromHolder::Inventory { boot: true, committed: "/x".into() }, vec![boot]);
        let gone: model::id::InstanceId = "shop@1/1".parse().unwrap();
        assert_eq!(
            scene.event().await,
            Event::Output { instance: gone.clone(), lines: vec!["oh no".into()] }
        );
        let expected = Inventory {
            running: vec![("shop@1/0".parse().unwrap(), 17)],
            ended: vec![(gone, ExitStatus::Code(1))],
            holder: 4_000_000,
            ..Inventory::default()
        };
        assert_eq!(scene.event().await, Event::Inventory(expected));
        assert_eq!((&mut scene.started.boot).await.unwrap(), None);
    });
}

#[test]
fn an_instance_is_started_and_its_end_told_after_its_last_words() {
    run(async {
        let mut scene = Scene::linked().await;
        let request = scene.request(0);
        scene.started.holder.inherit(&[("LANG".into(), "C".into()), ("SECRET".into(), "x".into())]);
        scene.started.holder.request(request);
        let (ToHolder::Spawn(spec), _) = scene.holder.hear().await else { panic!("no spawn") };
        assert_eq!(
            (spec.program.as_str(), spec.instance.as_str(), spec.notify),
            ("/bin/sh", "shop@1/0", true)
        );
        assert!(spec.environment.contains(&("LANG".into(), "C".into())));
        assert!(!spec.environment.iter().any(|(name, _)| name == "SECRET"));
        let instance: model::id::InstanceId = "shop@1/0".parse().unwrap();
        scene.holder.say(&FromHolder::Spawned { instance: "shop@1/0".into(), pid: 9 }, vec![]);
        assert_eq!(scene.event().await, Event::Spawned { instance: instance.clone(), pid: 9 });
        let (out, _) = scene.layout.output(&spec.file_name);
        std::fs::write(&out, "bye\n").unwrap();
        scene
            .holder
            .say(&FromHolder::Exited { instance: "shop@1/0".into(), status: ExitStatus::Signal(9) }, vec![]);
        assert_eq!(
            scene.event().await,
            Event::Output { instance: instance.clone(), lines: vec!["bye".into()] }
        );
        let status = ExitStatus::Signal(9);
        assert_eq!(scene.event().await, Event::Exited { instance: instance.clone(), status });
        scene.started.holder.request(FleetRequest::Forget { instance });
        assert_eq!(scene.holder.hear().await.0, ToHolder::Forget { instance: "shop@1/0".into() });
        assert!(!out.exists());
    });
}

#[test]
fn what_was_asked_before_the_newest_inventory_was_seen_is_dropped() {
    run(async {
        let mut scene = Scene::linked().await;
        scene.holder.say(&FromHolder::Inventory { boot: false, committed: "/x".into() }, vec![]);
        scene.started.holder.boot_taken();
        assert_eq!(scene.holder.hear().await.0, ToHolder::BootTaken); // so the inventory is in the queue by now
        scene.started.holder.request(scene.request(0));
        scene.started.holder.boot_taken();
        assert_eq!(scene.holder.hear().await.0, ToHolder::BootTaken);
        assert!(matches!(scene.event().await, Event::Inventory(_)));
        scene.started.holder.request(scene.request(0));
        assert!(matches!(scene.holder.hear().await.0, ToHolder::Spawn(_)));
    });
}

#[test]
fn a_port_in_use_is_not_given_to_an_instance() {
    run(async {
        let mut scene = Scene::linked().await;
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let request = scene.request(port);
        scene.started.holder.request(request.clone());
        let instance = "shop@1/0".parse().unwrap();
        assert_eq!(scene.event().await, Event::PortTaken { instance, port });
        drop(taken);
        scene.started.holder.request(request);
        assert!(matches!(scene.holder.hear().await.0, ToHolder::Spawn(_)));
    });
}

#[test]
fn a_taken_default_address_falls_back_to_any_port_once() {
    run(async {
        let mut scene = Scene::linked().await;
        scene.started.holder.request(bind("127.0.0.1:7979", true));
        for wanted in ["127.0.0.1:7979", "127.0.0.1:0"] {
            let (ToHolder::Bind { address, .. }, _) = scene.holder.hear().await else { panic!("no bind") };
            assert_eq!(address, wanted);
            scene.holder.say(&FromHolder::BindFailed { name: "admin".into(), error: "taken".into() }, vec![]);
        }
        let failed = Event::BindFailed { name: "admin".into(), error: "taken".into() };
        assert_eq!(scene.event().await, failed);
        // What fell back before a restart of the agent stays where it is.
        let socket = host::listener::bind_tcp("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let listener = Listener {
            name: "admin".into(),
            used_by: ListenerUse::Admin,
            requested: "127.0.0.1:0".into(),
            address: "127.0.0.1:4711".into(),
            backlog: 16,
        };
        scene.holder.say(&FromHolder::Deposit { items: vec![VaultItem::Listener(listener)] }, vec![socket]);
        scene.holder.settle().await;
        scene.started.admin.changed().await.unwrap();
        assert!(scene.started.admin.borrow().tcp.is_some());
        scene.started.holder.request(bind("127.0.0.1:7979", true));
        assert_eq!(
            scene.event().await,
            Event::Bound { name: "admin".into(), address: "127.0.0.1:4711".into() }
        );
        scene.holder.say(&FromHolder::Withdraw { keys: vec!["listener/admin".into()] }, vec![]);
        scene.started.admin.changed().await.unwrap();
        assert!(scene.started.admin.borrow().tcp.is_none());
    });
}

#[test]
fn ready_on_a_notify_socket_is_heard() {
    run(async {
        let mut scene = Scene::linked().await;
        let path = scene.layout.notify_socket("shop@1.0");
        let socket = host::notify::bind(&path, None).unwrap();
        let item = VaultItem::Notify { instance: "shop@1/0".into(), path: path.display().to_string() };
        host::notify::send(&path, "STATUS=warming").unwrap();
        host::notify::send(&path, "READY=1").unwrap();
        scene.holder.say(&FromHolder::Deposit { items: vec![item] }, vec![socket]);
        assert_eq!(
            scene.event().await,
            Event::Notified {
                instance: "shop@1/0".parse().unwrap(),
                said: agent::world::Notified { ready: true, ..Default::default() },
            }
        );
    });
}

#[test]
fn an_orphan_hands_its_vault_to_the_next_holder_and_goes_on() {
    run(async {
        let mut scene = Scene::linked().await;
        // Somebody else is faster: this agent must not start a holder of its own.
        let _lock = Lock::try_exclusive(&scene.layout.holder_lock()).unwrap().unwrap();
        scene.holder.say(&FromHolder::Deposit { items: vec![instance_item("shop@1/0", 17, None)] }, vec![]);
        let socket = scene.layout.rescue_socket("agent", 3);
        let (_, closed) = Channel::pair().unwrap();
        scene.holder = FakeHolder { channel: AsyncChannel::new(closed).unwrap(), session: Session::new() };
        assert_eq!(scene.event().await, Event::HolderLost);
        scene.started.holder.request(bind("127.0.0.1:7979", false)); // nobody hears this
        scene.holder = FakeHolder::new(Channel::connect(&socket).unwrap(), true);
        assert!(matches!(scene.holder.hear().await.0, ToHolder::Hello(_)));
        let (ToHolder::Deposit { items }, _) = scene.holder.hear().await else { panic!("no vault") };
        assert_eq!(items, [instance_item("shop@1/0", 17, None)]);
        assert_eq!(scene.holder.hear().await.0, ToHolder::VaultComplete);
        scene.holder.say(&FromHolder::Inventory { boot: false, committed: "/x".into() }, vec![]);
        let Event::Inventory(inventory) = scene.event().await else { panic!("no inventory") };
        assert_eq!(inventory.running, [("shop@1/0".parse().unwrap(), 17)]);
        scene.started.holder.request(FleetRequest::Stopped);
        assert_eq!(scene.holder.hear().await.0, ToHolder::Stopped);
        let (_, closed) = Channel::pair().unwrap();
        scene.holder = FakeHolder { channel: AsyncChannel::new(closed).unwrap(), session: Session::new() };
        (&mut scene.started.task).await.unwrap().unwrap();
        assert!(!socket.exists(), "nobody is to be rescued here any more");
    });
}
