//! Lines on the terminal of `up`: services' output with a coloured prefix, and what Handover has to say.
//!
//! A thread of its own writes them, because a terminal may be stopped (Ctrl-S) and a pipe not be read. Lines
//! that come faster than the terminal takes them are left out there and counted; the logs have them all.

use std::io::{self, BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};

/// Lines that wait for the terminal.
const LINES_MAX: usize = 4096;

/// Colours that read well on dark and light ground alike.
const SERVICE_COLOURS: [&str; 6] = ["36", "35", "34", "32", "33", "96"];

/// Where lines for people go. Clones share the thread.
#[derive(Debug, Clone, Default)]
pub struct Console(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    on: OnceLock<Open>,
    left_out: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Open {
    lines: SyncSender<String>,
    colour: bool,
}

/// How a line's prefix looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A service's own colour.
    Service,
    /// Handover speaks.
    Plain,
    /// Someone should look.
    Warning,
    /// Something does not work.
    Error,
}

impl Console {
    /// A console that shows nothing until it is turned on.
    pub fn silent() -> Self {
        Self::default()
    }

    /// From now on lines go to standard output. Once; a second call changes nothing.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn turn_on(&self, colour: bool) -> io::Result<()> {
        let (lines, queue) = sync_channel(LINES_MAX);
        if self.0.on.set(Open { lines, colour }).is_ok() {
            let counter = Arc::clone(&self.0.left_out);
            std::thread::Builder::new().name("console".into()).spawn(move || {
                write_lines(&queue, &counter, BufWriter::new(io::stdout()));
            })?;
        }
        Ok(())
    }

    /// Whether anybody sees what is shown.
    pub fn is_on(&self) -> bool {
        self.0.on.get().is_some()
    }

    /// Shows `text` after `prefix`, which belongs to `key` (a service): equal keys have equal colours.
    pub fn show(&self, key: &str, prefix: &str, tone: Tone, text: &str) {
        let Some(on) = self.0.on.get() else { return };
        let line = format_line(key, prefix, tone, text, on.colour);
        if let Err(TrySendError::Full(_)) = on.lines.try_send(line) {
            self.0.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn format_line(key: &str, prefix: &str, tone: Tone, text: &str, colour: bool) -> String {
    if !colour {
        return format!("{prefix} | {text}\n");
    }
    let code = match tone {
        Tone::Service => {
            let sum = key.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
            SERVICE_COLOURS[sum % SERVICE_COLOURS.len()]
        }
        Tone::Plain => "1",
        Tone::Warning => "1;33",
        Tone::Error => "1;31",
    };
    // The reset at the end undoes what a service's own colours left on.
    format!("\x1b[{code}m{prefix} |\x1b[0m {text}\x1b[0m\n")
}

fn write_lines(queue: &Receiver<String>, left_out: &AtomicU64, mut out: impl Write) {
    while let Ok(first) = queue.recv() {
        let mut wrote = out.write_all(first.as_bytes());
        while wrote.is_ok()
            && let Ok(line) = queue.try_recv()
        {
            wrote = out.write_all(line.as_bytes());
        }
        let missing = left_out.swap(0, Ordering::Relaxed);
        if missing > 0 && wrote.is_ok() {
            wrote = writeln!(out, "handover | {missing} lines were left out here; the logs have them");
        }
        if wrote.and_then(|()| out.flush()).is_err() {
            return; // the terminal is gone for good
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_keeps_its_colour_and_plain_terminals_get_none() {
        assert_eq!(format_line("shop", "shop@1/0", Tone::Service, "hi", false), "shop@1/0 | hi\n");
        let one = format_line("shop", "shop@1/0", Tone::Service, "x", true);
        let two = format_line("shop", "shop@1/1", Tone::Service, "x", true);
        assert_eq!(one.split('m').next(), two.split('m').next());
        assert!(one.starts_with("\x1b[") && one.ends_with("\x1b[0m\n"));
    }

    #[test]
    fn what_the_terminal_did_not_take_is_counted_and_said() {
        let (lines, queue) = sync_channel(LINES_MAX);
        lines.send("a\n".to_owned()).unwrap();
        drop(lines);
        let mut out = Vec::new();
        write_lines(&queue, &AtomicU64::new(3), &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "a\nhandover | 3 lines were left out here; the logs have them\n"
        );
    }

    #[test]
    fn a_line_for_a_stopped_terminal_returns_at_once() {
        let (lines, _queue) = sync_channel(1);
        let console = Console::silent();
        console.show("shop", "shop@1/0", Tone::Service, "nobody sees this");
        console.0.on.set(Open { lines, colour: false }).unwrap();
        for _ in 0..5 {
            console.show("shop", "shop@1/0", Tone::Service, "x");
        }
        assert_eq!(console.0.left_out.load(Ordering::Relaxed), 4);
    }
}
