//! inotify and an eventfd, under one poll.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use super::Changes;
use crate::poll::{self, Interest};

/// Bytes of events taken in one read.
const EVENT_BYTES: usize = 16 << 10;
/// Reads in one wait: a writer that never pauses cannot keep it for ever.
const READS_MAX: u32 = 64;

#[derive(Debug)]
pub(super) struct Watch {
    events: Arc<OwnedFd>,
    wakes: Arc<OwnedFd>,
}

#[derive(Debug, Clone)]
pub(super) struct Waker(Arc<OwnedFd>);

impl Watch {
    pub(super) fn new(directory: &Path) -> io::Result<(Self, Waker)> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
        inotify::add_watch(&events, directory, flags)?;
        let wakes = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        Ok((Self { events: Arc::new(events), wakes: Arc::clone(&wakes) }, Waker(wakes)))
    }

    pub(super) fn wait(&mut self, timeout: Duration) -> io::Result<Changes> {
        let interest =
            |descriptor: &Arc<OwnedFd>| Interest { descriptor: Arc::clone(descriptor), write: false };
        let ready = poll::wait(&[interest(&self.events), interest(&self.wakes)], timeout)?;
        if ready.get(1).is_some_and(|wakes| wakes.read) {
            let mut count = [0; 8];
            match rustix::io::read(&self.wakes, &mut count) {
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut changes = Changes::default();
        if ready.first().is_some_and(|events| events.read) {
            self.read(&mut changes)?;
        }
        Ok(changes)
    }

    fn read(&self, changes: &mut Changes) -> io::Result<()> {
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = Reader::new(&self.events, &mut buffer);
        let mut reads = 0;
        loop {
            if reader.is_buffer_empty() {
                reads += 1;
                if reads > READS_MAX {
                    return Ok(());
                }
            }
            match reader.next() {
                Ok(event) => {
                    changes.lost |= event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    if let Some(name) = event.file_name().and_then(|name| name.to_str().ok())
                        && !changes.names.contains(name)
                    {
                        changes.names.insert(name.to_owned());
                    }
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Waker {
    pub(super) fn wake(&self) {
        // It fails only when it is full, and then whoever waits wakes anyway.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }
}
