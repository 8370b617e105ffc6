//! What the tests need from the operating system: signals, and facts about processes from `/proc`.
//!
//! On systems other than Unix everything compiles and answers that it cannot.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Signals that tests send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ask to stop.
    Term,
    /// As Ctrl-C does.
    Interrupt,
    /// As nginx wants to be asked for a reload, and the victim.
    HangUp,
    /// As HAProxy wants to be asked for a reload.
    User2,
    /// Cannot be refused.
    Kill,
    /// Freeze.
    Stop,
    /// Go on.
    Continue,
}

#[cfg(unix)]
mod signals {
    use nix::sys::signal::{SigSet, Signal as Nix, kill};
    use nix::unistd::Pid;

    use super::Signal;

    /// Sends it; a process that is gone already is no error.
    pub fn send(pid: u32, signal: Signal) {
        let signal = match signal {
            Signal::Term => Nix::SIGTERM,
            Signal::Interrupt => Nix::SIGINT,
            Signal::HangUp => Nix::SIGHUP,
            Signal::User2 => Nix::SIGUSR2,
            Signal::Kill => Nix::SIGKILL,
            Signal::Stop => Nix::SIGSTOP,
            Signal::Continue => Nix::SIGCONT,
        };
        let Ok(pid) = i32::try_from(pid) else { return };
        if pid > 1 {
            // Gone already is what the caller wanted, or notices by itself.
            let _gone = kill(Pid::from_raw(pid), signal);
        }
    }

    fn waited_signals() -> SigSet {
        let mut set = SigSet::empty();
        set.add(Nix::SIGHUP);
        set.add(Nix::SIGTERM);
        set.add(Nix::SIGINT);
        set
    }

    /// From here on SIGTERM, SIGINT and SIGHUP wait for `wait_for_signal`, in all threads started later.
    pub fn block_signals() {
        waited_signals().thread_block().expect("the signal mask can be set");
    }

    /// Every signal that can be refused is, in all threads started later.
    pub fn block_every_signal() {
        SigSet::all().thread_block().expect("the signal mask can be set");
    }

    /// The next of the blocked ones: whether it asks for a reload rather than a stop.
    pub fn wait_for_signal() -> bool {
        waited_signals().wait().expect("signals can be waited for") == Nix::SIGHUP
    }
}

#[cfg(not(unix))]
mod signals {
    use super::Signal;

    /// Not on this system.
    pub fn send(pid: u32, signal: Signal) {
        panic!("{signal:?} cannot be sent to {pid} on this system");
    }

    /// Nothing to block on this system.
    pub fn block_signals() {}

    /// Nothing to block on this system.
    pub fn block_every_signal() {}

    /// Never returns on this system.
    pub fn wait_for_signal() -> bool {
        loop {
            std::thread::park();
        }
    }
}

pub use signals::{block_every_signal, block_signals, send, wait_for_signal};

/// Raises the limit of open descriptors to the most that is granted; that many.
#[cfg(unix)]
pub fn raise_descriptors() -> u64 {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits can be read");
    // What is refused stays as it was.
    if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}

/// CPU time of all children that have ended and were waited for.
#[cfg(unix)]
pub fn cpu_of_children() -> std::time::Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("usage can be read");
    let micros = |time: nix::sys::time::TimeVal| {
        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0)
    };
    std::time::Duration::from_micros(micros(usage.user_time()) + micros(usage.system_time()))
}

/// Unknown on this system.
#[cfg(not(unix))]
pub fn raise_descriptors() -> u64 {
    0
}

/// Unknown on this system.
#[cfg(not(unix))]
pub fn cpu_of_children() -> std::time::Duration {
    std::time::Duration::ZERO
}

/// A copy of the listener as a child's standard input: a child that keeps a port.
#[cfg(unix)]
pub fn as_stdin(listener: &std::net::TcpListener) -> Stdio {
    let copy = listener.try_clone().expect("a descriptor can be copied");
    Stdio::from(std::os::fd::OwnedFd::from(copy))
}

/// Not on this system.
#[cfg(not(unix))]
pub fn as_stdin(_: &std::net::TcpListener) -> Stdio {
    Stdio::null()
}

/// Serves each connection to that Unix socket on a thread of its own, for as long as this process lives.
#[cfg(unix)]
pub fn serve_unix(path: &Path, serve: impl Fn(std::os::unix::net::UnixStream) + Send + Clone + 'static) {
    let listener = std::os::unix::net::UnixListener::bind(path).expect("the path is free and ours");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let serve = serve.clone();
            std::thread::spawn(move || serve(stream));
        }
    });
}

/// Not on this system.
#[cfg(not(unix))]
pub fn serve_unix(_: &Path, _: impl Fn(std::net::TcpStream) + Send + Clone + 'static) {}

/// Sends a line to the socket that `NOTIFY_SOCKET` names.
#[cfg(unix)]
pub fn notify(text: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        panic!("NOTIFY_SOCKET is not set");
    };
    let socket = std::os::unix::net::UnixDatagram::unbound().expect("a socket can be made");
    socket.send_to(text.as_bytes(), Path::new(&path)).expect("NOTIFY_SOCKET takes datagrams");
}

/// Not on this system.
#[cfg(not(unix))]
pub fn notify(_: &str) {}

/// As many descriptors as this process may have.
#[cfg(unix)]
pub fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits can be read");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("the limit can be raised");
}

/// Nothing to raise on this system.
#[cfg(not(unix))]
pub fn raise_descriptor_limit() {}

/// Makes it readable and enterable by its owner only.
#[cfg(unix)]
pub fn make_private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).expect("it is ours");
}

/// Nothing to do on this system.
#[cfg(not(unix))]
pub fn make_private(_: &Path) {}

/// Permission bits of a path.
#[cfg(unix)]
pub fn mode_of(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode() & 0o7777)
}

/// Unknown on this system.
#[cfg(not(unix))]
pub fn mode_of(_: &Path) -> u32 {
    0
}

/// The fields of `/proc/PID/stat` after the program's name; the first is the state.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Whether it runs; a zombie does not.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).and_then(|fields| fields.first().cloned()).is_some_and(|state| state != "Z" && state != "X")
}

/// CPU time it has used, to the nanosecond, as the scheduler counts it.
pub fn cpu_nanos(pid: u32) -> u64 {
    cpu_of_threads(pid).into_iter().map(|(_, nanos)| nanos).sum()
}

/// The same for each of its threads.
pub fn cpu_of_threads(pid: u32) -> Vec<(u32, u64)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of_task = |path: PathBuf| -> Option<(u32, u64)> {
        let text = std::fs::read_to_string(path.join("schedstat")).ok()?;
        Some((path.file_name()?.to_str()?.parse().ok()?, text.split_whitespace().next()?.parse().ok()?))
    };
    tasks.filter_map(|task| of_task(task.path())).collect()
}

/// Its children now.
pub fn children_of(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// How many threads it has.
pub fn threads_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// How many descriptors it has.
pub fn descriptors_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Resident and proportional memory in KiB.
pub fn memory_of(pid: u32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    (number("Rss:"), number("Pss:"))
}

/// The most memory that was resident since the last `forget_peak`, in KiB.
pub fn peak_memory_of(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// From here on the peak is counted anew.
///
/// # Errors
/// When the process is not ours.
pub fn forget_peak(pid: u32) -> std::io::Result<()> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// Every living process that names `directory` in its arguments or environment, or works inside it.
pub fn processes_of(directory: &Path) -> Vec<u32> {
    let own = std::process::id();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own && is_alive(*pid) && belongs_to(*pid, directory)).collect()
}

fn belongs_to(pid: u32, directory: &Path) -> bool {
    let wanted = directory.as_os_str().as_encoded_bytes();
    let names_it = |file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        bytes.windows(wanted.len()).any(|window| window == wanted)
    };
    let works_in_it =
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
    works_in_it || names_it("cmdline") || names_it("environ")
}

/// The cgroup of a process, where it is one that a supervisor made below its own.
pub fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?.to_owned();
    path.contains("/handover-").then(|| PathBuf::from(format!("{mount}{path}")))
}

/// Sockets that listen on this port, or none, by `/proc/net/tcp`.
pub fn listens(port: u16) -> bool {
    let wanted = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|file| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            words.next().is_some_and(|local| local.ends_with(&wanted)) && words.nth(1) == Some("0A")
        })
    })
}

/// A command's program and arguments without the environment of the test's own runner.
pub fn plain_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "HANDOVER_ADMIN", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}
