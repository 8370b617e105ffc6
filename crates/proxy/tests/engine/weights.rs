//! Shares of releases: what a window of requests sees of them.

use std::collections::BTreeMap;

use model::balance::WeightedTurns;
use proptest::prelude::{any, prop, prop_assert, proptest};
use wire::routes::EndpointState;

use crate::harness::{Instance, Rig, release, table};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

proptest! {
    #[test]
    fn any_thousand_first_attempts_are_within_one_and_the_threads_of_each_share(
        new in 0_u16..=10_000,
        threads in 1_usize..=4,
        picks in prop::collection::vec(any::<usize>(), 3_000),
    ) {
        let weights = [new, 10_000 - new];
        let mut turns = vec![WeightedTurns::new(weights); threads];
        let taken: Vec<usize> = picks.iter().map(|pick| turns[pick % threads].take().unwrap()).collect();
        let wanted = f64::from(new) / 10.0;
        let bound = 1.0 + f64::from(u32::try_from(threads).unwrap());
        let mut count = taken[..1_000].iter().filter(|at| **at == 0).count();
        for end in 1_000..taken.len() {
            let seen = f64::from(u32::try_from(count).unwrap());
            prop_assert!((seen - wanted).abs() <= bound, "{seen} of 1,000 instead of {wanted}");
            count = count + usize::from(taken[end] == 0) - usize::from(taken[end - 1_000] == 0);
        }
    }
}

#[test]
fn each_release_gets_its_share_however_often_the_table_is_replaced_with_the_same() {
    let instances = [Instance::named("a"), Instance::named("b")];
    let mut table = table(&[]);
    table.services.get_mut("web").unwrap().releases = vec![
        release("1", 9_500, &[("web@1/0", instances[0].address, EndpointState::Serving)]),
        release("2", 500, &[("web@2/0", instances[1].address, EndpointState::Serving)]),
        // One that is about to come, without any share.
        release("3", 0, &[("web@3/0", crate::harness::nobody(), EndpointState::Candidate)]),
    ];
    let mut rig = Rig::with(table, None);
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let mut clients = [rig.client(), rig.client()];
    for number in 0..1_000 {
        if number % 7 == 0 {
            rig.swap(|_| {});
        }
        let client = &mut clients[number % 2];
        client.send(GET);
        *seen.entry(client.response().text().to_owned()).or_default() += 1;
    }
    let new = seen["b 0"];
    assert!((47..=53).contains(&new), "{seen:?}");
}

#[test]
fn a_retry_stays_in_its_release_and_goes_to_another_only_when_it_has_none_left() {
    let (good, other) = (Instance::named("good"), Instance::named("other"));
    let dead = crate::harness::nobody();
    let mut table = table(&[]);
    table.services.get_mut("web").unwrap().releases = vec![
        release("1", 5_000, &[("web@1/0", other.address, EndpointState::Serving)]),
        release(
            "2",
            5_000,
            &[("web@2/0", dead, EndpointState::Serving), ("web@2/1", good.address, EndpointState::Serving)],
        ),
    ];
    let shares = |rig: &Rig, requests: usize| {
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..requests {
            *seen.entry(rig.ask(GET).text().to_owned()).or_default() += 1;
        }
        seen
    };
    let seen = shares(&Rig::with(table.clone(), None), 40);
    assert!((18..=22).contains(&seen["good 0"]) && (18..=22).contains(&seen["other 0"]), "{seen:?}");
    table.services.get_mut("web").unwrap().releases[1].endpoints.truncate(1);
    // So few that the budget for retries has room for all of them.
    assert_eq!(shares(&Rig::with(table, None), 6), BTreeMap::from([("other 0".to_owned(), 6)]));
}
