//! `handover down`: drains and stops everything, and returns when the last process of ours is gone.
//!
//! The agent ends before the holder, so the end is seen by the holder's process, not by an answer. The stop is the
//! same if it is asked for twice.

use std::process::ExitCode;
use std::time::Duration;

use admin::api::{DownAccepted, DownBody, DownLevel, StatusReport};
use host::file::Lock;
use host::paths::Layout;
use host::process_tree::Trees;

use super::client::{self, Client, Posted, RETRY_INTERVAL};
use super::render::{self, Style};
use super::{Failure, Global};
use crate::exit_code::Code;

/// Beyond the longest drain and grace period before waiting is given up.
const MARGIN: Duration = Duration::from_secs(15);
/// Longest drain and grace period where the agent does not say: the defaults of the manifest.
const LONGEST_DEFAULT: Duration = Duration::from_secs(60);
/// Between two looks at whether the holder still runs.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Between two looks at what still runs.
const TELL_INTERVAL: Duration = Duration::from_millis(500);

/// How it ends when something ran.
const STOPPED: &str = "stopped";

/// Arguments of `down`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  handover down                finish requests, stop everything, return when the last process is gone
  handover down --now          do not wait for requests
  handover stop web            what to type for one service")]
pub(crate) struct Args {
    /// Do not wait for requests in flight
    #[arg(long)]
    pub(crate) now: bool,
}

/// Runs `handover down`.
pub(crate) fn run(args: Args, global: &Global) -> Result<ExitCode, Failure> {
    let client = Client::find(global)?;
    let level = if args.now { DownLevel::SkipDrain } else { DownLevel::Drain };
    let colour = global.colour_out();
    client::block_on(async {
        let ended = down(&client, level, true).await?;
        let style = if ended == STOPPED { Style::Green } else { Style::Plain };
        render::print(&(render::styled(&ended, style, colour) + "\n"));
        Ok(Code::Done.into())
    })
}

/// Ends everything without waiting for requests, and says nothing.
pub(super) async fn end_now(client: &Client) -> Result<(), Failure> {
    let deadline = client.deadline();
    loop {
        match down(client, DownLevel::SkipDrain, false).await {
            Ok(_) => return Ok(()),
            // A holder may just be starting.
            Err(failure) if tokio::time::Instant::now() >= deadline => return Err(failure),
            Err(_) => tokio::time::sleep(RETRY_INTERVAL).await,
        }
    }
}

/// Stops everything; how it ended, in a few words.
async fn down(client: &Client, level: DownLevel, tells: bool) -> Result<String, Failure> {
    let holder = client.holder();
    let body = DownBody { level, actor: Some(client::actor()) };
    let rescued_by = client.deadline();
    let accepted = loop {
        match (ask(client, &body, client.holder()).await, client.layout()) {
            (Ok(accepted), _) => break accepted,
            (Err(failure), Some(layout)) if failure.code == Code::Unreachable => {
                if let Some(pid) = client.holder() {
                    return Err(failure.with_hint(format_args!("end it through its holder: `kill {pid}`")));
                }
                if !may_be_rescued(layout) || tokio::time::Instant::now() >= rescued_by {
                    return end_what_is_left(layout, failure);
                }
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
            (Err(failure), _) => return Err(failure),
        }
    };
    let longest = accepted.longest_ms.map_or(LONGEST_DEFAULT, Duration::from_millis);
    let holder = accepted.holder.or(holder);
    wait(client, holder, longest + MARGIN, tells).await?;
    Ok(STOPPED.to_owned())
}

/// Whether roles may be there that start another holder: one that was killed could not remove their sockets.
fn may_be_rescued(layout: &Layout) -> bool {
    std::fs::read_dir(layout.rescue_dir()).is_ok_and(|mut sockets| sockets.next().is_some())
}

/// Kills what outlived all of our own processes: nobody else would end it. No request reaches it any more.
fn end_what_is_left(layout: &Layout, failure: Failure) -> Result<String, Failure> {
    let killed = match Lock::try_exclusive(&layout.holder_lock()) {
        // Until this lock is given back, no holder starts that would want to take it over.
        Ok(Some(_lock)) => {
            let trees = Trees::new(&layout.state_dir);
            let killed = trees.kill_unknown(&[]);
            trees.remove_base();
            killed
        }
        Ok(None) => return Err(failure.with_hint("a holder is just starting: try again")),
        // It never ran, or is another user's.
        Err(_) => Vec::new(),
    };
    Ok(match killed.as_slice() {
        [] => "not running".to_owned(),
        killed => format!("not running; what was left is killed: {}", killed.join(", ")),
    })
}

/// Asks until the agent has heard it, or everything is gone.
async fn ask(client: &Client, body: &DownBody, holder: Option<u32>) -> Result<DownAccepted, Failure> {
    let deadline = client.deadline();
    loop {
        let why = match client.post("/v1/down", body).await? {
            Posted::Answered(accepted) => return Ok(accepted),
            Posted::Unknown(why) => why,
        };
        if holder.is_some() && client.holder().is_none() {
            return Ok(DownAccepted { holder, longest_ms: None });
        }
        client.pause_until_retry(deadline, &why).await?;
    }
}

async fn wait(client: &Client, holder: Option<u32>, longest: Duration, tells: bool) -> Result<(), Failure> {
    let gone = async {
        loop {
            while runs(client, holder).await {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            if !has_successor(client).await? {
                return Ok(());
            }
        }
    };
    tokio::select! {
        gone = gone => gone,
        () = tell(client), if tells => Err(late(client, holder, longest)),
        () = tokio::time::sleep(longest) => Err(late(client, holder, longest)),
    }
}

/// Whether a holder is to be waited for that takes the place of one that was killed while it stopped everything:
/// one that ends takes its file with it. Where nobody is left to start another, what it left behind is ended here.
async fn has_successor(client: &Client) -> Result<bool, Failure> {
    let Some(layout) = client.layout().filter(|_| client.is_local()) else { return Ok(false) };
    let rescued_by = client.deadline();
    while layout.pid_file().exists() {
        if client.holder().is_some() {
            return Ok(true);
        }
        if !may_be_rescued(layout) || tokio::time::Instant::now() >= rescued_by {
            let failure = Failure::new(Code::Failed, "its holder was killed while it stopped everything");
            end_what_is_left(layout, failure)?;
            return Ok(false);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
    Ok(false)
}

/// Tells what still runs, whenever that has changed, for as long as it is let.
async fn tell(client: &Client) {
    let mut told = String::new();
    loop {
        // An agent that has ended already tells nothing, which is how it should be.
        if let Some(status) = client.status_once(TELL_INTERVAL).await {
            let line = remaining(&status);
            if line != told {
                render::print(&line);
                told = line;
            }
        }
        tokio::time::sleep(TELL_INTERVAL).await;
    }
}

/// Whether anything of that Handover runs. A holder that was killed meanwhile has a successor.
async fn runs(client: &Client, holder: Option<u32>) -> bool {
    if client.is_local() {
        return holder.is_some_and(host::process::is_alive) || client.holder().is_some();
    }
    // Processes of another machine are seen by their answers only.
    client.status_once(RETRY_INTERVAL * 10).await.is_some()
}

fn late(client: &Client, holder: Option<u32>, longest: Duration) -> Failure {
    let message = format!("still running after {}", render::duration(longest));
    let failure = Failure::new(Code::TimedOut, message);
    match holder {
        Some(pid) if client.is_local() => failure.with_hint(format_args!(
            "it goes on stopping; `handover down --now{}` skips the drain, `kill -TERM {pid}` twice more kills all",
            client.option()
        )),
        _ => failure.with_hint("it goes on stopping; `handover down --now` skips the drain"),
    }
}

/// What still runs, one line.
fn remaining(status: &StatusReport) -> String {
    let mut parts = Vec::new();
    for (name, service) in &status.services {
        let mut counts: Vec<(&str, u64)> = Vec::new();
        for instance in service.instances.iter().filter(|instance| instance.pid.is_some()) {
            match counts.iter_mut().find(|(state, _)| *state == instance.state) {
                Some((_, count)) => *count += 1,
                None => counts.push((&instance.state, 1)),
            }
        }
        let counts: Vec<String> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
        if !counts.is_empty() {
            parts.push(format!("{name} {}", counts.join(", ")));
        }
    }
    if parts.is_empty() {
        return "stopping: no instance runs any more\n".to_owned();
    }
    format!("stopping: {}\n", parts.join(" · "))
}

#[cfg(test)]
mod tests {
    use admin::api::{InstanceReport, ServiceReport};

    use super::*;

    #[test]
    fn what_still_runs_is_counted_by_service_and_state() {
        let instance =
            |state: &str, pid| InstanceReport { state: state.into(), pid, ..InstanceReport::default() };
        let mut status = StatusReport::default();
        assert_eq!(remaining(&status), "stopping: no instance runs any more\n");
        let instances = vec![
            instance("draining", Some(1)),
            instance("stopping", Some(2)),
            instance("draining", Some(3)),
            instance("stopped", None),
        ];
        status.services.insert("web".into(), ServiceReport { instances, ..ServiceReport::default() });
        assert_eq!(remaining(&status), "stopping: web 2 draining, 1 stopping\n");
    }
}
