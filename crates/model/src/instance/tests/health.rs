//! Readiness that the agent looks after itself, and liveness.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn liveness(check: LivenessCheck, fall: u32) -> Option<Liveness> {
    Some(Liveness { check, interval: SECOND * 10, timeout: SECOND * 2, fall })
}

fn running(settings: Settings) -> (Instance, Instant) {
    let now = Instant::START;
    let mut instance = Instance::new(settings, now);
    instance.handle_spawned(7, now);
    actions(&mut instance);
    (instance, now)
}

/// Ready, by a probe.
fn watched(check: LivenessCheck, fall: u32) -> (Instance, Instant) {
    let (mut instance, now) =
        running(Settings { liveness: liveness(check, fall), ..settings(ReadinessCheck::Tcp) });
    instance.handle_probe(Some(true), "", now);
    actions(&mut instance);
    (instance, now)
}

/// Lets one liveness check come about and fail.
fn fail_once(instance: &mut Instance) -> Instant {
    let now = instance.poll_timeout().expect("a check is due");
    instance.handle_timeout(now);
    assert_eq!(actions(instance), [Action::Check(CheckPurpose::Liveness)]);
    instance.handle_checked(CheckPurpose::Liveness, Err("answered 500".to_owned()), now);
    now
}

#[test]
fn a_line_of_its_output_makes_it_ready_and_a_probe_does_not() {
    let (mut instance, now) = running(settings(ReadinessCheck::Log("ready".to_owned())));
    instance.handle_probe(Some(true), "", now);
    assert!(!instance.is_ready());
    instance.handle_log_matched(now);
    assert!(instance.is_ready());
}

#[test]
fn it_is_ready_when_it_was_alive_for_that_long() {
    let (mut instance, now) = running(settings(ReadinessCheck::AliveFor(SECOND * 2)));
    assert_eq!(instance.poll_timeout(), Some(now + SECOND * 2));
    instance.handle_timeout(now + SECOND * 2);
    assert!(instance.is_ready());
    assert_eq!(instance.poll_timeout(), None);
}

#[test]
fn a_command_makes_it_ready_after_successes_in_a_row_and_unready_after_failures() {
    let (mut instance, mut now) = running(settings(ReadinessCheck::Command(vec!["./ready".to_owned()])));
    let mut look = |instance: &mut Instance, result: Result<(), String>| {
        now = now.max(instance.poll_timeout().expect("a check is due"));
        instance.handle_timeout(now);
        let asked = actions(instance).contains(&Action::Check(CheckPurpose::Readiness));
        assert!(asked, "it is checked");
        instance.handle_checked(CheckPurpose::Readiness, result, now);
        instance.is_ready()
    };
    let not = || Err("exited with code 1".to_owned());
    assert!(!look(&mut instance, not()));
    assert_eq!(instance.detail(), Some("exited with code 1"));
    assert!(!look(&mut instance, Ok(())));
    assert!(look(&mut instance, Ok(())));
    assert!(look(&mut instance, not()) && look(&mut instance, not()));
    assert!(!look(&mut instance, not()));
    assert!(!look(&mut instance, Ok(())));
    assert!(look(&mut instance, Ok(())));
}

#[test]
fn one_check_is_under_way_at_a_time_and_one_without_an_answer_is_repeated() {
    let (mut instance, now) = running(settings(ReadinessCheck::Command(vec!["./ready".to_owned()])));
    let mut changed = instance.settings().clone();
    changed.readiness.startup_timeout = SECOND * 60;
    instance.set_settings(changed, now);
    instance.handle_timeout(now);
    assert_eq!(actions(&mut instance), [Action::Check(CheckPurpose::Readiness)]);
    let again = now + SECOND + checks::CHECK_MARGIN;
    assert_eq!(instance.poll_timeout(), Some(again));
    instance.handle_timeout(again);
    assert_eq!(actions(&mut instance), [Action::Check(CheckPurpose::Readiness)]);
}

#[test]
fn a_verdict_nobody_asked_for_changes_nothing() {
    let (mut instance, now) = running(settings(ReadinessCheck::Command(vec!["./ready".to_owned()])));
    for _ in 0..5 {
        instance.handle_checked(CheckPurpose::Readiness, Ok(()), now);
        instance.handle_checked(CheckPurpose::Liveness, Err(String::new()), now);
    }
    assert!(!instance.is_ready() && instance.hung().is_none());
}

#[test]
fn failures_in_a_row_make_it_hung_and_it_is_restarted_when_that_is_allowed() {
    let (mut instance, _) = watched(LivenessCheck::Http("/alive".to_owned()), 3);
    fail_once(&mut instance);
    fail_once(&mut instance);
    assert_eq!(instance.hung(), None);
    assert_eq!(instance.try_kill_hung(Instant::START), Err(NotHung));
    let now = fail_once(&mut instance);
    let why = "its liveness check failed 3 times in a row: answered 500";
    assert_eq!(actions(&mut instance), [Action::Report(Report::Hung(why.to_owned()))]);
    assert_eq!((instance.hung(), instance.is_ready()), (Some(why), true));
    assert_eq!(instance.try_kill_hung(now), Ok(()));
    assert_eq!(actions(&mut instance), [Action::Signal(StopSignal::Graceful)]);
    assert!(instance.is_recovering() && !instance.is_leaving());
    instance.handle_timeout(now + GRACE);
    assert_eq!(actions(&mut instance), [Action::KillTree]);
    instance.handle_exited(Ended::Signal(9), now + GRACE);
    assert_eq!(instance.detail(), Some(format!("was hung: {why}").as_str()));
    let next = instance.next_start().expect("it starts again");
    instance.handle_timeout(next);
    instance.handle_spawned(8, next);
    assert!(instance.is_recovering());
    instance.handle_probe(Some(true), "", next);
    assert!(!instance.is_recovering() && instance.hung().is_none());
}

#[test]
fn one_that_answers_again_before_it_is_restarted_is_not_hung() {
    let (mut instance, _) = watched(LivenessCheck::Tcp, 1);
    fail_once(&mut instance);
    actions(&mut instance);
    assert!(instance.hung().is_some());
    let now = instance.poll_timeout().expect("it is checked on");
    instance.handle_timeout(now);
    instance.handle_checked(CheckPurpose::Liveness, Ok(()), now);
    assert_eq!(instance.hung(), None);
    assert_eq!(instance.try_kill_hung(now), Err(NotHung));
}

#[test]
fn liveness_is_not_looked_at_before_it_is_ready_and_is_while_it_is_unready() {
    let (mut instance, now) =
        running(Settings { liveness: liveness(LivenessCheck::Tcp, 1), ..settings(ReadinessCheck::Tcp) });
    assert_eq!(instance.poll_timeout(), Some(now + SECOND * 3), "that is its startup timeout");
    instance.handle_probe(Some(true), "", now);
    instance.handle_probe(Some(false), "timed out", now);
    actions(&mut instance);
    fail_once(&mut instance);
    assert!(instance.hung().is_some() && !instance.is_ready());
}

#[test]
fn silence_is_hung_for_one_that_is_to_send_signs_of_life_and_it_is_aborted() {
    let (mut instance, now) = watched(LivenessCheck::Watchdog, 1);
    let ping = Said { watchdog: true, ..Said::default() };
    instance.handle_notified(&ping, now + SECOND * 9);
    instance.handle_timeout(now + SECOND * 10);
    assert_eq!(instance.hung(), None);
    let late = now + SECOND * 19;
    assert_eq!(instance.poll_timeout(), Some(late));
    instance.handle_timeout(late);
    assert_eq!(instance.hung(), Some("it sent no WATCHDOG=1 for 10s"));
    assert_eq!(instance.poll_timeout(), None, "whoever may restart it knows");
    actions(&mut instance);
    assert_eq!(instance.try_kill_hung(late), Ok(()));
    assert_eq!(actions(&mut instance), [Action::Signal(StopSignal::Abort)]);
    instance.handle_timeout(late + GRACE);
    assert_eq!(actions(&mut instance), [Action::KillTree]);
}

#[test]
fn a_late_sign_of_life_saves_it() {
    let (mut instance, now) = watched(LivenessCheck::Watchdog, 1);
    instance.handle_timeout(now + SECOND * 10);
    assert!(instance.hung().is_some());
    instance.handle_notified(&Said { watchdog: true, ..Said::default() }, now + SECOND * 11);
    assert_eq!((instance.hung(), instance.poll_timeout()), (None, Some(now + SECOND * 21)));
}

#[test]
fn a_process_that_was_not_told_to_send_signs_of_life_is_not_expected_to() {
    let (mut instance, now) = watched(LivenessCheck::Tcp, 3);
    let mut changed = instance.settings().clone();
    changed.liveness = liveness(LivenessCheck::Watchdog, 1);
    instance.set_settings(changed, now);
    assert_eq!(instance.poll_timeout(), None);
    instance.handle_notified(&Said { watchdog: true, ..Said::default() }, now);
    assert_eq!(instance.poll_timeout(), Some(now + SECOND * 10));
}

#[test]
fn one_that_stays_unready_is_hung_after_the_time_for_that_unless_its_liveness_is_checked() {
    let unready = |liveness: Option<Liveness>| {
        let mut settings = Settings { liveness, ..settings(ReadinessCheck::Tcp) };
        settings.restart.unready_after = SECOND * 300;
        let (mut instance, now) = running(settings);
        instance.handle_probe(Some(true), "", now);
        instance.handle_probe(Some(false), "timed out", now);
        instance.handle_timeout(now + SECOND * 300);
        instance
    };
    assert_eq!(unready(None).hung(), Some("it was not ready for 5m (timed out)"));
    assert_eq!(unready(liveness(LivenessCheck::Tcp, 3)).hung(), None);
    let mut instance = unready(None);
    instance.handle_probe(Some(true), "", Instant::START + SECOND * 301);
    assert_eq!((instance.hung(), instance.is_ready()), (None, true));
}

#[test]
fn a_long_time_ready_makes_the_next_delay_short_also_when_it_hung_at_its_end() {
    let (mut instance, now) = running(settings(ReadinessCheck::Tcp));
    instance.handle_exited(Ended::Code(1), now);
    let now = instance.next_start().expect("it starts again");
    instance.handle_timeout(now);
    instance.handle_spawned(8, now);
    instance.handle_probe(Some(true), "", now);
    let late = now + SECOND * 60;
    instance.handle_probe(Some(false), "timed out", late);
    instance.handle_exited(Ended::Code(1), late + SECOND);
    assert_eq!(instance.ends_in_a_row(), 1);
}

#[test]
fn the_health_of_one_that_is_taken_over_is_looked_at_anew() {
    let now = Instant::START;
    let serving = |check, liveness: Option<Liveness>| {
        let settings = Settings { liveness, ..settings(check) };
        Instance::adopt(settings, 7, Adopted::Serving, now)
    };
    let checked = serving(ReadinessCheck::Tcp, liveness(LivenessCheck::Tcp, 3));
    assert_eq!(checked.poll_timeout(), Some(now + SECOND * 10));
    assert!(serving(ReadinessCheck::AliveFor(SECOND), None).is_ready());
    let fresh = settings(ReadinessCheck::AliveFor(SECOND * 2));
    let mut young = Instance::adopt(fresh, 7, Adopted::Candidate, now);
    young.handle_timeout(now + SECOND);
    assert!(!young.is_ready());
    young.handle_timeout(now + SECOND * 2);
    assert!(young.is_ready());
}
