//! The role's own log lines: to `logs/handover.log`, each marked with the role and its process.
//!
//! `HANDOVER_LOG` says how much, as `info` or `drivers=debug`; without it `info`.

use std::fmt;
use std::sync::Mutex;

use host::paths::Layout;
use telemetry::rotate::Limits;
use telemetry::shared_log::SharedLog;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How much of the own log is kept.
const LIMITS: Limits = Limits { file_bytes: 10 << 20, files: 4 };
/// Says how much is logged.
const VARIABLE: &str = "HANDOVER_LOG";

/// `2026-11-22T17:00:00.123Z  INFO agent-3[17]: what happened service="shop"`.
struct Line {
    role: String,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let stamp = telemetry::stamp::utc(host::clock::wall_ms());
        write!(out, "{stamp} {:>5} {}: ", event.metadata().level(), self.role)?;
        context.format_fields(out.by_ref(), event)?;
        writeln!(out)
    }
}

/// From here on what the role says goes to the log.
pub(super) fn start(layout: &Layout, role: &str, generation: u64) {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_unset| EnvFilter::new("info"));
    let log = SharedLog::new(layout.own_log(), LIMITS);
    let role = format!("{role}-{generation}[{}]", host::process::current_pid());
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .event_format(Line { role })
        .with_writer(Mutex::new(log))
        .try_init();
    if let Err(error) = started {
        tracing::debug!(%error, "a log was there already");
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}
