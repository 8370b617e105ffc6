//! How a holder begins: lock, own limits, and what a former one left behind.
//!
//! ```text
//!  lock ─► subreaper, limits ─► every rescue socket ─► vaults ─► adopt ─► kill what nobody knows ─► pid file
//! ```
//! Nothing is bound or started here. A role that answers too late is adopted without its vault.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use host::Descriptor;
use host::channel::Channel;
use host::clock::MonotonicClock;
use host::file::{Lock, write_private};
use host::paths::Layout;
use host::poll::Interest;
use host::process;
use host::process_tree::{Tree, Trees};
use host::signals::SignalSource;
use model::role_restart::RoleRestart;
use model::silence::OwnGap;
use model::time::Instant;
use wire::collected::Collected;
use wire::link::{ExitStatus, SILENCE_MS_MAX, ToHolder};
use wire::vault::{Process, ProcessRole, VaultItem};

use crate::holder::Holder;
use crate::instances::Instance;
use crate::link::Link;
use crate::log::Log;
use crate::roles::{Role, describe, word};
use crate::{HolderError, Options};

/// For the other vaults, once one is whole.
const OTHERS_MAX: Duration = Duration::from_secs(2);
/// For the first vault: a role that does not answer for longer is killed by the watchdog.
const FIRST_MAX: Duration = Duration::from_millis(SILENCE_MS_MAX);
/// Between two looks at the deadlines.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// So often it is looked whether the last cgroups are empty.
const LAST_LOOKS_MAX: u32 = 40;
/// Between two of these looks.
const LAST_LOOK_INTERVAL: Duration = Duration::from_millis(25);
/// Names of variables that roles get of our environment; names that end with `*` are prefixes.
const ROLE_VARIABLES: &str =
    "PATH HOME USER LOGNAME LANG LC_* TZ TMPDIR XDG_RUNTIME_DIR RUST_BACKTRACE RUST_LOG HANDOVER_LOG";
/// Passes the original limit of open descriptors through roles to the holder that one of them may start.
const OPEN_FILES_VARIABLE: &str = "HANDOVER_OPEN_FILES";

/// A holder that has the lock and knows what runs.
pub(crate) fn prepare(options: &Options) -> Result<Holder, HolderError> {
    let system = |what: &str| {
        let what = what.to_owned();
        move |error| HolderError::System { what, error }
    };
    for path in [&options.state_dir, &options.run_dir] {
        if path.to_str().is_none() {
            return Err(HolderError::Path(path.display().to_string()));
        }
    }
    let layout = Layout::new(&options.state_dir, &options.run_dir);
    // First of all what was inherited, so that nothing else gets their numbers.
    let boot =
        options.boot_descriptor.map(host::memory::inherited).transpose().map_err(system("the boot form"))?;
    let inherited =
        options.lock_descriptor.map(Lock::from_inherited).transpose().map_err(system("the lock"))?;
    layout.create().map_err(system("the directories cannot be made"))?;
    let lock = match inherited {
        Some(lock) => lock,
        None => Lock::try_exclusive(&layout.holder_lock())
            .map_err(system("the lock cannot be tried"))?
            .ok_or_else(|| runs_already(&layout))?,
    };
    let terminal = !options.rescue && process::has_terminal();
    let signals = SignalSource::new().map_err(system("signals cannot be waited for"))?;
    host::signals::ignore_job_control();
    process::become_subreaper().map_err(system("it cannot become the parent of orphans"))?;
    let raised =
        process::raise_open_files().map_err(system("the limit of open descriptors cannot be raised"))?;
    let open_files = std::env::var(OPEN_FILES_VARIABLE)
        .ok()
        .filter(|_| options.rescue)
        .and_then(|text| parse_limit(&text))
        .unwrap_or(raised);
    let committed = process::own_program().map_err(system("its own program has no path"))?;
    let clock = MonotonicClock::start();
    let now = Instant::from_start(clock.now());
    let mut holder = Holder {
        committed,
        role_environment: role_environment(std::env::vars_os(), open_files),
        open_files,
        terminal,
        trees: Trees::new(&layout.state_dir),
        log: Log::open(&layout),
        layout,
        clock,
        now,
        gap: OwnGap::new(now),
        signals,
        _lock: lock,
        boot,
        listeners: Default::default(),
        notify: Default::default(),
        instances: Default::default(),
        roles: Vec::new(),
        agent_restart: RoleRestart::new(now),
        proxy_restart: RoleRestart::new(now),
        agent_generation: 0,
        proxy_generation: 0,
        stop: Default::default(),
        alive_at: now,
        retired_cgroups: Vec::new(),
        finished: None,
    };
    take_over(&mut holder, options.rescue);
    let pid = format!("{}\n", process::current_pid());
    let pid_file = holder.layout.pid_file();
    write_private(&pid_file, pid.as_bytes()).map_err(system("the pid file cannot be written"))?;
    Ok(holder)
}

fn runs_already(layout: &Layout) -> HolderError {
    let pid = std::fs::read_to_string(layout.pid_file()).ok().and_then(|text| text.trim().parse().ok());
    HolderError::Runs {
        state_dir: layout.state_dir.display().to_string(),
        pid: pid.filter(|pid| process::is_alive(*pid)),
    }
}

fn parse_limit(text: &str) -> Option<(u64, u64)> {
    let (soft, hard) = text.split_once(':')?;
    Some((soft.parse().ok()?, hard.parse().ok()?))
}

fn role_environment(
    variables: impl Iterator<Item = (OsString, OsString)>,
    (soft, hard): (u64, u64),
) -> Vec<(String, String)> {
    let passes = |name: &str| {
        ROLE_VARIABLES.split(' ').any(|known| match known.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == known,
        })
    };
    let limit = (OPEN_FILES_VARIABLE.to_owned(), format!("{soft}:{hard}"));
    let text =
        variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    text.filter(|(name, _)| passes(name)).chain([limit]).collect()
}

/// Takes over what a former holder left: roles, sockets, processes.
fn take_over(holder: &mut Holder, rescue: bool) {
    let mut roles = connect(holder);
    let collected = collect(holder, &mut roles);
    let found = !roles.is_empty();
    holder.roles = roles;
    for (item, descriptor) in collected.into_items() {
        adopt(holder, item, descriptor);
    }
    holder.look_at_clock();
    let now = holder.now;
    let mut known: Vec<Tree> = holder.instances.values().map(Instance::tree).collect();
    for at in 0..holder.roles.len() {
        let role = &mut holder.roles[at];
        role.silence.handle_heard(now);
        known.push(role.tree());
        let Process { name, pid, role, generation, .. } = role.process.clone();
        holder.log.info(format_args!("{name} (pid {pid}) is taken over"));
        let last = holder.generation(role);
        *last = generation.max(*last);
        holder.restart(role).handle_started(now);
    }
    for name in holder.trees.kill_unknown(&known) {
        holder.log.warn(format_args!("{name} is left from before and nobody knows of it: killed"));
    }
    remove_stale_notify(holder);
    if rescue || found {
        holder.log.warn(format_args!(
            "the holder was gone and is replaced by pid {}: services go on; `handover down` ends everything",
            process::current_pid()
        ));
    }
    // Those that are whole hear of us first; others are welcomed when they have answered.
    let answered: Vec<String> = holder
        .roles
        .iter()
        .filter(|role| role.link.as_ref().is_some_and(|link| !link.collecting))
        .map(|role| role.process.name.clone())
        .collect();
    for name in answered {
        holder.welcome(&name);
    }
}

/// Removes notify sockets of instances that are no more.
fn remove_stale_notify(holder: &Holder) {
    for entry in std::fs::read_dir(holder.layout.run_dir.join("notify")).into_iter().flatten().flatten() {
        let path = entry.path();
        if !holder.notify.values().any(|(known, _)| Path::new(known) == path) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Connects to every rescue socket that somebody listens on, and removes the others.
fn connect(holder: &mut Holder) -> Vec<Role> {
    let mut roles = Vec::new();
    for entry in std::fs::read_dir(holder.layout.rescue_dir()).into_iter().flatten().flatten() {
        let path = entry.path();
        let Some((kind, generation)) = parse_name(&path) else { continue };
        let last = holder.generation(kind);
        *last = generation.max(*last);
        match connect_to(&path, kind, generation, holder.now) {
            Ok(role) => roles.push(role),
            Err(error) => {
                holder.log.info(format_args!("nobody answers on {}: {error}", path.display()));
                let _ = std::fs::remove_file(&path);
            }
        }
    }
    roles
}

fn connect_to(path: &Path, kind: ProcessRole, generation: u64, now: Instant) -> std::io::Result<Role> {
    let channel = Channel::connect(path)?;
    let pid = channel.peer()?.pid;
    let mut role = Role::new(describe(kind, generation, pid), process::handle(pid)?, now);
    role.link = Some(Link::new(channel, true).map_err(std::io::Error::other)?);
    Ok(role)
}

/// `agent-3.sock`.
fn parse_name(path: &Path) -> Option<(ProcessRole, u64)> {
    let (role, generation) = path.file_name()?.to_str()?.strip_suffix(".sock")?.split_once('-')?;
    let role = [ProcessRole::Agent, ProcessRole::Proxy].into_iter().find(|kind| word(*kind) == role)?;
    Some((role, generation.parse().ok()?))
}

/// Reads vaults until all are whole, or those that are missing had their time.
fn collect(holder: &mut Holder, roles: &mut [Role]) -> Collected<Descriptor> {
    let mut collected = Collected::default();
    let begun = holder.now;
    let mut first_whole = None;
    loop {
        holder.look_at_clock();
        let now = holder.now;
        for role in roles.iter_mut() {
            if let Err(why) = collect_from(role, &mut collected) {
                holder.log.warn(format_args!("{} does not give its vault: {why}", role.process.name));
                role.link = None;
            }
        }
        let waits = |role: &Role| role.link.as_ref().is_some_and(|link| link.collecting);
        if first_whole.is_none() && roles.iter().any(|role| role.link.is_some() && !waits(role)) {
            first_whole = Some(now);
        }
        let is_over = match first_whole {
            Some(at) => now.since(at) >= OTHERS_MAX,
            None => now.since(begun) >= FIRST_MAX,
        };
        if is_over || !roles.iter().any(waits) {
            return collected;
        }
        let interests: Vec<Interest> = roles
            .iter_mut()
            .filter_map(|role| role.link.as_mut())
            .map(|link| Interest { descriptor: link.descriptor(), write: link.wants_to_write() })
            .collect();
        // What fails here fails again, and is told, in the loop that follows.
        let _ = host::poll::wait(&interests, LOOK_INTERVAL);
    }
}

fn collect_from(role: &mut Role, collected: &mut Collected<Descriptor>) -> Result<(), String> {
    let Some(link) = &mut role.link else { return Ok(()) };
    if !link.collecting {
        return Ok(());
    }
    let mut messages = Vec::new();
    let read = link.read(&mut messages);
    for (message, descriptors) in messages {
        match message {
            ToHolder::Deposit { items } => {
                role.offered.extend(items.iter().map(VaultItem::key));
                collected.add(items, descriptors)?;
            }
            ToHolder::VaultComplete => link.collecting = false,
            _ => {}
        }
    }
    read.and_then(|()| link.flush()).map_err(|error| error.to_string())
}

fn adopt(holder: &mut Holder, item: VaultItem, descriptor: Option<Descriptor>) {
    match (item, descriptor) {
        (VaultItem::Listener(listener), Some(socket)) => {
            holder.listeners.insert(listener.name.clone(), (listener, socket));
        }
        (VaultItem::Notify { instance, path }, Some(socket)) => {
            holder.notify.insert(instance, (path, socket));
        }
        (VaultItem::Process(process), handle) if process.role == ProcessRole::Instance => {
            holder.log.info(format_args!("{} (pid {}) is taken over", process.name, process.pid));
            holder.instances.insert(process.name.clone(), adopt_instance(process, handle));
        }
        (VaultItem::Process(process), Some(handle)) => adopt_silent_role(holder, process, handle),
        _ => {}
    }
}

fn adopt_instance(mut process: Process, handle: Option<Descriptor>) -> Instance {
    // One without a handle is found by its number, if that is still its own.
    let is_same = |pid| process::start_ticks(pid) == Some(process.start_ticks);
    let handle = handle
        .or_else(|| process::handle(process.pid).ok().filter(|_| is_same(process.pid)))
        .filter(|_| process.ended.is_none());
    if handle.is_none() && process.ended.is_none() {
        process.ended = Some(ExitStatus::Unknown);
    }
    let pid = process.pid;
    process.descriptor = handle.is_some();
    if handle.is_none() {
        process.pid = 0;
    }
    Instance { process, pid, handle, is_child: false, starting: None, kill_at: None }
}

/// A role that another one knows of and that did not answer itself: it hangs, or does not listen yet, or is dead.
fn adopt_silent_role(holder: &mut Holder, process: Process, handle: Descriptor) {
    let is_known = holder.roles.iter().any(|role| role.process.name == process.name);
    if !is_known
        && process::start_ticks(process.pid) == Some(process.start_ticks)
        && process::is_alive(process.pid)
    {
        holder.roles.push(Role::new(process, handle, holder.now));
    }
}

/// Removes what only a running holder needs, and leaves.
pub(crate) fn close(mut holder: Holder, killed: bool) -> ExitCode {
    for (listener, _) in holder.listeners.values() {
        crate::listeners::remove_path(listener);
    }
    holder.notify.clear();
    remove_stale_notify(&holder);
    for entry in std::fs::read_dir(holder.layout.rescue_dir()).into_iter().flatten().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
    holder.retired_cgroups.extend(holder.instances.values().filter_map(|instance| instance.tree().cgroup));
    for _ in 0..LAST_LOOKS_MAX {
        holder.remove_retired();
        if holder.retired_cgroups.is_empty() {
            break;
        }
        // What was killed needs a moment; nothing else is left to wait for.
        let _ = host::poll::wait(&[], LAST_LOOK_INTERVAL);
    }
    holder.trees.remove_base();
    let _ = std::fs::remove_file(holder.layout.pid_file());
    holder.log.info(if killed { "everything is killed" } else { "everything is stopped" });
    if killed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_get_the_few_variables_they_need_and_the_original_limit() {
        let all = [
            ("PATH", "/bin"),
            ("LC_ALL", "C"),
            ("NOTIFY_SOCKET", "/x"),
            ("LISTEN_FDS", "1"),
            ("SECRET", "s"),
        ];
        let all = all.into_iter().map(|(name, value)| (name.into(), value.into()));
        let names: Vec<String> =
            role_environment(all, (1024, 4096)).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["PATH", "LC_ALL", OPEN_FILES_VARIABLE]);
        assert_eq!(parse_limit("1024:4096"), Some((1024, 4096)));
        assert_eq!(parse_limit("1024"), None);
    }

    #[test]
    fn a_rescue_socket_names_its_role() {
        assert_eq!(parse_name(Path::new("/r/agent-3.sock")), Some((ProcessRole::Agent, 3)));
        assert_eq!(parse_name(Path::new("/r/proxy-12.sock")), Some((ProcessRole::Proxy, 12)));
        for name in ["instance-1.sock", "agent-.sock", "agent-1", "x"] {
            assert_eq!(parse_name(Path::new(name)), None, "{name}");
        }
    }
}
