//! Handover as a subject of the suite, and what any subject must be able to do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Step;
use super::operations::{Edit, Interrupted, Operation};
use crate::http::{self, Request};
use crate::manifest::Setup;
use crate::peers::free_port;
use crate::sandbox::{Ran, Sandbox, finish};
use crate::status::Status;
use crate::system::{self, Signal};
use crate::wait::{self, PATIENCE};

/// Into an operation, when a role is killed: new instances are starting by then.
const INTO_AN_OPERATION: Duration = Duration::from_millis(60);

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
    /// Edits of the manifest so far.
    edits: u32,
    instances: u32,
    instances_in_manifest: u32,
    /// The other listener of the manifest.
    listener: Option<u16>,
    has_service: bool,
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
        Self::start_with(setup)
    }

    /// Starts it as `setup` says.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_with(setup: Setup) -> Result<Self, String> {
        let (instances, flags) = (setup.instances, setup.flags.clone());
        let mut sandbox = Sandbox::new(setup);
        sandbox.up();
        let address = wait::try_until(PATIENCE, || {
            let status = sandbox.try_status()?;
            let ready = status.in_state("shop", "ready").len() >= instances as usize
                && status.stable("shop").is_some();
            if ready { status.listener("web") } else { None }
        });
        let address = address.ok_or_else(|| format!("Handover does not get ready:\n{}", sandbox.logs()))?;
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let release = sandbox.release("next", &flags);
        Ok(Self {
            sandbox,
            address,
            release,
            version: 1,
            edits: 0,
            instances,
            instances_in_manifest: instances,
            listener: None,
            has_service: false,
        })
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

    /// Begins it, kills that role in the middle, and expects that it ends well all the same.
    fn interrupt(&mut self, what: Interrupted, role: &str) -> Result<(), String> {
        let arguments = match what {
            Interrupted::Deploy => self.deploy_arguments(),
            Interrupted::Restart => ["restart", "shop"].map(str::to_owned).into(),
            Interrupted::Reload => ["reload", "shop"].map(str::to_owned).into(),
            Interrupted::Scale => {
                self.instances = if self.instances < 4 { self.instances + 1 } else { 1 };
                ["scale".to_owned(), "shop".to_owned(), self.instances.to_string()].into()
            }
        };
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let pid = self.pid(role)?;
        let began = Instant::now();
        let child = self.sandbox.begin(&words);
        std::thread::sleep(INTO_AN_OPERATION);
        system::send(pid, Signal::Kill);
        if role == "holder" {
            self.sandbox.collect_up();
        }
        well(&finish(child, began, &words))?;
        self.wait_for_another(role, pid)
    }

    fn kill(&mut self, role: &str) -> Result<(), String> {
        let pid = self.pid(role)?;
        system::send(pid, Signal::Kill);
        if role == "holder" {
            self.sandbox.collect_up();
        }
        self.wait_for_another(role, pid)
    }

    /// Does it, to its end, and checks that as many instances are ready as there are to be.
    ///
    /// # Errors
    /// When it did not end as it should.
    pub fn operate(&mut self, operation: Operation) -> Result<(), String> {
        match operation {
            Operation::Deploy => self.deploy().map(|_| ())?,
            Operation::Rollback => well(&self.sandbox.run(&["rollback", "shop"]))?,
            Operation::Scale(instances) => {
                self.instances = instances;
                well(&self.sandbox.run(&["scale", "shop", &instances.to_string()]))?;
            }
            Operation::Restart => well(&self.sandbox.run(&["restart", "shop"]))?,
            Operation::Reload => well(&self.sandbox.run(&["reload", "shop"]))?,
            Operation::Apply(edit) => self.apply(edit)?,
            Operation::KillAgent => self.kill("agent")?,
            Operation::KillAgentIn(what) => self.interrupt(what, "agent")?,
            Operation::KillHolder => self.kill("holder")?,
            Operation::KillHolderIn(what) => self.interrupt(what, "holder")?,
        }
        let wanted = self.instances as usize;
        let mut seen = 0;
        let all_ready = || {
            let status = self.sandbox.try_status()?;
            let stable = status.stable("shop")?;
            let ready = status.in_state("shop", "ready");
            seen = ready.iter().filter(|instance| instance.version == stable).count();
            (seen == wanted).then_some(())
        };
        wait::try_until(PATIENCE, all_ready).ok_or_else(|| format!("{seen} of {wanted} instances are ready"))
    }

    fn apply(&mut self, edit: Edit) -> Result<(), String> {
        self.edits += 1;
        let number = self.edits;
        match edit {
            Edit::AddListener | Edit::MoveListener => {
                let (keeper, port) = free_port();
                drop(keeper);
                self.listener = Some(port);
            }
            Edit::RemoveListener => self.listener = None,
            Edit::AddService => self.has_service = true,
            Edit::RemoveService => self.has_service = false,
            Edit::Version => self.version += 1,
            Edit::Instances => {
                // Another one than the file has: what `scale` did since holds only while the line stays.
                self.instances_in_manifest = if self.instances_in_manifest == 2 { 3 } else { 2 };
                self.instances = self.instances_in_manifest;
            }
            _ => {}
        }
        let extra = self.further_tables();
        let (version, instances) = (self.version, self.instances);
        self.sandbox.edit(|setup| {
            setup.extra = extra;
            match edit {
                Edit::Drain => {
                    setup.stop = format!("drain_timeout = \"10s\"\ngrace_period = \"{}s\"\n", 5 + number % 5)
                }
                Edit::ListenerLimit => {
                    setup.listener =
                        format!("idle_timeout = \"2s\"\nheader_timeout = \"{}s\"\n", 10 + number % 5);
                }
                Edit::Readiness => {
                    setup.readiness = format!(
                        "http = \"/healthz\"\nstartup_timeout = \"10s\"\ninterval = \"{}ms\"\n",
                        900 + number % 90
                    );
                }
                Edit::Restart => setup.restart = format!("delay = \"{}ms\"\n", 200 + number % 90),
                Edit::Environment => {
                    set_line(&mut setup.service, "environment", &format!("{{ ROUND = \"{number}\" }}"))
                }
                Edit::Version => setup.version = version.to_string(),
                Edit::Instances => setup.instances = instances,
                _ => {}
            }
        });
        well(&self.sandbox.run(&["apply", "--yes"]))?;
        if let (Edit::AddListener | Edit::MoveListener, Some(port)) = (edit, self.listener) {
            let answer = http::once(([127, 0, 0, 1], port).into(), &Request::get("/"));
            answer.map_err(|loss| format!("nobody answers on the new listener: {loss:?}"))?;
        }
        Ok(())
    }

    /// The tables of the manifest that come and go.
    fn further_tables(&self) -> String {
        let mut text = String::new();
        if let Some(port) = self.listener {
            text.push_str(&format!("[listener.other]\nbind = \"127.0.0.1:{port}\"\n"));
            text.push_str("[[route]]\nlistener = \"other\"\nservice = \"shop\"\n");
        }
        if self.has_service {
            let release = self.sandbox.folder().join("source/1");
            text.push_str("[[route]]\nlistener = \"web\"\npath = \"/side\"\nservice = \"side\"\n");
            text.push_str(&format!(
                "[service.side]\nrelease = '{}'\nversion = \"1\"\ncommand = ['./victim']\n\
                 [service.side.readiness]\nhttp = \"/healthz\"\n",
                release.display()
            ));
        }
        text
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

/// `name = value` as a line of a table, in the place of the one that was there.
fn set_line(table: &mut String, name: &str, value: &str) {
    let start = format!("{name} = ");
    let kept = table.lines().filter(|line| !line.starts_with(&start)).map(|line| format!("{line}\n"));
    *table = kept.collect::<String>() + &format!("{start}{value}\n");
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
            Step::KillAgentInDeploy => self.interrupt(Interrupted::Deploy, "agent"),
            Step::KillHolder => self.kill("holder"),
        }
    }
}
