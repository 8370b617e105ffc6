//! How a holder begins: lock, own limits, and what a former one left behind.
//!
//! ```text
//!  lock ─► subreaper, limits ─► every rescue socket ─► vaults ─► adopt ─► kill what nobody knows ─► pid file
//! ```
//! Nothing is bound or started here. A role that answers too late is adopted without its vault.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use host::Descriptor;
use host::channel::Channel;
use host::clock::MonotonicClock;
use host::file::{Lock, write_private};
use host::out_of_memory::Killings;
use host::paths::Layout;
use host::poll::Interest;
use host::process;
use host::process_tree::{Tree, Trees};
use host::signals::SignalSource;
use model::gathering::Gathering;
use model::role_environment::{OPEN_FILES_VARIABLE, open_files_in, role_environment};
use model::role_restart::RoleRestart;
use model::silence::OwnGap;
use model::time::Instant;
use wire::collected::Collected;
use wire::link::{ExitStatus, ToHolder};
use wire::vault::{Process, ProcessRole, VaultItem};

use crate::holder::Holder;
use crate::instances::Instance;
use crate::link::Link;
use crate::log::Log;
use crate::roles::{Role, describe, word};
use crate::{HolderError, Options};

/// Between two looks at the deadlines.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// So often it is looked whether the last cgroups are empty.
const LAST_LOOKS_MAX: u32 = 40;
/// Between two of these looks.
const LAST_LOOK_INTERVAL: Duration = Duration::from_millis(25);
/// A holder that has the lock and knows what runs.
pub(crate) fn prepare(options: &Options) -> Result<Holder, HolderError> {
    let system = |what: &str| {
        let what = what.to_owned();
        move |error| HolderError::System { what, error }
    };
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
    let passed = std::env::var(OPEN_FILES_VARIABLE).ok().filter(|_| options.rescue);
    let open_files = passed.and_then(|text| open_files_in(&text)).unwrap_or(raised);
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
        waiting_binds: Vec::new(),
        let_go_until: now,
        notify: Default::default(),
        instances: Default::default(),
        roles: Vec::new(),
        agent_restart: RoleRestart::new(now),
        proxy_restart: RoleRestart::new(now),
        agent_generation: 0,
        proxy_generation: 0,
        stop: Default::default(),
        apply: Default::default(),
        killings: Killings::watch(),
        alive_at: now,
        retired_cgroups: Vec::new(),
        finished: None,
    };
    take_over(&mut holder, options.rescue);
    let pid = format!("{}\n", process::current_pid());
    let written = write_private(&holder.layout.pid_file(), pid.as_bytes());
    written.map_err(system("the pid file cannot be written")).map(|()| holder)
}

fn runs_already(layout: &Layout) -> HolderError {
    let pid = std::fs::read_to_string(layout.pid_file()).ok().and_then(|text| text.trim().parse().ok());
    HolderError::Runs {
        state_dir: layout.state_dir.display().to_string(),
        pid: pid.filter(|pid| process::is_alive(*pid)),
    }
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
    let is_known = |path: &Path| holder.notify.values().any(|(known, _)| Path::new(known) == path);
    host::folder::keep_only(&holder.layout.notify_dir(), is_known);
}

/// Connects to every rescue socket that somebody listens on, and removes the others.
fn connect(holder: &mut Holder) -> Vec<Role> {
    let mut roles = Vec::new();
    for (path, role, generation) in holder.layout.rescue_sockets() {
        let kinds = [ProcessRole::Agent, ProcessRole::Proxy];
        let Some(kind) = kinds.into_iter().find(|kind| word(*kind) == role) else { continue };
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

/// Reads vaults until all are whole, or those that are missing had their time.
fn collect(holder: &mut Holder, roles: &mut [Role]) -> Collected<Descriptor> {
    let mut collected = Collected::default();
    let mut gathering = Gathering::new(holder.now);
    loop {
        holder.look_at_clock();
        for role in roles.iter_mut() {
            if let Err(why) = collect_from(role, &mut collected) {
                holder.log.warn(format_args!("{} does not give its vault: {why}", role.process.name));
                role.link = None;
            }
        }
        let links = roles.iter().filter_map(|role| role.link.as_ref());
        let (waiting, whole): (Vec<_>, Vec<_>) = links.partition(|link| link.collecting);
        if gathering.is_over(whole.len(), waiting.len(), holder.now) {
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
    host::folder::keep_only(&holder.layout.rescue_dir(), |_| false);
    if let Some(pid) = holder.apply.pid() {
        // Not reaped yet, so the number is still its own.
        let _ = process::signal_pid(pid, process::KILL);
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
