//! A role's own log lines: to `logs/handover.log`, each marked with the role and its process.
//!
//! ```text
//!  manifest `[log]` ──► agent ──► run/log ──► every role, at its next line a second later
//! ```
//! `HANDOVER_LOG` overrules the level, as `debug` or `drivers=debug`; it holds for as long as the role does.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use host::clock::MonotonicClock;
use host::paths::Layout;
use model::manifest::{LogFormat, LogLevel};
use serde_json::{Map, Value};
use telemetry::own_log;
use telemetry::rotate::Limits;
use telemetry::shared_log::SharedLog;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{EnvFilter, Registry};

/// How much of the own log is kept.
const LIMITS: Limits = Limits { file_bytes: 10 << 20, file_age: None, files: 4 };
/// Says how much is logged.
const VARIABLE: &str = "HANDOVER_LOG";
/// Between two looks at what the agent says about the log.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How the log is to be kept, looked at now and then.
#[derive(Debug)]
struct Wanted {
    run_dir: PathBuf,
    clock: MonotonicClock,
    looked_ms: AtomicU64,
    json: AtomicBool,
    level: AtomicU8,
}

impl Wanted {
    fn new(layout: &Layout) -> Self {
        let wanted = Self {
            run_dir: layout.run_dir.clone(),
            clock: MonotonicClock::start(),
            looked_ms: AtomicU64::new(0),
            json: AtomicBool::new(false),
            level: AtomicU8::new(rank(Level::INFO)),
        };
        wanted.read();
        wanted
    }

    fn read(&self) {
        let log = own_log::read(&self.run_dir).unwrap_or_default();
        let level = match log.level {
            LogLevel::Error => Level::ERROR,
            LogLevel::Warn => Level::WARN,
            LogLevel::Info => Level::INFO,
            LogLevel::Debug => Level::DEBUG,
        };
        self.json.store(log.format == LogFormat::Json, Ordering::Relaxed);
        self.level.store(rank(level), Ordering::Relaxed);
    }

    fn wants(&self, level: Level) -> bool {
        let now = u64::try_from(self.clock.now().as_millis()).unwrap_or(u64::MAX);
        let last = self.looked_ms.load(Ordering::Relaxed);
        if u128::from(now.saturating_sub(last)) >= LOOK_INTERVAL.as_millis() {
            self.looked_ms.store(now, Ordering::Relaxed);
            self.read();
        }
        rank(level) <= self.level.load(Ordering::Relaxed)
    }
}

/// The more there is of it, the higher.
fn rank(level: Level) -> u8 {
    [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG]
        .into_iter()
        .take_while(|known| *known < level)
        .map(|_| 1)
        .sum()
}

/// `2026-11-22T17:00:00.123Z  INFO agent-3[17]: what happened service="shop"`, or the same as JSON:
/// `{"at":"…","level":"info","role":"agent","generation":3,"pid":17,"message":"what happened","service":"shop"}`.
struct Line {
    role: String,
    generation: u64,
    wanted: Arc<Wanted>,
}

impl Line {
    fn json(&self, event: &Event<'_>) -> Value {
        let mut fields = Fields(Map::new());
        let at = telemetry::stamp::utc(host::clock::wall_ms());
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        for (name, value) in [("at", at.into()), ("level", level.into()), ("role", self.role.clone().into())]
        {
            fields.0.insert(name.to_owned(), value);
        }
        fields.0.insert("generation".to_owned(), self.generation.into());
        fields.0.insert("pid".to_owned(), host::process::current_pid().into());
        event.record(&mut fields);
        Value::Object(fields.0)
    }
}

/// An event's fields as JSON.
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), value.into());
    }
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
        if self.wanted.json.load(Ordering::Relaxed) {
            return writeln!(out, "{}", self.json(event));
        }
        let stamp = telemetry::stamp::utc(host::clock::wall_ms());
        let (role, generation, pid) = (&self.role, self.generation, host::process::current_pid());
        write!(out, "{stamp} {:>5} {role}-{generation}[{pid}]: ", event.metadata().level())?;
        // What services and clients made us say stays on one line.
        let mut text = String::new();
        context.format_fields(Writer::new(&mut text), event)?;
        for part in text.split_inclusive('\n') {
            match part.strip_suffix('\n') {
                Some(line) => write!(out, "{line}\\n")?,
                None => out.write_str(part)?,
            }
        }
        writeln!(out)
    }
}

/// From here on what the role says goes to the log.
pub(super) fn start(layout: &Layout, role: &str, generation: u64) {
    let log = SharedLog::new(layout.own_log(), LIMITS);
    if let Err(error) = install(layout, role, generation, log) {
        tracing::debug!(%error, "a log was there already");
    }
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}

fn install(layout: &Layout, role: &str, generation: u64, log: SharedLog) -> Result<(), TryInitError> {
    let wanted = Arc::new(Wanted::new(layout));
    let line = Line { role: role.to_owned(), generation, wanted: Arc::clone(&wanted) };
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(false).event_format(line).with_writer(Mutex::new(log));
    match EnvFilter::try_from_env(VARIABLE) {
        Ok(filter) => Registry::default().with(lines.with_filter(filter)).try_init(),
        Err(_unset) => {
            let filter = dynamic_filter_fn(move |metadata, _| wanted.wants(*metadata.level()))
                .with_max_level_hint(LevelFilter::DEBUG);
            Registry::default().with(lines.with_filter(filter)).try_init()
        }
    }
}

#[cfg(test)]
mod tests {
    use model::manifest::OwnLog;

    use super::*;

    /// What is logged by `said`, with a log kept as `wanted` says.
    fn logged(wanted: OwnLog, said: impl FnOnce()) -> String {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        std::fs::create_dir(layout.logs()).unwrap();
        own_log::tell(&layout.run_dir, wanted).unwrap();
        let wanted = Arc::new(Wanted::new(&layout));
        let line = Line { role: "agent".into(), generation: 3, wanted: Arc::clone(&wanted) };
        let log = Mutex::new(SharedLog::new(layout.own_log(), LIMITS));
        let filter = dynamic_filter_fn(move |metadata, _| wanted.wants(*metadata.level()));
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).event_format(line).with_writer(log);
        tracing::subscriber::with_default(Registry::default().with(lines.with_filter(filter)), said);
        std::fs::read_to_string(layout.own_log()).unwrap_or_default()
    }

    #[test]
    fn a_line_for_people_is_one_line_whatever_is_in_it() {
        let text = logged(OwnLog::default(), || {
            tracing::info!(service = "shop", rollout = 7, "one\ntwo");
            tracing::debug!("not this");
        });
        let (_, rest) = text.split_once(' ').unwrap();
        let pid = std::process::id();
        assert_eq!(rest, format!(" INFO agent-3[{pid}]: one\\ntwo service=\"shop\" rollout=7\n"));
    }

    #[test]
    fn as_json_every_field_has_its_name_and_kind() {
        let json = OwnLog { format: LogFormat::Json, level: LogLevel::Warn };
        let service: Option<&str> = None;
        let text = logged(json, || {
            tracing::info!("not this");
            tracing::warn!(service, rollout = 7_u64, error = %"no\nroom", "it failed");
        });
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["role"]), (&"warn".into(), &"agent".into()));
        assert_eq!((&line["generation"], &line["rollout"]), (&3.into(), &7.into()));
        assert_eq!((&line["message"], &line["error"]), (&"it failed".into(), &"no\nroom".into()));
        assert!(line["at"].as_str().unwrap().ends_with('Z') && line.get("service").is_none());
    }

    #[test]
    fn a_role_that_runs_follows_what_the_manifest_says() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        let wanted = Wanted::new(&layout);
        assert!(wanted.wants(Level::INFO) && !wanted.wants(Level::DEBUG));
        own_log::tell(&layout.run_dir, OwnLog { format: LogFormat::Json, level: LogLevel::Debug }).unwrap();
        wanted.read();
        assert!(wanted.wants(Level::DEBUG) && wanted.json.load(Ordering::Relaxed));
        own_log::tell(&layout.run_dir, OwnLog { format: LogFormat::Text, level: LogLevel::Error }).unwrap();
        wanted.read();
        assert!(wanted.wants(Level::ERROR) && !wanted.wants(Level::WARN));
        assert!(!wanted.json.load(Ordering::Relaxed));
    }
}
