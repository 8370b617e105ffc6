//! TLS on listeners: certificates from files, chosen by the name a client asks for, and the sessions themselves.
//!
//! ```text
//!  files ──read, checked──► pair ──► in use on its listeners ──changed files, good──► the new pair
//!            │ bad                        └──changed files, bad or missing──► goes on, and it is told
//!            └──► the private copy of the last good pair, if there is one
//! ```
//! TLS 1.2 and 1.3 by rustls and ring; sessions are resumed by tickets that all threads of this process accept. HTTP/1.1
//! is all that is offered inside. Clients are asked for no certificate. Files are never read on a thread that serves.

pub(crate) mod accept;
pub(crate) mod certificates;
mod choice;
mod pair;
pub(crate) mod stream;
mod tracked;

use std::path::Path;

use wire::routes::CertificateFiles;

pub use pair::BadPair;

/// What a certificate is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// Names it is for, in order: `shop.example`, `*.shop.example`, also addresses.
    pub names: Vec<String>,
    /// Its end, in milliseconds since 1970.
    pub not_after_ms: u64,
}

impl Checked {
    /// When it ends, for people, if that is soon or past.
    pub fn ends_soon(&self, now_ms: u64) -> Option<String> {
        tracked::is_soon(self.not_after_ms, now_ms).then(|| pair::time_left(self.not_after_ms, now_ms))
    }
}

/// Reads both files as a listener would.
///
/// # Errors
/// When a listener could not use them.
pub fn check_files(certificate: &Path, key: &Path) -> Result<Checked, BadPair> {
    let files =
        CertificateFiles { certificate: certificate.display().to_string(), key: key.display().to_string() };
    let (pair, _) = pair::Pair::read(&files)?;
    Ok(Checked { names: pair.names, not_after_ms: pair.not_after_ms })
}
