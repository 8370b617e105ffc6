//! One entry of history and events, as it lies in their database.
//!
//! ```text
//!  value: crc32 u32 (over the rest) · JSON
//! ```
//! The checksum is in each value because a database may return bytes that a disk has flipped.

use serde::{Deserialize, Serialize};

use crate::record::RolloutRecord;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Version of this form.
    pub v: u16,
    /// Wall clock.
    pub at_ms: u64,
    /// Service, where it is about one.
    #[serde(default)]
    pub service: Option<String>,
    /// `rollout`, `instance`, `listener`, `proxy`, …
    pub subject: String,
    /// One sentence.
    pub text: String,
    /// Who or what caused it.
    pub actor: String,
    /// The final rollout, where this is one.
    #[serde(default)]
    pub rollout: Option<RolloutRecord>,
}

/// Why a value is not an entry.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Flipped or cut.
    #[error("its checksum does not match: it is damaged")]
    Checksum,
    /// Whole, but not readable by this version.
    #[error("this version cannot read it: {0}")]
    Json(#[from] serde_json::Error),
}

/// The bytes of an entry.
///
/// # Errors
/// Never in practice: an entry has no value that JSON cannot hold.
pub fn encode(entry: &Entry) -> Result<Vec<u8>, EntryError> {
    let body = serde_json::to_vec(entry)?;
    let mut bytes = crc32fast::hash(&body).to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The entry in these bytes.
///
/// # Errors
/// When they are damaged, or from a version that this one cannot read.
pub fn decode(bytes: &[u8]) -> Result<Entry, EntryError> {
    let (crc, body) = bytes.split_first_chunk::<4>().ok_or(EntryError::Checksum)?;
    if u32::from_be_bytes(*crc) != crc32fast::hash(body) {
        return Err(EntryError::Checksum);
    }
    Ok(serde_json::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_every_flipped_byte_is_noticed() {
        let entry = Entry {
            v: 1,
            at_ms: 17,
            service: Some("shop".into()),
            subject: "instance".into(),
            text: "shop@1/0 was started".into(),
            actor: "handover".into(),
            rollout: None,
        };
        let bytes = encode(&entry).unwrap();
        assert_eq!(decode(&bytes).unwrap(), entry);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(decode(&damaged).is_err(), "flipped at {at}");
        }
    }
}
