//! Properties of one rollout under any order of facts.

use proptest::prelude::*;
use proptest::strategy::Strategy as Drawn;

use super::{Strategy, *};
use crate::id::ReleaseId;

fn plan(kind: Kind) -> Plan {
    let release = |text: &str| text.parse::<ReleaseId>().unwrap();
    Plan {
        kind,
        strategy: Strategy::BlueGreen,
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
    Facts {
        ready: 2,
        running: 2,
        staying: 2,
        from_ready: 2,
        from_running: 2,
        from_staying: 2,
        room: true,
        proxies: 1,
        ..Facts::default()
    }
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
    assert_eq!((rollout.phase(), rollout.wanted_from()), (Phase::Baking, Wanted::Instances(2)));
    rollout.handle_timeout(Instant::START + Duration::from_secs(60));
    assert_eq!((rollout.phase(), rollout.wanted_from()), (Phase::Done, Wanted::Nothing));
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
    rollout.handle_facts(Facts::default());
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

fn begun(strategy: Strategy) -> Rollout {
    let mut rollout = Rollout::begin(Plan { strategy, ..plan(Kind::Deploy) }, false);
    rollout.handle_recorded(Instant::START);
    rollout.handle_prepared();
    rollout.handle_facts(old(2));
    rollout.handle_recorded(Instant::START);
    actions(&mut rollout);
    rollout
}

/// So many instances of the old release, all ready.
fn old(count: u32) -> Facts {
    let facts = Facts { from_ready: count, from_running: count, from_staying: count, ..Facts::default() };
    Facts { room: true, proxies: 1, ..facts }
}

/// And so many of the new one.
fn both(new: u32, count: u32) -> Facts {
    Facts { ready: new, running: new, staying: new, ..old(count) }
}

#[test]
fn a_recreated_release_starts_when_nothing_of_the_old_one_is_left() {
    let mut rollout = begun(Strategy::Recreate);
    assert_eq!((rollout.share(), rollout.holds_requests()), (Share::To, true));
    assert_eq!((rollout.wanted_from(), rollout.wanted_to()), (Wanted::Instances(0), Wanted::WhatRuns));
    rollout.handle_facts(Facts { from_running: 1, ..Facts::default() });
    assert_eq!(rollout.wanted_to(), Wanted::WhatRuns);
    rollout.handle_facts(old(0));
    assert_eq!(rollout.wanted_to(), Wanted::Instances(2));
    assert_eq!(rollout.try_abort(Cause::Replaced("1.2.0".to_owned())), Err(AbortDenied::Replacing));
    rollout.handle_facts(Facts { shifted: true, ..both(2, 0) });
    assert_eq!(actions(&mut rollout), [Action::Promote { keep_from: false }, Action::Record]);
    rollout.handle_recorded(Instant::START);
    rollout.handle_facts(both(2, 0));
    assert_eq!((rollout.phase(), rollout.holds_requests()), (Phase::Done, false));
}

#[test]
fn the_way_back_of_a_recreated_release_ends_when_the_old_one_is_ready_or_will_not_do_either() {
    let back = || {
        let mut rollout = begun(Strategy::Recreate);
        rollout.handle_facts(both(1, 0));
        rollout.handle_failure(Failure::Refused("no".to_owned()));
        assert_eq!((rollout.wanted_to(), rollout.wanted_from()), (Wanted::Nothing, Wanted::WhatRuns));
        rollout.handle_facts(Facts { restored: true, ..old(0) });
        assert_eq!((rollout.phase(), rollout.wanted_from()), (Phase::RollingBack, Wanted::Instances(2)));
        rollout
    };
    let mut rollout = back();
    rollout.handle_facts(Facts { restored: true, ..old(2) });
    assert_eq!(rollout.phase(), Phase::RolledBack);
    let mut rollout = back();
    rollout.handle_old_failure();
    rollout.handle_facts(Facts { restored: true, ..old(0) });
    assert_eq!(rollout.phase(), Phase::RolledBack);
}

#[test]
fn an_aborted_recreation_does_not_start_the_old_release_beside_what_is_left_of_it() {
    let mut rollout = begun(Strategy::Recreate);
    rollout.handle_facts(Facts { from_running: 1, ..Facts::default() });
    assert_eq!(rollout.try_abort(Cause::Operator("ada".to_owned())), Ok(()));
    assert_eq!(rollout.wanted_from(), Wanted::WhatRuns);
    rollout.handle_facts(old(0));
    assert_eq!(rollout.wanted_from(), Wanted::Instances(2));
}

#[test]
fn a_rolling_release_takes_over_one_by_one_and_goes_back_at_once() {
    let rolling = Strategy::Rolling { max_surge: 1, max_unavailable: 0 };
    let mut rollout = begun(rolling);
    assert_eq!((rollout.share(), rollout.wanted_from()), (Share::Both, Wanted::WhatRuns));
    rollout.handle_facts(old(2));
    assert_eq!((rollout.wanted_to(), rollout.wanted_from()), (Wanted::Instances(1), Wanted::Instances(2)));
    rollout.handle_facts(both(1, 2));
    assert_eq!((rollout.wanted_to(), rollout.wanted_from()), (Wanted::Instances(1), Wanted::Instances(1)));
    rollout.handle_facts(both(1, 1));
    assert_eq!((rollout.wanted_to(), rollout.wanted_from()), (Wanted::Instances(2), Wanted::Instances(1)));
    let mut failed = rollout.clone();
    failed.handle_failure(Failure::Refused("no".to_owned()));
    assert_eq!((failed.share(), failed.wanted_to()), (Share::From, Wanted::Nothing));
    failed.handle_facts(Facts { restored: true, ..both(1, 1) });
    assert_eq!((failed.phase(), failed.wanted_from()), (Phase::RollingBack, Wanted::Instances(2)));
    failed.handle_facts(Facts { restored: true, ..both(0, 2) });
    assert_eq!(failed.phase(), Phase::RolledBack);
    rollout.handle_facts(both(2, 1));
    assert_eq!(rollout.wanted_from(), Wanted::Instances(0));
    rollout.handle_facts(Facts { shifted: true, ..both(2, 0) });
    assert_eq!(rollout.phase(), Phase::Promoting);
}

#[test]
fn a_rolling_release_that_fails_serves_on_while_nothing_of_the_old_one_is_ready() {
    let mut rollout = begun(Strategy::Rolling { max_surge: 0, max_unavailable: 2 });
    rollout.handle_facts(both(1, 0));
    assert_eq!(rollout.try_abort(Cause::Operator("ada".to_owned())), Ok(()));
    assert_eq!((rollout.wanted_to(), rollout.wanted_from()), (Wanted::WhatRuns, Wanted::Instances(1)));
    rollout.handle_facts(both(1, 1));
    assert_eq!(rollout.wanted_to(), Wanted::Nothing);
    let mut full = begun(Strategy::Rolling { max_surge: 0, max_unavailable: 1 });
    full.handle_facts(both(2, 0));
    assert_eq!(full.try_abort(Cause::Operator("ada".to_owned())), Ok(()));
    assert_eq!((full.wanted_to(), full.wanted_from()), (Wanted::Instances(1), Wanted::Instances(0)));
    full.handle_facts(Facts { running: 2, ..both(1, 0) });
    assert_eq!(full.wanted_to(), Wanted::WhatRuns);
    full.handle_facts(both(1, 0));
    assert_eq!((full.wanted_to(), full.wanted_from()), (Wanted::WhatRuns, Wanted::Instances(1)));
}

#[test]
fn an_agent_that_takes_over_stops_nothing_before_it_knows_what_runs() {
    for strategy in [Strategy::Rolling { max_surge: 1, max_unavailable: 0 }, Strategy::Recreate] {
        for phase in [Phase::Starting, Phase::Shifting, Phase::RollingBack] {
            let plan = Plan { strategy, ..plan(Kind::Deploy) };
            let rollout = Rollout::resume(plan, phase, Duration::ZERO, Instant::START);
            let stops_new = strategy == Strategy::Recreate && phase == Phase::RollingBack;
            assert_eq!(rollout.wanted_to() == Wanted::Nothing, stops_new, "{strategy:?} {phase:?}");
            let stops_old = strategy == Strategy::Recreate && phase != Phase::RollingBack;
            assert_eq!(rollout.wanted_from() == Wanted::Instances(0), stops_old, "{strategy:?} {phase:?}");
        }
    }
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

fn happening() -> impl Drawn<Value = Happening> {
    let facts =
        (0_u32..3, any::<[bool; 5]>()).prop_map(|(ready, [from_gone, room, proxy, shifted, restored])| {
            let proxies = u32::from(proxy);
            let from = u32::from(!from_gone);
            Happening::Facts(Facts {
                ready,
                running: ready,
                staying: ready,
                from_ready: from,
                from_running: from,
                others: 0,
                from_staying: from,
                room,
                proxies,
                shifted,
                restored,
            })
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
            let given_up = rollout.wanted_from() == Wanted::Nothing && rollout.phase() != Phase::Done;
            prop_assert!(!given_up || recorded, "the old release is given up before the record says so");
            prop_assert!(rollout.phase() != Phase::Done || promoted);
            if rollout.phase().is_final() {
                prop_assert!(rollout.waiting_on(now).is_none() && rollout.intent().is_none());
            }
        }
    }
}
