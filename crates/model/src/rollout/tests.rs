//! Properties of one rollout under any order of facts.

use proptest::prelude::*;

use super::*;

fn plan(kind: Kind) -> Plan {
    let release = |text: &str| text.parse::<ReleaseId>().unwrap();
    Plan {
        kind,
        to: release("1.1.0"),
        from: (kind != Kind::First).then(|| release("1.0.0")),
        instances: 2,
        keep_warm: Duration::from_secs(60),
    }
}

fn actions(rollout: &mut Rollout) -> Vec<Action> {
    std::iter::from_fn(|| rollout.poll_action()).collect()
}

fn ready() -> Facts {
    Facts { ready: 2, from_ready: 2, room: true, proxies: 1, ..Facts::default() }
}

/// A deploy whose instances have been asked for.
fn starting() -> Rollout {
    let mut rollout = Rollout::begin(plan(Kind::Deploy), false);
    rollout.handle_recorded(Instant::START);
    rollout.handle_prepared();
    rollout.handle_facts(Facts { room: true, ..Facts::default() });
    rollout.handle_recorded(Instant::START);
    assert_eq!(rollout.phase(), Phase::Starting);
    actions(&mut rollout);
    rollout
}

#[test]
fn a_deploy_is_recorded_before_each_step_and_bakes() {
    let mut rollout = starting();
    rollout.handle_facts(ready());
    assert_eq!((actions(&mut rollout), rollout.share()), (vec![Action::Record], Share::From));
    rollout.handle_recorded(Instant::START);
    assert_eq!((actions(&mut rollout), rollout.share()), (vec![Action::Shift], Share::To));
    rollout.handle_facts(ready());
    assert_eq!(rollout.phase(), Phase::Shifting);
    rollout.handle_facts(Facts { shifted: true, ..ready() });
    assert_eq!(actions(&mut rollout), [Action::Promote { keep_from: true }, Action::Record]);
    rollout.handle_recorded(Instant::START);
    assert_eq!((rollout.phase(), rollout.wants_from()), (Phase::Baking, true));
    rollout.handle_timeout(Instant::START + Duration::from_secs(60));
    assert_eq!((rollout.phase(), rollout.wants_from()), (Phase::Done, false));
}

#[test]
fn a_rollback_to_what_runs_moves_traffic_before_anything_is_recorded() {
    let mut rollout = Rollout::begin(plan(Kind::Rollback), true);
    assert_eq!(rollout.share(), Share::To);
    assert_eq!(actions(&mut rollout), [Action::Shift, Action::Record]);
    rollout.handle_facts(Facts { shifted: true, ..Facts::default() });
    assert_eq!(actions(&mut rollout), [Action::Promote { keep_from: false }, Action::Record]);
    rollout.handle_recorded(Instant::START);
    assert_eq!(rollout.phase(), Phase::Draining);
    rollout.handle_facts(Facts { from_gone: true, ..Facts::default() });
    assert_eq!(rollout.phase(), Phase::Done);
}

#[test]
fn the_third_exit_is_a_verdict_and_one_that_stays_down_is_one_at_once() {
    let mut rollout = starting();
    rollout.handle_exit("shop@1.1.0/0", "exited with code 1", true);
    rollout.handle_exit("shop@1.1.0/1", "exited with code 1", true);
    assert_eq!(rollout.phase(), Phase::Starting);
    rollout.handle_exit("shop@1.1.0/0", "exited with code 2", true);
    assert_eq!(rollout.phase(), Phase::RollingBack);
    assert!(rollout.cause().unwrap().to_string().ends_with("the last, shop@1.1.0/0, exited with code 2"));
    let mut rollout = starting();
    rollout.handle_exit("shop@1.1.0/0", "exited with code 0", false);
    assert_eq!(rollout.phase(), Phase::RollingBack);
}

#[test]
fn what_is_called_back_ends_when_nothing_goes_to_it() {
    let mut rollout = starting();
    assert_eq!(rollout.try_abort(Cause::Operator("ada".to_owned())), Ok(()));
    assert_eq!((rollout.wanted_to(), rollout.share()), (Wanted::Nothing, Share::From));
    assert_eq!(rollout.try_abort(Cause::Earlier), Err(AbortDenied::RollingBack));
    rollout.handle_facts(Facts::default());
    assert_eq!(rollout.phase(), Phase::RollingBack);
    rollout.handle_facts(Facts { restored: true, ..Facts::default() });
    assert_eq!(rollout.phase(), Phase::RolledBack);
    assert_eq!(rollout.try_abort(Cause::Earlier), Err(AbortDenied::Final));
}

#[test]
fn a_first_release_that_fails_leaves_nothing_and_so_it_is_failed() {
    let mut rollout = Rollout::resume(plan(Kind::First), Phase::Starting, Duration::ZERO, Instant::START);
    rollout.handle_failure(Failure::Refused("no".to_owned()));
    rollout.handle_facts(Facts { restored: true, ..Facts::default() });
    assert_eq!(rollout.phase(), Phase::Failed);
}

#[test]
fn it_waits_for_room_before_it_starts() {
    let mut rollout = Rollout::begin(plan(Kind::Deploy), false);
    rollout.handle_recorded(Instant::START);
    rollout.handle_prepared();
    rollout.handle_facts(Facts::default());
    assert_eq!(rollout.waiting_on(Instant::START), Some(WaitingOn::Room));
    rollout.handle_facts(Facts { room: true, ..Facts::default() });
    assert_eq!(rollout.phase(), Phase::Starting);
}

#[test]
fn a_replaced_one_is_over_at_once() {
    let mut rollout = starting();
    assert_eq!(rollout.try_abort(Cause::Replaced("1.2.0".to_owned())), Ok(()));
    assert_eq!(rollout.phase(), Phase::RolledBack);
    assert_eq!(rollout.cause().unwrap().to_string(), "replaced by 1.2.0");
}

#[derive(Debug, Clone)]
enum Happening {
    Recorded,
    Prepared,
    Facts(Facts),
    Exit,
    Failure,
    Abort,
    End,
    Wait,
}

fn happening() -> impl Strategy<Value = Happening> {
    let facts =
        (0_u32..3, any::<[bool; 5]>()).prop_map(|(ready, [from_gone, room, proxy, shifted, restored])| {
            let proxies = u32::from(proxy);
            Happening::Facts(Facts { ready, from_ready: 1, from_gone, room, proxies, shifted, restored })
        });
    prop_oneof![
        4 => Just(Happening::Recorded),
        2 => Just(Happening::Prepared),
        8 => facts,
        1 => Just(Happening::Exit),
        1 => Just(Happening::Failure),
        1 => Just(Happening::Abort),
        1 => Just(Happening::End),
        1 => Just(Happening::Wait),
    ]
}

proptest! {
    #[test]
    fn no_history_gives_up_the_old_release_before_the_new_one_is_stable(
        kind in prop_oneof![Just(Kind::First), Just(Kind::Deploy), Just(Kind::Rollback)],
        history in prop::collection::vec(happening(), 1..60),
    ) {
        let mut now = Instant::START;
        let mut rollout = Rollout::begin(plan(kind), false);
        let (mut was_ready, mut promoted, mut recorded) = (false, false, false);
        for step in history {
            let before = rollout.phase();
            match step {
                Happening::Recorded => {
                    recorded |= promoted;
                    rollout.handle_recorded(now);
                }
                Happening::Prepared => rollout.handle_prepared(),
                Happening::Facts(facts) => {
                    was_ready |= before == Phase::Starting && facts.ready >= 2;
                    rollout.handle_facts(facts);
                    let promotes = actions(&mut rollout).iter().any(|a| matches!(a, Action::Promote { .. }));
                    prop_assert!(!promotes || (facts.shifted && was_ready));
                    promoted |= promotes;
                }
                Happening::Exit => rollout.handle_exit("i", "exited", true),
                Happening::Failure => rollout.handle_failure(Failure::Refused(String::new())),
                Happening::Abort => {
                    let denied = rollout.try_abort(Cause::Operator(String::new())).is_err();
                    prop_assert!(denied || !promoted);
                }
                Happening::End => {
                    prop_assert!(rollout.try_end().is_err() || promoted || before.is_final());
                }
                Happening::Wait => {
                    now = now + Duration::from_secs(30);
                    rollout.handle_timeout(now);
                }
            }
            prop_assert!(!before.is_final() || rollout.phase() == before, "a final phase has changed");
            if kind != Kind::First && !was_ready {
                prop_assert_eq!(rollout.share(), Share::From);
            }
            let given_up = !rollout.wants_from() && rollout.phase() != Phase::Done;
            prop_assert!(!given_up || recorded, "the old release is given up before the record says so");
            prop_assert!(rollout.phase() != Phase::Done || promoted);
            if rollout.phase().is_final() {
                prop_assert!(rollout.waiting_on(now).is_none() && rollout.intent().is_none());
            }
        }
    }
}
