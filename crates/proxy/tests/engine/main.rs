//! The engine in one process, on loopback: scripted instances behind it, clients that never retry before it.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod abuse;
mod answers;
mod balance;
mod connections;
mod corpus;
mod edges;
mod ejections;
mod forwarded;
mod forwarding;
mod harness;
mod holds;
mod large_bodies;
mod limits;
mod listeners;
mod observed;
mod retries;
mod smuggling;
mod sticky;
mod swaps;
mod tls;
mod trailers;
mod tunnels;
mod weights;
mod whole_limit;
