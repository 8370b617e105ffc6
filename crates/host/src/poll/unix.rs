//! poll.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Interest, Ready};

pub(super) fn wait(interests: &[Interest], timeout: Duration) -> io::Result<Vec<Ready>> {
    let mut polled: Vec<PollFd<'_>> = interests
        .iter()
        .map(|interest| {
            let write = if interest.write { PollFlags::OUT } else { PollFlags::empty() };
            PollFd::new(&interest.descriptor, PollFlags::IN | write)
        })
        .collect();
    let timeout = Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) => {}
        Err(rustix::io::Errno::INTR) => return Ok(vec![Ready::default(); interests.len()]),
        Err(error) => return Err(error.into()),
    }
    let ended = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    Ok(polled
        .iter()
        .map(|polled| {
            let events = polled.revents();
            Ready {
                read: events.intersects(PollFlags::IN | ended),
                write: events.intersects(PollFlags::OUT | ended),
            }
        })
        .collect())
}
