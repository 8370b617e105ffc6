//! Readers of the notify sockets: READY=1 is what the agent hears of.
//!
//! The sockets are the holder's; we read from copies, so a datagram that nobody has read yet waits for the
//! next agent. Everything else that sd_notify knows is ignored.

use std::collections::BTreeMap;

use agent::world::{Event, Notified};
use host::Descriptor;
use host::notify::NotifySocket;
use model::id::InstanceId;
use tokio::task::JoinHandle;

use crate::Events;
use crate::starting::Starting;

#[derive(Debug, Default)]
pub(crate) struct Readers(BTreeMap<String, JoinHandle<()>>);

impl Readers {
    /// Reads from `socket` in place of an older one of the same instance.
    pub(crate) fn start(&mut self, name: &str, socket: &Descriptor, starting: Starting, events: Events) {
        self.stop(name);
        let (Ok(instance), Ok(socket)) = (name.parse::<InstanceId>(), NotifySocket::from_descriptor(socket))
        else {
            tracing::error!(instance = name, "its notify socket cannot be read");
            return;
        };
        let task = tokio::task::spawn_local(async move {
            while let Ok(datagram) = socket.recv().await {
                if says_ready(&datagram) {
                    starting.forget(&instance);
                    let _ = events
                        .send(Event::Notified {
                            instance: instance.clone(),
                            said: Notified { ready: true, ..Notified::default() },
                        })
                        .await;
                }
            }
        });
        self.0.insert(name.to_owned(), task);
    }

    pub(crate) fn stop(&mut self, name: &str) {
        if let Some(task) = self.0.remove(name) {
            task.abort();
        }
    }
}

fn says_ready(datagram: &[u8]) -> bool {
    datagram.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

#[cfg(test)]
mod tests {
    use super::says_ready;

    #[test]
    fn ready_is_one_line_among_others() {
        assert!(says_ready(b"STATUS=warming\nREADY=1\n"));
        assert!(says_ready(b"READY=1"));
        for other in [b"READY=0".as_slice(), b"STATUS=READY=1", b"XREADY=1", b""] {
            assert!(!says_ready(other));
        }
    }
}
