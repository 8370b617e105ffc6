//! Whether a process lives; the rest is not there yet.
#![expect(unsafe_code, reason = "calls of the Windows API")]

use std::io;
use std::path::{Path, PathBuf};

use windows_sys::Win32::Foundation::{CloseHandle, STILL_ACTIVE};
use windows_sys::Win32::System::Threading::{
    GetExitCodeProcess, OpenProcess, PROCESS_QUERY_LIMITED_INFORMATION,
};

use super::{Ended, Start};
use crate::{Descriptor, unsupported};

pub(super) fn is_alive(pid: u32) -> bool {
    // SAFETY: no memory is passed; the handle is closed below.
    let process = unsafe { OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, 0, pid) };
    if process.is_null() {
        return false;
    }
    let mut code = 0;
    // SAFETY: the handle is open, and `code` is valid for the write.
    let known = unsafe { GetExitCodeProcess(process, &raw mut code) } != 0;
    // SAFETY: the handle is ours and is not used after this.
    unsafe { CloseHandle(process) };
    known && i32::try_from(code) == Ok(STILL_ACTIVE)
}

pub(super) fn start_ticks(_: u32) -> Option<u64> {
    None
}

pub(super) fn executable(_: u32) -> io::Result<PathBuf> {
    unsupported()
}

pub(super) fn replace_self(_: &Path, _: &[String], _: &[Descriptor]) -> io::Error {
    io::ErrorKind::Unsupported.into()
}

pub(super) fn spawn(_: &Start<'_>) -> io::Result<u32> {
    unsupported()
}

pub(super) fn handle(_: u32) -> io::Result<Descriptor> {
    unsupported()
}

pub(super) fn signal(_: &Descriptor, _: i32) -> io::Result<()> {
    unsupported()
}

pub(super) fn signal_pid(_: u32, _: i32) -> io::Result<()> {
    unsupported()
}

pub(super) fn reap() -> io::Result<Option<(u32, Ended)>> {
    unsupported()
}

pub(super) fn end_of_other(_: &Descriptor, _: u32, _: u64) -> Ended {
    Ended::Unknown
}

pub(super) fn become_subreaper() -> io::Result<()> {
    unsupported()
}

pub(super) fn raise_open_files() -> io::Result<(u64, u64)> {
    unsupported()
}

pub(super) fn has_terminal() -> bool {
    false
}

pub(super) fn pipe() -> io::Result<(Descriptor, Descriptor)> {
    unsupported()
}

pub(super) fn read_pipe(_: &Descriptor, _: &mut [u8]) -> io::Result<usize> {
    unsupported()
}

pub(super) fn take_inherited(_: i32) -> io::Result<Descriptor> {
    unsupported()
}
