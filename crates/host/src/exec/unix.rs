//! The steps on Linux.
#![expect(unsafe_code, reason = "descriptors by number, dispositions of signals, close_range")]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit, umask};

use super::Setup;

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
    match rustix::process::setsid() {
        // It leads a group already, and with that a session or a job of its own.
        Ok(_) | Err(Errno::PERM) => {}
        Err(error) => return Err(step("a session of its own")(error.into())),
    }
    if let Some(procs) = &setup.cgroup_procs {
        std::fs::write(procs, "0").map_err(step(&format!("entering its cgroup by {}", procs.display())))?;
    }
    streams(setup)?;
    descriptors(&setup.descriptors, spare).map_err(step("placing its descriptors"))?;
    signals().map_err(step("setting its signals to default"))?;
    if let Some((soft, hard)) = setup.open_files {
        let limit = |n| (n != libc::RLIM_INFINITY).then_some(n);
        setrlimit(Resource::Nofile, Rlimit { current: limit(soft), maximum: limit(hard) })
            .map_err(|error| step("its limit of open descriptors")(error.into()))?;
    }
    umask(Mode::from_raw_mode(0o022));
    if let Some(directory) = &setup.working_directory {
        std::env::set_current_dir(directory)
            .map_err(step(&format!("its working directory {}", directory.display())))?;
    }
    Ok(())
}

fn streams(setup: &Setup) -> Step {
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| (path, error)
    };
    let null = Path::new("/dev/null");
    let input = File::open(null).map_err(named(null))?;
    rustix::stdio::dup2_stdin(&input).map_err(|error| named(null)(error.into()))?;
    let append = |path: &Path| OpenOptions::new().append(true).create(true).mode(0o600).open(path);
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
    let hint = match error.raw_os_error() {
        Some(libc::ENOENT) if Path::new(program).exists() => {
            " (the file is there; the interpreter in its #! line, or its dynamic loader, is not)"
        }
        Some(libc::EACCES) if Path::new(program).is_dir() => " (it is a directory)",
        Some(libc::EACCES) => {
            " (is it executable? `chmod +x` makes it so; is its file system mounted noexec?)"
        }
        Some(libc::ENOEXEC) => " (no program for this machine; a script needs a #! line)",
        Some(libc::E2BIG) => " (arguments and environment are too long)",
        _ => "",
    };
    format!("cannot start {program}: {error}{hint}")
}
