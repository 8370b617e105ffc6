//! The vault: what the holder deposits with agent and proxy, so that a new holder can take over from either.
//!
//! Every descriptor of the holder is an item; the last deposit under a key counts. Items hold the facts a
//! new holder needs to go on alone: what runs, how it is stopped, which address a socket has.

use serde::{Deserialize, Serialize};

use crate::link::ExitStatus;

/// One thing the holder owns; its descriptor (where it has one) travels in the same frame, in item order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "kebab-case")]
pub enum VaultItem {
    /// A listening socket; always with its descriptor.
    Listener(Listener),
    /// A notify socket of an instance; always with its descriptor.
    Notify {
        /// Whose.
        instance: String,
        /// Its path in the file system.
        path: String,
    },
    /// A process, with its pidfd where `descriptor` says so.
    Process(Process),
}

impl VaultItem {
    /// The key under which a later deposit replaces this one.
    pub fn key(&self) -> String {
        match self {
            Self::Listener(listener) => format!("listener/{}", listener.name),
            Self::Notify { instance, .. } => format!("notify/{instance}"),
            Self::Process(process) => format!("process/{}", process.name),
        }
    }

    /// Whether a descriptor travels with it.
    pub fn has_descriptor(&self) -> bool {
        match self {
            Self::Listener(_) | Self::Notify { .. } => true,
            Self::Process(process) => process.descriptor,
        }
    }
}

/// A bound, listening socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Name in the manifest, or `admin`, or `admin.sock`.
    pub name: String,
    /// Who accepts on it.
    pub used_by: ListenerUse,
    /// Address as asked for.
    pub requested: String,
    /// Address it has: the port is known here where `requested` says 0.
    pub address: String,
    /// Backlog as asked for.
    pub backlog: u32,
}

impl Listener {
    /// A request for it, before it has an address.
    pub fn wanted(name: String, used_by: ListenerUse, requested: String, backlog: u32) -> Self {
        Self { name, used_by, requested, address: String::new(), backlog }
    }

    /// Whether who asks for the same gets the same: nothing of the address is left to the system.
    pub fn is_fixed(&self) -> bool {
        self.requested == self.address
    }
}

/// Who accepts on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerUse {
    /// The proxies.
    Traffic,
    /// The agent: the admin API on TCP.
    Admin,
    /// The agent: the command line's local socket.
    AdminLocal,
}

/// A process the holder started, or took over from one that did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Instance id, or `agent-M`, or `proxy-N`.
    pub name: String,
    /// What it is.
    pub role: ProcessRole,
    /// Process id; 0 once it has ended.
    pub pid: u32,
    /// Start time in clock ticks since boot (field 22 of /proc/PID/stat): tells a reused pid apart.
    pub start_ticks: u64,
    /// Generation of a role; 0 for instances.
    #[serde(default)]
    pub generation: u64,
    /// A pidfd travels with it.
    #[serde(default)]
    pub descriptor: bool,
    /// Its cgroup, as a path, where it has one of its own.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// Signal number that asks it to stop, when the holder must do so alone.
    pub stop_signal: i32,
    /// From that signal to the kill of its tree.
    pub grace_ms: u64,
    /// How it ended, kept until the agent forgets it.
    #[serde(default)]
    pub ended: Option<ExitStatus>,
}

/// What a process is to the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessRole {
    /// The control plane.
    Agent,
    /// The data plane.
    Proxy,
    /// A process of a service.
    Instance,
}
