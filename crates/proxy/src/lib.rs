//! The data plane: accepts, routes, balances, forwards, retries, drains and counts.
//!
//! `engine` is all of that and knows neither holder nor agent; `role` is the process around it. Decisions that need no
//! socket (routing, balance, ejection, the chunked coding) are in `model`.

mod buffer;
pub mod engine;
#[doc(hidden)]
pub mod fuzz;
mod h1;
mod prober;
mod role;
pub mod tls;

pub use role::{Options, ProxyError, run};
