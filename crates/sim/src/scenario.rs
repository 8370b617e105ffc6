//! Scenarios: what an operator does and what the world does to it, as a text; and what comes of it, as another.
//!
//! ```text
//!  service shop instances=2 readiness=notify keep-warm=20s   before `up`
//!  behave shop 1.1.0 never-ready                             how its processes behave from now on
//!  up | run 5s | deploy shop 1.1.0 [replace] [force] | rollback shop | down drain
//!  restart shop | reload shop | stop shop | start shop | scale shop 3 | apply | remove shop | operation 3
//!  wait 10s settled shop | forgotten shop | stable shop 1.1.0 | phase shop baking | idle shop | stopped | agent
//!  kill agent | holder | proxy · kill-at-write 2 before · crash shop@1.0.0/0 · bad-disk 3s
//!  status | progress shop 2
//! ```
//! Time runs only in `run` and `wait`, and while an operator's request waits for an agent.

use std::collections::BTreeMap;
use std::time::Duration;

use agent::world::{ApplyRequest, DeployRequest};
use wire::link::StopLevel;
use wire::manifest::{Dependency, DependsUntil, Hook, ReadinessCheck, Reload, ReloadBy, Service, StopSignal};

use crate::behaviour::{Behaviour, duration};
use crate::manifest::{self, Manner};
use crate::world::{OPERATOR, Operate, Side, World};

/// An operator's command tries for so long to find an agent.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const TRY_AGAIN: Duration = Duration::from_millis(50);

/// A scenario that is being played.
#[derive(Debug)]
pub struct Scenario {
    services: BTreeMap<String, Service>,
    behaviours: Vec<(String, String, Behaviour)>,
    world: Option<World>,
    operations: u64,
}

/// Plays a whole text.
///
/// # Errors
/// Names the line that cannot be played.
pub fn play(text: &str) -> Result<World, String> {
    play_with(text, |_| {})
}

/// Plays a whole text in a world that `prepare` has changed before its `up`.
///
/// # Errors
/// Names the line that cannot be played.
pub fn play_with(text: &str, prepare: impl FnOnce(&mut World)) -> Result<World, String> {
    let mut scenario =
        Scenario { services: BTreeMap::new(), behaviours: Vec::new(), world: None, operations: 0 };
    let mut prepare = Some(prepare);
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if line == "up" && scenario.world.is_none() {
            scenario.make_world();
            if let (Some(prepare), Some(world)) = (prepare.take(), &mut scenario.world) {
                prepare(world);
            }
        }
        scenario.line(line).map_err(|error| format!("line {}: {line}: {error}", number + 1))?;
    }
    scenario.world.ok_or_else(|| "there was no `up`".to_owned())
}

impl Scenario {
    fn make_world(&mut self) {
        let mut world = World::calm(manifest::boot(self.services.clone()));
        for (service, version, behaviour) in self.behaviours.drain(..) {
            world.behave(&service, &version, behaviour);
        }
        self.world = Some(world);
    }

    fn world(&mut self) -> Result<&mut World, String> {
        self.world.as_mut().ok_or_else(|| "before `up`".to_owned())
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(world) = &mut self.world {
            world.note(&format!("> {line}"));
        }
        match words.as_slice() {
            ["service", name, settings @ ..] => self.service(name, settings),
            ["behave", service, version, rest @ ..] => {
                let behaviour = Behaviour::parse(&rest.join(" "))?;
                match &mut self.world {
                    Some(world) => world.behave(service, version, behaviour),
                    None => self.behaviours.push(((*service).to_owned(), (*version).to_owned(), behaviour)),
                }
                Ok(())
            }
            ["up"] => {
                let boot = manifest::boot(self.services.clone());
                let world = self.world()?;
                if world.is_stopped() {
                    world.up_again(boot);
                } else {
                    world.up();
                }
                Ok(())
            }
            ["run", time] => {
                let time = duration(time)?;
                self.world()?.run(time);
                Ok(())
            }
            ["wait", time, condition @ ..] => self.wait(duration(time)?, condition),
            ["deploy", service, version, flags @ ..] => self.deploy(service, version, flags),
            ["rollback", service] => self.rollback(service),
            ["restart", service] => self.operate(service, Operate::Restart),
            ["reload", service] => self.operate(service, Operate::Reload),
            ["stop", service] => self.operate(service, Operate::Stop),
            ["start", service] => self.operate(service, Operate::Start),
            ["scale", service, instances] => {
                let instances = instances.parse().ok().ok_or("not a number")?;
                self.operate(service, Operate::Scale(instances))
            }
            ["apply"] => self.apply(),
            ["remove", service] => {
                self.services.remove(*service);
                Ok(())
            }
            ["operation", id] => self.operation_progress(id),
            ["down", level] => self.down(level),
            ["kill", what] => self.kill(what),
            ["kill-at-write", nth, side] => {
                let nth = nth.parse().ok().ok_or("not a number")?;
                let side = if *side == "before" { Side::Before } else { Side::After };
                self.world()?.kill_agent_at_write(nth, side);
                Ok(())
            }
            ["bad-disk", time] => {
                let time = duration(time)?;
                self.world()?.spoil_disk(time);
                Ok(())
            }
            ["crash", instance] => {
                let instance = instance.parse().map_err(|error| format!("{error}"))?;
                if self.world()?.crash(&instance) { Ok(()) } else { Err("it does not run".to_owned()) }
            }
            ["status"] => self.status(),
            ["progress", service, rollout] => self.progress(service, rollout),
            _ => Err("not a line of a scenario".to_owned()),
        }
    }

    fn service(&mut self, name: &str, settings: &[&str]) -> Result<(), String> {
        let mut service = manifest::service(name, "1.0.0");
        for setting in settings {
            let (key, value) = setting.split_once('=').ok_or("settings are key=value")?;
            let millis = |value| duration(value).map(wire::manifest::millis);
            match key {
                "instances" => service.instances = value.parse().ok().ok_or("not a number")?,
                "keep-warm" => service.rollout.keep_warm_ms = millis(value)?,
                "drain" => service.stop.drain_timeout_ms = millis(value)?,
                "grace" => service.stop.grace_period_ms = millis(value)?,
                "manner" => {
                    let manner = match value {
                        "rolling" => Manner::Rolling,
                        "worker" => Manner::Worker,
                        "exclusive-worker" => Manner::ExclusiveWorker,
                        "blue-green" => Manner::BlueGreen,
                        port => Manner::FixedPort(port.parse().ok().ok_or("no manner, and no port")?),
                    };
                    manifest::set_manner(&mut service, manner);
                }
                "surge" => service.rollout.max_surge = value.parse().ok().ok_or("not a number")?,
                "unavailable" => {
                    service.rollout.max_unavailable = value.parse().ok().ok_or("not a number")?
                }
                "argument" => service.command.push(value.to_owned()),
                "reload" => {
                    let by = ReloadBy::Signal(StopSignal::HangUp);
                    service.reload = Some(Reload { by, timeout_ms: millis(value)? });
                }
                "needs" => service
                    .depends_on
                    .push(Dependency { service: value.to_owned(), until: DependsUntil::Ready }),
                "before-start" => {
                    let hook = Hook { command: vec![value.to_owned()], timeout_ms: 1_000 };
                    service.hooks.insert("before_start".to_owned(), hook);
                }
                "readiness" => {
                    service.readiness.check = match value {
                        "notify" => ReadinessCheck::Notify,
                        "tcp" => ReadinessCheck::Tcp,
                        _ => ReadinessCheck::Http("/healthz".to_owned()),
                    }
                }
                _ => return Err(format!("`{key}` is no setting")),
            }
        }
        self.services.insert(name.to_owned(), service);
        Ok(())
    }

    fn operate(&mut self, service: &str, operate: Operate) -> Result<(), String> {
        let service = service.to_owned();
        let key = self.operation();
        let is_answer = |answer: &Result<_, _>| !matches!(answer, Err(agent::Denied::Starting));
        let answer = self.ask(|world| world.operate(&service, operate, &key).filter(is_answer))?;
        let text = match answer {
            Ok(accepted) => match accepted.already {
                Some(already) => format!("accepted as operation {}: {already}", accepted.id),
                None => format!("accepted as operation {}", accepted.id),
            },
            Err(denied) => format!("denied: {denied}; {}", denied.hint().unwrap_or("nothing to do")),
        };
        self.world()?.note(&text);
        Ok(())
    }

    /// Makes true what the `service` lines say now.
    fn apply(&mut self) -> Result<(), String> {
        let boot = manifest::boot(self.services.clone());
        let request = ApplyRequest {
            manifest: boot.manifest,
            source: boot.source,
            path: boot.path,
            environment: boot.environment,
            actor: OPERATOR.to_owned(),
            operation: Some(self.operation()),
        };
        let is_answer = |answer: &Result<_, _>| !matches!(answer, Err(agent::Denied::Starting));
        let answer = self.ask(|world| world.apply(&request).filter(is_answer))?;
        let world = self.world()?;
        match answer {
            Ok(applied) => {
                for change in &applied.changes {
                    world.note(&format!("change {}: {:?}", change.key, change.effect));
                }
                world.note(&format!("rollouts {:?}, operations {:?}", applied.rollouts, applied.operations));
            }
            Err(denied) => {
                world.note(&format!("denied: {denied}; {}", denied.hint().unwrap_or("nothing to do")))
            }
        }
        Ok(())
    }

    fn operation_progress(&mut self, id: &str) -> Result<(), String> {
        let id = id.parse().ok().ok_or("not a number")?;
        let world = self.world()?;
        let progress = world.operation(id).ok_or("no such operation")?;
        for line in &progress.lines {
            world.note(&format!("operation {} {}", line.at_ms, line.text));
        }
        world.note(&format!("operation {:?} of {}: {:?}", progress.kind, progress.service, progress.outcome));
        Ok(())
    }

    fn wait(&mut self, limit: Duration, condition: &[&str]) -> Result<(), String> {
        let words: Vec<String> = condition.iter().map(|word| (*word).to_owned()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let world = self.world()?;
        if world.run_until(limit, |world| holds(world, &words)) {
            world.note("it holds");
            Ok(())
        } else {
            let log = world.log().iter().rev().take(40).rev().cloned().collect::<Vec<_>>().join("\n");
            Err(format!("it did not within {limit:?}\n{log}"))
        }
    }

    /// A key for a request, the same whenever it is asked again.
    fn operation(&mut self) -> String {
        self.operations += 1;
        format!("operation {}", self.operations)
    }

    /// Until an agent answers, as the command line does.
    fn ask<T>(&mut self, mut ask: impl FnMut(&mut World) -> Option<T>) -> Result<T, String> {
        let world = self.world()?;
        let mut waited = Duration::ZERO;
        while waited <= ANSWER_WITHIN {
            if let Some(answer) = ask(world) {
                return Ok(answer);
            }
            world.run(TRY_AGAIN);
            waited += TRY_AGAIN;
        }
        Err("nobody answers".to_owned())
    }

    fn deploy(&mut self, service: &str, version: &str, flags: &[&str]) -> Result<(), String> {
        let request = DeployRequest {
            service: service.parse().map_err(|error| format!("{error}"))?,
            source: manifest::source(service, version),
            version: version.parse().ok(),
            replace: flags.contains(&"replace"),
            force: flags.contains(&"force"),
            actor: OPERATOR.to_owned(),
            operation: Some(self.operation()),
        };
        let answer = self.ask(|world| world.deploy(&request).filter(is_answer))?;
        self.note_answer(answer)
    }

    fn rollback(&mut self, service: &str) -> Result<(), String> {
        let service = service.to_owned();
        let operation = self.operation();
        let answer = self.ask(|world| world.rollback(&service, &operation).filter(is_answer))?;
        self.note_answer(answer)
    }

    fn note_answer(&mut self, answer: Result<agent::Accepted, agent::Denied>) -> Result<(), String> {
        let text = match answer {
            Ok(accepted) => format!("accepted as rollout {} to {}", accepted.rollout, accepted.release),
            Err(denied) => format!("denied: {denied}; {}", denied.hint().unwrap_or("nothing to do")),
        };
        self.world()?.note(&text);
        Ok(())
    }

    fn down(&mut self, level: &str) -> Result<(), String> {
        let level = match level {
            "drain" => StopLevel::Drain,
            "skip-drain" => StopLevel::SkipDrain,
            "kill" => StopLevel::Kill,
            _ => return Err("drain, skip-drain or kill".to_owned()),
        };
        self.ask(|world| world.down(level).then_some(()))
    }

    fn kill(&mut self, what: &str) -> Result<(), String> {
        let world = self.world()?;
        match what {
            "agent" => world.kill_agent(),
            "holder" => world.kill_holder(),
            "proxy" => world.kill_proxy(),
            _ => return Err("agent, holder or proxy".to_owned()),
        }
        Ok(())
    }

    fn status(&mut self) -> Result<(), String> {
        let world = self.world()?;
        let status = world.status().ok_or("there is no agent")?;
        for (name, service) in &status.services {
            let warm = service.warm.as_ref().map(|(warm, left)| format!(", warm {warm} for {left} ms"));
            let stable = service.stable.as_deref().unwrap_or("none");
            world.note(&format!("status {name}: stable {stable}{}", warm.unwrap_or_default()));
            for (word, rollout) in [("rollout", &service.rollout), ("last", &service.last_rollout)] {
                let Some(rollout) = rollout else { continue };
                let record = &rollout.record;
                let waits = rollout.waiting_on.as_ref().map(|waits| format!("; {waits}")).unwrap_or_default();
                let reason = record.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
                world.note(&format!(
                    "status   {word} {} to {} {:?} {}%{reason}{waits}",
                    record.id, record.to, record.phase, rollout.weight_percent
                ));
                if !record.output.is_empty() {
                    world.note(&format!("status   output: {}", record.output.join(" | ")));
                }
            }
            for instance in &service.instances {
                let detail = instance.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
                let restarts = instance.restarts;
                world.note(&format!(
                    "status   {} {} restarts {restarts}{detail}",
                    instance.id, instance.state
                ));
            }
        }
        status.warnings.iter().for_each(|warning| world.note(&format!("status warning: {warning}")));
        Ok(())
    }

    fn progress(&mut self, service: &str, rollout: &str) -> Result<(), String> {
        let rollout = rollout.parse().ok().ok_or("not a number")?;
        let world = self.world()?;
        let progress = world.progress(service, rollout).ok_or("no such rollout")?;
        for line in &progress.lines {
            world.note(&format!("progress {} {}", line.at_ms, line.text));
        }
        let phase = progress.rollout.record.phase;
        world.note(&format!("progress {phase:?} decided={} final={}", progress.decided, progress.is_final));
        Ok(())
    }
}

fn is_answer(answer: &Result<agent::Accepted, agent::Denied>) -> bool {
    !matches!(answer, Err(agent::Denied::Starting))
}

fn holds(world: &World, condition: &[&str]) -> bool {
    let status = world.status();
    let service = |name: &str| status.as_ref().and_then(|status| status.services.get(name));
    match condition {
        ["stopped"] => world.is_stopped(),
        ["agent"] => status.is_some(),
        ["stable", name, version] => service(name).is_some_and(|s| s.stable.as_deref() == Some(*version)),
        ["settled", name] => service(name).is_some_and(|s| s.operation.is_none()),
        ["forgotten", name] => status.is_some() && service(name).is_none(),
        ["idle", name] => service(name).is_some_and(|s| s.rollout.is_none()),
        ["phase", name, phase] => {
            let rollout = service(name).and_then(|s| s.rollout.as_ref());
            rollout.is_some_and(|rollout| format!("{:?}", rollout.record.phase).eq_ignore_ascii_case(phase))
        }
        ["ready", name, count] => {
            let ready = service(name).map(|s| s.instances.iter().filter(|i| i.state == "ready").count());
            ready.map(|ready| ready.to_string()).as_deref() == Some(*count)
        }
        ["instances", name, count] => {
            service(name).map(|s| s.instances.len().to_string()).as_deref() == Some(*count)
        }
        _ => false,
    }
}
