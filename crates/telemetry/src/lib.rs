//! Services' output: read from files, stamped, kept in rotated logs, shown on a terminal.
//!
//! ```text
//!  instance ─append─► run/output/X.out ─► collector (a thread) ─► logs/SERVICE.log, .1, .2, …
//!                         ▲                   │  └─► console (a thread) ─► terminal of `up`
//!                         └── freed behind ───┘  └─► the last lines, for whoever asks
//! ```
//! A service writes to a plain file that the holder opened, so neither a dead nor a slow reader can stop it.
//!
//! It deliberately parses no line, ships none elsewhere and knows no runtime: two threads and their bounded
//! queues are all there is.

pub mod collector;
pub mod console;
pub mod line;
pub mod log_reader;
pub mod offsets;
pub mod own_log;
pub mod rotate;
pub mod shared_log;
pub mod source;
pub mod stamp;
mod tail;
