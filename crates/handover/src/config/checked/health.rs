//! Readiness and liveness: one thing decides, and it must be able to.

use std::ops::Range;
use std::time::Duration;

use model::manifest::{Liveness, LivenessCheck, Readiness, ReadinessCheck};

use super::super::defaults as default;
use super::super::error::Problem;
use super::super::raw;
use super::super::read::{Given, Spot};
use super::super::values::Span;
use super::Checks;
use super::program::Scene;

/// Most checks in a row.
pub(super) const IN_A_ROW_MAX: u32 = 100;
/// Shorter intervals and timeouts measure the machine's load, not the service.
pub(super) const CHECK_MIN: Duration = Duration::from_millis(10);
/// A shorter silence is what a busy machine does to a healthy program.
const WATCHDOG_MIN: Duration = Duration::from_millis(100);
/// Longer expressions are programs.
const EXPRESSION_BYTES_MAX: usize = 1000;

const NO_PORT_HELP: &str = "a worker has no port: use `notify = true`, `log`, `command` or `alive_for`";
const NO_PORT_LIVENESS_HELP: &str = "a worker has no port: use `command` or `watchdog = true`";

impl Checks<'_> {
    pub(super) fn readiness(&mut self, key: &str, raw: Option<&raw::Readiness>, scene: &Scene) -> Readiness {
        let absent = raw::Readiness::default();
        let raw = raw.unwrap_or(&absent);
        let at = |name: &str| format!("{key}.{name}");
        let check = self.readiness_check(key, raw, scene);
        let readiness = Readiness {
            check,
            interval: self.duration(&at("interval"), &raw.interval, default::READINESS_INTERVAL, CHECK_MIN),
            timeout: self.duration(&at("timeout"), &raw.timeout, default::READINESS_TIMEOUT, CHECK_MIN),
            rise: self.number(&at("rise"), &raw.rise, default::READINESS_RISE, 1..=IN_A_ROW_MAX),
            fall: self.number(&at("fall"), &raw.fall, default::READINESS_FALL, 1..=IN_A_ROW_MAX),
            startup_timeout: self.duration(
                &at("startup_timeout"),
                &raw.startup_timeout,
                default::STARTUP_TIMEOUT,
                CHECK_MIN,
            ),
        };
        if let (ReadinessCheck::AliveFor(alive), Some(spot)) = (&readiness.check, raw.alive_for.spot())
            && *alive >= readiness.startup_timeout
        {
            let message = "`alive_for` is not below `startup_timeout`: it would never be ready";
            let problem = Problem::error(&at("alive_for"), spot.span.clone(), message);
            self.push(problem.help("write a shorter `alive_for`, or a longer `startup_timeout`"));
        }
        readiness
    }

    fn readiness_check(&mut self, key: &str, raw: &raw::Readiness, scene: &Scene) -> ReadinessCheck {
        let at = |name: &str| format!("{key}.{name}");
        let mut chosen = Chosen::default();
        let mut check = if scene.is_worker {
            ReadinessCheck::AliveFor(default::WORKER_ALIVE_FOR)
        } else {
            ReadinessCheck::Tcp
        };
        if let Some(path) = raw.http.spot() {
            chosen.note("http", path.span.clone());
            if let Some(path) = self.path(&at("http"), path) {
                check = ReadinessCheck::Http(path);
            }
            self.needs_port(&at("http"), path, scene, NO_PORT_HELP);
        }
        if let Some(spot) = raw.tcp.spot().filter(|spot| spot.value) {
            chosen.note("tcp", spot.span.clone());
            self.needs_port(&at("tcp"), spot, scene, NO_PORT_HELP);
        }
        if let Some(spot) = raw.notify.spot().filter(|spot| spot.value) {
            chosen.note("notify", spot.span.clone());
            check = ReadinessCheck::Notify;
        }
        if let Some(spot) = raw.log.spot() {
            chosen.note("log", spot.span.clone());
            self.expression(&at("log"), spot);
            check = ReadinessCheck::Log(spot.value.clone());
        }
        if let Some(spot) = raw.command.spot() {
            chosen.note("command", spot.span.clone());
            if let Some(command) = self.command(&at("command"), &raw.command, scene) {
                check = ReadinessCheck::Command(command);
            }
        }
        if let Some(Spot { value: Span(span), span: place }) = raw.alive_for.spot() {
            chosen.note("alive_for", place.clone());
            let least = self.duration(&at("alive_for"), &raw.alive_for, *span, CHECK_MIN);
            check = ReadinessCheck::AliveFor(least);
        }
        self.only_one(key, "readiness", &chosen, "keep the one that says most: `http`, or `notify`");
        check
    }

    pub(super) fn liveness(
        &mut self,
        key: &str,
        given: &Given<raw::Liveness>,
        scene: &Scene,
    ) -> Option<Liveness> {
        let spot = given.spot()?;
        let raw = &spot.value;
        let at = |name: &str| format!("{key}.{name}");
        let mut chosen = Chosen::default();
        let mut check = None;
        if let Some(path) = raw.http.spot() {
            chosen.note("http", path.span.clone());
            check = self.path(&at("http"), path).map(LivenessCheck::Http);
            self.needs_port(&at("http"), path, scene, NO_PORT_LIVENESS_HELP);
        }
        if let Some(spot) = raw.tcp.spot().filter(|spot| spot.value) {
            chosen.note("tcp", spot.span.clone());
            check = Some(LivenessCheck::Tcp);
            self.needs_port(&at("tcp"), spot, scene, NO_PORT_LIVENESS_HELP);
        }
        if let Some(spot) = raw.command.spot() {
            chosen.note("command", spot.span.clone());
            check = self.command(&at("command"), &raw.command, scene).map(LivenessCheck::Command);
        }
        if let Some(spot) = raw.watchdog.spot().filter(|spot| spot.value) {
            chosen.note("watchdog", spot.span.clone());
            check = Some(LivenessCheck::Watchdog);
        }
        self.only_one(key, "liveness", &chosen, "keep the one that says most: `http`, or `watchdog`");
        let is_wrong = matches!(raw.http, Given::Wrong) || matches!(raw.command, Given::Wrong);
        if chosen.0.is_empty() && !is_wrong {
            let problem = Problem::error(key, spot.span.clone(), "`liveness` says nothing to check");
            self.push(problem.help(
                "add one of: http = \"/healthz\", tcp = true, command = [\"./alive\"], watchdog = true",
            ));
        }
        let is_watchdog = check == Some(LivenessCheck::Watchdog);
        if is_watchdog {
            self.watchdog_needs_no(&at("timeout"), &raw.timeout);
            self.watchdog_needs_no(&at("fall"), &raw.fall);
        }
        let least = if is_watchdog { WATCHDOG_MIN } else { CHECK_MIN };
        let fall = self.number(&at("fall"), &raw.fall, default::LIVENESS_FALL, 1..=IN_A_ROW_MAX);
        Some(Liveness {
            check: check?,
            interval: self.duration(&at("interval"), &raw.interval, default::LIVENESS_INTERVAL, least),
            timeout: self.duration(&at("timeout"), &raw.timeout, default::LIVENESS_TIMEOUT, CHECK_MIN),
            fall: if is_watchdog { 1 } else { fall },
        })
    }

    fn watchdog_needs_no<T>(&mut self, key: &str, given: &Given<T>) {
        if let Some(spot) = given.spot() {
            let message = format!("`{}` has no meaning with `watchdog`", super::last(key));
            let problem = Problem::error(key, spot.span.clone(), message);
            self.push(problem.help("take it out: a silence longer than `interval` is one too long"));
        }
    }

    fn needs_port<T>(&mut self, key: &str, spot: &Spot<T>, scene: &Scene, help: &str) {
        if scene.is_worker {
            let message = format!("`{}` cannot be checked: it is a worker", super::last(key));
            self.push(Problem::error(key, spot.span.clone(), message).help(help));
        }
    }

    fn only_one(&mut self, key: &str, what: &str, chosen: &Chosen, help: &str) {
        if let [(first, first_span), (second, second_span), ..] = chosen.0.as_slice() {
            let message = format!("`{first}` and `{second}` cannot both decide {what}");
            let problem = Problem::error(&format!("{key}.{second}"), second_span.clone(), message);
            self.push(problem.and(first_span.clone(), "").help(help));
        }
    }

    fn expression(&mut self, key: &str, spot: &Spot<String>) {
        let text = &spot.value;
        let problem = |why: String| Problem::error(key, spot.span.clone(), why);
        if text.is_empty() {
            let problem = problem("an empty `log` matches every line".to_owned());
            self.push(problem.help("write a part of the line that says ready, such as \"listening on\""));
        } else if text.len() > EXPRESSION_BYTES_MAX {
            self.push(problem(format!("`log` is longer than {EXPRESSION_BYTES_MAX} bytes")));
        } else if let Err(why) = regex_lite::Regex::new(text) {
            let problem = problem(format!("`log` is not a regular expression: {why}"));
            self.push(problem.help(
                "put a backslash before . ( ) [ ] { } * + ? | ^ $ that stand for themselves, and the whole into single quotes",
            ));
        }
    }
}

/// What was named to decide, and where.
#[derive(Debug, Default)]
struct Chosen(Vec<(&'static str, Range<usize>)>);

impl Chosen {
    fn note(&mut self, name: &'static str, span: Range<usize>) {
        self.0.push((name, span));
    }
}
