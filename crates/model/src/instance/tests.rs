//! Properties of one instance under any order of events.

use proptest::prelude::*;

use super::*;
use crate::manifest::RestartPolicy;

const DRAIN: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(2);

fn settings(check: ReadinessCheck) -> Settings {
    let second = Duration::from_secs(1);
    Settings {
        check,
        startup_timeout: second * 3,
        stop: Stop { signal: StopSignal::Graceful, drain_timeout: DRAIN, grace_period: GRACE },
        restart: Restart {
            policy: RestartPolicy::Always,
            delay: second,
            max_delay: second * 4,
            reset_after: second * 10,
            success_codes: Vec::new(),
            restart_codes: Vec::new(),
            stop_codes: Vec::new(),
            unready_after: Duration::ZERO,
        },
    }
}

fn started() -> (Instance, Instant) {
    let now = Instant::START;
    let mut instance = Instance::new(settings(ReadinessCheck::Tcp), now);
    assert_eq!(instance.poll_action(), Some(Action::Spawn));
    instance.handle_spawned(7, now);
    (instance, now)
}

fn actions(instance: &mut Instance) -> Vec<Action> {
    std::iter::from_fn(|| instance.poll_action()).collect()
}

#[test]
fn a_verdict_that_comes_before_the_spawn_is_answered_counts() {
    let now = Instant::START;
    let mut instance = Instance::new(settings(ReadinessCheck::Tcp), now);
    instance.handle_probe(Some(true), "", now);
    assert!(!instance.is_ready());
    instance.handle_spawned(7, now);
    assert!(instance.is_ready());
}

#[test]
fn probes_do_not_make_ready_what_has_to_say_so_itself() {
    let now = Instant::START;
    let mut instance = Instance::new(settings(ReadinessCheck::Notify), now);
    instance.handle_spawned(7, now);
    instance.handle_probe(Some(true), "", now);
    assert!(!instance.is_ready());
    instance.handle_notified_ready(now);
    assert!(instance.is_ready());
}

#[test]
fn it_is_signalled_when_it_is_drained_and_killed_after_its_grace() {
    let (mut instance, now) = started();
    instance.handle_probe(Some(true), "", now);
    actions(&mut instance);
    assert_eq!(instance.try_stop(Hardness::Drain, now), Ok(()));
    assert_eq!(instance.try_stop(Hardness::Drain, now), Err(StopDenied::Stopping));
    assert_eq!(actions(&mut instance), []);
    instance.handle_drained(now);
    assert_eq!(actions(&mut instance), [Action::Signal(StopSignal::Graceful)]);
    instance.handle_timeout(now + GRACE);
    assert_eq!(actions(&mut instance), [Action::KillTree]);
    instance.handle_timeout(now + GRACE + KILL_AGAIN);
    assert_eq!(actions(&mut instance), [Action::KillTree]);
    instance.handle_exited(Ended::Signal(9), now + GRACE + KILL_AGAIN);
    let gone = Action::Report(Report::Gone(Ended::Signal(9)));
    assert_eq!(actions(&mut instance), [Action::KillTree, Action::Forget, gone]);
    assert!(instance.is_stopped());
}

#[test]
fn one_that_never_took_a_request_is_signalled_at_once() {
    let (mut instance, now) = started();
    assert_eq!(instance.try_stop(Hardness::Drain, now), Ok(()));
    assert_eq!(actions(&mut instance), [Action::Signal(StopSignal::Graceful)]);
}

#[test]
fn one_that_a_former_agent_may_have_let_requests_to_is_not() {
    let now = Instant::START;
    let mut instance = Instance::adopt(settings(ReadinessCheck::Tcp), 7, Adopted::Candidate, now);
    assert_eq!(instance.try_stop(Hardness::Drain, now), Ok(()));
    assert_eq!(actions(&mut instance), []);
}

#[test]
fn a_crash_frees_the_slot_and_it_starts_again_after_the_delay() {
    let (mut instance, now) = started();
    instance.handle_exited(Ended::Code(1), now);
    let delay = Duration::from_secs(1);
    let exited = Action::Report(Report::Exited(Ended::Code(1), Some(delay)));
    assert_eq!(actions(&mut instance), [Action::KillTree, Action::Forget, exited]);
    assert_eq!((instance.routing(), instance.poll_timeout()), (Routing::Absent, Some(now + delay)));
    instance.handle_timeout(now + delay);
    assert_eq!(actions(&mut instance), [Action::Spawn]);
    assert_eq!(instance.status(now).restarts, 1);
}

#[test]
fn one_that_is_not_ready_in_time_is_stopped_and_starts_again() {
    let (mut instance, now) = started();
    instance.handle_probe(None, "connection refused", now);
    let late = now + Duration::from_secs(3);
    instance.handle_timeout(late);
    let report = Report::StartupTimeout(Duration::from_secs(3), "connection refused".to_owned());
    let signal = Action::Signal(StopSignal::Graceful);
    assert_eq!(actions(&mut instance), [Action::Report(report), signal]);
    instance.handle_exited(Ended::Signal(15), late);
    assert_eq!(instance.status(late).state, "backoff");
}

#[test]
fn a_signal_that_may_be_lost_with_the_holder_is_sent_again_and_an_old_one_is_not() {
    for (age, again) in [(1, true), (10, false)] {
        let (mut instance, now) = started();
        let _ = instance.try_stop(Hardness::SkipDrain, now);
        actions(&mut instance);
        let lost = now + Duration::from_secs(age);
        instance.handle_found(7, lost, lost);
        assert_eq!(!actions(&mut instance).is_empty(), again);
    }
}

#[derive(Debug, Clone)]
enum Happening {
    Spawned,
    SpawnFailed,
    Notified,
    Probe(Option<bool>),
    Drained,
    Exited,
    Stop(Hardness),
    Found,
    Missing,
    Wait(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => Just(Happening::Spawned),
        1 => Just(Happening::SpawnFailed),
        1 => Just(Happening::Notified),
        4 => prop::option::of(any::<bool>()).prop_map(Happening::Probe),
        2 => Just(Happening::Drained),
        2 => Just(Happening::Exited),
        2 => prop_oneof![Just(Hardness::Drain), Just(Hardness::SkipDrain), Just(Hardness::Kill)]
            .prop_map(Happening::Stop),
        1 => Just(Happening::Found),
        1 => Just(Happening::Missing),
        6 => (0_u64..4_000).prop_map(Happening::Wait),
    ]
}

/// What a test knows of the process, beside the machine.
#[derive(Default)]
struct Process {
    asked: bool,
    runs: bool,
    took_requests: bool,
    /// Since when it gets no new request.
    left: Option<Instant>,
    drained: bool,
    hard: bool,
}

proptest! {
    #[test]
    fn no_history_signals_what_takes_requests_or_starts_a_second_process(
        history in prop::collection::vec(happening(), 1..80),
    ) {
        let mut now = Instant::START;
        let mut instance = Instance::new(settings(ReadinessCheck::Tcp), now);
        let mut process = Process::default();
        for step in history {
            match step {
                Happening::Spawned if process.asked && !process.runs => {
                    process.runs = true;
                    instance.handle_spawned(7, now);
                }
                Happening::SpawnFailed if process.asked && !process.runs => {
                    process.asked = false;
                    instance.handle_spawn_failed("no".to_owned(), now);
                }
                Happening::Notified => instance.handle_notified_ready(now),
                Happening::Probe(healthy) => instance.handle_probe(healthy, "", now),
                Happening::Drained if instance.is_draining() => {
                    process.drained = true;
                    instance.handle_drained(now);
                }
                Happening::Exited if process.runs => {
                    process = Process::default();
                    instance.handle_exited(Ended::Code(1), now);
                }
                Happening::Stop(hardness) => {
                    process.hard |= hardness > Hardness::Drain;
                    let _ = instance.try_stop(hardness, now);
                }
                Happening::Found if process.runs => instance.handle_found(7, now, now),
                Happening::Missing if !process.runs => {
                    process = Process::default();
                    instance.handle_missing(now);
                }
                Happening::Wait(millis) => {
                    now = now + Duration::from_millis(millis);
                    instance.handle_timeout(now);
                }
                Happening::Spawned
                | Happening::SpawnFailed
                | Happening::Drained
                | Happening::Exited
                | Happening::Found
                | Happening::Missing => {}
            }
            if matches!(instance.routing(), Routing::Ready | Routing::Unready(_)) {
                process.took_requests = true;
                process.left = None;
            } else if process.left.is_none() {
                process.left = Some(now);
            }
            while let Some(action) = instance.poll_action() {
                match action {
                    Action::Spawn => {
                        prop_assert!(!process.runs, "a second process is asked for");
                        process = Process { asked: true, hard: process.hard, ..Process::default() };
                    }
                    Action::Signal(_) => {
                        prop_assert!(process.runs);
                        let waited = process.left.map_or(Duration::ZERO, |left| now.since(left));
                        let may = !process.took_requests || process.drained || waited >= DRAIN || process.hard;
                        prop_assert!(may, "signalled after {waited:?}");
                    }
                    Action::KillTree | Action::Forget | Action::Report(_) => {}
                }
            }
            prop_assert!(!instance.is_stopped() || !process.runs, "stopped while its process runs");
        }
    }
}
