//! An agent that is made up, on a real local socket, and what the client does with its moods.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admin::api::{Accepted, ErrorBody, Phase, Progress, ProgressLine, RolloutReport, StatusReport};
use admin::{Accept, Front, Server};
use host::listener::{LocalListener, LocalStream};
use host::paths::Layout;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::{Client, Ending, Posted, Screen, Until, follow};
use crate::exit_code::Code;

/// Long enough for a few attempts, short enough to be waited for.
const PATIENCE: Duration = Duration::from_millis(400);

/// What comes of one connection.
#[derive(Debug, Clone)]
pub(in crate::cli) enum Reply {
    /// Closed at once.
    Refuse,
    /// Closed after the request, as by an agent that dies.
    HangUp,
    /// Status and body.
    Say(u16, String),
}

impl Reply {
    /// A JSON answer.
    pub(in crate::cli) fn json<T: Serialize>(status: u16, body: &T) -> Self {
        Self::Say(status, serde_json::to_string(body).unwrap())
    }
}

/// Request lines without version, and bodies.
type Heard = Arc<Mutex<Vec<(String, String)>>>;

struct Door(LocalListener);

impl Accept for Door {
    type Stream = LocalStream;

    async fn accept(&mut self) -> io::Result<LocalStream> {
        self.0.accept().await
    }
}

/// Listens on the socket of a layout in a scratch folder and replies by a script; after its end it hangs up.
pub(in crate::cli) struct FakeAgent {
    pub(in crate::cli) client: Client,
    heard: Heard,
    task: Option<JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl FakeAgent {
    /// Nobody listens.
    pub(in crate::cli) fn absent() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        Self { client: Client::of(layout, PATIENCE), heard: Heard::default(), task: None, _folder: folder }
    }

    /// Listens and replies by that script.
    pub(in crate::cli) fn start(script: Vec<Reply>) -> Self {
        Self::with(|listener, heard| tokio::spawn(reply(listener, script, heard)))
    }

    fn with(listen: impl FnOnce(LocalListener, Heard) -> JoinHandle<()>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path());
        let listener = LocalListener::bind(&layout.admin_socket()).unwrap();
        let heard = Heard::default();
        let task = listen(listener, heard.clone());
        Self { client: Client::of(layout, PATIENCE), heard, task: Some(task), _folder: folder }
    }

    /// The API as it is served, over an agent that is made up.
    pub(in crate::cli) fn serving(operations: Arc<dyn admin::Operations>) -> Self {
        Self::with(|listener, _| {
            tokio::spawn(admin::serve(Server::new(operations), Front::Local, Door(listener)))
        })
    }

    /// Method and target of every request that was read.
    pub(in crate::cli) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().iter().map(|(line, _)| line.clone()).collect()
    }

    /// Bodies of the requests that had one.
    pub(in crate::cli) fn bodies(&self) -> Vec<String> {
        self.heard
            .lock()
            .unwrap()
            .iter()
            .map(|(_, body)| body.clone())
            .filter(|body| !body.is_empty())
            .collect()
    }
}

async fn reply(listener: LocalListener, script: Vec<Reply>, heard: Heard) {
    let mut script = script.into_iter();
    loop {
        let mut stream = listener.accept().await.unwrap();
        let reply = script.next().unwrap_or(Reply::HangUp);
        if matches!(reply, Reply::Refuse) {
            continue;
        }
        let request = read(&mut stream).await;
        heard.lock().unwrap().push(request);
        if let Reply::Say(status, body) = reply {
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    }
}

async fn read(stream: &mut LocalStream) -> (String, String) {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0);
            if body.len() >= length {
                let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
                return (line, body.to_owned());
            }
        }
        assert!(stream.read_buf(&mut bytes).await.unwrap() > 0, "half a request: {text}");
    }
}

#[tokio::test]
async fn what_only_reads_is_asked_again_until_an_agent_answers() {
    let busy = ErrorBody { error: "starting".into(), hint: None };
    let status = Reply::json(200, &StatusReport::default());
    let agent = FakeAgent::start(vec![Reply::Refuse, Reply::HangUp, Reply::json(503, &busy), status]);
    assert_eq!(agent.client.status().await.unwrap(), StatusReport::default());
    assert_eq!(agent.heard(), ["GET /v1/status"; 3]);
}

#[tokio::test]
async fn an_agent_that_never_answers_is_given_up_with_exit_code_4_and_what_to_do() {
    let agent = FakeAgent::start(vec![]);
    let failure = agent.client.status().await.unwrap_err();
    assert_eq!(failure.code, Code::Unreachable);
    assert!(failure.message.contains("admin.sock"), "{failure:?}");
    assert!(failure.hint.unwrap().contains("`handover up`"));
    assert!(agent.heard().len() > 1);
}

#[tokio::test]
async fn where_nothing_runs_no_time_is_lost() {
    let agent = FakeAgent::absent();
    let began = std::time::Instant::now();
    let failure = agent.client.status().await.unwrap_err();
    assert_eq!(failure.code, Code::Unreachable);
    assert!(began.elapsed() < PATIENCE);
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_not_repeated() {
    let agent = FakeAgent::start(vec![Reply::HangUp]);
    let posted = agent.client.post::<_, Accepted>("/v1/down", &()).await.unwrap();
    assert!(matches!(posted, Posted::Unknown(_)));
    assert_eq!(agent.heard(), ["POST /v1/down"]);
}

#[tokio::test]
async fn refusals_become_exit_codes_with_their_hint() {
    for (status, code) in [
        (400, Code::Failed),
        (409, Code::Failed),
        (401, Code::NotPermitted),
        (403, Code::NotPermitted),
        (404, Code::NoSuch),
    ] {
        let body = ErrorBody { error: "no".into(), hint: Some("do".into()) };
        let agent = FakeAgent::start(vec![Reply::json(status, &body)]);
        let failure = agent.client.post::<_, Accepted>("/v1/down", &()).await.unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (code, "no"));
        assert_eq!(failure.hint.as_deref(), Some("do"));
    }
}

fn told(agent: u32, phase: Phase, lines: &[(u64, &str)], is_final: bool) -> Reply {
    let lines = lines
        .iter()
        .map(|(sequence, text)| ProgressLine { sequence: *sequence, at_ms: 20, text: (*text).to_owned() })
        .collect();
    let rollout = RolloutReport { id: 3, phase, ..RolloutReport::default() };
    Reply::json(200, &Progress { rollout, lines, decided: is_final, is_final, agent })
}

#[tokio::test]
async fn a_rollout_is_followed_through_the_death_of_its_agent_and_no_line_comes_twice() {
    let agent = FakeAgent::start(vec![
        told(10, Phase::Preparing, &[(1, "copied"), (2, "started")], false),
        Reply::HangUp,
        Reply::Refuse,
        told(11, Phase::Starting, &[], false),
        told(11, Phase::Starting, &[(1, "goes on after a restart of the agent"), (2, "started")], false),
        told(11, Phase::Done, &[(3, "promoted")], true),
    ]);
    let mut screen = Screen::new(false, false, false);
    let ending =
        follow(&agent.client, "web", 3, Until::Decided, &mut screen, std::future::pending()).await.unwrap();
    assert!(matches!(ending, Ending::Reached(progress) if progress.rollout.phase == Phase::Done));
    assert_eq!(
        screen.shown,
        "   20 ms  copied\n   20 ms  started\n   20 ms  goes on after a restart of the agent\n   20 ms  promoted\n"
    );
    let asked = agent.heard();
    assert!(asked[1].contains("after=2&") && asked[1].contains("state=preparing-0-r"), "{asked:?}");
    assert!(asked[3].contains("after=0&"), "{asked:?}");
}

#[tokio::test]
async fn a_rollout_that_a_new_agent_knows_only_by_its_end_is_found_in_the_status() {
    let gone = ErrorBody { error: "no such rollout".into(), hint: None };
    let mut status = StatusReport::default();
    let last_rollout = Some(RolloutReport { id: 3, phase: Phase::RolledBack, ..RolloutReport::default() });
    let service = admin::api::ServiceReport { last_rollout, ..admin::api::ServiceReport::default() };
    status.services.insert("web".into(), service);
    let agent = FakeAgent::start(vec![Reply::json(404, &gone), Reply::json(200, &status)]);
    let mut screen = Screen::new(false, false, false);
    let ending =
        follow(&agent.client, "web", 3, Until::Decided, &mut screen, std::future::pending()).await.unwrap();
    assert!(matches!(ending, Ending::Reached(progress) if progress.rollout.phase == Phase::RolledBack));
}

#[tokio::test]
async fn leaving_ends_the_following_and_nothing_else() {
    let agent = FakeAgent::start(vec![]);
    let mut screen = Screen::new(false, false, false);
    let ending =
        follow(&agent.client, "web", 3, Until::Decided, &mut screen, std::future::ready(())).await.unwrap();
    assert!(matches!(ending, Ending::Left));
}

#[tokio::test]
async fn a_rollout_whose_handover_was_stopped_says_so_and_what_becomes_of_it() {
    let agent = FakeAgent::start(vec![told(10, Phase::Starting, &[(1, "started")], false)]);
    let mut screen = Screen::new(false, false, false);
    let never = std::future::pending();
    let failure = follow(&agent.client, "web", 3, Until::Decided, &mut screen, never).await.unwrap_err();
    assert_eq!(failure.code, Code::Unreachable);
    assert!(failure.message.starts_with("everything was stopped while the rollout of web"), "{failure:?}");
    assert!(failure.hint.unwrap().contains("`handover up`"));
}
