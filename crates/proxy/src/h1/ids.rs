//! What names a request: its id, and W3C trace context. Kept where sound, made where not.
//!
//! A request id is 1 to 128 bytes that cannot hurt a log, else a new one of 32 hex digits takes its place. A
//! `traceparent` is passed on as it came or not at all, its `tracestate` with it; a new one says that nobody recorded
//! anything yet, and has the request id as trace id where that can be one. It does not take part in the trace.

use std::cell::Cell;

/// Longest request id that is kept.
const REQUEST_ID_BYTES_MAX: usize = 128;
/// Length of a `traceparent` of version 00, and of the part that every later version begins with.
pub(crate) const TRACEPARENT_BYTES: usize = 55;

/// Ids without end: 128 bits of state, so that those of many processes do not meet (xoroshiro128++, Blackman and
/// Vigna 2019). They are unique, not secret.
#[derive(Debug)]
pub(crate) struct IdSource(Cell<(u64, u64)>);

impl IdSource {
    /// A source whose ids follow from `seed`, which is random.
    pub(crate) fn new(seed: (u64, u64)) -> Self {
        // The state that stays zero for ever.
        Self(Cell::new(if seed == (0, 0) { (1, 0) } else { seed }))
    }

    fn draw(&self) -> u64 {
        let (a, b) = self.0.get();
        let mixed = a ^ b;
        self.0.set((a.rotate_left(49) ^ mixed ^ (mixed << 21), mixed.rotate_left(28)));
        a.wrapping_add(b).rotate_left(17).wrapping_add(a)
    }
}

/// The ids of one request.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    request_id: [u8; REQUEST_ID_BYTES_MAX],
    request_id_bytes: usize,
    traceparent: [u8; TRACEPARENT_BYTES],
    has_trace: bool,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            request_id: [0; REQUEST_ID_BYTES_MAX],
            request_id_bytes: 0,
            traceparent: [0; TRACEPARENT_BYTES],
            has_trace: false,
        }
    }
}

/// Which of the client's fields are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// `X-Request-Id`.
    pub(crate) request_id: bool,
    /// `traceparent` and `tracestate`.
    pub(crate) trace: bool,
}

impl Ids {
    /// The request id; empty before there is a request.
    pub(crate) fn request_id(&self) -> &[u8] {
        &self.request_id[..self.request_id_bytes]
    }

    /// `traceparent`, in a later version its first part; empty before there is a request.
    #[cfg(test)]
    pub(crate) fn traceparent(&self) -> &[u8] {
        if self.has_trace { &self.traceparent } else { &[] }
    }

    /// The trace's id; empty before there is a request.
    pub(crate) fn trace_id(&self) -> &[u8] {
        if self.has_trace { &self.traceparent[3..35] } else { &[] }
    }

    /// Forgets those of the last request.
    pub(crate) fn clear(&mut self) {
        self.request_id_bytes = 0;
        self.has_trace = false;
    }

    /// Takes what the client sent where it is sound, and makes the rest.
    pub(crate) fn decide(
        &mut self,
        request_id: Option<&[u8]>,
        traceparent: Option<&[u8]>,
        source: &IdSource,
    ) -> Kept {
        let request_id = request_id.filter(|id| is_request_id(id));
        let fresh = match request_id {
            Some(id) => {
                self.request_id[..id.len()].copy_from_slice(id);
                self.request_id_bytes = id.len();
                None
            }
            None => {
                self.request_id_bytes = 32;
                let id = fresh_id(source);
                self.request_id[..32].copy_from_slice(&id);
                Some(id)
            }
        };
        let traceparent = traceparent.filter(|value| is_traceparent(value));
        match traceparent {
            Some(value) => self.traceparent.copy_from_slice(&value[..TRACEPARENT_BYTES]),
            None => {
                let trace_id = fresh.or_else(|| self.as_trace_id()).unwrap_or_else(|| fresh_id(source));
                self.make_trace(&trace_id, source);
            }
        }
        self.has_trace = true;
        Kept { request_id: request_id.is_some(), trace: traceparent.is_some() }
    }

    /// The client's request id, where a trace can have it too.
    fn as_trace_id(&self) -> Option<[u8; 32]> {
        let id: [u8; 32] = self.request_id().try_into().ok()?;
        is_id(&id).then_some(id)
    }

    fn make_trace(&mut self, trace_id: &[u8; 32], source: &IdSource) {
        let parent = loop {
            match source.draw() {
                0 => {}
                drawn => break hex(drawn),
            }
        };
        self.traceparent[..3].copy_from_slice(b"00-");
        self.traceparent[3..35].copy_from_slice(trace_id);
        self.traceparent[35] = b'-';
        self.traceparent[36..52].copy_from_slice(&parent);
        self.traceparent[52..].copy_from_slice(b"-00");
    }

    /// Appends the fields that were made, each line with its end.
    pub(crate) fn write_made(&self, kept: Kept, out: &mut Vec<u8>) {
        if !kept.request_id {
            out.extend_from_slice(b"X-Request-Id: ");
            out.extend_from_slice(self.request_id());
            out.extend_from_slice(b"\r\n");
        }
        if !kept.trace {
            out.extend_from_slice(b"traceparent: ");
            out.extend_from_slice(&self.traceparent);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn fresh_id(source: &IdSource) -> [u8; 32] {
    let mut id = [0; 32];
    let high = source.draw();
    id[..16].copy_from_slice(&hex(high));
    // Not all zeros, which would be no trace id.
    let low = source.draw();
    id[16..].copy_from_slice(&hex(if high == 0 { low | 1 } else { low }));
    id
}

/// 16 hex digits, eight at a time: each half's nibbles are spread over the bytes of a word, and made digits together.
fn hex(number: u64) -> [u8; 16] {
    let mut digits = [0; 16];
    digits[..8].copy_from_slice(&hex_half(number >> 32));
    digits[8..].copy_from_slice(&hex_half(number & 0xffff_ffff));
    digits
}

fn hex_half(half: u64) -> [u8; 8] {
    let pairs = (half & 0xffff) | (half & 0xffff_0000) << 16;
    let bytes = (pairs & 0x0000_00ff_0000_00ff) | (pairs & 0x0000_ff00_0000_ff00) << 8;
    let nibbles = (bytes & 0x000f_000f_000f_000f) | (bytes & 0x00f0_00f0_00f0_00f0) << 4;
    let letters = (nibbles + 0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
    (nibbles + 0x3030_3030_3030_3030 + letters * 0x27).to_be_bytes()
}

/// A byte of a request id; written so that many are looked at together.
fn is_request_id_byte(byte: u8) -> bool {
    // `.`, `/` and the digits are neighbours.
    (byte.wrapping_sub(b'.') < 12)
        | ((byte | 0x20).wrapping_sub(b'a') < 26)
        | (byte == b'-')
        | (byte == b'_')
        | (byte == b'+')
        | (byte == b'=')
}

fn is_request_id(value: &[u8]) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&value.len())
        && value.iter().fold(true, |all, byte| all & is_request_id_byte(*byte))
}

/// Lower-case hex digits; all are looked at, which is faster than to stop.
fn is_hex(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .fold(true, |all, byte| all & ((byte.wrapping_sub(b'0') < 10) | (byte.wrapping_sub(b'a') < 6)))
}

/// Lower-case hex digits, not all of them 0.
fn is_id(bytes: &[u8]) -> bool {
    is_hex(bytes) && bytes.iter().fold(0, |all, byte| all | (byte ^ b'0')) != 0
}

/// Whether `value` is a `traceparent` (W3C Trace Context): version 00 has exactly its four parts, a later one begins
/// with them and may go on behind another dash; there is no version ff.
fn is_traceparent(value: &[u8]) -> bool {
    let Some((first, rest)) = value.split_at_checked(TRACEPARENT_BYTES) else { return false };
    let is_complete = match &first[..2] {
        b"00" => rest.is_empty(),
        b"ff" => false,
        version => is_hex(version) && (rest.is_empty() || rest[0] == b'-'),
    };
    is_complete
        && [2, 35, 52].iter().all(|at| first[*at] == b'-')
        && is_id(&first[3..35])
        && is_id(&first[36..52])
        && is_hex(&first[53..])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const PARENT: &[u8] = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn source() -> IdSource {
        IdSource::new((7, 11))
    }

    fn text(bytes: &[u8]) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_the_client_sent_is_kept_where_it_is_sound() {
        let mut ids = Ids::default();
        let kept = ids.decide(Some(b"Abc-1/2+3=.x_y"), Some(PARENT), &source());
        assert_eq!(kept, Kept { request_id: true, trace: true });
        assert_eq!((ids.request_id(), ids.traceparent()), (&b"Abc-1/2+3=.x_y"[..], PARENT));
        let mut out = Vec::new();
        ids.write_made(kept, &mut out);
        assert_eq!(text(&out), "");
        ids.clear();
        assert_eq!((ids.request_id(), ids.traceparent()), (&b""[..], &b""[..]));
    }

    #[test]
    fn what_is_missing_is_made_and_trace_and_request_have_one_id() {
        let mut ids = Ids::default();
        let kept = ids.decide(None, None, &source());
        assert_eq!(kept, Kept { request_id: false, trace: false });
        assert!(ids.request_id().len() == 32 && is_id(ids.request_id()));
        assert!(is_traceparent(ids.traceparent()) && ids.traceparent().ends_with(b"-00"));
        assert_eq!(&ids.traceparent()[3..35], ids.request_id());
        let mut out = Vec::new();
        ids.write_made(kept, &mut out);
        let (id, parent) = (text(ids.request_id()), text(ids.traceparent()));
        assert_eq!(text(&out), format!("X-Request-Id: {id}\r\ntraceparent: {parent}\r\n"));
    }

    #[test]
    fn a_trace_takes_the_clients_request_id_where_it_can() {
        let mut ids = Ids::default();
        let id = b"4bf92f3577b34da6a3ce929d0e0e4736";
        ids.decide(Some(id), None, &source());
        assert_eq!(&ids.traceparent()[3..35], id);
        for other in [&b"00000000000000000000000000000000"[..], b"4BF92F3577B34DA6A3CE929D0E0E4736", b"x"] {
            let kept = ids.decide(Some(other), Some(b"nonsense"), &source());
            assert_eq!(kept, Kept { request_id: true, trace: false });
            assert!(is_traceparent(ids.traceparent()));
            assert_ne!(&ids.traceparent()[3..35], other);
        }
    }

    #[test]
    fn request_ids_have_a_length_and_an_alphabet() {
        for byte in 0..=u8::MAX {
            let is = byte.is_ascii_alphanumeric() || b"._=+/-".contains(&byte);
            assert_eq!(is_request_id(&[byte]), is, "{byte}");
        }
        assert!(is_request_id(&[b'x'; 128]) && !is_request_id(&[b'x'; 129]) && !is_request_id(b""));
        for bad in ["a b", "a\"b", "a,b", "a;b", "a\\b", "a\tb", "ä", "a%b", "{a}", "a:b"] {
            assert!(!is_request_id(bad.as_bytes()), "{bad}");
        }
    }

    /// Those of the specification, and of its test suite's kinds.
    #[test]
    fn traceparents_are_read_by_their_version() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        for good in [
            format!("00-{id}-01"),
            format!("00-{id}-00"),
            format!("00-{id}-ff"),
            format!("01-{id}-01"),
            format!("cc-{id}-01-what-the-future-will-be-like"),
            format!("fe-{id}-01-"),
        ] {
            assert!(is_traceparent(good.as_bytes()), "{good}");
        }
        for bad in [
            String::new(),
            format!("00-{id}"),
            format!("00-{id}-1"),
            format!("00-{id}-01-"),
            format!("00-{id}-01-x"),
            format!("01-{id}-01x"),
            format!("ff-{id}-01"),
            format!("FE-{id}-01"),
            format!("0-{id}-01"),
            format!("00-{}-01", id.to_uppercase()),
            format!("00_{id}-01"),
            format!("00-{id}-0g"),
            format!(" 00-{id}-01"),
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01".into(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01".into(),
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01x".into(),
        ] {
            assert!(!is_traceparent(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn ids_do_not_repeat() {
        let (one, other) = (IdSource::new((1, 2)), IdSource::new((1, 3)));
        let drawn: BTreeSet<[u8; 32]> =
            (0..10_000).flat_map(|_| [fresh_id(&one), fresh_id(&other)]).collect();
        assert_eq!(drawn.len(), 20_000);
        assert_ne!(IdSource::new((0, 0)).draw(), 0);
    }

    proptest! {
        #[test]
        fn digits_are_those_of_the_number(number: u64) {
            prop_assert_eq!(text(&hex(number)).to_owned(), format!("{number:016x}"));
        }

        #[test]
        fn whatever_comes_what_goes_on_is_sound(
            id in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..140)),
            parent in proptest::option::of("[0-9a-f-]{50,60}"),
        ) {
            let mut ids = Ids::default();
            ids.decide(id.as_deref(), parent.as_deref().map(str::as_bytes), &source());
            prop_assert!(is_request_id(ids.request_id()));
            prop_assert!(is_id(&ids.traceparent()[3..35]) && is_id(&ids.traceparent()[36..52]));
        }
    }
}
