//! What crosses a process or a restart: versioned frames between our processes, the vault, the route
//! table and the record, each with golden samples.
//!
//! Two adjacent versions of Handover read each other's frames and records: unknown fields are ignored,
//! new fields are optional, and the hello carries the range of versions a side speaks. Instants never
//! cross a process; durations left do, in milliseconds.
//!
//! Nothing here does IO. `session` is the sans-IO state machine that drivers pump over a stream which
//! can carry descriptors.

pub mod collected;
pub mod differences;
pub mod exec;
pub mod frame;
pub mod history;
pub mod holder_end;
pub mod link;
pub mod manifest;
pub mod record;
pub mod role;
pub mod routes;
pub mod sealed;
pub mod session;
pub mod traffic;
pub mod vault;

/// Oldest protocol version this build speaks on its links.
pub const PROTOCOL_MIN: u16 = 1;
/// Newest protocol version this build speaks on its links.
pub const PROTOCOL_MAX: u16 = 1;
