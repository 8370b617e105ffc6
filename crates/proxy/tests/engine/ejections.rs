//! Endpoints that are ejected for what they answer, and when that counts for nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use wire::routes::{Algorithm, EndpointState, OutlierSettings, RouteTable, ServiceTraffic};

use crate::harness::{Instance, Rig, eventually, ok, release, table};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn web(table: &mut RouteTable) -> &mut ServiceTraffic {
    table.services.get_mut("web").unwrap()
}

/// Answers 500 while that is wanted, and counts what it is asked.
fn failing(while_set: &Arc<AtomicBool>) -> (Instance, Arc<AtomicUsize>) {
    let (fails, asked) = (while_set.clone(), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    let instance = Instance::answering(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        if fails.load(Ordering::SeqCst) {
            "HTTP/1.1 500 Broken\r\nContent-Length: 3\r\n\r\nbad".into()
        } else {
            ok("well")
        }
    });
    (instance, asked)
}

/// Turns on one thread, so that who is asked when is known.
fn judged(mut table: RouteTable, outlier: OutlierSettings) -> RouteTable {
    table.threads = 1;
    web(&mut table).balance.algorithm = Algorithm::RoundRobin;
    web(&mut table).outlier = Some(outlier);
    table
}

fn statuses(rig: &Rig, requests: usize) -> Vec<u16> {
    let mut client = rig.client();
    let ask = |_| {
        client.send(GET);
        client.response().status()
    };
    (0..requests).map(ask).collect()
}

fn failures(rig: &Rig, requests: usize) -> usize {
    statuses(rig, requests).into_iter().filter(|status| *status == 500).count()
}

#[test]
fn five_errors_in_a_row_eject_an_endpoint_which_comes_back_after_its_time() {
    let fails = Arc::new(AtomicBool::new(true));
    let ((bad, asked), good) = (failing(&fails), Instance::named("good"));
    let outlier = OutlierSettings { base_ejection_ms: 600, ..OutlierSettings::default() };
    let mut rig = Rig::with(judged(table(&[bad.address, good.address]), outlier), None);
    assert_eq!(failures(&rig, 10), 5);
    assert_eq!(failures(&rig, 20), 0, "it is out");
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    let counters = rig.counters();
    assert_eq!((counters.ejected, counters.ejected_now), (1, 1));
    fails.store(false, Ordering::SeqCst);
    let mut client = rig.client();
    eventually(|| {
        client.send(GET);
        client.response().text() == "well"
    });
    assert_eq!(failures(&rig, 20), 0);
    let counters = rig.counters();
    assert_eq!((counters.ejected, counters.ejected_now), (1, 0));
}

#[test]
fn the_only_endpoint_is_never_ejected_nor_the_last_one_of_several() {
    let fails = Arc::new(AtomicBool::new(true));
    let ((one, _), (other, _)) = (failing(&fails), failing(&fails));
    let outlier = OutlierSettings { max_ejected_percent: 100, ..OutlierSettings::default() };
    let mut rig = Rig::with(judged(table(&[one.address]), outlier.clone()), None);
    assert_eq!(failures(&rig, 30), 30);
    assert_eq!(rig.counters().ejected, 0);
    let mut rig = Rig::with(judged(table(&[one.address, other.address]), outlier), None);
    assert_eq!(failures(&rig, 30), 30);
    assert_eq!(rig.counters().ejected, 1);
}

#[test]
fn a_low_success_rate_ejects_after_an_interval() {
    let (bad, goods) = (Arc::new(AtomicUsize::new(0)), ["b", "c", "d", "e"].map(Instance::named));
    let count = bad.clone();
    // Every second answer fails: never five in a row.
    let flaky = Instance::answering(move |_| {
        if count.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
            "HTTP/1.1 500 Broken\r\nContent-Length: 3\r\n\r\nbad".into()
        } else {
            ok("a 0")
        }
    });
    let outlier =
        OutlierSettings { interval_ms: 1_000, success_rate_requests: 10, ..OutlierSettings::default() };
    let mut addresses = vec![flaky.address];
    addresses.extend(goods.iter().map(|good| good.address));
    let mut rig = Rig::with(judged(table(&addresses), outlier), None);
    eventually(|| {
        failures(&rig, 50);
        rig.counters().ejected > 0
    });
    assert_eq!(rig.counters().ejected, 1);
    let asked = bad.load(Ordering::SeqCst);
    assert_eq!(failures(&rig, 100), 0);
    assert_eq!(bad.load(Ordering::SeqCst), asked);
}

/// Three that fail and one that does not, where one error is enough.
fn mostly_failing(panic_percent: u32) -> (Vec<Instance>, RouteTable) {
    let fails = Arc::new(AtomicBool::new(true));
    let mut instances: Vec<Instance> = (0..3).map(|_| failing(&fails).0).collect();
    instances.push(Instance::named("good"));
    let addresses: Vec<_> = instances.iter().map(|instance| instance.address).collect();
    let outlier = OutlierSettings {
        consecutive_errors: 1,
        max_ejected_percent: 100,
        base_ejection_ms: Duration::from_secs(60).as_millis().try_into().unwrap(),
        ..OutlierSettings::default()
    };
    let mut table = judged(table(&addresses), outlier);
    web(&mut table).balance.panic_percent = panic_percent;
    (instances, table)
}

#[test]
fn with_fewer_admitted_than_the_threshold_ejections_count_for_nothing() {
    let (_instances, table) = mostly_failing(0);
    let rig = Rig::with(table, None);
    failures(&rig, 4);
    assert_eq!(failures(&rig, 40), 0, "without a threshold the good one has everything");
    let (_instances, table) = mostly_failing(50);
    let rig = Rig::with(table, None);
    failures(&rig, 4);
    assert_eq!(failures(&rig, 40), 30, "one of four is below one half: all are asked");
}

#[test]
fn a_release_that_is_being_tried_out_does_not_panic() {
    let (_instances, mut table) = mostly_failing(50);
    let stable = Instance::named("stable");
    web(&mut table).releases[0].weight = 2_000;
    web(&mut table).releases.push(release(
        "0",
        8_000,
        &[("web@0/0", stable.address, EndpointState::Serving)],
    ));
    let rig = Rig::with(table, None);
    failures(&rig, 20);
    assert_eq!(failures(&rig, 100), 0);
}
