//! The clock of one thread: read once per wake, looked at as often as needed.

use std::cell::Cell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use model::time::{Instant, WallTime};

/// Monotonic time as of the last refresh.
#[derive(Debug)]
pub(crate) struct Clock {
    start: std::time::Instant,
    now: Cell<Instant>,
    /// Wall time at the clock's start, corrected whenever the wall clock is read.
    wall_start_ms: Cell<u64>,
}

impl Clock {
    /// A clock that shows zero at `start`.
    pub(crate) fn new(start: std::time::Instant) -> Self {
        let clock = Self { start, now: Cell::new(Instant::START), wall_start_ms: Cell::new(0) };
        clock.refresh_wall();
        clock
    }

    /// Reads the time.
    pub(crate) fn refresh(&self) -> Instant {
        let now = Instant::from_start(self.start.elapsed());
        self.now.set(now);
        now
    }

    /// The time as last read.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    /// Reads the wall clock, which people and other programs may set.
    pub(crate) fn refresh_wall(&self) {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let since_start = self.refresh().since_start();
        self.wall_start_ms.set(millis(wall.saturating_sub(since_start)));
    }

    /// Wall time at `instant`.
    pub(crate) fn wall(&self, instant: Instant) -> WallTime {
        WallTime(self.wall_start_ms.get() + millis(instant.since_start()))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
