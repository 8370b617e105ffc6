//! End to end: real processes, real signals, real load, one sandbox per test.
//!
//! Each module is one promise; each test's name says what a user may rely on.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails as a test does")]
#![expect(clippy::print_stdout, reason = "and says what it measured")]

mod abuse;
mod admin;
mod bad_habits;
mod bad_services;
mod changes;
mod clients;
mod command_line;
mod crashes;
mod data_plane;
mod demo;
mod deploys;
mod examples;
mod observed;
mod starting;
mod stopping;
mod strictness;
mod supervision;
mod supervision_life;
