//! The checked form of a service to its stored form, and back.

use std::collections::BTreeMap;
use std::time::Duration;

use model::manifest as checked;

use super::{
    Dependency, DependsUntil, Hook, Liveness, LivenessCheck, Mode, Output, Readiness, ReadinessCheck, Reload,
    ReloadBy, Restart, RestartPolicy, Rollout, Service, Stop, StopSignal, Strategy,
};
use crate::manifest::{ManifestError, millis};

impl From<&checked::Service> for Service {
    fn from(s: &checked::Service) -> Self {
        Self {
            release: s.release.clone(),
            version: s.version.to_string(),
            version_is_derived: s.version_is_derived,
            mode: s.mode.into(),
            port: s.port,
            environment_file: s.environment_file.clone(),
            working_directory: s.working_directory.clone(),
            user: s.account.as_ref().map(|account| account.user.clone()),
            group: s.account.as_ref().and_then(|account| account.group.clone()),
            umask: s.umask,
            limits_open_files: s.limits.open_files,
            limits_memory: s.limits.memory,
            liveness: s.liveness.as_ref().map(Into::into),
            reload: s.reload.as_ref().map(Into::into),
            hooks: hooks_by_name(&s.hooks),
            depends_on: s.depends_on.iter().map(Into::into).collect(),
            output: (&s.output).into(),
            command: s.command.clone(),
            instances: s.instances,
            environment: s.environment.clone(),
            environment_inherit: s.environment_inherit.clone(),
            readiness: (&s.readiness).into(),
            stop: (&s.stop).into(),
            restart: (&s.restart).into(),
            upstream: (&s.traffic.upstream).into(),
            retry: (&s.traffic.retry).into(),
            balance: (&s.traffic.balance).into(),
            outlier: s.traffic.outlier.as_ref().map(Into::into),
            paths: s.traffic.paths.clone(),
            maintenance: s.traffic.maintenance.as_ref().map(Into::into),
            rollout: (&s.rollout).into(),
        }
    }
}

impl TryFrom<&Service> for checked::Service {
    type Error = ManifestError;

    fn try_from(s: &Service) -> Result<Self, ManifestError> {
        Ok(Self {
            release: s.release.clone(),
            version: s.version.parse()?,
            version_is_derived: s.version_is_derived,
            mode: s.mode.into(),
            port: s.port,
            environment_file: s.environment_file.clone(),
            working_directory: s.working_directory.clone(),
            account: s.user.clone().map(|user| checked::Account { user, group: s.group.clone() }),
            umask: s.umask,
            limits: checked::Limits { open_files: s.limits_open_files, memory: s.limits_memory },
            liveness: s.liveness.as_ref().map(Into::into),
            reload: s.reload.as_ref().map(Into::into),
            hooks: hooks_of(&s.hooks),
            depends_on: s.depends_on.iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            output: (&s.output).into(),
            command: s.command.clone(),
            instances: s.instances,
            environment: s.environment.clone(),
            environment_inherit: s.environment_inherit.clone(),
            readiness: (&s.readiness).into(),
            stop: (&s.stop).into(),
            restart: (&s.restart).into(),
            traffic: checked::Traffic {
                upstream: (&s.upstream).into(),
                retry: (&s.retry).into(),
                balance: (&s.balance).into(),
                outlier: s.outlier.as_ref().map(Into::into),
                paths: s.paths.clone(),
                maintenance: s.maintenance.as_ref().map(Into::into),
            },
            rollout: (&s.rollout).into(),
        })
    }
}

impl From<&checked::Readiness> for Readiness {
    fn from(r: &checked::Readiness) -> Self {
        let check = match &r.check {
            checked::ReadinessCheck::Http(path) => ReadinessCheck::Http(path.clone()),
            checked::ReadinessCheck::Tcp => ReadinessCheck::Tcp,
            checked::ReadinessCheck::Notify => ReadinessCheck::Notify,
            checked::ReadinessCheck::Log(expression) => ReadinessCheck::Log(expression.clone()),
            checked::ReadinessCheck::Command(command) => ReadinessCheck::Command(command.clone()),
            checked::ReadinessCheck::AliveFor(span) => ReadinessCheck::AliveForMs(millis(*span)),
        };
        Self {
            check,
            interval_ms: millis(r.interval),
            timeout_ms: millis(r.timeout),
            rise: r.rise,
            fall: r.fall,
            startup_timeout_ms: millis(r.startup_timeout),
        }
    }
}

impl From<&Readiness> for checked::Readiness {
    fn from(r: &Readiness) -> Self {
        let check = match &r.check {
            ReadinessCheck::Http(path) => checked::ReadinessCheck::Http(path.clone()),
            ReadinessCheck::Tcp => checked::ReadinessCheck::Tcp,
            ReadinessCheck::Notify => checked::ReadinessCheck::Notify,
            ReadinessCheck::Log(expression) => checked::ReadinessCheck::Log(expression.clone()),
            ReadinessCheck::Command(command) => checked::ReadinessCheck::Command(command.clone()),
            ReadinessCheck::AliveForMs(ms) => checked::ReadinessCheck::AliveFor(Duration::from_millis(*ms)),
        };
        Self {
            check,
            interval: Duration::from_millis(r.interval_ms),
            timeout: Duration::from_millis(r.timeout_ms),
            rise: r.rise,
            fall: r.fall,
            startup_timeout: Duration::from_millis(r.startup_timeout_ms),
        }
    }
}

impl From<checked::StopSignal> for StopSignal {
    fn from(signal: checked::StopSignal) -> Self {
        use checked::StopSignal as From;
        match signal {
            From::Graceful => Self::Graceful,
            From::Interrupt => Self::Interrupt,
            From::Quit => Self::Quit,
            From::HangUp => Self::HangUp,
            From::User1 => Self::User1,
            From::User2 => Self::User2,
            From::Abort => Self::Abort,
            From::Kill => Self::Kill,
        }
    }
}

impl From<StopSignal> for checked::StopSignal {
    fn from(signal: StopSignal) -> Self {
        match signal {
            StopSignal::Graceful => Self::Graceful,
            StopSignal::Interrupt => Self::Interrupt,
            StopSignal::Quit => Self::Quit,
            StopSignal::HangUp => Self::HangUp,
            StopSignal::User1 => Self::User1,
            StopSignal::User2 => Self::User2,
            StopSignal::Abort => Self::Abort,
            StopSignal::Kill => Self::Kill,
        }
    }
}

impl From<&checked::Stop> for Stop {
    fn from(s: &checked::Stop) -> Self {
        Self {
            signal: s.signal.into(),
            drain_timeout_ms: millis(s.drain_timeout),
            grace_period_ms: millis(s.grace_period),
        }
    }
}

impl From<&Stop> for checked::Stop {
    fn from(s: &Stop) -> Self {
        Self {
            signal: s.signal.into(),
            drain_timeout: Duration::from_millis(s.drain_timeout_ms),
            grace_period: Duration::from_millis(s.grace_period_ms),
        }
    }
}

impl From<&checked::Restart> for Restart {
    fn from(r: &checked::Restart) -> Self {
        let policy = match r.policy {
            checked::RestartPolicy::Always => RestartPolicy::Always,
            checked::RestartPolicy::OnFailure => RestartPolicy::OnFailure,
            checked::RestartPolicy::Never => RestartPolicy::Never,
        };
        Self {
            policy,
            delay_ms: millis(r.delay),
            max_delay_ms: millis(r.max_delay),
            reset_after_ms: millis(r.reset_after),
            success_codes: r.success_codes.clone(),
            restart_codes: r.restart_codes.clone(),
            stop_codes: r.stop_codes.clone(),
            unready_after_ms: millis(r.unready_after),
        }
    }
}

impl From<&Restart> for checked::Restart {
    fn from(r: &Restart) -> Self {
        let policy = match r.policy {
            RestartPolicy::Always => checked::RestartPolicy::Always,
            RestartPolicy::OnFailure => checked::RestartPolicy::OnFailure,
            RestartPolicy::Never => checked::RestartPolicy::Never,
        };
        Self {
            policy,
            delay: Duration::from_millis(r.delay_ms),
            max_delay: Duration::from_millis(r.max_delay_ms),
            reset_after: Duration::from_millis(r.reset_after_ms),
            success_codes: r.success_codes.clone(),
            restart_codes: r.restart_codes.clone(),
            stop_codes: r.stop_codes.clone(),
            unready_after: Duration::from_millis(r.unready_after_ms),
        }
    }
}

impl From<&checked::Rollout> for Rollout {
    fn from(r: &checked::Rollout) -> Self {
        let strategy = match r.strategy {
            checked::Strategy::BlueGreen => Strategy::BlueGreen,
            checked::Strategy::Rolling => Strategy::Rolling,
            checked::Strategy::Recreate => Strategy::Recreate,
        };
        Self {
            strategy,
            keep_warm_ms: millis(r.keep_warm),
            max_surge: r.max_surge,
            max_unavailable: r.max_unavailable,
            sticky: r.sticky.as_ref().map(Into::into),
        }
    }
}

impl From<&Rollout> for checked::Rollout {
    fn from(r: &Rollout) -> Self {
        let strategy = match r.strategy {
            Strategy::BlueGreen => checked::Strategy::BlueGreen,
            Strategy::Rolling => checked::Strategy::Rolling,
            Strategy::Recreate => checked::Strategy::Recreate,
        };
        Self {
            strategy,
            keep_warm: Duration::from_millis(r.keep_warm_ms),
            max_surge: r.max_surge,
            max_unavailable: r.max_unavailable,
            sticky: r.sticky.as_ref().map(Into::into),
        }
    }
}

impl From<checked::Mode> for Mode {
    fn from(mode: checked::Mode) -> Self {
        match mode {
            checked::Mode::Proxied => Self::Proxied,
            checked::Mode::Worker => Self::Worker,
        }
    }
}

impl From<Mode> for checked::Mode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Proxied => Self::Proxied,
            Mode::Worker => Self::Worker,
        }
    }
}

impl From<&checked::Liveness> for Liveness {
    fn from(l: &checked::Liveness) -> Self {
        let check = match &l.check {
            checked::LivenessCheck::Http(path) => LivenessCheck::Http(path.clone()),
            checked::LivenessCheck::Tcp => LivenessCheck::Tcp,
            checked::LivenessCheck::Command(command) => LivenessCheck::Command(command.clone()),
            checked::LivenessCheck::Watchdog => LivenessCheck::Watchdog,
        };
        Self { check, interval_ms: millis(l.interval), timeout_ms: millis(l.timeout), fall: l.fall }
    }
}

impl From<&Liveness> for checked::Liveness {
    fn from(l: &Liveness) -> Self {
        let check = match &l.check {
            LivenessCheck::Http(path) => checked::LivenessCheck::Http(path.clone()),
            LivenessCheck::Tcp => checked::LivenessCheck::Tcp,
            LivenessCheck::Command(command) => checked::LivenessCheck::Command(command.clone()),
            LivenessCheck::Watchdog => checked::LivenessCheck::Watchdog,
        };
        let span = Duration::from_millis;
        Self { check, interval: span(l.interval_ms), timeout: span(l.timeout_ms), fall: l.fall }
    }
}

impl From<&checked::Reload> for Reload {
    fn from(r: &checked::Reload) -> Self {
        let by = match &r.by {
            checked::ReloadBy::Signal(signal) => ReloadBy::Signal((*signal).into()),
            checked::ReloadBy::Command(command) => ReloadBy::Command(command.clone()),
        };
        Self { by, timeout_ms: millis(r.timeout) }
    }
}

impl From<&Reload> for checked::Reload {
    fn from(r: &Reload) -> Self {
        let by = match &r.by {
            ReloadBy::Signal(signal) => checked::ReloadBy::Signal((*signal).into()),
            ReloadBy::Command(command) => checked::ReloadBy::Command(command.clone()),
        };
        Self { by, timeout: Duration::from_millis(r.timeout_ms) }
    }
}

fn hooks_by_name(hooks: &checked::Hooks) -> BTreeMap<String, Hook> {
    let named = [
        ("before_start", &hooks.before_start),
        ("after_ready", &hooks.after_ready),
        ("before_stop", &hooks.before_stop),
        ("after_exit", &hooks.after_exit),
    ];
    let given = named.into_iter().filter_map(|(name, hook)| Some((name, hook.as_ref()?)));
    let hook =
        |hook: &checked::Hook| Hook { command: hook.command.clone(), timeout_ms: millis(hook.timeout) };
    given.map(|(name, given)| (name.to_owned(), hook(given))).collect()
}

fn hooks_of(hooks: &BTreeMap<String, Hook>) -> checked::Hooks {
    let hook = |name: &str| {
        let given = hooks.get(name)?;
        let timeout = Duration::from_millis(given.timeout_ms);
        Some(checked::Hook { command: given.command.clone(), timeout })
    };
    checked::Hooks {
        before_start: hook("before_start"),
        after_ready: hook("after_ready"),
        before_stop: hook("before_stop"),
        after_exit: hook("after_exit"),
    }
}

impl From<&checked::Dependency> for Dependency {
    fn from(d: &checked::Dependency) -> Self {
        let until = match d.until {
            checked::DependsUntil::Started => DependsUntil::Started,
            checked::DependsUntil::Ready => DependsUntil::Ready,
        };
        Self { service: d.service.to_string(), until }
    }
}

impl TryFrom<&Dependency> for checked::Dependency {
    type Error = ManifestError;

    fn try_from(d: &Dependency) -> Result<Self, ManifestError> {
        let until = match d.until {
            DependsUntil::Started => checked::DependsUntil::Started,
            DependsUntil::Ready => checked::DependsUntil::Ready,
        };
        Ok(Self { service: d.service.parse()?, until })
    }
}

impl From<&checked::Output> for Output {
    fn from(o: &checked::Output) -> Self {
        Self { max_size: o.max_size, max_age_ms: o.max_age.map(millis), files: o.files }
    }
}

impl From<&Output> for checked::Output {
    fn from(o: &Output) -> Self {
        Self { max_size: o.max_size, max_age: o.max_age_ms.map(Duration::from_millis), files: o.files }
    }
}
