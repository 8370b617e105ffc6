//! Services: the release and its program, variables, readiness, stop, restart.

use std::path::{Path, PathBuf};
use std::time::Duration;

use model::id::Version;
use model::manifest::{
    Readiness, ReadinessCheck, Restart, RestartPolicy, Rollout, Service, Stop, StopSignal, Strategy, Upstream,
};

use super::super::defaults as default;
use super::super::error::Problem;
use super::super::is_inherited;
use super::super::nearest::nearest;
use super::super::raw;
use super::super::read::{Given, Named, Spot};
use super::Checks;

/// Most instances of one service.
const INSTANCES_MAX: u32 = 1000;
/// Most checks in a row.
const IN_A_ROW_MAX: u32 = 100;
/// Shorter intervals and timeouts measure the machine's load, not the service.
const CHECK_MIN: Duration = Duration::from_millis(10);
/// Shorter delays make a crash loop a busy loop.
const RESTART_DELAY_MIN: Duration = Duration::from_millis(10);
/// Variables that are filled in for every service.
const FILLED_IN: [&str; 6] = ["PORT", "VERSION", "SERVICE", "INSTANCE", "RELEASE_DIR", "HANDOVER"];
/// Variables that an instance is given by Handover, and no manifest may set.
const OURS: [&str; 4] = ["PORT", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];
/// Beginnings of such variables.
const OUR_PREFIXES: [&str; 2] = ["HANDOVER_", "LISTEN_"];
/// Ends of file names that are archives.
const ARCHIVES: [&str; 7] = [".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2", ".tar", ".zip"];

impl Checks<'_> {
    pub(super) fn service(&mut self, key: &str, spot: &Spot<raw::Service>) -> Option<Service> {
        let raw = &spot.value;
        self.required(key, spot);
        let release = self.release(key, raw);
        let version = self.version(key, raw, release.as_deref());
        let environment_inherit = self.inherited(key, &raw.environment_inherit);
        let environment = self.environment(key, &raw.environment, &environment_inherit);
        let declared: Vec<&str> = environment
            .iter()
            .map(|(name, _)| name)
            .chain(&environment_inherit)
            .map(String::as_str)
            .collect();
        let command = self.command(key, raw, release.as_deref(), &declared);
        let instances =
            self.number(&format!("{key}.instances"), &raw.instances, default::INSTANCES, 1..=INSTANCES_MAX);
        self.warn_of_one_instance(key, spot, instances);
        let readiness = self.readiness(&format!("{key}.readiness"), raw.readiness.get());
        let restart = self.restart(&format!("{key}.restart"), raw.restart.get());
        Some(Service {
            instances,
            environment,
            environment_inherit,
            readiness,
            stop: stop(raw.stop.get()),
            restart,
            upstream: self.upstream(&format!("{key}.upstream"), raw.upstream.get()),
            version_is_derived: false,
            mode: model::manifest::Mode::Proxied,
            port: None,
            environment_file: None,
            working_directory: None,
            account: None,
            umask: None,
            limits: model::manifest::Limits::default(),
            liveness: None,
            reload: None,
            hooks: model::manifest::Hooks::default(),
            depends_on: Vec::new(),
            output: model::manifest::Output::default(),
            rollout: Rollout {
                max_surge: 1,
                max_unavailable: 0,
                strategy: Strategy::BlueGreen,
                keep_warm: raw
                    .rollout
                    .get()
                    .map_or(default::KEEP_WARM, |r| or(&r.keep_warm, default::KEEP_WARM)),
            },
            release: release?,
            version: version?,
            command: command?,
        })
    }

    /// What has no default.
    fn required(&mut self, key: &str, service: &Spot<raw::Service>) {
        if service.value.release.is_absent() {
            let example = "release = \"dist/NAME-1.0.0\", the directory of its first release";
            self.missing(key, "release", &service.span, example);
        }
        if service.value.command.is_absent() {
            let example = "command = [\"./program\", \"--listen\", \"127.0.0.1:${PORT}\"]";
            self.missing(key, "command", &service.span, example);
        }
    }

    fn warn_of_one_instance(&mut self, key: &str, service: &Spot<raw::Service>, instances: u32) {
        if instances == 1 {
            let written = service.value.instances.spot().map(|spot| spot.span.clone());
            let span = written.unwrap_or_else(|| service.span.clone());
            let message = "instances = 1: a crash is then an outage until the restart";
            let problem = Problem::warning(&format!("{key}.instances"), span, message);
            self.push(problem.help("write instances = 2 or more; deploys lose nothing either way"));
        }
    }

    fn release(&mut self, key: &str, raw: &raw::Service) -> Option<PathBuf> {
        let full = format!("{key}.release");
        let spot = raw.release.spot()?;
        let text = &spot.value.0;
        let mut refuse = |message: String, label: &str, help: &str| {
            let problem = Problem::error(&full, spot.span.clone(), message).label(label);
            self.problems.push(problem.help(help));
        };
        if text.contains("://") {
            refuse(
                "a URL as `release` is not served yet".to_owned(),
                NOT_IGNORED,
                "fetch it, and name its directory",
            );
            return None;
        }
        let path = super::normal(&self.folder.join(text));
        if path.is_dir() {
            return Some(path);
        }
        if ARCHIVES.iter().any(|end| text.to_ascii_lowercase().ends_with(end)) {
            let help = "unpack it, and name the directory";
            refuse("an archive as `release` is not served yet".to_owned(), NOT_IGNORED, help);
        } else if path.exists() {
            let help = "put it into a directory of its own, and name that; the command is then \"./program\"";
            refuse("a single file as `release` is not served yet".to_owned(), NOT_IGNORED, help);
        } else {
            let help = "build it first, or correct the path; relative paths begin at the manifest's folder";
            refuse(format!("there is no directory {}", path.display()), "not found", help);
        }
        None
    }

    fn version(&mut self, key: &str, raw: &raw::Service, release: Option<&Path>) -> Option<Version> {
        let full = format!("{key}.version");
        match &raw.version {
            Given::Wrong => None,
            Given::Is(spot) => match spot.value.parse() {
                Ok(version) => Some(version),
                Err(why) => {
                    self.push(Problem::error(&full, spot.span.clone(), why.to_string()));
                    None
                }
            },
            Given::Absent => {
                let name = release?.file_name().unwrap_or_default().to_string_lossy();
                let version = name.parse().ok();
                if version.is_none() {
                    let span = raw.release.spot().map_or(0..0, |spot| spot.span.clone());
                    let message = format!("the directory's name \"{name}\" cannot be the version");
                    let problem = Problem::error(&full, span, message);
                    self.push(problem.help("add version = \"1.0.0\": letters, digits, `.`, `_`, `-`"));
                }
                version
            }
        }
    }

    fn command(
        &mut self,
        key: &str,
        raw: &raw::Service,
        release: Option<&Path>,
        declared: &[&str],
    ) -> Option<Vec<String>> {
        let full = format!("{key}.command");
        let spot = raw.command.spot()?;
        let words = &spot.value;
        let Some(program) = words.first().filter(|word| !word.value.trim().is_empty()) else {
            let problem = Problem::error(&full, spot.span.clone(), "`command` names no program");
            self.push(problem.help(
                "write the program first, such as [\"./program\", \"--listen\", \"127.0.0.1:${PORT}\"]",
            ));
            return None;
        };
        self.program(&full, program, release);
        for word in words {
            self.variables(&full, word, declared);
        }
        Some(words.iter().map(|word| word.value.clone()).collect())
    }

    /// A program named with a slash is in the release, or at an absolute path. Others are looked up at the start.
    fn program(&mut self, key: &str, program: &Spot<String>, release: Option<&Path>) {
        let text = &program.value;
        if text.contains("${") || !text.contains('/') {
            return;
        }
        let Some(release) = release else { return };
        let path = release.join(text);
        // Windows adds .exe by itself.
        if !path.is_file() && !path.with_extension("exe").is_file() {
            let path = super::normal(&path);
            let problem =
                Problem::error(key, program.span.clone(), format!("there is no program {}", path.display()));
            self.push(
                problem
                    .label("not found")
                    .help("a program with a slash in its name is looked up in the release"),
            );
        }
    }

    /// Every `${NAME}` in the text must be a variable that will be filled in. What is no name, as a shell's
    /// `${NAME:-default}`, is passed on as it is.
    fn variables(&mut self, key: &str, spot: &Spot<String>, declared: &[&str]) {
        let known = || FILLED_IN.iter().chain(declared).copied();
        for name in variables(&spot.value) {
            let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            let is_known = known().any(|known| known == name) || is_inherited(name);
            if !is_name || is_known {
                continue;
            }
            let problem = Problem::error(key, spot.span.clone(), format!("there is no variable ${{{name}}}"));
            let label = nearest(name, known())
                .map_or_else(|| "no such variable".to_owned(), |near| format!("did you mean ${{{near}}}?"));
            self.push(problem.label(label).help(format!(
                "filled in are {}, inherited variables, and those of `environment` declared before; a shell's own is \
                 written without braces, $NAME",
                FILLED_IN.join(", ")
            )));
        }
    }

    fn environment(
        &mut self,
        key: &str,
        given: &Given<Named<String>>,
        inherited: &[String],
    ) -> Vec<(String, String)> {
        let key = format!("{key}.environment");
        let mut environment: Vec<(String, String)> = Vec::new();
        let Some(spot) = given.spot() else { return environment };
        for (name, value) in &spot.value.0 {
            let full = format!("{key}.{}", name.value);
            self.variable_name(&full, name);
            if OURS.contains(&name.value.as_str()) || OUR_PREFIXES.iter().any(|p| name.value.starts_with(p)) {
                let message = format!("`{}` is set by Handover", name.value);
                self.push(
                    Problem::error(&full, name.span.clone(), message).help("give the variable another name"),
                );
            }
            if value.value.contains('\0') {
                self.push(Problem::error(
                    &full,
                    name.span.clone(),
                    "a variable cannot hold a zero character",
                ));
            }
            let before: Vec<&str> =
                environment.iter().map(|(name, _)| name).chain(inherited).map(String::as_str).collect();
            self.variables(&full, value, &before);
            environment.push((name.value.clone(), value.value.clone()));
        }
        environment
    }

    fn inherited(&mut self, key: &str, given: &Given<Vec<Spot<String>>>) -> Vec<String> {
        let full = format!("{key}.environment_inherit");
        let names = given.get().map(Vec::as_slice).unwrap_or_default();
        for name in names {
            self.variable_name(&full, name);
        }
        names.iter().map(|name| name.value.clone()).collect()
    }

    fn variable_name(&mut self, key: &str, name: &Spot<String>) {
        if name.value.is_empty() || name.value.contains(['=', '\0']) {
            let message = format!("`{}` cannot be the name of a variable", name.value.escape_default());
            self.push(Problem::error(key, name.span.clone(), message));
        }
    }

    fn readiness(&mut self, key: &str, raw: Option<&raw::Readiness>) -> Readiness {
        let absent = raw::Readiness::default();
        let raw = raw.unwrap_or(&absent);
        let at = |name: &str| format!("{key}.{name}");
        let check = self.readiness_check(key, raw);
        Readiness {
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
        }
    }

    fn readiness_check(&mut self, key: &str, raw: &raw::Readiness) -> ReadinessCheck {
        let mut chosen: Vec<(&str, std::ops::Range<usize>)> = Vec::new();
        let mut check = ReadinessCheck::Tcp;
        if let Some(path) = raw.http.spot() {
            chosen.push(("http", path.span.clone()));
            if let Some(path) = self.path(&format!("{key}.http"), path) {
                check = ReadinessCheck::Http(path);
            }
        }
        if let Some(spot) = raw.tcp.spot().filter(|spot| spot.value) {
            chosen.push(("tcp", spot.span.clone()));
        }
        if let Some(spot) = raw.notify.spot().filter(|spot| spot.value) {
            chosen.push(("notify", spot.span.clone()));
            check = ReadinessCheck::Notify;
        }
        if let [(first, first_span), (second, second_span), ..] = chosen.as_slice() {
            let message = format!("`{first}` and `{second}` cannot both decide readiness");
            let problem = Problem::error(&format!("{key}.{second}"), second_span.clone(), message);
            self.push(
                problem.and(first_span.clone(), "").help("keep the one that says most: `http`, or `notify`"),
            );
        }
        check
    }

    fn restart(&mut self, key: &str, raw: Option<&raw::Restart>) -> Restart {
        let absent = raw::Restart::default();
        let raw = raw.unwrap_or(&absent);
        let delay =
            self.duration(&format!("{key}.delay"), &raw.delay, default::RESTART_DELAY, RESTART_DELAY_MIN);
        // A longer delay than the default's end is then also its own end.
        let max_delay = or(&raw.max_delay, default::RESTART_MAX_DELAY.max(delay));
        if max_delay < delay {
            let span = raw.max_delay.spot().map_or(0..0, |spot| spot.span.clone());
            let problem = Problem::error(&format!("{key}.max_delay"), span, "`max_delay` is below `delay`");
            self.push(problem.help("the delay grows from `delay` to `max_delay`"));
        }
        Restart {
            policy: match raw.policy.or(raw::RestartPolicy::Always) {
                raw::RestartPolicy::Always => RestartPolicy::Always,
                raw::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
                raw::RestartPolicy::Never => RestartPolicy::Never,
            },
            delay,
            max_delay,
            reset_after: or(&raw.reset_after, default::RESTART_RESET_AFTER),
            success_codes: Vec::new(),
            restart_codes: Vec::new(),
            stop_codes: Vec::new(),
            unready_after: Duration::from_secs(300),
        }
    }

    fn upstream(&mut self, key: &str, raw: Option<&raw::Upstream>) -> Upstream {
        let absent = raw::Upstream::default();
        let raw = raw.unwrap_or(&absent);
        let mut wait =
            |name: &str, given, default| self.duration(&format!("{key}.{name}"), given, default, CHECK_MIN);
        Upstream {
            connect_timeout: wait("connect_timeout", &raw.connect_timeout, default::CONNECT_TIMEOUT),
            response_timeout: wait("response_timeout", &raw.response_timeout, default::RESPONSE_TIMEOUT),
            idle_reuse: or(&raw.idle_reuse, default::IDLE_REUSE),
        }
    }
}

const NOT_IGNORED: &str = "refused, so that nothing is silently ignored";

fn or(given: &Given<super::Span>, default: Duration) -> Duration {
    given.get().map_or(default, |span| span.0)
}

fn stop(raw: Option<&raw::Stop>) -> Stop {
    let absent = raw::Stop::default();
    let raw = raw.unwrap_or(&absent);
    Stop {
        signal: match raw.signal.or(raw::Signal::Graceful) {
            raw::Signal::Graceful | raw::Signal::Terminate => StopSignal::Graceful,
            raw::Signal::Interrupt => StopSignal::Interrupt,
            raw::Signal::Quit => StopSignal::Quit,
            raw::Signal::HangUp => StopSignal::HangUp,
            raw::Signal::User1 => StopSignal::User1,
            raw::Signal::User2 => StopSignal::User2,
            raw::Signal::Kill => StopSignal::Kill,
        },
        drain_timeout: or(&raw.drain_timeout, default::DRAIN_TIMEOUT),
        grace_period: or(&raw.grace_period, default::GRACE_PERIOD),
    }
}

/// What stands in `${…}`, in order.
fn variables(text: &str) -> Vec<&str> {
    text.split("${").skip(1).filter_map(|after| after.split_once('}').map(|(name, _)| name)).collect()
}
