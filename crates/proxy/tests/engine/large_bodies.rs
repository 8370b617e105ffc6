//! Large bodies, which pass without being read.

use crate::harness::{Instance, Rig};

const LARGE: usize = 8 << 20;

fn large(peer: &mut crate::harness::Peer, sent: usize) -> bool {
    peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
    peer.try_send(vec![b'x'; sent])
}

#[test]
fn requests_after_a_large_answer_are_in_step_and_on_the_same_connections() {
    let instance = Instance::start(|peer, _| while peer.request().is_some() && large(peer, LARGE) {});
    let rig = Rig::start(&[instance.address]);
    let mut client = rig.client();
    for _ in 0..5 {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.response();
        assert_eq!((response.status(), response.body.len()), (200, LARGE));
        assert!(response.body.iter().all(|byte| *byte == b'x'));
    }
    assert_eq!(instance.connections(), 1);
}

#[test]
fn a_large_answer_that_breaks_off_ends_the_connection_early() {
    for sent in [LARGE - 1, LARGE / 2, 300_000, 100_000, 1] {
        let instance = Instance::start(move |peer, _| {
            peer.request();
            large(peer, sent);
        });
        let rig = Rig::start(&[instance.address]);
        let mut client = rig.client();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = client.head().unwrap();
        assert!(head.contains(&format!("Content-Length: {LARGE}")), "{head}");
        let came = client.rest().len();
        assert!(came <= sent, "{came} of {sent}");
    }
}

#[test]
fn a_client_that_leaves_a_large_answer_leaves_its_instance_free() {
    let (gone_in, gone) = std::sync::mpsc::channel();
    let instance = Instance::start(move |peer, _| {
        while peer.request().is_some() && large(peer, LARGE) {}
        gone_in.send(()).unwrap();
    });
    let rig = Rig::start(&[instance.address]);
    let mut leaving = rig.client();
    leaving.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    leaving.exactly(1 << 20).unwrap();
    leaving.reset();
    gone.recv_timeout(crate::harness::PATIENCE).unwrap();
    let mut client = rig.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().body.len(), LARGE);
}
