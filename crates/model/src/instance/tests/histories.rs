//! Properties of one instance under any order of events.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Happening {
    Spawned,
    SpawnFailed,
    Said(Said),
    LogMatched,
    Checked(CheckPurpose, bool),
    HookEnded(HookKind, bool),
    Confirmed,
    Probe(Option<bool>),
    Drained,
    Exited,
    /// It says that its child is the main process, and ends.
    Forked,
    /// The holder repeats an end that it was not told to forget.
    Repeated,
    Stop(Hardness),
    KillHung,
    StartNow,
    Change(Shape),
    Found,
    Missing,
    Wait(u64),
}

/// Which settings.
#[derive(Debug, Clone, Copy)]
struct Shape {
    readiness: u8,
    liveness: u8,
    hooks: u8,
}

impl Shape {
    fn settings(self) -> Settings {
        let second = Duration::from_secs(1);
        let command = vec!["./check".to_owned()];
        let check = match self.readiness {
            0 => ReadinessCheck::Tcp,
            1 => ReadinessCheck::Notify,
            2 => ReadinessCheck::Log("ready".to_owned()),
            3 => ReadinessCheck::Command(command.clone()),
            _ => ReadinessCheck::AliveFor(second),
        };
        let check_liveness = match self.liveness {
            0 => None,
            1 => Some(LivenessCheck::Tcp),
            2 => Some(LivenessCheck::Command(command.clone())),
            _ => Some(LivenessCheck::Watchdog),
        };
        let fall = if self.liveness > 2 { 1 } else { 2 };
        let hook =
            |bit: u8| (self.hooks & bit != 0).then(|| Hook { command: command.clone(), timeout: second * 3 });
        let mut settings = settings(check);
        settings.restart.unready_after = second * 2;
        Settings {
            liveness: check_liveness.map(|check| Liveness { check, interval: second, timeout: second, fall }),
            hooks: Hooks {
                before_start: hook(1),
                after_ready: hook(2),
                before_stop: hook(4),
                after_exit: hook(8),
            },
            ..settings
        }
    }
}

fn shape() -> impl Strategy<Value = Shape> {
    (0_u8..5, 0_u8..4, 0_u8..16).prop_map(|(readiness, liveness, hooks)| Shape { readiness, liveness, hooks })
}

fn said() -> impl Strategy<Value = Said> {
    (any::<[bool; 3]>(), prop::option::of(0_u64..9_000), prop::option::of(7_u32..10)).prop_map(
        |([ready, stopping, watchdog], extend, main_pid)| Said {
            ready,
            stopping,
            watchdog,
            extend_timeout: extend.map(Duration::from_millis),
            main_pid,
        },
    )
}

fn happening() -> impl Strategy<Value = Happening> {
    let purpose = prop_oneof![Just(CheckPurpose::Readiness), Just(CheckPurpose::Liveness)];
    let hook = prop_oneof![
        Just(HookKind::BeforeStart),
        Just(HookKind::AfterReady),
        Just(HookKind::BeforeStop),
        Just(HookKind::AfterExit)
    ];
    prop_oneof![
        8 => Just(Happening::Spawned),
        1 => Just(Happening::SpawnFailed),
        3 => said().prop_map(Happening::Said),
        1 => Just(Happening::LogMatched),
        6 => (purpose, any::<bool>()).prop_map(|(purpose, ok)| Happening::Checked(purpose, ok)),
        12 => (hook, any::<bool>()).prop_map(|(hook, ok)| Happening::HookEnded(hook, ok)),
        2 => Just(Happening::Confirmed),
        6 => prop::option::of(any::<bool>()).prop_map(Happening::Probe),
        2 => Just(Happening::Drained),
        2 => Just(Happening::Exited),
        2 => Just(Happening::Forked),
        1 => Just(Happening::Repeated),
        2 => prop_oneof![Just(Hardness::Drain), Just(Hardness::SkipDrain), Just(Hardness::Kill)]
            .prop_map(Happening::Stop),
        2 => Just(Happening::KillHung),
        1 => Just(Happening::StartNow),
        1 => shape().prop_map(Happening::Change),
        1 => Just(Happening::Found),
        1 => Just(Happening::Missing),
        10 => (0_u64..4_000).prop_map(Happening::Wait),
    ]
}

/// What a test knows of the slot, beside the machine.
#[derive(Default)]
struct World {
    asked: bool,
    runs: bool,
    /// Its main process ended, and it was not forgotten.
    ended: bool,
    /// MAINPID of a process that may become the main one.
    claims: Option<u32>,
    hooks: BTreeSet<HookKind>,
    took_requests: bool,
    /// Since when it gets no new request.
    left: Option<Instant>,
    drained: bool,
    hard: bool,
    spawned: u32,
    forgotten: u32,
}

impl World {
    fn play(&mut self, instance: &mut Instance, step: Happening, now: &mut Instant) {
        match step {
            Happening::Spawned if self.asked && !self.runs && !self.ended => {
                (self.asked, self.runs) = (false, true);
                self.spawned += 1;
                instance.handle_spawned(7, *now);
            }
            Happening::SpawnFailed if self.asked && !self.runs && !self.ended => {
                self.asked = false;
                instance.handle_spawn_failed("no".to_owned(), *now);
            }
            Happening::Said(said) if self.runs => instance.handle_notified(&said, *now),
            Happening::LogMatched if self.runs => instance.handle_log_matched(*now),
            Happening::Checked(..) | Happening::HookEnded(..) => self.answer(instance, &step, *now),
            Happening::Confirmed => {
                if let Some(pid) = self.claims.take().filter(|_| self.runs || self.ended) {
                    (self.runs, self.ended) = (true, false);
                    instance.handle_main_pid(pid);
                }
            }
            Happening::Probe(healthy) => instance.handle_probe(healthy, "", *now),
            Happening::Drained if instance.is_draining() => {
                self.drained = true;
                instance.handle_drained(*now);
            }
            Happening::Exited if self.runs => {
                (self.runs, self.ended) = (false, true);
                instance.handle_exited(Ended::Code(1), *now);
            }
            Happening::Forked if self.runs => {
                let pid = instance.pid().unwrap_or(7) + 1;
                instance.handle_notified(&Said { main_pid: Some(pid), ..Said::default() }, *now);
                (self.runs, self.ended) = (false, true);
                instance.handle_exited(Ended::Code(0), *now);
            }
            Happening::Repeated if self.ended => instance.handle_exited(Ended::Code(1), *now),
            Happening::Stop(hardness) => {
                self.hard |= hardness > Hardness::Drain;
                let _ = instance.try_stop(hardness, *now);
            }
            Happening::KillHung => self.hard |= instance.try_kill_hung(*now).is_ok(),
            Happening::StartNow => drop(instance.try_start_now(*now)),
            Happening::Change(shape) => instance.set_settings(shape.settings(), *now),
            Happening::Found if self.runs => {
                let pid = instance.pid().unwrap_or(7);
                instance.handle_found(pid, *now, *now);
            }
            Happening::Missing if !self.runs && !self.ended => {
                self.asked = false;
                instance.handle_missing(*now);
            }
            Happening::Wait(millis) => {
                *now = *now + Duration::from_millis(millis);
                instance.handle_timeout(*now);
            }
            Happening::Spawned
            | Happening::SpawnFailed
            | Happening::Said(_)
            | Happening::LogMatched
            | Happening::Drained
            | Happening::Exited
            | Happening::Forked
            | Happening::Repeated
            | Happening::Found
            | Happening::Missing => {}
        }
    }

    /// What was asked for has come about.
    fn answer(&mut self, instance: &mut Instance, step: &Happening, now: Instant) {
        let result = |ok: bool| if ok { Ok(()) } else { Err("no".to_owned()) };
        if let Happening::Checked(purpose, ok) = step {
            instance.handle_checked(*purpose, result(*ok), now);
        } else if let Happening::HookEnded(hook, ok) = step
            && self.hooks.remove(hook)
        {
            instance.handle_hook_ended(*hook, result(*ok), now);
        }
    }

    fn note_routing(&mut self, instance: &Instance, now: Instant) {
        if matches!(instance.routing(), Routing::Ready | Routing::Unready(_)) {
            self.took_requests = true;
            self.left = None;
        } else if self.left.is_none() {
            self.left = Some(now);
        }
    }

    /// Carries out one wish, and says what is wrong with it.
    fn carry_out(&mut self, action: Action, now: Instant) -> Result<(), String> {
        match action {
            Action::Spawn if self.runs => return Err("a second process is asked for".to_owned()),
            Action::Spawn if self.ended => {
                return Err("spawned into a slot that was not forgotten".to_owned());
            }
            Action::Spawn if !self.hooks.is_empty() => {
                return Err(format!("spawned beside {:?}", self.hooks));
            }
            Action::Spawn => {
                self.asked = true;
                (self.took_requests, self.left, self.drained, self.claims) = (false, None, false, None);
            }
            Action::Signal(_) => {
                let waited = self.left.map_or(Duration::ZERO, |left| now.since(left));
                let may = !self.took_requests || self.drained || waited >= DRAIN || self.hard;
                if !self.runs || !may {
                    return Err(format!("signalled after {waited:?}"));
                }
            }
            Action::Forget if !self.ended => return Err("forgotten while it runs, or twice".to_owned()),
            Action::Forget if !self.hooks.is_empty() => {
                return Err(format!("forgotten beside {:?}", self.hooks));
            }
            Action::Forget => {
                self.ended = false;
                self.forgotten += 1;
            }
            Action::Run(hook, _) => {
                let fits = match hook {
                    HookKind::BeforeStart => !self.runs && !self.ended,
                    HookKind::AfterReady | HookKind::BeforeStop => true,
                    HookKind::AfterExit => self.ended,
                };
                if !fits || !self.hooks.insert(hook) {
                    return Err(format!("{hook} runs at a wrong time, or twice"));
                }
            }
            Action::Cancel(hook) => {
                if !self.hooks.remove(&hook) {
                    return Err(format!("{hook} is cancelled and does not run"));
                }
            }
            Action::AdoptMain(pid) => self.claims = Some(pid),
            Action::KillTree => self.claims = None,
            Action::Check(_) | Action::Report(_) => {}
        }
        Ok(())
    }

    fn carry_out_all(&mut self, instance: &mut Instance, now: Instant) -> Result<(), String> {
        while let Some(action) = instance.poll_action() {
            self.carry_out(action, now)?;
        }
        Ok(())
    }
}

proptest! {
    #[test]
    fn no_history_signals_what_takes_requests_or_starts_a_second_process_and_a_kill_ends_it(
        shape in shape(),
        history in prop::collection::vec(happening(), 1..120),
    ) {
        let mut now = Instant::START;
        let mut instance = Instance::new(shape.settings(), now);
        let mut world = World::default();
        let carried = world.carry_out_all(&mut instance, now);
        prop_assert_eq!(carried, Ok(()));
        for step in history {
            world.play(&mut instance, step.clone(), &mut now);
            world.note_routing(&instance, now);
            let carried = world.carry_out_all(&mut instance, now);
            prop_assert_eq!(carried, Ok(()), "after {:?}", step);
            prop_assert!(!instance.is_stopped() || !world.runs, "stopped while its process runs");
            instance.handle_timeout(now);
            let due = instance.poll_timeout();
            prop_assert!(due.is_none_or(|at| at > now), "due {due:?} at {now:?} after {step:?}");
            let carried = world.carry_out_all(&mut instance, now);
            prop_assert_eq!(carried, Ok(()), "at the timeout after {:?}", step);
        }
        // Nothing answers any more but the kernel.
        world.hard = true;
        let _ = instance.try_stop(Hardness::Kill, now);
        for _ in 0..20 {
            let carried = world.carry_out_all(&mut instance, now);
            prop_assert_eq!(carried, Ok(()));
            if instance.is_stopped() {
                break;
            }
            if world.asked {
                world.play(&mut instance, Happening::SpawnFailed, &mut now);
            } else if world.runs {
                world.play(&mut instance, Happening::Exited, &mut now);
            }
            now = now.max(instance.poll_timeout().unwrap_or(now));
            instance.handle_timeout(now);
        }
        prop_assert!(instance.is_stopped(), "{:?}", instance);
        prop_assert_eq!(world.spawned, world.forgotten);
        prop_assert!(world.hooks.is_empty());
    }
}
