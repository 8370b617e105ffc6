//! Handover as a subject of the suite, and what any subject must be able to do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Step;
use crate::manifest::Setup;
use crate::sandbox::{Ran, Sandbox, finish};
use crate::status::Status;
use crate::system::{self, Signal};
use crate::wait::{self, PATIENCE};

/// Into a deploy, when the agent is killed: the new instances are starting by then.
const INTO_A_DEPLOY: Duration = Duration::from_millis(60);

/// Whoever stands between clients and instances.
pub trait Subject {
    /// For tables.
    fn name(&self) -> &'static str;

    /// Where clients connect.
    fn address(&self) -> SocketAddr;

    /// Does it, to its end.
    ///
    /// # Errors
    /// When it did not end as it should.
    fn perform(&mut self, step: Step) -> Result<(), String>;
}

/// Handover with two instances of the victim.
#[derive(Debug)]
pub struct HandoverSubject {
    sandbox: Sandbox,
    address: SocketAddr,
    release: PathBuf,
    version: u32,
}

impl HandoverSubject {
    /// Starts it; the flags are the victim's.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start(flags: &[&str]) -> Result<Self, String> {
        let setup = Setup {
            instances: 2,
            listener: "idle_timeout = \"2s\"\n".to_owned(),
            ..Setup::with_flags(flags)
        };
        let mut sandbox = Sandbox::new(setup);
        sandbox.up();
        let address = wait::try_until(PATIENCE, || {
            let status = sandbox.try_status()?;
            let ready = status.in_state("shop", "ready").len() >= 2 && status.stable("shop").is_some();
            if ready { status.listener("web") } else { None }
        });
        let address = address.ok_or_else(|| format!("Handover does not get ready:\n{}", sandbox.logs()))?;
        let release = sandbox.release("next", flags);
        Ok(Self { sandbox, address, release, version: 1 })
    }

    /// Its sandbox.
    pub fn sandbox(&mut self) -> &mut Sandbox {
        &mut self.sandbox
    }

    /// The version of the last deploy.
    pub fn version(&self) -> String {
        self.version.to_string()
    }

    /// `down`; the processes that are left, which should be none.
    pub fn end(mut self) -> Vec<u32> {
        let _said = self.sandbox.run(&["down"]);
        self.sandbox.collect_up();
        let gone = wait::try_until(PATIENCE, || self.sandbox.processes().is_empty().then_some(()));
        if gone.is_some() { Vec::new() } else { self.sandbox.processes() }
    }

    fn deploy_arguments(&mut self) -> Vec<String> {
        self.version += 1;
        let release = self.release.to_string_lossy().into_owned();
        let words = ["deploy", "shop", "--release", &release, "--version", &self.version.to_string()];
        words.map(str::to_owned).into()
    }

    /// One deploy; when it was typed.
    ///
    /// # Errors
    /// When it does not end with 0.
    pub fn deploy(&mut self) -> Result<Instant, String> {
        let arguments = self.deploy_arguments();
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let typed = Instant::now();
        well(&self.sandbox.run(&words))?;
        Ok(typed)
    }

    fn deploy_with_agent_killed(&mut self) -> Result<(), String> {
        let arguments = self.deploy_arguments();
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let agent = self.pid("agent")?;
        let began = Instant::now();
        let child = self.sandbox.begin(&words);
        std::thread::sleep(INTO_A_DEPLOY);
        system::send(agent, Signal::Kill);
        well(&finish(child, began, &words))?;
        self.wait_for_another("agent", agent)
    }

    fn kill(&mut self, role: &str) -> Result<(), String> {
        let pid = self.pid(role)?;
        system::send(pid, Signal::Kill);
        if role == "holder" {
            self.sandbox.collect_up();
        }
        self.wait_for_another(role, pid)
    }

    fn pid(&self, role: &str) -> Result<u32, String> {
        let look = || self.sandbox.try_status().and_then(|status: Status| status.pid(role));
        wait::try_until(PATIENCE, look).ok_or_else(|| format!("status shows no {role}"))
    }

    fn wait_for_another(&self, role: &str, former: u32) -> Result<(), String> {
        let another = || {
            let status = self.sandbox.try_status()?;
            status.pid(role).filter(|pid| *pid != former)
        };
        wait::try_until(PATIENCE, another).map(|_| ()).ok_or_else(|| format!("no new {role} comes"))
    }
}

fn well(ran: &Ran) -> Result<(), String> {
    if ran.code == Some(0) { Ok(()) } else { Err(format!("exit code {:?}: {}", ran.code, ran.text())) }
}

impl Subject for HandoverSubject {
    fn name(&self) -> &'static str {
        "Handover"
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn perform(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Deploy => self.deploy().map(|_| ()),
            Step::Rollback => well(&self.sandbox.run(&["rollback", "shop"])),
            Step::KillAgent => self.kill("agent"),
            Step::KillAgentInDeploy => self.deploy_with_agent_killed(),
            Step::KillHolder => self.kill("holder"),
        }
    }
}
