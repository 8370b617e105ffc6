//! Real processes under real load: what the end-to-end tests, the torture suite and the bench share.
//!
//! Everything here drives the built binary from outside, by its command line, its JSON, its sockets and
//! signals. It deliberately imports none of the product's crates: what a test here cannot see, a user cannot
//! see either.

pub mod backend;
pub mod bench;
pub mod crowd;
pub mod http;
pub mod load;
pub mod manifest;
pub mod peers;
pub mod sandbox;
pub mod status;
pub mod strict;
pub mod system;
pub mod torture;
pub mod wait;
