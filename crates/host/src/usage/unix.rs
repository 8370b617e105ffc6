//! cgroup v2 and `/proc`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Usage;
use crate::cgroup;
use crate::process::{self, Stat, all_pids, stat};
use crate::process_tree::Tree;

pub(super) fn of(trees: &[Tree]) -> Vec<Option<Usage>> {
    let processes = trees.iter().any(|tree| tree.cgroup.is_none()).then(Processes::look);
    let ticks = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100).max(1);
    let page_bytes = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let sum = |stats: &[Stat]| Usage {
        cpu: Duration::from_secs(stats.iter().map(|stat| stat.cpu_ticks).sum()) / ticks,
        memory_bytes: stats.iter().map(|stat| stat.resident_pages).sum::<u64>() * page_bytes,
    };
    let of_one = |tree: &Tree| {
        let stats = match (&tree.cgroup, &processes) {
            (Some(cgroup), _) => cgroup::processes_below(cgroup).into_iter().filter_map(stat).collect(),
            (None, Some(processes)) => processes.of(tree),
            (None, None) => Vec::new(),
        };
        let living: Vec<Stat> = stats.into_iter().filter(Stat::is_alive).collect();
        let mut usage = Some(sum(&living)).filter(|_| !living.is_empty())?;
        if let Some(cgroup) = &tree.cgroup {
            if let Some(us) = cgroup::field(cgroup, "cpu.stat", "usage_usec") {
                usage.cpu = Duration::from_micros(us);
            }
            if let Some(bytes) = cgroup::number(cgroup, "memory.current") {
                let cached = cgroup::field(cgroup, "memory.stat", "inactive_file").unwrap_or(0);
                usage.memory_bytes = bytes.saturating_sub(cached);
            }
        }
        Some(usage)
    };
    trees.iter().map(of_one).collect()
}

/// Every process, once.
struct Processes {
    all: BTreeMap<u32, Stat>,
    children: BTreeMap<u32, Vec<u32>>,
    sessions: BTreeMap<u32, Vec<u32>>,
}

impl Processes {
    fn look() -> Self {
        let all: BTreeMap<u32, Stat> =
            all_pids().into_iter().filter_map(|pid| Some((pid, stat(pid)?))).collect();
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let mut sessions: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (pid, stat) in &all {
            children.entry(stat.parent).or_default().push(*pid);
            sessions.entry(stat.session).or_default().push(*pid);
        }
        Self { all, children, sessions }
    }

    fn of(&self, tree: &Tree) -> Vec<Stat> {
        let is_main = |stat: &&Stat| stat.start_ticks == tree.start_ticks;
        // Of another process of that number nothing is ours.
        if tree.pid <= 1
            || tree.pid == process::current_pid()
            || self.all.get(&tree.pid).is_some_and(|s| !is_main(&s))
        {
            return Vec::new();
        }
        let mut members = BTreeSet::new();
        let mut open = vec![tree.pid];
        open.extend(self.sessions.get(&tree.pid).into_iter().flatten());
        while let Some(pid) = open.pop() {
            if members.insert(pid) {
                open.extend(self.children.get(&pid).into_iter().flatten());
            }
        }
        members.into_iter().filter_map(|pid| self.all.get(&pid).copied()).collect()
    }
}
