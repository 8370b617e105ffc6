//! What is counted by route, group and instance, and what the access log says, after traffic that is known.

use proxy::engine::Notice;
use wire::routes::{AccessLogFormat, AccessLogSettings, EndpointState, Split};
use wire::traffic::{Counters, SeriesCounters, SeriesOf};

use crate::harness::{Instance, Rig, nobody, ok, release, table};

fn report(rig: &mut Rig) -> (Counters, Vec<SeriesCounters>) {
    let number = rig.engine().report();
    let notice =
        rig.wait_for(|notice| matches!(notice, Notice::Report { number: one, .. } if *one == number));
    let Notice::Report { counters, .. } = notice else { panic!() };
    let (series, _) = rig.engine().changed_series();
    (*counters, series)
}

fn failing_on_request() -> Instance {
    Instance::answering(|request| {
        if request.head.contains("/fail") {
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned()
        } else {
            ok("hello")
        }
    })
}

fn group<'a>(series: &'a [SeriesCounters], name: &str) -> &'a SeriesCounters {
    let is_it = |of: &SeriesOf| matches!(of, SeriesOf::Group { group, .. } if group == name);
    series.iter().find(|one| is_it(&one.of)).expect("the group was counted")
}

#[test]
fn every_request_is_counted_once_in_its_route_its_group_and_its_instance() {
    let instance = failing_on_request();
    let mut table = table(&[instance.address]);
    table.services.get_mut("web").unwrap().paths = vec!["/api/order/{id}".into(), "/api/order/new".into()];
    let mut rig = Rig::with(table, None);
    for path in ["/api/order/1", "/api/order/2?x=1", "/api/order/new", "/api/order/fail", "/else/where"] {
        rig.ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab"
        ));
    }
    rig.ask("nonsense\r\n\r\n");
    let (counters, series) = report(&mut rig);
    assert_eq!(group(&series, "/api/order/{id}").answers, [0, 0, 2, 0, 0, 1]);
    assert_eq!(group(&series, "/api/order/new").answers, [0, 0, 1, 0, 0, 0]);
    assert_eq!(group(&series, "other").answers, [0, 0, 1, 0, 0, 0]);
    let of = |wanted: fn(&SeriesOf) -> bool| series.iter().find(|one| wanted(&one.of)).unwrap();
    let route =
        of(|of| matches!(of, SeriesOf::Route { listener, route } if listener == "main" && route == "*/"));
    let instance = of(|of| matches!(of, SeriesOf::Instance { instance, .. } if instance == "web@1/0"));
    for one in [route, instance] {
        assert_eq!((&one.answers[..], one.bytes_in, one.bytes_out), (&[0, 0, 4, 0, 0, 1][..], 10, 20));
        assert_eq!(one.totals().latency.count(), 5);
    }
    assert_eq!((instance.totals().first_byte.count(), route.totals().first_byte.count()), (5, 0));
    let listener = &counters.listeners[0];
    assert_eq!((listener.listener.as_str(), listener.accepted, listener.refused), ("main", 6, 1));
}

/// Retries, then failures, of the route and of all instances together.
fn trouble(series: &[SeriesCounters]) -> [(u64, u64); 2] {
    [true, false].map(|of_route| {
        let of_kind = series.iter().filter(|one| matches!(one.of, SeriesOf::Route { .. }) == of_route);
        of_kind.fold((0, 0), |sum, one| (sum.0 + one.retries, sum.1 + one.failures))
    })
}

#[test]
fn a_retry_is_counted_in_route_and_instance_only_where_another_attempt_was_made() {
    let mut rig = Rig::start(&[nobody()]);
    assert_eq!(rig.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").status(), 502);
    let (counters, series) = report(&mut rig);
    assert_eq!(trouble(&series), [(0, 0), (0, 0)], "there was nobody else");
    assert_eq!(counters.releases.iter().map(|one| one.retried).sum::<u64>(), 0);

    let good = Instance::named("good");
    let mut rig = Rig::start(&[nobody(), good.address]);
    for _ in 0..40 {
        assert_eq!(rig.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n").status(), 200);
    }
    let (counters, series) = report(&mut rig);
    let retried = counters.releases.iter().map(|one| one.retried).sum::<u64>();
    assert!(retried > 0);
    assert_eq!(trouble(&series), [(retried, 0), (retried, 0)]);
}

#[test]
fn an_answer_that_breaks_off_and_a_request_lost_on_reuse_are_failures_of_route_and_instance() {
    let half = Instance::start(|peer, _| {
        peer.request();
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    });
    let mut rig = Rig::start(&[half.address]);
    let mut client = rig.client();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(client.try_response().is_none());
    assert_eq!(trouble(&report(&mut rig).1), [(0, 1), (0, 1)]);

    let once = Instance::start(|peer, number| {
        peer.request();
        peer.send(ok("first"));
        if number == 0 {
            peer.request();
        }
    });
    let mut table = table(&[once.address]);
    table.threads = 1;
    let mut rig = Rig::with(table, None);
    let post = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n";
    assert_eq!([rig.ask(post).status(), rig.ask(post).status()], [200, 502]);
    assert_eq!(trouble(&report(&mut rig).1), [(0, 1), (0, 1)]);
}

#[test]
fn a_route_that_services_share_counts_the_requests_of_all_of_them() {
    let (shop, next) = (Instance::named("shop"), Instance::named("next"));
    let mut table = table(&[shop.address]);
    let mut other = table.services["web"].clone();
    other.releases = vec![release("1", 10_000, &[("next@1/0", next.address, EndpointState::Serving)])];
    table.services.insert("next".into(), other);
    table.routes[0].split =
        vec![Split { service: "web".into(), weight: 50 }, Split { service: "next".into(), weight: 50 }];
    let mut rig = Rig::with(table, None);
    for _ in 0..20 {
        rig.ask("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    let (_, series) = report(&mut rig);
    let routes: Vec<_> = series.iter().filter(|one| matches!(one.of, SeriesOf::Route { .. })).collect();
    assert_eq!((routes.len(), &routes[0].answers[..]), (1, &[0, 0, 20, 0, 0, 0][..]));
    let instances = series.iter().filter(|one| matches!(one.of, SeriesOf::Instance { .. }));
    assert_eq!(instances.map(|one| one.answers[2]).collect::<Vec<_>>().len(), 2);
}

#[test]
fn what_was_told_is_not_told_again_until_somebody_new_listens() {
    let instance = failing_on_request();
    let mut rig = Rig::start(&[instance.address]);
    rig.ask("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    assert_eq!(report(&mut rig).1.len(), 2);
    assert_eq!(report(&mut rig).1.len(), 0);
    rig.ask("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let (_, series) = report(&mut rig);
    assert!(series.iter().all(|one| one.answers[2] == 2), "all of what was counted, not what came");
    rig.engine().begin_series_anew();
    assert_eq!(report(&mut rig).1.len(), 2);
}

#[test]
fn the_combined_format_has_what_its_readers_expect() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let instance = failing_on_request();
    let mut table = table(&[instance.address]);
    table.access_log_settings =
        AccessLogSettings { format: AccessLogFormat::Combined, query: true, ..AccessLogSettings::default() };
    let mut rig = Rig::with(table, Some(path.clone()));
    rig.ask(
        "GET /a?b=\"c HTTP/1.1\r\nHost: h\r\nUser-Agent: curl/8 \"x\"\r\nReferer: http://r/\r\nCookie: secret\r\nConnection: close\r\n\r\n",
    );
    rig.stop();
    let text = std::fs::read_to_string(&path).unwrap();
    let (start, rest) = text.split_once(" [").unwrap();
    assert_eq!(start, "127.0.0.1 - -");
    let (_, rest) = rest.split_once("] ").unwrap();
    assert_eq!(rest, "\"GET /a?b=\\\"c HTTP/1.1\" 200 5 \"http://r/\" \"curl/8 \\\"x\\\"\"\n");
}

#[test]
fn of_sampled_requests_those_that_fail_are_all_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let instance = failing_on_request();
    let mut table = table(&[instance.address]);
    table.threads = 1;
    table.access_log_settings = AccessLogSettings { sample: 5_000, ..AccessLogSettings::default() };
    let mut rig = Rig::with(table, Some(path.clone()));
    for path in ["/a", "/fail", "/b", "/fail", "/c", "/d"] {
        rig.ask(&format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"));
    }
    rig.stop();
    let text = std::fs::read_to_string(&path).unwrap();
    let count = |status: &str| text.lines().filter(|line| line.contains(status)).count();
    assert_eq!((count("\"status\":200"), count("\"status\":503")), (2, 2), "{text}");
}
