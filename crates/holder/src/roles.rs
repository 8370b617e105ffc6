//! Agent and proxies: started, greeted, watched, and started again.
//!
//! ```text
//!  due ──► started ──► linked ── ended ──► due again: at once, then ever later
//!            │            │ silent for 10 s, or breaks the protocol: killed
//!            └── cannot be started: as ended
//! ```
//! What a role does is its own affair. A proxy that exits with 0 was told to, by the agent, and is not replaced.

use std::time::Duration;

use host::Descriptor;
use host::channel::Channel;
use host::exec::Starting;
use host::process::{self, Ended};
use host::process_tree::Tree;
use model::role_restart::RoleRestart;
use model::silence::Silence;
use wire::collected::Kept;
use wire::exec::ExecSpec;
use wire::link::{FromHolder, SILENCE_MS_MAX, ToHolder};
use wire::vault::{Listener, Process, ProcessRole, VaultItem};

use crate::holder::Holder;
use crate::link::{Link, LinkError, Received};

/// Silence for this long kills a role.
const SILENCE_MAX: Duration = Duration::from_millis(SILENCE_MS_MAX);

/// A role that runs.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) process: Process,
    pub(crate) handle: Descriptor,
    /// It is ours to reap.
    pub(crate) is_child: bool,
    pub(crate) starting: Option<Starting>,
    pub(crate) link: Option<Link>,
    /// Why the link is of no use any more.
    pub(crate) broken: Option<LinkError>,
    pub(crate) silence: Silence,
    /// Keys of the vault that it gave us.
    pub(crate) offered: Vec<String>,
    /// It has our vault, and hears of changes.
    pub(crate) welcomed: bool,
}

/// `agent` or `proxy`, as names and files have it.
pub(crate) fn word(role: ProcessRole) -> &'static str {
    match role {
        ProcessRole::Agent => "agent",
        ProcessRole::Proxy => "proxy",
        ProcessRole::Instance => "instance",
    }
}

/// The facts of a role's process.
pub(crate) fn describe(role: ProcessRole, generation: u64, pid: u32) -> Process {
    Process {
        name: format!("{}-{generation}", word(role)),
        role,
        pid,
        start_ticks: process::start_ticks(pid).unwrap_or(0),
        generation,
        descriptor: true,
        cgroup: None,
        stop_signal: process::TERM,
        grace_ms: 0,
        ended: None,
    }
}

impl Role {
    pub(crate) fn new(process: Process, handle: Descriptor, now: model::time::Instant) -> Self {
        Self {
            process,
            handle,
            is_child: false,
            starting: None,
            link: None,
            broken: None,
            silence: Silence::new(SILENCE_MAX, now),
            offered: Vec::new(),
            welcomed: false,
        }
    }

    pub(crate) fn item(&self) -> Kept<Descriptor> {
        (VaultItem::Process(self.process.clone()), Some(self.handle.clone()))
    }

    pub(crate) fn tree(&self) -> Tree {
        let Process { name, pid, start_ticks, .. } = self.process.clone();
        Tree { instance: name, pid, start_ticks, cgroup: None }
    }

    /// Queues a message, if it can be told anything. A link that takes no more is broken, which is seen later.
    pub(crate) fn tell(&mut self, message: &FromHolder, descriptors: Vec<Descriptor>) {
        if let Some(link) = &mut self.link
            && self.broken.is_none()
        {
            self.broken = link.send(message, descriptors).err();
        }
    }

    pub(crate) fn signal(&self, number: i32) {
        // It may have ended just now, which is then seen by its handle.
        let _ = process::signal(&self.handle, number);
    }

    fn name(&self) -> String {
        self.process.name.clone()
    }
}

impl Holder {
    /// Starts the roles that are due.
    pub(crate) fn start_due_roles(&mut self) {
        if self.stop.has_begun() {
            return;
        }
        for kind in [ProcessRole::Proxy, ProcessRole::Agent] {
            let now = self.now;
            if self.restart(kind).is_due(now) {
                self.start_role(kind);
            }
        }
    }

    pub(crate) fn restart(&mut self, role: ProcessRole) -> &mut RoleRestart {
        if role == ProcessRole::Agent { &mut self.agent_restart } else { &mut self.proxy_restart }
    }

    /// The last one given.
    pub(crate) fn generation(&mut self, role: ProcessRole) -> &mut u64 {
        if role == ProcessRole::Agent { &mut self.agent_generation } else { &mut self.proxy_generation }
    }

    fn start_role(&mut self, kind: ProcessRole) {
        let last = self.generation(kind);
        *last += 1;
        let generation = *last;
        let now = self.now;
        match self.spawn_role(kind, generation) {
            Ok(role) => {
                self.log.info(format_args!("{} started as pid {}", role.process.name, role.process.pid));
                self.restart(kind).handle_started(now);
                let name = role.name();
                let item = role.item();
                self.deposit(item);
                self.roles.push(role);
                self.welcome(&name);
                let has_proxy =
                    self.proxies().next().is_some() || self.proxy_restart.poll_timeout().is_some();
                if kind == ProcessRole::Agent && !has_proxy {
                    // The former agent had it end; this one starts from the record.
                    self.proxy_restart = RoleRestart::new(now);
                }
            }
            Err(error) => {
                self.log.warn(format_args!("{} {generation} cannot be started: {error}", word(kind)));
                self.restart(kind).handle_ended(now);
            }
        }
    }

    /// The arguments of one of our own commands.
    pub(crate) fn internal(&self, command: &str) -> Vec<String> {
        let [state, run] = [&self.layout.state_dir, &self.layout.run_dir].map(|path| path.to_string_lossy());
        ["internal", command, "--state-dir", &*state, "--run-dir", &*run].map(str::to_owned).to_vec()
    }

    fn spawn_role(&mut self, kind: ProcessRole, generation: u64) -> std::io::Result<Role> {
        let (ours, theirs) = Channel::pair()?;
        let name = format!("{}-{generation}", word(kind));
        let mut arguments = self.internal(word(kind));
        arguments.extend(["--generation".to_owned(), generation.to_string()]);
        let environment = self.trees.marked(self.role_environment.clone(), &name);
        let spec = ExecSpec {
            program: self.committed.to_string_lossy().into_owned(),
            arguments,
            environment,
            working_directory: Some("/".to_owned()),
            ..ExecSpec::default()
        };
        let link = Link::new(ours, false).map_err(std::io::Error::other)?;
        let (pid, handle, starting) = self.start_process(spec, &name, &[theirs.descriptor()])?;
        let role = Role::new(describe(kind, generation, pid), handle, self.now);
        Ok(Role { is_child: true, starting: Some(starting), link: Some(link), ..role })
    }

    /// Gives a role what it must know: the vault, for the agent the inventory, and its links to others.
    pub(crate) fn welcome(&mut self, name: &str) {
        let items = self.items();
        let keeps = self.keepers().any(|role| role.process.name == name);
        let boot = self.boot.clone();
        let committed = self.committed.to_string_lossy().into_owned();
        let Some(role) = self.role(name) else { return };
        let keys: Vec<String> = items.iter().map(|(item, _)| item.key()).collect();
        let mut stale = std::mem::take(&mut role.offered);
        stale.retain(|key| !keys.contains(key));
        if !stale.is_empty() {
            role.tell(&FromHolder::Withdraw { keys: stale }, Vec::new());
        }
        if keeps {
            for (items, descriptors) in wire::role::batches(items.into_iter()) {
                role.tell(&FromHolder::Deposit { items }, descriptors);
            }
        }
        let kind = role.process.role;
        if kind == ProcessRole::Agent {
            let inventory = FromHolder::Inventory { boot: boot.is_some(), committed };
            role.tell(&inventory, boot.into_iter().collect());
        }
        role.welcomed = true;
        let others: Vec<String> = self
            .roles
            .iter()
            .filter(|other| other.welcomed && other.process.role != kind)
            .map(Role::name)
            .collect();
        for other in others {
            if let Err(error) = self.introduce(name, &other) {
                self.log.warn(format_args!("{name} and {other} get no link to each other: {error}"));
            }
        }
    }

    /// Gives two roles a link to each other.
    fn introduce(&mut self, one: &str, other: &str) -> std::io::Result<()> {
        let (a, b) = Channel::pair()?;
        let facts = |holder: &mut Self, name: &str| {
            holder.role(name).map(|role| (role.process.generation, role.process.pid))
        };
        let (Some(of_one), Some(of_other)) = (facts(self, one), facts(self, other)) else { return Ok(()) };
        for (name, (generation, pid), end) in [(one, of_other, a), (other, of_one, b)] {
            if let Some(role) = self.role(name) {
                role.tell(&FromHolder::Peer { generation, pid }, vec![end.descriptor()]);
            }
        }
        Ok(())
    }

    /// Reads a role's link and does what it asks.
    pub(crate) fn hear(&mut self, name: &str) {
        let now = self.now;
        let Some(role) = self.role(name) else { return };
        let Some(link) = &mut role.link else { return };
        let mut messages = Vec::new();
        if let Err(error) = link.read(&mut messages) {
            role.broken.get_or_insert(error);
        }
        if !messages.is_empty() {
            role.silence.handle_heard(now);
            if role.process.role == ProcessRole::Agent {
                self.stop.handle_heard(now);
            }
        }
        for message in messages {
            self.obey(name, message);
        }
    }

    fn obey(&mut self, name: &str, (message, _): Received) {
        let now = self.now;
        let obeys = self.stop.obeys_agent();
        let Some(role) = self.role(name) else { return };
        let is_agent = role.process.role == ProcessRole::Agent;
        match message {
            ToHolder::Hello(_) | ToHolder::Alive | ToHolder::Serving => {}
            // From one that answers only now: what it holds is older than what we know.
            ToHolder::Deposit { items } => role.offered.extend(items.iter().map(VaultItem::key)),
            ToHolder::VaultComplete => {
                if let Some(link) = &mut role.link
                    && std::mem::take(&mut link.collecting)
                {
                    self.welcome(name);
                }
            }
            ToHolder::BootTaken if is_agent => self.boot = None,
            ToHolder::Stopped if is_agent => self.stop.handle_stopped(now),
            message if is_agent && obeys => self.obey_agent(message),
            // Not said what: a specification may hold secrets.
            _ => {
                self.log.info(format_args!("{name} is not obeyed: it may not ask for that, or not any more"))
            }
        }
    }

    fn obey_agent(&mut self, message: ToHolder) {
        match message {
            ToHolder::Bind { name, used_by, address, backlog } => {
                self.bind(Listener::wanted(name, used_by, address, backlog))
            }
            ToHolder::Unbind { name } => self.unbind(&name),
            ToHolder::Spawn(spec) => self.spawn_instance(*spec),
            ToHolder::Signal { instance, signal } => self.signal_instance(&instance, signal),
            ToHolder::MainPid { instance, pid } => self.change_main(&instance, pid),
            ToHolder::KillTree { instance } => self.kill_tree(&instance),
            ToHolder::Forget { instance } => self.forget_instance(&instance),
            // What every role may say.
            _ => {}
        }
    }

    /// Kills roles that are silent, and drops links that are broken.
    pub(crate) fn judge_roles(&mut self) {
        let now = self.now;
        let broken: Vec<String> =
            self.roles.iter().filter(|role| role.broken.is_some()).map(Role::name).collect();
        for name in broken {
            self.hear(&name); // what it said before
        }
        for role in &mut self.roles {
            let Process { name, pid, .. } = &role.process;
            if role.silence.is_too_long(now) {
                let seconds = SILENCE_MAX.as_secs();
                self.log.warn(format_args!("{name} (pid {pid}) said nothing for {seconds} s and is killed"));
                role.signal(process::KILL);
                role.silence.handle_heard(now);
            }
            let Some(error) = role.broken.take() else { continue };
            if !error.is_end() {
                self.log.warn(format_args!("{name} (pid {pid}) is killed: {error}"));
                role.signal(process::KILL);
            }
            role.link = None;
            role.welcomed = false;
        }
    }

    /// Writes to every link what fits.
    pub(crate) fn flush_links(&mut self) {
        for role in &mut self.roles {
            if let Some(link) = &mut role.link
                && role.broken.is_none()
            {
                role.broken = link.flush().err();
            }
        }
    }

    /// Connects to roles that run without a link: they may only now have begun to wait for us.
    pub(crate) fn reconnect_roles(&mut self) {
        if !self.stop.obeys_agent() {
            return;
        }
        let layout = &self.layout;
        for role in self.roles.iter_mut().filter(|role| role.link.is_none()) {
            let path = layout.rescue_socket(word(role.process.role), role.process.generation);
            let Ok(channel) = Channel::connect(&path) else { continue };
            role.link = Link::new(channel, true).ok();
        }
    }

    /// A role has ended.
    pub(crate) fn role_ended(&mut self, name: &str, ended: Ended) {
        let Some(at) = self.roles.iter().position(|role| role.process.name == name) else { return };
        self.hear(name); // its last words
        let role = self.roles.swap_remove(at);
        let (kind, generation) = (role.process.role, role.process.generation);
        let _ = std::fs::remove_file(self.layout.rescue_socket(word(kind), generation));
        self.withdraw(&[format!("process/{name}")]);
        let gone = FromHolder::PeerGone { generation, role: kind };
        for other in self.roles.iter_mut().filter(|other| other.welcomed && other.process.role != kind) {
            other.tell(&gone, Vec::new());
        }
        // One that was told to end, or has a successor, is not started again.
        let is_superseded = self.proxies().any(|proxy| proxy.process.generation > generation);
        let is_final = kind == ProcessRole::Proxy && (ended == Ended::Code(0) || is_superseded);
        if self.stop.has_begun() || is_final {
            self.log.info(format_args!("{name} ended: {ended}"));
        } else {
            self.log.warn(format_args!("{name} (pid {}) ended: {ended}; restarting it", role.process.pid));
        }
        let now = self.now;
        if !is_final {
            self.restart(kind).handle_ended(now);
        }
    }
}
