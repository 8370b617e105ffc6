//! Messages between the holder and the roles it starts, and between an old role and a new holder.
//!
//! ```text
//!  holder                         agent / proxy
//!    │── hello ──────────────────────►│   both at once, first thing; no overlap of versions = link closed
//!    │◄────────────────────── hello ──│
//!    │── deposit (descriptors) ──────►│   the vault, in batches; later changes as deposits and withdrawals
//!    │── inventory ──────────────────►│   agent only: the facts are complete, go on
//!    │◄─────────── bind, spawn, … ────│   agent only
//!    │── alive / ◄── alive ───────────│   every 2 s from each side; 10 s of silence kills
//! ```
//! Over a rescue socket the direction of the deposit is the other way round: the new holder says hello with
//! `rescue`, the role answers hello, its vault as deposits, then `vault-complete`; from there on the
//! connection is their link, and the holder deposits back what it has.

use serde::{Deserialize, Serialize};

use crate::exec::SpawnSpec;
use crate::vault::{ListenerUse, ProcessRole, VaultItem};

/// Between two signs of life on a link.
pub const ALIVE_INTERVAL_MS: u64 = 2_000;
/// Silence for this long is death.
pub const SILENCE_MS_MAX: u64 = 10_000;

/// First message of each side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol version the sender speaks.
    pub min: u16,
    /// Newest.
    pub max: u16,
    /// `holder`, `agent` or `proxy`.
    pub role: String,
    /// Process id of the sender.
    pub pid: u32,
    /// Generation of a role; 0 for the holder.
    pub generation: u64,
    /// Build, for people.
    pub build: String,
    /// From a holder on a rescue socket: give me your vault.
    #[serde(default)]
    pub rescue: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    /// With that exit code.
    Code(i32),
    /// By that signal.
    Signal(i32),
    /// Killed by the kernel because memory ran out, its own limit or the machine's.
    OutOfMemory,
    /// Nobody could tell; counts as a failure.
    Unknown,
}

/// How hard to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopLevel {
    /// Drain, then stop all.
    Drain,
    /// Stop all without waiting for requests.
    SkipDrain,
    /// Kill every tree.
    Kill,
}

/// From the holder to agent and proxy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "kebab-case")]
pub enum FromHolder {
    /// First message.
    Hello(Hello),
    /// Keep these (the vault); the descriptors travel with it, in item order.
    Deposit {
        /// What.
        items: Vec<VaultItem>,
    },
    /// Forget these keys and close their descriptors.
    Withdraw {
        /// Keys as `VaultItem::key` makes them.
        keys: Vec<String>,
    },
    /// To the agent, after the deposits: they were all. `boot` says that a descriptor with the boot form
    /// (`sealed::Boot`) travels with it.
    Inventory {
        /// A boot descriptor is here.
        boot: bool,
        /// Binary from which roles are started, for the record.
        committed: String,
    },
    /// The instance runs.
    Spawned {
        /// Which.
        instance: String,
        /// Its process.
        pid: u32,
    },
    /// The instance could not be started; nothing of it runs.
    SpawnFailed {
        /// Which.
        instance: String,
        /// What failed and why, for people.
        error: String,
    },
    /// The instance's main process is that one from now on, as `main-pid` asked.
    MainPid {
        /// Which.
        instance: String,
        /// Its main process.
        pid: u32,
    },
    /// The main process of an instance ended. Repeated in the vault until `forget`.
    Exited {
        /// Which.
        instance: String,
        /// How.
        status: ExitStatus,
    },
    /// The listener is bound, and deposited with all who hold the vault.
    Bound {
        /// Which.
        name: String,
        /// The address it has.
        address: String,
    },
    /// The listener could not be bound.
    BindFailed {
        /// Which.
        name: String,
        /// What failed, why, and who has the address if that is known.
        error: String,
    },
    /// A proxy runs; the descriptor with this message is the agent's end of their link.
    /// To a proxy: the agent (generation M) runs, and the descriptor is the proxy's end.
    Peer {
        /// Generation of the other.
        generation: u64,
        /// Process of the other.
        pid: u32,
    },
    /// A proxy, or to a proxy the agent, is gone.
    PeerGone {
        /// Generation of the other.
        generation: u64,
        /// What it was.
        role: ProcessRole,
    },
    /// Someone asked the holder to stop (a signal). To the agent: end all, then say `stopped`.
    Stop {
        /// How hard.
        level: StopLevel,
    },
    /// To a proxy, when there is no agent to say it: stop accepting, finish, exit.
    Drain {
        /// For requests in flight.
        deadline_ms: u64,
    },
    /// Sign of life.
    Alive,
}

/// From agent and proxy to the holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "body", rename_all = "kebab-case")]
pub enum ToHolder {
    /// First message.
    Hello(Hello),
    /// On a rescue socket: the role's vault, with descriptors.
    Deposit {
        /// What.
        items: Vec<VaultItem>,
    },
    /// On a rescue socket: that was all.
    VaultComplete,
    /// The boot form is in the record now; the holder may drop its copy.
    BootTaken,
    /// Bind and listen, or keep what is bound under that name with the same request.
    Bind {
        /// Which.
        name: String,
        /// Who will accept on it.
        used_by: ListenerUse,
        /// `IP:PORT`, or a path for a local socket.
        address: String,
        /// Accept queue.
        backlog: u32,
    },
    /// Close the listener and withdraw it.
    Unbind {
        /// Which.
        name: String,
    },
    /// Start an instance.
    Spawn(Box<SpawnSpec>),
    /// Send a signal to an instance's main process.
    Signal {
        /// Which.
        instance: String,
        /// Number.
        signal: i32,
    },
    /// Another process of the instance's tree is its main process from now on; ignored if that is not in its
    /// tree. An instance whose main process has ended, but that was not forgotten, runs again by this.
    MainPid {
        /// Which.
        instance: String,
        /// The process.
        pid: u32,
    },
    /// Kill the whole tree of an instance.
    KillTree {
        /// Which.
        instance: String,
    },
    /// The end of an instance was noted: drop its slot, cgroup, notify socket.
    Forget {
        /// Which.
        instance: String,
    },
    /// From a proxy: it accepts on every listener it has.
    Serving,
    /// From the agent: every instance is stopped, the proxies have ended or may be ended; exit.
    Stopped,
    /// Sign of life.
    Alive,
}
