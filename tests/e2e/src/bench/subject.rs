//! A proxy under measurement: where it listens and whose CPU time counts.

use std::net::SocketAddr;
use std::time::Duration;

use super::running::Running;
use crate::http::{self, Request};
use crate::sandbox::Sandbox;
use crate::{system, wait};

/// One of those that take turns.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) plain: SocketAddr,
    /// Where it speaks TLS, if it can.
    pub(super) tls: Option<SocketAddr>,
    /// What each is, and its process.
    pub(super) processes: Vec<(String, u32)>,
    /// Which of the stage's origins is behind it.
    pub(super) origin: usize,
    // Kept running while measured; ended when dropped.
    pub(super) _keeps: Keeps,
}

/// What keeps a subject running.
#[derive(Debug)]
pub(super) enum Keeps {
    Handover(#[expect(dead_code, reason = "held for its drop")] Box<Sandbox>),
    Peer(#[expect(dead_code, reason = "held for its drop")] Running),
}

impl Subject {
    /// A peer, once it serves: its first process and that one's children count.
    pub(super) fn of_peer(name: &str, running: Running, port: u16, tls_port: u16) -> Result<Self, String> {
        let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        let ready = || http::once(at(port), &Request::get("/")).ok().filter(|answer| answer.status == 200);
        wait::try_until(wait::PATIENCE, ready).ok_or_else(|| format!("{name} does not come to serve"))?;
        let children = system::children_of(running.pid()).into_iter().map(|pid| ("worker".to_owned(), pid));
        let processes = std::iter::once(("master".to_owned(), running.pid())).chain(children).collect();
        Ok(Self {
            name: name.to_owned(),
            plain: at(port),
            tls: Some(at(tls_port)),
            processes,
            origin: 0,
            _keeps: Keeps::Peer(running),
        })
    }

    /// CPU time of all its processes so far.
    pub(super) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.processes.iter().map(|(_, pid)| system::cpu_nanos(*pid)).sum())
    }

    /// All its processes.
    pub(super) fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.processes.iter().map(|(_, pid)| *pid)
    }

    /// The processes that carry traffic: of ours the proxy.
    pub(super) fn carriers(&self) -> impl Iterator<Item = u32> + '_ {
        let carries = |role: &str| role != "holder" && role != "agent";
        self.processes.iter().filter(move |(role, _)| carries(role)).map(|(_, pid)| *pid)
    }

    /// Proportional memory of those, in MiB.
    pub(super) fn memory_mib(&self) -> f64 {
        mebibytes(self.carriers().map(|pid| system::memory_of(pid).1).sum())
    }

    /// Resident memory of those, in MiB.
    pub(super) fn resident_mib(&self) -> f64 {
        mebibytes(self.carriers().map(|pid| system::memory_of(pid).0).sum())
    }

    /// Peak of the same since `forget_peak`.
    pub(super) fn peak_mib(&self) -> f64 {
        mebibytes(self.carriers().map(system::peak_memory_of).sum())
    }

    /// From here on the peak is counted anew.
    pub(super) fn forget_peak(&self) -> Result<(), String> {
        let mut carriers = self.carriers();
        carriers.try_for_each(system::forget_peak).map_err(|error| format!("{}: {error}", self.name))
    }

    /// The CPU time of each of its processes so far.
    pub(super) fn cpu_by_process(&self) -> Vec<Duration> {
        self.processes.iter().map(|(_, pid)| Duration::from_nanos(system::cpu_nanos(*pid))).collect()
    }
}

fn mebibytes(kibibytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let kibibytes = kibibytes as f64;
    kibibytes / 1024.0
}
