//! A certificate chain and its key, read from PEM files and found to belong together.
//!
//! It does not ask who signed the chain, and not whether its time has come: clients do.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use wire::routes::CertificateFiles;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

/// Largest file.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why two files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadPair {
    /// It is not there, or not for us.
    #[error("{path} cannot be read: {error}")]
    Unreadable {
        /// Which.
        path: String,
        /// The cause.
        error: io::Error,
    },
    /// Nobody has so long a chain.
    #[error("{path} is larger than 1 MiB")]
    TooLarge {
        /// Which.
        path: String,
    },
    /// No PEM section of that kind.
    #[error("{path} contains no certificate in PEM form")]
    NoCertificate {
        /// Which.
        path: String,
    },
    /// A section that is none.
    #[error("certificate {number} in {path} is damaged: {why}")]
    Damaged {
        /// Which.
        path: String,
        /// From 1.
        number: usize,
        /// The cause.
        why: String,
    },
    /// No PEM section of that kind.
    #[error("{path} contains no private key in PEM form that can be read without a password")]
    NoKey {
        /// Which.
        path: String,
    },
    /// Of another certificate.
    #[error("the key in {key} is not the one of the first certificate in {certificate}")]
    OtherKey {
        /// Where the key is.
        key: String,
        /// Where the certificate is.
        certificate: String,
    },
    /// Of a kind that cannot be used.
    #[error("the key in {key} cannot be used with the first certificate in {certificate}: {why}")]
    Unfit {
        /// Where the key is.
        key: String,
        /// Where the certificate is.
        certificate: String,
        /// The cause.
        why: rustls::Error,
    },
}

/// A chain and its key.
#[derive(Debug)]
pub(crate) struct Pair {
    /// As rustls wants it.
    pub(crate) certified: Arc<CertifiedKey>,
    /// Names the first certificate is for, in lower case.
    pub(crate) names: Vec<String>,
    /// When the first of the chain to end does so, in milliseconds since 1970.
    pub(crate) not_after_ms: u64,
}

impl Pair {
    /// Reads both files; also gives them as one text, for a copy.
    pub(crate) fn read(files: &CertificateFiles) -> Result<(Self, Zeroizing<Vec<u8>>), BadPair> {
        let certificate = read_file(&files.certificate)?;
        let key = read_file(&files.key)?;
        let pair = Self::parse(files, &certificate, &key)?;
        let mut text = Zeroizing::new(Vec::with_capacity(certificate.len() + key.len() + 1));
        text.extend_from_slice(&certificate);
        text.push(b'\n');
        text.extend_from_slice(&key);
        Ok((pair, text))
    }

    /// A pair in PEM form; `files` say whence.
    pub(crate) fn parse(files: &CertificateFiles, certificate: &[u8], key: &[u8]) -> Result<Self, BadPair> {
        let path = || files.certificate.clone();
        let mut chain = Vec::new();
        for found in CertificateDer::pem_slice_iter(certificate) {
            let number = chain.len() + 1;
            let found =
                found.map_err(|why| BadPair::Damaged { path: path(), number, why: why.to_string() })?;
            chain.push(found);
        }
        let (mut names, mut not_after_ms) = (Vec::new(), u64::MAX);
        for (at, der) in chain.iter().enumerate() {
            let (_, parsed) = X509Certificate::from_der(der).map_err(|why| BadPair::Damaged {
                path: path(),
                number: at + 1,
                why: why.to_string(),
            })?;
            let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
            not_after_ms = not_after_ms.min(end.saturating_mul(1_000));
            if at == 0 {
                names = names_of(&parsed);
            }
        }
        if chain.is_empty() {
            return Err(BadPair::NoCertificate { path: path() });
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_none_or_damaged| BadPair::NoKey { path: files.key.clone() })?;
        let certified = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
            .map_err(|why| unfit(files, why))?;
        Ok(Self { certified: Arc::new(certified), names, not_after_ms })
    }
}

fn unfit(files: &CertificateFiles, why: rustls::Error) -> BadPair {
    let (key, certificate) = (files.key.clone(), files.certificate.clone());
    match why {
        rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) => {
            BadPair::OtherKey { key, certificate }
        }
        why => BadPair::Unfit { key, certificate, why },
    }
}

fn read_file(path: &str) -> Result<Zeroizing<Vec<u8>>, BadPair> {
    let unreadable = |error| BadPair::Unreadable { path: path.to_owned(), error };
    // A pipe would be waited for when it is opened.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err(unreadable(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")));
    }
    let file = File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    // With room for all of it: growing would leave parts of a key behind.
    let room = usize::try_from(size.min(FILE_BYTES_MAX)).unwrap_or(0) + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(BadPair::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

fn names_of(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut names = Vec::new();
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    for name in alternatives.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push(name.to_ascii_lowercase()),
            GeneralName::IPAddress(bytes) => {
                match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                    (Ok(v4), _) => names.push(IpAddr::from(v4).to_string()),
                    (_, Ok(v6)) => names.push(IpAddr::from(v6).to_string()),
                    (Err(_), Err(_)) => {}
                }
            }
            _ => {}
        }
    }
    names
}

/// How long a certificate is still good, for people.
pub(crate) fn time_left(not_after_ms: u64, now_ms: u64) -> String {
    const HOUR_MS: u64 = 3_600_000;
    let hours = not_after_ms.abs_diff(now_ms) / HOUR_MS;
    let mut text = String::new();
    let result = match hours {
        0..48 => write!(text, "{hours} hours"),
        _ => write!(text, "{} days", hours / 24),
    };
    debug_assert!(result.is_ok(), "a String takes everything");
    if not_after_ms > now_ms { format!("it expires in {text}") } else { format!("it expired {text} ago") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Certificate and key in PEM form, for these names and until that year.
    pub(crate) fn pem(names: &[&str], year: i32) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(names).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        (parameters.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn files() -> CertificateFiles {
        CertificateFiles { certificate: "/c.pem".into(), key: "/k.pem".into() }
    }

    pub(crate) fn pair(names: &[&str], year: i32) -> Pair {
        let (certificate, key) = pem(names, year);
        Pair::parse(&files(), certificate.as_bytes(), key.as_bytes()).unwrap()
    }

    #[test]
    fn names_and_the_end_are_read_from_the_first_certificate() {
        let pair = pair(&["Shop.example", "*.shop.example", "127.0.0.1", "::1"], 2_000);
        assert_eq!(pair.names, ["shop.example", "*.shop.example", "127.0.0.1", "::1"]);
        assert_eq!(pair.not_after_ms, 946_684_800_000);
    }

    #[test]
    fn every_cut_of_the_files_is_noticed_and_says_which_file() {
        let (certificate, key) = pem(&["a.example"], 2_000);
        for cut in 0..certificate.trim_end().len() {
            let bad = Pair::parse(&files(), &certificate.as_bytes()[..cut], key.as_bytes()).unwrap_err();
            assert!(bad.to_string().contains("/c.pem"), "{bad}");
        }
        for cut in 0..key.trim_end().len() {
            let bad = Pair::parse(&files(), certificate.as_bytes(), &key.as_bytes()[..cut]).unwrap_err();
            assert!(bad.to_string().contains("/k.pem"), "{bad}");
        }
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let ((certificate, _), (_, key)) = (pem(&["a.example"], 2_000), pem(&["a.example"], 2_000));
        let bad = Pair::parse(&files(), certificate.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(matches!(bad, BadPair::OtherKey { .. }), "{bad}");
    }

    #[test]
    fn the_time_left_is_told_in_days_and_at_the_end_in_hours() {
        let hour = 3_600_000;
        assert_eq!(time_left(9 * 24 * hour, 0), "it expires in 9 days");
        assert_eq!(time_left(30 * hour, 0), "it expires in 30 hours");
        assert_eq!(time_left(0, 72 * hour), "it expired 3 days ago");
    }
}
