//! fork and exec by std, pidfd, waitpid, `/proc`.
#![expect(unsafe_code, reason = "descriptors by number, what happens between fork and exec, and one ioctl")]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use rustix::io::FdFlags;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions, getrlimit, pidfd_open, pidfd_send_signal,
    set_child_subreaper, setrlimit, wait,
};

use super::{Ended, Start};
use crate::Descriptor;

/// How the kernel marks a program whose file is gone.
const DELETED: &str = " (deleted)";

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: u8,
    pub(crate) parent: u32,
    pub(crate) session: u32,
    pub(crate) start_ticks: u64,
    /// Processor time in clock ticks: its own, and of children that it has waited for.
    pub(crate) cpu_ticks: u64,
    /// Resident memory in pages.
    pub(crate) resident_pages: u64,
    /// As `waitpid` would give it; 0 also when we may not know.
    exit: i32,
}

impl Stat {
    pub(crate) fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

pub(crate) fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything, parentheses too.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
        cpu_ticks: (11..15).map(number).sum(),
        resident_pages: number(21),
        exit: fields.get(49).and_then(|code| code.parse().ok()).unwrap_or(0),
    })
}

pub(crate) fn all_pids() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// The environment a process was started with; empty where we may not see it or it is a zombie.
pub(crate) fn environment(pid: u32) -> Vec<u8> {
    std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()
}

/// A process, its descendants, and all in the session it leads.
pub(crate) fn family(pid: u32) -> BTreeSet<u32> {
    let all: Vec<(u32, Stat)> = all_pids().into_iter().filter_map(|pid| Some((pid, stat(pid)?))).collect();
    let mut family = BTreeSet::from([pid]);
    loop {
        let before = family.len();
        for (member, stat) in &all {
            if family.contains(&stat.parent) || stat.session == pid {
                family.insert(*member);
            }
        }
        if family.len() == before {
            return family;
        }
    }
}

pub(super) fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| stat.is_alive())
}

pub(super) fn start_ticks(pid: u32) -> Option<u64> {
    stat(pid).map(|stat| stat.start_ticks)
}

/// A line of `/proc/PID/status`, without its name.
pub(crate) fn status_field(pid: u32, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
}

pub(super) fn executable(pid: u32) -> io::Result<PathBuf> {
    let path = std::fs::read_link(format!("/proc/{pid}/exe"))?;
    let without = path.to_str().and_then(|path| path.strip_suffix(DELETED)).map(PathBuf::from);
    Ok(without.filter(|_| !path.exists()).unwrap_or(path))
}

fn keep_over_exec(number: i32) -> io::Result<()> {
    // SAFETY: fcntl with F_SETFD touches no memory, and fails on a number that is not open.
    if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

pub(super) fn replace_self(program: &Path, arguments: &[String], keep: &[Descriptor]) -> io::Error {
    for descriptor in keep {
        if let Err(error) = keep_over_exec(descriptor.as_raw_fd()) {
            return error;
        }
    }
    let error = Command::new(program).args(arguments).exec();
    for descriptor in keep {
        // They were close-on-exec before, and stay open descriptors of ours.
        let _ = rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC);
    }
    error
}

pub(super) fn spawn(start: &Start<'_>) -> io::Result<u32> {
    let numbers: Vec<i32> = start.keep.iter().map(AsRawFd::as_raw_fd).collect();
    let mut command = Command::new(start.program);
    command
        .args(&start.arguments)
        .env_clear()
        .envs(start.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null());
    // SAFETY: between fork and exec only fcntl is called; nothing allocates.
    unsafe {
        command.pre_exec(move || numbers.iter().try_for_each(|number| keep_over_exec(*number)));
    }
    Ok(command.spawn()?.id())
}

fn pid_of(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

pub(super) fn handle(pid: u32) -> io::Result<Descriptor> {
    Ok(Arc::new(pidfd_open(pid_of(pid)?, PidfdFlags::empty())?))
}

fn signal_of(number: i32) -> io::Result<Signal> {
    Signal::from_named_raw(number)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("there is no signal {number}")))
}

pub(super) fn signal(handle: &Descriptor, number: i32) -> io::Result<()> {
    Ok(pidfd_send_signal(handle, signal_of(number)?)?)
}

pub(super) fn signal_pid(pid: u32, number: i32) -> io::Result<()> {
    Ok(rustix::process::kill_process(pid_of(pid)?, signal_of(number)?)?)
}

fn ended(status: i32) -> Ended {
    let status = ExitStatus::from_raw(status);
    match (status.code(), status.signal()) {
        (Some(code), _) => Ended::Code(code),
        (_, Some(signal)) => Ended::Signal(signal),
        _ => Ended::Unknown,
    }
}

pub(super) fn reap() -> io::Result<Option<(u32, Ended)>> {
    match wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => {
            Ok(Some((pid.as_raw_nonzero().get().unsigned_abs(), ended(status.as_raw()))))
        }
        Ok(None) | Err(rustix::io::Errno::CHILD | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `struct pidfd_info` of the kernel, in its first published size.
#[repr(C)]
#[derive(Debug, Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    pids_and_users: [u32; 11],
    exit_code: i32,
}

/// `_IOWR(PIDFS_IOCTL_MAGIC, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::Ioctl = 0xC040_FF0B;
/// Asks for, and says there is, the exit status.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

const _: () = assert!(size_of::<PidfdInfo>() == 64);

/// The kernel keeps the status of a reaped process for those who hold its pidfd (since Linux 6.15).
fn exit_by_handle(handle: &Descriptor) -> Option<Ended> {
    let mut info = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the request's size field says 64 bytes, and `info` is valid for that many.
    let done = unsafe { libc::ioctl(handle.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (done == 0 && info.mask & PIDFD_INFO_EXIT != 0).then(|| ended(info.exit_code))
}

/// A zombie that its parent does not reap shows its status to its own user and to root.
fn exit_by_zombie(pid: u32, start_ticks: u64) -> Option<Ended> {
    use std::os::unix::fs::MetadataExt;
    let stat = stat(pid).filter(|stat| !stat.is_alive() && stat.start_ticks == start_ticks)?;
    let owner = std::fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let euid = rustix::process::geteuid();
    (euid.is_root() || owner == euid.as_raw()).then(|| ended(stat.exit))
}

pub(super) fn end_of_other(handle: &Descriptor, pid: u32, start_ticks: u64) -> Ended {
    exit_by_handle(handle).or_else(|| exit_by_zombie(pid, start_ticks)).unwrap_or(Ended::Unknown)
}

pub(super) fn become_subreaper() -> io::Result<()> {
    Ok(set_child_subreaper(Some(rustix::process::getpid()))?)
}

pub(super) fn raise_open_files() -> io::Result<(u64, u64)> {
    let limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(libc::RLIM_INFINITY);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok((limit.current.unwrap_or(libc::RLIM_INFINITY), hard))
}

pub(super) fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

pub(super) fn pipe() -> io::Result<(Descriptor, Descriptor)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    Ok((Arc::new(read), Arc::new(write)))
}

pub(super) fn read_pipe(pipe: &Descriptor, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(pipe, &mut *buffer) {
            Err(rustix::io::Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}

pub(super) fn take_inherited(number: i32) -> io::Result<Descriptor> {
    if number < 3 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "standard streams are not taken over"));
    }
    // SAFETY: only borrowed for the call, which fails if the number is not open.
    rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and nothing else in this process owns what its starter left open for it; each number is
    // taken once, as the callers' documentation demands.
    Ok(Arc::new(unsafe { OwnedFd::from_raw_fd(number) }))
}
