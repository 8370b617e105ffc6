//! The control plane: gather → plan → execute → report, without IO.
//!
//! ```text
//!  operators ── try_x ──►┐
//!  Fleet events ────────►│ Controller │── poll_action ──► Agent ──► Fleet, Traffic, Store, Notify, Names
//!  Traffic events ──────►┘ (pure)     │── poll_timeout ─► the caller's timer
//! ```
//! `Controller` decides; `Agent` carries its actions out over the traits of `world` in order, so that what
//! must be on disk is there before what relies on it happens. Crate `drivers` implements the traits over the
//! links and files, crate `sim` over a seeded world.
//!
//! It deliberately knows no sockets, files, processes, HTTP or clocks.

pub mod controller;
pub mod denied;
pub mod executor;
mod expand;
pub mod measured;
pub mod status;
pub mod world;

pub use controller::Controller;
pub use denied::{Accepted, Denied};
pub use executor::Agent;
pub use status::{OperationAccepted, OperationProgress};
