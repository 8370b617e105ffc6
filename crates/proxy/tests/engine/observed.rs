//! What is counted by route, group and instance, and what the access log says, after traffic that is known.

use proxy::engine::Notice;
use wire::routes::{AccessLogFormat, AccessLogSettings};
use wire::traffic::{Counters, SeriesCounters, SeriesOf};

use crate::harness::{Instance, Rig, ok, table};

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
