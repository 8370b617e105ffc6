//! Which endpoint gets a request: turns, loads, hashes, slow start, and routes that services share.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use wire::routes::{Algorithm, EndpointState, HashKey, RouteTable, ServiceTraffic, Split};

use crate::harness::{Instance, Rig, nobody, release, table};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn web(table: &mut RouteTable) -> &mut ServiceTraffic {
    table.services.get_mut("web").unwrap()
}

fn addresses(instances: &[Instance]) -> Vec<SocketAddr> {
    instances.iter().map(|instance| instance.address).collect()
}

/// On one thread, so that shares are exact.
fn one_thread(addresses: &[SocketAddr], algorithm: Algorithm, weights: &[u32]) -> RouteTable {
    let mut table = table(addresses);
    table.threads = 1;
    web(&mut table).balance.algorithm = algorithm;
    for (endpoint, weight) in web(&mut table).releases[0].endpoints.iter_mut().zip(weights) {
        endpoint.weight = *weight;
    }
    table
}

fn shares(rig: &Rig, requests: usize) -> BTreeMap<String, usize> {
    let mut client = rig.client();
    let mut seen = BTreeMap::new();
    for _ in 0..requests {
        client.send(GET);
        let name = client.response().text().trim_end_matches(" 0").to_owned();
        *seen.entry(name).or_default() += 1;
    }
    seen
}

fn of<const N: usize>(wanted: [(&str, usize); N]) -> BTreeMap<String, usize> {
    wanted.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

#[test]
fn turns_are_exact_by_weight_and_go_on_when_an_endpoint_leaves_or_comes() {
    let all = ["a", "b", "c", "d"].map(Instance::named);
    let mut rig = Rig::with(one_thread(&addresses(&all), Algorithm::RoundRobin, &[1, 2, 3, 4]), None);
    assert_eq!(shares(&rig, 100), of([("a", 10), ("b", 20), ("c", 30), ("d", 40)]));
    // However often the same table comes.
    let mut seen = BTreeMap::new();
    for _ in 0..20 {
        rig.swap(|_| {});
        shares(&rig, 1).into_iter().for_each(|(name, count)| *seen.entry(name).or_default() += count);
    }
    assert_eq!(seen, of([("a", 2), ("b", 4), ("c", 6), ("d", 8)]));
    rig.swap(|table| web(table).releases[0].endpoints[3].state = EndpointState::Candidate);
    assert_eq!(shares(&rig, 60), of([("a", 10), ("b", 20), ("c", 30)]));
    rig.swap(|table| web(table).releases[0].endpoints[3].state = EndpointState::Serving);
    let seen = shares(&rig, 100);
    assert!((39..=41).contains(&seen["d"]), "{seen:?}");
}

#[test]
fn an_idle_service_is_shared_by_weight_too() {
    let all = ["a", "b"].map(Instance::named);
    let rig = Rig::with(one_thread(&addresses(&all), Algorithm::LeastRequests, &[1, 3]), None);
    let seen = shares(&rig, 800);
    assert!((140..=260).contains(&seen["a"]), "{seen:?}");
}

#[test]
fn an_endpoint_that_begins_to_serve_starts_with_a_tenth_and_those_of_the_first_table_do_not() {
    let all = ["a", "b", "c"].map(Instance::named);
    for algorithm in [Algorithm::RoundRobin, Algorithm::LeastRequests] {
        let mut table = one_thread(&addresses(&all), algorithm.clone(), &[1, 1, 1]);
        web(&mut table).balance.slow_start_ms = 10_000_000;
        web(&mut table).releases[0].endpoints[2].state = EndpointState::Candidate;
        let mut rig = Rig::with(table, None);
        let seen = shares(&rig, 200);
        assert!(seen.len() == 2 && seen["a"].abs_diff(100) <= 40, "{seen:?}");
        rig.swap(|table| web(table).releases[0].endpoints[2].state = EndpointState::Serving);
        // One of twenty-one.
        let seen = shares(&rig, 630);
        let margin = if algorithm == Algorithm::RoundRobin { 1 } else { 25 };
        assert!(seen["c"].abs_diff(30) <= margin, "{seen:?}");
    }
}

/// Who answers each of `keys`, asked on a connection of its own.
fn placed(rig: &Rig, keys: u32, field: impl Fn(u32) -> String) -> Vec<String> {
    let ask =
        |key| rig.ask(&format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", field(key))).text().to_owned();
    (0..keys).map(ask).collect()
}

#[test]
fn a_key_goes_to_the_same_endpoint_on_every_thread_and_in_every_proxy() {
    let all = ["a", "b", "c", "d"].map(Instance::named);
    let mut table = table(&addresses(&all));
    table.threads = 4;
    web(&mut table).balance.algorithm = Algorithm::Hash(HashKey::Header("X-User".into()));
    let rig = Rig::with(table.clone(), None);
    let field = |key| format!("x-user: user-{key}");
    let before = placed(&rig, 60, field);
    assert!((0..3).all(|_| placed(&rig, 60, field) == before));
    let seen: BTreeMap<_, _> = before.iter().map(|name| (name, ())).collect();
    assert_eq!(seen.len(), 4);
    // Another proxy with fewer threads, and the endpoints in another order.
    table.threads = 1;
    web(&mut table).releases[0].endpoints.reverse();
    let mut other = Rig::with(table, None);
    assert_eq!(placed(&other, 60, field), before);
    // Only the keys of who leaves move.
    other.swap(|table| {
        web(table).releases[0].endpoints.remove(0);
    });
    for (before, after) in before.iter().zip(placed(&other, 60, field)) {
        assert!(before == "d 0" || *before == after, "{before} {after}");
        assert_ne!(after, "d 0");
    }
    // Without a key any will do.
    let seen = shares(&rig, 100);
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn cookies_and_addresses_are_keys_and_an_ejected_endpoint_leaves_its_keys_to_the_next() {
    let all = ["a", "b"].map(Instance::named);
    let mut table = one_thread(&addresses(&all), Algorithm::Hash(HashKey::Cookie("session".into())), &[1, 1]);
    let rig = Rig::with(table.clone(), None);
    let field = |key| format!("Cookie: x=1; session=s{key}");
    let before = placed(&rig, 30, field);
    assert_eq!(before.iter().collect::<std::collections::BTreeSet<_>>().len(), 2);
    drop(rig);
    // One of them is not there.
    web(&mut table).releases[0].endpoints[0].address = nobody().into();
    let rig = Rig::with(table.clone(), None);
    assert!(placed(&rig, 30, field).iter().all(|name| name == "b 0"));
    web(&mut table).releases[0].endpoints[0].address = all[0].address.into();
    web(&mut table).balance.algorithm = Algorithm::Hash(HashKey::Source);
    let seen = shares(&Rig::with(table, None), 30);
    assert_eq!(seen.len(), 1, "one client, one endpoint: {seen:?}");
}

#[test]
fn a_split_route_gives_each_service_its_share_whatever_tables_come() {
    let (shop, next) = (Instance::named("shop"), Instance::named("next"));
    let mut table = table(&[shop.address]);
    table.threads = 1;
    let mut other = web(&mut table).clone();
    other.releases = vec![release("1", 10_000, &[("next@1/0", next.address, EndpointState::Serving)])];
    table.services.insert("next".into(), other);
    table.routes[0].split = vec![
        Split { service: "web".into(), weight: 80 },
        Split { service: "next".into(), weight: 20 },
        // One that no table knows yet.
        Split { service: "gone".into(), weight: 50 },
    ];
    let mut rig = Rig::with(table, None);
    assert_eq!(shares(&rig, 100), of([("shop", 80), ("next", 20)]));
    let mut seen = BTreeMap::new();
    for _ in 0..50 {
        rig.swap(|_| {});
        shares(&rig, 1).into_iter().for_each(|(name, count)| *seen.entry(name).or_default() += count);
    }
    assert_eq!(seen, of([("shop", 40), ("next", 10)]));
    rig.swap(|table| table.routes[0].split[1].weight = 0);
    assert_eq!(shares(&rig, 20), of([("shop", 20)]));
}
