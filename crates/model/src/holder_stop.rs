//! How everything is stopped: by the agent, and without it where that is dead or hangs.
//!
//! ```text
//!  running ── asked ──► asked ── agent: stopped ───────────────► ending proxies ──► ending agent ──► finished
//!     │                   │ no agent, or silent for 5 s            ▲                                    ▲
//!     │                   └──► draining ──► stopping instances ────┘                                    │
//!     └── agent: stopped ──► ending proxies          asked for the third time, anywhere: killing ───────┘
//! ```
//! Pure: it is told what there is, and gives what is to be done. Who may ask is not its concern.

use std::collections::VecDeque;
use std::time::Duration;

use crate::silence::Silence;
use crate::time::Instant;

/// An agent that is asked to stop and silent for this long hangs.
const AGENT_SILENCE_MAX: Duration = Duration::from_secs(5);
/// For requests in flight where no agent says how long.
pub const DRAIN_ALONE_MAX: Duration = Duration::from_secs(30);
/// For a role to end after it was told to.
const ROLE_END_MAX: Duration = Duration::from_secs(2);
/// For what was killed to be gone.
const KILLED_GONE_MAX: Duration = Duration::from_secs(5);

/// How hard to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Drain, then stop all.
    Drain,
    /// Stop all without waiting for requests.
    SkipDrain,
    /// Kill every tree.
    Kill,
}

/// What is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Facts {
    /// An agent runs and has a link.
    pub agent_linked: bool,
    /// Agents that run.
    pub agents: usize,
    /// Proxies that run.
    pub proxies: usize,
    /// Instances that run.
    pub instances: usize,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask the agent.
    TellAgent(Level),
    /// From here on it would only be in the way.
    KillAgent,
    /// Ask the proxies to finish.
    DrainProxies(Duration),
    /// Send each instance its signal, and kill its tree when its grace is over.
    StopInstances,
    /// Kill every tree.
    KillInstances,
    /// Kill the proxies.
    KillProxies,
    /// Let the agent go.
    EndAgent,
    /// Nothing is left to do.
    Finish {
        /// It was a kill.
        killed: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Running,
    Asked(Silence),
    Draining(Instant),
    Stopping,
    EndingProxies(Instant),
    EndingAgent(Instant),
    Killing(Instant),
    Finished,
}

/// The stop: nothing has begun to stop at first.
#[derive(Debug)]
pub struct Stop {
    state: State,
    level: Option<Level>,
    actions: VecDeque<Action>,
}

impl Default for Stop {
    fn default() -> Self {
        Self { state: State::Running, level: None, actions: VecDeque::new() }
    }
}

impl Stop {
    /// Whether anything has begun to stop.
    pub fn has_begun(&self) -> bool {
        self.state != State::Running
    }

    /// Whether the agent may still change what runs.
    pub fn obeys_agent(&self) -> bool {
        matches!(self.state, State::Running | State::Asked(_))
    }

    /// Somebody asked, the next time harder: drain, skip the drain, kill. Says which it is now.
    pub fn handle_asked(&mut self, now: Instant) -> Level {
        let level = match self.level {
            None => Level::Drain,
            Some(Level::Drain) => Level::SkipDrain,
            Some(Level::SkipDrain | Level::Kill) => Level::Kill,
        };
        self.level = Some(level);
        match (&mut self.state, level) {
            (State::Finished, _) => {}
            (_, Level::Kill) => {
                self.actions.extend([Action::KillAgent, Action::KillInstances, Action::KillProxies]);
                self.state = State::Killing(now + KILLED_GONE_MAX);
            }
            (State::Running, _) => {
                self.state = State::Asked(Silence::new(AGENT_SILENCE_MAX, now));
                self.actions.push_back(Action::TellAgent(level));
            }
            (State::Asked(_), _) => self.actions.push_back(Action::TellAgent(level)),
            (State::Draining(until), _) => *until = now,
            (State::Stopping | State::EndingProxies(_) | State::EndingAgent(_) | State::Killing(_), _) => {}
        }
        level
    }

    /// The agent said something, or the holder did not run itself for a while.
    pub fn handle_heard(&mut self, now: Instant) {
        if let State::Asked(silence) = &mut self.state {
            silence.handle_heard(now);
        }
    }

    /// The agent said that everything is stopped.
    pub fn handle_stopped(&mut self, now: Instant) {
        if self.obeys_agent() {
            self.end_proxies(now);
        }
    }

    fn end_proxies(&mut self, now: Instant) {
        // What the agent left, if it did.
        self.actions.extend([Action::KillInstances, Action::DrainProxies(Duration::ZERO)]);
        self.state = State::EndingProxies(now + ROLE_END_MAX);
    }

    /// Time has passed, or something has ended. Call it until it gives nothing.
    pub fn poll_action(&mut self, facts: Facts, now: Instant) -> Option<Action> {
        if self.actions.is_empty() {
            self.step(facts, now);
        }
        self.actions.pop_front()
    }

    fn step(&mut self, facts: Facts, now: Instant) {
        match &self.state {
            State::Running | State::Finished => {}
            State::Asked(silence) => {
                if !facts.agent_linked || silence.is_too_long(now) {
                    let drain =
                        if self.level == Some(Level::Drain) { DRAIN_ALONE_MAX } else { Duration::ZERO };
                    self.actions.extend([Action::KillAgent, Action::DrainProxies(drain)]);
                    self.state = State::Draining(now + drain);
                }
            }
            State::Draining(until) => {
                if facts.proxies == 0 || now >= *until {
                    self.actions.extend([Action::KillProxies, Action::StopInstances]);
                    self.state = State::Stopping;
                }
            }
            State::Stopping => {
                if facts.instances == 0 {
                    self.end_proxies(now);
                }
            }
            State::EndingProxies(until) => {
                if facts.proxies == 0 && facts.instances == 0 {
                    self.actions.push_back(Action::EndAgent);
                    self.state = State::EndingAgent(now + ROLE_END_MAX);
                } else if now >= *until {
                    self.actions.extend([Action::KillProxies, Action::KillInstances]);
                    self.state = State::EndingProxies(now + ROLE_END_MAX);
                }
            }
            State::EndingAgent(until) => {
                if facts.agents == 0 {
                    self.finish(false);
                } else if now >= *until {
                    self.actions.push_back(Action::KillAgent);
                    self.state = State::EndingAgent(now + ROLE_END_MAX);
                }
            }
            State::Killing(until) => {
                if facts.agents + facts.proxies + facts.instances == 0 || now >= *until {
                    self.finish(true);
                }
            }
        }
    }

    fn finish(&mut self, killed: bool) {
        self.actions.push_back(Action::Finish { killed });
        self.state = State::Finished;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_start(Duration::from_millis(ms))
    }

    fn all(stop: &mut Stop, facts: Facts, ms: u64) -> Vec<Action> {
        std::iter::from_fn(|| stop.poll_action(facts, at(ms))).collect()
    }

    const UP: Facts = Facts { agent_linked: true, agents: 1, proxies: 1, instances: 2 };

    #[test]
    fn the_agent_stops_everything_if_it_can() {
        let mut stop = Stop::default();
        assert_eq!(all(&mut stop, UP, 0), []);
        assert_eq!(stop.handle_asked(at(0)), Level::Drain);
        assert_eq!(all(&mut stop, UP, 0), [Action::TellAgent(Level::Drain)]);
        for second in 1..60 {
            stop.handle_heard(at(second * 1000));
            assert_eq!(all(&mut stop, UP, second * 1000), []);
        }
        stop.handle_stopped(at(60_000));
        let left = Facts { instances: 0, ..UP };
        assert_eq!(
            all(&mut stop, left, 60_000),
            [Action::KillInstances, Action::DrainProxies(Duration::ZERO)]
        );
        let left = Facts { proxies: 0, ..left };
        assert_eq!(all(&mut stop, left, 60_100), [Action::EndAgent]);
        assert_eq!(all(&mut stop, Facts::default(), 60_200), [Action::Finish { killed: false }]);
        assert_eq!(all(&mut stop, Facts::default(), 60_200), []);
    }

    #[test]
    fn without_an_answer_for_five_seconds_the_holder_stops_alone() {
        let mut stop = Stop::default();
        stop.handle_asked(at(0));
        assert_eq!(all(&mut stop, UP, 4_999), [Action::TellAgent(Level::Drain)]);
        assert_eq!(all(&mut stop, UP, 5_000), [Action::KillAgent, Action::DrainProxies(DRAIN_ALONE_MAX)]);
        assert!(!stop.obeys_agent());
        let left = Facts { agent_linked: false, agents: 0, ..UP };
        assert_eq!(all(&mut stop, left, 20_000), []);
        let left = Facts { proxies: 0, ..left };
        assert_eq!(all(&mut stop, left, 21_000), [Action::KillProxies, Action::StopInstances]);
        assert_eq!(all(&mut stop, left, 50_000), []);
        assert_eq!(
            all(&mut stop, Facts::default(), 51_000),
            [
                Action::KillInstances,
                Action::DrainProxies(Duration::ZERO),
                Action::EndAgent,
                Action::Finish { killed: false }
            ]
        );
    }

    #[test]
    fn a_dead_agent_is_not_waited_for_and_a_second_ask_skips_the_drain() {
        let mut stop = Stop::default();
        let facts = Facts { agent_linked: false, agents: 0, ..UP };
        stop.handle_asked(at(0));
        assert_eq!(
            all(&mut stop, facts, 0),
            [Action::TellAgent(Level::Drain), Action::KillAgent, Action::DrainProxies(DRAIN_ALONE_MAX)]
        );
        assert_eq!(stop.handle_asked(at(100)), Level::SkipDrain);
        assert_eq!(all(&mut stop, facts, 100), [Action::KillProxies, Action::StopInstances]);
    }

    #[test]
    fn the_third_ask_kills_all_wherever_it_comes() {
        let mut stop = Stop::default();
        stop.handle_asked(at(0));
        stop.handle_asked(at(1));
        assert_eq!(stop.handle_asked(at(2)), Level::Kill);
        let done = all(&mut stop, UP, 2);
        assert_eq!(done[2..], [Action::KillAgent, Action::KillInstances, Action::KillProxies]);
        assert_eq!(all(&mut stop, UP, 3), []);
        assert_eq!(all(&mut stop, Facts::default(), 4), [Action::Finish { killed: true }]);
    }

    #[test]
    fn roles_that_do_not_end_are_killed() {
        let mut stop = Stop::default();
        stop.handle_stopped(at(0));
        let left = Facts { instances: 0, ..UP };
        all(&mut stop, left, 0);
        assert_eq!(all(&mut stop, left, 2_000), [Action::KillProxies, Action::KillInstances]);
        let left = Facts { proxies: 0, ..left };
        assert_eq!(all(&mut stop, left, 2_010), [Action::EndAgent]);
        assert_eq!(all(&mut stop, left, 4_010), [Action::KillAgent]);
    }
}
