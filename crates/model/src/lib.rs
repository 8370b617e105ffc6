//! Every decision Handover takes, as pure state machines and checked values.
//!
//! Nothing here does IO, reads a clock, draws a random number, spawns a task or iterates a hash
//! map: time and randomness are arguments, so the same inputs give the same outputs on every
//! system, and the simulator can play any history again.
//!
//! State machines share one grammar: commands `try_x(&mut self, …, now) -> Result<(), XDenied>`,
//! events `handle_x(&mut self, …, now)`, actions out `poll_action() -> Option<Action>`,
//! `poll_timeout() -> Option<Instant>`, and `status()` with what it waits on.

#![warn(missing_docs, clippy::wildcard_enum_match_arm)]

pub mod balance;
pub mod chunked;
pub mod endpoint_groups;
pub mod gathering;
pub mod holder_stop;
pub mod id;
pub mod instance;
pub mod manifest;
pub mod nearest;
pub mod networks;
pub mod once_more;
pub mod ports;
pub mod random;
pub mod restart;
pub mod role_environment;
pub mod role_restart;
pub mod rollout;
pub mod routing;
pub mod series;
pub mod silence;
pub mod sketch;
pub mod streak;
pub mod time;
