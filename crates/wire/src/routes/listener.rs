//! `[listener.NAME]` as the proxy needs it.

use serde::{Deserialize, Serialize};

/// What holds on one listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerSettings {
    /// From a request head's first byte to its last.
    pub header_timeout_ms: u64,
    /// Idle time within which a client may reuse its connection.
    pub idle_timeout_ms: u64,
    /// Between two pieces of a body, either way.
    pub body_timeout_ms: u64,
    /// Largest request head.
    pub head_bytes_max: u32,
    /// Most header fields.
    pub headers_max: u32,
    /// Largest request body.
    pub body_bytes_max: u64,
    /// Networks (`10.0.0.0/8`, `::1/128`) whose members' forwarding headers are believed and appended to.
    #[serde(default)]
    pub trusted_proxies: Vec<String>,
    /// TLS is spoken on it, with the first of these for names that none of them has.
    #[serde(default)]
    pub tls: Vec<CertificateFiles>,
    /// Every request is answered 308 to the same address by https on this port.
    #[serde(default)]
    pub redirect_https_port: Option<u16>,
}

/// A certificate chain and its key, both PEM files with absolute paths. Read by each proxy, and again when they change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CertificateFiles {
    /// The chain, the server's own certificate first.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl ListenerSettings {
    /// What holds on a listener that no table names.
    pub const UNNAMED: Self = Self {
        header_timeout_ms: 10_000,
        idle_timeout_ms: 60_000,
        body_timeout_ms: 30_000,
        head_bytes_max: 16 << 10,
        headers_max: 100,
        body_bytes_max: u64::MAX,
        trusted_proxies: Vec::new(),
        tls: Vec::new(),
        redirect_https_port: None,
    };
}
