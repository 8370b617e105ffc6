//! The steps on Linux.
#![expect(unsafe_code, reason = "descriptors by number, dispositions of signals, close_range")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::{Gid, Uid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, Mode, access};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getegid, geteuid, setrlimit, umask};

use super::Setup;
use crate::account::{self, Account};

/// Mask where none is asked for.
const UMASK: u32 = 0o022;
/// First number of the descriptors a program is given.
const FIRST: i32 = 3;
/// Signals have numbers from 1 to this.
const SIGNAL_MAX: i32 = 64;
/// Size of the kernel's set of them.
const SIGNAL_SET_BYTES: usize = 8;

pub(super) fn become_program(setup: &Setup) -> String {
    let spare = FIRST + i32::try_from(setup.descriptors.len()).unwrap_or(i32::MAX / 2);
    let errors = match duplicate(setup.error_descriptor, spare) {
        Ok(errors) => errors,
        Err(error) => return format!("cannot start {}: no descriptor for errors: {error}", setup.program),
    };
    let why = match prepare(setup, spare) {
        Err((step, error)) => format!("cannot start {}: {step}: {error}", setup.program),
        Ok(()) if reader_is_gone(&errors) => {
            format!("cannot start {}: its supervisor is gone", setup.program)
        }
        Ok(()) => refused(setup, execute(setup)),
    };
    // Nobody may read any more; then nobody needs it.
    let _ = File::from(errors).write_all(why.as_bytes());
    why
}

type Step = Result<(), (String, io::Error)>;

fn prepare(setup: &Setup, spare: i32) -> Step {
    let step = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| (what, error)
    };
    // While anything that this opens is still closed before the program.
    let account = becoming(setup).map_err(step("becoming its user"))?;
    match rustix::process::setsid() {
        // It leads a group already, and with that a session or a job of its own.
        Ok(_) | Err(Errno::PERM) => {}
        Err(error) => return Err(step("a session of its own")(error.into())),
    }
    if let Some(procs) = &setup.cgroup_procs {
        std::fs::write(procs, "0").map_err(step(&format!("entering its cgroup by {}", procs.display())))?;
    }
    streams(setup, account.as_ref())?;
    descriptors(&setup.descriptors, spare).map_err(step("placing its descriptors"))?;
    signals().map_err(step("setting its signals to default"))?;
    if let Some(limit) = setup.open_files {
        limit_open_files(limit).map_err(step("its limit of open files"))?;
    }
    umask(Mode::from_bits_truncate(setup.umask.unwrap_or(UMASK)));
    if let Some(account) = &account {
        if let Some(socket) = &setup.notify_socket {
            std::os::unix::fs::lchown(socket, Some(account.uid), Some(account.gid))
                .map_err(step(&format!("giving it its notify socket {}", socket.display())))?;
        }
        become_account(account).map_err(step(&format!("becoming user {}", account.name)))?;
    }
    if let Some(socket) = &setup.notify_socket {
        let refused = step(&format!("its notify socket {}{}", socket.display(), closed_on_the_way(socket)));
        access(socket, Access::WRITE_OK).map_err(|error| refused(error.into()))?;
    }
    if let Some(directory) = &setup.working_directory {
        std::env::set_current_dir(directory).map_err(|error| {
            let hint = closed_on_the_way(&directory.join("in"));
            (format!("its working directory {}{hint}", directory.display()), error)
        })?;
    }
    Ok(())
}

/// Whom it is to become; `None` where it stays who it is.
fn becoming(setup: &Setup) -> io::Result<Option<Account>> {
    if setup.user.is_none() && setup.group.is_none() {
        return Ok(None);
    }
    let own = geteuid().as_raw();
    let user = setup.user.clone().unwrap_or_else(|| own.to_string());
    let account = account::lookup(&user, setup.group.as_deref())?;
    if !account::is_root() {
        if account.uid == own && account.gid == getegid().as_raw() {
            return Ok(None);
        }
        let text = format!(
            "only root may start a program as another user or group, and Handover runs as user {own}; start it as root, \
             or remove `user` and `group`"
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(Some(account))
}

/// Becomes that user for good.
fn become_account(account: &Account) -> io::Result<()> {
    let groups: Vec<Gid> = account.groups.iter().copied().map(Gid::from_raw).collect();
    let (user, group) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    // The groups first: afterwards it may not.
    nix::unistd::setgroups(&groups)?;
    nix::unistd::setresgid(group, group, group)?;
    nix::unistd::setresuid(user, user, user)?;
    let root = Uid::from_raw(0);
    let is_whole = {
        let (users, groups) = (nix::unistd::getresuid()?, nix::unistd::getresgid()?);
        [users.real, users.effective, users.saved] == [user; 3]
            && [groups.real, groups.effective, groups.saved] == [group; 3]
    };
    if !is_whole || (user != root && nix::unistd::setresuid(root, root, root).is_ok()) {
        return Err(io::Error::other("it could still become root again, so it is not started"));
    }
    Ok(())
}

fn limit_open_files((soft, hard): (u64, u64)) -> io::Result<()> {
    let limit = |n| (n != libc::RLIM_INFINITY).then_some(n);
    match setrlimit(Resource::Nofile, Rlimit { current: limit(soft), maximum: limit(hard) }) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) => {
            let most = crate::limits::open_files_hard();
            let text = format!(
                "{hard} is over the {most} that Handover itself may have; lower `open_files` in `limits`, or raise that \
                 (`LimitNOFILE=` in its unit, `ulimit -Hn`)"
            );
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        }
        Err(error) => Err(error.into()),
    }
}

/// Which directory on the way to a path does not let this user through, in words.
fn closed_on_the_way(path: &Path) -> String {
    let mut above: Vec<&Path> = path.ancestors().skip(1).collect();
    above.reverse();
    let closed = above.into_iter().find(|path| access(*path, Access::EXEC_OK) == Err(Errno::ACCESS));
    closed.map_or_else(String::new, |closed| {
        format!(
            " (user {} may not pass through {}; `chmod o+x` lets it, or choose a place that others may enter)",
            geteuid().as_raw(),
            closed.display()
        )
    })
}

fn streams(setup: &Setup, owner: Option<&Account>) -> Step {
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| (path, error)
    };
    let null = Path::new("/dev/null");
    let input = File::open(null).map_err(named(null))?;
    rustix::stdio::dup2_stdin(&input).map_err(|error| named(null)(error.into()))?;
    let append = |path: &Path| {
        let flags = libc::O_NOFOLLOW;
        let file = OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(flags).open(path)?;
        if let Some(owner) = owner {
            // It may open it once more, as /dev/stdout.
            std::os::unix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))?;
        }
        io::Result::Ok(file)
    };
    if let Some(path) = &setup.stdout {
        let file = append(path).map_err(named(path))?;
        rustix::stdio::dup2_stdout(&file).map_err(|error| named(path)(error.into()))?;
    }
    if let Some(path) = &setup.stderr {
        let file = append(path).map_err(named(path))?;
        rustix::stdio::dup2_stderr(&file).map_err(|error| named(path)(error.into()))?;
    }
    Ok(())
}

/// A close-on-exec copy with a number that is not lower than `least`.
fn duplicate(number: i32, least: i32) -> io::Result<OwnedFd> {
    // SAFETY: only borrowed for the call, which fails if the number is not open.
    Ok(rustix::io::fcntl_dupfd_cloexec(unsafe { BorrowedFd::borrow_raw(number) }, least)?)
}

/// Moves the descriptors to 3, 4, … and closes all others at exec.
fn descriptors(numbers: &[i32], spare: i32) -> io::Result<()> {
    // First out of the way: a number in the list may be another one's place.
    let copies = numbers.iter().map(|number| duplicate(*number, spare)).collect::<io::Result<Vec<_>>>()?;
    for (copy, place) in copies.iter().zip(FIRST..) {
        // SAFETY: what had the number `place` is a copy elsewhere by now, or was to be closed anyway; no owner of it
        // is used after this. The copy is not close-on-exec.
        if unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(copy), place) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    let (first, last) = (libc::c_long::from(spare), libc::c_long::from(u32::MAX));
    let flag = libc::c_long::from(libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: it touches no memory; it marks descriptors close-on-exec and closes none.
    if unsafe { libc::syscall(libc::SYS_close_range, first, last, flag) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn signals() -> io::Result<()> {
    // All zero is the default disposition, with no flags and no mask, in every layout that the kernel has of it.
    let default = [0_u64; 4];
    for number in 1..=SIGNAL_MAX {
        // Not by libc: it keeps two signals to itself, and ignores them in what it spawns.
        // SAFETY: the structure is read within its length and installs no handler; for SIGKILL and SIGSTOP it fails.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, number, &raw const default, 0_usize, SIGNAL_SET_BYTES)
        };
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// Whoever started this process has ended: nobody would know of the program.
fn reader_is_gone(errors: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(errors, PollFlags::OUT)];
    poll(&mut polled, Some(&Timespec::default())).is_ok() && polled[0].revents().contains(PollFlags::ERR)
}

fn execute(setup: &Setup) -> io::Error {
    let mut environment = setup.environment.clone();
    if let Some(names) = &setup.listen_names {
        environment.push(("LISTEN_FDS".to_owned(), setup.descriptors.len().to_string()));
        environment.push(("LISTEN_FDNAMES".to_owned(), names.join(":")));
        environment.push(("LISTEN_PID".to_owned(), std::process::id().to_string()));
    }
    let text = |text: String| CString::new(text).map_err(|_nul| io::Error::from(io::ErrorKind::InvalidInput));
    let made = (|| {
        let program = text(setup.program.clone())?;
        let arguments = std::iter::once(Ok(program.clone()))
            .chain(setup.arguments.iter().map(|argument| text(argument.clone())))
            .collect::<io::Result<Vec<_>>>()?;
        let environment = environment
            .iter()
            .map(|(name, value)| text(format!("{name}={value}")))
            .collect::<io::Result<Vec<_>>>()?;
        Ok((program, arguments, environment))
    })();
    match made {
        Err(error) => error,
        Ok((program, arguments, environment)) => {
            match nix::unistd::execve(&program, &arguments, &environment) {
                Err(error) => error.into(),
            }
        }
    }
}

/// The reason in words, with what to do where that is known.
fn refused(setup: &Setup, error: io::Error) -> String {
    let program = &setup.program;
    let path = Path::new(program);
    let hint = match error.raw_os_error() {
        Some(libc::ENOENT) if path.exists() => {
            " (the file is there; the interpreter in its #! line, or its dynamic loader, is not)".to_owned()
        }
        Some(libc::EACCES) if path.is_dir() => " (it is a directory)".to_owned(),
        Some(libc::EACCES) => {
            let closed = closed_on_the_way(path);
            let or_it = " (is it executable? `chmod +x` makes it so; is its file system mounted noexec?)";
            if closed.is_empty() { or_it.to_owned() } else { closed }
        }
        Some(libc::ENOEXEC) => " (no program for this machine; a script needs a #! line)".to_owned(),
        Some(libc::E2BIG) => " (arguments and environment are too long)".to_owned(),
        _ => String::new(),
    };
    format!("cannot start {program}: {error}{hint}")
}
