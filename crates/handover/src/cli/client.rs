//! The command line's side of the admin API: finds the agent, asks it, and outlasts its restarts.
//!
//! The agent may be killed and started again at any moment without a service noticing, so a command does not
//! give up on it at once: what only reads is asked again for [`RETRY_FOR`]; what changes something is asked again
//! only when it certainly did not arrive, and otherwise the caller looks at the status first ([`Posted`]).
//!
//! It deliberately keeps no connection: every request has one of its own, so that a new agent is as good as the
//! old one.

mod follow;
mod locate;
mod operation;
mod story;
mod transport;

use std::future::Future;
use std::time::Duration;

use admin::api::{ErrorBody, StatusReport, TrafficReport};
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::cli::Failure;
use crate::exit_code::Code;

pub(crate) use follow::{Ending, Screen, Until, follow};
pub(crate) use locate::Client;
use locate::Place;
pub(crate) use operation::follow_operation;
use transport::Broken;

/// How long an agent that does not answer is asked again.
pub(crate) const RETRY_FOR: Duration = Duration::from_secs(5);
/// Between two attempts.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Longest name of who asks; the API takes no longer one.
const ACTOR_BYTES_MAX: usize = 128;

/// What came of a request that changes something.
#[derive(Debug)]
pub(crate) enum Posted<T> {
    /// The agent answered.
    Answered(T),
    /// It may or may not have been carried out: no answer came. Look before it is repeated.
    Unknown(String),
}

/// Runs a command's work to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Failure::new(Code::Failed, format_args!("this process could not set itself up: {error}"))
    })?;
    runtime.block_on(work)
}

/// Ctrl-C or SIGTERM. For a command with one thread.
pub(crate) async fn interrupted() {
    if host::signals::terminate().await.is_err() {
        // A system that cannot tell of a signal ends this process by it.
        std::future::pending::<()>().await;
    }
}

/// Who asks, for the history: the user's name, without characters that could forge lines of a log.
pub(crate) fn actor() -> String {
    let name = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
    let mut clean: String = name.unwrap_or_default().chars().filter(|c| !c.is_control()).collect();
    clean.truncate(clean.floor_char_boundary(ACTOR_BYTES_MAX));
    if clean.is_empty() { "command line".to_owned() } else { clean }
}

impl Client {
    /// Asks for something that only reads; again while the agent restarts.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.get_waiting(path, Duration::ZERO).await
    }

    /// The same where the agent may take `wait` until there is something to say.
    pub(crate) async fn get_waiting<T: DeserializeOwned>(
        &self,
        path: &str,
        wait: Duration,
    ) -> Result<T, Failure> {
        let mut deadline = self.deadline() + wait;
        loop {
            let why = match self.exchange(Method::GET, path, Vec::new(), deadline).await {
                Ok((StatusCode::SERVICE_UNAVAILABLE, body)) => said(&body),
                Ok((status, body)) => return self.read(status, &body),
                Err(broken) => self.hopeless(broken)?,
            };
            deadline = deadline.min(self.deadline());
            self.pause_until_retry(deadline, &why).await?;
        }
    }

    /// Asks for a change; again while it certainly has not arrived.
    pub(crate) async fn post<B, T>(&self, path: &str, body: &B) -> Result<Posted<T>, Failure>
    where
        B: Serialize,
        T: DeserializeOwned,
    {
        let body = serde_json::to_vec(body).expect("invariant: bodies of the API are JSON");
        let deadline = self.deadline();
        loop {
            let why = match self.exchange(Method::POST, path, body.clone(), deadline).await {
                // It may say so after it has begun: the caller looks.
                Ok((StatusCode::SERVICE_UNAVAILABLE, body)) => return Ok(Posted::Unknown(said(&body))),
                Ok((status, body)) => return self.read(status, &body).map(Posted::Answered),
                Err(Broken::Unanswered(why)) => return Ok(Posted::Unknown(why)),
                Err(broken) => self.hopeless(broken)?,
            };
            self.pause_until_retry(deadline, &why).await?;
        }
    }

    /// Everything `status` shows.
    pub(crate) async fn status(&self) -> Result<StatusReport, Failure> {
        self.get("/v1/status").await
    }

    /// What the proxies counted; nothing from an agent that does not know it yet.
    pub(crate) async fn traffic(&self) -> Result<TrafficReport, Failure> {
        match self.exchange(Method::GET, "/v1/traffic", Vec::new(), self.deadline()).await {
            Ok((StatusCode::NOT_FOUND, _)) => Ok(TrafficReport::default()),
            Ok((StatusCode::OK, body)) => self.read(StatusCode::OK, &body),
            _ => self.get("/v1/traffic").await,
        }
    }

    /// The status if it comes within `limit`, at the first attempt: for a glance at an agent that may be gone.
    pub(crate) async fn status_once(&self, limit: Duration) -> Option<StatusReport> {
        let answer = self.exchange(Method::GET, "/v1/status", Vec::new(), Instant::now() + limit).await;
        let (status, body) = answer.ok()?;
        if status.is_success() { serde_json::from_slice(&body).ok() } else { None }
    }

    /// Until when an agent is asked again from now on.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.retry_for()
    }

    /// Waits before the next attempt, or gives up.
    pub(crate) async fn pause_until_retry(&self, deadline: Instant, why: &str) -> Result<(), Failure> {
        let now = Instant::now();
        if now >= deadline {
            return Err(self.unreachable(why));
        }
        tokio::time::sleep_until(deadline.min(now + RETRY_INTERVAL)).await;
        Ok(())
    }

    /// The reason, where another attempt may help.
    fn hopeless(&self, broken: Broken) -> Result<String, Failure> {
        match broken {
            Broken::Unanswered(why) => Ok(why),
            Broken::NotPermitted(why) => Err(self.not_permitted(&why)),
            Broken::NotSent { why, .. } if self.may_come_back() => Ok(why),
            Broken::NotSent { missing: false, why } => Ok(why),
            Broken::NotSent { missing: true, why } => Err(self.unreachable(&why)),
        }
    }

    fn read<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, Failure> {
        if !status.is_success() {
            return Err(refusal(status, body));
        }
        serde_json::from_slice(body).map_err(|error| {
            let message =
                format!("{} answered something that this version cannot read: {error}", self.name());
            Failure::new(Code::Failed, message).with_hint("use the `handover` binary that runs there")
        })
    }
}

/// What a body with an error says.
fn said(body: &[u8]) -> String {
    match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(_) => "the agent cannot answer now".to_owned(),
    }
}

/// A refusal as the command's failure.
fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let code = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Code::NotPermitted,
        StatusCode::NOT_FOUND => Code::NoSuch,
        _ => Code::Failed,
    };
    let Ok(body) = serde_json::from_slice::<ErrorBody>(body) else {
        return Failure::new(code, format_args!("the agent answered {status}"));
    };
    Failure { code, message: body.error, hint: body.hint }
}

#[cfg(test)]
pub(in crate::cli) mod tests;
