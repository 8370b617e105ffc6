//! TLS on a listener, by clients that check every certificate and never retry.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proxy::engine::{Notice, Settings};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};
use tempfile::TempDir;
use wire::routes::{CertificateFiles, RouteTable};

use crate::harness::{Instance, PATIENCE, Peer, Rig, eventually, half_close, ok, table};

const GET: &str = "GET /a HTTP/1.1\r\nHost: shop\r\n\r\n";

/// A folder with certificates, each its own authority.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The files of the pair `name`.
    fn pair(&self, name: &str) -> CertificateFiles {
        let text = |ending: &str| self.path(&format!("{name}.{ending}")).to_str().unwrap().to_owned();
        CertificateFiles { certificate: text("pem"), key: text("key") }
    }

    /// Makes a pair for these hosts and puts it there; gives the certificate.
    fn write(&self, name: &str, hosts: &[&str]) -> String {
        let (certificate, key) = make(hosts);
        self.replace(&format!("{name}.key"), &key);
        self.replace(&format!("{name}.pem"), &certificate);
        certificate
    }

    fn replace(&self, name: &str, content: &str) {
        let new = self.path("new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    fn copies(&self) -> PathBuf {
        let path = self.path("copies");
        std::fs::create_dir_all(&path).unwrap();
        path
    }
}

fn make(hosts: &[&str]) -> (String, String) {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(hosts).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2090, 1, 1);
    (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn tls_table(addresses: &[SocketAddr], pairs: Vec<CertificateFiles>) -> RouteTable {
    let mut table = table(addresses);
    table.listeners.get_mut("main").unwrap().tls = pairs;
    table
}

fn rig(addresses: &[SocketAddr], pairs: Vec<CertificateFiles>) -> Rig {
    Rig::with(tls_table(addresses, pairs), None)
}

fn rig_with_copies(address: SocketAddr, files: &Files) -> Rig {
    let table = tls_table(&[address], vec![files.pair("a")]);
    let settings = Settings { threads: 2, seed: 7, access_log: None, tls_copies: Some(files.copies()) };
    Rig::with_settings(table, &settings)
}

/// Trusts this certificate and no other.
fn trusting(certificate: &str) -> ClientConfig {
    trusting_with(certificate, &[&rustls::version::TLS13, &rustls::version::TLS12])
}

fn trusting_with(certificate: &str, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// A client's session.
struct Client {
    stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    fn try_connect(rig: &Rig, config: &Arc<ClientConfig>, name: &str) -> std::io::Result<Self> {
        let socket = TcpStream::connect(rig.address)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let session = ClientConnection::new(config.clone(), name).unwrap();
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream, buffer: Vec::new() })
    }

    #[track_caller]
    fn connect(rig: &Rig, config: ClientConfig, name: &str) -> Self {
        Self::try_connect(rig, &Arc::new(config), name).unwrap()
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
        self.stream.flush().unwrap();
    }

    /// Head and body of the next response.
    fn try_response(&mut self) -> std::io::Result<(String, Vec<u8>)> {
        let head_end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8(self.buffer.drain(..head_end).collect()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
        let length: usize = length.parse().unwrap();
        while self.buffer.len() < length {
            self.more()?;
        }
        Ok((head, self.buffer.drain(..length).collect()))
    }

    fn more(&mut self) -> std::io::Result<()> {
        let mut block = [0; 65_536];
        match self.stream.read(&mut block)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            count => {
                self.buffer.extend_from_slice(&block[..count]);
                Ok(())
            }
        }
    }

    #[track_caller]
    fn ask(&mut self) -> String {
        self.send(GET);
        String::from_utf8(self.try_response().unwrap().1).unwrap()
    }
}

/// Whether a client that trusts only this certificate is served.
fn serves(rig: &Rig, certificate: &str, name: &str) -> bool {
    Client::try_connect(rig, &Arc::new(trusting(certificate)), name)
        .is_ok_and(|mut client| client.ask().starts_with('a'))
}

fn error_of(notice: &Notice) -> Option<&Option<String>> {
    match notice {
        Notice::Certificate(news) => Some(&news.error),
        _ => None,
    }
}

#[test]
fn requests_of_one_session_are_answered_in_either_version_and_known_as_https() {
    let (files, instance) = (Files::new(), Instance::named("a"));
    let certificate = files.write("a", &["shop.example"]);
    let rig = rig(&[instance.address], vec![files.pair("a")]);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut config = trusting_with(&certificate, &[version]);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let mut client = Client::connect(&rig, config, "shop.example");
        assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        for _ in 0..5 {
            assert_eq!(client.ask(), "a 0");
        }
    }
    assert_eq!(instance.seen().pop().unwrap().field("X-Forwarded-Proto"), Some("https"));
}

#[test]
fn each_name_gets_its_certificate_and_every_other_the_first() {
    let (files, instance) = (Files::new(), Instance::named("a"));
    let first = files.write("a", &["first.example", "other.example"]);
    let exact = files.write("b", &["one.shop.example"]);
    let wildcard = files.write("c", &["*.shop.example"]);
    let rig = rig(&[instance.address], ["a", "b", "c"].map(|name| files.pair(name)).into());
    for (name, certificate) in [
        ("first.example", &first),
        ("one.shop.example", &exact),
        ("two.shop.example", &wildcard),
        ("other.example", &first),
    ] {
        assert!(serves(&rig, certificate, name), "{name}");
    }
    let unknown = Client::try_connect(&rig, &Arc::new(trusting(&first)), "a.two.shop.example");
    assert!(unknown.is_err_and(|error| error.to_string().contains("not valid for name")));
}

#[test]
fn bodies_of_any_size_arrive_whole_both_ways() {
    let files = Files::new();
    let certificate = files.write("a", &["shop.example"]);
    let instance = Instance::start(|peer, _| {
        while let Some(request) = peer.request() {
            peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len()));
            peer.send(&request.body);
        }
    });
    let rig = rig(&[instance.address], vec![files.pair("a")]);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut client = Client::connect(&rig, trusting_with(&certificate, &[version]), "shop.example");
        client.stream.conn.set_buffer_limit(Some(1 << 20));
        for size in [0_usize, 1, 4_097, 16_383, 16_384, 16_385, 65_536, 200_000, 3_000_000] {
            let body: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
            client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n"));
            // The answer begins before the request has ended, and the socket's buffers hold less than both.
            let (mut sent, mut got) = (0, Vec::new());
            while sent < size {
                let piece = &body[sent..size.min(sent + 20_000)];
                client.send(piece);
                sent += piece.len();
            }
            let (_, answer) = client.try_response().unwrap();
            got.extend(answer);
            assert!(got == body, "{size}");
        }
    }
}

#[test]
fn a_slow_reader_gets_every_byte_of_a_large_answer() {
    let (files, body) = (Files::new(), "0123456789".repeat(800_000));
    let certificate = files.write("a", &["shop.example"]);
    let answer = ok(&body);
    let instance = Instance::answering(move |_| answer.clone());
    let rig = rig(&[instance.address], vec![files.pair("a")]);
    let mut client = Client::connect(&rig, trusting(&certificate), "shop.example");
    client.send(GET);
    // So long that every buffer on the way is full.
    std::thread::sleep(Duration::from_millis(300));
    assert!(client.try_response().unwrap().1 == body.as_bytes());
    assert_eq!(client.ask().len(), body.len());
}

#[test]
fn http_without_tls_is_told_so() {
    let (files, instance) = (Files::new(), Instance::named("a"));
    files.write("a", &["shop.example"]);
    let rig = rig(&[instance.address], vec![files.pair("a")]);
    let answer = rig.ask(GET);
    assert_eq!(answer.status(), 400);
    assert!(answer.text().contains("this listener speaks https"), "{}", answer.text());
    assert_eq!(answer.field("Connection"), Some("close"));
    assert_eq!(instance.connections(), 0);
}

#[test]
fn who_does_not_finish_its_handshake_in_time_or_sends_nonsense_is_closed_and_others_are_served() {
    let (files, instance) = (Files::new(), Instance::named("a"));
    let certificate = files.write("a", &["shop.example"]);
    let mut table = tls_table(&[instance.address], vec![files.pair("a")]);
    table.listeners.get_mut("main").unwrap().header_timeout_ms = 300;
    let rig = Rig::with(table, None);
    let mut silent = Peer::connect(rig.address);
    let mut half = Peer::connect(rig.address);
    half.send([22, 3, 1, 2, 0, 1]);
    let mut hostile = Vec::new();
    for bytes in [&[0_u8; 100][..], &[22, 3, 1, 255, 255], &[255; 70_000], &[23, 3, 3, 0, 1, 0]] {
        let mut peer = Peer::connect(rig.address);
        peer.try_send(bytes);
        hostile.push(peer);
    }
    // Nonsense inside of a session.
    let mut broken = Client::connect(&rig, trusting(&certificate), "shop.example");
    broken
        .stream
        .sock
        .write_all(&[23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0])
        .unwrap();
    assert!(broken.try_response().is_err());
    assert!(serves(&rig, &certificate, "shop.example"));
    assert!(silent.is_at_end() && half.is_at_end());
    for mut peer in hostile {
        // At most an alert, then the end.
        assert!(peer.rest().len() < 64);
    }
    assert!(serves(&rig, &certificate, "shop.example"));
}

#[test]
fn a_client_that_ends_its_side_still_gets_its_answer_and_an_orderly_end() {
    let (files, instance) = (Files::new(), Instance::named("a"));
    let certificate = files.write("a", &["shop.example"]);
    let rig = rig(&[instance.address], vec![files.pair("a")]);
    for half_closes in [false, true] {
        let mut client = Client::connect(&rig, trusting(&certificate), "shop.example");
        client.send(GET);
        client.stream.conn.send_close_notify();
        client.stream.flush().unwrap();
        if half_closes {
            client.stream.sock.shutdown(Shutdown::Write).unwrap();
        }
        assert_eq!(client.try_response().unwrap().1, b"a 0");
        // An end without a goodbye would be an error.
        assert_eq!(client.stream.read(&mut [0; 1]).unwrap(), 0);
    }
    let mut client = Client::connect(&rig, trusting(&certificate), "shop.example");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!(client.try_response().unwrap().1, b"a 0");
    assert_eq!(client.stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn sessions_are_resumed_whichever_thread_has_them() {
    let (files, instance) = (Files::new(), Instance::named("a"));
    let certificate = files.write("a", &["shop.example"]);
    let rig = rig(&[instance.address], vec![files.pair("a")]);
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = Arc::new(trusting_with(&certificate, &[version]));
        let mut kept = Vec::new();
        for number in 0..8 {
            let mut client = Client::try_connect(&rig, &config, "shop.example").unwrap();
            assert_eq!(client.ask(), "a 0");
            let kind = client.stream.conn.handshake_kind();
            assert_eq!(kind == Some(HandshakeKind::Resumed), number > 0, "{number}: {kind:?}");
            kept.push(client);
        }
    }
}

#[test]
fn a_certificate_is_replaced_under_load_and_no_request_fails() {
    let (files, instance) = (Files::new(), Instance::named("a"));
    let before = files.write("a", &["shop.example"]);
    let mut rig = rig(&[instance.address], vec![files.pair("a")]);
    let stop = AtomicBool::new(false);
    let (after, key) = make(&["shop.example"]);
    let mut roots = RootCertStore::empty();
    for one in [&before, &after] {
        roots.add(CertificateDer::from_pem_slice(one.as_bytes()).unwrap()).unwrap();
    }
    let both = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let (both, address) = (Arc::new(both), rig.address);
    let mut old = Client::connect(&rig, trusting(&before), "shop.example");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let rig_address = address;
                    let mut client = connect_to(rig_address, &both);
                    for _ in 0..3 {
                        assert_eq!(client.ask(), "a 0");
                    }
                }
            });
        }
        // One file after the other, as people do.
        files.replace("a.key", &key);
        files.replace("a.pem", &after);
        rig.wait_for(|notice| error_of(notice) == Some(&None));
        assert!(serves(&rig, &after, "shop.example") && !serves(&rig, &before, "shop.example"));
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(old.ask(), "a 0", "an established session goes on");
}

fn connect_to(address: SocketAddr, config: &Arc<ClientConfig>) -> Client {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let session =
        ClientConnection::new(config.clone(), ServerName::try_from("shop.example").unwrap()).unwrap();
    Client { stream: StreamOwned::new(session, socket), buffer: Vec::new() }
}

#[test]
fn a_bad_pair_is_told_once_and_the_one_in_use_goes_on_until_it_is_mended() {
    let (files, instance) = (Files::new(), Instance::named("a"));
    let before = files.write("a", &["shop.example"]);
    let mut rig = rig(&[instance.address], vec![files.pair("a")]);
    let (other, _) = make(&["shop.example"]);
    for (bad, said) in
        [(&*other, "is not the one of the first certificate"), (&before[..200], "certificate 1 in ")]
    {
        files.replace("a.pem", bad);
        let notice = rig.wait_for(|notice| error_of(notice).is_some());
        let error = error_of(&notice).unwrap().clone().unwrap();
        assert!(error.contains(said) && error.ends_with("the last good one goes on"), "{error}");
        assert!(serves(&rig, &before, "shop.example"));
    }
    assert!(!rig.has_notice(Duration::from_millis(2_200), |notice| error_of(notice).is_some()));
    std::fs::remove_file(files.path("a.key")).unwrap();
    let notice = rig.wait_for(|notice| error_of(notice).is_some());
    assert!(error_of(&notice).unwrap().as_ref().unwrap().contains("a.key cannot be read"));
    let mended = files.write("a", &["shop.example"]);
    rig.wait_for(|notice| error_of(notice) == Some(&None));
    assert!(serves(&rig, &mended, "shop.example"));
}

#[test]
fn a_proxy_that_starts_with_a_bad_file_uses_its_copy_and_one_without_serves_all_else_and_recovers() {
    let (files, instance) = (Files::new(), Instance::named("a"));
    let good = files.write("a", &["shop.example"]);
    let mut first = rig_with_copies(instance.address, &files);
    assert!(serves(&first, &good, "shop.example"));
    first.stop();
    files.replace("a.pem", "nothing");
    let mut second = rig_with_copies(instance.address, &files);
    assert!(serves(&second, &good, "shop.example"));
    second.stop();

    std::fs::remove_dir_all(files.copies()).unwrap();
    let mut table = tls_table(&[instance.address], vec![files.pair("a")]);
    let plain = RouteTable::clone(&crate::harness::table(&[instance.address]));
    table.listeners.insert("plain".into(), plain.listeners["main"].clone());
    table.routes.push(wire::routes::Route { listener: "plain".into(), ..table.routes[0].clone() });
    let mut rig = Rig::with(table, None);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let source: Arc<dyn proxy::engine::ListenSource> = Arc::new(listener);
    rig.engine().listen("plain", &source);
    let refused = Client::try_connect(&rig, &Arc::new(trusting(&good)), "shop.example").err().unwrap();
    assert!(refused.to_string().contains("alert"), "{refused}");
    let mut peer = Peer::connect(address);
    peer.send(GET);
    assert_eq!(peer.response().status(), 200);
    let mended = files.write("a", &["shop.example"]);
    eventually(|| serves(&rig, &mended, "shop.example"));
}

#[test]
fn a_client_that_has_left_during_its_handshake_costs_nothing() {
    let (files, instance) = (Files::new(), Instance::named("a"));
    let certificate = files.write("a", &["shop.example"]);
    let rig = rig(&[instance.address], vec![files.pair("a")]);
    for _ in 0..50 {
        let peer = Peer::connect(rig.address);
        half_close(&peer);
    }
    assert!(serves(&rig, &certificate, "shop.example"));
}

#[test]
fn a_tunnel_carries_both_ways_through_tls() {
    let instance = Instance::start(|peer, _| {
        if peer.request().is_some() {
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Content-Language: en\r\n\r\n",
            );
            while let Some(byte) = peer.exactly(1) {
                peer.send(byte);
            }
        }
    });
    let files = Files::new();
    let certificate = files.write("a", &["shop.example"]);
    let rig = rig(&[instance.address], vec![files.pair("a")]);
    let mut client = Client::connect(&rig, trusting(&certificate), "shop.example");
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nearly ");
    let text = "x".repeat(100_000);
    for part in [&text, "end"] {
        client.send(part);
    }
    let expected = format!("early {text}end");
    while !client.buffer.ends_with(b"end") {
        client.more().unwrap();
    }
    let at = client.buffer.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(client.buffer.starts_with(b"HTTP/1.1 101 "));
    assert_eq!(&client.buffer[at..], expected.as_bytes());
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    assert!(client.more().is_err_and(|error| error.kind() == ErrorKind::UnexpectedEof));
}
