//! The admin API: HTTP/1 over the local socket of the command line and over TCP.
//!
//! ```text
//!  command line ── run/admin.sock ──► Front::Local ─┐
//!                                                   ├─► routes ──► Operations (the agent's loop)
//!  browser, curl ── 127.0.0.1:7979 ─► Front::Tcp ───┘
//!                                     Host, Origin, token
//! ```
//! The local socket is owner-only, so who reaches it may do everything. On TCP, loopback included, anyone on
//! the machine and any web page in a browser on it can connect: there, without the token, only health, metrics
//! and a status without private parts are answered.
//!
//! It deliberately knows neither agent nor operating system: streams come from an [`Accept`], answers from
//! [`Operations`]. It keeps nothing that matters: the task may be dropped and started again at any time.

mod access;
pub mod api;
mod metrics;
mod operations;
mod prompt;
mod reply;
mod routes;
mod server;

pub use access::TcpAccess;
pub use operations::{Answer, Operations, Refused, RefusedKind};
pub use server::{Accept, Front, Server, serve};
