//! What people get to see: notices on the terminal of `up`, and in Handover's own log as one line each, with service,
//! rollout and release as fields.

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
        let (rollout, release, text) = (notice.rollout, notice.release.as_deref(), &notice.text);
        let tone = match notice.severity {
            Severity::Info => {
                tracing::info!(service, rollout, release, "{text}");
                Tone::Plain
            }
            Severity::Warning => {
                tracing::warn!(service, rollout, release, "{text}");
                Tone::Warning
            }
            Severity::Error => {
                tracing::error!(service, rollout, release, "{text}");
                Tone::Error
            }
        };
        let prefix = service.map_or_else(|| "handover".to_owned(), |service| format!("handover {service}"));
        self.console.show("handover", &prefix, tone, text);
    }
}
