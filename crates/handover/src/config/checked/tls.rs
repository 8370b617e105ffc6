//! What a listener says of certificates, of proxies before it, and of the listener that requests are sent on to.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use model::id::ListenerName;
use model::manifest::{Certificate, Network};
use proxy::tls::BadPair;

use super::super::error::Problem;
use super::super::nearest::nearest;
use super::super::raw;
use super::super::read::{Given, Spot};
use super::super::values::PathText;
use super::{Checks, entries};

/// More certificates belong on more listeners.
const CERTIFICATES_MAX: usize = 100;
/// Each request is compared with all of them.
const TRUSTED_MAX: usize = 256;

impl Checks<'_> {
    pub(super) fn tls(&mut self, key: &str, given: &Given<raw::Certificates>) -> Vec<Certificate> {
        let Some(spot) = given.spot() else { return Vec::new() };
        let entries = &spot.value.0;
        if entries.is_empty() || entries.len() > CERTIFICATES_MAX {
            let message = format!("`tls` has {} certificates: write 1 to {CERTIFICATES_MAX}", entries.len());
            self.push(Problem::error(key, spot.span.clone(), message));
        }
        let mut found: Vec<Certificate> = Vec::new();
        for entry in entries {
            let certificate = self.pem(key, "certificate", &entry.value.certificate, entry);
            let private = self.pem(key, "key", &entry.value.key, entry);
            let (Some(certificate), Some(private)) = (certificate, private) else { continue };
            self.pair(key, &certificate, &private);
            let files = Certificate { certificate: certificate.value, key: private.value };
            if found.contains(&files) {
                let problem = Problem::error(key, entry.span.clone(), "this certificate is there twice");
                self.push(problem.help("keep one of them"));
            }
            found.push(files);
        }
        found
    }

    /// A file that is there and can be read.
    fn pem(
        &mut self,
        key: &str,
        name: &str,
        given: &Given<PathText>,
        entry: &Spot<raw::Certificate>,
    ) -> Option<Spot<PathBuf>> {
        let Some(spot) = given.spot() else {
            if given.is_absent() {
                self.missing(key, name, &entry.span, &format!("{name} = \"{name}.pem\", a PEM file"));
            }
            return None;
        };
        let path = super::normal(&self.folder.join(&spot.value.0));
        if let Err(why) = readable(&path) {
            let message = format!("{} cannot be read: {why}", path.display());
            let problem = Problem::error(&format!("{key}.{name}"), spot.span.clone(), message);
            self.push(problem.help("name a PEM file that whoever runs Handover can read"));
            return None;
        }
        Some(Spot { value: path, span: spot.span.clone() })
    }

    /// Two files that a listener can use, for a while yet.
    fn pair(&mut self, key: &str, certificate: &Spot<PathBuf>, private: &Spot<PathBuf>) {
        let (chain_key, private_key) = (format!("{key}.certificate"), format!("{key}.key"));
        let checked = match proxy::tls::check_files(&certificate.value, &private.value) {
            Ok(checked) => checked,
            Err(why) => {
                let message = why.to_string();
                let problem = match why {
                    BadPair::NoKey { .. } => Problem::error(&private_key, private.span.clone(), message)
                        .help("name a PEM file with the private key of this certificate, without a password"),
                    BadPair::OtherKey { .. } | BadPair::Unfit { .. } => {
                        Problem::error(&private_key, private.span.clone(), message)
                            .and(certificate.span.clone(), "this certificate")
                            .help("put the server's own certificate first, and name the key it was made with")
                    }
                    _ => Problem::error(&chain_key, certificate.span.clone(), message)
                        .help("name a PEM file with the whole chain, the server's own certificate first"),
                };
                self.push(problem);
                return;
            }
        };
        if let Some(when) = checked.ends_soon(now_ms()) {
            let message = format!("{}: {when}", certificate.value.display());
            let problem = Problem::warning(&chain_key, certificate.span.clone(), message);
            self.push(problem.help("renew it: the new files are read as soon as they are there"));
        }
    }

    pub(super) fn trusted_proxies(&mut self, key: &str, given: &Given<Vec<Spot<String>>>) -> Vec<Network> {
        let mut networks = Vec::new();
        for spot in given.get().into_iter().flatten() {
            match spot.value.parse::<Network>() {
                Ok(network) => networks.push(network),
                Err(why) => {
                    let message = format!("\"{}\" names no proxies: {why}", spot.value);
                    let problem = Problem::error(key, spot.span.clone(), message);
                    self.push(
                        problem.help("write an address or a network, such as \"10.0.0.0/8\" or \"::1\""),
                    );
                }
            }
        }
        if let Some(spot) = given.spot().filter(|spot| spot.value.len() > TRUSTED_MAX) {
            let message =
                format!("`trusted_proxies` has {} entries; the most is {TRUSTED_MAX}", spot.value.len());
            self.push(Problem::error(key, spot.span.clone(), message).help("join them into wider networks"));
        }
        networks
    }

    /// The listener that requests are sent on to: another one, with TLS.
    pub(super) fn https_redirect(
        &mut self,
        raw: &raw::Manifest,
        name: &str,
        listener: &raw::Listener,
    ) -> Option<ListenerName> {
        let spot = listener.https_redirect.spot()?;
        let key = format!("listener.{name}.https_redirect");
        let problem = |message: String| Problem::error(&key, spot.span.clone(), message);
        if let Some(tls) = listener.tls.spot() {
            let problem = problem(format!("`{name}` has `tls` itself: nothing there needs to be redirected"));
            self.push(problem.and(tls.span.clone(), "because of this").help("take one of the two out"));
            return None;
        }
        let all = entries(&raw.listener);
        let Some((_, target)) = all.iter().find(|(other, _)| other.value == spot.value) else {
            let names: Vec<&str> =
                all.iter().map(|(other, _)| other.value.as_str()).filter(|other| *other != name).collect();
            let problem = problem(format!("there is no listener `{}`", spot.value));
            let problem = match nearest(&spot.value, names.iter().copied()) {
                Some(near) => problem.label(format!("did you mean `{near}`?")),
                None => problem.label("no such name"),
            };
            self.push(problem.help("name a listener with `tls`"));
            return None;
        };
        if target.value.tls.is_absent() {
            let problem = problem(format!("`{}` has no `tls`: nothing answers https there", spot.value));
            self.push(problem.and(target.span.clone(), "this listener").help(
                "name a listener with `tls`, or add tls = { certificate = \"cert.pem\", key = \"key.pem\" } there",
            ));
            return None;
        }
        spot.value.parse().ok()
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn readable(path: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    std::fs::File::open(path).map(|_| ()).map_err(|error| error.to_string())
}
