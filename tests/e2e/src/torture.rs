//! The hot-restart conformance suite: clients that never retry, while everything under them is replaced.
//!
//! For each kind of client: a baseline without deploys, then the same clients during a script of deploys,
//! rollbacks and kills. The same clients drive the recipe that people use today: two instances behind nginx
//! or HAProxy. One number is asked of Handover: 0 failures of any kind.

mod changes;
mod measure;
mod operations;
mod report;
mod script;
mod subject;

use std::net::SocketAddr;
use std::time::Duration;

use crate::load::{Kind, Load, Plan, Tally};
use crate::peers::{Haproxy, Nginx};

pub use changes::{ChangeCounts, Stage};
pub use measure::{DeployTimes, ProxyKills};
pub use operations::{Edit, Interrupted, Operation};
pub use report::Report;
pub use script::{Counts, Step};
pub use subject::{HandoverSubject, Subject};

/// Clients at a time.
const CLIENTS: usize = 16;
/// Between two steps of a script: pacing, so that clients meet each step anew.
const STEP_PAUSE: Duration = Duration::from_millis(200);

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Steps of each script.
    pub counts: Counts,
    /// Proxy kills measured.
    pub proxy_kills: usize,
    /// Deploys measured.
    pub deploys_timed: usize,
    /// How long each baseline runs.
    pub baseline: Duration,
    /// Longest time without service after a proxy kill.
    pub serving_again_max: Duration,
    /// Longest time from typing a deploy to the last request on the old release.
    pub switch_max: Duration,
    /// Which clients.
    pub mixes: Vec<Mix>,
    /// Also nginx and HAProxy.
    pub peers: bool,
    /// Which of the stages beside the deploys.
    pub stages: Vec<Stage>,
    /// What they do.
    pub changes: ChangeCounts,
    /// Whether single events are measured.
    pub measures: bool,
}

impl Options {
    /// What the promise is measured by.
    pub fn full() -> Self {
        Self {
            counts: Counts { deploys: 50, rollbacks: 20, agent_kills: 10, holder_kills: 5 },
            proxy_kills: 20,
            deploys_timed: 20,
            baseline: Duration::from_secs(10),
            serving_again_max: Duration::from_millis(200),
            switch_max: Duration::from_millis(500),
            mixes: Mix::all(),
            peers: false,
            stages: Stage::ALL.into(),
            changes: ChangeCounts {
                deploys: 20,
                rollbacks: 8,
                applies_of_each: 4,
                interruptions_of_each: 4,
                scales: 20,
                restarts: 15,
                reloads: 20,
                random: 200,
                seed: seed_of_now(),
            },
            measures: true,
        }
    }

    /// What every test run does. Times are generous: build machines are busy.
    pub fn small() -> Self {
        Self {
            counts: Counts { deploys: 5, rollbacks: 2, agent_kills: 2, holder_kills: 1 },
            proxy_kills: 2,
            deploys_timed: 3,
            baseline: Duration::from_secs(2),
            serving_again_max: Duration::from_secs(2),
            switch_max: Duration::from_secs(3),
            changes: ChangeCounts {
                deploys: 3,
                rollbacks: 1,
                applies_of_each: 1,
                interruptions_of_each: 1,
                scales: 4,
                restarts: 3,
                reloads: 3,
                random: 25,
                seed: seed_of_now(),
            },
            stages: Stage::ALL[..=Stage::Random as usize].into(),
            ..Self::full()
        }
    }
}

/// Another one with each run; it is printed.
fn seed_of_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.as_secs()
}

/// Which clients work at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    /// For tables.
    pub name: String,
    /// One entry per client.
    pub clients: Vec<Kind>,
}

impl Mix {
    /// One mix per kind, and one of all kinds.
    pub fn all() -> Vec<Self> {
        let of_kind = |kind: Kind| Self { name: kind.name().to_owned(), clients: vec![kind; CLIENTS] };
        let mut mixes: Vec<Self> = Kind::ALL.map(of_kind).into();
        let clients = Kind::ALL.iter().cycle().take(CLIENTS).copied().collect();
        mixes.push(Self { name: "all together".to_owned(), clients });
        mixes
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// Who was driven.
    pub subject: String,
    /// By whom.
    pub mix: String,
    /// Without any step.
    pub baseline: Tally,
    /// During the script.
    pub tally: Tally,
    /// Steps done, by name.
    pub steps: String,
    /// Steps that did not end as they should, with what was said.
    pub broken: Vec<String>,
    /// Requests waited on purpose: the longest stall is the longest hold.
    pub held: bool,
}

impl Row {
    /// Nothing was lost and every step ended well.
    pub fn is_clean(&self) -> bool {
        self.tally.failures() == 0 && self.baseline.failures() == 0 && self.broken.is_empty()
    }
}

/// Runs it all; `note` hears what goes on.
///
/// # Errors
/// When a subject could not be started at all.
pub fn run(options: &Options, note: &mut dyn FnMut(&str)) -> Result<Report, String> {
    let mut report = Report::new(options);
    for mix in &options.mixes {
        let mut handover = HandoverSubject::start(&[])?;
        note(&format!("Handover: {}", mix.name));
        report.rows.push(drive(&mut handover, mix, &script::script(&options.counts), options.baseline));
        let processes = handover.end();
        if !processes.is_empty() {
            return Err(format!("`down` left these processes: {processes:?}"));
        }
        if options.peers {
            let steps = options.counts.for_peers();
            note(&format!("nginx, HAProxy: {}", mix.name));
            report.rows.push(drive(&mut Nginx::start()?, mix, &steps, options.baseline));
            report.rows.push(drive(&mut Haproxy::start()?, mix, &steps, options.baseline));
            report.rows.push(drive(&mut Haproxy::start_tuned()?, mix, &steps, options.baseline));
        }
    }
    for stage in &options.stages {
        report.rows.push(changes::run(*stage, &options.changes, options.baseline, note)?);
    }
    if !options.measures {
        return Ok(report);
    }
    note("Handover: proxy killed");
    report.proxy_kills = Some(measure::proxy_kills(options.proxy_kills)?);
    note("Handover: deploys timed");
    report.deploy_times = Some(measure::deploy_times(options.deploys_timed, options.baseline)?);
    Ok(report)
}

/// The same clients twice: without anything going on, and during the steps.
fn drive(subject: &mut dyn Subject, mix: &Mix, steps: &[Step], baseline: Duration) -> Row {
    let row = drive_all(subject.address(), mix, baseline, |broken| {
        for step in steps {
            std::thread::sleep(STEP_PAUSE);
            if let Err(why) = subject.perform(*step) {
                broken.push(format!("{}: {why}", step.name()));
            }
        }
    });
    let subject = subject.name().to_owned();
    Row { subject, mix: mix.name.clone(), steps: script::summary(steps), ..row }
}

/// The same clients twice, the second time while `act` goes on, which notes what did not end as it should. The
/// names of the row are the caller's.
fn drive_all(address: SocketAddr, mix: &Mix, baseline: Duration, act: impl FnOnce(&mut Vec<String>)) -> Row {
    let plan = Plan::new(address);
    let quiet = Load::start(&plan, &mix.clients);
    std::thread::sleep(baseline);
    let baseline = quiet.finish();
    let load = Load::start(&plan, &mix.clients);
    load.wait_for_answers(1);
    let mut broken = Vec::new();
    act(&mut broken);
    std::thread::sleep(STEP_PAUSE);
    let tally = load.finish();
    Row {
        subject: String::new(),
        mix: String::new(),
        baseline,
        tally,
        steps: String::new(),
        broken,
        held: false,
    }
}
