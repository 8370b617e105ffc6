//! Hooks: when they run, and that nothing waits for them for ever.

use super::*;

const LIMIT: Duration = Duration::from_secs(60);

fn hook() -> Option<Hook> {
    Some(Hook { command: vec!["./hook".to_owned()], timeout: LIMIT })
}

fn all() -> Hooks {
    Hooks { before_start: hook(), after_ready: hook(), before_stop: hook(), after_exit: hook() }
}

fn with(hooks: Hooks) -> (Instance, Instant) {
    let now = Instant::START;
    (Instance::new(Settings { hooks, ..settings(ReadinessCheck::Tcp) }, now), now)
}

fn ready(hooks: Hooks) -> (Instance, Instant) {
    let (mut instance, now) = with(hooks);
    instance.handle_hook_ended(HookKind::BeforeStart, Ok(()), now);
    instance.handle_spawned(7, now);
    instance.handle_probe(Some(true), "", now);
    actions(&mut instance);
    (instance, now)
}

#[test]
fn each_start_waits_for_the_hook_before_it() {
    let (mut instance, now) = with(all());
    assert_eq!(actions(&mut instance), [Action::Run(HookKind::BeforeStart, None)]);
    assert_eq!((instance.status(now).state, instance.routing()), ("starting", Routing::Absent));
    instance.handle_hook_ended(HookKind::BeforeStart, Ok(()), now);
    assert_eq!(actions(&mut instance), [Action::Spawn]);
    let late = now + LIMIT;
    instance.handle_spawn_failed("no such file".to_owned(), late);
    actions(&mut instance);
    instance.handle_timeout(late + Duration::from_secs(1));
    assert_eq!(actions(&mut instance), [Action::Run(HookKind::BeforeStart, None)]);
}

#[test]
fn the_time_to_become_ready_counts_from_the_spawn_and_not_from_the_hook() {
    let (mut instance, now) = with(all());
    let late = now + Duration::from_secs(50);
    instance.handle_hook_ended(HookKind::BeforeStart, Ok(()), late);
    assert_eq!(instance.poll_timeout(), Some(late + Duration::from_secs(3)));
}

#[test]
fn a_hook_that_fails_before_a_start_is_a_failed_start() {
    let (mut instance, now) = with(all());
    actions(&mut instance);
    instance.handle_hook_ended(HookKind::BeforeStart, Err("exited with code 1".to_owned()), now);
    let why = "its before_start hook failed: exited with code 1".to_owned();
    let failed = Report::SpawnFailed(why, Some(Duration::from_secs(1)));
    assert_eq!(actions(&mut instance), [Action::Report(failed)]);
    assert_eq!(instance.status(now).state, "backoff");
}

#[test]
fn a_stop_does_not_wait_for_the_hook_before_a_start() {
    let (mut instance, now) = with(all());
    actions(&mut instance);
    assert_eq!(instance.try_stop(Hardness::Drain, now), Ok(()));
    assert_eq!(actions(&mut instance), [Action::Cancel(HookKind::BeforeStart)]);
    assert!(instance.is_stopped());
}

#[test]
fn a_hook_after_ready_runs_once_for_each_process_and_its_failure_is_only_told() {
    let (mut instance, now) = with(Hooks { after_ready: hook(), ..Hooks::default() });
    instance.handle_spawned(7, now);
    actions(&mut instance);
    instance.handle_probe(Some(true), "", now);
    let ready = Action::Report(Report::Ready(Duration::ZERO));
    assert_eq!(actions(&mut instance), [ready, Action::Run(HookKind::AfterReady, None)]);
    instance.handle_hook_ended(HookKind::AfterReady, Err("exited with code 2".to_owned()), now);
    let failed = Report::HookFailed(HookKind::AfterReady, "exited with code 2".to_owned());
    assert_eq!(actions(&mut instance), [Action::Report(failed)]);
    assert!(instance.is_ready());
    instance.handle_probe(Some(false), "500", now);
    instance.handle_probe(Some(true), "200", now);
    assert!(!actions(&mut instance).contains(&Action::Run(HookKind::AfterReady, None)));
}

#[test]
fn a_hook_after_ready_does_not_outlive_its_process() {
    let (mut instance, now) = ready(Hooks { after_ready: hook(), ..Hooks::default() });
    instance.handle_exited(Ended::Code(1), now);
    assert_eq!(actions(&mut instance)[0], Action::Cancel(HookKind::AfterReady));
}

#[test]
fn the_hook_before_a_stop_runs_after_the_drain_and_before_the_signal() {
    let (mut instance, now) = ready(all());
    let _ = instance.try_stop(Hardness::Drain, now);
    assert_eq!(actions(&mut instance), []);
    instance.handle_drained(now);
    assert_eq!(actions(&mut instance), [Action::Run(HookKind::BeforeStop, None)]);
    instance.handle_hook_ended(HookKind::BeforeStop, Err("exited with code 1".to_owned()), now);
    let failed = Report::HookFailed(HookKind::BeforeStop, "exited with code 1".to_owned());
    let signal = Action::Signal(StopSignal::Graceful);
    assert_eq!(actions(&mut instance), [Action::Report(failed), signal]);
}

#[test]
fn the_hook_before_a_stop_runs_when_the_drain_is_skipped_and_not_for_a_kill() {
    let (mut instance, now) = ready(all());
    let _ = instance.try_stop(Hardness::SkipDrain, now);
    assert_eq!(actions(&mut instance), [Action::Run(HookKind::BeforeStop, None)]);
    let _ = instance.try_stop(Hardness::Kill, now);
    assert_eq!(actions(&mut instance), [Action::Cancel(HookKind::BeforeStop), Action::KillTree]);
    let (mut instance, now) = ready(all());
    let _ = instance.try_stop(Hardness::Kill, now);
    assert_eq!(actions(&mut instance), [Action::KillTree]);
}

#[test]
fn a_process_that_ends_during_the_hook_before_its_stop_is_gone() {
    let (mut instance, now) = ready(Hooks { before_stop: hook(), ..Hooks::default() });
    let _ = instance.try_stop(Hardness::SkipDrain, now);
    actions(&mut instance);
    instance.handle_exited(Ended::Code(0), now);
    let gone = Action::Report(Report::Gone(Ended::Code(0)));
    let cancel = Action::Cancel(HookKind::BeforeStop);
    assert_eq!(actions(&mut instance), [cancel, Action::KillTree, Action::Forget, gone]);
    assert!(instance.is_stopped());
}

#[test]
fn the_next_start_and_the_end_of_a_slot_wait_for_the_hook_after_an_exit() {
    let (mut instance, now) = ready(all());
    instance.handle_hook_ended(HookKind::AfterReady, Ok(()), now);
    let later = now + Duration::from_secs(9);
    instance.handle_exited(Ended::Code(1), later);
    let facts = ExitFacts { ended: Ended::Code(1), ran: Duration::from_secs(9) };
    let exited = Action::Report(Report::Exited(Ended::Code(1), Some(Duration::from_secs(1))));
    let run = Action::Run(HookKind::AfterExit, Some(facts));
    assert_eq!(actions(&mut instance), [Action::KillTree, run, exited]);
    assert_eq!((instance.status(later).state, instance.routing()), ("backoff", Routing::Absent));
    let late = later + Duration::from_secs(30);
    instance.handle_timeout(late);
    assert_eq!(actions(&mut instance), []);
    instance.handle_hook_ended(HookKind::AfterExit, Ok(()), late);
    instance.handle_timeout(late);
    assert_eq!(actions(&mut instance), [Action::Forget, Action::Run(HookKind::BeforeStart, None)]);
}

#[test]
fn a_stop_is_over_after_the_hook_after_the_exit() {
    let (mut instance, now) = ready(Hooks { after_exit: hook(), ..Hooks::default() });
    let _ = instance.try_stop(Hardness::SkipDrain, now);
    instance.handle_exited(Ended::Signal(15), now);
    actions(&mut instance);
    assert!(instance.is_leaving() && !instance.is_stopped());
    // The holder repeats an end until it is forgotten.
    instance.handle_exited(Ended::Signal(15), now);
    instance.handle_missing(now);
    assert_eq!(actions(&mut instance), []);
    instance.handle_hook_ended(HookKind::AfterExit, Ok(()), now);
    assert_eq!(actions(&mut instance), [Action::Forget]);
    assert!(instance.is_stopped());
}

#[test]
fn a_hook_that_nobody_hears_of_again_is_given_up() {
    let (mut instance, now) = with(all());
    actions(&mut instance);
    let late = now + LIMIT + hooks_margin();
    instance.handle_timeout(late);
    assert_eq!(actions(&mut instance)[0], Action::Cancel(HookKind::BeforeStart));
    assert_eq!(instance.status(late).state, "backoff");
    let (mut instance, now) = ready(Hooks { before_stop: hook(), after_exit: hook(), ..Hooks::default() });
    let _ = instance.try_stop(Hardness::SkipDrain, now);
    instance.handle_timeout(late);
    assert!(actions(&mut instance).contains(&Action::Signal(StopSignal::Graceful)));
    instance.handle_exited(Ended::Code(0), late);
    instance.handle_timeout(late + LIMIT + hooks_margin());
    assert!(actions(&mut instance).contains(&Action::Forget));
    assert!(instance.is_stopped());
}

fn hooks_margin() -> Duration {
    crate::instance::hooks::HOOK_MARGIN
}
