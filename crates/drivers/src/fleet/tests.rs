use agent::world::{
    CheckBy, CheckPurpose, CheckRequest, Inventory, Notified, SpawnRequest, TaskId, TaskRequest,
};
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
        Self::in_folder(tempfile::tempdir().unwrap()).await
    }

    /// The next agent in the same directories.
    async fn restarted(self) -> Self {
        self.started.task.abort();
        Self::in_folder(self.folder).await
    }

    async fn in_folder(folder: tempfile::TempDir) -> Self {
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

    async fn know(&mut self, items: Vec<VaultItem>) {
        self.holder.say(&FromHolder::Deposit { items }, vec![]);
        self.holder.say(&FromHolder::Inventory { boot: false, committed: "/x".into() }, vec![]);
    }

    async fn spawned(&mut self) -> String {
        match self.holder.hear().await.0 {
            ToHolder::Spawn(spec) => spec.instance,
            other => panic!("no spawn: {other:?}"),
        }
    }

    fn task(&self, task: u64, timeout: Duration) -> Box<TaskRequest> {
        let spawn = self.spawn_request(0);
        Box::new(TaskRequest { task: TaskId(task), purpose: "before-start", spawn, timeout })
    }

    fn request(&self, port: u16) -> FleetRequest {
        FleetRequest::Spawn(Box::new(self.spawn_request(port)))
    }

    fn spawn_request(&self, port: u16) -> SpawnRequest {
        SpawnRequest {
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
            output: Output::default(),
            stop: Stop {
                signal: StopSignal::Graceful,
                drain_timeout: Duration::ZERO,
                grace_period: Duration::from_secs(1),
            },
        }
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
fn what_is_said_on_a_notify_socket_is_heard() {
    run(async {
        let mut scene = Scene::linked().await;
        let path = scene.layout.notify_socket("shop@1.0");
        let socket = host::notify::bind(&path, None).unwrap();
        let item = VaultItem::Notify { instance: "shop@1/0".into(), path: path.display().to_string() };
        for datagram in ["STATUS=warming", "X_OWN=1", "READY=1"] {
            host::notify::send(&path, datagram).unwrap();
        }
        scene.holder.say(&FromHolder::Deposit { items: vec![item] }, vec![socket]);
        let status = Notified { status: Some("warming".into()), ..Notified::default() };
        for said in [status, Notified { ready: true, ..Notified::default() }] {
            let instance = "shop@1/0".parse().unwrap();
            assert_eq!(scene.event().await, Event::Notified { instance, said });
        }
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

const LONG: Duration = Duration::from_secs(20);

fn exited(instance: &str, status: ExitStatus) -> FromHolder {
    FromHolder::Exited { instance: instance.into(), status }
}

#[test]
fn a_command_beside_an_instance_ends_with_what_it_last_said() {
    run(async {
        let mut scene = Scene::linked().await;
        let request = scene.task(7, LONG);
        scene.started.holder.request(FleetRequest::Run(request));
        let name = scene.spawned().await;
        assert_eq!(name, "shop@1/0~before-start-1");
        std::fs::write(scene.layout.output("shop@1.0~before-start-1").1, "one\nno such table\n").unwrap();
        scene.holder.say(&exited(&name, ExitStatus::Code(3)), vec![]);
        assert_eq!(scene.holder.hear().await.0, ToHolder::Forget { instance: name.clone() });
        let result = Err("exited with code 3: its last line was \"no such table\"".to_owned());
        assert_eq!(scene.event().await, Event::TaskEnded { task: TaskId(7), result });
        let log = std::fs::read_to_string(scene.layout.logs().join("shop.log")).unwrap();
        assert!(log.contains("shop@1/0~before-start-1 err | no such table\n"), "{log}");
        assert!(!scene.layout.output("shop@1.0~before-start-1").1.exists());
        let request = scene.task(8, LONG);
        scene.started.holder.request(FleetRequest::Run(request));
        let name = scene.spawned().await;
        scene.holder.say(&exited(&name, ExitStatus::Code(0)), vec![]);
        assert_eq!(scene.event().await, Event::TaskEnded { task: TaskId(8), result: Ok(()) });
    });
}

#[test]
fn one_that_hangs_is_killed_at_its_time_limit_and_one_that_nobody_wants_at_once() {
    run(async {
        let mut scene = Scene::linked().await;
        let request = scene.task(1, Duration::from_millis(50));
        scene.started.holder.request(FleetRequest::Run(request));
        let name = scene.spawned().await;
        assert_eq!(scene.holder.hear().await.0, ToHolder::KillTree { instance: name.clone() });
        let result = Err("did not end within 50ms and was killed".to_owned());
        assert_eq!(scene.event().await, Event::TaskEnded { task: TaskId(1), result });
        scene.holder.say(&exited(&name, ExitStatus::Signal(9)), vec![]);
        assert_eq!(scene.holder.hear().await.0, ToHolder::Forget { instance: name });
        let request = scene.task(2, LONG);
        scene.started.holder.request(FleetRequest::Run(request));
        let name = scene.spawned().await;
        scene.started.holder.request(FleetRequest::Cancel { task: TaskId(2) });
        assert_eq!(scene.holder.hear().await.0, ToHolder::KillTree { instance: name.clone() });
        scene.holder.say(&exited(&name, ExitStatus::Signal(9)), vec![]);
        assert_eq!(scene.holder.hear().await.0, ToHolder::Forget { instance: name });
    });
}

#[test]
fn commands_of_a_former_agent_are_killed_and_their_names_not_used_again() {
    run(async {
        let mut scene = Scene::new().await;
        let code = Some(ExitStatus::Code(0));
        let items =
            vec![instance_item("shop@1/0~reload-4", 17, None), instance_item("shop@1/0~reload-5", 0, code)];
        scene.know(items).await;
        let heard = [scene.holder.hear().await.0, scene.holder.hear().await.0];
        assert_eq!(
            heard,
            [
                ToHolder::KillTree { instance: "shop@1/0~reload-4".into() },
                ToHolder::Forget { instance: "shop@1/0~reload-5".into() }
            ]
        );
        let Event::Inventory(inventory) = scene.event().await else { panic!("no inventory") };
        assert_eq!((inventory.running.len(), inventory.ended.len()), (0, 0));
        scene.holder.say(&exited("shop@1/0~reload-4", ExitStatus::Signal(9)), vec![]);
        let forget = ToHolder::Forget { instance: "shop@1/0~reload-4".into() };
        assert_eq!(scene.holder.hear().await.0, forget);
        let request = scene.task(4, LONG);
        scene.started.holder.request(FleetRequest::Run(request));
        assert_eq!(scene.spawned().await, "shop@1/0~before-start-6");
    });
}

#[test]
fn a_command_that_no_holder_can_start_waits_for_one_and_is_answered_in_time_all_the_same() {
    run(async {
        let mut scene = Scene::new().await;
        for (task, timeout) in [(1, Duration::from_millis(50)), (2, LONG)] {
            let request = scene.task(task, timeout);
            scene.started.holder.request(FleetRequest::Run(request));
        }
        let result = Err("it could not be started within 50ms".to_owned());
        assert_eq!(scene.event().await, Event::TaskEnded { task: TaskId(1), result });
        scene.know(Vec::new()).await;
        assert_eq!(scene.spawned().await, "shop@1/0~before-start-1");
        scene.holder.say(
            &FromHolder::SpawnFailed { instance: "shop@1/0~before-start-1".into(), error: "no".into() },
            vec![],
        );
        assert!(matches!(scene.event().await, Event::Inventory(_)));
        assert_eq!(scene.event().await, Event::TaskEnded { task: TaskId(2), result: Err("no".into()) });
    });
}

#[test]
fn a_check_by_command_is_answered_as_a_check() {
    run(async {
        let mut scene = Scene::linked().await;
        let by = CheckBy::Command(scene.task(3, LONG));
        let instance = || "shop@1/0".parse().unwrap();
        let purpose = CheckPurpose::Liveness;
        let check = CheckRequest { instance: instance(), purpose, by, timeout: LONG };
        scene.started.holder.request(FleetRequest::Check(Box::new(check)));
        let name = scene.spawned().await;
        scene.holder.say(&exited(&name, ExitStatus::Code(0)), vec![]);
        assert_eq!(scene.event().await, Event::Checked { instance: instance(), purpose, result: Ok(()) });
        let by = CheckBy::Tcp { address: "127.0.0.1:1".parse().unwrap() };
        let check = CheckRequest { instance: instance(), purpose, by, timeout: LONG };
        scene.started.holder.request(FleetRequest::Check(Box::new(check)));
        let result = Err("nobody listens on 127.0.0.1:1".to_owned());
        let answer = loop {
            let event = scene.event().await;
            if matches!(event, Event::Checked { .. }) {
                break event;
            }
        };
        assert_eq!(answer, Event::Checked { instance: instance(), purpose, result });
    });
}

#[test]
fn what_a_former_agent_was_told_is_told_again_after_the_first_inventory() {
    run(async {
        let mut scene = Scene::linked().await;
        let path = scene.layout.notify_socket("shop@1.0");
        let socket = host::notify::bind(&path, None).unwrap();
        let item = VaultItem::Notify { instance: "shop@1/0".into(), path: path.display().to_string() };
        scene.holder.say(&FromHolder::Deposit { items: vec![item.clone()] }, vec![socket.clone()]);
        host::notify::send(&path, "READY=1\nSTATUS=up").unwrap();
        let said = Notified { ready: true, status: Some("up".into()), ..Notified::default() };
        let ready = Event::Notified { instance: "shop@1/0".parse().unwrap(), said };
        assert_eq!(scene.event().await, ready);
        let mut scene = scene.restarted().await;
        scene.holder.say(&FromHolder::Deposit { items: vec![item] }, vec![socket]);
        scene.holder.settle().await;
        scene.know(vec![instance_item("shop@1/0", 17, None)]).await;
        assert!(matches!(scene.event().await, Event::Inventory(_)));
        assert_eq!(scene.event().await, ready);
        // The slot's next process has said nothing.
        let request = scene.request(0);
        scene.started.holder.request(request);
        assert!(matches!(scene.holder.hear().await.0, ToHolder::Spawn(_)));
        assert_eq!(
            notify::noted(&scene.layout.run_dir.join("output"), &"shop@1/0".parse().unwrap(), 1),
            None
        );
    });
}

#[test]
fn a_line_that_is_waited_for_is_found_also_by_the_next_agent() {
    run(async {
        let mut scene = Scene::linked().await;
        let mut request = scene.spawn_request(0);
        request.ready_log = Some("^listening on [0-9]+$".into());
        scene.started.holder.request(FleetRequest::Spawn(Box::new(request)));
        scene.spawned().await;
        let mut scene = scene.restarted().await;
        let out = scene.layout.output("shop@1.0").0;
        std::fs::write(&out, "not listening on 5\nlistening on 5").unwrap();
        scene.know(vec![instance_item("shop@1/0", 17, None)]).await;
        assert!(matches!(scene.event().await, Event::Inventory(_)));
        std::fs::write(&out, "not listening on 5\nlistening on 5\n").unwrap();
        let matched = Event::LogMatched { instance: "shop@1/0".parse().unwrap() };
        assert_eq!(scene.event().await, matched);
        // And the one after hears of it again: nobody knows what became of the word.
        let mut scene = scene.restarted().await;
        scene.know(vec![instance_item("shop@1/0", 17, None)]).await;
        assert!(matches!(scene.event().await, Event::Inventory(_)));
        assert_eq!(scene.event().await, matched);
    });
}

#[test]
fn who_has_a_fixed_port_is_named() {
    run(async {
        let mut scene = Scene::linked().await;
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut request = scene.spawn_request(taken.local_addr().unwrap().port());
        request.port_is_fixed = true;
        scene.started.holder.request(FleetRequest::Spawn(Box::new(request)));
        let Event::SpawnFailed { error, .. } = scene.event().await else { panic!("it was started") };
        let own = format!("pid {}", std::process::id());
        assert!(error.contains("is taken: ") && error.contains(&own), "{error}");
    });
}
