//! What people get to see: notices on the terminal of `up` and in Handover's own log.

use agent::world::{Notice, Notify, Severity};
use telemetry::console::{Console, Tone};

/// Tells people.
#[derive(Debug)]
pub struct People {
    console: Console,
}

impl People {
    /// Notices go to `console` too.
    pub fn new(console: Console) -> Self {
        Self { console }
    }
}

impl Notify for People {
    fn announce(&mut self, notice: &Notice) {
        let service = notice.service.as_ref().map(|service| service.as_str());
        let tone = match notice.severity {
            Severity::Info => {
                tracing::info!(service, rollout = notice.rollout, "{}", notice.text);
                Tone::Plain
            }
            Severity::Warning => {
                tracing::warn!(service, rollout = notice.rollout, "{}", notice.text);
                Tone::Warning
            }
            Severity::Error => {
                tracing::error!(service, rollout = notice.rollout, "{}", notice.text);
                Tone::Error
            }
        };
        let prefix = service.map_or_else(|| "handover".to_owned(), |service| format!("handover {service}"));
        self.console.show("handover", &prefix, tone, &notice.text);
    }
}
