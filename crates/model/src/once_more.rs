//! A process that runs one at a time, however often it is asked for.
//!
//! ```text
//!  idle ── asked ──► running ── asked ──► running, and once more ── ended ──► idle, and due
//!   ▲                   │ ended
//!   └───────────────────┘
//! ```
//! Whoever asks while it runs may have come after it looked: so it runs once more, but once for all of them.

/// The runs of one thing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OnceMore {
    /// None runs.
    #[default]
    Idle,
    /// One runs.
    Running {
        /// As this process.
        pid: u32,
        /// Somebody has asked since.
        again: bool,
    },
}

impl OnceMore {
    /// Somebody asked. Says whether to start it now.
    pub fn handle_asked(&mut self) -> bool {
        match self {
            Self::Idle => true,
            Self::Running { again, .. } => {
                *again = true;
                false
            }
        }
    }

    /// It was started.
    pub fn handle_started(&mut self, pid: u32) {
        *self = Self::Running { pid, again: false };
    }

    /// The process of the run, while there is one.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Idle => None,
            Self::Running { pid, .. } => Some(*pid),
        }
    }

    /// It ended. Says whether to start it again.
    pub fn handle_ended(&mut self) -> bool {
        matches!(std::mem::take(self), Self::Running { again: true, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_while_it_runs_has_it_run_once_more_and_only_once() {
        let mut runs = OnceMore::default();
        assert!(runs.handle_asked() && runs.pid().is_none());
        runs.handle_started(7);
        assert!(!runs.handle_asked() && !runs.handle_asked());
        assert_eq!(runs.pid(), Some(7));
        assert!(runs.handle_ended());
        assert!(runs.handle_asked());
        runs.handle_started(8);
        assert!(!runs.handle_ended());
        assert_eq!(runs, OnceMore::Idle);
    }
}
