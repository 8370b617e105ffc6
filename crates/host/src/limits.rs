//! What this machine lets us limit and grant.

#[cfg(unix)]
#[path = "limits/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "limits/windows.rs"]
mod system;

/// Whether a limit of memory can be kept for services of a Handover that is started as this process was.
///
/// # Errors
/// Why not, and what to do, for people.
pub fn memory_grantable() -> Result<(), String> {
    memory_grantable_to(crate::process::current_pid())
}

/// As `memory_grantable`, for the Handover whose holder is that process: what counts is where it runs, not where the
/// command that asks does.
///
/// # Errors
/// Why not, and what to do, for people.
pub fn memory_grantable_to(holder: u32) -> Result<(), String> {
    system::memory_grantable_to(holder)
}

/// The most open files that a process may be granted by this one.
pub fn open_files_hard() -> u64 {
    system::open_files_hard()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_an_answer_and_a_refusal_says_what_to_do() {
        assert!(open_files_hard() > 0);
        if let Err(why) = memory_grantable() {
            assert!(why.contains("limits"), "{why}");
        }
        assert!(memory_grantable_to(0).is_err());
    }
}
