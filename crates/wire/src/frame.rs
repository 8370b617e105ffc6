//! One frame: a big-endian u32 length, then JSON `{v, kind, body}`, at most 1 MiB.
//!
//! `descriptors` says how many descriptors travel with the frame's first byte. `kind` and `body` come
//! from a message enum with `#[serde(tag = "kind", content = "body")]`. Larger state does not go into
//! a frame but into a sealed memfd whose descriptor does.

use serde::{Deserialize, Serialize};

use crate::PROTOCOL_MAX;

/// Largest body of a frame, JSON and all.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Most descriptors with one frame.
pub const DESCRIPTORS_MAX: usize = 64;
/// Kind of the frame that acknowledges descriptors; it belongs to the session, not to any message enum.
pub const KIND_ACK: &str = "ack";

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length prefix is over the limit: a hostile or broken peer.
    #[error("a frame of {0} bytes is over the limit of {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// Not the JSON that was expected.
    #[error("a frame is not readable: {0}")]
    Json(#[from] serde_json::Error),
    /// More descriptors than one frame may carry.
    #[error("{0} descriptors with one frame, the limit is {DESCRIPTORS_MAX}")]
    TooManyDescriptors(usize),
}

#[derive(Serialize)]
struct Out<'a, M> {
    v: u16,
    #[serde(skip_serializing_if = "is_zero")]
    descriptors: usize,
    #[serde(flatten)]
    message: &'a M,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// The part of a frame that the session reads itself.
#[derive(Debug, Deserialize)]
pub struct Head {
    /// Protocol version the sender wrote it in.
    pub v: u16,
    /// Which message.
    pub kind: String,
    /// How many descriptors came with it.
    #[serde(default)]
    pub descriptors: usize,
}

/// Encodes `message`, which travels with `descriptors` descriptors, length prefix included.
///
/// # Errors
/// When it is over a limit; nothing is sent then.
pub fn encode<M: Serialize>(message: &M, descriptors: usize) -> Result<Vec<u8>, FrameError> {
    if descriptors > DESCRIPTORS_MAX {
        return Err(FrameError::TooManyDescriptors(descriptors));
    }
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, &Out { v: PROTOCOL_MAX, descriptors, message })?;
    let length = bytes.len() - 4;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let prefix = u32::try_from(length).expect("invariant: FRAME_BYTES_MAX fits 32 bits");
    bytes[..4].copy_from_slice(&prefix.to_be_bytes());
    Ok(bytes)
}

/// Length of the first frame in `bytes`, prefix included, or `None` while the prefix is not whole.
///
/// # Errors
/// When the prefix announces more than the limit.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(prefix) = bytes.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    Ok(Some(length + 4))
}
