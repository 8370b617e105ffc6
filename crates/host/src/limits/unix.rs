//! RLIMIT_NOFILE, and the memory controller of cgroup v2.

use rustix::process::{Resource, getrlimit};

use crate::cgroup;
use crate::process::status_field;

/// Number of the capability that may raise hard limits.
const CAP_SYS_RESOURCE: u32 = 24;

pub(super) fn memory_grantable_to(holder: u32) -> Result<(), String> {
    let group = cgroup::home(holder, None).ok_or_else(cgroup::none_here)?;
    cgroup::grantable(&group, cgroup::MEMORY, holder)
}

pub(super) fn open_files_hard() -> u64 {
    let hard = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let capabilities = status_field(crate::process::current_pid(), "CapEff");
    let may_raise = capabilities
        .and_then(|text| u64::from_str_radix(&text, 16).ok())
        .is_some_and(|set| set >> CAP_SYS_RESOURCE & 1 == 1);
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    match most {
        Some(most) if may_raise => hard.max(most),
        Some(most) => hard.min(most),
        None => hard,
    }
}
