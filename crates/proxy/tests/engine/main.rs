//! The engine in one process, on loopback: scripted instances behind it, clients that never retry before it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod connections;
mod corpus;
mod forwarding;
mod harness;
mod holds;
mod listeners;
mod observed;
mod retries;
mod smuggling;
mod swaps;
mod weights;
