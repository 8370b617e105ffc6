//! HTTP/1.1 as bytes: heads and bodies read one way or not at all, rewritten for the other side.
//!
//! Nothing here does IO or keeps time. `scan` finds the end of a head, `request` and `response` check and
//! rewrite heads, `body` frames bodies, `answer` writes what Handover says itself.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod fields;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod scan;

/// Most header fields of any head, whatever the settings say: room for them is on the stack.
pub(crate) const FIELDS_MAX: usize = 256;
