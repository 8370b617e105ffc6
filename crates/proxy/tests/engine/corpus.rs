//! Ways of saying one thing twice that others fell for: each is refused, or reaches the instance as one message.
//!
//! A case is what a client sends first; behind it comes a request for `/hidden` that must stay a request of its
//! own, or the body it was announced to be. `transfer_encoding` makes the headers of such cases by rule, `classes`
//! lists kinds of payloads, `published` has the flaws of others by their numbers.

mod classes;
mod published;
mod transfer_encoding;

use crate::harness::{Instance, Message, Rig, half_close};

/// Comes behind each case.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n";

/// What the instance saw of a case, and the statuses that the client got.
#[derive(Debug)]
struct Outcome {
    seen: Vec<Message>,
    statuses: Vec<u16>,
}

impl Outcome {
    /// Nothing reached the instance, and the only answer was a refusal.
    fn is_refused(&self) -> bool {
        self.seen.is_empty() && matches!(self.statuses[..], [400..=499 | 501 | 505])
    }

    /// It was one message of its own, with that body, and what came behind it another one.
    fn is_one(&self, body: &[u8]) -> bool {
        matches!(&self.seen[..], [first, second] if first.body == body && is_hidden(second) && has_one_framing(first))
            && self.statuses == [200, 200]
    }
}

fn is_hidden(message: &Message) -> bool {
    message.head.starts_with("GET /hidden HTTP/1.1\r\n") && message.body.is_empty()
}

/// At most one field says where the body ends, and it is spelt as everybody reads it.
fn has_one_framing(message: &Message) -> bool {
    // A gateway behind us may take `_` for `-`; any other letter of a token makes another name.
    let fields = message.head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let names = fields.map(|(name, _)| name.to_ascii_lowercase().replace('_', "-"));
    names.filter(|name| name == "content-length" || name == "transfer-encoding").count() <= 1
        && message.head.matches("\r\nHost: ").count() == 1
}

/// An engine before an instance that remembers.
struct Bench {
    instance: Instance,
    rig: Rig,
}

impl Bench {
    fn new() -> Self {
        let instance = Instance::named("a");
        let rig = Rig::start(&[instance.address]);
        Self { instance, rig }
    }

    /// Sends `first` and what is hidden behind it, and nothing more.
    fn send(&self, first: &[u8]) -> Outcome {
        let before = self.instance.seen().len();
        let mut client = self.rig.client();
        client.send([first, HIDDEN.as_bytes()].concat());
        half_close(&client);
        let mut statuses = Vec::new();
        while let Some(response) = client.try_response() {
            statuses.push(response.status());
        }
        let seen = self.instance.seen().split_off(before);
        Outcome { seen, statuses }
    }

    #[track_caller]
    fn refuses(&self, first: impl AsRef<[u8]>) {
        let first = first.as_ref();
        let outcome = self.send(first);
        assert!(outcome.is_refused(), "{}: {outcome:?}", first.escape_ascii());
    }

    /// As `refuses`, but the head was taken: the instance may have seen a beginning, never a whole message.
    #[track_caller]
    fn takes_as_one(&self, first: impl AsRef<[u8]>, body: &str) {
        let first = first.as_ref();
        let outcome = self.send(first);
        assert!(outcome.is_one(body.as_bytes()), "{}: {outcome:?}", first.escape_ascii());
    }
}
