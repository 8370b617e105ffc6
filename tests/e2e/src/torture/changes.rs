//! Stages beside the deploys: every strategy, every command that changes something, and all of them at random.
//!
//! Each stage is one line of the report: the same clients, first without anything going on, then while its
//! operations run one after the other.

use std::time::Duration;

use super::operations::{self, Edit, Interrupted, Operation};
use super::subject::{HandoverSubject, Subject};
use super::{Mix, Row, STEP_PAUSE, drive_all};
use crate::manifest::Setup;
use crate::peers::free_port;

/// What a stage does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Deploys and rollbacks, one instance after the other.
    Rolling,
    /// Deploys and rollbacks of a program on a fixed port: its requests are held.
    Recreate,
    /// A change of each kind in the manifest.
    Apply,
    /// Up and down.
    Scale,
    /// Restarts.
    Restart,
    /// Restarts of a program on a fixed port: its requests are held.
    RestartHeld,
    /// Reloads.
    Reload,
    /// Operations in the middle of which a role is killed.
    Interrupted,
    /// Whatever comes, with kills.
    Random,
    /// The same, one instance after the other.
    RandomRolling,
    /// The same for a program on a fixed port, but for its number of instances.
    RandomHeld,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Rolling,
        Self::Recreate,
        Self::Apply,
        Self::Scale,
        Self::Restart,
        Self::RestartHeld,
        Self::Reload,
        Self::Interrupted,
        Self::Random,
        Self::RandomRolling,
        Self::RandomHeld,
    ];

    /// For tables and the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Recreate => "recreate",
            Self::Apply => "apply",
            Self::Scale => "scale",
            Self::Restart => "restart",
            Self::RestartHeld => "restart, held",
            Self::Reload => "reload",
            Self::Interrupted => "interrupted",
            Self::Random => "random",
            Self::RandomRolling => "random, rolling",
            Self::RandomHeld => "random, held",
        }
    }

    /// Requests wait in it on purpose.
    pub fn holds(self) -> bool {
        matches!(self, Self::Recreate | Self::RestartHeld | Self::RandomHeld)
    }

    fn is_random(self) -> bool {
        matches!(self, Self::Random | Self::RandomRolling | Self::RandomHeld)
    }

    fn setup(self) -> Setup {
        let service = "reload = { signal = \"SIGHUP\" }\n".to_owned();
        let listener = "idle_timeout = \"2s\"\n".to_owned();
        let usual = Setup { instances: 2, listener, service, ..Setup::default() };
        match self {
            Self::Rolling | Self::RandomRolling => Setup {
                instances: 3,
                rollout: "strategy = \"rolling\"\nmax_surge = 1\nmax_unavailable = 1\n".to_owned(),
                ..usual
            },
            Self::Recreate | Self::RestartHeld | Self::RandomHeld => {
                let (keeper, port) = free_port();
                drop(keeper);
                let service = format!("{}port = {port}\n", usual.service);
                Setup { instances: 1, service, ..usual }
            }
            Self::Apply | Self::Scale | Self::Restart | Self::Reload | Self::Interrupted | Self::Random => {
                usual
            }
        }
    }

    fn operations(self, counts: &ChangeCounts) -> Vec<Operation> {
        let pairs = |pair: [Operation; 2], count: usize| pair.repeat(count);
        let deploys = |deploys: usize, rollbacks: usize| {
            let mut all = vec![Operation::Deploy; deploys.saturating_sub(rollbacks)];
            all.extend(pairs([Operation::Deploy, Operation::Rollback], rollbacks));
            all
        };
        match self {
            Self::Rolling | Self::Recreate => deploys(counts.deploys, counts.rollbacks),
            Self::Apply => Edit::ALL.map(Operation::Apply).repeat(counts.applies_of_each),
            Self::Scale => pairs([Operation::Scale(4), Operation::Scale(1)], counts.scales / 2),
            Self::Restart | Self::RestartHeld => vec![Operation::Restart; counts.restarts],
            Self::Reload => vec![Operation::Reload; counts.reloads],
            Self::Interrupted => Interrupted::BY_EACH_ROLE.repeat(counts.interruptions_of_each),
            Self::Random | Self::RandomRolling => operations::random(counts.seed, counts.random, true),
            Self::RandomHeld => operations::random(counts.seed, counts.random, false),
        }
    }
}

/// How many of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeCounts {
    /// With each strategy.
    pub deploys: usize,
    /// With each strategy.
    pub rollbacks: usize,
    /// Every kind of change so often.
    pub applies_of_each: usize,
    /// Every kind of operation so often, for each role.
    pub interruptions_of_each: usize,
    /// Half of them up.
    pub scales: usize,
    /// Without and with held requests.
    pub restarts: usize,
    /// Reloads.
    pub reloads: usize,
    /// Random operations.
    pub random: usize,
    /// Of those.
    pub seed: u64,
}

/// One stage on a Handover of its own.
///
/// # Errors
/// When that does not start, or leaves processes behind.
pub(super) fn run(
    stage: Stage,
    counts: &ChangeCounts,
    baseline: Duration,
    note: &mut dyn FnMut(&str),
) -> Result<Row, String> {
    let mix = Mix::all().pop().expect("invariant: the last mix is of all kinds");
    let operations = stage.operations(counts);
    let with_seed = if stage.is_random() { format!(", seed {}", counts.seed) } else { String::new() };
    note(&format!("Handover: {}{with_seed}: {}", stage.name(), operations::summary(&operations)));
    let mut handover = HandoverSubject::start_with(stage.setup())?;
    let steps = operations::summary(&operations) + &with_seed;
    let label = format!("{}, {}", mix.name, stage.name());
    let address = handover.address();
    let row = drive_all(address, &mix, baseline, |broken| {
        for (number, operation) in operations.iter().enumerate() {
            std::thread::sleep(STEP_PAUSE);
            if let Err(why) = handover.operate(*operation) {
                note(&format!("number {number}, {operation}: {why}"));
                broken.push(format!("number {number}, {operation}: {why}"));
            }
        }
    });
    let left = handover.end();
    if !left.is_empty() {
        return Err(format!("`down` left these processes: {left:?}"));
    }
    Ok(Row { subject: "Handover".to_owned(), mix: label, steps, held: stage.holds(), ..row })
}
