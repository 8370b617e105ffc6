//! cgroup v2 and `/proc`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::{INSTANCE_VARIABLE, STATE_VARIABLE, TASK_VARIABLE, Tree};
use crate::cgroup;
use crate::process::{self, all_pids, environment, stat};

/// Most cgroups of one name, while earlier ones still have processes.
const SAME_NAME_MAX: u32 = 100;
/// Most rounds of looking for processes that were forked while we killed the others.
const ROUNDS_MAX: u32 = 20;
/// So many that find nobody are the end of it.
const ROUNDS_IN_VAIN: u32 = 2;

pub(super) fn make_base(name: &str) -> Option<PathBuf> {
    use rustix::fs::{Access, access};
    let home = cgroup::home(process::current_pid(), Some(name))?;
    // Moving a process needs that right on the group that both groups are in.
    access(home.join("cgroup.procs"), Access::WRITE_OK).ok()?;
    let base = home.join(name);
    make_directory(&base).ok()?;
    access(base.join("cgroup.procs"), Access::WRITE_OK).ok()?;
    Some(base)
}

fn make_directory(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

pub(super) fn make_cgroup(base: &Path, name: &str) -> io::Result<PathBuf> {
    // Somebody may have tidied it away.
    make_directory(base)?;
    for number in 0..SAME_NAME_MAX {
        let path = if number == 0 { base.join(name) } else { base.join(format!("{name}~{number}")) };
        match remove_cgroup(&path) {
            Ok(()) => {
                std::fs::create_dir(&path)?;
                return Ok(path);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!("{SAME_NAME_MAX} cgroups named {name} have processes"),
    ))
}

pub(super) fn kill(state: &str, tree: &Tree) -> io::Result<()> {
    match &tree.cgroup {
        Some(cgroup) => kill_cgroup(cgroup),
        None => kill_rounds(|| members(state, tree)),
    }
}

fn kill_cgroup(cgroup: &Path) -> io::Result<()> {
    match std::fs::OpenOptions::new().write(true).open(cgroup.join("cgroup.kill")) {
        Ok(mut file) => io::Write::write_all(&mut file, b"1"),
        // Before Linux 5.14, or the cgroup is gone and with it its processes.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            kill_rounds(|| cgroup::processes_below(cgroup))
        }
        Err(error) => Err(error),
    }
}

/// Kills what `find` finds until it finds nothing new, twice: a killed process forks no more, and one that is just
/// becoming another program has no environment for a moment.
fn kill_rounds(find: impl Fn() -> BTreeSet<u32>) -> io::Result<()> {
    let mut killed = BTreeSet::new();
    let mut failed = None;
    let mut in_vain = 0;
    for _ in 0..ROUNDS_MAX {
        let found: Vec<u32> = find().difference(&killed).copied().collect();
        in_vain = if found.is_empty() { in_vain + 1 } else { 0 };
        if in_vain == ROUNDS_IN_VAIN {
            break;
        }
        for pid in found {
            match process::signal_pid(pid, process::KILL) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => failed = Some(error),
                _ => {}
            }
            killed.insert(pid);
        }
    }
    failed.map_or(Ok(()), Err)
}

pub(super) fn contains(state: &str, tree: &Tree, pid: u32) -> bool {
    let own = process::current_pid();
    let Some(stat) = stat(pid).filter(process::Stat::is_alive) else { return false };
    if pid <= 1 || pid == own {
        return false;
    }
    match &tree.cgroup {
        Some(cgroup) => cgroup::of(pid).is_some_and(|group| group.starts_with(cgroup)),
        None => is_member(state, tree, session_of(tree), pid, &stat),
    }
}

pub(super) fn limit_memory(
    base: Option<&Path>,
    state: &str,
    cgroup: &Path,
    bytes: u64,
) -> Result<(), String> {
    let Some(base) = base else { return Err(cgroup::refusal(process::current_pid())) };
    let is_ours = |pid| pid == process::current_pid() || owner(pid, state).is_some();
    cgroup::enable(base, cgroup::MEMORY, is_ours)?;
    std::fs::write(cgroup.join("memory.max"), bytes.to_string())
        .map_err(|error| format!("{} does not take a limit of {bytes} bytes: {error}", cgroup.display()))
}

/// Whether some Handover's holder started it.
pub(crate) fn belongs_to_a_handover(pid: u32) -> bool {
    let variable = format!("{STATE_VARIABLE}=");
    environment(pid).split(|byte| *byte == 0).any(|entry| entry.starts_with(variable.as_bytes()))
}

/// The session of a tree's main process, as long as it is that one's.
fn session_of(tree: &Tree) -> Option<u32> {
    // A session's number is not given to a new process while anybody is in it: if a process of that number lives
    // and is not the main one, the session that we made has ended.
    let is_ours = stat(tree.pid).is_none_or(|leader| leader.start_ticks == tree.start_ticks);
    Some(tree.pid).filter(|pid| *pid != 0 && is_ours)
}

fn is_member(state: &str, tree: &Tree, session: Option<u32>, pid: u32, stat: &process::Stat) -> bool {
    session.is_some_and(|session| stat.session == session || pid == session)
        || owner(pid, state).is_some_and(|instance| instance == tree.instance)
}

/// Living processes of a tree without a cgroup.
fn members(state: &str, tree: &Tree) -> BTreeSet<u32> {
    let session = session_of(tree);
    all_pids()
        .into_iter()
        .filter(|pid| *pid > 1 && *pid != process::current_pid())
        .filter(|pid| {
            let Some(stat) = stat(*pid).filter(process::Stat::is_alive) else { return false };
            is_member(state, tree, session, *pid, &stat)
        })
        .collect()
}

/// The tree of ours that a process was started in, by its environment.
fn owner(pid: u32, state: &str) -> Option<String> {
    owner_in(&environment(pid), state)
}

fn owner_in(environment: &[u8], state: &str) -> Option<String> {
    let value = |name: &str| {
        environment
            .split(|byte| *byte == 0)
            .find_map(|entry| std::str::from_utf8(entry).ok()?.strip_prefix(name)?.strip_prefix('='))
    };
    (value(STATE_VARIABLE)? == state).then_some(())?;
    value(TASK_VARIABLE).or_else(|| value(INSTANCE_VARIABLE)).map(str::to_owned)
}

pub(super) fn is_empty(state: &str, tree: &Tree) -> bool {
    match &tree.cgroup {
        Some(cgroup) => !is_populated(cgroup),
        None => members(state, tree).is_empty(),
    }
}

fn is_populated(cgroup: &Path) -> bool {
    std::fs::read_to_string(cgroup.join("cgroup.events"))
        .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
}

pub(super) fn remove_cgroup(cgroup: &Path) -> io::Result<()> {
    if is_populated(cgroup) {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    // A service may have made groups of its own in there.
    for entry in std::fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path())?;
        }
    }
    match std::fs::remove_dir(cgroup) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => Err(io::ErrorKind::WouldBlock.into()),
        other => other,
    }
}

pub(super) fn kill_unknown(base: Option<&Path>, state: &str, known: &[Tree]) -> Vec<String> {
    let mut killed = BTreeSet::new();
    for entry in base.map(std::fs::read_dir).into_iter().flatten().flatten().flatten() {
        let path = entry.path();
        let is_known = known.iter().any(|tree| tree.cgroup.as_deref() == Some(&path));
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) || is_known {
            continue;
        }
        if is_populated(&path) {
            killed.insert(entry.file_name().to_string_lossy().into_owned());
            // What it does not end, the search by environment may.
            let _ = kill_cgroup(&path);
        }
        // Its processes may need a moment more; then it is removed with the next use of its name.
        let _ = remove_cgroup(&path);
    }
    let strays = || {
        all_pids().into_iter().filter(|pid| *pid > 1 && *pid != process::current_pid()).filter_map(|pid| {
            let instance = owner(pid, state).filter(|_| process::is_alive(pid))?;
            (!known.iter().any(|tree| tree.instance == instance)).then_some((pid, instance))
        })
    };
    killed.extend(strays().map(|(_, instance)| instance));
    // What we may not kill stays; whoever starts next finds it again.
    let _ = kill_rounds(|| strays().map(|(pid, _)| pid).collect());
    killed.into_iter().collect()
}
