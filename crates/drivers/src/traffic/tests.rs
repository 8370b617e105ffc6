use host::channel::{AsyncChannel, Channel};
use tokio::sync::mpsc;
use wire::session::Session;
use wire::traffic::{FromProxy, ToProxy};

use super::*;

fn hello(role: &str) -> Hello {
    Hello {
        min: wire::PROTOCOL_MIN,
        max: wire::PROTOCOL_MAX,
        role: role.into(),
        pid: 1,
        generation: 1,
        build: String::new(),
        rescue: false,
    }
}

fn table(generation: u64) -> RouteTable {
    RouteTable { generation, ..RouteTable::default() }
}

struct Proxy {
    channel: AsyncChannel,
    session: Session<ToProxy, Descriptor>,
}

impl Proxy {
    fn new() -> (Self, Descriptor) {
        let (ours, theirs) = Channel::pair().unwrap();
        let channel = AsyncChannel::new(ours).unwrap();
        (Self { channel, session: Session::new() }, theirs.descriptor())
    }

    async fn hear(&mut self) -> (ToProxy, Vec<Descriptor>) {
        loop {
            if let Some(heard) = self.session.poll_message().unwrap() {
                return heard;
            }
            self.step().await;
        }
    }

    async fn step(&mut self) {
        while let Some((bytes, descriptors)) = self.session.transmit() {
            let written = self.channel.channel().send(bytes, descriptors).unwrap();
            self.session.transmitted(written);
        }
        self.channel.readable().await.unwrap();
        let (mut buffer, mut descriptors) = (vec![0; 64 << 10], Vec::new());
        if let Ok(received) = self.channel.try_recv(&mut buffer, &mut descriptors) {
            self.session.receive(&buffer[..received], descriptors).unwrap();
        }
    }

    fn say(&mut self, message: &FromProxy) {
        self.session.queue(message, Vec::new()).unwrap();
        while let Some((bytes, descriptors)) = self.session.transmit() {
            let written = self.channel.channel().send(bytes, descriptors).unwrap();
            self.session.transmitted(written);
        }
    }

    /// The next table: its generation and whether to probe.
    async fn hear_table(&mut self) -> (u64, bool) {
        loop {
            if let (ToProxy::Table { table, probe }, _) = self.hear().await {
                return (table.generation, probe);
            }
        }
    }
}

struct Scene {
    folder: tempfile::TempDir,
    proxies: Proxies,
    events: mpsc::Receiver<Event>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (sender, events) = mpsc::channel(crate::EVENTS_MAX);
        let proxies = Proxies::new(folder.path().join("routes"), hello("agent"), sender, Starting::new());
        Self { folder, proxies, events }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        tokio::time::timeout(Duration::from_secs(20), test).await.expect("the test hangs");
    }));
}

#[test]
fn a_proxy_that_comes_gets_the_last_table_and_only_the_newest_probes() {
    run(async {
        let mut scene = Scene::new();
        scene.proxies.publish(&table(1));
        let (mut one, end) = Proxy::new();
        scene.proxies.attach(1, 101, end);
        assert_eq!(one.hear_table().await, (1, true));
        assert_eq!(scene.events.recv().await, Some(Event::ProxyUp { generation: 1, pid: 101 }));
        let (mut two, end) = Proxy::new();
        scene.proxies.attach(2, 102, end);
        assert_eq!(two.hear_table().await, (1, true));
        assert_eq!(one.hear_table().await, (1, false));
        scene.proxies.publish(&table(2));
        assert_eq!((one.hear_table().await, two.hear_table().await), ((2, false), (2, true)));
        drop(two); // killed
        assert_eq!(one.hear_table().await, (2, true));
        assert_eq!(scene.events.recv().await, Some(Event::ProxyUp { generation: 2, pid: 102 }));
        scene.proxies.gone(2).await; // the holder says so
        scene.proxies.gone(2).await; // and is not believed twice
        scene.proxies.gone(1).await;
        assert_eq!(scene.events.recv().await, Some(Event::ProxyGone { generation: 2 }));
        assert_eq!(scene.events.recv().await, Some(Event::ProxyGone { generation: 1 }));
    });
}

#[test]
fn the_table_in_the_file_outlives_the_agent() {
    run(async {
        let mut scene = Scene::new();
        assert_eq!(scene.proxies.last_table(), None);
        scene.proxies.publish(&table(7));
        let path = scene.folder.path().join("routes");
        let (sender, _events) = mpsc::channel(1);
        let next = Proxies::new(path.clone(), hello("agent"), sender.clone(), Starting::new());
        assert_eq!(next.last_table(), Some(table(7)));
        std::fs::write(&path, "damaged").unwrap();
        assert_eq!(Proxies::new(path, hello("agent"), sender, Starting::new()).last_table(), None);
    });
}

#[test]
fn a_table_over_the_frame_limit_travels_as_memory() {
    run(async {
        let mut scene = Scene::new();
        let mut large = table(3);
        large.refused = (0..60_000).map(|n| (format!("service-{n}"), "1.0.0".to_owned())).collect();
        scene.proxies.publish(&large);
        let (mut proxy, end) = Proxy::new();
        scene.proxies.attach(1, 1, end);
        assert!(matches!(proxy.hear().await.0, ToProxy::Hello(_)));
        let (message, descriptors) = proxy.hear().await;
        assert!(matches!(message, ToProxy::TableInDescriptor { generation: 3, probe: true }));
        let json = host::memory::read_all(&descriptors[0]).unwrap();
        assert!(serde_json::from_slice::<RouteTable>(&json).unwrap() == large);
    });
}

#[test]
fn what_a_proxy_says_becomes_events_and_a_ready_instance_is_no_longer_watched() {
    run(async {
        let mut scene = Scene::new();
        let (mut proxy, end) = Proxy::new();
        scene.proxies.attach(4, 1, end);
        proxy.say(&FromProxy::Hello(hello("proxy")));
        proxy.say(&FromProxy::TableApplied { generation: 9 });
        let instance = "shop@1/0".to_owned();
        proxy.say(&FromProxy::Probe {
            instance: instance.clone(),
            healthy: Some(true),
            detail: "200".into(),
        });
        proxy.say(&FromProxy::Drained { instance: "nonsense".into(), generation: 9 });
        proxy.say(&FromProxy::Drained { instance, generation: 9 });
        let id: model::id::InstanceId = "shop@1/0".parse().unwrap();
        for expected in [
            Event::ProxyUp { generation: 4, pid: 1 },
            Event::TableApplied { proxy: 4, generation: 9 },
            Event::Probe { instance: id.clone(), healthy: Some(true), detail: "200".into() },
            Event::Drained { proxy: 4, instance: id, generation: 9 },
        ] {
            assert_eq!(scene.events.recv().await, Some(expected));
        }
        scene.proxies.report_now(5);
        assert!(matches!(proxy.hear().await.0, ToProxy::Hello(_)));
        assert_eq!(proxy.hear().await.0, ToProxy::ReportNow { token: 5 });
        scene.proxies.drain(Duration::from_secs(3));
        assert_eq!(proxy.hear().await.0, ToProxy::Drain { deadline_ms: 3_000 });
    });
}

#[test]
fn a_proxy_that_broke_the_protocol_counts_as_gone() {
    run(async {
        let mut scene = Scene::new();
        let (proxy, end) = Proxy::new();
        scene.proxies.attach(1, 1, end);
        proxy.channel.channel().send(&[0xff; 64], &[]).unwrap();
        assert_eq!(scene.events.recv().await, Some(Event::ProxyUp { generation: 1, pid: 1 }));
        assert_eq!(scene.events.recv().await, Some(Event::ProxyGone { generation: 1 }));
    });
}

#[test]
fn a_new_link_to_the_same_proxy_is_no_end_of_it_and_one_without_is_given_up() {
    run(async {
        let mut scene = Scene::new();
        tokio::time::pause();
        let (old, end) = Proxy::new();
        scene.proxies.attach(1, 1, end);
        assert_eq!(scene.events.recv().await, Some(Event::ProxyUp { generation: 1, pid: 1 }));
        drop(old); // the proxy lets go of it because it has been given another one
        let (new, end) = Proxy::new();
        scene.proxies.attach(1, 1, end);
        assert_eq!(scene.events.recv().await, Some(Event::ProxyUp { generation: 1, pid: 1 }));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!(scene.events.try_recv().is_err());
        drop(new);
        assert_eq!(scene.events.recv().await, Some(Event::ProxyGone { generation: 1 }));
    });
}
