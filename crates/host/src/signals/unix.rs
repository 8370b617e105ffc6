//! signalfd.
#![expect(unsafe_code, reason = "dispositions of signals are set through an unsafe call")]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use tokio::io::unix::AsyncFd;

use super::Caught;
use crate::Descriptor;

#[derive(Debug)]
pub(super) struct Source {
    signals: SignalFd,
    shared: Descriptor,
}

fn blocked(signals: &[Signal]) -> io::Result<SignalFd> {
    let set: SigSet = signals.iter().copied().collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

impl Source {
    pub(super) fn new() -> io::Result<Self> {
        let signals =
            blocked(&[Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2])?;
        let shared: OwnedFd = signals.as_fd().try_clone_to_owned()?;
        Ok(Self { signals, shared: Arc::new(shared) })
    }

    pub(super) fn descriptor(&self) -> Descriptor {
        self.shared.clone()
    }

    pub(super) fn take(&mut self) -> io::Result<Option<Caught>> {
        while let Some(info) = self.signals.read_signal()? {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD) => return Ok(Some(Caught::Child)),
                Ok(Signal::SIGTERM) => return Ok(Some(Caught::Terminate)),
                Ok(Signal::SIGINT) => return Ok(Some(Caught::Interrupt)),
                Ok(Signal::SIGHUP) => return Ok(Some(Caught::HangUp)),
                Ok(Signal::SIGUSR2) => return Ok(Some(Caught::User2)),
                _ => {}
            }
        }
        Ok(None)
    }
}

fn ignore(signals: &[Signal]) {
    for signal in signals {
        // SAFETY: ignoring a signal installs no handler, so nothing runs asynchronously.
        let done = unsafe { nix::sys::signal::signal(*signal, SigHandler::SigIgn) };
        done.expect("invariant: these signals can be ignored");
    }
}

pub(super) fn ignore_job_control() {
    ignore(&[Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU]);
}

pub(super) fn ignore_interactive() {
    ignore(&[Signal::SIGINT, Signal::SIGHUP]);
}

pub(super) async fn terminate() -> io::Result<()> {
    let signals = blocked(&[Signal::SIGTERM, Signal::SIGINT])?;
    // SAFETY: the registration owns the descriptor, which nothing else closes.
    let signals = unsafe { AsyncFd::register(signals) }?;
    loop {
        let mut ready = signals.readable().await?;
        match ready.get_inner().read_signal()? {
            Some(_) => return Ok(()),
            None => ready.clear_ready(),
        }
    }
}
