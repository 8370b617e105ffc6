//! The record: what must survive everything, written alternately into two preallocated files.
//!
//! ```text
//!  slot: magic "HOREC001" · sequence u64 · length u32 · crc32 u32 (over sequence, length, body) · JSON body · padding
//! ```
//! Each write goes to the file with the older sequence, so one of the two is always whole; reading takes the
//! whole one with the higher sequence. Nothing here does IO: this file turns a record into the bytes of a slot
//! and back.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::link::StopLevel;
use crate::manifest::Manifest;

/// Size of each of the two files; a record that does not fit is refused before anything is written.
pub const SLOT_BYTES: usize = 4 << 20;
const MAGIC: &[u8; 8] = b"HOREC001";
const HEADER_BYTES: usize = 24;

/// Why a slot's bytes are not a record, or a record does not fit a slot.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Never written.
    #[error("it is empty")]
    Empty,
    /// Not one of ours, or its beginning is gone.
    #[error("it does not begin like a record")]
    Magic,
    /// Torn or flipped.
    #[error("its checksum does not match: it is torn or damaged")]
    Checksum,
    /// Whole, but not readable by this version.
    #[error("this version cannot read it: {0}")]
    Json(#[from] serde_json::Error),
    /// Too much to keep.
    #[error("the record has {0} bytes, a slot holds {SLOT_BYTES}")]
    TooLarge(usize),
}

/// Everything that must survive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this form.
    pub v: u16,
    /// Wall clock of the write, for people.
    pub written_at_ms: u64,
    /// The manifest last applied.
    pub manifest: Manifest,
    /// Its source text.
    pub source: String,
    /// Absolute path of its file.
    pub path: String,
    /// Where the binary came from that `up` was started as.
    pub binary_origin: String,
    /// Environment of `up` that services may inherit.
    #[serde(default)]
    pub environment: Vec<(String, String)>,
    /// Highest route table generation given out.
    pub table_generation: u64,
    /// Id of the next rollout.
    pub next_rollout: u64,
    /// By name.
    pub services: BTreeMap<String, ServiceRecord>,
    /// Everything is to be stopped; an agent that takes over goes on with it, the next `up` begins anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<StopLevel>,
}

/// What must survive of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRecord {
    /// The promoted release.
    pub stable: Option<String>,
    /// A former stable kept running for an instant way back, and its time left.
    #[serde(default)]
    pub warm: Option<Warm>,
    /// Every release known, oldest first.
    pub releases: Vec<ReleaseRecord>,
    /// The rollout that runs or bakes.
    #[serde(default)]
    pub rollout: Option<RolloutRecord>,
    /// The last one that is final.
    #[serde(default)]
    pub last_rollout: Option<RolloutRecord>,
    /// Requests and errors counted by proxies that have ended.
    #[serde(default)]
    pub requests_before: u64,
    /// See `requests_before`.
    #[serde(default)]
    pub errors_before: u64,
    /// How many instances `scale` asked for; `None`: as many as the manifest says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled: Option<u32>,
    /// `stop` was asked: nothing of it runs until `start`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stopped: bool,
    /// The release that a start leads to, where another than the stable one was applied while it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// The operation that runs, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<OperationRecord>,
    /// It was taken out of the manifest: it is forgotten once nothing of it runs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    /// How far its instances are, where no route table says so: by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub instances: BTreeMap<String, InstanceRecord>,
    /// What its slots went through, where that is not nothing: by id.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slots: BTreeMap<String, SlotRecord>,
}

/// What a slot went through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// Starts after the first.
    #[serde(default)]
    pub restarts: u32,
    /// Ends without a process between them that was ready for long.
    #[serde(default)]
    pub ends_in_a_row: u32,
    /// Nothing of it runs: how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Wall clock of its next start; without one, what has ended stays down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starts_at_ms: Option<u64>,
}

/// How far an instance is that no proxy knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InstanceRecord {
    /// It has become ready.
    Ready,
    /// It was asked to stop.
    Leaving,
}

/// What an operator asked that is no rollout: it goes on in the next agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationRecord {
    /// From the same counter as rollouts.
    pub id: u64,
    /// Which.
    pub kind: OperationKind,
    /// Who asked.
    pub actor: String,
    /// The client's key of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Wall clock, for people.
    pub started_at_ms: u64,
    /// Restart and reload: instances still to do.
    #[serde(default)]
    pub remaining: Vec<String>,
    /// `None` while it runs; then whether what was asked is true.
    #[serde(default)]
    pub succeeded: Option<bool>,
    /// Why it failed, for people.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Operations that are no rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// Every instance is replaced by a fresh one.
    Restart,
    /// Every instance reads its configuration again.
    Reload,
    /// Nothing of it runs.
    Stop,
    /// It runs again.
    Start,
    /// Another number of instances.
    Scale,
}

/// A warm release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warm {
    /// Which.
    pub release: String,
    /// Time left when the record was written.
    pub left_ms: u64,
}

/// One release of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// Its id as shown.
    pub release: String,
    /// Absolute path of its directory under `releases/`.
    pub directory: String,
    /// sha256 over the tree.
    pub hash: String,
    /// Where it came from.
    pub source: String,
    /// Command and the rest of its configuration when it was deployed.
    pub configuration: crate::manifest::Service,
    /// What is known of it.
    pub verdict: Verdict,
    /// It was promoted at least once.
    pub promoted: bool,
}

/// What is known of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing yet.
    Unknown,
    /// Promoted, and nothing against it.
    Good,
    /// Its rollout failed: refused without `--force`.
    Failed,
    /// Left by a person's rollback: not a way back, deployed again with a warning.
    LeftByRollback,
}

/// A rollout with its step's intent and result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolloutRecord {
    /// Grows with every rollout of this state directory.
    pub id: u64,
    /// Deploy or rollback.
    pub kind: RolloutKind,
    /// Release it leads to.
    pub to: String,
    /// Release it comes from.
    pub from: Option<String>,
    /// Who asked.
    pub actor: String,
    /// The client's key of the request: when it asks again with it, it is answered and nothing is begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// How the new release takes over; `None`: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<RolloutStrategy>,
    /// The release was on disk when it began: nothing is copied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prepared: bool,
    /// Where it stands.
    pub phase: Phase,
    /// What is being done now; `None` once its result is known and the next step is not begun.
    pub intent: Option<String>,
    /// Why it ended as it did, for people.
    #[serde(default)]
    pub reason: Option<String>,
    /// Last output lines of what failed.
    #[serde(default)]
    pub output: Vec<String>,
    /// Wall clock, for people.
    pub started_at_ms: u64,
    /// Wall clock, for people; of the promotion, or of the end where there was none.
    #[serde(default)]
    pub decided_at_ms: Option<u64>,
    /// Bake time left when the record was written.
    #[serde(default)]
    pub bake_left_ms: Option<u64>,
    /// What it cost, as far as it is known.
    #[serde(default)]
    pub receipt: Receipt,
}

/// How a new release takes over, where that is not all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutStrategy {
    /// Instance by instance.
    Rolling {
        /// How many instances more than wanted may run.
        max_surge: u32,
        /// How many fewer than wanted may be ready.
        max_unavailable: u32,
    },
    /// The old release ends before the new one starts.
    Recreate,
}

/// What a rollout was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RolloutKind {
    /// The service's first release, from `up`.
    First,
    /// `deploy`.
    Deploy,
    /// `rollback` to a release that has to be started, or is warm.
    Rollback,
}

/// Phases of a rollout, as `status` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The release is copied and checked.
    Preparing,
    /// Its instances start and get ready.
    Starting,
    /// Its weight grows.
    Shifting,
    /// An operator or a rule holds it.
    Paused,
    /// It becomes stable.
    Promoting,
    /// The old release's requests finish.
    Draining,
    /// Promoted; the old release is warm and the way back is instant.
    Baking,
    /// Final: promoted.
    Done,
    /// The way back is being taken.
    RollingBack,
    /// Final: the old release serves as before.
    RolledBack,
    /// Final: it never began to serve, or could not be undone.
    Failed,
}

/// What a rollout cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Requests answered while it ran.
    pub requests: u64,
    /// Answered 5xx while it ran.
    pub errors: u64,
    /// Tried again elsewhere.
    pub retried: u64,
    /// Got no answer, or half of one.
    pub failed: u64,
    /// Held back while nothing could take them.
    pub held: u64,
    /// Longest of these waits, in µs.
    #[serde(default)]
    pub longest_hold_us: u64,
    /// Longest wait inside Handover for a connection to an instance, in µs.
    pub longest_wait_us: u64,
    /// From the command to the last request on the old release, in ms.
    #[serde(default)]
    pub switched_after_ms: Option<u64>,
    /// From the decision to the way back until no request went to the bad release, in ms.
    #[serde(default)]
    pub rolled_back_after_ms: Option<u64>,
}

/// The bytes of a slot.
///
/// # Errors
/// When it does not fit.
pub fn encode(sequence: u64, record: &Record) -> Result<Vec<u8>, RecordError> {
    let body = serde_json::to_vec(record)?;
    let total = HEADER_BYTES + body.len();
    if total > SLOT_BYTES {
        return Err(RecordError::TooLarge(total));
    }
    let length = u32::try_from(body.len()).expect("invariant: SLOT_BYTES fits 32 bits");
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&sequence.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&checksum(sequence, length, &body).to_be_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Sequence and record of a slot's bytes; what follows the body is ignored.
///
/// # Errors
/// When it is empty, torn, damaged or from a version that this one cannot read.
pub fn decode(bytes: &[u8]) -> Result<(u64, Record), RecordError> {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Err(RecordError::Empty) };
    if header.iter().all(|b| *b == 0) {
        return Err(RecordError::Empty);
    }
    if &header[..8] != MAGIC {
        return Err(RecordError::Magic);
    }
    let number =
        |range: std::ops::Range<usize>| header[range].iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
    let sequence = number(8..16);
    let length = number(16..20);
    let crc = number(20..24);
    let length = u32::try_from(length).expect("invariant: four bytes");
    let body = bytes.get(HEADER_BYTES..HEADER_BYTES + length as usize).ok_or(RecordError::Checksum)?;
    if u64::from(checksum(sequence, length, body)) != crc {
        return Err(RecordError::Checksum);
    }
    Ok((sequence, serde_json::from_slice(body)?))
}

fn checksum(sequence: u64, length: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&sequence.to_be_bytes());
    hasher.update(&length.to_be_bytes());
    hasher.update(body);
    hasher.finalize()
}
