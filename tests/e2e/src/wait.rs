//! Waiting for a level with a deadline: the only way tests synchronise with other processes.

use std::time::{Duration, Instant};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Long enough for anything on a busy machine; only a broken promise takes this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks until there is something to see.
///
/// # Panics
/// When the deadline passes; the message says what was waited for.
#[track_caller]
pub fn until<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    match try_until(deadline, &mut look) {
        Some(seen) => seen,
        None => panic!("waited {:.1} s in vain for: {what}", deadline.as_secs_f64()),
    }
}

/// Looks until there is something to see, or the deadline passes.
pub fn try_until<T>(deadline: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if began.elapsed() > deadline {
            return None;
        }
        std::thread::sleep(LOOK_INTERVAL);
    }
}
