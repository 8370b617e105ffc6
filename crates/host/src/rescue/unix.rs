//! Peer credentials, and a double fork.
#![expect(unsafe_code, reason = "the second fork and the kept descriptor are set up between fork and exec")]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::channel::Channel;
use crate::file::Lock;
use crate::listener::LocalListener;
use crate::paths::Layout;

#[derive(Debug)]
pub(super) struct Socket(LocalListener);

impl Socket {
    pub(super) fn new(listener: LocalListener) -> Self {
        Self(listener)
    }

    pub(super) async fn accept(&self) -> io::Result<Channel> {
        loop {
            let channel = self.0.accept().await?.into_channel()?;
            let uid = channel.peer()?.uid;
            if uid == 0 || uid == rustix::process::geteuid().as_raw() {
                return Ok(channel);
            }
        }
    }
}

pub(super) fn spawn_rescue_holder(binary: &Path, layout: &Layout, lock: &Lock) -> io::Result<()> {
    let descriptor = lock.descriptor();
    let number = descriptor.as_raw_fd();
    let mut command = Command::new(binary);
    command
        .args(["internal", "holder", "--state-dir"])
        .arg(&layout.state_dir)
        .arg("--run-dir")
        .arg(&layout.run_dir)
        .args(["--rescue", "--lock-fd", &number.to_string()])
        // It is no longer the role that it is started by.
        .env_remove(crate::process_tree::INSTANCE_VARIABLE)
        .stdin(Stdio::null());
    // SAFETY: between fork and exec only fork, _exit, setsid and fcntl are called, all async-signal-safe, and
    // nothing allocates.
    unsafe {
        command.pre_exec(move || {
            match libc::fork() {
                -1 => return Err(io::Error::last_os_error()),
                0 => {}
                _ => libc::_exit(0),
            }
            if libc::setsid() == -1 || libc::fcntl(number, libc::F_SETFD, 0) == -1 {
                return Err(io::Error::last_os_error());
            }
            Ok(())
        });
    }
    // What is waited for is the process in between, which has ended by now or does so at once.
    command.spawn()?.wait()?;
    Ok(())
}
