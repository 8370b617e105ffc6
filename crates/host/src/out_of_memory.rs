//! Who was killed because memory ran out, as far as the kernel says so.
//!
//! ```text
//! its cgroup has the memory controller     memory.events
//! else                                     the kernel's log, where we may read it and it speaks of our process ids
//! ```
//! Best effort: what was told before the log was opened, or is told in a flood of other lines, is missed.

use std::path::Path;

#[cfg(unix)]
#[path = "out_of_memory/unix.rs"]
mod system;
#[cfg(windows)]
#[path = "out_of_memory/windows.rs"]
mod system;

/// The kernel's word on that, from when this was made.
#[derive(Debug)]
pub struct Killings(system::Killings);

impl Killings {
    /// Begins to listen.
    pub fn watch() -> Self {
        Self(system::Killings::watch())
    }

    /// Whether a process that has just ended by SIGKILL was killed because memory ran out. It never waits.
    pub fn include(&mut self, cgroup: Option<&Path>, pid: u32) -> bool {
        self.0.include(cgroup, pid)
    }
}

/// The process that a line of the kernel's log says was killed.
#[cfg_attr(not(any(unix, test)), expect(dead_code, reason = "only its own test reads such a log there"))]
fn killed_in(line: &str) -> Option<u32> {
    // `Out of memory: Killed process 4711 (name) …`, and with `Memory cgroup` before it for a group's own limit.
    let lower = line.to_ascii_lowercase();
    let at = lower.find("out of memory: kill")?;
    let rest = lower[at..].split_once(" process ")?.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_name_who_was_killed() {
        for (line, pid) in [
            ("6,1,2,-;Out of memory: Killed process 4711 (web) total-vm:1kB, anon-rss:2kB", Some(4711)),
            ("3,1,2,-;Memory cgroup out of memory: Killed process 12 (a process 9) total-vm", Some(12)),
            ("3,1,2,-;Out of memory: Kill process 13 (old) score 9 or sacrifice child", Some(13)),
            ("3,1,2,-;oom_reaper: reaped process 14 (web), now anon-rss:0kB", None),
            ("6,1,2,-;web invoked oom-killer: gfp_mask=0x1", None),
            ("", None),
        ] {
            assert_eq!(killed_in(line), pid, "{line}");
        }
    }

    #[test]
    fn who_was_not_killed_for_memory_is_not_said_to_be() {
        let mut killings = Killings::watch();
        assert!(!killings.include(None, crate::process::current_pid()));
        assert!(!killings.include(Some(Path::new("/nowhere")), 1));
    }
}
