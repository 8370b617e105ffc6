//! memory.events and `/dev/kmsg`.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::killed_in;
use crate::cgroup;

/// Most records read at one look; what is beyond is skipped.
const RECORDS_MAX: u32 = 4_000;
/// Largest record.
const RECORD_BYTES_MAX: usize = 8 << 10;
/// So many of the last killed are remembered.
const REMEMBERED_MAX: usize = 256;
/// Inode of the machine's first space of process ids: the kernel's log speaks of no other.
const FIRST_PID_SPACE: u64 = 0xEFFF_FFFC;

#[derive(Debug)]
pub(super) struct Killings {
    log: Option<File>,
    killed: VecDeque<u32>,
}

impl Killings {
    pub(super) fn watch() -> Self {
        let is_ours =
            std::fs::metadata("/proc/self/ns/pid").is_ok_and(|space| space.ino() == FIRST_PID_SPACE);
        let flags = i32::from_ne_bytes((OFlags::NONBLOCK | OFlags::NOCTTY).bits().to_ne_bytes());
        let open = || {
            let mut log = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg").ok()?;
            log.seek(SeekFrom::End(0)).ok()?;
            Some(log)
        };
        Self { log: if is_ours { open() } else { None }, killed: VecDeque::new() }
    }

    pub(super) fn include(&mut self, cgroup: Option<&Path>, pid: u32) -> bool {
        if let Some(kills) = cgroup.and_then(|group| cgroup::field(group, "memory.events", "oom_kill")) {
            return kills > 0;
        }
        self.read();
        match self.killed.iter().position(|killed| *killed == pid) {
            Some(at) => {
                // The number may come back.
                self.killed.remove(at);
                true
            }
            None => false,
        }
    }

    fn read(&mut self) {
        let Some(log) = &mut self.log else { return };
        let mut record = [0; RECORD_BYTES_MAX];
        for _ in 0..RECORDS_MAX {
            match log.read(&mut record) {
                Ok(0) => return,
                Ok(read) => {
                    if let Some(pid) = killed_in(&String::from_utf8_lossy(&record[..read])) {
                        if self.killed.len() == REMEMBERED_MAX {
                            self.killed.pop_front();
                        }
                        self.killed.push_back(pid);
                    }
                }
                // Records were overwritten before we came: what is left follows.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => return,
            }
        }
        let _ = log.seek(SeekFrom::End(0));
    }
}
