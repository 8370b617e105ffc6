//! Descriptors that travel: what arrives, what must not, and what stays open.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests are outside of test functions")]

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::time::Duration;

use host::Descriptor;
use host::channel::{AsyncChannel, Channel, DESCRIPTORS_MAX};
use host::listener::{LocalListener, LocalStream, bind_tcp, local_address, socket_cookie};
use host::notify::NotifySocket;
use host::poll::{Interest, wait};
use host::pump::{Duplex, Pumped, pump_once};
use host::rescue::RescueSocket;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

fn sockets(count: usize) -> Vec<Descriptor> {
    (0..count).map(|_| bind_tcp("127.0.0.1:0".parse().unwrap(), 8).unwrap()).collect()
}

fn cookies(sockets: &[Descriptor]) -> Vec<u64> {
    sockets.iter().map(|socket| socket_cookie(socket).unwrap()).collect()
}

fn is_close_on_exec(descriptor: &Descriptor) -> bool {
    rustix::io::fcntl_getfd(descriptor).unwrap().contains(rustix::io::FdFlags::CLOEXEC)
}

#[test]
fn sixty_four_descriptors_arrive_in_order_and_close_on_exec() {
    let (a, b) = Channel::pair().unwrap();
    let sent = sockets(DESCRIPTORS_MAX);
    assert_eq!(a.send(b"x", &sent).unwrap(), 1);
    let mut received = Vec::new();
    assert_eq!(b.recv(&mut [0; 16], &mut received).unwrap(), 1);
    assert_eq!(cookies(&received), cookies(&sent));
    assert!(received.iter().all(is_close_on_exec));
    assert!(a.send(b"x", &sockets(DESCRIPTORS_MAX + 1)).is_err());
}

#[test]
fn a_message_whose_descriptors_do_not_all_fit_is_an_error_and_leaks_none() {
    for surplus in [1, 6] {
        let (a, b) = Channel::pair().unwrap();
        // One pipe's writing end, many times: once all copies are closed its reading end says so.
        let (reader, writer) = host::process::pipe().unwrap();
        let many: Vec<_> = (0..DESCRIPTORS_MAX + surplus).map(|_| writer.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX + 8))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&many)));
        sendmsg(a.descriptor(), &[IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()).unwrap();
        let error = b.recv(&mut [0; 16], &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(many);
        drop(writer);
        assert_eq!(host::process::read_pipe(&reader, &mut [0; 1]).unwrap(), 0);
    }
}

#[test]
fn descriptors_stay_with_the_bytes_they_were_sent_with() {
    let (a, b) = Channel::pair().unwrap();
    let sent = sockets(2);
    a.send(b"first", &sent[..1]).unwrap();
    a.send(b"second", &sent[1..]).unwrap();
    for (text, socket) in [("first", &sent[0]), ("second", &sent[1])] {
        let mut buffer = [0; 64];
        let mut received = Vec::new();
        let length = b.recv(&mut buffer, &mut received).unwrap();
        assert_eq!(&buffer[..length], text.as_bytes());
        assert_eq!(cookies(&received), cookies(std::slice::from_ref(socket)));
    }
    let nothing = b.recv(&mut [0; 1], &mut Vec::new()).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_peer_that_is_gone_is_an_end_or_an_error_and_no_signal() {
    let (a, b) = Channel::pair().unwrap();
    a.send(b"last words", &[]).unwrap();
    drop(a);
    assert_eq!(b.recv(&mut [0; 64], &mut Vec::new()).unwrap(), 10);
    assert_eq!(b.recv(&mut [0; 64], &mut Vec::new()).unwrap(), 0);
    assert_eq!(b.send(b"x", &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn polling_says_who_can_be_read_and_who_can_be_written() {
    let (a, b) = Channel::pair().unwrap();
    let interests = [
        Interest { descriptor: a.descriptor(), write: true },
        Interest { descriptor: b.descriptor(), write: false },
    ];
    let ready = wait(&interests, Duration::ZERO).unwrap();
    assert!(ready[0].write && !ready[0].read && !ready[1].read && !ready[1].write);
    a.send(b"x", &[]).unwrap();
    assert!(wait(&interests, Duration::from_secs(5)).unwrap()[1].read);
}

#[test]
fn a_queue_of_connections_outlives_all_copies_but_one() {
    let socket = sockets(1).remove(0);
    let address = local_address(&socket).unwrap();
    let (a, b) = Channel::pair().unwrap();
    a.send(b"x", &[socket]).unwrap(); // and closes its own
    let waiting = std::net::TcpStream::connect(address).unwrap();
    let mut received = Vec::new();
    b.recv(&mut [0; 1], &mut received).unwrap();
    assert!(host::listener::is_listening(&received[0]));
    drop(waiting);
    drop(received);
    assert!(std::net::TcpStream::connect(address).is_err());
}

/// Sends what it is given in small pieces, and keeps what it gets.
#[derive(Default)]
struct Pieces {
    out: Vec<u8>,
    out_descriptors: Vec<Descriptor>,
    received: Vec<u8>,
    descriptors: Vec<Descriptor>,
}

impl Duplex for Pieces {
    fn transmit(&mut self) -> Option<(&[u8], &[Descriptor])> {
        let piece = &self.out[..self.out.len().min(1000)];
        (!piece.is_empty()).then_some((piece, self.out_descriptors.as_slice()))
    }

    fn transmitted(&mut self, written: usize) {
        self.out.drain(..written);
        self.out_descriptors.clear();
    }

    fn receive(&mut self, bytes: &[u8], descriptors: Vec<Descriptor>) -> Result<(), String> {
        self.received.extend_from_slice(bytes);
        self.descriptors.extend(descriptors);
        if bytes.contains(&0xff) { Err("a forbidden byte".to_owned()) } else { Ok(()) }
    }
}

fn in_runtime<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(10), future).await.unwrap() })
}

#[test]
fn both_ends_pump_more_than_a_socket_holds_until_one_closes() {
    in_runtime(async {
        let (a, b) = Channel::pair().unwrap();
        let (a, b) = (AsyncChannel::new(a).unwrap(), AsyncChannel::new(b).unwrap());
        let mut left = Pieces { out: vec![1; 3 << 20], out_descriptors: sockets(3), ..Pieces::default() };
        let mut right = Pieces { out: vec![2; 3 << 20], ..Pieces::default() };
        while left.received.len() < 3 << 20 || right.received.len() < 3 << 20 {
            tokio::select! {
                pumped = pump_once(&a, &mut left) => assert_ne!(pumped.unwrap(), Pumped::Closed),
                pumped = pump_once(&b, &mut right) => assert_ne!(pumped.unwrap(), Pumped::Closed),
            }
        }
        assert_eq!(right.descriptors.len(), 3);
        left.out = b"last words".to_vec();
        assert_eq!(pump_once(&a, &mut left).await.unwrap(), Pumped::Wrote);
        drop(a);
        // Also the end that has something to write still gets them.
        right.out = vec![3];
        right.received.clear();
        while pump_once(&b, &mut right).await.unwrap() != Pumped::Closed {}
        assert_eq!(right.received, b"last words");
    });
}

#[test]
fn a_peer_that_breaks_a_rule_ends_the_pumping() {
    in_runtime(async {
        let (a, b) = Channel::pair().unwrap();
        a.send(&[0xff], &[]).unwrap();
        let b = AsyncChannel::new(b).unwrap();
        let error = pump_once(&b, &mut Pieces::default()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.to_string().as_str()),
            (io::ErrorKind::InvalidData, "a forbidden byte")
        );
    });
}

#[test]
fn a_local_listener_is_private_replaces_a_stale_socket_and_knows_its_peer() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    in_runtime(async {
        drop(LocalListener::bind(&path).unwrap());
        let listener = LocalListener::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (client, server) = tokio::join!(LocalStream::connect(&path), listener.accept());
        assert_eq!(server.unwrap().peer().unwrap().pid, host::process::current_pid());
        drop(client);
        std::fs::write(folder.path().join("file"), "precious").unwrap();
        assert!(LocalListener::bind(&folder.path().join("file")).is_err());
        let long = folder.path().join("x".repeat(120));
        let error = LocalListener::bind(&long).unwrap_err().to_string();
        assert!(error.contains("may have 107"), "{error}");
    });
}

#[test]
fn a_rescue_socket_gives_channels_and_a_notify_socket_datagrams() {
    let folder = tempfile::tempdir().unwrap();
    let (rescue, notify) = (folder.path().join("agent-1.sock"), folder.path().join("n.sock"));
    in_runtime(async {
        let socket = RescueSocket::bind(&rescue).unwrap();
        let ours = Channel::connect(&rescue).unwrap();
        let theirs = socket.accept().await.unwrap();
        ours.send(b"x", &sockets(1)).unwrap();
        let mut received = Vec::new();
        theirs.recv(&mut [0; 1], &mut received).unwrap();
        assert_eq!(received.len(), 1);

        let held = host::notify::bind(&notify, None).unwrap();
        host::notify::send(&notify, "READY=1\nSTATUS=up").unwrap();
        // The reader may come later than the datagram, and another one after it.
        let reader = NotifySocket::from_descriptor(&held).unwrap();
        assert_eq!(reader.recv().await.unwrap(), b"READY=1\nSTATUS=up");
        drop(reader);
        host::notify::send(&notify, "READY=1").unwrap();
        assert_eq!(NotifySocket::from_descriptor(&held).unwrap().recv().await.unwrap(), b"READY=1");
    });
}
