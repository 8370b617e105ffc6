//! Readers of the notify sockets: sd_notify's lines become `Notified`.
//!
//! ```text
//!  datagram ──peek──► what holds on is noted in a file ──take──► told
//! ```
//! The sockets are the holder's; we read from copies, so a datagram that nobody has taken yet waits for the next
//! agent. What was taken is noted: that one is told it again, once, after its first inventory. WATCHDOG and
//! EXTEND_TIMEOUT_USEC are said again soon, so nobody notes them. Lines that are not known, and values that are not
//! what they should be, are ignored.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::world::{Event, Notified};
use host::Descriptor;
use host::notify::{DATAGRAM_BYTES_MAX, NotifySocket};
use model::id::InstanceId;
use tokio::task::JoinHandle;

use crate::Events;
use crate::starting::Starting;

/// A status is cut here.
const STATUS_CHARS_MAX: usize = 200;
/// Datagrams that one instance may have heard in a second; more wait in its socket, and then in itself.
const DATAGRAMS_PER_SECOND_MAX: u32 = 100;

#[derive(Debug, Default)]
pub(crate) struct Readers(BTreeMap<String, JoinHandle<()>>);

/// What readers share.
#[derive(Debug, Clone)]
pub(crate) struct Ears {
    /// Folder of the notes.
    pub(crate) notes: PathBuf,
    pub(crate) starting: Starting,
    pub(crate) events: Events,
}

impl Readers {
    /// Reads from `socket` in place of an older one of the same instance.
    pub(crate) fn start(&mut self, name: &str, socket: &Descriptor, ears: Ears) {
        self.stop(name);
        let (Ok(instance), Ok(socket)) = (name.parse::<InstanceId>(), NotifySocket::from_descriptor(socket))
        else {
            tracing::error!(instance = name, "its notify socket cannot be read");
            return;
        };
        self.0.insert(name.to_owned(), tokio::task::spawn_local(ears.listen(instance, socket)));
    }

    pub(crate) fn stop(&mut self, name: &str) {
        if let Some(task) = self.0.remove(name) {
            task.abort();
        }
    }
}

impl Ears {
    async fn listen(self, instance: InstanceId, socket: NotifySocket) {
        let path = note_path(&self.notes, &instance);
        let mut known = read_note(&path);
        let mut second = (tokio::time::Instant::now(), 0);
        while let Ok(datagram) = socket.peek().await {
            let said = parse(&datagram);
            let before = known.clone();
            known.hear(&said);
            if known != before
                && let Err(error) = host::file::replace_private(&path, known.encode().as_bytes())
            {
                tracing::warn!(%instance, %error, "what it said is not noted for a next agent");
            }
            socket.take();
            if said.ready {
                self.starting.forget(&instance);
            }
            if said != Notified::default() {
                let said = Event::Notified { instance: instance.clone(), said };
                let _ = self.events.send(said).await;
            }
            second.1 += 1;
            if second.0.elapsed() >= Duration::from_secs(1) {
                second = (tokio::time::Instant::now(), 0);
            } else if second.1 >= DATAGRAMS_PER_SECOND_MAX {
                tokio::time::sleep_until(second.0 + Duration::from_secs(1)).await;
            }
        }
    }
}

/// What holds on of all that one process has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Said(Notified);

impl Said {
    fn hear(&mut self, said: &Notified) {
        // A datagram that says both has reloaded.
        if said.reloading {
            self.0.reloading = true;
        }
        if said.ready {
            (self.0.ready, self.0.reloading) = (true, false);
        }
        self.0.stopping |= said.stopping;
        self.0.main_pid = said.main_pid.or(self.0.main_pid);
        if said.status.is_some() {
            self.0.status.clone_from(&said.status);
        }
    }

    fn encode(&self) -> String {
        let mut text = String::new();
        for (is_so, line) in [
            (self.0.ready, "READY=1\n"),
            (self.0.reloading, "RELOADING=1\n"),
            (self.0.stopping, "STOPPING=1\n"),
        ] {
            text.push_str(if is_so { line } else { "" });
        }
        if let Some(pid) = self.0.main_pid {
            let _ = writeln!(text, "MAINPID={pid}");
        }
        if let Some(status) = &self.0.status {
            let _ = writeln!(text, "STATUS={status}");
        }
        text
    }
}

fn note_path(notes: &Path, instance: &InstanceId) -> PathBuf {
    notes.join(format!("{}.said", instance.file_name()))
}

fn read_note(path: &Path) -> Said {
    Said(std::fs::read(path).map(|bytes| parse(&bytes)).unwrap_or_default())
}

/// What a process that still runs has said to a former agent, if anything. `pid` is its main process by now.
pub(crate) fn noted(notes: &Path, instance: &InstanceId, pid: u32) -> Option<Notified> {
    let Said(mut said) = read_note(&note_path(notes, instance));
    said.main_pid = said.main_pid.filter(|main| *main != pid);
    (said != Notified::default()).then_some(said)
}

/// The slot's next process has said nothing yet.
pub(crate) fn forget(notes: &Path, instance: &InstanceId) {
    let _ = std::fs::remove_file(note_path(notes, instance));
}

/// Removes notes about others than these.
pub(crate) fn sweep(notes: &Path, known: &[InstanceId]) {
    let known: Vec<PathBuf> = known.iter().map(|instance| note_path(notes, instance)).collect();
    for entry in std::fs::read_dir(notes).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "said") && !known.contains(&path) {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn parse(datagram: &[u8]) -> Notified {
    let mut said = Notified::default();
    let mut lines = datagram.split(|byte| *byte == b'\n');
    if datagram.len() >= DATAGRAM_BYTES_MAX {
        lines.next_back(); // it may be cut
    }
    for line in lines {
        let Some((name, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once('=')) else {
            continue;
        };
        match (name, value) {
            ("READY", "1") => said.ready = true,
            ("RELOADING", "1") => said.reloading = true,
            ("STOPPING", "1") => said.stopping = true,
            ("WATCHDOG", "1") => said.watchdog = true,
            ("EXTEND_TIMEOUT_USEC", value) => {
                said.extend_timeout = number(value).map(Duration::from_micros).or(said.extend_timeout);
            }
            ("MAINPID", value) => {
                let pid = number(value).and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
                said.main_pid = pid.or(said.main_pid);
            }
            ("STATUS", value) => said.status = Some(short(value)),
            _ => {}
        }
    }
    said
}

/// Digits and nothing else: no sign, no space.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn short(status: &str) -> String {
    let plain = status.chars().map(|c| if c.is_control() { ' ' } else { c });
    let cut: String = plain.take(STATUS_CHARS_MAX).collect();
    cut.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(datagram: &str) -> Notified {
        parse(datagram.as_bytes())
    }

    #[test]
    fn every_line_that_is_known_is_heard() {
        let all = "RELOADING=1\nSTOPPING=1\nWATCHDOG=1\nREADY=1\nMAINPID=17\nEXTEND_TIMEOUT_USEC=1500000\nSTATUS= warm\tup \n";
        let expected = Notified {
            ready: true,
            reloading: true,
            stopping: true,
            watchdog: true,
            extend_timeout: Some(Duration::from_millis(1_500)),
            main_pid: Some(17),
            status: Some("warm up".into()),
        };
        assert_eq!(said(all), expected);
    }

    #[test]
    fn what_is_not_exactly_so_is_ignored() {
        for other in [
            "",
            "READY=0",
            "READY=1 ",
            "XREADY=1",
            "READY",
            "WATCHDOG=trigger",
            "MAINPID=0",
            "MAINPID=+5",
            "MAINPID= 5",
            "MAINPID=99999999999",
            "EXTEND_TIMEOUT_USEC=-1",
            "EXTEND_TIMEOUT_USEC=99999999999999999999",
            "FDSTORE=1",
            "BARRIER=1",
        ] {
            assert_eq!(said(other), Notified::default(), "{other}");
        }
        assert_eq!(parse(b"STATUS=\xFF\nREADY=1"), Notified { ready: true, ..Notified::default() });
        assert_eq!(said("STATUS=READY=1").status.as_deref(), Some("READY=1"));
    }

    #[test]
    fn a_status_is_cut_and_a_cut_datagram_loses_its_last_line() {
        let long = said(&format!("STATUS={}", "ä".repeat(500))).status.unwrap();
        assert_eq!(long.chars().count(), STATUS_CHARS_MAX);
        let mut datagram = b"READY=1\nSTATUS=".to_vec();
        datagram.resize(DATAGRAM_BYTES_MAX, b'x');
        assert_eq!(parse(&datagram), Notified { ready: true, ..Notified::default() });
    }

    #[test]
    fn what_holds_on_is_there_for_a_next_agent() {
        let folder = tempfile::tempdir().unwrap();
        let instance: InstanceId = "shop@1/0".parse().unwrap();
        assert_eq!(noted(folder.path(), &instance, 1), None);
        let mut known = Said::default();
        for datagram in
            ["STATUS=warming\nWATCHDOG=1", "READY=1\nMAINPID=17", "RELOADING=1", "READY=1\nSTATUS=x"]
        {
            known.hear(&said(datagram));
        }
        std::fs::write(note_path(folder.path(), &instance), known.encode()).unwrap();
        let ready = Notified { ready: true, status: Some("x".into()), ..Notified::default() };
        assert_eq!(noted(folder.path(), &instance, 17), Some(ready.clone()));
        assert_eq!(noted(folder.path(), &instance, 9), Some(Notified { main_pid: Some(17), ..ready }));
        sweep(folder.path(), std::slice::from_ref(&instance));
        assert!(noted(folder.path(), &instance, 9).is_some());
        sweep(folder.path(), &[]);
        assert_eq!(noted(folder.path(), &instance, 9), None);
    }
}
