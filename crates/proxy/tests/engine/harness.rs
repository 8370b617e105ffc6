//! An engine on loopback between scripted instances and a client that never retries.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use proxy::engine::{Engine, ListenSource, Notice, Settings};
use wire::routes::{
    Endpoint, EndpointState, ListenerSettings, ReleaseTraffic, Route, RouteTable, ServiceTraffic,
};

/// Nothing here may take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// One side of a connection that reads and writes HTTP by hand.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// A request or response as it came.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let start = format!("{}:", name.to_ascii_lowercase());
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&start))?;
        Some(line[start.len()..].trim())
    }
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// Sends it, if the other side is still there.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Leaves without a goodbye.
    pub(crate) fn reset(self) {
        self.stream.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let stream = tokio::net::TcpStream::from_std(self.stream).unwrap();
            stream.set_zero_linger().unwrap();
        });
    }

    /// Reads more; false at the end.
    fn more(&mut self) -> bool {
        let mut block = [0; 65_536];
        match self.stream.read(&mut block) {
            Ok(0) => false,
            Ok(count) => {
                self.buffer.extend_from_slice(&block[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("nothing more came: {error}"),
        }
    }

    /// Bytes up to and with `end`; `None` when the connection ends before.
    pub(crate) fn until(&mut self, end: &str) -> Option<String> {
        loop {
            let found = self.buffer.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = found {
                let rest = self.buffer.split_off(at + end.len());
                let bytes = std::mem::replace(&mut self.buffer, rest);
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
            if !self.more() {
                return None;
            }
        }
    }

    pub(crate) fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if !self.more() {
                return None;
            }
        }
        let rest = self.buffer.split_off(count);
        Some(std::mem::replace(&mut self.buffer, rest))
    }

    pub(crate) fn head(&mut self) -> Option<String> {
        self.until("\r\n\r\n")
    }

    fn body(&mut self, head: String, until_end: bool) -> Option<Message> {
        let mut message = Message { head, body: Vec::new() };
        if message.field("Transfer-Encoding").is_some() {
            loop {
                let size = self.until("\r\n")?;
                let size = usize::from_str_radix(size.trim_end(), 16).unwrap();
                if size == 0 {
                    while self.until("\r\n")? != "\r\n" {}
                    return Some(message);
                }
                let data = self.exactly(size + 2)?;
                message.body.extend_from_slice(&data[..size]);
            }
        }
        match message.field("Content-Length").map(|length| length.parse().unwrap()) {
            Some(length) => message.body = self.exactly(length)?,
            None if until_end => {
                while self.more() {}
                message.body = std::mem::take(&mut self.buffer);
            }
            None => {}
        }
        Some(message)
    }

    /// The next request; `None` when there is none any more.
    pub(crate) fn request(&mut self) -> Option<Message> {
        let head = self.head()?;
        self.body(head, false)
    }

    /// The next response to anything but HEAD.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Message {
        self.try_response().expect("a whole response")
    }

    pub(crate) fn try_response(&mut self) -> Option<Message> {
        let head = self.head()?;
        let bodiless = [" 204 ", " 304 ", " 100 ", " 103 "].iter().any(|status| head[..14].contains(status));
        self.body(head, !bodiless)
    }

    /// Everything that comes until the end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether nothing but the end comes.
    pub(crate) fn is_at_end(&mut self) -> bool {
        self.rest().is_empty()
    }

    /// Whether nothing came yet, the end included.
    pub(crate) fn is_silent(&mut self, during: Duration) -> bool {
        self.stream.set_read_timeout(Some(during)).unwrap();
        let result = self.stream.read(&mut [0; 1]);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        matches!(result, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }
}

/// A server that does what its script says on each connection.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Message>>>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Instance {
    /// Each connection, with its number from 0, is given to `script`; its end ends the connection.
    pub(crate) fn start(script: impl Fn(&mut Peer, usize) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, stopped) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end, script) = (connections.clone(), stopped.clone(), Arc::new(script));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if end.load(Ordering::SeqCst) {
                    return;
                }
                let number = count.fetch_add(1, Ordering::SeqCst);
                let (mut peer, script) = (Peer::new(stream.unwrap()), script.clone());
                std::thread::spawn(move || script(&mut peer, number));
            }
        });
        Self { address, connections, seen: Arc::default(), stopped, thread: Some(thread) }
    }

    /// Answers every request with `answer(request)`, on connections that stay.
    pub(crate) fn answering(answer: impl Fn(&Message) -> String + Send + Sync + 'static) -> Self {
        let seen: Arc<Mutex<Vec<Message>>> = Arc::default();
        let noted = seen.clone();
        let mut instance = Self::start(move |peer, _| {
            while let Some(request) = peer.request() {
                let answer = answer(&request);
                noted.lock().unwrap().push(request);
                if peer.stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        instance.seen = seen;
        instance
    }

    /// Answers with its name, and the length of what it got.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::answering(move |request| ok(&format!("{name} {}", request.body.len())))
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Message> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An address on which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An engine with one listener and one service, `web`.
pub(crate) struct Rig {
    pub(crate) address: SocketAddr,
    pub(crate) table: RouteTable,
    pub(crate) engine: Option<Engine>,
    runtime: tokio::runtime::Runtime,
    _listener: TcpListener,
}

/// (instance id, address, state) of one release's endpoints.
pub(crate) type Endpoints<'a> = &'a [(&'a str, SocketAddr, EndpointState)];

pub(crate) fn release(name: &str, weight: u16, endpoints: Endpoints<'_>) -> ReleaseTraffic {
    let endpoints = endpoints.iter().map(|(instance, address, state)| Endpoint {
        instance: (*instance).to_owned(),
        address: (*address).into(),
        state: *state,
        weight: 1,
        supervised: true,
    });
    ReleaseTraffic { release: name.to_owned(), weight, endpoints: endpoints.collect() }
}

pub(crate) fn table(addresses: &[SocketAddr]) -> RouteTable {
    let names: Vec<String> = (0..addresses.len()).map(|number| format!("web@1/{number}")).collect();
    let endpoints: Vec<_> = names
        .iter()
        .zip(addresses)
        .map(|(name, address)| (&**name, *address, EndpointState::Serving))
        .collect();
    let service = ServiceTraffic {
        hold: None,
        releases: vec![release("1", 10_000, &endpoints)],
        probe: None,
        connect_timeout_ms: 1_000,
        response_timeout_ms: 5_000,
        idle_reuse_ms: 2_000,
        ..ServiceTraffic::default()
    };
    let settings = ListenerSettings {
        header_timeout_ms: 5_000,
        idle_timeout_ms: 30_000,
        body_timeout_ms: 5_000,
        head_bytes_max: 8_192,
        headers_max: 50,
        body_bytes_max: 4 << 20,
        ..ListenerSettings::UNNAMED
    };
    RouteTable {
        generation: 1,
        threads: 2,
        access_log: true,
        listeners: [("main".to_owned(), settings)].into(),
        routes: vec![Route {
            listener: "main".into(),
            host: None,
            path: "/".into(),
            service: "web".into(),
            split: vec![],
        }],
        services: [("web".to_owned(), service)].into(),
        refused: vec![],
        ..RouteTable::default()
    }
}

impl Rig {
    pub(crate) fn start(addresses: &[SocketAddr]) -> Self {
        Self::with(table(addresses), None)
    }

    pub(crate) fn with(table: RouteTable, access_log: Option<std::path::PathBuf>) -> Self {
        let settings = Settings { threads: table.threads, seed: 7, access_log, tls_copies: None };
        Self::with_settings(table, &settings)
    }

    pub(crate) fn with_settings(table: RouteTable, settings: &Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut engine = Engine::start(settings).unwrap();
        let source: Arc<dyn ListenSource> = Arc::new(listener.try_clone().unwrap());
        engine.swap(&Arc::new(table.clone()));
        engine.listen("main", &source);
        let mut rig = Self { address, table, engine: Some(engine), runtime, _listener: listener };
        rig.wait_for(|notice| matches!(notice, Notice::Applied { .. }));
        rig.wait_for(|notice| matches!(notice, Notice::Listening { .. }));
        rig
    }

    pub(crate) fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap()
    }

    #[track_caller]
    pub(crate) fn wait_for(&mut self, mut wanted: impl FnMut(&Notice) -> bool) -> Notice {
        let engine = self.engine.as_mut().unwrap();
        self.runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + PATIENCE;
            loop {
                let notice = tokio::time::timeout_at(deadline, engine.notice()).await;
                let notice = notice.expect("a notice in time").expect("living threads");
                if wanted(&notice) {
                    return notice;
                }
            }
        })
    }

    /// Whether such a notice comes within `time`.
    pub(crate) fn has_notice(&mut self, time: Duration, mut wanted: impl FnMut(&Notice) -> bool) -> bool {
        let engine = self.engine.as_mut().unwrap();
        self.runtime.block_on(async {
            let deadline = tokio::time::Instant::now() + time;
            while let Ok(Some(notice)) = tokio::time::timeout_at(deadline, engine.notice()).await {
                if wanted(&notice) {
                    return true;
                }
            }
            false
        })
    }

    /// Applies a changed table, and waits until every thread uses it.
    pub(crate) fn swap(&mut self, change: impl FnOnce(&mut RouteTable)) {
        self.start_swap(change);
        let generation = self.table.generation;
        self.wait_for(|notice| *notice == Notice::Applied { generation });
    }

    pub(crate) fn start_swap(&mut self, change: impl FnOnce(&mut RouteTable)) {
        change(&mut self.table);
        self.table.generation += 1;
        let table = Arc::new(self.table.clone());
        self.engine().swap(&table);
    }

    pub(crate) fn client(&self) -> Peer {
        Peer::connect(self.address)
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub(crate) fn ask(&self, request: &str) -> Message {
        let mut client = self.client();
        client.send(request);
        client.response()
    }

    /// Counters of the release `1`.
    pub(crate) fn counters(&mut self) -> wire::traffic::ReleaseCounters {
        self.counters_of("1")
    }

    pub(crate) fn counters_of(&mut self, name: &str) -> wire::traffic::ReleaseCounters {
        let number = self.engine().report();
        let Notice::Report { counters, .. } =
            self.wait_for(|notice| matches!(notice, Notice::Report { number: one, .. } if *one == number))
        else {
            unreachable!()
        };
        counters.releases.into_iter().find(|release| release.release == name).unwrap_or_default()
    }

    pub(crate) fn stop(&mut self) {
        self.engine.take().unwrap().stop();
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.stop();
        }
    }
}

/// Waits for a level, not for a time.
#[track_caller]
pub(crate) fn eventually(mut level: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !level() {
        assert!(Instant::now() < deadline, "it never came to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends the writing side of a connection.
pub(crate) fn half_close(peer: &Peer) {
    peer.stream.shutdown(Shutdown::Write).unwrap();
}
