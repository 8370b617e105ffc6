use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use tokio::net::UdpSocket;

use super::*;

/// Longer than any answer here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A name server that knows one name, for a second at a time; with no address it says that it cannot tell.
#[derive(Clone)]
struct Server(Arc<Mutex<Vec<Ipv4Addr>>>);

impl Server {
    async fn start(addresses: &[[u8; 4]]) -> (Self, SocketAddr) {
        let server = Self(Arc::default());
        server.set(addresses);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let answers = server.clone();
        tokio::task::spawn_local(async move {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query).await {
                let answer = answers.answer(&query[..length]);
                let _ = socket.send_to(&answer, from).await;
            }
        });
        (server, address)
    }

    fn set(&self, addresses: &[[u8; 4]]) {
        *self.0.lock().unwrap() = addresses.iter().map(|octets| Ipv4Addr::from(*octets)).collect();
    }

    /// The query's own question, and an A record an address.
    fn answer(&self, query: &[u8]) -> Vec<u8> {
        let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
        let question = &query[12..name_end + 4];
        let wants_v4 = question[question.len() - 4..] == [0, 1, 0, 1];
        let addresses = self.0.lock().unwrap().clone();
        let refused = addresses.is_empty();
        let records = if wants_v4 { addresses } else { Vec::new() };
        let mut answer = query[..2].to_vec();
        answer.extend([0x81, if refused { 0x82 } else { 0x80 }, 0, 1, 0]);
        answer.push(u8::try_from(records.len()).unwrap());
        answer.extend([0, 0, 0, 0]);
        answer.extend_from_slice(question);
        for address in records {
            answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
            answer.extend(address.octets());
        }
        answer
    }
}

struct Scene {
    resolver: Resolver,
    inbox: crate::Inbox,
    folder: tempfile::TempDir,
    heard: VecDeque<(String, Result<Vec<IpAddr>, String>)>,
}

impl Scene {
    fn new(server: Option<SocketAddr>, hosts: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hosts");
        std::fs::write(&path, hosts).unwrap();
        let (events, inbox) = crate::queue();
        let resolver = Resolver::new(Sources { server, hosts: Some(path) }, events);
        Self { resolver, inbox, folder, heard: VecDeque::new() }
    }

    fn look_up(&mut self, names: &[&str]) {
        self.resolver.look_up(&names.iter().map(ToString::to_string).collect());
    }

    async fn next(&mut self) -> (String, Result<Vec<IpAddr>, String>) {
        if let Some(heard) = self.heard.pop_front() {
            return heard;
        }
        match tokio::time::timeout(PATIENCE, self.inbox.recv()).await.expect("it is said in time") {
            Some(Event::LookedUp { name, result }) => (name, result),
            other => panic!("something else: {other:?}"),
        }
    }
}

fn addresses(octets: &[[u8; 4]]) -> Result<Vec<IpAddr>, String> {
    Ok(octets.iter().map(|octets| IpAddr::from(*octets)).collect())
}

async fn local(test: impl Future<Output = ()>) {
    tokio::task::LocalSet::new().run_until(test).await;
}

#[tokio::test]
async fn an_answer_is_asked_for_again_when_it_is_over_and_only_news_are_told() {
    local(async {
        let (server, address) = Server::start(&[[10, 0, 0, 2], [10, 0, 0, 1]]).await;
        let mut scene = Scene::new(Some(address), "");
        scene.look_up(&["backend.internal."]);
        let (name, result) = scene.next().await;
        assert_eq!(
            (name.as_str(), result),
            ("backend.internal.", addresses(&[[10, 0, 0, 1], [10, 0, 0, 2]]))
        );
        server.set(&[[10, 0, 0, 3]]);
        assert_eq!(scene.next().await.1, addresses(&[[10, 0, 0, 3]]), "nothing was said in between");
        server.set(&[]);
        assert!(scene.next().await.1.is_err());
        server.set(&[[10, 0, 0, 3]]);
        assert_eq!(scene.next().await.1, addresses(&[[10, 0, 0, 3]]));
    })
    .await;
}

#[tokio::test]
async fn names_of_the_hosts_file_need_no_server_and_what_is_edited_there_is_seen() {
    local(async {
        let mut scene = Scene::new(None, "10.0.0.9 backend.internal\n127.0.0.1 localhost\n");
        scene.look_up(&["localhost"]);
        assert_eq!(scene.next().await.1, addresses(&[[127, 0, 0, 1]]));
        scene.look_up(&["backend.internal"]);
        assert_eq!(scene.next().await, ("backend.internal".to_owned(), addresses(&[[10, 0, 0, 9]])));
        // A file's time of change may be coarse.
        let hosts = scene.folder.path().join("hosts");
        std::fs::write(&hosts, "10.0.0.10 backend.internal\n").unwrap();
        let later = SystemTime::now() + Duration::from_secs(2);
        std::fs::File::options().write(true).open(&hosts).unwrap().set_modified(later).unwrap();
        scene.look_up(&[]);
        scene.look_up(&["backend.internal"]);
        assert_eq!(scene.next().await.1, addresses(&[[10, 0, 0, 10]]));
    })
    .await;
}

#[tokio::test]
async fn the_system_s_own_files_make_localhost_known() {
    local(async {
        let (events, inbox) = crate::queue();
        let mut resolver = Resolver::new(Sources::default(), events);
        resolver.look_up(&BTreeSet::from(["localhost".to_owned()]));
        let mut scene = Scene { inbox, ..Scene::new(None, "") };
        let loopback = scene.next().await.1.expect("it is there");
        assert!(loopback.iter().all(IpAddr::is_loopback) && !loopback.is_empty(), "{loopback:?}");
    })
    .await;
}
