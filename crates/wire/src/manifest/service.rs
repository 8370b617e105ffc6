//! `[service.NAME]` as it crosses processes and lives in the record; the conversions are in `convert`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use model::manifest as checked;
use serde::{Deserialize, Serialize};

use super::{TUNNEL_IDLE_MS, Upstream};
use crate::routes::{BalanceSettings, Maintenance, OutlierSettings, RetrySettings, Sticky};

mod convert;

/// `[service.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// First release.
    pub release: PathBuf,
    /// Its version.
    pub version: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Instances.
    pub instances: u32,
    /// Made from the release's name and content.
    #[serde(default)]
    pub version_is_derived: bool,
    /// Proxied or worker.
    #[serde(default)]
    pub mode: Mode,
    /// Fixed port.
    #[serde(default)]
    pub port: Option<u16>,
    /// In file order.
    pub environment: Vec<(String, String)>,
    /// Inherited names.
    pub environment_inherit: Vec<String>,
    /// Absolute path.
    #[serde(default)]
    pub environment_file: Option<PathBuf>,
    /// Absolute, or relative to the release.
    #[serde(default)]
    pub working_directory: Option<PathBuf>,
    /// User.
    #[serde(default)]
    pub user: Option<String>,
    /// Group, where it is not the user's own.
    #[serde(default)]
    pub group: Option<String>,
    /// File mode creation mask.
    #[serde(default)]
    pub umask: Option<u32>,
    /// RLIMIT_NOFILE.
    #[serde(default)]
    pub limits_open_files: Option<u64>,
    /// Bytes.
    #[serde(default)]
    pub limits_memory: Option<u64>,
    /// Readiness.
    pub readiness: Readiness,
    /// Liveness.
    #[serde(default)]
    pub liveness: Option<Liveness>,
    /// Stop.
    pub stop: Stop,
    /// Restart.
    pub restart: Restart,
    /// Reload.
    #[serde(default)]
    pub reload: Option<Reload>,
    /// Hooks by name: `before_start`, `after_ready`, `before_stop`, `after_exit`.
    #[serde(default)]
    pub hooks: BTreeMap<String, Hook>,
    /// In file order.
    #[serde(default)]
    pub depends_on: Vec<Dependency>,
    /// Log files.
    #[serde(default)]
    pub output: Output,
    /// Upstream connections.
    pub upstream: Upstream,
    /// Retries.
    #[serde(default)]
    pub retry: RetrySettings,
    /// Balance.
    #[serde(default)]
    pub balance: BalanceSettings,
    /// Ejection.
    #[serde(default = "super::traffic::outlier")]
    pub outlier: Option<OutlierSettings>,
    /// Endpoint groups.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Maintenance.
    #[serde(default)]
    pub maintenance: Option<Maintenance>,
    /// Rollout.
    pub rollout: Rollout,
}

impl Service {
    /// A service of which only this is said: one instance, probed by connect, always restarted, blue-green, with
    /// short times. For worlds that are made up.
    pub fn bare(release: impl Into<PathBuf>, version: &str, command: &[&str]) -> Self {
        Self {
            release: release.into(),
            version: version.to_owned(),
            command: command.iter().map(ToString::to_string).collect(),
            instances: 1,
            version_is_derived: false,
            mode: Mode::Proxied,
            port: None,
            environment: Vec::new(),
            environment_inherit: Vec::new(),
            environment_file: None,
            working_directory: None,
            user: None,
            group: None,
            umask: None,
            limits_open_files: None,
            limits_memory: None,
            readiness: Readiness {
                check: ReadinessCheck::Tcp,
                interval_ms: 1_000,
                timeout_ms: 1_000,
                rise: 2,
                fall: 3,
                startup_timeout_ms: 10_000,
            },
            liveness: None,
            stop: Stop { signal: StopSignal::Graceful, drain_timeout_ms: 5_000, grace_period_ms: 5_000 },
            restart: Restart {
                policy: RestartPolicy::Always,
                delay_ms: 1_000,
                max_delay_ms: 60_000,
                reset_after_ms: 60_000,
                success_codes: Vec::new(),
                restart_codes: Vec::new(),
                stop_codes: Vec::new(),
                unready_after_ms: 0,
            },
            reload: None,
            hooks: BTreeMap::new(),
            depends_on: Vec::new(),
            output: Output::default(),
            upstream: Upstream {
                connect_timeout_ms: 1_000,
                response_timeout_ms: 30_000,
                idle_reuse_ms: 2_000,
                request_timeout_ms: 0,
                tunnel_idle_timeout_ms: TUNNEL_IDLE_MS,
            },
            retry: RetrySettings::default(),
            balance: BalanceSettings::default(),
            outlier: Some(OutlierSettings::default()),
            paths: Vec::new(),
            maintenance: None,
            rollout: Rollout {
                strategy: Strategy::BlueGreen,
                keep_warm_ms: 60_000,
                max_surge: 1,
                max_unavailable: 0,
                sticky: None,
            },
        }
    }
}

/// `[service.NAME.readiness]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// By what.
    pub check: ReadinessCheck,
    /// Milliseconds.
    pub interval_ms: u64,
    /// Milliseconds.
    pub timeout_ms: u64,
    /// In a row.
    pub rise: u32,
    /// In a row.
    pub fall: u32,
    /// Milliseconds.
    pub startup_timeout_ms: u64,
}

/// What makes an instance ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadinessCheck {
    /// GET that path.
    Http(String),
    /// Connect.
    Tcp,
    /// READY=1.
    Notify,
    /// A line matches that expression.
    Log(String),
    /// That command exits with 0.
    Command(Vec<String>),
    /// Milliseconds alive.
    AliveForMs(u64),
}

/// `[service.NAME.stop]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Which.
    pub signal: StopSignal,
    /// Milliseconds.
    pub drain_timeout_ms: u64,
    /// Milliseconds.
    pub grace_period_ms: u64,
}

/// How a process is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "mirrors model::manifest::StopSignal")]
pub enum StopSignal {
    Graceful,
    Interrupt,
    Quit,
    HangUp,
    User1,
    User2,
    Abort,
    Kill,
}

/// `[service.NAME.restart]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// When.
    pub policy: RestartPolicy,
    /// Milliseconds.
    pub delay_ms: u64,
    /// Milliseconds.
    pub max_delay_ms: u64,
    /// Milliseconds.
    pub reset_after_ms: u64,
    /// Count as success.
    #[serde(default)]
    pub success_codes: Vec<i32>,
    /// Always restart.
    #[serde(default)]
    pub restart_codes: Vec<i32>,
    /// Never restart.
    #[serde(default)]
    pub stop_codes: Vec<i32>,
    /// Milliseconds; 0 is never.
    #[serde(default)]
    pub unready_after_ms: u64,
}

/// Which ends lead to a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "mirrors model::manifest::RestartPolicy")]
pub enum RestartPolicy {
    Always,
    OnFailure,
    Never,
}

/// `[service.NAME.rollout]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// How.
    pub strategy: Strategy,
    /// Milliseconds.
    pub keep_warm_ms: u64,
    /// Instances.
    #[serde(default)]
    pub max_surge: u32,
    /// Instances.
    #[serde(default)]
    pub max_unavailable: u32,
    /// Stickiness.
    #[serde(default)]
    pub sticky: Option<Sticky>,
}

/// How a new release takes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// All at once.
    BlueGreen,
    /// Instance by instance.
    Rolling,
    /// Old ends before new starts.
    Recreate,
}

/// How traffic reaches it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "mirrors model::manifest::Mode")]
pub enum Mode {
    #[default]
    Proxied,
    Worker,
}

/// `[service.NAME.liveness]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Liveness {
    /// By what.
    pub check: LivenessCheck,
    /// Milliseconds.
    pub interval_ms: u64,
    /// Milliseconds.
    pub timeout_ms: u64,
    /// In a row.
    pub fall: u32,
}

/// What shows that an instance is not hung.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LivenessCheck {
    /// GET that path.
    Http(String),
    /// Connect.
    Tcp,
    /// That command exits with 0.
    Command(Vec<String>),
    /// WATCHDOG=1.
    Watchdog,
}

/// `[service.NAME.reload]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// By what.
    pub by: ReloadBy,
    /// Milliseconds.
    pub timeout_ms: u64,
}

/// What tells an instance to read its configuration again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReloadBy {
    /// To the main process.
    Signal(StopSignal),
    /// Inside the release.
    Command(Vec<String>),
}

/// One hook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hook {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Milliseconds.
    pub timeout_ms: u64,
}

/// One entry of `depends_on`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// On which.
    pub service: String,
    /// How far.
    pub until: DependsUntil,
}

/// How far a dependency has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "mirrors model::manifest::DependsUntil")]
pub enum DependsUntil {
    Started,
    Ready,
}

/// `[service.NAME.output]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Bytes.
    pub max_size: u64,
    /// Milliseconds.
    pub max_age_ms: Option<u64>,
    /// The current one included.
    pub files: u32,
}

impl Default for Output {
    fn default() -> Self {
        (&checked::Output::default()).into()
    }
}
