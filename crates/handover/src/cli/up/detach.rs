//! `up --detach`: the holder in a session of its own, and waiting until its services are ready.
//!
//! What this process waits for is only looked at, never changed: ended early, it leaves everything running.

use std::path::Path;
use std::time::Duration;

use admin::api::{Phase, ServiceReport, StatusReport};
use host::Descriptor;
use host::paths::Layout;
use tokio::time::Instant;
use wire::exec::ExecSpec;

use super::header;
use crate::cli::client::{self, Client};
use crate::cli::{Failure, Global, render};
use crate::config::Loaded;
use crate::exit_code::Code;

/// For the holder's program to run, from its start.
const START_LIMIT: Duration = Duration::from_secs(10);
/// Beyond the longest `startup_timeout`: copying releases, a restart of the agent.
const MARGIN: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// For one answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Number under which the holder finds the boot form.
const BOOT_NUMBER: i32 = 3;
/// Lines of the log that are shown when it ended at once.
const LOG_LINES: usize = 10;

/// Starts the holder; its process id.
pub(super) fn start(
    layout: &Layout,
    binary: &Path,
    boot: &Descriptor,
    arguments: impl Fn(i32) -> Result<Vec<String>, Failure>,
) -> Result<u32, Failure> {
    let arguments = arguments(BOOT_NUMBER)?;
    spawn(layout, binary, boot, arguments)
        .and_then(|(pid, errors)| {
            let why = client::block_on(async { Ok(first_error(&errors).await) });
            match why.unwrap_or_else(|failure| Some(failure.message)) {
                None => Ok(pid),
                Some(why) => Err(std::io::Error::other(why)),
            }
        })
        .map_err(|error| {
            Failure::new(Code::Failed, format_args!("the background process cannot be started: {error}"))
        })
}

fn spawn(
    layout: &Layout,
    binary: &Path,
    boot: &Descriptor,
    arguments: Vec<String>,
) -> std::io::Result<(u32, Descriptor)> {
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let (errors, error_writer) = host::process::pipe()?;
    let log = layout.own_log().display().to_string();
    let specification = ExecSpec {
        program: binary.display().to_string(),
        arguments,
        environment: environment.clone(),
        descriptors: vec![host::number(boot)],
        stdout: Some(log.clone()),
        stderr: Some(log),
        error_descriptor: host::number(&error_writer),
        ..ExecSpec::default()
    };
    let specification = host::memory::sealed("handover-exec", &serde_json::to_vec(&specification)?)?;
    let pid = host::process::spawn(&host::process::Start {
        program: binary,
        arguments: vec!["internal".to_owned(), "exec".to_owned(), host::number(&specification).to_string()],
        environment,
        keep: &[specification, boot.clone(), error_writer],
    })?;
    Ok((pid, errors))
}

/// What kept it from becoming the holder; nothing, once it has.
async fn first_error(errors: &Descriptor) -> Option<String> {
    let deadline = Instant::now() + START_LIMIT;
    let mut said = Vec::new();
    let mut buffer = [0; 512];
    loop {
        match host::process::read_pipe(errors, &mut buffer) {
            Ok(0) if said.is_empty() => return None,
            Ok(0) => return Some(String::from_utf8_lossy(&said).into_owned()),
            Ok(read) => said.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Some(error.to_string()),
            Err(_) if Instant::now() >= deadline => {
                return Some(format!("it did not start within {} s", START_LIMIT.as_secs()));
            }
            Err(_) => tokio::time::sleep(LOOK_INTERVAL).await,
        }
    }
}

/// Waits until every service is ready, or one of them certainly will not be.
pub(super) fn wait(pid: u32, layout: &Layout, loaded: &Loaded) -> Result<StatusReport, Failure> {
    let options = Global { config: Some(loaded.path.clone()), ..Global::default() };
    let client = Client::find(&options)?;
    client::block_on(watch(&client, pid, layout, loaded))
}

async fn watch(client: &Client, pid: u32, layout: &Layout, loaded: &Loaded) -> Result<StatusReport, Failure> {
    let longest = loaded.manifest.services.values().map(|service| service.readiness.startup_timeout).max();
    let limit = longest.unwrap_or_default() + MARGIN;
    let deadline = Instant::now() + limit;
    let option = header::option(&loaded.path);
    let mut waits_for = "the agent has not answered yet".to_owned();
    loop {
        if !host::process::is_alive(pid) {
            return Err(ended(layout));
        }
        if let Some(status) = client.status_once(ANSWER_LIMIT).await {
            match outcome(&status, loaded) {
                Outcome::Ready => return Ok(status),
                Outcome::Failed(why) => {
                    let hint = format!(
                        "everything else runs: `handover status{option}`, or end it: `handover down{option}`"
                    );
                    return Err(Failure::new(Code::Failed, why).with_hint(hint));
                }
                Outcome::WaitsFor(what) => waits_for = what,
            }
        }
        if Instant::now() >= deadline {
            let message = format!("not ready after {}: {waits_for}", render::duration(limit));
            return Err(Failure::new(Code::TimedOut, message)
                .with_hint(format_args!("it goes on starting: `handover status{option}`")));
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

fn ended(layout: &Layout) -> Failure {
    let log = layout.own_log();
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let last = render::quoted(&lines[lines.len().saturating_sub(LOG_LINES)..]);
    Failure::new(Code::Failed, format_args!("it ended while it was starting\n{}", last.trim_end()))
        .with_hint(format_args!("all it said is in {}", log.display()))
}

/// How far it is.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Ready,
    Failed(String),
    WaitsFor(String),
}

fn outcome(status: &StatusReport, loaded: &Loaded) -> Outcome {
    let mut waits_for = None;
    for name in loaded.manifest.listeners.keys() {
        match status.listeners.get(name.as_str()) {
            Some(listener) if listener.address.is_some() => {}
            Some(listener) if listener.error.is_some() => {
                let why = listener.error.as_deref().unwrap_or_default();
                return Outcome::Failed(why.to_owned());
            }
            _ => waits_for = Some(format!("listener {name} is not bound yet")),
        }
    }
    for name in loaded.manifest.services.keys() {
        match status.services.get(name.as_str()) {
            None => waits_for = Some(format!("the agent does not know {name} yet")),
            Some(service) => match of_service(name.as_str(), service) {
                Outcome::Ready => {}
                Outcome::WaitsFor(what) => waits_for = Some(what),
                failed @ Outcome::Failed(_) => return failed,
            },
        }
    }
    waits_for.map_or(Outcome::Ready, Outcome::WaitsFor)
}

fn of_service(name: &str, service: &ServiceReport) -> Outcome {
    if service.stopped || service.removed {
        return Outcome::Ready;
    }
    let on_its_way = service.rollout.as_ref().filter(|rollout| rollout.phase != Phase::Baking);
    if let Some(rollout) = on_its_way {
        let what = rollout.waiting_on.clone().unwrap_or_else(|| rollout.phase.as_str().to_owned());
        return Outcome::WaitsFor(format!("{name} {}: {what}", rollout.version));
    }
    if let Some(stable) = &service.stable {
        let mut instances =
            service.instances.iter().filter(|instance| instance.version == *stable).peekable();
        let is_ready = instances.peek().is_some() && instances.all(|instance| instance.state == "ready");
        return if is_ready {
            Outcome::Ready
        } else {
            Outcome::WaitsFor(format!("{name} {stable} is not ready yet"))
        };
    }
    match &service.last_rollout {
        Some(rollout) if matches!(rollout.phase, Phase::Failed | Phase::RolledBack) => {
            let why = rollout.reason.as_deref().unwrap_or("it did not get ready");
            let output = render::quoted(&rollout.output);
            Outcome::Failed(
                format!("{name} {}: {why}\n{}", rollout.version, output.trim_end()).trim_end().to_owned(),
            )
        }
        _ => Outcome::WaitsFor(match &service.waiting_on {
            Some(waits) => format!("{name} {waits}"),
            None => format!("{name} has not begun to start"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use admin::api::{InstanceReport, ListenerReport, RolloutReport};

    use super::*;
    use crate::config::testing;

    fn status(service: ServiceReport) -> StatusReport {
        let mut status = StatusReport::default();
        let bound = ListenerReport { address: Some("127.0.0.1:1".into()), error: None };
        status.listeners.insert("web".into(), bound);
        status.services.insert("hello".into(), service);
        status
    }

    fn instance(version: &str, state: &str) -> InstanceReport {
        InstanceReport { version: version.into(), state: state.into(), ..InstanceReport::default() }
    }

    #[test]
    fn it_is_ready_when_all_instances_of_the_stable_release_are() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = testing::hello(folder.path(), "");
        let service = |second: &str| ServiceReport {
            stable: Some("v1".into()),
            instances: vec![instance("v0", "warm"), instance("v1", "ready"), instance("v1", second)],
            ..ServiceReport::default()
        };
        assert_eq!(outcome(&status(service("ready")), &loaded), Outcome::Ready);
        let waits = Outcome::WaitsFor("hello v1 is not ready yet".into());
        assert_eq!(outcome(&status(service("starting")), &loaded), waits);
        let stopped = ServiceReport { stopped: true, instances: Vec::new(), ..service("ready") };
        assert_eq!(outcome(&status(stopped), &loaded), Outcome::Ready);
        let rollout = |phase| Some(RolloutReport { version: "v2".into(), phase, ..RolloutReport::default() });
        let changing = ServiceReport { rollout: rollout(Phase::Starting), ..service("ready") };
        assert_eq!(outcome(&status(changing), &loaded), Outcome::WaitsFor("hello v2: starting".into()));
        let baking = ServiceReport { rollout: rollout(Phase::Baking), ..service("ready") };
        assert_eq!(outcome(&status(baking), &loaded), Outcome::Ready);
    }

    #[test]
    fn a_first_rollout_that_failed_ends_the_wait_with_its_reason_and_output() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = testing::hello(folder.path(), "");
        let rollout = RolloutReport {
            version: "v1".into(),
            phase: Phase::Failed,
            reason: Some("it exited with code 1".into()),
            output: vec!["no such table".into()],
            ..RolloutReport::default()
        };
        let service = ServiceReport { last_rollout: Some(rollout), ..ServiceReport::default() };
        let failed = Outcome::Failed("hello v1: it exited with code 1\n  │ no such table".into());
        assert_eq!(outcome(&status(service), &loaded), failed);
    }

    #[test]
    fn a_listener_that_cannot_be_bound_ends_the_wait() {
        let folder = tempfile::tempdir().unwrap();
        let loaded = testing::hello(folder.path(), "");
        let mut status = status(ServiceReport::default());
        let why = "listener `web` cannot listen on 0.0.0.0:8080: pid 12 (nginx) listens there already";
        let taken = ListenerReport { address: None, error: Some(why.into()) };
        status.listeners.insert("web".into(), taken);
        assert_eq!(outcome(&status, &loaded), Outcome::Failed(why.into()));
    }

    #[test]
    fn an_end_while_starting_shows_the_last_lines_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path().join("run"));
        std::fs::create_dir_all(layout.logs()).unwrap();
        std::fs::write(layout.own_log(), "one\ntwo\n").unwrap();
        let failure = ended(&layout);
        assert_eq!(failure.message, "it ended while it was starting\n  │ one\n  │ two");
    }
}
