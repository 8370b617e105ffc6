//! Health of an instance: what makes it ready, what takes that away, and what shows that it hangs.
//!
//! One check of each purpose is under way at a time. Verdicts of the proxies' probes come as they are.

use std::time::Duration;

use crate::manifest::{Liveness, LivenessCheck, Readiness, ReadinessCheck};
use crate::streak::Streak;
use crate::time::{Instant, human};

use super::process::Process;
use super::stopping::AfterStop;
use super::{Action, Hardness, HookKind, Instance, Report, Settings, State};

/// How much later than its timeout a check is asked for again whose answer did not come.
pub(super) const CHECK_MARGIN: Duration = Duration::from_secs(5);
/// A fresh process is checked this often, where its interval is longer.
pub(super) const EAGER_INTERVAL: Duration = Duration::from_millis(250);
/// For so long after its start.
pub(super) const EAGER_TIME: Duration = Duration::from_secs(5);
/// Checks come no closer, whatever is configured.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// What a check is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckPurpose {
    /// May it take traffic.
    Readiness,
    /// Is it hung.
    Liveness,
}

/// When the next check is due, and what the former ones said.
#[derive(Debug, Clone)]
pub(super) struct Check {
    next: NextCheck,
    streak: Streak,
}

#[derive(Debug, Clone, Copy)]
enum NextCheck {
    At(Instant),
    UnderWay { give_up_at: Instant },
}

impl Check {
    fn new(at: Instant, rise: u32, fall: u32, healthy: Option<bool>) -> Self {
        Self { next: NextCheck::At(at), streak: Streak::new(rise, fall, healthy) }
    }

    pub(super) fn of_readiness(readiness: &Readiness, healthy: Option<bool>, now: Instant) -> Self {
        let at = if healthy == Some(true) { now + readiness.interval } else { now };
        Self::new(at, readiness.rise, readiness.fall, healthy)
    }

    fn due(&self) -> Instant {
        match self.next {
            NextCheck::At(at) => at,
            NextCheck::UnderWay { give_up_at } => give_up_at,
        }
    }

    /// Whether a check has to be begun now.
    fn begins(&mut self, timeout: Duration, now: Instant) -> bool {
        let is_due = self.due() <= now;
        if is_due {
            self.next = NextCheck::UnderWay { give_up_at: now + timeout + CHECK_MARGIN };
        }
        is_due
    }

    fn is_under_way(&self) -> bool {
        matches!(self.next, NextCheck::UnderWay { .. })
    }
}

/// How liveness is seen.
#[derive(Debug, Clone)]
pub(super) enum Watch {
    Off,
    Checked(Check),
    /// By signs of life of its own; when the last one came.
    Heard(Instant),
    /// As `Heard`, but it was started before that was asked of it: it counts from its first sign on.
    Unheard,
}

impl Watch {
    pub(super) fn is_by_pings(settings: &Settings) -> bool {
        settings.liveness.as_ref().is_some_and(|liveness| liveness.check == LivenessCheck::Watchdog)
    }

    pub(super) fn of_liveness(settings: &Settings, is_told_to_ping: bool, now: Instant) -> Self {
        match &settings.liveness {
            None => Self::Off,
            Some(_) if Self::is_by_pings(settings) && is_told_to_ping => Self::Heard(now),
            Some(_) if Self::is_by_pings(settings) => Self::Unheard,
            // One success is enough: it is about whether it answers at all.
            Some(Liveness { interval, fall, .. }) => {
                Self::Checked(Check::new(now + *interval, 1, *fall, Some(true)))
            }
        }
    }

    fn due(&self, interval: Duration) -> Option<Instant> {
        match self {
            Self::Off | Self::Unheard => None,
            Self::Checked(check) => Some(check.due()),
            Self::Heard(at) => Some(*at + interval.max(INTERVAL_MIN)),
        }
    }
}

impl Instance {
    /// Another readiness or liveness holds for the process that runs.
    pub(super) fn renew_checks(&mut self, former: &Settings, now: Instant) {
        let settings = &self.settings;
        let is_ready = matches!(self.state, State::Ready { .. });
        let is_watched = is_ready || matches!(self.state, State::Unready { .. });
        let Some(process) = self.state.process_mut() else { return };
        if former.readiness != settings.readiness {
            process.readiness = Check::of_readiness(&settings.readiness, is_ready.then_some(true), now);
        }
        let unready_after = |settings: &Settings| settings.restart.unready_after;
        if is_watched
            && (former.liveness != settings.liveness || unready_after(former) != unready_after(settings))
        {
            process.liveness = Watch::of_liveness(settings, process.is_told_to_ping, now);
            process.hung = None;
        }
    }

    /// Its process may not know of the way in which it is to say that it is ready.
    pub(super) fn change_readiness(&mut self, former: &Settings, now: Instant) {
        if former.readiness.check == self.settings.readiness.check {
            return;
        }
        let by_its_word =
            matches!(self.settings.readiness.check, ReadinessCheck::Notify | ReadinessCheck::Log(_));
        match &self.state {
            State::Starting { .. } | State::Doubtful { .. } if by_its_word => {
                let process = self.process().cloned();
                let after = AfterStop::Restart("was started before its readiness was changed".to_owned());
                self.ask_to_stop(process, Hardness::SkipDrain, after, now);
            }
            State::Unready { .. } if by_its_word => {
                self.take_for_hung("it was started before its readiness was changed".to_owned());
            }
            State::Unready { .. } if matches!(self.settings.readiness.check, ReadinessCheck::AliveFor(_)) => {
                self.answer(now);
            }
            State::Preparing { .. }
            | State::Starting { .. }
            | State::Doubtful { .. }
            | State::Ready { .. }
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Ended { .. }
            | State::Stopped => {}
        }
    }

    /// A probe's verdict: `None` is a candidate that still fails.
    pub fn handle_probe(&mut self, healthy: Option<bool>, detail: &str, now: Instant) {
        match self.settings.readiness.check {
            ReadinessCheck::Http(_) | ReadinessCheck::Tcp => {}
            ReadinessCheck::Notify
            | ReadinessCheck::Log(_)
            | ReadinessCheck::Command(_)
            | ReadinessCheck::AliveFor(_) => return,
        }
        if healthy == Some(true) {
            self.answer(now);
            return;
        }
        detail.clone_into(&mut self.detail);
        if healthy == Some(false) {
            self.lose_readiness(detail, now);
        }
        if let State::Starting { answers, .. } = &mut self.state {
            *answers = false;
        }
    }

    /// A line of its output is the one that it is ready by.
    pub fn handle_log_matched(&mut self, now: Instant) {
        if matches!(self.settings.readiness.check, ReadinessCheck::Log(_)) {
            self.answer(now);
        }
    }

    /// A check that `poll_action` asked for has its outcome.
    pub fn handle_checked(&mut self, purpose: CheckPurpose, result: Result<(), String>, now: Instant) {
        match purpose {
            CheckPurpose::Readiness => self.handle_readiness(result, now),
            CheckPurpose::Liveness => self.handle_liveness(result, now),
        }
    }

    fn handle_readiness(&mut self, result: Result<(), String>, now: Instant) {
        let Readiness { interval, check, .. } = &self.settings.readiness;
        let (interval, is_by_command) = (*interval, matches!(check, ReadinessCheck::Command(_)));
        let Some(process) = self.state.process_mut() else { return };
        if !process.readiness.is_under_way() || !is_by_command {
            return;
        }
        let is_eager =
            process.readiness.streak.healthy() != Some(true) && now.since(process.since) < EAGER_TIME;
        let pause = if is_eager { interval.min(EAGER_INTERVAL) } else { interval };
        process.readiness.next = NextCheck::At(now + pause.max(INTERVAL_MIN));
        let verdict = process.readiness.streak.handle_probe(result.is_ok());
        if verdict == Some(true) {
            self.answer(now);
            return;
        }
        if let Err(detail) = result {
            if verdict == Some(false) {
                self.lose_readiness(&detail, now);
            }
            self.handle_detail(detail);
        }
    }

    fn handle_liveness(&mut self, result: Result<(), String>, now: Instant) {
        let Some(Liveness { interval, fall, .. }) = self.settings.liveness else { return };
        let (State::Ready { process, .. } | State::Unready { process, .. }) = &mut self.state else { return };
        let Watch::Checked(check) = &mut process.liveness else { return };
        if !check.is_under_way() {
            return;
        }
        check.next = NextCheck::At(now + interval.max(INTERVAL_MIN));
        match (check.streak.handle_probe(result.is_ok()), result) {
            (Some(false), Err(detail)) => {
                let times = if fall > 1 { format!(" {fall} times in a row") } else { String::new() };
                self.take_for_hung(format!("its liveness check failed{times}: {detail}"));
            }
            (Some(true), _) => process.hung = None,
            (None, _) | (Some(false), Ok(())) => {}
        }
    }

    /// It sent WATCHDOG=1.
    pub(super) fn handle_ping(&mut self, now: Instant) {
        let Some(process) = self.state.process_mut() else { return };
        if matches!(process.liveness, Watch::Heard(_) | Watch::Unheard) {
            process.liveness = Watch::Heard(now);
            process.hung = None;
        }
    }

    pub(super) fn answer(&mut self, now: Instant) {
        match &mut self.state {
            State::Starting { process: None, answers, .. } => *answers = true,
            State::Starting { since, .. } | State::Doubtful { since, .. } => {
                let after = now.since(*since);
                self.become_ready(after, now);
            }
            State::Unready { process, .. } => {
                let mut process = process.clone();
                if self.settings.liveness.is_none() {
                    process.hung = None;
                }
                self.state = State::Ready { process, since: now };
                self.detail.clear();
                self.actions.push_back(Action::Report(Report::ReadyAgain));
            }
            State::Preparing { .. }
            | State::Ready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Ended { .. }
            | State::Stopped => {}
        }
    }

    pub(super) fn become_ready(&mut self, after: Duration, now: Instant) {
        let Some(process) = self.process().cloned() else { return };
        let mut process = process.watched(&self.settings, now);
        self.detail.clear();
        self.recovers = false;
        self.actions.push_back(Action::Report(Report::Ready(after)));
        if self.settings.hooks.after_ready.is_some() {
            process.greets = true;
            self.actions.push_back(Action::Run(HookKind::AfterReady, None));
        }
        self.state = State::Ready { process, since: now };
    }

    pub(super) fn lose_readiness(&mut self, detail: &str, now: Instant) {
        if let State::Ready { process, .. } = &self.state {
            let mut process = process.clone();
            process.steady = super::ready_for(&self.state, now);
            detail.clone_into(&mut self.detail);
            self.state = State::Unready { process, since: now };
            self.actions.push_back(Action::Report(Report::Unready(detail.to_owned())));
        }
    }

    fn take_for_hung(&mut self, why: String) {
        if let Some(process) = self.state.process_mut() {
            process.hung = Some(why.clone());
            self.actions.push_back(Action::Report(Report::Hung(why)));
        }
    }

    pub(super) fn health_due(&self) -> Option<Instant> {
        let (process, unready_since) = match &self.state {
            State::Starting { process: Some(process), .. } | State::Doubtful { process, .. } => {
                (process, None)
            }
            State::Ready { process, .. } => (process, None),
            State::Unready { process, since } => (process, Some(*since)),
            State::Preparing { .. }
            | State::Starting { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Cleaning { .. }
            | State::Backoff { .. }
            | State::Ended { .. }
            | State::Stopped => return None,
        };
        let unready = unready_since.and_then(|since| self.unready_due(process, since));
        [self.readiness_due(process), self.liveness_due(process), unready].into_iter().flatten().min()
    }

    fn readiness_due(&self, process: &Process) -> Option<Instant> {
        match &self.settings.readiness.check {
            ReadinessCheck::Command(_) => Some(process.readiness.due()),
            ReadinessCheck::AliveFor(time) => {
                let is_young = matches!(self.state, State::Starting { .. } | State::Doubtful { .. });
                is_young.then(|| process.since + *time)
            }
            ReadinessCheck::Http(_)
            | ReadinessCheck::Tcp
            | ReadinessCheck::Notify
            | ReadinessCheck::Log(_) => None,
        }
    }

    fn liveness_due(&self, process: &Process) -> Option<Instant> {
        let interval = self.settings.liveness.as_ref()?.interval;
        // One that is silent and known to be so is waited for by whoever may restart it.
        let is_known = matches!(process.liveness, Watch::Heard(_)) && process.hung.is_some();
        process.liveness.due(interval).filter(|_| !is_known)
    }

    fn unready_due(&self, process: &Process, since: Instant) -> Option<Instant> {
        let longest = self.settings.restart.unready_after;
        let counts = self.settings.liveness.is_none() && !longest.is_zero() && process.hung.is_none();
        counts.then(|| since + longest)
    }

    /// Begins the checks that are due, and draws the conclusions that time alone brings.
    pub(super) fn handle_health_due(&mut self, now: Instant) {
        if self.health_due().is_none_or(|at| now < at) {
            return;
        }
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let Some(process) = self.process() else { return };
        let (readiness, liveness) = (is_due(self.readiness_due(process)), is_due(self.liveness_due(process)));
        let unready = if let State::Unready { since, .. } = self.state {
            is_due(self.unready_due(process, since))
        } else {
            false
        };
        if readiness {
            self.begin_readiness(now);
        }
        if liveness {
            self.begin_liveness(now);
        }
        if unready {
            let longest = human(self.settings.restart.unready_after);
            let why = format!("it was not ready for {longest} ({})", self.detail);
            self.take_for_hung(why);
        }
    }

    fn begin_readiness(&mut self, now: Instant) {
        let timeout = self.settings.readiness.timeout;
        if matches!(self.settings.readiness.check, ReadinessCheck::AliveFor(_)) {
            self.answer(now);
        } else if let Some(process) = self.state.process_mut()
            && process.readiness.begins(timeout, now)
        {
            self.actions.push_back(Action::Check(CheckPurpose::Readiness));
        }
    }

    fn begin_liveness(&mut self, now: Instant) {
        let Some(Liveness { timeout, interval, .. }) = self.settings.liveness else { return };
        let Some(process) = self.state.process_mut() else { return };
        match &mut process.liveness {
            Watch::Checked(check) => {
                if check.begins(timeout, now) {
                    self.actions.push_back(Action::Check(CheckPurpose::Liveness));
                }
            }
            Watch::Heard(_) => {
                self.take_for_hung(format!("it sent no WATCHDOG=1 for {}", human(interval)));
            }
            Watch::Off | Watch::Unheard => {}
        }
    }
}
