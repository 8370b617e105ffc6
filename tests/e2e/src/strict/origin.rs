//! Our own origin: it knows one spelling of everything, logs what it sees, and calls everything else bad.
//!
//! It runs as a service, started as `strict --origin LOG` with `PORT`.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

type Log = Arc<Mutex<File>>;

/// Serves for ever.
///
/// # Errors
/// When it cannot listen or log.
pub fn serve(log: &str) -> Result<(), String> {
    let port: u16 = std::env::var("PORT").ok().and_then(|port| port.parse().ok()).ok_or("PORT is not set")?;
    let log = File::options().create(true).append(true).open(log).map_err(|error| error.to_string())?;
    let log = Arc::new(Mutex::new(log));
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(|error| error.to_string())?;
    for stream in listener.incoming().flatten() {
        let log = log.clone();
        std::thread::spawn(move || connection(stream, &log));
    }
    Ok(())
}

fn say(log: &Log, line: &str) {
    let mut log = log.lock().expect("no connection panics");
    log.write_all(line.as_bytes()).expect("the log can be written");
}

fn connection(mut stream: TcpStream, log: &Log) {
    let mut buffer: Vec<u8> = Vec::new();
    let mut is_announced = false;
    loop {
        match read_request(&buffer) {
            Found::Bad(why) => {
                return say(log, &format!("BAD {why}: {}\n", buffer[..buffer.len().min(400)].escape_ascii()));
            }
            Found::More(shown) => {
                if let (Some(shown), false) = (shown, is_announced) {
                    say(log, &format!("SEEN {shown}\n"));
                    is_announced = true;
                }
            }
            Found::Whole { shown, target, is_head, length } => {
                if !is_announced {
                    say(log, &format!("SEEN {shown}\n"));
                }
                is_announced = false;
                buffer.drain(..length);
                let body = if is_head { "" } else { "ok\n" };
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nX-Seen: {target}\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
                continue;
            }
        }
        let mut block = [0; 16 << 10];
        match stream.read(&mut block) {
            Ok(count) if count > 0 => buffer.extend_from_slice(&block[..count]),
            // In the middle of a request: one that Handover gave up, which it has logged too.
            _ => return,
        }
    }
}

enum Found {
    Bad(&'static str),
    /// Not whole yet; its method and target once the head is.
    More(Option<String>),
    Whole {
        shown: String,
        target: String,
        is_head: bool,
        length: usize,
    },
}

fn read_request(bytes: &[u8]) -> Found {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { return Found::More(None) };
    let Some(head) = Head::read(&bytes[..end]) else { return Found::Bad("its head is not canonical") };
    let body = &bytes[end + 4..];
    let length = match (head.length, head.is_chunked) {
        (Some(_), true) => return Found::Bad("it has two framings"),
        (None, false) => Some(0),
        (Some(length), false) => (body.len() >= length).then_some(length),
        (None, true) => match chunks(body) {
            Err(()) => return Found::Bad("its chunks are not canonical"),
            Ok(length) => length,
        },
    };
    match length {
        None => Found::More(Some(head.shown)),
        Some(length) => Found::Whole {
            shown: head.shown,
            target: head.target,
            is_head: head.is_head,
            length: end + 4 + length,
        },
    }
}

struct Head {
    /// Method and target, for the log.
    shown: String,
    target: String,
    is_head: bool,
    length: Option<usize>,
    is_chunked: bool,
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Self> {
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let mut lines = text.split("\r\n");
        let words: Vec<&str> = lines.next()?.split(' ').collect();
        let [method, target, "HTTP/1.1"] = words[..] else { return None };
        let mut head = Self {
            shown: format!("{method} {target}"),
            target: target.to_owned(),
            is_head: method == "HEAD",
            length: None,
            is_chunked: false,
        };
        let mut hosts = 0;
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let is_token =
                |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(letter);
            let is_clean =
                !value.contains(|letter: char| letter != '\t' && (letter < ' ' || letter == '\u{7f}'));
            if name.is_empty() || !name.chars().all(is_token) || !is_clean {
                return None;
            }
            match name.to_ascii_lowercase().replace('_', "-").as_str() {
                "host" => hosts += 1,
                "transfer-encoding" if value.trim() == "chunked" && !head.is_chunked => {
                    head.is_chunked = true
                }
                "content-length"
                    if head.length.is_none() && value.trim().bytes().all(|byte| byte.is_ascii_digit()) =>
                {
                    head.length = Some(value.trim().parse().ok()?);
                }
                "transfer-encoding" | "content-length" | "keep-alive" | "proxy-connection" => return None,
                _ => {}
            }
        }
        (hosts == 1).then_some(head)
    }
}

/// The length of a chunked body without extensions, `None` while it is not whole.
fn chunks(body: &[u8]) -> Result<Option<usize>, ()> {
    let mut at = 0;
    loop {
        let Some(line) = body[at..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        let digits = std::str::from_utf8(&body[at..at + line]).ok().ok_or(())?;
        let size = usize::from_str_radix(digits, 16).ok().ok_or(())?;
        if format!("{size:x}") != digits {
            return Err(());
        }
        at += line + 2;
        if size == 0 {
            break;
        }
        let Some(end) = body.get(at + size..at + size + 2) else { return Ok(None) };
        if end != b"\r\n" {
            return Err(());
        }
        at += size + 2;
    }
    // Trailers, up to the empty line.
    loop {
        let Some(line) = body[at..].windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
        at += line + 2;
        if line == 0 {
            return Ok(Some(at));
        }
    }
}
