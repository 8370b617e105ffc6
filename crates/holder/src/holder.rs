//! The holder's facts: what it holds, what runs, and who keeps copies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use host::Descriptor;
use host::clock::MonotonicClock;
use host::file::Lock;
use host::out_of_memory::Killings;
use host::paths::Layout;
use host::process_tree::Trees;
use host::signals::SignalSource;
use model::holder_stop::Stop;
use model::once_more::OnceMore;
use model::role_restart::RoleRestart;
use model::silence::OwnGap;
use model::time::Instant;
use wire::collected::Kept;
use wire::link::{ExitStatus, FromHolder};
use wire::vault::{Listener, ProcessRole, VaultItem};

use crate::instances::Instance;
use crate::log::Log;
use crate::roles::Role;

/// Everything.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) layout: Layout,
    /// The binary that roles are started from.
    pub(crate) committed: PathBuf,
    /// What roles get of our environment.
    pub(crate) role_environment: Vec<(String, String)>,
    /// The limit of open descriptors that services get: soft and hard.
    pub(crate) open_files: (u64, u64),
    /// A hang-up is the user's terminal going away.
    pub(crate) terminal: bool,
    pub(crate) trees: Trees,
    pub(crate) log: Log,
    pub(crate) clock: MonotonicClock,
    pub(crate) now: Instant,
    pub(crate) gap: OwnGap,
    pub(crate) signals: SignalSource,
    /// Held for as long as this process lives.
    pub(crate) _lock: Lock,
    /// The boot form, until an agent has it in the record.
    pub(crate) boot: Option<Descriptor>,
    pub(crate) listeners: BTreeMap<String, (Listener, Descriptor)>,
    /// What is to be bound once its address is free, and when that is tried.
    pub(crate) waiting_binds: Vec<(Listener, Instant)>,
    /// Until then roles may still hold a socket that we let go of.
    pub(crate) let_go_until: Instant,
    /// By instance: path and socket.
    pub(crate) notify: BTreeMap<String, (String, Descriptor)>,
    pub(crate) instances: BTreeMap<String, Instance>,
    /// Those that run.
    pub(crate) roles: Vec<Role>,
    pub(crate) agent_restart: RoleRestart,
    pub(crate) proxy_restart: RoleRestart,
    pub(crate) agent_generation: u64,
    pub(crate) proxy_generation: u64,
    pub(crate) stop: Stop,
    /// The command that applies a changed manifest.
    pub(crate) apply: OnceMore,
    pub(crate) killings: Killings,
    /// When every link gets a sign of life.
    pub(crate) alive_at: Instant,
    /// Cgroups of trees that are forgotten, to be removed once they are empty.
    pub(crate) retired_cgroups: Vec<PathBuf>,
    /// Whether it was a kill, once all is stopped.
    pub(crate) finished: Option<bool>,
}

impl Holder {
    /// Reads the clock: once per turn.
    pub(crate) fn look_at_clock(&mut self) {
        self.now = Instant::from_start(self.clock.now());
    }

    /// The living agent.
    pub(crate) fn agent(&mut self) -> Option<&mut Role> {
        self.roles.iter_mut().find(|role| role.process.role == ProcessRole::Agent)
    }

    pub(crate) fn role(&mut self, name: &str) -> Option<&mut Role> {
        self.roles.iter_mut().find(|role| role.process.name == name)
    }

    pub(crate) fn proxies(&mut self) -> impl Iterator<Item = &mut Role> {
        self.roles.iter_mut().filter(|role| role.process.role == ProcessRole::Proxy)
    }

    /// Says something to the agent, if there is one.
    pub(crate) fn tell_agent(&mut self, message: &FromHolder) {
        if let Some(agent) = self.agent() {
            agent.tell(message, Vec::new());
        }
    }

    /// Every item of the vault.
    pub(crate) fn items(&self) -> Vec<Kept<Descriptor>> {
        let listeners = self
            .listeners
            .values()
            .map(|(listener, socket)| (VaultItem::Listener(listener.clone()), Some(socket.clone())));
        let notify = self
            .notify
            .iter()
            .map(|(instance, (path, socket))| (notify_item(instance, path), Some(socket.clone())));
        let instances = self.instances.values().map(Instance::item);
        let roles = self.roles.iter().map(Role::item);
        listeners.chain(notify).chain(instances).chain(roles).collect()
    }

    /// Who keeps the vault: the agent, and the newest proxy.
    pub(crate) fn keepers(&mut self) -> impl Iterator<Item = &mut Role> {
        let linked = self.proxies().filter(|proxy| proxy.link.is_some());
        let newest = linked.map(|proxy| proxy.process.generation).max();
        self.roles.iter_mut().filter(move |role| {
            role.process.role == ProcessRole::Agent || Some(role.process.generation) == newest
        })
    }

    /// Gives an item to those who keep the vault.
    pub(crate) fn deposit(&mut self, (item, descriptor): Kept<Descriptor>) {
        let message = FromHolder::Deposit { items: vec![item] };
        for role in self.keepers().filter(|role| role.welcomed) {
            role.tell(&message, descriptor.iter().cloned().collect());
        }
    }

    /// Makes everybody forget these keys: a copy anywhere keeps a socket's queue alive.
    pub(crate) fn withdraw(&mut self, keys: &[String]) {
        for role in self.roles.iter_mut().filter(|role| role.welcomed) {
            role.tell(&FromHolder::Withdraw { keys: keys.to_vec() }, Vec::new());
        }
    }
}

pub(crate) fn notify_item(instance: &str, path: &str) -> VaultItem {
    VaultItem::Notify { instance: instance.to_owned(), path: path.to_owned() }
}

/// As the protocol says it.
pub(crate) fn exit_status(ended: host::process::Ended) -> ExitStatus {
    match ended {
        host::process::Ended::Code(code) => ExitStatus::Code(code),
        host::process::Ended::Signal(signal) => ExitStatus::Signal(signal),
        host::process::Ended::Unknown => ExitStatus::Unknown,
    }
}
