//! One seed, one history: random deploys and rollbacks of random releases while everything is killed.
//!
//! Then all faults end, time passes, and what is left must be in order.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::world::{ApplyRequest, DeployRequest};
use model::random::Random;
use wire::link::StopLevel;
use wire::manifest::{
    Dependency, DependsUntil, Hook, ReadinessCheck, Reload, ReloadBy, Service, StopSignal, Strategy,
};
use wire::sealed::Boot;

use crate::behaviour::Behaviour;
use crate::manifest::{self, Manner};
use crate::world::{OPERATOR, Operate, Side, World};

/// How long faults go on.
const FAULTS_FOR: Duration = Duration::from_secs(90);
/// How long it may take until everything rests: bakes, drains, graces and backoffs together.
const REST_WITHIN: Duration = Duration::from_secs(90);

/// Not so late that stopping would go on into the time when everything has to rest.
const DOWN_BEFORE: Duration = Duration::from_secs(60);
/// Drain, margin, grace and kill, twice.
const DOWN_WITHIN: Duration = Duration::from_secs(30);

/// What came of a seed.
#[derive(Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Rules that were broken.
    pub violations: Vec<String>,
    /// What happened.
    pub log: Vec<String>,
    /// Rollouts that were accepted.
    pub rollouts: u64,
    /// Operations and manifests that were accepted.
    pub operations: u64,
    /// Lives of agents, holders and proxies that were ended.
    pub kills: u64,
}

struct Campaign {
    world: World,
    boot: Boot,
    random: Random,
    next_version: BTreeMap<&'static str, u32>,
    rollouts: u64,
    operations: u64,
    kills: u64,
}

const SERVICES: [&str; 3] = ["shop", "mail", "jobs"];
/// One that a manifest has now and then.
const EXTRA: &str = "extra";

/// Plays a seed.
pub fn play(seed: u64) -> Outcome {
    let mut random = Random::new(seed);
    let mut services = BTreeMap::new();
    for name in SERVICES {
        let mut service = manifest::service(name, "1.0.0");
        service.instances = 1 + u32::try_from(random.below(3)).expect("invariant: below 3");
        if random.below(2) == 0 {
            service.readiness.check = ReadinessCheck::Notify;
        }
        if random.below(4) == 0 {
            service.rollout.keep_warm_ms = 0;
        }
        draw_more(&mut service, name, &mut random);
        services.insert(name.to_owned(), service);
    }
    let boot = manifest::boot(services);
    let world = World::new(seed, boot.clone());
    let mut campaign =
        Campaign { world, boot, random, next_version: BTreeMap::new(), rollouts: 0, operations: 0, kills: 0 };
    campaign.world.up();
    while campaign.world.elapsed() < FAULTS_FOR && campaign.world.violations().is_empty() {
        campaign.act();
        let pause = [5, 50, 300, 2_000, 6_000][campaign.random.below(5)];
        let pause = 1 + campaign.random.below(pause);
        campaign.world.run(Duration::from_millis(u64::try_from(pause).expect("invariant: small")));
    }
    let mut world = campaign.world;
    world.note("faults end");
    world.run(REST_WITHIN);
    world.check_rest();
    let violations = world.violations().to_vec();
    Outcome {
        seed,
        violations,
        log: world.log().to_vec(),
        rollouts: campaign.rollouts,
        operations: campaign.operations,
        kills: campaign.kills,
    }
}

/// What was added to a plain service later, so that there is some of everything.
fn draw_more(service: &mut Service, name: &str, random: &mut Random) {
    let port = match name {
        "shop" => 9_000,
        "mail" => 9_001,
        _ => 9_002,
    };
    let manner = match random.below(8) {
        0..=2 => Manner::BlueGreen,
        3..=4 => Manner::Rolling,
        5 => Manner::FixedPort(port),
        6 => Manner::Worker,
        _ => Manner::ExclusiveWorker,
    };
    manifest::set_manner(
        service,
        if name == "jobs" && random.below(2) == 0 { Manner::Worker } else { manner },
    );
    if random.below(3) == 0 {
        (service.rollout.max_surge, service.rollout.max_unavailable) = (0, 1);
    }
    let hook = |word: &str| Hook { command: vec![format!("./{word}")], timeout_ms: 1_000 };
    for word in ["before_start", "after_ready", "before_stop", "after_exit"] {
        if random.below(6) == 0 {
            service.hooks.insert(word.to_owned(), hook(word));
        }
    }
    if random.below(2) == 0 {
        let by = if random.below(2) == 0 {
            ReloadBy::Signal(StopSignal::HangUp)
        } else {
            ReloadBy::Command(vec!["./reload".to_owned()])
        };
        service.reload = Some(Reload { by, timeout_ms: 2_000 });
    }
    if name != "shop" && random.below(3) == 0 {
        let until = if random.below(2) == 0 { DependsUntil::Ready } else { DependsUntil::Started };
        service.depends_on.push(Dependency { service: "shop".to_owned(), until });
    }
}

impl Campaign {
    fn operate(&mut self, service: &'static str) {
        let operate = match self.random.below(9) {
            0..=1 => Operate::Restart,
            2..=3 => Operate::Reload,
            4 => Operate::Stop,
            5..=6 => Operate::Start,
            _ => Operate::Scale(1 + u32::try_from(self.random.below(4)).expect("invariant: below 4")),
        };
        let key = self.operation();
        let answer = self.world.operate(service, operate, &key);
        self.world.note(&format!("{operate:?} {service}: {answer:?}"));
        self.operations += u64::from(answer.is_some_and(|answer| answer.is_ok()));
    }

    /// One key of the manifest becomes another, and the manifest is applied, or is there for the next `up`.
    fn apply(&mut self) {
        let name = SERVICES[self.random.below(SERVICES.len())];
        let manifest = &mut self.boot.manifest;
        let edit = self.random.below(9);
        if let Some(service) = manifest.services.get_mut(name) {
            match edit {
                0 => service.command.push("--more".to_owned()),
                1 => service.environment.push(("MORE".to_owned(), "1".to_owned())),
                2 if service.rollout.strategy != Strategy::Recreate => {
                    service.instances = 1 + u32::try_from(self.random.below(4)).expect("invariant: below 4");
                }
                3 => service.stop.grace_period_ms += 100,
                4 => service.rollout.keep_warm_ms = 4_000,
                5 => service.readiness.interval_ms = 500,
                _ => {}
            }
        }
        if edit == 6 && manifest.services.remove(EXTRA).is_none() {
            manifest.services.insert(EXTRA.to_owned(), manifest::service(EXTRA, "1.0.0"));
        }
        if edit == 7 && manifest.listeners.remove("web").is_none() {
            let port = 8_080 + u16::try_from(self.random.below(2)).expect("invariant: below 2");
            manifest.listeners.insert("web".to_owned(), manifest::listener(port));
        }
        if edit == 8 {
            manifest.access_log = !manifest.access_log;
        }
        let request = ApplyRequest {
            manifest: self.boot.manifest.clone(),
            source: String::new(),
            path: self.boot.path.clone(),
            environment: Vec::new(),
            actor: OPERATOR.to_owned(),
            operation: Some(self.operation()),
        };
        let answer = self.world.apply(&request);
        self.world.note(&format!("apply {name} {edit}: {answer:?}"));
        self.operations += u64::from(answer.is_some_and(|answer| answer.is_ok()));
    }

    fn act(&mut self) {
        let service = SERVICES[self.random.below(SERVICES.len())];
        match self.random.below(32) {
            20..=27 => self.operate(service),
            28..=31 => self.apply(),
            0..=5 => self.deploy(service),
            6..=8 => {
                let operation = self.operation();
                let answer = self.world.rollback(service, &operation);
                self.rollouts += u64::from(answer.is_some_and(|answer| answer.is_ok()));
            }
            9..=10 => self.kill(World::kill_agent),
            11..=12 => {
                let side = if self.random.below(2) == 0 { Side::Before } else { Side::After };
                let nth = 1 + self.random.below(3);
                self.world.kill_agent_at_write(u64::try_from(nth).expect("invariant: small"), side);
                self.kills += 1;
            }
            13 => self.kill(World::kill_holder),
            14..=15 => self.kill(World::kill_proxy),
            16..=17 => {
                let running = self.world.running();
                if !running.is_empty() {
                    let victim = running[self.random.below(running.len())].clone();
                    self.world.crash(&victim);
                }
            }
            18 => self.world.spoil_disk(Duration::from_secs(3)),
            _ => self.down_and_up(),
        }
    }

    /// A key that no request had before.
    fn operation(&mut self) -> String {
        format!("operation-{}", self.random.next_u64())
    }

    /// Everything stops, whoever dies meanwhile, and starts again.
    fn down_and_up(&mut self) {
        // What cannot be written does not survive the agent, this wish included.
        if self.random.below(4) > 0 || self.world.elapsed() > DOWN_BEFORE || self.world.disk_is_bad() {
            return;
        }
        let level = [StopLevel::Drain, StopLevel::SkipDrain, StopLevel::Kill][self.random.below(3)];
        if !self.world.down(level) {
            return;
        }
        if self.random.below(2) == 0 {
            let pause = u64::try_from(self.random.below(500)).expect("invariant: small");
            self.world.run(Duration::from_millis(pause));
            self.world.kill_agent();
        }
        if !self.world.run_until(DOWN_WITHIN, World::is_stopped) {
            self.world.complain("everything was to be stopped, and is not");
            return;
        }
        self.world.up_again(self.boot.clone());
    }

    fn kill(&mut self, kill: fn(&mut World)) {
        self.kills += 1;
        kill(&mut self.world);
    }

    fn deploy(&mut self, service: &'static str) {
        let next = self.next_version.entry(service).or_insert(1);
        let again = self.random.below(5) == 0;
        if !again {
            *next += 1;
        }
        let version = format!("1.{next}.0");
        if !again {
            let behaviour = self.behaviour();
            self.world.note(&format!("{service} {version} will be {behaviour:?}"));
            self.world.behave(service, &version, behaviour);
        }
        let request = DeployRequest {
            service: service.parse().expect("invariant: a name"),
            source: manifest::source(service, &version),
            version: version.parse().ok(),
            replace: self.random.below(4) == 0,
            force: self.random.below(4) == 0,
            actor: OPERATOR.to_owned(),
            operation: Some(self.operation()),
        };
        let answer = self.world.deploy(&request);
        self.world.note(&format!("deploy {service} {version}: {answer:?}"));
        self.rollouts += u64::from(answer.is_some_and(|answer| answer.is_ok()));
    }

    fn behaviour(&mut self) -> Behaviour {
        let millis = |n: usize| Duration::from_millis(u64::try_from(n).expect("invariant: small"));
        let mut behaviour = Behaviour {
            ready_after: Some(millis(20 + self.random.below(2_500))),
            stops_after: Some(millis(5 + self.random.below(1_500))),
            ..Behaviour::default()
        };
        behaviour.dies_at_reload = self.random.below(4) == 0;
        match self.random.below(15) {
            8 => behaviour.hooks_fail = true,
            0 => behaviour.ready_after = None,
            1 => behaviour.exits_after = Some(millis(1 + self.random.below(300))),
            2 => behaviour.exits_after = Some(millis(1_000 + self.random.below(20_000))),
            3 => behaviour.stops_after = None,
            4 => behaviour.spawn_fails = true,
            5 => behaviour.refused = true,
            6 => behaviour.elsewhere = Some(8_080),
            7 => behaviour.unready_of_ten = 4,
            _ => {}
        }
        behaviour
    }
}
