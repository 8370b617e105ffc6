//! Listeners that come and go while others serve.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use proxy::engine::{ListenSource, Notice};
use wire::routes::Route;

use crate::harness::{Instance, Peer, Rig, eventually};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Another listener, of which the engine has the only copies once this returns.
fn add(rig: &mut Rig, name: &str, socket: TcpListener) -> SocketAddr {
    let address = socket.local_addr().unwrap();
    let source: Arc<dyn ListenSource> = Arc::new(socket);
    rig.engine().listen(name, &source);
    rig.wait_for(|notice| matches!(notice, Notice::Listening { name: one } if one == name));
    address
}

fn route(rig: &mut Rig, name: &str) {
    rig.swap(|table| {
        let settings = table.listeners["main"].clone();
        table.listeners.insert(name.to_owned(), settings);
        let route = Route {
            listener: name.into(),
            host: None,
            path: "/".into(),
            service: "web".into(),
            split: vec![],
        };
        table.routes.push(route);
    });
}

fn socket() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn a_table_may_name_a_listener_before_it_is_there() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    route(&mut rig, "second");
    let address = add(&mut rig, "second", socket());
    let mut client = Peer::connect(address);
    client.send(GET);
    assert_eq!(client.response().text(), "a 0");
    rig.swap(|table| table.routes.retain(|route| route.listener != "second"));
    client.send(GET);
    assert_eq!(client.response().status(), 404);
}

#[test]
fn the_settings_of_a_listener_change_under_its_connections() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    client.send(GET);
    client.response();
    rig.swap(|table| table.listeners.get_mut("main").unwrap().headers_max = 1);
    client.send("GET / HTTP/1.1\r\nHost: a\r\nOther: b\r\n\r\n");
    assert_eq!(client.response().status(), 431);
}

#[test]
fn who_waits_on_a_listener_that_is_withdrawn_is_answered_and_told_that_it_was_the_last() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    route(&mut rig, "second");
    let address = add(&mut rig, "second", socket());
    let mut known = Peer::connect(address);
    known.send(GET);
    assert_eq!(known.response().field("Connection"), None);
    let mut waiting: Vec<_> = (0..60).map(|_| Peer::connect(address)).collect();
    rig.engine().unlisten("second");
    for client in &mut waiting {
        client.send(GET);
        let response = client.response();
        assert_eq!((response.status(), response.field("Connection")), (200, Some("close")));
        assert!(client.is_at_end());
    }
    assert!(known.is_silent(Duration::from_millis(300)), "an idle connection is not closed first");
    known.send(GET);
    let response = known.response();
    assert_eq!((response.text(), response.field("Connection")), ("a 0", Some("close")));
    assert!(known.is_at_end());
    eventually(|| std::net::TcpStream::connect(address).is_err());
}

#[test]
fn everyone_who_got_through_to_a_withdrawn_listener_under_load_is_answered() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    route(&mut rig, "second");
    for _ in 0..3 {
        let address = add(&mut rig, "second", socket());
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (stop, answered) = (stop.clone(), answered.clone());
                std::thread::spawn(move || {
                    let mut lost = 0;
                    while !stop.load(Ordering::Relaxed) {
                        // Refused at the end, as it must be.
                        let Ok(stream) = std::net::TcpStream::connect(address) else { break };
                        let mut client = Peer::new(stream);
                        match client.try_send(GET).then(|| client.try_response()).flatten() {
                            Some(response) if response.status() == 200 => {
                                answered.fetch_add(1, Ordering::Relaxed);
                            }
                            _ => lost += 1,
                        }
                    }
                    lost
                })
            })
            .collect();
        eventually(|| answered.load(Ordering::Relaxed) >= 100);
        rig.engine().unlisten("second");
        eventually(|| std::net::TcpStream::connect(address).is_err());
        stop.store(true, Ordering::Relaxed);
        let lost: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert_eq!(lost, 0);
    }
}

#[test]
fn a_listener_that_is_replaced_under_load_costs_the_others_nothing() {
    let instance = Instance::named("a");
    let mut rig = Rig::start(&[instance.address]);
    route(&mut rig, "second");
    add(&mut rig, "second", socket());
    let (stop, main) = (Arc::new(AtomicBool::new(false)), rig.address);
    let clients: Vec<_> = (0..4)
        .map(|number| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut client = Peer::connect(main);
                while !stop.load(Ordering::Relaxed) {
                    client.send(GET);
                    let response = client.response();
                    assert_eq!((response.status(), response.field("Connection")), (200, None));
                    if number % 2 == 0 {
                        client = Peer::connect(main);
                    }
                }
            })
        })
        .collect();
    for _ in 0..5 {
        let address = add(&mut rig, "second", socket());
        let mut client = Peer::connect(address);
        client.send(GET);
        assert_eq!(client.response().field("Connection"), None);
        // The one before is the withdrawn one now; this one is not.
        add(&mut rig, "second", socket());
        client.send(GET);
        assert_eq!(client.response().field("Connection"), Some("close"));
    }
    stop.store(true, Ordering::Relaxed);
    clients.into_iter().for_each(|client| client.join().unwrap());
}
