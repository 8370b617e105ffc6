//! Fuzz targets: functions that take any bytes and panic where a promise about them is broken.
//!
//! The same functions are called by libFuzzer (`fuzz_targets/`), by the mutation loop of `mutate`, and by an
//! ordinary test over the committed corpus. What a target found once is a file of its corpus from then on.

use serde::Serialize;
use serde::de::DeserializeOwned;
use wire::holder_end::HolderEnd;
use wire::link::{FromHolder, Hello, ToHolder};
use wire::role::RoleLink;
use wire::routes::RouteTable;
use wire::session::Session;
use wire::traffic::{FromProxy, ToProxy};

pub mod mutate;

pub use proxy::fuzz::{chunked, client, instance};

/// A function that panics where a promise about its input is broken.
pub type Target = fn(&[u8]);

/// Every target with its name, which is that of its corpus too.
pub const TARGETS: [(&str, Target); 5] =
    [("client", client), ("instance", instance), ("chunked", chunked), ("frames", frames), ("files", files)];

/// What a process of ours may be sent by another: frames of every kind, in any pieces, with descriptors or without.
/// The first byte says which kind, and whether the rest already is a frame; the second the pieces and descriptors.
pub fn frames(input: &[u8]) {
    let [kind, pieces, rest @ ..] = input else { return };
    let mut stream = Vec::new();
    if kind & 0x80 == 0 {
        for body in rest.split(|byte| *byte == b'\n') {
            let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
            stream.extend_from_slice(&length.to_be_bytes());
            stream.extend_from_slice(body);
        }
    } else {
        stream.extend_from_slice(rest);
    }
    let size = usize::from(pieces >> 2).max(1);
    let descriptors = usize::from(pieces & 3);
    match kind & 7 {
        0 => session::<FromHolder>(&stream, size, descriptors),
        1 => session::<ToHolder>(&stream, size, descriptors),
        2 => session::<ToProxy>(&stream, size, descriptors),
        3 => session::<FromProxy>(&stream, size, descriptors),
        4 => role(&stream, size, descriptors),
        _ => holder(&stream, size, descriptors),
    }
}

/// A message that is taken says the same when it is sent on.
fn session<M: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(
    stream: &[u8],
    size: usize,
    descriptors: usize,
) {
    let mut end = Session::<M, u8>::new();
    for piece in stream.chunks(size) {
        if end.receive(piece, vec![7; descriptors]).is_err() {
            return;
        }
        loop {
            match end.poll_message() {
                Err(_) => return,
                Ok(None) => break,
                Ok(Some((message, with_it))) => {
                    assert!(with_it.len() <= wire::frame::DESCRIPTORS_MAX);
                    assert_same_again(&message);
                    drain(&mut end);
                }
            }
        }
    }
}

fn assert_same_again<M: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(message: &M) {
    let Ok(bytes) = wire::frame::encode(message, 0) else { return };
    let mut other = Session::<M, u8>::new();
    let received = other.receive(&bytes, Vec::new());
    assert!(received.is_ok());
    match other.poll_message() {
        Ok(Some((again, _))) => assert_eq!(&again, message),
        other => panic!("our own frame is not taken: {other:?}"),
    }
}

fn drain<M: DeserializeOwned>(end: &mut Session<M, u8>) {
    while let Some((bytes, _)) = end.transmit() {
        let count = bytes.len();
        end.transmitted(count);
    }
}

fn role(stream: &[u8], size: usize, descriptors: usize) {
    let hello = Hello {
        min: wire::PROTOCOL_MIN,
        max: wire::PROTOCOL_MAX,
        role: "proxy".to_owned(),
        pid: 1,
        generation: 1,
        build: String::new(),
        rescue: false,
    };
    let mut end = RoleLink::<u8>::new(hello);
    let connected = end.connect();
    assert!(connected.is_ok());
    for piece in stream.chunks(size) {
        if end.receive(piece, vec![7; descriptors]).is_err() {
            return;
        }
        while let Ok(Some(_)) = end.poll_message() {
            while let Some((bytes, _)) = end.transmit() {
                let count = bytes.len();
                end.transmitted(count);
            }
        }
        assert!(end.vault().iter().all(|(key, (item, _))| *key == item.key()));
    }
}

fn holder(stream: &[u8], size: usize, descriptors: usize) {
    let mut messages = Vec::new();
    let Ok(mut end) = HolderEnd::<u8>::new(1, "", false) else { panic!("a hello fits a frame") };
    for piece in stream.chunks(size) {
        if end.receive(piece, vec![7; descriptors], &mut messages).is_err() {
            break;
        }
    }
    let hellos = messages.iter().filter(|(message, _)| matches!(message, ToHolder::Hello(_))).count();
    assert!(messages.is_empty() || (hellos == 1 && matches!(messages[0].0, ToHolder::Hello(_))));
}

/// What may be found on a disk: the file of routes, the record, an entry of the history. The first byte says which,
/// and whether the rest is the whole file or only what its checksum covers.
pub fn files(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let is_whole = kind & 0x80 != 0;
    match kind & 3 {
        0 => {
            let head = format!("HOROUTES1 {:08x} {}\n", crc32fast::hash(rest), rest.len()).into_bytes();
            let bytes = if is_whole { rest.to_vec() } else { [&head, rest].concat() };
            let Ok(table) = wire::routes::decode_file(&bytes) else { return };
            let again = wire::routes::encode_file(&table).ok();
            let again = again.and_then(|bytes| wire::routes::decode_file(&bytes).ok());
            assert_eq!(again.as_ref(), Some::<&RouteTable>(&table));
        }
        1 => {
            let bytes = if is_whole { rest.to_vec() } else { record(rest) };
            let Ok((sequence, record)) = wire::record::decode(&bytes) else { return };
            let Ok(again) = wire::record::encode(sequence, &record) else { return };
            assert_eq!(wire::record::decode(&again).ok(), Some((sequence, record)));
        }
        _ => {
            let sum = crc32fast::hash(rest).to_be_bytes();
            let bytes = if is_whole { rest.to_vec() } else { [&sum, rest].concat() };
            let Ok(entry) = wire::history::decode(&bytes) else { return };
            let again = wire::history::encode(&entry).ok();
            assert_eq!(again.and_then(|bytes| wire::history::decode(&bytes).ok()), Some(entry));
        }
    }
}

/// A record's file with that body, as far as its checksums go.
fn record(body: &[u8]) -> Vec<u8> {
    let sequence = 7_u64.to_be_bytes();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut sum = crc32fast::Hasher::new();
    for part in [&sequence[..], &length[..], body] {
        sum.update(part);
    }
    [b"HOREC001", &sequence[..], &length[..], &sum.finalize().to_be_bytes()[..], body].concat()
}
