//! HTTP/1.1 as bytes: heads and bodies read one way or not at all, rewritten for the other side.
//!
//! Nothing here does IO or keeps time. `scan` finds the end of a head, `request` and `response` check and
//! rewrite heads, with `forwarded`, `ids` and `upgrade` for what they say about the client, the request and its wish
//! for another protocol; `body` and `trailers` frame bodies, `answer` writes what Handover says itself.

pub(crate) mod answer;
pub(crate) mod body;
pub(crate) mod fields;
pub(crate) mod forwarded;
pub(crate) mod ids;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod scan;
pub(crate) mod trailers;
pub(crate) mod upgrade;

/// Most header fields of any head, whatever the settings say: room for them is on the stack.
pub(crate) const FIELDS_MAX: usize = 256;
