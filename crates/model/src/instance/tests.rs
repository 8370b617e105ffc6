//! One instance, event by event; its hooks, its health and whole histories are in files of their own.

use super::*;
use crate::manifest::{Hook, LivenessCheck, ReadinessCheck, RestartPolicy};

mod health;
mod histories;
mod hooks;

const DRAIN: Duration = Duration::from_secs(5);
const GRACE: Duration = Duration::from_secs(2);

fn settings(check: ReadinessCheck) -> Settings {
    let second = Duration::from_secs(1);
    Settings {
        readiness: Readiness {
            check,
            interval: second,
            timeout: second,
            rise: 2,
            fall: 3,
            startup_timeout: second * 3,
        },
        liveness: None,
        hooks: Hooks::default(),
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
    instance.handle_notified(&Said { ready: true, ..Said::default() }, now);
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

#[test]
fn a_wait_for_the_next_start_can_be_cut_short() {
    let (mut instance, now) = started();
    assert_eq!(instance.try_start_now(now), Err(StartDenied::Running));
    instance.handle_exited(Ended::Code(1), now);
    actions(&mut instance);
    assert_eq!(instance.next_start(), Some(now + Duration::from_secs(1)));
    assert_eq!(instance.try_start_now(now), Ok(()));
    assert_eq!(actions(&mut instance), [Action::Spawn]);
    assert_eq!(instance.status(now).restarts, 1);
    let _ = instance.try_stop(Hardness::Drain, now);
    assert_eq!(instance.try_start_now(now), Err(StartDenied::Stopping));
}

#[test]
fn one_that_the_policy_keeps_down_starts_when_it_is_asked_to() {
    let now = Instant::START;
    let mut settings = settings(ReadinessCheck::Tcp);
    settings.restart.policy = RestartPolicy::Never;
    let mut instance = Instance::new(settings, now);
    instance.handle_spawned(7, now);
    instance.handle_exited(Ended::Signal(11), now);
    actions(&mut instance);
    assert_eq!((instance.status(now).state, instance.poll_timeout()), ("stopped", None));
    assert_eq!(instance.detail(), Some("was ended by signal 11 (SIGSEGV)"));
    assert_eq!(instance.try_start_now(now), Ok(()));
    assert_eq!(actions(&mut instance), [Action::Spawn]);
}

#[test]
fn three_ends_in_a_row_are_told_as_a_crash_loop_with_the_time_of_the_next_start() {
    let (mut instance, mut now) = started();
    let mut texts = Vec::new();
    for _ in 0..3 {
        instance.handle_exited(Ended::Code(3), now);
        let waits = instance.status(now).waiting_on.map(|waits| waits.to_string());
        texts.push(waits.unwrap_or_default());
        now = instance.next_start().expect("it waits");
        instance.handle_timeout(now);
        instance.handle_spawned(7, now);
    }
    assert_eq!(texts[0], "starts again in 1 s: it exited with code 3");
    assert_eq!(texts[2], "crash loop: 3 ends in a row; starts again in 4 s: it exited with code 3");
    assert_eq!(instance.ends_in_a_row(), 3);
}

#[test]
fn codes_decide_what_the_policy_would_decide_otherwise() {
    let ended = |ended: Ended| {
        let now = Instant::START;
        let mut settings = settings(ReadinessCheck::Tcp);
        settings.restart.policy = RestartPolicy::OnFailure;
        settings.restart.success_codes = vec![3];
        settings.restart.stop_codes = vec![64, 137];
        let mut instance = Instance::new(settings, now);
        instance.handle_spawned(7, now);
        instance.handle_exited(ended, now);
        instance.status(now).state
    };
    let states = [Ended::Code(3), Ended::Code(4), Ended::Code(64), Ended::Signal(15), Ended::OutOfMemory];
    assert_eq!(states.map(ended), ["stopped", "backoff", "stopped", "backoff", "stopped"]);
}

#[test]
fn one_that_we_stopped_ourselves_starts_again_whatever_code_it_ends_with() {
    let now = Instant::START;
    let mut settings = settings(ReadinessCheck::Tcp);
    settings.restart.policy = RestartPolicy::OnFailure;
    settings.restart.stop_codes = vec![143];
    let mut instance = Instance::new(settings, now);
    instance.handle_spawned(7, now);
    instance.handle_timeout(now + Duration::from_secs(3));
    instance.handle_exited(Ended::Signal(15), now + Duration::from_secs(3));
    assert_eq!(instance.status(now).state, "backoff");
}

#[test]
fn a_shorter_longest_delay_holds_for_the_wait_that_is_under_way() {
    let (mut instance, mut now) = started();
    for _ in 0..3 {
        instance.handle_exited(Ended::Code(3), now);
        now = instance.next_start().expect("it waits");
        instance.handle_timeout(now);
        instance.handle_spawned(7, now);
    }
    instance.handle_exited(Ended::Code(3), now);
    let mut changed = instance.settings().clone();
    changed.restart.max_delay = Duration::from_secs(2);
    instance.set_settings(changed, now);
    assert_eq!(instance.next_start(), Some(now + Duration::from_secs(2)));
}

#[test]
fn a_slow_start_can_buy_time_but_no_more_than_ten_times_what_it_has() {
    let (mut instance, now) = started();
    let second = Duration::from_secs(1);
    let asks = |time| Said { extend_timeout: Some(time), ..Said::default() };
    instance.handle_notified(&asks(second), now);
    assert_eq!(instance.poll_timeout(), Some(now + second * 3), "less than it has is nothing");
    instance.handle_notified(&asks(second * 5), now + second);
    assert_eq!(instance.poll_timeout(), Some(now + second * 6));
    instance.handle_notified(&asks(second * 500), now + second);
    assert_eq!(instance.poll_timeout(), Some(now + second * 30));
}

#[test]
fn one_that_stops_slowly_can_buy_time_too() {
    let (mut instance, now) = started();
    let _ = instance.try_stop(Hardness::SkipDrain, now);
    let asks = Said { extend_timeout: Some(Duration::from_secs(600)), ..Said::default() };
    instance.handle_notified(&asks, now + Duration::from_secs(1));
    assert_eq!(instance.poll_timeout(), Some(now + GRACE * 10));
}

#[test]
fn a_parent_that_forks_and_ends_is_no_end_once_its_child_is_the_main_process() {
    let (mut instance, now) = started();
    instance.handle_notified(&Said { ready: true, main_pid: Some(8), ..Said::default() }, now);
    assert_eq!(actions(&mut instance), [Action::AdoptMain(8)]);
    instance.handle_exited(Ended::Code(0), now);
    assert_eq!(actions(&mut instance), []);
    instance.handle_main_pid(8);
    assert_eq!((instance.pid(), instance.status(now).state), (Some(8), "starting"));
    instance.handle_exited(Ended::Code(1), now);
    assert_eq!(instance.status(now).state, "backoff");
}

#[test]
fn an_end_counts_when_nobody_confirms_the_new_main_process() {
    let (mut instance, now) = started();
    instance.handle_notified(&Said { main_pid: Some(8), ..Said::default() }, now);
    instance.handle_exited(Ended::Code(0), now);
    instance.handle_timeout(now + process::MAIN_PID_WAIT);
    assert_eq!(instance.status(now).state, "backoff");
}

#[test]
fn its_own_pid_as_the_main_one_changes_nothing() {
    let (mut instance, now) = started();
    instance.handle_notified(&Said { main_pid: Some(7), ..Said::default() }, now);
    assert_eq!(actions(&mut instance), []);
}

#[test]
fn one_that_says_that_it_stops_gets_no_more_requests() {
    let (mut instance, now) = started();
    instance.handle_probe(Some(true), "", now);
    instance.handle_notified(&Said { stopping: true, ..Said::default() }, now);
    assert_eq!(instance.routing(), Routing::Unready(now));
}

#[test]
fn what_was_started_before_it_was_to_say_when_it_is_ready_is_started_again() {
    let (mut instance, now) = started();
    instance.set_settings(settings(ReadinessCheck::Notify), now);
    assert_eq!(actions(&mut instance), [Action::Signal(StopSignal::Graceful)]);
    instance.handle_exited(Ended::Signal(15), now);
    instance.handle_timeout(now + Duration::from_secs(1));
    assert!(actions(&mut instance).contains(&Action::Spawn));
}

#[test]
fn one_that_is_unready_by_a_check_that_holds_no_more_does_not_stay_so() {
    let lost = || {
        let (mut instance, now) = started();
        instance.handle_probe(Some(true), "", now);
        instance.handle_probe(Some(false), "503", now);
        assert!(!instance.is_ready());
        (instance, now)
    };
    let (mut instance, now) = lost();
    instance.set_settings(settings(ReadinessCheck::Notify), now);
    assert!(instance.hung().is_some());
    let (mut instance, now) = lost();
    instance.set_settings(settings(ReadinessCheck::AliveFor(Duration::from_secs(1))), now);
    assert!(instance.is_ready());
}

#[test]
fn a_slot_that_waited_or_was_down_goes_on_so_in_the_next_life() {
    let (mut instance, now) = started();
    instance.handle_exited(Ended::Code(1), now);
    let past = instance.past();
    let rest = past.rest.clone().expect("it waits");
    assert_eq!((past.restarts, past.ends_in_a_row), (0, 1));
    let mut next = Instance::resting(settings(ReadinessCheck::Tcp), &past, rest, now);
    let at = next.next_start().expect("it waits");
    assert_eq!(at, now + Duration::from_secs(1));
    next.handle_timeout(at);
    assert_eq!(actions(&mut next), [Action::Spawn]);
    assert_eq!((next.restarts(), next.ends_in_a_row()), (1, 1));
    let down = Rest { until: None, why: "exited with code 0".to_owned() };
    let next = Instance::resting(settings(ReadinessCheck::Tcp), &past, down, now);
    assert_eq!((next.poll_timeout(), next.detail()), (None, Some("exited with code 0")));
}
