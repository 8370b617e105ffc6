//! Where the demo happens: a folder of its own, a manifest in it, and the commands as a person would type them.
//!
//! Commands are processes of this same program. The end is not: a Ctrl-C at the terminal reaches all processes of
//! the demo, and what tidies up must outlive it.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use admin::api::{Progress, StatusReport};
use host::paths::Layout;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::cli::client::Client;
use crate::cli::{Failure, Global, down};
use crate::exit_code::Code;

/// Between two looks at whether a command has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// For one command; each ends by itself long before.
const COMMAND_LIMIT: Duration = Duration::from_secs(90);
/// For the successor of what was killed.
const SUCCESSOR_LIMIT: Duration = Duration::from_secs(20);
/// For one answer of the agent.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// Folders with the demo's name that may be there already.
const FOLDERS_MAX: u32 = 100;
/// Release that lacks the file with its text, and so cannot start.
const BROKEN: &str = "v3";

const MANIFEST: &str = "\
# Of `handover demo`; removed at its end.
state_dir = \"state\"

[admin]
bind = \"127.0.0.1:0\"

[listener.web]
bind = \"127.0.0.1:0\"

[[route]]
listener = \"web\"
service = \"hello\"

[service.hello]
release = \"releases/v1\"
version = \"v1\"
command = [\"${HANDOVER}\", \"sample\", \"--listen\", \"127.0.0.1:${PORT}\", \"--text-file\", \"greeting.txt\"]
instances = 2

[service.hello.readiness]
http = \"/healthz\"
";

/// Which process of Handover's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Agent,
    Holder,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Holder => "holder",
        }
    }

    fn pid(self, status: &StatusReport) -> Option<u32> {
        match self {
            Self::Agent => Some(status.processes.agent.pid),
            Self::Holder => status.processes.holder.as_ref().map(|holder| holder.pid),
        }
    }
}

/// The folder and what runs in it.
pub(super) struct Stage {
    folder: PathBuf,
    program: PathBuf,
    client: Client,
    may_run: bool,
}

/// A command that was typed; it ends with its owner.
struct Typed(Child);

impl Drop for Typed {
    fn drop(&mut self) {
        // One that has ended by itself has no process left to kill.
        let _ = self.0.kill().and_then(|()| self.0.wait().map(|_| ()));
    }
}

impl Stage {
    /// A folder with a manifest and releases; nothing runs yet.
    pub(super) fn set() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(Code::Failed, format_args!("the demo's folder cannot be made: {error}"))
                .with_hint("it is made below TMPDIR: set that to a folder that you may write to")
        };
        let program = host::process::own_program().map_err(failed)?;
        let folder = make_folder(&std::env::temp_dir()).map_err(failed)?;
        let furnished = furnish(&folder);
        let manifest = folder.join("handover.toml");
        let options = Global { config: Some(manifest), ..Global::default() };
        let client = furnished.map_err(failed).and_then(|()| Client::find(&options));
        match client {
            Ok(client) => Ok(Self { folder, program, client, may_run: false }),
            Err(failure) => {
                // The first failure is the one to tell.
                let _ = std::fs::remove_dir_all(&folder);
                Err(failure)
            }
        }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts everything; where its service answers.
    pub(super) async fn up(&mut self) -> Result<SocketAddr, Failure> {
        self.may_run = true;
        let (code, _, said) = self.command(&["up", "--detach", "--quiet"]).await?;
        if code != Some(0) {
            return Err(failed("handover up --detach", code, &said).with_hint(
                "where the folder's file system forbids programs, set TMPDIR to a folder that allows them",
            ));
        }
        let status = self.client.status().await?;
        let address = status.listeners.get("web").and_then(|listener| listener.address.as_deref());
        address
            .and_then(|address| address.parse().ok())
            .ok_or_else(|| Failure::new(Code::Failed, "the status names no address for the listener `web`"))
    }

    /// Deploys a release and follows it.
    pub(super) async fn deploy(&mut self, version: &str) -> Result<(Code, Progress), Failure> {
        let release = self.folder.join("releases").join(version);
        let release = release.to_str().unwrap_or_default();
        let (code, out, said) =
            self.command(&["deploy", "hello", "--release", release, "--version", version, "--json"]).await?;
        let code = match code {
            Some(0) => Code::Done,
            Some(3) => Code::RolledBack,
            _ => Code::Failed,
        };
        let progress = read(&out).ok_or_else(|| failed("handover deploy", None, &said))?;
        Ok((code, progress))
    }

    /// Goes back to the release before.
    pub(super) async fn rollback(&mut self) -> Result<Progress, Failure> {
        let (code, out, said) = self.command(&["rollback", "hello", "--json"]).await?;
        read(&out).ok_or_else(|| failed("handover rollback hello", code, &said))
    }

    /// Kills a process of ours with -9: its id, its successor's, and how long that took to answer.
    pub(super) async fn kill(&mut self, role: Role) -> Result<(u32, u32, Duration), Failure> {
        let status = self.client.status().await?;
        let missing = || Failure::new(Code::Failed, format_args!("the status names no {}", role.name()));
        let old = role.pid(&status).ok_or_else(missing)?;
        let began = Instant::now();
        host::process::signal_pid(old, host::process::KILL).map_err(|error| {
            Failure::new(Code::Failed, format_args!("{} {old} cannot be killed: {error}", role.name()))
        })?;
        while began.elapsed() < SUCCESSOR_LIMIT {
            if let Some(status) = self.client.status_once(ANSWER_LIMIT).await
                && let Some(new) = role.pid(&status).filter(|new| *new != old)
            {
                return Ok((old, new, began.elapsed()));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let message =
            format!("no {} took the place of {old} within {} s", role.name(), SUCCESSOR_LIMIT.as_secs());
        Err(Failure::new(Code::Failed, message))
    }

    /// Drains and stops everything.
    pub(super) async fn down(&mut self) -> Result<(), Failure> {
        let (code, _, said) = self.command(&["down"]).await?;
        if code != Some(0) {
            return Err(failed("handover down", code, &said));
        }
        self.may_run = false;
        Ok(())
    }

    /// Ends what still runs, and takes the folder away.
    pub(super) async fn clear(&mut self) -> Result<(), Failure> {
        if self.may_run {
            down::end_now(&self.client).await.map_err(|failure| {
                let hint = format!("everything of the demo is in {}", self.folder.display());
                failure.with_hint(hint)
            })?;
        }
        let run = Layout::find(self.folder.join("state")).run_dir;
        for folder in [run, self.folder.clone()] {
            match std::fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    let message = format!("{} cannot be removed: {error}", folder.display());
                    return Err(Failure::new(Code::Failed, message));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Types a command and waits for its end: exit code, output, error output.
    async fn command(&self, words: &[&str]) -> Result<(Option<i32>, String, String), Failure> {
        let manifest = self.folder.join("handover.toml");
        let broken = |error: std::io::Error| {
            Failure::new(Code::Failed, format_args!("`handover {}` cannot be run: {error}", words[0]))
        };
        let mut command = Command::new(&self.program);
        command.args(words).arg("-c").arg(manifest).args(["--color", "never"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut typed = Typed(command.spawn().map_err(broken)?);
        let deadline = Instant::now() + COMMAND_LIMIT;
        let status = loop {
            if let Some(status) = typed.0.try_wait().map_err(broken)? {
                break status;
            }
            if Instant::now() >= deadline {
                let message =
                    format!("`handover {}` did not end within {} s", words[0], COMMAND_LIMIT.as_secs());
                return Err(Failure::new(Code::TimedOut, message));
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        };
        // What they print fits a pipe, so nothing had to be read while they ran.
        let (mut out, mut said) = (String::new(), String::new());
        if let Some(pipe) = &mut typed.0.stdout {
            pipe.read_to_string(&mut out).map_err(broken)?;
        }
        if let Some(pipe) = &mut typed.0.stderr {
            pipe.read_to_string(&mut said).map_err(broken)?;
        }
        Ok((status.code(), out, said))
    }
}

fn read<T: DeserializeOwned>(json: &str) -> Option<T> {
    serde_json::from_str(json).ok()
}

fn failed(command: &str, code: Option<i32>, said: &str) -> Failure {
    let code = code.map_or_else(String::new, |code| format!(" with exit code {code}"));
    Failure::new(Code::Failed, format_args!("`{command}` ended{code}:\n{}", said.trim_end()))
}

/// A folder that was not there before, so that nobody else has laid anything into it.
fn make_folder(parent: &Path) -> std::io::Result<PathBuf> {
    // Links of others are resolved once: what is asked later is asked of the same place.
    let parent = parent.canonicalize()?;
    for number in 0..FOLDERS_MAX {
        let folder = parent.join(format!("handover-demo-{}-{number}", std::process::id()));
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                return Err(std::io::Error::new(error.kind(), format!("{}: {error}", folder.display())));
            }
            Ok(()) => return Ok(folder),
        }
    }
    Err(std::io::Error::other(format!("{} is full of folders of demos", parent.display())))
}

fn furnish(folder: &Path) -> std::io::Result<()> {
    std::fs::write(folder.join("handover.toml"), MANIFEST)?;
    for version in ["v1", "v2", BROKEN, "v4"] {
        let release = folder.join("releases").join(version);
        std::fs::create_dir_all(&release)?;
        let name = if version == BROKEN { "greting.txt" } else { "greeting.txt" };
        std::fs::write(release.join(name), super::load::greeting(version))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_manifest_is_right_and_leaves_the_choice_of_every_port_to_the_system() {
        let folder = tempfile::tempdir().unwrap();
        furnish(folder.path()).unwrap();
        let loaded = crate::config::load(&folder.path().join("handover.toml")).unwrap();
        assert!(loaded.manifest.listeners.values().all(|listener| listener.bind.port() == 0));
        assert_eq!(loaded.manifest.admin.bind.port(), 0);
    }

    #[test]
    fn a_folder_that_is_there_already_is_never_used() {
        let parent = tempfile::tempdir().unwrap();
        let (first, second) = (make_folder(parent.path()).unwrap(), make_folder(parent.path()).unwrap());
        assert_ne!(first, second);
    }
}
