//! The life of an instance: stop, restart, reload, hooks, output.

use std::time::Duration;

use model::manifest::{Hook, Hooks, Output, Reload, ReloadBy, Restart, RestartPolicy, Stop, StopSignal};

use super::super::defaults as default;
use super::super::error::Problem;
use super::super::raw;
use super::super::read::{Given, Spot};
use super::Checks;
use super::health::CHECK_MIN;
use super::program::Scene;

/// Shorter delays make a crash loop a busy loop.
const RESTART_DELAY_MIN: Duration = Duration::from_millis(10);
/// A process ends with no larger code.
const EXIT_CODE_MAX: u64 = 255;
/// Smaller files are mostly names of files.
const OUTPUT_SIZE_MIN: u64 = 4 << 10;
/// 1 TiB.
const OUTPUT_SIZE_MAX: u64 = 1 << 40;
/// Shorter ages make a file for a handful of lines.
const OUTPUT_AGE_MIN: Duration = Duration::from_secs(60);
/// Most files of one service.
const OUTPUT_FILES_MAX: u32 = 1000;

pub(super) fn or(given: &Given<super::Span>, default: Duration) -> Duration {
    given.get().map_or(default, |span| span.0)
}

pub(super) fn stop(raw: Option<&raw::Stop>) -> Stop {
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
            raw::Signal::Abort => StopSignal::Abort,
            raw::Signal::Kill => StopSignal::Kill,
        },
        drain_timeout: or(&raw.drain_timeout, default::DRAIN_TIMEOUT),
        grace_period: or(&raw.grace_period, default::GRACE_PERIOD),
    }
}

impl Checks<'_> {
    pub(super) fn restart(&mut self, key: &str, raw: Option<&raw::Restart>, is_worker: bool) -> Restart {
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
        let usual = if is_worker { raw::RestartPolicy::OnFailure } else { raw::RestartPolicy::Always };
        let restart_codes = self.codes(&format!("{key}.restart_codes"), &raw.restart_codes);
        self.codes_in_both(key, raw);
        Restart {
            policy: match raw.policy.or(usual) {
                raw::RestartPolicy::Always => RestartPolicy::Always,
                raw::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
                raw::RestartPolicy::Never => RestartPolicy::Never,
            },
            delay,
            max_delay,
            reset_after: or(&raw.reset_after, default::RESTART_RESET_AFTER),
            success_codes: self.codes(&format!("{key}.success_codes"), &raw.success_codes),
            restart_codes,
            stop_codes: self.codes(&format!("{key}.stop_codes"), &raw.stop_codes),
            unready_after: or(&raw.unready_after, default::UNREADY_AFTER),
        }
    }

    fn codes(&mut self, key: &str, given: &Given<Vec<Spot<u64>>>) -> Vec<i32> {
        let mut codes = Vec::new();
        for spot in given.get().into_iter().flatten() {
            match i32::try_from(spot.value).ok().filter(|_| spot.value <= EXIT_CODE_MAX) {
                Some(code) => codes.push(code),
                None => {
                    let message = format!("an exit code is 0 to {EXIT_CODE_MAX}");
                    self.push(Problem::error(key, spot.span.clone(), message));
                }
            }
        }
        codes
    }

    fn codes_in_both(&mut self, key: &str, raw: &raw::Restart) {
        let stopping = raw.stop_codes.get().map(Vec::as_slice).unwrap_or_default();
        for spot in raw.restart_codes.get().into_iter().flatten() {
            if let Some(other) = stopping.iter().find(|other| other.value == spot.value) {
                let message = format!("{} cannot both restart it and keep it down", spot.value);
                let problem = Problem::error(&format!("{key}.restart_codes"), spot.span.clone(), message);
                self.push(problem.and(other.span.clone(), "here it stays down").help("keep one of the two"));
            }
        }
    }

    pub(super) fn reload(&mut self, key: &str, given: &Given<raw::Reload>, scene: &Scene) -> Option<Reload> {
        let spot = given.spot()?;
        let raw = &spot.value;
        if let (Some(signal), Some(command)) = (raw.signal.spot(), raw.command.spot()) {
            let message = "`signal` and `command` cannot both reload it";
            let problem = Problem::error(&format!("{key}.command"), command.span.clone(), message);
            self.push(
                problem.and(signal.span.clone(), "").help("keep one: the command may send signals itself"),
            );
        }
        if raw.signal.is_absent() && raw.command.is_absent() {
            let problem = Problem::error(key, spot.span.clone(), "`reload` says nothing to do");
            self.push(problem.help("add signal = \"SIGHUP\", or command = [\"./reload\"]"));
        }
        let signal = raw.signal.get().map(|signal| match signal {
            raw::ReloadSignal::HangUp => StopSignal::HangUp,
            raw::ReloadSignal::User1 => StopSignal::User1,
            raw::ReloadSignal::User2 => StopSignal::User2,
        });
        let command = self.command(&format!("{key}.command"), &raw.command, scene);
        Some(Reload {
            timeout: self.duration(
                &format!("{key}.timeout"),
                &raw.timeout,
                default::RELOAD_TIMEOUT,
                CHECK_MIN,
            ),
            by: signal.map(ReloadBy::Signal).or(command.map(ReloadBy::Command))?,
        })
    }

    pub(super) fn hooks(&mut self, key: &str, raw: Option<&raw::Hooks>, scene: &Scene) -> Hooks {
        let Some(raw) = raw else { return Hooks::default() };
        let mut hook = |name: &str, given| self.hook(&format!("{key}.{name}"), given, scene);
        Hooks {
            before_start: hook("before_start", &raw.before_start),
            after_ready: hook("after_ready", &raw.after_ready),
            before_stop: hook("before_stop", &raw.before_stop),
            after_exit: hook("after_exit", &raw.after_exit),
        }
    }

    fn hook(&mut self, key: &str, given: &Given<raw::Hook>, scene: &Scene) -> Option<Hook> {
        let spot = given.spot()?;
        if spot.value.command.is_absent() {
            self.missing(key, "command", &spot.span, "command = [\"./program\"], its program and arguments");
        }
        let timeout = &spot.value.timeout;
        let timeout = self.duration(&format!("{key}.timeout"), timeout, default::HOOK_TIMEOUT, CHECK_MIN);
        Some(Hook { timeout, command: self.command(&format!("{key}.command"), &spot.value.command, scene)? })
    }

    pub(super) fn output(&mut self, key: &str, raw: Option<&raw::Output>) -> Output {
        let absent = raw::Output::default();
        let raw = raw.unwrap_or(&absent);
        let sizes = OUTPUT_SIZE_MIN..=OUTPUT_SIZE_MAX;
        let max_age = raw.max_age.get().map(|age| {
            self.duration(&format!("{key}.max_age"), &raw.max_age, age.0.max(OUTPUT_AGE_MIN), OUTPUT_AGE_MIN)
        });
        Output {
            max_size: self.size(&format!("{key}.max_size"), &raw.max_size, default::OUTPUT_MAX_SIZE, sizes),
            max_age,
            files: self.number(
                &format!("{key}.files"),
                &raw.files,
                default::OUTPUT_FILES,
                1..=OUTPUT_FILES_MAX,
            ),
        }
    }
}
