//! When probes in a row become a verdict: `rise` successes make healthy, `fall` failures unhealthy.
//!
//! It holds no time and sends nothing: the prober decides when to probe and what to tell.

/// The verdict on one endpoint and the run of probes that speaks against it.
#[derive(Debug, Clone)]
pub struct Streak {
    rise: u32,
    fall: u32,
    healthy: Option<bool>,
    run: u32,
    run_is: bool,
}

impl Streak {
    /// A streak that begins with a known verdict, or with none.
    pub fn new(rise: u32, fall: u32, healthy: Option<bool>) -> Self {
        Self { rise: rise.max(1), fall: fall.max(1), healthy, run: 0, run_is: false }
    }

    /// New limits; the verdict and the run stay.
    pub fn set_limits(&mut self, rise: u32, fall: u32) {
        (self.rise, self.fall) = (rise.max(1), fall.max(1));
    }

    /// One probe's outcome; the verdict if it is a new one.
    pub fn handle_probe(&mut self, success: bool) -> Option<bool> {
        self.run = if self.run_is == success { self.run.saturating_add(1) } else { 1 };
        self.run_is = success;
        let needed = if success { self.rise } else { self.fall };
        if self.run < needed || self.healthy == Some(success) {
            return None;
        }
        self.healthy = Some(success);
        self.healthy
    }

    /// The verdict so far.
    pub fn healthy(&self) -> Option<bool> {
        self.healthy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_needs_its_run_without_a_gap_and_is_told_once() {
        let mut streak = Streak::new(2, 3, None);
        assert_eq!(streak.handle_probe(true), None);
        assert_eq!(streak.handle_probe(false), None);
        assert_eq!(streak.handle_probe(true), None);
        assert_eq!(streak.handle_probe(true), Some(true));
        assert_eq!(streak.handle_probe(true), None);
        for _ in 0..2 {
            assert_eq!(streak.handle_probe(false), None);
            assert_eq!(streak.handle_probe(false), None);
            assert_eq!(streak.handle_probe(true), None);
        }
        assert_eq!([false; 3].map(|probe| streak.handle_probe(probe)), [None, None, Some(false)]);
        assert_eq!(streak.healthy(), Some(false));
    }

    #[test]
    fn a_known_verdict_is_not_told_again() {
        let mut streak = Streak::new(1, 1, Some(true));
        assert_eq!(streak.handle_probe(true), None);
        assert_eq!(streak.handle_probe(false), Some(false));
    }
}
