//! A second reader of messages that shares no code with the data plane and knows one spelling of everything.
//!
//! It panics at whatever is not canonical: it reads what we wrote, and what we write has one spelling. The
//! lenient reader of chunks is the opposite: it shows that what we took has the reading anybody would give it.

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Response { has_no_body: bool },
}

/// What was read.
#[derive(Debug)]
pub(super) struct Message {
    /// Head and body.
    pub(super) length: usize,
    pub(super) has_host: bool,
    pub(super) is_head: bool,
    pub(super) is_chunked: bool,
    pub(super) has_length: bool,
}

/// Names that must never be passed on, in small letters.
const HOP_NAMES: [&str; 5] = ["keep-alive", "proxy-connection", "expect", "proxy", "handover-draining"];

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads the message at the start of `bytes`.
pub(super) fn read_message(bytes: &[u8], kind: Kind) -> Message {
    let shown = || bytes.escape_ascii().to_string();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no end of the head: {}", shown()));
    let lines = lines_of(&bytes[..end]);
    check_start(lines[0], kind);
    let mut message = Message {
        length: end + 4,
        has_host: false,
        is_head: lines[0].starts_with(b"HEAD "),
        is_chunked: false,
        has_length: false,
    };
    let mut announced = None;
    for line in &lines[1..] {
        take_field(line, kind, &mut message, &mut announced);
    }
    assert!(!(message.is_chunked && announced.is_some()), "two framings: {}", shown());
    let has_no_body = matches!(kind, Kind::Response { has_no_body: true });
    let body = &bytes[message.length..];
    message.length += match announced {
        _ if has_no_body => 0,
        Some(length) => length,
        None if message.is_chunked => {
            plain_chunks(body).unwrap_or_else(|| panic!("no plain chunks: {}", shown()))
        }
        None => 0,
    };
    message
}

/// The lines of a head without its last line end.
fn lines_of(head: &[u8]) -> Vec<&[u8]> {
    let (mut lines, mut from) = (Vec::new(), 0);
    for (at, two) in head.windows(2).enumerate() {
        if two == b"\r\n" {
            lines.push(&head[from..at]);
            from = at + 2;
        }
    }
    lines.push(&head[from..]);
    let is_clean = |line: &&[u8]| !line.iter().any(|byte| b"\r\n\0".contains(byte));
    assert!(lines.iter().all(is_clean), "{}", head.escape_ascii());
    lines
}

fn check_start(line: &[u8], kind: Kind) {
    let shown = line.escape_ascii();
    if kind != Kind::Request {
        assert!(line.starts_with(b"HTTP/1.1 "), "{shown}");
        assert!(line.get(9..12).is_some_and(|code| code.iter().all(u8::is_ascii_digit)), "{shown}");
        assert_eq!(line.get(12), Some(&b' '), "{shown}");
        return;
    }
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    assert_eq!(words.len(), 3, "{shown}");
    assert!(!words[0].is_empty() && words[0].iter().all(|byte| is_token(*byte)), "{shown}");
    assert!(matches!(words[1].first(), Some(b'/' | b'*')), "{shown}");
    assert!(words[1].iter().all(|byte| *byte > b' ' && *byte != 0x7f), "{shown}");
    assert_eq!(words[2], b"HTTP/1.1", "{shown}");
}

fn take_field(line: &[u8], kind: Kind, message: &mut Message, announced: &mut Option<usize>) {
    let shown = line.escape_ascii();
    let colon = line.iter().position(|byte| *byte == b':');
    let colon = colon.unwrap_or_else(|| panic!("no colon in a field: {shown}"));
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    assert!(!name.is_empty() && name.iter().all(|byte| is_token(*byte)), "{shown}");
    assert!(value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)), "{shown}");
    // A gateway behind us may take the one for the other.
    let name = String::from_utf8_lossy(name).to_ascii_lowercase().replace('_', "-");
    match name.as_str() {
        "host" => assert!(!std::mem::replace(&mut message.has_host, true), "two hosts: {shown}"),
        "content-length" => {
            assert!(!value.is_empty() && value.iter().all(u8::is_ascii_digit), "{shown}");
            let number = std::str::from_utf8(value).unwrap_or_default().parse().unwrap_or(usize::MAX);
            assert!(announced.replace(number).is_none(), "two lengths: {shown}");
            message.has_length = true;
        }
        "transfer-encoding" => {
            assert_eq!(value, b"chunked", "{shown}");
            assert!(!std::mem::replace(&mut message.is_chunked, true), "{shown}");
        }
        name => {
            let is_ours = kind != Kind::Request || !HOP_NAMES.contains(&name);
            assert!(is_ours, "`{name}` ends at this hop: {shown}");
        }
    }
}

/// The length of a chunked body without extensions and with canonical sizes.
fn plain_chunks(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = body[at..].windows(2).position(|two| two == b"\r\n")?;
        let digits = std::str::from_utf8(&body[at..at + line]).ok()?;
        let size = usize::from_str_radix(digits, 16).ok()?;
        if format!("{size:x}") != digits {
            return None;
        }
        at += line + 2;
        if size == 0 {
            return trailer_end(body, at);
        }
        if body.get(at + size..at + size + 2)? != b"\r\n" {
            return None;
        }
        at += size + 2;
    }
}

/// The end of the trailer section that begins at `at`.
fn trailer_end(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let line = body[at..].windows(2).position(|two| two == b"\r\n")?;
        at += line + 2;
        if line == 0 {
            return Some(at);
        }
    }
}

/// Data and length of a chunked body as a careless reader takes it: what is before `;` is the size.
pub(super) fn lenient_chunks(body: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let line = body[at..].windows(2).position(|two| two == b"\r\n")?;
        let text = std::str::from_utf8(&body[at..at + line])
            .map_or_else(|_| String::from_utf8_lossy(&body[at..at + line]).into_owned(), str::to_owned);
        let size = usize::from_str_radix(text.split(';').next()?.trim(), 16).ok()?;
        at += line + 2;
        if size == 0 {
            return Some((data, trailer_end(body, at)?));
        }
        data.extend_from_slice(body.get(at..at + size)?);
        at += size + 2;
    }
}
