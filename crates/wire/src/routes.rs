//! The route table: what a proxy needs to serve, and all it ever knows. Also the file `run/routes`.
//!
//! A new proxy starts from that file at once and takes its health as true. Generations only grow; a proxy
//! ignores a table that is older than the one it has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod listener;
mod service;

pub use listener::{CertificateFiles, ListenerSettings};
pub use service::{
    Address, Algorithm, BadAddress, BalanceSettings, Endpoint, EndpointState, HashKey, Hold, Maintenance,
    OutlierSettings, ReleaseTraffic, RetrySettings, ServiceTraffic, Sticky,
};

/// A whole route table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Grows with every table the agent makes, across its restarts.
    pub generation: u64,
    /// Worker threads, read at the start of a proxy only.
    pub threads: u32,
    /// Write the access log.
    pub access_log: bool,
    /// How its lines look, and which requests have one.
    #[serde(default)]
    pub access_log_settings: AccessLogSettings,
    /// Settings by listener name.
    pub listeners: BTreeMap<String, ListenerSettings>,
    /// Routes; the most specific match wins: exact host, wildcard (longest first), any; then longest path.
    pub routes: Vec<Route>,
    /// Services by name.
    pub services: BTreeMap<String, ServiceTraffic>,
    /// (service, release) pairs left by a rollback or a failed rollout: told here first, recorded after, so
    /// that an agent killed in between still knows.
    #[serde(default)]
    pub refused: Vec<(String, String)>,
}

/// `[proxy.access_log]` as the proxy needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLogSettings {
    /// How a line looks.
    pub format: AccessLogFormat,
    /// Share of requests that have a line, in basis points; answers of 500 and above always have one.
    pub sample: u16,
    /// Query strings are in the lines.
    pub query: bool,
}

impl Default for AccessLogSettings {
    fn default() -> Self {
        Self { format: AccessLogFormat::Json, sample: 10_000, query: false }
    }
}

/// How a line of the access log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessLogFormat {
    /// One JSON object.
    Json,
    /// The combined format of Apache and nginx.
    Combined,
}

/// One route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Listener.
    pub listener: String,
    /// `None` any, `shop.example.com` exact, `*.example.com` suffix.
    pub host: Option<String>,
    /// Prefix on segment boundaries.
    pub path: String,
    /// Service; with `split`, its first one.
    pub service: String,
    /// Services that share the route's requests by weight; empty: all go to `service`.
    #[serde(default)]
    pub split: Vec<Split>,
}

/// One service of a route that several share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Service.
    pub service: String,
    /// Its share beside the others.
    pub weight: u32,
}

/// How endpoints are probed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSettings {
    /// GET this path and want 200 to 399; `None`: a TCP connect.
    pub http_path: Option<String>,
    /// Between probes; candidates are probed every 50 ms for their first 5 s.
    pub interval_ms: u64,
    /// For one probe.
    pub timeout_ms: u64,
    /// Successes in a row.
    pub rise: u32,
    /// Failures in a row.
    pub fall: u32,
}

const FILE_MAGIC: &str = "HOROUTES1";

/// Why the bytes of `run/routes` are not a table.
#[derive(Debug, thiserror::Error)]
pub enum RoutesFileError {
    /// It does not begin with our line, or the length in it is not what follows.
    #[error("it does not begin like a route table, or its end is missing")]
    Shape,
    /// Flipped or mixed from two writes.
    #[error("its checksum does not match: it is damaged")]
    Checksum,
    /// Whole, but this version cannot read or write it.
    #[error("this version cannot read it: {0}")]
    Json(#[from] serde_json::Error),
}

/// The bytes of `run/routes`: a line `HOROUTES1 CRC32 LENGTH`, then the table as JSON.
///
/// # Errors
/// Never in practice: a table has no value that JSON cannot hold.
pub fn encode_file(table: &RouteTable) -> Result<Vec<u8>, RoutesFileError> {
    let body = serde_json::to_vec(table)?;
    let mut bytes = format!("{FILE_MAGIC} {:08x} {}\n", crc32fast::hash(&body), body.len()).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The table in the bytes of `run/routes`.
///
/// # Errors
/// When it is not whole, or from a version that this one cannot read.
pub fn decode_file(bytes: &[u8]) -> Result<RouteTable, RoutesFileError> {
    let end = bytes.iter().position(|b| *b == b'\n').ok_or(RoutesFileError::Shape)?;
    let line = std::str::from_utf8(&bytes[..end]).ok().ok_or(RoutesFileError::Shape)?;
    let mut words = line.split(' ');
    let (Some(FILE_MAGIC), Some(crc), Some(length), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(RoutesFileError::Shape);
    };
    let crc = u32::from_str_radix(crc, 16).ok().ok_or(RoutesFileError::Shape)?;
    let body = &bytes[end + 1..];
    if length.parse() != Ok(body.len()) {
        return Err(RoutesFileError::Shape);
    }
    if crc32fast::hash(body) != crc {
        return Err(RoutesFileError::Checksum);
    }
    Ok(serde_json::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> RouteTable {
        RouteTable {
            generation: 7,
            threads: 2,
            refused: vec![("shop".into(), "1.4.1".into())],
            ..RouteTable::default()
        }
    }

    #[test]
    fn a_table_reads_back_from_its_file() {
        let bytes = encode_file(&table()).unwrap();
        assert!(bytes.starts_with(b"HOROUTES1 "));
        assert_eq!(decode_file(&bytes).unwrap(), table());
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_noticed() {
        let bytes = encode_file(&table()).unwrap();
        for cut in 0..bytes.len() {
            assert!(decode_file(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode_file(&damaged).is_err(), "flipped at {at}");
        }
    }
}
