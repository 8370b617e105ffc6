//! Job Objects are not there yet; handles have no limit worth naming.

/// What a process may have at most on that system.
const HANDLES_MAX: u64 = 1 << 24;

pub(super) fn memory_grantable_to(_: u32) -> Result<(), String> {
    Err("a limit of memory is not supported on Windows yet; remove `memory` from `limits`".to_owned())
}

pub(super) fn open_files_hard() -> u64 {
    HANDLES_MAX
}
