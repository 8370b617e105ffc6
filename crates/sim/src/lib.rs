//! A seeded world around the agent: time, messages, processes, proxies, and their deaths.
//!
//! ```text
//!  campaign (random, one seed)  ──┐                 ┌── fake holder and processes
//!  scenario (a text, golden out) ─┴─► World ── agent ┤── fake proxies and their requests
//!                                       │            └── record, routes file, releases
//!                                     checks: after every step
//! ```
//! The agent in it is the real one; only its five traits are fakes. It can be killed at any write of the record,
//! before or after the write, and a new one goes on from what was durable. Same seed, same history.
//!
//! It deliberately uses no clock, no thread and no file; only the tests read and write scenario files.

pub mod behaviour;
pub mod campaign;
mod checks;
mod hands;
pub mod manifest;
pub mod scenario;
pub mod world;
