//! Probes endpoints from outside: is there an answer, often enough in a row?
//!
//! ```text
//!  candidate: every 50 ms for 5 s, then every interval ──`rise` in a row──► told healthy
//!  serving:   every interval ──`fall` in a row──► told unhealthy
//! ```
//! What has been told is told again, at most once a second, while the table does not show it: a message may be
//! lost with the one who should have read it. It admits nobody; the next table does. Draining endpoints are left alone.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use model::streak::Streak;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use wire::routes::{Address, EndpointState, ProbeSettings, RouteTable};

/// Between two probes of a new candidate.
const EAGER_INTERVAL: Duration = Duration::from_millis(50);
/// How long a candidate is new.
const EAGER_FOR: Duration = Duration::from_secs(5);
/// Between two reports of the same.
const REPEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Verdicts that wait to be told.
const VERDICTS_MAX: usize = 1_024;
/// Most bytes of an answer that are looked at for its status.
const ANSWER_BYTES_MAX: usize = 1_024;

/// What a probe, or a number of them, has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Which instance.
    pub(crate) instance: String,
    /// The verdict; `None` for a candidate that still fails.
    pub(crate) healthy: Option<bool>,
    /// One sentence about the last probe.
    pub(crate) detail: String,
}

/// An endpoint that is probed.
#[derive(Debug)]
struct Target {
    instance: String,
    address: Address,
    settings: RefCell<ProbeSettings>,
    is_candidate: Cell<bool>,
    eager_until: Cell<Instant>,
    streak: RefCell<Streak>,
    told: Cell<Option<Instant>>,
    changed: Notify,
}

/// All probes of this process.
#[derive(Debug)]
pub(crate) struct Prober {
    targets: BTreeMap<(String, Address), (Rc<Target>, JoinHandle<()>)>,
    findings: mpsc::Receiver<Finding>,
    told_by: mpsc::Sender<Finding>,
}

impl Prober {
    /// Probes nothing yet.
    pub(crate) fn new() -> Self {
        let (told_by, findings) = mpsc::channel(VERDICTS_MAX);
        Self { targets: BTreeMap::new(), findings, told_by }
    }

    /// Probes what `table` lists as candidate or serving, and nothing else.
    pub(crate) fn follow(&mut self, table: &RouteTable) {
        let mut before = std::mem::take(&mut self.targets);
        for service in table.services.values() {
            let Some(settings) = &service.probe else { continue };
            for endpoint in service.releases.iter().flat_map(|release| &release.endpoints) {
                let is_candidate = match endpoint.state {
                    EndpointState::Candidate => true,
                    EndpointState::Serving => false,
                    EndpointState::Draining => continue,
                };
                let key = (endpoint.instance.clone(), endpoint.address.clone());
                let target = match before.remove(&key) {
                    Some((target, task)) => {
                        target.update(settings, is_candidate);
                        (target, task)
                    }
                    None => self.start(&key, settings, is_candidate),
                };
                self.targets.insert(key, target);
            }
        }
        before.into_values().for_each(|(_, task)| task.abort());
    }

    /// Probes nothing any more.
    pub(crate) fn stop(&mut self) {
        std::mem::take(&mut self.targets).into_values().for_each(|(_, task)| task.abort());
    }

    /// The next thing found. Cancel-safe.
    pub(crate) async fn finding(&mut self) -> Finding {
        match self.findings.recv().await {
            Some(finding) => finding,
            // Not while we hold a sender ourselves.
            None => std::future::pending().await,
        }
    }

    fn start(
        &self,
        key: &(String, Address),
        settings: &ProbeSettings,
        is_candidate: bool,
    ) -> (Rc<Target>, JoinHandle<()>) {
        // What serves already is taken as healthy until it shows otherwise.
        let known = (!is_candidate).then_some(true);
        let target = Rc::new(Target {
            instance: key.0.clone(),
            address: key.1.clone(),
            settings: RefCell::new(settings.clone()),
            is_candidate: Cell::new(is_candidate),
            eager_until: Cell::new(Instant::now() + EAGER_FOR),
            streak: RefCell::new(Streak::new(settings.rise, settings.fall, known)),
            told: Cell::new(None),
            changed: Notify::new(),
        });
        let task = tokio::task::spawn_local(probe_always(target.clone(), self.told_by.clone()));
        (target, task)
    }
}

impl Target {
    fn update(&self, settings: &ProbeSettings, is_candidate: bool) {
        *self.settings.borrow_mut() = settings.clone();
        if is_candidate && !self.is_candidate.get() {
            // It lost its readiness, or there is another process now: nothing from before counts.
            *self.streak.borrow_mut() = Streak::new(settings.rise, settings.fall, None);
            self.eager_until.set(Instant::now() + EAGER_FOR);
            self.told.set(None);
            self.changed.notify_one();
        } else {
            self.streak.borrow_mut().set_limits(settings.rise, settings.fall);
        }
        self.is_candidate.set(is_candidate);
    }

    fn pause(&self) -> Duration {
        if self.is_candidate.get() && Instant::now() < self.eager_until.get() {
            return EAGER_INTERVAL;
        }
        Duration::from_millis(self.settings.borrow().interval_ms).max(EAGER_INTERVAL)
    }

    /// What is to be told after a probe, if anything.
    fn judge(&self, result: Result<String, String>) -> Option<Finding> {
        let success = result.is_ok();
        let changed = self.streak.borrow_mut().handle_probe(success);
        let healthy = self.streak.borrow().healthy();
        let is_shown = healthy == Some(!self.is_candidate.get());
        let is_due = self.told.get().is_none_or(|told| told.elapsed() >= REPEAT_INTERVAL);
        // A candidate that begins to answer is no news before it did so often enough.
        let is_news = !success || healthy == Some(true);
        if changed.is_none() && (is_shown || !is_due || !is_news) {
            return None;
        }
        self.told.set(Some(Instant::now()));
        let (Ok(detail) | Err(detail)) = result;
        Some(Finding {
            instance: self.instance.clone(),
            healthy: if success { healthy } else { healthy.filter(|healthy| !healthy) },
            detail,
        })
    }
}

async fn probe_always(target: Rc<Target>, told_by: mpsc::Sender<Finding>) {
    loop {
        let settings = target.settings.borrow().clone();
        let timeout = Duration::from_millis(settings.timeout_ms);
        let probing = tokio::time::timeout(timeout, probe(&target.address, settings.http_path.as_deref()));
        let result = match probing.await {
            Ok(result) => result,
            Err(_elapsed) => Err(format!("no answer from {} within {timeout:?}", target.address)),
        };
        if let Some(finding) = target.judge(result) {
            // Whoever reads them is behind by a thousand: this one will be told again.
            let _ = told_by.try_send(finding);
        }
        tokio::select! {
            () = tokio::time::sleep(target.pause()) => {}
            () = target.changed.notified() => {}
        }
    }
}

/// One probe on a connection of its own: what it showed, for people.
async fn probe(address: &Address, http_path: Option<&str>) -> Result<String, String> {
    let connected = crate::engine::forward::open(address).await;
    let mut stream = connected.map_err(|error| format!("no connection to {address}: {error}"))?;
    let Some(path) = http_path else { return Ok(format!("{address} accepts connections")) };
    let host = match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Handover-Probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let broken = |error: std::io::Error| format!("GET {path} on {address} failed: {error}");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut answer = Vec::new();
    while answer.len() < ANSWER_BYTES_MAX && !answer.contains(&b'\n') {
        if stream.read_buf(&mut answer).await.map_err(broken)? == 0 {
            break;
        }
    }
    let Some(status) = status_of(&answer) else {
        return Err(format!("GET {path} on {address} was answered with something that is not HTTP"));
    };
    let detail = format!("GET {path} on {address} was answered {status}");
    if (200..400).contains(&status) { Ok(detail) } else { Err(detail) }
}

fn status_of(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.1 ").or_else(|| answer.strip_prefix(b"HTTP/1.0 "))?;
    let (digits, behind) = rest.split_at_checked(3)?;
    let ends = matches!(behind.first(), Some(b' ' | b'\r' | b'\n'));
    std::str::from_utf8(digits).ok().filter(|_| ends)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use tokio::task::LocalSet;
    use wire::routes::{Endpoint, ReleaseTraffic, ServiceTraffic};

    use std::net::SocketAddr;

    use super::*;

    fn table(address: SocketAddr, path: Option<&str>, state: EndpointState) -> RouteTable {
        let probe = ProbeSettings {
            http_path: path.map(str::to_owned),
            interval_ms: 60,
            timeout_ms: 1_000,
            rise: 2,
            fall: 2,
        };
        let endpoint = Endpoint {
            instance: "web@1/0".into(),
            address: address.into(),
            state,
            weight: 1,
            supervised: true,
        };
        let service = ServiceTraffic {
            releases: vec![ReleaseTraffic { release: "1".into(), weight: 10_000, endpoints: vec![endpoint] }],
            probe: Some(probe),
            connect_timeout_ms: 1_000,
            response_timeout_ms: 1_000,
            idle_reuse_ms: 1_000,
            hold: None,
            ..ServiceTraffic::default()
        };
        RouteTable { services: [("web".into(), service)].into(), ..RouteTable::default() }
    }

    /// A server that answers each connection with the next of `answers`, and then with the last for ever.
    async fn server(answers: &'static [&'static str]) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::task::spawn_local(async move {
            let mut at = 0;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 1_024]).await;
                let _ = stream.write_all(answers[at.min(answers.len() - 1)].as_bytes()).await;
                at += 1;
            }
        });
        address
    }

    async fn next(prober: &mut Prober) -> Option<bool> {
        let finding = tokio::time::timeout(Duration::from_secs(10), prober.finding()).await;
        let finding = finding.expect("a finding in time");
        assert_eq!(finding.instance, "web@1/0");
        finding.healthy
    }

    const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";
    const NO: &str = "HTTP/1.1 503 Service Unavailable\r\n\r\n";

    #[tokio::test]
    async fn a_candidate_fails_then_rises_and_a_serving_endpoint_falls() {
        LocalSet::new()
            .run_until(async {
                let address = server(&[NO, OK, NO, OK, OK, OK, NO]).await;
                let mut prober = Prober::new();
                prober.follow(&table(address, Some("/healthz"), EndpointState::Candidate));
                assert_eq!(next(&mut prober).await, None);
                // Two in a row from the fourth on; what fails in between is no news within a second.
                let mut healthy = next(&mut prober).await;
                while healthy != Some(true) {
                    healthy = next(&mut prober).await;
                }
                prober.follow(&table(address, Some("/healthz"), EndpointState::Serving));
                let mut healthy = next(&mut prober).await;
                while healthy == Some(true) {
                    healthy = next(&mut prober).await;
                }
                assert_eq!(healthy, Some(false));
            })
            .await;
    }

    #[tokio::test]
    async fn what_the_table_does_not_show_is_told_again() {
        LocalSet::new()
            .run_until(async {
                let address = server(&[OK]).await;
                let mut prober = Prober::new();
                prober.follow(&table(address, None, EndpointState::Candidate));
                assert_eq!(next(&mut prober).await, Some(true));
                assert_eq!(next(&mut prober).await, Some(true));
            })
            .await;
    }

    #[tokio::test]
    async fn draining_endpoints_are_left_alone() {
        LocalSet::new()
            .run_until(async {
                let address = server(&[OK]).await;
                let mut prober = Prober::new();
                prober.follow(&table(address, None, EndpointState::Candidate));
                prober.follow(&table(address, None, EndpointState::Draining));
                assert!(prober.targets.is_empty());
            })
            .await;
    }

    #[test]
    fn only_http_has_a_status() {
        assert_eq!(status_of(b"HTTP/1.1 200 OK\r\n"), Some(200));
        assert_eq!(status_of(b"HTTP/1.0 404\r\n"), Some(404));
        for bad in [&b"HTTP/1.1 2000\r\n"[..], b"HTTP/2 200 OK", b"SSH-2.0", b"HTTP/1.1 20"] {
            assert_eq!(status_of(bad), None);
        }
    }
}
