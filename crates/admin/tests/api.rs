//! The admin API over in-memory connections, with an agent that is made up.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use admin::api::{
    Accepted, ApplyPlan, ApplyReport, DeployBody, DeployPlan, DownAccepted, DownBody, DownLevel, EventPage,
    EventReport, EventsQuery, HistoryPage, HistoryQuery, HistoryReport, InstanceReport, LogLine, LogPage,
    LogsQuery, ManifestBody, ManifestReport, Operate, OperateBody, OperationAccepted, OperationProgress,
    Phase, Progress, ProgressLine, RollbackBody, RolloutReport, ServiceReport, StatusReport, TrafficReport,
};
use admin::{Accept, Answer, Front, Operations, Refused, RefusedKind, Server, TcpAccess, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

const TOKEN: &str = "0123456789abcdef";

#[derive(Default)]
struct FakeAgent {
    deploys: Mutex<Vec<DeployBody>>,
    actors: Mutex<Vec<String>>,
    rollouts: AtomicU64,
    progress: Mutex<Progress>,
    operated: Mutex<Vec<(String, Operate, OperateBody)>>,
    applied: AtomicU64,
    events: Mutex<Vec<EventReport>>,
    log_queries: Mutex<Vec<LogsQuery>>,
}

fn now<T: Send + 'static>(answer: T) -> Answer<'static, T> {
    Box::pin(std::future::ready(Ok(answer)))
}

impl Operations for FakeAgent {
    fn status(&self) -> Answer<'_, StatusReport> {
        Box::pin(async { Ok(status()) })
    }

    fn traffic(&self) -> Answer<'_, TrafficReport> {
        Box::pin(async { Ok(traffic()) })
    }

    fn deploy(&self, service: &str, body: DeployBody) -> Answer<'_, Accepted> {
        let service = service.to_owned();
        Box::pin(async move {
            if service != "web" {
                let message = format!("there is no service `{service}`");
                return Err(Refused::new(RefusedKind::NotFound, message).with_hint("did you mean `web`?"));
            }
            self.deploys.lock().unwrap().push(body);
            let rollout = Some(self.rollouts.fetch_add(1, Ordering::Relaxed) + 1);
            Ok(Accepted { rollout, ..Accepted::default() })
        })
    }

    fn rollback(&self, _: &str, body: RollbackBody) -> Answer<'_, Accepted> {
        self.actors.lock().unwrap().extend(body.actor);
        Box::pin(async { Err(Refused::new(RefusedKind::Conflict, "there is no way back")) })
    }

    fn progress(&self, _: &str, _: u64, after: u64) -> Answer<'_, Progress> {
        let mut progress = self.progress.lock().unwrap().clone();
        progress.lines.retain(|line| line.sequence > after);
        Box::pin(async { Ok(progress) })
    }

    fn operate(&self, service: &str, what: Operate, body: OperateBody) -> Answer<'_, OperationAccepted> {
        self.operated.lock().unwrap().push((service.to_owned(), what, body));
        now(OperationAccepted { operation: 5, ..OperationAccepted::default() })
    }

    fn operation(&self, id: u64, after: u64) -> Answer<'_, OperationProgress> {
        let mut lines = self.progress.lock().unwrap().lines.clone();
        lines.retain(|line| line.sequence > after);
        now(OperationProgress { id, lines, ..OperationProgress::default() })
    }

    fn plan(&self, _: ManifestBody) -> Answer<'_, ApplyPlan> {
        now(ApplyPlan::default())
    }

    fn apply(&self, body: ManifestBody) -> Answer<'_, ApplyReport> {
        assert!(body.actor.is_some() && !format!("{body:?}").contains("secret"));
        self.applied.fetch_add(1, Ordering::Relaxed);
        now(ApplyReport::default())
    }

    fn plan_deploy(&self, _: &str, _: DeployBody) -> Answer<'_, DeployPlan> {
        now(DeployPlan { version: Some("2".into()), steps: vec!["start".into()] })
    }

    fn manifest(&self) -> Answer<'_, ManifestReport> {
        now(ManifestReport { path: "/srv/handover.toml".into() })
    }

    fn history(&self, query: HistoryQuery) -> Answer<'_, HistoryPage> {
        let mut entries = self.events.lock().unwrap().clone();
        entries.truncate(query.limit.unwrap());
        now(HistoryPage { entries })
    }

    fn history_of(&self, rollout: u64) -> Answer<'_, HistoryReport> {
        let message = format!("there is no rollout {rollout}");
        Box::pin(async { Err(Refused::new(RefusedKind::NotFound, message)) })
    }

    fn events(&self, query: EventsQuery) -> Answer<'_, EventPage> {
        let mut events = self.events.lock().unwrap().clone();
        events.retain(|event| event.sequence > query.after.unwrap_or(0));
        events.truncate(query.limit.unwrap());
        now(EventPage { events })
    }

    fn logs(&self, query: LogsQuery) -> Answer<'_, LogPage> {
        let mut queries = self.log_queries.lock().unwrap();
        queries.push(query);
        // There is something at the third look.
        let line = LogLine { text: "said".into(), ..LogLine::default() };
        let lines = if queries.len() < 3 { vec![] } else { vec![line] };
        now(LogPage { lines, cursor: format!("c{}", queries.len()), truncated: false })
    }

    fn down(&self, body: DownBody) -> Answer<'_, DownAccepted> {
        assert_eq!(body.level, DownLevel::Kill);
        Box::pin(async { Ok(DownAccepted { holder: Some(7), longest_ms: None }) })
    }
}

fn traffic() -> TrafficReport {
    let mut totals = model::series::SeriesTotals { answers: [0, 0, 3, 0, 0, 1], ..Default::default() };
    (0..4).for_each(|_| totals.latency.record_micros(900));
    let counts = (&totals).into();
    let (service, group) = ("web".into(), "/api/\"{id}\"".into());
    TrafficReport { groups: vec![admin::api::GroupTraffic { service, group, counts }], ..Default::default() }
}

fn status() -> StatusReport {
    let mut status = StatusReport::default();
    let instance = InstanceReport {
        id: "web@1/0".into(),
        pid: Some(12),
        version: "1".into(),
        state: "ready".into(),
        detail: Some("printed: a secret".into()),
        ..InstanceReport::default()
    };
    let last = RolloutReport {
        reason: Some("exited: a secret".into()),
        output: vec!["a secret".into()],
        ..RolloutReport::default()
    };
    let service = ServiceReport {
        stable: Some("1".into()),
        instances: vec![instance],
        requests_total: Some(42),
        errors_total: Some(1),
        last_rollout: Some(last),
        ..ServiceReport::default()
    };
    status.services.insert("web".into(), service);
    status.warnings.push("`service.web.command` differs: a secret".into());
    status
}

struct Door(mpsc::Receiver<DuplexStream>);

impl Accept for Door {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> io::Result<DuplexStream> {
        match self.0.recv().await {
            Some(stream) => Ok(stream),
            None => std::future::pending().await,
        }
    }
}

/// A served front; its task ends with it.
struct Api {
    agent: Arc<FakeAgent>,
    connect: mpsc::Sender<DuplexStream>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Api {
    fn start(front: Front) -> Self {
        let agent = Arc::new(FakeAgent::default());
        Self::start_with(Server::new(agent.clone()), agent, front)
    }

    fn start_with(server: Server, agent: Arc<FakeAgent>, front: Front) -> Self {
        let (connect, door) = mpsc::channel(1);
        Self { agent, connect, task: tokio::spawn(serve(server, front, Door(door))) }
    }

    fn local() -> Self {
        Self::start(Front::Local)
    }

    fn tcp() -> Self {
        Self::start(Front::Tcp(TcpAccess { token: TOKEN.into(), names: vec![] }))
    }

    async fn open(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(256 << 10);
        self.connect.send(server).await.unwrap();
        client
    }

    /// Sends a request as it stands and reads until the server closes.
    async fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = self.open().await;
        // A refusal may come before all of it was read.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer)
    }

    async fn get(&self, path: &str, headers: &str) -> (u16, String) {
        self.raw(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\r\n"))
            .await
    }

    async fn post(&self, path: &str, headers: &str, body: &str) -> (u16, String) {
        let length = body.len();
        self.raw(&format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        ))
        .await
    }
}

const JSON: &str = "Content-Type: application/json\r\n";

fn bearer() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

/// Some absolute path, as a JSON string.
fn release() -> String {
    serde_json::to_string(&std::env::temp_dir()).unwrap()
}

fn deploy_body(operation: &str) -> String {
    format!(r#"{{"source":{},"actor":"ann","operation":"{operation}"}}"#, release())
}

#[tokio::test]
async fn the_local_socket_may_do_everything_whatever_the_host() {
    let api = Api::local();
    let (code, answer) = api.post("/v1/services/web/deploy", JSON, &deploy_body("k1")).await;
    assert_eq!(code, 202, "{answer}");
    assert!(answer.ends_with(r#"{"rollout":1}"#), "{answer}");
    assert_eq!(api.agent.deploys.lock().unwrap()[0].actor.as_deref(), Some("ann"));
    let (code, answer) =
        api.raw("GET /v1/status HTTP/1.1\r\nHost: handover\r\nConnection: close\r\n\r\n").await;
    assert_eq!(code, 200);
    assert!(answer.contains("a secret") && answer.contains(r#""schema":1"#), "{answer}");
    let (code, answer) = api.post("/v1/down", JSON, r#"{"level":"kill"}"#).await;
    assert_eq!((code, answer.ends_with(r#"{"holder":7,"longest_ms":null}"#)), (202, true), "{answer}");
}

#[tokio::test]
async fn tcp_without_token_gets_health_metrics_and_a_status_without_private_parts_only() {
    let api = Api::tcp();
    let (code, answer) = api.get("/healthz", "").await;
    assert_eq!((code, answer.ends_with("\r\n\r\nok\n")), (200, true));
    let (code, answer) = api.get("/metrics", "").await;
    assert_eq!(code, 200);
    assert!(answer.contains("handover_up 1\n"));
    assert!(answer.contains("handover_instances_ready{service=\"web\"} 1\n"));
    assert!(answer.contains("handover_requests_total{service=\"web\"} 42\n"));
    let group = r#"{service="web",group="/api/\"{id}\"","#;
    assert!(answer.contains(&format!("handover_group_requests_total{group}code=\"5xx\"}} 1\n")), "{answer}");
    assert!(answer.contains(&format!("handover_group_duration_seconds_bucket{group}le=\"0.001\"}} 4\n")));
    assert_eq!(api.get("/v1/traffic", "").await.0, 401);
    let (code, answer) = api.get("/v1/status", "").await;
    assert_eq!(code, 200);
    assert!(answer.contains("web@1/0") && !answer.contains("secret"), "{answer}");
    for path in ["/v1/services/web/rollouts/1", "/v1/other", "/"] {
        let (code, answer) = api.get(path, "").await;
        assert_eq!(code, 401, "{path}");
        assert!(answer.to_lowercase().contains("www-authenticate: bearer"));
    }
    for path in ["/v1/services/web/rollback", "/v1/services/web/deploy", "/v1/down", "/v1/status"] {
        assert_eq!(api.post(path, JSON, "{}").await.0, 401, "{path}");
    }
}

#[tokio::test]
async fn tcp_with_token_may_do_all_but_name_a_path_of_this_machine() {
    let api = Api::tcp();
    let (code, answer) = api.get("/v1/status", &bearer()).await;
    assert_eq!((code, answer.contains("a secret")), (200, true));
    assert_eq!(api.get("/v1/status", "Authorization: Bearer wrong\r\n").await.0, 401);
    let headers = format!("{JSON}{}", bearer());
    let (code, answer) = api.post("/v1/services/web/rollback", &headers, r#"{"actor":"bob"}"#).await;
    assert_eq!((code, answer.contains("there is no way back")), (409, true));
    assert_eq!(*api.agent.actors.lock().unwrap(), ["bob"]);
    let (code, answer) = api.post("/v1/services/web/deploy", &headers, &deploy_body("k1")).await;
    assert_eq!((code, answer.contains("local socket")), (403, true));
    assert!(api.agent.deploys.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_foreign_host_or_origin_gets_403_with_or_without_token() {
    let api = Api::tcp();
    for token in [String::new(), bearer()] {
        let rebound =
            format!("GET /v1/status HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n{token}\r\n");
        assert_eq!(api.raw(&rebound).await.0, 403);
        let crossed = format!("Origin: https://evil.example\r\n{token}");
        assert_eq!(api.get("/v1/status", &crossed).await.0, 403);
        assert_eq!(api.get("/v1/status", &format!("Origin: http://localhost\r\n{token}")).await.0, 200);
    }
    let no_host = "GET /healthz HTTP/1.0\r\n\r\n";
    assert_eq!(api.raw(no_host).await.0, 403);
}

#[tokio::test]
async fn no_answer_allows_pages_of_other_sites_to_read_it() {
    let api = Api::tcp();
    let preflight = "OPTIONS /v1/status HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\
                     Access-Control-Request-Method: GET\r\nConnection: close\r\n\r\n";
    for (_, answer) in [api.raw(preflight).await, api.get("/v1/status", "Origin: http://localhost\r\n").await]
    {
        assert!(!answer.to_lowercase().contains("access-control-"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_must_be_json_and_small() {
    let api = Api::local();
    let path = "/v1/services/web/deploy";
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/jsonx\r\n"] {
        assert_eq!(api.post(path, kind, &deploy_body("a")).await.0, 415, "{kind}");
    }
    assert_eq!(
        api.post(path, "Content-Type: Application/JSON; charset=utf-8\r\n", &deploy_body("a")).await.0,
        202
    );
    let large = format!(r#"{{"source":{},"actor":"{}"}}"#, release(), "x".repeat(64 << 10));
    assert_eq!(api.post(path, JSON, &large).await.0, 413);
    let chunked = format!(
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n{JSON}\r\n{:x}\r\n{large}\r\n0\r\n\r\n",
        large.len()
    );
    assert_eq!(api.raw(&chunked).await.0, 413);
    for (body, why) in [
        ("{", "not as expected"),
        (r#"{"source":"relative"}"#, "absolute"),
        (r#"{"source":"/x","sauce":1}"#, "sauce"),
        (&deploy_body("a\\nb"), "operation"),
    ] {
        let (code, answer) = api.post(path, JSON, body).await;
        assert_eq!((code, answer.contains(why)), (400, true), "{answer}");
    }
    assert_eq!(api.agent.deploys.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn an_unknown_service_path_or_method_says_so_in_json() {
    let api = Api::local();
    let (code, answer) = api.post("/v1/services/wbe/deploy", JSON, &deploy_body("k")).await;
    assert_eq!(code, 404);
    assert!(
        answer.ends_with(r#"{"error":"there is no service `wbe`","hint":"did you mean `web`?"}"#),
        "{answer}"
    );
    for path in ["/nowhere", "/v1/services/web/rollouts/x", "/v1/services/%ff/rollouts/1"] {
        let (code, answer) = api.get(path, "").await;
        assert_eq!((code, answer.contains(r#"{"error":"#)), (404, true), "{path} {answer}");
    }
    let (code, answer) = api.get("/v1/down", "").await;
    assert_eq!((code, answer.contains(r#"{"error":"#)), (405, true), "{answer}");
}

#[tokio::test]
async fn a_repeated_operation_gets_the_first_answer_and_starts_nothing_also_after_the_server_was_restarted() {
    let agent = Arc::new(FakeAgent::default());
    let server = Server::new(agent.clone());
    let path = "/v1/services/web/deploy";
    let api = Api::start_with(server.clone(), agent.clone(), Front::Local);
    let body = deploy_body("same");
    let (first, again) = tokio::join!(api.post(path, JSON, &body), api.post(path, JSON, &body));
    assert_eq!((first.0, again.0), (202, 202));
    drop(api);
    let api = Api::start_with(server, agent.clone(), Front::Local);
    assert!(api.post(path, JSON, &deploy_body("same")).await.1.ends_with(r#"{"rollout":1}"#));
    assert_eq!(agent.deploys.lock().unwrap().len(), 1);
    assert!(api.post(path, JSON, &deploy_body("other")).await.1.ends_with(r#"{"rollout":2}"#));
    let reused = r#"{"operation":"same"}"#;
    assert_eq!(api.post("/v1/services/web/rollback", JSON, reused).await.0, 409);
}

fn line(sequence: u64) -> ProgressLine {
    ProgressLine { sequence, at_ms: sequence * 10, text: format!("line {sequence}") }
}

#[tokio::test(start_paused = true)]
async fn a_follower_waits_for_news_and_at_most_ten_seconds() {
    let api = Api::local();
    *api.agent.progress.lock().unwrap() = Progress { lines: vec![line(1)], ..Progress::default() };
    let began = Instant::now();
    let (_, answer) = api.get("/v1/services/web/rollouts/1?after=0&wait_ms=9000", "").await;
    assert!(answer.contains("line 1") && began.elapsed() < Duration::from_millis(100));
    let (_, answer) = api.get("/v1/services/web/rollouts/1?after=1&wait_ms=99999", "").await;
    assert!(answer.contains(r#""lines":[]"#));
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&began.elapsed()));

    let began = Instant::now();
    let waiting = api.get("/v1/services/web/rollouts/1?after=1&wait_ms=9000", "");
    let change = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        api.agent.progress.lock().unwrap().rollout.phase = Phase::Starting;
    };
    let ((_, answer), ()) = tokio::join!(waiting, change);
    assert!(answer.contains("starting") && began.elapsed() < Duration::from_millis(1_100));

    let began = Instant::now();
    let stale = Progress::default().state();
    let path = format!("/v1/services/web/rollouts/1?after=1&wait_ms=9000&state={stale}");
    assert!(api.get(&path, "").await.1.contains("starting"));
    assert!(began.elapsed() < Duration::from_millis(100));
    let (code, answer) = api.get("/v1/services/web/rollouts/1?after=x", "").await;
    assert_eq!((code, answer.contains("whole number")), (400, true));
}

#[tokio::test]
async fn operations_on_a_service_carry_who_asked_and_are_followed_by_their_id() {
    let api = Api::tcp();
    let headers = format!("{JSON}{}", bearer());
    for what in ["restart", "reload", "stop", "start"] {
        let (code, answer) =
            api.post(&format!("/v1/services/web/{what}"), &headers, r#"{"actor":"ann"}"#).await;
        assert_eq!((code, answer.ends_with(r#"{"operation":5}"#)), (202, true), "{answer}");
        assert_eq!(api.post(&format!("/v1/services/web/{what}"), JSON, "{}").await.0, 401);
    }
    let (code, _) = api.post("/v1/services/web/scale", &headers, r#"{"instances":3,"operation":"k"}"#).await;
    assert_eq!(code, 202);
    assert_eq!(api.post("/v1/services/web/scale", &headers, r#"{"instances":-1}"#).await.0, 400);
    let operated = api.agent.operated.lock().unwrap().clone();
    let kinds: Vec<Operate> = operated.iter().map(|(_, what, _)| *what).collect();
    assert_eq!(kinds, [Operate::Restart, Operate::Reload, Operate::Stop, Operate::Start, Operate::Scale(3)]);
    assert_eq!(operated[0].2.actor.as_deref(), Some("ann"));
    assert_eq!(
        (operated[4].2.actor.as_deref(), operated[4].2.operation.as_deref()),
        (Some("api"), Some("k"))
    );
    *api.agent.progress.lock().unwrap() = Progress { lines: vec![line(1), line(2)], ..Progress::default() };
    let (code, answer) = api.get("/v1/operations/5?after=1", &bearer()).await;
    assert_eq!((code, answer.contains("line 2"), answer.contains("line 1")), (200, true, false), "{answer}");
    assert_eq!(api.get("/v1/operations/x", &bearer()).await.0, 404);
}

#[tokio::test]
async fn a_manifest_is_taken_over_the_local_socket_only_and_may_be_large() {
    let body = format!(
        r#"{{"manifest":{{"a":"secret"}},"source":"{}","path":"/srv/handover.toml"}}"#,
        "x".repeat(200 << 10)
    );
    let tcp = Api::tcp();
    let headers = format!("{JSON}{}", bearer());
    for path in ["/v1/plan", "/v1/apply"] {
        let (code, answer) = tcp.post(path, &headers, &body).await;
        assert_eq!((code, answer.contains("local socket only")), (403, true), "{answer}");
        assert_eq!(tcp.post(path, JSON, &body).await.0, 401);
    }
    let (code, answer) = tcp.post("/v1/services/web/plan", &headers, &deploy_body("k")).await;
    assert_eq!((code, answer.contains("local socket only")), (403, true), "{answer}");
    assert_eq!(tcp.agent.applied.load(Ordering::Relaxed), 0);
    let local = Api::local();
    assert_eq!(local.post("/v1/plan", JSON, &body).await.0, 200);
    let (code, answer) = local.post("/v1/apply", JSON, &body).await;
    assert_eq!((code, local.agent.applied.load(Ordering::Relaxed)), (202, 1), "{answer}");
    let (code, answer) = local.post("/v1/services/web/plan", JSON, &deploy_body("k")).await;
    assert_eq!((code, answer.ends_with(r#"{"version":"2","steps":["start"]}"#)), (200, true), "{answer}");
    let large = format!(r#"{{"source":"{}"}}"#, "x".repeat(4 << 20));
    assert_eq!(local.post("/v1/apply", JSON, &large).await.0, 413);
}

#[tokio::test(start_paused = true)]
async fn events_are_a_bounded_page_and_a_follower_waits_for_the_next() {
    let api = Api::tcp();
    assert_eq!(api.get("/v1/events", "").await.0, 401);
    let event = |sequence: u64| EventReport {
        sequence,
        text: format!("event {sequence}."),
        ..EventReport::default()
    };
    *api.agent.events.lock().unwrap() = (1..=2_000).map(event).collect();
    let (_, answer) = api.get("/v1/events?limit=99999", &bearer()).await;
    assert!(answer.contains("event 1000.") && !answer.contains("event 1001."));
    let (code, answer) = api.get("/v1/history?limit=2", &bearer()).await;
    assert_eq!((code, answer.contains("event 2."), answer.contains("event 3.")), (200, true, false));
    assert_eq!(api.get("/v1/history/9", &bearer()).await.0, 404);
    let began = Instant::now();
    let headers = bearer();
    let waiting = api.get("/v1/events?after=2000&wait_ms=9000", &headers);
    let change = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        api.agent.events.lock().unwrap().push(event(2_001));
    };
    let ((_, answer), ()) = tokio::join!(waiting, change);
    assert!(answer.contains("event 2001.") && began.elapsed() < Duration::from_millis(1_500));
    assert_eq!(api.get("/v1/events?after=x", &bearer()).await.0, 400);
}

#[tokio::test(start_paused = true)]
async fn a_follower_of_logs_reads_on_from_where_the_last_look_ended() {
    let api = Api::local();
    let path = "/v1/logs?service=web&grep=a%2Bb&lines=99999&after=c0&wait_ms=9000";
    let (code, answer) = api.get(path, "").await;
    assert_eq!((code, answer.contains(r#""text":"said""#)), (200, true), "{answer}");
    let queries = api.agent.log_queries.lock().unwrap().clone();
    let after: Vec<&str> = queries.iter().filter_map(|query| query.after.as_deref()).collect();
    assert_eq!(after, ["c0", "c1", "c2"]);
    assert_eq!((queries[0].grep.as_deref(), queries[0].lines), (Some("a+b"), Some(10_000)));
    let long = format!("/v1/logs?grep={}", "x".repeat(2_000));
    assert_eq!(api.get(&long, "").await.0, 400);
    assert_eq!(Api::tcp().get("/v1/logs", "").await.0, 401);
    let (_, answer) = api.get("/v1/manifest", "").await;
    assert!(answer.ends_with(r#"{"path":"/srv/handover.toml"}"#), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_half_a_head_or_half_a_body_is_closed() {
    let api = Api::local();
    for (sent, closed_within) in [
        ("", 11),
        ("GET /healthz HT", 11),
        (
            "POST /v1/down HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
            21,
        ),
        ("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 11),
    ] {
        let mut stream = api.open().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let began = Instant::now();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(began.elapsed() < Duration::from_secs(closed_within), "{sent:?} {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn the_sixty_fifth_connection_waits_until_another_ends() {
    let api = Api::local();
    let mut open = Vec::new();
    for _ in 0..64 {
        let mut stream = api.open().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = [0; 512];
        assert!(stream.read(&mut answer).await.unwrap() > 0);
        open.push(stream);
    }
    let next = api.get("/healthz", "");
    tokio::pin!(next);
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut next).await.is_err());
    open.pop();
    assert_eq!(next.await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn clients_that_do_not_take_their_answers_keep_nobody_out_for_long() {
    let api = Api::tcp();
    let mut open = Vec::new();
    for _ in 0..64 {
        let (mut client, server) = tokio::io::duplex(16);
        api.connect.send(server).await.unwrap();
        client.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        open.push(client);
    }
    let next = tokio::time::timeout(Duration::from_secs(11), api.get("/healthz", "")).await;
    assert_eq!(next.expect("an answer in time").0, 200);
}
