//! A proxy between a holder and agents that are played by hand.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use host::Descriptor;
use host::channel::AsyncChannel;
use host::file::Lock;
use host::pump::{Duplex, Pumped, pump_once};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::task::{JoinHandle, LocalSet};
use wire::link::{FromHolder, ToHolder};
use wire::routes::{
    Endpoint, EndpointState, ListenerSettings, ProbeSettings, ReleaseTraffic, Route, RouteTable,
    ServiceTraffic, encode_file,
};
use wire::session::Session;
use wire::traffic::{FromProxy, ToProxy};
use wire::vault::{Listener, ListenerUse, VaultItem};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// One end of a link, by hand.
struct Other<In> {
    channel: AsyncChannel,
    session: End<In>,
}

struct End<In>(Session<In, Descriptor>);

impl<In: DeserializeOwned> Duplex for End<In> {
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

impl<In: DeserializeOwned + std::fmt::Debug> Other<In> {
    fn new(channel: Channel) -> Self {
        Self { channel: AsyncChannel::new(channel).unwrap(), session: End(Session::new()) }
    }

    fn say(&mut self, message: &impl Serialize, descriptors: Vec<Descriptor>) {
        self.session.0.queue(message, descriptors).unwrap();
    }

    /// The next message that `wanted` takes; others are passed over.
    async fn hear<T>(&mut self, mut wanted: impl FnMut(In, Vec<Descriptor>) -> Option<T>) -> T {
        let hearing = async {
            loop {
                while let Some((message, descriptors)) = self.session.0.poll_message().unwrap() {
                    if let Some(found) = wanted(message, descriptors) {
                        // What was queued meanwhile, acknowledgements too, shall leave.
                        while self.session.0.transmit().is_some() {
                            pump_once(&self.channel, &mut self.session).await.unwrap();
                        }
                        return found;
                    }
                }
                assert_ne!(pump_once(&self.channel, &mut self.session).await.unwrap(), Pumped::Closed);
            }
        };
        tokio::time::timeout(PATIENCE, hearing).await.expect("that message in time")
    }
}

fn hello(role: &str, rescue: bool) -> Hello {
    Hello {
        min: wire::PROTOCOL_MIN,
        max: wire::PROTOCOL_MAX,
        role: role.into(),
        pid: 1,
        generation: 1,
        build: String::new(),
        rescue,
    }
}

struct Scene {
    _folder: tempfile::TempDir,
    layout: Layout,
    holder: Other<ToHolder>,
    proxy: JoinHandle<Result<(), ProxyError>>,
    /// The clients' address.
    address: SocketAddr,
    listener: Descriptor,
}

fn deposit(listener: &Descriptor, address: SocketAddr) -> (FromHolder, Vec<Descriptor>) {
    let item = VaultItem::Listener(Listener {
        name: "main".into(),
        used_by: ListenerUse::Traffic,
        requested: "127.0.0.1:0".into(),
        address: address.to_string(),
        backlog: 64,
    });
    (FromHolder::Deposit { items: vec![item] }, vec![listener.clone()])
}

impl Scene {
    /// A proxy that has its listener, and `routes` as the file that an agent left.
    fn start(routes: Option<&RouteTable>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path().join("state"), folder.path().join("run"));
        layout.create().unwrap();
        if let Some(table) = routes {
            std::fs::write(layout.routes(), encode_file(table).unwrap()).unwrap();
        }
        let (ours, theirs) = Channel::pair().unwrap();
        let options = Options { layout: layout.clone(), generation: 7 };
        let proxy = tokio::task::spawn_local(serve(options, theirs));
        let mut holder = Other::new(ours);
        let listener = host::listener::bind_tcp("127.0.0.1:0".parse().unwrap(), 64).unwrap();
        let address = host::listener::local_address(&listener).unwrap();
        holder.say(&FromHolder::Hello(hello("holder", false)), vec![]);
        let (message, descriptors) = deposit(&listener, address);
        holder.say(&message, descriptors);
        Self { _folder: folder, layout, holder, proxy, address, listener }
    }

    async fn serving(&mut self) {
        self.holder.hear(|message, _| matches!(message, ToHolder::Serving).then_some(())).await;
    }

    /// A new agent, in the place of whoever was.
    async fn agent(&mut self, generation: u64) -> Other<FromProxy> {
        let (ours, theirs) = Channel::pair().unwrap();
        self.holder.say(&FromHolder::Peer { generation, pid: 1 }, vec![theirs.descriptor()]);
        drop(theirs);
        // The link is there once the descriptor was acknowledged.
        let flushed = async {
            while !self.holder.session.0.is_flushed() {
                pump_once(&self.holder.channel, &mut self.holder.session).await.unwrap();
                while self.holder.session.0.poll_message().unwrap().is_some() {}
            }
        };
        tokio::time::timeout(PATIENCE, flushed).await.unwrap();
        let mut agent = Other::new(ours);
        agent.say(&ToProxy::Hello(hello("agent", false)), vec![]);
        agent.hear(|message, _| matches!(message, FromProxy::Hello(_)).then_some(())).await;
        agent
    }

    /// One request, on a connection of its own, off this thread.
    async fn ask(&self) -> String {
        let address = self.address;
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
        .await
        .unwrap()
    }
}

fn say_table(agent: &mut Other<FromProxy>, table: &RouteTable, probe: bool) {
    agent.say(&ToProxy::Table { table: Box::new(table.clone()), probe }, vec![]);
}

fn table(generation: u64, address: SocketAddr, state: EndpointState) -> RouteTable {
    let settings = ListenerSettings {
        header_timeout_ms: 5_000,
        idle_timeout_ms: 5_000,
        body_timeout_ms: 5_000,
        head_bytes_max: 8_192,
        headers_max: 50,
        body_bytes_max: 1_000,
        ..ListenerSettings::UNNAMED
    };
    let endpoint =
        Endpoint { instance: "web@1/0".into(), address: address.into(), state, weight: 1, supervised: true };
    let probe = ProbeSettings {
        http_path: Some("/".into()),
        interval_ms: 1_000,
        timeout_ms: 1_000,
        rise: 2,
        fall: 2,
    };
    let service = ServiceTraffic {
        releases: vec![ReleaseTraffic { release: "1".into(), weight: 10_000, endpoints: vec![endpoint] }],
        probe: Some(probe),
        connect_timeout_ms: 1_000,
        response_timeout_ms: 1_000,
        idle_reuse_ms: 1_000,
        hold: None,
        ..ServiceTraffic::default()
    };
    RouteTable {
        generation,
        threads: 2,
        access_log: true,
        listeners: [("main".into(), settings)].into(),
        routes: vec![Route {
            listener: "main".into(),
            host: None,
            path: "/".into(),
            service: "web".into(),
            split: vec![],
        }],
        services: [("web".into(), service)].into(),
        refused: vec![],
        ..RouteTable::default()
    }
}

/// Answers `yes` to everybody, for as long as the process lives.
fn instance() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut block = [0; 4_096];
                while stream.read(&mut block).is_ok_and(|count| count > 0) {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes").is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn play(scene: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, scene);
}

async fn applied(agent: &mut Other<FromProxy>, wanted: u64) {
    let is_it = |message| matches!(message, FromProxy::TableApplied { generation } if generation == wanted);
    agent.hear(|message, _| is_it(message).then_some(())).await;
}

#[test]
fn a_new_proxy_serves_from_the_file_before_any_agent_is_there_and_drains_when_told() {
    play(async {
        let mut scene = Scene::start(Some(&table(4, instance(), EndpointState::Serving)));
        scene.serving().await;
        assert!(scene.ask().await.ends_with("\r\n\r\nyes"));
        scene.holder.say(&FromHolder::Drain { deadline_ms: 1_000 }, vec![]);
        let Scene { mut holder, proxy, layout, .. } = scene;
        let pumping = tokio::task::spawn_local(async move {
            while pump_once(&holder.channel, &mut holder.session)
                .await
                .is_ok_and(|pumped| pumped != Pumped::Closed)
            {}
        });
        let ended = tokio::time::timeout(PATIENCE, proxy).await.unwrap().unwrap();
        ended.unwrap();
        pumping.await.unwrap();
        assert!(!layout.rescue_socket("proxy", 7).exists());
        let log = std::fs::read_to_string(layout.logs().join("access.log")).unwrap();
        assert_eq!(log.lines().count(), 1, "{log}");
    });
}

#[test]
fn agents_come_and_go_and_each_hears_what_holds() {
    play(async {
        let instance = instance();
        let mut scene = Scene::start(None);
        let mut first = scene.agent(1).await;
        say_table(&mut first, &table(4, instance, EndpointState::Candidate), true);
        applied(&mut first, 4).await;
        scene.serving().await;
        let healthy = first.hear(|message, _| match message {
            FromProxy::Probe { instance, healthy, .. } if instance == "web@1/0" => healthy,
            _ => None,
        });
        assert!(healthy.await);
        say_table(&mut first, &table(5, instance, EndpointState::Serving), true);
        applied(&mut first, 5).await;
        assert!(scene.ask().await.ends_with("yes"));
        first.say(&ToProxy::ReportNow { token: 99 }, vec![]);
        let counters = first.hear(|message, _| match message {
            FromProxy::Counters(counters) if counters.token == Some(99) => Some(counters),
            _ => None,
        });
        assert_eq!(counters.await.accepted, 1);
        let drained = |message| match message {
            FromProxy::Drained { instance, generation } => Some((instance, generation)),
            _ => None,
        };
        say_table(&mut first, &table(6, instance, EndpointState::Draining), true);
        assert_eq!(first.hear(|message, _| drained(message)).await, ("web@1/0".into(), 6));
        drop(first);
        assert!(scene.ask().await.starts_with("HTTP/1.1 503 "));

        let mut second = scene.agent(2).await;
        say_table(&mut second, &table(5, instance, EndpointState::Serving), true);
        say_table(&mut second, &table(6, instance, EndpointState::Draining), true);
        let first_told = second.hear(|message, _| match message {
            FromProxy::TableApplied { generation } => Some(generation),
            _ => None,
        });
        assert_eq!(first_told.await, 6, "an older table is ignored");
        assert_eq!(second.hear(|message, _| drained(message)).await, ("web@1/0".into(), 6));
        let memory = serde_json::to_vec(&table(7, instance, EndpointState::Serving)).unwrap();
        let memory = host::memory::sealed("test", &memory).unwrap();
        second.say(&ToProxy::TableInDescriptor { generation: 7, probe: true }, vec![memory]);
        applied(&mut second, 7).await;
        second.say(&ToProxy::Drain { deadline_ms: 500 }, vec![]);
        second.hear(|message, _| matches!(message, FromProxy::DrainComplete).then_some(())).await;
        tokio::time::timeout(PATIENCE, scene.proxy).await.unwrap().unwrap().unwrap();
    });
}

#[test]
fn an_orphan_keeps_serving_and_hands_its_vault_to_the_next_holder() {
    play(async {
        let mut scene = Scene::start(Some(&table(4, instance(), EndpointState::Serving)));
        // Somebody else is the rescuer: no holder is started here.
        let _lock = Lock::try_exclusive(&scene.layout.holder_lock()).unwrap().unwrap();
        scene.serving().await;
        let (dead, _) = Channel::pair().unwrap();
        scene.holder = Other::new(dead);
        assert!(scene.ask().await.ends_with("yes"));
        let socket = scene.layout.rescue_socket("proxy", 7);
        scene.holder = Other::new(Channel::connect(&socket).unwrap());
        scene.holder.say(&FromHolder::Hello(hello("holder", true)), vec![]);
        let descriptors = scene.holder.hear(|message, descriptors| match message {
            ToHolder::Deposit { items } if items.len() == 1 => Some(descriptors),
            _ => None,
        });
        let descriptors = descriptors.await;
        let cookie = |descriptor| host::listener::socket_cookie(descriptor).unwrap();
        assert_eq!(cookie(&descriptors[0]), cookie(&scene.listener));
        scene.holder.hear(|message, _| matches!(message, ToHolder::VaultComplete).then_some(())).await;
        let (message, again) = deposit(&descriptors[0], scene.address);
        scene.holder.say(&message, again);
        scene.serving().await;
        assert!(scene.ask().await.ends_with("yes"));
        // A withdrawn listener is no longer accepted on here; whoever else has it may go on.
        scene.holder.say(&FromHolder::Withdraw { keys: vec!["listener/main".into()] }, vec![]);
        let mut agent = scene.agent(1).await;
        agent.say(&ToProxy::Drain { deadline_ms: 100 }, vec![]);
        agent.hear(|message, _| matches!(message, FromProxy::DrainComplete).then_some(())).await;
        tokio::time::timeout(PATIENCE, scene.proxy).await.unwrap().unwrap().unwrap();
    });
}
