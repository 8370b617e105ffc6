//! The one certificate that all subjects show, made anew for each run.

use std::path::{Path, PathBuf};

/// The cipher suite that peers are told to use: what h2load asks for first, and Handover therefore chooses.
pub(super) const SUITE: &str = "TLS_AES_128_GCM_SHA256";

/// Where its files are.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub(super) both: PathBuf,
}

impl Certificate {
    /// An ECDSA P-256 key and a certificate signed by itself.
    pub(super) fn make(folder: &Path) -> Result<Self, String> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).map_err(|error| error.to_string())?;
        let (chain_text, key_text) = (made.cert.pem(), made.signing_key.serialize_pem());
        let place = |name: &str| folder.join(name);
        let certificate = Self { chain: place("chain.pem"), key: place("key.pem"), both: place("both.pem") };
        let both_text = format!("{chain_text}{key_text}");
        for (path, text) in [
            (&certificate.chain, &chain_text),
            (&certificate.key, &key_text),
            (&certificate.both, &both_text),
        ] {
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(certificate)
    }
}
