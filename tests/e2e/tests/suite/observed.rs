//! What people and their tools see of traffic: metrics, `top`, the access log.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::http::{Request, once};
use e2e::manifest::Setup;
use e2e::sandbox::Sandbox;
use e2e::{system, wait};
use serde_json::Value;

const PATHS: &str = "paths = [\"/status\", \"/order/{id}\"]\n";

fn metrics(sandbox: &Sandbox) -> String {
    let address: SocketAddr = sandbox.status().listener("admin").unwrap();
    let answer = once(address, &Request { host: address.to_string(), ..Request::get("/metrics") }).unwrap();
    assert_eq!(answer.status, 200);
    answer.text()
}

/// The sum of all samples that begin so.
fn sum(metrics: &str, sample: &str) -> u64 {
    let values = metrics.lines().filter(|line| line.starts_with(sample)).map(|line| line.rsplit(' ').next());
    values.map(|value| value.unwrap().parse::<u64>().unwrap()).sum()
}

/// Metrics once that many requests have been reported.
fn counted(sandbox: &Sandbox, group: &str, requests: u64) -> String {
    let sample = format!("handover_group_requests_total{{service=\"shop\",group=\"{group}\"");
    wait::until("the requests are counted", Duration::from_secs(10), || {
        Some(metrics(sandbox)).filter(|metrics| sum(metrics, &sample) >= requests)
    })
}

#[test]
fn metrics_are_right_after_known_traffic_and_promtool_finds_nothing_to_say() {
    let sandbox = Sandbox::started(Setup { service: PATHS.to_owned(), ..Setup::default() });
    for target in ["/order/1", "/order/2", "/order/2?x=1", "/else"] {
        assert_eq!(sandbox.get(target).unwrap().status, 200);
    }
    assert_eq!(sandbox.get("/status?code=503").unwrap().status, 503);
    let metrics = counted(&sandbox, "/status", 1);
    let of = |labels: &str| sum(&metrics, labels);
    let group = |group: &str, code: &str| {
        of(&format!("handover_group_requests_total{{service=\"shop\",group=\"{group}\",code=\"{code}\"}}"))
    };
    assert_eq!((group("/order/{id}", "2xx"), group("other", "2xx"), group("/status", "5xx")), (3, 1, 1));
    assert_eq!(of("handover_route_requests_total{listener=\"web\",route=\"*/\""), 5);
    assert_eq!(of("handover_version_requests_total{service=\"shop\",version=\"1\""), 5);
    assert_eq!(
        of("handover_instance_requests_total{service=\"shop\",version=\"1\",instance=\"shop@1/0\""),
        5
    );
    assert_eq!(of("handover_instance_first_byte_seconds_count{service=\"shop\""), 5);
    assert_eq!(of("handover_route_duration_seconds_bucket{listener=\"web\",route=\"*/\",le=\"+Inf\"}"), 5);

    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{metrics}");
}

#[test]
fn counts_do_not_go_down_when_a_proxy_is_killed() {
    let sandbox = Sandbox::started(Setup { service: PATHS.to_owned(), ..Setup::default() });
    (0..3).for_each(|_| assert_eq!(sandbox.get("/order/1").unwrap().status, 200));
    counted(&sandbox, "/order/{id}", 3);
    let before = sandbox.status().pid("proxy").unwrap();
    system::send(before, system::Signal::Kill);
    wait::until("another proxy serves", Duration::from_secs(10), || {
        let pid = sandbox.try_status()?.pid("proxy")?;
        (pid != before && sandbox.get("/order/2").is_ok_and(|answer| answer.status == 200)).then_some(())
    });
    let sample = "handover_group_requests_total{service=\"shop\",group=\"/order/{id}\"";
    assert!(sum(&counted(&sandbox, "/order/{id}", 4), sample) >= 4);
}

#[test]
fn top_shows_rates_errors_and_quantiles_by_version_and_endpoint_group() {
    let sandbox = Sandbox::started(Setup { service: PATHS.to_owned(), ..Setup::default() });
    let top = sandbox.begin(&["top", "--json"]);
    // It looks twice, a second apart: requests all the while fall between.
    let mut child = top;
    while child.try_wait().unwrap().is_none() {
        assert_eq!(sandbox.get("/order/7").unwrap().status, 200);
        assert_eq!(sandbox.get("/status?code=500").unwrap().status, 500);
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = &rows[0];
    assert_eq!((row["service"].as_str(), row["versions"][0]["name"].as_str()), (Some("shop"), Some("1")));
    assert!(row["p50_ms"].as_f64().unwrap() > 0.0, "{row}");
    let groups = row["groups"].as_array().unwrap();
    let group = |name: &str| groups.iter().find(|group| group["name"] == name).unwrap();
    assert_eq!(group("/order/{id}")["error_percent"].as_f64(), Some(0.0));
    assert_eq!(group("/status")["error_percent"].as_f64(), Some(100.0));
    let number = |name: &str| group("/order/{id}")[name].as_f64().unwrap();
    assert!(number("requests_per_second") > 0.0);
    assert!(number("p50_ms") <= number("p95_ms") && number("p95_ms") <= number("p99_ms"));
    let shown = sandbox.run(&["top", "--once"]).expect_code(0);
    shown.expect_says(&["SERVICE", "P99"]);
}

#[test]
fn the_access_log_is_in_the_format_that_the_manifest_asks_for() {
    let proxy = "access_log = { format = \"combined\" }\n".to_owned();
    let sandbox = Sandbox::started(Setup { proxy, ..Setup::default() });
    assert_eq!(sandbox.get("/order/1?token=secret").unwrap().status, 200);
    let path = sandbox.state_dir().join("logs/access.log");
    let line = wait::until("the line is written", Duration::from_secs(10), || {
        let text = std::fs::read_to_string(&path).ok()?;
        text.lines().find(|line| line.contains("/order/1")).map(str::to_owned)
    });
    assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
    assert!(line.contains("] \"GET /order/1 HTTP/1.1\" 200 ") && line.ends_with(" \"-\" \"-\""), "{line}");
    assert!(!line.contains("secret"), "{line}");
}
