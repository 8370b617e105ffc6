//! What `up` passes through the holder, unread, to the first agent, in a sealed memfd.

use serde::{Deserialize, Serialize};

use crate::manifest::Manifest;

/// The boot form: everything an agent must know that is in no record yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Version of this form.
    pub v: u16,
    /// The checked manifest.
    pub manifest: Manifest,
    /// Its source text, for the record and `status`.
    pub source: String,
    /// Absolute path of the file it came from.
    pub path: String,
    /// Where the binary came from that `up` was started as, for `self upgrade`.
    pub binary_origin: String,
    /// Environment of `up`, restricted to the names services inherit.
    pub environment: Vec<(String, String)>,
    /// Print services' lines on the terminal.
    pub print_output: bool,
    /// The terminal understands colour.
    pub colour: bool,
}

/// How a holder was started, kept by it for roles it starts: arguments of `internal holder`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderSettings {
    /// `state_dir`.
    pub state_dir: String,
    /// `run`.
    pub run_dir: String,
}
